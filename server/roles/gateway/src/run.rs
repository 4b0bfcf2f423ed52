//! A gateway on its own thread, woken by packets and snapshots.

use std::time::{Duration, Instant};

use meridian_ids::{Tick, TickClock};
use meridian_link::Wake;

use crate::Gateway;
use crate::metric_definitions::{
    GATEWAY_RECEIVE_SECONDS, GATEWAY_TICK_SECONDS, GATEWAY_TICKS, GATEWAY_TICKS_INCOMPLETE,
};

/// Share of a tick that the gateway waits for the zones that have not delivered yet.
const WAIT_FOR_ZONES: f64 = 0.5;
/// The longest that the thread waits at once, so that a stop is seen.
const WAIT_MAX: Duration = Duration::from_millis(50);
/// A receive pass looks at every link; passes are apart by as long as the last one took, and by this at least.
pub const RECEIVE_EVERY_MIN: Duration = Duration::from_micros(300);

/// Drives `gateway` until `stopped` says so. `wake` is what its packets and snapshots wake, and who stops it;
/// `after_tick` is told of each tick.
pub fn run(
    mut gateway: Gateway,
    clock: TickClock,
    wake: &Wake,
    stopped: impl Fn() -> bool,
    mut after_tick: impl FnMut(Tick),
) {
    let tick_seconds = metrics::histogram!(GATEWAY_TICK_SECONDS);
    let receive_seconds = metrics::histogram!(GATEWAY_RECEIVE_SECONDS);
    let ticks = metrics::counter!(GATEWAY_TICKS);
    let incomplete = metrics::counter!(GATEWAY_TICKS_INCOMPLETE);
    incomplete.increment(0);
    let patience = clock.rate().tick_duration().mul_f64(WAIT_FOR_ZONES);
    let mut receive_after = Instant::now();
    let mut packets_wait = false;
    while !stopped() {
        let began = Instant::now();
        let complete = gateway.take_messages();
        // The tick that must be replicated by now, whether zones delivered it or not.
        let overdue = clock.tick_at(began.checked_sub(patience).unwrap_or(began));
        let tick = complete.or_else(|| (overdue > gateway.last_tick()).then_some(overdue));
        if let Some(tick) = tick {
            if complete.is_none() {
                incomplete.increment(1);
            }
            gateway.tick(tick);
            let ended = Instant::now();
            tick_seconds.record((ended - began).as_secs_f64());
            ticks.increment(1);
            packets_wait = false;
            receive_after = ended + RECEIVE_EVERY_MIN;
            after_tick(tick);
        } else if packets_wait && began >= receive_after {
            gateway.receive();
            let took = began.elapsed();
            receive_seconds.record(took.as_secs_f64());
            packets_wait = false;
            receive_after = Instant::now() + took.max(RECEIVE_EVERY_MIN);
        }
        let tick_by = clock.due(gateway.last_tick().next()) + patience;
        let wait_until = if packets_wait {
            tick_by.min(receive_after)
        } else {
            tick_by
        };
        let wait_until = wait_until.min(Instant::now() + WAIT_MAX);
        // A zone's snapshot wakes it too, and a look at every link is not for nothing.
        packets_wait |= wake.wait_until(wait_until) && gateway.has_packets();
    }
    gateway.stop();
}
