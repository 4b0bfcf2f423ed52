//! Speaks for players between their calls: each second their zones hear that they are still there, until they were quiet for too long.

use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian_fabric::desk::{Answer, Request};
use meridian_ids::{PlayerId, ZoneId};
use metrics::gauge;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::MissedTickBehavior;

use crate::metric_definitions::RPC_PLAYERS;
use crate::players::{Active, PLAYERS_MAX};
use crate::routing::{Errand, Wish};
use crate::service::Front;

/// How often zones hear of the players that are spoken for: several times within what they take for silence.
const SPOKEN_EVERY: Duration = Duration::from_secs(1);
/// Other servers that are told of players at once; the rest hears of theirs a second later.
const TOUCHES_MAX: usize = 64;
/// How long another server has for hearing of a player.
const TOUCH_MAX: Duration = Duration::from_secs(2);

/// A player that a zone said to be in another.
struct Moved {
    player: PlayerId,
    from: ZoneId,
    to: ZoneId,
}

/// Speaks for players until the front stops.
pub(crate) async fn care(front: Arc<Front>) {
    // As many as are asked about in a round; what does not fit is told in the next one.
    let (tell, mut told) = mpsc::channel(PLAYERS_MAX);
    let touches = Arc::new(Semaphore::new(TOUCHES_MAX));
    let mut seconds = tokio::time::interval(SPOKEN_EVERY);
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = front.stop.cancelled() => return,
            Some(Moved { player, from, to }) = told.recv() => front.players.moved(player, from, to),
            _ = seconds.tick() => round(&front, &tell, &touches),
        }
    }
}

fn round(front: &Arc<Front>, tell: &mpsc::Sender<Moved>, touches: &Arc<Semaphore>) {
    let round = front.players.round(Instant::now());
    gauge!(RPC_PLAYERS).set(front.players.count() as f64);
    for active in round.active {
        let is_here = stay(front, &active, tell);
        if !is_here && active.is_touch_due {
            touch(front, active, touches);
        }
    }
    for (player, zone) in round.idle {
        tracing::debug!(%player, %zone, "quiet for too long");
        if let Some(local) = front.router.here(zone) {
            // A zone that does not take it takes the player out when its grace is over; one that went elsewhere is looked after there.
            let _ = local.desk.hand_in(player, Request::Leave, None, Box::new(drop));
        }
    }
}

/// Tells a zone of this process that a player is still there, if it is such a zone that has it.
fn stay(front: &Front, active: &Active, tell: &mpsc::Sender<Moved>) -> bool {
    let Some(local) = front.router.here(active.zone) else {
        return false;
    };
    let (tell, player, from) = (tell.clone(), active.player, active.zone);
    let told = move |answer| {
        if let Answer::Elsewhere(Some(to)) = answer {
            // On the zone's thread: what does not fit is asked again in a second.
            let _ = tell.try_send(Moved { player, from, to });
        }
    };
    // A desk that is full hears of the player in a second, or takes it for gone in thirty.
    let _ = local.desk.hand_in(player, Request::Stay, None, Box::new(told));
    true
}

/// Tells another server that a player of one of its zones is still there.
fn touch(front: &Arc<Front>, active: Active, touches: &Arc<Semaphore>) {
    let Ok(permit) = Arc::clone(touches).try_acquire_owned() else {
        return;
    };
    let deadline = Instant::now() + TOUCH_MAX;
    let Some(caller) = front.identity.for_player(active.player, &active.name, deadline) else {
        return;
    };
    let errand = Errand {
        caller,
        wish: Wish::Stay,
    };
    let front = Arc::clone(front);
    tokio::spawn(async move {
        tokio::select! {
            () = front.stop.cancelled() => {}
            () = front.router.touch(&errand, active.zone) => {}
        }
        drop(permit);
    });
}
