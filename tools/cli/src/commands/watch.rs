//! `watch`: where entities are, again and again; in the view of a terminal, or as lines.

use std::fmt;
use std::io::{self, IsTerminal};
use std::time::Duration;

use meridian_rpc::WATCHED_ENTITIES_MAX;
use meridian_rpc::v1::watch_positions_request::Filter;
use meridian_rpc::v1::{Area, Entities, ListZonesResponse, TracedMove, WatchPositionsRequest, WatchPositionsResponse};
use meridian_telemetry::TraceContext;
use serde::Serialize;
use tokio::time::Instant;
use tonic::Streaming;

use super::{Context, Ended, zones};
use crate::cli::WatchArgs;
use crate::client::{CallKind, Client, Place, check_place};
use crate::error::CliError;
use crate::signals::Signals;
use crate::trace::{Action, trace_id};
use crate::watch::{View, WatchState};

#[derive(Serialize)]
struct WatchResult {
    command: &'static str,
    #[serde(flatten)]
    place: Place,
    /// From when the tick was due until the server sent this.
    age_ms: f64,
    /// The trace of the entity's move that this shows for the first time, if there is one that is traced.
    trace_id: Option<String>,
}

impl fmt::Display for WatchResult {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}  {:.2} ms old", self.place, self.age_ms)?;
        match &self.trace_id {
            Some(trace) => write!(formatter, "  trace {trace}"),
            None => Ok(()),
        }
    }
}

/// When a watch ends by itself, and when it began to see.
pub struct WatchEnd {
    deadline: Option<Instant>,
    positions_left: Option<u64>,
    signals: Signals,
    asked: Instant,
    first_answer: Option<Duration>,
}

impl WatchEnd {
    fn new(arguments: &WatchArgs, signals: &Signals, asked: Instant) -> Self {
        Self {
            deadline: arguments.seconds.map(|duration| Instant::now() + duration),
            positions_left: arguments.count,
            signals: signals.clone(),
            asked,
            first_answer: None,
        }
    }

    /// Ends when the time is over, or with Ctrl-C and what else asks the process to end.
    pub async fn reached(&self) {
        let over = async {
            match self.deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = over => {}
            _ = self.signals.received() => {}
        }
    }

    /// An answer has come: whether it was the first.
    pub fn answered(&mut self) -> bool {
        let is_first = self.first_answer.is_none();
        if is_first {
            self.first_answer = Some(self.asked.elapsed());
        }
        is_first
    }

    /// One position was shown: whether that was the last.
    pub fn count(&mut self) -> bool {
        match &mut self.positions_left {
            Some(left) => {
                *left = left.saturating_sub(1);
                *left == 0
            }
            None => false,
        }
    }
}

/// A watch whose stream is open.
struct Opened {
    client: Client,
    asked: Instant,
    answers: Streaming<WatchPositionsResponse>,
    /// The world and the player's entity, for the view.
    seen_in: Option<(ListZonesResponse, Option<u64>)>,
}

/// Watches as the player that acts, until a signal or what the arguments say.
pub async fn run(context: &mut Context, arguments: &WatchArgs, signals: &Signals) -> Result<(), Ended> {
    let request = request(arguments)?;
    let trace = context.begin(Action::WATCH);
    let opened = tokio::select! {
        opened = open(context, arguments, request, trace) => opened?,
        _ = signals.received() => return Ok(()),
    };
    let Opened { client, answers, .. } = opened;
    let mut end = WatchEnd::new(arguments, signals, opened.asked);
    let Some((world, own)) = opened.seen_in else {
        return Ok(print(context, &client, answers, &mut end, trace).await?);
    };
    let state = WatchState::new(world, own).map_err(|reason| client.malformed(reason))?;
    let ended = View::open(state)?.run(&client, answers, &mut end).await;
    // The view had the terminal for itself.
    tell_first_answer(context, &end, trace)?;
    Ok(ended?)
}

async fn open(
    context: &mut Context,
    arguments: &WatchArgs,
    request: WatchPositionsRequest,
    trace: TraceContext,
) -> Result<Opened, CliError> {
    let session = context.session().await?;
    let mut client = context.client().await?;
    let with_view =
        !arguments.plain && !context.output.is_json() && io::stdout().is_terminal() && io::stdin().is_terminal();
    let seen_in = match with_view {
        true => {
            let world = zones::list(&mut client, trace).await?.value;
            Some((world, session.joined.map(|joined| joined.entity_id)))
        }
        false => None,
    };
    let asked = Instant::now();
    let answers = client
        .call(
            request,
            Some(&session.resume),
            trace,
            CallKind::Stream,
            async |mut server, request| server.watch_positions(request).await,
        )
        .await?
        .value;
    context.keep(client.clone());
    Ok(Opened {
        client,
        asked,
        answers,
        seen_in,
    })
}

/// Tells how long the first answer took, and the trace of the watch.
fn tell_first_answer(context: &mut Context, end: &WatchEnd, trace: TraceContext) -> Result<(), CliError> {
    let Some(first_answer) = end.first_answer else {
        return Ok(());
    };
    let latency = context.answered(first_answer, trace);
    let message = format!("first answer of the watch after {latency}  trace {}", latency.trace_id);
    context.output.notice_with("watching", &message, &latency)
}

fn request(arguments: &WatchArgs) -> Result<WatchPositionsRequest, CliError> {
    if arguments.entity.len() > WATCHED_ENTITIES_MAX {
        return Err(CliError::Usage(format!(
            "at most {WATCHED_ENTITIES_MAX} entities can be watched by name; --area watches a place"
        )));
    }
    let area = arguments.area.map(|area| {
        Filter::Area(Area {
            min_x: area.min_x,
            min_z: area.min_z,
            max_x: area.max_x,
            max_z: area.max_z,
        })
    });
    let entities = (!arguments.entity.is_empty()).then(|| {
        Filter::Entities(Entities {
            entity_ids: arguments.entity.clone(),
        })
    });
    Ok(WatchPositionsRequest {
        filter: area.or(entities),
    })
}

async fn print(
    context: &mut Context,
    client: &Client,
    mut answers: Streaming<WatchPositionsResponse>,
    end: &mut WatchEnd,
    trace: TraceContext,
) -> Result<(), CliError> {
    let output = context.output;
    loop {
        let answer = tokio::select! {
            answer = answers.message() => answer.map_err(|status| client.in_plain_words(status))?,
            () = end.reached() => return Ok(()),
        };
        let Some(answer) = answer else {
            return Err(CliError::StreamEnded {
                server: client.server().to_owned(),
            });
        };
        if end.answered() {
            tell_first_answer(context, end, trace)?;
        }
        if answer.missed > 0 {
            output.notice(
                "missed",
                &format!("{} answers were not sent, for this did not keep up", answer.missed),
            )?;
        }
        for position in answer.positions {
            let result = WatchResult {
                command: "watch",
                trace_id: trace_of(position.entity_id, &answer.traced),
                place: check_place(Some(position)).map_err(|reason| client.malformed(reason))?,
                age_ms: Duration::from_micros(answer.age_us).as_secs_f64() * 1_000.0,
            };
            output.result(&result)?;
            if end.count() {
                return Ok(());
            }
        }
    }
}

/// The trace of the move of this entity that an answer shows, of all that it names. One that is no `traceparent` is none.
fn trace_of(entity: u64, traced: &[TracedMove]) -> Option<String> {
    let mut own = traced.iter().filter(|moved| moved.entity_id == entity);
    own.find_map(|moved| TraceContext::parse(&moved.traceparent))
        .map(|trace| trace_id(&trace))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_told_of_who_moved_and_of_nobody_else() {
        let moved = |entity_id, traceparent: &str| TracedMove {
            entity_id,
            traceparent: traceparent.to_owned(),
        };
        let traced = [
            moved(7, "nonsense"),
            moved(8, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            moved(9, "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ];
        assert_eq!(
            trace_of(8, &traced).as_deref(),
            Some("0af7651916cd43dd8448eb211c80319c")
        );
        assert_eq!(
            trace_of(9, &traced).as_deref(),
            Some("1af7651916cd43dd8448eb211c80319c")
        );
        assert_eq!((trace_of(7, &traced), trace_of(1, &traced)), (None, None));
    }

    #[test]
    fn everything_is_watched_unless_something_is_named() {
        assert_eq!(request(&WatchArgs::default()).unwrap().filter, None);
        let some = request(&WatchArgs {
            entity: vec![1, 2],
            ..WatchArgs::default()
        })
        .unwrap();
        assert_eq!(some.filter, Some(Filter::Entities(Entities { entity_ids: vec![1, 2] })));
        let many = WatchArgs {
            entity: vec![1; WATCHED_ENTITIES_MAX + 1],
            ..WatchArgs::default()
        };
        assert!(matches!(request(&many), Err(CliError::Usage(_))));
    }
}
