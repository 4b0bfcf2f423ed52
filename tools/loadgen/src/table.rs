//! The report as tables for people, beside the stock server's figures when there are any.

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};

use crate::histogram::Summary;
use crate::report::{Report, TERMS};
use crate::streams::StreamsReport;
use crate::traces::TracesReport;

/// Draws `report`; with a `baseline`, its figures and the ratio to them stand beside.
pub fn render(report: &Report, baseline: Option<&Report>) -> String {
    let bots = report.bots;
    let mut text = format!(
        "{} of {} bots connected, {} disconnected; measured for {:.1} s at {} Hz\n",
        bots.connected, bots.requested, bots.disconnected, report.seconds, report.tick_rate_hz
    );
    if let Some(baseline) = baseline {
        let (bots, seconds) = (baseline.bots, baseline.seconds);
        text.push_str(&format!(
            "beside a stock lightyear server with {} bots for {seconds:.1} s\n",
            bots.connected
        ));
    }
    text.push_str(&format!(
        "{}\n{}",
        latencies(report, baseline),
        figures(report, baseline)
    ));
    text
}

/// Draws what was found of traces.
pub fn traces(report: &TracesReport) -> String {
    let share = report
        .completeness()
        .map_or_else(|| "none".to_owned(), |share| format!("{:.2} %", share * 100.0));
    let orphans: u64 = report.orphans.values().sum();
    let mut text = format!(
        "{} spans; {} probes, {} without an echo; {} complete ({share}), {} of them seen by others, {} over a border; {orphans} orphan spans\n",
        report.spans, report.probes, report.unanswered, report.complete, report.observed, report.over_a_border
    );
    for (leg, probes) in &report.missing {
        text.push_str(&format!("not told: {leg}, of {probes} probes\n"));
    }
    for (name, spans) in &report.orphans {
        text.push_str(&format!("without the parent: {name}, {spans} spans\n"));
    }
    let mut table = new_table(&["leg, ms", "p50", "p90", "p99", "max", "samples"]);
    for (name, summary) in &report.legs_ms {
        let figures = [summary.p50, summary.p90, summary.p99, summary.max].map(number);
        let mut row: Vec<String> = std::iter::once(name.clone()).chain(figures).collect();
        row.push(summary.samples.to_string());
        table.add_row(row);
    }
    text.push_str(&table.to_string());
    text
}

/// Tells what became of streams of moves.
pub fn streams(report: &StreamsReport) -> String {
    let StreamsReport {
        requested,
        opened,
        held,
        moves,
        unanswered,
        move_ms,
    } = report;
    let [p50, p99] = [move_ms.p50, move_ms.p99].map(number);
    format!(
        "{requested} streams, {opened} opened, {held} held; {moves} moves, {unanswered} refused or not answered; p50 {p50} ms, p99 {p99} ms"
    )
}

fn new_table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(UTF8_BORDERS_ONLY)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().copied().map(Cell::new));
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn latencies(report: &Report, baseline: Option<&Report>) -> Table {
    let mut header = vec!["latency", "p50", "p90", "p99", "p99.9", "max", "samples"];
    if baseline.is_some() {
        header.extend(["stock p50", "stock p99", "p50 ratio"]);
    }
    let mut table = new_table(&header);
    let mut add = |name: String, own: &Summary, stock: Option<&Summary>| {
        let figures = [own.p50, own.p90, own.p99, own.p999, own.max].map(number);
        let mut row: Vec<String> = std::iter::once(name).chain(figures).collect();
        row.push(own.samples.to_string());
        if baseline.is_some() {
            let (p50, p99) = stock.map_or((None, None), |stock| (stock.p50, stock.p99));
            row.extend([number(p50), number(p99), ratio(own.p50, p50)]);
        }
        table.add_row(row);
    };
    add(
        "action, ticks".into(),
        &report.action_latency_ticks,
        baseline.map(|stock| &stock.action_latency_ticks),
    );
    add(
        "action, ms".into(),
        &report.action_latency_ms,
        baseline.map(|stock| &stock.action_latency_ms),
    );
    add(
        "observer, ticks".into(),
        &report.observer_latency_ticks,
        baseline.map(|stock| &stock.observer_latency_ticks),
    );
    add(
        "observer, ms".into(),
        &report.observer_latency_ms,
        baseline.map(|stock| &stock.observer_latency_ms),
    );
    let mut terms: Vec<_> = report.terms_ms.iter().collect();
    terms.sort_by_key(|(term, _)| TERMS.iter().position(|known| known == term).unwrap_or(TERMS.len()));
    for (term, summary) in terms {
        let stock = baseline.and_then(|stock| stock.terms_ms.get(term));
        add(format!("  {}, ms", term.replace('_', " ")), summary, stock);
    }
    add(
        "zone tick, ms".into(),
        &report.server.zone_tick_ms,
        baseline.map(|stock| &stock.server.zone_tick_ms),
    );
    if report.server.gateway_tick_ms.samples > 0 {
        let stock = baseline.map(|stock| &stock.server.gateway_tick_ms);
        add("gateway tick, ms".into(), &report.server.gateway_tick_ms, stock);
    }
    // The stock server has no zones, so nothing stands beside these.
    let of_zones = [
        ("handoff, ms", &report.handoffs.duration_ms),
        ("observer gap at borders, ticks", &report.handoffs.observer_gap_ticks),
        ("action in other zones, ticks", &report.action_latency_elsewhere_ticks),
    ];
    for (name, summary) in of_zones.iter().filter(|(_, summary)| summary.samples > 0) {
        add((*name).into(), summary, None);
    }
    table
}

type Figure = (&'static str, fn(&Report) -> Option<f64>);

/// The single figures, in the order in which they are shown.
const FIGURES: &[Figure] = &[
    ("inputs sent", |report| Some(report.inputs.sent as f64)),
    ("inputs applied", |report| {
        report.inputs.applied.map(|count| count as f64)
    }),
    ("inputs late", |report| report.inputs.late.map(|count| count as f64)),
    ("inputs lost", |report| report.inputs.lost.map(|count| count as f64)),
    ("late or lost, %", |report| report.inputs.late_percent()),
    ("bytes per entity update", |report| report.wire.bytes_per_entity_update),
    ("entity updates per bot and s", |report| {
        per_bot_second(report, report.wire.entity_updates)
    }),
    ("kB down per bot and s", |report| {
        per_bot_second(report, report.wire.bytes_down).map(|bytes| bytes / 1e3)
    }),
    ("kB up per bot and s", |report| {
        per_bot_second(report, report.wire.bytes_up).map(|bytes| bytes / 1e3)
    }),
    ("datagrams down per bot and s", |report| {
        per_bot_second(report, report.wire.packets_down)
    }),
    ("datagrams up per bot and s", |report| {
        per_bot_second(report, report.wire.packets_up)
    }),
    ("server tick overruns", |report| {
        report.server.tick_overruns.map(|count| count as f64)
    }),
    ("server CPU per client and tick, us", |report| {
        report.server.cpu_us_per_client_tick
    }),
    ("bot CPU per tick, us", |report| report.loadgen.cpu_us_per_bot_tick),
    ("handoffs", |report| report.handoffs.count.map(|count| count as f64)),
    ("handoffs per s", |report| report.handoffs.per_second),
    ("most handoffs of an entity in a s", |report| {
        report.handoffs.per_entity_per_second_max.map(|count| count as f64)
    }),
    ("most ticks missing in a handoff", |report| {
        report.handoffs.missing_ticks_max.map(|ticks| ticks as f64)
    }),
    ("entities audited", |report| {
        report.audit.map(|audit| audit.entities as f64)
    }),
    ("entities duplicated", |report| {
        report.audit.map(|audit| audit.duplicated as f64)
    }),
    ("entities lost", |report| report.audit.map(|audit| audit.lost as f64)),
    ("epochs that went back", |report| {
        report.audit.map(|audit| audit.epoch_went_back as f64)
    }),
    ("lines of zones taken over", |report| {
        report.audit.map(|audit| audit.stale_lines as f64)
    }),
    ("entities undecided at the end", |report| {
        if_any(report.audit?.undecided)
    }),
    ("entities unknown at the end", |report| if_any(report.audit?.unknown)),
    ("times a zone told everything anew", |report| {
        if_any(report.audit?.interruptions)
    }),
    ("corrections", |report| {
        report.corrections.map(|corrections| corrections.count as f64)
    }),
    ("corrections p99, cm", |report| report.corrections?.p99_cm),
    ("corrections at borders p99, cm", |report| {
        report.corrections?.near_border_p99_cm
    }),
    ("respawns", |report| report.respawns.map(|count| count as f64)),
    ("outages of bots", |report| {
        Some(report.outages?.lengths_ms.samples as f64)
    }),
    ("outages p50, ms", |report| report.outages?.lengths_ms.p50),
    ("outages p99, ms", |report| report.outages?.lengths_ms.p99),
    ("bots still out", |report| Some(report.outages?.still_out as f64)),
    ("bots in the stalled zone", |report| {
        report.back_after_stall.map(|bots| bots.of as f64)
    }),
    ("of them back after the stall", |report| {
        report.back_after_stall.map(|bots| bots.back as f64)
    }),
];

/// What should not be is not worth a line where it is not.
fn if_any(count: u64) -> Option<f64> {
    (count > 0).then_some(count as f64)
}

fn per_bot_second(report: &Report, count: u64) -> Option<f64> {
    let bot_seconds = report.bots.connected as f64 * report.seconds;
    (bot_seconds > 0.0).then(|| count as f64 / bot_seconds)
}

fn figures(report: &Report, baseline: Option<&Report>) -> Table {
    let mut header = vec!["figure", "measured"];
    if baseline.is_some() {
        header.extend(["stock", "ratio"]);
    }
    let mut table = new_table(&header);
    for (name, figure) in FIGURES {
        let (own, stock) = (figure(report), baseline.and_then(figure));
        // What neither run measured is not worth a line.
        if own.is_none() && stock.is_none() {
            continue;
        }
        let mut row = vec![(*name).to_owned(), number(own)];
        if baseline.is_some() {
            row.extend([number(stock), ratio(own, stock)]);
        }
        table.add_row(row);
    }
    table
}

/// A figure with as many digits as its size deserves; `-` for one that was not measured.
fn number(figure: Option<f64>) -> String {
    match figure {
        None => "-".to_owned(),
        Some(figure) if figure.fract() == 0.0 && figure.abs() < 1e15 => format!("{figure:.0}"),
        Some(figure) if figure.abs() >= 1_000.0 => format!("{figure:.0}"),
        Some(figure) if figure.abs() >= 100.0 => format!("{figure:.1}"),
        Some(figure) if figure.abs() >= 0.1 => format!("{figure:.2}"),
        Some(figure) => format!("{figure:.4}"),
    }
}

fn ratio(own: Option<f64>, stock: Option<f64>) -> String {
    match (own, stock) {
        (Some(own), Some(stock)) if stock != 0.0 => format!("{:.2}", own / stock),
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Audit, Bots, Corrections, Handoffs, Wire};

    fn report(p50: f64) -> Report {
        let wire = Wire {
            bytes_down: 6_600,
            entity_updates: 100,
            ..Wire::default()
        };
        let mut report = Report {
            bots: Bots {
                requested: 40,
                connected: 40,
                disconnected: 0,
            },
            seconds: 20.0,
            tick_rate_hz: 60,
            wire: wire.plus(&Wire::default()),
            ..Report::default()
        };
        report.action_latency_ticks = Summary {
            samples: 1_200,
            p50: Some(p50),
            ..Summary::default()
        };
        report
    }

    fn line<'a>(text: &'a str, start: &str) -> Vec<&'a str> {
        let line = text.lines().find(|line| line.contains(start)).unwrap_or_default();
        line.trim_matches(['│', ' ']).split_whitespace().collect()
    }

    #[test]
    fn a_figure_that_was_not_measured_is_a_dash() {
        let text = render(&report(1.0), None);
        assert_eq!(
            line(&text, "action, ticks"),
            ["action,", "ticks", "1", "-", "-", "-", "-", "1200"]
        );
        assert!(!text.contains("inputs late") && !text.contains("stock"), "{text}");
        assert!(text.starts_with("40 of 40 bots connected"));
    }

    #[test]
    fn the_audit_and_handoffs_are_shown_where_there_was_one() {
        let mut report = report(1.0);
        assert!(!render(&report, None).contains("handoffs"));
        report.audit = Some(Audit {
            entities: 41,
            duplicated: 2,
            lost: 3,
            ..Audit::default()
        });
        report.handoffs = Handoffs {
            count: Some(50),
            per_second: Some(2.5),
            per_entity_per_second_max: Some(4),
            missing_ticks_max: Some(1),
            ..Handoffs::default()
        };
        let text = render(&report, None);
        for (figure, shown) in [
            ("handoffs per s", "2.50"),
            ("most handoffs of an entity in a s", "4"),
            ("most ticks missing in a handoff", "1"),
            ("entities audited", "41"),
            ("entities duplicated", "2"),
            ("entities lost", "3"),
        ] {
            assert_eq!(line(&text, figure).last(), Some(&shown), "{text}");
        }
        assert!(!text.contains("at the end") && !text.contains("anew"), "{text}");
        report.audit = report.audit.map(|audit| Audit {
            unknown: 4,
            undecided: 5,
            interruptions: 6,
            ..audit
        });
        let text = render(&report, None);
        for (figure, shown) in [
            ("entities unknown at the end", "4"),
            ("entities undecided at the end", "5"),
            ("times a zone told everything anew", "6"),
        ] {
            assert_eq!(line(&text, figure).last(), Some(&shown), "{text}");
        }
    }

    #[test]
    fn figures_of_borders_are_shown_where_they_were_measured() {
        let mut report = report(1.0);
        assert!(!render(&report, None).contains("border"));
        report.handoffs.observer_gap_ticks = Summary {
            samples: 9,
            p99: Some(3.0),
            ..Summary::default()
        };
        report.corrections = Some(Corrections {
            near_border_p99_cm: Some(0.25),
            ..Corrections::default()
        });
        let text = render(&report, None);
        assert_eq!(
            line(&text, "observer gap")[4..],
            ["ticks", "-", "-", "3", "-", "-", "9"]
        );
        assert_eq!(line(&text, "corrections at borders").last(), Some(&"0.25"));
    }

    #[test]
    fn terms_stand_in_the_order_in_which_they_pass() {
        let mut report = report(1.0);
        report.terms_ms = TERMS
            .iter()
            .map(|term| ((*term).to_owned(), Summary::default()))
            .collect();
        let text = render(&report, None);
        let places = TERMS.map(|term| text.find(&format!("  {}, ms", term.replace('_', " "))).unwrap());
        assert!(places.is_sorted(), "{text}");
    }

    #[test]
    fn the_stock_servers_figures_and_the_ratio_stand_beside() {
        let text = render(&report(1.0), Some(&report(4.0)));
        assert_eq!(line(&text, "action, ticks")[7..], ["1200", "4", "-", "0.25"]);
        assert_eq!(line(&text, "bytes per entity update")[4..], ["66", "66", "1.00"]);
    }

    #[test]
    fn figures_have_the_digits_they_deserve() {
        let told = [0.012, 0.5, 12.345, 123.456, 12_345.6, 40.0].map(|figure| number(Some(figure)));
        assert_eq!(told, ["0.0120", "0.50", "12.35", "123.5", "12346", "40"]);
    }
}
