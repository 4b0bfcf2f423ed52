//! Each command does what it says, for people and as JSON.

use serde_json::Value;

use crate::program::Program;
use crate::world::{Fault, TestServer};

#[track_caller]
fn assert_has_latency(result: &Value) {
    assert!(
        result["latency_ms"].as_f64().is_some_and(|latency| latency > 0.0),
        "{result}"
    );
    assert!(
        result["latency_ticks"].as_f64().is_some_and(|latency| latency > 0.0),
        "{result}"
    );
    assert_eq!(result["trace_id"].as_str().map(str::len), Some(32), "{result}");
}

#[track_caller]
fn assert_has_terms(result: &Value) {
    assert_has_latency(result);
    let term = |name: &str| result[name].as_f64().unwrap_or_else(|| panic!("{name} in {result}"));
    let sum = term("route_ms") + term("tick_wait_ms") + term("simulate_ms") + term("network_ms");
    // The terms are what the latency is made of; the server's clock and this one differ by what a system call takes.
    assert!((sum - term("latency_ms")).abs() < 0.1, "{sum} of {result}");
}

#[test]
fn a_player_joins_moves_and_leaves() {
    let server = TestServer::start();
    let cli = Program::of(&server);
    let joined = cli.json(&["join", "--name", "Ada"]).result();
    assert_eq!(joined["command"], "join");
    assert_eq!(
        (&joined["name"], &joined["player"], &joined["entity"]),
        (&"Ada".into(), &"p1".into(), &"e1000100000001".into())
    );
    assert_eq!(
        (joined["tick_rate_hz"].as_u64(), joined["walk_speed_mps"].as_f64()),
        (Some(60), Some(5.0))
    );
    assert_eq!(joined["session"], "new");
    assert_has_latency(&joined);

    let moved = cli
        .json(&["move", "--dx", "-0.5", "--dz", "0", "--ticks", "30", "--jump"])
        .result();
    assert_eq!(
        (&moved["command"], &moved["entity"]),
        (&"move".into(), &joined["entity"])
    );
    assert_eq!(
        (moved["dx"].as_f64(), moved["ticks"].as_u64(), moved["jump"].as_bool()),
        (Some(-0.5), Some(30), Some(true))
    );
    assert_eq!(
        moved["last_tick"].as_u64(),
        moved["tick"].as_u64().map(|tick| tick + 29)
    );
    assert!(moved["x"].as_f64().is_some_and(|x| x < 0.0));
    assert_eq!(moved["zone"], 0);
    assert_has_terms(&moved);

    let left = cli.json(&["leave"]).result();
    assert_eq!(
        (&left["command"], &left["name"], &left["player"]),
        (&"leave".into(), &"Ada".into(), &"p1".into())
    );
    assert!(server.world().player(1).is_none());
    let error = cli.json(&["leave"]).error();
    assert_eq!(
        (&error["error"], &error["code"]),
        (&"not_joined".into(), &"FAILED_PRECONDITION".into())
    );
    assert_eq!(error["exit_code"], 5);
}

#[test]
fn people_read_the_same_in_words() {
    let server = TestServer::start();
    let cli = Program::of(&server);
    let joined = cli.run(&["join", "--name", "Ada"]);
    assert!(
        joined
            .out
            .starts_with("Ada (p1) is in the world: e1000100000001 at (0.00, 0.90, 0.00) in zone 1"),
        "{joined:?}"
    );
    let moved = cli.run(&["move", "west", "--ticks", "3"]);
    assert!(
        moved
            .out
            .starts_with("west for 3 ticks: e1000100000001 at (-0.08, 0.90, 0.00) in zone 0"),
        "{moved:?}"
    );
    for word in [
        "ms = ",
        " ticks (route ",
        "tick wait ",
        "simulate ",
        "network ",
        "trace ",
    ] {
        assert!(moved.out.contains(word), "{word} in {moved:?}");
    }
    assert_eq!((joined.err.as_str(), moved.err.as_str()), ("", ""));
}

#[test]
fn zones_are_a_table_or_one_object() {
    let server = TestServer::start();
    let cli = Program::of(&server);
    let table = cli.run(&["zones"]);
    assert_eq!(table.code, 0, "{table:?}");
    let west = table.out.lines().find(|line| line.contains("west")).unwrap();
    for cell in [
        "-64 to 0",
        "test (this)",
        &server.address.to_string(),
        "0.25 ms",
        "1.25 ms",
        "0 ticks",
    ] {
        assert!(west.contains(cell), "{cell} in {west}");
    }
    let east = table.out.lines().find(|line| line.contains("east")).unwrap();
    assert!(east.contains("nobody"), "{east}");
    assert!(
        !table.out.contains('\u{1b}'),
        "a server steers the terminal: {:?}",
        table.out
    );

    let zones = cli.json(&["zones"]).result();
    assert_eq!(
        (&zones["command"], zones["tick_rate_hz"].as_u64()),
        (&"zones".into(), Some(60))
    );
    assert_eq!(zones["zones"].as_array().map(Vec::len), Some(2));
    let west = &zones["zones"][0];
    assert_eq!(
        (&west["zone"], &west["name"], &west["max_x"]),
        (&0.into(), &"west".into(), &0.0.into())
    );
    assert_eq!(
        (&west["server"]["instance"], &west["server"]["is_this"]),
        (&"test".into(), &true.into())
    );
    assert_eq!(west["server"]["tick_p99_ms"].as_f64(), Some(1.25));
    assert!(zones["zones"][1]["server"].is_null());
    assert_has_latency(&zones);
}

#[test]
fn status_asks_the_health_service() {
    let server = TestServer::start();
    let cli = Program::of(&server);
    let status = cli.json(&["status"]).result();
    assert_eq!(
        (&status["command"], &status["status"]),
        (&"status".into(), &"serving".into())
    );
    assert_eq!(status["service"], "meridian.v1.GameServer");
    assert!(cli.run(&["status"]).out.contains("meridian.v1.GameServer is serving"));
}

#[test]
fn play_sends_lines_as_they_come_and_tells_each_answer() {
    let server = TestServer::start();
    let cli = Program::of(&server);
    cli.json(&["join"]).result();
    let moves = "# a walk\neast --ticks 3\n\nwait 1s\nup 1\nnorth 100\n--dx 0 --dz 1 --ticks 2\n";
    let run = cli.run_with_input(&["--json", "play"], moves);
    let lines = run.json();
    assert_eq!(lines.len(), 4, "{run:?}");
    let moved: Vec<_> = lines.iter().filter(|line| line["command"] == "play").collect();
    assert_eq!(moved.len(), 2, "{run:?}");
    assert_eq!(
        (moved[0]["line"].as_u64(), moved[0]["sequence"].as_u64()),
        (Some(2), Some(1))
    );
    assert_eq!(
        (moved[1]["line"].as_u64(), moved[1]["sequence"].as_u64()),
        (Some(7), Some(2))
    );
    moved.iter().for_each(|line| assert_has_terms(line));
    // A second is sixty ticks: the walk of three was over when the second began.
    assert!(moved[1]["tick"].as_u64() > moved[0]["last_tick"].as_u64(), "{run:?}");
    let wrong: Vec<_> = lines
        .iter()
        .filter(|line| line["error"] == "usage")
        .map(|line| line["line"].as_u64())
        .collect();
    assert_eq!(wrong, [Some(5), Some(6)], "{run:?}");
    let mut unsent = lines.iter().filter(|line| line["error"] == "usage");
    assert!(unsent.all(|line| line["latency_ms"].is_null()), "{run:?}");
    assert_eq!(run.code, 2, "the code of the first line that failed: {run:?}");
}

#[test]
fn play_tells_what_the_server_refuses_and_goes_on() {
    let server = TestServer::start();
    let cli = Program::of(&server);
    cli.json(&["join"]).result();
    server.world().fault = Fault::ZoneAway;
    let run = cli.run_with_input(&["--json", "play"], "east --ticks 3\nwest --ticks 3\n");
    let words: Vec<_> = run
        .json()
        .iter()
        .map(|line| (line["error"].clone(), line["code"].clone()))
        .collect();
    assert_eq!(words, vec![("zone_away".into(), "UNAVAILABLE".into()); 2], "{run:?}");
    let has_latency = |line: &Value| line["latency_ms"].as_f64().is_some_and(|latency| latency > 0.0);
    assert!(run.json().iter().all(has_latency), "{run:?}");
    assert_eq!(run.code, 6, "{run:?}");
}

#[test]
fn play_that_reads_nothing_is_done() {
    let server = TestServer::start();
    let cli = Program::of(&server);
    cli.json(&["join"]).result();
    let run = cli.run_with_input(&["--json", "play"], "");
    assert_eq!((run.code, run.out.as_str()), (0, ""), "{run:?}");
}

#[test]
fn help_documents_the_exit_codes_and_the_environment() {
    let cli = Program::at("http://127.0.0.1:1", "http://127.0.0.1:1");
    let help = cli.run(&["--help"]);
    assert_eq!(help.code, 0);
    for text in [
        "Exit codes:",
        "MERIDIAN_CLI_SERVER",
        "MERIDIAN_CLI_TIMEOUT",
        "XDG_STATE_HOME",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
    ] {
        assert!(help.out.contains(text), "{text}");
    }
    for command in ["join", "leave", "move", "watch", "zones", "play", "status"] {
        assert_eq!(cli.run(&[command, "--help"]).code, 0, "{command}");
    }
}
