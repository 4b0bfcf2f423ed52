//! What a store must be, and what is said of one that is not.

use meridian_bus::valkey::{Agreed, Scripts, ValkeyError, ValkeyOptions, WorldFacts};
use meridian_handoff::script::Refusal;
use meridian_ids::LeaseEpoch;
use std::time::{Duration, Instant};

use crate::server::{self, Server};
use crate::zone::{WEST, World, Zone, until};

/// As in the documentation of `meridian_bus::valkey`.
fn rule(world: &str) -> Vec<String> {
    let documentation = include_str!("../../src/valkey.rs");
    let rule = documentation
        .split("//! ACL SETUSER meridian on >PASSWORD ")
        .nth(1)
        .unwrap();
    let rule = rule
        .split("//! ```")
        .next()
        .unwrap()
        .replace("//!", "")
        .replace("{WORLD}", &format!("{{{world}}}"));
    rule.split_whitespace().map(str::to_owned).collect()
}

fn error(options: ValkeyOptions) -> ValkeyError {
    World::connect(options).err().expect("such a store will not do")
}

#[test]
fn a_user_who_may_do_what_is_documented_and_nothing_else_runs_a_world() {
    let server = Server::start(&["--save", ""]);
    let options = World::options(&server);
    let mut set_user = redis::cmd("ACL");
    set_user
        .arg("SETUSER")
        .arg("meridian")
        .arg("on")
        .arg(">hunter2")
        .arg(rule(&options.world));
    set_user.exec(&mut server.raw()).unwrap();
    let as_user = |password: &str, world: &str| ValkeyOptions {
        url: format!("redis://meridian:{password}@127.0.0.1:{}", server.port),
        world: world.to_owned(),
        ..options.clone()
    };
    let world = World::connect(as_user("hunter2", &options.world)).unwrap();
    let mut zone = Zone::claim(&world.world, WEST);
    assert_eq!(zone.spawn(1), zone.spawned());
    let mut events = world.world.events("chat");
    assert!(events.try_next().is_none());
    let _positions = world.world.positions(WEST);
    until("the zone is followed", || zone.bus.is_followed());
    assert!(world.runtime.block_on(world.world.server_time()).is_ok());

    assert_eq!(error(as_user("hunter3", &options.world)), ValkeyError::WrongPassword);
    let elsewhere = error(as_user("hunter2", "elsewhere"));
    assert!(matches!(elsewhere, ValkeyError::NoPermission(_)), "{elsewhere:?}");
    for command in ["-xautoclaim", "-evalsha", "-hset"] {
        redis::cmd("ACL")
            .arg("SETUSER")
            .arg("meridian")
            .arg(command)
            .exec(&mut server.raw())
            .unwrap();
        let less = error(as_user("hunter2", &options.world));
        assert!(matches!(less, ValkeyError::NoPermission(_)), "{less:?}");
        assert!(!less.to_string().contains("hunter2"));
        let again = command.replace('-', "+");
        redis::cmd("ACL")
            .arg("SETUSER")
            .arg("meridian")
            .arg(again)
            .exec(&mut server.raw())
            .unwrap();
    }
}

#[test]
fn over_tls_a_store_is_trusted_by_the_certificate_that_is_given_and_by_no_other() {
    let certified = || rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (own, other) = (certified(), certified());
    let folder = std::env::temp_dir().join(format!("meridian-bus-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let write = |name: &str, pem: String| {
        let path = folder.join(name);
        std::fs::write(&path, pem).unwrap();
        path.to_string_lossy().into_owned()
    };
    let certificate = write("certificate.pem", own.cert.pem());
    let key = write("key.pem", own.signing_key.serialize_pem());
    let port = server::free_port::free_port();
    let files = [
        "--tls-cert-file",
        &certificate,
        "--tls-ca-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
    ];
    let listens = [
        "--save",
        "",
        "--tls-port",
        &port.to_string(),
        "--tls-auth-clients",
        "no",
    ];
    let server = Server::start(&[&listens[..], &files].concat());
    let trusting = |certificate: &str| ValkeyOptions {
        url: format!("rediss://127.0.0.1:{port}/"),
        trusted_certificates: Some(certificate.as_bytes().to_vec()),
        ..World::options(&server)
    };
    let world = World::connect(trusting(&own.cert.pem())).unwrap();
    let mut zone = Zone::claim(&world.world, WEST);
    assert_eq!(zone.spawn(1), zone.spawned());
    let stranger = error(trusting(&other.cert.pem()));
    assert!(matches!(stranger, ValkeyError::Unreachable(_)), "{stranger:?}");
    let none = error(trusting("no certificate"));
    assert!(matches!(none, ValkeyError::Certificates(_)), "{none:?}");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_store_that_asks_for_a_password_is_not_entered_without() {
    let server = Server::start(&["--save", "", "--requirepass", "secret"]);
    assert_eq!(error(World::options(&server)), ValkeyError::WrongPassword);
}

#[test]
fn a_store_that_is_not_there_or_takes_no_writes_is_told_apart() {
    let mut server = Server::start(&["--save", ""]);
    let options = World::options(&server);
    let port = server::shared().port.to_string();
    redis::cmd("REPLICAOF")
        .arg("127.0.0.1")
        .arg(port)
        .exec(&mut server.raw())
        .unwrap();
    assert_eq!(error(options.clone()), ValkeyError::ReadOnlyReplica);
    server.kill();
    let gone = error(options);
    assert!(matches!(gone, ValkeyError::Unreachable(_)), "{gone:?}");
}

#[test]
fn a_world_of_another_layout_is_left_alone() {
    let options = World::options(server::shared());
    let meta = format!("{{{}}}:meta", options.world);
    redis::cmd("HSET")
        .arg(meta)
        .arg("layout")
        .arg("0")
        .exec(&mut server::shared().raw())
        .unwrap();
    let other = error(options);
    assert!(
        matches!(&other, ValkeyError::OtherLayout { found, .. } if found == "0"),
        "{other:?}"
    );
}

#[test]
fn a_worlds_rate_is_what_its_first_process_said_and_a_changed_document_is_told() {
    let World {
        world,
        options,
        runtime,
    } = World::new(server::shared());
    let facts = |document: &str, tick_rate_hz: u16| WorldFacts {
        document_hash: document.to_owned(),
        tick_rate_hz,
    };
    let agree = |document: &str, rate: u16| runtime.block_on(world.agree(&facts(document, rate)));
    let agreed = |other_document: Option<&str>| Agreed {
        epoch: Duration::ZERO,
        other_document: other_document.map(str::to_owned),
    };
    assert_eq!(agree("a", 60), Ok(agreed(None)));
    assert_eq!(agree("a", 60), Ok(agreed(None)));
    let other = ValkeyError::OtherTickRate { stored: 60, asked: 30 };
    assert_eq!(agree("b", 30), Err(other.clone()));
    assert!(other.to_string().contains("60") && other.to_string().contains("30"));
    assert_eq!(agree("b", 60), Ok(agreed(Some("a"))));
    assert_eq!(agree("b", 60), Ok(agreed(Some("a"))), "who asks does not change it");
    let adopted = runtime.block_on(world.adopt(&facts("b", 60)));
    assert_eq!(adopted, Ok(agreed(Some("a"))));
    assert_eq!(agree("b", 60), Ok(agreed(None)));
    drop(options);
}

#[test]
fn the_stores_time_is_told_with_the_moment_and_how_exact_it_is() {
    let World { world, runtime, .. } = World::new(server::shared());
    let told = runtime.block_on(world.server_time()).unwrap();
    // It runs on this machine, by this machine's clock.
    let here = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        - told.at.elapsed();
    let difference = here.abs_diff(told.since_epoch);
    let clocks_differ_by = Duration::from_millis(5);
    assert!(
        difference <= told.uncertainty + clocks_differ_by,
        "{difference:?} with {told:?}"
    );
    assert!(told.at <= Instant::now());
}

#[test]
fn a_world_that_begins_settles_first_for_it_may_have_lost_everything() {
    let options = ValkeyOptions {
        settling: Duration::from_secs(3_600),
        ..World::options(server::shared())
    };
    let world = World::connect(options).unwrap();
    let mut bus = world.world.connect_zone(WEST);
    let claim = meridian_handoff::script::Command::ClaimZone {
        zone: WEST,
        name: "one".to_owned(),
        held: None,
    };
    bus.submit(meridian_handoff::script::Ticket(1), claim);
    let mut answer = None;
    until("there is an answer", || {
        answer = bus.try_receive();
        answer.is_some()
    });
    let refused = meridian_bus::Heard::Answer(meridian_handoff::script::Ticket(1), Some(Err(Refusal::Settling)));
    assert_eq!(answer, Some(refused));
}

#[test]
fn time_in_a_world_of_hand_made_time_passes_by_hand_alone() {
    let options = World::options(server::shared());
    let mut scripts = Scripts::begin(&options, LeaseEpoch(40)).unwrap();
    scripts.pass_time(Duration::from_secs(5)).unwrap();
    let world = World::connect(options).unwrap();
    let mut zone = Zone::claim(&world.world, WEST);
    assert_eq!(
        zone.instance.lease,
        LeaseEpoch(41),
        "no generation was begun by a real clock"
    );
    assert_eq!(zone.spawn(1), zone.spawned());
    let dump = scripts.dump().unwrap();
    assert_eq!(dump.owners.len(), 1);
    assert_eq!(dump.records[&WEST], [zone.record(1)]);
}

#[test]
fn a_store_that_never_syncs_its_file_is_refused_for_no_zone_would_ever_start() {
    let server = Server::start(&["--save", "", "--appendonly", "yes", "--appendfsync", "no"]);
    let options = World::options(&server);
    let refused = error(options.clone()).to_string();
    assert!(refused.contains("appendfsync everysec"), "{refused}");
    // A user who may not ask is not told so.
    let mut set_user = redis::cmd("ACL");
    set_user
        .arg("SETUSER")
        .arg("meridian")
        .arg("on")
        .arg(">hunter2")
        .arg(rule(&options.world));
    set_user.exec(&mut server.raw()).unwrap();
    let url = format!("redis://meridian:hunter2@127.0.0.1:{}", server.port);
    World::connect(ValkeyOptions { url, ..options.clone() }).unwrap();
    // Without a file there is nothing to sync.
    let set = |name: &str, value: &str| {
        redis::cmd("CONFIG")
            .arg("SET")
            .arg(name)
            .arg(value)
            .exec(&mut server.raw())
    };
    set("appendonly", "no").unwrap();
    World::connect(options.clone()).unwrap();
    set("appendonly", "yes").unwrap();
    assert_eq!(error(options.clone()).to_string(), refused);
    for enough in ["everysec", "always"] {
        set("appendfsync", enough).unwrap();
        World::connect(options.clone()).unwrap();
    }
}
