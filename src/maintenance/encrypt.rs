//! `holdfast encrypt`: objects of S3 that are not encrypted as the settings want it.
//!
//! What never changes once it is there, such as a tarball, is copied by S3 onto itself, and no byte of it moves. What does
//! change, such as a document, is read and written again under the condition that nobody wrote meanwhile, since a copy has
//! no such condition and could undo a publish. Each is looked at again afterwards.

use std::pin::pin;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use serde::Serialize;

use super::{AT_ONCE, listing};
use crate::causes::one_line;
use crate::keys::{Key, Kind};
use crate::storage::{self, AtRest, Change, MAX_COPY_BYTES, Store, UpdateError, WantedEncryption};

/// How often an object that others write meanwhile is tried.
const TRIES: usize = 5;

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encrypted {
    /// It is as wanted.
    Already,
    /// It is now, or, in a dry run, would be.
    Anew,
    /// It has gone since it was listed.
    Gone,
}

/// An object that is not as wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// Where.
    pub key: String,
    /// Why.
    pub why: String,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct EncryptionReport {
    /// Nothing was written: `encrypted` says what would be.
    pub dry_run: bool,
    /// Objects that were looked at.
    pub objects: u64,
    /// Those that were as wanted.
    pub already: u64,
    /// Those that were written anew, and are as wanted now.
    pub encrypted: u64,
    /// Their size, in bytes.
    pub encrypted_bytes: u64,
    /// How many are not as wanted.
    pub failed: u64,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum Encryption {
    /// Nothing to do it with.
    #[error("a directory is encrypted by its disk or its file system, not by this program")]
    Directory,
    /// The settings say so, or it is no S3.
    #[error(
        "the settings leave encryption to the bucket: set `storage.encryption` to `AES256` or `aws:kms`, where the store is S3"
    )]
    LeftToTheBucket,
    /// The store's failure. What was done until then stays done.
    #[error(transparent)]
    Store(#[from] storage::Error),
}

/// Encrypts every object of a bucket that is not encrypted as wanted. Can be cut off and repeated, and may run beside servers.
/// `told` gets what was done so far, and each failure.
///
/// # Errors
/// See [`Encryption`].
pub async fn encrypt(
    store: &Store,
    dry_run: bool,
    mut told: impl FnMut(&EncryptionReport, Option<&Failure>),
) -> Result<EncryptionReport, Encryption> {
    if !store.is_shared() {
        return Err(Encryption::Directory);
    }
    let wanted = store.wanted_encryption().ok_or(Encryption::LeftToTheBucket)?;
    if !dry_run {
        store.require_conditions().await?;
    }
    let mut report = EncryptionReport { dry_run, ..EncryptionReport::default() };
    let looks = listing(store.list_objects(None)).map(|listed| async move {
        let listed = listed?;
        let outcome = object(store, wanted, &listed.key, dry_run).await;
        Ok::<_, storage::Error>((listed, outcome))
    });
    let mut looks = pin!(looks.buffer_unordered(AT_ONCE));
    while let Some((listed, outcome)) = looks.try_next().await? {
        report.objects += 1;
        match outcome {
            Ok(Encrypted::Already) => report.already += 1,
            Ok(Encrypted::Anew) => {
                report.encrypted += 1;
                report.encrypted_bytes += listed.size_bytes;
            }
            Ok(Encrypted::Gone) => {}
            Err(why) => {
                report.failed += 1;
                told(&report, Some(&Failure { key: listed.key.to_string(), why: one_line(&why) }));
            }
        }
        told(&report, None);
    }
    Ok(report)
}

/// Why an object is not as wanted.
#[derive(Debug, thiserror::Error)]
enum ObjectError {
    #[error("it is larger than 5 GiB, which S3 does not copy at once: copy it onto itself in parts, by other means")]
    TooLarge,
    #[error("others write it all the time: run it again")]
    Busy,
    #[error(
        "S3 has written it anew, and it is still not encrypted as wanted: see whether the bucket has a rule of its own"
    )]
    Unchanged,
    #[error(transparent)]
    Store(#[from] storage::Error),
}

async fn object(store: &Store, wanted: &WantedEncryption, key: &Key, dry_run: bool) -> Result<Encrypted, ObjectError> {
    for tries in 0..TRIES {
        let found = match store.kept(key).await {
            Ok(found) => found,
            Err(storage::Error::NotFound) => return Ok(Encrypted::Gone),
            Err(error) => return Err(error.into()),
        };
        match (wanted.is(&found), tries) {
            (true, 0) => return Ok(Encrypted::Already),
            (true, _) => return Ok(Encrypted::Anew),
            (false, 0) if dry_run => return Ok(Encrypted::Anew),
            (false, _) => {}
        }
        if !write_anew(store, key, &found).await? {
            continue;
        }
        match store.kept(key).await {
            Ok(now) if wanted.is(&now) => return Ok(Encrypted::Anew),
            Ok(_) if tries + 1 == TRIES => return Err(ObjectError::Unchanged),
            Ok(_) => {}
            Err(storage::Error::NotFound) => return Ok(Encrypted::Gone),
            Err(error) => return Err(error.into()),
        }
    }
    Err(ObjectError::Busy)
}

/// Has an object written with the wanted encryption. False when it is another one by now.
async fn write_anew(store: &Store, key: &Key, found: &AtRest) -> Result<bool, ObjectError> {
    if !never_changes(key) {
        let again = |stored: Option<Bytes>| {
            Ok::<_, std::convert::Infallible>(stored.map_or(Change::Keep(()), |stored| Change::Write(stored, ())))
        };
        return match store.update(key, again).await {
            Ok(()) => Ok(true),
            Err(UpdateError::Refused(never)) => match never {},
            Err(UpdateError::Store(error)) => Err(error.into()),
        };
    }
    if found.size_bytes > MAX_COPY_BYTES {
        return Err(ObjectError::TooLarge);
    }
    match store.encrypt_in_place(key, found).await {
        Ok(()) => Ok(true),
        Err(storage::Error::Exists | storage::Error::NotFound) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether an object stays as it was first written. What is not ours is left to whoever writes it, with its metadata.
fn never_changes(key: &Key) -> bool {
    matches!(
        key.kind(),
        Kind::Tarball(_) | Kind::OlderTarball(_) | Kind::CachedTarball { .. } | Kind::AdvisoriesIndex | Kind::Foreign
    )
}
