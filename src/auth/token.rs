//! Registry tokens: made at random, shown once, kept only as a hash.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::random;
use crate::npm::integrity::sha256_hex;

/// Every token starts with this, so that secret scanners can tell it.
pub const TOKEN_PREFIX: &str = "hfst_";

/// A token in clear text. Printed nowhere but in the answer that hands it out.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// The SHA-256 of a token, in hex: what is stored and compared. Knowing it gives no access.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TokenHash(String);

/// What is kept of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// The account it stands for.
    pub user: String,
    /// When it was made, RFC 3339.
    pub created: String,
}

impl Token {
    /// A new token: the prefix, 256 random bits, and a checksum that lets a scanner dismiss look-alikes.
    pub fn generate() -> Self {
        let secret = random::secret();
        let checksum = &sha256_hex(secret.as_bytes())[..6];
        Self(format!("{TOKEN_PREFIX}{secret}{checksum}"))
    }

    /// A token that a client sent, whatever it looks like.
    pub fn received(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Whether it can be one of ours. One that cannot costs no look-up.
    pub fn is_well_formed(&self) -> bool {
        let Some(rest) = self.0.strip_prefix(TOKEN_PREFIX) else { return false };
        let Some((secret, checksum)) = rest.len().checked_sub(6).and_then(|at| rest.split_at_checked(at)) else {
            return false;
        };
        sha256_hex(secret.as_bytes()).starts_with(checksum)
    }

    /// What is stored of it.
    pub fn hash(&self) -> TokenHash {
        TokenHash(sha256_hex(self.0.as_bytes()))
    }

    /// The token itself, for the one answer that shows it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

impl TokenHash {
    /// The hash in hex.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_can_be_told_from_other_texts() {
        let token = Token::generate();
        assert!(token.is_well_formed());
        assert_ne!(token, Token::generate());
        assert_eq!(format!("{token:?}"), "Token(***)");
        let mut tampered = token.reveal().to_owned();
        let last = if tampered.ends_with('0') { '1' } else { '0' };
        tampered.pop();
        tampered.push(last);
        for text in ["", "hfst_", "hfst_abc", "npm_abcdef", &tampered, "hfst_äöüäöü"] {
            assert!(!Token::received(text).is_well_formed(), "{text}");
        }
    }
}
