//! One-time codes of an authenticator app, from enrolment to the end of them, as npm speaks of them.

use std::time::Duration;

use holdfast::auth::Action;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{Caller, PASSWORD, TestApp, path_of, refused, sign_in_document};
use crate::support::authenticator::Authenticator;
use crate::support::company::{Company, rule, trusted};
use crate::support::http::{Answer, document_of_upload};
use crate::support::object_server::ObjectServer;
use crate::support::tarballs::{self, Tarball};

const PROFILE: &str = "/-/npm/v1/user";
const STEP: Duration = Duration::from_secs(30);

#[track_caller]
fn refused_as(answer: &Answer, status: u16, code: &str) {
    refused(answer, status);
    assert_eq!(answer.json()["code"], code, "{}", answer.text());
}

/// Asks for a code, in the way that every client knows, and with no page: the app is there.
#[track_caller]
fn asks_for_code(answer: &Answer) {
    refused_as(answer, 401, "one_time_code");
    assert_eq!(answer.header("www-authenticate"), "OTP");
    let body = answer.json();
    assert!(body["error"].as_str().unwrap().contains("one-time pass"), "npm looks for these words: {body}");
    assert!(body["authUrl"].is_null() && body["doneUrl"].is_null(), "{body}");
    assert_eq!(answer.header("npm-notice"), "");
}

/// Somebody with codes on.
struct Careful {
    app: TestApp,
    /// With a token.
    caller: Caller,
    authenticator: Authenticator,
    recovery: Vec<String>,
}

impl Careful {
    /// Turns codes on for alice. The clock goes on by a step, as the first code is used up.
    async fn new(mode: &str) -> Self {
        Self::of(TestApp::new(), mode).await
    }

    async fn of(app: TestApp, mode: &str) -> Self {
        let caller = app.user("alice").await;
        let url = set(&caller, json!({ "tfa": { "password": PASSWORD, "mode": mode } })).await.ok().json();
        let authenticator = Authenticator::scan(url["tfa"].as_str().unwrap());
        let codes = set(&caller, json!({ "tfa": [authenticator.code(&app.clock, 0)] })).await.ok().json();
        let recovery = serde_json::from_value(codes["tfa"].clone()).unwrap();
        app.clock.advance(STEP);
        Self { app, caller, authenticator, recovery }
    }

    /// The code that the app shows now, which has not been used: the clock goes on to the next one.
    fn code(&self) -> String {
        self.app.clock.advance(STEP);
        self.authenticator.code(&self.app.clock, 0)
    }

    /// The caller with a fresh code.
    fn with_code(&self) -> Caller {
        self.caller.with("npm-otp", &self.code())
    }

    async fn sign_in(&self, password: &str, code: Option<&str>) -> Answer {
        sign_in(&self.app, "alice", password, code).await
    }
}

async fn set(caller: &Caller, body: Value) -> Answer {
    caller.post(PROFILE, &body).await
}

async fn sign_in(app: &TestApp, name: &str, password: &str, code: Option<&str>) -> Answer {
    let caller = code.map_or_else(|| app.anybody(), |code| app.anybody().with("npm-otp", code));
    caller.put(&format!("/-/user/org.couchdb.user:{name}"), &sign_in_document(name, password)).await
}

async fn mode_of(caller: &Caller) -> Value {
    caller.get(PROFILE).await.ok().json()["tfa"].clone()
}

#[tokio::test]
async fn codes_are_on_once_the_app_has_shown_its_first() {
    for mode in ["auth-only", "auth-and-writes"] {
        let app = TestApp::new();
        let alice = app.user("alice").await;
        let begin = json!({ "tfa": { "password": PASSWORD, "mode": mode } });
        assert_eq!(mode_of(&alice).await, Value::Null);
        refused_as(&set(&alice, json!({ "tfa": ["123456"] })).await, 400, "bad_request");
        let wrong = json!({ "tfa": { "password": "wrong", "mode": mode } });
        refused_as(&set(&alice, wrong).await, 401, "wrong_password");
        assert_eq!(mode_of(&alice).await, Value::Null);
        let first = set(&alice, begin.clone()).await.ok().json()["tfa"].as_str().unwrap().to_owned();
        assert!(first.starts_with("otpauth://totp/Holdfast:alice?secret="), "{first}");
        let pending = json!({ "mode": mode, "pending": true });
        assert_eq!(mode_of(&alice).await, pending);
        // Who gave up half-way is asked for nothing.
        assert_eq!(sign_in(&app, "alice", PASSWORD, None).await.status, 201);
        alice.publish_versions("tool", &["1.0.0"]).await;
        // Another secret each time, and the last one counts.
        let second = set(&alice, begin).await.ok().json()["tfa"].as_str().unwrap().to_owned();
        assert_ne!(first, second);
        let (first, second) = (Authenticator::scan(&first), Authenticator::scan(&second));
        for code in [
            first.code(&app.clock, 0),
            second.code(&app.clock, 2),
            second.code(&app.clock, -2),
            "12345".to_owned(),
            String::new(),
        ] {
            refused_as(&set(&alice, json!({ "tfa": [code] })).await, 400, "wrong_code");
        }
        refused(&set(&alice, json!({ "tfa": [] })).await, 400);
        assert_eq!(mode_of(&alice).await, pending);
        let codes = set(&alice, json!({ "tfa": [second.code(&app.clock, 0)] })).await.ok().json();
        let codes: Vec<String> = serde_json::from_value(codes["tfa"].clone()).unwrap();
        assert_eq!(codes.len(), 10);
        assert_eq!(mode_of(&alice).await, json!({ "mode": mode, "pending": false }));
        refused_as(&set(&alice, json!({ "tfa": [second.code(&app.clock, 1)] })).await, 400, "bad_request");
        // Recovery codes are kept as hashes.
        for (path, content) in app.files() {
            let text = String::from_utf8_lossy(&content).into_owned();
            assert!(codes.iter().all(|code| !text.contains(code) && !text.contains(&code.replace('-', ""))), "{path}");
        }
    }
}

/// A link is given without a code; the code is asked for once, where something changes.
#[tokio::test]
async fn an_upload_is_committed_with_a_code() {
    let server = ObjectServer::start("bucket");
    let careful = Careful::of(TestApp::on_bucket(&server, |_| {}), "auth-and-writes").await;
    let tarball = Tarball::new("tool", "1.0.0");
    let bytes = tarball.bytes();
    let wanted = json!({ "version": "1.0.0", "length": bytes.len() });
    let place = careful.caller.post("/-/holdfast/v1/package/tool/uploads", &wanted).await.ok().json();
    let sent = reqwest::Client::new().put(place["url"].as_str().unwrap()).body(bytes.clone()).send().await.unwrap();
    assert_eq!(sent.status(), 200);
    let commit = format!("/-/holdfast/v1/package/tool/uploads/{}/commit", place["id"].as_str().unwrap());
    let document = document_of_upload(&tarball, "latest");
    asks_for_code(&careful.caller.post(&commit, &document).await);
    refused(&careful.caller.get("/tool").await, 404);
    // The upload is still good.
    assert_eq!(careful.with_code().post(&commit, &document).await.status, 201);
}

#[tokio::test]
async fn signing_in_takes_a_code_that_is_right_now_and_was_not_used() {
    let careful = Careful::new("auth-only").await;
    let Careful { app, authenticator, .. } = &careful;
    asks_for_code(&careful.sign_in(PASSWORD, None).await);
    for code in ["000000x", "12345", "1234567", "", " "] {
        asks_for_code(&careful.sign_in(PASSWORD, Some(code)).await);
    }
    // The password comes first: a code says nothing without it, and is not used up.
    let code = careful.code();
    refused_as(&careful.sign_in("wrong", Some(&code)).await, 401, "wrong_password");
    refused_as(&careful.sign_in("wrong", None).await, 401, "wrong_password");
    careful.sign_in(PASSWORD, Some(&code)).await.ok();
    asks_for_code(&careful.sign_in(PASSWORD, Some(&code)).await);
    // Clocks may be off by a step; a code that is earlier than one that was used is used up.
    app.clock.advance(STEP * 10);
    for (steps, is_right) in
        [(-2, false), (2, false), (-1, true), (-1, false), (0, true), (1, true), (1, false), (0, false)]
    {
        let answer = careful.sign_in(PASSWORD, Some(&authenticator.code(&app.clock, steps))).await;
        if is_right { drop(answer.ok()) } else { asks_for_code(&answer) }
    }
    // As apps show it. The code of the next step is used up.
    app.clock.advance(STEP);
    let code = careful.code();
    careful.sign_in(PASSWORD, Some(&format!("{} {}", &code[..3], &code[3..]))).await.ok();
    // A token needs none.
    careful.caller.get("/-/whoami").await.ok();
}

#[tokio::test]
async fn of_two_requests_with_one_code_one_succeeds() {
    let careful = Careful::new("auth-only").await;
    let code = careful.code();
    let both = futures::join!(careful.sign_in(PASSWORD, Some(&code)), careful.sign_in(PASSWORD, Some(&code)));
    let mut statuses = [both.0.status.as_u16(), both.1.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 401]);
}

#[tokio::test]
async fn a_recovery_code_stands_for_the_app_once() {
    let careful = Careful::new("auth-and-writes").await;
    assert!(careful.recovery.iter().all(|code| code.len() == 24), "{:?}", careful.recovery);
    for (number, code) in careful.recovery.iter().enumerate() {
        let typed = match number % 3 {
            0 => code.clone(),
            1 => code.to_uppercase(),
            _ => code.replace('-', " "),
        };
        careful.sign_in(PASSWORD, Some(&typed)).await.ok();
        for spelling in [code, &typed] {
            asks_for_code(&careful.sign_in(PASSWORD, Some(spelling)).await);
        }
    }
    // For a write as well.
    let careful = Careful::new("auth-and-writes").await;
    let caller = careful.caller.with("npm-otp", &careful.recovery[3]);
    assert_eq!(caller.publish(&Tarball::new("tool", "1.0.0")).await.status, 201);
    asks_for_code(&caller.publish(&Tarball::new("tool", "1.1.0")).await);
}

#[tokio::test]
async fn a_password_in_the_header_goes_with_a_code() {
    for mode in ["auth-only", "auth-and-writes"] {
        let careful = Careful::new(mode).await;
        let basic = |password: &str| {
            let value = tarballs::base64(format!("alice:{password}").as_bytes());
            careful.app.anybody().with("authorization", &format!("Basic {value}"))
        };
        for path in ["/-/whoami", "/-/v1/search?text=x"] {
            asks_for_code(&basic(PASSWORD).get(path).await);
            asks_for_code(&basic(PASSWORD).with("npm-otp", "000000x").get(path).await);
        }
        let code = careful.code();
        refused_as(&basic("wrong").with("npm-otp", &code).get("/-/whoami").await, 401, "sign_in_first");
        let caller = basic(PASSWORD).with("npm-otp", &code);
        assert_eq!(caller.publish(&Tarball::new("tool", "1.0.0")).await.status, 201);
        asks_for_code(&caller.publish(&Tarball::new("tool", "1.1.0")).await);
    }
}

/// Every kind of change of a package, each made to a package of its own with the versions 1.0.0 and 1.1.0.
const CHANGES: [&str; 13] = [
    "publish",
    "create",
    "set a tag",
    "merge tags",
    "replace tags",
    "remove a tag",
    "deprecate",
    "unpublish a version",
    "unpublish",
    "change the list of owners",
    "add an owner",
    "remove an owner",
    "trust a workflow",
];

async fn change(caller: &Caller, app: &TestApp, name: &str, what: &str) -> Answer {
    let path = path_of(name);
    let mut document = app.anybody().document(name).await;
    let revision = document["_rev"].as_str().unwrap().to_owned();
    let tags = format!("/-/package{path}/dist-tags");
    match what {
        "publish" => caller.publish(&Tarball::new(name, "2.0.0")).await,
        "create" => caller.publish(&Tarball::new(&format!("{name}-new"), "1.0.0")).await,
        "set a tag" => caller.put(&format!("{tags}/next"), &json!("1.0.0")).await,
        "merge tags" => caller.post(&tags, &json!({ "next": "1.0.0" })).await,
        "replace tags" => caller.put(&tags, &json!({ "latest": "1.0.0" })).await,
        "remove a tag" => caller.delete(&format!("{tags}/next")).await,
        "deprecate" => {
            document["versions"]["1.0.0"]["deprecated"] = json!("old");
            caller.put(&path, &document).await
        }
        "unpublish a version" => {
            document["versions"].as_object_mut().unwrap().remove("1.0.0");
            caller.put(&format!("{path}/-rev/{revision}"), &document).await
        }
        "unpublish" => caller.delete(&format!("{path}/-rev/{revision}")).await,
        "change the list of owners" => {
            let owners = json!({ "maintainers": [{ "name": "alice", "email": "" }, { "name": "bob", "email": "" }] });
            caller.put(&format!("{path}/-rev/{revision}"), &owners).await
        }
        "add an owner" => caller.put(&format!("/-/package{path}/owners"), &json!({ "user": "bob" })).await,
        "remove an owner" => caller.delete(&format!("/-/package{path}/owners/bob")).await,
        "trust a workflow" => caller.post(&format!("/-/package{path}/trust"), &trusted("acme/tool")).await,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn changes_of_packages_take_a_code_where_the_account_wants_it() {
    for mode in ["auth-only", "auth-and-writes"] {
        let app = TestApp::new();
        let alice = app.user("alice").await;
        app.user("bob").await;
        for number in 0..CHANGES.len() {
            alice.publish_versions(&format!("tool-{number}"), &["1.0.0", "1.1.0"]).await;
        }
        let careful = Careful::of(app, mode).await;
        let web = careful.caller.with("npm-auth-type", "web");
        for (number, what) in CHANGES.into_iter().enumerate() {
            let name = format!("tool-{number}");
            if mode == "auth-and-writes" {
                let before = careful.app.stored();
                asks_for_code(&change(&web, &careful.app, &name, what).await);
                asks_for_code(&change(&web.with("npm-otp", "000000x"), &careful.app, &name, what).await);
                assert_eq!(careful.app.stored(), before, "{what}");
                let with_code = careful.with_code();
                let answer = change(&with_code, &careful.app, &name, what).await;
                assert!(answer.status.is_success(), "{what}: {}", answer.text());
                // It is used up.
                let next = careful.caller.with("npm-otp", &careful.authenticator.code(&careful.app.clock, 0));
                asks_for_code(&change(&next, &careful.app, "tool-2", "set a tag").await);
            } else {
                let answer = change(&web, &careful.app, &name, what).await;
                assert!(answer.status.is_success(), "{what}: {}", answer.text());
            }
        }
        // Stars are nobody's business, and neither are reads.
        let star = json!({ "package": "tool-0" });
        careful.caller.put("/-/user/v1/star", &star).await.ok();
        careful.caller.send_json(Method::DELETE, "/-/user/v1/star", &star).await.ok();
        let document = careful.caller.document("tool-0").await;
        let starred = json!({ "_id": "tool-0", "_rev": document["_rev"], "users": { "alice": true } });
        careful.caller.put("/tool-0", &starred).await.ok();
        careful.caller.get("/tool-0").await.ok();
    }
}

#[tokio::test]
async fn who_may_not_change_a_package_is_told_so_and_not_asked_for_a_code() {
    let careful = Careful::new("auth-and-writes").await;
    careful.app.user("bob").await.publish_versions("tool", &["1.0.0", "1.1.0"]).await;
    for what in CHANGES.into_iter().filter(|what| *what != "create") {
        let answer = change(&careful.with_code(), &careful.app, "tool", what).await;
        refused_as(&answer, 403, "not_an_owner");
    }
    // And the codes were not used up for nothing.
    let code = careful.authenticator.code(&careful.app.clock, 0);
    assert_eq!(careful.caller.with("npm-otp", &code).publish(&Tarball::new("own", "1.0.0")).await.status, 201);
}

#[tokio::test]
async fn a_token_that_bypasses_codes_does_where_the_package_has_no_say() {
    let app = TestApp::with(|settings| {
        let mut strict = rule("@acme/*", &[(Action::Publish, &["account"])]);
        strict.confirm = true;
        settings.access.rules = vec![strict];
    });
    let careful = Careful::of(app, "auth-and-writes").await;
    let wanted = json!({ "password": PASSWORD, "name": "ci", "bypass_2fa": true, "packages_and_scopes_permission": "read-write" });
    let create = async |caller: &Caller| caller.post("/-/npm/v1/tokens", &wanted).await;
    asks_for_code(&create(&careful.caller).await);
    let answer = create(&careful.with_code()).await.ok().json();
    let bypass = careful.app.anybody().with_token(answer["token"].as_str().unwrap());
    assert_eq!(bypass.publish(&Tarball::new("tool", "1.0.0")).await.status, 201);
    asks_for_code(&careful.caller.publish(&Tarball::new("tool", "1.1.0")).await);
    // The package wants a person's word.
    let answer = bypass.with("npm-auth-type", "web").publish(&Tarball::new("@acme/tool", "1.0.0")).await;
    refused_as(&answer, 401, "one_time_code");
    assert!(answer.json()["authUrl"].is_string());
    let confirmed = bypass.with("npm-otp", &careful.code());
    assert_eq!(confirmed.publish(&Tarball::new("@acme/tool", "1.0.0")).await.status, 201);
    asks_for_code(&careful.caller.publish(&Tarball::new("@acme/tool", "1.1.0")).await);
    assert_eq!(careful.with_code().publish(&Tarball::new("@acme/tool", "1.1.0")).await.status, 201);
}

#[tokio::test]
async fn the_mode_is_changed_and_codes_are_ended_with_password_and_code() {
    let careful = Careful::new("auth-only").await;
    let Careful { app, caller, .. } = &careful;
    let tfa = |password: &str, mode: &str| json!({ "tfa": { "password": password, "mode": mode } });
    caller.publish_versions("tool", &["1.0.0"]).await;
    for mode in ["auth-and-writes", "disable"] {
        asks_for_code(&set(caller, tfa(PASSWORD, mode)).await);
        refused_as(&set(&careful.with_code(), tfa("wrong", mode)).await, 401, "wrong_password");
        assert_eq!(mode_of(caller).await, json!({ "mode": "auth-only", "pending": false }));
    }
    let changed = set(&careful.with_code(), tfa(PASSWORD, "auth-and-writes")).await.ok().json();
    assert_eq!(changed, json!({ "tfa": { "mode": "auth-and-writes", "pending": false } }));
    // At once, for tokens that were there.
    asks_for_code(&caller.publish(&Tarball::new("tool", "1.1.0")).await);
    // The app and its recovery codes stay the same.
    careful.sign_in(PASSWORD, Some(&careful.recovery[0])).await.ok();
    let ended = set(&careful.with_code(), tfa(PASSWORD, "disable")).await.ok().json();
    assert_eq!(ended, json!({ "tfa": false }));
    assert_eq!(mode_of(caller).await, Value::Null);
    caller.publish_versions("tool", &["1.1.0"]).await;
    careful.sign_in(PASSWORD, None).await.ok();
    // Begun and not finished, it ends with the password alone.
    set(caller, tfa(PASSWORD, "auth-only")).await.ok();
    set(caller, tfa(PASSWORD, "disable")).await.ok();
    assert_eq!(mode_of(caller).await, Value::Null);
    assert!(app.files().values().all(|content| !String::from_utf8_lossy(content).contains("recovery")));
}

#[tokio::test]
async fn an_operator_ends_the_codes_of_who_lost_them() {
    let careful = Careful::new("auth-and-writes").await;
    asks_for_code(&careful.sign_in(PASSWORD, None).await);
    careful.app.app.registry.auth().reset_second_factor("ALICE").await.unwrap();
    careful.sign_in(PASSWORD, None).await.ok();
    careful.caller.publish_versions("tool", &["1.0.0"]).await;
}

#[tokio::test]
async fn a_password_is_changed_with_the_old_one_and_a_code() {
    let app = TestApp::new();
    let alice = app.user("alice").await;
    let wish = |old: &str, new: &str| json!({ "password": { "old": old, "new": new } });
    refused_as(&set(&alice, wish("wrong", "another pass phrase")).await, 401, "wrong_password");
    for new in [String::new(), "x".repeat(1025)] {
        refused_as(&set(&alice, wish(PASSWORD, &new)).await, 400, "bad_request");
    }
    sign_in(&app, "alice", PASSWORD, None).await.ok();
    let profile = set(&alice, wish(PASSWORD, "another pass phrase")).await.ok().json();
    assert_eq!(profile["name"], "alice");
    refused_as(&sign_in(&app, "alice", PASSWORD, None).await, 401, "wrong_password");
    sign_in(&app, "alice", "another pass phrase", None).await.ok();
    set(&alice, wish("another pass phrase", PASSWORD)).await.ok();

    let careful = Careful::of(app, "auth-only").await;
    asks_for_code(&set(&careful.caller, wish(PASSWORD, "new")).await);
    refused_as(&set(&careful.with_code(), wish("wrong", "new")).await, 401, "wrong_password");
    careful.sign_in(PASSWORD, Some(&careful.code())).await.ok();
    set(&careful.with_code(), wish(PASSWORD, "new")).await.ok();
    refused_as(&careful.sign_in(PASSWORD, Some(&careful.code())).await, 401, "wrong_password");
    careful.sign_in("new", Some(&careful.code())).await.ok();
}

#[tokio::test]
async fn who_guesses_codes_has_to_wait_and_the_password_does_not() {
    let careful = Careful::new("auth-and-writes").await;
    careful.app.user("bob").await;
    careful.with_code().publish(&Tarball::new("tool", "1.0.0")).await.ok();
    let guess = |code: &str| {
        let caller = careful.caller.with("npm-otp", code);
        async move { caller.put("/-/package/tool/dist-tags/next", &json!("1.0.0")).await }
    };
    for _ in 0..10 {
        asks_for_code(&guess("000000x").await);
    }
    // Also the right one, and when signing in.
    let answer = guess(&careful.authenticator.code(&careful.app.clock, 1)).await;
    refused_as(&answer, 429, "locked");
    assert_eq!(answer.header("retry-after"), "30");
    refused_as(
        &careful.sign_in(PASSWORD, Some(&careful.authenticator.code(&careful.app.clock, 1))).await,
        429,
        "locked",
    );
    // A thief of the token has not locked the password, nor anybody else.
    refused_as(&careful.sign_in("wrong", None).await, 401, "wrong_password");
    asks_for_code(&careful.sign_in(PASSWORD, None).await);
    sign_in(&careful.app, "bob", PASSWORD, None).await.ok();
    careful.caller.get("/-/whoami").await.ok();
    careful.app.clock.advance(Duration::from_secs(30));
    assert_eq!(guess(&careful.authenticator.code(&careful.app.clock, 0)).await.status, 201);
    // What was counted is forgotten.
    for _ in 0..9 {
        asks_for_code(&guess("000000x").await);
    }
    careful.sign_in(PASSWORD, Some(&careful.code())).await.ok();
}

#[tokio::test]
async fn who_guesses_the_first_code_has_to_wait_as_well() {
    let app = TestApp::new();
    let alice = app.user("alice").await;
    let url = set(&alice, json!({ "tfa": { "password": PASSWORD, "mode": "auth-only" } })).await.ok().json();
    let authenticator = Authenticator::scan(url["tfa"].as_str().unwrap());
    for _ in 0..10 {
        refused_as(&set(&alice, json!({ "tfa": ["000000x"] })).await, 400, "wrong_code");
    }
    let answer = set(&alice, json!({ "tfa": [authenticator.code(&app.clock, 0)] })).await;
    refused_as(&answer, 429, "locked");
    assert_eq!(answer.header("retry-after"), "30");
    assert_eq!(mode_of(&alice).await["pending"], true);
}

#[tokio::test]
async fn an_account_of_githubs_is_told_that_all_this_is_there() {
    let company = Company::with(|_| {}).await;
    let ann = company.person("ann").await;
    for body in [
        json!({ "tfa": { "password": "x", "mode": "auth-only" } }),
        json!({ "tfa": { "password": "x", "mode": "disable" } }),
        json!({ "password": { "old": "x", "new": "y" } }),
    ] {
        let answer = set(&ann, body).await;
        refused_as(&answer, 403, "no_password_here");
        assert!(answer.json()["error"].as_str().unwrap().contains("GitHub"));
    }
    refused_as(&set(&ann, json!({ "tfa": ["123456"] })).await, 400, "bad_request");
    let profile = ann.get(PROFILE).await.ok().json();
    assert_eq!((&profile["github"], &profile["tfa"]), (&json!("ann"), &Value::Null));
    // What is not GitHub's can be changed.
    set(&ann, json!({ "fullname": "Ann" })).await.ok();
}
