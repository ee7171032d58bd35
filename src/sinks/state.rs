//! How far a sink has got. One object, changed under a condition, so that of several processes one delivers at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::message::Failure;
use crate::events::{Event, Position};
use crate::hooks::Report;
use crate::keys::Key;
use crate::npm::Timestamp;
use crate::storage::{self, Change, Store, UpdateError};

/// A lease beyond the time that one request may take: whoever holds it says so again long before.
const LEASE: Duration = Duration::from_mins(1);
/// The first pause after a failure; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_hours(1);
/// What is kept of an error.
const MAX_ERROR_CHARACTERS: usize = 500;

/// What is stored of a sink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// When the sink was first there: what happened before is not for it.
    pub(super) since: Timestamp,
    #[serde(flatten)]
    pub(super) cursor: Cursor,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lease: Option<Lease>,
    #[serde(flatten)]
    pub(super) tries: Tries,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) last_delivery: Option<Timestamp>,
    /// Events.
    #[serde(default)]
    pub(super) delivered: u64,
    /// How often an operator asked for the dead letters once more, and how many of these wishes were granted: the one is
    /// written by operators, the other by whoever delivers, and neither takes the other's back.
    #[serde(default)]
    retries_asked: u64,
    #[serde(default)]
    retries_done: u64,
    /// Where the hooks of accounts are told: each by its id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) hooks: BTreeMap<String, Lane>,
}

/// How far the record was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cursor {
    pub(super) position: Position,
    /// The batch that is being delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    begun: Option<Begun>,
}

/// What came of the last tries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tries {
    /// In a row, of what is to be delivered next.
    #[serde(default)]
    pub(super) failures: u32,
    /// Not before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) next_try: Option<Timestamp>,
    /// For operators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) last_error: Option<String>,
}

/// How one hook of an account is. One that has got all that was read has no cursor: it is where the reader is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lane {
    /// For its owner.
    #[serde(flatten)]
    pub(super) report: Report,
    #[serde(flatten)]
    pub(super) tries: Tries,
    /// How far it has got, where it has not got all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) behind: Option<Cursor>,
}

/// A batch of the record, some of whose events were delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Begun {
    batch: String,
    done: usize,
}

/// Who delivers, and until when nobody else does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Lease {
    holder: String,
    until: Timestamp,
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Ours.
    Ours,
    /// Another process's, until then.
    Others(Timestamp),
    /// Nobody's before that.
    NotBefore(Timestamp),
}

/// Events that were given up.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct DeadLetter {
    pub(super) at: Timestamp,
    pub(super) error: String,
    pub(super) events: Vec<Event>,
}

impl State {
    fn new(since: Timestamp) -> Self {
        Self {
            since,
            cursor: Cursor::at(since),
            lease: None,
            tries: Tries::default(),
            last_delivery: None,
            delivered: 0,
            retries_asked: 0,
            retries_done: 0,
            hooks: BTreeMap::new(),
        }
    }

    pub(super) fn turn(&self, holder: &str, now: Timestamp) -> Turn {
        match (&self.lease, self.tries.next_try) {
            (Some(lease), _) if lease.holder != holder && lease.until > now => Turn::Others(lease.until),
            // An operator's wish is not made to wait.
            (_, Some(next)) if next > now && !self.wants_retry() => Turn::NotBefore(next),
            _ => Turn::Ours,
        }
    }

    /// Whether the dead letters are to be tried once more.
    pub(super) fn wants_retry(&self) -> bool {
        self.retries_asked > self.retries_done
    }

    pub(super) fn retry_done(&mut self) {
        self.retries_done = self.retries_asked;
    }

    pub(super) fn arrived(&mut self, events: usize, now: Timestamp) {
        self.tries = Tries::default();
        self.last_delivery = Some(now);
        self.delivered += events as u64;
    }

    /// Notes a failure. True when it is to be given up.
    pub(super) fn failed(&mut self, failure: &Failure, tries: u32, now: Timestamp, chance: f64) -> bool {
        let failures = self.tries.failed(failure);
        let is_given_up = matches!(failure, Failure::Lasting { .. }) || failures >= tries;
        if is_given_up {
            self.tries.failures = 0;
        } else {
            self.tries.wait(failure, now, chance);
        }
        is_given_up
    }

    /// Whether half of the lease is over.
    pub(super) fn must_be_saved(&self, now: Timestamp) -> bool {
        self.lease.as_ref().is_none_or(|lease| now.plus(LEASE / 2) > lease.until)
    }
}

impl Cursor {
    /// Before the first event that is not older than an instant.
    pub(super) fn at(instant: Timestamp) -> Self {
        Self { position: Position::at(instant), begun: None }
    }

    /// How many of the wanted events of a batch were delivered.
    pub(super) fn done_of(&self, batch: &Key) -> usize {
        self.begun.as_ref().filter(|begun| begun.batch == batch.as_str()).map_or(0, |begun| begun.done)
    }

    pub(super) fn begin(&mut self, batch: &Key, done: usize) {
        self.begun = Some(Begun { batch: batch.to_string(), done });
    }

    pub(super) fn pass(&mut self, batch: &Key) {
        self.begun = None;
        self.position.pass(batch);
    }
}

impl Tries {
    /// Notes a failure. How many there were in a row.
    pub(super) fn failed(&mut self, failure: &Failure) -> u32 {
        self.failures += 1;
        self.next_try = None;
        self.last_error = Some(failure.to_string().chars().take(MAX_ERROR_CHARACTERS).collect());
        self.failures
    }

    /// Lets some time go by before the next try, as the failures in a row and the wish of whoever failed have it.
    pub(super) fn wait(&mut self, failure: &Failure, now: Timestamp, chance: f64) {
        let wish = match failure {
            Failure::Passing { wait: Some(wait), .. } => *wait,
            _ => Duration::ZERO,
        };
        self.next_try = Some(now.plus(pause(self.failures, chance).max(wish)));
    }
}

impl Lane {
    /// Whether there is something to be told that need not wait.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        self.behind.is_some() && self.tries.next_try.is_none_or(|next| next <= now)
    }
}

/// The pause after so many failures: it doubles, and half of it is left to `chance`, from 0 to 1, so that many sinks of one
/// receiver do not come back at once.
fn pause(failures: u32, chance: f64) -> Duration {
    let whole = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(LONGEST_PAUSE);
    whole / 2 + (whole / 2).mul_f64(chance)
}

/// Why a state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// The store's failure.
    #[error(transparent)]
    Store(#[from] storage::Error),
    /// It is none of ours.
    #[error("the state of the sink cannot be read")]
    Damaged,
    /// Another process delivers now.
    #[error("another process delivers to the sink now")]
    Lost,
}

impl From<UpdateError<BookError>> for BookError {
    fn from(error: UpdateError<BookError>) -> Self {
        match error {
            UpdateError::Refused(error) => error,
            UpdateError::Store(error) => Self::Store(error),
        }
    }
}

/// Reads and writes the state of one sink, as one process.
#[derive(Debug)]
pub(super) struct Book {
    store: Store,
    key: Key,
    holder: String,
    lasts: Duration,
}

impl Book {
    /// `key` is where the state lies, `timeout` is of one request.
    pub(super) fn new(store: Store, key: Key, holder: &str, timeout: Duration) -> Self {
        Self { store, key, holder: holder.to_owned(), lasts: LEASE + timeout }
    }

    /// The state; `None` where there is none yet.
    pub(super) async fn read(&self) -> Result<Option<State>, BookError> {
        match self.store.read(&self.key).await {
            Ok(bytes) => Ok(Some(parse(&bytes)?)),
            Err(storage::Error::NotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the turn, if it is ours to take, and makes the state where there is none. Durable when it returns.
    pub(super) async fn claim(&self, since: Timestamp, now: Timestamp) -> Result<(Turn, State), BookError> {
        let (holder, until) = (self.holder.clone(), now.plus(self.lasts));
        let change = move |stored: Option<Bytes>| {
            let mut state = stored.as_deref().map(parse).transpose()?.unwrap_or_else(|| State::new(since));
            let turn = state.turn(&holder, now);
            if turn != Turn::Ours {
                return Ok(Change::Keep((turn, state)));
            }
            state.lease = Some(Lease { holder, until });
            Ok::<_, BookError>(Change::Write(written(&state)?, (turn, state)))
        };
        Ok(self.store.update(&self.key, change).await?)
    }

    /// Writes how far we got, and keeps the turn. Refused when another process has taken it. Durable when it returns.
    pub(super) async fn save(&self, state: &mut State, now: Timestamp) -> Result<(), BookError> {
        let lease = Lease { holder: self.holder.clone(), until: now.plus(self.lasts) };
        self.write(state, Some(lease)).await
    }

    /// The same, and lets others have the turn.
    pub(super) async fn release(&self, state: &mut State) -> Result<(), BookError> {
        self.write(state, None).await
    }

    async fn write(&self, state: &mut State, lease: Option<Lease>) -> Result<(), BookError> {
        state.lease = lease;
        let (mut next, holder) = (state.clone(), self.holder.clone());
        let change = move |stored: Option<Bytes>| {
            let current: State = stored.as_deref().map(parse).transpose()?.ok_or(BookError::Lost)?;
            if current.lease.is_none_or(|lease| lease.holder != holder) {
                return Err(BookError::Lost);
            }
            next.retries_asked = current.retries_asked;
            Ok(Change::Write(written(&next)?, next.retries_asked))
        };
        state.retries_asked = self.store.update(&self.key, change).await?;
        Ok(())
    }

    /// Notes that the dead letters are wanted once more. Durable when it returns.
    pub(super) async fn ask_for_retry(&self, since: Timestamp) -> Result<(), BookError> {
        let change = move |stored: Option<Bytes>| {
            let mut state = stored.as_deref().map(parse).transpose()?.unwrap_or_else(|| State::new(since));
            state.retries_asked += 1;
            Ok::<_, BookError>(Change::Write(written(&state)?, ()))
        };
        Ok(self.store.update(&self.key, change).await?)
    }

    /// Puts events aside that were given up. Durable when it returns; they are there twice when we are cut off before the state
    /// says that they are done with.
    pub(super) async fn bury(&self, grave: &Key, letter: &DeadLetter) -> Result<(), BookError> {
        let bytes = serde_json::to_vec(letter).map_err(|_| BookError::Damaged)?;
        Ok(self.store.create(grave, bytes.into()).await?)
    }
}

fn parse(bytes: &[u8]) -> Result<State, BookError> {
    serde_json::from_slice(bytes).map_err(|_| BookError::Damaged)
}

fn written(state: &State) -> Result<Bytes, BookError> {
    serde_json::to_vec(state).map(Bytes::from).map_err(|_| BookError::Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000_000;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn pauses_double_up_to_an_hour() {
        assert_eq!(pause(1, 0.0), Duration::from_millis(500));
        assert_eq!(pause(1, 1.0), Duration::from_secs(1));
        assert_eq!(pause(5, 1.0), Duration::from_secs(16));
        for failures in [13, 40, u32::MAX] {
            assert_eq!(pause(failures, 1.0), LONGEST_PAUSE);
        }
    }

    #[test]
    fn what_never_arrives_is_given_up() {
        let mut state = State::new(at(NOW));
        let passing = Failure::passing("it answered with status 500");
        assert!(!state.failed(&passing, 3, at(NOW), 1.0));
        assert_eq!(state.turn("a", at(NOW)), Turn::NotBefore(at(NOW + 1000)));
        assert_eq!(state.turn("a", at(NOW + 1000)), Turn::Ours);
        let busy = Failure::Passing { why: "busy".to_owned(), wait: Some(Duration::from_mins(2)) };
        assert!(!state.failed(&busy, 3, at(NOW), 1.0));
        assert_eq!(state.tries.next_try, Some(at(NOW + 120_000)));
        assert!(state.failed(&passing, 3, at(NOW), 1.0));
        assert_eq!((state.tries.failures, state.tries.next_try), (0, None));
        assert!(state.failed(&Failure::Lasting { why: "gone".to_owned() }, 3, at(NOW), 1.0));
        assert_eq!(state.tries.last_error.as_deref(), Some("gone"));
        state.arrived(2, at(NOW));
        assert_eq!((state.tries.last_error, state.delivered), (None, 2));
    }

    #[test]
    fn a_state_is_stored_as_ever() {
        let text = r#"{"since":"2026-11-30T00:00:00.000Z","position":{"upto_millis":7,"read":["-/events/x"]},"begun":{"batch":"b","done":2},"failures":3,"next_try":"2026-11-30T00:00:01.000Z","last_error":"gone","delivered":9,"retries_asked":1,"retries_done":1}"#;
        let state: State = serde_json::from_str(text).unwrap();
        assert_eq!((state.tries.failures, state.delivered), (3, 9));
        let (stored, again): (serde_json::Value, serde_json::Value) =
            (serde_json::from_str(text).unwrap(), serde_json::to_value(&state).unwrap());
        assert_eq!(stored, again);
    }

    #[test]
    fn one_process_has_the_turn_until_its_lease_is_over() {
        let mut state = State::new(at(NOW));
        state.lease = Some(Lease { holder: "a".to_owned(), until: at(NOW + 60_000) });
        assert_eq!(state.turn("a", at(NOW)), Turn::Ours);
        assert_eq!(state.turn("b", at(NOW)), Turn::Others(at(NOW + 60_000)));
        assert_eq!(state.turn("b", at(NOW + 60_000)), Turn::Ours);
        assert!(!state.must_be_saved(at(NOW + 20_000)) && state.must_be_saved(at(NOW + 40_000)));
    }
}
