//! What the zones and the gateway of one process share: the fabric between them, who owns what, and the game that all run.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{bail, ensure};
use meridian_bus::InProcess;
use meridian_fabric::{ZoneEnd, desk::desk, in_process, in_process_peers};
use meridian_game::{WorldDefinition, demo::DemoPlugin};
use meridian_gateway::ZoneLink;
use meridian_ids::{Generation, LeaseEpoch, TickClock, ZoneId};
use meridian_link::Wake;
use meridian_zone::{GHOST_REACH_M, Peer, ZoneLinks};

use crate::{config::Config, role::Role, roles::ZoneWiring, world::World};

/// Starts of a process that must not share a lease epoch are at least so many ticks apart, and a zone may be restarted as often.
const LEASES_PER_START: u32 = 64;

/// One zone's ends, until the role takes them.
struct LocalZone {
    zone: ZoneId,
    gateway: Arc<dyn ZoneEnd>,
    peers: Vec<Peer>,
}

impl LocalZone {
    /// The ends are the same for each instance; each has a connection to the bus of its own.
    fn wiring(self, bus: InProcess) -> ZoneWiring {
        let Self { zone, gateway, peers } = self;
        let (front, end) = desk();
        let connect = move || {
            let links = ZoneLinks {
                gateways: vec![Arc::clone(&gateway)],
                peers: peers.clone(),
                source: None,
                bus: bus.connect(zone),
                desk: Some(end.clone()),
            };
            // Nobody is dialled.
            (links, Arc::default())
        };
        ZoneWiring {
            zone,
            desk: front,
            connect: Box::new(connect),
        }
    }
}

/// Everything between the zones and the gateway of this process, until the roles take it.
pub struct LocalFabric {
    /// The world as the game reads it.
    pub(super) world: Arc<WorldDefinition>,
    /// What the gateway waits on.
    pub(super) wake: Arc<Wake>,
    pub(super) zones: Vec<ZoneWiring>,
    /// Who owns what; and where positions are followed.
    pub(super) bus: InProcess,
    pub(super) links: Vec<ZoneLink>,
    /// The lease epoch before that of each zone's first instance.
    pub(super) before: LeaseEpoch,
}

impl LocalFabric {
    /// Connects the zones that this process runs with its gateway and with each other.
    pub(super) fn new(config: &Config, world: &World, clock: &TickClock) -> anyhow::Result<Self> {
        ensure!(
            config.runs(Role::Zone) && config.runs(Role::Gateway),
            "roles: zone and gateway run in one process; name both, or neither"
        );
        let definition = definition(world)?;
        let wake = Arc::new(Wake::default());
        let mut zones = Vec::new();
        let mut links = Vec::new();
        for zone in chosen(&definition, &config.zones)? {
            let wake_gateway = Arc::clone(&wake);
            // A zone reads its messages when its tick begins: nothing has to wake it.
            let (end, link) = in_process(Arc::new(|| ()), Arc::new(move || wake_gateway.wake()));
            links.push(ZoneLink { zone, end: link });
            zones.push(LocalZone {
                zone,
                gateway: end,
                peers: Vec::new(),
            });
        }
        connect_neighbours(&definition, &mut zones);
        let origin = Instant::now();
        // The low half of the tick: what does not fit is the generation's place, and there is one generation in a process.
        let start = clock.tick_at(origin).0 as u32 / LEASES_PER_START * LEASES_PER_START;
        let before = LeaseEpoch::new(Generation(0), start);
        let since_origin = move || -> Duration { origin.elapsed() };
        let bus = meridian_bus::in_process(before, Arc::new(since_origin));
        Ok(Self {
            world: Arc::new(definition),
            wake,
            zones: zones.into_iter().map(|zone| zone.wiring(bus.clone())).collect(),
            links,
            bus,
            before,
        })
    }
}

/// The zones of the world that are named; all if none is.
pub(super) fn chosen(world: &WorldDefinition, names: &[String]) -> anyhow::Result<Vec<ZoneId>> {
    let known: BTreeMap<&str, ZoneId> = world
        .zone_map()
        .ids()
        .map(|zone| (world.zone_name(zone), zone))
        .collect();
    if names.is_empty() {
        return Ok(world.zone_map().ids().collect());
    }
    let mut chosen = Vec::with_capacity(names.len());
    for name in names {
        match known.get(name.trim()) {
            Some(zone) => chosen.push(*zone),
            None => bail!(
                "zones: the world {} has no zone `{name}`; its zones are {}",
                world.name,
                world
                    .zone_map()
                    .ids()
                    .map(|zone| world.zone_name(zone))
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        }
    }
    chosen.sort_unstable();
    chosen.dedup();
    Ok(chosen)
}

fn connect_neighbours(world: &WorldDefinition, zones: &mut [LocalZone]) {
    let map = world.zone_map();
    for one in 0..zones.len() {
        for other in one + 1..zones.len() {
            let areas = (map.area(zones[one].zone), map.area(zones[other].zone));
            let (Some(area), Some(other_area)) = areas else {
                continue;
            };
            if area.distance_to(other_area) > GHOST_REACH_M {
                continue;
            }
            let (end, other_end) = in_process_peers();
            let (zone, other_zone) = (zones[one].zone, zones[other].zone);
            zones[one].peers.push(Peer { zone: other_zone, end });
            zones[other].peers.push(Peer { zone, end: other_end });
        }
    }
}

/// The world as the game reads it, at the rate that the configuration asks for.
pub(super) fn definition(world: &World) -> anyhow::Result<WorldDefinition> {
    let definition = WorldDefinition::parse(&world.text, &world.path.display().to_string())?;
    Ok(WorldDefinition {
        tick_rate_hz: world.tick_rate,
        ..definition
    })
}

/// The game that this server runs.
pub(super) fn game() -> Arc<dyn Fn(&mut meridian_game::App) + Send + Sync> {
    Arc::new(|app| {
        app.add_plugins(DemoPlugin);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_chosen_by_name_and_an_unknown_one_is_told_with_those_there_are() {
        let text = include_str!("../../../assets/data/world.toml");
        let world = WorldDefinition::parse(text, "world.toml").unwrap();
        let choose = |names: &[&str]| chosen(&world, &names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(choose(&[]).unwrap().len(), 4);
        assert_eq!(choose(&["south-east", "north-west"]).unwrap(), [ZoneId(0), ZoneId(3)]);
        let error = choose(&["north"]).unwrap_err().to_string();
        assert!(
            error.contains("`north`") && error.contains("north-west, north-east"),
            "{error}"
        );
    }
}
