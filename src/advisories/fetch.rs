//! Fetching an archive of records into a file.
//!
//! Invariants: nothing waits without a time limit, and nothing is written beyond the size limit; the file is touched
//! only once there is something to write, and is gone again when not all of it came; no error names the address, which
//! may hold a password.

use std::io;
use std::path::Path;
use std::time::Duration;

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::Response;
use reqwest::redirect::Policy;
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;
use url::Url;

use super::collect::Limits;
use crate::causes;
use crate::upstream::Validators;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// From the request to the head of the answer.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two pieces of the body. There is none on the whole: a large archive over a slow line takes its time.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_REDIRECTS: usize = 5;

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// What the validators came with is still right. The file was not touched.
    NotModified,
    /// There is a new archive in the file.
    Archive {
        /// For the next time.
        validators: Validators,
        /// Its length in bytes.
        bytes: u64,
    },
}

/// Why there is no archive.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Neither `http` nor `https`.
    #[error("the address of the advisories must be an http or https URL")]
    Address,
    /// Any status but 200 and 304.
    #[error("the source of the advisories answered with status {0}")]
    Status(u16),
    /// A web page, or "not modified" though nothing was asked to compare with.
    #[error("the source of the advisories gave a bad answer: {0}")]
    BadAnswer(&'static str),
    /// Over [`Limits::max_archive_bytes`].
    #[error("the archive of advisories is larger than {0} bytes")]
    TooLarge(u64),
    /// It did not connect, answer or go on sending in time.
    #[error("the source of the advisories did not answer in time")]
    Timeout,
    /// It cannot be reached, or broke off. The text is for the log; it holds no URL.
    #[error("the source of the advisories is not available: {0}")]
    Unavailable(String),
    /// The file cannot be written.
    #[error("the advisories cannot be written down")]
    Write(#[source] io::Error),
}

/// Fetches an archive into a file, which is made or replaced. With validators the answer may be
/// [`Fetched::NotModified`]. Credentials in the URL are sent to its own host only.
pub async fn fetch(url: &Url, into: &Path, known: &Validators, limits: &Limits) -> Result<Fetched, FetchError> {
    fetch_within(url, into, known, limits, IDLE_TIMEOUT).await
}

pub(super) async fn fetch_within(
    url: &Url,
    into: &Path,
    known: &Validators,
    limits: &Limits,
    idle_timeout: Duration,
) -> Result<Fetched, FetchError> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(FetchError::Address);
    }
    let conditions = conditions(known);
    let is_conditional = !conditions.is_empty();
    let call = client()?.get(url.clone()).headers(conditions).header(header::ACCEPT_ENCODING, "identity");
    let response = match timeout(HEAD_TIMEOUT, call.send()).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) if !error.is_timeout() => return Err(unavailable(error)),
        Ok(Err(_)) | Err(_) => return Err(FetchError::Timeout),
    };
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_MODIFIED if is_conditional => return Ok(Fetched::NotModified),
        StatusCode::NOT_MODIFIED => return Err(FetchError::BadAnswer("not modified, without a question")),
        other => return Err(FetchError::Status(other.as_u16())),
    }
    let text = |name: HeaderName| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
    if text(header::CONTENT_TYPE).is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("text/html")) {
        return Err(FetchError::BadAnswer("a web page in place of an archive"));
    }
    let validators = Validators { etag: text(header::ETAG), last_modified: text(header::LAST_MODIFIED) };
    if response.content_length().is_some_and(|length| length > limits.max_archive_bytes) {
        return Err(FetchError::TooLarge(limits.max_archive_bytes));
    }
    let written = write(response, into, limits.max_archive_bytes, idle_timeout).await;
    if written.is_err() {
        // Half an archive is of no use, and the reason why it is half is the better error.
        let _ = tokio::fs::remove_file(into).await;
    }
    Ok(Fetched::Archive { validators, bytes: written? })
}

fn client() -> Result<reqwest::Client, FetchError> {
    let redirects = Policy::custom(|attempt| {
        let is_downgrade =
            attempt.url().scheme() != "https" && attempt.previous().iter().any(|url| url.scheme() == "https");
        if is_downgrade || attempt.previous().len() > MAX_REDIRECTS {
            // The answer then is the redirect itself, whose status is no success.
            attempt.stop()
        } else {
            attempt.follow()
        }
    });
    reqwest::Client::builder()
        .user_agent(concat!("holdfast/", env!("CARGO_PKG_VERSION")))
        .redirect(redirects)
        .referer(false)
        // The environment is read in the settings only.
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .build()
        .map_err(unavailable)
}

/// The date goes only where there is no tag, which is the better one (RFC 9110, 13.2.2).
fn conditions(known: &Validators) -> HeaderMap {
    let value = |text: &Option<String>| text.as_deref().and_then(|text| HeaderValue::from_str(text).ok());
    let mut headers = HeaderMap::new();
    if let Some(etag) = value(&known.etag) {
        headers.insert(header::IF_NONE_MATCH, etag);
    } else if let Some(date) = value(&known.last_modified) {
        headers.insert(header::IF_MODIFIED_SINCE, date);
    }
    headers
}

async fn write(
    mut response: Response,
    into: &Path,
    limit_bytes: u64,
    idle_timeout: Duration,
) -> Result<u64, FetchError> {
    let mut file = File::create(into).await.map_err(FetchError::Write)?;
    let mut written = 0;
    loop {
        let chunk = match timeout(idle_timeout, response.chunk()).await {
            Ok(Ok(Some(chunk))) => chunk,
            Ok(Ok(None)) => break,
            Ok(Err(error)) => return Err(unavailable(error)),
            Err(_) => return Err(FetchError::Timeout),
        };
        written += chunk.len() as u64;
        if written > limit_bytes {
            return Err(FetchError::TooLarge(limit_bytes));
        }
        file.write_all(&chunk).await.map_err(FetchError::Write)?;
    }
    file.flush().await.map_err(FetchError::Write)?;
    Ok(written)
}

fn unavailable(error: reqwest::Error) -> FetchError {
    FetchError::Unavailable(causes::one_line(&error.without_url()))
}
