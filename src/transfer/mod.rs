//! Packages that come in from elsewhere, and go out to elsewhere.
//!
//! A package comes in as it is published: each tarball is read, measured, compared with what its document says and kept under
//! a key of its own, and one conditional write of the document is the commit. So everything can be cut off and repeated, may
//! run beside servers on a bucket, and never replaces what is here.

pub mod bundle;
pub mod export;
mod folder;
pub mod remote;
mod report;
pub mod tarballs;
pub mod verdaccio;

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::task::spawn_blocking;

pub use folder::Folder;
pub use report::{Line, Report};

use crate::clock::Clock;
use crate::keys;
use crate::npm::integrity::Hasher;
use crate::npm::packument::{
    Arrival, Arrivals, EditError, ForeignDocument, ForeignVersion, HostedPackument, Maintainer,
};
use crate::npm::tarball::{self, TarballError};
use crate::npm::{PackageName, Timestamp};
use crate::random;
use crate::storage::{self, Change, Durability, Existing, Store, UpdateError, Upload};

/// Packages that are looked at at once.
const PACKAGES_AT_ONCE: usize = 8;
/// Tarballs of one package that are read at once.
const TARBALLS_AT_ONCE: usize = 2;
/// Tarballs are handed to the disk in pieces of at least this size.
const STAGE_BYTES: usize = 256 * 1024;
/// The largest document that is read, as of an upstream.
const MAX_DOCUMENT_BYTES: u64 = 64 << 20;

/// Why something of a package cannot be had, for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Obstacle(pub String);

impl Obstacle {
    fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

/// A package as a place offers it.
#[derive(Debug, Default)]
pub struct Offer {
    /// Its document, with the versions that are to come in.
    pub document: ForeignDocument,
    /// Who is to own it here, if nobody does.
    pub owners: Vec<Maintainer>,
    /// What of it stays there, by number.
    pub left_out: Vec<(String, &'static str)>,
}

/// The bytes of a tarball. Ends after an error.
pub type TarballStream = BoxStream<'static, Result<Bytes, Obstacle>>;

/// A tarball that is there.
pub struct Tarball {
    /// Its bytes.
    pub bytes: TarballStream,
    /// When it was written, where that tells when a version was published whose document does not say.
    pub written: Option<Timestamp>,
}

/// A place that packages come from.
pub trait Origin: Sync {
    /// Whether its tarballs are on this machine, so that a dry run can read them.
    const IS_NEAR: bool;

    /// A package. `None` for a copy of another registry's.
    fn package(&self, name: &PackageName) -> impl Future<Output = Result<Option<Offer>, Obstacle>> + Send;

    /// A version's tarball.
    fn tarball(
        &self,
        name: &PackageName,
        version: &ForeignVersion,
    ) -> impl Future<Output = Result<Tarball, Obstacle>> + Send;
}

/// Where packages go to, and what is wanted of it.
#[derive(Debug, Clone)]
pub struct Destination {
    /// Where they are kept.
    pub store: Store,
    /// The time.
    pub clock: Clock,
    /// What today's rules let a tarball unpack to.
    pub limits: tarball::Limits,
    /// The largest tarball that is taken, in bytes.
    pub max_tarball_bytes: u64,
    /// Only looks.
    pub dry_run: bool,
}

/// How far it has got.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// Packages that are done.
    pub done: usize,
    /// Packages there are.
    pub of: usize,
    /// The one that was done last.
    pub name: &'a PackageName,
}

/// Brings packages in, some at once. What cannot come in is reported and keeps nothing else out.
///
/// # Errors
/// The store's failure. What was done until then stays done, and is passed over by the next try.
pub async fn bring_in<O: Origin>(
    to: &Destination,
    origin: &O,
    names: Vec<PackageName>,
    mut progress: impl FnMut(Progress<'_>),
) -> Result<Report, storage::Error> {
    let mut report = Report { dry_run: to.dry_run, ..Report::default() };
    let of = names.len();
    if of > 0 && !to.dry_run && !to.store.is_shared() {
        // The next server on this directory compares its search index with the packages.
        match to.store.create(&keys::index_running(), Bytes::from_static(b"1")).await {
            Ok(()) | Err(storage::Error::Exists) => {}
            Err(error) => return Err(error),
        }
    }
    let packages = names.into_iter().map(|name| async move {
        let came = Coming { to, origin, name: &name }.package().await;
        (name, came)
    });
    let mut packages = stream::iter(packages).buffer_unordered(PACKAGES_AT_ONCE);
    let mut done = 0;
    while let Some((name, came)) = packages.next().await {
        report.add(&name, came?);
        done += 1;
        progress(Progress { done, of, name: &name });
    }
    report.sort();
    Ok(report)
}

/// What came of a package.
#[derive(Debug, Default)]
struct Came {
    /// A copy of another registry's.
    is_copy: bool,
    /// How many versions came in.
    versions: usize,
    /// The document was written, or would be.
    is_changed: bool,
    /// What could not come in, and what is worth a look: version and reason.
    problems: Vec<(Option<String>, String)>,
    notes: Vec<(Option<String>, String)>,
}

impl Came {
    fn refused(why: impl Into<String>) -> Self {
        Self { problems: vec![(None, why.into())], ..Self::default() }
    }
}

/// What came of a version.
#[derive(Debug, Default)]
struct VersionCame {
    arrival: Option<Arrival>,
    problem: Option<String>,
    note: Option<String>,
}

/// One package on its way.
struct Coming<'a, O> {
    to: &'a Destination,
    origin: &'a O,
    name: &'a PackageName,
}

impl<O: Origin> Coming<'_, O> {
    async fn package(&self) -> Result<Came, storage::Error> {
        let offer = match self.origin.package(self.name).await {
            Ok(Some(offer)) => offer,
            Ok(None) => return Ok(Came { is_copy: true, ..Came::default() }),
            Err(Obstacle(why)) => return Ok(Came::refused(why)),
        };
        let stored = match self.to.store.read(&keys::packument(self.name)).await {
            Ok(stored) => Some(stored),
            Err(storage::Error::NotFound) => None,
            Err(error) => return Err(error),
        };
        let Offer { mut document, owners, left_out } = offer;
        let versions = std::mem::take(&mut document.versions);
        let sorted = spawn_blocking(move || sort(versions, stored.as_deref())).await;
        let Ok(Ok(Sorted { new, others, removed })) = sorted else {
            return Ok(Came::refused(
                "what is here under this name cannot be added to: it is damaged, or `holdfast import codebox` has to take it over first",
            ));
        };
        let mut came = Came { notes: told(left_out), problems: told(others), ..Came::default() };
        came.notes.extend(told(removed));
        came.problems.extend(told(document.odd_numbers.iter().map(|number| (number.clone(), "is no version"))));
        let arrivals = self.versions(new, &document, &mut came).await?;
        let ForeignDocument { dist_tags, created, modified, readme, removed, .. } = document;
        self.commit(Arrivals { versions: arrivals, dist_tags, created, modified, readme, removed, owners }, &mut came)
            .await?;
        Ok(came)
    }

    async fn versions(
        &self,
        versions: Vec<ForeignVersion>,
        document: &ForeignDocument,
        came: &mut Came,
    ) -> Result<Vec<Arrival>, storage::Error> {
        // Without a time of its own a version is as old as the last change, never older: a date that is too late lets
        // nothing pass for old.
        let otherwise = document.modified.unwrap_or_else(|| self.to.clock.now());
        let tarballs = versions.into_iter().map(|version| async move {
            let number = version.version.to_string();
            self.version(version, otherwise).await.map(|came| (number, came))
        });
        let mut arrivals = Vec::new();
        let mut tarballs = stream::iter(tarballs).buffered(TARBALLS_AT_ONCE);
        while let Some(done) = tarballs.next().await {
            let (number, VersionCame { arrival, problem, note }) = done?;
            arrivals.extend(arrival);
            came.problems.extend(problem.map(|why| (Some(number.clone()), why)));
            came.notes.extend(note.map(|why| (Some(number), why)));
        }
        arrivals.sort_by_key(|arrival| arrival.published);
        Ok(arrivals)
    }

    async fn version(&self, version: ForeignVersion, otherwise: Timestamp) -> Result<VersionCame, storage::Error> {
        if self.to.dry_run && !O::IS_NEAR {
            let (nothing, published) = (Hasher::default().finish(), version.published.unwrap_or(otherwise));
            let arrival = version.into_arrival(self.name, &nothing, None, published);
            return Ok(VersionCame { arrival: arrival.ok(), ..VersionCame::default() });
        }
        let refused = |why: String| Ok(VersionCame { problem: Some(why), ..VersionCame::default() });
        let Tarball { mut bytes, written } = match self.origin.tarball(self.name, &version).await {
            Ok(tarball) => tarball,
            Err(Obstacle(why)) => return refused(why),
        };
        let published = version.published.or(written).unwrap_or(otherwise);
        let (mut upload, digests) = match self.stage(&mut bytes).await? {
            Ok(staged) => staged,
            Err(Obstacle(why)) => return refused(why),
        };
        if !version.is(&digests) {
            return refused("its tarball is not what its document says".to_owned());
        }
        let limits = self.to.limits;
        let inspected =
            upload.inspect(move |reader| tarball::inspect(std::io::BufReader::new(reader), &limits)).await?;
        let (inspection, mut note) = match inspected {
            Ok(inspection) => {
                let field = version.disagreement(&inspection);
                let note = field.map(|field| format!("the `package.json` in its tarball has another `{field}`"));
                (Some(inspection), note)
            }
            Err(TarballError::Read(error)) => return Err(error.into()),
            // It was served where it comes from, and what is said of its bytes is so.
            Err(error) if version.is_vouched_for(&digests) => {
                (None, Some(format!("could not be published today: {error}")))
            }
            Err(error) => return refused(error.to_string()),
        };
        if !version.is_vouched_for(&digests) {
            note.get_or_insert_with(|| {
                "nothing is said of its tarball's bytes, which were taken as they are".to_owned()
            });
        }
        let number = version.version.clone();
        let arrival = version.into_arrival(self.name, &digests, inspection.as_ref(), published);
        let Ok(arrival) = arrival else { return refused("its part of the document cannot be read".to_owned()) };
        if !self.to.dry_run {
            let key = keys::tarball(self.name, &number, &arrival.tarball_digest);
            match upload.keep(&key, Existing::Refuse, Durability::Synced).await {
                // The digest is in the key: an earlier try has left these very bytes.
                Ok(()) | Err(storage::Error::Exists) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(VersionCame { arrival: Some(arrival), problem: None, note })
    }

    /// Writes a tarball to where it has no key yet, and measures it.
    async fn stage(
        &self,
        bytes: &mut TarballStream,
    ) -> Result<Result<(Upload, crate::npm::Digests), Obstacle>, storage::Error> {
        let mut upload = self.to.store.upload().await?;
        let (mut hasher, mut length, mut pending) = (Hasher::default(), 0, Vec::new());
        loop {
            let piece = match bytes.try_next().await {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                Err(obstacle) => return Ok(Err(obstacle)),
            };
            length += piece.len() as u64;
            if length > self.to.max_tarball_bytes {
                return Ok(Err(Obstacle::new("its tarball is larger than `limits.tarball_bytes` lets it be")));
            }
            hasher.update(&piece);
            pending.extend_from_slice(&piece);
            if pending.len() >= STAGE_BYTES {
                upload.write(std::mem::take(&mut pending).into()).await?;
            }
        }
        upload.write(pending.into()).await?;
        Ok(Ok((upload, hasher.finish())))
    }

    /// The one write that makes all of it visible.
    async fn commit(&self, arrivals: Arrivals, came: &mut Came) -> Result<(), storage::Error> {
        let (name, now) = (self.name.clone(), self.to.clock.now());
        let arrivals = Arc::new(arrivals);
        let change = move |stored: Option<Bytes>| {
            let mut document = match stored.as_deref() {
                Some(stored) => HostedPackument::parse(stored)?,
                None => HostedPackument::new(&name, now),
            };
            let Some(versions) = document.bring_in(&arrivals)? else { return Ok(Change::Keep(None)) };
            let modified = if stored.is_none() { arrivals.modified.unwrap_or(now) } else { now };
            Ok::<_, EditError>(Change::Write(document.into_stored(&random::id(), modified)?.into(), Some(versions)))
        };
        let key = keys::packument(self.name);
        let written = if self.to.dry_run {
            let stored = match self.to.store.read(&key).await {
                Ok(stored) => Some(stored),
                Err(storage::Error::NotFound) => None,
                Err(error) => return Err(error),
            };
            change(stored).map_err(UpdateError::Refused).map(|change| match change {
                Change::Keep(versions) | Change::Write(_, versions) => versions,
            })
        } else {
            self.to.store.update(&key, change).await
        };
        match written {
            Ok(versions) => {
                came.is_changed = versions.is_some();
                came.versions = versions.unwrap_or_default();
                Ok(())
            }
            Err(UpdateError::Store(error)) => Err(error),
            Err(UpdateError::Refused(error)) => {
                came.problems.push((None, error.to_string()));
                Ok(())
            }
        }
    }
}

/// Reads a document off the async threads: it may be large.
async fn parsed(name: &PackageName, bytes: Bytes) -> Result<ForeignDocument, Obstacle> {
    let name = name.clone();
    let parsed = spawn_blocking(move || ForeignDocument::parse(&name, &bytes)).await;
    parsed.ok().and_then(Result::ok).ok_or_else(|| Obstacle::new("its document is damaged"))
}

fn told(lines: impl IntoIterator<Item = (String, &'static str)>) -> Vec<(Option<String>, String)> {
    lines.into_iter().map(|(number, why)| (Some(number), why.to_owned())).collect()
}

/// The versions that are to come in, and those that are not.
struct Sorted {
    new: Vec<ForeignVersion>,
    /// They are here with other bytes.
    others: Vec<(String, &'static str)>,
    removed: Vec<(String, &'static str)>,
}

fn sort(versions: Vec<ForeignVersion>, stored: Option<&[u8]>) -> Result<Sorted, EditError> {
    let Some(stored) = stored else {
        return Ok(Sorted { new: versions, others: Vec::new(), removed: Vec::new() });
    };
    let document = HostedPackument::parse(stored)?;
    if document.is_older() {
        return Err(EditError::Damaged);
    }
    let (mut new, mut others, mut removed) = (Vec::new(), Vec::new(), Vec::new());
    for version in versions {
        let number = version.version.to_string();
        match document.version(&number) {
            Some(ours) if version.is_same_as(ours) == Some(false) => {
                others.push((number, "is here with other bytes, which stay"));
            }
            Some(_) => {}
            None if document.was_published(&number) => {
                removed.push((number, "was here and was removed: its number is used up"));
            }
            None => new.push(version),
        }
    }
    Ok(Sorted { new, others, removed })
}
