//! A TCP connection to a MoM that tells when the other end closes it, so that a crash is noticed when it happens and
//! not at the next probe.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use storage::MomAddress;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tonic::codegen::{BoxFuture, Service};
use tonic::transport::Uri;

/// Connects to one MoM.
pub(crate) struct Connector {
    mom: MomAddress,
    hint: Arc<Notify>,
}

impl Connector {
    pub(crate) fn new(mom: MomAddress, hint: Arc<Notify>) -> Self {
        Self { mom, hint }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Link>;
    type Error = io::Error;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (mom, hint) = (self.mom.clone(), Arc::clone(&self.hint));
        Box::pin(async move {
            let stream = TcpStream::connect((mom.host.as_str(), mom.port)).await?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(Link { stream, hint }))
        })
    }
}

/// A connection that gives a hint when it ends from the other side.
pub(crate) struct Link {
    stream: TcpStream,
    hint: Arc<Notify>,
}

impl AsyncRead for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (filled, room) = (buf.filled().len(), buf.remaining());
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Poll::Ready(result) = &read
            && room > 0
            && (result.is_err() || buf.filled().len() == filled)
        {
            self.hint.notify_one();
        }
        read
    }
}

impl AsyncWrite for Link {
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
