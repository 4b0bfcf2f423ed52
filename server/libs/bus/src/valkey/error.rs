//! What can be wrong with a store that a world is to live in.

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// Why a world is not to be had from a store. None of these names the address, for that may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValkeyError {
    /// The address is none.
    #[error("this is no address of a store; write redis://[user:password@]host:port or rediss:// for TLS")]
    Address,
    /// The world's name is none.
    #[error("a world's name has 1 to {max} characters of a-z, A-Z, 0-9, '-', '_' and '.'", max = super::keys::WORLD_NAME_CHARS_MAX)]
    WorldName,
    /// The certificates to trust are none.
    #[error("the certificates to trust the store by cannot be read: {0}")]
    Certificates(String),
    /// Nobody answers there.
    #[error("the store cannot be reached: {0}")]
    Unreachable(String),
    /// The store does not let this user in.
    #[error("the store does not know this user or password")]
    WrongPassword,
    /// The store lets this user in, but not do what a world needs.
    #[error("the store's user lacks a permission, see the rule in the documentation of meridian_bus::valkey: {0}")]
    NoPermission(String),
    /// The store's version does not know commands that a world needs.
    #[error("the store is of version {found}, and {needed} is the oldest that will do")]
    TooOld {
        /// Its version.
        found: String,
        /// The oldest that will do.
        needed: &'static str,
    },
    /// The store is a replica: it takes no writes.
    #[error("the store is a read-only replica; give the address of its primary")]
    ReadOnlyReplica,
    /// The store keeps a file of its writes that it never syncs: no zone would ever start, for a claim waits until it is on the disk.
    #[error(
        "the store writes its file and never sees to it that it gets to the disk; set appendfsync everysec or appendfsync always"
    )]
    NeverSynced,
    /// There is no such world there; nothing was begun.
    #[error(
        "the store has no world named {world}; check the address, its database number and the name in the world file, and whether one of the world's processes has ever started"
    )]
    NoWorld {
        /// The name that was asked for.
        world: String,
    },
    /// The world was written by another version of this program, in another form.
    #[error(
        "the world is stored in layout {found}, this program reads layout {expected}; use its version or another world's name"
    )]
    OtherLayout {
        /// The layout that is stored.
        found: String,
        /// The layout of this program.
        expected: &'static str,
    },
    /// The world ticks at another rate.
    #[error(
        "the world was begun at {stored} ticks per second, not at {asked}; start with that rate or under another world's name"
    )]
    OtherTickRate {
        /// The rate that the world was begun at.
        stored: u16,
        /// The rate that was asked for.
        asked: u16,
    },
    /// The store does not answer in time.
    #[error("the store does not answer in time")]
    TimedOut,
    /// The store answers with an error.
    #[error("the store answers: {0}")]
    Refused(String),
    /// The store says something that no script of ours says.
    #[error("the store says what it should not: {0}")]
    Unreadable(&'static str),
    /// What is to be stored is longer than what is read.
    #[error("what is to be stored is too long: {0}")]
    TooLong(String),
}

impl ValkeyError {
    /// Whether a stream's group is not there any more, or not yet.
    pub(super) fn is_without_group(&self) -> bool {
        matches!(self, Self::Refused(said) if said.starts_with("NOGROUP") || said.starts_with("UNBLOCKED"))
    }

    /// Whether the server does not know a script, for it was started again.
    pub(super) fn is_without_script(&self) -> bool {
        matches!(self, Self::Refused(said) if said.starts_with("NOSCRIPT"))
    }

    /// Whether a group was there before somebody began it.
    pub(super) fn is_group_there(&self) -> bool {
        matches!(self, Self::Refused(said) if said.starts_with("BUSYGROUP"))
    }
}

impl From<RedisError> for ValkeyError {
    fn from(error: RedisError) -> Self {
        let said = || {
            let code = error.code().unwrap_or("an error");
            [code, error.detail().unwrap_or_default()].join(" ")
        };
        match (error.kind(), error.code()) {
            (ErrorKind::AuthenticationFailed, _) | (_, Some("WRONGPASS" | "NOAUTH")) => Self::WrongPassword,
            (ErrorKind::Server(ServerErrorKind::NoPerm), _) => Self::NoPermission(said()),
            (ErrorKind::Server(ServerErrorKind::ReadOnly), _) => Self::ReadOnlyReplica,
            (ErrorKind::Io, _) if error.is_timeout() => Self::TimedOut,
            // The text of an error of the system: it names no address.
            (ErrorKind::Io, _) => Self::Unreachable(error.to_string()),
            (ErrorKind::InvalidClientConfig, _) => Self::Address,
            // A script tells of a missing permission in its own words.
            _ if said().contains("ACL failure") => Self::NoPermission(said()),
            _ => Self::Refused(said()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a server says, as a client hears it.
    fn heard(line: &str) -> ValkeyError {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        let error = value.extract_error().unwrap_err();
        ValkeyError::from(error)
    }

    #[test]
    fn what_a_server_says_is_told_apart_by_its_code() {
        assert_eq!(
            heard("WRONGPASS invalid username-password pair"),
            ValkeyError::WrongPassword
        );
        assert_eq!(heard("NOAUTH Authentication required."), ValkeyError::WrongPassword);
        assert_eq!(heard("READONLY You can't write"), ValkeyError::ReadOnlyReplica);
        assert!(matches!(
            heard("NOPERM User x has no permissions"),
            ValkeyError::NoPermission(_)
        ));
        assert!(matches!(
            heard("ERR ACL failure in script: x"),
            ValkeyError::NoPermission(_)
        ));
        assert!(heard("BUSYGROUP Consumer Group name already exists").is_group_there());
        assert!(heard("NOGROUP the consumer group this client was blocked on no longer exists").is_without_group());
        assert!(!heard("OOM command not allowed").is_without_group());
        assert!(heard("NOSCRIPT No matching script. Please use EVAL.").is_without_script());
        assert!(!heard("OOM command not allowed").is_without_script());
    }
}
