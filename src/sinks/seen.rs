//! What codebox told Insights of reading and of failures.
//!
//! It changes nothing, so it is in no record: it is kept here as it happens, told a minute later, and lost when that fails or
//! the process ends. There is one of these for each sink that wants it, and none where none does. What somebody reads a hundred
//! times in a minute is told once.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::npm::Timestamp;

/// How long is waited for more of the same.
const COLLECTED: Duration = Duration::from_mins(1);
/// Further ones are not told: a megabyte or so is enough for what may be lost.
const MOST: usize = 5_000;

/// Something that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Sight {
    /// What.
    pub(super) what: What,
    /// By whom, where that is known.
    pub(super) by: Option<String>,
    /// The command line, as npm told it.
    pub(super) command: Option<String>,
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum What {
    /// The document of a package was sent.
    Read {
        /// Which.
        package: String,
    },
    /// A request failed by our fault, or by that of what we ask.
    Failed {
        /// In the older system's words: `package:get`.
        area: &'static str,
        /// What of the failure anybody may know.
        message: String,
    },
}

/// What waits to be told.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// With the instant at which it was last seen.
    waiting: Mutex<HashMap<Sight, Timestamp>>,
}

impl Seen {
    pub(super) fn note(&self, sight: Sight, now: Timestamp) {
        let mut waiting = self.waiting();
        if waiting.len() < MOST || waiting.contains_key(&sight) {
            waiting.insert(sight, now);
        }
    }

    /// All that waits, in the order of time, once the first of it has waited for a minute.
    pub(super) fn take_due(&self, now: Timestamp) -> Vec<(Sight, Timestamp)> {
        let mut waiting = self.waiting();
        if waiting.values().min().is_none_or(|first| first.plus(COLLECTED) > now) {
            return Vec::new();
        }
        let mut due: Vec<_> = waiting.drain().collect();
        drop(waiting);
        due.sort_unstable_by_key(|(_, at)| *at);
        due
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<Sight, Timestamp>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_told_once_and_memory_is_bounded() {
        let seen = Seen::default();
        let at = |millis| Timestamp::from_millis(millis);
        let read = |package: &str| Sight { what: What::Read { package: package.to_owned() }, by: None, command: None };
        seen.note(read("b"), at(1_000));
        seen.note(read("a"), at(500));
        seen.note(read("b"), at(2_000));
        assert!(seen.take_due(at(60_000)).is_empty());
        assert_eq!(seen.take_due(at(60_500)), [(read("a"), at(500)), (read("b"), at(2_000))]);
        assert!(seen.take_due(at(999_000)).is_empty());
        for number in 0..2 * MOST {
            seen.note(read(&number.to_string()), at(0));
        }
        assert_eq!(seen.take_due(at(60_000)).len(), MOST);
    }
}
