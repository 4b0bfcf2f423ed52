//! Flags, configuration layers and messages for mistakes; none of these runs gets as far as serving.

use std::{fs, net::TcpListener, process::Output};

use crate::support::{NETCODE_KEY, command_in, fails_saying, folder_with_world, run_in, text};

#[test]
fn each_layer_wins_over_the_one_before() {
    let folder = folder_with_world(
        "[http]\nlisten = \"127.0.0.1:1001\"\n[admin]\nlisten = \"127.0.0.1:1002\"\n[log]\nfilter = \"warn\"\n",
    );
    let output = command_in(&folder)
        .args(["--config", "config.toml", "--http", "127.0.0.1:3001", "--dump-config"])
        .env("MERIDIAN_HTTP__LISTEN", "127.0.0.1:2001")
        .env("MERIDIAN_ADMIN__LISTEN", "127.0.0.1:2002")
        .env("MERIDIAN_ROLES", "auth")
        .output()
        .unwrap();
    let dump = dumped(&output);
    assert_eq!(
        dump["http"]["listen"].as_str(),
        Some("127.0.0.1:3001"),
        "flag over environment"
    );
    assert_eq!(
        dump["admin"]["listen"].as_str(),
        Some("127.0.0.1:2002"),
        "environment over file"
    );
    assert_eq!(dump["log"]["filter"].as_str(), Some("warn"), "file over default");
    assert_eq!(dump["gateway"]["listen"].as_str(), Some("127.0.0.1:7700"), "default");
    assert_eq!(dump["roles"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_dump_is_a_configuration_and_shows_no_secret() {
    let folder = folder_with_world(&format!("[netcode]\nprivate_key = \"{NETCODE_KEY}\"\n"));
    let output = run_in(&folder, &["--config", "config.toml", "--dump-config"]);
    assert!(!text(&output.stdout).contains(NETCODE_KEY));
    let mut dump = dumped(&output);
    assert_eq!(dump["netcode"]["private_key"].as_str(), Some("<redacted>"));

    dump["netcode"].as_table_mut().unwrap().clear();
    fs::write(folder.path().join("again.toml"), dump.to_string()).unwrap();
    assert_eq!(
        dumped(&run_in(&folder, &["--config", "again.toml", "--dump-config"])),
        dump
    );
}

#[test]
fn mistakes_in_the_configuration_are_named() {
    for (config, said) in [
        ("[http]\nlisten_on = \"127.0.0.1:1\"\n", "listen_on"),
        ("[http]\nlisten = \"here\"\n", "http.listen"),
        (
            "[world]\ntick_rate_hz = 5\n",
            "tick rate 5 Hz is outside of 20..=128 Hz",
        ),
        (
            "[auth]\ntoken_expiry_s = 0\n",
            "auth.token_expiry_s is 0, but must be 1 to 600",
        ),
        (
            "[netcode]\nprivate_key = \"abcd\"\n",
            "a secret key is 64 hexadecimal digits",
        ),
        (
            "[gateway]\nclients_max = 0\n",
            "gateway.clients_max is 0, so nobody could get in; let in at least 1",
        ),
        (
            "[gateway]\npublic_address = \"192.0.2.1:0\"\n",
            "gateway.public_address is 192.0.2.1:0, but clients cannot reach port 0; name the port that leads to the gateway",
        ),
        (
            "[auth]\ngateway_address = \"192.0.2.1:0\"\n",
            "auth.gateway_address is 192.0.2.1:0, but clients cannot reach port 0",
        ),
        ("roles = [\"zoo\"]\n", "there is no role `zoo`"),
        ("roles = []\n", "at least one"),
        ("[http\n", "config.toml"),
    ] {
        let folder = folder_with_world(config);
        fails_saying(&run_in(&folder, &["--config", "config.toml", "--dump-config"]), said);
    }
    let folder = folder_with_world("");
    fails_saying(
        &run_in(&folder, &["--config", "absent.toml"]),
        "cannot read the configuration absent.toml",
    );
    let unknown = command_in(&folder)
        .env("MERIDIAN_HTP__LISTEN", "127.0.0.1:1")
        .output()
        .unwrap();
    fails_saying(&unknown, "htp");
}

#[test]
fn auth_that_sends_clients_elsewhere_needs_the_key() {
    let folder = folder_with_world("[auth]\ngateway_address = \"127.0.0.1:7700\"\n");
    fails_saying(
        &run_in(&folder, &["--roles", "auth", "--config", "config.toml"]),
        "netcode.private_key",
    );
}

#[test]
fn a_broken_world_is_named_with_its_line() {
    let folder = folder_with_world("");
    let free = ["--roles", "auth", "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let run = |world: &str| run_in(&folder, &[&free[..], &["--world", world]].concat());
    fails_saying(
        &run("absent.toml"),
        "cannot read the world file absent.toml: name another with --world FILE",
    );
    fs::write(folder.path().join("broken.toml"), "name = \"x\"\n[[scenery]\n").unwrap();
    fails_saying(&run("broken.toml"), "broken.toml:2: ");
    fs::write(folder.path().join("fast.toml"), "name = \"x\"\ntick_rate_hz = 500\n").unwrap();
    fails_saying(
        &run("fast.toml"),
        "fast.toml:2: tick_rate_hz: tick rate 500 Hz is outside of 20..=128 Hz",
    );
}

#[test]
fn a_port_in_use_says_which_and_what_to_do() {
    let folder = folder_with_world("");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (listener, other) in [("http", "admin"), ("admin", "http")] {
        let flags = [
            format!("--{listener}"),
            address.clone(),
            format!("--{other}"),
            "127.0.0.1:0".to_owned(),
        ];
        let output = command_in(&folder)
            .args(["--roles", "auth", "--world", "world.toml"])
            .args(flags)
            .output()
            .unwrap();
        let said = format!(
            "error: cannot listen on {address} for {listener}: address already in use; pass --{listener} with another port \
             (0 picks a free one)"
        );
        fails_saying(&output, &said);
    }
}

#[test]
fn help_names_every_flag_and_a_bad_flag_is_refused() {
    let folder = folder_with_world("");
    let output = run_in(&folder, &["--help"]);
    let help = text(&output.stdout);
    assert!(output.status.success());
    for flag in [
        "roles",
        "config",
        "world",
        "tick-rate",
        "ready-file",
        "http",
        "admin",
        "gateway",
        "rpc",
        "dump-config",
        "log-format",
    ] {
        assert!(help.contains(&format!("--{flag}")), "{flag} is not in\n{help}");
    }
    assert_eq!(run_in(&folder, &["--tick-rate", "1000"]).status.code(), Some(2));
}

fn dumped(output: &Output) -> toml::Table {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).parse().unwrap()
}

#[test]
fn a_cluster_needs_one_key_and_addresses_that_lead_somewhere() {
    let folder = folder_with_world("");
    let clustered = ["--world", "world.toml", "--bus", "valkey://127.0.0.1:1"];
    for roles in ["auth", "gateway,auth", "zone"] {
        let output = run_in(&folder, &[&clustered[..], &["--roles", roles]].concat());
        fails_saying(&output, "netcode.private_key: all processes of a cluster need one");
    }
    let everywhere = [&clustered[..], &["--roles", "gateway", "--gateway", "0.0.0.0:0"]].concat();
    let output = command_in(&folder)
        .args(everywhere)
        .env("MERIDIAN_NETCODE__PRIVATE_KEY", NETCODE_KEY)
        .output()
        .unwrap();
    fails_saying(&output, "gateway.public_address: the gateway listens on 0.0.0.0");
    let everywhere = [&clustered[..], &["--roles", "zone", "--rpc", "0.0.0.0:0"]].concat();
    let output = command_in(&folder)
        .args(everywhere)
        .env("MERIDIAN_NETCODE__PRIVATE_KEY", NETCODE_KEY)
        .output()
        .unwrap();
    fails_saying(&output, "rpc.public_address: the gRPC API listens on 0.0.0.0");
    let untrusted = [&clustered[..], &["--roles", "auth", "--bus-authority", "nowhere.pem"]].concat();
    let output = command_in(&folder)
        .args(untrusted)
        .env("MERIDIAN_NETCODE__PRIVATE_KEY", NETCODE_KEY)
        .output()
        .unwrap();
    fails_saying(&output, "bus.authority: cannot read nowhere.pem");
}

#[test]
fn histories_are_simulated_told_and_simulated_again() {
    let folder = folder_with_world("");
    let many = run_in(&folder, &["sim", "--seeds", "30", "--steps", "100"]);
    assert!(many.status.success(), "{}", text(&many.stderr));
    let told = text(&many.stdout);
    assert!(
        told.contains("30 seeds of 100 steps") && told.contains(" 0 failed"),
        "{told}"
    );
    assert!(
        told.lines().any(|line| line.trim_end().ends_with("tails lost")),
        "{told}"
    );
    let one = run_in(&folder, &["sim", "--seed", "7"]);
    assert!(one.status.success() && text(&one.stdout).contains("1 seeds of 200 steps"));
    let from_there_on = run_in(&folder, &["sim", "--seed", "7", "--seeds", "9"]);
    assert!(from_there_on.status.success() && text(&from_there_on.stdout).contains("9 seeds of 200 steps"));
}
