//! Says of spans which probes they tell of, and whether all of each.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use meridian_telemetry::span_definitions::{
    BUS_ACCEPT, BUS_TRANSFER, CLIENT_APPLY, CLIENT_INPUT, GATEWAY_RECEIVE, GATEWAY_SEND, ZONE_INPUT, ZONE_TICK,
};

use super::{Span, TracesReport};
use crate::histogram::DurationHistogram;

/// The legs of a probe's way, in their order: each must be told at least once.
pub const LEGS: [&str; 6] = [
    CLIENT_INPUT,
    GATEWAY_RECEIVE,
    ZONE_INPUT,
    ZONE_TICK,
    GATEWAY_SEND,
    CLIENT_APPLY,
];

/// Probes that began so shortly before the last span are left out: exporters send what they have once a second, and a lost batch is sent again.
pub const BEGUN_LATE: Duration = Duration::from_secs(4);

/// Judges spans; of `not_kept` more it is not known what they told.
pub fn judge(spans: &[Span], not_kept: u64) -> TracesReport {
    let mut report = TracesReport {
        spans: spans.len() as u64 + not_kept,
        spans_not_kept: not_kept,
        ..TracesReport::default()
    };
    let mut traces: HashMap<&str, Vec<&Span>> = HashMap::new();
    let mut legs: BTreeMap<&str, DurationHistogram> = BTreeMap::new();
    // A batch whose answer was lost comes twice.
    let mut known = HashSet::new();
    for span in spans.iter().filter(|span| known.insert((&span.trace, &span.span))) {
        traces.entry(&span.trace).or_default().push(span);
        *report.by_name.entry(span.name.clone()).or_default() += 1;
    }
    let newest_us = spans.iter().map(|span| span.began_us).max().unwrap_or(0);
    let judged_until_us = newest_us.saturating_sub(BEGUN_LATE.as_micros() as u64);
    for told in traces.values() {
        let began_us = told.iter().map(|span| span.began_us).min().unwrap_or(0);
        if began_us <= judged_until_us {
            judge_trace(told, &mut report, &mut legs);
        }
    }
    report.legs_ms = legs
        .into_iter()
        .map(|(name, histogram)| (name.to_owned(), histogram.summary_ms()))
        .collect();
    report
}

fn judge_trace<'a>(told: &[&'a Span], report: &mut TracesReport, legs: &mut BTreeMap<&'a str, DurationHistogram>) {
    let known: HashSet<&str> = told.iter().map(|span| span.span.as_str()).collect();
    for orphan in told
        .iter()
        .filter(|span| !span.parent.is_empty() && !known.contains(span.parent.as_str()))
    {
        *report.orphans.entry(orphan.name.clone()).or_default() += 1;
    }
    let Some(root) = told.iter().find(|span| span.name == CLIENT_INPUT) else {
        return;
    };
    if root.is_error {
        report.unanswered += 1;
        return;
    }
    report.probes += 1;
    let names: BTreeSet<&str> = told.iter().map(|span| span.name.as_str()).collect();
    let missing: Vec<&str> = LEGS.into_iter().filter(|leg| !names.contains(leg)).collect();
    for leg in &missing {
        *report.missing.entry((*leg).to_owned()).or_default() += 1;
    }
    for span in told {
        let took = Duration::from_micros(span.took_us);
        legs.entry(&span.name).or_default().record(took);
    }
    if !missing.is_empty() {
        return;
    }
    report.complete += 1;
    let seen = told.iter().filter(|span| span.name == CLIENT_APPLY).count();
    report.observed += u64::from(seen > 1);
    report.over_a_border += u64::from(names.contains(BUS_TRANSFER) && names.contains(BUS_ACCEPT));
    let processes: BTreeSet<&str> = told.iter().map(|span| span.process.as_str()).collect();
    report.processes_max = report.processes_max.max(processes.len() as u64);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(trace: &str, (name, id, parent): (&str, &str, &str), began_us: u64) -> Span {
        Span {
            trace: trace.to_owned(),
            span: id.to_owned(),
            parent: parent.to_owned(),
            name: name.to_owned(),
            process: format!("process/{name}"),
            began_us,
            took_us: 1_000,
            is_error: false,
        }
    }

    fn probe(trace: &str) -> Vec<Span> {
        let legs = [
            (CLIENT_INPUT, "1", ""),
            (GATEWAY_RECEIVE, "2", "1"),
            (ZONE_INPUT, "3", "2"),
            (ZONE_TICK, "4", "3"),
            (GATEWAY_SEND, "5", "4"),
            (CLIENT_APPLY, "6", "5"),
        ];
        legs.map(|leg| span(trace, leg, 10)).to_vec()
    }

    /// A span long after those that are judged.
    fn later() -> Span {
        span("later", ("other", "9", ""), 60_000_000)
    }

    #[test]
    fn a_probe_is_complete_when_each_leg_is_told() {
        let mut spans = [probe("a"), probe("b"), probe("a")].concat();
        spans.extend([later(), span("b", (CLIENT_APPLY, "7", "5"), 11)]);
        spans.extend([
            span("a", (BUS_TRANSFER, "8", "2"), 11),
            span("a", (BUS_ACCEPT, "9", "8"), 12),
        ]);
        let report = judge(&spans, 0);
        assert_eq!(
            (report.probes, report.complete, report.completeness()),
            (2, 2, Some(1.0))
        );
        assert_eq!((report.observed, report.over_a_border, report.processes_max), (1, 1, 8));
        assert!(report.missing.is_empty() && report.orphans.is_empty());
        assert_eq!(report.legs_ms[CLIENT_APPLY].samples, 3);
    }

    #[test]
    fn what_is_missing_and_who_has_lost_its_parent_is_named() {
        let mut spans = [probe("a"), probe("b"), probe("c")].concat();
        spans.retain(|span| !(span.trace == "a" && span.name == ZONE_TICK));
        spans.retain(|span| !(span.trace == "b" && span.name == CLIENT_INPUT));
        let root = spans
            .iter_mut()
            .find(|span| span.trace == "c" && span.name == CLIENT_INPUT);
        root.unwrap().is_error = true;
        spans.push(later());
        let report = judge(&spans, 3);
        assert_eq!((report.probes, report.complete, report.unanswered), (1, 0, 1));
        assert_eq!(report.missing, BTreeMap::from([(ZONE_TICK.to_owned(), 1)]));
        let orphans = [(GATEWAY_RECEIVE.to_owned(), 1), (GATEWAY_SEND.to_owned(), 1)];
        assert_eq!(report.orphans, BTreeMap::from(orphans));
        assert_eq!((report.spans, report.spans_not_kept), (20, 3));
    }

    #[test]
    fn probes_of_the_last_seconds_are_not_judged() {
        let report = judge(&probe("a"), 0);
        assert_eq!((report.probes, report.completeness()), (0, None));
    }
}
