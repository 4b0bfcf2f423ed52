//! From the start to the exit code.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
};

use crate::support::{PATIENCE, Server, fails_saying, folder_with_world, get, run_in};

/// What a client of HTTP/2 begins with: the preface, and SETTINGS without a setting (RFC 9113, sections 3.4 and 6.5).
const HTTP2_BEGINNING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// Bytes of the header of an HTTP/2 frame; the fourth is its type (RFC 9113, section 4.1).
const HTTP2_HEADER_BYTES: usize = 9;
const HTTP2_SETTINGS: u8 = 4;

#[test]
fn a_signal_ends_it_in_order_and_removes_the_ready_file() {
    for signal in ["TERM", "INT"] {
        let mut server = Server::start("");
        // An open connection must not hold it up.
        let mut open = TcpStream::connect(server.address("http")).unwrap();
        open.write_all(b"GET /v1/world HTTP/1.1\r\n").unwrap();
        let status = server.stop_with(signal);
        assert_eq!(status.code(), Some(0), "{signal}:\n{}", server.log());
        assert!(!server.ready_file().exists());
        assert!(!server.log().contains("panicked"), "{}", server.log());
    }
}

/// A huge page would be cleared in the time of whichever thread touches it first: see `meridian-memory`.
#[cfg(target_os = "linux")]
#[test]
fn it_asks_for_small_pages() {
    let server = Server::start("");
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let told = status.lines().find_map(|line| line.strip_prefix("THP_enabled:"));
    assert_eq!(told.map(str::trim), Some("0"), "{status}");
}

#[test]
fn a_ready_file_of_a_killed_process_is_gone_before_this_one_is_ready() {
    let folder = folder_with_world("");
    let stale = folder.path().join("ready.json");
    fs::write(&stale, "{\"http\":\"127.0.0.1:1\",\"pid\":1}\n").unwrap();
    let flags = [
        "--roles",
        "auth",
        "--world",
        "absent.toml",
        "--ready-file",
        "ready.json",
    ];
    fails_saying(&run_in(&folder, &flags), "cannot read the world file");
    assert!(!stale.exists());
}

/// The gateway's port has tests of its own.
#[test]
fn random_bytes_on_every_port_leave_it_alive() {
    let server = Server::start_every_role("");
    let noise: Vec<u8> = (0..65_536_u32)
        .map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    for listener in ["http", "admin", "rpc"] {
        for length in [1, 100, noise.len()] {
            let mut stream = connect(&server, listener);
            // It may hang up before all is written; that is one way to refuse.
            let _ = stream.write_all(&noise[..length]);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
        }
    }
    assert_eq!(get(&server.url("admin", "/ready")).status, 200);
    assert_eq!(get(&server.url("http", "/v1/world")).status, 200);
    let mut rpc = connect(&server, "rpc");
    rpc.write_all(HTTP2_BEGINNING).unwrap();
    let mut header = [0; HTTP2_HEADER_BYTES];
    rpc.read_exact(&mut header).unwrap();
    assert_eq!(header[3], HTTP2_SETTINGS, "{header:?}");
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

fn connect(server: &Server, listener: &str) -> TcpStream {
    let stream = TcpStream::connect(server.address(listener)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}
