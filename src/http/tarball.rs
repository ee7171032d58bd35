//! `GET /{package}/-/{file}`: a tarball's bytes, never recompressed.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_RANGE, LAST_MODIFIED, LOCATION,
    RANGE, VARY,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use url::Url;

use super::error::ApiError;
use super::extract::{File, Headers, Identity, Package, Revision};
use super::packument::http_date;
use super::range::{Requested, requested};
use super::refused::refused;
use super::{negotiate, respond};
use crate::app::App;
use crate::auth::Caller;
use crate::npm::PackageName;
use crate::registry::{self, ByteRange, Download, TarballBytes};

/// A whole tarball or a part of it.
pub(super) async fn get(
    State(app): State<App>,
    Identity(caller): Identity,
    Package(name): Package,
    File(file): File,
    method: Method,
    Headers(headers): Headers,
) -> Result<Response, ApiError> {
    answer(&app, &caller, &name, &file, method == Method::GET, &headers).await
}

/// As [`get`], whose parts may be had without the router. With `is_get` there is a body, and it counts as a download.
pub(super) async fn answer(
    app: &App,
    caller: &Caller,
    name: &PackageName,
    file: &str,
    is_get: bool,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let tarball = app.registry.tarball(caller, name, file, is_get).await?;
    let common = common_headers(app.registry.is_public(name));
    let response = match tarball {
        TarballBytes::Elsewhere(link) => elsewhere(&link),
        TarballBytes::Stored(download) => {
            let (mut response, missing) = stored(&download, headers, common, is_get)?;
            if let Some(part) = missing {
                *response.body_mut() = Box::pin(body_of(&download, part)).await?;
            }
            response
        }
        TarballBytes::Arriving { size_bytes, stream } => {
            let mut response = respond::with(StatusCode::OK, common, Body::from_stream(stream));
            if let Some(size) = size_bytes {
                response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(size));
            }
            response
        }
    };
    if is_get && begins_download(&response) {
        app.registry.count_download(name, file);
    }
    Ok(response)
}

/// Whether an answer is the beginning of a download: a file that comes in parts is one, and one that the client has is none.
fn begins_download(response: &Response) -> bool {
    match response.status() {
        StatusCode::OK | StatusCode::FOUND => true,
        StatusCode::PARTIAL_CONTENT => {
            let range = response.headers().get(CONTENT_RANGE);
            range.is_some_and(|range| range.as_bytes().starts_with(b"bytes 0-"))
        }
        _ => false,
    }
}

/// The last step of `npm unpublish name@version`.
pub(super) async fn delete(
    State(app): State<App>,
    Identity(caller): Identity,
    Package(name): Package,
    File(file): File,
    Revision(_): Revision,
) -> Result<Response, ApiError> {
    let done = app.registry.remove_tarball(&caller, &name, &file).await;
    done.map_err(|error| refused(&app, &caller, &name, error))?;
    Ok(respond::done(StatusCode::OK))
}

/// The answer with a tarball that is here, and which bytes of it are to be read before it can be sent.
fn stored(
    download: &Download,
    request: &HeaderMap,
    mut headers: HeaderMap,
    is_get: bool,
) -> Result<(Response, Option<ByteRange>), ApiError> {
    let size = download.size_bytes();
    let etag = download.etag();
    if let Ok(value) = HeaderValue::from_maybe_shared(etag.clone()) {
        headers.insert(ETAG, value);
    }
    if let Some(modified) = http_date(download.modified_seconds()) {
        headers.insert(LAST_MODIFIED, modified);
    }
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if negotiate::is_unchanged(request, &etag, Some(download.modified_seconds())) {
        headers.remove(CONTENT_TYPE);
        return Ok((respond::with(StatusCode::NOT_MODIFIED, headers, Body::empty()), None));
    }
    // A range of a file that has changed since is no use to who has the other part.
    let is_same = request.get(IF_RANGE).is_none_or(|value| value.as_bytes() == etag);
    let range = request.get(RANGE).and_then(|value| value.to_str().ok()).filter(|_| is_same);
    let (status, part) = match requested(range, size) {
        Requested::Whole => (StatusCode::OK, ByteRange { start: 0, end: size }),
        Requested::Part(part) => (StatusCode::PARTIAL_CONTENT, part),
        Requested::Unsatisfiable => return Err(ApiError::beyond(size)),
    };
    if status == StatusCode::PARTIAL_CONTENT
        && let Ok(value) = HeaderValue::try_from(format!("bytes {}-{}/{size}", part.start, part.end - 1))
    {
        headers.insert(CONTENT_RANGE, value);
    }
    headers.insert(CONTENT_LENGTH, HeaderValue::from(part.end - part.start));
    let at_hand = if is_get { download.at_hand(part).map(Body::from) } else { Some(Body::empty()) };
    let missing = at_hand.is_none().then_some(part);
    Ok((respond::with(status, headers, at_hand.unwrap_or_default()), missing))
}

/// Few bytes are read before the head is sent and go out with it, and what cannot be read is an error that can be told.
async fn body_of(download: &Download, part: ByteRange) -> Result<Body, ApiError> {
    let read = download.at_once(part).await.map_err(registry::Error::from)?;
    Ok(read.map_or_else(|| Body::from_stream(download.stream(part)), Body::from))
}

/// Sends the client to the bucket. Neither it nor anything on the way may keep the link, which ends.
fn elsewhere(link: &Url) -> Response {
    let mut headers = HeaderMap::with_capacity(2);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // A URL is ASCII.
    if let Ok(value) = HeaderValue::try_from(link.as_str()) {
        headers.insert(LOCATION, value);
    }
    (StatusCode::FOUND, headers).into_response()
}

fn common_headers(is_public: bool) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    // The bytes of a version never change.
    let lifetime =
        if is_public { "public, immutable, max-age=31557600" } else { "private, immutable, max-age=31557600" };
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(lifetime));
    if !is_public {
        headers.insert(VARY, HeaderValue::from_static("Authorization"));
    }
    headers
}
