//! Traces: what is told of a request, to whom it is told, and that nobody waits for that.

use holdfast::sinks::{SinkKind, SinkSettings, Wants};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use reqwest::Method;

use crate::support::PATIENCE;
use crate::support::app::{Caller, TestApp, behind};
use crate::support::collector::{Collector, Span};
use crate::support::http::INSTALL_ACCEPT;
use crate::support::lambda::{FrontEnd, Lambda};
use crate::support::receiver::{Mood, Receiver};
use crate::support::server::Settings;
use crate::support::tarballs::Tarball;
use crate::support::upstream::Upstream;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn traced(collector: &Collector) -> TestApp {
    TestApp::with(|settings| settings.traces = Some(collector.settings()))
}

/// The one span of a name in a trace.
#[track_caller]
fn one<'a>(trace: &'a [Span], name: &str) -> &'a Span {
    let found: Vec<&Span> = trace.iter().filter(|span| span.name == name).collect();
    assert_eq!(found.len(), 1, "{name} in {trace:#?}");
    found[0]
}

async fn figure(app: &TestApp, outcome: &str) -> u64 {
    let figures = app.anybody().get("/-/metrics").await.ok().text();
    let series = format!("holdfast_trace_spans_total{{outcome=\"{outcome}\"}} ");
    figures.lines().find_map(|line| line.strip_prefix(&series)?.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn a_publish_is_told_with_its_parts() {
    let collector = Collector::start();
    let app = TestApp::with(|settings| {
        let mut traces = collector.settings();
        traces.service_name = "registry".to_owned();
        traces.attributes = vec![("team".to_owned(), "web".to_owned())];
        settings.traces = Some(traces);
    });
    let alice = app.user("alice").await;
    let answer = alice.publish(&Tarball::new("@acme/tool", "1.0.0")).await.ok();
    app.app.traces.flush().await;
    let trace = collector.trace_with("the publish", |span| span.name == "PUT /{package}").await;

    let root = one(&trace, "PUT /{package}");
    assert_eq!((root.kind, root.parent.as_str(), root.has_failed), (SpanKind::Server, "", false));
    for (key, value) in [
        ("http.request.method", "PUT"),
        ("http.route", "/{package}"),
        ("http.response.status_code", "201"),
        ("holdfast.request.id", answer.header("x-request-id")),
    ] {
        assert_eq!(root.get(key), value, "{root:#?}");
    }
    for step in ["publish receive", "publish check", "publish inspect", "publish commit"] {
        let span = one(&trace, step);
        assert_eq!((span.parent.as_str(), span.kind), (root.id.as_str(), SpanKind::Internal), "{span:#?}");
        assert!(root.time.0 <= span.time.0 && span.time.0 <= span.time.1 && span.time.1 <= root.time.1, "{trace:#?}");
    }
    let kept = one(&trace, "store keep");
    assert_eq!(kept.parent, root.id);
    assert_eq!((kept.get("holdfast.store.object"), kept.get("holdfast.outcome")), ("tarball", "ok"));
    let committed = one(&trace, "store update");
    assert_eq!(committed.parent, one(&trace, "publish commit").id);
    assert_eq!((committed.get("holdfast.store.object"), committed.kind), ("packument", SpanKind::Client));
    // Which package that was, nobody is told.
    assert!(!format!("{trace:?}").contains("acme"), "{trace:#?}");

    let resource = collector.resource();
    assert_eq!(resource["service.name"], "registry");
    assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(resource["team"], "web");
    assert!(figure(&app, "sent").await > 0);
}

#[tokio::test]
async fn a_question_to_an_upstream_is_part_of_the_request_and_tells_it_nothing() {
    let (collector, upstream) = (Collector::start(), Upstream::with_fixtures());
    let app = TestApp::with(|settings| {
        behind(settings, &upstream, &[]);
        settings.traces = Some(collector.settings());
    });
    let client = app.anybody().with("traceparent", &format!("00-{TRACE}-{PARENT}-01")).with("tracestate", "a=b");
    client.get_with("/left", &[("accept", INSTALL_ACCEPT)]).await.ok();
    app.app.traces.flush().await;
    let trace = collector.trace_with("the read", |span| span.name == "GET /{package}").await;
    let root = one(&trace, "GET /{package}");
    // It belongs to the client's trace.
    assert_eq!((root.trace.as_str(), root.parent.as_str()), (TRACE, PARENT));
    let asked = one(&trace, "upstream GET");
    assert_eq!((asked.parent.as_str(), asked.kind), (root.id.as_str(), SpanKind::Client));
    assert_eq!((asked.get("holdfast.upstream"), asked.get("holdfast.outcome")), ("default", "ok"));
    let seen = upstream.seen();
    assert!(!seen.is_empty());
    for request in seen {
        assert!(request.headers.keys().all(|name| !name.as_str().starts_with("trace")), "{:?}", request.headers);
    }
}

#[tokio::test]
async fn a_delivery_to_a_sink_is_a_trace_of_its_own() {
    let (collector, receiver) = (Collector::start(), Receiver::start());
    let app = TestApp::with(|settings| {
        let kind = SinkKind::Slack { url: receiver.url("/canary-of-an-address").parse().unwrap() };
        let (wants, timeout) = (Wants::default(), PATIENCE);
        settings.sinks = vec![SinkSettings { name: "chat".to_owned(), kind, wants, timeout, tries: 3 }];
        settings.traces = Some(collector.settings());
    });
    app.user("alice").await.publish(&Tarball::new("tool", "1.0.0")).await.ok();
    let trace = collector.trace_with("the delivery", |span| span.name == "sink deliver").await;
    assert_eq!(trace.len(), 1, "{trace:#?}");
    assert_eq!((trace[0].parent.as_str(), trace[0].get("holdfast.sink"), trace[0].has_failed), ("", "chat", false));
    assert!(!format!("{trace:?}").contains("canary"));
}

#[tokio::test]
async fn a_client_decides_of_its_own_trace_and_the_settings_of_all_others() {
    let collector = Collector::start();
    let app = TestApp::with(|settings| {
        let mut traces = collector.settings();
        traces.ratio = 0.0;
        settings.traces = Some(traces);
    });
    let with = |header: String| app.anybody().with("traceparent", &header);
    let path = "/-/ping";
    app.anybody().get(path).await.ok();
    with(format!("00-{TRACE}-{PARENT}-00")).get(path).await.ok();
    // No header of the specification's: a trace of ours, which is not recorded.
    for wrong in ["", "00-0-0-01", &format!("00-{}-{PARENT}-01", "0".repeat(32)), &"0".repeat(60_000)] {
        with(wrong.to_owned()).get(path).await.ok();
    }
    let header = format!("00-{TRACE}-{PARENT}-01");
    with(header.clone()).get_with(path, &[("traceparent", &header)]).await.ok();
    with(header).get(path).await.ok();
    app.app.traces.flush().await;
    // What is sent is sent in order.
    collector.trace_with("the one", |span| span.name == "GET /-/ping").await;
    let spans = collector.spans();
    assert_eq!(spans.len(), 1, "{spans:#?}");
    assert_eq!((spans[0].trace.as_str(), spans[0].parent.as_str()), (TRACE, PARENT));
}

#[tokio::test]
async fn a_request_is_named_by_nothing_that_a_client_made_up() {
    let collector = Collector::start();
    let app = traced(&collector);
    let anybody = app.anybody();
    let invented = Method::from_bytes(b"CANARY").unwrap();
    assert!(
        anybody
            .send(invented, "/-/canary/canary?canary=1", &[("user-agent", "canary")], "")
            .await
            .status
            .is_client_error()
    );
    anybody.get_with("/canary", &[("accept", "canary")]).await;
    app.app.traces.flush().await;
    let trace = collector.trace_with("the read", |span| span.name == "GET /{package}").await;
    let refused = one(&trace, "GET /{package}");
    assert_eq!((refused.get("http.response.status_code"), refused.has_failed), ("404", false));
    assert!(!refused.get("error.type").is_empty(), "{refused:#?}");
    let invented = collector.trace_with("the invented method", |span| span.name == "_OTHER").await;
    assert!(one(&invented, "_OTHER").get("http.route").is_empty());
    assert!(!format!("{:?}", collector.spans()).contains("canary"));
}

/// Requests that are answered well; more than there is room for spans of.
async fn many_requests(caller: &Caller) {
    for _ in 0..9_500 {
        caller.get("/-/ping").await.ok();
    }
}

#[tokio::test]
async fn a_collector_that_hangs_delays_nobody_and_what_finds_no_room_is_counted() {
    let collector = Collector::start();
    collector.become_(Mood::Hangs);
    let app = traced(&collector);
    let alice = app.user("alice").await;
    alice.publish(&Tarball::new("tool", "1.0.0")).await.ok();
    // It is asked, and holds the exporter from then on.
    collector.wait_for(1).await;
    many_requests(&app.anybody()).await;
    assert!(figure(&app, "dropped").await > 0);
    // Nor does it keep the server from stopping.
    app.app.stop().await;
}

#[tokio::test]
async fn what_a_collector_could_not_take_is_sent_again_and_what_it_refuses_is_not() {
    let collector = Collector::start();
    collector.become_(Mood::Status(503));
    let app = traced(&collector);
    app.anybody().get("/-/ping").await.ok();
    let first = collector.wait_for(1).await.remove(0);
    collector.become_(Mood::Status(200));
    let second = collector.wait_for(2).await.remove(1);
    assert_eq!(first.body, second.body);

    collector.become_(Mood::Status(400));
    app.anybody().get("/-/ready").await;
    collector.wait_for(3).await;
    collector.become_(Mood::Status(200));
    let is_next = |span: &Span| span.name == "GET /-/metrics";
    assert_eq!(figure(&app, "sent").await, 1);
    collector.trace_with("the next", is_next).await;
    let ready = collector.spans().into_iter().filter(|span| span.name == "GET /-/ready").count();
    assert_eq!((ready, figure(&app, "refused").await > 0), (1, true));
}

#[tokio::test]
async fn a_server_goes_by_the_standard_variables_and_sends_the_last_spans_when_it_stops() {
    let collector = Collector::start();
    let mut server = Settings::alone()
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url())
        .env("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20canary-of-a-header")
        .env("OTEL_SERVICE_NAME", "from-the-environment")
        .env("HOLDFAST__LOG__LEVEL", "info,holdfast=trace")
        .start()
        .await;
    server.http().get("/-/v1/search?text=x").await.ok();
    server.stop().await;
    let batches = collector.batches();
    assert!(batches.iter().all(|batch| batch.path == "/v1/traces"));
    assert!(batches.iter().all(|batch| batch.header("authorization") == "Bearer canary-of-a-header"));
    let trace = collector.trace_with("the search", |span| span.name == "GET /-/v1/search").await;
    assert_eq!(collector.resource()["service.name"], "from-the-environment");
    // The log leads to the trace, and has no secret of it.
    let log = server.log().text();
    assert!(log.contains(&format!("trace.id={}", trace[0].trace)), "{log}");
    assert!(!log.contains("canary"), "{log}");
}

#[tokio::test]
async fn a_collector_that_fails_is_told_of_once() {
    let collector = Collector::start();
    collector.become_(Mood::Status(500));
    let server =
        Settings::alone().env("HOLDFAST__TRACES__OTLP_ENDPOINT", collector.settings().endpoint.as_str()).start().await;
    for batches in 1..=3 {
        server.http().get("/-/ping").await.ok();
        collector.wait_for(batches).await;
    }
    let log = server.log().text();
    let told = log.lines().filter(|line| line.contains("takes no traces")).collect::<Vec<_>>();
    assert_eq!(told.len(), 1, "{log}");
    assert!(told[0].contains("status 500"), "{}", told[0]);
}

#[tokio::test]
async fn inside_lambda_a_request_is_told_before_the_process_stands_still() {
    let collector = Collector::start();
    let url = collector.url();
    let variables = [("HOLDFAST__PACKAGES__PROXY", "false"), ("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str())];
    let lambda = Lambda::start(FrontEnd::FunctionUrl, &variables).await;
    lambda.http().get("/-/v1/search?text=x").await;
    // No request comes after it that would let the process go on.
    collector.trace_with("the search", |span| span.name == "GET /-/v1/search").await;
}
