//! `/-/invite/{code}`: making the account that somebody was invited to.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;

use super::browser::problem;
use super::error::{ApiError, PLAIN_PASSWORD};
use super::extract::{Bounded, From, InvitationCode, form};
use super::web::{self, pages};
use crate::app::App;
use crate::auth;

const MAX_BODY_BYTES: usize = 16 * 1024;

/// The form.
pub(super) async fn page(State(app): State<App>, From(origin): From, InvitationCode(code): InvitationCode) -> Response {
    match app.registry.auth().invitation(&code).await {
        Ok(name) => {
            let name = name.unwrap_or_default();
            web::page(
                StatusCode::OK,
                &pages::Invitation { base: &origin.base, code: &code, name: &name, problem: None },
            )
        }
        Err(error) => problem(&origin, ApiError::from(error)),
    }
}

/// Makes the account, and uses the invitation up.
pub(super) async fn accept(
    State(app): State<App>,
    From(origin): From,
    InvitationCode(code): InvitationCode,
    Bounded(body): Bounded<MAX_BODY_BYTES>,
) -> Response {
    if !origin.is_private_line {
        return problem(&origin, ApiError::new(&PLAIN_PASSWORD));
    }
    let mut fields = form(&body);
    let mut field = |name: &str| fields.remove(name).unwrap_or_default();
    let (name, password, again, email) = (field("name"), field("password"), field("again"), field("email"));
    let again_page = |why: String| {
        let page = pages::Invitation { base: &origin.base, code: &code, name: &name, problem: Some(why) };
        web::page(StatusCode::BAD_REQUEST, &page)
    };
    if password != again {
        return again_page("The two passwords are not the same.".to_owned());
    }
    match app.registry.auth().accept_invitation(&code, name.trim(), password, email.trim()).await {
        Ok(()) => {
            let base = &*origin.base;
            let sentence = format!("The account is there. Sign in with “npm login --registry {base}/”.");
            let page = pages::Done { base, title: "Welcome", sentence: &sentence, code: None };
            web::page(StatusCode::CREATED, &page)
        }
        Err(
            error @ (auth::Error::BadName
            | auth::Error::NameTaken(_)
            | auth::Error::BadPassword
            | auth::Error::BadProfile),
        ) => again_page(web::plain(ApiError::from(error).sentence())),
        Err(error) => problem(&origin, ApiError::from(error)),
    }
}
