//! How a link begins: who dials says who it is and what it wants, who accepts answers.
//!
//! A hello and its answer are frames of a 16-bit length (little-endian), [`MAGIC`], the version (little-endian) and a body in bincode. All but the
//! body stays as it is in every version to come, so that two builds that do not understand each other can say so.

use std::fmt;

use meridian_ids::{LeaseEpoch, ZoneId};
use quinn::{RecvStream, SendStream};
use serde::{Deserialize, Serialize};

use super::tls::FabricRole;
use super::wire::{self, NAME_BYTES_MAX, REASON_BYTES_MAX, WireError, check_length};

/// What a hello begins with.
pub(super) const MAGIC: [u8; 8] = *b"MERIDIAN";
/// The version of the fabric's protocol. Both sides must have the same.
pub const FABRIC_VERSION: u16 = 3;
/// Bytes of a hello or an answer: three names or a reason, and numbers.
const HELLO_BYTES_MAX: usize = REASON_BYTES_MAX + 4 * NAME_BYTES_MAX;
/// Bytes before the body.
const PREFIX_BYTES: usize = MAGIC.len() + 2;

/// Which world a process serves. Both ends of a link must have the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorldStamp {
    /// The world's name, at most [`NAME_BYTES_MAX`] bytes.
    pub name: String,
    /// The hash of its document, as sessions carry it, at most [`NAME_BYTES_MAX`] bytes.
    pub document_hash: String,
}

impl fmt::Display for WorldStamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({})", self.name, self.document_hash)
    }
}

/// Who dials.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum Party {
    Gateway(String),
    Zone(ZoneId),
}

impl Party {
    /// The role that its certificate must name.
    pub(super) fn role(&self) -> FabricRole {
        match self {
            Self::Gateway(_) => FabricRole::Gateway,
            Self::Zone(_) => FabricRole::Zone,
        }
    }

    /// What to do when another process dials under the same name.
    pub(super) fn advice_on_another(&self) -> &'static str {
        match self {
            Self::Gateway(_) => "give each gateway a name of its own",
            Self::Zone(_) => {
                "two instances of the zone dial; the one without its lease must stand by: if this goes on, end one of them"
            }
        }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway(name) => f.write_str(name),
            Self::Zone(zone) => zone.fmt(f),
        }
    }
}

/// What the dialling side says first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) world: WorldStamp,
    /// The process's name, for logs.
    pub(super) process: String,
    pub(super) party: Party,
    /// How new this instance of a zone is, if that is known: of two that dial as one party the newer has the link.
    pub(super) lease: Option<LeaseEpoch>,
    /// The zone that it wants.
    pub(super) zone: ZoneId,
    /// Its clock now, in nanoseconds.
    pub(super) clock: i64,
}

/// Why a hello was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum Refusal {
    /// The versions differ.
    Version,
    /// The worlds differ.
    World,
    /// The certificate does not name the role.
    Role,
    /// The zone is not served here.
    Zone,
    /// There are too many links or handshakes already.
    Busy,
    /// It is no hello.
    Malformed,
    /// It did not come in time.
    Late,
    /// The certificate, of either side, is not accepted.
    Certificate,
    /// A newer instance of the same party has the link.
    Outdated,
}

impl Refusal {
    pub(super) const ALL: [Self; 9] = [
        Self::Version,
        Self::World,
        Self::Role,
        Self::Zone,
        Self::Busy,
        Self::Malformed,
        Self::Late,
        Self::Certificate,
        Self::Outdated,
    ];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::World => "world",
            Self::Role => "role",
            Self::Zone => "zone",
            Self::Busy => "busy",
            Self::Malformed => "malformed",
            Self::Late => "late",
            Self::Certificate => "certificate",
            Self::Outdated => "outdated",
        }
    }
}

/// What the accepting side says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Answer {
    Welcome {
        /// The process's name, for logs.
        process: String,
        /// Its clock when the hello came, in nanoseconds.
        heard: i64,
        /// Its clock now, in nanoseconds.
        answered: i64,
    },
    Refused {
        code: Refusal,
        /// Why, and what to do, for people.
        reason: String,
    },
}

/// Why there is no hello or no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum HelloError {
    #[error("the other side speaks version {0} of the fabric, this one {FABRIC_VERSION}; run the same build on both")]
    Version(u16),
    #[error("the other side does not speak the fabric's protocol")]
    Magic,
    #[error("the stream ended early: {0}")]
    Read(#[from] quinn::ReadExactError),
    #[error("the stream ended early: {0}")]
    Write(#[from] quinn::WriteError),
    #[error(transparent)]
    Wire(#[from] WireError),
}

impl Hello {
    /// Names are short, and can be logged and shown.
    fn check(&self) -> Result<(), WireError> {
        let names = [
            ("a world's name", &self.world.name),
            ("a world's hash", &self.world.document_hash),
            ("a process's name", &self.process),
        ];
        names.into_iter().try_for_each(|(what, name)| check_name(what, name))?;
        match &self.party {
            Party::Gateway(name) => check_name("a gateway's name", name),
            Party::Zone(_) => Ok(()),
        }
    }
}

fn check_name(what: &'static str, name: &str) -> Result<(), WireError> {
    check_length(what, name.len(), NAME_BYTES_MAX)?;
    if name.chars().any(char::is_control) {
        return Err(WireError::ControlCharacter(what));
    }
    Ok(())
}

/// A text cut at `max` bytes.
fn cut(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max)).unwrap_or_default()
}

/// A name as it may be told: one that is too long is cut, for it is for logs alone.
pub(super) fn told_name(name: &str) -> String {
    cut(name, NAME_BYTES_MAX).to_owned()
}

/// A reason as it may be told.
pub(super) fn told_reason(reason: &str) -> String {
    cut(reason, REASON_BYTES_MAX).to_owned()
}

fn frame<T: Serialize>(body: &T) -> Result<Vec<u8>, WireError> {
    let mut bytes = vec![0, 0];
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&FABRIC_VERSION.to_le_bytes());
    wire::append(body, &mut bytes)?;
    let length = bytes.len() - 2;
    check_length("a hello", length, HELLO_BYTES_MAX)?;
    let length = (length as u16).to_le_bytes();
    bytes.splice(..2, length);
    Ok(bytes)
}

/// The body of what was in a frame.
fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, HelloError> {
    let Some((prefix, body)) = bytes.split_at_checked(PREFIX_BYTES) else {
        return Err(HelloError::Magic);
    };
    let Some(version) = prefix.strip_prefix(&MAGIC) else {
        return Err(HelloError::Magic);
    };
    let version = <[u8; 2]>::try_from(version).map_or(0, u16::from_le_bytes);
    if version != FABRIC_VERSION {
        return Err(HelloError::Version(version));
    }
    Ok(wire::decode(body)?)
}

async fn read_frame(stream: &mut RecvStream) -> Result<Vec<u8>, HelloError> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).await?;
    let length = usize::from(u16::from_le_bytes(length));
    check_length("a hello", length, HELLO_BYTES_MAX)?;
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

pub(super) async fn write_hello(stream: &mut SendStream, hello: &Hello) -> Result<(), HelloError> {
    hello.check()?;
    Ok(stream.write_all(&frame(hello)?).await?)
}

pub(super) async fn read_hello(stream: &mut RecvStream) -> Result<Hello, HelloError> {
    let hello: Hello = parse(&read_frame(stream).await?)?;
    hello.check()?;
    Ok(hello)
}

pub(super) async fn write_answer(stream: &mut SendStream, answer: &Answer) -> Result<(), HelloError> {
    Ok(stream.write_all(&frame(answer)?).await?)
}

pub(super) async fn read_answer(stream: &mut RecvStream) -> Result<Answer, HelloError> {
    parse(&read_frame(stream).await?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hello() -> Hello {
        Hello {
            world: WorldStamp {
                name: "meadow".to_owned(),
                document_hash: "85944171f73967e8".to_owned(),
            },
            process: "gateway-1".to_owned(),
            party: Party::Gateway("gateway-1".to_owned()),
            lease: None,
            zone: ZoneId(3),
            clock: -5,
        }
    }

    #[test]
    fn a_hello_comes_back_as_it_was() {
        let bytes = frame(&hello()).unwrap();
        assert_eq!(usize::from(u16::from_le_bytes([bytes[0], bytes[1]])), bytes.len() - 2);
        assert_eq!(parse::<Hello>(&bytes[2..]).unwrap(), hello());
        let of_zone = Hello {
            party: Party::Zone(ZoneId(1)),
            lease: Some(LeaseEpoch(u64::MAX)),
            ..hello()
        };
        assert_eq!(parse::<Hello>(&frame(&of_zone).unwrap()[2..]).unwrap(), of_zone);
    }

    #[test]
    fn another_version_is_told_whatever_its_body_is() {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&7_u16.to_le_bytes());
        bytes.extend_from_slice(b"who knows");
        let error = parse::<Hello>(&bytes).unwrap_err();
        assert!(matches!(error, HelloError::Version(7)));
        assert!(error.to_string().contains("version 7"));
    }

    #[test]
    fn a_name_with_control_characters_is_refused() {
        let mut hello = hello();
        assert!(hello.check().is_ok());
        hello.party = Party::Gateway("one\nanother line".to_owned());
        assert_eq!(
            hello.check().unwrap_err().to_string(),
            "a gateway's name with a control character in it"
        );
    }

    #[test]
    fn a_reason_is_cut_between_characters() {
        let reason = "ä".repeat(REASON_BYTES_MAX);
        assert_eq!(told_reason(&reason).len(), REASON_BYTES_MAX);
        let reason = format!("x{reason}");
        assert_eq!(told_reason(&reason).len(), REASON_BYTES_MAX - 1);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), is_ours: bool) {
            let mut frame = if is_ours { MAGIC.to_vec() } else { vec![] };
            if is_ours {
                frame.extend_from_slice(&FABRIC_VERSION.to_le_bytes());
            }
            frame.extend(bytes);
            let _ = parse::<Hello>(&frame);
            let _ = parse::<Answer>(&frame);
        }
    }
}
