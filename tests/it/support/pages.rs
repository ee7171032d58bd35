//! A browser's way through the pages of a sign-in, request by request: what a person clicks, without a browser.

use reqwest::Method;

use super::app::{Caller, TestApp};
use super::github::GitHub;
use super::http::{Answer, Http};

/// How tests' servers without a socket are called.
const BASE: &str = "http://localhost:4873";

/// The path of an address of the app.
pub(crate) fn path_in(url: &str) -> String {
    url.strip_prefix(BASE).unwrap_or_else(|| panic!("{url} is elsewhere")).to_owned()
}

/// A page that is open, in a browser of its own.
pub(crate) struct Tab {
    browser: Caller,
    path: String,
}

impl Tab {
    /// Opens the page of a sign-in or of a confirmation.
    pub(crate) async fn open(app: &TestApp, url: &str) -> Self {
        let path = path_in(url);
        let answer = app.anybody().get(&path).await.ok();
        let cookie = answer.header("set-cookie").split(';').next().unwrap().to_owned();
        assert!(cookie.len() > 40, "the page sets no cookie");
        Self { browser: app.anybody().with("cookie", &cookie), path }
    }

    /// Fills in the form.
    pub(crate) async fn sign_in(&self, user: &str, password: &str, code: &str) -> Answer {
        let form = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("user", user), ("password", password), ("code", code)])
            .finish();
        self.post(&self.path, form).await
    }

    /// Goes to GitHub, is somebody there, and comes back. The answer is the one on coming back.
    pub(crate) async fn sign_in_at(&self, github: &GitHub, login: &str) -> Answer {
        github.sign_in_as(login);
        let there = self.browser.get(&format!("{}/github", self.path)).await;
        assert_eq!(there.status, 303, "{}", there.text());
        let url = there.header("location").to_owned();
        let origin = github.web_url();
        let question = url.strip_prefix(origin.trim_end_matches('/')).unwrap();
        let back = Http::new(&origin).get(question).await;
        assert!(back.status.is_redirection(), "{}: {}", back.status, back.text());
        self.browser.get(&path_in(back.header("location"))).await
    }

    /// What the page shows now.
    pub(crate) async fn page(&self) -> Answer {
        self.browser.get(&self.path).await
    }

    /// Says `confirm` or `deny`.
    pub(crate) async fn decide(&self, decision: &str) -> Answer {
        let page = self.page().await.text();
        let csrf = between(&page, "name=\"csrf\" value=\"", "\"").unwrap_or_default();
        let form = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("csrf", csrf), ("decision", decision)])
            .finish();
        self.post(&format!("{}/confirm", self.path), form).await
    }

    /// The code that the page shows after a confirmation.
    pub(crate) async fn code(&self) -> String {
        let page = self.page().await.text();
        between(&page, "<output class=\"code\" aria-labelledby=\"code-label\">", "<")
            .unwrap_or_else(|| panic!("no code in {page}"))
            .to_owned()
    }

    async fn post(&self, path: &str, form: String) -> Answer {
        self.browser.send(Method::POST, path, &[("content-type", "application/x-www-form-urlencoded")], form).await
    }
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let rest = &text[text.find(before)? + before.len()..];
    Some(&rest[..rest.find(after)?])
}
