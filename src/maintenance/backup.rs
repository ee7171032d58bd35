//! Backups of a store that is in use, with a manifest by which they can be proven; and bringing one back.
//!
//! What a backup is worth: every change that was acknowledged before it began is in it; each document in it has its tarballs;
//! each object is whole, as it was at one moment between the beginning and the end. Packages may be of different moments.
//!
//! A backup lies in a store of its own, under the same keys and with the manifest, so that it can be looked at or served as
//! it is; or it is one archive.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::num::NonZeroU128;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, TryStreamExt as _};
use serde::Serialize;

use super::archive::{ArchiveError, Message, Reader, Writer};
use super::copy::{Copier, CopyReport, Done, Tally, Wish, is_wanted, objects};
use super::manifest::{Entry, Line, ManifestError, Reading, Totals, lines};
use super::report::Lines;
use super::transfer::{
    self, IN_MEMORY_BYTES, LARGEST_DOCUMENT_BYTES, MoveError, Named, Place, Put, digests_of, fingerprint_of,
};
use crate::clock::Clock;
use crate::keys::{self, Key, Part};
use crate::npm::Timestamp;
use crate::npm::integrity::Hasher;
use crate::storage::{self, Durability, Existing, Store, Upload};

/// Objects that are under way at once.
const AT_ONCE: usize = 8;
/// Lines of a manifest that are written in one piece.
const BATCH_BYTES: usize = 64 << 10;

/// Why a backup cannot be made, proven or brought back.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A store failed.
    #[error(transparent)]
    Move(#[from] MoveError),
    /// The archive cannot be used.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// There is no backup.
    #[error("there is no backup: it has no manifest")]
    NoManifest,
    /// There is one, and it is not whole.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A backup would go where a registry is.
    #[error("the place is not empty, and what is there is no backup")]
    NoBackupThere,
    /// A backup would be brought back to where something is.
    #[error("the store is not empty")]
    NotEmpty,
}

/// What was backed up.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct BackupReport {
    /// What the backup has.
    #[serde(flatten)]
    pub totals: Totals,
    /// What was done for it, and what was found.
    #[serde(flatten)]
    pub copy: CopyReport,
}

/// What was proven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// When the backup was begun.
    pub started: Timestamp,
    /// What its manifest names.
    #[serde(flatten)]
    pub totals: Totals,
    /// Keys of objects that are not what the manifest says, or not there.
    pub wrong: Lines,
}

/// What was brought back.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct RestoreReport {
    /// Nothing was written: the rest says what would be.
    pub dry_run: bool,
    /// Objects that were written.
    pub restored: u64,
    /// Objects that were there already.
    pub unchanged: u64,
    /// Keys of objects that are there with other bytes; left as they are.
    pub kept: Lines,
    /// Keys of objects that are not in the backup as its manifest says, or were read back as something else.
    pub wrong: Lines,
}

/// What an operator wants of a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RestoreWish {
    /// Only looks.
    pub dry_run: bool,
    /// Something may be there already; what is there stays.
    pub into_existing: bool,
    /// What is there with other bytes is replaced.
    pub overwrite: bool,
}

/// Backs a store up into another one, which is empty or has an older backup of it. What is the same there is read and
/// proven, not written. As long as it runs, and after it was cut off, the place says that its backup is not finished; the next
/// run goes on.
///
/// # Errors
/// [`BackupError::NoBackupThere`]; the failure of one of the stores.
pub async fn into_store(
    from: &Store,
    to: &Store,
    clock: &Clock,
    wish: Wish,
    mut progress: impl FnMut(u64, &Key),
) -> Result<BackupReport, BackupError> {
    let manifest_key = keys::backup_manifest();
    let is_backup = match to.size(&manifest_key).await {
        Ok(_) => true,
        Err(storage::Error::NotFound) => false,
        Err(error) => return Err(MoveError::target(&manifest_key)(error).into()),
    };
    if !is_backup && !is_empty(to).await? {
        return Err(BackupError::NoBackupThere);
    }
    let wish = Wish { overwrite: true, ..wish };
    let started = clock.now();
    let mut tally = Tally::new(wish);
    let copier = Copier::new(from, to, wish).await?.measuring();
    if wish.dry_run {
        copier.look(&mut tally, None, &mut progress, &mut async |_: &Done| Ok(())).await?;
        return Ok(BackupReport { totals: Totals::default(), copy: tally.report });
    }
    let written = MoveError::target(&manifest_key);
    to.put(&manifest_key, Line::head(started).text().into(), Durability::Synced).await.map_err(written)?;
    let mut manifest = Manifest::begin(to, started).await?;
    let mut note = async |done: &Done| match &done.digests {
        Some(digests) => manifest.add(&Entry::of(done.key.as_str(), digests)).await,
        None => Ok(()),
    };
    copier.look(&mut tally, None, &mut progress, &mut note).await?;
    let totals = manifest.finish().await?;
    Ok(BackupReport { totals, copy: tally.report })
}

/// A manifest that is being written beside a backup's objects. It takes the unfinished one's place at the end.
struct Manifest {
    upload: Upload,
    lines: BytesMut,
    totals: Totals,
}

impl Manifest {
    async fn begin(to: &Store, started: Timestamp) -> Result<Self, MoveError> {
        let upload = to.upload().await.map_err(MoveError::target(&keys::backup_manifest()))?;
        let lines = BytesMut::from(Line::head(started).text().as_bytes());
        Ok(Self { upload, lines, totals: Totals::default() })
    }

    async fn add(&mut self, entry: &Entry) -> Result<(), MoveError> {
        self.totals.add(entry);
        self.write(&Line::Object(entry.clone()), BATCH_BYTES).await
    }

    async fn write(&mut self, line: &Line, batch_bytes: usize) -> Result<(), MoveError> {
        self.lines.extend_from_slice(line.text().as_bytes());
        if self.lines.len() >= batch_bytes {
            let batch = self.lines.split().freeze();
            self.upload.write(batch).await.map_err(MoveError::target(&keys::backup_manifest()))?;
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<Totals, MoveError> {
        self.write(&Line::End(self.totals), 0).await?;
        let key = keys::backup_manifest();
        self.upload.keep(&key, Existing::Replace, Durability::Synced).await.map_err(MoveError::target(&key))?;
        Ok(self.totals)
    }
}

/// Backs a store up into an archive file, which gets its name when it is whole.
///
/// # Errors
/// The failure of the store or of the archive; nothing remains then.
pub async fn into_archive(
    from: &Store,
    path: &Path,
    clock: &Clock,
    wish: Wish,
    progress: impl FnMut(u64, &Key),
) -> Result<BackupReport, BackupError> {
    Archiver::new(from, Writer::to_file(path, clock.now()), wish).run(progress).await
}

/// As [`into_archive`], into a stream.
///
/// # Errors
/// As [`into_archive`]; what was written until then is no backup.
pub async fn into_stream(
    from: &Store,
    stream: Box<dyn Write + Send>,
    clock: &Clock,
    wish: Wish,
    progress: impl FnMut(u64, &Key),
) -> Result<BackupReport, BackupError> {
    Archiver::new(from, Writer::to_stream(stream, clock.now()), wish).run(progress).await
}

/// Puts one object after the other into an archive: documents last, each after what it names.
struct Archiver<'a> {
    from: &'a Store,
    archive: Writer,
    wish: Wish,
    /// The keys that are in it, by their fingerprints.
    written: HashSet<NonZeroU128>,
    report: CopyReport,
}

impl<'a> Archiver<'a> {
    fn new(from: &'a Store, archive: Writer, wish: Wish) -> Self {
        Self { from, archive, wish, written: HashSet::new(), report: CopyReport::default() }
    }

    async fn run(mut self, mut progress: impl FnMut(u64, &Key)) -> Result<BackupReport, BackupError> {
        match self.all(&mut progress).await {
            Ok(()) => {
                let totals = self.archive.finish().await?;
                Ok(BackupReport { totals, copy: self.report })
            }
            // A thread that has ended says why better than whoever could not hand something on.
            Err(BackupError::Archive(ArchiveError::GivenUp)) => {
                Err(self.archive.finish().await.err().unwrap_or(ArchiveError::GivenUp).into())
            }
            Err(error) => Err(error),
        }
    }

    async fn all(&mut self, progress: &mut impl FnMut(u64, &Key)) -> Result<(), BackupError> {
        for documents in [false, true] {
            let mut listed = Box::pin(objects(self.from));
            while let Some(found) = listed.try_next().await.map_err(MoveError::source_list)? {
                let (part, key) = (found.key.part(), found.key);
                let wanted = is_wanted(part, self.wish);
                if !documents {
                    self.report.left_out += u64::from(!wanted);
                    self.report.foreign += u64::from(part == Part::Foreign);
                }
                if !wanted || (part == Part::Document) != documents {
                    continue;
                }
                progress(self.report.copied, &key);
                if documents && found.size_bytes <= LARGEST_DOCUMENT_BYTES {
                    self.document(&key, found.modified_seconds).await?;
                } else {
                    self.object(&key).await?;
                }
            }
        }
        Ok(())
    }

    async fn document(&mut self, key: &Key, modified_seconds: i64) -> Result<(), BackupError> {
        let from = self.from;
        let mut bring = async |named: Named| self.object(&named.key).await;
        let Some(document) = transfer::document(from, key, &mut bring).await? else { return Ok(()) };
        document.missing.iter().for_each(|key| self.report.missing.push(key.as_str()));
        if document.is_unreadable {
            self.report.unreadable.push(key.as_str());
        }
        self.begin(key, document.bytes.len() as u64, modified_seconds).await?;
        self.hand_on(Message::Bytes(document.bytes)).await
    }

    /// Puts an object into the archive, unless it is in it. False when the store has none.
    async fn object(&mut self, key: &Key) -> Result<bool, BackupError> {
        if fingerprint_of(key).is_some_and(|fingerprint| self.written.contains(&fingerprint)) {
            return Ok(true);
        }
        let download = match self.from.open_object(key).await {
            Err(storage::Error::NotFound) => return Ok(false),
            opened => opened.map_err(MoveError::source(key))?,
        };
        let size_bytes = download.size_bytes();
        let mut hasher = Hasher::default();
        if size_bytes <= IN_MEMORY_BYTES {
            // Read whole before it is begun: what breaks off in an archive cannot be taken back.
            let bytes = transfer::collect(&download).await.map_err(MoveError::source(key))?;
            hasher.update(&bytes);
            self.begin(key, size_bytes, download.modified_seconds()).await?;
            self.hand_on(Message::Bytes(bytes)).await?;
        } else {
            self.begin(key, size_bytes, download.modified_seconds()).await?;
            let mut pieces = Box::pin(download.stream_all());
            while let Some(piece) = pieces.try_next().await.map_err(MoveError::source(key))? {
                hasher.update(&piece);
                self.hand_on(Message::Bytes(piece)).await?;
            }
        }
        if !transfer::is_as_key_says(key, &hasher.finish()) {
            self.report.wrong.push(key.as_str());
        }
        Ok(true)
    }

    async fn begin(&mut self, key: &Key, size_bytes: u64, modified_seconds: i64) -> Result<(), BackupError> {
        self.written.extend(fingerprint_of(key));
        self.report.copied += 1;
        self.report.copied_bytes += size_bytes;
        self.hand_on(Message::Object { key: key.clone(), size_bytes, modified_seconds }).await
    }

    async fn hand_on(&self, message: Message) -> Result<(), BackupError> {
        if self.archive.send(message).await { Ok(()) } else { Err(ArchiveError::GivenUp.into()) }
    }
}

/// Reads every object of a backup in a store and compares it with the manifest.
///
/// # Errors
/// [`BackupError::NoManifest`], [`BackupError::Manifest`]; the store's failure.
pub async fn verify_store(backup: &Store, mut progress: impl FnMut(u64, &Key)) -> Result<VerifyReport, BackupError> {
    let (mut reading, mut wrong, mut done) = (Reading::default(), Lines::default(), 0);
    let mut found = Box::pin(
        manifest_lines(backup)
            .await?
            .map(|line| match line {
                Ok(line) => Ok(reading.take(&line)?),
                Err(error) => Err(error),
            })
            .try_filter_map(|entry| async move { Ok(entry) })
            .map_ok(|entry| async move {
                let Some(key) = entry.key() else { return Ok(Err(entry.key)) };
                match digests_of(backup, &key).await {
                    Ok(digests) if entry.is(&digests) => Ok(Ok(key)),
                    Ok(_) | Err(storage::Error::NotFound) => Ok(Err(entry.key)),
                    Err(error) => Err(BackupError::from(MoveError::source(&key)(error))),
                }
            })
            .try_buffer_unordered(AT_ONCE),
    );
    while let Some(outcome) = found.try_next().await? {
        done += 1;
        match outcome {
            Ok(key) => progress(done, &key),
            Err(key) => wrong.push(key),
        }
    }
    drop(found);
    let (started, totals) = reading.finish()?;
    Ok(VerifyReport { started, totals, wrong })
}

/// Reads an archive and compares every object with the manifest.
///
/// # Errors
/// The first thing that is not as it was written.
pub async fn verify_archive(path: &Path, progress: impl FnMut(u64, &Key)) -> Result<VerifyReport, BackupError> {
    let (started, totals) = drain(Reader::of_file(path), progress).await?;
    Ok(VerifyReport { started, totals, wrong: Lines::default() })
}

async fn drain(mut reader: Reader, mut progress: impl FnMut(u64, &Key)) -> Result<(Timestamp, Totals), BackupError> {
    let mut done = 0;
    while let Some(message) = reader.objects.recv().await {
        if let Message::Object { key, .. } = message {
            done += 1;
            progress(done, &key);
        }
    }
    Ok(reader.finish().await?)
}

/// The lines of a backup's manifest.
async fn manifest_lines(
    backup: &Store,
) -> Result<impl futures::Stream<Item = Result<Bytes, BackupError>> + use<>, BackupError> {
    let key = keys::backup_manifest();
    let download = match backup.open_object(&key).await {
        Err(storage::Error::NotFound) => return Err(BackupError::NoManifest),
        opened => opened.map_err(MoveError::source(&key))?,
    };
    let pieces = download.stream_all().map_err(move |error| BackupError::from(MoveError::source(&key)(error)));
    Ok(lines(Box::pin(pieces), || ManifestError::Line(0).into()))
}

/// Whether a store has nothing that a backup would have.
async fn is_empty(store: &Store) -> Result<bool, MoveError> {
    let mut keys = store.list();
    while let Some(key) = keys.recv().await {
        if !matches!(key.map_err(MoveError::target_list)?.part(), Part::Passing | Part::Cached) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Where a backup is brought back to.
struct Restorer<'a> {
    to: &'a Store,
    wish: RestoreWish,
    /// Something was there before, so that it is worth to look before an object is sent.
    looks_first: bool,
}

/// What came of one object.
enum Restored {
    Written,
    Unchanged,
    Kept,
    Wrong,
}

impl<'a> Restorer<'a> {
    /// Makes sure that the place is empty, or that this backup was being brought back to it.
    async fn begin(to: &'a Store, wish: RestoreWish, started: Option<Timestamp>) -> Result<Self, BackupError> {
        let is_empty = is_empty(to).await?;
        let key = keys::restore_under_way();
        let mark = started.map(|started| format!("the backup of {started} is being restored\n"));
        let found = match to.read(&key).await {
            Ok(found) => Some(found),
            Err(storage::Error::NotFound) => None,
            Err(error) => return Err(MoveError::target(&key)(error).into()),
        };
        let goes_on = matches!((&found, &mark), (Some(found), Some(mark)) if found == mark.as_bytes());
        if !(is_empty || goes_on || wish.into_existing) {
            return Err(BackupError::NotEmpty);
        }
        if let (Some(mark), false) = (mark, wish.dry_run) {
            to.put(&key, mark.into(), Durability::Synced).await.map_err(MoveError::target(&key))?;
        }
        Ok(Self { to, wish, looks_first: !is_empty })
    }

    /// Says that all is there.
    async fn end(self) -> Result<(), BackupError> {
        let key = keys::restore_under_way();
        match self.to.delete(&key).await {
            Ok(()) | Err(storage::Error::NotFound) => Ok(()),
            Err(error) => Err(MoveError::target(&key)(error).into()),
        }
    }

    /// What is there with other bytes is kept or replaced; `None` when nothing is.
    async fn found(&self, key: &Key, entry: &Entry) -> Result<Option<(Restored, Place)>, BackupError> {
        match digests_of(self.to, key).await {
            Err(storage::Error::NotFound) => Ok(None),
            Err(error) => Err(MoveError::target(key)(error).into()),
            Ok(digests) if entry.is(&digests) => Ok(Some((Restored::Unchanged, Place::Empty))),
            Ok(digests) => Ok(Some((Restored::Kept, Place::Taken(digests)))),
        }
    }

    async fn copied(&self, backup: &Store, entry: Entry) -> Result<(Restored, String), BackupError> {
        let Some(key) = entry.key().filter(|key| key.part() != Part::Passing) else {
            return Ok((Restored::Wrong, entry.key));
        };
        let mut place = Place::Empty;
        if self.looks_first
            && let Some((outcome, taken)) = self.found(&key, &entry).await?
        {
            if matches!(outcome, Restored::Unchanged) || !self.wish.overwrite {
                return Ok((outcome, entry.key));
            }
            place = taken;
        }
        let outcome = if self.wish.dry_run {
            match digests_of(backup, &key).await {
                Ok(digests) if entry.is(&digests) => Restored::Written,
                Ok(_) | Err(storage::Error::NotFound) => Restored::Wrong,
                Err(error) => return Err(MoveError::source(&key)(error).into()),
            }
        } else {
            match transfer::put(backup, self.to, &key, &place).await? {
                Put::Written { digests, is_right } if is_right && entry.is(&digests) => Restored::Written,
                Put::Written { .. } | Put::Gone => Restored::Wrong,
                Put::Beaten => Restored::Kept,
            }
        };
        Ok((outcome, entry.key))
    }
}

impl RestoreReport {
    fn add(&mut self, outcome: &Restored, key: impl Into<String>) {
        match outcome {
            Restored::Written => self.restored += 1,
            Restored::Unchanged => self.unchanged += 1,
            Restored::Kept => self.kept.push(key),
            Restored::Wrong => self.wrong.push(key),
        }
    }

    /// True when something needs a person.
    pub fn has_problems(&self) -> bool {
        !(self.kept.is_empty() && self.wrong.is_empty())
    }
}

/// Brings a backup back from a store: what its manifest names, documents last, each object compared with the manifest.
///
/// # Errors
/// [`BackupError::NotEmpty`], unless this backup was being brought back there or the wish says otherwise;
/// [`BackupError::NoManifest`], [`BackupError::Manifest`] before anything is written; the failure of a store.
pub async fn restore_store(
    backup: &Store,
    to: &Store,
    wish: RestoreWish,
    mut progress: impl FnMut(u64, &Key),
) -> Result<RestoreReport, BackupError> {
    let mut reading = Reading::default();
    let mut lines = Box::pin(manifest_lines(backup).await?);
    while let Some(line) = lines.try_next().await? {
        reading.take(&line)?;
    }
    let (started, _) = reading.finish()?;
    let restorer = Restorer::begin(to, wish, Some(started)).await?;
    let mut report = RestoreReport { dry_run: wish.dry_run, ..RestoreReport::default() };
    let mut done = 0;
    for documents in [false, true] {
        let mut reading = Reading::default();
        let restored = manifest_lines(backup).await?.map(|line| Ok(reading.take(&line?)?));
        let restored = restored
            .try_filter_map(|entry: Option<Entry>| async move { Ok(entry) })
            .try_filter(|entry| {
                let is_document = entry.key().is_some_and(|key| key.part() == Part::Document);
                futures::future::ready(is_document == documents)
            })
            .map_ok(|entry| restorer.copied(backup, entry))
            .try_buffer_unordered(AT_ONCE);
        let mut restored = std::pin::pin!(restored);
        while let Some((outcome, key)) = restored.try_next().await? {
            done += 1;
            if let Some(key) = Key::listed(&key) {
                progress(done, &key);
            }
            report.add(&outcome, key);
        }
    }
    if !wish.dry_run {
        restorer.end().await?;
    }
    Ok(report)
}

/// Brings a backup back from an archive, which is read and proven before anything is written.
///
/// # Errors
/// As [`restore_store`]; or what is wrong with the archive.
pub async fn restore_archive(
    path: &Path,
    to: &Store,
    wish: RestoreWish,
    mut progress: impl FnMut(u64, &Key),
) -> Result<RestoreReport, BackupError> {
    let (started, totals) = drain(Reader::of_file(path), |_, _| {}).await?;
    let restorer = Restorer::begin(to, wish, Some(started)).await?;
    if wish.dry_run {
        return Ok(RestoreReport { dry_run: true, restored: totals.objects, ..RestoreReport::default() });
    }
    let report = unpack(Reader::of_file(path), &restorer, &mut progress).await?;
    restorer.end().await?;
    Ok(report)
}

/// Brings a backup back from a stream, which can only be proven at its end: until then what is written is not known to be
/// whole, and the store must not be used.
///
/// # Errors
/// As [`restore_archive`], after some of it was written.
pub async fn restore_stream(
    stream: Box<dyn Read + Send>,
    to: &Store,
    wish: RestoreWish,
    mut progress: impl FnMut(u64, &Key),
) -> Result<RestoreReport, BackupError> {
    let restorer = Restorer::begin(to, wish, None).await?;
    let report = unpack(Reader::of_stream(stream), &restorer, &mut progress).await?;
    restorer.end().await?;
    Ok(report)
}

/// Writes one object after the other as they come.
async fn unpack(
    mut reader: Reader,
    restorer: &Restorer<'_>,
    progress: &mut impl FnMut(u64, &Key),
) -> Result<RestoreReport, BackupError> {
    let (mut report, mut done) = (RestoreReport::default(), 0);
    while let Some(message) = reader.objects.recv().await {
        let Message::Object { key, size_bytes, .. } = message else { continue };
        done += 1;
        progress(done, &key);
        let Some(outcome) = restorer.unpacked(&mut reader, &key, size_bytes).await? else { break };
        report.add(&outcome, key.as_str());
    }
    reader.finish().await?;
    Ok(report)
}

impl Restorer<'_> {
    /// Writes the object whose bytes come next. `None` when they break off, which the reader tells.
    async fn unpacked(&self, reader: &mut Reader, key: &Key, size_bytes: u64) -> Result<Option<Restored>, BackupError> {
        if size_bytes <= IN_MEMORY_BYTES {
            let mut bytes = BytesMut::new();
            while (bytes.len() as u64) < size_bytes {
                let Some(Message::Bytes(piece)) = reader.objects.recv().await else { return Ok(None) };
                bytes.extend_from_slice(&piece);
            }
            return self.small(key, bytes.freeze()).await.map(Some);
        }
        let mut upload = self.to.upload().await.map_err(MoveError::target(key))?;
        let (mut hasher, mut left) = (Hasher::default(), size_bytes);
        while left > 0 {
            let Some(Message::Bytes(piece)) = reader.objects.recv().await else { return Ok(None) };
            left = left.saturating_sub(piece.len() as u64);
            hasher.update(&piece);
            upload.write(piece).await.map_err(MoveError::target(key))?;
        }
        let entry = Entry::of(key.as_str(), &hasher.finish());
        let existing = match self.found(key, &entry).await? {
            Some((outcome, _)) if matches!(outcome, Restored::Unchanged) || !self.wish.overwrite => {
                return Ok(Some(outcome));
            }
            Some(_) => Existing::Replace,
            None => Existing::Refuse,
        };
        upload.keep(key, existing, Durability::Synced).await.map_err(MoveError::target(key))?;
        let digests = digests_of(self.to, key).await.map_err(MoveError::target(key))?;
        Ok(Some(if entry.is(&digests) { Restored::Written } else { Restored::Wrong }))
    }

    async fn small(&self, key: &Key, bytes: Bytes) -> Result<Restored, BackupError> {
        let entry = Entry::of(key.as_str(), &transfer::measure(&bytes));
        let mut place = Place::Empty;
        if self.looks_first
            && let Some((outcome, taken)) = self.found(key, &entry).await?
        {
            if matches!(outcome, Restored::Unchanged) || !self.wish.overwrite {
                return Ok(outcome);
            }
            place = taken;
        }
        Ok(match transfer::put_bytes(self.to, key, bytes, &place).await? {
            Put::Written { is_right: true, .. } => Restored::Written,
            Put::Written { .. } | Put::Gone => Restored::Wrong,
            Put::Beaten => Restored::Kept,
        })
    }
}
