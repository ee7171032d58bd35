//! Hooks of accounts (`npm hook`): who may have which, where they may go, and that each is told whatever the others do.

use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use holdfast::auth::Action;
use holdfast::settings::Settings;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::PATIENCE;
use crate::support::app::{Caller, TestApp, refused};
use crate::support::company::{Company, rule};
use crate::support::object_server::ObjectServer;
use crate::support::receiver::{Mood, Received, Receiver};
use crate::support::tarballs::Tarball;

const HOOKS: &str = "/-/npm/v1/hooks";
const HOOK: &str = "/-/npm/v1/hooks/hook";
const SECRET: &str = "a secret of the test's own";
/// Nobody is there, and nobody is asked: names are resolved when there is something to tell.
const SOMEWHERE: &str = "https://ci.acme.example/hook?key=canary";

/// As an intranet has it: the receivers of the tests are on this machine.
fn on(settings: &mut Settings) {
    settings.hooks.is_on = true;
    settings.hooks.allow_private = true;
    settings.hooks.allow_http = true;
    settings.hooks.timeout = Duration::from_secs(5);
}

fn wish(kind: &str, name: &str, endpoint: &str) -> Value {
    json!({ "type": kind, "name": name, "endpoint": endpoint, "secret": SECRET })
}

/// A hook of somebody's on a package; its id.
async fn hook(caller: &Caller, kind: &str, name: &str, receiver: &Receiver) -> String {
    let answer = caller.post(HOOK, &wish(kind, name, &receiver.url("/hook"))).await.ok();
    answer.json()["id"].as_str().unwrap().to_owned()
}

async fn listed(caller: &Caller) -> Vec<Value> {
    caller.get(HOOKS).await.ok().json()["objects"].as_array().unwrap().clone()
}

/// What a receiver was told, as `event name version`.
fn told(received: &[Received]) -> Vec<String> {
    let line = |received: &Received| {
        let body = received.json();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        format!("{} {} {}", text(&body["event"]), text(&body["name"]), text(&body["change"]["version"]))
    };
    received.iter().map(line).collect()
}

/// The publishes of version 1.0.0 of these packages, as [`told`] has them.
fn publishes(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| format!("package:publish {name} 1.0.0")).collect()
}

impl TestApp {
    /// Tells hooks until nothing is left, or something is in the way.
    async fn tell_hooks(&self) {
        self.app.sinks.deliver_within(PATIENCE).await;
    }
}

#[tokio::test]
async fn hooks_are_off_until_an_operator_wants_them() {
    let app = TestApp::new();
    let alice = app.user("alice").await;
    let before = app.stored();
    for answer in [
        alice.get(HOOKS).await,
        alice.post(HOOK, &wish("package", "tool", SOMEWHERE)).await,
        alice.get(&format!("{HOOK}/0a")).await,
        alice.put(&format!("{HOOK}/0a"), &json!({ "endpoint": SOMEWHERE, "secret": SECRET })).await,
        alice.delete(&format!("{HOOK}/0a")).await,
    ] {
        assert!(refused(&answer, 403).contains("hooks.enabled"));
        assert_eq!(answer.json()["code"], "hooks_off");
    }
    assert_eq!(app.stored(), before);
}

#[tokio::test]
async fn a_hook_is_its_accounts_and_never_shows_its_secret() {
    let app = TestApp::with(|settings| settings.hooks.is_on = true);
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let answer = alice.post(HOOK, &wish("package", "@acme/tool", SOMEWHERE)).await;
    assert_eq!(answer.status.as_u16(), 201, "{}", answer.text());
    let made = answer.json();
    let id = made["id"].as_str().unwrap().to_owned();
    for (member, expected) in [
        ("username", json!("alice")),
        ("name", json!("@acme/tool")),
        ("type", json!("package")),
        ("endpoint", json!(SOMEWHERE)),
        ("deleted", json!(false)),
        ("delivered", json!(false)),
        ("last_delivery", Value::Null),
        ("response_code", json!(0)),
        ("status", json!("active")),
    ] {
        assert_eq!(made[member], expected, "{member}");
    }
    alice.post(HOOK, &wish("scope", "@acme", SOMEWHERE)).await.ok();
    alice.post(HOOK, &wish("owner", "bob", SOMEWHERE)).await.ok();
    let path = format!("{HOOK}/{id}");
    assert_eq!(listed(&alice).await.len(), 3);
    let page = alice.get(&format!("{HOOKS}?limit=1&offset=1")).await.ok().json();
    assert_eq!((page["total"].as_u64(), page["objects"][0]["name"].as_str()), (Some(3), Some("@acme")));
    let one = alice.get(&format!("{HOOKS}?package=%40acme%2Ftool")).await.ok().json();
    assert_eq!((one["objects"][0]["id"].as_str(), one["total"].as_u64()), (Some(&*id), Some(1)));
    refused(&alice.get(&format!("{HOOKS}?limit=many")).await, 400);

    // To others it is not there.
    assert_eq!(listed(&bob).await, Vec::<Value>::new());
    let elsewhere = json!({ "endpoint": "https://evil.example/", "secret": "another" });
    for answer in [bob.get(&path).await, bob.put(&path, &elsewhere).await, bob.delete(&path).await] {
        refused(&answer, 404);
        assert_eq!(answer.json()["code"], "hook_not_found");
    }
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        refused(&app.anybody().send_json(method, &path, &elsewhere).await, 401);
    }
    let answer = alice.put(&path, &json!({ "endpoint": "https://ci.acme.example/2", "secret": "second" })).await.ok();
    assert_eq!(answer.json()["endpoint"], "https://ci.acme.example/2");
    let answers = [answer, alice.get(&path).await.ok(), alice.get(HOOKS).await.ok(), alice.delete(&path).await.ok()];
    assert_eq!(answers[3].json()["deleted"], true);
    for answer in &answers {
        assert!(!answer.text().contains(SECRET) && !answer.text().contains("second"), "{}", answer.text());
    }
    refused(&alice.delete(&path).await, 404);

    // The record has who did what, and neither address nor secret.
    let mut record = String::new();
    for (path, bytes) in app.files() {
        if path.contains("/events/") {
            record.push_str(&String::from_utf8(bytes).unwrap());
        }
    }
    for kind in ["hook.add", "hook.update", "hook.remove"] {
        assert!(record.contains(&format!("\"{kind}\"")), "{kind} is not in {record}");
    }
    assert!(record.contains("ci.acme.example") && !record.contains("canary") && !record.contains(SECRET), "{record}");
}

#[tokio::test]
async fn a_hook_that_cannot_be_is_refused() {
    let app = TestApp::with(|settings| {
        settings.hooks.is_on = true;
        settings.hooks.per_account = 2;
        settings.hooks.total = 3;
    });
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let code = async |body: &Value| {
        let answer = alice.post(HOOK, body).await;
        assert!(answer.status.is_client_error(), "{body}: {}", answer.text());
        answer.json()["code"].as_str().unwrap().to_owned()
    };
    for endpoint in [
        "http://ci.acme.example/",
        "https://127.0.0.1:1/",
        "https://localhost/",
        "https://[::ffff:127.0.0.1]/",
        "https://169.254.169.254/latest/meta-data/",
        "https://10.0.0.7/",
        "https://u:p@ci.acme.example/",
        "ci.acme.example",
        "file:///etc/passwd",
        &format!("https://ci.acme.example/{}", "x".repeat(2_000)),
    ] {
        assert_eq!(code(&wish("package", "tool", endpoint)).await, "hook_endpoint", "{endpoint}");
    }
    for (kind, name, secret) in
        [("team", "a", "x"), ("package", "../x", "x"), ("scope", "a/b", "x"), ("owner", "", "x"), ("package", "a", "")]
    {
        let body = json!({ "type": kind, "name": name, "endpoint": SOMEWHERE, "secret": secret });
        assert_eq!(code(&body).await, "bad_hook", "{body}");
    }
    for body in [json!({}), json!([]), json!({ "type": "package", "name": "tool", "endpoint": 7, "secret": SECRET })] {
        assert_eq!(code(&body).await, "bad_document", "{body}");
    }
    assert_eq!(listed(&alice).await, Vec::<Value>::new());
    for _ in 0..2 {
        alice.post(HOOK, &wish("package", "tool", SOMEWHERE)).await.ok();
    }
    assert_eq!(code(&wish("package", "tool", SOMEWHERE)).await, "too_many_hooks");
    bob.post(HOOK, &wish("package", "tool", SOMEWHERE)).await.ok();
    refused(&bob.post(HOOK, &wish("package", "tool", SOMEWHERE)).await, 403);
}

#[tokio::test]
async fn only_who_may_read_may_have_a_hook_and_no_weaker_token() {
    let company = Company::with(|settings| {
        settings.hooks.is_on = true;
        let readers = ["github:org/acme", "workflow:github/acme/*"];
        settings.access.rules = vec![rule("@acme/*", &[(Action::Read, &readers)])];
    })
    .await;
    let (ann, eve) = (company.person("ann").await, company.person("eve").await);
    for kind in ["package", "scope"] {
        let name = if kind == "package" { "@acme/tool" } else { "@acme" };
        ann.post(HOOK, &wish(kind, name, SOMEWHERE)).await.ok();
    }
    // As for a package that is not there.
    refused(&eve.post(HOOK, &wish("package", "@acme/tool", SOMEWHERE)).await, 404);
    refused(&eve.post(HOOK, &wish("scope", "@acme", SOMEWHERE)).await, 400);
    let id = listed(&ann).await[0]["id"].as_str().unwrap().to_owned();
    let path = format!("{HOOK}/{id}");
    for limits in [json!({ "readonly": true }), json!({ "name": "x", "packages": ["@acme/tool"] })] {
        let weaker = company.limited("ann", limits).await;
        let body = json!({ "endpoint": SOMEWHERE, "secret": SECRET });
        for answer in [
            weaker.post(HOOK, &wish("package", "@acme/tool", SOMEWHERE)).await,
            weaker.put(&path, &body).await,
            weaker.delete(&path).await,
        ] {
            refused(&answer, 403);
            assert_eq!(answer.json()["code"], "limited_token");
        }
        assert_eq!(listed(&weaker).await.len(), 2);
    }
    refused(&company.job("acme/site", None).await.get(HOOKS).await, 403);
}

#[tokio::test]
async fn hooks_are_told_of_packages_scopes_and_owners() {
    let (of_package, of_scope, of_owner) = (Receiver::start(), Receiver::start(), Receiver::start());
    let app = TestApp::with(on);
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    alice.publish(&Tarball::new("earlier", "1.0.0")).await.ok();
    app.clock.advance(Duration::from_secs(1));
    hook(&bob, "package", "@acme/tool", &of_package).await;
    hook(&bob, "scope", "@acme", &of_scope).await;
    hook(&bob, "owner", "alice", &of_owner).await;
    for name in ["@acme/tool", "plain", "@acme/other"] {
        alice.publish(&Tarball::new(name, "1.0.0")).await.ok();
    }
    bob.publish(&Tarball::new("@acme/bobs", "1.0.0")).await.ok();
    app.tell_hooks().await;
    assert_eq!(told(&of_package.received()), publishes(&["@acme/tool"]));
    assert_eq!(told(&of_scope.received()), publishes(&["@acme/tool", "@acme/other", "@acme/bobs"]));
    assert_eq!(told(&of_owner.received()), publishes(&["@acme/tool", "plain", "@acme/other"]));
    let received = &of_scope.received()[0];
    let body = received.json();
    assert_eq!((&body["type"], &body["hookOwner"]["username"]), (&json!("scope"), &json!("bob")));
    assert_eq!(body["payload"]["dist-tags"]["latest"], "1.0.0");
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let hex: String = holdfast::npm::integrity::hex(hmac::sign(&key, &received.body).as_ref());
    assert_eq!(received.header("x-npm-signature"), format!("sha256={hex}"));
    let shown = &listed(&bob).await[0];
    assert_eq!((&shown["delivered"], &shown["response_code"]), (&json!(true), &json!(200)));
    assert!(shown["last_delivery"].is_string());
    // Nothing twice.
    app.tell_hooks().await;
    assert_eq!(of_scope.received().len(), 3);
    // Of a package that is gone its last owners are told too.
    let revision = alice.revision("plain").await;
    alice.delete(&format!("/plain/-rev/{revision}")).await.ok();
    app.tell_hooks().await;
    let last = of_owner.received().last().unwrap().json();
    assert_eq!((&last["event"], &last["change"]), (&json!("package:unpublish"), &json!({})));
}

#[tokio::test]
async fn a_hook_that_fails_delays_no_other_and_gets_it_later() {
    let app = TestApp::with(|settings| {
        on(settings);
        // Whoever waits for what hangs is still waiting when this test has ended.
        settings.hooks.timeout = PATIENCE * 2;
    });
    let alice = app.user("alice").await;
    let bad = [Mood::Hangs, Mood::Status(500), Mood::Redirects, Mood::Closes, Mood::Status(400)].map(|mood| {
        let receiver = Receiver::start();
        receiver.become_(mood);
        receiver
    });
    for receiver in &bad {
        hook(&alice, "package", "tool", receiver).await;
    }
    let good = Receiver::start();
    hook(&alice, "package", "tool", &good).await;
    for version in ["1.0.0", "1.0.1", "1.0.2"] {
        alice.publish(&Tarball::new("tool", version)).await.ok();
        good.wait_for(version[4..].parse::<usize>().unwrap() + 1).await;
    }
    for receiver in &bad {
        receiver.wait_for(1).await;
    }
    let shown = |version: &str| format!("package:publish tool {version}");
    assert_eq!(told(&good.received()), [shown("1.0.0"), shown("1.0.1"), shown("1.0.2")]);
    // The one that waits for its next try is told all then, in order.
    let away = &bad[1];
    let deadline = Instant::now() + PATIENCE;
    let is_noted = |hooks: &[Value]| hooks[1]["response_code"] == 500 && hooks[2]["response_code"] == 302;
    while !is_noted(&listed(&alice).await) {
        assert!(Instant::now() < deadline, "{:?}", listed(&alice).await);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let before = away.received().len();
    away.become_(Mood::Status(204));
    app.clock.advance(Duration::from_hours(2));
    alice.publish(&Tarball::new("tool", "1.0.3")).await.ok();
    let received = away.wait_for(before + 4).await;
    let versions = ["1.0.0", "1.0.1", "1.0.2", "1.0.3"].map(shown);
    assert_eq!(told(&received[before..]), versions);
    // A redirect is an answer, and where it leads nobody goes.
    assert!(bad[2].received().iter().all(|received| received.path == "/hook"));
    // What is refused for good is not tried again.
    assert_eq!(told(&bad[4].wait_for(4).await), versions);
}

#[tokio::test]
async fn a_hook_that_fails_too_often_is_off_until_it_is_pointed_somewhere() {
    let app = TestApp::with(|settings| {
        on(settings);
        settings.hooks.tries = 3;
    });
    let alice = app.user("alice").await;
    let receiver = Receiver::start();
    receiver.become_(Mood::Status(503));
    let id = hook(&alice, "package", "tool", &receiver).await;
    alice.publish(&Tarball::new("tool", "1.0.0")).await.ok();
    for _ in 0..5 {
        app.tell_hooks().await;
        app.clock.advance(Duration::from_hours(1));
    }
    let shown = listed(&alice).await.remove(0);
    assert_eq!((&shown["status"], &shown["response_code"]), (&json!("disabled"), &json!(503)));
    assert_eq!(receiver.received().len(), 3);
    receiver.become_(Mood::Status(200));
    alice.publish(&Tarball::new("tool", "1.0.1")).await.ok();
    app.tell_hooks().await;
    assert_eq!(receiver.received().len(), 3);
    let body = json!({ "endpoint": receiver.url("/again"), "secret": "another" });
    alice.put(&format!("{HOOK}/{id}"), &body).await.ok();
    assert_eq!(listed(&alice).await[0]["status"], "active");
    alice.publish(&Tarball::new("tool", "1.0.2")).await.ok();
    app.tell_hooks().await;
    let received = receiver.received();
    assert_eq!(told(&received[3..]), ["package:publish tool 1.0.2"]);
    assert_eq!(received[3].path, "/again");
}

#[tokio::test]
async fn what_could_not_be_told_is_told_after_a_restart() {
    let receiver = Receiver::start();
    let app = TestApp::with(on);
    {
        let alice = app.user("alice").await;
        hook(&alice, "package", "tool", &receiver).await;
        receiver.become_(Mood::Status(500));
        alice.publish(&Tarball::new("tool", "1.0.0")).await.ok();
        app.tell_hooks().await;
    }
    let before = receiver.wait_for(1).await.len();
    let app = app.restarted().await;
    receiver.become_(Mood::Status(200));
    app.clock.advance(Duration::from_hours(1));
    app.tell_hooks().await;
    assert_eq!(told(&receiver.received()[before..]), publishes(&["tool"]));
}

#[tokio::test]
async fn who_may_not_read_any_more_is_told_nothing() {
    let receiver = Receiver::start();
    let app = TestApp::with(on);
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    hook(&bob, "owner", "alice", &receiver).await;
    alice.publish(&Tarball::new("one", "1.0.0")).await.ok();
    app.tell_hooks().await;
    // By other rules, which count from then on and not from the next start.
    let changed = app.put_in_force(|settings| {
        settings.access.rules = vec![rule("two", &[(Action::Read, &["user:alice"])])];
    });
    alice.publish(&Tarball::new("two", "1.0.0")).await.ok();
    app.tell_hooks().await;
    drop(changed);
    // Blocked, and let in again.
    let auth = app.app.registry.auth();
    auth.set_blocked("bob", true).await.unwrap();
    alice.publish(&Tarball::new("three", "1.0.0")).await.ok();
    app.tell_hooks().await;
    auth.set_blocked("bob", false).await.unwrap();
    alice.publish(&Tarball::new("four", "1.0.0")).await.ok();
    app.tell_hooks().await;
    assert_eq!(told(&receiver.received()), publishes(&["one", "four"]));
    // Removed, and somebody else has the name.
    auth.remove_account("bob").await.unwrap();
    app.clock.advance(Duration::from_secs(1));
    let heir = app.user("bob").await;
    assert_eq!(listed(&heir).await, Vec::<Value>::new());
    alice.publish(&Tarball::new("five", "1.0.0")).await.ok();
    app.tell_hooks().await;
    assert_eq!(receiver.received().len(), 2);
    let stored = String::from_utf8(app.stored()["-/hooks/hooks.json"].clone()).unwrap();
    assert!(!stored.contains("bob"), "{stored}");
}

#[tokio::test]
async fn what_an_account_of_github_may_read_is_what_github_said_last() {
    let receiver = Receiver::start();
    let company = Company::with(|settings| {
        on(settings);
        settings.access.rules = vec![rule("@acme/*", &[(Action::Read, &["github:org/acme"])])];
    })
    .await;
    let (app, ann, olga) = (&company.app, company.person("ann").await, company.person("olga").await);
    hook(&ann, "scope", "@acme", &receiver).await;
    olga.publish(&Tarball::new("@acme/one", "1.0.0")).await.ok();
    app.tell_hooks().await;
    assert_eq!(told(&receiver.received()), publishes(&["@acme/one"]));
    // Nobody knows any more: it waits.
    app.clock.advance(Duration::from_hours(13));
    olga.publish(&Tarball::new("@acme/two", "1.0.0")).await.ok();
    app.tell_hooks().await;
    assert_eq!(receiver.received().len(), 1);
    ann.get("/-/whoami").await.ok();
    app.clock.advance(Duration::from_hours(1));
    app.tell_hooks().await;
    assert_eq!(told(&receiver.received()), publishes(&["@acme/one", "@acme/two"]));
    // Of another organisation only.
    company.github.remove_member("acme", "ann");
    company.github.add_member("other", "ann", false);
    ann.get("/-/whoami").await.ok();
    olga.publish(&Tarball::new("@acme/three", "1.0.0")).await.ok();
    app.tell_hooks().await;
    assert_eq!(receiver.received().len(), 2);
}

#[tokio::test]
async fn a_name_that_leads_into_our_network_is_not_connected_to() {
    let receiver = Receiver::start();
    let open = TestApp::with(on);
    let alice = open.user("alice").await;
    hook(&alice, "package", "tool", &receiver).await;
    alice.publish(&Tarball::new("tool", "1.0.0")).await.ok();
    open.tell_hooks().await;
    receiver.wait_for(1).await;
    // The operator has thought better of it: what was set up before is judged again.
    drop(alice);
    let mut open = open;
    open.change_settings(|settings| settings.hooks.allow_private = false);
    let closed = open.restarted().await;
    let alice = closed.user("bella").await;
    alice.publish(&Tarball::new("other", "1.0.0")).await.ok();
    let answer = closed.anybody().sign_in("alice", crate::support::app::PASSWORD).await.ok();
    let alice = closed.anybody().with_token(answer.json()["token"].as_str().unwrap());
    alice.publish(&Tarball::new("tool", "1.0.1")).await.ok();
    closed.tell_hooks().await;
    assert_eq!(receiver.received().len(), 1);
    let shown = listed(&alice).await.remove(0);
    assert_eq!(shown["response_code"], 0);
}

#[tokio::test]
async fn two_replicas_tell_each_hook_once() {
    let objects = ObjectServer::start("packages");
    let (receiver, bad) = (Receiver::start(), Receiver::start());
    bad.become_(Mood::Status(500));
    let start = || TestApp::over_bucket(&objects, on);
    let (one, other) = (start(), start());
    let alice = one.user("alice").await;
    let there = other.anybody().with_token(alice.token());
    hook(&alice, "owner", "alice", &receiver).await;
    hook(&there, "owner", "alice", &bad).await;
    for number in 0..6 {
        let caller = if number % 2 == 0 { &alice } else { &there };
        caller.publish(&Tarball::new(&format!("tool-{number}"), "1.0.0")).await.ok();
        tokio::join!(one.tell_hooks(), other.tell_hooks());
    }
    receiver.wait_for(6).await;
    one.tell_hooks().await;
    other.tell_hooks().await;
    let mut found = told(&receiver.received());
    found.sort();
    let names: Vec<String> = (0..6).map(|number| format!("tool-{number}")).collect();
    assert_eq!(found, publishes(&names.iter().map(String::as_str).collect::<Vec<_>>()));
}
