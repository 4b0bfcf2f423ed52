//! Where entries go that cannot be read: aside, so that nothing else suffers from them and nobody has to guess what they were.
//!
//! Of a transfer that a zone has sent a copy goes there, and the transfer stays, whatever it looks like here: a process of another version may read it.

use meridian_events::envelope::EnvelopeError;
use metrics::counter;
use redis::aio::MultiplexedConnection;

use super::record::Field;
use super::scripts::{ScriptName, call};
use super::store::{Store, ask};
use super::{DEAD_LETTERS_KEPT, DEAD_LETTERS_MAKE_WAY, DEAD_LETTERS_MAX, ValkeyError};
use crate::metric_definitions::{BUS_DEAD_LETTERS, BUS_UNREADABLE_TRANSFERS};

/// Bytes of an entry that are kept.
const BYTES_KEPT: usize = 4 << 10;

/// Why an entry cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Envelope(EnvelopeError),
    /// It names a transfer that is not in the inbox, or is in another entry.
    NoSuchTransfer,
}

impl Reason {
    pub(super) const NAMES: [&str; 5] = [
        "too_long",
        "unknown_version",
        "garbage",
        "not_a_traceparent",
        "no_such_transfer",
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Envelope(EnvelopeError::TooLong(_)) => "too_long",
            Self::Envelope(EnvelopeError::UnknownVersion(_)) => "unknown_version",
            Self::Envelope(EnvelopeError::Garbage) => "garbage",
            Self::Envelope(EnvelopeError::NotATraceparent) => "not_a_traceparent",
            Self::NoSuchTransfer => "no_such_transfer",
        }
    }
}

/// A stream, as far as its dead letters are concerned.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// What it is called in metrics.
    pub(super) name: &'static str,
    pub(super) key: String,
    /// The group whose reader finds them.
    pub(super) group: String,
    /// Where it is written down what waits in it.
    pub(super) waiting: Option<String>,
}

/// What the script says of an entry that it has put aside.
const PUT_ASIDE: redis::Value = redis::Value::Int(1);
/// What it says of one that stays where it is, and of which a copy was put aside.
const STAYS: redis::Value = redis::Value::Int(2);
/// What it says of one of which nothing was kept, for there are many already.
const GONE: redis::Value = redis::Value::Int(3);

/// Puts an entry aside, if nobody has before, or a copy of it if a zone has sent it; says so.
pub(super) async fn bury(
    store: &Store,
    connection: &mut MultiplexedConnection,
    source: &Source,
    (entry, fields): (&str, &[Field]),
    reason: Reason,
) -> Result<(), ValkeyError> {
    let mut keys = vec![source.key.clone(), store.keys().dead()];
    keys.extend(source.waiting.clone());
    let mut question = call(ScriptName::Bury, &keys);
    question.arg(entry).arg(&source.group).arg(reason.name());
    question.arg(beginning(fields));
    question.arg(DEAD_LETTERS_KEPT.as_millis() as u64).arg(DEAD_LETTERS_MAX);
    question.arg(DEAD_LETTERS_MAKE_WAY.as_millis() as u64);
    let done = ask(connection, &question, store.response_timeout).await?;
    if done == PUT_ASIDE || done == GONE {
        counter!(BUS_DEAD_LETTERS, "stream" => source.name, "reason" => reason.name()).increment(1);
        tracing::warn!(
            stream = source.key,
            entry,
            reason = reason.name(),
            is_kept = done == PUT_ASIDE,
            "an entry cannot be read and was taken away; it is among the dead letters unless there are too many"
        );
    } else if done == STAYS {
        counter!(BUS_UNREADABLE_TRANSFERS, "reason" => reason.name()).increment(1);
        tracing::error!(
            stream = source.key,
            entry,
            reason = reason.name(),
            "a transfer cannot be read here and waits for an instance that can; its entities are nowhere until then"
        );
    }
    Ok(())
}

/// The beginning of an entry, each field and value on a line.
fn beginning(fields: &[Field]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in fields.iter().flat_map(|(name, value)| [name, value]) {
        let room = BYTES_KEPT.saturating_sub(bytes.len() + 1);
        bytes.extend(part.iter().take(room));
        bytes.push(b'\n');
        if bytes.len() >= BYTES_KEPT {
            break;
        }
    }
    bytes.truncate(BYTES_KEPT);
    bytes
}

/// What the envelope of an entry that consists of nothing else holds.
pub(super) fn envelope_of(fields: &[Field]) -> Result<&[u8], EnvelopeError> {
    match fields {
        [(name, envelope)] if name == super::record::HEAD.as_bytes() => Ok(envelope),
        _ => Err(EnvelopeError::Garbage),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_is_put_aside_the_beginning_is_kept() {
        let field = |name: &str, bytes: usize| (name.into(), vec![b'x'; bytes]);
        assert_eq!(beginning(&[field("a", 2), field("b", 0)]), b"a\nxx\nb\n\n");
        for bytes in [4_090, 4_093, 4_094, 4_095, 9_000] {
            let kept = beginning(&[field("a", bytes), field("b", 5)]);
            assert!(kept.len() <= BYTES_KEPT && kept.len() >= 4_090, "{}", kept.len());
        }
    }
}
