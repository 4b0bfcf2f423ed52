//! Walks of some metres: as many ticks as they need, in as many moves as the contract asks for.

use std::time::{Duration, Instant};

use crate::program::Program;
use crate::world::{Fault, TestServer};

#[test]
fn a_long_walk_is_several_moves_and_exactly_as_long_as_asked() {
    let server = TestServer::start();
    let cli = Program::of(&server);
    cli.json(&["join"]).result();
    let run = cli.json(&["move", "north", "12.5", "--jump"]);
    assert_eq!(run.code, 0, "{run:?}");
    let moves = run.json();
    // 150 ticks: 60, 60, 30, and what an early move cuts off.
    assert!(moves.len() >= 3, "{run:?}");
    for (index, line) in moves.iter().enumerate() {
        assert_eq!(
            (line["command"].as_str(), line["part"].as_u64()),
            (Some("move"), Some(index as u64 + 1))
        );
        assert!(line["ticks"].as_u64().is_some_and(|ticks| ticks <= 60), "{line}");
        assert_eq!(line["jump"].as_bool(), Some(index == 0), "{line}");
    }
    let traces: std::collections::HashSet<_> = moves.iter().map(|line| line["trace_id"].to_string()).collect();
    assert_eq!(traces.len(), moves.len(), "each call has a trace of its own");
    assert_eq!(moves.last().unwrap()["ticks_left"], 0);
    // Ticks in the middle that nobody walked cost time and not distance; the last tick ends about when the command does.
    let (_, z, ticks) = wait_until_still(&server);
    assert_eq!(ticks, 150, "{run:?}");
    assert!((z + 12.5).abs() < 0.01, "{z}");
}

#[test]
fn a_walk_can_be_left_to_itself() {
    let server = TestServer::start();
    server.world().fault = Fault::TellsSlowTicks;
    let cli = Program::of(&server);
    cli.json(&["join"]).result();
    // Waiting for sixty ticks of a second each would take longer than a run may.
    for walk in [&["300"][..], &["--ticks", "60"]] {
        let arguments = [&["move", "north", "--no-wait"], walk].concat();
        assert_eq!(cli.json(&arguments).result()["ticks"], 60);
    }
}

#[test]
fn a_move_of_ticks_is_waited_for_and_the_next_does_not_cut_it_off() {
    let server = TestServer::start();
    let cli = Program::of(&server);
    cli.json(&["join"]).result();
    let run = cli.run_with_input(&["--json"], "move north --ticks 30\nmove north --ticks 30\n");
    assert_eq!(run.code, 0, "{run:?}");
    let (_, _, ticks) = wait_until_still(&server);
    assert_eq!(ticks, 60, "{run:?}");
}

#[test]
fn a_walk_that_outlasts_its_token_goes_on_with_another() {
    let server = TestServer::start();
    {
        let mut sessions = server.sessions.lock().unwrap();
        sessions.expires_in_s = 1;
        sessions.calls_max = Some(1);
    }
    let cli = Program::of(&server);
    cli.json(&["join"]).result();
    let run = cli.json(&["move", "north", "7.5"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.json().len() >= 2, "{run:?}");
    assert_eq!(wait_until_still(&server).2, 90, "{run:?}");
}

#[test]
fn the_owner_of_an_entity_is_asked_when_another_server_has_it() {
    let server = TestServer::start();
    let owner = server.another();
    let cli = Program::of(&server);
    cli.json(&["join"]).result();
    server.world().fault = Fault::OwnerElsewhere(owner.address);
    let run = cli.json(&["move", "north", "--ticks", "2"]);
    assert_eq!(run.code, 0, "{run:?}");
    let lines = run.json();
    assert_eq!(
        (&lines[0]["notice"], &lines[1]["command"]),
        (&"followed_owner".into(), &"move".into())
    );
    let played = cli.run_with_input(&["--json", "play"], "north --ticks 2\n");
    assert_eq!(played.code, 0, "{played:?}");
    assert!(played.json().iter().any(|line| line["command"] == "play"), "{played:?}");
}

#[test]
fn an_owner_that_sends_on_is_followed_once_and_no_more() {
    let server = TestServer::start();
    let (second, third) = (server.another(), server.another());
    let cli = Program::of(&server);
    cli.json(&["join"]).result();
    // The second says so too, for the third has the entity; a server that names itself would be a circle.
    server.world().fault = Fault::OwnerElsewhere(third.address);
    let direct = cli.json(&["move", "north", "--ticks", "2"]);
    assert_eq!(direct.code, 0, "{direct:?}");
    let unreachable = "127.0.0.1:1".parse().unwrap();
    server.world().fault = Fault::OwnerElsewhere(unreachable);
    let error = cli
        .json(&[
            "--server",
            &format!("http://{}", second.address),
            "move",
            "north",
            "--ticks",
            "2",
        ])
        .error();
    assert_eq!(
        (&error["error"], &error["exit_code"]),
        (&"owner_elsewhere".into(), &6.into())
    );
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("--server http://127.0.0.1:1"),
        "{error}"
    );
}

/// Where the player stands and how many ticks it has walked, once it does not walk any more.
fn wait_until_still(server: &TestServer) -> (f32, f32, u64) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let player = server.world().player(1).unwrap();
        if !player.is_walking() {
            return (player.x, player.z, player.ticks_walked);
        }
        assert!(Instant::now() < deadline, "it never stands still");
        std::thread::sleep(Duration::from_millis(5));
    }
}
