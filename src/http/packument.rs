//! `GET /{package}` and `GET /{package}/{version, tag or range}`.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, LAST_MODIFIED, VARY, WARNING};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::error::ApiError;
use super::extract::{From, Headers, Identity, Package, Wanted};
use super::{negotiate, respond};
use crate::app::App;
use crate::auth::Caller;
use crate::npm::PackageName;
use crate::registry::{Encoding, Error, Packument};

/// The document, in the form and coding that the client asks for, or 304 when it has it.
pub(super) async fn get(
    State(app): State<App>,
    From(origin): From,
    Identity(caller): Identity,
    Package(name): Package,
    Headers(headers): Headers,
) -> Result<Response, ApiError> {
    answer(&app, &caller, &name, &origin.base, &headers).await
}

/// As [`get`], whose parts may be had without the router.
pub(super) async fn answer(
    app: &App,
    caller: &Caller,
    name: &PackageName,
    base: &str,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    match try_answer(app, caller, name, base, headers).await {
        // Once more: what replaced it is there now.
        Err(Error::Superseded) => Ok(Box::pin(try_answer(app, caller, name, base, headers)).await?),
        other => Ok(other?),
    }
}

async fn try_answer(
    app: &App,
    caller: &Caller,
    name: &PackageName,
    base: &str,
    headers: &HeaderMap,
) -> Result<Response, Error> {
    let packument = app.registry.packument(caller, name, negotiate::form(headers)).await?;
    app.sinks.saw_read(name, || caller.who());
    let encoding = negotiate::encoding(headers);
    let known = app.registry.rendered(&packument, base, encoding);
    let etag = known.as_ref().map_or_else(|| packument.etag(base), |known| known.etag.clone());
    let modified = packument.modified.map(crate::npm::Timestamp::as_seconds);
    let is_unchanged = negotiate::is_unchanged(headers, &etag, modified);
    let is_public = app.registry.is_public(name);
    if is_unchanged {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.headers_mut() = validators(&packument, etag, is_public);
        return Ok(response);
    }
    let rendered = match known {
        Some(known) => known,
        None => Box::pin(app.registry.render(&packument, base, encoding)).await?,
    };
    let mut response = Response::new(Body::from(rendered.bytes));
    *response.headers_mut() = validators(&packument, rendered.etag, is_public);
    let headers = response.headers_mut();
    if let Some(notice) = packument.notice().and_then(|text| HeaderValue::from_str(text).ok()) {
        headers.insert("npm-notice", notice);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(packument.form.media_type()));
    if let Some(coding) = coding(encoding) {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
    }
    Ok(response)
}

/// One version's object.
pub(super) async fn version(
    State(app): State<App>,
    From(origin): From,
    Identity(caller): Identity,
    Package(name): Package,
    Wanted(wanted): Wanted,
) -> Result<Response, ApiError> {
    let bytes = app.registry.version(&caller, &name, &wanted, &origin.base).await?;
    let mut response = respond::json_bytes(StatusCode::OK, bytes);
    response.headers_mut().insert(CACHE_CONTROL, respond::revalidate(app.registry.is_public(&name)));
    Ok(response)
}

fn coding(encoding: Encoding) -> Option<&'static str> {
    match encoding {
        Encoding::Identity => None,
        Encoding::Gzip => Some("gzip"),
        Encoding::Brotli => Some("br"),
        Encoding::Zstd => Some("zstd"),
    }
}

/// What a 200 and a 304 both say. There is room for what is added to it.
fn validators(packument: &Packument, etag: Bytes, is_public: bool) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(10);
    if let Ok(etag) = HeaderValue::from_maybe_shared(etag) {
        headers.insert(ETAG, etag);
    }
    if let Some(modified) = packument.modified.and_then(|modified| http_date(modified.as_seconds())) {
        headers.insert(LAST_MODIFIED, modified);
    }
    headers.insert(CACHE_CONTROL, respond::revalidate(is_public));
    headers.insert(VARY, respond::vary(is_public));
    if packument.is_stale {
        // RFC 7234 5.5.1: the upstream could not be asked.
        headers.insert(WARNING, HeaderValue::from_static("110 - \"Response is Stale\""));
    }
    headers
}

/// An HTTP date; `None` for instants before 1970.
pub(super) fn http_date(seconds: i64) -> Option<HeaderValue> {
    let since = std::time::Duration::from_secs(u64::try_from(seconds).ok()?);
    let date = httpdate::fmt_http_date(std::time::UNIX_EPOCH.checked_add(since)?);
    HeaderValue::try_from(date).ok()
}
