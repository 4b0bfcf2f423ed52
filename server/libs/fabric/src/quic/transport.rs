//! How QUIC is set up for a fabric: machines of one network, small messages that are worth nothing when they are late.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::CubicConfig;
use quinn::{
    AckFrequencyConfig, ClientConfig, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, ServerConfig, TransportConfig,
    VarInt,
};
use socket2::{Domain, Protocol, Socket, Type};

use super::handshakes::HANDSHAKES_MAX;
use super::tls::FabricTls;
use super::wire::STREAM_BYTES_MAX;

/// A peer that says nothing for so long is gone: players notice a zone that stands still after about a second.
const IDLE_TIMEOUT_MS: VarInt = VarInt::from_u32(1_500);
/// Six of them fit the idle timeout, so that five may be lost.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_millis(250);
/// What the round trip is taken for before it was measured: the first handshake packet is repeated after three of it. A network of
/// one place has less; quinn's own 333 ms would cost a second for each lost packet of a handshake.
const INITIAL_RTT: Duration = Duration::from_millis(10);
/// How long the other side may wait with an acknowledgement. It is part of the time after which a lost packet at the end of a
/// message is sent again, and 25 ms, QUIC's own, are more than a tick.
const ACK_DELAY_MAX: Duration = Duration::from_millis(5);
/// Bytes under way before the first acknowledgement: a whole snapshot of a zone, which is what a link begins with, in one round trip.
const INITIAL_WINDOW_BYTES: u64 = 128 * 1024;
/// Datagrams that came and were not read yet: a quarter of a second of 200 players' inputs at 60 Hz. The oldest are dropped.
const DATAGRAMS_RECEIVED_BYTES_MAX: usize = 256 * 1024;
/// Datagrams that wait to be sent. Behind it stand the link's own queues, which know what may be dropped; 64 KiB are about 50
/// packets, which a network that works at all takes within a tick.
const DATAGRAMS_SENT_BYTES_MAX: usize = 64 * 1024;
/// Snapshots under way on streams of their own, twice as many as [`super::outbox`] lets be under way.
const STREAMS_MAX: VarInt = VarInt::from_u32(32);
/// What one stream may have under way: the largest snapshot.
const STREAM_WINDOW_BYTES: VarInt = VarInt::from_u32(STREAM_BYTES_MAX as u32);
/// What all streams of a link may have under way: two of the largest snapshots, and the reliable stream.
const CONNECTION_WINDOW_BYTES: u32 = 3 * STREAM_BYTES_MAX as u32;
/// Packets of handshakes that wait to be looked at, in bytes per connection: a client's first flight with its certificate.
const INCOMING_BYTES_MAX: u64 = 64 * 1024;
/// What the system is asked to hold of packets while the process does not run. It gives what it is configured to give.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// What both sides use; who dials does not let the other side open the bidirectional stream, of which each link has one.
fn transport(bidirectional: u32) -> Arc<TransportConfig> {
    let mut acknowledgements = AckFrequencyConfig::default();
    acknowledgements.max_ack_delay(Some(ACK_DELAY_MAX));
    let mut congestion = CubicConfig::default();
    congestion.initial_window(INITIAL_WINDOW_BYTES);
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(bidirectional))
        .max_concurrent_uni_streams(STREAMS_MAX)
        .max_idle_timeout(Some(IdleTimeout::from(IDLE_TIMEOUT_MS)))
        .keep_alive_interval(Some(KEEP_ALIVE_INTERVAL))
        .initial_rtt(INITIAL_RTT)
        .ack_frequency_config(Some(acknowledgements))
        .stream_receive_window(STREAM_WINDOW_BYTES)
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(u64::from(CONNECTION_WINDOW_BYTES))
        // An earlier snapshot is wanted before a later one: streams take turns by age.
        .send_fairness(false)
        .datagram_receive_buffer_size(Some(DATAGRAMS_RECEIVED_BYTES_MAX))
        .datagram_send_buffer_size(DATAGRAMS_SENT_BYTES_MAX)
        // Up to 1,452 bytes, which fit an Ethernet frame over IPv4 and IPv6: more snapshots fit a datagram.
        .mtu_discovery_config(Some(MtuDiscoveryConfig::default()))
        .congestion_controller_factory(Arc::new(congestion));
    Arc::new(transport)
}

pub(super) fn server(tls: &FabricTls) -> ServerConfig {
    let mut config = ServerConfig::with_crypto(tls.server());
    config
        .transport_config(transport(1))
        // Processes do not move between addresses.
        .migration(false)
        .max_incoming(2 * HANDSHAKES_MAX)
        .incoming_buffer_size(INCOMING_BYTES_MAX)
        .incoming_buffer_size_total(INCOMING_BYTES_MAX * HANDSHAKES_MAX as u64);
    config
}

pub(super) fn client(tls: &FabricTls) -> ClientConfig {
    let mut config = ClientConfig::new(tls.client());
    config.transport_config(transport(0));
    config
}

pub(super) fn endpoint() -> EndpointConfig {
    EndpointConfig::default()
}

/// A socket that holds more than the system's usual 200 KiB, if it may.
pub(super) fn socket(listen: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(listen), Type::DGRAM, Some(Protocol::UDP))?;
    // A smaller buffer loses packets earlier, and nothing else.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    if listen.is_ipv6() {
        // `[::]` stands for both families, whatever the system's default is.
        socket.set_only_v6(false)?;
    }
    socket.bind(&listen.into())?;
    Ok(socket.into())
}
