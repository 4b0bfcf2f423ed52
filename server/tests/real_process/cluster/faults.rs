//! What can befall a cluster, one at a time.

use std::{fs, path::PathBuf, thread, time::Duration};

use meridian_handoff::LEASE_TTL;

use super::{Cluster, ZONES, relays::Relay};
use crate::support::wait_until;

/// How long a swarm is watched: the fault is in the third second, and what it does must be over before the end.
const MEASURED: Duration = Duration::from_secs(14);
/// For faults that themselves take long.
const MEASURED_LONG: Duration = Duration::from_secs(22);

/// Longer than any zone may simulate on its last renewal.
const BEYOND_THE_LEASE: Duration = Duration::from_millis(LEASE_TTL.as_millis() as u64 * 3 / 2);

/// What a store that syncs its writes every second may lose when the power goes.
const UNSYNCED: Duration = Duration::from_secs(1);

/// Zones that a gateway has not heard for too long.
const ZONES_AWAY: &str = "meridian_gateway_zones_away";

/// The file that Valkey writes commands into.
fn commands(cluster: &Cluster) -> PathBuf {
    let folder = fs::read_dir(cluster.folder.path().join("valkey/appendonlydir")).unwrap();
    let mut files = folder.map(|file| file.unwrap().path());
    files
        .find(|file| file.to_string_lossy().ends_with(".incr.aof"))
        .expect("valkey writes a file of commands")
}

fn length(cluster: &Cluster) -> u64 {
    fs::metadata(commands(cluster)).unwrap().len()
}

/// Cuts the file of commands back to what it was, as if the rest had never reached the disk.
fn cut_back(cluster: &Cluster, bytes: u64) {
    let file = fs::OpenOptions::new().write(true).open(commands(cluster)).unwrap();
    file.set_len(bytes).unwrap();
}

#[test]
fn a_cluster_without_a_fault_hands_players_over_between_processes() {
    let mut cluster = Cluster::start();
    let report = cluster.under_a_swarm(Duration::from_secs(6), |_| {});
    cluster.assert_survived(&report);
    assert_eq!(report.bots.disconnected, 0, "{report:?}");
    assert_eq!(report.bots.connected, report.bots.requested);
    assert_eq!(report.respawns, Some(0));
}

#[test]
fn a_zone_that_is_killed_goes_on_from_what_was_written_down_when_it_is_started_again() {
    let mut cluster = Cluster::start();
    let report = cluster.under_a_swarm(MEASURED, |cluster| {
        cluster.process("north-west").kill();
        cluster.start_again("north-west");
    });
    cluster.assert_survived(&report);
    cluster.assert_all_facts_were_told();
}

#[test]
fn a_zone_that_is_killed_is_taken_over_by_another_instance_that_stood_by() {
    let mut cluster = Cluster::start();
    cluster.add_zone("spare", "south-east");
    let report = cluster.under_a_swarm(MEASURED, |cluster| {
        cluster.process("south-east").kill();
    });
    cluster.assert_survived(&report);
    cluster.assert_all_facts_were_told();
    let spare = cluster.process("spare");
    assert!(spare.log().contains("zone claimed"), "{}", spare.log());
}

#[test]
fn a_zone_that_hangs_beyond_its_lease_stands_by_when_another_instance_has_it_by_then() {
    let mut cluster = Cluster::start();
    cluster.add_zone("spare", "north-east");
    let report = cluster.under_a_swarm(MEASURED_LONG, |cluster| {
        let zombie = cluster.process("north-east");
        zombie.signal("STOP");
        thread::sleep(BEYOND_THE_LEASE * 2);
        zombie.signal("CONT");
    });
    cluster.assert_survived(&report);
    let zombie = cluster.process("north-east");
    assert!(zombie.is_running(), "{}", zombie.log());
    assert!(zombie.log().contains("this one stands by"), "{}", zombie.log());
}

#[test]
fn a_zone_that_hangs_beyond_its_lease_goes_on_if_nobody_has_taken_it() {
    let mut cluster = Cluster::start();
    let report = cluster.under_a_swarm(MEASURED_LONG, |cluster| {
        let zone = cluster.process("south-west");
        zone.signal("STOP");
        thread::sleep(BEYOND_THE_LEASE);
        zone.signal("CONT");
    });
    cluster.assert_survived(&report);
}

#[test]
fn valkey_is_killed_and_comes_back_without_its_newest_writes() {
    let mut cluster = Cluster::start();
    let report = cluster.under_a_swarm(MEASURED, |cluster| {
        let kept = length(cluster);
        thread::sleep(UNSYNCED);
        cluster.valkey.kill();
        assert!(length(cluster) > kept, "nothing was written that could be lost");
        cut_back(cluster, kept);
        cluster.valkey.start_again();
    });
    cluster.assert_survived(&report);
    assert!(cluster.logs().contains("says again what it has"), "{}", cluster.logs());
}

#[test]
fn while_valkey_is_away_for_long_the_world_stands_still_and_then_goes_on() {
    let mut cluster = Cluster::start();
    let report = cluster.under_a_swarm(MEASURED_LONG, |cluster| {
        cluster.valkey.signal("STOP");
        thread::sleep(BEYOND_THE_LEASE * 2);
        cluster.valkey.signal("CONT");
    });
    cluster.assert_survived(&report);
}

#[test]
fn a_zone_that_is_cut_off_from_valkey_stops_before_its_lease_has_ended_and_comes_back() {
    let mut cluster = Cluster::with(|cluster| {
        let relay = Relay::tcp(cluster.valkey.address());
        cluster.add_zone_over("south-west", &relay);
        vec![relay]
    });
    let report = cluster.under_a_swarm(MEASURED_LONG, |cluster| {
        assert!(!cluster.waits_for_its_lease("south-west"));
        cluster.relays[0].cut();
        thread::sleep(BEYOND_THE_LEASE * 2);
        assert!(cluster.waits_for_its_lease("south-west"), "{}", cluster.logs());
        cluster.relays[0].mend();
    });
    cluster.assert_survived(&report);
    assert!(!cluster.waits_for_its_lease("south-west"));
}

#[test]
fn a_zone_that_is_cut_off_from_a_gateway_is_frozen_there_and_comes_back() {
    let mut cluster = Cluster::with_parted_fabric("north-west");
    let report = cluster.under_a_swarm(MEASURED_LONG, |cluster| {
        // A gateway misses only whom it has heard.
        wait_until("all zones to be heard", || {
            cluster.metric("gateway-1", ZONES_AWAY) == 0.0
        });
        cluster.relays[0].cut();
        thread::sleep(Duration::from_secs(4));
        let away = cluster.metric("gateway-1", ZONES_AWAY);
        assert!(away > 0.0, "{}", cluster.logs());
        cluster.relays[0].mend();
    });
    cluster.assert_survived(&report);
    let gateway = cluster.process("gateway-1");
    assert!(gateway.log().contains("the zone is back"), "{}", gateway.log());
}

#[test]
fn players_of_a_gateway_that_is_killed_play_on_through_the_other() {
    let mut cluster = Cluster::start();
    let report = cluster.under_a_swarm(MEASURED, |cluster| {
        cluster.process("gateway-1").kill();
    });
    cluster.assert_survived(&report);
    assert!(report.bots.disconnected > 0, "some of the bots were on it");
}

#[test]
fn all_zones_are_restarted_one_after_another_under_players() {
    let mut cluster = Cluster::start();
    let report = cluster.under_a_swarm(Duration::from_secs(30), |cluster| {
        for zone in ZONES {
            cluster.process(zone).signal("TERM");
            let status = cluster.process(zone).await_exit();
            assert!(status.success(), "{zone} ends in order: {status}");
            cluster.start_again(zone);
            let url = cluster.processes[zone].url("admin", "/ready");
            wait_until("the zone", || crate::support::get(&url).status == 200);
        }
    });
    cluster.assert_survived(&report);
}
