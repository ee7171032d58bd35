//! A backup as one stream: a tar archive, compressed with zstd, its entries named by the keys, the manifest last.
//!
//! Both ways a thread of its own does the work and hands objects through a bounded channel.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bytes::{Buf as _, Bytes};
use tar::{EntryType, Header};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};

use super::manifest::{Entry, Line, ManifestError, Reading, Totals};
use crate::keys::{self, Key, Part};
use crate::npm::Timestamp;
use crate::npm::integrity::Hasher;

/// Pieces on their way between the store and the thread.
const AHEAD: usize = 16;
const PIECE_BYTES: usize = 256 << 10;
/// Tarballs do not get smaller, documents do, at any level.
const LEVEL: i32 = 3;
/// Names in extension headers. Keys have at most 1,024 bytes.
const LONGEST_NAME: u64 = 4 << 10;

/// Why an archive cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The file, or the stream, failed.
    #[error("the archive cannot be read or written")]
    Io(#[from] io::Error),
    /// It is no backup.
    #[error("it is no backup of Holdfast's: {0}")]
    Foreign(&'static str),
    /// An object is not what the manifest says.
    #[error("`{0}` in it is not what its manifest says")]
    Wrong(String),
    /// Its manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Whoever wrote or read it has stopped.
    #[error("it was given up")]
    GivenUp,
}

/// What goes through the channel: an object, then its bytes.
#[derive(Debug)]
pub(super) enum Message {
    Object { key: Key, size_bytes: u64, modified_seconds: i64 },
    Bytes(Bytes),
    End,
}

/// An archive that is being written. Without [`Writer::finish`] nothing remains of it.
pub(super) struct Writer {
    sender: mpsc::Sender<Message>,
    thread: JoinHandle<Result<Totals, ArchiveError>>,
}

impl Writer {
    /// Begins an archive in a file, which gets its name when it is whole.
    pub(super) fn to_file(path: &Path, started: Timestamp) -> Self {
        let path = path.to_owned();
        Self::start(move |receiver| {
            let partial = PartialFile::create(&path)?;
            let (totals, file) = write(BufWriter::new(&partial.file), started, receiver)?;
            file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
            partial.keep(&path)?;
            Ok(totals)
        })
    }

    /// Begins an archive that is written to a stream.
    pub(super) fn to_stream(stream: Box<dyn Write + Send>, started: Timestamp) -> Self {
        Self::start(move |receiver| {
            let (totals, mut stream) = write(stream, started, receiver)?;
            stream.flush()?;
            Ok(totals)
        })
    }

    fn start(work: impl FnOnce(mpsc::Receiver<Message>) -> Result<Totals, ArchiveError> + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::channel(AHEAD);
        Self { sender, thread: spawn_blocking(move || work(receiver)) }
    }

    /// Hands something on. False when the thread has ended, whose error [`Writer::finish`] tells.
    pub(super) async fn send(&self, message: Message) -> bool {
        self.sender.send(message).await.is_ok()
    }

    /// Writes the manifest and makes the archive whole, and durable where it is a file.
    pub(super) async fn finish(self) -> Result<Totals, ArchiveError> {
        // Told by what the thread returns.
        let _ = self.sender.send(Message::End).await;
        drop(self.sender);
        self.thread.await.map_err(io::Error::other)?
    }
}

/// A file that goes away unless it is kept.
struct PartialFile {
    path: PathBuf,
    file: File,
}

impl PartialFile {
    fn create(path: &Path) -> io::Result<Self> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".partial");
        let path = path.with_file_name(name);
        Ok(Self { file: File::create(&path)?, path })
    }

    fn keep(&self, path: &Path) -> io::Result<()> {
        std::fs::rename(&self.path, path)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        // After a rename the name is gone already.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn write<W: Write>(
    output: W,
    started: Timestamp,
    mut receiver: mpsc::Receiver<Message>,
) -> Result<(Totals, W), ArchiveError> {
    let mut encoder = zstd::stream::write::Encoder::new(output, LEVEL)?;
    encoder.include_checksum(true)?;
    let mut archive = tar::Builder::new(encoder);
    let mut manifest = BufWriter::new(tempfile::tempfile()?);
    manifest.write_all(Line::head(started).text().as_bytes())?;
    let mut totals = Totals::default();
    loop {
        match receiver.blocking_recv() {
            Some(Message::Object { key, size_bytes, modified_seconds }) => {
                let mut body =
                    Body { receiver: &mut receiver, piece: Bytes::new(), left: size_bytes, hasher: Hasher::default() };
                archive.append_data(&mut header(size_bytes, modified_seconds), key.as_str(), &mut body)?;
                let entry = Entry::of(key.as_str(), &body.hasher.finish());
                totals.add(&entry);
                manifest.write_all(Line::Object(entry).text().as_bytes())?;
            }
            Some(Message::End) => break,
            Some(Message::Bytes(_)) | None => return Err(ArchiveError::GivenUp),
        }
    }
    manifest.write_all(Line::End(totals).text().as_bytes())?;
    let mut manifest = manifest.into_inner().map_err(io::IntoInnerError::into_error)?;
    let length = manifest.stream_position()?;
    manifest.seek(SeekFrom::Start(0))?;
    let key = keys::backup_manifest();
    archive.append_data(&mut header(length, started.as_seconds()), key.as_str(), &mut manifest)?;
    Ok((totals, archive.into_inner()?.finish()?))
}

fn header(size_bytes: u64, modified_seconds: i64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_size(size_bytes);
    header.set_mode(0o600);
    header.set_mtime(u64::try_from(modified_seconds).unwrap_or_default());
    header
}

/// An object's bytes out of the channel, hashed as they pass.
struct Body<'a> {
    receiver: &'a mut mpsc::Receiver<Message>,
    piece: Bytes,
    left: u64,
    hasher: Hasher,
}

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Ok(0);
        }
        while self.piece.is_empty() {
            match self.receiver.blocking_recv() {
                Some(Message::Bytes(piece)) => self.piece = piece,
                _ => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let length = buffer.len().min(self.piece.len()).min(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.piece.copy_to_slice(&mut buffer[..length]);
        self.hasher.update(&buffer[..length]);
        self.left -= length as u64;
        Ok(length)
    }
}

/// An archive that is being read: its objects in order, without the manifest.
pub(super) struct Reader {
    pub(super) objects: mpsc::Receiver<Message>,
    thread: JoinHandle<Result<(Timestamp, Totals), ArchiveError>>,
}

impl Reader {
    pub(super) fn of_file(path: &Path) -> Self {
        let path = path.to_owned();
        Self::start(move || Ok(Box::new(BufReader::new(File::open(path)?))))
    }

    pub(super) fn of_stream(stream: Box<dyn Read + Send>) -> Self {
        Self::start(move || Ok(Box::new(BufReader::new(stream))))
    }

    fn start(open: impl FnOnce() -> io::Result<Box<dyn io::BufRead>> + Send + 'static) -> Self {
        let (sender, objects) = mpsc::channel(AHEAD);
        Self { objects, thread: spawn_blocking(move || read(open()?, &sender)) }
    }

    /// After the last object: when the backup was begun, and how much it has, if all was as its manifest says.
    pub(super) async fn finish(self) -> Result<(Timestamp, Totals), ArchiveError> {
        drop(self.objects);
        self.thread.await.map_err(io::Error::other)?
    }
}

fn read(input: Box<dyn io::BufRead>, sender: &mpsc::Sender<Message>) -> Result<(Timestamp, Totals), ArchiveError> {
    let mut archive = tar::Archive::new(zstd::stream::read::Decoder::with_buffer(input)?);
    // What was read, in the order of the manifest, to be compared with it.
    let mut seen = BufWriter::new(tempfile::tempfile()?);
    let mut long_name = None;
    for entry in archive.entries()?.raw(true) {
        let mut entry = entry?;
        if entry.header().entry_type() == EntryType::GNULongName {
            long_name = Some(read_name(&mut entry)?);
            continue;
        }
        if entry.header().entry_type() != EntryType::Regular {
            return Err(ArchiveError::Foreign("it has other things than files"));
        }
        let name = long_name.take().unwrap_or_else(|| entry.path_bytes().into_owned());
        let key = std::str::from_utf8(&name).ok().and_then(Key::listed);
        let key = key.ok_or(ArchiveError::Foreign("a name in it is no key"))?;
        if key == keys::backup_manifest() {
            return compare(seen, entry);
        }
        if key.part() == Part::Passing {
            return Err(ArchiveError::Foreign("it has what no backup has"));
        }
        let (size_bytes, modified) = (entry.header().size()?, entry.header().mtime()?);
        let modified_seconds = i64::try_from(modified).unwrap_or_default();
        let digests = {
            let hand_on = |message| sender.blocking_send(message).map_err(|_| ArchiveError::GivenUp);
            hand_on(Message::Object { key: key.clone(), size_bytes, modified_seconds })?;
            let (mut hasher, mut left) = (Hasher::default(), size_bytes);
            while left > 0 {
                let mut piece = vec![0; usize::try_from(left).unwrap_or(usize::MAX).min(PIECE_BYTES)];
                entry.read_exact(&mut piece)?;
                hasher.update(&piece);
                left -= piece.len() as u64;
                hand_on(Message::Bytes(piece.into()))?;
            }
            hasher.finish()
        };
        seen.write_all(Line::Object(Entry::of(key.as_str(), &digests)).text().as_bytes())?;
    }
    Err(ManifestError::Unfinished.into())
}

fn read_name(entry: &mut impl Read) -> Result<Vec<u8>, ArchiveError> {
    let mut name = Vec::new();
    entry.take(LONGEST_NAME + 1).read_to_end(&mut name)?;
    if name.len() as u64 > LONGEST_NAME {
        return Err(ArchiveError::Foreign("a name in it is too long"));
    }
    while name.last() == Some(&0) {
        name.pop();
    }
    Ok(name)
}

/// Compares what was read with the manifest, which names the same objects in the same order.
fn compare(seen: BufWriter<File>, manifest: impl Read) -> Result<(Timestamp, Totals), ArchiveError> {
    let mut seen = seen.into_inner().map_err(io::IntoInnerError::into_error)?;
    seen.seek(SeekFrom::Start(0))?;
    let (mut seen, mut reading) = (Lines::of(seen), Reading::default());
    let mut manifest = Lines::of(manifest);
    while let Some(line) = manifest.next()? {
        let Some(entry) = reading.take(&line)? else { continue };
        let found = seen.next()?.and_then(|line| serde_json::from_slice::<Entry>(&line).ok());
        if found.as_ref() != Some(&entry) {
            return Err(ArchiveError::Wrong(entry.key));
        }
    }
    if seen.next()?.is_some() {
        return Err(ArchiveError::Foreign("it has objects that its manifest does not name"));
    }
    Ok(reading.finish()?)
}

/// The lines of a text, each of bounded length.
struct Lines<R>(BufReader<R>);

impl<R: Read> Lines<R> {
    fn of(input: R) -> Self {
        Self(BufReader::new(input))
    }

    fn next(&mut self) -> Result<Option<Vec<u8>>, ArchiveError> {
        use io::BufRead as _;
        const LONGEST: u64 = 16 << 10;
        let mut line = Vec::new();
        (&mut self.0).take(LONGEST).read_until(b'\n', &mut line)?;
        match line.pop() {
            None => Ok(None),
            Some(b'\n') => Ok(Some(line)),
            Some(_) => Err(ArchiveError::Foreign("a line of its manifest is too long, or has no end")),
        }
    }
}
