//! The role `gateway`: client connections, on a thread of its own.

use std::{net::UdpSocket, sync::Arc, thread, time::Instant};

use anyhow::{Context, anyhow};
use meridian_fabric::GatewayEnd;
use meridian_gateway::{Gateway, GatewayConfig, InterestConfig, RECEIVE_EVERY_MIN};
use meridian_link::{ThreadedUdp, Wake, bind_udp, raise_thread_priority};
use meridian_runtime::{HealthHandle, Shutdown, TaskLedger};

use crate::{
    listen::ListenError,
    roles::{CreateContext, CreatedRole, local},
};

pub(super) struct GatewayRole {
    config: GatewayConfig,
    socket: UdpSocket,
    end: Box<dyn GatewayEnd>,
    wake: Arc<Wake>,
    health: HealthHandle,
}

impl GatewayRole {
    /// Binds the UDP socket; nothing is received yet.
    pub(super) fn create(context: &mut CreateContext<'_>, health: HealthHandle) -> anyhow::Result<Self> {
        local::ensure_together(context.config)?;
        let section = &context.config.gateway;
        let socket = bind_udp(section.listen).map_err(|error| ListenError {
            purpose: "gateway",
            address: section.listen,
            source: error.source,
        })?;
        context.bound.gateway = Some(socket.local_addr()?);
        let config = GatewayConfig {
            clock: context.clock,
            game: local::game(),
            private_key: *context.netcode_key.expose(),
            public_addresses: section.public_address.into_iter().collect(),
            clients_max: section.clients_max,
            interest: InterestConfig::default(),
        };
        let end = context
            .local
            .gateway
            .take()
            .ok_or_else(|| anyhow!("the gateway's end was taken already"))?;
        let wake = Arc::clone(&context.local.wake);
        Ok(Self {
            config,
            socket,
            end,
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
            end,
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
                let gateway = Gateway::new(config, clock.tick_at(Instant::now()), Box::new(io), vec![end]);
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
