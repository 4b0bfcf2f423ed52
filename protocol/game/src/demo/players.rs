//! Players in a zone: their step, their fall and their new start.

use bevy::app::{App, FixedLast, FixedUpdate};
use bevy::ecs::entity::Entity;
use bevy::ecs::message::MessageWriter;
use bevy::ecs::query::With;
use bevy::ecs::schedule::IntoScheduleConfigs;
use bevy::ecs::system::{Local, Query, Res};
use bevy::ecs::world::World;
use bevy::math::Vec3;
use bevy::time::{Fixed, Time};
use meridian_ids::{PlayerId, WorldEntityId};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::crates::CrateBody;
use crate::components::{Body, BodyKind, DisplayName, Identity, Orientation, OwnerState, Pose, ProbeEcho};
use crate::movement::{CAPSULE_RADIUS_M, MovementState, step};
use crate::quantise::snap_position;
use crate::scenery::{Scenery, SurroundingCrate, Surroundings};
use crate::simulation::{CurrentTick, Ghost, PlayerInput, SimulationSystems, SpawnPlayer, WorldEvent, ZoneScope};
use crate::world::WorldDefinition;

/// Places of the spawn area that are tried for one in the zone's own part.
const SPAWN_TRIES: usize = 32;
/// Ticks between two owner states of a player whose state does not change: the slack loop needs feedback at rest too.
const OWNER_STATE_EVERY_TICKS: u64 = 6;

pub(super) fn plugin(app: &mut App) {
    app.insert_resource(SpawnPlayer(spawn_player));
    app.add_systems(FixedUpdate, move_players.in_set(SimulationSystems::Move));
    app.add_systems(
        FixedLast,
        (hold_at_wall, respawn_fallen, settle_players)
            .chain()
            .in_set(SimulationSystems::Settle),
    );
}

/// A new player at a random place of the spawn area. The place is the same for the same entity id.
fn spawn_player(world: &mut World, entity: WorldEntityId, player: PlayerId, name: &str) -> Entity {
    let scope = world.resource::<ZoneScope>();
    let movement = spawn_state(world.resource::<WorldDefinition>(), scope, entity.0);
    let bundle = (
        Identity {
            entity,
            player: Some(player),
        },
        Body { kind: BodyKind::Player },
        DisplayName(name.to_owned()),
        movement.pose(),
        OwnerState {
            position: movement.position,
            ..OwnerState::default()
        },
        ProbeEcho::default(),
        movement,
        PlayerInput::default(),
    );
    world.spawn(bundle).id()
}

/// A place of the zone's own part of the spawn area, if it has one: who starts elsewhere is handed over at once.
fn spawn_state(world: &WorldDefinition, scope: &ZoneScope, seed: u64) -> MovementState {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut place = || {
        let angle = random.random_range(0.0..std::f32::consts::TAU);
        let radius = world.spawn.radius_m * random.random_range(0.0f32..1.0).sqrt();
        let offset = Vec3::new(angle.cos(), 0.0, angle.sin()) * radius;
        Vec3::from_array(world.spawn.centre) + offset
    };
    let first = place();
    let own = std::iter::once(first).chain(std::iter::repeat_with(place));
    let own = own.take(SPAWN_TRIES).find(|place| scope.is_mine(*place));
    MovementState::standing_at(own.unwrap_or(first))
}

/// What a player has beside its record: the step's state, which its owner was told, and its input.
pub(super) fn embody(world: &mut World, entity: Entity) {
    let Some(owner) = world.get::<OwnerState>(entity).copied() else {
        return;
    };
    let movement = MovementState {
        position: owner.position,
        velocity: owner.velocity,
        yaw: owner.yaw,
        grounded: owner.grounded,
    };
    let mut entity = world.entity_mut(entity);
    entity.insert((movement, PlayerInput::default()));
    // It is not part of a record that was read after a crash.
    entity.insert_if_new(ProbeEcho::default());
}

/// The step of a tick that passed while the player changed zones, among what is near now.
pub(super) fn catch_up(world: &mut World, entity: Entity) {
    let parts = (world.get::<MovementState>(entity), world.get::<PlayerInput>(entity));
    let (Some(movement), Some(player)) = (parts.0.copied(), parts.1.copied()) else {
        return;
    };
    let mut poses = world.query::<(Entity, &Pose, &Body)>();
    let players: Vec<Vec3> = poses
        .iter(world)
        .filter(|(other, pose, body)| {
            *other != entity && body.kind == BodyKind::Player && is_near(movement.position, pose.position)
        })
        .map(|(_, pose, _)| pose.position)
        .collect();
    let mut crates = world.query::<(&Pose, &Orientation, &CrateBody)>();
    let crates: Vec<SurroundingCrate> = crates
        .iter(world)
        .map(|(pose, turn, body)| body.at(pose, turn))
        .filter(|item| item.contact(movement.position).is_some())
        .collect();
    let surroundings = Surroundings {
        scenery: world.resource::<Scenery>(),
        players: &players,
        crates: &crates,
    };
    let delta_seconds = world.resource::<WorldDefinition>().tick_rate_hz.delta_seconds();
    let next = step(movement, player.input, &surroundings, delta_seconds);
    world.entity_mut(entity).insert(next);
}

pub(super) fn move_players(
    time: Res<Time<Fixed>>,
    scenery: Res<Scenery>,
    mut players: Query<(Entity, &mut MovementState, &PlayerInput)>,
    crates: Query<(&Pose, &Orientation, &CrateBody)>,
    ghosts: Query<(Entity, &Pose, &Body), With<Ghost>>,
    mut before: Local<Vec<(Entity, Vec3)>>,
) {
    // Everyone sees the others where they stood when the tick began, so the order of the query means nothing.
    before.clear();
    before.extend(players.iter().map(|(entity, movement, _)| (entity, movement.position)));
    let ghosts = ghosts.iter().filter(|(.., body)| body.kind == BodyKind::Player);
    before.extend(ghosts.map(|(entity, pose, _)| (entity, pose.position)));
    let crates: Vec<SurroundingCrate> = crates.iter().map(|(pose, turn, body)| body.at(pose, turn)).collect();
    let delta_seconds = time.timestep().as_secs_f32();
    let mut near = Vec::new();
    let mut near_crates = Vec::new();
    for (entity, mut movement, player) in &mut players {
        let here = movement.position;
        if !here.is_finite() {
            // The step would put it somewhere; it is for `respawn_fallen` to say where.
            continue;
        }
        near.clear();
        near.extend(
            before
                .iter()
                .filter(|(other, position)| *other != entity && is_near(here, *position))
                .map(|p| p.1),
        );
        near_crates.clear();
        near_crates.extend(crates.iter().filter(|item| item.contact(here).is_some()));
        let surroundings = Surroundings {
            scenery: &scenery,
            players: &near,
            crates: &near_crates,
        };
        let next = step(*movement, player.input, &surroundings, delta_seconds);
        if *movement != next {
            *movement = next;
        }
    }
}

/// Near enough to be run into within a tick.
fn is_near(a: Vec3, b: Vec3) -> bool {
    a.distance_squared(b) < (6.0 * CAPSULE_RADIUS_M).powi(2)
}

/// Who stands far in the place of a neighbour that does not take it walks against a wall.
fn hold_at_wall(scope: Res<ZoneScope>, mut players: Query<&mut MovementState>) {
    for mut movement in &mut players {
        if let Some(held) = scope.held_at_wall(movement.position) {
            movement.position = snap_position(held);
        }
    }
}

fn respawn_fallen(
    tick: Res<CurrentTick>,
    world: Res<WorldDefinition>,
    scope: Res<ZoneScope>,
    mut players: Query<(&Identity, &mut MovementState)>,
    mut events: MessageWriter<WorldEvent>,
) {
    for (identity, mut movement) in &mut players {
        // Not a number compares as fallen.
        if movement.position.is_finite() && movement.position.y >= world.kill_below_m {
            continue;
        }
        *movement = spawn_state(&world, &scope, identity.entity.0 ^ tick.0.0.rotate_left(32));
        if let Some(player) = identity.player {
            events.write(WorldEvent::Died {
                entity: identity.entity,
                player,
                tick: tick.0,
            });
        }
    }
}

fn settle_players(
    tick: Res<CurrentTick>,
    mut players: Query<(&MovementState, &PlayerInput, &mut Pose, &mut OwnerState, &mut ProbeEcho)>,
) {
    for (movement, player, mut pose, mut owner, mut echo) in &mut players {
        let moved = movement.pose();
        if *pose != moved {
            *pose = moved;
        }
        if echo.sequence != player.input.sequence {
            echo.sequence = player.input.sequence;
        }
        let state = OwnerState {
            tick: tick.0.0 as u16,
            position: movement.position,
            velocity: movement.velocity,
            yaw: movement.yaw,
            grounded: movement.grounded,
            input_applied: player.applied,
            slack: player.slack,
        };
        let at_rest = OwnerState {
            tick: owner.tick,
            slack: owner.slack,
            ..state
        } == *owner;
        if !at_rest || tick.0.0.is_multiple_of(OWNER_STATE_EVERY_TICKS) {
            *owner = state;
        }
    }
}
