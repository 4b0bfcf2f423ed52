//! What the Bevy roles of one process share in a cluster: the fabric to zones and gateways of other processes.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use anyhow::{Context, bail, ensure};
use meridian_fabric::{
    AddressFn, FabricEndpoint, FabricOptions, FabricRole, FabricTls, PeerEnd, WakeFn, WorldStamp, desk::desk,
};
use meridian_game::WorldDefinition;
use meridian_gateway::ZoneLink;
use meridian_ids::ZoneId;
use meridian_zone::{GHOST_REACH_M, Peer, ZoneLinks};

use crate::{
    cluster::ClusterBus,
    commands::certs::{AUTHORITY_FILE, CERTIFICATE_FILE, KEY_FILE},
    config::Config,
    role::Role,
    roles::{ToldLease, ZoneWiring, local},
    world::World,
};

/// The fabric of one process of a cluster.
pub struct ClusterFabric {
    pub(super) world: Arc<WorldDefinition>,
    endpoint: Arc<FabricEndpoint>,
    bus: ClusterBus,
    /// Where zones are that are not looked up.
    fixed: Arc<BTreeMap<ZoneId, SocketAddr>>,
    public: SocketAddr,
}

impl ClusterFabric {
    /// Binds the fabric's port; nobody is dialled yet.
    pub(super) fn new(config: &Config, world: &World, bus: &ClusterBus) -> anyhow::Result<Self> {
        let definition = local::definition(world)?;
        let file = |name: &str| config.fabric.certificates.join(name);
        let tls = FabricTls::load(&file(AUTHORITY_FILE), &file(CERTIFICATE_FILE), &file(KEY_FILE))
            .context("fabric.certificates: `server certs` makes them")?;
        for (role, needed) in [(Role::Zone, FabricRole::Zone), (Role::Gateway, FabricRole::Gateway)] {
            ensure!(
                !config.roles.contains(&role) || tls.allows(needed),
                "fabric.certificates: the certificate does not allow the role {role}; make one with `server certs --roles {role}`"
            );
        }
        let options = FabricOptions {
            listen: config.fabric.listen,
            tls,
            world: WorldStamp {
                name: definition.name.clone(),
                document_hash: world.hash.to_string(),
            },
            process: bus.instance().to_owned(),
        };
        let runtime = tokio::runtime::Handle::current();
        let endpoint = FabricEndpoint::bind(options, &runtime).context("fabric.listen")?;
        Ok(Self {
            fixed: Arc::new(fixed_addresses(config, &definition)?),
            world: Arc::new(definition),
            public: config.fabric.public_address.unwrap_or(endpoint.local_addr()),
            endpoint: Arc::new(endpoint),
            bus: bus.clone(),
        })
    }

    /// Where it listens.
    pub(super) fn local_addr(&self) -> SocketAddr {
        self.endpoint.local_addr()
    }

    /// Where others reach it.
    pub(super) fn public_address(&self) -> SocketAddr {
        self.public
    }

    /// The endpoint itself: it ends with the process, and tells its peers.
    #[must_use]
    pub fn endpoint(&self) -> Arc<FabricEndpoint> {
        Arc::clone(&self.endpoint)
    }

    fn address(&self, zone: ZoneId) -> AddressFn {
        let (fixed, bus) = (Arc::clone(&self.fixed), self.bus.clone());
        Arc::new(move || fixed.get(&zone).copied().or_else(|| bus.zone_address(zone)))
    }

    /// The zones that this process is to run. Each instance has links of its own: those of the one before end with it.
    pub(super) fn zones(&self, config: &Config) -> anyhow::Result<Vec<ZoneWiring>> {
        let zones = local::chosen(&self.world, &config.zones)?;
        Ok(zones.into_iter().map(|zone| self.wiring(zone)).collect())
    }

    fn wiring(&self, zone: ZoneId) -> ZoneWiring {
        let map = self.world.zone_map();
        let is_near = |other: &ZoneId| match (map.area(zone), map.area(*other)) {
            (Some(area), Some(other)) => area.distance_to(other) <= GHOST_REACH_M,
            _ => false,
        };
        // Of two neighbours the one with the lower id dials.
        let dialled = map.ids().filter(|other| *other > zone).filter(is_near);
        let dialled: Vec<(ZoneId, AddressFn)> = dialled.map(|other| (other, self.address(other))).collect();
        let (endpoint, bus) = (Arc::clone(&self.endpoint), self.bus.bus().clone());
        let (front, end) = desk();
        let connect = move || {
            let told = Arc::new(ToldLease::default());
            let peer = |(other, address): &(ZoneId, AddressFn)| -> Peer {
                let (address, has_lease, lease) = (Arc::clone(address), Arc::clone(&told), Arc::clone(&told));
                let address = Arc::new(move || has_lease.get().and_then(|_| address()));
                let end: Arc<dyn PeerEnd> = endpoint.to_peer_as(zone, *other, address, Arc::new(move || lease.get()));
                Peer { zone: *other, end }
            };
            let links = ZoneLinks {
                gateways: Vec::new(),
                peers: dialled.iter().map(peer).collect(),
                source: Some(endpoint.serve(zone)),
                bus: bus.connect_zone(zone),
                desk: Some(end.clone()),
            };
            (links, told)
        };
        ZoneWiring {
            zone,
            desk: front,
            connect: Box::new(connect),
        }
    }

    /// A gateway's links to all zones of the world; each connects by itself, again and again.
    pub(super) fn links(&self, wake: &WakeFn) -> Vec<ZoneLink> {
        let name = self.bus.instance();
        let zones = self.world.zone_map();
        let link = |zone| ZoneLink {
            zone,
            end: self
                .endpoint
                .to_zone(zone, name.to_owned(), self.address(zone), Arc::clone(wake)),
        };
        zones.ids().map(link).collect()
    }
}

fn fixed_addresses(config: &Config, world: &WorldDefinition) -> anyhow::Result<BTreeMap<ZoneId, SocketAddr>> {
    let mut fixed = BTreeMap::new();
    for (name, address) in &config.fabric.zones {
        let named = local::chosen(world, std::slice::from_ref(name)).context("fabric.zones")?;
        let [zone] = named[..] else {
            bail!("fabric.zones: `{name}` is no zone");
        };
        fixed.insert(zone, *address);
    }
    Ok(fixed)
}
