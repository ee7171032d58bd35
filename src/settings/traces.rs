//! Traces in the making, and the variables that every program of OpenTelemetry's goes by.

use toml::Value;
use url::Url;

use super::keys::{endpoint_url, text};
use super::layers::{Layer, Origin};
use crate::traces::{self, headers, pairs};

/// The base address of a collector, behind which the signal's path goes, and the whole address for traces.
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const TRACES_PATH: &str = "v1/traces";
/// What is spoken, which is the specification's own default too.
const PROTOCOL: &str = "http/protobuf";
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";

/// `[traces]` before it is known whether there is an address.
#[derive(Debug, Default)]
pub(super) struct TracesDraft {
    endpoint: Option<Url>,
    headers: Vec<(http::HeaderName, http::HeaderValue)>,
    ratio: Option<f64>,
    service_name: Option<String>,
    attributes: Vec<(String, String)>,
}

impl TracesDraft {
    /// An empty one turns traces off.
    pub(super) fn set_endpoint(&mut self, value: &Value) -> Result<(), String> {
        self.endpoint = if value.as_str() == Some("") { None } else { Some(endpoint_url(value)?) };
        Ok(())
    }

    pub(super) fn set_headers(&mut self, value: &Value) -> Result<(), String> {
        self.headers = headers(&joined(value)?)?;
        Ok(())
    }

    pub(super) fn set_ratio(&mut self, value: &Value) -> Result<(), String> {
        let ratio = match value {
            Value::Float(ratio) => Some(*ratio),
            // The rest of the whole numbers are none.
            Value::Integer(0) => Some(0.0),
            Value::Integer(1) => Some(1.0),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        let ratio = ratio.filter(|ratio| (0.0..=1.0).contains(ratio));
        self.ratio = Some(ratio.ok_or("must be a number from 0 to 1, such as `0.1`")?);
        Ok(())
    }

    pub(super) fn set_service_name(&mut self, value: &Value) -> Result<(), String> {
        self.service_name = Some(text(value)?);
        Ok(())
    }

    pub(super) fn set_attributes(&mut self, value: &Value) -> Result<(), String> {
        self.attributes = pairs(&joined(value)?)?;
        Ok(())
    }

    /// Nothing without an address.
    pub(super) fn finish(self) -> Option<traces::Settings> {
        let named = || self.attributes.iter().find(|(name, _)| name == "service.name").map(|(_, value)| value.clone());
        Some(traces::Settings {
            service_name: self.service_name.clone().or_else(named).unwrap_or_else(|| "holdfast".to_owned()),
            endpoint: self.endpoint?,
            headers: self.headers,
            ratio: self.ratio.unwrap_or(1.0),
            attributes: self.attributes,
        })
    }
}

/// A text with commas, or an array of texts. No mistake tells what stood there.
fn joined(value: &Value) -> Result<String, String> {
    let Value::Array(items) = value else { return text(value) };
    Ok(items.iter().map(text).collect::<Result<Vec<_>, _>>()?.join(","))
}

/// The settings that OpenTelemetry's own variables stand for. None where they turn it off, or want another protocol: they
/// are set for many programs at once, and must not keep this one from starting.
pub(super) fn layer(environment: &[(String, String)]) -> Option<Layer> {
    let value = |name: &str| {
        let found = environment.iter().find(|(found, value)| found == name && !value.trim().is_empty());
        found.map(|(_, value)| value.trim())
    };
    let either = |names: [&'static str; 2]| names.into_iter().find_map(|name| value(name).map(|found| (name, found)));
    let is_disabled = value("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let exports = value("OTEL_TRACES_EXPORTER").is_none_or(|exporter| exporter == "otlp");
    let protocol = either(["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"]);
    let speaks = protocol.is_none_or(|(_, protocol)| protocol == PROTOCOL);
    if is_disabled || !exports || !speaks {
        return None;
    }
    let mut values = Vec::new();
    let mut set = |key, name: &str, value: &str| {
        values.push((key, value.to_owned(), Origin::Environment(name.to_owned())));
    };
    if let Some(url) = value(TRACES_ENDPOINT) {
        set("traces.otlp_endpoint", TRACES_ENDPOINT, url);
    } else if let Some(base) = value(ENDPOINT) {
        set("traces.otlp_endpoint", ENDPOINT, &format!("{}/{TRACES_PATH}", base.trim_end_matches('/')));
    }
    if let Some((name, headers)) = either(["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"]) {
        set("traces.headers", name, headers);
    }
    for (name, key) in [("OTEL_SERVICE_NAME", "traces.service_name"), ("OTEL_RESOURCE_ATTRIBUTES", "traces.attributes")]
    {
        if let Some(value) = value(name) {
            set(key, name, value);
        }
    }
    match value(SAMPLER) {
        Some("always_off" | "parentbased_always_off") => set("traces.ratio", SAMPLER, "0"),
        Some("traceidratio" | "parentbased_traceidratio") => {
            if let Some(ratio) = value("OTEL_TRACES_SAMPLER_ARG") {
                set("traces.ratio", "OTEL_TRACES_SAMPLER_ARG", ratio);
            }
        }
        // All of them, which is the default.
        _ => {}
    }
    Some(Layer::of(values))
}
