//! What others sign about a version: the registry's signature over its hash, and a builder's provenance.

use std::sync::Arc;

use aws_lc_rs::digest;
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use serde_json::{Value, json};

use super::tarballs;

/// The kind of statement that npm makes with `--provenance`.
pub(crate) const PREDICATE: &str = "https://slsa.dev/provenance/v1";

/// A key with which a registry signs its versions: ECDSA over P-256, as on the public one.
#[derive(Debug, Clone)]
pub(crate) struct RegistryKey {
    pair: Arc<EcdsaKeyPair>,
}

/// How a version is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signing {
    Right,
    /// A right signature with one bit turned.
    BrokenSignature,
    /// A right signature of the version `0.0.0` of the same package, as if it had been copied from there.
    OfAnotherVersion,
    /// By a key that nobody knows, under the name of this one.
    ByAnotherKey,
    /// No signature at all: the text is not even base64.
    Garbled,
}

impl RegistryKey {
    pub(crate) fn generate() -> Self {
        Self { pair: Arc::new(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap()) }
    }

    /// `SHA256:` and the hash of the public key, as npm names keys.
    pub(crate) fn id(&self) -> String {
        let hash = digest::digest(&digest::SHA256, &self.public());
        format!("SHA256:{}", BASE64_STANDARD_NO_PAD.encode(hash))
    }

    /// The entry in the list of keys, without an end.
    pub(crate) fn entry(&self) -> Value {
        self.entry_with(&Value::Null)
    }

    /// The entry in the list of keys, with an end.
    pub(crate) fn entry_until(&self, expires: &str) -> Value {
        self.entry_with(&json!(expires))
    }

    fn entry_with(&self, expires: &Value) -> Value {
        json!({
            "expires": expires, "keyid": self.id(), "keytype": "ecdsa-sha2-nistp256",
            "scheme": "ecdsa-sha2-nistp256", "key": tarballs::base64(&self.public()),
        })
    }

    /// An entry of `dist.signatures`.
    pub(crate) fn sign(&self, name: &str, version: &str, integrity: &str, signing: Signing) -> Value {
        let right = format!("{name}@{version}:{integrity}");
        let signature = match signing {
            Signing::Right => self.signature(&right),
            Signing::OfAnotherVersion => self.signature(&format!("{name}@0.0.0:{integrity}")),
            Signing::ByAnotherKey => Self::generate().signature(&right),
            Signing::BrokenSignature => {
                let mut signature = self.signature(&right);
                // The last byte is the end of a number: it stays well-formed DER.
                *signature.last_mut().unwrap() ^= 1;
                signature
            }
            Signing::Garbled => return json!({ "keyid": self.id(), "sig": "!!!" }),
        };
        json!({ "keyid": self.id(), "sig": tarballs::base64(&signature) })
    }

    fn signature(&self, text: &str) -> Vec<u8> {
        self.pair.sign(&SystemRandom::new(), text.as_bytes()).unwrap().as_ref().to_vec()
    }

    /// The public key as DER, with its algorithm.
    fn public(&self) -> Vec<u8> {
        let der: PublicKeyX509Der<'_> = self.pair.public_key().as_der().unwrap();
        der.as_ref().to_vec()
    }
}

/// A provenance bundle that speaks of a package and of bytes. Its signature is of no concern to a registry.
pub(crate) fn provenance(name: &str, version: &str, bytes: &[u8]) -> Value {
    let sha512 = digest::digest(&digest::SHA512, bytes);
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{
            "name": format!("pkg:npm/{}@{version}", name.replacen('@', "%40", 1)),
            "digest": { "sha512": super::hex(sha512.as_ref()) },
        }],
        "predicateType": PREDICATE,
        "predicate": {},
    });
    json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": { "certificate": { "rawBytes": "AAAA" } },
        "dsseEnvelope": {
            "payload": tarballs::base64(statement.to_string().as_bytes()),
            "payloadType": "application/vnd.in-toto+json",
            "signatures": [{ "sig": "AAAA", "keyid": "" }],
        },
    })
}
