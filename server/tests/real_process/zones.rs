//! Several zones in one process: each has its health, can be picked, stalls and panics on demand, and is audited.

use meridian_autopilot::ScenarioKind;
use meridian_loadgen::{
    audit::Auditor,
    scrape::Metrics,
    swarm::{self, SwarmOptions},
    timing::Timing,
};
use meridian_zone::CATCH_UP_TICKS_MAX;
use serde_json::Value;

use crate::{
    bot::{Bot, assert_they_play_on, drive_until_all_play},
    support::{Server, fails_saying, folder_with_world, get, post, run_in, wait_until},
    swarm::bots,
};

const FAULTS: &str = "fault_injection = true\n";

fn health_of(server: &Server, role: &str) -> (String, String) {
    let ready = get(&server.url("admin", "/ready")).json();
    let roles = ready["roles"].as_array().unwrap();
    let role = roles.iter().find(|health| health["role"] == role).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (text(&role["state"]), text(&role["detail"]))
}

#[test]
fn bots_cross_borders_and_the_audit_finds_nothing() {
    let server = Server::start_every_role("");
    let options = SwarmOptions {
        scenario: ScenarioKind::Border,
        warmup: std::time::Duration::from_secs(4),
        measure: std::time::Duration::from_secs(5),
        predict: true,
        ..bots(&server, 10)
    };
    let report = swarm::run(&options, &|_: &Timing| {}).unwrap();
    let (audit, handoffs) = (report.audit.unwrap(), report.handoffs);
    assert_eq!(
        (audit.duplicated, audit.lost, audit.epoch_went_back),
        (0, 0, 0),
        "{report:?}"
    );
    assert_eq!((audit.undecided, audit.unknown), (0, 0), "{report:?}");
    assert!(
        handoffs.count > Some(0) && handoffs.per_entity_per_second_max <= Some(5),
        "{handoffs:?}"
    );
    assert_eq!((report.bots.disconnected, report.respawns), (0, Some(0)), "{report:?}");
}

#[test]
fn a_zone_that_panics_is_started_again_and_the_process_says_so_and_lives_on() {
    let mut server = Server::start_every_role(FAULTS);
    let mut bots: Vec<Bot> = (0..4)
        .map(|index| Bot::join(&server, &format!("bot {index}")))
        .collect();
    drive_until_all_play(&mut bots);
    for zone in ["north-west", "1", "south-west", "south-east"] {
        let answer = post(&server.url("admin", &format!("/v1/fault/zones/{zone}/panic")), "");
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    wait_until("four restarts", || {
        server.metric("meridian_zone_restarts_total", &[]) >= 4.0
    });
    wait_until("health", || {
        ["north-west", "north-east", "south-west", "south-east"]
            .iter()
            .all(|zone| health_of(&server, &format!("zone {zone}")).0 == "ready")
    });
    assert_they_play_on(&server, &mut bots);
    assert_eq!(server.metric("meridian_zone_players", &[]), 4.0);
    assert!(
        server.log().contains("starts again from its records"),
        "{}",
        server.log()
    );
    assert_eq!(server.stop_with("TERM").code(), Some(0), "{}", server.log());
}

#[test]
fn faults_are_refused_unless_they_were_allowed_and_so_are_those_that_make_no_sense() {
    let server = Server::start_every_role("");
    let stall = |server: &Server, path: &str| post(&server.url("admin", path), "").status;
    assert_eq!(stall(&server, "/v1/fault/zones/0/stall?ms=100"), 404);
    drop(server);
    let server = Server::start_every_role(FAULTS);
    assert_eq!(stall(&server, "/v1/fault/zones/0/stall?ms=100"), 200);
    assert_eq!(stall(&server, "/v1/fault/zones/nowhere/stall?ms=100"), 404);
    assert_eq!(stall(&server, "/v1/fault/zones/0/stall?ms=100000000"), 400);
    assert_eq!(stall(&server, "/v1/fault/zones/0/stall"), 400);
}

/// What became of a zone's ticks, by its own count.
struct Ticks {
    simulated: u64,
    skipped: u64,
    overrun: u64,
}

impl Ticks {
    fn of(server: &Server, zone: &str) -> Self {
        let page = get(&server.url("admin", "/metrics")).body;
        let page = Metrics::parse(&page).unwrap();
        let count = |name: &str| page.sum(name, &[("zone", zone)]).unwrap_or(0.0) as u64;
        Self {
            simulated: count("meridian_zone_ticks_total"),
            skipped: count("meridian_zone_ticks_skipped_total"),
            overrun: count("meridian_zone_tick_overruns_total"),
        }
    }

    fn accounted_for(&self) -> u64 {
        self.simulated + self.skipped
    }
}

fn stall(server: &Server, zone: &str, ms: u64) {
    let answer = post(
        &server.url("admin", &format!("/v1/fault/zones/{zone}/stall?ms={ms}")),
        "",
    );
    assert_eq!(answer.status, 200, "{}", answer.body);
}

/// Ticks of a zone that were skipped, by a log in JSON.
fn skipped_by_the_log(server: &Server, zone: &str) -> u64 {
    let log = server.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let skips = lines.filter(|line| line["message"] == "ticks skipped after a stall" && line["zone"] == zone);
    skips.filter_map(|line| line["ticks"].as_u64()).sum()
}

#[test]
fn a_zone_that_stood_still_simulates_a_few_ticks_late_and_counts_and_names_all_that_it_skips() {
    const STALLED: &str = "north-west";
    const OTHER: &str = "south-east";
    let server = Server::start_every_role(&format!("{FAULTS}[log]\nformat = \"json\"\n"));
    let began = [STALLED, OTHER].map(|zone| Ticks::of(&server, zone).accounted_for());

    // After 75 ms at 60 Hz three ticks end when the next one is due already. On a busy machine it may be more than are caught up.
    let is_caught_up = (0..10).any(|_| {
        let before = Ticks::of(&server, STALLED);
        stall(&server, STALLED, 75);
        wait_until("ticks that were late", || {
            let now = Ticks::of(&server, STALLED);
            now.overrun >= before.overrun + 3 || now.skipped > before.skipped
        });
        Ticks::of(&server, STALLED).skipped == before.skipped
    });
    assert!(is_caught_up, "{}", server.log());

    // After 600 ms at least 34 ticks are due and not simulated.
    let before = Ticks::of(&server, STALLED);
    stall(&server, STALLED, 600);
    wait_until("skipped ticks", || {
        Ticks::of(&server, STALLED).skipped >= before.skipped + 34 - CATCH_UP_TICKS_MAX
    });
    wait_until("each skipped tick to be in the log", || {
        skipped_by_the_log(&server, STALLED) == Ticks::of(&server, STALLED).skipped
    });
    // All zones tick by one clock: none of its ticks is missing, and none is counted twice.
    wait_until("as many ticks as in another zone", || {
        let now = [STALLED, OTHER].map(|zone| Ticks::of(&server, zone).accounted_for());
        (now[0] - began[0]).abs_diff(now[1] - began[1]) <= CATCH_UP_TICKS_MAX
    });
}

#[test]
fn some_zones_of_a_world_can_be_run_alone_and_unknown_ones_are_named() {
    let server = Server::start_every_role("zones = [\"south-east\", \"north-east\"]\n");
    let ready = get(&server.url("admin", "/ready")).json();
    let roles: Vec<_> = ready["roles"]
        .as_array()
        .unwrap()
        .iter()
        .map(|health| health["role"].clone())
        .collect();
    assert_eq!(roles, ["zone north-east", "zone south-east", "gateway", "auth"]);
    let mut bots = vec![Bot::join(&server, "east")];
    drive_until_all_play(&mut bots);
    drop(server);
    let folder = folder_with_world("");
    let world = crate::support::demo_world();
    let arguments = [
        "--world",
        &world,
        "--zones",
        "north",
        "--http",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--rpc",
        "127.0.0.1:0",
    ];
    let output = run_in(&folder, &arguments);
    fails_saying(&output, "has no zone `north`; its zones are north-west, north-east");
}

#[test]
fn the_audit_tells_everything_first_and_then_each_tick() {
    use std::io::{BufRead, BufReader};
    let server = Server::start_every_role("");
    let body = ureq::get(server.url("admin", "/v1/audit")).call().unwrap().into_body();
    let lines = BufReader::new(body.into_reader()).lines().take(400);
    let mut auditor = Auditor::new(meridian_ids::TickRate::default());
    let mut whole = std::collections::BTreeSet::new();
    for line in lines {
        let line: meridian_events::AuditLine = serde_json::from_str(&line.unwrap()).unwrap();
        assert!(
            line.whole || whole.contains(&line.zone),
            "the first line of {} is whole",
            line.zone
        );
        whole.insert(line.zone);
        auditor.feed(&line);
    }
    assert_eq!(whole.len(), 4);
    assert_eq!(auditor.faults().count(), 0);
    assert_eq!(auditor.summary().entities, 14, "the crates of the demo world");
}
