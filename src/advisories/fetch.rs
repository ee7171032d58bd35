//! Fetching an archive: bounded, into a file, and only when it is another one than before.

use std::path::Path;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{ETAG, HeaderMap, HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use serde::{Deserialize, Serialize};
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;
use url::Url;

use super::archive::Limits;

/// How long the source may be silent.
const IDLE: Duration = Duration::from_mins(1);

/// What tells one archive from another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validators {
    /// `ETag`.
    #[serde(default)]
    pub etag: Option<String>,
    /// `Last-Modified`.
    #[serde(default)]
    pub last_modified: Option<String>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// The archive is the one that is known.
    NotModified,
    /// It is in the file.
    Whole(Validators),
}

/// Why there is no archive.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The source cannot be reached, or broke off.
    #[error("the source cannot be read")]
    Http(#[from] reqwest::Error),
    /// It answers something else.
    #[error("the source answers with status {0}")]
    Status(u16),
    /// More than [`Limits`] allow.
    #[error("the source sends more than {0} bytes")]
    TooLarge(u64),
    /// No room, or no right to write.
    #[error("the archive cannot be written")]
    Io(#[from] std::io::Error),
}

/// Fetches an archive into a file, over what was there.
///
/// # Errors
/// [`FetchError`]; what is in the file then is of no use.
pub async fn fetch(url: &Url, into: &Path, known: &Validators, limits: &Limits) -> Result<Fetched, FetchError> {
    let client = reqwest::Client::builder()
        .connect_timeout(IDLE)
        .read_timeout(IDLE)
        .user_agent(concat!("holdfast/", env!("CARGO_PKG_VERSION")))
        .build()?;
    let mut request = client.get(url.clone());
    for (name, value) in [(IF_NONE_MATCH, &known.etag), (IF_MODIFIED_SINCE, &known.last_modified)] {
        if let Some(value) = value {
            request = request.header(name, value);
        }
    }
    let mut response = request.send().await?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_MODIFIED => return Ok(Fetched::NotModified),
        other => return Err(FetchError::Status(other.as_u16())),
    }
    let validators =
        Validators { etag: text(response.headers(), &ETAG), last_modified: text(response.headers(), &LAST_MODIFIED) };
    let mut file = File::create(into).await?;
    let mut size = 0;
    while let Some(chunk) = response.chunk().await? {
        size += chunk.len() as u64;
        if size > limits.archive_bytes {
            return Err(FetchError::TooLarge(limits.archive_bytes));
        }
        file.write_all(&chunk).await?;
    }
    file.flush().await?;
    Ok(Fetched::Whole(validators))
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(ToOwned::to_owned)
}
