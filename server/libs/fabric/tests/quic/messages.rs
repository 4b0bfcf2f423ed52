//! What is sent arrives: every class, both ways, in order, at its time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian_fabric::{
    DROPPABLE_QUEUE_MAX, FabricError, GatewayMessage, Ghosts, InputBatch, PassedAction, PeerMessage, ProbeTiming,
    RELIABLE_QUEUE_MAX, SNAPSHOT_BYTES_MAX, Snapshot, TimedInput, ZoneMessage,
};
use meridian_ids::{EntityEpoch, LeaseEpoch, PlayerId, Tick, WorldEntityId, ZoneId};

use crate::support::*;

/// More bytes than a packet has.
const BEYOND_THE_MTU: usize = 20_000;

fn inputs(entity: u64, received: Instant) -> GatewayMessage {
    GatewayMessage::Inputs(InputBatch {
        entity: WorldEntityId(entity),
        inputs: vec![TimedInput {
            tick: Tick(100_000_000_000),
            packed: 5,
        }],
        received,
        forwarded: received,
    })
}

#[test]
fn a_gateways_messages_arrive_and_what_is_reliable_in_order() {
    let Pair { zone, gateway, .. } = &Pair::new();
    let player = PlayerId(9);
    let entity = WorldEntityId(7);
    let mut sent = vec![
        GatewayMessage::Resync,
        GatewayMessage::Leave {
            player,
            entity: Some((entity, EntityEpoch(2))),
        },
        GatewayMessage::Action {
            entity,
            kind: 3,
            payload: vec![1, 2, 3],
        },
    ];
    sent.extend((0..1_000).map(join));
    for message in &sent {
        gateway.send(message.clone()).unwrap();
    }
    let received: Vec<_> = sent.iter().map(|_| from_gateway(zone)).collect();
    assert_eq!(received, sent);

    gateway.send(inputs(7, Instant::now())).unwrap();
    let GatewayMessage::Inputs(batch) = from_gateway(zone) else {
        panic!("inputs were sent");
    };
    assert_eq!((batch.entity, batch.inputs[0].packed), (entity, 5));
    assert_eq!(batch.inputs[0].tick, Tick(100_000_000_000));
    assert!(zone.try_receive().is_none());
}

#[test]
fn snapshots_by_datagram_and_by_stream_and_leaves_arrive_in_the_order_in_which_they_were_sent() {
    let Pair { zone, gateway, .. } = &Pair::new();
    let snapshots: Vec<_> = (1..=300)
        .map(|tick| Arc::new(snapshot(tick, if tick % 3 == 0 { BEYOND_THE_MTU } else { 50 })))
        .collect();
    let receive = |expected: &Snapshot| {
        let ZoneMessage::Snapshot(came) = from_zone(gateway.as_ref()) else {
            panic!("{} was to come", expected.tick);
        };
        assert_eq!(
            (came.zone, came.lease, came.tick),
            (ZONE, expected.lease, expected.tick)
        );
        assert_eq!((&came.entities, &came.bytes), (&expected.entities, &expected.bytes));
        assert_eq!(came.bytes_of(&came.entities[0]), expected.bytes);
    };
    // Each few of them under way at once, with a leave in between.
    for few in snapshots.chunks(6) {
        few.iter().for_each(|snapshot| send_snapshot(zone, snapshot));
        zone.send(left(few[0].tick.0)).unwrap();
        few.iter().for_each(|snapshot| receive(snapshot));
        let came = from_zone(gateway.as_ref());
        assert!(
            matches!(came, ZoneMessage::Left { entity, .. } if entity.0 == few[0].tick.0),
            "{came:?}"
        );
    }
    assert_eq!(counted("meridian_fabric_by_stream_total", &["local=\"z3\""]), 100);
    assert_eq!(counted("meridian_fabric_gaps_total", &[]), 0);

    let refused = ZoneMessage::JoinRefused {
        player: PlayerId(4),
        reason: "the zone is full".to_owned(),
    };
    zone.send(refused).unwrap();
    assert!(
        matches!(from_zone(gateway.as_ref()), ZoneMessage::JoinRefused { player: PlayerId(4), reason } if reason == "the zone is full")
    );
}

#[test]
fn the_largest_snapshot_arrives_and_a_larger_one_is_refused() {
    let Pair { zone, gateway, .. } = &Pair::new();
    let too_large = ZoneMessage::Snapshot(Arc::new(snapshot(1, SNAPSHOT_BYTES_MAX + 1)));
    assert_eq!(zone.send(too_large), Err(FabricError::TooLarge));
    let largest = Arc::new(snapshot(2, SNAPSHOT_BYTES_MAX));
    send_snapshot(zone, &largest);
    let came = from_zone(gateway.as_ref());
    assert!(matches!(came, ZoneMessage::Snapshot(came) if came.bytes == largest.bytes));
}

#[test]
fn a_zone_that_sends_faster_than_the_network_takes_it_is_told_and_nothing_seems_lost() {
    let Pair { zone, gateway, .. } = &Pair::new();
    let mut sent = Vec::new();
    let mut is_refused = false;
    for tick in 1..=2_000 {
        let large = snapshot(tick, 200_000);
        match zone.send(ZoneMessage::Snapshot(Arc::new(large))) {
            Ok(()) => sent.push(Tick(tick)),
            Err(error) => {
                assert_eq!(error, FabricError::Full);
                is_refused = true;
                break;
            }
        }
    }
    assert!(is_refused);
    for tick in sent {
        let came = from_zone(gateway.as_ref());
        assert!(matches!(came, ZoneMessage::Snapshot(came) if came.tick == tick));
    }
}

#[test]
fn neighbours_exchange_pushes_actions_and_the_newest_ghosts() {
    let world = World::new();
    let (here, there) = (world.zones("here"), world.zones("there"));
    let source = there.serve(ZONE);
    let dialled = here.to_peer(ZoneId(1), ZONE, at(there.local_addr()));
    let (zone, accepted) = accept_peer(&source);
    assert_eq!(zone, ZoneId(1));
    until("the link", || dialled.is_connected());
    assert!(accepted.is_connected() && !accepted.is_closed() && !dialled.is_closed());

    let ghosts = |tick: u64, bytes: usize| {
        let Snapshot { entities, bytes, .. } = snapshot(tick, bytes);
        Arc::new(Ghosts {
            lease: LeaseEpoch(1),
            tick: Tick(tick),
            entities,
            bytes,
        })
    };
    let action = PassedAction {
        entity: WorldEntityId(7),
        kind: 3,
        payload: vec![1],
        hops: 2,
    };
    let mut tick = 0;
    for (from, to) in [(&dialled, &accepted), (&accepted, &dialled)] {
        from.send(PeerMessage::Action(action.clone())).unwrap();
        let came = eventually("an action", || to.try_receive());
        assert!(matches!(came, PeerMessage::Action(came) if came == action));
        let push = PeerMessage::Push {
            entity: WorldEntityId(7),
            velocity: [1.0, 0.0, -2.5],
        };
        from.send(push).unwrap();
        let came = eventually("a push", || to.try_receive());
        assert!(matches!(
            came,
            PeerMessage::Push {
                velocity: [1.0, 0.0, -2.5],
                ..
            }
        ));

        // Some by datagram and some by stream; whatever is left out, they never go back, and the last one comes.
        let (first, last) = (tick + 1, tick + 200);
        let mut newest = tick;
        for sent in first..=last {
            tick = sent;
            let size = if tick % 3 == 0 { BEYOND_THE_MTU } else { 50 };
            until("room for ghosts", || {
                from.send(PeerMessage::Ghosts(ghosts(tick, size))).is_ok()
            });
            if let Some(PeerMessage::Ghosts(came)) = to.try_receive() {
                assert!(came.tick.0 > newest);
                newest = came.tick.0;
            }
        }
        until("the newest ghosts", || {
            if let Some(PeerMessage::Ghosts(came)) = to.try_receive() {
                assert!(came.tick.0 > newest);
                newest = came.tick.0;
            }
            newest == last
        });
    }
}

#[test]
fn instants_are_the_same_at_both_ends_but_for_the_round_trip() {
    let world = World::new();
    let zones = world.zones("zones");
    let source = zones.serve(ZONE);
    // The clocks count from when the endpoints were bound: these are far apart.
    let apart = Duration::from_millis(500);
    let bound = Instant::now();
    until("the other clock's origin", || bound.elapsed() >= apart);
    let gateways = world.gateways("gateways");
    // The clocks have been compared since: no exchange between them took longer than all of it.
    let begun = Instant::now();
    let gateway = dial(&gateways, "gateway-1", zones.local_addr());
    let (_, zone) = accept_gateway(&source);
    until("the gateway's link", || gateway.is_connected());

    let received = Instant::now();
    gateway.send(inputs(7, received)).unwrap();
    let GatewayMessage::Inputs(batch) = from_gateway(&zone) else {
        panic!("inputs were sent");
    };
    let began = Instant::now();
    let mut told = snapshot(1, 10);
    told.began = began;
    told.finished = began;
    told.probes = vec![ProbeTiming {
        entity: batch.entity,
        sequence: 1,
        received: batch.received,
        forwarded: batch.forwarded,
        applied: began,
    }];
    send_snapshot(&zone, &Arc::new(told));
    let ZoneMessage::Snapshot(came) = from_zone(gateway.as_ref()) else {
        panic!("a snapshot was sent");
    };
    let round_trip_max = begun.elapsed();
    assert!(
        round_trip_max < apart,
        "the machine stood still: nothing can be told from this"
    );
    let distance = |one: Instant, other: Instant| one.max(other) - one.min(other);
    assert!(distance(batch.received, received) <= round_trip_max / 2);
    assert!(distance(came.began, began) <= round_trip_max / 2);
    assert!(distance(came.probes[0].applied, began) <= round_trip_max / 2);
    assert!(distance(came.probes[0].received, received) <= round_trip_max);
    assert!(came.finished <= Instant::now());
}

/// Joins go on where inputs are dropped; the last of what is taken is refused when nobody receives for long.
#[test]
fn a_zone_that_does_not_receive_loses_the_oldest_inputs_and_refuses_joins_last() {
    let Pair { zone, gateway, .. } = &Pair::new();
    let now = Instant::now();
    for entity in 0..2 * DROPPABLE_QUEUE_MAX as u64 {
        gateway.send(inputs(entity, now)).unwrap();
    }
    let mut joins = 0;
    let mut idle_since = Instant::now();
    // What the network holds on the way is taken too: it is full when nothing moves any more.
    until("a full queue", || {
        while gateway.send(join(joins)).is_ok() {
            joins += 1;
            idle_since = Instant::now();
        }
        idle_since.elapsed() > Duration::from_secs(1)
    });
    assert!(joins > 2 * RELIABLE_QUEUE_MAX as u64, "{joins}");
    assert_eq!(gateway.send(join(joins)), Err(FabricError::Full));
    assert_eq!(gateway.send(inputs(1, now)), Ok(()));

    let mut next = 0;
    let mut inputs_received = 0;
    until("every join", || {
        while let Some(message) = zone.try_receive() {
            match message {
                GatewayMessage::Join { player, .. } => {
                    assert_eq!(player.0, next);
                    next += 1;
                }
                GatewayMessage::Inputs(_) => inputs_received += 1,
                other => panic!("{other:?}"),
            }
        }
        next == joins
    });
    // Those that waited, and the one that came when there was room again.
    let most = DROPPABLE_QUEUE_MAX + 1;
    assert!((1..=most).contains(&inputs_received), "{inputs_received}");
    let dropped = |class| {
        counted(
            "meridian_fabric_dropped_total",
            &["direction=\"gateway_to_zone\"", class],
        )
    };
    // As many inputs were dropped, at either end, as were sent and did not come; joins are refused at the sender alone.
    assert_eq!(
        dropped("class=\"droppable\"") as usize,
        2 * DROPPABLE_QUEUE_MAX + 1 - inputs_received
    );
    assert!(dropped("class=\"reliable\"") > 0);
}
