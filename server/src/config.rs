//! The configuration: one tree, a section per role. Defaults < file < environment < flags.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use anyhow::{Context, bail, ensure};
use figment::{
    Figment,
    providers::{Env, Format, Serialized, Toml},
};
use meridian_ids::TickRate;
use meridian_runtime::SecretKey;
use meridian_telemetry::LogFormat;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{cli::Cli, role::Role, secret_url::SecretUrl};

/// What a variable of the environment begins with.
const ENVIRONMENT_PREFIX: &str = "MERIDIAN_";

/// Bytes of an instance's name: it is in every claim of a zone.
const INSTANCE_BYTES_MAX: usize = 64;

/// What parts the keys of a path in a variable's name.
const ENVIRONMENT_SEPARATOR: &str = "__";

/// Everything that can be configured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Roles to run: a list, or one text with commas.
    #[serde(deserialize_with = "roles_from_list_or_text")]
    pub roles: Vec<Role>,
    /// Zones to run, by their names: a list, or one text with commas; all of the world's if empty.
    #[serde(deserialize_with = "list_or_text")]
    pub zones: Vec<String>,
    /// Names this process among those of a cluster: what is started again under the same name takes its zones over at once. The
    /// machine's name, if none is given.
    pub instance: Option<String>,
    /// Whether the admin listener takes orders to let faults happen. For tests and measurements.
    pub fault_injection: bool,
    /// How far before others the threads may run that tick and that carry what entities wait for: `realtime`, `nice` or `normal`. What the
    /// system does not allow they do without.
    pub thread_priority: ThreadPriority,
    /// Where to write every bound address once all roles are ready.
    pub ready_file: Option<PathBuf>,
    /// The world.
    pub world: WorldConfig,
    /// Logs.
    pub log: LogConfig,
    /// The HTTP listener that roles share.
    pub http: HttpConfig,
    /// The admin listener.
    pub admin: AdminConfig,
    /// Where ownership and facts are written down.
    pub bus: BusConfig,
    /// What zones and gateways of different processes are connected by.
    pub fabric: FabricConfig,
    /// What `auth`, the gateways and the zones share.
    pub netcode: NetcodeConfig,
    /// The role `gateway`.
    pub gateway: GatewayConfig,
    /// The role `auth`.
    pub auth: AuthSection,
    /// The gRPC API of the role `zone`.
    pub rpc: RpcSection,
}

/// How far before others a thread runs.
#[cfg(all(feature = "zone", feature = "gateway"))]
pub type ThreadPriority = meridian_link::ThreadPriority;

/// None of this binary's threads tick: the key is read over.
#[cfg(not(all(feature = "zone", feature = "gateway")))]
pub type ThreadPriority = Option<String>;

/// The section of the role `auth`.
#[cfg(feature = "auth")]
pub type AuthSection = meridian_auth::AuthConfig;

/// The section of a role that this binary does not have: one file serves every process of a deployment, so it is read over.
#[cfg(not(feature = "auth"))]
pub type AuthSection = std::collections::BTreeMap<String, toml::Value>;

/// The section of the API that the role `zone` serves.
#[cfg(feature = "zone")]
pub type RpcSection = meridian_front::FrontConfig;

/// The section of a role that this binary does not have: it is read over.
#[cfg(not(feature = "zone"))]
pub type RpcSection = std::collections::BTreeMap<String, toml::Value>;

/// Section `world`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorldConfig {
    /// The world file.
    pub file: PathBuf,
    /// Ticks per second; without it the world file's own rate.
    pub tick_rate_hz: Option<TickRate>,
}

impl Default for WorldConfig {
    fn default() -> Self {
        Self {
            file: PathBuf::from("assets/data/world.toml"),
            tick_rate_hz: None,
        }
    }
}

/// Section `log`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// How a line looks.
    pub format: LogFormat,
    /// What is logged, in the syntax of `RUST_LOG`.
    pub filter: String,
}

impl Default for LogConfig {
    /// Libraries speak up from warnings on: lightyear logs each of its connections at info. Its netcode warns of each bad request,
    /// which any stranger can send; those are counted.
    fn default() -> Self {
        Self {
            format: LogFormat::Pretty,
            filter: "info,bevy=warn,lightyear=warn,lightyear_netcode=error,avian3d=warn".to_owned(),
        }
    }
}

/// Section `http`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Where to listen.
    pub listen: SocketAddr,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7600)),
        }
    }
}

/// Section `admin`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminConfig {
    /// Where to listen. Whoever reaches it reads metrics and health: keep it inside.
    pub listen: SocketAddr,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7610)),
        }
    }
}

/// Section `bus`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BusConfig {
    /// The Valkey server: `valkey://[user:password@]host[:port]`, or `valkeys://` over TLS. Without it everything is in this process, zones and
    /// gateway together, and ends with it.
    pub url: Option<SecretUrl>,
    /// Certificate (PEM) of the authority that the Valkey server is trusted by, where that is not one of the system's.
    pub authority: Option<PathBuf>,
    /// How many replicas of the server must have a new instance's lease on their disks before it counts.
    pub replicas: u8,
}

/// Section `fabric`. Only a cluster needs it: a process whose `bus.url` is set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FabricConfig {
    /// Where to listen, UDP: zones for gateways and other zones.
    pub listen: SocketAddr,
    /// Where other processes reach it, if that is another address than it listens on; needed when it listens on all of them.
    pub public_address: Option<SocketAddr>,
    /// The folder that `server certs` made: `authority.pem`, `certificate.pem` and `key.pem` of this process.
    pub certificates: PathBuf,
    /// Addresses of zones by their names, for those that are not to be looked up in the bus.
    pub zones: BTreeMap<String, SocketAddr>,
}

impl Default for FabricConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7720)),
            public_address: None,
            certificates: PathBuf::from("certificates"),
            zones: BTreeMap::new(),
        }
    }
}

/// Section `netcode`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetcodeConfig {
    /// The key that seals connect tokens, 64 hexadecimal digits. A process that runs both `auth` and `gateway` makes its own.
    pub private_key: Option<SecretKey>,
}

/// Section `gateway`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GatewayConfig {
    /// Where to listen, UDP.
    pub listen: SocketAddr,
    /// Where clients reach it, if that is another address than it listens on; needed when it listens on all of them.
    pub public_address: Option<SocketAddr>,
    /// Clients it lets in at once.
    pub clients_max: usize,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7700)),
            public_address: None,
            clients_max: 1_000,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            roles: Role::built_in(),
            zones: Vec::new(),
            instance: None,
            fault_injection: false,
            thread_priority: ThreadPriority::default(),
            ready_file: None,
            world: WorldConfig::default(),
            log: LogConfig::default(),
            http: HttpConfig::default(),
            admin: AdminConfig::default(),
            bus: BusConfig::default(),
            fabric: FabricConfig::default(),
            netcode: NetcodeConfig::default(),
            gateway: GatewayConfig::default(),
            auth: AuthSection::default(),
            rpc: RpcSection::default(),
        }
    }
}

impl Config {
    /// Reads file, environment and flags over the defaults, and checks the result.
    ///
    /// # Errors
    /// A file that cannot be read, a key that does not exist, a value of the wrong type or out of bounds; the message names the key
    /// and where it came from.
    pub fn load(cli: &Cli) -> anyhow::Result<Self> {
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        if let Some(file) = &cli.config {
            // Read here for the plain message; figment would take an absent file for an empty one.
            std::fs::metadata(file).with_context(|| format!("cannot read the configuration {}", file.display()))?;
            figment = figment.merge(Toml::file_exact(file));
        }
        let environment = Env::prefixed(ENVIRONMENT_PREFIX).split(ENVIRONMENT_SEPARATOR);
        let figment = figment.merge(environment).merge(Serialized::globals(cli.overrides()));
        let mut config: Self = figment.extract().map_err(|error| config_error(&error))?;
        config.roles.sort_unstable();
        config.roles.dedup();
        config.validate()?;
        Ok(config)
    }

    /// The configuration as TOML, the way `--config` reads it, with secrets redacted.
    ///
    /// # Errors
    /// None that a test would not have found.
    pub fn dump(&self) -> anyhow::Result<String> {
        toml::to_string(self).context("cannot write the configuration as TOML")
    }

    /// Whether this process runs a role.
    #[must_use]
    pub fn runs(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// Whether this process is one of several that share a world.
    #[must_use]
    pub fn is_clustered(&self) -> bool {
        self.bus.url.is_some()
    }

    fn validate(&self) -> anyhow::Result<()> {
        ensure!(!self.roles.is_empty(), "roles: at least one is needed");
        ensure!(
            self.is_clustered() || self.runs(Role::Zone) == self.runs(Role::Gateway),
            "bus.url: zones and gateways of different processes meet in a Valkey server; name it, or name both roles, or neither"
        );
        if let Some(name) = &self.instance {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            ensure!(
                !name.is_empty() && name.len() <= INSTANCE_BYTES_MAX && name.chars().all(is_plain),
                "instance: {name:?} is no name; take up to {INSTANCE_BYTES_MAX} letters, digits, dots and dashes"
            );
        }
        ensure!(
            !self.is_clustered()
                || !self.fabric.listen.ip().is_unspecified()
                || self.fabric.public_address.is_some()
                || !self.runs(Role::Zone),
            "fabric.public_address: the fabric listens on {}, so gateways and other zones must be told where to reach it",
            self.fabric.listen
        );
        validate_public_address("fabric.public_address", self.fabric.public_address)?;
        for role in &self.roles {
            if !role.is_built_in() {
                bail!("roles: this binary was built without {role}; build it with `--features {role}`");
            }
        }
        #[cfg(feature = "auth")]
        self.auth.validate()?;
        self.validate_rpc()?;
        self.validate_gateway()?;
        self.validate_netcode()
    }

    fn validate_gateway(&self) -> anyhow::Result<()> {
        ensure!(
            self.gateway.clients_max > 0,
            "gateway.clients_max is 0, so nobody could get in; let in at least 1"
        );
        validate_public_address("gateway.public_address", self.gateway.public_address)?;
        #[cfg(feature = "auth")]
        validate_public_address("auth.gateway_address", self.auth.gateway_address)?;
        Ok(())
    }

    #[cfg(feature = "zone")]
    fn validate_rpc(&self) -> anyhow::Result<()> {
        self.rpc.validate()?;
        ensure!(
            !self.is_clustered()
                || !self.runs(Role::Zone)
                || !self.rpc.listen.ip().is_unspecified()
                || self.rpc.public_address.is_some(),
            "rpc.public_address: the gRPC API listens on {}, so other servers must be told where to reach it",
            self.rpc.listen
        );
        validate_public_address("rpc.public_address", self.rpc.public_address)
    }

    #[cfg(not(feature = "zone"))]
    #[expect(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "as where there is a section to look at"
    )]
    fn validate_rpc(&self) -> anyhow::Result<()> {
        Ok(())
    }

    /// A split deployment must say what a single process finds out by itself.
    fn validate_netcode(&self) -> anyhow::Result<()> {
        let (runs_gateway, runs_auth) = (self.runs(Role::Gateway), self.runs(Role::Auth));
        let has_key = self.netcode.private_key.is_some();
        ensure!(
            has_key || !self.is_clustered(),
            "netcode.private_key: all processes of a cluster need one and the same key, which tokens are sealed and opened with; take 64 hexadecimal digits from `openssl rand -hex 32`"
        );
        ensure!(
            has_key || !runs_gateway || runs_auth,
            "netcode.private_key: a gateway without the role auth in its process needs the key that auth seals tokens with"
        );
        #[cfg(feature = "auth")]
        ensure!(
            has_key || !runs_auth || runs_gateway || self.auth.gateway_address.is_none(),
            "netcode.private_key: auth without the role gateway in its process needs the key of the gateway at auth.gateway_address"
        );
        let is_unspecified = self.gateway.listen.ip().is_unspecified();
        ensure!(
            !(runs_gateway && (runs_auth || self.is_clustered()) && is_unspecified)
                || self.gateway.public_address.is_some(),
            "gateway.public_address: the gateway listens on {}, so clients must be told where to reach it",
            self.gateway.listen
        );
        Ok(())
    }
}

/// Port 0 is for listening: nobody can be sent there.
fn validate_public_address(key: &str, address: Option<SocketAddr>) -> anyhow::Result<()> {
    match address {
        Some(address) if address.port() == 0 => {
            bail!("{key} is {address}, but clients cannot reach port 0; name the port that leads to the gateway")
        }
        _ => Ok(()),
    }
}

/// Each of figment's errors on a line: it goes on after the first.
fn config_error(error: &figment::Error) -> anyhow::Error {
    let lines: Vec<String> = error.clone().into_iter().map(|error| error.to_string()).collect();
    anyhow::anyhow!("configuration: {}", lines.join("; "))
}

fn roles_from_list_or_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Role>, D::Error> {
    let names = list_or_text(deserializer)?;
    names
        .iter()
        .map(|name| name.parse().map_err(serde::de::Error::custom))
        .collect()
}

fn list_or_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum ListOrText {
        List(Vec<String>),
        Text(String),
    }
    Ok(match ListOrText::deserialize(deserializer)? {
        ListOrText::List(names) => names.iter().map(|name| name.trim().to_owned()).collect(),
        ListOrText::Text(text) => text.split(',').map(|name| name.trim().to_owned()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_is_read_back_and_holds_no_secret() {
        let mut config = Config::default();
        let dump = config.dump().unwrap();
        assert_eq!(toml::from_str::<Config>(&dump).unwrap(), config);

        let key = "5ec2e7".repeat(11)[..64].to_owned();
        config.netcode.private_key = Some(key.parse().unwrap());
        let dump = config.dump().unwrap();
        assert!(!dump.contains(&key) && dump.contains("<redacted>"), "{dump}");
        assert!(!format!("{config:?}").contains(&key));
    }

    #[test]
    fn roles_are_a_list_or_a_text() {
        for text in ["roles = [\"zone\", \"auth\"]", "roles = \"zone, auth\""] {
            assert_eq!(
                toml::from_str::<Config>(text).unwrap().roles,
                [Role::Zone, Role::Auth],
                "{text}"
            );
        }
    }

    #[test]
    fn what_a_split_deployment_lacks_is_named() {
        let error = |roles: &[Role], change: fn(&mut Config)| {
            let mut config = Config {
                roles: roles.to_vec(),
                ..Config::default()
            };
            change(&mut config);
            config.validate_netcode().map_err(|error| error.to_string())
        };
        let everything = [Role::Zone, Role::Gateway, Role::Auth];
        assert_eq!(error(&everything, |_| {}), Ok(()));
        assert_eq!(error(&[Role::Auth], |_| {}), Ok(()));
        assert!(
            error(&[Role::Gateway], |_| {})
                .unwrap_err()
                .starts_with("netcode.private_key")
        );
        let on_all = |config: &mut Config| config.gateway.listen = SocketAddr::from(([0, 0, 0, 0], 7700));
        assert!(
            error(&everything, on_all)
                .unwrap_err()
                .starts_with("gateway.public_address")
        );
    }

    #[test]
    fn a_gateway_that_nobody_could_reach_is_refused() {
        let error = |text: &str| {
            let config: Config = toml::from_str(text).unwrap();
            config.validate().map_err(|error| error.to_string())
        };
        assert_eq!(
            error("[gateway]\nclients_max = 1\npublic_address = \"192.0.2.1:7700\""),
            Ok(())
        );
        assert_eq!(
            error("[gateway]\nclients_max = 0"),
            Err("gateway.clients_max is 0, so nobody could get in; let in at least 1".to_owned())
        );
        assert_eq!(
            error("[gateway]\npublic_address = \"192.0.2.1:0\""),
            Err(
                "gateway.public_address is 192.0.2.1:0, but clients cannot reach port 0; name the port that leads to the gateway"
                    .to_owned()
            )
        );
        // To listen on any port is fine.
        assert_eq!(error("[gateway]\nlisten = \"127.0.0.1:0\""), Ok(()));
    }
}
