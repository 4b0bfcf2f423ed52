//! Names of the metrics this crate records.

/// How long a tick took, from the first snapshot applied to the last packet sent, in seconds.
pub const GATEWAY_TICK_SECONDS: &str = "meridian_gateway_tick_seconds";
/// How long a receive pass between ticks took, in seconds.
pub const GATEWAY_RECEIVE_SECONDS: &str = "meridian_gateway_receive_seconds";
/// Ticks replicated.
pub const GATEWAY_TICKS: &str = "meridian_gateway_ticks_total";
/// Ticks replicated without all zones' snapshots.
pub const GATEWAY_TICKS_INCOMPLETE: &str = "meridian_gateway_ticks_incomplete_total";
/// Clients connected.
pub const GATEWAY_CLIENTS: &str = "meridian_gateway_clients";
/// Entities mirrored.
pub const GATEWAY_ENTITIES: &str = "meridian_gateway_entities";
/// Inputs that were not forwarded, by `reason`: of a client that sends too many messages (`flood`), for a tick that is far from now
/// (`implausible_tick`), of whom the client does not control (`not_controlled`), or more than a message may hold (`too_many_targets`, `too_many_ticks`,
/// `too_many_actions`).
pub const INPUTS_REFUSED: &str = "meridian_gateway_inputs_refused_total";
/// Connections refused after authentication, by `reason`.
pub const SESSIONS_REFUSED: &str = "meridian_gateway_sessions_refused_total";
/// Snapshot entries that were ignored, by `reason`.
pub const MIRROR_IGNORED: &str = "meridian_gateway_mirror_ignored_total";
/// Mirrored entities that changed their zone.
pub const GATEWAY_SWITCHES: &str = "meridian_gateway_switches_total";
/// Zones that are not connected or have been silent for too long: what they have stands still for clients.
pub const GATEWAY_ZONES_AWAY: &str = "meridian_gateway_zones_away";
