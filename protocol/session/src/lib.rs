//! What a client and the role `auth` say to each other over HTTP, and what a connect token tells the gateway.
//!
//! `POST /v1/session` takes a [`SessionRequest`] and answers with a [`SessionResponse`]; every error of that listener is an
//! [`ErrorBody`]. The token's user data carries a [`TokenUserData`] from `auth` to the gateway, sealed from the client.
//!
//! This crate never holds a private key, makes no token and does no I/O.

mod name;
mod netcode;
mod user_data;

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

pub use name::{NAME_BYTES_MAX, NAME_CHARS_MAX, NameError, validate_name};
pub use netcode::{
    NETCODE_NONCE_BYTES, NETCODE_PRIVATE_BYTES, NETCODE_TAG_BYTES, NETCODE_VERSION, netcode_additional_data,
};
pub use user_data::{TokenUserData, USER_DATA_BYTES, USER_DATA_VERSION, UserDataError};

/// The version of everything a client and the servers exchange. A client with another one is refused at `POST /v1/session`.
pub const PROTOCOL_VERSION: u32 = 4;

/// The netcode protocol id of [`PROTOCOL_VERSION`]: both ends of a connection must name the same one.
pub const NETCODE_PROTOCOL_ID: u64 = netcode_protocol_id(PROTOCOL_VERSION);

/// Bytes of a netcode 1.02 connect token, before it is written in base64.
pub const CONNECT_TOKEN_BYTES: usize = 2048;

/// Most bytes of a [`SessionResponse::resume`] as text: what auth seals with the longest name is well below.
pub const RESUME_BYTES_MAX: usize = 512;

/// What is shown of a secret.
const REDACTED: &str = "<redacted>";

/// Path of the session endpoint.
pub const SESSION_PATH: &str = "/v1/session";

/// Path of the world document.
pub const WORLD_PATH: &str = "/v1/world";

/// Derives the netcode protocol id of a protocol version: the eight letters `MERIDIAN`, the version folded into the low half.
#[must_use]
pub const fn netcode_protocol_id(protocol_version: u32) -> u64 {
    // `as` widens a u32, and a const fn has no `u64::from`.
    u64::from_be_bytes(*b"MERIDIAN") ^ (protocol_version as u64)
}

/// Hash of a document such as the one at [`WORLD_PATH`], over its bytes as served: 16 hexadecimal digits of FNV-1a (64 bits). It tells
/// accidents apart; nothing secret depends on it.
#[must_use]
pub fn document_hash(document: &str) -> String {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(PRIME);
    format!("{:016x}", document.bytes().fold(OFFSET_BASIS, fold))
}

/// Body of `POST /v1/session`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRequest {
    /// The name the player wants to be seen with. The server trims it; see [`validate_name`]. With a good [`Self::resume`] the player keeps the
    /// name it had.
    pub name: String,
    /// The client's [`PROTOCOL_VERSION`].
    pub protocol_version: u32,
    /// [`SessionResponse::resume`] of an earlier session: the client goes on as the player that it was. At most [`RESUME_BYTES_MAX`] bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<String>,
    /// The gateway that the client has just lost, `ip:port`: it is sent to another one, if there is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_gateway: Option<SocketAddr>,
}

impl fmt::Debug for SessionRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SessionRequest")
            .field("name", &self.name)
            .field("protocol_version", &self.protocol_version)
            .field("resume", &self.resume.as_ref().map(|_| REDACTED))
            .field("lost_gateway", &self.lost_gateway)
            .finish()
    }
}

/// Answer of `POST /v1/session`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionResponse {
    /// The player: stays the same for as long as the session is known.
    pub player_id: u64,
    /// The netcode client id: fresh for each token, never zero.
    pub client_id: u64,
    /// The name as accepted, trimmed.
    pub name: String,
    /// The connect token of [`CONNECT_TOKEN_BYTES`], in base64 (RFC 4648 section 4, padded). Holds the connection's keys: a
    /// secret of this client.
    pub token: String,
    /// The gateway to connect to, `ip:port`, UDP.
    pub gateway: String,
    /// When the token stops being accepted, in seconds since the Unix epoch.
    pub expires_at_unix_s: u64,
    /// The server's [`PROTOCOL_VERSION`].
    pub protocol_version: u32,
    /// [`document_hash`] of what [`WORLD_PATH`] serves: a client that has that document need not fetch it again.
    pub world_hash: String,
    /// What the client shows to go on as this player in its next session: opaque to it, and a secret of it. Each session gives a new one.
    pub resume: String,
    /// For how many seconds from now [`Self::resume`] is good. Who plays for longer asks for another session in time, and needs not use its token.
    pub resume_expires_in_s: u32,
}

impl fmt::Debug for SessionResponse {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SessionResponse")
            .field("player_id", &self.player_id)
            .field("client_id", &self.client_id)
            .field("name", &self.name)
            .field("token", &REDACTED)
            .field("gateway", &self.gateway)
            .field("expires_at_unix_s", &self.expires_at_unix_s)
            .field("protocol_version", &self.protocol_version)
            .field("world_hash", &self.world_hash)
            .field("resume", &REDACTED)
            .field("resume_expires_in_s", &self.resume_expires_in_s)
            .finish()
    }
}

/// Body of every answer that is an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What programs match on: one of [`error_code`].
    pub code: String,
    /// What people read.
    pub message: String,
}

/// The values of [`ErrorBody::code`].
pub mod error_code {
    /// 400: the body is not the JSON that was expected.
    pub const BAD_REQUEST: &str = "bad_request";
    /// 400: the name is empty, too long or holds control characters.
    pub const BAD_NAME: &str = "bad_name";
    /// 401: the `resume` of the request is not one that this server gave, or has expired. Without it there is a session, as another player.
    pub const BAD_RESUME: &str = "bad_resume";
    /// 404: no such path.
    pub const NOT_FOUND: &str = "not_found";
    /// 405: the path exists, but not with this method.
    pub const METHOD_NOT_ALLOWED: &str = "method_not_allowed";
    /// 413: the body is larger than the endpoint takes.
    pub const TOO_LARGE: &str = "too_large";
    /// 426: client and server speak different protocol versions.
    pub const PROTOCOL_VERSION: &str = "protocol_version";
    /// 429: too many requests from this address; `Retry-After` says when to come back.
    pub const RATE_LIMITED: &str = "rate_limited";
    /// 503: no gateway takes players now.
    pub const NO_GATEWAY: &str = "no_gateway";
    /// 500: the server's fault; its log says more.
    pub const INTERNAL: &str = "internal";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_protocol_version_has_its_own_netcode_id() {
        assert_ne!(netcode_protocol_id(1), netcode_protocol_id(2));
        assert_eq!(NETCODE_PROTOCOL_ID >> 32, u64::from(u32::from_be_bytes(*b"MERI")));
    }

    /// The value is from the test vectors of the function's authors.
    #[test]
    fn a_document_is_hashed_with_fnv_1a() {
        assert_eq!(document_hash("foobar"), "85944171f73967e8");
    }

    #[test]
    fn neither_token_nor_resume_are_shown_in_debug() {
        let response = SessionResponse {
            player_id: 1,
            client_id: 2,
            name: "ada".to_owned(),
            token: "c2VjcmV0".to_owned(),
            gateway: "127.0.0.1:7700".to_owned(),
            expires_at_unix_s: 3,
            protocol_version: PROTOCOL_VERSION,
            world_hash: "00".to_owned(),
            resume: "cmVzdW1l".to_owned(),
            resume_expires_in_s: 3_600,
        };
        let shown = format!("{response:?}");
        assert!(!shown.contains("c2VjcmV0") && !shown.contains("cmVzdW1l"), "{shown}");
        let json = serde_json::to_string(&response).unwrap();
        assert_eq!(serde_json::from_str::<SessionResponse>(&json).unwrap(), response);
        let request = SessionRequest {
            name: "ada".to_owned(),
            protocol_version: PROTOCOL_VERSION,
            resume: Some("cmVzdW1l".to_owned()),
            lost_gateway: None,
        };
        assert!(!format!("{request:?}").contains("cmVzdW1l"));
    }

    #[test]
    fn a_request_needs_no_more_than_a_name_and_a_version() {
        let json = r#"{"name":"ada","protocol_version":4}"#;
        let request: SessionRequest = serde_json::from_str(json).unwrap();
        assert_eq!((&request.resume, request.lost_gateway), (&None, None));
        assert_eq!(serde_json::to_string(&request).unwrap(), json);
        let lost = r#"{"name":"ada","protocol_version":4,"lost_gateway":"[::1]:7700"}"#;
        let request: SessionRequest = serde_json::from_str(lost).unwrap();
        assert_eq!(request.lost_gateway, Some("[::1]:7700".parse().unwrap()));
    }
}
