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
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::reload::Reload;
use super::watched::{Life, Watched};
use super::{control, systemd};
use crate::app::App;
use crate::http::HttpService;

/// How long a stop waits, when no request is under way any more, for what requests have left to do.
const LAST_TASKS: Duration = Duration::from_secs(10);
/// How long it waits for the first request on a connection that was just accepted.
const FIRST_REQUEST: Duration = Duration::from_secs(1);
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

/// Takes over a listener that is open already: what starts this program accepts connections before it and between two of
/// it, and they wait to be served.
///
/// # Errors
/// When the system refuses to wait for it.
pub fn inherit(listener: std::net::TcpListener, max_connections: usize) -> std::io::Result<Bound> {
    listener.set_nonblocking(true)?;
    Ok(Bound { listener: TcpListener::from_std(listener)?, second: None, max_connections })
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

    /// Serves until `stop` is ready. Takes orders of operators in the data directory, where there is one, and puts changed
    /// settings in force. Then lets requests under way end, up to a deadline, and the application's tasks after them.
    pub async fn serve(self, app: App, directory: Option<&Path>, reload: Reload, stop: impl Future<Output = ()>) {
        let (no_orders, drain) = (CancellationToken::new(), reload.settings().server.drain);
        let service = HttpService::new(app.clone());
        if let Some(directory) = directory {
            let (service, directory, no_orders) = (service.clone(), directory.to_owned(), no_orders.clone());
            app.tasks.spawn(async move {
                if let Err(error) = control::listen(service, &directory, no_orders).await {
                    tracing::warn!(%error, "operators can give no orders to this server; `holdfast user` and the like need it stopped");
                }
            });
        }
        app.tasks.spawn(reload.keep(service.clone(), no_orders.clone()));
        systemd::notify("READY=1");
        let connections = Arc::new(Semaphore::new(self.max_connections));
        let open = Open::default();
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
            let connection = connection(stream, peer, service.clone(), open.clone());
            open.tasks.spawn(async move {
                let _permit = permit;
                connection.await;
            });
        }
        no_orders.cancel();
        systemd::notify("STOPPING=1");
        drop((self.listener, self.second));
        tracing::info!("stopping: no new connections, waiting for requests under way");
        open.stopping.cancel();
        open.tasks.close();
        if tokio::time::timeout(drain, open.tasks.wait()).await.is_err() {
            tracing::warn!("requests were still under way at the deadline and are cut off");
            open.cut.cancel();
            open.tasks.wait().await;
        }
        // Apart from the drain: one client that does not end must not keep the search index from being closed in order.
        if tokio::time::timeout(LAST_TASKS, app.stop()).await.is_err() {
            tracing::debug!("tasks were still running at the deadline");
        }
    }
}

/// Connections that are open. Cheap to clone.
#[derive(Clone, Default)]
struct Open {
    tasks: TaskTracker,
    /// Each ends after the request that it is busy with.
    stopping: CancellationToken,
    /// Each ends now.
    cut: CancellationToken,
}

fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    service: HttpService,
    open: Open,
) -> impl Future<Output = ()> + Send + use<> {
    // Small answers must not wait for the acknowledgement of the one before. A socket that is gone fails later anyway.
    let _ = stream.set_nodelay(true);
    let idle = service.app().idle;
    let has_asked = Arc::new(AtomicBool::new(false));
    let first = Arc::new(Notify::new());
    let (asks, notes, life) = (Arc::clone(&has_asked), Arc::clone(&first), Life::default());
    let watched = Watched::new(stream, life.clone());
    let signs = life.clone();
    let answer = service_fn(move |request: hyper::Request<Incoming>| {
        if !asks.load(Ordering::Relaxed) {
            asks.store(true, Ordering::Relaxed);
            notes.notify_one();
        }
        let begun = signs.begin();
        let answer = service.call_from(peer, request.map(Body::new));
        async move {
            let answer = answer.await;
            drop(begun);
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(MAX_HEADER_BYTES * 2);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(MAX_HEADER_BYTES).unwrap_or(u32::MAX))
        .keep_alive_interval(Duration::from_secs(30));
    let connection = builder.serve_connection(TokioIo::new(watched), answer).into_owned();
    async move {
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = life.silence(idle) => {
                tracing::debug!(%peer, "a connection on which nothing happens is closed");
                return;
            }
            () = open.stopping.cancelled() => {
                // Where nothing was asked yet it was accepted a moment ago, and a request is on its way: to close it now
                // would lose that.
                if !has_asked.load(Ordering::Relaxed) {
                    tokio::select! {
                        _ = connection.as_mut() => return,
                        () = first.notified() => {}
                        () = tokio::time::sleep(FIRST_REQUEST) => {}
                    }
                }
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection.as_mut() => ended,
                    () = open.cut.cancelled() => return,
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, error = &*error, "a connection ended early");
        }
    }
}
