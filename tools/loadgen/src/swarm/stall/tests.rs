use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;

use meridian_autopilot::ScenarioKind;

use super::*;
use crate::swarm::{Faults, demo_game};

const MS: Duration = Duration::from_millis(1);

fn world() -> WorldDefinition {
    WorldDefinition::parse(include_str!("../../../../../assets/data/world.toml"), "world.toml").unwrap()
}

fn options(zone: &str, seconds: u64) -> SwarmOptions {
    SwarmOptions {
        server: String::new(),
        admin: vec!["http://127.0.0.1:1/".to_owned()],
        bots: 4,
        measure: Duration::from_secs(seconds),
        warmup: Duration::ZERO,
        scenario: ScenarioKind::Camp,
        predict: false,
        probe_every: 100 * MS,
        seed: 1,
        game: demo_game(),
        faults: Faults {
            stall: Some(Stall {
                zone: zone.to_owned(),
                duration: 1_500 * MS,
            }),
            ..Faults::default()
        },
    }
}

fn stalled(options: &SwarmOptions) -> anyhow::Result<Option<StalledZone>> {
    let timing = Timing::start(options.bots, options.warmup, options.measure);
    StalledZone::new(options, &world(), &Arc::new(world().zone_map()), &timing)
}

fn refused(options: &SwarmOptions) -> String {
    stalled(options)
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default()
}

/// A server that answers one request with a status, and gives the request's first line.
fn admin(status: &'static str) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut request, mut buffer) = (Vec::new(), [0; 1_024]);
        while !request.windows(4).any(|end| end == b"\r\n\r\n") {
            let length = stream.read(&mut buffer).unwrap();
            request.extend(&buffer[..length]);
        }
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 4\r\nconnection: close\r\n\r\nwhy?");
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8_lossy(&request).lines().next().unwrap().to_owned()
    });
    (url, answering)
}

fn call(status: &'static str) -> (anyhow::Result<()>, String) {
    let (url, answering) = admin(status);
    let mut options = options("south-west", 4);
    options.admin = vec![url];
    let mut stalled = stalled(&options).unwrap().unwrap();
    stalled.at = Instant::now();
    let result = stalled.run(&Timing::start(0, Duration::ZERO, options.measure));
    assert!(stalled.has_begun());
    (result, answering.join().unwrap())
}

#[test]
fn the_zone_is_stalled_over_the_admin_listener() {
    let (result, request) = call("200 OK");
    assert!(result.is_ok(), "{result:?}");
    assert_eq!(request, "POST /v1/fault/zones/2/stall?ms=1500 HTTP/1.1");
}

#[test]
fn a_server_that_stalls_nothing_is_told_with_what_to_do() {
    for status in ["403 Forbidden", "404 Not Found"] {
        let error = call(status).0.unwrap_err().to_string();
        assert!(error.contains("start it with --fault-injection"), "{error}");
    }
    let error = call("500 Internal Server Error").0.unwrap_err().to_string();
    assert!(error.ends_with("answered 500: why?"), "{error}");
}

#[test]
fn a_zone_is_found_by_name_or_index_and_an_unknown_one_is_told_with_the_others() {
    for (zone, index) in [("north-west", 0), ("south-east", 3), ("1", 1)] {
        assert_eq!(stalled(&options(zone, 4)).unwrap().unwrap().zone, ZoneId(index));
    }
    assert!(refused(&options("4", 4)).contains("north-west, north-east, south-west, south-east"));
}

#[test]
fn a_run_in_which_no_zone_can_be_stalled_is_refused_before_it_begins() {
    assert!(refused(&options("0", 2)).contains("must end before the measuring window does"));
    let mut roam = options("0", 4);
    roam.scenario = ScenarioKind::Roam;
    assert!(refused(&roam).contains("needs a scenario about zones"));
    roam.faults.stall = None;
    assert!(stalled(&roam).unwrap().is_none());
}

#[test]
fn who_stands_near_the_zones_border_counts_for_neither_side() {
    let stalled = stalled(&options("south-east", 4)).unwrap().unwrap();
    let place = |x: f32, z: f32| stalled.place(Vec3::new(x, 0.9, z));
    assert_eq!(place(32.0, 32.0), Place::Inside);
    assert_eq!(place(-32.0, 32.0), Place::Elsewhere);
    assert_eq!(place(-2.0, 32.0), Place::Elsewhere);
    for (x, z) in [(1.0, 32.0), (-1.0, 32.0), (32.0, 1.0), (-1.0, -1.0)] {
        assert_eq!(place(x, z), Place::Unclear, "{x} {z}");
    }
}

fn id(subject: u64, sequence: u32) -> ProbeId {
    ProbeId { subject, sequence }
}

/// A board whose stall lasts from 100 ms to 300 ms after `start`.
fn board(start: Instant) -> StallBoard {
    StallBoard {
        window: Some((start + 100 * MS, start + 300 * MS)),
        ..StallBoard::default()
    }
}

#[test]
fn actions_elsewhere_during_the_stall_are_measured_and_no_others() {
    let start = Instant::now();
    let mut board = board(start);
    for (subject, at, place) in [
        (1, 150, Place::Elsewhere),
        (2, 150, Place::Inside),
        (3, 150, Place::Unclear),
        (4, 99, Place::Elsewhere),
        (5, 300, Place::Elsewhere),
        (6, 299, Place::Elsewhere),
    ] {
        let stamped = start + at * MS;
        board.stamped(id(subject, 1), stamped, place);
        if subject < 6 {
            board.echoed(subject as usize, id(subject, 1), stamped, stamped + 20 * MS);
        }
    }
    assert_eq!(board.elsewhere.samples(), 1);
    // An action that nobody saw applied counts with the time it had.
    board.give_up(start + 799 * MS);
    let summary = board.elsewhere.summary_ms();
    assert_eq!(summary.samples, 2);
    assert!((summary.max.unwrap() - 500.0).abs() < 1.0, "{summary:?}");
}

#[test]
fn bots_of_the_zone_are_back_when_they_act_after_the_stall() {
    let start = Instant::now();
    let mut board = board(start);
    for bot in 0..4 {
        board.found(bot, if bot < 3 { Place::Inside } else { Place::Elsewhere });
    }
    let mut acts = |bot: usize, at: u32| {
        let stamped = start + at * MS;
        board.echoed(bot, id(bot as u64, at), stamped, stamped + 16 * MS);
    };
    // One acts afterwards; one's action during the stall is only seen after it; one never acts; one was elsewhere.
    acts(0, 310);
    acts(0, 410);
    acts(1, 200);
    acts(3, 310);
    assert_eq!((board.back.len(), board.stalled.len()), (1, 3));
}
