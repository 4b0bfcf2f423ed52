//! The role `auth`: routes on the shared HTTP listener; it spawns nothing of its own.

use std::sync::Arc;

use meridian_auth::{AuthState, GatewayDirectory, LiveGateways, WorldDocument};
use meridian_runtime::{Health, HealthHandle, HealthState, TaskLedger};

use crate::{
    role::Role,
    roles::{CreateContext, CreatedRole},
};

pub(super) struct AuthRole {
    health: HealthHandle,
}

impl AuthRole {
    /// Adds the role's routes. The gateway of this process, if there is one, was created before.
    pub(super) fn create(context: &mut CreateContext<'_>, health: HealthHandle) -> anyhow::Result<Self> {
        let config = &context.config.auth;
        let world = WorldDocument {
            json: Arc::clone(&context.world.json),
            hash: Arc::clone(&context.world.hash),
        };
        let gateways = gateway_directory(context);
        let state = AuthState::new(config.clone(), context.netcode_key.clone(), world, gateways);
        context.http_routes = std::mem::take(&mut context.http_routes).merge(meridian_auth::router(state));
        Ok(Self { health })
    }
}

impl CreatedRole for AuthRole {
    fn start(self: Box<Self>, _ledger: &TaskLedger) -> anyhow::Result<()> {
        self.health.ready();
        Ok(())
    }
}

/// The gateway of this process while it serves; without one, the address that the configuration names.
fn gateway_directory(context: &CreateContext<'_>) -> impl GatewayDirectory {
    let cluster = context.cluster.clone();
    let is_here = cluster.is_none() && context.config.runs(Role::Gateway);
    let address = if is_here {
        context.config.gateway.public_address.or(context.bound.gateway)
    } else {
        context.config.auth.gateway_address
    };
    let health: Health = context.health.clone();
    LiveGateways(move || {
        if let Some(cluster) = &cluster {
            let listed = cluster.gateways();
            // One that is not looked up is named by the configuration.
            return if listed.is_empty() {
                address.into_iter().collect()
            } else {
                listed
            };
        }
        let is_live = !is_here || health.state(Role::Gateway.name()).is_some_and(HealthState::is_serving);
        address.filter(|_| is_live).into_iter().collect()
    })
}
