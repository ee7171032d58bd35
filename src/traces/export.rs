//! From spans that have ended to the collector: a queue with an end, batches, and patience with a collector that is away.

use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use prost::Message as _;
use reqwest::redirect::Policy;
use reqwest::{Response, StatusCode};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use url::Url;

use super::BuildError;
use super::settings::{SERVICE_NAME, Settings};
use super::span::Finished;
use super::wire::{Answer, Request, Resource};
use crate::causes;
use crate::metrics::Metrics;
use crate::random;

/// Spans that wait: some megabytes at most.
const QUEUE: usize = 8192;
/// Spans of one request to the collector.
const BATCH: usize = 512;
/// How long the first span of a batch waits for others.
const EVERY: Duration = Duration::from_secs(2);
/// How long one request to the collector may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The pause after the first failure. Each further one is twice as long, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// How often it is logged that the collector fails.
const TELL_EVERY: Duration = Duration::from_mins(10);
/// What is read of an answer.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// Where spans go that have ended. Cheap to clone.
#[derive(Clone)]
pub(super) struct Outlet {
    queue: mpsc::Sender<Finished>,
    metrics: Metrics,
}

impl Outlet {
    pub(super) fn new(metrics: Metrics) -> (Self, mpsc::Receiver<Finished>) {
        let (queue, receiver) = mpsc::channel(QUEUE);
        (Self { queue, metrics }, receiver)
    }

    /// Takes a span, or drops it where there is no room. Never waits.
    pub(super) fn take(&self, span: Finished) {
        if self.queue.try_send(span).is_err() {
            self.metrics.spans("dropped", 1);
        }
    }
}

/// What the exporter is asked to do, and whom it tells that it is done.
pub(super) enum Wish {
    /// Send all that has ended, if the collector is well.
    Flush(oneshot::Sender<()>),
    /// Send all that has ended, and end.
    Finish(oneshot::Sender<()>),
}

/// Where batches are sent.
pub(super) struct Collector {
    client: reqwest::Client,
    url: Url,
    headers: HeaderMap,
    resource: Resource,
}

/// Why a batch was not taken.
#[derive(Debug, PartialEq, Eq)]
enum Failure {
    /// Another try may be taken, after so long where the collector says it.
    Passing { why: String, wait: Option<Duration> },
    /// This batch never will be.
    Lasting { why: String },
}

impl Collector {
    pub(super) fn new(settings: &Settings) -> Result<Self, BuildError> {
        let client = reqwest::Client::builder()
            .redirect(Policy::none())
            .timeout(TIMEOUT)
            .connect_timeout(TIMEOUT)
            .user_agent(concat!("holdfast/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let mut headers: HeaderMap = settings.headers.iter().cloned().collect();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        let own = [
            (SERVICE_NAME, settings.service_name.clone()),
            ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
            ("service.instance.id", random::id()),
        ];
        let is_own = |name: &str| own.iter().any(|(own, _)| *own == name);
        let others = settings.attributes.iter().filter(|(name, _)| !is_own(name)).cloned();
        let resource = Resource::of(own.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).chain(others));
        Ok(Self { client, url: settings.endpoint.clone(), headers, resource })
    }

    /// Sends spans, once. Gives how many of them the collector did not take.
    async fn send(&self, spans: &[Finished]) -> Result<u64, Failure> {
        let body = Request::of(&self.resource, spans).encode_to_vec();
        let request = self.client.post(self.url.clone()).headers(self.headers.clone()).body(body);
        let response = request.send().await.map_err(|error| Failure::Passing { why: unreached(error), wait: None })?;
        judge(response.status(), response.headers())?;
        // Without a readable answer it is taken by its word, which is the status.
        Ok(read(response).await.and_then(|body| Answer::decode(&*body).ok()).map_or(0, |answer| answer.rejected()))
    }
}

/// Never with the address: there may be a key in it.
fn unreached(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return "it did not answer in time".to_owned();
    }
    format!("it cannot be reached: {}", causes::one_line(&error.without_url()))
}

async fn read(mut response: Response) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.ok()? {
        if body.len() + piece.len() > MAX_ANSWER_BYTES {
            return None;
        }
        body.extend_from_slice(&piece);
    }
    Some(body)
}

/// What an answer means: the specification of OTLP has the list of those after which to try again.
fn judge(status: StatusCode, headers: &HeaderMap) -> Result<(), Failure> {
    if status.is_success() {
        return Ok(());
    }
    let why = format!("it answered with status {}", status.as_u16());
    match status.as_u16() {
        429 | 502 | 503 | 504 => {
            let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
            Err(Failure::Passing { why, wait: seconds.map(|seconds| Duration::from_secs(seconds).min(LONGEST_PAUSE)) })
        }
        _ => Err(Failure::Lasting { why }),
    }
}

/// The pause after so many failures in a row.
fn pause(failures: u32, wait: Option<Duration>) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(LONGEST_PAUSE);
    wait.map_or(doubled, |wait| wait.max(doubled))
}

/// A collector that fails.
struct Trouble {
    failures: u32,
    not_before: Instant,
    told_at: Instant,
}

/// Sends batches until it is told to end.
pub(super) struct Exporter {
    collector: Collector,
    queue: mpsc::Receiver<Finished>,
    wishes: mpsc::Receiver<Wish>,
    metrics: Metrics,
    batch: Vec<Finished>,
    /// When its first span came.
    batch_since: Instant,
    trouble: Option<Trouble>,
}

impl Exporter {
    pub(super) fn new(
        collector: Collector,
        queue: mpsc::Receiver<Finished>,
        wishes: mpsc::Receiver<Wish>,
        metrics: Metrics,
    ) -> Self {
        let (batch, batch_since) = (Vec::with_capacity(BATCH), Instant::now());
        Self { collector, queue, wishes, metrics, batch, batch_since, trouble: None }
    }

    pub(super) async fn run(mut self) {
        loop {
            let wish = tokio::select! {
                wish = self.wishes.recv() => match wish {
                    Some(wish) => wish,
                    // Whoever could make spans is gone.
                    None => return,
                },
                () = fill(&mut self.queue, &mut self.batch, &mut self.batch_since, self.trouble.as_ref()) => {
                    self.send_batch().await;
                    continue;
                }
            };
            match wish {
                Wish::Flush(done) => {
                    if self.trouble.is_none() {
                        self.send_all().await;
                    }
                    // Whoever asked may not wait any more.
                    let _ = done.send(());
                }
                Wish::Finish(done) => {
                    self.send_all().await;
                    self.metrics.spans("dropped", (self.batch.len() + self.queue.len()) as u64);
                    let _ = done.send(());
                    return;
                }
            }
        }
    }

    /// Sends what is there, and stops at the first failure.
    async fn send_all(&mut self) {
        loop {
            while self.batch.len() < BATCH
                && let Ok(span) = self.queue.try_recv()
            {
                self.batch.push(span);
            }
            if self.batch.is_empty() || !self.send_batch().await {
                return;
            }
        }
    }

    /// Sends the batch, once. It stays where another try may be taken. False when it was not taken.
    async fn send_batch(&mut self) -> bool {
        let count = self.batch.len() as u64;
        match self.collector.send(&self.batch).await {
            Ok(rejected) => {
                let rejected = rejected.min(count);
                self.metrics.spans("sent", count - rejected);
                self.metrics.spans("refused", rejected);
                self.batch.clear();
                if self.trouble.take().is_some() {
                    tracing::info!("the collector takes traces again");
                }
                true
            }
            Err(Failure::Passing { why, wait }) => {
                self.note_trouble(&why, wait);
                false
            }
            Err(Failure::Lasting { why }) => {
                self.metrics.spans("refused", count);
                self.batch.clear();
                self.note_trouble(&why, None);
                false
            }
        }
    }

    /// Tells of it now and then, not each time.
    fn note_trouble(&mut self, why: &str, wait: Option<Duration>) {
        let (now, before) = (Instant::now(), self.trouble.take());
        let failures = before.as_ref().map_or(0, |trouble| trouble.failures).saturating_add(1);
        let told_at = match before {
            Some(trouble) if now < trouble.told_at + TELL_EVERY => trouble.told_at,
            _ => {
                tracing::warn!(
                    error = why,
                    failures,
                    "the collector takes no traces: requests are answered as ever, and spans that find no room are dropped"
                );
                now
            }
        };
        self.trouble = Some(Trouble { failures, not_before: now + pause(failures, wait), told_at });
    }
}

/// Waits until a batch is to be sent: it is full, or its first span has waited long enough, and the collector may be asked.
/// May be cut off at any time.
async fn fill(
    queue: &mut mpsc::Receiver<Finished>,
    batch: &mut Vec<Finished>,
    since: &mut Instant,
    trouble: Option<&Trouble>,
) {
    if batch.is_empty() {
        if queue.recv_many(batch, BATCH).await == 0 {
            // Closed, which whoever waits beside this is told too.
            std::future::pending::<()>().await;
        }
        *since = Instant::now();
    }
    let not_before = trouble.map(|trouble| trouble.not_before);
    let due = not_before.map_or(*since + EVERY, |not_before| not_before.max(*since + EVERY));
    while batch.len() < BATCH {
        let room = BATCH - batch.len();
        tokio::select! {
            () = sleep_until(due) => return,
            found = queue.recv_many(batch, room) => if found == 0 {
                return;
            }
        }
    }
    if let Some(not_before) = not_before {
        sleep_until(not_before).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_judged_as_the_specification_says() {
        let judged = |status: u16, headers: &[(&'static str, &str)]| {
            let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
            judge(StatusCode::from_u16(status).unwrap(), &headers)
        };
        for status in [200, 202] {
            assert_eq!(judged(status, &[]), Ok(()));
        }
        for status in [429, 502, 503, 504] {
            assert!(matches!(judged(status, &[]), Err(Failure::Passing { wait: None, .. })), "{status}");
        }
        for status in [302, 400, 401, 404, 413, 500] {
            assert!(matches!(judged(status, &[]), Err(Failure::Lasting { .. })), "{status}");
        }
        let Err(Failure::Passing { wait, .. }) = judged(503, &[("retry-after", "9999")]) else { panic!() };
        assert_eq!(wait, Some(LONGEST_PAUSE));
    }

    #[test]
    fn pauses_grow_up_to_a_minute() {
        let seconds: Vec<u64> = (1..9).map(|failures| pause(failures, None).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(pause(u32::MAX, None), LONGEST_PAUSE);
        assert_eq!(pause(1, Some(Duration::from_secs(30))).as_secs(), 30);
        assert_eq!(pause(7, Some(Duration::from_secs(1))), LONGEST_PAUSE);
    }
}
