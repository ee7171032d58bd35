//! The only reader of the wall clock. Tests hold it and move it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::npm::Timestamp;

/// Tells the time: the machine's, or one that a test moves by hand. Cheap to clone; clones share a held time.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    held_millis: Option<Arc<AtomicI64>>,
}

/// The time since 1970 by the machine's clock, finer than a [`Timestamp`]: for the log, which tells when things really happened.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
pub fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl Clock {
    /// A clock that stands still until it is moved.
    pub fn held_at(instant: Timestamp) -> Self {
        Self { held_millis: Some(Arc::new(AtomicI64::new(instant.as_millis()))) }
    }

    /// The current instant.
    pub fn now(&self) -> Timestamp {
        let millis = match &self.held_millis {
            Some(held) => held.load(Ordering::Relaxed),
            None => i64::try_from(since_1970().as_millis()).unwrap_or(i64::MAX),
        };
        Timestamp::from_millis(millis)
    }

    /// Sets a held clock back; does nothing to the machine's.
    pub fn set_back(&self, by: Duration) {
        if let Some(held) = &self.held_millis {
            held.fetch_sub(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), Ordering::Relaxed);
        }
    }

    /// Moves a held clock; does nothing to the machine's.
    pub fn advance(&self, by: Duration) {
        if let Some(held) = &self.held_millis {
            held.fetch_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), Ordering::Relaxed);
        }
    }
}
