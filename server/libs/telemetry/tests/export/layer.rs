//! Spans of the `tracing` crate.

use meridian_telemetry::{TraceContext, context_of, continue_from};
use opentelemetry_proto::tonic::{
    common::v1::any_value::Value,
    trace::v1::{span::SpanKind, status::StatusCode},
};
use tracing::{Level, field::Empty, info_span, span};
use tracing_subscriber::{Registry, layer::SubscriberExt};

use crate::{
    Fixture, PATIENCE,
    collector::{Collector, Manners, text, value},
    to_collector,
};

/// What `act` does arrives at a collector.
fn traced(sampler: &str, act: impl FnOnce()) -> Collector {
    let collector = Collector::grpc(Manners::default());
    let mut variables = to_collector(collector.address, "grpc");
    variables.push(("OTEL_TRACES_SAMPLER", sampler.to_owned()));
    variables.push(("OTEL_TRACES_SAMPLER_ARG", "0".to_owned()));
    let fixture = Fixture::start(&variables);
    let subscriber = Registry::default().with(fixture.exporter.span_layer::<Registry>());
    tracing::subscriber::with_default(subscriber, act);
    assert!(fixture.exporter.flush(PATIENCE));
    collector
}

#[test]
fn a_call_and_what_it_does_are_one_trace() {
    let mut sent = None;
    let collector = traced("always_on", || {
        let call = info_span!(
            target: "meridian_front",
            "call",
            otel.name = "meridian.v1.GameServer/Move",
            otel.kind = "server",
            rpc.method = "Move",
            rpc.response.status_code = Empty
        );
        sent = context_of(&call);
        call.in_scope(|| info_span!(target: "meridian_front", "inner").in_scope(|| {}));
        call.record("rpc.response.status_code", 5);
    });
    let (call, inner) = (collector.span("meridian.v1.GameServer/Move"), collector.span("inner"));
    let sent = sent.unwrap();
    assert!(sent.is_sampled);
    assert_eq!(call.trace_id, sent.trace.to_be_bytes());
    assert_eq!(call.span_id, sent.span.to_be_bytes());
    assert_eq!(
        (&inner.trace_id, &inner.parent_span_id),
        (&call.trace_id, &call.span_id)
    );
    assert_eq!(call.kind, SpanKind::Server as i32);
    assert_eq!(text(&call.attributes, "rpc.method"), "Move");
    assert_eq!(
        value(&call.attributes, "rpc.response.status_code"),
        Some(Value::IntValue(5))
    );
    assert!(call.start_time_unix_nano <= inner.start_time_unix_nano);
    assert!(inner.end_time_unix_nano <= call.end_time_unix_nano);
    assert_eq!(collector.span_resource("service.name"), ["meridian-test"]);
}

#[test]
fn a_trace_that_began_elsewhere_goes_on_and_keeps_its_decision() {
    let remote = [true, false].map(TraceContext::new_root);
    let mut continued = Vec::new();
    let collector = traced("parentbased_traceidratio", || {
        for remote in remote {
            let call = info_span!(target: "meridian_front", "call");
            continue_from(&call, remote);
            continued.push(context_of(&call).unwrap());
            call.in_scope(|| {});
        }
        info_span!(target: "meridian_front", "root").in_scope(|| {});
    });
    let spans = collector.spans();
    assert_eq!(spans.len(), 1, "one of two parents is sampled, and no root");
    assert_eq!(spans[0].trace_id, remote[0].trace.to_be_bytes());
    assert_eq!(spans[0].parent_span_id, remote[0].span.to_be_bytes());
    for (context, remote) in continued.iter().zip(&remote) {
        assert_eq!((context.trace, context.is_sampled), (remote.trace, remote.is_sampled));
        assert_ne!(context.span, remote.span);
    }
}

#[test]
fn errors_are_always_exported() {
    let collector = traced("parentbased_traceidratio", || {
        for index in 0..100 {
            info_span!(target: "meridian_front", "fine").in_scope(|| {});
            if index % 50 == 0 {
                let failed = info_span!(target: "meridian_front", "failed", otel.status_code = "ERROR", otel.status_description = "no zone");
                failed.in_scope(|| {});
                let logged = info_span!(target: "meridian_front", "logged");
                logged.in_scope(|| tracing::error!(target: "meridian_front", "it broke"));
            }
        }
    });
    let mut names: Vec<String> = collector.spans().into_iter().map(|span| span.name).collect();
    names.sort();
    assert_eq!(names, ["failed", "failed", "logged", "logged"]);
    let status = collector.span("failed").status.unwrap();
    assert_eq!(
        (status.code, status.message.as_str()),
        (StatusCode::Error as i32, "no zone")
    );
}

#[test]
fn only_this_projects_spans_from_info_up_are_exported() {
    let collector = traced("always_on", || {
        span!(target: "h2::codec", Level::INFO, "library").in_scope(|| {
            span!(target: "meridian_zone", Level::DEBUG, "detail").in_scope(|| {});
            span!(target: "meridian_zone", Level::INFO, "ours").in_scope(|| {});
            span!(target: "meridian_zone", Level::WARN, "worse").in_scope(|| {});
        });
    });
    let names: Vec<String> = collector.spans().into_iter().map(|span| span.name).collect();
    assert_eq!(names, ["ours", "worse"]);
    assert!(
        collector.span("ours").parent_span_id.is_empty(),
        "what is not exported is no parent"
    );
}

#[test]
fn without_an_exporter_a_span_has_no_place() {
    let outside = info_span!(target: "meridian_front", "outside");
    continue_from(&outside, TraceContext::new_root(true));
    assert_eq!(context_of(&outside), None);
}
