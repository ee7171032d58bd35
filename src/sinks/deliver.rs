//! From the record to one sink.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use object_store::aws::AwsCredentialProvider;
use serde_json::value::RawValue;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use super::documents::Documents;
use super::message::{Failure, Message};
use super::seen::{Seen, Sight, What};
use super::settings::{IndexFormat, SinkKind, SinkSettings, SnsFormat};
use super::state::{Book, BookError, DeadLetter, State, Turn};
use super::{BuildError, Condition, Sent, Status, file, http, insights, npm_hook, slack, sns, webhook};
use crate::clock::Clock;
use crate::events::{Event, Kind, Position, Record};
use crate::keys::{self, Key};
use crate::npm::{PackageName, Timestamp};
use crate::random;
use crate::secret::Secret;
use crate::storage::{self, Store};
use crate::traces;

/// How often it is looked for what other processes have recorded, and for what is to be tried again.
pub(super) const LOOK: Duration = Duration::from_secs(30);
/// How soon another process's turn is looked after: it takes moments as a rule.
pub(super) const TURN: Duration = Duration::from_secs(2);
/// How long an event may wait before that is worth a word.
const BEHIND: Duration = Duration::from_mins(15);
/// Batches of the record that are listed at once.
pub(super) const BATCHES: usize = 16;
/// Batches without an event for the sink after which it is written down that they were read.
const PASSED: usize = 256;
/// Lines of one message to people.
const LINES: usize = 20;
/// Events that are written to a file at once.
const FILED: usize = 500;
/// How often [`Sink::send_now`] tries.
const TRIES_NOW: u32 = 3;
/// A dead letter has the events of one request.
const MAX_LETTER_BYTES: u64 = 64 << 20;

/// A sink, ready to be told.
pub(super) struct Sink {
    settings: SinkSettings,
    client: reqwest::Client,
    /// Of AWS, where it is a topic.
    credentials: Option<AwsCredentialProvider>,
    documents: Documents,
    store: Store,
    record: Record,
    book: Book,
    clock: Clock,
    holder: Arc<str>,
    /// When this process began: a sink that is new here is told what happens from then on.
    since: Timestamp,
    /// What is in no record, where the sink wants it.
    seen: Option<Seen>,
    /// Held while this process delivers.
    delivering: Mutex<()>,
    /// When the oldest batch that is not delivered was written, in milliseconds since 1970; 0 where there is none.
    waiting_since: AtomicI64,
    /// Whether the last delivery failed, whoever tried it.
    is_failing: AtomicBool,
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sink").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// When to look again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// When something is recorded, or after a while.
    UntilRecorded,
    /// When something is recorded, or after so long.
    UntilRecordedOr(Duration),
    /// Not before so long.
    For(Duration),
}

/// Delivers until told to stop: when something is recorded, as `recorded` tells, or when it is time again.
pub(super) async fn repeatedly<F: Future<Output = Rest>>(
    mut recorded: watch::Receiver<()>,
    stop: &CancellationToken,
    deliver: impl Fn() -> F,
) {
    while !stop.is_cancelled() {
        recorded.mark_unchanged();
        let (pause, is_idle) = match deliver().await {
            Rest::UntilRecorded => (LOOK, true),
            Rest::UntilRecordedOr(pause) => (pause.min(LOOK), true),
            Rest::For(pause) => (pause, false),
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            Ok(()) = recorded.changed(), if is_idle => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Why a delivery stopped before all was delivered.
#[derive(Debug, thiserror::Error)]
enum Halt {
    #[error(transparent)]
    Book(#[from] BookError),
    /// It is tried again later; the state says when.
    #[error("it is tried again")]
    Later,
    /// We are to end.
    #[error("the server stops")]
    Stopped,
}

impl From<storage::Error> for Halt {
    fn from(error: storage::Error) -> Self {
        Self::Book(error.into())
    }
}

impl Sink {
    pub(super) fn new(
        settings: SinkSettings,
        store: Store,
        clock: Clock,
        documents: Documents,
        holder: Arc<str>,
    ) -> Result<Self, BuildError> {
        let name = || settings.name.clone();
        let client = http::client(settings.timeout).map_err(|source| BuildError::Client { name: name(), source })?;
        let credentials = match &settings.kind {
            SinkKind::Sns { topic, .. } => {
                Some(sns::credentials(topic).map_err(|source| BuildError::Credentials { name: name(), source })?)
            }
            _ => None,
        };
        Ok(Self {
            client,
            credentials,
            documents,
            record: Record::new(store.clone()),
            book: Book::new(store.clone(), keys::sink(&settings.name), &holder, settings.timeout),
            since: clock.now(),
            seen: matches!(settings.kind, SinkKind::Insights { .. }).then(Seen::default),
            delivering: Mutex::default(),
            waiting_since: AtomicI64::new(0),
            is_failing: AtomicBool::new(false),
            settings,
            store,
            clock,
            holder,
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.settings.name
    }

    /// How long the oldest event waits that is not delivered, as far as this process knows.
    pub(super) fn lag(&self) -> Duration {
        match self.waiting_since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => {
                let millis = self.clock.now().as_millis().saturating_sub(since);
                Duration::from_millis(u64::try_from(millis).unwrap_or(0))
            }
        }
    }

    /// How it is, as far as this process knows.
    pub(super) fn condition(&self) -> Condition {
        if self.is_failing.load(Ordering::Relaxed) {
            Condition::Failing
        } else if self.lag() > BEHIND {
            Condition::Behind
        } else {
            Condition::Ok
        }
    }

    pub(super) async fn keep_delivering(&self, recorded: watch::Receiver<()>, stop: &CancellationToken) {
        repeatedly(recorded, stop, || self.deliver(stop)).await;
    }

    /// Delivers what there is. When told to stop, what is under way is broken off and told again the next time.
    pub(super) async fn deliver(&self, stop: &CancellationToken) -> Rest {
        let _held = self.delivering.lock().await;
        self.tell_seen(stop).await;
        match self.take_turn(stop).await {
            Ok(rest) => rest,
            // Another process was quicker.
            Err(BookError::Lost) => Rest::For(TURN),
            Err(error) => {
                tracing::warn!(sink.name = self.name(), %error, "nothing can be delivered now: it is tried again");
                Rest::For(LOOK)
            }
        }
    }

    /// Notes what is in no record, where the sink wants it.
    pub(super) fn see(&self, package: Option<&PackageName>, sight: impl FnOnce() -> Option<Sight>) {
        let Some(seen) = &self.seen else { return };
        if self.settings.wants.has_package(package)
            && let Some(sight) = sight()
        {
            seen.note(sight, self.clock.now());
        }
    }

    /// Tells what is in no record. What does not arrive, or comes after it, is lost.
    async fn tell_seen(&self, stop: &CancellationToken) {
        let due = self.seen.as_ref().map(|seen| seen.take_due(self.clock.now())).unwrap_or_default();
        for (sight, at) in due {
            let told = tokio::select! {
                told = self.tell_sight(&sight, at) => told,
                () = stop.cancelled() => return,
            };
            if let Err(error) = told {
                tracing::debug!(sink.name = self.name(), %error, "what was read in the last minute could not be told");
                return;
            }
        }
    }

    async fn tell_sight(&self, sight: &Sight, at: Timestamp) -> Result<(), Failure> {
        let SinkKind::Insights { url, client_id, secret, .. } = &self.settings.kind else { return Ok(()) };
        let stored = match &sight.what {
            What::Read { package } => self.documents.stored(package).await.map_err(|error| unreadable(&error))?,
            What::Failed { .. } => None,
        };
        let Some(body) = insights::sight_log(sight, at, stored.as_deref()) else { return Ok(()) };
        let message = Message { body: body.into(), headers: vec![insights::bearer(client_id, secret)] };
        http::post_json(&self.client, url, message).await
    }

    async fn take_turn(&self, stop: &CancellationToken) -> Result<Rest, BookError> {
        // Looking costs less than taking the turn, which writes.
        if let Some(state) = self.book.read().await? {
            self.is_failing.store(state.tries.failures > 0, Ordering::Relaxed);
            let turn = state.turn(&self.holder, self.clock.now());
            let is_read = self.look_ahead(&state.cursor.position).await?.is_none();
            if turn != Turn::Ours {
                return Ok(self.rest(turn));
            }
            if is_read && !state.wants_retry() {
                return Ok(Rest::UntilRecorded);
            }
        }
        let (turn, mut state) = self.book.claim(self.since, self.clock.now()).await?;
        if turn != Turn::Ours {
            return Ok(self.rest(turn));
        }
        let outcome = self.deliver_all(&mut state, stop).await;
        if let Err(Halt::Book(BookError::Lost)) = outcome {
            return Err(BookError::Lost);
        }
        self.is_failing.store(state.tries.failures > 0, Ordering::Relaxed);
        // Whatever stopped us: what arrived is not told again if this write is done.
        self.book.release(&mut state).await?;
        match outcome {
            Ok(()) => {
                self.waiting_since.store(0, Ordering::Relaxed);
                Ok(Rest::UntilRecorded)
            }
            Err(Halt::Stopped) => Ok(Rest::For(TURN)),
            Err(Halt::Later) => {
                let rest = self.rest(state.turn(&self.holder, self.clock.now()));
                let error = state.tries.last_error.unwrap_or_default();
                tracing::warn!(
                    sink.name = self.name(),
                    error,
                    failures = state.tries.failures,
                    "a delivery failed: it is tried again"
                );
                Ok(rest)
            }
            Err(Halt::Book(error)) => Err(error),
        }
    }

    fn rest(&self, turn: Turn) -> Rest {
        rest(turn, self.clock.now())
    }

    /// When the oldest batch that was not read was written.
    async fn look_ahead(&self, position: &Position) -> Result<Option<Timestamp>, storage::Error> {
        let next = self.record.batches_after(position, 1).await?;
        let waiting = next.first().and_then(Key::event_instant);
        self.waiting_since.store(waiting.map_or(0, Timestamp::as_millis), Ordering::Relaxed);
        Ok(waiting)
    }

    async fn deliver_all(&self, state: &mut State, stop: &CancellationToken) -> Result<(), Halt> {
        if state.wants_retry() {
            self.deliver_dead_letters(state, stop).await?;
            self.save(state).await?;
        }
        let mut passed = 0;
        loop {
            let batches = self.record.batches_after(&state.cursor.position, BATCHES).await?;
            if batches.is_empty() {
                return Ok(());
            }
            for batch in batches {
                if self.deliver_batch(&batch, state, stop).await? {
                    passed = 0;
                    self.save(state).await?;
                } else {
                    passed += 1;
                    if passed >= PASSED || state.must_be_saved(self.clock.now()) {
                        passed = 0;
                        self.save(state).await?;
                    }
                }
            }
        }
    }

    /// Delivers a batch of the record in its order. False when nothing in it was for the sink.
    async fn deliver_batch(&self, batch: &Key, state: &mut State, stop: &CancellationToken) -> Result<bool, Halt> {
        let mut events = self.record.batch(batch).await?;
        events.retain(|event| self.is_told(event, state.since));
        let mut done = state.cursor.done_of(batch).min(events.len());
        while done < events.len() {
            let end = (done + self.at_once()).min(events.len());
            self.deliver_some(&events[done..end], state, stop).await?;
            done = end;
            state.cursor.begin(batch, done);
            if state.must_be_saved(self.clock.now()) {
                self.save(state).await?;
            }
        }
        state.cursor.pass(batch);
        Ok(!events.is_empty())
    }

    fn is_told(&self, event: &Event, since: Timestamp) -> bool {
        let is_news = event.at.parse::<Timestamp>().is_ok_and(|at| at >= since);
        is_news && self.settings.wants.has(event)
    }

    /// Delivers events of one request, or puts them aside when they are to be given up.
    async fn deliver_some(&self, events: &[Event], state: &mut State, stop: &CancellationToken) -> Result<(), Halt> {
        let failure = match self.send_unless_stopped(events, stop).await {
            Ok(()) => {
                state.arrived(events.len(), self.clock.now());
                return Ok(());
            }
            Err(Failure::Stopped) => return Err(Halt::Stopped),
            Err(failure) => failure,
        };
        let now = self.clock.now();
        if !state.failed(&failure, self.settings.tries, now, random::fraction()) {
            return Err(Halt::Later);
        }
        tracing::error!(sink.name = self.name(), %failure, events = events.len(), "events were given up and put aside");
        let letter = DeadLetter { at: now, error: failure.to_string(), events: events.to_vec() };
        Ok(self.book.bury(&keys::dead_letter(self.name(), now, &random::id()), &letter).await?)
    }

    /// Tries each dead letter once. The first one that fails for now ends that; those that are refused stay where they are.
    async fn deliver_dead_letters(&self, state: &mut State, stop: &CancellationToken) -> Result<(), Halt> {
        let mut listed = self.store.list_in_order(&keys::dead_letters(self.name()), None);
        while let Some(key) = listed.recv().await {
            let key = key?;
            let Some(letter) = self.dead_letter(&key).await? else { continue };
            match self.send_unless_stopped(&letter.events, stop).await {
                Ok(()) => {
                    state.arrived(letter.events.len(), self.clock.now());
                    match self.store.delete(&key).await {
                        Ok(()) | Err(storage::Error::NotFound) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                Err(Failure::Stopped) => return Err(Halt::Stopped),
                Err(failure) => {
                    state.tries.last_error = Some(failure.to_string());
                    if matches!(failure, Failure::Passing { .. }) {
                        break;
                    }
                }
            }
            if state.must_be_saved(self.clock.now()) {
                self.save(state).await?;
            }
        }
        state.retry_done();
        Ok(())
    }

    async fn dead_letter(&self, key: &Key) -> Result<Option<DeadLetter>, storage::Error> {
        match self.store.snapshot_unless(key, None, MAX_LETTER_BYTES).await {
            Ok(Some(snapshot)) => match serde_json::from_slice(&snapshot.bytes) {
                Ok(letter) => Ok(Some(letter)),
                Err(error) => {
                    tracing::warn!(%key, %error, "a dead letter cannot be read");
                    Ok(None)
                }
            },
            Ok(None) | Err(storage::Error::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn save(&self, state: &mut State) -> Result<(), BookError> {
        self.book.save(state, self.clock.now()).await
    }

    /// How many events one request has at most.
    fn at_once(&self) -> usize {
        match &self.settings.kind {
            SinkKind::Insights { .. } | SinkKind::NpmHook { .. } | SinkKind::Sns { .. } => 1,
            SinkKind::Webhook { batch, .. } => (*batch).max(1),
            SinkKind::Slack { .. } => LINES,
            SinkKind::File { .. } => FILED,
        }
    }

    async fn send_unless_stopped(&self, events: &[Event], stop: &CancellationToken) -> Result<(), Failure> {
        let mut span = traces::begin(traces::Kind::Client, "sink", "deliver");
        let sent = tokio::select! {
            sent = self.send(events) => sent,
            () = stop.cancelled() => Err(Failure::Stopped),
        };
        if span.is_recorded() {
            span.set("holdfast.sink", self.name().to_owned());
            span.set("holdfast.events", events.len());
            match &sent {
                Ok(()) => {}
                Err(Failure::Stopped) => span.fail("stopped"),
                Err(Failure::Passing { .. }) => span.fail("passing"),
                Err(Failure::Lasting { .. }) => span.fail("lasting"),
            }
        }
        sent
    }

    /// Sends events, once.
    async fn send(&self, events: &[Event]) -> Result<(), Failure> {
        match &self.settings.kind {
            SinkKind::File { path } => file::append(path, events).await,
            SinkKind::Slack { url } => http::post_json(&self.client, url, slack::message(events)).await,
            SinkKind::Webhook { url, secret, .. } => {
                let message = webhook::message(events, secret, self.clock.now())?;
                http::post_json(&self.client, url, message).await
            }
            SinkKind::NpmHook { url, secret } => {
                for event in events {
                    for message in self.npm_messages(event, secret).await? {
                        http::post_json(&self.client, url, message).await?;
                    }
                }
                Ok(())
            }
            SinkKind::Insights { url, client_id, secret, index_format } => {
                for event in events.iter().filter(|event| insights::area(event).is_some()) {
                    let stored = self.stored(event).await?;
                    let body = insights::log(event, stored.as_deref(), client_id, secret, *index_format);
                    let is_in_body = event.kind == Kind::Index && *index_format == IndexFormat::InBody;
                    let headers = if is_in_body { Vec::new() } else { vec![insights::bearer(client_id, secret)] };
                    let message = Message { body: body.unwrap_or_default().into(), headers };
                    http::post_json(&self.client, url, message).await?;
                }
                Ok(())
            }
            SinkKind::Sns { topic, endpoint, format } => {
                let Some(credentials) = &self.credentials else {
                    return Err(Failure::passing("there are no credentials of AWS"));
                };
                let address = endpoint.as_ref().map_or_else(|| topic.address(), ToString::to_string);
                for event in events {
                    let message = match format {
                        SnsFormat::Event => Some(sns::event_message(event)?),
                        SnsFormat::Codebox if insights::area(event).is_none() => None,
                        SnsFormat::Codebox => insights::topic_message(event, self.stored(event).await?.as_deref()),
                    };
                    let Some(message) = message else { continue };
                    let has_attributes = *format == SnsFormat::Event;
                    sns::publish(&self.client, credentials, topic, &address, event, &message, has_attributes).await?;
                }
                Ok(())
            }
        }
    }

    async fn stored(&self, event: &Event) -> Result<Option<Bytes>, Failure> {
        let Some(name) = &event.package else { return Ok(None) };
        self.documents.stored(name).await.map_err(|error| unreadable(&error))
    }

    async fn npm_messages(&self, event: &Event, secret: &Secret) -> Result<Vec<Message>, Failure> {
        let changes = npm_hook::changes(event);
        let Some(name) = event.package.as_ref().filter(|_| !changes.is_empty()) else { return Ok(Vec::new()) };
        let document = self.documents.public(name).await.map_err(|error| unreadable(&error))?;
        let document = document.and_then(|bytes| serde_json::from_slice::<Box<RawValue>>(&bytes).ok());
        let document = document.as_deref().unwrap_or(RawValue::NULL);
        let hook = npm_hook::Signing { kind: "package", owner: self.name(), secret };
        let message = |change| npm_hook::message(event, change, document, &hook);
        changes.into_iter().map(message).collect()
    }

    /// Sends events now, whatever the state says. Once something has not arrived after a few tries, the rest is tried once.
    pub(super) async fn send_now(&self, events: &[Event]) -> Sent {
        let (mut sent, mut tries) = (Sent::default(), TRIES_NOW);
        for some in events.chunks(self.at_once()) {
            let count = some.len() as u64;
            match self.send_with(tries, some).await {
                Ok(()) => sent.add(Sent { arrived: count, ..Sent::default() }),
                Err(failure) => {
                    if matches!(failure, Failure::Passing { .. }) {
                        tries = 1;
                    }
                    sent.add(Sent { arrived: 0, failed: count, last_error: Some(failure.to_string()) });
                }
            }
        }
        sent
    }

    async fn send_with(&self, tries: u32, events: &[Event]) -> Result<(), Failure> {
        for tried in 1..tries {
            match self.send(events).await {
                Err(Failure::Passing { .. }) => {
                    tokio::time::sleep(Duration::from_secs(1 << tried).mul_f64(random::fraction())).await;
                }
                outcome => return outcome,
            }
        }
        self.send(events).await
    }

    pub(super) async fn ask_for_retry(&self) -> Result<(), BookError> {
        self.book.ask_for_retry(self.since).await
    }

    pub(super) async fn status(&self) -> Result<Status, BookError> {
        let state = self.book.read().await?;
        let waiting = match &state {
            Some(state) => self.look_ahead(&state.cursor.position).await?,
            None => None,
        };
        let mut listed = self.store.list_folder(&keys::dead_letters(self.name()));
        let mut dead_letters = 0;
        while let Some(key) = listed.recv().await {
            key?;
            dead_letters += 1;
        }
        let text = |instant: Option<Timestamp>| instant.map(|instant| instant.to_string());
        let of = |get: fn(&State) -> Option<Timestamp>| text(state.as_ref().and_then(get));
        Ok(Status {
            name: self.name().to_owned(),
            kind: self.settings.kind.as_str().to_owned(),
            waiting_since: text(waiting),
            delivered: state.as_ref().map_or(0, |state| state.delivered),
            last_delivery: of(|state| state.last_delivery),
            failures: state.as_ref().map_or(0, |state| state.tries.failures),
            last_error: state.as_ref().and_then(|state| state.tries.last_error.clone()),
            next_try: of(|state| state.tries.next_try),
            dead_letters,
            is_retrying: state.as_ref().is_some_and(State::wants_retry),
        })
    }
}

/// How long to wait for a turn. Not much longer than that, and now and then it is looked what has become of it.
pub(super) fn rest(turn: Turn, now: Timestamp) -> Rest {
    let (until, most) = match turn {
        Turn::Ours => return Rest::UntilRecorded,
        Turn::Others(until) => (until, TURN),
        Turn::NotBefore(next) => (next, LOOK),
    };
    Rest::For(until.since(now).min(most))
}

pub(super) fn unreadable(error: &storage::Error) -> Failure {
    Failure::passing(format!("the package's document cannot be read: {error}"))
}
