//! The exchange of a CI job's identity token for a token that lasts minutes.

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde_json::json;

use super::error::{ApiError, IDENTITY_INVALID, NO_PUBLIC_URL};
use super::extract::{From, Package, credentials};
use super::origin::Origin;
use super::respond;
use crate::app::App;
use crate::auth::Credentials;
use crate::npm::PackageName;

/// npm's exchange, before `npm publish` and, since npm 12, `npm dist-tag`: for one package.
pub(super) async fn exchange(
    State(app): State<App>,
    From(origin): From,
    Package(name): Package,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    answer(&app, &origin, Some(&name), &headers).await
}

/// The same without a package: for a token that reads what the rules let workflows read.
pub(super) async fn exchange_to_read(
    State(app): State<App>,
    From(origin): From,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    answer(&app, &origin, None, &headers).await
}

async fn answer(
    app: &App,
    origin: &Origin,
    name: Option<&PackageName>,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let outcome = exchanged(app, origin, name, headers).await;
    app.metrics.sign_in("workflow", outcome.as_ref().map_or_else(ApiError::code, |_| "ok"));
    outcome.map_err(ApiError::of_exchange)
}

async fn exchanged(
    app: &App,
    origin: &Origin,
    name: Option<&PackageName>,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let Credentials::Bearer(identity) = credentials(headers)? else {
        let sentence = "there is no identity token in `Authorization: Bearer`";
        return Err(ApiError::saying(&IDENTITY_INVALID, sentence));
    };
    let audiences = audiences(app, origin)?;
    let (token, record) = app.registry.exchange(name, identity.reveal(), &audiences, origin.address).await?;
    let answer = json!({
        "token_type": "oidc",
        "token": token.reveal(),
        "created": record.created,
        "expires": record.expires,
    });
    Ok(respond::json(StatusCode::CREATED, &answer))
}

/// `npm:HOST` without the port as npm, pnpm and vlt ask for it, and with it as berry does.
///
/// What a request says of our own name is not believed here: a token that was made for another registry could be shown to
/// us under that registry's name.
fn audiences(app: &App, origin: &Origin) -> Result<Vec<String>, ApiError> {
    if app.public.url.is_none() && !app.public.is_local_only {
        return Err(ApiError::new(&NO_PUBLIC_URL));
    }
    let Ok(base) = url::Url::parse(&origin.base) else { return Err(ApiError::new(&NO_PUBLIC_URL)) };
    let host = base.host_str().unwrap_or_default();
    let port = base.port_or_known_default().unwrap_or_default();
    Ok(vec![format!("npm:{host}"), format!("npm:{host}:{port}")])
}
