//! The command line. Each flag overrides one key of the configuration; what is not given stays as file and environment say.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};
use meridian_ids::{TICK_RATE_HZ_MAX, TICK_RATE_HZ_MIN};
use meridian_telemetry::LogFormat;
use serde_json::{Map, Value, json};

use crate::role::Role;

const AFTER_HELP: &str = "\
Configuration: defaults < --config FILE < environment < flags. An environment variable is MERIDIAN_ and the key's path with
two underscores between its parts: MERIDIAN_HTTP__LISTEN=127.0.0.1:0, MERIDIAN_ROLES=zone,gateway. --dump-config shows what
won, in the form that --config reads.

Signals: SIGTERM and Ctrl-C stop every role in order, within 5 seconds. Exit code 0 after that; 1 if a role failed.

Examples:
  server                                  the whole world in one process
  server --http 127.0.0.1:0 --admin 127.0.0.1:0 --gateway 127.0.0.1:0 --rpc 127.0.0.1:0 --ready-file /tmp/ready.json
                                          on free ports, which the file then names
  server --bus valkey://127.0.0.1:6379 --roles zone --zone north-west
                                          one zone of a world on several machines; ./just cluster starts a whole one
  server --roles auth --config auth.toml  one role, for a split deployment
  server sim --seeds 100000               is the handoff sound? Nothing else is started";

/// What `server` does beside running roles.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Print the zones of a cluster: who has them, how far behind they are, how long their ticks take
    Status(StatusArgs),
    /// Make the certificates that the processes of a cluster know each other by
    Certs(CertsArgs),
    /// Run seeded histories of zones, gateways and a store in which everything goes wrong, and check after each step what must hold
    Sim(SimArgs),
}

/// Arguments of `server sim`.
#[derive(Clone, Debug, Args)]
pub struct SimArgs {
    /// How many histories [default: 1000; with `--seed` that one alone]
    #[arg(long, value_name = "N")]
    pub seeds: Option<u64>,
    /// The seed of the first, else 0. One that fails is reduced to what it needs and told in words
    #[arg(long, value_name = "K")]
    pub seed: Option<u64>,
    /// Steps of each, before faults end and everything has to come right
    #[arg(long, value_name = "M", default_value_t = meridian_sim::command::STEPS_DEFAULT)]
    pub steps: usize,
}

/// Arguments of `server status`.
#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    /// Valkey server of the cluster
    #[arg(long, value_name = "URL", env = "MERIDIAN_BUS__URL")]
    pub bus: String,
    /// Certificate (PEM) of the authority that the Valkey server is trusted by [default: those of the system]
    #[arg(long, value_name = "FILE", env = "MERIDIAN_BUS__AUTHORITY")]
    pub bus_authority: Option<PathBuf>,
    /// World file (TOML), for the names of its zones
    #[arg(long, value_name = "FILE", default_value = "assets/data/world.toml")]
    pub world: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `server certs`.
#[derive(Clone, Debug, Args)]
pub struct CertsArgs {
    /// Folder of the cluster's authority, made if it is not there. Keep its key: who has it can join the cluster
    #[arg(long, value_name = "FOLDER", default_value = "certificates/authority")]
    pub authority: PathBuf,
    /// Folder for the certificate of one process; it is named with --certificates when the process starts
    #[arg(long, value_name = "FOLDER", default_value = "certificates")]
    pub out: PathBuf,
    /// What the process may be, separated by commas: zone, gateway
    #[arg(long, value_name = "ROLE,...", value_delimiter = ',', default_value = "zone,gateway")]
    pub roles: Vec<String>,
    /// Whose certificate it is, for people
    #[arg(long, value_name = "NAME", default_value = "meridian")]
    pub name: String,
    /// Replace a certificate that is there
    #[arg(long)]
    pub replace: bool,
}

/// Meridian: an authoritative multi-zone game server.
#[derive(Clone, Debug, Default, Parser)]
#[command(name = "server", version, about, after_help = AFTER_HELP, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// Something else than to run roles.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Roles to run, separated by commas [default: all this binary was built with]
    #[arg(long, value_name = "ROLE,...", value_delimiter = ',')]
    pub roles: Option<Vec<Role>>,

    /// Zones to run, by their names in the world file, separated by commas [default: all]
    #[arg(long, alias = "zone", value_name = "ZONE,...", value_delimiter = ',')]
    pub zones: Option<Vec<String>>,

    /// Valkey server that the processes of a cluster share: valkey://[user:password@]host[:port] [default: none, everything is in this
    /// process]
    #[arg(long, value_name = "URL")]
    pub bus: Option<String>,

    /// Certificate (PEM) of the authority that the Valkey server is trusted by, with valkeys:// [default: those of the system]
    #[arg(long, value_name = "FILE")]
    pub bus_authority: Option<PathBuf>,

    /// UDP address for the zones and gateways of other processes; port 0 picks a free one [default: 127.0.0.1:7720]
    #[arg(long, value_name = "ADDR")]
    pub fabric: Option<SocketAddr>,

    /// Folder with this process's certificates for the fabric, as `server certs` makes it [default: certificates]
    #[arg(long, value_name = "FOLDER")]
    pub certificates: Option<PathBuf>,

    /// Name of this process in the cluster: one that is started again under its name takes its zones over at once [default: the
    /// machine's name]
    #[arg(long, value_name = "NAME")]
    pub instance: Option<String>,

    /// Let POST /v1/fault/zones/ZONE/stall?ms=N and .../panic on the admin listener do so, for tests and measurements
    #[arg(long)]
    pub fault_injection: bool,

    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// World file (TOML) [default: assets/data/world.toml]
    #[arg(long, value_name = "FILE")]
    pub world: Option<PathBuf>,

    /// Ticks per second, 20 to 128 [default: what the world file says]
    #[arg(long, value_name = "HZ", value_parser = clap::value_parser!(u32).range(tick_rates()))]
    pub tick_rate: Option<u32>,

    /// Write every bound address to this file (JSON) once all roles are ready; it is removed at shutdown, and one
    /// that an earlier process left is removed at the start
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,

    /// Address of the HTTP listener: sessions and the world; port 0 picks a free one [default: 127.0.0.1:7600]
    #[arg(long, value_name = "ADDR")]
    pub http: Option<SocketAddr>,

    /// Address of the admin listener: /health, /ready, /metrics, /v1/audit [default: 127.0.0.1:7610]
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<SocketAddr>,

    /// UDP address of the gateway [default: 127.0.0.1:7700]
    #[arg(long, value_name = "ADDR")]
    pub gateway: Option<SocketAddr>,

    /// Address of the gRPC API of the zones; port 0 picks a free one [default: 127.0.0.1:7650]
    #[arg(long, value_name = "ADDR")]
    pub rpc: Option<SocketAddr>,

    /// How log lines look [default: pretty]
    #[arg(long, value_name = "FORMAT", value_parser = parse_log_format)]
    pub log_format: Option<LogFormat>,

    /// Print the configuration that results from file, environment and flags (secrets redacted), and exit
    #[arg(long)]
    pub dump_config: bool,
}

impl Cli {
    /// The flags that were given, as a tree of configuration keys.
    #[must_use]
    pub fn overrides(&self) -> Value {
        let mut keys = Map::new();
        let mut set = |section: &str, key: &str, value: Option<Value>| {
            if let Some(value) = value {
                let section = keys.entry(section).or_insert_with(|| json!({}));
                section[key] = value;
            }
        };
        set("http", "listen", self.http.map(|address| json!(address)));
        set("admin", "listen", self.admin.map(|address| json!(address)));
        set("gateway", "listen", self.gateway.map(|address| json!(address)));
        set("rpc", "listen", self.rpc.map(|address| json!(address)));
        set("world", "file", self.world.as_ref().map(|file| json!(file)));
        set("world", "tick_rate_hz", self.tick_rate.map(|hz| json!(hz)));
        set("log", "format", self.log_format.map(|format| json!(format)));
        set("bus", "url", self.bus.as_ref().map(|url| json!(url)));
        set("bus", "authority", self.bus_authority.as_ref().map(|file| json!(file)));
        set("fabric", "listen", self.fabric.map(|address| json!(address)));
        set(
            "fabric",
            "certificates",
            self.certificates.as_ref().map(|folder| json!(folder)),
        );
        if let Some(instance) = &self.instance {
            keys.insert("instance".to_owned(), json!(instance));
        }
        if let Some(roles) = &self.roles {
            keys.insert("roles".to_owned(), json!(roles));
        }
        if let Some(zones) = &self.zones {
            keys.insert("zones".to_owned(), json!(zones));
        }
        if self.fault_injection {
            keys.insert("fault_injection".to_owned(), json!(true));
        }
        if let Some(file) = &self.ready_file {
            keys.insert("ready_file".to_owned(), json!(file));
        }
        Value::Object(keys)
    }
}

fn tick_rates() -> std::ops::RangeInclusive<i64> {
    i64::from(TICK_RATE_HZ_MIN)..=i64::from(TICK_RATE_HZ_MAX)
}

fn parse_log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "pretty" => Ok(LogFormat::Pretty),
        "json" => Ok(LogFormat::Json),
        other => Err(format!("`{other}` is neither pretty nor json")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn only_given_flags_override() {
        assert_eq!(Cli::parse_from(["server"]).overrides(), json!({}));
        let cli = Cli::parse_from([
            "server",
            "--roles",
            "zone,auth",
            "--http",
            "[::1]:0",
            "--tick-rate",
            "30",
        ]);
        assert_eq!(
            cli.overrides(),
            json!({"roles": ["zone", "auth"], "http": {"listen": "[::1]:0"}, "world": {"tick_rate_hz": 30}})
        );
    }

    #[test]
    fn bad_values_are_refused_with_the_bounds() {
        let error = |arguments: &[&str]| Cli::try_parse_from(arguments).unwrap_err().to_string();
        assert!(error(&["server", "--tick-rate", "19"]).contains("20..=128"));
        assert!(error(&["server", "--roles", "zoo"]).contains("the roles are zone, gateway, auth"));
        assert!(error(&["server", "--http", "7600"]).contains("--http"));
        assert!(error(&["server", "--log-format", "xml"]).contains("neither pretty nor json"));
    }
}
