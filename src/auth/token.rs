//! Registry tokens: made at random, shown once, kept only as a hash.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::access_policy::Action;
use super::caller::TokenScope;
use super::workflow::WorkflowIdentity;
use crate::npm::integrity::sha256_hex;
use crate::npm::packument::Maintainer;
use crate::npm::{Pattern, Timestamp};
use crate::random;

/// Every token starts with this, so that secret scanners can tell it.
pub const TOKEN_PREFIX: &str = "hfst_";
/// What follows the prefix of a token that lasts minutes, which is kept elsewhere.
const SHORT_LIVED: &str = "ci_";
/// 256 bits in base64, and the checksum.
const SECRET_LETTERS: usize = 43 + 6;

/// A token in clear text. Printed nowhere but in the answer that hands it out.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// The SHA-256 of a token, in hex: what is stored and compared. Knowing it gives no access.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TokenHash(String);

/// What is kept of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// The account it stands for; of a workflow's token the job's name.
    pub user: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// How it came to be.
    #[serde(default)]
    pub origin: TokenOrigin,
    /// The first letters of it, so that its owner can tell it from others.
    #[serde(default)]
    pub hint: String,
    /// Given by its owner; may be empty.
    #[serde(default)]
    pub name: String,
    /// Given by its owner; may be empty.
    #[serde(default)]
    pub description: String,
    /// When it ends, RFC 3339; never, where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// It changes nothing.
    #[serde(default)]
    pub read_only: bool,
    /// Patterns of the packages it is good for; `None` for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packages: Option<Vec<String>>,
    /// Networks it may be used from; from everywhere, where there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cidr: Vec<IpNet>,
    /// Writes with it need no second factor.
    #[serde(default)]
    pub bypasses_second_factor: bool,
    /// The account at GitHub that it stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub github: Option<SealedGitHub>,
    /// The CI job that it was given to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<WorkflowRecord>,
}

/// How a token came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenOrigin {
    /// By signing in.
    #[default]
    SignIn,
    /// By `npm token create`.
    Created,
    /// By `holdfast token create`.
    Operator,
    /// By a CI job's identity.
    Workflow,
}

/// A GitHub token, sealed with the registry token that it belongs to: who has only the store cannot read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedGitHub {
    /// The account's number, which stays when it is renamed.
    pub id: u64,
    /// The sealed token.
    pub sealed: String,
    /// The SHA-256 of the token, under which memberships are remembered.
    pub hash: String,
}

/// The CI job behind a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkflowRecord {
    /// The job.
    pub identity: WorkflowIdentity,
    /// What a package trusts it with; `None` for a token that only reads.
    pub grant: Option<GrantRecord>,
}

/// What a package trusts a job with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantRecord {
    /// The package.
    pub package: String,
    /// What may be done with it.
    pub actions: Vec<Action>,
    /// Which trusted publisher of the package it is.
    pub publisher_id: String,
    /// Who trusted it.
    pub trusted_by: Maintainer,
    /// It was trusted when there was no such package.
    #[serde(default)]
    pub before_package: bool,
}

impl TokenRecord {
    /// A record of a token that has no limits and does not end.
    pub fn new(user: &str, origin: TokenOrigin, now: Timestamp) -> Self {
        Self {
            user: user.to_owned(),
            created: now.to_string(),
            origin,
            hint: String::new(),
            name: String::new(),
            description: String::new(),
            expires: None,
            read_only: false,
            packages: None,
            cidr: Vec::new(),
            bypasses_second_factor: false,
            github: None,
            workflow: None,
        }
    }

    /// Whether it has ended. A date that cannot be read has.
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.expires
            .as_ref()
            .is_some_and(|text| text.parse::<Timestamp>().map_or(true, |at| at.as_millis() <= now.as_millis()))
    }

    /// Whether it may be used from an address. An address that is not known is none of the allowed ones.
    pub fn allows(&self, address: Option<IpAddr>) -> bool {
        self.cidr.is_empty()
            || address.is_some_and(|address| self.cidr.iter().any(|net| net.contains(&address.to_canonical())))
    }

    /// Its limits, as decisions need them. A pattern that cannot be read covers nothing.
    pub(super) fn scope(&self, hash: &TokenHash) -> TokenScope {
        let patterns =
            |texts: &Vec<String>| texts.iter().filter_map(|text| text.parse::<Pattern>().ok()).collect::<Vec<_>>();
        TokenScope {
            key: hash.as_str().to_owned(),
            read_only: self.read_only,
            packages: self.packages.as_ref().map(patterns),
            bypasses_second_factor: self.bypasses_second_factor,
        }
    }
}

impl Token {
    /// A new token: the prefix, 256 random bits, and a checksum that lets a scanner dismiss look-alikes.
    pub fn generate() -> Self {
        let secret = random::secret();
        let checksum = &sha256_hex(secret.as_bytes())[..6];
        Self(format!("{TOKEN_PREFIX}{secret}{checksum}"))
    }

    /// A new token that lasts minutes.
    pub fn generate_short_lived() -> Self {
        let secret = format!("{SHORT_LIVED}{}", random::secret());
        let checksum = &sha256_hex(secret.as_bytes())[..6];
        Self(format!("{TOKEN_PREFIX}{secret}{checksum}"))
    }

    /// Whether it is one that lasts minutes.
    pub fn is_short_lived(&self) -> bool {
        let rest = self.0.strip_prefix(TOKEN_PREFIX).and_then(|rest| rest.strip_prefix(SHORT_LIVED));
        rest.is_some_and(|rest| rest.len() == SECRET_LETTERS)
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
        TokenHash::of(&self.0)
    }

    /// Enough of it for its owner to tell it by: the prefix and four letters of 43.
    pub fn hint(&self) -> String {
        self.0.chars().take(TOKEN_PREFIX.len() + 4).collect()
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
    /// Of any secret text.
    pub fn of(text: &str) -> Self {
        Self(sha256_hex(text.as_bytes()))
    }

    /// A hash that somebody typed or stored: 64 hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        let is_hash = text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'));
        is_hash.then(|| Self(text.to_owned()))
    }

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
        assert!(!token.is_short_lived());
        let short = Token::generate_short_lived();
        assert!(short.is_well_formed() && short.is_short_lived());
        let mut tampered = token.reveal().to_owned();
        let last = if tampered.ends_with('0') { '1' } else { '0' };
        tampered.pop();
        tampered.push(last);
        for text in ["", "hfst_", "hfst_abc", "npm_abcdef", &tampered, "hfst_äöüäöü"] {
            assert!(!Token::received(text).is_well_formed(), "{text}");
        }
    }
}
