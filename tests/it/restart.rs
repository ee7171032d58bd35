//! Stopping and starting: requests under way end, no longer than a deadline; and with a socket that a service manager
//! holds, nobody sees that the server was away.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::PATIENCE;
use crate::support::http::publish_document;
use crate::support::server::{Settings, program, signal};
use crate::support::tarballs::Tarball;

/// A publish of which the head and half of the body are sent; the connection, and the other half.
async fn half_a_publish(origin: &str, token: &str) -> (TcpStream, Vec<u8>) {
    let body = publish_document(&Tarball::new("tool", "1.0.0"), "latest").to_string();
    let (half, rest) = body.split_at(body.len() / 2);
    let head = format!(
        "PUT /tool HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(origin.strip_prefix("http://").unwrap()).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(half.as_bytes()).await.unwrap();
    (stream, rest.as_bytes().to_vec())
}

/// Waits until the server has a request under way beside the one that asks.
async fn until_under_way(server: &crate::support::server::Server) {
    let deadline = Instant::now() + PATIENCE;
    while !server.http().get("/-/metrics").await.ok().text().contains("\nholdfast_http_requests_under_way 2\n") {
        assert!(Instant::now() < deadline, "the request did not come\n{}", server.log().tail(20));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_request_under_way_is_answered_before_the_end() {
    let mut server = Settings::alone().start().await;
    let token = server.http().create_user("alice", "correct horse battery").await;
    let (mut stream, rest) = half_a_publish(server.origin(), &token).await;
    until_under_way(&server).await;
    server.begin_stop();
    let deadline = Instant::now() + PATIENCE;
    while !server.log().text().contains("stopping: no new connections") {
        assert!(Instant::now() < deadline, "{}", server.log().tail(20));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stream.write_all(&rest).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert!(server.stop().await.success());
    let server = server.restart().await;
    server.http().get("/tool/1.0.0").await.ok();
}

#[tokio::test]
async fn a_request_that_lasts_longer_than_the_deadline_is_cut_off() {
    let mut server = Settings::alone().env("HOLDFAST__SERVER__DRAIN_SECONDS", "1").start().await;
    let token = server.http().create_user("alice", "correct horse battery").await;
    let (mut stream, _) = half_a_publish(server.origin(), &token).await;
    until_under_way(&server).await;
    assert!(server.stop().await.success(), "{}", server.log().tail(20));
    assert!(server.log().text().contains("at the deadline and are cut off"), "{}", server.log().tail(20));
    let mut answer = Vec::new();
    // Closed, or reset.
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    // Nothing of it is there.
    let server = server.restart().await;
    assert_eq!(server.http().get("/tool").await.status, 404);
}

/// What a service manager does: it holds the socket, and starts the server with it.
struct Manager {
    listener: TcpListener,
    folder: tempfile::TempDir,
    told: UnixDatagram,
}

impl Manager {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("holdfast-manager-").tempdir().unwrap();
        let told = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        told.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { listener: TcpListener::bind("127.0.0.1:0").unwrap(), folder, told }
    }

    fn notify_path(&self) -> PathBuf {
        self.folder.path().join("notify")
    }

    /// Starts the server. The shell moves the socket to where the protocol has it, and tells the process its own number.
    fn start(&self, data: &Path) -> Child {
        let socket = OwnedFd::from(self.listener.try_clone().unwrap());
        let script = "exec 3<&0 0</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(program()).args(["serve", "--no-upstream", "--data"]).arg(data);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", self.folder.path());
        command.env("NOTIFY_SOCKET", self.notify_path()).current_dir(self.folder.path());
        command.stdin(Stdio::from(socket)).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    }

    /// Waits for what the server tells.
    fn hears(&self, state: &str) {
        let mut buffer = [0; 256];
        let length = self.told.recv(&mut buffer).unwrap_or_else(|error| panic!("{state} did not come: {error}"));
        assert_eq!(String::from_utf8_lossy(&buffer[..length]), state);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_sees_a_restart_behind_a_socket_that_stays_open() {
    let manager = Manager::new();
    let data = manager.folder.path().join("data");
    let address = manager.listener.local_addr().unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    // A new connection for each request, without a pause, from before the first start to after the last one.
    let asking: Vec<_> = (0..4)
        .map(|_| {
            let is_over = Arc::clone(&is_over);
            tokio::spawn(async move {
                let mut answered = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
                    let answer = client.get(format!("http://{address}/-/ping")).send().await;
                    let answer = answer.unwrap_or_else(|error| panic!("after {answered} answers: {error:?}"));
                    assert_eq!(answer.status(), 200);
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    let starts = tokio::task::spawn_blocking(move || {
        for _ in 0..3 {
            let mut child = manager.start(&data);
            manager.hears("READY=1");
            std::thread::yield_now();
            signal("-TERM", &child.id().to_string());
            manager.hears("STOPPING=1");
            assert!(child.wait().unwrap().success());
        }
        let child = manager.start(&data);
        manager.hears("READY=1");
        (manager, child)
    });
    let (_manager, mut child) = starts.await.unwrap();
    is_over.store(true, Ordering::Relaxed);
    let mut all = 0;
    for asking in asking {
        all += asking.await.unwrap();
    }
    assert!(all > 4, "{all}");
    let _ = child.kill();
    let _ = child.wait();
}
