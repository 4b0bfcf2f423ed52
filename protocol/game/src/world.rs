//! The world file (`assets/data/world.toml`): bounds, scenery, crates and where players start.
//!
//! Zone and client read the same definition: the zone simulates it, the client predicts and draws it.

use std::fmt;
use std::path::Path;

use bevy::ecs::resource::Resource;
use bevy::math::{EulerRot, Quat, Vec3};
use meridian_ids::TickRate;
use serde::{Deserialize, Serialize};
use toml::de::{DeTable, DeValue};

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
        self.validate_spawn()?;
        self.validate_scenery()?;
        self.validate_crates()
    }

    fn validate_bounds(&self) -> Result<(), Invalid> {
        let Bounds { min, max } = self.bounds;
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
        check(self.bounds.contains(x, z), Place::within("spawn", "centre"), || {
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
            self.bounds.contains(x - radius_m, z - radius_m) && self.bounds.contains(x + radius_m, z + radius_m),
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

/// A key in the text of a world.
#[derive(Clone, Copy)]
struct Place {
    /// The table's name; empty for the whole document.
    table: &'static str,
    /// Which of several tables of that name, from 0.
    index: usize,
    /// Empty for the table itself.
    key: &'static str,
}

impl Place {
    const fn top(key: &'static str) -> Self {
        Self::within("", key)
    }

    const fn within(table: &'static str, key: &'static str) -> Self {
        Self::within_nth(table, 0, key)
    }

    const fn within_nth(table: &'static str, index: usize, key: &'static str) -> Self {
        Self { table, index, key }
    }
}

/// The line, from 1, of a key, or of its table's header where the table does not have it.
fn line_of(text: &str, place: Place) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let document = document.get_ref();
    let start = if place.table.is_empty() {
        start_of_key(document, place.key)?
    } else {
        let named = document.get(place.table)?;
        let table = match named.get_ref() {
            DeValue::Array(tables) => tables.get(place.index)?,
            _ => named,
        };
        let key = table
            .get_ref()
            .as_table()
            .and_then(|keys| start_of_key(keys, place.key));
        key.unwrap_or(table.span().start)
    };
    Some(line_at(text, start))
}

fn start_of_key(table: &DeTable<'_>, key: &str) -> Option<usize> {
    table.get_key_value(key).map(|(key, _)| key.span().start)
}

/// The line, from 1, of a byte of the text.
fn line_at(text: &str, start: usize) -> usize {
    text.bytes().take(start).filter(|byte| *byte == b'\n').count() + 1
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

    /// Two groups of crates; comments and a name hold words that are keys too.
    const SMALL: &str = r#"# crates, bounds, radius_m and mass_kg
name = "small: mass_kg = 0"
kill_below_m = -20.0
[bounds]
min = [-100.0, -100.0]
max = [100.0, 100.0]
[spawn] # centre = 0
centre = [0.0, 0.0, 0.0]
radius_m = 10.0
[[scenery]]
centre = [0.0, -1.0, 0.0]
size = [50.0, 2.0, 50.0]
[[crates]]
first = [8.0, 0.5, 8.0]
size = [1.0, 1.0, 1.0]
mass_kg = 20.0
[[crates]]
# size = 3 and mass_kg = 2
first = [-8.0, 0.5, 8.0]
count = [2, 3]
spacing_m = 3.0
size = [1.5, 1.5, 1.5]
mass_kg = 60.0
"#;

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
    fn a_wrong_value_is_told_with_the_line_of_its_own_key() {
        WorldDefinition::parse(SMALL, "world.toml").unwrap();
        for (right, wrong, said) in [
            ("kill_below_m = -20.0", "kill_below_m = -9e9", "3: kill_below_m must"),
            ("max = [100.0", "max = [9e9", "6: bounds: x must lie"),
            ("min = [-100.0", "min = [100.0", "4: bounds: min x is not below"),
            ("[0.0, 0.0, 0.0]", "[0.0, -20.0, 0.0]", "8: spawn: centre lies below"),
            ("radius_m = 10.0", "radius_m = -1.0", "9: spawn: radius_m must be"),
            ("size = [50.0", "size = [0.0", "12: scenery 1 (\"\"): size must be"),
            ("first = [8.0", "first = [9e9", "14: crates 1: first is out of range"),
            ("size = [1.0", "size = [0.0", "15: crates 1: size must be"),
            ("mass_kg = 60.0", "mass_kg = 0.0", "23: crates 2: mass_kg must be"),
            ("size = [1.5", "size = [0.0", "22: crates 2: size must be"),
            (
                "mass_kg = 20.0",
                "mass_kg = 20.0\nspacing_m = nan",
                "17: crates 1: spacing_m must",
            ),
        ] {
            let error = error_of(&SMALL.replacen(right, wrong, 1));
            assert!(error.starts_with(&format!("world.toml:{said}")), "{error}");
        }
    }

    #[test]
    fn a_key_that_is_not_there_is_told_with_its_tables_line() {
        let inline = "crates = [\n  {},\n  { size = 1 },\n]\n";
        assert_eq!(line_of(SMALL, Place::within_nth("crates", 1, "colour")), Some(17));
        assert_eq!(line_of(SMALL, Place::within("spawn", "colour")), Some(7));
        assert_eq!(line_of(inline, Place::within_nth("crates", 1, "size")), Some(3));
        assert_eq!(line_of(SMALL, Place::within_nth("crates", 2, "size")), None);
        assert_eq!(line_of(SMALL, Place::top("colour")), None);
    }

    #[test]
    fn crates_past_every_count_are_refused() {
        // Times itself nearly 2^64: a second group makes the sum wrap, with the last count to exactly 0.
        let most = "count = [4294967295, 4294967295]";
        for second in [most, "count = [14329, 599479]"] {
            let text = SMALL.replacen("size = [1.0", &format!("{most}\nsize = [1.0"), 1);
            let error = error_of(&text.replacen("count = [2, 3]", second, 1));
            assert!(
                error.starts_with("world.toml:15: crates 1: ") && error.contains("at most 10000 are allowed"),
                "{error}"
            );
        }
        let error = error_of(&SMALL.replacen("count = [2, 3]", "count = [100, 100]", 1));
        assert!(error.starts_with("world.toml:20: crates 2: 10001 crates"), "{error}");
    }

    #[test]
    fn every_crate_must_be_in_range_and_apart() {
        for (right, wrong, said) in [
            (
                "count = [2, 3]",
                "count = [2, 5]\nspacing_m = 9e3",
                "20: crates 2: the last crate",
            ),
            (
                "count = [2, 3]",
                "count = [5, 2]\nspacing_m = 9e3",
                "20: crates 2: the last crate",
            ),
            (
                "count = [2, 3]",
                "spacing_m = -1.0\ncount = [1, 2]",
                "20: crates 2: spacing_m must be above 0",
            ),
            (
                "count = [2, 3]",
                "spacing_m = 0.0\ncount = [2, 1]",
                "20: crates 2: spacing_m must be above 0",
            ),
        ] {
            let error = error_of(&SMALL.replace("spacing_m = 3.0\n", "").replacen(right, wrong, 1));
            assert!(error.starts_with(&format!("world.toml:{said}")), "{error}");
        }
        let one = SMALL.replace("count = [2, 3]", "count = [1, 1]");
        WorldDefinition::parse(&one.replace("spacing_m = 3.0", "spacing_m = 0.0"), "world.toml").unwrap();
    }

    #[test]
    fn nobody_appears_beyond_the_bounds() {
        for (right, wrong) in [
            ("radius_m = 10.0", "radius_m = 100.5"),
            ("radius_m = 10.0", "radius_m = 3e38"),
            ("min = [-100.0, -100.0]", "min = [-100.0, -9.5]"),
            ("max = [100.0, 100.0]", "max = [9.5, 100.0]"),
        ] {
            let error = error_of(&SMALL.replacen(right, wrong, 1));
            assert!(
                error.starts_with("world.toml:9: spawn: ") && error.contains("beyond the bounds"),
                "{error}"
            );
        }
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
