//! A process that is traced as a whole: what a process has once is installed in a process of its own.

use std::process::Command;

use meridian_telemetry::{
    LogFormat, Metrics, ProbeSpan, ProbeTrace, SpanRecord, TelemetryOptions, install, is_tracing, record,
};

use crate::{
    collector::{Collector, Manners},
    span, to_collector,
};

/// Runs `child` with variables in its environment; what it wrote on standard error.
fn run_child(variables: &[(&str, String)]) -> (bool, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "installed::child", "--ignored", "--nocapture"]);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("OTEL_")) {
        command.env_remove(name);
    }
    command.envs(variables.iter().cloned());
    let output = command.output().unwrap();
    (output.status.success(), String::from_utf8(output.stderr).unwrap())
}

#[test]
#[ignore = "a process of its own, started by the others with their environment"]
fn child() {
    let metrics = Metrics::install().unwrap();
    let options = TelemetryOptions {
        service: "meridian-child",
        instance: "one".to_owned(),
        log_format: LogFormat::Json,
        log_filter: "error".to_owned(),
        push_metrics: true,
    };
    let guard = match install(options, Some(&metrics)) {
        Ok(guard) => guard,
        Err(error) => panic!("{error}"),
    };
    assert!(is_tracing() && guard.is_exporting());
    let probe = ProbeTrace {
        entity: meridian_ids::WorldEntityId(1),
        sequence: 1,
    };
    record(SpanRecord {
        context: probe.context(ProbeSpan::ZoneTick),
        ..span(ProbeSpan::ZoneTick.name(), true)
    });
    let call = tracing::info_span!(target: "meridian_child", "call");
    call.in_scope(|| tracing::error!(target: "meridian_child", "it broke"));
    drop(call);
    drop(guard);
    assert!(!is_tracing());
}

#[test]
fn a_process_exports_its_spans_and_metrics_when_it_ends() {
    let collector = Collector::http(Manners::default());
    let (is_done, log) = run_child(&to_collector(collector.address, "http/protobuf"));
    assert!(is_done, "{log}");
    assert_eq!(collector.span("zone.tick").name, "zone.tick");
    // Not sampled, and below the log's filter: exported for its error.
    assert_eq!(collector.span("call").events.len(), 1);
    assert!(
        collector
            .span_resource("service.name")
            .iter()
            .all(|name| name == "meridian-child")
    );
    assert!(log.contains("\"message\":\"it broke\""), "{log}");
    let exported = collector.metric("meridian_telemetry_spans_exported_total");
    assert!(exported.is_some(), "its own metrics are pushed too");
}

#[test]
fn a_process_with_a_wrong_environment_says_what_is_wrong() {
    let (is_done, log) = run_child(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "collector".to_owned())]);
    assert!(!is_done);
    assert!(log.contains("OTEL_EXPORTER_OTLP_ENDPOINT is `collector`"), "{log}");
}
