//! Takes spans in: the OTLP trace service over gRPC, for loopback and for a run.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use super::Span;

/// Spans kept: those of 400 bots for some minutes, in some hundred megabytes.
const SPANS_MAX: usize = 2_000_000;
/// Bytes of a request at most: a batch of a few thousand spans.
const REQUEST_BYTES_MAX: usize = 16 << 20;

/// What came.
#[derive(Default)]
pub(super) struct Collected {
    pub(super) spans: Vec<Span>,
    pub(super) not_kept: u64,
}

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Collected>>);

#[tonic::async_trait]
impl TraceService for Sink {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut collected = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for of_resource in request.into_inner().resource_spans {
            let process = process_of(of_resource.resource.as_ref());
            for span in of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                if collected.spans.len() >= SPANS_MAX {
                    collected.not_kept += 1;
                    continue;
                }
                let took_ns = span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano);
                let is_error = span
                    .status
                    .as_ref()
                    .is_some_and(|status| status.code() == StatusCode::Error);
                collected.spans.push(Span {
                    trace: hex(&span.trace_id),
                    span: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                    name: span.name,
                    process: process.clone(),
                    began_us: span.start_time_unix_nano / 1_000,
                    took_us: took_ns / 1_000,
                    is_error,
                });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// Collects until `end`.
pub(super) async fn collect(
    listen: SocketAddr,
    listening: impl FnOnce(SocketAddr),
    end: impl Future<Output = ()>,
) -> anyhow::Result<Collected> {
    let incoming = TcpIncoming::bind(listen)
        .with_context(|| format!("cannot listen on {listen}; pass --listen with another port (0 picks a free one)"))?;
    listening(incoming.local_addr().context("the collector has no address")?);
    let sink = Sink::default();
    let service = TraceServiceServer::new(sink.clone()).max_decoding_message_size(REQUEST_BYTES_MAX);
    let served = Server::builder().serve_with_incoming(service, incoming);
    tokio::select! {
        served = served => served.context("the collector ended")?,
        () = end => {}
    }
    let mut collected = sink.0.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(std::mem::take(&mut *collected))
}

fn process_of(resource: Option<&Resource>) -> String {
    let text = |key: &str| {
        let attributes = &resource?.attributes;
        let value = attributes
            .iter()
            .find(|attribute| attribute.key == key)?
            .value
            .as_ref()?;
        match value.value.as_ref()? {
            Value::StringValue(text) => Some(text.clone()),
            _ => None,
        }
    };
    let part = |key| text(key).unwrap_or_default();
    format!("{}/{}", part("service.name"), part("service.instance.id"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
