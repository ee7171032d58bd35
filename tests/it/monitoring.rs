//! What a server tells of itself: figures for Prometheus, and whether it is well.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use holdfast::metrics::{METRICS, Readers, ReadingToken};
use holdfast::secret::Secret;
use holdfast::settings::Auto;
use holdfast::sinks::{SinkKind, SinkSettings, Wants};
use holdfast::storage::{self, FaultPlan};
use reqwest::StatusCode;
use serde_json::json;

use crate::support::PATIENCE;
use crate::support::app::{Caller, TestApp, refused};
use crate::support::company::Company;
use crate::support::github::Mode;
use crate::support::http::Answer;
use crate::support::in_process::Plan;
use crate::support::receiver::{Mood, Receiver};
use crate::support::tarballs::Tarball;
use crate::support::upstream::{Fault, Upstream};

const DENY_LEFT: &str = r#"[[rule]]
id = "no-left"
action = "deny"
packages = ["left"]
author = "ann"
reason = "a test"
"#;

/// The value of a line of the exposition that is written exactly so, labels included.
fn value(figures: &str, series: &str) -> Option<f64> {
    figures.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

async fn figures(caller: &Caller) -> String {
    caller.get("/-/metrics").await.ok().text()
}

#[tokio::test]
async fn what_happened_is_in_the_figures() {
    let upstream = Upstream::with_fixtures();
    let app = TestApp::before(&upstream, &["@acme/*"]);
    let (anybody, alice) = (app.anybody(), app.user("alice").await);
    alice.publish(&Tarball::new("@acme/tool", "1.0.0")).await.ok();
    assert_eq!(alice.publish(&Tarball::new("@acme/tool", "1.0.0")).await.status, StatusCode::FORBIDDEN);
    anybody.sign_in("alice", "wrong").await;
    for _ in 0..2 {
        anybody.get_abbreviated("/@acme%2ftool").await.ok();
    }
    anybody.get("/left").await.ok();
    anybody.get("/-/nothing/here").await;

    let figures = figures(&anybody).await;
    for (series, expected) in [
        (r#"holdfast_http_requests_total{route="/{package}",method="PUT",status="201"}"#, 1.0),
        (r#"holdfast_http_requests_total{route="/{package}",method="PUT",status="403"}"#, 1.0),
        (r#"holdfast_http_requests_total{route="/{package}",method="GET",status="200"}"#, 3.0),
        (r#"holdfast_http_requests_total{route="none",method="none",status="404"}"#, 1.0),
        (r#"holdfast_http_request_seconds_count{route="/-/user/org.couchdb.user:{user}"}"#, 2.0),
        // This very request.
        ("holdfast_http_requests_under_way", 1.0),
        (r#"holdfast_publishes_total{outcome="version"}"#, 1.0),
        (r#"holdfast_publishes_total{outcome="version_exists"}"#, 1.0),
        (r#"holdfast_sign_ins_total{way="password",outcome="ok"}"#, 1.0),
        (r#"holdfast_sign_ins_total{way="password",outcome="wrong_password"}"#, 1.0),
        (r#"holdfast_cache_reads_total{cache="rendered",outcome="hit"}"#, 1.0),
        (r#"holdfast_upstream_requests_total{upstream="default",outcome="ok"}"#, 1.0),
        (r#"holdfast_upstream_left_alone{upstream="default"}"#, 0.0),
        (r#"holdfast_store_calls_total{call="keep",outcome="ok"}"#, 1.0),
    ] {
        assert_eq!(value(&figures, series), Some(expected), "{series} in:\n{figures}");
    }
    for series in [
        "holdfast_http_response_bytes_total",
        r#"holdfast_cache_bytes{cache="rendered"}"#,
        r#"holdfast_store_calls_total{call="update",outcome="ok"}"#,
        r#"holdfast_store_call_seconds_count{call="update"}"#,
        "process_start_time_seconds",
    ] {
        assert!(value(&figures, series).is_some_and(|value| value > 0.0), "{series} in:\n{figures}");
    }
}

#[tokio::test]
async fn figures_never_hold_what_a_client_sent() {
    let app = TestApp::new();
    let alice = app.user("alice").await;
    alice.publish(&Tarball::new("tool-of-ours", "1.0.0")).await.ok();
    for path in ["/tool-of-ours", "/tool-of-ours/9.9.9", "/-/made-up/path", "/-/user/org.couchdb.user:alice", "/%zz"] {
        alice.get(path).await;
    }
    let figures = figures(&app.anybody()).await;
    for word in ["tool-of-ours", "9.9.9", "made-up", "alice"] {
        assert!(!figures.contains(word), "{word} is in:\n{figures}");
    }
}

#[tokio::test]
async fn a_refusal_of_the_policy_is_counted_by_its_cause() {
    let upstream = Upstream::with_fixtures();
    let denied = TestApp::with(|settings| {
        crate::support::app::behind(settings, &upstream, &[]);
        let rules = settings.storage.directory.join("policy.toml");
        std::fs::write(&rules, DENY_LEFT).unwrap();
        settings.policy.rules_file = rules;
    });
    assert_eq!(denied.anybody().get("/left").await.status, StatusCode::FORBIDDEN);
    let figures = figures(&denied.anybody()).await;
    assert_eq!(value(&figures, r#"holdfast_policy_refusals_total{cause="denied"}"#), Some(1.0), "{figures}");
}

#[tokio::test]
async fn figures_are_for_whom_the_settings_name() {
    let is_shown = |answer: &Answer| {
        answer.status == StatusCode::OK && answer.header("content-type").starts_with("application/openmetrics-text")
    };
    // As on a server that listens to all; the figures are for this machine even where everybody may read.
    let open = |readers: Readers| {
        TestApp::with(move |settings| {
            settings.server.listen = "0.0.0.0:4873".parse().unwrap();
            settings.access.anonymous_read = Auto::Open;
            settings.metrics_readers = readers;
        })
    };
    let app = open(Readers::Local);
    assert!(is_shown(&app.anybody().get("/-/metrics").await));
    let elsewhere = app.anybody().at_peer("192.0.2.7:50000");
    refused(&elsewhere.get("/-/metrics").await, 403);
    // A proxy on this machine passes on what comes from elsewhere.
    let behind_proxy = app.anybody().with("x-forwarded-for", "127.0.0.1");
    refused(&behind_proxy.get("/-/metrics").await, 403);

    let app = open(Readers::Anyone);
    assert!(is_shown(&app.anybody().at_peer("192.0.2.7:50000").get("/-/metrics").await));

    let token = ReadingToken::new(Secret::new("figures-please"));
    let app = TestApp::with(|settings| settings.metrics_readers = Readers::Token(token));
    let (anybody, alice) = (app.anybody(), app.user("alice").await);
    for caller in [&anybody, &alice, &anybody.with_token("figures-pleasf"), &anybody.with_token("figures")] {
        let answer = caller.get("/-/metrics").await;
        refused(&answer, 401);
        assert!(answer.header("www-authenticate").starts_with("Bearer"));
    }
    assert!(is_shown(&anybody.at_peer("192.0.2.7:1").with_token("figures-please").get("/-/metrics").await));
    // It opens nothing else.
    assert_eq!(anybody.with_token("figures-please").get("/-/whoami").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn readiness_tells_which_part_is_bad() {
    let upstream = Upstream::with_fixtures();
    let app = TestApp::before(&upstream, &[]);
    let health = app.anybody().get("/-/ready").await.ok().json();
    assert_eq!(health["storage"], "ok");
    assert_eq!(health["upstreams"]["default"], "ok");
    assert_eq!(health["policy"]["rules"], "ok");
    assert_eq!(health.get("github"), None);

    // Five failures in a row, and the upstream is left alone: requests that need it fail, and those that do not go on.
    upstream.set(Fault::Status(500));
    for name in ["left", "right", "a", "b", "c", "d"] {
        app.anybody().get(&format!("/{name}")).await;
    }
    let health = app.anybody().get("/-/ready").await.ok().json();
    assert_eq!(health["upstreams"]["default"], "left_alone", "{health}");
    let left_alone = value(&figures(&app.anybody()).await, r#"holdfast_upstream_left_alone{upstream="default"}"#);
    assert_eq!(left_alone, Some(1.0));
}

#[tokio::test]
async fn readiness_tells_of_github_and_takes_requests_all_the_same() {
    let company = Company::with(|_| {}).await;
    let github = async || company.app.anybody().get("/-/ready").await.ok().json()["github"].take();
    assert_eq!(github().await, "ok");
    company.person("ann").await;
    assert_eq!(github().await, "ok");
    company.github.set_mode(Mode::Down);
    let token = company.github.personal_token("olga");
    refused(&company.app.anybody().sign_in("olga", &token).await, 503);
    assert_eq!(github().await, "failing");
    company.github.set_mode(Mode::Well);
    company.app.anybody().sign_in("olga", &token).await.ok();
    assert_eq!(github().await, "ok");
}

#[tokio::test]
async fn readiness_tells_which_sink_is_failing_or_behind_and_takes_requests_all_the_same() {
    let (good, bad) = (Receiver::start(), Receiver::start());
    let app = TestApp::with(|settings| {
        let sink = |name: &str, receiver: &Receiver| SinkSettings {
            name: name.to_owned(),
            kind: SinkKind::Slack { url: receiver.url("/").parse().unwrap() },
            wants: Wants::default(),
            timeout: Duration::from_secs(5),
            tries: 3,
        };
        settings.sinks = vec![sink("bad", &bad), sink("good", &good)];
    });
    let sinks = async || app.anybody().get("/-/ready").await.ok().json()["sinks"].take();
    assert_eq!(sinks().await, json!({ "bad": "ok", "good": "ok" }));
    bad.become_(Mood::Status(500));
    app.user("alice").await.publish(&Tarball::new("tool", "1.0.0")).await.ok();
    app.app.sinks.deliver_within(PATIENCE).await;
    assert_eq!(sinks().await, json!({ "bad": "failing", "good": "ok" }));
    bad.become_(Mood::Status(200));
    app.clock.advance(Duration::from_hours(1));
    app.app.sinks.deliver_within(PATIENCE).await;
    assert_eq!(sinks().await, json!({ "bad": "ok", "good": "ok" }));
    // Nothing has failed, and nothing is told.
    bad.become_(Mood::Hangs);
    app.user("bob").await.publish(&Tarball::new("other", "1.0.0")).await.ok();
    app.app.sinks.deliver_within(Duration::ZERO).await;
    assert_eq!(sinks().await["bad"], "ok");
    app.clock.advance(Duration::from_mins(16));
    assert_eq!(sinks().await["bad"], "behind");
}

#[tokio::test]
async fn a_full_store_is_not_ready_and_says_so() {
    let plan = Plan::alone();
    let app = plan.start_on(plan.store().await.with_faults(FaultPlan::new(storage::Fault::Full, 0)));
    let answer = app.get("/-/ready").await.refused(&[503]);
    let body = answer.json();
    assert_eq!(
        (body["storage"].as_str(), body["code"].as_str()),
        (Some("full"), Some("storage_unavailable")),
        "{body}"
    );
    assert_eq!(body["policy"]["rules"], "ok");
    app.get("/-/ping").await.ok();
}

#[test]
fn every_metric_has_a_name_that_tells_its_unit() {
    for info in METRICS {
        let has_prefix = info.name.starts_with("holdfast_") || info.name.starts_with("process_");
        assert!(has_prefix, "{}", info.name);
        assert_eq!(info.kind == "counter", info.name.ends_with("_total"), "{}", info.name);
    }
}

#[test]
fn dashboard_and_alerts_name_what_there_is() {
    let exposed: BTreeSet<String> = METRICS
        .iter()
        .flat_map(|info| match info.kind {
            "histogram" => ["_bucket", "_sum", "_count"].map(|end| format!("{}{end}", info.name)).to_vec(),
            _ => vec![info.name.to_owned()],
        })
        .collect();
    let mut named = BTreeSet::new();
    for file in ["dashboard.json", "alerts.yaml"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/monitoring").join(file);
        let text = std::fs::read_to_string(path).unwrap();
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        named.extend(
            words.filter(|word| word.starts_with("holdfast_") || word.starts_with("process_")).map(str::to_owned),
        );
    }
    let unknown: Vec<&String> = named.difference(&exposed).collect();
    assert!(unknown.is_empty(), "there is no metric {unknown:?}");
    // And nothing is counted that nobody would see.
    let unseen: Vec<&str> =
        METRICS.iter().map(|info| info.name).filter(|name| !named.iter().any(|word| word.starts_with(name))).collect();
    assert!(unseen.is_empty(), "neither the dashboard nor an alert has {unseen:?}");
}
