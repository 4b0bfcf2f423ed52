//! What every process of a cluster has in common with the others: the bus, the time, and who serves what.

use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use meridian_bus::{
    directory::{Announcement, Directory, Listed, Service, ServiceDetail, ServiceKind},
    valkey::{ValkeyDirectory, ValkeyOptions, ValkeyWorld, WorldFacts},
};
use meridian_ids::{ClockSteering, TickClock, TickRate, ZoneId};
use meridian_runtime::Shutdown;
use tokio::runtime::Runtime;

use crate::{config::Config, metric_definitions::WORLD_CLOCK_OFFSET_SECONDS, roles, world::World};

/// How often the clock is compared with the time that the cluster shares: machines' clocks drift by some ten microseconds in that.
const COMPARE_EVERY: Duration = Duration::from_secs(2);
/// A clock that is off by more than this share of a tick is worth a warning: zones then disagree about which tick it is.
const SKEW_TICKS_MAX: f64 = 0.5;

/// The thread that carries what is asked of the bus. An entity on its way between two zones waits for it, at the very time at which all zones
/// tick and send what they simulated: so it has a runtime of its own.
struct BusRuntime(Option<Runtime>);

impl BusRuntime {
    fn start() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("meridian-bus")
            .on_thread_start(roles::raise_bus_priority)
            .enable_all()
            .build();
        Ok(Self(Some(runtime.context("cannot start the bus's runtime")?)))
    }

    async fn connect(&self, options: &ValkeyOptions) -> anyhow::Result<ValkeyWorld> {
        let runtime = self.0.as_ref().context("the bus's runtime has ended")?;
        ValkeyWorld::connect(options, runtime.handle()).await.context("bus.url")
    }
}

impl Drop for BusRuntime {
    fn drop(&mut self) {
        // Nobody waits for what it still does: the last of its users is gone.
        self.0.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

/// This process's place in a cluster.
#[derive(Clone)]
pub struct ClusterBus {
    _runtime: Arc<BusRuntime>,
    bus: ValkeyWorld,
    directory: ValkeyDirectory,
    /// When tick 0 was due, since the Unix epoch.
    epoch: Duration,
    instance: Arc<str>,
    admin: SocketAddr,
}

impl ClusterBus {
    /// Reaches the Valkey server and agrees with the other processes about the world. `admin` is where this process's admin listener is.
    ///
    /// # Errors
    /// The server cannot be reached or used, or its world is another than this one; the message says what to do.
    pub async fn join(config: &Config, url: &str, world: &World, admin: SocketAddr) -> anyhow::Result<Self> {
        let mut options = store_options(url, world, config.bus.authority.as_deref())?;
        options.replicas = config.bus.replicas;
        let runtime = BusRuntime::start()?;
        let bus = runtime.connect(&options).await?;
        let tick_rate_hz = u16::try_from(world.tick_rate.hz()).context("a tick rate has fewer digits")?;
        let facts = WorldFacts {
            document_hash: world.hash.to_string(),
            tick_rate_hz,
        };
        let agreed = bus.agree(&facts).await.context("bus.url")?;
        let directory = bus.directory();
        if agreed.other_document.is_some() {
            let listing = directory.clone();
            let running = tokio::task::spawn_blocking(move || listing.list());
            let running = running.await.context("the listing ended")?.context("bus.url")?;
            // What zones make of their records depends on the scenery: one with another would spoil them.
            if let Some(other) = running.first() {
                bail!(
                    "the world file {} is another than the one that {} runs by; give all processes of a cluster the same, or stop them all before you change it",
                    config.world.file.display(),
                    other.service.instance
                );
            }
            bus.adopt(&facts).await.context("bus.url")?;
            tracing::warn!("the world file is another than before, and counts from now on");
        }
        let instance = instance_name(config);
        Ok(Self {
            _runtime: Arc::new(runtime),
            directory,
            epoch: agreed.epoch,
            bus,
            instance: instance.into(),
            admin,
        })
    }

    /// The world's durable side.
    #[must_use]
    pub fn bus(&self) -> &ValkeyWorld {
        &self.bus
    }

    /// The name of this process.
    #[must_use]
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Who serves what.
    #[must_use]
    pub fn directory(&self) -> ValkeyDirectory {
        self.directory.clone()
    }

    /// Who serves what, as was known a moment ago. Never blocks.
    #[must_use]
    pub fn services(&self) -> Arc<Vec<Listed>> {
        self.directory.snapshot()
    }

    /// Tells the others what this process serves, until the announcement is dropped.
    #[must_use]
    pub fn announce(&self, kind: ServiceKind, addresses: Addresses) -> Option<Box<dyn Announcement>> {
        let announced = self.directory.announce(Service {
            kind,
            instance: self.instance.to_string(),
            fabric: addresses.fabric,
            public: addresses.public,
            admin: Some(self.admin),
            load: 0,
            detail: ServiceDetail::default(),
        });
        announced
            .inspect_err(|error| tracing::error!(%error, "others are not told of this process"))
            .ok()
    }

    /// Where the zone is served, as far as is known.
    #[must_use]
    pub fn zone_address(&self, wanted: ZoneId) -> Option<SocketAddr> {
        let services = self.services();
        let serving = services.iter().filter_map(|listed| match listed.service.kind {
            // The newest instance has it.
            ServiceKind::Zone { zone, lease } if zone == wanted => Some((lease, listed.service.fabric?)),
            _ => None,
        });
        serving.max_by_key(|(lease, _)| *lease).map(|(_, address)| address)
    }

    /// Where clients reach the gateways that are there, as far as is known.
    #[must_use]
    pub fn gateways(&self) -> Vec<SocketAddr> {
        let services = self.services();
        let gateways = services
            .iter()
            .filter(|listed| listed.service.kind == ServiceKind::Gateway);
        gateways.filter_map(|listed| listed.service.public).collect()
    }

    /// A clock of the world's ticks by the time that the cluster shares.
    ///
    /// # Errors
    /// The Valkey server does not tell the time.
    pub async fn clock(&self, rate: TickRate) -> anyhow::Result<(TickClock, ClockSteering)> {
        let told = self.bus.server_time().await.context("the bus does not tell the time")?;
        let since_epoch = told.since_epoch.saturating_sub(self.epoch);
        Ok(TickClock::from_unix_time(told.at, since_epoch, rate).steered())
    }

    /// Keeps a clock at the time that the cluster shares, until `stop`.
    pub async fn steer(self, clock: TickClock, steering: ClockSteering, stop: Shutdown) {
        let offset = metrics::gauge!(WORLD_CLOCK_OFFSET_SECONDS);
        let tick_s = clock.rate().tick_duration().as_secs_f64();
        let mut was_skewed = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(COMPARE_EVERY) => {}
            }
            // While the bus is away the clock goes on as it is.
            let Ok(told) = self.bus.server_time().await else {
                continue;
            };
            let here = clock.unix_time(told.at);
            let there = told.since_epoch.saturating_sub(self.epoch);
            let behind_ns = there.as_nanos() as i128 - here.as_nanos() as i128;
            let behind_s = behind_ns as f64 * 1e-9;
            offset.set(behind_s);
            let is_skewed = behind_s.abs() > tick_s * SKEW_TICKS_MAX;
            if is_skewed && !was_skewed {
                tracing::warn!(
                    behind_s,
                    "this process's clock is off by more than half a tick; it nears the cluster's by a hundredth of the time that passes"
                );
            }
            was_skewed = is_skewed;
            // What the round trip leaves open is no offset.
            if behind_s.abs() > told.uncertainty.as_secs_f64() {
                steering.correct(Instant::now(), i64::try_from(behind_ns).unwrap_or(i64::MAX));
            }
        }
    }
}

/// How the world's store is reached.
///
/// # Errors
/// The file with the authority that the store is trusted by cannot be read.
pub fn store_options(url: &str, world: &World, authority: Option<&Path>) -> anyhow::Result<ValkeyOptions> {
    let mut options = ValkeyOptions::new(url, world.name.as_ref());
    if let Some(file) = authority {
        let pem = std::fs::read(file).with_context(|| format!("bus.authority: cannot read {}", file.display()))?;
        options.trusted_certificates = Some(pem);
    }
    Ok(options)
}

/// Where others reach what is announced.
#[derive(Clone, Copy, Debug, Default)]
pub struct Addresses {
    /// The fabric.
    pub fabric: Option<SocketAddr>,
    /// Clients.
    pub public: Option<SocketAddr>,
}

/// The name of this process among those of a cluster: the machine's, if none is given.
#[must_use]
pub fn instance_name(config: &Config) -> String {
    config.instance.clone().unwrap_or_else(machine_name)
}

/// The machine's name; two machines of a cluster have different ones.
fn machine_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() {
        "meridian".to_owned()
    } else {
        name.to_owned()
    }
}
