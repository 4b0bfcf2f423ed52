//! The role `gateway`: client connections, on a thread of its own.

use std::{
    hash::{BuildHasher, RandomState},
    net::UdpSocket,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Instant,
};

use anyhow::Context;
use meridian_bus::directory::{Announcement, ServiceKind};
use meridian_fabric::WakeFn;
use meridian_gateway::{Gateway, GatewayConfig, InterestConfig, RECEIVE_EVERY_MIN, ZoneLink};
use meridian_link::{ThreadedUdp, Urgency, Wake, bind_udp, raise_thread_priority};
use meridian_runtime::{HealthHandle, Shutdown, TaskLedger};

use crate::{
    cluster::Addresses,
    listen::ListenError,
    roles::{CreateContext, CreatedRole, local},
};

pub(super) struct GatewayRole {
    config: GatewayConfig,
    socket: UdpSocket,
    links: Vec<ZoneLink>,
    wake: Arc<Wake>,
    health: HealthHandle,
    /// Tells a cluster that clients may come; without a cluster nobody has to know.
    announce: Option<AnnounceFn>,
}

/// Announces the gateway, until what it gives is dropped.
type AnnounceFn = Box<dyn FnOnce() -> Option<Box<dyn Announcement>> + Send>;

impl GatewayRole {
    /// Binds the UDP socket; nothing is received yet.
    pub(super) fn create(context: &mut CreateContext<'_>, health: HealthHandle) -> anyhow::Result<Self> {
        let (world, links, wake) = match context.fabric()? {
            Some((fabric, _)) => {
                let wake = Arc::new(Wake::default());
                let waking = Arc::clone(&wake);
                let links = fabric.links(&(Arc::new(move || waking.wake()) as WakeFn));
                (Arc::clone(&fabric.world), links, wake)
            }
            None => {
                let local = context.local()?;
                let links = std::mem::take(&mut local.links);
                (Arc::clone(&local.world), links, Arc::clone(&local.wake))
            }
        };
        let section = &context.config.gateway;
        let socket = bind_udp(section.listen).map_err(|error| ListenError {
            purpose: "gateway",
            address: section.listen,
            source: error.source,
        })?;
        let bound = socket.local_addr()?;
        context.bound.gateway = Some(bound);
        let public = Some(section.public_address.unwrap_or(bound));
        let announce = context.cluster.clone().map(|cluster| -> AnnounceFn {
            Box::new(move || cluster.announce(ServiceKind::Gateway, Addresses { public, fabric: None }))
        });
        let config = GatewayConfig {
            world,
            clock: context.clock,
            game: local::game(),
            private_key: *context.netcode_key.expose(),
            public_addresses: section.public_address.into_iter().collect(),
            clients_max: section.clients_max,
            interest: InterestConfig::default(),
            id: RandomState::new().hash_one(bound),
        };
        Ok(Self {
            config,
            socket,
            links,
            wake,
            health,
            announce,
        })
    }
}

impl CreatedRole for GatewayRole {
    fn start(self: Box<Self>, ledger: &TaskLedger) -> anyhow::Result<()> {
        let Self {
            config,
            socket,
            links,
            wake,
            health,
            announce,
        } = *self;
        let stop = Shutdown::new();
        let (stopping, stop_wake, packet_wake) = (stop.clone(), Arc::clone(&wake), Arc::clone(&wake));
        let announced = Arc::new(Mutex::new(None));
        let withdrawn = Arc::clone(&announced);
        stop.on_cancel(move || {
            // Nobody is sent here any more who would be sent away at once.
            drop(withdrawn.lock().unwrap_or_else(PoisonError::into_inner).take());
            stop_wake.wake();
        });
        let io = ThreadedUdp::start(socket, move || packet_wake.wake_by(Instant::now() + RECEIVE_EVERY_MIN))
            .context("cannot start the gateway's I/O thread")?;
        let thread = thread::Builder::new()
            .name("gateway".to_owned())
            .spawn(move || {
                let priority = raise_thread_priority(Urgency::Ticks);
                tracing::debug!(%priority, "the gateway's thread runs");
                let clock = config.clock;
                let gateway = Gateway::new(config, clock.tick_at(Instant::now()), Box::new(io), links);
                let mut announce = announce;
                let mut ticked = false;
                meridian_gateway::run(
                    gateway,
                    clock,
                    &wake,
                    || stopping.is_cancelled(),
                    |_| {
                        if !std::mem::replace(&mut ticked, true) {
                            health.ready();
                            let announcement = announce.take().and_then(|announce| announce());
                            *announced.lock().unwrap_or_else(PoisonError::into_inner) = announcement;
                        }
                    },
                );
            })
            .context("cannot start the gateway's thread")?;
        ledger.register_thread("gateway", thread, stop)?;
        Ok(())
    }
}
