//! The decision.
//!
//! Versions are looked at in ascending order, so that what a version introduces is told by the last one before it that is
//! offered: two malicious releases in a row do not vouch for each other.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::facts::{Facts, VersionFacts};
use super::look_alike::LookAlike;
use super::rule::{Effect, Evidence, Mode, Rule, is_named};
use super::trust::Trust;
use super::waiver::{Waiver, lifting};
use super::{Control, Policy};
use crate::advisories::Advisory;
use crate::npm::integrity::sha256_hex;
use crate::npm::signature::{Signature, SigningKey, verify};
use crate::npm::{PackageName, Timestamp, Version};

/// The hold where no rule says anything, as explanations call it.
const HOLD: &str = "hold";
/// The hold of new dependencies, likewise.
const CLOSURE: &str = "new-dependency";
/// The check of new names, likewise.
const LOOK_ALIKES: &str = "look-alike";
/// The threshold for vulnerabilities, likewise.
const VULNERABLE: &str = "vulnerable";
/// Versions older than this have shown what their dependencies are.
const CLOSURE_WINDOW: Duration = Duration::from_hours(24 * 30);
/// Questions for one package: more new dependencies in a month than any real one has.
const MAX_QUESTIONS: usize = 64;

/// Where a package comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin<'a> {
    /// Published here.
    Hosted,
    /// An upstream's, by the upstream's name.
    Upstream(&'a str),
}

/// What this installation remembers of a package of an upstream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Version to when it was first seen here (RFC 3339), where its date is not known or not believed.
    #[serde(default)]
    pub first_seen: BTreeMap<String, String>,
    /// Version to when its tarball was first brought in for somebody (RFC 3339).
    #[serde(default)]
    pub served: BTreeMap<String, String>,
    /// Version to what came of looking at its signatures when its tarball was brought in.
    #[serde(default)]
    pub signatures: BTreeMap<String, Signature>,
}

/// Something that has to be known of another package: when a dependency that a version newly has can be installed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Question {
    /// The dependency.
    pub name: PackageName,
    /// The range, tag or version of it.
    pub range: String,
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DependencyState {
    /// A version in the range is offered, or nothing can be said against it.
    Fine,
    /// What is in the range is held, the first of it until then.
    HeldUntil(Timestamp),
    /// Nothing in the range is offered, and time alone will not change that.
    Blocked,
}

/// All that a decision is made from, the document and the policy excepted.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// The package.
    pub name: &'a PackageName,
    /// Where it comes from.
    pub origin: Origin<'a>,
    /// The instant.
    pub now: Timestamp,
    /// What is remembered.
    pub record: &'a Record,
    /// What the name looks like, where it was never asked for before.
    pub look_alike: Option<&'a LookAlike>,
    /// The upstream's keys, where a rule looks at signatures.
    pub keys: &'a [SigningKey],
    /// Answers to questions of an earlier judgement.
    pub answers: &'a BTreeMap<Question, DependencyState>,
}

/// Why a version is withheld.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Too young.
    Held,
    /// Has a new dependency that is too young.
    HeldDependency,
    /// Its package's name looks like another's.
    LookAlike,
    /// Known to be malicious.
    Malicious,
    /// Known to be vulnerable.
    Vulnerable,
    /// A rule says so.
    Denied,
}

/// A version that is not offered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withheld {
    /// Why, in a word.
    pub cause: Cause,
    /// The rule that decided: a rule's id, an advisory's, or the name of a control that is built in.
    pub rule: String,
    /// Why, for people: goes after "is withheld:".
    pub reason: String,
    /// When it will be offered, if time alone will do it.
    pub available_at: Option<Timestamp>,
    /// What would let it through.
    pub allowed_if: String,
}

/// What a rule that only observes would have done, or what let a version through that is held otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// The version.
    pub version: String,
    /// The rule.
    pub rule: String,
    /// For people.
    pub note: String,
}

/// A tag that points elsewhere than its owner pointed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovedTag {
    /// The tag.
    pub tag: String,
    /// The version that is withheld.
    pub from: String,
    /// Where it points now; nowhere, where nothing is left for it.
    pub to: Option<String>,
}

/// What is offered of a package, and what not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judgement {
    /// By number, as the document spells it.
    pub withheld: BTreeMap<String, Withheld>,
    /// What was only noted.
    pub observed: Vec<Observation>,
    /// All tags as they are offered.
    pub tags: BTreeMap<String, String>,
    /// Those that were moved.
    pub moved: Vec<MovedTag>,
    /// How many versions are offered.
    pub offered: usize,
    /// The date of the newest that is offered, where dates are known.
    pub newest_offered: Option<Timestamp>,
    /// The next instant at which this answer may be another.
    pub until: Option<Timestamp>,
    /// Versions whose clock is when they were first seen, which nobody has noted yet.
    pub unseen: Vec<String>,
    /// What has to be asked before this answer is whole.
    pub questions: Vec<Question>,
}

/// Decides which versions of a package are offered. Pure: the same arguments give the same answer.
pub fn judge(policy: &Policy, facts: &Facts<'_>, situation: Situation<'_>) -> Judgement {
    let (rules, advisories) = (rules_in_force(policy, situation), known_of(policy, situation));
    let mut court = Court::new(policy, facts, situation, &rules, &advisories);
    for index in court.ascending() {
        let verdict = court.verdict(index);
        court.note(index, verdict);
    }
    court.settle_tags();
    court.judgement
}

/// Decides what can be decided of a version of an upstream by its name and number alone, whatever its document says or
/// whether there is one: malware, and rules that look at nothing else. For lists, in which nothing can be asked for each
/// line, and for what is still kept of a package that its upstream does not have any more.
pub fn judge_by_number(policy: &Policy, situation: Situation<'_>, version: &Version) -> Option<Withheld> {
    let facts = Facts::of_number(version);
    let mut rules = rules_in_force(policy, situation);
    rules.retain(|rule| rule.looks_at_number_only());
    let advisories = known_of(policy, situation);
    Court::new(policy, &facts, situation, &rules, &advisories).verdict_by_number(0).err()
}

/// The rules that speak of a package and have not ended.
fn rules_in_force<'a>(policy: &'a Policy, situation: Situation<'_>) -> Vec<&'a Rule> {
    let speaking = policy.rules().iter().filter(|rule| rule.speaks_of(situation.origin, situation.name));
    speaking.filter(|rule| !rule.is_over(situation.now)).collect()
}

/// What is known of a package. Names in advisories are those of the public registry; one of ours is another package.
fn known_of(policy: &Policy, situation: Situation<'_>) -> Vec<Advisory> {
    match situation.origin {
        Origin::Hosted => Vec::new(),
        Origin::Upstream(_) => policy.advisories().about(situation.name),
    }
}

impl Judgement {
    /// Why a version is withheld, by its number in whatever spelling: a document may have `1.0.0+build` where a file's name,
    /// read as a version, is `1.0.0`.
    pub fn refusal_of(&self, number: &str) -> Option<&Withheld> {
        self.withheld.get(number).or_else(|| {
            let wanted: Version = number.parse().ok()?;
            let is_odd = |own: &str| own.contains('+') || own.starts_with(['v', '=']);
            let mut odd = self.withheld.iter().filter(|(own, _)| is_odd(own));
            odd.find(|(own, _)| own.parse().ok().as_ref() == Some(&wanted)).map(|(_, withheld)| withheld)
        })
    }

    /// Changes with what is offered and with what is said of the rest; empty where all is offered.
    pub fn fingerprint(&self) -> String {
        if self.withheld.is_empty() {
            return String::new();
        }
        sha256_hex(format!("{:?}\n{:?}", self.withheld, self.tags).as_bytes())[..16].to_owned()
    }

    /// Of what is withheld, the reason to tell when nothing is offered: the one that ends first, else that of the highest
    /// version.
    pub fn most_telling(&self) -> Option<&Withheld> {
        let ending = self.withheld.values().filter(|withheld| withheld.available_at.is_some());
        ending.min_by_key(|withheld| withheld.available_at).or_else(|| {
            let highest = self.withheld.iter().max_by_key(|(number, _)| number.parse::<Version>().ok());
            highest.map(|(_, withheld)| withheld)
        })
    }

    /// What npm 7 and newer look for in a document (`npm-pick-manifest`, `policyRestrictions`): a version that is only in
    /// here is refused with the message.
    pub fn restrictions(&self, name: &PackageName) -> serde_json::Value {
        let versions: serde_json::Map<String, serde_json::Value> = self
            .withheld
            .iter()
            .map(|(number, withheld)| {
                let entry = serde_json::json!({
                    "name": name.as_str(),
                    "version": number,
                    "reason": withheld.reason,
                    "rule": withheld.rule,
                    "available_at": withheld.available_at,
                });
                (number.clone(), entry)
            })
            .collect();
        serde_json::json!({ "versions": versions, "message": self.summary(name) })
    }

    /// One line of ASCII for who is steered to another version than the package's owner tags as `latest`.
    pub fn notice(&self, name: &PackageName) -> Option<String> {
        let moved = self.moved.iter().find(|moved| moved.tag == "latest")?;
        let withheld = self.withheld.get(&moved.from)?;
        let instead = moved.to.as_deref().map_or_else(String::new, |to| format!(", {to} is offered in its place"));
        let until = withheld.available_at.map_or_else(String::new, |at| format!(" until {at}"));
        Some(one_line(&format!("{name}@{} is withheld{until}{instead}: {}", moved.from, withheld.reason)))
    }

    /// The newest of what is withheld, in a few lines for people.
    pub fn summary(&self, name: &PackageName) -> String {
        const LINES: usize = 5;
        let mut newest: Vec<(&String, &Withheld)> = self.withheld.iter().collect();
        newest.sort_by_cached_key(|(number, _)| std::cmp::Reverse(number.parse::<Version>().ok()));
        let mut lines: Vec<String> = newest
            .iter()
            .take(LINES)
            .map(|(number, withheld)| format!("{name}@{number} is withheld: {}", withheld.reason))
            .collect();
        if newest.len() > LINES {
            lines.push(format!("and {} more", newest.len() - LINES));
        }
        lines.join("\n")
    }
}

struct Court<'a> {
    policy: &'a Policy,
    facts: &'a Facts<'a>,
    situation: Situation<'a>,
    rules: &'a [&'a Rule],
    waivers: Vec<&'a Waiver>,
    advisories: &'a [Advisory],
    served: Vec<Version>,
    /// The strongest trust among earlier releases, for each version; worked out when a rule asks.
    strongest_before: OnceCell<Vec<Trust>>,
    last_offered: Option<usize>,
    last_offered_stable: Option<usize>,
    judgement: Judgement,
}

impl<'a> Court<'a> {
    fn new(
        policy: &'a Policy,
        facts: &'a Facts<'a>,
        situation: Situation<'a>,
        rules: &'a [&'a Rule],
        advisories: &'a [Advisory],
    ) -> Self {
        let Situation { name, now, record, .. } = situation;
        let waivers: Vec<&Waiver> = policy.waivers().about(name, now).collect();
        let ends =
            rules.iter().filter_map(|rule| rule.expires).chain(waivers.iter().filter_map(|waiver| waiver.ends()));
        let judgement = Judgement { until: ends.min(), ..Judgement::default() };
        let served = record.served.keys().filter_map(|number| number.parse().ok()).collect();
        Self {
            policy,
            facts,
            situation,
            rules,
            waivers,
            advisories,
            served,
            strongest_before: OnceCell::new(),
            last_offered: None,
            last_offered_stable: None,
            judgement,
        }
    }

    /// The versions by precedence; what is no version comes last.
    fn ascending(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.facts.versions.len()).collect();
        order.sort_by(|one, other| {
            let (one, other) = (&self.facts.versions[*one].version, &self.facts.versions[*other].version);
            one.is_none().cmp(&other.is_none()).then_with(|| one.cmp(other))
        });
        order
    }

    fn note(&mut self, index: usize, verdict: Option<Withheld>) {
        let version = &self.facts.versions[index];
        if let Some(withheld) = verdict {
            self.judgement.withheld.insert(version.number.clone().into_owned(), withheld);
            return;
        }
        self.judgement.offered += 1;
        self.judgement.newest_offered = self.judgement.newest_offered.max(version.published);
        if let Some(own) = &version.version {
            self.last_offered = Some(index);
            if !own.is_prerelease() {
                self.last_offered_stable = Some(index);
            }
        }
    }

    /// The release before this one that is offered.
    fn predecessor(&self, version: &VersionFacts<'_>) -> Option<&'a VersionFacts<'a>> {
        let own = version.version.as_ref()?;
        let index = if own.is_prerelease() { self.last_offered } else { self.last_offered_stable };
        index.map(|index| &self.facts.versions[index])
    }

    fn verdict(&mut self, index: usize) -> Option<Withheld> {
        let rules = match self.verdict_by_number(index) {
            Ok(rules) => rules,
            Err(withheld) => return Some(withheld),
        };
        let facts = self.facts;
        let version = &facts.versions[index];
        let upstream = self.upstream();
        if rules.is_allowed || lifting(&self.waivers, None, upstream, version).is_some() {
            return None;
        }
        self.look_alike(version)
            .or_else(|| self.too_young(version, rules.hold))
            .or_else(|| self.new_dependency(version))
    }

    /// What advisories and rules say, time aside.
    fn verdict_by_number(&mut self, index: usize) -> Result<RulesSay<'a>, Withheld> {
        let facts = self.facts;
        let version = &facts.versions[index];
        let advisories: Vec<&Advisory> =
            self.advisories.iter().filter(|advisory| is_about(advisory, version)).collect();
        if let Some(malware) = advisories.iter().find(|advisory| advisory.is_malware) {
            return Err(malicious(malware));
        }
        let rules = self.rules_for(index, &advisories);
        if let Some(advisory) = advisories.iter().find(|advisory| self.blocks(advisory, version, &rules.lifted)) {
            return Err(self.vulnerable(advisory, version));
        }
        match rules.denied {
            Some(rule) => Err(self.denied(rule)),
            None => Ok(rules),
        }
    }

    fn upstream(&self) -> &'a str {
        match self.situation.origin {
            Origin::Hosted => super::rule::HOSTED,
            Origin::Upstream(name) => name,
        }
    }

    /// What the rules say of a version: the first that allows or denies, and the longest hold before it.
    fn rules_for(&mut self, index: usize, advisories: &[&Advisory]) -> RulesSay<'a> {
        let facts = self.facts;
        let version = &facts.versions[index];
        let mut say = RulesSay::default();
        for rule in self.rules {
            let matches = {
                let is_weaker = || self.is_weaker(index);
                let signature = || self.signature(version);
                rule.matches(&Evidence {
                    version,
                    predecessor: self.predecessor(version),
                    is_weaker: &is_weaker,
                    signature: &signature,
                    advisories,
                })
            };
            if !matches {
                continue;
            }
            if rule.mode == Mode::Observe {
                if let Effect::Hold(hold) = rule.effect {
                    let mature_at = self.clock(version).plus(hold);
                    if mature_at <= self.situation.now {
                        continue;
                    }
                    self.changes_at(mature_at);
                }
                self.observe(version, &rule.id, &format!("the rule would {}", described(rule.effect)));
                continue;
            }
            match rule.effect {
                Effect::Allow => {
                    let Some(ids) = rule.lifted_advisories() else {
                        say.is_allowed = true;
                        break;
                    };
                    say.lifted.extend(ids.iter().cloned());
                }
                Effect::Deny => {
                    if lifting(&self.waivers, Some(&rule.id), self.upstream(), version).is_none() {
                        say.denied = Some(rule);
                        break;
                    }
                }
                Effect::Hold(hold) => {
                    if say.hold.is_none_or(|(longest, _)| longest < hold) {
                        say.hold = Some((hold, &rule.id));
                    }
                }
            }
        }
        say
    }

    fn observe(&mut self, version: &VersionFacts<'_>, rule: &str, note: &str) {
        self.judgement.observed.push(Observation {
            version: version.number.clone().into_owned(),
            rule: rule.to_owned(),
            note: note.to_owned(),
        });
    }

    fn is_weaker(&self, index: usize) -> bool {
        let strongest = self.strongest_before.get_or_init(|| self.strongest_before());
        self.facts.versions[index].trust() < strongest[index]
    }

    /// Earlier by date, where dates are known. What a prerelease had does not count against a stable release.
    fn strongest_before(&self) -> Vec<Trust> {
        let mut by_date: Vec<usize> = (0..self.facts.versions.len()).collect();
        by_date.sort_by_key(|index| self.facts.versions[*index].published);
        let mut strongest = vec![Trust::None; by_date.len()];
        let (mut of_all, mut of_stable) = (Trust::None, Trust::None);
        for index in by_date {
            let version = &self.facts.versions[index];
            let is_prerelease = version.version.as_ref().is_none_or(Version::is_prerelease);
            strongest[index] = if is_prerelease { of_all } else { of_stable };
            let own = version.trust();
            of_all = of_all.max(own);
            if !is_prerelease {
                of_stable = of_stable.max(own);
            }
        }
        strongest
    }

    fn signature(&self, version: &VersionFacts<'_>) -> Signature {
        let Some(integrity) = version.integrity() else { return Signature::Missing };
        let (name, keys) = (self.situation.name, self.situation.keys);
        verify(name, &version.number, &integrity, &version.signatures(), keys, version.published)
    }

    fn blocks(&self, advisory: &Advisory, version: &VersionFacts<'_>, lifted: &[String]) -> bool {
        let switches = self.policy.switches();
        let has_fix = || version.version.as_ref().is_some_and(|version| advisory.affected.has_fix_for(version));
        switches.block_vulnerable.is_some_and(|threshold| advisory.severity >= threshold)
            && (!switches.only_fixable || has_fix())
            && !is_named(advisory, lifted)
            && lifting(&self.waivers, Some(&advisory.id), self.upstream(), version).is_none()
    }

    fn vulnerable(&self, advisory: &Advisory, version: &VersionFacts<'_>) -> Withheld {
        let fix = version.version.as_ref().and_then(|version| {
            advisory.affected.fixes().iter().filter(|fix| *fix > version).min().map(ToString::to_string)
        });
        let fixed = fix.as_ref().map_or_else(String::new, |fix| format!("; fixed in {fix}"));
        Withheld {
            cause: Cause::Vulnerable,
            rule: VULNERABLE.to_owned(),
            reason: format!("{} ({}, {}){fixed}", advisory.summary, advisory.id, advisory.severity.as_str()),
            available_at: None,
            allowed_if: format!(
                "use {}, or an operator lets it through: `{} --rule {}`",
                fix.unwrap_or_else(|| "another version".to_owned()),
                self.waive(version),
                advisory.id
            ),
        }
    }

    fn denied(&self, rule: &Rule) -> Withheld {
        Withheld {
            cause: Cause::Denied,
            rule: rule.id.clone(),
            reason: format!("{} (rule `{}` by {})", rule.reason, rule.id, rule.author),
            available_at: rule.expires,
            allowed_if: format!(
                "the rule `{}` is changed, or an operator lets it through: `holdfast policy waive {} --rule {}`",
                rule.id, self.situation.name, rule.id
            ),
        }
    }

    fn look_alike(&mut self, version: &VersionFacts<'_>) -> Option<Withheld> {
        let found = self.situation.look_alike?;
        let name = self.situation.name;
        let reason = format!(
            "nobody here has asked for `{name}` before, and it looks like `{}`, which is in use",
            found.resembles
        );
        if self.policy.switches().look_alikes != Control::Enforce {
            self.observe(version, LOOK_ALIKES, &reason);
            return None;
        }
        Some(Withheld {
            cause: Cause::LookAlike,
            rule: LOOK_ALIKES.to_owned(),
            reason,
            available_at: None,
            allowed_if: format!(
                "`{}` is what was meant; else an operator lets it through: `holdfast policy waive {name}`",
                found.resembles
            ),
        })
    }

    /// When a version's age begins to count.
    fn clock(&mut self, version: &VersionFacts<'_>) -> Timestamp {
        let now = self.situation.now;
        // A date in the future is a wrong clock somewhere, or a lie.
        let believed = version.published.filter(|published| *published <= now);
        let is_trusted = match self.situation.origin {
            Origin::Hosted => true,
            Origin::Upstream(name) => self.policy.trusts_dates(name),
        };
        if let Some(published) = believed
            && is_trusted
        {
            return published;
        }
        let seen = self.situation.record.first_seen.get(&*version.number).and_then(|text| text.parse().ok());
        let seen = seen.unwrap_or_else(|| {
            self.judgement.unseen.push(version.number.clone().into_owned());
            now
        });
        believed.map_or(seen, |published| published.max(seen))
    }

    fn too_young(&mut self, version: &VersionFacts<'_>, hold_rule: Option<(Duration, &'a str)>) -> Option<Withheld> {
        let (hold, rule) = hold_rule.unwrap_or_else(|| (self.policy.default_hold(self.situation.origin), HOLD));
        if hold.is_zero() {
            return None;
        }
        let now = self.situation.now;
        let clock = self.clock(version);
        let mature_at = clock.plus(hold);
        if mature_at <= now {
            return None;
        }
        self.changes_at(mature_at);
        if self.was_served(version) {
            self.observe(version, rule, "it would be held, but was delivered before");
            return None;
        }
        if let Some(advisory) = self.fast_lane(version) {
            self.observe(
                version,
                rule,
                &format!("it would be held, but is the fix of {advisory}, which affects a version in use here"),
            );
            return None;
        }
        if self.policy.switches().hold_control != Control::Enforce && rule == HOLD {
            self.observe(version, rule, "it would be held");
            return None;
        }
        let began = if version.published == Some(clock) {
            "it was published at"
        } else {
            "its date is not known or not believed, and it was first seen here at"
        };
        Some(Withheld {
            cause: Cause::Held,
            rule: rule.to_owned(),
            reason: format!("{began} {clock}, and releases are held for {} (rule `{rule}`)", spelled(hold)),
            available_at: Some(mature_at),
            allowed_if: format!(
                "it is offered from {mature_at} on; before that an operator can let it through: `{}`",
                self.waive(version)
            ),
        })
    }

    fn was_served(&self, version: &VersionFacts<'_>) -> bool {
        let is_in_record = version.version.as_ref().is_some_and(|own| self.served.contains(own));
        is_in_record && self.policy.switches().keep_served
    }

    /// The advisory that names this version as the fix for a version which was delivered here.
    fn fast_lane(&self, version: &VersionFacts<'_>) -> Option<String> {
        let own = version.version.as_ref()?;
        let fixes = |advisory: &&Advisory| {
            !advisory.is_malware
                && advisory.affected.fixes().contains(own)
                && self.served.iter().any(|served| advisory.affected.contains(served))
        };
        self.advisories.iter().find(fixes).map(|advisory| advisory.id.clone())
    }

    /// Holds a version that newly has a dependency which is held itself.
    fn new_dependency(&mut self, version: &VersionFacts<'_>) -> Option<Withheld> {
        let switches = self.policy.switches();
        if switches.closure == Control::Off || self.situation.origin == Origin::Hosted || self.was_served(version) {
            return None;
        }
        let window = version.published?.plus(CLOSURE_WINDOW);
        if window <= self.situation.now {
            return None;
        }
        let before = self.predecessor(version)?.dependencies();
        let mut latest: Option<(Option<Timestamp>, String)> = None;
        for (alias, range) in version.dependencies().into_iter().filter(|(name, _)| !before.contains_key(name)) {
            let Some(question) = question(&alias, &range) else { continue };
            match self.situation.answers.get(&question) {
                None if self.judgement.questions.len() < MAX_QUESTIONS => {
                    if !self.judgement.questions.contains(&question) {
                        self.judgement.questions.push(question);
                    }
                }
                Some(DependencyState::HeldUntil(instant)) => {
                    if latest.as_ref().is_none_or(|(other, _)| other.is_some_and(|other| other < *instant)) {
                        latest = Some((Some(*instant), question.name.to_string()));
                    }
                }
                Some(DependencyState::Blocked) => latest = Some((None, question.name.to_string())),
                None | Some(DependencyState::Fine) => {}
            }
        }
        let (instant, dependency) = latest?;
        let reason = match instant {
            Some(instant) => format!("it newly depends on `{dependency}`, which is held itself until {instant}"),
            None => format!("it newly depends on `{dependency}`, of which nothing that fits is offered"),
        };
        if let Some(instant) = instant {
            self.changes_at(instant);
        }
        if switches.closure == Control::Observe {
            self.observe(version, CLOSURE, &reason);
            return None;
        }
        Some(Withheld {
            cause: Cause::HeldDependency,
            rule: CLOSURE.to_owned(),
            reason,
            available_at: instant,
            allowed_if: format!(
                "it is offered once `{dependency}` is; before that an operator can let it through: `{}`",
                self.waive(version)
            ),
        })
    }

    fn waive(&self, version: &VersionFacts<'_>) -> String {
        format!("holdfast policy waive {}@{}", self.situation.name, version.number)
    }

    fn changes_at(&mut self, instant: Timestamp) {
        self.judgement.until = Some(self.judgement.until.map_or(instant, |until| until.min(instant)));
    }

    /// Moves tags off withheld versions: to the highest that is offered, not above their target and of its class. `latest`
    /// is there as long as anything is.
    fn settle_tags(&mut self) {
        let facts = self.facts;
        let offered: Vec<(&VersionFacts<'_>, &Version)> = facts
            .versions
            .iter()
            .filter(|version| !self.judgement.withheld.contains_key(&*version.number))
            .filter_map(|version| Some((version, version.version.as_ref()?)))
            .collect();
        let highest = |fits: &dyn Fn(&Version) -> bool| {
            let fitting = offered.iter().filter(|(_, version)| fits(version));
            fitting.max_by_key(|(_, version)| *version).map(|(found, _)| found.number.clone().into_owned())
        };
        for (tag, target) in &facts.tags {
            if !self.judgement.withheld.contains_key(target) {
                self.judgement.tags.insert(tag.clone(), target.clone());
                continue;
            }
            let below = target.parse::<Version>().ok().and_then(|target| {
                highest(&|version: &Version| *version <= target && version.is_of_same_class(&target))
            });
            let replacement = match below {
                None if tag == "latest" => {
                    highest(&|version: &Version| !version.is_prerelease()).or_else(|| highest(&|_: &Version| true))
                }
                other => other,
            };
            if let Some(to) = &replacement {
                self.judgement.tags.insert(tag.clone(), to.clone());
            }
            self.judgement.moved.push(MovedTag { tag: tag.clone(), from: target.clone(), to: replacement });
        }
    }
}

/// A text as a header can hold it: one line of ASCII.
pub fn one_line(text: &str) -> String {
    text.chars().map(|letter| if letter.is_ascii() && !letter.is_control() { letter } else { '?' }).collect()
}

/// What the rules say of a version.
#[derive(Default)]
struct RulesSay<'a> {
    is_allowed: bool,
    denied: Option<&'a Rule>,
    hold: Option<(Duration, &'a str)>,
    lifted: Vec<String>,
}

fn malicious(advisory: &Advisory) -> Withheld {
    Withheld {
        cause: Cause::Malicious,
        rule: advisory.id.clone(),
        reason: format!("it is known to be malicious: {} ({})", advisory.summary, advisory.id),
        available_at: None,
        allowed_if: "never; use another version or another package".to_owned(),
    }
}

fn is_about(advisory: &Advisory, version: &VersionFacts<'_>) -> bool {
    match &version.version {
        Some(version) => advisory.affected.contains(version),
        None => advisory.affected.everything(),
    }
}

/// What is to be asked of a dependency; nothing, where it comes from elsewhere than a registry.
fn question(alias: &str, range: &str) -> Option<Question> {
    let (name, range) = match range.strip_prefix("npm:") {
        Some(aliased) => {
            let at = aliased.rfind('@').filter(|at| *at > 0);
            at.map_or((aliased, "*"), |at| (&aliased[..at], &aliased[at + 1..]))
        }
        None => (alias, range),
    };
    // A path, an address of git or of a file.
    if range.contains([':', '/']) {
        return None;
    }
    Some(Question { name: name.parse().ok()?, range: range.to_owned() })
}

fn described(effect: Effect) -> String {
    match effect {
        Effect::Allow => "let it through".to_owned(),
        Effect::Deny => "withhold it".to_owned(),
        Effect::Hold(hold) => format!("hold it for {}", spelled(hold)),
    }
}

/// A time span for people.
fn spelled(span: Duration) -> String {
    let minutes = span.as_secs() / 60;
    match (minutes % (24 * 60), minutes % 60) {
        // Hours are what holds are counted in, up to a week.
        (0, _) if minutes >= 7 * 24 * 60 => format!("{} days", minutes / (24 * 60)),
        (_, 0) => format!("{} hours", minutes / 60),
        _ => format!("{minutes} minutes"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::advisories::Index;
    use crate::policy::{Switches, Waivers};

    const NOW: &str = "2026-11-24T00:00:00.000Z";

    /// A document of versions, each with its age in hours; negative for a date that is still to come.
    fn document(versions: &[(String, i64)], tags: &[(String, String)]) -> String {
        let now: Timestamp = NOW.parse().unwrap();
        let time: serde_json::Map<String, serde_json::Value> = versions
            .iter()
            .map(|(number, hours)| {
                let published = Timestamp::from_millis(now.as_millis() - hours * 3_600_000);
                (number.clone(), published.to_string().into())
            })
            .collect();
        let objects: serde_json::Map<String, serde_json::Value> =
            versions.iter().map(|(number, _)| (number.clone(), serde_json::json!({}))).collect();
        let tags: BTreeMap<_, _> = tags.iter().cloned().collect();
        serde_json::json!({ "dist-tags": tags, "time": time, "versions": objects }).to_string()
    }

    fn judged(document: &str, now: Timestamp) -> Judgement {
        let policy = Policy::new(Switches::default(), Vec::new(), Waivers::default(), Index::empty());
        let (name, record, answers) = ("x".parse().unwrap(), Record::default(), BTreeMap::new());
        let facts = Facts::parse(document.as_bytes()).unwrap();
        let origin = Origin::Upstream("default");
        let situation =
            Situation { name: &name, origin, now, record: &record, look_alike: None, keys: &[], answers: &answers };
        judge(&policy, &facts, situation)
    }

    fn versions() -> impl Strategy<Value = Vec<(String, i64)>> {
        let number = ("[0-3]", "[0-3]", "(-(rc|beta)\\.[0-3])?").prop_map(|(a, b, c)| format!("{a}.{b}.0{c}"));
        prop::collection::btree_map(number, 0i64..150, 1..12).prop_map(|found| found.into_iter().collect())
    }

    proptest! {
        #[test]
        fn tags_point_to_what_is_offered_and_not_above_their_target(
            versions in versions(),
            picks in prop::collection::vec((0usize..3, any::<prop::sample::Index>()), 1..4),
        ) {
            let names = ["latest", "next", "old"];
            let tags: Vec<(String, String)> = picks
                .iter()
                .map(|(tag, pick)| (names[*tag].to_owned(), versions[pick.index(versions.len())].0.clone()))
                .collect();
            let text = document(&versions, &tags);
            let original = Facts::parse(text.as_bytes()).unwrap().tags;
            let judgement = judged(&text, NOW.parse().unwrap());
            prop_assert_eq!(judgement.offered + judgement.withheld.len(), versions.len());
            for (number, hours) in &versions {
                prop_assert_eq!(judgement.withheld.contains_key(number), *hours < 72, "{}", number);
            }
            for (tag, number) in &judgement.tags {
                prop_assert!(!judgement.withheld.contains_key(number));
                let (now, before): (Version, Version) = (number.parse().unwrap(), original[tag].parse().unwrap());
                prop_assert!(tag == "latest" || (now <= before && now.is_of_same_class(&before)), "{} {}", now, before);
            }
            if original.contains_key("latest") && judgement.offered > 0 {
                let latest: Version = judgement.tags["latest"].parse().unwrap();
                let is_stable_left = versions.iter().any(|(number, _)| {
                    !judgement.withheld.contains_key(number) && !number.contains('-')
                });
                let was_stable = !original["latest"].contains('-');
                prop_assert!(!was_stable || !is_stable_left || !latest.is_prerelease());
            }
        }

        #[test]
        fn the_answer_holds_until_the_instant_that_it_names(versions in versions(), minutes in 0u64..6000) {
            let text = document(&versions, &[("latest".to_owned(), versions[0].0.clone())]);
            let now: Timestamp = NOW.parse().unwrap();
            let judgement = judged(&text, now);
            let later = now.plus(Duration::from_mins(minutes));
            let again = judged(&text, later);
            match judgement.until {
                Some(until) if until <= later => {
                    // A millisecond before it is what it was, and then something more is offered.
                    let before = judged(&text, Timestamp::from_millis(until.as_millis() - 1));
                    prop_assert_eq!(&before.withheld, &judgement.withheld);
                    prop_assert!(judged(&text, until).offered > judgement.offered);
                }
                _ => prop_assert_eq!(&again.withheld, &judgement.withheld),
            }
            // Time alone takes nothing away.
            prop_assert!(again.offered >= judgement.offered);
        }
    }

    #[test]
    fn what_is_no_version_is_judged_by_its_date() {
        let versions = [("1.0.0".to_owned(), 100), ("one".to_owned(), 100), ("two".to_owned(), 1)];
        let text = document(&versions, &[("latest".to_owned(), "two".to_owned())]);
        let judgement = judged(&text, NOW.parse().unwrap());
        assert_eq!(judgement.withheld.keys().collect::<Vec<_>>(), ["two"]);
        assert_eq!(judgement.tags["latest"], "1.0.0");
    }

    #[test]
    fn aliases_and_addresses_of_dependencies_are_told_apart() {
        for (alias, range, expected) in [
            ("a", "^1.0.0", Some(("a", "^1.0.0"))),
            ("a", "npm:@s/b@^2", Some(("@s/b", "^2"))),
            ("a", "npm:b", Some(("b", "*"))),
            ("a", "file:../x", None),
            ("a", "git+ssh://x", None),
            ("a", "acme/x", None),
            ("a", "latest", Some(("a", "latest"))),
        ] {
            let found = question(alias, range);
            let found = found.as_ref().map(|question| (question.name.as_str(), question.range.as_str()));
            assert_eq!(found, expected, "{range}");
        }
    }
}
