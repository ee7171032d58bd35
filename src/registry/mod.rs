//! What a registry does, without HTTP and without knowing where bytes lie.
//!
//! One file per noun. Every method takes the [`Caller`] first, and says nothing of a package before it knows that the
//! caller may hear it. A change to a package runs to its
//! end in a task of its own, whatever becomes of the client; its commit point is one write of the packument.

mod access;
mod attestations;
mod audit;
mod dist_tags;
mod downloads;
mod error;
mod explain;
mod history;
mod hooks;
mod hosted;
mod identity;
mod metadata;
mod mirror;
mod owners;
mod packument;
mod proxied;
mod publish;
mod recorded;
mod records;
mod reindex;
mod screening;
mod search;
mod source;
mod stars;
mod tarball;
mod trust;
mod unpublish;
mod uploads;
mod version;
mod waivers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

pub use access::Listing;
pub use downloads::{CountedDay, DownloadCounts, MAX_COUNTED_DAY_BYTES, MAX_PACKAGES};
pub use error::{Challenge, Error, Refused};
pub use explain::{Checked, MAX_CHECKED};
pub use history::{EventPage, MAX_EVENTS};
pub use hooks::{HookWish, ListedHook};
pub use mirror::{Mirrored, WantedVersion};
pub use packument::{Encoding, Packument, Rendered};
pub use proxied::kept_body;
pub use publish::{Intake, Published};
pub use reindex::{ReindexWish, Reindexed, reindex};
pub use screening::{Judged, PolicyHealth};
pub use search::{DEFAULT_SIZE, SearchRequest};
pub use source::{Route, SourceError, Sources};
pub use tarball::{Redirect, Redirects, TarballBytes};
pub use uploads::UploadPlace;
pub use waivers::WaiverBook;

// What the methods here take and give that comes from below: whoever calls them needs to look no further down.
pub use crate::storage::{ByteRange, Download};
pub use crate::upstream::AuditPath;

use crate::auth::{AccessPolicy, Action, Auth, Author, Caller, Decision};
use crate::clock::Clock;
use crate::events::{self, Recorder};
use crate::hooks::Hooks;
use crate::metrics::{CacheMeter, Metrics};
use crate::npm::{PackageName, Timestamp, publish_body, tarball as npm_tarball};
use crate::policy::HOSTED;
use crate::storage::{KeyedLocks, Store};
use crate::traces;
use attestations::{AttestationsKey, ByAnswer, RememberedAttestations};
use downloads::Downloads;
use hosted::HostedHeads;
use packument::{RenderKey, RenderWeighter};
use proxied::ProxiedDocuments;
use records::Records;
use screening::Screening;
use search::Indexer;
use tarball::Transfers;

/// How many bytes of upstreams' attestations are remembered: those of some thousand versions.
const ATTESTATIONS_BYTES: u64 = 8 << 20;

/// What [`Registry::storage_state`] says of a store that is well.
pub const STORAGE_OK: &str = "ok";

/// Limits on what may be published.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Of the publish body, its document, and the tarball.
    pub body: publish_body::Limits,
    /// Of what the tarball unpacks to.
    pub tarball: npm_tarball::Limits,
}

/// What a [`Registry`] goes by that may be changed while it serves.
pub struct Terms {
    /// Accounts and tokens.
    pub auth: Auth,
    /// Who may do what.
    pub access: AccessPolicy,
    /// Claims and upstreams.
    pub sources: Sources,
    /// `npm audit` is answered from the advisories here.
    pub answers_audit: bool,
    /// Limits on what may be published.
    pub limits: Limits,
    /// How old what is known of a hosted package may be, where other processes write too.
    pub fresh: Duration,
    /// When clients fetch tarballs from the bucket.
    pub redirect: Redirects,
    /// No package is changed.
    pub is_read_only: bool,
}

/// What a [`Registry`] is made of.
pub struct Parts {
    /// Where everything is kept.
    pub store: Store,
    /// What it goes by to begin with.
    pub terms: Terms,
    /// Which versions are offered: the switches, and the rules to begin with.
    pub switches: crate::policy::Switches,
    /// See [`Parts::switches`].
    pub rules: Vec<crate::policy::Rule>,
    /// The record of what happens.
    pub recorder: Recorder,
    /// What accounts want to be told of.
    pub hooks: Hooks,
    /// The time.
    pub clock: Clock,
    /// Work that outlives a request.
    pub tasks: TaskTracker,
    /// How many bytes of rendered documents are kept in memory.
    pub cache_bytes: u64,
    /// The index of hosted packages.
    pub search: crate::search::SearchIndex,
    /// Where look-ups in memory are counted.
    pub metrics: Metrics,
}

/// The registry. Cheap to clone.
///
/// A clone goes by the terms that were in force when it was made, to its end; what is in memory is shared by all.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
    terms: Arc<Terms>,
}

struct Inner {
    store: Store,
    recorder: Recorder,
    hooks: Hooks,
    clock: Clock,
    tasks: TaskTracker,
    heads: HostedHeads,
    /// Held while a package's document is changed, and while its head is read into memory, so that memory never falls
    /// behind what was committed. The store has locks of its own, which end with its write and so too early for this.
    documents: KeyedLocks<PackageName>,
    proxied: ProxiedDocuments,
    screening: Screening,
    records: Records,
    rendered: Cache<RenderKey, Rendered, RenderWeighter>,
    rendered_reads: CacheMeter,
    attestations: Cache<AttestationsKey, RememberedAttestations, ByAnswer>,
    transfers: Transfers,
    downloads: Downloads,
    indexer: Indexer,
    /// Permits for heavy work.
    heavy: Arc<Semaphore>,
    /// When the store was last probed, and what came of it.
    last_probe: tokio::sync::Mutex<Option<Probe>>,
}

/// A look at the store, and what came of it.
struct Probe {
    state: &'static str,
    at: Timestamp,
    known: Instant,
}

impl Registry {
    /// Puts the parts together. Reads nothing.
    pub fn new(parts: Parts) -> Self {
        let Parts { store, terms, switches, rules, recorder, hooks, clock, tasks, cache_bytes, search, metrics } =
            parts;
        let waivers = WaiverBook::new(store.clone(), clock.clone(), recorder.clone());
        Self {
            inner: Arc::new(Inner {
                heads: HostedHeads::new(if store.is_shared() { cache_bytes / 4 } else { 0 }, metrics.cache("heads")),
                documents: KeyedLocks::default(),
                proxied: ProxiedDocuments::new(tasks.clone()),
                screening: Screening::new(switches, rules, waivers),
                records: Records::default(),
                rendered: byte_cache(cache_bytes, RenderWeighter),
                rendered_reads: metrics.cache("rendered"),
                attestations: byte_cache(ATTESTATIONS_BYTES, ByAnswer),
                transfers: Transfers::new(tasks.clone()),
                downloads: Downloads::new(store.clone(), clock.clone()),
                indexer: Indexer::new(search),
                heavy: Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(2, usize::from))),
                last_probe: tokio::sync::Mutex::default(),
                store,
                recorder,
                hooks,
                clock,
                tasks,
            }),
            terms: Arc::new(terms),
        }
    }

    /// The same registry by other terms, with all that is in memory. What is under way ends by the old ones.
    #[must_use]
    pub fn with_terms(&self, terms: Terms) -> Self {
        Self { inner: Arc::clone(&self.inner), terms: Arc::new(terms) }
    }

    /// Accounts and tokens.
    pub fn auth(&self) -> &Auth {
        &self.terms.auth
    }

    /// Where names belong.
    pub fn sources(&self) -> &Sources {
        &self.terms.sources
    }

    /// Whether anybody may read a package without an account.
    pub fn is_public(&self, name: &PackageName) -> bool {
        self.terms.access.is_public(name)
    }

    /// The rules of access.
    pub fn access(&self) -> &AccessPolicy {
        &self.terms.access
    }

    /// How many bytes each cache holds.
    pub fn cached_bytes(&self) -> [(&'static str, u64); 3] {
        let Inner { rendered, heads, screening, .. } = &*self.inner;
        [
            ("rendered", rendered.weight()),
            ("documents", heads.documents_bytes()),
            ("judgements", screening.judged_bytes()),
        ]
    }

    /// Whether the store takes a write now: [`STORAGE_OK`], or in a word why not. Asked by anybody as often as they like, so a
    /// good answer lasts for a while. A bad one is for all who asked before it was known: while the store hangs they would
    /// otherwise wait for one another.
    pub async fn storage_state(&self) -> &'static str {
        const LASTS_MILLIS: i64 = 2_000;
        const PATIENCE: Duration = Duration::from_secs(5);
        let asked = Instant::now();
        let mut last = self.inner.last_probe.lock().await;
        let age_millis = |at: Timestamp| self.inner.clock.now().as_millis() - at.as_millis();
        if let Some(probe) = &*last
            && (probe.known >= asked || probe.state == STORAGE_OK && (0..LASTS_MILLIS).contains(&age_millis(probe.at)))
        {
            return probe.state;
        }
        let state = match tokio::time::timeout(PATIENCE, self.inner.store.probe()).await {
            Ok(Ok(())) => STORAGE_OK,
            Ok(Err(error)) => {
                tracing::error!(error = &error as &dyn std::error::Error, "the storage takes no writes");
                error.outcome()
            }
            Err(_) => {
                tracing::error!("the storage does not answer");
                "no_answer"
            }
        };
        *last = Some(Probe { state, at: self.inner.clock.now(), known: Instant::now() });
        state
    }

    /// Refuses callers that may not. `owners` as in [`AccessPolicy::authorize`].
    fn authorize(&self, caller: &Caller, action: Action, name: &PackageName, owners: &[String]) -> Result<(), Error> {
        match self.terms.access.authorize(caller, action, name, owners) {
            Decision::Allowed => Ok(()),
            Decision::SignInFirst => Err(Error::SignInFirst),
            Decision::Hidden => Err(Error::PackageNotFound(name.clone())),
            Decision::Refused(refusal) => Err(Error::NotAllowed { name: name.clone(), action, refusal }),
        }
    }

    /// For every change: it needs somebody who is known and who may know of the package. Asked before anything is looked
    /// up, or others could tell by the answer what is here, and have names of ours asked upstream.
    fn authorize_knowing(&self, caller: &Caller, name: &PackageName) -> Result<Author, Error> {
        let author = caller.author().ok_or(Error::SignInFirst)?;
        self.authorize(caller, Action::Read, name, &[])?;
        Ok(author)
    }

    /// As [`Registry::authorize_knowing`], for a change of the package itself, before any of its bytes are taken in.
    fn authorize_changing(&self, caller: &Caller, name: &PackageName) -> Result<Author, Error> {
        let author = self.authorize_knowing(caller, name)?;
        self.require_writable()?;
        Ok(author)
    }

    /// Refuses changes of packages where the settings do.
    fn require_writable(&self) -> Result<(), Error> {
        if self.terms.is_read_only { Err(Error::ReadOnly) } else { Ok(()) }
    }

    /// For what concerns no package: using the registry needs an account where the settings say so.
    fn authorize_reading(&self, caller: &Caller) -> Result<(), Error> {
        if self.terms.access.may_use(caller) { Ok(()) } else { Err(Error::SignInFirst) }
    }

    /// Whether a caller may know of a package: for lists.
    fn may_read(&self, caller: &Caller, name: &PackageName) -> bool {
        self.terms.access.authorize(caller, Action::Read, name, &[]) == Decision::Allowed
    }

    /// Asks for a person's word, where the account's second factor or the package's rule wants one. Comes after the
    /// question whether the caller may at all.
    ///
    /// # Errors
    /// [`Error::OneTimeCode`], with a page to say yes on where a code of an app is not what is wanted.
    async fn confirmed(&self, caller: &Caller, action: Action, name: &PackageName) -> Result<(), Error> {
        // A workflow has nobody to ask; whoever trusted it was asked.
        let Some(user) = caller.user() else { return Ok(()) };
        let is_demanded = self.terms.access.must_confirm(name);
        if !is_demanded && !user.needs_code {
            return Ok(());
        }
        if self.terms.auth.is_confirmed(user, name.as_str()).await? {
            return Ok(());
        }
        let change = format!("{} {name}", described(action));
        Err(Error::OneTimeCode(Challenge {
            user: user.name.clone(),
            subject: name.to_string(),
            change,
            has_app: user.needs_code,
        }))
    }

    /// Runs work on a document that takes long on threads for that, as much at once as the machine has cores, so that
    /// a crowd of large documents costs time and not memory. Short work is done in place: handing over costs more.
    async fn off_thread<T: Send + 'static>(
        &self,
        input_bytes: usize,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        const SHORT_BYTES: usize = 64 * 1024;
        if input_bytes <= SHORT_BYTES {
            return work();
        }
        let permit = Arc::clone(&self.inner.heavy).acquire_owned().await.map_err(|_| Error::Interrupted)?;
        let work = move || {
            // Kept until the work ends, even if nobody waits for it any more.
            let _permit = permit;
            work()
        };
        crate::heavy::run(work).await.unwrap_or(Err(Error::Interrupted))
    }

    /// Runs a change in a task of its own and waits for it. A client that goes away does not stop it half-way, and
    /// what is in memory afterwards is what was committed.
    async fn to_the_end<T: Send + 'static>(
        &self,
        change: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        self.inner.tasks.spawn(traces::carried_on(events::carried_on(change))).await.unwrap_or(Err(Error::Interrupted))
    }
}

/// An action as a person is asked about it.
fn described(action: Action) -> &'static str {
    match action {
        Action::Read => "Read",
        Action::Create | Action::Publish => "Publish",
        Action::Tag => "Change the tags of",
        Action::Deprecate => "Deprecate versions of",
        Action::Unpublish => "Remove versions of",
        Action::Own => "Change the owners of",
        Action::Administer => "Change who may publish",
        Action::Star => "Star",
    }
}

/// A cache bounded by the bytes it holds. One shard up to a size, since an item must fit into a shard, and one
/// packument may take a third of the cache.
fn byte_cache<K, V, W>(bytes: u64, weighter: W) -> Cache<K, V, W>
where
    K: Eq + std::hash::Hash,
    V: Clone,
    W: Weighter<K, V> + Clone,
{
    let shards = usize::try_from(bytes >> 28).unwrap_or(1).clamp(1, 16);
    let options = OptionsBuilder::new()
        .shards(shards)
        .weight_capacity(bytes.max(1))
        .estimated_items_capacity(usize::try_from(bytes / 32_768).unwrap_or(1024).max(16))
        .build();
    match options {
        Ok(options) => {
            Cache::with_options(options, weighter, DefaultHashBuilder::default(), DefaultLifecycle::default())
        }
        Err(_) => Cache::with_weighter(1024, bytes, weighter),
    }
}
