//! What happens to every request, outermost first:
//!
//! 1. it gets an id and, at its end, one line in the log;
//! 2. a panic below becomes a 500 for this request and nothing else;
//! 3. it is told where it came from, and its path is brought into the one spelling that the router knows;
//! 4. the router;
//! 5. errors on the way out become JSON that names the id.

use std::borrow::Cow;
use std::net::{Ipv4Addr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use axum::body::Body;
use axum::response::Response;
use axum::{Extension, Router};
use futures::FutureExt as _;
use http::header::{ALLOW, CONTENT_LENGTH};
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use hyper::body::Body as _;
use tower::ServiceExt as _;

use super::browser;
use super::error::{
    ApiError, BAD_REQUEST, Code, ConfirmationPage, INTERNAL, MISDIRECTED, NO_ROUTE, Pending, method_not_allowed,
};
use super::notes::Notes;
use super::origin::{FrontEnd, Origin, Peer, stranger};
use super::path;
use super::request_id::RequestId;
use super::router::{self, Frequent};
use crate::app::App;
use crate::auth::{Asking, TOKEN_PREFIX};
use crate::events;
use crate::metrics::RouteMeter;
use crate::telemetry::{self, Answered};
use crate::traces::{self, Span};

/// The trace that the client counts the request to, by W3C's Trace Context.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Methods that a span is named by; any other one is a client's invention.
const METHODS: [&str; 9] = ["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE"];

/// Longer than any address that a client sends.
const MAX_PATH_BYTES: usize = 4096;
/// The route and the method of requests that fit no line of the table.
const NO_LINE: &str = "none";

/// The whole service: the router within all its layers. Cheap to clone; clones serve the same application.
#[derive(Clone)]
pub struct HttpService {
    current: Arc<RwLock<Arc<Serving>>>,
}

/// An application as it is served.
struct Serving {
    app: App,
    router: Router,
    /// One for each line of the route table, and one for requests that fit none.
    meters: Vec<RouteMeter>,
    /// The lines of requests that need no router, by [`Frequent::index`].
    frequent: [usize; Frequent::PATTERNS.len()],
}

/// Marks answers that the router itself made.
#[derive(Clone, Copy)]
struct NoRoute;

impl HttpService {
    /// The service of an application.
    pub fn new(app: App) -> Self {
        Self { current: Arc::new(RwLock::new(Arc::new(Serving::new(app)))) }
    }

    /// Serves another application from the next request on. Those under way end with the one that they began with.
    pub fn replace(&self, app: App) {
        let serving = Arc::new(Serving::new(app));
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = serving;
    }

    /// The application that is served now.
    pub fn app(&self) -> App {
        self.serving().app.clone()
    }

    fn serving(&self) -> Arc<Serving> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Answers a request. Where it came from is the extension [`Peer`] or [`FrontEnd`]; without either it is this machine.
    pub fn call(&self, request: Request<Body>) -> impl Future<Output = Response> + Send + use<> {
        let peer = request.extensions().get::<Peer>().map(|peer| peer.0);
        self.serving().call(peer, request)
    }

    /// Answers a request of a connection.
    pub fn call_from(
        &self,
        peer: SocketAddr,
        request: Request<Body>,
    ) -> Pin<Box<dyn Future<Output = Response> + Send>> {
        // In a box: what serves the connection moves it about.
        Box::pin(self.serving().call(Some(peer), request))
    }
}

impl Serving {
    fn new(app: App) -> Self {
        let no_route = || async { (Extension(NoRoute), StatusCode::NOT_FOUND) };
        let routes = router::routes();
        let lines = routes.table().iter().map(|route| (route.path, route.method));
        let meters = lines.chain([(NO_LINE, NO_LINE)]).map(|(path, method)| app.metrics.route(path, method)).collect();
        let frequent = Frequent::PATTERNS.map(|pattern| routes.line_of("GET", pattern));
        let router = routes.into_router(no_route).with_state(app.clone());
        Self { app, router, meters, frequent }
    }

    async fn call(self: Arc<Self>, peer: Option<SocketAddr>, mut request: Request<Body>) -> Response {
        let started = Instant::now();
        let _under_way = self.app.metrics.request();
        let id = RequestId::generate();
        let span = self.span_of(&request);
        let (method, asked_uri) = (request.method().clone(), request.uri().clone());
        let (mut response, notes) = match self.prepare(id, peer, &mut request) {
            Ok(notes) => {
                let uri = request.uri().clone();
                let response = {
                    // Pinned here, so that what it is wrapped in does not move it about.
                    let answer = pin!(self.answer(request, id, &notes));
                    traces::within(&span, events::within(notes.for_record(), answer)).await
                };
                if response.status().is_server_error() {
                    let message = || format!("status {}, request {id}", response.status().as_u16());
                    self.app.sinks.saw_failure(method.as_str(), uri.path(), || notes.command(), message);
                }
                (response, Some(notes))
            }
            Err(error) => (error.into_response_with(id), None),
        };
        id.write_into(response.headers_mut());
        let (status, took) = (response.status().as_u16(), started.elapsed());
        let notes = notes.as_ref();
        let meter = &self.meters[notes.and_then(Notes::line).unwrap_or(self.meters.len() - 1)];
        meter.answered(status, took);
        self.app.metrics.sent(announced_bytes(&method, &response));
        let trace = span.trace_id().map(|trace| trace.to_string());
        if span.is_recorded() {
            tell(span, &method, meter.route(), &response, id);
        }
        telemetry::answered(&Answered {
            id: id.as_str(),
            method: method.as_str(),
            path: &loggable(asked_uri.path()),
            route: meter.route(),
            status,
            code: response.extensions().get::<Code>().map(|code| code.0),
            caller: notes.and_then(Notes::caller),
            address: notes.and_then(|notes| notes.origin().address),
            trace: trace.as_deref(),
            took,
        });
        response
    }

    /// The span of a request. Where nothing is recorded, that is all that is looked at.
    fn span_of(&self, request: &Request<Body>) -> Span {
        if !self.app.traces.are_on() {
            return Span::default();
        }
        let mut values = request.headers().get_all(TRACEPARENT).iter();
        // Who sends two is not to be understood.
        let value = values.next().filter(|_| values.next().is_none());
        self.app.traces.request(value.map(HeaderValue::as_bytes))
    }

    /// Finds out where the request came from, and gives its path the one spelling.
    fn prepare(&self, id: RequestId, peer: Option<SocketAddr>, request: &mut Request<Body>) -> Result<Notes, ApiError> {
        let (uri, headers) = (request.uri(), request.headers());
        if let Some(why) = stranger(&self.app.public, uri, headers) {
            return Err(ApiError::saying(&MISDIRECTED, why));
        }
        let front = if peer.is_none() { request.extensions().get::<FrontEnd>() } else { None };
        let origin = if let Some(front) = front {
            Origin::behind(&self.app.public, front, uri, headers)
        } else {
            let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            Origin::of(&self.app.public, peer.unwrap_or(local), uri, headers)
        };
        let prefix = front.map_or(&*origin.prefix, |front| path::prefix_left(&origin.prefix, &front.prefix));
        let raw = uri.path();
        if raw.len() > MAX_PATH_BYTES {
            return Err(ApiError::new(&BAD_REQUEST));
        }
        let canonical = path::canonical(path::without_prefix(raw, prefix));
        let rewritten = (*canonical != *raw).then(|| match uri.query() {
            None => canonical.into_owned(),
            Some(query) => format!("{canonical}?{query}"),
        });
        let notes = Notes::new(id, origin, headers);
        if let Some(rewritten) = rewritten {
            let path = PathAndQuery::try_from(rewritten).map_err(|_| ApiError::new(&BAD_REQUEST))?;
            *request.uri_mut() = Uri::from(path);
        }
        Ok(notes)
    }

    async fn answer(&self, request: Request<Body>, id: RequestId, notes: &Notes) -> Response {
        let answer = pin!(async {
            match Frequent::of(request.method(), request.uri().path()) {
                Some(frequent) => {
                    notes.takes_line(self.frequent[frequent.index()]);
                    let answer = frequent.answer(&self.app, notes, request.headers()).await;
                    answer.unwrap_or_else(|error| self.refuse(error, id))
                }
                None => Box::pin(self.route(request, id, notes)).await,
            }
        });
        // What a panic may have left half-done is behind locks that do not care, or dropped with the request.
        AssertUnwindSafe(answer).catch_unwind().await.unwrap_or_else(|_| {
            tracing::error!(request.id = %id, "a request panicked");
            ApiError::new(&INTERNAL).into_response_with(id)
        })
    }

    async fn route(&self, mut request: Request<Body>, id: RequestId, notes: &Notes) -> Response {
        let asked = Asked::of(&request, notes);
        request.extensions_mut().insert(notes.clone());
        let Ok(response) = self.router.clone().oneshot(request).await;
        if let Some(error) = response.extensions().get::<Pending>().and_then(Pending::take) {
            return match error.page_of() {
                Some(base) => {
                    self.note_refusal(&error);
                    browser::problem_page(base, &error, id)
                }
                None => self.refuse(asked.with_page(&self.app, error).await, id),
            };
        }
        if response.extensions().get::<NoRoute>().is_some() {
            return ApiError::new(&NO_ROUTE).into_response_with(id);
        }
        if response.status() == StatusCode::METHOD_NOT_ALLOWED {
            return method_not_allowed(response.headers().get(ALLOW), id);
        }
        response
    }

    fn refuse(&self, error: ApiError, id: RequestId) -> Response {
        self.note_refusal(&error);
        error.into_response_with(id)
    }

    fn note_refusal(&self, error: &ApiError) {
        if error.is_of_policy() {
            self.app.metrics.refused(error.code());
        }
    }
}

/// What is remembered of a request for the case that a person has to confirm it.
struct Asked {
    base: Arc<str>,
    asking: Asking,
    /// The client opens a page by itself and asks whether it is done (npm since 8.14, pnpm, bun).
    is_for_web: bool,
}

impl Asked {
    fn of(request: &Request<Body>, notes: &Notes) -> Self {
        let origin = notes.origin();
        let is_for_web = request.headers().get("npm-auth-type").is_some_and(|value| value.as_bytes() == b"web");
        Self {
            base: Arc::clone(&origin.base),
            asking: browser::asking(request.headers(), origin.address, None),
            is_for_web,
        }
    }

    /// Makes the page on which a person confirms a change, where the error asks for one.
    async fn with_page(self, app: &App, error: ApiError) -> ApiError {
        let Some(challenge) = error.wants_page().cloned() else { return error };
        let auth = app.registry.auth();
        match auth.begin_confirmation(&challenge.user, &challenge.subject, challenge.change, self.asking).await {
            Ok(started) => error.with_page(ConfirmationPage {
                page_url: browser::page_url(&self.base, &started),
                done_url: browser::done_url(&self.base, &started),
                is_for_web: self.is_for_web,
            }),
            Err(error) => error.into(),
        }
    }
}

/// Tells the span of a request, at its end, what it was and what came of it: nothing that the client chose.
fn tell(mut span: Span, method: &Method, route: &'static str, response: &Response, id: RequestId) {
    let method = METHODS.into_iter().find(|known| *known == method.as_str()).unwrap_or("_OTHER");
    span.rename(|| if route == NO_LINE { method.to_owned() } else { format!("{method} {route}") });
    span.set("http.request.method", method);
    if route != NO_LINE {
        span.set("http.route", route);
    }
    span.set("http.response.status_code", response.status().as_u16());
    span.set("holdfast.request.id", id.to_string());
    let code = response.extensions().get::<Code>().map(|code| code.0);
    if response.status().is_server_error() {
        span.fail(code.unwrap_or("500"));
    } else if let Some(code) = code {
        span.set("error.type", code);
    }
}

/// How many bytes the body of an answer has, as far as its head tells.
fn announced_bytes(method: &Method, response: &Response) -> u64 {
    if method == Method::HEAD {
        return 0;
    }
    let in_head = || response.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
    response.body().size_hint().exact().or_else(in_head).unwrap_or_default()
}

/// A path as it may be logged: npm puts tokens into addresses when it logs out or revokes one.
fn loggable(path: &str) -> Cow<'_, str> {
    // Secrets stand below `/-/`, or are tokens, and these have an underscore.
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'_' && byte != b'%';
    let mut below = path.as_bytes().split(|byte| *byte == b'/').skip_while(|segment| segment != b"-");
    if path.bytes().all(is_plain) && !below.any(is_before_secret) {
        return Cow::Borrowed(path);
    }
    let mut is_token = false;
    let segments = path.split('/').map(|segment| {
        let hidden = is_token && segment != "device" || segment.contains(TOKEN_PREFIX);
        is_token = is_before_secret(segment.as_bytes());
        if hidden { "***".to_owned() } else { segment.chars().map(|c| if c.is_control() { '?' } else { c }).collect() }
    });
    Cow::Owned(segments.collect::<Vec<String>>().join("/"))
}

/// Whether the next segment may be a token, or the address of a sign-in or of an invitation: whoever knows that may go on with
/// it.
fn is_before_secret(segment: &[u8]) -> bool {
    matches!(segment, b"token" | b"login" | b"invite")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_in_addresses_are_not_logged() {
        assert_eq!(loggable("/-/user/token/abc"), "/-/user/token/***");
        assert_eq!(loggable("/npm/-/npm/v1/tokens/token/abc"), "/npm/-/npm/v1/tokens/token/***");
        assert_eq!(loggable("/lodash/hfst_secret"), "/lodash/***");
        assert_eq!(loggable("/-/login/abc/confirm"), "/-/login/***/confirm");
        assert_eq!(loggable("/-/invite/abc"), "/-/invite/***");
        assert_eq!(loggable("/-/v1/login"), "/-/v1/login");
        assert_eq!(loggable("/-/v1/login/device"), "/-/v1/login/device");
        assert_eq!(loggable("/@acme%2ftool"), "/@acme%2ftool");
        assert_eq!(loggable("/login/1.0.0"), "/login/1.0.0");
        assert_eq!(loggable("/small/-/small-1.0.0.tgz"), "/small/-/small-1.0.0.tgz");
    }
}
