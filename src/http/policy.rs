//! `/-/holdfast/v1/…`: why a version is offered or not.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::error::ApiError;
use super::extract::{Bounded, Identity, Package, Reader, json as read_json};
use super::respond;
use crate::app::App;
use crate::registry::Checked;

/// A thousand names and versions take less.
const MAX_BODY_BYTES: usize = 1024 * 1024;

#[derive(Deserialize)]
struct Wanted {
    packages: Vec<Checked>,
}

/// What is withheld of a package, with rule, reason and release time.
pub(super) async fn explain(
    State(app): State<App>,
    Identity(caller): Identity,
    Package(name): Package,
) -> Result<Response, ApiError> {
    Ok(respond::json(StatusCode::OK, &app.registry.explain(&caller, &name).await?))
}

/// A verdict for each of several versions.
pub(super) async fn check(
    State(app): State<App>,
    Reader(caller): Reader,
    Bounded(body): Bounded<MAX_BODY_BYTES>,
) -> Result<Response, ApiError> {
    let wanted: Wanted = read_json(&body)?;
    let verdicts = app.registry.check(&caller, wanted.packages).await?;
    Ok(respond::json(StatusCode::OK, &json!({ "verdicts": verdicts })))
}
