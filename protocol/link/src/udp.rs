//! UDP sockets as [`PacketIo`]: with a thread that waits for packets, or polled by whoever owns them.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{DATAGRAM_BYTES_MAX, LinkCounters, Packet, PacketIo, Urgency, raise_thread_priority};

/// Kernel buffer asked for in each direction, in bytes: 40 ms of 1,000 clients at 1 kB a tick.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// Datagrams that may wait between the I/O thread and its owner; more are dropped, as the kernel would.
const RECEIVED_QUEUE_MAX: usize = 8_192;
/// A receive that takes longer has waited for its packet.
const QUIET: Duration = Duration::from_micros(20);
/// How long packets gather after one that ended a quiet moment: each wake-up of a thread costs both sides several microseconds.
const GATHER: Duration = Duration::from_micros(500);
/// How often the I/O thread looks whether it shall end.
const STOP_CHECK_EVERY: Duration = Duration::from_millis(100);

/// A UDP port that could not be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot bind UDP {address}: {source}")]
pub struct BindError {
    /// The address asked for.
    pub address: SocketAddr,
    /// Why.
    #[source]
    pub source: std::io::Error,
}

/// Binds a UDP socket with buffers for bursts; port 0 takes a free one.
pub fn bind_udp(address: SocketAddr) -> Result<UdpSocket, BindError> {
    let bind = || {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        // Smaller buffers than asked for are no error: the kernel caps them.
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
        socket.bind(&address.into())?;
        Ok(UdpSocket::from(socket))
    };
    bind().map_err(|source| BindError { address, source })
}

/// What one look at a socket gave.
enum Look {
    Packet(Packet),
    Nothing,
    /// Something that is no packet for us; look again.
    Skip,
}

/// Room for one byte more than is accepted, so that a datagram that was cut is told from one that just fits.
type Buffer = [u8; DATAGRAM_BYTES_MAX + 1];

fn look(socket: &UdpSocket, buffer: &mut Buffer, counters: &LinkCounters) -> Look {
    match socket.recv_from(buffer) {
        Ok((length, _)) if length > DATAGRAM_BYTES_MAX => {
            counters.dropped("oversized");
            Look::Skip
        }
        Ok((length, peer)) => {
            counters.received(length);
            Look::Packet(Packet {
                peer,
                payload: BytesMut::from(&buffer[..length]),
                arrived: Instant::now(),
            })
        }
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Look::Nothing,
        // A peer's closed port (ICMP) and an interrupted call say nothing about this socket.
        Err(_) => {
            counters.dropped("socket");
            Look::Skip
        }
    }
}

/// The address to bind for packets to `peer`: any, of its family.
pub fn any_address_for(peer: SocketAddr) -> SocketAddr {
    match peer {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    }
}

fn send(socket: &UdpSocket, peer: SocketAddr, payload: &[u8], counters: &LinkCounters) {
    match socket.send_to(payload, peer) {
        Ok(_) => counters.sent(payload.len()),
        Err(error) => {
            tracing::trace!(%peer, %error, "datagram not sent");
            counters.dropped("send");
        }
    }
}

/// A socket whose packets an I/O thread receives, stamps and announces by a wake function.
pub struct ThreadedUdp {
    socket: UdpSocket,
    local_addr: SocketAddr,
    received: Receiver<Packet>,
    counters: LinkCounters,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl ThreadedUdp {
    /// Starts the I/O thread; `wake` is called when packets have come.
    ///
    /// A packet that comes after a quiet moment is handed on at once; those that follow within half a millisecond are
    /// taken and stamped together, so that a burst wakes nobody once per packet.
    pub fn start(socket: UdpSocket, wake: impl Fn() + Send + 'static) -> std::io::Result<Self> {
        let local_addr = socket.local_addr()?;
        socket.set_read_timeout(Some(STOP_CHECK_EVERY))?;
        let receiving = socket.try_clone()?;
        let (sender, received) = bounded(RECEIVED_QUEUE_MAX);
        let (counters, stop) = (LinkCounters::default(), Arc::new(AtomicBool::new(false)));
        let (thread_counters, thread_stop) = (counters.clone(), stop.clone());
        let thread = std::thread::Builder::new()
            .name("udp-io".to_owned())
            .spawn(move || receive_until_stopped(&receiving, &sender, &thread_counters, &thread_stop, &wake))?;
        Ok(Self {
            socket,
            local_addr,
            received,
            counters,
            stop,
            thread: Some(thread),
        })
    }
}

fn receive_until_stopped(
    socket: &UdpSocket,
    sender: &Sender<Packet>,
    counters: &LinkCounters,
    stop: &AtomicBool,
    wake: &dyn Fn(),
) {
    raise_thread_priority(Urgency::Ticks);
    let mut buffer = [0; DATAGRAM_BYTES_MAX + 1];
    while !stop.load(Ordering::Relaxed) {
        let looked = Instant::now();
        let Look::Packet(packet) = look(socket, &mut buffer, counters) else {
            continue;
        };
        let was_quiet = looked.elapsed() > QUIET;
        match sender.try_send(packet) {
            Ok(()) => wake(),
            Err(TrySendError::Full(_)) => counters.dropped("queue"),
            Err(TrySendError::Disconnected(_)) => return,
        }
        if was_quiet {
            std::thread::sleep(GATHER);
        }
    }
}

impl PacketIo for ThreadedUdp {
    fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    fn try_receive(&mut self, _now: Instant) -> Option<Packet> {
        self.received.try_recv().ok()
    }

    fn has_received(&self) -> bool {
        !self.received.is_empty()
    }

    fn send(&mut self, peer: SocketAddr, payload: &[u8], _now: Instant) {
        send(&self.socket, peer, payload, &self.counters);
    }

    fn counters(&self) -> &LinkCounters {
        &self.counters
    }
}

impl Drop for ThreadedUdp {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A socket that its owner polls, for processes with many clients: no thread, no wake.
pub struct PolledUdp {
    socket: UdpSocket,
    local_addr: SocketAddr,
    counters: LinkCounters,
    buffer: Box<Buffer>,
}

impl PolledUdp {
    /// Makes the socket non-blocking and takes it over.
    pub fn new(socket: UdpSocket) -> std::io::Result<Self> {
        socket.set_nonblocking(true)?;
        let local_addr = socket.local_addr()?;
        Ok(Self {
            socket,
            local_addr,
            counters: LinkCounters::default(),
            buffer: Box::new([0; DATAGRAM_BYTES_MAX + 1]),
        })
    }

    /// Another handle on the socket, to wait for it to become readable.
    pub fn try_clone_socket(&self) -> std::io::Result<UdpSocket> {
        self.socket.try_clone()
    }
}

impl PacketIo for PolledUdp {
    fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    fn try_receive(&mut self, _now: Instant) -> Option<Packet> {
        loop {
            match look(&self.socket, &mut self.buffer, &self.counters) {
                Look::Packet(packet) => return Some(packet),
                Look::Nothing => return None,
                Look::Skip => {}
            }
        }
    }

    fn send(&mut self, peer: SocketAddr, payload: &[u8], _now: Instant) {
        send(&self.socket, peer, payload, &self.counters);
    }

    fn counters(&self) -> &LinkCounters {
        &self.counters
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Wake;

    fn loopback() -> UdpSocket {
        bind_udp(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap()
    }

    #[test]
    fn a_packet_wakes_its_receiver_and_an_oversized_one_does_not_reach_it() {
        let wake = Arc::new(Wake::default());
        let woken = wake.clone();
        let mut server = ThreadedUdp::start(loopback(), move || woken.wake()).unwrap();
        let client = loopback();
        client.send_to(&vec![7; 65_000], server.local_addr()).unwrap();
        client.send_to(&[7; DATAGRAM_BYTES_MAX], server.local_addr()).unwrap();
        assert!(
            wake.wait_until(Instant::now() + Duration::from_secs(10)),
            "woken by the packet"
        );
        let packet = server.try_receive(Instant::now()).unwrap();
        assert_eq!(
            (packet.peer, packet.payload.len()),
            (client.local_addr().unwrap(), DATAGRAM_BYTES_MAX)
        );
        assert_eq!(server.try_receive(Instant::now()), None);
        assert_eq!(
            (
                server.counters().totals().packets_in,
                server.counters().totals().dropped
            ),
            (1, 1)
        );
    }

    #[test]
    fn a_port_in_use_is_named() {
        let taken = loopback();
        let error = bind_udp(taken.local_addr().unwrap()).unwrap_err();
        assert!(error.to_string().contains(&taken.local_addr().unwrap().to_string()));
    }

    #[test]
    fn a_send_to_a_closed_port_does_not_end_the_socket() {
        let mut io = PolledUdp::new(loopback()).unwrap();
        let closed = loopback().local_addr().unwrap();
        for _ in 0..4 {
            io.send(closed, b"hello", Instant::now());
            assert_eq!(io.try_receive(Instant::now()), None);
        }
    }
}
