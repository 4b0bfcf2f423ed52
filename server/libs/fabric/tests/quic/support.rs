//! A world of processes that are endpoints of this one, and the messages that they exchange.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use meridian_fabric::certificates::{Authority, Existing};
use meridian_fabric::{
    AcceptedLink, AddressFn, EntitySnapshot, FabricEndpoint, FabricOptions, FabricRole, FabricTls, GatewayEnd,
    GatewayMessage, LinkSource, PeerEnd, Snapshot, WorldStamp, ZoneEnd, ZoneMessage,
};
use meridian_ids::{EntityEpoch, LeaseEpoch, PlayerId, Tick, WorldEntityId, ZoneId};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tempfile::TempDir;
use tokio::runtime::Runtime;

pub const ZONE: ZoneId = ZoneId(3);
pub const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// A condition that does not come to hold in this time never will.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `condition` has a value.
pub fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(begun.elapsed() < PATIENCE, "{what} did not come about");
        std::thread::sleep(Duration::from_micros(200));
    }
}

pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    eventually(what, || condition().then_some(()));
}

/// The sum of a counter over the series that have all of these labels.
pub fn counted(name: &str, labels: &[&str]) -> u64 {
    let rendered = recorder().render();
    let has_all = |line: &&str| labels.iter().all(|label| line.contains(label));
    let lines = rendered.lines().filter(|line| line.starts_with(name)).filter(has_all);
    lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

/// The first gauge of this name that has all of these labels.
pub fn shown(name: &str, labels: &[&str]) -> Option<f64> {
    let rendered = recorder().render();
    let has_all = |line: &&str| labels.iter().all(|label| line.contains(label));
    let mut lines = rendered.lines().filter(|line| line.starts_with(name)).filter(has_all);
    lines.next()?.rsplit(' ').next()?.parse().ok()
}

pub fn recorder() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).unwrap();
        handle
    })
}

pub struct World {
    pub runtime: Runtime,
    pub folder: TempDir,
    authority: Authority,
}

/// The three files of a process.
pub struct Files {
    pub authority: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

pub fn stamp(name: &str) -> WorldStamp {
    WorldStamp {
        name: name.to_owned(),
        document_hash: "85944171f73967e8".to_owned(),
    }
}

impl World {
    pub fn new() -> Self {
        recorder();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        Self {
            runtime,
            folder: tempfile::tempdir().unwrap(),
            authority: Authority::create("a world").unwrap(),
        }
    }

    /// Files of a process with these roles, issued by this world's authority.
    pub fn files(&self, name: &str, roles: &[FabricRole]) -> Files {
        issue(&self.folder, &self.authority, name, roles)
    }

    /// Files of a process that belongs to another world.
    pub fn strangers_files(&self, name: &str, roles: &[FabricRole]) -> Files {
        issue(&self.folder, &Authority::create("another world").unwrap(), name, roles)
    }

    pub fn tls(&self, name: &str, roles: &[FabricRole]) -> FabricTls {
        load(&self.files(name, roles))
    }

    pub fn endpoint(&self, name: &str, tls: FabricTls, world: WorldStamp) -> FabricEndpoint {
        self.endpoint_at(LOOPBACK, name, tls, world)
    }

    pub fn endpoint_at(&self, listen: SocketAddr, name: &str, tls: FabricTls, world: WorldStamp) -> FabricEndpoint {
        let options = FabricOptions {
            listen,
            tls,
            world,
            process: name.to_owned(),
        };
        FabricEndpoint::bind(options, self.runtime.handle()).unwrap()
    }

    /// A process that serves zones.
    pub fn zones(&self, name: &str) -> FabricEndpoint {
        self.endpoint(name, self.tls(name, &[FabricRole::Zone]), stamp("meadow"))
    }

    /// A process that runs a gateway.
    pub fn gateways(&self, name: &str) -> FabricEndpoint {
        self.endpoint(name, self.tls(name, &[FabricRole::Gateway]), stamp("meadow"))
    }
}

fn issue(folder: &TempDir, authority: &Authority, name: &str, roles: &[FabricRole]) -> Files {
    let path = |kind: &str| folder.path().join(format!("{name}.{kind}"));
    let files = Files {
        authority: path("ca.pem"),
        certificate: path("pem"),
        key: path("key"),
    };
    let issued = authority.issue(roles, name, &[]).unwrap();
    issued.write(&files.certificate, &files.key, Existing::Replace).unwrap();
    std::fs::write(&files.authority, authority.certificate_pem()).unwrap();
    files
}

pub fn load(files: &Files) -> FabricTls {
    FabricTls::load(&files.authority, &files.certificate, &files.key).unwrap()
}

pub fn at(address: SocketAddr) -> AddressFn {
    Arc::new(move || Some(address))
}

/// An address that can be changed.
#[derive(Clone, Default)]
pub struct Discovery(Arc<Mutex<Option<SocketAddr>>>);

impl Discovery {
    pub fn set(&self, address: SocketAddr) {
        *self.0.lock().unwrap() = Some(address);
    }

    pub fn address(&self) -> AddressFn {
        let known = Arc::clone(&self.0);
        Arc::new(move || *known.lock().unwrap())
    }
}

pub fn dial(gateways: &FabricEndpoint, name: &str, address: SocketAddr) -> Box<dyn GatewayEnd> {
    gateways.to_zone(ZONE, name.to_owned(), at(address), Arc::new(|| ()))
}

pub fn accept_gateway(source: &Arc<dyn LinkSource>) -> (String, Arc<dyn ZoneEnd>) {
    eventually("a gateway's link", || match source.try_accept()? {
        AcceptedLink::Gateway { gateway, end } => Some((gateway, end)),
        AcceptedLink::Peer { .. } => panic!("a zone has dialled"),
    })
}

pub fn accept_peer(source: &Arc<dyn LinkSource>) -> (ZoneId, Arc<dyn PeerEnd>) {
    eventually("a neighbour's link", || match source.try_accept()? {
        AcceptedLink::Peer { zone, end } => Some((zone, end)),
        AcceptedLink::Gateway { .. } => panic!("a gateway has dialled"),
    })
}

/// A zone and a gateway in two processes, linked.
pub struct Pair {
    pub world: World,
    pub zones: FabricEndpoint,
    _gateways: FabricEndpoint,
    pub source: Arc<dyn LinkSource>,
    pub zone: Arc<dyn ZoneEnd>,
    pub gateway: Box<dyn GatewayEnd>,
}

impl Pair {
    pub fn new() -> Self {
        let world = World::new();
        let (zones, gateways) = (world.zones("zones"), world.gateways("gateways"));
        let source = zones.serve(ZONE);
        let gateway = dial(&gateways, "gateway-1", zones.local_addr());
        let (name, zone) = accept_gateway(&source);
        assert_eq!(name, "gateway-1");
        until("the gateway's link", || gateway.is_connected());
        Self {
            world,
            zones,
            _gateways: gateways,
            source,
            zone,
            gateway,
        }
    }
}

pub fn join(player: u64) -> GatewayMessage {
    GatewayMessage::Join {
        player: PlayerId(player),
        name: format!("player {player}"),
    }
}

pub fn left(entity: u64) -> ZoneMessage {
    ZoneMessage::Left {
        entity: WorldEntityId(entity),
        epoch: EntityEpoch(1),
    }
}

/// A snapshot with changes of one entity, of so many bytes.
pub fn snapshot(tick: u64, bytes: usize) -> Snapshot {
    let now = Instant::now();
    Snapshot {
        zone: ZONE,
        lease: LeaseEpoch(1),
        tick: Tick(tick),
        whole: false,
        entities: vec![EntitySnapshot {
            entity: WorldEntityId(7),
            epoch: EntityEpoch(1),
            whole: false,
            range: 0..bytes as u32,
        }],
        bytes: (0..bytes).map(|index| index as u8).collect(),
        probes: vec![],
        began: now,
        finished: now,
    }
}

/// Sends a snapshot, again until it is taken.
pub fn send_snapshot(zone: &Arc<dyn ZoneEnd>, snapshot: &Arc<Snapshot>) {
    until("room for a snapshot", || {
        zone.send(ZoneMessage::Snapshot(Arc::clone(snapshot))).is_ok()
    });
}

pub fn from_zone(gateway: &dyn GatewayEnd) -> ZoneMessage {
    eventually("a message of the zone", || gateway.try_receive())
}

pub fn from_gateway(zone: &Arc<dyn ZoneEnd>) -> GatewayMessage {
    eventually("a message of the gateway", || zone.try_receive())
}
