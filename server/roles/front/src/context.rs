//! What the role is given: its zones, the world, and the ways to everything else.

use std::sync::Arc;

use meridian_bus::PositionReader;
use meridian_bus::directory::{Directory, ServiceDetail};
use meridian_fabric::desk::Desk;
use meridian_ids::{Rectangle, TickClock, ZoneId};
use meridian_runtime::SecretKey;

use crate::FrontConfig;

/// Follows the positions of a zone of the world, of this process or of another.
pub type PositionsFn = Arc<dyn Fn(ZoneId) -> Box<dyn PositionReader> + Send + Sync>;

/// How a zone of this process does; nothing while it may not simulate, for it has no lease or starts again. Asked for each call: must be cheap and must
/// not block.
pub type StatusFn = Arc<dyn Fn() -> Option<ServiceDetail> + Send + Sync>;

/// What the role is made of.
#[derive(Clone)]
pub struct FrontContext {
    /// The validated configuration.
    pub config: FrontConfig,
    /// The name of this process, as it is in the directory.
    pub instance: String,
    /// The key that auth seals tokens with.
    pub key: SecretKey,
    /// The world's clock.
    pub clock: TickClock,
    /// The world.
    pub world: WorldSummary,
    /// The zones of this process.
    pub local: Vec<LocalZone>,
    /// The way to every zone's positions.
    pub positions: PositionsFn,
    /// Who serves the other zones; none outside of a cluster.
    pub directory: Option<Arc<dyn Directory>>,
}

/// What clients are told of the world.
#[derive(Clone, Debug, PartialEq)]
pub struct WorldSummary {
    /// Its name.
    pub name: String,
    /// Ticks in a second.
    pub tick_rate_hz: u32,
    /// How fast a player walks, in metres per second.
    pub walk_speed_mps: f32,
    /// Its zones.
    pub zones: Vec<ZoneSummary>,
    /// The zones in which players begin.
    pub entrances: Vec<ZoneId>,
}

/// What clients are told of a zone.
#[derive(Clone, Debug, PartialEq)]
pub struct ZoneSummary {
    /// Which.
    pub id: ZoneId,
    /// Its name in the world file.
    pub name: String,
    /// Its part of the world.
    pub area: Rectangle,
}

/// A zone of this process.
#[derive(Clone)]
pub struct LocalZone {
    /// Which.
    pub zone: ZoneId,
    /// Where it takes orders.
    pub desk: Desk,
    /// How it does.
    pub status: StatusFn,
}
