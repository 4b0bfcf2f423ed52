//! The world file (`assets/data/world.toml`): bounds, scenery, crates and where players start.
//!
//! Zone and client read the same definition: the zone simulates it, the client predicts and draws it.

use std::fmt;
use std::path::Path;

use bevy::ecs::resource::Resource;
use bevy::math::{EulerRot, Quat, Vec3};
use meridian_ids::TickRate;
use serde::{Deserialize, Serialize};

use crate::quantise::{HORIZONTAL_MAX_M, VERTICAL_MAX_M};

/// Boxes of scenery a world may have.
pub const SCENERY_MAX: usize = 10_000;
/// Dynamic crates a world may have, rows and columns counted out.
pub const CRATES_MAX: usize = 10_000;

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
    pub bounds: Bounds,
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
}

/// A rectangle in x-z, in metres.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// Smallest x and z.
    pub min: [f32; 2],
    /// Largest x and z.
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
            line: error
                .span()
                .map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1),
            reason: error.message().to_owned(),
        })?;
        world.validate().map_err(|reason| {
            let line = text
                .lines()
                .position(|line| line.contains(reason.near.as_str()) && !reason.near.is_empty());
            match line {
                Some(line) => WorldError::Syntax {
                    path: path.to_owned(),
                    line: line + 1,
                    reason: reason.what.clone(),
                },
                None => WorldError::Invalid {
                    path: path.to_owned(),
                    reason: reason.what,
                },
            }
        })?;
        Ok(world)
    }

    /// Validates a definition that came by another way than a file; `from` is for error messages.
    pub fn checked(self, from: &str) -> Result<Self, WorldError> {
        match self.validate() {
            Ok(()) => Ok(self),
            Err(reason) => Err(WorldError::Invalid {
                path: from.to_owned(),
                reason: reason.what,
            }),
        }
    }

    /// Checks what the types do not say.
    fn validate(&self) -> Result<(), Invalid> {
        let Bounds { min, max } = self.bounds;
        for (axis, name) in [(0, "x"), (1, "z")] {
            check(
                in_range(min[axis], HORIZONTAL_MAX_M) && in_range(max[axis], HORIZONTAL_MAX_M),
                "bounds",
                || format!("bounds: {name} must lie within {HORIZONTAL_MAX_M} m of the origin"),
            )?;
            check(min[axis] < max[axis], "bounds", || {
                format!("bounds: min {name} is not below max {name}")
            })?;
        }
        check(in_range(self.kill_below_m, VERTICAL_MAX_M), "kill_below_m", || {
            format!("kill_below_m must lie within {VERTICAL_MAX_M} m of the origin")
        })?;
        self.validate_spawn()?;
        check(self.scenery.len() <= SCENERY_MAX, "scenery", || {
            format!("more than {SCENERY_MAX} boxes of scenery")
        })?;
        for (index, scenery) in self.scenery.iter().enumerate() {
            let what = || format!("scenery {} ({:?})", index + 1, scenery.name);
            check(is_position(scenery.centre), &scenery.name, || {
                format!("{}: centre is out of range", what())
            })?;
            check(is_size(scenery.size), &scenery.name, || {
                format!("{}: size must be above 0.01 m", what())
            })?;
            check(
                scenery.yaw_degrees.is_finite() && scenery.pitch_degrees.is_finite(),
                &scenery.name,
                || format!("{}: angles must be finite", what()),
            )?;
        }
        let crates: u64 = self
            .crates
            .iter()
            .map(|group| u64::from(group.count[0]) * u64::from(group.count[1]))
            .sum();
        check(crates <= CRATES_MAX as u64, "crates", || {
            format!("{crates} crates; at most {CRATES_MAX} are allowed")
        })?;
        for (index, group) in self.crates.iter().enumerate() {
            let what = |reason: &str| format!("crates {}: {reason}", index + 1);
            check(is_position(group.first), "", || what("first is out of range"))?;
            check(is_size(group.size), "", || what("size must be above 0.01 m"))?;
            check(group.mass_kg.is_finite() && group.mass_kg > 0.0, "mass_kg", || {
                what("mass_kg must be above 0")
            })?;
            check(group.spacing_m.is_finite(), "spacing_m", || {
                what("spacing_m must be finite")
            })?;
        }
        Ok(())
    }

    fn validate_spawn(&self) -> Result<(), Invalid> {
        let [x, y, z] = self.spawn.centre;
        check(is_position(self.spawn.centre), "spawn", || {
            "spawn: centre is out of range".to_owned()
        })?;
        check(self.bounds.contains(x, z), "spawn", || {
            "spawn: centre lies outside of the bounds".to_owned()
        })?;
        check(y > self.kill_below_m, "spawn", || {
            "spawn: centre lies below kill_below_m".to_owned()
        })?;
        check(
            self.spawn.radius_m.is_finite() && self.spawn.radius_m >= 0.0,
            "radius_m",
            || "spawn: radius_m must be 0 or more".to_owned(),
        )
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

impl Bounds {
    /// Whether a point in x-z lies inside.
    pub fn contains(&self, x: f32, z: f32) -> bool {
        (self.min[0]..=self.max[0]).contains(&x) && (self.min[1]..=self.max[1]).contains(&z)
    }
}

impl SceneryBox {
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
        (0..rows).flat_map(move |row| {
            (0..columns).map(move |column| {
                Vec3::from_array(self.first) + Vec3::new(column as f32, 0.0, row as f32) * self.spacing_m
            })
        })
    }
}

struct Invalid {
    what: String,
    near: String,
}

fn check(holds: bool, near: &str, what: impl FnOnce() -> String) -> Result<(), Invalid> {
    if holds {
        Ok(())
    } else {
        Err(Invalid {
            what: what(),
            near: near.to_owned(),
        })
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DEMO: &str = include_str!("../../../assets/data/world.toml");

    fn error_of(text: &str) -> String {
        WorldDefinition::parse(text, "world.toml")
            .expect_err("must be refused")
            .to_string()
    }

    #[test]
    fn the_demo_world_is_valid_and_its_hash_is_stable() {
        let world = WorldDefinition::parse(DEMO, "world.toml").unwrap();
        assert_eq!(
            world.content_hash(),
            WorldDefinition::parse(DEMO, "elsewhere").unwrap().content_hash()
        );
        assert!(!world.crates.is_empty() && !world.scenery.is_empty());
    }

    #[test]
    fn a_syntax_error_names_its_line() {
        let broken = DEMO.replacen("kill_below_m", "kill_below_m = =", 1);
        let line = DEMO.lines().position(|line| line.starts_with("kill_below_m")).unwrap() + 1;
        assert!(
            error_of(&broken).starts_with(&format!("world.toml:{line}: ")),
            "{}",
            error_of(&broken)
        );
    }

    #[test]
    fn an_unknown_field_and_a_wrong_rate_are_named() {
        assert!(error_of(&format!("gravitas = 3\n{DEMO}")).contains("gravitas"));
        let rate = DEMO.replacen("tick_rate_hz = 60", "tick_rate_hz = 500", 1);
        assert!(error_of(&rate).contains("500 Hz is outside"), "{}", error_of(&rate));
    }

    #[test]
    fn a_world_that_cannot_be_simulated_says_why_and_where() {
        let flat = DEMO.replacen("size = [", "size = [0.0, 1.0, 1.0] # [", 1);
        assert!(
            error_of(&flat).contains("size must be above 0.01 m"),
            "{}",
            error_of(&flat)
        );
        let far = DEMO.replacen("centre = [", "centre = [9e9, 0.0, 0.0] # [", 1);
        assert!(error_of(&far).contains("out of range"), "{}", error_of(&far));
    }

    #[test]
    fn a_missing_file_says_what_to_do() {
        let error = WorldDefinition::load(Path::new("/nonexistent/world.toml"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("--world FILE"), "{error}");
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_parser(cut in 0usize..4096, junk in "[ -~\n]{0,20}") {
            let cut = DEMO.floor_char_boundary(cut.min(DEMO.len()));
            let text = format!("{}{junk}{}", &DEMO[..cut], &DEMO[cut..]);
            if let Err(error) = WorldDefinition::parse(&text, "world.toml") {
                prop_assert!(error.to_string().starts_with("world.toml"));
            }
        }
    }
}
