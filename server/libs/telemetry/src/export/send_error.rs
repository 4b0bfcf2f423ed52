//! Why a collector did not take a request, and what it asks for.

use std::{error::Error, io::ErrorKind, time::Duration};

use prost::Message;
use tonic::{Code, ConnectError, Status};

/// How long a collector is left alone at most because it asks for it: one that asks for an hour by mistake shall not lose an hour.
pub(crate) const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// What a detail of a status is called that says when to come back.
const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

/// Sources of an error that are looked at: the libraries nest four.
const SOURCES_MAX: usize = 16;

/// A request that the collector did not take.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct SendError {
    /// Whether the same request may succeed later.
    pub(crate) is_retryable: bool,
    /// Whether there was nobody to connect to.
    pub(crate) is_unreachable: bool,
    /// How long the collector asks to be left alone: [`RETRY_AFTER_MAX`] at most.
    pub(crate) retry_after: Option<Duration>,
    text: String,
}

impl SendError {
    /// It may succeed later.
    pub(super) fn passing(error: impl std::fmt::Display) -> Self {
        Self {
            is_retryable: true,
            is_unreachable: false,
            retry_after: None,
            text: error.to_string(),
        }
    }

    /// It will not succeed later either.
    pub(super) fn lasting(error: impl std::fmt::Display) -> Self {
        Self {
            is_retryable: false,
            ..Self::passing(error)
        }
    }

    /// No answer came for so long.
    pub(crate) fn late(after: Duration) -> Self {
        Self::passing(format!("no answer within {} ms", after.as_millis()))
    }

    /// An answer over HTTP that is no success; `retry_after` is its header of this name.
    pub(super) fn of_http_status(status: u16, retry_after: Option<&str>) -> Self {
        let text = format!("HTTP status {status}");
        match status {
            // What the protocol names as retryable.
            429 | 502 | 503 | 504 => Self {
                retry_after: retry_after.and_then(parse_seconds),
                ..Self::passing(text)
            },
            _ => Self::lasting(text),
        }
    }
}

impl From<ureq::Error> for SendError {
    fn from(error: ureq::Error) -> Self {
        let is_unreachable = match &error {
            ureq::Error::Io(error) => matches!(
                error.kind(),
                ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable
            ),
            ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => true,
            _ => false,
        };
        Self {
            is_unreachable,
            ..Self::passing(error)
        }
    }
}

impl From<Status> for SendError {
    /// The codes that the protocol names as retryable. A collector whose resources are exhausted may come to itself only if it says
    /// when.
    fn from(status: Status) -> Self {
        let retry_after = parse_retry_info(status.details());
        let is_retryable = match status.code() {
            Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss => true,
            Code::ResourceExhausted => retry_after.is_some(),
            _ => false,
        };
        Self {
            is_retryable,
            is_unreachable: has_no_connection(&status),
            retry_after: retry_after.filter(|_| is_retryable),
            text: format!("gRPC status {:?}: {}", status.code(), status.message()),
        }
    }
}

/// Whether an error goes back to a connection that did not come about.
fn has_no_connection(error: &(dyn Error + 'static)) -> bool {
    let mut error = Some(error);
    for _ in 0..SOURCES_MAX {
        match error {
            Some(cause) if cause.is::<ConnectError>() => return true,
            Some(cause) => error = cause.source(),
            None => return false,
        }
    }
    false
}

/// The header `Retry-After` in seconds. Its other form, a date, is none: it would rest on two clocks.
fn parse_seconds(value: &str) -> Option<Duration> {
    let value = value.trim();
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    // A number that does not fit is large.
    is_number.then(|| Duration::from_secs(value.parse().unwrap_or(u64::MAX)).min(RETRY_AFTER_MAX))
}

/// The pause that the details of a status ask for (`google.rpc.Status` with a `google.rpc.RetryInfo` among its details,
/// <https://github.com/googleapis/googleapis/blob/master/google/rpc/error_details.proto>).
fn parse_retry_info(details: &[u8]) -> Option<Duration> {
    let details = StatusDetails::decode(details).ok()?.details;
    let info = details.into_iter().find(|detail| detail.type_url == RETRY_INFO)?;
    let delay = RetryInfo::decode(info.value.as_slice()).ok()?.retry_delay?;
    let seconds = u64::try_from(delay.seconds).ok()?;
    let nanoseconds = u32::try_from(delay.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(seconds, nanoseconds).min(RETRY_AFTER_MAX))
}

/// What is read of `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct StatusDetails {
    #[prost(message, repeated, tag = "3")]
    details: Vec<Detail>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Detail {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Delay>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn details(seconds: i64, nanos: i32) -> Vec<u8> {
        let retry_info = RetryInfo {
            retry_delay: Some(Delay { seconds, nanos }),
        };
        let other = Detail {
            type_url: "type.googleapis.com/google.rpc.Help".to_owned(),
            value: vec![1, 2, 3],
        };
        let retry_info = Detail {
            type_url: RETRY_INFO.to_owned(),
            value: retry_info.encode_to_vec(),
        };
        let details = vec![other, retry_info];
        StatusDetails { details }.encode_to_vec()
    }

    fn of_status(code: Code, details: Vec<u8>) -> SendError {
        SendError::from(Status::with_details(code, "busy", details.into()))
    }

    #[test]
    fn a_collector_without_resources_is_asked_again_only_if_it_says_when() {
        assert!(!of_status(Code::ResourceExhausted, Vec::new()).is_retryable);
        let error = of_status(Code::ResourceExhausted, details(2, 500_000_000));
        assert!(error.is_retryable);
        assert_eq!(error.retry_after, Some(Duration::from_millis(2500)));
        assert_eq!(of_status(Code::Unavailable, Vec::new()).retry_after, None);
        let refused = of_status(Code::PermissionDenied, details(2, 0));
        assert_eq!((refused.is_retryable, refused.retry_after), (false, None));
    }

    #[test]
    fn a_collector_that_asks_for_too_much_gets_a_minute() {
        let error = of_status(Code::Unavailable, details(i64::MAX, 0));
        assert_eq!(error.retry_after, Some(RETRY_AFTER_MAX));
        for wrong in [details(-1, 0), details(1, -1), details(1, i32::MAX)] {
            assert_eq!(of_status(Code::Unavailable, wrong).retry_after, None);
        }
        for (header, expected) in [
            ("0", Some(Duration::ZERO)),
            (" 30 ", Some(Duration::from_secs(30))),
            ("3600", Some(RETRY_AFTER_MAX)),
            ("99999999999999999999999", Some(RETRY_AFTER_MAX)),
            ("-1", None),
            ("+1", None),
            ("", None),
            ("Fri, 31 Dec 1999 23:59:59 GMT", None),
        ] {
            assert_eq!(
                SendError::of_http_status(503, Some(header)).retry_after,
                expected,
                "{header}"
            );
        }
        assert_eq!(SendError::of_http_status(400, Some("30")).retry_after, None);
    }

    proptest! {
        #[test]
        fn no_details_break_the_parser(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0_usize..80, byte: u8) {
            let mut near = details(7, 7);
            if let Some(changed) = near.get_mut(at) {
                *changed = byte;
            }
            for bytes in [bytes, near] {
                prop_assert!(parse_retry_info(&bytes).is_none_or(|pause| pause <= RETRY_AFTER_MAX));
            }
        }

        #[test]
        fn no_header_breaks_the_parser(value in any::<String>()) {
            prop_assert!(parse_seconds(&value).is_none_or(|pause| pause <= RETRY_AFTER_MAX));
        }
    }
}
