//! An exporter of its own against a real collector, over gRPC and HTTP.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper of a test fails by panicking")]

mod collector;
mod ending;
#[path = "../../../../tests/common/free_port.rs"]
mod free_port;
mod installed;
mod layer;
mod proxy;
mod trouble;

use std::{
    collections::HashMap,
    time::{Duration, Instant, SystemTime},
};

use collector::{Collector, Manners, text, value};
use meridian_ids::WorldEntityId;
use meridian_telemetry::{
    ExportSettings, Exporter, Metrics, ProbeSpan, ProbeTrace, SpanKind, SpanRecord, TraceContext,
};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use opentelemetry_proto::tonic::{
    common::v1::any_value::Value,
    metrics::v1::{metric::Data, number_data_point},
    trace::v1::span,
};

/// A limit for what must happen, however busy the machine is.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// An exporter, and what it counts.
pub(crate) struct Fixture {
    pub(crate) exporter: Exporter,
    pub(crate) counts: PrometheusHandle,
}

impl Fixture {
    pub(crate) fn start(variables: &[(&str, String)]) -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        let settings = settings(variables, false);
        let exporter = metrics::with_local_recorder(&recorder, || Exporter::start(settings, None).unwrap().unwrap());
        Self {
            exporter,
            counts: recorder.handle(),
        }
    }

    /// The value of a line of the metrics, 0 if there is none.
    pub(crate) fn count(&self, series: &str) -> u64 {
        let text = self.counts.render();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse::<f64>().unwrap() as u64)
    }
}

pub(crate) const EXPORTED: &str = "meridian_telemetry_spans_exported_total";
pub(crate) const QUEUE_FULL: &str = "meridian_telemetry_spans_dropped_total{reason=\"queue_full\"}";
pub(crate) const EXPORT_FAILED: &str = "meridian_telemetry_spans_dropped_total{reason=\"export_failed\"}";
pub(crate) const PROCESS_ENDED: &str = "meridian_telemetry_spans_dropped_total{reason=\"process_ended\"}";
pub(crate) const QUEUE_LENGTH: &str = "meridian_telemetry_queue_length";
pub(crate) const FAILURES: &str = "meridian_telemetry_export_failures_total";

pub(crate) fn settings(variables: &[(&str, String)], push_metrics: bool) -> ExportSettings {
    let variables: HashMap<&str, String> = variables.iter().cloned().collect();
    let lookup = |name: &str| variables.get(name).cloned();
    ExportSettings::from_variables(lookup, "meridian-test", "instance-7", push_metrics).unwrap()
}

pub(crate) fn to_collector(address: std::net::SocketAddr, protocol: &str) -> Vec<(&'static str, String)> {
    vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{address}")),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol.to_owned()),
    ]
}

pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn span(name: &'static str, is_sampled: bool) -> SpanRecord {
    let now = Instant::now();
    SpanRecord {
        context: TraceContext::new_root(is_sampled),
        parent: None,
        name,
        kind: SpanKind::Internal,
        began: now,
        ended: now,
        attributes: Vec::new(),
        error: None,
    }
}

const PROBE: ProbeTrace = ProbeTrace {
    entity: WorldEntityId(3),
    sequence: 9,
};

/// A probe's first two legs, of 30 and 10 ms.
fn probe_legs() -> [SpanRecord; 2] {
    let began = Instant::now();
    let at = |milliseconds| began + Duration::from_millis(milliseconds);
    let (root, leg) = (
        PROBE.context(ProbeSpan::Client),
        PROBE.context(ProbeSpan::GatewayReceive),
    );
    let client = SpanRecord {
        context: root,
        kind: SpanKind::Client,
        began: at(0),
        ended: at(30),
        attributes: vec![
            ("text", "west".into()),
            ("whole", 5_u64.into()),
            ("large", u64::MAX.into()),
            ("number", 0.5.into()),
            ("flag", true.into()),
        ],
        ..span(ProbeSpan::Client.name(), true)
    };
    let gateway = SpanRecord {
        context: leg,
        parent: Some(root.span),
        began: at(10),
        ended: at(20),
        ..span(ProbeSpan::GatewayReceive.name(), true)
    };
    [client, gateway]
}

fn a_probe_arrives_whole(collector: &Collector, protocol: &str) {
    let mut variables = to_collector(collector.address, protocol);
    variables.push(("OTEL_EXPORTER_OTLP_HEADERS", "key=secret%20word".to_owned()));
    let fixture = Fixture::start(&variables);
    let before = SystemTime::now();
    for leg in probe_legs() {
        fixture.exporter.record(leg);
    }
    assert!(fixture.exporter.flush(PATIENCE));
    let (client, gateway) = (collector.span("client.input"), collector.span("gateway.receive"));

    let trace = PROBE.trace_id().to_be_bytes().to_vec();
    assert_eq!((&client.trace_id, &gateway.trace_id), (&trace, &trace));
    assert_eq!(client.span_id, PROBE.context(ProbeSpan::Client).span.to_be_bytes());
    assert!(client.parent_span_id.is_empty());
    assert_eq!(gateway.parent_span_id, client.span_id);
    assert_eq!(client.kind, span::SpanKind::Client as i32);

    assert_eq!(client.end_time_unix_nano - client.start_time_unix_nano, 30_000_000);
    assert_eq!(gateway.start_time_unix_nano - client.start_time_unix_nano, 10_000_000);
    assert_eq!(client.end_time_unix_nano - gateway.end_time_unix_nano, 10_000_000);
    let since_1970 = before.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let off = Duration::from_nanos(client.start_time_unix_nano).abs_diff(since_1970);
    assert!(off < PATIENCE, "the wall clock is off by {off:?}");

    assert_eq!(text(&client.attributes, "text"), "west");
    assert_eq!(value(&client.attributes, "whole"), Some(Value::IntValue(5)));
    assert_eq!(text(&client.attributes, "large"), u64::MAX.to_string());
    assert_eq!(value(&client.attributes, "number"), Some(Value::DoubleValue(0.5)));
    assert_eq!(value(&client.attributes, "flag"), Some(Value::BoolValue(true)));

    assert_eq!(collector.span_resource("service.name"), ["meridian-test"]);
    assert_eq!(collector.span_resource("service.instance.id"), ["instance-7"]);
    assert_eq!(collector.span_resource("service.version"), [env!("CARGO_PKG_VERSION")]);
    assert_eq!(collector.received().keys, [Some("secret word".to_owned())]);
    assert_eq!(fixture.count(EXPORTED), 2);
}

#[test]
fn a_probe_arrives_whole_over_grpc() {
    a_probe_arrives_whole(&Collector::grpc(Manners::default()), "grpc");
}

#[test]
fn a_probe_arrives_whole_over_http() {
    a_probe_arrives_whole(&Collector::http(Manners::default()), "http/protobuf");
}

#[test]
fn spans_arrive_without_being_flushed() {
    let collector = Collector::grpc(Manners::default());
    let mut variables = to_collector(collector.address, "grpc");
    variables.push(("OTEL_BSP_SCHEDULE_DELAY", "20".to_owned()));
    let fixture = Fixture::start(&variables);
    fixture.exporter.record(span("alone", true));
    until("the delay ends", || collector.span_count() == 1);
}

/// The nice value of this process's thread of that name, once there is one.
#[cfg(target_os = "linux")]
fn nice_of_thread(name: &str) -> Option<i32> {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let stats = threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("stat")).ok());
    stats.into_iter().find_map(|stat| {
        // The name is in brackets; the nice value is the seventeenth field after it.
        let (before, after) = stat.rsplit_once(')')?;
        let is_it = before.split_once('(')?.1 == name;
        is_it.then(|| after.split_whitespace().nth(16)?.parse().ok()).flatten()
    })
}

#[cfg(target_os = "linux")]
#[test]
fn the_exporter_stands_back_behind_all_else() {
    let collector = Collector::grpc(Manners::default());
    let fixture = Fixture::start(&to_collector(collector.address, "grpc"));
    let own = rustix::process::getpriority_process(None).unwrap();
    until("the exporter stands back", || {
        nice_of_thread("telemetry") == Some((own + 10).min(19))
    });
    fixture.exporter.record(span("told", true));
    assert!(fixture.exporter.flush(PATIENCE), "and works nevertheless");
}

#[test]
fn what_is_queued_is_exported_when_the_exporter_is_dropped() {
    let collector = Collector::http(Manners::default());
    let fixture = Fixture::start(&to_collector(collector.address, "http/protobuf"));
    for _ in 0..2000 {
        fixture.exporter.record(span("late", true));
    }
    drop(fixture.exporter);
    assert_eq!(collector.span_count(), 2000);
    assert_eq!(collector.received().traces.len(), 4, "batches of 512");
}

#[test]
fn an_unsampled_span_is_exported_only_with_an_error() {
    let collector = Collector::grpc(Manners::default());
    let fixture = Fixture::start(&to_collector(collector.address, "grpc"));
    fixture.exporter.record(span("fine", false));
    fixture.exporter.record(SpanRecord {
        error: Some("no such zone".into()),
        ..span("failed", false)
    });
    assert!(fixture.exporter.flush(PATIENCE));
    let failed = collector.span("failed");
    assert_eq!(failed.status.unwrap().message, "no such zone");
    assert_eq!(collector.span_count(), 1);
}

#[test]
fn nothing_is_started_without_an_endpoint() {
    let metrics = Metrics::install().unwrap();
    assert!(Exporter::start(settings(&[], true), Some(&metrics)).unwrap().is_none());
    let address = collector::free_address();
    let mut disabled = to_collector(address, "grpc");
    disabled.push(("OTEL_SDK_DISABLED", "true".to_owned()));
    assert!(
        Exporter::start(settings(&disabled, true), Some(&metrics))
            .unwrap()
            .is_none()
    );
}

fn metrics_are_pushed(collector: &Collector, protocol: &str) {
    let metrics = Metrics::install().unwrap();
    metrics::counter!("pushed_total", "protocol" => protocol.to_owned()).increment(4);
    metrics::histogram!("pushed_seconds").record(0.3);
    let mut variables = to_collector(collector.address, protocol);
    variables.push(("OTEL_TRACES_EXPORTER", "none".to_owned()));
    variables.push(("OTEL_METRIC_EXPORT_INTERVAL", "100".to_owned()));
    let exporter = Exporter::start(settings(&variables, true), Some(&metrics))
        .unwrap()
        .unwrap();
    until("the interval ends", || collector.metric("pushed_total").is_some());
    metrics::counter!("pushed_total", "protocol" => protocol.to_owned()).increment(1);
    drop(exporter);
    let Some(Data::Sum(sum)) = collector.metric("pushed_total").unwrap().data else {
        panic!("a sum");
    };
    let point = sum
        .data_points
        .iter()
        .find(|point| text(&point.attributes, "protocol") == protocol);
    assert_eq!(point.unwrap().value, Some(number_data_point::Value::AsDouble(5.0)));
    let Some(Data::Histogram(_)) = collector.metric("pushed_seconds").unwrap().data else {
        panic!("a histogram");
    };
    assert!(collector.metric("process_cpu_seconds_total").is_some());
}

#[test]
fn points_that_a_collector_refuses_are_counted() {
    const REFUSED: &str = "meridian_telemetry_metric_points_refused_total";
    let metrics = Metrics::install().unwrap();
    for which in ["first", "second", "third"] {
        metrics::counter!("refused_total", "which" => which).increment(1);
    }
    let variables = |collector: &Collector, protocol| {
        let mut variables = to_collector(collector.address, protocol);
        variables.push(("OTEL_TRACES_EXPORTER", "none".to_owned()));
        variables
    };
    for (rejected_points, protocol) in [(2, "grpc"), (999_999, "http/protobuf")] {
        let manners = Manners {
            rejected_points,
            ..Manners::default()
        };
        let collector = match protocol {
            "grpc" => Collector::grpc(manners),
            _ => Collector::http(manners),
        };
        let recorder = PrometheusBuilder::new().build_recorder();
        let settings = settings(&variables(&collector, protocol), true);
        let exporter = metrics::with_local_recorder(&recorder, || Exporter::start(settings, Some(&metrics)));
        let exporter = exporter.unwrap().unwrap();
        assert!(!exporter.flush(PATIENCE), "not all was taken");
        let fixture = Fixture {
            exporter,
            counts: recorder.handle(),
        };
        let sent = collector.point_count();
        assert!(sent > 2);
        assert_eq!(fixture.count(REFUSED), sent.min(rejected_points as u64));
        assert_eq!(
            fixture.count("meridian_telemetry_metric_pushes_total{outcome=\"done\"}"),
            1
        );
    }
}

#[test]
fn metrics_are_pushed_over_grpc_at_an_interval_and_at_the_end() {
    metrics_are_pushed(&Collector::grpc(Manners::default()), "grpc");
}

#[test]
fn metrics_are_pushed_over_http_at_an_interval_and_at_the_end() {
    metrics_are_pushed(&Collector::http(Manners::default()), "http/protobuf");
}
