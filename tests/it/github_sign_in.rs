//! Who is known by GitHub: tokens of GitHub's own, names and passwords as old clients send them, the browser, another
//! device; how long GitHub's word is good, and what is when it does not answer.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use holdfast::settings::{Flags, Settings};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::app::{Caller, PASSWORD, TestApp, path_of, refused};
use crate::support::github::{GitHub, Mode};
use crate::support::http::Answer;
use crate::support::signed_in::{
    APP_TOKEN, OUTAGE, REMEMBER, TICK, app_for, app_with_local_accounts, asked, known_by, no_secret_in_addresses,
    refused_as, unavailable,
};
use crate::support::tarballs::Tarball;

const MEMBERSHIPS: &str = "GET /api/v3/user/memberships/orgs";
const USER: &str = "GET /api/v3/user";

/// A GitHub where Ada is a member of `acme`.
async fn acme() -> GitHub {
    let github = GitHub::start().await;
    github.add_user("Ada");
    github.add_member("acme", "Ada", false);
    github
}

fn check_of_app() -> String {
    format!("POST {APP_TOKEN}")
}

// Tokens of GitHub's own.

#[tokio::test]
async fn tokens_that_users_of_the_older_system_have_work_as_they_are() {
    let github = acme().await;
    let app = app_for(&github, &["acme"]);
    let as_app = format!("Basic {}", STANDARD.encode(format!("{}:{}", GitHub::CLIENT_ID, GitHub::CLIENT_SECRET)));
    let tokens = [
        (github.oauth_token("Ada"), check_of_app()),
        (github.old_oauth_token("Ada"), check_of_app()),
        (github.personal_token("Ada"), USER.to_owned()),
    ];
    for (number, (token, first_call)) in tokens.iter().enumerate() {
        let (ada, name) = (app.with_token(token), format!("@acme/tool-{number}"));
        ada.is("Ada").await;
        let seen = github.seen();
        assert_eq!(asked(&github), [first_call.as_str(), MEMBERSHIPS]);
        let as_owner = format!("token {token}");
        let expected = if first_call == USER { &as_owner } else { &as_app };
        assert_eq!(seen[0].authorization.as_ref(), Some(expected));
        assert_eq!(seen[1].authorization.as_ref(), Some(&as_owner));
        assert_eq!(seen[0].body.contains(token), first_call != USER, "the app is asked with the token in the body");
        no_secret_in_addresses(&seen, &[token, GitHub::CLIENT_SECRET]);

        ada.publish(&Tarball::new(&name, "1.0.0")).await.ok();
        let document = ada.document(&name).await;
        assert_eq!(document["maintainers"][0]["name"], "Ada");
        ada.get(&format!("{}/-/tool-{number}-1.0.0.tgz", path_of(&name))).await.ok();
        assert_eq!(asked(&github), [""; 0], "a token that is known costs no question");
    }
}

#[tokio::test]
async fn a_token_that_github_does_not_know_as_ours_is_nobodys() {
    let github = acme().await;
    let app = app_for(&github, &["acme"]);
    let revoked = github.oauth_token("Ada");
    github.revoke_token(&revoked);
    let only_app = || vec![check_of_app()];
    let old = "0123456789".repeat(4);
    let in_the_old_form = format!("GET {APP_TOKEN}s/{old}");
    for (token, calls) in [
        (github.foreign_oauth_token("Ada"), only_app()),
        (format!("gho_{}", "a1B2".repeat(9)), only_app()),
        (revoked, only_app()),
        (format!("ghp_{}", "a1B2".repeat(9)), vec![USER.to_owned()]),
        // Perhaps of our app, perhaps personal, perhaps of an old server: only of this kind a token goes into an address.
        (old.clone(), vec![check_of_app(), in_the_old_form, USER.to_owned()]),
    ] {
        let stranger = app.with_token(&token);
        let answer = stranger.whoami().await;
        refused_as(&answer, 401, "sign_in_first");
        assert!(answer.header("www-authenticate").starts_with("Bearer"));
        assert!(!answer.text().contains(&token));
        assert_eq!(asked(&github), calls, "{token}");
        refused_as(&stranger.publish(&Tarball::new("@acme/tool", "1.0.0")).await, 401, "sign_in_first");
        refused_as(&stranger.get("/@acme%2ftool").await, 401, "sign_in_first");
        assert_eq!(asked(&github), [""; 0], "that it is no good is remembered");
    }
}

#[tokio::test]
async fn what_cannot_be_a_token_of_githubs_is_never_sent_there() {
    let github = acme().await;
    let app = app_for(&github, &["acme"]);
    let letters = "a1B2".repeat(9);
    for token in [
        // An installation's: no person's.
        &format!("ghs_{letters}"),
        &format!("npm_{letters}"),
        &format!("hfst_{letters}"),
        &format!("glpat-{letters}"),
        "00000000-0000-0000-0000-000000000000",
        "gho_short",
        &format!("gho_{letters}/../user"),
        &format!("GHO_{letters}"),
        &"g".repeat(40),
        &"0".repeat(39),
        &format!("gho_{}", "a".repeat(5000)),
    ] {
        let stranger = app.with_token(token);
        refused_as(&stranger.whoami().await, 401, "sign_in_first");
        refused_as(&stranger.publish(&Tarball::new("@acme/tool", "1.0.0")).await, 401, "sign_in_first");
        // An address of that length is nobody's.
        let (status, code) = if token.len() > 4096 { (400, "bad_request") } else { (404, "token_not_found") };
        refused_as(&stranger.sign_out(&token.replace('/', "%2f")).await, status, code);
    }
    assert_eq!(asked(&github), [""; 0]);
    // Without a GitHub none is one.
    let alone = TestApp::new();
    refused_as(&alone.with_token(&github.oauth_token("Ada")).whoami().await, 401, "sign_in_first");
}

#[tokio::test]
async fn many_requests_at_once_with_a_new_token_are_one_question() {
    let github = acme().await;
    github.set_mode(Mode::Slow(Duration::from_millis(50)));
    let app = app_for(&github, &["acme"]);
    let ada = app.with_token(&github.oauth_token("Ada"));
    // As an install sends them.
    let answers = futures::future::join_all((0..60).map(|_| ada.whoami())).await;
    for answer in answers {
        assert_eq!(answer.ok().json()["username"], "Ada");
    }
    assert_eq!(asked(&github), [check_of_app().as_str(), MEMBERSHIPS]);
}

#[tokio::test]
async fn a_stale_token_in_the_office_keeps_nobody_out() {
    let github = acme().await;
    github.add_user("bob");
    github.add_member("acme", "bob", false);
    let app = app_for(&github, &["acme"]);
    let ada = app.with_token(&github.oauth_token("Ada"));
    ada.is("Ada").await;
    let stale = app.with_token(&format!("gho_{}", "a1B2".repeat(9)));
    // Each is a request of an install in a project whose token has ended.
    for _ in 0..100 {
        refused_as(&stale.whoami().await, 401, "sign_in_first");
    }
    ada.is("Ada").await;
    app.with_token(&github.oauth_token("bob")).is("bob").await;
    // Made-up tokens each cost a question, so there is an end to them; who is known stays in all the same.
    let mut locked = 0;
    for number in 0..60 {
        let answer = app.with_token(&format!("gho_{}{number:02}", "c".repeat(34))).whoami().await;
        locked += usize::from(answer.status == StatusCode::TOO_MANY_REQUESTS);
    }
    assert!((25..60).contains(&locked), "{locked}");
    ada.is("Ada").await;
    app.clock.advance(REMEMBER);
    ada.is("Ada").await;
}

// How long GitHub's word is good.

#[tokio::test]
async fn a_known_token_costs_no_call_of_any_kind() {
    let github = acme().await;
    let app = app_for(&github, &["acme"]);
    let oauth = github.oauth_token("Ada");
    let registry = app.registry_token("ada", &github.personal_token("Ada")).await;
    for (token, cached) in [(&oauth, REMEMBER), (&registry, Duration::from_mins(1))] {
        let ada = app.with_token(token);
        ada.is("Ada").await;
        github.forget();
        let before = (app.counts.reads(), app.counts.writes());
        for _ in 0..10 {
            ada.is("Ada").await;
        }
        app.clock.advance(cached.saturating_sub(TICK));
        ada.is("Ada").await;
        assert_eq!((app.counts.reads(), app.counts.writes()), before, "no storage call either");
        assert_eq!(asked(&github), [""; 0]);
        app.clock.advance(TICK);
        ada.is("Ada").await;
        assert!(app.counts.reads() > before.0 || app.counts.writes() > before.1, "the counters count");
    }
}

#[tokio::test]
async fn what_github_said_is_used_for_as_long_as_is_set_and_no_longer() {
    let github = acme().await;
    let app = app_for(&github, &["acme"]);
    let (token, unknown) = (github.oauth_token("Ada"), format!("gho_{}", "a1B2".repeat(9)));
    let (ada, stranger) = (app.with_token(&token), app.with_token(&unknown));
    ada.is("Ada").await;
    refused(&stranger.whoami().await, 401);
    github.forget();
    // Asking in between does not make it last.
    for _ in 0..4 {
        app.clock.advance((REMEMBER / 4).saturating_sub(TICK));
        ada.is("Ada").await;
        refused(&stranger.whoami().await, 401);
    }
    assert_eq!(asked(&github), [""; 0]);
    app.clock.advance(4 * TICK);
    ada.is("Ada").await;
    assert_eq!(asked(&github), [check_of_app().as_str(), MEMBERSHIPS]);
    refused(&stranger.whoami().await, 401);
    assert_eq!(asked(&github), [check_of_app()]);
    github.revoke_token(&token);
    ada.is("Ada").await;
    app.clock.advance(REMEMBER);
    refused_as(&ada.whoami().await, 401, "sign_in_first");
}

#[tokio::test]
async fn facts_survive_a_restart_and_do_not_grow_younger_by_it() {
    let github = acme().await;
    github.add_user("bob");
    github.add_member("acme", "bob", false);
    let mut app = app_for(&github, &["acme"]);
    let (oauth, strangers) = (github.oauth_token("Ada"), github.oauth_token("bob"));
    let registry = app.registry_token("ada", &github.personal_token("Ada")).await;
    app.with_token(&oauth).is("Ada").await;
    github.forget();
    app.clock.advance(REMEMBER / 2);
    app = app.restarted().await;
    for token in [&oauth, &registry] {
        app.with_token(token).is("Ada").await;
    }
    assert_eq!(asked(&github), [""; 0]);

    github.set_mode(Mode::Down);
    app.clock.advance(REMEMBER / 2);
    app = app.restarted().await;
    for token in [&oauth, &registry] {
        app.with_token(token).is("Ada").await;
    }
    unavailable(&app.with_token(&strangers).whoami().await);
    app.clock.advance(OUTAGE.saturating_sub(REMEMBER).saturating_sub(TICK));
    app = app.restarted().await;
    for token in [&oauth, &registry] {
        app.with_token(token).is("Ada").await;
    }
    app.clock.advance(TICK);
    for _ in 0..2 {
        for token in [&oauth, &registry] {
            unavailable(&app.with_token(token).whoami().await);
        }
        app = app.restarted().await;
    }
    github.set_mode(Mode::Well);
    for token in [&oauth, &registry] {
        app.with_token(token).is("Ada").await;
    }
}

#[tokio::test]
async fn in_an_outage_who_is_known_stays_in_and_nobody_else_comes_in() {
    for mode in [
        Mode::Down,
        Mode::Error(500),
        Mode::Error(502),
        Mode::RateLimited,
        Mode::SecondaryLimited,
        Mode::TooMany,
        Mode::BrokenJson,
        Mode::WrongShape,
        Mode::Html,
        Mode::Slow(Duration::from_mins(1)),
    ] {
        let github = acme().await;
        for name in ["bob", "eve"] {
            github.add_user(name);
        }
        github.add_member("acme", "bob", false);
        let app = TestApp::with(|settings| {
            known_by(settings, &github, &["acme"]);
            if matches!(mode, Mode::Slow(_)) {
                settings.github.as_mut().unwrap().client.timeout = Duration::from_millis(500);
            }
        });
        let registry = app.registry_token("Ada", &github.personal_token("Ada")).await;
        let ada = app.with_token(&github.oauth_token("Ada"));
        let (bob, bobs_password) = (app.with_token(&github.oauth_token("bob")), github.personal_token("bob"));
        let eve = app.with_token(&github.oauth_token("eve"));
        ada.is("Ada").await;
        refused_as(&eve.whoami().await, 403, "not_a_member");

        github.set_mode(mode);
        app.clock.advance(REMEMBER);
        github.forget();
        ada.is("Ada").await;
        assert_eq!(asked(&github).len(), 1, "{mode:?}: it is asked, and what is known is used");
        ada.is("Ada").await;
        ada.publish(&Tarball::new("@acme/tool", "1.0.0")).await.ok();
        assert_eq!(asked(&github), [""; 0], "{mode:?}: a GitHub in trouble is left alone for a moment");
        app.with_token(&registry).is("Ada").await;
        // Known to be no member is told apart from not known.
        refused_as(&eve.whoami().await, 403, "not_a_member");
        let seconds = unavailable(&bob.whoami().await);
        if matches!(mode, Mode::SecondaryLimited | Mode::TooMany) {
            assert_eq!(seconds, 7, "{mode:?}: as GitHub says");
        }
        unavailable(&app.anybody().sign_in("bob", &bobs_password).await);
        unavailable(&app.anybody().post("/-/v1/login/device", &json!({})).await);

        app.clock.advance(OUTAGE.saturating_sub(REMEMBER));
        for caller in [&ada, &app.with_token(&registry), &eve, &bob] {
            unavailable(&caller.whoami().await);
        }
        unavailable(&ada.publish(&Tarball::new("@acme/tool", "1.1.0")).await);
        github.set_mode(Mode::Well);
        ada.is("Ada").await;
        bob.is("bob").await;
        refused_as(&eve.whoami().await, 403, "not_a_member");
    }
}

// Names and passwords.

#[tokio::test]
async fn a_personal_token_in_place_of_the_password_gives_a_token_of_ours() {
    let github = acme().await;
    let app = app_for(&github, &["acme"]);
    let (personal, oauth) = (github.personal_token("Ada"), github.oauth_token("Ada"));
    let mut tokens = Vec::new();
    for (name, password) in [("Ada", &personal), ("ada", &personal), ("ADA", &oauth), ("ada.123456", &personal)] {
        let token = app.registry_token(name, password).await;
        assert!(token.starts_with("hfst_"), "{token}");
        app.with_token(&token).is("Ada").await;
        tokens.push(token);
    }
    let ada = app.with_token(&tokens[0]);
    ada.publish(&Tarball::new("@acme/tool", "1.0.0")).await.ok();
    let listed = ada.get("/-/npm/v1/tokens").await.ok();
    assert_eq!(listed.json()["objects"].as_array().unwrap().len(), 4);
    for secret in tokens.iter().chain([&personal, &oauth]) {
        assert!(!listed.text().contains(secret.as_str()));
        for (path, content) in app.files() {
            let found = content.windows(secret.len()).any(|bytes| bytes == secret.as_bytes());
            assert!(!found && !path.contains(secret.as_str()), "{path} has a token in it");
        }
    }
    // What is behind it ends, and so does it.
    github.revoke_token(&personal);
    app.clock.advance(REMEMBER);
    refused_as(&ada.whoami().await, 401, "sign_in_first");
    app.with_token(&tokens[2]).is("Ada").await;
}

#[tokio::test]
async fn a_sign_in_that_is_not_right_says_what_is_wrong() {
    let github = acme().await;
    for name in ["bob", "eve"] {
        github.add_user(name);
    }
    github.add_member("acme", "bob", false);
    let app = app_for(&github, &["acme"]);
    let ended = github.personal_token("Ada");
    github.revoke_token(&ended);
    for (name, password, status, code, says) in [
        ("bob", github.personal_token("Ada"), 401, "wrong_password", "`Ada`"),
        ("Ad", github.personal_token("Ada"), 401, "wrong_password", "`Ada`"),
        ("Ada", github.foreign_oauth_token("Ada"), 401, "wrong_password", "password"),
        ("Ada", ended, 401, "wrong_password", "password"),
        ("Ada", format!("ghp_{}", "a1B2".repeat(9)), 401, "wrong_password", "password"),
        ("Ada", "correct horse".to_owned(), 401, "github_takes_tokens", "personal access token"),
        ("nobody", "correct horse".to_owned(), 401, "github_takes_tokens", "personal access token"),
        ("eve", github.personal_token("eve"), 403, "not_a_member", "`eve`"),
    ] {
        let answer = app.anybody().sign_in(name, &password).await;
        let sentence = refused_as(&answer, status, code);
        assert!(sentence.contains(says), "{sentence}");
        assert!(!answer.text().contains(&password));
        // npm shows its own advice in place of the sentence where there is a challenge.
        assert_eq!(answer.header("www-authenticate"), "");
    }
    no_secret_in_addresses(&github.seen(), &["correct", "horse"]);
    // With each request only local accounts send a name and a password.
    let basic = format!("Basic {}", STANDARD.encode(format!("Ada:{}", github.personal_token("Ada"))));
    github.forget();
    refused_as(&app.anybody().with("authorization", &basic).whoami().await, 401, "sign_in_first");
    assert_eq!(asked(&github), [""; 0]);
    assert!(!app.files().keys().any(|path| path.starts_with("-/tokens/")), "no token was made");
}

#[tokio::test]
async fn a_password_is_never_sent_to_githubs_own_service() {
    let app = TestApp::with(|settings| {
        let github = holdfast::providers::Settings::new("https://api.holdfast-tests.ghe.com/".parse().unwrap());
        let (client_id, client_secret) = (Some("Iv1.x".to_owned()), Some(holdfast::secret::Secret::new("x")));
        settings.github = Some(holdfast::settings::GitHub {
            client: holdfast::providers::Settings { client_id, client_secret, ..github },
            organizations: None,
            remember: REMEMBER,
            outage: OUTAGE,
        });
    });
    // It would be a 503 if it were asked: there is none.
    refused_as(&app.anybody().sign_in("ada", PASSWORD).await, 401, "github_takes_tokens");
}

#[tokio::test]
async fn who_guesses_has_to_wait() {
    let github = acme().await;
    let app = app_for(&github, &["acme"]);
    for _ in 0..10 {
        refused_as(&app.anybody().sign_in("Ada", "guess").await, 401, "github_takes_tokens");
    }
    github.forget();
    let answer = app.anybody().sign_in("ada", &github.personal_token("Ada")).await;
    refused_as(&answer, 429, "locked");
    assert_eq!(answer.header("retry-after"), "30");
    assert_eq!(asked(&github), [""; 0]);
    // Whoever has a token already notices nothing.
    app.with_token(&github.oauth_token("Ada")).is("Ada").await;
}

#[tokio::test]
async fn an_old_enterprise_server_takes_passwords_and_codes() {
    let github = GitHub::start_old_enterprise().await;
    for name in ["ada", "bob"] {
        github.add_user(name);
        github.add_member("acme", name, false);
    }
    github.set_password("ada", "hunter2", Some("123456"));
    github.set_password("bob", "swordfish", None);
    let app = app_for(&github, &["acme"]);
    let anybody = app.anybody();
    for answer in [
        anybody.sign_in("ada", "hunter2").await,
        anybody.sign_in("ada.654321", "hunter2").await,
        anybody.with("npm-otp", "654321").sign_in("ada", "hunter2").await,
    ] {
        refused_as(&answer, 401, "one_time_code");
        assert_eq!(answer.header("www-authenticate"), "OTP", "npm asks for the code by itself then");
    }
    for (name, password) in [("ada", "wrong"), ("ada.123456", "wrong"), ("nobody", "hunter2"), ("bob", "hunter2")] {
        refused_as(&anybody.sign_in(name, password).await, 401, "wrong_password");
    }
    github.forget();
    let first = app.registry_token("bob", "swordfish").await;
    assert_eq!(github.seen()[0].otp, None);
    let by_name = app.registry_token("ada.123456", "hunter2").await;
    app.with_token(&by_name).is("ada").await;
    let with_code = anybody.with("npm-otp", "123456").sign_in("ada", "hunter2").await.ok();
    app.with_token(with_code.json()["token"].as_str().unwrap()).is("ada").await;
    let codes: Vec<Option<String>> =
        github.seen().into_iter().filter(|seen| seen.path.contains("/authorizations")).map(|seen| seen.otp).collect();
    assert!(codes[1..].iter().all(|code| code.as_deref() == Some("123456")), "{codes:?}");
    no_secret_in_addresses(&github.seen(), &["hunter2", "swordfish", "123456", GitHub::CLIENT_SECRET]);

    // An authorisation that is there already is replaced, for its token is told once only: the one before ends with it.
    github.forget();
    let second = app.registry_token("bob", "swordfish").await;
    let calls = asked(&github);
    assert!(calls[0].starts_with("PUT ") && calls[1].starts_with("DELETE ") && calls[2].starts_with("POST "));
    app.clock.advance(REMEMBER);
    app.with_token(&second).is("bob").await;
    refused_as(&app.with_token(&first).whoami().await, 401, "sign_in_first");
    github.set_mode(Mode::Down);
    unavailable(&anybody.sign_in("bob", "swordfish").await);
    // Of an old server a token goes into the address: it knows no other way. Passwords still do not.
    assert!(github.seen().iter().any(|seen| seen.path.contains("/tokens/")));
}

// Signing out.

#[tokio::test]
async fn signing_out_ends_the_token_at_github_when_nothing_else_stands_on_it() {
    let github = acme().await;
    let app = app_for(&github, &["acme"]);
    let oauth = github.oauth_token("Ada");
    let (one, other) = (app.registry_token("Ada", &oauth).await, app.registry_token("Ada", &oauth).await);
    let ended_at_github = || github.seen().iter().any(|seen| seen.method == "DELETE");
    app.with_token(&one).sign_out(&one).await.ok();
    refused_as(&app.with_token(&one).whoami().await, 401, "sign_in_first");
    assert!(!ended_at_github());
    app.with_token(&other).is("Ada").await;
    app.anybody().sign_out(&other).await.ok();
    refused_as(&app.with_token(&other).whoami().await, 401, "sign_in_first");
    assert!(ended_at_github());
    refused_as(&app.with_token(&oauth).whoami().await, 401, "sign_in_first");
    no_secret_in_addresses(&github.seen(), &[&oauth, &one, &other]);
    // A personal token is its owner's own affair.
    github.forget();
    let personal = github.personal_token("Ada");
    let third = app.registry_token("Ada", &personal).await;
    app.anybody().sign_out(&third).await.ok();
    assert!(!ended_at_github());
    app.with_token(&personal).is("Ada").await;
    refused_as(&app.anybody().sign_out(&third).await, 404, "token_not_found");
}

#[tokio::test]
async fn a_token_of_githubs_own_is_ended_at_github() {
    for github in [GitHub::start().await, GitHub::start_old_enterprise().await] {
        github.add_user("Ada");
        github.add_member("acme", "Ada", false);
        let app = app_for(&github, &["acme"]);
        let (token, personal) = (github.old_oauth_token("Ada"), github.personal_token("Ada"));
        let ada = app.with_token(&token);
        ada.is("Ada").await;
        ada.sign_out(&token).await.ok();
        refused_as(&ada.whoami().await, 401, "sign_in_first");
        // Not only for as long as we remember it.
        app.clock.advance(REMEMBER);
        refused_as(&ada.whoami().await, 401, "sign_in_first");
        refused_as(&ada.sign_out(&token).await, 404, "token_not_found");
        drop(ada);
        let app = app.restarted().await;
        refused_as(&app.with_token(&token).whoami().await, 401, "sign_in_first");
        // Not ours to end.
        refused_as(&app.anybody().sign_out(&personal).await, 404, "token_not_found");
        app.with_token(&personal).is("Ada").await;
    }
}

#[tokio::test]
async fn signing_out_works_while_github_is_down() {
    let github = acme().await;
    let app = app_for(&github, &["acme"]);
    let oauth = github.oauth_token("Ada");
    let registry = app.registry_token("Ada", &oauth).await;
    github.set_mode(Mode::Error(502));
    app.anybody().sign_out(&registry).await.ok();
    refused_as(&app.with_token(&registry).whoami().await, 401, "sign_in_first");
    // One of GitHub's own cannot be ended without GitHub, and nobody is told that it was.
    unavailable(&app.anybody().sign_out(&oauth).await);
    github.set_mode(Mode::Well);
    refused_as(&app.with_token(&registry).whoami().await, 401, "sign_in_first");
    app.anybody().sign_out(&oauth).await.ok();
}

// The browser.

/// A login as npm began it.
#[derive(Debug, Clone)]
struct Login {
    page: String,
    poll: String,
}

impl Login {
    async fn begin(app: &TestApp) -> Self {
        let answer = app.anybody().post("/-/v1/login", &json!({ "hostname": "build-7" })).await.ok().json();
        let path = |url: &Value| url.as_str().unwrap().strip_prefix("http://localhost:4873").unwrap().to_owned();
        Self { page: path(&answer["loginUrl"]), poll: path(&answer["doneUrl"]) }
    }

    fn id(&self) -> &str {
        self.page.rsplit('/').next().unwrap()
    }

    async fn polled(&self, app: &TestApp) -> Answer {
        app.anybody().get(&self.poll).await
    }

    /// Fails unless the client has to go on waiting.
    async fn waits(&self, app: &TestApp) {
        let answer = self.polled(app).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED);
        // npm polls in a tight loop without the one, and trips over a body that is no JSON without the other.
        assert_eq!(answer.header("retry-after"), "2");
        assert!(answer.json().is_object());
    }
}

/// A browser, with our cookie.
#[derive(Debug, Clone, Default)]
struct Browser {
    cookie: String,
}

impl Browser {
    fn as_caller(&self, app: &TestApp) -> Caller {
        let anybody = app.anybody();
        if self.cookie.is_empty() { anybody } else { anybody.with("cookie", &format!("theme=dark; {}", self.cookie)) }
    }

    async fn opens(&mut self, app: &TestApp, path: &str) -> Answer {
        let answer = self.as_caller(app).get(path).await;
        let cookie = answer.header("set-cookie");
        if !cookie.is_empty() {
            for part in ["HttpOnly", "SameSite=Lax", "Path=/-/", "Max-Age=900"] {
                assert!(cookie.contains(part), "{cookie}");
            }
            cookie.split(';').next().unwrap().clone_into(&mut self.cookie);
        }
        answer
    }

    /// A page, as text.
    async fn sees(&mut self, app: &TestApp, path: &str) -> String {
        self.opens(app, path).await.ok().text()
    }

    /// From the page to GitHub and to where GitHub leads: the callback's path and query.
    async fn goes_to_github(&mut self, app: &TestApp, login: &Login) -> String {
        self.sees(app, &login.page).await;
        let there = self.opens(app, &format!("{}/github", login.page)).await;
        assert_eq!(there.status, StatusCode::SEE_OTHER);
        follow(there.header("location")).await
    }

    /// Presses a button on the page for confirming.
    async fn decides(&self, app: &TestApp, login: &Login, csrf: &str, decision: &str) -> Answer {
        let fields = [("csrf", csrf), ("decision", decision)];
        self.as_caller(app).send_form(&format!("{}/confirm", login.page), &[], &fields).await
    }
}

/// What a browser that is signed in at GitHub does there.
async fn follow(authorize: &str) -> String {
    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let answer = client.get(authorize).send().await.unwrap();
    let back = answer.headers()["location"].to_str().unwrap();
    back.strip_prefix("http://localhost:4873").unwrap().to_owned()
}

fn csrf_of(page: &str) -> String {
    let (_, rest) = page.split_once("name=\"csrf\" value=\"").unwrap_or_else(|| panic!("nothing to confirm in {page}"));
    rest.split('"').next().unwrap().to_owned()
}

fn leads_to(answer: &Answer, path: &str) {
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text());
    assert_eq!(answer.header("location"), format!("http://localhost:4873{path}"));
}

/// A refusal in the browser is a page.
#[track_caller]
fn refused_by_page(answer: &Answer, status: u16, says: &str) {
    assert_eq!(answer.status.as_u16(), status, "{}", answer.text());
    assert!(answer.header("content-type").starts_with("text/html"));
    assert!(answer.text().contains(says), "{says}: {}", answer.text());
}

/// With Ada at the browser, and signed in at GitHub there.
async fn with_ada() -> (GitHub, TestApp) {
    let github = acme().await;
    github.sign_in_as("Ada");
    github.register_callback("http://localhost:4873/-/github/callback");
    let app = app_for(&github, &["acme"]);
    (github, app)
}

#[tokio::test]
async fn a_sign_in_in_the_browser_needs_nothing_in_memory() {
    let (github, mut app) = with_ada().await;
    let (login, mut browser) = (Login::begin(&app).await, Browser::default());
    app = app.restarted().await;
    login.waits(&app).await;
    let page = browser.sees(&app, &login.page).await;
    assert!(page.contains("build-7") && page.contains("/github\""), "{page}");
    app = app.restarted().await;
    let there = browser.opens(&app, &format!("{}/github", login.page)).await;
    let there = there.header("location").to_owned();
    assert!(there.starts_with(&github.web_url()) && there.contains("code_challenge_method=S256"), "{there}");
    no_secret_in_addresses(&github.seen(), &[GitHub::CLIENT_SECRET]);
    assert!(!there.contains(GitHub::CLIENT_SECRET) && !there.contains(browser.cookie.split_once('=').unwrap().1));
    app = app.restarted().await;
    let back = follow(&there).await;
    leads_to(&browser.opens(&app, &back).await, &login.page);
    app = app.restarted().await;
    login.waits(&app).await;
    let page = browser.sees(&app, &login.page).await;
    assert!(page.contains("Ada") && page.contains("build-7"));
    app = app.restarted().await;
    leads_to(&browser.decides(&app, &login, &csrf_of(&page), "confirm").await, &login.page);
    app = app.restarted().await;
    assert!(browser.sees(&app, &login.page).await.contains("You are signed in"));
    let answer = login.polled(&app).await;
    assert_eq!(answer.status, StatusCode::OK);
    let token = answer.json()["token"].as_str().unwrap().to_owned();
    app = app.restarted().await;
    app.with_token(&token).is("Ada").await;
    // It is handed out once.
    refused_as(&login.polled(&app).await, 404, "no_login");
    assert!(browser.sees(&app, &login.page).await.contains("picked up"));
    for (path, content) in app.files() {
        let text = String::from_utf8_lossy(&content);
        assert!(!text.contains("gho_") && !text.contains(&token) && !text.contains(login.id()), "{path}");
    }
}

#[tokio::test]
async fn the_way_back_from_github_is_for_the_browser_that_went_there() {
    let (github, app) = with_ada().await;
    let (login, mut browser, mut other) = (Login::begin(&app).await, Browser::default(), Browser::default());
    let back = browser.goes_to_github(&app, &login).await;
    other.sees(&app, &login.page).await;
    let query = back.split_once('?').unwrap().1.to_owned();
    let state = query.split('&').find_map(|pair| pair.strip_prefix("state=")).unwrap();
    let foreign_cookie = Browser { cookie: "holdfast_login=short".to_owned() };
    let second = Login::begin(&app).await;
    github.forget();
    for (who, path) in [
        (&Browser::default(), back.clone()),
        (&other, back.clone()),
        (&foreign_cookie, back.clone()),
        (&browser, back.replace(state, "")),
        (&browser, back.replace(state, &state[..state.len() - 1])),
        // For another login, with the proof of this one.
        (&browser, back.replace(login.id(), second.id())),
        (&browser, "/-/github/callback".to_owned()),
        (&browser, "/-/github/callback?code=x&state=x.y".to_owned()),
    ] {
        let answer = who.as_caller(&app).get(&path).await;
        refused_by_page(&answer, 404, "does not belong to a sign-in in this browser");
    }
    assert_eq!(asked(&github), [""; 0], "the code was not used up by it");
    let without_cookie = app.anybody().get(&format!("{}/github", login.page)).await;
    refused_by_page(&without_cookie, 404, "in this browser");

    // A code that somebody else got, put into one's own way back: GitHub sees that the verifier is not its.
    let (mut thief, stolen_for) = (Browser::default(), Login::begin(&app).await);
    let of_thief = thief.goes_to_github(&app, &stolen_for).await;
    let code_of = |path: &str| path.split(['?', '&']).find_map(|pair| pair.strip_prefix("code=")).unwrap().to_owned();
    let injected = of_thief.replace(&code_of(&of_thief), &code_of(&back));
    refused_by_page(&thief.as_caller(&app).get(&injected).await, 403, "bad_verification_code");
    stolen_for.waits(&app).await;

    // A code works once.
    let back = browser.goes_to_github(&app, &login).await;
    leads_to(&browser.opens(&app, &back).await, &login.page);
    refused_by_page(&browser.opens(&app, &back).await, 403, "bad_verification_code");
    github.expire_codes();
    login.waits(&app).await;
}

#[tokio::test]
async fn only_the_person_at_the_browser_says_yes() {
    let (_github, app) = with_ada().await;
    let (login, mut browser, mut other) = (Login::begin(&app).await, Browser::default(), Browser::default());
    // Nobody has signed in yet.
    browser.sees(&app, &login.page).await;
    let early = holdfast::auth::Auth::csrf(browser.cookie.split_once('=').unwrap().1, login.id());
    refused_by_page(&browser.decides(&app, &login, &early, "confirm").await, 404, "in this browser");
    let back = browser.goes_to_github(&app, &login).await;
    browser.opens(&app, &back).await;
    let csrf = csrf_of(&browser.sees(&app, &login.page).await);
    assert_eq!(csrf, early);

    // Without a cookie, and with one of its own.
    for _ in 0..2 {
        let page = other.sees(&app, &login.page).await;
        assert!(!page.contains("csrf") && !page.contains("Ada") && page.contains("Sign in with GitHub"), "{page}");
    }
    let others_csrf = holdfast::auth::Auth::csrf(other.cookie.split_once('=').unwrap().1, login.id());
    for (who, csrf) in [(&other, &csrf), (&other, &others_csrf), (&browser, &others_csrf), (&browser, &String::new())] {
        for decision in ["confirm", "deny"] {
            refused_by_page(&who.decides(&app, &login, csrf, decision).await, 404, "in this browser");
        }
    }
    let path = format!("{}/confirm", login.page);
    let fields = [("csrf", csrf.as_str()), ("decision", "confirm")];
    for origin in ["http://evil.example", "null", "http://localhost:4874", "https://localhost:4873.evil.example"] {
        let answer = browser.as_caller(&app).send_form(&path, &[("origin", origin)], &fields).await;
        refused_by_page(&answer, 404, "in this browser");
    }
    refused_by_page(&Browser::default().decides(&app, &login, &csrf, "confirm").await, 404, "in this browser");
    let wrong = format!("{}x", &login.poll[..login.poll.len() - 1]);
    for poll in [
        wrong.as_str(),
        "/-/v1/done",
        "/-/v1/done?authId=x.y",
        "/-/v1/done?authId=",
        login.poll.split_once('.').unwrap().0,
    ] {
        refused_as(&app.anybody().get(poll).await, 404, "no_login");
    }
    login.waits(&app).await;
    let own = [("origin", "http://localhost:4873")];
    leads_to(&browser.as_caller(&app).send_form(&path, &own, &fields).await, &login.page);
    assert!(other.sees(&app, &login.page).await.contains("Sign in with GitHub"), "not even that it was confirmed");
    // Of two polls one gets the token.
    let (one, two) = tokio::join!(login.polled(&app), login.polled(&app));
    let mut statuses = [one.status.as_u16(), two.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 404]);
    refused_by_page(&browser.decides(&app, &login, &csrf, "deny").await, 404, "in this browser");
}

#[tokio::test]
async fn a_no_in_the_browser_or_at_github_gives_no_token() {
    let (github, app) = with_ada().await;
    let (login, mut browser) = (Login::begin(&app).await, Browser::default());
    github.deny();
    let back = browser.goes_to_github(&app, &login).await;
    refused_by_page(&browser.opens(&app, &back).await, 403, "access_denied");
    login.waits(&app).await;
    // Changing one's mind is allowed, there and here until the button is pressed.
    let back = browser.goes_to_github(&app, &login).await;
    browser.opens(&app, &back).await;
    let csrf = csrf_of(&browser.sees(&app, &login.page).await);
    leads_to(&browser.decides(&app, &login, &csrf, "deny").await, &login.page);
    refused_as(&login.polled(&app).await, 403, "login_denied");
    refused_by_page(&browser.decides(&app, &login, &csrf, "confirm").await, 404, "in this browser");
    refused_as(&login.polled(&app).await, 403, "login_denied");
    assert!(browser.sees(&app, &login.page).await.contains("Nothing was done"));
    assert!(!app.files().keys().any(|path| path.starts_with("-/tokens/")));

    // Who may not come in, and a GitHub that is down.
    github.add_user("eve");
    github.sign_in_as("eve");
    let (login, mut browser) = (Login::begin(&app).await, Browser::default());
    let back = browser.goes_to_github(&app, &login).await;
    refused_by_page(&browser.opens(&app, &back).await, 403, "“eve” is in none of the organisations");
    login.waits(&app).await;
    let back = browser.goes_to_github(&app, &login).await;
    github.set_mode(Mode::Down);
    refused_by_page(&browser.opens(&app, &back).await, 503, "GitHub does not answer");
    login.waits(&app).await;
}

#[tokio::test]
async fn a_sign_in_that_nobody_finished_ends_by_itself() {
    let (_github, app) = with_ada().await;
    let (login, late, mut browser) = (Login::begin(&app).await, Login::begin(&app).await, Browser::default());
    let back = browser.goes_to_github(&app, &login).await;
    app.clock.advance(Duration::from_mins(10).saturating_sub(TICK));
    late.waits(&app).await;
    browser.opens(&app, &back).await;
    let csrf = csrf_of(&browser.sees(&app, &login.page).await);
    app.clock.advance(TICK);
    refused_as(&login.polled(&app).await, 404, "no_login");
    for answer in [
        browser.opens(&app, &login.page).await,
        browser.opens(&app, &format!("{}/github", login.page)).await,
        browser.opens(&app, &back).await,
        browser.decides(&app, &login, &csrf, "confirm").await,
        browser.opens(&app, &format!("/-/login/{}", "x".repeat(43))).await,
        browser.opens(&app, "/-/login/x").await,
    ] {
        refused_by_page(&answer, 404, "begin again");
    }
    assert_eq!(app.app.registry.auth().sweep().await.unwrap(), 2);
    // Without GitHub there is no page: npm falls back to its prompt on any 404.
    let alone = TestApp::new();
    refused_as(&alone.anybody().post("/-/v1/login", &json!({})).await, 404, "no_web_login");
    refused_as(&alone.anybody().post("/-/v1/login/device", &json!({})).await, 404, "no_github");
}

#[tokio::test]
async fn behind_a_proxy_the_browser_is_led_to_the_public_address() {
    let github = acme().await;
    github.sign_in_as("Ada");
    github.register_callback("https://npm.acme.example/registry/-/github/callback");
    let app = TestApp::with(|settings| {
        known_by(settings, &github, &["acme"]);
        settings.server.public_url = Some("https://npm.acme.example/registry/".parse().unwrap());
        settings.server.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    });
    let anybody = app.anybody().to_host("npm.acme.example");
    let begun = anybody.post("/-/v1/login", &json!({})).await.ok().json();
    let base = "https://npm.acme.example/registry";
    let inside = |url: &str| url.strip_prefix(base).unwrap_or_else(|| panic!("{url}")).to_owned();
    let page = inside(begun["loginUrl"].as_str().unwrap());
    let shown = anybody.get(&page).await.ok();
    let cookie = shown.header("set-cookie").to_owned();
    assert!(cookie.contains("; Path=/registry/-/;") && cookie.ends_with("; Secure"), "{cookie}");
    let browser = anybody.with("cookie", cookie.split(';').next().unwrap());
    let there = browser.get(&format!("{page}/github")).await;
    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let back = client.get(there.header("location")).send().await.unwrap();
    let back = inside(back.headers()["location"].to_str().unwrap());
    assert_eq!(browser.get(&back).await.header("location"), format!("{base}{page}"));
    let csrf = csrf_of(&browser.get(&page).await.ok().text());
    let fields = [("csrf", csrf.as_str()), ("decision", "confirm")];
    let confirm = format!("{page}/confirm");
    let foreign = browser.send_form(&confirm, &[("origin", "https://npm.acme.example.evil.example")], &fields).await;
    refused_by_page(&foreign, 404, "in this browser");
    let own = browser.send_form(&confirm, &[("origin", "https://npm.acme.example")], &fields).await;
    assert_eq!(own.header("location"), format!("{base}{page}"));
    let token = anybody.get(&inside(begun["doneUrl"].as_str().unwrap())).await.ok().json()["token"].clone();
    anybody.with_token(token.as_str().unwrap()).is("Ada").await;
}

#[tokio::test]
async fn only_so_many_sign_ins_begin_in_a_minute() {
    let (_github, app) = with_ada().await;
    for _ in 0..300 {
        Login::begin(&app).await;
    }
    for path in ["/-/v1/login", "/-/v1/login/device"] {
        let answer = app.anybody().post(path, &json!({})).await;
        refused_as(&answer, 429, "busy");
        assert!(!answer.header("retry-after").is_empty());
    }
    app.clock.advance(Duration::from_mins(1));
    Login::begin(&app).await;
}

#[tokio::test]
async fn a_local_account_signs_in_on_the_same_page() {
    let (_github, app) = {
        let (github, _) = with_ada().await;
        let app = app_with_local_accounts(&github, &["acme"]);
        (github, app)
    };
    app.app.registry.auth().create_account("lisa", PASSWORD.to_owned(), "").await.unwrap();
    let (login, mut browser) = (Login::begin(&app).await, Browser::default());
    let page = browser.sees(&app, &login.page).await;
    // Most people have no one-time codes, and could not send the form.
    let field = page.split("<input").find(|field| field.contains("name=\"code\"")).unwrap();
    assert!(!field.split('>').next().unwrap().contains("required"), "{field}");
    let sends = async |password: &str, origin: &str| {
        let fields = [("user", "lisa"), ("password", password), ("code", "")];
        browser.as_caller(&app).send_form(&login.page, &[("origin", origin)], &fields).await
    };
    let own = "http://localhost:4873";
    refused_by_page(&sends("wrong", own).await, 401, "wrong");
    refused_by_page(&sends(PASSWORD, "http://evil.example").await, 404, "in this browser");
    leads_to(&sends(PASSWORD, own).await, &login.page);
    let csrf = csrf_of(&browser.sees(&app, &login.page).await);
    browser.decides(&app, &login, &csrf, "confirm").await;
    let token = login.polled(&app).await.ok().json()["token"].as_str().unwrap().to_owned();
    app.with_token(&token).is("lisa").await;
}

// Another device.

/// Begins a device flow; the code, and where to poll.
async fn begin_device(app: &TestApp) -> (String, Login) {
    let answer = app.anybody().post("/-/v1/login/device", &json!({ "hostname": "build-7" })).await.ok().json();
    assert_eq!((&answer["interval"], &answer["expiresIn"]), (&json!(1), &json!(900)));
    let poll = answer["doneUrl"].as_str().unwrap().strip_prefix("http://localhost:4873").unwrap().to_owned();
    (answer["userCode"].as_str().unwrap().to_owned(), Login { page: String::new(), poll })
}

#[tokio::test]
async fn signing_in_on_another_device_waits_for_a_person() {
    let github = acme().await;
    let mut app = app_for(&github, &["acme"]);
    let (code, login) = begin_device(&app).await;
    github.forget();
    let waits = |answer: Answer, seconds: &str| {
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text());
        assert_eq!(answer.header("retry-after"), seconds);
    };
    let second = Duration::from_secs(1);
    waits(login.polled(&app).await, "1");
    assert_eq!(asked(&github), [""; 0], "too early to ask GitHub");
    app.clock.advance(second);
    waits(login.polled(&app).await, "1");
    assert_eq!(asked(&github).len(), 1);
    // For GitHub no time went by.
    app.clock.advance(second);
    waits(login.polled(&app).await, "6");
    github.forget();
    app.clock.advance(second);
    waits(login.polled(&app).await, "6");
    assert_eq!(asked(&github), [""; 0], "it is asked less often from now on");
    app = app.restarted().await;
    github.approve_device(&code, "Ada");
    github.let_pass(Duration::from_mins(1));
    app.clock.advance(Duration::from_secs(6));
    let token = login.polled(&app).await.ok().json()["token"].as_str().unwrap().to_owned();
    assert!(token.starts_with("hfst_"));
    app.with_token(&token).is("Ada").await;
    refused_as(&login.polled(&app).await, 404, "no_login");
    no_secret_in_addresses(&github.seen(), &[&token, GitHub::CLIENT_SECRET]);
    assert!(!app.files().values().any(|content| String::from_utf8_lossy(content).contains("gho_")));
    // It has no page on which somebody could confirm it.
    let id = login.poll.split_once('=').unwrap().1.split('.').next().unwrap();
    refused_by_page(&app.anybody().get(&format!("/-/login/{id}")).await, 404, "no such sign-in");
}

#[tokio::test]
async fn signing_in_on_another_device_ends_without_a_yes() {
    let github = acme().await;
    github.add_user("eve");
    let app = app_for(&github, &["acme"]);
    let ready = |app: &TestApp| {
        app.clock.advance(Duration::from_secs(1));
        github.let_pass(Duration::from_mins(1));
    };
    let (code, login) = begin_device(&app).await;
    github.deny_device(&code);
    ready(&app);
    assert!(refused_as(&login.polled(&app).await, 403, "github_refused").contains("access_denied"));

    let (code, login) = begin_device(&app).await;
    github.expire_device(&code);
    ready(&app);
    assert!(refused_as(&login.polled(&app).await, 403, "github_refused").contains("expired_token"));

    let (code, login) = begin_device(&app).await;
    github.approve_device(&code, "eve");
    ready(&app);
    refused_as(&login.polled(&app).await, 403, "not_a_member");

    let (code, login) = begin_device(&app).await;
    github.approve_device(&code, "Ada");
    ready(&app);
    github.set_mode(Mode::Down);
    unavailable(&login.polled(&app).await);
    github.set_mode(Mode::Well);
    let secret = login.poll.rsplit_once('.').unwrap().1;
    refused_as(&app.anybody().get(&login.poll.replace(secret, "x")).await, 404, "no_login");
    app.clock.advance(Duration::from_mins(15));
    refused_as(&login.polled(&app).await, 404, "no_login");
    assert!(!app.files().keys().any(|path| path.starts_with("-/tokens/")));
}

// Settings.

#[test]
fn settings_of_github_that_cannot_be_meant_are_told_at_once() {
    let load = |toml: &str| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("holdfast.toml");
        std::fs::write(&path, toml).unwrap();
        let data = ("storage.directory", directory.path().join("data").display().to_string());
        Settings::load_with(&Flags { file: Some(path), values: vec![data] }, Vec::new())
    };
    let app = "[github]\nclient_id = \"Iv1.x\"\nclient_secret = \"s3cret\"\n";
    for (toml, parts) in [
        (app.to_owned(), vec!["github.organizations", "[\"*\"]"]),
        (format!("{app}organizations = []"), vec!["github.organizations"]),
        (format!("{app}organizations = [\"*\", \"acme\"]"), vec!["github.organizations"]),
        (format!("{app}organizations = \"acme\"\napi_url = \"ftp://x/\""), vec!["github.api_url"]),
        ("[github]\nclient_secret = \"s3cret\"\norganizations = [\"acme\"]".to_owned(), vec!["github.client_id"]),
        (format!("{app}organizations = [\"acme\"]\nremember_seconds = \"soon\""), vec!["github.remember_seconds"]),
        ("[[package]]\nname = \"**\"\nread = [\"github:org/acme\"]".to_owned(), vec!["github:org/acme"]),
        ("[access]\nadmins = [\"github:team/acme/x\"]".to_owned(), vec!["github:team/acme/x"]),
        (
            format!(
                "{app}organizations = [\"acme\"]\n[[package]]\nname = \"**\"\nread = [\"github:repo/acme/x:read\"]"
            ),
            vec!["github:repo/acme/x:read", "github.token"],
        ),
    ] {
        let mistakes = load(&toml).map(|_| ()).expect_err(&toml);
        let text = mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        for part in parts {
            assert!(text.contains(part), "{part} is missing in:\n{text}\nfor\n{toml}");
        }
        assert!(!text.contains("s3cret"), "{text}");
    }
    let good = load(&format!("{app}organizations = [\"*\"]\nremember_seconds = 600\noutage_seconds = 60")).unwrap();
    let github = good.settings.github.unwrap();
    assert_eq!(github.organizations, None);
    // What it said is good for no shorter while when it is down than when it is there.
    assert_eq!((github.remember.as_secs(), github.outage.as_secs()), (600, 600));
}

#[tokio::test]
async fn addresses_and_secrets_of_github_that_cannot_be_used_stop_the_start() {
    let github = acme().await;
    for (change, says) in [
        (
            (|client| client.api_url = "http://github.example/api/v3/".parse().unwrap())
                as fn(&mut holdfast::providers::Settings),
            "https",
        ),
        (|client| client.api_url = "https://ada:pw@github.example/".parse().unwrap(), "credentials"),
        (|client| client.client_id = Some("../x".to_owned()), "client ID"),
        (|client| client.client_secret = Some(holdfast::secret::Secret::new("a\nb")), "secret"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let mut settings = Settings::default();
        directory.path().clone_into(&mut settings.storage.directory);
        known_by(&mut settings, &github, &["acme"]);
        change(&mut settings.github.as_mut().unwrap().client);
        let error = holdfast::app::App::start(&settings, holdfast::clock::Clock::default()).err().expect(says);
        let text = format!("{:#}", anyhow::Error::from(error));
        assert!(text.contains("GitHub") && text.contains(says) && !text.contains("pw@"), "{text}");
    }
}
