//! Spans: what took how long, as part of what.
//!
//! Which span is the one that work belongs to goes with the task, as what is remembered of a request does. Where nothing is
//! recorded a span is nothing, and everything that is done with it does nothing.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt as _;
use futures::future::Either;

use super::Traces;
use super::export::Outlet;
use super::traceparent::Parent;
use crate::clock::Clock;
use crate::random;

const NANOS_PER_MILLI: u64 = 1_000_000;

tokio::task_local! {
    static SCOPE: Scope;
}

/// Names a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceId(pub(super) [u8; 16]);

/// Names a span of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SpanId(pub(super) [u8; 8]);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// On which side of a call the span was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No call to anybody else.
    Internal,
    /// Somebody called us.
    Server,
    /// We called somebody.
    Client,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(Cow<'static, str>),
    /// A whole number.
    Number(i64),
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

/// A span that has come to its end.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) trace: TraceId,
    pub(super) id: SpanId,
    pub(super) parent: Option<SpanId>,
    pub(super) name: String,
    pub(super) kind: Kind,
    /// Since 1970.
    pub(super) began_nanos: u64,
    pub(super) ended_nanos: u64,
    pub(super) attributes: Vec<(&'static str, Value)>,
    pub(super) has_failed: bool,
}

/// What the work of a task belongs to, where anything is recorded of it.
#[derive(Clone)]
enum Scope {
    /// To no request: what [`begin`]s there begins a trace of its own.
    Background(Traces),
    /// To a span.
    Span(Place),
}

/// A span of a trace.
#[derive(Clone)]
struct Place {
    trace: Arc<Trace>,
    id: SpanId,
}

/// What the spans of a trace share: one reading of the wall clock, so that they are in order even where that clock is set.
struct Trace {
    id: TraceId,
    began: Instant,
    began_nanos: u64,
    outlet: Outlet,
}

impl Trace {
    fn nanos_at(&self, instant: Instant) -> u64 {
        let since = instant.saturating_duration_since(self.began);
        self.began_nanos.saturating_add(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }
}

/// Something that takes time. It ends when it is dropped, however that comes about. Nothing where nothing is recorded.
#[must_use = "it ends when it is dropped"]
#[derive(Default)]
pub struct Span(Option<Box<Recording>>);

struct Recording {
    place: Place,
    parent: Option<SpanId>,
    name: String,
    kind: Kind,
    began: Instant,
    attributes: Vec<(&'static str, Value)>,
    has_failed: bool,
}

impl Span {
    /// The first span that is made here of a trace: a new one, or that of a client.
    pub(super) fn first(outlet: Outlet, clock: &Clock, parent: Option<Parent>, name: String, kind: Kind) -> Self {
        let began = Instant::now();
        let trace = Trace {
            id: parent.map_or_else(|| TraceId(random::bytes()), |parent| parent.trace),
            began,
            began_nanos: u64::try_from(clock.now().as_millis()).unwrap_or(0).saturating_mul(NANOS_PER_MILLI),
            outlet,
        };
        Self::in_trace(Arc::new(trace), parent.map(|parent| parent.span), name, kind, began)
    }

    fn in_trace(trace: Arc<Trace>, parent: Option<SpanId>, name: String, kind: Kind, began: Instant) -> Self {
        let place = Place { trace, id: SpanId(random::bytes()) };
        let (attributes, has_failed) = (Vec::new(), false);
        Self(Some(Box::new(Recording { place, parent, name, kind, began, attributes, has_failed })))
    }

    /// Whether anything is recorded: what is costly to tell a span is told only then.
    pub fn is_recorded(&self) -> bool {
        self.0.is_some()
    }

    /// The trace that it is part of, where it is recorded.
    pub fn trace_id(&self) -> Option<TraceId> {
        self.0.as_ref().map(|recording| recording.place.trace.id)
    }

    /// Gives it another name. Names are few: they are what spans are grouped by.
    pub fn rename(&mut self, name: impl FnOnce() -> String) {
        if let Some(recording) = &mut self.0 {
            recording.name = name();
        }
    }

    /// Tells something of it. Never anything that a client sent, unless it is from a small known set.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(recording) = &mut self.0 {
            recording.attributes.push((key, value.into()));
        }
    }

    /// It failed, for a reason from a small set.
    pub fn fail(&mut self, reason: impl Into<Value>) {
        self.set("error.type", reason);
        if let Some(recording) = &mut self.0 {
            recording.has_failed = true;
        }
    }

    fn scope(&self) -> Option<Scope> {
        self.0.as_ref().map(|recording| Scope::Span(recording.place.clone()))
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let trace = &self.place.trace;
        trace.outlet.take(Finished {
            trace: trace.id,
            id: self.place.id,
            parent: self.parent,
            name: std::mem::take(&mut self.name),
            kind: self.kind,
            began_nanos: trace.nanos_at(self.began),
            ended_nanos: trace.nanos_at(Instant::now()),
            attributes: std::mem::take(&mut self.attributes),
            has_failed: self.has_failed,
        });
    }
}

/// Does work as part of a span. A task that the work starts is no part of it: see [`carried_on`].
pub fn within<F: Future>(span: &Span, work: F) -> impl Future<Output = F::Output> + use<F> {
    scoped(span.scope(), work)
}

/// Work that belongs to nothing is left as it is: it must not cost a request anything.
fn scoped<F: Future>(scope: Option<Scope>, work: F) -> impl Future<Output = F::Output> {
    match scope {
        Some(scope) => Either::Left(SCOPE.scope(scope, work)),
        None => Either::Right(work),
    }
}

/// Does work that is no request's.
pub(super) fn in_background<F: Future>(traces: Traces, work: F) -> impl Future<Output = F::Output> {
    scoped(traces.are_on().then_some(Scope::Background(traces)), work)
}

/// The same work as part of what the work here is part of: for a task that it goes on in.
pub fn carried_on<F: Future>(work: F) -> impl Future<Output = F::Output> {
    scoped(SCOPE.try_with(Clone::clone).ok(), work)
}

/// A span of what the work here is part of, called by both words. Nothing where that is not recorded.
pub fn child(kind: Kind, what: &str, call: &str) -> Span {
    let made = SCOPE.try_with(|scope| match scope {
        Scope::Span(place) => {
            let (trace, name) = (Arc::clone(&place.trace), format!("{what} {call}"));
            Span::in_trace(trace, Some(place.id), name, kind, Instant::now())
        }
        Scope::Background(_) => Span::default(),
    });
    made.unwrap_or_default()
}

/// As [`child`]; of work that is no request's it is the first of a trace.
pub fn begin(kind: Kind, what: &str, call: &str) -> Span {
    let background = SCOPE.try_with(|scope| match scope {
        Scope::Background(traces) => Some(traces.clone()),
        Scope::Span(_) => None,
    });
    match background.ok().flatten() {
        Some(traces) => traces.first(kind, || format!("{what} {call}")),
        None => child(kind, what, call),
    }
}

/// Does work as a part of its own of what the work here is part of.
pub fn step<F: Future>(what: &str, call: &str, work: F) -> impl Future<Output = F::Output> + use<F> {
    let span = child(Kind::Internal, what, call);
    // No `async` block: that would have room for the work twice.
    within(&span, work).map(move |done| {
        drop(span);
        done
    })
}
