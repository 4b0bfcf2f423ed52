//! The binary `loadgen`: reads the command line, runs, and tells what was measured.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use meridian_loadgen::baseline::{self, BaselineOptions};
use meridian_loadgen::cli::{BaselineArgs, Cli, Command, RunArgs, SwarmArgs};
use meridian_loadgen::report::Report;
use meridian_loadgen::swarm::{self, SwarmOptions, demo_game};
use meridian_loadgen::{progress, table};
use mimalloc::MiMalloc;
use tracing_subscriber::EnvFilter;

/// Dozens of worlds in one process live from the cache and the TLB; this allocator keeps each on few, large pages.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Exit code of a run that exceeded a bound.
const EXIT_EXCEEDED: u8 = 2;
/// What is logged unless `RUST_LOG` says otherwise: a stock client tells several lines about each connection.
const DEFAULT_LOG: &str = "warn,meridian_loadgen=info";

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_LOG));
    let terminal = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(terminal)
        .init();
    match execute(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(args) => {
            // A broken file is told before the run, not after it.
            let baseline = args.baseline.as_deref().map(Report::read).transpose()?;
            let report = swarm::run(&swarm_options(&args), &progress::show)?;
            conclude(&report, baseline.as_ref(), &args.swarm)
        }
        Command::Baseline(args) => {
            let report = baseline::run(&baseline_options(&args)?, &progress::show)?;
            conclude(&report, None, &args.swarm)
        }
        Command::BaselineServer { world } => baseline::serve(&world).map(|()| ExitCode::SUCCESS),
    }
}

fn swarm_options(args: &RunArgs) -> SwarmOptions {
    let swarm = &args.swarm;
    SwarmOptions {
        server: args.server.clone(),
        admin: Some(args.admin.clone()),
        bots: swarm.bots as usize,
        measure: swarm.seconds,
        warmup: swarm.warmup,
        scenario: swarm.scenario,
        predict: args.predict,
        probe_every: swarm.probe_every,
        seed: swarm.seed,
        game: demo_game(),
    }
}

fn baseline_options(args: &BaselineArgs) -> anyhow::Result<BaselineOptions> {
    let swarm = &args.swarm;
    Ok(BaselineOptions {
        program: std::env::current_exe().context("cannot find this program, which is the stock server too")?,
        world_file: args.world.clone(),
        bots: swarm.bots as usize,
        measure: swarm.seconds,
        warmup: swarm.warmup,
        scenario: swarm.scenario,
        probe_every: swarm.probe_every,
        seed: swarm.seed,
    })
}

/// Shows and writes the report, and holds it against the bounds.
fn conclude(report: &Report, baseline: Option<&Report>, args: &SwarmArgs) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    write!(out, "{}", table::render(report, baseline)).context("cannot write to standard output")?;
    writeln!(out).context("cannot write to standard output")?;
    if let Some(path) = &args.report {
        report.write(path)?;
        tracing::info!(file = %path.display(), "report written");
    }
    let exceeded = args.bounds.exceeded(report);
    for bound in &exceeded {
        tracing::error!("bound exceeded: {bound}");
    }
    Ok(if exceeded.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_EXCEEDED)
    })
}
