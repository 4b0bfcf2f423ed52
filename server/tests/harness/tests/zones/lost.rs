//! What falls, is nowhere or stands at the world's edge: it comes back or goes on, and one zone has it.

use std::time::Duration;

use bevy::ecs::entity::Entity;
use bevy::math::Vec3;
use meridian_game::demo::CrateMotion;
use meridian_game::movement::MovementState;
use meridian_game::{EntityHooks, Identity, WireComponent, WireReader};
use meridian_harness::TestWorld;
use meridian_ids::WorldEntityId;

use crate::support::{TWO, audited, deaths_of, own_place, owned, two, walk_to_x, with, with_crates};

const FLOOR: &str = "centre = [0.0, -1.0, 0.0]\nsize = [400.0, 2.0, 400.0]";
const KILL: &str = "kill_below_m = -20.0";
const SPAWN: &str = "centre = [-6.0, 0.0, 0.0]";
/// Where the crate of a world with one crate begins, in metres.
const HOME: Vec3 = Vec3::new(-3.0, 0.5, 0.0);

/// The world of two zones, with something else in the place of some of its lines.
fn two_with(changes: &[(&str, &str)]) -> String {
    changes.iter().fold(TWO.to_owned(), |world, (known, new)| {
        assert!(world.contains(known), "{known} is not in {world}");
        world.replace(known, new)
    })
}

#[test]
fn who_falls_in_mid_transfer_dies_once_and_starts_again() {
    // After a deep fall it dies where it arrived; a short one is over while nobody simulates it.
    for kill in [KILL, "kill_below_m = -2.0"] {
        // The floor ends at the border.
        let floor = "centre = [-100.0, -1.0, 0.0]\nsize = [200.0, 2.0, 400.0]";
        let mut world = TestWorld::new(with(two_with(&[(FLOOR, floor), (KILL, kill)])));
        let mut events = world.bus.events("test");
        world.join_all(1);
        let entity = owned(&mut world, true)[0].1;
        world.walk(0, 1.0, 0.0, false);
        world.run_until(Duration::from_secs(5), "it is at the border", |world| {
            own_place(world, 0).x > -1.0
        });
        world.stalled.insert(1);
        world.run_until(Duration::from_secs(2), "it has left the west", |world| {
            owned(world, true).is_empty()
        });
        world.walk(0, 0.0, 0.0, false);
        world.run(Duration::from_millis(700));
        assert_eq!(deaths_of(&mut *events, entity), 0, "with {kill}");
        world.stalled.clear();
        world.run(Duration::from_secs(4));
        let players = owned(&mut world, true);
        assert_eq!(
            (players.len(), players[0].0, players[0].1),
            (1, 0, entity),
            "with {kill}: {players:?}"
        );
        let apart = players[0].2.distance(Vec3::new(-6.0, 0.9, 0.0));
        assert!(apart < 1.0, "with {kill}: {players:?}");
        assert_eq!(deaths_of(&mut *events, entity), 1, "with {kill}");
        assert_eq!(audited(&world).assert_seamless(entity), 2, "there and back");
        assert!(world.all_playing());
    }
}

/// The motion of a crate that stands upright, made from the bytes that a record has of it.
fn motion(position: [f32; 3], velocity: [f32; 3], spin: [f32; 3]) -> CrateMotion {
    let rotation = [0.0, 0.0, 0.0, 1.0];
    let parts = [&position[..], &rotation[..], &velocity[..], &spin[..]].concat();
    let bytes: Vec<u8> = parts.iter().flat_map(|part| part.to_le_bytes()).collect();
    CrateMotion::decode(&mut WireReader::new(&bytes)).expect("a motion")
}

/// Has a crate of the west move otherwise.
fn set_motion(world: &mut TestWorld, id: WorldEntityId, motion: CrateMotion) {
    let zone = world.zone_at(HOME.x, HOME.z).app_mut().world_mut();
    let mut crates = zone.query::<(Entity, &Identity)>();
    let found = crates.iter(zone).find(|(_, identity)| identity.entity == id);
    let entity = found.map(|(entity, _)| entity).expect("a crate of the west");
    zone.entity_mut(entity).insert(motion);
    let hooks = *zone.resource::<EntityHooks>();
    (hooks.embody)(zone, entity);
}

#[test]
fn a_crate_that_the_solver_loses_comes_home_and_can_be_pushed_as_before() {
    const MOST: f32 = f32::MAX;
    let (still, beside) = ([0.0; 3], [-1.5, 0.5, 0.0]);
    let infinitely_far = motion([MOST, 0.5, 0.0], [MOST, 0.0, 0.0], still);
    let turned_by_no_number = motion(beside, still, [MOST, MOST, 0.0]);
    for lost in [infinitely_far, turned_by_no_number] {
        let mut world = TestWorld::new(with_crates("first = [-3.0, 0.5, 0.0]\ncount = [1, 2]\nspacing_m = 3.0"));
        world.join_all(1);
        world.run(Duration::from_secs(1));
        let (lease, before) = (world.zones[0].lease(), owned(&mut world, false));
        set_motion(&mut world, before[0].1, lost);
        world.run(Duration::from_secs(1));
        let after = owned(&mut world, false);
        let owners: Vec<_> = after.iter().map(|(zone, entity, _)| (*zone, *entity)).collect();
        assert_eq!(owners, [(0, before[0].1), (0, before[1].1)]);
        assert!(after[0].2.distance(HOME) < 0.05, "{lost:?}: {after:?}");
        assert!(
            after[1].2.distance(before[1].2) < 0.05,
            "the other one stays: {after:?}"
        );
        assert_eq!(world.zones[0].lease(), lease, "the zone did not start again");
        world.walk(0, 1.0, 0.0, false);
        world.run_until(Duration::from_secs(5), "it is pushed", |world| {
            owned(world, false)[0].2.x > HOME.x + 0.5
        });
        audited(&world);
    }
}

/// Whether the only crate is where it is asked for; it is nowhere in the tick between two owners.
fn is_crate_at(world: &mut TestWorld, is_there: impl Fn(Vec3) -> bool) -> bool {
    owned(world, false).first().is_some_and(|(.., place)| is_there(*place))
}

#[test]
fn a_crate_that_falls_off_the_world_beyond_a_border_comes_home_to_the_zone_that_it_left() {
    // The floor ends two metres behind the border.
    let floor = "centre = [-99.0, -1.0, 0.0]\nsize = [202.0, 2.0, 400.0]";
    let file = two_with(&[(FLOOR, floor)]);
    let crates = "[[crates]]\nfirst = [-3.0, 0.5, 0.0]\nsize = [1.0, 1.0, 1.0]\nmass_kg = 20.0\n";
    let mut world = TestWorld::new(with(format!("{file}{crates}")));
    world.join_all(1);
    world.run(Duration::from_secs(1));
    let (lease, id) = (world.zones[1].lease(), owned(&mut world, false)[0].1);
    world.walk(0, 1.0, 0.0, false);
    world.run_until(Duration::from_secs(10), "it is at the edge", |world| {
        is_crate_at(world, |place| place.x > 2.0)
    });
    world.walk(0, 0.0, 0.0, false);
    world.run_until(Duration::from_secs(5), "it falls", |world| {
        is_crate_at(world, |place| place.y < -1.0)
    });
    world.run_until(Duration::from_secs(5), "it is back", |world| {
        is_crate_at(world, |place| place.y > 0.0)
    });
    world.run(Duration::from_secs(2));
    let crates = owned(&mut world, false);
    assert_eq!((crates.len(), crates[0].0, crates[0].1), (1, 0, id), "{crates:?}");
    assert!(crates[0].2.distance(HOME) < 0.05, "{crates:?}");
    assert_eq!(audited(&world).assert_seamless(id), 2, "there and back");
    assert_eq!(world.zones[1].lease(), lease, "the zone did not start again");
}

#[test]
fn who_crosses_a_border_at_the_worlds_edge_or_beyond_it_has_one_owner() {
    // The floor goes on beyond the edges, which are 100 m from the middle.
    for z in [-102.0, -100.0, 99.5, 100.0, 102.0] {
        let mut world = TestWorld::new(two());
        world.join_all(1);
        let entity = owned(&mut world, true)[0].1;
        let west = world.zone_at(-6.0, 0.0).app_mut().world_mut();
        let mut players = west.query::<&mut MovementState>();
        players.iter_mut(west).for_each(|mut player| player.position.z = z);
        world.run(Duration::from_secs(1));
        for (x, zone) in [(5.0, 1), (-5.0, 0)] {
            walk_to_x(&mut world, 0, x);
            let players = owned(&mut world, true);
            assert_eq!((players.len(), players[0].0), (1, zone), "at z = {z}: {players:?}");
            assert!((players[0].2.z - z).abs() < 0.1, "at z = {z}: {players:?}");
        }
        assert_eq!(audited(&world).assert_seamless(entity), 2, "at z = {z}");
    }
}

#[test]
fn who_falls_off_the_world_where_a_border_meets_its_edge_dies_once_and_starts_again() {
    // The floor ends where the world does, three metres north of the spawn area and as many west of the border.
    let floor = "centre = [0.0, -1.0, 0.0]\nsize = [400.0, 2.0, 200.0]";
    let spawn = "centre = [-3.0, 0.0, -97.0]";
    let mut world = TestWorld::new(with(two_with(&[(FLOOR, floor), (SPAWN, spawn)])));
    let mut events = world.bus.events("test");
    world.join_all(1);
    let entity = owned(&mut world, true)[0].1;
    world.walk(0, 0.7, -0.7, false);
    let mut deaths = 0;
    world.run_until(Duration::from_secs(10), "it died", |_| {
        deaths += deaths_of(&mut *events, entity);
        deaths > 0
    });
    world.walk(0, 0.0, 0.0, false);
    world.run(Duration::from_secs(3));
    assert_eq!(deaths + deaths_of(&mut *events, entity), 1);
    let players = owned(&mut world, true);
    assert_eq!(
        (players.len(), players[0].0, players[0].1),
        (1, 0, entity),
        "{players:?}"
    );
    let apart = players[0].2.distance(Vec3::new(-3.0, 0.9, -97.0));
    assert!(apart < 2.0, "{players:?}");
    assert_eq!(audited(&world).assert_seamless(entity), 2, "there and back");
}
