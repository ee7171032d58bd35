//! Which versions of a package are offered, and why the others are not.
//!
//! One pure function, [`judge`], decides for every way in which a version can be reached: packument, tags, one version,
//! tarball, search, audit. So no path disagrees with another. It gets what a document says ([`Facts`]), what this
//! installation remembers of the package ([`Record`]) and the instant, and returns what is withheld, by which rule, until
//! when, and the next instant at which its answer changes. It reads nothing and asks nobody: what it would have to ask, it
//! returns as questions.

mod explanation;
mod facts;
mod judge;
mod licence;
mod look_alike;
mod rule;
mod rules_file;
mod trust;
mod waiver;

use std::collections::BTreeMap;
use std::time::Duration;

pub use explanation::{Explanation, Verdict, VersionVerdict, WithheldVersion};
pub use facts::{Facts, VersionFacts};
pub use judge::{
    Cause, DependencyState, Judgement, MovedTag, Observation, Origin, Question, Record, Situation, Withheld, judge,
    judge_by_number, one_line,
};
pub use look_alike::{LookAlike, look_alike};
pub use rule::{
    Condition, Effect, HOSTED, InstallScripts, LicenceCondition, Mode, NamePattern, Rule, SignatureCondition,
};
pub use rules_file::{RuleMistake, duration, parse as parse_rules};
pub use waiver::{Waiver, Waivers};

use crate::advisories::{self, Severity};
use crate::npm::PackageName;
use crate::npm::integrity::sha256_hex;

/// How a control that is built in acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Not at all.
    Off,
    /// It is noted what it would have withheld.
    Observe,
    /// It withholds.
    Enforce,
}

/// The switches of the policy, from the settings.
#[derive(Debug, Clone)]
pub struct Switches {
    /// How long a release of an upstream is held.
    pub hold: Duration,
    /// What differs for single upstreams, by name.
    pub upstreams: BTreeMap<String, UpstreamSwitches>,
    /// Whether the hold is enforced.
    pub hold_control: Control,
    /// The hold of versions that newly add a dependency which is itself held.
    pub closure: Control,
    /// Names never asked for before that look like one in use.
    pub look_alikes: Control,
    /// A version that was delivered stays, when a hold would take it back.
    pub keep_served: bool,
    /// Vulnerable versions are withheld from this severity on; never, where there is none.
    pub block_vulnerable: Option<Severity>,
    /// Of vulnerable versions only those are withheld for which a fix exists.
    pub only_fixable: bool,
}

/// What is different for one upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpstreamSwitches {
    /// How long its releases are held, where that is not the common time.
    pub hold: Option<Duration>,
    /// Whether its dates of publication are believed. Where not, a version's age counts from when it was first seen here.
    pub trust_dates: bool,
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            hold: Duration::from_hours(72),
            upstreams: BTreeMap::new(),
            hold_control: Control::Enforce,
            closure: Control::Enforce,
            look_alikes: Control::Observe,
            keep_served: true,
            block_vulnerable: None,
            only_fixable: true,
        }
    }
}

/// Everything that decides, as it stands at one moment. Made anew when rules, waivers or advisories change.
#[derive(Debug, Clone)]
pub struct Policy {
    switches: Switches,
    rules: Vec<Rule>,
    waivers: Waivers,
    advisories: advisories::Index,
    epoch: String,
}

impl Policy {
    /// Puts the parts together.
    pub fn new(switches: Switches, rules: Vec<Rule>, waivers: Waivers, advisories: advisories::Index) -> Self {
        let parts = format!("{switches:?}\n{rules:?}\n{waivers:?}\n{}", advisories.fingerprint());
        let epoch = sha256_hex(parts.as_bytes())[..16].to_owned();
        Self { switches, rules, waivers, advisories, epoch }
    }

    /// Changes with everything that decides.
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// The switches.
    pub fn switches(&self) -> &Switches {
        &self.switches
    }

    /// The rules, in their order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// What persons have let through.
    pub fn waivers(&self) -> &Waivers {
        &self.waivers
    }

    /// What is known to be malicious or vulnerable.
    pub fn advisories(&self) -> &advisories::Index {
        &self.advisories
    }

    /// Whether anything here can bear on a package. Where not, nothing has to be judged.
    pub fn concerns(&self, origin: Origin<'_>, name: &PackageName) -> bool {
        match origin {
            Origin::Hosted => self.rules.iter().any(|rule| rule.speaks_of(origin, name)),
            Origin::Upstream(_) => {
                let switches = &self.switches;
                !self.longest_hold(origin, name).is_zero()
                    || switches.look_alikes != Control::Off
                    || self.rules.iter().any(|rule| rule.speaks_of(origin, name))
                    || self.advisories.knows(name)
            }
        }
    }

    /// Whether a rule for this package looks at something that only the full form of a document has.
    pub fn needs_full_form(&self, origin: Origin<'_>, name: &PackageName) -> bool {
        self.rules.iter().any(|rule| rule.speaks_of(origin, name) && rule.needs_full_form())
    }

    /// Whether a rule for this package looks at the upstream's signatures.
    pub fn needs_signatures(&self, origin: Origin<'_>, name: &PackageName) -> bool {
        self.rules.iter().any(|rule| rule.speaks_of(origin, name) && rule.needs_signatures())
    }

    /// How long releases of this origin are held where no rule says anything.
    pub fn default_hold(&self, origin: Origin<'_>) -> Duration {
        match origin {
            Origin::Hosted => Duration::ZERO,
            Origin::Upstream(_) if self.switches.hold_control == Control::Off => Duration::ZERO,
            Origin::Upstream(name) => {
                self.switches.upstreams.get(name).and_then(|own| own.hold).unwrap_or(self.switches.hold)
            }
        }
    }

    /// The longest that any version of the package can be held: documents that have not changed for so long hold nothing
    /// back.
    pub fn longest_hold(&self, origin: Origin<'_>, name: &PackageName) -> Duration {
        let rules = self.rules.iter().filter(|rule| rule.speaks_of(origin, name)).filter_map(Rule::hold);
        rules.chain([self.default_hold(origin)]).max().unwrap_or_default()
    }

    /// Whether an upstream's dates of publication are believed.
    pub fn trusts_dates(&self, upstream: &str) -> bool {
        self.switches.upstreams.get(upstream).is_none_or(|own| own.trust_dates)
    }
}
