//! Who may simulate an entity: one zone at a time, whatever dies.
//!
//! [`Ownership`] is one zone's side of it, a pure state machine: what happened goes in, what to do comes out, and times are
//! arguments. [`Handoff`] is the part of it that decides who leaves. The durable side is a handful of atomic scripts ([`script`]) that any
//! carrier of `libs/bus` offers. [`Sight`] and [`HeldInputs`] are the gateway's side: what it believes, and what it sends again. A zone
//! simulates an entity through tick T, sends its state after T to the next owner and freezes its own copy; the next owner
//! simulates from T + 1 on. An entity's durable record stands in exactly one place at any time: with its zone, or in the inbox
//! of the zone it travels to.

mod allowance;
mod arrival;
mod lease;
mod machine;
mod ownership;
mod routing;
pub mod script;
mod sight;

pub use allowance::{Allowance, HANDOFFS_BURST_MAX, HANDOFFS_PER_SECOND};
pub use arrival::Arrival;
pub use lease::{LEASE_TTL, Lease, REMEMBERED, SETTLING};
pub use machine::{Departure, Handoff, RETRY_AFTER_TICKS, Standing, Step, TransferNumber, Verdict};
pub use ownership::{Backlog, News, NotSpawned, Ownership, Wait};
pub use routing::{HeldInputs, INPUTS_HELD_MAX, receivers};
pub use sight::{Sight, Sighting};
