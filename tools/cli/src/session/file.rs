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

/// Reads a session file of the state folder. One that holds no session is put aside, so that the next is not written over what somebody may want
/// to see.
///
/// # Errors
/// [`CliError::SessionFile`] if it is no file, or can neither be read nor put aside.
pub fn read(path: &Path) -> Result<Found, CliError> {
    let reason = match load(path)? {
        Loaded::Nothing => return Ok(Found::Nothing),
        Loaded::Session(session) => return Ok(Found::Session(session)),
        Loaded::Other(reason) => reason,
    };
    let mut aside = path.as_os_str().to_owned();
    aside.push(".broken");
    let aside = PathBuf::from(aside);
    fs::rename(path, &aside).map_err(|error| unusable(path, error))?;
    Ok(Found::PutAside { aside, reason })
}

/// Reads a session file that somebody has named. What holds no session is somebody's, and is not touched.
///
/// # Errors
/// [`CliError::SessionFile`] if it cannot be read, or is something else.
pub fn read_named(path: &Path) -> Result<Found, CliError> {
    match load(path)? {
        Loaded::Nothing => Ok(Found::Nothing),
        Loaded::Session(session) => Ok(Found::Session(session)),
        Loaded::Other(reason) => {
            let reason =
                format!("it holds no session ({reason}), and is left as it is: name another file, or a new one");
            Err(unusable(path, reason))
        }
    }
}

enum Loaded {
    Nothing,
    Session(StoredSession),
    /// What is wrong with it.
    Other(String),
}

fn unusable(path: &Path, reason: impl fmt::Display) -> CliError {
    CliError::SessionFile {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

/// Whether there is a file. A device, a pipe, a folder or a link is never opened, renamed or written over: it is not a thing of this program.
fn check_is_file(path: &Path) -> Result<bool, CliError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(true),
        Ok(_) => Err(unusable(
            path,
            "it is no regular file, and is left as it is: name a file, or what is not there yet",
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(unusable(path, error)),
    }
}

fn load(path: &Path) -> Result<Loaded, CliError> {
    if !check_is_file(path)? {
        return Ok(Loaded::Nothing);
    }
    let failed = |error: io::Error| unusable(path, error);
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    let parsed = if bytes.len() as u64 > FILE_BYTES_MAX {
        Err("it is too large for one".to_owned())
    } else {
        String::from_utf8(bytes)
            .map_err(|_| "it is no text".to_owned())
            .and_then(|text| StoredSession::parse(&text))
    };
    Ok(parsed.map_or_else(Loaded::Other, Loaded::Session))
}

/// Writes a session file for its user alone (mode 0600): a new file takes the old one's place at once.
///
/// # Errors
/// [`CliError::SessionFile`] says why not: never is anything but a file replaced.
pub fn write(path: &Path, session: &StoredSession) -> Result<(), CliError> {
    check_is_file(path)?;
    let text = serde_json::to_string_pretty(session).map_err(|error| unusable(path, error))?;
    write_private(path, format!("{text}\n").as_bytes()).map_err(|error| unusable(path, error))
}

/// Makes a folder with mode 0700, if it is not there.
pub fn create_private_folder(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Writes a file of mode 0600 whole or not at all, in a folder that is made with mode 0700 if it is not there.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        create_private_folder(folder)?;
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
    fn what_is_named_and_no_session_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.txt");
        fs::write(&path, "bread, milk").unwrap();
        assert!(matches!(read_named(&path), Err(CliError::SessionFile { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "bread, milk");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_no_file_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("target");
        fs::write(&target, "bread, milk").unwrap();
        let (link, inside) = (folder.path().join("link"), folder.path().join("folder"));
        std::os::unix::fs::symlink(&target, &link).unwrap();
        fs::create_dir(&inside).unwrap();
        for path in [&link, &inside] {
            assert!(write(path, &session()).is_err());
            assert!(read(path).is_err() && read_named(path).is_err());
        }
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink() && inside.is_dir());
        assert_eq!(fs::read_to_string(&target).unwrap(), "bread, milk");
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
