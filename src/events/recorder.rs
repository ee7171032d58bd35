//! Writing the record.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::Event;
use crate::clock::Clock;
use crate::keys;
use crate::random;
use crate::storage::{Error, Store};

/// Events of one batch at most. Each is under a few kilobytes.
const BATCH_EVENTS: usize = 500;
/// Events that wait while the store fails. More than this has stopped all changes long before: each of them waits for its own.
const MAX_WAITING: usize = 20_000;

/// Writes events. Cheap to clone; clones share what waits.
#[derive(Debug, Clone)]
pub struct Recorder {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    clock: Clock,
    tasks: TaskTracker,
    waiting: Mutex<Waiting>,
    /// Held while a batch is written: what arrives meanwhile is the next one.
    writing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Waiting {
    events: Vec<Pending>,
    /// Notes that found no room.
    dropped: u64,
}

#[derive(Debug)]
struct Pending {
    event: Event,
    /// Whoever waits for it.
    waiter: Option<oneshot::Sender<()>>,
    /// It must not be lost.
    is_change: bool,
}

impl Recorder {
    /// Over a store. `tasks` as in [`crate::app::App`]: a batch under way is waited for at a stop.
    pub fn new(store: Store, clock: Clock, tasks: TaskTracker) -> Self {
        let (waiting, writing) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { inner: Arc::new(Inner { store, clock, tasks, waiting, writing }) }
    }

    /// Writes the event of a change down. Durable when it returns.
    ///
    /// # Errors
    /// The store's failure. The event is kept then and written with the next batch that can be; [`Recorder::flush`] tries.
    pub async fn record(&self, event: Event) -> Result<(), Error> {
        let (waiter, mut written) = oneshot::channel();
        let overflow = {
            let mut waiting = self.waiting();
            let overflow = waiting.events.len() >= MAX_WAITING;
            waiting.events.push(Pending { event, waiter: Some(waiter), is_change: true });
            overflow
        };
        if overflow {
            tracing::error!("the record cannot be written for so long that memory fills with what waits for it");
        }
        self.write_until(&mut written).await
    }

    /// Takes an event of something that changed nothing. It is written with the next batch; where too much waits already, it
    /// is counted and dropped.
    pub fn note(&self, event: Event) {
        let mut waiting = self.waiting();
        if waiting.events.len() >= MAX_WAITING {
            waiting.dropped += 1;
            return;
        }
        waiting.events.push(Pending { event, waiter: None, is_change: false });
    }

    /// Writes all that waits. For a task that does so every few seconds, for what is due on Lambda, and for a stop.
    ///
    /// # Errors
    /// The store's failure; what waits goes on waiting.
    pub async fn flush(&self) -> Result<(), Error> {
        while !self.waiting().events.is_empty() {
            let _held = self.inner.writing.lock().await;
            self.write_batch().await?;
        }
        Ok(())
    }

    /// How many events wait, and how many were dropped so far.
    pub fn backlog(&self) -> (usize, u64) {
        let waiting = self.waiting();
        (waiting.events.len(), waiting.dropped)
    }

    async fn write_until(&self, written: &mut oneshot::Receiver<()>) -> Result<(), Error> {
        loop {
            let _held = self.inner.writing.lock().await;
            // Another's batch had it.
            if written.try_recv().is_ok() {
                return Ok(());
            }
            self.write_batch().await?;
        }
    }

    /// Writes one object with what waits, in a task of its own: whoever asked may go away, and those who wait with them must
    /// not lose theirs. Call it with `writing` held.
    async fn write_batch(&self) -> Result<(), Error> {
        let batch: Vec<Pending> = {
            let mut waiting = self.waiting();
            let count = waiting.events.len().min(BATCH_EVENTS);
            waiting.events.drain(..count).collect()
        };
        if batch.is_empty() {
            return Ok(());
        }
        let this = self.clone();
        let write = async move { this.write(batch).await };
        self.inner.tasks.spawn(write).await.unwrap_or(Err(Error::Unavailable(std::io::ErrorKind::Interrupted.into())))
    }

    async fn write(&self, batch: Vec<Pending>) -> Result<(), Error> {
        let key = keys::event_batch(self.inner.clock.now(), &random::id());
        match self.inner.store.create(&key, lines(&batch)).await {
            Ok(()) => {
                for waiter in batch.into_iter().filter_map(|pending| pending.waiter) {
                    // Whoever waited may have gone.
                    let _ = waiter.send(());
                }
                Ok(())
            }
            Err(error) => {
                let mut waiting = self.waiting();
                let newer = std::mem::take(&mut waiting.events);
                // Nobody waits for these any more: each waiter hears of the failure by its own try.
                waiting.events = batch.into_iter().chain(newer).collect();
                Err(error)
            }
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.inner.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    /// What could not be written until the very end is in the log at least.
    fn drop(&mut self) {
        let waiting = self.waiting.get_mut().unwrap_or_else(PoisonError::into_inner);
        for pending in waiting.events.iter().filter(|pending| pending.is_change) {
            let event = serde_json::to_string(&pending.event).unwrap_or_default();
            tracing::error!(event, "an event could not be written into the record");
        }
    }
}

/// One line of JSON for each event.
fn lines(batch: &[Pending]) -> Bytes {
    let mut bytes = Vec::new();
    for pending in batch {
        // An event is made of texts and JSON, so nothing in it can fail to be JSON.
        if serde_json::to_writer(&mut bytes, &pending.event).is_ok() {
            bytes.push(b'\n');
        }
    }
    bytes.into()
}
