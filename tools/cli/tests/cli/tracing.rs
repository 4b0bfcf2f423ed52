//! Each call begins a trace, and its span goes to the collector that the environment names; what is measured goes there too if that is asked for.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tokio::runtime::Runtime;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::program::Program;
use crate::world::{Fault, TestServer};

/// Keeps every span and metric that it is sent.
#[derive(Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
    metrics: Arc<Mutex<Vec<Metric>>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans.into_iter();
        let spans = resources
            .flat_map(|resource| resource.scope_spans)
            .flat_map(|scope| scope.spans);
        self.spans.lock().unwrap().extend(spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let resources = request.into_inner().resource_metrics.into_iter();
        let metrics = resources
            .flat_map(|resource| resource.scope_metrics)
            .flat_map(|scope| scope.metrics);
        self.metrics.lock().unwrap().extend(metrics);
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

impl Collector {
    fn start(&self) -> (Runtime, SocketAddr) {
        let runtime = Runtime::new().unwrap();
        let entered = runtime.enter();
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        drop(entered);
        let address = incoming.local_addr().unwrap();
        let (traces, metrics) = (
            TraceServiceServer::new(self.clone()),
            MetricsServiceServer::new(self.clone()),
        );
        runtime.spawn(async move {
            Server::builder()
                .add_service(traces)
                .add_service(metrics)
                .serve_with_incoming(incoming)
                .await
        });
        (runtime, address)
    }
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_trace_that_is_told_is_the_one_that_the_server_is_given() {
    let server = TestServer::start();
    let cli = Program::of(&server);
    let joined = cli.json(&["join"]).result();
    let moved = cli.json(&["move", "north", "--ticks", "1"]).result();
    let traces = server.world().traces.clone();
    let of = |method| &traces.iter().find(|(called, _)| *called == method).unwrap().1;
    for (method, result) in [("Join", &joined), ("Move", &moved)] {
        let traceparent = of(method);
        assert!(
            traceparent.starts_with(&format!("00-{}-", result["trace_id"].as_str().unwrap())),
            "{traceparent}"
        );
        assert!(traceparent.ends_with("-01") && traceparent.len() == 55, "{traceparent}");
    }
    assert_ne!(joined["trace_id"], moved["trace_id"]);
}

/// An attribute as text; none if it is not there.
fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    let attribute = attributes.iter().find(|attribute| attribute.key == key)?;
    match attribute.value.clone()?.value? {
        any_value::Value::StringValue(text) => Some(text),
        any_value::Value::IntValue(number) => Some(number.to_string()),
        other => panic!("{key} is {other:?}"),
    }
}

/// What a span says that was called.
fn method(span: &Span) -> String {
    attribute(&span.attributes, "rpc.method").unwrap()
}

#[test]
fn spans_of_actions_are_exported_before_the_program_ends() {
    let collector = Collector::default();
    let (_runtime, address) = collector.start();
    let server = TestServer::start();
    let cli = Program::of(&server);
    let run = |arguments: &[&str]| {
        let mut command = cli.command(arguments);
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{address}"));
        command.env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text
            .lines()
            .last()
            .unwrap_or_else(|| panic!("{:?}", output.stderr))
            .to_owned();
        serde_json::from_str::<serde_json::Value>(&line).unwrap()
    };
    let joined = run(&["--json", "join"]);
    let moved = run(&["--json", "move", "north", "--ticks", "1"]);
    let failed = run(&["--json", "move", "--name", "Nobody", "north", "--ticks", "1"]);
    let deadline = Instant::now() + Duration::from_secs(20);
    let find = |name: &str, trace: &serde_json::Value| loop {
        let spans = collector.spans.lock().unwrap().clone();
        let trace = trace.as_str().unwrap();
        if let Some(span) = spans
            .into_iter()
            .find(|span| span.name == name && digits(&span.trace_id) == trace)
        {
            return span;
        }
        assert!(Instant::now() < deadline, "no span {name} of {trace}");
        std::thread::sleep(Duration::from_millis(10));
    };
    find("cli.join", &joined["trace_id"]);
    let span = find("cli.move", &moved["trace_id"]);
    assert_eq!(span.kind, SpanKind::Client as i32);
    assert!(span.parent_span_id.is_empty() && span.end_time_unix_nano > span.start_time_unix_nano);
    assert_eq!(method(&span), "meridian.v1.GameServer/Move");
    let told = |key: &str| attribute(&span.attributes, key);
    assert_eq!(told("rpc.service"), None);
    assert_eq!(told("rpc.response.status_code").as_deref(), Some("OK"));
    assert_eq!(told("server.address"), Some(server.address.ip().to_string()));
    assert_eq!(told("server.port"), Some(server.address.port().to_string()));
    let asked = run(&["--json", "status"]);
    let span = find("cli.status", &asked["trace_id"]);
    assert_eq!(method(&span), "grpc.health.v1.Health/Check");
    let span = find("cli.move", &moved["trace_id"]);
    // The server is given this span as its parent.
    let given = server
        .world()
        .traces
        .iter()
        .find(|(method, _)| *method == "Move")
        .unwrap()
        .1
        .clone();
    assert!(given.contains(&digits(&span.span_id)), "{given}");
    let error = find("cli.move", &failed["trace_id"]);
    for key in ["rpc.response.status_code", "server.address", "server.port"] {
        assert_eq!(attribute(&error.attributes, key), None, "no server was asked");
    }
    assert_eq!(error.status.map(|status| status.message), Some("no_session".to_owned()));
    server.world().fault = Fault::ZoneAway;
    let refused = run(&["--json", "move", "north", "--ticks", "1"]);
    let span = find("cli.move", &refused["trace_id"]);
    let code = attribute(&span.attributes, "rpc.response.status_code");
    assert_eq!(code.as_deref(), Some("UNAVAILABLE"));
}

#[test]
fn how_long_calls_took_is_pushed_at_the_end_if_that_is_asked_for() {
    let collector = Collector::default();
    let (_runtime, address) = collector.start();
    let server = TestServer::start();
    let cli = Program::of(&server);
    let run = |arguments: &[&str], exporter: Option<&str>| {
        let mut command = cli.command(arguments);
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{address}"));
        command.env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
        command.envs(exporter.map(|exporter| ("OTEL_METRICS_EXPORTER", exporter)));
        command.output().unwrap().status.code()
    };
    // Method, code and number of the calls that were measured.
    let pushed = || {
        let metrics = std::mem::take(&mut *collector.metrics.lock().unwrap());
        let mut calls = Vec::new();
        for metric in metrics
            .iter()
            .filter(|metric| metric.name == "meridian_rpc_client_call_seconds")
        {
            let Some(Data::Histogram(histogram)) = &metric.data else {
                panic!("{metric:?}");
            };
            for point in &histogram.data_points {
                let label = |key: &str| attribute(&point.attributes, key).unwrap();
                assert!(point.sum.is_some_and(|sum| sum > 0.0), "{point:?}");
                calls.push((label("method"), label("code"), point.count));
            }
        }
        calls
    };
    let call = |method: &str, code: &str| vec![(method.to_owned(), code.to_owned(), 1)];

    assert_eq!(run(&["join"], None), Some(0));
    assert!(collector.metrics.lock().unwrap().is_empty(), "nobody asked for metrics");
    assert_eq!(run(&["join"], Some("otlp")), Some(0));
    assert_eq!(pushed(), call("Join", "OK"));
    server.world().fault = Fault::ZoneAway;
    assert_eq!(run(&["move", "north", "--ticks", "1"], Some("otlp")), Some(6));
    assert_eq!(pushed(), call("Move", "UNAVAILABLE"));
    assert_eq!(run(&["leave", "--name", "Nobody"], Some("otlp")), Some(4));
    assert!(pushed().is_empty(), "no server was asked");
}
