//! `/-/package/{package}/dist-tags`.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;

use super::error::{ApiError, BAD_TAG, BAD_VERSION};
use super::extract::{Account, Bounded, Identity, Package, Tag, json, json_or_bare_text};
use super::refused::refused;
use super::respond;
use crate::app::App;
use crate::npm::{DistTag, Version};

const MAX_BODY_BYTES: usize = 64 * 1024;

/// All tags, as an object. From the store, from the upstream where the store has no such package; 404 where neither has
/// one, and 500, logged, when the store fails, as the older system answered.
pub(super) async fn list(
    State(app): State<App>,
    Identity(caller): Identity,
    Package(name): Package,
) -> Result<Response, ApiError> {
    let tags = app.registry.dist_tags(&caller, &name).await;
    Ok(respond::json(StatusCode::OK, &tags.map_err(|error| ApiError::from(error).of_store_as_internal())?))
}

/// Points a tag at the version in the body.
pub(super) async fn set(
    State(app): State<App>,
    Account(caller): Account,
    Package(name): Package,
    Tag(tag): Tag,
    Bounded(body): Bounded<MAX_BODY_BYTES>,
) -> Result<Response, ApiError> {
    let version = version(&json_or_bare_text(&body)?)?;
    let done = app.registry.set_dist_tag(&caller, &name, dist_tag(&tag)?, version).await;
    done.map_err(|error| refused(&app, &caller, &name, error))?;
    Ok(respond::done(StatusCode::CREATED))
}

/// Removes a tag.
pub(super) async fn remove(
    State(app): State<App>,
    Identity(caller): Identity,
    Package(name): Package,
    Tag(tag): Tag,
) -> Result<Response, ApiError> {
    let done = app.registry.remove_dist_tag(&caller, &name, tag).await;
    done.map_err(|error| refused(&app, &caller, &name, error))?;
    Ok(respond::done(StatusCode::OK))
}

/// Sets the tags in the body and leaves the others.
pub(super) async fn merge(
    State(app): State<App>,
    Account(caller): Account,
    Package(name): Package,
    Bounded(body): Bounded<MAX_BODY_BYTES>,
) -> Result<Response, ApiError> {
    let done = app.registry.set_dist_tags(&caller, &name, tags(&body)?, false).await;
    done.map_err(|error| refused(&app, &caller, &name, error))?;
    Ok(respond::done(StatusCode::CREATED))
}

/// Sets the tags in the body and removes the others.
pub(super) async fn replace(
    State(app): State<App>,
    Account(caller): Account,
    Package(name): Package,
    Bounded(body): Bounded<MAX_BODY_BYTES>,
) -> Result<Response, ApiError> {
    let done = app.registry.set_dist_tags(&caller, &name, tags(&body)?, true).await;
    done.map_err(|error| refused(&app, &caller, &name, error))?;
    Ok(respond::done(StatusCode::CREATED))
}

fn tags(body: &[u8]) -> Result<Vec<(DistTag, Version)>, ApiError> {
    let named: BTreeMap<String, String> = json(body)?;
    named.iter().map(|(tag, number)| Ok((dist_tag(tag)?, version(number)?))).collect()
}

fn dist_tag(text: &str) -> Result<DistTag, ApiError> {
    text.parse().map_err(|error| ApiError::saying(&BAD_TAG, format!("`{text}` cannot be a tag: {error}.")))
}

fn version(text: &str) -> Result<Version, ApiError> {
    text.parse().map_err(|_| ApiError::new(&BAD_VERSION))
}
