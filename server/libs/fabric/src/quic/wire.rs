//! The fabric's bytes: what each message is on the wire, and the bounds that what comes in must keep.
//!
//! bincode 2 with variable-length integers. What belongs together is told as differences: ids of a snapshot's entities mostly follow one
//! another, and their components lie one behind the other. Everything that comes in was written by somebody else: it is decoded
//! within its own length, counts are checked before they are believed, and nothing may be left over.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

mod messages;
mod snapshots;

/// Bytes of an action. The demo game's largest has 256.
pub const ACTION_PAYLOAD_BYTES_MAX: usize = 4_096;
/// Bytes of a name: a player's, a gateway's, a process's. Those of players have 96 at most.
pub const NAME_BYTES_MAX: usize = 128;
/// Bytes of a reason that is told to people.
pub const REASON_BYTES_MAX: usize = 1_024;
/// Entities of one snapshot.
pub const SNAPSHOT_ENTITIES_MAX: usize = 16_384;
/// Bytes of the components in one snapshot: 128 for each of [`SNAPSHOT_ENTITIES_MAX`] entities, three times what a player of the demo has.
pub const SNAPSHOT_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Probed actions of one snapshot.
pub const SNAPSHOT_PROBES_MAX: usize = 1_024;
/// What an entity takes on the wire at most, beside its components: id, epoch, a flag, and where its components lie.
const ENTITY_BYTES_MAX: usize = 9 + 9 + 1 + 5 + 5;
/// What a probe takes on the wire at most.
const PROBE_BYTES_MAX: usize = 9 + 3 + 3 * 9;
/// The rest of a snapshot with its sequence.
const HEADER_BYTES_MAX: usize = 128;
/// Bytes of one stream that carries a snapshot.
pub(super) const STREAM_BYTES_MAX: usize = SNAPSHOT_BYTES_MAX
    + SNAPSHOT_ENTITIES_MAX * ENTITY_BYTES_MAX
    + SNAPSHOT_PROBES_MAX * PROBE_BYTES_MAX
    + HEADER_BYTES_MAX;
/// Bytes of one reliable message: the largest has an action in it.
pub(super) const FRAME_BYTES_MAX: usize = ACTION_PAYLOAD_BYTES_MAX + HEADER_BYTES_MAX;

/// Why bytes are no message.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    /// They are not what bincode writes for one.
    #[error("not a message: {0}")]
    Decode(#[from] bincode::error::DecodeError),
    /// There is more behind it.
    #[error("{0} bytes too many")]
    TrailingBytes(usize),
    /// A text or an action is longer than it may be.
    #[error("{what} of {bytes} bytes, at most {max} are allowed")]
    TooLong {
        /// What.
        what: &'static str,
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        max: usize,
    },
    /// A name cannot be shown as it is.
    #[error("{0} with a control character in it")]
    ControlCharacter(&'static str),
    /// It came by a way that it must not come by.
    #[error("a message of class {0} came by the wrong way")]
    WrongWay(&'static str),
    /// It is one that is never sent.
    #[error("a message that is never sent")]
    NeverSent,
    /// The frame is longer than any message.
    #[error("a frame of {0} bytes, at most {FRAME_BYTES_MAX} are allowed")]
    FrameTooLong(usize),
    /// The stream ended in the middle of a message, or was longer than any.
    #[error("a stream that is cut off or too long")]
    Stream,
    /// It cannot be encoded.
    #[error("cannot be encoded: {0}")]
    Encode(#[from] bincode::error::EncodeError),
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<STREAM_BYTES_MAX>()
}

/// Appends a value.
pub(super) fn append<T: Serialize>(value: &T, into: &mut Vec<u8>) -> Result<(), WireError> {
    bincode::serde::encode_into_std_write(value, into, config())?;
    Ok(())
}

/// Takes a value off the front; the rest is returned.
pub(super) fn take<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<(T, &'a [u8]), WireError> {
    let (value, read) = bincode::serde::borrow_decode_from_slice(bytes, config())?;
    Ok((value, bytes.get(read..).unwrap_or_default()))
}

/// A value that the bytes hold, and nothing else.
pub(super) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, WireError> {
    match take(bytes)? {
        (value, []) => Ok(value),
        (_, rest) => Err(WireError::TrailingBytes(rest.len())),
    }
}

/// Fails if there is more of something than there may be.
pub(super) fn check_length(what: &'static str, bytes: usize, max: usize) -> Result<(), WireError> {
    if bytes > max {
        return Err(WireError::TooLong { what, bytes, max });
    }
    Ok(())
}

/// What stands in front of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum DatagramHeader {
    /// What time is it with you? Nothing follows.
    Ask {
        /// The asking clock, in nanoseconds.
        asked: i64,
        /// The sequence of the last message that was sent before it.
        sequence: u64,
        /// How many of them were sent by stream.
        by_stream: u64,
    },
    /// The answer. Nothing follows.
    Answer {
        /// As in the question.
        asked: i64,
        /// The answering clock, in nanoseconds, when the question came.
        heard: i64,
        /// And when it was answered.
        answered: i64,
    },
    /// A message that may be lost follows.
    Loose,
    /// A message of a sequence follows.
    Sequenced {
        /// Its place.
        sequence: u64,
        /// How many of those before it were sent by stream.
        by_stream_before: u64,
    },
}

/// A list that may not have more than `MAX` items: a longer one is refused before its items are read.
#[derive(Debug, PartialEq)]
struct Bounded<T, const MAX: usize>(Vec<T>);

impl<T: Serialize, const MAX: usize> Serialize for Bounded<T, MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Bounded<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(BoundedVisitor(PhantomData))
    }
}

struct BoundedVisitor<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for BoundedVisitor<T, MAX> {
    type Value = Bounded<T, MAX>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "at most {MAX} items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        // bincode tells the length that was sent, before it has looked whether there is as much.
        let told = items.size_hint().unwrap_or(0);
        if told > MAX {
            return Err(A::Error::custom(format_args!(
                "{told} items, at most {MAX} are allowed"
            )));
        }
        let mut list = Vec::with_capacity(told.min(MAX));
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Bounded(list))
    }
}

/// Bytes as one piece: serde takes them for a list of numbers otherwise.
fn as_bytes<S: Serializer>(bytes: &&[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

#[cfg(test)]
mod tests;
