//! Bounds on a report's figures, for scripts and CI: a run that exceeds one ends with exit code 2.

use std::fmt;

use clap::Args;

use crate::histogram::Summary;
use crate::report::Report;

/// Bounds on a run's figures. A figure that was not measured exceeds its bound.
#[derive(Clone, Debug, Default, PartialEq, Args)]
#[command(next_help_heading = "Bounds (exit code 2 when exceeded)")]
pub struct Bounds {
    /// Largest median of the action latency, in ticks
    #[arg(long, value_name = "TICKS", value_parser = figure)]
    pub max_action_p50_ticks: Option<f64>,
    /// Largest 99th percentile of the action latency, in ticks
    #[arg(long, value_name = "TICKS", value_parser = figure)]
    pub max_action_p99_ticks: Option<f64>,
    /// Largest median of the observer latency, in ticks
    #[arg(long, value_name = "TICKS", value_parser = figure)]
    pub max_observer_p50_ticks: Option<f64>,
    /// Largest 99th percentile of the observer latency, in ticks
    #[arg(long, value_name = "TICKS", value_parser = figure)]
    pub max_observer_p99_ticks: Option<f64>,
    /// Largest share of inputs that are late or lost after a bot's first second, in percent
    #[arg(long, value_name = "PERCENT", value_parser = figure)]
    pub max_late_percent: Option<f64>,
    /// Most bytes per entity update, everything that the server sends counted in
    #[arg(long, value_name = "BYTES", value_parser = figure)]
    pub max_bytes_per_update: Option<f64>,
    /// Most CPU time of a bot's tick, in microseconds
    #[arg(long, value_name = "US", value_parser = figure)]
    pub max_bot_tick_us: Option<f64>,
    /// Most CPU time of the server per client and tick, in microseconds
    #[arg(long, value_name = "US", value_parser = figure)]
    pub max_server_tick_us: Option<f64>,
    /// Most server ticks that took longer than a tick
    #[arg(long, value_name = "N")]
    pub max_tick_overruns: Option<u64>,
    /// Most connections lost; bots that never got in count too
    #[arg(long, value_name = "N")]
    pub max_disconnected: Option<u64>,
    /// Most entities that two zones simulated in one tick
    #[arg(long, value_name = "N")]
    pub max_duplicated: Option<u64>,
    /// Most entities that no zone had for two seconds
    #[arg(long, value_name = "N")]
    pub max_lost: Option<u64>,
    /// Least handoffs in the measuring window: with less, nothing was put to the test
    #[arg(long, value_name = "N")]
    pub min_handoffs: Option<u64>,
    /// Most handoffs of one entity within any second
    #[arg(long, value_name = "N")]
    pub max_handoffs_per_entity_second: Option<u64>,
    /// Largest 99th percentile of the waits between updates of who is seen to walk over a border of zones, in ticks
    #[arg(long, value_name = "TICKS", value_parser = figure)]
    pub max_observer_gap_p99_ticks: Option<f64>,
    /// Largest 99th percentile of the corrections near borders of zones, in centimetres; needs --predict
    #[arg(long, value_name = "CM", value_parser = figure)]
    pub max_correction_p99_cm: Option<f64>,
    /// Most often that a bot's own player was taken away and came anew
    #[arg(long, value_name = "N")]
    pub max_respawns: Option<u64>,
    /// Largest median of the times in which a bot could not act, in milliseconds
    #[arg(long, value_name = "MS", value_parser = figure)]
    pub max_outage_p50_ms: Option<f64>,
    /// Largest 99th percentile of the times in which a bot could not act, in milliseconds
    #[arg(long, value_name = "MS", value_parser = figure)]
    pub max_outage_p99_ms: Option<f64>,
    /// Most bots that could not act when the measuring window ended
    #[arg(long, value_name = "N")]
    pub max_still_out: Option<u64>,
    /// Largest 99th percentile of the action latency in other zones while one was stalled, in ticks; needs --stall-zone
    #[arg(long, value_name = "TICKS", value_parser = figure)]
    pub max_elsewhere_p99_ticks: Option<f64>,
}

/// No figure is within a bound that is not a number or below 0, and every figure within one without end.
fn figure(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(figure) if figure.is_finite() && figure >= 0.0 => Ok(figure),
        _ => Err(format!("{text:?} is not a number from 0 on")),
    }
}

/// A bound that was exceeded.
#[derive(Clone, Debug, PartialEq)]
pub struct Exceeded {
    flag: &'static str,
    bound: f64,
    measured: Option<f64>,
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.measured {
            Some(measured) => write!(f, "{} {}: measured {measured:.3}", self.flag, self.bound),
            None => write!(f, "{} {}: not measured", self.flag, self.bound),
        }
    }
}

impl Bounds {
    /// Every bound that `report` exceeds, in the order of the flags.
    pub fn exceeded(&self, report: &Report) -> Vec<Exceeded> {
        let count = |count: Option<u64>| count.map(|count| count as f64);
        let missing = report.bots.requested.saturating_sub(report.bots.connected) + report.bots.disconnected;
        let checks = [
            (
                "--max-action-p50-ticks",
                self.max_action_p50_ticks,
                report.action_latency_ticks.p50,
            ),
            (
                "--max-action-p99-ticks",
                self.max_action_p99_ticks,
                report.action_latency_ticks.p99,
            ),
            (
                "--max-observer-p50-ticks",
                self.max_observer_p50_ticks,
                report.observer_latency_ticks.p50,
            ),
            (
                "--max-observer-p99-ticks",
                self.max_observer_p99_ticks,
                report.observer_latency_ticks.p99,
            ),
            (
                "--max-late-percent",
                self.max_late_percent,
                report.inputs.late_percent(),
            ),
            (
                "--max-bytes-per-update",
                self.max_bytes_per_update,
                report.wire.bytes_per_entity_update,
            ),
            (
                "--max-bot-tick-us",
                self.max_bot_tick_us,
                report.loadgen.cpu_us_per_bot_tick,
            ),
            (
                "--max-server-tick-us",
                self.max_server_tick_us,
                report.server.cpu_us_per_client_tick,
            ),
            (
                "--max-tick-overruns",
                count(self.max_tick_overruns),
                count(report.server.tick_overruns),
            ),
            ("--max-disconnected", count(self.max_disconnected), Some(missing as f64)),
        ];
        let mut exceeded: Vec<_> = checks
            .into_iter()
            .chain(self.border_checks(report))
            .chain(self.outage_checks(report))
            .filter_map(most)
            .collect();
        exceeded.extend(self.exceeded_by_zones(report));
        exceeded
    }

    /// What the audit and the handoffs exceed.
    fn exceeded_by_zones(&self, report: &Report) -> Vec<Exceeded> {
        let count = |count: Option<u64>| count.map(|count| count as f64);
        let (audit, handoffs) = (report.audit, &report.handoffs);
        let checks = [
            most((
                "--max-duplicated",
                count(self.max_duplicated),
                count(audit.map(|audit| audit.duplicated)),
            )),
            most(("--max-lost", count(self.max_lost), count(audit.map(|audit| audit.lost)))),
            least(("--min-handoffs", count(self.min_handoffs), count(handoffs.count))),
            most((
                "--max-handoffs-per-entity-second",
                count(self.max_handoffs_per_entity_second),
                count(handoffs.per_entity_per_second_max),
            )),
        ];
        checks.into_iter().flatten().collect()
    }
}

/// A flag, its bound and the figure that it bounds.
type Check = (&'static str, Option<f64>, Option<f64>);

fn most((flag, bound, measured): Check) -> Option<Exceeded> {
    let bound = bound?;
    // Not a number is never within a bound.
    let within = measured.is_some_and(|measured| measured <= bound);
    (!within).then_some(Exceeded { flag, bound, measured })
}

fn least((flag, bound, measured): Check) -> Option<Exceeded> {
    let bound = bound?;
    let within = measured.is_some_and(|measured| measured >= bound);
    (!within).then_some(Exceeded { flag, bound, measured })
}

impl Bounds {
    fn outage_checks(&self, report: &Report) -> [Check; 3] {
        // Without an outage there is none that is too long.
        let length = |pick: fn(&Summary) -> Option<f64>| {
            let outages = report.outages?;
            Some(pick(&outages.lengths_ms).unwrap_or(0.0))
        };
        [
            (
                "--max-outage-p50-ms",
                self.max_outage_p50_ms,
                length(|lengths| lengths.p50),
            ),
            (
                "--max-outage-p99-ms",
                self.max_outage_p99_ms,
                length(|lengths| lengths.p99),
            ),
            (
                "--max-still-out",
                self.max_still_out.map(|count| count as f64),
                report.outages.map(|outages| outages.still_out as f64),
            ),
        ]
    }

    fn border_checks(&self, report: &Report) -> [Check; 4] {
        let near_border_p99_cm = report
            .corrections
            .and_then(|corrections| corrections.near_border_p99_cm);
        [
            (
                "--max-observer-gap-p99-ticks",
                self.max_observer_gap_p99_ticks,
                report.handoffs.observer_gap_ticks.p99,
            ),
            (
                "--max-correction-p99-cm",
                self.max_correction_p99_cm,
                near_border_p99_cm,
            ),
            (
                "--max-respawns",
                self.max_respawns.map(|count| count as f64),
                report.respawns.map(|count| count as f64),
            ),
            (
                "--max-elsewhere-p99-ticks",
                self.max_elsewhere_p99_ticks,
                report.action_latency_elsewhere_ticks.p99,
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Audit, Bots, Corrections, Handoffs, Inputs};

    fn report() -> Report {
        Report {
            bots: Bots {
                requested: 10,
                connected: 9,
                disconnected: 1,
            },
            action_latency_ticks: Summary {
                samples: 9,
                p50: Some(1.5),
                p99: Some(2.0),
                ..Summary::default()
            },
            inputs: Inputs {
                sent: 1_000,
                applied: Some(999),
                late: Some(1),
                lost: Some(0),
            },
            ..Report::default()
        }
    }

    fn messages(bounds: &Bounds) -> Vec<String> {
        bounds.exceeded(&report()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn without_bounds_nothing_is_exceeded() {
        assert!(messages(&Bounds::default()).is_empty());
    }

    #[test]
    fn each_exceeded_bound_is_named_with_its_figure() {
        let bounds = Bounds {
            max_action_p50_ticks: Some(1.1),
            max_action_p99_ticks: Some(2.0),
            max_late_percent: Some(0.05),
            max_disconnected: Some(1),
            ..Bounds::default()
        };
        assert_eq!(
            messages(&bounds),
            [
                "--max-action-p50-ticks 1.1: measured 1.500",
                "--max-late-percent 0.05: measured 0.100",
                "--max-disconnected 1: measured 2.000"
            ]
        );
    }

    #[test]
    fn what_the_audit_counts_is_bounded_and_handoffs_from_both_sides() {
        let bounds = Bounds {
            max_duplicated: Some(0),
            max_lost: Some(0),
            min_handoffs: Some(100),
            max_handoffs_per_entity_second: Some(5),
            ..Bounds::default()
        };
        assert_eq!(
            messages(&bounds),
            [
                "--max-duplicated 0: not measured",
                "--max-lost 0: not measured",
                "--min-handoffs 100: not measured",
                "--max-handoffs-per-entity-second 5: not measured"
            ]
        );
        let measured = |count, lost| Report {
            audit: Some(Audit {
                lost,
                ..Audit::default()
            }),
            handoffs: Handoffs {
                count: Some(count),
                per_entity_per_second_max: Some(5),
                ..Handoffs::default()
            },
            ..report()
        };
        assert_eq!(bounds.exceeded(&measured(100, 0)), []);
        let exceeded = bounds.exceeded(&measured(99, 1));
        let messages: Vec<_> = exceeded.iter().map(ToString::to_string).collect();
        assert_eq!(
            messages,
            ["--max-lost 0: measured 1.000", "--min-handoffs 100: measured 99.000"]
        );
    }

    #[test]
    fn borders_have_bounds_too() {
        let bounds = Bounds {
            max_observer_gap_p99_ticks: Some(3.0),
            max_correction_p99_cm: Some(1.0),
            max_respawns: Some(0),
            max_elsewhere_p99_ticks: Some(3.0),
            ..Bounds::default()
        };
        let p99 = |figure: f64| Summary {
            p99: Some(figure),
            ..Summary::default()
        };
        let gaps = |p99| Handoffs {
            observer_gap_ticks: p99,
            ..Handoffs::default()
        };
        let mut report = Report {
            handoffs: gaps(p99(3.0)),
            corrections: Some(Corrections {
                near_border_p99_cm: Some(0.0),
                ..Corrections::default()
            }),
            respawns: Some(0),
            action_latency_elsewhere_ticks: p99(2.0),
            ..Report::default()
        };
        assert_eq!(bounds.exceeded(&report), []);
        (report.handoffs, report.respawns, report.corrections) = (gaps(p99(4.0)), Some(1), None);
        let messages: Vec<String> = bounds.exceeded(&report).iter().map(ToString::to_string).collect();
        assert_eq!(
            messages,
            [
                "--max-observer-gap-p99-ticks 3: measured 4.000",
                "--max-correction-p99-cm 1: not measured",
                "--max-respawns 0: measured 1.000"
            ]
        );
    }

    #[test]
    fn a_bound_is_a_number_from_0_on() {
        assert_eq!(figure("1.6"), Ok(1.6));
        assert_eq!(figure("0"), Ok(0.0));
        for wrong in ["nan", "NaN", "-nan", "inf", "-1", "", "1,6"] {
            assert!(
                figure(wrong).unwrap_err().contains("is not a number from 0 on"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_figure_that_was_not_measured_is_not_within_its_bound() {
        let bounds = Bounds {
            max_bytes_per_update: Some(16.0),
            ..Bounds::default()
        };
        assert_eq!(messages(&bounds), ["--max-bytes-per-update 16: not measured"]);
    }
}
