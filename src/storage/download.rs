//! Reading an object in pieces, with constant memory.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt as _};
use tokio::task::{JoinHandle, spawn_blocking};

use super::bucket::ObjectReader;
use super::buffers::{BUFFER_BYTES, Buffer, SMALL_BYTES};
use super::error::Error;
use super::local::OpenFile;
use super::lost;

/// A client that takes bytes as fast as they are read gives way to others after this many.
const TURN_BYTES: u64 = 1024 * 1024;

/// A part of an object: `start` inclusive, `end` exclusive, both within the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
}

/// An open object. Of a directory, what was opened stays readable even when the key is deleted or replaced meanwhile; of
/// a bucket, what was being read then ends in an error, and is never mixed with what took its place.
#[derive(Debug)]
pub struct Download {
    source: Source,
}

#[derive(Debug)]
enum Source {
    File(Arc<OpenFile>),
    Object(ObjectReader),
}

impl Download {
    pub(super) fn of_file(file: Arc<OpenFile>) -> Self {
        Self { source: Source::File(file) }
    }

    pub(super) fn of_object(object: ObjectReader) -> Self {
        Self { source: Source::Object(object) }
    }

    /// The object's size.
    pub fn size_bytes(&self) -> u64 {
        match &self.source {
            Source::File(file) => file.size_bytes,
            Source::Object(object) => object.size_bytes(),
        }
    }

    /// A strong validator, in quotes as it stands in `ETag`: changes whenever the object is written again with other bytes.
    pub fn etag(&self) -> Bytes {
        match &self.source {
            Source::File(file) => file.etag.clone(),
            Source::Object(object) => object.etag(),
        }
    }

    /// When the object was written, in whole seconds since 1970.
    pub fn modified_seconds(&self) -> i64 {
        match &self.source {
            Source::File(file) => file.modified_seconds,
            Source::Object(object) => object.modified_seconds(),
        }
    }

    /// The bytes of the range, in order. The next piece is read when the client has taken the last.
    pub fn stream(&self, range: ByteRange) -> impl Stream<Item = Result<Bytes, Error>> + Send + use<> {
        match &self.source {
            Source::File(file) => Pieces::of(Arc::clone(file), range).stream().left_stream(),
            Source::Object(object) => object.stream(range).right_stream(),
        }
    }

    /// The bytes of the range, where they are few, and the system has them in memory.
    pub fn at_hand(&self, range: ByteRange) -> Option<Bytes> {
        let length = range.end.saturating_sub(range.start);
        match &self.source {
            Source::File(file) if length <= BUFFER_BYTES as u64 => {
                if let Some(contents) = file.contents.get() {
                    let (start, end) = (usize::try_from(range.start).ok()?, usize::try_from(range.end).ok()?);
                    return (start <= end && end <= contents.len()).then(|| contents.slice(start..end));
                }
                let mut part = Part::of(range.start, length);
                let bytes = part.fill_cached(file).then(|| part.buffer.into_bytes())?;
                if length == file.size_bytes && length <= SMALL_BYTES as u64 {
                    // Somebody else may have been quicker, with the same bytes.
                    let _ = file.contents.set(bytes.clone());
                }
                Some(bytes)
            }
            Source::File(_) | Source::Object(_) => None,
        }
    }

    /// The bytes of the range, where they are few and of a directory; `None` where [`Download::stream`] is the way.
    ///
    /// # Errors
    /// When the file cannot be read, or ends before the range.
    pub async fn at_once(&self, range: ByteRange) -> Result<Option<Bytes>, Error> {
        let length = range.end.saturating_sub(range.start);
        match &self.source {
            Source::File(file) if length <= BUFFER_BYTES as u64 => {
                Ok(Some(Piece::read(file, range.start, length).await?.bytes))
            }
            Source::File(_) | Source::Object(_) => Ok(None),
        }
    }

    /// All bytes, in order.
    pub fn stream_all(&self) -> impl Stream<Item = Result<Bytes, Error>> + Send + use<> {
        self.stream(ByteRange { start: 0, end: self.size_bytes() })
    }
}

/// Some bytes of a file.
struct Piece {
    bytes: Bytes,
    /// All of them were in memory.
    is_cached: bool,
}

/// A piece of which the beginning is there.
struct Part {
    buffer: Buffer,
    filled: usize,
    offset: u64,
}

type Reading = JoinHandle<Result<Piece, Error>>;

impl Piece {
    /// The bytes from `offset`, as many as a buffer holds and at most `length`.
    async fn read(file: &Arc<OpenFile>, offset: u64, length: u64) -> Result<Self, Error> {
        let mut part = Part::of(offset, length);
        if part.fill_cached(file) {
            return Ok(Self { bytes: part.buffer.into_bytes(), is_cached: true });
        }
        Self::arrived(part.rest_of(Arc::clone(file))).await
    }

    async fn arrived(reading: Reading) -> Result<Self, Error> {
        reading.await.unwrap_or_else(|error| Err(lost(error)))
    }
}

impl Part {
    fn of(offset: u64, length: u64) -> Self {
        Self { buffer: Buffer::of(usize::try_from(length).unwrap_or(usize::MAX)), filled: 0, offset }
    }

    /// Takes what the system has in memory. Tells whether that was all.
    fn fill_cached(&mut self, file: &OpenFile) -> bool {
        self.filled += file.read_cached(&mut self.buffer.room()[self.filled..], self.offset + self.filled as u64);
        self.filled == self.buffer.room().len()
    }

    /// Reads what is missing, off the async threads.
    fn rest_of(mut self, file: Arc<OpenFile>) -> Reading {
        spawn_blocking(move || {
            let is_cached = self.fill_cached(&file);
            file.read_exact(&mut self.buffer.room()[self.filled..], self.offset + self.filled as u64)?;
            Ok(Piece { bytes: self.buffer.into_bytes(), is_cached })
        })
    }
}

/// A range of a file that is read piece by piece. What the system has in memory is read where the client is served; what it
/// has not is read off the async threads, and the next piece then while the last is sent.
struct Pieces {
    file: Arc<OpenFile>,
    /// What is left.
    range: ByteRange,
    /// The piece that comes next, where it is being read.
    ahead: Option<Reading>,
    /// Read since others had their turn.
    in_turn: u64,
}

impl Pieces {
    fn of(file: Arc<OpenFile>, range: ByteRange) -> Self {
        Self { file, range, ahead: None, in_turn: 0 }
    }

    fn stream(self) -> impl Stream<Item = Result<Bytes, Error>> + Send + 'static {
        stream::try_unfold(self, |mut pieces| async move { Ok(pieces.next().await?.map(|bytes| (bytes, pieces))) })
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        if self.left() == 0 {
            return Ok(None);
        }
        if self.in_turn >= TURN_BYTES {
            self.in_turn = 0;
            tokio::task::yield_now().await;
        }
        let piece = match self.ahead.take() {
            Some(reading) => Piece::arrived(reading).await?,
            None => Piece::read(&self.file, self.range.start, self.left()).await?,
        };
        self.in_turn += piece.bytes.len() as u64;
        self.range.start += piece.bytes.len() as u64;
        if !piece.is_cached && self.left() > 0 {
            self.ahead = Some(Part::of(self.range.start, self.left()).rest_of(Arc::clone(&self.file)));
        }
        Ok(Some(piece.bytes))
    }

    fn left(&self) -> u64 {
        self.range.end.saturating_sub(self.range.start)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::OnceLock;

    use super::*;

    fn download(contents: &[u8]) -> Download {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(contents).unwrap();
        Download::of_file(Arc::new(OpenFile {
            file,
            size_bytes: contents.len() as u64,
            etag: Bytes::new(),
            modified_seconds: 0,
            contents: OnceLock::new(),
        }))
    }

    #[test]
    fn what_is_at_hand_is_the_range_before_and_after_it_is_remembered() {
        let contents: Vec<u8> = (0..SMALL_BYTES).map(|n| u8::try_from(n % 251).unwrap()).collect();
        for length in [0, 1, 1000, SMALL_BYTES] {
            let (contents, whole) = (&contents[..length], ByteRange { start: 0, end: length as u64 });
            let download = download(contents);
            let parts =
                [whole, ByteRange { start: whole.end / 2, end: whole.end }, ByteRange { start: 0, end: whole.end / 3 }];
            // The whole comes second: what was read of a part must not be taken for it.
            for part in [parts[1], parts[0], parts[1], parts[2], parts[0]] {
                let expected = &contents[usize::try_from(part.start).unwrap()..usize::try_from(part.end).unwrap()];
                assert_eq!(download.at_hand(part).as_deref(), Some(expected), "{part:?} of {length}");
            }
            assert_eq!(download.at_hand(ByteRange { start: 0, end: whole.end + 1 }), None);
        }
    }
}
