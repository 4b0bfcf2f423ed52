//! The gateway role: terminates client connections, mirrors what zones publish, and replicates it to clients.
//!
//! It holds no truth: an entity is what its zone last said. [`Gateway`] is driven with time as an argument;
//! [`run`] drives it on a thread that packets and snapshots wake. It never simulates and never waits for a zone longer
//! than a fraction of a tick.

mod admission;
mod gateway;
mod inputs;
mod interest;
mod metric_definitions;
mod mirror;
mod probes;
mod run;
mod sessions;
mod stillness;
mod traces;

pub use gateway::{GameFn, Gateway, GatewayConfig, ZoneLink};
pub use interest::InterestConfig;
pub use run::{RECEIVE_EVERY_MIN, run};
