//! How often tarballs are downloaded, by package, version and day.
//!
//! A process counts in memory and writes what it has counted of a day as one object, again and again over itself: nothing is
//! counted twice, and a crash loses what came since the last time. Reading adds up the objects of all processes. Somebody may
//! add them up for good into one object, which then says which ones are in it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, Stream};
use futures::{StreamExt as _, TryStreamExt as _};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use super::{Error, Registry, byte_cache};
use crate::auth::Caller;
use crate::clock::Clock;
use crate::keys;
use crate::npm::downloads::{Day, Period};
use crate::npm::{Form, PackageName, Timestamp, render, version};
use crate::random;
use crate::storage::{self, Durability, KeyedLocks, Store};

/// Versions that one process counts in a day; some hundred bytes each. Further ones are not counted.
const MAX_COUNTED: usize = 100_000;
/// Days added up that are kept in memory.
const REMEMBERED_BYTES: u64 = 32 << 20;
/// What an object of counts has at most, in bytes: one that has more is left out. A hundred thousand versions take a tenth of it.
pub const MAX_COUNTED_DAY_BYTES: u64 = 64 << 20;
/// How often a day is begun again whose objects went while it was added up.
const MOST_LOOKS: usize = 8;
/// How old the sum of a day may be that is not over, or ended just now.
const YOUNG_LASTS: Duration = Duration::from_mins(1);
/// How old the sum of an earlier day may be: it changes no more, unless a process could not write for long.
const OLD_LASTS: Duration = Duration::from_hours(1);
/// When the last counts of a day are written, after it has ended.
const SETTLED_AFTER: Duration = Duration::from_mins(5);
/// Days that are read together.
const AT_ONCE: usize = 8;
/// Packages of one question.
pub const MAX_PACKAGES: usize = 128;

/// Counts of each version of each package.
type Counts = HashMap<String, HashMap<String, u64>>;

/// The counts of a day as they are stored: those of one process, or a sum.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct CountedDay {
    packages: Counts,
    /// The names of other objects of the day that are in this one, and are not added to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    merged: Vec<String>,
}

impl CountedDay {
    /// Reads an object.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// As an object.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Texts and numbers: nothing in it can fail to be JSON.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Whether another object of the day is in this one.
    pub fn has(&self, part: &str) -> bool {
        self.merged.iter().any(|merged| merged == part)
    }

    /// Adds another object of the day, unless it is in this one.
    pub fn add_part(&mut self, part: &str, counted: &Self) {
        if !self.has(part) {
            add_counts(&mut self.packages, &counted.packages);
            self.merged.push(part.to_owned());
        }
    }
}

/// Adds counts to others.
fn add_counts(sum: &mut Counts, counts: &Counts) {
    for (name, versions) in counts {
        let known = sum.entry(name.clone()).or_default();
        for (version, count) in versions {
            let known = known.entry(version.clone()).or_default();
            *known = known.saturating_add(*count);
        }
    }
}

/// What this process has counted of a day.
#[derive(Debug)]
struct Counting {
    packages: Counts,
    /// What its object is called by: another one, should the clock be set back to a day that was done with.
    part: String,
    is_written: bool,
}

#[derive(Debug, Default)]
struct Pending {
    days: BTreeMap<Day, Counting>,
    /// How many versions there are in all of them.
    versions: usize,
    /// Downloads of versions that found no room.
    uncounted: u64,
}

/// A day added up.
#[derive(Debug, Default)]
struct Sum {
    packages: Counts,
}

impl Sum {
    fn of(&self, name: &str) -> u64 {
        self.packages.get(name).map_or(0, |versions| versions.values().sum())
    }
}

#[derive(Debug, Clone)]
struct Known {
    sum: Arc<Sum>,
    read_at: Timestamp,
}

#[derive(Debug, Clone, Copy)]
struct SumWeighter;

impl Weighter<Day, Known> for SumWeighter {
    fn weight(&self, _: &Day, known: &Known) -> u64 {
        let of_package = |(name, versions): (&String, &HashMap<String, u64>)| {
            let texts: usize = versions.keys().map(|version| version.len() + 64).sum();
            name.len() + 128 + texts
        };
        200 + known.sum.packages.iter().map(of_package).sum::<usize>() as u64
    }
}

/// Counts and sums.
pub(super) struct Downloads {
    store: Store,
    clock: Clock,
    pending: Mutex<Pending>,
    /// Held while counts are written, so that older ones never take the place of newer ones.
    writing: tokio::sync::Mutex<()>,
    known: Cache<Day, Known, SumWeighter>,
    reading: KeyedLocks<Day>,
}

/// Downloads day by day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownloadCounts {
    /// The days that were asked about.
    pub period: Period,
    /// One for each of them.
    pub days: Vec<(Day, u64)>,
}

impl Pending {
    fn count(&mut self, day: Day, name: &PackageName, version: &str) {
        let counting = self.days.entry(day).or_insert_with(|| Counting {
            packages: Counts::new(),
            part: random::id(),
            is_written: true,
        });
        let known = counting.packages.get_mut(name.as_str()).and_then(|versions| versions.get_mut(version));
        if let Some(count) = known {
            *count += 1;
        } else if self.versions < MAX_COUNTED {
            self.versions += 1;
            counting.packages.entry(name.to_string()).or_default().insert(version.to_owned(), 1);
        } else {
            self.uncounted += 1;
            return;
        }
        counting.is_written = false;
    }

    /// A day whose counts are not written, as its object.
    fn next_unwritten(&mut self) -> Option<(Day, String, Vec<u8>)> {
        let (day, counting) = self.days.iter_mut().find(|(_, counting)| !counting.is_written)?;
        counting.is_written = true;
        let stored = StoredRef { packages: &counting.packages };
        // Texts and numbers: nothing in it can fail to be JSON.
        Some((*day, counting.part.clone(), serde_json::to_vec(&stored).unwrap_or_default()))
    }

    /// Forgets days that are over and written.
    fn forget_before(&mut self, today: Day) {
        self.days.retain(|day, counting| *day >= today || !counting.is_written);
        let versions = |counting: &Counting| counting.packages.values().map(HashMap::len).sum::<usize>();
        self.versions = self.days.values().map(versions).sum();
    }
}

#[derive(Serialize)]
struct StoredRef<'a> {
    packages: &'a Counts,
}

impl Downloads {
    pub(super) fn new(store: Store, clock: Clock) -> Self {
        Self {
            store,
            clock,
            pending: Mutex::default(),
            writing: tokio::sync::Mutex::default(),
            known: byte_cache(REMEMBERED_BYTES, SumWeighter),
            reading: KeyedLocks::default(),
        }
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn today(&self) -> Day {
        Day::of(self.clock.now())
    }

    /// The sum of a day, from memory or from the store.
    async fn sum(&self, day: Day) -> Result<Arc<Sum>, storage::Error> {
        if day > self.today() {
            return Ok(Arc::default());
        }
        if let Some(sum) = self.recall(day) {
            return Ok(sum);
        }
        let _alone = self.reading.lock(&day).await;
        if let Some(sum) = self.recall(day) {
            return Ok(sum);
        }
        let read_at = self.clock.now();
        let sum = Arc::new(self.add_up(day).await?);
        self.known.insert(day, Known { sum: Arc::clone(&sum), read_at });
        Ok(sum)
    }

    fn recall(&self, day: Day) -> Option<Arc<Sum>> {
        let (known, now) = (self.known.get(&day)?, self.clock.now());
        let lasts = if known.read_at >= day.end().plus(SETTLED_AFTER) { OLD_LASTS } else { YOUNG_LASTS };
        // A clock that was set back must not make an entry last.
        (known.read_at <= now && now < known.read_at.plus(lasts)).then_some(known.sum)
    }

    async fn add_up(&self, day: Day) -> Result<Sum, storage::Error> {
        for _ in 0..MOST_LOOKS {
            if let Some(sum) = self.add_up_once(day).await? {
                return Ok(sum);
            }
        }
        Err(storage::Error::Unavailable(std::io::ErrorKind::Interrupted.into()))
    }

    /// `None` when an object has gone since they were listed: somebody has added it up into another one.
    async fn add_up_once(&self, day: Day) -> Result<Option<Sum>, storage::Error> {
        let (mut sum, mut names, mut merged) = (Sum::default(), BTreeSet::new(), BTreeSet::new());
        let mut listed = self.store.list_folder(&keys::downloads(day));
        while let Some(key) = listed.recv().await {
            names.extend(key?.download_part().map(ToOwned::to_owned));
        }
        // What has others in it first.
        let whole = names.take(keys::ALL_DOWNLOADS);
        for part in whole.into_iter().chain(names) {
            if merged.contains(&part) {
                continue;
            }
            let bytes = match self.part(day, &part).await {
                Ok(bytes) => bytes,
                Err(storage::Error::NotFound) => return Ok(None),
                Err(error @ storage::Error::TooLarge) => {
                    tracing::warn!(%day, part, %error, "counted downloads are left out");
                    continue;
                }
                Err(error) => return Err(error),
            };
            let work = move || {
                add(sum, &bytes).unwrap_or_else(|(sum, error)| {
                    tracing::warn!(%day, part, %error, "counted downloads cannot be read, and are left out");
                    (sum, Vec::new())
                })
            };
            let lost = |error| storage::Error::Unavailable(std::io::Error::other(error));
            let added = spawn_blocking(work).await.map_err(lost)?;
            sum = added.0;
            merged.extend(added.1);
        }
        Ok(Some(sum))
    }

    /// The object of one process.
    async fn part(&self, day: Day, part: &str) -> Result<Bytes, storage::Error> {
        let known = self.store.snapshot_unless(&keys::downloads_of(day, part), None, MAX_COUNTED_DAY_BYTES).await?;
        Ok(known.ok_or(storage::Error::NotFound)?.bytes)
    }

    /// The sums of a period in the order of its days.
    fn sums(&self, period: Period) -> impl Stream<Item = Result<(Day, Arc<Sum>), Error>> {
        stream::iter(period.days()).map(move |day| async move { Ok((day, self.sum(day).await?)) }).buffered(AT_ONCE)
    }
}

/// Adds what is stored to a sum, and tells what is in it already. Gives the sum back where it cannot be read.
fn add(mut sum: Sum, bytes: &[u8]) -> Result<(Sum, Vec<String>), (Sum, serde_json::Error)> {
    match CountedDay::read(bytes) {
        Ok(stored) => {
            add_counts(&mut sum.packages, &stored.packages);
            Ok((sum, stored.merged))
        }
        Err(error) => Err((sum, error)),
    }
}

impl Registry {
    /// Counts a download of a tarball.
    pub fn count_download(&self, name: &PackageName, file: &str) {
        let number = render::version_in_file_name(name, file).and_then(version::canonical);
        if let Some(number) = number {
            let downloads = &self.inner.downloads;
            downloads.pending().count(downloads.today(), name, &number);
        }
    }

    /// Writes what was counted since the last time. For a task that does so every minute, for what is due on Lambda, and for a
    /// stop.
    ///
    /// # Errors
    /// The store's failure: what was counted is written the next time.
    pub async fn write_downloads(&self) -> Result<(), Error> {
        let downloads = &self.inner.downloads;
        let _held = downloads.writing.lock().await;
        loop {
            let this = self.clone();
            let unwritten = spawn_blocking(move || this.inner.downloads.pending().next_unwritten()).await;
            let Some((day, part, bytes)) = unwritten.map_err(|_| Error::Interrupted)? else { break };
            let key = keys::downloads_of(day, &part);
            if let Err(error) = downloads.store.put(&key, bytes.into(), Durability::Synced).await {
                if let Some(counting) = downloads.pending().days.get_mut(&day) {
                    counting.is_written = false;
                }
                return Err(error.into());
            }
        }
        let mut pending = downloads.pending();
        pending.forget_before(downloads.today());
        let uncounted = std::mem::take(&mut pending.uncounted);
        if uncounted > 0 {
            tracing::warn!(uncounted, "downloads of more versions than are counted in a day: these were not");
        }
        Ok(())
    }

    /// Downloads of all packages that the caller may read.
    ///
    /// # Errors
    /// [`Error::SignInFirst`] for who may read nothing; the store's failure.
    pub async fn downloads_of_all(&self, caller: &Caller, period: Period) -> Result<DownloadCounts, Error> {
        self.authorize_reading(caller)?;
        let mut sums = Box::pin(self.inner.downloads.sums(period));
        let mut days = Vec::new();
        while let Some((day, sum)) = sums.try_next().await? {
            let (this, caller) = (self.clone(), caller.clone());
            let may_read = move |name: &str| name.parse().is_ok_and(|name| this.may_read(&caller, &name));
            let count = spawn_blocking(move || {
                let names = sum.packages.keys().filter(|name| may_read(name));
                names.map(|name| sum.of(name)).sum::<u64>()
            });
            days.push((day, count.await.map_err(|_| Error::Interrupted)?));
        }
        Ok(DownloadCounts { period, days })
    }

    /// Downloads of a package.
    ///
    /// # Errors
    /// As for reading its document; that it is withheld is none.
    pub async fn downloads_of(
        &self,
        caller: &Caller,
        name: &PackageName,
        period: Period,
    ) -> Result<DownloadCounts, Error> {
        self.require_readable(caller, name).await?;
        let counted = self.inner.downloads.sums(period).map_ok(|(day, sum)| (day, sum.of(name.as_str())));
        Ok(DownloadCounts { period, days: counted.try_collect().await? })
    }

    /// Downloads of several packages, in their order; `None` for one that is not there, or that the caller may not know of.
    ///
    /// # Errors
    /// [`Error::Invalid`] for more than [`MAX_PACKAGES`]; [`Error::SignInFirst`]; a failure of the store or of an upstream.
    pub async fn downloads_of_several(
        &self,
        caller: &Caller,
        names: Vec<PackageName>,
        period: Period,
    ) -> Result<Vec<(PackageName, Option<DownloadCounts>)>, Error> {
        self.authorize_reading(caller)?;
        if names.len() > MAX_PACKAGES {
            return Err(Error::Invalid("at most 128 packages can be asked about at once"));
        }
        let counted = stream::iter(names).map(|name| async move {
            match self.downloads_of(caller, &name, period).await {
                Ok(counts) => Ok((name, Some(counts))),
                Err(Error::PackageNotFound(_)) => Ok((name, None)),
                Err(error) => Err(error),
            }
        });
        counted.buffered(AT_ONCE).try_collect().await
    }

    /// Downloads of each version of a package.
    ///
    /// # Errors
    /// As [`Registry::downloads_of`].
    pub async fn downloads_by_version(
        &self,
        caller: &Caller,
        name: &PackageName,
        period: Period,
    ) -> Result<BTreeMap<String, u64>, Error> {
        self.require_readable(caller, name).await?;
        let mut sums = Box::pin(self.inner.downloads.sums(period));
        let mut counts = BTreeMap::new();
        while let Some((_, sum)) = sums.try_next().await? {
            for (version, count) in sum.packages.get(name.as_str()).into_iter().flatten() {
                *counts.entry(version.clone()).or_default() += count;
            }
        }
        Ok(counts)
    }

    /// Refuses as reading the package's document would, and for the same reasons.
    async fn require_readable(&self, caller: &Caller, name: &PackageName) -> Result<(), Error> {
        match self.find_packument(caller, name, Form::Abbreviated).await {
            Ok(_) | Err(Error::Withheld(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(pending: &mut Pending) -> Vec<(String, serde_json::Value)> {
        let unwritten = std::iter::from_fn(|| pending.next_unwritten());
        unwritten.map(|(day, _, bytes)| (day.to_string(), serde_json::from_slice(&bytes).unwrap())).collect()
    }

    #[test]
    fn what_is_counted_is_written_once_and_forgotten_when_its_day_is_over() {
        let (mut pending, name) = (Pending::default(), "tool".parse().unwrap());
        let [first, second]: [Day; 2] = ["2026-11-30", "2026-12-01"].map(|day| day.parse().unwrap());
        pending.count(first, &name, "1.0.0");
        pending.count(first, &name, "1.0.0");
        let expected = serde_json::json!({ "packages": { "tool": { "1.0.0": 2 } } });
        assert_eq!(stored(&mut pending), [("2026-11-30".to_owned(), expected)]);
        assert!(stored(&mut pending).is_empty());
        pending.forget_before(first);
        pending.count(second, &name, "1.0.0");
        pending.count(first, &name, "1.0.0");
        // Not before it is written.
        pending.forget_before(second);
        assert_eq!((pending.days.len(), pending.versions), (2, 2));
        assert_eq!(stored(&mut pending).len(), 2);
        pending.forget_before(second);
        assert_eq!((pending.days.len(), pending.versions), (1, 1));
        // The clock was set back: another object, since the first one is done with.
        let part = pending.days[&second].part.clone();
        pending.forget_before("2026-12-02".parse().unwrap());
        pending.count(second, &name, "1.0.0");
        assert_ne!(pending.days[&second].part, part);
    }

    #[test]
    fn memory_is_bounded_however_many_versions_there_are() {
        let (mut pending, name) = (Pending::default(), "tool".parse().unwrap());
        let day = "2026-11-30".parse().unwrap();
        for number in 0..MAX_COUNTED + 10 {
            pending.count(day, &name, &number.to_string());
        }
        pending.count(day, &name, "0");
        assert_eq!((pending.versions, pending.uncounted), (MAX_COUNTED, 10));
        assert_eq!(pending.days[&day].packages["tool"]["0"], 2);
    }
}
