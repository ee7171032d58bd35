//! What persons have let through before its time, or in spite of a rule.

use serde::{Deserialize, Serialize};

use super::facts::VersionFacts;
use crate::npm::{PackageName, Timestamp, Version};

/// One permission. Never good against what is known to be malicious.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiver {
    /// What it is called by.
    pub id: String,
    /// The package.
    pub package: String,
    /// One version, canonical; every version, where there is none.
    pub version: Option<String>,
    /// The integrity that the version had when it was looked at: other bytes under the same number are not let through.
    pub integrity: Option<String>,
    /// The upstream that it was looked at from.
    pub upstream: Option<String>,
    /// The rule that it lifts; the hold and the look-alike check, where there is none.
    pub rule: Option<String>,
    /// Why.
    pub reason: String,
    /// Who gave it.
    pub by: String,
    /// RFC 3339.
    pub created: String,
    /// RFC 3339. From then on it is as if it had never been.
    pub expires: String,
}

/// All of them, as they are stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waivers {
    /// The oldest first.
    #[serde(default)]
    pub waivers: Vec<Waiver>,
}

impl Waiver {
    /// When it ends. One whose date cannot be read has ended.
    pub fn ends(&self) -> Option<Timestamp> {
        self.expires.parse().ok()
    }

    fn is_for(&self, upstream: &str, version: &VersionFacts<'_>) -> bool {
        let is_version = match &self.version {
            None => true,
            Some(number) => number.parse::<Version>().ok().is_some_and(|own| version.version.as_ref() == Some(&own)),
        };
        is_version
            && self.upstream.as_ref().is_none_or(|own| own == upstream)
            && self.integrity.as_ref().is_none_or(|own| version.integrity().as_ref() == Some(own))
    }
}

impl Waivers {
    /// The waivers of a package that have not ended.
    pub fn about(&self, name: &PackageName, now: Timestamp) -> impl Iterator<Item = &Waiver> {
        self.waivers
            .iter()
            .filter(move |waiver| waiver.package == name.as_str() && waiver.ends().is_some_and(|end| end > now))
    }
}

/// The waiver among a package's that lifts a rule, or the holds where `rule` is `None`, for a version.
pub(super) fn lifting<'a>(
    waivers: &[&'a Waiver],
    rule: Option<&str>,
    upstream: &str,
    version: &VersionFacts<'_>,
) -> Option<&'a Waiver> {
    waivers.iter().find(|waiver| waiver.rule.as_deref() == rule && waiver.is_for(upstream, version)).copied()
}
