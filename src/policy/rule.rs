//! Rules that operators write: which versions they speak of, and what becomes of those.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::facts::VersionFacts;
use super::judge::Origin;
use super::licence::{self, Standing};
use crate::advisories::Advisory;
use crate::npm::pattern::PatternError;
use crate::npm::signature::Signature;
use crate::npm::{PackageName, Pattern, Range, Timestamp};

/// What `upstreams` calls packages that were published here.
pub const HOSTED: &str = "hosted";

/// What becomes of a version that a rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// No later rule and no hold touches it. What is known to be malicious is withheld all the same.
    Allow,
    /// It is withheld.
    Deny,
    /// It is held for so long after its publication. Of several that match the longest counts.
    Hold(Duration),
}

/// Whether a rule acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It acts.
    Enforce,
    /// It is noted what it would have done.
    Observe,
}

/// A set of names: a [`Pattern`], or a text with stars such as `left-*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamePattern {
    /// What the settings know too.
    Known(Pattern),
    /// A star stands for any letters, a slash excepted.
    Glob(String),
}

/// What a rule asks about install scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstallScripts {
    /// There is one.
    Present,
    /// There is one that the version before did not have.
    Introduced,
}

/// What a rule asks about the licence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LicenceCondition {
    /// The version cannot be used without one of these.
    In(Vec<String>),
    /// It cannot be used with these alone.
    NotIn(Vec<String>),
    /// It names none, or none that is understood.
    Unknown,
}

/// What a rule asks about the upstream's signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureCondition {
    /// There is no good one.
    Missing,
    /// There is one, and it is not good.
    Invalid,
}

/// Something that must be so for a rule to match.
#[derive(Debug, Clone)]
pub enum Condition {
    /// The version is in the range, prereleases included.
    Versions(Range),
    /// The licence.
    Licence(LicenceCondition),
    /// Scripts that run at the installation.
    InstallScripts(InstallScripts),
    /// There is no provenance.
    NoProvenance,
    /// The upstream's signature.
    Signature(SignatureCondition),
    /// An earlier version came to be in a way that is trusted more.
    WeakerTrust,
    /// One of these advisories is about the version.
    Advisories(Vec<String>),
}

/// A rule.
#[derive(Debug, Clone)]
pub struct Rule {
    /// What it is called by; unique.
    pub id: String,
    /// What it does.
    pub effect: Effect,
    /// Whether it acts.
    pub mode: Mode,
    /// The packages it speaks of: any of these.
    pub packages: Vec<NamePattern>,
    /// The upstreams it speaks of: any of these, or all where there is none. `hosted` is what was published here.
    pub upstreams: Vec<String>,
    /// All of them must hold.
    pub conditions: Vec<Condition>,
    /// Who wrote it.
    pub author: String,
    /// Why.
    pub reason: String,
    /// From then on it is as if it had never been.
    pub expires: Option<Timestamp>,
}

/// What a rule is held against.
pub(super) struct Evidence<'a> {
    pub(super) version: &'a VersionFacts<'a>,
    pub(super) predecessor: Option<&'a VersionFacts<'a>>,
    pub(super) is_weaker: &'a dyn Fn() -> bool,
    pub(super) signature: &'a dyn Fn() -> Signature,
    pub(super) advisories: &'a [&'a Advisory],
}

impl Rule {
    /// Whether any version of the package could match.
    pub(super) fn speaks_of(&self, origin: Origin<'_>, name: &PackageName) -> bool {
        let is_from_there = match origin {
            Origin::Hosted => self.upstreams.iter().any(|own| own == HOSTED),
            Origin::Upstream(name) => self.upstreams.is_empty() || self.upstreams.iter().any(|own| own == name),
        };
        is_from_there && self.packages.iter().any(|pattern| pattern.matches(name))
    }

    /// How long it holds, where it does.
    pub fn hold(&self) -> Option<Duration> {
        match self.effect {
            Effect::Hold(hold) if self.mode == Mode::Enforce => Some(hold),
            _ => None,
        }
    }

    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|end| end <= now)
    }

    pub(super) fn needs_full_form(&self) -> bool {
        self.conditions.iter().any(|condition| {
            matches!(condition, Condition::Licence(_) | Condition::WeakerTrust | Condition::InstallScripts(_))
        })
    }

    /// Whether name and number are all that it looks at.
    pub(super) fn looks_at_number_only(&self) -> bool {
        self.conditions.iter().all(|condition| matches!(condition, Condition::Versions(_) | Condition::Advisories(_)))
    }

    pub(super) fn needs_signatures(&self) -> bool {
        self.conditions.iter().any(|condition| matches!(condition, Condition::Signature(_)))
    }

    /// An `allow` that names advisories lifts those, and nothing else.
    pub(super) fn lifted_advisories(&self) -> Option<&[String]> {
        self.conditions.iter().find_map(|condition| match condition {
            Condition::Advisories(ids) if self.effect == Effect::Allow => Some(ids.as_slice()),
            _ => None,
        })
    }

    pub(super) fn matches(&self, evidence: &Evidence<'_>) -> bool {
        self.conditions.iter().all(|condition| condition.holds(evidence))
    }
}

impl Condition {
    fn holds(&self, evidence: &Evidence<'_>) -> bool {
        let version = evidence.version;
        match self {
            Self::Versions(range) => {
                version.version.as_ref().is_some_and(|version| range.contains_with_prereleases(version))
            }
            Self::Licence(condition) => condition.holds(version.licence().as_deref()),
            Self::InstallScripts(InstallScripts::Present) => !version.install_scripts().is_empty(),
            Self::InstallScripts(InstallScripts::Introduced) => evidence.predecessor.is_some_and(|predecessor| {
                let before = predecessor.install_scripts();
                version.install_scripts().iter().any(|script| !before.contains(script))
            }),
            Self::NoProvenance => version.trust() == super::trust::Trust::None,
            Self::Signature(SignatureCondition::Missing) => (evidence.signature)() != Signature::Valid,
            Self::Signature(SignatureCondition::Invalid) => {
                !matches!((evidence.signature)(), Signature::Valid | Signature::Missing)
            }
            Self::WeakerTrust => (evidence.is_weaker)(),
            Self::Advisories(ids) => evidence.advisories.iter().any(|advisory| is_named(advisory, ids)),
        }
    }
}

/// Whether a list names an advisory, by its id or another name that it has.
pub(super) fn is_named(advisory: &Advisory, ids: &[String]) -> bool {
    ids.iter().any(|id| *id == advisory.id || advisory.aliases.contains(id))
}

impl LicenceCondition {
    fn holds(&self, licence: Option<&str>) -> bool {
        match self {
            Self::In(list) => licence::needs_one_of(licence, list),
            Self::NotIn(list) => licence::standing(licence, list) == Standing::Outside,
            Self::Unknown => licence::standing(licence, &[]) == Standing::Unknown,
        }
    }
}

impl NamePattern {
    /// Whether a name is in the set.
    pub fn matches(&self, name: &PackageName) -> bool {
        match self {
            Self::Known(pattern) => pattern.matches(name),
            Self::Glob(glob) => fits(glob.as_bytes(), name.as_str().as_bytes()),
        }
    }

    /// Whether every name of the other set is in this one, as far as can be told.
    pub(super) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Known(Pattern::Any), _) => true,
            (Self::Known(one), Self::Known(other)) => one.covers(other),
            (Self::Glob(_), Self::Known(Pattern::Exact(name))) => self.matches(name),
            (Self::Known(Pattern::Scope(scope)), Self::Glob(glob)) => glob.starts_with(&format!("{scope}/")),
            (Self::Known(Pattern::AnyScope), Self::Glob(glob)) => glob.starts_with('@'),
            _ => self == other,
        }
    }
}

/// Whether a text fits a glob whose only sign is the star. In one pass with one place to go back to, so that no pattern
/// takes long.
fn fits(glob: &[u8], text: &[u8]) -> bool {
    let (mut at_glob, mut at_text, mut back) = (0, 0, None);
    while at_text < text.len() {
        match glob.get(at_glob) {
            Some(b'*') => {
                back = Some((at_glob, at_text));
                at_glob += 1;
            }
            Some(letter) if *letter == text[at_text] => {
                at_glob += 1;
                at_text += 1;
            }
            _ => match back {
                Some((star, from)) if text[from] != b'/' => {
                    back = Some((star, from + 1));
                    at_glob = star + 1;
                    at_text = from + 1;
                }
                _ => return false,
            },
        }
    }
    glob[at_glob..].iter().all(|sign| *sign == b'*')
}

impl FromStr for NamePattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        match text.parse() {
            Ok(pattern) => Ok(Self::Known(pattern)),
            // With letters in place of its stars it has to be a name.
            Err(error) if text.contains('*') => {
                text.replace('*', "x").parse::<PackageName>().map_err(|_| error)?;
                Ok(Self::Glob(text.to_owned()))
            }
            Err(error) => Err(error),
        }
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(pattern) => pattern.fmt(f),
            Self::Glob(glob) => f.write_str(glob),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_stay_within_a_segment() {
        for (glob, name, expected) in [
            ("left-*", "left-pad", true),
            ("left-*", "left-", true),
            ("left-*", "right", false),
            ("*-loader", "css-loader", true),
            ("*-loader", "@a/css-loader", false),
            ("@acme/tool-*", "@acme/tool-x", true),
            ("@*/tool", "@acme/tool", true),
            ("a*b*c", "aXbYbc", true),
            ("a*b*c", "aXbYb", false),
        ] {
            let pattern: NamePattern = glob.parse().unwrap();
            assert_eq!(pattern.matches(&name.parse().unwrap()), expected, "{glob} {name}");
        }
        for text in ["", "@acme", "../*", "a b*", "@a/*/b"] {
            assert!(text.parse::<NamePattern>().is_err(), "{text}");
        }
    }
}
