//! A collector: the real services of OTLP over gRPC or HTTP, which keep what they are sent.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::IntoResponse,
    routing::post,
};
use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::{
            ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    common::v1::{KeyValue, any_value::Value},
    metrics::v1::{Metric, metric::Data},
    trace::v1::Span,
};
use prost::Message;
use tokio::runtime::Runtime;
use tonic::{Code, Request, Response, Status, transport::server::TcpIncoming};

use crate::free_port::free_port;

/// A port that the system chooses.
const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// How a collector treats what it is sent.
#[derive(Clone, Copy, Default)]
pub(crate) struct Manners {
    /// How late it answers.
    pub(crate) delay: Duration,
    /// How many spans of each request it says it refuses.
    pub(crate) rejected: i64,
    /// The HTTP status that it answers with instead of success.
    pub(crate) status: Option<u16>,
    /// How many points of each push it says it refuses.
    pub(crate) rejected_points: i64,
    /// After how many seconds it asks to come back when it answers with `status`.
    pub(crate) retry_after: Option<u64>,
    /// How many requests it answers with `status`; 0 is all of them.
    pub(crate) refusals: usize,
}

/// What a collector was sent.
#[derive(Default)]
pub(crate) struct Received {
    pub(crate) traces: Vec<ExportTraceServiceRequest>,
    pub(crate) metrics: Vec<ExportMetricsServiceRequest>,
    /// The header `key` of each request.
    pub(crate) keys: Vec<Option<String>>,
    /// Requests that came, also those that were not taken.
    pub(crate) requests: usize,
    /// When each came.
    times: Vec<Instant>,
}

/// A running collector. Dropping it closes its port and its connections.
pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    received: Arc<Mutex<Received>>,
    runtime: Option<Runtime>,
}

#[derive(Clone)]
struct Service {
    received: Arc<Mutex<Received>>,
    manners: Manners,
}

/// A port that nobody listens on any more.
pub(crate) fn free_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

impl Collector {
    pub(crate) fn grpc(manners: Manners) -> Self {
        Self::grpc_at(ANY_PORT, manners)
    }

    pub(crate) fn grpc_at(address: SocketAddr, manners: Manners) -> Self {
        Self::start(address, manners, |listener, service| async move {
            let incoming = TcpIncoming::from(listener);
            let server = tonic::transport::Server::builder()
                .add_service(TraceServiceServer::new(service.clone()))
                .add_service(MetricsServiceServer::new(service));
            server.serve_with_incoming(incoming).await.unwrap();
        })
    }

    pub(crate) fn http(manners: Manners) -> Self {
        Self::start(ANY_PORT, manners, |listener, service| async move {
            let router = axum::Router::new()
                .route("/v1/traces", post(take_traces))
                .route("/v1/metrics", post(take_metrics))
                .with_state(service);
            axum::serve(listener, router).await.unwrap();
        })
    }

    fn start<F: Future<Output = ()> + Send + 'static>(
        address: SocketAddr,
        manners: Manners,
        serve: impl FnOnce(tokio::net::TcpListener, Service) -> F,
    ) -> Self {
        let received = Arc::default();
        let service = Service {
            received: Arc::clone(&received),
            manners,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind(address)).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(serve(listener, service));
        Self {
            address,
            received,
            runtime: Some(runtime),
        }
    }

    pub(crate) fn received(&self) -> MutexGuard<'_, Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn times(&self) -> Vec<Instant> {
        self.received().times.clone()
    }

    pub(crate) fn span_count(&self) -> usize {
        self.spans().len()
    }

    pub(crate) fn spans(&self) -> Vec<Span> {
        let received = self.received();
        let resources = received.traces.iter().flat_map(|request| &request.resource_spans);
        let scopes = resources.flat_map(|resource| &resource.scope_spans);
        scopes.flat_map(|scope| scope.spans.iter().cloned()).collect()
    }

    pub(crate) fn span(&self, name: &str) -> Span {
        let spans = self.spans();
        let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
        let found = spans.iter().find(|span| span.name == name);
        found
            .unwrap_or_else(|| panic!("no span {name} among {names:?}"))
            .clone()
    }

    /// What all resources of spans say under a key.
    pub(crate) fn span_resource(&self, key: &str) -> Vec<String> {
        let received = self.received();
        let resources = received.traces.iter().flat_map(|request| &request.resource_spans);
        resources
            .map(|resource| text(&resource.resource.as_ref().unwrap().attributes, key))
            .collect()
    }

    /// Points of the last push: a sum, a gauge or a histogram has some.
    pub(crate) fn point_count(&self) -> u64 {
        let received = self.received();
        let resources = received.metrics.last().unwrap().resource_metrics.iter();
        let metrics = resources
            .flat_map(|resource| &resource.scope_metrics)
            .flat_map(|scope| &scope.metrics);
        let counts = metrics.map(|metric| match metric.data.as_ref().unwrap() {
            Data::Gauge(gauge) => gauge.data_points.len(),
            Data::Sum(sum) => sum.data_points.len(),
            Data::Histogram(histogram) => histogram.data_points.len(),
            other => panic!("{other:?} is not pushed"),
        });
        counts.sum::<usize>() as u64
    }

    /// The metric of this name in the last push.
    pub(crate) fn metric(&self, name: &str) -> Option<Metric> {
        let received = self.received();
        let scopes = received
            .metrics
            .last()?
            .resource_metrics
            .iter()
            .flat_map(|resource| &resource.scope_metrics);
        scopes
            .flat_map(|scope| &scope.metrics)
            .find(|metric| metric.name == name)
            .cloned()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

pub(crate) fn value(attributes: &[KeyValue], key: &str) -> Option<Value> {
    let attribute = attributes.iter().find(|attribute| attribute.key == key)?;
    attribute.value.clone()?.value
}

pub(crate) fn text(attributes: &[KeyValue], key: &str) -> String {
    match value(attributes, key) {
        Some(Value::StringValue(text)) => text,
        other => panic!("{key} is {other:?}"),
    }
}

impl Service {
    async fn take(&self, key: Option<String>, keep: impl FnOnce(&mut Received)) -> Result<(), StatusCode> {
        {
            let mut received = self.received.lock().unwrap();
            received.requests += 1;
            received.times.push(Instant::now());
        }
        if !self.manners.delay.is_zero() {
            tokio::time::sleep(self.manners.delay).await;
        }
        let mut received = self.received.lock().unwrap();
        let is_refusing = self.manners.refusals == 0 || received.requests <= self.manners.refusals;
        if let Some(status) = self.manners.status.filter(|_| is_refusing) {
            return Err(StatusCode::from_u16(status).unwrap());
        }
        received.keys.push(key);
        keep(&mut received);
        Ok(())
    }

    fn answer_to_push(&self) -> ExportMetricsServiceResponse {
        let partial_success = (self.manners.rejected_points > 0).then(|| ExportMetricsPartialSuccess {
            rejected_data_points: self.manners.rejected_points,
            error_message: "not all".to_owned(),
        });
        ExportMetricsServiceResponse { partial_success }
    }

    /// A refusal as gRPC has it: 429 is a collector without resources.
    fn refusal(&self, status: StatusCode) -> Status {
        let code = if status == StatusCode::TOO_MANY_REQUESTS {
            Code::ResourceExhausted
        } else {
            Code::Unavailable
        };
        let details = self.manners.retry_after.map_or_else(Vec::new, retry_info);
        Status::with_details(code, status.to_string(), details.into())
    }

    /// A refusal as HTTP has it.
    fn refusal_over_http(&self, status: StatusCode) -> axum::response::Response {
        match self.manners.retry_after {
            Some(seconds) => (status, [("retry-after", seconds.to_string())]).into_response(),
            None => status.into_response(),
        }
    }

    fn answer(&self) -> ExportTraceServiceResponse {
        let partial_success = (self.manners.rejected > 0).then(|| ExportTracePartialSuccess {
            rejected_spans: self.manners.rejected,
            error_message: "not all".to_owned(),
        });
        ExportTraceServiceResponse { partial_success }
    }
}

fn key_of<T>(request: &Request<T>) -> Option<String> {
    Some(request.metadata().get("key")?.to_str().unwrap().to_owned())
}

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let key = key_of(&request);
        let taken = self
            .take(key, |received| received.traces.push(request.into_inner()))
            .await;
        taken.map_err(|status| self.refusal(status))?;
        Ok(Response::new(self.answer()))
    }
}

#[tonic::async_trait]
impl MetricsService for Service {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let key = key_of(&request);
        let taken = self
            .take(key, |received| received.metrics.push(request.into_inner()))
            .await;
        taken.map_err(|status| self.refusal(status))?;
        Ok(Response::new(self.answer_to_push()))
    }
}

fn key_in(headers: &HeaderMap) -> Option<String> {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    Some(headers.get("key")?.to_str().unwrap().to_owned())
}

async fn take_traces(State(service): State<Service>, headers: HeaderMap, body: Bytes) -> axum::response::Response {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    let taken = service.take(key_in(&headers), |received| received.traces.push(request));
    match taken.await {
        Ok(()) => service.answer().encode_to_vec().into_response(),
        Err(status) => service.refusal_over_http(status),
    }
}

async fn take_metrics(State(service): State<Service>, headers: HeaderMap, body: Bytes) -> axum::response::Response {
    let request = ExportMetricsServiceRequest::decode(body).unwrap();
    let taken = service.take(key_in(&headers), |received| received.metrics.push(request));
    match taken.await {
        Ok(()) => service.answer_to_push().encode_to_vec().into_response(),
        Err(status) => service.refusal_over_http(status),
    }
}

/// A `google.rpc.Status` whose one detail is a `google.rpc.RetryInfo`, written field by field.
fn retry_info(seconds: u64) -> Vec<u8> {
    /// A field of bytes, or of a message.
    fn field(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u8::try_from(content.len()).ok().filter(|length| *length < 128).unwrap();
        [&[tag << 3 | 2, length], content].concat()
    }
    let mut delay = vec![1 << 3];
    prost::encode_length_delimiter(usize::try_from(seconds).unwrap(), &mut delay).unwrap();
    let info = field(1, &delay);
    let url = field(1, b"type.googleapis.com/google.rpc.RetryInfo");
    field(3, &[url, field(2, &info)].concat())
}
