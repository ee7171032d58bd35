//! Signing in, and confirming a change, in the browser: `POST /-/v1/login` begins it, `/-/login/{id}` is the page, and the
//! client asks `/-/v1/done` until the person is done.

use std::net::IpAddr;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{COOKIE, HOST, LOCATION, ORIGIN, RETRY_AFTER, SET_COOKIE, USER_AGENT};
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use serde::Deserialize;
use serde_json::json;

use super::error::{ApiError, Code, NO_LOGIN, NO_WEB_LOGIN, PLAIN_PASSWORD};
use super::extract::{Bounded, From, Id, form, query_value};
use super::origin::Origin;
use super::request_id::RequestId;
use super::respond;
use super::web::{self, pages};
use crate::app::App;
use crate::auth::{self, Asking, Auth, Poll, Registration, Shown, Stage, Started};
use crate::random;

const MAX_BODY_BYTES: usize = 16 * 1024;
/// Binds a sign-in to the browser that began it.
const COOKIE_NAME: &str = "holdfast_login";
/// A little longer than a sign-in lasts.
const COOKIE_SECONDS: u32 = 15 * 60;

/// What the clients call themselves.
const CLIENTS: [&str; 6] = ["npm", "pnpm", "yarn", "bun", "deno", "holdfast"];

/// bun says the machine's name; all others say nothing.
#[derive(Deserialize, Default)]
pub(super) struct Begin {
    pub(super) hostname: Option<String>,
}

/// Begins a sign-in. Credentials in the header are ignored: npm sends expired ones here. Without GitHub there is nothing
/// that a page could do better than a prompt, and a 404 makes every client prompt.
pub(super) async fn begin(
    State(app): State<App>,
    From(origin): From,
    headers: HeaderMap,
    Bounded(body): Bounded<MAX_BODY_BYTES>,
) -> Result<Response, ApiError> {
    if !app.registry.auth().has_github_login() || is_older_npm(&headers) {
        return Err(ApiError::new(&NO_WEB_LOGIN));
    }
    // Berry sends no body at all.
    let Begin { hostname } = serde_json::from_slice(&body).unwrap_or_default();
    let asking = asking(&headers, origin.address, hostname.as_deref());
    let started = app.registry.auth().begin_login(asking).await?;
    let answer = json!({ "loginUrl": page_url(&origin.base, &started), "doneUrl": done_url(&origin.base, &started) });
    Ok(respond::json(StatusCode::OK, &answer))
}

/// npm 6, 7 and the first of 8 ask here whatever the person wants, and give up where they can open no browser: without this
/// page they ask for name and password, as their users know it. Later ones say that they are for the web.
fn is_older_npm(headers: &HeaderMap) -> bool {
    let is = |name: &str, right: fn(&str) -> bool| {
        headers.get(name).and_then(|value| value.to_str().ok()).is_some_and(right)
    };
    is(USER_AGENT.as_str(), |agent| agent.starts_with("npm/")) && !is("npm-auth-type", |kind| kind == "web")
}

/// What a client says of itself, for the person who is to say yes.
pub(super) fn asking(headers: &HeaderMap, address: Option<IpAddr>, machine: Option<&str>) -> Asking {
    let agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or("an unknown program");
    Asking::new(machine, address, agent)
}

/// The page of a login.
pub(super) fn page_url(base: &str, started: &Started) -> String {
    format!("{base}/-/login/{}", started.id)
}

/// Where the client asks whether the person is done.
pub(super) fn done_url(base: &str, started: &Started) -> String {
    format!("{base}/-/v1/done?authId={}.{}", started.id, started.poll)
}

/// Whether the person is done: 202 with JSON and `Retry-After` until then (npm polls in a tight loop without it), 200 with
/// the token once.
pub(super) async fn done(State(app): State<App>, uri: Uri) -> Result<Response, ApiError> {
    let ticket = query_value(&uri, "authId").ok_or_else(|| ApiError::new(&NO_LOGIN))?;
    let polled = app.registry.auth().poll(&ticket).await.map_err(ApiError::from);
    match &polled {
        Ok(Poll::Ready(_)) => app.metrics.sign_in("web", "ok"),
        Ok(Poll::Wait(_)) => {}
        Err(error) => app.metrics.sign_in("web", error.code()),
    }
    match polled? {
        Poll::Ready(token) => Ok(respond::json(StatusCode::OK, &json!({ "token": token }))),
        Poll::Wait(pause) => {
            let mut response = respond::json(StatusCode::ACCEPTED, &json!({}));
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(pause.as_secs().max(1)));
            Ok(response)
        }
    }
}

/// The page: to sign in, to confirm, or what came of it.
pub(super) async fn page(State(app): State<App>, From(origin): From, Id(id): Id, headers: HeaderMap) -> Response {
    let cookie = cookie(&headers);
    let shown = match app.registry.auth().login_page(&id, cookie.as_deref()).await {
        Ok(shown) => shown,
        Err(error) => return problem(&origin, ApiError::from(error)),
    };
    // A browser that has no cookie yet gets one, which all that follows is bound to. One that has it gets it again, so
    // that it lasts as long as this sign-in does.
    let cookie = cookie.unwrap_or_else(random::secret);
    let mut response = show(&app, &origin, &id, &shown, &cookie, None, "");
    if let Ok(value) = HeaderValue::try_from(cookie_text(&origin, &cookie)) {
        response.headers_mut().insert(SET_COOKIE, value);
    }
    response
}

fn show(
    app: &App,
    origin: &Origin,
    id: &str,
    shown: &Shown,
    cookie: &str,
    problem: Option<String>,
    user: &str,
) -> Response {
    let (base, auth) = (&*origin.base, app.registry.auth());
    let asks = asks(shown);
    match &shown.stage {
        Stage::SignIn => {
            let status = if problem.is_some() { StatusCode::UNAUTHORIZED } else { StatusCode::OK };
            web::page(
                status,
                &pages::SignIn {
                    base,
                    id,
                    asks: &asks,
                    github_url: auth.has_github_login().then(|| format!("{base}/-/login/{id}/github")),
                    has_local_accounts: true,
                    wants_code: true,
                    user,
                    problem,
                    registration_open: auth.registration() == Registration::Open,
                },
            )
        }
        Stage::Confirm { user } => web::page(
            StatusCode::OK,
            &pages::Confirm {
                base,
                id,
                asks: &asks,
                user,
                csrf: &Auth::csrf(cookie, id),
                action: shown.change.clone().unwrap_or_else(|| format!("Sign in {}", program(shown))),
            },
        ),
        Stage::Confirmed { code } => {
            let sentence = match code {
                Some(_) => "Confirmed. You can close this page and go back to your terminal.",
                None => "You are signed in. You can close this page and go back to your terminal.",
            };
            web::page(StatusCode::OK, &pages::Done { base, title: "Done", sentence, code: code.clone() })
        }
        Stage::Denied => {
            let sentence = "Nothing was done. If you did not start this yourself, somebody else tried.";
            web::page(StatusCode::OK, &pages::Done { base, title: "Denied", sentence, code: None })
        }
        Stage::Done => {
            let sentence = "This was picked up by the program that asked for it. You can close this page.";
            web::page(StatusCode::OK, &pages::Done { base, title: "Done", sentence, code: None })
        }
    }
}

/// `npm on build-7`, `npm at 192.0.2.7`, `a program (undici) at 192.0.2.7`, or `npm`.
fn program(shown: &Shown) -> String {
    let client = shown.asking.client.split(['/', ' ']).next().unwrap_or_default();
    // pnpm 11 and berry say only which library they send with, which tells a person nothing.
    let client = match client {
        "" => "a program".to_owned(),
        known if CLIENTS.iter().any(|name| known.eq_ignore_ascii_case(name)) => known.to_owned(),
        library => format!("a program ({library})"),
    };
    match (&shown.asking.machine, shown.asking.address) {
        (Some(machine), _) => format!("{client} on {machine}"),
        (None, Some(address)) => format!("{client} at {address}"),
        (None, None) => client,
    }
}

/// A text with another first letter.
fn with_first(text: &str, change: impl Fn(char) -> String) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(change).unwrap_or_default();
    format!("{first}{}", letters.as_str())
}

fn asks(shown: &Shown) -> pages::Asking {
    let what = match &shown.change {
        Some(change) => {
            format!("{} wants to {}", program(shown), with_first(change, |first| first.to_lowercase().collect()))
        }
        None => format!("{} wants to sign in", program(shown)),
    };
    // Names keep their own case: npm is written small everywhere.
    let what =
        if what.starts_with("a program") { with_first(&what, |first| first.to_uppercase().collect()) } else { what };
    pages::Asking {
        what,
        machine: shown.asking.machine.clone(),
        address: shown.asking.address.map_or_else(|| "unknown".to_owned(), |address| address.to_string()),
        client: shown.asking.client.clone(),
        // `2026-11-24T09:41:07.000Z`
        started: format!("{} UTC", shown.started.get(..16).unwrap_or_default().replace('T', " ")),
    }
}

/// Name and password, from the form on the page.
pub(super) async fn sign_in(
    State(app): State<App>,
    From(origin): From,
    Id(id): Id,
    headers: HeaderMap,
    Bounded(body): Bounded<MAX_BODY_BYTES>,
) -> Response {
    let Some(cookie) = own_cookie(&headers, &origin) else {
        return problem(&origin, ApiError::from(auth::Error::ForeignBrowser));
    };
    if !origin.is_private_line {
        return problem(&origin, ApiError::new(&PLAIN_PASSWORD));
    }
    let mut fields = form(&body);
    let mut field = |name: &str| fields.remove(name).unwrap_or_default();
    let (user, password, code) = (field("user"), field("password"), field("code"));
    let code = Some(code.trim()).filter(|code| !code.is_empty());
    let auth = app.registry.auth();
    let outcome = auth.login_with_password(&id, &cookie, user.trim(), password, code, origin.address).await;
    match outcome {
        Ok(()) => see_other(&format!("{}/-/login/{id}", origin.base)),
        Err(
            error @ (auth::Error::WrongPassword
            | auth::Error::OneTimeCode
            | auth::Error::BadPassword
            | auth::Error::BadName
            | auth::Error::NameTaken(_)
            | auth::Error::Locked(_)
            | auth::Error::Busy),
        ) => {
            let error = ApiError::from(error);
            match auth.login_page(&id, Some(&cookie)).await {
                Ok(shown) => show(&app, &origin, &id, &shown, &cookie, Some(web::plain(error.sentence())), &user),
                Err(error) => problem(&origin, ApiError::from(error)),
            }
        }
        Err(error) => problem(&origin, ApiError::from(error)),
    }
}

/// Off to GitHub.
pub(super) async fn to_github(State(app): State<App>, From(origin): From, Id(id): Id, headers: HeaderMap) -> Response {
    let Some(cookie) = cookie(&headers) else { return problem(&origin, ApiError::from(auth::Error::ForeignBrowser)) };
    match app.registry.auth().github_page(&id, &cookie, &callback_url(&origin)).await {
        Ok(url) => see_other(url.as_str()),
        Err(error) => problem(&origin, ApiError::from(error)),
    }
}

/// Back from GitHub.
pub(super) async fn from_github(State(app): State<App>, From(origin): From, headers: HeaderMap, uri: Uri) -> Response {
    let state = query_value(&uri, "state").unwrap_or_default();
    let (code, refusal) = (query_value(&uri, "code"), query_value(&uri, "error").unwrap_or_default());
    let code = code.as_deref().ok_or(refusal.as_str());
    let auth = app.registry.auth();
    match auth.return_from_github(&state, code, cookie(&headers).as_deref(), &callback_url(&origin)).await {
        Ok(id) => see_other(&format!("{}/-/login/{id}", origin.base)),
        Err(error) => problem(&origin, ApiError::from(error)),
    }
}

/// The person has said yes or no.
pub(super) async fn confirm(
    State(app): State<App>,
    From(origin): From,
    Id(id): Id,
    headers: HeaderMap,
    Bounded(body): Bounded<MAX_BODY_BYTES>,
) -> Response {
    let Some(cookie) = own_cookie(&headers, &origin) else {
        return problem(&origin, ApiError::from(auth::Error::ForeignBrowser));
    };
    let fields = form(&body);
    let field = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
    let is_confirmed = field("decision") == "confirm";
    match app.registry.auth().decide(&id, &cookie, field("csrf"), is_confirmed).await {
        Ok(()) => see_other(&format!("{}/-/login/{id}", origin.base)),
        Err(error) => problem(&origin, ApiError::from(error)),
    }
}

fn callback_url(origin: &Origin) -> String {
    format!("{}/-/github/callback", origin.base)
}

/// An answer that becomes a page which tells what is wrong, see [`problem_page`].
pub(super) fn problem(origin: &Origin, error: ApiError) -> Response {
    error.on_page_of(&origin.base).into_response()
}

/// A page of the server at `base` that tells what is wrong, with the id under which the log has the cause.
pub(super) fn problem_page(base: &str, error: &ApiError, id: RequestId) -> Response {
    let (status, sentence) = (error.status(), web::plain(error.sentence()));
    let title = if status.is_server_error() { "Not now" } else { "That did not work" };
    error.log(id);
    let mut response = web::page(status, &pages::Problem { base, title, sentence: &sentence, request_id: id.as_str() });
    response.extensions_mut().insert(Code(error.code()));
    response
}

/// After a form, so that a reload sends nothing twice.
pub(super) fn see_other(url: &str) -> Response {
    match HeaderValue::try_from(url) {
        Ok(location) => (StatusCode::SEE_OTHER, [(LOCATION, location)]).into_response(),
        Err(_) => StatusCode::BAD_REQUEST.into_response(),
    }
}

fn cookie(headers: &HeaderMap) -> Option<String> {
    let texts = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = texts.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(name, _)| *name == COOKIE_NAME)?;
    // One of ours, and not what somebody else has put there.
    let is_ours = value.len() == 43 && value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    is_ours.then(|| value.to_owned())
}

/// The cookie of a form that was sent from one of our own pages. Browsers say where a form was on; the cookie itself does not
/// come along from elsewhere (`SameSite`).
fn own_cookie(headers: &HeaderMap, origin: &Origin) -> Option<String> {
    let from = headers.get(ORIGIN).and_then(|value| value.to_str().ok());
    let is_own = from.is_none_or(|from| {
        let own = url::Url::parse(&origin.base).map(|url| url.origin().ascii_serialization());
        let same_host = headers
            .get(HOST)
            .and_then(|host| host.to_str().ok())
            .is_some_and(|host| from.strip_prefix("http://").or_else(|| from.strip_prefix("https://")) == Some(host));
        own.is_ok_and(|own| own == from) || same_host
    });
    cookie(headers).filter(|_| is_own)
}

fn cookie_text(origin: &Origin, value: &str) -> String {
    let secure = if origin.base.starts_with("https:") { "; Secure" } else { "" };
    format!(
        "{COOKIE_NAME}={value}; Path={}/-/; HttpOnly; SameSite=Lax; Max-Age={COOKIE_SECONDS}{secure}",
        origin.prefix
    )
}
