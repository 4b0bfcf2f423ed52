//! The role `gateway`: client connections, on a thread of its own.

use std::{net::UdpSocket, sync::Arc, thread, time::Instant};

use anyhow::Context;
use meridian_gateway::{Gateway, GatewayConfig, InterestConfig, RECEIVE_EVERY_MIN, ZoneLink};
use meridian_link::{ThreadedUdp, Wake, bind_udp, raise_thread_priority};
use meridian_runtime::{HealthHandle, Shutdown, TaskLedger};

use crate::{
    listen::ListenError,
    roles::{CreateContext, CreatedRole, local},
};

pub(super) struct GatewayRole {
    config: GatewayConfig,
    socket: UdpSocket,
    links: Vec<ZoneLink>,
    wake: Arc<Wake>,
    health: HealthHandle,
}

impl GatewayRole {
    /// Binds the UDP socket; nothing is received yet.
    pub(super) fn create(context: &mut CreateContext<'_>, health: HealthHandle) -> anyhow::Result<Self> {
        let local = context.local()?;
        let (world, links) = (Arc::clone(&local.world), std::mem::take(&mut local.links));
        let wake = Arc::clone(&local.wake);
        let section = &context.config.gateway;
        let socket = bind_udp(section.listen).map_err(|error| ListenError {
            purpose: "gateway",
            address: section.listen,
            source: error.source,
        })?;
        context.bound.gateway = Some(socket.local_addr()?);
        let config = GatewayConfig {
            world,
            clock: context.clock,
            game: local::game(),
            private_key: *context.netcode_key.expose(),
            public_addresses: section.public_address.into_iter().collect(),
            clients_max: section.clients_max,
            interest: InterestConfig::default(),
        };
        Ok(Self {
            config,
            socket,
            links,
            wake,
            health,
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
        } = *self;
        let stop = Shutdown::new();
        let (stopping, stop_wake, packet_wake) = (stop.clone(), Arc::clone(&wake), Arc::clone(&wake));
        stop.on_cancel(move || stop_wake.wake());
        let io = ThreadedUdp::start(socket, move || packet_wake.wake_by(Instant::now() + RECEIVE_EVERY_MIN))
            .context("cannot start the gateway's I/O thread")?;
        let thread = thread::Builder::new()
            .name("gateway".to_owned())
            .spawn(move || {
                if raise_thread_priority() {
                    tracing::debug!("the gateway's threads run before others");
                }
                let clock = config.clock;
                let gateway = Gateway::new(config, clock.tick_at(Instant::now()), Box::new(io), links);
                let mut ticked = false;
                meridian_gateway::run(
                    gateway,
                    clock,
                    &wake,
                    || stopping.is_cancelled(),
                    |_| {
                        if !std::mem::replace(&mut ticked, true) {
                            health.ready();
                        }
                    },
                );
            })
            .context("cannot start the gateway's thread")?;
        ledger.register_thread("gateway", thread, stop)?;
        Ok(())
    }
}
