//! Names of the metrics this crate records.

use std::time::Instant;

use meridian_game::WorldDefinition;
use meridian_ids::ZoneId;
use metrics::{Counter, Gauge, Histogram};

/// How long a tick took, in seconds, by `zone`.
pub const ZONE_TICK_SECONDS: &str = "meridian_zone_tick_seconds";
/// How long a tick may take, in seconds, by `zone`: a second by the world's rate.
pub const ZONE_TICK_BUDGET_SECONDS: &str = "meridian_zone_tick_budget_seconds";
/// Ticks that ended after the next one was due, by `zone`.
pub const ZONE_TICK_OVERRUNS: &str = "meridian_zone_tick_overruns_total";
/// Ticks that were never simulated because the zone was too far behind, by `zone`.
pub const ZONE_TICKS_SKIPPED: &str = "meridian_zone_ticks_skipped_total";
/// Ticks simulated, by `zone`.
pub const ZONE_TICKS: &str = "meridian_zone_ticks_total";
/// The tick of the oldest record of a player that an instance found when it claimed its zone, by `zone`: movement after it was lost, if the
/// instance before did not end in order. A player that stood still is as old as its last move.
pub const ZONE_CLAIMED_AFTER_TICK: &str = "meridian_zone_claimed_after_tick";
/// Entities of the zone.
pub const ZONE_ENTITIES: &str = "meridian_zone_entities";
/// Players of the zone.
pub const ZONE_PLAYERS: &str = "meridian_zone_players";
/// Players in the world whom no gateway plays, by `zone`: their gateway or their client is gone, and they wait to be played again.
pub const ZONE_PLAYERS_UNPLAYED: &str = "meridian_zone_players_unplayed";
/// Copies of neighbours' entities, by `zone`.
pub const ZONE_GHOSTS: &str = "meridian_zone_ghosts";
/// Entities that changed their zone, by `zone` and `direction`: departed and arrived as told, resumed if the neighbour did not
/// take it.
pub const HANDOFFS: &str = "meridian_handoffs_total";
/// From the beginning of the last tick that the sender of an entity simulated it in until it is the receiver's, in seconds, by the receiver's
/// `zone`: the rest of that tick, and the way over the bus.
pub const HANDOFF_SECONDS: &str = "meridian_handoff_seconds";
/// Inputs by `outcome` (applied, late, missing, early) and `phase` (settling in a player's first second, then steady).
/// A missing input that arrives after its tick is counted as late too.
pub const INPUTS: &str = "meridian_inputs_total";
/// How early inputs came before their use, in seconds.
pub const INPUT_SLACK_SECONDS: &str = "meridian_input_slack_seconds";
/// Where the time of a tick goes, in seconds, by `zone` and `phase`: receive, simulate, snapshot, hand_over, tell.
pub const ZONE_PHASE_SECONDS: &str = "meridian_zone_phase_seconds";
/// World events, by `event`.
pub const WORLD_EVENTS: &str = "meridian_world_events_total";

/// What a zone counts in each tick, looked up once.
pub(crate) struct ZoneMetrics {
    pub(crate) entities: Gauge,
    pub(crate) players: Gauge,
    pub(crate) unplayed: Gauge,
    pub(crate) ghosts: Gauge,
    pub(crate) departed: Counter,
    pub(crate) arrived: Counter,
    pub(crate) resumed: Counter,
    pub(crate) handoff_seconds: Histogram,
    pub(crate) claimed_after_tick: Gauge,
    pub(crate) receive_seconds: Histogram,
    pub(crate) simulate_seconds: Histogram,
    pub(crate) snapshot_seconds: Histogram,
    pub(crate) hand_over_seconds: Histogram,
    pub(crate) tell_seconds: Histogram,
}

/// Where the time of a tick goes, part by part.
pub(crate) struct Phases {
    since: Instant,
}

impl Phases {
    /// A tick begins.
    pub(crate) fn begin() -> Self {
        Self { since: Instant::now() }
    }

    /// A part is over, and the next one begins.
    pub(crate) fn ended(&mut self, phase: &Histogram) {
        let now = Instant::now();
        phase.record(now.saturating_duration_since(self.since).as_secs_f64());
        self.since = now;
    }
}

impl ZoneMetrics {
    /// The zone is another instance's: what it has is that one's to tell.
    pub(crate) fn clear(&self) {
        for gauge in [&self.entities, &self.players, &self.unplayed, &self.ghosts] {
            gauge.set(0.0);
        }
    }

    pub(crate) fn new(world: &WorldDefinition, zone: ZoneId) -> Self {
        let label = world.zone_name(zone).to_owned();
        let handoffs = |direction| metrics::counter!(HANDOFFS, "zone" => label.clone(), "direction" => direction);
        let phase = |phase| metrics::histogram!(ZONE_PHASE_SECONDS, "zone" => label.clone(), "phase" => phase);
        let gauge = |name| metrics::gauge!(name, "zone" => label.clone());
        gauge(ZONE_TICK_BUDGET_SECONDS).set(world.tick_rate_hz.tick_duration().as_secs_f64());
        Self {
            entities: gauge(ZONE_ENTITIES),
            players: gauge(ZONE_PLAYERS),
            unplayed: gauge(ZONE_PLAYERS_UNPLAYED),
            ghosts: gauge(ZONE_GHOSTS),
            departed: handoffs("departed"),
            arrived: handoffs("arrived"),
            resumed: handoffs("resumed"),
            claimed_after_tick: gauge(ZONE_CLAIMED_AFTER_TICK),
            receive_seconds: phase("receive"),
            simulate_seconds: phase("simulate"),
            snapshot_seconds: phase("snapshot"),
            hand_over_seconds: phase("hand_over"),
            tell_seconds: phase("tell"),
            handoff_seconds: metrics::histogram!(HANDOFF_SECONDS, "zone" => label.clone()),
        }
    }
}
