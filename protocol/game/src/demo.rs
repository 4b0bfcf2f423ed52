//! The demo game: walk, jump, push crates, fall off the world. A plugin over the registrations, like any other game's.

mod crates;
mod players;
mod ties;

pub use crates::{CrateBody, CrateMotion, PUSH_IMPULSE_MAX_KG_M_PER_S};

use bevy::app::{App, Plugin};
use bevy::ecs::entity::Entity;
use bevy::ecs::world::World;

use crate::component::{AppWorldExt, Audience, ComponentSpec};
use crate::components::{
    Body, BodyKind, DisplayName, Frozen, Identity, Orientation, OwnerState, Pose, ProbeEcho, Tied,
};
use crate::protocol::ProtocolSide;
use crate::simulation::{CurrentTick, EntityHooks, GhostPushed, WorldEvent};

/// The demo game, for any side.
pub struct DemoPlugin;

impl Plugin for DemoPlugin {
    fn build(&self, app: &mut App) {
        app.world_component::<Identity>(ComponentSpec::new("identity"));
        app.world_component::<Body>(ComponentSpec::new("body"));
        app.world_component::<DisplayName>(ComponentSpec::new("display_name"));
        app.world_component::<Pose>(ComponentSpec::new("pose").audience(Audience::Others));
        app.world_component::<Orientation>(ComponentSpec::new("orientation"));
        app.world_component::<OwnerState>(ComponentSpec::new("owner_state").audience(Audience::Owner));
        app.world_component::<ProbeEcho>(ComponentSpec::new("probe_echo").volatile());
        app.world_component::<CrateBody>(ComponentSpec::new("crate_body").audience(Audience::Nobody));
        app.world_component::<CrateMotion>(ComponentSpec::new("crate_motion").audience(Audience::Nobody));
        app.world_component::<Tied>(ComponentSpec::new("tied").audience(Audience::Nobody));
        app.world_component::<Frozen>(ComponentSpec::new("frozen").transient());
        if app.world().get_resource::<ProtocolSide>() == Some(&ProtocolSide::Zone) {
            app.add_message::<WorldEvent>();
            app.add_message::<GhostPushed>();
            app.init_resource::<CurrentTick>();
            app.insert_resource(EntityHooks {
                populate: crates::populate,
                embody: |world, entity| match kind_of(world, entity) {
                    Some(BodyKind::Player) => players::embody(world, entity),
                    Some(BodyKind::Crate { .. }) => crates::embody(world, entity),
                    None => {}
                },
                embody_ghost: |world, entity| match kind_of(world, entity) {
                    Some(BodyKind::Crate { .. }) => crates::embody_ghost(world, entity),
                    // A player's ghost is where others cannot stand; nothing simulates it.
                    Some(BodyKind::Player) | None => {}
                },
                catch_up: |world, entity| match kind_of(world, entity) {
                    Some(BodyKind::Player) => players::catch_up(world, entity),
                    Some(BodyKind::Crate { .. }) => crates::catch_up(world, entity),
                    None => {}
                },
                push: crates::push,
            });
            app.add_plugins((players::plugin, crates::plugin, ties::plugin));
        }
    }
}

fn kind_of(world: &World, entity: Entity) -> Option<BodyKind> {
    world.get::<Body>(entity).map(|body| body.kind)
}
