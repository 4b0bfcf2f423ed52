//! Watches without a terminal, and how they end.

use std::time::Duration;

use rustix::process::{Signal, kill_process};
use serde_json::Value;

use crate::program::Program;
use crate::world::{Fault, TestServer};

#[test]
fn a_watch_tells_positions_until_it_has_told_enough() {
    let server = TestServer::start();
    let cli = Program::of(&server);
    cli.json(&["join"]).result();
    let run = cli.json(&["watch", "--count", "5"]);
    assert_eq!(run.code, 0, "{run:?}");
    let mut lines = run.json();
    let opened = lines.remove(0);
    assert_eq!(opened["notice"], "watching", "{run:?}");
    assert!(
        opened["latency_ms"].as_f64().is_some_and(|latency| latency > 0.0),
        "{opened}"
    );
    assert!(
        opened["latency_ticks"].as_f64().is_some_and(|ticks| ticks > 0.0),
        "{opened}"
    );
    let trace = opened["trace_id"].as_str().unwrap().to_owned();
    let called = server.world().traces.last().unwrap().clone();
    assert!(
        called.0 == "WatchPositions" && called.1.contains(&trace),
        "{called:?} {trace}"
    );
    assert_eq!(lines.len(), 5, "{run:?}");
    for line in &lines {
        assert_eq!(
            (&line["command"], &line["entity"]),
            (&"watch".into(), &"e1000100000001".into())
        );
        assert_eq!((line["age_ms"].as_f64(), line["zone"].as_u64()), (Some(1.5), Some(1)));
        assert!(line["trace_id"].is_null(), "nobody moves: {line}");
    }
    let ticks: Vec<_> = lines.iter().map(|line| line["tick"].as_u64().unwrap()).collect();
    assert!(ticks.is_sorted_by(|one, next| one < next), "{ticks:?}");

    let people = cli.run(&["watch", "--count", "2", "--plain"]);
    assert_eq!(people.out.lines().count(), 2);
    assert!(
        people
            .out
            .contains("e1000100000001 at (0.00, 0.90, 0.00) in zone 1 after tick"),
        "{people:?}"
    );
    assert!(people.out.contains("1.50 ms old"), "{people:?}");
    assert_eq!(people.err.lines().count(), 1, "{people:?}");
    assert!(
        people.err.contains(" ms = ") && people.err.contains("  trace "),
        "{people:?}"
    );
}

#[test]
fn a_position_names_the_trace_of_the_move_that_it_shows_and_of_no_other() {
    let server = TestServer::start();
    let cli = Program::of(&server);
    cli.json(&["join", "--name", "Ada"]).result();
    let bob = cli.json(&["join", "--name", "Bob"]).result();
    let watch = cli.start(&["--json", "watch"]);
    watch.line();
    let moved = cli.json(&["move", "west", "--ticks", "2"]).result();
    let mut traced = Vec::new();
    loop {
        let line: Value = serde_json::from_str(&watch.line()).unwrap();
        if line["trace_id"].is_string() {
            traced.push((line["entity"].clone(), line["trace_id"].clone()));
        }
        if line["tick"].as_u64() > moved["last_tick"].as_u64() {
            break;
        }
    }
    kill_process(watch.pid(), Signal::TERM).unwrap();
    watch.end();
    assert_eq!(traced, [(bob["entity"].clone(), moved["trace_id"].clone())]);
}

#[test]
fn a_watch_can_have_an_area_or_entities() {
    let server = TestServer::start();
    let cli = Program::of(&server);
    cli.json(&["join", "--name", "Ada"]).result();
    cli.json(&["join", "--name", "Bob"]).result();
    cli.json(&["move", "west", "1"]).result();
    let entities = |arguments: &[&str]| -> std::collections::BTreeSet<String> {
        let run = cli.json(&[&["watch", "--count", "20"], arguments].concat());
        run.json()
            .iter()
            .filter(|line| line["command"] == "watch")
            .map(|line| line["entity"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(entities(&[]).len(), 2);
    assert_eq!(
        entities(&["--area", "-2,-1,-0.5,1"]),
        ["e1000100000002".to_owned()].into()
    );
    assert_eq!(
        entities(&["--entity", "e1000100000001"]),
        ["e1000100000001".to_owned()].into()
    );
    assert_eq!(entities(&["--entity", "e1000100000001", "281479271677954"]).len(), 2);
}

#[test]
fn a_watch_ends_after_its_time() {
    let server = TestServer::start();
    let cli = Program::of(&server);
    cli.json(&["join"]).result();
    let run = cli.json(&["watch", "--seconds", "0.3"]);
    assert_eq!(run.code, 0, "{run:?}");
    let is_known = |line: &Value| line["command"] == "watch" || line["notice"] == "watching";
    assert!(run.json().iter().all(is_known), "{run:?}");
}

#[test]
fn ctrl_c_and_a_terminate_signal_end_a_watch_well() {
    let server = TestServer::start();
    let cli = Program::of(&server);
    cli.json(&["join"]).result();
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let running = cli.start(&["--json", "watch"]);
        let _: Value = serde_json::from_str(&running.line()).unwrap();
        kill_process(running.pid(), signal).unwrap();
        let run = running.end();
        assert_eq!(run.code, 0, "{signal:?} {}", run.err);
    }
}

#[test]
fn a_server_that_vanishes_in_the_middle_is_told() {
    let mut server = TestServer::start();
    let cli = Program::of(&server);
    cli.json(&["join"]).result();
    let running = cli.start(&["--json", "watch"]);
    running.line();
    server.vanish();
    let run = running.end();
    let error = run.error();
    assert_eq!(
        (&error["error"], &error["exit_code"]),
        (&"connection_lost".into(), &3.into()),
        "{run:?}"
    );
    assert!(
        error["message"].as_str().unwrap().contains(&server.address.to_string()),
        "{error}"
    );
}

#[test]
fn a_stream_that_the_server_ends_is_told() {
    let server = TestServer::start();
    let cli = Program::of(&server);
    cli.json(&["join"]).result();
    server.world().fault = Fault::EndsStreams;
    let error = cli.json(&["watch"]).error();
    assert_eq!(
        (&error["error"], &error["exit_code"]),
        (&"stream_ended".into(), &6.into())
    );
}

#[test]
fn who_reads_may_go_away() {
    let server = TestServer::start();
    let cli = Program::of(&server);
    cli.json(&["join"]).result();
    let mut child = cli.command(&["--json", "watch"]).spawn().unwrap();
    // Nobody reads from the first line on.
    drop(child.stdout.take());
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(std::time::Instant::now() < deadline, "it goes on for nobody");
        std::thread::sleep(Duration::from_millis(5));
    };
    assert_eq!(status.code(), Some(0));
    let mut err = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut err).unwrap();
    assert_eq!(err, "");
}
