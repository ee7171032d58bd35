//! `/-/package/{package}/owners`, as pnpm uses it. npm and yarn change the document itself, see `publish.rs`.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::ApiError;
use super::extract::{Account, Bounded, Identity, Package, UserName, json as parse};
use super::refused::refused;
use super::respond;
use crate::app::App;

const MAX_BODY_BYTES: usize = 64 * 1024;

#[derive(Deserialize)]
struct NewOwner {
    user: String,
}

/// The owners.
pub(super) async fn list(
    State(app): State<App>,
    Identity(caller): Identity,
    Package(name): Package,
) -> Result<Response, ApiError> {
    let owners = app.registry.owners(&caller, &name).await?;
    let owners: Vec<Value> =
        owners.into_iter().map(|owner| json!({ "username": owner.name, "email": owner.email })).collect();
    Ok(respond::json(StatusCode::OK, &owners))
}

/// Adds an owner.
pub(super) async fn add(
    State(app): State<App>,
    Account(caller): Account,
    Package(name): Package,
    Bounded(body): Bounded<MAX_BODY_BYTES>,
) -> Result<Response, ApiError> {
    let NewOwner { user } = parse(&body)?;
    let done = app.registry.add_owner(&caller, &name, &user).await;
    done.map_err(|error| refused(&app, &caller, &name, error))?;
    Ok(respond::done(StatusCode::CREATED))
}

/// Removes an owner.
pub(super) async fn remove(
    State(app): State<App>,
    Identity(caller): Identity,
    Package(name): Package,
    UserName(user): UserName,
) -> Result<Response, ApiError> {
    let done = app.registry.remove_owner(&caller, &name, &user).await;
    done.map_err(|error| refused(&app, &caller, &name, error))?;
    Ok(respond::done(StatusCode::OK))
}
