//! Crates in a zone: avian's bodies, pushed by players, put back when they fall off the world.

use avian3d::prelude::{
    AngularVelocity, Collider, Friction, Gravity, LinearVelocity, Mass, PhysicsPlugins, Position, RigidBody, Rotation,
};
use bevy::app::{App, FixedLast, FixedPostUpdate, FixedUpdate, Startup};
use bevy::ecs::component::Component;
use bevy::ecs::query::Without;
use bevy::ecs::schedule::IntoScheduleConfigs;
use bevy::ecs::system::{Commands, Query, Res, ResMut};
use bevy::math::{Quat, Vec3};

use super::players::move_players;
use crate::components::{Body, BodyKind, Identity, Orientation, Pose};
use crate::movement::{GRAVITY_M_PER_S2, MovementState, WALK_SPEED_M_PER_S};
use crate::quantise::{rotation_from_bits, rotation_to_bits, snap_position};
use crate::scenery::SurroundingCrate;
use crate::simulation::{EntityIds, PlayerInput, SimulationSystems};
use crate::world::WorldDefinition;

/// Largest impulse that a player gives a crate in a tick, in kilogram metres per second: a heavy crate starts slowly.
pub const PUSH_IMPULSE_MAX_KG_M_PER_S: f32 = 40.0;

pub(super) fn plugin(app: &mut App) {
    app.add_plugins(PhysicsPlugins::new(FixedPostUpdate));
    app.insert_resource(Gravity(Vec3::NEG_Y * GRAVITY_M_PER_S2));
    app.add_systems(Startup, (spawn_scenery, spawn_crates));
    app.add_systems(
        FixedUpdate,
        push_crates.in_set(SimulationSystems::Move).after(move_players),
    );
    app.add_systems(
        FixedLast,
        (recover_fallen, settle_crates)
            .chain()
            .in_set(SimulationSystems::Settle),
    );
}

/// A crate as the zone simulates it.
#[derive(Component, Clone, Copy, Debug)]
pub struct CrateBody {
    half_extents: Vec3,
    mass_kg: f32,
    home: Vec3,
}

impl CrateBody {
    /// The crate at a pose, as the movement step sees it.
    pub fn at(&self, pose: &Pose, orientation: &Orientation) -> SurroundingCrate {
        SurroundingCrate {
            position: pose.position,
            rotation: orientation.0,
            half_extents: self.half_extents,
        }
    }
}

fn spawn_scenery(world: Res<WorldDefinition>, mut commands: Commands) {
    for item in &world.scenery {
        let [x, y, z] = item.size;
        let place = (Position(Vec3::from_array(item.centre)), Rotation(item.rotation()));
        commands.spawn((RigidBody::Static, Collider::cuboid(x, y, z), Friction::new(0.6), place));
    }
}

fn spawn_crates(world: Res<WorldDefinition>, mut ids: ResMut<EntityIds>, mut commands: Commands) {
    for group in &world.crates {
        let [x, y, z] = group.size;
        let half_extents = Vec3::new(x, y, z) / 2.0;
        for centre in group.centres() {
            let Some(entity) = ids.0.mint() else { return };
            let body = CrateBody {
                half_extents,
                mass_kg: group.mass_kg,
                home: centre,
            };
            commands.spawn((
                Identity { entity, player: None },
                Body {
                    kind: BodyKind::Crate { half_extents },
                },
                Pose {
                    position: snap_position(centre),
                    yaw: 0.0,
                },
                Orientation(Quat::IDENTITY),
                body,
                (
                    RigidBody::Dynamic,
                    Collider::cuboid(x, y, z),
                    Mass(group.mass_kg),
                    Friction::new(0.6),
                ),
                Position(centre),
            ));
        }
    }
}

/// Who walks against a crate brings it to walking speed, as far as its mass lets an impulse do so in a tick.
fn push_crates(
    players: Query<(&MovementState, &PlayerInput)>,
    mut crates: Query<(&Pose, &Orientation, &CrateBody, &mut LinearVelocity), Without<MovementState>>,
) {
    for (pose, orientation, body, mut velocity) in &mut crates {
        let surrounding = body.at(pose, orientation);
        let mut impulse = Vec3::ZERO;
        for (movement, player) in &players {
            let Some(towards) = surrounding.contact(movement.position) else {
                continue;
            };
            let walk = player.input.direction() * WALK_SPEED_M_PER_S;
            let wanted = Vec3::new(walk.x, 0.0, walk.y).dot(towards);
            let missing = wanted - velocity.0.dot(towards);
            if wanted > 0.0 && missing > 0.0 {
                impulse += towards * (missing * body.mass_kg).min(PUSH_IMPULSE_MAX_KG_M_PER_S);
            }
        }
        if impulse != Vec3::ZERO {
            velocity.0 += impulse / body.mass_kg;
        }
    }
}

fn recover_fallen(
    world: Res<WorldDefinition>,
    mut crates: Query<(
        &CrateBody,
        &mut Position,
        &mut Rotation,
        &mut LinearVelocity,
        &mut AngularVelocity,
    )>,
) {
    for (body, mut position, mut rotation, mut velocity, mut spin) in &mut crates {
        // Not a number compares as fallen: a body that the solver lost comes home too.
        if position.0.is_finite() && position.0.y >= world.kill_below_m {
            continue;
        }
        (position.0, rotation.0) = (body.home, Quat::IDENTITY);
        (velocity.0, spin.0) = (Vec3::ZERO, Vec3::ZERO);
    }
}

fn settle_crates(mut crates: Query<(&Position, &Rotation, &mut Pose, &mut Orientation), Without<MovementState>>) {
    for (position, rotation, mut pose, mut orientation) in &mut crates {
        let snapped = snap_position(position.0);
        if pose.position != snapped {
            pose.position = snapped;
        }
        let bits = rotation_to_bits(rotation.0);
        if rotation_to_bits(orientation.0) != bits {
            orientation.0 = rotation_from_bits(bits);
        }
    }
}
