//! Many zones, gateways, clients and a store in one thread, in a time that is a number, with seeded faults: the real
//! [`Ownership`](meridian_handoff::Ownership), the real [`Sight`](meridian_handoff::Sight) and the real
//! [`Model`](meridian_bus::Model), with everything around them made of queues.
//!
//! A seed draws a world and a list of [`Choice`]s; a [`Simulation`] does them one by one and checks after each what must hold always
//! ([`Invariant`]); in the end faults stop, and everything has to come right. A seed that fails is made shorter and told in words
//! ([`Failure`]). The same seed is the same history on any machine. Nothing here opens a socket, reads a clock or starts a thread.

mod checks;
mod choice;
pub mod command;
mod connection;
mod coverage;
mod dice;
mod gateway;
mod history;
mod planted;
mod process;
mod reduce;
mod scenery;
mod shown;
mod simulation;
mod store;
mod wires;

pub use checks::{Invariant, Violation};
pub use choice::{Choice, Fate, MACHINES_PER_ZONE, Setup, drawn};
pub use coverage::{Coverage, Occurrence};
pub use history::{Entry, History};
pub use planted::Planted;
pub use reduce::{Failure, Run, run, run_seed};
pub use simulation::Simulation;
