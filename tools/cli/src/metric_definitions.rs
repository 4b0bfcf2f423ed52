//! The name of what is measured, and pushed where the environment asks for that.

use metrics::{Unit, describe_histogram};

/// From a call to its answer, in seconds, by `method` and `code`: the name of the gRPC status code. Of a watch until its first answer; of a stream of
/// moves each move.
pub const RPC_CLIENT_CALL_SECONDS: &str = "meridian_rpc_client_call_seconds";

/// Tells what it means.
pub fn describe() {
    describe_histogram!(
        RPC_CLIENT_CALL_SECONDS,
        Unit::Seconds,
        "from a call to its answer, by method and status code"
    );
}
