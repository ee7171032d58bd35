//! A connection's socket, watched for signs of life.
//!
//! HTTP libraries limit how long a head may take with a timer for each request, which costs a tenth of a small answer. One
//! timer for each connection does as well: whoever neither begins a request nor takes bytes of an answer for a while is
//! cut off. Bytes that only come in are no sign: a head that drips for ever would keep its connection.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

/// What a connection was seen to do. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Life(Arc<Signs>);

#[derive(Debug, Default)]
struct Signs {
    /// Something happened since somebody looked.
    stirred: AtomicBool,
    /// Requests whose answer has not begun.
    under_way: AtomicUsize,
}

/// A request whose answer has not begun, while this lives.
#[derive(Debug)]
pub(super) struct Begun(Life);

impl Life {
    fn stir(&self) {
        // Looked at first: a write would take the line of memory from other cores each time.
        if !self.0.stirred.load(Ordering::Relaxed) {
            self.0.stirred.store(true, Ordering::Relaxed);
        }
    }

    /// A request begins.
    pub(super) fn begin(&self) -> Begun {
        self.stir();
        self.0.under_way.fetch_add(1, Ordering::Relaxed);
        Begun(self.clone())
    }

    /// Waits until nothing has happened for `patience`; it may be nearly twice as long.
    pub(super) async fn silence(&self, patience: Duration) {
        let mut look = Instant::now() + patience;
        loop {
            sleep_until(look).await;
            let stirred = self.0.stirred.swap(false, Ordering::Relaxed);
            if !stirred && self.0.under_way.load(Ordering::Relaxed) == 0 {
                return;
            }
            look += patience;
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.stir();
        self.0.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The socket. What is written is a sign of life.
#[derive(Debug)]
pub(super) struct Watched {
    stream: TcpStream,
    life: Life,
}

impl Watched {
    pub(super) fn new(stream: TcpStream, life: Life) -> Self {
        Self { stream, life }
    }

    fn noted(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(_)) = written {
            self.life.stir();
        }
        written
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.noted(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.noted(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_not_silent_while_a_request_is_under_way() {
        let (patience, life) = (Duration::from_millis(2), Life::default());
        let request = life.begin();
        tokio::select! {
            () = life.silence(patience) => panic!("a request is under way"),
            () = tokio::time::sleep(patience * 20) => drop(request),
        }
        life.silence(patience).await;
    }
}
