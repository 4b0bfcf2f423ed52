//! What the view shows, and how it is drawn: no terminal is needed for either.

mod draw;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use meridian_rpc::v1::{ListZonesResponse, WatchPositionsResponse};

use crate::cli::WatchedArea;
use crate::client::{Place, check_area, check_place};
use crate::error::printable;

/// An entity that nothing was heard of for this long is shown no more: each is told once a second.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(5);
/// Most entities that are shown. The others are counted.
const ENTITIES_MAX: usize = 10_000;
/// Metres around the entities if no zone says how large the world is.
const MARGIN_M: f32 = 10.0;

/// What is known of the world that is watched.
pub struct WatchState {
    world: String,
    zones: BTreeMap<u32, ZoneArea>,
    own: Option<u64>,
    seen: BTreeMap<u64, Seen>,
    missed: u64,
    hidden: u64,
    first_row: usize,
}

struct ZoneArea {
    name: String,
    area: WatchedArea,
}

/// An entity as it was told last.
struct Seen {
    place: Place,
    /// How old that was when it was received.
    age: Duration,
    received: Instant,
}

impl WatchState {
    /// Nobody is seen yet. `own` is the player's entity.
    ///
    /// # Errors
    /// What is wrong with a zone.
    pub fn new(world: ListZonesResponse, own: Option<u64>) -> Result<Self, String> {
        let zones = world.zones.into_iter().map(|zone| {
            let area = check_area(zone.area)?;
            Ok((
                zone.zone_id,
                ZoneArea {
                    name: printable(&zone.name),
                    area,
                },
            ))
        });
        Ok(Self {
            world: printable(&world.world),
            zones: zones.collect::<Result<_, String>>()?,
            own,
            seen: BTreeMap::new(),
            missed: 0,
            hidden: 0,
            first_row: 0,
        })
    }

    /// Takes an answer, and tells how many positions it had. Of two places of an entity the newer one stays, by epoch and then by tick.
    ///
    /// # Errors
    /// What is wrong with a position.
    pub fn apply(&mut self, answer: WatchPositionsResponse, now: Instant) -> Result<usize, String> {
        self.missed = self.missed.saturating_add(answer.missed);
        let positions = answer.positions.len();
        for position in answer.positions {
            let place = check_place(Some(position))?;
            let known = self.seen.get(&place.entity_id);
            if known.is_some_and(|known| (known.place.epoch, known.place.tick) > (place.epoch, place.tick)) {
                continue;
            }
            if known.is_none() && self.seen.len() >= ENTITIES_MAX {
                self.hidden = self.hidden.saturating_add(1);
                continue;
            }
            let age = Duration::from_micros(answer.age_us);
            self.seen.insert(
                place.entity_id,
                Seen {
                    place,
                    age,
                    received: now,
                },
            );
        }
        Ok(positions)
    }

    /// Lets go of who has not been heard of.
    pub fn forget(&mut self, now: Instant) {
        self.seen
            .retain(|_, seen| now.saturating_duration_since(seen.received) < FORGOTTEN_AFTER);
        self.first_row = self.first_row.min(self.seen.len().saturating_sub(1));
    }

    /// Shows the table from so many rows farther down, or up.
    pub fn scroll(&mut self, rows: isize) {
        let last = self.seen.len().saturating_sub(1);
        self.first_row = self.first_row.saturating_add_signed(rows).min(last);
    }

    /// The part of the world that the map shows: that of its zones, or where anybody is.
    fn bounds(&self) -> WatchedArea {
        let around = |seen: &Seen| WatchedArea {
            min_x: seen.place.x - MARGIN_M,
            min_z: seen.place.z - MARGIN_M,
            max_x: seen.place.x + MARGIN_M,
            max_z: seen.place.z + MARGIN_M,
        };
        let zones = self.zones.values().map(|zone| zone.area).reduce(union);
        let bounds = zones.or_else(|| self.seen.values().map(around).reduce(union));
        bounds.unwrap_or(WatchedArea {
            min_x: -MARGIN_M,
            min_z: -MARGIN_M,
            max_x: MARGIN_M,
            max_z: MARGIN_M,
        })
    }

    fn zone_name(&self, zone: u32) -> String {
        self.zones
            .get(&zone)
            .map_or_else(|| format!("zone {zone}"), |zone| zone.name.clone())
    }
}

fn union(one: WatchedArea, other: WatchedArea) -> WatchedArea {
    WatchedArea {
        min_x: one.min_x.min(other.min_x),
        min_z: one.min_z.min(other.min_z),
        max_x: one.max_x.max(other.max_x),
        max_z: one.max_z.max(other.max_z),
    }
}

#[cfg(test)]
mod tests;
