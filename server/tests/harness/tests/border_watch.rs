//! What a client that watches borders sees of another player that walks over one.

use std::time::Duration;

use meridian_client_net::BorderCrossing;
use meridian_game::WorldDefinition;
use meridian_harness::{DEMO_WORLD, TestOptions, TestWorld};
use meridian_ids::ZoneMap;
use meridian_link::LinkConditions;

const LEGS: usize = 8;

fn zones() -> ZoneMap {
    let world = WorldDefinition::parse(DEMO_WORLD, "world.toml").unwrap_or_else(|error| unreachable!("{error}"));
    world.zone_map()
}

/// Two players in the demo world, of which one walks to and fro over the border at x = 0 and the other one watches.
fn gaps(conditions: LinkConditions, predict: bool) -> Vec<u32> {
    let mut world = TestWorld::new(TestOptions {
        conditions,
        predict,
        interpolate: predict,
        watch_borders: Some(zones()),
        ..TestOptions::default()
    });
    world.join_all(2);
    let (walker, watcher) = (0, 1);
    world.walk(walker, 1.0, 0.0, false);
    world.run_until(Duration::from_secs(10), "the walker is in the east", |world| {
        world.clients[walker]
            .own_pose()
            .is_some_and(|pose| pose.position.x > 9.0)
    });
    world.clients[watcher].drain_border_crossings();
    // From x = 9 to x = -9, and 24 m with each leg after that.
    for leg in 0..LEGS {
        world.walk(walker, if leg % 2 == 0 { -1.0 } else { 1.0 }, 0.0, false);
        world.run(Duration::from_secs(if leg == 0 { 3 } else { 4 }));
    }
    let crossings: Vec<BorderCrossing> = world.clients[watcher].drain_border_crossings();
    assert!(world.clients[watcher].drain_border_crossings().is_empty(), "taken once");
    crossings.iter().map(|crossing| crossing.gap_ticks).collect()
}

#[test]
fn over_a_clean_link_a_crossing_is_seen_without_a_gap() {
    for predict in [false, true] {
        let gaps = gaps(LinkConditions::default(), predict);
        assert_eq!(gaps, [1; LEGS]);
    }
}

#[test]
fn jitter_is_no_gap_and_a_lost_packet_is_one() {
    let jitter = LinkConditions {
        delay: Duration::from_millis(60),
        jitter: Duration::from_millis(8),
        loss: 0.0,
    };
    assert_eq!(gaps(jitter, true), [1; LEGS]);
    let lossy = LinkConditions { loss: 0.1, ..jitter };
    let gaps = gaps(lossy, true);
    assert!(
        gaps.iter().any(|gap| *gap > 1) && gaps.iter().all(|gap| *gap < 8),
        "{gaps:?}"
    );
}
