//! What can go wrong with a store, in the store's own words.

use std::io;

/// A failed storage operation. The key is in the log line of whoever gives up, not in the text.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No object under the key.
    #[error("no such object")]
    NotFound,
    /// A create-only write found an object.
    #[error("the object exists already")]
    Exists,
    /// No room is left, or a quota is used up.
    #[error("the storage is full")]
    Full(#[source] io::Error),
    /// The store did not do what was asked; trying again may help.
    #[error("the storage is unavailable")]
    Unavailable(#[source] io::Error),
    /// Another process owns the directory.
    #[error("another process is using this data directory")]
    Locked,
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::NotFound,
            io::ErrorKind::AlreadyExists => Self::Exists,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(error),
            _ => Self::Unavailable(error),
        }
    }
}

/// Why an update did not happen: the change was refused by the caller's own function, or the store failed.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError<E> {
    /// The change function said no; nothing was written.
    #[error("the change was refused")]
    Refused(E),
    /// The store failed; the object is as it was, or as the change made it, never in between.
    #[error(transparent)]
    Store(#[from] Error),
}
