//! The policy applied: which policy is in force, and what it says of a document, judged once and remembered until it may
//! be another.
//!
//! A judgement holds for one revision of a document, one state of the policy, and a span of time. A clock that is set
//! back leaves the span as one that goes on does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio_util::sync::CancellationToken;

use super::proxied::{Found, ProxiedDocument};
use super::records::{RecordId, id_of};
use super::source::Route;
use super::waivers::WaiverBook;
use super::{Error, Refused, Registry, byte_cache};
use crate::advisories;
use crate::npm::signature::SigningKey;
use crate::npm::{Form, PackageName, Range, Timestamp, Version};
use crate::policy::{
    self, Control, DependencyState, Facts, Judgement, LookAlike, Origin, Policy, Question, Record, Rule, Situation,
    Switches, Withheld,
};
use crate::storage::KeyedLocks;
use crate::upstream::Upstream;

/// Judgements remembered. Most withhold nothing and are small, so that this is some fifty thousand.
const REMEMBERED_BYTES: u64 = 32 << 20;
/// Rounds of questions about one document.
const MAX_ROUNDS: usize = 4;
/// How long an answer about a dependency is good that could not be had.
pub(super) const ASK_AGAIN: Duration = Duration::from_mins(1);

/// What was judged, and how long it holds.
#[derive(Debug)]
pub struct Judged {
    /// What is offered and what not.
    pub judgement: Judgement,
    /// The state of the policy that decided.
    pub epoch: String,
    /// Changes with what is offered; empty where all is.
    pub fingerprint: String,
    /// [`Judgement::notice`], made once: a read must not cost more for it.
    pub notice: Option<String>,
    revision: String,
    from: Timestamp,
}

/// How the policy is kept up to date.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct PolicyHealth {
    /// Since when a rules file lies there that is not in force, because it has mistakes.
    pub rules_rejected_since: Option<Timestamp>,
    /// When the advisories in force were compiled.
    pub advisories_compiled: Option<Timestamp>,
    /// Since when refreshing the advisories fails.
    pub advisories_failing_since: Option<Timestamp>,
}

/// A flat sum, and what a withheld version takes with its reasons.
#[derive(Debug, Clone, Copy)]
struct JudgedWeighter;

impl Weighter<RecordId, Arc<Judged>> for JudgedWeighter {
    fn weight(&self, _: &RecordId, judged: &Arc<Judged>) -> u64 {
        let judgement = &judged.judgement;
        600 + 500 * (judgement.withheld.len() + judgement.observed.len()) as u64 + 60 * judgement.tags.len() as u64
    }
}

/// What a policy is made of, of which each part can change.
struct Parts {
    switches: Switches,
    rules: Vec<Rule>,
    advisories: advisories::Index,
}

/// The policy in force, and what it has decided.
pub(super) struct Screening {
    parts: Mutex<Parts>,
    waivers: WaiverBook,
    /// With the number of changes of the waivers that it was made at.
    current: RwLock<(Arc<Policy>, u64)>,
    judged: Cache<RecordId, Arc<Judged>, JudgedWeighter>,
    locks: KeyedLocks<RecordId>,
    health: Mutex<PolicyHealth>,
    /// Cancelled once waivers and advisories were read for the first time.
    loaded: CancellationToken,
}

impl Screening {
    pub(super) fn new(switches: Switches, rules: Vec<Rule>, waivers: WaiverBook) -> Self {
        let parts = Parts { switches, rules, advisories: advisories::Index::empty() };
        let (listed, changes) = waivers.current();
        let policy = Policy::new(parts.switches.clone(), parts.rules.clone(), listed, parts.advisories.clone());
        Self {
            parts: Mutex::new(parts),
            waivers,
            current: RwLock::new((Arc::new(policy), changes)),
            judged: byte_cache(REMEMBERED_BYTES, JudgedWeighter),
            locks: KeyedLocks::default(),
            health: Mutex::default(),
            loaded: CancellationToken::new(),
        }
    }

    pub(super) fn judged_bytes(&self) -> u64 {
        self.judged.weight()
    }

    fn remake(&self, change: impl FnOnce(&mut Parts)) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut parts);
        let (waivers, changes) = self.waivers.current();
        let policy = Policy::new(parts.switches.clone(), parts.rules.clone(), waivers, parts.advisories.clone());
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = (Arc::new(policy), changes);
    }
}

impl Registry {
    /// The policy in force.
    pub fn policy(&self) -> Arc<Policy> {
        let (policy, made_at) = {
            let current = self.inner.screening.current.read().unwrap_or_else(PoisonError::into_inner);
            (Arc::clone(&current.0), current.1)
        };
        if made_at == self.inner.screening.waivers.changes() {
            return policy;
        }
        self.inner.screening.remake(|_| {});
        Arc::clone(&self.inner.screening.current.read().unwrap_or_else(PoisonError::into_inner).0)
    }

    /// Says that what was stored of the policy is in force, or cannot be: until then no document is judged.
    pub fn note_policy_loaded(&self) {
        self.inner.screening.loaded.cancel();
    }

    /// Waits for that, which takes a moment after a start.
    pub(super) async fn policy_loaded(&self) {
        let loaded = &self.inner.screening.loaded;
        if !loaded.is_cancelled() {
            loaded.cancelled().await;
        }
    }

    /// Puts other rules in force. Requests under way end by the old ones.
    pub fn set_rules(&self, rules: Vec<Rule>) {
        self.inner.screening.remake(|parts| parts.rules = rules);
    }

    /// Puts other switches and rules in force, likewise.
    pub fn set_policy(&self, switches: Switches, rules: Vec<Rule>) {
        self.inner.screening.remake(|parts| (parts.switches, parts.rules) = (switches, rules));
    }

    /// Puts other advisories in force.
    pub fn set_advisories(&self, index: advisories::Index) {
        self.inner.screening.remake(|parts| parts.advisories = index);
    }

    /// What persons have let through.
    pub fn waivers(&self) -> &WaiverBook {
        &self.inner.screening.waivers
    }

    /// How the policy is kept up to date.
    pub fn policy_health(&self) -> PolicyHealth {
        self.inner.screening.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes how it is kept up to date.
    pub fn note_policy_health(&self, change: impl FnOnce(&mut PolicyHealth)) {
        change(&mut self.inner.screening.health.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// An upstream's document in the form that is wanted, or in the full one where the dates in it decide: a short one that
    /// has not changed for as long as anything is held needs none.
    pub(super) async fn datable_document(
        &self,
        upstream: &Upstream,
        name: &PackageName,
        wanted: Form,
    ) -> Result<Found, Error> {
        let (policy, origin) = (self.policy(), Origin::Upstream(upstream.name()));
        if wanted == Form::Full || policy.needs_full_form(origin, name) {
            return self.proxied_document(upstream, name, Form::Full).await;
        }
        let found = self.proxied_document(upstream, name, wanted).await?;
        if self.is_datable(upstream, name, &found.document) {
            return Ok(found);
        }
        self.proxied_document(upstream, name, Form::Full).await
    }

    /// Whether a document tells what the policy has to know.
    pub(super) fn is_datable(&self, upstream: &Upstream, name: &PackageName, document: &ProxiedDocument) -> bool {
        if document.form == Form::Full {
            return true;
        }
        let (policy, origin) = (self.policy(), Origin::Upstream(upstream.name()));
        if policy.needs_full_form(origin, name) {
            return false;
        }
        let hold = policy.longest_hold(origin, name);
        let is_old = |changed: Timestamp| changed.plus(hold) <= self.inner.clock.now();
        hold.is_zero() || document.modified.is_some_and(is_old)
    }

    /// What the policy says of an upstream's document; `None` where it has nothing to say.
    pub(super) async fn judged_upstream(
        &self,
        upstream: &Upstream,
        name: &PackageName,
        found: &Found,
    ) -> Result<Option<Arc<Judged>>, Error> {
        let revision = found.document.revision.as_str();
        self.policy_loaded().await;
        let policy = self.policy();
        let id = id_of(upstream, name);
        if let Some(judged) = self.still_judged(&id, revision, &policy) {
            return Ok(Some(judged));
        }
        if !policy.concerns(Origin::Upstream(upstream.name()), name) {
            return Ok(None);
        }
        let _held = self.inner.screening.locks.lock(&id).await;
        if let Some(judged) = self.still_judged(&id, revision, &policy) {
            return Ok(Some(judged));
        }
        let now = self.inner.clock.now();
        let body = self.body_of(upstream, name, found).await?;
        let judgement = self.judge_fully(&policy, upstream, name, body, now).await?;
        Ok(Some(self.remember_judgement(id, revision, &policy, judgement, now)))
    }

    /// What the policy says of a hosted document; `None` where it has nothing to say.
    pub(super) async fn judged_hosted(&self, name: &PackageName, revision: &str) -> Result<Option<Arc<Judged>>, Error> {
        self.policy_loaded().await;
        let policy = self.policy();
        if !policy.concerns(Origin::Hosted, name) {
            return Ok(None);
        }
        let id = (Arc::from(""), name.clone());
        match self.still_judged(&id, revision, &policy) {
            Some(judged) => Ok(Some(judged)),
            None => Box::pin(self.judge_hosted(id, revision, policy)).await.map(Some),
        }
    }

    async fn judge_hosted(&self, id: RecordId, revision: &str, policy: Arc<Policy>) -> Result<Arc<Judged>, Error> {
        let name = &id.1;
        let now = self.inner.clock.now();
        let body = self.hosted_document(name).await?;
        let material = Material::default();
        let (answers, name) = (BTreeMap::new(), name.clone());
        let judged_by = Arc::clone(&policy);
        let judgement = self
            .off_thread(body.len(), move || judge(&judged_by, &body, &name, Origin::Hosted, now, &material, &answers))
            .await?;
        Ok(self.remember_judgement(id, revision, &policy, judgement, now))
    }

    fn still_judged(&self, id: &RecordId, revision: &str, policy: &Policy) -> Option<Arc<Judged>> {
        let judged = self.inner.screening.judged.get(id)?;
        let now = self.inner.clock.now();
        let holds = judged.revision == revision
            && judged.epoch == policy.epoch()
            && judged.from <= now
            && judged.judgement.until.is_none_or(|until| now < until);
        holds.then_some(judged)
    }

    fn remember_judgement(
        &self,
        id: RecordId,
        revision: &str,
        policy: &Policy,
        judgement: Judgement,
        from: Timestamp,
    ) -> Arc<Judged> {
        let judged = Arc::new(Judged {
            fingerprint: judgement.fingerprint(),
            notice: judgement.notice(&id.1),
            judgement,
            epoch: policy.epoch().to_owned(),
            revision: revision.to_owned(),
            from,
        });
        self.inner.screening.judged.insert(id, Arc::clone(&judged));
        judged
    }

    /// Forgets what was judged of a package, because a version of it was delivered: that bears on what was withheld or
    /// noted, and on nothing else.
    pub(super) fn forget_judgement(&self, upstream: &Upstream, name: &PackageName) {
        let bears_on =
            |judged: &Arc<Judged>| !judged.judgement.withheld.is_empty() || !judged.judgement.observed.is_empty();
        let id = id_of(upstream, name);
        if self.inner.screening.judged.get(&id).as_ref().is_some_and(bears_on) {
            self.inner.screening.judged.remove(&id);
        }
    }

    /// Judges, and again as long as a judgement leaves something to be noted or asked.
    async fn judge_fully(
        &self,
        policy: &Arc<Policy>,
        upstream: &Upstream,
        name: &PackageName,
        body: Bytes,
        now: Timestamp,
    ) -> Result<Judgement, Error> {
        let mut material = self.material(policy, upstream, name).await?;
        let mut answers = BTreeMap::new();
        let mut judgement = self.judged_once(policy, upstream, name, &body, now, &material, &answers).await?;
        let (mut ask_again, mut is_noted) = (None, false);
        // What is offered in place of a version that turns out to be held may have new dependencies of its own.
        for _ in 0..MAX_ROUNDS {
            let unseen = std::mem::take(&mut judgement.unseen);
            let questions = std::mem::take(&mut judgement.questions);
            if questions.is_empty() && (unseen.is_empty() || is_noted) {
                break;
            }
            if !unseen.is_empty() && !is_noted {
                is_noted = true;
                match self.note_first_seen(upstream, name, unseen, now).await {
                    Ok(record) => material.record = record,
                    // With no room to note it, their clock does not run yet. They are withheld either way.
                    Err(error) => {
                        tracing::error!(package.name = %name, %error, "when versions were first seen could not be noted");
                        ask_again = Some(now.plus(ASK_AGAIN));
                    }
                }
            }
            for question in questions {
                let state = match Box::pin(self.dependency_state(policy, &question, now)).await {
                    Ok(state) => state,
                    Err(error) => {
                        tracing::debug!(package.name = %name, dependency = %question.name, %error, "a new dependency could not be looked at");
                        // Nobody can install it now in any case.
                        DependencyState::Blocked
                    }
                };
                if state == DependencyState::Blocked {
                    ask_again = Some(now.plus(ASK_AGAIN));
                }
                answers.insert(question, state);
            }
            judgement = self.judged_once(policy, upstream, name, &body, now, &material, &answers).await?;
        }
        if !judgement.questions.is_empty() {
            ask_again = Some(now.plus(ASK_AGAIN));
        }
        judgement.until = judgement.until.into_iter().chain(ask_again).chain(material.keys_until).min();
        Ok(judgement)
    }

    #[expect(clippy::too_many_arguments, reason = "all that a judgement is made from")]
    async fn judged_once(
        &self,
        policy: &Arc<Policy>,
        upstream: &Upstream,
        name: &PackageName,
        body: &Bytes,
        now: Timestamp,
        material: &Material,
        answers: &BTreeMap<Question, DependencyState>,
    ) -> Result<Judgement, Error> {
        let (policy, upstream, name, body) = (Arc::clone(policy), upstream.clone(), name.clone(), body.clone());
        let (material, answers) = (material.clone(), answers.clone());
        self.off_thread(body.len(), move || {
            judge(&policy, &body, &name, Origin::Upstream(upstream.name()), now, &material, &answers)
        })
        .await
    }

    /// Why a version of an upstream is withheld, as far as its name and number tell: see [`policy::judge_by_number`].
    pub(super) fn refused_by_number(
        &self,
        upstream: &Upstream,
        name: &PackageName,
        version: &Version,
    ) -> Option<Withheld> {
        let (material, answers) = (Material::default(), BTreeMap::new());
        let origin = Origin::Upstream(upstream.name());
        let situation = material.situation(name, origin, self.inner.clock.now(), &answers);
        policy::judge_by_number(&self.policy(), situation, version)
    }

    async fn material(&self, policy: &Policy, upstream: &Upstream, name: &PackageName) -> Result<Material, Error> {
        let record = self.record(upstream, name).await?;
        let (keys, keys_until) = if policy.needs_signatures(Origin::Upstream(upstream.name()), name) {
            let (keys, until) = self.signing_keys(upstream).await;
            (keys, Some(until))
        } else {
            (Arc::default(), None)
        };
        let is_new = record.served.is_empty() && policy.switches().look_alikes != Control::Off;
        let look_alike = if is_new { self.looks_like(name).await } else { None };
        Ok(Material { record, look_alike, keys, keys_until })
    }

    /// The name in use that a name never asked for looks like. Where the names in use cannot be gathered, none is found.
    async fn looks_like(&self, name: &PackageName) -> Option<LookAlike> {
        match self.names_in_use().await {
            Ok(names) => policy::look_alike(name, &names.read().unwrap_or_else(PoisonError::into_inner)),
            Err(error) => {
                tracing::warn!(package.name = %name, %error, "a name could not be compared with those in use");
                None
            }
        }
    }

    /// When something in a range of a dependency can be installed. By its age and the rules alone: its own dependencies
    /// are not looked at, or two packages could wait for each other.
    async fn dependency_state(
        &self,
        policy: &Arc<Policy>,
        question: &Question,
        now: Timestamp,
    ) -> Result<DependencyState, Error> {
        let name = &question.name;
        if self.hosted_head(name).await?.is_some() {
            return Ok(DependencyState::Fine);
        }
        let Route::Upstream(upstream) = self.terms.sources.route(name) else { return Ok(DependencyState::Fine) };
        let found = match self.datable_document(upstream, name, Form::Abbreviated).await {
            // A dependency that is not there cannot be installed, and may be there in a moment.
            Err(Error::PackageNotFound(_)) => return Ok(DependencyState::Blocked),
            other => other?,
        };
        let body = match found.body {
            Some(body) => body,
            None => self.proxied_bytes(upstream, name, found.document.form).await?,
        };
        let material = Material { record: self.record(upstream, name).await?, ..Material::default() };
        let (policy, upstream, question) = (Arc::clone(policy), upstream.clone(), question.clone());
        self.off_thread(body.len(), move || {
            let facts = Facts::parse(&body).map_err(|_| Error::Damaged)?;
            let origin = Origin::Upstream(upstream.name());
            let judgement =
                policy::judge(&policy, &facts, material.situation(&question.name, origin, now, &BTreeMap::new()));
            Ok(state_of(&facts, &judgement, &question.range))
        })
        .await
    }
}

/// Refuses a version that is withheld.
pub(super) fn require_offered(judged: Option<&Arc<Judged>>, name: &PackageName, number: &str) -> Result<(), Error> {
    match judged.and_then(|judged| judged.judgement.refusal_of(number)) {
        Some(withheld) => Err(withheld_error(name, Some(number), withheld)),
        None => Ok(()),
    }
}

/// What a judgement is made from beside document, policy and time.
#[derive(Debug, Clone, Default)]
struct Material {
    record: Arc<Record>,
    look_alike: Option<LookAlike>,
    keys: Arc<Vec<SigningKey>>,
    /// Until when that is all there is to know of the keys.
    keys_until: Option<Timestamp>,
}

impl Material {
    fn situation<'a>(
        &'a self,
        name: &'a PackageName,
        origin: Origin<'a>,
        now: Timestamp,
        answers: &'a BTreeMap<Question, DependencyState>,
    ) -> Situation<'a> {
        let (record, look_alike, keys) = (&*self.record, self.look_alike.as_ref(), self.keys.as_slice());
        Situation { name, origin, now, record, look_alike, keys, answers }
    }
}

fn judge(
    policy: &Policy,
    body: &[u8],
    name: &PackageName,
    origin: Origin<'_>,
    now: Timestamp,
    material: &Material,
    answers: &BTreeMap<Question, DependencyState>,
) -> Result<Judgement, Error> {
    let facts = Facts::parse(body).map_err(|_| Error::Damaged)?;
    Ok(policy::judge(policy, &facts, material.situation(name, origin, now, answers)))
}

/// The first instant at which something in a range can be installed.
fn state_of(facts: &Facts<'_>, judgement: &Judgement, range: &str) -> DependencyState {
    let range: Option<Range> = range.parse().ok();
    let tagged = |number: &str| facts.tags.values().any(|target| target == number);
    let (mut earliest, mut is_any_meant) = (None::<Timestamp>, false);
    for version in &facts.versions {
        let is_meant = match (&range, &version.version) {
            (Some(range), Some(version)) => range.contains(version),
            _ => tagged(&version.number),
        };
        if !is_meant {
            continue;
        }
        is_any_meant = true;
        match judgement.withheld.get(&*version.number) {
            None => return DependencyState::Fine,
            Some(withheld) => earliest = earliest.into_iter().chain(withheld.available_at).min(),
        }
    }
    match earliest {
        Some(instant) => DependencyState::HeldUntil(instant),
        None if is_any_meant => DependencyState::Blocked,
        // A range that never fitted anything is its author's mistake, and breaks no more here than elsewhere.
        None => DependencyState::Fine,
    }
}

/// The refusal of a version, or of a whole package.
pub(super) fn withheld_error(name: &PackageName, number: Option<&str>, withheld: &Withheld) -> Error {
    Error::Withheld(Box::new(Refused {
        name: name.clone(),
        version: number.map(ToOwned::to_owned),
        withheld: withheld.clone(),
    }))
}
