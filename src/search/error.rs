//! What can go wrong with the search index.

use std::io;

use tantivy::TantivyError;
use tantivy::directory::error::{LockError, OpenReadError};

/// A failure of the search index. The index is derived data: whatever happened, `SearchIndex::create` and putting all
/// packages again mends it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk refused: full, read-only, not permitted.
    #[error("the search index cannot be read or written")]
    Io(#[source] io::Error),
    /// Another process, or another [`super::SearchIndex`] of this one, is writing the same directory.
    #[error("something else is writing the search index")]
    InUse,
    /// What is in the directory is not what was written there.
    #[error("the search index is damaged")]
    Damaged(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Anything else the index library reports.
    #[error("the search index failed")]
    Index(#[source] Box<TantivyError>),
}

impl Error {
    pub(super) fn damaged(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Damaged(cause.into())
    }
}

impl From<io::Error> for Error {
    fn from(cause: io::Error) -> Self {
        match cause.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => Self::damaged(cause),
            _ => Self::Io(cause),
        }
    }
}

impl From<TantivyError> for Error {
    fn from(cause: TantivyError) -> Self {
        match cause {
            TantivyError::LockFailure(LockError::LockBusy, _) => Self::InUse,
            TantivyError::IoError(cause) => io::Error::new(cause.kind(), cause).into(),
            TantivyError::OpenReadError(OpenReadError::IoError { io_error, .. }) => {
                io::Error::new(io_error.kind(), io_error).into()
            }
            TantivyError::DataCorruption(_)
            | TantivyError::OpenReadError(_)
            | TantivyError::IncompatibleIndex(_)
            | TantivyError::DeserializeError(_) => Self::damaged(cause),
            other => Self::Index(Box::new(other)),
        }
    }
}
