//! A place in a trace, as it travels between processes: the W3C Trace Context recommendation, version 00
//! (<https://www.w3.org/TR/trace-context/>).

use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};

/// Bytes of a `traceparent` of version 00: `00-`, 32 digits, `-`, 16 digits, `-`, 2 digits.
const TRACEPARENT_BYTES: usize = 55;

/// The flag of a `traceparent` that says its sender may have recorded the span.
const FLAG_SAMPLED: u8 = 1;

/// A span's place in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace, not zero.
    pub trace: u128,
    /// The span, not zero.
    pub span: u64,
    /// Whether the trace is to be exported.
    pub is_sampled: bool,
}

impl TraceContext {
    /// Reads a `traceparent` of version 00: exactly 55 bytes, digits in lower case, ids that are not zero. Of the flags only the
    /// sampled one is kept. Anything else is `None`: a trace then begins anew.
    #[must_use]
    pub fn parse(traceparent: &str) -> Option<Self> {
        let bytes: &[u8; TRACEPARENT_BYTES] = traceparent.as_bytes().try_into().ok()?;
        let (version, rest) = bytes.split_at(3);
        let (trace, rest) = rest.split_at(32);
        let (first_dash, rest) = rest.split_at(1);
        let (span, rest) = rest.split_at(16);
        let (second_dash, flags) = rest.split_at(1);
        if version != b"00-" || first_dash != b"-" || second_dash != b"-" {
            return None;
        }
        let trace = parse_digits(trace).filter(|trace| *trace != 0)?;
        let span = parse_digits(span).filter(|span| *span != 0)?;
        let flags = parse_digits(flags)?;
        Some(Self {
            trace,
            span: span as u64,
            is_sampled: flags as u8 & FLAG_SAMPLED != 0,
        })
    }

    /// The `traceparent` of this context, 55 bytes.
    #[must_use]
    pub fn to_traceparent(&self) -> String {
        let flags = if self.is_sampled { FLAG_SAMPLED } else { 0 };
        format!("00-{:032x}-{:016x}-{flags:02x}", self.trace, self.span)
    }

    /// The root of a new trace, with random ids.
    #[must_use]
    pub fn new_root(is_sampled: bool) -> Self {
        Self {
            trace: random_trace(),
            span: random_span(),
            is_sampled,
        }
    }

    /// A new span of the same trace, sampled as this one is.
    #[must_use]
    pub fn child(&self) -> Self {
        Self {
            span: random_span(),
            ..*self
        }
    }
}

/// The number that lower-case hexadecimal digits write, at most 32 of them.
fn parse_digits(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |value: u128, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u128::from(digit))
    })
}

/// A random id. A generator that gave zero, the one id that is none, would be broken; the highest bit then stands in for it.
fn random_trace() -> u128 {
    match u128::from_be_bytes(RandomIdGenerator::default().new_trace_id().to_bytes()) {
        0 => 1 << 127,
        trace => trace,
    }
}

fn random_span() -> u64 {
    match u64::from_be_bytes(RandomIdGenerator::default().new_span_id().to_bytes()) {
        0 => 1 << 63,
        span => span,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXAMPLE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn the_example_of_the_recommendation_is_read_and_written_back() {
        let context = TraceContext::parse(EXAMPLE).unwrap();
        assert_eq!(context.trace, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
        assert_eq!(context.span, 0xb7ad_6b71_6920_3331);
        assert!(context.is_sampled);
        assert_eq!(context.to_traceparent(), EXAMPLE);
    }

    #[test]
    fn other_flags_are_not_taken_for_the_sampled_one() {
        let context = TraceContext::parse(&EXAMPLE.replace("-01", "-fe")).unwrap();
        assert!(!context.is_sampled);
        assert!(TraceContext::parse(&EXAMPLE.replace("-01", "-03")).unwrap().is_sampled);
    }

    #[test]
    fn what_is_not_version_00_is_refused() {
        for wrong in [
            "",
            "00",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0x",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 ",
        ] {
            assert_eq!(TraceContext::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_child_stays_in_its_trace_under_an_id_of_its_own() {
        for is_sampled in [false, true] {
            let root = TraceContext::new_root(is_sampled);
            let child = root.child();
            assert!(root.trace != 0 && root.span != 0 && child.span != 0);
            assert_eq!((child.trace, child.is_sampled), (root.trace, is_sampled));
            assert_ne!(child.span, root.span);
            assert_ne!(TraceContext::new_root(is_sampled).trace, root.trace);
        }
    }

    proptest! {
        #[test]
        fn every_context_survives_the_way(trace in 1_u128.., span in 1_u64.., is_sampled: bool) {
            let context = TraceContext { trace, span, is_sampled };
            let text = context.to_traceparent();
            prop_assert_eq!(text.len(), TRACEPARENT_BYTES);
            prop_assert_eq!(TraceContext::parse(&text), Some(context));
        }

        #[test]
        fn no_text_breaks_the_parser(text in ".{0,80}", near in "00-[0-9a-g]{32}-[0-9a-fA-F]{16}-[0-9a-f+]{2}") {
            for text in [text, near] {
                if let Some(context) = TraceContext::parse(&text) {
                    prop_assert!(text.is_ascii());
                    prop_assert_eq!(&context.to_traceparent()[..53], &text[..53]);
                }
            }
        }
    }
}
