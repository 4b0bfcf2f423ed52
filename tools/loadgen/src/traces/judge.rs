//! Says of spans which probes they tell of, and whether all of each.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use meridian_ids::WorldEntityId;
use meridian_telemetry::span_definitions::{
    BUS_ACCEPT, BUS_TRANSFER, CLIENT_APPLY, CLIENT_INPUT, GATEWAY_RECEIVE, GATEWAY_SEND, ZONE_INPUT, ZONE_TICK,
};
use meridian_telemetry::{ProbeSpan, ProbeTrace};

use super::{Span, TracesReport};
use crate::histogram::DurationHistogram;

/// The legs of a probe's way, in their order: each must be told at least once, the last one by the client of who acted.
pub const LEGS: [&str; 6] = [
    CLIENT_INPUT,
    GATEWAY_RECEIVE,
    ZONE_INPUT,
    ZONE_TICK,
    GATEWAY_SEND,
    CLIENT_APPLY,
];

/// What other clients tell: that they applied it too.
pub const APPLY_BY_ANOTHER: &str = "client.apply of another";

/// Probes that began so shortly before the last span are left out: exporters send what they have once a second, and a lost batch is sent again.
pub const BEGUN_LATE: Duration = Duration::from_secs(4);

/// When a probe is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Clients of other players that must have told that they saw it: 0 where a player may be out of everybody's sight.
    pub onlookers: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Self { onlookers: 1 }
    }
}

/// Judges spans; of `not_kept` more it is not known what they told.
pub fn judge(spans: &[Span], not_kept: u64, rules: Rules) -> TracesReport {
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
            judge_trace(told, rules, &mut report, &mut legs);
        }
    }
    report.legs_ms = legs
        .into_iter()
        .map(|(name, histogram)| (name.to_owned(), histogram.summary_ms()))
        .collect();
    report
}

fn judge_trace<'a>(
    told: &[&'a Span],
    rules: Rules,
    report: &mut TracesReport,
    legs: &mut BTreeMap<&'a str, DurationHistogram>,
) {
    count_orphans(told, report);
    if !told.iter().any(|span| is_leg(&span.name)) {
        return;
    }
    report.probes += 1;
    let missing = missing(told, rules);
    for leg in &missing {
        *report.missing.entry((*leg).to_owned()).or_default() += 1;
    }
    let root = told.iter().find(|span| span.name == CLIENT_INPUT);
    if root.is_some_and(|root| root.is_error) {
        report.unanswered += 1;
        return;
    }
    for span in told {
        let took = Duration::from_micros(span.took_us);
        legs.entry(&span.name).or_default().record(took);
    }
    if !missing.is_empty() {
        return;
    }
    report.complete += 1;
    report.observed += u64::from(seen_by_others(told) > 0);
    report.over_a_border += u64::from([BUS_TRANSFER, BUS_ACCEPT].iter().all(|leg| is_told(told, leg)));
    let processes: BTreeSet<&str> = told.iter().map(|span| span.process.as_str()).collect();
    report.processes_max = report.processes_max.max(processes.len() as u64);
}

fn count_orphans(told: &[&Span], report: &mut TracesReport) {
    let known: HashSet<&str> = told.iter().map(|span| span.span.as_str()).collect();
    for orphan in told
        .iter()
        .filter(|span| !span.parent.is_empty() && !known.contains(span.parent.as_str()))
    {
        *report.orphans.entry(orphan.name.clone()).or_default() += 1;
    }
}

/// Whether spans of this name are told of probes alone.
fn is_leg(name: &str) -> bool {
    LEGS.contains(&name) || name == BUS_TRANSFER || name == BUS_ACCEPT
}

fn is_told(told: &[&Span], leg: &str) -> bool {
    told.iter().any(|span| span.name == leg)
}

/// What of a probe was not told, each leg once.
fn missing(told: &[&Span], rules: Rules) -> Vec<&'static str> {
    let is_told_of = |leg: &str| match leg {
        CLIENT_APPLY => told
            .iter()
            .any(|span| span.name == CLIENT_APPLY && is_by_who_acted(span)),
        _ => is_told(told, leg),
    };
    let mut missing: Vec<&'static str> = LEGS.into_iter().filter(|leg| !is_told_of(leg)).collect();
    if seen_by_others(told) < rules.onlookers {
        missing.push(APPLY_BY_ANOTHER);
    }
    if is_lost_on_the_bus(told) {
        missing.push(BUS_ACCEPT);
    }
    missing
}

/// Clients that saw it, but for that of who acted.
fn seen_by_others(told: &[&Span]) -> usize {
    told.iter()
        .filter(|span| span.name == CLIENT_APPLY && !is_by_who_acted(span))
        .count()
}

/// Whether a `client.apply` is of the client of who acted. Who sees is in the span's number, which is made of the action and of the entity that sees.
fn is_by_who_acted(span: &Span) -> bool {
    let entity = span.entity.strip_prefix('e');
    let entity = entity.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    let Some((client, sequence)) = entity.zip(span.sequence) else {
        return false;
    };
    let probe = ProbeTrace {
        entity: WorldEntityId(client),
        sequence,
    };
    // No number is made of the gateway.
    let own = probe.context(ProbeSpan::ClientApply { client, gateway: 0 });
    span.span == format!("{:016x}", own.span)
}

/// Whether the entity was sent to another zone, and nobody told that it was taken over. What a neighbour does not take is told as an error.
fn is_lost_on_the_bus(told: &[&Span]) -> bool {
    let accepts = told.iter().filter(|span| span.name == BUS_ACCEPT);
    let accepted: HashSet<&str> = accepts.map(|span| span.parent.as_str()).collect();
    told.iter()
        .any(|span| span.name == BUS_TRANSFER && !span.is_error && !accepted.contains(span.span.as_str()))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const ACTED: WorldEntityId = WorldEntityId(0x1_0000_0003);
    const OTHER: u64 = 0x1_0000_0004;

    /// A leg as its process tells it.
    fn leg(sequence: u32, kind: ProbeSpan) -> Span {
        let probe = ProbeTrace {
            entity: ACTED,
            sequence,
        };
        let now = Instant::now();
        let record = probe.leg(kind, (now, now));
        Span {
            trace: format!("{:032x}", record.context.trace),
            span: format!("{:016x}", record.context.span),
            parent: record.parent.map(|parent| format!("{parent:016x}")).unwrap_or_default(),
            name: record.name.to_owned(),
            process: format!("process/{}", record.name),
            entity: ACTED.to_string(),
            sequence: Some(sequence),
            began_us: 10,
            took_us: 1_000,
            is_error: false,
        }
    }

    fn apply(sequence: u32, client: u64) -> Span {
        leg(sequence, ProbeSpan::ClientApply { client, gateway: 7 })
    }

    /// All that is told of an action that another client sees.
    fn probe(sequence: u32) -> Vec<Span> {
        let way = [
            ProbeSpan::Client,
            ProbeSpan::GatewayReceive,
            ProbeSpan::ZoneInput,
            ProbeSpan::ZoneTick,
            ProbeSpan::GatewaySend { gateway: 7 },
        ];
        let seen = [apply(sequence, ACTED.0), apply(sequence, OTHER)];
        way.map(|kind| leg(sequence, kind)).into_iter().chain(seen).collect()
    }

    /// A span long after those that are judged.
    fn later() -> Span {
        Span {
            trace: "later".to_owned(),
            name: "other".to_owned(),
            began_us: 60_000_000,
            parent: String::new(),
            ..leg(1, ProbeSpan::Client)
        }
    }

    fn judged(spans: &[Span]) -> TracesReport {
        judge(&[spans, &[later()]].concat(), 0, Rules::default())
    }

    /// Of one probe that is not complete: what is said to be missing.
    fn missing_of(spans: &[Span]) -> Vec<String> {
        let report = judged(spans);
        assert_eq!((report.probes, report.complete), (1, 0));
        report.missing.into_keys().collect()
    }

    fn without(name: &str, spans: &[Span]) -> Vec<Span> {
        let kept = spans.iter().filter(|span| span.name != name);
        kept.cloned().collect()
    }

    #[test]
    fn a_probe_is_complete_when_each_leg_is_told() {
        let mut spans = [probe(3), probe(5), probe(3)].concat();
        let epoch = 9;
        spans.push(leg(3, ProbeSpan::BusTransfer { epoch }));
        spans.push(leg(3, ProbeSpan::BusAccept { epoch }));
        let report = judged(&spans);
        assert_eq!(
            (report.probes, report.complete, report.completeness()),
            (2, 2, Some(1.0))
        );
        assert_eq!((report.observed, report.over_a_border, report.processes_max), (2, 1, 8));
        assert!(report.missing.is_empty() && report.orphans.is_empty());
        assert_eq!(report.legs_ms[CLIENT_APPLY].samples, 4);
    }

    #[test]
    fn what_is_missing_and_who_has_lost_its_parent_is_named() {
        let spans = without(ZONE_TICK, &probe(3));
        assert_eq!(missing_of(&spans), [ZONE_TICK]);
        let orphans = BTreeMap::from([(GATEWAY_SEND.to_owned(), 1)]);
        assert_eq!(judged(&spans).orphans, orphans);
        let report = judge(&spans, 3, Rules::default());
        assert_eq!((report.spans, report.spans_not_kept), (9, 3));
    }

    #[test]
    fn the_sight_of_who_acted_is_nobody_elses() {
        let mut alone = probe(3);
        alone.retain(|span| *span != apply(3, OTHER));
        assert_eq!(missing_of(&alone), [APPLY_BY_ANOTHER]);
        // Its own client is no other one because it is told of twice.
        alone.push(apply(3, ACTED.0));
        assert_eq!(missing_of(&alone), [APPLY_BY_ANOTHER]);
        alone.push(later());
        let unseen = judge(&alone, 0, Rules { onlookers: 0 });
        assert_eq!((unseen.complete, unseen.observed), (1, 0));
    }

    #[test]
    fn the_sight_of_others_is_not_that_of_who_acted() {
        let mut spans = probe(3);
        spans.retain(|span| *span != apply(3, ACTED.0));
        spans.push(apply(3, OTHER + 1));
        assert_eq!(missing_of(&spans), [CLIENT_APPLY]);
        assert_eq!(
            missing_of(&without(CLIENT_APPLY, &spans)),
            [CLIENT_APPLY, APPLY_BY_ANOTHER]
        );
    }

    #[test]
    fn what_is_sent_over_the_bus_must_be_taken_over() {
        let (first, second) = (9, 10);
        let mut spans = probe(3);
        spans.push(leg(3, ProbeSpan::BusTransfer { epoch: first }));
        assert_eq!(missing_of(&spans), [BUS_ACCEPT]);
        // Each of several.
        spans.push(leg(3, ProbeSpan::BusAccept { epoch: first }));
        spans.push(leg(3, ProbeSpan::BusTransfer { epoch: second }));
        assert_eq!(missing_of(&spans), [BUS_ACCEPT]);
        // What a neighbour did not take was never on its way.
        if let Some(refused) = spans.last_mut() {
            refused.is_error = true;
        }
        assert_eq!(judged(&spans).complete, 1);
    }

    #[test]
    fn a_probe_that_nobody_answered_is_not_complete() {
        let mut spans = probe(3);
        spans[0].is_error = true;
        let report = judged(&[spans, probe(5)].concat());
        assert_eq!((report.probes, report.complete, report.unanswered), (2, 1, 1));
        assert_eq!(report.completeness(), Some(0.5));
        assert_eq!(report.legs_ms[CLIENT_INPUT].samples, 1);
    }

    #[test]
    fn a_probe_without_a_root_is_not_complete() {
        assert_eq!(missing_of(&without(CLIENT_INPUT, &probe(3))), [CLIENT_INPUT]);
        let transfer = leg(3, ProbeSpan::BusTransfer { epoch: 9 });
        assert!(missing_of(&[transfer]).contains(&CLIENT_INPUT.to_owned()));
    }

    #[test]
    fn other_traces_are_no_probes() {
        let mut call = later();
        call.began_us = 10;
        assert_eq!((judged(&[call]).probes, judged(&[]).completeness()), (0, None));
    }

    #[test]
    fn probes_of_the_last_seconds_are_not_judged() {
        let report = judge(&probe(3), 0, Rules::default());
        assert_eq!((report.probes, report.completeness()), (0, None));
    }
}
