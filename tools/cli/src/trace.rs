//! The trace that each action begins: its W3C `traceparent` goes to the server with the call, and its span to the collector, if there is one.

use std::time::Instant;

use meridian_telemetry::span_definitions::{
    ATTRIBUTE_RPC_METHOD, ATTRIBUTE_RPC_SYSTEM, CLI_JOIN, CLI_LEAVE, CLI_MOVE, CLI_PLAY, CLI_STATUS, CLI_WATCH,
    CLI_ZONES, RPC_SYSTEM_GRPC,
};
use meridian_telemetry::{
    AttributeValue, LogFormat, SpanKind, SpanRecord, TelemetryGuard, TelemetryOptions, TraceContext, record,
};

use crate::error::CliError;

/// What the program is called in traces.
const SERVICE: &str = "meridian-cli";
/// What is logged unless RUST_LOG says otherwise: results and errors are told by themselves.
const DEFAULT_LOG: &str = "error";

/// What an action is called in traces, and what it calls.
#[derive(Clone, Copy, Debug)]
pub struct Action {
    /// The name of its span.
    pub span: &'static str,
    /// The method with its service.
    pub method: &'static str,
}

impl Action {
    /// `join`.
    pub const JOIN: Self = Self::new(CLI_JOIN, "meridian.v1.GameServer/Join");
    /// `leave`.
    pub const LEAVE: Self = Self::new(CLI_LEAVE, "meridian.v1.GameServer/Leave");
    /// A part of `move`.
    pub const MOVE: Self = Self::new(CLI_MOVE, "meridian.v1.GameServer/Move");
    /// `play`.
    pub const PLAY: Self = Self::new(CLI_PLAY, "meridian.v1.GameServer/Play");
    /// `watch`.
    pub const WATCH: Self = Self::new(CLI_WATCH, "meridian.v1.GameServer/WatchPositions");
    /// `zones`.
    pub const ZONES: Self = Self::new(CLI_ZONES, "meridian.v1.GameServer/ListZones");
    /// `status`.
    pub const STATUS: Self = Self::new(CLI_STATUS, "grpc.health.v1.Health/Check");

    const fn new(span: &'static str, method: &'static str) -> Self {
        Self { span, method }
    }
}

/// Installs what sends spans away, if OTEL_EXPORTER_OTLP_ENDPOINT says where to. What is dropped at the end sends what is left.
///
/// # Errors
/// [`CliError::Telemetry`] if a variable of the environment is wrong.
pub fn install() -> Result<TelemetryGuard, CliError> {
    let options = TelemetryOptions {
        service: SERVICE,
        instance: std::process::id().to_string(),
        log_format: LogFormat::Pretty,
        log_filter: std::env::var("RUST_LOG").unwrap_or_else(|_| DEFAULT_LOG.to_owned()),
        push_metrics: false,
    };
    meridian_telemetry::install(options, None).map_err(|error| CliError::Telemetry(format!("{error:#}")))
}

/// One action of the player, from its beginning until its answer: a span of kind client, the root of a trace that is always exported.
pub struct ActionTrace {
    context: TraceContext,
    action: Action,
    began: Instant,
    attributes: Vec<(&'static str, AttributeValue)>,
    error: Option<String>,
}

impl ActionTrace {
    /// Begins an action in a trace of its own. Its span is recorded when it is dropped.
    pub fn begin(action: Action) -> Self {
        Self {
            context: TraceContext::new_root(true),
            action,
            began: Instant::now(),
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

    /// It ends with an error.
    pub fn fail(&mut self, error: String) {
        self.error = Some(error);
    }
}

impl Drop for ActionTrace {
    fn drop(&mut self) {
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
