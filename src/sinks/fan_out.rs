//! Telling the hooks of accounts (`npm hook`) what happens.
//!
//! One reader, in one process at a time, goes through the record and finds out which hooks want what it finds. It tells nobody:
//! of a hook that wants something it notes that the hook is behind, and since where. Each hook that is behind is then told at
//! its own pace, from its own place in the record up to the reader's. So one that is slow, or fails, delays no other; nothing is
//! kept of it but its place; and when it has failed too often it is off, until its owner points it somewhere again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use serde_json::value::RawValue;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use super::deliver::{BATCHES, LOOK, Rest, TURN, repeatedly, rest, unreadable};
use super::message::Failure;
use super::state::{Book, BookError, Cursor, Lane, State, Turn};
use super::{BuildError, Common, http, npm_hook};
use crate::events::{Event, Position, Record};
use crate::hooks::{self, Audience, Hearing, Hook, Hooks, Report, TargetKind};
use crate::keys;
use crate::npm::{PackageName, Timestamp};
use crate::random;
use crate::storage;

/// Hooks that are told at once.
const AT_ONCE: usize = 32;
/// After so many requests, or so long, a hook makes room for others, and what it has got is written down.
const STEP: usize = 20;
const STEP_TIME: Duration = Duration::from_secs(5);
/// How often it is looked at the lease, and at what has become of the hooks themselves.
const TICK: Duration = Duration::from_secs(10);
/// How long a hook waits when nobody knows what its account may read.
const UNKNOWN_PAUSE: Duration = Duration::from_mins(15);

/// The hooks of accounts, ready to be told.
pub(super) struct FanOut {
    hooks: Hooks,
    audience: Arc<dyn Audience>,
    recorded: watch::Receiver<()>,
    client: reqwest::Client,
    common: Common,
    record: Record,
    book: Book,
    /// Held while this process delivers.
    delivering: Mutex<()>,
}

/// Why nothing can be delivered now.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Book(#[from] BookError),
    #[error(transparent)]
    Hooks(#[from] hooks::Error),
}

impl From<storage::Error> for Trouble {
    fn from(error: storage::Error) -> Self {
        Self::Book(error.into())
    }
}

/// How a walk through the record ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The hook has got all that the reader had read.
    CaughtUp,
    /// There is more, now or later.
    Behind,
    /// It failed too often.
    Off,
    /// Its account is no more.
    Gone,
}

/// What came of a walk.
struct Walked {
    id: String,
    lane: Lane,
    /// How far the reader was.
    upto: Position,
    end: End,
}

/// What came of telling a hook one event.
enum Told {
    /// It is not for it, or not any more.
    Nothing,
    /// So many requests arrived, the last with this status.
    Arrived(u64, u16),
    /// A request failed; with the status, if there was an answer.
    Failed(u16, Failure),
    /// Nobody knows now whether the account may hear of it.
    Unknown,
    /// The account is no more.
    Gone,
    /// We cannot read what is ours to read, or are to end.
    Broken(String),
}

impl FanOut {
    pub(super) fn new(
        hooks: Hooks,
        audience: Arc<dyn Audience>,
        recorded: watch::Receiver<()>,
        common: Common,
    ) -> Result<Self, BuildError> {
        let settings = hooks.settings();
        let client = http::client_for_accounts(settings.timeout, settings.allow_private)
            .map_err(|source| BuildError::Client { name: "npm hook".to_owned(), source })?;
        Ok(Self {
            book: Book::new(common.store.clone(), keys::told_hooks(), &common.holder, settings.timeout),
            record: Record::new(common.store.clone()),
            hooks,
            audience,
            recorded,
            client,
            common,
            delivering: Mutex::default(),
        })
    }

    pub(super) async fn keep_delivering(&self, stop: &CancellationToken) {
        repeatedly(self.recorded.clone(), stop, || self.deliver(stop)).await;
    }

    /// Delivers what there is, to each hook that need not wait. When told to stop, what is under way is broken off and told
    /// again the next time.
    pub(super) async fn deliver(&self, stop: &CancellationToken) -> Rest {
        let _held = self.delivering.lock().await;
        match self.take_turn(stop).await {
            Ok(rest) => rest,
            // Another process was quicker.
            Err(Trouble::Book(BookError::Lost)) => Rest::For(TURN),
            Err(error) => {
                tracing::warn!(%error, "the hooks of accounts cannot be told now: it is tried again");
                Rest::For(LOOK)
            }
        }
    }

    fn now(&self) -> Timestamp {
        self.common.clock.now()
    }

    async fn take_turn(&self, stop: &CancellationToken) -> Result<Rest, Trouble> {
        let hooks = self.hooks.all().await?;
        let Some(since) = hooks.iter().map(|hook| hook.created).min() else { return Ok(Rest::UntilRecorded) };
        // Looking costs less than taking the turn, which writes.
        if let Some(state) = self.book.read().await? {
            let now = self.now();
            let turn = state.turn(&self.common.holder, now);
            if turn != Turn::Ours {
                return Ok(rest(turn, now));
            }
            let is_read = self.record.batches_after(&state.cursor.position, 1).await?.is_empty();
            if is_read && !state.hooks.values().any(|lane| lane.is_due(now)) {
                return Ok(until_due(&state, now));
            }
        }
        let (turn, mut state) = self.book.claim(since, self.now()).await?;
        if turn != Turn::Ours {
            return Ok(rest(turn, self.now()));
        }
        let outcome = self.deliver_all(&mut state, stop).await;
        if let Err(Trouble::Book(BookError::Lost)) = outcome {
            return outcome.map(|()| Rest::UntilRecorded);
        }
        // Whatever stopped us: what arrived is not told again if this write is done.
        self.book.release(&mut state).await?;
        outcome.map(|()| until_due(&state, self.now()))
    }

    /// Reads on and has hooks told, until all are where the reader is or have to wait.
    async fn deliver_all(&self, state: &mut State, stop: &CancellationToken) -> Result<(), Trouble> {
        let (mut walking, mut under_way) = (FuturesUnordered::new(), BTreeSet::new());
        let (mut started, mut count) = (BTreeMap::new(), 0_u64);
        let mut recorded = self.recorded.clone();
        loop {
            let (mut has_more, is_stopped) = (false, stop.is_cancelled());
            if !is_stopped {
                recorded.mark_unchanged();
                let hooks = self.hooks.all().await?;
                has_more = self.read_on(state, &hooks).await?;
                for hook in due(&hooks, state, &under_way, &started, self.now()) {
                    let Some(lane) = state.hooks.get(&hook.id).filter(|_| walking.len() < AT_ONCE) else { break };
                    count += 1;
                    started.insert(hook.id.clone(), count);
                    under_way.insert(hook.id.clone());
                    walking.push(self.walk(hook.clone(), lane.clone(), state.cursor.position.clone(), stop));
                }
            }
            if walking.is_empty() && !has_more {
                return Ok(());
            }
            let walked = tokio::select! {
                walked = walking.next(), if !walking.is_empty() => walked,
                Ok(()) = recorded.changed(), if !is_stopped => None,
                () = stop.cancelled(), if !is_stopped => None,
                () = tokio::time::sleep(if has_more { Duration::ZERO } else { TICK }) => None,
            };
            if let Some(walked) = walked {
                under_way.remove(&walked.id);
                if walked.end == End::Gone {
                    self.hooks.forget(vec![walked.id.clone()]).await?;
                }
                settle(state, walked);
                self.book.save(state, self.now()).await?;
            } else if has_more || state.must_be_saved(self.now()) {
                self.book.save(state, self.now()).await?;
            }
        }
    }

    /// Reads some of the record, and notes which hooks are behind by it. True when there may be more.
    async fn read_on(&self, state: &mut State, hooks: &[Hook]) -> Result<bool, Trouble> {
        know(state, hooks);
        let batches = self.record.batches_after(&state.cursor.position, BATCHES).await?;
        for batch in &batches {
            for event in self.record.batch(batch).await? {
                let Some(name) = told_package(&event) else { continue };
                let by_owner = hooks.iter().any(|hook| hook.target.kind == TargetKind::Owner);
                let owners = if by_owner { self.common.documents.owners(name.as_str()).await? } else { Vec::new() };
                for hook in hooks.iter().filter(|hook| is_for(hook, &event, &name, &owners)) {
                    if let Some(lane) = state.hooks.get_mut(&hook.id).filter(|lane| !lane.report.is_off) {
                        lane.behind.get_or_insert_with(|| state.cursor.clone());
                    }
                }
            }
            state.cursor.pass(batch);
        }
        Ok(batches.len() == BATCHES)
    }

    /// Tells a hook what it has not got, up to where the reader is.
    async fn walk(&self, hook: Hook, mut lane: Lane, upto: Position, stop: &CancellationToken) -> Walked {
        let end = match lane.behind.take() {
            Some(mut cursor) => {
                let end = self.walk_on(&hook, &mut lane, &mut cursor, &upto, stop).await;
                lane.behind = (end != End::Off).then_some(cursor);
                end
            }
            None => End::CaughtUp,
        };
        Walked { id: hook.id, lane, upto, end }
    }

    async fn walk_on(
        &self,
        hook: &Hook,
        lane: &mut Lane,
        cursor: &mut Cursor,
        upto: &Position,
        stop: &CancellationToken,
    ) -> End {
        let (began, mut steps) = (Instant::now(), 0);
        loop {
            let listed = match self.record.batches_after(&cursor.position, BATCHES).await {
                Ok(listed) => listed,
                Err(error) => return self.try_later(lane, &error),
            };
            let is_all = listed.len() < BATCHES;
            // What the reader has not read yet, he will find out whose it is.
            let batches: Vec<_> = listed.into_iter().filter(|batch| upto.has_passed(batch)).collect();
            if batches.is_empty() {
                return if is_all { End::CaughtUp } else { End::Behind };
            }
            for batch in batches {
                let events = match self.record.batch(&batch).await {
                    Ok(events) => events,
                    Err(error) => return self.try_later(lane, &error),
                };
                for (at, event) in events.iter().enumerate().skip(cursor.done_of(&batch)) {
                    let told = tokio::select! {
                        told = self.tell(hook, event) => told,
                        () = stop.cancelled() => return End::Behind,
                    };
                    steps += usize::from(!matches!(told, Told::Nothing));
                    if let Some(end) = self.note(hook, lane, told) {
                        return end;
                    }
                    cursor.begin(&batch, at + 1);
                    if steps >= STEP || began.elapsed() > STEP_TIME {
                        return End::Behind;
                    }
                }
                cursor.pass(&batch);
            }
        }
    }

    /// It is none of the hook's failures.
    fn try_later(&self, lane: &mut Lane, error: &dyn std::error::Error) -> End {
        tracing::warn!(%error, "a hook cannot be told now: it is tried again");
        lane.tries.next_try = Some(self.now().plus(LOOK));
        End::Behind
    }

    /// Notes what came of an event; the end of the walk, where it is that.
    fn note(&self, hook: &Hook, lane: &mut Lane, told: Told) -> Option<End> {
        let now = self.now();
        match told {
            Told::Nothing => None,
            Told::Arrived(requests, status) => {
                lane.tries = super::state::Tries::default();
                lane.report.last_attempt = Some(now);
                lane.report.response_code = status;
                lane.report.delivered += requests;
                None
            }
            Told::Failed(status, failure) => {
                lane.report.last_attempt = Some(now);
                lane.report.response_code = status;
                let failures = lane.tries.failed(&failure);
                if failures >= self.hooks.settings().tries {
                    lane.report.is_off = true;
                    tracing::warn!(hook.id, hook.username, %failure, failures, "a hook failed too often and is off");
                    return Some(End::Off);
                }
                tracing::debug!(hook.id, hook.username, %failure, failures, "a hook failed");
                if matches!(failure, Failure::Lasting { .. }) {
                    // What it does not take now it will never take.
                    return None;
                }
                lane.tries.wait(&failure, now, random::fraction());
                Some(End::Behind)
            }
            Told::Unknown => {
                lane.tries.next_try = Some(now.plus(UNKNOWN_PAUSE));
                Some(End::Behind)
            }
            Told::Gone => Some(End::Gone),
            Told::Broken(why) => {
                tracing::warn!(hook.id, why, "a hook cannot be told now: it is tried again");
                lane.tries.next_try = Some(now.plus(LOOK));
                Some(End::Behind)
            }
        }
    }

    /// Tells a hook of an event, if it is for it and its account may read the package now.
    async fn tell(&self, hook: &Hook, event: &Event) -> Told {
        let Some(name) = told_package(event) else { return Told::Nothing };
        let owners = match hook.target.kind {
            TargetKind::Owner => match self.common.documents.owners(name.as_str()).await {
                Ok(owners) => owners,
                Err(error) => return Told::Broken(unreadable(&error).to_string()),
            },
            TargetKind::Package | TargetKind::Scope => Vec::new(),
        };
        if !is_for(hook, event, &name, &owners) {
            return Told::Nothing;
        }
        match self.audience.hearing(&hook.username, hook.created, &name).await {
            Ok(Hearing::May) => self.send(hook, event, &name).await,
            Ok(Hearing::MayNot) => Told::Nothing,
            Ok(Hearing::Unknown) => Told::Unknown,
            Ok(Hearing::Gone) => Told::Gone,
            Err(why) => Told::Broken(why),
        }
    }

    async fn send(&self, hook: &Hook, event: &Event, name: &PackageName) -> Told {
        let url = match hook.url(self.hooks.settings()) {
            Ok(url) => url,
            Err(why) => return Told::Failed(0, Failure::passing(format!("the address {why}"))),
        };
        let document = match self.common.documents.public(name.as_str()).await {
            Ok(document) => document.and_then(|bytes| serde_json::from_slice::<Box<RawValue>>(&bytes).ok()),
            Err(error) => return Told::Broken(unreadable(&error).to_string()),
        };
        let document = document.as_deref().unwrap_or(RawValue::NULL);
        let signing =
            npm_hook::Signing { kind: hook.target.kind.as_str(), owner: &hook.username, secret: &hook.secret };
        let (mut requests, mut status) = (0, 0);
        for change in npm_hook::changes(event) {
            let message = match npm_hook::message(event, change, document, &signing) {
                Ok(message) => message,
                Err(failure) => return Told::Failed(0, failure),
            };
            let (answered, outcome) = http::post_json_for_status(&self.client, &url, message).await;
            status = answered.map_or(0, |status| status.as_u16());
            if let Err(failure) = outcome {
                return Told::Failed(status, failure);
            }
            requests += 1;
        }
        Told::Arrived(requests, status)
    }
}

/// The package of an event that npm has words for.
fn told_package(event: &Event) -> Option<PackageName> {
    let name = event.package.as_ref().filter(|_| !npm_hook::changes(event).is_empty())?;
    name.parse().ok()
}

/// Whether an event is for a hook, whatever its account may read.
fn is_for(hook: &Hook, event: &Event, name: &PackageName, owners: &[String]) -> bool {
    let is_news = event.at.parse::<Timestamp>().is_ok_and(|at| at >= hook.created);
    is_news && hook.target.has(name, owners)
}

/// Brings what is known of the hooks up to what hooks there are now.
fn know(state: &mut State, hooks: &[Hook]) {
    state.hooks.retain(|id, _| hooks.iter().any(|hook| hook.id == *id));
    let earliest = hooks.iter().map(|hook| hook.created).min();
    // While there were none, nobody read.
    if let Some(earliest) =
        earliest.filter(|earliest| state.hooks.is_empty() && state.cursor.position.is_before(*earliest))
    {
        state.cursor = Cursor::at(earliest);
    }
    for hook in hooks {
        let lane = state.hooks.entry(hook.id.clone()).or_default();
        if lane.report.revision != hook.revision {
            let report = Report { revision: hook.revision, ..Report::default() };
            *lane = Lane { report, behind: lane.behind.take(), ..Lane::default() };
        }
    }
}

/// The hooks that can be told something now and are not being told, those first that were told longest ago.
fn due<'a>(
    hooks: &'a [Hook],
    state: &State,
    under_way: &BTreeSet<String>,
    started: &BTreeMap<String, u64>,
    now: Timestamp,
) -> Vec<&'a Hook> {
    let is_due =
        |hook: &&Hook| !under_way.contains(&hook.id) && state.hooks.get(&hook.id).is_some_and(|lane| lane.is_due(now));
    let mut due: Vec<&Hook> = hooks.iter().filter(is_due).collect();
    due.sort_by_key(|hook| started.get(&hook.id).copied().unwrap_or(0));
    due
}

/// Puts into the state what came of a walk. The reader may have gone on meanwhile, and the hook be pointed elsewhere.
fn settle(state: &mut State, walked: Walked) {
    let is_there = walked.upto == state.cursor.position;
    let Some(lane) = state.hooks.get_mut(&walked.id) else { return };
    if lane.report.revision == walked.lane.report.revision {
        *lane = walked.lane;
    } else if let Some(cursor) = walked.lane.behind {
        lane.behind = Some(cursor);
    }
    if walked.end == End::CaughtUp && is_there {
        lane.behind = None;
    }
}

/// Until something is recorded, or a hook is tried again.
fn until_due(state: &State, now: Timestamp) -> Rest {
    let waiting = state.hooks.values().filter(|lane| lane.behind.is_some()).map(|lane| lane.tries.next_try);
    match waiting.map(|next| next.map_or(Duration::ZERO, |next| next.since(now))).min() {
        Some(pause) => Rest::UntilRecordedOr(pause),
        None => Rest::UntilRecorded,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::{Destination, Owner, Settings, Target};
    use crate::storage::Store;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    async fn hook(store: &Store, created: i64) -> Hook {
        let settings = Settings { is_on: true, ..Settings::default() };
        let destination = Destination::new(&settings, "https://ci.example.com/", "hush").unwrap();
        let owner = Owner { name: "ann".to_owned(), since: at(0) };
        let target = Target::new("package", "tool").unwrap();
        Hooks::new(store.clone(), settings).add(&owner, target, destination, at(created)).await.unwrap()
    }

    async fn state(store: &Store) -> State {
        Book::new(store.clone(), keys::told_hooks(), "a", LOOK).claim(at(0), at(0)).await.unwrap().1
    }

    #[tokio::test]
    async fn a_hook_that_caught_up_while_the_reader_went_on_is_still_behind() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let (hook, mut state) = (hook(&store, 5).await, state(&store).await);
        know(&mut state, std::slice::from_ref(&hook));
        assert!(!state.cursor.position.is_before(at(5)), "what was before the first hook is not read");
        let batch = |millis| keys::event_batch(at(millis), "0a");
        let lane_at = |state: &State| Lane {
            report: Report { revision: 1, delivered: 1, ..Report::default() },
            behind: Some(state.cursor.clone()),
            ..Lane::default()
        };
        let walked = |state: &State| Walked {
            id: hook.id.clone(),
            lane: lane_at(state),
            upto: state.cursor.position.clone(),
            end: End::CaughtUp,
        };
        let early = walked(&state);
        state.cursor.pass(&batch(1_000_000));
        settle(&mut state, early);
        assert!(state.hooks[&hook.id].is_due(at(0)));
        let late = walked(&state);
        settle(&mut state, late);
        assert!(!state.hooks[&hook.id].is_due(at(0)));
        assert_eq!(until_due(&state, at(0)), Rest::UntilRecorded);
    }

    #[tokio::test]
    async fn a_hook_that_was_pointed_elsewhere_begins_anew_and_keeps_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let (mut hook, mut state) = (hook(&store, 5).await, state(&store).await);
        know(&mut state, std::slice::from_ref(&hook));
        let cursor = state.cursor.clone();
        let lane = state.hooks.get_mut(&hook.id).unwrap();
        lane.behind = Some(cursor.clone());
        lane.tries.failed(&Failure::passing("it is away"));
        let old = Walked {
            id: hook.id.clone(),
            lane: Lane { behind: None, ..lane.clone() },
            upto: cursor.position.clone(),
            end: End::Off,
        };
        hook.revision += 1;
        know(&mut state, std::slice::from_ref(&hook));
        settle(&mut state, old);
        let lane = &state.hooks[&hook.id];
        assert_eq!((lane.tries.failures, lane.behind.as_ref()), (0, Some(&cursor)));
        know(&mut state, &[]);
        assert!(state.hooks.is_empty());
    }
}
