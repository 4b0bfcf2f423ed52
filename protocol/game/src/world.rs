//! The world file (`assets/data/world.toml`): bounds, scenery, crates and where players start.
//!
//! Zone and client read the same definition: the zone simulates it, the client predicts and draws it.

use std::fmt;
use std::path::Path;

use bevy::ecs::resource::Resource;
use bevy::math::{EulerRot, Quat, Vec3};
use meridian_ids::{Rectangle, TickRate, ZoneId, ZoneMap, ZoneMapError};
use serde::{Deserialize, Serialize};

use crate::quantise::{HORIZONTAL_MAX_M, VERTICAL_MAX_M};

mod place;
mod zones;

use place::{Place, line_at, line_of};

/// Boxes of scenery a world may have.
pub const SCENERY_MAX: usize = 10_000;
/// Dynamic crates a world may have, rows and columns counted out.
pub const CRATES_MAX: usize = 10_000;

/// Length of a row of tied crates from the first to the last, in metres: while the first one decides in which zone they are, the
/// last must not reach the wall behind the border.
pub const TIED_ROW_M_MAX: f32 = 3.0;

/// A validated world.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Resource)]
#[serde(deny_unknown_fields)]
pub struct WorldDefinition {
    /// A name for people.
    pub name: String,
    /// Ticks per second.
    #[serde(default)]
    pub tick_rate_hz: TickRate,
    /// The rectangle in x-z that players may stand in; beyond it is a fall.
    pub bounds: Rectangle,
    /// A player below this height dies and respawns, in metres.
    pub kill_below_m: f32,
    /// Where players appear.
    pub spawn: SpawnArea,
    /// Things that never move.
    #[serde(default)]
    pub scenery: Vec<SceneryBox>,
    /// Things that can be pushed.
    #[serde(default)]
    pub crates: Vec<CrateGroup>,
    /// The zones that the world is cut into; without any, the world is one zone. Their places in the list are their ids.
    #[serde(default)]
    pub zones: Vec<ZoneArea>,
}

/// A zone: the part of the world that one server simulates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZoneArea {
    /// A name for people, and for `server --zones`.
    pub name: String,
    /// Smallest x and z, in metres; these edges are the zone's own.
    pub min: [f32; 2],
    /// Largest x and z, in metres; these edges are its neighbours'.
    pub max: [f32; 2],
}

/// A disc in which players appear.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpawnArea {
    /// Its centre; players' feet start at this height.
    pub centre: [f32; 3],
    /// Its radius in metres.
    pub radius_m: f32,
}

/// A box that never moves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SceneryBox {
    /// A name for people and for error messages.
    #[serde(default)]
    pub name: String,
    /// Its centre, in metres.
    pub centre: [f32; 3],
    /// Its edge lengths, in metres.
    pub size: [f32; 3],
    /// Turn about the vertical, in degrees.
    #[serde(default)]
    pub yaw_degrees: f32,
    /// Slope about its own x axis, in degrees; makes a ramp.
    #[serde(default)]
    pub pitch_degrees: f32,
}

/// A grid of equal crates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrateGroup {
    /// Centre of the first crate, in metres.
    pub first: [f32; 3],
    /// Crates along x and along z.
    #[serde(default = "one_by_one")]
    pub count: [u32; 2],
    /// Distance from centre to centre, in metres.
    #[serde(default = "default_spacing_m")]
    pub spacing_m: f32,
    /// Edge lengths of each, in metres.
    pub size: [f32; 3],
    /// Mass of each, in kilograms.
    pub mass_kg: f32,
    /// Whether each is tied to the next one along x, by a link that lets them turn and keeps their distance.
    #[serde(default)]
    pub tied: bool,
}

fn one_by_one() -> [u32; 2] {
    [1, 1]
}

fn default_spacing_m() -> f32 {
    2.0
}

/// What is wrong with a world file: the line where it can be told, and the reason.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// The file could not be read.
    #[error("cannot read the world file {path}: {source}; name another with --world FILE")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML, or not a world.
    #[error("{path}:{line}: {reason}")]
    Syntax {
        /// The file.
        path: String,
        /// Line, from 1.
        line: usize,
        /// Why.
        reason: String,
    },
    /// The file is a world that cannot be simulated.
    #[error("{path}: {reason}")]
    Invalid {
        /// The file.
        path: String,
        /// What is wrong where.
        reason: String,
    },
}

impl WorldDefinition {
    /// Reads and validates a world file.
    pub fn load(path: &Path) -> Result<Self, WorldError> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| WorldError::Unreadable {
            path: shown.clone(),
            source,
        })?;
        Self::parse(&text, &shown)
    }

    /// Parses and validates the text of a world file; `path` is for error messages.
    pub fn parse(text: &str, path: &str) -> Result<Self, WorldError> {
        let world: Self = toml::from_str(text).map_err(|error| WorldError::Syntax {
            path: path.to_owned(),
            line: error.span().map_or(1, |span| line_at(text, span.start)),
            reason: error.message().to_owned(),
        })?;
        world.validate().map_err(|invalid| match line_of(text, invalid.place) {
            Some(line) => WorldError::Syntax {
                path: path.to_owned(),
                line,
                reason: invalid.what,
            },
            None => WorldError::Invalid {
                path: path.to_owned(),
                reason: invalid.what,
            },
        })?;
        Ok(world)
    }

    /// Validates a definition that came by another way than a file; `from` is for error messages.
    pub fn checked(self, from: &str) -> Result<Self, WorldError> {
        match self.validate() {
            Ok(()) => Ok(self),
            Err(invalid) => Err(WorldError::Invalid {
                path: from.to_owned(),
                reason: invalid.what,
            }),
        }
    }

    /// Checks what the types do not say.
    fn validate(&self) -> Result<(), Invalid> {
        self.validate_bounds()?;
        check(
            in_range(self.kill_below_m, VERTICAL_MAX_M),
            Place::top("kill_below_m"),
            || format!("kill_below_m must lie within {VERTICAL_MAX_M} m of the origin"),
        )?;
        check(self.kill_below_m > -VERTICAL_MAX_M, Place::top("kill_below_m"), || {
            format!("kill_below_m must be above -{VERTICAL_MAX_M} m: nothing falls deeper")
        })?;
        self.validate_spawn()?;
        self.validate_scenery()?;
        self.validate_crates()?;
        self.validate_zones()
    }

    fn validate_bounds(&self) -> Result<(), Invalid> {
        let Rectangle { min, max } = self.bounds;
        for (axis, name) in [(0, "x"), (1, "z")] {
            for (corner, key) in [(min, "min"), (max, "max")] {
                check(
                    in_range(corner[axis], HORIZONTAL_MAX_M),
                    Place::within("bounds", key),
                    || format!("bounds: {name} must lie within {HORIZONTAL_MAX_M} m of the origin"),
                )?;
            }
            // Either key may be the wrong one.
            check(min[axis] < max[axis], Place::within("bounds", ""), || {
                format!("bounds: min {name} is not below max {name}")
            })?;
        }
        Ok(())
    }

    fn validate_spawn(&self) -> Result<(), Invalid> {
        let SpawnArea { centre, radius_m } = self.spawn;
        let [x, y, z] = centre;
        check(is_position(centre), Place::within("spawn", "centre"), || {
            "spawn: centre is out of range".to_owned()
        })?;
        check(self.bounds.contains([x, z]), Place::within("spawn", "centre"), || {
            "spawn: centre lies outside of the bounds".to_owned()
        })?;
        check(y > self.kill_below_m, Place::within("spawn", "centre"), || {
            "spawn: centre lies below kill_below_m".to_owned()
        })?;
        check(
            radius_m.is_finite() && radius_m >= 0.0,
            Place::within("spawn", "radius_m"),
            || "spawn: radius_m must be 0 or more".to_owned(),
        )?;
        check(
            self.bounds.contains([x - radius_m, z - radius_m]) && self.bounds.contains([x + radius_m, z + radius_m]),
            Place::within("spawn", "radius_m"),
            || format!("spawn: {radius_m} m around the centre reach beyond the bounds"),
        )
    }

    fn validate_scenery(&self) -> Result<(), Invalid> {
        for (index, scenery) in self.scenery.iter().enumerate() {
            let at = |key| Place::within_nth("scenery", index, key);
            let what = |reason: &str| format!("scenery {} ({:?}): {reason}", index + 1, scenery.name);
            check(index < SCENERY_MAX, at(""), || {
                what(&format!("at most {SCENERY_MAX} boxes are allowed"))
            })?;
            check(is_position(scenery.centre), at("centre"), || {
                what("centre is out of range")
            })?;
            check(is_size(scenery.size), at("size"), || what("size must be above 0.01 m"))?;
            check(scenery.yaw_degrees.is_finite(), at("yaw_degrees"), || {
                what("angles must be finite")
            })?;
            check(scenery.pitch_degrees.is_finite(), at("pitch_degrees"), || {
                what("angles must be finite")
            })?;
            check(scenery.extent().distance_to(&self.bounds) == 0.0, at("centre"), || {
                what("lies outside of the bounds, where no zone would have it")
            })?;
        }
        Ok(())
    }

    fn validate_crates(&self) -> Result<(), Invalid> {
        let mut crates = 0_u64;
        for (index, group) in self.crates.iter().enumerate() {
            let at = |key| Place::within_nth("crates", index, key);
            let what = |reason: &str| format!("crates {}: {reason}", index + 1);
            let [columns, rows] = group.count;
            crates = crates.saturating_add(u64::from(columns).saturating_mul(u64::from(rows)));
            check(crates <= CRATES_MAX as u64, at("count"), || {
                what(&format!("{crates} crates so far; at most {CRATES_MAX} are allowed"))
            })?;
            check(is_position(group.first), at("first"), || what("first is out of range"))?;
            check(is_size(group.size), at("size"), || what("size must be above 0.01 m"))?;
            check(group.mass_kg.is_finite() && group.mass_kg > 0.0, at("mass_kg"), || {
                what("mass_kg must be above 0")
            })?;
            check(group.spacing_m.is_finite(), at("spacing_m"), || {
                what("spacing_m must be finite")
            })?;
            check(
                group.spacing_m > 0.0 || (columns <= 1 && rows <= 1),
                at("spacing_m"),
                || what("spacing_m must be above 0 where there is more than one crate"),
            )?;
            let row_m = columns.saturating_sub(1) as f32 * group.spacing_m;
            check(!group.tied || row_m <= TIED_ROW_M_MAX, at("tied"), || {
                what(&format!(
                    "a tied row may be {TIED_ROW_M_MAX} m long, not {row_m} m: it crosses borders as one"
                ))
            })?;
            // The first and the last are opposite corners: every other crate is between them.
            let last = group.centre(columns.saturating_sub(1), rows.saturating_sub(1));
            check(is_position(last.to_array()), at("count"), || {
                what(&format!(
                    "the last crate would be at x {} and z {}, out of range",
                    last.x, last.z
                ))
            })?;
        }
        Ok(())
    }

    /// A short hash of the definition: client and zone compare it before they trust each other's collisions.
    pub fn content_hash(&self) -> String {
        let text = toml::to_string(self).unwrap_or_default();
        // FNV-1a, 64 bits: it tells accidents apart; nothing secret depends on it.
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        format!("{hash:016x}")
    }
}

impl SceneryBox {
    /// The rectangle in x-z that it covers. A box across a border is part of every zone that it touches.
    pub fn extent(&self) -> Rectangle {
        let half = Vec3::from_array(self.size) / 2.0;
        let rotation = self.rotation();
        let axis = |unit: Vec3, half: f32| (rotation * unit).abs() * half;
        let reach = axis(Vec3::X, half.x) + axis(Vec3::Y, half.y) + axis(Vec3::Z, half.z);
        let [x, _, z] = self.centre;
        Rectangle {
            min: [x - reach.x, z - reach.z],
            max: [x + reach.x, z + reach.z],
        }
    }

    /// Turn and slope as one rotation.
    pub fn rotation(&self) -> Quat {
        Quat::from_euler(
            EulerRot::YXZ,
            self.yaw_degrees.to_radians(),
            self.pitch_degrees.to_radians(),
            0.0,
        )
    }
}

impl CrateGroup {
    /// The centres of the group's crates, in metres.
    pub fn centres(&self) -> impl Iterator<Item = Vec3> + '_ {
        let [columns, rows] = self.count;
        (0..rows).flat_map(move |row| (0..columns).map(move |column| self.centre(column, row)))
    }

    fn centre(&self, column: u32, row: u32) -> Vec3 {
        Vec3::from_array(self.first) + Vec3::new(column as f32, 0.0, row as f32) * self.spacing_m
    }
}

struct Invalid {
    what: String,
    place: Place,
}

fn check(holds: bool, place: Place, what: impl FnOnce() -> String) -> Result<(), Invalid> {
    if holds {
        Ok(())
    } else {
        Err(Invalid { what: what(), place })
    }
}

fn in_range(value: f32, limit: f32) -> bool {
    value.is_finite() && value.abs() <= limit
}

fn is_position([x, y, z]: [f32; 3]) -> bool {
    in_range(x, HORIZONTAL_MAX_M) && in_range(y, VERTICAL_MAX_M) && in_range(z, HORIZONTAL_MAX_M)
}

fn is_size(size: [f32; 3]) -> bool {
    size.iter()
        .all(|edge| edge.is_finite() && *edge > 0.01 && *edge <= 2.0 * HORIZONTAL_MAX_M)
}

impl fmt::Display for WorldDefinition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {} Hz", self.name, self.tick_rate_hz.hz())
    }
}

#[cfg(test)]
mod tests;
