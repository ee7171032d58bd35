//! Answers in the shapes that npm's clients expect.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;

/// An answer of its parts.
pub(super) fn with(status: StatusCode, headers: HeaderMap, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// JSON that is bytes already.
pub(super) fn json_bytes(status: StatusCode, bytes: Bytes) -> Response {
    (status, [(CONTENT_TYPE, HeaderValue::from_static("application/json"))], Body::from(bytes)).into_response()
}

/// JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    // Only maps with keys that are no texts cannot be written, and nothing here has such.
    json_bytes(status, serde_json::to_vec(value).unwrap_or_default().into())
}

/// The answer to a write that succeeded. Berry parses it, yarn classic tests either member, the older system's clients
/// know `success`.
pub(super) fn done(status: StatusCode) -> Response {
    json(status, &serde_json::json!({ "ok": true, "success": true }))
}

/// `Cache-Control` of what changes: to be asked about again each time, and kept by nobody else when it is private.
pub(super) fn revalidate(is_public: bool) -> HeaderValue {
    HeaderValue::from_static(if is_public { "public, no-cache" } else { "private, no-cache" })
}

/// `Vary` of a packument.
pub(super) fn vary(is_public: bool) -> HeaderValue {
    HeaderValue::from_static(if is_public {
        "Accept, Accept-Encoding"
    } else {
        "Accept, Accept-Encoding, Authorization"
    })
}
