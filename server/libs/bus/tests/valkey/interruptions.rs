//! Servers that pause, break connections or forget scripts; readers that die.

use std::time::{Duration, Instant};

use meridian_bus::EventReader;
use meridian_bus::directory::Directory;
use meridian_bus::valkey::ValkeyOptions;
use meridian_handoff::script::{Command, Done};

use crate::relay::Relay;
use crate::server::{self, Server};
use crate::zone::{PATIENCE, WEST, World, Zone, entity_of, until};

/// Waits for so many events, and acknowledges them.
fn hear(reader: &mut dyn EventReader, count: usize) -> Vec<u64> {
    let mut heard = Vec::new();
    let gives_up_at = Instant::now() + PATIENCE;
    while heard.len() < count {
        assert!(
            Instant::now() < gives_up_at,
            "of {count} events only {heard:?} are heard"
        );
        if let Some((entry, event)) = reader.try_next() {
            heard.push(entity_of(&event));
            reader.acknowledge(entry);
        }
        std::thread::yield_now();
    }
    heard
}

#[test]
fn while_the_server_stands_still_nothing_is_known_and_afterwards_everything_goes_on() {
    let server = Server::start(&["--save", ""]);
    let world = World::new(&server);
    let mut zone = Zone::claim(&world.world, WEST);
    let mut events = world.world.events("chat");
    server.signal("-STOP");
    let stood_still_since = Instant::now();
    let mut unknown = 0;
    while stood_still_since.elapsed() < Duration::from_secs(3) {
        assert_eq!(zone.tell(1), None, "nobody knows");
        unknown += 1;
    }
    assert!(unknown >= 2, "each is told after its time");
    server.signal("-CONT");
    assert_eq!(
        zone.renew_until_answered().err(),
        None,
        "the lease was nobody else's meanwhile"
    );
    assert_eq!(zone.tell(1), zone.spawned(), "once, whether or not it was done before");
    assert_eq!(zone.tell(2), zone.spawned());
    assert_eq!(hear(events.as_mut(), 2), [1, 2], "however often it was asked");
    assert!(events.try_next().is_none());
}

#[test]
fn connections_that_are_cut_come_back_by_themselves_and_events_are_told_once() {
    let server = Server::start(&["--save", ""]);
    let world = World::new(&server);
    let mut zone = Zone::claim(&world.world, WEST);
    let mut events = world.world.events("chat");
    let mut spawned = 0;
    for _ in 0..20 {
        redis::cmd("CLIENT")
            .arg("KILL")
            .arg("TYPE")
            .arg("normal")
            .exec(&mut server.raw())
            .unwrap();
        spawned += 1;
        until("the spawn is done", || zone.tell(spawned) == zone.spawned());
    }
    assert_eq!(
        hear(events.as_mut(), spawned as usize),
        (1..=spawned).collect::<Vec<_>>()
    );
    assert!(events.try_next().is_none());
}

#[test]
fn scripts_that_the_server_has_forgotten_are_told_it_again() {
    let server = Server::start(&["--save", ""]);
    let world = World::new(&server);
    let mut zone = Zone::claim(&world.world, WEST);
    redis::cmd("SCRIPT").arg("FLUSH").exec(&mut server.raw()).unwrap();
    // Unless another connection has told it them again by then, it is not done, and not sent again.
    let first = zone.spawn(1);
    assert!(first.is_none() || first == zone.spawned(), "{first:?}");
    assert_eq!(zone.spawn(1), zone.spawned());
}

#[test]
fn what_is_asked_now_and_then_is_asked_again_where_connections_are_cut_and_scripts_forgotten() {
    let server = Server::start(&["--save", ""]);
    let mut raw = server.raw();
    let mut order = |words: &[&str]| redis::cmd(words[0]).arg(&words[1..]).exec(&mut raw).unwrap();
    order(&["ACL", "SETUSER", "meridian", "on", ">secret", "~*", "+@all"]);
    let world = World::connect(ValkeyOptions {
        url: format!("redis://meridian:secret@127.0.0.1:{}/", server.port),
        ..World::options(&server)
    });
    let world = world.unwrap();
    let directory = world.world.directory();
    assert_eq!(directory.list(), Ok(Vec::new()));
    for _ in 0..5 {
        order(&["SCRIPT", "FLUSH"]);
        assert_eq!(directory.list(), Ok(Vec::new()), "it is told again at once");
        order(&["CLIENT", "KILL", "TYPE", "normal"]);
        until("the connection is there again", || directory.list().is_ok());
    }
    // Who is not let in for a while comes in afterwards.
    order(&["ACL", "SETUSER", "meridian", "off"]);
    order(&["CLIENT", "KILL", "TYPE", "normal"]);
    for _ in 0..4 {
        assert!(directory.list().is_err());
    }
    order(&["ACL", "SETUSER", "meridian", "on"]);
    until("the store lets it in", || directory.list().is_ok());
}

#[test]
fn a_connection_that_has_fallen_silent_is_given_up_for_another() {
    let server = Server::start(&["--save", ""]);
    let relay = Relay::to(server.port);
    let world = World::connect(ValkeyOptions {
        url: relay.url(),
        ..World::options(&server)
    });
    let world = world.unwrap();
    let directory = world.world.directory();
    let mut zone = Zone::claim(&world.world, WEST);
    for spawned in 1..=2 {
        relay.silence();
        until("the store is heard again", || directory.list().is_ok());
        until("the spawn is done", || zone.tell(spawned) == zone.spawned());
    }
}

#[test]
fn commands_are_done_in_order_however_many_are_handed_in() {
    let world = World::new(server::shared());
    let mut zone = Zone::claim(&world.world, WEST);
    let (by, count) = (zone.instance, 2_000);
    let spawns: Vec<Command> = (1..=count)
        .map(|entity| Command::Spawn {
            by,
            record: zone.record(entity),
        })
        .collect();
    let tickets: Vec<_> = spawns.into_iter().map(|spawn| zone.submit(spawn)).collect();
    let last = zone.submit(Command::Recall { by });
    for ticket in tickets {
        // Ids of one mint are only taken in their order.
        assert_eq!(zone.await_answer(ticket), zone.spawned());
    }
    let Some(Ok(Done::Recalled { records })) = zone.await_answer(last) else {
        panic!("the zone is told what it has");
    };
    assert_eq!(records.len() as u64, count);
}

#[test]
fn what_would_not_be_read_again_is_not_sent() {
    let world = World::new(server::shared());
    let mut zone = Zone::claim(&world.world, WEST);
    let mut record = zone.record(1);
    record.state = vec![0; meridian_bus::valkey::RECORD_BYTES_MAX];
    let by = zone.instance;
    assert_eq!(zone.ask(Command::Spawn { by, record }), None);
    assert_eq!(zone.spawn(1), zone.spawned());
}

#[test]
fn what_a_process_that_died_had_read_goes_to_another() {
    let dying = World::new(server::shared());
    let mut zone = Zone::claim(&dying.world, WEST);
    let mut reader = dying.world.events("store");
    for entity in 1..=2 {
        assert_eq!(zone.tell(entity), zone.spawned());
    }
    for _ in 0..2 {
        until("it is read", || reader.try_next().is_some());
    }
    let living = World::connect(dying.options.clone()).unwrap();
    let mut other = living.world.events("store");
    // Nothing of it runs any more; nothing is given back.
    dying.runtime.shutdown_background();
    assert_eq!(hear(other.as_mut(), 2), [1, 2]);
}

/// The names of a group's consumers.
fn consumers(raw: &mut redis::Connection, events: &str) -> Vec<String> {
    let consumers: redis::streams::StreamInfoConsumersReply = redis::cmd("XINFO")
        .arg("CONSUMERS")
        .arg(events)
        .arg("store")
        .query(raw)
        .unwrap();
    consumers.consumers.into_iter().map(|consumer| consumer.name).collect()
}

/// Reads for a consumer whose process the test is.
fn read_as(raw: &mut redis::Connection, events: &str, consumer: &str, count: usize) -> Vec<String> {
    let read: redis::streams::StreamReadReply = redis::cmd("XREADGROUP")
        .arg("GROUP")
        .arg("store")
        .arg(consumer)
        .arg("COUNT")
        .arg(count)
        .arg("STREAMS")
        .arg(events)
        .arg(">")
        .query(raw)
        .unwrap();
    read.keys
        .into_iter()
        .flat_map(|key| key.ids)
        .map(|entry| entry.id)
        .collect()
}

fn claim(raw: &mut redis::Connection, events: &str, consumer: &str, entries: &[String], idle_ms: u64) {
    redis::cmd("XCLAIM")
        .arg(events)
        .arg("store")
        .arg(consumer)
        .arg(0)
        .arg(entries)
        .arg("IDLE")
        .arg(idle_ms)
        .arg("JUSTID")
        .exec(raw)
        .unwrap();
}

#[test]
fn what_a_dead_reader_left_behind_many_entries_of_a_living_one_is_found() {
    const OF_THE_LIVING: u64 = 1_500;
    let world = World::new(server::shared());
    let mut raw = server::shared().raw();
    let events = format!("{{{}}}:events", world.options.world);
    let mut zone = Zone::claim(&world.world, WEST);
    for entity in 1..=OF_THE_LIVING + 2 {
        assert_eq!(zone.tell(entity), zone.spawned());
    }
    let length: u64 = redis::cmd("XLEN").arg(&events).query(&mut raw).unwrap();
    assert_eq!(length, OF_THE_LIVING + 2);
    redis::cmd("XGROUP")
        .arg("CREATE")
        .arg(&events)
        .arg("store")
        .arg(0)
        .exec(&mut raw)
        .unwrap();
    let living = read_as(&mut raw, &events, "living", OF_THE_LIVING as usize);
    let left_alone = read_as(&mut raw, &events, "dead", 2);
    claim(&mut raw, &events, "dead", &left_alone, 60_000);
    let mut reader = world.world.events("store");
    let mut heard = Vec::new();
    until("what the dead one left is heard", || {
        // It lives: it says so.
        claim(&mut raw, &events, "living", &living, 0);
        if let Some((entry, event)) = reader.try_next() {
            heard.push(entity_of(&event));
            reader.acknowledge(entry);
        }
        heard.len() == 2
    });
    assert_eq!(heard, [OF_THE_LIVING + 1, OF_THE_LIVING + 2]);
    // Who died and has left nothing is forgotten; who has something is not, nor who reads.
    until("the dead one is forgotten", || {
        claim(&mut raw, &events, "living", &living, 0);
        !consumers(&mut raw, &events).contains(&"dead".to_owned())
    });
    assert!(consumers(&mut raw, &events).contains(&"living".to_owned()));
    assert_eq!(consumers(&mut raw, &events).len(), 2, "the reader and the living one");
}
