//! A zone on the clock of its own thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use meridian_ids::{LeaseEpoch, TickClock};
use rustix::time::{ClockId, clock_gettime};

use crate::metric_definitions::{ZONE_TICK_OVERRUNS, ZONE_TICK_SECONDS, ZONE_TICKS, ZONE_TICKS_SKIPPED};
use crate::{Stepped, Zone};

/// Ticks simulated in a row to catch up after a stall; what is missing beyond them is skipped, counted and logged.
pub const CATCH_UP_TICKS_MAX: u64 = 8;
/// The longest that the thread sleeps at once, so that a stop is seen.
const SLEEP_MAX: Duration = Duration::from_millis(50);

/// How long a zone that was stopped waits until its last writes are written.
const FINISH_TIME_MAX: Duration = Duration::from_millis(500);

/// Why a zone runs no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// It was asked to stop.
    Stopped,
    /// Another instance has the zone.
    Fenced,
}

/// What became of a tick, for whoever watches a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// It was simulated, under this lease, in this time.
    Ticked {
        /// Which instance of the zone simulated it.
        lease: LeaseEpoch,
        /// How long that took.
        took: Duration,
    },
    /// The zone is not this instance's, or may not be any more: everybody waits.
    Paused,
}

/// Steps `zone` when its ticks are due, until `stopped` says so. `observe` is told of each.
pub fn run(
    mut zone: Zone,
    clock: TickClock,
    label: &str,
    stopped: impl Fn() -> bool,
    mut observe: impl FnMut(&mut Zone, Observed),
) -> RunEnd {
    let label = label.to_owned();
    let tick_seconds = metrics::histogram!(ZONE_TICK_SECONDS, "zone" => label.clone());
    let ticks = metrics::counter!(ZONE_TICKS, "zone" => label.clone());
    let overruns = metrics::counter!(ZONE_TICK_OVERRUNS, "zone" => label.clone());
    let skipped = metrics::counter!(ZONE_TICKS_SKIPPED, "zone" => label.clone());
    // Zero is a figure too: dashboards and bars read them before the first overrun.
    overruns.increment(0);
    skipped.increment(0);
    let is_woken = Arc::new(AtomicBool::new(false));
    let (thread, waking) = (std::thread::current(), Arc::clone(&is_woken));
    zone.wake_with(Arc::new(move || {
        waking.store(true, Ordering::Release);
        thread.unpark();
    }));
    while !stopped() {
        let next = zone.next_tick();
        let now = Instant::now();
        let due = clock.due(next);
        if now < due {
            // What has changed hands is taken in at once: it is simulated in the next tick then, and nobody sees a seam.
            if is_woken.swap(false, Ordering::AcqRel) {
                zone.set_slept(slept());
                zone.receive(now);
            } else {
                std::thread::park_timeout((due - now).min(SLEEP_MAX));
            }
            continue;
        }
        let behind = u64::try_from(clock.tick_at(now).since(next)).unwrap_or(0);
        if behind > CATCH_UP_TICKS_MAX {
            let resume = clock.tick_at(now);
            tracing::warn!(zone = label, ticks = behind, from = %next, to = %resume, "ticks skipped after a stall");
            skipped.increment(behind);
            zone.skip_to(resume);
            continue;
        }
        zone.set_slept(slept());
        match zone.step(now, Instant::now) {
            Stepped::Simulated => ticks.increment(1),
            Stepped::Paused => {
                skipped.increment(1);
                observe(&mut zone, Observed::Paused);
                continue;
            }
            Stepped::Fenced => return RunEnd::Fenced,
        }
        let ended = Instant::now();
        tick_seconds.record((ended - now).as_secs_f64());
        if ended > clock.due(next.next()) {
            overruns.increment(1);
        }
        let took = ended - now;
        if let Some(lease) = zone.lease() {
            observe(&mut zone, Observed::Ticked { lease, took });
        }
    }
    finish(&mut zone);
    RunEnd::Stopped
}

/// Writes down what has changed since the last checkpoint: who is stopped in order loses nothing.
fn finish(zone: &mut Zone) {
    let gives_up_at = Instant::now() + FINISH_TIME_MAX;
    zone.write_all_down();
    while zone.is_asking() && Instant::now() < gives_up_at {
        std::thread::park_timeout(Duration::from_millis(1));
        zone.set_slept(slept());
        zone.receive(Instant::now());
    }
}

/// How long the machine has slept since it was started: a lease goes on meanwhile, and [`Instant`] does not.
fn slept() -> Duration {
    let since_boot = |clock| {
        let time = clock_gettime(clock);
        let (s, ns) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
        Duration::new(s.unwrap_or(0), ns.unwrap_or(0))
    };
    // In this order the difference is never too small.
    let awake = since_boot(ClockId::Monotonic);
    since_boot(ClockId::Boottime).saturating_sub(awake)
}
