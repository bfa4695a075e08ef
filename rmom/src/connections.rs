//! The connections that are served, of which there are at most so many.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::{Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::transport::server::{Connected, TcpConnectInfo, TcpIncoming};

/// How many there are, and may be.
#[derive(Clone, Debug)]
pub struct Connections {
    permits: Arc<Semaphore>,
    max: usize,
}

impl Connections {
    /// At most `max`.
    pub fn new(max: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(max)),
            max,
        }
    }

    /// How many there may be.
    pub fn max(&self) -> usize {
        self.max
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        self.max - self.permits.available_permits()
    }
}

/// Accepts connections, and closes those beyond the most as they come: a client that finds this out tries again, and
/// one that is served loses nothing to those who would crowd it out.
pub fn accept(
    incoming: TcpIncoming,
    connections: Connections,
) -> impl Stream<Item = io::Result<Connection>> {
    let Connections { permits, max } = connections;
    let was_full = Cell::new(false);
    incoming.filter_map(move |accepted| {
        let permit = permits.clone().try_acquire_owned();
        // Said once for all that are refused in a row.
        if permit.is_err() && !was_full.get() {
            tracing::warn!(
                max,
                "connections are refused: there are as many as max_connections allows"
            );
        }
        was_full.set(permit.is_err());
        std::future::ready(match (accepted, permit) {
            (Ok(stream), Ok(permit)) => Some(Ok(Connection {
                stream,
                _permit: permit,
            })),
            (Ok(_), Err(_)) => None,
            (Err(error), _) => Some(Err(error)),
        })
    })
}

/// A connection that counts until it is dropped.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    _permit: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
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
