//! What this installation remembers of an upstream's packages, for the policy: when a version was first seen, which were
//! delivered, what came of their signatures, and which names are in use.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use quick_cache::sync::Cache;
use tokio::sync::OnceCell;

use super::screening::ASK_AGAIN;
use super::{Error, Registry};
use crate::keys;
use crate::npm::signature::{self, PresentedSignature, Signature, SigningKey};
use crate::npm::{Form, PackageName, Timestamp, Version};
use crate::policy::{Record, VersionFacts};
use crate::storage::{self, Change, KeyedLocks};
use crate::upstream::{self, Upstream};

/// Records remembered; most are some hundred bytes.
const REMEMBERED: usize = 50_000;
/// How old a record may be where other processes write too: what one has delivered, the others know after this.
const RECORD_AGE: Duration = Duration::from_mins(1);
/// How long an upstream's keys are used without asking again.
const KEYS_LAST: Duration = Duration::from_hours(1);
/// Hosted names that are compared with; more would cost more than they tell.
const MAX_HOSTED_NAMES: usize = 100_000;

/// Which package of which upstream, by the name that its answers are kept under.
pub(super) type RecordId = (Arc<str>, PackageName);

/// What is in memory of all that.
pub(super) struct Records {
    of_packages: Cache<RecordId, KnownRecord>,
    /// Held from a change of a record until it is in memory, so that memory does not fall behind.
    locks: KeyedLocks<RecordId>,
    names_in_use: OnceCell<RwLock<BTreeSet<String>>>,
    keys: Cache<Arc<str>, (Arc<Vec<SigningKey>>, Timestamp)>,
    key_locks: KeyedLocks<Arc<str>>,
}

impl Default for Records {
    fn default() -> Self {
        Self {
            of_packages: Cache::new(REMEMBERED),
            locks: KeyedLocks::default(),
            names_in_use: OnceCell::new(),
            keys: Cache::new(100),
            key_locks: KeyedLocks::default(),
        }
    }
}

/// What an upstream's document says of a version that it signed.
#[derive(Debug, Clone)]
pub(super) struct Signed {
    /// As the document spells it.
    number: String,
    integrity: String,
    signatures: Vec<PresentedSignature>,
    published: Option<Timestamp>,
}

impl Signed {
    /// `None` for a version that is not signed.
    pub(super) fn of(version: &VersionFacts<'_>) -> Option<Self> {
        let signatures = version.signatures();
        let integrity = version.integrity().filter(|_| !signatures.is_empty())?;
        Some(Self { number: version.number.clone().into_owned(), integrity, signatures, published: version.published })
    }
}

/// A record, and when it was read.
#[derive(Debug, Clone)]
struct KnownRecord {
    record: Arc<Record>,
    read_at: Instant,
}

pub(super) fn id_of(upstream: &Upstream, name: &PackageName) -> RecordId {
    (upstream.shared_cache_name(), name.clone())
}

impl Registry {
    /// What is remembered of a package; an empty record for one that nobody has asked for.
    pub(super) async fn record(&self, upstream: &Upstream, name: &PackageName) -> Result<Arc<Record>, Error> {
        let id = id_of(upstream, name);
        let is_good = |known: &KnownRecord| !self.inner.store.is_shared() || known.read_at.elapsed() < RECORD_AGE;
        if let Some(known) = self.inner.records.of_packages.get(&id).filter(is_good) {
            return Ok(known.record);
        }
        // Behind a change under way, so as not to take the place of what it puts into memory.
        let _held = self.inner.records.locks.lock(&id).await;
        if let Some(known) = self.inner.records.of_packages.get(&id).filter(is_good) {
            return Ok(known.record);
        }
        let read_at = Instant::now();
        let record = match self.inner.store.read(&keys::record(&id.0, name)).await {
            Ok(bytes) => Arc::new(serde_json::from_slice(&bytes).map_err(|_| Error::Damaged)?),
            Err(storage::Error::NotFound) => Arc::default(),
            Err(error) => return Err(error.into()),
        };
        self.inner.records.of_packages.insert(id, KnownRecord { record: Arc::clone(&record), read_at });
        Ok(record)
    }

    async fn change_record(
        &self,
        upstream: &Upstream,
        name: &PackageName,
        change: impl FnOnce(&mut Record) + Clone + Send + 'static,
    ) -> Result<Arc<Record>, Error> {
        let id = id_of(upstream, name);
        let _held = self.inner.records.locks.lock(&id).await;
        let changed = self
            .inner
            .store
            .update(&keys::record(&id.0, name), move |stored| {
                let stored: Option<Record> =
                    stored.map(|bytes| serde_json::from_slice(&bytes)).transpose().map_err(|_| Error::Damaged)?;
                let before = stored.unwrap_or_default();
                let mut record = before.clone();
                change(&mut record);
                if record == before {
                    return Ok::<_, Error>(Change::Keep(record));
                }
                let bytes = serde_json::to_vec(&record).map_err(|_| Error::Damaged)?;
                Ok(Change::Write(bytes.into(), record))
            })
            .await?;
        let record = Arc::new(changed);
        let known = KnownRecord { record: Arc::clone(&record), read_at: Instant::now() };
        self.inner.records.of_packages.insert(id, known);
        Ok(record)
    }

    /// Starts the clock of versions whose dates are not known or not believed. What was noted before stays.
    pub(super) async fn note_first_seen(
        &self,
        upstream: &Upstream,
        name: &PackageName,
        numbers: Vec<String>,
        now: Timestamp,
    ) -> Result<Arc<Record>, Error> {
        self.change_record(upstream, name, move |record| {
            for number in numbers {
                record.first_seen.entry(number).or_insert_with(|| now.to_string());
            }
        })
        .await
    }

    /// Notes that a version's tarball was brought in, and what its signatures are worth. A failure costs a later exemption
    /// and is logged.
    pub(super) async fn note_served(
        &self,
        upstream: &Upstream,
        name: &PackageName,
        version: &Version,
        signed: Option<&Signed>,
    ) {
        let signature = self.checked_signature(upstream, name, signed).await;
        if let bad @ (Signature::Invalid | Signature::ExpiredKey) = signature {
            tracing::warn!(package.name = %name, package.version = %version, "the upstream's signature is {}", bad.as_str());
        }
        let (number, now) = (version.to_string(), self.inner.clock.now());
        let noted = self
            .change_record(upstream, name, move |record| {
                record.served.entry(number.clone()).or_insert_with(|| now.to_string());
                record.signatures.insert(number, signature);
            })
            .await;
        match noted {
            Ok(_) => {
                self.note_name_in_use(name);
                self.forget_judgement(upstream, name);
            }
            Err(error) => {
                tracing::warn!(package.name = %name, %error, "that a version was delivered could not be noted");
            }
        }
    }

    async fn checked_signature(&self, upstream: &Upstream, name: &PackageName, signed: Option<&Signed>) -> Signature {
        // Where nothing is signed, nobody is asked for keys.
        let Some(signed) = signed else { return Signature::Missing };
        let (keys, _) = self.signing_keys(upstream).await;
        signature::verify(name, &signed.number, &signed.integrity, &signed.signatures, &keys, signed.published)
    }

    /// The keys that an upstream signs with, and until when that is all there is to know. Those that were ever seen stay: a
    /// key that vanished has signed what is there, and an upstream that cannot be asked takes none away. Empty for one that
    /// signs nothing.
    pub(super) async fn signing_keys(&self, upstream: &Upstream) -> (Arc<Vec<SigningKey>>, Timestamp) {
        let id = upstream.shared_cache_name();
        // Many tarballs arrive at once, and one of them asks.
        let _held = self.inner.records.key_locks.lock(&id).await;
        let now = self.inner.clock.now();
        if let Some((keys, until)) = self.inner.records.keys.get(&id)
            && now < until
            && until <= now.plus(KEYS_LAST)
        {
            return (keys, until);
        }
        let (asked, lasts) = match upstream.signing_keys().await {
            Ok(keys) => (keys, KEYS_LAST),
            Err(upstream::Error::NotFound) => (Vec::new(), KEYS_LAST),
            Err(error) => {
                tracing::warn!(upstream = upstream.name(), %error, "the upstream's signing keys could not be asked for");
                (Vec::new(), ASK_AGAIN)
            }
        };
        let (keys, lasts) = match self.merged_keys(upstream, asked).await {
            Ok(keys) => (keys, lasts),
            Err(error) => {
                tracing::error!(upstream = upstream.name(), %error, "the upstream's signing keys could not be kept");
                (Vec::new(), ASK_AGAIN)
            }
        };
        let known = (Arc::new(keys), now.plus(lasts));
        self.inner.records.keys.insert(id, known.clone());
        known
    }

    async fn merged_keys(&self, upstream: &Upstream, fresh: Vec<SigningKey>) -> Result<Vec<SigningKey>, Error> {
        let name = upstream.name().to_owned();
        Ok(self
            .inner
            .store
            .update(&keys::signing_keys(upstream.cache_name()), move |stored| {
                let known: Option<Vec<SigningKey>> =
                    stored.map(|bytes| serde_json::from_slice(&bytes)).transpose().map_err(|_| Error::Damaged)?;
                let (is_first, before) = (known.is_none(), known.unwrap_or_default());
                let mut keys = before.clone();
                for key in fresh {
                    // An end may be set to a key; what the key is does not change.
                    if let Some(known) = keys.iter_mut().find(|known| known.keyid == key.keyid) {
                        known.expires = key.expires;
                        continue;
                    }
                    if !is_first {
                        tracing::warn!(upstream = name, key = key.keyid, "the upstream signs with a new key");
                    }
                    keys.push(key);
                }
                if keys == before {
                    return Ok::<_, Error>(Change::Keep(keys));
                }
                let bytes = serde_json::to_vec(&keys).map_err(|_| Error::Damaged)?;
                Ok(Change::Write(bytes.into(), keys))
            })
            .await?)
    }

    /// All names that this installation uses: hosted here, or delivered from an upstream. Gathered when it is first asked
    /// for, and kept up since.
    pub(super) async fn names_in_use(&self) -> Result<&RwLock<BTreeSet<String>>, Error> {
        let gather = || async {
            let mut names = if self.inner.store.is_shared() {
                let listed = self.listed_documents().await?;
                listed.into_keys().take(MAX_HOSTED_NAMES).map(|name| name.as_str().to_owned()).collect()
            } else {
                self.hosted_names(MAX_HOSTED_NAMES).await?
            };
            for upstream in self.terms.sources.upstreams() {
                let mut listed = self.inner.store.list_folder(&keys::records(upstream.cache_name()));
                while let Some(found) = listed.recv().await {
                    let name = found?.record_name(upstream.cache_name());
                    names.extend(name.map(|name| name.as_str().to_owned()));
                }
            }
            Ok(RwLock::new(names))
        };
        self.inner.records.names_in_use.get_or_try_init(gather).await
    }

    pub(super) fn note_name_in_use(&self, name: &PackageName) {
        if let Some(names) = self.inner.records.names_in_use.get() {
            names.write().unwrap_or_else(PoisonError::into_inner).insert(name.as_str().to_owned());
        }
    }

    /// The document at hand of a package, without asking the upstream.
    pub(super) async fn kept_document(
        &self,
        upstream: &Upstream,
        name: &PackageName,
    ) -> Result<Option<Arc<super::proxied::ProxiedDocument>>, Error> {
        self.remembered_document(upstream, name, Form::Abbreviated).await
    }
}
