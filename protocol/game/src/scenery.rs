//! What a player can run into, and the queries the movement step asks about it.
//!
//! Zone and client build the same [`Scenery`] from the world file, so both get the same answers; other players and
//! crates are added per tick as [`Surroundings`].
//!
//! Casts are computed here rather than by the physics engine: its iterative casts are off by millimetres on a floor of a
//! hundred metres, enough for a walker to drift or to sink in. The distance between a capsule's segment and a box has a
//! closed form up to one bisection, and along a straight movement it is convex, so Newton's method finds the first contact
//! from below (see [`OrientedBox::cast`]).

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
/// Nearer than this to the skin counts as touching, in metres.
const TOUCH_M: f32 = 1e-4;
/// Newton's method doubles its digits with each round: this is more than an f32 has.
const ROUNDS_MAX: usize = 12;

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

/// A box at any angle.
#[derive(Clone, Copy, Debug)]
struct OrientedBox {
    centre: Vec3,
    rotation: Quat,
    half_extents: Vec3,
}

/// Where a capsule's segment is nearest to a box.
#[derive(Clone, Copy, Debug)]
struct Nearest {
    /// Distance of the segment to the box, in metres; negative by the depth where the segment is inside.
    distance: f32,
    /// Unit vector from the box to the segment.
    normal: Vec3,
}

impl OrientedBox {
    /// Half of the edge lengths of the axis-aligned box around it.
    fn reach(&self) -> Vec3 {
        let axis = |unit: Vec3, half: f32| (self.rotation * unit).abs() * half;
        axis(Vec3::X, self.half_extents.x) + axis(Vec3::Y, self.half_extents.y) + axis(Vec3::Z, self.half_extents.z)
    }

    /// The nearest points of the box and of a player's segment whose middle is at `position`.
    fn nearest(&self, position: Vec3) -> Nearest {
        let inverse = self.rotation.inverse();
        let middle = inverse * (position - self.centre);
        let up = inverse * (Vec3::Y * CAPSULE_HALF_SEGMENT_M);
        // How the squared distance of the point at `t` along the segment changes with `t`; it never falls.
        let slope = |t: f32| {
            let point = middle + up * t;
            (point - point.clamp(-self.half_extents, self.half_extents)).dot(up)
        };
        let t = if slope(-1.0) >= 0.0 {
            -1.0
        } else if slope(1.0) <= 0.0 {
            1.0
        } else {
            let (mut low, mut high) = (-1.0, 1.0);
            for _ in 0..24 {
                let half = (low + high) * 0.5;
                if slope(half) < 0.0 { low = half } else { high = half }
            }
            (low + high) * 0.5
        };
        let point = middle + up * t;
        let apart = point - point.clamp(-self.half_extents, self.half_extents);
        let distance = apart.length();
        if distance > 1e-6 {
            return Nearest {
                distance,
                normal: self.rotation * (apart / distance),
            };
        }
        // Inside: out through the nearest face.
        let depths = self.half_extents - point.abs();
        let (axis, depth) = [(Vec3::X, depths.x), (Vec3::Y, depths.y), (Vec3::Z, depths.z)]
            .into_iter()
            .min_by(|a, b| a.1.total_cmp(&b.1))
            .unwrap_or((Vec3::Y, 0.0));
        let side = if point.dot(axis) < 0.0 { -1.0 } else { 1.0 };
        Nearest {
            distance: -depth,
            normal: self.rotation * (axis * side),
        }
    }

    /// The first contact of a capsule that moves from `from` by `delta`.
    ///
    /// Along the movement the distance f is a convex function, and its slope is the movement along the normal. Where f
    /// falls, the root of its tangent lies before its own: Newton's method comes to the contact from the free side.
    fn cast(&self, from: Vec3, delta: Vec3) -> Option<CapsuleHit> {
        let mut fraction = 0.0;
        for _ in 0..ROUNDS_MAX {
            let nearest = self.nearest(from + delta * fraction);
            let slope = delta.dot(nearest.normal);
            if slope >= 0.0 {
                // Parallel or away: from here on the distance never falls again.
                return None;
            }
            let free = nearest.distance - CAPSULE_RADIUS_M - SKIN_M;
            if free <= TOUCH_M {
                return Some(CapsuleHit {
                    fraction,
                    normal: nearest.normal,
                });
            }
            fraction -= free / slope;
            if fraction >= 1.0 {
                return None;
            }
        }
        Some(CapsuleHit {
            fraction,
            normal: self.nearest(from + delta * fraction).normal,
        })
    }
}

/// The world's scenery, indexed for casts.
#[derive(Resource, Default)]
pub struct Scenery {
    boxes: Vec<OrientedBox>,
    cells: HashMap<(i32, i32), Vec<u32>>,
    everywhere: Vec<u32>,
}

fn cells_between(min: Vec3, max: Vec3) -> (std::ops::RangeInclusive<i32>, std::ops::RangeInclusive<i32>) {
    let cells = |min: f32, max: f32| (min / CELL_M).floor() as i32..=(max / CELL_M).floor() as i32;
    (cells(min.x, max.x), cells(min.z, max.z))
}

impl Scenery {
    /// The scenery of a world.
    pub fn new(world: &WorldDefinition) -> Self {
        let mut scenery = Self::default();
        for item in &world.scenery {
            scenery.insert(OrientedBox {
                centre: Vec3::from_array(item.centre),
                rotation: item.rotation(),
                half_extents: Vec3::from_array(item.size) / 2.0,
            });
        }
        scenery
    }

    fn insert(&mut self, item: OrientedBox) {
        let index = self.boxes.len() as u32;
        let reach = item.reach() + Vec3::splat(CAPSULE_RADIUS_M + SKIN_M);
        let (columns, rows) = cells_between(item.centre - reach, item.centre + reach);
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

    /// Calls `visit` with each box in the cells that a movement of a player's centre touches, in a fixed order, once each.
    fn visit_near(&self, from: Vec3, to: Vec3, mut visit: impl FnMut(&OrientedBox)) {
        let (columns, rows) = cells_between(from.min(to), from.max(to));
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
            visit(&self.boxes[*index as usize]);
        }
    }

    /// See [`SpatialQueries::cast_player`].
    pub fn cast_player(&self, from: Vec3, delta: Vec3) -> Option<CapsuleHit> {
        let mut nearest: Option<CapsuleHit> = None;
        self.visit_near(from, from + delta, |item| {
            if let Some(hit) = item.cast(from, delta)
                && nearest.is_none_or(|best| hit.fraction < best.fraction)
            {
                nearest = Some(hit);
            }
        });
        nearest
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

/// How near a crate counts as touched, in metres: walking speed times half a slow tick.
pub const CRATE_REACH_M: f32 = 0.05;

impl SurroundingCrate {
    /// The unit direction in x-z from a player at `position` to the crate, if the player's capsule touches it.
    pub fn contact(&self, position: Vec3) -> Option<Vec3> {
        let reach = self.half_extents.length() + CAPSULE_RADIUS_M + CAPSULE_HALF_SEGMENT_M + CRATE_REACH_M;
        if self.position.distance_squared(position) > reach * reach {
            return None;
        }
        let item = OrientedBox {
            centre: self.position,
            rotation: self.rotation,
            half_extents: self.half_extents,
        };
        if item.nearest(position).distance > CAPSULE_RADIUS_M + CRATE_REACH_M {
            return None;
        }
        let direction = (self.position - position).with_y(0.0).normalize_or_zero();
        (direction != Vec3::ZERO).then_some(direction)
    }

    /// How far the crate would have to move in x-z to be out of the way of a player at `position` that stands in it, in metres.
    /// While the player's axis is inside of the crate this is a step of the way.
    pub fn way_out(&self, position: Vec3) -> Option<Vec3> {
        let direction = self.contact(position)?;
        let item = OrientedBox {
            centre: self.position,
            rotation: self.rotation,
            half_extents: self.half_extents,
        };
        let depth = CAPSULE_RADIUS_M - item.nearest(position).distance;
        (depth > 0.0).then_some(direction * depth)
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
