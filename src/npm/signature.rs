//! Registry signatures: `dist.signatures` over `name@version:integrity`, as `npm audit signatures` checks them.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::{PackageName, Timestamp};

/// The only kind of key that npm has ever used.
const KEY_TYPE: &str = "ecdsa-sha2-nistp256";
/// What stands before the point of a P-256 key in DER (RFC 5480): the rest is the key itself.
const SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// A key as `GET /-/npm/v1/keys` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningKey {
    /// `SHA256:…`.
    pub keyid: String,
    /// Base64 of the DER.
    pub key: String,
    /// `ecdsa-sha2-nistp256`.
    pub keytype: String,
    /// From then on it signs nothing any more; what it signed before stays good.
    #[serde(default)]
    pub expires: Option<String>,
}

/// A signature as a version shows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PresentedSignature {
    /// Which key.
    pub keyid: String,
    /// Base64 of the DER.
    pub sig: String,
}

/// What came of looking at a version's signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signature {
    /// One is good, and none is bad.
    Valid,
    /// There is none, or nothing to check it with.
    Missing,
    /// One is by a key that the registry has, and is wrong.
    Invalid,
    /// All are by keys that the registry does not have.
    UnknownKey,
    /// The key had ended before the version was published.
    ExpiredKey,
}

impl Signature {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Missing => "missing",
            Self::Invalid => "invalid",
            Self::UnknownKey => "by an unknown key",
            Self::ExpiredKey => "by a key that had ended",
        }
    }
}

/// Checks a version's signatures against a registry's keys. A wrong one by a known key spoils all others.
pub fn verify(
    name: &PackageName,
    number: &str,
    integrity: &str,
    signatures: &[PresentedSignature],
    keys: &[SigningKey],
    published: Option<Timestamp>,
) -> Signature {
    /// More than any registry has; each costs a verification.
    const MAX_SIGNATURES: usize = 10;
    let message = format!("{name}@{number}:{integrity}");
    let mut outcome = Signature::Missing;
    for signature in signatures.iter().take(MAX_SIGNATURES) {
        let Some(key) = keys.iter().find(|key| key.keyid == signature.keyid && key.keytype == KEY_TYPE) else {
            if outcome == Signature::Missing {
                outcome = Signature::UnknownKey;
            }
            continue;
        };
        if !is_good(key, &message, &signature.sig) {
            return Signature::Invalid;
        }
        let end: Option<Timestamp> = key.expires.as_deref().and_then(|text| text.parse().ok());
        if end.is_some_and(|end| published.is_none_or(|published| published >= end)) {
            if outcome != Signature::Valid {
                outcome = Signature::ExpiredKey;
            }
        } else {
            outcome = Signature::Valid;
        }
    }
    outcome
}

fn is_good(key: &SigningKey, message: &str, signature: &str) -> bool {
    let (Ok(key), Ok(signature)) = (STANDARD.decode(&key.key), STANDARD.decode(signature)) else { return false };
    let Some(point) = key.strip_prefix(&SPKI_PREFIX) else { return false };
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).verify(message.as_bytes(), &signature).is_ok()
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};

    use super::*;

    fn pair(id: &str) -> (EcdsaKeyPair, SigningKey) {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let der = [SPKI_PREFIX.as_slice(), pair.public_key().as_ref()].concat();
        let key =
            SigningKey { keyid: id.to_owned(), key: STANDARD.encode(der), keytype: KEY_TYPE.to_owned(), expires: None };
        (pair, key)
    }

    fn signed(pair: &EcdsaKeyPair, id: &str, text: &str) -> PresentedSignature {
        let bytes = pair.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
        PresentedSignature { keyid: id.to_owned(), sig: STANDARD.encode(bytes.as_ref()) }
    }

    #[test]
    fn a_signature_is_for_one_version_with_its_bytes() {
        let name: PackageName = "@a/tool".parse().unwrap();
        let (pair, mut key) = pair("SHA256:x");
        let good = signed(&pair, "SHA256:x", "@a/tool@1.0.0:sha512-abc");
        let stranger = PresentedSignature { keyid: "SHA256:y".to_owned(), ..good.clone() };
        let published: Option<Timestamp> = "2026-01-01T00:00:00.000Z".parse().ok();
        let check = |integrity: &str, signatures: &[PresentedSignature], key: &SigningKey| {
            verify(&name, "1.0.0", integrity, signatures, std::slice::from_ref(key), published)
        };
        assert_eq!(check("sha512-abc", std::slice::from_ref(&good), &key), Signature::Valid);
        assert_eq!(check("sha512-abd", std::slice::from_ref(&good), &key), Signature::Invalid);
        assert_eq!(check("sha512-abc", &[], &key), Signature::Missing);
        assert_eq!(check("sha512-abc", std::slice::from_ref(&stranger), &key), Signature::UnknownKey);
        assert_eq!(check("sha512-abc", &[stranger, good.clone()], &key), Signature::Valid);
        key.expires = Some("2025-01-01T00:00:00.000Z".to_owned());
        assert_eq!(check("sha512-abc", std::slice::from_ref(&good), &key), Signature::ExpiredKey);
        key.key = "AAAA".to_owned();
        assert_eq!(check("sha512-abc", &[good], &key), Signature::Invalid);
    }
}
