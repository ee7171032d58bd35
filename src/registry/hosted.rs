//! Hosted documents: what is known of them in memory, and the one way to change them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::{Error, Registry, byte_cache};
use crate::keys;
use crate::metrics::CacheMeter;
use crate::npm::PackageName;
use crate::npm::packument::{EditError, Findings, Head, HostedPackument, Plan};
use crate::random;
use crate::storage::{self, Change, KeyedLocks, Known, Snapshot, Stamp, UpdateError};
use crate::takeover::{Look, examine};

/// The largest document that is served. Without tarballs in it, as an older system left them, none comes near.
/// Everything else that reads a document comes after a look at its head, which refuses larger ones.
const MAX_DOCUMENT_BYTES: u64 = 64 << 20;
/// Heads remembered, of packages that are here and of names that are not; a few hundred bytes each.
const REMEMBERED_HEADS: usize = 50_000;

/// How old what is known of a package may be when one of its tarballs is asked for, where other processes write too. The
/// bytes of a version never change; what comes this much later is that it was removed, or is its owners' alone.
pub(super) const TARBALL_HEAD_AGE: Duration = Duration::from_secs(5);

/// What is known of hosted names.
///
/// On a directory this process is the only writer, so what is in here is always right: a change puts the new head in
/// before the next one may start. In a bucket others write too, so a head is looked after with one conditional request
/// before it is used; requests that arrive during such a look share the next one.
#[derive(Debug)]
pub(super) struct HostedHeads {
    heads: Cache<PackageName, KnownHead>,
    /// Documents of a bucket, so that what a look has brought need not be fetched again.
    documents: Cache<PackageName, Snapshot, ByDocument>,
    looks: KeyedLocks<PackageName>,
    reads: CacheMeter,
}

#[derive(Debug, Clone)]
struct KnownHead {
    /// `None` for a name that is not hosted here.
    head: Option<Arc<Head>>,
    stamp: Option<Stamp>,
    /// When the look that found this began: it holds for whoever asked before.
    looked_at: Instant,
}

/// Counts a document's bytes.
#[derive(Debug, Clone)]
struct ByDocument;

impl Weighter<PackageName, Snapshot> for ByDocument {
    fn weight(&self, _: &PackageName, snapshot: &Snapshot) -> u64 {
        snapshot.bytes.len() as u64 + 1024
    }
}

impl HostedHeads {
    /// `document_bytes` is for documents of a bucket.
    pub(super) fn new(document_bytes: u64, reads: CacheMeter) -> Self {
        Self {
            heads: Cache::new(REMEMBERED_HEADS),
            documents: byte_cache(document_bytes, ByDocument),
            looks: KeyedLocks::default(),
            reads,
        }
    }

    pub(super) fn documents_bytes(&self) -> u64 {
        self.documents.weight()
    }

    /// The document in memory, if it is in the state that was last seen.
    fn document(&self, name: &PackageName) -> Option<Snapshot> {
        let seen = self.heads.get(name)?.stamp?;
        self.documents.get(name).filter(|document| document.stamp == seen)
    }

    /// What a change of the package may begin from.
    fn known(&self, name: &PackageName) -> Known {
        match self.heads.get(name) {
            Some(KnownHead { head: None, .. }) => Known::Absent,
            _ => self.document(name).map_or(Known::Nothing, Known::State),
        }
    }

    /// Drops a document from memory that is not in the state that a list has told.
    pub(super) fn keep_only(&self, name: &PackageName, etag: Option<&str>) {
        if self.documents.get(name).is_some_and(|document| document.stamp.etag() != etag) {
            self.documents.remove(name);
        }
    }

    fn remember(&self, name: &PackageName, head: Option<Arc<Head>>, snapshot: Option<Snapshot>, looked_at: Instant) {
        let stamp = snapshot.as_ref().map(|snapshot| snapshot.stamp.clone());
        match snapshot {
            Some(snapshot) => self.documents.insert(name.clone(), snapshot),
            None => {
                self.documents.remove(name);
            }
        }
        self.heads.insert(name.clone(), KnownHead { head, stamp, looked_at });
    }
}

impl Registry {
    /// The head of a hosted package, also of one that was unpublished; `None` when the name was never hosted. As it is
    /// now, or as it was for at most the time that the settings allow.
    pub(super) async fn hosted_head(&self, name: &PackageName) -> Result<Option<Arc<Head>>, Error> {
        self.hosted_head_within(name, self.terms.fresh).await
    }

    /// As [`Registry::hosted_head`], and it may be this old where other processes write too.
    pub(super) async fn hosted_head_within(
        &self,
        name: &PackageName,
        age: Duration,
    ) -> Result<Option<Arc<Head>>, Error> {
        let known = &self.inner.heads;
        let is_shared = self.inner.store.is_shared();
        let asked_at = Instant::now();
        let is_good = |found: &KnownHead| !is_shared || found.looked_at + age >= asked_at;
        let found = known.heads.get(name).filter(is_good);
        known.reads.read(found.is_some());
        if let Some(found) = found {
            return Ok(found.head);
        }
        Box::pin(self.look_or_wait(name, is_good)).await
    }

    /// Looks, unless somebody else has while this waited for it.
    async fn look_or_wait(
        &self,
        name: &PackageName,
        is_good: impl Fn(&KnownHead) -> bool + Send,
    ) -> Result<Option<Arc<Head>>, Error> {
        let known = &self.inner.heads;
        let is_shared = self.inner.store.is_shared();
        // A change on this process holds the other lock until it is in memory. Only on a directory must a look wait for
        // that: in a bucket what it brings is looked after in any case.
        let locks = if is_shared { &known.looks } else { &self.inner.documents };
        let _held = locks.lock(name).await;
        if let Some(found) = known.heads.get(name).filter(|found| is_good(found)) {
            return Ok(found.head);
        }
        self.look(name).await
    }

    /// Looks at a stored document, unless what was seen is still there, and remembers its head. Call it with the name's
    /// lock.
    async fn look(&self, name: &PackageName) -> Result<Option<Arc<Head>>, Error> {
        let known = &self.inner.heads;
        let before = known.heads.get(name);
        let looked_at = Instant::now();
        let seen = before.as_ref().and_then(|found| found.stamp.as_ref());
        let looked = self.inner.store.snapshot_unless(&keys::packument(name), seen, MAX_DOCUMENT_BYTES).await;
        let head = match looked {
            Ok(Some(snapshot)) => {
                let bytes = snapshot.bytes.clone();
                let parsed = self.off_thread(bytes.len(), move || Ok(HostedPackument::parse(&bytes)?.head())).await?;
                let head = Some(Arc::new(parsed));
                let is_shared = self.inner.store.is_shared();
                known.remember(name, head.clone(), Some(snapshot).filter(|_| is_shared), looked_at);
                head
            }
            Ok(None) => {
                let Some(found) = before else { return Err(Error::Interrupted) };
                let head = found.head.clone();
                known.heads.insert(name.clone(), KnownHead { looked_at, ..found });
                head
            }
            Err(storage::Error::NotFound) => {
                known.remember(name, None, None, looked_at);
                None
            }
            Err(storage::Error::TooLarge) => return Err(Error::DocumentTooLarge(name.clone())),
            Err(error) => return Err(error.into()),
        };
        Ok(head)
    }

    /// The head of a package that is here now, or "not found".
    pub(super) async fn existing_head(&self, name: &PackageName) -> Result<Arc<Head>, Error> {
        match self.hosted_head(name).await? {
            Some(head) if head.exists => Ok(head),
            _ => Err(Error::PackageNotFound(name.clone())),
        }
    }

    /// A hosted package's stored document.
    pub(super) async fn hosted_document(&self, name: &PackageName) -> Result<Bytes, Error> {
        if let Some(known) = self.inner.heads.document(name) {
            return Ok(known.bytes);
        }
        match self.inner.store.read(&keys::packument(name)).await {
            Ok(bytes) => Ok(bytes),
            Err(storage::Error::NotFound) => Err(Error::PackageNotFound(name.clone())),
            Err(error) => Err(error.into()),
        }
    }

    /// Changes a hosted package: reads its document, applies a pure function to it, writes it, all or nothing, and
    /// remembers the new head. `change` gets `None` when the name was never hosted, returns the changed document and
    /// a value, or `None` in the document's place when nothing is to be written.
    ///
    /// Call it within [`Registry::to_the_end`].
    pub(super) async fn change_document<T: Send + 'static>(
        &self,
        name: &PackageName,
        change: impl for<'a> FnOnce(Option<HostedPackument<'a>>) -> Result<(Option<HostedPackument<'a>>, T), Error>
        + Clone
        + Send
        + 'static,
    ) -> Result<T, Error> {
        self.require_writable()?;
        let held = self.inner.documents.lock(name).await;
        let findings = self.findings(name).await?;
        let is_takeover = findings.is_some();
        // Others may change the package from the moment on that our write is done, which is before we are told so.
        let began = Instant::now();
        let now = self.inner.clock.now();
        let known = self.inner.heads.known(name);
        let result = self
            .inner
            .store
            .update_from(&keys::packument(name), known, move |stored| {
                let mut current = stored.as_deref().map(HostedPackument::parse).transpose()?;
                if let Some(document) = current.as_mut().filter(|document| document.is_older()) {
                    let findings = findings.as_ref().ok_or(Error::Superseded)?;
                    document.take_over(findings, now).map_err(|error| match error {
                        // The older system still runs, and was quicker.
                        EditError::StaleRevision => Error::Superseded,
                        other => other.into(),
                    })?;
                }
                let (changed, value) = change(current)?;
                let Some(document) = changed else { return Ok(Change::Keep((None, value))) };
                let (bytes, head) = document.into_stored_and_head(&random::id(), now)?;
                Ok::<_, Error>(Change::Write(bytes.into(), (Some(head), value)))
            })
            .await;
        match result {
            Ok(((head, value), snapshot)) => {
                if let Some(head) = head {
                    if is_takeover {
                        tracing::info!(package.name = %name, "an older system's document was taken over");
                    }
                    if snapshot.is_some() || !self.inner.store.is_shared() {
                        self.inner.heads.remember(name, Some(Arc::new(head)), snapshot, began);
                    } else {
                        // Others have changed it since.
                        self.inner.heads.heads.remove(name);
                    }
                    self.inner.indexer.note(name.clone());
                }
                drop(held);
                Ok(value)
            }
            Err(error) => {
                // After an unclear answer nobody knows what is stored: look again next time.
                self.inner.heads.heads.remove(name);
                if matches!(error, UpdateError::Store(_)) {
                    self.inner.indexer.note(name.clone());
                }
                drop(held);
                Err(error.into())
            }
        }
    }

    /// What an older system's document is taken over with; `None` for one of ours. Call it with the name's lock.
    async fn findings(&self, name: &PackageName) -> Result<Option<Findings>, Error> {
        let head = match self.inner.heads.heads.get(name) {
            Some(known) => known.head,
            None => self.look(name).await?,
        };
        if !head.is_some_and(|head| head.is_older) {
            return Ok(None);
        }
        let stored = self.hosted_document(name).await?;
        let Some(plan) = self.off_thread(stored.len(), move || Ok(Plan::of(&stored)?)).await? else { return Ok(None) };
        let look = Look { measures: false, writes: true };
        Ok(Some(examine(&self.inner.store, name, plan, look).await?.findings))
    }

    /// As [`Registry::change_document`], for packages that must be there.
    pub(super) async fn change_existing<T: Send + 'static>(
        &self,
        name: &PackageName,
        change: impl FnOnce(&mut HostedPackument<'_>) -> Result<T, Error> + Clone + Send + 'static,
    ) -> Result<T, Error> {
        let package = name.clone();
        self.change_document(name, move |current| {
            let Some(mut document) = current.filter(|document| document.head().exists) else {
                return Err(Error::PackageNotFound(package));
            };
            let value = change(&mut document)?;
            Ok((Some(document), value))
        })
        .await
    }

    /// Refuses to change a package that is an upstream's, with an answer that says so.
    pub(super) async fn require_hosted(&self, name: &PackageName) -> Result<Arc<Head>, Error> {
        match self.existing_head(name).await {
            Err(Error::PackageNotFound(_)) if self.exists_upstream(name).await => Err(Error::NotHosted(name.clone())),
            other => other,
        }
    }
}
