//! `/-/npm/v1/attestations/{name}@{version}`.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;

use super::error::ApiError;
use super::extract::{Identity, Spec, name_and_version};
use super::respond;
use crate::app::App;

/// The provenance published with a version.
pub(super) async fn get(
    State(app): State<App>,
    Identity(caller): Identity,
    Spec(spec): Spec,
) -> Result<Response, ApiError> {
    let (name, version) = name_and_version(&spec)?;
    Ok(respond::json_bytes(StatusCode::OK, app.registry.attestations(&caller, &name, &version).await?))
}
