//! The zone role: simulates the entities it owns at the world's tick, and tells gateways what changed.
//!
//! [`Zone`] is the simulation, stepped tick by tick with time as an argument; [`run`] steps it on the clock of a thread.
//! A tick never waits for anything: inputs that are not there are repeated, messages that do not fit are counted.

mod audit;
mod custody;
mod facts;
mod ghosts;
mod input_ring;
mod load;
mod metric_definitions;
mod population;
mod positions;
mod rest;
mod run;
mod snapshot;
mod traces;
mod zone;

pub use audit::AuditSink;
pub use custody::PLAYER_GRACE;
pub use ghosts::{GHOST_REACH_M, Peer};
pub use input_ring::{INPUT_LOOKAHEAD_TICKS, InputRing};
pub use load::Load;
pub use run::{CATCH_UP_TICKS_MAX, Observed, RunEnd, run};
pub use zone::{GameFn, HYSTERESIS_M, PLAYERS_MAX, Stepped, Zone, ZoneConfig, ZoneLinks};
