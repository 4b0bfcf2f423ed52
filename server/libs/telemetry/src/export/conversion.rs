//! Queued spans as OTLP's messages.

use std::time::{Instant, SystemTime};

use opentelemetry_proto::{
    tonic::{
        common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
        resource::v1::Resource,
        trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span, status::StatusCode},
    },
    transform::{common::tonic::ResourceAttributesWithSchema, trace::tonic::group_spans_by_resource_and_scope},
};

use crate::trace::{AttributeValue, QueuedSpan, SpanKind, SpanRecord};

/// The scope of spans that are recorded directly.
const SCOPE: &str = "meridian";

/// The flag of a span that is sampled.
const FLAG_SAMPLED: u32 = 1;

/// The same moment by both clocks. Taken anew for each batch, so that a corrected system clock is soon heeded.
#[derive(Clone, Copy)]
pub(super) struct Anchor {
    instant: Instant,
    time: SystemTime,
}

impl Anchor {
    pub(super) fn now() -> Self {
        Self {
            instant: Instant::now(),
            time: SystemTime::now(),
        }
    }

    /// Nanoseconds since 1970, or 0 for what is before.
    fn unix_nanoseconds(self, instant: Instant) -> u64 {
        let time = match instant.checked_duration_since(self.instant) {
            Some(after) => self.time.checked_add(after),
            None => self.time.checked_sub(self.instant.saturating_duration_since(instant)),
        };
        let since_1970 = time.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        since_1970.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }
}

/// One batch under the process's resource.
pub(super) fn to_resource_spans(
    batch: Vec<QueuedSpan>,
    resource: &ResourceAttributesWithSchema,
    anchor: Anchor,
) -> Vec<ResourceSpans> {
    let mut recorded = Vec::new();
    let mut finished = Vec::new();
    for span in batch {
        match span {
            QueuedSpan::Record(record) => recorded.push(to_span(record, anchor)),
            QueuedSpan::Finished(data) => finished.push(*data),
        }
    }
    let mut messages = Vec::new();
    if !finished.is_empty() {
        messages = group_spans_by_resource_and_scope(finished, resource);
    }
    if !recorded.is_empty() {
        messages.push(ResourceSpans {
            resource: Some(Resource {
                attributes: resource.attributes.0.clone(),
                ..Resource::default()
            }),
            scope_spans: vec![ScopeSpans {
                scope: Some(scope()),
                spans: recorded,
                schema_url: String::new(),
            }],
            schema_url: String::new(),
        });
    }
    messages
}

/// The scope of what this crate records itself.
pub(crate) fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: SCOPE.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}

fn to_span(record: SpanRecord, anchor: Anchor) -> Span {
    let began = anchor.unix_nanoseconds(record.began);
    let kind = match record.kind {
        SpanKind::Internal => span::SpanKind::Internal,
        SpanKind::Server => span::SpanKind::Server,
        SpanKind::Client => span::SpanKind::Client,
        SpanKind::Producer => span::SpanKind::Producer,
        SpanKind::Consumer => span::SpanKind::Consumer,
    };
    Span {
        trace_id: record.context.trace.to_be_bytes().to_vec(),
        span_id: record.context.span.to_be_bytes().to_vec(),
        parent_span_id: record
            .parent
            .map_or_else(Vec::new, |parent| parent.to_be_bytes().to_vec()),
        flags: if record.context.is_sampled { FLAG_SAMPLED } else { 0 },
        name: record.name.to_owned(),
        kind: kind as i32,
        start_time_unix_nano: began,
        end_time_unix_nano: anchor.unix_nanoseconds(record.ended).max(began),
        attributes: record.attributes.into_iter().map(to_attribute).collect(),
        status: record.error.map(|error| Status {
            code: StatusCode::Error as i32,
            message: error.into_owned(),
        }),
        ..Span::default()
    }
}

fn to_attribute((key, value): (&'static str, AttributeValue)) -> KeyValue {
    let value = match value {
        AttributeValue::Text(text) => Value::StringValue(text.into_owned()),
        AttributeValue::Whole(whole) => Value::IntValue(whole),
        AttributeValue::Number(number) => Value::DoubleValue(number),
        AttributeValue::Flag(flag) => Value::BoolValue(flag),
    };
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn moments_around_the_anchor_keep_their_distance() {
        let anchor = Anchor {
            instant: Instant::now() + Duration::from_secs(10),
            time: SystemTime::UNIX_EPOCH + Duration::from_secs(100),
        };
        let at = |offset: u64| {
            anchor.unix_nanoseconds(anchor.instant - Duration::from_secs(10) + Duration::from_secs(offset))
        };
        assert_eq!(at(0), 90_000_000_000);
        assert_eq!(at(10), 100_000_000_000);
        assert_eq!(at(12), 102_000_000_000);
        let early = Anchor {
            time: SystemTime::UNIX_EPOCH,
            ..anchor
        };
        assert_eq!(early.unix_nanoseconds(anchor.instant - Duration::from_secs(1)), 0);
    }
}
