//! AWS Lambda, as far as the program can see it: the Runtime API, which the real program polls, and in front of it what turns
//! real HTTP requests into the events of a function URL, API Gateway or a load balancer, and answers back.
//!
//! As on AWS one process has one request at a time and stands still between two: it is stopped (SIGSTOP) while it waits for
//! an event. Sizes are limited as there.

use std::collections::{BTreeMap, HashMap};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, Response, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};
use url::form_urlencoded;

use super::PATIENCE;
use super::http::Http;
use super::loopback::Loopback;
use super::server::{Log, follow, program, signal};

/// What Lambda takes and gives, in bytes of JSON.
const MOST_BYTES: usize = 6_291_556;
/// What a load balancer takes as a body and gives as JSON.
const MOST_BALANCER_BYTES: usize = 1 << 20;

/// What stands in front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrontEnd {
    /// A function URL.
    FunctionUrl,
    /// An HTTP API with payload format 2.0, on a stage other than the default one where it has a name, with or without a route
    /// of its own for all paths.
    HttpApi { stage: Option<&'static str>, has_route: bool },
    /// A REST API: always with a stage. All its types of media are binary.
    RestApi { stage: &'static str, route: &'static str },
    /// A load balancer.
    Balancer { is_multi_value: bool },
}

/// Those that differ in what they do to paths, headers and bodies.
pub(crate) const FRONT_ENDS: &[FrontEnd] = &[
    FrontEnd::FunctionUrl,
    FrontEnd::HttpApi { stage: None, has_route: false },
    FrontEnd::HttpApi { stage: Some("prod"), has_route: true },
    FrontEnd::RestApi { stage: "prod", route: "" },
    FrontEnd::RestApi { stage: "prod", route: "/registry" },
    FrontEnd::Balancer { is_multi_value: false },
    FrontEnd::Balancer { is_multi_value: true },
];

impl FrontEnd {
    /// What clients have in front of every path.
    pub(crate) fn prefix(self) -> String {
        match self {
            Self::HttpApi { stage: Some(stage), .. } => format!("/{stage}"),
            Self::RestApi { stage, route } => format!("/{stage}{route}"),
            _ => String::new(),
        }
    }

    fn is_balancer(self) -> bool {
        matches!(self, Self::Balancer { .. })
    }
}

/// The function.
#[derive(Debug)]
pub(crate) struct Lambda {
    state: Arc<State>,
    front: FrontEnd,
    port: u16,
    child: Child,
    _folder: TempDir,
    log: Log,
    // Last, so that the process is gone before them.
    _front: Loopback,
    _runtime: Loopback,
}

/// What both sides of the function know.
#[derive(Debug)]
struct State {
    send: mpsc::UnboundedSender<(String, Value)>,
    events: tokio::sync::Mutex<mpsc::UnboundedReceiver<(String, Value)>>,
    waiting: Mutex<HashMap<String, oneshot::Sender<Result<Value, Value>>>>,
    count: AtomicU64,
    /// The process, once it is there.
    process: Mutex<Option<u32>>,
    /// What clients come over, as the front end tells.
    is_tls: AtomicBool,
    /// The time that a request has.
    time: Mutex<Duration>,
    /// Answers that were refused for their size.
    oversized: AtomicU64,
}

impl Lambda {
    /// Starts the program as Lambda would, with these variables too, behind a front end.
    pub(crate) async fn start(front: FrontEnd, variables: &[(&str, &str)]) -> Self {
        let lambda = Self::spawned(front, variables);
        let answer = lambda.http().get("/-/ping").await;
        let (is_right, text, log) = (answer.status.is_success(), answer.text(), lambda.log.tail(40));
        assert!(is_right, "the function does not answer: {text}\n--- its log\n{log}");
        lambda
    }

    /// The same for a function that answers no requests.
    pub(crate) fn spawned(front: FrontEnd, variables: &[(&str, &str)]) -> Self {
        let (send, events) = mpsc::unbounded_channel();
        let state = Arc::new(State {
            send,
            events: tokio::sync::Mutex::new(events),
            waiting: Mutex::default(),
            count: AtomicU64::new(0),
            process: Mutex::default(),
            is_tls: AtomicBool::new(false),
            time: Mutex::new(PATIENCE),
            oversized: AtomicU64::new(0),
        });
        let (mut runtime_port, mut port) = (0, 0);
        let runtime = Loopback::start(|chosen| {
            runtime_port = chosen;
            let state = Arc::clone(&state);
            move |head, body| {
                let state = Arc::clone(&state);
                async move { Some(state.runtime_api(head, body).await) }
            }
        });
        let front_end = Loopback::start(|chosen| {
            port = chosen;
            let state = Arc::clone(&state);
            move |head, body| {
                let state = Arc::clone(&state);
                async move { Some(state.request(front, port, head, body).await) }
            }
        });
        let folder = tempfile::Builder::new().prefix("holdfast-lambda-").tempdir().unwrap();
        let log = Log::default();
        let origin = format!("http://127.0.0.1:{port}");
        let child = spawn(&folder, runtime_port, &origin, variables, &log);
        *state.process.lock().unwrap() = Some(child.id());
        Self { state, front, port, child, _folder: folder, log, _front: front_end, _runtime: runtime }
    }

    /// The URL to give to clients, with a slash at the end.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}{}/", self.port, self.front.prefix())
    }

    /// Where the front end listens, without a path.
    pub(crate) fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Requests of the test's own.
    pub(crate) fn http(&self) -> Http {
        Http::new(&self.url())
    }

    pub(crate) fn log(&self) -> Log {
        self.log.clone()
    }

    /// Makes an account by the legacy login, which takes a password over TLS only, and gives its token.
    pub(crate) async fn create_user(&self, name: &str, password: &str) -> String {
        self.state.is_tls.store(true, Ordering::Relaxed);
        let token = self.http().create_user(name, password).await;
        self.state.is_tls.store(false, Ordering::Relaxed);
        token
    }

    /// Tells clients' line as TLS from now on.
    pub(crate) fn over_tls(&self) {
        self.state.is_tls.store(true, Ordering::Relaxed);
    }

    /// Gives each request this much time from now on.
    pub(crate) fn give(&self, time: Duration) {
        *self.state.time.lock().unwrap() = time;
    }

    /// Hands an event over as it is. The error is what the function reported.
    pub(crate) async fn invoke(&self, event: Value) -> Result<Value, Value> {
        self.state.invoke(event).await
    }

    /// How many answers were larger than Lambda carries: each would be a bare 502 for a client.
    pub(crate) fn oversized(&self) -> u64 {
        self.state.oversized.load(Ordering::Relaxed)
    }

    /// SIGTERM, and waits for the end.
    pub(crate) async fn stop(&mut self) -> std::process::ExitStatus {
        // From here on it is not stopped any more.
        *self.state.process.lock().unwrap() = None;
        let id = self.child.id().to_string();
        signal("-TERM", &id);
        signal("-CONT", &id);
        let child = &mut self.child;
        tokio::time::timeout(PATIENCE, async {
            loop {
                if let Some(status) = child.try_wait().unwrap() {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
        .expect("the function does not stop")
    }
}

impl Drop for Lambda {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts the program as `bootstrap` is started: without arguments, with Lambda's environment. `{origin}` in a variable stands
/// for where the front end listens.
fn spawn(folder: &TempDir, runtime_port: u16, origin: &str, variables: &[(&str, &str)], log: &Log) -> Child {
    let mut command = Command::new(program());
    command.env_clear();
    for name in ["PATH", "TMPDIR", "LLVM_PROFILE_FILE"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
        .current_dir(folder.path())
        .env("AWS_LAMBDA_RUNTIME_API", format!("127.0.0.1:{runtime_port}"))
        .env("AWS_LAMBDA_FUNCTION_NAME", "holdfast")
        .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512")
        .env("HOLDFAST__STORAGE__DIRECTORY", folder.path().join("data"))
        .env("RUST_BACKTRACE", "1")
        .envs(variables.iter().map(|(name, value)| (name, value.replace("{origin}", origin))))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    follow(child.stderr.take().unwrap(), log.clone());
    follow(child.stdout.take().unwrap(), log.clone());
    child
}

impl State {
    async fn invoke(&self, event: Value) -> Result<Value, Value> {
        let id = format!("00000000-0000-4000-8000-{:012}", self.count.fetch_add(1, Ordering::Relaxed));
        let (answer, answered) = oneshot::channel();
        self.waiting.lock().unwrap().insert(id.clone(), answer);
        self.send.send((id, event)).unwrap();
        let in_time = tokio::time::timeout(PATIENCE, answered).await;
        in_time.map_or_else(
            |_| Err(json!({ "errorMessage": "Task timed out" })),
            |answer| answer.unwrap_or_else(|_| Err(json!({ "errorMessage": "Runtime exited" }))),
        )
    }

    fn signal_process(&self, name: &str) {
        if let Some(process) = *self.process.lock().unwrap() {
            signal(name, &process.to_string());
        }
    }

    /// What the process is answered.
    async fn runtime_api(&self, head: Parts, body: Bytes) -> Response<Body> {
        let path = head.uri.path().strip_prefix("/2018-06-01/runtime/").unwrap_or_default();
        if (&head.method, path) == (&Method::GET, "invocation/next") {
            return self.next().await;
        }
        let Some((id, kind)) = path.strip_prefix("invocation/").and_then(|rest| rest.split_once('/')) else {
            return empty(StatusCode::ACCEPTED);
        };
        let (outcome, status) = match kind {
            "response" if body.len() > MOST_BYTES => {
                self.oversized.fetch_add(1, Ordering::Relaxed);
                let message = "Response payload size exceeded maximum allowed payload size (6291556 bytes).";
                (Err(json!({ "errorMessage": message })), StatusCode::PAYLOAD_TOO_LARGE)
            }
            "response" => (Ok(serde_json::from_slice(&body).unwrap()), StatusCode::ACCEPTED),
            _ => (Err(serde_json::from_slice(&body).unwrap()), StatusCode::ACCEPTED),
        };
        if let Some(waiting) = self.waiting.lock().unwrap().remove(id) {
            let _ = waiting.send(outcome);
        }
        empty(status)
    }

    /// The next event. Until there is one, the process stands still.
    async fn next(&self) -> Response<Body> {
        let mut events = self.events.lock().await;
        let (id, event) = if let Ok(event) = events.try_recv() {
            event
        } else {
            self.signal_process("-STOP");
            let event = events.recv().await.unwrap();
            self.signal_process("-CONT");
            event
        };
        let deadline = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap() + *self.time.lock().unwrap();
        Response::builder()
            .header("content-type", "application/json")
            .header("lambda-runtime-aws-request-id", id)
            .header("lambda-runtime-deadline-ms", deadline.as_millis().to_string())
            .header("lambda-runtime-invoked-function-arn", "arn:aws:lambda:eu-west-1:123456789012:function:holdfast")
            .header("lambda-runtime-trace-id", "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=0")
            .body(Body::from(event.to_string()))
            .unwrap()
    }

    /// What a client is answered.
    async fn request(&self, front: FrontEnd, port: u16, head: Parts, body: Bytes) -> Response<Body> {
        let sent = head.uri.path();
        let (stage, below) = match front {
            FrontEnd::HttpApi { stage: Some(stage), .. } | FrontEnd::RestApi { stage, .. } => {
                match sent.strip_prefix(&format!("/{stage}")) {
                    Some(below) if below.is_empty() || below.starts_with('/') => (stage, below),
                    _ => return message(StatusCode::FORBIDDEN, "Forbidden"),
                }
            }
            _ => ("$default", sent),
        };
        let request =
            Request { head: &head, body: &body, port, stage, below, is_tls: self.is_tls.load(Ordering::Relaxed) };
        let event = match front {
            FrontEnd::FunctionUrl => request.version_2(sent, None),
            FrontEnd::HttpApi { stage: named, has_route } => {
                // It is decoded, and ends at what was a question mark.
                let decoded = percent_decode_str(below).decode_utf8_lossy().into_owned();
                let decoded = decoded.split('?').next().unwrap();
                let seen = named.map_or_else(|| decoded.to_owned(), |stage| format!("/{stage}{decoded}"));
                request.version_2(&seen, has_route.then_some(decoded))
            }
            FrontEnd::RestApi { route, .. } => match below.strip_prefix(route) {
                Some(proxy) if proxy.starts_with('/') || proxy.is_empty() => request.version_1(route, proxy),
                _ => return message(StatusCode::FORBIDDEN, "Missing Authentication Token"),
            },
            FrontEnd::Balancer { is_multi_value } => {
                if body.len() > MOST_BALANCER_BYTES {
                    return page(StatusCode::PAYLOAD_TOO_LARGE, "413 Request Entity Too Large");
                }
                request.of_balancer(is_multi_value)
            }
        };
        if event.to_string().len() > MOST_BYTES {
            let text = "Request must be smaller than 6291456 bytes for the InvokeFunction operation";
            return message(StatusCode::PAYLOAD_TOO_LARGE, text);
        }
        match self.invoke(event).await {
            Ok(answer) => answered(front, &head.method, &answer),
            Err(_) if front.is_balancer() => page(StatusCode::BAD_GATEWAY, "502 Bad Gateway"),
            Err(_) => message(StatusCode::BAD_GATEWAY, "Internal Server Error"),
        }
    }
}

/// A request on its way to become an event.
struct Request<'a> {
    head: &'a Parts,
    body: &'a Bytes,
    port: u16,
    stage: &'a str,
    /// The path behind the stage.
    below: &'a str,
    is_tls: bool,
}

impl Request<'_> {
    /// Headers by name, with all their values and with what the front end adds.
    fn headers(&self) -> BTreeMap<String, Vec<String>> {
        let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in &self.head.headers {
            let value = value.to_str().unwrap().to_owned();
            headers.entry(name.as_str().to_owned()).or_default().push(value);
        }
        headers.entry("x-forwarded-for".to_owned()).or_default().push("198.51.100.7".to_owned());
        headers.insert("x-forwarded-proto".to_owned(), vec![if self.is_tls { "https" } else { "http" }.to_owned()]);
        headers
    }

    fn joined_headers(&self, but: &str) -> Map<String, Value> {
        let headers = self.headers().into_iter().filter(|(name, _)| name != but);
        headers.map(|(name, values)| (name, json!(values.join(",")))).collect()
    }

    fn domain(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn query(&self) -> &str {
        self.head.uri.query().unwrap_or_default()
    }

    /// The body, as text where it is one and texts stay texts.
    fn carry_body(&self, event: &mut Value, keeps_text: bool) {
        if self.body.is_empty() {
            return;
        }
        let kind = self.head.headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let is_text = ["text/", "application/json", "application/javascript", "application/xml"]
            .iter()
            .any(|text| kind.starts_with(text));
        let is_text = keeps_text && is_text && !self.head.headers.contains_key("content-encoding");
        let body = if is_text { String::from_utf8(self.body.to_vec()).unwrap() } else { STANDARD.encode(self.body) };
        event["body"] = json!(body);
        event["isBase64Encoded"] = json!(!is_text);
    }

    /// Payload format 2.0. With a route `/{proxy+}`, what that stands for.
    fn version_2(&self, path: &str, proxy: Option<&str>) -> Value {
        let route_key = match proxy {
            Some("/" | "") => "ANY /".to_owned(),
            Some(_) => "ANY /{proxy+}".to_owned(),
            None => "$default".to_owned(),
        };
        let cookies: Vec<&str> =
            self.head.headers.get_all("cookie").iter().flat_map(|value| value.to_str().unwrap().split("; ")).collect();
        let mut event = json!({
            "version": "2.0",
            "routeKey": route_key,
            "rawPath": path,
            "rawQueryString": self.query(),
            "headers": self.joined_headers("cookie"),
            "requestContext": {
                "accountId": "123456789012", "apiId": "abc", "domainName": self.domain(), "domainPrefix": "abc",
                "http": {
                    "method": self.head.method.as_str(), "path": path, "protocol": "HTTP/1.1", "sourceIp": "198.51.100.7",
                    "userAgent": "agent",
                },
                "requestId": "id", "routeKey": route_key, "stage": self.stage, "time": "12/Mar/2020:19:03:58 +0000",
                "timeEpoch": 1_583_348_638_390_u64,
            },
            "isBase64Encoded": false,
        });
        if !cookies.is_empty() {
            event["cookies"] = json!(cookies);
        }
        if let Some(proxy) = proxy.filter(|proxy| !matches!(*proxy, "/" | "")) {
            event["pathParameters"] = json!({ "proxy": proxy.trim_start_matches('/') });
        }
        self.carry_body(&mut event, true);
        event
    }

    /// Payload format 1.0, as REST APIs send it.
    fn version_1(&self, route: &str, proxy: &str) -> Value {
        let mut many: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(self.query().as_bytes()) {
            many.entry(name.into_owned()).or_default().push(value.into_owned());
        }
        let single: BTreeMap<&String, &String> =
            many.iter().map(|(name, values)| (name, values.last().unwrap())).collect();
        let headers = self.headers();
        let single_headers: BTreeMap<&String, &String> =
            headers.iter().map(|(name, values)| (name, values.last().unwrap())).collect();
        let or_null = |value: Value, is_empty: bool| if is_empty { Value::Null } else { value };
        let proxy = proxy.trim_start_matches('/');
        let resource = if proxy.is_empty() { format!("{route}/") } else { format!("{route}/{{proxy+}}") };
        let mut event = json!({
            "resource": if resource == "/" { "/".to_owned() } else { resource.trim_end_matches('/').to_owned() },
            "path": if self.below.is_empty() { "/" } else { self.below },
            "httpMethod": self.head.method.as_str(),
            "headers": single_headers,
            "multiValueHeaders": headers,
            "queryStringParameters": or_null(json!(single), single.is_empty()),
            "multiValueQueryStringParameters": or_null(json!(many), many.is_empty()),
            "pathParameters": or_null(json!({ "proxy": proxy.trim_end_matches('/') }), proxy.is_empty()),
            "stageVariables": null,
            "requestContext": {
                "resourceId": "id", "resourcePath": "/{proxy+}", "httpMethod": self.head.method.as_str(),
                "path": self.head.uri.path(), "accountId": "123456789012", "protocol": "HTTP/1.1", "stage": self.stage,
                "domainName": self.domain(), "domainPrefix": "abc", "apiId": "abc", "requestId": "id",
                "identity": { "sourceIp": "198.51.100.7", "userAgent": "agent", "accessKey": null },
            },
            "body": null,
            "isBase64Encoded": false,
        });
        self.carry_body(&mut event, false);
        event
    }

    /// The event of a load balancer, which decodes nothing.
    fn of_balancer(&self, is_multi_value: bool) -> Value {
        let mut many: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pair in self.query().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            many.entry(name.to_owned()).or_default().push(value.to_owned());
        }
        let mut event = json!({
            "requestContext": { "elb": { "targetGroupArn": "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/x/1" } },
            "httpMethod": self.head.method.as_str(),
            "path": self.head.uri.path(),
            "body": "",
            "isBase64Encoded": false,
        });
        if is_multi_value {
            event["multiValueHeaders"] = json!(self.headers());
            event["multiValueQueryStringParameters"] = json!(many);
        } else {
            let last: BTreeMap<&String, &String> =
                many.iter().map(|(name, values)| (name, values.last().unwrap())).collect();
            event["headers"] = Value::Object(self.joined_headers(""));
            event["queryStringParameters"] = json!(last);
        }
        self.carry_body(&mut event, true);
        event
    }
}

/// The function's answer as its front end gives it to the client.
fn answered(front: FrontEnd, method: &Method, answer: &Value) -> Response<Body> {
    if front.is_balancer() && answer.to_string().len() > MOST_BALANCER_BYTES {
        return page(StatusCode::BAD_GATEWAY, "502 Bad Gateway");
    }
    let text = answer["body"].as_str().unwrap_or_default();
    let body =
        if answer["isBase64Encoded"] == true { STANDARD.decode(text).unwrap() } else { text.as_bytes().to_vec() };
    let mut response = Response::builder().status(u16::try_from(answer["statusCode"].as_u64().unwrap()).unwrap());
    let single = matches!(
        front,
        FrontEnd::FunctionUrl | FrontEnd::HttpApi { .. } | FrontEnd::Balancer { is_multi_value: false }
    );
    let listed = if single { &answer["headers"] } else { &answer["multiValueHeaders"] };
    for (name, values) in listed.as_object().unwrap() {
        // The front end counts by itself, but for answers without a body.
        if name == "content-length" && method != Method::HEAD {
            continue;
        }
        let values = values.as_array().cloned().unwrap_or_else(|| vec![values.clone()]);
        for value in values {
            response = response.header(name, value.as_str().unwrap());
        }
    }
    for cookie in answer["cookies"].as_array().into_iter().flatten() {
        response = response.header("set-cookie", cookie.as_str().unwrap());
    }
    assert!(!front.is_balancer() || answer["statusDescription"].is_string(), "{answer}");
    response.body(Body::from(body)).unwrap()
}

fn empty(status: StatusCode) -> Response<Body> {
    Response::builder().status(status).body(Body::empty()).unwrap()
}

fn message(status: StatusCode, text: &str) -> Response<Body> {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "application/json".parse().unwrap());
    let mut response = Response::new(Body::from(json!({ "message": text }).to_string()));
    (*response.status_mut(), *response.headers_mut()) = (status, headers);
    response
}

fn page(status: StatusCode, text: &str) -> Response<Body> {
    Response::builder()
        .status(status)
        .header("content-type", "text/html")
        .body(Body::from(format!("<html><body><h1>{text}</h1></body></html>")))
        .unwrap()
}
