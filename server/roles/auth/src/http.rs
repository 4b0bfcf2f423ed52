//! The role's two endpoints.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{ConnectInfo, DefaultBodyLimit, Request, State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use meridian_session::{
    PROTOCOL_VERSION, SESSION_PATH, SessionRequest, SessionResponse, TokenUserData, WORLD_PATH, validate_name,
};
use meridian_tokens::ResumeSeal;
use metrics::counter;
use serde::Deserialize;

use crate::{
    error::SessionError,
    metric_definitions::{RATE_LIMITED, SESSIONS_ISSUED, SESSIONS_RESUMED},
    state::AuthState,
    token::ConnectTokenIssuer,
};

/// Most bytes of a request's body: a name and a number take far less.
pub(crate) const BODY_BYTES_MAX: usize = 4 * 1024;

/// The role's routes. They need `ConnectInfo<SocketAddr>`, and leave the fallback to who merges them.
pub fn router(state: AuthState) -> Router {
    let session = post(create_session)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        // The outermost layer: who sends too much is refused before the body is read.
        .layer(middleware::from_fn_with_state(state.clone(), limit_rate));
    Router::new()
        .route(SESSION_PATH, session)
        .route(WORLD_PATH, get(world))
        .with_state(state)
}

async fn limit_rate(
    State(state): State<AuthState>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    match state.inner.rate_limiter.check(peer.ip()) {
        Ok(()) => next.run(request).await,
        Err(retry_after) => {
            counter!(RATE_LIMITED).increment(1);
            SessionError::RateLimited { retry_after }.into_response()
        }
    }
}

async fn create_session(
    State(state): State<AuthState>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, SessionError> {
    let request = read_request(&body.map_err(body_error)?)?;
    let session = issue_session(&state, &request)?;
    counter!(SESSIONS_ISSUED).increment(1);
    tracing::info!(
        player_id = session.player_id,
        client_id = session.client_id,
        name = session.name,
        "session"
    );
    // The answer holds keys: nobody on the way may keep it.
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(session)).into_response())
}

async fn world(State(state): State<AuthState>, headers: HeaderMap) -> Response {
    let world = &state.inner.world;
    let tag = format!("\"{}\"", world.hash);
    let is_known = headers
        .get(header::IF_NONE_MATCH)
        .is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let caching = [(header::ETAG, tag), (header::CACHE_CONTROL, "no-cache".to_owned())];
    if is_known {
        return (StatusCode::NOT_MODIFIED, caching).into_response();
    }
    let json = Bytes::copy_from_slice(world.json.as_bytes());
    (caching, [(header::CONTENT_TYPE, "application/json")], json).into_response()
}

fn issue_session(state: &AuthState, request: &SessionRequest) -> Result<SessionResponse, SessionError> {
    let state = &state.inner;
    // A clock before 1970 gives tokens that are expired at birth, which the gateway says in its log.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let seal = ResumeSeal {
        key: &state.netcode_key,
        expiry_s: state.config.resume_expiry_s,
    };
    let user_data = match &request.resume {
        Some(resume) => seal.open(now, resume).map_err(SessionError::Resume)?,
        None => {
            let name = validate_name(&request.name)?;
            TokenUserData::new(state.player_ids.mint(now, rand::random()), name)?
        }
    };
    let gateway = state.gateways.live_gateway(request.lost_gateway);
    let gateway = gateway.ok_or(SessionError::NoGateway)?;
    let client_id = rand::random::<u64>().max(1);
    let issuer = ConnectTokenIssuer {
        netcode_key: &state.netcode_key,
        expiry_s: state.config.token_expiry_s,
        connection_timeout_s: state.config.connection_timeout_s,
    };
    let token = issuer.issue(now, client_id, gateway, &user_data)?;
    let resume = seal.seal(now, &user_data).map_err(|_| SessionError::Seal)?;
    if request.resume.is_some() {
        counter!(SESSIONS_RESUMED).increment(1);
    }
    Ok(SessionResponse {
        player_id: user_data.player_id(),
        client_id,
        name: user_data.name().to_owned(),
        token: BASE64_STANDARD.encode(token.bytes),
        gateway: gateway.to_string(),
        expires_at_unix_s: token.expires_at_unix_s,
        protocol_version: PROTOCOL_VERSION,
        world_hash: state.world.hash.to_string(),
        resume,
        resume_expires_in_s: state.config.resume_expiry_s,
    })
}

/// The version is read alone and first: a client of another version may send another body, and must learn why it is refused.
fn read_request(body: &[u8]) -> Result<SessionRequest, SessionError> {
    #[derive(Deserialize)]
    struct VersionOnly {
        protocol_version: u32,
    }
    let VersionOnly { protocol_version } = serde_json::from_slice(body)?;
    if protocol_version != PROTOCOL_VERSION {
        return Err(SessionError::ProtocolVersion {
            client: protocol_version,
        });
    }
    Ok(serde_json::from_slice(body)?)
}

fn body_error(rejection: BytesRejection) -> SessionError {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        SessionError::TooLarge
    } else {
        SessionError::Body(rejection.body_text())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use axum::{body::Body, extract::connect_info::MockConnectInfo};
    use meridian_runtime::SecretKey;
    use meridian_session::{CONNECT_TOKEN_BYTES, ErrorBody, error_code};
    use tower::ServiceExt;

    use super::*;
    use crate::{AuthConfig, LiveGateways, WorldDocument};

    const GATEWAY: &str = "127.0.0.1:7700";

    #[tokio::test]
    async fn a_guest_gets_a_session_and_each_one_another() {
        let router = auth(AuthConfig::default(), Some(GATEWAY));
        let (mut players, mut clients, mut tokens) = (HashSet::new(), HashSet::new(), HashSet::new());
        for _ in 0..20 {
            let (status, body) = ask(&router, r#"{"name": " Ada ", "protocol_version": 4}"#).await;
            assert_eq!(status, StatusCode::OK, "{body}");
            let session: SessionResponse = serde_json::from_str(&body).unwrap();
            assert_eq!((session.name.as_str(), session.gateway.as_str()), ("Ada", GATEWAY));
            assert_eq!((session.protocol_version, session.world_hash.as_str()), (4, "abc"));
            let token = BASE64_STANDARD.decode(&session.token).unwrap();
            assert_eq!(token.len(), CONNECT_TOKEN_BYTES);
            assert!(session.client_id != 0);
            players.insert(session.player_id);
            clients.insert(session.client_id);
            tokens.insert(token);
        }
        assert_eq!((players.len(), clients.len(), tokens.len()), (20, 20, 20));
    }

    #[tokio::test]
    async fn bad_requests_say_what_is_wrong() {
        let router = auth(AuthConfig::default(), Some(GATEWAY));
        let long_name = format!(r#"{{"name": "{}", "protocol_version": 4}}"#, "x".repeat(25));
        let large = format!(r#"{{"name": "{}", "protocol_version": 4}}"#, "x".repeat(BODY_BYTES_MAX));
        for (body, status, code) in [
            ("{", 400, error_code::BAD_REQUEST),
            ("", 400, error_code::BAD_REQUEST),
            ("[[[[", 400, error_code::BAD_REQUEST),
            ("\u{0}\u{1}", 400, error_code::BAD_REQUEST),
            (r#"{"name": "Ada"}"#, 400, error_code::BAD_REQUEST),
            (r#"{"protocol_version": 4}"#, 400, error_code::BAD_REQUEST),
            (
                r#"{"name": "Ada", "protocol_version": -1}"#,
                400,
                error_code::BAD_REQUEST,
            ),
            (r#"{"name": "  ", "protocol_version": 4}"#, 400, error_code::BAD_NAME),
            (
                r#"{"name": "a\u0000b", "protocol_version": 4}"#,
                400,
                error_code::BAD_NAME,
            ),
            (&long_name, 400, error_code::BAD_NAME),
            (&large, 413, error_code::TOO_LARGE),
            (
                r#"{"name": "Ada", "protocol_version": 5}"#,
                426,
                error_code::PROTOCOL_VERSION,
            ),
            (
                r#"{"who": "Ada", "protocol_version": 0}"#,
                426,
                error_code::PROTOCOL_VERSION,
            ),
        ] {
            let (answered, text) = ask(&router, body).await;
            assert_eq!(answered.as_u16(), status, "{body}: {text}");
            let error: ErrorBody = serde_json::from_str(&text).unwrap();
            assert_eq!(error.code, code, "{body}");
            assert!(!error.message.is_empty());
        }
        let (_, text) = ask(&router, r#"{"name": "Ada", "protocol_version": 5}"#).await;
        assert!(
            text.contains("protocol version 5, this server version 4: update the server"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn without_a_gateway_nobody_gets_a_token() {
        let (status, body) = ask(
            &auth(AuthConfig::default(), None),
            r#"{"name": "Ada", "protocol_version": 4}"#,
        )
        .await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(
            serde_json::from_str::<ErrorBody>(&body).unwrap().code,
            error_code::NO_GATEWAY
        );
    }

    #[tokio::test]
    async fn a_resume_keeps_player_and_name() {
        let router = auth(AuthConfig::default(), Some(GATEWAY));
        let first = session(&router, r#"{"name": "Ada", "protocol_version": 4}"#).await;
        let mut last = first.clone();
        for _ in 0..3 {
            let body = format!(
                r#"{{"name": "Eve", "protocol_version": 4, "resume": "{}"}}"#,
                last.resume
            );
            last = session(&router, &body).await;
            assert_eq!((last.player_id, last.name.as_str()), (first.player_id, "Ada"));
            assert_ne!((last.client_id, &last.token), (first.client_id, &first.token));
        }
        // Without it the same name is another player.
        let other = session(&router, r#"{"name": "Ada", "protocol_version": 4}"#).await;
        assert_ne!(other.player_id, first.player_id);
    }

    #[tokio::test]
    async fn a_resume_that_is_forged_expired_or_of_another_key_is_refused() {
        let router = auth(AuthConfig::default(), Some(GATEWAY));
        let asks = r#"{"name": "Ada", "protocol_version": 4}"#;
        let good = session(&router, asks).await.resume;
        let mut forged = good.clone().into_bytes();
        forged[40] ^= 1;
        let of_another_key = session(&auth_with(AuthConfig::default(), 2, &[GATEWAY]), asks)
            .await
            .resume;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let an_hour_ago = now - Duration::from_secs(3_600);
        let seal = ResumeSeal {
            key: &SecretKey::from([1; 32]),
            expiry_s: AuthConfig::default().resume_expiry_s,
        };
        let expired = seal.seal(an_hour_ago, &TokenUserData::new(7, "Ada").unwrap()).unwrap();
        let long = "A".repeat(2_000);
        for resume in [
            String::from_utf8(forged).unwrap().as_str(),
            &of_another_key,
            &expired,
            &long,
            "",
        ] {
            let body = format!(r#"{{"name": "Ada", "protocol_version": 4, "resume": "{resume}"}}"#);
            let (status, text) = ask(&router, &body).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{resume}: {text}");
            let error: ErrorBody = serde_json::from_str(&text).unwrap();
            assert_eq!(error.code, error_code::BAD_RESUME);
        }
        let body = format!(r#"{{"name": "Ada", "protocol_version": 4, "resume": "{good}"}}"#);
        assert_eq!(ask(&router, &body).await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn who_lost_a_gateway_is_sent_to_another_if_there_is_one() {
        let (lost, other) = ("127.0.0.1:7700", "127.0.0.1:7701");
        let asks = format!(r#"{{"name": "Ada", "protocol_version": 4, "lost_gateway": "{lost}"}}"#);
        let router = auth_with(AuthConfig::default(), 1, &[lost, other]);
        for _ in 0..20 {
            assert_eq!(session(&router, &asks).await.gateway, other);
        }
        assert_eq!(
            session(&auth(AuthConfig::default(), Some(lost)), &asks).await.gateway,
            lost
        );
        let nonsense = asks.replace(lost, "nowhere");
        assert_eq!(ask(&router, &nonsense).await.0, StatusCode::BAD_REQUEST);
        // Who lost none is sent anywhere.
        let asks = r#"{"name": "Ada", "protocol_version": 4}"#;
        let mut named = HashSet::new();
        for _ in 0..60 {
            named.insert(session(&router, asks).await.gateway);
        }
        assert_eq!(named.len(), 2);
    }

    #[tokio::test]
    async fn an_address_that_asks_too_often_is_told_when_to_return() {
        let mut config = AuthConfig::default();
        config.rate_limit.burst = 3.try_into().unwrap();
        config.rate_limit.per_second = 1.try_into().unwrap();
        let router = auth(config, Some(GATEWAY));
        // More than the burst and the refill of a slow machine's minute.
        let mut limited = None;
        for _ in 0..100 {
            let response = router.clone().oneshot(request("{")).await.unwrap();
            if response.status() == StatusCode::TOO_MANY_REQUESTS {
                limited = Some(response);
                break;
            }
        }
        assert_eq!(limited.unwrap().headers()[header::RETRY_AFTER], "1");
    }

    #[tokio::test]
    async fn the_world_is_served_once_to_who_keeps_it() {
        let router = auth(AuthConfig::default(), None);
        let get = |tag: &str| {
            let request = Request::get(WORLD_PATH).header(header::IF_NONE_MATCH, tag);
            router.clone().oneshot(request.body(Body::empty()).unwrap())
        };
        let first = get("").await.unwrap();
        assert_eq!(first.status(), StatusCode::OK);
        assert_eq!(first.headers()[header::CONTENT_TYPE], "application/json");
        assert_eq!(first.headers()[header::ETAG], "\"abc\"");
        assert_eq!(get("\"abc\"").await.unwrap().status(), StatusCode::NOT_MODIFIED);
    }

    fn auth(config: AuthConfig, gateway: Option<&'static str>) -> Router {
        let gateways: Vec<&str> = gateway.into_iter().collect();
        auth_with(config, 1, &gateways)
    }

    fn auth_with(config: AuthConfig, key: u8, gateways: &[&str]) -> Router {
        let world = WorldDocument {
            json: "{}".into(),
            hash: "abc".into(),
        };
        let live: Vec<SocketAddr> = gateways.iter().map(|gateway| gateway.parse().unwrap()).collect();
        let directory = LiveGateways(move || live.clone());
        router(AuthState::new(config, SecretKey::from([key; 32]), world, directory))
            .layer(MockConnectInfo(SocketAddr::from(([127, 0, 0, 1], 1))))
    }

    async fn session(router: &Router, body: &str) -> SessionResponse {
        let (status, text) = ask(router, body).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    fn request(body: &str) -> Request {
        Request::post(SESSION_PATH).body(Body::from(body.to_owned())).unwrap()
    }

    async fn ask(router: &Router, body: &str) -> (StatusCode, String) {
        let response = router.clone().oneshot(request(body)).await.unwrap();
        let status = response.status();
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }
}
