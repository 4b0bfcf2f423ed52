//! A finished span, as the code that measured it knows it.

use std::{borrow::Cow, time::Instant};

use crate::{span_definitions::ATTRIBUTE_GATEWAY, trace::TraceContext};

/// What a span is to its neighbours in the trace: the kinds of OpenTelemetry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SpanKind {
    /// Work within a process.
    #[default]
    Internal,
    /// The answering side of a call.
    Server,
    /// The asking side of a call.
    Client,
    /// Hands a message over that others take later.
    Producer,
    /// Takes a message that was handed over earlier.
    Consumer,
}

/// The value of a span's attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum AttributeValue {
    /// Text.
    Text(Cow<'static, str>),
    /// A whole number.
    Whole(i64),
    /// A number.
    Number(f64),
    /// Yes or no.
    Flag(bool),
}

/// A finished span.
#[derive(Clone, Debug, PartialEq)]
pub struct SpanRecord {
    /// Where in which trace it is.
    pub context: TraceContext,
    /// The span above it in the same trace; none for the root.
    pub parent: Option<u64>,
    /// One of a few names, see [`span_definitions`](crate::span_definitions).
    pub name: &'static str,
    /// What it is to its neighbours.
    pub kind: SpanKind,
    /// When it began, by this process's clock. Becomes wall-clock time when it is exported.
    pub began: Instant,
    /// When it ended.
    pub ended: Instant,
    /// More about it.
    pub attributes: Vec<(&'static str, AttributeValue)>,
    /// Why it failed, if it did: it is then exported even if its trace is not sampled.
    pub error: Option<Cow<'static, str>>,
}

impl SpanRecord {
    /// With more about it.
    #[must_use]
    pub fn with(mut self, attribute: &'static str, value: impl Into<AttributeValue>) -> Self {
        self.attributes.push((attribute, value.into()));
        self
    }

    /// With the gateway that it is about.
    #[must_use]
    pub fn with_gateway(self, gateway: u64) -> Self {
        self.with(ATTRIBUTE_GATEWAY, format!("{gateway:016x}"))
    }

    /// As one that failed.
    #[must_use]
    pub fn failed(mut self, why: impl Into<Cow<'static, str>>) -> Self {
        self.error = Some(why.into());
        self
    }

    /// Whether it is to be exported.
    pub(crate) fn is_wanted(&self) -> bool {
        self.context.is_sampled || self.error.is_some()
    }
}

impl From<&'static str> for AttributeValue {
    fn from(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for AttributeValue {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<i64> for AttributeValue {
    fn from(whole: i64) -> Self {
        Self::Whole(whole)
    }
}

/// A number that OpenTelemetry's 64 bits with a sign do not hold becomes text.
impl From<u64> for AttributeValue {
    fn from(whole: u64) -> Self {
        i64::try_from(whole).map_or_else(|_| Self::from(whole.to_string()), Self::Whole)
    }
}

impl From<u32> for AttributeValue {
    fn from(whole: u32) -> Self {
        Self::Whole(i64::from(whole))
    }
}

impl From<f64> for AttributeValue {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for AttributeValue {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_without_room_for_its_sign_becomes_text() {
        assert_eq!(AttributeValue::from(i64::MAX as u64), AttributeValue::Whole(i64::MAX));
        assert_eq!(
            AttributeValue::from(u64::MAX),
            AttributeValue::Text("18446744073709551615".into())
        );
    }
}
