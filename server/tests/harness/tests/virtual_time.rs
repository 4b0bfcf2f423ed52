//! Zone, gateway and clients together, in virtual time.

use std::time::Duration;

use bevy::ecs::observer::On;
use bevy::ecs::query::{With, Without};
use bevy::ecs::resource::Resource;
use bevy::ecs::system::ResMut;
use bevy::math::Vec3;
use lightyear::transport::plugin::{PacketAcked, PacketLost};
use meridian_client_net::{ConnectionState, CorrectionStats, HeadlessClient, OwnPlayer, PredictionRing, ShownPose};
use meridian_game::{Ghost, Identity, Orientation, Pose};
use meridian_harness::{TestOptions, TestWorld};
use meridian_ids::{PlayerId, Tick};
use meridian_link::LinkConditions;

/// A link as between two continents on a bad day: 100 ms round trip, 10 ms jitter, 2 % loss.
fn bad_link() -> LinkConditions {
    LinkConditions {
        delay: Duration::from_millis(50),
        jitter: Duration::from_millis(10),
        loss: 0.02,
    }
}

fn lossy() -> TestOptions {
    TestOptions {
        conditions: bad_link(),
        ..TestOptions::default()
    }
}

/// A wide floor without anything on it.
const PLAIN: &str = r#"
name = "plain"
kill_below_m = -20.0
[bounds]
min = [-1000.0, -1000.0]
max = [1000.0, 1000.0]
[spawn]
centre = [0.0, 0.0, 0.0]
radius_m = 20.0
[[scenery]]
name = "floor"
centre = [0.0, -1.0, 0.0]
size = [2000.0, 2.0, 2000.0]
"#;

fn own_position(world: &mut TestWorld, client: usize) -> Vec3 {
    world.clients[client].own_pose().expect("in the world").position
}

/// Where `seen_by` has the entity of a player.
/// Where a client's own player is shown.
fn shown_position(world: &mut TestWorld, client: usize) -> Vec3 {
    let world = world.clients[client].world_mut();
    let mut own = world.query_filtered::<&ShownPose, With<OwnPlayer>>();
    own.single(world).expect("an own player").position
}

fn position_of(world: &mut TestWorld, seen_by: usize, player: u64) -> Option<Vec3> {
    let world = world.clients[seen_by].world_mut();
    let mut players = world.query::<(&Identity, &Pose)>();
    let found = players
        .iter(world)
        .find(|(identity, _)| identity.player == Some(PlayerId(player)));
    found.map(|(_, pose)| pose.position)
}

/// Where its zone has the entity of a player.
fn true_position(world: &mut TestWorld, player: u64) -> Vec3 {
    let found = world.zones.iter_mut().find_map(|zone| {
        let world = zone.app_mut().world_mut();
        let mut players = world.query_filtered::<(&Identity, &Pose), Without<Ghost>>();
        let mut players = players.iter(world);
        players
            .find(|(identity, _)| identity.player == Some(PlayerId(player)))
            .map(|(_, pose)| pose.position)
    });
    found.expect("in the world")
}

#[test]
fn a_player_walks_jumps_and_is_seen_by_another() {
    let mut world = TestWorld::new(TestOptions {
        world: PLAIN.to_owned(),
        ..TestOptions::default()
    });
    world.join_all(2);
    let before = own_position(&mut world, 0);
    world.walk(0, 1.0, 0.0, false);
    world.run(Duration::from_secs(1));
    let after = own_position(&mut world, 0);
    assert!((5.0..6.5).contains(&(after.x - before.x)), "{before} to {after}");
    world.walk(0, 0.0, 0.0, true);
    world.run(Duration::from_millis(300));
    assert!(own_position(&mut world, 0).y > after.y + 0.5, "in the air");
    world.walk(0, 0.0, 0.0, false);
    world.run(Duration::from_secs(2));
    let own = own_position(&mut world, 0);
    assert_eq!(position_of(&mut world, 1, 100), Some(own));
    assert_eq!(true_position(&mut world, 100), own);
}

#[test]
fn on_a_clean_link_every_input_is_applied_in_its_tick_and_no_prediction_is_wrong() {
    let mut world = TestWorld::new(TestOptions {
        world: PLAIN.to_owned(),
        ..TestOptions::default()
    });
    world.join_all(1);
    world.run(Duration::from_secs(2));
    let before = world.clients[0].stats();
    let turns = [(1.0, 0.0), (0.7, 0.7), (0.0, -1.0), (-1.0, 0.3)];
    for (x, z) in turns.iter().cycle().take(20) {
        world.walk(0, *x, *z, x > &0.5);
        world.run(Duration::from_millis(250));
    }
    let client = world.clients[0].world_mut();
    let stats = client.resource::<CorrectionStats>();
    assert!(stats.compared > 250, "{stats:?}");
    assert_eq!(
        world.clients[0].stats().corrections,
        before.corrections,
        "a correction on a clean link"
    );
}

#[test]
fn a_straight_walk_over_a_bad_link_is_not_corrected_visibly() {
    let mut world = TestWorld::new(TestOptions {
        world: PLAIN.to_owned(),
        ..lossy()
    });
    world.join_all(1);
    world.walk(0, 0.6, -0.8, false);
    world.run(Duration::from_secs(5));
    world.clients[0]
        .world_mut()
        .resource_mut::<CorrectionStats>()
        .distances_m
        .clear();
    world.run(Duration::from_secs(30));
    let client = world.clients[0].world_mut();
    let stats = client.resource::<CorrectionStats>();
    let worst = stats.distances_m.iter().copied().fold(0.0, f32::max);
    assert!(
        worst <= 0.01,
        "{worst} m in {} corrections of {} states",
        stats.corrections,
        stats.compared
    );
}

#[test]
fn a_turning_walk_over_a_bad_link_ends_where_the_zone_says() {
    let mut world = TestWorld::new(lossy());
    world.join_all(3);
    for round in 0..24 {
        for client in 0..3 {
            let angle = (round * 3 + client) as f32;
            world.walk(client, angle.cos(), angle.sin(), round % 5 == 0);
        }
        world.run(Duration::from_millis(400));
    }
    (0..3).for_each(|client| world.walk(client, 0.0, 0.0, false));
    world.run(Duration::from_secs(3));
    for client in 0..3 {
        let own = own_position(&mut world, client);
        assert_eq!(true_position(&mut world, 100 + client as u64), own);
        for other in (0..3).filter(|other| *other != client) {
            assert_eq!(position_of(&mut world, other, 100 + client as u64), Some(own));
        }
    }
}

#[test]
fn a_stalled_zone_costs_its_players_a_pause_and_nothing_else() {
    let mut world = TestWorld::new(TestOptions::default());
    world.join_all(2);
    world.walk(0, 0.0, 1.0, false);
    world.run(Duration::from_secs(1));
    world.stall_all();
    world.run(Duration::from_secs(2));
    assert!(world.all_playing(), "connections outlive the stall");
    world.stalled.clear();
    world.walk(0, 0.0, 0.0, false);
    world.run(Duration::from_secs(3));
    let own = own_position(&mut world, 0);
    assert_eq!(true_position(&mut world, 100), own);
    assert_eq!(position_of(&mut world, 1, 100), Some(own));
    assert_eq!(world.clients[0].stats().disconnects, 0);
}

#[test]
fn a_world_of_a_thousand_years_of_ticks_plays_like_a_new_one() {
    let mut world = TestWorld::new(TestOptions {
        world: PLAIN.to_owned(),
        first_tick: Tick(1 << 41),
        ..TestOptions::default()
    });
    world.join_all(2);
    world.walk(0, -1.0, 0.0, false);
    let before = own_position(&mut world, 0);
    world.run(Duration::from_secs(1));
    assert!(own_position(&mut world, 0).distance(before) > 4.0);
    let last = world.clients[0]
        .world_mut()
        .resource::<PredictionRing>()
        .last_tick()
        .unwrap();
    assert!(last > Tick(1 << 41));
}

#[test]
fn who_walks_off_the_world_dies_and_respawns() {
    let mut world = TestWorld::new(TestOptions::default());
    world.join_all(1);
    // East of the plaza there is no wall.
    world.walk(0, 1.0, 0.0, false);
    world.run_until(Duration::from_secs(40), "fell", |world| own_position(world, 0).y < -5.0);
    world.walk(0, 0.0, 0.0, false);
    world.run_until(Duration::from_secs(10), "back", |world| own_position(world, 0).y > 0.0);
    assert!(own_position(&mut world, 0).x.abs() < 15.0);
}

#[test]
fn a_crate_is_pushed_and_everyone_sees_it() {
    let crate_world = format!("{PLAIN}\n[[crates]]\nfirst = [0.0, 0.5, 0.0]\nsize = [1.0, 1.0, 1.0]\nmass_kg = 20.0\n")
        .replace(
            "centre = [0.0, 0.0, 0.0]\nradius_m = 20.0",
            "centre = [-4.0, 0.0, 0.0]\nradius_m = 0.1",
        );
    let mut world = TestWorld::new(TestOptions {
        world: crate_world,
        ..TestOptions::default()
    });
    world.join_all(1);
    let crate_seen = |world: &mut TestWorld| {
        let world = world.clients[0].world_mut();
        let mut crates = world.query::<(&Identity, &Pose)>();
        crates
            .iter(world)
            .find(|(identity, _)| identity.player.is_none())
            .map(|(_, pose)| pose.position)
    };
    world.run_until(Duration::from_secs(2), "the crate is seen", |world| {
        crate_seen(world).is_some()
    });
    world.walk(0, 1.0, 0.0, false);
    world.run(Duration::from_secs(2));
    let moved = crate_seen(&mut world).unwrap();
    assert!(moved.x > 1.0, "the crate is at {moved}");
    // It slows who pushes it: a free walk would be 12 m long.
    assert!(own_position(&mut world, 0).x < 7.9);
}

#[test]
fn a_client_that_vanishes_leaves_the_world_after_its_timeout() {
    let mut world = TestWorld::new(TestOptions::default());
    world.join_all(2);
    assert!(position_of(&mut world, 0, 101).is_some());
    world.clients.pop();
    world.run_until(Duration::from_secs(10), "gone", |world| {
        position_of(world, 0, 101).is_none()
    });
    assert_eq!(*world.clients[0].state(), ConnectionState::Playing);
}

#[test]
fn others_are_interpolated_smoothly_over_a_bad_link() {
    let mut world = TestWorld::new(TestOptions {
        world: PLAIN.to_owned(),
        ..lossy()
    });
    world.join_all(2);
    world.walk(0, 1.0, 0.0, false);
    world.run(Duration::from_secs(3));
    let shown = |world: &mut TestWorld| {
        let world = world.clients[1].world_mut();
        let mut others = world.query_filtered::<(&Identity, &ShownPose), Without<OwnPlayer>>();
        let found = others
            .iter(world)
            .find(|(identity, _)| identity.player == Some(PlayerId(100)));
        found.map(|(_, pose)| pose.position.x).unwrap()
    };
    let (mut last, mut worst) = (shown(&mut world), 0.0f32);
    for _ in 0..300 {
        world.run_ticks(1);
        let now = shown(&mut world);
        worst = worst.max((now - last).abs());
        last = now;
    }
    // A walk is 0.1 m a tick; a frame may show two ticks' worth when the tick falls between frames.
    assert!(worst <= 0.35, "a jump of {worst} m in one tick");
}

#[test]
fn probes_come_back_with_where_their_time_went() {
    let mut world = TestWorld::new(TestOptions {
        world: PLAIN.to_owned(),
        ..TestOptions::default()
    });
    world.join_all(2);
    world.run(Duration::from_secs(2));
    for _ in 0..10 {
        world.clients[0].stamp();
        world.run(Duration::from_millis(200));
    }
    let samples = world.clients[0].drain_probes();
    assert_eq!(samples.len(), 10);
    let tick = world.tick_duration();
    for sample in &samples {
        // A perfect link: the slack, the tick, and the millisecond steps of the harness.
        let latency = sample.echoed - sample.stamped;
        assert!(latency <= tick, "{latency:?}");
        let terms = sample.terms.expect("the report comes with the echo");
        assert!(terms.tick_wait <= tick);
    }
    assert_eq!(world.clients[1].drain_sightings().len(), 10);
}

#[test]
fn a_client_that_floods_the_gateway_is_disconnected_and_the_others_play_on() {
    let mut world = TestWorld::new(TestOptions::default());
    world.join_all(2);
    // Ticking a hundred times as fast is the flood that a modified client makes with the least effort.
    for _ in 0..20_000 {
        flood(&mut world.clients[1]);
        if position_of(&mut world, 0, 101).is_none() {
            break;
        }
        world.run(Duration::from_millis(1));
    }
    assert!(position_of(&mut world, 0, 101).is_none(), "the flooding player is gone");
    assert_eq!(*world.clients[0].state(), ConnectionState::Playing);
}

/// Sends a tick's input message several times over.
fn flood(client: &mut HeadlessClient) {
    for _ in 0..8 {
        client.update(client.next_wake());
    }
}

#[test]
fn a_client_that_nobody_answers_asks_ten_times_a_second() {
    let mut world = TestWorld::new(TestOptions::default());
    let client = world.join("lonely");
    world.run_clients(Duration::from_secs(2));
    let asked = world.clients[client].stats().link.packets_out;
    // Every 0.1 s, at the next tick.
    assert!((17..=21).contains(&asked), "{asked} requests in 2 s");
}

#[test]
fn a_gateway_that_stops_says_goodbye() {
    let mut world = TestWorld::new(TestOptions::default());
    world.join_all(2);
    world.gateway(0).stop();
    world.run_clients(Duration::from_millis(200));
    assert!(
        !world.states().contains(&ConnectionState::Playing),
        "{:?}",
        world.states()
    );
}

#[test]
fn an_echo_after_a_stall_answers_every_stamp_before_it() {
    let mut world = TestWorld::new(TestOptions::default());
    world.join_all(1);
    world.run(Duration::from_secs(1));
    world.clients[0].drain_probes();
    world.stall_all();
    for _ in 0..4 {
        world.clients[0].stamp();
        world.run(Duration::from_millis(50));
    }
    world.stalled.clear();
    world.run(Duration::from_secs(1));
    let samples = world.clients[0].drain_probes();
    assert_eq!(samples.len(), 4);
    let slowest = samples.iter().map(|sample| sample.echoed - sample.stamped).max();
    assert!(slowest >= Some(Duration::from_millis(150)), "{slowest:?}");
}

/// A plain with one crate two metres east of where players start.
fn crate_ahead() -> String {
    let world = PLAIN.replace("radius_m = 20.0", "radius_m = 0.0");
    format!("{world}\n[[crates]]\nfirst = [2.0, 0.5, 0.0]\nsize = [1.0, 1.0, 1.0]\nmass_kg = 20.0\n")
}

#[test]
fn a_pushed_crate_is_shown_in_front_of_its_pusher_and_ends_where_the_zone_has_it() {
    let mut world = TestWorld::new(TestOptions {
        world: crate_ahead(),
        conditions: LinkConditions {
            delay: Duration::from_millis(50),
            ..LinkConditions::default()
        },
        ..TestOptions::default()
    });
    world.join_all(1);
    let crates = |world: &mut TestWorld| {
        let world = world.clients[0].world_mut();
        let mut crates = world.query_filtered::<(&ShownPose, &Pose), With<Orientation>>();
        let found = crates.iter(world).next();
        found
            .map(|(shown, told)| (shown.position, told.position))
            .expect("a crate")
    };
    world.run(Duration::from_millis(300));
    world.walk(0, 1.0, 0.0, false);
    let (mut shown_overlap, mut told_overlap) = (0.0f32, 0.0f32);
    for _ in 0..90 {
        world.run_ticks(1);
        let player = shown_position(&mut world, 0).x;
        let (shown, told) = crates(&mut world);
        // From the front of the capsule to the face of the crate.
        shown_overlap = shown_overlap.max((player + 0.4) - (shown.x - 0.5));
        told_overlap = told_overlap.max((player + 0.4) - (told.x - 0.5));
    }
    assert!(
        told_overlap > 0.3,
        "without help the player would be seen in the crate: {told_overlap} m"
    );
    assert!(shown_overlap < 0.1, "{shown_overlap} m");
    world.walk(0, 0.0, 0.0, false);
    world.run(Duration::from_secs(3));
    let (shown, told) = crates(&mut world);
    assert!(shown.distance(told) < 0.01, "{shown} is not {told}");
    assert!(told.x > 3.0, "the crate was pushed to {told}");
}

/// Packets of a client whose fate became known.
#[derive(Resource, Default)]
struct Fates {
    acked: u32,
    lost: u32,
}

/// What share of its packets a client takes for lost, over a link.
fn share_taken_for_lost(conditions: LinkConditions) -> f64 {
    let mut world = TestWorld::new(TestOptions {
        conditions,
        ..TestOptions::default()
    });
    world.join_all(1);
    // The first round trip is a guess.
    world.run(Duration::from_secs(2));
    let client = world.clients[0].world_mut();
    client.init_resource::<Fates>();
    client.add_observer(|_: On<PacketAcked>, mut fates: ResMut<Fates>| fates.acked += 1);
    client.add_observer(|_: On<PacketLost>, mut fates: ResMut<Fates>| fates.lost += 1);
    world.run(Duration::from_secs(20));
    let fates = world.clients[0].world_mut().resource::<Fates>();
    let known = fates.acked + fates.lost;
    assert!(known > 1_000, "the fate of {known} packets is known");
    f64::from(fates.lost) / f64::from(known)
}

#[test]
fn a_packet_that_is_acknowledged_late_is_not_taken_for_lost_and_one_that_is_lost_is() {
    let short = LinkConditions {
        delay: Duration::from_millis(8),
        jitter: Duration::from_millis(6),
        loss: 0.0,
    };
    assert_eq!(share_taken_for_lost(short), 0.0, "nothing was lost");
    let long = LinkConditions {
        delay: Duration::from_millis(80),
        jitter: Duration::from_millis(30),
        loss: 0.0,
    };
    let share = share_taken_for_lost(long);
    assert!(share < 0.005, "nothing was lost, not {share}");
    let share = share_taken_for_lost(LinkConditions { loss: 0.05, ..short });
    assert!((0.03..0.08).contains(&share), "one in twenty was lost, not {share}");
}
