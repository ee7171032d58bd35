//! Reading an object in pieces, with constant memory.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, Stream};

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

/// An open object. What was opened stays readable even when the key is deleted or replaced meanwhile.
#[derive(Debug)]
pub struct Download {
    file: Arc<OpenFile>,
}

impl Download {
    pub(super) fn new(file: OpenFile) -> Self {
        Self { file: Arc::new(file) }
    }

    /// The object's size.
    pub fn size_bytes(&self) -> u64 {
        self.file.size_bytes
    }

    /// A strong validator, without quotes: changes whenever the object is written again.
    pub fn etag(&self) -> &str {
        &self.file.etag
    }

    /// When the object was written, in whole seconds since 1970.
    pub fn modified_seconds(&self) -> i64 {
        self.file.modified_seconds
    }

    /// The bytes of the range, in order. Reads are done off the async threads, one chunk ahead of nobody: the next
    /// chunk is read when the client has taken the last.
    pub fn stream(&self, range: ByteRange) -> impl Stream<Item = Result<Bytes, Error>> + Send + 'static {
        let file = Arc::clone(&self.file);
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

    /// All bytes, in order.
    pub fn stream_all(&self) -> impl Stream<Item = Result<Bytes, Error>> + Send + 'static {
        self.stream(ByteRange { start: 0, end: self.size_bytes() })
    }
}
