//! What goes wrong, and what is said of it.

use std::io::{Read, Write};
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

/// Answers each call of HTTP/2 with a document, as many services do that are no gRPC (RFC 9113).
fn serve_other_http2() -> SocketAddr {
    const PREFACE_BYTES: usize = 24;
    const HEADER_BYTES: usize = 9;
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const SETTINGS: u8 = 4;
    const END_STREAM: u8 = 1;
    const END_HEADERS: u8 = 4;
    // `:status: 200` is the eighth entry of the static table.
    const STATUS_200: u8 = 0x88;
    fn frame(kind: u8, flags: u8, stream: [u8; 4], payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        [&length[1..], &[kind, flags], &stream, payload].concat()
    }
    fn serve(connection: &mut std::net::TcpStream) -> std::io::Result<()> {
        connection.read_exact(&mut [0; PREFACE_BYTES])?;
        connection.write_all(&frame(SETTINGS, 0, [0; 4], &[]))?;
        loop {
            let mut header = [0; HEADER_BYTES];
            connection.read_exact(&mut header)?;
            let [high, middle, low, kind, _, stream @ ..] = header;
            let length = u32::from_be_bytes([0, high, middle, low]);
            connection.read_exact(&mut vec![0; length as usize])?;
            if kind == HEADERS {
                connection.write_all(&frame(HEADERS, END_HEADERS, stream, &[STATUS_200]))?;
                connection.write_all(&frame(DATA, END_STREAM, stream, br#"{"status":"up"}"#))?;
            }
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut connection in listener.incoming().map_while(Result::ok) {
            // Ends when the other side goes away.
            std::thread::spawn(move || serve(&mut connection));
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
    assert!(
        error["latency_ms"].as_f64().is_some_and(|latency| latency > 0.0),
        "{error}"
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
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("0.3 s; --timeout gives it longer"), "{error}");
    assert!(
        error["latency_ms"].as_f64().is_some_and(|latency| latency >= 300.0),
        "{error}"
    );
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
    assert!(
        run.err.contains(" (after ") && run.err.contains(" ms, trace "),
        "{run:?}"
    );
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
        (&["--timeout", "1m", "zones"], "10 s at most"),
        (&["--server", "https://127.0.0.1:1", "zones"], "http://"),
        (&["--name", "\u{202e}", "join"], "invisible"),
    ] {
        let run = cli.run(arguments);
        assert_eq!(run.code, 2, "{run:?}");
        assert!(run.err.contains(expected), "{expected} in {run:?}");
    }
}

#[test]
fn a_wrong_command_line_is_an_object_too_if_objects_are_asked_for() {
    let cli = Program::at("http://127.0.0.1:1", "http://127.0.0.1:1");
    let assert_told = |run: crate::program::Run| {
        let error = run.error();
        assert_eq!(
            (&error["error"], run.code, run.err.as_str()),
            (&"usage".into(), 2, ""),
            "{run:?}"
        );
        assert!(
            error["message"].as_str().unwrap().contains("invalid value 'up'"),
            "{error}"
        );
    };
    assert_told(cli.json(&["move", "up", "5"]));
    assert_told(cli.run(&["move", "up", "5", "--json"]));
    assert_told(cli.run_with_environment(&["move", "up", "5"], "MERIDIAN_CLI_JSON", "1"));
    let after_the_options = cli.run(&["move", "up", "--", "--json"]);
    assert!(
        after_the_options.out.is_empty() && after_the_options.code == 2,
        "{after_the_options:?}"
    );
}

#[test]
fn the_environment_turns_json_on_and_off_as_people_write_that() {
    let cli = Program::at("http://127.0.0.1:1", "http://127.0.0.1:1");
    for (value, is_json) in [
        ("1", true),
        ("true", true),
        ("yes", true),
        ("", false),
        ("0", false),
        ("false", false),
    ] {
        let run = cli.run_with_environment(&["status"], "MERIDIAN_CLI_JSON", value);
        assert_eq!((run.code, !run.out.is_empty()), (3, is_json), "{value:?} {run:?}");
    }
}

#[test]
fn a_port_of_another_service_is_told_as_one() {
    let address = serve_other_http2();
    let cli = Program::at(&format!("http://{address}"), "http://127.0.0.1:1");
    for command in ["zones", "status"] {
        let run = cli.run(&["--timeout", "5s", command]);
        assert_eq!(run.code, 1, "{run:?}");
        for words in [&address.to_string(), "gRPC port", "7650"] {
            assert!(run.err.contains(words), "{words} in {run:?}");
        }
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
    let before_any_action = cli.json(&["--timeout", "1m", "zones"]).error();
    assert!(before_any_action["latency_ms"].is_null(), "{before_any_action}");
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
