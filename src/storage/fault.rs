//! Failures on demand, for tests that must see what happens when a store fails or the process dies between two writes;
//! and counts, for tests that must see that the store is left alone.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::error::Error;

/// What a planned failure looks like to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The write is not done and fails.
    Before,
    /// The write is done and yet answered with an error: an unclear answer.
    After,
    /// This write and every one after it fail, as after a `kill -9`.
    Dead,
    /// The disk is full.
    Full,
}

/// Lets the n-th write of a store fail, and counts. Cheap to clone; clones count together.
#[derive(Debug, Clone)]
pub struct FaultPlan {
    fault: Fault,
    /// Which write fails, counted from zero.
    at: usize,
    writes: Arc<AtomicUsize>,
    reads: Arc<AtomicUsize>,
}

impl FaultPlan {
    /// The `at`-th write from now fails in this way.
    pub fn new(fault: Fault, at: usize) -> Self {
        Self { fault, at, writes: Arc::default(), reads: Arc::default() }
    }

    /// No write fails; only the counts matter.
    pub fn none() -> Self {
        Self::new(Fault::Before, usize::MAX)
    }

    /// How many writes were tried so far.
    pub fn writes(&self) -> usize {
        self.writes.load(Ordering::SeqCst)
    }

    /// How many objects were looked for so far: read, opened, or read to be changed.
    pub fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }

    /// Counts one.
    pub(super) fn count_read(&self) {
        self.reads.fetch_add(1, Ordering::SeqCst);
    }

    /// Counts a write; an error where it must not be done.
    pub(super) fn before_write(&self) -> Result<Planned, Error> {
        let count = self.writes.fetch_add(1, Ordering::SeqCst);
        match self.fault {
            Fault::Before if count == self.at => Err(injected()),
            Fault::Dead if count >= self.at => Err(injected()),
            Fault::Full if count >= self.at => Err(Error::Full(io::ErrorKind::StorageFull.into())),
            Fault::After if count == self.at => Ok(Planned { fails_after: true }),
            _ => Ok(Planned { fails_after: false }),
        }
    }
}

/// What was planned for a write that is done.
#[must_use]
pub(super) struct Planned {
    fails_after: bool,
}

impl Planned {
    /// The answer to the write, or the planned failure in its place.
    pub(super) fn answer<T>(self, done: Result<T, Error>) -> Result<T, Error> {
        if self.fails_after { done.and_then(|_| Err(injected())) } else { done }
    }
}

fn injected() -> Error {
    Error::Unavailable(io::Error::other("a planned fault"))
}
