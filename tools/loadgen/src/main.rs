//! The binary `loadgen`: reads the command line, runs, and tells what was measured.

use std::env;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::process::{self, ExitCode};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Parser;
use meridian_loadgen::audit::command::{self as audit, AuditOptions};
use meridian_loadgen::baseline::{self, BaselineOptions};
use meridian_loadgen::cli::{AuditArgs, BaselineArgs, Cli, Command, RunArgs, StreamsArgs, SwarmArgs, TracesArgs};
use meridian_loadgen::report::Report;
use meridian_loadgen::streams::{self, StreamsOptions};
use meridian_loadgen::swarm::{self, SwarmOptions, demo_game};
use meridian_loadgen::traces::{self, Rules, TracesOptions};
use meridian_loadgen::{metric_definitions, progress, table};
use meridian_memory::Allocator;
use meridian_telemetry::{LogFormat, TelemetryGuard, TelemetryOptions};
use signal_hook::consts::{SIGINT, SIGTERM};

/// Dozens of worlds in one process live from the cache and the TLB; this allocator keeps each on few, large pages.
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// Exit code of a run that exceeded a bound, and of an audit that found a fault.
const EXIT_EXCEEDED: u8 = 2;
/// What is logged unless `RUST_LOG` says otherwise: a stock client tells several lines about each connection.
const DEFAULT_LOG: &str = "warn,meridian_loadgen=info";
/// How long the end waits until a collector has taken everything.
const FLUSH_TIME_MAX: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let cli = Cli::parse();
    let telemetry = match install_telemetry(&cli.command) {
        Ok(telemetry) => telemetry,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let code = execute(cli.command).unwrap_or_else(|error| {
        tracing::error!("{error:#}");
        ExitCode::FAILURE
    });
    if !telemetry.flush(FLUSH_TIME_MAX) {
        tracing::warn!("the collector did not take all that was measured");
    }
    code
}

/// Logs, and what the environment asks for: traces of stamped actions, and what is measured, pushed while it is. Who collects traces tells none.
fn install_telemetry(command: &Command) -> anyhow::Result<TelemetryGuard> {
    let log_filter = env::var("RUST_LOG").unwrap_or_else(|_| DEFAULT_LOG.to_owned());
    if matches!(command, Command::Traces(_)) {
        return meridian_telemetry::install_logs(LogFormat::Pretty, &log_filter);
    }
    let (service, instance) = ("meridian-loadgen", format!("loadgen-{}", process::id()));
    let options = TelemetryOptions {
        service,
        instance,
        log_format: LogFormat::Pretty,
        log_filter,
        push_metrics: true,
    };
    meridian_telemetry::install_pushing(options, || {
        metric_definitions::describe();
        // Zero is a figure too: alerts look for what is more.
        metrics::counter!(metric_definitions::AUDIT_DUPLICATED).increment(0);
        metrics::counter!(metric_definitions::AUDIT_LOST).increment(0);
    })
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
        Command::Traces(args) => collect_traces(&args),
        Command::Streams(args) => hold_streams(&args),
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
        program: env::current_exe().context("cannot find this program, which is the stock server too")?,
        world_file: args.world.clone(),
        bots: swarm.bots as usize,
        measure: swarm.seconds,
        warmup: swarm.warmup,
        scenario: swarm.scenario,
        probe_every: swarm.probe_every,
        seed: swarm.seed,
    })
}

/// Set by Ctrl-C and SIGTERM.
fn stop_flag() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, stop.clone()).context("cannot listen for signals")?;
    }
    Ok(stop)
}

/// Collects until Ctrl-C or SIGTERM, or as long as is asked for.
fn collect_traces(args: &TracesArgs) -> anyhow::Result<ExitCode> {
    args.report.as_deref().map(ensure_writable).transpose()?;
    let options = TracesOptions {
        listen: args.listen,
        seconds: args.seconds,
        spans: args.spans.clone(),
        rules: Rules {
            onlookers: args.onlookers,
        },
        stop: stop_flag()?,
    };
    let report = traces::run(&options, |address| {
        tracing::info!(%address, "collecting");
    })?;
    let text = serde_json::to_string_pretty(&report).context("cannot write the report as JSON")?;
    if let Some(path) = &args.report {
        fs::write(path, &text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    writeln!(io::stdout(), "{}", table::traces(&report)).context("cannot write to standard output")?;
    let completeness = report.completeness().unwrap_or(0.0);
    if args.min_complete.is_some_and(|least| completeness < least) {
        return Ok(ExitCode::from(EXIT_EXCEEDED));
    }
    Ok(ExitCode::SUCCESS)
}

/// Opens streams and plays them, for as long as is asked for.
fn hold_streams(args: &StreamsArgs) -> anyhow::Result<ExitCode> {
    args.report.as_deref().map(ensure_writable).transpose()?;
    let report = streams::run(&StreamsOptions {
        server: args.server.clone(),
        rpc: args.rpc.clone(),
        streams: args.streams as usize,
        play: args.seconds,
    })?;
    let text = serde_json::to_string_pretty(&report).context("cannot write the report as JSON")?;
    if let Some(path) = &args.report {
        fs::write(path, &text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    writeln!(io::stdout(), "{}", table::streams(&report)).context("cannot write to standard output")?;
    if args.min_held.is_some_and(|least| report.held < least) {
        return Ok(ExitCode::from(EXIT_EXCEEDED));
    }
    Ok(ExitCode::SUCCESS)
}

/// Watches until Ctrl-C or SIGTERM, or as long as is asked for.
fn watch(args: &AuditArgs) -> anyhow::Result<ExitCode> {
    args.report.as_deref().map(ensure_writable).transpose()?;
    let options = AuditOptions {
        admin: args.admin.clone(),
        watch: args.seconds,
        rate: args.tick_rate,
        stop: stop_flag()?,
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
