//! `leave`: the player out of the world. Its session stays.

use std::fmt;

use meridian_ids::PlayerId;
use meridian_rpc::v1::LeaveRequest;
use serde::Serialize;

use super::{Context, Ended};
use crate::client::{CallKind, Latency};
use crate::trace::Action;

#[derive(Serialize)]
struct LeaveResult {
    command: &'static str,
    player: String,
    name: String,
    #[serde(flatten)]
    latency: Latency,
}

impl fmt::Display for LeaveResult {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{} ({}) has left the world", self.name, self.player)?;
        write!(formatter, "  {}  trace {}", self.latency, self.latency.trace_id)
    }
}

/// Leaves as the player that acts.
pub async fn run(context: &mut Context) -> Result<(), Ended> {
    let trace = context.begin(Action::LEAVE);
    let session = context.session().await?;
    let mut client = context.client().await?;
    let answer = client
        .call(
            LeaveRequest {},
            Some(&session.resume),
            trace,
            CallKind::Single,
            async |mut server, request| server.leave(request).await,
        )
        .await?;
    context.keep(client);
    let result = LeaveResult {
        command: "leave",
        player: PlayerId(session.player_id).to_string(),
        name: session.name,
        latency: context.answered(answer.latency, trace),
    };
    Ok(context.output.result(&result)?)
}
