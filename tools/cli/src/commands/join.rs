//! `join`: a session from auth, and its player into the world.

use std::fmt;

use meridian_ids::PlayerId;
use meridian_rpc::v1::JoinRequest;
use serde::Serialize;

use super::{Context, Ended};
use crate::client::{CallKind, Latency, Place, check_join};
use crate::error::printable;
use crate::session::Origin;
use crate::trace::Action;

#[derive(Serialize)]
struct JoinResult {
    command: &'static str,
    player: String,
    name: String,
    #[serde(flatten)]
    place: Place,
    tick_rate_hz: u32,
    walk_speed_mps: f32,
    session: Origin,
    #[serde(flatten)]
    latency: Latency,
}

impl fmt::Display for JoinResult {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = printable(&self.name);
        writeln!(formatter, "{name} ({}) is in the world: {}", self.player, self.place)?;
        let (rate, speed) = (self.tick_rate_hz, self.walk_speed_mps);
        let session = match self.session {
            Origin::New => "new",
            Origin::Resumed => "resumed",
            Origin::Replaced => "replaced",
        };
        writeln!(
            formatter,
            "  {rate} ticks in a second, {speed} m/s on foot; session {session}"
        )?;
        write!(formatter, "  {}  trace {}", self.latency, self.latency.trace_id)
    }
}

/// Joins as the player that was named.
pub async fn run(context: &mut Context) -> Result<(), Ended> {
    let trace = context.begin(Action::JOIN);
    let name = context.name.clone();
    let (mut session, origin) = context.sessions.begin(name.as_deref()).await?;
    // Before the call: if that fails, the player is still the same the next time.
    context.sessions.write(&session)?;
    context.sessions.set_last(&session)?;
    let mut client = context.client().await?;
    let answer = client
        .call(
            JoinRequest {},
            Some(&session.resume),
            trace,
            CallKind::Single,
            async |mut server, request| server.join(request).await,
        )
        .await?;
    let (place, joined) = check_join(&answer.value).map_err(|reason| client.malformed(reason))?;
    context.keep(client);
    context.set_tick_rate_hz(joined.tick_rate_hz);
    session.joined = Some(joined);
    context.sessions.write(&session)?;
    context.attribute_place(&place);
    let result = JoinResult {
        command: "join",
        player: PlayerId(answer.value.player_id).to_string(),
        name: answer.value.name,
        place,
        tick_rate_hz: joined.tick_rate_hz,
        walk_speed_mps: joined.walk_speed_mps,
        session: origin,
        latency: context.answered(answer.latency, trace),
    };
    Ok(context.output.result(&result)?)
}
