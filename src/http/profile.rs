//! `/-/whoami` and `/-/npm/v1/user`.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::error::{ApiError, BAD_REQUEST};
use super::extract::{Account, Bounded, Identity, json as parse};
use super::respond;
use crate::app::App;
use crate::auth::{Caller, User};
use crate::registry::Error;

const MAX_BODY_BYTES: usize = 64 * 1024;

/// The name of who asks.
pub(super) async fn whoami(Identity(caller): Identity) -> Result<Response, ApiError> {
    let user = signed_in(&caller)?;
    Ok(respond::json(StatusCode::OK, &json!({ "username": user.name })))
}

/// The caller's own profile.
pub(super) async fn get(State(app): State<App>, Identity(caller): Identity) -> Result<Response, ApiError> {
    let user = signed_in(&caller)?;
    let created = app.registry.auth().account(&user.name).await?.map(|account| account.created);
    Ok(respond::json(StatusCode::OK, &profile(&user.name, &user.email, created.as_deref())))
}

#[derive(Deserialize)]
struct Changes {
    /// `None` leaves the address as it is.
    #[serde(default, deserialize_with = "text_or_null")]
    email: Option<String>,
    password: Option<serde_json::Value>,
    tfa: Option<serde_json::Value>,
}

/// npm sends an empty text as `null`.
fn text_or_null<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Option::deserialize(deserializer).map(|text: Option<String>| Some(text.unwrap_or_default()))
}

/// Changes the mail address, if one is sent. Passwords and second factors cannot be changed here yet, and are refused rather than
/// ignored.
pub(super) async fn set(
    State(app): State<App>,
    Account(caller): Account,
    Bounded(body): Bounded<MAX_BODY_BYTES>,
) -> Result<Response, ApiError> {
    let user = signed_in(&caller)?;
    let Changes { email, password, tfa } = parse(&body)?;
    if password.is_some() || tfa.is_some() {
        return Err(ApiError::saying(&BAD_REQUEST, "This registry cannot change passwords or second factors yet."));
    }
    let email = match email {
        Some(email) => {
            app.registry.auth().set_email(&user.name, &email).await?;
            email
        }
        None => user.email.clone(),
    };
    let created = app.registry.auth().account(&user.name).await?.map(|account| account.created);
    Ok(respond::json(StatusCode::OK, &profile(&user.name, &email, created.as_deref())))
}

fn signed_in(caller: &Caller) -> Result<&User, ApiError> {
    caller.user().ok_or_else(|| Error::SignInFirst.into())
}

fn profile(name: &str, email: &str, created: Option<&str>) -> serde_json::Value {
    json!({
        "tfa": null,
        "name": name,
        "email": email,
        "email_verified": false,
        "created": created,
        "updated": created,
        "cidr_whitelist": null,
        "fullname": "",
        "homepage": "",
        "github": "",
        "twitter": "",
        "freenode": "",
    })
}
