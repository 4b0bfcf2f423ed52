//! Borders, in virtual time: who walks, jumps, falls, is pushed, dies or disconnects across one has one owner at any time.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bevy::ecs::entity::Entity;
use bevy::ecs::query::{With, Without};
use bevy::math::Vec3;
use lightyear::prelude::Controlled;
use meridian_bus::{Bus, Heard, Ticket};
use meridian_client_net::{CorrectionStats, OwnPlayer};
use meridian_game::movement::MovementState;
use meridian_game::{Ghost, Identity, Pose};
use meridian_handoff::script::{Command, Done, Refusal};
use meridian_harness::{TestOptions, TestWorld};
use meridian_ids::{PlayerId, Tick, TickRate, WorldEntityId, ZoneId};
use meridian_link::LinkConditions;
use meridian_loadgen::audit::Auditor;

/// A wide floor, cut at x = 0; players start in the west, 6 m from the border.
const TWO: &str = r#"
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

fn two() -> TestOptions {
    with(TWO.to_owned())
}

fn with(world: String) -> TestOptions {
    TestOptions {
        world,
        ..TestOptions::default()
    }
}

fn with_crates(crates: &str) -> TestOptions {
    with(format!(
        "{TWO}[[crates]]\nsize = [1.0, 1.0, 1.0]\nmass_kg = 20.0\n{crates}\n"
    ))
}

/// A link as between two continents on a bad day: 100 ms round trip, 10 ms jitter, 2 % loss.
fn bad_link() -> LinkConditions {
    LinkConditions {
        delay: Duration::from_millis(50),
        jitter: Duration::from_millis(10),
        loss: 0.02,
    }
}

/// Who simulated what in which ticks, from what zones said themselves.
#[derive(Default)]
struct Owners {
    open: HashMap<(ZoneId, WorldEntityId), Tick>,
    /// Zone, first and last tick of each spell that has ended, per entity.
    spells: BTreeMap<WorldEntityId, Vec<(ZoneId, Tick, Tick)>>,
    newest: Tick,
}

impl Owners {
    fn of(world: &TestWorld) -> Self {
        let mut owners = Self::default();
        owners.hear(world);
        owners
    }

    fn hear(&mut self, world: &TestWorld) {
        for line in world.audit.take() {
            self.newest = self.newest.max(line.tick);
            for ended in &line.ended {
                // What began and ended between two lines is in one line, its end first.
                if let Some(from) = self.open.remove(&(line.zone, ended.entity)) {
                    self.spells
                        .entry(ended.entity)
                        .or_default()
                        .push((line.zone, from, ended.through));
                }
            }
            if line.whole {
                self.open.retain(|(zone, _), _| *zone != line.zone);
            }
            for began in &line.began {
                self.open.insert((line.zone, began.entity), began.from);
            }
        }
    }

    fn spells_of(&self, entity: WorldEntityId) -> Vec<(ZoneId, Tick, Tick)> {
        let mut spells = self.spells.get(&entity).cloned().unwrap_or_default();
        let open = self.open.iter().filter(|((_, open), _)| *open == entity);
        spells.extend(open.map(|((zone, _), from)| (*zone, *from, self.newest)));
        // A spell in which no tick was simulated is none.
        spells.retain(|(_, from, through)| from <= through);
        spells.sort_by_key(|(_, from, _)| *from);
        spells
    }

    /// Asserts that each tick of an entity was simulated once: spells follow one another without overlap and without a gap.
    fn assert_seamless(&self, entity: WorldEntityId) -> usize {
        let spells = self.spells_of(entity);
        for pair in spells.windows(2) {
            assert_eq!(pair[0].2.next(), pair[1].1, "{entity}: {spells:?}");
        }
        spells.windows(2).filter(|pair| pair[0].0 != pair[1].0).count()
    }

    fn entities(&self) -> Vec<WorldEntityId> {
        let open = self.open.keys().map(|(_, entity)| *entity);
        let mut entities: Vec<_> = self.spells.keys().copied().chain(open).collect();
        entities.sort_unstable();
        entities.dedup();
        entities
    }

    fn assert_all_seamless(&self) -> usize {
        self.entities()
            .into_iter()
            .map(|entity| self.assert_seamless(entity))
            .sum()
    }
}

/// Zone, id and place of every entity that some zone owns, by whether it is a player.
fn owned(world: &mut TestWorld, players: bool) -> Vec<(u16, WorldEntityId, Vec3)> {
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

fn own_entity(world: &mut TestWorld, client: usize) -> Entity {
    let world = world.clients[client].world_mut();
    let mut own = world.query_filtered::<Entity, With<OwnPlayer>>();
    own.single(world).expect("in the world")
}

fn own_place(world: &mut TestWorld, client: usize) -> Vec3 {
    world.clients[client].own_pose().expect("in the world").position
}

/// Walks a client in x until it has come to a place.
fn walk_to_x(world: &mut TestWorld, client: usize, x: f32) {
    let towards = (x - own_place(world, client).x).signum();
    world.walk(client, towards, 0.0, false);
    world.run_until(Duration::from_secs(20), "it is there", |world| {
        (own_place(world, client).x - x) * towards >= 0.0
    });
    world.walk(client, 0.0, 0.0, false);
    world.run(Duration::from_millis(500));
}

#[test]
fn a_player_walks_over_a_border_and_nobody_sees_it() {
    let mut world = TestWorld::new(two());
    world.join_all(2);
    walk_to_x(&mut world, 1, -15.0);
    *world.clients[0].world_mut().resource_mut::<CorrectionStats>() = CorrectionStats::default();
    let own = own_entity(&mut world, 0);
    let mut owners = Owners::of(&world);
    for x in [8.0, -8.0, 8.0] {
        walk_to_x(&mut world, 0, x);
    }
    owners.hear(&world);
    let players = owned(&mut world, true);
    let zones: Vec<u16> = players.iter().map(|(zone, ..)| *zone).collect();
    assert_eq!(zones, [1, 0], "one is in the east, one in the west, each once");
    assert_eq!(owners.assert_all_seamless(), 3);
    assert_eq!(own_entity(&mut world, 0), own, "the same entity in the client's world");
    let stats = world.clients[0].world_mut().resource::<CorrectionStats>();
    assert!(stats.compared > 100);
    assert_eq!(stats.corrections, 0, "{:?}", stats.distances_m);
}

#[test]
fn over_a_bad_link_a_border_corrects_by_less_than_five_centimetres() {
    for seed in 1..=5 {
        let mut world = TestWorld::new(TestOptions {
            conditions: bad_link(),
            seed,
            ..two()
        });
        world.join_all(1);
        world.run(Duration::from_secs(3));
        let own = own_entity(&mut world, 0);
        for x in [8.0, -8.0, 8.0, -8.0] {
            walk_to_x(&mut world, 0, x);
        }
        let owners = Owners::of(&world);
        assert_eq!(owners.assert_all_seamless(), 4);
        assert_eq!(own_entity(&mut world, 0), own);
        let stats = world.clients[0].world_mut().resource::<CorrectionStats>();
        let worst = stats.distances_m.iter().copied().fold(0.0, f32::max);
        assert!(worst <= 0.05, "seed {seed}: {:?}", stats.distances_m);
    }
}

#[test]
fn on_the_corner_of_four_zones_each_hands_over_to_the_next() {
    let mut world = TestWorld::new(TestOptions::default());
    world.join_all(1);
    // Around the corner, at a distance from it that the hysteresis does not swallow.
    let corners = [(3.0, 3.0), (3.0, -3.0), (-3.0, -3.0), (-3.0, 3.0)];
    for (x, z) in corners.into_iter().cycle().take(9) {
        let towards = |world: &mut TestWorld| Vec3::new(x, 0.0, z) - own_place(world, 0).with_y(0.0);
        world.run_until(Duration::from_secs(20), "the corner is reached", |world| {
            let way = towards(world);
            world.walk(0, way.normalize_or_zero().x, way.normalize_or_zero().z, false);
            way.length() < 0.5
        });
    }
    world.walk(0, 0.0, 0.0, false);
    world.run(Duration::from_secs(1));
    let owners = Owners::of(&world);
    assert!(owners.assert_all_seamless() >= 7);
    assert_eq!(owned(&mut world, true).len(), 1);
}

#[test]
fn players_of_two_zones_see_and_bump_into_each_other() {
    let mut world = TestWorld::new(two());
    world.join_all(2);
    walk_to_x(&mut world, 0, 3.0);
    walk_to_x(&mut world, 1, -1.0);
    let before = own_place(&mut world, 0);
    // West walks into east, who stands behind the border.
    for _ in 0..40 {
        let way = (before - own_place(&mut world, 1)).normalize_or_zero();
        world.walk(1, way.x, way.z, false);
        world.run_ticks(1);
    }
    world.walk(1, 0.0, 0.0, false);
    world.run(Duration::from_secs(1));
    let pushed = own_place(&mut world, 0);
    assert!(
        pushed.distance(before) > 0.05,
        "{before} was pushed to {pushed} by {}",
        own_place(&mut world, 1)
    );
    let apart = own_place(&mut world, 1).distance(pushed);
    assert!(apart > 0.7, "{apart} m apart");
    let seen = position_of(&mut world, 1, 100);
    assert_eq!(seen, Some(pushed));
}

fn position_of(world: &mut TestWorld, seen_by: usize, player: u64) -> Option<Vec3> {
    let world = world.clients[seen_by].world_mut();
    let mut players = world.query::<(&Identity, &Pose)>();
    let found = players
        .iter(world)
        .find(|(identity, _)| identity.player == Some(PlayerId(player)));
    found.map(|(_, pose)| pose.position)
}

#[test]
fn a_crate_is_pushed_over_the_border_and_changes_its_owner_once() {
    let mut world = TestWorld::new(with_crates("first = [-3.0, 0.5, 0.0]"));
    world.join_all(1);
    world.run(Duration::from_secs(1));
    let before = owned(&mut world, false);
    assert_eq!((before.len(), before[0].0), (1, 0));
    world.walk(0, 1.0, 0.0, false);
    world.run(Duration::from_secs(3));
    world.walk(0, 0.0, 0.0, false);
    world.run(Duration::from_secs(1));
    let after = owned(&mut world, false);
    assert_eq!((after.len(), after[0].0, after[0].1), (1, 1, before[0].1));
    assert!(after[0].2.x > 1.0, "{after:?}");
    assert!((after[0].2.y - 0.5).abs() < 0.05, "it stands on the floor: {after:?}");
    let owners = Owners::of(&world);
    assert_eq!(owners.assert_seamless(before[0].1), 1);
    owners.assert_all_seamless();
}

#[test]
fn a_player_pushes_the_crate_of_its_neighbour_away_from_the_border() {
    // The crate stands in the east, and only its ghost in the west, whose player reaches over the border.
    let mut world = TestWorld::new(with_crates("first = [0.75, 0.5, 0.0]"));
    world.join_all(1);
    world.run(Duration::from_secs(1));
    world.walk(0, 1.0, 0.0, false);
    world.run_until(Duration::from_secs(5), "the crate moves", |world| {
        owned(world, false)[0].2.x > 1.0
    });
    let (players, crates) = (owned(&mut world, true), owned(&mut world, false));
    assert_eq!((players[0].0, crates[0].0), (0, 1), "{players:?} {crates:?}");
}

#[test]
fn tied_crates_cross_together_though_one_of_them_still_stands_in_the_old_zone() {
    let mut world = TestWorld::new(with_crates(
        "first = [-3.6, 0.5, 0.0]\ncount = [2, 1]\nspacing_m = 1.6\ntied = true",
    ));
    world.join_all(1);
    world.run(Duration::from_secs(1));
    let before = owned(&mut world, false);
    assert_eq!(before.iter().map(|(zone, ..)| *zone).collect::<Vec<_>>(), [0, 0]);
    world.walk(0, 1.0, 0.0, false);
    let mut zones_seen = std::collections::BTreeSet::new();
    world.run_until(Duration::from_secs(10), "both are in the east", |world| {
        let crates = owned(world, false);
        zones_seen.extend(
            crates
                .iter()
                .map(|(zone, ..)| *zone)
                .collect::<Vec<_>>()
                .chunks(2)
                .map(<[u16]>::to_vec),
        );
        crates.len() == 2 && crates.iter().all(|(zone, ..)| *zone == 1)
    });
    assert!(
        !zones_seen.contains(&vec![0, 1]) && !zones_seen.contains(&vec![1, 0]),
        "{zones_seen:?}"
    );
    // It crossed when the elder was beyond the border; the link still holds there.
    world.run(Duration::from_secs(2));
    world.walk(0, 0.0, 0.0, false);
    world.run(Duration::from_secs(2));
    let after = owned(&mut world, false);
    let apart = after[0].2.distance(after[1].2);
    assert!((apart - 1.6).abs() < 0.1, "{apart} m apart: {after:?}");
    let owners = Owners::of(&world);
    for (_, entity, _) in after {
        assert_eq!(owners.assert_seamless(entity), 1);
    }
}

#[test]
fn who_goes_to_and_fro_over_a_border_changes_hands_five_times_a_second_at_most() {
    let mut world = TestWorld::new(two());
    world.join_all(1);
    walk_to_x(&mut world, 0, 0.0);
    let mut owners = Owners::of(&world);
    // Fifteen times a second no walker gets from one side to the other: it is put there.
    for swing in 0..150 {
        let x = if swing % 2 == 0 { 1.0 } else { -1.0 };
        for zone in &mut world.zones {
            let world = zone.app_mut().world_mut();
            let mut players = world.query::<&mut MovementState>();
            players.iter_mut(world).for_each(|mut player| player.position.x = x);
        }
        world.run_ticks(4);
    }
    owners.hear(&world);
    let entity = owned(&mut world, true)[0].1;
    let handoffs = owners.assert_seamless(entity);
    let spells = owners.spells_of(entity);
    let most = spells
        .iter()
        .map(|(_, from, _)| {
            let within = spells
                .iter()
                .filter(|(_, other, _)| (0..60).contains(&other.since(*from)));
            within.count()
        })
        .max();
    assert!(most <= Some(5), "{most:?} in a second");
    // Two a second in the long run.
    assert!((18..=26).contains(&handoffs), "{handoffs} in ten seconds");
}

#[test]
fn a_stalled_zone_costs_the_others_nothing_and_its_own_come_back() {
    let mut world = TestWorld::new(two());
    world.join_all(2);
    walk_to_x(&mut world, 0, 20.0);
    world.walk(0, 0.0, 1.0, false);
    world.walk(1, 0.0, 1.0, false);
    world.run(Duration::from_secs(1));
    world.clients.iter_mut().for_each(|client| drop(client.drain_probes()));
    world.stalled.insert(0);
    for _ in 0..20 {
        world.clients[0].stamp();
        world.run(Duration::from_millis(100));
    }
    let samples = world.clients[0].drain_probes();
    let slowest = samples.iter().map(|sample| sample.echoed - sample.stamped).max();
    assert!(
        samples.len() >= 19 && slowest < Some(Duration::from_millis(50)),
        "{slowest:?} of {}",
        samples.len()
    );
    world.stalled.clear();
    world.clients[1].stamp();
    world.run(Duration::from_secs(1));
    assert!(world.all_playing());
    assert_eq!(world.clients[1].drain_probes().len(), 1);
    assert_eq!(owned(&mut world, true).len(), 2);
}

#[test]
fn a_player_at_the_border_of_a_zone_that_stands_still_walks_against_a_wall_and_gets_over_later() {
    let mut world = TestWorld::new(two());
    world.join_all(1);
    world.run(Duration::from_secs(1));
    world.stalled.insert(1);
    // Its lease ends.
    world.run(Duration::from_secs(3));
    world.walk(0, 1.0, 0.0, false);
    world.run(Duration::from_secs(4));
    let players = owned(&mut world, true);
    assert_eq!(players[0].0, 0);
    assert!((3.9..=4.1).contains(&players[0].2.x), "{players:?}");
    world.stalled.clear();
    world.run(Duration::from_secs(2));
    let players = owned(&mut world, true);
    assert_eq!((players.len(), players[0].0), (1, 1));
    assert!(players[0].2.x > 6.0, "{players:?}");
    Owners::of(&world).assert_all_seamless();
}

#[test]
fn a_zone_that_died_goes_on_from_its_records_and_its_players_with_it() {
    let mut world = TestWorld::new(with_crates("first = [-20.0, 0.5, 0.0]\ncount = [3, 1]"));
    world.join_all(2);
    walk_to_x(&mut world, 0, 10.0);
    world.walk(1, 0.0, 1.0, false);
    world.run(Duration::from_secs(1));
    let before = owned(&mut world, true);
    world.walk(1, 0.0, 0.0, false);
    world.run(Duration::from_secs(1));
    let own = own_entity(&mut world, 1);
    world.restart(0);
    world.run(Duration::from_secs(2));
    let after = owned(&mut world, true);
    assert_eq!(before.len(), after.len());
    for (old, new) in before.iter().zip(&after) {
        assert_eq!((old.0, old.1), (new.0, new.1));
    }
    assert_eq!(owned(&mut world, false).len(), 3, "crates are not made twice");
    assert!(world.all_playing());
    assert_eq!(own_entity(&mut world, 1), own, "its client never lost it");
    // It answers to its input as before.
    let start = own_place(&mut world, 1);
    world.walk(1, 0.0, 1.0, false);
    world.run(Duration::from_secs(1));
    world.walk(1, 0.0, 0.0, false);
    world.run(Duration::from_secs(1));
    let zone = owned(&mut world, true)[1].2;
    assert!(
        zone.distance(start) > 4.0,
        "{start} {zone} {}",
        own_place(&mut world, 1)
    );
    assert_eq!(zone, own_place(&mut world, 1));
}

#[test]
fn who_disconnects_in_mid_transfer_leaves_nothing_behind() {
    let mut world = TestWorld::new(two());
    world.join_all(2);
    world.walk(0, 1.0, 0.0, false);
    // The next owner does not tick while the player comes: it is on its way when its client goes.
    world.run_until(Duration::from_secs(5), "it is at the border", |world| {
        own_place(world, 0).x > -1.0
    });
    world.stalled.insert(1);
    world.run_until(Duration::from_secs(2), "it has left the west", |world| {
        owned(world, true).len() == 1
    });
    world.clients.remove(0);
    world.run(Duration::from_millis(500));
    world.stalled.clear();
    // The gateway notices after its timeout, and tells whoever has the entity by then.
    world.run_until(Duration::from_secs(20), "the entity is gone", |world| {
        owned(world, true).len() == 1
    });
    world.run(Duration::from_secs(3));
    assert_eq!(owned(&mut world, true).len(), 1);
}

#[test]
fn what_a_client_leaves_behind_in_a_zone_that_stands_still_is_nobody_elses() {
    let mut world = TestWorld::new(two());
    world.join_all(2);
    let own = own_entity(&mut world, 1);
    world.stalled.insert(0);
    world.clients.remove(0);
    // Longer than the gateway's timeout: the link is gone, and the zone has not heard of it.
    world.run(Duration::from_secs(8));
    let client = world.clients[0].world_mut();
    let mut controlled = client.query_filtered::<Entity, With<Controlled>>();
    assert_eq!(controlled.iter(client).collect::<Vec<_>>(), [own]);
    world.stalled.clear();
    world.run_until(Duration::from_secs(5), "the zone has heard of it", |world| {
        owned(world, true).len() == 1
    });
}

#[test]
fn who_falls_or_is_nowhere_dies_once_and_starts_again_where_it_should() {
    let mut world = TestWorld::new(two());
    world.join_all(1);
    walk_to_x(&mut world, 0, 5.0);
    for place in [
        Vec3::new(5.0, -30.0, 0.0),
        Vec3::NAN,
        Vec3::new(f32::INFINITY, 1.0, 0.0),
    ] {
        let zone = world.zone_at(5.0, 0.0).app_mut().world_mut();
        let mut players = zone.query::<&mut MovementState>();
        for mut player in players.iter_mut(zone) {
            player.position = place;
        }
        world.run(Duration::from_secs(2));
        let players = owned(&mut world, true);
        assert_eq!((players.len(), players[0].0), (1, 0), "after {place}: {players:?}");
        assert!(players[0].2.distance(Vec3::new(-6.0, 0.9, 0.0)) < 1.0, "{players:?}");
        walk_to_x(&mut world, 0, 5.0);
    }
    Owners::of(&world).assert_all_seamless();
}

/// A durable side that lies: what it answers to a transfer is not what it did.
struct Lying {
    inner: Box<dyn Bus>,
    /// How many transfers it still lies about.
    answer: Option<(Ticket, Result<Done, Refusal>)>,
    doubles: bool,
}

impl Bus for Lying {
    fn submit(&mut self, command: Command) -> Ticket {
        match command {
            // Told as not done, though it was: the sender goes on, and so does the receiver.
            Command::Transfer(transfer) if self.doubles => {
                let ticket = self.inner.submit(Command::Transfer(transfer));
                self.answer = Some((ticket, Ok(Done::Kept)));
                ticket
            }
            // Told as done, though nothing was: neither of them goes on.
            Command::Transfer(transfer) => {
                let from = transfer.id.from;
                let ticket = self.inner.submit(Command::Checkpoint {
                    by: from,
                    records: Vec::new(),
                });
                self.answer = Some((ticket, Ok(Done::Transferred)));
                ticket
            }
            other => self.inner.submit(other),
        }
    }

    fn try_receive(&mut self) -> Option<Heard> {
        let heard = self.inner.try_receive()?;
        let lie = match &heard {
            Heard::Answer(ticket, _) => self.answer.take_if(|(lied, _)| lied == ticket),
            Heard::Inbox(_) => None,
        };
        Some(lie.map_or(heard, |(ticket, answer)| Heard::Answer(ticket, Some(answer))))
    }
}

fn lying(doubles: bool) -> TestOptions {
    TestOptions {
        bus: Arc::new(move |_, inner| {
            Box::new(Lying {
                inner,
                answer: None,
                doubles,
            })
        }),
        ..two()
    }
}

#[test]
fn a_planted_duplicate_and_a_planted_loss_are_caught_by_the_audit() {
    for doubles in [true, false] {
        let mut world = TestWorld::new(lying(doubles));
        world.join_all(1);
        world.walk(0, 1.0, 0.0, false);
        world.run(Duration::from_secs(3));
        let players = owned(&mut world, true);
        assert_eq!(players.len(), if doubles { 2 } else { 0 }, "{players:?}");
        let entity = WorldEntityId(1 << 32 | 1);
        let mut auditor = Auditor::new(TickRate::default());
        world.run(Duration::from_secs(3));
        world.audit.take().iter().for_each(|line| {
            auditor.feed(line);
        });
        let findings = auditor.drain_findings();
        let fault = findings.iter().find(|finding| finding.is_fault()).expect("a fault");
        assert_eq!(fault.entity(), entity, "{fault}");
        let told = fault.to_string();
        let expected = if doubles { ["z0", "z1"] } else { ["z0", "lost"] };
        assert!(expected.iter().all(|word| told.contains(word)), "{told}");
        let counts = auditor.summary();
        assert_eq!((counts.duplicated, counts.lost), if doubles { (1, 0) } else { (0, 1) });
    }
}
