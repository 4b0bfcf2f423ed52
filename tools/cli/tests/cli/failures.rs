//! What goes wrong, and what is said of it.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};

use crate::program::Program;
use crate::world::{Fault, TestServer};

/// Answers everybody with the same bytes, whatever is said.
fn serve_garbage(bytes: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut connection in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let _ = connection.write_all(bytes);
                // Until the other side goes away: it is not the end of the connection that it is to stumble over.
                let _ = std::io::copy(&mut connection, &mut std::io::sink());
            });
        }
    });
    address
}

/// An address at which nobody listens.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let server = TestServer::start();
    let address = nobody();
    let cli = Program::at(&format!("http://{address}"), &format!("http://{}", server.auth));
    for command in ["zones", "status", "join"] {
        let run = cli.run(&[command]);
        assert_eq!(run.code, 3, "{run:?}");
        assert!(
            run.err.contains(&address.to_string()) && run.err.contains("role zone"),
            "{run:?}"
        );
        assert_eq!(run.out, "");
    }
    let error = cli.json(&["zones"]).error();
    assert_eq!(
        (&error["error"], error["trace_id"].as_str().map(str::len)),
        (&"server_unreachable".into(), Some(32))
    );
}

#[test]
fn an_auth_that_is_not_there_is_named() {
    let server = TestServer::start();
    let address = nobody();
    let cli = Program::at(&format!("http://{}", server.address), &format!("http://{address}"));
    let run = cli.run(&["join"]);
    assert_eq!(run.code, 3, "{run:?}");
    assert!(
        run.err.contains(&address.to_string()) && run.err.contains("role auth"),
        "{run:?}"
    );
    assert_eq!(cli.json(&["join"]).error()["error"], "auth_unreachable");
}

#[test]
fn garbage_is_no_server() {
    let server = TestServer::start();
    for garbage in [
        b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0".as_slice(),
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        b"220 mail.example.org ESMTP\r\n",
    ] {
        let address = serve_garbage(garbage);
        let cli = Program::at(&format!("http://{address}"), &format!("http://{}", server.auth));
        let run = cli.json(&["--timeout", "5s", "zones"]);
        let error = run.error();
        assert!(
            ["connection_lost", "server_unreachable"].contains(&error["error"].as_str().unwrap()),
            "{run:?}"
        );
        assert_eq!(run.code, 3);

        let cli = Program::at(&format!("http://{}", server.address), &format!("http://{address}"));
        let run = cli.json(&["--timeout", "5s", "join"]);
        assert!(
            ["malformed_answer", "auth_unreachable"].contains(&run.error()["error"].as_str().unwrap()),
            "{run:?}"
        );
    }
}

#[test]
fn an_answer_without_what_belongs_in_it_is_malformed() {
    let server = TestServer::start();
    server.world().fault = Fault::NoPosition;
    let cli = Program::of(&server);
    let error = cli.json(&["join"]).error();
    assert_eq!(
        (&error["error"], &error["exit_code"]),
        (&"malformed_answer".into(), &1.into())
    );
    assert!(
        error["message"].as_str().unwrap().contains("without a position"),
        "{error}"
    );
}

#[test]
fn an_answer_that_does_not_come_is_waited_for_as_long_as_was_said() {
    let server = TestServer::start();
    let cli = Program::of(&server);
    cli.json(&["join"]).result();
    server.world().fault = Fault::Silent;
    let error = cli
        .json(&["--timeout", "300ms", "move", "north", "--ticks", "1"])
        .error();
    assert_eq!((&error["error"], &error["exit_code"]), (&"timed_out".into(), &6.into()));
    assert!(error["message"].as_str().unwrap().contains("0.3 s"), "{error}");
}

#[test]
fn a_zone_that_is_away_can_be_asked_again() {
    let server = TestServer::start();
    let cli = Program::of(&server);
    cli.json(&["join"]).result();
    server.world().fault = Fault::ZoneAway;
    let run = cli.run(&["move", "north", "--ticks", "1"]);
    assert_eq!(run.code, 6, "{run:?}");
    assert!(
        run.err.contains("no zone has the entity now; try again in a moment"),
        "{run:?}"
    );
    assert!(run.err.contains("trace "), "{run:?}");
}

#[test]
fn a_wrong_command_line_is_told_with_what_is_right() {
    let cli = Program::at("http://127.0.0.1:1", "http://127.0.0.1:1");
    for (arguments, expected) in [
        (&["fly"][..], "unrecognized subcommand"),
        (&["move", "up", "3"], "invalid value 'up'"),
        (&["move", "north"], "METRES"),
        (&["move", "--dx", "1", "--dz", "0", "--ticks", "61"], "1..=60"),
        (&["watch", "--area", "1,2,3"], "x0,z0,x1,z1"),
        (&["--timeout", "soon", "zones"], "500ms"),
        (&["--server", "https://127.0.0.1:1", "zones"], "http://"),
        (&["--name", "\u{202e}", "join"], "invisible"),
    ] {
        let run = cli.run(arguments);
        assert_eq!(run.code, 2, "{run:?}");
        assert!(run.err.contains(expected), "{expected} in {run:?}");
    }
}

#[test]
fn a_vector_that_is_too_long_is_refused_before_anybody_is_asked() {
    let server = TestServer::start();
    let cli = Program::of(&server);
    cli.json(&["join"]).result();
    let error = cli.json(&["move", "--dx", "1", "--dz", "1", "--ticks", "3"]).error();
    assert_eq!((&error["error"], &error["exit_code"]), (&"usage".into(), &2.into()));
    assert!(server.world().traces.iter().all(|(method, _)| *method != "Move"));
}

#[test]
fn an_environment_that_makes_no_sense_to_traces_is_told() {
    let server = TestServer::start();
    let cli = Program::of(&server);
    let mut command = cli.command(&["--json", "zones"]);
    let output = command
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", "no address")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .contains(r#""error":"telemetry""#)
    );
}
