//! Stars: npm's list of them and pnpm's own calls. npm stars by a `PUT` of the document, see `publish.rs`.

use axum::extract::State;
use axum::response::Response;
use http::{StatusCode, Uri};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::{ApiError, BAD_REQUEST};
use super::extract::{Bounded, Identity, Person, UserName, json as parse, package_name, query_value};
use super::respond;
use crate::app::App;
use crate::auth::Caller;

const MAX_BODY_BYTES: usize = 64 * 1024;

/// pnpm sends both members.
#[derive(Deserialize)]
struct Starred {
    package: Option<String>,
    name: Option<String>,
}

/// npm's view: `?key="alice"`, the name as JSON.
pub(super) async fn view(State(app): State<App>, Identity(caller): Identity, uri: Uri) -> Result<Response, ApiError> {
    let key = query_value(&uri, "key").ok_or_else(|| ApiError::new(&BAD_REQUEST))?;
    let user: String = serde_json::from_str(&key).map_err(|_| ApiError::new(&BAD_REQUEST))?;
    let names = app.registry.starred_by(&caller, &user).await?;
    let rows: Vec<Value> = names.into_iter().map(|name| json!({ "value": name })).collect();
    Ok(respond::json(StatusCode::OK, &json!({ "rows": rows })))
}

/// The caller's own stars.
pub(super) async fn own(State(app): State<App>, Person(user): Person) -> Result<Response, ApiError> {
    let name = user.name.clone();
    Ok(respond::json(StatusCode::OK, &app.registry.starred_by(&Caller::User(user), &name).await?))
}

/// Somebody's stars.
pub(super) async fn of_user(
    State(app): State<App>,
    Identity(caller): Identity,
    UserName(user): UserName,
) -> Result<Response, ApiError> {
    Ok(respond::json(StatusCode::OK, &app.registry.starred_by(&caller, &user).await?))
}

/// Adds the caller's star.
pub(super) async fn add(
    State(app): State<App>,
    Person(user): Person,
    Bounded(body): Bounded<MAX_BODY_BYTES>,
) -> Result<Response, ApiError> {
    set(&app, &Caller::User(user), &body, true).await
}

/// Takes the caller's star.
pub(super) async fn remove(
    State(app): State<App>,
    Person(user): Person,
    Bounded(body): Bounded<MAX_BODY_BYTES>,
) -> Result<Response, ApiError> {
    set(&app, &Caller::User(user), &body, false).await
}

async fn set(app: &App, caller: &Caller, body: &[u8], starred: bool) -> Result<Response, ApiError> {
    let Starred { package, name } = parse(body)?;
    let name = package.or(name).ok_or_else(|| ApiError::new(&BAD_REQUEST))?;
    app.registry.set_star(caller, &package_name(&name)?, starred).await?;
    Ok(respond::done(StatusCode::OK))
}
