//! Taking over what an older system (codebox-npm) left in the store: looking for the tarballs of a document, saving bytes
//! that only the document has, and, for an operator, doing so for every package there is.
//!
//! Nothing is lost: bytes are under a key of their own before a document that held them is written without them, a document
//! that cannot be read is left alone, and one that is dropped is first set aside.

mod import;
mod report;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::task::spawn_blocking;

pub use import::{Copies, Progress, Wish, import};
pub use report::{CopyLine, Report, Unreadable, VersionLine};

use crate::keys::{self, Key};
use crate::npm::integrity::Hasher;
use crate::npm::packument::{Attachment, Findings, FoundTarball, Plan, PlannedVersion};
use crate::npm::{Digests, PackageName, Timestamp};
use crate::storage::{self, Download, Store};

/// Tarballs of one package that are looked at at once.
const AT_ONCE: usize = 8;

/// How a package's tarballs are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Reads every byte and compares it with what the document says.
    pub measures: bool,
    /// Writes the tarballs that only the document has. Without it, what would be written counts as written.
    pub writes: bool,
}

/// What was found of a package.
#[derive(Debug, Default)]
pub struct Examined {
    /// For the document.
    pub findings: Findings,
    /// Numbers of versions that have no tarball anywhere.
    pub missing: Vec<String>,
    /// Numbers of versions whose tarball is not what the document says.
    pub wrong: Vec<String>,
    /// Numbers of versions whose tarball only the document had, or had right.
    pub saved: Vec<String>,
    /// Tarballs that the document does not name.
    pub unnamed: Vec<Key>,
}

/// Looks for all that a document can be taken over with.
///
/// # Errors
/// The store's failure; what was saved until then is saved.
pub async fn examine(store: &Store, name: &PackageName, plan: Plan, look: Look) -> Result<Examined, storage::Error> {
    let files = files(store, name).await?;
    if plan.is_foreign && files.is_empty() {
        // A copy of another registry's document, whose tarballs are there.
        let findings = Findings { revision: plan.revision, is_checked: true, ..Findings::default() };
        return Ok(Examined { findings, ..Examined::default() });
    }
    let Plan { revision, versions, attachments, .. } = plan;
    let planned: BTreeMap<String, PlannedVersion> =
        versions.into_iter().map(|version| (version.number.clone(), version)).collect();
    let mut found = tarballs(store, &files, &planned, look.measures).await?;
    let (mut settled, mut saved) = (BTreeSet::new(), Vec::new());
    for attachment in attachments {
        let key = attachment.key.clone();
        if attachment.is_stub() {
            settled.insert(key);
            continue;
        }
        let Some(inside) = Inside::of(name, attachment).await else { continue };
        let (file, version) = (files.get(&inside.number), planned.get(&inside.number));
        match inside.settle(store, name, file, version, look).await? {
            Settled::Kept => {}
            Settled::SameAsFile => {
                settled.insert(key);
            }
            Settled::Saved(tarball) => {
                settled.insert(key);
                saved.push(inside.number.clone());
                found.insert(inside.number, tarball);
            }
        }
    }
    let (mut missing, mut wrong) = (Vec::new(), Vec::new());
    for (number, version) in &planned {
        match found.get_mut(number) {
            None => missing.push(number.clone()),
            Some(tarball) => {
                if tarball.measured.take_if(|measured| !version.is(measured)).is_some() {
                    wrong.push(number.clone());
                }
            }
        }
    }
    let is_checked = look.measures && missing.is_empty() && wrong.is_empty();
    let unnamed = files.into_iter().filter(|(number, _)| !planned.contains_key(number)).map(|(_, key)| key).collect();
    let findings = Findings { revision, tarballs: found, settled, is_checked };
    Ok(Examined { findings, missing, wrong, saved, unnamed })
}

/// Looks at the files of the planned versions, some at once.
async fn tarballs(
    store: &Store,
    files: &BTreeMap<String, Key>,
    planned: &BTreeMap<String, PlannedVersion>,
    measures: bool,
) -> Result<BTreeMap<String, FoundTarball>, storage::Error> {
    let named: Vec<(String, Key)> = files
        .iter()
        .filter(|(number, _)| planned.contains_key(*number))
        .map(|(number, key)| (number.clone(), key.clone()))
        .collect();
    let looks = named
        .into_iter()
        .map(|(number, key)| async move { tarball(store, &key, measures).await.map(|tarball| (number, tarball)) });
    stream::iter(looks).buffer_unordered(AT_ONCE).try_collect().await
}

/// The tarballs in a package's folder, by number.
async fn files(store: &Store, name: &PackageName) -> Result<BTreeMap<String, Key>, storage::Error> {
    let mut tarballs = BTreeMap::new();
    let mut keys = store.list_folder(&keys::package(name));
    while let Some(key) = keys.recv().await {
        let key = key?;
        if let Some((owner, number)) = key.legacy_tarball_parts()
            && owner == *name
        {
            tarballs.insert(number.to_owned(), key);
        }
    }
    Ok(tarballs)
}

/// What a file says of itself, and, where it is read, of its bytes.
async fn tarball(store: &Store, key: &Key, measures: bool) -> Result<FoundTarball, storage::Error> {
    let download = store.open_object(key).await?;
    let written = Some(Timestamp::from_millis(download.modified_seconds().saturating_mul(1000)));
    if !measures {
        return Ok(FoundTarball { written, ..FoundTarball::default() });
    }
    Ok(FoundTarball { written, digest: None, measured: Some(digests_of(download).await?) })
}

/// Reads an object to its end and measures it.
///
/// # Errors
/// The store's failure.
pub async fn digests_of(download: Download) -> Result<Digests, storage::Error> {
    let mut hasher = Hasher::default();
    let mut bytes = Box::pin(download.stream_all());
    while let Some(piece) = bytes.try_next().await? {
        hasher.update(&piece);
    }
    Ok(hasher.finish())
}

fn measure(bytes: &[u8]) -> Digests {
    let mut hasher = Hasher::default();
    hasher.update(bytes);
    hasher.finish()
}

/// A tarball that was inside a document.
struct Inside {
    number: String,
    digests: Digests,
    bytes: Bytes,
}

/// What became of it.
enum Settled {
    /// It stays in the document.
    Kept,
    /// The file has the same bytes.
    SameAsFile,
    /// It is in the store now.
    Saved(FoundTarball),
}

impl Inside {
    /// `None` for what is no tarball of the package, or no base64.
    async fn of(name: &PackageName, attachment: Attachment) -> Option<Self> {
        let number = attachment.number(name)?.to_owned();
        let decode = move || attachment.decoded().map(|bytes| (measure(&bytes), Bytes::from(bytes)));
        let (digests, bytes) = spawn_blocking(decode).await.ok()??;
        Some(Self { number, digests, bytes })
    }

    /// Sees to it that the bytes are in the store. Where there is another file, it is the file that was served; of two
    /// that differ, which two publishes at the same moment left, the one that the document describes is right.
    async fn settle(
        &self,
        store: &Store,
        name: &PackageName,
        file: Option<&Key>,
        version: Option<&PlannedVersion>,
        look: Look,
    ) -> Result<Settled, storage::Error> {
        let saved =
            |digest| Settled::Saved(FoundTarball { written: None, digest, measured: Some(self.digests.clone()) });
        let Some(file) = file else {
            let Some(key) = keys::legacy_tarball(name, &self.number) else { return Ok(Settled::Kept) };
            self.save(store, &key, look).await?;
            return Ok(saved(None));
        };
        let stored = tarball(store, file, true).await?;
        if stored.measured.as_ref() == Some(&self.digests) {
            return Ok(Settled::SameAsFile);
        }
        let Some(version) = version else { return Ok(Settled::Kept) };
        let is_file_wrong = stored.measured.is_some_and(|measured| !version.is(&measured));
        match self.number.parse() {
            Ok(number) if is_file_wrong && version.is(&self.digests) => {
                let digest = self.digests.short();
                self.save(store, &keys::tarball(name, &number, &digest), look).await?;
                Ok(saved(Some(digest)))
            }
            _ => Ok(Settled::Kept),
        }
    }

    async fn save(&self, store: &Store, key: &Key, look: Look) -> Result<(), storage::Error> {
        if !look.writes {
            return Ok(());
        }
        match store.create(key, self.bytes.clone()).await {
            Err(storage::Error::Exists) | Ok(()) => Ok(()),
            other => other,
        }
    }
}
