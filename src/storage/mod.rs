//! Bytes under keys. Knows nothing of npm and never looks inside a key.
//!
//! The one invariant: a reader sees an object whole or not at all, and what a write acknowledged survives a crash.
//! An existing object that matters is changed only through [`Store::update`].

mod download;
mod error;
mod fault;
mod local;
mod locks;
mod upload;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

pub use download::{ByteRange, Download};
pub use error::{Error, UpdateError};
pub use fault::{Fault, FaultPlan};
pub use locks::{KeyGuard, KeyedLocks};
pub use upload::{FollowError, Follower, Upload};

use crate::keys::Key;
use local::Local;

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

/// The store. Cheap to clone.
///
/// Today a directory on this machine; the interface is what an object store with conditional writes can do too.
#[derive(Debug, Clone)]
pub struct Store {
    local: Arc<Local>,
    locks: KeyedLocks<Key>,
    faults: Option<FaultPlan>,
}

impl Store {
    /// Opens a directory as store, makes it when absent, owns it until dropped, clears what a crash left staged.
    ///
    /// # Errors
    /// [`Error::Locked`] when another process owns the directory.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        Ok(Self { local: Arc::new(Local::open(directory)?), locks: KeyedLocks::default(), faults: None })
    }

    /// The same store, failing as planned. For tests.
    #[must_use]
    pub fn with_faults(mut self, plan: FaultPlan) -> Self {
        self.faults = Some(plan);
        self
    }

    fn count_read(&self) {
        if let Some(plan) = &self.faults {
            plan.count_read();
        }
    }

    /// A path below the store for derived files that a library manages by itself (the search index).
    pub fn derived_path(&self, name: &str) -> std::path::PathBuf {
        self.local.root().join("-/catalog").join(name)
    }

    /// The whole object.
    pub async fn read(&self, key: &Key) -> Result<Bytes, Error> {
        self.count_read();
        let (local, key) = (Arc::clone(&self.local), key.clone());
        blocking(move || local.read(&key)).await
    }

    /// Opens an object for streaming.
    pub async fn open_object(&self, key: &Key) -> Result<Download, Error> {
        self.count_read();
        let (local, key) = (Arc::clone(&self.local), key.clone());
        let file = blocking(move || local.open_object(&key)).await?;
        Ok(Download::new(file))
    }

    /// Writes a new object. Durable when it returns. [`Error::Exists`] when the key is taken; of racing writers one wins.
    pub async fn create(&self, key: &Key, bytes: Bytes) -> Result<(), Error> {
        self.write(key, bytes, Existing::Refuse, Durability::Synced).await
    }

    /// Writes an object whatever was there. For objects that nobody reads to change them.
    pub async fn put(&self, key: &Key, bytes: Bytes, durability: Durability) -> Result<(), Error> {
        self.write(key, bytes, Existing::Replace, durability).await
    }

    async fn write(&self, key: &Key, bytes: Bytes, existing: Existing, durability: Durability) -> Result<(), Error> {
        let (local, key, faults) = (Arc::clone(&self.local), key.clone(), self.faults.clone());
        blocking(move || faulty(faults.as_ref(), || local.write(&key, &bytes, existing, durability))).await
    }

    /// Starts an object that arrives in pieces. It has no key and nobody sees it until [`Upload::keep`].
    pub async fn upload(&self) -> Result<Upload, Error> {
        let local = Arc::clone(&self.local);
        let staged = blocking(move || local.stage()).await?;
        Upload::new(Arc::clone(&self.local), self.faults.clone(), staged)
    }

    /// Reads an object, applies a pure function, writes the result if nothing changed meanwhile. The only way to
    /// change an object that is there.
    ///
    /// Callers on one key are served in order. Once begun, the change runs to its end even if the caller goes away;
    /// the next in line waits for that. Durable when it returns.
    ///
    /// # Errors
    /// [`UpdateError::Refused`] with what `change` said, nothing written; or the store's failure.
    pub async fn update<T, E>(
        &self,
        key: &Key,
        change: impl FnOnce(Option<Bytes>) -> Result<Change<T>, E> + Send + 'static,
    ) -> Result<T, UpdateError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let guard = self.locks.lock(key).await;
        self.count_read();
        let (local, key, faults) = (Arc::clone(&self.local), key.clone(), self.faults.clone());
        blocking_or(move || {
            // Moved in here: a caller that goes away must not let the next one start before the write has ended.
            let _guard = guard;
            let current = match local.read(&key) {
                Ok(bytes) => Some(bytes),
                Err(Error::NotFound) => None,
                Err(error) => return Err(error.into()),
            };
            let existing = if current.is_some() { Existing::Replace } else { Existing::Refuse };
            match change(current).map_err(UpdateError::Refused)? {
                Change::Keep(value) => Ok(value),
                Change::Write(bytes, value) => {
                    faulty(faults.as_ref(), || local.write(&key, &bytes, existing, Durability::Synced))?;
                    Ok(value)
                }
            }
        })
        .await
    }

    /// Removes an object. [`Error::NotFound`] when there is none. Durable when it returns.
    pub async fn delete(&self, key: &Key) -> Result<(), Error> {
        let (local, key, faults) = (Arc::clone(&self.local), key.clone(), self.faults.clone());
        blocking(move || faulty(faults.as_ref(), || local.delete(&key))).await
    }

    /// All keys, in no particular order, as a stream with a bounded buffer. Keys written meanwhile may be missing.
    pub fn list(&self) -> mpsc::Receiver<Result<Key, Error>> {
        self.list_with(Local::list)
    }

    /// As [`Store::list`], the keys below one folder. A folder that is not there is empty.
    pub fn list_folder(&self, folder: &Key) -> mpsc::Receiver<Result<Key, Error>> {
        let folder = folder.clone();
        self.list_with(move |local, found| local.list_folder(&folder, found))
    }

    fn list_with(
        &self,
        list: impl FnOnce(&Local, &mut dyn FnMut(Key) -> bool) -> Result<(), Error> + Send + 'static,
    ) -> mpsc::Receiver<Result<Key, Error>> {
        let (sender, receiver) = mpsc::channel(256);
        let local = Arc::clone(&self.local);
        spawn_blocking(move || {
            let outcome = list(&local, &mut |key| sender.blocking_send(Ok(key)).is_ok());
            if let Err(error) = outcome {
                // Nobody is listening when the receiver was dropped.
                let _ = sender.blocking_send(Err(error));
            }
        });
        receiver
    }

    /// Whether a small synced write works now. Used by `doctor` and by readiness.
    pub async fn probe(&self) -> Result<(), Error> {
        let (local, faults) = (Arc::clone(&self.local), self.faults.clone());
        blocking(move || faulty(faults.as_ref(), || local.probe())).await
    }
}

fn faulty<T>(faults: Option<&FaultPlan>, write: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    match faults {
        Some(plan) => plan.apply(write),
        None => write(),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(lost(error)))
}

async fn blocking_or<T, E>(
    work: impl FnOnce() -> Result<T, UpdateError<E>> + Send + 'static,
) -> Result<T, UpdateError<E>>
where
    T: Send + 'static,
    E: Send + 'static,
{
    spawn_blocking(work).await.unwrap_or_else(|error| Err(lost(error).into()))
}

/// The runtime is shutting down, or the work panicked.
fn lost(error: tokio::task::JoinError) -> Error {
    Error::Unavailable(std::io::Error::other(error))
}
