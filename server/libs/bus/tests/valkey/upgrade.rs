//! A process that meets what a newer one has written: it leaves it where it is, for one that can read it.

use std::time::Duration;

use meridian_bus::valkey::{RECORD_BYTES_MAX, ValkeyOptions};
use meridian_handoff::script::{Command, Done, Record, Refusal};
use meridian_ids::{EntityEpoch, Tick, WorldEntityId};
use redis::streams::StreamRangeReply;

use crate::server;
use crate::zone::{EAST, WEST, World, Zone, until};

type Fields = Vec<(String, Vec<u8>)>;

/// Leases that last as long as the test.
fn patient() -> ValkeyOptions {
    ValkeyOptions {
        lease_ttl: Duration::from_secs(600),
        ..World::options(server::shared())
    }
}

/// The entries of a stream and their fields.
fn entries(raw: &mut redis::Connection, key: &str) -> Vec<(String, Fields)> {
    let all: Vec<(String, Fields)> = redis::cmd("XRANGE").arg(key).arg("-").arg("+").query(raw).unwrap();
    all
}

fn add(raw: &mut redis::Connection, key: &str, entry: &str, fields: &Fields) {
    let mut add = redis::cmd("XADD");
    add.arg(key).arg(entry);
    for (name, value) in fields {
        add.arg(name).arg(value);
    }
    add.exec(raw).unwrap();
}

/// What a version writes of which nothing is known here: only the version says so.
fn newer(fields: &Fields, which: usize) -> Fields {
    let mut fields = fields.clone();
    let (_, value) = &mut fields[which];
    // A record begins with 16 digits for the scripts.
    let at = if which == 0 { 0 } else { 16 };
    value[at] = 0xff;
    fields
}

/// Puts `fields` in place of an entry, as if they had been written so.
fn put_in_place(raw: &mut redis::Connection, key: &str, entry: &str, fields: &Fields) {
    redis::cmd("DEL").arg(key).exec(raw).unwrap();
    add(raw, key, entry, fields);
}

fn a_transfer_that_only_a_newer_version_reads_waits_for_it(which: usize) {
    let world = World::connect(patient()).unwrap();
    let mut raw = server::shared().raw();
    let key = |what: &str| format!("{{{}}}:{what}", world.options.world);
    let inbox = key("zone:1:inbox");
    let (mut west, east) = (Zone::claim(&world.world, WEST), Zone::claim(&world.world, EAST));
    // Nobody reads East's inbox: its lease goes on.
    drop(east);
    for entity in [1, 2] {
        assert_eq!(west.spawn(entity), west.spawned());
    }
    let moved = west.transfer(1, EAST, west.record(1));
    assert_eq!(west.ask(Command::Transfer(moved.clone())), Some(Ok(Done::Transferred)));
    let (entry, fields) = entries(&mut raw, &inbox).remove(0);
    put_in_place(&mut raw, &inbox, &entry, &newer(&fields, which));

    // A process of this version.
    let mut east = Zone::claim(&world.world, EAST);
    let behind = west.transfer(2, EAST, west.record(2));
    assert_eq!(west.ask(Command::Transfer(behind.clone())), Some(Ok(Done::Transferred)));
    assert_eq!(east.await_transfer(), behind, "what is behind it comes in");
    let owned = behind.entities();
    assert_eq!(east.accept(&behind), Some(Ok(Done::Accepted { owned })));
    until("it is with nobody", || {
        let pending: (usize, redis::Value, redis::Value, redis::Value) =
            redis::cmd("XPENDING").arg(&inbox).arg("zone").query(&mut raw).unwrap();
        pending.0 == 0
    });
    let left = entries(&mut raw, &inbox);
    assert_eq!(left, [(entry.clone(), newer(&fields, which))], "it stays where it is");
    let dead: StreamRangeReply = redis::cmd("XRANGE")
        .arg(key("dead"))
        .arg("-")
        .arg("+")
        .query(&mut raw)
        .unwrap();
    let [letter] = &dead.ids[..] else {
        panic!("one letter, not {:?}", dead.ids);
    };
    let said = |field: &str| letter.get::<String>(field);
    assert_eq!(said("entry"), Some(entry.clone()));
    assert_eq!(
        (said("stream"), said("stays")),
        (Some(inbox.clone()), Some("1".to_owned()))
    );
    assert_eq!(said("reason").as_deref(), Some("unknown_version"));
    drop(east);

    // A process that can read it: here by what it reads, for there is no newer version.
    put_in_place(&mut raw, &inbox, &entry, &fields);
    let mut east = Zone::claim(&world.world, EAST);
    assert_eq!(east.await_transfer(), moved);
    let owned = moved.entities();
    assert_eq!(east.accept(&moved), Some(Ok(Done::Accepted { owned })));
}

#[test]
fn a_transfer_whose_envelope_is_of_a_newer_version_waits_for_a_process_that_reads_it() {
    a_transfer_that_only_a_newer_version_reads_waits_for_it(0);
}

#[test]
fn a_transfer_with_a_record_of_a_newer_version_waits_for_a_process_that_reads_it() {
    a_transfer_that_only_a_newer_version_reads_waits_for_it(1);
}

fn too_long(record: Record) -> Record {
    let state = vec![0; RECORD_BYTES_MAX];
    Record { state, ..record }
}

#[test]
fn a_record_that_is_too_long_keeps_no_other_from_being_written_down() {
    let world = World::connect(patient()).unwrap();
    let mut west = Zone::claim(&world.world, WEST);
    for entity in [1, 2] {
        assert_eq!(west.spawn(entity), west.spawned());
    }
    let mut second = west.record(2);
    second.after = second.after + 1;
    let records = vec![too_long(west.record(1)), second.clone()];
    let by = west.instance;
    assert_eq!(
        west.ask(Command::Checkpoint {
            by,
            records,
            died: Vec::new()
        }),
        Some(Ok(Done::Checkpointed))
    );
    let recalled = west.ask(Command::Recall { by });
    let records = vec![west.record(1), second];
    assert_eq!(recalled, Some(Ok(Done::Recalled { records })));
}

#[test]
fn a_record_that_is_too_long_keeps_no_other_from_being_asserted() {
    let world = World::connect(patient()).unwrap();
    let mut west = Zone::claim(&world.world, WEST);
    for entity in [1, 2, 3] {
        assert_eq!(west.spawn(entity), west.spawned());
    }
    let mut departed = west.transfer(1, EAST, west.record(3));
    departed.records[0] = too_long(departed.records[0].clone());
    let owned = vec![too_long(west.record(1)), west.record(2)];
    let (by, name, retired) = (west.instance, "one".to_owned(), Vec::new());
    let departed = vec![departed];
    let asserted = west.ask(Command::Assert {
        by,
        name,
        owned,
        departed,
        retired,
    });
    let lease = west.instance.lease;
    let owned = vec![(WorldEntityId(2), EntityEpoch(1).in_generation(west.generation()))];
    assert_eq!(asserted, Some(Ok(Done::Asserted { lease, owned })));
}

#[test]
fn a_transfer_that_can_never_be_sent_is_kept_and_a_spawn_is_not_known() {
    let world = World::connect(patient()).unwrap();
    let (mut west, _east) = (Zone::claim(&world.world, WEST), Zone::claim(&world.world, EAST));
    let by = west.instance;
    let record = too_long(west.record(1));
    assert_eq!(west.ask(Command::Spawn { by, record }), None);
    assert_eq!(west.spawn(1), west.spawned());
    let moved = west.transfer(1, EAST, too_long(west.record(1)));
    assert_eq!(west.ask(Command::Transfer(moved)), Some(Ok(Done::Kept)));
    let retire = Command::Retire {
        by,
        entities: vec![(WorldEntityId(1), west.record(1).epoch)],
        after: Tick(100),
    };
    assert_ne!(
        west.ask(retire),
        Some(Err(Refusal::NotOwner(WorldEntityId(1)))),
        "it is still the sender's"
    );
}
