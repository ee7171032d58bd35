//! Documents of upstreams: kept, revalidated, and served stale when the upstream fails.
//!
//! A kept document is one object: a header line of JSON, then the body as it was received. The header holds the body's
//! hash, so that bytes damaged by a power cut are fetched again instead of served. How long a document is fresh lives
//! in memory only: after a restart each is revalidated once, which costs the upstream a 304.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::TryStreamExt as _;
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};
use tokio_util::task::TaskTracker;

use super::source::Route;
use super::{Error, Registry};
use crate::keys::{self, Key};
use crate::npm::integrity::sha256_hex;
use crate::npm::{Form, PackageName, RawObject, Timestamp};
use crate::storage::{self, ByteRange, Durability};
use crate::upstream::freshness::{Freshness, Kept};
use crate::upstream::single_flight::SingleFlight;
use crate::upstream::{self, Fetched, PackumentAnswer, Upstream, Validators};

/// Documents remembered; a few hundred bytes each.
const REMEMBERED: usize = 50_000;
/// Names remembered for [`NOT_KEPT_LASTS`].
const REMEMBERED_AS_NOT_KEPT: usize = 1000;
/// How long the store is not asked again for a document that it had not.
const NOT_KEPT_LASTS: Duration = Duration::from_secs(1);
/// A header line is a few hundred bytes; this much is read to find its end.
const MAX_HEADER_BYTES: u64 = 4096;
/// How long a revalidation may take before the copy at hand is served. Yarn classic gives up after 30 s.
const PATIENCE_WITH_A_COPY: Duration = Duration::from_secs(5);

/// What is known of an upstream's document without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProxiedDocument {
    /// The form that is kept, which may be the full one where the short one was asked for.
    pub(super) form: Form,
    /// The hash of the body.
    pub(super) revision: String,
    /// The last change, as the document says.
    pub(super) modified: Option<Timestamp>,
    validators: Validators,
}

/// A document that was found.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) document: Arc<ProxiedDocument>,
    /// The upstream could not be asked whether it still holds.
    pub(super) is_stale: bool,
    /// When the upstream last said so; `None` for a document found in the store after a restart.
    pub(super) fetched_at: Option<Timestamp>,
    /// What was received, where it was received for this very caller and others who wait with it: who reads it next
    /// need not read and hash what is kept.
    pub(super) body: Option<Bytes>,
}

impl Found {
    /// One that is at hand, of whatever age.
    pub(super) fn kept(document: Arc<ProxiedDocument>) -> Self {
        Self { document, is_stale: false, fetched_at: None, body: None }
    }
}

/// A document that was had, and when.
#[derive(Debug, Clone)]
struct Remembered {
    document: Arc<ProxiedDocument>,
    kept: Kept,
    /// `None` for a document found in the store after a restart: never fresh.
    fetched_at: Option<Timestamp>,
}

impl Remembered {
    fn as_found(&self, is_stale: bool) -> Found {
        Found { document: Arc::clone(&self.document), is_stale, fetched_at: self.fetched_at, body: None }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct DocumentId {
    upstream: String,
    name: PackageName,
    form: Form,
}

/// The first line of a kept document.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    is_full: bool,
    sha256: String,
    modified: Option<String>,
    validators: Validators,
}

/// What a fetch brought in: what is remembered of it, and the body where one came.
type Brought = (Remembered, Option<Bytes>);

/// `None` for a name that the upstream does not have.
type Outcome = Result<Option<Brought>, upstream::Error>;

/// What is remembered of upstreams' documents, and the fetches under way.
pub(super) struct ProxiedDocuments {
    remembered: Cache<DocumentId, Remembered>,
    /// Names that an upstream was found not to have, and when.
    absent: Cache<(String, PackageName), Timestamp>,
    /// Names of which the store was found to have no document, and when: several parts of one request ask for it.
    not_kept: Cache<(String, PackageName), Instant>,
    flights: SingleFlight<DocumentId, Outcome>,
}

impl ProxiedDocuments {
    pub(super) fn new(tasks: TaskTracker) -> Self {
        Self {
            remembered: Cache::new(REMEMBERED),
            absent: Cache::new(REMEMBERED),
            not_kept: Cache::new(REMEMBERED_AS_NOT_KEPT),
            flights: SingleFlight::new(tasks),
        }
    }
}

impl Registry {
    /// An upstream's document, fresh, revalidated, or stale where nothing better is to be had.
    pub(super) async fn proxied_document(
        &self,
        upstream: &Upstream,
        name: &PackageName,
        wanted: Form,
    ) -> Result<Found, Error> {
        match self.vouched_document(upstream, name, wanted).await {
            // An install asks for optional packages that were never there; that must not fail when offline.
            Err(Error::Upstream(error))
                if error.is_transient() && self.was_absent(upstream.cache_name(), name).await =>
            {
                tracing::warn!(package.name = %name, %error, "answering from memory that there is no such package");
                Err(Error::PackageNotFound(name.clone()))
            }
            other => other,
        }
    }

    /// As [`Registry::proxied_document`], but "there is none" is the upstream's own word of a moment ago, never an old
    /// one: it may have got the package since.
    pub(super) async fn vouched_document(
        &self,
        upstream: &Upstream,
        name: &PackageName,
        wanted: Form,
    ) -> Result<Found, Error> {
        if self.is_known_absent(upstream, name) {
            return Err(Error::PackageNotFound(name.clone()));
        }
        let (id, remembered) = self.best_remembered(upstream, name, wanted).await?;
        if let Some(remembered) = &remembered
            && remembered.fetched_at.is_some_and(|at| self.is_fresh(upstream, remembered.kept, at))
        {
            return Ok(remembered.as_found(false));
        }
        self.revalidated(upstream, id, remembered).await
    }

    /// As [`Registry::proxied_document`], but asks the upstream although the kept copy may be fresh. Used when the
    /// copy lacks what a client knows to be there.
    pub(super) async fn proxied_document_anew(
        &self,
        upstream: &Upstream,
        name: &PackageName,
        wanted: Form,
    ) -> Result<Found, Error> {
        let (id, remembered) = self.best_remembered(upstream, name, wanted).await?;
        self.revalidated(upstream, id, remembered).await
    }

    async fn revalidated(
        &self,
        upstream: &Upstream,
        id: DocumentId,
        remembered: Option<Remembered>,
    ) -> Result<Found, Error> {
        let name = id.name.clone();
        let (this, upstream, flight_id) = (self.clone(), upstream.clone(), id.clone());
        let known = remembered.clone();
        let fetch = async move {
            if let Some(newer) = this.brought_in_meanwhile(&upstream, &flight_id, known.as_ref()) {
                return Ok(Some((newer, None)));
            }
            this.fetch_document(&upstream, flight_id, known).await
        };
        let flight = self.inner.proxied.flights.run(id, fetch);
        let Some(kept) = remembered else {
            let fetched = flight.await.map_err(|_| Error::Interrupted)??;
            return fetched.map(found_now).ok_or(Error::PackageNotFound(name));
        };
        // With a copy at hand nobody waits until a silent upstream has timed out; the flight goes on without them.
        match tokio::time::timeout(PATIENCE_WITH_A_COPY, flight).await {
            Ok(Ok(Ok(Some(fetched)))) => Ok(found_now(fetched)),
            Ok(Ok(Ok(None))) => Err(Error::PackageNotFound(name)),
            Ok(Ok(Err(error))) if !error.is_transient() => Err(error.into()),
            Ok(Ok(Err(error))) => {
                tracing::warn!(package.name = %name, %error, "serving a stale packument");
                Ok(kept.as_found(true))
            }
            Ok(Err(_)) => Err(Error::Interrupted),
            Err(_) => {
                tracing::warn!(package.name = %name, "serving a stale packument: the upstream does not answer");
                Ok(kept.as_found(true))
            }
        }
    }

    /// Whether the upstream said a moment ago that it has no such package.
    pub(super) fn is_known_absent(&self, upstream: &Upstream, name: &PackageName) -> bool {
        let asked_at = self.inner.proxied.absent.get(&(upstream.cache_name().to_owned(), name.clone()));
        asked_at.is_some_and(|asked_at| self.is_fresh(upstream, Kept::Absent, asked_at))
    }

    async fn was_absent(&self, upstream: &str, name: &PackageName) -> bool {
        self.inner.store.read(&keys::cached_absence(upstream, name)).await.is_ok()
    }

    /// The kept copy that serves a form best: the full one where it is there, since the short form follows from it.
    /// Memory is looked at before the store.
    async fn best_remembered(
        &self,
        upstream: &Upstream,
        name: &PackageName,
        wanted: Form,
    ) -> Result<(DocumentId, Option<Remembered>), Error> {
        let id = |form| DocumentId { upstream: upstream.cache_name().to_owned(), name: name.clone(), form };
        let forms: &[Form] = if wanted == Form::Full { &[Form::Full] } else { &[Form::Full, Form::Abbreviated] };
        for form in forms {
            if let Some(remembered) = self.inner.proxied.remembered.get(&id(*form)) {
                return Ok((id(*form), Some(remembered)));
            }
        }
        let unkept_id = (id(wanted).upstream, name.clone());
        let not_kept = &self.inner.proxied.not_kept;
        if not_kept.get(&unkept_id).is_some_and(|since| since.elapsed() < NOT_KEPT_LASTS) {
            return Ok((id(wanted), None));
        }
        let asked_at = Instant::now();
        for form in forms {
            if let Some(stored) = self.stored(&id(*form)).await? {
                // Not in the place of what a fetch has put there since: that one is fresh.
                let known = &self.inner.proxied.remembered;
                let Ok(best) = known.get_or_insert_with(&id(*form), || Ok::<_, Infallible>(stored));
                return Ok((id(*form), Some(best)));
            }
        }
        if forms.len() == 2 {
            not_kept.insert(unkept_id, asked_at);
        }
        Ok((id(wanted), None))
    }

    /// What is at hand of a document, however old, without asking the upstream.
    pub(super) async fn remembered_document(
        &self,
        upstream: &Upstream,
        name: &PackageName,
        wanted: Form,
    ) -> Result<Option<Arc<ProxiedDocument>>, Error> {
        let (_, remembered) = self.best_remembered(upstream, name, wanted).await?;
        Ok(remembered.map(|remembered| remembered.document))
    }

    /// What the store has of a document.
    async fn stored(&self, id: &DocumentId) -> Result<Option<Remembered>, Error> {
        let Some(header) = self.stored_header(id).await? else { return Ok(None) };
        let document = ProxiedDocument {
            form: if header.is_full { Form::Full } else { Form::Abbreviated },
            revision: header.sha256,
            modified: header.modified.and_then(|text| text.parse().ok()),
            validators: header.validators,
        };
        let kept = Kept::Found { max_age: None };
        Ok(Some(Remembered { document: Arc::new(document), kept, fetched_at: None }))
    }

    async fn stored_header(&self, id: &DocumentId) -> Result<Option<Header>, Error> {
        let key = keys::cached_packument(&id.upstream, &id.name, id.form);
        let download = match self.inner.store.open_object(&key).await {
            Ok(download) => download,
            Err(storage::Error::NotFound) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let range = ByteRange { start: 0, end: download.size_bytes().min(MAX_HEADER_BYTES) };
        let head: Vec<u8> = download.stream(range).map_ok(|bytes| bytes.to_vec()).try_concat().await?;
        // Anything unreadable in the cache is simply not there.
        Ok(split_header(&head).and_then(|(header, _)| serde_json::from_slice(header).ok()))
    }

    pub(super) fn is_fresh(&self, upstream: &Upstream, kept: Kept, fetched_at: Timestamp) -> bool {
        matches!(upstream.freshness().judge(kept, fetched_at, self.inner.clock.now()), Freshness::Fresh { .. })
    }

    /// What another flight has fetched between the caller's look and this flight.
    fn brought_in_meanwhile(
        &self,
        upstream: &Upstream,
        id: &DocumentId,
        known: Option<&Remembered>,
    ) -> Option<Remembered> {
        let seen = known.and_then(|known| known.fetched_at);
        [Form::Full, id.form]
            .into_iter()
            .filter_map(|form| self.inner.proxied.remembered.get(&DocumentId { form, ..id.clone() }))
            .find(|remembered| {
                remembered.fetched_at != seen
                    && remembered.fetched_at.is_some_and(|at| self.is_fresh(upstream, remembered.kept, at))
            })
    }

    /// Asks the upstream, keeps the answer, remembers it.
    async fn fetch_document(&self, upstream: &Upstream, id: DocumentId, known: Option<Remembered>) -> Outcome {
        let absent_id = (id.upstream.clone(), id.name.clone());
        let validators = known.as_ref().map(|known| &known.document.validators);
        let answer = match upstream.packument(&id.name, id.form, validators).await {
            Ok(answer) => answer,
            Err(upstream::Error::NotFound) => {
                for form in [Form::Full, Form::Abbreviated] {
                    self.forget(&DocumentId { form, ..id.clone() }).await;
                }
                self.mark_absent(&id).await;
                self.inner.proxied.absent.insert(absent_id, self.inner.clock.now());
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let fetched_at = Some(self.inner.clock.now());
        let (remembered, body) = match (answer, known) {
            (PackumentAnswer::NotModified, Some(known)) => (Remembered { fetched_at, ..known }, None),
            (PackumentAnswer::NotModified, None) => {
                return Err(upstream::Error::BadAnswer("a 304 that nobody asked for"));
            }
            (PackumentAnswer::Found(fetched), _) => {
                let kept = Kept::Found { max_age: fetched.max_age };
                let body = fetched.body.clone();
                (Remembered { document: self.keep_document(&id, fetched).await?, kept, fetched_at }, Some(body))
            }
        };
        // A mirror may give the full form whatever was asked: then it is kept as what it is.
        let id = DocumentId { form: remembered.document.form, ..id };
        self.inner.proxied.remembered.insert(id.clone(), remembered.clone());
        self.inner.proxied.absent.remove(&absent_id);
        self.remove_cached(&keys::cached_absence(&id.upstream, &id.name)).await;
        Ok(Some((remembered, body)))
    }

    /// Writes a received document to the store. One that cannot be kept for want of room is an upstream failure to
    /// its readers, who then get the older copy.
    async fn keep_document(&self, id: &DocumentId, fetched: Fetched) -> Result<Arc<ProxiedDocument>, upstream::Error> {
        let Fetched { body, form, validators, modified, .. } = fetched;
        let size = body.len();
        let prepared = self.off_thread(size, move || {
            let mut header = Header {
                is_full: form == Form::Full,
                sha256: sha256_hex(&body),
                modified: modified.map(|instant| instant.to_string()),
                validators: validators.clone(),
            };
            let mut line = serde_json::to_vec(&header).map_err(|_| Error::Damaged)?;
            if line.len() as u64 >= MAX_HEADER_BYTES {
                // An endless ETag: the line would not be found again, so it is done without.
                header.validators = Validators::default();
                line = serde_json::to_vec(&header).map_err(|_| Error::Damaged)?;
            }
            line.push(b'\n');
            Ok((line, body, ProxiedDocument { form, revision: header.sha256, modified, validators }))
        });
        let (line, body, document) =
            prepared.await.map_err(|_| upstream::Error::BadAnswer("the document cannot be read"))?;
        let key = keys::cached_packument(&id.upstream, &id.name, document.form);
        self.inner
            .store
            .put_behind(&key, line.into(), body, Durability::Cache)
            .await
            .map_err(|error| upstream::Error::Unavailable(format!("its document cannot be kept: {error}")))?;
        Ok(Arc::new(document))
    }

    /// Keeps a document in full that came by another way than from the upstream, unless a later one is at hand. It counts as
    /// one that was had before a restart.
    pub(super) async fn keep_brought_document(
        &self,
        upstream: &Upstream,
        name: &PackageName,
        body: Bytes,
    ) -> Result<(), Error> {
        let id = DocumentId { upstream: upstream.cache_name().to_owned(), name: name.clone(), form: Form::Full };
        let modified = upstream::modified_of(&RawObject::parse(&body).map_err(|_| Error::Damaged)?);
        let (_, at_hand) = self.best_remembered(upstream, name, Form::Full).await?;
        if at_hand.is_some_and(|at_hand| at_hand.document.modified > modified) {
            return Ok(());
        }
        let brought = Fetched { body, form: Form::Full, validators: Validators::default(), max_age: None, modified };
        self.keep_document(&id, brought).await?;
        self.inner.proxied.remembered.remove(&id);
        self.inner.proxied.absent.remove(&(id.upstream.clone(), id.name.clone()));
        self.inner.proxied.not_kept.remove(&(id.upstream.clone(), id.name.clone()));
        self.remove_cached(&keys::cached_absence(&id.upstream, name)).await;
        Ok(())
    }

    /// Remembers across a restart that the upstream has no such package. Used only while it cannot be asked.
    async fn mark_absent(&self, id: &DocumentId) {
        let key = keys::cached_absence(&id.upstream, &id.name);
        let mark = serde_json::json!({ "asked_at": self.inner.clock.now().to_string() });
        if let Err(error) = self.inner.store.put(&key, mark.to_string().into(), Durability::Cache).await {
            tracing::warn!(storage.key = %key, %error, "that a package is absent could not be remembered");
        }
    }

    async fn forget(&self, id: &DocumentId) {
        self.inner.proxied.remembered.remove(id);
        self.remove_cached(&keys::cached_packument(&id.upstream, &id.name, id.form)).await;
    }

    async fn remove_cached(&self, key: &Key) {
        match self.inner.store.delete(key).await {
            Ok(()) | Err(storage::Error::NotFound) => {}
            Err(error) => tracing::warn!(storage.key = %key, %error, "a cached object could not be removed"),
        }
    }

    /// The body of a kept document of a certain revision.
    ///
    /// # Errors
    /// [`Error::Superseded`] when another revision is there by now: look for the document again.
    pub(super) async fn proxied_revision(
        &self,
        upstream: &Upstream,
        name: &PackageName,
        form: Form,
        revision: &str,
    ) -> Result<Bytes, Error> {
        let found = self.proxied_body(upstream, name, form).await?;
        if found.revision == revision {
            return Ok(found.body);
        }
        // What is remembered must not stay behind what is stored.
        self.inner.proxied.remembered.remove(&DocumentId {
            upstream: upstream.cache_name().to_owned(),
            name: name.clone(),
            form,
        });
        Err(Error::Superseded)
    }

    /// The body of a kept document, of whatever revision is there.
    pub(super) async fn proxied_bytes(
        &self,
        upstream: &Upstream,
        name: &PackageName,
        form: Form,
    ) -> Result<Bytes, Error> {
        Ok(self.proxied_body(upstream, name, form).await?.body)
    }

    /// A kept body, checked against its hash. One that was damaged, or that somebody deleted, is fetched anew.
    async fn proxied_body(&self, upstream: &Upstream, name: &PackageName, form: Form) -> Result<CheckedBody, Error> {
        match self.kept_body(upstream, name, form).await {
            Err(Error::Damaged) => {}
            other => return other,
        }
        tracing::warn!(package.name = %name, "a cached packument is damaged or gone and is fetched anew");
        self.forget(&DocumentId { upstream: upstream.cache_name().to_owned(), name: name.clone(), form }).await;
        let found = self.proxied_document(upstream, name, form).await?;
        match self.kept_body(upstream, name, found.document.form).await {
            Err(Error::Damaged) => {
                Err(upstream::Error::Unavailable("the kept copy was damaged twice".to_owned()).into())
            }
            other => other,
        }
    }

    async fn kept_body(&self, upstream: &Upstream, name: &PackageName, form: Form) -> Result<CheckedBody, Error> {
        match self.inner.store.read(&keys::cached_packument(upstream.cache_name(), name, form)).await {
            Ok(object) => self.off_thread(object.len(), move || checked_body(&object)).await,
            // Somebody emptied the cache: it may be deleted at any time.
            Err(storage::Error::NotFound) => Err(Error::Damaged),
            Err(error) => Err(error.into()),
        }
    }

    /// The body of a document that was found: what was received for it a moment ago, or what is kept.
    ///
    /// # Errors
    /// As [`Registry::proxied_revision`].
    pub(super) async fn body_of(&self, upstream: &Upstream, name: &PackageName, found: &Found) -> Result<Bytes, Error> {
        match &found.body {
            Some(body) => Ok(body.clone()),
            None => self.proxied_revision(upstream, name, found.document.form, &found.document.revision).await,
        }
    }

    /// Whether an upstream has the name, as far as can be told now.
    pub(super) async fn exists_upstream(&self, name: &PackageName) -> bool {
        let Route::Upstream(upstream) = self.terms.sources.route(name) else { return false };
        self.proxied_document(upstream, name, Form::Abbreviated).await.is_ok()
    }
}

fn found_now((remembered, body): Brought) -> Found {
    Found { body, ..remembered.as_found(false) }
}

fn split_header(object: &[u8]) -> Option<(&[u8], usize)> {
    let end = object.iter().take(usize::try_from(MAX_HEADER_BYTES).ok()?).position(|&byte| byte == b'\n')?;
    Some((&object[..end], end + 1))
}

/// A body that answers to its hash, which is its revision.
struct CheckedBody {
    body: Bytes,
    revision: String,
}

/// The body of an upstream's document as it is kept in the store; `None` when it is damaged.
pub fn kept_body(object: &Bytes) -> Option<Bytes> {
    checked_body(object).ok().map(|checked| checked.body)
}

fn checked_body(object: &Bytes) -> Result<CheckedBody, Error> {
    let (header, body_at) = split_header(object).ok_or(Error::Damaged)?;
    let header: Header = serde_json::from_slice(header).map_err(|_| Error::Damaged)?;
    let body = object.slice(body_at..);
    if sha256_hex(&body) == header.sha256 {
        Ok(CheckedBody { body, revision: header.sha256 })
    } else {
        Err(Error::Damaged)
    }
}
