//! The role `front`: the gRPC API of a server's zones.
//!
//! [`serve`] answers `meridian.v1.GameServer` for the whole world: what a zone of this process has is asked of its desk, what another server has of that server.
//! Where everything is comes from the streams of positions of all zones. The composition root owns the listener and the ledger.
//!
//! This role never decides where a player's entity is: zones say so. It keeps nothing that a restart would lose, holds up no tick, and believes nothing of a
//! caller but what its token says.

mod arguments;
mod call;
mod care;
mod config;
mod connection;
mod context;
mod gate;
mod health;
mod identity;
mod limits;
mod metric_definitions;
mod play;
mod players;
mod routing;
mod server;
mod service;
mod standard;
mod watch;
mod zones;

pub use config::{FrontConfig, InvalidConfig};
pub use context::{FrontContext, LocalZone, PositionsFn, StatusFn, WorldSummary, ZoneSummary};
pub use server::serve;
