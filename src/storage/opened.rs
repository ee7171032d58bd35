//! Files that were opened a moment ago and are open still, so that what is asked for again and again costs no look at the
//! directory.
//!
//! For objects that never change under their key. A key that is written or removed here is forgotten at once. What is done
//! to the directory from outside is seen within a minute, and no file is held open longer than two after its removal. The
//! bytes of small ones are kept with them, 16 MiB at most: to read them again costs a tenth of the answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quick_cache::sync::Cache;

use super::error::Error;
use super::local::OpenFile;
use crate::keys::Key;

/// After that a file is opened again.
const LASTS: Duration = Duration::from_mins(1);
/// The most that are open at once.
const MOST_OPEN: usize = 512;
/// Of the files that the system lets this process open, the part that may be remembered ones: connections need more.
const PART_OF_LIMIT: u64 = 8;
/// What a system allows that does not say what it does; macOS begins with that.
const FEWEST_ALLOWED: u64 = 256;

/// The open files.
#[derive(Debug)]
pub(super) struct Opened {
    files: Cache<Key, Remembered>,
    /// How often a key was forgotten.
    forgotten: AtomicU64,
    /// A task closes what nobody asks for.
    is_swept: AtomicBool,
}

#[derive(Debug, Clone)]
struct Remembered {
    file: Arc<OpenFile>,
    opened_at: Instant,
}

impl Remembered {
    fn is_good(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.opened_at) < LASTS
    }
}

impl Opened {
    pub(super) fn new() -> Self {
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let files = Cache::new(most_open(files_allowed(&limits)));
        Self { files, forgotten: AtomicU64::new(0), is_swept: AtomicBool::new(false) }
    }

    /// The file of a key, if it was opened less than a minute ago.
    pub(super) fn get(&self, key: &Key) -> Option<Arc<OpenFile>> {
        let found = self.files.get(key)?;
        found.is_good(Instant::now()).then_some(found.file)
    }

    /// Opens a file and remembers it. Blocks.
    pub(super) fn open(
        &self,
        key: &Key,
        open: impl FnOnce() -> Result<OpenFile, Error>,
    ) -> Result<Arc<OpenFile>, Error> {
        let forgotten = self.forgotten.load(Ordering::SeqCst);
        let opened_at = Instant::now();
        let file = Arc::new(open()?);
        self.files.insert(key.clone(), Remembered { file: Arc::clone(&file), opened_at });
        // Between opening it and remembering it it may have been removed, and forgotten when it was not yet there.
        if self.forgotten.load(Ordering::SeqCst) != forgotten {
            self.files.remove(key);
        }
        Ok(file)
    }

    /// Closes the file of a key. Call it after the key got another file or none.
    pub(super) fn forget(&self, key: &Key) {
        self.forgotten.fetch_add(1, Ordering::SeqCst);
        self.files.remove(key);
    }

    /// Has a task close, from time to time, what was opened too long ago, until nothing is open.
    #[expect(clippy::disallowed_methods, reason = "it ends with the store; nothing is lost with it")]
    pub(super) fn keep_swept(self: &Arc<Self>) {
        if self.is_swept.swap(true, Ordering::SeqCst) {
            return;
        }
        let opened = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(LASTS).await;
                let Some(opened) = opened.upgrade() else { return };
                if opened.sweep(Instant::now()) {
                    return;
                }
            }
        });
    }

    /// Closes what was opened too long ago. Tells whether there is no more to be done.
    fn sweep(&self, now: Instant) -> bool {
        self.files.retain(|_, found| found.is_good(now));
        if !self.files.is_empty() {
            return false;
        }
        self.is_swept.store(false, Ordering::SeqCst);
        // What was opened in between relied on this task, unless it has begun another one since.
        self.files.is_empty() || self.is_swept.swap(true, Ordering::SeqCst)
    }
}

/// How many files this process may have open, by what Linux says of its limits.
fn files_allowed(limits: &str) -> u64 {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next());
    match soft {
        Some("unlimited") => u64::MAX,
        Some(number) => number.parse().unwrap_or(FEWEST_ALLOWED),
        None => FEWEST_ALLOWED,
    }
}

/// How many of them may be remembered ones.
fn most_open(allowed: u64) -> usize {
    usize::try_from(allowed / PART_OF_LIMIT).map_or(MOST_OPEN, |part| part.min(MOST_OPEN))
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use bytes::Bytes;

    use super::*;
    use crate::keys;

    fn key() -> Key {
        keys::packument(&"tool".parse().unwrap())
    }

    fn file() -> OpenFile {
        OpenFile {
            file: tempfile::tempfile().unwrap(),
            size_bytes: 0,
            etag: Bytes::new(),
            modified_seconds: 0,
            contents: OnceLock::new(),
        }
    }

    #[test]
    fn a_file_is_opened_once_until_it_is_forgotten() {
        let opened = Opened::new();
        assert!(opened.get(&key()).is_none());
        assert!(opened.open(&key(), || Err(Error::NotFound)).is_err());
        let first = opened.open(&key(), || Ok(file())).unwrap();
        assert!(Arc::ptr_eq(&first, &opened.get(&key()).unwrap()));
        opened.forget(&key());
        assert!(opened.get(&key()).is_none());
    }

    #[test]
    fn what_is_removed_while_it_is_opened_is_not_remembered() {
        let opened = Opened::new();
        let open = || {
            opened.forget(&key());
            Ok(file())
        };
        opened.open(&key(), open).unwrap();
        assert!(opened.get(&key()).is_none());
    }

    #[test]
    fn what_is_old_is_closed() {
        let opened = Opened::new();
        let weak = Arc::downgrade(&opened.open(&key(), || Ok(file())).unwrap());
        assert!(!opened.sweep(Instant::now()));
        assert!(weak.upgrade().is_some());
        assert!(opened.sweep(Instant::now() + LASTS));
        assert!(weak.upgrade().is_none() && opened.get(&key()).is_none());
    }

    #[test]
    fn most_of_the_systems_limit_is_left_to_others() {
        let limits =
            "Limit  Soft Limit  Hard Limit  Units\nMax processes 9 9 processes\nMax open files  1024  524288  files\n";
        assert_eq!(most_open(files_allowed(limits)), 128);
        assert_eq!(most_open(files_allowed(&limits.replace("1024", "1048576"))), MOST_OPEN);
        assert_eq!(most_open(files_allowed(&limits.replace("1024", "unlimited"))), MOST_OPEN);
        // macOS, and what cannot be read.
        assert_eq!(most_open(files_allowed("")), 32);
        assert_eq!(most_open(0), 0);
    }
}
