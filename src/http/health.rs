//! Is it there, and is it well?

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde_json::json;

use super::error::ApiError;
use super::respond;
use crate::app::App;

/// `npm ping`.
pub(super) async fn ping() -> Response {
    respond::json(StatusCode::OK, &json!({}))
}

/// What some tools look at to see whether this is a registry.
pub(super) async fn root() -> Response {
    respond::json(StatusCode::OK, &json!({ "db_name": "registry", "server": "holdfast" }))
}

/// 200 when a write would work now, 503 when not. What else is not well is told here and is no reason to take no requests: a
/// kept copy stands in for an upstream, old rules and settings stay in force, and a sink is told later from the record.
pub(super) async fn ready(State(app): State<App>) -> Result<Response, ApiError> {
    let health = app.health().await;
    let parts = json!(health);
    if health.can_serve() {
        Ok(respond::json(StatusCode::OK, &parts))
    } else {
        Err(ApiError::not_ready().with_parts(parts))
    }
}
