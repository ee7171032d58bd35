//! What a service manager says to this program, and what it is told: sockets that are handed over, and when the server is
//! ready. Without a service manager nothing happens. Of systemd's protocols (`sd_listen_fds(3)`, `sd_notify(3)`), which others
//! speak too.

use std::io;
use std::net::TcpListener;

use listenfd::ListenFd;

use crate::settings;

/// The listener that the service manager has opened for this process, where it has. Call it before there are threads: it takes
/// the variables out of the environment, so that no child believes them to be for it.
///
/// # Errors
/// When what was handed over is no TCP listener.
pub fn listener() -> io::Result<Option<TcpListener>> {
    ListenFd::from_env().take_tcp_listener(0)
}

/// Tells the service manager a state, such as `READY=1`. One that does not listen misses it.
pub(super) fn notify(state: &str) {
    if let Some(socket) = settings::notify_socket()
        && let Err(error) = send(&socket, state)
    {
        tracing::warn!(%error, "the service manager could not be told: {state}");
    }
}

fn send(socket: &str, state: &str) -> io::Result<()> {
    let sender = std::os::unix::net::UnixDatagram::unbound()?;
    // It is there to be told; if it does not read, the server goes on.
    sender.set_nonblocking(true)?;
    #[cfg(target_os = "linux")]
    if let Some(name) = socket.strip_prefix('@') {
        use std::os::linux::net::SocketAddrExt as _;
        let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
        return sender.send_to_addr(state.as_bytes(), &address).map(|_| ());
    }
    sender.send_to(state.as_bytes(), socket).map(|_| ())
}
