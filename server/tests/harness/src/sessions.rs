//! Sessions of a test world: the real role `auth`, asked without a socket, and answered at once.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use axum::response::Response;
use meridian_auth::{AuthConfig, AuthState, LiveGateways, ResumeSeal, WorldDocument, router};
use meridian_client_net::{Resume, Session, SessionError, SessionQuery, SessionReply, SessionSource};
use meridian_game::WorldDefinition;
use meridian_runtime::SecretKey;
use meridian_session::{ErrorBody, SESSION_PATH, SessionResponse, TokenUserData};
use tower::ServiceExt;

/// Where clients of a test world ask for sessions; nobody resolves it.
pub(crate) const SERVER_URL: &str = "memory";

/// Asks the role `auth` of a test world.
pub(crate) struct TestSessions {
    auth: axum::Router,
    world: Arc<WorldDefinition>,
    /// The gateways that are named: any, whether it lives or not, for a directory hears of a gateway's death later than its clients.
    gateways: Arc<Mutex<Vec<SocketAddr>>>,
}

impl TestSessions {
    pub(crate) fn new(key: [u8; 32], world: Arc<WorldDefinition>) -> Self {
        let gateways = Arc::<Mutex<Vec<SocketAddr>>>::default();
        let named = gateways.clone();
        let document = WorldDocument {
            json: serde_json::to_string(world.as_ref()).unwrap().into(),
            hash: world_hash().into(),
        };
        let directory = LiveGateways(move || named.lock().unwrap().clone());
        let state = AuthState::new(AuthConfig::default(), SecretKey::from(key), document, directory);
        let auth = router(state);
        Self { auth, world, gateways }
    }

    pub(crate) fn add_gateway(&self, gateway: SocketAddr) {
        self.gateways.lock().unwrap().push(gateway);
    }

    fn answer(&self, query: &SessionQuery) -> Result<Session, SessionError> {
        let body = serde_json::to_string(&query.request()).unwrap();
        let mut request = Request::post(SESSION_PATH).body(Body::from(body)).unwrap();
        let peer = SocketAddr::from(([10, 0, 1, 1], 1));
        request.extensions_mut().insert(ConnectInfo(peer));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (is_good, text) = runtime.block_on(async {
            let response: Response = self.auth.clone().oneshot(request).await.unwrap();
            let is_good = response.status().is_success();
            let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
            (is_good, String::from_utf8(bytes.to_vec()).unwrap())
        });
        if !is_good {
            let ErrorBody { code, message } = serde_json::from_str(&text).unwrap();
            let url = SERVER_URL.to_owned();
            return Err(SessionError::Refused { url, code, message });
        }
        let response: SessionResponse = serde_json::from_str(&text).unwrap();
        Session::from_response(response, self.world.clone(), SERVER_URL)
    }
}

impl SessionSource for TestSessions {
    fn ask(&self, query: SessionQuery, reply: SessionReply) {
        reply.send(self.answer(&query));
    }
}

/// A test world has one document.
pub(crate) fn world_hash() -> String {
    "00".to_owned()
}

/// What `auth` would have given a player.
pub(crate) fn resume(key: [u8; 32], player: &TokenUserData) -> Resume {
    let seal = ResumeSeal {
        key: &SecretKey::from(key),
        expiry_s: 3_600,
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    Resume {
        secret: seal.seal(now.unwrap_or(Duration::ZERO), player).unwrap(),
        good_for: Duration::from_secs(3_600),
    }
}
