use std::collections::BTreeSet;

use meridian_game::Move;
use meridian_game::movement::MovementState;
use meridian_ids::ZoneId;

use super::*;
use crate::testing::{HZ, demo_world, over};
use crate::{Behaviour, Stage};

/// How long the way from the spawn may take.
const WAY_SECONDS: usize = 25;
/// What zones let an entity stray before they hand it over, in metres.
const HYSTERESIS_M: f32 = 0.5;

struct Walked {
    positions: Vec<Vec2>,
    inputs: Vec<Move>,
    /// The zone that owns the bot in each tick.
    owners: Vec<ZoneId>,
}

impl Walked {
    fn handoffs(&self) -> usize {
        self.owners.windows(2).filter(|pair| pair[0] != pair[1]).count()
    }

    fn slowest_m(&self) -> f32 {
        let steps = self.positions.windows(2).map(|pair| pair[0].distance(pair[1]));
        steps.fold(f32::INFINITY, f32::min)
    }
}

/// What a bot does in the demo world in so many seconds once it was given time to come to its place.
fn walk(kind: ScenarioKind, bots: usize, index: usize, seconds: usize) -> Walked {
    let world = demo_world();
    let (zones, walker) = (world.zone_map(), over(&world));
    let mut behaviour = Behaviour::new(&Stage::new(kind, &world, bots).unwrap(), 5, index);
    // Somewhere in the spawn's disc.
    let spawn = Vec2::from_angle(index as f32 * 2.4) * (index as f32 * 0.618).fract() * world.spawn.radius_m;
    let mut state = MovementState::standing_at(Vec3::new(spawn.x, 0.0, spawn.y));
    let mut owner = zones.zone_at(spawn.to_array());
    let mut walked = Walked {
        positions: vec![],
        inputs: vec![],
        owners: vec![],
    };
    for tick in 0..(WAY_SECONDS + seconds) * HZ {
        let input = behaviour.next(Some(state.position));
        state = walker(state, input);
        let place = state.position.xz();
        owner = zones
            .destination(owner, place.to_array(), HYSTERESIS_M)
            .unwrap_or(owner);
        if tick >= WAY_SECONDS * HZ {
            walked.positions.push(place);
            walked.inputs.push(input);
            walked.owners.push(owner);
        }
    }
    walked
}

fn stage(kind: ScenarioKind, bots: usize) -> ZoneStage {
    ZoneStage::new(kind, &demo_world(), bots).unwrap()
}

#[test]
fn whoever_has_a_lane_changes_zones_all_the_time_and_never_stops() {
    for (kind, bots) in [(ScenarioKind::Border, 40), (ScenarioKind::Crossing, 60)] {
        let lanes = stage(kind, bots);
        let has_lane = |index: &usize| kind == ScenarioKind::Crossing || matches!(lanes.role(*index), Role::Lane(_));
        for index in (0..bots).filter(has_lane) {
            let walked = walk(kind, bots, index, 20);
            let per_minute = walked.handoffs() * 3;
            assert!(
                (12..=60).contains(&per_minute),
                "{kind:?} {index}: {per_minute} a minute"
            );
            assert!(
                walked.slowest_m() > 0.02,
                "{kind:?} {index} stopped: {}",
                walked.slowest_m()
            );
        }
    }
}

#[test]
fn who_circles_visits_every_zone_that_meets_there_and_not_too_fast() {
    for index in (0..40).filter(|index| index % SPECIAL_EVERY == CIRCLES_AT) {
        let walked = walk(ScenarioKind::Border, 40, index, 20);
        let zones: BTreeSet<_> = walked.owners.iter().copied().collect();
        assert_eq!(zones.len(), 4, "bot {index}");
        assert!(
            walked
                .positions
                .iter()
                .all(|place| (2.0..4.5).contains(&place.length()))
        );
        // An entity may change hands twice a second in the long run.
        assert!(
            (15..=30).contains(&walked.handoffs()),
            "bot {index}: {}",
            walked.handoffs()
        );
    }
}

#[test]
fn who_pushes_goes_behind_a_crate_and_over_the_border() {
    let places = stage(ScenarioKind::Border, 40);
    let crates: Vec<Vec2> = demo_world()
        .crates
        .iter()
        .flat_map(|group| group.centres())
        .map(Vec3::xz)
        .collect();
    let pushers: Vec<usize> = (0..40)
        .filter(|index| matches!(places.role(*index), Role::Push(_)))
        .collect();
    assert!(
        pushers.len() >= 4 && pushers.iter().all(|index| index % SPECIAL_EVERY == PUSHES_AT),
        "{pushers:?}"
    );
    for index in pushers {
        let walked = walk(ScenarioKind::Border, 40, index, 20);
        let through = |item: &Vec2| walked.positions.iter().any(|place| place.distance(*item) < 0.3);
        assert!(crates.iter().any(through), "bot {index} walks past its crate");
        assert!(walked.handoffs() >= 4, "bot {index}: {}", walked.handoffs());
    }
}

#[test]
fn each_bot_of_a_crossing_has_a_lane_of_its_own_two_metres_from_the_next() {
    let lanes = stage(ScenarioKind::Crossing, 60).lanes;
    assert_eq!(lanes.len(), 60);
    for (index, lane) in lanes.iter().enumerate() {
        for other in &lanes[index + 1..] {
            let nearest = (-50..=50)
                .map(|step| lane.distance_m(other.middle + other.across * step as f32 * 0.1))
                .fold(f32::INFINITY, f32::min);
            assert!(nearest > 1.99, "{lane:?} and {other:?} are {nearest} m apart");
        }
    }
}

#[test]
fn lanes_keep_off_circles_and_pushers() {
    let places = stage(ScenarioKind::Border, 40);
    assert_eq!(places.meeting, Some(Vec2::ZERO));
    for lane in &places.lanes {
        assert!(lane.distance_m(Vec2::ZERO) >= MEETING_KEEP_OFF_M);
        assert!(
            places
                .pushes
                .iter()
                .all(|push| push.distance_m(lane.middle) >= PUSH_KEEP_OFF_M)
        );
    }
    let numbers: BTreeSet<usize> = (0..40)
        .filter_map(|index| match places.role(index) {
            Role::Lane(number) => Some(number),
            Role::Circle(_) | Role::Push(_) => None,
        })
        .collect();
    assert_eq!(
        numbers,
        (0..numbers.len()).collect(),
        "each lane's bot has its own number"
    );
    assert!(numbers.len() >= 30);
}

#[test]
fn the_narrow_swing_turns_15_times_a_second_on_the_line_and_the_wide_one_crosses_as_often_as_it_can() {
    let turns = |walked: &Walked| {
        let changed = walked
            .inputs
            .windows(2)
            .filter(|pair| pair[0].direction().dot(pair[1].direction()) < 0.0);
        changed.count() / 20
    };
    let narrow = walk(ScenarioKind::Oscillate, 8, 2, 20);
    assert!((15..=20).contains(&turns(&narrow)), "{}", turns(&narrow));
    assert_eq!(narrow.handoffs(), 0, "within the hysteresis");
    let zones = demo_world().zone_map();
    let sides: BTreeSet<_> = narrow
        .positions
        .iter()
        .map(|place| zones.zone_at(place.to_array()))
        .collect();
    assert_eq!(sides.len(), 2, "across the line nevertheless");
    let wide = walk(ScenarioKind::Oscillate, 8, 3, 20);
    // More often than an entity may change hands in the long run, so that the limit shows.
    assert!(wide.handoffs() > 40, "{} in 20 s", wide.handoffs());
}

#[test]
fn who_camps_stays_in_his_zone_and_off_its_borders() {
    let zones = demo_world().zone_map();
    for index in 0..12 {
        let walked = walk(ScenarioKind::Camp, 40, index, 10);
        let zone = ZoneId((index % 4) as u16);
        let is_inside = |place: &Vec2| {
            zones.zone_at(place.to_array()) == zone && zones.near(zone, place.to_array(), 12.0).next().is_none()
        };
        assert!(walked.positions.iter().all(is_inside), "bot {index}");
        assert!(walked.slowest_m() > 0.02, "bot {index} stopped");
    }
}

#[test]
fn the_same_seed_walks_the_same_way() {
    for kind in [
        ScenarioKind::Border,
        ScenarioKind::Crossing,
        ScenarioKind::Oscillate,
        ScenarioKind::Camp,
    ] {
        for index in [0, 3, 7] {
            assert_eq!(
                walk(kind, 8, index, 2).positions,
                walk(kind, 8, index, 2).positions,
                "{kind:?}"
            );
        }
    }
}

#[test]
fn a_world_without_borders_or_without_room_is_refused() {
    let mut world = demo_world();
    let refused = |world: &WorldDefinition, kind, bots| ZoneStage::new(kind, world, bots).unwrap_err().to_string();
    assert!(refused(&world, ScenarioKind::Crossing, 1_000).contains("take fewer bots"));
    world.zones.clear();
    for kind in [
        ScenarioKind::Border,
        ScenarioKind::Crossing,
        ScenarioKind::Oscillate,
        ScenarioKind::Camp,
    ] {
        assert!(refused(&world, kind, 4).contains("is a single zone"), "{kind:?}");
    }
}

#[test]
fn a_world_of_two_zones_has_a_place_to_circle_too() {
    let mut world = demo_world();
    world.zones.truncate(2);
    (world.zones[0].max, world.zones[1].min) = ([0.0, 64.0], [0.0, -64.0]);
    world.zones[1].max = [64.0, 64.0];
    let places = ZoneStage::new(ScenarioKind::Border, &world, 16).unwrap();
    assert!(places.meeting.is_some());
    assert!(places.lanes.len() >= 12, "{}", places.lanes.len());
}
