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

/// 200 when a write would work now, 503 when not.
pub(super) async fn ready(State(app): State<App>) -> Result<Response, ApiError> {
    app.registry.check_storage().await?;
    Ok(respond::json(StatusCode::OK, &json!({ "storage": "ok" })))
}
