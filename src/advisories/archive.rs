//! Reading records from a zip archive or a folder, one at a time.
//!
//! The archive's own list of entries is not kept in memory, and no name in it is ever used as a path: it only has to
//! agree with the id of the record. What an entry says of its size is a reason to skip it, and never to believe it.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek};
use std::path::Path;

use zip::ZipReadOptions;
use zip::read::{ArchiveOffset, Config, ZipFileEntry};
use zip::result::ZipError;
use zip::unstable::read::ZipIterable;

use super::collect::{Collector, CompileError, Compiled, Limits};
use crate::npm::Timestamp;

/// A header of the archive's list and its name fit into it; it is filled anew for each entry.
const HEADER_BUFFER_BYTES: usize = 512;

/// Compiles an index from a zip archive, or from a folder of `.json` files and one level of folders with such. Entries
/// named otherwise are passed over, and so are links. Blocks, for all of npm some five seconds, and takes 150 MB
/// meanwhile.
///
/// # Errors
/// When the source cannot be read as a whole, passes a limit, has nothing about npm, or has too much that is unreadable.
pub fn compile(source: &Path, limits: &Limits, now: Timestamp) -> Result<Compiled, CompileError> {
    let about = fs::metadata(source).map_err(CompileError::Read)?;
    if about.is_dir() {
        return compile_folder(source, limits, now);
    }
    if about.len() > limits.max_archive_bytes {
        return Err(CompileError::ArchiveTooLarge(limits.max_archive_bytes));
    }
    let open = || File::open(source).map_err(CompileError::Read);
    let list = BufReader::with_capacity(HEADER_BUFFER_BYTES, open()?);
    compile_zip(list, &mut BufReader::new(open()?), limits, now)
}

/// `list` and `contents` read the same archive, each at its own place.
pub(super) fn compile_zip<L: Read + Seek, C: Read + Seek>(
    list: L,
    contents: &mut C,
    limits: &Limits,
    now: Timestamp,
) -> Result<Compiled, CompileError> {
    // Looking for where the archive might begin is of use for self-extracting programs only.
    let config = Config { archive_offset: ArchiveOffset::Known(0) };
    let mut archive = ZipIterable::try_new(list, config).map_err(not_an_archive)?;
    if archive.len() > limits.max_entries {
        return Err(CompileError::TooManyEntries(limits.max_entries));
    }
    let mut reader = Reader::new(limits);
    for entry in archive.files().map_err(not_an_archive)? {
        let entry = entry.map_err(not_an_archive)?;
        let name = entry.name_raw().to_owned();
        let Some(label) = label_of(&name) else {
            reader.collector.ignore();
            continue;
        };
        if entry.encrypted() || !entry.is_file() || entry.size() > limits.max_record_bytes {
            reader.collector.skip();
            continue;
        }
        reader.entry(label, || content_of(entry, contents))?;
    }
    reader.collector.finish(now)
}

fn content_of<'a>(entry: ZipFileEntry<'a>, contents: &'a mut (impl Read + Seek)) -> io::Result<impl Read + 'a> {
    entry.with_reader(contents, ZipReadOptions::new()).map_err(io::Error::other)
}

/// The texts of [`ZipError`] name no paths.
fn not_an_archive(error: ZipError) -> CompileError {
    match error {
        ZipError::Io(error) if error.kind() != io::ErrorKind::UnexpectedEof => CompileError::Read(error),
        other => CompileError::NotAnArchive(other.to_string()),
    }
}

fn compile_folder(folder: &Path, limits: &Limits, now: Timestamp) -> Result<Compiled, CompileError> {
    let mut reader = Reader::new(limits);
    let mut inner = Vec::new();
    let mut entries = 0;
    for depth in 0..2 {
        let folders = if depth == 0 { vec![folder.to_owned()] } else { std::mem::take(&mut inner) };
        for folder in folders {
            for file in fs::read_dir(folder).map_err(CompileError::Read)? {
                let file = file.map_err(CompileError::Read)?;
                entries += 1;
                if entries > limits.max_entries {
                    return Err(CompileError::TooManyEntries(limits.max_entries));
                }
                // Of the entry itself: a link is neither file nor folder.
                let kind = file.file_type().map_err(CompileError::Read)?;
                if kind.is_dir() && depth == 0 {
                    inner.push(file.path());
                    continue;
                }
                let name = file.file_name();
                match label_of(name.as_encoded_bytes()) {
                    Some(label) if kind.is_file() => reader.entry(label, || File::open(file.path()))?,
                    _ => reader.collector.ignore(),
                }
            }
        }
    }
    reader.collector.finish(now)
}

/// `GHSA-…` of `any/where/GHSA-….json`; `None` for what is not named like a record.
fn label_of(name: &[u8]) -> Option<&[u8]> {
    let file = name.rsplit(|byte| matches!(byte, b'/' | b'\\')).next()?;
    file.strip_suffix(b".json").filter(|label| !label.is_empty())
}

/// Reads entries within limits, through one buffer.
struct Reader<'a> {
    collector: Collector<'a>,
    limits: &'a Limits,
    total_bytes: u64,
    buffer: Vec<u8>,
}

impl<'a> Reader<'a> {
    fn new(limits: &'a Limits) -> Self {
        Self { collector: Collector::new(limits), limits, total_bytes: 0, buffer: Vec::new() }
    }

    fn entry<R: Read>(&mut self, label: &[u8], open: impl FnOnce() -> io::Result<R>) -> Result<(), CompileError> {
        let max_bytes = self.limits.max_record_bytes;
        self.buffer.clear();
        // One byte more than allowed shows that there is more.
        let read = open().and_then(|content| content.take(max_bytes.saturating_add(1)).read_to_end(&mut self.buffer));
        self.total_bytes = self.total_bytes.saturating_add(self.buffer.len() as u64);
        if self.total_bytes > self.limits.max_total_bytes {
            return Err(CompileError::TooLarge(self.limits.max_total_bytes));
        }
        if read.is_err() || self.buffer.len() as u64 > max_bytes {
            self.collector.skip();
            return Ok(());
        }
        self.collector.add(label, &self.buffer)
    }
}
