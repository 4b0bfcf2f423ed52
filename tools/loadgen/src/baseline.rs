//! The yardstick: a stock lightyear server and stock clients, measured by the same probes in the same scenarios.
//!
//! Clients are connected straight to the simulation, every default of lightyear stays as it is, and avian's position,
//! rotation and velocity are replicated as they are. The game is the same plugin that Meridian's zones run. No entity is
//! marked as predicted or interpolated, which spares the stock clients that work. Nothing of Meridian's own protocol is
//! used here, so its improvements cannot leak into the yardstick.

mod bots;
mod client;
mod process;
mod protocol;
mod server;

pub use server::serve;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use meridian_autopilot::ScenarioKind;
use meridian_game::WorldDefinition;

use crate::report::{Bots, Inputs, Loadgen, Report, Server, cpu_us_per};
use crate::timing::Timing;

/// What a baseline run is.
#[derive(Clone, Debug)]
pub struct BaselineOptions {
    /// The program whose hidden subcommand `baseline-server` is the server: `loadgen` itself.
    pub program: PathBuf,
    /// The world's file.
    pub world_file: PathBuf,
    /// How many bots.
    pub bots: usize,
    /// Length of the measuring window.
    pub measure: Duration,
    /// From the last bot's joining to the window.
    pub warmup: Duration,
    /// What the bots do.
    pub scenario: ScenarioKind,
    /// How often each bot stamps an action.
    pub probe_every: Duration,
    /// Seed of the bots' walks.
    pub seed: u64,
}

/// Starts a stock server in a process of its own, sends the bots, and reports.
pub fn run(options: &BaselineOptions, progress: &dyn Fn(&Timing)) -> anyhow::Result<Report> {
    let world = Arc::new(WorldDefinition::load(&options.world_file)?);
    let tick = world.tick_rate_hz.tick_duration();
    let mut server = process::ServerProcess::start(&options.program, &options.world_file)?;
    let timing = Timing::start(options.bots, options.warmup, options.measure);
    let swarm = bots::Swarm::start(options, &world, server.address(), &timing)?;
    let costs = std::thread::scope(|scope| {
        let measured = scope.spawn(|| {
            timing.sleep_until(timing.measure_from);
            server.begin()?;
            timing.sleep_until(timing.until);
            server.end()
        });
        progress(&timing);
        measured
            .join()
            .map_err(|_| anyhow::anyhow!("the thread that measures the stock server panicked"))?
    });
    let swarm = swarm.finish()?;
    let costs = costs.context("the stock server did not tell what it measured")?;
    let connected = swarm.connected;
    let mut report = Report {
        bots: Bots {
            requested: options.bots as u64,
            connected,
            disconnected: swarm.disconnected,
        },
        seconds: options.measure.as_secs_f64(),
        tick_rate_hz: u64::from(world.tick_rate_hz.hz()),
        // What becomes of an input in lightyear's buffer is not told to anyone.
        inputs: Inputs {
            sent: swarm.inputs,
            ..Inputs::default()
        },
        wire: swarm.wire,
        server: Server {
            zone_tick_ms: costs.update_ms,
            tick_overruns: Some(costs.overruns),
            cpu_us_per_client_tick: cpu_us_per(Duration::from_micros(costs.cpu_us), connected * costs.ticks),
            ..Server::default()
        },
        loadgen: Loadgen {
            cpu_us_per_bot_tick: cpu_us_per(swarm.cpu, swarm.updates),
        },
        ..Report::default()
    };
    let board = &swarm.board;
    report.set_latencies(board.action().summary_ms(), board.observer().summary_ms(), tick);
    tracing::info!(
        unanswered = board.unanswered(),
        actions = board.action().samples(),
        "probes of the stock server"
    );
    Ok(report)
}
