//! The same router inside AWS Lambda: events of a front end come in, answers go out, one at a time.
//!
//! The process is frozen between two requests and ended without notice. So what a request began is done before its answer
//! leaves ([`App::settled`]), and what a server does by itself is done, where it is due, after an answer has left and before
//! the next event is asked for ([`App::do_upkeep`]): the client has its answer by then, and the search index is in step before
//! the next request.

mod answer;
mod event;
mod removal;

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::StreamExt as _;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, LOCATION};
use http::response::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use lambda_runtime::tower::util::ThenLayer;
use lambda_runtime::{Diagnostic, LambdaEvent, Runtime, service_fn};
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::Instrument as _;
use url::Url;

use crate::app::App;
use crate::http::{HttpService, Undelivered, undelivered};
use answer::answer;
use event::EventError;
pub use removal::serve_removal;

/// What Lambda carries in either direction: 6 MB, and a hundred bytes for what wraps them.
const MOST_BYTES: usize = 6_291_556;
/// What a load balancer carries.
const MOST_BALANCER_BYTES: usize = 1 << 20;
/// The largest answer that is put together at all, to be handed over by the store.
const MOST_COLLECTED_BYTES: usize = 64 << 20;
/// What is left of an invocation's time for sending the answer.
const RESERVE: Duration = Duration::from_millis(500);
/// How long a request waits for what another one left running, whose time was over.
const LEFTOVERS: Duration = Duration::from_secs(1);
/// How long upkeep may take after an answer. A new request waits for it, or gets another process.
const UPKEEP: Duration = Duration::from_secs(2);
/// Lambda kills two seconds after its signal, or after half of one where an extension is there.
const LAST_TASKS: Duration = Duration::from_millis(300);

/// How a front end writes its events and reads answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Payload format 2.0: function URLs, HTTP APIs.
    Two,
    /// Payload format 1.0: REST APIs, and HTTP APIs where it was chosen.
    One,
    /// Application Load Balancers, by whether multi-value headers are on.
    Balancer { is_multi_value: bool },
}

impl Form {
    /// The largest answer that is carried, as JSON.
    fn most_bytes(self) -> usize {
        match self {
            Self::Two | Self::One => MOST_BYTES,
            Self::Balancer { .. } => MOST_BALANCER_BYTES,
        }
    }
}

/// Why no more events are answered.
#[derive(Debug, thiserror::Error)]
#[error("Lambda's Runtime API failed")]
pub struct LambdaError(#[source] lambda_runtime::Error);

impl From<EventError> for Diagnostic {
    fn from(error: EventError) -> Self {
        Self { error_type: "EventError".to_owned(), error_message: error.to_string() }
    }
}

/// Answers events until `stop` is ready.
///
/// # Errors
/// When the Runtime API cannot be reached.
pub async fn serve_lambda(app: App, stop: impl Future<Output = ()>) -> Result<(), LambdaError> {
    let service = HttpService::new(app.clone());
    let (of, after) = (app.clone(), app.clone());
    let handler = service_fn(move |event: LambdaEvent<event::Event>| {
        let span = tracing::info_span!("invocation", aws.request_id = %event.context.request_id);
        handle(of.clone(), service.clone(), event).instrument(span)
    });
    let upkeep = ThenLayer::new(move |answered| {
        let app = after.clone();
        async move {
            if timeout(UPKEEP, app.do_upkeep()).await.is_err() {
                tracing::debug!("upkeep was cut off, and goes on when it is due again");
            }
            app.traces.flush().await;
            answered
        }
    });
    let runtime = Runtime::new(handler).layer(upkeep);
    let ended = tokio::select! {
        ended = runtime.run() => ended.map_err(LambdaError),
        () = stop => Ok(()),
    };
    if timeout(LAST_TASKS, app.stop()).await.is_err() {
        tracing::debug!("tasks were still running at the deadline");
    }
    ended
}

async fn handle(
    app: App,
    service: HttpService,
    LambdaEvent { payload, context }: LambdaEvent<event::Event>,
) -> Result<Box<RawValue>, EventError> {
    if payload.is_scheduled() {
        app.do_all_upkeep().await;
        return Ok(RawValue::NULL.to_owned());
    }
    let (request, form) =
        payload.into_request().inspect_err(|error| tracing::error!(%error, "an event was refused"))?;
    let now = u64::try_from(app.clock.now().as_millis()).unwrap_or_default();
    let left = Duration::from_millis(context.deadline.saturating_sub(now)).saturating_sub(RESERVE);
    let end = Instant::now() + left;
    let has_leftovers = !app.tasks.is_empty();
    let answered = async {
        let (head, body) = Box::pin(service.call(request)).await.into_parts();
        carry(&app, form, head, body).await
    };
    let Ok(carried) = timeout_at(end, answered).await else {
        // Better than to be killed: that would be told in no words, and the next request would find no process.
        return Ok(carry_small(form, undelivered(&HeaderMap::new(), &Undelivered::TooLate)).await);
    };
    let patience = if has_leftovers { end.min(Instant::now() + LEFTOVERS) } else { end };
    if timeout_at(patience, app.settled()).await.is_err() {
        tracing::warn!("an answer leaves before all that was begun is done: it goes on with the next request");
    }
    Ok(carried)
}

/// The answer in its front end's form, or what takes its place when it cannot be carried.
async fn carry(app: &App, form: Form, head: Parts, body: Body) -> Box<RawValue> {
    let problem = match collect(body).await {
        Ok(bytes) => match answer(form, &head, &bytes) {
            Some(answer) => return answer,
            None => match large_answer(app, &head, &bytes).await {
                Some(url) => return carry_small(form, redirect(&url)).await,
                None => Undelivered::TooLarge { most_bytes: form.most_bytes() },
            },
        },
        Err(Undelivered::TooLarge { .. }) => Undelivered::TooLarge { most_bytes: form.most_bytes() },
        Err(cut_off) => cut_off,
    };
    carry_small(form, undelivered(&head.headers, &problem)).await
}

/// Carries an answer of our own making, which is never too large.
async fn carry_small(form: Form, response: Response) -> Box<RawValue> {
    let (head, body) = response.into_parts();
    let bytes = collect(body).await.unwrap_or_default();
    answer(form, &head, &bytes).unwrap_or_else(|| RawValue::NULL.to_owned())
}

/// Puts an answer that the platform does not carry where the client can fetch it, and tells where.
async fn large_answer(app: &App, head: &Parts, bytes: &Bytes) -> Option<Url> {
    if head.status != StatusCode::OK {
        return None;
    }
    let header = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
    let content_type = header(CONTENT_TYPE).unwrap_or("application/octet-stream");
    match app.registry.hand_over(bytes.clone(), content_type, header(CONTENT_ENCODING)).await {
        Ok(link) => link,
        Err(error) => {
            tracing::error!(%error, "an answer that is too large to be carried could not be put into the store");
            None
        }
    }
}

fn redirect(url: &Url) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::FOUND;
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(url) = HeaderValue::try_from(url.as_str()) {
        response.headers_mut().insert(LOCATION, url);
    }
    response
}

/// The whole body. One that is too large is given up as early as that shows.
async fn collect(body: Body) -> Result<Bytes, Undelivered> {
    let too_large = Undelivered::TooLarge { most_bytes: MOST_COLLECTED_BYTES };
    let known = usize::try_from(hyper::body::Body::size_hint(&body).lower()).unwrap_or(usize::MAX);
    if known > MOST_COLLECTED_BYTES {
        return Err(too_large);
    }
    let mut stream = body.into_data_stream();
    let mut collected = bytes::BytesMut::with_capacity(known);
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(|error| Undelivered::CutOff(Box::new(error)))?;
        if collected.len() + piece.len() > MOST_COLLECTED_BYTES {
            return Err(too_large);
        }
        collected.extend_from_slice(&piece);
    }
    Ok(collected.freeze())
}
