//! What a player can run into, and the queries the movement step asks about it.
//!
//! Zone and client build the same [`Scenery`] from the world file, so both get the same answers; other players and
//! crates are added per tick as [`Surroundings`].

use avian3d::parry::bounding_volume::{Aabb, BoundingVolume};
use avian3d::parry::math::Pose as Isometry;
use avian3d::parry::query::{self, ShapeCastOptions, ShapeCastStatus};
use avian3d::parry::shape::{Capsule, Cuboid, Shape};
use bevy::ecs::resource::Resource;
use bevy::math::{Quat, Vec3};
use bevy::platform::collections::HashMap;

use crate::movement::{CAPSULE_HALF_SEGMENT_M, CAPSULE_RADIUS_M};
use crate::world::WorldDefinition;

/// Edge of a cell of the broad phase, in metres. Larger than any distance a player moves in a tick.
const CELL_M: f32 = 8.0;
/// Cells a single box may be entered in; a larger one is tested always.
const CELLS_PER_BOX_MAX: i64 = 4_096;
/// Gap that the cast keeps to what it meets, in metres: more than two wire units, so snapping never penetrates.
pub const SKIN_M: f32 = 0.01;

/// What a moving capsule met.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CapsuleHit {
    /// Fraction of the movement that is free, 0 to 1.
    pub fraction: f32,
    /// Unit normal of the surface, away from it.
    pub normal: Vec3,
}

/// The questions of the movement step.
pub trait SpatialQueries {
    /// The first surface that a player's capsule at `from` meets when it moves by `delta` (metres).
    fn cast_player(&self, from: Vec3, delta: Vec3) -> Option<CapsuleHit>;
    /// Calls `visit` with the centre of each other player within `radius_m` of `position` in x-z.
    fn visit_players(&self, position: Vec3, radius_m: f32, visit: &mut dyn FnMut(Vec3));
    /// Whether a player's capsule at `position` touches a crate.
    fn touches_crate(&self, position: Vec3) -> bool;
}

struct StaticBox {
    pose: Isometry,
    shape: Cuboid,
    aabb: Aabb,
}

/// The world's scenery, indexed for casts.
#[derive(Resource, Default)]
pub struct Scenery {
    boxes: Vec<StaticBox>,
    cells: HashMap<(i32, i32), Vec<u32>>,
    everywhere: Vec<u32>,
}

fn player_capsule() -> Capsule {
    Capsule::new_y(CAPSULE_HALF_SEGMENT_M, CAPSULE_RADIUS_M)
}

fn cell_range(min: f32, max: f32) -> std::ops::RangeInclusive<i32> {
    (min / CELL_M).floor() as i32..=(max / CELL_M).floor() as i32
}

impl Scenery {
    /// The scenery of a world.
    pub fn new(world: &WorldDefinition) -> Self {
        let mut scenery = Self::default();
        for item in &world.scenery {
            let [x, y, z] = item.size;
            let shape = Cuboid::new(Vec3::new(x, y, z) / 2.0);
            let pose = Isometry::from_parts(Vec3::from_array(item.centre), item.rotation());
            let aabb = shape.compute_aabb(&pose).loosened(SKIN_M);
            scenery.insert(StaticBox { pose, shape, aabb });
        }
        scenery
    }

    fn insert(&mut self, item: StaticBox) {
        let index = self.boxes.len() as u32;
        let (columns, rows) = (
            cell_range(item.aabb.mins.x, item.aabb.maxs.x),
            cell_range(item.aabb.mins.z, item.aabb.maxs.z),
        );
        let span = |range: &std::ops::RangeInclusive<i32>| i64::from(*range.end()) - i64::from(*range.start()) + 1;
        if span(&columns) * span(&rows) > CELLS_PER_BOX_MAX {
            self.everywhere.push(index);
        } else {
            for column in columns {
                for row in rows.clone() {
                    self.cells.entry((column, row)).or_default().push(index);
                }
            }
        }
        self.boxes.push(item);
    }

    /// Calls `visit` with each box whose bounds meet `aabb`, in a fixed order and once each.
    fn visit_near(&self, aabb: &Aabb, mut visit: impl FnMut(&StaticBox)) {
        let (columns, rows) = (
            cell_range(aabb.mins.x, aabb.maxs.x),
            cell_range(aabb.mins.z, aabb.maxs.z),
        );
        let single = columns.start() == columns.end() && rows.start() == rows.end();
        let mut candidates = smallvec::SmallVec::<[u32; 16]>::new();
        for column in columns {
            for row in rows.clone() {
                candidates.extend(self.cells.get(&(column, row)).into_iter().flatten().copied());
            }
        }
        if !single {
            candidates.sort_unstable();
            candidates.dedup();
        }
        for index in self.everywhere.iter().chain(&candidates) {
            let item = &self.boxes[*index as usize];
            if item.aabb.intersects(aabb) {
                visit(item);
            }
        }
    }

    /// See [`SpatialQueries::cast_player`].
    pub fn cast_player(&self, from: Vec3, delta: Vec3) -> Option<CapsuleHit> {
        let capsule = player_capsule();
        let here = Isometry::from_translation(from);
        let there = Isometry::from_translation(from + delta);
        let swept = capsule
            .compute_aabb(&here)
            .merged(&capsule.compute_aabb(&there))
            .loosened(SKIN_M);
        let options = ShapeCastOptions {
            max_time_of_impact: 1.0,
            target_distance: SKIN_M,
            ..ShapeCastOptions::default()
        };
        let mut nearest: Option<CapsuleHit> = None;
        self.visit_near(&swept, |item| {
            let hit = query::cast_shapes(&here, delta, &capsule, &item.pose, Vec3::ZERO, &item.shape, options);
            let Ok(Some(hit)) = hit else { return };
            // normal2 is on the box, in its own frame.
            let normal = item.pose.rotation * hit.normal2;
            let separating = delta.dot(normal) >= 0.0;
            if hit.status == ShapeCastStatus::Failed || separating || !normal.is_finite() {
                return;
            }
            if nearest.is_none_or(|best| hit.time_of_impact < best.fraction) {
                nearest = Some(CapsuleHit {
                    fraction: hit.time_of_impact,
                    normal,
                });
            }
        });
        nearest
    }

    /// How far a capsule at `position` must move to leave what it stands in, or `None` where it is free.
    pub fn penetration(&self, position: Vec3) -> Option<Vec3> {
        let capsule = player_capsule();
        let here = Isometry::from_translation(position);
        let mut push: Option<Vec3> = None;
        self.visit_near(&capsule.compute_aabb(&here), |item| {
            let contact = query::contact(&here, &capsule, &item.pose, &item.shape, 0.0);
            if let Ok(Some(contact)) = contact
                && contact.dist < 0.0
                && push.is_none_or(|current| current.length() < -contact.dist)
            {
                push = Some(contact.normal2 * -contact.dist);
            }
        });
        push
    }
}

/// A crate as the movement step sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SurroundingCrate {
    /// Its centre, in metres.
    pub position: Vec3,
    /// Its orientation.
    pub rotation: Quat,
    /// Half of its edge lengths, in metres.
    pub half_extents: Vec3,
}

/// How near a crate counts as touched, in metres: walking speed times one slow tick.
pub const CRATE_REACH_M: f32 = 0.05;

impl SurroundingCrate {
    /// The nearest point of the crate to a player's capsule at `position`, as (unit direction from the player to the
    /// crate in x-z, distance in metres); `None` where it is out of reach.
    pub fn contact(&self, position: Vec3) -> Option<(Vec3, f32)> {
        let reach = self.half_extents.length() + CAPSULE_RADIUS_M + CAPSULE_HALF_SEGMENT_M + CRATE_REACH_M;
        if self.position.distance_squared(position) > reach * reach {
            return None;
        }
        let crate_pose = Isometry::from_parts(self.position, self.rotation);
        let player = Isometry::from_translation(position);
        let cuboid = Cuboid::new(self.half_extents);
        let contact = query::contact(&player, &player_capsule(), &crate_pose, &cuboid, CRATE_REACH_M)
            .ok()
            .flatten()?;
        let direction = (self.position - position).with_y(0.0).normalize_or_zero();
        (direction != Vec3::ZERO).then_some((direction, contact.dist))
    }
}

/// Scenery, other players and crates around one player in one tick.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// What never moves.
    pub scenery: &'a Scenery,
    /// Centres of the players, without the one that moves.
    pub players: &'a [Vec3],
    /// The crates near by.
    pub crates: &'a [SurroundingCrate],
}

impl SpatialQueries for Surroundings<'_> {
    fn cast_player(&self, from: Vec3, delta: Vec3) -> Option<CapsuleHit> {
        self.scenery.cast_player(from, delta)
    }

    fn visit_players(&self, position: Vec3, radius_m: f32, visit: &mut dyn FnMut(Vec3)) {
        for player in self.players {
            if (*player - position).with_y(0.0).length_squared() < radius_m * radius_m {
                visit(*player);
            }
        }
    }

    fn touches_crate(&self, position: Vec3) -> bool {
        self.crates.iter().any(|item| item.contact(position).is_some())
    }
}
