//! The trace that each action begins: its W3C `traceparent` goes to the server with the call, and its span to the collector, if there is one. How long
//! its calls take is measured.

use std::time::{Duration, Instant};

use meridian_rpc::code_name;
use meridian_telemetry::span_definitions::{
    ATTRIBUTE_RPC_METHOD, ATTRIBUTE_RPC_STATUS_CODE, ATTRIBUTE_RPC_SYSTEM, ATTRIBUTE_SERVER_ADDRESS,
    ATTRIBUTE_SERVER_PORT, CLI_JOIN, CLI_LEAVE, CLI_MOVE, CLI_PLAY, CLI_STATUS, CLI_WATCH, CLI_ZONES, RPC_SYSTEM_GRPC,
};
use meridian_telemetry::{
    AttributeValue, LogFormat, SpanKind, SpanRecord, TelemetryGuard, TelemetryOptions, TraceContext, record,
};
use tonic::Code;
use tonic::codegen::http::Uri;

use crate::error::{CliError, FailedAction};
use crate::metric_definitions::{self, RPC_CLIENT_CALL_SECONDS};

/// What the program is called in traces.
const SERVICE: &str = "meridian-cli";
/// What is logged unless RUST_LOG says otherwise: results and errors are told by themselves.
const DEFAULT_LOG: &str = "error";
/// The port of a URL that names none.
const PORT_DEFAULT: u16 = 80;

/// What an action is called in traces, and what it calls.
#[derive(Clone, Copy, Debug)]
pub struct Action {
    /// The name of its span.
    pub span: &'static str,
    /// The method with its service.
    pub method: &'static str,
    /// Whether the call goes on after its first answer.
    is_stream: bool,
}

impl Action {
    /// `join`.
    pub const JOIN: Self = Self::new(CLI_JOIN, "meridian.v1.GameServer/Join");
    /// `leave`.
    pub const LEAVE: Self = Self::new(CLI_LEAVE, "meridian.v1.GameServer/Leave");
    /// A part of `move`.
    pub const MOVE: Self = Self::new(CLI_MOVE, "meridian.v1.GameServer/Move");
    /// `play`.
    pub const PLAY: Self = Self::stream(CLI_PLAY, "meridian.v1.GameServer/Play");
    /// `watch`.
    pub const WATCH: Self = Self::stream(CLI_WATCH, "meridian.v1.GameServer/WatchPositions");
    /// `zones`.
    pub const ZONES: Self = Self::new(CLI_ZONES, "meridian.v1.GameServer/ListZones");
    /// `status`.
    pub const STATUS: Self = Self::new(CLI_STATUS, "grpc.health.v1.Health/Check");

    const fn new(span: &'static str, method: &'static str) -> Self {
        Self {
            span,
            method,
            is_stream: false,
        }
    }

    const fn stream(span: &'static str, method: &'static str) -> Self {
        Self {
            span,
            method,
            is_stream: true,
        }
    }

    /// The method without its service, as servers count it.
    fn method_name(self) -> &'static str {
        self.method.rsplit_once('/').map_or(self.method, |(_, name)| name)
    }
}

/// Installs what sends spans away, if OTEL_EXPORTER_OTLP_ENDPOINT says where to, and what is measured, if OTEL_METRICS_EXPORTER asks for that: each
/// run is an instance of its own in whatever keeps metrics. What is dropped at the end sends what is left.
///
/// # Errors
/// [`CliError::Telemetry`] if a variable of the environment is wrong.
pub fn install() -> Result<TelemetryGuard, CliError> {
    let instance = std::process::id().to_string();
    let options = TelemetryOptions {
        service: SERVICE,
        instance,
        log_format: LogFormat::Pretty,
        log_filter: std::env::var("RUST_LOG").unwrap_or_else(|_| DEFAULT_LOG.to_owned()),
        push_metrics: false,
    };
    meridian_telemetry::install_pushing(options, metric_definitions::describe)
        .map_err(|error| CliError::Telemetry(format!("{error:#}")))
}

/// One action of the player, from its beginning until its answer: a span of kind client, the root of a trace that is always exported.
pub struct ActionTrace {
    context: TraceContext,
    action: Action,
    began: Instant,
    /// The server that was asked; none if it did not come to that.
    server: Option<Server>,
    /// When it was; when the action began if it was not.
    asked: Instant,
    /// From the call to its answer; none before that.
    latency: Option<Duration>,
    /// What the call ended with; none before that.
    code: Option<Code>,
    attributes: Vec<(&'static str, AttributeValue)>,
    error: Option<String>,
}

/// Where a server is.
#[derive(Debug, PartialEq)]
struct Server {
    host: String,
    port: u16,
}

impl Server {
    /// Of a URL; none if that names no host.
    fn at(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        Some(Self {
            // An address of version 6 stands in brackets only there.
            host: uri.host()?.trim_matches(&['[', ']'][..]).to_owned(),
            port: uri.port_u16().unwrap_or(PORT_DEFAULT),
        })
    }
}

impl ActionTrace {
    /// Begins an action in a trace of its own. Its span is recorded when it is dropped.
    pub fn begin(action: Action) -> Self {
        let began = Instant::now();
        Self {
            context: TraceContext::new_root(true),
            action,
            began,
            server: None,
            asked: began,
            latency: None,
            code: None,
            attributes: vec![
                (ATTRIBUTE_RPC_SYSTEM, RPC_SYSTEM_GRPC.into()),
                (ATTRIBUTE_RPC_METHOD, action.method.into()),
            ],
            error: None,
        }
    }

    /// Its place in the trace.
    pub fn context(&self) -> TraceContext {
        self.context
    }

    /// Tells more about it.
    pub fn attribute(&mut self, key: &'static str, value: impl Into<AttributeValue>) {
        self.attributes.push((key, value.into()));
    }

    /// It asks a server now.
    pub fn asks(&mut self, url: &str) {
        self.server = Server::at(url);
        self.asked = Instant::now();
    }

    /// It was sent on to a server by the one that it asked.
    pub fn was_sent_to(&mut self, url: &str) {
        self.server = Server::at(url);
    }

    /// Its call was answered, or a move of its stream.
    pub fn answered(&mut self, latency: Duration) {
        self.latency = Some(latency);
        self.code = Some(Code::Ok);
        self.measure(latency, Code::Ok);
    }

    /// Counts how long an answer took.
    pub fn measure(&self, latency: Duration, code: Code) {
        let (method, code) = (self.action.method_name(), code_name(code));
        metrics::histogram!(RPC_CLIENT_CALL_SECONDS, "method" => method, "code" => code).record(latency);
    }

    /// It ends as it should.
    pub fn succeed(mut self) {
        self.code = self.code.or(self.server.is_some().then_some(Code::Ok));
    }

    /// It ends with an error: what is told of it then.
    pub fn fail(mut self, error: &CliError) -> FailedAction {
        let latency = self.latency.unwrap_or_else(|| self.asked.elapsed());
        self.code = self.code_after(error);
        if let Some(code) = self.code.filter(|_| self.latency.is_none()) {
            self.measure(latency, code);
        }
        self.error = Some(error.word());
        FailedAction {
            trace_id: trace_id(&self.context),
            latency: Some(latency),
        }
    }

    /// What its call has ended with, if it ends with an error. One with a single answer ended when that came, whatever comes of the action.
    fn code_after(&self, error: &CliError) -> Option<Code> {
        let has_ended = self.latency.is_some() && !self.action.is_stream;
        let code = error.status_code().filter(|_| self.server.is_some() && !has_ended);
        code.or(self.code)
    }
}

impl Drop for ActionTrace {
    fn drop(&mut self) {
        if let Some(Server { host, port }) = self.server.take() {
            self.attribute(ATTRIBUTE_SERVER_ADDRESS, host);
            self.attribute(ATTRIBUTE_SERVER_PORT, u32::from(port));
        }
        if let Some(code) = self.code {
            self.attribute(ATTRIBUTE_RPC_STATUS_CODE, code_name(code));
        }
        record(SpanRecord {
            context: self.context,
            parent: None,
            name: self.action.span,
            kind: SpanKind::Client,
            began: self.began,
            ended: Instant::now(),
            attributes: std::mem::take(&mut self.attributes),
            error: self.error.take().map(Into::into),
        });
    }
}

/// The trace by the 32 digits that a collector finds it with.
pub fn trace_id(context: &TraceContext) -> String {
    format!("{:032x}", context.trace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_host_and_a_port() {
        for (url, host, port) in [
            ("http://127.0.0.1:7650", "127.0.0.1", 7650),
            ("http://[::1]:7651", "::1", 7651),
            ("http://zone.example", "zone.example", 80),
        ] {
            let host = host.to_owned();
            assert_eq!(Server::at(url), Some(Server { host, port }), "{url}");
        }
        assert_eq!(Server::at("/only/a/path"), None);
    }

    #[test]
    fn methods_are_named_as_servers_count_them() {
        assert_eq!(Action::WATCH.method_name(), "WatchPositions");
        assert_eq!(Action::STATUS.method_name(), "Check");
    }

    #[test]
    fn a_call_that_was_answered_keeps_its_status_and_a_stream_has_that_of_its_end() {
        let lost = || CliError::StreamEnded {
            server: "http://127.0.0.1:7650".to_owned(),
        };
        for (action, is_asked, is_answered, code) in [
            (Action::MOVE, false, false, None),
            (Action::MOVE, true, false, Some(Code::Unavailable)),
            (Action::MOVE, true, true, Some(Code::Ok)),
            (Action::WATCH, true, true, Some(Code::Unavailable)),
        ] {
            let mut trace = ActionTrace::begin(action);
            if is_asked {
                trace.asks("http://127.0.0.1:7650");
            }
            if is_answered {
                trace.answered(Duration::from_millis(5));
            }
            assert_eq!(trace.code_after(&lost()), code, "{action:?} {is_asked} {is_answered}");
            let told = trace.fail(&lost());
            assert!(!is_answered || told.latency == Some(Duration::from_millis(5)));
        }
    }
}
