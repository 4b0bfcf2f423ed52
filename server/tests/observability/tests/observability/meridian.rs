//! Meridian itself: all in one process, or the cluster of the compose file as processes on loopback; and a swarm that plays on it.

use std::{collections::BTreeMap, fs, net::UdpSocket, path::Path, process::Command};

use serde_json::Value;

use crate::{
    compose_roles,
    support::{Running, body_of, built, command, free_port, get, installed, post, repository, until},
};

/// Bots of a swarm: few, for everything runs on one machine, and enough to cross borders all the time.
const BOTS: &str = "6";

/// A world that is up. All of it ends with this.
pub struct World {
    /// In the order in which they started, and so to be ended from the last on: Valkey outlives who needs it.
    processes: Vec<Running>,
    /// The admin listeners of all processes.
    pub admins: Vec<String>,
    rpc: Vec<String>,
    http: String,
    gateway: String,
    folder: tempfile::TempDir,
}

impl Drop for World {
    fn drop(&mut self) {
        while let Some(process) = self.processes.pop() {
            drop(process);
        }
    }
}

impl World {
    /// Every role and zone in one process; with traces for a collector, if there is one, over gRPC.
    pub fn in_one_process(collector: Option<&str>) -> Self {
        let mut world = Self::nothing();
        let mut server = command(&built("server"));
        server.args([
            "--http",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--gateway",
            "127.0.0.1:0",
            "--rpc",
            "127.0.0.1:0",
        ]);
        export_to(&mut server, collector);
        world.start("server", &mut server);
        world
    }

    /// Each process of the compose file, with its environment but for what only holds in containers: where to listen, where others and
    /// files are; with traces for a collector, if there is one, over gRPC.
    pub fn as_composed(collector: Option<&str>) -> Self {
        let mut world = Self::nothing();
        let bus = world.start_valkey();
        let root = world.folder.path().join("meridian");
        compose_roles::make_secrets(&root);
        for (name, environment) in compose_roles::environments() {
            let mut server = command(&built("server"));
            server.arg("--config").arg(root.join("secrets/netcode.toml"));
            server.envs(on_loopback(&environment, &bus, &root));
            export_to(&mut server, collector);
            world.start(&name, &mut server);
        }
        world.until_it_takes_players();
        world
    }

    /// Each process is ready by itself; auth hears of gateways through the store, a moment later.
    fn until_it_takes_players(&self) {
        let query = serde_json::json!({ "name": "Nobody", "protocol_version": meridian_session::PROTOCOL_VERSION });
        until("auth knows a gateway", || {
            let (status, body) = post(&format!("http://{}/v1/session", self.http), &query.to_string())?;
            if status == 200 { Ok(()) } else { Err(body) }
        });
    }

    fn nothing() -> Self {
        Self {
            processes: Vec::new(),
            admins: Vec::new(),
            rpc: Vec::new(),
            http: String::new(),
            gateway: String::new(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn start_valkey(&mut self) -> String {
        let port = free_port().to_string();
        let mut valkey = Command::new(installed("valkey-server"));
        valkey
            .args(["--bind", "127.0.0.1", "--port", &port, "--dir"])
            .arg(self.folder.path());
        // As the compose file has it.
        valkey.args(&compose_roles::valkey_command()[1..]);
        let mut running = Running::start("valkey", self.folder.path(), &mut valkey);
        running.until("listens", || {
            std::net::TcpStream::connect(format!("127.0.0.1:{port}")).map_err(|error| error.to_string())
        });
        self.processes.push(running);
        format!("valkey://127.0.0.1:{port}")
    }

    /// Starts a process, and waits until it says where it listens, which it does when all of it is ready.
    fn start(&mut self, name: &str, server: &mut Command) {
        let ready = self.folder.path().join(format!("{name}.json"));
        server
            .arg("--ready-file")
            .arg(&ready)
            .env("RUST_LOG", "warn")
            .current_dir(repository("."));
        let mut running = Running::start(name, self.folder.path(), server);
        let addresses: Value = running.until("is ready", || {
            let text = fs::read_to_string(&ready).map_err(|error| error.to_string())?;
            serde_json::from_str(&text).map_err(|error| error.to_string())
        });
        self.processes.push(running);
        self.admins.push(addresses["admin"].as_str().unwrap().to_owned());
        self.rpc
            .extend(addresses["rpc"].as_str().map(|address| format!("http://{address}")));
        for (listener, known) in [("http", &mut self.http), ("gateway", &mut self.gateway)] {
            if let Some(address) = addresses[listener].as_str() {
                address.clone_into(known);
            }
        }
    }

    /// Bots that go to and fro over the borders, for as long as they are kept. What they measure is pushed to a collector, over gRPC.
    pub fn swarm(&self, collector: &str) -> Running {
        self.start_swarm(&[], |loadgen| push_to(loadgen, collector))
    }

    /// The same, with traces for a collector, over gRPC, and a link on which inputs need so much of a head start that they wait in their zone
    /// while their player leaves it.
    pub fn swarm_far_away(&self, collector: &str) -> Running {
        self.start_swarm(&["--link-jitter", "40"], |loadgen| export_to(loadgen, Some(collector)))
    }

    fn start_swarm(&self, link: &[&str], tell: impl FnOnce(&mut Command)) -> Running {
        let mut loadgen = command(&built("loadgen"));
        loadgen.args(["run", "--scenario", "border", "--bots", BOTS, "--seconds", "3600"]);
        loadgen.args(link);
        loadgen.args(["--server", &format!("http://{}", self.http)]);
        for admin in &self.admins {
            loadgen.args(["--admin", &format!("http://{admin}")]);
        }
        tell(&mut loadgen);
        Running::start("loadgen", self.folder.path(), &mut loadgen)
    }

    /// The gRPC API of each server that runs zones.
    pub fn rpc(&self) -> &[String] {
        &self.rpc
    }

    /// Where sessions are asked for.
    pub fn auth(&self) -> String {
        format!("http://{}", self.http)
    }

    /// What every server on a network meets: a request that is none, and a datagram of a stranger. Each is counted.
    pub fn be_a_stranger(&self) {
        let (status, _) = post(&format!("http://{}/v1/session", self.http), "no JSON").unwrap();
        assert_eq!(status, 400);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(&[0x55; 64], &self.gateway).unwrap();
    }

    /// Waits until some metric's sample is there, on some process.
    pub fn await_metric(&self, text: &str) {
        until(text, || {
            let pages = self.admins.iter().map(|admin| metrics_of(admin));
            let pages = pages.collect::<Result<Vec<String>, String>>()?;
            if pages.iter().any(|page| page.contains(text)) {
                Ok(())
            } else {
                Err(pages.concat())
            }
        });
    }
}

/// Has a program push what it tells to a collector, over gRPC.
pub fn export_to(program: &mut Command, collector: Option<&str>) {
    if let Some(collector) = collector {
        program.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector);
        program.env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    }
}

/// Has a program push its metrics to a collector, over gRPC, once in each second: as often as they are scraped here.
fn push_to(program: &mut Command, collector: &str) {
    program.env("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", collector);
    program.env("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "grpc");
    program.env("OTEL_METRIC_EXPORT_INTERVAL", "1000");
}

/// What a process shows to Prometheus.
pub fn metrics_of(admin: &str) -> Result<String, String> {
    body_of(get(&format!("http://{admin}/metrics")))
}

/// A service's environment, as it has to be without containers.
fn on_loopback(environment: &BTreeMap<String, String>, bus: &str, root: &Path) -> BTreeMap<String, String> {
    let mut result = environment.clone();
    let mut replace = |key: &str, with: String| {
        if let Some(value) = result.get_mut(key) {
            *value = with;
        }
    };
    for listener in ["ADMIN", "HTTP", "GATEWAY", "FABRIC", "RPC"] {
        replace(&format!("MERIDIAN_{listener}__LISTEN"), "127.0.0.1:0".to_owned());
    }
    replace("MERIDIAN_BUS__URL", bus.to_owned());
    let certificates = environment.get("MERIDIAN_FABRIC__CERTIFICATES");
    let inside = certificates.map(|path| Path::new(path).strip_prefix("/meridian").unwrap());
    if let Some(inside) = inside {
        replace("MERIDIAN_FABRIC__CERTIFICATES", root.join(inside).display().to_string());
    }
    // Who listens on one address is reached there.
    for reached in ["GATEWAY", "FABRIC", "RPC"] {
        result.remove(&format!("MERIDIAN_{reached}__PUBLIC_ADDRESS"));
    }
    // No Collector is here.
    result.remove("OTEL_EXPORTER_OTLP_ENDPOINT");
    result
}
