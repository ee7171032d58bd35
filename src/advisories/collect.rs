//! From records, one after the other, to an index.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;

use bytes::Bytes;

use super::advisory;
use super::codec::{self, Input};
use super::index::{self, IndexError, MAX_INDEX_BYTES, Statistics};
use super::record::{self, Record};
use crate::npm::Timestamp;

/// So many unreadable records are taken for accidents, whatever share of all they are.
const MAX_ACCIDENTS: u64 = 20;
/// One in so many may be unreadable.
const MIN_READABLE_SHARE: u64 = 10;

/// What compiling may cost. All are inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The archive as it is fetched.
    pub max_archive_bytes: u64,
    /// One record. A larger one is unreadable.
    pub max_record_bytes: u64,
    /// All records together, decompressed.
    pub max_total_bytes: u64,
    /// Records with different ids.
    pub max_records: usize,
    /// Entries of the archive, of whatever kind.
    pub max_entries: usize,
}

impl Default for Limits {
    /// All of npm takes some 230,000 records and less than a gigabyte; four times that.
    fn default() -> Self {
        Self {
            max_archive_bytes: 1 << 30,
            max_record_bytes: 4 << 20,
            max_total_bytes: 4 << 30,
            max_records: 1_000_000,
            max_entries: 1_500_000,
        }
    }
}

/// A new index.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// To be stored; [`super::Index::from_bytes`] reads it.
    pub bytes: Bytes,
    /// What went into it.
    pub statistics: Statistics,
}

/// Why there is no new index. The caller keeps the one it has.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The archive cannot be opened or read.
    #[error("the advisories cannot be read")]
    Read(#[source] io::Error),
    /// Neither a folder nor a zip archive that is whole.
    #[error("the advisories are not a whole zip archive: {0}")]
    NotAnArchive(String),
    /// Over [`Limits::max_archive_bytes`].
    #[error("the archive of advisories is larger than {0} bytes")]
    ArchiveTooLarge(u64),
    /// Over [`Limits::max_total_bytes`].
    #[error("the advisories are larger than {0} bytes, decompressed")]
    TooLarge(u64),
    /// Over [`Limits::max_entries`].
    #[error("the archive of advisories has more than {0} entries")]
    TooManyEntries(usize),
    /// Over [`Limits::max_records`].
    #[error("there are more than {0} advisories")]
    TooManyRecords(usize),
    /// No entry is named like a record.
    #[error("there are no advisories in it")]
    Empty,
    /// Records, but none about a package that we could have.
    #[error("there is nothing about npm in it")]
    NothingAboutNpm,
    /// So many that the archive as a whole is not to be trusted.
    #[error("{unreadable} of {entries} advisories cannot be read")]
    TooManyUnreadable {
        /// Entries named like records that are none.
        unreadable: u64,
        /// All entries named like records.
        entries: u64,
    },
    /// The index would be too large.
    #[error(transparent)]
    Index(#[from] IndexError),
}

/// What is known of a record. Ordered so that of two versions of a record, the greater one holds: the one that was
/// modified later, and of two with the same date one that is in force.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    modified: Option<Timestamp>,
    content: Content,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Content {
    Foreign,
    Withdrawn,
    /// Its packages, each as a name, the length of what follows, and the advisory as the index has it.
    InForce(Box<[u8]>),
}

/// Takes records one by one.
pub(super) struct Collector<'a> {
    limits: &'a Limits,
    records: BTreeMap<Box<str>, Candidate>,
    kept_bytes: usize,
    entries: u64,
    unreadable: u64,
    ignored: u64,
}

impl<'a> Collector<'a> {
    pub(super) fn new(limits: &'a Limits) -> Self {
        Self { limits, records: BTreeMap::new(), kept_bytes: 0, entries: 0, unreadable: 0, ignored: 0 }
    }

    /// Counts an entry that is no record and does not claim to be one.
    pub(super) fn ignore(&mut self) {
        self.ignored += 1;
    }

    /// Counts a record that could not be had.
    pub(super) fn skip(&mut self) {
        self.entries += 1;
        self.unreadable += 1;
    }

    /// Takes a record's text. `label` is what its file is named after, which has to be its id.
    ///
    /// # Errors
    /// When there are too many by now. A record that cannot be read is no error but counted.
    pub(super) fn add(&mut self, label: &[u8], text: &[u8]) -> Result<(), CompileError> {
        let Some(record) = record::read(text).ok().filter(|record| record.id.as_bytes() == label) else {
            self.skip();
            return Ok(());
        };
        self.entries += 1;
        let candidate = Candidate { modified: record.modified, content: content_of(&record) };
        let added = candidate.kept_bytes();
        match self.records.entry(record.id.into_boxed_str()) {
            Entry::Vacant(place) => {
                place.insert(candidate);
                self.kept_bytes += added;
            }
            Entry::Occupied(mut place) if candidate > *place.get() => {
                self.kept_bytes += added;
                self.kept_bytes -= place.insert(candidate).kept_bytes();
            }
            Entry::Occupied(_) => {}
        }
        if self.records.len() > self.limits.max_records {
            return Err(CompileError::TooManyRecords(self.limits.max_records));
        }
        if self.kept_bytes > MAX_INDEX_BYTES { Err(IndexError::TooLarge.into()) } else { Ok(()) }
    }

    /// The index of all that was taken.
    pub(super) fn finish(self, now: Timestamp) -> Result<Compiled, CompileError> {
        let Self { entries, unreadable, .. } = self;
        if unreadable > MAX_ACCIDENTS && unreadable.saturating_mul(MIN_READABLE_SHARE) > entries {
            return Err(CompileError::TooManyUnreadable { unreadable, entries });
        }
        if self.records.is_empty() {
            return Err(if entries == 0 { CompileError::Empty } else { CompileError::NothingAboutNpm });
        }
        let mut statistics = Statistics {
            packages: 0,
            advisories: 0,
            malware: 0,
            withdrawn: 0,
            foreign: 0,
            unreadable,
            ignored: self.ignored,
            newest_modified: None,
            compiled_at: now,
        };
        // Records come in the order of their ids, and so do the advisories of each package.
        let mut packages: BTreeMap<&str, Vec<&[u8]>> = BTreeMap::new();
        for (id, candidate) in &self.records {
            match &candidate.content {
                Content::Foreign => statistics.foreign += 1,
                Content::Withdrawn => statistics.withdrawn += 1,
                Content::InForce(written) => {
                    statistics.advisories += 1;
                    statistics.malware += u64::from(advisory::is_malware(id));
                    statistics.newest_modified = statistics.newest_modified.max(candidate.modified);
                    for (name, advisory) in parts(written) {
                        packages.entry(name).or_default().push(advisory);
                    }
                }
            }
        }
        if statistics.advisories + statistics.withdrawn == 0 {
            return Err(CompileError::NothingAboutNpm);
        }
        statistics.packages = packages.len() as u64;
        Ok(Compiled { bytes: index::build(&statistics, &packages)?, statistics })
    }
}

impl Candidate {
    fn kept_bytes(&self) -> usize {
        match &self.content {
            Content::InForce(written) => written.len(),
            Content::Foreign | Content::Withdrawn => 0,
        }
    }
}

fn content_of(record: &Record) -> Content {
    if record.packages.is_empty() {
        return Content::Foreign;
    }
    if record.is_withdrawn {
        return Content::Withdrawn;
    }
    let (mut written, mut one) = (Vec::new(), Vec::new());
    for (name, advisory) in &record.packages {
        one.clear();
        codec::write(name, advisory, &mut one);
        codec::put_text(name, &mut written);
        codec::put_number(one.len() as u64, &mut written);
        written.extend_from_slice(&one);
    }
    Content::InForce(written.into_boxed_slice())
}

/// What [`content_of`] wrote, taken apart again.
fn parts(written: &[u8]) -> impl Iterator<Item = (&str, &[u8])> {
    let mut input = Input(written);
    std::iter::from_fn(move || {
        let name = input.text()?;
        let length = input.count()?;
        Some((name, input.bytes(length)?))
    })
}
