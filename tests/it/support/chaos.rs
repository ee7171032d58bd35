//! A network that misbehaves: a TCP proxy that cuts, delays and truncates on command.
//!
//! It knows nothing of HTTP. Bytes go through it as they are, until the fault of the moment says otherwise.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What happens to connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// New connections are accepted and closed at once.
    Refuse,
    /// New connections are accepted, and then nothing comes, ever.
    Hang,
    /// Each piece of an answer waits.
    Delay(Duration),
    /// The connection is closed after this many bytes of the answer, headers included.
    CutAfter(usize),
    /// This many bytes of an answer come, then nothing, with the connection left open.
    StallAfter(usize),
    /// The request is cut after this many bytes, so that the server never sees the rest.
    CutRequestAfter(usize),
}

/// A running proxy. Ends when dropped.
#[derive(Debug)]
pub(crate) struct Chaos {
    address: SocketAddr,
    fault: Arc<Mutex<Fault>>,
    connections: Arc<AtomicUsize>,
    /// Its value changes when all open connections have to end.
    cut: watch::Sender<u32>,
    task: JoinHandle<()>,
}

impl Chaos {
    /// In front of an address such as `127.0.0.1:4873`, or of an `http://` URL of one.
    pub(crate) async fn before(target: &str) -> Self {
        Self::at("127.0.0.1", target).await
    }

    /// The same, listening on another address of this machine.
    pub(crate) async fn at(host: &str, target: &str) -> Self {
        let target = target.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let listener = TcpListener::bind((host, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let fault = Arc::new(Mutex::new(Fault::None));
        let connections = Arc::new(AtomicUsize::new(0));
        let cut = watch::Sender::new(0);
        let task = tokio::spawn(accept(listener, target, Arc::clone(&fault), Arc::clone(&connections), cut.clone()));
        Self { address, fault, connections, cut, task }
    }

    /// `http://127.0.0.1:PORT`
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on, for connections that are open too.
    pub(crate) fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    /// Ends every open connection now.
    pub(crate) fn cut_all(&self) {
        self.cut.send_modify(|count| *count += 1);
    }

    /// How many connections there have been.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Chaos {
    fn drop(&mut self) {
        self.task.abort();
        self.cut_all();
    }
}

async fn accept(
    listener: TcpListener,
    target: String,
    fault: Arc<Mutex<Fault>>,
    connections: Arc<AtomicUsize>,
    cut: watch::Sender<u32>,
) {
    while let Ok((client, _)) = listener.accept().await {
        connections.fetch_add(1, Ordering::SeqCst);
        let (target, fault, mut cut) = (target.clone(), Arc::clone(&fault), cut.subscribe());
        tokio::spawn(async move {
            tokio::select! {
                () = carry(client, &target, &fault) => {}
                _ = cut.changed() => {}
            }
        });
    }
}

async fn carry(client: TcpStream, target: &str, fault: &Mutex<Fault>) {
    let now = || *fault.lock().unwrap();
    match now() {
        Fault::Refuse => return,
        Fault::Hang => std::future::pending().await,
        _ => {}
    }
    let Ok(server) = TcpStream::connect(target).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();

    let requests = async {
        let mut buffer = vec![0; 16 * 1024];
        let mut carried = 0;
        while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
            let mut end = count;
            if let Fault::CutRequestAfter(limit) = now() {
                end = count.min(limit.saturating_sub(carried));
            }
            if to_server.write_all(&buffer[..end]).await.is_err() || end < count {
                return;
            }
            carried += count;
        }
        // The client may close its half and still wait for the answer.
        let _ = to_server.shutdown().await;
        std::future::pending::<()>().await;
    };
    let answers = async {
        let mut buffer = vec![0; 16 * 1024];
        let mut carried = 0;
        while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
            let mut end = count;
            let fault = now();
            match fault {
                Fault::Delay(time) => tokio::time::sleep(time).await,
                Fault::CutAfter(limit) | Fault::StallAfter(limit) => end = count.min(limit.saturating_sub(carried)),
                _ => {}
            }
            if to_client.write_all(&buffer[..end]).await.is_err() {
                return;
            }
            if end < count {
                if matches!(fault, Fault::StallAfter(_)) {
                    std::future::pending::<()>().await;
                }
                return;
            }
            carried += count;
        }
    };
    tokio::select! {
        () = requests => {}
        () = answers => {}
    }
}
