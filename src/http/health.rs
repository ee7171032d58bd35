//! Is it there, and is it well?

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde_json::json;

use super::error::ApiError;
use super::respond;
use crate::app::App;
use crate::registry::PolicyHealth;

/// `npm ping`.
pub(super) async fn ping() -> Response {
    respond::json(StatusCode::OK, &json!({}))
}

/// What some tools look at to see whether this is a registry.
pub(super) async fn root() -> Response {
    respond::json(StatusCode::OK, &json!({ "db_name": "registry", "server": "holdfast" }))
}

/// 200 when a write would work now, 503 when not. Old rules that stay in force are no reason to take no requests; they are
/// told of, here and in the log.
pub(super) async fn ready(State(app): State<App>) -> Result<Response, ApiError> {
    app.registry.check_storage().await?;
    let PolicyHealth { rules_rejected_since, advisories_compiled, advisories_failing_since } =
        app.registry.policy_health();
    let rules = if rules_rejected_since.is_some() { "rejected" } else { "ok" };
    let policy = json!({
        "epoch": app.registry.policy().epoch(),
        "rules": rules,
        "rules_rejected_since": rules_rejected_since,
        "advisories_compiled": advisories_compiled,
        "advisories_failing_since": advisories_failing_since,
    });
    Ok(respond::json(StatusCode::OK, &json!({ "storage": "ok", "policy": policy })))
}
