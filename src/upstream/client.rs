//! One request to an upstream: redirects, credentials, time limits, retries, and the reading of bounded bodies.
//!
//! Invariants: credentials go to the upstream's own origin only, and not even there once a redirect has led elsewhere;
//! each hop is checked before it is made; no body is read beyond its limit; nothing waits without a time limit.

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use async_compression::tokio::bufread::GzipDecoder;
use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt as _, TryStreamExt as _};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use reqwest::Response;
use reqwest::redirect::Policy;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::timeout;
use tokio_util::io::StreamReader;
use url::Url;

use super::address::{self, Resolver, Trusted};
use super::breaker::{Circuit, Permit};
use super::{BuildError, Error, Settings};
use crate::causes;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::npm::Timestamp;
use crate::traces::{self, Span};

const MAX_REDIRECTS: usize = 5;

/// Pings that keep an idle-looking HTTP/2 connection from hanging on a peer that has vanished.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);

/// What is read of the body of a refusal, so that its connection can be used again.
const MAX_DRAINED_BYTES: usize = 64 << 10;
const MAX_DRAIN_TIME: Duration = Duration::from_millis(500);

/// A request as the upstream's methods describe it. Credentials are not part of it.
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Bytes>,
    pub(super) kind: Kind,
}

impl Request {
    /// For JSON, which is worth compressing.
    pub(super) fn document(method: Method, url: Url, accept: &'static str) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        Self { method, url, headers, body: None, kind: Kind::Document }
    }
}

/// Which connections a request uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Many small answers, that are read at once.
    Document,
    /// Large answers, that are read as slowly as their readers want.
    File,
}

/// The head of a successful answer: 200, or 304.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) response: Response,
    /// To be settled when the body has been read; `None` when the answer came from another origin.
    permit: Option<Permit>,
}

/// Why one try failed, and what follows from it.
struct Failure {
    error: Error,
    retry: Retry,
    /// The upstream itself is in trouble, as the breaker sees it.
    is_breakage: bool,
}

#[derive(Clone, Copy)]
enum Retry {
    Never,
    Soon,
    After(Duration),
}

impl From<Error> for Failure {
    /// Something that another try would not change.
    fn from(error: Error) -> Self {
        Self { error, retry: Retry::Never, is_breakage: false }
    }
}

pub(super) struct Client {
    /// Over HTTP/2 where the upstream has it: an install asks for hundreds of documents at once.
    documents: reqwest::Client,
    /// Over HTTP/1.1: on a shared HTTP/2 connection, a few slow readers would use up the flow-control window of all.
    files: reqwest::Client,
    home: Url,
    trusted: Trusted,
    authorization: Option<HeaderValue>,
    circuit: Arc<Circuit>,
    clock: Clock,
    settings: Settings,
    metrics: Option<Metrics>,
}

impl Client {
    /// `home` is the checked base URL; the settings' own is not looked at again.
    pub(super) fn new(settings: Settings, home: Url, clock: Clock) -> Result<Self, BuildError> {
        Self::with_resolver(settings, home, clock, Resolver::new())
    }

    pub(super) fn with_resolver(
        settings: Settings,
        home: Url,
        clock: Clock,
        mut resolver: Resolver,
    ) -> Result<Self, BuildError> {
        let trusted = Trusted::new(&home, &settings.trusted_hosts);
        // The proxy's name has to be resolved, but it is no place for a redirect to lead to.
        resolver.trusted = trusted.clone();
        resolver.trusted.add(settings.proxy.as_ref().and_then(Url::host_str));
        let authorization = match (&settings.token, &settings.basic) {
            (None, None) => None,
            (Some(_), Some(_)) => return Err(BuildError::TwoCredentials),
            (Some(token), None) => Some(format!("Bearer {}", token.expose())),
            (None, Some(basic)) => Some(format!("Basic {}", basic.expose())),
        };
        let authorization = authorization.map(|text| {
            let mut value = HeaderValue::try_from(text).map_err(|_| BuildError::Credentials)?;
            value.set_sensitive(true);
            Ok(value)
        });
        let documents = builder(&settings, resolver.clone())?
            .http2_adaptive_window(true)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .http2_keep_alive_timeout(KEEP_ALIVE_INTERVAL);
        let files = builder(&settings, resolver)?.http1_only();
        Ok(Self {
            documents: documents.build().map_err(BuildError::Client)?,
            files: files.build().map_err(BuildError::Client)?,
            circuit: Arc::new(Circuit::new(settings.breaker, clock.clone(), settings.name.clone())),
            authorization: authorization.transpose()?,
            home,
            trusted,
            clock,
            settings,
            metrics: None,
        })
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The base URL; its path ends with a slash.
    pub(super) fn home(&self) -> &Url {
        &self.home
    }

    /// The same client, which counts its requests and how long they take.
    pub(super) fn measured_by(self, metrics: Metrics) -> Self {
        Self { metrics: Some(metrics), ..self }
    }

    /// Whether the upstream keeps failing and is left alone.
    pub(super) fn is_left_alone(&self) -> bool {
        self.circuit.is_open()
    }

    /// Asks, follows redirects, and asks again where that may help.
    pub(super) async fn send(&self, request: &Request) -> Result<Answer, Error> {
        let began = Instant::now();
        let mut span = traces::child(traces::Kind::Client, "upstream", request.method.as_str());
        let answer = self.ask(request).await;
        let outcome = answer.as_ref().map_or_else(Error::outcome, |_| "ok");
        if let Some(metrics) = &self.metrics {
            metrics.upstream_request(&self.settings.name, outcome, began.elapsed());
        }
        if span.is_recorded() {
            self.tell(&mut span, outcome, answer.as_ref().ok());
        }
        answer
    }

    /// Tells the span of a request what came of it. Not the address: it is as long as a client wants.
    fn tell(&self, span: &mut Span, outcome: &'static str, answer: Option<&Answer>) {
        span.set("holdfast.upstream", self.settings.name.clone());
        span.set("holdfast.outcome", outcome);
        match answer {
            Some(answer) => span.set("http.response.status_code", answer.response.status().as_u16()),
            None => span.fail(outcome),
        }
    }

    async fn ask(&self, request: &Request) -> Result<Answer, Error> {
        // A host that only keeps tarballs says nothing about the health of the upstream.
        let mut permit = if self.is_home(&request.url) {
            Some(self.circuit.enter().map_err(|retry_after| Error::CircuitOpen { retry_after })?)
        } else {
            None
        };
        let retries = if permit.as_ref().is_some_and(Permit::is_probe) { 0 } else { self.settings.retries };
        let mut done = 0;
        loop {
            let failure = match self.try_once(request).await {
                Ok((response, true)) => return Ok(Answer { response, permit }),
                Ok((response, false)) => {
                    settle(&mut permit, false);
                    return Ok(Answer { response, permit: None });
                }
                Err(failure) => failure,
            };
            let pause = match failure.retry {
                _ if done == retries => None,
                Retry::Never => None,
                Retry::Soon => Some(self.pause(done)),
                Retry::After(wait) if wait > self.settings.max_retry_after => None,
                // All who were sent away at once would return at once.
                Retry::After(wait) => Some(wait + self.pause(0)),
            };
            let Some(pause) = pause else {
                settle(&mut permit, failure.is_breakage);
                return Err(failure.error);
            };
            done += 1;
            tracing::debug!(upstream.name = self.settings.name, error = %failure.error, "asking the upstream again");
            tokio::time::sleep(pause).await;
        }
    }

    /// Doubles each time; the upper half is random, so that many callers spread out.
    fn pause(&self, done: u32) -> Duration {
        let whole = self.settings.retry_pause.saturating_mul(1 << done.min(6));
        // Not a secret: the standard library's hash seeds are random enough to spread pauses.
        let random = RandomState::new().hash_one(done) % 1024;
        whole / 2 + whole / 2048 * u32::try_from(random).unwrap_or(0)
    }

    /// One try, with its redirects. True beside the response when no hop left the upstream's origin.
    async fn try_once(&self, request: &Request) -> Result<(Response, bool), Failure> {
        let mut url = request.url.clone();
        let mut at_home = true;
        for _ in 0..=MAX_REDIRECTS {
            self.check_hop(&url)?;
            at_home = at_home && self.is_home(&url);
            let response = self.fetch(request, &url, at_home).await?;
            if let Some(next) = redirect_target(&response)? {
                if request.method != Method::GET {
                    // The other redirects would turn a POST into a GET, and another host must not see the body.
                    let keeps_method =
                        matches!(response.status(), StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
                    if !keeps_method || !self.is_home(&next) {
                        return Err(Error::BadAnswer("a redirect of a request that cannot be redirected").into());
                    }
                }
                drain(response).await;
                url = next;
                continue;
            }
            return match self.judge(&response) {
                Ok(()) => Ok((response, at_home)),
                Err(mut failure) => {
                    failure.is_breakage &= at_home;
                    drain(response).await;
                    Err(failure)
                }
            };
        }
        Err(Error::BadAnswer("too many redirects").into())
    }

    fn is_home(&self, url: &Url) -> bool {
        url.origin() == self.home.origin()
    }

    fn check_hop(&self, url: &Url) -> Result<(), Error> {
        let scheme_allowed = match url.scheme() {
            "https" => true,
            "http" => self.home.scheme() == "http",
            _ => false,
        };
        if !scheme_allowed || !self.trusted.allows(url) {
            return Err(Error::ForbiddenAddress);
        }
        // The HTTP client would make an Authorization header of them.
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Error::BadAnswer("an address with credentials in it"));
        }
        Ok(())
    }

    async fn fetch(&self, request: &Request, url: &Url, at_home: bool) -> Result<Response, Failure> {
        let client = match request.kind {
            Kind::Document => &self.documents,
            Kind::File => &self.files,
        };
        let mut call = client.request(request.method.clone(), url.clone()).headers(request.headers.clone());
        if at_home && let Some(authorization) = &self.authorization {
            call = call.header(header::AUTHORIZATION, authorization);
        }
        if let Some(body) = &request.body {
            call = call.body(body.clone());
        }
        match timeout(self.settings.header_timeout, call.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) if address::is_refusal(&error) => Err(Error::ForbiddenAddress.into()),
            Ok(Err(error)) if error.is_builder() => Err(Error::BadAnswer("an address that cannot be asked").into()),
            Ok(Err(error)) if !error.is_timeout() => {
                Err(Failure { error: unavailable(error), retry: Retry::Soon, is_breakage: at_home })
            }
            Ok(Err(_)) | Err(_) => Err(Failure { error: Error::Timeout, retry: Retry::Soon, is_breakage: at_home }),
        }
    }

    /// Sorts out everything that is neither 200 nor a redirect.
    fn judge(&self, response: &Response) -> Result<(), Failure> {
        let status = response.status();
        match status.as_u16() {
            200 | 304 => Ok(()),
            404 | 410 => Err(Error::NotFound.into()),
            429 => {
                let retry_after = self.retry_after(response);
                let retry = retry_after.map_or(Retry::Soon, Retry::After);
                Err(Failure { error: Error::Throttled { retry_after }, retry, is_breakage: false })
            }
            400..=499 => Err(Error::Refused { status: status.as_u16() }.into()),
            code @ 500..=599 => {
                let retry_after = self.retry_after(response);
                let error = match retry_after {
                    Some(_) if code == 503 => Error::Throttled { retry_after },
                    _ => Error::Unavailable(format!("status {code}")),
                };
                let retry = match (code, retry_after) {
                    (502..=504, Some(wait)) => Retry::After(wait),
                    (502..=504, None) => Retry::Soon,
                    // A registry that fails on one document fails on it each time.
                    _ => Retry::Never,
                };
                Err(Failure { error, retry, is_breakage: true })
            }
            _ => Err(Error::BadAnswer("a status that answers nothing").into()),
        }
    }

    /// `Retry-After` is a number of seconds or a date (RFC 9110, 10.2.3).
    fn retry_after(&self, response: &Response) -> Option<Duration> {
        let text = header_text(response.headers(), &header::RETRY_AFTER)?.trim();
        if let Ok(seconds) = text.parse::<u32>() {
            return Some(Duration::from_secs(u64::from(seconds)));
        }
        let date = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
        let date = Timestamp::from_millis(i64::try_from(date.as_millis()).ok()?);
        let wait_millis = date.as_millis().saturating_sub(self.clock.now().as_millis());
        Some(Duration::from_millis(u64::try_from(wait_millis).unwrap_or(0)))
    }

    /// Reads a whole body, decompressed, and settles with the breaker.
    pub(super) async fn read(&self, answer: Answer, limit_bytes: u64) -> Result<Bytes, Error> {
        let Answer { response, mut permit } = answer;
        let body = read_bounded(response, limit_bytes, self.settings.idle_timeout).await;
        settle(&mut permit, body.as_ref().is_err_and(Error::is_failure));
        body
    }

    /// The body as it comes, at most so many bytes. What happens to it from here on is nothing of the breaker's: it
    /// may take hours.
    pub(super) fn stream(
        &self,
        answer: Answer,
        limit_bytes: u64,
    ) -> impl Stream<Item = Result<Bytes, Error>> + Send + 'static {
        let Answer { response, mut permit } = answer;
        settle(&mut permit, false);
        let expected = response.content_length();
        let body = Box::pin(chunks(response, self.settings.idle_timeout));
        stream::try_unfold((body, 0_u64), move |(mut body, mut passed)| async move {
            match body.try_next().await? {
                Some(chunk) => {
                    passed += chunk.len() as u64;
                    if passed > limit_bytes {
                        return Err(Error::TooLarge { limit: limit_bytes });
                    }
                    Ok(Some((chunk, (body, passed))))
                }
                None if expected.is_some_and(|expected| expected != passed) => {
                    Err(Error::BadAnswer("a body of another length than announced"))
                }
                None => Ok(None),
            }
        })
    }
}

impl Answer {
    /// Tells the breaker that all was well with an answer whose body is not wanted.
    pub(super) fn settle(mut self) {
        settle(&mut self.permit, false);
    }
}

fn settle(permit: &mut Option<Permit>, is_breakage: bool) {
    match permit.take() {
        Some(permit) if is_breakage => permit.failed(),
        Some(permit) => permit.succeeded(),
        None => {}
    }
}

fn builder(settings: &Settings, resolver: Resolver) -> Result<reqwest::ClientBuilder, BuildError> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("holdfast/", env!("CARGO_PKG_VERSION")))
        // Followed by hand: each hop is checked, and ours to give credentials to or not.
        .redirect(Policy::none())
        .referer(false)
        // Also switches off the environment's proxies, which would resolve names behind our back.
        .no_proxy()
        .dns_resolver(resolver)
        .connect_timeout(settings.connect_timeout)
        .tcp_keepalive(KEEP_ALIVE_INTERVAL);
    if let Some(proxy) = &settings.proxy {
        builder = builder.proxy(reqwest::Proxy::all(proxy.clone()).map_err(BuildError::Client)?);
    }
    if let Some(pem) = &settings.extra_certificates {
        let certificates = reqwest::Certificate::from_pem_bundle(pem).map_err(BuildError::Certificates)?;
        builder = builder.tls_certs_merge(certificates);
    }
    Ok(builder)
}

/// A header's value, when it is there and a text.
pub(super) fn header_text<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// True for what captive portals and login pages answer in the place of what was asked for.
pub(super) fn is_html(headers: &HeaderMap) -> bool {
    header_text(headers, &header::CONTENT_TYPE).is_some_and(|media_type| {
        let media_type = media_type.trim_start().to_ascii_lowercase();
        media_type.starts_with("text/html") || media_type.starts_with("application/xhtml")
    })
}

fn redirect_target(response: &Response) -> Result<Option<Url>, Error> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let location = header_text(response.headers(), &header::LOCATION);
    let target = location.and_then(|location| response.url().join(location).ok());
    target.map(Some).ok_or(Error::BadAnswer("a redirect to nowhere"))
}

/// Reads the rest of a short body: an HTTP/1.1 connection whose body is left unread has to be closed.
async fn drain(mut response: Response) {
    let read = async {
        let mut left = MAX_DRAINED_BYTES;
        while let Ok(Some(chunk)) = response.chunk().await {
            match left.checked_sub(chunk.len()) {
                Some(rest) => left = rest,
                None => break,
            }
        }
    };
    // Too slow is as good as too long: the connection is closed.
    let _ = timeout(MAX_DRAIN_TIME, read).await;
}

fn chunks(response: Response, idle_timeout: Duration) -> impl Stream<Item = Result<Bytes, Error>> + Send + 'static {
    stream::try_unfold(response, move |mut response| async move {
        // Runs only while somebody waits for the next chunk, so a slow reader is not taken for a slow upstream.
        match timeout(idle_timeout, response.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk.map(|chunk| (chunk, response))),
            Ok(Err(error)) => Err(unavailable(error)),
            Err(_) => Err(Error::Timeout),
        }
    })
}

async fn read_bounded(response: Response, limit_bytes: u64, idle_timeout: Duration) -> Result<Bytes, Error> {
    let compressed = match header_text(response.headers(), &header::CONTENT_ENCODING).map(str::trim) {
        None | Some("" | "identity") => false,
        Some("gzip" | "x-gzip") => true,
        Some(_) => return Err(Error::BadAnswer("a content coding that was not asked for")),
    };
    let announced = response.content_length().unwrap_or(0);
    if announced > limit_bytes {
        return Err(Error::TooLarge { limit: limit_bytes });
    }
    let reader = StreamReader::new(chunks(response, idle_timeout).map_err(io::Error::other).boxed());
    if compressed {
        let mut decoder = GzipDecoder::new(reader);
        // Also reads to the end of the body, without which the connection could not be used again.
        decoder.multiple_members(true);
        read_to_limit(decoder, limit_bytes, 0).await
    } else {
        read_to_limit(reader, limit_bytes, announced).await
    }
}

/// Decompression happens in here, a chunk at a time: a bomb is noticed when it passes the limit.
///
/// Memory that is new to the process costs more than what is done with it, so a body whose length is announced (zero where it
/// is not) is read to its place at once, and another in pieces that are put together at its end.
async fn read_to_limit(
    mut reader: impl AsyncRead + Unpin,
    limit_bytes: u64,
    announced_bytes: u64,
) -> Result<Bytes, Error> {
    const STEP_BYTES: usize = 64 << 10;
    /// So much an announcement is believed; for more, this much has to arrive first.
    const BELIEVED_BYTES: usize = 1 << 20;
    let announced = usize::try_from(announced_bytes).unwrap_or(usize::MAX);
    let (mut whole, mut before) = (Vec::new(), 0);
    // With room for one byte more, or the end could be found only after making room.
    let mut piece = Vec::with_capacity(if announced == 0 { STEP_BYTES } else { announced.min(BELIEVED_BYTES) + 1 });
    loop {
        if piece.len() == piece.capacity() {
            if announced > piece.len() && whole.is_empty() {
                piece.reserve_exact(announced - piece.len() + 1);
            } else {
                before += piece.len();
                let next = Vec::with_capacity(before.clamp(STEP_BYTES, BELIEVED_BYTES));
                whole.push(std::mem::replace(&mut piece, next));
            }
        }
        match reader.read_buf(&mut piece).await {
            Ok(0) => break,
            Ok(_) if (before + piece.len()) as u64 > limit_bytes => return Err(Error::TooLarge { limit: limit_bytes }),
            Ok(_) => {}
            Err(error) => {
                let ours = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()).cloned();
                return Err(ours.unwrap_or(Error::BadAnswer("broken compression")));
            }
        }
    }
    if whole.is_empty() {
        piece.shrink_to_fit();
        return Ok(Bytes::from(piece));
    }
    whole.push(piece);
    Ok(Bytes::from(whole.concat()))
}

/// For the log: what happened, with its causes, without the URL (it may be a signed one).
fn unavailable(error: reqwest::Error) -> Error {
    Error::Unavailable(causes::one_line(&error.without_url()))
}
