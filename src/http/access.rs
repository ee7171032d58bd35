//! Who may see and change a package, as `npm access` asks for it. What decides is in the settings.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde_json::json;

use super::error::ApiError;
use super::extract::{Identity, Package};
use super::respond;
use crate::app::App;
use crate::npm::Form;

/// `{"public": bool}`, which npm asks before it publishes with provenance.
pub(super) async fn visibility(
    State(app): State<App>,
    Identity(caller): Identity,
    Package(name): Package,
) -> Result<Response, ApiError> {
    app.registry.packument(&caller, &name, Form::Full).await?;
    Ok(respond::json(StatusCode::OK, &json!({ "public": app.registry.is_public(&name) })))
}

/// `{"access": …}`, pnpm's question for the same.
pub(super) async fn get(
    State(app): State<App>,
    Identity(caller): Identity,
    Package(name): Package,
) -> Result<Response, ApiError> {
    app.registry.packument(&caller, &name, Form::Full).await?;
    let access = if app.registry.is_public(&name) { "public" } else { "restricted" };
    Ok(respond::json(StatusCode::OK, &json!({ "access": access })))
}

/// Who may read and write: the owners, or whom the rules name.
pub(super) async fn collaborators(
    State(app): State<App>,
    Identity(caller): Identity,
    Package(name): Package,
) -> Result<Response, ApiError> {
    Ok(respond::json(StatusCode::OK, &app.registry.collaborators(&caller, &name).await?))
}
