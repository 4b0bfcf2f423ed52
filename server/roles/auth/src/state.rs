//! What the handlers share.

use std::sync::Arc;

use meridian_runtime::SecretKey;

use crate::{
    config::AuthConfig, directory::GatewayDirectory, metric_definitions, player_id::PlayerIdMinter,
    rate_limit::PeerRateLimiter,
};

/// The world as clients get it.
#[derive(Clone, Debug)]
pub struct WorldDocument {
    /// The document, JSON.
    pub json: Arc<str>,
    /// Its hash, in visible ASCII without quotes: the entity tag, and what sessions carry.
    pub hash: Arc<str>,
}

/// The role's state. Clones share it.
#[derive(Clone)]
pub struct AuthState {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) config: AuthConfig,
    pub(crate) netcode_key: SecretKey,
    pub(crate) world: WorldDocument,
    pub(crate) gateways: Box<dyn GatewayDirectory>,
    pub(crate) player_ids: PlayerIdMinter,
    pub(crate) rate_limiter: PeerRateLimiter,
}

impl AuthState {
    /// Takes a validated configuration, the netcode key it shares with the gateways, the world and the way to a gateway.
    #[must_use]
    pub fn new(
        config: AuthConfig,
        netcode_key: SecretKey,
        world: WorldDocument,
        gateways: impl GatewayDirectory,
    ) -> Self {
        metric_definitions::describe();
        let rate_limiter = PeerRateLimiter::new(&config.rate_limit);
        let gateways = Box::new(gateways);
        let player_ids = PlayerIdMinter::default();
        Self {
            inner: Arc::new(Inner {
                config,
                netcode_key,
                world,
                gateways,
                player_ids,
                rate_limiter,
            }),
        }
    }
}
