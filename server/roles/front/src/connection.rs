//! Connections, as many as are allowed: one more is closed at once, and one that says nothing is closed soon.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use futures_util::stream::unfold;
use metrics::counter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use crate::limits::{STANDARD_STREAMS_PER_CONNECTION_MAX, Seats};
use crate::metric_definitions::RPC_CONNECTIONS_REFUSED;

/// Bytes that begin an HTTP/2 connection (RFC 9113, section 3.4). From then on its keep-alive looks after it.
const PREFACE_BYTES: usize = 24;
/// How long a peer may take for them.
const PREFACE_MAX: Duration = Duration::from_secs(5);
/// Before accepting is tried again, where the system has no more to give: it does not say when it has.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// Connections from a listener, until the stream is dropped; `cut` ends all of them.
pub(crate) fn connections(
    listener: TcpListener,
    seats: Seats,
    cut: CancellationToken,
) -> impl Stream<Item = io::Result<Connection>> {
    unfold((listener, seats, cut), |(listener, seats, cut)| async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => match seats.take() {
                    Ok(seat) => {
                        let connection = Connection::new(stream, seat, &cut);
                        return Some((Ok(connection), (listener, seats, cut)));
                    }
                    Err(_) => counter!(RPC_CONNECTIONS_REFUSED).increment(1),
                },
                Err(error) => {
                    tracing::debug!(%error, "a connection is not accepted");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    })
}

/// Whose connection a call came over.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// None if it was gone at once.
    pub(crate) address: Option<SocketAddr>,
    /// Ends the connection.
    pub(crate) cut: CancellationToken,
    /// For its streams that need no token.
    pub(crate) standard_streams: Seats,
}

/// A connection that counts.
pub(crate) struct Connection {
    peer: Peer,
    stream: TcpStream,
    /// Before the preface has come.
    preface: Option<(usize, Pin<Box<Sleep>>)>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    _seat: OwnedSemaphorePermit,
}

impl Connection {
    fn new(stream: TcpStream, seat: OwnedSemaphorePermit, cut: &CancellationToken) -> Self {
        // It only costs time if that fails.
        let _ = stream.set_nodelay(true);
        let peer = Peer {
            address: stream.peer_addr().ok(),
            cut: cut.child_token(),
            standard_streams: Seats::new(
                STANDARD_STREAMS_PER_CONNECTION_MAX,
                "streams of health and reflection over this connection",
            ),
        };
        Self {
            stream,
            preface: Some((PREFACE_BYTES, Box::pin(tokio::time::sleep(PREFACE_MAX)))),
            cut: Box::pin(peer.cut.clone().cancelled_owned()),
            peer,
            _seat: seat,
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.cut.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let before = into.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, into);
        if let Some((missing, time)) = &mut this.preface {
            *missing = missing.saturating_sub(into.filled().len() - before);
            if *missing == 0 {
                this.preface = None;
            } else if time.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
