//! One file per role, in two phases: `create` binds ports and registers health, `start` spawns named tasks and threads.

#[cfg(feature = "auth")]
mod auth;
#[cfg(all(feature = "zone", feature = "gateway"))]
mod cluster;
#[cfg(all(feature = "zone", feature = "gateway"))]
mod front;
#[cfg(all(feature = "zone", feature = "gateway"))]
mod gateway;
#[cfg(all(feature = "zone", feature = "gateway"))]
mod local;
#[cfg(all(feature = "zone", feature = "gateway"))]
mod zone;

use std::sync::Arc;

use axum::Router;
use meridian_ids::TickClock;
use meridian_runtime::{Health, SecretKey, TaskLedger};

use crate::{
    audit::AuditHub, cluster::ClusterBus, config::Config, faults::Faults, ready_file::BoundAddresses, role::Role,
    world::World,
};

#[cfg(all(feature = "zone", feature = "gateway"))]
pub use {cluster::ClusterFabric, local::LocalFabric};

/// Connects an instance of a zone with gateways, neighbours and the bus; called once for each instance. Neighbours are dialled once the instance
/// has its lease, which it is to write into what comes with the links: one that stands by would take the links of the one that has it.
#[cfg(all(feature = "zone", feature = "gateway"))]
type ConnectFn = Box<dyn Fn() -> (meridian_zone::ZoneLinks, Arc<ToldLease>) + Send + Sync>;

/// The lease that an instance of a zone has, for those who dial its neighbours; 0 before it has one.
#[cfg(all(feature = "zone", feature = "gateway"))]
#[derive(Debug, Default)]
struct ToldLease(std::sync::atomic::AtomicU64);

#[cfg(all(feature = "zone", feature = "gateway"))]
impl ToldLease {
    fn tell(&self, lease: meridian_ids::LeaseEpoch) {
        self.0.store(lease.0, std::sync::atomic::Ordering::Relaxed);
    }

    fn get(&self) -> Option<meridian_ids::LeaseEpoch> {
        let lease = self.0.load(std::sync::atomic::Ordering::Relaxed);
        (lease > 0).then_some(meridian_ids::LeaseEpoch(lease))
    }
}

/// Lets threads run before others no further than the configuration allows it.
pub fn limit_thread_priority(config: &Config) {
    #[cfg(all(feature = "zone", feature = "gateway"))]
    meridian_link::limit_thread_priority(config.thread_priority);
    #[cfg(not(all(feature = "zone", feature = "gateway")))]
    let _ = config;
}

/// Lets the calling thread, which carries snapshots and inputs, run beside those that tick; where the system does not allow it, it runs as it is.
pub fn raise_fabric_priority() {
    #[cfg(all(feature = "zone", feature = "gateway"))]
    meridian_link::raise_thread_priority(meridian_link::Urgency::Ticks);
}

/// Lets the calling thread, which carries who owns what, run before those that tick, as far as the system allows it.
pub fn raise_bus_priority() {
    #[cfg(all(feature = "zone", feature = "gateway"))]
    meridian_link::raise_thread_priority(meridian_link::Urgency::Carries);
}

/// A zone that this process runs.
#[cfg(all(feature = "zone", feature = "gateway"))]
struct ZoneWiring {
    zone: meridian_ids::ZoneId,
    /// Where orders to it are handed in.
    desk: meridian_fabric::desk::Desk,
    connect: ConnectFn,
}

/// What a role is created from, and where it leaves what others need. Roles are created in the order of [`Role`].
pub struct CreateContext<'a> {
    /// The whole configuration.
    pub config: &'a Config,
    /// The world.
    pub world: &'a World,
    /// The key that seals and opens connect tokens.
    pub netcode_key: &'a SecretKey,
    /// Every role's health.
    pub health: &'a Health,
    /// Where roles add their routes.
    pub http_routes: Router,
    /// Where roles note what they bound.
    pub bound: BoundAddresses,
    /// When the world's ticks are due, for every role of this process.
    pub clock: TickClock,
    /// Where zones tell what they simulate.
    pub audit: Arc<AuditHub>,
    /// Where zones look for faults to let happen.
    pub faults: Arc<Faults>,
    /// What the zones and the gateway of one process share, once a role asked for it.
    #[cfg(all(feature = "zone", feature = "gateway"))]
    pub local: Option<LocalFabric>,
    /// This process's place in a cluster, if it is in one.
    pub cluster: Option<ClusterBus>,
    /// What zones and gateway of this process are connected to others by, once a role asked for it.
    #[cfg(all(feature = "zone", feature = "gateway"))]
    pub fabric: Option<ClusterFabric>,
}

#[cfg(all(feature = "zone", feature = "gateway"))]
impl CreateContext<'_> {
    /// What the zones and the gateway of this process share.
    fn local(&mut self) -> anyhow::Result<&mut LocalFabric> {
        match &mut self.local {
            Some(local) => Ok(local),
            none => Ok(none.insert(LocalFabric::new(self.config, self.world, &self.clock)?)),
        }
    }

    /// What the zones and the gateway of this process are connected to other processes by; none where there are no others.
    fn fabric(&mut self) -> anyhow::Result<Option<(&ClusterFabric, &ClusterBus)>> {
        let Some(cluster) = &self.cluster else {
            return Ok(None);
        };
        if self.fabric.is_none() {
            let fabric = ClusterFabric::new(self.config, self.world, cluster)?;
            self.bound.fabric = Some(fabric.local_addr());
            self.fabric = Some(fabric);
        }
        Ok(self.fabric.as_ref().map(|fabric| (fabric, cluster)))
    }
}

/// A role that holds its ports and does nothing yet.
pub trait CreatedRole: Send {
    /// Spawns the role's tasks and threads into the ledger.
    ///
    /// # Errors
    /// Something could not be started.
    fn start(self: Box<Self>, ledger: &TaskLedger) -> anyhow::Result<()>;
}

/// Creates a role.
///
/// # Errors
/// Its port is taken, its configuration is wrong, or this binary does not have it.
pub fn create(role: Role, context: &mut CreateContext<'_>) -> anyhow::Result<Box<dyn CreatedRole>> {
    #[cfg_attr(
        not(any(feature = "zone", feature = "gateway", feature = "auth")),
        expect(unused_variables, reason = "a binary without a role has nothing to create")
    )]
    let health = context.health;
    match role {
        // Each zone has a health of its own.
        #[cfg(all(feature = "zone", feature = "gateway"))]
        Role::Zone => Ok(Box::new(zone::ZoneRole::create(context, health)?)),
        #[cfg(all(feature = "zone", feature = "gateway"))]
        Role::Gateway => {
            let health = health.register(role.name());
            Ok(Box::new(gateway::GatewayRole::create(context, health)?))
        }
        #[cfg(feature = "auth")]
        Role::Auth => {
            let health = health.register(role.name());
            Ok(Box::new(auth::AuthRole::create(context, health)?))
        }
        #[cfg(not(all(feature = "zone", feature = "gateway", feature = "auth")))]
        other => anyhow::bail!("this binary was built without the role {other}"),
    }
}
