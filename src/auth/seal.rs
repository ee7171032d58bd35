//! Sealing a small secret with a token that only its holder has, so that the store alone cannot read it.
//!
//! The key of a sealed text is made from *key material*: a text with 256 random bits in it ([`super::random::secret`]),
//! which is kept by whoever may open the text (a client, a browser) and never beside it. It must not be a password:
//! nothing here is slow on purpose. Each *purpose* has keys of its own, so what was sealed for one thing opens for no
//! other.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::random;
use crate::secret::Secret;

/// What comes before the purpose in HKDF's `info`: a derived value that is shown must never be a sealing key.
const FOR_SEALING: &str = "holdfast seal: ";
const FOR_VALUES: &str = "holdfast value: ";

/// Longer texts are not looked at: nothing that is sealed here is larger.
const MAX_SEALED_BYTES: usize = 64 * 1024;

/// The secret under AES-256-GCM with a random nonce: base64url, without padding, of nonce, ciphertext and tag.
///
/// # Panics
/// Never in practice: the cipher refuses texts of more than 64 GiB only.
#[expect(clippy::expect_used, reason = "see Panics")]
pub(crate) fn seal(secret: &str, key_material: &str, purpose: &'static str) -> String {
    let nonce = random::bytes::<NONCE_LEN>();
    let mut bytes = secret.as_bytes().to_vec();
    sealing_key(key_material, purpose)
        .and_then(|key| key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut bytes))
        .expect("a secret is not gigabytes long");
    URL_SAFE_NO_PAD.encode([nonce.as_slice(), bytes.as_slice()].concat())
}

/// The secret again. `None` when the text was changed, or was sealed with other key material or for another purpose.
pub(crate) fn open(sealed: &str, key_material: &str, purpose: &'static str) -> Option<Secret> {
    if sealed.len() > MAX_SEALED_BYTES {
        return None;
    }
    let mut bytes = URL_SAFE_NO_PAD.decode(sealed).ok()?;
    let (nonce, sealed) = bytes.split_first_chunk_mut::<NONCE_LEN>()?;
    let key = sealing_key(key_material, purpose).ok()?;
    let opened = key.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::empty(), sealed).ok()?;
    std::str::from_utf8(opened).ok().map(Secret::new)
}

/// 256 bits that follow from the key material and say nothing of it, in base64url (43 letters): for an OAuth state, a
/// PKCE verifier, a form's token. The same each time, so that nothing has to be kept.
///
/// # Panics
/// Never in practice: HKDF refuses outputs of more than 8 KiB only.
#[expect(clippy::expect_used, reason = "see Panics")]
pub(crate) fn derive(key_material: &str, purpose: &str) -> String {
    let bytes = expand(key_material, FOR_VALUES, purpose).expect("HKDF gives 32 bytes");
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Whether both are the same, without telling by the time it takes where they differ. Whether they have the same
/// length does show.
pub(crate) fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    verify_slices_are_equal(a, b).is_ok()
}

fn sealing_key(key_material: &str, purpose: &str) -> Result<LessSafeKey, Unspecified> {
    let key = expand(key_material, FOR_SEALING, purpose)?;
    Ok(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key)?))
}

/// HKDF-SHA256 (RFC 5869) without salt, which random key material does not need.
fn expand(key_material: &str, prefix: &str, purpose: &str) -> Result<[u8; 32], Unspecified> {
    let mut bytes = [0; 32];
    let info = [prefix.as_bytes(), purpose.as_bytes()];
    Salt::none(HKDF_SHA256).extract(key_material.as_bytes()).expand(&info, HKDF_SHA256)?.fill(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "kTg2b0aVQ1oWcyq3xvZ8mJ5nR7uE4hLsD6fYpXzBtCA";

    #[test]
    fn what_is_sealed_opens_with_the_same_key_and_purpose_only() {
        for secret in ["", "hunter2", "gho_äöü 🔑", &"x".repeat(10_000)] {
            let sealed = seal(secret, KEY, "github");
            assert_eq!(open(&sealed, KEY, "github").unwrap().expose(), secret);
            assert!(open(&sealed, KEY, "totp").is_none());
            assert!(open(&sealed, &KEY.replace('k', "K"), "github").is_none());
            assert!(!sealed.contains("hunter2"));
        }
        assert_ne!(seal("x", KEY, "github"), seal("x", KEY, "github"), "the nonce is random");
    }

    #[test]
    fn a_changed_text_does_not_open() {
        let sealed = seal("hunter2", KEY, "github");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert!(open(std::str::from_utf8(&changed).unwrap(), KEY, "github").is_none(), "{at}");
        }
        for text in ["", "A", "AAAA", "not base64!", &sealed[..sealed.len() - 4], &"A".repeat(100_000)] {
            assert!(open(text, KEY, "github").is_none(), "{text:.20}");
        }
    }

    #[test]
    fn derived_values_differ_by_purpose_and_stay_the_same() {
        let state = derive(KEY, "state");
        assert_eq!(state.len(), 43);
        assert_eq!(state, derive(KEY, "state"));
        assert_ne!(state, derive(KEY, "pkce"));
        assert_ne!(state, derive("other", "state"));
        let key = expand(KEY, FOR_SEALING, "state").unwrap();
        assert_ne!(state, URL_SAFE_NO_PAD.encode(key), "no value that is shown is a sealing key");
    }

    /// Made with Python's hmac: HMAC(HMAC(32 zeros, KEY), "holdfast value: state" 0x01).
    #[test]
    fn derived_as_rfc_5869_says() {
        assert_eq!(derive(KEY, "state"), "3dJk1TwtbnR1wtLh-zZ14f74M8odAV1jqM994qX-O8U");
    }

    #[test]
    fn equal_is_equal() {
        assert!(constant_time_eq(b"", b""));
        assert!(constant_time_eq(b"abc", b"abc"));
        assert!(!constant_time_eq(b"abc", b"abd"));
        assert!(!constant_time_eq(b"abc", b"abcd"));
    }
}
