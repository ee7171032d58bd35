//! `/-/v1/search`, and `/-/all` for npm 6 and older.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode, Uri};

use super::error::{ApiError, BAD_REQUEST};
use super::extract::{From, Identity, query_value};
use super::respond;
use crate::app::App;
use crate::registry::{DEFAULT_SIZE, SearchRequest};

/// Searches hosted packages, and public ones where the text has `is:public`.
pub(super) async fn search(
    State(app): State<App>,
    From(origin): From,
    Identity(caller): Identity,
    uri: Uri,
) -> Result<Response, ApiError> {
    let number = |key: &str, default: usize| match query_value(&uri, key) {
        None => Ok(default),
        Some(text) => text
            .parse()
            .map_err(|_| ApiError::saying(&BAD_REQUEST, format!("`{key}` must be a number that is not negative."))),
    };
    let request = SearchRequest {
        text: query_value(&uri, "text").unwrap_or_default(),
        from: number("from", 0)?,
        size: number("size", DEFAULT_SIZE)?,
    };
    Ok(respond::json_bytes(StatusCode::OK, app.registry.search(&caller, request, &origin.base).await?))
}

/// Every hosted package, in pieces.
pub(super) async fn all(State(app): State<App>, Identity(caller): Identity) -> Result<Response, ApiError> {
    let pieces = app.registry.all_packages(&caller)?;
    Ok(([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], Body::from_stream(pieces)).into_response())
}
