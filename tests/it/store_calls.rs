//! What each request asks of the store: a bucket is paid, and waited for, by the request.
//!
//! The numbers are in `docs/storage-calls.md`, which is made here, so that one more request to the store fails a test until
//! somebody has said that it is worth it. What may never become more is asserted besides.

use std::fmt::Write as _;

use axum::body::Body;
use holdfast::registry::Redirect;
use reqwest::Method;
use serde_json::{Value, json};

use crate::docs::{check, made_from};
use crate::support::app::{Caller, PASSWORD, TestApp, behind};
use crate::support::http::Answer;
use crate::support::object_server::{Call, ObjectServer, Operation};
use crate::support::tarballs::Tarball;
use crate::support::upstream::Upstream;

const PATH: &str = "/@acme%2ftool";
const FILE: &str = "/@acme/tool/-/tool-1.0.0.tgz";

/// What was asked of the store for each request, in the order of the page.
struct Ledger {
    server: ObjectServer,
    rows: Vec<(&'static str, Vec<Asked>)>,
}

/// A kind of request to the store and a kind of object.
type Asked = (Operation, String);

impl Ledger {
    /// Counts what one request needs, with what it leaves to be done behind it.
    async fn note(&mut self, what: &'static str, app: &TestApp, request: impl Future<Output = Answer>) -> Answer {
        quiet(app).await;
        self.server.take_calls();
        // On the heap: a chain of many requests has them all in its frame.
        let answer = Box::pin(request).await;
        assert!(!answer.status.is_client_error() && !answer.status.is_server_error(), "{what}: {}", answer.text());
        quiet(app).await;
        let asked = self.server.take_calls().iter().filter(|call| !is_upkeep(call)).map(asked).collect();
        self.rows.push((what, asked));
        answer
    }

    /// What one request asked for.
    fn of(&self, what: &str) -> &[Asked] {
        let row = self.rows.iter().find(|(row, _)| *row == what);
        &row.unwrap_or_else(|| panic!("there is no row {what}")).1
    }

    #[track_caller]
    fn expect(&self, what: &str, expected: &[(Operation, &str)]) {
        let asked: Vec<(Operation, &str)> =
            self.of(what).iter().map(|(operation, kind)| (*operation, &**kind)).collect();
        assert_eq!(asked, expected, "{what}");
    }
}

/// Waits until nothing is under way.
async fn quiet(app: &TestApp) {
    app.app.settled().await;
    app.settle().await;
}

/// What a process looks at by itself, whenever that is.
fn is_upkeep(call: &Call) -> bool {
    ["registry/-/advisories/", "registry/-/policy/", "registry/-/downloads/"]
        .iter()
        .any(|folder| call.key.starts_with(folder))
}

fn asked(call: &Call) -> Asked {
    let key = call.key.trim_start_matches("registry/");
    if call.operation == Operation::BulkDelete {
        return (call.operation, "of it".to_owned());
    }
    let kind = match key.strip_prefix("-/").and_then(|ours| ours.split('/').next()) {
        None if key.is_empty() => "keys".to_owned(),
        None => "packument".to_owned(),
        Some("tarballs") => "tarball".to_owned(),
        Some("cache") => match key.rsplit('/').next().unwrap() {
            document if document.rsplit_once('.').is_some_and(|(_, kind)| kind == "json") => {
                format!("cached {document}")
            }
            _ => "cached tarball".to_owned(),
        },
        Some(folder) => format!("`-/{folder}`"),
    };
    (call.operation, kind)
}

fn name_of(operation: Operation) -> &'static str {
    match operation {
        Operation::Get => "GET",
        Operation::ConditionalGet => "conditional GET",
        Operation::Head => "HEAD",
        Operation::Put => "PUT",
        Operation::ConditionalPut => "conditional PUT",
        Operation::Delete | Operation::BulkDelete => "DELETE",
        Operation::List => "LIST",
        _ => "another",
    }
}

const PAGE: &str = "# What a request asks of the store

Where the store is a bucket, each request to it takes its time and costs its price. This is what each request to the registry needs, counted by a
test with a store of its own, one process, and nothing else going on. *Cold* is a process that has just started, *warm* one that has seen the
package before. A token that is known is not looked up again for a minute. On a directory the numbers are the same or lower, and all of them are
files of this machine.

- A *conditional GET* moves no bytes when nothing changed.
- A *conditional PUT* is the commit of a change, or creates what must not be there yet.
- Several requests for one thing at one time share one request to the store.
- `GET -/store` is whether the bucket keeps the conditions of writes, once for each process, before its first write.
- What a process looks at by itself, whatever is asked of it, is not in here: the keys of all packages once a minute, for search, and now and then
  the advisories and waivers that are stored; and once a minute, where tarballs were downloaded, their counts are written.
- `PUT -/events` is the record of the change ([events.md](events.md)). Changes at one time share it.

| request | asks of the store |
| --- | --- |
";

fn page(ledger: &Ledger) -> String {
    let mut page = made_from("what tests/it/store_calls.rs counts");
    page.push_str(PAGE);
    for (what, asked) in &ledger.rows {
        let parts: Vec<String> =
            asked.iter().map(|(operation, kind)| format!("{} {kind}", name_of(*operation))).collect();
        let text = if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") };
        writeln!(page, "| {what} | {text} |").unwrap();
    }
    page
}

/// A process that knows nothing yet, once it is done with what a start begins.
async fn started(ledger: &Ledger, change: impl FnOnce(&mut holdfast::settings::Settings)) -> TestApp {
    let app = TestApp::over_bucket(&ledger.server, change);
    app.anybody().get("/-/ready").await.ok();
    app.anybody().get("/-/v1/search?text=nothing").await.ok();
    quiet(&app).await;
    app
}

async fn reads(ledger: &mut Ledger, warm: &TestApp, alice: &Caller) {
    let cold = started(ledger, |_| {}).await;
    let anybody = cold.anybody();
    ledger.note("packument, cold", &cold, anybody.get_abbreviated(PATH)).await;
    let known = ledger.note("packument, warm", &cold, anybody.get_abbreviated(PATH)).await;
    let validator = [("if-none-match", known.header("etag"))];
    ledger.note("packument, warm, answered 304", &cold, anybody.get_with(PATH, &validator)).await;
    ledger.note("packument, full, warm", &cold, anybody.get(PATH)).await;
    alice.publish(&Tarball::new("@acme/tool", "1.1.0")).await.ok();
    quiet(warm).await;
    ledger.note("packument, changed by another process", &cold, anybody.get(PATH)).await;
    ledger.note("manifest of a version, warm", &cold, anybody.get("/@acme%2ftool/1.0.0")).await;
    ledger.note("tarball, warm", &cold, anybody.get(FILE)).await;
    ledger.note("dist-tags, warm", &cold, anybody.get("/-/package/@acme%2ftool/dist-tags")).await;
    let stranger = started(ledger, |_| {}).await;
    ledger.note("tarball, cold", &stranger, stranger.anybody().get(FILE)).await;

    let redirecting = started(ledger, |settings| settings.redirect = Some(Redirect::Always)).await;
    ledger.note("tarball, redirected, cold", &redirecting, redirecting.anybody().get(FILE)).await;
    let answer = ledger.note("tarball, redirected, warm", &redirecting, redirecting.anybody().get(FILE)).await;
    assert!(answer.status.is_redirection(), "{}", answer.status);

    let token = cold.anybody().with_token(alice.token());
    ledger.note("whoami, token not known yet", &cold, token.get("/-/whoami")).await;
    ledger.note("whoami, token known", &cold, token.get("/-/whoami")).await;
    ledger.note("search", &cold, anybody.get("/-/v1/search?text=tool")).await;
    ledger.note("is it ready", &cold, anybody.get("/-/ready")).await;
    ledger.note("ping", &cold, anybody.get("/-/ping")).await;
}

async fn changes(ledger: &mut Ledger, app: &TestApp, alice: &Caller) {
    let tags = "/-/package/@acme%2ftool/dist-tags";
    ledger.note("dist-tag add", app, alice.put(&format!("{tags}/next"), &json!("1.0.0"))).await;
    ledger.note("dist-tag rm", app, alice.delete(&format!("{tags}/next"))).await;
    let mut document = alice.document("@acme/tool").await;
    document["versions"]["1.0.0"]["deprecated"] = json!("old");
    ledger.note("deprecate", app, alice.put(PATH, &document)).await;
    let mut document = alice.document("@acme/tool").await;
    let revision = document["_rev"].as_str().unwrap().to_owned();
    let owners = json!({ "_id": "@acme/tool", "_rev": revision, "maintainers": [person("alice"), person("bob")] });
    ledger.note("owner add", app, alice.put(&format!("{PATH}/-rev/{revision}"), &owners)).await;
    document["_rev"] = alice.revision("@acme/tool").await.into();
    document["versions"].as_object_mut().unwrap().remove("1.1.0");
    document["dist-tags"] = json!({ "latest": "1.0.0" });
    document.as_object_mut().unwrap().remove("maintainers");
    let path = format!("{PATH}/-rev/{}", document["_rev"].as_str().unwrap());
    ledger.note("unpublish of a version, its first step", app, alice.put(&path, &document)).await;
    let path = format!("/@acme/tool/-/tool-1.1.0.tgz/-rev/{}", alice.revision("@acme/tool").await);
    ledger.note("unpublish of a version, its last step", app, alice.delete(&path)).await;
    let path = format!("{PATH}/-rev/{}", alice.revision("@acme/tool").await);
    ledger.note("unpublish of a package with three versions", app, alice.delete(&path)).await;
}

async fn accounts(ledger: &mut Ledger, app: &TestApp, alice: &Caller) {
    let body = json!({ "password": PASSWORD, "readonly": true });
    let made = ledger.note("token create", app, alice.post("/-/npm/v1/tokens", &body)).await.json();
    let path = format!("/-/npm/v1/tokens/token/{}", made["key"].as_str().unwrap());
    ledger.note("token list", app, alice.get("/-/npm/v1/tokens")).await;
    ledger.note("token revoke", app, alice.delete(&path)).await;
    let path = format!("/-/user/token/{}", alice.token());
    ledger.note("sign-out", app, alice.delete(&path)).await;
    ledger.note("sign-in with a password", app, app.anybody().sign_in("alice", PASSWORD)).await;
}

async fn proxied(ledger: &mut Ledger) {
    let upstream = Upstream::with_fixtures();
    let app = started(ledger, |settings| behind(settings, &upstream, &[])).await;
    let anybody = app.anybody();
    let tarball = "/left/-/left-1.2.0.tgz";
    ledger.note("packument of an upstream, kept nowhere", &app, anybody.get_abbreviated("/left")).await;
    ledger.note("packument of an upstream, warm", &app, anybody.get_abbreviated("/left")).await;
    ledger.note("tarball of an upstream, kept nowhere", &app, anybody.get(tarball)).await;
    ledger.note("tarball of an upstream, warm", &app, anybody.get(tarball)).await;
    let cold = started(ledger, |settings| behind(settings, &upstream, &[])).await;
    ledger.note("packument of an upstream, kept, cold", &cold, cold.anybody().get_abbreviated("/left")).await;
    ledger.note("tarball of an upstream, kept, cold", &cold, cold.anybody().get(tarball)).await;
    let redirecting = started(ledger, |settings| {
        behind(settings, &upstream, &[]);
        settings.redirect = Some(Redirect::Always);
    })
    .await;
    let anybody = redirecting.anybody();
    anybody.get_abbreviated("/left").await.ok();
    ledger.note("tarball of an upstream, redirected, first", &redirecting, anybody.get(tarball)).await;
    ledger.note("tarball of an upstream, redirected, again", &redirecting, anybody.get(tarball)).await;
}

fn person(name: &str) -> Value {
    json!({ "name": name, "email": format!("{name}@example.test") })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_request_asks_the_store_for_what_the_page_says() {
    use Operation::{ConditionalGet, ConditionalPut, Get};
    let mut ledger = Ledger { server: ObjectServer::start("bucket"), rows: Vec::new() };
    let app = started(&ledger, |_| {}).await;
    app.user("bob").await;
    let account = ledger.note("sign-in that makes an account", &app, app.anybody().sign_in("alice", PASSWORD)).await;
    let alice = app.anybody().with_token(account.json()["token"].as_str().unwrap());
    alice.publish(&Tarball::new("first", "1.0.0")).await.ok();
    ledger.note("publish of a new package", &app, alice.publish(&Tarball::new("@acme/tool", "1.0.0"))).await;
    ledger.note("publish of a further version", &app, alice.publish(&Tarball::new("@acme/tool", "1.0.1"))).await;
    let cold = started(&ledger, |_| {}).await;
    let known = cold.anybody().with_token(alice.token());
    known.send(Method::GET, "/-/whoami", &[], Body::empty()).await.ok();
    ledger.note("publish of a further version, cold", &cold, known.publish(&Tarball::new("@acme/tool", "1.0.2"))).await;
    Box::pin(reads(&mut ledger, &app, &alice)).await;
    Box::pin(changes(&mut ledger, &app, &alice)).await;
    Box::pin(accounts(&mut ledger, &app, &alice)).await;
    Box::pin(proxied(&mut ledger)).await;

    let text = page(&ledger);
    println!("{text}");
    // The contract: at most this, whatever else is added.
    for warm in ["packument, warm", "packument, warm, answered 304", "packument, full, warm"] {
        ledger.expect(warm, &[(ConditionalGet, "packument")]);
    }
    ledger.expect("packument, cold", &[(Get, "packument")]);
    ledger.expect("tarball, warm", &[(Get, "tarball")]);
    ledger.expect("tarball, redirected, warm", &[]);
    ledger.expect("whoami, token known", &[]);
    let event = (ConditionalPut, "`-/events`");
    let publish = [(ConditionalGet, "packument"), (ConditionalPut, "tarball"), (ConditionalPut, "packument"), event];
    ledger.expect("publish of a further version", &publish);
    let publish = [(Get, "packument"), (ConditionalPut, "tarball"), (ConditionalPut, "packument"), event];
    ledger.expect("publish of a new package", &publish);
    // Whether somebody has published the name here since.
    ledger.expect("packument of an upstream, warm", &[(Get, "packument")]);
    ledger.expect("tarball of an upstream, warm", &[(Get, "cached tarball")]);
    check("storage-calls.md", &text);
}
