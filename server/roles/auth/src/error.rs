//! Why a session is refused, mapped once to HTTP.

use std::time::Duration;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use meridian_session::{ErrorBody, NameError, PROTOCOL_VERSION, error_code};
use meridian_tokens::ResumeError;
use metrics::counter;

use crate::{http::BODY_BYTES_MAX, metric_definitions::SESSIONS_REJECTED, token::TokenError};

/// Why `POST /v1/session` gives no session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error("the body cannot be read: {0}")]
    Body(String),
    #[error("the body is larger than {BODY_BYTES_MAX} bytes")]
    TooLarge,
    #[error("the body is not the JSON expected here: {0}")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("the client speaks protocol version {client}, this server version {PROTOCOL_VERSION}: update the {older}", older = older(*client))]
    ProtocolVersion { client: u32 },
    #[error("too many sessions were asked for from this address: try again in {} s", whole_seconds(*retry_after))]
    RateLimited { retry_after: Duration },
    #[error("no gateway takes players now: try again in a moment")]
    NoGateway,
    #[error(transparent)]
    Resume(ResumeError),
    #[error("the server could not make a connect token")]
    Token(#[from] TokenError),
    #[error("the server could not seal a resume")]
    Seal,
}

impl SessionError {
    fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Body(_) | Self::Json(_) => (StatusCode::BAD_REQUEST, error_code::BAD_REQUEST),
            Self::Name(_) => (StatusCode::BAD_REQUEST, error_code::BAD_NAME),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, error_code::TOO_LARGE),
            Self::ProtocolVersion { .. } => (StatusCode::UPGRADE_REQUIRED, error_code::PROTOCOL_VERSION),
            Self::RateLimited { .. } => (StatusCode::TOO_MANY_REQUESTS, error_code::RATE_LIMITED),
            Self::NoGateway => (StatusCode::SERVICE_UNAVAILABLE, error_code::NO_GATEWAY),
            Self::Resume(_) => (StatusCode::UNAUTHORIZED, error_code::BAD_RESUME),
            Self::Token(_) | Self::Seal => (StatusCode::INTERNAL_SERVER_ERROR, error_code::INTERNAL),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after } => Some(*retry_after),
            Self::NoGateway => Some(Duration::from_secs(1)),
            _ => None,
        }
    }
}

impl IntoResponse for SessionError {
    fn into_response(self) -> Response {
        let (status, code) = self.status_and_code();
        counter!(SESSIONS_REJECTED, "reason" => code).increment(1);
        if let Self::Token(_) | Self::Seal = &self {
            tracing::error!(error = %self, "no session");
        } else {
            tracing::debug!(code, error = %self, "session refused");
        }
        let body = ErrorBody {
            code: code.to_owned(),
            message: self.to_string(),
        };
        let mut response = (status, Json(body)).into_response();
        if let Some(retry_after) = self.retry_after() {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(retry_after)));
        }
        response
    }
}

/// Rounded up, at least one: who comes back after it is let in.
fn whole_seconds(duration: Duration) -> u64 {
    (duration.as_secs() + u64::from(duration.subsec_nanos() > 0)).max(1)
}

fn older(client: u32) -> &'static str {
    if client < PROTOCOL_VERSION { "client" } else { "server" }
}
