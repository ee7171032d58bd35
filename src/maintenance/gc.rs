//! `holdfast gc`: what nobody needs any more.
//!
//! A tarball that no document names is removed when it is older than the grace time, and the document was read after the
//! tarball was found. No publish can lose to that: it names only a tarball that it has written itself within the hour, see
//! `registry/publish.rs`. A version that a retention rule gives up leaves the document first, by the same change as
//! `npm unpublish`, so its number stays used up; its bytes follow.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};

use super::hosted::{self, Document};
use super::retention::Retention;
use super::{AT_ONCE, LEAST_GRACE, downloads, groups, index_is_behind, is_older, is_past};
use crate::auth::has_ended;
use crate::clock::Clock;
use crate::keys::{self, Key, Kind};
use crate::npm::packument::{EditError, HostedPackument};
use crate::npm::{PackageName, Timestamp, Version};
use crate::random;
use crate::storage::{self, Change, Listed, Store, UpdateError};

/// How old something on its way must be: an upload can be committed for six hours, an answer be fetched for one.
const LEFT_AFTER: Duration = Duration::from_hours(24);
/// Seconds of a day, by which the sizes of cached objects are added up.
const DAY_SECONDS: i64 = 86_400;

/// What is to go.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Only tells what would go.
    pub dry_run: bool,
    /// How old something that nothing names must be.
    pub grace: Duration,
    /// What stays of the cache of upstreams.
    pub cache: CacheLimits,
    /// Documents that were set aside go too.
    pub set_aside: bool,
    /// Rules about prereleases.
    pub retention: Vec<Retention>,
}

/// What stays of the cache of upstreams; all of it, where nothing is set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheLimits {
    /// What was brought in longer ago goes.
    pub older_than: Option<Duration>,
    /// What was neither read nor written for so long goes. For a directory.
    pub unused_for: Option<Duration>,
    /// What goes beyond so many bytes, the least recently used first; in a bucket the least recently written.
    pub max_bytes: Option<u64>,
}

/// Why something goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A tarball that no document names.
    OrphanTarball,
    /// A provenance bundle that no document names.
    OrphanAttestations,
    /// A version that a retention rule gives up.
    OutdatedVersion,
    /// A cached object that is too old.
    CacheAge,
    /// A cached object beyond the size.
    CacheSize,
    /// An upload, or an answer handed over.
    LeftUpload,
    /// A sign-in, a code or an invitation that has ended.
    EndedLogin,
    /// What the trial of conditional writes left.
    LeftTrial,
    /// An index of advisories that is not in force.
    OldAdvisories,
    /// A document that was set aside.
    SetAside,
    /// Counted downloads that are in the sum of their day.
    AddedUp,
}

impl Reason {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OrphanTarball => "tarballs that no document names",
            Self::OrphanAttestations => "provenance bundles that no document names",
            Self::OutdatedVersion => "versions that a retention rule gives up",
            Self::CacheAge => "cached objects that are too old",
            Self::CacheSize => "cached objects beyond the size",
            Self::LeftUpload => "uploads and answers that nobody fetched",
            Self::EndedLogin => "sign-ins, codes and invitations that have ended",
            Self::LeftTrial => "leftovers of the trial of conditional writes",
            Self::OldAdvisories => "indexes of advisories that are not in force",
            Self::SetAside => "documents that were set aside",
            Self::AddedUp => "objects of counted downloads, which are in the sum of their day,",
        }
    }
}

/// Something that goes, or would.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Removal {
    /// Why.
    pub reason: Reason,
    /// Where. For a version, its document.
    pub key: String,
    /// The version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// How much room it took. Of a version 0: its bytes are told of by themselves.
    pub size_bytes: u64,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Swept {
    /// Nothing was removed: the rest says what would be.
    pub dry_run: bool,
    /// Objects that were looked at.
    pub objects: u64,
    /// How many went, by reason.
    pub removed: BTreeMap<Reason, u64>,
    /// How much room they took, in bytes.
    pub removed_bytes: u64,
    /// What cannot be read, documents above all: nothing that may belong to it was removed.
    pub left_alone: Vec<String>,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum GcError {
    /// Others may publish at this moment.
    #[error("on a bucket, what is younger than {} hours stays: a publish may be about to name it", LEAST_GRACE.as_secs() / 3600)]
    ShortGrace,
    /// No store but a directory tells.
    #[error("a bucket does not tell when an object was last read: limit the cache by age or by size")]
    UseUnknown,
    /// The store's failure. What was done until then stays done.
    #[error(transparent)]
    Store(#[from] storage::Error),
}

/// Removes what nobody needs any more. `told` gets each thing that goes, and what was looked at so far.
///
/// # Errors
/// See [`GcError`].
pub async fn gc(
    store: &Store,
    clock: &Clock,
    plan: &Plan,
    told: impl FnMut(&Swept, Option<&Removal>),
) -> Result<Swept, GcError> {
    if store.is_shared() && plan.grace < LEAST_GRACE {
        return Err(GcError::ShortGrace);
    }
    if store.is_shared() && plan.cache.unused_for.is_some() {
        return Err(GcError::UseUnknown);
    }
    let swept = Swept { dry_run: plan.dry_run, ..Swept::default() };
    let mut sweeper = Sweeper { store, plan, now: clock.now(), swept, told };
    if !plan.retention.is_empty() {
        sweeper.outdated_versions().await?;
    }
    // Bundles first: a tarball that is still there keeps its key from being used again, and with it the bundle's.
    sweeper.orphans(&keys::all_attestations(), Reason::OrphanAttestations).await?;
    sweeper.orphans(&keys::tarballs(), Reason::OrphanTarball).await?;
    sweeper.cache().await?;
    sweeper.leftovers().await?;
    sweeper.downloads().await?;
    Ok(sweeper.swept)
}

struct Sweeper<'a, T> {
    store: &'a Store,
    plan: &'a Plan,
    /// The same for everything: what is looked at late is not judged by other measures.
    now: Timestamp,
    swept: Swept,
    told: T,
}

impl<T: FnMut(&Swept, Option<&Removal>)> Sweeper<'_, T> {
    fn saw(&mut self, objects: u64) {
        self.swept.objects += objects;
        (self.told)(&self.swept, None);
    }

    fn note(&mut self, removal: &Removal) {
        *self.swept.removed.entry(removal.reason).or_default() += 1;
        self.swept.removed_bytes += removal.size_bytes;
        (self.told)(&self.swept, Some(removal));
    }

    /// Removes an object, unless this is a dry run. One that is gone already counts for nothing.
    async fn remove(&mut self, reason: Reason, listed: &Listed) -> Result<(), storage::Error> {
        self.remove_key(reason, &listed.key, listed.size_bytes).await
    }

    async fn remove_key(&mut self, reason: Reason, key: &Key, size_bytes: u64) -> Result<(), storage::Error> {
        if !self.plan.dry_run {
            match self.store.delete(key).await {
                Ok(()) => {}
                Err(storage::Error::NotFound) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.note(&Removal { reason, key: key.to_string(), version: None, size_bytes });
        Ok(())
    }

    /// Versions that rules give up, package by package.
    async fn outdated_versions(&mut self) -> Result<(), storage::Error> {
        let mut keys = self.store.list();
        while let Some(key) = keys.recv().await {
            let Some(name) = key?.packument_name() else { continue };
            self.saw(1);
            let Some(rule) = Retention::of(&self.plan.retention, &name) else { continue };
            let given_up = match hosted::document(self.store, &name).await? {
                Document::None => continue,
                Document::Unknown(_) => {
                    self.swept.left_alone.push(keys::packument(&name).to_string());
                    continue;
                }
                Document::Read(stored) => given_up(&stored, rule, self.now),
            };
            if given_up.is_empty() {
                continue;
            }
            let given_up = if self.plan.dry_run { given_up } else { self.give_up(&name, rule.clone()).await? };
            for (number, digest) in given_up {
                let key = keys::packument(&name).to_string();
                let removal =
                    Removal { reason: Reason::OutdatedVersion, key, version: Some(number.clone()), size_bytes: 0 };
                self.note(&removal);
                self.remove_bytes(&name, &number, digest.as_deref()).await?;
            }
        }
        Ok(())
    }

    /// Takes versions out of a document, and returns them as they were when they left it.
    async fn give_up(&self, name: &PackageName, rule: Retention) -> Result<Vec<GivenUp>, storage::Error> {
        let now = self.now;
        let change = move |stored: Option<Bytes>| {
            let Some(stored) = stored else { return Ok(Change::Keep(Vec::new())) };
            let given_up = given_up(&stored, &rule, now);
            if given_up.is_empty() {
                return Ok(Change::Keep(Vec::new()));
            }
            let numbers: Vec<String> = given_up.iter().map(|(number, _)| number.clone()).collect();
            let mut document = HostedPackument::parse(&stored)?;
            document.unpublish(&numbers, "holdfast gc", now)?;
            Ok::<_, EditError>(Change::Write(document.into_stored(&random::id(), now)?.into(), given_up))
        };
        match self.store.update(&keys::packument(name), change).await {
            Ok(given_up) => {
                index_is_behind(self.store).await?;
                Ok(given_up)
            }
            // Damaged since it was read: left alone.
            Err(UpdateError::Refused(_)) => Ok(Vec::new()),
            Err(UpdateError::Store(error)) => Err(error),
        }
    }

    /// The bytes of a version that has left its document.
    async fn remove_bytes(
        &mut self,
        name: &PackageName,
        number: &str,
        digest: Option<&str>,
    ) -> Result<(), storage::Error> {
        let (Ok(version), Some(digest)) = (number.parse::<Version>(), digest) else { return Ok(()) };
        for (reason, key) in [
            (Reason::OrphanAttestations, keys::attestations(name, &version, digest)),
            (Reason::OrphanTarball, keys::tarball(name, &version, digest)),
        ] {
            match self.store.size(&key).await {
                Ok(size_bytes) => self.remove_key(reason, &key, size_bytes).await?,
                Err(storage::Error::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Objects that belong to a package and that its document does not name.
    async fn orphans(&mut self, folder: &Key, reason: Reason) -> Result<(), storage::Error> {
        let of_package = |key: &Key| match key.kind() {
            Kind::Tarball(name) | Kind::Attestations(name) => Some(name),
            _ => None,
        };
        let (store, grace, now) = (self.store, self.plan.grace, self.now);
        let looks = groups(store.list_objects(Some(folder)), of_package).map(|group| async move {
            let (name, objects) = group?;
            let count = objects.len() as u64;
            let orphans = unnamed(store, &name, objects, grace, now).await?;
            Ok::<_, storage::Error>((name, count, orphans))
        });
        let mut looks = pin!(looks.buffer_unordered(AT_ONCE));
        while let Some((name, count, orphans)) = looks.try_next().await? {
            self.saw(count);
            match orphans {
                Some(orphans) => {
                    for orphan in &orphans {
                        self.remove(reason, orphan).await?;
                    }
                }
                None => self.swept.left_alone.push(keys::packument(&name).to_string()),
            }
        }
        Ok(())
    }

    /// What is cached of upstreams: too old first, then, in a second pass, what goes beyond the size.
    async fn cache(&mut self) -> Result<(), storage::Error> {
        let CacheLimits { older_than, unused_for, max_bytes } = self.plan.cache;
        if (older_than, unused_for, max_bytes) == (None, None, None) {
            return Ok(());
        }
        let now = self.now;
        let is_too_old = |listed: &Listed| {
            older_than.is_some_and(|age| is_older(listed, age, now))
                || unused_for.is_some_and(|age| is_past(used(listed), age, now))
        };
        let mut sizes: BTreeMap<i64, u64> = BTreeMap::new();
        let mut objects = self.store.list_objects(Some(&keys::cache()));
        while let Some(listed) = objects.recv().await {
            let listed = listed?;
            self.saw(1);
            if is_too_old(&listed) {
                self.remove(Reason::CacheAge, &listed).await?;
            } else {
                *sizes.entry(used(&listed).div_euclid(DAY_SECONDS)).or_default() += listed.size_bytes;
            }
        }
        let total: u64 = sizes.values().sum();
        let Some(mut too_many) = max_bytes.and_then(|most| total.checked_sub(most)).filter(|bytes| *bytes > 0) else {
            return Ok(());
        };
        let last_day = last_day_to_go(&sizes, too_many);
        let mut objects = self.store.list_objects(Some(&keys::cache()));
        // Days before the last go whole; of the last as much as it takes.
        let whole: u64 = sizes.range(..last_day).map(|(_, bytes)| bytes).sum();
        too_many = too_many.saturating_sub(whole);
        while let Some(listed) = objects.recv().await {
            let listed = listed?;
            let day = used(&listed).div_euclid(DAY_SECONDS);
            if is_too_old(&listed) || day > last_day || (day == last_day && too_many == 0) {
                continue;
            }
            if day == last_day {
                too_many = too_many.saturating_sub(listed.size_bytes);
            }
            self.remove(Reason::CacheSize, &listed).await?;
        }
        Ok(())
    }

    /// What lies by itself: left uploads, ended sign-ins, trials, old indexes, and what was set aside.
    async fn leftovers(&mut self) -> Result<(), storage::Error> {
        let in_force = self.advisories_in_force().await?;
        for folder in keys::passing() {
            let mut objects = self.store.list_objects(Some(&folder));
            while let Some(listed) = objects.recv().await {
                let listed = listed?;
                self.saw(1);
                let is_left = is_older(&listed, LEFT_AFTER, self.now);
                let reason = match listed.key.kind() {
                    Kind::Uploaded | Kind::HandedOver if is_left => Reason::LeftUpload,
                    Kind::StoreTrial if is_left => Reason::LeftTrial,
                    Kind::SetAside(_) if self.plan.set_aside => Reason::SetAside,
                    Kind::ShortLived if self.has_ended(&listed.key).await? => Reason::EndedLogin,
                    Kind::AdvisoriesIndex if is_older(&listed, self.plan.grace, self.now) => match &in_force {
                        Some(in_force) if *in_force != listed.key => Reason::OldAdvisories,
                        _ => continue,
                    },
                    _ => continue,
                };
                self.remove(reason, &listed).await?;
            }
        }
        Ok(())
    }

    /// Counted downloads of days that are over, added up into one object a day.
    async fn downloads(&mut self) -> Result<(), storage::Error> {
        let (store, grace, now) = (self.store, self.plan.grace, self.now);
        let mut days = pin!(groups(store.list_objects(Some(&keys::all_downloads())), Key::download_day));
        while let Some((day, listed)) = days.try_next().await? {
            self.saw(listed.len() as u64);
            let found = downloads::look(store, day, listed, grace, now).await?;
            self.swept.left_alone.extend(found.unreadable.map(|key| key.to_string()));
            for part in &found.added {
                self.remove(Reason::AddedUp, part).await?;
            }
            for batch in found.batches {
                let added = downloads::add(store, day, batch, self.plan.dry_run).await?;
                self.swept.left_alone.extend(added.unreadable.iter().map(ToString::to_string));
                for part in &added.parts {
                    self.remove(Reason::AddedUp, part).await?;
                }
                if added.is_full {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn has_ended(&self, key: &Key) -> Result<bool, storage::Error> {
        match self.store.read(key).await {
            Ok(stored) => Ok(has_ended(&stored, self.now)),
            Err(storage::Error::NotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The index of advisories in force; `None` where nothing tells.
    async fn advisories_in_force(&self) -> Result<Option<Key>, storage::Error> {
        match self.store.read(&keys::advisories_pointer()).await {
            Ok(stored) => {
                let pointer = serde_json::from_slice::<AdvisoriesInForce>(&stored).ok();
                Ok(pointer.map(|pointer| keys::advisories_index(&pointer.fingerprint)))
            }
            Err(storage::Error::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The part of `-/advisories/current.json` that names the index.
#[derive(Deserialize)]
struct AdvisoriesInForce {
    fingerprint: String,
}

/// A version and what stands in its tarball's key for the digest.
type GivenUp = (String, Option<String>);

/// The versions of a document that a rule gives up. None of a document that an older system wrote, or that was copied:
/// those who publish there are others.
fn given_up(stored: &[u8], rule: &Retention, now: Timestamp) -> Vec<GivenUp> {
    let Ok(document) = HostedPackument::parse(stored) else { return Vec::new() };
    if document.is_older() || document.head().is_copy {
        return Vec::new();
    }
    document.tarball_digests(&rule.outdated(&document, now))
}

/// Which objects of a package its document does not name and are old enough; `None` where the document cannot be read. The
/// document is read after the objects were found, so what they were written for is in it by now, or never will be.
async fn unnamed(
    store: &Store,
    name: &PackageName,
    objects: Vec<Listed>,
    grace: Duration,
    now: Timestamp,
) -> Result<Option<Vec<Listed>>, storage::Error> {
    let named = match hosted::document(store, name).await? {
        Document::None => BTreeSet::new(),
        Document::Unknown(_) => return Ok(None),
        Document::Read(stored) => match HostedPackument::parse(&stored) {
            // Being taken over, perhaps: then bytes that are in no other place get their key before the document names it.
            Ok(document) if document.is_older() => return Ok(Some(Vec::new())),
            Ok(document) => hosted::named_keys(name, &document),
            Err(_) => return Ok(None),
        },
    };
    let is_orphan = |listed: &Listed| is_older(listed, grace, now) && !named.contains(&listed.key);
    Ok(Some(objects.into_iter().filter(is_orphan).collect()))
}

/// When an object was last used, as far as the store tells.
fn used(listed: &Listed) -> i64 {
    listed.used_seconds.unwrap_or(listed.modified_seconds)
}

/// The day up to which cached objects have to go so that there are so many bytes less.
fn last_day_to_go(sizes: &BTreeMap<i64, u64>, bytes: u64) -> i64 {
    let mut gone = 0;
    sizes
        .iter()
        .find(|(_, size)| {
            gone += **size;
            gone >= bytes
        })
        .map_or(i64::MAX, |(day, _)| *day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_days_go_first() {
        let sizes = BTreeMap::from([(1, 10), (2, 20), (9, 30)]);
        assert_eq!(last_day_to_go(&sizes, 1), 1);
        assert_eq!(last_day_to_go(&sizes, 10), 1);
        assert_eq!(last_day_to_go(&sizes, 11), 2);
        assert_eq!(last_day_to_go(&sizes, 60), 9);
    }
}
