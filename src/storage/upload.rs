//! Writing an object in pieces, with readers that follow while it is still being written.

use std::fs::File;
use std::io::{Read, Write as _};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, Stream};
use tokio::sync::watch;

use super::buffers::Buffer;
use super::error::Error;
use super::fault::FaultPlan;
use super::local::{self, Staged};
use super::{Backend, Bucket, Durability, Existing, blocking, faulty, faulty_answer, lost, measured};
use crate::heavy;
use crate::keys::Key;
use crate::metrics::Metrics;

/// Up to here an object goes to a bucket in one conditional request, and is in memory for it.
const ONE_REQUEST_BYTES: u64 = 8 << 20;

/// How far a staged object has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// This many bytes can be read; more may come.
    Growing(u64),
    /// All bytes are there and were found right.
    Complete(u64),
}

/// An object on its way. Dropping it without [`Upload::keep`] leaves nothing behind.
#[derive(Debug)]
pub struct Upload {
    backend: Backend,
    faults: Option<FaultPlan>,
    metrics: Option<Metrics>,
    staged: Option<Staged>,
    reader: Arc<File>,
    written: u64,
    progress: watch::Sender<Progress>,
}

/// Reads a staged object from its start while it grows. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Follower {
    reader: Arc<File>,
    progress: watch::Receiver<Progress>,
}

/// Why a follower did not get all bytes.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The writer gave up: what was read so far must not be believed.
    #[error("the transfer was given up before it was complete")]
    Aborted,
    /// The staged bytes could not be read.
    #[error(transparent)]
    Store(#[from] Error),
}

impl Upload {
    pub(super) fn new(
        backend: Backend,
        faults: Option<FaultPlan>,
        metrics: Option<Metrics>,
        staged: Staged,
    ) -> Result<Self, Error> {
        let reader = Arc::new(staged.reader()?);
        let (progress, _) = watch::channel(Progress::Growing(0));
        Ok(Self { backend, faults, metrics, staged: Some(staged), reader, written: 0, progress })
    }

    /// Appends bytes. They can be followed when this returns; they are not durable yet.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), Error> {
        let length = bytes.len() as u64;
        let Some(mut staged) = self.staged.take() else { return Err(broken()) };
        // Cut here, the staged file is dropped by the closure and the upload is broken: nothing half-done remains.
        let (outcome, staged) = blocking(move || {
            let outcome = staged.file.write_all(&bytes);
            Ok((outcome, staged))
        })
        .await?;
        outcome?;
        self.staged = Some(staged);
        self.written += length;
        self.progress.send_replace(Progress::Growing(self.written));
        Ok(())
    }

    /// A reader of all bytes written and to be written.
    pub fn follow(&self) -> Follower {
        Follower { reader: Arc::clone(&self.reader), progress: self.progress.subscribe() }
    }

    /// Tells followers that the bytes are all there and right. Call it before [`Upload::keep`], so that clients need
    /// not wait for the disk to sync.
    pub fn complete(&self) {
        self.progress.send_replace(Progress::Complete(self.written));
    }

    /// Runs a function over all bytes written so far, from the first, on the threads for large work.
    pub async fn inspect<T: Send + 'static>(
        &mut self,
        look: impl FnOnce(&mut dyn Read) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let Some(mut staged) = self.staged.take() else { return Err(broken()) };
        let look = move || -> Result<_, Error> {
            let found = look(staged.rewind()?);
            Ok((found, staged))
        };
        let (found, staged) = heavy::run(look).await.map_err(lost)??;
        self.staged = Some(staged);
        Ok(found)
    }

    /// Gives the object its key: from now on it is there, whole. With [`Durability::Synced`] it survives a power cut
    /// when this returns.
    ///
    /// In a bucket a large object is sent in parts and [`Existing::Refuse`] is a look before it, no condition: it is for
    /// keys that have the digest of their bytes in them, where a race writes the same bytes twice.
    ///
    /// # Errors
    /// [`Error::Exists`] with [`Existing::Refuse`] when the key is taken: then it can be kept under another.
    pub async fn keep(&mut self, key: &Key, existing: Existing, durability: Durability) -> Result<(), Error> {
        let metrics = self.metrics.clone();
        measured(metrics.as_ref(), "keep", Some(key), self.kept(key, existing, durability)).await
    }

    async fn kept(&mut self, key: &Key, existing: Existing, durability: Durability) -> Result<(), Error> {
        let Some(staged) = self.staged.take() else { return Err(broken()) };
        let faults = self.faults.clone();
        match &self.backend {
            Backend::Directory(local) => {
                let (local, key) = (Arc::clone(local), key.clone());
                let (outcome, left) = blocking(move || {
                    let outcome = faulty(faults.as_ref(), || local.keep(&staged, &key, existing, durability));
                    let left = matches!(outcome, Err(Error::Exists)).then_some(staged);
                    Ok((outcome, left))
                })
                .await?;
                self.staged = left;
                outcome
            }
            Backend::Bucket(bucket) => {
                let planned = faults.as_ref().map(FaultPlan::before_write).transpose()?;
                let outcome = faulty_answer(planned, self.send(bucket, key, existing).await);
                self.staged = matches!(outcome, Err(Error::Exists)).then_some(staged);
                outcome
            }
        }
    }

    async fn send(&self, bucket: &Bucket, key: &Key, existing: Existing) -> Result<(), Error> {
        let read = |offset: u64, length: usize| {
            let reader = Arc::clone(&self.reader);
            blocking(move || Ok(local::read_at(&reader, offset, length)?))
        };
        if self.written <= ONE_REQUEST_BYTES {
            let bytes = read(0, usize::try_from(self.written).unwrap_or(usize::MAX)).await?;
            return bucket.write(key, bytes, existing).await;
        }
        if existing == Existing::Refuse {
            match bucket.size(key).await {
                Ok(_) => return Err(Error::Exists),
                Err(Error::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        bucket.put_in_parts(key, self.written, read).await
    }
}

impl Follower {
    /// The bytes in order, as they arrive. Ends in an error when the writer gives up.
    pub fn stream(self) -> impl Stream<Item = Result<Bytes, FollowError>> + Send + 'static {
        stream::try_unfold((self, 0u64), |(mut follower, offset)| async move {
            let available = loop {
                let progress = *follower.progress.borrow_and_update();
                match progress {
                    Progress::Complete(size) if size == offset => return Ok(None),
                    Progress::Complete(size) => break size - offset,
                    // The last byte is held back until the writer says that all is right: a reader who knows the
                    // size would otherwise take wrong bytes for a whole file.
                    Progress::Growing(size) if size > offset + 1 => break size - 1 - offset,
                    Progress::Growing(_) => {}
                }
                if follower.progress.changed().await.is_err() {
                    // The writer is gone. It may have completed in between, which the next look tells.
                    let progress = *follower.progress.borrow();
                    if !matches!(progress, Progress::Complete(_)) {
                        return Err(FollowError::Aborted);
                    }
                }
            };
            let mut buffer = Buffer::of(usize::try_from(available).unwrap_or(usize::MAX));
            let reader = Arc::clone(&follower.reader);
            let bytes = blocking(move || {
                reader.read_exact_at(buffer.room(), offset)?;
                Ok(buffer.into_bytes())
            })
            .await?;
            let next = offset + bytes.len() as u64;
            Ok(Some((bytes, (follower, next))))
        })
    }
}

/// A write that was cut short has taken the staged file with it.
fn broken() -> Error {
    Error::Unavailable(std::io::Error::other("an earlier write of this upload was cut short"))
}
