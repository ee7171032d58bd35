//! Reading an object in pieces, with constant memory.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt as _};

use super::bucket::ObjectReader;
use super::error::Error;
use super::local::OpenFile;

/// Large enough that the hand-over to the blocking pool is small beside the read, small enough to hold per client.
const CHUNK_BYTES: u64 = 256 * 1024;

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
    pub(super) fn of_file(file: OpenFile) -> Self {
        Self { source: Source::File(Arc::new(file)) }
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

    /// A strong validator, without quotes: changes whenever the object is written again with other bytes.
    pub fn etag(&self) -> &str {
        match &self.source {
            Source::File(file) => &file.etag,
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
            Source::File(file) => file_stream(Arc::clone(file), range).left_stream(),
            Source::Object(object) => object.stream(range).right_stream(),
        }
    }

    /// All bytes, in order.
    pub fn stream_all(&self) -> impl Stream<Item = Result<Bytes, Error>> + Send + use<> {
        self.stream(ByteRange { start: 0, end: self.size_bytes() })
    }
}

/// Reads are done off the async threads.
fn file_stream(file: Arc<OpenFile>, range: ByteRange) -> impl Stream<Item = Result<Bytes, Error>> + Send + 'static {
    stream::try_unfold(range.start, move |offset| {
        let file = Arc::clone(&file);
        async move {
            if offset >= range.end {
                return Ok(None);
            }
            let length = usize::try_from((range.end - offset).min(CHUNK_BYTES)).unwrap_or(usize::MAX);
            let bytes = super::blocking(move || Ok(file.read_at(offset, length)?)).await?;
            if bytes.is_empty() {
                return Err(Error::Unavailable(std::io::ErrorKind::UnexpectedEof.into()));
            }
            let next = offset + bytes.len() as u64;
            Ok(Some((bytes, next)))
        }
    })
}
