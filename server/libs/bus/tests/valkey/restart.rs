//! A store that loses its power and its newest writes.

use meridian_handoff::script::{Command, Done, Record, Refusal};
use meridian_ids::{EntityEpoch, WorldEntityId};

use crate::server::Server;
use crate::zone::{EAST, WEST, World, Zone, until};

/// Cuts the file of commands back to what it was, as if the rest had never reached the disk.
fn cut_back(server: &Server, bytes: u64) {
    let file = std::fs::OpenOptions::new().write(true).open(commands(server)).unwrap();
    file.set_len(bytes).unwrap();
}

fn commands(server: &Server) -> std::path::PathBuf {
    let folder = std::fs::read_dir(server.folder.join("appendonlydir")).unwrap();
    let mut files = folder.map(|file| file.unwrap().path());
    files
        .find(|file| file.to_string_lossy().ends_with(".incr.aof"))
        .expect("the server writes a file of commands")
}

/// Says to the restarted store what the zone had.
fn assert_zone(
    zone: &mut Zone,
    owned: Vec<Record>,
    departed: Vec<meridian_handoff::script::Transfer>,
) -> Vec<(WorldEntityId, EntityEpoch)> {
    let by = zone.instance;
    let name = "one".to_owned();
    let retired = Vec::new();
    let assertion = Command::Assert {
        by,
        name,
        owned,
        departed,
        retired,
    };
    let mut kept = Vec::new();
    until("the assertion is answered", || match zone.ask(assertion.clone()) {
        Some(Ok(Done::Asserted { lease, owned })) => {
            zone.instance.lease = lease;
            kept = owned;
            true
        }
        None => false,
        other => panic!("an assertion is answered by what was kept, not by {other:?}"),
    });
    kept
}

#[test]
fn what_the_disk_has_lost_living_zones_say_again_over_connections_that_come_back() {
    let mut server = Server::start(&["--save", "", "--appendonly", "yes", "--appendfsync", "always"]);
    let world = World::new(&server);
    let (mut west, mut east) = (Zone::claim(&world.world, WEST), Zone::claim(&world.world, EAST));
    let before = west.generation();
    assert_eq!(west.spawn(1), west.spawned());
    assert_eq!(west.spawn(2), west.spawned());
    let kept = std::fs::metadata(commands(&server)).unwrap().len();

    // What is lost: 1 went to East, 3 came into the world.
    let departed = west.transfer(1, EAST, west.record(1));
    assert_eq!(
        west.ask(Command::Transfer(departed.clone())),
        Some(Ok(Done::Transferred))
    );
    let arrived = east.await_transfer();
    let owned = arrived.entities();
    assert_eq!(east.accept(&arrived), Some(Ok(Done::Accepted { owned })));
    assert_eq!(west.spawn(3), west.spawned());
    server.kill();
    cut_back(&server, kept);
    assert_eq!(west.ask(west.renewal()), None, "nobody knows");
    server.start_again();

    for zone in [&mut west, &mut east] {
        let refused = zone.renew_until_answered();
        assert!(
            matches!(refused, Err(Refusal::NewGeneration(generation)) if generation > before),
            "{refused:?}"
        );
    }
    let (second, third) = (west.record(2), west.record(3));
    let kept = assert_zone(&mut east, arrived.records.clone(), Vec::new());
    let after = east.generation();
    assert!(after > before);
    assert_eq!(kept, [(WorldEntityId(1), EntityEpoch(2).in_generation(after))]);
    let kept = assert_zone(&mut west, vec![second, third], vec![departed]);
    assert_eq!(west.generation(), after, "the generation rises once");
    assert_eq!(kept.iter().map(|(entity, _)| entity.0).collect::<Vec<_>>(), [2, 3]);
    assert!(west.renew_until_answered().is_ok() && east.renew_until_answered().is_ok());

    // What travels now is told as before, also over a connection that was made before.
    let again = west.transfer(2, EAST, west.record(3));
    assert_eq!(west.ask(Command::Transfer(again.clone())), Some(Ok(Done::Transferred)));
    assert_eq!(east.await_transfer(), again);
}

fn seconds_of_generations() -> u32 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    u32::try_from(now.as_secs() - 1_600_000_000).unwrap()
}

#[test]
fn a_store_that_has_lost_everything_begins_a_higher_generation_and_the_living_go_on() {
    let mut server = Server::start(&["--save", "", "--appendonly", "no"]);
    let world = World::new(&server);
    let mut west = Zone::claim(&world.world, WEST);
    let before = west.generation();
    assert_eq!(west.spawn(1), west.spawned());
    server.kill();
    // A store without any memory counts generations by seconds.
    until("the world's first second is over", || {
        seconds_of_generations() > before.0
    });
    server.start_again();
    let refused = west.renew_until_answered();
    assert!(matches!(refused, Err(Refusal::NewGeneration(_))), "{refused:?}");
    let record = west.record(1);
    let kept = assert_zone(&mut west, vec![record], Vec::new());
    assert!(west.generation() > before);
    assert_eq!(
        kept,
        [(WorldEntityId(1), EntityEpoch(1).in_generation(west.generation()))]
    );
}

#[test]
fn a_new_instance_is_told_of_its_lease_when_the_store_cannot_lose_it_any_more() {
    let server = Server::start(&["--save", "", "--appendonly", "yes", "--appendfsync", "everysec"]);
    let world = World::new(&server);
    let mut west = Zone::claim(&world.world, WEST);
    let sync = |when: &str| {
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg("appendfsync").arg(when);
        set.exec(&mut server.raw()).unwrap();
    };
    let claim = Command::ClaimZone {
        zone: WEST,
        name: "one".to_owned(),
        held: None,
    };
    // The file is written, and nobody sees to it that it gets to the disk.
    sync("no");
    assert_eq!(
        west.ask(claim.clone()),
        None,
        "nobody knows whether it would be there after a power cut"
    );
    assert_eq!(
        west.ask(west.renewal()),
        Some(Err(Refusal::Fenced)),
        "it is done all the same"
    );
    sync("everysec");
    let claimed = west.ask(claim);
    let Some(Ok(Done::Claimed { lease, .. })) = claimed else {
        panic!("the zone is free, and yet {claimed:?}");
    };
    assert_eq!(lease.count(), west.instance.lease.count() + 2);
}

#[test]
fn a_new_instance_waits_until_as_many_replicas_as_it_is_told_have_its_lease_on_their_disks() {
    let with_file = ["--save", "", "--appendonly", "yes", "--appendfsync", "always"];
    let (primary, replica) = (Server::start(&with_file), Server::start(&with_file));
    let options = meridian_bus::valkey::ValkeyOptions {
        replicas: 1,
        ..World::options(&primary)
    };
    let world = World::connect(options).unwrap();
    let mut early = Zone::unclaimed(&world.world, WEST);
    assert_eq!(early.ask(early.claim_command(None)), None, "there is no replica");

    redis::cmd("REPLICAOF")
        .arg("127.0.0.1")
        .arg(primary.port)
        .exec(&mut replica.raw())
        .unwrap();
    let west = Zone::claim(&world.world, WEST);
    let key = format!("{{{}}}:zone:0:lease", world.options.world);
    let fence: String = redis::cmd("HGET")
        .arg(key)
        .arg("fence")
        .query(&mut replica.raw())
        .unwrap();
    assert_eq!(fence, format!("{:016x}", west.instance.lease.0), "it is at the replica");
}
