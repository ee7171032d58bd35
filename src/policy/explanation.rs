//! What a registry tells of its policy, and what our own client reads of another's: one shape for both.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::judge::{MovedTag, Observation, Withheld};
use crate::npm::Timestamp;
use crate::npm::signature::Signature;

/// What is withheld of a package, and why.
#[derive(Debug, Serialize, Deserialize)]
pub struct Explanation {
    /// The package.
    pub package: String,
    /// `hosted`, or the upstream's name.
    pub source: String,
    /// The state of the policy that decided.
    pub policy_epoch: String,
    /// How many versions are offered.
    pub offered: usize,
    /// The tags as they are offered.
    pub tags: BTreeMap<String, String>,
    /// Those that point elsewhere than their owner pointed them.
    pub moved_tags: Vec<MovedTag>,
    /// What is not offered, the highest first.
    pub withheld: Vec<WithheldVersion>,
    /// What is offered although something speaks against it.
    pub observed: Vec<Observation>,
    /// What the upstream's signatures were worth, of versions that were delivered.
    pub signatures: BTreeMap<String, Signature>,
    /// The next instant at which this may be otherwise by itself.
    pub changes_at: Option<Timestamp>,
}

/// A version that is not offered.
#[derive(Debug, Serialize, Deserialize)]
pub struct WithheldVersion {
    /// Its number.
    pub version: String,
    /// Why.
    #[serde(flatten)]
    pub withheld: Withheld,
}

/// What can be said of a version.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// It can be installed.
    Offered,
    /// It cannot.
    Withheld(Withheld),
    /// There is no such package or version here, or the caller may not know of it.
    Missing,
    /// The upstream could not be asked.
    Unknown,
}

/// A version with what can be said of it.
#[derive(Debug, Serialize, Deserialize)]
pub struct VersionVerdict {
    /// The package.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The verdict.
    #[serde(flatten)]
    pub verdict: Verdict,
}
