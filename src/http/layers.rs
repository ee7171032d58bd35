//! What happens to every request, outermost first:
//!
//! 1. it gets an id and, at its end, one line in the log;
//! 2. a panic below becomes a 500 for this request and nothing else;
//! 3. it is told where it came from, and its path is brought into the one spelling that the router knows;
//! 4. the router;
//! 5. errors on the way out become JSON that names the id.

use std::net::{Ipv4Addr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use axum::body::Body;
use axum::response::Response;
use axum::{Extension, Router};
use futures::FutureExt as _;
use http::header::{ALLOW, CONTENT_LENGTH, REFERER, USER_AGENT};
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
use super::router;
use crate::app::App;
use crate::auth::{Asking, TOKEN_PREFIX};
use crate::events;
use crate::metrics::RouteMeter;
use crate::traces::{self, Span};

/// What npm 7 and newer are doing, such as `publish`.
const NPM_COMMAND: HeaderName = HeaderName::from_static("npm-command");

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
        self.serving().call(request)
    }
}

impl Serving {
    fn new(app: App) -> Self {
        let no_route = || async { (Extension(NoRoute), StatusCode::NOT_FOUND) };
        let routes = router::routes();
        let lines = routes.table().iter().map(|route| (route.path, route.method));
        let meters = lines.chain([(NO_LINE, NO_LINE)]).map(|(path, method)| app.metrics.route(path, method)).collect();
        let router = routes.into_router(no_route).with_state(app.clone());
        Self { app, router, meters }
    }

    async fn call(self: Arc<Self>, mut request: Request<Body>) -> Response {
        let started = Instant::now();
        let _under_way = self.app.metrics.request();
        let notes = Notes::default();
        request.extensions_mut().insert(notes.clone());
        let id = RequestId::generate();
        let span = self.span_of(&request);
        let method = request.method().clone();
        let logged_path = loggable(request.uri().path());
        let prepared = self.prepare(&mut request);
        let address = request.extensions().get::<Origin>().and_then(|origin| origin.address);
        let mut response = match prepared {
            Ok(()) => {
                let (asked, uri, sinks) = (asked(&request, &id), request.uri().clone(), self.app.sinks.clone());
                let answer = events::within(Arc::clone(&asked), self.answer(request, &id));
                let response = traces::within(&span, answer).await;
                if response.status().is_server_error() {
                    let message = || format!("status {}, request {id}", response.status().as_u16());
                    sinks.saw_failure(method.as_str(), uri.path(), &asked, message);
                }
                response
            }
            Err(error) => error.into_response_with(&id),
        };
        id.write_into(response.headers_mut());
        let (status, took) = (response.status().as_u16(), started.elapsed());
        let meter = &self.meters[notes.line().unwrap_or(self.meters.len() - 1)];
        meter.answered(status, took);
        self.app.metrics.sent(announced_bytes(&method, &response));
        let trace = span.trace_id();
        if span.is_recorded() {
            tell(span, &method, meter.route(), &response, &id);
        }
        let duration_ms = took.as_secs_f64() * 1000.0;
        tracing::info!(
            request.id = %id,
            trace.id = trace.map(tracing::field::display),
            http.method = %method,
            http.path = %logged_path,
            http.route = meter.route(),
            http.status = status,
            code = response.extensions().get::<Code>().map(|code| code.0),
            caller = notes.caller(),
            client.address = address.map(tracing::field::display),
            duration_ms = format_args!("{duration_ms:.2}"),
            "{method} {logged_path} {status}",
        );
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

    /// Tells the request where it came from, and gives its path the one spelling.
    fn prepare(&self, request: &mut Request<Body>) -> Result<(), ApiError> {
        if let Some(why) = stranger(&self.app.public, request.uri(), request.headers()) {
            return Err(ApiError::saying(&MISDIRECTED, why));
        }
        let peer = request.extensions().get::<Peer>().map(|peer| peer.0);
        let front = if peer.is_none() { request.extensions().get::<FrontEnd>() } else { None };
        let origin = if let Some(front) = front {
            Origin::behind(&self.app.public, front, request.uri(), request.headers())
        } else {
            let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            Origin::of(&self.app.public, peer.unwrap_or(local), request.uri(), request.headers())
        };
        let prefix = front.map_or(&*origin.prefix, |front| path::prefix_left(&origin.prefix, &front.prefix));
        let raw = request.uri().path();
        if raw.len() > MAX_PATH_BYTES {
            return Err(ApiError::new(&BAD_REQUEST));
        }
        let canonical = path::canonical(path::without_prefix(raw, prefix));
        if canonical != raw {
            let query = request.uri().query();
            let rewritten = query.map_or_else(|| canonical.clone(), |query| format!("{canonical}?{query}"));
            let path = PathAndQuery::try_from(rewritten).map_err(|_| ApiError::new(&BAD_REQUEST))?;
            *request.uri_mut() = Uri::from(path);
        }
        request.extensions_mut().insert(origin);
        Ok(())
    }

    async fn answer(&self, request: Request<Body>, id: &RequestId) -> Response {
        let asked = Asked::of(&request);
        let routed = async {
            let Ok(response) = self.router.clone().oneshot(request).await;
            response
        };
        // What a panic may have left half-done is behind locks that do not care, or dropped with the request.
        let Ok(response) = AssertUnwindSafe(routed).catch_unwind().await else {
            tracing::error!(request.id = %id, "a request panicked");
            return ApiError::new(&INTERNAL).into_response_with(id);
        };
        if let Some(error) = response.extensions().get::<Pending>().and_then(Pending::take) {
            if error.is_of_policy() {
                self.app.metrics.refused(error.code());
            }
            return match error.page_of() {
                Some(base) => browser::problem_page(base, &error, id),
                None => asked.with_page(&self.app, error).await.into_response_with(id),
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
}

/// What is remembered of a request for the case that a person has to confirm it.
struct Asked {
    base: Arc<str>,
    asking: Asking,
    /// The client opens a page by itself and asks whether it is done (npm since 8.14, pnpm, bun).
    is_for_web: bool,
}

impl Asked {
    fn of(request: &Request<Body>) -> Option<Self> {
        let origin = request.extensions().get::<Origin>()?;
        let is_for_web = request.headers().get("npm-auth-type").is_some_and(|value| value.as_bytes() == b"web");
        Some(Self {
            base: Arc::clone(&origin.base),
            asking: browser::asking(request.headers(), origin.address, None),
            is_for_web,
        })
    }
}

/// What the record tells of a request, when an event comes of it.
fn asked(request: &Request<Body>, id: &RequestId) -> Arc<events::Asked> {
    const MAX_CHARACTERS: usize = 200;
    let text = |name: HeaderName| {
        let text = request.headers().get(name)?.to_str().ok()?;
        Some(text.chars().filter(|c| !c.is_control()).take(MAX_CHARACTERS).collect::<String>())
    };
    Arc::new(events::Asked {
        id: id.to_string(),
        address: request.extensions().get::<Origin>().and_then(|origin| origin.address),
        agent: text(USER_AGENT),
        // A page in a browser is a referrer with a colon; npm 6 and older tell their command line there.
        command: text(NPM_COMMAND).or_else(|| text(REFERER).filter(|referrer| !referrer.contains("://"))),
    })
}

trait WithPage {
    async fn with_page(self, app: &App, error: ApiError) -> ApiError;
}

impl WithPage for Option<Asked> {
    /// Makes the page on which a person confirms a change, where the error asks for one.
    async fn with_page(self, app: &App, error: ApiError) -> ApiError {
        let (Some(asked), Some(challenge)) = (self, error.wants_page().cloned()) else { return error };
        let auth = app.registry.auth();
        match auth.begin_confirmation(&challenge.user, &challenge.subject, challenge.change, asked.asking).await {
            Ok(started) => error.with_page(ConfirmationPage {
                page_url: browser::page_url(&asked.base, &started),
                done_url: browser::done_url(&asked.base, &started),
                is_for_web: asked.is_for_web,
            }),
            Err(error) => error.into(),
        }
    }
}

/// Tells the span of a request, at its end, what it was and what came of it: nothing that the client chose.
fn tell(mut span: Span, method: &Method, route: &'static str, response: &Response, id: &RequestId) {
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
fn loggable(path: &str) -> String {
    let mut is_token = false;
    let segments = path.split('/').map(|segment| {
        let hidden = is_token && segment != "device" || segment.contains(TOKEN_PREFIX);
        // Whoever knows the address of a sign-in or of an invitation may go on with it.
        is_token = matches!(segment, "token" | "login" | "invite");
        if hidden { "***".to_owned() } else { segment.chars().map(|c| if c.is_control() { '?' } else { c }).collect() }
    });
    segments.collect::<Vec<String>>().join("/")
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
    }
}
