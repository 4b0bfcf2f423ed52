//! The role `zone`: the simulation, on a thread of its own.

use std::{sync::Arc, thread, time::Instant};

use anyhow::{Context, anyhow};
use meridian_fabric::ZoneEnd;
use meridian_ids::{LeaseEpoch, TickClock, ZoneId};
use meridian_link::raise_thread_priority;
use meridian_runtime::{HealthHandle, Shutdown, TaskLedger};
use meridian_zone::{Load, Zone, ZoneConfig};

use crate::roles::{CreateContext, CreatedRole, local};

pub(super) struct ZoneRole {
    config: ZoneConfig,
    end: Box<dyn ZoneEnd>,
    health: HealthHandle,
}

/// What health says of a zone that does not keep up.
const OVERLOADED: &str = "more than half of the last second's ticks took longer than a tick";

impl ZoneRole {
    /// Reads and checks the world; nothing ticks yet.
    pub(super) fn create(context: &mut CreateContext<'_>, health: HealthHandle) -> anyhow::Result<Self> {
        local::ensure_together(context.config)?;
        let config = ZoneConfig {
            zone: ZoneId(0),
            lease: lease_of_this_start(&context.clock),
            world: Arc::new(local::definition(context.world)?),
            clock: context.clock,
            game: local::game(),
        };
        let end = context
            .local
            .zone
            .take()
            .ok_or_else(|| anyhow!("the zone's end was taken already"))?;
        Ok(Self { config, end, health })
    }
}

/// The tick of the start: it rises with each start of the process, as a lease epoch must.
fn lease_of_this_start(clock: &TickClock) -> LeaseEpoch {
    LeaseEpoch(clock.tick_at(Instant::now()).0)
}

impl CreatedRole for ZoneRole {
    fn start(self: Box<Self>, ledger: &TaskLedger) -> anyhow::Result<()> {
        let Self { config, end, health } = *self;
        let stop = Shutdown::new();
        let stopping = stop.clone();
        let thread = thread::Builder::new()
            .name("zone".to_owned())
            .spawn(move || {
                if raise_thread_priority() {
                    tracing::debug!("the zone's thread runs before others");
                }
                let (clock, label) = (config.clock, config.zone.to_string());
                let first = clock.tick_at(Instant::now()).next();
                let zone = Zone::new(config, first, vec![end]);
                let mut load = Load::new(clock.rate());
                meridian_zone::run(
                    zone,
                    clock,
                    &label,
                    || stopping.is_cancelled(),
                    |took| match load.ticked(took) {
                        Some(false) => health.ready(),
                        Some(true) => health.degraded(OVERLOADED),
                        None => {}
                    },
                );
            })
            .context("cannot start the zone's thread")?;
        ledger.register_thread("zone", thread, stop)?;
        Ok(())
    }
}
