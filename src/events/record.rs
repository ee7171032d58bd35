//! Reading the record back.
//!
//! The names of batches sort by the time at which their write began. Two processes with clocks that differ, or a write that took
//! long, may put a batch before one that was read already. So a [`Position`] remembers what it has read of the last minutes, and
//! looks at them again.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Event;
use crate::keys::{self, Key};
use crate::npm::Timestamp;
use crate::storage::{Error, Store};

/// How much later than its name a batch may appear.
pub const LATE: Duration = Duration::from_mins(5);
/// A batch of five hundred events is far below this.
const MAX_BATCH_BYTES: u64 = 16 << 20;

/// How far somebody has read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// In milliseconds since 1970. All batches before it, and before the minutes in which more may come, are read.
    upto_millis: i64,
    /// The batches that were read of those minutes.
    read: BTreeSet<String>,
}

impl Position {
    /// Before the first event that is not older than an instant.
    pub fn at(instant: Timestamp) -> Self {
        Self { upto_millis: instant.as_millis(), read: BTreeSet::new() }
    }

    /// Whether it is before an instant: something of that time may not have been read.
    pub fn is_before(&self, instant: Timestamp) -> bool {
        self.upto_millis < instant.as_millis()
    }

    /// Whether a batch was dealt with.
    pub fn has_passed(&self, batch: &Key) -> bool {
        *batch < self.start() || self.read.contains(batch.as_str())
    }

    /// Where to look from.
    fn start(&self) -> Key {
        let late = i64::try_from(LATE.as_millis()).unwrap_or(i64::MAX);
        keys::events_from(Timestamp::from_millis(self.upto_millis.saturating_sub(late)))
    }

    /// Moves on over a batch that was dealt with.
    pub fn pass(&mut self, batch: &Key) {
        let Some(instant) = batch.event_instant() else { return };
        self.upto_millis = self.upto_millis.max(instant.as_millis());
        self.read.insert(batch.to_string());
        // What sorts before the minutes that are looked at again is never looked at again.
        self.read = self.read.split_off(self.start().as_str());
    }
}

/// The record, to be read.
#[derive(Debug, Clone)]
pub struct Record {
    store: Store,
}

impl Record {
    /// Over a store.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// The next batches from a position on, `most` at most, in the order of their time. Empty when all that is there was read.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn batches_after(&self, position: &Position, most: usize) -> Result<Vec<Key>, Error> {
        self.batches(&position.start(), most, |key| !position.read.contains(key.as_str())).await
    }

    /// The next batches that sort after a key, `most` at most. Those that appear before it later are not seen.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn batches_from(&self, key: &Key, most: usize) -> Result<Vec<Key>, Error> {
        self.batches(key, most, |_| true).await
    }

    async fn batches(&self, from: &Key, most: usize, is_wanted: impl Fn(&Key) -> bool) -> Result<Vec<Key>, Error> {
        let mut listed = self.store.list_in_order(&keys::events(), Some(from));
        let mut found = Vec::new();
        while let Some(key) = listed.recv().await {
            let key = key?;
            if key.event_instant().is_some() && is_wanted(&key) {
                found.push(key);
                if found.len() >= most {
                    break;
                }
            }
        }
        Ok(found)
    }

    /// The events of a batch, in order. A line that is no event is left out and logged: the rest is worth having.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn batch(&self, key: &Key) -> Result<Vec<Event>, Error> {
        let Some(snapshot) = self.store.snapshot_unless(key, None, MAX_BATCH_BYTES).await? else {
            return Ok(Vec::new());
        };
        let mut events = Vec::new();
        for line in snapshot.bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice(line) {
                Ok(event) => events.push(event),
                Err(error) => tracing::warn!(%key, %error, "a line of the record is no event"),
            }
        }
        Ok(events)
    }
}
