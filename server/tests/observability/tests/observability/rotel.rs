//! rotel: a collector that can be run here, between those who push spans and a sink that keeps them in memory. It stands in for the
//! reference Collector's way from OTLP to OTLP, and for nothing else of it.

use std::{
    io::Read as _,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_client::TraceServiceClient,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message as _;
use tonic::transport::server::TcpIncoming;

use crate::support::{Running, free_port, installed};

/// Keeps every span that is exported to it, over gRPC or HTTP, until it is dropped.
pub struct Sink {
    /// Where OTLP over gRPC is taken; uncompressed.
    pub grpc: SocketAddr,
    /// Where OTLP over HTTP is taken, at /v1/traces; plain or gzip.
    pub http: SocketAddr,
    keeper: Keeper,
    _runtime: tokio::runtime::Runtime,
}

impl Sink {
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let keeper = Keeper::default();
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let _inside = runtime.enter();
        let over_grpc = TcpIncoming::bind(free).unwrap();
        let grpc = over_grpc.local_addr().unwrap();
        let service = TraceServiceServer::new(keeper.clone());
        runtime.spawn(tonic::transport::Server::builder().serve_with_incoming(service, over_grpc));

        let over_http = runtime.block_on(tokio::net::TcpListener::bind(free)).unwrap();
        let http = over_http.local_addr().unwrap();
        let router = axum::Router::new()
            .route("/v1/traces", axum::routing::post(take))
            .with_state(keeper.clone());
        runtime.spawn(axum::serve(over_http, router).into_future());
        Self {
            grpc,
            http,
            keeper,
            _runtime: runtime,
        }
    }

    /// What OTEL_EXPORTER_OTLP_ENDPOINT is for those who push to it over gRPC.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.grpc)
    }

    /// All that came so far, with whose it is.
    pub fn spans(&self) -> Vec<(Resource, Span)> {
        let kept = self.keeper.0.lock().unwrap_or_else(PoisonError::into_inner);
        let spans = kept.iter().flat_map(|of_resource| {
            let resource = of_resource.resource.clone().unwrap_or_default();
            let spans = of_resource.scope_spans.iter().flat_map(|scope| scope.spans.clone());
            spans.map(move |span| (resource.clone(), span))
        });
        spans.collect()
    }
}

#[derive(Clone, Default)]
struct Keeper(Arc<Mutex<Vec<ResourceSpans>>>);

impl Keeper {
    fn keep(&self, request: ExportTraceServiceRequest) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(request.resource_spans);
    }
}

#[tonic::async_trait]
impl TraceService for Keeper {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        self.keep(request.into_inner());
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

/// OTLP over HTTP, as protobuf.
async fn take(State(keeper): State<Keeper>, headers: HeaderMap, body: Bytes) -> Result<Vec<u8>, StatusCode> {
    let mut plain = Vec::new();
    if headers
        .get("content-encoding")
        .is_some_and(|encoding| encoding == "gzip")
    {
        let unpacked = flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut plain);
        unpacked.map_err(|_| StatusCode::BAD_REQUEST)?;
    } else {
        plain.extend_from_slice(&body);
    }
    let request = ExportTraceServiceRequest::decode(&plain[..]).map_err(|_| StatusCode::BAD_REQUEST)?;
    keeper.keep(request);
    Ok(ExportTraceServiceResponse::default().encode_to_vec())
}

/// rotel, which passes on to a sink what it is sent over gRPC and HTTP.
pub struct Rotel {
    running: Running,
    _folder: tempfile::TempDir,
    /// What OTEL_EXPORTER_OTLP_ENDPOINT is for those who push over gRPC.
    pub grpc: String,
    /// And over HTTP; traces go to /v1/traces.
    pub http: String,
}

impl Rotel {
    pub fn start(sink: &Sink) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (grpc, http) = (
            format!("127.0.0.1:{}", free_port()),
            format!("127.0.0.1:{}", free_port()),
        );
        let mut command = crate::support::command(&installed("rotel-agent"));
        command
            .arg("start")
            .args(["--otlp-grpc-endpoint", &grpc, "--otlp-http-endpoint", &http]);
        command.args(["--exporter", "otlp", "--otlp-exporter-protocol", "http"]);
        // Only spans are sent, but it asks for the address of each kind.
        for kind in ["traces", "metrics", "logs"] {
            let endpoint = format!("http://{}/v1/{kind}", sink.http);
            command.args([&format!("--otlp-exporter-{kind}-endpoint"), &endpoint]);
        }
        // This version compresses whatever it is told, and tonic's half of the sink takes nothing compressed: so it is sent to over HTTP.
        command.args(["--batch-timeout", "100ms"]);
        let mut running = Running::start("rotel", folder.path(), &mut command);
        running.until("listens", || {
            let connect = |address: &str| std::net::TcpStream::connect(address).map_err(|error| error.to_string());
            connect(&grpc).and(connect(&http))
        });
        Self {
            running,
            _folder: folder,
            grpc: format!("http://{grpc}"),
            http: format!("http://{http}"),
        }
    }
}

/// A request with one span of this name.
fn one_span(name: &str) -> ExportTraceServiceRequest {
    let span = Span {
        trace_id: vec![7; 16],
        span_id: vec![name.len() as u8; 8],
        name: name.to_owned(),
        start_time_unix_nano: 1_000_000_000,
        end_time_unix_nano: 2_000_000_000,
        ..Span::default()
    };
    let scope_spans = vec![ScopeSpans {
        spans: vec![span],
        ..ScopeSpans::default()
    }];
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource::default()),
            scope_spans,
            ..ResourceSpans::default()
        }],
    }
}

fn push_over_grpc(endpoint: &str, name: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut client = TraceServiceClient::connect(endpoint.to_owned()).await.unwrap();
        client.export(one_span(name)).await.unwrap();
    });
}

#[test]
fn spans_pass_a_collector_from_grpc_and_from_http() {
    let sink = Sink::start();
    let mut rotel = Rotel::start(&sink);

    push_over_grpc(&rotel.grpc, "over gRPC");
    let sent = ureq::post(&format!("{}/v1/traces", rotel.http))
        .header("content-type", "application/x-protobuf")
        .send(&one_span("over HTTP, too").encode_to_vec()[..])
        .unwrap();
    assert_eq!(sent.status(), 200);

    let names = rotel.running.until("both spans in the sink", || {
        let mut names: Vec<String> = sink.spans().into_iter().map(|(_, span)| span.name).collect();
        names.sort();
        if names.len() < 2 {
            Err(format!("{names:?}"))
        } else {
            Ok(names)
        }
    });
    assert_eq!(names, ["over HTTP, too", "over gRPC"]);
    assert!(sink.spans().iter().all(|(_, span)| span.trace_id == [7; 16]));
}

#[test]
fn the_sink_takes_spans_without_a_collector_between() {
    let sink = Sink::start();
    push_over_grpc(&sink.endpoint(), "direct");
    let spans = sink.spans();
    assert_eq!(spans.len(), 1);
    assert_eq!(spans[0].1.name, "direct");
}
