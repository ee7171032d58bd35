//! A listener with HTTP/1.1 and HTTP/2, bounded in connections, that stops without cutting anybody off.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::control;
use crate::app::App;
use crate::http::{HttpService, Peer};

/// How long a stop waits for requests under way.
const DRAIN: Duration = Duration::from_secs(30);
/// How long it waits after that for what requests have left to do.
const LAST_TASKS: Duration = Duration::from_secs(10);
/// Long paths and tokens fit; a flood of headers does not.
const MAX_HEADER_BYTES: usize = 64 * 1024;

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct ServeError {
    address: SocketAddr,
    #[source]
    source: std::io::Error,
}

impl ServeError {
    /// What the system said, for advice.
    pub fn kind(&self) -> std::io::ErrorKind {
        self.source.kind()
    }
}

/// A socket that listens, not yet served.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    /// The other address that `localhost` may mean.
    second: Option<TcpListener>,
    max_connections: usize,
}

/// Takes the address. From now on connections are accepted by the system and wait to be served.
pub async fn bind(address: SocketAddr, max_connections: usize) -> Result<Bound, ServeError> {
    let listener = TcpListener::bind(address).await.map_err(|source| ServeError { address, source })?;
    // Node 17 to 19 take the first address of `localhost`, which is `::1` on many machines. Where there is none, or it
    // is taken, the first listener has to do.
    let second = match listener.local_addr() {
        Ok(taken) if taken.ip() == Ipv4Addr::LOCALHOST => {
            TcpListener::bind((Ipv6Addr::LOCALHOST, taken.port())).await.ok()
        }
        _ => None,
    };
    Ok(Bound { listener, second, max_connections })
}

impl Bound {
    /// The address that was taken; its port is a real one where port 0 was asked for.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    async fn accept(&self) -> std::io::Result<(TcpStream, SocketAddr)> {
        let Some(second) = &self.second else { return self.listener.accept().await };
        tokio::select! {
            accepted = self.listener.accept() => accepted,
            accepted = second.accept() => accepted,
        }
    }

    /// Serves until `stop` is ready, and takes orders of operators in the data directory, where there is one; then lets
    /// requests under way end, up to a deadline, and the application's tasks after them.
    pub async fn serve(self, app: App, directory: Option<&Path>, stop: impl Future<Output = ()>) {
        let no_orders = CancellationToken::new();
        if let Some(directory) = directory {
            let (of, directory, no_orders) = (app.clone(), directory.to_owned(), no_orders.clone());
            app.tasks.spawn(async move {
                if let Err(error) = control::listen(of, &directory, no_orders).await {
                    tracing::warn!(%error, "operators can give no orders to this server; `holdfast user` and the like need it stopped");
                }
            });
        }
        let service = HttpService::new(app.clone());
        let connections = Arc::new(Semaphore::new(self.max_connections));
        let graceful = GracefulShutdown::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            let accepted = async {
                // Closed nowhere.
                let permit = Arc::clone(&connections).acquire_owned().await;
                (self.accept().await, permit)
            };
            let (accepted, permit) = tokio::select! {
                accepted = accepted => accepted,
                () = &mut stop => break,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, mostly: others will be closed soon.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let connection = connection(stream, peer, service.clone(), app.idle, &graceful);
            app.tasks.spawn(async move {
                let _permit = permit;
                connection.await;
            });
        }
        no_orders.cancel();
        drop((self.listener, self.second));
        tracing::info!("stopping: no new connections, waiting for requests under way");
        if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
            tracing::warn!("requests were still under way at the deadline and are cut off");
        }
        // Apart from the drain: one client that does not end must not keep the search index from being closed in order.
        if tokio::time::timeout(LAST_TASKS, app.stop()).await.is_err() {
            tracing::debug!("tasks were still running at the deadline");
        }
    }
}

fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    service: HttpService,
    idle: Duration,
    graceful: &GracefulShutdown,
) -> impl Future<Output = ()> + Send + use<> {
    // Small answers must not wait for the acknowledgement of the one before. A socket that is gone fails later anyway.
    let _ = stream.set_nodelay(true);
    let has_asked = Arc::new(AtomicBool::new(false));
    let asks = Arc::clone(&has_asked);
    let answer = service_fn(move |request: hyper::Request<Incoming>| {
        asks.store(true, Ordering::Relaxed);
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Peer(peer));
        let service = service.clone();
        async move { Ok::<_, std::convert::Infallible>(service.call(request).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(idle).max_buf_size(MAX_HEADER_BYTES * 2);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(MAX_HEADER_BYTES).unwrap_or(u32::MAX))
        .keep_alive_interval(Duration::from_secs(30));
    let connection = builder.serve_connection(TokioIo::new(stream), answer).into_owned();
    let watched = graceful.watch(connection);
    async move {
        let mut watched = std::pin::pin!(watched);
        // The limit on a head begins only when it is known which HTTP is spoken, which a client that sends nothing, or
        // half of HTTP/2's greeting, never tells.
        let ended = match tokio::time::timeout(idle, &mut watched).await {
            Ok(ended) => ended,
            Err(_) if has_asked.load(Ordering::Relaxed) => watched.await,
            Err(_) => {
                tracing::debug!(%peer, "a connection on which nothing was asked is closed");
                return;
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, error = &*error, "a connection ended early");
        }
    }
}
