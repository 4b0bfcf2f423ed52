//! `status`: whether the server takes calls, as gRPC's health service tells it.

use std::fmt;

use meridian_telemetry::TraceContext;
use serde::Serialize;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::{Context, Ended};
use crate::client::{Answer, CallKind, Client, Latency};
use crate::error::CliError;
use crate::trace::Action;

/// The service that is asked for.
const SERVICE: &str = "meridian.v1.GameServer";

#[derive(Serialize)]
struct StatusResult {
    command: &'static str,
    server: String,
    service: &'static str,
    status: &'static str,
    #[serde(flatten)]
    latency: Latency,
}

impl fmt::Display for StatusResult {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let service = if self.service.is_empty() {
            "the server"
        } else {
            self.service
        };
        writeln!(
            formatter,
            "{}: {service} is {}",
            self.server,
            self.status.replace('_', " ")
        )?;
        write!(formatter, "  {}  trace {}", self.latency, self.latency.trace_id)
    }
}

/// Asks for the game's service, and for the server as a whole if it does not tell of that.
pub async fn run(context: &mut Context) -> Result<(), Ended> {
    let trace = context.begin(Action::STATUS);
    let client = context.client().await?;
    let mut service = SERVICE;
    let mut answer = check(&client, service, trace).await;
    if matches!(&answer, Err(CliError::Refused(status)) if status.code() == Code::NotFound) {
        service = "";
        answer = check(&client, service, trace).await;
    }
    let Answer { value: status, latency } = answer?;
    let result = StatusResult {
        command: "status",
        server: client.server().to_owned(),
        service,
        status: match status {
            ServingStatus::Serving => "serving",
            ServingStatus::NotServing => "not_serving",
            ServingStatus::Unknown | ServingStatus::ServiceUnknown => "unknown",
        },
        latency: context.answered(latency, trace),
    };
    context.output.result(&result)?;
    match status {
        ServingStatus::Serving => Ok(()),
        _ => Err(CliError::NotServing { server: result.server }.into()),
    }
}

async fn check(client: &Client, service: &str, trace: TraceContext) -> Result<Answer<ServingStatus>, CliError> {
    let message = HealthCheckRequest {
        service: service.to_owned(),
    };
    let request = client.request(message, None, trace, CallKind::Single)?;
    let mut health = HealthClient::new(client.channel());
    let answer = client.answer(health.check(request)).await?;
    Ok(Answer {
        value: answer.value.status(),
        latency: answer.latency,
    })
}
