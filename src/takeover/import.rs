//! `holdfast import codebox`: one package after the other.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::report::{CopyLine, Report, Unreadable, VersionLine};
use super::{Examined, Look, examine};
use crate::clock::Clock;
use crate::keys::{self, Key};
use crate::npm::PackageName;
use crate::npm::packument::{EditError, Findings, HostedPackument, Plan};
use crate::random;
use crate::storage::{self, Change, Durability, Store, UpdateError};

/// How often a document that others change meanwhile is looked at anew.
const TRIES: usize = 5;

/// What becomes of copies of public packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copies {
    /// They stay what is served under their name.
    Keep,
    /// They are set aside, and their names are the upstream's again.
    Drop,
}

/// What an operator wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// Only looks.
    pub dry_run: bool,
    /// Copies of public packages.
    pub copies: Copies,
}

/// How far it has got.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// Packages that are done.
    pub done: usize,
    /// Packages there are.
    pub of: usize,
    /// The next one.
    pub name: &'a PackageName,
}

/// What is to be said of one package.
enum Outcome {
    Already(Examined),
    Upgraded(Examined),
    Copy { dropped: bool },
    Unreadable(&'static str),
}

/// Takes over every package in the store. Can be cut off at any point and repeated, and may run beside servers on the same
/// store: each document is written only if it is still the one that was looked at. One document at a time is in memory.
///
/// # Errors
/// The store's failure. What was done until then stays done.
pub async fn import(
    store: &Store,
    clock: &Clock,
    wish: Wish,
    mut progress: impl FnMut(Progress<'_>),
) -> Result<Report, storage::Error> {
    let mut report = Report { dry_run: wish.dry_run, ..Report::default() };
    let names = names(store, &mut report).await?;
    for (done, name) in names.iter().enumerate() {
        progress(Progress { done, of: names.len(), name });
        match package(store, clock, wish, name).await? {
            Outcome::Already(examined) => {
                report.already += 1;
                note(&mut report, name, examined);
            }
            Outcome::Copy { dropped } => report.copies.push(CopyLine { name: name.to_string(), dropped }),
            Outcome::Unreadable(why) => {
                report.unreadable.push(Unreadable { key: keys::packument(name).to_string(), why });
            }
            Outcome::Upgraded(examined) => {
                report.upgraded.push(name.to_string());
                note(&mut report, name, examined);
            }
        }
    }
    Ok(report)
}

fn note(report: &mut Report, name: &PackageName, examined: Examined) {
    let lines =
        |numbers: Vec<String>| numbers.into_iter().map(|version| VersionLine { name: name.to_string(), version });
    report.missing_tarballs.extend(lines(examined.missing));
    report.wrong_tarballs.extend(lines(examined.wrong));
    report.saved_tarballs.extend(lines(examined.saved));
    report.foreign.extend(examined.unnamed.iter().map(ToString::to_string));
}

/// The names of all packages in order, and in the report what belongs to none.
async fn names(store: &Store, report: &mut Report) -> Result<BTreeSet<PackageName>, storage::Error> {
    let (mut names, mut with_tarballs) = (BTreeSet::new(), BTreeSet::new());
    let mut keys = store.list();
    while let Some(key) = keys.recv().await {
        let key = key?;
        if key.is_ours() {
            continue;
        }
        if let Some(name) = key.packument_name() {
            names.insert(name);
        } else if let Some((name, _)) = key.legacy_tarball_parts() {
            with_tarballs.insert(name);
        } else if key.as_str().ends_with("/index.json") {
            report.unreadable.push(Unreadable { key: key.to_string(), why: "its name is not a package's name" });
        } else {
            report.foreign.push(key.to_string());
        }
    }
    report.foreign.extend(with_tarballs.difference(&names).map(|name| format!("{}/*.tgz", keys::package(name))));
    Ok(names)
}

async fn package(store: &Store, clock: &Clock, wish: Wish, name: &PackageName) -> Result<Outcome, storage::Error> {
    let key = keys::packument(name);
    for _ in 0..TRIES {
        let stored = match store.read(&key).await {
            Ok(stored) => stored,
            // It was removed since it was listed.
            Err(storage::Error::NotFound) => return Ok(Outcome::Already(Examined::default())),
            Err(error) => return Err(error),
        };
        let plan = match Plan::of(&stored) {
            Ok(Some(plan)) => plan,
            Ok(None) => return already(store, wish, name, stored).await,
            Err(_) => return Ok(Outcome::Unreadable("it is not a package's document")),
        };
        let is_foreign = plan.is_foreign;
        let mut examined = examine(store, name, plan, Look { measures: true, writes: !wish.dry_run }).await?;
        if is_foreign && examined.findings.tarballs.is_empty() && wish.copies == Copies::Drop {
            return drop_copy(store, wish, name, stored).await;
        }
        let findings = std::mem::take(&mut examined.findings);
        let is_copy = is_foreign && findings.tarballs.is_empty();
        let changed = if wish.dry_run {
            HostedPackument::parse(&stored).and_then(|mut document| document.take_over(&findings, clock.now())).ok()
        } else {
            drop(stored);
            write(store, clock, &key, findings).await?
        };
        match changed {
            Some(_) if is_copy => return Ok(Outcome::Copy { dropped: false }),
            Some(true) => return Ok(Outcome::Upgraded(examined)),
            Some(false) => return Ok(Outcome::Already(examined)),
            None => {}
        }
    }
    Ok(Outcome::Unreadable("somebody changes it all the time: try again when the older system is stopped"))
}

/// A document that is ours already; a copy among them may still be dropped.
async fn already(store: &Store, wish: Wish, name: &PackageName, stored: Bytes) -> Result<Outcome, storage::Error> {
    let is_copy = HostedPackument::parse(&stored).is_ok_and(|document| document.head().is_copy);
    match (is_copy, wish.copies) {
        (false, _) => Ok(Outcome::Already(Examined::default())),
        (true, Copies::Keep) => Ok(Outcome::Copy { dropped: false }),
        (true, Copies::Drop) => drop_copy(store, wish, name, stored).await,
    }
}

/// Writes the document as ours, if that changes it; says whether it did. `None` when it is no longer the one that was
/// looked at.
async fn write(store: &Store, clock: &Clock, key: &Key, findings: Findings) -> Result<Option<bool>, storage::Error> {
    let now = clock.now();
    let written = store.update(key, move |stored| {
        // Removed meanwhile: there is nothing to take over.
        let Some(stored) = stored else { return Ok(Change::Keep(false)) };
        let mut document = HostedPackument::parse(&stored)?;
        if !document.take_over(&findings, now)? {
            return Ok(Change::Keep(false));
        }
        Ok::<_, EditError>(Change::Write(document.into_stored(&random::id(), now)?.into(), true))
    });
    match written.await {
        Ok(changed) => Ok(Some(changed)),
        Err(UpdateError::Refused(_)) => Ok(None),
        Err(UpdateError::Store(error)) => Err(error),
    }
}

/// Sets a copy aside and takes it away.
async fn drop_copy(store: &Store, wish: Wish, name: &PackageName, stored: Bytes) -> Result<Outcome, storage::Error> {
    if !wish.dry_run {
        store.put(&keys::set_aside(name), stored, Durability::Synced).await?;
        match store.delete(&keys::packument(name)).await {
            Ok(()) | Err(storage::Error::NotFound) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Outcome::Copy { dropped: true })
}
