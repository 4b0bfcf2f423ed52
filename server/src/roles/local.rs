//! The fabric between the zone and the gateway of one process, and the game that both run.

use std::sync::Arc;

use anyhow::ensure;
use meridian_fabric::{GatewayEnd, ZoneEnd, in_process};
use meridian_game::{WorldDefinition, demo::DemoPlugin};
use meridian_link::Wake;

use crate::{config::Config, role::Role, world::World};

/// The two ends, until the roles take them, and what wakes the gateway.
pub struct LocalFabric {
    /// What the gateway waits on.
    pub wake: Arc<Wake>,
    /// The zone's end.
    pub zone: Option<Box<dyn ZoneEnd>>,
    /// The gateway's end.
    pub gateway: Option<Box<dyn GatewayEnd>>,
}

impl Default for LocalFabric {
    fn default() -> Self {
        let wake = Arc::new(Wake::default());
        let wake_gateway = Arc::clone(&wake);
        // A zone reads its messages when its tick begins: nothing has to wake it.
        let (zone, gateway) = in_process(Arc::new(|| ()), Arc::new(move || wake_gateway.wake()));
        Self {
            wake,
            zone: Some(zone),
            gateway: Some(gateway),
        }
    }
}

/// A zone and its gateway find each other in their process.
pub(super) fn ensure_together(config: &Config) -> anyhow::Result<()> {
    ensure!(
        config.runs(Role::Zone) && config.runs(Role::Gateway),
        "roles: zone and gateway run in one process; name both, or neither"
    );
    Ok(())
}

/// The world as the game reads it, at the rate that the configuration asks for.
pub(super) fn definition(world: &World) -> anyhow::Result<WorldDefinition> {
    let definition = WorldDefinition::parse(&world.text, &world.path.display().to_string())?;
    Ok(WorldDefinition {
        tick_rate_hz: world.tick_rate,
        ..definition
    })
}

/// The game that this server runs.
pub(super) fn game() -> Arc<dyn Fn(&mut meridian_game::App) + Send + Sync> {
    Arc::new(|app| {
        app.add_plugins(DemoPlugin);
    })
}
