//! Reading a tarball: from here, or from an upstream while it is checked and kept.
//!
//! An upstream's tarball streams to every client that asks while one fetch hashes and stages it. The last byte is held
//! back until the hash is right, so that no client can take wrong bytes for a whole file; only then it gets its key.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use quick_cache::Equivalent;
use quick_cache::sync::Cache;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use url::Url;

use super::hosted::TARBALL_HEAD_AGE;
use super::proxied::{Found, ProxiedDocument};
use super::records::Signed;
use super::screening::{require_offered, withheld_error};
use super::source::Route;
use super::{Error, Registry};
use crate::auth::{Action, Caller};
use crate::keys::{self, Key};
use crate::npm::integrity::sha256_hex;
use crate::npm::packument::HostedPackument;
use crate::npm::{Form, Integrity, PackageName, RawObject, Timestamp, Version, render};
use crate::policy::{Facts, Origin, VersionFacts};
use crate::storage::{self, Download, Durability, Existing, Follower, Upload};
use crate::traces;
use crate::upstream::freshness::Kept;
use crate::upstream::single_flight::SingleFlight;
use crate::upstream::{self, Upstream};

/// Hosted tarballs whose key is remembered; about 300 bytes each.
const REMEMBERED_KEYS: usize = 20_000;
/// Missing files remembered; about 200 bytes each.
const REMEMBERED_MISSING: usize = 10_000;
/// So many bytes are written at once where they have come.
const PIECE_BYTES: usize = 256 << 10;
/// A document younger than this is not asked for again because it lacks a version.
const ASK_AGAIN_MILLIS: i64 = 10_000;

/// The bytes have another hash than the document says.
const MISMATCH: upstream::Error = upstream::Error::BadAnswer("the tarball is not the one its document describes");

/// A tarball that was found.
pub enum TarballBytes {
    /// To be fetched from the bucket, by a link that needs no credentials and soon ends.
    Elsewhere(Url),
    /// Kept, and open.
    Stored(Download),
    /// On their way from an upstream.
    Arriving {
        /// As the upstream said.
        size_bytes: Option<u64>,
        /// Ends in an error when the bytes turn out wrong.
        stream: BoxStream<'static, Result<Bytes, storage::FollowError>>,
    },
}

impl std::fmt::Debug for TarballBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Elsewhere(_) => "Elsewhere",
            Self::Stored(_) => "Stored",
            Self::Arriving { .. } => "Arriving",
        })
    }
}

/// When a tarball is not sent but fetched from the bucket by its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redirect {
    /// Every byte goes through this process.
    Never,
    /// None does.
    Always,
    /// Only those of tarballs up to this size do, in bytes. Costs a look at each tarball's size.
    Above(u64),
}

/// When clients are sent to the bucket, and how long the link is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Redirects {
    /// When.
    pub to: Redirect,
    /// From its making; a download that has begun goes on.
    pub lasts: Duration,
}

/// A fetch under way.
#[derive(Debug, Clone)]
struct Transfer {
    follower: Follower,
    size_bytes: Option<u64>,
    /// Fails when the fetch has ended, well or not.
    under_way: watch::Receiver<()>,
}

/// What came of starting a fetch.
#[derive(Debug, Clone)]
enum Start {
    /// It is under way.
    Running(Transfer),
    /// It ended, between the caller's look and its turn.
    Kept,
}

type Started = Result<Start, Arc<Error>>;

/// Fetches under way, and where hosted tarballs lie.
pub(super) struct Transfers {
    running: Arc<Mutex<HashMap<Key, Transfer>>>,
    starts: SingleFlight<Key, Started>,
    /// Files that an upstream was found not to have though its document names them, and when.
    missing: Cache<Key, Timestamp>,
    hosted: Cache<Asked, Lies>,
}

/// A hosted package and a version's number as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Asked {
    name: PackageName,
    number: String,
}

/// The same, borrowed, with the members in the same order.
#[derive(Debug, Clone, Copy, Hash)]
struct AskedRef<'a> {
    name: &'a PackageName,
    number: &'a str,
}

impl Equivalent<Asked> for AskedRef<'_> {
    fn equivalent(&self, asked: &Asked) -> bool {
        *self.name == asked.name && *self.number == *asked.number
    }
}

/// Where a tarball lies, and the revision of the document that says so.
#[derive(Debug, Clone)]
struct Lies {
    revision: Arc<str>,
    key: Key,
}

/// What an upstream's document says of a version's tarball.
#[derive(Debug)]
pub(super) struct Expected {
    url: Url,
    pub(super) integrity: Integrity,
    signed: Option<Signed>,
}

impl Transfers {
    pub(super) fn new(tasks: TaskTracker) -> Self {
        Self {
            running: Arc::default(),
            starts: SingleFlight::new(tasks),
            missing: Cache::new(REMEMBERED_MISSING),
            hosted: Cache::new(REMEMBERED_KEYS),
        }
    }

    fn running(&self, key: &Key) -> Option<Transfer> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }
}

/// Removes a fetch from the list when it ends, however it ends.
struct Registered {
    running: Arc<Mutex<HashMap<Key, Transfer>>>,
    key: Key,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

impl Registry {
    /// A tarball by its file name. `by_link` where the client may be sent to the bucket: a link is good for `GET` alone.
    pub async fn tarball(
        &self,
        caller: &Caller,
        name: &PackageName,
        file: &str,
        by_link: bool,
    ) -> Result<TarballBytes, Error> {
        let found = self.find_tarball(caller, name, file, by_link).await;
        found.inspect_err(|error| self.note_withheld(caller, error))
    }

    async fn find_tarball(
        &self,
        caller: &Caller,
        name: &PackageName,
        file: &str,
        by_link: bool,
    ) -> Result<TarballBytes, Error> {
        let to = if by_link { self.redirect() } else { Redirect::Never };
        let not_found = || Error::TarballNotFound { name: name.clone(), file: file.to_owned() };
        let head = self.hosted_head_within(name, TARBALL_HEAD_AGE.max(self.terms.fresh)).await?;
        self.authorize(caller, Action::Read, name, head.as_ref().map_or(&[], |head| &head.owners))?;
        let number = render::version_in_file_name(name, file).ok_or_else(not_found)?;
        if let Some(head) = &head {
            let judged = self.judged_hosted(name, &head.revision).await?;
            if judged.is_some() {
                let judged_as = number.parse::<Version>().map_or_else(|_| number.to_owned(), |known| known.to_string());
                require_offered(judged.as_ref(), name, &judged_as)?;
            }
            let key = match self.known_tarball_key(name, number, &head.revision) {
                Some(key) => key,
                None => Box::pin(self.find_tarball_key(name, number, &head.revision)).await?.ok_or_else(not_found)?,
            };
            if to == Redirect::Never
                && let Some(download) = self.inner.store.opened(&key)
            {
                return Ok(TarballBytes::Stored(download));
            }
            // Of an older system's document it is not known that its tarballs are there.
            let kept = if head.is_older {
                Box::pin(self.kept_if_there(&key, to)).await?
            } else {
                Box::pin(self.kept_tarball(&key, to)).await?
            };
            match kept {
                Some(kept) => return Ok(kept),
                // The tarballs of a copy are where the copy was made.
                None if head.is_copy => {}
                None => return Err(not_found()),
            }
        }
        let version = number.parse::<Version>().map_err(|_| not_found())?;
        let Route::Upstream(upstream) = self.terms.sources.route(name) else { return Err(not_found()) };
        Box::pin(self.proxied_tarball(upstream, name, (number, &version), to, not_found)).await
    }

    /// The key of a hosted version's tarball, where it is remembered for this revision.
    fn known_tarball_key(&self, name: &PackageName, number: &str, revision: &str) -> Option<Key> {
        let known = self.inner.transfers.hosted.get(&AskedRef { name, number })?;
        (*known.revision == *revision).then_some(known.key)
    }

    /// The key of a hosted version's tarball, from its document. The number is looked for as it was asked for, since an
    /// older system's documents have numbers that are no versions, then as everybody spells it.
    async fn find_tarball_key(&self, name: &PackageName, number: &str, revision: &str) -> Result<Option<Key>, Error> {
        let stored = self.hosted_document(name).await?;
        let id = Asked { name: name.clone(), number: number.to_owned() };
        let Asked { name, number: asked } = id.clone();
        let key = self
            .off_thread(stored.len(), move || {
                let document = HostedPackument::parse(&stored)?;
                let version = asked.parse::<Version>().ok();
                let spellings = [Some(asked), version.as_ref().map(ToString::to_string)];
                let found = spellings.into_iter().flatten().find(|number| document.version(number).is_some());
                let Some(number) = found else { return Ok(None) };
                Ok(match (document.tarball_digest(&number), version) {
                    (Some(digest), Some(version)) => Some(keys::tarball(&name, &version, digest)),
                    _ => keys::legacy_tarball(&name, &number),
                })
            })
            .await?;
        if let Some(key) = &key {
            self.inner.transfers.hosted.insert(id, Lies { revision: revision.into(), key: key.clone() });
        }
        Ok(key)
    }

    pub(super) async fn proxied_tarball(
        &self,
        upstream: &Upstream,
        name: &PackageName,
        (number, version): (&str, &Version),
        to: Redirect,
        not_found: impl Fn() -> Error,
    ) -> Result<TarballBytes, Error> {
        self.policy_loaded().await;
        // What was malicious is often gone from the document, and may still be kept here.
        if let Some(withheld) = self.refused_by_number(upstream, name, version) {
            return Err(withheld_error(name, Some(&version.to_string()), &withheld));
        }
        let key = keys::cached_tarball(upstream.cache_name(), name, version);
        let at_hand = self.kept_document(upstream, name).await?;
        let seen = self.require_offered_at_hand(upstream, name, version, at_hand).await?;
        // What is redirected has to be there; of what is hosted here its document says so.
        if let Some(kept) = self.kept_if_there(&key, to).await? {
            return Ok(kept);
        }
        if let Some(transfer) = self.inner.transfers.running(&key) {
            return self.arriving(&key, transfer, to).await;
        }
        let missing = &self.inner.transfers.missing;
        if missing.get(&key).is_some_and(|asked_at| self.is_fresh(upstream, Kept::Absent, asked_at)) {
            return Err(not_found());
        }
        let Some(expected) = self.expected_tarball(upstream, name, number, version, seen).await? else {
            return Err(not_found());
        };
        // It may be in a document that is newer than the one at hand.
        self.require_offered_now(upstream, name, version).await?;
        let (this, upstream, flight_key) = (self.clone(), upstream.clone(), key.clone());
        let wanted = (name.clone(), version.clone());
        let start = async move { this.start_transfer(&upstream, flight_key, expected, wanted).await.map_err(Arc::new) };
        match self.inner.transfers.starts.run(key.clone(), start).await.map_err(|_| Error::Interrupted)? {
            Ok(Start::Running(transfer)) => self.arriving(&key, transfer, to).await,
            Ok(Start::Kept) => self.kept_tarball(&key, to).await?.ok_or_else(not_found),
            // The document names a file that the upstream does not have.
            Err(error) if matches!(*error, Error::Upstream(upstream::Error::NotFound)) => {
                missing.insert(key, self.inner.clock.now());
                Err(not_found())
            }
            Err(error) => Err(Arc::try_unwrap(error).unwrap_or_else(|shared| shared.for_another_waiter())),
        }
    }

    /// Puts an answer into the bucket for its client to fetch, where it cannot be sent; `None` where the store has no links.
    pub async fn hand_over(
        &self,
        bytes: Bytes,
        content_type: &str,
        content_encoding: Option<&str>,
    ) -> Result<Option<Url>, Error> {
        let lasts = self.terms.redirect.lasts;
        let key = keys::handed_over(&sha256_hex(&bytes));
        let Some(link) = self.inner.store.answer_link(&key, lasts, content_type, content_encoding).await? else {
            return Ok(None);
        };
        self.inner.store.put(&key, bytes, Durability::Cache).await?;
        Ok(Some(link))
    }

    /// When clients are sent to the bucket for bytes.
    fn redirect(&self) -> Redirect {
        if self.inner.store.is_shared() { self.terms.redirect.to } else { Redirect::Never }
    }

    /// Whether clients are sent to the bucket for bytes at all.
    pub(super) fn redirects(&self) -> bool {
        self.redirect() != Redirect::Never
    }

    pub(super) async fn is_kept(&self, key: &Key) -> Result<bool, Error> {
        match self.inner.store.size(key).await {
            Ok(_) => Ok(true),
            Err(storage::Error::NotFound) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// What is kept under a key: as a link, where the settings say so and the store has links, else its bytes.
    async fn kept_tarball(&self, key: &Key, to: Redirect) -> Result<Option<TarballBytes>, Error> {
        let wants_link = match to {
            Redirect::Never => false,
            Redirect::Always => true,
            Redirect::Above(bytes) => match self.inner.store.size(key).await {
                Ok(size) => size > bytes,
                Err(storage::Error::NotFound) => return Ok(None),
                Err(error) => return Err(error.into()),
            },
        };
        if wants_link && let Some(link) = self.inner.store.reading_link(key, self.terms.redirect.lasts).await? {
            return Ok(Some(TarballBytes::Elsewhere(link)));
        }
        match self.inner.store.open_fixed(key).await {
            Ok(download) => Ok(Some(TarballBytes::Stored(download))),
            Err(storage::Error::NotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What is under way: as it comes, or as a link once it is there.
    async fn arriving(&self, key: &Key, transfer: Transfer, to: Redirect) -> Result<TarballBytes, Error> {
        let is_small = |above: u64| transfer.size_bytes.is_some_and(|size| size <= above);
        match to {
            Redirect::Never => return Ok(transfer.into_bytes()),
            Redirect::Above(bytes) if is_small(bytes) => return Ok(transfer.into_bytes()),
            Redirect::Above(_) | Redirect::Always => {}
        }
        let mut under_way = transfer.under_way;
        while under_way.changed().await.is_ok() {}
        let failed = upstream::Error::BadAnswer("its tarball could not be fetched whole, see the log");
        self.kept_if_there(key, to).await?.ok_or(Error::Upstream(failed))
    }

    /// As [`Registry::kept_tarball`] for what may not be there, which a link does not tell.
    async fn kept_if_there(&self, key: &Key, to: Redirect) -> Result<Option<TarballBytes>, Error> {
        if to == Redirect::Always && !self.is_kept(key).await? {
            return Ok(None);
        }
        self.kept_tarball(key, to).await
    }

    /// Refuses a version that is withheld, before anything is given out or asked for. By the document at hand, however old:
    /// what is kept is given out without a question to the upstream, and also when there is none to be asked. Gives the
    /// upstream's document where it was asked for.
    async fn require_offered_at_hand(
        &self,
        upstream: &Upstream,
        name: &PackageName,
        version: &Version,
        at_hand: Option<Arc<ProxiedDocument>>,
    ) -> Result<Option<Found>, Error> {
        // One without dates tells too little where dates decide.
        match at_hand.filter(|document| self.is_datable(upstream, name, document)) {
            Some(document) => match self.require_offered_in(upstream, name, &Found::kept(document), version).await {
                Err(Error::Superseded | Error::Damaged) => {}
                other => return other.map(|()| None),
            },
            None if !self.policy().concerns(Origin::Upstream(upstream.name()), name) => return Ok(None),
            None => {}
        }
        match self.require_offered_now(upstream, name, version).await {
            // What is kept was delivered before, and is given out although its upstream is away, or has it no more. What is
            // not kept cannot be had now in any case.
            Err(Error::Upstream(error)) if error.is_transient() => Ok(None),
            Err(Error::PackageNotFound(_)) => Ok(None),
            other => other.map(Some),
        }
    }

    /// As [`Registry::require_offered_at_hand`], by the upstream's document as it is now, which it gives.
    pub(super) async fn require_offered_now(
        &self,
        upstream: &Upstream,
        name: &PackageName,
        version: &Version,
    ) -> Result<Found, Error> {
        for _ in 0..2 {
            let found = self.datable_document(upstream, name, Form::Abbreviated).await?;
            match self.require_offered_in(upstream, name, &found, version).await {
                Err(Error::Superseded) => {}
                other => return other.map(|()| found),
            }
        }
        Err(Error::Superseded)
    }

    async fn require_offered_in(
        &self,
        upstream: &Upstream,
        name: &PackageName,
        found: &Found,
        version: &Version,
    ) -> Result<(), Error> {
        let judged = self.judged_upstream(upstream, name, found).await?;
        require_offered(judged.as_ref(), name, &version.to_string())
    }

    /// What the document says of the version's tarball: the one that was just seen, or the one that is to be had now. A
    /// version that the kept document lacks may have been published since, so the upstream is asked once more before the
    /// answer is "no such file".
    pub(super) async fn expected_tarball(
        &self,
        upstream: &Upstream,
        name: &PackageName,
        number: &str,
        version: &Version,
        seen: Option<Found>,
    ) -> Result<Option<Expected>, Error> {
        let found = match seen {
            Some(seen) => seen,
            None => self.proxied_document(upstream, name, Form::Abbreviated).await?,
        };
        let kept = self.expected_in(upstream, name, number, version, &found).await?;
        // Asked a moment ago: a stranger who makes numbers up must not have the upstream asked for each.
        let is_young = found
            .fetched_at
            .is_some_and(|at| (0..ASK_AGAIN_MILLIS).contains(&(self.inner.clock.now().as_millis() - at.as_millis())));
        if kept.is_some() || found.is_stale || is_young {
            return Ok(kept);
        }
        let renewed = self.proxied_document_anew(upstream, name, found.document.form).await?;
        if renewed.document.revision == found.document.revision {
            return Ok(None);
        }
        self.expected_in(upstream, name, number, version, &renewed).await
    }

    async fn expected_in(
        &self,
        upstream: &Upstream,
        name: &PackageName,
        number: &str,
        version: &Version,
        found: &Found,
    ) -> Result<Option<Expected>, Error> {
        let body = match &found.body {
            Some(body) => body.clone(),
            None => self.proxied_bytes(upstream, name, found.document.form).await?,
        };
        // As the document spells it, which may be with build metadata, else as everybody does.
        let spellings = [number.to_owned(), version.to_string()];
        let (upstream, name) = (upstream.clone(), name.clone());
        self.off_thread(body.len(), move || {
            let facts = Facts::parse(&body).map_err(|_| Error::Damaged)?;
            let spelled = |number: &String| facts.versions.iter().find(|version| version.number == *number);
            let Some(version) = spellings.iter().find_map(spelled) else { return Ok(None) };
            expected_of(&upstream, &name, version).map(Some).map_err(Error::from)
        })
        .await
    }

    /// Asks the upstream for the file and starts the task that brings it in. Returns as soon as the answer's head is
    /// there.
    async fn start_transfer(
        &self,
        upstream: &Upstream,
        key: Key,
        expected: Expected,
        (name, version): (PackageName, Version),
    ) -> Result<Start, Error> {
        // Between the caller's look and this flight another fetch may have started, or even ended. It is in the list
        // until its bytes have their key, so this order misses none.
        if let Some(running) = self.inner.transfers.running(&key) {
            return Ok(Start::Running(running));
        }
        if self.is_kept(&key).await? {
            return Ok(Start::Kept);
        }
        let body = upstream.tarball(&expected.url).await?;
        let upload = self.inner.store.upload().await?;
        let (ends, under_way) = watch::channel(());
        let transfer = Transfer { follower: upload.follow(), size_bytes: body.content_length, under_way };
        let running = Arc::clone(&self.inner.transfers.running);
        running.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), transfer.clone());
        let registered = Registered { running, key: key.clone() };
        let Expected { integrity, signed, .. } = expected;
        let (this, upstream) = (self.clone(), upstream.clone());
        self.inner.tasks.spawn(traces::carried_on(async move {
            let brought = traces::step("tarball", "receive", bring_in(body.stream, upload, &integrity, &key)).await;
            drop(registered);
            drop(ends);
            match brought {
                Ok(()) => this.note_served(&upstream, &name, &version, signed.as_ref()).await,
                Err(error) => {
                    if matches!(&error, Error::Upstream(error) if *error == MISMATCH) {
                        this.note_mismatch(upstream.name(), &name, &version);
                    }
                    tracing::warn!(storage.key = %key, cause = %error, "an upstream's tarball was not kept");
                }
            }
        }));
        Ok(Start::Running(transfer))
    }
}

/// The next bytes, with those that have come by now: another thread writes them, and to have it do so costs more than to write
/// the few that came at once.
async fn next_piece(stream: &mut BoxStream<'static, Result<Bytes, upstream::Error>>) -> Result<Option<Bytes>, Error> {
    let Some(first) = stream.try_next().await? else { return Ok(None) };
    let mut pieces = vec![first];
    while pieces.iter().map(Bytes::len).sum::<usize>() < PIECE_BYTES {
        // Whoever reads from the connection is given a turn.
        tokio::task::yield_now().await;
        match stream.try_next().now_or_never() {
            Some(Ok(Some(more))) => pieces.push(more),
            Some(Err(error)) => return Err(error.into()),
            Some(Ok(None)) | None => break,
        }
    }
    Ok(Some(if pieces.len() == 1 { pieces.swap_remove(0) } else { pieces.concat().into() }))
}

/// Streams the bytes into the upload and keeps them if they are the expected ones.
async fn bring_in(
    stream: BoxStream<'static, Result<Bytes, upstream::Error>>,
    mut upload: Upload,
    integrity: &Integrity,
    key: &Key,
) -> Result<(), Error> {
    let mut verifier = integrity.verifier();
    // It may be asked once more after its end.
    let mut stream = stream.fuse().boxed();
    while let Some(bytes) = next_piece(&mut stream).await? {
        verifier.update(&bytes);
        upload.write(bytes).await?;
    }
    if !verifier.finish() {
        return Err(MISMATCH.into());
    }
    upload.complete();
    match upload.keep(key, Existing::Refuse, Durability::Synced).await {
        // The bytes under a key of the cache are verified ones, whoever brought them.
        Ok(()) | Err(storage::Error::Exists) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

impl Transfer {
    fn into_bytes(self) -> TarballBytes {
        TarballBytes::Arriving { size_bytes: self.size_bytes, stream: self.follower.stream().boxed() }
    }
}

impl Error {
    /// The same failure for one more of those who waited for it.
    fn for_another_waiter(&self) -> Self {
        match self {
            Self::Upstream(error) => Self::Upstream(error.clone()),
            _ => Self::Interrupted,
        }
    }
}

fn expected_of(
    upstream: &Upstream,
    name: &PackageName,
    version: &VersionFacts<'_>,
) -> Result<Expected, upstream::Error> {
    let bad = upstream::Error::BadAnswer;
    let object = RawObject::from_raw(version.raw()).ok_or(bad("a version is not an object"))?;
    let dist = object.object("dist").ok_or(bad("a version has no `dist`"))?;
    let reference = dist.text("tarball").ok_or(bad("a version has no tarball URL"))?;
    let integrity = dist
        .text("integrity")
        .and_then(|text| Integrity::parse(&text))
        .or_else(|| dist.text("shasum").and_then(|text| Integrity::from_shasum(&text)))
        .ok_or(bad("a version has neither integrity nor shasum, so its tarball cannot be checked"))?;
    Ok(Expected { url: upstream.tarball_url(name, &reference)?, integrity, signed: Signed::of(version) })
}
