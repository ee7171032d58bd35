//! An application that knows people by a GitHub of the test's own, and what such tests say in one line.

use std::time::Duration;

use holdfast::auth::Registration;
use holdfast::providers;
use holdfast::secret::Secret;
use holdfast::settings::{self, Auto, RegistrationSetting, Settings};
use reqwest::Method;

use super::app::{Caller, TestApp, refused};
use super::github::{GitHub, Seen};
use super::http::Answer;

/// How long what GitHub said is used without asking again. Not what it is when nobody sets it.
pub(crate) const REMEMBER: Duration = Duration::from_mins(4);
/// How long it is used when GitHub does not answer.
pub(crate) const OUTAGE: Duration = Duration::from_mins(50);
/// The shortest time that the clock knows.
pub(crate) const TICK: Duration = Duration::from_millis(1);
/// Where the API asks about tokens of our app.
pub(crate) const APP_TOKEN: &str = "/api/v3/applications/Iv1.8a61f9b3a7aba766/token";

/// Puts a GitHub into settings: members of these organisations may come in, and everybody where none is named. All else is
/// as it follows from GitHub being set up.
pub(crate) fn known_by(settings: &mut Settings, github: &GitHub, organizations: &[&str]) {
    let mut client = providers::Settings::new(github.api_url().parse().unwrap());
    client.client_id = Some(GitHub::CLIENT_ID.to_owned());
    client.client_secret = Some(Secret::new(GitHub::CLIENT_SECRET));
    settings.github = Some(settings::GitHub {
        client,
        organizations: (!organizations.is_empty()).then(|| organizations.iter().map(|&name| name.to_owned()).collect()),
        remember: REMEMBER,
        outage: OUTAGE,
    });
    (settings.access.anonymous_read, settings.access.registration) = (Auto::Auto, RegistrationSetting::Auto);
}

/// An application for members of these organisations.
pub(crate) fn app_for(github: &GitHub, organizations: &[&str]) -> TestApp {
    TestApp::with(|settings| known_by(settings, github, organizations))
}

/// As [`app_for`], with local accounts beside it.
pub(crate) fn app_with_local_accounts(github: &GitHub, organizations: &[&str]) -> TestApp {
    TestApp::with(|settings| {
        known_by(settings, github, organizations);
        settings.access.registration = RegistrationSetting::Set(Registration::Open);
    })
}

/// What GitHub was asked since it was last told to forget, as `GET /api/v3/user`; forgets it.
pub(crate) fn asked(github: &GitHub) -> Vec<String> {
    let lines = github.seen().iter().map(|seen| format!("{} {}", seen.method, seen.path)).collect();
    github.forget();
    lines
}

/// Fails when one of these texts was in the address of a request.
#[track_caller]
pub(crate) fn no_secret_in_addresses(seen: &[Seen], secrets: &[&str]) {
    for request in seen {
        for secret in secrets {
            assert!(!request.path.contains(secret) && !request.query.contains(secret), "{request:?}");
        }
    }
}

/// Checks a refusal, and its code.
#[track_caller]
pub(crate) fn refused_as(answer: &Answer, status: u16, code: &str) -> String {
    let sentence = refused(answer, status);
    assert_eq!(answer.json()["code"], code, "{sentence}");
    sentence
}

/// Checks that nobody knows: GitHub is away, and when to come back is told.
#[track_caller]
pub(crate) fn unavailable(answer: &Answer) -> u64 {
    refused_as(answer, 503, "github_unavailable");
    let seconds = answer.header("retry-after").parse().expect("when to come back");
    assert!((1..=3600).contains(&seconds), "{seconds}");
    seconds
}

impl Caller {
    /// Who the registry says one is.
    pub(crate) async fn whoami(&self) -> Answer {
        self.get("/-/whoami").await
    }

    /// Fails unless the registry says so.
    pub(crate) async fn is(&self, name: &str) {
        let answer = self.whoami().await.ok();
        assert_eq!(answer.json()["username"], name);
    }

    /// `npm logout`.
    pub(crate) async fn sign_out(&self, token: &str) -> Answer {
        self.delete(&format!("/-/user/token/{token}")).await
    }

    /// What a form in a browser sends.
    pub(crate) async fn send_form(&self, path: &str, headers: &[(&str, &str)], fields: &[(&str, &str)]) -> Answer {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let form = ("content-type", "application/x-www-form-urlencoded");
        let headers: Vec<(&str, &str)> = headers.iter().copied().chain([form]).collect();
        self.send(Method::POST, path, &headers, body).await
    }
}

impl TestApp {
    /// Somebody with a token.
    pub(crate) fn with_token(&self, token: &str) -> Caller {
        self.anybody().with_token(token)
    }

    /// Signs in by name and password as old clients do, where the password is what GitHub takes, and gives the token.
    pub(crate) async fn registry_token(&self, name: &str, password: &str) -> String {
        let answer = self.anybody().sign_in(name, password).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()["token"].as_str().unwrap().to_owned()
    }
}
