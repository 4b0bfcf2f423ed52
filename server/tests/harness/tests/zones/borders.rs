//! Players and crates cross, and nobody sees it.

use std::time::Duration;

use bevy::math::Vec3;
use meridian_bus::POSITIONS_MAX;
use meridian_client_net::CorrectionStats;
use meridian_events::Happening;
use meridian_game::movement::MovementState;
use meridian_harness::{TestOptions, TestWorld};
use meridian_ids::{EntityEpoch, PlayerId, ZoneId};
use meridian_link::LinkConditions;

use crate::support::{
    Owners, bad_link, own_entity, own_place, owned, position_of, told_owner, two, walk_to_x, with_crates,
};

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
        // Where the player turns back, far from the border, an input that was late is corrected by a tick's walk.
        let corrections = world.clients[0].drain_corrections();
        let at_border = corrections
            .iter()
            .filter(|correction| correction.position.x.abs() < 4.0);
        let worst = at_border.map(|correction| correction.distance_m).fold(0.0, f32::max);
        assert!(worst <= 0.05, "seed {seed}: {corrections:?}");
    }
}

#[test]
fn a_client_is_told_which_zone_owns_its_player_and_again_at_each_handoff() {
    for conditions in [LinkConditions::default(), bad_link()] {
        let mut world = TestWorld::new(TestOptions { conditions, ..two() });
        world.join_all(2);
        // Out of the other's way.
        walk_to_x(&mut world, 1, -15.0);
        assert_told(&mut world, 0, (0, 1), 0);
        for (x, owner, changes) in [(8.0, (1, 2), 1), (-8.0, (0, 3), 2), (8.0, (1, 4), 3)] {
            walk_to_x(&mut world, 0, x);
            assert_told(&mut world, 0, owner, changes);
        }
        assert_told(&mut world, 1, (0, 1), 0);
    }
}

#[test]
fn who_comes_back_to_his_entity_is_told_which_zone_has_it_by_now() {
    let mut world = TestWorld::new(two());
    world.join_all(1);
    walk_to_x(&mut world, 0, 8.0);
    let again = world.rejoin(0);
    assert_told(&mut world, again, (1, 2), 0);
}

/// Asserts that a client hears of an owner of its player, by zone and epoch, after so many others.
fn assert_told(world: &mut TestWorld, client: usize, owner: (u16, u64), changes: u64) {
    let limit = Duration::from_secs(5);
    world.run_until(limit, "it is told", |world| told_owner(world, client).0 == Some(owner));
    assert_eq!(told_owner(world, client).1, changes);
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
fn services_hear_who_came_went_and_changed_zones_and_followers_where_everybody_is() {
    let mut world = TestWorld::new(two());
    let mut events = world.bus.events("test");
    world.join_all(1);
    let mut east = world.bus.positions(ZoneId(1));
    walk_to_x(&mut world, 0, 5.0);
    let entity = owned(&mut world, true)[0].1;
    world.clients.clear();
    world.run_until(Duration::from_secs(20), "it is gone", |world| {
        owned(world, true).is_empty()
    });
    world.run(Duration::from_millis(100));
    let told = std::iter::from_fn(|| events.try_next()).map(|(_, event)| (event.zone, event.what));
    let expected = [
        (
            ZoneId(0),
            Happening::Joined {
                player: PlayerId(100),
                entity,
            },
        ),
        (
            ZoneId(0),
            Happening::HandedOff {
                entity,
                epoch: EntityEpoch(2),
                to: ZoneId(1),
            },
        ),
        (ZoneId(1), Happening::Left { entity }),
    ];
    assert_eq!(told.collect::<Vec<_>>(), expected);
    let followed: Vec<_> = std::iter::from_fn(|| east.try_next()).collect();
    assert!(
        followed.len() <= POSITIONS_MAX && followed.len() > 10,
        "{}",
        followed.len()
    );
    let places = followed.iter().flat_map(|positions| &positions.entities);
    assert!(
        places
            .clone()
            .any(|place| place.entity == entity && place.position[0] > 4.0)
    );
}
