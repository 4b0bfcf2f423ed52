//! How far each zone's own account has come, and which instance of it counts.

use std::collections::{BTreeMap, HashSet};

use meridian_events::AuditLine;
use meridian_ids::{LeaseEpoch, Tick, WorldEntityId, ZoneId};
use serde::{Deserialize, Serialize};

/// Another instance took a zone over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Takeover {
    /// The zone.
    pub zone: ZoneId,
    /// The last tick that the instance before told of.
    pub last: Tick,
    /// The first one that this one told of.
    pub first: Tick,
}

/// What a line is to those that came before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// The zone's first.
    First,
    /// The next one of the same instance, whose line before was of `last`.
    Next { last: Tick },
    /// The first one of a new instance; the old one's last line was of `last`.
    TakenOver { last: Tick },
    /// Of an instance that has been taken over: a zombie.
    Stale,
    /// Of a tick of which there was a line already.
    Repeated,
}

/// A zone's account.
#[derive(Debug)]
pub(super) struct Zone {
    lease: LeaseEpoch,
    last: Tick,
    /// Up to when lines of it were missed; all before the first one were.
    missed_until: Tick,
    taken_over: Option<Takeover>,
    pub(super) reachable: bool,
    /// What it has begun and not ended.
    pub(super) simulates: HashSet<WorldEntityId>,
}

/// The accounts of all zones.
#[derive(Debug)]
pub(super) struct Zones {
    zones: BTreeMap<ZoneId, Zone>,
    awaited_ticks: u64,
    first: Option<Tick>,
    newest: Tick,
}

impl Zones {
    /// No zone yet. One that is more than `awaited_ticks` behind the newest tick of any zone is not waited for.
    pub(super) fn new(awaited_ticks: u64) -> Self {
        Self {
            zones: BTreeMap::new(),
            awaited_ticks,
            first: None,
            newest: Tick(0),
        }
    }

    /// Judges a line by its lease and tick; if it is a new instance's, the zone is that instance's from now on.
    pub(super) fn hear(&mut self, line: &AuditLine) -> Heard {
        let Some(zone) = self.zones.get_mut(&line.zone) else {
            let zone = Zone {
                lease: line.lease,
                last: line.tick,
                missed_until: line.tick,
                taken_over: None,
                reachable: true,
                simulates: HashSet::new(),
            };
            self.zones.insert(line.zone, zone);
            return Heard::First;
        };
        let last = zone.last;
        if line.lease < zone.lease {
            return Heard::Stale;
        }
        if line.lease > zone.lease {
            zone.lease = line.lease;
            zone.taken_over = Some(Takeover {
                zone: line.zone,
                last,
                first: line.tick,
            });
            return Heard::TakenOver { last };
        }
        if line.tick <= last {
            return Heard::Repeated;
        }
        if line.whole {
            zone.missed_until = line.tick;
        }
        Heard::Next { last }
    }

    /// Up to when lines of any zone were missed: who was somewhere since may have been there, and have left the world.
    pub(super) fn missed_until(&self) -> Tick {
        let missed = self.zones.values().map(|zone| zone.missed_until);
        missed.max().unwrap_or(Tick(0))
    }

    /// All that the line says has been taken in: what the zone has begun and not ended, it simulated in the line's tick.
    pub(super) fn reported(&mut self, line: &AuditLine) {
        if let Some(zone) = self.zones.get_mut(&line.zone) {
            zone.last = line.tick;
            zone.reachable = true;
        }
        self.first = Some(self.first.map_or(line.tick, |first| first.min(line.tick)));
        self.newest = self.newest.max(line.tick);
    }

    pub(super) fn get_mut(&mut self, zone: ZoneId) -> Option<&mut Zone> {
        self.zones.get_mut(&zone)
    }

    /// The last tick that a zone has told of.
    pub(super) fn last(&self, zone: ZoneId) -> Option<Tick> {
        self.zones.get(&zone).map(|zone| zone.last)
    }

    /// The newest tick that any zone has told of.
    pub(super) fn newest(&self) -> Tick {
        self.newest
    }

    /// The tick up to which all have told, but those that are not waited for.
    pub(super) fn told_by_all(&self) -> Tick {
        let oldest = self.newest - self.awaited_ticks;
        let awaited = self.zones.values().map(|zone| zone.last).filter(|last| *last >= oldest);
        awaited.min().unwrap_or(self.newest)
    }

    /// How many ticks lie between the first and the newest one, both counted.
    pub(super) fn ticks(&self) -> u64 {
        self.first.map_or(0, |first| (self.newest - first.0).0 + 1)
    }

    /// What became of each zone's instance before this one.
    pub(super) fn takeovers(&self) -> impl Iterator<Item = Takeover> {
        self.zones.values().filter_map(|zone| zone.taken_over)
    }

    pub(super) fn count(&self) -> u64 {
        self.zones.len() as u64
    }

    pub(super) fn unreachable(&self) -> impl Iterator<Item = &Zone> {
        self.zones.values().filter(|zone| !zone.reachable)
    }
}
