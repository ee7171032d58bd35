//! `/-/npm/v1/security/…`: `npm audit` in its new and its two old forms.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;

use super::error::ApiError;
use super::extract::{Bounded, Reader};
use super::respond;
use crate::app::App;
use crate::registry::AuditPath;

/// Ten thousand packages with their versions take less than one, decompressed; a whole tree with integrity some.
const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;

/// Advisories by package.
pub(super) async fn bulk(
    State(app): State<App>,
    Reader(caller): Reader,
    Bounded(body): Bounded<MAX_BODY_BYTES>,
) -> Result<Response, ApiError> {
    Ok(respond::json_bytes(StatusCode::OK, app.registry.audit_bulk(&caller, &body).await?))
}

/// npm 6, when installing.
pub(super) async fn quick(
    State(app): State<App>,
    Reader(caller): Reader,
    Bounded(body): Bounded<MAX_BODY_BYTES>,
) -> Result<Response, ApiError> {
    Ok(respond::json_bytes(StatusCode::OK, app.registry.audit_tree(&caller, AuditPath::Quick, &body).await?))
}

/// npm 6, when asked.
pub(super) async fn full(
    State(app): State<App>,
    Reader(caller): Reader,
    Bounded(body): Bounded<MAX_BODY_BYTES>,
) -> Result<Response, ApiError> {
    Ok(respond::json_bytes(StatusCode::OK, app.registry.audit_tree(&caller, AuditPath::Full, &body).await?))
}
