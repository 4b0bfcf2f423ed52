//! Takes spans in: the OTLP trace service over gRPC, for loopback and for a run.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use meridian_telemetry::span_definitions::{ATTRIBUTE_ENTITY, ATTRIBUTE_SEQUENCE};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span as Message;
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
                collected.spans.push(to_span(span, process.clone()));
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

fn to_span(message: Message, process: String) -> Span {
    let took_ns = message.end_time_unix_nano.saturating_sub(message.start_time_unix_nano);
    let is_error = message
        .status
        .as_ref()
        .is_some_and(|status| status.code() == StatusCode::Error);
    let sequence = match value_of(&message.attributes, ATTRIBUTE_SEQUENCE) {
        Some(Value::IntValue(sequence)) => u32::try_from(*sequence).ok(),
        _ => None,
    };
    Span {
        trace: hex(&message.trace_id),
        span: hex(&message.span_id),
        parent: hex(&message.parent_span_id),
        entity: text_of(&message.attributes, ATTRIBUTE_ENTITY),
        sequence,
        name: message.name,
        process,
        began_us: message.start_time_unix_nano / 1_000,
        took_us: took_ns / 1_000,
        is_error,
    }
}

fn process_of(resource: Option<&Resource>) -> String {
    let attributes = resource
        .map(|resource| resource.attributes.as_slice())
        .unwrap_or_default();
    let part = |key| text_of(attributes, key);
    format!("{}/{}", part("service.name"), part("service.instance.id"))
}

fn value_of<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Value> {
    let attribute = attributes.iter().find(|attribute| attribute.key == key)?;
    attribute.value.as_ref()?.value.as_ref()
}

/// An attribute that is text; empty if there is none.
fn text_of(attributes: &[KeyValue], key: &str) -> String {
    match value_of(attributes, key) {
        Some(Value::StringValue(text)) => text.clone(),
        _ => String::new(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use meridian_ids::WorldEntityId;
    use meridian_telemetry::{ProbeSpan, ProbeTrace};
    use opentelemetry_proto::tonic::common::v1::AnyValue;

    use super::*;

    #[test]
    fn a_span_keeps_whose_action_it_tells_of() {
        let probe = ProbeTrace {
            entity: WorldEntityId(0x1_0000_0003),
            sequence: 43,
        };
        let now = Instant::now();
        let leg = probe.leg(ProbeSpan::GatewayReceive, (now, now));
        let attribute = |key: &str, value| KeyValue {
            key: key.to_owned(),
            value: Some(AnyValue { value: Some(value) }),
            ..KeyValue::default()
        };
        let message = Message {
            span_id: leg.context.span.to_be_bytes().to_vec(),
            attributes: vec![
                attribute(ATTRIBUTE_ENTITY, Value::StringValue(probe.entity.to_string())),
                attribute(ATTRIBUTE_SEQUENCE, Value::IntValue(43)),
            ],
            ..Message::default()
        };
        let span = to_span(message, "loadgen/1".to_owned());
        assert_eq!((span.entity.as_str(), span.sequence), ("e100000003", Some(43)));
        assert_eq!(span.span, format!("{:016x}", leg.context.span));
        assert_eq!(to_span(Message::default(), String::new()).sequence, None);
    }
}
