//! Where traces are sent, and what of.

use http::{HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use url::Url;

/// Pairs in one setting: more than anybody has, and few enough to be sent with every batch.
const MAX_PAIRS: usize = 64;
/// The attribute by which a service is known.
pub(super) const SERVICE_NAME: &str = "service.name";
const EXPECTED: &str = "must be `name=value` pairs with commas between them, values percent-encoded where they need it";

/// Where traces are sent, and what of.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The whole address that takes OTLP over HTTP.
    pub endpoint: Url,
    /// Sent with each batch; most are secrets, and all are marked as such.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// How much of the traces that begin here is recorded, from 0 to 1.
    pub ratio: f64,
    /// What this service is called.
    pub service_name: String,
    /// What else is told of it.
    pub attributes: Vec<(String, String)>,
}

/// Reads pairs as `OTEL_RESOURCE_ATTRIBUTES` has them.
///
/// # Errors
/// What was expected. Never what was there.
pub fn pairs(text: &str) -> Result<Vec<(String, String)>, &'static str> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let pair = |part: &str| {
        let (name, value) = part.split_once('=')?;
        let (name, value) = (name.trim(), percent_decode_str(value.trim()).decode_utf8().ok()?);
        (!name.is_empty()).then(|| (name.to_owned(), value.into_owned()))
    };
    let pairs: Option<Vec<_>> = parts.take(MAX_PAIRS + 1).map(pair).collect();
    match pairs {
        Some(pairs) if pairs.len() > MAX_PAIRS => Err("must have at most 64 pairs"),
        Some(pairs) => Ok(pairs),
        None => Err(EXPECTED),
    }
}

/// Reads headers as `OTEL_EXPORTER_OTLP_HEADERS` has them.
///
/// # Errors
/// What was expected. Never what was there: most of it is secret.
pub fn headers(text: &str) -> Result<Vec<(HeaderName, HeaderValue)>, &'static str> {
    let header = |(name, value): (String, String)| {
        let mut value = HeaderValue::try_from(value).ok()?;
        value.set_sensitive(true);
        Some((HeaderName::try_from(name).ok()?, value))
    };
    let headers: Option<Vec<_>> = pairs(text)?.into_iter().map(header).collect();
    headers.ok_or("must have names and values that a header of HTTP can have")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_as_the_standard_variables_have_them() {
        let read = |text| pairs(text).unwrap();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(read(""), []);
        assert_eq!(read("a=1, b = two%20words ,"), [pair("a", "1"), pair("b", "two words")]);
        assert_eq!(read("authorization=Basic%20abc=="), [pair("authorization", "Basic abc==")]);
        for wrong in ["a", "=1", "a=%ff", "a=1,b"] {
            assert_eq!(pairs(wrong), Err(EXPECTED), "{wrong}");
        }
        assert!(pairs(&"a=1,".repeat(65)).is_err());
    }

    #[test]
    fn headers_are_never_shown() {
        let read = headers("authorization=Bearer%20canary-of-a-header,x-team=7").unwrap();
        assert_eq!(read[0].1, "Bearer canary-of-a-header");
        assert!(!format!("{read:?}").contains("canary"));
        for wrong in ["in valid=canary", "a=canary%0aline"] {
            assert!(!headers(wrong).unwrap_err().contains("canary"), "{wrong}");
        }
    }
}
