//! One request and its answer: time limits, sizes, and the sorting out of answers.
//!
//! Invariants: a request goes to one address and no further; the whole of it, reading included, has one time limit; no
//! body is read beyond its limit. Nothing is asked twice: who has the caller waiting knows best whether to try again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use reqwest::redirect::Policy;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use url::Url;

use super::Error;
use crate::causes;

/// The longest token, password, code or the like that is passed on. GitHub's tokens stay below a kilobyte.
const MAX_SENT_BYTES: usize = 4096;

/// The longest part of a path. GitHub's names have 100 characters at most; tokens in paths are old and short.
const MAX_SEGMENT_BYTES: usize = 256;

/// The longest wait that is believed; GitHub's limits are by the hour.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

/// What [`Error::BadAnswer`] says of a redirect.
const REDIRECT: &str = "a redirect";

/// What GitHub writes into a 403 that is about how often was asked, and not about what.
const LIMIT_PHRASES: [&str; 3] = ["rate limit", "abuse detection", "maximum number of login attempts"];

/// A request. Its headers hold credentials, so there is no way to print it.
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Bytes>,
}

impl Request {
    /// One that wants JSON in this form.
    pub(super) fn new(method: Method, url: Url, accept: &'static str) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
        Self { method, url, headers, body: None }
    }

    /// With a body of this media type.
    pub(super) fn with_body(mut self, media_type: &'static str, body: impl Into<Bytes>) -> Self {
        self.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        self.body = Some(body.into());
        self
    }
}

/// A whole answer of whatever status below 500. It may hold a token, so there is no way to print it.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// Asks one thing at a time. Cheap to clone; clones share connections.
#[derive(Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    timeout: Duration,
    /// The last request got no answer.
    is_failing: Arc<AtomicBool>,
}

impl Client {
    /// The time limit is for one request and its answer, connecting included.
    pub(super) fn new(timeout: Duration) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("holdfast/", env!("CARGO_PKG_VERSION")))
            // What is asked here is asked with credentials, or decides whom to trust: neither may be led elsewhere.
            .redirect(Policy::none())
            .referer(false)
            // The environment's proxies would make what is reached depend on more than the settings.
            .no_proxy()
            .connect_timeout(timeout)
            .build()?;
        Ok(Self { http, timeout, is_failing: Arc::default() })
    }

    /// The whole answer, of so many bytes at most.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::Unavailable`] (a 5xx too), or [`Error::BadAnswer`] when it is too large or coded.
    pub(super) async fn send(&self, request: Request, limit_bytes: usize) -> Result<Reply, Error> {
        let reply = timeout(self.timeout, self.exchange(request, limit_bytes)).await.unwrap_or(Err(Error::Timeout));
        let is_failure = matches!(reply, Err(Error::Timeout | Error::Unavailable(_)));
        self.is_failing.store(is_failure, Ordering::Relaxed);
        reply
    }

    /// Whether the last request got no answer.
    pub(super) fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Relaxed)
    }

    async fn exchange(&self, request: Request, limit_bytes: usize) -> Result<Reply, Error> {
        let mut call = self.http.request(request.method, request.url).headers(request.headers);
        if let Some(body) = request.body {
            call = call.body(body);
        }
        let mut response = call.send().await.map_err(failure)?;
        let status = response.status();
        if status.is_server_error() {
            return Err(Error::Unavailable(format!("status {}", status.as_u16())));
        }
        let coding = response.headers().get(header::CONTENT_ENCODING);
        if coding.is_some_and(|coding| coding != "identity") {
            return Err(Error::BadAnswer("a content coding that was not asked for"));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failure)? {
            if body.len() + chunk.len() > limit_bytes {
                return Err(Error::BadAnswer("more than is taken"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Reply { status, headers: std::mem::take(response.headers_mut()), body: body.into() })
    }
}

impl Reply {
    /// The answer itself when it is a good one, and otherwise what the status, the headers and the body say.
    pub(super) fn judge(self) -> Result<Self, Error> {
        match self.status.as_u16() {
            200..=299 => Ok(self),
            300..=399 => Err(Error::BadAnswer(REDIRECT)),
            401 if self.wants_one_time_code() => Err(Error::OneTimeCode),
            401 => Err(Error::Rejected),
            404 | 410 => Err(Error::NotFound),
            403 if self.is_limit() => Err(Error::Limited { retry_after: self.retry_after() }),
            429 => Err(Error::Limited { retry_after: self.retry_after() }),
            403 => Err(Error::Forbidden),
            _ => Err(Error::BadAnswer("a status that answers nothing")),
        }
    }

    /// The body of a good answer.
    pub(super) fn json<T: DeserializeOwned>(self) -> Result<T, Error> {
        let body = self.judge()?.body;
        serde_json::from_slice(&body).map_err(|_| Error::BadAnswer("something else than the JSON that was asked for"))
    }

    /// A header's value, when it is there and a text.
    pub(super) fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim)
    }

    /// `X-GitHub-OTP: required; app`, or another way to get the code.
    fn wants_one_time_code(&self) -> bool {
        let wish = self.header("x-github-otp").unwrap_or_default();
        wish.split(';').next().is_some_and(|wish| wish.trim().eq_ignore_ascii_case("required"))
    }

    /// Whether a 403 is about how often was asked (GitHub, "Rate limits for the REST API").
    fn is_limit(&self) -> bool {
        let text = String::from_utf8_lossy(&self.body).to_ascii_lowercase();
        self.headers.contains_key(header::RETRY_AFTER)
            || self.is_used_up()
            || LIMIT_PHRASES.iter().any(|phrase| text.contains(phrase))
    }

    fn is_used_up(&self) -> bool {
        self.header("x-ratelimit-remaining") == Some("0")
    }

    /// `Retry-After`, in seconds or as a date (RFC 9110, 10.2.3); else the time until `X-RateLimit-Reset`, in seconds
    /// since 1970, when nothing is left until then. Both are set against the answer's own date: that is the same clock.
    fn retry_after(&self) -> Option<Duration> {
        let seconds_until = |instant: u64| Some(instant.saturating_sub(unix_seconds(self.header(header::DATE)?)?));
        let seconds = match self.header(header::RETRY_AFTER) {
            Some(text) => text.parse().ok().or_else(|| seconds_until(unix_seconds(text)?)),
            None if self.is_used_up() => seconds_until(self.header("x-ratelimit-reset")?.parse().ok()?),
            None => None,
        };
        seconds.map(|seconds| Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
    }
}

impl Error {
    /// True when the answer was a redirect, which means something at some addresses.
    pub(super) fn is_redirect(&self) -> bool {
        matches!(self, Self::BadAnswer(text) if *text == REDIRECT)
    }
}

fn unix_seconds(date: &str) -> Option<u64> {
    let date = httpdate::parse_http_date(date).ok()?;
    date.duration_since(std::time::UNIX_EPOCH).ok().map(|since| since.as_secs())
}

/// True for a text that can be sent as credentials: of visible ASCII letters, not empty, not too long.
pub(super) fn is_sendable(text: &str) -> bool {
    (1..=MAX_SENT_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// True for a text that can be passed on in a body: not empty, not too long.
pub(super) fn is_bounded(text: &str) -> bool {
    (1..=MAX_SENT_BYTES).contains(&text.len())
}

/// The header, marked so that nothing below prints it. `None` for a text that cannot be sent.
pub(super) fn sensitive(name: HeaderName, text: &str) -> Option<(HeaderName, HeaderValue)> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some((name, value))
}

/// An address below a base whose path ends with a slash. Each part is one segment, whatever letters it has.
///
/// # Errors
/// [`Error::NotFound`] for a part that cannot be a name: an empty or very long one, one with control characters, which
/// the parser of URLs would leave out, and `.` and `..`, which would lead elsewhere.
pub(super) fn address(base: &Url, parts: &[&str]) -> Result<Url, Error> {
    let is_name = |part: &&str| {
        (1..=MAX_SEGMENT_BYTES).contains(&part.len())
            && !matches!(*part, "." | "..")
            && !part.chars().any(char::is_control)
    };
    if !parts.iter().all(is_name) {
        return Err(Error::NotFound);
    }
    let mut url = base.clone();
    match url.path_segments_mut() {
        Ok(mut segments) => segments.pop_if_empty().extend(parts),
        Err(()) => return Err(Error::BadAnswer("an address that paths cannot be appended to")),
    };
    Ok(url)
}

/// For the log: what happened, with its causes, without the URL (it may hold a token).
fn failure(error: reqwest::Error) -> Error {
    if error.is_timeout() {
        return Error::Timeout;
    }
    if error.is_builder() {
        return Error::BadAnswer("an address that cannot be asked");
    }
    Error::Unavailable(causes::one_line(&error.without_url()))
}
