//! Figures for Prometheus: every metric there is, with its meaning, in one place.
//!
//! Nothing is global: an application has its own figures, and its parts keep the handles that they need, so that what
//! happens for each request is an addition to a number. Labels are from small fixed sets, never what a client sends.

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::secret::Secret;

/// The content type of [`Metrics::exposition`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// From half a millisecond, which a read from memory takes with its way through the system, to what clients give up after.
const SECONDS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// The statuses that answers have. Any other one is counted as `other`.
const STATUSES: [u16; 26] = [
    200, 201, 202, 206, 302, 303, 304, 400, 401, 403, 404, 405, 408, 409, 412, 413, 416, 421, 422, 429, 500, 502, 503,
    504, 507, 0,
];

type Labels<const N: usize> = [(&'static str, Cow<'static, str>); N];
type Counts<const N: usize> = Family<Labels<N>, Counter>;
type Timings = Family<Labels<1>, Histogram, fn() -> Histogram>;
type Level = Gauge<f64, AtomicU64>;
type Levels = Family<Labels<1>, Level>;

/// Who may read the figures.
#[derive(Debug, Clone)]
pub enum Readers {
    /// Programs of this machine.
    Local,
    /// Anybody.
    Anyone,
    /// Whoever shows this token.
    Token(ReadingToken),
}

/// A token that lets its holder read the figures, and nothing else.
#[derive(Debug, Clone)]
pub struct ReadingToken(Secret);

impl ReadingToken {
    /// Takes a token into custody.
    pub fn new(token: Secret) -> Self {
        Self(token)
    }

    /// Whether what was shown is the token. How much of it is right, the time that this takes does not tell.
    pub fn is_right(&self, shown: &str) -> bool {
        verify_slices_are_equal(self.0.expose().as_bytes(), shown.as_bytes()).is_ok()
    }
}

/// One line of the table of metrics.
#[derive(Debug)]
pub struct MetricInfo {
    /// As Prometheus knows it. Of a histogram there are `_bucket`, `_sum` and `_count`.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it counts or measures.
    pub meaning: &'static str,
}

macro_rules! metrics {
    ($($field:ident: $type:ty = $kind:literal $name:literal $labels:tt, $meaning:literal, $new:expr;)*) => {
        /// Every metric, in the order of `docs/monitoring.md`.
        pub static METRICS: &[MetricInfo] =
            &[$(MetricInfo { name: $name, kind: $kind, labels: &$labels, meaning: $meaning }),*];

        struct Families {
            registry: Registry,
            $($field: $type,)*
        }

        impl Families {
            fn new() -> Self {
                let mut registry = Registry::default();
                $(
                    let $field: $type = $new;
                    // The end of a counter's name is added when it is written.
                    registry.register($name.trim_end_matches("_total"), $meaning, $field.clone());
                )*
                Self { registry, $($field,)* }
            }
        }
    };
}

metrics! {
    http_requests: Counts<3> = "counter" "holdfast_http_requests_total" ["route", "method", "status"],
        "Requests that were answered, by the route's pattern; `none` where no route fits", Family::default();
    http_seconds: Timings = "histogram" "holdfast_http_request_seconds" ["route"],
        "From the head of a request to the head of its answer", timings();
    http_under_way: Gauge = "gauge" "holdfast_http_requests_under_way" [],
        "Requests whose answer has not begun", Gauge::default();
    http_bytes: Counter = "counter" "holdfast_http_response_bytes_total" [],
        "Bytes of bodies, as the heads of answers announce them", Counter::default();
    store_calls: Counts<2> = "counter" "holdfast_store_calls_total" ["call", "outcome"],
        "Calls of the store. `absent` and `exists` are answers, not failures", Family::default();
    store_seconds: Timings = "histogram" "holdfast_store_call_seconds" ["call"],
        "How long calls of the store take", timings();
    cache_reads: Counts<2> = "counter" "holdfast_cache_reads_total" ["cache", "outcome"],
        "Look-ups in memory: `rendered` documents as they are sent, `heads` of hosted packages", Family::default();
    cache_bytes: Levels = "gauge" "holdfast_cache_bytes" ["cache"],
        "What is kept in memory: `rendered` documents, `documents` of a bucket, `judgements` of the policy",
        Family::default();
    upstream_requests: Counts<2> = "counter" "holdfast_upstream_requests_total" ["upstream", "outcome"],
        "Requests to upstreams, repetitions of one counted once", Family::default();
    upstream_seconds: Timings = "histogram" "holdfast_upstream_request_seconds" ["upstream"],
        "From a request to an upstream to the head of its answer, repetitions included", timings();
    upstream_left_alone: Levels = "gauge" "holdfast_upstream_left_alone" ["upstream"],
        "1 while an upstream keeps failing and is not asked", Family::default();
    withheld: Counts<1> = "counter" "holdfast_policy_refusals_total" ["cause"],
        "Requests that the policy refused, by the code of the error", Family::default();
    rules_rejected: Level = "gauge" "holdfast_policy_rules_rejected" [],
        "1 while a rules file with mistakes lies there and the old rules are in force", Gauge::default();
    advisories_age: Level = "gauge" "holdfast_advisories_age_seconds" [],
        "The age of the advisories in force; 0 without any", Gauge::default();
    advisories_failing: Level = "gauge" "holdfast_advisories_failing" [],
        "1 while refreshing the advisories fails", Gauge::default();
    settings_rejected: Level = "gauge" "holdfast_settings_rejected" [],
        "1 while changed settings have mistakes and the old ones are in force", Gauge::default();
    sign_ins: Counts<2> = "counter" "holdfast_sign_ins_total" ["way", "outcome"],
        "Sign-ins that came to an end, by way (`password`, `web`, `workflow`) and `ok` or the code of the error",
        Family::default();
    publishes: Counts<1> = "counter" "holdfast_publishes_total" ["outcome"],
        "Publish requests: `version`, `metadata`, or the code of the error", Family::default();
    event_lag: Level = "gauge" "holdfast_event_lag_seconds" [],
        "How long the oldest event has been waiting to be delivered", Gauge::default();
    spans: Counts<1> = "counter" "holdfast_trace_spans_total" ["outcome"],
        "Spans of traces: `sent`, `refused` by the collector, or `dropped` since there was no room for them or no time",
        Family::default();
    build: Levels = "gauge" "holdfast_build_info" ["version"],
        "1, with the version that runs", Family::default();
    started: Level = "gauge" "process_start_time_seconds" [],
        "When the process started, in seconds since 1970", Gauge::default();
    resident_memory: Level = "gauge" "process_resident_memory_bytes" [],
        "Memory of the process, where the system tells it", Gauge::default();
}

fn timings() -> Timings {
    Family::new_with_constructor(|| Histogram::new(SECONDS))
}

/// All figures of an application. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    families: Arc<Families>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { families: Arc::new(Families::new()) }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Everything in the text form that [`CONTENT_TYPE`] names. Metrics with labels that were never used are not in it.
    pub fn exposition(&self) -> String {
        let mut text = String::new();
        // Writing to a text cannot fail.
        let _ = encode(&mut text, &self.families.registry);
        text
    }

    /// The figures of requests to one route.
    pub fn route(&self, route: &'static str, method: &'static str) -> RouteMeter {
        let families = &self.families;
        RouteMeter {
            route,
            method,
            families: Arc::clone(families),
            seconds: OnceLock::new(),
            by_status: Default::default(),
        }
    }

    /// A request that begins. It is under way until what this gives is dropped.
    pub fn request(&self) -> UnderWay {
        self.families.http_under_way.inc();
        UnderWay(self.families.http_under_way.clone())
    }

    /// Counts the bytes of an answer.
    pub fn sent(&self, bytes: u64) {
        self.families.http_bytes.inc_by(bytes);
    }

    /// A call of the store that came to its end.
    pub fn store_call(&self, call: &'static str, outcome: &'static str, took: Duration) {
        let families = &self.families;
        families.store_calls.get_or_create(&[("call", call.into()), ("outcome", outcome.into())]).inc();
        families.store_seconds.get_or_create(&[("call", call.into())]).observe(took.as_secs_f64());
    }

    /// The figures of look-ups in one cache.
    pub fn cache(&self, cache: &'static str) -> CacheMeter {
        let reads = |outcome: &'static str| {
            let labels = [("cache", cache.into()), ("outcome", outcome.into())];
            self.families.cache_reads.get_or_create_owned(&labels)
        };
        CacheMeter { hits: reads("hit"), misses: reads("miss") }
    }

    /// How many bytes a cache holds.
    pub fn set_cache_bytes(&self, cache: &'static str, bytes: u64) {
        self.families.cache_bytes.get_or_create(&[("cache", cache.into())]).set(exact(bytes));
    }

    /// A request to an upstream that got the head of an answer, or failed.
    pub fn upstream_request(&self, upstream: &str, outcome: &'static str, took: Duration) {
        let (families, name) = (&self.families, || ("upstream", upstream.to_owned().into()));
        families.upstream_requests.get_or_create(&[name(), ("outcome", outcome.into())]).inc();
        families.upstream_seconds.get_or_create(&[name()]).observe(took.as_secs_f64());
    }

    /// Whether an upstream is left alone for a while.
    pub fn set_upstream_left_alone(&self, upstream: &str, is_left_alone: bool) {
        let labels = [("upstream", upstream.to_owned().into())];
        self.families.upstream_left_alone.get_or_create(&labels).set(flag(is_left_alone));
    }

    /// A request that the policy refused.
    pub fn refused(&self, cause: &'static str) {
        self.families.withheld.get_or_create(&[("cause", cause.into())]).inc();
    }

    /// Whether a rules file with mistakes lies there.
    pub fn set_rules_rejected(&self, is_rejected: bool) {
        self.families.rules_rejected.set(flag(is_rejected));
    }

    /// How old the advisories in force are, and whether refreshing them fails.
    pub fn set_advisories(&self, age: Duration, is_failing: bool) {
        self.families.advisories_age.set(age.as_secs_f64());
        self.families.advisories_failing.set(flag(is_failing));
    }

    /// Whether changed settings have mistakes.
    pub fn set_settings_rejected(&self, is_rejected: bool) {
        self.families.settings_rejected.set(flag(is_rejected));
    }

    /// A sign-in that came to its end.
    pub fn sign_in(&self, way: &'static str, outcome: &'static str) {
        self.families.sign_ins.get_or_create(&[("way", way.into()), ("outcome", outcome.into())]).inc();
    }

    /// A publish request that came to its end.
    pub fn publish(&self, outcome: &'static str) {
        self.families.publishes.get_or_create(&[("outcome", outcome.into())]).inc();
    }

    /// How long the oldest event has been waiting to be delivered.
    pub fn set_event_lag(&self, lag: Duration) {
        self.families.event_lag.set(lag.as_secs_f64());
    }

    /// Spans of traces that came to their end: `sent`, `refused` or `dropped`.
    pub fn spans(&self, outcome: &'static str, count: u64) {
        if count > 0 {
            self.families.spans.get_or_create(&[("outcome", outcome.into())]).inc_by(count);
        }
    }

    /// Which version runs, and since when, in seconds since 1970.
    pub fn started(&self, version: &'static str, seconds: i64) {
        self.families.build.get_or_create(&[("version", version.into())]).set(1.0);
        self.families.started.set(exact(u64::try_from(seconds).unwrap_or_default()));
    }

    /// The memory that the process takes.
    pub fn set_resident_memory(&self, bytes: u64) {
        self.families.resident_memory.set(exact(bytes));
    }
}

/// The memory of this process in bytes; `None` where the system does not tell (only Linux does).
pub async fn resident_memory() -> Option<u64> {
    let status = tokio::fs::read_to_string("/proc/self/status").await.ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// The figures of requests to one route. What it counts with is found once, at the first request: a request must not look its
/// counter up by three texts, and a route that nobody asks is in no exposition.
pub struct RouteMeter {
    route: &'static str,
    method: &'static str,
    families: Arc<Families>,
    seconds: OnceLock<Histogram>,
    by_status: [OnceLock<Counter>; STATUSES.len()],
}

impl RouteMeter {
    /// The route's pattern.
    pub fn route(&self) -> &'static str {
        self.route
    }

    /// A request that was answered after a time.
    pub fn answered(&self, status: u16, took: Duration) {
        let at = STATUSES.iter().position(|known| *known == status).unwrap_or(STATUSES.len() - 1);
        let counter = self.by_status[at].get_or_init(|| {
            let name = if STATUSES[at] == 0 { "other".into() } else { status.to_string().into() };
            let labels = [("route", self.route.into()), ("method", self.method.into()), ("status", name)];
            self.families.http_requests.get_or_create_owned(&labels)
        });
        counter.inc();
        let seconds = || self.families.http_seconds.get_or_create_owned(&[("route", self.route.into())]);
        self.seconds.get_or_init(seconds).observe(took.as_secs_f64());
    }
}

/// A request that is under way while this lives.
pub struct UnderWay(Gauge);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The figures of look-ups in one cache. Cheap to clone.
#[derive(Debug, Clone)]
pub struct CacheMeter {
    hits: Counter,
    misses: Counter,
}

impl CacheMeter {
    /// A look-up that found what it wanted, or did not.
    pub fn read(&self, is_hit: bool) {
        if is_hit {
            self.hits.inc()
        } else {
            self.misses.inc()
        };
    }
}

fn flag(is_set: bool) -> f64 {
    if is_set { 1.0 } else { 0.0 }
}

/// A number of bytes or seconds: exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "nothing that is measured here is as large")]
fn exact(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_in_the_exposition() {
        let metrics = Metrics::default();
        let route = metrics.route("/{package}", "GET");
        route.answered(200, Duration::from_millis(3));
        metrics.route("/{package}", "GET").answered(200, Duration::from_millis(3));
        route.answered(299, Duration::from_secs(100));
        let under_way = metrics.request();
        metrics.cache("rendered").read(true);
        metrics.set_resident_memory(7 << 20);
        let text = metrics.exposition();
        for line in [
            "holdfast_http_requests_total{route=\"/{package}\",method=\"GET\",status=\"200\"} 2",
            "holdfast_http_requests_total{route=\"/{package}\",method=\"GET\",status=\"other\"} 1",
            "holdfast_http_request_seconds_bucket{le=\"0.005\",route=\"/{package}\"} 2",
            "holdfast_http_request_seconds_count{route=\"/{package}\"} 3",
            "holdfast_http_requests_under_way 1",
            "holdfast_cache_reads_total{cache=\"rendered\",outcome=\"hit\"} 1",
            "process_resident_memory_bytes 7340032.0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in:\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        drop(under_way);
        assert!(metrics.exposition().contains("\nholdfast_http_requests_under_way 0\n"));
    }

    #[test]
    fn the_table_names_what_is_exposed() {
        let metrics = Metrics::default();
        metrics.route("/", "GET").answered(200, Duration::ZERO);
        metrics.store_call("read", "ok", Duration::ZERO);
        metrics.cache("heads");
        metrics.set_cache_bytes("rendered", 1);
        metrics.upstream_request("default", "ok", Duration::ZERO);
        metrics.set_upstream_left_alone("default", true);
        metrics.refused("held");
        metrics.sign_in("password", "ok");
        metrics.publish("version");
        metrics.spans("sent", 1);
        metrics.started("0.1.0", 1);
        let text = metrics.exposition();
        for info in METRICS {
            let name = if info.kind == "histogram" { format!("{}_bucket", info.name) } else { info.name.to_owned() };
            let line =
                text.lines().find(|line| line.strip_prefix(&name).is_some_and(|rest| rest.starts_with(['{', ' '])));
            let line = line.unwrap_or_else(|| panic!("{name} is missing in:\n{text}"));
            assert!(info.labels.iter().all(|label| line.contains(&format!("{label}=\""))), "{line}");
            let kind = format!("# TYPE {} {}\n", info.name.trim_end_matches("_total"), info.kind);
            assert!(text.contains(&kind), "{kind} is missing in:\n{text}");
        }
    }
}
