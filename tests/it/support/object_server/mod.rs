//! An S3 server of the test's own, on loopback and in memory, that can also misbehave.
//!
//! It keeps what AWS documents where a client can notice: conditional writes are atomic, a replace of what is gone is
//! 404, parts have a least size, a link with an `Authorization` header besides is refused. Three things it does not do:
//! signatures are looked for and not verified, there are no versions, and there is one bucket, at `/{bucket}/{key}`.

mod faults;
mod objects;
mod reply;
mod request;
mod xml;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, Response, StatusCode};
use futures::stream::{self, StreamExt as _};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

pub(crate) use self::faults::{Fault, Gate, Misbehaviour};
pub(crate) use self::objects::Object;
pub(crate) use self::request::Operation;

use self::objects::{LONGEST_PAGE, Objects};
use self::reply::{Error, Reply};
use self::request::S3Request;
use super::PATIENCE;
use super::loopback::Loopback;

/// A request that came.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// Its place among all that came.
    number: u64,
    pub(crate) operation: Operation,
    /// Empty for those that are about the bucket.
    pub(crate) key: String,
    /// Whether it came by a presigned link.
    pub(crate) is_presigned: bool,
    pub(crate) headers: HeaderMap,
    pub(crate) body_length: usize,
    /// `None` as long as there is no answer; for ever when there is none to come.
    pub(crate) status: Option<u16>,
    /// Whether a fault befell it.
    pub(crate) is_faulty: bool,
    /// Whether it was carried out, well or with a refusal, whatever was answered.
    pub(crate) is_applied: bool,
}

#[derive(Debug)]
struct State {
    objects: Objects,
    faults: Vec<Fault>,
    /// How many keys a page of a list has at most.
    page: usize,
    /// How far the clock is ahead of the machine's.
    ahead: SignedDuration,
    /// How many requests there have been.
    count: u64,
}

#[derive(Debug)]
struct Shared {
    bucket: String,
    state: Mutex<State>,
    calls: watch::Sender<Vec<Call>>,
}

/// A running server with one bucket. Ends when dropped.
#[derive(Debug)]
pub(crate) struct ObjectServer {
    url: String,
    shared: Arc<Shared>,
    _listener: Loopback,
}

impl ObjectServer {
    /// With an empty bucket of this name.
    pub(crate) fn start(bucket: &str) -> Self {
        let state = State {
            objects: Objects::default(),
            faults: Vec::new(),
            page: LONGEST_PAGE,
            ahead: SignedDuration::ZERO,
            count: 0,
        };
        let calls = watch::Sender::new(Vec::new());
        let shared = Arc::new(Shared { bucket: bucket.to_owned(), state: Mutex::new(state), calls });
        let mut url = String::new();
        let listener = Loopback::start(|port| {
            url = format!("http://127.0.0.1:{port}");
            let shared = Arc::clone(&shared);
            move |head, body| answer(Arc::clone(&shared), head, body)
        });
        Self { url, shared, _listener: listener }
    }

    /// `http://127.0.0.1:PORT`, without the bucket.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn bucket(&self) -> &str {
        &self.shared.bucket
    }

    /// From now on, after the faults that are there already: of those that apply to a request the first befalls it.
    pub(crate) fn misbehave(&self, fault: Fault) {
        self.shared.state().faults.push(fault);
    }

    /// Ends all faults. Requests that wait go on waiting.
    pub(crate) fn behave(&self) {
        self.shared.state().faults.clear();
    }

    /// Lists have at most so many keys on a page.
    pub(crate) fn set_page(&self, keys: usize) {
        self.shared.state().page = keys;
    }

    /// Moves the clock ahead, by which links end and objects get their dates.
    pub(crate) fn move_clock(&self, by: Duration) {
        self.shared.state().ahead += SignedDuration::try_from(by).unwrap();
    }

    /// Every request so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.shared.calls.borrow().clone()
    }

    /// Every request since the last time, which are forgotten here. Of those under way the status stays unknown.
    pub(crate) fn take_calls(&self) -> Vec<Call> {
        self.shared.calls.send_replace(Vec::new())
    }

    /// Waits until the requests so far are as a test wants them.
    #[track_caller]
    pub(crate) fn wait_for(&self, wanted: impl Fn(&[Call]) -> bool) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        let mut calls = self.shared.calls.subscribe();
        async move {
            let came = tokio::time::timeout(PATIENCE, calls.wait_for(|calls| wanted(calls))).await.is_ok();
            assert!(came, "{place}: the requests that were waited for did not come");
        }
    }

    /// Every object there is, by its key.
    pub(crate) fn snapshot(&self) -> BTreeMap<String, Object> {
        self.shared.state().objects.all.clone()
    }

    /// The keys of uploads in parts that were neither completed nor aborted.
    pub(crate) fn open_uploads(&self) -> Vec<String> {
        self.shared.state().objects.open_uploads()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Notes a request at its arrival, and says which number it has and what befalls it.
    fn note(&self, request: &S3Request) -> (u64, Option<Misbehaviour>) {
        let (number, misbehaviour) = {
            let mut state = self.state();
            state.count += 1;
            (state.count, faults::next(&mut state.faults, request.operation, &request.key))
        };
        let call = Call {
            number,
            operation: request.operation,
            key: request.key.clone(),
            is_presigned: request.is_presigned(),
            headers: request.headers.clone(),
            body_length: request.body.len(),
            status: None,
            is_faulty: misbehaviour.is_some(),
            is_applied: false,
        };
        self.calls.send_modify(|calls| calls.push(call));
        (number, misbehaviour)
    }

    /// Notes what became of a request.
    fn update(&self, number: u64, change: impl FnOnce(&mut Call)) {
        self.calls.send_modify(|calls| {
            if let Some(call) = calls.iter_mut().find(|call| call.number == number) {
                change(call);
            }
        });
    }

    /// Does what is asked for, and says what came of it.
    fn apply(&self, number: u64, request: &S3Request) -> Reply {
        let reply = self.carry_out(request);
        self.update(number, |call| call.is_applied = true);
        reply
    }

    fn carry_out(&self, request: &S3Request) -> Reply {
        if request.bucket != self.bucket {
            return Error::no_such_bucket().into();
        }
        let mut state = self.state();
        let (now, page) = (Timestamp::now() + state.ahead, state.page);
        let done = request.check_signed(now).and_then(|()| state.objects.apply(request, now, page));
        done.unwrap_or_else(Reply::from)
    }
}

/// `None` closes the connection.
async fn answer(shared: Arc<Shared>, head: Parts, body: Bytes) -> Option<Response<Body>> {
    let has_no_body = head.method == Method::HEAD;
    let request = S3Request::new(head, body);
    let (number, misbehaviour) = shared.note(&request);
    let reply = reply_to(&shared, number, request, misbehaviour.as_ref()).await?;
    shared.update(number, |call| call.status = Some(reply.status.as_u16()));
    let body = if has_no_body { Body::empty() } else { body_of(reply.body.clone(), misbehaviour.as_ref()) };
    Some(reply.into_response(body))
}

async fn reply_to(
    shared: &Shared,
    number: u64,
    mut request: S3Request,
    misbehaviour: Option<&Misbehaviour>,
) -> Option<Reply> {
    let apply = |request: &S3Request| shared.apply(number, request);
    let Some(misbehaviour) = misbehaviour else { return Some(apply(&request)) };
    match misbehaviour {
        Misbehaviour::Refuse(status) => Some(Error::of(*status).into()),
        Misbehaviour::HangUp => None,
        Misbehaviour::Stall => std::future::pending().await,
        Misbehaviour::ApplyAndAnswer(status) => {
            apply(&request);
            Some(Error::of(*status).into())
        }
        Misbehaviour::ApplyAndHangUp => {
            apply(&request);
            None
        }
        Misbehaviour::ApplyAndStall => {
            apply(&request);
            std::future::pending().await
        }
        Misbehaviour::Delay(time) => {
            tokio::time::sleep(*time).await;
            Some(apply(&request))
        }
        Misbehaviour::Hold(gate) => {
            gate.pass().await;
            Some(apply(&request))
        }
        Misbehaviour::StallBodyAfter(_) | Misbehaviour::CutBodyAfter(_) => Some(apply(&request)),
        Misbehaviour::IgnoreConditions => {
            request.ignore_conditions();
            Some(apply(&request))
        }
        Misbehaviour::StripMetadata => {
            request.strip_metadata();
            Some(apply(&request))
        }
        Misbehaviour::HideMissing => {
            let reply = apply(&request);
            let is_hidden = request.operation == Operation::List || reply.status == StatusCode::NOT_FOUND;
            Some(if is_hidden { Error::denied().into() } else { reply })
        }
    }
}

/// All of a body, or as much of it as a fault lets come.
fn body_of(bytes: Bytes, misbehaviour: Option<&Misbehaviour>) -> Body {
    let start = |length: usize| stream::iter([Ok(bytes.slice(..length.min(bytes.len())))]);
    match misbehaviour {
        Some(Misbehaviour::StallBodyAfter(length)) => Body::from_stream(start(*length).chain(stream::pending())),
        Some(Misbehaviour::CutBodyAfter(length)) => {
            let cut = stream::once(async {
                // What came before is sent off first.
                tokio::task::yield_now().await;
                Err(std::io::Error::other("cut, as the test wants"))
            });
            Body::from_stream(start(*length).chain(cut))
        }
        _ => Body::from(bytes),
    }
}
