//! Directories: the same for one process and for several.

use std::net::SocketAddr;
use std::time::Duration;

use meridian_bus::directory::{
    Directory, DirectoryError, INSTANCE_BYTES_MAX, InProcessDirectory, SERVICE_TTL, Service, ServiceDetail, ServiceKind,
};
use meridian_ids::LeaseEpoch;

use crate::server;
use crate::zone::{EAST, WEST, World, until};

fn service(kind: ServiceKind, instance: &str) -> Service {
    let at = |port: u16| Some(SocketAddr::from(([127, 0, 0, 1], port)));
    Service {
        kind,
        instance: instance.to_owned(),
        fabric: at(1),
        public: None,
        admin: at(3),
        load: 4,
        detail: ServiceDetail::default(),
    }
}

fn zone(zone: meridian_ids::ZoneId, lease: u64) -> ServiceKind {
    let lease = LeaseEpoch(lease);
    ServiceKind::Zone { zone, lease }
}

fn listed(directory: &dyn Directory) -> Vec<Service> {
    let listed = directory.list().unwrap();
    assert!(listed.iter().all(|listed| listed.renewed_ago <= SERVICE_TTL));
    listed.into_iter().map(|listed| listed.service).collect()
}

fn what_is_announced_is_listed_until_it_is_dropped(directory: &dyn Directory) {
    assert_eq!(listed(directory), []);
    let (gateway, west) = (service(ServiceKind::Gateway, "one"), service(zone(WEST, 7), "one"));
    let east = service(zone(EAST, 7), "one");
    let announced_gateway = directory.announce(gateway.clone()).unwrap();
    let announced_west = directory.announce(west.clone()).unwrap();
    let announced_east = directory.announce(east.clone()).unwrap();
    assert_eq!(listed(directory), [gateway.clone(), west, east.clone()]);
    drop(announced_west);
    assert_eq!(listed(directory), [gateway.clone(), east], "at once");
    drop((announced_gateway, announced_east));
    assert_eq!(listed(directory), []);
    until("the snapshot knows", || directory.snapshot().is_empty());
}

fn who_says_how_it_does_is_listed_so(directory: &dyn Directory) {
    let auth = service(ServiceKind::Auth, "auth");
    let announced = directory.announce(auth.clone()).unwrap();
    let detail = ServiceDetail {
        tick_p50_us: 1,
        tick_p99_us: 2,
        entities: 3,
        players: 4,
        lag_ticks: 5,
    };
    announced.update(9, detail);
    let updated = Service {
        load: 9,
        detail,
        ..auth
    };
    until("it is listed so", || {
        listed(directory) == std::slice::from_ref(&updated)
    });
    until("the snapshot knows", || {
        directory.snapshot().iter().map(|listed| &listed.service).eq([&updated])
    });
}

fn who_comes_again_under_the_same_name_takes_the_place_and_keeps_it(directory: &dyn Directory) {
    let (old, new) = (service(zone(WEST, 7), "one"), service(zone(WEST, 8), "one"));
    let announced_old = directory.announce(old).unwrap();
    assert_eq!(listed(directory).len(), 1);
    let announced_new = directory.announce(new.clone()).unwrap();
    drop(announced_old);
    until("the new one is listed", || {
        listed(directory) == std::slice::from_ref(&new)
    });
    drop(announced_new);
    assert_eq!(listed(directory), []);
}

fn a_name_that_is_too_long_is_not_announced(directory: &dyn Directory) {
    let long = service(ServiceKind::Chat, &"x".repeat(INSTANCE_BYTES_MAX + 1));
    assert_eq!(directory.announce(long).err(), Some(DirectoryError::TooLong));
    let longest = service(ServiceKind::Chat, &"x".repeat(INSTANCE_BYTES_MAX));
    let _announced = directory.announce(longest.clone()).unwrap();
    assert_eq!(listed(directory), [longest]);
}

macro_rules! both {
    ($($test:ident),* $(,)?) => {
        mod in_process {
            $(
                #[test]
                fn $test() {
                    super::$test(&super::InProcessDirectory::default());
                }
            )*
        }
        mod in_valkey {
            $(
                #[test]
                fn $test() {
                    let world = super::World::new(super::server::shared());
                    super::$test(&world.world.directory());
                }
            )*
        }
    };
}

both!(
    what_is_announced_is_listed_until_it_is_dropped,
    who_says_how_it_does_is_listed_so,
    who_comes_again_under_the_same_name_takes_the_place_and_keeps_it,
    a_name_that_is_too_long_is_not_announced,
);

#[test]
fn who_dies_is_listed_no_more_when_its_time_is_up_and_who_lives_is_for_longer_than_that() {
    let (dying, living) = (World::new(server::shared()), server::shared());
    let living = World::connect(meridian_bus::valkey::ValkeyOptions {
        url: living.url(),
        ..dying.options.clone()
    })
    .unwrap();
    let _dead = dying
        .world
        .directory()
        .announce(service(ServiceKind::Gateway, "dead"))
        .unwrap();
    let alive = service(ServiceKind::Gateway, "alive");
    let _alive = living.world.directory().announce(alive.clone()).unwrap();
    let directory = living.world.directory();
    until("both are listed", || listed(&directory).len() == 2);
    dying.runtime.shutdown_background();
    until("one is", || listed(&directory) == std::slice::from_ref(&alive));
    assert!(
        directory
            .list()
            .unwrap()
            .iter()
            .all(|listed| listed.renewed_ago < Duration::from_secs(1))
    );
}

#[test]
fn while_the_store_is_away_the_last_that_was_known_is_told() {
    let mut server = server::Server::start(&["--save", ""]);
    let world = World::new(&server);
    let directory = world.world.directory();
    let gateway = service(ServiceKind::Gateway, "one");
    let _announced = directory.announce(gateway.clone()).unwrap();
    until("the snapshot knows", || directory.snapshot().len() == 1);
    server.kill();
    until("the store is away", || directory.list().is_err());
    assert_eq!(
        directory.snapshot().first().map(|listed| listed.service.clone()),
        Some(gateway.clone())
    );
    server.start_again();
    until("it is listed again", || {
        directory
            .list()
            .is_ok_and(|listed| listed.iter().any(|listed| listed.service == gateway))
    });
}

#[test]
fn what_strangers_list_takes_the_directory_from_nobody() {
    let world = World::new(server::shared());
    let mut raw = server::shared().raw();
    let services = format!("{{{}}}:services", world.options.world);
    let gateway = service(ServiceKind::Gateway, "one");
    let _announced = world.world.directory().announce(gateway.clone()).unwrap();
    until("it is listed", || listed(&world.world.directory()).len() == 1);
    let (seconds, _): (u64, u64) = redis::cmd("TIME").query(&mut raw).unwrap();
    let in_time = |seconds: u64| format!("{:016}{}", seconds * 1_000_000, "0".repeat(16)).into_bytes();
    let never_right = [
        b"1e300".to_vec(),
        b"1e300           0000000000000000something".to_vec(),
        b"inf".to_vec(),
        b"nan".to_vec(),
        b"0x7fffffffffffff".to_vec(),
        b"-000000000000001".to_vec(),
        b"text".to_vec(),
        Vec::new(),
        in_time(seconds)[..20].to_vec(),
        [
            in_time(seconds + 3_600),
            meridian_events::envelope::encode(None, &gateway).unwrap(),
        ]
        .concat(),
        in_time(9_999_999_999),
    ];
    for (number, value) in never_right.iter().enumerate() {
        redis::cmd("HSET")
            .arg(&services)
            .arg(format!("bad-{number}"))
            .arg(value)
            .exec(&mut raw)
            .unwrap();
        assert_eq!(
            listed(&world.world.directory()),
            std::slice::from_ref(&gateway),
            "with {value:?}"
        );
    }
    let names: Vec<String> = redis::cmd("HKEYS").arg(&services).query(&mut raw).unwrap();
    assert_eq!(names, ["gateway/one"], "what cannot be right is gone");
    // What may be right for another version is left until its time is up, and nobody minds it.
    let other_version = [in_time(seconds + 1), vec![9, 9, 1, 2, 3]].concat();
    for value in [other_version, in_time(seconds + 1)] {
        redis::cmd("HSET")
            .arg(&services)
            .arg("other")
            .arg(value)
            .exec(&mut raw)
            .unwrap();
        assert_eq!(listed(&world.world.directory()), std::slice::from_ref(&gateway));
    }
    until("the snapshot knows", || world.world.directory().snapshot().len() == 1);
}
