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

impl Clock {
    /// A clock that stands still until it is moved.
    pub fn held_at(instant: Timestamp) -> Self {
        Self { held_millis: Some(Arc::new(AtomicI64::new(instant.as_millis()))) }
    }

    /// The current instant.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
    pub fn now(&self) -> Timestamp {
        let millis = match &self.held_millis {
            Some(held) => held.load(Ordering::Relaxed),
            None => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX)),
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
