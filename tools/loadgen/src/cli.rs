//! The command line.

pub mod faults;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use meridian_autopilot::ScenarioKind;
use meridian_ids::TickRate;

use crate::bounds::Bounds;
use crate::traces::Rules;

const AFTER_HELP: &str = "\
Exit code of a run: 0 when it was measured and within its bounds, 2 when a --max-... or --min-... bound is exceeded, 1 for
anything that prevented the measurement: no server, no bot that got into the world, no action that was seen applied, a report
that cannot be written. Of an audit: 0 without a fault, 2 with one, 1 if a server could not be watched. A wrong command line is
2 as well. Of a flag that is given twice, the last counts; only --admin may name several servers.

Examples:
  loadgen run --bots 40 --seconds 20                 a swarm against the server at the default ports
  loadgen baseline --bots 40 --report stock.json     the same bots against a stock lightyear server, started for the run
  loadgen run --bots 40 --baseline stock.json --max-action-p50-ticks 1.6
  loadgen run --bots 40 --max-duplicated 0 --max-lost 0 --min-handoffs 100
  loadgen run --admin http://127.0.0.1:7610 --admin http://127.0.0.1:7611     a swarm against a cluster of two processes
  loadgen audit --admin http://127.0.0.1:7610 --admin http://127.0.0.1:7611   watches until Ctrl-C
  loadgen traces --min-complete 0.99                 collects what is exported to port 4317 until Ctrl-C
  loadgen streams --streams 1000 --min-held 1000     streams of moves at a server's gRPC API, all at once
  loadgen run --scenario crossing --predict --link-delay 80 --max-correction-p99-cm 1 --max-respawns 0
  loadgen run --scenario camp --warmup 15 --stall-zone north-east --max-elsewhere-p99-ticks 3";

/// Load for a Meridian server, and reports of what it measured.
#[derive(Clone, Debug, Parser)]
#[command(name = "loadgen", version, after_help = AFTER_HELP, args_override_self = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Send a swarm of bots to a running Meridian server
    Run(RunArgs),
    /// Measure a stock lightyear server, started for the run, in the same way
    Baseline(BaselineArgs),
    /// Watch that each entity is simulated by one zone, always: tells duplicated and lost ones until it is stopped
    Audit(AuditArgs),
    /// Collect traces (OTLP over gRPC) while others run, and tell how complete those of stamped actions are, and where their time went
    Traces(TracesArgs),
    /// Open streams of moves at a server's gRPC API, move on all of them at once, and tell how many hold
    Streams(StreamsArgs),
    /// The stock server itself; `baseline` starts it
    #[command(hide = true)]
    BaselineServer {
        /// The world file
        #[arg(long)]
        world: PathBuf,
    },
}

/// What both kinds of runs have in common.
#[derive(Clone, Debug, Args)]
pub struct SwarmArgs {
    /// How many bots
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub bots: u32,
    /// Length of the measuring window, in seconds
    #[arg(long, default_value = "20", value_parser = seconds)]
    pub seconds: Duration,
    /// From the last bot's joining until the measuring window, in seconds
    #[arg(long, default_value = "3", value_parser = seconds)]
    pub warmup: Duration,
    /// What the bots do
    #[arg(long, value_enum, default_value_t)]
    pub scenario: ScenarioKind,
    /// How often each bot stamps an action whose latency is measured, in seconds
    #[arg(long, default_value = "0.5", value_parser = interval)]
    pub probe_every: Duration,
    /// Seed of the bots' walks
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Write the report to this file, as JSON; if it cannot be written, the run does not begin
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Bounds that the run must keep.
    #[command(flatten)]
    pub bounds: Bounds,
}

/// Arguments of `loadgen run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// Where sessions are asked for
    #[arg(long, default_value = "http://127.0.0.1:7600", value_name = "URL")]
    pub server: String,
    /// Where the server's metrics and audit are; without them its figures are absent from the report. Once for each process of a
    /// cluster
    #[arg(long, default_value = "http://127.0.0.1:7610", value_name = "URL")]
    pub admin: Vec<String>,
    /// Have the bots predict their own player, as a player's client does
    #[arg(long)]
    pub predict: bool,
    /// Show this report's figures beside, for example one of `loadgen baseline`
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,
    /// What both kinds of runs have in common.
    #[command(flatten)]
    pub swarm: SwarmArgs,
    // Last, for the heading of these flags holds for all that follow.
    /// What goes wrong in the run, on purpose.
    #[command(flatten)]
    pub faults: faults::FaultArgs,
}

/// Arguments of `loadgen baseline`.
#[derive(Clone, Debug, Args)]
pub struct BaselineArgs {
    /// The world file
    #[arg(long, default_value = "assets/data/world.toml", value_name = "FILE")]
    pub world: PathBuf,
    /// What both kinds of runs have in common.
    #[command(flatten)]
    pub swarm: SwarmArgs,
}

/// Arguments of `loadgen audit`.
#[derive(Clone, Debug, Args)]
pub struct AuditArgs {
    /// Admin listener of a server that runs zones; once for each such server, for what goes to a zone that is not watched
    /// seems lost
    #[arg(long, default_value = "http://127.0.0.1:7610", value_name = "URL")]
    pub admin: Vec<String>,
    /// How long to watch, in seconds; without it, until Ctrl-C or SIGTERM
    #[arg(long, value_parser = seconds)]
    pub seconds: Option<Duration>,
    /// Ticks per second of the world
    #[arg(long, default_value = "60", value_name = "HZ", value_parser = tick_rate)]
    pub tick_rate: TickRate,
    /// Write the counts and what was found to this file, as JSON; if it cannot be written, the watch does not begin
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

/// Arguments of `loadgen traces`.
#[derive(Clone, Debug, Args)]
pub struct TracesArgs {
    /// Where to collect: what servers and swarms have in OTEL_EXPORTER_OTLP_ENDPOINT; port 0 picks a free one
    #[arg(long, default_value = "127.0.0.1:4317", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// How long, in seconds; without it, until Ctrl-C or SIGTERM
    #[arg(long, value_parser = seconds)]
    pub seconds: Option<Duration>,
    /// Write every span to this file, one JSON object a line
    #[arg(long, value_name = "FILE")]
    pub spans: Option<PathBuf>,
    /// Write what was found to this file, as JSON; if it cannot be written, nothing is collected
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Exit with 2 if a smaller share of the probes has complete traces, from 0 to 1
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub min_complete: Option<f64>,
    /// Clients of other players that must have seen a probe, or it is not complete; 0 where players may be alone
    #[arg(long, value_name = "N", default_value_t = Rules::default().onlookers)]
    pub onlookers: usize,
}

/// Arguments of `loadgen streams`.
#[derive(Clone, Debug, Args)]
pub struct StreamsArgs {
    /// Where sessions are asked for
    #[arg(long, default_value = "http://127.0.0.1:7600", value_name = "URL")]
    pub server: String,
    /// The gRPC API of a server
    #[arg(long, default_value = "http://127.0.0.1:7650", value_name = "URL")]
    pub rpc: String,
    /// How many streams; sixteen are one player's
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=2_000))]
    pub streams: u32,
    /// For how long they are played once all are open, in seconds: one move a second on each
    #[arg(long, default_value = "10", value_parser = seconds)]
    pub seconds: Duration,
    /// Write what was found to this file, as JSON; if it cannot be written, nothing is opened
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Exit with 2 if fewer streams hold
    #[arg(long, value_name = "N")]
    pub min_held: Option<u64>,
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| format!("{text:?} is not a number"))?;
    if (0.0..=1.0).contains(&share) {
        Ok(share)
    } else {
        Err(format!("{share} is outside of 0..=1"))
    }
}

fn tick_rate(text: &str) -> Result<TickRate, String> {
    let hz: u32 = text.parse().map_err(|_| format!("{text:?} is not a number of Hz"))?;
    TickRate::new(hz).map_err(|error| error.to_string())
}

/// Longest span that a run accepts: a day.
const SECONDS_MAX: f64 = 86_400.0;

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| format!("{text:?} is not a number of seconds"))?;
    if !(0.0..=SECONDS_MAX).contains(&seconds) {
        return Err(format!("{seconds} s is outside of 0..={SECONDS_MAX} s"));
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// An interval must be at least a millisecond: a shorter one would stamp every tick several times.
fn interval(text: &str) -> Result<Duration, String> {
    seconds(text).and_then(|interval| {
        if interval < Duration::from_millis(1) {
            Err("must be 0.001 s or more".to_owned())
        } else {
            Ok(interval)
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_run_has_the_defaults_of_the_servers_ports() {
        let Command::Run(run) = Cli::parse_from(["loadgen", "run"]).command else {
            panic!("not a run")
        };
        assert_eq!(
            (run.server.as_str(), run.admin.join(",").as_str()),
            ("http://127.0.0.1:7600", "http://127.0.0.1:7610")
        );
        assert_eq!((run.swarm.bots, run.swarm.seconds), (40, Duration::from_secs(20)));
        assert_eq!(run.swarm.scenario, ScenarioKind::Roam);
    }

    #[test]
    fn spans_and_bounds_are_read() {
        let line = [
            "loadgen",
            "baseline",
            "--seconds",
            "0.5",
            "--scenario",
            "crowd",
            "--max-late-percent",
            "0.1",
        ];
        let Command::Baseline(baseline) = Cli::parse_from(line).command else {
            panic!("not a baseline")
        };
        assert_eq!(baseline.swarm.seconds, Duration::from_millis(500));
        assert_eq!(baseline.swarm.scenario, ScenarioKind::Crowd);
        assert_eq!(baseline.swarm.bounds.max_late_percent, Some(0.1));
    }

    #[test]
    fn spans_and_bounds_that_cannot_be_are_refused() {
        for wrong in [
            ["--seconds", "-1"],
            ["--seconds", "nan"],
            ["--probe-every", "0"],
            ["--bots", "0"],
            ["--max-action-p50-ticks", "nan"],
            ["--max-action-p99-ticks", "nan"],
            ["--max-observer-p50-ticks", "nan"],
            ["--max-observer-p99-ticks", "nan"],
            ["--max-late-percent", "nan"],
            ["--max-bytes-per-update", "nan"],
            ["--max-bot-tick-us", "nan"],
            ["--max-server-tick-us", "nan"],
            ["--max-observer-gap-p99-ticks", "nan"],
            ["--max-correction-p99-cm", "nan"],
            ["--max-elsewhere-p99-ticks", "nan"],
        ] {
            let line = ["loadgen", "run", wrong[0], wrong[1]];
            assert!(Cli::try_parse_from(line).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_audit_watches_the_default_server_or_all_that_are_named() {
        let audit = |line: &[&str]| {
            let line = [&["loadgen", "audit"], line].concat();
            match Cli::try_parse_from(line).unwrap().command {
                Command::Audit(audit) => audit,
                other => panic!("not an audit: {other:?}"),
            }
        };
        assert_eq!(audit(&[]).admin, ["http://127.0.0.1:7610"]);
        assert_eq!((audit(&[]).seconds, audit(&[]).tick_rate.hz()), (None, 60));
        let named = audit(&["--admin", "http://a", "--admin", "http://b", "--tick-rate", "20"]);
        assert_eq!(named.admin, ["http://a", "http://b"]);
        assert_eq!(named.tick_rate.hz(), 20);
        assert!(Cli::try_parse_from(["loadgen", "audit", "--tick-rate", "1000"]).is_err());
    }

    #[test]
    fn a_flag_counts_as_it_is_given_last() {
        let line = [
            "loadgen",
            "run",
            "--max-disconnected",
            "0",
            "--bots",
            "9",
            "--max-disconnected",
            "5",
        ];
        let Command::Run(run) = Cli::try_parse_from(line).unwrap().command else {
            panic!("not a run")
        };
        assert_eq!((run.swarm.bounds.max_disconnected, run.swarm.bots), (Some(5), 9));
    }
}
