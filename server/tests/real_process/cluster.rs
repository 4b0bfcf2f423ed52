//! A world on several processes with a real Valkey, and what becomes of it when any of them dies, hangs or is cut off: each under a swarm that
//! crosses borders, with the audit on.

mod facts;
mod faults;
mod processes;
mod relays;
mod script;
mod strangers;
mod valkey;

use std::{collections::BTreeMap, thread, time::Duration};

use meridian_autopilot::ScenarioKind;
use meridian_loadgen::{
    report::Report,
    swarm::{self, Faults, SwarmOptions, demo_game},
    timing::Timing,
};

use crate::support::{Folder, NETCODE_KEY, demo_world, get, run_in, wait_until};
use processes::Process;
use relays::Relay;
use valkey::Valkey;

/// The zones of the demo world, in the order of their ids.
pub const ZONES: [&str; 4] = ["north-west", "north-east", "south-west", "south-east"];

/// How many bots a swarm has: enough for several handoffs a second, few enough for two cores with nine processes.
const BOTS: usize = 12;

/// Valkey, a process per zone, two gateways and auth.
pub struct Cluster {
    pub processes: BTreeMap<String, Process>,
    pub valkey: Valkey,
    pub relays: Vec<Relay>,
    folder: Folder,
}

impl Cluster {
    /// Starts all of it and waits until it is ready.
    pub fn start() -> Self {
        Self::with(|_| Vec::new())
    }

    /// Starts what `first` starts, with what stands between, then the rest, and waits until all of it is ready.
    pub fn with(first: impl FnOnce(&mut Self) -> Vec<Relay>) -> Self {
        let folder = Folder::new();
        let certificates = run_in(&folder, &["certs", "--authority", "authority", "--out", "certificates"]);
        assert!(certificates.status.success(), "{certificates:?}");
        let valkey = Valkey::start(folder.path());
        let mut cluster = Self {
            processes: BTreeMap::new(),
            valkey,
            relays: Vec::new(),
            folder,
        };
        cluster.relays = first(&mut cluster);
        let url = cluster.valkey.url();
        for name in ZONES.into_iter().chain(["gateway-1", "gateway-2", "auth"]) {
            let is_zone = ZONES.contains(&name);
            let role = if is_zone {
                "zone"
            } else {
                name.split('-').next().unwrap()
            };
            let zone = if is_zone { &["--zone", name][..] } else { &[] };
            if !cluster.processes.contains_key(name) {
                cluster.add(name, &url, &[&["--roles", role], zone].concat(), &[]);
            }
        }
        cluster.await_ready();
        cluster
    }

    /// A cluster whose first gateway reaches a zone only over the first of the relays.
    pub fn with_parted_fabric(zone: &str) -> Self {
        Self::with(|cluster| {
            let url = cluster.valkey.url();
            cluster.add(zone, &url, &["--roles", "zone", "--zone", zone], &[]);
            let relay = Relay::udp(cluster.processes[zone].fabric());
            let over = (
                format!("MERIDIAN_FABRIC__ZONES__{}", zone.to_uppercase()),
                relay.address.to_string(),
            );
            cluster.add("gateway-1", &url, &["--roles", "gateway"], &[over]);
            vec![relay]
        })
    }

    /// Starts a process for a zone under an instance's name; it takes the zone when nobody else has it.
    pub fn add_zone(&mut self, instance: &str, zone: &str) {
        let url = self.valkey.url();
        self.add(instance, &url, &["--roles", "zone", "--zone", zone], &[]);
        self.process(instance).await_start();
    }

    /// Starts a zone's process that reaches Valkey only over a relay.
    pub fn add_zone_over(&mut self, zone: &str, relay: &Relay) {
        let url = format!("valkey://{}", relay.address);
        self.add(zone, &url, &["--roles", "zone", "--zone", zone], &[]);
    }

    fn add(&mut self, instance: &str, bus: &str, arguments: &[&str], environment: &[(String, String)]) {
        let mut process = Process::new(&self.folder, instance);
        let world = demo_world();
        process
            .arguments(&["--instance", instance, "--bus", bus])
            .arguments(&["--world", &world, "--certificates", "certificates"])
            .arguments(arguments)
            .environment("MERIDIAN_NETCODE__PRIVATE_KEY", NETCODE_KEY);
        for (name, value) in environment {
            process.environment(name, value);
        }
        process.start(&self.folder);
        self.processes.insert(instance.to_owned(), process);
    }

    pub fn await_ready(&mut self) {
        for process in self.processes.values_mut() {
            process.await_ready();
        }
    }

    pub fn process(&mut self, instance: &str) -> &mut Process {
        self.processes.get_mut(instance).unwrap()
    }

    /// Starts a process again under its name, on the ports that it had.
    pub fn start_again(&mut self, instance: &str) {
        let process = self.processes.get_mut(instance).unwrap();
        process.start(&self.folder);
        process.await_ready();
    }

    /// Sends bots over the borders, lets `fault` happen in the middle, and says what they measured.
    pub fn under_a_swarm(&mut self, measure: Duration, fault: impl FnOnce(&mut Self) + Send) -> Report {
        let options = self.swarm(measure);
        let timing = std::sync::OnceLock::new();
        let report = thread::scope(|scope| {
            let swarm = scope.spawn(|| {
                swarm::run(&options, &|begun: &Timing| {
                    let _ = timing.set(*begun);
                    begun.sleep_until(begun.stop);
                })
            });
            wait_until("the swarm's beginning", || {
                timing.get().is_some() || swarm.is_finished()
            });
            if let Some(timing) = timing.get() {
                timing.sleep_until(timing.measure_from + Duration::from_secs(2));
                fault(self);
            }
            swarm.join().unwrap()
        });
        report.unwrap_or_else(|error| panic!("{error:#}\n{}", self.logs()))
    }

    fn swarm(&self, measure: Duration) -> SwarmOptions {
        let admin = |process: &Process| process.admin();
        SwarmOptions {
            server: self.processes["auth"].url("http", ""),
            admin: self.processes.values().map(admin).collect(),
            bots: BOTS,
            measure,
            warmup: Duration::from_secs(6),
            scenario: ScenarioKind::Border,
            predict: false,
            probe_every: Duration::from_millis(100),
            seed: 1,
            game: demo_game(),
            faults: Faults::default(),
        }
    }

    /// What `server status` prints.
    pub fn status(&self) -> String {
        let (bus, world) = (self.valkey.url(), demo_world());
        let output = run_in(&self.folder, &["status", "--bus", &bus, "--world", &world]);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What every process has logged.
    pub fn logs(&self) -> String {
        self.processes
            .iter()
            .map(|(name, process)| format!("--- {name}\n{}", process.log()))
            .collect()
    }

    /// A metric of a process, summed over its labels.
    pub fn metric(&self, instance: &str, name: &str) -> f64 {
        let page = get(&self.processes[instance].url("admin", "/metrics")).body;
        let lines = page.lines().filter(|line| line.starts_with(name));
        lines
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }

    /// Whether a zone's process says that its zone does not simulate, for the lease may have ended.
    pub fn waits_for_its_lease(&self, zone: &str) -> bool {
        let ready = get(&self.processes[zone].url("admin", "/ready"));
        ready.body.contains("waits for its lease")
    }

    /// Nobody was in two places or in none, nobody was made anew, and everybody acts at the end.
    ///
    /// By the end it is known of every entity who simulates it: whatever befell the servers is over, all zones tell again, and nobody leaves the
    /// world during a run, so who is still undecided or unknown then is lost. How often a zone told everything anew says nothing: it does
    /// when its stream breaks or its store is restarted. Nor is there a natural respawn: who falls off the world keeps its entity, and a
    /// player whose gateway is gone waits in the world for another.
    pub fn assert_survived(&self, report: &Report) {
        let audit = report.audit.unwrap_or_else(|| panic!("no audit:\n{}", self.logs()));
        let found = (audit.duplicated, audit.lost, audit.epoch_went_back);
        assert_eq!(found, (0, 0, 0), "{report:#?}\n{}", self.logs());
        let open = (audit.undecided, audit.unknown);
        assert_eq!(open, (0, 0), "{report:#?}\n{}", self.logs());
        assert_eq!(report.respawns, Some(0), "{report:#?}\n{}", self.logs());
        let still_out = report.outages.unwrap().still_out;
        assert_eq!(still_out, 0, "{:?}\n{}", report.outages, self.logs());
        assert_eq!(report.bots.connected, report.bots.requested, "{:?}", report.bots);
        assert!(audit.entities >= report.bots.connected, "{audit:?}");
        assert!(report.handoffs.count > Some(0), "nothing crossed a border");
        for (name, process) in &self.processes {
            let log = process.log();
            assert!(!log.contains("panicked"), "{name} panicked:\n{log}");
        }
    }
}
