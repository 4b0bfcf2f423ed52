//! Refusals: which gRPC status a word of `meridian-error` comes with, and where the owner of an entity is when it is not here.

use std::fmt;
use std::net::SocketAddr;

use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use crate::{ERROR, OWNER_ADDRESS};

/// Why a call is refused: the word in the metadata [`ERROR`], the same in all versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorWord {
    /// No token, or one that is not valid any more.
    Token,
    /// A field has a value that it cannot have.
    Argument,
    /// The player has no entity.
    NotJoined,
    /// Too many calls of a player, or streams of a server.
    TooMany,
    /// The zone lets nobody in any more.
    ZoneFull,
    /// No zone has the entity now, or the zone may not simulate.
    ZoneAway,
    /// Another server has the entity, and this one cannot reach it.
    OwnerElsewhere,
    /// The zone did not answer in time.
    Deadline,
    /// The watcher did not keep up for so long that it was let go.
    Slow,
}

impl ErrorWord {
    /// All words, in the order of the table in the `.proto` file.
    pub const ALL: [Self; 9] = [
        Self::Token,
        Self::Argument,
        Self::NotJoined,
        Self::TooMany,
        Self::ZoneFull,
        Self::ZoneAway,
        Self::OwnerElsewhere,
        Self::Deadline,
        Self::Slow,
    ];

    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Argument => "argument",
            Self::NotJoined => "not_joined",
            Self::TooMany => "too_many",
            Self::ZoneFull => "zone_full",
            Self::ZoneAway => "zone_away",
            Self::OwnerElsewhere => "owner_elsewhere",
            Self::Deadline => "deadline",
            Self::Slow => "slow",
        }
    }

    /// The status code that it comes with.
    #[must_use]
    pub const fn code(self) -> Code {
        match self {
            Self::Token => Code::Unauthenticated,
            Self::Argument => Code::InvalidArgument,
            Self::NotJoined => Code::FailedPrecondition,
            Self::TooMany | Self::ZoneFull => Code::ResourceExhausted,
            Self::ZoneAway | Self::OwnerElsewhere => Code::Unavailable,
            Self::Deadline => Code::DeadlineExceeded,
            Self::Slow => Code::DataLoss,
        }
    }

    /// The word of a status, if it has one that is known here.
    #[must_use]
    pub fn of(status: &Status) -> Option<Self> {
        Self::parse(status.metadata().get(ERROR)?.to_str().ok()?)
    }

    /// What a word stands for, if it is known here.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == word)
    }
}

impl fmt::Display for ErrorWord {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// The status that refuses a call for this reason; the message is for people.
#[must_use]
pub fn refusal(word: ErrorWord, message: impl Into<String>) -> Status {
    let mut status = Status::new(word.code(), message);
    status
        .metadata_mut()
        .insert(ERROR, MetadataValue::from_static(word.as_str()));
    status
}

/// The status that says that another server has the entity, and where that is.
#[must_use]
pub fn owner_elsewhere(owner: SocketAddr, message: impl Into<String>) -> Status {
    let mut status = refusal(ErrorWord::OwnerElsewhere, message);
    // An address is visible ASCII: this does not fail.
    if let Ok(address) = MetadataValue::try_from(owner.to_string()) {
        status.metadata_mut().insert(OWNER_ADDRESS, address);
    }
    status
}

/// Where the owner is, if the status says so.
#[must_use]
pub fn owner_address(status: &Status) -> Option<SocketAddr> {
    status.metadata().get(OWNER_ADDRESS)?.to_str().ok()?.parse().ok()
}

/// The name of a gRPC status code as the specification writes it, for example `NOT_FOUND`.
#[must_use]
pub const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROTO: &str = include_str!("../proto/meridian/v1/game_server.proto");

    /// The code's name as the table writes it.
    fn name_of(code: Code) -> String {
        format!("{code:?}").chars().fold(String::new(), |mut name, letter| {
            if letter.is_uppercase() && !name.is_empty() {
                name.push('_');
            }
            name.push(letter.to_ascii_uppercase());
            name
        })
    }

    #[test]
    fn the_words_and_codes_are_those_of_the_table_in_the_proto_file() {
        let rows = PROTO
            .lines()
            .skip_while(|line| !line.contains("meridian-error     when"));
        let rows = rows.skip(1).take_while(|line| line.starts_with("//   "));
        let table: Vec<(String, String)> = rows
            .filter_map(|row| {
                let mut columns = row.trim_start_matches("//").split_whitespace();
                Some((columns.next()?.to_owned(), columns.next()?.to_owned()))
            })
            .collect();
        let known = ErrorWord::ALL.map(|word| (name_of(word.code()), word.to_string()));
        assert_eq!(table, known);
    }

    #[test]
    fn a_refusal_is_read_as_what_it_was_written_as() {
        for word in ErrorWord::ALL {
            let status = refusal(word, "for people");
            assert_eq!((status.code(), ErrorWord::of(&status)), (word.code(), Some(word)));
            assert_eq!((status.message(), owner_address(&status)), ("for people", None));
        }
        let owner: SocketAddr = "[::1]:7650".parse().unwrap();
        let status = owner_elsewhere(owner, "there");
        assert_eq!(ErrorWord::of(&status), Some(ErrorWord::OwnerElsewhere));
        assert_eq!(owner_address(&status), Some(owner));
        assert_eq!(ErrorWord::of(&Status::unavailable("the connection broke")), None);
    }
}
