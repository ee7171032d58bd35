//! An app that knows its callers by GitHub and by the identity of CI jobs, with people and jobs to call it.

use holdfast::auth::{Action, Rule};
use holdfast::secret::Secret;
use holdfast::settings::{self, Settings};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

use super::app::{Caller, PASSWORD, TestApp, path_of};
use super::github::GitHub;
use super::issuer::{Issuer, github_claims};

/// People, jobs, and the app that they call. Everybody may sign in who is a member of `acme` or of `other`.
///
/// | who | of `acme` | of `acme/platform` | of `other` |
/// | --- | --- | --- | --- |
/// | ann | yes | | |
/// | olga | yes | | |
/// | pat | yes | yes | |
/// | eve | | | yes |
/// | root | | | yes |
pub(crate) struct Company {
    pub(crate) app: TestApp,
    pub(crate) github: GitHub,
    pub(crate) issuer: Issuer,
}

impl Company {
    /// With settings changed.
    pub(crate) async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let (github, issuer) = (GitHub::start().await, Issuer::start().await);
        for organization in ["acme", "other"] {
            github.add_organization(organization);
        }
        for (login, organization) in
            [("ann", "acme"), ("olga", "acme"), ("pat", "acme"), ("eve", "other"), ("root", "other")]
        {
            github.add_user(login);
            github.add_member(organization, login, false);
        }
        github.add_team_member("acme", "platform", "pat");
        let app = TestApp::with(|settings| {
            let mut client = holdfast::providers::Settings::new(github.api_url().parse().unwrap());
            client.web_url = github.web_url().parse().unwrap();
            client.client_id = Some(GitHub::CLIENT_ID.to_owned());
            client.client_secret = Some(Secret::new(GitHub::CLIENT_SECRET));
            settings.github = Some(settings::GitHub {
                client,
                organizations: Some(vec!["acme".to_owned(), "other".to_owned()]),
                remember: Duration::from_mins(5),
                outage: Duration::from_hours(12),
            });
            settings.issuers.iter_mut().find(|issuer| issuer.name == "github").unwrap().url = issuer.url();
            change(settings);
        });
        let company = Self { app, github, issuer };
        company.keep_time();
        company
    }

    /// The issuer's clock is set by the app's, which the test holds.
    pub(crate) fn keep_time(&self) {
        self.issuer.set_now(self.app.clock.now().as_seconds().try_into().unwrap());
    }

    /// Somebody of GitHub's who has signed in.
    pub(crate) async fn person(&self, login: &str) -> Caller {
        let answer = self.app.anybody().sign_in(login, &self.github.personal_token(login)).await.ok();
        self.app.anybody().with_token(answer.json()["token"].as_str().unwrap())
    }

    /// A token of somebody's with limits, as the members of `limits` say.
    pub(crate) async fn limited(&self, login: &str, limits: Value) -> Caller {
        let mut wanted = json!({ "password": self.github.personal_token(login), "readonly": false });
        wanted.as_object_mut().unwrap().extend(limits.as_object().unwrap().clone());
        let answer = self.person(login).await.post("/-/npm/v1/tokens", &wanted).await.ok();
        self.app.anybody().with_token(answer.json()["token"].as_str().unwrap())
    }

    /// A job of a repository's `release.yml` with a token for one package, or for reading.
    pub(crate) async fn job(&self, repository: &str, package: Option<&str>) -> Caller {
        let mut claims = github_claims(repository, "release.yml");
        claims["aud"] = json!("npm:localhost");
        let path = match package {
            Some(name) => format!("/-/npm/v1/oidc/token/exchange/package{}", path_of(name)),
            None => "/-/npm/v1/oidc/token/exchange".to_owned(),
        };
        let job = self.app.anybody().with_token(&self.issuer.token(claims));
        let answer = job.send(Method::POST, &path, &[], "").await.ok();
        self.app.anybody().with_token(answer.json()["token"].as_str().unwrap())
    }

    /// A local account.
    pub(crate) async fn local(&self, name: &str) {
        self.app.app.registry.auth().create_account(name, PASSWORD.to_owned(), "").await.unwrap();
    }
}

/// A rule as `[[package]]` would say it.
pub(crate) fn rule(pattern: &str, lists: &[(Action, &[&str])]) -> Rule {
    let mut rule = Rule::new(pattern.parse().unwrap());
    for (action, listed) in lists {
        rule.principals.insert(*action, listed.iter().map(|text| text.parse().unwrap()).collect());
    }
    rule
}

/// What makes a package trust a workflow file of a repository.
pub(crate) fn trusted(repository: &str) -> Value {
    let claims = json!({ "repository": repository, "workflow_ref": { "file": "release.yml" } });
    json!([{ "type": "github", "permissions": ["createPackage"], "claims": claims }])
}

/// An answer without what differs between two requests that are answered alike: the request's id and the package's name.
pub(crate) fn without_names(body: &Value, names: &[&str]) -> Value {
    let mut body = body.clone();
    body.as_object_mut().unwrap().remove("request_id");
    let mut text = body.to_string();
    for name in names {
        text = text.replace(name, "NAME");
    }
    serde_json::from_str(&text).unwrap()
}
