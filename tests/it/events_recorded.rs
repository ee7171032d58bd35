//! That all that happens is in the record, with who did it, and that no secret is.

use std::time::Duration;

use holdfast::auth::{TokenHash, TrustWish};
use holdfast::events::{Decision, Event, Kind, WhoKind};
use holdfast::operator::{Errand, Order, Outcome, TokenLimits, carry_out};
use holdfast::storage::{Fault as WriteFault, FaultPlan, Store};
use reqwest::Method;
use serde_json::{Value, json};

use crate::events::events_in;
use crate::support::app::{Caller, PASSWORD, TestApp, behind, refused};
use crate::support::ci::{Ci, release, trust, trusting};
use crate::support::in_process::{InProcess, Plan};
use crate::support::package::Package;
use crate::support::tarballs::Tarball;
use crate::support::upstream::{Fault, Upstream};

const TOOL: &str = "@acme/tool";

/// Of each event its kind, its version and its details.
fn told(events: &[Event]) -> Vec<(&str, Option<&str>, Value)> {
    let details = |event: &Event| Value::Object(event.details.clone());
    events.iter().map(|event| (event.kind.as_str(), event.version.as_deref(), details(event))).collect()
}

/// Lets a second pass: what is written in one instant is in no order.
fn tick(app: &TestApp) {
    app.clock.advance(Duration::from_secs(1));
}

/// The events of a package, without those of publishing it.
async fn of_package(app: &TestApp, name: &str) -> Vec<Event> {
    let mut events = app.events().await;
    events.retain(|event| event.package.as_deref() == Some(name) && event.kind != Kind::Publish);
    events
}

#[tokio::test]
async fn every_change_of_a_package_is_told_with_who_made_it() {
    let app = TestApp::new();
    let alice = app.user("alice").await;
    app.user("bob").await;
    tick(&app);
    alice.publish_versions(TOOL, &["1.0.0", "1.1.0", "1.2.0"]).await;
    let tags = "/-/package/@acme%2ftool/dist-tags";
    tick(&app);
    alice.put(&format!("{tags}/next"), &json!("1.0.0")).await.ok();
    tick(&app);
    alice.put(tags, &json!({ "beta": "1.1.0" })).await.ok();
    tick(&app);
    alice.delete(&format!("{tags}/beta")).await.ok();
    let mut document = alice.document(TOOL).await;
    for version in ["1.0.0", "1.1.0"] {
        document["versions"][version]["deprecated"] = json!("old");
    }
    tick(&app);
    alice.put("/@acme%2ftool", &document).await.ok();
    let owners = "/-/package/@acme%2ftool/owners";
    tick(&app);
    alice.put(owners, &json!({ "user": "bob" })).await.ok();
    tick(&app);
    alice.put("/-/user/v1/star", &json!({ "name": TOOL })).await.ok();
    let claims = json!({ "repository": "acme/tool", "workflow_ref": { "file": "release.yml" } });
    let body = json!([{ "type": "github", "permissions": ["createPackage"], "claims": claims }]);
    tick(&app);
    let trusted = alice.post("/-/package/@acme%2ftool/trust", &body).await.ok().json();
    let id = trusted[0]["id"].as_str().unwrap();
    tick(&app);
    alice.delete(&format!("/-/package/@acme%2ftool/trust/{id}")).await.ok();
    let mut document = alice.document(TOOL).await;
    document["versions"].as_object_mut().unwrap().remove("1.0.0");
    document["dist-tags"].as_object_mut().unwrap().remove("next");
    document.as_object_mut().unwrap().remove("maintainers");
    let revision = document["_rev"].as_str().unwrap().to_owned();
    tick(&app);
    alice.put(&format!("/@acme%2ftool/-rev/{revision}"), &document).await.ok();
    let revision = alice.revision(TOOL).await;
    tick(&app);
    alice.delete(&format!("/@acme%2ftool/-rev/{revision}")).await.ok();

    let events = of_package(&app, TOOL).await;
    let mut expected = vec![
        ("package.tag", Some("1.0.0"), json!({ "tag": "next" })),
        ("package.tag", Some("1.1.0"), json!({ "tag": "beta" })),
        ("package.untag", None, json!({ "tag": "next" })),
        ("package.untag", None, json!({ "tag": "beta" })),
        ("package.deprecate", None, json!({ "versions": ["1.0.0", "1.1.0"], "message": "old" })),
        ("package.owners", None, json!({ "owners": ["alice", "bob"], "before": ["alice"] })),
        ("package.star", None, json!({ "starred": true })),
    ];
    let (trust, rest): (Vec<_>, Vec<_>) = told(&events).into_iter().partition(|(kind, ..)| kind.starts_with("trust."));
    expected.push(("package.unpublish", None, json!({ "versions": ["1.0.0"] })));
    expected.push(("package.unpublish", None, json!({ "package": true })));
    assert_eq!(rest, expected);
    assert_eq!((trust[0].0, trust[0].2["workflow"]["repository"].as_str()), ("trust.add", Some("acme/tool")));
    assert_eq!((trust[1].0, trust[1].2["id"].as_str()), ("trust.remove", Some(id)));
    for event in events {
        assert_eq!((event.who.kind, event.who.name.as_deref()), (WhoKind::User, Some("alice")), "{event:?}");
        assert_eq!((event.decision, event.request.is_some()), (Decision::Allowed, true), "{event:?}");
    }
}

#[tokio::test]
async fn what_was_refused_is_noted_with_its_code_and_strangers_are_not() {
    let app = TestApp::new();
    let (alice, mallory) = (app.user("alice").await, app.user("mallory").await);
    alice.publish_versions(TOOL, &["1.0.0"]).await;
    refused(&alice.publish(&Tarball::new(TOOL, "1.0.0")).await, 403);
    for _ in 0..3 {
        refused(&mallory.put("/-/package/@acme%2ftool/dist-tags/next", &json!("1.0.0")).await, 403);
    }
    refused(&app.anybody().put("/-/package/@acme%2ftool/dist-tags/next", &json!("1.0.0")).await, 401);
    let noted = app.events_of(Kind::Refused).await;
    let codes: Vec<_> = noted.iter().map(|event| (event.who.name.as_deref(), event.rule.as_deref())).collect();
    assert_eq!(codes, [(Some("alice"), Some("version_exists")), (Some("mallory"), Some("not_an_owner"))]);
    assert!(noted.iter().all(|event| event.decision == Decision::Refused && event.package.as_deref() == Some(TOOL)));
    app.clock.advance(Duration::from_mins(1));
    refused(&mallory.put("/-/package/@acme%2ftool/dist-tags/next", &json!("1.0.0")).await, 403);
    assert_eq!(app.events_of(Kind::Refused).await.len(), 3);
}

/// Changes one thing of an account.
async fn set(caller: &Caller, body: Value) -> Value {
    caller.post("/-/npm/v1/user", &body).await.ok().json()
}

#[tokio::test]
async fn accounts_and_tokens_are_told_and_no_secret_is() {
    let app = TestApp::new();
    let alice = app.user("alice").await;
    tick(&app);
    let answer = app.anybody().sign_in("alice", "a wrong canary password").await;
    let body = json!({ "password": PASSWORD, "readonly": true });
    tick(&app);
    let made = alice.post("/-/npm/v1/tokens", &body).await.ok().json();
    let (token, key) = (made["token"].as_str().unwrap(), made["key"].as_str().unwrap());
    // By the token itself, which must not be told.
    tick(&app);
    alice.delete(&format!("/-/npm/v1/tokens/token/{token}")).await.ok();
    tick(&app);
    set(&alice, json!({ "email": "new@example.test" })).await;
    tick(&app);
    set(&alice, json!({ "password": { "old": PASSWORD, "new": "another canary password" } })).await;
    tick(&app);
    let secret = set(&alice, json!({ "tfa": { "password": "another canary password", "mode": "auth-only" } })).await;
    let signed_in = TokenHash::of(alice.token()).as_str().to_owned();
    tick(&app);
    alice.delete(&format!("/-/user/token/{}", alice.token())).await.ok();

    let events = app.events().await;
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    let expected = [
        "user.create",
        "sign-in",
        "sign-in.refused",
        "token.create",
        "token.revoke",
        "user.change",
        "user.change",
        "user.change",
        "token.revoke",
    ];
    assert_eq!(kinds, expected);
    assert_eq!(events[1].details["way"], "password");
    assert_eq!(events[1].who.token.as_deref(), Some(&*signed_in));
    assert_eq!(events[2].rule.as_deref(), answer.json()["code"].as_str());
    assert_eq!((events[2].who.kind, events[2].who.name.as_deref()), (WhoKind::Anonymous, Some("alice")));
    assert_eq!((&events[3].details["token"], &events[3].details["read_only"]), (&json!(key), &json!(true)));
    assert_eq!(events[4].details["token"], key);
    let changed: Vec<_> = events[5..8].iter().map(|event| event.details["what"].as_str().unwrap()).collect();
    assert_eq!(changed, ["profile", "password", "second-factor"]);
    assert_eq!(events[8].details["token"], *signed_in);

    let text = serde_json::to_string(&events).unwrap();
    let url = secret["tfa"].as_str().unwrap();
    let shared = url.split("secret=").nth(1).unwrap().split('&').next().unwrap();
    for canary in ["canary", PASSWORD, token, alice.token(), shared] {
        assert!(!text.contains(canary), "{canary} is in {text}");
    }
}

#[tokio::test]
async fn a_name_that_is_none_is_told_cut_short() {
    let app = TestApp::with(|settings| {
        settings.access.registration =
            holdfast::settings::RegistrationSetting::Set(holdfast::auth::Registration::Closed);
    });
    let name = "x".repeat(214);
    refused(&app.anybody().sign_in(&name, "canary").await, 401);
    let event = app.events_of(Kind::SignInRefused).await.remove(0);
    assert_eq!(event.who.name.unwrap().len(), 200);
    assert_eq!(event.request.unwrap().address.unwrap().to_string(), "127.0.0.1");
}

#[tokio::test]
async fn a_job_is_told_with_what_its_identity_says() {
    let ci = Ci::new().await;
    let alice = ci.app.user("alice").await;
    alice.publish_versions(TOOL, &["1.0.0"]).await;
    trust(&alice, TOOL, &trusting(&json!({}))).await.ok();
    let job = ci.job(TOOL, release(json!({}))).await;
    job.publish(&Tarball::new(TOOL, "1.1.0")).await.ok();
    // The clock stands still, so they are in no order.
    let of_job = async |kind| {
        let events = ci.app.events_of(kind).await;
        events.into_iter().find(|event| event.who.kind == WhoKind::Workflow).unwrap()
    };
    let (signed_in, published) = (of_job(Kind::SignIn).await, of_job(Kind::Publish).await);
    assert_eq!((&signed_in.details["way"], signed_in.package.as_deref()), (&json!("oidc"), Some(TOOL)));
    for event in [&signed_in, &published] {
        assert_eq!(event.who.kind, WhoKind::Workflow);
        assert_eq!(event.who.claims["repository"], "acme/tool");
    }
    ci.exchange(TOOL, "no.identity.token").await;
    let noted = ci.app.events_of(Kind::SignInRefused).await.pop().unwrap();
    assert_eq!((noted.rule.as_deref(), &noted.details["way"]), (Some("identity_invalid"), &json!("oidc")));
}

#[tokio::test]
async fn an_operators_orders_are_told_with_whoever_gave_them() {
    let app = TestApp::new();
    let give = async |order: Order| {
        tick(&app);
        let errand = Errand { by: Some("root".to_owned()), order };
        let line = serde_json::to_string(&errand).unwrap();
        assert_eq!(serde_json::from_str::<Errand>(&line).unwrap(), errand);
        let outcome = carry_out(app.desk(), errand).await;
        assert!(!matches!(outcome, Outcome::Refused { .. }), "{outcome:?}");
        outcome
    };
    let (user, password) = ("ann".to_owned(), "a canary password".to_owned());
    give(Order::AddUser { name: user.clone(), password: password.clone(), email: String::new() }).await;
    give(Order::SetPassword { name: user.clone(), password }).await;
    let made = give(Order::CreateToken { user: user.clone(), limits: TokenLimits::default() }).await;
    let Outcome::Token { token, key, .. } = made else { panic!("{made:?}") };
    give(Order::RevokeToken { user: user.clone(), key: token.clone() }).await;
    give(Order::BlockUser { name: user.clone(), blocked: true }).await;
    give(Order::ResetSecondFactor { name: user.clone() }).await;
    let invited = give(Order::Invite { name: None, days: 1 }).await;
    give(Order::ImportHtpasswd {
        text: "bob:$2y$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2\n".to_owned(),
    })
    .await;
    let wish = TrustWish {
        issuer: "github".to_owned(),
        repository: "acme/tool".to_owned(),
        workflow: Some("release.yml".to_owned()),
        actions: vec![holdfast::auth::Action::Publish],
        ..TrustWish::default()
    };
    give(Order::Trust { package: TOOL.to_owned(), wish }).await;
    give(Order::ListUsers).await;
    give(Order::RemoveUser { name: user }).await;
    let events = app.events().await;
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    let expected = [
        "user.create",
        "user.change",
        "token.create",
        "token.revoke",
        "user.change",
        "user.change",
        "user.invite",
        "user.create",
        "trust.add",
        "user.remove",
    ];
    assert_eq!(kinds, expected);
    assert!(events.iter().all(|event| event.who.kind == WhoKind::Operator));
    assert!(events.iter().all(|event| event.who.name.as_deref() == Some("root") && event.request.is_none()));
    assert_eq!((&events[2].details["token"], &events[3].details["token"]), (&json!(key), &json!(key)));
    assert_eq!(events[7].details["users"], json!(["bob"]));
    assert_eq!(events[8].package.as_deref(), Some(TOOL));
    let text = serde_json::to_string(&events).unwrap();
    let Outcome::Invitation { code } = invited else { panic!("{invited:?}") };
    for canary in ["canary", &token, &code, "$2y$"] {
        assert!(!text.contains(canary), "{canary} is in {text}");
    }
}

#[tokio::test]
async fn a_withheld_version_is_noted_once_an_hour_for_each_who_asks() {
    let package = ["1.0.0", "1.1.0"].into_iter().fold(Package::new("left"), Package::version);
    let upstream = Upstream::start([package.published("1.1.0", "2026-11-23T00:00:00.000Z")]);
    let app = TestApp::with(|settings| behind(settings, &upstream, &[]));
    let alice = app.user("alice").await;
    for caller in [&alice, &app.anybody()] {
        for path in ["/left/-/left-1.1.0.tgz", "/left/1.1.0", "/left/-/left-1.1.0.tgz"] {
            refused(&caller.get(path).await, 403);
        }
        caller.get("/left/-/left-1.0.0.tgz").await.ok();
    }
    let noted = app.events_of(Kind::Withheld).await;
    let told: Vec<_> = noted.iter().map(|event| (event.who.name.as_deref(), event.version.as_deref())).collect();
    assert_eq!(told, [(Some("alice"), Some("1.1.0")), (None, Some("1.1.0"))]);
    assert_eq!((noted[0].rule.as_deref(), noted[0].decision), (Some("hold"), Decision::Refused));
    app.clock.advance(Duration::from_hours(1));
    refused(&alice.get("/left/1.1.0").await, 403);
    assert_eq!(app.events_of(Kind::Withheld).await.len(), 3);
}

#[tokio::test]
async fn a_tarball_that_is_another_is_an_incident() {
    let upstream = Upstream::with_fixtures();
    let plan = Plan::upstream(upstream.url());
    let server = plan.start().await;
    server.get("/left").await.ok();
    upstream.set(Fault::TamperedTarballs);
    assert!(!server.get("/left/-/left-1.0.0.tgz").await.is_whole);
    server.stop().await;
    let mut events = events_in(&Store::open_reading(plan.data()).unwrap()).await;
    events.retain(|event| event.kind == Kind::Mismatch);
    let event = events.remove(0);
    assert_eq!((event.package.as_deref(), event.version.as_deref()), (Some("left"), Some("1.0.0")));
    assert_eq!((event.who.kind, &event.details["upstream"]), (WhoKind::Server, &json!("default")));
}

#[tokio::test]
async fn administrators_read_the_record_over_http_page_by_page() {
    let app = TestApp::with(|settings| settings.access.admins = vec!["user:root".parse().unwrap()]);
    let (root, alice) = (app.user("root").await, app.user("alice").await);
    let path = "/-/holdfast/v1/events";
    for number in 0..5 {
        app.clock.advance(Duration::from_mins(1));
        alice.publish(&Tarball::new(TOOL, &format!("1.{number}.0"))).await.ok();
    }
    refused(&app.anybody().get(path).await, 401);
    let body = alice.get(path).await;
    refused(&body, 403);
    assert_eq!(body.json()["code"], "administrators_only");
    let page = root.get(&format!("{path}?kind=package.publish&limit=2")).await.ok().json();
    let versions = |page: &Value| {
        let events = page["events"].as_array().unwrap();
        events.iter().map(|event| event["version"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(versions(&page), ["1.0.0", "1.1.0"]);
    let next = page["next"].as_str().unwrap();
    let page = root.get(&format!("{path}?kind=package&after={next}")).await.ok().json();
    assert_eq!(versions(&page), ["1.2.0", "1.3.0", "1.4.0"]);
    let since = app.clock.now();
    let page = root.get(&format!("{path}?since={since}&package=@acme/*&who=ALICE")).await.ok().json();
    assert_eq!(versions(&page), ["1.4.0"]);
    assert_eq!(root.get(&format!("{path}?package=other")).await.ok().json()["events"], json!([]));
    for wrong in ["since=yesterday", "kind=pack", "package=*x", "limit=many", "after=../x"] {
        refused(&root.get(&format!("{path}?{wrong}")).await, 400);
    }
}

/// What the event of a change that could not be recorded is told as.
#[tokio::test]
async fn a_change_whose_event_cannot_be_written_says_so() {
    let plan = Plan::alone();
    let server = plan.start().await;
    let alice = server.signed_in("alice").await;
    alice.publish(&Tarball::new("tool", "1.0.0"), "latest").await.ok();
    let token = alice.token().to_owned();
    drop(alice);
    server.stop().await;
    let tag = async |server: &InProcess| server.put("/-/package/tool/dist-tags/next", &json!("1.0.0")).await;
    let made = async |server: &InProcess| {
        let body = json!({ "password": PASSWORD, "readonly": true }).to_string();
        server.send(Method::POST, "/-/npm/v1/tokens", &[], body).await
    };
    for kind in [Kind::Tag, Kind::TokenCreate] {
        let mut unrecorded = 0;
        for at in 0..8 {
            let plan = plan.copied();
            let store = plan.store().await.with_faults(FaultPlan::new(WriteFault::Before, at));
            let server = plan.start_on(store).with_token(&token);
            let reply = if kind == Kind::Tag { tag(&server).await } else { made(&server).await };
            server.stop().await;
            let events = events_in(&Store::open_reading(plan.data()).unwrap()).await;
            let written = events.iter().filter(|event| event.kind == kind).count();
            if reply.status == 503 && reply.json()["code"] == "unrecorded" {
                unrecorded += 1;
                assert_eq!(written, 1, "it is written at the stop");
            } else {
                assert_eq!(written, usize::from(reply.status.is_success()), "{kind} at {at}: {}", reply.text());
            }
        }
        assert_eq!(unrecorded, 1, "{kind}");
    }
}
