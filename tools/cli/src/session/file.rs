//! The file that keeps a session: read with a bound, written whole or not at all, and only its user's to read.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use meridian_ids::PlayerId;
use meridian_session::{RESUME_BYTES_MAX, validate_name};
use serde::{Deserialize, Serialize};

use crate::error::CliError;

/// Largest file that is read: a session is below a kilobyte.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// What the file's form is called.
const FORMAT: u32 = 1;
/// Highest tick rate and walk speed that are believed: far above what a server takes, and low enough to count with.
const TICK_RATE_HZ_MAX: u32 = 10_000;
const WALK_SPEED_MPS_MAX: f32 = 10_000.0;

/// A player's session between two runs of `cli`.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredSession {
    /// The form of this file.
    pub format: u32,
    /// Who gave the session.
    pub auth: String,
    /// The player's name, as auth knows it.
    pub name: String,
    /// The player.
    pub player_id: u64,
    /// The token: a secret.
    pub resume: String,
    /// When the token stops being good, in seconds since 1970.
    pub resume_expires_at_unix_s: u64,
    /// What the last join told; none before it.
    pub joined: Option<Joined>,
}

/// What a join told that later commands count with.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Joined {
    /// The player's entity.
    pub entity_id: u64,
    /// Ticks in a second.
    pub tick_rate_hz: u32,
    /// Metres in a second on foot.
    pub walk_speed_mps: f32,
}

impl Joined {
    /// Whether the numbers can be counted with.
    pub fn is_sound(&self) -> bool {
        (1..=TICK_RATE_HZ_MAX).contains(&self.tick_rate_hz)
            && self.walk_speed_mps > 0.0
            && self.walk_speed_mps <= WALK_SPEED_MPS_MAX
    }
}

impl fmt::Debug for StoredSession {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("StoredSession")
            .field("auth", &self.auth)
            .field("name", &self.name)
            .field("player", &PlayerId(self.player_id))
            .field("joined", &self.joined)
            .finish_non_exhaustive()
    }
}

impl StoredSession {
    /// The form that this program writes.
    pub const FORMAT: u32 = FORMAT;

    /// Reads text of a session file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let session: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if session.format != FORMAT {
            return Err(format!(
                "it has the form {}, and this program knows {FORMAT}",
                session.format
            ));
        }
        validate_name(&session.name).map_err(|error| error.to_string())?;
        if session.resume.len() > RESUME_BYTES_MAX || !session.resume.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("its token is none".to_owned());
        }
        if session.joined.is_some_and(|joined| !joined.is_sound()) {
            return Err("its tick rate or walk speed is impossible".to_owned());
        }
        Ok(session)
    }
}

/// What was found where a session is kept.
#[derive(Debug)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A session.
    Session(StoredSession),
    /// Something else, which was put aside under this name.
    PutAside {
        /// Where it is now.
        aside: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Reads a session file. One that holds no session is put aside, so that the next is not written over what somebody may want to see.
///
/// # Errors
/// [`CliError::SessionFile`] if it can neither be read nor put aside.
pub fn read(path: &Path) -> Result<Found, CliError> {
    let failed = |error: io::Error| CliError::SessionFile {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    let parsed = if bytes.len() as u64 > FILE_BYTES_MAX {
        Err("it is too large for one".to_owned())
    } else {
        String::from_utf8(bytes)
            .map_err(|_| "it is no text".to_owned())
            .and_then(|text| StoredSession::parse(&text))
    };
    match parsed {
        Ok(session) => Ok(Found::Session(session)),
        Err(reason) => {
            let mut aside = path.as_os_str().to_owned();
            aside.push(".broken");
            let aside = PathBuf::from(aside);
            fs::rename(path, &aside).map_err(failed)?;
            Ok(Found::PutAside { aside, reason })
        }
    }
}

/// Writes a session file for its user alone (mode 0600): a new file takes the old one's place at once.
///
/// # Errors
/// [`CliError::SessionFile`] says why not.
pub fn write(path: &Path, session: &StoredSession) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(session).map_err(|error| CliError::SessionFile {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    write_private(path, format!("{text}\n").as_bytes()).map_err(|error| CliError::SessionFile {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

/// Writes a file of mode 0600 whole or not at all, in a folder that is made with mode 0700 if it is not there.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    // Of this process alone, so that two that write at once do not mix.
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.new", std::process::id()));
    let beside = PathBuf::from(beside);
    let write = || {
        let _ = fs::remove_file(&beside);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(bytes)?;
        fs::rename(&beside, path)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&beside);
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use proptest::prelude::*;

    use super::*;

    fn session() -> StoredSession {
        StoredSession {
            format: FORMAT,
            auth: "http://127.0.0.1:7600".to_owned(),
            name: "Ada".to_owned(),
            player_id: u64::MAX,
            resume: "c2VjcmV0".to_owned(),
            resume_expires_at_unix_s: 2_000_000_000,
            joined: Some(Joined {
                entity_id: 7,
                tick_rate_hz: 60,
                walk_speed_mps: 5.0,
            }),
        }
    }

    #[test]
    fn a_session_comes_back_as_it_was_kept_and_is_its_users_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/session.json");
        assert!(matches!(read(&path).unwrap(), Found::Nothing));
        for _ in 0..2 {
            write(&path, &session()).unwrap();
            assert!(matches!(read(&path).unwrap(), Found::Session(found) if found == session()));
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(
            fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777,
            0o700
        );
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_no_session_is_put_aside_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("session.json");
        let large = vec![b' '; FILE_BYTES_MAX as usize + 1];
        let other = serde_json::to_string(&StoredSession { format: 9, ..session() }).unwrap();
        for wrong in [b"".as_slice(), b"{", b"\xff\xfe", &large, other.as_bytes()] {
            fs::write(&path, wrong).unwrap();
            let Found::PutAside { aside, reason } = read(&path).unwrap() else {
                panic!("taken for a session")
            };
            assert!(!reason.is_empty());
            assert_eq!(fs::read(aside).unwrap(), wrong);
            assert!(!path.exists());
        }
    }

    #[test]
    fn impossible_numbers_and_tokens_are_refused() {
        let joined = Joined {
            entity_id: 1,
            tick_rate_hz: 60,
            walk_speed_mps: 5.0,
        };
        let wrong = [
            StoredSession {
                joined: Some(Joined {
                    tick_rate_hz: 0,
                    ..joined
                }),
                ..session()
            },
            StoredSession {
                joined: Some(Joined {
                    walk_speed_mps: -1.0,
                    ..joined
                }),
                ..session()
            },
            StoredSession {
                resume: "a\nb".to_owned(),
                ..session()
            },
            StoredSession {
                name: "\u{1b}[2J".to_owned(),
                ..session()
            },
        ];
        for wrong in wrong {
            assert!(
                StoredSession::parse(&serde_json::to_string(&wrong).unwrap()).is_err(),
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn the_token_is_not_shown_in_debug() {
        assert!(!format!("{:?}", session()).contains("c2VjcmV0"));
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_parser(text in ".{0,200}") {
            prop_assert!(StoredSession::parse(&text).is_err());
        }
    }
}
