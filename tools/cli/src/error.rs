//! What can go wrong, in words that say what to do, and the exit code of each.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use meridian_rpc::code_name;
use serde::Serialize;
use tonic::{Code, Status};

use crate::cli::TIMEOUT_MAX;
use crate::output::milliseconds;
use crate::signals::EndSignal;

/// Exit code: done.
pub const EXIT_OK: u8 = 0;
/// Exit code: an error that has no code of its own.
pub const EXIT_OTHER: u8 = 1;
/// Exit code: the command line is wrong. The same that clap uses.
pub const EXIT_USAGE: u8 = 2;
/// Exit code: the server or auth cannot be reached, or went away.
pub const EXIT_UNREACHABLE: u8 = 3;
/// Exit code: the token is missing or not accepted.
pub const EXIT_NOT_PERMITTED: u8 = 4;
/// Exit code: the server refused what was asked.
pub const EXIT_REFUSED: u8 = 5;
/// Exit code: no answer in time, or nobody can do it now; trying again may help.
pub const EXIT_UNAVAILABLE: u8 = 6;

/// Most characters of somebody else's text that are shown: enough for a sentence, and a line of a terminal stays a line.
const FOREIGN_TEXT_CHARS_MAX: usize = 300;

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The arguments cannot be.
    #[error("{0}")]
    Usage(String),
    /// No connection to the server came about.
    #[error(
        "cannot reach the server at {server}: {reason}; is a server with the role zone running there? Another one is named with --server"
    )]
    ServerUnreachable {
        /// The address that was tried.
        server: String,
        /// Why.
        reason: String,
    },
    /// The connection broke in the middle of something.
    #[error("lost the server at {server}: {reason}; if it is running, is this its gRPC port? The default is 7650")]
    ConnectionLost {
        /// Where it was.
        server: String,
        /// Why.
        reason: String,
    },
    /// The role auth does not answer.
    #[error(
        "cannot reach auth at {url}: {reason}; is a server with the role auth running there? Another one is named with --auth"
    )]
    AuthUnreachable {
        /// What was asked.
        url: String,
        /// Why.
        reason: String,
    },
    /// The role auth refused to give a session.
    #[error("auth at {url} gives no session: {message}{}", auth_advice(.code))]
    AuthRefused {
        /// What was asked.
        url: String,
        /// One of [`meridian_session::error_code`].
        code: String,
        /// Auth's words.
        message: String,
    },
    /// There is no session to act with.
    #[error("there is no session {whose}: join first, with the same --auth, --name or --session")]
    NoSession {
        /// Of whom, and where.
        whose: String,
    },
    /// The session of the player is over.
    #[error("the session of {name} is over: {reason}; join again")]
    SessionOver {
        /// Whose it was.
        name: String,
        /// Why.
        reason: String,
    },
    /// A file of a session cannot be used.
    #[error("cannot use the session file {}: {reason}", path.display())]
    SessionFile {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The server answered with an error.
    #[error("{}{}", printable(.0.message()), refusal_advice(.0))]
    Refused(Box<Status>),
    /// A line of moves or of the prompt makes no sense.
    #[error("line {line}: {message}")]
    Line {
        /// Which, from 1.
        line: u64,
        /// What is wrong with it.
        message: String,
    },
    /// A move of a stream was not done.
    #[error("line {line}: {message}")]
    MoveRefused {
        /// The line that it was read from, from 1.
        line: u64,
        /// The status code.
        code: Code,
        /// The word that names the error in all versions.
        word: String,
        /// The server's words.
        message: String,
    },
    /// No answer came in time.
    #[error("no answer from {whom} within {}; {}", human_duration(*.limit), timeout_advice(*.limit))]
    TimedOut {
        /// Who did not answer.
        whom: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The server ended a stream that should not end.
    #[error("{server} ended the stream: it is shutting down, or somebody between here and there cut it off; try again")]
    StreamEnded {
        /// Who ended it.
        server: String,
    },
    /// The answer makes no sense.
    #[error("{whom} did not answer as a Meridian server does: {reason}")]
    Malformed {
        /// Who answered.
        whom: String,
        /// What is wrong.
        reason: String,
    },
    /// The server is there and takes no calls.
    #[error("the server at {server} is not serving: it starts, stops or has no zone")]
    NotServing {
        /// Which.
        server: String,
    },
    /// The terminal or standard input cannot be used.
    #[error("cannot use the terminal: {0}; --plain needs none")]
    Terminal(#[source] io::Error),
    /// Standard input cannot be read.
    #[error("cannot read standard input: {0}")]
    Input(#[source] io::Error),
    /// Who read standard output does so no more: no error, but an end.
    #[error("standard output is closed")]
    OutputClosed,
    /// Standard output cannot be written.
    #[error("cannot write to standard output: {0}")]
    Output(#[source] io::Error),
    /// No threads or timers.
    #[error("cannot start: {0}")]
    Runtime(#[source] io::Error),
    /// Traces and metrics cannot be sent as the environment says.
    #[error("cannot send traces and metrics: {0}")]
    Telemetry(String),
    /// A signal asked for the end before it was done.
    #[error("interrupted by {}", .0.name())]
    Interrupted(EndSignal),
}

/// The action that an error has ended.
#[derive(Debug)]
pub struct FailedAction {
    /// Its trace.
    pub trace_id: String,
    /// From the call to its answer, or until the action failed without one; none if it was never begun.
    pub latency: Option<Duration>,
}

/// An error as `--json` tells it.
#[derive(Debug, Serialize)]
pub struct ErrorLine {
    /// A word that stays the same.
    pub error: String,
    /// The gRPC status code by its name, or the `code` that auth gave; none for what neither of them said.
    pub code: Option<String>,
    /// For people.
    pub message: String,
    /// What the process ends with if this ends it.
    pub exit_code: u8,
    /// The line of standard input that it is about, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Milliseconds from the call to its answer, or until the action failed without one, if it was begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<f64>,
    /// The trace of the action that failed, if it was begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
}

impl CliError {
    /// What the process ends with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::OutputClosed => EXIT_OK,
            Self::Usage(_) | Self::Line { .. } => EXIT_USAGE,
            Self::ServerUnreachable { .. } | Self::ConnectionLost { .. } | Self::AuthUnreachable { .. } => {
                EXIT_UNREACHABLE
            }
            Self::NoSession { .. } | Self::SessionOver { .. } => EXIT_NOT_PERMITTED,
            Self::AuthRefused { code, .. } => auth_exit_code(code),
            Self::Refused(status) => exit_code_of(status.code()),
            Self::MoveRefused { code, .. } => exit_code_of(*code),
            Self::TimedOut { .. } | Self::StreamEnded { .. } | Self::NotServing { .. } => EXIT_UNAVAILABLE,
            Self::Interrupted(signal) => signal.exit_code(),
            _ => EXIT_OTHER,
        }
    }

    /// The word that programs match on: that of the server if it gave one.
    pub fn word(&self) -> String {
        let word = match self {
            Self::Usage(_) | Self::Line { .. } => "usage",
            Self::ServerUnreachable { .. } => "server_unreachable",
            Self::ConnectionLost { .. } => "connection_lost",
            Self::AuthUnreachable { .. } => "auth_unreachable",
            Self::AuthRefused { code, .. } => return printable(code),
            Self::NoSession { .. } => "no_session",
            Self::SessionOver { .. } => "session_over",
            Self::SessionFile { .. } => "session_file",
            Self::Refused(status) => return refusal_word(status),
            Self::MoveRefused { word, .. } => return printable(word),
            Self::TimedOut { .. } => "timed_out",
            Self::StreamEnded { .. } => "stream_ended",
            Self::Malformed { .. } => "malformed_answer",
            Self::NotServing { .. } => "not_serving",
            Self::Terminal(_) => "terminal",
            Self::Input(_) => "input",
            Self::OutputClosed | Self::Output(_) => "output",
            Self::Runtime(_) => "runtime",
            Self::Telemetry(_) => "telemetry",
            Self::Interrupted(_) => "interrupted",
        };
        word.to_owned()
    }

    /// The gRPC status code by its name, or the code of auth.
    pub fn code(&self) -> Option<String> {
        match self {
            Self::Refused(status) => Some(code_name(status.code()).to_owned()),
            Self::MoveRefused { code, .. } => Some(code_name(*code).to_owned()),
            Self::AuthRefused { code, .. } => Some(printable(code)),
            _ => None,
        }
    }

    /// The gRPC status of the call that ended with it: the server's, or what gRPC has for what became of the call. None if no call did.
    pub fn status_code(&self) -> Option<Code> {
        match self {
            Self::Refused(status) => Some(status.code()),
            Self::MoveRefused { code, .. } => Some(*code),
            Self::ServerUnreachable { .. } | Self::ConnectionLost { .. } | Self::StreamEnded { .. } => {
                Some(Code::Unavailable)
            }
            Self::TimedOut { .. } => Some(Code::DeadlineExceeded),
            Self::Malformed { .. } => Some(Code::Internal),
            Self::Interrupted(_) => Some(Code::Cancelled),
            _ => None,
        }
    }

    /// As `--json` tells it.
    pub fn line(&self, action: Option<FailedAction>) -> ErrorLine {
        let latency = action.as_ref().and_then(|action| action.latency);
        ErrorLine {
            error: self.word(),
            code: self.code(),
            message: self.to_string(),
            exit_code: self.exit_code(),
            line: match self {
                Self::Line { line, .. } | Self::MoveRefused { line, .. } => Some(*line),
                _ => None,
            },
            latency_ms: latency.map(milliseconds),
            trace_id: action.map(|action| action.trace_id),
        }
    }
}

/// Somebody else's text without what would steer a terminal, and not longer than a sentence.
pub fn printable(text: &str) -> String {
    let shown = text.chars().take(FOREIGN_TEXT_CHARS_MAX);
    let mut shown: String = shown
        .map(|character| if character.is_control() { '\u{fffd}' } else { character })
        .collect();
    if shown.len() < text.len() && text.chars().count() > FOREIGN_TEXT_CHARS_MAX {
        shown.push('…');
    }
    shown
}

fn exit_code_of(code: Code) -> u8 {
    match code {
        Code::Unauthenticated | Code::PermissionDenied => EXIT_NOT_PERMITTED,
        Code::InvalidArgument
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::NotFound
        | Code::AlreadyExists
        | Code::ResourceExhausted => EXIT_REFUSED,
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Aborted | Code::DataLoss => {
            EXIT_UNAVAILABLE
        }
        Code::Ok | Code::Unknown | Code::Unimplemented | Code::Internal => EXIT_OTHER,
    }
}

fn auth_exit_code(code: &str) -> u8 {
    use meridian_session::error_code;
    match code {
        error_code::BAD_NAME => EXIT_REFUSED,
        error_code::BAD_RESUME => EXIT_NOT_PERMITTED,
        error_code::RATE_LIMITED | error_code::NO_GATEWAY | error_code::INTERNAL => EXIT_UNAVAILABLE,
        _ => EXIT_OTHER,
    }
}

fn auth_advice(code: &str) -> &'static str {
    use meridian_session::error_code;
    match code {
        error_code::PROTOCOL_VERSION => "; take the cli that was built with this server",
        error_code::BAD_NAME => "; choose another --name",
        error_code::RATE_LIMITED | error_code::NO_GATEWAY | error_code::INTERNAL => "; try again in a while",
        _ => "",
    }
}

/// The word of the server, or else its status code.
fn refusal_word(status: &Status) -> String {
    let word = status
        .metadata()
        .get(meridian_rpc::ERROR)
        .and_then(|word| word.to_str().ok());
    match word {
        Some(word) if !word.is_empty() => printable(word),
        _ => code_name(status.code()).to_lowercase(),
    }
}

fn refusal_advice(status: &Status) -> String {
    let owner = status
        .metadata()
        .get(meridian_rpc::OWNER_ADDRESS)
        .and_then(|address| address.to_str().ok());
    match refusal_word(status).as_str() {
        "token" => "; join again".to_owned(),
        "not_joined" => "; `join` puts the player into the world".to_owned(),
        "zone_away" | "unavailable" => "; try again in a moment".to_owned(),
        "owner_elsewhere" => match owner {
            Some(address) => format!("; --server http://{} asks its owner", printable(address)),
            None => "; try again in a moment".to_owned(),
        },
        "zone_full" => "; try again when somebody has left".to_owned(),
        "too_many" => "; try again in a moment, and less at once".to_owned(),
        "deadline" => "; it may have been done all the same".to_owned(),
        "unimplemented" => "; is this the gRPC address of a Meridian server of this version?".to_owned(),
        _ => String::new(),
    }
}

fn timeout_advice(limit: Duration) -> &'static str {
    if limit < TIMEOUT_MAX {
        "--timeout gives it longer"
    } else {
        "try again in a moment"
    }
}

fn human_duration(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: Code, word: &'static str) -> CliError {
        let mut status = Status::new(code, "no");
        status.metadata_mut().insert(meridian_rpc::ERROR, word.parse().unwrap());
        CliError::Refused(Box::new(status))
    }

    #[test]
    fn every_error_of_the_contract_has_its_exit_code_and_keeps_its_word() {
        let expected = [
            (Code::Unauthenticated, "token", EXIT_NOT_PERMITTED),
            (Code::InvalidArgument, "argument", EXIT_REFUSED),
            (Code::FailedPrecondition, "not_joined", EXIT_REFUSED),
            (Code::ResourceExhausted, "too_many", EXIT_REFUSED),
            (Code::ResourceExhausted, "zone_full", EXIT_REFUSED),
            (Code::Unavailable, "zone_away", EXIT_UNAVAILABLE),
            (Code::Unavailable, "owner_elsewhere", EXIT_UNAVAILABLE),
            (Code::DeadlineExceeded, "deadline", EXIT_UNAVAILABLE),
            (Code::DataLoss, "slow", EXIT_UNAVAILABLE),
        ];
        for (code, word, exit_code) in expected {
            let line = refused(code, word).line(None);
            assert_eq!((line.error.as_str(), line.exit_code), (word, exit_code));
            assert_eq!(line.code.as_deref(), Some(code_name(code)));
        }
    }

    #[test]
    fn a_status_without_a_word_is_named_by_its_code() {
        let error = CliError::Refused(Box::new(Status::unimplemented("?")));
        assert_eq!(
            (error.word().as_str(), error.exit_code()),
            ("unimplemented", EXIT_OTHER)
        );
    }

    #[test]
    fn a_server_cannot_steer_the_terminal() {
        let error = CliError::Refused(Box::new(Status::internal("\u{1b}[2J\u{9b}2Jgone\r\n")));
        assert!(!error.to_string().chars().any(char::is_control), "{error}");
        assert!(printable(&"x".repeat(1 << 20)).chars().count() <= FOREIGN_TEXT_CHARS_MAX + 1);
    }

    #[test]
    fn the_owner_is_named_to_who_cannot_be_sent_there() {
        let mut status = Status::unavailable("another server has the entity");
        status
            .metadata_mut()
            .insert(meridian_rpc::ERROR, "owner_elsewhere".parse().unwrap());
        status
            .metadata_mut()
            .insert(meridian_rpc::OWNER_ADDRESS, "127.0.0.1:7651".parse().unwrap());
        let message = CliError::Refused(Box::new(status)).to_string();
        assert!(message.contains("--server http://127.0.0.1:7651"), "{message}");
    }
}
