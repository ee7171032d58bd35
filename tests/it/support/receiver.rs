//! Somebody who is told what happens: keeps what came, and answers as a test wants, well or badly.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderMap, Response, StatusCode};
use bytes::Bytes;
use serde_json::Value;

use super::loopback::Loopback;

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// With this status.
    Status(u16),
    /// Not at all.
    Hangs,
    /// By closing the connection.
    Closes,
    /// With 302 to another address of its own.
    Redirects,
    /// With 200 and a body that never ends.
    Drips,
}

/// What came.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Received {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// A running receiver. Ends when dropped.
#[derive(Debug)]
pub(crate) struct Receiver {
    url: String,
    shared: Arc<Mutex<Shared>>,
    _server: Loopback,
}

#[derive(Debug)]
struct Shared {
    mood: Mood,
    received: Vec<Received>,
}

impl Receiver {
    /// It answers well.
    pub(crate) fn start() -> Self {
        let shared = Arc::new(Mutex::new(Shared { mood: Mood::Status(200), received: Vec::new() }));
        let mut url = String::new();
        let server = Loopback::start(|port| {
            url = format!("http://127.0.0.1:{port}");
            let shared = Arc::clone(&shared);
            move |head, body: Bytes| {
                let mood = {
                    let mut shared = shared.lock().unwrap();
                    let path = head.uri.path().to_owned();
                    shared.received.push(Received { path, headers: head.headers, body: body.to_vec() });
                    shared.mood
                };
                answer(mood)
            }
        });
        Self { url, shared, _server: server }
    }

    /// An address of its own.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// Answers so from now on.
    pub(crate) fn become_(&self, mood: Mood) {
        self.shared.lock().unwrap().mood = mood;
    }

    /// All that came so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.shared.lock().unwrap().received.clone()
    }

    /// Waits until so much came.
    pub(crate) async fn wait_for(&self, count: usize) -> Vec<Received> {
        let deadline = Instant::now() + super::PATIENCE;
        loop {
            let received = self.received();
            if received.len() >= count {
                return received;
            }
            assert!(Instant::now() < deadline, "{} of {count} came", received.len());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn answer(mood: Mood) -> Option<Response<Body>> {
    let response = Response::builder();
    let response = match mood {
        Mood::Status(status) => response.status(status).body(Body::empty()),
        Mood::Redirects => response.status(StatusCode::FOUND).header("location", "/elsewhere").body(Body::empty()),
        Mood::Drips => response.body(Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>())),
        Mood::Closes => return None,
        Mood::Hangs => return std::future::pending().await,
    };
    Some(response.unwrap())
}
