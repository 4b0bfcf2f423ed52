//! OTLP over gRPC and over HTTP (<https://opentelemetry.io/docs/specs/otlp/>).

use opentelemetry_proto::tonic::collector::{
    metrics::v1::{
        ExportMetricsServiceRequest, ExportMetricsServiceResponse, metrics_service_client::MetricsServiceClient,
    },
    trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse, trace_service_client::TraceServiceClient},
};
use prost::Message;
use tonic::{
    Request,
    metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap},
    transport::{Channel, Endpoint},
};

use super::SendError;
use crate::settings::{Destination, Protocol};

/// Bytes of an answer that are read: there is a message of a few lines in it at most.
const ANSWER_BYTES_MAX: u64 = 65_536;

/// Characters of a collector's message that are kept: a line of a log.
const MESSAGE_LENGTH_MAX: usize = 200;

/// The media type of OTLP's messages.
const PROTOBUF: &str = "application/x-protobuf";

/// What a collector said of a request that it took.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// How many spans or points it refused for good.
    pub(crate) rejected: u64,
    /// Why, in its own words.
    pub(crate) message: String,
}

/// The way to one collector for one signal.
pub(crate) enum Transport {
    Grpc {
        endpoint: Box<Endpoint>,
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
                let endpoint = endpoint.connect_timeout(destination.timeout);
                Ok(Self::Grpc {
                    channel: endpoint.connect_lazy(),
                    endpoint: Box::new(endpoint),
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
                    .tls_config(destination.tls.clone().unwrap_or_default())
                    .build()
                    .new_agent();
                Ok(Self::Http {
                    agent,
                    destination: destination.clone(),
                })
            }
        }
    }

    /// Gives up the connection that an answer did not come on in time: it may be dead, which the system finds out after a quarter of
    /// an hour. The next request gets a new one. Pings would find it out too, but collectors close connections for those.
    pub(crate) fn renew(&mut self) {
        match self {
            Self::Grpc { endpoint, channel, .. } => *channel = endpoint.connect_lazy(),
            // A connection whose answer was late is not used again anyway.
            Self::Http { .. } => {}
        }
    }

    /// Sends spans. Takes as long as the collector does: the caller sets the limit, and calls [`Self::renew`] after it.
    pub(crate) async fn send_spans(&self, request: ExportTraceServiceRequest) -> Result<Answer, SendError> {
        let response = match self {
            Self::Grpc { channel, metadata, .. } => {
                let mut client = TraceServiceClient::new(channel.clone());
                client.export(with_metadata(request, metadata)).await?.into_inner()
            }
            Self::Http { .. } => {
                let answer = self.post(request.encode_to_vec()).await?;
                ExportTraceServiceResponse::decode(answer.as_slice()).unwrap_or_default()
            }
        };
        Ok(response.partial_success.map_or_else(Answer::default, |partial| {
            Answer::new(partial.rejected_spans, &partial.error_message)
        }))
    }

    /// Sends metrics, as [`Self::send_spans`] does spans.
    pub(crate) async fn send_metrics(&self, request: ExportMetricsServiceRequest) -> Result<Answer, SendError> {
        let response = match self {
            Self::Grpc { channel, metadata, .. } => {
                let mut client = MetricsServiceClient::new(channel.clone());
                client.export(with_metadata(request, metadata)).await?.into_inner()
            }
            Self::Http { .. } => {
                let answer = self.post(request.encode_to_vec()).await?;
                ExportMetricsServiceResponse::decode(answer.as_slice()).unwrap_or_default()
            }
        };
        Ok(response.partial_success.map_or_else(Answer::default, |partial| {
            Answer::new(partial.rejected_data_points, &partial.error_message)
        }))
    }

    async fn post(&self, body: Vec<u8>) -> Result<Vec<u8>, SendError> {
        let Self::Http { agent, destination } = self else {
            return Err(SendError::lasting("not an HTTP transport"));
        };
        let (agent, destination) = (agent.clone(), destination.clone());
        let request = tokio::task::spawn_blocking(move || post_blocking(&agent, &destination, &body));
        request.await.unwrap_or_else(|error| Err(SendError::passing(error)))
    }
}

impl Answer {
    fn new(rejected: i64, message: &str) -> Self {
        Self {
            rejected: u64::try_from(rejected).unwrap_or(0),
            message: message.chars().take(MESSAGE_LENGTH_MAX).collect(),
        }
    }
}

fn post_blocking(agent: &ureq::Agent, destination: &Destination, body: &[u8]) -> Result<Vec<u8>, SendError> {
    let mut request = agent.post(&destination.endpoint).content_type(PROTOBUF);
    for (key, value) in &destination.headers {
        request = request.header(key, value);
    }
    let mut response = request.send(body)?;
    let status = response.status();
    if status.is_success() {
        let answer = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
        // The collector has taken it, whatever it says besides.
        return Ok(answer.unwrap_or_default());
    }
    let retry_after = response.headers().get("retry-after");
    let retry_after = retry_after.and_then(|value| value.to_str().ok());
    Err(SendError::of_http_status(status.as_u16(), retry_after))
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
