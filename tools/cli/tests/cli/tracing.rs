//! Each call begins a trace, and its span goes to the collector that the environment names.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tokio::runtime::Runtime;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::program::Program;
use crate::world::TestServer;

/// Keeps every span that it is sent.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Span>>>);

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
        self.0.lock().unwrap().extend(spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    fn start(&self) -> (Runtime, SocketAddr) {
        let runtime = Runtime::new().unwrap();
        let entered = runtime.enter();
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        drop(entered);
        let address = incoming.local_addr().unwrap();
        let service = TraceServiceServer::new(self.clone());
        runtime.spawn(async move {
            Server::builder()
                .add_service(service)
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

/// What a span says that was called.
fn method(span: &Span) -> String {
    let attribute = span.attributes.iter().find(|attribute| attribute.key == "rpc.method");
    let value = attribute.and_then(|attribute| attribute.value.clone()?.value);
    match value {
        Some(any_value::Value::StringValue(method)) => method,
        other => panic!("{other:?} in {span:?}"),
    }
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
        let spans = collector.0.lock().unwrap().clone();
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
    assert!(
        span.attributes.iter().all(|attribute| attribute.key != "rpc.service"),
        "{span:?}"
    );
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
    assert_eq!(error.status.map(|status| status.message), Some("no_session".to_owned()));
}
