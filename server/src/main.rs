//! The binary `server`: every role in one process, or those that `--roles` names.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::Context;
use clap::Parser;
use meridian_memory::Allocator;
use meridian_server::{
    cli::{Cli, Command},
    cluster, commands,
    config::Config,
    node,
    role::Role,
    roles,
    signals::Signals,
};
use meridian_telemetry::{Metrics, TelemetryOptions};

/// Packets and snapshots are small, many, and freed by other threads.
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// Threads for HTTP and timers. Zone and gateway have threads of their own; these must not compete with them for a small machine's
/// cores.
const ASYNC_WORKER_THREADS: usize = 2;

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error may be closed; there is nobody else to tell.
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    if let Some(command) = &cli.command {
        return run_command(command);
    }
    let config = Config::load(cli)?;
    if cli.dump_config {
        return print(&config.dump()?);
    }
    meridian_memory::keep();
    let small_pages = meridian_memory::use_small_pages();
    let metrics = Metrics::install()?;
    let options = TelemetryOptions {
        service: "meridian-server",
        instance: cluster::instance_name(&config),
        log_format: config.log.format,
        log_filter: config.log.filter.clone(),
        push_metrics: false,
    };
    // Held until the end: what is queued then is sent.
    let _telemetry = meridian_telemetry::install(options, Some(&metrics))?;
    if let Err(error) = small_pages {
        tracing::debug!(%error, "the system may use huge pages, which takes it long now and then");
    }
    roles::limit_thread_priority(&config);
    let runtime = async_runtime(carries_hot_path(&config))?;
    let result = runtime.block_on(async {
        let signals = Signals::install()?;
        node::run(config, metrics, signals).await
    });
    // What still runs has been reported by name; it must not hold the process.
    runtime.shutdown_background();
    result
}

/// Whether zones and gateways of this process are connected by its async threads: a snapshot or an entity on its way between two machines
/// would wait in line with everything else there.
fn carries_hot_path(config: &Config) -> bool {
    let ticks = |role: &Role| matches!(role, Role::Zone | Role::Gateway);
    config.bus.url.is_some() && config.roles.iter().any(ticks)
}

fn async_runtime(is_hot: bool) -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(ASYNC_WORKER_THREADS)
        .thread_name("meridian-io")
        .on_thread_start(move || {
            if is_hot {
                roles::raise_fabric_priority();
            }
        })
        .enable_all()
        .build()
        .context("cannot start the async runtime")
}

/// What ends by itself: no roles, no ports, no logs but errors.
fn run_command(command: &Command) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match command {
        Command::Status(args) => {
            let text = async_runtime(false)?.block_on(commands::status::run(args))?;
            print(&text)
        }
        Command::Certs(args) => commands::certs::run(args, &mut out),
        Command::Sim(args) => commands::sim::run(args, &mut out),
    }
}

/// Who reads the other end of a pipe may leave early: that is no error of ours.
fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}
