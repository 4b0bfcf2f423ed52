//! Asks the role `auth` for a session: a connect token, and the world that is played.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use meridian_game::WorldDefinition;
use meridian_ids::PlayerId;
use meridian_session::{
    CONNECT_TOKEN_BYTES, ErrorBody, PROTOCOL_VERSION, SESSION_PATH, SessionRequest, SessionResponse, WORLD_PATH,
    document_hash,
};

/// How long a request may take as a whole.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer that is read, in bytes: a world of the largest allowed size is well below it.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// What a client needs to connect.
#[derive(Clone)]
pub struct Session {
    /// The connect token, a secret of this client.
    pub token: Vec<u8>,
    /// The gateway to connect to.
    pub gateway: SocketAddr,
    /// Who the client is.
    pub player: PlayerId,
    /// What others call it.
    pub name: String,
    /// The world that is played.
    pub world: Arc<WorldDefinition>,
}

/// Why there is no session, in words that say what to do.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The server does not answer.
    #[error("cannot reach {url}: {reason}; is the server running there?")]
    Unreachable {
        /// What was asked.
        url: String,
        /// Why.
        reason: String,
    },
    /// The server answered and refused.
    #[error("refused by {url} ({code}): {message}")]
    Refused {
        /// What was asked.
        url: String,
        /// The server's code for the reason.
        code: String,
        /// The server's words.
        message: String,
    },
    /// The server answered with something else than a session.
    #[error("{url} did not answer as a Meridian server does: {reason}")]
    Malformed {
        /// What was asked.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl SessionError {
    /// Whether asking again later may help.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { code, .. } => {
                use meridian_session::error_code::{INTERNAL, NO_GATEWAY, RATE_LIMITED};
                [INTERNAL, NO_GATEWAY, RATE_LIMITED].contains(&code.as_str())
            }
            Self::Malformed { .. } => false,
        }
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_global(Some(REQUEST_TIMEOUT))
        .http_status_as_error(false)
        .build()
        .into()
}

fn in_plain_words(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            "nobody listens there".to_owned()
        }
        ureq::Error::Io(error) => error.to_string(),
        ureq::Error::HostNotFound => "there is no such host".to_owned(),
        ureq::Error::Timeout(_) => "no answer in time".to_owned(),
        error => error.to_string(),
    }
}

/// Reads an answer of `url`, or the error in it.
fn read(url: &str, answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<String, SessionError> {
    let unreachable = |error: ureq::Error| match error {
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => SessionError::Malformed {
            url: url.to_owned(),
            reason: "this is no address".to_owned(),
        },
        error => SessionError::Unreachable {
            url: url.to_owned(),
            reason: in_plain_words(&error),
        },
    };
    let mut answer = answer.map_err(unreachable)?;
    let status = answer.status();
    let text = answer
        .body_mut()
        .with_config()
        .limit(ANSWER_BYTES_MAX)
        .read_to_string()
        .map_err(unreachable)?;
    if status.is_success() {
        return Ok(text);
    }
    Err(match serde_json::from_str::<ErrorBody>(&text) {
        Ok(ErrorBody { code, message }) => SessionError::Refused {
            url: url.to_owned(),
            code,
            message,
        },
        // Such as a proxy's answer while the server behind it starts again.
        Err(_) if status.is_server_error() => SessionError::Unreachable {
            url: url.to_owned(),
            reason: format!("status {status}"),
        },
        Err(_) => SessionError::Malformed {
            url: url.to_owned(),
            reason: format!("status {status}"),
        },
    })
}

/// Asks `server_url` (such as `http://127.0.0.1:7600`) for a session of a guest called `name`. Blocks for up to 20 s.
///
/// # Errors
/// [`SessionError`] says why there is none.
pub fn request_session(server_url: &str, name: &str) -> Result<Session, SessionError> {
    let base = server_url.trim_end_matches('/');
    let agent = agent();
    let session_url = format!("{base}{SESSION_PATH}");
    let request = SessionRequest {
        name: name.to_owned(),
        protocol_version: PROTOCOL_VERSION,
    };
    let text = read(&session_url, agent.post(&session_url).send_json(&request))?;
    let malformed = |url: &str, reason: String| SessionError::Malformed {
        url: url.to_owned(),
        reason,
    };
    let response: SessionResponse =
        serde_json::from_str(&text).map_err(|error| malformed(&session_url, error.to_string()))?;
    let token = STANDARD
        .decode(&response.token)
        .map_err(|error| malformed(&session_url, error.to_string()))?;
    if token.len() != CONNECT_TOKEN_BYTES {
        return Err(malformed(&session_url, format!("a token of {} bytes", token.len())));
    }
    let gateway = response
        .gateway
        .parse()
        .map_err(|_| malformed(&session_url, "no gateway address".to_owned()))?;
    let world_url = format!("{base}{WORLD_PATH}");
    let text = read(&world_url, agent.get(&world_url).call())?;
    let world: WorldDefinition =
        serde_json::from_str(&text).map_err(|error| malformed(&world_url, error.to_string()))?;
    let world = world
        .checked(&world_url)
        .map_err(|error| malformed(&world_url, error.to_string()))?;
    if document_hash(&text) != response.world_hash {
        // The server was restarted with another world between the two requests.
        return Err(SessionError::Unreachable {
            url: world_url,
            reason: "the world is not the one that the session names".to_owned(),
        });
    }
    Ok(Session {
        token,
        gateway,
        player: PlayerId(response.player_id),
        name: response.name,
        world: Arc::new(world),
    })
}
