//! A client and the end of its gateway.

use std::time::Duration;

use bevy::math::Vec3;
use meridian_client_net::{ConnectionState, SILENCE_MAX};
use meridian_harness::{TestOptions, TestWorld, gateway_address};
use meridian_ids::WorldEntityId;
use meridian_link::LinkConditions;

use crate::support::{connector, copies, join_at, own_entity, own_place, players, shown, two_gateways, walk_to_x};

/// Lets time pass by single milliseconds, and asserts that a client shows each of these entities once in every frame, each where it was or
/// on its way. Returns how many of the frames showed a copy.
fn watch(world: &mut TestWorld, client: usize, everybody: &[WorldEntityId], duration: Duration) -> usize {
    let (end, mut with_copies, mut frame) = (world.now() + duration, 0, world.clients[client].next_tick());
    while world.now() < end {
        world.run(Duration::from_millis(1));
        let next = world.clients[client].next_tick();
        // Between frames nothing is drawn.
        if std::mem::replace(&mut frame, next) == next {
            continue;
        }
        let seen = shown(world, client);
        let ids: Vec<WorldEntityId> = seen.iter().map(|(entity, ..)| *entity).collect();
        assert_eq!(ids, everybody, "client {client}: {seen:?}");
        with_copies += usize::from(seen.iter().any(|(.., is_copy)| *is_copy));
    }
    with_copies
}

/// How far the shown entities of a client are from where they were.
fn farthest(before: &[(WorldEntityId, Vec3, bool)], after: &[(WorldEntityId, Vec3, bool)]) -> f32 {
    let moved = before.iter().zip(after).map(|(a, b)| {
        assert_eq!(a.0, b.0);
        a.1.distance(b.1)
    });
    moved.fold(0.0, f32::max)
}

/// A link as between two continents on a bad day: 100 ms round trip, 10 ms jitter, 2 % loss.
fn bad_link() -> LinkConditions {
    LinkConditions {
        delay: Duration::from_millis(50),
        jitter: Duration::from_millis(10),
        loss: 0.02,
    }
}

#[test]
fn a_gateway_dies_and_its_clients_are_at_the_other_with_the_same_entity_as_if_nothing_had_been() {
    for (conditions, back_within_ms) in [(LinkConditions::default(), 800), (bad_link(), 1_500)] {
        let mut world = TestWorld::new(TestOptions {
            conditions,
            ..two_gateways()
        });
        join_at(&mut world, &[0, 0, 1]);
        walk_to_x(&mut world, 1, 6.0);
        world.run(Duration::from_secs(1));
        let (stood, before) = (players(&mut world), shown(&mut world, 0));
        let everybody: Vec<WorldEntityId> = before.iter().map(|(entity, ..)| *entity).collect();
        assert_eq!(everybody.len(), 3);
        world.kill_gateway(0);
        // All that time the world is in sight, and stands.
        let with_copies = watch(&mut world, 0, &everybody, Duration::from_millis(back_within_ms));
        assert!((1..60).contains(&with_copies), "{with_copies} frames with copies");
        for client in [0, 1] {
            let connector = connector(&mut world, client);
            assert_eq!(connector.state, ConnectionState::Playing);
            assert_eq!(connector.gateway(), Some(gateway_address(1)));
            assert_eq!(
                (connector.disconnects, connector.takeovers, connector.respawns),
                (1, 1, 0)
            );
            let entity = connector.welcome.map(|welcome| welcome.entity);
            assert_eq!(entity, Some(stood[client].1), "the same entity");
        }
        world.run(Duration::from_secs(4));
        assert_eq!(players(&mut world), stood, "nobody moved, nobody is new");
        assert_eq!((copies(&mut world, 0), copies(&mut world, 1)), (0, 0));
        assert!(farthest(&before, &shown(&mut world, 0)) < 0.01);
        // They play on, and are seen to.
        walk_to_x(&mut world, 0, 3.0);
        world.run(Duration::from_secs(1));
        let own = own_place(&mut world, 0);
        assert_eq!(players(&mut world)[0].2, own);
        assert_eq!(connector(&mut world, 2).disconnects, 0);
    }
}

#[test]
fn who_walks_when_its_gateway_dies_goes_on_where_its_zone_has_it() {
    let mut world = TestWorld::new(two_gateways());
    join_at(&mut world, &[0, 1]);
    let entity = players(&mut world)[0].1;
    world.walk(0, 0.0, 1.0, false);
    world.run(Duration::from_secs(1));
    world.kill_gateway(0);
    world.run(Duration::from_secs(1));
    assert_eq!(connector(&mut world, 0).gateway(), Some(gateway_address(1)));
    world.walk(0, 0.0, 0.0, false);
    world.run(Duration::from_secs(2));
    let (own, found) = (own_place(&mut world, 0), players(&mut world));
    assert_eq!((found[0].1, found[0].2), (entity, own));
    // The walk was repeated for half a second, and taken up again a little later.
    let corrections = world.clients[0].drain_corrections();
    let worst = corrections
        .iter()
        .map(|correction| correction.distance_m)
        .fold(0.0, f32::max);
    assert!(worst < 3.0, "{worst} m");
}

#[test]
fn a_gateway_that_stops_sends_its_clients_to_the_other_without_waiting() {
    let mut world = TestWorld::new(two_gateways());
    join_at(&mut world, &[0, 1]);
    let (before, everybody) = (players(&mut world), shown(&mut world, 0));
    let everybody: Vec<WorldEntityId> = everybody.iter().map(|(entity, ..)| *entity).collect();
    world.gateway(0).stop();
    world.kill_gateway(0);
    let with_copies = watch(&mut world, 0, &everybody, Duration::from_millis(300));
    assert!(with_copies > 0);
    let connector = connector(&mut world, 0);
    assert_eq!(connector.gateway(), Some(gateway_address(1)));
    assert_eq!((connector.disconnects, connector.takeovers), (1, 0));
    world.run(Duration::from_secs(2));
    assert_eq!(players(&mut world), before);
    assert_eq!(copies(&mut world, 0), 0);
}

#[test]
fn a_link_that_is_silent_for_700_ms_and_comes_back_costs_nothing() {
    let mut world = TestWorld::new(two_gateways());
    join_at(&mut world, &[0, 1]);
    let (before, own) = (players(&mut world), own_entity(&mut world, 0));
    for _ in 0..3 {
        world.network.set_conditions(LinkConditions {
            loss: 1.0,
            ..LinkConditions::default()
        });
        world.run(Duration::from_millis(700));
        assert!(
            connector(&mut world, 0).silent_since().is_some(),
            "another one is sought"
        );
        world.network.set_conditions(LinkConditions::default());
        for _ in 0..3_000 {
            world.run(Duration::from_millis(1));
            assert_eq!(copies(&mut world, 0), 0);
        }
        let connector = connector(&mut world, 0);
        assert_eq!((connector.disconnects, connector.silent_since()), (0, None));
        assert_eq!(connector.gateway(), Some(gateway_address(0)));
        assert_eq!(own_entity(&mut world, 0), own);
    }
    assert_eq!(players(&mut world), before);
}

#[test]
fn whom_a_client_sought_in_vain_does_not_take_its_player_away() {
    // The other gateway lets the client in, and its welcome is on the way, when the first one speaks again.
    for paused_ms in (600..1_400).step_by(100) {
        let mut world = TestWorld::new(TestOptions {
            conditions: LinkConditions {
                delay: Duration::from_millis(150),
                ..LinkConditions::default()
            },
            ..two_gateways()
        });
        join_at(&mut world, &[0, 1]);
        let before = players(&mut world);
        world.paused.insert(0);
        world.run(Duration::from_millis(paused_ms));
        world.paused.clear();
        // Longer than the other gateway needs to notice that nobody is there, and to say so.
        world.run(Duration::from_secs(7));
        assert_eq!(players(&mut world), before, "paused for {paused_ms} ms");
        let connector = connector(&mut world, 0);
        assert_eq!(connector.state, ConnectionState::Playing, "paused for {paused_ms} ms");
        assert!(connector.disconnects <= 1 && connector.takeovers == connector.disconnects);
        assert_eq!(copies(&mut world, 0), 0);
        walk_to_x(&mut world, 0, -12.0);
        assert_eq!(players(&mut world)[0].2, own_place(&mut world, 0));
    }
}

#[test]
fn where_there_is_no_other_gateway_its_client_waits_and_comes_back_to_the_next_one() {
    let mut world = TestWorld::new(TestOptions {
        gateways: 1,
        ..two_gateways()
    });
    join_at(&mut world, &[0, 0]);
    let (before, everybody) = (players(&mut world), shown(&mut world, 0));
    let everybody: Vec<WorldEntityId> = everybody.iter().map(|(entity, ..)| *entity).collect();
    world.kill_gateway(0);
    // Its link ends meanwhile; the copies stay.
    watch(&mut world, 0, &everybody, Duration::from_secs(10));
    assert!(matches!(
        connector(&mut world, 0).state,
        ConnectionState::Reconnecting { .. }
    ));
    assert_eq!(copies(&mut world, 0), 2);
    let next = world.start_gateway();
    watch(&mut world, 0, &everybody, Duration::from_secs(15));
    assert_eq!(connector(&mut world, 0).gateway(), Some(gateway_address(next)));
    assert_eq!(players(&mut world), before);
    assert_eq!(copies(&mut world, 0), 0);
}

#[test]
fn copies_go_when_nobody_comes_back_and_when_the_player_leaves() {
    let mut world = TestWorld::new(two_gateways());
    join_at(&mut world, &[0, 0, 1]);
    world.kill_gateway(0);
    world.kill_gateway(1);
    world.run(Duration::from_secs(6));
    assert_eq!((copies(&mut world, 0), copies(&mut world, 1)), (3, 3));
    world.clients[1]
        .world_mut()
        .resource_mut::<meridian_client_net::Connector>()
        .leave();
    world.run(Duration::from_millis(100));
    assert_eq!(copies(&mut world, 1), 0);
    world.run(Duration::from_secs(28));
    assert_eq!(copies(&mut world, 0), 0, "half a minute is enough");
}

#[test]
fn what_a_client_hears_when_nobody_moves_and_no_zone_ticks_is_often_enough() {
    let mut world = TestWorld::new(TestOptions {
        conditions: bad_link(),
        ..two_gateways()
    });
    join_at(&mut world, &[0, 1]);
    world.stall_all();
    let before = world.clients[0].stats().link;
    for _ in 0..60_000 {
        world.run(Duration::from_millis(1));
        assert_eq!(connector(&mut world, 0).silent_since(), None);
    }
    let heard = world.clients[0].stats().link.since(&before);
    // As many packets as keep a silence of this length out of reach of any loss that can be played with.
    assert!(
        heard.packets_in as f64 >= 60.0 / SILENCE_MAX.as_secs_f64() * 4.0,
        "{heard:?}"
    );
}
