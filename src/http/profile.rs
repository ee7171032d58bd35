//! `/-/whoami` and `/-/npm/v1/user`: who one is, `npm profile get | set`, password, one-time codes.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::{ApiError, BAD_REQUEST};
use super::extract::{Bounded, From, Identity, Person, json as parse};
use super::respond;
use crate::app::App;
use crate::auth::{Account, Enrolment, Mode, ProfileChange, User};
use crate::registry::Error;

const MAX_BODY_BYTES: usize = 64 * 1024;

/// The name of who asks; of a CI job a stable one.
pub(super) async fn whoami(Identity(caller): Identity) -> Result<Response, ApiError> {
    let name = caller.name().ok_or(Error::SignInFirst)?;
    Ok(respond::json(StatusCode::OK, &json!({ "username": name })))
}

/// The caller's own profile.
pub(super) async fn get(State(app): State<App>, Person(user): Person) -> Result<Response, ApiError> {
    Ok(respond::json(StatusCode::OK, &profile(&account(&app, &user).await?)))
}

#[derive(Deserialize)]
struct Changes {
    /// `None` leaves the address as it is.
    #[serde(default, deserialize_with = "text_or_null")]
    email: Option<String>,
    #[serde(default, deserialize_with = "text_or_null")]
    fullname: Option<String>,
    password: Option<NewPassword>,
    tfa: Option<Tfa>,
}

#[derive(Deserialize)]
struct NewPassword {
    old: String,
    new: String,
}

/// npm's three questions: to begin or to change (`{password, mode}`), to end (`mode: disable`), and to finish with a first
/// code (`[code]`).
#[derive(Deserialize)]
#[serde(untagged)]
enum Tfa {
    Finish(Vec<String>),
    Wanted { password: String, mode: String },
}

/// npm sends an empty text as `null`.
fn text_or_null<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Option::deserialize(deserializer).map(|text: Option<String>| Some(text.unwrap_or_default()))
}

/// Changes one thing: one-time codes, the password, or what the profile says.
pub(super) async fn set(
    State(app): State<App>,
    From(origin): From,
    Person(user): Person,
    Bounded(body): Bounded<MAX_BODY_BYTES>,
) -> Result<Response, ApiError> {
    let Changes { email, fullname, password, tfa } = parse(&body)?;
    app.registry.may_manage_tokens(&user)?;
    let auth = app.registry.auth();
    if let Some(tfa) = tfa {
        return change_second_factor(&app, &user, tfa, origin.address).await;
    }
    if let Some(NewPassword { old, new }) = password {
        auth.change_password(&user, old, new, origin.address).await?;
    }
    let account = auth.change_profile(&user, ProfileChange { email, fullname }).await?;
    Ok(respond::json(StatusCode::OK, &profile(&account)))
}

async fn change_second_factor(
    app: &App,
    user: &User,
    tfa: Tfa,
    address: Option<std::net::IpAddr>,
) -> Result<Response, ApiError> {
    let auth = app.registry.auth();
    let answer = match tfa {
        Tfa::Finish(codes) => {
            let code = codes.into_iter().next().ok_or_else(|| ApiError::new(&BAD_REQUEST))?;
            json!({ "tfa": auth.finish_second_factor(user, code).await? })
        }
        Tfa::Wanted { password, mode } => match mode.as_str() {
            "disable" => {
                auth.disable_second_factor(user, password, address).await?;
                json!({ "tfa": false })
            }
            "auth-only" => enrol(app, user, password, Mode::AuthOnly, address).await?,
            "auth-and-writes" => enrol(app, user, password, Mode::AuthAndWrites, address).await?,
            _ => {
                return Err(ApiError::saying(&BAD_REQUEST, "The mode is `auth-only`, `auth-and-writes` or `disable`."));
            }
        },
    };
    Ok(respond::json(StatusCode::OK, &answer))
}

async fn enrol(
    app: &App,
    user: &User,
    password: String,
    mode: Mode,
    address: Option<std::net::IpAddr>,
) -> Result<Value, ApiError> {
    Ok(match app.registry.auth().begin_second_factor(user, password, mode, address).await? {
        Enrolment::Scan(url) => json!({ "tfa": url }),
        Enrolment::Changed(mode) => json!({ "tfa": { "mode": mode, "pending": false } }),
    })
}

async fn account(app: &App, user: &User) -> Result<Account, ApiError> {
    Ok(app.registry.auth().account(&user.name).await?.ok_or(crate::auth::Error::UserNotFound)?)
}

fn profile(account: &Account) -> Value {
    let tfa = account.second_factor.as_ref().map(|factor| json!({ "mode": factor.mode, "pending": factor.pending }));
    json!({
        "tfa": tfa,
        "name": account.name,
        "email": account.email,
        "email_verified": false,
        "created": account.created,
        "updated": account.created,
        "cidr_whitelist": null,
        "fullname": account.fullname,
        "homepage": "",
        "github": if account.github_id.is_some() { account.name.as_str() } else { "" },
        "twitter": "",
        "freenode": "",
    })
}
