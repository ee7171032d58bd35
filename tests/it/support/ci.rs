//! CI jobs: an application that takes the identity tokens of an issuer of the test's own, and what a job does there.

use std::time::Duration;

use axum::body::Body;
use axum::http::Response;
use axum::http::request::Parts;
use holdfast::auth::{Action, IssuerKind, IssuerSettings, Rule};
use holdfast::settings::Settings;
use reqwest::Method;
use serde_json::{Value, json};

use super::app::{Caller, TestApp, refused};
use super::http::Answer;
use super::issuer::{Issuer, github_claims};
use super::loopback::Loopback;

/// Where an identity token is exchanged for one that reads.
pub(crate) const TO_READ: &str = "/-/npm/v1/oidc/token/exchange";
/// The audience that npm asks for when the registry is `http://localhost:4873/`.
pub(crate) const OURS: &str = "npm:localhost";

/// An application and the issuer that it knows, whose clocks go together.
pub(crate) struct Ci {
    pub(crate) app: TestApp,
    pub(crate) issuer: Issuer,
}

impl Ci {
    /// With GitHub for an issuer.
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// As [`Ci::new`], with settings changed.
    pub(crate) async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::of("github", IssuerKind::GitHub, change).await
    }

    /// With an issuer of this name and kind.
    pub(crate) async fn of(name: &str, kind: IssuerKind, change: impl FnOnce(&mut Settings)) -> Self {
        let issuer = Issuer::start().await;
        let known = IssuerSettings { name: name.to_owned(), url: issuer.url(), kind, audience: None };
        let app = TestApp::with(|settings| {
            settings.issuers = vec![known];
            change(settings);
        });
        let ci = Self { app, issuer };
        ci.advance(Duration::ZERO);
        ci
    }

    /// Moves the clock, and the issuer's with it.
    pub(crate) fn advance(&self, by: Duration) {
        self.app.clock.advance(by);
        self.issuer.set_now(self.now());
    }

    /// In seconds since 1970, as claims have it.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.app.clock.now().as_seconds()).unwrap()
    }

    /// Shows an identity token, as npm does before it publishes.
    pub(crate) async fn exchange(&self, package: &str, identity: &str) -> Answer {
        exchange_as(&self.app.anybody(), package, identity).await
    }

    /// Shows an identity token, to read.
    pub(crate) async fn exchange_to_read(&self, identity: &str) -> Answer {
        self.app.anybody().with_token(identity).send(Method::POST, TO_READ, &[], Body::empty()).await
    }

    /// The token that a job with these claims gets for a package that trusts it.
    pub(crate) async fn job(&self, package: &str, claims: Value) -> Caller {
        let answer = self.exchange(package, &self.issuer.token(claims)).await;
        self.app.anybody().with_token(&token_in(&answer))
    }

    /// The token that a job with these claims gets to read with.
    pub(crate) async fn reader(&self, claims: Value) -> Caller {
        let answer = self.exchange_to_read(&self.issuer.token(claims)).await;
        self.app.anybody().with_token(&token_in(&answer))
    }
}

/// What a runner of GitHub Actions has for its jobs: an address that gives out identity tokens for any audience. Ends when
/// dropped.
pub(crate) struct Runner {
    url: String,
    _server: Loopback,
}

impl Runner {
    /// What a job asks with.
    const SECRET: &'static str = "secret-of-the-runner";

    /// For jobs with these claims, the audience aside.
    pub(crate) fn start(issuer: &Issuer, claims: &Value) -> Self {
        let mut url = String::new();
        let server = Loopback::start(|port| {
            url = format!("http://127.0.0.1:{port}/token?api-version=2.0");
            let (issuer, claims) = (issuer.clone(), claims.clone());
            move |head, _| {
                let answer = Self::answer(&issuer, &claims, &head);
                async move { answer }
            }
        });
        Self { url, _server: server }
    }

    fn answer(issuer: &Issuer, claims: &Value, head: &Parts) -> Option<Response<Body>> {
        let is_the_job =
            head.headers.get("authorization").is_some_and(|sent| *sent == format!("Bearer {}", Self::SECRET));
        let url = reqwest::Url::parse(&format!("http://runner.test{}", head.uri)).ok()?;
        let audience = url.query_pairs().find(|(name, _)| name == "audience").map(|(_, value)| value.into_owned());
        let (status, body) = match audience {
            Some(audience) if is_the_job => {
                (200, json!({ "value": issuer.token(changed(claims.clone(), json!({ "aud": audience }))) }))
            }
            _ => (400, json!({ "message": "not understood" })),
        };
        Response::builder().status(status).body(Body::from(body.to_string())).ok()
    }

    /// What a job finds in its environment that may ask.
    pub(crate) fn environment(&self) -> [(&str, &str); 3] {
        [
            ("GITHUB_ACTIONS", "true"),
            ("ACTIONS_ID_TOKEN_REQUEST_URL", &self.url),
            ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", Self::SECRET),
        ]
    }
}

/// The token that an exchange gave.
#[track_caller]
pub(crate) fn token_in(answer: &Answer) -> String {
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()["token"].as_str().unwrap().to_owned()
}

/// The address of the exchange for a package, in npm's spelling.
pub(crate) fn exchange_path(package: &str) -> String {
    format!("{TO_READ}/package/{}", package.replacen('/', "%2f", 1))
}

/// Shows an identity token, from wherever somebody is.
pub(crate) async fn exchange_as(caller: &Caller, package: &str, identity: &str) -> Answer {
    caller.with_token(identity).send(Method::POST, &exchange_path(package), &[], Body::empty()).await
}

/// Checks what a job is told that gets nothing: npm shows `message` alone, and pnpm one that lies deeper.
#[track_caller]
pub(crate) fn exchange_refused(answer: &Answer, status: u16, code: &str, says: &str) {
    let sentence = refused(answer, status);
    assert_eq!(answer.json()["code"], code, "{sentence}");
    assert!(sentence.starts_with("OIDC token exchange error - "), "{sentence}");
    assert!(sentence.contains(says), "{says:?} is not in: {sentence}");
    assert_eq!(answer.json()["body"]["message"], sentence);
    assert!(answer.json().get("token").is_none());
}

/// Checks a refusal with its code.
#[track_caller]
pub(crate) fn refused_as(answer: &Answer, status: u16, code: &str) -> String {
    let sentence = refused(answer, status);
    assert_eq!(answer.json()["code"], code, "{sentence}");
    sentence
}

/// The claims of a job in `release.yml` of `acme/tool` for this registry, with some changed.
pub(crate) fn release(changes: Value) -> Value {
    changed(github_claims("acme/tool", "release.yml"), changes)
}

/// The claims of a job in `release.yml` of another repository.
pub(crate) fn release_of(repository: &str) -> Value {
    changed(github_claims(repository, "release.yml"), json!({}))
}

/// Claims for this registry, with some changed.
pub(crate) fn changed(mut claims: Value, changes: Value) -> Value {
    let Value::Object(changes) = changes else { panic!("changes are an object") };
    claims["aud"] = json!(OURS);
    claims.as_object_mut().unwrap().extend(changes);
    claims
}

/// What `npm trust github PKG --repository acme/tool --file release.yml --allow-publish` sends, with some claims changed.
pub(crate) fn trusting(changes: &Value) -> Value {
    let mut claims = json!({ "repository": "acme/tool", "workflow_ref": { "file": "release.yml" } });
    claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    json!({ "type": "github", "permissions": ["createPackage"], "claims": claims })
}

/// The same with other permissions than to publish.
pub(crate) fn trusting_to(permissions: &[&str]) -> Value {
    let mut configuration = trusting(&json!({}));
    configuration["permissions"] = json!(permissions);
    configuration
}

/// The address of a package's trusted workflows.
pub(crate) fn trust_path(package: &str) -> String {
    format!("/-/package/{}/trust", package.replacen('/', "%2f", 1))
}

/// Asks for trust in a workflow, as npm does.
pub(crate) async fn trust(caller: &Caller, package: &str, configuration: &Value) -> Answer {
    caller.post(&trust_path(package), &json!([configuration])).await
}

/// The id of trust that was given.
#[track_caller]
pub(crate) fn id_in(answer: &Answer) -> String {
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()[0]["id"].as_str().unwrap().to_owned()
}

/// A rule for these packages: pairs of an action and who may do it.
pub(crate) fn rule(pattern: &str, lists: &[(Action, &[&str])]) -> Rule {
    let mut rule = Rule::new(pattern.parse().unwrap());
    for (action, principals) in lists {
        rule.principals.insert(*action, principals.iter().map(|text| text.parse().unwrap()).collect());
    }
    rule
}
