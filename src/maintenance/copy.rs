//! A registry from one store to another, while the first is in use: again and again, only what differs.
//!
//! First goes all that documents name, then each document, after all that it names: whatever is cut off, a reader of the
//! other store finds no document without its tarballs. What changed meanwhile is looked for in a second round. Nothing on
//! the other side that is newer is replaced.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU128;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{Stream, TryStreamExt as _, future, stream};
use serde::Serialize;

use super::report::Lines;
use super::transfer::{
    self, LARGEST_DOCUMENT_BYTES, MoveError, Named, Place, Put, digests_of, fingerprint, fingerprint_of,
    is_as_key_says, measure,
};
use crate::clock::Clock;
use crate::keys::{Key, Part};
use crate::npm::packument::HostedPackument;
use crate::npm::{Digests, Timestamp};
use crate::storage::{self, Listed, Store};

/// Objects that are under way at once.
const AT_ONCE: usize = 8;
/// How far the clocks of this machine and of a store may be apart: S3 refuses requests from further away.
const CLOCK_SKEW: Duration = Duration::from_mins(15);

/// What an operator wants.
#[expect(clippy::struct_excessive_bools, reason = "each is a wish of its own")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wish {
    /// Only looks.
    pub dry_run: bool,
    /// What is kept of upstreams goes along.
    pub with_cache: bool,
    /// What neither Holdfast nor an older system wrote stays behind.
    pub ours_only: bool,
    /// What is newer on the other side is replaced too.
    pub overwrite: bool,
    /// What is no longer here is removed there.
    pub prune: bool,
}

/// What was found and done.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct CopyReport {
    /// Nothing was written: the rest says what would be.
    pub dry_run: bool,
    /// Objects that were written.
    pub copied: u64,
    /// Their size.
    pub copied_bytes: u64,
    /// Objects that are the same on both sides.
    pub unchanged: u64,
    /// Objects that stay behind: derived ones, the cache of upstreams, what lasts an hour.
    pub left_out: u64,
    /// Objects that neither Holdfast nor an older system wrote.
    pub foreign: u64,
    /// Objects that were removed, since they are no longer at the source.
    pub pruned: u64,
    /// Keys of objects that differ and are newer on the other side; left as they are there.
    pub newer_there: Lines,
    /// Keys of tarballs whose bytes are not what their key says, at the source.
    pub wrong: Lines,
    /// Keys of tarballs that a document names and the source does not have.
    pub missing: Lines,
    /// Keys of documents that cannot be read; copied as they are.
    pub unreadable: Lines,
    /// Keys of objects that were read back as something else.
    pub not_as_written: Lines,
}

impl CopyReport {
    /// True when something needs a person.
    pub fn has_problems(&self) -> bool {
        [&self.newer_there, &self.wrong, &self.missing, &self.unreadable, &self.not_as_written]
            .iter()
            .any(|lines| !lines.is_empty())
    }
}

/// Copies a store. Can be cut off at any point and repeated; both stores may be in use. A few objects are in memory at once,
/// and some fifty bytes for each object there is.
///
/// # Errors
/// The failure of one of the stores. What was done until then stays done.
pub async fn copy(
    from: &Store,
    to: &Store,
    clock: &Clock,
    wish: Wish,
    mut progress: impl FnMut(u64, &Key),
) -> Result<CopyReport, MoveError> {
    let since = clock.now().as_seconds() - i64::try_from(CLOCK_SKEW.as_secs()).unwrap_or_default();
    let copier = Copier::new(from, to, wish).await?;
    let mut tally = Tally::new(wish);
    let mut each = async |_: &Done| Ok(());
    copier.look(&mut tally, None, &mut progress, &mut each).await?;
    if !wish.dry_run {
        copier.look(&mut tally, Some(since), &mut progress, &mut each).await?;
    }
    if wish.prune {
        copier.prune(&mut tally).await?;
    }
    Ok(tally.report)
}

/// What is known of an object on the other side.
#[derive(Debug, Clone, Copy)]
enum There {
    Found {
        size_bytes: u64,
        modified_seconds: i64,
    },
    /// Written by this run, with bytes that hash to this; or to be written, where it only looks.
    Ours(Option<NonZeroU128>),
}

/// What came of one object.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) key: Key,
    pub(super) outcome: Outcome,
    /// Of what is there now, where it was read.
    pub(super) digests: Option<Digests>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Copied {
        size_bytes: u64,
        is_right: bool,
    },
    Unchanged,
    NewerThere,
    /// It went while it was looked at.
    Gone,
}

/// What came of a listed object, and of what it names.
#[derive(Debug)]
pub(super) struct Moved {
    listed: Key,
    /// It stays behind.
    is_left_out: bool,
    pub(super) done: Vec<Done>,
    wrong: Vec<Key>,
    missing: Vec<Key>,
    is_unreadable: bool,
}

impl Moved {
    fn check(&mut self, key: &Key, digests: &Digests) {
        if !is_as_key_says(key, digests) {
            self.wrong.push(key.clone());
        }
    }
}

/// Which of the listed objects are looked at.
#[derive(Debug, Clone, Copy)]
struct Round {
    documents: bool,
    /// Only what is new, or was written since then.
    since: Option<i64>,
}

/// The report as it grows.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) report: CopyReport,
    looked_at: u64,
    /// The keys of the source, by their fingerprints, where something is to be removed.
    seen: Option<HashSet<NonZeroU128>>,
}

impl Tally {
    pub(super) fn new(wish: Wish) -> Self {
        let report = CopyReport { dry_run: wish.dry_run, ..CopyReport::default() };
        Self { report, looked_at: 0, seen: wish.prune.then(HashSet::new) }
    }

    fn add(&mut self, moved: Moved, round: Round) {
        if let Some(seen) = &mut self.seen {
            seen.extend(fingerprint_of(&moved.listed));
        }
        // Each object is listed once in the first round, with the documents or without them.
        if round.since.is_none() && !round.documents {
            self.report.left_out += u64::from(moved.is_left_out);
            self.report.foreign += u64::from(moved.listed.part() == Part::Foreign);
        }
        let report = &mut self.report;
        // The second round sees again what the first one has told.
        let is_news =
            round.since.is_none() || moved.done.iter().any(|done| matches!(done.outcome, Outcome::Copied { .. }));
        if !is_news {
            return;
        }
        for Done { key, outcome, .. } in moved.done {
            self.looked_at += 1;
            match outcome {
                Outcome::Copied { size_bytes, is_right } => {
                    report.copied += 1;
                    report.copied_bytes += size_bytes;
                    if !is_right {
                        report.not_as_written.push(key.as_str());
                    }
                }
                Outcome::NewerThere => report.newer_there.push(key.as_str()),
                Outcome::Unchanged if round.since.is_none() => report.unchanged += 1,
                Outcome::Unchanged | Outcome::Gone => {}
            }
        }
        moved.wrong.iter().for_each(|key| report.wrong.push(key.as_str()));
        moved.missing.iter().for_each(|key| report.missing.push(key.as_str()));
        if moved.is_unreadable {
            report.unreadable.push(moved.listed.as_str());
        }
    }
}

pub(super) struct Copier<'a> {
    from: &'a Store,
    to: &'a Store,
    wish: Wish,
    /// Reads what is the same too, so that all digests are known.
    measures: bool,
    known: Mutex<HashMap<NonZeroU128, There>>,
}

impl<'a> Copier<'a> {
    /// Lists what is there.
    pub(super) async fn new(from: &'a Store, to: &'a Store, wish: Wish) -> Result<Self, MoveError> {
        let (mut known, mut listed) = (HashMap::new(), to.list_objects(None));
        while let Some(found) = listed.recv().await {
            let Listed { key, size_bytes, modified_seconds, .. } = found.map_err(MoveError::target_list)?;
            if let Some(fingerprint) = fingerprint_of(&key).filter(|_| is_wanted(key.part(), wish)) {
                known.insert(fingerprint, There::Found { size_bytes, modified_seconds });
            }
        }
        Ok(Self { from, to, wish, measures: false, known: Mutex::new(known) })
    }

    pub(super) fn measuring(self) -> Self {
        Self { measures: true, ..self }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<NonZeroU128, There>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn there(&self, key: &Key) -> Option<There> {
        fingerprint_of(key).and_then(|key| self.known().get(&key).copied())
    }

    fn note(&self, key: &Key, digests: Option<&Digests>) {
        if let Some(key) = fingerprint_of(key) {
            self.known().insert(key, There::Ours(digests.and_then(fingerprint)));
        }
    }

    /// Looks at all objects once, documents last; with a date only at those that are new or were written since. `each` is
    /// told what came of them, of a document after what it names.
    pub(super) async fn look(
        &self,
        tally: &mut Tally,
        since: Option<i64>,
        progress: &mut impl FnMut(u64, &Key),
        each: &mut impl AsyncFnMut(&Done) -> Result<(), MoveError>,
    ) -> Result<(), MoveError> {
        for documents in [false, true] {
            let round = Round { documents, since };
            let listed = objects(self.from).map_err(MoveError::source_list);
            let visits = listed.map_ok(|listed| self.visit(listed, round)).try_buffer_unordered(AT_ONCE);
            let mut visits = std::pin::pin!(visits);
            while let Some(moved) = visits.try_next().await? {
                for done in &moved.done {
                    each(done).await?;
                }
                progress(tally.looked_at, &moved.listed);
                tally.add(moved, round);
            }
        }
        Ok(())
    }

    async fn visit(&self, listed: Listed, round: Round) -> Result<Moved, MoveError> {
        let Listed { key, size_bytes, modified_seconds, .. } = listed;
        let part = key.part();
        let is_left_out = !is_wanted(part, self.wish);
        let mut moved = Moved {
            listed: key.clone(),
            is_left_out,
            done: Vec::new(),
            wrong: Vec::new(),
            missing: Vec::new(),
            is_unreadable: false,
        };
        let is_old = round.since.is_some_and(|since| modified_seconds < since);
        if is_left_out || (part == Part::Document) != round.documents || (is_old && self.there(&key).is_some()) {
            return Ok(moved);
        }
        if part == Part::Document && size_bytes <= LARGEST_DOCUMENT_BYTES {
            self.document(&key, modified_seconds, &mut moved).await?;
        } else {
            self.object(&key, size_bytes, modified_seconds, &mut moved).await?;
        }
        Ok(moved)
    }

    /// An object that names no others. Its bytes are told by its key, or the newer ones count.
    async fn object(
        &self,
        key: &Key,
        size_bytes: u64,
        modified_seconds: i64,
        moved: &mut Moved,
    ) -> Result<(), MoveError> {
        let there = self.there(key);
        if let Some(There::Found { size_bytes: size, .. }) = there
            && size == size_bytes
            && key.part() == Part::Fixed
            && !self.measures
        {
            moved.done.push(Done { key: key.clone(), outcome: Outcome::Unchanged, digests: None });
            return Ok(());
        }
        let mut place = Place::Empty;
        if let Some(there) = there {
            let Some((ours, theirs)) = self.both(key).await? else { return Ok(()) };
            if ours == theirs {
                moved.check(key, &ours);
                moved.done.push(Done { key: key.clone(), outcome: Outcome::Unchanged, digests: Some(ours) });
                return Ok(());
            }
            let is_newer = match there {
                There::Found { modified_seconds: theirs, .. } => modified_seconds > theirs,
                There::Ours(written) => written == fingerprint(&theirs),
            };
            let is_damaged_there = is_as_key_says(key, &ours) && !is_as_key_says(key, &theirs);
            if !(is_newer || is_damaged_there || self.wish.overwrite) {
                moved.done.push(Done { key: key.clone(), outcome: Outcome::NewerThere, digests: Some(theirs) });
                return Ok(());
            }
            place = Place::Taken(theirs);
        }
        if self.wish.dry_run {
            self.note(key, None);
            let outcome = Outcome::Copied { size_bytes, is_right: true };
            moved.done.push(Done { key: key.clone(), outcome, digests: None });
            return Ok(());
        }
        let put = transfer::put(self.from, self.to, key, &place).await?;
        self.settle(key, size_bytes, put, moved);
        Ok(())
    }

    /// Both sides' digests; `None` when the source has no such object any more, or the target had none after all.
    async fn both(&self, key: &Key) -> Result<Option<(Digests, Digests)>, MoveError> {
        let (ours, theirs) = future::join(digests_of(self.from, key), digests_of(self.to, key)).await;
        match (ours, theirs) {
            (Err(storage::Error::NotFound), _) | (_, Err(storage::Error::NotFound)) => Ok(None),
            (ours, theirs) => {
                Ok(Some((ours.map_err(MoveError::source(key))?, theirs.map_err(MoveError::target(key))?)))
            }
        }
    }

    fn settle(&self, key: &Key, size_bytes: u64, put: Put, moved: &mut Moved) {
        let (outcome, digests) = match put {
            Put::Written { digests, is_right } => {
                self.note(key, Some(&digests));
                moved.check(key, &digests);
                (Outcome::Copied { size_bytes, is_right }, Some(digests))
            }
            // Whoever wrote there meanwhile is newer; the next run compares.
            Put::Beaten => (Outcome::NewerThere, None),
            Put::Gone => (Outcome::Gone, None),
        };
        moved.done.push(Done { key: key.clone(), outcome, digests });
    }

    /// Brings what a document names, unless it is there.
    async fn bring(&self, named: Named, moved: &mut Moved) -> Result<bool, MoveError> {
        let key = named.key;
        if self.there(&key).is_some() {
            return Ok(true);
        }
        let size_bytes = match self.from.size(&key).await {
            Err(storage::Error::NotFound) => return Ok(false),
            size => size.map_err(MoveError::source(&key))?,
        };
        self.object(&key, size_bytes, i64::MAX, moved).await?;
        Ok(!moved.done.iter().any(|done| done.key == key && done.outcome == Outcome::Gone))
    }

    async fn document(&self, key: &Key, modified_seconds: i64, moved: &mut Moved) -> Result<(), MoveError> {
        let there = self.there(key);
        let theirs = match there {
            Some(_) => match self.to.read(key).await {
                Err(storage::Error::NotFound) => None,
                read => Some(read.map_err(MoveError::target(key))?),
            },
            None => None,
        };
        let document = {
            let moved = &mut *moved;
            let mut bring = async |named| self.bring(named, moved).await;
            match transfer::document(self.from, key, &mut bring).await? {
                Some(document) => document,
                None => return Ok(()),
            }
        };
        moved.missing.extend(document.missing);
        moved.is_unreadable = document.is_unreadable;
        let size_bytes = document.bytes.len() as u64;
        let mut place = Place::Empty;
        if let (Some(theirs), Some(there)) = (theirs, there) {
            let digests = measure(&theirs);
            if theirs == document.bytes {
                moved.done.push(Done { key: key.clone(), outcome: Outcome::Unchanged, digests: Some(digests) });
                return Ok(());
            }
            let is_newer = match (there, date_of(&document.bytes), date_of(&theirs)) {
                (There::Ours(written), ..) if written == fingerprint(&digests) => true,
                (_, Some(ours), Some(theirs)) => ours > theirs,
                (There::Found { modified_seconds: theirs, .. }, ..) => modified_seconds > theirs,
                (There::Ours(_), ..) => false,
            };
            if !(is_newer || self.wish.overwrite) {
                moved.done.push(Done { key: key.clone(), outcome: Outcome::NewerThere, digests: Some(digests) });
                return Ok(());
            }
            place = Place::Taken(digests);
        }
        if self.wish.dry_run {
            let outcome = Outcome::Copied { size_bytes, is_right: true };
            moved.done.push(Done { key: key.clone(), outcome, digests: None });
            return Ok(());
        }
        let put = transfer::put_bytes(self.to, key, document.bytes, &place).await?;
        self.settle(key, size_bytes, put, moved);
        Ok(())
    }

    /// Removes what the source no longer has: documents first, so that none names what is gone.
    async fn prune(&self, tally: &mut Tally) -> Result<(), MoveError> {
        let seen = tally.seen.take().unwrap_or_default();
        for documents in [true, false] {
            let mut listed = self.to.list();
            while let Some(key) = listed.recv().await {
                let key = key.map_err(MoveError::target_list)?;
                let part = key.part();
                // What happened at the other store did happen: its record stays.
                let is_event = key.event_instant().is_some();
                let is_seen = || fingerprint_of(&key).is_some_and(|fingerprint| seen.contains(&fingerprint));
                if !is_wanted(part, self.wish) || (part == Part::Document) != documents || is_event || is_seen() {
                    continue;
                }
                // It may have come since the source was listed.
                match self.from.size(&key).await {
                    Err(storage::Error::NotFound) => {}
                    Ok(_) => continue,
                    Err(error) => return Err(MoveError::source(&key)(error)),
                }
                if !self.wish.dry_run {
                    match self.to.delete(&key).await {
                        Ok(()) | Err(storage::Error::NotFound) => {}
                        Err(error) => return Err(MoveError::target(&key)(error)),
                    }
                }
                tally.report.pruned += 1;
            }
        }
        Ok(())
    }
}

/// Whether an object goes along.
pub(super) fn is_wanted(part: Part, wish: Wish) -> bool {
    match part {
        Part::Document | Part::Fixed | Part::Record => true,
        Part::Cached => wish.with_cache,
        Part::Passing => false,
        Part::Foreign => !wish.ours_only,
    }
}

/// When a document says that it was changed last.
fn date_of(bytes: &[u8]) -> Option<Timestamp> {
    HostedPackument::parse(bytes).ok()?.head().modified
}

/// All objects of a store, as a stream.
pub(super) fn objects(store: &Store) -> impl Stream<Item = Result<Listed, storage::Error>> + use<> {
    let mut listed = store.list_objects(None);
    stream::poll_fn(move |context| listed.poll_recv(context))
}
