//! One-time codes of an authenticator app (TOTP, RFC 6238: SHA-1, six digits, thirty seconds), and the recovery codes
//! for whoever has lost the app.
//!
//! A code works once: [`verify`] tells the step that the code is of, the caller stores it with the account, in one
//! atomic write, and hands it in the next time.

use std::fmt;

use aws_lc_rs::hmac;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::seal::constant_time_eq;
use crate::npm::Timestamp;
use crate::npm::integrity::sha256_hex;
use crate::random;
use crate::secret::Secret;

/// RFC 6238's default, and the only one that all apps know.
const STEP_SECONDS: u64 = 30;
const DIGITS: usize = 6;
/// How many steps the app's clock may be off, either way (RFC 6238, 5.2, recommends one).
const SKEW_STEPS: u64 = 1;
/// RFC 4226, section 4: 160 bits are recommended.
const SECRET_BYTES: usize = 20;
/// RFC 4648, section 6.
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// How many recovery codes an account gets.
const RECOVERY_CODES: usize = 10;
/// Digits in a recovery code, as [`random::typable`] gives them: too many to be searched by whoever gets hold of the hashes.
const RECOVERY_DIGITS: usize = 20;
/// Longer texts are no codes and are not looked at.
const MAX_CODE_BYTES: usize = 64;

/// What stays as it is in a label or a parameter of an `otpauth:` address.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The secret that an account shares with its authenticator app. Kept sealed ([`super::seal`]).
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct TotpSecret([u8; SECRET_BYTES]);

impl TotpSecret {
    /// A new one, of 160 random bits.
    pub(crate) fn generate() -> Self {
        Self(random::bytes())
    }

    /// As a person may type it into an app: 32 letters of base32, without padding.
    pub(crate) fn to_base32(&self) -> Secret {
        let letters = self.0.chunks(5).flat_map(|five| {
            let bits = five.iter().fold(0_u64, |bits, byte| (bits << 8) | u64::from(*byte));
            (0..8).rev().map(move |at| char::from(BASE32[usize::from((bits >> (5 * at)).to_be_bytes()[7] & 31)]))
        });
        Secret::new(letters.collect::<String>())
    }

    /// Reads what [`Self::to_base32`] wrote.
    pub(crate) fn from_base32(text: &str) -> Option<Self> {
        let values: Vec<u64> = text
            .bytes()
            .map(|letter| BASE32.iter().position(|known| *known == letter).and_then(|value| value.try_into().ok()))
            .collect::<Option<_>>()?;
        let bytes = values.chunks(8).flat_map(|eight| {
            let bits = eight.iter().fold(0, |bits, value| (bits << 5) | value);
            bits.to_be_bytes().into_iter().skip(3)
        });
        let bytes: Vec<u8> = bytes.collect();
        // 160 bits are 32 letters exactly: nothing is left over.
        if values.len() == SECRET_BYTES * 8 / 5 { bytes.try_into().ok().map(Self) } else { None }
    }
}

impl fmt::Debug for TotpSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TotpSecret(***)")
    }
}

/// The address that an app takes the secret from, mostly as a QR code
/// (<https://github.com/google/google-authenticator/wiki/Key-Uri-Format>). `issuer` is what the app calls us,
/// `account` the account's name.
pub(crate) fn otpauth_url(secret: &TotpSecret, issuer: &str, account: &str) -> Secret {
    // A colon separates the two, and the format has no way to write one that does not.
    let issuer = issuer.replace(':', " ");
    let encode = |text| utf8_percent_encode(text, UNRESERVED);
    Secret::new(format!(
        "otpauth://totp/{issuer}:{account}?secret={secret}&issuer={issuer}&algorithm=SHA1&digits={DIGITS}&period={STEP_SECONDS}",
        issuer = encode(&issuer),
        account = encode(account),
        secret = secret.to_base32().expose(),
    ))
}

/// The step that a code is of, when it is right now, one step early or one late, and later than the step that was used
/// last. `None` for every other code. The result has to be stored as the new `last_used_step` before anybody is let in.
pub(crate) fn verify(secret: &TotpSecret, code: &str, now: Timestamp, last_used_step: Option<u64>) -> Option<u64> {
    let code = digits_of(code)?;
    let current = u64::try_from(now.as_seconds()).ok()? / STEP_SECONDS;
    let mut matched = None;
    // All are looked at, so that the time says nothing; of two that match the later one counts, and uses up both.
    for step in current.saturating_sub(SKEW_STEPS)..=current.saturating_add(SKEW_STEPS) {
        let is_right = constant_time_eq(code_at(secret, step).as_bytes(), code.as_bytes());
        if is_right && last_used_step.is_none_or(|last| step > last) {
            matched = Some(step);
        }
    }
    matched
}

/// A code as people type it: apps show it in two groups.
fn digits_of(code: &str) -> Option<String> {
    if code.len() > MAX_CODE_BYTES {
        return None;
    }
    let digits: String = code.chars().filter(|c| !c.is_whitespace()).collect();
    (digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some(digits)
}

/// HOTP of RFC 4226, section 5.3.
fn code_at(secret: &TotpSecret, step: u64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &secret.0);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let bytes = tag.as_ref();
    let offset = bytes.last().map_or(0, |last| usize::from(last & 15));
    let four = bytes.iter().skip(offset).take(4).fold(0_u32, |value, byte| (value << 8) | u32::from(*byte));
    format!("{:0DIGITS$}", (four & 0x7fff_ffff) % 1_000_000)
}

/// Ten new recovery codes such as `4821 0937 5516 2049 7730`. Shown once; kept only as [`hash_recovery_code`] gives them.
pub(crate) fn generate_recovery_codes() -> Vec<String> {
    (0..RECOVERY_CODES).map(|_| random::typable()).collect()
}

/// What is stored of a recovery code: its SHA-256 in hex. `None` for a text that is no such code.
pub(crate) fn hash_recovery_code(code: &str) -> Option<String> {
    plain(code).map(|code| sha256_hex(code.as_bytes()))
}

/// Which of the stored hashes this code has, if any. The caller takes that one out of the store: a code works once.
pub(crate) fn find_recovery_code(code: &str, hashes: &[String]) -> Option<usize> {
    let hash = hash_recovery_code(code)?;
    let is_it = |stored: &String| constant_time_eq(stored.as_bytes(), hash.as_bytes());
    // No early end: which of them it was is nobody's business either.
    hashes.iter().enumerate().fold(None, |found, (at, stored)| if is_it(stored) { Some(at) } else { found })
}

/// A recovery code without what people change when they copy it by hand: dashes, blanks, look-alikes.
fn plain(code: &str) -> Option<String> {
    if code.len() > MAX_CODE_BYTES {
        return None;
    }
    let digits = code.chars().filter(|c| *c != '-' && !c.is_whitespace()).map(|c| match c.to_ascii_lowercase() {
        'o' => '0',
        'i' | 'l' => '1',
        other => other,
    });
    let code: String = digits.collect();
    let is_code = code.len() == RECOVERY_DIGITS && code.bytes().all(|byte| byte.is_ascii_digit());
    is_code.then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key of RFC 6238, appendix B.
    fn rfc() -> TotpSecret {
        TotpSecret(*b"12345678901234567890")
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    /// The appendix has eight digits; the last six are the code of six.
    #[test]
    fn the_vectors_of_rfc_6238() {
        let vectors = [
            (59, "94287082"),
            (1_111_111_109, "07081804"),
            (1_111_111_111, "14050471"),
            (1_234_567_890, "89005924"),
            (2_000_000_000, "69279037"),
            (20_000_000_000, "65353130"),
        ];
        for (seconds, code) in vectors {
            let step = u64::try_from(seconds).unwrap() / 30;
            assert_eq!(verify(&rfc(), &code[2..], at(seconds), None), Some(step), "{seconds}");
            assert_eq!(verify(&rfc(), code, at(seconds), None), None, "eight digits are none of our codes");
        }
    }

    #[test]
    fn a_code_works_once() {
        let step = verify(&rfc(), "287082", at(59), None);
        assert_eq!(step, Some(1));
        assert_eq!(verify(&rfc(), "287082", at(59), step), None);
        assert_eq!(verify(&rfc(), "287082", at(61), step), None);
        let next = code_at(&rfc(), 2);
        assert_eq!(verify(&rfc(), &next, at(59), step), Some(2));
        assert_eq!(verify(&rfc(), "287082", at(59), Some(2)), None, "nor does an earlier one after a later one");
    }

    #[test]
    fn a_clock_may_be_off_by_one_step() {
        let code = code_at(&rfc(), 100);
        for (seconds, is_right) in [(2969, false), (2970, true), (3000, true), (3059, true), (3060, false)] {
            assert_eq!(verify(&rfc(), &code, at(seconds), None).is_some(), is_right, "{seconds}");
        }
        assert_eq!(verify(&rfc(), &code, at(-3000), None), None);
    }

    #[test]
    fn blanks_are_overlooked_and_nothing_else() {
        assert_eq!(verify(&rfc(), " 287 082 ", at(59), None), Some(1));
        for code in ["", "28708", "2870820", "28708x", "287-082", "２８７０８２", &"2".repeat(1000)] {
            assert_eq!(verify(&rfc(), code, at(59), None), None, "{code:.20}");
        }
    }

    #[test]
    fn a_secret_is_written_as_apps_read_it() {
        assert_eq!(rfc().to_base32().expose(), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        let secret = TotpSecret::generate();
        assert_eq!(TotpSecret::from_base32(secret.to_base32().expose()), Some(secret.clone()));
        assert_ne!(secret, TotpSecret::generate());
        assert_eq!(format!("{secret:?}"), "TotpSecret(***)");
        for text in ["", "GEZDGNBV", "gezdgnbvgy3tqojqgezdgnbvgy3tqojq", "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJ1"] {
            assert_eq!(TotpSecret::from_base32(text), None, "{text}");
        }
        let url = otpauth_url(&rfc(), "Acme: npm & co", "ann@acme");
        assert_eq!(
            url.expose(),
            "otpauth://totp/Acme%20%20npm%20%26%20co:ann%40acme?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\
             &issuer=Acme%20%20npm%20%26%20co&algorithm=SHA1&digits=6&period=30"
        );
    }

    #[test]
    fn recovery_codes_are_found_however_they_are_typed() {
        let codes = generate_recovery_codes();
        assert_eq!(codes.len(), 10);
        let distinct: std::collections::BTreeSet<&String> = codes.iter().collect();
        assert_eq!(distinct.len(), 10);
        let hashes: Vec<String> = codes.iter().map(|code| hash_recovery_code(code).unwrap()).collect();
        for (at, code) in codes.iter().enumerate() {
            // What npm's prompt takes: `/^[\d ]+$/`.
            assert!(code.len() == 24 && code.bytes().all(|b| b == b' ' || b.is_ascii_digit()), "{code}");
            let spellings = [
                code.clone(),
                code.replace(' ', ""),
                format!(" {} ", code.replace(' ', "-")),
                code.replace('0', "O").replace('1', "l"),
            ];
            for spelling in spellings {
                assert_eq!(find_recovery_code(&spelling, &hashes), Some(at), "{spelling}");
            }
        }
        for code in
            ["", "0000 0000 0000 0000 000", "0000 0000 0000 0000 0000 0", "uuuu uuuu uuuu uuuu uuuu", &"0".repeat(1000)]
        {
            assert_eq!(find_recovery_code(code, &hashes), None, "{code:.20}");
        }
        assert_eq!(find_recovery_code("0000 0000 0000 0000 0000", &[]), None);
    }
}
