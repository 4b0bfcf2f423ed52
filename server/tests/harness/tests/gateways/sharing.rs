//! Gateways share a world: each has its own players and shows everybody.

use std::time::Duration;

use meridian_client_net::ConnectionState;
use meridian_harness::{TestOptions, TestWorld};
use meridian_ids::PlayerId;
use meridian_zone::PLAYER_GRACE;

use crate::support::{connector, join_at, own_entity, own_place, players, seen, two_gateways, walk_to_x};

#[test]
fn two_gateways_see_the_same_world_and_each_others_players() {
    let mut world = TestWorld::new(two_gateways());
    join_at(&mut world, &[0, 1, 1]);
    walk_to_x(&mut world, 0, 8.0);
    walk_to_x(&mut world, 2, 4.0);
    // Longer than anything is repeated that one gateway might say of the other's players.
    world.run(Duration::from_secs(5));
    assert!(world.all_playing(), "{:?}", world.states());
    assert_eq!(players(&mut world).len(), 3);
    for client in 0..3 {
        let own = own_place(&mut world, client);
        for seen_by in (0..3).filter(|other| *other != client) {
            assert_eq!(
                seen(&mut world, seen_by, 100 + client as u64),
                Some((own, false)),
                "{seen_by}"
            );
        }
        assert_eq!(connector(&mut world, client).respawns, 0);
    }
}

#[test]
fn a_gateways_leave_of_a_player_that_moved_to_another_changes_nothing() {
    let mut world = TestWorld::new(TestOptions {
        reconnects: false,
        ..two_gateways()
    });
    join_at(&mut world, &[0]);
    walk_to_x(&mut world, 0, 5.0);
    let before = players(&mut world);
    // The same player at the other gateway, while its client at the first one goes on sending inputs, and then vanishes.
    let moved = world.rejoin_at(1, 0);
    world.run_until(Duration::from_secs(5), "it is in", |world| {
        world.clients[moved].own_pose().is_some()
    });
    let own = own_entity(&mut world, moved);
    world.run(Duration::from_secs(1));
    world.clients.remove(0);
    // The first gateway notices after its timeout, and says so again and again.
    world.run(Duration::from_secs(10));
    assert_eq!(players(&mut world), before);
    assert_eq!(*world.clients[0].state(), ConnectionState::Playing);
    assert_eq!(own_entity(&mut world, 0), own, "it never left the client's world");
    // And over the border, where the next zone has to learn whose player it is.
    walk_to_x(&mut world, 0, -5.0);
    world.run(Duration::from_secs(3));
    assert_eq!(players(&mut world).len(), 1);
    // Its own gateway's leave counts as ever.
    world.clients.clear();
    world.run_until(Duration::from_secs(6), "it has left", |world| players(world).is_empty());
}

#[test]
fn a_player_that_comes_back_to_its_entity_is_welcomed_at_once() {
    let mut world = TestWorld::new(two_gateways());
    join_at(&mut world, &[0]);
    let again = world.rejoin_at(1, 0);
    // A tenth of a second for the handshake, which asks so often, and a few ticks.
    world.run_until(Duration::from_millis(200), "it is in", |world| {
        world.clients[again].own_pose().is_some()
    });
    assert_eq!(players(&mut world).len(), 1);
}

#[test]
fn without_a_gateway_a_player_stands_still_for_half_a_minute_and_is_gone_after_it() {
    // With somebody in sight, and alone in a zone that would rest otherwise.
    for watched_from in [-3.0, 60.0] {
        let mut world = TestWorld::new(TestOptions {
            reconnects: false,
            ..two_gateways()
        });
        join_at(&mut world, &[0, 1]);
        walk_to_x(&mut world, 1, watched_from);
        world.walk(0, 0.0, 1.0, false);
        world.run(Duration::from_secs(1));
        world.kill_gateway(0);
        world.run(Duration::from_secs(1));
        let stands = players(&mut world)[0].2;
        world.run(PLAYER_GRACE - Duration::from_secs(2));
        let players_before = players(&mut world);
        assert_eq!((players_before.len(), players_before[0].2), (2, stands));
        assert_eq!(seen(&mut world, 1, 100), Some((stands, false)));
        world.run(Duration::from_secs(2));
        let left = players(&mut world);
        assert_eq!((left.len(), left[0].0), (1, PlayerId(101)));
        assert_eq!(seen(&mut world, 1, 100), None);
    }
}

#[test]
fn a_player_that_is_handed_over_without_a_gateway_is_retired_by_its_new_zone() {
    let mut world = TestWorld::new(TestOptions {
        reconnects: false,
        ..two_gateways()
    });
    join_at(&mut world, &[0]);
    world.walk(0, 1.0, 0.0, false);
    world.run_until(Duration::from_secs(5), "it is at the border", |world| {
        own_place(world, 0).x > -0.5
    });
    // Its walk is repeated for half a second: over the border.
    world.kill_gateway(0);
    world.run(Duration::from_secs(2));
    let walked = players(&mut world);
    assert!(walked[0].2.x > 0.5, "{walked:?}");
    world.run(PLAYER_GRACE - Duration::from_secs(4));
    assert_eq!(players(&mut world), walked);
    world.run(Duration::from_secs(4));
    assert_eq!(players(&mut world), []);
}

#[test]
fn a_leave_that_no_zone_heard_is_made_good_when_the_zone_is_back() {
    let mut world = TestWorld::new(two_gateways());
    join_at(&mut world, &[0, 1]);
    world.stalled.insert(0);
    world.clients.remove(0);
    // Longer than leaves are repeated to a zone that is there.
    world.run(Duration::from_secs(60));
    world.stalled.clear();
    world.run_until(Duration::from_secs(5), "the zone has heard of it", |world| {
        players(world).len() == 1
    });
    assert_eq!(players(&mut world)[0].0, PlayerId(101));
}
