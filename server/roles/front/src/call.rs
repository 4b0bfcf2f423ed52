//! What is told of a call: a span that goes on from its caller's trace, and its figures.

use std::time::Instant;

use meridian_rpc::code_name;
use meridian_telemetry::{TraceContext, context_of, continue_from};
use metrics::{counter, gauge, histogram};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tracing::field::Empty;
use tracing::{Instrument, Span};

use crate::identity::traceparent_of;
use crate::metric_definitions::{RPC_CALL_SECONDS, RPC_CALLS, RPC_STREAMS};

/// A call of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Join,
    Leave,
    Move,
    Play,
    WatchPositions,
    ListZones,
}

impl Method {
    const ALL: [Self; 6] = [
        Self::Join,
        Self::Leave,
        Self::Move,
        Self::Play,
        Self::WatchPositions,
        Self::ListZones,
    ];

    /// Of a request's path; none if the service has no such method.
    pub(crate) fn of_path(path: &str) -> Option<Self> {
        let path = path.strip_prefix('/')?;
        Self::ALL.into_iter().find(|method| method.path() == path)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Join => "Join",
            Self::Leave => "Leave",
            Self::Move => "Move",
            Self::Play => "Play",
            Self::WatchPositions => "WatchPositions",
            Self::ListZones => "ListZones",
        }
    }

    const fn path(self) -> &'static str {
        match self {
            Self::Join => "meridian.v1.GameServer/Join",
            Self::Leave => "meridian.v1.GameServer/Leave",
            Self::Move => "meridian.v1.GameServer/Move",
            Self::Play => "meridian.v1.GameServer/Play",
            Self::WatchPositions => "meridian.v1.GameServer/WatchPositions",
            Self::ListZones => "meridian.v1.GameServer/ListZones",
        }
    }
}

/// A call that is being answered. One that is dropped was given up by its caller.
pub(crate) struct Call {
    method: Method,
    span: Span,
    traceparent: Option<String>,
    code: Code,
}

impl Call {
    /// Its trace goes on from its caller's.
    pub(crate) fn begin(method: Method, metadata: &MetadataMap) -> Self {
        let span = tracing::info_span!(
            "rpc",
            otel.name = method.path(),
            otel.kind = "server",
            rpc.system.name = "grpc",
            rpc.method = method.path(),
            rpc.response.status_code = Empty,
            otel.status_code = Empty,
        );
        let asked = traceparent_of(metadata);
        if let Some(asked) = asked.and_then(TraceContext::parse) {
            continue_from(&span, asked);
        }
        // Without an exporter this server is no part of the trace, and passes it on as it came.
        let own = context_of(&span).map(|own| own.to_traceparent());
        Self {
            method,
            traceparent: own.or_else(|| asked.map(str::to_owned)),
            span,
            code: Code::Cancelled,
        }
    }

    /// Where its trace goes on, for whoever is asked because of it.
    pub(crate) fn traceparent(&self) -> Option<String> {
        self.traceparent.clone()
    }

    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    /// It ends so.
    pub(crate) fn ended(&mut self, ended: Result<(), &Status>) {
        self.code = ended.map_or_else(Status::code, |()| Code::Ok);
    }

    /// Does the work of a call that has one answer.
    pub(crate) async fn answer<T>(mut self, work: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        let began = Instant::now();
        let answer = work.instrument(self.span.clone()).await;
        self.ended(answer.as_ref().map(|_| ()));
        timed(self.method, began);
        answer
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let name = code_name(self.code);
        self.span.record("rpc.response.status_code", name);
        if is_fault_of_server(self.code) {
            self.span.record("otel.status_code", "ERROR");
        }
        counter!(RPC_CALLS, "method" => self.method.name(), "code" => name).increment(1);
    }
}

/// A request was answered that was no call of the service, or before it was one.
pub(crate) fn answered_unseen(method: Option<Method>, code: Code) {
    let method = method.map_or("other", Method::name);
    counter!(RPC_CALLS, "method" => method, "code" => code_name(code)).increment(1);
}

/// A call, or a move of a stream, was answered.
pub(crate) fn timed(method: Method, began: Instant) {
    histogram!(RPC_CALL_SECONDS, "method" => method.name()).record(began.elapsed());
}

/// A stream that is open, until it is dropped.
pub(crate) struct OpenStream {
    kind: &'static str,
}

impl OpenStream {
    pub(crate) fn new(kind: &'static str) -> Self {
        gauge!(RPC_STREAMS, "kind" => kind).increment(1);
        Self { kind }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        gauge!(RPC_STREAMS, "kind" => self.kind).decrement(1);
    }
}

/// The codes that the conventions count as errors of a server
/// (<https://opentelemetry.io/docs/specs/semconv/rpc/grpc/>).
fn is_fault_of_server(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_caller_did_wrong_is_no_error_of_the_server() {
        for code in (0..=16).map(Code::from_i32) {
            let at_fault = [2, 4, 12, 13, 14, 15].contains(&(code as i32));
            assert_eq!(is_fault_of_server(code), at_fault, "{}", code_name(code));
        }
    }
}
