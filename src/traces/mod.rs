//! Traces for OpenTelemetry: which parts a request has and how long each takes, sent to a collector by OTLP over HTTP.
//!
//! Off unless an address is set, and then it costs a request no more than to see that it is off. What is sent is told span by
//! span, by the code that knows it: routes, kinds of objects, outcomes, numbers; never what a client sent. Sending never keeps
//! a request waiting: spans wait in a queue that has an end, and what does not fit is dropped and counted.

mod export;
mod settings;
mod span;
mod traceparent;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

pub use settings::{Settings, headers, pairs};
pub use span::{Kind, Span, TraceId, Value, begin, carried_on, child, step, within};

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::random;
use export::{Collector, Exporter, Outlet, Wish};

/// How long Lambda waits, after an answer has left, for the spans of the request to be taken.
const FLUSH: Duration = Duration::from_secs(1);
/// How long a stop waits for the last spans to be taken.
const FINISH: Duration = Duration::from_secs(3);

/// Why no traces can be sent.
#[derive(Debug, thiserror::Error)]
#[error("no requests can be made to the collector of traces")]
pub struct BuildError(#[from] reqwest::Error);

/// Makes spans, where they are recorded. Cheap to clone.
#[derive(Clone, Default)]
pub struct Traces(Option<Arc<Recorder>>);

struct Recorder {
    ratio: f64,
    clock: Clock,
    outlet: Outlet,
    wishes: mpsc::Sender<Wish>,
}

impl Traces {
    /// Records as the settings say, and sends what is recorded in a task of its own; without settings it is off. What is
    /// dropped and sent is counted.
    ///
    /// # Errors
    /// When the system has no usable TLS certificates.
    #[expect(clippy::disallowed_methods, reason = "it has to outlast all tasks of `App`, which end with `finish`")]
    pub fn new(settings: Option<&Settings>, clock: &Clock, metrics: &Metrics) -> Result<Self, BuildError> {
        let Some(settings) = settings else { return Ok(Self::default()) };
        let (outlet, queue) = Outlet::new(metrics.clone());
        let (wishes, wished) = mpsc::channel(1);
        let exporter = Exporter::new(Collector::new(settings)?, queue, wished, metrics.clone());
        tokio::spawn(exporter.run());
        Ok(Self(Some(Arc::new(Recorder { ratio: settings.ratio, clock: clock.clone(), outlet, wishes }))))
    }

    /// Whether anything is recorded.
    pub fn are_on(&self) -> bool {
        self.0.is_some()
    }

    /// The span of a request, with the value of its `traceparent` where it has one. A client's trace is gone on with, and
    /// recorded where the client records it; one that begins here is recorded as often as the settings say.
    pub fn request(&self, traceparent: Option<&[u8]>) -> Span {
        let Some(recorder) = &self.0 else { return Span::default() };
        let parent = traceparent.and_then(traceparent::parse);
        if !parent.map_or_else(|| recorder.is_drawn(), |parent| parent.is_sampled) {
            return Span::default();
        }
        Span::first(recorder.outlet.clone(), &recorder.clock, parent, String::new(), Kind::Server)
    }

    /// The first span of a trace that begins here and is no request's.
    fn first(&self, kind: Kind, name: impl FnOnce() -> String) -> Span {
        match &self.0 {
            Some(recorder) if recorder.is_drawn() => {
                Span::first(recorder.outlet.clone(), &recorder.clock, None, name(), kind)
            }
            _ => Span::default(),
        }
    }

    /// Does work that is no request's: what [`begin`]s there begins a trace of its own.
    pub fn in_background<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        span::in_background(self.clone(), work)
    }

    /// Waits until what has ended so far is sent, for a second at most, and not at all while the collector fails. For where
    /// nothing runs between requests.
    pub async fn flush(&self) {
        self.wish(Wish::Flush, FLUSH).await;
    }

    /// Sends what there is and ends, within three seconds.
    pub async fn finish(&self) {
        self.wish(Wish::Finish, FINISH).await;
    }

    async fn wish(&self, wish: impl FnOnce(oneshot::Sender<()>) -> Wish, patience: Duration) {
        let Some(recorder) = &self.0 else { return };
        let (done, is_done) = oneshot::channel();
        let asked = async {
            if recorder.wishes.send(wish(done)).await.is_ok() {
                // It has ended where it does not answer.
                let _ = is_done.await;
            }
        };
        if timeout(patience, asked).await.is_err() {
            tracing::debug!("the collector of traces was not waited for any longer");
        }
    }
}

impl Recorder {
    /// Whether a trace that begins here is recorded.
    fn is_drawn(&self) -> bool {
        self.ratio >= 1.0 || (self.ratio > 0.0 && random::fraction() < self.ratio)
    }
}
