//! Whether a store keeps the conditions of a write.
//!
//! Some stores answer 200 to a conditional write and ignore the condition, so that every writer believes to have won. No
//! list of products tells: it is tried, once for a bucket, and the verdict is kept there, so that a function that starts
//! anew every few minutes pays one read.

use std::io;

use bytes::Bytes;
use object_store::PutMode;

use super::bucket::{Bucket, Stamp, name_of_write};
use super::error::Error;
use crate::keys;

/// What was found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Conditions {
    /// A creation finds what is there, a replacement finds what has changed, and metadata is kept.
    Kept,
    /// They are not, and this is how it showed.
    Ignored(&'static str),
}

impl Bucket {
    /// Whether conditional writes can be relied on; asks the store the first time.
    ///
    /// # Errors
    /// [`Error::Unconditional`] where they cannot, and more than one process may write.
    pub(super) async fn keeps_conditions(&self) -> Result<bool, Error> {
        match self.conditions.get_or_try_init(|| self.look_up_conditions()).await? {
            Conditions::Kept => Ok(true),
            Conditions::Ignored(_) if self.single_writer => Ok(false),
            Conditions::Ignored(how) => Err(Error::Unconditional(how)),
        }
    }

    /// The verdict that is kept in the bucket, else that of a trial. A verdict counts for the store that it was found on,
    /// since a bucket may be copied to another; a bad one never, since stores are mended.
    async fn look_up_conditions(&self) -> Result<Conditions, Error> {
        let key = keys::store_conditions();
        let verdict = format!("conditional writes are kept by {}\n", self.name);
        match self.snapshot(&key).await {
            Ok(found) if found.bytes == verdict => return Ok(Conditions::Kept),
            Ok(_) | Err(Error::NotFound) => {}
            Err(error) => return Err(error),
        }
        let found = self.try_conditions().await?;
        if found == Conditions::Kept {
            self.overwrite(&key, verdict.into()).await?;
        }
        Ok(found)
    }

    /// Tries it on an object of its own, and again on another after trouble. Seven requests, the last of which may fail:
    /// who may not delete leaves some bytes.
    async fn try_conditions(&self) -> Result<Conditions, Error> {
        let mut tries = 0;
        loop {
            let key = keys::store_trial(&name_of_write());
            let found = self.conditions_of(&key).await;
            if let Err(error) = self.discard(&key).await {
                tracing::debug!(storage.key = %key, %error, "what the trial of conditional writes left remains");
            }
            tries += 1;
            match found {
                Err(Error::Unavailable(error)) if tries < self.attempts => {
                    tracing::debug!(%error, "the trial of conditional writes was disturbed");
                    super::settle::pause(tries).await;
                }
                found => return found,
            }
        }
    }

    async fn conditions_of(&self, key: &keys::Key) -> Result<Conditions, Error> {
        let stamp = Stamp::default().after(&name_of_write());
        let first = match self.put(key, Bytes::from_static(b"first"), PutMode::Create, Some(&stamp)).await {
            Ok(version) => stamp.clone().at(version),
            Err(object_store::Error::NotImplemented { .. }) => {
                return Ok(Conditions::Ignored("it refuses to create an object only if there is none"));
            }
            Err(error) => return Err(unclear(error)),
        };
        match self.put(key, Bytes::from_static(b"second"), PutMode::Create, Some(&stamp)).await {
            Err(object_store::Error::AlreadyExists { .. }) => {}
            Err(error) => return Err(unclear(error)),
            Ok(_) => return Ok(Conditions::Ignored("of two creators of one object it let both win")),
        }
        let stored = self.snapshot(key).await?;
        if stored.bytes != "first" {
            return Ok(Conditions::Ignored("a creation that it refused has replaced the object"));
        }
        if stored.stamp != first {
            return Ok(Conditions::Ignored("it does not give back an object's metadata and ETag as they were written"));
        }
        let replace = |bytes: &'static [u8]| {
            self.put(key, Bytes::from_static(bytes), PutMode::Update(first.update_version()), Some(&stamp))
        };
        match replace(b"third").await {
            Ok(_) => {}
            // Done at the first try, and repeated since the answer was lost.
            Err(object_store::Error::Precondition { .. }) if self.snapshot(key).await?.bytes == "third" => {}
            Err(object_store::Error::Precondition { .. } | object_store::Error::NotImplemented { .. }) => {
                return Ok(Conditions::Ignored("it refuses to replace an object that has not changed"));
            }
            Err(error) => return Err(unclear(error)),
        }
        match replace(b"fourth").await {
            Err(object_store::Error::Precondition { .. }) => Ok(Conditions::Kept),
            Err(error) => Err(unclear(error)),
            Ok(_) => Ok(Conditions::Ignored("it replaced an object that had changed")),
        }
    }
}

/// Trouble is no verdict.
fn unclear(error: object_store::Error) -> Error {
    match error.into() {
        // No such bucket, where it is not the object that is missing.
        clear @ (Error::Denied(_) | Error::NotFound) => clear,
        other => Error::Unavailable(io::Error::other(other)),
    }
}
