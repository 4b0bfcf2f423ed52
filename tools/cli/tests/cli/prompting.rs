//! The prompt, from a pipe.

use std::io::Write;
use std::net::TcpListener;

use crate::program::Program;
use crate::world::TestServer;

#[test]
fn a_prompt_does_line_after_line_over_one_session() {
    let server = TestServer::start();
    let cli = Program::of(&server);
    let lines = "join --name 'Ada L'\n\n# a remark\nmove north 1\nwatch --count 2\nzones\nstatus\nleave\nexit\njoin\n";
    let run = cli.run_with_input(&["--json"], lines);
    assert_eq!(run.code, 0, "{run:?}");
    let commands: Vec<_> = run
        .json()
        .iter()
        .filter_map(|line| line["command"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(
        commands,
        ["join", "move", "watch", "watch", "zones", "status", "leave"],
        "{run:?}"
    );
    assert_eq!(run.json()[0]["name"], "Ada L");
}

#[test]
fn a_line_that_fails_is_told_and_gives_the_exit_code() {
    let server = TestServer::start();
    let cli = Program::of(&server);
    let run = cli.run_with_input(&["--json"], "status\nleave\nfly\nmove 'north 1\nplay\nstatus\n");
    let words: Vec<_> = run
        .json()
        .iter()
        .filter_map(|line| line["error"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(words, ["no_session", "usage", "usage", "usage"], "{run:?}");
    assert_eq!(run.code, 4, "{run:?}");
    assert_eq!(run.json().last().unwrap()["command"], "status");
}

#[test]
fn a_name_stays_with_join_and_goes_with_any_other_line() {
    let server = TestServer::start();
    let cli = Program::of(&server);
    let run = cli.run_with_input(
        &["--json"],
        "join --name Ada\njoin --name Bob\nleave --name Ada\nleave\n",
    );
    assert_eq!(run.code, 0, "{run:?}");
    let names: Vec<_> = run
        .json()
        .iter()
        .map(|line| line["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["Ada", "Bob", "Ada", "Bob"]);
}

#[test]
fn help_is_a_result_at_the_prompt() {
    let cli = Program::at("http://127.0.0.1:1", "http://127.0.0.1:1");
    let run = cli.run_with_input(&[], "help\nhelp move\n--help\nmove --help\nwatch -h\n");
    assert_eq!((run.code, run.err.as_str()), (0, ""), "{run:?}");
    assert!(!run.out.contains("read as arguments"), "{run:?}");
    assert_eq!(run.out.matches("--jump").count(), 2, "{run:?}");
    for word in ["watch", "exit", "--dx", "--jump"] {
        assert!(run.out.contains(word), "{word} in {run:?}");
    }
}

#[test]
fn a_server_that_comes_back_is_connected_to_again() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let cli = Program::at(&format!("http://{address}"), "http://127.0.0.1:1");
    let mut running = cli.start(&["--json"]);
    let mut input = running.child.stdin.take().unwrap();
    input.write_all(b"status\n").unwrap();
    assert!(running.line().contains("server_unreachable"));
    let mut server = TestServer::start_at(address);
    input.write_all(b"status\n").unwrap();
    assert!(running.line().contains("serving"));
    server.vanish();
    input.write_all(b"status\n").unwrap();
    let lost = running.line();
    assert!(
        lost.contains("connection_lost") || lost.contains("server_unreachable"),
        "{lost}"
    );
    drop(input);
    assert_eq!(running.end().code, 3);
}

#[test]
fn a_line_without_end_ends_the_prompt() {
    let cli = Program::at("http://127.0.0.1:1", "http://127.0.0.1:1");
    let run = cli.run_with_input(&["--json"], &"x".repeat(32 << 10));
    assert_eq!(run.error()["error"], "usage");
    assert_eq!(run.code, 2);
}
