//! Search and listings of hosted packages, and keeping their index in step with the documents.
//!
//! A change of a package notes its name; one task indexes noted names in batches, so that a publish never waits for
//! the index, and a batch of thousands costs little more than one. An object in the store says "running" while
//! changes may be missing from the index: when it is still there at the next start, the index is compared with the
//! documents in the background.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt as _};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use tokio::sync::{Notify, watch};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use url::form_urlencoded;

use super::{Error, Registry};
use crate::auth::Caller;
use crate::heavy;
use crate::keys;
use crate::npm::packument::HostedPackument;
use crate::npm::search_result::{self, Found, Links, Person, SearchEntry};
use crate::npm::{PackageName, RawObject, SearchQuery, Timestamp, Version};
use crate::search::SearchIndex;
use crate::storage;
use crate::upstream;

/// npm's default.
pub const DEFAULT_SIZE: usize = 20;
/// npm's maximum.
const MAX_SIZE: usize = 250;
/// Names that are taken at once. What the index holds of them until a commit is bounded by the index itself.
const BATCH: usize = 10_000;
/// How long the index of a directory rests at least when nothing is left to be indexed. Of a package that changes many times
/// in a row, not every state is read and committed: that costs more than the change.
const REST: Duration = Duration::from_millis(100);
/// It rests this many times as long as the last batch took, so that it takes a fifth of the time while there is much to do.
const REST_FOR_WORK: u32 = 4;
/// But no longer: what was published can be found in about a second.
const LONGEST_REST: Duration = Duration::from_secs(1);
/// Documents that are read at once for the index: a bucket answers many as quickly as one.
const READ_AT_ONCE: usize = 16;
/// How often a bucket that others publish to is listed.
const LISTED_AGAIN: Duration = Duration::from_mins(1);
/// How old the index may be when it is asked, where nothing keeps it in the background.
const OLDEST_ANSWER: Duration = Duration::from_mins(2);
/// Entries of a listing that are held at once.
const LISTING_PAGE: usize = 500;

/// A search as it was asked for.
#[derive(Debug, Clone)]
pub struct SearchRequest {
    /// Words and qualifiers.
    pub text: String,
    /// Results to skip.
    pub from: usize,
    /// Results to give, at most [`MAX_SIZE`].
    pub size: usize,
}

/// The index and the names whose entries may be out of date.
pub(super) struct Indexer {
    index: Arc<SearchIndex>,
    noted: Mutex<BTreeSet<PackageName>>,
    wake: Notify,
    /// How many noted names are not searchable yet.
    pending: watch::Sender<usize>,
    /// What other processes have published too, as far as it is indexed.
    shared: tokio::sync::Mutex<Shared>,
}

/// The documents of a bucket when they were last listed.
#[derive(Debug, Default)]
struct Shared {
    states: HashMap<PackageName, Option<String>>,
    listed_at: Option<Instant>,
}

impl Indexer {
    pub(super) fn new(index: SearchIndex) -> Self {
        Self {
            index: Arc::new(index),
            noted: Mutex::default(),
            wake: Notify::new(),
            pending: watch::Sender::new(0),
            shared: tokio::sync::Mutex::default(),
        }
    }

    /// A package has changed.
    pub(super) fn note(&self, name: PackageName) {
        if self.noted.lock().unwrap_or_else(PoisonError::into_inner).insert(name) {
            self.pending.send_modify(|pending| *pending += 1);
        }
        self.wake.notify_one();
    }

    fn take_batch(&self) -> Vec<PackageName> {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let mut batch = Vec::new();
        while batch.len() < BATCH
            && let Some(name) = noted.pop_first()
        {
            batch.push(name);
        }
        batch
    }
}

/// The part of an upstream's answer that is passed on.
#[derive(Debug, Deserialize)]
struct UpstreamPage {
    #[serde(default)]
    objects: Vec<Box<RawValue>>,
    #[serde(default)]
    total: usize,
}

impl Registry {
    /// Searches hosted packages that the caller may read, and the default upstream when the text has `is:public`.
    /// Answers npm's JSON. Hosted results come first; `total` counts both.
    pub async fn search(&self, caller: &Caller, request: SearchRequest, base: &str) -> Result<Bytes, Error> {
        self.authorize_reading(caller)?;
        self.refresh_index(OLDEST_ANSWER).await?;
        let query = SearchQuery::parse(&request.text);
        let size = request.size.min(MAX_SIZE);
        let (index, asked, from) = (Arc::clone(&self.inner.indexer.index), query.clone(), request.from);
        let (this, asker) = (self.clone(), caller.clone());
        // Without rules whoever may read at all may read every package.
        let all_readable = self.terms.access.rules().is_empty()
            && caller.user().is_none_or(|user| user.token.as_ref().is_none_or(|token| token.packages.is_none()));
        let page =
            spawn_blocking(move || index.search(&asked, from, size, &|name| this.may_read(&asker, name), all_readable))
                .await
                .map_err(|_| Error::Interrupted)??;
        let mut total = page.total;
        let mut objects: Vec<Found<'_>> = page.entries.iter().map(Found::Hosted).collect();
        let public = match self.terms.sources.default_upstream() {
            Some(upstream) if query.public => {
                // Hosted results fill the first places, the upstream's follow.
                let upstream_from = from.saturating_sub(page.total);
                let upstream_size = size - objects.len();
                self.search_upstream(upstream, &query, upstream_from, upstream_size).await?
            }
            _ => UpstreamPage { objects: Vec::new(), total: 0 },
        };
        total += public.total;
        objects.extend(public.objects.iter().map(|object| Found::Upstream(object)));
        search_result::search_document(&objects, from, total, self.inner.clock.now(), base)
            .map(Bytes::from)
            .map_err(|_| Error::Damaged)
    }

    async fn search_upstream(
        &self,
        upstream: &upstream::Upstream,
        query: &SearchQuery,
        from: usize,
        size: usize,
    ) -> Result<UpstreamPage, Error> {
        let parameters = form_urlencoded::Serializer::new(String::new())
            .append_pair("text", &query.upstream_text)
            .append_pair("from", &from.to_string())
            // With no room left only the total is wanted.
            .append_pair("size", &size.max(1).to_string())
            .finish();
        let answer = upstream.search(&parameters).await?;
        let mut page: UpstreamPage = serde_json::from_slice(&answer)
            .map_err(|_| upstream::Error::BadAnswer("the search result cannot be read"))?;
        page.objects.truncate(size);
        // A public package must not be shown under a name that is ours, nor one that would be installed from elsewhere.
        let mut kept = Vec::with_capacity(page.objects.len());
        for object in page.objects {
            let name = RawObject::from_raw(&object).and_then(|object| object.object("package")?.text("name"));
            let Some(name) = name else { continue };
            if self.upstream_of(&name).await?.is_some_and(|own| own.name() == upstream.name())
                && self.is_shown(upstream, &name, &object)
            {
                kept.push(object);
            }
        }
        Ok(UpstreamPage { objects: kept, total: page.total })
    }

    /// Whether the policy lets a found package be shown. A result names one version, which is judged by its number; nothing is
    /// asked for it. One that is only young is found, and installed in an older version.
    fn is_shown(&self, upstream: &upstream::Upstream, name: &str, object: &RawValue) -> bool {
        let (Ok(name), Some(object)) = (name.parse::<PackageName>(), RawObject::from_raw(object)) else { return false };
        let number = object.object("package").and_then(|package| package.text("version"));
        let version: Option<Version> = number.and_then(|number| number.parse().ok());
        version.is_none_or(|version| self.refused_by_number(upstream, &name, &version).is_none())
    }

    /// The names of hosted packages, as many as the index tells at once.
    pub(super) async fn hosted_names(&self, most: usize) -> Result<BTreeSet<String>, Error> {
        let index = Arc::clone(&self.inner.indexer.index);
        let entries =
            spawn_blocking(move || index.names(None, most, &|_| true)).await.map_err(|_| Error::Interrupted)??;
        Ok(entries.into_iter().map(|entry| entry.name.as_str().to_owned()).collect())
    }

    /// The listing of `GET /-/all` in pieces, for npm 6 and older.
    pub fn all_packages(
        &self,
        caller: &Caller,
    ) -> Result<impl Stream<Item = Result<Bytes, Error>> + Send + use<>, Error> {
        self.authorize_reading(caller)?;
        let index = Arc::clone(&self.inner.indexer.index);
        let head = search_result::all_head(self.inner.clock.now());
        let (this, caller) = (self.clone(), caller.clone());
        let start = (index, Some(head), None::<PackageName>, false);
        Ok(stream::try_unfold(start, move |(index, head, after, ended)| {
            let (this, caller) = (this.clone(), caller.clone());
            async move {
                if ended {
                    return Ok(None);
                }
                let page_index = Arc::clone(&index);
                let last = after.clone();
                let entries = spawn_blocking(move || {
                    page_index.names(last.as_ref(), LISTING_PAGE, &|name| this.may_read(&caller, name))
                })
                .await
                .map_err(|_| Error::Interrupted)??;
                let mut piece = head.unwrap_or_default();
                for entry in &entries {
                    piece.push_str(&search_result::all_member(entry).map_err(|_| Error::Damaged)?);
                }
                let is_last = entries.len() < LISTING_PAGE;
                if is_last {
                    piece.push_str(search_result::ALL_END);
                }
                let after = entries.into_iter().last().map(|entry| entry.name).or(after);
                Ok(Some((Bytes::from(piece), (index, None, after, is_last))))
            }
        }))
    }

    /// Keeps the index in step until told to stop, then once more. Run it as one task; `rebuild` when the index was
    /// made anew.
    ///
    /// In a bucket others publish too: every process has an index of its own there, and with `lists` it compares it with
    /// the documents every minute; without, when it is asked.
    pub async fn keep_index(&self, rebuild: bool, lists: bool, stop: CancellationToken) {
        if self.inner.store.is_shared() {
            return self.keep_shared_index(lists, stop).await;
        }
        let was_cut_short = match self.inner.store.create(&keys::index_running(), Bytes::from_static(b"1")).await {
            Ok(()) => false,
            Err(storage::Error::Exists) => true,
            Err(error) => {
                tracing::warn!(%error, "the state of the search index cannot be recorded");
                true
            }
        };
        let mut is_complete = true;
        if rebuild || was_cut_short {
            is_complete = self.note_all(&stop).await;
        }
        loop {
            let batch = self.inner.indexer.take_batch();
            if !batch.is_empty() {
                let is_all = batch.len() < BATCH;
                let began = Instant::now();
                is_complete &= self.index_batch(batch).await;
                if is_all {
                    let rest = (began.elapsed() * REST_FOR_WORK).clamp(REST, LONGEST_REST);
                    tokio::select! {
                        () = tokio::time::sleep(rest) => {}
                        () = stop.cancelled() => {}
                    }
                }
                continue;
            }
            tokio::select! {
                () = self.inner.indexer.wake.notified() => {}
                () = stop.cancelled() => break,
            }
        }
        if !is_complete {
            tracing::warn!("the search index is incomplete and will be compared with the packages at the next start");
            return;
        }
        if let Err(error) = self.inner.store.delete(&keys::index_running()).await {
            tracing::warn!(%error, "the search index will be compared with the packages at the next start");
        }
    }

    async fn keep_shared_index(&self, lists: bool, stop: CancellationToken) {
        loop {
            let mut wait = LISTED_AGAIN;
            if lists && let Err(error) = self.refresh_index(LISTED_AGAIN).await {
                tracing::warn!(%error, "the packages could not all be listed for the search index");
                wait /= 4;
            }
            let next = tokio::time::sleep(wait);
            tokio::pin!(next);
            loop {
                let batch = self.inner.indexer.take_batch();
                if !batch.is_empty() {
                    self.index_batch(batch).await;
                    continue;
                }
                tokio::select! {
                    () = self.inner.indexer.wake.notified() => {}
                    () = &mut next => break,
                    () = stop.cancelled() => return,
                }
            }
        }
    }

    /// Brings the index in step with a bucket that others publish to, unless that was done within `age`. Nothing on a
    /// directory. One list request for each thousand packages, and one read for each that has changed.
    pub async fn refresh_index(&self, age: Duration) -> Result<(), Error> {
        if !self.inner.store.is_shared() {
            return Ok(());
        }
        let mut shared = self.inner.indexer.shared.lock().await;
        if shared.listed_at.is_some_and(|at| at.elapsed() < age) {
            return Ok(());
        }
        let began = Instant::now();
        let states = self.listed_documents().await?;
        let changed = states.iter().filter(|(name, state)| shared.states.get(*name) != Some(*state));
        let gone = shared.states.keys().filter(|name| !states.contains_key(*name));
        let changed = changed.map(|(name, state)| (name, state.as_deref()));
        for (name, state) in changed.chain(gone.map(|name| (name, None))) {
            self.inner.heads.keep_only(name, state);
            self.inner.indexer.note(name.clone());
        }
        let mut pending = self.inner.indexer.pending.subscribe();
        while *pending.borrow_and_update() > 0 {
            let batch = self.inner.indexer.take_batch();
            if !batch.is_empty() {
                if !self.index_batch(batch).await {
                    return Err(Error::Interrupted);
                }
            } else if pending.changed().await.is_err() {
                // Never: what others have taken, they end; the sender is as old as the registry.
                return Err(Error::Interrupted);
            }
        }
        *shared = Shared { states, listed_at: Some(began) };
        Ok(())
    }

    /// The hosted packages of a bucket, as one list request for each thousand tells them, with the state of each document.
    pub(super) async fn listed_documents(&self) -> Result<HashMap<PackageName, Option<String>>, Error> {
        let mut listed = self.inner.store.list_objects_after(&keys::last_reserved());
        let mut states = HashMap::new();
        while let Some(found) = listed.recv().await {
            let found = found?;
            if let Some(name) = found.key.packument_name() {
                states.insert(name, found.etag);
            }
        }
        Ok(states)
    }

    /// Waits until what was changed so far can be found. For tests and for a stop.
    pub async fn index_settled(&self) {
        // The sender lives as long as the registry, so the wait cannot fail.
        let _ = self.inner.indexer.pending.subscribe().wait_for(|pending| *pending == 0).await;
    }

    /// Notes every hosted package and every name in the index. False when it could not note them all.
    async fn note_all(&self, stop: &CancellationToken) -> bool {
        let mut is_complete = true;
        let mut after = None;
        loop {
            let (index, last) = (Arc::clone(&self.inner.indexer.index), after.clone());
            let names = spawn_blocking(move || index.names(last.as_ref(), LISTING_PAGE, &|_| true)).await;
            let Ok(Ok(entries)) = names else {
                is_complete = false;
                break;
            };
            let Some(last) = entries.last() else { break };
            after = Some(last.name.clone());
            for entry in entries {
                self.inner.indexer.note(entry.name);
            }
        }
        let mut keys = self.inner.store.list_outside(&keys::reserved());
        while let Some(key) = keys.recv().await {
            match key {
                Ok(key) => {
                    if let Some(name) = key.packument_name() {
                        self.inner.indexer.note(name);
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "the packages could not all be listed for the search index");
                    is_complete = false;
                }
            }
            if stop.is_cancelled() {
                return false;
            }
        }
        is_complete
    }

    /// False when something in the batch could not be indexed.
    async fn index_batch(&self, batch: Vec<PackageName>) -> bool {
        let mut is_complete = true;
        let index = &self.inner.indexer.index;
        let count = batch.len();
        let mut documents = stream::iter(batch)
            .map(|name| async {
                // What this process has just written need not be fetched; what others have is not in memory any more.
                let stored = self.hosted_document(&name).await;
                (name, stored)
            })
            .buffer_unordered(READ_AT_ONCE);
        while let Some((name, stored)) = documents.next().await {
            match stored {
                Ok(stored) => {
                    let package = name.clone();
                    match self.off_thread(stored.len(), move || Ok(entry_of(&package, &stored))).await {
                        Ok(Some(entry)) => index.put(&entry),
                        Ok(None) => index.remove(&name),
                        // The process ends.
                        Err(_) => is_complete = false,
                    }
                }
                Err(Error::PackageNotFound(_)) => index.remove(&name),
                Err(error) => {
                    tracing::warn!(package.name = %name, cause = %error, "a package could not be indexed");
                    is_complete = false;
                }
            }
            if index.is_full() {
                is_complete &= commit(index).await;
            }
        }
        is_complete &= commit(index).await;
        self.inner.indexer.pending.send_modify(|pending| *pending -= count);
        is_complete
    }
}

/// False when what is queued could not be written; it stays queued.
async fn commit(index: &Arc<SearchIndex>) -> bool {
    let index = Arc::clone(index);
    // The threads that it starts have the priority of the one that it runs on.
    let error: Box<dyn std::error::Error> = match heavy::run(move || index.commit()).await {
        Ok(Ok(())) => return true,
        Ok(Err(error)) => error.into(),
        Err(error) => error.into(),
    };
    tracing::warn!(%error, "the search index could not be written");
    false
}

/// What the index holds of a package: its latest version. `None` for one that has no version to show.
pub(super) fn entry_of(name: &PackageName, stored: &[u8]) -> Option<SearchEntry> {
    let document = HostedPackument::parse(stored).ok()?;
    let number = document.shown_version()?;
    let version: Map<String, Value> = serde_json::from_str(document.version(&number)?.get()).ok()?;
    let text = |key: &str| version.get(key).and_then(Value::as_str).map(ToOwned::to_owned);
    let text_or =
        |key: &str, inner: &str| text(key).or_else(|| version.get(key)?.get(inner)?.as_str().map(ToOwned::to_owned));
    let keywords = match version.get("keywords") {
        Some(Value::Array(words)) => words.iter().filter_map(Value::as_str).map(ToOwned::to_owned).collect(),
        Some(Value::String(words)) => words.split([',', ' ']).map(ToOwned::to_owned).collect(),
        _ => Vec::new(),
    };
    let person = |value: &Value| {
        let part = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        Person { username: part("name"), email: part("email") }
    };
    Some(SearchEntry {
        name: name.clone(),
        description: text("description").unwrap_or_default(),
        keywords,
        author: text_or("author", "name"),
        maintainers: document
            .maintainers()
            .iter()
            .map(|maintainer| Person { username: maintainer.name.clone(), email: maintainer.email.clone() })
            .collect(),
        publisher: version.get("_npmUser").map(person),
        license: text_or("license", "type"),
        links: Links {
            homepage: text("homepage"),
            repository: text_or("repository", "url"),
            bugs: text_or("bugs", "url"),
        },
        modified: document.published_at(&number).unwrap_or(Timestamp::from_millis(0)),
        deprecated: version.get("deprecated").is_some_and(|value| value.as_str().is_some_and(|text| !text.is_empty())),
        unstable: number.starts_with("0."),
        version: number,
    })
}
