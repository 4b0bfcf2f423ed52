//! Sessions: who a command acts as, and the token that shows it.
//!
//! A session is kept in a file between two runs. Only `join` begins one as another player; every other command renews what is there, or says
//! that it is over.

mod auth;
mod file;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use meridian_session::{NAME_CHARS_MAX, SessionResponse, document_hash, validate_name};
use serde::Serialize;

use crate::cli::Options;
use crate::error::CliError;
use crate::output::Output;

pub use file::{Joined, StoredSession, create_private_folder, write_private};

use file::Found;

/// A token that is good for less than this is renewed first: longer than any call of a session takes by default.
const RENEWED_BEFORE_S: u64 = 30;
/// Name of a player if neither the user nor the environment has one.
const NAME_DEFAULT: &str = "Player";
/// Largest file with the name of who joined last.
const LAST_BYTES_MAX: usize = 256;

/// Where sessions are kept, and which one is meant.
#[derive(Clone, Debug)]
pub struct Sessions {
    auth: String,
    file: Option<PathBuf>,
    folder: Option<PathBuf>,
    timeout: Duration,
    output: Output,
}

/// How a join came by its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// There was none.
    New,
    /// The same player goes on.
    Resumed,
    /// Auth did not know the old one any more: this is another player.
    Replaced,
}

impl Sessions {
    /// Those that the options name.
    pub fn new(options: &Options, output: Output) -> Self {
        Self {
            auth: options.auth.clone(),
            file: options.session.clone(),
            folder: state_folder(),
            timeout: options.timeout,
            output,
        }
    }

    /// The session of a player, renewed if need be. `name` is none for who joined last.
    ///
    /// # Errors
    /// [`CliError::NoSession`] before a join, [`CliError::SessionOver`] if it cannot be renewed.
    pub async fn current(&self, asked: Option<&str>) -> Result<StoredSession, CliError> {
        let name = self.name_or_last(asked);
        let stored = match name.as_deref() {
            // A file that is named may be of any player.
            None if self.file.is_none() => None,
            name => self.read(&self.path(name.unwrap_or(NAME_DEFAULT))?)?,
        };
        let Some(stored) = stored else {
            let at = format!("at {}", self.auth);
            return Err(CliError::NoSession {
                whose: match (&self.file, name) {
                    (Some(file), _) => format!("in {}", file.display()),
                    (None, Some(name)) => format!("of {name} {at}"),
                    (None, None) => at,
                },
            });
        };
        self.check_name(&stored, asked)?;
        if stored.resume_expires_at_unix_s > now_unix_s().saturating_add(RENEWED_BEFORE_S) {
            return Ok(stored);
        }
        let renewed = self.ask(&stored.name, Some(&stored.resume)).await.map_err(|error| {
            if auth::is_bad_resume(&error) {
                CliError::SessionOver {
                    name: stored.name.clone(),
                    reason: "it has expired".to_owned(),
                }
            } else {
                error
            }
        })?;
        let renewed = self.kept(renewed, stored.joined);
        self.write(&renewed)?;
        Ok(renewed)
    }

    /// A session to join with: the player's own, renewed, or a new one. It is kept when [`Self::write`] is called.
    ///
    /// # Errors
    /// Whatever auth answers but that the old session is over.
    pub async fn begin(&self, name: Option<&str>) -> Result<(StoredSession, Origin), CliError> {
        let wanted = self.name_or_last(name).unwrap_or_else(default_name);
        let stored = self.read(&self.path(&wanted)?)?;
        let Some(stored) = stored else {
            let session = self.ask(&wanted, None).await?;
            return Ok((self.kept(session, None), Origin::New));
        };
        self.check_name(&stored, name)?;
        match self.ask(&wanted, Some(&stored.resume)).await {
            Ok(session) => {
                if name.is_some_and(|name| name != session.name) {
                    let message = format!("the session is of {}, who keeps that name", session.name);
                    self.output.notice("name_kept", &message)?;
                }
                Ok((self.kept(session, None), Origin::Resumed))
            }
            Err(error) if auth::is_bad_resume(&error) => {
                let message = format!(
                    "auth does not know the session of {} any more: {wanted} is a new player now",
                    stored.name
                );
                self.output.notice("session_replaced", &message)?;
                let session = self.ask(&wanted, None).await?;
                Ok((self.kept(session, None), Origin::Replaced))
            }
            Err(error) => Err(error),
        }
    }

    /// Keeps a session for later commands.
    ///
    /// # Errors
    /// [`CliError::SessionFile`] if it cannot be written.
    pub fn write(&self, session: &StoredSession) -> Result<(), CliError> {
        let path = self.path(&session.name)?;
        file::write(&path, session)
    }

    /// Makes a player the one that later commands act as unless they name one.
    ///
    /// # Errors
    /// [`CliError::SessionFile`] if it cannot be written.
    pub fn set_last(&self, session: &StoredSession) -> Result<(), CliError> {
        // A file that is named says itself whose it is.
        let (None, Some(path)) = (&self.file, self.last_path()) else {
            return Ok(());
        };
        write_private(&path, session.name.as_bytes()).map_err(|error| CliError::SessionFile {
            path,
            reason: error.to_string(),
        })
    }

    /// A file that is named holds one player's session: nobody is to act as that player who names another.
    fn check_name(&self, stored: &StoredSession, asked: Option<&str>) -> Result<(), CliError> {
        match (&self.file, asked) {
            (Some(path), Some(asked)) if asked != stored.name => Err(CliError::SessionFile {
                path: path.clone(),
                reason: format!(
                    "it is of {}, and --name says {asked}: leave --name out to act as {0}, or name another file for {asked}",
                    stored.name
                ),
            }),
            _ => Ok(()),
        }
    }

    fn name_or_last(&self, name: Option<&str>) -> Option<String> {
        if let Some(name) = name {
            return Some(name.to_owned());
        }
        let bytes = std::fs::read(self.last_path()?)
            .ok()
            .filter(|bytes| bytes.len() <= LAST_BYTES_MAX)?;
        let name = String::from_utf8(bytes).ok()?;
        validate_name(&name).ok().map(str::to_owned)
    }

    fn last_path(&self) -> Option<PathBuf> {
        let folder = self.folder.as_deref()?;
        Some(folder.join(format!("last-{}", document_hash(&self.auth))))
    }

    fn path(&self, name: &str) -> Result<PathBuf, CliError> {
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        let folder = self.folder.as_deref().ok_or_else(|| {
            CliError::Usage(
                "neither XDG_STATE_HOME nor HOME says where to keep the session: name a file with --session".to_owned(),
            )
        })?;
        Ok(folder.join(session_file_name(&self.auth, name)))
    }

    fn read(&self, path: &Path) -> Result<Option<StoredSession>, CliError> {
        let found = match &self.file {
            Some(file) => file::read_named(file)?,
            None => file::read(path)?,
        };
        match found {
            Found::Nothing => Ok(None),
            Found::Session(session) if session.auth == self.auth => Ok(Some(session)),
            // Its token is no other's business.
            Found::Session(session) => Err(CliError::SessionFile {
                path: path.to_owned(),
                reason: format!(
                    "it is of {}: name that with --auth, or another file",
                    crate::error::printable(&session.auth)
                ),
            }),
            Found::PutAside { aside, reason } => {
                let message = format!(
                    "{} holds no session ({reason}): it is put aside as {}",
                    path.display(),
                    aside.display()
                );
                self.output.notice("session_put_aside", &message)?;
                Ok(None)
            }
        }
    }

    async fn ask(&self, name: &str, resume: Option<&str>) -> Result<SessionResponse, CliError> {
        let (base, name, resume, timeout) = (
            self.auth.clone(),
            name.to_owned(),
            resume.map(str::to_owned),
            self.timeout,
        );
        let asked = tokio::task::spawn_blocking(move || auth::ask(&base, &name, resume.as_deref(), timeout));
        asked.await.map_err(|error| CliError::Runtime(error.into()))?
    }

    fn kept(&self, session: SessionResponse, joined: Option<Joined>) -> StoredSession {
        StoredSession {
            format: StoredSession::FORMAT,
            auth: self.auth.clone(),
            name: session.name,
            player_id: session.player_id,
            resume: session.resume,
            resume_expires_at_unix_s: now_unix_s().saturating_add(session.resume_expires_in_s.into()),
            joined,
        }
    }
}

/// The folder of what is kept between runs; none if the environment does not say where.
pub fn state_folder() -> Option<PathBuf> {
    // Relative paths are to be ignored, says the XDG base directory specification.
    let absolute = |variable: &str| {
        std::env::var_os(variable)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let state = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")))?;
    Some(state.join("meridian"))
}

/// For people the letters and digits of both, for the machine a hash that tells apart what those do not.
fn session_file_name(auth: &str, name: &str) -> String {
    let plain = |text: &str| -> String {
        let plain = text.chars().map(|character| {
            if character.is_ascii_alphanumeric() {
                character
            } else {
                '-'
            }
        });
        plain.take(NAME_CHARS_MAX).collect()
    };
    let host = auth.trim_start_matches("http://");
    format!(
        "session-{}-{}-{}.json",
        plain(host),
        plain(name),
        document_hash(&format!("{auth}\n{name}"))
    )
}

fn default_name() -> String {
    let user = std::env::var("USER").unwrap_or_default();
    validate_name(&user).unwrap_or(NAME_DEFAULT).to_owned()
}

/// A clock before 1970 makes every token look good: the server then says what it thinks of it.
fn now_unix_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_auth_and_name_has_a_file_of_its_own_that_stays_in_the_folder() {
        let names = [
            session_file_name("http://127.0.0.1:7600", "Ada"),
            session_file_name("http://127.0.0.1:7601", "Ada"),
            session_file_name("http://127.0.0.1:7600", "Zoë"),
            session_file_name("http://127.0.0.1:7600", "Zoé"),
            session_file_name("http://127.0.0.1:7600", "../../etc/x"),
        ];
        let distinct: std::collections::HashSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
        assert!(
            names
                .iter()
                .all(|name| !name.contains(['/', '.']) || name.matches('.').count() == 1),
            "{names:?}"
        );
        assert!(names[0].starts_with("session-127-0-0-1-7600-Ada-"), "{}", names[0]);
    }
}
