//! `loadgen audit`: watches the servers until it is stopped, and tells every fault at once.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use meridian_ids::TickRate;
use serde::Serialize;

use super::watch::Watch;
use super::{AuditSummary, Finding};

/// How often it looks whether it was stopped, and draws.
const TURN: Duration = Duration::from_millis(100);
/// Findings that go into the report: the first ones tell why.
const FINDINGS_REPORTED_MAX: usize = 10_000;

/// What is watched, and for how long.
#[derive(Clone, Debug)]
pub struct AuditOptions {
    /// The admin listeners of all servers that run zones.
    pub admin: Vec<String>,
    /// How long; without it, until it is stopped.
    pub watch: Option<Duration>,
    /// The world's rate.
    pub rate: TickRate,
    /// Becomes true when it is to stop.
    pub stop: Arc<AtomicBool>,
}

/// What a watch has seen.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AuditReport {
    /// The counts.
    pub summary: AuditSummary,
    /// What was found, the first ten thousand.
    pub findings: Vec<Finding>,
    /// Servers that told nothing, with the reasons.
    pub unwatched: Vec<String>,
}

impl AuditReport {
    /// Whether there was a fault.
    pub fn has_fault(&self) -> bool {
        self.summary.duplicated + self.summary.lost + self.summary.epoch_went_back > 0
    }

    /// Writes the report as JSON.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let mut text = serde_json::to_string_pretty(self).context("cannot encode the report")?;
        text.push('\n');
        std::fs::write(path, text).with_context(|| format!("cannot write the report to {}", path.display()))
    }
}

/// Watches. Findings go to `out` as they are found, one a line, and the summary at the end.
///
/// # Errors
/// Nothing could be watched, or `out` cannot be written to.
pub fn run(options: &AuditOptions, out: &mut dyn Write) -> anyhow::Result<AuditReport> {
    let until = options.watch.map(|watch| Instant::now() + watch);
    let mut watch = Watch::begin(&options.admin, options.rate)?;
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{msg}") {
        bar.set_style(style);
    }
    let mut report = AuditReport::default();
    loop {
        let now = Instant::now();
        let stopped = options.stop.load(Ordering::Relaxed) || watch.is_hopeless();
        if stopped || until.is_some_and(|until| now >= until) {
            break;
        }
        let turn_ends = now + TURN;
        let found = watch.take_in(until.map_or(turn_ends, |until| until.min(turn_ends)));
        if !found.is_empty() {
            bar.suspend(|| tell(&found, out))?;
        }
        let room = FINDINGS_REPORTED_MAX - report.findings.len();
        report.findings.extend(found.into_iter().take(room));
        bar.set_message(progress(&watch.summary()));
        bar.tick();
    }
    bar.finish_and_clear();
    report.summary = watch.summary();
    report.unwatched = watch.unheard();
    ensure!(
        watch.has_heard(),
        "nothing could be watched: {}",
        report.unwatched.join("; ")
    );
    write!(out, "{}", conclusion(&report.summary)).context("cannot write to standard output")?;
    Ok(report)
}

fn tell(found: &[Finding], out: &mut dyn Write) -> anyhow::Result<()> {
    for finding in found {
        writeln!(out, "{finding}").context("cannot write to standard output")?;
    }
    out.flush().context("cannot write to standard output")
}

fn progress(summary: &AuditSummary) -> String {
    format!(
        "{} zones, {} entities, {} ticks, {} handoffs, {} duplicated, {} lost",
        summary.zones, summary.entities, summary.ticks, summary.handoffs.total, summary.duplicated, summary.lost
    )
}

/// The counts for people. What went as it should and counts nothing is not worth a line; the last one has the verdict, for programs too.
fn conclusion(summary: &AuditSummary) -> String {
    let mut text = format!(
        "{} zones, {} entities, {} ticks watched\n",
        summary.zones, summary.entities, summary.ticks
    );
    for (count, what) in [
        (
            summary.undecided,
            "entities were nobody's at the end, for less than two seconds or before every zone had told",
        ),
        (
            summary.unknown,
            "entities were unknown at the end: their zone could not be reached, or its lines were missed when they left it",
        ),
        (
            summary.interruptions,
            "times a zone told everything anew: lines of it were missed, another listener came, or its store was restarted",
        ),
        (
            summary.stale_lines,
            "lines were of instances whose zone another had taken over",
        ),
        (summary.repeated_lines, "lines were told twice"),
        (summary.not_followed, "times an entity was one too many to be followed"),
        (summary.findings_dropped, "findings were too many to be told"),
    ] {
        if count > 0 {
            text.push_str(&format!("{count} {what}\n"));
        }
    }
    text.push_str(&verdict(summary));
    text
}

fn verdict(summary: &AuditSummary) -> String {
    let handoffs = &summary.handoffs;
    let gaps = handoffs.missing_ticks_max().map_or_else(String::new, |missing| {
        let perfect = handoffs.missing_ticks.get(&0).copied().unwrap_or(0);
        format!("; {perfect} without a missing tick, at most {missing} missing")
    });
    format!(
        "duplicated={} lost={} epochs_went_back={} handoffs={} (at most {} of an entity within a second{gaps})\n",
        summary.duplicated, summary.lost, summary.epoch_went_back, handoffs.total, handoffs.per_entity_per_second_max
    )
}
