//! What the stand-ins for services of others share: a small HTTP server on loopback that can also hang up.
//!
//! It runs on threads of its own, so that a test that blocks does not block it, and dropping it closes its port and cuts
//! every connection.

use std::future::Future;
use std::net::Ipv4Addr;

use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use axum::http::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::runtime::Runtime;

/// The largest body of a request. Of a larger one nothing is handed on, nor of one that did not come to its end.
const LARGEST_BODY: usize = 64 << 20;

/// A running server. Ends when dropped.
#[derive(Debug)]
pub(super) struct Loopback {
    runtime: Option<Runtime>,
}

impl Loopback {
    /// Listens on a port of the system's choice. `make` gets the port and gives what answers; `None` closes the
    /// connection without an answer.
    pub(super) fn start<F, R>(make: impl FnOnce(u16) -> F) -> Self
    where
        F: Fn(Parts, Bytes) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Option<Response<Body>>> + Send + 'static,
    {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let answer = make(listener.local_addr().unwrap().port());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let answer = answer.clone();
                let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
                    let answer = answer.clone();
                    async move {
                        let (head, body) = request.into_parts();
                        let body = axum::body::to_bytes(Body::new(body), LARGEST_BODY).await.unwrap_or_default();
                        // An error of the service is what makes hyper close the connection and say nothing.
                        answer(head, body).await.ok_or_else(|| std::io::Error::other("hung up, as the test wants"))
                    }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { runtime: Some(runtime) }
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // The other way of ending a runtime waits, which is not allowed where tests run.
            runtime.shutdown_background();
        }
    }
}
