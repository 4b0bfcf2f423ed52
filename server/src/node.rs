//! A process from its configuration to its end: create (bind everything), start (spawn everything), wait, stop in order.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, bail};
use axum::Router;
use meridian_ids::{ClockSteering, TickClock, TickRate};
use meridian_runtime::{Health, SecretKey, StopCause, TaskLedger};
use meridian_telemetry::Metrics;
use tokio::net::TcpListener;

#[cfg(all(feature = "zone", feature = "gateway"))]
use crate::roles::ClusterFabric;
use crate::{
    admin::{self, AdminState},
    audit::{self, AuditHub},
    cluster::ClusterBus,
    config::Config,
    faults::{self, Faults},
    listen,
    ready_file::{BoundAddresses, ReadyFile},
    role::Role,
    roles::{self, CreateContext, CreatedRole},
    signals::Signals,
    world::World,
};

/// From the signal to the exit: what a process manager commonly waits before it kills is twice that or more.
const SHUTDOWN_TIME_MAX: Duration = Duration::from_secs(5);

/// Runs a process until a signal or the end of one of its tasks.
///
/// # Errors
/// Something could not be created or started, a role failed, or something did not stop in time. The message names it.
pub async fn run(config: Config, metrics: Metrics, mut signals: Signals) -> anyhow::Result<()> {
    if let Some(path) = &config.ready_file {
        ReadyFile::remove_stale(path)?;
    }
    let node = Node::create(config).await?;
    let (ledger, health, bound, ready_path) = (
        node.ledger.clone(),
        node.health.clone(),
        node.bound.clone(),
        node.config.ready_file.clone(),
    );
    let started = node.start(metrics);
    let mut ready_file = None;
    let cause = match started {
        Err(error) => Err(error),
        Ok(()) => {
            let request = async {
                tokio::select! {
                    signal = signals.next() => return Ok(signal),
                    () = health.ready() => {}
                }
                tracing::info!(http = ?bound.http, admin = ?bound.admin, gateway = ?bound.gateway, "ready");
                ready_file = ready_path.map(|path| ReadyFile::write(&path, &bound)).transpose()?;
                Ok(signals.next().await)
            };
            wait(&ledger, request).await
        }
    };
    // Who reads it must not find ports that are about to close.
    drop(ready_file);
    let stopped = stop(&ledger).await;
    tracing::info!(reason = cause.as_deref().unwrap_or("failure"), "stopped");
    cause.and(stopped)
}

/// Everything bound, nothing running.
struct Node {
    config: Config,
    ledger: TaskLedger,
    health: Health,
    admin: TcpListener,
    http: Option<(TcpListener, Router)>,
    roles: Vec<(Role, Box<dyn CreatedRole>)>,
    bound: BoundAddresses,
    audit: Arc<AuditHub>,
    faults: Arc<Faults>,
    #[cfg(all(feature = "zone", feature = "gateway"))]
    fabric: Option<Arc<meridian_fabric::FabricEndpoint>>,
    /// What keeps the clock at the time that a cluster shares.
    steering: Option<(ClusterBus, TickClock, ClockSteering)>,
}

impl Node {
    async fn create(config: Config) -> anyhow::Result<Self> {
        let world = World::load(&config.world.file, config.world.tick_rate_hz)?;
        let admin = listen::bind("admin", config.admin.listen).await?;
        let http = if config.roles.iter().any(|role| role.serves_http()) {
            Some(listen::bind("http", config.http.listen).await?)
        } else {
            None
        };
        let health = Health::new();
        // A gateway elsewhere needs the configured key, and `Config` made sure that there is one.
        let netcode_key = config.netcode.private_key.clone().unwrap_or_else(SecretKey::generate);
        let cluster = match &config.bus.url {
            Some(url) => Some(ClusterBus::join(&config, url.expose(), &world, admin.local_addr()?).await?),
            None => None,
        };
        let (clock, steering) = match &cluster {
            Some(cluster) => {
                let (clock, steering) = cluster.clock(world.tick_rate).await?;
                (clock, Some(steering))
            }
            None => (world_clock(world.tick_rate)?, None),
        };
        let (audit, faults) = (Arc::new(AuditHub::default()), Arc::new(Faults::default()));
        let mut context = CreateContext {
            config: &config,
            world: &world,
            netcode_key: &netcode_key,
            health: &health,
            http_routes: Router::new(),
            clock,
            audit: Arc::clone(&audit),
            faults: Arc::clone(&faults),
            #[cfg(all(feature = "zone", feature = "gateway"))]
            local: None,
            cluster: cluster.clone(),
            #[cfg(all(feature = "zone", feature = "gateway"))]
            fabric: None,
            bound: BoundAddresses {
                http: http.as_ref().map(TcpListener::local_addr).transpose()?,
                admin: Some(admin.local_addr()?),
                gateway: None,
                fabric: None,
                rpc: None,
            },
        };
        let mut roles = Vec::with_capacity(config.roles.len());
        for role in &config.roles {
            let created = roles::create(*role, &mut context).with_context(|| format!("role {role}"))?;
            roles.push((*role, created));
        }
        #[cfg(all(feature = "zone", feature = "gateway"))]
        let fabric = context.fabric.as_ref().map(ClusterFabric::endpoint);
        let CreateContext { http_routes, bound, .. } = context;
        let http = http.map(|listener| (listener, http_routes));
        Ok(Self {
            config,
            ledger: TaskLedger::new(),
            health,
            admin,
            http,
            roles,
            bound,
            audit,
            faults,
            #[cfg(all(feature = "zone", feature = "gateway"))]
            fabric,
            steering: cluster
                .zip(steering)
                .map(|(cluster, steering)| (cluster, clock, steering)),
        })
    }

    /// The admin listener first, so that it stops last and tells of the rest; HTTP last, so that nobody is let in before the roles
    /// run or while they stop.
    fn start(self, metrics: Metrics) -> anyhow::Result<()> {
        let Self {
            ledger,
            health,
            admin,
            http,
            roles,
            config,
            audit,
            faults,
            steering,
            #[cfg(all(feature = "zone", feature = "gateway"))]
            fabric,
            ..
        } = self;
        let state = AdminState {
            health,
            metrics: metrics.clone(),
        };
        let mut routes = admin::router(state);
        // Who audits would wait in vain for the zones of a process that runs none, and call nobody lost until then.
        if config.roles.contains(&Role::Zone) {
            routes = routes.merge(audit::router(audit));
        }
        if config.fault_injection {
            tracing::warn!("faults can be injected through the admin listener");
            routes = routes.merge(faults::router(faults));
        }
        ledger.spawn("admin listener", |stop| listen::serve(admin, routes, stop))?;
        ledger.spawn("metrics upkeep", |stop| async move {
            metrics.run_upkeep(stop.cancelled()).await;
        })?;
        if let Some((cluster, clock, steering)) = steering {
            ledger.spawn("world clock", |stop| cluster.steer(clock, steering, stop))?;
        }
        // Before the roles, so that it ends after them: their last words are sent.
        #[cfg(all(feature = "zone", feature = "gateway"))]
        if let Some(fabric) = fabric {
            ledger.spawn("fabric", |stop| async move {
                stop.cancelled().await;
                // It waits for a moment, until others have heard of it.
                let closing = tokio::task::spawn_blocking(move || fabric.close());
                if closing.await.is_err() {
                    tracing::warn!("the fabric was not closed in order");
                }
            })?;
        }
        for (role, created) in roles {
            created.start(&ledger).with_context(|| format!("role {role}"))?;
        }
        if let Some((listener, routes)) = http {
            ledger.spawn("http listener", |stop| listen::serve(listener, routes, stop))?;
        }
        Ok(())
    }
}

/// The world's ticks counted from the Unix epoch: a restart skips ahead, so no tick number repeats.
fn world_clock(rate: TickRate) -> anyhow::Result<TickClock> {
    let unix_now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("the system's clock is before 1970; set it")?;
    Ok(TickClock::from_unix_time(Instant::now(), unix_now, rate))
}

/// Waits for the first of: a task ends, or the request completes.
async fn wait(
    ledger: &TaskLedger,
    request: impl Future<Output = anyhow::Result<&'static str>>,
) -> anyhow::Result<&'static str> {
    let mut outcome = Ok("closed");
    let cause = ledger
        .run_until(async {
            outcome = request.await;
            outcome
                .as_ref()
                .map_or_else(|error| error.to_string(), |signal| (*signal).to_owned())
        })
        .await;
    match cause {
        StopCause::Requested(_) => outcome,
        StopCause::TaskEnded(end) => bail!("{end}"),
    }
}

async fn stop(ledger: &TaskLedger) -> anyhow::Result<()> {
    tracing::info!(running = ?ledger.running(), "stopping");
    let report = ledger.shutdown(SHUTDOWN_TIME_MAX).await;
    if !report.still_running.is_empty() {
        bail!(
            "still running after {} s: {}",
            SHUTDOWN_TIME_MAX.as_secs(),
            report.still_running.join(", ")
        );
    }
    Ok(())
}
