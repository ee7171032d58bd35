//! Telling other places what happened.
//!
//! A sink reads the record from where it stopped and sends on what it wants. So one that is slow or away delays no request,
//! and misses nothing: what it could not be told is told later. Whoever gets an event twice knows it by its id.
//!
//! Of several processes over one store one at a time delivers to a sink, by a lease in the sink's state.
//!
//! - `settings.rs`: which sinks there are, and what each wants;
//! - `state.rs`: how far a sink has got, what is in its way, and when it is tried again;
//! - `deliver.rs`: from the record to the sink;
//! - `fan_out.rs`: from the record to the hooks of accounts;
//! - `message.rs`: what goes out in one request, and why it did not arrive;
//! - `http.rs`: one request;
//! - `webhook.rs`, `npm_hook.rs`, `insights.rs`, `slack.rs`, `sns.rs`, `file.rs`: the kinds;
//! - `seen.rs`: what is in no record, and was told by the older system;
//! - `documents.rs`: what a package's document adds to an event.

mod deliver;
mod documents;
mod fan_out;
mod file;
mod http;
mod insights;
mod message;
mod npm_hook;
mod seen;
mod settings;
mod slack;
mod sns;
mod state;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::events::{self, Event, Who};
use crate::hooks::{Audience, Hooks};
use crate::npm::PackageName;
use crate::random;
use crate::storage::Store;
use deliver::Sink;
use documents::Documents;
use fan_out::FanOut;
use seen::{Sight, What};

pub use settings::{Area, IndexFormat, SinkKind, SinkSettings, SnsFormat, Topic, Wants};
pub use state::BookError as StateError;

/// Why the sinks cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The HTTP client does not start: the system has no usable TLS certificates.
    #[error("requests to the sink `{name}` cannot be made")]
    Client {
        /// The sink.
        name: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// There are no credentials of AWS to be had in the platform's usual way.
    #[error("the sink `{name}` has no credentials of AWS")]
    Credentials {
        /// The sink.
        name: String,
        /// Why.
        #[source]
        source: object_store::Error,
    },
}

/// What there is to tell of a sink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its name from the settings.
    pub name: String,
    /// What it is: `webhook`.
    pub kind: String,
    /// When the oldest event that it has not got was written down; `None` when it has got all.
    pub waiting_since: Option<String>,
    /// Events delivered so far.
    pub delivered: u64,
    /// When something was last delivered.
    pub last_delivery: Option<String>,
    /// Failures in a row.
    pub failures: u32,
    /// What went wrong last, if nothing was delivered since.
    pub last_error: Option<String>,
    /// When it is tried again, where it waits for that.
    pub next_try: Option<String>,
    /// How many times events were given up: each is an object that `--retry` tries once more.
    pub dead_letters: u64,
    /// They were asked for once more, and it was not done yet.
    pub is_retrying: bool,
}

/// How a sink is, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// It has all, or will soon.
    Ok,
    /// An event waits for longer than fifteen minutes.
    Behind,
    /// The last delivery failed, and is tried again.
    Failing,
}

/// What came of [`Sinks::send_now`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Sent {
    /// Events that arrived.
    pub arrived: u64,
    /// Events that did not.
    pub failed: u64,
    /// Why the last of those did not.
    pub last_error: Option<String>,
}

impl Sent {
    /// Counts what came of others too.
    pub fn add(&mut self, other: Self) {
        self.arrived += other.arrived;
        self.failed += other.failed;
        self.last_error = other.last_error.or(self.last_error.take());
    }
}

/// All sinks. Cheap to clone.
#[derive(Clone)]
pub struct Sinks {
    all: Arc<[Sink]>,
    /// The hooks of accounts, where there may be any.
    hooks: Option<Arc<FanOut>>,
    common: Common,
}

/// What all that deliver need.
#[derive(Debug, Clone)]
struct Common {
    store: Store,
    clock: Clock,
    documents: Documents,
    /// This process.
    holder: Arc<str>,
}

impl std::fmt::Debug for Sinks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sinks").field("sinks", &self.all).finish_non_exhaustive()
    }
}

impl Sinks {
    /// Makes them ready. Reads nothing, and asks nobody but the environment for credentials. `base` is this registry's address
    /// in what is sent, without a slash at its end.
    ///
    /// # Errors
    /// When requests cannot be made at all.
    pub fn new(settings: &[SinkSettings], store: &Store, clock: &Clock, base: &str) -> Result<Self, BuildError> {
        // A directory has one owner, who need not wait for the turn of one that was killed.
        let holder = if store.is_shared() { random::id() } else { "owner".to_owned() };
        let holder: Arc<str> = holder.into();
        let documents = Documents::new(store.clone(), base);
        let make = |settings: &SinkSettings| {
            Sink::new(settings.clone(), store.clone(), clock.clone(), documents.clone(), Arc::clone(&holder))
        };
        let all = settings.iter().map(make).collect::<Result<_, _>>()?;
        Ok(Self { all, hooks: None, common: Common { store: store.clone(), clock: clock.clone(), documents, holder } })
    }

    /// The same, which tell the hooks of accounts too. `recorded` tells of what this process records, `audience` who may be told
    /// of what.
    ///
    /// # Errors
    /// When requests cannot be made at all.
    pub fn with_hooks(
        self,
        hooks: Hooks,
        audience: Arc<dyn Audience>,
        recorded: tokio::sync::watch::Receiver<()>,
    ) -> Result<Self, BuildError> {
        let hooks = FanOut::new(hooks, audience, recorded, self.common.clone())?;
        Ok(Self { hooks: Some(Arc::new(hooks)), ..self })
    }

    /// Whether there is nobody to tell.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty() && self.hooks.is_none()
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(Sink::name)
    }

    /// Delivers to each sink until told to stop: at once what this process records, as `recorded` tells, and within half a
    /// minute what others do.
    pub async fn keep_delivering(self, recorded: tokio::sync::watch::Receiver<()>, stop: CancellationToken) {
        let hooks = async {
            if let Some(hooks) = &self.hooks {
                hooks.keep_delivering(&stop).await;
            }
        };
        tokio::join!(join_all(self.all.iter().map(|sink| sink.keep_delivering(recorded.clone(), &stop))), hooks);
    }

    /// Delivers what there is, and begins nothing new when the time is over. What is left is delivered the next time.
    pub async fn deliver_within(&self, budget: Duration) {
        let over = CancellationToken::new();
        let hooks = async {
            if let Some(hooks) = &self.hooks {
                hooks.deliver(&over).await;
            }
        };
        let work = futures::future::join(join_all(self.all.iter().map(|sink| sink.deliver(&over))), hooks);
        tokio::pin!(work);
        if tokio::time::timeout(budget, &mut work).await.is_err() {
            over.cancel();
            work.await;
        }
    }

    /// Notes that a package's document was sent, where a sink wants to know; else it costs nothing. It is lost with the process.
    pub fn saw_read(&self, package: &PackageName, who: impl Fn() -> Who) {
        for sink in self.all.iter() {
            sink.see(Some(package), || {
                let command = events::asked().and_then(|asked| asked.command);
                Some(Sight { what: What::Read { package: package.to_string() }, by: who().name, command })
            });
        }
    }

    /// The same of a request that failed by our fault. `path` is in our spelling, `message` is what anybody may know of it.
    pub fn saw_failure(
        &self,
        method: &str,
        path: &str,
        command: impl Fn() -> Option<String>,
        message: impl Fn() -> String,
    ) {
        for sink in self.all.iter() {
            sink.see(None, || {
                let area = insights::area_of_request(method, path)?;
                let what = What::Failed { area, message: message() };
                Some(Sight { what, by: None, command: command() })
            });
        }
    }

    /// How long the oldest event that a sink has not got waits, by the sink's name, as this process has last seen it. Asks
    /// nothing of the store.
    pub fn lags(&self) -> Vec<(&str, Duration)> {
        self.all.iter().map(|sink| (sink.name(), sink.lag())).collect()
    }

    /// How each sink is, by its name, as this process has last seen it. Asks nothing of the store.
    pub fn conditions(&self) -> impl Iterator<Item = (&str, Condition)> {
        self.all.iter().map(|sink| (sink.name(), sink.condition()))
    }

    /// How each sink is. One list of dead letters each.
    ///
    /// # Errors
    /// The store's failure, or a state that cannot be read.
    pub async fn status(&self) -> Result<Vec<Status>, StateError> {
        let mut all = Vec::with_capacity(self.all.len());
        for sink in self.all.iter() {
            all.push(sink.status().await?);
        }
        Ok(all)
    }

    /// Has the dead letters of a sink tried once more, with the next delivery. False when there is no such sink.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn retry(&self, name: &str) -> Result<bool, StateError> {
        match self.all.iter().find(|sink| sink.name() == name) {
            Some(sink) => sink.ask_for_retry().await.map(|()| true),
            None => Ok(false),
        }
    }

    /// Sends events to a sink now, with a few tries, past the record, its state and what it wants: for what is no news, as a
    /// whole registry is. Nothing is done where there is no such sink.
    pub async fn send_now(&self, name: &str, events: &[Event]) -> Sent {
        match self.all.iter().find(|sink| sink.name() == name) {
            Some(sink) => sink.send_now(events).await,
            None => Sent::default(),
        }
    }
}
