//! The carrier between processes: QUIC with mutual TLS, one UDP port per process.
//!
//! Threads that tick put messages into a link's outbox and take them out of its inbox; tasks of a tokio runtime do the rest. A gateway
//! dials zones and a zone may dial its neighbours; whoever dials connects again by itself, whoever accepts gets a new end each time. What waits
//! when a connection ends is dropped, and its sender says again what must not be lost, as within one process.
//!
//! **One link per party.** A gateway's name and a zone's number have one link to a zone; a later one takes its place. A zone's instance says its
//! lease when it dials: one that is older than who has the link is refused, so that a process that stands by never takes what its
//! better has.
//!
//! | message | carried by | when there is too much of it | order |
//! | --- | --- | --- | --- |
//! | `Join`, `Leave`, `Action`, `Resync`; `Left`, `JoinRefused`; a peer's `Action` | the link's ordered stream | `Full` | as sent; a `Left` after the snapshots that were sent before it came or are lost |
//! | `Inputs`; `Push` | a datagram | the oldest is dropped | none: the next one says it again |
//! | `Snapshot` that brings entities | a stream of its own | `Full`, the zone sends a whole one next | as sent |
//! | `Snapshot` of changes alone | a datagram if one is as large, else a stream of its own | the same | as sent; a lost one is told by `Gap` |
//! | `Ghosts` | the same | one that waits is replaced; `Full` | the newest only |
//! | clocks | a datagram, several a second | left out | none |
//!
//! **Order.** Snapshots have a sequence. One that came by datagram waits for those that were sent by stream before it, which cannot be
//! lost; a datagram that is missing when a later message comes is lost. Each question of the clocks says how many messages were sent
//! before it, so that a loss is noticed when nothing follows.
//!
//! **Times** are sent on the sender's clock and are instants of the receiver's own when they are received ([`clock`]).
//!
//! **Bounds.** Every length that a peer says is checked before it is believed; what is no message closes its link and no other. A link
//! that is not read is not acknowledged further, and its sender's queue says so.
//!
//! Never blocks who sends or receives, never trusts a peer further than its certificate says, and never delivers anything twice.

mod accept;
mod arrivals;
mod carried;
mod clock;
mod dial;
mod endpoint;
mod handshakes;
mod hello;
mod inbox;
mod link;
mod meters;
mod outbox;
mod refusals;
mod run;
mod serving;
mod tls;
mod transport;
mod wire;

pub use endpoint::{AddressFn, FabricBindError, FabricEndpoint, FabricOptions, LeaseFn};
pub use hello::{FABRIC_VERSION, WorldStamp};
pub use serving::{AcceptedLink, LinkSource};
pub use tls::{FabricRole, FabricTls, FabricTlsError};
pub use wire::{
    ACTION_PAYLOAD_BYTES_MAX, NAME_BYTES_MAX, REASON_BYTES_MAX, SNAPSHOT_BYTES_MAX, SNAPSHOT_ENTITIES_MAX,
    SNAPSHOT_PROBES_MAX,
};
