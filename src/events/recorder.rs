//! Writing the record.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use quick_cache::sync::Cache;
use tokio::sync::{oneshot, watch};
use tokio_util::task::TaskTracker;

use super::Event;
use crate::clock::Clock;
use crate::keys;
use crate::npm::Timestamp;
use crate::random;
use crate::storage::{Error, Store};

/// Events of one batch at most.
const BATCH_EVENTS: usize = 500;
/// Bytes of one batch at most, unless one event alone has more. Most have less than a kilobyte.
const BATCH_BYTES: usize = 4 << 20;
/// Events that wait while the store fails. More than this has stopped all changes long before: each of them waits for its own.
const MAX_WAITING: usize = 20_000;
/// Notes of one minute at most. Who may be refused as often as they like must not fill the store.
const MAX_NOTES_A_MINUTE: u32 = 3_000;
/// Notes that are remembered so that they are not made again; some fifty bytes each.
const REMEMBERED_NOTES: usize = 20_000;

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
    /// Until when a note is not made again, by the hash of what it says.
    noted: Cache<u64, Timestamp>,
    hasher: RandomState,
    /// The instant in the name of the batch before, in milliseconds since 1970.
    last_began: AtomicI64,
    /// Told of each batch.
    written: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Pending>,
    /// Notes that found no room.
    dropped: u64,
    notes: Notes,
}

/// The notes of the minute that runs.
#[derive(Debug, Default)]
struct Notes {
    since_millis: i64,
    count: u32,
}

impl Notes {
    /// Whether one more may be made.
    fn admit(&mut self, now: Timestamp) -> bool {
        const MINUTE_MILLIS: i64 = 60_000;
        // A clock that was set back begins a minute too.
        if !(0..MINUTE_MILLIS).contains(&(now.as_millis() - self.since_millis)) {
            *self = Self { since_millis: now.as_millis(), count: 0 };
        }
        self.count += 1;
        self.count <= MAX_NOTES_A_MINUTE
    }
}

#[derive(Debug)]
struct Pending {
    /// The event as its line.
    line: Vec<u8>,
    /// Whoever waits for it.
    waiter: Option<oneshot::Sender<()>>,
    /// It must not be lost.
    is_change: bool,
}

impl Recorder {
    /// Over a store. `tasks` as in [`crate::app::App`]: a batch under way is waited for at a stop.
    pub fn new(store: Store, clock: Clock, tasks: TaskTracker) -> Self {
        let (waiting, writing) = (Mutex::default(), tokio::sync::Mutex::default());
        let (noted, hasher) = (Cache::new(REMEMBERED_NOTES), RandomState::new());
        let (written, last_began) = (watch::Sender::default(), AtomicI64::default());
        let inner = Inner { store, clock, tasks, waiting, writing, noted, hasher, last_began, written };
        Self { inner: Arc::new(inner) }
    }

    /// Writes the event of a change down. Durable when it returns.
    ///
    /// # Errors
    /// The store's failure. The event is kept then and written with the next batch that can be; [`Recorder::flush`] tries.
    pub async fn record(&self, event: Event) -> Result<(), Error> {
        self.record_all(vec![event]).await
    }

    /// As [`Recorder::record`], for a change that is several events. They share a batch where they fit into one.
    ///
    /// # Errors
    /// As [`Recorder::record`].
    pub async fn record_all(&self, events: Vec<Event>) -> Result<(), Error> {
        if events.is_empty() {
            return Ok(());
        }
        let (waiter, mut written) = oneshot::channel();
        let overflow = {
            let mut waiting = self.waiting();
            let overflow = waiting.events.len() >= MAX_WAITING;
            let pending = |event: &Event| Pending { line: line(event), waiter: None, is_change: true };
            waiting.events.extend(events.iter().map(pending));
            // They are written in order: when the last one is, all are.
            if let Some(last) = waiting.events.back_mut() {
                last.waiter = Some(waiter);
            }
            overflow
        };
        if overflow {
            tracing::error!("the record cannot be written for so long that memory fills with what waits for it");
        }
        self.write_until(&mut written).await
    }

    /// Takes an event of something that changed nothing. It is written with the next batch; where too much waits already, or
    /// too much was noted in this minute, it is counted and dropped.
    pub fn note(&self, event: &Event) {
        let now = self.inner.clock.now();
        Self::note_into(&mut self.waiting(), event, now);
    }

    /// As [`Recorder::note`], unless the same was noted within the time: the same kind, of the same somebody, package, version
    /// and rule.
    pub fn note_once_in(&self, every: Duration, event: &Event) {
        let now = self.inner.clock.now();
        let what = (event.kind, event.who.kind, &event.who.name, &event.package, &event.version, &event.rule);
        let hash = self.inner.hasher.hash_one(what);
        let mut waiting = self.waiting();
        // A clock that was set back must not make an entry last.
        if self.inner.noted.get(&hash).is_some_and(|until| now < until && until <= now.plus(every)) {
            return;
        }
        self.inner.noted.insert(hash, now.plus(every));
        Self::note_into(&mut waiting, event, now);
    }

    fn note_into(waiting: &mut Waiting, event: &Event, now: Timestamp) {
        if waiting.events.len() >= MAX_WAITING || !waiting.notes.admit(now) {
            waiting.dropped += 1;
            return;
        }
        waiting.events.push_back(Pending { line: line(event), waiter: None, is_change: false });
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
        let dropped = std::mem::take(&mut self.waiting().dropped);
        if dropped > 0 {
            tracing::warn!(dropped, "more was refused or withheld than is written into the record");
        }
        Ok(())
    }

    /// Changes whenever this process has written into the record.
    pub fn written(&self) -> watch::Receiver<()> {
        self.inner.written.subscribe()
    }

    /// How many events wait, and how many were dropped since the log was told.
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
            if waiting.events.is_empty() {
                return Ok(());
            }
            let count = batch_len(waiting.events.iter().map(|pending| pending.line.len()));
            waiting.events.drain(..count).collect()
        };
        let this = self.clone();
        let write = async move { this.write(batch).await };
        self.inner.tasks.spawn(write).await.unwrap_or(Err(Error::Unavailable(std::io::ErrorKind::Interrupted.into())))
    }

    async fn write(&self, batch: Vec<Pending>) -> Result<(), Error> {
        let key = keys::event_batch(self.began(), &random::id());
        let lines: Vec<&[u8]> = batch.iter().map(|pending| pending.line.as_slice()).collect();
        match self.inner.store.create(&key, Bytes::from(lines.concat())).await {
            Ok(()) => {
                self.inner.written.send_replace(());
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

    /// When a batch begins, as its name says: no two of this process have one instant, so that they sort as they were written.
    fn began(&self) -> Timestamp {
        let now = self.inner.clock.now().as_millis();
        let after = |last: i64| Some(now.max(last.saturating_add(1)));
        let last = self.inner.last_began.fetch_update(Ordering::Relaxed, Ordering::Relaxed, after);
        Timestamp::from_millis(last.ok().and_then(after).unwrap_or(now))
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
            let event = String::from_utf8_lossy(&pending.line);
            tracing::error!(event = %event.trim_end(), "an event could not be written into the record");
        }
    }
}

/// How many of the events that wait, by their bytes, go into one batch: at least one.
fn batch_len(sizes: impl Iterator<Item = usize>) -> usize {
    let mut bytes = 0;
    let fit = sizes.take(BATCH_EVENTS).take_while(|size| {
        bytes += size;
        bytes <= BATCH_BYTES
    });
    fit.count().max(1)
}

/// One line of JSON.
fn line(event: &Event) -> Vec<u8> {
    // An event is made of texts and JSON, so nothing in it can fail to be JSON.
    let mut line = serde_json::to_vec(event).unwrap_or_default();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_bounded_by_events_and_bytes_and_never_empty() {
        assert_eq!(batch_len([100; 3].into_iter()), 3);
        assert_eq!(batch_len([100; 1_000].into_iter()), BATCH_EVENTS);
        assert_eq!(batch_len([BATCH_BYTES / 2; 5].into_iter()), 2);
        assert_eq!(batch_len([BATCH_BYTES * 2, 1].into_iter()), 1);
    }

    #[test]
    fn the_notes_of_a_minute_are_bounded() {
        let mut notes = Notes::default();
        let at = Timestamp::from_millis;
        assert_eq!((0..10_000).filter(|_| notes.admit(at(1_000_000))).count(), MAX_NOTES_A_MINUTE as usize);
        assert!(!notes.admit(at(1_059_999)) && notes.admit(at(1_060_000)));
        // A clock that is set back.
        assert!(notes.admit(at(0)));
    }
}
