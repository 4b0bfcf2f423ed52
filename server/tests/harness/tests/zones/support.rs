//! Two zones side by side, and who simulated what in them.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bevy::ecs::entity::Entity;
use bevy::ecs::query::{With, Without};
use bevy::math::Vec3;
use meridian_bus::EventReader;
use meridian_client_net::{Connector, OwnPlayer};
use meridian_events::{AuditLine, Began, Ended, Happening};
use meridian_game::{Ghost, Identity, Pose};
use meridian_harness::{TestOptions, TestWorld};
use meridian_ids::{PlayerId, Tick, TickRate, WorldEntityId, ZoneId};
use meridian_link::LinkConditions;
use meridian_loadgen::audit::Auditor;

/// A wide floor, cut at x = 0; players start in the west, 6 m from the border.
pub const TWO: &str = r#"
name = "two"
kill_below_m = -20.0
[bounds]
min = [-100.0, -100.0]
max = [100.0, 100.0]
[spawn]
centre = [-6.0, 0.0, 0.0]
radius_m = 0.1
[[scenery]]
name = "floor"
centre = [0.0, -1.0, 0.0]
size = [400.0, 2.0, 400.0]
[[zones]]
name = "west"
min = [-100.0, -100.0]
max = [0.0, 100.0]
[[zones]]
name = "east"
min = [0.0, -100.0]
max = [100.0, 100.0]
"#;

pub fn two() -> TestOptions {
    with(TWO.to_owned())
}

pub fn with(world: String) -> TestOptions {
    TestOptions {
        world,
        ..TestOptions::default()
    }
}

pub fn with_crates(crates: &str) -> TestOptions {
    with(format!(
        "{TWO}[[crates]]\nsize = [1.0, 1.0, 1.0]\nmass_kg = 20.0\n{crates}\n"
    ))
}

/// A link as between two continents on a bad day: 100 ms round trip, 10 ms jitter, 2 % loss.
pub fn bad_link() -> LinkConditions {
    LinkConditions {
        delay: Duration::from_millis(50),
        jitter: Duration::from_millis(10),
        loss: 0.02,
    }
}

/// Who simulated what in which ticks, from what zones said themselves.
#[derive(Default)]
pub struct Owners {
    open: HashMap<(ZoneId, WorldEntityId), Tick>,
    /// Zone, first and last tick of each spell that has ended, per entity.
    spells: BTreeMap<WorldEntityId, Vec<(ZoneId, Tick, Tick)>>,
    newest: Tick,
}

impl Owners {
    pub fn of(world: &TestWorld) -> Self {
        let mut owners = Self::default();
        owners.hear(world);
        owners
    }

    pub fn hear(&mut self, world: &TestWorld) {
        world.audit.take().iter().for_each(|line| self.take_in(line));
    }

    fn take_in(&mut self, line: &AuditLine) {
        self.newest = self.newest.max(line.tick);
        if line.whole {
            line.ended.iter().for_each(|ended| self.end(line.zone, ended));
            self.open.retain(|(zone, _), _| *zone != line.zone);
            line.began.iter().for_each(|began| self.begin(line.zone, began));
            return;
        }
        // Between two lines something may end and begin, or begin and end: in the order of the ticks.
        let (mut began, mut ended) = (line.began.iter().peekable(), line.ended.iter().peekable());
        while began.peek().is_some() || ended.peek().is_some() {
            let has_begun = |ended: &&Ended| self.open.contains_key(&(line.zone, ended.entity));
            match ended.next_if(has_begun) {
                Some(ended) => self.end(line.zone, ended),
                None => match began.next() {
                    Some(began) => self.begin(line.zone, began),
                    None => drop(ended.next()),
                },
            }
        }
    }

    fn begin(&mut self, zone: ZoneId, began: &Began) {
        self.open.insert((zone, began.entity), began.from);
    }

    fn end(&mut self, zone: ZoneId, ended: &Ended) {
        if let Some(from) = self.open.remove(&(zone, ended.entity)) {
            let spells = self.spells.entry(ended.entity).or_default();
            spells.push((zone, from, ended.through));
        }
    }

    pub fn spells_of(&self, entity: WorldEntityId) -> Vec<(ZoneId, Tick, Tick)> {
        let mut spells = self.spells.get(&entity).cloned().unwrap_or_default();
        let open = self.open.iter().filter(|((_, open), _)| *open == entity);
        spells.extend(open.map(|((zone, _), from)| (*zone, *from, self.newest)));
        // A spell in which no tick was simulated is none.
        spells.retain(|(_, from, through)| from <= through);
        spells.sort_by_key(|(_, from, _)| *from);
        spells
    }

    /// Asserts that each tick of an entity was simulated once: spells follow one another without overlap and without a gap.
    pub fn assert_seamless(&self, entity: WorldEntityId) -> usize {
        let spells = self.spells_of(entity);
        for pair in spells.windows(2) {
            assert_eq!(pair[0].2.next(), pair[1].1, "{entity}: {spells:?}");
        }
        spells.windows(2).filter(|pair| pair[0].0 != pair[1].0).count()
    }

    pub fn entities(&self) -> Vec<WorldEntityId> {
        let open = self.open.keys().map(|(_, entity)| *entity);
        let mut entities: Vec<_> = self.spells.keys().copied().chain(open).collect();
        entities.sort_unstable();
        entities.dedup();
        entities
    }

    pub fn assert_all_seamless(&self) -> usize {
        self.entities()
            .into_iter()
            .map(|entity| self.assert_seamless(entity))
            .sum()
    }
}

/// Who simulated what since the world began, in which the audit finds no fault. Of a world whose audit nobody has taken yet.
pub fn audited(world: &TestWorld) -> Owners {
    let (mut auditor, mut owners) = (Auditor::new(TickRate::default()), Owners::default());
    for line in world.audit.take() {
        auditor.feed(&line);
        owners.take_in(&line);
    }
    let faults: Vec<String> = auditor.faults().map(ToString::to_string).collect();
    assert!(faults.is_empty(), "{faults:?}");
    owners
}

/// How often services were told since they last read that an entity died.
pub fn deaths_of(events: &mut dyn EventReader, entity: WorldEntityId) -> usize {
    let told = std::iter::from_fn(|| events.try_next()).map(|(_, event)| event.what);
    told.filter(|what| matches!(what, Happening::Died { entity: died, .. } if *died == entity))
        .count()
}

/// Zone, id and place of every entity that some zone owns, by whether it is a player.
pub fn owned(world: &mut TestWorld, players: bool) -> Vec<(u16, WorldEntityId, Vec3)> {
    let zones = world.zones.iter_mut().flat_map(|zone| {
        let id = zone.id().0;
        let world = zone.app_mut().world_mut();
        let mut entities = world.query_filtered::<(&Identity, &Pose), Without<Ghost>>();
        let found: Vec<_> = entities
            .iter(world)
            .filter(|(identity, _)| identity.player.is_some() == players)
            .map(|(identity, pose)| (id, identity.entity, pose.position))
            .collect();
        found
    });
    let mut found: Vec<_> = zones.collect();
    found.sort_by_key(|(_, entity, _)| *entity);
    found
}

pub fn own_entity(world: &mut TestWorld, client: usize) -> Entity {
    let world = world.clients[client].world_mut();
    let mut own = world.query_filtered::<Entity, With<OwnPlayer>>();
    own.single(world).expect("in the world")
}

pub fn own_place(world: &mut TestWorld, client: usize) -> Vec3 {
    world.clients[client].own_pose().expect("in the world").position
}

/// Zone and epoch that a client was told of its own player last, and how often they have changed.
pub fn told_owner(world: &mut TestWorld, client: usize) -> (Option<(u16, u64)>, u64) {
    let connector = world.clients[client].world_mut().resource::<Connector>();
    let owner = connector.owner_zone.map(|owner| (owner.zone.0, owner.epoch.0));
    (owner, connector.owner_changes)
}

/// Walks a client in x until it has come to a place.
pub fn walk_to_x(world: &mut TestWorld, client: usize, x: f32) {
    let towards = (x - own_place(world, client).x).signum();
    world.walk(client, towards, 0.0, false);
    world.run_until(Duration::from_secs(20), "it is there", |world| {
        (own_place(world, client).x - x) * towards >= 0.0
    });
    world.walk(client, 0.0, 0.0, false);
    world.run(Duration::from_millis(500));
}

/// Where `seen_by` has the entity of a player.
pub fn position_of(world: &mut TestWorld, seen_by: usize, player: u64) -> Option<Vec3> {
    let world = world.clients[seen_by].world_mut();
    let mut players = world.query::<(&Identity, &Pose)>();
    let found = players
        .iter(world)
        .find(|(identity, _)| identity.player == Some(PlayerId(player)));
    found.map(|(_, pose)| pose.position)
}
