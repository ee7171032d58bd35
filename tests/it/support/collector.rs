//! A collector of traces, which reads what comes with the types that the OpenTelemetry project generates.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use holdfast::traces::Settings;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span as Sent;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message as _;

use super::receiver::{Mood, Received, Receiver};
use super::{PATIENCE, hex};

/// A running collector. Ends when dropped.
#[derive(Debug)]
pub(crate) struct Collector(Receiver);

/// A span, as far as tests look at it. Ids are in hex.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    pub(crate) trace: String,
    pub(crate) id: String,
    /// Empty where it has none.
    pub(crate) parent: String,
    pub(crate) name: String,
    pub(crate) kind: SpanKind,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) has_failed: bool,
    /// From when to when, in nanoseconds since 1970.
    pub(crate) time: (u64, u64),
}

impl Span {
    fn of(sent: &Sent) -> Self {
        Self {
            trace: hex(&sent.trace_id),
            id: hex(&sent.span_id),
            parent: hex(&sent.parent_span_id),
            name: sent.name.clone(),
            kind: sent.kind(),
            attributes: texts(&sent.attributes),
            has_failed: sent.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error),
            time: (sent.start_time_unix_nano, sent.end_time_unix_nano),
        }
    }

    /// An attribute; empty where there is none.
    pub(crate) fn get(&self, key: &str) -> &str {
        self.attributes.get(key).map(String::as_str).unwrap_or_default()
    }
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &Option<AnyValue>| match value.as_ref().and_then(|value| value.value.clone()) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => panic!("a value of a kind that is not sent: {other:?}"),
    };
    attributes.iter().map(|attribute| (attribute.key.clone(), text(&attribute.value))).collect()
}

fn read(batch: &Received) -> ExportTraceServiceRequest {
    assert_eq!(batch.header("content-type"), "application/x-protobuf");
    ExportTraceServiceRequest::decode(&*batch.body).unwrap()
}

impl Collector {
    pub(crate) fn start() -> Self {
        Self(Receiver::start())
    }

    /// Its base address, without a slash at its end.
    pub(crate) fn url(&self) -> String {
        self.0.url("")
    }

    /// Those of an application that sends everything to it.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            endpoint: self.0.url("/v1/traces").parse().unwrap(),
            headers: Vec::new(),
            ratio: 1.0,
            service_name: "holdfast".to_owned(),
            attributes: Vec::new(),
        }
    }

    pub(crate) fn become_(&self, mood: Mood) {
        self.0.become_(mood);
    }

    /// Waits until it was asked so often.
    pub(crate) async fn wait_for(&self, batches: usize) -> Vec<Received> {
        self.0.wait_for(batches).await
    }

    /// What came, as it came.
    pub(crate) fn batches(&self) -> Vec<Received> {
        self.0.received()
    }

    /// All spans that came.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let requests: Vec<_> = self.batches().iter().map(read).collect();
        let resources = requests.iter().flat_map(|request| &request.resource_spans);
        resources.flat_map(|resource| &resource.scope_spans).flat_map(|scope| &scope.spans).map(Span::of).collect()
    }

    /// What the first batch tells of who sent it.
    pub(crate) fn resource(&self) -> BTreeMap<String, String> {
        texts(&read(&self.batches()[0]).resource_spans[0].resource.as_ref().unwrap().attributes)
    }

    /// Waits for a span, and gives its whole trace as it is then.
    pub(crate) async fn trace_with(&self, what: &str, is_it: impl Fn(&Span) -> bool) -> Vec<Span> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let spans = self.spans();
            if let Some(found) = spans.iter().find(|span| is_it(span)) {
                return spans.iter().filter(|span| span.trace == found.trace).cloned().collect();
            }
            assert!(Instant::now() < deadline, "{what} did not come; there are {spans:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
