//! `/-/metrics`: figures for Prometheus.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

use super::error::{ApiError, METRICS_ELSEWHERE, METRICS_TOKEN};
use super::extract::{From, credentials};
use crate::app::App;
use crate::auth::Credentials;
use crate::metrics::{self, Readers};

/// Everything that is counted and measured, for whom the settings let see it. A token of the registry's is of no use here.
pub(super) async fn get(State(app): State<App>, From(origin): From, headers: HeaderMap) -> Result<Response, ApiError> {
    match &app.metrics_readers {
        Readers::Anyone => {}
        Readers::Local if origin.is_from_here => {}
        Readers::Local => return Err(ApiError::new(&METRICS_ELSEWHERE)),
        Readers::Token(token) => match credentials(&headers)? {
            Credentials::Bearer(shown) if token.is_right(shown.reveal()) => {}
            _ => return Err(ApiError::new(&METRICS_TOKEN).with_challenge()),
        },
    }
    let headers = [(CONTENT_TYPE, metrics::CONTENT_TYPE), (CACHE_CONTROL, "no-store")];
    Ok((headers, app.figures().await).into_response())
}
