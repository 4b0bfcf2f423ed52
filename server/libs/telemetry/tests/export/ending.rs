//! What becomes of spans and metrics when the process ends. Right after the end everything is counted: the exporter was through by
//! then, and not left behind.

use meridian_telemetry::{Exporter, Metrics};
use metrics_exporter_prometheus::PrometheusBuilder;

use crate::{
    EXPORT_FAILED, FAILURES, Fixture, PATIENCE, PROCESS_ENDED,
    collector::{Collector, Manners, free_address},
    settings, span, to_collector, until,
};

/// Nothing is sent before the end.
fn patient(address: std::net::SocketAddr, protocol: &str) -> Vec<(&'static str, String)> {
    let mut variables = to_collector(address, protocol);
    variables.push(("OTEL_BSP_SCHEDULE_DELAY", "60000".to_owned()));
    variables.push(("OTEL_EXPORTER_OTLP_TIMEOUT", "60000".to_owned()));
    variables
}

fn end_of(fixture: Fixture) -> Ended {
    drop(fixture.exporter);
    let counts = fixture.counts.render();
    Ended { counts }
}

struct Ended {
    counts: String,
}

impl Ended {
    fn count(&self, series: &str) -> u64 {
        let lines = self.counts.lines();
        let mut values = lines.filter_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        values.next().map_or(0, |value| value.parse::<f64>().unwrap() as u64)
    }
}

#[test]
fn an_end_without_a_collector_is_not_held_up() {
    for protocol in ["grpc", "http/protobuf"] {
        let fixture = Fixture::start(&patient(free_address(), protocol));
        for _ in 0..100 {
            fixture.exporter.record(span("lost", true));
        }
        let ended = end_of(fixture);
        assert_eq!(
            ended.count(FAILURES),
            1,
            "nobody is there, and nobody will come: {protocol}"
        );
        assert_eq!((ended.count(EXPORT_FAILED), ended.count(PROCESS_ENDED)), (100, 0));
    }
}

#[test]
fn an_end_does_not_wait_for_a_collector_that_does_not_answer() {
    for (protocol, is_under_way) in [
        ("grpc", false),
        ("http/protobuf", false),
        ("grpc", true),
        ("http/protobuf", true),
    ] {
        // It would answer long after the test.
        let manners = Manners {
            delay: PATIENCE * 10,
            ..Manners::default()
        };
        let collector = match protocol {
            "grpc" => Collector::grpc(manners),
            _ => Collector::http(manners),
        };
        let mut variables = patient(collector.address, protocol);
        if is_under_way {
            variables.push(("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10".to_owned()));
        }
        let fixture = Fixture::start(&variables);
        for _ in 0..15 {
            fixture.exporter.record(span("lost", true));
        }
        if is_under_way {
            until("a batch is under way", || collector.received().requests == 1);
        }
        let ended = end_of(fixture);
        assert_eq!(ended.count(FAILURES), 1, "{protocol}");
        // What was never tried is counted too.
        let expected = if is_under_way { (10, 5) } else { (15, 0) };
        let counted = (ended.count(EXPORT_FAILED), ended.count(PROCESS_ENDED));
        assert_eq!(counted, expected, "{protocol}");
    }
}

#[test]
fn a_last_push_without_a_collector_is_not_tried_again() {
    let metrics = Metrics::install().unwrap();
    for protocol in ["grpc", "http/protobuf"] {
        let mut variables = to_collector(free_address(), protocol);
        variables.push(("OTEL_TRACES_EXPORTER", "none".to_owned()));
        let recorder = PrometheusBuilder::new().build_recorder();
        let settings = settings(&variables, true);
        let exporter = metrics::with_local_recorder(&recorder, || Exporter::start(settings, Some(&metrics)));
        let ended = end_of(Fixture {
            exporter: exporter.unwrap().unwrap(),
            counts: recorder.handle(),
        });
        assert_eq!(
            ended.count("meridian_telemetry_metric_pushes_total{outcome=\"failed\"}"),
            1
        );
    }
}
