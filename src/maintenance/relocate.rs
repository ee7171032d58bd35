//! Other addresses in all stored documents.

use futures::{TryStreamExt as _, future};
use serde::Serialize;
use tokio::task::spawn_blocking;

use super::copy::objects;
use super::report::Lines;
use super::transfer::{LARGEST_DOCUMENT_BYTES, MoveError};
use crate::keys::Key;
use crate::npm::packument::{EditError, relocated};
use crate::storage::{self, Change, Listed, Store, UpdateError};

/// Documents that are under way at once.
const AT_ONCE: usize = 8;

/// What was found and done.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct RelocateReport {
    /// Nothing was written: the rest says what would be.
    pub dry_run: bool,
    /// Documents that were written anew.
    pub documents: u64,
    /// Addresses in them that are others now.
    pub addresses: u64,
    /// Documents that need nothing: without addresses, with the right ones, or copies of another registry's.
    pub unchanged: u64,
    /// Keys of documents that cannot be read, or are too large; left alone.
    pub unreadable: Lines,
}

/// Puts the stored addresses of tarballs below the registry at `base`, which has no slash at its end. Each document is written
/// only if nobody changed it meanwhile, so it may run beside servers on one bucket; it can be cut off and repeated.
///
/// # Errors
/// The store's failure. What was done until then stays done.
pub async fn relocate(
    store: &Store,
    base: &str,
    dry_run: bool,
    mut progress: impl FnMut(u64, &Key),
) -> Result<RelocateReport, MoveError> {
    let mut report = RelocateReport { dry_run, ..RelocateReport::default() };
    let documents = objects(store)
        .map_err(MoveError::source_list)
        .try_filter(|listed| future::ready(listed.key.packument_name().is_some()))
        .map_ok(|Listed { key, size_bytes, .. }| async move {
            if size_bytes > LARGEST_DOCUMENT_BYTES {
                return Ok((key, Err(EditError::Damaged)));
            }
            let outcome = document(store, &key, base, dry_run).await;
            match outcome {
                Ok(addresses) => Ok((key, Ok(addresses))),
                Err(UpdateError::Refused(why)) => Ok((key, Err(why))),
                Err(UpdateError::Store(error)) => Err(MoveError::target(&key)(error)),
            }
        })
        .try_buffer_unordered(AT_ONCE);
    let (mut documents, mut done) = (std::pin::pin!(documents), 0);
    while let Some((key, outcome)) = documents.try_next().await? {
        done += 1;
        progress(done, &key);
        match outcome {
            Ok(0) => report.unchanged += 1,
            Ok(addresses) => {
                report.documents += 1;
                report.addresses += addresses as u64;
            }
            Err(_) => report.unreadable.push(key.as_str()),
        }
    }
    Ok(report)
}

/// How many addresses of a document are others now.
async fn document(store: &Store, key: &Key, base: &str, dry_run: bool) -> Result<usize, UpdateError<EditError>> {
    let Some(name) = key.packument_name() else { return Ok(0) };
    let base = base.to_owned();
    if dry_run {
        let stored = match store.read(key).await {
            Err(storage::Error::NotFound) => return Ok(0),
            stored => stored?,
        };
        let found = spawn_blocking(move || relocated(&stored, &name, &base)).await;
        let found = found.map_err(|error| storage::Error::Unavailable(std::io::Error::other(error)))?;
        return Ok(found.map_err(UpdateError::Refused)?.map_or(0, |found| found.addresses));
    }
    let change = move |stored: Option<bytes::Bytes>| {
        // Removed meanwhile: there is nothing to change.
        let Some(stored) = stored else { return Ok(Change::Keep(0)) };
        Ok(match relocated(&stored, &name, &base)? {
            Some(found) => Change::Write(found.bytes.into(), found.addresses),
            None => Change::Keep(0),
        })
    };
    store.update(key, change).await
}
