//! `/-/npm/v1/hooks`: `npm hook add | ls | rm | update` of npm 6 to 10.

use axum::extract::State;
use axum::response::Response;
use http::{StatusCode, Uri};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::{ApiError, BAD_REQUEST};
use super::extract::{Bounded, Id, Person, json as parse, query_value};
use super::respond;
use crate::app::App;
use crate::auth::Caller;
use crate::registry::{HookWish, ListedHook};

const MAX_BODY_BYTES: usize = 16 * 1024;

/// What `npm hook add` sends.
#[derive(Deserialize)]
struct Wanted {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    endpoint: String,
    secret: String,
}

/// What `npm hook update` sends.
#[derive(Deserialize)]
struct Changed {
    endpoint: String,
    secret: String,
}

/// The caller's own hooks: `?package=…&limit=…&offset=…`.
pub(super) async fn list(State(app): State<App>, Person(user): Person, uri: Uri) -> Result<Response, ApiError> {
    let (limit, offset) = (number(&uri, "limit")?, number(&uri, "offset")?.unwrap_or(0));
    let package = query_value(&uri, "package").filter(|name| !name.is_empty());
    let hooks = app.registry.hooks(&Caller::User(user), package.as_deref()).await?;
    let page = hooks.iter().skip(offset).take(limit.unwrap_or(usize::MAX));
    let objects: Vec<Value> = page.map(|listed| shown(listed, false)).collect();
    Ok(respond::json(StatusCode::OK, &json!({ "objects": objects, "total": hooks.len(), "urls": {} })))
}

/// One of them.
pub(super) async fn get(State(app): State<App>, Person(user): Person, Id(id): Id) -> Result<Response, ApiError> {
    let listed = app.registry.hook(&Caller::User(user), &id).await?;
    Ok(respond::json(StatusCode::OK, &shown(&listed, false)))
}

/// Sets one up.
pub(super) async fn add(
    State(app): State<App>,
    Person(user): Person,
    Bounded(body): Bounded<MAX_BODY_BYTES>,
) -> Result<Response, ApiError> {
    let Wanted { kind, name, endpoint, secret } = parse(&body)?;
    let listed = app.registry.add_hook(&Caller::User(user), HookWish { kind, name, endpoint, secret }).await?;
    Ok(respond::json(StatusCode::CREATED, &shown(&listed, false)))
}

/// Points one to another address, with another secret.
pub(super) async fn update(
    State(app): State<App>,
    Person(user): Person,
    Id(id): Id,
    Bounded(body): Bounded<MAX_BODY_BYTES>,
) -> Result<Response, ApiError> {
    let Changed { endpoint, secret } = parse(&body)?;
    let listed = app.registry.update_hook(&Caller::User(user), &id, &endpoint, &secret).await?;
    Ok(respond::json(StatusCode::OK, &shown(&listed, false)))
}

/// Removes one.
pub(super) async fn remove(State(app): State<App>, Person(user): Person, Id(id): Id) -> Result<Response, ApiError> {
    let listed = app.registry.remove_hook(&Caller::User(user), &id).await?;
    Ok(respond::json(StatusCode::OK, &shown(&listed, true)))
}

fn number(uri: &Uri, key: &str) -> Result<Option<usize>, ApiError> {
    let bad = |_| ApiError::saying(&BAD_REQUEST, format!("`{key}` is no number."));
    query_value(uri, key).map(|text| text.parse().map_err(bad)).transpose()
}

/// A hook in the public registry's members, without its secret: whoever set it up has it.
fn shown(ListedHook { hook, report }: &ListedHook, is_deleted: bool) -> Value {
    json!({
        "id": hook.id,
        "username": hook.username,
        "name": hook.target.name,
        // It is its owner who sees it.
        "endpoint": hook.endpoint.expose(),
        "type": hook.target.kind,
        "created": hook.created,
        "updated": hook.updated,
        "deleted": is_deleted,
        "delivered": report.delivered > 0,
        "last_delivery": report.last_attempt,
        "response_code": report.response_code,
        "status": if report.is_off { "disabled" } else { "active" },
    })
}
