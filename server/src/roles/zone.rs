//! The role `zone`: the simulation, on a thread of its own.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use meridian_fabric::ZoneEnd;
use meridian_ids::{LeaseEpoch, TickClock, TickRate, ZoneId};
use meridian_link::raise_thread_priority;
use meridian_runtime::{HealthHandle, Shutdown, TaskLedger};
use meridian_zone::{Zone, ZoneConfig};

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

/// Whether the zone keeps up, judged over a second.
struct Load {
    rate: TickRate,
    ticks: u32,
    overrun: u32,
    overloaded: Option<bool>,
}

impl Load {
    fn new(rate: TickRate) -> Self {
        Self {
            rate,
            ticks: 0,
            overrun: 0,
            overloaded: None,
        }
    }

    /// A tick took so long. Says whether the zone is overloaded, when that has changed or is known for the first time.
    fn ticked(&mut self, took: Duration) -> Option<bool> {
        self.ticks += 1;
        self.overrun += u32::from(took > self.rate.tick_duration());
        let over = self.ticks >= self.rate.hz();
        let overloaded = self.overrun * 2 > self.rate.hz();
        if over {
            (self.ticks, self.overrun) = (0, 0);
        }
        // The first tick shows that it runs at all.
        let is_news = self.overloaded.is_none() || (over && self.overloaded != Some(overloaded));
        is_news.then(|| *self.overloaded.insert(overloaded))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_that_does_not_keep_up_says_so_after_a_second_and_takes_it_back() {
        let mut load = Load::new(TickRate::default());
        let (quick, slow) = (Duration::from_millis(1), Duration::from_millis(30));
        assert_eq!(load.ticked(quick), Some(false), "it runs");
        let mut second = |took| (0..60).filter_map(|_| load.ticked(took)).collect::<Vec<_>>();
        assert!(second(quick).is_empty());
        assert_eq!(second(slow), [true]);
        assert!(second(slow).is_empty());
        assert_eq!(second(quick), [false]);
    }
}
