//! What a player sees over a bad link, in virtual time: no correction is a jump, no border is a pause.

mod screen;

use std::time::Duration;

use bevy::ecs::query::With;
use bevy::math::{Vec2, Vec3, Vec3Swizzles};
use meridian_client_net::{Connector, CorrectionFade, OwnPlayer};
use meridian_game::movement::{SEPARATION_SPEED_M_PER_S, WALK_SPEED_M_PER_S};
use meridian_harness::{TestOptions, TestWorld};
use meridian_link::LinkConditions;

use screen::{Screen, faded, run, run_while};

/// A link as between two continents on a bad day: 100 ms round trip, 10 ms jitter, 2 % loss.
const BAD_LINK: LinkConditions = LinkConditions {
    delay: Duration::from_millis(50),
    jitter: Duration::from_millis(10),
    loss: 0.02,
};

/// A wide floor without anything on it.
const PLAIN: &str = r#"
name = "plain"
kill_below_m = -20.0
[bounds]
min = [-1000.0, -1000.0]
max = [1000.0, 1000.0]
[spawn]
centre = [0.0, 0.0, 0.0]
radius_m = 0.0
[[scenery]]
name = "floor"
centre = [0.0, -1.0, 0.0]
size = [2000.0, 2.0, 2000.0]
"#;

/// The same, cut at x = 0.
const CUT: &str = r#"
[[zones]]
name = "west"
min = [-1000.0, -1000.0]
max = [0.0, 1000.0]
[[zones]]
name = "east"
min = [0.0, -1000.0]
max = [1000.0, 1000.0]
"#;

/// How far a walk goes in a tick, in metres.
const STEP_M: f32 = WALK_SPEED_M_PER_S / 60.0;
/// How fast players who meet are moved at most: the movement step pushes them apart.
const MEETING_M_PER_S: f32 = WALK_SPEED_M_PER_S + SEPARATION_SPEED_M_PER_S;
/// The most that a frame moves one of them, in metres. Both speeds and what fades of a quarter of a metre would be
/// 0.17 m, but they do not come together.
const MEETING_STEP_M: f32 = 0.15;

/// A world with players in it, a few seconds after they came: the clocks have settled.
fn settled(definition: &str, conditions: LinkConditions, seed: u64, players: usize) -> TestWorld {
    let mut world = TestWorld::new(TestOptions {
        world: definition.to_owned(),
        conditions,
        seed,
        ..TestOptions::default()
    });
    world.join_all(players);
    world.run(Duration::from_secs(3));
    world
}

fn place(world: &mut TestWorld, client: usize) -> Vec2 {
    world.clients[client].own_pose().expect("in the world").position.xz()
}

/// Walks a client to a place, where it stands.
fn walk_to(world: &mut TestWorld, client: usize, x: f32, z: f32) {
    world.run_until(Duration::from_secs(20), "it is there", |world| {
        let way = Vec2::new(x, z) - place(world, client);
        let direction = (way * 2.0).clamp_length_max(1.0);
        world.walk(client, direction.x, direction.y, false);
        way.length() < 0.1
    });
    world.walk(client, 0.0, 0.0, false);
    world.run(Duration::from_millis(700));
}

/// The screens of two clients that watch each other.
fn both(world: &mut TestWorld) -> [Screen; 2] {
    [0, 1].map(|client| Screen::new(world, client, 1 - client))
}

#[test]
fn a_correction_fades_with_the_time_of_each_frame() {
    let mut world = settled(PLAIN, BAD_LINK, 1, 1);
    let mut screens = [Screen::new(&mut world, 0, 0)];
    run(&mut world, &mut screens, Duration::from_millis(100));
    let before = screens[0].frames.len();
    let client = world.clients[0].world_mut();
    let mut fades = client.query_filtered::<&mut CorrectionFade, With<OwnPlayer>>();
    *fades.single_mut(client).expect("it is shown") = CorrectionFade(Vec3::X);
    let stands = place(&mut world, 0).x;
    run(&mut world, &mut screens, Duration::from_millis(500));
    let mut left = 1.0;
    for frame in &screens[0].frames[before..] {
        left -= left * faded(frame.seconds);
        let (_, shown) = frame.own.expect("shown in every frame");
        let shown = shown.x - stands;
        assert!(
            (shown - left).abs() < 0.001,
            "{shown} m are left of a metre, instead of {left} m"
        );
    }
}

#[test]
fn a_straight_walk_is_smooth_and_never_corrected() {
    for seed in 1..=3 {
        let mut world = settled(PLAIN, BAD_LINK, seed, 1);
        let walk = Vec3::new(0.6, 0.0, -0.8) * WALK_SPEED_M_PER_S;
        world.walk(0, 0.6, -0.8, false);
        world.run(Duration::from_secs(5));
        let mut screens = [Screen::new(&mut world, 0, 0)];
        run(&mut world, &mut screens, Duration::from_secs(55));
        let [screen] = screens;
        let corrected = screen.worst_correction();
        assert!(corrected <= 0.01, "seed {seed}: {corrected} m");
        for (frame, step) in screen.own_steps() {
            // By the client's own clock nothing but the grid is between the walk and what is shown.
            let off = step.distance(walk * frame.own_seconds);
            assert!(off <= 0.003, "seed {seed}: {step} in {} s", frame.own_seconds);
            // By the player's it may go a tenth faster or slower, and here frames come at whole milliseconds.
            assert!(
                (step.length() - STEP_M).abs() <= 0.01,
                "seed {seed}: {step} in {} s",
                frame.seconds
            );
        }
    }
}

#[test]
fn a_walk_into_who_stands_in_the_way_shows_no_jump_to_either() {
    for (seed, beside) in [(1, 0.0), (2, 0.0), (3, 0.35), (4, 0.1)] {
        let mut world = settled(PLAIN, BAD_LINK, seed, 2);
        walk_to(&mut world, 1, 8.0, beside);
        let mut screens = both(&mut world);
        world.walk(0, 1.0, 0.0, false);
        run(&mut world, &mut screens, Duration::from_secs(3));
        for (client, screen) in screens.iter().enumerate() {
            let what = format!("seed {seed}, client {client}");
            assert!(screen.corrections().count() > 0, "{what}: nothing is predicted wrong");
            let worst = screen.assert_no_jump(MEETING_M_PER_S, &what);
            assert!(worst <= MEETING_STEP_M, "{what}: {worst} m");
        }
    }
}

#[test]
fn a_walk_into_who_walks_across_shows_no_jump_to_either() {
    for seed in 1..=3 {
        let mut world = settled(PLAIN, BAD_LINK, seed, 2);
        // From two who are at the crossing at once to two of whom one is just past it.
        for wait_ms in [0, 50, 100, 200] {
            walk_to(&mut world, 1, 0.0, -6.0);
            walk_to(&mut world, 0, -6.0, 0.0);
            let mut screens = both(&mut world);
            world.walk(1, 0.0, 1.0, false);
            run(&mut world, &mut screens, Duration::from_millis(wait_ms));
            world.walk(0, 1.0, 0.0, false);
            run(&mut world, &mut screens, Duration::from_secs(2));
            for (client, screen) in screens.iter().enumerate() {
                let what = format!("seed {seed}, {wait_ms} ms, client {client}");
                let worst = screen.assert_no_jump(MEETING_M_PER_S, &what);
                assert!(worst <= MEETING_STEP_M, "{what}: {worst} m");
            }
            assert!(
                screens[0].corrections().count() > 0,
                "seed {seed}, {wait_ms} ms: nothing is predicted wrong"
            );
        }
    }
}

#[test]
fn a_walk_into_a_crate_shows_no_jump() {
    // In the middle it is pushed along; farther beside the player comes round it, and is given back its speed late.
    for (beside, worst_m) in [(0.0, 0.12), (0.3, 0.19), (0.7, 0.17)] {
        for seed in 1..=3 {
            let stands = format!("first = [4.0, 0.5, {beside}]\nsize = [1.0, 1.0, 1.0]\nmass_kg = 20.0\n");
            let mut world = settled(&format!("{PLAIN}[[crates]]\n{stands}"), BAD_LINK, seed, 1);
            let mut screens = [Screen::new(&mut world, 0, 0)];
            world.walk(0, 1.0, 0.0, false);
            run(&mut world, &mut screens, Duration::from_secs(4));
            world.walk(0, 0.0, 0.0, false);
            run(&mut world, &mut screens, Duration::from_secs(1));
            let what = format!("seed {seed}, {beside} m beside");
            assert!(
                screens[0].corrections().count() > 0,
                "{what}: nothing is predicted wrong"
            );
            let worst = screens[0].assert_no_jump(WALK_SPEED_M_PER_S, &what);
            assert!(worst <= worst_m, "{what}: {worst} m");
        }
    }
}

/// Walks a client over the border to and fro while another one watches from beside; returns both screens.
fn cross(world: &mut TestWorld, legs: usize) -> [Screen; 2] {
    walk_to(world, 0, -8.0, 0.0);
    walk_to(world, 1, -8.0, 5.0);
    let handoffs = |world: &mut TestWorld| world.clients[0].world_mut().resource::<Connector>().owner_changes;
    let before = handoffs(world);
    let mut screens = both(world);
    for leg in 0..legs {
        let towards = if leg % 2 == 0 { 1.0 } else { -1.0 };
        world.walk(0, towards, 0.0, false);
        run_while(world, &mut screens, |world| place(world, 0).x * towards < 8.0);
    }
    assert_eq!(handoffs(world) - before, legs as u64);
    screens
}

/// How far each frame of the watcher moved the walker onwards, in metres, but for where it turns.
fn seen_steps(watcher: &Screen) -> Vec<f32> {
    let (mut towards, mut steps) = (1.0, Vec::new());
    for (frame, step) in watcher.other_steps() {
        let (_, place) = frame.other.expect("shown in every frame");
        if place.x.abs() > 7.0 {
            towards = -place.x.signum();
        } else if place.x.abs() < 6.0 {
            steps.push(step.x * towards);
        }
    }
    steps
}

#[test]
fn a_border_is_seen_neither_by_who_walks_over_it_nor_by_who_watches() {
    for seed in 1..=4 {
        let what = format!("seed {seed}");
        let mut world = settled(&format!("{PLAIN}{CUT}"), BAD_LINK, seed, 2);
        let [walker, watcher] = cross(&mut world, 6);
        let worst = walker.assert_no_jump(WALK_SPEED_M_PER_S, &what);
        assert!(worst <= 0.12, "{what}: {worst} m");
        let at_border = walker
            .corrections()
            .filter(|correction| correction.position.x.abs() < 4.0);
        let corrected = at_border.map(|correction| correction.distance_m).fold(0.0, f32::max);
        assert!(corrected <= 0.05, "{what}: {corrected} m");
        // Interpolation provides for packets that are late, not for lost ones: where one is missing the walker stands
        // still for a frame and goes two steps in the next. Two in a row, as every 40 s or so, are two and three.
        let steps = seen_steps(&watcher);
        let pauses = steps.split(|step| *step >= 0.01).map(<[f32]>::len);
        let (pause, farthest) = (pauses.max(), steps.iter().copied().fold(0.0, f32::max));
        assert!(pause <= Some(2), "{what}: a pause of {pause:?} frames");
        assert!(farthest <= 0.3, "{what}: {farthest} m in a frame");
        assert!(steps.iter().all(|step| *step > -0.01), "{what}: backwards");
        let uneven = steps
            .iter()
            .filter(|step| (**step - STEP_M).abs() > STEP_M / 2.0)
            .count();
        assert!(uneven * 33 <= steps.len(), "{what}: {uneven} of {} frames", steps.len());
    }
}

#[test]
fn without_loss_who_walks_over_a_border_is_seen_to_move_evenly() {
    for seed in 1..=2 {
        let jitter = LinkConditions { loss: 0.0, ..BAD_LINK };
        let mut world = settled(&format!("{PLAIN}{CUT}"), jitter, seed, 2);
        let [_, watcher] = cross(&mut world, 4);
        for step in seen_steps(&watcher) {
            assert!((0.05..=0.12).contains(&step), "seed {seed}: {step} m");
        }
    }
}

#[test]
fn turns_whose_inputs_are_late_show_no_jump() {
    let slow = LinkConditions {
        delay: BAD_LINK.delay + Duration::from_millis(40),
        ..BAD_LINK
    };
    for seed in 1..=3 {
        for at_times in [BAD_LINK, slow] {
            let mut world = settled(PLAIN, BAD_LINK, seed, 1);
            let mut screens = [Screen::new(&mut world, 0, 0)];
            for turn in 0..40 {
                world.walk(0, if turn % 2 == 0 { 1.0 } else { -1.0 }, 0.0, false);
                // Rarely enough for the client's clock not to provide for it.
                world
                    .network
                    .set_conditions(if turn % 10 == 9 { at_times } else { BAD_LINK });
                run(&mut world, &mut screens, Duration::from_millis(100));
                world.network.set_conditions(BAD_LINK);
                run(&mut world, &mut screens, Duration::from_millis(200));
            }
            let what = format!("seed {seed}, {:?} at times", at_times.delay);
            let worst = screens[0].assert_no_jump(WALK_SPEED_M_PER_S, &what);
            if at_times == BAD_LINK {
                assert!(worst <= STEP_M + 0.04, "{what}: {worst} m");
            } else {
                assert!(screens[0].corrections().count() > 0, "{what}: no input was late");
            }
        }
    }
}
