//! GitHub and an issuer as servers on loopback, which behave as well and as badly as the real ones do.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaKeyPair,
};
use axum::Router;
use axum::extract::{Request as Incoming, State};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;
use url::Url;

use super::*;
use crate::clock::Clock;
use crate::npm::Timestamp;
use crate::secret::Secret;

const DATE: &str = "Tue, 24 Nov 2026 10:00:00 GMT";
const DATE_SECONDS: u64 = 1_795_514_400;

/// A request as a server saw it.
#[derive(Debug, Clone)]
struct Seen {
    method: Method,
    target: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn field(&self, name: &str) -> Option<String> {
        url::form_urlencoded::parse(&self.body).find(|(field, _)| field == name).map(|(_, value)| value.into_owned())
    }
}

type Answers = Arc<dyn Fn(usize, &Seen) -> Response + Send + Sync>;
type Record = Arc<Mutex<Vec<Seen>>>;

/// A server that answers the n-th request with what a function says.
struct Server {
    url: Url,
    seen: Record,
}

impl Server {
    async fn start(answers: impl Fn(usize, &Seen) -> Response + Send + Sync + 'static) -> Self {
        Self::start_with(|_| answers).await
    }

    /// For answers that name the server's own address.
    async fn start_with<F: Fn(usize, &Seen) -> Response + Send + Sync + 'static>(
        answers: impl FnOnce(Url) -> F,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url: Url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let seen = Record::default();
        let state: (Answers, Record) = (Arc::new(answers(url.clone())), Arc::clone(&seen));
        let app = Router::new().fallback(answer).with_state(state);
        TaskTracker::new().spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, seen }
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    fn lines(&self) -> Vec<String> {
        self.seen().iter().map(Seen::line).collect()
    }

    fn count(&self) -> usize {
        self.seen().len()
    }
}

async fn answer(State((answers, seen)): State<(Answers, Record)>, request: Incoming) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let target = parts.uri.path_and_query().unwrap().to_string();
    let request = Seen { method: parts.method, target, headers: parts.headers, body };
    let index = {
        let mut seen = seen.lock().unwrap();
        seen.push(request.clone());
        seen.len() - 1
    };
    if request.target.contains("hangs") {
        return std::future::pending().await;
    }
    answers(index, &request)
}

fn ok(body: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

fn status(code: u16) -> Response {
    (StatusCode::from_u16(code).unwrap(), r#"{"message":"No"}"#).into_response()
}

fn with(mut response: Response, headers: &[(&'static str, &str)]) -> Response {
    for (name, value) in headers {
        response.headers_mut().insert(*name, value.parse().unwrap());
    }
    response
}

fn secret(text: &str) -> Secret {
    Secret::new(text)
}

fn basic(credentials: &str) -> String {
    format!("Basic {}", STANDARD.encode(credentials))
}

/// An app on an Enterprise server at this address.
fn github(url: &Url) -> GitHub {
    github_with(url, |_| {})
}

fn github_with(url: &Url, change: impl FnOnce(&mut Settings)) -> GitHub {
    let mut settings = Settings::new(url.clone());
    settings.client_id = Some("Iv1.app".to_owned());
    settings.client_secret = Some(secret("app-secret"));
    settings.service_token = Some(secret("service"));
    change(&mut settings);
    GitHub::new(settings).unwrap()
}

fn octocat() -> Value {
    json!({ "id": 583_231, "login": "OctoCat", "name": "The Octocat", "email": null, "avatar_url": "https://a/1", "x": 1 })
}

fn is_bad_answer(error: &Error) -> bool {
    matches!(error, Error::BadAnswer(_))
}

/// The error of `GET /user` when a server answers this.
async fn user_error(answer: impl Fn() -> Response + Send + Sync + 'static) -> Error {
    let server = Server::start(move |_, _| answer()).await;
    github(&server.url).user(&secret("t")).await.unwrap_err()
}

// Whose a token is.

#[tokio::test]
async fn a_token_of_the_app_is_asked_about_with_the_apps_credentials() {
    let server = Server::start(|_, _| ok(&json!({ "user": octocat(), "scopes": ["user:email", "read:org"] }))).await;
    let github = github(&server.url.join("api/v3").unwrap());
    let profile = github.check_app_token(&secret("gho_1")).await.unwrap();
    assert_eq!((profile.id, profile.login.as_str(), profile.email), (583_231, "OctoCat", None));
    assert_eq!(profile.scopes, ["user:email", "read:org"]);
    let seen = &server.seen()[0];
    assert_eq!(seen.line(), "POST /api/v3/applications/Iv1.app/token");
    assert_eq!(seen.json(), json!({ "access_token": "gho_1" }));
    assert_eq!(seen.header("authorization"), Some(basic("Iv1.app:app-secret").as_str()));
    assert_eq!(seen.header("accept"), Some("application/vnd.github+json"));
    assert_eq!(seen.header("x-github-api-version"), Some("2022-11-28"));
    assert_eq!(seen.header("user-agent"), Some(concat!("holdfast/", env!("CARGO_PKG_VERSION"))));
}

#[tokio::test]
async fn an_old_enterprise_server_is_asked_in_the_old_form() {
    let server = Server::start(|_, seen| match seen.line().as_str() {
        "GET /api/v3/applications/Iv1.app/tokens/old%2Ftoken" => ok(&json!({ "user": octocat(), "scopes": null })),
        _ => status(404),
    })
    .await;
    let github = github(&server.url.join("api/v3/").unwrap());
    assert_eq!(github.check_app_token(&secret("old/token")).await.unwrap().login, "OctoCat");
    assert_eq!(github.check_app_token(&secret("other")).await, Err(Error::Rejected));
    // Neither may change which address is asked.
    assert_eq!(github.check_app_token(&secret("..")).await, Err(Error::Rejected));
    assert_eq!(server.count(), 5);
}

#[tokio::test]
async fn a_token_that_is_not_the_apps_is_rejected() {
    for code in [404, 422] {
        let server = Server::start(move |_, _| status(code)).await;
        assert_eq!(github(&server.url).check_app_token(&secret("t")).await, Err(Error::Rejected), "{code}");
    }
}

#[tokio::test]
async fn wrong_credentials_of_our_own_are_not_the_callers_fault() {
    let server = Server::start(|_, _| status(401)).await;
    let github = github(&server.url);
    assert_eq!(github.check_app_token(&secret("t")).await, Err(Error::BadAnswer("the app's credentials are wrong")));
    assert!(is_bad_answer(&github.revoke(&secret("t")).await.unwrap_err()));
    assert!(is_bad_answer(&github.repository_role("a", "b", "c").await.unwrap_err()));
    let without = github_with(&server.url, |settings| (settings.client_secret, settings.service_token) = (None, None));
    assert!(is_bad_answer(&without.check_app_token(&secret("t")).await.unwrap_err()));
    assert!(is_bad_answer(&without.repository_role("a", "b", "c").await.unwrap_err()));
    assert_eq!(server.count(), 3);
}

#[tokio::test]
async fn a_user_is_asked_for_with_their_own_token() {
    let server = Server::start(|_, _| with(ok(&octocat()), &[("x-oauth-scopes", "read:org, user:email")])).await;
    let profile = github(&server.url).user(&secret("ghp_1")).await.unwrap();
    assert_eq!(profile.name.as_deref(), Some("The Octocat"));
    assert_eq!(profile.scopes, ["read:org", "user:email"]);
    assert_eq!(server.seen()[0].line(), "GET /user");
    assert_eq!(server.seen()[0].header("authorization"), Some("token ghp_1"));
}

#[tokio::test]
async fn a_token_of_another_app_opens_nothing_here() {
    let server = Server::start(|index, _| {
        let app = ["Iv1.other", "Iv1.app", "Iv1.app"][index];
        with(ok(&octocat()), &[("x-oauth-client-id", app)])
    })
    .await;
    let github = github(&server.url);
    assert_eq!(github.user(&secret("t")).await, Err(Error::Rejected));
    assert!(github.user(&secret("t")).await.is_ok());
    // Where no app is set up, every app is another one.
    let without = github_with(&server.url, |settings| settings.client_id = None);
    assert_eq!(without.user(&secret("t")).await, Err(Error::Rejected));
}

#[tokio::test]
async fn a_token_that_cannot_be_one_is_rejected_unasked() {
    let server = Server::start(|_, _| ok(&octocat())).await;
    let github = github(&server.url);
    for token in ["", "a b", "a\r\nb: c", "ü", &"x".repeat(5000)] {
        assert_eq!(github.user(&secret(token)).await, Err(Error::Rejected));
        assert_eq!(github.check_app_token(&secret(token)).await, Err(Error::Rejected));
    }
    assert_eq!(server.count(), 0);
}

#[tokio::test]
async fn a_token_is_revoked_once_and_again() {
    let server = Server::start(|index, _| status([204, 404, 422, 403][index])).await;
    let github = github(&server.url);
    for _ in 0..3 {
        github.revoke(&secret("gho_t")).await.unwrap();
    }
    assert_eq!(github.revoke(&secret("gho_t")).await, Err(Error::Forbidden));
    assert_eq!(server.seen()[0].line(), "DELETE /applications/Iv1.app/token");
    assert_eq!(server.seen()[0].json(), json!({ "access_token": "gho_t" }));
}

#[tokio::test]
async fn an_old_enterprise_server_ends_tokens_in_the_old_form() {
    let server = Server::start(|_, seen| match seen.line().as_str() {
        "DELETE /api/v3/applications/Iv1.app/tokens/0123" => status(204),
        _ => status(404),
    })
    .await;
    let github = github(&server.url.join("api/v3/").unwrap());
    github.revoke(&secret("0123")).await.unwrap();
    assert_eq!(server.count(), 2);
    // No server of those days made one of these, so it stays out of addresses.
    github.revoke(&secret("gho_0123")).await.unwrap();
    assert_eq!(github.check_app_token(&secret("ghu_0123")).await, Err(Error::Rejected));
    assert_eq!(server.count(), 4);
}

// What goes wrong.

#[tokio::test]
async fn statuses_say_what_they_say_about_the_caller() {
    assert_eq!(user_error(|| status(401)).await, Error::Rejected);
    assert_eq!(user_error(|| status(403)).await, Error::Forbidden);
    assert_eq!(user_error(|| status(404)).await, Error::NotFound);
    assert_eq!(user_error(|| status(502)).await, Error::Unavailable("status 502".to_owned()));
    assert!(is_bad_answer(&user_error(|| status(418)).await));
}

#[tokio::test]
async fn a_primary_rate_limit_lasts_until_its_reset() {
    let reset = (DATE_SECONDS + 90).to_string();
    for code in [403, 429] {
        let reset = reset.clone();
        let error = user_error(move || {
            let headers = [("date", DATE), ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", reset.as_str())];
            with(status(code), &headers)
        })
        .await;
        assert_eq!(error, Error::Limited { retry_after: Some(Duration::from_secs(90)) });
        assert!(error.is_transient());
        assert_eq!(error.retry_after(), Some(Duration::from_secs(90)));
    }
}

#[tokio::test]
async fn a_secondary_rate_limit_is_told_from_a_refusal() {
    let limited = |seconds: Option<u64>| Error::Limited { retry_after: seconds.map(Duration::from_secs) };
    assert_eq!(user_error(|| with(status(403), &[("retry-after", "60")])).await, limited(Some(60)));
    assert_eq!(user_error(|| with(status(429), &[("retry-after", "99999999999")])).await, limited(Some(3600)));
    let at = "Tue, 24 Nov 2026 10:00:07 GMT";
    assert_eq!(user_error(move || with(status(403), &[("date", DATE), ("retry-after", at)])).await, limited(Some(7)));
    assert_eq!(user_error(|| status(429)).await, limited(None));
    let text = r#"{"message":"You have exceeded a secondary rate limit. Please wait."}"#;
    assert_eq!(user_error(move || (StatusCode::FORBIDDEN, text).into_response()).await, limited(None));
    assert_eq!(user_error(|| with(status(403), &[("x-ratelimit-remaining", "12")])).await, Error::Forbidden);
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_waited_for_so_long_and_no_longer() {
    let server = Server::start(|_, _| status(500)).await;
    let github = github_with(&server.url.join("hangs/").unwrap(), |settings| {
        settings.timeout = Duration::from_millis(50);
    });
    assert_eq!(github.user(&secret("t")).await, Err(Error::Timeout));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable_and_its_address_is_not_told() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url: Url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    drop(listener);
    let github = github(&url.join("tenant/").unwrap());
    let error = github.user(&secret("t")).await.unwrap_err();
    assert!(matches!(&error, Error::Unavailable(text) if !text.contains("tenant")), "{error:?}");
}

#[tokio::test]
async fn broken_and_foreign_answers_are_bad_ones() {
    assert!(is_bad_answer(&user_error(|| "{\"id\":1,".into_response()).await));
    assert!(is_bad_answer(&user_error(|| "<html>".into_response()).await));
    assert!(is_bad_answer(&user_error(|| ok(&json!({ "login": "no-id" }))).await));
    assert!(is_bad_answer(&user_error(|| with(ok(&octocat()), &[("content-encoding", "gzip")])).await));
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_not_read() {
    let error = user_error(|| ok(&json!({ "id": 1, "login": "x".repeat(1 << 20) }))).await;
    assert_eq!(error, Error::BadAnswer("more than is taken"));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Server::start(|_, _| ok(&octocat())).await;
    let to = elsewhere.url.to_string();
    let server = Server::start(move |_, _| with(status(307), &[("location", to.as_str())])).await;
    let github = github(&server.url);
    assert!(is_bad_answer(&github.user(&secret("t")).await.unwrap_err()));
    assert!(is_bad_answer(&github.exchange_code("c", "v", "https://r/").await.unwrap_err()));
    assert!(is_bad_answer(&github.check_app_token(&secret("t")).await.unwrap_err()));
    assert_eq!(elsewhere.count(), 0);
}

#[test]
fn nothing_printed_shows_a_secret() {
    let github = github(&"https://code.acme.dev/api/v3/".parse().unwrap());
    let printed = format!("{github:?}");
    assert!(!printed.contains("app-secret") && !printed.contains("service\""), "{printed}");
}

// Lists.

fn memberships(count: usize, state: &str) -> Value {
    let one = |number| json!({ "state": state, "organization": { "login": format!("Org{number}") } });
    (0..count).map(one).collect()
}

#[tokio::test]
async fn every_page_of_a_list_is_read() {
    let server = Server::start_with(|url| {
        move |index, _| match index {
            0 => {
                let link = format!(
                    r#"<{url}page/1>; rel="first", <{url}orgs?per_page=100&page=2>; rel="next", <{url}x>; rel="last""#
                );
                with(ok(&memberships(100, "active")), &[("link", link.as_str())])
            }
            // Here the address is relative, and the page is short.
            1 => with(ok(&memberships(3, "active")), &[("link", "</orgs?page=3>; rel=next")]),
            _ => with(ok(&memberships(2, "pending")), &[("link", r#"</orgs?page=1>; rel="prev""#)]),
        }
    })
    .await;
    let organizations = github(&server.url).organizations(&secret("t")).await.unwrap();
    assert_eq!(organizations.len(), 103);
    assert_eq!(organizations[1], "Org1");
    let expected =
        ["GET /user/memberships/orgs?state=active&per_page=100", "GET /orgs?per_page=100&page=2", "GET /orgs?page=3"];
    assert_eq!(server.lines(), expected);
    assert!(server.seen().iter().all(|seen| seen.header("authorization") == Some("token t")));
}

#[tokio::test]
async fn pages_are_counted_where_there_are_no_links() {
    let server = Server::start(|index, _| ok(&memberships([100, 100, 0][index], "active"))).await;
    assert_eq!(github(&server.url).organizations(&secret("t")).await.unwrap().len(), 200);
    assert_eq!(server.lines()[2], "GET /user/memberships/orgs?state=active&per_page=100&page=3");
}

#[tokio::test]
async fn a_token_is_not_carried_to_another_server_by_a_link() {
    let elsewhere = Server::start(|_, _| ok(&json!([]))).await;
    let link = format!(r#"<{}orgs>; rel="next""#, elsewhere.url);
    let server = Server::start(move |_, _| with(ok(&json!([])), &[("link", link.as_str())])).await;
    assert!(is_bad_answer(&github(&server.url).organizations(&secret("t")).await.unwrap_err()));
    assert_eq!(elsewhere.count(), 0);
}

#[tokio::test]
async fn a_list_without_an_end_is_refused() {
    let server = Server::start(|_, _| with(ok(&json!([])), &[("link", r#"</again>; rel="next""#)])).await;
    assert!(is_bad_answer(&github(&server.url).teams(&secret("t")).await.unwrap_err()));
    assert_eq!(server.count(), 50);
}

#[tokio::test]
async fn teams_and_members_are_told() {
    let server = Server::start(|_, seen| {
        let team = json!({ "slug": "web", "name": "Web", "organization": { "login": "Acme" } });
        match seen.line().as_str() {
            "GET /user/teams?per_page=100" => ok(&json!([team])),
            "GET /orgs/acme/teams?per_page=100" => ok(&json!([{ "slug": "web", "name": "Web" }])),
            "GET /orgs/acme/teams/web/members?per_page=100" | "GET /orgs/acme/members?role=admin&per_page=100" => {
                ok(&json!([octocat()]))
            }
            "GET /orgs/acme/members?role=member&per_page=100" => ok(&json!([{ "login": "hubot" }])),
            "GET /orgs/other/members?role=admin&per_page=100" => with(status(302), &[("location", "/public_members")]),
            _ => status(404),
        }
    })
    .await;
    let (github, token) = (github(&server.url), secret("t"));
    let team = |organization: &str| Team {
        organization: organization.to_owned(),
        slug: "web".to_owned(),
        name: "Web".to_owned(),
    };
    assert_eq!(github.teams(&token).await.unwrap(), [team("Acme")]);
    assert_eq!(github.org_teams(&token, "acme").await.unwrap(), [team("acme")]);
    assert_eq!(github.team_members(&token, "acme", "web").await.unwrap(), ["OctoCat"]);
    let members = github.members(&token, "acme").await.unwrap();
    let member = |login: &str, is_owner| Member { login: login.to_owned(), is_owner };
    assert_eq!(members, [member("OctoCat", true), member("hubot", false)]);
    assert_eq!(github.members(&token, "other").await, Err(Error::Forbidden));
    assert_eq!(github.org_teams(&token, "nobody").await, Err(Error::NotFound));
}

// Repositories.

#[tokio::test]
async fn a_role_in_a_repository_is_the_finest_that_is_told() {
    let answers = [
        (json!({ "permission": "write", "role_name": "maintain" }), Some(Role::Maintain)),
        (json!({ "permission": "read", "role_name": "triage" }), Some(Role::Triage)),
        (json!({ "permission": "write", "role_name": "release-manager" }), Some(Role::Write)),
        (json!({ "permission": "admin" }), Some(Role::Admin)),
        (json!({ "permission": "read", "role_name": null }), Some(Role::Read)),
        (json!({ "permission": "none", "role_name": "none" }), None),
    ];
    let bodies: Vec<Value> = answers.iter().map(|(body, _)| body.clone()).collect();
    let server = Server::start(move |index, _| bodies.get(index).map_or_else(|| status(404), ok)).await;
    let github = github(&server.url);
    for (body, role) in answers {
        assert_eq!(github.repository_role("acme", "tool", "octo").await.unwrap(), role, "{body}");
    }
    assert_eq!(github.repository_role("acme", "tool", "nobody").await, Ok(None));
    assert_eq!(server.lines()[0], "GET /repos/acme/tool/collaborators/octo/permission");
    assert_eq!(server.seen()[0].header("authorization"), Some("token service"));
    assert!(Role::Read < Role::Triage && Role::Triage < Role::Write && Role::Maintain < Role::Admin);
}

#[tokio::test]
async fn names_from_outside_stay_one_part_of_a_path() {
    let server = Server::start(|_, _| status(404)).await;
    let github = github(&server.url);
    assert_eq!(github.repository_role("a/b", "c?d", "e#f%2e").await, Ok(None));
    assert_eq!(server.lines(), ["GET /repos/a%2Fb/c%3Fd/collaborators/e%23f%252e/permission"]);
    for name in ["..", ".", "", "a\tb", &"x".repeat(300)] {
        assert_eq!(github.repository_role("acme", name, "octo").await, Ok(None));
        assert_eq!(github.org_teams(&secret("t"), name).await, Err(Error::NotFound));
    }
    assert_eq!(server.count(), 1);
}

#[tokio::test]
async fn a_repository_is_told_by_numbers() {
    let server = Server::start(|index, _| match index {
        0 | 1 => ok(&json!({ "id": 7, "name": "tool", "owner": { "id": 3, "login": "acme" } })),
        _ => with(status(301), &[("location", "/repositories/7")]),
    })
    .await;
    let github = github(&server.url);
    assert_eq!(github.repository_ids(None, "acme", "tool").await, Ok((7, 3)));
    assert_eq!(github.repository_ids(Some(&secret("t")), "acme", "tool").await, Ok((7, 3)));
    assert_eq!(github.repository_ids(None, "acme", "old-name").await, Err(Error::NotFound));
    assert_eq!(github.repository_role("acme", "old-name", "octo").await, Ok(None));
    assert_eq!(server.seen()[0].header("authorization"), None);
    assert_eq!(server.seen()[1].header("authorization"), Some("token t"));
}

// Signing in.

#[test]
fn the_page_to_sign_in_on_has_all_that_github_needs() {
    let github = github(&"https://code.acme.dev/api/v3/".parse().unwrap());
    let url =
        github.authorize_url("st&ate", "chal", "https://npm.acme.dev/-/back", &["read:org", "user:email"]).unwrap();
    assert!(url.as_str().starts_with("https://code.acme.dev/login/oauth/authorize?"));
    let query: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    let expected = [
        ("client_id", "Iv1.app"),
        ("redirect_uri", "https://npm.acme.dev/-/back"),
        ("state", "st&ate"),
        ("code_challenge", "chal"),
        ("code_challenge_method", "S256"),
        ("allow_signup", "false"),
        ("scope", "read:org user:email"),
    ];
    assert_eq!(query, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let nobody = github_with(&"https://api.github.com/".parse().unwrap(), |settings| settings.client_id = None);
    assert!(is_bad_answer(&nobody.authorize_url("s", "c", "https://r/", &[]).unwrap_err()));
}

#[tokio::test]
async fn a_code_is_exchanged_for_a_token() {
    let server = Server::start(|index, _| match index {
        0 => ok(&json!({ "access_token": "gho_1", "token_type": "bearer", "scope": "" })),
        1 => ok(&json!({ "error": "bad_verification_code", "error_description": "expired" })),
        2 => (StatusCode::BAD_REQUEST, r#"{"error":"<b>in valid_grant</b>\n"}"#).into_response(),
        _ => ok(&json!({ "access_token": "" })),
    })
    .await;
    let github = github(&server.url.join("api/v3/").unwrap());
    let exchange = || github.exchange_code("c0de", "ver", "https://npm.acme.dev/-/back");
    assert_eq!(exchange().await.unwrap().expose(), "gho_1");
    assert_eq!(exchange().await.unwrap_err(), Error::OAuth("bad_verification_code".to_owned()));
    assert_eq!(exchange().await.unwrap_err(), Error::OAuth("binvalid_grantb".to_owned()));
    assert!(is_bad_answer(&exchange().await.unwrap_err()));
    let seen = &server.seen()[0];
    assert_eq!(seen.line(), "POST /login/oauth/access_token");
    assert_eq!(seen.header("accept"), Some("application/json"));
    assert_eq!(seen.header("authorization"), None);
    for (field, value) in [
        ("client_id", "Iv1.app"),
        ("client_secret", "app-secret"),
        ("code", "c0de"),
        ("code_verifier", "ver"),
        ("redirect_uri", "https://npm.acme.dev/-/back"),
    ] {
        assert_eq!(seen.field(field).as_deref(), Some(value));
    }
}

#[tokio::test]
async fn a_device_flow_has_each_of_its_outcomes() {
    let server = Server::start(|index, _| match index {
        0 => ok(&json!({
            "device_code": "dev", "user_code": "WDJB-MJHT", "verification_uri": "https://github.com/login/device",
            "expires_in": 900, "interval": 5,
        })),
        1 => ok(&json!({ "error": "authorization_pending" })),
        2 => ok(&json!({ "error": "slow_down", "interval": 10 })),
        3 => ok(&json!({ "access_token": "gho_2" })),
        4 => ok(&json!({ "error": "access_denied" })),
        _ => ok(&json!({ "error": "expired_token" })),
    })
    .await;
    let github = github_with(&server.url, |settings| settings.client_secret = None);
    let device = github.start_device(&["read:org"]).await.unwrap();
    assert_eq!((device.user_code.as_str(), device.device_code.expose()), ("WDJB-MJHT", "dev"));
    assert_eq!((device.expires_in, device.interval), (Duration::from_mins(15), Duration::from_secs(5)));
    let poll = || github.poll_device(&device.device_code);
    assert!(matches!(poll().await, Ok(DevicePoll::Pending { slower: false })));
    assert!(matches!(poll().await, Ok(DevicePoll::Pending { slower: true })));
    assert!(matches!(poll().await, Ok(DevicePoll::Done(token)) if token.expose() == "gho_2"));
    assert_eq!(poll().await.unwrap_err(), Error::OAuth("access_denied".to_owned()));
    assert_eq!(poll().await.unwrap_err(), Error::OAuth("expired_token".to_owned()));
    let seen = server.seen();
    assert_eq!(seen[0].line(), "POST /login/device/code");
    assert_eq!(seen[0].field("scope").as_deref(), Some("read:org"));
    assert_eq!(seen[1].line(), "POST /login/oauth/access_token");
    assert_eq!(seen[1].field("device_code").as_deref(), Some("dev"));
    assert_eq!(seen[1].field("grant_type").as_deref(), Some("urn:ietf:params:oauth:grant-type:device_code"));
}

#[tokio::test]
async fn a_device_flow_is_bounded_and_its_page_is_a_page() {
    let server = Server::start(|index, _| {
        let page = ["https://github.com/login/device", "javascript:alert(1)"][index];
        ok(&json!({
            "device_code": "dev", "user_code": "A", "verification_uri": page, "expires_in": u64::MAX, "interval": 0,
        }))
    })
    .await;
    let github = github(&server.url);
    let device = github.start_device(&[]).await.unwrap();
    assert_eq!((device.expires_in, device.interval), (Duration::from_hours(1), Duration::from_secs(1)));
    assert!(is_bad_answer(&github.start_device(&[]).await.unwrap_err()));
}

// The older system's way of signing in.

#[tokio::test]
async fn a_password_gets_a_new_authorization() {
    let server = Server::start(|_, _| ok(&json!({ "id": 1, "token": "abc" }))).await;
    let github = github(&server.url.join("api/v3/").unwrap());
    let token = github.password_authorization("octo", &secret("pass:word"), Some("123456"), &["user:email"]).await;
    assert_eq!(token.unwrap().expose(), "abc");
    let seen = &server.seen()[0];
    assert_eq!(seen.line(), "PUT /api/v3/authorizations/clients/Iv1.app");
    assert_eq!(seen.header("authorization"), Some(basic("octo:pass:word").as_str()));
    assert_eq!(seen.header("x-github-otp"), Some("123456"));
    let note = "codebox private npm registry";
    assert_eq!(seen.json(), json!({ "client_secret": "app-secret", "scopes": ["user:email"], "note": note }));
}

#[tokio::test]
async fn an_authorization_that_is_there_is_made_anew() {
    let server = Server::start(|index, _| match index {
        0 => ok(&json!({ "id": 17, "token": "" })),
        1 => status(204),
        _ => (StatusCode::CREATED, r#"{"id":18,"token":"fresh"}"#).into_response(),
    })
    .await;
    let github = github(&server.url);
    let token = github.password_authorization("octo", &secret("pw"), Some("1"), &["user:email"]).await;
    assert_eq!(token.unwrap().expose(), "fresh");
    let lines = ["PUT /authorizations/clients/Iv1.app", "DELETE /authorizations/17", "POST /authorizations"];
    assert_eq!(server.lines(), lines);
    let seen = server.seen();
    assert!(seen.iter().all(|seen| seen.header("authorization") == Some(basic("octo:pw").as_str())));
    assert!(seen.iter().all(|seen| seen.header("x-github-otp") == Some("1")));
    assert_eq!(seen[2].json()["client_id"], "Iv1.app");
    assert_eq!(seen[2].json()["client_secret"], "app-secret");
}

#[tokio::test]
async fn a_one_time_code_is_asked_for() {
    let server = Server::start(|index, _| match index {
        0 => with(status(401), &[("x-github-otp", "required; app")]),
        1 => status(401),
        2 => status(404),
        _ => (StatusCode::FORBIDDEN, r#"{"message":"Maximum number of login attempts exceeded."}"#).into_response(),
    })
    .await;
    let github = github(&server.url);
    let (password, scopes) = (secret("pw"), ["user:email"]);
    let login = |user: &'static str, code| github.password_authorization(user, &password, code, &scopes);
    assert_eq!(login("octo", None).await.unwrap_err(), Error::OneTimeCode);
    assert_eq!(login("octo", None).await.unwrap_err(), Error::Rejected);
    assert_eq!(login("octo", None).await.unwrap_err(), Error::NotFound);
    assert_eq!(login("octo", None).await.unwrap_err(), Error::Limited { retry_after: None });
    // What cannot be sent is not sent.
    assert_eq!(login("oc:to", None).await.unwrap_err(), Error::Rejected);
    assert_eq!(login("octo", Some("12\r\n34")).await.unwrap_err(), Error::OneTimeCode);
    assert_eq!(server.count(), 4);
    assert_eq!(server.seen()[0].header("x-github-otp"), None);
}

#[tokio::test]
async fn githubs_own_service_is_not_sent_a_password() {
    let github = github(&"https://api.github.com/".parse().unwrap());
    assert!(github.is_github_com());
    let answer = github.password_authorization("octo", &secret("pw"), None, &[]).await;
    assert_eq!(answer.unwrap_err(), Error::NotFound);
}

#[test]
fn work_can_move_between_threads() {
    fn is_send<T: Send>(_: T) {}
    let github = github(&"https://api.github.com/".parse().unwrap());
    let sets = KeySets::new(Clock::default(), Duration::from_secs(1)).unwrap();
    let issuer = Issuer { name: String::new(), url: String::new() };
    is_send(github.password_authorization("octo", &secret("pw"), None, &[]));
    is_send(github.members(&secret("t"), "acme"));
    is_send(github.teams(&secret("t")));
    is_send(sets.verify(&issuer, "", &[]));
}

// Identity tokens.

const NOW_SECONDS: i64 = 1_795_514_400;

enum Signer {
    Rsa(Box<RsaKeyPair>),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl Signer {
    fn rsa() -> Self {
        Self::Rsa(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()))
    }

    fn ec() -> Self {
        Self::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn ec384() -> Self {
        Self::Ec(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap())
    }

    fn ed() -> Self {
        Self::Ed(Ed25519KeyPair::generate().unwrap())
    }

    fn published(&self, kid: &str) -> Value {
        match self {
            Self::Rsa(pair) => {
                let (n, e) = (pair.public_key().modulus(), pair.public_key().exponent());
                let (n, e) =
                    (encoded(n.big_endian_without_leading_zero()), encoded(e.big_endian_without_leading_zero()));
                json!({ "kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid, "n": n, "e": e, "x5t": "ignored" })
            }
            Self::Ec(pair) => {
                let point = pair.public_key().as_ref();
                let (x, y) = point[1..].split_at(point.len() / 2);
                let curve = if x.len() == 32 { "P-256" } else { "P-384" };
                json!({ "kty": "EC", "crv": curve, "kid": kid, "x": encoded(x), "y": encoded(y) })
            }
            Self::Ed(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid, "x": encoded(pair.public_key().as_ref()) })
            }
        }
    }

    fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let padding = match algorithm {
                    "PS256" => &RSA_PSS_SHA256,
                    "PS384" => &RSA_PSS_SHA384,
                    "PS512" => &RSA_PSS_SHA512,
                    "RS384" => &RSA_PKCS1_SHA384,
                    "RS512" => &RSA_PKCS1_SHA512,
                    _ => &RSA_PKCS1_SHA256,
                };
                pair.sign(padding, &SystemRandom::new(), message, &mut signature).unwrap();
                signature
            }
            Self::Ec(pair) => pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec(),
            Self::Ed(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    fn token(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", encoded(header.to_string()), encoded(claims.to_string()));
        let algorithm = header["alg"].as_str().unwrap();
        format!("{signed}.{}", encoded(self.sign(algorithm, signed.as_bytes())))
    }
}

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn rs256(kid: &str) -> Value {
    json!({ "typ": "JWT", "alg": "RS256", "kid": kid })
}

/// An issuer on loopback with a key set that a test may change, and everything that asks it.
struct Ci {
    server: Server,
    keys: Arc<Mutex<Value>>,
    clock: Clock,
    sets: KeySets,
    issuer: Issuer,
}

impl Ci {
    async fn start(keys: Value) -> Self {
        Self::start_at("", keys).await
    }

    async fn start_at(path: &str, keys: Value) -> Self {
        let keys = Arc::new(Mutex::new(keys));
        let (shared, path_there) = (Arc::clone(&keys), path.to_owned());
        let server = Server::start_with(move |url| {
            let issuer = format!("{}{path_there}", url.as_str().trim_end_matches('/'));
            move |_, seen: &Seen| {
                let keys = shared.lock().unwrap().clone();
                if seen.target.ends_with("/.well-known/openid-configuration") {
                    ok(&json!({ "issuer": issuer, "jwks_uri": format!("{url}keys?v=1"), "more": [] }))
                } else if keys.is_null() {
                    status(503)
                } else {
                    ok(&json!({ "keys": keys }))
                }
            }
        })
        .await;
        let url = format!("{}{path}", server.url.as_str().trim_end_matches('/'));
        let clock = Clock::held_at(Timestamp::from_millis(NOW_SECONDS * 1000));
        let sets = KeySets::new(clock.clone(), Duration::from_secs(5)).unwrap();
        Self { server, keys, clock, sets, issuer: Issuer { name: "ci".to_owned(), url } }
    }

    fn set_keys(&self, keys: Value) {
        *self.keys.lock().unwrap() = keys;
    }

    fn claims(&self) -> Value {
        json!({
            "iss": self.issuer.url, "aud": "npm:acme", "sub": "repo:acme/tool",
            "iat": NOW_SECONDS - 10, "nbf": NOW_SECONDS - 10, "exp": NOW_SECONDS + 300,
        })
    }

    /// The good claims with one changed, or taken out by null.
    fn claims_with(&self, claim: &str, value: Value) -> Value {
        let mut claims = self.claims();
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(claim);
        } else {
            claims[claim] = value;
        }
        claims
    }

    async fn verify(&self, token: &str) -> Result<serde_json::Map<String, Value>, VerifyError> {
        self.sets.verify(&self.issuer, token, &["other".to_owned(), "npm:acme".to_owned()]).await
    }

    async fn refusal(&self, token: &str) -> VerifyError {
        self.verify(token).await.unwrap_err()
    }
}

#[tokio::test]
async fn a_good_token_gives_its_claims() {
    for (signer, algorithm) in
        [(Signer::rsa(), "RS256"), (Signer::ec(), "ES256"), (Signer::ec384(), "ES384"), (Signer::ed(), "EdDSA")]
    {
        let ci = Ci::start(json!([signer.published("one")])).await;
        let token = signer.token(&json!({ "alg": algorithm, "kid": "one" }), &ci.claims());
        let claims = ci.verify(&token).await.unwrap();
        assert_eq!(claims["sub"], "repo:acme/tool");
        assert_eq!(KeySets::unverified_issuer(&token).unwrap(), ci.issuer.url);
        ci.verify(&token).await.unwrap();
        assert_eq!(ci.server.lines(), ["GET /.well-known/openid-configuration", "GET /keys?v=1"], "{algorithm}");
    }
}

#[tokio::test]
async fn an_issuer_may_have_a_path_with_a_slash_at_its_end() {
    let signer = Signer::ec();
    let ci = Ci::start_at("/tenant/", json!([signer.published("one")])).await;
    ci.verify(&signer.token(&json!({ "alg": "ES256", "kid": "one" }), &ci.claims())).await.unwrap();
    assert_eq!(ci.server.lines()[0], "GET /tenant/.well-known/openid-configuration");
}

#[tokio::test]
async fn issuer_audience_and_lifetime_are_checked() {
    let signer = Signer::ec();
    let ci = Ci::start(json!([signer.published("one")])).await;
    let header = json!({ "alg": "ES256", "kid": "one" });
    let cases = [
        ("iss", json!("https://other.dev"), Err(VerifyError::WrongIssuer)),
        ("iss", json!(format!("{}/", ci.issuer.url)), Err(VerifyError::WrongIssuer)),
        ("iss", Value::Null, Err(VerifyError::MissingClaim("iss"))),
        ("iss", json!(["x"]), Err(VerifyError::Malformed)),
        ("aud", json!("npm:evil"), Err(VerifyError::WrongAudience)),
        ("aud", json!(["a", "b"]), Err(VerifyError::WrongAudience)),
        ("aud", json!([]), Err(VerifyError::WrongAudience)),
        ("aud", json!(["a", "npm:acme"]), Ok(())),
        ("aud", json!({ "npm:acme": true }), Err(VerifyError::WrongAudience)),
        ("aud", Value::Null, Err(VerifyError::MissingClaim("aud"))),
        ("exp", json!(NOW_SECONDS - 59), Ok(())),
        ("exp", json!(NOW_SECONDS - 60), Err(VerifyError::Expired)),
        ("exp", json!(-1.5), Err(VerifyError::Expired)),
        ("exp", json!(1e300), Ok(())),
        ("exp", json!("soon"), Err(VerifyError::Malformed)),
        ("exp", Value::Null, Err(VerifyError::MissingClaim("exp"))),
        ("nbf", json!(NOW_SECONDS + 60), Ok(())),
        ("nbf", json!(NOW_SECONDS + 61), Err(VerifyError::NotYetValid)),
        ("nbf", Value::Null, Ok(())),
        ("iat", json!(NOW_SECONDS + 61), Err(VerifyError::NotYetValid)),
    ];
    for (claim, value, expected) in cases {
        let token = signer.token(&header, &ci.claims_with(claim, value.clone()));
        assert_eq!(ci.verify(&token).await.map(|_| ()), expected, "{claim} {value}");
    }
    let token = signer.token(&header, &ci.claims());
    assert_eq!(ci.sets.verify(&ci.issuer, &token, &[]).await, Err(VerifyError::WrongAudience));
    ci.clock.advance(Duration::from_secs(400));
    assert_eq!(ci.refusal(&token).await, VerifyError::Expired);
}

#[tokio::test]
async fn a_token_without_a_true_signature_is_refused() {
    let (signer, other) = (Signer::rsa(), Signer::rsa());
    let ci = Ci::start(json!([signer.published("one")])).await;
    let good = signer.token(&rs256("one"), &ci.claims());
    let [header, claims, signature]: [&str; 3] = good.split('.').collect::<Vec<_>>().try_into().unwrap();

    assert_eq!(ci.refusal(&other.token(&rs256("one"), &ci.claims())).await, VerifyError::BadSignature);
    let changed = encoded(ci.claims_with("sub", json!("repo:evil/tool")).to_string());
    assert_eq!(ci.refusal(&format!("{header}.{changed}.{signature}")).await, VerifyError::BadSignature);
    assert_eq!(ci.refusal(&format!("{header}.{claims}.")).await, VerifyError::BadSignature);

    for none in ["none", "None", "NONE"] {
        let header = encoded(json!({ "alg": none, "kid": "one" }).to_string());
        assert_eq!(ci.refusal(&format!("{header}.{claims}.")).await, VerifyError::BadAlgorithm);
    }
}

#[tokio::test]
async fn a_public_key_is_no_shared_secret() {
    let signer = Signer::rsa();
    let ci = Ci::start(json!([signer.published("one")])).await;
    let signed = format!("{}.{}", encoded(r#"{"alg":"HS256","kid":"one"}"#), encoded(ci.claims().to_string()));
    let Signer::Rsa(pair) = &signer else { panic!("not RSA") };
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, pair.public_key().as_ref());
    let token = format!("{signed}.{}", encoded(aws_lc_rs::hmac::sign(&key, signed.as_bytes())));
    assert_eq!(ci.refusal(&token).await, VerifyError::BadAlgorithm);
    // Nor is a published secret a key.
    ci.set_keys(json!([{ "kty": "oct", "kid": "one", "alg": "HS256", "k": "AAAA" }]));
    let token = signer.token(&rs256("one"), &ci.claims());
    assert!(matches!(ci.refusal(&token).await, VerifyError::IssuerUnavailable(Error::BadAnswer(_))));
}

#[tokio::test]
async fn a_key_is_used_for_what_it_is_for() {
    let (rsa, ec, ed) = (Signer::rsa(), Signer::ec(), Signer::ed());
    let mut encryption = ec.published("enc");
    encryption["use"] = "enc".into();
    let mut wrapping = ec.published("wrap");
    wrapping["key_ops"] = json!(["wrapKey"]);
    let mut other_curve = ec.published("p384");
    other_curve["crv"] = "P-384".into();
    let keys =
        json!([rsa.published("rsa"), ec.published("ec"), ed.published("ed"), encryption, wrapping, other_curve, 7]);
    let ci = Ci::start(keys).await;
    let ask = async |signer: &Signer, algorithm: &str, kid: &str| {
        ci.verify(&signer.token(&json!({ "alg": algorithm, "kid": kid }), &ci.claims())).await.map(|_| ())
    };
    assert_eq!(ask(&ec, "ES256", "ec").await, Ok(()));
    assert_eq!(ask(&rsa, "RS256", "ec").await, Err(VerifyError::BadAlgorithm));
    assert_eq!(ask(&ec, "ES256", "rsa").await, Err(VerifyError::BadAlgorithm));
    assert_eq!(ask(&ec, "ES384", "ec").await, Err(VerifyError::BadAlgorithm));
    assert_eq!(ask(&ec, "ES256", "p384").await, Err(VerifyError::BadAlgorithm));
    assert_eq!(ask(&ed, "EdDSA", "ed").await, Ok(()));
    assert_eq!(ask(&ec, "EdDSA", "ec").await, Err(VerifyError::BadAlgorithm));
    // The key says RS256.
    assert_eq!(ask(&rsa, "PS256", "rsa").await, Err(VerifyError::BadAlgorithm));
    assert_eq!(ask(&ec, "ES256", "enc").await, Err(VerifyError::UnknownKey));
    assert_eq!(ask(&ec, "ES256", "wrap").await, Err(VerifyError::UnknownKey));
}

#[tokio::test]
async fn a_key_that_names_no_algorithm_takes_each_of_its_kind() {
    let signer = Signer::rsa();
    let mut key = signer.published("one");
    key.as_object_mut().unwrap().remove("alg");
    let ci = Ci::start(json!([key])).await;
    for algorithm in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"] {
        ci.verify(&signer.token(&json!({ "alg": algorithm, "kid": "one" }), &ci.claims())).await.unwrap();
    }
}

#[tokio::test]
async fn a_token_that_names_no_key_needs_an_issuer_with_one() {
    let (signer, other) = (Signer::ec(), Signer::ec());
    let token = |ci: &Ci| signer.token(&json!({ "alg": "ES256" }), &ci.claims());
    let one = Ci::start(json!([signer.published("one")])).await;
    one.verify(&token(&one)).await.unwrap();
    let two = Ci::start(json!([signer.published("one"), other.published("two")])).await;
    assert_eq!(two.refusal(&token(&two)).await, VerifyError::UnknownKey);
}

#[tokio::test]
async fn an_unknown_key_is_asked_for_once_a_minute() {
    let (signer, next) = (Signer::ec(), Signer::ec());
    let ci = Ci::start(json!([signer.published("one")])).await;
    let old = signer.token(&json!({ "alg": "ES256", "kid": "one" }), &ci.claims());
    let new = next.token(&json!({ "alg": "ES256", "kid": "two" }), &ci.claims());
    ci.verify(&old).await.unwrap();
    assert_eq!(ci.server.count(), 2);

    ci.clock.advance(Duration::from_mins(1));
    for _ in 0..5 {
        assert_eq!(ci.refusal(&new).await, VerifyError::UnknownKey);
    }
    assert_eq!(ci.server.count(), 4);

    // The issuer changes its keys.
    ci.set_keys(json!([next.published("two")]));
    ci.clock.advance(Duration::from_secs(59));
    assert_eq!(ci.refusal(&new).await, VerifyError::UnknownKey);
    ci.clock.advance(Duration::from_secs(1));
    ci.verify(&new).await.unwrap();
    assert_eq!(ci.refusal(&old).await, VerifyError::UnknownKey);
    assert_eq!(ci.server.count(), 6);
}

#[tokio::test]
async fn keys_are_asked_for_again_after_an_hour_and_outlast_a_day_of_failure() {
    let signer = Signer::ec();
    let ci = Ci::start(json!([signer.published("one")])).await;
    let claims = ci.claims_with("exp", json!(NOW_SECONDS + 1_000_000));
    let token = signer.token(&json!({ "alg": "ES256", "kid": "one" }), &claims);
    ci.verify(&token).await.unwrap();
    ci.clock.advance(Duration::from_secs(3599));
    ci.verify(&token).await.unwrap();
    assert_eq!(ci.server.count(), 2);

    ci.set_keys(Value::Null);
    ci.clock.advance(Duration::from_secs(1));
    ci.verify(&token).await.unwrap();
    ci.verify(&token).await.unwrap();
    // Asked once, and then left alone for a while.
    assert_eq!(ci.server.count(), 4);
    let unknown = signer.token(&json!({ "alg": "ES256", "kid": "two" }), &claims);
    assert!(matches!(ci.refusal(&unknown).await, VerifyError::IssuerUnavailable(_)));

    ci.clock.advance(Duration::from_secs(24 * 3600 - 3601));
    ci.verify(&token).await.unwrap();
    ci.clock.advance(Duration::from_secs(11));
    assert_eq!(ci.refusal(&token).await, VerifyError::IssuerUnavailable(Error::Unavailable("status 503".to_owned())));
    ci.set_keys(json!([signer.published("one")]));
    ci.clock.advance(Duration::from_secs(10));
    ci.verify(&token).await.unwrap();
}

#[tokio::test]
async fn many_at_once_ask_once() {
    let signer = Signer::ec();
    let ci = Ci::start(json!([signer.published("one")])).await;
    let token = signer.token(&json!({ "alg": "ES256", "kid": "one" }), &ci.claims());
    let all = futures::future::join_all((0..20).map(|_| ci.verify(&token))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(ci.server.count(), 2);
    // So do those who find it in trouble.
    let down = Ci::start(Value::Null).await;
    let token = signer.token(&json!({ "alg": "ES256", "kid": "one" }), &down.claims());
    let all = futures::future::join_all((0..20).map(|_| down.verify(&token))).await;
    assert!(all.iter().all(|answer| matches!(answer, Err(VerifyError::IssuerUnavailable(_)))));
    assert_eq!(down.server.count(), 2);
}

/// What comes of an issuer whose discovery document is this, made from its address.
async fn discovery_refusal(document: impl Fn(&str) -> Value + Send + Sync + 'static) -> VerifyError {
    let signer = Signer::ec();
    let keys = json!({ "keys": [signer.published("one")] });
    let server = Server::start_with(|url| {
        let issuer = url.as_str().trim_end_matches('/').to_owned();
        move |_, seen: &Seen| if seen.target == "/keys" { ok(&keys) } else { ok(&document(&issuer)) }
    })
    .await;
    let url = server.url.as_str().trim_end_matches('/').to_owned();
    let claims = json!({ "iss": url, "aud": "a", "exp": NOW_SECONDS + 60 });
    let clock = Clock::held_at(Timestamp::from_millis(NOW_SECONDS * 1000));
    let sets = KeySets::new(clock, Duration::from_secs(5)).unwrap();
    let token = signer.token(&json!({ "alg": "ES256", "kid": "one" }), &claims);
    sets.verify(&Issuer { name: "ci".to_owned(), url }, &token, &["a".to_owned()]).await.unwrap_err()
}

#[tokio::test]
async fn a_discovery_document_has_to_be_the_issuers_own() {
    let cases: [fn(&str) -> Value; 6] = [
        |issuer| json!({ "issuer": "https://other.dev", "jwks_uri": format!("{issuer}/keys") }),
        |issuer| json!({ "issuer": format!("{issuer}/"), "jwks_uri": format!("{issuer}/keys") }),
        |issuer| json!({ "issuer": issuer, "jwks_uri": "http://keys.acme.dev/keys" }),
        |issuer| json!({ "issuer": issuer, "jwks_uri": "file:///etc/passwd" }),
        |issuer| json!({ "issuer": issuer, "jwks_uri": issuer.replace("http://", "http://a:b@") }),
        |issuer| json!({ "issuer": issuer, "jwks_uri": format!("{issuer}/keys"), "x": "x".repeat(300_000) }),
    ];
    for (index, case) in cases.into_iter().enumerate() {
        let refusal = discovery_refusal(case).await;
        assert!(matches!(refusal, VerifyError::IssuerUnavailable(Error::BadAnswer(_))), "{index}: {refusal:?}");
    }
}

#[tokio::test]
async fn an_issuer_elsewhere_has_to_be_https() {
    let signer = Signer::ec();
    let sets = KeySets::new(Clock::default(), Duration::from_secs(5)).unwrap();
    for url in ["http://ci.acme.dev", "ftp://ci.acme.dev", "https://ci.acme.dev/?a=b", "nothing"] {
        let token = signer.token(&json!({ "alg": "ES256", "kid": "one" }), &json!({ "iss": url }));
        let issuer = Issuer { name: "ci".to_owned(), url: url.to_owned() };
        let refusal = sets.verify(&issuer, &token, &[]).await.unwrap_err();
        assert!(matches!(refusal, VerifyError::IssuerUnavailable(Error::BadAnswer(_))), "{url}: {refusal:?}");
    }
}

#[tokio::test]
async fn a_key_set_is_bounded() {
    let signer = Signer::ec();
    let keys: Value = (0..101).map(|number| signer.published(&number.to_string())).collect();
    let ci = Ci::start(keys).await;
    let token = signer.token(&json!({ "alg": "ES256", "kid": "1" }), &ci.claims());
    assert_eq!(ci.refusal(&token).await, VerifyError::IssuerUnavailable(Error::BadAnswer("more keys than are taken")));
}

#[tokio::test]
async fn what_is_no_token_is_malformed_and_not_repeated() {
    let signer = Signer::ec();
    let ci = Ci::start(json!([signer.published("one")])).await;
    let critical = signer.token(&json!({ "alg": "ES256", "kid": "one", "crit": ["b64"], "b64": false }), &ci.claims());
    let long =
        signer.token(&json!({ "alg": "ES256", "kid": "one" }), &ci.claims_with("x", json!("x".repeat(16 << 10))));
    let good = signer.token(&json!({ "alg": "ES256", "kid": "one" }), &ci.claims());
    let four = format!("{good}.AAAA");
    for token in ["", "a", "a.b", "a.b.c", "..", "e30.e30.", critical.as_str(), long.as_str(), four.as_str()] {
        assert_eq!(ci.refusal(token).await, VerifyError::Malformed, "{token}");
    }
    assert_eq!(KeySets::unverified_issuer(&long), Err(VerifyError::Malformed));
    assert_eq!(ci.server.count(), 0);
    let sentence = VerifyError::MissingClaim("exp").to_string();
    assert_eq!(sentence, "the identity token has no `exp`");
}
