//! Hosted packages as a folder of documents and tarballs, which [`super::tarballs`] reads again.
//!
//! A package's document is written after its tarballs, and every file comes into place whole. Files are not synced: what a
//! power cut takes is written again by the next run.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::TryStreamExt as _;
use serde::Serialize;
use tokio::io::AsyncWriteExt as _;
use tokio::task::spawn_blocking;

use super::{Line, Progress};
use crate::keys::{self, Key};
use crate::npm::integrity::Hasher;
use crate::npm::packument::{ForeignDocument, ForeignVersion, HostedPackument};
use crate::npm::render::{self, Links};
use crate::npm::{Form, PackageName, Pattern};
use crate::storage::{self, Store};

/// What came of an export.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ExportReport {
    /// Packages that were written.
    pub packages: usize,
    /// Versions whose tarballs are there.
    pub versions: usize,
    /// What could not be written.
    pub problems: Vec<Line>,
}

/// Why an export stopped.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The store failed.
    #[error("the storage cannot be read")]
    Store(#[from] storage::Error),
    /// A file could not be written.
    #[error("`{}` cannot be written; what is there stays, run it again to go on", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A document, and where its versions' tarballs lie.
struct Ready {
    document: Bytes,
    tarballs: Vec<(ForeignVersion, Key)>,
}

/// Writes hosted packages into a folder: those that a pattern matches, or all where there is none.
///
/// # Errors
/// When the store cannot be read or the folder cannot be written.
pub async fn export(
    store: &Store,
    folder: &Path,
    patterns: &[Pattern],
    mut progress: impl FnMut(Progress<'_>),
) -> Result<ExportReport, ExportError> {
    let mut report = ExportReport::default();
    let names = names(store, patterns).await?;
    let of = names.len();
    for (done, name) in names.iter().enumerate() {
        package(store, folder, name, &mut report).await?;
        progress(Progress { done: done + 1, of, name });
    }
    Ok(report)
}

async fn names(store: &Store, patterns: &[Pattern]) -> Result<BTreeSet<PackageName>, storage::Error> {
    let mut listed = store.list_objects_after(&keys::last_reserved());
    let mut names = BTreeSet::new();
    while let Some(found) = listed.recv().await {
        let Some(name) = found?.key.packument_name() else { continue };
        if patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(&name)) {
            names.insert(name);
        }
    }
    Ok(names)
}

async fn package(
    store: &Store,
    folder: &Path,
    name: &PackageName,
    report: &mut ExportReport,
) -> Result<(), ExportError> {
    let stored = match store.read(&keys::packument(name)).await {
        Ok(stored) => stored,
        // Removed since it was listed.
        Err(storage::Error::NotFound) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let mut problem = |version: Option<String>, why: &str| {
        report.problems.push(Line { package: name.to_string(), version, why: why.to_owned() });
    };
    let of = name.clone();
    let Some(Ready { document, tarballs }) = spawn_blocking(move || ready(&of, &stored)).await.ok().flatten() else {
        problem(None, "its document is damaged");
        return Ok(());
    };
    let folder = folder.join(name.as_str());
    tokio::fs::create_dir_all(&folder).await.map_err(|source| ExportError::File { path: folder.clone(), source })?;
    let mut versions = 0;
    for (version, key) in tarballs {
        let number = version.version.to_string();
        let path = folder.join(format!("{}-{number}.tgz", name.basename()));
        match tarball(store, &key, &path, &version).await? {
            None => versions += 1,
            Some(why) => problem(Some(number), why),
        }
    }
    write(&folder.join("package.json"), &document).await?;
    report.packages += 1;
    report.versions += versions;
    Ok(())
}

/// The document as anybody would get it, with the names of the files beside it in its addresses.
fn ready(name: &PackageName, stored: &[u8]) -> Option<Ready> {
    let hosted = HostedPackument::parse(stored).ok()?;
    let document = render::hosted_packument(stored, Form::Full, Links { base: "", name }, None).ok()?;
    let document = Bytes::from(document);
    let versions = ForeignDocument::parse(name, &document).ok()?.versions;
    let key = |version: &ForeignVersion| {
        let number = version.version.to_string();
        match hosted.tarball_digest(&number) {
            Some(digest) => Some(keys::tarball(name, &version.version, digest)),
            None => keys::legacy_tarball(name, &number),
        }
    };
    let tarballs = versions.into_iter().filter_map(|version| key(&version).map(|key| (version, key))).collect();
    Some(Ready { document, tarballs })
}

/// Copies a tarball, unless it is there in its whole length. What is wrong with it, where something is.
async fn tarball(
    store: &Store,
    key: &Key,
    path: &Path,
    version: &ForeignVersion,
) -> Result<Option<&'static str>, ExportError> {
    let download = match store.open_object(key).await {
        Ok(download) => download,
        Err(storage::Error::NotFound) => return Ok(Some("its tarball is not there")),
        Err(error) => return Err(error.into()),
    };
    let failed = |source| ExportError::File { path: path.to_owned(), source };
    if tokio::fs::metadata(path).await.is_ok_and(|found| found.len() == download.size_bytes()) {
        return Ok(None);
    }
    let staged = path.with_extension("part");
    let mut file = tokio::fs::File::create(&staged).await.map_err(failed)?;
    let (mut hasher, mut bytes) = (Hasher::default(), Box::pin(download.stream_all()));
    while let Some(piece) = bytes.try_next().await? {
        hasher.update(&piece);
        file.write_all(&piece).await.map_err(failed)?;
    }
    file.flush().await.map_err(failed)?;
    drop(file);
    if !version.is(&hasher.finish()) {
        tokio::fs::remove_file(&staged).await.map_err(failed)?;
        return Ok(Some("its tarball is not what its document says"));
    }
    tokio::fs::rename(&staged, path).await.map_err(failed)?;
    Ok(None)
}

async fn write(path: &Path, bytes: &[u8]) -> Result<(), ExportError> {
    let failed = |source| ExportError::File { path: path.to_owned(), source };
    let staged = path.with_extension("part");
    tokio::fs::write(&staged, bytes).await.map_err(failed)?;
    tokio::fs::rename(&staged, path).await.map_err(failed)
}
