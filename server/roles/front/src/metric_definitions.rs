//! The names of this crate's metrics.

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge};

/// Calls that have ended, by `method` and `code`: the name of the gRPC status code. A stream is one call. Calls of health and reflection, and of what is
/// no method, are `other`; their streams count when they begin.
pub(crate) const RPC_CALLS: &str = "meridian_rpc_calls_total";

/// From the arrival of a call to its answer, by `method`: `rpc.server.call.duration` of OpenTelemetry's conventions. Streams are not timed, each move of a
/// `Play` stream is, as `Play`.
pub(crate) const RPC_CALL_SECONDS: &str = "meridian_rpc_call_seconds";

/// Streams that are open, by `kind`: `play` or `watch`.
pub(crate) const RPC_STREAMS: &str = "meridian_rpc_streams";

/// Watchers of positions.
pub(crate) const RPC_WATCHERS: &str = "meridian_rpc_watchers";

/// Answers that watchers missed, for they did not keep up.
pub(crate) const RPC_POSITIONS_MISSED: &str = "meridian_rpc_positions_missed_total";

/// Players that this server speaks for.
pub(crate) const RPC_PLAYERS: &str = "meridian_rpc_players";

/// Calls that were passed to other servers, by `outcome`: `done`, `refused` or `unreachable`.
pub(crate) const RPC_FORWARDED: &str = "meridian_rpc_forwarded_total";

/// Connections that were closed at once, for there were too many.
pub(crate) const RPC_CONNECTIONS_REFUSED: &str = "meridian_rpc_connections_refused_total";

/// Describes the metrics and shows the ones without labels at zero.
pub(crate) fn describe() {
    describe_counter!(RPC_CALLS, "calls that have ended, by method and status code");
    describe_histogram!(RPC_CALL_SECONDS, "from the arrival of a call to its answer, by method");
    describe_gauge!(RPC_STREAMS, "streams that are open, by kind");
    describe_gauge!(RPC_WATCHERS, "watchers of positions");
    describe_counter!(
        RPC_POSITIONS_MISSED,
        "answers that watchers missed, for they did not keep up"
    );
    describe_gauge!(RPC_PLAYERS, "players that this server speaks for");
    describe_counter!(RPC_FORWARDED, "calls that were passed to other servers, by outcome");
    describe_counter!(
        RPC_CONNECTIONS_REFUSED,
        "connections that were closed at once, for there were too many"
    );
    counter!(RPC_POSITIONS_MISSED).absolute(0);
    counter!(RPC_CONNECTIONS_REFUSED).absolute(0);
    gauge!(RPC_WATCHERS).set(0);
    gauge!(RPC_PLAYERS).set(0);
}
