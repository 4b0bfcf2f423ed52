//! Who does not belong to a cluster, or not as it is set up: turned away in words that say what to do, while everybody else plays on.

use std::{
    collections::BTreeSet,
    fs,
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use super::{Cluster, ZONES, processes::Process};
use crate::noise::Noise;
use crate::support::{NETCODE_KEY, demo_world, run_in, wait_until};

/// Datagrams of noise sent to each zone's fabric.
const NOISE_DATAGRAMS: usize = 4_000;

/// What an envelope of a version that nobody knows begins with: the version comes first, little endian.
const UNKNOWN_VERSION: [u8; 8] = [0xff, 0x7f, 0, 0, 1, 2, 3, 4];

impl Cluster {
    /// A process that is not one of the cluster's.
    fn stranger(&self, instance: &str, certificates: &str, world: &str, arguments: &[&str]) -> Process {
        let mut process = Process::new(&self.folder, instance);
        process
            .arguments(&["--instance", instance, "--bus", &self.valkey.url()])
            .arguments(&["--world", world, "--certificates", certificates])
            .arguments(arguments)
            .environment("MERIDIAN_NETCODE__PRIVATE_KEY", NETCODE_KEY);
        process.start(&self.folder);
        process
    }

    /// One that ends by itself, and what it says of that.
    fn turned_away(&self, instance: &str, certificates: &str, world: &str, arguments: &[&str]) -> String {
        let mut process = self.stranger(instance, certificates, world, arguments);
        assert_eq!(process.await_exit().code(), Some(1), "{}", process.log());
        process.log()
    }

    /// A file of the demo world in which something is another.
    fn other_world(&self) -> String {
        let text = fs::read_to_string(demo_world()).unwrap();
        let changed = text.replacen("radius_m = ", "radius_m = 1", 1);
        assert_ne!(text, changed, "the demo world has a radius");
        let file = self.folder.path().join("other_world.toml");
        fs::write(&file, changed).unwrap();
        file.to_str().unwrap().to_owned()
    }

    /// Sends noise to where the zones wait for each other and for gateways, until each has read some of it: it says which versions it knows.
    fn send_noise(&self) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let zones: BTreeSet<SocketAddr> = ZONES.iter().map(|zone| self.processes[*zone].fabric()).collect();
        let (mut noise, mut answer, mut have_answered) = (Noise::new(4), [0; 2_048], BTreeSet::new());
        let mut burst = |datagrams: usize| {
            for index in 0..datagrams {
                let datagram = if index.is_multiple_of(2) {
                    noise.quic_initial()
                } else {
                    noise.datagram()
                };
                for zone in &zones {
                    socket.send_to(&datagram, zone).unwrap();
                }
                while let Ok((bytes, zone)) = socket.recv_from(&mut answer) {
                    // A long header and version 0: RFC 9000, section 17.2.1.
                    if bytes > 5 && answer[0] & 0x80 != 0 && answer[1..5] == [0; 4] {
                        have_answered.insert(zone);
                    }
                }
            }
            have_answered == zones
        };
        burst(NOISE_DATAGRAMS);
        wait_until("every zone to read some of the noise", || burst(2));
    }

    /// Writes to each stream and hash of the world what no process of it would.
    fn write_garbage(&self) {
        let client = redis::Client::open(format!("redis://{}/", self.valkey.address())).unwrap();
        let mut connection = client.get_connection().unwrap();
        let metas: Vec<String> = redis::cmd("KEYS").arg("*:meta").query(&mut connection).unwrap();
        let [meta] = &metas[..] else {
            panic!("one world, not {metas:?}");
        };
        let world = meta.strip_suffix("meta").unwrap();
        let mut write = |key: &str, field: &str, value: &[u8]| {
            let mut add = redis::cmd("XADD");
            add.arg(format!("{world}{key}")).arg("*").arg(field).arg(value);
            add.exec(&mut connection).unwrap();
        };
        for zone in 0..ZONES.len() {
            for stream in ["inbox", "position"] {
                for value in [&UNKNOWN_VERSION[..], b"", b"garbage", &[0xff; 20_000]] {
                    write(&format!("zone:{zone}:{stream}"), "e", value);
                    write(&format!("zone:{zone}:{stream}"), "other", value);
                }
            }
        }
        for value in [&UNKNOWN_VERSION[..], b"garbage", &[0xff; 20_000]] {
            write("events", "e", value);
        }
        for value in ["1e300", "inf", "", "garbage"] {
            let mut set = redis::cmd("HSET");
            set.arg(format!("{world}services"))
                .arg(format!("stranger {value}"))
                .arg(value);
            set.exec(&mut connection).unwrap();
        }
    }
}

#[test]
fn strangers_are_turned_away_and_garbage_is_put_aside_while_everybody_plays_on() {
    let mut cluster = Cluster::start();
    let report = cluster.under_a_swarm(Duration::from_secs(12), |cluster| {
        cluster.write_garbage();
        cluster.send_noise();
        let (world, other_world) = (demo_world(), cluster.other_world());
        let zone = &["--roles", "zone", "--zone", "north-west"][..];

        let told = cluster.turned_away("other-world", "certificates", &other_world, zone);
        assert!(told.contains("is another than the one that"), "{told}");

        let gateways_only = [
            "certs",
            "--authority",
            "authority",
            "--out",
            "gateways-only",
            "--roles",
            "gateway",
        ];
        assert!(run_in(&cluster.folder, &gateways_only).status.success());
        let told = cluster.turned_away("wrong-role", "gateways-only", &world, zone);
        assert!(told.contains("does not allow the role zone"), "{told}");

        let other_rate = &[zone, &["--tick-rate", "30"]].concat();
        let told = cluster.turned_away("other-rate", "certificates", &world, other_rate);
        assert!(told.contains("ticks per second"), "{told}");

        // Another authority's certificates are found out by who is dialled.
        let others = ["certs", "--authority", "others", "--out", "of-others"];
        assert!(run_in(&cluster.folder, &others).status.success());
        let mut foreign = cluster.stranger("foreign", "of-others", &world, &["--roles", "gateway"]);
        wait_until("the foreign gateway to be refused", || {
            foreign.log().contains("a zone cannot be linked")
        });
        foreign.kill();
    });
    cluster.assert_survived(&report);
    for zone in ZONES {
        let put_aside = cluster.metric(zone, "meridian_bus_dead_letters_total");
        assert!(put_aside >= 8.0, "{zone} has put {put_aside} entries aside");
    }
    let status = cluster.status();
    assert!(ZONES.iter().all(|zone| status.contains(zone)), "{status}");
    assert!(!status.contains("nobody"), "{status}");
}

#[test]
fn of_two_processes_of_one_name_one_ends_and_says_why() {
    let mut cluster = Cluster::start();
    let zone = &["--roles", "zone", "--zone", "south-west"][..];
    let _twin = cluster.stranger("south-west", "certificates", &demo_world(), zone);
    let first = cluster.process("south-west");
    assert_eq!(first.await_exit().code(), Some(1));
    let told = first.log();
    assert!(
        told.contains("under this one's name") && told.contains("--instance"),
        "{told}"
    );
}
