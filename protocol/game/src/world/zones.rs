//! The zones of a world: names for people, and the map that says whose each place is.

use super::{Invalid, Place, Rectangle, WorldDefinition, ZoneArea, ZoneId, ZoneMap, ZoneMapError, check};

/// The shortest edge of a zone, in metres: what stands near one border must not be near the opposite one too.
pub const ZONE_EDGE_M_MIN: f32 = 24.0;
/// Bytes of a zone's name.
const ZONE_NAME_BYTES_MAX: usize = 32;

impl WorldDefinition {
    /// Whose each place is.
    ///
    /// # Panics
    ///
    /// Never for a validated world.
    pub fn zone_map(&self) -> ZoneMap {
        self.try_zone_map()
            .unwrap_or_else(|error| unreachable!("a validated world has a map: {error}"))
    }

    /// The zones in whose part of the spawn area players can appear.
    pub fn entrances(&self) -> Vec<ZoneId> {
        let (map, [x, _, z]) = (self.zone_map(), self.spawn.centre);
        let touches = |zone: &ZoneId| {
            map.area(*zone)
                .is_some_and(|area| area.distance([x, z]) < self.spawn.radius_m || area.contains([x, z]))
        };
        map.ids().filter(touches).collect()
    }

    /// A zone's name; that of a world that is one zone is the world's.
    pub fn zone_name(&self, zone: ZoneId) -> &str {
        self.zones
            .get(usize::from(zone.0))
            .map_or(&self.name, |area| &area.name)
    }

    fn try_zone_map(&self) -> Result<ZoneMap, ZoneMapError> {
        if self.zones.is_empty() {
            return ZoneMap::single(self.bounds);
        }
        let rectangle = |area: &ZoneArea| Rectangle {
            min: area.min,
            max: area.max,
        };
        ZoneMap::new(self.bounds, self.zones.iter().map(rectangle).collect())
    }

    pub(super) fn validate_zones(&self) -> Result<(), Invalid> {
        for (index, area) in self.zones.iter().enumerate() {
            let at = |key| Place::within_nth("zones", index, key);
            let what = |reason: &str| format!("zones {} ({:?}): {reason}", index + 1, area.name);
            let plain = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
            let is_name = (1..=ZONE_NAME_BYTES_MAX).contains(&area.name.len()) && area.name.chars().all(plain);
            check(is_name, at("name"), || {
                what("name must be 1 to 32 letters, digits, dots, dashes and underscores")
            })?;
            let is_new = self.zones[..index].iter().all(|other| other.name != area.name);
            check(is_new, at("name"), || what("another zone has this name"))?;
            // Edges that are no numbers are told with the map.
            let is_narrow = (0..2).any(|axis| area.max[axis] - area.min[axis] < ZONE_EDGE_M_MIN);
            check(!is_narrow, at("max"), || {
                what(&format!("each edge must be {ZONE_EDGE_M_MIN} m or more"))
            })?;
        }
        self.try_zone_map().map(drop).map_err(|error| self.no_map(&error))
    }

    fn no_map(&self, error: &ZoneMapError) -> Invalid {
        let name = |zone: ZoneId| format!("zones {} ({:?})", zone.0 + 1, self.zone_name(zone));
        let (place, what) = match error {
            ZoneMapError::NoSize(zone) => (Some(*zone), format!("{}: min must be below max", name(*zone))),
            ZoneMapError::OutOfBounds(zone) => (Some(*zone), format!("{} reaches beyond the bounds", name(*zone))),
            ZoneMapError::Overlap(one, other) => (Some(*other), format!("{} and {} overlap", name(*one), name(*other))),
            ZoneMapError::Hole(_) | ZoneMapError::Count(_) => (None, error.to_string()),
        };
        let index = place.map_or(0, |zone| usize::from(zone.0));
        Invalid {
            what,
            place: Place::within_nth("zones", index, ""),
        }
    }
}
