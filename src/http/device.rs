//! Signing in from a console without a browser: `holdfast login` begins it, the person types a code at GitHub.

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde_json::json;

use super::browser::{self, Begin};
use super::error::ApiError;
use super::extract::{Bounded, From};
use super::respond;
use crate::app::App;

const MAX_BODY_BYTES: usize = 16 * 1024;

/// Begins a sign-in. The client shows the code and asks `doneUrl`, as for the browser.
pub(super) async fn begin(
    State(app): State<App>,
    From(origin): From,
    headers: HeaderMap,
    Bounded(body): Bounded<MAX_BODY_BYTES>,
) -> Result<Response, ApiError> {
    let Begin { hostname } = serde_json::from_slice(&body).unwrap_or_default();
    let asking = browser::asking(&headers, origin.address, hostname.as_deref());
    let started = app.registry.auth().begin_device_login(asking).await?;
    let answer = json!({
        "userCode": started.user_code,
        "verificationUrl": started.verification_uri,
        "doneUrl": browser::done_url(&origin.base, &started.login),
        "interval": started.interval.as_secs(),
        "expiresIn": started.lasts.as_secs(),
    });
    Ok(respond::json(StatusCode::OK, &answer))
}
