//! A TCP listener for axum that holds so many connections at once, of all peers and of each, and drops those that fall silent
//! or take too long over a request.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep},
};

/// Most connections at once: five swarms of 200 that each keep theirs. The next one waits in the system's queue.
const CONNECTIONS_MAX: usize = 1024;

/// Most connections of one peer address (IPv6: per /64, which is what one customer is given): a swarm of 200 that each keep
/// theirs, and a quarter of [`CONNECTIONS_MAX`]. The next one is closed at once.
const CONNECTIONS_PER_PEER_MAX: usize = 256;

/// A connection that moves no byte for so long is dropped, so that idle ones cannot use up [`CONNECTIONS_MAX`].
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// From the first byte of a request to the first of its answer. Silence alone bounds nothing: a byte now and then would hold a
/// connection for ever. A request is a few hundred bytes and its answer is at hand.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);

/// How long a connection may take over what.
#[derive(Clone, Copy)]
struct TimeBounds {
    silence_max: Duration,
    request_max: Duration,
}

const TIME_BOUNDS: TimeBounds = TimeBounds {
    silence_max: SILENCE_MAX,
    request_max: REQUEST_TIME_MAX,
};

pub(super) struct BoundedListener {
    listener: TcpListener,
    places: Arc<Semaphore>,
    peers: Peers,
}

impl BoundedListener {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self {
            listener,
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            peers: Peers::new(CONNECTIONS_PER_PEER_MAX),
        }
    }
}

impl Listener for BoundedListener {
    type Io = BoundedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        // Acquiring fails only if the semaphore is closed, which nobody does.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        loop {
            // axum's own implementation: it logs errors and goes on.
            let (stream, peer) = Listener::accept(&mut self.listener).await;
            if let Some(share) = self.peers.take(peer.ip()) {
                let place = Place {
                    _of_all: place,
                    _of_peer: share,
                };
                return (BoundedStream::new(stream, place, TIME_BOUNDS), peer);
            }
            tracing::debug!(%peer, "connection closed: its peer has too many");
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// The address of who is at the other end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

impl Connected<IncomingStream<'_, BoundedListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, BoundedListener>) -> Self {
        Self(*stream.remote_addr())
    }
}

/// How many connections each peer has.
#[derive(Clone)]
struct Peers {
    connections: Arc<Mutex<HashMap<IpAddr, usize>>>,
    each_max: usize,
}

impl Peers {
    fn new(each_max: usize) -> Self {
        Self {
            connections: Arc::default(),
            each_max,
        }
    }

    /// A connection's share, unless its peer has all of it.
    fn take(&self, address: IpAddr) -> Option<PeerShare> {
        let network = network_of(address);
        let mut connections = self.lock();
        let count = connections.entry(network).or_default();
        if *count >= self.each_max {
            return None;
        }
        *count += 1;
        Some(PeerShare {
            peers: self.clone(),
            network,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What counts as one peer.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
        address => address,
    }
}

/// One connection of a peer, given back when dropped.
struct PeerShare {
    peers: Peers,
    network: IpAddr,
}

impl Drop for PeerShare {
    fn drop(&mut self) {
        let mut connections = self.peers.lock();
        if let Some(count) = connections.get_mut(&self.network) {
            *count -= 1;
            // Only who is connected is remembered.
            if *count == 0 {
                connections.remove(&self.network);
            }
        }
    }
}

/// What a connection holds, given back when dropped.
struct Place {
    _of_all: Option<OwnedSemaphorePermit>,
    _of_peer: PeerShare,
}

/// A connection that gives its place back when dropped.
pub(super) struct BoundedStream {
    stream: TcpStream,
    bounds: TimeBounds,
    silence_ends_at: Instant,
    /// Set from the first byte of a request to the first of its answer.
    request_ends_at: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    _place: Place,
}

impl BoundedStream {
    fn new(stream: TcpStream, place: Place, bounds: TimeBounds) -> Self {
        let silence_ends_at = Instant::now() + bounds.silence_max;
        Self {
            stream,
            bounds,
            silence_ends_at,
            request_ends_at: None,
            timer: Box::pin(tokio::time::sleep_until(silence_ends_at)),
            _place: place,
        }
    }

    /// Restarts the clock of silence on progress; turns a wait that lasts too long into an error.
    fn watch<T>(&mut self, context: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.silence_ends_at = Instant::now() + self.bounds.silence_max;
            return poll;
        }
        let ends_at = self
            .request_ends_at
            .map_or(self.silence_ends_at, |request| request.min(self.silence_ends_at));
        if self.timer.deadline() != ends_at {
            self.timer.as_mut().reset(ends_at);
        }
        ready!(self.timer.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for BoundedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let now = Instant::now();
        if self.request_ends_at.is_some_and(|ends_at| ends_at <= now) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let filled = buffer.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > filled && self.request_ends_at.is_none() {
            self.request_ends_at = Some(now + self.bounds.request_max);
        }
        self.watch(context, poll)
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(context, bytes);
        if poll.is_ready() {
            self.request_ends_at = None;
        }
        self.watch(context, poll)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Far above what a slow machine needs.
    const PATIENCE: Duration = Duration::from_secs(20);

    const PATIENT: TimeBounds = TimeBounds {
        silence_max: PATIENCE,
        request_max: PATIENCE,
    };

    #[tokio::test]
    async fn a_silent_connection_ends_and_gives_its_place_back() {
        let (listener, address) = listen().await;
        let bounds = TimeBounds {
            silence_max: Duration::from_millis(50),
            ..PATIENT
        };
        let (mut client, mut stream) = connect(&listener, address, bounds).await;
        assert_eq!(listener.places.available_permits(), CONNECTIONS_MAX - 1);
        assert_eq!(listener.peers.lock().len(), 1);
        client.write_all(b"x").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'x');
        assert_eq!(stream.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(stream);
        assert_eq!(listener.places.available_permits(), CONNECTIONS_MAX);
        assert!(listener.peers.lock().is_empty());
    }

    #[tokio::test]
    async fn a_request_that_drips_ends_however_steadily_it_comes() {
        let (listener, address) = listen().await;
        let bounds = TimeBounds {
            request_max: Duration::from_millis(200),
            ..PATIENT
        };
        let (mut client, mut stream) = connect(&listener, address, bounds).await;
        let dripping = tokio::spawn(async move {
            while client.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let end = async {
            loop {
                if let Err(error) = stream.read_u8().await {
                    break error.kind();
                }
            }
        };
        let end = tokio::time::timeout(PATIENCE, end).await.unwrap();
        assert_eq!(end, io::ErrorKind::TimedOut);
        drop(stream);
        dripping.await.unwrap();
    }

    #[tokio::test]
    async fn a_request_that_stays_half_sent_ends_before_the_silence_does() {
        let (listener, address) = listen().await;
        let bounds = TimeBounds {
            request_max: Duration::from_millis(50),
            ..PATIENT
        };
        let (mut client, mut stream) = connect(&listener, address, bounds).await;
        client.write_all(b"x").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'x');
        let end = tokio::time::timeout(PATIENCE / 2, stream.read_u8()).await.unwrap();
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn an_answer_ends_a_request_and_the_next_has_its_own_time() {
        let (listener, address) = listen().await;
        let (mut client, mut stream) = connect(&listener, address, PATIENT).await;
        let mut ends_at = None;
        for _ in 0..3 {
            client.write_all(b"x").await.unwrap();
            stream.read_u8().await.unwrap();
            assert!(stream.request_ends_at > ends_at);
            ends_at = stream.request_ends_at;
            stream.write_all(b"y").await.unwrap();
            assert_eq!(stream.request_ends_at, None);
            client.read_u8().await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_peer_that_has_its_share_is_closed_at_once() {
        let (listener, address) = listen().await;
        let mut listener = BoundedListener {
            peers: Peers::new(1),
            ..listener
        };
        let _first = TcpStream::connect(address).await.unwrap();
        let (held, _) = listener.accept().await;
        let mut refused = TcpStream::connect(address).await.unwrap();
        let mut byte = [0];
        tokio::select! {
            _ = listener.accept() => panic!("the peer has its share"),
            read = refused.read(&mut byte) => assert_eq!(read.unwrap(), 0),
        }
        assert_eq!(listener.places.available_permits(), CONNECTIONS_MAX - 1);

        drop(held);
        let _next = TcpStream::connect(address).await.unwrap();
        tokio::time::timeout(PATIENCE, listener.accept()).await.unwrap();
    }

    #[test]
    fn a_swarm_of_200_fits_and_others_have_a_share_of_their_own() {
        let peers = Peers::new(CONNECTIONS_PER_PEER_MAX);
        let take = |address: &str| peers.take(address.parse().unwrap());
        let swarm: Vec<_> = (0..200).map_while(|_| take("10.0.0.1")).collect();
        assert_eq!(swarm.len(), 200);
        let rest: Vec<_> = (0..CONNECTIONS_MAX).map_while(|_| take("::ffff:10.0.0.1")).collect();
        assert_eq!(swarm.len() + rest.len(), CONNECTIONS_PER_PEER_MAX);
        assert!(take("10.0.0.2").is_some());
        let customer: Vec<_> = (0..CONNECTIONS_MAX)
            .map_while(|host| take(&format!("2001:db8::{host:x}")))
            .collect();
        assert_eq!(customer.len(), CONNECTIONS_PER_PEER_MAX);
        assert!(take("2001:db8:0:1::1").is_some());
        drop((swarm, rest, customer));
        assert!(peers.lock().is_empty());
    }

    async fn listen() -> (BoundedListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (BoundedListener::new(listener), address)
    }

    async fn connect(
        listener: &BoundedListener,
        address: SocketAddr,
        bounds: TimeBounds,
    ) -> (TcpStream, BoundedStream) {
        let client = TcpStream::connect(address).await.unwrap();
        let (stream, peer) = listener.listener.accept().await.unwrap();
        let place = Place {
            _of_all: Arc::clone(&listener.places).acquire_owned().await.ok(),
            _of_peer: listener.peers.take(peer.ip()).unwrap(),
        };
        (client, BoundedStream::new(stream, place, bounds))
    }
}
