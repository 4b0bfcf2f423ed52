//! The role `zone`: each zone's simulation, on a thread of its own, started anew from its records when it panics.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use meridian_link::raise_thread_priority;
use meridian_runtime::{Health, HealthHandle, Shutdown, TaskLedger, panic_text};
use meridian_zone::{AuditSink, Load, Observed, RunEnd, Zone, ZoneConfig};

use crate::{
    faults::ZoneFaults,
    metric_definitions::ZONE_RESTARTS,
    roles::{ConnectFn, CreateContext, CreatedRole, local::game},
};

/// What health says of a zone that does not keep up.
const OVERLOADED: &str = "more than half of the last second's ticks took longer than a tick";
/// A zone that panics again within this time waits longer before each new start.
const QUIET_TIME: Duration = Duration::from_secs(10);
/// The wait before the second start in a row; it doubles from there.
const RESTART_AFTER_MIN: Duration = Duration::from_millis(250);
/// The longest wait before a start.
const RESTART_AFTER_MAX: Duration = Duration::from_secs(8);
/// How often a waiting zone looks whether it is to stop.
const STOP_EVERY: Duration = Duration::from_millis(50);

pub(super) struct ZoneRole {
    zones: Vec<ZoneStart>,
}

/// What every instance of a zone is made from.
struct ZoneStart {
    name: String,
    config: ZoneConfig,
    connect: ConnectFn,
    health: HealthHandle,
    faults: Arc<ZoneFaults>,
}

impl ZoneRole {
    /// Connects the zones; nothing ticks yet.
    pub(super) fn create(context: &mut CreateContext<'_>, health: &Health) -> anyhow::Result<Self> {
        let (clock, audit) = (context.clock, Arc::clone(&context.audit) as Arc<dyn AuditSink>);
        let faults = Arc::clone(&context.faults);
        let local = context.local()?;
        let zones = std::mem::take(&mut local.zones);
        let starts = zones.into_iter().map(|zone| {
            let name = local.world.zone_name(zone.zone).to_owned();
            ZoneStart {
                health: health.register(format!("zone {name}")),
                config: ZoneConfig {
                    zone: zone.zone,
                    before: local.before,
                    world: Arc::clone(&local.world),
                    clock,
                    game: game(),
                    instance: "local".to_owned(),
                    audit: Some(Arc::clone(&audit)),
                },
                connect: zone.connect,
                faults: faults.add_zone(zone.zone, &name),
                name,
            }
        });
        Ok(Self {
            zones: starts.collect(),
        })
    }
}

impl CreatedRole for ZoneRole {
    fn start(self: Box<Self>, ledger: &TaskLedger) -> anyhow::Result<()> {
        for zone in self.zones {
            let name = format!("zone {}", zone.name);
            let stop = Shutdown::new();
            let stopping = stop.clone();
            let thread = thread::Builder::new()
                .name(name.clone())
                .spawn(move || zone.keep_running(&stopping))
                .with_context(|| format!("cannot start the thread of {name}"))?;
            ledger.register_thread(name, thread, stop)?;
        }
        Ok(())
    }
}

impl ZoneStart {
    /// Runs one instance after the other until it is told to stop. Entities of one that panicked wait in their records.
    fn keep_running(&self, stopping: &Shutdown) -> anyhow::Result<()> {
        if raise_thread_priority() {
            tracing::debug!(zone = self.name, "the zone's thread runs before others");
        }
        let restarts = metrics::counter!(ZONE_RESTARTS, "zone" => self.name.clone());
        restarts.increment(0);
        let mut wait = Duration::ZERO;
        loop {
            let started = Instant::now();
            // What a panic leaves behind is dropped: the next instance shares queues and records with it, which no panic leaves halfway.
            let panic = match catch_unwind(AssertUnwindSafe(|| self.run_instance(stopping))) {
                Ok(RunEnd::Stopped) => return Ok(()),
                Ok(RunEnd::Fenced) => anyhow::bail!("another instance has the zone {}", self.name),
                Err(panic) => panic_text(panic.as_ref()),
            };
            restarts.increment(1);
            wait = if started.elapsed() > QUIET_TIME {
                Duration::ZERO
            } else {
                (wait * 2).clamp(RESTART_AFTER_MIN, RESTART_AFTER_MAX)
            };
            tracing::error!(
                zone = self.name,
                panic,
                ?wait,
                "zone panicked; it starts again from its records"
            );
            self.health.degraded(format!("starting again after a panic: {panic}"));
            if !wait_unless_stopped(wait, stopping) {
                return Ok(());
            }
        }
    }

    fn run_instance(&self, stopping: &Shutdown) -> RunEnd {
        let clock = self.config.clock;
        let first = clock.tick_at(Instant::now()).next();
        let zone = Zone::new(self.config.clone(), first, (self.connect)());
        let mut load = Load::new(clock.rate());
        meridian_zone::run(
            zone,
            clock,
            &self.name,
            || stopping.is_cancelled(),
            |_, observed| match observed {
                Observed::Ticked { took, .. } => {
                    match load.ticked(took) {
                        Some(false) => self.health.ready(),
                        Some(true) => self.health.degraded(OVERLOADED),
                        None => {}
                    }
                    self.faults.happen();
                }
                Observed::Paused => {}
            },
        )
    }
}

/// Whether the wait was over before the stop.
fn wait_unless_stopped(wait: Duration, stopping: &Shutdown) -> bool {
    let until = Instant::now() + wait;
    while !stopping.is_cancelled() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        thread::sleep(left.min(STOP_EVERY));
    }
    false
}
