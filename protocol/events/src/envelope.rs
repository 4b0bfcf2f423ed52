//! What every entry of a stream, and every state that is stored, is wrapped in: a version, where its trace goes on, and what it says, in bincode.
//!
//! Bytes come from whoever may write to the store: decoding is bounded, and what is not understood is an error that says why, never a guess.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The version that is written, and the only one that is read: 2 bytes, little-endian, before everything else. Since 2 positions say
/// whether they are whole, and which traced move they show.
pub const ENVELOPE_VERSION: u16 = 2;
/// Bytes of an envelope at most: a zone's positions at ten thousand entities are half of it.
pub const ENVELOPE_BYTES_MAX: usize = 1 << 20;
/// Bytes of a W3C `traceparent` of version 00: `00-<32 hex digits>-<16 hex digits>-<2 hex digits>`.
pub const TRACEPARENT_BYTES: usize = 55;

/// What is said, and where its trace goes on.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope<T> {
    /// The W3C `traceparent` of who wrote it, if that is traced.
    pub traceparent: Option<String>,
    /// What it says.
    pub body: T,
}

/// Why bytes are no envelope, or an envelope cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// It would be, or is, too long.
    #[error("{0} bytes or more are over the {ENVELOPE_BYTES_MAX} of an envelope")]
    TooLong(usize),
    /// It is of another version.
    #[error("version {0} is not read here, only version {ENVELOPE_VERSION}")]
    UnknownVersion(u16),
    /// It is no envelope, or says something else than what was asked for.
    #[error("these bytes do not say what they should")]
    Garbage,
    /// What stands for its trace is no `traceparent`.
    #[error("a trace context that is no traceparent of version 00")]
    NotATraceparent,
}

/// The limit holds for what is allocated on the way as well.
fn configuration() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<ENVELOPE_BYTES_MAX>()
}

#[derive(Serialize)]
struct Outgoing<'a, T> {
    traceparent: Option<&'a str>,
    body: &'a T,
}

#[derive(Deserialize)]
struct Incoming<T> {
    traceparent: Option<String>,
    body: T,
}

impl<T> Envelope<T> {
    /// An envelope that is not traced.
    pub fn untraced(body: T) -> Self {
        let traceparent = None;
        Self { traceparent, body }
    }
}

/// Wraps `body`.
///
/// # Errors
///
/// If that is too long, or `traceparent` is none.
pub fn encode<T: Serialize>(traceparent: Option<&str>, body: &T) -> Result<Vec<u8>, EnvelopeError> {
    if traceparent.is_some_and(|traceparent| !is_traceparent(traceparent)) {
        return Err(EnvelopeError::NotATraceparent);
    }
    let mut bytes = ENVELOPE_VERSION.to_le_bytes().to_vec();
    let outgoing = Outgoing { traceparent, body };
    bincode::serde::encode_into_std_write(&outgoing, &mut bytes, configuration())
        .map_err(|_| EnvelopeError::Garbage)?;
    if bytes.len() > ENVELOPE_BYTES_MAX {
        return Err(EnvelopeError::TooLong(bytes.len()));
    }
    Ok(bytes)
}

/// Unwraps what [`encode`] wrapped; nothing may stand behind it.
///
/// # Errors
///
/// If it is too long, of another version, or not what it should be.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<Envelope<T>, EnvelopeError> {
    if bytes.len() > ENVELOPE_BYTES_MAX {
        return Err(EnvelopeError::TooLong(bytes.len()));
    }
    let (version, rest) = bytes.split_first_chunk::<2>().ok_or(EnvelopeError::Garbage)?;
    let version = u16::from_le_bytes(*version);
    if version != ENVELOPE_VERSION {
        return Err(EnvelopeError::UnknownVersion(version));
    }
    let decoded = bincode::serde::decode_from_slice::<Incoming<T>, _>(rest, configuration());
    let (Incoming { traceparent, body }, read) = decoded.map_err(|_| EnvelopeError::Garbage)?;
    if read != rest.len() {
        return Err(EnvelopeError::Garbage);
    }
    if traceparent
        .as_deref()
        .is_some_and(|traceparent| !is_traceparent(traceparent))
    {
        return Err(EnvelopeError::NotATraceparent);
    }
    Ok(Envelope { traceparent, body })
}

/// Whether it has the form of a `traceparent` of version 00 (<https://www.w3.org/TR/trace-context/>).
pub fn is_traceparent(text: &str) -> bool {
    let is_hex = |part: &&str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let parts: Vec<&str> = text.splitn(5, '-').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    lengths == [2, 32, 16, 2] && parts.first() == Some(&"00") && parts.iter().all(is_hex)
}

#[cfg(test)]
mod tests {
    use meridian_ids::{EntityEpoch, LeaseEpoch, PlayerId, Tick, WorldEntityId, ZoneId};
    use proptest::prelude::*;

    use super::*;
    use crate::{EntityPosition, Event, Happening, Positions};

    const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn happenings() -> [Happening; 4] {
        let (player, entity) = (PlayerId(9), WorldEntityId(u64::MAX));
        let (epoch, to) = (EntityEpoch(1 << 40), ZoneId(3));
        [
            Happening::Joined { player, entity },
            Happening::Left { entity },
            Happening::Died { player, entity },
            Happening::HandedOff { entity, epoch, to },
        ]
    }

    #[test]
    fn what_is_wrapped_is_unwrapped_with_its_trace() {
        for what in happenings() {
            let event = Event {
                zone: ZoneId(1),
                lease: LeaseEpoch(7 << 32 | 1),
                tick: Tick(1 << 50),
                what,
            };
            let bytes = encode(Some(TRACEPARENT), &event).unwrap();
            let envelope = decode::<Event>(&bytes).unwrap();
            assert_eq!(
                (envelope.traceparent.as_deref(), envelope.body),
                (Some(TRACEPARENT), event)
            );
        }
    }

    #[test]
    fn what_is_not_understood_says_why() {
        let bytes = encode(None, &happenings()[1]).unwrap();
        assert_eq!(decode::<Happening>(&[]), Err(EnvelopeError::Garbage));
        let next = [&(ENVELOPE_VERSION + 1).to_le_bytes()[..], &bytes[2..]].concat();
        let unknown = EnvelopeError::UnknownVersion(ENVELOPE_VERSION + 1);
        assert_eq!(decode::<Happening>(&next), Err(unknown));
        let last = [&(ENVELOPE_VERSION - 1).to_le_bytes()[..], &bytes[2..]].concat();
        let unknown = EnvelopeError::UnknownVersion(ENVELOPE_VERSION - 1);
        assert_eq!(decode::<Happening>(&last), Err(unknown));
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(decode::<Happening>(&longer), Err(EnvelopeError::Garbage));
        let too_long = vec![0; ENVELOPE_BYTES_MAX + 1];
        assert_eq!(
            decode::<Happening>(&too_long),
            Err(EnvelopeError::TooLong(too_long.len()))
        );
        assert!(matches!(
            encode(None, &too_long),
            Err(EnvelopeError::TooLong(_) | EnvelopeError::Garbage)
        ));
        let untraceable = EnvelopeError::NotATraceparent;
        assert_eq!(encode(Some("00-xyz"), &0u8), Err(untraceable));
        let traced = [&ENVELOPE_VERSION.to_le_bytes()[..], &[1, 2, b'0', b'0', 5]].concat();
        assert_eq!(decode::<u8>(&traced), Err(untraceable));
    }

    #[test]
    fn only_traceparents_are_traceparents() {
        assert!(is_traceparent(TRACEPARENT));
        assert_eq!(TRACEPARENT.len(), TRACEPARENT_BYTES);
        for other in [
            "",
            "00",
            &TRACEPARENT.to_uppercase(),
            &TRACEPARENT[..54],
            &format!("{TRACEPARENT}-00"),
        ] {
            assert!(!is_traceparent(other), "{other}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm_and_what_is_understood_is_written_so(bytes in prop::collection::vec(any::<u8>(), 0..256), is_versioned: bool) {
            let head: &[u8] = if is_versioned { &[ENVELOPE_VERSION as u8, 0, 0] } else { &[] };
            let bytes = [head, &bytes].concat();
            if let Ok(envelope) = decode::<Event>(&bytes) {
                let again = encode(envelope.traceparent.as_deref(), &envelope.body).unwrap();
                prop_assert_eq!(decode::<Event>(&again), Ok(envelope));
            }
            if let Ok(envelope) = decode::<Positions>(&bytes) {
                prop_assert!(envelope.body.entities.len() <= bytes.len());
            }
            let _ = decode::<EntityPosition>(&bytes);
        }
    }
}
