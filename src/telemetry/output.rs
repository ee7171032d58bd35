//! Where lines of the log go: to stderr, at once or by a thread of its own.
//!
//! A server writes a line for each request. With a call of the system for each the log would cost more than the answer; so
//! a server's lines are collected for a few milliseconds and written together, in their order, by a thread. A kill loses at
//! most these; an end in order, also after an error, loses none.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

/// For how long lines are collected. No person sees it, and a busy server writes some hundred lines at once.
const PAUSE: Duration = Duration::from_millis(5);
/// How many bytes may wait. Who has more to log than stderr takes waits with it.
const MAX_WAITING: usize = 1 << 20;

static COLLECTED: OnceLock<Arc<Collected>> = OnceLock::new();

#[derive(Default)]
struct Collected {
    lines: Mutex<Lines>,
    /// There are lines.
    came: Condvar,
    /// Lines were written.
    went: Condvar,
}

#[derive(Default)]
struct Lines {
    waiting: Vec<u8>,
    /// The thread sleeps until it is woken.
    is_idle: bool,
    /// The thread has taken lines and not written all of them.
    is_writing: bool,
}

/// Collects lines from now on. Where no thread can be had they are written at once.
pub(super) fn collect() {
    let collected = Arc::<Collected>::default();
    let writing = Arc::clone(&collected);
    if thread::Builder::new().name("log".to_owned()).spawn(move || writing.keep_writing()).is_ok() {
        // Where one is there already the new one has nothing to do, for ever.
        let _ = COLLECTED.set(collected);
    }
}

/// Waits until all lines are written.
pub(super) fn flush() {
    if let Some(collected) = COLLECTED.get() {
        collected.flush();
    }
}

/// Writes whole lines.
pub(super) fn write(line: &[u8]) {
    match COLLECTED.get() {
        Some(collected) => collected.add(line),
        // Nobody is left to be told that there is no log.
        None => drop(io::stderr().lock().write_all(line)),
    }
}

/// The same as a writer: each call has whole lines.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output;

impl Write for Output {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        write(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Collected {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, line: &[u8]) {
        let mut lines = self.lock();
        while lines.waiting.len() >= MAX_WAITING {
            lines = self.went.wait(lines).unwrap_or_else(PoisonError::into_inner);
        }
        lines.waiting.extend_from_slice(line);
        let wakes = std::mem::take(&mut lines.is_idle);
        drop(lines);
        if wakes {
            self.came.notify_one();
        }
    }

    fn flush(&self) {
        let mut lines = self.lock();
        while lines.is_writing || !lines.waiting.is_empty() {
            lines = self.went.wait(lines).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn keep_writing(&self) {
        let mut taken = Vec::new();
        loop {
            let mut lines = self.lock();
            while lines.waiting.is_empty() {
                lines.is_idle = true;
                lines = self.came.wait(lines).unwrap_or_else(PoisonError::into_inner);
            }
            lines.is_idle = false;
            lines.is_writing = true;
            std::mem::swap(&mut lines.waiting, &mut taken);
            drop(lines);
            let _ = io::stderr().lock().write_all(&taken);
            taken.clear();
            self.lock().is_writing = false;
            self.went.notify_all();
            thread::sleep(PAUSE);
        }
    }
}
