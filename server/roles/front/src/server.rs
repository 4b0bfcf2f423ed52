//! The server: what it serves, how it begins and how it ends.

use std::net::TcpListener;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use meridian_rpc::FILE_DESCRIPTOR_SET;
use meridian_rpc::v1::game_server_server::GameServerServer;
use meridian_runtime::Shutdown;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic_health::server::health_reporter;

use crate::care::care;
use crate::connection::connections;
use crate::gate::Gate;
use crate::limits::{
    ANSWER_BYTES_MAX, METADATA_BYTES_MAX, QUESTION_BYTES_MAX, REQUEST_BYTES_MAX, STANDARD_STREAMS_MAX,
    STREAMS_PER_CONNECTION, Seats,
};
use crate::service::{Front, Service};
use crate::standard::Standard;
use crate::{FrontContext, health, metric_definitions};

/// How often a connection is asked whether its peer is still there, and how long that may take to say so.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(10);
const KEEP_ALIVE_MAX: Duration = Duration::from_secs(5);
/// How long calls that are under way at the end may take: well within what the process has for ending.
const DRAIN_MAX: Duration = Duration::from_secs(2);
/// How long connections may take that were cut.
const CUT_MAX: Duration = Duration::from_millis(500);

/// Serves the API at a listener that is bound, until `stop`: then health says so first, streams end, and what is under way has two seconds.
///
/// # Errors
///
/// If the listener cannot be used.
pub async fn serve(listener: TcpListener, context: FrontContext, stop: Shutdown) -> anyhow::Result<()> {
    metric_definitions::describe();
    listener.set_nonblocking(true).context("the listener of gRPC")?;
    let listener = tokio::net::TcpListener::from_std(listener).context("the listener of gRPC")?;
    tracing::info!(address = ?listener.local_addr().ok(), "gRPC is served");

    let (streams_end, drain, cut) = (
        CancellationToken::new(),
        CancellationToken::new(),
        CancellationToken::new(),
    );
    let seats = Seats::new(context.config.connections_max, "connections");
    let front = Arc::new(Front::new(&context, streams_end.clone()));
    let (reporter, health) = health_reporter();
    // Who asks before any zone was asked is told that none serves, not that there is no such service.
    health::set(&reporter, false).await;
    let game_server = GameServerServer::new(Service(Arc::clone(&front))).max_decoding_message_size(REQUEST_BYTES_MAX);
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .context("the descriptors of the API")?
        .max_decoding_message_size(QUESTION_BYTES_MAX)
        .max_encoding_message_size(ANSWER_BYTES_MAX);
    let health = health
        .max_decoding_message_size(QUESTION_BYTES_MAX)
        .max_encoding_message_size(ANSWER_BYTES_MAX);
    let standard_seats = Seats::new(STANDARD_STREAMS_MAX, "streams of health and reflection");
    let services = server()
        .add_service(Gate(game_server))
        .add_service(Gate(Standard::new(health, &standard_seats)))
        .add_service(Gate(Standard::new(reflection, &standard_seats)));
    let incoming = connections(listener, seats, cut.clone());
    let drained = drain.clone().cancelled_owned();
    let mut serving = pin!(services.serve_with_incoming_shutdown(incoming, drained));
    let mut caring = pin!(care(front));
    tokio::select! {
        served = &mut serving => return served.context("gRPC is not served any more"),
        () = &mut caring => {}
        () = health::tell(reporter.clone(), context.local) => {}
        () = stop.cancelled() => {}
    }

    health::set(&reporter, false).await;
    streams_end.cancel();
    drain.cancel();
    if let Ok(served) = timeout(DRAIN_MAX, &mut serving).await {
        return served.context("gRPC was not served to its end");
    }
    cut.cancel();
    // What does not end by now ends with the process.
    let _ = timeout(CUT_MAX, &mut serving).await;
    Ok(())
}

fn server() -> Server {
    Server::builder()
        .http2_max_header_list_size(METADATA_BYTES_MAX)
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .http2_keepalive_interval(Some(KEEP_ALIVE_EVERY))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_MAX))
}
