//! Crates in a zone: avian's bodies, pushed by players, put back when they fall off the world.

use avian3d::prelude::{
    AngularVelocity, Collider, Friction, Gravity, LinearVelocity, Mass, PhysicsPlugins, Position, RigidBody, Rotation,
};
use bevy::app::{App, FixedFirst, FixedLast, FixedPostUpdate, FixedUpdate, Startup};
use bevy::ecs::change_detection::{DetectChanges, DetectChangesMut};
use bevy::ecs::component::Component;
use bevy::ecs::entity::Entity;
use bevy::ecs::message::MessageWriter;
use bevy::ecs::query::{With, Without};
use bevy::ecs::schedule::IntoScheduleConfigs;
use bevy::ecs::system::{Commands, Query, Res};
use bevy::ecs::world::{Ref, World};
use bevy::math::{Quat, Vec3};
use meridian_ids::WorldEntityId;

use super::players::move_players;
use crate::component::{WireComponent, WireError, WireReader};
use crate::components::{Body, BodyKind, Identity, Orientation, Pose, Tied};
use crate::movement::{GRAVITY_M_PER_S2, MovementState, WALK_SPEED_M_PER_S};
use crate::quantise::{rotation_from_bits, rotation_to_bits, snap_position};
use crate::scenery::SurroundingCrate;
use crate::simulation::{EntityIds, Ghost, GhostPushed, PlayerInput, SimulationSystems, WALL_BEYOND_M, ZoneScope};
use crate::world::{CrateGroup, WorldDefinition};

/// Largest impulse that a player gives a crate in a tick, in kilogram metres per second: a heavy crate starts slowly.
pub const PUSH_IMPULSE_MAX_KG_M_PER_S: f32 = 40.0;

pub(super) fn plugin(app: &mut App) {
    app.add_plugins(PhysicsPlugins::new(FixedPostUpdate));
    app.insert_resource(Gravity(Vec3::NEG_Y * GRAVITY_M_PER_S2));
    app.add_systems(Startup, spawn_scenery);
    app.add_systems(FixedFirst, follow_owners);
    app.add_systems(
        FixedUpdate,
        push_crates.in_set(SimulationSystems::Move).after(move_players),
    );
    app.add_systems(
        FixedLast,
        (recover_lost, settle_crates).chain().in_set(SimulationSystems::Settle),
    );
}

/// What a crate is, for the zones that simulate it. 28 bytes.
#[derive(Component, Clone, Copy, Debug, PartialEq)]
pub struct CrateBody {
    half_extents: Vec3,
    mass_kg: f32,
    home: Vec3,
}

/// How a crate moves, as exactly as the solver knows it. 52 bytes.
#[derive(Component, Clone, Copy, Debug, PartialEq)]
pub struct CrateMotion {
    position: Vec3,
    rotation: Quat,
    velocity: Vec3,
    spin: Vec3,
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

impl CrateMotion {
    fn resting_at(position: Vec3) -> Self {
        Self {
            position,
            rotation: Quat::IDENTITY,
            velocity: Vec3::ZERO,
            spin: Vec3::ZERO,
        }
    }
}

fn encode_vector(vector: Vec3, out: &mut Vec<u8>) {
    vector.to_array().iter().for_each(|axis| out.extend(axis.to_le_bytes()));
}

fn decode_vector(reader: &mut WireReader<'_>) -> Result<Vec3, WireError> {
    Ok(Vec3::new(reader.f32()?, reader.f32()?, reader.f32()?))
}

impl WireComponent for CrateBody {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_vector(self.half_extents, out);
        out.extend(self.mass_kg.to_le_bytes());
        encode_vector(self.home, out);
    }

    fn decode(reader: &mut WireReader<'_>) -> Result<Self, WireError> {
        let (half_extents, mass_kg, home) = (decode_vector(reader)?, reader.f32()?, decode_vector(reader)?);
        // A body without size or mass is more than the solver can bear.
        if half_extents.min_element() <= 0.0 || mass_kg <= 0.0 {
            return Err(WireError::Invalid("crate"));
        }
        Ok(Self {
            half_extents,
            mass_kg,
            home,
        })
    }
}

impl WireComponent for CrateMotion {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_vector(self.position, out);
        self.rotation
            .to_array()
            .iter()
            .for_each(|part| out.extend(part.to_le_bytes()));
        encode_vector(self.velocity, out);
        encode_vector(self.spin, out);
    }

    fn decode(reader: &mut WireReader<'_>) -> Result<Self, WireError> {
        let position = decode_vector(reader)?;
        let rotation = Quat::from_xyzw(reader.f32()?, reader.f32()?, reader.f32()?, reader.f32()?);
        if rotation.length_squared() < 1e-6 {
            return Err(WireError::Invalid("rotation"));
        }
        Ok(Self {
            position,
            rotation: rotation.normalize(),
            velocity: decode_vector(reader)?,
            spin: decode_vector(reader)?,
        })
    }
}

/// The scenery that anything of the zone can touch; a box across a border stands in both zones.
fn spawn_scenery(world: Res<WorldDefinition>, scope: Res<ZoneScope>, mut commands: Commands) {
    /// Beyond the wall a body may still reach by its own size.
    const BODY_M: f32 = 4.0;
    let Some(area) = scope.map.area(scope.zone) else { return };
    let reach = area.grown(WALL_BEYOND_M + BODY_M);
    // A world's outermost zones also have what lies beyond its edges.
    let is_mine = |place: [f32; 2]| scope.map.zone_at(place) == scope.zone;
    for item in &world.scenery {
        let extent = item.extent();
        if reach.distance_to(&extent) > 0.0 && !is_mine(extent.min) && !is_mine(extent.max) {
            continue;
        }
        let [x, y, z] = item.size;
        let place = (Position(Vec3::from_array(item.centre)), Rotation(item.rotation()));
        commands.spawn((RigidBody::Static, Collider::cuboid(x, y, z), Friction::new(0.6), place));
    }
}

/// The crates that start in this zone. A row that is tied together starts where its first crate does.
pub(super) fn populate(world: &mut World) {
    let (groups, scope) = (
        world.resource::<WorldDefinition>().crates.clone(),
        world.resource::<ZoneScope>().clone(),
    );
    for group in &groups {
        let centres: Vec<Vec3> = group.centres().collect();
        let row_length = if group.tied { group.count[0].max(1) as usize } else { 1 };
        for row in centres.chunks(row_length).filter(|row| scope.is_mine(row[0])) {
            populate_row(world, group, row);
        }
    }
}

fn populate_row(world: &mut World, group: &CrateGroup, row: &[Vec3]) {
    let mut mint = world.resource_mut::<EntityIds>();
    let ids: Vec<WorldEntityId> = row.iter().filter_map(|_| mint.0.mint()).collect();
    for (index, (id, centre)) in ids.iter().zip(row).enumerate() {
        let half_extents = Vec3::from_array(group.size) / 2.0;
        let body = CrateBody {
            half_extents,
            mass_kg: group.mass_kg,
            home: *centre,
        };
        let pose = Pose {
            position: snap_position(*centre),
            yaw: 0.0,
        };
        let mut entity = world.spawn((
            Identity {
                entity: *id,
                player: None,
            },
            Body {
                kind: BodyKind::Crate { half_extents },
            },
            pose,
            Orientation(Quat::IDENTITY),
            body,
            CrateMotion::resting_at(*centre),
        ));
        if group.tied {
            let neighbours = [index.checked_sub(1), Some(index + 1)];
            let to = neighbours
                .into_iter()
                .flatten()
                .filter_map(|index| ids.get(index).copied());
            entity.insert(Tied {
                to: to.collect(),
                length_m: group.spacing_m,
            });
        }
        let entity = entity.id();
        embody(world, entity);
    }
}

/// A body that the solver moves.
pub(super) fn embody(world: &mut World, entity: Entity) {
    add_body(world, entity, RigidBody::Dynamic);
}

/// A body that moves as its owner says: what meets it gives way.
pub(super) fn embody_ghost(world: &mut World, entity: Entity) {
    add_body(world, entity, RigidBody::Kinematic);
}

fn add_body(world: &mut World, entity: Entity, kind: RigidBody) {
    let parts = (world.get::<CrateBody>(entity), world.get::<CrateMotion>(entity));
    let (Some(body), Some(motion)) = (parts.0.copied(), parts.1.copied()) else {
        return;
    };
    let [x, y, z] = (body.half_extents * 2.0).to_array();
    world.entity_mut(entity).insert((
        kind,
        Collider::cuboid(x, y, z),
        Mass(body.mass_kg),
        Friction::new(0.6),
        Position(motion.position),
        Rotation(motion.rotation),
        LinearVelocity(motion.velocity),
        AngularVelocity(motion.spin),
    ));
}

/// One tick of flight: what it met on its way is found by the solver in the next.
pub(super) fn catch_up(world: &mut World, entity: Entity) {
    let delta_seconds = world.resource::<WorldDefinition>().tick_rate_hz.delta_seconds();
    let Ok(mut entity) = world.get_entity_mut(entity) else {
        return;
    };
    let velocity = entity.get::<LinearVelocity>().map_or(Vec3::ZERO, |velocity| velocity.0);
    if let Some(mut position) = entity.get_mut::<Position>() {
        // What stands falls a little in each tick, and the floor stops it.
        let way = if velocity.y.abs() < 1.0 {
            velocity.with_y(0.0)
        } else {
            velocity
        };
        position.0 += way * delta_seconds;
    }
}

/// A neighbour's player walks against the crate's ghost. Told twice, or late, it asks for no more than the walk's own speed.
pub(super) fn push(world: &mut World, entity: Entity, velocity: Vec3) {
    let Some(mass_kg) = world.get::<CrateBody>(entity).map(|body| body.mass_kg) else {
        return;
    };
    let towards = velocity.normalize_or_zero();
    let wanted = velocity.length().min(WALK_SPEED_M_PER_S);
    if velocity.is_finite()
        && let Some(mut current) = world.get_mut::<LinearVelocity>(entity)
    {
        let impulse = impulse_towards(towards, wanted, current.0, mass_kg);
        if impulse != Vec3::ZERO {
            current.0 += impulse / mass_kg;
        }
    }
}

/// What brings a crate to a speed in a direction, as far as its mass lets one player do so in a tick.
fn impulse_towards(towards: Vec3, wanted: f32, velocity: Vec3, mass_kg: f32) -> Vec3 {
    let missing = (wanted - velocity.dot(towards)).max(0.0);
    towards * (missing * mass_kg).min(PUSH_IMPULSE_MAX_KG_M_PER_S)
}

/// Ghosts stand where their owner last said, and move on while it goes on saying so.
fn follow_owners(
    mut ghosts: Query<
        (
            Ref<CrateMotion>,
            &mut Position,
            &mut Rotation,
            &mut LinearVelocity,
            &mut AngularVelocity,
        ),
        With<Ghost>,
    >,
) {
    for (motion, mut position, mut rotation, mut velocity, mut spin) in &mut ghosts {
        let (moving, spinning) = if motion.is_changed() {
            (motion.velocity, motion.spin)
        } else {
            (Vec3::ZERO, Vec3::ZERO)
        };
        position.set_if_neq(Position(motion.position));
        rotation.set_if_neq(Rotation(motion.rotation));
        velocity.set_if_neq(LinearVelocity(moving));
        spin.set_if_neq(AngularVelocity(spinning));
    }
}

/// Who walks against a crate brings it to walking speed, as far as its mass lets an impulse do so in a tick.
fn push_crates(
    players: Query<(&MovementState, &PlayerInput)>,
    mut crates: Query<
        (
            &Identity,
            &Pose,
            &Orientation,
            &CrateBody,
            &mut LinearVelocity,
            Option<&Ghost>,
        ),
        Without<MovementState>,
    >,
    mut pushed: MessageWriter<GhostPushed>,
) {
    for (identity, pose, orientation, body, mut velocity, ghost) in &mut crates {
        let surrounding = body.at(pose, orientation);
        let mut impulse = Vec3::ZERO;
        for (movement, player) in &players {
            let Some(towards) = surrounding.contact(movement.position) else {
                continue;
            };
            let walk = player.input.direction() * WALK_SPEED_M_PER_S;
            let wanted = Vec3::new(walk.x, 0.0, walk.y).dot(towards);
            if wanted <= 0.0 {
                continue;
            }
            match ghost {
                // Its owner knows how it moves, and so what is missing.
                Some(Ghost { zone }) => drop(pushed.write(GhostPushed {
                    ghost: identity.entity,
                    zone: *zone,
                    velocity: towards * wanted,
                })),
                None => impulse += impulse_towards(towards, wanted, velocity.0, body.mass_kg),
            }
        }
        if impulse != Vec3::ZERO {
            velocity.0 += impulse / body.mass_kg;
        }
    }
}

/// A crate that fell off the world, that the solver lost or that its neighbour does not take.
fn recover_lost(
    world: Res<WorldDefinition>,
    scope: Res<ZoneScope>,
    mut crates: Query<
        (
            &CrateBody,
            &mut Position,
            &mut Rotation,
            &mut LinearVelocity,
            &mut AngularVelocity,
        ),
        Without<Ghost>,
    >,
) {
    for (body, mut position, mut rotation, mut velocity, mut spin) in &mut crates {
        if let Some(held) = scope.held_at_wall(position.0) {
            position.0 = held;
            velocity.0 = Vec3::ZERO;
        }
        // Not a number compares as fallen: a body that the solver lost comes home too.
        let is_finite =
            position.0.is_finite() && rotation.0.is_finite() && velocity.0.is_finite() && spin.0.is_finite();
        if is_finite && position.0.y >= world.kill_below_m {
            continue;
        }
        (position.0, rotation.0) = (body.home, Quat::IDENTITY);
        (velocity.0, spin.0) = (Vec3::ZERO, Vec3::ZERO);
    }
}

fn settle_crates(
    mut crates: Query<
        (
            &Position,
            &Rotation,
            &LinearVelocity,
            &AngularVelocity,
            &mut Pose,
            &mut Orientation,
            &mut CrateMotion,
        ),
        (Without<MovementState>, Without<Ghost>),
    >,
) {
    for (position, rotation, velocity, spin, mut pose, mut orientation, mut motion) in &mut crates {
        let snapped = snap_position(position.0);
        if pose.position != snapped {
            pose.position = snapped;
        }
        let bits = rotation_to_bits(rotation.0);
        if rotation_to_bits(orientation.0) != bits {
            orientation.0 = rotation_from_bits(bits);
        }
        motion.set_if_neq(CrateMotion {
            position: position.0,
            rotation: rotation.0,
            velocity: velocity.0,
            spin: spin.0,
        });
    }
}
