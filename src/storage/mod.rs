//! Bytes under keys. Knows nothing of npm and never looks inside a key.
//!
//! The one invariant: a reader sees an object whole or not at all, and what a write acknowledged survives a crash.
//! An existing object that matters is changed only through [`Store::update`].

mod address;
mod at_rest;
mod bucket;
mod buffers;
mod conditions;
mod download;
mod error;
mod fault;
mod local;
mod locks;
mod odd_keys;
mod opened;
mod removal;
mod settle;
mod upload;

use std::fs::DirEntry;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use object_store::signer::Method;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use url::Url;

pub use address::{AddressError, BucketAddress, BucketSettings, Encryption, Location};
pub use at_rest::{AtRest, MAX_COPY_BYTES, WantedEncryption};
pub use bucket::{Listed, Snapshot, Stamp};
pub use download::{ByteRange, Download};
pub use error::{Error, UpdateError};
pub use fault::{Fault, FaultPlan};
pub use locks::{KeyGuard, KeyedLocks};
pub use removal::{Removal, Removed};
pub use upload::{FollowError, Follower, Upload};

use crate::keys::Key;
use crate::metrics::Metrics;
use crate::traces::{self, Span};
use bucket::Bucket;
use fault::Planned;
use local::{Local, Staged};

/// Objects that a list runs ahead of whoever reads it.
const LISTED_AHEAD: usize = 256;

/// What a write does when the key is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// The new object takes the old one's place, atomically.
    Replace,
    /// The write fails with [`Error::Exists`]; of racing writers exactly one wins.
    Refuse,
}

/// Whether a write must survive a power cut before it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Synced to disk, with the directories that lead to it.
    Synced,
    /// For objects that carry their own checksum and may be lost: atomic, not synced.
    Cache,
}

/// What [`Store::update`] is to do with an object after it was looked at.
#[derive(Debug)]
pub enum Change<T> {
    /// Replace the object (or make it) and return the value.
    Write(Bytes, T),
    /// Leave the object as it is and return the value.
    Keep(T),
}

/// What the caller of [`Store::update_from`] knows of the object. It may be old; then the write finds out.
#[derive(Debug)]
pub enum Known {
    /// It has to be read.
    Nothing,
    /// There was none.
    Absent,
    /// It was in this state.
    State(Snapshot),
}

/// The store. Cheap to clone.
///
/// A directory of this machine that one process owns, or a bucket that any number of processes share.
#[derive(Debug, Clone)]
pub struct Store {
    backend: Backend,
    locks: KeyedLocks<Key>,
    faults: Option<FaultPlan>,
    /// Every write is refused.
    is_for_reading: bool,
    metrics: Option<Metrics>,
}

#[derive(Debug, Clone)]
enum Backend {
    Directory(Arc<Local>),
    Bucket(Arc<Bucket>),
}

/// Where anybody may write an object for a while.
#[derive(Debug, Clone)]
pub struct WritingLink {
    /// The address, with the right to write in it.
    pub url: Url,
    /// Headers that the store wants with the bytes.
    pub headers: &'static [(&'static str, &'static str)],
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store is of no use.
    #[error(transparent)]
    Store(#[from] Error),
    /// The bucket's settings are wrong.
    #[error(transparent)]
    Bucket(#[from] AddressError),
}

impl Store {
    /// Opens the store at a location. A bucket is asked nothing yet: see [`Store::require_conditions`].
    ///
    /// # Errors
    /// As [`Store::open`]; or settings of a bucket that do not go together.
    pub fn at(location: &Location) -> Result<Self, OpenError> {
        match location {
            Location::Directory(directory) => Ok(Self::open(directory)?),
            Location::Bucket(settings) => Ok(Self::over(Backend::Bucket(Arc::new(Bucket::connect(settings)?)))),
        }
    }

    /// Opens a directory as store, makes it when absent, owns it until dropped, clears what a crash left staged.
    ///
    /// # Errors
    /// [`Error::Locked`] when another process owns the directory.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        Ok(Self::over(Backend::Directory(Arc::new(Local::open(directory)?))))
    }

    /// Opens a directory to look at it, beside the process that owns it: takes no lock, makes and clears nothing, and
    /// refuses every write. An object that is changed meanwhile is seen as it was or as it is, as by every reader.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such directory.
    pub fn open_reading(directory: &Path) -> Result<Self, Error> {
        let backend = Backend::Directory(Arc::new(Local::open_reading(directory)?));
        Ok(Self { is_for_reading: true, ..Self::over(backend) })
    }

    /// As [`Store::at`], to look only: see [`Store::open_reading`].
    ///
    /// # Errors
    /// As [`Store::open_reading`]; or settings of a bucket that do not go together.
    pub fn reading_at(location: &Location) -> Result<Self, OpenError> {
        match location {
            Location::Directory(directory) => Ok(Self::open_reading(directory)?),
            Location::Bucket(_) => Ok(Self { is_for_reading: true, ..Self::at(location)? }),
        }
    }

    fn over(backend: Backend) -> Self {
        Self { backend, locks: KeyedLocks::default(), faults: None, metrics: None, is_for_reading: false }
    }

    fn may_write(&self) -> Result<(), Error> {
        if self.is_for_reading { Err(Error::ReadingOnly) } else { Ok(()) }
    }

    /// The same store, failing as planned. For tests.
    #[must_use]
    pub fn with_faults(mut self, plan: FaultPlan) -> Self {
        self.faults = Some(plan);
        self
    }

    /// The same store, which counts its calls and how long they take.
    #[must_use]
    pub fn measured_by(mut self, metrics: Metrics) -> Self {
        self.metrics = Some(metrics);
        self
    }

    fn count_read(&self) {
        if let Some(plan) = &self.faults {
            plan.count_read();
        }
    }

    /// Whether other processes may write here, so that what is in memory has to be looked after.
    pub fn is_shared(&self) -> bool {
        self.is_for_reading || matches!(self.backend, Backend::Bucket(_))
    }

    /// Makes sure, before the first write, that a bucket keeps the conditions of writes: by the verdict that is kept
    /// there, else by a trial. A directory does.
    ///
    /// # Errors
    /// [`Error::Unconditional`] where it does not, unless one process alone is said to write.
    pub async fn require_conditions(&self) -> Result<(), Error> {
        self.may_write()?;
        match &self.backend {
            Backend::Directory(_) => Ok(()),
            Backend::Bucket(bucket) => bucket.keeps_conditions().await.map(|_| ()),
        }
    }

    /// A path for derived files that a library manages by itself (the search index): below the directory, or in a folder
    /// that goes away with the process.
    pub fn derived_path(&self, name: &str) -> PathBuf {
        match &self.backend {
            Backend::Directory(local) => local.root().join("-/catalog").join(name),
            Backend::Bucket(bucket) => bucket.scratch.path().join(name),
        }
    }

    /// The whole object.
    pub async fn read(&self, key: &Key) -> Result<Bytes, Error> {
        Ok(self.snapshot(key).await?.bytes)
    }

    /// The whole object, and which state of it this is.
    pub async fn snapshot(&self, key: &Key) -> Result<Snapshot, Error> {
        self.count_read();
        let work = async {
            match &self.backend {
                Backend::Directory(local) => {
                    let (local, key) = (Arc::clone(local), key.clone());
                    let bytes = blocking(move || local.read(&key)).await?;
                    Ok(Snapshot { bytes, stamp: Stamp::default() })
                }
                Backend::Bucket(bucket) => bucket.snapshot(key).await,
            }
        };
        measured(self.metrics.as_ref(), "read", Some(key), work).await
    }

    /// The object, unless it is in the state that was seen, which a bucket tells in one request that moves no bytes. A
    /// directory does not tell states apart and always gives the object.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it is gone, [`Error::TooLarge`] when it has more than `most_bytes`.
    pub async fn snapshot_unless(
        &self,
        key: &Key,
        seen: Option<&Stamp>,
        most_bytes: u64,
    ) -> Result<Option<Snapshot>, Error> {
        self.count_read();
        let work = async {
            match &self.backend {
                Backend::Directory(local) => {
                    let (local, key) = (Arc::clone(local), key.clone());
                    let bytes = blocking(move || local.read_within(&key, most_bytes)).await?;
                    Ok(Some(Snapshot { bytes, stamp: Stamp::default() }))
                }
                Backend::Bucket(bucket) => bucket.snapshot_unless(key, seen, most_bytes).await,
            }
        };
        measured(self.metrics.as_ref(), "look", Some(key), work).await
    }

    /// Opens an object for streaming.
    pub async fn open_object(&self, key: &Key) -> Result<Download, Error> {
        self.count_read();
        let work = async {
            match &self.backend {
                Backend::Directory(local) => {
                    let (local, key) = (Arc::clone(local), key.clone());
                    Ok(Download::of_file(Arc::new(blocking(move || local.open_object(&key)).await?)))
                }
                Backend::Bucket(bucket) => Ok(Download::of_object(bucket.open_object(key).await?)),
            }
        };
        measured(self.metrics.as_ref(), "open", Some(key), work).await
    }

    /// What [`Store::open_fixed`] has open already.
    pub fn opened(&self, key: &Key) -> Option<Download> {
        match &self.backend {
            Backend::Directory(local) => local.opened.get(key).map(Download::of_file),
            Backend::Bucket(_) => None,
        }
    }

    /// As [`Store::open_object`], for objects that never change under their key and are asked for again and again: the file
    /// may have been opened up to a minute ago. One that was removed since, by this store, is not found.
    pub async fn open_fixed(&self, key: &Key) -> Result<Download, Error> {
        let Backend::Directory(local) = &self.backend else { return self.open_object(key).await };
        if let Some(opened) = self.opened(key) {
            return Ok(opened);
        }
        self.count_read();
        let work = async {
            let (opening, key) = (Arc::clone(local), key.clone());
            let file = blocking(move || opening.open_fixed(&key)).await?;
            local.opened.keep_swept();
            Ok(Download::of_file(file))
        };
        measured(self.metrics.as_ref(), "open", Some(key), work).await
    }

    /// An object's size in bytes, without reading it.
    pub async fn size(&self, key: &Key) -> Result<u64, Error> {
        match &self.backend {
            Backend::Directory(_) => Ok(self.open_object(key).await?.size_bytes()),
            Backend::Bucket(bucket) => {
                self.count_read();
                measured(self.metrics.as_ref(), "size", Some(key), bucket.size(key)).await
            }
        }
    }

    /// A link under which anybody may read the object until it has ended, without asking us; `None` where the store has
    /// no such thing. Whether the object is there is not looked at.
    pub async fn reading_link(&self, key: &Key, lasts: Duration) -> Result<Option<Url>, Error> {
        self.link(Method::GET, key, lasts, &[]).await
    }

    /// As [`Store::reading_link`], for bytes that are an answer of their own: with these headers, where they are of S3.
    pub async fn answer_link(
        &self,
        key: &Key,
        lasts: Duration,
        content_type: &str,
        content_encoding: Option<&str>,
    ) -> Result<Option<Url>, Error> {
        let kind = ("response-content-type", content_type);
        let encoding = content_encoding.map(|encoding| ("response-content-encoding", encoding));
        let wanted: Vec<(&str, &str)> = std::iter::once(kind).chain(encoding).collect();
        self.link(Method::GET, key, lasts, &wanted).await
    }

    /// A link under which anybody may write the object until it has ended, by `PUT`. For keys that nothing trusts.
    pub async fn writing_link(&self, key: &Key, lasts: Duration) -> Result<Option<WritingLink>, Error> {
        self.may_write()?;
        let headers = match &self.backend {
            Backend::Directory(_) => &[],
            Backend::Bucket(bucket) => bucket.writing_headers,
        };
        let url = self.link(Method::PUT, key, lasts, &[]).await?;
        Ok(url.map(|url| WritingLink { url, headers }))
    }

    async fn link(
        &self,
        method: Method,
        key: &Key,
        lasts: Duration,
        query: &[(&str, &str)],
    ) -> Result<Option<Url>, Error> {
        match &self.backend {
            Backend::Directory(_) => Ok(None),
            Backend::Bucket(bucket) => bucket.link(method, key, lasts, query).await,
        }
    }

    /// Writes a new object. Durable when it returns. [`Error::Exists`] when the key is taken; of racing writers one wins.
    pub async fn create(&self, key: &Key, bytes: Bytes) -> Result<(), Error> {
        Box::pin(self.write(key, [bytes, Bytes::new()], Existing::Refuse, Durability::Synced)).await
    }

    /// Writes an object whatever was there. For objects that nobody reads to change them.
    pub async fn put(&self, key: &Key, bytes: Bytes, durability: Durability) -> Result<(), Error> {
        self.write(key, [bytes, Bytes::new()], Existing::Replace, durability).await
    }

    /// As [`Store::put`], of an object that begins with `head` and goes on with `rest`: a large one need not be copied to have
    /// something put in front of it.
    pub async fn put_behind(&self, key: &Key, head: Bytes, rest: Bytes, durability: Durability) -> Result<(), Error> {
        self.write(key, [head, rest], Existing::Replace, durability).await
    }

    async fn write(
        &self,
        key: &Key,
        parts: [Bytes; 2],
        existing: Existing,
        durability: Durability,
    ) -> Result<(), Error> {
        self.may_write()?;
        let faults = self.faults.clone();
        let work = async {
            match &self.backend {
                Backend::Directory(local) => {
                    let (local, key) = (Arc::clone(local), key.clone());
                    blocking(move || faulty(faults.as_ref(), || local.write(&key, &parts, existing, durability))).await
                }
                Backend::Bucket(bucket) => {
                    let _held = match existing {
                        Existing::Refuse => Some(self.locks.lock(key).await),
                        Existing::Replace => None,
                    };
                    let planned = faults.as_ref().map(FaultPlan::before_write).transpose()?;
                    faulty_answer(planned, bucket.write(key, joined(parts), existing).await)
                }
            }
        };
        measured(self.metrics.as_ref(), "write", Some(key), work).await
    }

    /// Starts an object that arrives in pieces. It has no key and nobody sees it until [`Upload::keep`].
    pub async fn upload(&self) -> Result<Upload, Error> {
        self.may_write()?;
        let staged = match &self.backend {
            Backend::Directory(local) => {
                let local = Arc::clone(local);
                blocking(move || local.stage()).await?
            }
            Backend::Bucket(bucket) => {
                let bucket = Arc::clone(bucket);
                blocking(move || Ok(Staged::unnamed(bucket.scratch.path())?)).await?
            }
        };
        Upload::new(self.backend.clone(), self.faults.clone(), self.metrics.clone(), staged)
    }

    /// Reads an object, applies a pure function, writes the result if nothing changed meanwhile, else begins again with a
    /// copy of the function. The only way to change an object that is there.
    ///
    /// Callers on one key are served in order within this process. Once begun, the change runs to its end even if the
    /// caller goes away; the next in line waits for that. Durable and visible to every process when it returns.
    ///
    /// # Errors
    /// [`UpdateError::Refused`] with what `change` said, nothing written; or the store's failure.
    pub async fn update<T, E>(
        &self,
        key: &Key,
        change: impl FnOnce(Option<Bytes>) -> Result<Change<T>, E> + Clone + Send + 'static,
    ) -> Result<T, UpdateError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        Ok(self.update_from(key, Known::Nothing, change).await?.0)
    }

    /// As [`Store::update`], from a state of the object that is known already, which spares a bucket one request where it
    /// is still the latest. Returns the state that is there afterwards too, where the store tells states apart and nobody is
    /// known to have written since.
    pub async fn update_from<T, E>(
        &self,
        key: &Key,
        known: Known,
        change: impl FnOnce(Option<Bytes>) -> Result<Change<T>, E> + Clone + Send + 'static,
    ) -> Result<(T, Option<Snapshot>), UpdateError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        self.may_write()?;
        let guard = self.locks.lock(key).await;
        let measure = Measure::begin(self.metrics.as_ref(), "update", Some(key));
        let done = self.update_under(guard, key.clone(), known, change).await;
        let (outcome, is_answer) = match &done {
            Ok(_) => ("ok", true),
            Err(UpdateError::Refused(_)) => ("unchanged", true),
            Err(UpdateError::Store(error)) => (error.outcome(), false),
        };
        measure.end(outcome, is_answer);
        done
    }

    async fn update_under<T, E>(
        &self,
        guard: KeyGuard<Key>,
        key: Key,
        known: Known,
        change: impl FnOnce(Option<Bytes>) -> Result<Change<T>, E> + Clone + Send + 'static,
    ) -> Result<(T, Option<Snapshot>), UpdateError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let faults = self.faults.clone();
        match &self.backend {
            Backend::Directory(local) => {
                self.count_read();
                let local = Arc::clone(local);
                let work = move || {
                    // Moved in here: a caller that goes away must not let the next one start before the write has ended.
                    let _guard = guard;
                    update_file(&local, &key, change, faults.as_ref())
                };
                spawn_blocking(work).await.unwrap_or_else(|error| Err(lost(error).into()))
            }
            Backend::Bucket(bucket) => {
                if matches!(known, Known::Nothing) {
                    self.count_read();
                }
                let bucket = Arc::clone(bucket);
                let work = async move {
                    let _guard = guard;
                    bucket.update(&key, known, change, faults).await
                };
                #[expect(
                    clippy::disallowed_methods,
                    reason = "whoever must not lose it waits for it in a task of `App`"
                )]
                let running = tokio::spawn(work);
                running.await.unwrap_or_else(|error| Err(lost(error).into()))
            }
        }
    }

    /// Removes an object. [`Error::NotFound`] when there is none. Durable when it returns.
    pub async fn delete(&self, key: &Key) -> Result<(), Error> {
        self.may_write()?;
        let faults = self.faults.clone();
        let work = async {
            match &self.backend {
                Backend::Directory(local) => {
                    let (local, key) = (Arc::clone(local), key.clone());
                    blocking(move || faulty(faults.as_ref(), || local.delete(&key))).await
                }
                Backend::Bucket(bucket) => {
                    let planned = faults.as_ref().map(FaultPlan::before_write).transpose()?;
                    // A bucket removes what is not there without a word.
                    bucket.size(key).await?;
                    faulty_answer(planned, bucket.discard(key).await)
                }
            }
        };
        measured(self.metrics.as_ref(), "delete", Some(key), work).await
    }

    /// All keys, in no particular order, as a stream with a bounded buffer. Keys written meanwhile may be missing.
    pub fn list(&self) -> mpsc::Receiver<Result<Key, Error>> {
        self.list_below(None, |key, _| Some(key), |listed| listed.key)
    }

    /// As [`Store::list`], without the keys below one folder, into which a directory is not looked. In a bucket they are
    /// there too: to leave them out would take no fewer requests.
    pub fn list_outside(&self, folder: &Key) -> mpsc::Receiver<Result<Key, Error>> {
        let Backend::Directory(local) = &self.backend else { return self.list() };
        let (sender, receiver) = mpsc::channel(LISTED_AHEAD);
        let (local, folder) = (Arc::clone(local), folder.clone());
        walk(sender, |key, _| Some(key), move |found| local.list_outside(&folder, found));
        receiver
    }

    /// As [`Store::list`], the keys below one folder. A folder that is not there is empty.
    pub fn list_folder(&self, folder: &Key) -> mpsc::Receiver<Result<Key, Error>> {
        self.list_below(Some(folder), |key, _| Some(key), |listed| listed.key)
    }

    /// As [`Store::list`], the objects below one folder, or all, with size and date: on a directory one look at each more.
    pub fn list_objects(&self, folder: Option<&Key>) -> mpsc::Receiver<Result<Listed, Error>> {
        self.list_below(folder, local::listed, |listed| listed)
    }

    /// As [`Store::list_objects`], those that sort after a key. On a directory all of them.
    pub fn list_objects_after(&self, key: &Key) -> mpsc::Receiver<Result<Listed, Error>> {
        match &self.backend {
            Backend::Directory(_) => self.list_objects(None),
            Backend::Bucket(bucket) => {
                let (sender, receiver) = mpsc::channel(LISTED_AHEAD);
                pass_on(bucket.list_after(key), sender, |listed| listed);
                receiver
            }
        }
    }

    /// The keys below a folder in the order of their bytes, those that sort after a key, which need not be there. On a directory
    /// the names of one folder at a time are in memory.
    pub fn list_in_order(&self, folder: &Key, after: Option<&Key>) -> mpsc::Receiver<Result<Key, Error>> {
        let (sender, receiver) = mpsc::channel(LISTED_AHEAD);
        match &self.backend {
            Backend::Directory(local) => {
                let (local, folder, after) = (Arc::clone(local), folder.clone(), after.cloned());
                spawn_blocking(move || {
                    let mut found = |key| sender.blocking_send(Ok(key)).is_ok();
                    if let Err(error) = local.list_in_order(&folder, after.as_ref(), &mut found) {
                        // Nobody is listening when the receiver was dropped.
                        let _ = sender.blocking_send(Err(error));
                    }
                });
            }
            // Every store that we know lists in this order: S3, GCS and Azure promise it.
            Backend::Bucket(bucket) => match after {
                Some(key) => pass_on(bucket.list_folder_after(folder, key), sender, |listed| listed.key),
                None => pass_on(bucket.list(Some(folder)), sender, |listed| listed.key),
            },
        }
        receiver
    }

    fn list_below<T: Send + 'static>(
        &self,
        folder: Option<&Key>,
        of_file: fn(Key, &DirEntry) -> Option<T>,
        of_object: fn(Listed) -> T,
    ) -> mpsc::Receiver<Result<T, Error>> {
        let (sender, receiver) = mpsc::channel(LISTED_AHEAD);
        match &self.backend {
            Backend::Directory(local) => {
                let (local, folder) = (Arc::clone(local), folder.cloned());
                walk(sender, of_file, move |found| local.list(folder.as_ref(), found));
            }
            Backend::Bucket(bucket) => {
                pass_on(bucket.list(folder), sender, of_object);
            }
        }
        receiver
    }

    /// How the settings want objects to be encrypted; `None` where they leave it to the store, and of all stores but S3.
    pub fn wanted_encryption(&self) -> Option<&WantedEncryption> {
        match &self.backend {
            Backend::Directory(_) => None,
            Backend::Bucket(bucket) => bucket.at_rest.as_ref().map(|client| &client.wanted),
        }
    }

    /// How an object of S3 is kept, where [`Store::wanted_encryption`] is something.
    pub async fn kept(&self, key: &Key) -> Result<AtRest, Error> {
        self.count_read();
        self.bucket()?.kept(key).await
    }

    /// Has S3 write an object anew where it lies, with all its metadata, encrypted as wanted. The condition is on the object
    /// that is read, none on the one that is replaced: for objects that never change once they are there.
    ///
    /// # Errors
    /// [`Error::Exists`] when it is not the object that was found, [`Error::TooLarge`] above [`MAX_COPY_BYTES`].
    pub async fn encrypt_in_place(&self, key: &Key, found: &AtRest) -> Result<(), Error> {
        self.may_write()?;
        let planned = self.faults.as_ref().map(FaultPlan::before_write).transpose()?;
        faulty_answer(planned, self.bucket()?.encrypt_in_place(key, found).await)
    }

    fn bucket(&self) -> Result<&Arc<Bucket>, Error> {
        match &self.backend {
            Backend::Directory(_) => Err(Error::Unavailable(std::io::ErrorKind::Unsupported.into())),
            Backend::Bucket(bucket) => Ok(bucket),
        }
    }

    /// Whether the store answers now: a small synced write to a directory, a look at an object of a bucket. Used by
    /// `doctor` and by readiness.
    pub async fn probe(&self) -> Result<(), Error> {
        let work = async {
            match &self.backend {
                Backend::Directory(local) => {
                    self.may_write()?;
                    let (local, faults) = (Arc::clone(local), self.faults.clone());
                    blocking(move || faulty(faults.as_ref(), || local.probe())).await
                }
                Backend::Bucket(bucket) => bucket.probe().await,
            }
        };
        measured(self.metrics.as_ref(), "probe", None, work).await
    }
}

/// Hands on what a walk through directories finds, until nobody wants more.
fn walk<T: Send + 'static>(
    sender: mpsc::Sender<Result<T, Error>>,
    of_file: fn(Key, &DirEntry) -> Option<T>,
    list: impl FnOnce(&mut dyn FnMut(Key, &DirEntry) -> bool) -> Result<(), Error> + Send + 'static,
) {
    spawn_blocking(move || {
        let mut found =
            |key, entry: &DirEntry| of_file(key, entry).is_none_or(|found| sender.blocking_send(Ok(found)).is_ok());
        if let Err(error) = list(&mut found) {
            // Nobody is listening when the receiver was dropped.
            let _ = sender.blocking_send(Err(error));
        }
    });
}

/// Hands listed keys on until nobody wants more.
#[expect(clippy::disallowed_methods, reason = "it ends with the receiver; nothing is lost with it")]
fn pass_on<T: Send + 'static>(
    mut listed: BoxStream<'static, Result<Listed, Error>>,
    sender: mpsc::Sender<Result<T, Error>>,
    told: fn(Listed) -> T,
) {
    tokio::spawn(async move {
        while let Some(found) = listed.next().await {
            if sender.send(found.map(told)).await.is_err() {
                return;
            }
        }
    });
}

fn update_file<T, E>(
    local: &Local,
    key: &Key,
    change: impl FnOnce(Option<Bytes>) -> Result<Change<T>, E>,
    faults: Option<&FaultPlan>,
) -> Result<(T, Option<Snapshot>), UpdateError<E>> {
    let current = match local.read(key) {
        Ok(bytes) => Some(bytes),
        Err(Error::NotFound) => None,
        Err(error) => return Err(error.into()),
    };
    let existing = if current.is_some() { Existing::Replace } else { Existing::Refuse };
    match change(current).map_err(UpdateError::Refused)? {
        Change::Keep(value) => Ok((value, None)),
        Change::Write(bytes, value) => {
            faulty(faults, || local.write(key, &[bytes], existing, Durability::Synced))?;
            Ok((value, None))
        }
    }
}

/// A request to a bucket has one body.
fn joined([head, rest]: [Bytes; 2]) -> Bytes {
    if rest.is_empty() { head } else { [head, rest].concat().into() }
}

fn faulty<T>(faults: Option<&FaultPlan>, write: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    let planned = faults.map(FaultPlan::before_write).transpose()?;
    faulty_answer(planned, write())
}

fn faulty_answer<T>(planned: Option<Planned>, done: Result<T, Error>) -> Result<T, Error> {
    match planned {
        Some(planned) => planned.answer(done),
        None => done,
    }
}

/// Waits for a call, and counts and records what came of it.
async fn measured<T>(
    metrics: Option<&Metrics>,
    call: &'static str,
    key: Option<&Key>,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let measure = Measure::begin(metrics, call, key);
    let done = work.await;
    let is_answer = matches!(done, Ok(_) | Err(Error::NotFound | Error::Exists));
    measure.end(done.as_ref().map_or_else(Error::outcome, |_| "ok"), is_answer);
    done
}

/// A call of the store that is under way.
struct Measure<'a> {
    metrics: Option<&'a Metrics>,
    call: &'static str,
    began: Instant,
    span: Span,
}

impl<'a> Measure<'a> {
    fn begin(metrics: Option<&'a Metrics>, call: &'static str, key: Option<&Key>) -> Self {
        let mut span = traces::child(traces::Kind::Client, "store", call);
        if span.is_recorded()
            && let Some(key) = key
        {
            // What a key names may be a secret, so only what kind of object it is.
            span.set("holdfast.store.object", key.kind().word());
        }
        Self { metrics, call, began: Instant::now(), span }
    }

    /// `is_answer`: the store did as it should, whatever it said.
    fn end(mut self, outcome: &'static str, is_answer: bool) {
        if let Some(metrics) = self.metrics {
            metrics.store_call(self.call, outcome, self.began.elapsed());
        }
        self.span.set("holdfast.outcome", outcome);
        if !is_answer {
            self.span.fail(outcome);
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(lost(error)))
}

/// The runtime is shutting down, or the work panicked.
fn lost(error: tokio::task::JoinError) -> Error {
    Error::Unavailable(std::io::Error::other(error))
}
