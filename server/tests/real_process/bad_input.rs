//! What goes wrong at a server with every role: each has a clear message, and who plays does not notice.

mod datagrams;
mod flood;
mod tokens;

use std::{fs, net::UdpSocket};

use meridian_session::{PROTOCOL_VERSION, SESSION_PATH};

use crate::{
    bot::{Bot, assert_they_play_on, drive_until, drive_until_all_play},
    support::{Server, demo_world, fails_saying, folder_with_world, post, run_in},
};

/// Flags that let a server take any port.
const FREE_PORTS: [&str; 8] = [
    "--rpc",
    "127.0.0.1:0",
    "--http",
    "127.0.0.1:0",
    "--admin",
    "127.0.0.1:0",
    "--gateway",
    "127.0.0.1:0",
];

#[test]
fn a_client_of_another_version_is_told_both_versions() {
    let server = Server::start_every_role("");
    let theirs = PROTOCOL_VERSION + 6;
    let body = format!(r#"{{"name": "Ada", "protocol_version": {theirs}}}"#);
    let answer = post(&server.url("http", SESSION_PATH), &body);
    assert_eq!(answer.status, 426, "{}", answer.body);
    let json = answer.json();
    let message = json["message"].as_str().unwrap();
    for version in [theirs, PROTOCOL_VERSION] {
        assert!(message.contains(&format!("version {version}")), "{message}");
    }
}

#[test]
fn a_client_that_vanishes_is_gone_after_its_timeout() {
    let server = Server::start_every_role("[auth]\nconnection_timeout_s = 2\n");
    let clients = || server.metric("meridian_gateway_clients", &[]);
    let mut bots = vec![Bot::join(&server, "stays"), Bot::join(&server, "vanishes")];
    drive_until_all_play(&mut bots);
    assert_eq!(clients(), 2.0);
    drop(bots.pop());
    drive_until(&mut bots, "the silent client to be gone", |_| clients() < 2.0);
    assert_eq!(clients(), 1.0);
    assert_they_play_on(&server, &mut bots);
}

#[test]
fn a_world_that_cannot_be_played_is_named_with_line_and_reason() {
    let folder = folder_with_world("");
    for (world, said) in [
        ("name = \"x\"\nkill_below_m = \"deep\"\n", "broken.toml:2: invalid type"),
        (
            "name = \"x\"\nkill_below_m = -20.0\n[bounds]\nmin = [10.0, -10.0]\nmax = [-10.0, 10.0]\n\
             [spawn]\ncentre = [0.0, 0.0, 0.0]\nradius_m = 1.0\n",
            "broken.toml:3: bounds: min x is not below max x",
        ),
        (
            "name = \"x\"\nkill_below_m = -20.0\n[bounds]\nmin = [-10.0, -10.0]\nmax = [10.0, 10.0]\n\
             [spawn]\ncentre = [0.0, 0.0, 0.0]\nradius_m = 11.0\n",
            "broken.toml:8: spawn: 11 m around the centre reach beyond the bounds",
        ),
    ] {
        fs::write(folder.path().join("broken.toml"), world).unwrap();
        fails_saying(
            &run_in(&folder, &[&FREE_PORTS[..], &["--world", "broken.toml"]].concat()),
            said,
        );
    }
}

#[test]
fn a_gateway_port_in_use_says_which_and_what_to_do() {
    let folder = folder_with_world("");
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let world = demo_world();
    let flags = [&FREE_PORTS[..6], &["--world", &world, "--gateway", &address]].concat();
    let said = format!(
        "cannot listen on {address} for gateway: address already in use; pass --gateway with another port (0 picks a \
         free one)"
    );
    fails_saying(&run_in(&folder, &flags), &said);
}
