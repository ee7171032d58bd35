//! `/-/holdfast/v1/package/{package}/uploads`: publishing a tarball that goes to the bucket by a link.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::error::ApiError;
use super::extract::{Account, Bounded, Id, Identity, Package, json as read_json};
use super::publish;
use super::refused::refused;
use super::respond;
use crate::app::App;

/// A version and a number.
const MAX_BODY_BYTES: usize = 4096;

#[derive(Deserialize)]
struct Wanted {
    version: String,
    /// Of the tarball, in bytes.
    length: u64,
}

/// Gives out a link to send the tarball by.
pub(super) async fn begin(
    State(app): State<App>,
    Account(caller): Account,
    Package(name): Package,
    Bounded(body): Bounded<MAX_BODY_BYTES>,
) -> Result<Response, ApiError> {
    let Wanted { version, length } = read_json(&body)?;
    let place = app.registry.begin_upload(&caller, &name, &version, length).await;
    let place = place.map_err(|error| refused(&app, &caller, &name, error))?;
    let headers: BTreeMap<&str, &str> = place.headers.iter().copied().collect();
    let answer = json!({
        "id": place.id,
        "method": "PUT",
        "url": place.url.as_str(),
        "headers": headers,
        "expires": place.expires,
    });
    Ok(respond::json(StatusCode::CREATED, &answer))
}

/// Publishes what was sent. The body is that of an ordinary publish, without the tarball's data.
pub(super) async fn commit(
    State(app): State<App>,
    Identity(caller): Identity,
    Package(name): Package,
    Id(id): Id,
    body: Body,
) -> Result<Response, ApiError> {
    let intake = app.registry.intake_of_upload(&caller, &name, id);
    publish::taken(&app, intake, body).await.map_err(|error| refused(&app, &caller, &name, error))
}
