//! An event of a front end, as a request.
//!
//! Three forms come in: 2.0 (function URLs and HTTP APIs), 1.0 (REST APIs, and HTTP APIs where it is chosen), and that of load
//! balancers. What each makes of the path and the query, from AWS's documentation and from events that users have shown:
//!
//! | front end | path | query | stage in the path |
//! | --- | --- | --- | --- |
//! | function URL | as it was sent | as it was sent | there is none |
//! | HTTP API, 2.0 | decoded: `/@scope%2fname` comes as `/@scope/name` | as it was sent | yes, unless it is `$default` |
//! | HTTP API, 1.0 | decoded | decoded | yes, unless it is `$default` |
//! | REST API | as it was sent | decoded | not in `path`, but in `requestContext.path` |
//! | load balancer | as it was sent | as it was sent, in pieces | there is none |
//!
//! Both spellings of a scoped name are one to the router (`http/path.rs`). A path that was decoded is encoded again where it
//! could not stand in a URI otherwise.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::COOKIE;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use serde::Deserialize;
use url::form_urlencoded;

use super::Form;
use crate::http::FrontEnd;

/// An event, with what any of the front ends puts into it and we look at.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Event {
    request_context: Option<Context>,
    headers: Option<BTreeMap<String, String>>,
    body: Option<String>,
    #[serde(default)]
    is_base64_encoded: bool,
    path_parameters: Option<BTreeMap<String, String>>,
    // Of 2.0.
    raw_path: Option<String>,
    raw_query_string: Option<String>,
    /// Such as `ANY /{proxy+}`.
    route_key: Option<String>,
    cookies: Option<Vec<String>>,
    // Of 1.0 and load balancers.
    http_method: Option<String>,
    path: Option<String>,
    /// Such as `/{proxy+}`.
    resource: Option<String>,
    multi_value_headers: Option<BTreeMap<String, Vec<String>>>,
    query_string_parameters: Option<BTreeMap<String, String>>,
    multi_value_query_string_parameters: Option<BTreeMap<String, Vec<String>>>,
    // Of a schedule.
    #[serde(rename = "detail-type")]
    detail_type: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Context {
    domain_name: Option<String>,
    /// The first label of the domain: the API's id, where the domain is API Gateway's own.
    domain_prefix: Option<String>,
    api_id: Option<String>,
    stage: Option<String>,
    /// The path as the client sent it, of 1.0.
    path: Option<String>,
    /// Of 2.0.
    http: Option<HttpContext>,
    /// Of 1.0.
    identity: Option<Identity>,
    /// Of load balancers.
    elb: Option<serde::de::IgnoredAny>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HttpContext {
    method: String,
    source_ip: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Identity {
    source_ip: Option<String>,
}

/// Why an event is no request. Told to whoever invoked the function, and logged by Lambda.
#[derive(Debug, thiserror::Error)]
pub(super) enum EventError {
    /// It is of another service.
    #[error(
        "this function answers requests of a function URL, API Gateway or an Application Load Balancer, and scheduled events of EventBridge; this event is of neither"
    )]
    Unknown,
    /// Its method is none.
    #[error("the event's method is none")]
    Method,
    /// Its body is not what it says.
    #[error("the event's body is not base64")]
    Body,
    /// Its path cannot be one.
    #[error("the event's path cannot stand in an address")]
    Path,
}

impl Event {
    /// Whether a schedule of AWS's calls for upkeep.
    pub(super) fn is_scheduled(&self) -> bool {
        self.detail_type.as_deref() == Some("Scheduled Event")
    }

    /// The request, with the [`FrontEnd`] among its extensions, and the form of its answer.
    pub(super) fn into_request(mut self) -> Result<(Request<Body>, Form), EventError> {
        let context = self.request_context.take().ok_or(EventError::Unknown)?;
        let form = match (&context.http, &context.elb, &self.http_method) {
            (Some(_), _, _) => Form::Two,
            (None, Some(_), Some(_)) => Form::Balancer { is_multi_value: self.multi_value_headers.is_some() },
            (None, None, Some(_)) => Form::One,
            (None, _, None) => return Err(EventError::Unknown),
        };
        let method = context.http.as_ref().map(|http| &http.method).or(self.http_method.as_ref());
        let method = method.and_then(|method| method.parse::<Method>().ok()).ok_or(EventError::Method)?;
        let (prefix, path) = self.split(&context, form);
        let mut target = encoded(&path, "");
        if let Some(query) = self.query(form) {
            // Writing to a string cannot fail.
            let _ = write!(target, "?{}", encoded(&query, "?"));
        }
        let target = PathAndQuery::try_from(target).map_err(|_| EventError::Path)?;
        let headers = self.take_headers();
        let front = front_end(&context, form, &headers, prefix);
        let body = match self.body {
            Some(text) if self.is_base64_encoded => STANDARD.decode(text).map_err(|_| EventError::Body)?,
            Some(text) => text.into_bytes(),
            None => Vec::new(),
        };
        let mut request = Request::new(Body::from(body));
        *request.method_mut() = method;
        *request.uri_mut() = Uri::from(target);
        *request.headers_mut() = headers;
        request.extensions_mut().insert(front);
        Ok((request, form))
    }

    /// What stands before our path in the client's address (a stage, a path that a custom domain maps here, the fixed part of a
    /// route), and our path.
    fn split(&self, context: &Context, form: Form) -> (String, String) {
        let path = match form {
            Form::Two => self.raw_path.as_deref(),
            Form::One | Form::Balancer { .. } => self.path.as_deref(),
        };
        let path = path.filter(|path| path.starts_with('/')).unwrap_or("/");
        let route = match form {
            Form::Two => self.route_key.as_deref().and_then(|key| key.split_once(' ')).map(|(_, route)| route),
            Form::One => self.resource.as_deref().filter(|resource| resource.starts_with('/')),
            Form::Balancer { .. } => return (String::new(), path.to_owned()),
        };
        let stage = context.stage.as_deref().filter(|stage| *stage != "$default").map(|stage| format!("/{stage}"));
        let own = route.and_then(|route| self.below_route(path, route)).unwrap_or_else(|| {
            let without_stage = stage.as_deref().and_then(|stage| path.strip_prefix(stage));
            match without_stage {
                Some("") => "/",
                Some(rest) if rest.starts_with('/') => rest,
                _ => path,
            }
        });
        let seen = context.path.as_deref().unwrap_or(path);
        let mut prefix =
            seen.trim_end_matches('/').strip_suffix(own.trim_end_matches('/')).unwrap_or("").trim_end_matches('/');
        // 2.0 shows the stage whatever the domain; clients have it in their address on API Gateway's own only.
        if form == Form::Two && context.domain_prefix != context.api_id {
            prefix = stage.as_deref().and_then(|stage| prefix.strip_prefix(stage)).unwrap_or(prefix);
        }
        (prefix.to_owned(), own.to_owned())
    }

    /// Our part of a path that came by a route such as `/registry/{proxy+}` or `/registry/-/ping`: what stands for the route from
    /// its first parameter or `-` on. Everything before that is where the registry was put.
    fn below_route<'a>(&self, path: &'a str, route: &str) -> Option<&'a str> {
        let path = path.trim_end_matches('/');
        let own = route.split('/').filter(|segment| !segment.is_empty());
        let mut own: Vec<&str> = own.skip_while(|segment| !segment.starts_with('{') && *segment != "-").collect();
        let greedy = own.last().and_then(|last| last.strip_prefix('{')?.strip_suffix("+}"));
        if greedy.is_some() {
            own.pop();
        }
        let end = match greedy {
            Some(name) => {
                let rest = self.path_parameters.as_ref()?.get(name)?.trim_end_matches('/');
                path.strip_suffix(rest)?.strip_suffix('/')?.len()
            }
            None => path.len(),
        };
        let start = match own.len() {
            0 => end,
            segments => path[..end].rmatch_indices('/').nth(segments - 1)?.0,
        };
        Some(if path[start..].is_empty() { "/" } else { &path[start..] })
    }

    /// The query as it stands in an address.
    fn query(&self, form: Form) -> Option<String> {
        let raw = self.raw_query_string.clone();
        let pairs = || -> Vec<(&str, &str)> {
            let single = self.query_string_parameters.iter().flatten().map(|(name, value)| (&**name, &**value));
            match &self.multi_value_query_string_parameters {
                Some(many) if !many.is_empty() => {
                    many.iter().flat_map(|(name, values)| values.iter().map(move |value| (&**name, &**value))).collect()
                }
                _ => single.collect(),
            }
        };
        let query = match form {
            Form::Two => raw?,
            Form::One => form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs()).finish(),
            Form::Balancer { .. } => {
                pairs().iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
            }
        };
        Some(query).filter(|query| !query.is_empty())
    }

    fn take_headers(&mut self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut add = |name: &str, value: &str| {
            // What came over HTTP has such names and values only.
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                headers.append(name, value);
            }
        };
        let many = self.multi_value_headers.take().filter(|many| !many.is_empty());
        match &many {
            Some(many) => many.iter().for_each(|(name, values)| values.iter().for_each(|value| add(name, value))),
            None => self.headers.iter().flatten().for_each(|(name, value)| add(name, value)),
        }
        if let Some(Ok(cookies)) = self.cookies.take().map(|cookies| HeaderValue::try_from(cookies.join("; "))) {
            headers.insert(COOKIE, cookies);
        }
        headers
    }
}

/// Where the request came from, by what its front end says of it: of API Gateway and function URLs the context, which no
/// client can write; of a load balancer the last entry of the header that it writes at the end of.
fn front_end(context: &Context, form: Form, headers: &HeaderMap, prefix: String) -> FrontEnd {
    let last = |name: &str| {
        let value = headers.get_all(name).iter().next_back()?.to_str().ok()?;
        value.rsplit(',').next().map(str::trim)
    };
    let client = match form {
        Form::Two => context.http.as_ref().and_then(|http| http.source_ip.as_deref()),
        Form::One => context.identity.as_ref().and_then(|identity| identity.source_ip.as_deref()),
        Form::Balancer { .. } => last("x-forwarded-for"),
    };
    FrontEnd {
        host: context.domain_name.clone(),
        prefix,
        is_encrypted: last("x-forwarded-proto") != Some("http"),
        client: client.and_then(|client| client.parse::<IpAddr>().ok()),
    }
}

/// A text as it may stand in an address: what is encoded stays as it is, what cannot stand there is encoded.
fn encoded(text: &str, also: &str) -> String {
    let bytes = text.as_bytes();
    let mut output = String::with_capacity(bytes.len());
    for (at, byte) in bytes.iter().enumerate() {
        let is_escape = || bytes.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let stays = match byte {
            b'%' => is_escape(),
            byte => {
                byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(byte) || also.as_bytes().contains(byte)
            }
        };
        if stays {
            output.push(char::from(*byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(output, "%{byte:02X}");
        }
    }
    output
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn request(event: Value) -> (Request<Body>, Form) {
        serde_json::from_value::<Event>(event).unwrap().into_request().unwrap()
    }

    /// What a front end's event comes to: our address, and what stands before it.
    fn address(event: Value) -> (String, String) {
        let (request, _) = request(event);
        (request.uri().to_string(), request.extensions().get::<FrontEnd>().unwrap().prefix.clone())
    }

    fn two(path: &str, route: &str, stage: &str, domain: &str) -> Value {
        json!({
            "version": "2.0", "routeKey": route, "rawPath": path, "rawQueryString": "write=true&x=%2F",
            "cookies": ["a=1", "b=2"],
            "headers": { "x-forwarded-proto": "https", "x-forwarded-for": "203.0.113.9, 198.51.100.7", "accept": "a, b" },
            "requestContext": {
                "apiId": "abc", "domainPrefix": domain, "domainName": format!("{domain}.example"), "stage": stage,
                "http": { "method": "GET", "path": path, "sourceIp": "198.51.100.7" },
            },
        })
    }

    fn one(path: &str, seen: &str, resource: &str, proxy: Option<&str>) -> Value {
        json!({
            "resource": resource, "path": path, "httpMethod": "GET",
            "headers": { "Accept": "b" }, "multiValueHeaders": { "Accept": ["a", "b"] },
            "queryStringParameters": null, "multiValueQueryStringParameters": { "text": ["a b&c"], "k": ["1", "2"] },
            "pathParameters": proxy.map(|proxy| json!({ "proxy": proxy })),
            "requestContext": {
                "stage": "prod", "path": seen, "domainName": "abc.execute-api.example",
                "identity": { "sourceIp": "198.51.100.7" },
            },
            "body": "aGVsbG8=", "isBase64Encoded": true,
        })
    }

    #[test]
    fn a_function_url_shows_the_path_as_it_was_sent() {
        let (request, form) = request(two("/@scope%2fname", "$default", "$default", "abc"));
        assert_eq!(form, Form::Two);
        assert_eq!(request.uri(), "/@scope%2fname?write=true&x=%2F");
        assert_eq!(request.headers()["cookie"], "a=1; b=2");
        let front = request.extensions().get::<FrontEnd>().unwrap();
        assert_eq!((front.host.as_deref(), &*front.prefix), (Some("abc.example"), ""));
        assert_eq!(front.client, Some("198.51.100.7".parse().unwrap()));
        assert!(front.is_encrypted);
    }

    #[test]
    fn the_stage_is_no_part_of_our_path_and_is_in_the_clients_address_on_the_gateways_domain() {
        let seen = |path, route, stage, domain| {
            let (address, prefix) = address(two(path, route, stage, domain));
            (address.split('?').next().unwrap().to_owned(), prefix)
        };
        let is = |path: &str, prefix: &str| (path.to_owned(), prefix.to_owned());
        assert_eq!(seen("/@scope/name", "$default", "$default", "abc"), is("/@scope/name", ""));
        assert_eq!(seen("/prod/@scope/name", "$default", "prod", "abc"), is("/@scope/name", "/prod"));
        assert_eq!(seen("/prod", "$default", "prod", "abc"), is("/", "/prod"));
        assert_eq!(seen("/prod/prod", "$default", "prod", "abc"), is("/prod", "/prod"));
        assert_eq!(seen("/production", "$default", "prod", "abc"), is("/production", ""));
        assert_eq!(seen("/prod/name", "$default", "prod", "npm"), is("/name", ""));
        assert_eq!(seen("/name", "$default", "prod", "npm"), is("/name", ""));
    }

    #[test]
    fn what_a_route_or_a_custom_domain_puts_before_our_path_is_found() {
        let seen = |path: &str, seen: &str, resource: &str, proxy: Option<&str>| {
            let (address, prefix) = address(one(path, seen, resource, proxy));
            (address.split('?').next().unwrap().to_owned(), prefix)
        };
        let is = |path: &str, prefix: &str| (path.to_owned(), prefix.to_owned());
        // API Gateway's own domain: `path` is without the stage.
        assert_eq!(seen("/@s%2fname", "/prod/@s%2fname", "/{proxy+}", Some("@s%2fname")), is("/@s%2fname", "/prod"));
        assert_eq!(seen("/", "/prod/", "/", None), is("/", "/prod"));
        assert_eq!(seen("/name/", "/prod/name/", "/{proxy+}", Some("name")), is("/name", "/prod"));
        // A custom domain that maps `/npm` here.
        assert_eq!(seen("/npm/name", "/npm/name", "/{proxy+}", Some("name")), is("/name", "/npm"));
        assert_eq!(seen("/npm", "/npm", "/", None), is("/", "/npm"));
        // Routes with a fixed part.
        for (below, route, proxy) in [
            ("/name", "/registry/{proxy+}", Some("name")),
            ("/", "/registry", None),
            ("/-/v1/search", "/registry/-/{proxy+}", Some("v1/search")),
            // As the older system has them.
            ("/@s%2fname", "/registry/{name}", None),
            ("/name/-/name-1.0.0.tgz", "/registry/{name}/-/{tar}", None),
            ("/-/package/name/dist-tags", "/registry/-/package/{name}/dist-tags", None),
            ("/-/whoami", "/registry/-/whoami", None),
        ] {
            let path = format!("/registry{below}");
            assert_eq!(seen(&path, &format!("/prod{path}"), route, proxy), is(below, "/prod/registry"), "{route}");
        }
    }

    #[test]
    fn an_http_api_may_use_the_older_form() {
        let seen = |stage: &str, path: &str| {
            let mut event = one(path, path, "$default", None);
            event["requestContext"]["stage"] = json!(stage);
            let (address, prefix) = address(event);
            (address.split('?').next().unwrap().to_owned(), prefix)
        };
        assert_eq!(seen("$default", "/@s/name"), ("/@s/name".to_owned(), String::new()));
        assert_eq!(seen("prod", "/prod/@s/name"), ("/@s/name".to_owned(), "/prod".to_owned()));
    }

    #[test]
    fn the_form_of_rest_apis_is_put_together() {
        let (request, form) = request(one("/-/v1/search", "/prod/-/v1/search", "/{proxy+}", Some("-/v1/search")));
        assert_eq!(form, Form::One);
        assert_eq!(request.uri(), "/-/v1/search?k=1&k=2&text=a+b%26c");
        let accepted: Vec<_> = request.headers().get_all("accept").iter().collect();
        assert_eq!(accepted, ["a", "b"]);
        assert_eq!(request.extensions().get::<FrontEnd>().unwrap().client, Some("198.51.100.7".parse().unwrap()));
    }

    #[tokio::test]
    async fn bodies_are_bytes() {
        for (body, is_base64, expected) in [("aGVsbG8=", true, &b"hello"[..]), ("{\"a\":1}", false, &b"{\"a\":1}"[..])]
        {
            let mut event = one("/x", "/prod/x", "/{proxy+}", Some("x"));
            event["body"] = json!(body);
            event["isBase64Encoded"] = json!(is_base64);
            let (request, _) = request(event);
            assert_eq!(axum::body::to_bytes(request.into_body(), 100).await.unwrap(), expected);
        }
        let mut event = one("/x", "/prod/x", "/{proxy+}", Some("x"));
        event["body"] = json!("?");
        let refused = serde_json::from_value::<Event>(event).unwrap().into_request();
        assert!(matches!(refused, Err(EventError::Body)));
    }

    #[test]
    fn a_load_balancer_is_believed_in_its_last_word_only() {
        let (request, form) = request(json!({
            "requestContext": { "elb": { "targetGroupArn": "arn" } },
            "httpMethod": "GET", "path": "/@scope%2Fname",
            "queryStringParameters": { "text": "a%20b%26c", "size": "" },
            "headers": { "host": "npm.example:8443", "x-forwarded-for": "203.0.113.9, 198.51.100.7", "x-forwarded-proto": "http" },
            "body": "", "isBase64Encoded": false,
        }));
        assert_eq!(form, Form::Balancer { is_multi_value: false });
        assert_eq!(request.uri(), "/@scope%2Fname?size=&text=a%20b%26c");
        let front = request.extensions().get::<FrontEnd>().unwrap();
        assert_eq!(front.client, Some("198.51.100.7".parse().unwrap()));
        assert!(!front.is_encrypted && front.host.is_none());
    }

    #[test]
    fn what_was_decoded_is_encoded_again() {
        for (path, expected) in [
            ("/a b", "/a%20b"),
            ("/100%", "/100%25"),
            ("/%zz", "/%25zz"),
            ("/ä?#", "/%C3%A4%3F%23"),
            ("/@s%2fn/-/n-1.0.0+b.tgz", "/@s%2fn/-/n-1.0.0+b.tgz"),
        ] {
            assert_eq!(encoded(path, ""), expected);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_path_route_or_parameter_is_too_odd(
            path in "(/[-a@{}+%/é ]{0,12})?", seen in "[-a@/é]{0,12}", route in "[-a/{}+é]{0,12}", proxy in "[-a@/é]{0,8}",
        ) {
            let (of_one, _) = request(one(&path, &seen, &route, Some(&proxy)));
            proptest::prop_assert!(of_one.uri().path().starts_with('/'));
            let (of_two, _) = request(two(&path, &format!("ANY {route}"), &seen, "abc"));
            proptest::prop_assert!(of_two.uri().path().starts_with('/'));
        }
    }

    #[test]
    fn other_events_are_no_requests() {
        for event in [json!({}), json!({ "Records": [] }), json!({ "requestContext": { "stage": "x" } })] {
            let event: Event = serde_json::from_value(event).unwrap();
            assert!(!event.is_scheduled());
            assert!(matches!(event.into_request(), Err(EventError::Unknown)));
        }
        let tick = json!({ "version": "0", "source": "aws.events", "detail-type": "Scheduled Event", "detail": {} });
        assert!(serde_json::from_value::<Event>(tick).unwrap().is_scheduled());
    }
}
