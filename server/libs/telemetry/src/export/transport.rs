//! OTLP over gRPC and over HTTP (<https://opentelemetry.io/docs/specs/otlp/>).

use std::time::Duration;

use opentelemetry_proto::tonic::collector::{
    metrics::v1::{
        ExportMetricsServiceRequest, ExportMetricsServiceResponse, metrics_service_client::MetricsServiceClient,
    },
    trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse, trace_service_client::TraceServiceClient},
};
use prost::Message;
use tonic::{
    Code, Request, Status,
    metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap},
    transport::{Channel, Endpoint},
};

use crate::settings::{Destination, Protocol};

/// Bytes of an answer that are read: there is a message of a few lines in it at most.
const ANSWER_BYTES_MAX: u64 = 65_536;

/// The media type of OTLP's messages.
const PROTOBUF: &str = "application/x-protobuf";

/// A request that the collector did not take.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct SendError {
    /// Whether the same request may succeed later.
    pub(crate) is_retryable: bool,
    text: String,
}

/// The way to one collector for one signal.
pub(crate) enum Transport {
    Grpc {
        channel: Channel,
        metadata: MetadataMap,
    },
    Http {
        agent: ureq::Agent,
        destination: Destination,
    },
}

impl Transport {
    /// Connects when something is sent first. Must be called within a runtime.
    pub(crate) fn new(destination: &Destination) -> Result<Self, SendError> {
        match destination.protocol {
            Protocol::Grpc => {
                let endpoint = Endpoint::from_shared(destination.endpoint.clone()).map_err(SendError::lasting)?;
                Ok(Self::Grpc {
                    channel: endpoint.connect_timeout(destination.timeout).connect_lazy(),
                    metadata: to_metadata(&destination.headers),
                })
            }
            Protocol::HttpProtobuf => {
                // No proxy: a collector is near, and one that is not is asked for by its address. Redirects could lead anywhere.
                let agent = ureq::Agent::config_builder()
                    .http_status_as_error(false)
                    .max_redirects(0)
                    .proxy(None)
                    .timeout_global(Some(destination.timeout))
                    .build()
                    .new_agent();
                Ok(Self::Http {
                    agent,
                    destination: destination.clone(),
                })
            }
        }
    }

    /// Sends spans within the limit; the number of those that the collector refused for good.
    pub(crate) async fn send_spans(
        &self,
        request: ExportTraceServiceRequest,
        limit: Duration,
    ) -> Result<u64, SendError> {
        let response = match self {
            Self::Grpc { channel, metadata } => {
                let mut client = TraceServiceClient::new(channel.clone());
                within(limit, client.export(with_metadata(request, metadata))).await?
            }
            Self::Http { .. } => {
                let answer = self.post(request.encode_to_vec(), limit).await?;
                ExportTraceServiceResponse::decode(answer.as_slice()).unwrap_or_default()
            }
        };
        let rejected = response.partial_success.map_or(0, |partial| partial.rejected_spans);
        Ok(u64::try_from(rejected).unwrap_or(0))
    }

    /// Sends metrics within the limit; the number of points that the collector refused for good.
    pub(crate) async fn send_metrics(
        &self,
        request: ExportMetricsServiceRequest,
        limit: Duration,
    ) -> Result<u64, SendError> {
        let response = match self {
            Self::Grpc { channel, metadata } => {
                let mut client = MetricsServiceClient::new(channel.clone());
                within(limit, client.export(with_metadata(request, metadata))).await?
            }
            Self::Http { .. } => {
                let answer = self.post(request.encode_to_vec(), limit).await?;
                ExportMetricsServiceResponse::decode(answer.as_slice()).unwrap_or_default()
            }
        };
        let rejected = response
            .partial_success
            .map_or(0, |partial| partial.rejected_data_points);
        Ok(u64::try_from(rejected).unwrap_or(0))
    }

    async fn post(&self, body: Vec<u8>, limit: Duration) -> Result<Vec<u8>, SendError> {
        let Self::Http { agent, destination } = self else {
            return Err(SendError::lasting("not an HTTP transport"));
        };
        let (agent, destination) = (agent.clone(), destination.clone());
        let request = tokio::task::spawn_blocking(move || post_blocking(&agent, &destination, &body));
        match tokio::time::timeout(limit, request).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Err(SendError::passing(error)),
            Err(_) => Err(SendError::late(limit)),
        }
    }
}

fn post_blocking(agent: &ureq::Agent, destination: &Destination, body: &[u8]) -> Result<Vec<u8>, SendError> {
    let mut request = agent.post(&destination.endpoint).content_type(PROTOBUF);
    for (key, value) in &destination.headers {
        request = request.header(key, value);
    }
    let mut response = request.send(body).map_err(SendError::passing)?;
    let status = response.status().as_u16();
    match status {
        200..=299 => {
            let answer = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
            // The collector has taken it, whatever it says besides.
            Ok(answer.unwrap_or_default())
        }
        // What the protocol names as retryable.
        429 | 502 | 503 | 504 => Err(SendError::passing(format!("HTTP status {status}"))),
        _ => Err(SendError::lasting(format!("HTTP status {status}"))),
    }
}

/// The answer of a gRPC call, if it comes within the limit.
async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, SendError> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(SendError::from(status)),
        Err(_) => Err(SendError::late(limit)),
    }
}

fn with_metadata<T>(message: T, metadata: &MetadataMap) -> Request<T> {
    let mut request = Request::new(message);
    *request.metadata_mut() = metadata.clone();
    request
}

/// Settings let only sendable headers through.
fn to_metadata(headers: &[(String, String)]) -> MetadataMap {
    let mut metadata = MetadataMap::new();
    for (key, value) in headers {
        if let (Ok(key), Ok(value)) = (key.parse::<AsciiMetadataKey>(), value.parse::<AsciiMetadataValue>()) {
            metadata.insert(key, value);
        }
    }
    metadata
}

impl SendError {
    fn passing(error: impl std::fmt::Display) -> Self {
        Self {
            is_retryable: true,
            text: error.to_string(),
        }
    }

    fn lasting(error: impl std::fmt::Display) -> Self {
        Self {
            is_retryable: false,
            text: error.to_string(),
        }
    }

    fn late(limit: Duration) -> Self {
        Self::passing(format!("no answer within {} ms", limit.as_millis()))
    }
}

impl From<Status> for SendError {
    /// The codes that the protocol names as retryable.
    fn from(status: Status) -> Self {
        let is_retryable = matches!(
            status.code(),
            Code::Cancelled
                | Code::DeadlineExceeded
                | Code::ResourceExhausted
                | Code::Aborted
                | Code::OutOfRange
                | Code::Unavailable
                | Code::DataLoss
        );
        Self {
            is_retryable,
            text: format!("gRPC status {:?}: {}", status.code(), status.message()),
        }
    }
}
