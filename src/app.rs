//! Everything that a request may use, and how it is put together.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use ipnet::IpNet;
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::auth::{AccessPolicy, Auth, RuleError};
use crate::clock::Clock;
use crate::events::Recorder;
use crate::hooks::{Audience, Hearing, Hooks};
use crate::metrics::{self, Metrics, Readers};
use crate::npm::{PackageName, Timestamp};
use crate::providers;
use crate::registry::{self, PolicyHealth, Registry, STORAGE_OK, SourceError, Sources, Terms};
use crate::search::{self, Opened, SearchIndex};
use crate::settings::{self, Home, Settings, UpstreamSettings};
use crate::sinks::{self, Condition, Sinks};
use crate::storage::{self, Store};
use crate::traces::{self, Traces};
use crate::upkeep::{
    AdvisoryKeeper, RulesKeeper, SettingsRecord, Upkeep, keep_counted, keep_recorded, keep_swept, keep_waivers,
};
use crate::upstream::{self, Upstream};

/// The application. Cheap to clone: each request has one.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// What an application is made of.
#[derive(Clone)]
pub struct Parts {
    /// What a registry does.
    pub registry: Registry,
    /// The record of what happens.
    pub recorder: Recorder,
    /// Where what happens is told.
    pub sinks: Sinks,
    /// The time.
    pub clock: Clock,
    /// How this server is seen from outside.
    pub public: Arc<PublicAddress>,
    /// Work that outlives a request. A stop waits for it, and [`App::settled`] does.
    pub tasks: TaskTracker,
    /// How long a client may send nothing of a request.
    pub idle: Duration,
    /// What is counted and measured.
    pub metrics: Metrics,
    /// Records what requests do, where it is recorded.
    pub traces: Traces,
    /// Who may read that.
    pub metrics_readers: Readers,
    /// The settings in force, and how reading them again went.
    pub settings: SettingsState,
    settings_record: SettingsRecord,
    /// Tasks that run until `stop`: they follow no request.
    keepers: TaskTracker,
    stop: CancellationToken,
    /// The registry by the settings in force, for what follows no request.
    current: watch::Sender<Registry>,
    /// What tasks would do if they could run between requests; nothing where they can.
    upkeep: Option<Arc<Upkeep>>,
}

/// How this server is seen from outside.
#[derive(Debug, Clone)]
pub struct PublicAddress {
    /// Fixed by a setting, else taken from each request.
    pub url: Option<Url>,
    /// Whose word about the outside address is taken.
    pub trusted_proxies: Vec<IpNet>,
    /// The listener is on a loopback address.
    pub is_loopback: bool,
    /// Only this machine is served, see [`crate::settings::Server::is_local_only`].
    pub is_local_only: bool,
}

/// How each part is.
#[derive(Debug, Serialize)]
pub struct Health {
    /// `ok`, or in a word why no write works now.
    pub storage: &'static str,
    /// `ok` or `left_alone`, by name.
    pub upstreams: BTreeMap<String, &'static str>,
    /// `ok` or `failing`, by the last answer; nothing where GitHub is not used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub github: Option<&'static str>,
    /// `ok`, `behind` or `failing`, by name: whether what happens is told to it.
    pub sinks: BTreeMap<String, Condition>,
    /// The settings in force.
    pub settings: SettingsHealth,
    /// The policy in force.
    pub policy: PolicyState,
}

/// How reading the settings again went.
#[derive(Debug, Clone, Default, Serialize)]
pub struct SettingsHealth {
    /// Since when a settings file lies there that is not in force, because it has mistakes.
    pub rejected_since: Option<Timestamp>,
    /// Settings that have other values in the file, which wait for a restart.
    pub waiting_for_restart: Vec<String>,
}

/// The settings in force. Cheap to clone; clones share them.
#[derive(Debug, Clone)]
pub struct SettingsState {
    in_force: watch::Sender<Arc<Settings>>,
    health: Arc<Mutex<SettingsHealth>>,
}

impl SettingsState {
    fn new(settings: &Settings) -> Self {
        Self { in_force: watch::Sender::new(Arc::new(settings.clone())), health: Arc::default() }
    }

    fn subscribe(&self) -> watch::Receiver<Arc<Settings>> {
        self.in_force.subscribe()
    }

    fn put_in_force(&self, settings: &Settings) {
        self.in_force.send_replace(Arc::new(settings.clone()));
    }

    /// How reading them again went.
    pub fn health(&self) -> SettingsHealth {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes how reading them again went.
    pub fn note_health(&self, change: impl FnOnce(&mut SettingsHealth)) {
        change(&mut self.health.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Whether accounts may be told of packages, by the settings in force.
struct Listeners(watch::Receiver<Registry>);

impl Audience for Listeners {
    fn hearing<'a>(
        &'a self,
        username: &'a str,
        since: Timestamp,
        package: &'a PackageName,
    ) -> BoxFuture<'a, Result<Hearing, String>> {
        let registry = self.0.borrow().clone();
        Box::pin(async move {
            let hearing = registry.hearing(username, since, package).await;
            hearing.map_err(|error| format!("what an account may read cannot be found out: {error}"))
        })
    }
}

impl Health {
    /// Whether requests can be served: the store is all that none can do without.
    pub fn can_serve(&self) -> bool {
        self.storage == STORAGE_OK
    }
}

/// How the policy is.
#[derive(Debug, Serialize)]
pub struct PolicyState {
    epoch: String,
    /// `ok`, or `rejected` while a file with mistakes lies there and the old rules are in force.
    rules: &'static str,
    #[serde(flatten)]
    health: PolicyHealth,
}

/// Why the application cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The directory or bucket is of no use.
    #[error("the storage `{location}` cannot be used")]
    Storage {
        /// As it was set.
        location: String,
        /// Why.
        #[source]
        source: storage::OpenError,
    },
    /// An upstream's settings are wrong.
    #[error("the upstream `{name}` cannot be set up")]
    Upstream {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: upstream::BuildError,
    },
    /// Claims and upstreams contradict each other.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Sources(Vec<SourceError>),
    /// Rules of access contradict each other.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Rules(Vec<RuleError>),
    /// The rules file of the policy has mistakes.
    #[error("the policy's rules cannot be put in force")]
    PolicyRules(#[source] settings::RulesError),
    /// GitHub's settings are wrong.
    #[error("GitHub cannot be set up")]
    GitHub(#[source] providers::BuildError),
    /// The sinks cannot be set up.
    #[error("what happens cannot be told to others")]
    Sinks(#[from] sinks::BuildError),
    /// Traces cannot be sent.
    #[error("traces cannot be sent")]
    Traces(#[from] traces::BuildError),
    /// The search index cannot be made.
    #[error("the search index cannot be opened")]
    Search(#[from] search::Error),
}

/// Claims and upstreams, with a client for each.
fn sources(
    settings: &Settings,
    mut client: impl FnMut(&UpstreamSettings) -> Result<Upstream, StartError>,
) -> Result<Sources, StartError> {
    let upstreams = settings.upstreams.iter().map(|upstream| Ok((upstream.packages.clone(), client(upstream)?)));
    let upstreams = upstreams.collect::<Result<_, StartError>>()?;
    Sources::new(settings.packages.claims.clone(), upstreams).map_err(StartError::Sources)
}

fn terms(settings: &Settings, auth: Auth, access: AccessPolicy, sources: Sources) -> Terms {
    Terms {
        auth,
        access,
        sources,
        answers_audit: settings.advisories.answer_audit,
        limits: settings.limits.clone(),
        fresh: settings.storage.fresh,
        redirect: settings.redirects(),
        is_read_only: settings.is_read_only(),
    }
}

fn public_address(settings: &Settings) -> PublicAddress {
    PublicAddress {
        url: settings.server.public_url.clone(),
        trusted_proxies: settings.server.trusted_proxies.clone(),
        is_loopback: settings.server.is_on_loopback(),
        is_local_only: settings.server.is_local_only(),
    }
}

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl App {
    /// Opens the store and puts everything together. No network call, nothing scanned.
    pub fn start(settings: &Settings, clock: Clock) -> Result<Self, StartError> {
        let store = Store::at(&settings.storage.location())
            .map_err(|source| StartError::Storage { location: settings.storage.shown(), source })?;
        Self::with_store(settings, clock, store)
    }

    /// As [`App::start`], over a store that is open already.
    pub fn with_store(settings: &Settings, clock: Clock, store: Store) -> Result<Self, StartError> {
        let settings_state = SettingsState::new(settings);
        let metrics = Metrics::default();
        metrics.started(env!("CARGO_PKG_VERSION"), clock.now().as_seconds());
        let store = store.measured_by(metrics.clone());
        let sources = sources(settings, |upstream| {
            Upstream::measured(upstream.client.clone(), clock.clone(), metrics.clone())
                .map_err(|source| StartError::Upstream { name: upstream.client.name.clone(), source })
        })?;
        let (search, opened) = SearchIndex::open(&store.derived_path("search"))?;
        let (tasks, keepers) = (TaskTracker::new(), TaskTracker::new());
        let stop = CancellationToken::new();
        let access = settings.access_policy().map_err(StartError::Rules)?;
        let recorder = Recorder::new(store.clone(), clock.clone(), tasks.clone());
        let auth = Auth::new(store.clone(), clock.clone(), tasks.clone(), recorder.clone(), settings.auth(&access))
            .map_err(StartError::GitHub)?;
        let rules = settings.policy_rules().map_err(StartError::PolicyRules)?;
        let sinks = settings.sinks_over(&store, &clock)?;
        let traces = Traces::new(settings.traces.as_ref(), &clock, &metrics)?;
        let hooks = Hooks::new(store.clone(), settings.hooks.clone());
        let (keeping, is_shared) = (store.clone(), store.is_shared());
        let own = store.clone();
        let registry = Registry::new(registry::Parts {
            terms: terms(settings, auth, access, sources),
            switches: settings.policy.switches.clone(),
            rules,
            recorder: recorder.clone(),
            hooks: hooks.clone(),
            clock: clock.clone(),
            tasks: tasks.clone(),
            cache_bytes: settings.cache.memory_bytes,
            search,
            store,
            metrics: metrics.clone(),
        });
        let current = watch::Sender::new(registry.clone());
        let sinks = if settings.hooks.is_on {
            sinks.with_hooks(hooks, Arc::new(Listeners(current.subscribe())), recorder.written())?
        } else {
            sinks
        };
        keepers.spawn({
            let (registry, stop) = (registry.clone(), stop.clone());
            // A function lists when it is asked for what is listed.
            let lists = settings.server.home == Home::Machine;
            async move { registry.keep_index(opened == Opened::Fresh, lists, stop).await }
        });
        let in_force = settings_state.subscribe();
        let settings_record =
            SettingsRecord::new(own, recorder.clone(), registry.clone(), in_force.clone(), clock.clone());
        let rules = RulesKeeper::new(registry.clone(), in_force, clock.clone(), settings_record.clone());
        let advisories = AdvisoryKeeper::new(registry.clone(), keeping, settings.advisories.clone(), clock.clone());
        let upkeep = match settings.server.home {
            Home::Machine => {
                keepers.spawn(rules.keep(stop.clone()));
                keepers.spawn(advisories.keep(stop.clone()));
                keepers.spawn(keep_swept(registry.clone(), stop.clone()));
                keepers.spawn(keep_recorded(recorder.clone(), stop.clone()));
                keepers.spawn(keep_counted(registry.clone(), stop.clone()));
                if !sinks.is_empty() {
                    let delivering = sinks.clone().keep_delivering(recorder.written(), stop.clone());
                    keepers.spawn(traces.in_background(delivering));
                }
                if is_shared {
                    keepers.spawn(keep_waivers(registry.clone(), stop.clone()));
                }
                None
            }
            Home::Lambda => {
                keepers.spawn({
                    let advisories = advisories.clone();
                    async move { advisories.begin().await }
                });
                let (recorder, sinks) = (recorder.clone(), sinks.clone());
                Some(Arc::new(Upkeep::new(registry.clone(), recorder, sinks, clock.clone(), rules, advisories)))
            }
        };
        Ok(Self(Arc::new(Parts {
            registry,
            recorder,
            sinks,
            clock,
            public: Arc::new(public_address(settings)),
            tasks,
            idle: settings.server.idle,
            metrics,
            traces,
            metrics_readers: settings.metrics_readers.clone(),
            settings: settings_state,
            settings_record,
            keepers,
            stop,
            current,
            upkeep,
        })))
    }

    /// Writes down which settings and rules in force are others than before, beside whatever else is done. For servers.
    pub fn note_settings(&self) {
        let record = self.settings_record.clone();
        self.tasks.spawn(async move { record.note().await });
    }

    /// The same application by other settings, over the same store and with the same memory. All that can fail is done before
    /// anything changes; then the policy changes for all, and the rest for whoever uses what is returned. `changed` are the
    /// keys of the settings that are others: clients of upstreams and of GitHub are made anew only where theirs are.
    ///
    /// Blocks: it reads the rules file.
    ///
    /// # Errors
    /// As [`App::start`]; then everything is as it was.
    pub fn with_settings(&self, settings: &Settings, changed: &[String]) -> Result<Self, StartError> {
        let is_same = |section: &str| !changed.iter().any(|key| key.starts_with(section));
        let known = self.registry.sources();
        let sources = sources(settings, |upstream| {
            let name = &upstream.client.name;
            match known.upstreams().find(|known| known.name() == name) {
                Some(known) if is_same(&format!("upstreams.{name}.")) => Ok(known.clone()),
                _ => Upstream::measured(upstream.client.clone(), self.clock.clone(), self.metrics.clone())
                    .map_err(|source| StartError::Upstream { name: name.clone(), source }),
            }
        })?;
        let access = settings.access_policy().map_err(StartError::Rules)?;
        let auth = self.registry.auth().with_settings(settings.auth(&access), is_same("github."));
        let auth = auth.map_err(StartError::GitHub)?;
        let rules = settings.policy_rules().map_err(StartError::PolicyRules)?;

        let registry = self.registry.with_terms(terms(settings, auth, access, sources));
        registry.set_policy(settings.policy.switches.clone(), rules);
        registry.note_policy_health(|health| health.rules_rejected_since = None);
        self.settings.put_in_force(settings);
        self.current.send_replace(registry.clone());
        Ok(Self(Arc::new(Parts {
            registry,
            public: Arc::new(public_address(settings)),
            idle: settings.server.idle,
            metrics_readers: settings.metrics_readers.clone(),
            ..Parts::clone(self)
        })))
    }

    /// How each part is. Asks the store at most every two seconds, and nobody else: of the others it tells what is known.
    pub async fn health(&self) -> Health {
        let policy = self.registry.policy_health();
        let upstreams = self.registry.sources().upstreams().map(|upstream| {
            let state = if upstream.is_left_alone() { "left_alone" } else { "ok" };
            (upstream.name().to_owned(), state)
        });
        Health {
            storage: self.registry.storage_state().await,
            upstreams: upstreams.collect(),
            github: self.registry.auth().github_is_failing().map(|fails| if fails { "failing" } else { "ok" }),
            sinks: self.sinks.conditions().map(|(name, condition)| (name.to_owned(), condition)).collect(),
            settings: self.settings.health(),
            policy: PolicyState {
                epoch: self.registry.policy().epoch().to_owned(),
                rules: if policy.rules_rejected_since.is_some() { "rejected" } else { "ok" },
                health: policy,
            },
        }
    }

    /// What is counted and measured, in the text form of [`metrics::CONTENT_TYPE`].
    pub async fn figures(&self) -> String {
        let (metrics, registry) = (&self.metrics, &self.registry);
        for (cache, bytes) in registry.cached_bytes() {
            metrics.set_cache_bytes(cache, bytes);
        }
        for upstream in registry.sources().upstreams() {
            metrics.set_upstream_left_alone(upstream.name(), upstream.is_left_alone());
        }
        metrics.set_event_lag(self.sinks.lags().into_iter().map(|(_, lag)| lag).max().unwrap_or_default());
        let health = registry.policy_health();
        let age = health.advisories_compiled.map(|compiled| self.clock.now().since(compiled));
        metrics.set_advisories(age.unwrap_or_default(), health.advisories_failing_since.is_some());
        metrics.set_rules_rejected(health.rules_rejected_since.is_some());
        metrics.set_settings_rejected(self.settings.health().rejected_since.is_some());
        if let Some(bytes) = metrics::resident_memory().await {
            metrics.set_resident_memory(bytes);
        }
        metrics.exposition()
    }

    /// Waits until all that requests have begun is done. For where nothing runs between requests; call it when none is under way.
    pub async fn settled(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.tasks.reopen();
    }

    /// Does what is due of the work that is nobody's request, where no task does it, and waits for the search index. May be cut
    /// off.
    pub async fn do_upkeep(&self) {
        if let Some(upkeep) = &self.upkeep {
            self.traces.in_background(upkeep.do_due()).await;
        }
        self.registry.index_settled().await;
    }

    /// Does all of it, however long it takes.
    pub async fn do_all_upkeep(&self) {
        if let Some(upkeep) = &self.upkeep {
            self.traces.in_background(upkeep.do_all()).await;
        }
    }

    /// Lets the tasks end and waits for them. What was acknowledged needs no waiting: it is durable already.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.keepers.close();
        tokio::join!(self.tasks.wait(), self.keepers.wait());
        if let Err(error) = self.recorder.flush().await {
            tracing::error!(%error, "the last events could not be written into the record");
        }
        if let Err(error) = self.registry.write_downloads().await {
            tracing::warn!(%error, "the last downloads could not be counted");
        }
        self.traces.finish().await;
    }
}
