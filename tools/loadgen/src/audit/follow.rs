//! The audit that goes along with `loadgen run`.

use std::time::{Duration, Instant};

use meridian_ids::TickRate;

use super::watch::Watch;
use super::{AuditSummary, Takeover};
use crate::report::{Audit, Handoffs, Report};
use crate::timing::Timing;

/// Findings that are told during a run; the report counts all.
const FINDINGS_TOLD_MAX: u64 = 100;
/// How long it watches on after the run while it is open where an entity is: by then who is nobody's is lost, and a stream that broke was
/// asked for again.
const OPEN_MAX: Duration = Duration::from_secs(5);
/// How often it looks meanwhile whether that is still so.
const TURN: Duration = Duration::from_millis(20);

/// What an audit saw of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Followed {
    /// The whole run.
    pub audit: Audit,
    /// The measuring window, as far as an audit sees it.
    pub handoffs: Handoffs,
    /// The whole run.
    pub takeovers: Vec<Takeover>,
}

impl Followed {
    /// Writes it into a report, beside what others measured of handoffs.
    pub fn fill(self, report: &mut Report) {
        report.audit = Some(self.audit);
        report.takeovers = self.takeovers;
        report.handoffs = Handoffs {
            duration_ms: report.handoffs.duration_ms,
            observer_gap_ticks: report.handoffs.observer_gap_ticks,
            ..self.handoffs
        };
    }
}

/// Watches the servers at `admin` until the run is over, and it is known of every entity where it is or that it is lost; none if there are none,
/// or if they serve no audit, which is said once.
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
    watch_while_open(&mut watch, &mut told);
    if !watch.has_heard() {
        tracing::warn!("the audit and handoffs will be absent from the report");
        return None;
    }
    let summary = watch.summary();
    Some(Followed {
        audit: audit(&summary),
        handoffs: Handoffs {
            count: Some(handoffs.total),
            per_second: (seconds > 0.0).then(|| handoffs.total as f64 / seconds),
            per_entity_per_second_max: Some(handoffs.per_entity_per_second_max),
            missing_ticks_max: handoffs.missing_ticks_max(),
            ..Handoffs::default()
        },
        takeovers: summary.takeovers,
    })
}

fn audit(summary: &AuditSummary) -> Audit {
    Audit {
        entities: summary.entities,
        duplicated: summary.duplicated,
        lost: summary.lost,
        epoch_went_back: summary.epoch_went_back,
        stale_lines: summary.stale_lines,
        undecided: summary.undecided,
        unknown: summary.unknown,
        interruptions: summary.interruptions,
    }
}

fn watch_while_open(watch: &mut Watch, told: &mut u64) {
    let gives_up_at = Instant::now() + OPEN_MAX;
    loop {
        let (now, summary) = (Instant::now(), watch.summary());
        if summary.undecided + summary.unknown == 0 || now >= gives_up_at || watch.is_hopeless() {
            return;
        }
        watch_until(watch, gives_up_at.min(now + TURN), told);
    }
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
