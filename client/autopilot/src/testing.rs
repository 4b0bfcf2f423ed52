//! What the tests of scenarios share.

use bevy::math::Vec3;
use meridian_game::movement::{MovementState, WALK_SPEED_M_PER_S, step};
use meridian_game::scenery::{Scenery, Surroundings};
use meridian_game::{Move, WorldDefinition};

pub(crate) const HZ: usize = 60;

pub(crate) fn demo_world() -> WorldDefinition {
    WorldDefinition::parse(include_str!("../../../assets/data/world.toml"), "world.toml").unwrap()
}

/// Over an endless plain, at the walking speed and with nothing in the way.
pub(crate) fn on_a_plain(state: MovementState, input: Move) -> MovementState {
    let walk = input.direction() * WALK_SPEED_M_PER_S / HZ as f32;
    MovementState {
        position: state.position + Vec3::new(walk.x, 0.0, walk.y),
        ..state
    }
}

/// Over a world, as its zones would move somebody that is alone there.
pub(crate) fn over(world: &WorldDefinition) -> impl Fn(MovementState, Move) -> MovementState + use<> {
    let scenery = Scenery::new(world);
    move |state, input| {
        let surroundings = Surroundings {
            scenery: &scenery,
            players: &[],
            crates: &[],
        };
        step(state, input, &surroundings, 1.0 / HZ as f32)
    }
}
