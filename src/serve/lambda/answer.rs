//! An answer, as the front end wants it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, SET_COOKIE};
use http::response::Parts;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::Form;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    status_code: u16,
    /// Load balancers want it.
    #[serde(skip_serializing_if = "Option::is_none")]
    status_description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<BTreeMap<&'a str, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    multi_value_headers: Option<BTreeMap<&'a str, Vec<Cow<'a, str>>>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cookies: Vec<Cow<'a, str>>,
    body: Cow<'a, str>,
    is_base64_encoded: bool,
}

/// The answer as JSON; `None` when it is larger than what is carried.
///
/// A text goes as it is: a REST API gives base64 to clients undecoded unless its binary media types are set.
pub(super) fn answer(form: Form, head: &Parts, body: &[u8]) -> Option<Box<RawValue>> {
    if body.len() > form.most_bytes() {
        return None;
    }
    let (body, is_base64_encoded) = match text(&head.headers, body) {
        Some(text) => (Cow::Borrowed(text), false),
        None => (Cow::Owned(STANDARD.encode(body)), true),
    };
    let mut answer = Answer {
        status_code: head.status.as_u16(),
        status_description: None,
        headers: None,
        multi_value_headers: None,
        cookies: Vec::new(),
        body,
        is_base64_encoded,
    };
    match form {
        Form::Two => {
            answer.headers = Some(joined(&head.headers));
            answer.cookies = head.headers.get_all(SET_COOKIE).iter().map(word).collect();
        }
        Form::One => answer.multi_value_headers = Some(listed(&head.headers)),
        Form::Balancer { is_multi_value } => {
            let reason = head.status.canonical_reason().unwrap_or_default();
            answer.status_description = Some(format!("{} {reason}", head.status.as_u16()));
            if is_multi_value {
                answer.multi_value_headers = Some(listed(&head.headers));
            } else {
                let mut headers = joined(&head.headers);
                // There is room for one. No answer of ours has more.
                headers
                    .extend(head.headers.get(SET_COOKIE).map(|value| (SET_COOKIE.as_str(), word(value).into_owned())));
                answer.headers = Some(headers);
            }
        }
    }
    // Only maps with keys that are no texts cannot be written, and here is none.
    to_raw_value(&answer).ok().filter(|json| json.get().len() <= form.most_bytes())
}

/// The body as text, where it is one.
fn text<'a>(headers: &HeaderMap, body: &'a [u8]) -> Option<&'a str> {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let is_text = body.is_empty() || kind.starts_with("text/") || kind.contains("json");
    if is_text && !headers.contains_key(CONTENT_ENCODING) { std::str::from_utf8(body).ok() } else { None }
}

fn word(value: &http::HeaderValue) -> Cow<'_, str> {
    String::from_utf8_lossy(value.as_bytes())
}

/// Each header once, its values with commas between them; cookies, of which that cannot be said, are left out.
fn joined(headers: &HeaderMap) -> BTreeMap<&str, String> {
    let names = headers.keys().filter(|name| **name != SET_COOKIE);
    names.map(|name| (name.as_str(), headers.get_all(name).iter().map(word).collect::<Vec<_>>().join(", "))).collect()
}

fn listed(headers: &HeaderMap) -> BTreeMap<&str, Vec<Cow<'_, str>>> {
    headers.keys().map(|name| (name.as_str(), headers.get_all(name).iter().map(word).collect())).collect()
}

#[cfg(test)]
mod tests {
    use http::Response;
    use serde_json::{Value, json};

    use super::*;

    fn json_of(form: Form, headers: &[(&str, &str)], body: &[u8]) -> Value {
        let mut response = Response::builder().status(201);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        let (head, ()) = response.body(()).unwrap().into_parts();
        serde_json::from_str(answer(form, &head, body).unwrap().get()).unwrap()
    }

    #[test]
    fn each_front_end_gets_headers_in_its_form() {
        let headers = [
            ("content-type", "application/json"),
            ("vary", "a"),
            ("vary", "b"),
            ("set-cookie", "c=1"),
            ("set-cookie", "d=2"),
        ];
        let two = json_of(Form::Two, &headers, b"{}");
        assert_eq!(
            two,
            json!({
                "statusCode": 201, "headers": { "content-type": "application/json", "vary": "a, b" },
                "cookies": ["c=1", "d=2"], "body": "{}", "isBase64Encoded": false,
            })
        );
        let one = json_of(Form::One, &headers, b"{}");
        assert_eq!(one["multiValueHeaders"]["set-cookie"], json!(["c=1", "d=2"]));
        assert!(one.get("headers").is_none());
        let single = json_of(Form::Balancer { is_multi_value: false }, &headers, b"{}");
        assert_eq!(single["statusDescription"], "201 Created");
        assert_eq!(single["headers"]["set-cookie"], "c=1");
        let multi = json_of(Form::Balancer { is_multi_value: true }, &headers, b"{}");
        assert_eq!(multi["multiValueHeaders"]["vary"], json!(["a", "b"]));
    }

    #[test]
    fn only_what_is_text_goes_as_text() {
        for (headers, body, is_base64) in [
            (&[("content-type", "application/vnd.npm.install-v1+json")][..], &b"{}"[..], false),
            (&[("content-type", "text/html; charset=utf-8")], b"<p>", false),
            (&[], b"", false),
            (&[("content-type", "application/json"), ("content-encoding", "gzip")], b"\x1f\x8b", true),
            (&[("content-type", "application/octet-stream")], b"text", true),
            (&[("content-type", "application/json")], b"\xff", true),
        ] {
            let json = json_of(Form::Two, headers, body);
            assert_eq!(json["isBase64Encoded"], is_base64, "{headers:?}");
            let carried = json["body"].as_str().unwrap();
            let carried = if is_base64 { STANDARD.decode(carried).unwrap() } else { carried.as_bytes().to_vec() };
            assert_eq!(carried, body);
        }
    }

    #[test]
    fn what_is_larger_than_is_carried_is_no_answer() {
        let (head, ()) = Response::new(()).into_parts();
        let body = vec![0; 4_700_000];
        assert!(answer(Form::Two, &head, &body).is_some());
        assert!(answer(Form::Two, &head, &vec![0; 4_800_000]).is_none());
        assert!(answer(Form::Balancer { is_multi_value: true }, &head, &body).is_none());
    }
}
