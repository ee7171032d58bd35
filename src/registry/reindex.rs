//! `holdfast index`: every hosted package once more, for the search index and for sinks that are to know all.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::task::spawn_blocking;

use super::Error;
use super::search::entry_of;
use crate::events::{Event, Kind, Who};
use crate::keys;
use crate::npm::packument::HostedPackument;
use crate::npm::{PackageName, Timestamp};
use crate::search::SearchIndex;
use crate::storage::{self, Store};

/// Packages that are handed on at once.
const PAGE: usize = 50;
/// Names of what cannot be read that a report has at most.
const MAX_LISTED: usize = 100;
/// As large as a document that is served.
const MAX_DOCUMENT_BYTES: u64 = 64 << 20;
/// What an event tells of the latest version.
const TOLD: [&str; 8] =
    ["description", "keywords", "license", "contributors", "dependencies", "homepage", "repository", "deprecated"];

/// What is to be done.
#[derive(Debug, Clone, Default)]
pub struct ReindexWish {
    /// Only looks.
    pub dry_run: bool,
    /// Makes the search index anew. Not with `after`, and not on a bucket, where each server has an index of its own.
    pub search: bool,
    /// Only packages whose names sort after this one.
    pub after: Option<PackageName>,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Reindexed {
    /// Packages that were looked at.
    pub packages: u64,
    /// Packages that have no version to show.
    pub without_version: u64,
    /// Packages whose document cannot be read.
    pub unreadable: u64,
    /// Their names, as many as a person reads.
    pub unreadable_names: Vec<String>,
    /// The last one that was told: where to go on after a stop.
    pub last: Option<String>,
}

/// Goes through all hosted packages in the order of their names. `told` gets an event for each that has a version, some at a
/// time, and says whether to go on. One document at a time is in memory, and the names.
///
/// Cut off, it can be done again. The search index counts as incomplete until it is done, which the next start of a server then
/// mends.
///
/// # Errors
/// The store's failure, or the index's.
pub async fn reindex(
    store: &Store,
    wish: &ReindexWish,
    now: Timestamp,
    mut told: impl AsyncFnMut(&[Event]) -> bool,
    mut progress: impl FnMut(u64, u64, &str),
) -> Result<Reindexed, Error> {
    let names = names(store, wish.after.as_ref()).await?;
    let index = if wish.search && !wish.dry_run { Some(begin(store).await?) } else { None };
    let (mut report, mut page) = (Reindexed::default(), Vec::new());
    for name in &names {
        progress(report.packages, names.len() as u64, name);
        report.packages += 1;
        look(store, index.as_ref(), name, now, &mut report, &mut page).await?;
        if page.len() >= PAGE {
            if !told(&page).await {
                return Ok(report);
            }
            page.clear();
            report.last = Some(name.to_string());
        }
        if let Some(index) = index.as_ref().filter(|index| index.is_full()) {
            commit(index).await?;
        }
    }
    if page.is_empty() || told(&page).await {
        report.last = names.last().map(ToString::to_string);
    }
    if let Some(index) = index {
        commit(&index).await?;
        store.delete(&keys::index_running()).await?;
    }
    Ok(report)
}

/// The names of all hosted packages that sort after one, in order.
async fn names(store: &Store, after: Option<&PackageName>) -> Result<Vec<Box<str>>, Error> {
    let (mut names, mut keys) = (Vec::new(), store.list_outside(&keys::reserved()));
    while let Some(key) = keys.recv().await {
        if let Some(name) =
            key?.packument_name().filter(|name| after.is_none_or(|after| name.as_str() > after.as_str()))
        {
            names.push(Box::from(name.as_str()));
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// An empty index, marked as one that may lack something.
async fn begin(store: &Store) -> Result<Arc<SearchIndex>, Error> {
    match store.create(&keys::index_running(), Bytes::from_static(b"1")).await {
        Ok(()) | Err(storage::Error::Exists) => {}
        Err(error) => return Err(error.into()),
    }
    let place = store.derived_path("search");
    let index = spawn_blocking(move || SearchIndex::create(&place)).await.map_err(|_| Error::Interrupted)??;
    Ok(Arc::new(index))
}

async fn commit(index: &Arc<SearchIndex>) -> Result<(), Error> {
    let index = Arc::clone(index);
    Ok(spawn_blocking(move || index.commit()).await.map_err(|_| Error::Interrupted)??)
}

async fn look(
    store: &Store,
    index: Option<&Arc<SearchIndex>>,
    name: &str,
    now: Timestamp,
    report: &mut Reindexed,
    page: &mut Vec<Event>,
) -> Result<(), Error> {
    let Ok(name) = name.parse::<PackageName>() else { return Ok(()) };
    let stored = match store.snapshot_unless(&keys::packument(&name), None, MAX_DOCUMENT_BYTES).await {
        Ok(Some(snapshot)) => snapshot.bytes,
        // It was removed since it was listed.
        Ok(None) | Err(storage::Error::NotFound) => return Ok(()),
        Err(storage::Error::TooLarge) => {
            unreadable(&name, report);
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    let Ok(document) = HostedPackument::parse(&stored) else {
        unreadable(&name, report);
        return Ok(());
    };
    let Some(event) = event(&name, &document, now) else {
        report.without_version += 1;
        return Ok(());
    };
    page.push(event);
    if let Some((index, entry)) = index.zip(entry_of(&name, &stored)) {
        index.put(&entry);
    }
    Ok(())
}

fn unreadable(name: &PackageName, report: &mut Reindexed) {
    report.unreadable += 1;
    if report.unreadable_names.len() < MAX_LISTED {
        report.unreadable_names.push(name.to_string());
    }
}

/// What there is of a package: its latest version. `None` for one that has no version.
fn event(name: &PackageName, document: &HostedPackument<'_>, now: Timestamp) -> Option<Event> {
    let number = document.shown_version()?;
    let manifest: Map<String, Value> = serde_json::from_str(document.version(&number)?.get()).ok()?;
    let event = Event::new(Kind::Index, Who::operator(None), now).of(name).version(&number);
    let event = event.with("dist-tags", document.dist_tags());
    let known = TOLD.into_iter().filter_map(|key| Some((key, manifest.get(key)?)));
    Some(known.fold(event, |event, (key, value)| event.with(key, value)))
}
