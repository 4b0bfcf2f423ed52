//! Orders to the desks of this process.

use std::time::{Duration, Instant};

use meridian_fabric::desk::{Answer, Chain, Placed, Request};
use meridian_ids::ZoneId;
use meridian_rpc::v1::{MoveTiming, Position, Vector3};
use meridian_rpc::{ErrorWord, refusal};
use tokio::sync::oneshot;

use super::{Errand, Outcome, Step, Target, Wish};
use crate::context::LocalZone;

/// An order that was handed in: its answer is on the way.
pub(crate) struct InDesk {
    zone: ZoneId,
    route: Duration,
    handed_in: Instant,
    answer: oneshot::Receiver<Answer>,
}

/// Hands in a wish, behind those of its chain if it is of any; nothing if the zone does not take it now.
pub(crate) fn hand_in(local: &LocalZone, wish: Wish, errand: &Errand, chain: Option<&Chain>) -> Option<InDesk> {
    let request = match wish {
        Wish::Join => Request::Join {
            name: errand.caller.name.clone(),
        },
        Wish::Walk(walk) => Request::Walk {
            direction: walk.direction,
            jump: walk.jump,
            ticks: walk.ticks,
            traceparent: errand.caller.traceparent.clone(),
        },
        Wish::Stay => Request::Stay,
        Wish::Leave => Request::Leave,
    };
    let (tell, answer) = oneshot::channel();
    let handed_in = Instant::now();
    // Who does not wait any more need not be told.
    let told = Box::new(move |answer| drop(tell.send(answer)));
    local.desk.hand_in(errand.caller.player, request, chain, told).ok()?;
    Some(InDesk {
        zone: local.zone,
        route: handed_in.saturating_duration_since(errand.caller.arrived),
        handed_in,
        answer,
    })
}

/// Hands in a wish, and waits for what the zone says.
pub(crate) async fn ask(local: &LocalZone, wish: Wish, errand: &Errand) -> Step {
    match hand_in(local, wish, errand, None) {
        Some(mut order) => order.answered().await,
        None => Step::Away,
    }
}

impl InDesk {
    /// What the zone says. May be given up and asked again.
    pub(crate) async fn answered(&mut self) -> Step {
        match (&mut self.answer).await {
            Ok(answer) => self.step(answer),
            // Its end was dropped with the zone.
            Err(_) => Step::Away,
        }
    }

    fn step(&self, answer: Answer) -> Step {
        match answer {
            Answer::Done(placed) => Step::Done(self.outcome(&placed)),
            Answer::Left => Step::Done(Outcome {
                position: None,
                timing: MoveTiming::default(),
            }),
            Answer::Elsewhere(Some(zone)) if zone != self.zone => Step::At(Target::Zone(zone)),
            Answer::Elsewhere(_) => Step::NotHere,
            Answer::Refused(why) => Step::Refused(refusal(ErrorWord::ZoneAway, why)),
            Answer::Full => Step::Refused(refusal(
                ErrorWord::ZoneFull,
                "no more players fit into the zone: try again later",
            )),
            Answer::Away => Step::Away,
        }
    }

    fn outcome(&self, placed: &Placed) -> Outcome {
        let [x, y, z] = placed.position;
        Outcome {
            position: Some(Position {
                entity_id: placed.entity.0,
                zone_id: placed.zone.0.into(),
                epoch: placed.epoch.0,
                tick: placed.tick.0,
                position: Some(Vector3 { x, y, z }),
            }),
            timing: MoveTiming {
                route_us: micros(self.route),
                tick_wait_us: micros(placed.began.saturating_duration_since(self.handed_in)),
                simulate_us: micros(placed.finished.saturating_duration_since(placed.began)),
            },
        }
    }
}

/// Whole microseconds, an hour at most.
pub(crate) fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}
