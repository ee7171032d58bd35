//! A proxy between a client and the server that writes down what was asked and what was answered.
//!
//! The server is started with the recorder's address as its public URL, so that tarballs come through it too.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Response, StatusCode, header};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// One request and the status of its answer.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    pub(crate) method: String,
    /// As it was sent, with its escapes and query.
    pub(crate) path: String,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
}

/// A running recorder. Ends when dropped.
#[derive(Debug)]
pub(crate) struct Recorder {
    url: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    target: Mutex<String>,
    exchanges: Mutex<Vec<Exchange>>,
    client: reqwest::Client,
}

impl Recorder {
    /// Listens. It has to be told its target before a request comes.
    pub(crate) async fn start() -> Self {
        let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let shared = Arc::new(Shared { target: Mutex::default(), exchanges: Mutex::default(), client });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().fallback(forward).with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, shared, task }
    }

    /// `http://127.0.0.1:PORT`
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Where requests go from now on: `http://127.0.0.1:PORT`.
    pub(crate) fn forward_to(&self, origin: &str) {
        origin.trim_end_matches('/').clone_into(&mut self.shared.target.lock().unwrap());
    }

    /// What went through since the last call.
    pub(crate) fn take(&self) -> Vec<Exchange> {
        std::mem::take(&mut *self.shared.exchanges.lock().unwrap())
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let url = format!("{}{path}", shared.target.lock().unwrap());
    let mut headers = head.headers.clone();
    for hop in [header::HOST, header::CONNECTION, header::TRANSFER_ENCODING, header::CONTENT_LENGTH] {
        headers.remove(hop);
    }
    let body = axum::body::to_bytes(body, 256 << 20).await.unwrap();
    let sent = shared.client.request(head.method.clone(), url).headers(headers).body(body).send().await;
    let answer = sent.map_or_else(
        |error| plain(StatusCode::BAD_GATEWAY, &error.to_string()),
        |answer| {
            let mut response = Response::builder().status(answer.status());
            for (name, value) in answer.headers() {
                if !matches!(*name, header::CONNECTION | header::TRANSFER_ENCODING) {
                    response = response.header(name, value);
                }
            }
            response.body(Body::from_stream(answer.bytes_stream())).unwrap()
        },
    );
    let exchange = Exchange { method: head.method.to_string(), path, status: answer.status(), headers: head.headers };
    shared.exchanges.lock().unwrap().push(exchange);
    answer
}

fn plain(status: StatusCode, text: &str) -> Response<Body> {
    Response::builder().status(status).body(Body::from(text.to_owned())).unwrap()
}
