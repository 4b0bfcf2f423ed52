//! The role `auth`: a guest's name in, a short-lived netcode connect token out, and the world's document for who asks.
//!
//! [`router`] serves `POST /v1/session` and `GET /v1/world` over [`AuthState`]; the composition root owns the listener. It must be
//! served with `ConnectInfo<SocketAddr>`, since the rate limit counts by peer address. A forwarded-for header is never believed.
//!
//! This role holds the netcode key and never sends, logs or prints it; it keeps no state of a player and opens no port.

mod config;
mod directory;
mod error;
mod http;
mod metric_definitions;
mod player_id;
mod rate_limit;
mod state;
mod token;

pub use config::{AuthConfig, InvalidConfig, RateLimitConfig};
pub use directory::{GatewayDirectory, LiveGateways};
pub use http::router;
pub use meridian_tokens::{ResumeError, ResumeSeal};
pub use state::{AuthState, WorldDocument};
