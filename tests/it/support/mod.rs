//! What the tests share: the server as a process, real clients, a registry to stand upstream, a network that misbehaves,
//! stand-ins for GitHub, for the issuers of identity tokens and for S3, a browser, an authenticator app.

pub(crate) mod app;
pub(crate) mod authenticator;
pub(crate) mod browser;
pub(crate) mod bucket;
pub(crate) mod chaos;
pub(crate) mod ci;
pub(crate) mod clients;
pub(crate) mod cloudformation;
pub(crate) mod codebox;
pub(crate) mod collector;
pub(crate) mod company;
pub(crate) mod github;
pub(crate) mod http;
pub(crate) mod in_process;
pub(crate) mod incidents;
pub(crate) mod issuer;
pub(crate) mod lambda;
mod loopback;
pub(crate) mod maintenance;
pub(crate) mod network;
pub(crate) mod object_server;
pub(crate) mod package;
pub(crate) mod pages;
pub(crate) mod real_servers;
pub(crate) mod receiver;
pub(crate) mod recorder;
pub(crate) mod server;
pub(crate) mod signed_in;
pub(crate) mod signing;
pub(crate) mod tarballs;
pub(crate) mod upstream;
pub(crate) mod verdaccio;

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How long anything may take that is quick by nature. Long, because a loaded CI machine stalls for seconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A port to listen on that stays ours when its listener is closed and opened again, as a restart does.
///
/// Ports that the system hands out itself would not do: another process may get the same one in between. So these are
/// below the range that Linux and macOS hand out, and start at a place that depends on the process.
pub(crate) fn stable_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const FIRST: u32 = 12_000;
    const COUNT: u32 = 20_000;
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (std::process::id().wrapping_mul(37).wrapping_add(step)) % COUNT;
        let port = u16::try_from(port).unwrap();
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}

/// Bytes in hex, as the store writes names and hashes.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

/// The last lines of a text, for messages of failure.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
