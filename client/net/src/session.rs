//! Asks the role `auth` for a session: a connect token, and the world that is played.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bevy::ecs::resource::Resource;
use crossbeam_channel::{Receiver, Sender, bounded};
use meridian_game::WorldDefinition;
use meridian_ids::PlayerId;
use meridian_session::{
    CONNECT_TOKEN_BYTES, ErrorBody, PROTOCOL_VERSION, RESUME_BYTES_MAX, SESSION_PATH, SessionRequest, SessionResponse,
    WORLD_PATH, document_hash,
};

/// How long a request may take as a whole.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer that is read, in bytes: a world of the largest allowed size is well below it.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// What a client asks for.
#[derive(Clone)]
pub struct SessionQuery {
    /// The server, such as `http://127.0.0.1:7600`.
    pub server_url: String,
    /// What others are to call the player; with a good [`Self::resume`] it keeps its name.
    pub name: String,
    /// That of [`Session::resume`] of the session before: a secret of this client.
    pub resume: Option<String>,
    /// The gateway that was just lost.
    pub lost_gateway: Option<SocketAddr>,
    /// The world that the client has, and its hash: it is not asked for again.
    pub known_world: Option<(String, Arc<WorldDefinition>)>,
}

impl SessionQuery {
    /// A query of a guest who has not played before.
    pub fn guest(server_url: &str, name: &str) -> Self {
        Self {
            server_url: server_url.to_owned(),
            name: name.to_owned(),
            resume: None,
            lost_gateway: None,
            known_world: None,
        }
    }

    /// What is sent to the server.
    pub fn request(&self) -> SessionRequest {
        SessionRequest {
            name: self.name.clone(),
            protocol_version: PROTOCOL_VERSION,
            resume: self.resume.clone(),
            lost_gateway: self.lost_gateway,
        }
    }
}

/// Where sessions come from; the role `auth` over HTTP, unless an app has another source.
pub trait SessionSource: Send + Sync {
    /// Asks for a session. It does not block: the answer may come any time later, and who lets go of `reply` answers that there is none.
    fn ask(&self, query: SessionQuery, reply: SessionReply);
}

/// Takes the answer to a query.
pub struct SessionReply(Sender<Result<Session, SessionError>>);

impl SessionReply {
    /// Answers. If the client wants no session any more, nobody hears of it.
    pub fn send(self, answer: Result<Session, SessionError>) {
        let _ = self.0.try_send(answer);
    }

    /// A reply, and where its answer comes out.
    pub(crate) fn pair() -> (Self, Receiver<Result<Session, SessionError>>) {
        let (sender, receiver) = bounded(1);
        (Self(sender), receiver)
    }
}

/// The source of an app's sessions.
#[derive(Resource, Clone)]
pub struct SessionProvider(pub Arc<dyn SessionSource>);

impl Default for SessionProvider {
    fn default() -> Self {
        Self(Arc::new(HttpSessions))
    }
}

/// Sessions of the role `auth`, over HTTP.
struct HttpSessions;

impl SessionSource for HttpSessions {
    /// On a thread of its own, for the answer may take long.
    fn ask(&self, query: SessionQuery, reply: SessionReply) {
        let url = query.server_url.clone();
        let thread = std::thread::Builder::new().name("session-request".to_owned());
        // Without a thread the reply is let go of: there is no answer, and it is tried again.
        if let Err(error) = thread.spawn(move || reply.send(request_session(&query))) {
            tracing::warn!(url, %error, "no thread to ask for a session");
        }
    }
}

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
    /// The hash that the server knows the world by.
    pub world_hash: String,
    /// What the client shows to go on as this player in its next session; none of a session that cannot be taken up again.
    pub resume: Option<Resume>,
}

/// What a client shows to go on as the player that it was.
#[derive(Clone)]
pub struct Resume {
    /// A secret of the client.
    pub secret: String,
    /// For how long it is good from when the session was given.
    pub good_for: Duration,
}

impl Session {
    /// The session that a server's answer gives, in a world that was asked for apart.
    ///
    /// # Errors
    /// What `url` answered is no session.
    pub fn from_response(
        response: SessionResponse,
        world: Arc<WorldDefinition>,
        url: &str,
    ) -> Result<Self, SessionError> {
        let malformed = |reason: String| SessionError::Malformed {
            url: url.to_owned(),
            reason,
        };
        let token = STANDARD
            .decode(&response.token)
            .map_err(|error| malformed(error.to_string()))?;
        if token.len() != CONNECT_TOKEN_BYTES {
            return Err(malformed(format!("a token of {} bytes", token.len())));
        }
        if response.resume.len() > RESUME_BYTES_MAX {
            return Err(malformed(format!("a resume of {} bytes", response.resume.len())));
        }
        let gateway = response.gateway.parse();
        Ok(Self {
            token,
            gateway: gateway.map_err(|_| malformed("no gateway address".to_owned()))?,
            player: PlayerId(response.player_id),
            name: response.name,
            world,
            world_hash: response.world_hash,
            resume: Some(Resume {
                secret: response.resume,
                good_for: Duration::from_secs(response.resume_expires_in_s.into()),
            }),
        })
    }
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

    /// Whether the server knows the player no more: asked without a resume, it gives a session to another one.
    pub fn is_bad_resume(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == meridian_session::error_code::BAD_RESUME)
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

/// Asks the role `auth` for a session. Blocks for up to 20 s.
///
/// # Errors
/// [`SessionError`] says why there is none.
pub fn request_session(query: &SessionQuery) -> Result<Session, SessionError> {
    let base = query.server_url.trim_end_matches('/');
    let agent = agent();
    let session_url = format!("{base}{SESSION_PATH}");
    let text = read(&session_url, agent.post(&session_url).send_json(query.request()))?;
    let response: SessionResponse = serde_json::from_str(&text).map_err(|error| SessionError::Malformed {
        url: session_url.clone(),
        reason: error.to_string(),
    })?;
    let known = query.known_world.as_ref();
    let world = match known.filter(|(hash, _)| *hash == response.world_hash) {
        Some((_, world)) => Arc::clone(world),
        None => Arc::new(request_world(&agent, base, &response.world_hash)?),
    };
    Session::from_response(response, world, &session_url)
}

fn request_world(agent: &ureq::Agent, base: &str, hash: &str) -> Result<WorldDefinition, SessionError> {
    let url = format!("{base}{WORLD_PATH}");
    let text = read(&url, agent.get(&url).call())?;
    let malformed = |reason: String| SessionError::Malformed {
        url: url.clone(),
        reason,
    };
    let world: WorldDefinition = serde_json::from_str(&text).map_err(|error| malformed(error.to_string()))?;
    let world = world.checked(&url).map_err(|error| malformed(error.to_string()))?;
    if document_hash(&text) != hash {
        // The server was restarted with another world between the two requests.
        return Err(SessionError::Unreachable {
            url,
            reason: "the world is not the one that the session names".to_owned(),
        });
    }
    Ok(world)
}
