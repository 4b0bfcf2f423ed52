//! Zones that stand still or die, clients that vanish, places that are none, and a durable side that lies.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bevy::ecs::entity::Entity;
use bevy::ecs::query::With;
use bevy::math::Vec3;
use lightyear::prelude::Controlled;
use meridian_bus::{Bus, Heard};
use meridian_events::Positions;
use meridian_game::movement::MovementState;
use meridian_handoff::script::{Command, Done, Refusal, Ticket};
use meridian_harness::{TestOptions, TestWorld};
use meridian_ids::{TickRate, WorldEntityId};
use meridian_loadgen::audit::Auditor;

use crate::support::{Owners, deaths_of, own_entity, own_place, owned, position_of, two, walk_to_x, with_crates};

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
    let mut events = world.bus.events("test");
    world.join_all(1);
    let entity = owned(&mut world, true)[0].1;
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
        assert_eq!(deaths_of(&mut *events, entity), 1, "after {place}");
        walk_to_x(&mut world, 0, 5.0);
    }
    Owners::of(&world).assert_all_seamless();
}

/// What these carriers do as the one below does.
macro_rules! passed_on {
    () => {
        fn is_followed(&self) -> bool {
            self.inner.is_followed()
        }

        fn publish_positions(&mut self, positions: Positions) {
            self.inner.publish_positions(positions);
        }
    };
}

/// A durable side that lies: what it answers to a transfer is not what it did.
struct Lying {
    inner: Box<dyn Bus>,
    /// How many transfers it still lies about.
    answer: Option<(Ticket, Result<Done, Refusal>)>,
    doubles: bool,
}

impl Bus for Lying {
    fn submit(&mut self, ticket: Ticket, command: Command) {
        let command = match command {
            // Told as not done, though it was: the sender goes on, and so does the receiver.
            Command::Transfer(_) if self.doubles => {
                self.answer = Some((ticket, Ok(Done::Kept)));
                command
            }
            // Told as done, though nothing was: neither of them goes on.
            Command::Transfer(transfer) => {
                self.answer = Some((ticket, Ok(Done::Transferred)));
                Command::Checkpoint {
                    by: transfer.id.from,
                    records: Vec::new(),
                    died: Vec::new(),
                }
            }
            other => other,
        };
        self.inner.submit(ticket, command);
    }

    fn try_receive(&mut self) -> Option<Heard> {
        let heard = self.inner.try_receive()?;
        let lie = match &heard {
            Heard::Answer(ticket, _) => self.answer.take_if(|(lied, _)| lied == ticket),
            Heard::Inbox(_) => None,
        };
        Some(lie.map_or(heard, |(ticket, answer)| Heard::Answer(ticket, Some(answer))))
    }

    passed_on!();
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

/// A durable side whose zone dies right after it wrote down that an entity left.
struct DiesAfterRetiring {
    inner: Box<dyn Bus>,
    once: Arc<AtomicBool>,
}

impl Bus for DiesAfterRetiring {
    fn submit(&mut self, ticket: Ticket, command: Command) {
        let retires = matches!(command, Command::Retire { .. });
        self.inner.submit(ticket, command);
        assert!(
            !(retires && self.once.swap(false, Ordering::Relaxed)),
            "dies in mid-tick"
        );
    }

    fn try_receive(&mut self) -> Option<Heard> {
        self.inner.try_receive()
    }

    passed_on!();
}

#[test]
fn a_zone_that_dies_before_it_told_who_left_leaves_no_corpse() {
    let once = Arc::new(AtomicBool::new(true));
    let armed = once.clone();
    let mut world = TestWorld::new(TestOptions {
        bus: Arc::new(move |_, inner| {
            let once = armed.clone();
            Box::new(DiesAfterRetiring { inner, once })
        }),
        ..two()
    });
    world.join_all(2);
    world.clients.remove(0);
    world.run_until(Duration::from_secs(20), "the zone died", |_| {
        !once.load(Ordering::Relaxed)
    });
    world.run(Duration::from_secs(3));
    assert_eq!(owned(&mut world, true).len(), 1);
    assert_eq!(position_of(&mut world, 0, 100), None, "the other one sees it no longer");
    assert!(position_of(&mut world, 0, 101).is_some());
}

#[test]
fn a_stall_that_skips_ticks_costs_no_latency_afterwards() {
    let mut world = TestWorld::new(two());
    world.join_all(1);
    world.run(Duration::from_secs(10));
    let latency = |world: &mut TestWorld| {
        world.clients[0].drain_probes();
        world.clients[0].stamp();
        world.run(Duration::from_secs(1));
        let sample = world.clients[0].drain_probes()[0];
        sample.echoed - sample.stamped
    };
    let before = latency(&mut world);
    for ticks in [20, 100] {
        world.stall_all();
        world.run_ticks(ticks);
        world.stalled.clear();
        world.run(Duration::from_secs(1));
        let after = latency(&mut world);
        assert!(
            after <= before + world.tick_duration(),
            "{before:?} before {ticks} ticks, {after:?} after"
        );
    }
}

#[test]
fn who_walks_against_the_crate_of_a_zone_that_stands_still_does_not_shoot_it_off_later() {
    let mut world = TestWorld::new(with_crates("first = [0.75, 0.5, 0.0]"));
    world.join_all(1);
    world.run(Duration::from_secs(1));
    world.stalled.insert(1);
    // Before its lease ends: the crate stands, and the player walks on the spot.
    world.walk(0, 1.0, 0.0, false);
    world.run(Duration::from_millis(2_500));
    world.walk(0, 0.0, 0.0, false);
    let before = owned(&mut world, false)[0].2;
    world.stalled.clear();
    world.run(Duration::from_secs(3));
    let after = owned(&mut world, false)[0].2;
    assert!(after.distance(before) < 4.0, "from {before} to {after}");
}

#[test]
fn a_player_who_comes_back_to_its_entity_is_let_in() {
    let mut world = TestWorld::new(two());
    world.join_all(1);
    let entity = owned(&mut world, true)[0].1;
    // The same token once more, from another address: the newer link wins.
    world.rejoin(0);
    world.run_until(Duration::from_secs(10), "it is in", |world| {
        world.clients[1].own_pose().is_some()
    });
    assert_eq!(owned(&mut world, true)[0].1, entity);
}
