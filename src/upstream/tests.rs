//! The upstream against real servers on loopback, which behave as badly as registries do.

use std::convert::Infallible;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request as Incoming, State};
use axum::response::{IntoResponse as _, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::{TryStreamExt as _, stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use super::address::Resolver;
use super::*;
use crate::npm::Timestamp;
use crate::secret::Secret;

const FULL: &str =
    r#"{"_id":"tool","name":"tool","dist-tags":{"latest":"1.0.0"},"versions":{"1.0.0":{"scripts":{}}},"time":{}}"#;
const ABBREVIATED: &str = r#"{"name":"tool","dist-tags":{},"versions":{"1.0.0":{"dist":{}}},"modified":"x"}"#;

/// A request as a server saw it.
#[derive(Debug, Clone)]
struct Seen {
    peer: SocketAddr,
    method: Method,
    target: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// A server that answers the n-th request with what a function says.
struct Server {
    url: Url,
    seen: Arc<Mutex<Vec<Seen>>>,
}

type Answers = Arc<dyn Fn(usize, &Seen) -> Response + Send + Sync>;

impl Server {
    async fn start(answers: impl Fn(usize, &Seen) -> Response + Send + Sync + 'static) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let state: (Answers, Arc<Mutex<Vec<Seen>>>) = (Arc::new(answers), Arc::clone(&seen));
        let app = Router::new().fallback(answer).with_state(state);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = loopback(listener.local_addr().unwrap());
        let serving = axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>());
        TaskTracker::new().spawn(async move { serving.await.unwrap() });
        Self { url, seen }
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    fn count(&self) -> usize {
        self.seen().len()
    }
}

async fn answer(
    State((answers, seen)): State<(Answers, Arc<Mutex<Vec<Seen>>>)>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Incoming,
) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let target = parts.uri.path_and_query().unwrap().to_string();
    let request = Seen { peer, method: parts.method, target, headers: parts.headers, body };
    let index = {
        let mut seen = seen.lock().unwrap();
        seen.push(request.clone());
        seen.len() - 1
    };
    if request.target.ends_with("/slow-head") {
        return std::future::pending().await;
    }
    answers(index, &request)
}

/// A server that reads a request, writes these bytes, and closes or keeps the connection.
async fn start_raw(bytes: impl Into<Vec<u8>>, close: bool) -> Url {
    let bytes: Vec<u8> = bytes.into();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = loopback(listener.local_addr().unwrap());
    TaskTracker::new().spawn(async move {
        let mut open = Vec::new();
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") && socket.read_buf(&mut request).await.unwrap_or(0) > 0 {}
            let _ = socket.write_all(&bytes).await;
            if close {
                let _ = socket.shutdown().await;
            } else {
                open.push(socket);
            }
        }
    });
    url
}

fn loopback(address: SocketAddr) -> Url {
    format!("http://{address}/").parse().unwrap()
}

fn settings(url: &Url) -> Settings {
    let mut settings = Settings::new("main", url.clone());
    settings.retry_pause = Duration::from_millis(1);
    settings.max_retry_after = Duration::from_millis(100);
    settings
}

fn upstream(url: &Url) -> Upstream {
    Upstream::new(settings(url), Clock::default()).unwrap()
}

fn upstream_with(url: &Url, change: impl FnOnce(&mut Settings)) -> Upstream {
    let mut settings = settings(url);
    change(&mut settings);
    Upstream::new(settings, Clock::default()).unwrap()
}

/// An upstream whose names resolve as told here.
fn upstream_resolving(url: &str, answers: &[(&str, [u8; 4])]) -> Upstream {
    let settings = settings(&url.parse().unwrap());
    let home = check(&settings).unwrap();
    let mut resolver = Resolver::new();
    resolver.answers = answers.iter().map(|(host, address)| ((*host).to_owned(), IpAddr::from(*address))).collect();
    let client = Client::with_resolver(settings, home, Clock::default(), resolver).unwrap();
    Upstream { client: Arc::new(client), cache_name: "test".into() }
}

fn tool() -> PackageName {
    "tool".parse().unwrap()
}

async fn packument(upstream: &Upstream) -> Result<Fetched, Error> {
    match upstream.packument(&tool(), Form::Full, None).await? {
        PackumentAnswer::Found(fetched) => Ok(fetched),
        PackumentAnswer::NotModified => panic!("not modified"),
    }
}

async fn tarball(upstream: &Upstream, url: &Url) -> Result<Vec<u8>, Error> {
    let body = upstream.tarball(url).await?;
    let chunks: Vec<Bytes> = body.stream.try_collect().await?;
    Ok(chunks.concat())
}

fn json(text: &str) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text.to_owned()).into_response()
}

fn status(code: u16) -> Response {
    StatusCode::from_u16(code).unwrap().into_response()
}

fn redirect(code: u16, to: &str) -> Response {
    (StatusCode::from_u16(code).unwrap(), [(header::LOCATION, to.to_owned())]).into_response()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn gzipped(bytes: Vec<u8>) -> Response {
    ([(header::CONTENT_ENCODING, "gzip"), (header::CONTENT_TYPE, "application/json")], bytes).into_response()
}

fn is_bad_answer(error: &Error) -> bool {
    matches!(error, Error::BadAnswer(_))
}

// What is asked.

#[tokio::test]
async fn a_packument_is_asked_for_as_npm_asks() {
    let server = Server::start(|_, _| json(r#"{"name":"@acme/tool","versions":{}}"#)).await;
    let upstream = upstream(&server.url.join("npm/registry").unwrap());
    let name = "@acme/tool".parse().unwrap();
    upstream.packument(&name, Form::Full, None).await.unwrap();
    upstream.packument(&name, Form::Abbreviated, None).await.unwrap();
    let seen = server.seen();
    assert_eq!(seen[0].target, "/npm/registry/@acme%2ftool");
    assert_eq!(seen[0].header("accept"), Some("application/json"));
    assert_eq!(seen[1].header("accept"), Some(ACCEPT_ABBREVIATED));
    assert_eq!(seen[0].header("accept-encoding"), Some("gzip"));
    assert_eq!(seen[0].header("user-agent"), Some(concat!("holdfast/", env!("CARGO_PKG_VERSION"))));
    assert_eq!(seen[0].header("authorization"), None);
}

#[tokio::test]
async fn each_kind_of_credentials_is_sent_in_its_way() {
    let server = Server::start(|_, _| json(FULL)).await;
    packument(&upstream_with(&server.url, |settings| settings.token = Some(Secret::new("t0ken")))).await.unwrap();
    packument(&upstream_with(&server.url, |settings| settings.basic = Some(Secret::new("dTpw")))).await.unwrap();
    assert_eq!(server.seen()[0].header("authorization"), Some("Bearer t0ken"));
    assert_eq!(server.seen()[1].header("authorization"), Some("Basic dTpw"));
}

#[tokio::test]
async fn search_and_audit_are_passed_on() {
    let server = Server::start(|_, _| json("{}")).await;
    let upstream = upstream(&server.url);
    assert_eq!(upstream.search("text=a%20b&size=20").await.unwrap(), "{}");
    assert_eq!(upstream.audit(AuditPath::Bulk, Bytes::from_static(b"{\"a\":[]}")).await.unwrap(), "{}");
    upstream.ping().await.unwrap();
    let seen = server.seen();
    assert_eq!(seen[0].target, "/-/v1/search?text=a%20b&size=20");
    assert_eq!((&seen[1].method, seen[1].target.as_str()), (&Method::POST, "/-/npm/v1/security/advisories/bulk"));
    assert_eq!(seen[1].body, "{\"a\":[]}");
    assert_eq!(seen[1].header("content-type"), Some("application/json"));
    assert_eq!(seen[2].target, "/-/ping");
}

#[tokio::test]
async fn reports_are_checked_and_bounded() {
    let server = Server::start(|index, _| match index {
        0 => json("[]"),
        1 => ([(header::CONTENT_TYPE, "text/html")], "{}").into_response(),
        _ => json(&format!("{{\"a\":\"{}\"}}", "x".repeat(2000))),
    })
    .await;
    let upstream = upstream_with(&server.url, |settings| settings.max_report_bytes = 1000);
    assert!(is_bad_answer(&upstream.search("text=a").await.unwrap_err()));
    assert!(is_bad_answer(&upstream.search("text=b").await.unwrap_err()));
    assert_eq!(upstream.audit(AuditPath::Quick, Bytes::new()).await, Err(Error::TooLarge { limit: 1000 }));
}

#[tokio::test]
async fn validators_are_kept_sent_and_answered() {
    let server = Server::start(|index, _| match index {
        0 => (
            [
                (header::ETAG, "W/\"1\""),
                (header::LAST_MODIFIED, "Sat, 31 Jan 2026 12:00:00 GMT"),
                (header::CACHE_CONTROL, "public, max-age=300"),
                (header::AGE, "100"),
            ],
            FULL,
        )
            .into_response(),
        _ => status(304),
    })
    .await;
    let upstream = upstream(&server.url);
    let fetched = packument(&upstream).await.unwrap();
    assert_eq!(fetched.body, FULL);
    assert_eq!(fetched.max_age, Some(Duration::from_secs(200)));
    assert_eq!(fetched.validators.etag.as_deref(), Some("W/\"1\""));

    let answer = upstream.packument(&tool(), Form::Full, Some(&fetched.validators)).await.unwrap();
    assert!(matches!(answer, PackumentAnswer::NotModified));
    let date_only = Validators { etag: None, ..fetched.validators };
    upstream.packument(&tool(), Form::Full, Some(&date_only)).await.unwrap();
    let seen = server.seen();
    assert_eq!(seen[1].header("if-none-match"), Some("W/\"1\""));
    assert_eq!(seen[1].header("if-modified-since"), None);
    assert_eq!(seen[2].header("if-modified-since"), Some("Sat, 31 Jan 2026 12:00:00 GMT"));

    for unasked in [None, Some(&Validators::default())] {
        let error = upstream.packument(&tool(), Form::Full, unasked).await.unwrap_err();
        assert!(is_bad_answer(&error), "{error:?}");
    }
}

// What is answered.

#[tokio::test]
async fn the_form_is_what_came_and_not_what_was_asked_for() {
    let server = Server::start(|index, _| match index {
        // A mirror that ignores Accept, and even mislabels.
        0 => ([(header::CONTENT_TYPE, Form::Abbreviated.media_type())], FULL).into_response(),
        1 => json(ABBREVIATED),
        // One that has only a bare document.
        _ => json(r#"{"name":"tool","versions":{"1.0.0":{}}}"#),
    })
    .await;
    let upstream = upstream(&server.url);
    let cases = [
        (Form::Abbreviated, Form::Full),
        (Form::Full, Form::Abbreviated),
        (Form::Full, Form::Full),
        (Form::Abbreviated, Form::Abbreviated),
    ];
    for (asked, expected) in cases {
        match upstream.packument(&tool(), asked, None).await.unwrap() {
            PackumentAnswer::Found(fetched) => assert_eq!(fetched.form, expected, "{asked:?}"),
            PackumentAnswer::NotModified => panic!("not modified"),
        }
    }
}

#[tokio::test]
async fn gzip_is_taken_apart_here_and_other_codings_are_refused() {
    let long = format!(r#"{{"_id":"tool","name":"tool","versions":{{}},"readme":"{}"}}"#, "x".repeat(2 << 20));
    let answer = long.clone();
    let server = Server::start(move |index, _| match index {
        0 => gzipped(gzip(answer.as_bytes())),
        _ => ([(header::CONTENT_ENCODING, "br")], FULL).into_response(),
    })
    .await;
    let upstream = upstream(&server.url);
    let fetched = packument(&upstream).await.unwrap();
    assert!(fetched.body == long.as_bytes() && fetched.form == Form::Full);
    assert!(is_bad_answer(&packument(&upstream).await.unwrap_err()));
}

#[tokio::test]
async fn what_is_not_the_packument_is_a_bad_answer() {
    let truncated_gzip = gzip(FULL.as_bytes());
    let truncated_gzip = truncated_gzip[..truncated_gzip.len() - 12].to_vec();
    let answers: Vec<Box<dyn Fn() -> Response + Send + Sync>> = vec![
        Box::new(|| ([(header::CONTENT_TYPE, "Text/HTML; charset=utf-8")], "<html>").into_response()),
        Box::new(|| ([(header::CONTENT_TYPE, "text/html")], FULL).into_response()),
        Box::new(|| json("<html>sign in</html>")),
        Box::new(|| json(&FULL[..FULL.len() - 1])),
        Box::new(|| json("")),
        Box::new(|| json("[]")),
        Box::new(|| json("{}")),
        Box::new(|| json(r#"{"error":"internal"}"#)),
        Box::new(|| json(r#"{"name":"Tool","versions":{}}"#)),
        Box::new(|| json(r#"{"name":7,"versions":{}}"#)),
        Box::new(|| json(r#"{"name":"tool","versions":[]}"#)),
        Box::new(|| gzipped(FULL.as_bytes().to_vec())),
        Box::new(move || gzipped(truncated_gzip.clone())),
        Box::new(|| status(204)),
        Box::new(|| status(206)),
        Box::new(|| status(300)),
    ];
    let count = answers.len();
    let server = Server::start(move |index, _| answers[index]()).await;
    let upstream = upstream(&server.url);
    for index in 0..count {
        let error = packument(&upstream).await.unwrap_err();
        assert!(is_bad_answer(&error) && error.is_transient(), "answer {index}: {error:?}");
    }
    assert_eq!(server.count(), count);
}

#[tokio::test]
async fn unusual_packuments_are_packuments() {
    let server = Server::start(|index, _| match index {
        0 => json(r#"{"versions":{}}"#),
        1 => json(r#"{"name":"tool","time":{"unpublished":{"time":"x"}}}"#),
        _ => ([(header::CONTENT_TYPE, "application/octet-stream")], FULL).into_response(),
    })
    .await;
    let upstream = upstream(&server.url);
    for _ in 0..3 {
        packument(&upstream).await.unwrap();
    }
}

#[tokio::test]
async fn what_the_upstream_decides_is_not_asked_twice() {
    for (code, expected) in [
        (404, Error::NotFound),
        (410, Error::NotFound),
        (400, Error::Refused { status: 400 }),
        (401, Error::Refused { status: 401 }),
        (403, Error::Refused { status: 403 }),
        (451, Error::Refused { status: 451 }),
    ] {
        let server = Server::start(move |_, _| status(code)).await;
        let error = packument(&upstream(&server.url)).await.unwrap_err();
        assert!(!error.is_transient());
        assert_eq!((error, server.count()), (expected, 1));
    }
}

#[tokio::test]
async fn trouble_that_passes_is_waited_out() {
    for code in [429, 502, 503, 504] {
        let server = Server::start(move |index, _| if index < 2 { status(code) } else { json(FULL) }).await;
        packument(&upstream(&server.url)).await.unwrap();
        assert_eq!(server.count(), 3, "{code}");
    }
}

#[tokio::test]
async fn trouble_that_stays_is_reported() {
    for (code, requests, expected) in [
        (429, 3, Error::Throttled { retry_after: None }),
        (503, 3, Error::Unavailable("status 503".to_owned())),
        (500, 1, Error::Unavailable("status 500".to_owned())),
        (520, 1, Error::Unavailable("status 520".to_owned())),
    ] {
        let server = Server::start(move |_, _| status(code)).await;
        let error = packument(&upstream(&server.url)).await.unwrap_err();
        assert!(error.is_transient());
        assert_eq!((error, server.count()), (expected, requests), "{code}");
    }
}

#[tokio::test]
async fn retry_after_is_honoured_up_to_a_bound() {
    let server =
        Server::start(|index, _| match index {
            0 => (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "0")]).into_response(),
            1 => (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "Thu, 01 Jan 1970 00:00:00 GMT")])
                .into_response(),
            2 => json(FULL),
            3 => (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "3600")]).into_response(),
            _ => (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "Thu, 01 Jan 1970 00:02:00 GMT")])
                .into_response(),
        })
        .await;
    let clock = Clock::held_at(Timestamp::from_millis(60_000));
    let upstream = Upstream::new(settings(&server.url), clock).unwrap();
    packument(&upstream).await.unwrap();
    assert_eq!(server.count(), 3);
    for (requests, wait) in [(4, 3600), (5, 60)] {
        let expected = Error::Throttled { retry_after: Some(Duration::from_secs(wait)) };
        assert_eq!((packument(&upstream).await.unwrap_err(), server.count()), (expected, requests));
    }
}

// Time, size and broken lines.

#[tokio::test]
async fn a_head_that_does_not_come_is_a_timeout() {
    let server = Server::start(|_, _| json(FULL)).await;
    let upstream = upstream_with(&server.url, |settings| settings.header_timeout = Duration::from_millis(50));
    let name = "slow-head".parse().unwrap();
    assert!(matches!(upstream.packument(&name, Form::Full, None).await, Err(Error::Timeout)));
    assert_eq!(server.count(), 3);
}

#[tokio::test]
async fn a_body_that_stalls_is_a_timeout() {
    let url = start_raw("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"name\"", false).await;
    let upstream = upstream_with(&url, |settings| settings.idle_timeout = Duration::from_millis(50));
    assert_eq!(packument(&upstream).await.unwrap_err(), Error::Timeout);
    assert_eq!(tarball(&upstream, &url).await, Err(Error::Timeout));
}

#[tokio::test]
async fn a_body_that_is_cut_off_is_never_taken_as_whole() {
    let chunked = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{FULL}\r\n", FULL.len());
    let counted = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{FULL}", FULL.len() + 1);
    for bytes in [chunked, counted] {
        let url = start_raw(bytes, true).await;
        let upstream = upstream(&url);
        for error in [packument(&upstream).await.unwrap_err(), tarball(&upstream, &url).await.unwrap_err()] {
            assert!(matches!(error, Error::Unavailable(_)) && error.is_transient(), "{error:?}");
        }
    }
}

#[tokio::test]
async fn what_is_not_http_is_unavailable() {
    let url = start_raw("SSH-2.0-OpenSSH_9.0\r\n\r\n", true).await;
    assert!(matches!(packument(&upstream(&url)).await, Err(Error::Unavailable(_))));
}

#[tokio::test]
async fn an_endless_body_is_cut() {
    let server = Server::start(|_, _| {
        let chunk = Bytes::from(vec![b' '; 16 << 10]);
        Body::from_stream(stream::repeat_with(move || Ok::<_, Infallible>(chunk.clone()))).into_response()
    })
    .await;
    let upstream = upstream_with(&server.url, |settings| {
        settings.max_packument_bytes = 1 << 20;
        settings.max_tarball_bytes = 1 << 20;
    });
    assert_eq!(packument(&upstream).await.unwrap_err(), Error::TooLarge { limit: 1 << 20 });
    assert_eq!(tarball(&upstream, &server.url).await, Err(Error::TooLarge { limit: 1 << 20 }));
}

#[tokio::test]
async fn an_announced_excess_is_not_read_at_all() {
    let url = start_raw("HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n", false).await;
    let upstream = upstream_with(&url, |settings| {
        settings.max_packument_bytes = 1000;
        settings.max_tarball_bytes = 1000;
    });
    assert_eq!(packument(&upstream).await.unwrap_err(), Error::TooLarge { limit: 1000 });
    assert_eq!(upstream.tarball(&url).await.unwrap_err(), Error::TooLarge { limit: 1000 });
}

#[tokio::test]
async fn a_gzip_bomb_is_noticed_at_the_limit() {
    let bomb = gzip(&vec![b' '; 64 << 20]);
    assert!(bomb.len() < 128 << 10);
    let server = Server::start(move |_, _| gzipped(bomb.clone())).await;
    let upstream = upstream_with(&server.url, |settings| settings.max_packument_bytes = 1 << 20);
    assert_eq!(packument(&upstream).await.unwrap_err(), Error::TooLarge { limit: 1 << 20 });
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_unavailable() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = loopback(listener.local_addr().unwrap());
    drop(listener);
    let error = packument(&upstream(&url)).await.unwrap_err();
    assert!(matches!(&error, Error::Unavailable(why) if !why.contains("http://")), "{error:?}");
}

// Tarballs.

#[tokio::test]
async fn a_tarball_arrives_as_it_is() {
    let server = Server::start(|_, _| {
        // As servers of plain files label it.
        ([(header::CONTENT_ENCODING, "gzip")], gzip(b"files")).into_response()
    })
    .await;
    let upstream = upstream(&server.url);
    let url = upstream.tarball_url(&tool(), "/tool/-/tool-1.0.0.tgz").unwrap();
    assert_eq!(upstream.tarball(&url).await.unwrap().content_length, Some(gzip(b"files").len() as u64));
    assert_eq!(tarball(&upstream, &url).await.unwrap(), gzip(b"files"));
    assert_eq!(server.seen()[0].target, "/tool/-/tool-1.0.0.tgz");
    assert_eq!(server.seen()[0].header("accept-encoding"), Some("identity"));
}

#[tokio::test]
async fn a_web_page_is_no_tarball() {
    let server = Server::start(|index, _| match index {
        0 => ([(header::CONTENT_TYPE, "text/html")], "<html>").into_response(),
        _ => status(304),
    })
    .await;
    for _ in 0..2 {
        assert!(is_bad_answer(&tarball(&upstream(&server.url), &server.url).await.unwrap_err()));
    }
}

#[test]
fn tarball_addresses_are_read_as_npm_reads_them() {
    let cases = [
        ("https://r.example/npm/", "https://cdn.example/a.tgz", Some("https://cdn.example/a.tgz")),
        ("https://r.example/npm/", "http://cdn.example/a.tgz", Some("http://cdn.example/a.tgz")),
        ("https://r.example/npm/", "http://r.example/npm/a.tgz", Some("https://r.example/npm/a.tgz")),
        ("https://r.example:8443/npm/", "http://r.example/a.tgz", Some("https://r.example:8443/a.tgz")),
        ("https://r.example/npm/", "http://r.example:8081/a.tgz", Some("http://r.example:8081/a.tgz")),
        ("http://r.example/npm/", "http://r.example/a.tgz", Some("http://r.example/a.tgz")),
        ("https://r.example/npm", "tool/-/a.tgz", Some("https://r.example/npm/tool/-/a.tgz")),
        ("https://r.example/npm", "/a.tgz", Some("https://r.example/a.tgz")),
        ("https://r.example/npm", "//cdn.example/a.tgz", Some("https://cdn.example/a.tgz")),
        ("https://r.example/npm", "http://[", None),
    ];
    for (base, reference, expected) in cases {
        let upstream = upstream(&base.parse().unwrap());
        let url = upstream.tarball_url(&tool(), reference).ok();
        assert_eq!(url.as_ref().map(Url::as_str), expected, "{base} {reference}");
    }
}

// Where requests may go.

#[tokio::test]
async fn credentials_stay_at_home() {
    let home = Arc::new(Mutex::new(None::<Url>));
    let back = Arc::clone(&home);
    let elsewhere = Server::start(move |_, seen| match seen.target.as_str() {
        "/back" => redirect(302, back.lock().unwrap().as_ref().unwrap().join("end").unwrap().as_str()),
        _ => json(FULL),
    })
    .await;
    let other = elsewhere.url.clone();
    let server = Server::start(move |_, seen| match seen.target.as_str() {
        "/tool" => redirect(307, "/moved"),
        "/moved" => redirect(302, other.join("there").unwrap().as_str()),
        "/out-and-back" => redirect(301, other.join("back").unwrap().as_str()),
        _ => json(FULL),
    })
    .await;
    *home.lock().unwrap() = Some(server.url.clone());
    let upstream = upstream_with(&server.url, |settings| settings.token = Some(Secret::new("t0ken")));

    packument(&upstream).await.unwrap();
    tarball(&upstream, &elsewhere.url.join("file").unwrap()).await.unwrap();
    tarball(&upstream, &server.url.join("out-and-back").unwrap()).await.unwrap();
    let at_home: Vec<_> =
        server.seen().iter().map(|seen| (seen.target.clone(), seen.header("authorization").is_some())).collect();
    let expected = [("/tool", true), ("/moved", true), ("/out-and-back", true), ("/end", false)];
    assert_eq!(at_home, expected.map(|(target, sent)| (target.to_owned(), sent)));
    let targets: Vec<_> = elsewhere.seen().iter().map(|seen| seen.target.clone()).collect();
    assert_eq!(targets, ["/there", "/file", "/back"]);
    assert!(elsewhere.seen().iter().all(|seen| seen.header("authorization").is_none()));
}

#[tokio::test]
async fn nobody_leads_us_into_a_private_network() {
    let inside = Server::start(|_, _| json(FULL)).await;
    let port = inside.url.port().unwrap();
    for target in [
        format!("http://files.test:{port}/"),
        format!("http://127.0.0.1:{port}/"),
        format!("http://localhost:{port}/"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "http://[::1]/".to_owned(),
        "file:///data".to_owned(),
        "ftp://files.test/".to_owned(),
    ] {
        let to = target.clone();
        let server = Server::start(move |_, _| redirect(302, &to)).await;
        let home = format!("http://registry.test:{}/", server.url.port().unwrap());
        let upstream = upstream_resolving(&home, &[("registry.test", [127, 0, 0, 1]), ("files.test", [127, 0, 0, 1])]);
        assert_eq!(packument(&upstream).await.unwrap_err(), Error::ForbiddenAddress, "{target}");
        assert_eq!(tarball(&upstream, &target.parse().unwrap()).await, Err(Error::ForbiddenAddress), "{target}");
        assert_eq!(server.count(), 1, "{target}");
    }
    assert_eq!(inside.count(), 0);
}

#[tokio::test]
async fn a_host_that_the_operator_trusts_may_be_private_and_gets_no_credentials() {
    let files = Server::start(|_, _| json("tarball")).await;
    let target = format!("http://localhost:{}/a.tgz", files.url.port().unwrap());
    let upstream = upstream_with(&"http://registry.test/".parse().unwrap(), |settings| {
        settings.trusted_hosts = vec!["localhost".to_owned()];
        settings.token = Some(Secret::new("t0ken"));
    });
    tarball(&upstream, &target.parse().unwrap()).await.unwrap();
    assert_eq!(files.seen()[0].header("authorization"), None);
}

#[tokio::test]
async fn a_proxy_is_used_and_is_no_place_to_be_led_to() {
    let proxy = Server::start(|index, _| match index {
        0 => json(FULL),
        _ => redirect(302, "http://127.0.0.1/admin"),
    })
    .await;
    let upstream = upstream_with(&"http://registry.test/".parse().unwrap(), |settings| {
        settings.proxy = Some(proxy.url.clone());
    });
    packument(&upstream).await.unwrap();
    assert_eq!(proxy.seen()[0].header("host"), Some("registry.test"));
    assert_eq!(packument(&upstream).await.unwrap_err(), Error::ForbiddenAddress);
    assert_eq!(proxy.count(), 2);
}

#[tokio::test]
async fn tls_is_not_given_up_on_the_way() {
    let upstream = upstream(&"https://registry.test/".parse().unwrap());
    let error = tarball(&upstream, &"http://8.8.8.8/a.tgz".parse().unwrap()).await;
    assert_eq!(error, Err(Error::ForbiddenAddress));
}

#[tokio::test]
async fn redirects_end() {
    let server = Server::start(|_, seen| match seen.target.as_str() {
        "/tool" => redirect(302, "/tool"),
        "/nowhere" => status(302),
        "/broken" => redirect(302, "http://["),
        "/login" => redirect(302, "http://user:password@127.0.0.1/"),
        _ => redirect(308, "/-/npm/v1/security/audits"),
    })
    .await;
    let upstream = upstream(&server.url);
    assert!(is_bad_answer(&packument(&upstream).await.unwrap_err()));
    assert_eq!(server.count(), 6);
    for path in ["nowhere", "broken", "login"] {
        assert!(is_bad_answer(&tarball(&upstream, &server.url.join(path).unwrap()).await.unwrap_err()), "{path}");
    }
}

#[tokio::test]
async fn what_is_posted_goes_to_no_other_host() {
    let elsewhere = Server::start(|_, _| json("{}")).await;
    let other = elsewhere.url.clone();
    let server = Server::start(move |index, _| match index {
        0 => redirect(308, other.as_str()),
        1 => redirect(302, "/here"),
        2 => redirect(307, "/here"),
        _ => json("{}"),
    })
    .await;
    let upstream = upstream(&server.url);
    let body = || Bytes::from_static(b"{\"secret-project\":[\"1.0.0\"]}");
    assert!(is_bad_answer(&upstream.audit(AuditPath::Bulk, body()).await.unwrap_err()));
    assert!(is_bad_answer(&upstream.audit(AuditPath::Bulk, body()).await.unwrap_err()));
    upstream.audit(AuditPath::Bulk, body()).await.unwrap();
    assert_eq!(elsewhere.count(), 0);
    let last = server.seen().pop().unwrap();
    assert_eq!((last.method, last.target.as_str(), last.body), (Method::POST, "/here", body()));
}

// The breaker, and connections.

#[tokio::test]
async fn an_upstream_that_keeps_failing_is_left_alone_and_then_tried_once() {
    let server = Server::start(|index, _| if index < 3 { status(500) } else { json(FULL) }).await;
    let clock = Clock::held_at(Timestamp::from_millis(0));
    let mut settings = settings(&server.url);
    settings.breaker = breaker::Settings { failures: 2, cool_down: Duration::from_secs(10) };
    let upstream = Upstream::new(settings, clock.clone()).unwrap();
    for _ in 0..2 {
        assert!(matches!(packument(&upstream).await, Err(Error::Unavailable(_))));
    }
    let open = Error::CircuitOpen { retry_after: Duration::from_secs(10) };
    assert_eq!((packument(&upstream).await.unwrap_err(), server.count()), (open.clone(), 2));
    // Tarballs on other hosts are none of its business.
    let elsewhere = Server::start(|_, _| json("tarball")).await;
    tarball(&upstream, &elsewhere.url).await.unwrap();
    assert_eq!(tarball(&upstream, &server.url).await, Err(open));

    clock.advance(Duration::from_secs(10));
    assert!(matches!(packument(&upstream).await, Err(Error::Unavailable(_))));
    assert!(matches!(packument(&upstream).await, Err(Error::CircuitOpen { .. })));
    clock.advance(Duration::from_secs(10));
    packument(&upstream).await.unwrap();
    packument(&upstream).await.unwrap();
    assert_eq!(server.count(), 5);
}

#[tokio::test]
async fn bodies_that_break_off_open_the_breaker_and_refusals_do_not() {
    let url = start_raw("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", true).await;
    let breaker = breaker::Settings { failures: 1, ..breaker::Settings::default() };
    let upstream = upstream_with(&url, |settings| settings.breaker = breaker);
    assert!(matches!(packument(&upstream).await, Err(Error::Unavailable(_))));
    assert!(matches!(packument(&upstream).await, Err(Error::CircuitOpen { .. })));

    let server = Server::start(|index, _| status([404, 401, 429, 200][index % 4])).await;
    let upstream = upstream_with(&server.url, |settings| {
        settings.breaker = breaker;
        settings.retries = 0;
    });
    for _ in 0..8 {
        assert!(!matches!(packument(&upstream).await, Err(Error::CircuitOpen { .. })));
    }
}

#[tokio::test]
async fn another_host_that_fails_does_not_open_the_breaker() {
    let elsewhere = Server::start(|_, _| status(503)).await;
    let other = elsewhere.url.clone();
    let server = Server::start(move |_, _| redirect(302, other.as_str())).await;
    let upstream = upstream_with(&server.url, |settings| {
        settings.breaker = breaker::Settings { failures: 1, ..breaker::Settings::default() };
        settings.retries = 0;
    });
    for _ in 0..3 {
        assert!(matches!(packument(&upstream).await, Err(Error::Unavailable(_))));
    }
}

#[tokio::test]
async fn one_connection_serves_found_missing_and_compressed() {
    // The end of the body comes later than its last byte.
    let trailing = |bytes: Vec<u8>| {
        Body::from_stream(stream::iter([bytes, Vec::new(), Vec::new()]).then(|part| async {
            tokio::task::yield_now().await;
            Ok::<_, Infallible>(part)
        }))
    };
    let server = Server::start(move |index, _| match index % 3 {
        0 => ([(header::CONTENT_ENCODING, "gzip")], trailing(gzip(FULL.as_bytes()))).into_response(),
        1 => (StatusCode::NOT_FOUND, trailing(b"not found".to_vec())).into_response(),
        _ => json(FULL),
    })
    .await;
    let upstream = upstream(&server.url);
    for _ in 0..6 {
        let _ = packument(&upstream).await;
    }
    let seen = server.seen();
    assert_eq!(seen.len(), 6);
    assert!(seen.iter().all(|request| request.peer == seen[0].peer), "{seen:?}");
}

// Settings.

#[test]
fn settings_that_cannot_work_are_refused() {
    let build = |url: &str, change: fn(&mut Settings)| {
        let mut settings = Settings::new("main", url.parse().unwrap());
        change(&mut settings);
        Upstream::new(settings, Clock::default()).err()
    };
    let good = "https://registry.test/npm";
    assert!(build(good, |_| {}).is_none());
    for name in ["", "-a", "Main", "a/b", "a b", "ä"] {
        let settings = Settings::new(name, good.parse().unwrap());
        assert!(matches!(Upstream::new(settings, Clock::default()), Err(BuildError::Name)), "{name}");
    }
    for url in ["ftp://registry.test/", "file:///npm", "https://registry.test/?a=b", "https://registry.test/#a"] {
        assert!(matches!(build(url, |_| {}), Some(BuildError::Url)), "{url}");
    }
    assert!(matches!(build("https://u:p@registry.test/", |_| {}), Some(BuildError::CredentialsInUrl)));
    let bad_token = build(good, |settings| settings.token = Some(Secret::new("a\nb")));
    assert!(matches!(bad_token, Some(BuildError::Credentials)));
    let both = build(good, |settings| {
        settings.token = Some(Secret::new("a"));
        settings.basic = Some(Secret::new("b"));
    });
    assert!(matches!(both, Some(BuildError::TwoCredentials)));
    let bad_pem = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----";
    let certificates = Upstream::new(
        Settings { extra_certificates: Some(bad_pem.into()), ..Settings::new("main", good.parse().unwrap()) },
        Clock::default(),
    );
    assert!(matches!(certificates, Err(BuildError::Certificates(_))), "{certificates:?}");
}

#[test]
fn nothing_prints_credentials() {
    let mut settings = Settings::new("main", "https://u:hunter2@registry.test/".parse().unwrap());
    settings.token = Some(Secret::new("hunter2"));
    settings.proxy = Some("http://u:hunter2@proxy.test/".parse().unwrap());
    assert!(!format!("{settings:?}").contains("hunter2"));
}
