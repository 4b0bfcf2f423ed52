//! The binary `loadgen`: reads the command line, runs, and tells what was measured.

use std::fs::{self, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, ensure};
use clap::Parser;
use meridian_loadgen::audit::command::{self as audit, AuditOptions};
use meridian_loadgen::baseline::{self, BaselineOptions};
use meridian_loadgen::cli::{AuditArgs, BaselineArgs, Cli, Command, RunArgs, SwarmArgs};
use meridian_loadgen::report::Report;
use meridian_loadgen::swarm::{self, SwarmOptions, demo_game};
use meridian_loadgen::{progress, table};
use mimalloc::MiMalloc;
use signal_hook::consts::{SIGINT, SIGTERM};
use tracing_subscriber::EnvFilter;

/// Dozens of worlds in one process live from the cache and the TLB; this allocator keeps each on few, large pages.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Exit code of a run that exceeded a bound, and of an audit that found a fault.
const EXIT_EXCEEDED: u8 = 2;
/// What is logged unless `RUST_LOG` says otherwise: a stock client tells several lines about each connection.
const DEFAULT_LOG: &str = "warn,meridian_loadgen=info";

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_LOG));
    let terminal = io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
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
            args.swarm.report.as_deref().map(ensure_writable).transpose()?;
            let report = swarm::run(&swarm_options(&args), &progress::show)?;
            conclude(&report, baseline.as_ref(), &args.swarm)
        }
        Command::Baseline(args) => {
            args.swarm.report.as_deref().map(ensure_writable).transpose()?;
            let report = baseline::run(&baseline_options(&args)?, &progress::show)?;
            conclude(&report, None, &args.swarm)
        }
        Command::Audit(args) => watch(&args),
        Command::BaselineServer { world } => baseline::serve(&world).map(|()| ExitCode::SUCCESS),
    }
}

fn swarm_options(args: &RunArgs) -> SwarmOptions {
    let swarm = &args.swarm;
    SwarmOptions {
        server: args.server.clone(),
        admin: args.admin.clone(),
        bots: swarm.bots as usize,
        measure: swarm.seconds,
        warmup: swarm.warmup,
        scenario: swarm.scenario,
        predict: args.predict,
        probe_every: swarm.probe_every,
        seed: swarm.seed,
        game: demo_game(),
        faults: args.faults.faults(),
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

/// Watches until Ctrl-C or SIGTERM, or as long as is asked for.
fn watch(args: &AuditArgs) -> anyhow::Result<ExitCode> {
    args.report.as_deref().map(ensure_writable).transpose()?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, stop.clone()).context("cannot listen for signals")?;
    }
    let options = AuditOptions {
        admin: args.admin.clone(),
        watch: args.seconds,
        rate: args.tick_rate,
        stop,
    };
    let report = audit::run(&options, &mut io::stdout().lock())?;
    if let Some(path) = &args.report {
        report.write(path)?;
        tracing::info!(file = %path.display(), "report written");
    }
    if report.has_fault() {
        return Ok(ExitCode::from(EXIT_EXCEEDED));
    }
    // What was not seen is not known to be without fault.
    ensure!(
        report.unwatched.is_empty(),
        "could not be watched: {}",
        report.unwatched.join("; ")
    );
    Ok(ExitCode::SUCCESS)
}

/// Whether a report can be written there, leaving what is there as it is.
fn ensure_writable(path: &Path) -> anyhow::Result<()> {
    let created = OpenOptions::new().write(true).create_new(true).open(path);
    let writable = match created {
        // Nothing is left behind, however the run ends.
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            OpenOptions::new().append(true).open(path).map(|_| ())
        }
        Err(error) => Err(error),
    };
    writable.with_context(|| format!("cannot write the report to {}", path.display()))
}

/// A run in which nobody played, or nobody acted, measured nothing, whatever its other figures are.
fn ensure_measured(report: &Report) -> anyhow::Result<()> {
    ensure!(
        report.bots.connected > 0,
        "nothing was measured: none of {} bots got into the world; does the gateway's UDP port reach them, and has it room?",
        report.bots.requested
    );
    ensure!(
        report.action_latency_ms.samples > 0,
        "nothing was measured: no action of {} bots was seen applied within {} s; take more --seconds or less --probe-every",
        report.bots.connected,
        report.seconds
    );
    Ok(())
}

/// Shows and writes the report, and holds it against the bounds.
fn conclude(report: &Report, baseline: Option<&Report>, args: &SwarmArgs) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    write!(out, "{}", table::render(report, baseline)).context("cannot write to standard output")?;
    writeln!(out).context("cannot write to standard output")?;
    if let Some(path) = &args.report {
        report.write(path)?;
        tracing::info!(file = %path.display(), "report written");
    }
    ensure_measured(report)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_without_players_or_without_actions_measured_nothing() {
        let mut report = Report::default();
        report.bots.requested = 3;
        let said = |report: &Report| ensure_measured(report).map_err(|error| error.to_string());
        assert!(said(&report).unwrap_err().contains("none of 3 bots got into the world"));
        report.bots.connected = 2;
        assert!(said(&report).unwrap_err().contains("no action of 2 bots"));
        report.action_latency_ms.samples = 1;
        assert_eq!(said(&report), Ok(()));
    }
}
