//! Telling other places what happens: what they get, and that they get it whatever they do.

use std::time::Duration;

use aws_lc_rs::hmac;
use holdfast::events::Kind;
use holdfast::operator::{Errand, Order, Outcome, carry_out};
use holdfast::secret::Secret;
use holdfast::settings::Settings;
use holdfast::sinks::{IndexFormat, SinkKind, SinkSettings, Status, Wants};
use serde_json::Value;

use crate::support::app::TestApp;
use crate::support::object_server::ObjectServer;
use crate::support::real_servers::{Kind as RealKind, RealServer};
use crate::support::receiver::{Mood, Received, Receiver};
use crate::support::server;
use crate::support::tarballs::Tarball;

const SECRET: &str = "a secret of the test's own";

fn sink(name: &str, kind: SinkKind) -> SinkSettings {
    SinkSettings { name: name.to_owned(), kind, wants: Wants::default(), timeout: Duration::from_secs(5), tries: 3 }
}

fn webhook(receiver: &Receiver, batch: usize) -> SinkKind {
    SinkKind::Webhook { url: receiver.url("/hook").parse().unwrap(), secret: Secret::new(SECRET), batch }
}

fn told(settings: &mut Settings, kind: SinkKind) {
    settings.sinks = vec![sink("other", kind)];
}

/// The order to try the dead letters of a sink once more.
fn retry(name: &str) -> Errand {
    Errand { by: Some("ann".to_owned()), order: Order::RetrySink { name: name.to_owned() } }
}

/// The packages of the events of a webhook, in the order in which they came.
fn packages(received: &[Received]) -> Vec<String> {
    let events = received.iter().flat_map(|received| received.json()["events"].as_array().unwrap().clone());
    events.map(|event| event["package"].as_str().unwrap().to_owned()).collect()
}

/// Checks a signature as a receiver does, with another implementation's words: over the time, a dot and the body.
fn is_signed(received: &Received) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let text = [received.header("x-holdfast-timestamp").as_bytes(), b".", &received.body].concat();
    let hex: String = holdfast::npm::integrity::hex(hmac::sign(&key, &text).as_ref());
    received.header("x-holdfast-signature") == format!("sha256={hex}")
}

impl TestApp {
    /// Delivers until nothing is left, or something is in the way.
    async fn tell(&self) {
        self.app.sinks.deliver_within(crate::support::PATIENCE).await;
    }

    async fn sink_status(&self) -> Status {
        self.app.sinks.status().await.unwrap().remove(0)
    }
}

#[tokio::test]
async fn a_webhook_gets_what_it_wants_signed_and_in_order() {
    let receiver = Receiver::start();
    let app = TestApp::with(|settings| {
        told(settings, webhook(&receiver, 2));
        settings.sinks[0].wants.packages = vec!["@acme/*".parse().unwrap()];
    });
    let alice = app.user("alice").await;
    for name in ["@acme/one", "other", "@acme/two", "@acme/three"] {
        alice.publish(&Tarball::new(name, "1.0.0")).await.ok();
    }
    app.tell().await;
    let received = receiver.received();
    assert_eq!(packages(&received), ["@acme/one", "@acme/two", "@acme/three"]);
    assert!(
        received.iter().all(|received| is_signed(received) && received.json()["events"].as_array().unwrap().len() <= 2)
    );
    let first = received[0].json();
    assert_eq!(first["id"], received[0].header("x-holdfast-delivery"));
    assert_eq!(first["events"][0]["kind"], "package.publish");
    assert_eq!(first["events"][0]["details"]["tag"], "latest");
    let status = app.sink_status().await;
    assert_eq!((status.delivered, status.waiting_since, status.last_error), (3, None, None));
    app.tell().await;
    assert_eq!(receiver.received().len(), received.len());
}

#[tokio::test]
async fn what_does_not_arrive_is_told_later_and_delays_nobody() {
    let receiver = Receiver::start();
    let app = TestApp::with(|settings| {
        told(settings, webhook(&receiver, 50));
        settings.sinks[0].timeout = Duration::from_millis(300);
        settings.sinks[0].tries = 100;
    });
    let alice = app.user("alice").await;
    let mut number = 0;
    for mood in [Mood::Status(500), Mood::Status(404), Mood::Hangs, Mood::Closes, Mood::Redirects] {
        receiver.become_(mood);
        let before = receiver.received().len();
        number += 1;
        alice.publish(&Tarball::new(&format!("tool-{number}"), "1.0.0")).await.ok();
        app.tell().await;
        let status = app.sink_status().await;
        assert!(
            status.failures > 0 && status.last_error.is_some() && status.waiting_since.is_some(),
            "{mood:?} {status:?}"
        );
        assert!(app.app.sinks.lags()[0].1 < Duration::from_hours(1));
        // Not again before its time, whatever happens meanwhile.
        let sent = receiver.received().len();
        assert!(sent > before);
        app.tell().await;
        assert_eq!(receiver.received().len(), sent, "{mood:?}");
        if mood == Mood::Redirects {
            assert!(status.last_error.unwrap().contains("redirects"));
            assert!(receiver.received().iter().all(|received| received.path == "/hook"));
        }
        receiver.become_(Mood::Status(200));
        app.clock.advance(Duration::from_hours(2));
        app.tell().await;
        let status = app.sink_status().await;
        assert_eq!((status.failures, status.last_error, status.delivered), (0, None, number), "{mood:?}");
    }
    // A body without an end does not hold up what arrived.
    receiver.become_(Mood::Drips);
    alice.publish(&Tarball::new("last", "1.0.0")).await.ok();
    app.tell().await;
    assert_eq!(app.sink_status().await.delivered, number + 1);
}

#[tokio::test]
async fn what_is_refused_for_good_is_put_aside_and_can_be_had_once_more() {
    let receiver = Receiver::start();
    let app = TestApp::with(|settings| told(settings, webhook(&receiver, 1)));
    let alice = app.user("alice").await;
    receiver.become_(Mood::Status(410));
    alice.publish(&Tarball::new("one", "1.0.0")).await.ok();
    app.tell().await;
    let status = app.sink_status().await;
    assert_eq!((status.dead_letters, status.waiting_since), (1, None));
    // Three failures in a row are enough here.
    receiver.become_(Mood::Status(500));
    alice.publish(&Tarball::new("two", "1.0.0")).await.ok();
    for _ in 0..3 {
        app.tell().await;
        app.clock.advance(Duration::from_hours(1));
    }
    app.tell().await;
    assert_eq!(app.sink_status().await.dead_letters, 2);
    // Asked for while it is still bad, they stay.
    assert_eq!(carry_out(app.desk(), retry("other")).await, Outcome::Done);
    app.tell().await;
    let status = app.sink_status().await;
    assert_eq!((status.dead_letters, status.is_retrying), (2, false));
    receiver.become_(Mood::Status(200));
    let before = receiver.received().len();
    assert_eq!(carry_out(app.desk(), retry("other")).await, Outcome::Done);
    app.tell().await;
    assert_eq!(packages(&receiver.received()[before..]), ["one", "two"]);
    let Outcome::Sinks { sinks } = carry_out(app.desk(), Errand { by: None, order: Order::ListSinks }).await else {
        panic!()
    };
    assert_eq!((sinks[0].dead_letters, sinks[0].last_error.as_deref(), sinks[0].is_retrying), (0, None, false));
    let unknown = carry_out(app.desk(), retry("unknown")).await;
    assert!(matches!(unknown, Outcome::Refused { .. }), "{unknown:?}");
}

#[tokio::test]
async fn a_change_is_told_after_a_kill_without_one_that_was_told() {
    let receiver = Receiver::start();
    let settings = server::Settings::alone()
        .env("HOLDFAST__SINKS__OTHER__KIND", "webhook")
        .env("HOLDFAST__SINKS__OTHER__URL", &receiver.url("/hook"))
        .env("HOLDFAST__SINKS__OTHER__SECRET", SECRET);
    let mut server = settings.start().await;
    let token = server.http().create_user("alice", "correct horse battery").await;
    server.http().with_token(&token).publish(&Tarball::new("first", "1.0.0")).await.ok();
    receiver.wait_for(1).await;
    receiver.become_(Mood::Hangs);
    server.http().with_token(&token).publish(&Tarball::new("second", "1.0.0")).await.ok();
    receiver.wait_for(2).await;
    server.kill();
    receiver.become_(Mood::Status(200));
    // The killed process had the turn, which ends by itself on a shared store; in a directory the next one follows at once.
    let _server = server.restart().await;
    let received = receiver.wait_for(3).await;
    assert_eq!(packages(&received), ["first", "second", "second"]);
    assert_eq!(received[1].json()["events"][0]["id"], received[2].json()["events"][0]["id"]);
}

#[tokio::test]
async fn two_replicas_tell_everything_and_take_turns() {
    let objects = ObjectServer::start("packages");
    let receiver = Receiver::start();
    let start = || TestApp::over_bucket(&objects, |settings| told(settings, webhook(&receiver, 5)));
    let (one, other) = (start(), start());
    one.tell().await;
    let alice = one.user("alice").await;
    let there = other.anybody().with_token(alice.token());
    for number in 0..10 {
        let caller = if number % 2 == 0 { &alice } else { &there };
        caller.publish(&Tarball::new(&format!("tool-{number}"), "1.0.0")).await.ok();
        tokio::join!(one.tell(), other.tell());
    }
    one.tell().await;
    other.tell().await;
    let received = receiver.wait_for(1).await;
    let mut found = packages(&received);
    let count = found.len();
    found.sort();
    found.dedup();
    assert_eq!(found.len(), 10);
    assert_eq!(count, 10, "something was told twice although nobody was cut off");
}

#[tokio::test]
async fn a_hook_of_npm_and_insights_get_their_own_forms() {
    let receiver = Receiver::start();
    let app = TestApp::with(|settings| {
        let (hook, insights) = (receiver.url("/npm").parse().unwrap(), receiver.url("/v1/send").parse().unwrap());
        let secret = Secret::new(SECRET);
        settings.sinks = vec![
            sink("npm", SinkKind::NpmHook { url: hook, secret: secret.clone() }),
            sink(
                "insights",
                SinkKind::Insights {
                    url: insights,
                    client_id: "id".to_owned(),
                    secret,
                    index_format: IndexFormat::InBody,
                },
            ),
        ];
    });
    let alice = app.user("alice").await.with("npm-command", "publish");
    alice.publish(&Tarball::new("@acme/tool", "1.0.0")).await.ok();
    app.tell().await;
    let received = receiver.received();
    let at = |path: &str| received.iter().find(|received| received.path == path).unwrap();
    let (npm, insights) = (at("/npm"), at("/v1/send"));
    let body = npm.json();
    assert_eq!(
        (&body["event"], &body["name"], &body["type"]),
        (&"package:publish".into(), &"@acme/tool".into(), &"package".into())
    );
    assert_eq!(body["change"], serde_json::json!({ "version": "1.0.0", "dist-tag": "latest" }));
    assert_eq!(body["payload"]["dist-tags"]["latest"], "1.0.0");
    assert_eq!(body["payload"]["_holdfast"], Value::Null);
    let tarball = body["payload"]["versions"]["1.0.0"]["dist"]["tarball"].as_str().unwrap();
    assert!(tarball.starts_with("http://localhost:4873/@acme/tool/-/"), "{tarball}");
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let hex: String = holdfast::npm::integrity::hex(hmac::sign(&key, &npm.body).as_ref());
    assert_eq!(npm.header("x-npm-signature"), format!("sha256={hex}"));
    assert_eq!(insights.header("authorization"), format!("Bearer id:{SECRET}"));
    let body = insights.json();
    assert_eq!(body["namespace"], "info:package:put");
    assert_eq!(body["command"], serde_json::json!({ "name": "publish", "args": [] }));
    assert_eq!(body["user"], serde_json::json!({ "name": "alice" }));
    assert_eq!(body["body"]["dist-tags"]["latest"], "1.0.0");
}

#[tokio::test]
async fn a_sink_that_is_new_is_told_what_happens_from_then_on() {
    let receiver = Receiver::start();
    let mut app = TestApp::new();
    let alice = app.user("alice").await;
    alice.publish(&Tarball::new("before", "1.0.0")).await.ok();
    let token = alice.token().to_owned();
    drop(alice);
    app.clock.advance(Duration::from_secs(1));
    app.change_settings(|settings| told(settings, webhook(&receiver, 1)));
    let app = app.restarted().await;
    app.tell().await;
    app.anybody().with_token(&token).publish(&Tarball::new("after", "1.0.0")).await.ok();
    app.tell().await;
    assert_eq!(packages(&receiver.received()), ["after"]);
    assert_eq!(app.events_of(Kind::Publish).await.len(), 2);
}

/// Runs the check that `docs/sinks.md` gives to receivers; `None` where there is no Node.
fn checked_by_the_documentation(received: &Received, secret: &str) -> Option<bool> {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/sinks.md")).unwrap();
    let example = page.split("```js\n").nth(1).unwrap().split("```").next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let headers: serde_json::Map<String, Value> =
        received.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().into())).collect();
    let now: i64 = received.header("x-holdfast-timestamp").parse().unwrap();
    let call = format!(
        "\nimport {{ readFileSync }} from 'node:fs'\nconsole.log(isFromRegistry({}, {}, readFileSync('body'), {now}000))\n",
        Value::from(secret),
        Value::from(headers),
    );
    std::fs::write(folder.path().join("check.mjs"), format!("{example}{call}")).unwrap();
    std::fs::write(folder.path().join("body"), &received.body).unwrap();
    let Ok(output) = std::process::Command::new("node").arg("check.mjs").current_dir(folder.path()).output() else {
        assert!(std::env::var_os("CI").is_none(), "there is no Node");
        eprintln!("skipped: there is no Node");
        return None;
    };
    Some(String::from_utf8(output.stdout).unwrap().trim().parse().unwrap())
}

#[tokio::test]
async fn a_receiver_checks_the_signature_as_documented() {
    let receiver = Receiver::start();
    let app = TestApp::with(|settings| told(settings, webhook(&receiver, 1)));
    app.user("alice").await.publish(&Tarball::new("tool", "1.0.0")).await.ok();
    app.tell().await;
    let mut received = receiver.received().remove(0);
    let Some(is_good) = checked_by_the_documentation(&received, SECRET) else { return };
    assert!(is_good);
    assert_eq!(checked_by_the_documentation(&received, "another"), Some(false));
    received.body.push(b' ');
    assert_eq!(checked_by_the_documentation(&received, SECRET), Some(false));
}

/// One call of SNS at moto, which looks at the credential's scope alone.
async fn ask_sns(url: &str, form: &[(&str, &str)]) {
    const CREDENTIAL: &str =
        "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/sns/aws4_request, SignedHeaders=host, Signature=0";
    let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.post(url).header("authorization", CREDENTIAL);
    let request = request.header("content-type", "application/x-www-form-urlencoded").body(form);
    request.send().await.unwrap().error_for_status().unwrap();
}

#[tokio::test]
async fn a_topic_hands_on_what_it_was_told() {
    const TOPIC: &str = "arn:aws:sns:us-east-1:123456789012:registry";
    let Some(moto) = RealServer::start(RealKind::Moto, "unused").await else { return };
    let receiver = Receiver::start();
    let subscriber = receiver.url("/topic");
    ask_sns(moto.url(), &[("Action", "CreateTopic"), ("Version", "2010-03-31"), ("Name", "registry")]).await;
    let subscription = [("Action", "Subscribe"), ("TopicArn", TOPIC), ("Protocol", "http"), ("Endpoint", &subscriber)];
    ask_sns(moto.url(), &subscription).await;
    let url = format!("{}/", moto.url());
    let server = server::Settings::alone()
        .env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
        .env("HOLDFAST__SINKS__PLAIN__KIND", "sns")
        .env("HOLDFAST__SINKS__PLAIN__TOPIC", TOPIC)
        .env("HOLDFAST__SINKS__PLAIN__URL", &url)
        .env("HOLDFAST__SINKS__OLDER__KIND", "sns")
        .env("HOLDFAST__SINKS__OLDER__TOPIC", TOPIC)
        .env("HOLDFAST__SINKS__OLDER__URL", &url)
        .env("HOLDFAST__SINKS__OLDER__FORMAT", "codebox")
        .start()
        .await;
    let token = server.http().create_user("alice", "correct horse battery").await;
    server.http().with_token(&token).publish(&Tarball::new("@acme/tool", "1.0.0")).await.ok();
    let received = receiver.wait_for(2).await;
    let message = |received: &Received| serde_json::from_str(received.json()["Message"].as_str().unwrap()).unwrap();
    let messages: Vec<Value> = received.iter().map(message).collect();
    let plain = messages.iter().find(|message| message["kind"] == "package.publish").unwrap();
    assert_eq!((&plain["package"], &plain["who"]["name"]), (&"@acme/tool".into(), &"alice".into()));
    let older = messages.iter().find(|message| message["namespace"] == "info:package:put").unwrap();
    assert_eq!(older["body"]["dist-tags"]["latest"], "1.0.0");
    assert_eq!(older.get("command"), None);
}

#[tokio::test]
async fn insights_hears_of_reading_and_of_failures_a_little_later() {
    let receiver = Receiver::start();
    let app = TestApp::with(|settings| {
        let (url, secret) = (receiver.url("/v1/send").parse().unwrap(), Secret::new(SECRET));
        let index_format = IndexFormat::InHeader;
        told(settings, SinkKind::Insights { url, client_id: "id".to_owned(), secret, index_format });
        settings.sinks[0].wants.events = vec!["sign-in".parse().unwrap()];
    });
    let alice = app.user("alice").await;
    alice.publish(&Tarball::new("tool", "1.0.0")).await.ok();
    for _ in 0..3 {
        alice.with("npm-command", "view").get("/tool").await.ok();
        alice.get("/absent").await;
    }
    app.tell().await;
    assert!(receiver.received().is_empty());
    app.clock.advance(Duration::from_mins(1));
    app.tell().await;
    let received = receiver.received();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].header("authorization"), format!("Bearer id:{SECRET}"));
    let body = received[0].json();
    assert_eq!((&body["namespace"], &body["user"]["name"]), (&"info:package:get".into(), &"alice".into()));
    assert_eq!(body["body"], serde_json::json!({ "name": "tool", "version": "1.0.0" }));
    assert_eq!(body["command"]["name"], "view");

    // A document that somebody has damaged.
    std::fs::create_dir_all(app.data().join("damaged")).unwrap();
    std::fs::write(app.data().join("damaged/index.json"), "{").unwrap();
    let answer = alice.get("/damaged").await;
    assert!(answer.status.is_server_error());
    app.clock.advance(Duration::from_mins(1));
    app.tell().await;
    let body = receiver.received()[1].json();
    assert_eq!((&body["level"], &body["namespace"]), (&"error".into(), &"error:package:get".into()));
    let message = format!("status {}, request {}", answer.status.as_u16(), answer.header("x-request-id"));
    assert_eq!(body["body"]["message"], message);
}
