//! Objects as files below one directory that one process owns.
//!
//! A write goes to a file in `-/staging/`, is synced, is renamed (or, create-only, hard-linked) into place, and then the
//! directory is synced: after the call returns, the object survives a power cut, and at no time does a reader see half
//! of it. Leftovers of a crash can only lie in `-/staging/`, so that clearing them at start looks at one directory.
//!
//! Every function here blocks; [`super::Store`] runs them off the async threads.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;

use super::error::Error;
use super::opened::Opened;
use super::{Durability, Existing, Listed};
use crate::keys::Key;

const STAGING: &str = "-/staging";
const LOCK: &str = "-/lock";
/// Directories remembered as durable; about 100 bytes each.
const REMEMBERED_DIRECTORIES: usize = 100_000;

/// The directory, owned until this is dropped, or only looked at.
#[derive(Debug)]
pub(super) struct Local {
    root: PathBuf,
    /// Holds the lock; the operating system gives it up when the process ends, however it ends. `None` for one that only
    /// looks, which [`super::Store`] lets write nothing.
    _lock: Option<File>,
    next_staged: AtomicU64,
    /// Directories whose own entry is known to be on disk.
    durable: Mutex<HashSet<PathBuf>>,
    /// Files of objects that never change under their key.
    pub(super) opened: Arc<Opened>,
}

/// An open object: reads are positioned, so one open file serves many readers.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) file: File,
    pub(super) size_bytes: u64,
    /// In quotes.
    pub(super) etag: Bytes,
    pub(super) modified_seconds: i64,
    /// All of it, where that is little and was read once.
    pub(super) contents: OnceLock<Bytes>,
}

/// A file that is being written and has no key yet. Removed when dropped.
#[derive(Debug)]
pub(super) struct Staged {
    /// `None` for a file without a name, which goes away when it is closed.
    path: Option<PathBuf>,
    pub(super) file: File,
}

impl Local {
    /// Takes the directory over, making it when it is absent, and clears what a crash left half-written.
    pub(super) fn open(root: &Path) -> Result<Self, Error> {
        fs::create_dir_all(root.join(STAGING))?;
        sync_directory(root)?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(root.join(LOCK))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(Error::Locked),
            Err(fs::TryLockError::Error(error)) => return Err(error.into()),
        }
        for leftover in fs::read_dir(root.join(STAGING))? {
            fs::remove_file(leftover?.path())?;
        }
        Ok(Self::at(root, Some(lock)))
    }

    /// Looks at the directory, whoever owns it.
    pub(super) fn open_reading(root: &Path) -> Result<Self, Error> {
        if !fs::metadata(root)?.is_dir() {
            return Err(Error::NotFound);
        }
        Ok(Self::at(root, None))
    }

    fn at(root: &Path, lock: Option<File>) -> Self {
        Self {
            root: root.to_owned(),
            _lock: lock,
            next_staged: AtomicU64::new(0),
            durable: Mutex::default(),
            opened: Arc::new(Opened::new()),
        }
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.root.join(key.as_str())
    }

    pub(super) fn read(&self, key: &Key) -> Result<Bytes, Error> {
        self.read_within(key, u64::MAX)
    }

    pub(super) fn read_within(&self, key: &Key, most_bytes: u64) -> Result<Bytes, Error> {
        let mut file = File::open(self.path(key)).map_err(not_found_below_a_file)?;
        let size = file.metadata()?.len();
        if size > most_bytes {
            return Err(Error::TooLarge);
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        // A directory opens well and cannot be read.
        file.read_to_end(&mut bytes).map_err(not_found_below_a_file)?;
        Ok(bytes.into())
    }

    pub(super) fn open_object(&self, key: &Key) -> Result<OpenFile, Error> {
        let file = File::open(self.path(key)).map_err(not_found_below_a_file)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(Error::NotFound);
        }
        Ok(OpenFile {
            size_bytes: metadata.len(),
            etag: format!(
                "\"{:x}-{:x}-{:x}\"",
                metadata.ino(),
                metadata.mtime_nsec() + metadata.mtime() * 1_000_000_000,
                metadata.len()
            )
            .into(),
            modified_seconds: metadata.mtime(),
            contents: OnceLock::new(),
            file,
        })
    }

    /// As [`Local::open_object`], and remembers the file for a while: see [`Opened`].
    pub(super) fn open_fixed(&self, key: &Key) -> Result<Arc<OpenFile>, Error> {
        self.opened.open(key, || self.open_object(key))
    }

    pub(super) fn stage(&self) -> Result<Staged, Error> {
        let number = self.next_staged.fetch_add(1, Ordering::Relaxed);
        let path = self.root.join(STAGING).join(number.to_string());
        let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&path)?;
        Ok(Staged { path: Some(path), file })
    }

    /// Makes a staged file the object under the key.
    pub(super) fn keep(
        &self,
        staged: &Staged,
        key: &Key,
        existing: Existing,
        durability: Durability,
    ) -> Result<(), Error> {
        if durability == Durability::Synced {
            staged.file.sync_all()?;
        }
        let staged = staged.path.as_deref().ok_or(Error::NotFound)?;
        let path = self.path(key);
        let directory = path.parent().unwrap_or(&self.root);
        self.make_directories(directory, durability)?;
        let outcome = match place(staged, &path, existing) {
            // Somebody emptied the cache, directories and all, which may be done at any time.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.durable.lock().unwrap_or_else(PoisonError::into_inner).clear();
                self.make_directories(directory, durability)?;
                place(staged, &path, existing)
            }
            outcome => outcome,
        };
        self.opened.forget(key);
        outcome?;
        if durability == Durability::Synced {
            sync_directory(directory)?;
        }
        Ok(())
    }

    pub(super) fn write(
        &self,
        key: &Key,
        parts: &[Bytes],
        existing: Existing,
        durability: Durability,
    ) -> Result<(), Error> {
        let mut staged = self.stage()?;
        for part in parts {
            staged.file.write_all(part)?;
        }
        self.keep(&staged, key, existing, durability)
    }

    pub(super) fn delete(&self, key: &Key) -> Result<(), Error> {
        let path = self.path(key);
        let removed = fs::remove_file(&path).map_err(not_found_below_a_file);
        self.opened.forget(key);
        removed?;
        if let Some(directory) = path.parent() {
            sync_directory(directory)?;
        }
        Ok(())
    }

    /// Calls `found` with every key below a folder, or with all there are, in no particular order. Ends early when `found`
    /// says so. A folder that is not there is empty.
    pub(super) fn list(
        &self,
        folder: Option<&Key>,
        found: &mut dyn FnMut(Key, &fs::DirEntry) -> bool,
    ) -> Result<(), Error> {
        let Some(folder) = folder else { return list_below(&self.root, &self.root, "", found).map(|_| ()) };
        match list_below(&self.root, &self.root.join(folder.as_str()), "", found) {
            Ok(_) | Err(Error::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// As [`Local::list`], all keys but those below a folder, which is not looked into.
    pub(super) fn list_outside(
        &self,
        folder: &Key,
        found: &mut dyn FnMut(Key, &fs::DirEntry) -> bool,
    ) -> Result<(), Error> {
        list_below(&self.root, &self.root, folder.as_str(), found).map(|_| ())
    }

    /// Calls `found` with the keys below a folder that sort after one, in the order of their bytes. Ends early when `found` says
    /// so. A folder that is not there is empty.
    pub(super) fn list_in_order(
        &self,
        folder: &Key,
        after: Option<&Key>,
        found: &mut dyn FnMut(Key) -> bool,
    ) -> Result<(), Error> {
        match list_sorted(&self.root, folder.as_str(), after.map_or("", Key::as_str), found) {
            Ok(_) | Err(Error::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Writes and removes one small file, to learn whether writes work now.
    pub(super) fn probe(&self) -> Result<(), Error> {
        let mut staged = self.stage()?;
        staged.file.write_all(b"probe")?;
        staged.file.sync_all()?;
        Ok(())
    }

    /// Makes the missing directories from the root down, and syncs the parent of each whose entry may not be on disk: a
    /// file in a directory that a power cut takes away is lost too. That a directory is there says nothing of that,
    /// another writer may have made it a moment ago.
    fn make_directories(&self, directory: &Path, durability: Durability) -> Result<(), Error> {
        if directory == self.root || self.is_durable(directory) {
            return Ok(());
        }
        let parent = directory.parent().unwrap_or(&self.root);
        self.make_directories(parent, durability)?;
        match fs::create_dir(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.into()),
            _ => {}
        }
        if durability == Durability::Synced {
            sync_directory(parent)?;
            let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
            // A bound on memory; what is forgotten is synced once more.
            if durable.len() >= REMEMBERED_DIRECTORIES {
                durable.clear();
            }
            durable.insert(directory.to_owned());
        }
        Ok(())
    }

    fn is_durable(&self, directory: &Path) -> bool {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner).contains(directory)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }
}

/// Gives a finished file its name.
fn place(staged: &Path, path: &Path, existing: Existing) -> io::Result<()> {
    match existing {
        Existing::Replace => fs::rename(staged, path),
        // A hard link fails when the name is taken, atomically; a rename would replace.
        Existing::Refuse => fs::hard_link(staged, path),
    }
}

impl OpenFile {
    /// Fills a buffer from `offset`, as far as that is possible without waiting: with what the system has in memory. Tells
    /// how many bytes that were, of those before the first that is not there. Does not block.
    pub(super) fn read_cached(&self, buffer: &mut [u8], offset: u64) -> usize {
        let mut filled = 0;
        while filled < buffer.len() {
            match read_without_waiting(&self.file, &mut buffer[filled..], offset + filled as u64) {
                Ok(count) if count > 0 => filled += count,
                // Nothing is there, the file system cannot tell, or the file has ended: the read that may wait finds out.
                Ok(_) | Err(_) => break,
            }
        }
        filled
    }

    /// Fills a buffer from `offset`. Fails when the file is shorter than that.
    pub(super) fn read_exact(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }
}

impl Staged {
    /// A file without a name in a folder.
    pub(super) fn unnamed(folder: &Path) -> io::Result<Self> {
        Ok(Self { path: None, file: tempfile::tempfile_in(folder)? })
    }

    /// A second handle to the same bytes, for readers that follow the writer.
    pub(super) fn reader(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Rewinds and hands the file out for reading from its start.
    pub(super) fn rewind(&mut self) -> io::Result<&mut File> {
        self.file.seek(SeekFrom::Start(0))?;
        Ok(&mut self.file)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // After a rename the name is gone already; after a hard link it is the second name. A failure leaves a file
        // that the next start clears.
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(target_os = "linux")]
fn read_without_waiting(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    use rustix::io::{ReadWriteFlags, preadv2};
    Ok(preadv2(file, &mut [io::IoSliceMut::new(buffer)], offset, ReadWriteFlags::NOWAIT)?)
}

/// Other systems do not tell what they have in memory.
#[cfg(not(target_os = "linux"))]
fn read_without_waiting(_: &File, _: &mut [u8], _: u64) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Reads up to `length` bytes from `offset` without moving the file's own position.
pub(super) fn read_at(file: &File, offset: u64, length: usize) -> io::Result<Bytes> {
    let mut buffer = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer.truncate(filled);
    Ok(buffer.into())
}

/// `a/b` where `a` is a file answers "not a directory"; for a store that is simply an absent object.
fn not_found_below_a_file(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename | io::ErrorKind::IsADirectory => Error::NotFound,
        _ => error.into(),
    }
}

fn sync_directory(directory: &Path) -> Result<(), Error> {
    File::open(directory)?.sync_all()?;
    Ok(())
}

/// What a list says of a file; `None` for one that has gone since it was found.
pub(super) fn listed(key: Key, entry: &fs::DirEntry) -> Option<Listed> {
    let metadata = entry.metadata().ok()?;
    Some(Listed {
        key,
        etag: None,
        size_bytes: metadata.len(),
        modified_seconds: metadata.mtime(),
        used_seconds: Some(metadata.atime().max(metadata.mtime())),
    })
}

/// A folder's name counts with its slash, as it does in the keys below it.
fn list_sorted(root: &Path, folder: &str, after: &str, found: &mut dyn FnMut(Key) -> bool) -> Result<bool, Error> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let slash = if entry.file_type()?.is_dir() { "/" } else { "" };
        names.push(format!("{folder}/{name}{slash}"));
    }
    names.sort_unstable();
    for name in names {
        let goes_on = match name.strip_suffix('/') {
            // All below a folder sorts after the folder; only what begins with its name can lie on both sides.
            Some(folder) if name.as_str() > after || after.starts_with(&name) => {
                match list_sorted(root, folder, after, found) {
                    // It was removed since it was found.
                    Err(Error::NotFound) => true,
                    outcome => outcome?,
                }
            }
            Some(_) => true,
            None => name.as_str() <= after || Key::listed(&name).is_none_or(&mut *found),
        };
        if !goes_on {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Looks into all folders but `left_out`, if it is there.
fn list_below(
    root: &Path,
    directory: &Path,
    left_out: &str,
    found: &mut dyn FnMut(Key, &fs::DirEntry) -> bool,
) -> Result<bool, Error> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        let Some(relative) = path.strip_prefix(root).ok().and_then(Path::to_str) else { continue };
        if entry.file_type()?.is_dir() {
            let goes_on = relative == STAGING
                || relative == left_out
                || match list_below(root, &path, left_out, found) {
                    // It was removed since it was found.
                    Err(Error::NotFound) => true,
                    outcome => outcome?,
                };
            if !goes_on {
                return Ok(false);
            }
        } else if relative != LOCK
            && let Some(key) = Key::listed(relative)
            && !found(key, &entry)
        {
            return Ok(false);
        }
    }
    Ok(true)
}
