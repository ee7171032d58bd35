//! Integrity strings (W3C Subresource Integrity, as in `dist.integrity`) and the older `dist.shasum`.

use std::fmt;

use aws_lc_rs::digest::{self, Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, SHA512};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Both digests that every client needs of a tarball, made in one pass: sha512 for all, sha1 because yarn classic
/// writes it into its lock file.
pub struct Hasher {
    sha512: Context,
    sha1: Context,
    length: u64,
}

impl Default for Hasher {
    fn default() -> Self {
        Self { sha512: Context::new(&SHA512), sha1: Context::new(&SHA1_FOR_LEGACY_USE_ONLY), length: 0 }
    }
}

impl Hasher {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.sha512.update(bytes);
        self.sha1.update(bytes);
        self.length += bytes.len() as u64;
    }

    /// The digests of all bytes so far.
    pub fn finish(self) -> Digests {
        Digests {
            sha512: self.sha512.finish().as_ref().to_vec(),
            sha1: self.sha1.finish().as_ref().to_vec(),
            size_bytes: self.length,
        }
    }
}

/// What was computed over a tarball's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digests {
    sha512: Vec<u8>,
    sha1: Vec<u8>,
    /// How many bytes were hashed.
    pub size_bytes: u64,
}

impl Digests {
    /// `sha512-…`: exactly one digest, since vlt compares the whole string.
    pub fn integrity(&self) -> String {
        format!("sha512-{}", STANDARD.encode(&self.sha512))
    }

    /// The sha1 in hex.
    pub fn shasum(&self) -> String {
        hex(&self.sha1)
    }

    /// The sha512 in hex, as provenance statements name it.
    pub fn sha512_hex(&self) -> String {
        hex(&self.sha512)
    }

    /// The first 128 bits of the sha512 in hex: enough to keep two uploads of one version apart in an object key.
    pub fn short(&self) -> String {
        hex(&self.sha512[..16])
    }
}

/// What a document claims of a tarball's bytes: the strongest algorithm it names, with all digests given for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Integrity {
    algorithm: Algorithm,
    digests: Vec<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Algorithm {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

impl Algorithm {
    fn implementation(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha1 => &SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &SHA256,
            Self::Sha384 => &SHA384,
            Self::Sha512 => &SHA512,
        }
    }
}

impl Integrity {
    /// Reads an integrity string: several `algorithm-base64` separated by white space, options after `?` ignored,
    /// unknown algorithms skipped. `None` when nothing in it can be checked.
    pub fn parse(text: &str) -> Option<Self> {
        let mut strongest: Option<Self> = None;
        for item in text.split_ascii_whitespace() {
            let item = item.split_once('?').map_or(item, |(digest, _options)| digest);
            let Some((algorithm, encoded)) = item.split_once('-') else { continue };
            let algorithm = match algorithm {
                "sha512" => Algorithm::Sha512,
                "sha384" => Algorithm::Sha384,
                "sha256" => Algorithm::Sha256,
                "sha1" => Algorithm::Sha1,
                _ => continue,
            };
            let Ok(bytes) = STANDARD.decode(encoded) else { continue };
            if bytes.len() != algorithm.implementation().output_len() {
                continue;
            }
            match &mut strongest {
                Some(known) if known.algorithm > algorithm => {}
                Some(known) if known.algorithm == algorithm => known.digests.push(bytes),
                _ => strongest = Some(Self { algorithm, digests: vec![bytes] }),
            }
        }
        strongest
    }

    /// Reads a `dist.shasum`: 40 hex digits.
    pub fn from_shasum(hex_digits: &str) -> Option<Self> {
        let bytes = unhex(hex_digits)?;
        (bytes.len() == 20).then(|| Self { algorithm: Algorithm::Sha1, digests: vec![bytes] })
    }

    /// A checker for bytes that are still arriving.
    pub fn verifier(&self) -> Verifier {
        Verifier { context: Context::new(self.algorithm.implementation()), expected: self.clone() }
    }

    /// Whether digests that were computed here answer to this claim. `None` when the claim uses an algorithm that
    /// [`Hasher`] does not compute.
    pub fn matches(&self, computed: &Digests) -> Option<bool> {
        match self.algorithm {
            Algorithm::Sha512 => Some(self.digests.contains(&computed.sha512)),
            Algorithm::Sha1 => Some(self.digests.contains(&computed.sha1)),
            Algorithm::Sha256 | Algorithm::Sha384 => None,
        }
    }
}

impl Integrity {
    /// Whether another claim can be of the same bytes. `None` when they are in different algorithms, which tells nothing.
    pub fn agrees_with(&self, other: &Self) -> Option<bool> {
        (self.algorithm == other.algorithm).then(|| self.digests.iter().any(|digest| other.digests.contains(digest)))
    }
}

impl fmt::Display for Integrity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let algorithm = match self.algorithm {
            Algorithm::Sha1 => "sha1",
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha384 => "sha384",
            Algorithm::Sha512 => "sha512",
        };
        for (index, digest) in self.digests.iter().enumerate() {
            let space = if index == 0 { "" } else { " " };
            write!(f, "{space}{algorithm}-{}", STANDARD.encode(digest))?;
        }
        Ok(())
    }
}

/// Hashes bytes as they pass and compares at the end.
pub struct Verifier {
    context: Context,
    expected: Integrity,
}

impl Verifier {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
    }

    /// True when the bytes are the claimed ones.
    pub fn finish(self) -> bool {
        let digest = self.context.finish();
        self.expected.digests.iter().any(|expected| expected == digest.as_ref())
    }
}

/// SHA-256 in lower-case hex, for revisions and for secrets that are only ever compared.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(digest::digest(&SHA256, bytes).as_ref())
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digests(bytes: &[u8]) -> Digests {
        let mut hasher = Hasher::default();
        hasher.update(bytes);
        hasher.finish()
    }

    #[test]
    fn known_digests() {
        let digests = digests(b"abc");
        assert_eq!(digests.shasum(), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(
            digests.integrity(),
            "sha512-3a81oZNherrMQXNJriBBMRLm+k6JqX6iCp7u5ktV05ohkpkqJ0/BqDa6PCOj/uu9RU1EI2Q86A4qmslPpUyknw=="
        );
    }

    #[test]
    fn the_strongest_algorithm_decides() {
        let good = digests(b"abc").integrity();
        let claim = Integrity::parse(&format!("sha1-AAAAAAAAAAAAAAAAAAAAAAAAAAA= {good} md5-xx")).unwrap();
        assert_eq!(claim.matches(&digests(b"abc")), Some(true));
        assert_eq!(claim.matches(&digests(b"abd")), Some(false));
        let mut verifier = claim.verifier();
        verifier.update(b"ab");
        verifier.update(b"c");
        assert!(verifier.finish());
    }

    #[test]
    fn a_claim_that_cannot_be_checked_is_none() {
        for text in ["", "md5-AAAA", "sha512-", "sha512-!!!", "sha512-AAAA", "garbage"] {
            assert_eq!(Integrity::parse(text), None, "{text}");
        }
        assert_eq!(Integrity::from_shasum("a999"), None);
        assert!(Integrity::from_shasum("a9993e364706816aba3e25717850c26c9cd0d89d").is_some());
    }
}
