//! Names of the metrics this crate records.

/// How long a tick took, in seconds, by `zone`.
pub const ZONE_TICK_SECONDS: &str = "meridian_zone_tick_seconds";
/// Ticks that ended after the next one was due, by `zone`.
pub const ZONE_TICK_OVERRUNS: &str = "meridian_zone_tick_overruns_total";
/// Ticks that were never simulated because the zone was too far behind, by `zone`.
pub const ZONE_TICKS_SKIPPED: &str = "meridian_zone_ticks_skipped_total";
/// Ticks simulated, by `zone`.
pub const ZONE_TICKS: &str = "meridian_zone_ticks_total";
/// Entities of the zone.
pub const ZONE_ENTITIES: &str = "meridian_zone_entities";
/// Players of the zone.
pub const ZONE_PLAYERS: &str = "meridian_zone_players";
/// Inputs by `outcome` (applied, late, missing, early) and `phase` (settling in a player's first second, then steady).
/// A missing input that arrives after its tick is counted as late too.
pub const INPUTS: &str = "meridian_inputs_total";
/// How early inputs came before their use, in seconds.
pub const INPUT_SLACK_SECONDS: &str = "meridian_input_slack_seconds";
/// World events, by `event`.
pub const WORLD_EVENTS: &str = "meridian_world_events_total";
