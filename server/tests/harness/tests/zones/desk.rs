//! Players who are moved by orders: they walk as others do, cross borders, and leave when nobody speaks for them.

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use meridian_fabric::desk::{Answer, Placed, Request};
use meridian_harness::TestWorld;
use meridian_ids::{PlayerId, ZoneId};

use crate::support::{Owners, two};

const ADA: PlayerId = PlayerId(7);
/// A tick's walk at full speed, in metres, at 60 Hz.
const STEP_M: f32 = 0.1;

fn hand_in(world: &TestWorld, zone: usize, request: Request) -> Receiver<Answer> {
    let (told, answers) = channel();
    let answer = Box::new(move |answer| {
        let _ = told.send(answer);
    });
    world
        .desk(zone)
        .hand_in(ADA, request, None, answer)
        .expect("a desk with room");
    answers
}

fn ask(world: &mut TestWorld, zone: usize, request: Request) -> Answer {
    let answers = hand_in(world, zone, request);
    world.run_ticks(3);
    answers.try_recv().expect("an answer within three ticks")
}

fn done(answer: Answer) -> Placed {
    let Answer::Done(placed) = answer else {
        unreachable!("done, and not {answer:?}");
    };
    placed
}

fn join() -> Request {
    Request::Join { name: "Ada".to_owned() }
}

fn walk(x: f32, ticks: u32) -> Request {
    Request::Walk {
        direction: [x, 0.0],
        jump: false,
        ticks,
        traceparent: None,
    }
}

#[test]
fn who_is_ordered_to_walk_walks_for_as_long_and_stands_then() {
    let mut world = TestWorld::new(two());
    world.run_ticks(2);
    let joined = done(ask(&mut world, 0, join()));
    assert_eq!(joined.zone, ZoneId(0));
    assert_eq!(done(ask(&mut world, 0, join())).entity, joined.entity, "asked again");
    world.run(Duration::from_secs(1));
    let stands = done(ask(&mut world, 0, Request::Stay));
    let first = done(ask(&mut world, 0, walk(-1.0, 20)));
    // Who begins to walk is not at full speed in the first tick.
    let step = stands.position[0] - first.position[0];
    assert!(step > 0.0 && step < 1.5 * STEP_M, "told after the first tick: {step} m");
    world.run(Duration::from_secs(1));
    let there = done(ask(&mut world, 0, Request::Stay));
    let walked = stands.position[0] - there.position[0];
    assert!(
        (14.0 * STEP_M..=21.0 * STEP_M).contains(&walked),
        "{walked} m in 20 ticks"
    );
    assert!(there.tick > first.tick);

    world.run_until(Duration::from_secs(3), "another order replaces the first", |world| {
        let before = done(ask(world, 0, walk(-1.0, 60)));
        let turned = done(ask(world, 0, walk(1.0, 2)));
        turned.position[0] > before.position[0] - 5.0 * STEP_M
    });
    assert_eq!(ask(&mut world, 0, Request::Leave), Answer::Left);
    assert_eq!(ask(&mut world, 0, Request::Stay), Answer::Elsewhere(None));
}

#[test]
fn a_walk_goes_on_over_a_border_and_the_old_zone_says_where_to() {
    let mut world = TestWorld::new(two());
    world.run_ticks(2);
    let joined = done(ask(&mut world, 0, join()));
    let mut owners = Owners::of(&world);
    let mut place = joined;
    while place.position[0] < -2.5 {
        place = done(ask(&mut world, 0, walk(1.0, 10)));
        world.run_ticks(8);
    }
    // The walk of a second leads over the border, and ends beyond it.
    done(ask(&mut world, 0, walk(1.0, 60)));
    world.run(Duration::from_secs(2));
    assert_eq!(ask(&mut world, 0, Request::Stay), Answer::Elsewhere(Some(ZoneId(1))));
    let there = done(ask(&mut world, 1, Request::Stay));
    assert_eq!((there.entity, there.zone), (joined.entity, ZoneId(1)));
    assert!(there.position[0] > 2.0, "{} m", there.position[0]);
    assert!(there.epoch > joined.epoch);
    let again = done(ask(&mut world, 1, Request::Stay));
    assert_eq!(again.position, there.position, "it stands");
    assert_eq!(
        ask(&mut world, 0, join()),
        Answer::Elsewhere(Some(ZoneId(1))),
        "who joins again is found"
    );
    owners.hear(&world);
    assert_eq!(owners.assert_seamless(joined.entity), 1, "it changed hands once");
}

#[test]
fn whom_nobody_speaks_for_leaves_and_whom_somebody_does_stays() {
    let mut world = TestWorld::new(two());
    world.run_ticks(2);
    done(ask(&mut world, 0, join()));
    for _ in 0..45 {
        done(ask(&mut world, 0, Request::Stay));
        world.run(Duration::from_secs(1));
    }
    // Five seconds in which a desk may be silent, and then the grace of those whom nobody plays.
    world.run(Duration::from_secs(33));
    done(ask(&mut world, 0, Request::Stay));
    world.run(Duration::from_secs(37));
    assert_eq!(ask(&mut world, 0, Request::Stay), Answer::Elsewhere(None));
}

#[test]
fn who_is_played_over_a_gateway_is_not_taken_out_by_an_order() {
    let mut world = TestWorld::new(two());
    world.join_all(1);
    let (told, answers) = channel();
    let player = PlayerId(100);
    let answer = Box::new(move |answer| {
        let _ = told.send(answer);
    });
    world.desk(0).hand_in(player, Request::Leave, None, answer).unwrap();
    world.run(Duration::from_secs(4));
    assert_eq!(answers.try_recv(), Ok(Answer::Left));
    assert!(world.clients[0].own_pose().is_some());
    assert_eq!(world.zone_at(-6.0, 0.0).population().1, 1);
}
