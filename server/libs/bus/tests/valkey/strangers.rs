//! Foreign entries in every stream of a world, while it goes on: nothing of the world is lost, and all that is foreign is put aside.

use std::collections::BTreeMap;
use std::time::Duration;

use meridian_bus::valkey::{DEAD_LETTERS_KEPT, DEAD_LETTERS_MAX};
use meridian_events::{Event, Positions, envelope};
use meridian_handoff::script::{Command, Done, Refusal};
use meridian_ids::Tick;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use redis::streams::StreamRangeReply;

use crate::server;
use crate::zone::{EAST, WEST, World, Zone, entity_of, until};

const ROUNDS: u64 = 40;

/// Entries that no part of a world would write: fields and values.
fn foreign(runner: &mut TestRunner) -> Vec<(Vec<u8>, Vec<u8>)> {
    use proptest::prelude::*;
    let bytes = |most: usize| prop::collection::vec(any::<u8>(), 0..most);
    let envelope = prop_oneof![
        bytes(64),
        bytes(64).prop_map(|bytes| [&[1, 0], &bytes[..]].concat()),
        bytes(64).prop_map(|bytes| [&[1, 0, 0], &bytes[..]].concat()),
        Just(envelope::encode(None, &"something else").unwrap()),
        Just(envelope::encode(None, &7u8).unwrap()),
        Just([&[9, 9][..], &[0; 5_000]].concat()),
    ];
    let entry = prop_oneof![
        envelope.clone().prop_map(|envelope| vec![(b"e".to_vec(), envelope)]),
        (envelope, bytes(40)).prop_map(|(envelope, other)| vec![(b"e".to_vec(), envelope), (b"x".to_vec(), other)]),
        prop::collection::vec((bytes(20), bytes(40)), 1..4),
    ];
    // By chance it could be right: then it is not foreign.
    let is_foreign = |entry: &Vec<(Vec<u8>, Vec<u8>)>| match entry.as_slice() {
        [(name, envelope)] if name == b"e" => {
            envelope::decode::<Event>(envelope).is_err() && envelope::decode::<Positions>(envelope).is_err()
        }
        _ => true,
    };
    entry
        .prop_filter("by chance", is_foreign)
        .new_tree(runner)
        .unwrap()
        .current()
}

fn add(raw: &mut redis::Connection, key: &str, fields: &[(Vec<u8>, Vec<u8>)]) {
    let mut command = redis::cmd("XADD");
    command.arg(key).arg("*");
    for (name, value) in fields {
        command.arg(name).arg(value);
    }
    command.exec(raw).unwrap();
}

/// Hands an entity over, and waits until it has arrived.
fn hand_over(from: &mut Zone, to: &mut Zone, number: u64, entity: u64) {
    let moved = from.transfer(number, to.instance.zone, from.record(entity));
    assert_eq!(from.ask(Command::Transfer(moved.clone())), Some(Ok(Done::Transferred)));
    loop {
        let arrived = to.await_transfer();
        if arrived.id == moved.id {
            assert_eq!(arrived, moved);
            let owned = moved.entities();
            assert_eq!(to.accept(&arrived), Some(Ok(Done::Accepted { owned })));
            return;
        }
        // One that is told again after it was accepted, or forged.
        let again = to.accept(&arrived);
        assert!(
            matches!(again, Some(Ok(Done::Accepted { .. }) | Err(Refusal::NoTransfer))),
            "{again:?}"
        );
    }
}

#[test]
fn what_strangers_put_into_streams_is_put_aside_and_nothing_else_suffers() {
    let world = World::new(server::shared());
    let mut raw = server::shared().raw();
    let key = |what: &str| format!("{{{}}}:{what}", world.options.world);
    let (mut west, mut east) = (Zone::claim(&world.world, WEST), Zone::claim(&world.world, EAST));
    let (mut chat, mut store) = (world.world.events("chat"), world.world.events("store"));
    let mut positions = world.world.positions(WEST);
    until("the zone is followed", || west.bus.is_followed());
    let streams = [
        key("zone:0:inbox"),
        key("zone:1:inbox"),
        key("events"),
        key("zone:0:position"),
    ];
    let mut runner = TestRunner::deterministic();
    let (mut put, mut heard, mut followed) = (BTreeMap::<String, usize>::new(), [Vec::new(), Vec::new()], Vec::new());
    for round in 1..=ROUNDS {
        for stream in &streams {
            add(&mut raw, stream, &foreign(&mut runner));
            *put.entry(stream.clone()).or_default() += 1;
        }
        assert_eq!(west.spawn(round), west.spawned());
        hand_over(&mut west, &mut east, round, round);
        west.bus.publish_positions(Positions {
            zone: WEST,
            lease: west.instance.lease,
            tick: Tick(round),
            is_whole: true,
            traced: Vec::new(),
            entities: Vec::new(),
        });
        until("the round is heard of", || {
            for (reader, heard) in [&mut chat, &mut store].into_iter().zip(&mut heard) {
                if let Some((entry, event)) = reader.try_next() {
                    reader.acknowledge(entry);
                    heard.push(entity_of(&event));
                }
            }
            followed.extend(positions.try_next().map(|positions| positions.tick.0));
            heard.iter().all(|heard| heard.last() == Some(&round)) && followed.last() == Some(&round)
        });
    }
    let all: Vec<u64> = (1..=ROUNDS).collect();
    assert_eq!(
        (&heard[0], &heard[1], &followed),
        (&all, &all, &all),
        "each once, in order"
    );

    // One that is well made, but that no zone has sent.
    let forged = west.transfer(ROUNDS + 1, EAST, west.record(ROUNDS + 1));
    let head = envelope::encode(None, &(forged.id, forged.to)).unwrap();
    add(&mut raw, &key("zone:1:inbox"), &[(b"e".to_vec(), head)]);
    *put.entry(key("zone:1:inbox")).or_default() += 1;
    let told = loop {
        let told = east.await_transfer();
        if told.id == forged.id {
            break told;
        }
    };
    assert_eq!(east.accept(&told), Some(Err(Refusal::NoTransfer)));

    let mut dead = StreamRangeReply::default();
    until("all that is foreign is put aside", || {
        dead = redis::cmd("XRANGE")
            .arg(key("dead"))
            .arg("-")
            .arg("+")
            .query(&mut raw)
            .unwrap();
        dead.ids.len() >= put.values().sum()
    });
    let mut aside = BTreeMap::<String, usize>::new();
    let mut reasons = BTreeMap::<String, usize>::new();
    for entry in &dead.ids {
        *aside.entry(entry.get("stream").unwrap()).or_default() += 1;
        *reasons.entry(entry.get("reason").unwrap()).or_default() += 1;
        assert!(entry.get::<Vec<u8>>("bytes").unwrap().len() <= 4 << 10);
        assert!(entry.get::<String>("entry").unwrap().contains('-'));
    }
    assert_eq!(aside, put, "each once");
    assert_eq!(reasons["no_such_transfer"], 1);
    assert!(reasons["garbage"] > 0 && reasons["unknown_version"] > 0, "{reasons:?}");
    for inbox in &streams[..2] {
        let length: usize = redis::cmd("XLEN").arg(inbox).query(&mut raw).unwrap();
        assert_eq!(length, 0, "nothing is left in an inbox");
    }
}

#[test]
fn dead_letters_are_kept_for_a_week_and_of_a_flood_its_beginning() {
    let world = World::new(server::shared());
    let mut raw = server::shared().raw();
    let [dead, inbox] = ["dead", "zone:0:inbox"].map(|what| format!("{{{}}}:{what}", world.options.world));
    let _west = Zone::claim(&world.world, WEST);
    let fill = |count: usize, age: Duration| {
        let script = "
            local ms = string.format('%.0f', redis.call('TIME')[1] * 1000 - ARGV[2])
            local id = ARGV[2] == '0' and '*' or ms .. '-*'
            for _ = 1, ARGV[1] do redis.call('XADD', KEYS[1], id, 'bytes', 'something') end";
        let mut fill = redis::cmd("EVAL");
        fill.arg(script).arg(1).arg(&dead).arg(count);
        fill.arg(age.as_millis() as u64)
            .exec(&mut server::shared().raw())
            .unwrap();
    };
    let mut length = |stream: &str| -> usize { redis::cmd("XLEN").arg(stream).query(&mut raw).unwrap() };
    // A stream takes away a hundred at once, or none.
    let (old, newer) = (100, 100);
    fill(old, DEAD_LETTERS_KEPT + Duration::from_secs(60));
    fill(newer, DEAD_LETTERS_KEPT - Duration::from_secs(60));
    let garbage = [(b"e".to_vec(), b"garbage".to_vec())];
    add(&mut server::shared().raw(), &inbox, &garbage);
    until("it is put aside, and what is too old is gone", || {
        length(&dead) == newer + 1
    });
    fill(DEAD_LETTERS_MAX - length(&dead), Duration::ZERO);
    add(&mut server::shared().raw(), &inbox, &garbage);
    until("it is taken away", || length(&inbox) == 0);
    let left = DEAD_LETTERS_MAX - 101..DEAD_LETTERS_MAX;
    assert!(
        left.contains(&length(&dead)),
        "the oldest make way, for they are days old"
    );
    fill(DEAD_LETTERS_MAX - length(&dead), Duration::ZERO);
    add(&mut server::shared().raw(), &inbox, &garbage);
    until("it is taken away", || length(&inbox) == 0);
    assert_eq!(length(&dead), DEAD_LETTERS_MAX, "there are enough of them");
}
