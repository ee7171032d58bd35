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
    /// The store does not let us: credentials or rights are missing.
    #[error("the storage refuses access")]
    Denied(#[source] io::Error),
    /// The object is larger than its reader takes.
    #[error("the object is too large")]
    TooLarge,
    /// Another process owns the directory.
    #[error("another process is using this data directory")]
    Locked,
    /// The store was opened to look at it.
    #[error("the storage was opened for reading only")]
    ReadingOnly,
    /// The store does not keep the conditions of a write, so two writers would lose each other's changes.
    #[error("the storage does not keep the conditions of a write: {0}")]
    Unconditional(&'static str),
}

impl Error {
    /// What came of a call, in a word of a small set.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::NotFound => "absent",
            Self::Exists => "exists",
            Self::Full(_) => "full",
            Self::Unavailable(_) => "unavailable",
            Self::Denied(_) => "denied",
            Self::TooLarge => "too_large",
            Self::Locked | Self::ReadingOnly | Self::Unconditional(_) => "refused",
        }
    }
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

impl From<object_store::Error> for Error {
    fn from(error: object_store::Error) -> Self {
        match error {
            object_store::Error::NotFound { .. } => Self::NotFound,
            object_store::Error::AlreadyExists { .. } => Self::Exists,
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                Self::Denied(in_one(&error))
            }
            other => Self::Unavailable(in_one(&other)),
        }
    }
}

/// An error of `object_store` repeats in each of its causes what the next one says, but for the last.
fn in_one(error: &object_store::Error) -> io::Error {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    let (text, last) = (error.to_string(), causes.last().map(ToString::to_string).unwrap_or_default());
    io::Error::other(if text.contains(&last) { text } else { format!("{text}: {last}") })
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
