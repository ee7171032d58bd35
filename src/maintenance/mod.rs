//! What operators do with a whole store: looking it over, clearing it up, encrypting it, moving it, backing it up, removing it.
//! No server; it decides nothing about packages.
//!
//! Every tool goes through the store as a stream, with a bounded number of objects in memory: what grows with the store is
//! the list of package names. Every tool may run beside servers on the same bucket, be cut off at any point, and run again:
//! a document is written only after all that it names is there.

mod archive;
pub mod backup;
mod copy;
mod downloads;
mod encrypt;
mod finding;
mod function;
mod gc;
mod hosted;
mod manifest;
mod relocate;
mod remove;
mod report;
mod retention;
mod stack;
mod transfer;
mod verify;

use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, Stream};
use tokio::sync::mpsc;

pub use archive::ArchiveError;
pub use backup::BackupError;
pub use copy::{CopyReport, Wish, copy};
pub use encrypt::{Encrypted, Encryption, EncryptionReport, Failure, encrypt};
pub use finding::{Code, Finding, Severity};
pub use function::{FunctionError, FunctionReport, point_function};
pub use gc::{CacheLimits, GcError, Plan, Reason, Removal, Swept, gc};
pub use manifest::{ManifestError, Totals};
pub use relocate::{RelocateReport, relocate};
pub use remove::foreign_objects;
pub use report::Lines;
pub use retention::Retention;
pub use stack::{StackError, StackEvent, StackRemoval, StackSettingsError};
pub use transfer::MoveError;
pub use verify::{Checked, Look, verify};

use crate::keys::{self, Key};
use crate::npm::Timestamp;
use crate::storage::{self, Listed, Store};

/// Objects or packages that are looked at at once.
const AT_ONCE: usize = 8;

/// How old something must be before it counts as left behind: longer than any publish takes.
pub const GRACE: Duration = Duration::from_hours(24);
/// The least that may be set on a bucket, where others may publish at the same moment: more than twice the time within
/// which a publish commits what it has written.
pub const LEAST_GRACE: Duration = Duration::from_hours(3);

/// Whether an object was written so long ago.
fn is_older(listed: &Listed, age: Duration, now: Timestamp) -> bool {
    is_past(listed.modified_seconds, age, now)
}

/// Whether an instant, in seconds since 1970, is so long ago.
fn is_past(seconds: i64, age: Duration, now: Timestamp) -> bool {
    let age = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
    seconds.saturating_add(age) < now.as_seconds()
}

/// What a list brings, as a stream.
fn listing<T: Send + 'static>(
    received: mpsc::Receiver<Result<T, storage::Error>>,
) -> impl Stream<Item = Result<T, storage::Error>> + Send {
    stream::unfold(received, |mut received| async move { received.recv().await.map(|found| (found, received)) })
}

/// Neighbours of a list that belong together. Stores list what lies in one folder in one go, so a group is a folder; where
/// one does not, the folder comes as several groups.
fn groups<G: PartialEq + Send + 'static>(
    received: mpsc::Receiver<Result<Listed, storage::Error>>,
    group_of: fn(&Key) -> Option<G>,
) -> impl Stream<Item = Result<(G, Vec<Listed>), storage::Error>> + Send {
    stream::try_unfold((received, None), move |(mut received, mut open): (_, Option<(G, Vec<Listed>)>)| async move {
        loop {
            let Some(found) = received.recv().await.transpose()? else {
                return Ok(open.map(|group| (group, (received, None))));
            };
            let Some(group) = group_of(&found.key) else { continue };
            match &mut open {
                Some((current, members)) if *current == group => members.push(found),
                _ => {
                    if let Some(done) = open.replace((group, vec![found])) {
                        return Ok(Some((done, (received, open))));
                    }
                }
            }
        }
    })
}

/// Notes that a document was changed without the search index, which the next start on the directory then compares with
/// all documents. Servers on a bucket do so by themselves.
async fn index_is_behind(store: &Store) -> Result<(), storage::Error> {
    if store.is_shared() {
        return Ok(());
    }
    match store.create(&keys::index_running(), Bytes::from_static(b"1")).await {
        Ok(()) | Err(storage::Error::Exists) => Ok(()),
        Err(error) => Err(error),
    }
}
