//! Meridian's own packet link under lightyear: sockets that stamp each arrival and wake who waits for it.
//!
//! [`PacketIo`] is where packets come from: a socket with an I/O thread, a socket that is polled, or a network in memory
//! for tests in virtual time; each may be conditioned with loss, delay and jitter. [`LinkPlugin`] moves packets between
//! a `PacketIo` and lightyear's `Link`s. Nothing here knows what is in a packet, but for the one look that keeps
//! strangers out ([`plugin::is_connection_request`]).

mod conditioner;
mod counters;
mod memory;
mod metric_definitions;
pub mod plugin;
mod priority;
mod udp;
mod wake;

pub use conditioner::{ConditionedIo, LinkConditions, LinkConditionsHandle};
pub use counters::{LinkCounters, LinkTotals};
pub use memory::{MemoryIo, MemoryNetwork};
pub use plugin::{Arrival, LinkEndpoint, LinkPlugin, PENDING_LINKS_MAX};
pub use priority::{ThreadPriority, Urgency, limit_thread_priority, raise_thread_priority};
pub use udp::{BindError, PolledUdp, ThreadedUdp, any_address_for, bind_udp};
pub use wake::Wake;

use std::net::SocketAddr;
use std::time::Instant;

use bytes::BytesMut;

/// Largest datagram that is sent or accepted, in bytes: what fits an Ethernet frame over IPv4 without fragments.
pub const DATAGRAM_BYTES_MAX: usize = 1_472;

/// A datagram and when it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Packet {
    /// Who sent it.
    pub peer: SocketAddr,
    /// Its bytes, at most [`DATAGRAM_BYTES_MAX`].
    pub payload: BytesMut,
    /// When it came in, stamped as near to the socket as can be.
    pub arrived: Instant,
}

/// A source and sink of datagrams. Never blocks.
pub trait PacketIo: Send + Sync {
    /// The address it is bound to.
    fn local_addr(&self) -> SocketAddr;
    /// The next datagram that is there at `now`.
    fn try_receive(&mut self, now: Instant) -> Option<Packet>;
    /// Sends a datagram; one that cannot be sent is lost, as on any network, and counted.
    fn send(&mut self, peer: SocketAddr, payload: &[u8], now: Instant);
    /// What has gone through.
    fn counters(&self) -> &LinkCounters;
    /// Whether [`Self::try_receive`] may have something; who cannot know it cheaply says yes.
    fn has_received(&self) -> bool {
        true
    }
    /// When a packet comes out that nothing else announces, because it is held back in this process: its owner must call
    /// [`Self::try_receive`] by then, which also sends what is due.
    fn next_due(&self) -> Option<Instant> {
        None
    }
}
