//! The audit that goes along with `loadgen run`.

use std::time::Instant;

use meridian_ids::TickRate;

use super::watch::Watch;
use crate::report::{Audit, Handoffs};
use crate::timing::Timing;

/// Findings that are told during a run; the report counts all.
const FINDINGS_TOLD_MAX: u64 = 100;

/// What an audit saw of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Followed {
    /// The whole run.
    pub audit: Audit,
    /// The measuring window.
    pub handoffs: Handoffs,
}

/// Watches the servers at `admin` until the run is over; none if there are none, or if they serve no audit, which is said once.
pub fn follow(admin: &[String], rate: TickRate, timing: &Timing) -> Option<Followed> {
    if admin.is_empty() {
        return None;
    }
    let begun = Watch::begin(admin, rate);
    let mut watch = begun.inspect_err(|error| tracing::warn!("no audit: {error:#}")).ok()?;
    let mut told = 0;
    watch_until(&mut watch, timing.measure_from, &mut told);
    watch.begin_window();
    watch_until(&mut watch, timing.until, &mut told);
    let handoffs = watch.summary().handoffs;
    let seconds = (timing.until - timing.measure_from).as_secs_f64();
    watch_until(&mut watch, timing.stop, &mut told);
    if !watch.has_heard() {
        tracing::warn!("the audit and handoffs will be absent from the report");
        return None;
    }
    let summary = watch.summary();
    Some(Followed {
        audit: Audit {
            entities: summary.entities,
            duplicated: summary.duplicated,
            lost: summary.lost,
            epoch_went_back: summary.epoch_went_back,
            stale_lines: summary.stale_lines,
        },
        handoffs: Handoffs {
            total: handoffs.total,
            per_second: (seconds > 0.0).then(|| handoffs.total as f64 / seconds),
            per_entity_per_second_max: handoffs.per_entity_per_second_max,
            missing_ticks_max: handoffs.missing_ticks_max(),
        },
    })
}

fn watch_until(watch: &mut Watch, moment: Instant, told: &mut u64) {
    while Instant::now() < moment && !watch.is_hopeless() {
        for finding in watch.take_in(moment) {
            if *told < FINDINGS_TOLD_MAX {
                tracing::warn!("{finding}");
            }
            *told += 1;
        }
    }
}
