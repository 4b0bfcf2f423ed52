//! Health, and an action that restores some of it: a game's own component and action, on top of the demo game.

use bevy::app::{App, Plugin};
use bevy::ecs::component::Component;
use bevy::ecs::observer::On;
use bevy::ecs::system::Query;
use meridian_game::movement::MovementState;
use meridian_game::{
    ActionReceived, AppWorldExt, ComponentSpec, ProtocolSide, WireComponent, WireError, WireReader, WorldAction,
};

/// The most health there is.
pub const HEALTH_MAX: u8 = 100;

/// How well a player is, in points of [`HEALTH_MAX`]. One byte on the wire.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// 0 to [`HEALTH_MAX`].
    pub points: u8,
}

impl WireComponent for Health {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.points);
    }

    fn decode(reader: &mut WireReader<'_>) -> Result<Self, WireError> {
        Ok(Self { points: reader.u8()? })
    }
}

/// Restores health of the acting player.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heal {
    /// How much.
    pub points: u8,
}

impl WorldAction for Heal {
    const NAME: &'static str = "heal";

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.points);
    }

    fn decode(reader: &mut WireReader<'_>) -> Result<Self, WireError> {
        // Bytes come from a client: what is out of range ends here.
        match reader.u8()? {
            points @ 0..=HEALTH_MAX => Ok(Self { points }),
            _ => Err(WireError::Invalid("points")),
        }
    }
}

/// Adds both to a game, for any side.
pub struct HealthPlugin;

impl Plugin for HealthPlugin {
    fn build(&self, app: &mut App) {
        app.world_component::<Health>(ComponentSpec::new("health"));
        app.world_action::<Heal>();
        if app.world().get_resource::<ProtocolSide>() == Some(&ProtocolSide::Zone) {
            app.register_required_components_with::<MovementState, Health>(|| Health { points: 50 });
            app.add_observer(heal);
        }
    }
}

fn heal(received: On<ActionReceived<Heal>>, mut healths: Query<&mut Health>) {
    if let Ok(mut health) = healths.get_mut(received.entity) {
        health.points = health.points.saturating_add(received.action.points).min(HEALTH_MAX);
    }
}
