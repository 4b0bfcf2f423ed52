//! The gRPC API of the zones of this process, part of the role `zone`.

use std::{
    net::TcpListener,
    sync::{Arc, Mutex, PoisonError},
};

use meridian_bus::{
    PositionReader,
    directory::{Directory, ServiceDetail},
};
use meridian_front::{FrontContext, LocalZone, PositionsFn, WorldSummary, ZoneSummary};
use meridian_game::{WorldDefinition, movement::WALK_SPEED_M_PER_S};
use meridian_ids::ZoneId;
use meridian_runtime::TaskLedger;

use crate::{
    listen::ListenError,
    roles::{CreateContext, ZoneWiring},
};

/// How a zone of this process does, as its thread tells it; nothing while it does not simulate.
#[derive(Clone, Default)]
pub(super) struct SharedDetail(Arc<Mutex<Option<ServiceDetail>>>);

impl SharedDetail {
    pub(super) fn tell(&self, detail: Option<ServiceDetail>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = detail;
    }

    /// The zone simulates; what it has to tell comes.
    pub(super) fn begin(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert_default();
    }

    fn get(&self) -> Option<ServiceDetail> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The API's port, and what it is served from.
pub(super) struct Front {
    listener: TcpListener,
    context: FrontContext,
}

impl Front {
    /// Binds the port; nobody is served yet.
    pub(super) fn create(
        context: &mut CreateContext<'_>,
        world: &WorldDefinition,
        zones: &[(ZoneWiring, SharedDetail)],
    ) -> anyhow::Result<Self> {
        let mut config = context.config.rpc.clone();
        let listener = TcpListener::bind(config.listen).map_err(|source| ListenError {
            purpose: "rpc",
            address: config.listen,
            source,
        })?;
        context.bound.rpc = Some(listener.local_addr()?);
        config.public_address = config.public_address.or(context.bound.rpc);
        let directory: Option<Arc<dyn Directory>> = context
            .cluster
            .as_ref()
            .map(|cluster| Arc::new(cluster.directory()) as Arc<dyn Directory>);
        let local = zones.iter().map(|(wiring, detail)| LocalZone {
            zone: wiring.zone,
            desk: wiring.desk.clone(),
            status: {
                let detail = detail.clone();
                Arc::new(move || detail.get())
            },
        });
        let instance = context.cluster.as_ref().map(|cluster| cluster.instance().to_owned());
        let context = FrontContext {
            config,
            instance: instance.unwrap_or_else(|| "local".to_owned()),
            key: context.netcode_key.clone(),
            clock: context.clock,
            world: summary(world),
            local: local.collect(),
            positions: positions(context)?,
            directory,
        };
        Ok(Self { listener, context })
    }

    pub(super) fn start(self, ledger: &TaskLedger) -> anyhow::Result<()> {
        let Self { listener, context } = self;
        ledger.spawn("rpc listener", |stop| meridian_front::serve(listener, context, stop))?;
        Ok(())
    }
}

/// The way to each zone's positions: over the bus that all processes share, or the one of this process.
fn positions(context: &mut CreateContext<'_>) -> anyhow::Result<PositionsFn> {
    if let Some(cluster) = &context.cluster {
        let bus = cluster.bus().clone();
        return Ok(Arc::new(move |zone: ZoneId| -> Box<dyn PositionReader> {
            bus.positions(zone)
        }));
    }
    let bus = context.local()?.bus.clone();
    Ok(Arc::new(move |zone: ZoneId| -> Box<dyn PositionReader> {
        bus.positions(zone)
    }))
}

fn summary(world: &WorldDefinition) -> WorldSummary {
    let map = world.zone_map();
    let zones = map.ids().filter_map(|id| {
        Some(ZoneSummary {
            id,
            name: world.zone_name(id).to_owned(),
            area: *map.area(id)?,
        })
    });
    WorldSummary {
        name: world.name.clone(),
        tick_rate_hz: world.tick_rate_hz.hz(),
        walk_speed_mps: WALK_SPEED_M_PER_S,
        zones: zones.collect(),
        entrances: world.entrances(),
    }
}
