//! Spans of the `tracing` crate on their way into the exporter's queue.
//!
//! It is not installed at all when traces are not exported.

use opentelemetry::{
    Context, KeyValue, SpanId, TraceFlags, TraceId,
    trace::{Link, SpanContext, SpanKind, Status, TraceContextExt, TraceState, TracerProvider},
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{
        Sampler, SamplingDecision, SamplingResult, SdkTracerProvider, ShouldSample, Span, SpanData, SpanProcessor,
    },
};
use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{Layer, filter::filter_fn, registry::LookupSpan};

use crate::{
    settings::Sampling,
    trace::{QueuedSpan, SpanQueue, TraceContext},
};

/// What the targets of this project's spans begin with. Libraries have spans of their own, for each packet some of them.
const TARGET_PREFIX: &str = "meridian";

/// Where a span stands in its trace, to be sent along with what it asks of others. None without an exporter, or for a span that does
/// not go there.
#[must_use]
pub fn context_of(span: &tracing::Span) -> Option<TraceContext> {
    let context = span.context();
    let place = context.span().span_context().clone();
    place.is_valid().then(|| TraceContext {
        trace: u128::from_be_bytes(place.trace_id().to_bytes()),
        span: u64::from_be_bytes(place.span_id().to_bytes()),
        is_sampled: place.is_sampled(),
    })
}

/// Makes a span the child of one in another process. To be called before the span is entered, has a child or is asked for its
/// [`context_of`]; later, or without an exporter, nothing happens.
pub fn continue_from(span: &tracing::Span, remote: TraceContext) {
    let flags = if remote.is_sampled {
        TraceFlags::SAMPLED
    } else {
        TraceFlags::default()
    };
    let place = SpanContext::new(
        TraceId::from(remote.trace),
        SpanId::from(remote.span),
        flags,
        true,
        TraceState::default(),
    );
    // A span that is too late, or goes nowhere, stays what it is.
    let _ = span.set_parent(Context::new().with_remote_span_context(place));
}

pub(crate) fn new<S>(queue: SpanQueue, sampling: Sampling) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
{
    let root = Sampler::TraceIdRatioBased(sampling.ratio);
    let sampler = if sampling.follows_parent {
        Sampler::ParentBased(Box::new(root))
    } else {
        root
    };
    let provider = SdkTracerProvider::builder()
        .with_sampler(RecordAll { sampler })
        .with_span_processor(QueueProcessor { queue })
        .build();
    // The tracer keeps its provider.
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("meridian"))
        .with_context_activation(false)
        .with_tracked_inactivity(false)
        .with_threads(false)
        .with_location(false);
    // Without the hint every event of every library, whatever its level, would be asked about where it happens.
    let of_interest = filter_fn(is_of_interest).with_max_level_hint(LevelFilter::INFO);
    layer.with_filter(of_interest).boxed()
}

/// Spans of this project from `INFO` up, and its errors, which mark the span that they happen in.
fn is_of_interest(metadata: &Metadata<'_>) -> bool {
    let lowest = if metadata.is_span() { Level::INFO } else { Level::ERROR };
    *metadata.level() <= lowest && metadata.target().starts_with(TARGET_PREFIX)
}

/// Records every span, for it may end with an error, and leaves to another which traces are sampled.
#[derive(Clone, Debug)]
struct RecordAll {
    sampler: Sampler,
}

impl ShouldSample for RecordAll {
    fn should_sample(
        &self,
        parent_context: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        span_kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let mut result = self
            .sampler
            .should_sample(parent_context, trace_id, name, span_kind, attributes, links);
        if result.decision == SamplingDecision::Drop {
            result.decision = SamplingDecision::RecordOnly;
        }
        result
    }
}

/// Queues spans that are sampled or have failed.
#[derive(Debug)]
struct QueueProcessor {
    queue: SpanQueue,
}

impl SpanProcessor for QueueProcessor {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() || matches!(span.status, Status::Error { .. }) {
            self.queue.push(QueuedSpan::Finished(Box::new(span)));
        }
    }

    /// The queue's exporter is flushed by its owner.
    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: std::time::Duration) -> OTelSdkResult {
        Ok(())
    }
}
