//! The role `zone`: each zone's simulation, on a thread of its own, started anew from its records when it panics.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use meridian_handoff::LEASE_TTL;
use meridian_ids::LeaseEpoch;
use meridian_link::{Urgency, raise_thread_priority};
use meridian_runtime::{Health, HealthHandle, Shutdown, TaskLedger, panic_text};
use meridian_zone::{AuditSink, Load, Observed, RunEnd, Zone, ZoneConfig};

use crate::{
    faults::ZoneFaults,
    metric_definitions::ZONE_RESTARTS,
    roles::{
        ConnectFn, CreateContext, CreatedRole, ZoneWiring,
        front::{Front, SharedDetail},
        local::game,
    },
};

mod told;

use told::{ClusterMember, Told};

/// What health says of a zone that does not keep up.
const OVERLOADED: &str = "more than half of the last second's ticks took longer than a tick";
/// What health says of a zone that has no lease.
const PAUSED: &str = "waits for its lease: another instance has it, or the bus does not answer";
/// A zone that panics again within this time waits longer before each new start.
const QUIET_TIME: Duration = Duration::from_secs(10);
/// The wait before the second start in a row; it doubles from there.
const RESTART_AFTER_MIN: Duration = Duration::from_millis(250);
/// The longest wait before a start.
const RESTART_AFTER_MAX: Duration = Duration::from_secs(8);
/// How long after it was fenced an instance waits to hear of who has the zone: longer than who takes over needs to tell, and to be listed.
const HOLDER_KNOWN_WITHIN: Duration = Duration::from_secs(5);
/// How often a waiting zone looks whether it is to stop.
const STOP_EVERY: Duration = Duration::from_millis(50);

pub(super) struct ZoneRole {
    zones: Vec<ZoneStart>,
    front: Front,
}

/// What every instance of a zone is made from.
struct ZoneStart {
    name: String,
    config: ZoneConfig,
    connect: ConnectFn,
    /// What others are told of it, in a cluster.
    member: Option<ClusterMember>,
    /// What this process is told of it.
    detail: SharedDetail,
    health: HealthHandle,
    faults: Arc<ZoneFaults>,
}

impl ZoneRole {
    /// Connects the zones; nothing ticks yet.
    pub(super) fn create(context: &mut CreateContext<'_>, health: &Health) -> anyhow::Result<Self> {
        let (clock, audit) = (context.clock, Arc::clone(&context.audit) as Arc<dyn AuditSink>);
        let faults = Arc::clone(&context.faults);
        let config = context.config;
        let (world, zones, before, member) = match context.fabric()? {
            Some((fabric, cluster)) => {
                let member = ClusterMember {
                    cluster: cluster.clone(),
                    fabric: fabric.public_address(),
                    rpc: None,
                };
                let zones = fabric.zones(config)?;
                (Arc::clone(&fabric.world), zones, LeaseEpoch::default(), Some(member))
            }
            None => {
                let local = context.local()?;
                let zones = std::mem::take(&mut local.zones);
                (Arc::clone(&local.world), zones, local.before, None)
            }
        };
        let zones: Vec<(ZoneWiring, SharedDetail)> =
            zones.into_iter().map(|zone| (zone, SharedDetail::default())).collect();
        let front = Front::create(context, &world, &zones)?;
        let rpc = config.rpc.public_address.or(context.bound.rpc);
        let member = member.map(|member| ClusterMember { rpc, ..member });
        let instance = member.as_ref().map_or("local", |member| member.cluster.instance());
        let starts = zones.into_iter().map(|(zone, detail)| {
            let name = world.zone_name(zone.zone).to_owned();
            ZoneStart {
                health: health.register(format!("zone {name}")),
                config: ZoneConfig {
                    zone: zone.zone,
                    before,
                    world: Arc::clone(&world),
                    clock,
                    game: game(),
                    instance: instance.to_owned(),
                    audit: Some(Arc::clone(&audit)),
                },
                connect: zone.connect,
                member: member.clone(),
                detail,
                faults: faults.add_zone(zone.zone, &name),
                name,
            }
        });
        Ok(Self {
            zones: starts.collect(),
            front,
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
        // After the zones, so that it ends before them: what it was asked is still answered.
        self.front.start(ledger)
    }
}

impl ZoneStart {
    /// Runs one instance after the other until it is told to stop. Entities of one that panicked wait in their records.
    fn keep_running(&self, stopping: &Shutdown) -> anyhow::Result<()> {
        let priority = raise_thread_priority(Urgency::Ticks);
        tracing::debug!(zone = self.name, %priority, "the zone's thread runs");
        let restarts = metrics::counter!(ZONE_RESTARTS, "zone" => self.name.clone());
        restarts.increment(0);
        let mut wait = Duration::ZERO;
        loop {
            let started = Instant::now();
            // What a panic leaves behind is dropped: the next instance shares queues and records with it, which no panic leaves halfway.
            let panic = match catch_unwind(AssertUnwindSafe(|| self.run_instance(stopping))) {
                Ok((RunEnd::Stopped, _)) => return Ok(()),
                Ok((RunEnd::Fenced, lease)) => {
                    self.fenced(lease, stopping)?;
                    // It stands by, and asks again when the lease of who has it now may have ended.
                    if !wait_unless_stopped(LEASE_TTL, stopping) {
                        return Ok(());
                    }
                    continue;
                }
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

    /// A newer instance than the one of `lease` has the zone. One of the same name would be fenced by this one in turn, again and again.
    fn fenced(&self, lease: LeaseEpoch, stopping: &Shutdown) -> anyhow::Result<()> {
        let Some(member) = &self.member else {
            anyhow::bail!(
                "another instance has the zone {}, which only this process runs",
                self.name
            );
        };
        let gives_up_at = Instant::now() + HOLDER_KNOWN_WITHIN;
        let newer = loop {
            let holder = member.holder(self.config.zone);
            let newer = holder.filter(|(of, _)| *of > lease).map(|(_, instance)| instance);
            if newer.is_some() || Instant::now() >= gives_up_at || !wait_unless_stopped(STOP_EVERY, stopping) {
                break newer;
            }
        };
        let own = &self.config.instance;
        anyhow::ensure!(
            newer.as_ref() != Some(own),
            "another process has the zone {} under this one's name, {own}; give each process of a cluster its own --instance",
            self.name
        );
        let holder = newer.as_deref().unwrap_or("an instance that is not listed yet");
        tracing::warn!(
            zone = self.name,
            holder,
            "another instance has the zone; this one stands by"
        );
        self.health.degraded(format!("stands by: {holder} has the zone"));
        Ok(())
    }

    /// How it ended, and the last lease that it had.
    fn run_instance(&self, stopping: &Shutdown) -> (RunEnd, LeaseEpoch) {
        let clock = self.config.clock;
        let first = clock.tick_at(Instant::now()).next();
        let (links, told_lease) = (self.connect)();
        let zone = Zone::new(self.config.clone(), first, links);
        let mut last = LeaseEpoch::default();
        let mut load = Load::new(clock.rate());
        let mut told = Told::new(self.detail.clone(), clock.rate());
        let end = meridian_zone::run(
            zone,
            clock,
            &self.name,
            || stopping.is_cancelled(),
            |zone, observed| match observed {
                Observed::Ticked { lease, took } => {
                    last = lease;
                    told_lease.tell(lease);
                    match load.ticked(took) {
                        Some(false) => self.health.ready(),
                        Some(true) => self.health.degraded(OVERLOADED),
                        None => {}
                    }
                    told.ticked(self.member.as_ref(), zone, (lease, took));
                    self.faults.happen();
                }
                Observed::Paused => {
                    told.paused();
                    if load.paused() {
                        self.health.degraded(PAUSED);
                    }
                }
            },
        );
        (end, last)
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
