//! One line per tick and zone of what the zone simulates, as JSON: `GET /v1/audit` of the admin listener, one object a line.

use meridian_ids::{EntityEpoch, LeaseEpoch, Tick, WorldEntityId, ZoneId};
use serde::{Deserialize, Serialize};

/// What a zone says after a tick: what it simulates since the last line, and no longer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditLine {
    /// The zone.
    pub zone: ZoneId,
    /// Which instance of it: a higher one has taken over from all lower ones.
    pub lease: LeaseEpoch,
    /// The tick that was simulated. Everything that has begun and not ended was simulated in it.
    pub tick: Tick,
    /// Whether `began` lists everything that the zone simulates, and what it does not list has ended: the first line for a
    /// listener, and the first after one that was lost.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
    /// What the zone simulates from now on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub began: Vec<Began>,
    /// What it simulates no longer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ended: Vec<Ended>,
    /// Entities that came into the world.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spawned: Vec<WorldEntityId>,
    /// Entities that left the world.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retired: Vec<WorldEntityId>,
}

/// A zone began to simulate an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Began {
    /// The entity.
    pub entity: WorldEntityId,
    /// How many owners it has had.
    pub epoch: EntityEpoch,
    /// The first tick that the zone simulated it in; before the line's tick where it was caught up.
    pub from: Tick,
}

/// A zone stopped simulating an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The entity.
    pub entity: WorldEntityId,
    /// The last tick that the zone simulated it in.
    pub through: Tick,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_tick_is_a_short_line_and_what_is_written_is_read() {
        let mut line = AuditLine {
            zone: ZoneId(2),
            lease: LeaseEpoch(7),
            tick: Tick(100),
            whole: false,
            began: vec![],
            ended: vec![],
            spawned: vec![],
            retired: vec![],
        };
        let text = serde_json::to_string(&line).unwrap();
        assert_eq!(text, r#"{"zone":2,"lease":7,"tick":100}"#);
        line.began.push(Began {
            entity: WorldEntityId(u64::MAX),
            epoch: EntityEpoch(3),
            from: Tick(99),
        });
        let text = serde_json::to_string(&line).unwrap();
        assert_eq!(serde_json::from_str::<AuditLine>(&text).unwrap(), line);
    }
}
