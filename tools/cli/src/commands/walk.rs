//! `move`: a walk of some metres as moves one after another, or one move exactly as told.
//!
//! A move replaces what the one before had left, so each is sent so that it reaches the zone just after the last tick of the one before: the
//! player does not stand still between them. What a move that came early has cut off is walked by the next; a walk is never shorter or longer.

mod progress;

use std::fmt;
use std::time::{Duration, Instant};

use meridian_rpc::v1::{MoveRequest, MoveResponse, MoveTiming};
use meridian_telemetry::TraceContext;
use serde::Serialize;

use super::{Context, Ended};
use crate::cli::MoveArgs;
use crate::client::{Answer, CallKind, Client, Latency, Place, check_place};
use crate::error::CliError;
use crate::output::rounded;
use crate::session::Joined;
use crate::trace::Action;

use progress::{Progress, TickClock};

/// A move's answer, with where its time went.
#[derive(Clone, Debug, Serialize)]
pub struct Moved {
    /// Where the entity was after the first tick.
    #[serde(flatten)]
    pub place: Place,
    /// The last tick of the move.
    pub last_tick: u64,
    route_ms: f64,
    tick_wait_ms: f64,
    simulate_ms: f64,
    /// What is left of the latency.
    network_ms: f64,
}

impl Moved {
    /// Reads an answer that took `latency`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(answer: MoveResponse, latency: Duration) -> Result<Self, String> {
        let place = check_place(answer.position)?;
        if answer.last_tick < place.tick {
            return Err("a move that ended before it began".to_owned());
        }
        let MoveTiming {
            route_us,
            tick_wait_us,
            simulate_us,
        } = answer.timing.unwrap_or_default();
        let milliseconds = |microseconds: u32| f64::from(microseconds) / 1_000.0;
        let server_ms = milliseconds(route_us) + milliseconds(tick_wait_us) + milliseconds(simulate_us);
        Ok(Self {
            place,
            last_tick: answer.last_tick,
            route_ms: milliseconds(route_us),
            tick_wait_ms: milliseconds(tick_wait_us),
            simulate_ms: milliseconds(simulate_us),
            network_ms: rounded((latency.as_secs_f64() * 1_000.0 - server_ms).max(0.0)),
        })
    }

    /// Its terms, for people.
    pub fn terms(&self) -> String {
        let (route, wait, simulate, network) = (self.route_ms, self.tick_wait_ms, self.simulate_ms, self.network_ms);
        format!("route {route:.2}, tick wait {wait:.2}, simulate {simulate:.2}, network {network:.2} ms")
    }
}

#[derive(Serialize)]
struct MoveResult<'a> {
    command: &'static str,
    /// Of the moves of this walk, from 1.
    part: u64,
    dx: f32,
    dz: f32,
    ticks: u32,
    jump: bool,
    /// Ticks of the walk that are still to be walked after this move.
    ticks_left: u64,
    #[serde(flatten)]
    moved: &'a Moved,
    #[serde(flatten)]
    latency: Latency,
    #[serde(skip)]
    title: &'a str,
}

impl fmt::Display for MoveResult<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let jump = if self.jump { " with a jump" } else { "" };
        write!(
            formatter,
            "{} for {} ticks{jump}: {}",
            self.title, self.ticks, self.moved.place
        )?;
        write!(formatter, ", until tick {}", self.moved.last_tick)?;
        match self.ticks_left {
            0 => writeln!(formatter)?,
            left => writeln!(formatter, " ({left} ticks to go)")?,
        }
        write!(
            formatter,
            "  {} ({})  trace {}",
            self.latency,
            self.moved.terms(),
            self.latency.trace_id
        )
    }
}

/// What is to be walked: a vector, and ticks in all.
#[derive(Clone, Debug, PartialEq)]
pub struct Walk {
    /// East, as a part of full speed.
    pub dx: f32,
    /// South.
    pub dz: f32,
    /// In all.
    pub ticks: u64,
    /// In the first of them.
    pub jump: bool,
    /// For people.
    pub title: String,
}

impl Walk {
    /// The walk that arguments tell, at the tick rate and speed that a join told.
    ///
    /// # Errors
    /// [`CliError::Usage`] of a vector that is too long; `not_joined` if metres are to be walked and no join told how fast.
    pub fn plan(arguments: &MoveArgs, joined: Option<Joined>) -> Result<Self, CliError> {
        let ((dx, dz), title) = match arguments.direction {
            Some(direction) => (direction.vector(), direction.name().to_owned()),
            None => {
                let (dx, dz) = (arguments.dx.unwrap_or(0.0), arguments.dz.unwrap_or(0.0));
                ((dx, dz), format!("along ({dx}, {dz})"))
            }
        };
        if dx.hypot(dz) > 1.0 {
            let message = format!("the vector ({dx}, {dz}) is longer than 1: nobody walks faster than full speed");
            return Err(CliError::Usage(message));
        }
        let ticks = match arguments.metres {
            Some(metres) => ticks_for(metres, joined.ok_or_else(not_joined)?),
            None => u64::from(arguments.ticks.unwrap_or(1)),
        };
        Ok(Self {
            dx,
            dz,
            ticks,
            jump: arguments.jump,
            title,
        })
    }

    /// The move of the next `ticks`; only the first of a walk jumps.
    pub fn request(&self, ticks: u32, is_first: bool) -> MoveRequest {
        MoveRequest {
            dx: self.dx,
            dz: self.dz,
            ticks,
            jump: self.jump && is_first,
        }
    }
}

/// Walks as the player that acts.
pub async fn run(context: &mut Context, arguments: &MoveArgs) -> Result<(), Ended> {
    let mut trace = context.begin(Action::MOVE);
    let mut session = context.session().await?;
    let walk = Walk::plan(arguments, session.joined)?;
    let mut progress = Progress::new(walk.ticks);
    loop {
        let ticks = progress.next_ticks();
        let is_first = progress.parts() == 0;
        let mut client = context.client().await?;
        let answer = step(&mut client, walk.request(ticks, is_first), &session.resume, trace).await?;
        let answered = Instant::now();
        let moved = Moved::read(answer.value, answer.latency).map_err(|reason| client.malformed(reason))?;
        context.keep(client);
        progress.walked(moved.place.tick, moved.last_tick, ticks);
        context.attribute_place(&moved.place);
        let latency = context.answered(answer.latency, trace);
        context.output.result(&MoveResult {
            command: "move",
            part: progress.parts(),
            dx: walk.dx,
            dz: walk.dz,
            ticks,
            jump: walk.jump && is_first,
            ticks_left: progress.left(),
            moved: &moved,
            latency,
            title: &walk.title,
        })?;
        let clock = TickClock::new(&moved, answered, context.tick_rate_hz());
        if progress.left() == 0 {
            if !arguments.no_wait {
                clock.wait_for_end_of(moved.last_tick).await;
            }
            return Ok(());
        }
        if progress.is_endless() {
            let client = context.client().await?;
            return Err(client.malformed("moves that never come to their end").into());
        }
        clock.wait_to_follow(moved.last_tick).await;
        // Each call has a trace of its own. A token may expire on a long walk: it is renewed before that.
        trace = context.begin(Action::MOVE);
        session = context.session_of(&session.name).await?;
    }
}

async fn step(
    client: &mut Client,
    message: MoveRequest,
    token: &str,
    trace: TraceContext,
) -> Result<Answer<MoveResponse>, CliError> {
    client
        .call(
            message,
            Some(token),
            trace,
            CallKind::Single,
            async |mut server, request| server.r#move(request).await,
        )
        .await
}

/// Ticks that a walk of some metres takes, at least one.
fn ticks_for(metres: f32, joined: Joined) -> u64 {
    let ticks = f64::from(metres) / f64::from(joined.walk_speed_mps) * f64::from(joined.tick_rate_hz);
    (ticks.round() as u64).max(1)
}

/// What a server says too of who has not joined.
fn not_joined() -> CliError {
    let message = "the player is not in the world, and how fast it walks is not known";
    let mut status = tonic::Status::failed_precondition(message);
    let word = tonic::metadata::MetadataValue::from_static("not_joined");
    status.metadata_mut().insert(meridian_rpc::ERROR, word);
    CliError::Refused(Box::new(status))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::PlayLine;

    const JOINED: Joined = Joined {
        entity_id: 1,
        tick_rate_hz: 60,
        walk_speed_mps: 5.0,
    };

    fn plan(line: &str, joined: Option<Joined>) -> Result<Walk, CliError> {
        let line = PlayLine::try_parse_from(line.split_whitespace()).unwrap();
        Walk::plan(&line.movement, joined)
    }

    #[test]
    fn metres_become_ticks_at_the_speed_that_join_told() {
        for (line, ticks) in [
            ("north 5", 60),
            ("south-west 12.5", 150),
            ("east 0.001", 1),
            ("east --ticks 7", 7),
        ] {
            assert_eq!(plan(line, Some(JOINED)).unwrap().ticks, ticks, "{line}");
        }
    }

    #[test]
    fn nobody_walks_faster_than_full_speed() {
        assert!(matches!(
            plan("--dx 1 --dz 1 --ticks 3", Some(JOINED)),
            Err(CliError::Usage(_))
        ));
        assert!(plan("--dx 0.6 --dz 0.8 --ticks 3", Some(JOINED)).is_ok());
    }

    #[test]
    fn metres_need_a_join_and_ticks_do_not() {
        let error = plan("north 1", None).unwrap_err();
        assert_eq!((error.word().as_str(), error.exit_code()), ("not_joined", 5));
        assert!(plan("north --ticks 3", None).is_ok());
    }

    #[test]
    fn what_the_server_does_not_explain_is_network() {
        let answer = MoveResponse {
            position: Some(meridian_rpc::v1::Position {
                tick: 10,
                position: Some(meridian_rpc::v1::Vector3::default()),
                ..Default::default()
            }),
            last_tick: 12,
            timing: Some(MoveTiming {
                route_us: 100,
                tick_wait_us: 9_000,
                simulate_us: 400,
            }),
        };
        let moved = Moved::read(answer, Duration::from_millis(10)).unwrap();
        assert_eq!(
            moved.terms(),
            "route 0.10, tick wait 9.00, simulate 0.40, network 0.50 ms"
        );
        assert!(Moved::read(MoveResponse { last_tick: 9, ..answer }, Duration::ZERO).is_err());
        assert!(
            Moved::read(
                MoveResponse {
                    position: None,
                    ..answer
                },
                Duration::ZERO
            )
            .is_err()
        );
    }
}
