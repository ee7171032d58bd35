//! Signing in and out, the way CouchDB would have it.

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::error::{ApiError, BAD_DOCUMENT, PLAIN_PASSWORD, TOKEN_NOT_FOUND, USER_NOT_FOUND};
use super::extract::{Bounded, From, Reader, TokenText, UserName, json as parse, one_time_code};
use super::origin::Origin;
use super::respond;
use crate::app::App;
use crate::auth::{Presented, Token};

const MAX_BODY_BYTES: usize = 64 * 1024;

#[derive(Deserialize)]
struct SignIn {
    name: String,
    password: String,
    #[serde(default)]
    email: Option<String>,
}

/// Signs in, or makes the account where registration is open. Credentials in the header are ignored: npm sends expired
/// ones here.
pub(super) async fn sign_in(
    State(app): State<App>,
    From(origin): From,
    UserName(user): UserName,
    headers: HeaderMap,
    Bounded(body): Bounded<MAX_BODY_BYTES>,
) -> Result<Response, ApiError> {
    let outcome = token_for(&app, &origin, &user, &headers, &body).await;
    app.metrics.sign_in("password", outcome.as_ref().map_or_else(ApiError::code, |_| "ok"));
    let answer = json!({
        "ok": true,
        "success": true,
        "id": format!("org.couchdb.user:{user}"),
        "rev": "1-0",
        "token": outcome?.reveal(),
    });
    Ok(respond::json(StatusCode::CREATED, &answer))
}

async fn token_for(
    app: &App,
    origin: &Origin,
    user: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Token, ApiError> {
    if !origin.is_private_line {
        return Err(ApiError::new(&PLAIN_PASSWORD));
    }
    let SignIn { name, password, email } = parse(body)?;
    if name != user {
        return Err(ApiError::saying(&BAD_DOCUMENT, "The user name in the body is not the one in the address."));
    }
    let presented = Presented { address: origin.address, code: one_time_code(headers) };
    let email = email.as_deref().unwrap_or_default();
    Ok(app.registry.auth().sign_in(&name, password, email, presented).await?)
}

/// A user's public profile, which `npm owner add` asks for.
pub(super) async fn user(
    State(app): State<App>,
    Reader(_): Reader,
    UserName(user): UserName,
) -> Result<Response, ApiError> {
    let account = app.registry.auth().account(&user).await?;
    let account =
        account.ok_or_else(|| ApiError::saying(&USER_NOT_FOUND, format!("There is no user `{user}` here.")))?;
    Ok(respond::json(
        StatusCode::OK,
        &json!({ "_id": format!("org.couchdb.user:{}", account.name), "name": account.name, "email": account.email, "type": "user", "roles": [] }),
    ))
}

/// Signs out: the token in the address is of no use from now on. Whoever knows a token may end it.
pub(super) async fn sign_out(
    State(app): State<App>,
    From(origin): From,
    TokenText(token): TokenText,
) -> Result<Response, ApiError> {
    if app.registry.auth().revoke(&Token::received(&token), origin.address).await? {
        Ok(respond::done(StatusCode::OK))
    } else {
        Err(ApiError::new(&TOKEN_NOT_FOUND))
    }
}
