//! `scripts/cluster`, as people start it.

use std::{
    io::{BufRead, BufReader},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
};

use crate::support::{signal, wait_until};

/// The script; ended when dropped, with all that it has started.
struct Script(Child);

impl Drop for Script {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            signal(self.0.id(), "TERM");
            let _ = self.0.wait();
        }
    }
}

#[test]
fn a_cluster_by_hand_heads_its_lines_says_when_it_is_ready_and_ends_with_ctrl_c() {
    let package = std::env::var("CARGO_MANIFEST_DIR").expect("started by cargo");
    let server = Path::new(env!("CARGO_BIN_EXE_server"));
    let target = server.ancestors().nth(2).unwrap();
    let mut command = Command::new(format!("{package}/../scripts/cluster"));
    command
        .arg("--free-ports")
        .env("CARGO_TARGET_DIR", target)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut cluster = Script(command.spawn().unwrap());
    let mut lines = BufReader::new(cluster.0.stderr.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let mut said = Vec::new();
    for line in lines.by_ref() {
        let is_all = line == "Ctrl-C ends it.";
        said.push(line);
        if is_all {
            break;
        }
    }
    let (_, store) = said
        .iter()
        .find_map(|line| line.split_once(" status --bus valkey://"))
        .unwrap_or_else(|| panic!("{said:#?}"));
    assert!(TcpStream::connect(store).is_ok(), "{store} is not there");
    for name in ["north-west", "south-east", "gateway-1", "gateway-2", "auth"] {
        let head = format!("{name:<12} ");
        assert!(
            said.iter()
                .any(|line| line.starts_with(&head) && line.contains("ready")),
            "{name} heads no line: {said:#?}"
        );
    }
    signal(cluster.0.id(), "INT");
    // All that write have ended when nobody can write any more.
    let rest: Vec<String> = lines.collect();
    let ended = ["north-west", "gateway-1", "auth"].map(|name| {
        rest.iter()
            .any(|line| line.starts_with(name) && line.contains("stopped"))
    });
    assert_eq!(ended, [true; 3], "{rest:#?}");
    assert!(TcpStream::connect(store).is_err(), "{store} is still there");
    let mut status = None;
    wait_until("the script's end", || {
        status = cluster.0.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(130));
}
