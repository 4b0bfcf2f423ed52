//! Signals end what goes on: in order with the first, at once with the second.

use std::io::Write;
use std::net::TcpListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Signal, kill_process};
use serde_json::Value;

use crate::program::{Program, Running};
use crate::world::{Fault, TestServer};

/// Signals that ask a process to end, and the exit code of what they cut short.
const ENDING: [(Signal, i32); 3] = [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)];

/// A watch has an answer with each tick: after so many it stands in a write that nobody reads.
const BLOCKED_AFTER_TICKS: u64 = 30;

fn joined() -> (TestServer, Program) {
    let server = TestServer::start();
    let cli = Program::of(&server);
    cli.json(&["join"]).result();
    (server, cli)
}

/// Until the server has had a call of this method.
fn wait_for_call(server: &TestServer, method: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !server.world().traces.iter().any(|(called, _)| *called == method) {
        assert!(Instant::now() < deadline, "nobody calls {method}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Until the world is so many ticks on.
fn wait_for_ticks(server: &TestServer, ticks: u64) {
    let (last, deadline) = (server.world().tick() + ticks, Instant::now() + Duration::from_secs(20));
    while server.world().tick() < last {
        assert!(Instant::now() < deadline, "the world stands still");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[track_caller]
fn wait_for_command(running: &Running, command: &str) {
    loop {
        let line: Value = serde_json::from_str(&running.line()).unwrap();
        if line["command"] == command {
            return;
        }
    }
}

#[test]
fn a_call_that_is_not_answered_ends_with_a_signal() {
    for (signal, code) in ENDING {
        let (server, cli) = joined();
        server.world().fault = Fault::Silent;
        let running = cli.start(&["--json", "--timeout", "10s", "move", "north", "--ticks", "1"]);
        wait_for_call(&server, "Move");
        kill_process(running.pid(), signal).unwrap();
        let run = running.end();
        assert_eq!(
            (&run.error()["error"], run.code),
            (&"interrupted".into(), code),
            "{signal:?} {run:?}"
        );
    }
}

#[test]
fn a_watch_of_a_server_that_says_nothing_ends_with_a_signal() {
    let (_server, cli) = joined();
    for (signal, _) in ENDING {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", silent.local_addr().unwrap());
        let running = cli.start(&["--server", &address, "--timeout", "10s", "watch", "--plain"]);
        let _connection = silent.accept().unwrap();
        kill_process(running.pid(), signal).unwrap();
        let run = running.end();
        assert_eq!(run.code, 0, "{signal:?} {run:?}");
    }
}

#[test]
fn a_watch_whose_reader_does_not_read_ends_with_a_signal() {
    let (server, cli) = joined();
    for (signal, code) in ENDING {
        server.world().traces.clear();
        let (reader, mut writer) = std::io::pipe().unwrap();
        let flags = fcntl_getfl(&writer).unwrap();
        fcntl_setfl(&writer, flags | OFlags::NONBLOCK).unwrap();
        while writer.write(&[b'\n'; 4_096]).is_ok() {}
        fcntl_setfl(&writer, flags).unwrap();
        let mut child = cli
            .command(&["--json", "watch"])
            .stdout(Stdio::from(writer))
            .spawn()
            .unwrap();
        wait_for_call(&server, "WatchPositions");
        wait_for_ticks(&server, BLOCKED_AFTER_TICKS);
        kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > deadline {
                child.kill().unwrap();
                panic!("it waits for its reader for ever");
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        // Well if the first answer was later than that, and else cut short in the middle of a line.
        assert!([Some(0), Some(code)].contains(&status.code()), "{status:?}");
        drop(reader);
    }
}

#[test]
fn a_prompt_that_reads_a_pipe_ends_with_a_signal_whatever_it_did_before() {
    let (_server, cli) = joined();
    for (signal, code) in ENDING {
        for (line, command) in [("status\n", "status"), ("watch --count 1\n", "watch")] {
            let mut running = cli.start(&["--json"]);
            let mut input = running.child.stdin.take().unwrap();
            input.write_all(line.as_bytes()).unwrap();
            wait_for_command(&running, command);
            kill_process(running.pid(), signal).unwrap();
            let run = running.end();
            assert_eq!(run.code, code, "{signal:?} after {command} {run:?}");
            drop(input);
        }
    }
}

#[test]
fn a_signal_ends_a_command_of_a_piped_prompt_and_the_lines_after_it() {
    for (signal, code) in ENDING {
        let (server, cli) = joined();
        server.world().fault = Fault::Silent;
        let mut running = cli.start(&["--json", "--timeout", "10s"]);
        let mut input = running.child.stdin.take().unwrap();
        input.write_all(b"move north --ticks 1\nleave\n").unwrap();
        wait_for_call(&server, "Move");
        kill_process(running.pid(), signal).unwrap();
        let run = running.end();
        assert_eq!(run.code, code, "{run:?}");
        assert!(server.world().player(1).is_some(), "what comes after is not done");
    }
}
