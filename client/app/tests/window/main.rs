//! The real window on an X server in memory, drawn by software, against a real server with real bots.
//!
//! `CLIENT_PICTURES=docs/images` keeps the pictures that the tests take, for the README.

mod stage;

use stage::{Client, Collector, Display, Server, Swarm};

/// As many bots as the pictures show.
const BOTS: usize = 10;

#[test]
fn the_first_screen_asks_for_a_server_and_a_name() {
    let display = Display::open();
    let picture = display.folder().join("connect.png");
    let mut client = Client::start(
        &display,
        &[
            "--screenshot",
            &picture.to_string_lossy(),
            "--after",
            "1s",
            "--quality",
            "medium",
        ],
    );
    assert!(client.wait_for_exit().success());
    assert_eq!(client.report()["screen"], "connect");
    display.keep("connect", &picture);
}

#[test]
fn a_world_with_bots_is_drawn_with_its_figures_and_a_bad_network_is_simulated() {
    let server = Server::start();
    let _swarm = Swarm::start(&server, BOTS);
    let display = Display::open();
    let mut client = Client::join(&display, &server, "Ada", &["--size", "800x450"]);
    client.wait("everybody is drawn", |report| report["players_drawn"] == BOTS + 1);
    assert_eq!(client.report()["screen"], "world");
    assert!(
        client.report()["crates_drawn"].as_u64() > Some(4),
        "{}",
        client.report()
    );
    client.take_picture("world");

    client.type_key("F3");
    client.wait("the figures are known", |report| {
        report["round_trip_ms"].is_number() && report["owner_zone"].is_number()
    });
    client.wait("each figure is a number", |report| {
        [
            "tick",
            "round trip",
            "jitter",
            "loss",
            "action",
            "uplink",
            "tick wait",
            "downlink",
            "in",
            "out",
            "entities",
            "frame",
        ]
        .iter()
        .all(|name| figure(report, name).is_some())
    });
    let zone = line(&client.report(), "zone").expect("a zone");
    assert!(zone.contains("north-") || zone.contains("south-"), "{zone}");
    client.take_picture("hud");

    client.type_key("F4");
    client.type_key("3");
    client.wait("the link is bad", |report| report["network"] == "Mobile 4G");
    client.take_picture("simulator");
    client.type_key("1");
    client.wait("the link is good again", |report| report["network"] == "Perfect");
    assert_eq!(client.report()["disconnects"], 0);
    client.close();
}

#[test]
fn a_window_without_a_display_or_with_a_nonsense_server_says_so_and_ends() {
    let display = Display::none();
    let mut client = Client::start(&display, &[]);
    assert_eq!(client.wait_for_exit().code(), Some(1));
    let mut client = Client::start(&display, &["--headless", "--server", "ftp://nowhere", "--name", "Ada"]);
    assert_eq!(client.wait_for_exit().code(), Some(1));
}

#[test]
fn a_simulated_network_is_as_slow_as_it_says() {
    let server = Server::start();
    let display = Display::none();
    let mut satellite = Client::join(&display, &server, "Ada", &["--headless", "--network", "satellite"]);
    // 600 ms more, but for the jitter of what it is the median of.
    satellite.wait("the round trip is as long as it should be", |report| {
        figure(report, "round trip").is_some_and(|ms| ms > 560.0)
    });
    satellite.wait("hardly anything is lost", |report| {
        figure(report, "loss").is_some_and(|percent| percent < 20.0)
    });
    satellite.close();
}

#[test]
fn what_a_window_measures_is_pushed_to_a_collector() {
    let (server, collector) = (Server::start(), Collector::start());
    let display = Display::none();
    let client = Client::join_with(&display, &server, "Ada", &["--headless"], &collector.environment());
    collector.wait_for(&[
        "meridian_client_action_seconds",
        "tick_wait",
        "meridian_client_corrections_total",
    ]);
    client.close();
}

#[test]
fn keys_walk_and_the_menu_takes_them() {
    let server = Server::start();
    let display = Display::open();
    let mut client = Client::join(&display, &server, "Ada", &[]);
    client.wait("the player stands", |report| report["own"].is_array());
    let before = place(&client.report());
    client.hold_key("w");
    client.wait("the player walks", |report| distance(place(report), before) > 2.0);
    client.release_key("w");
    assert_eq!(
        client.report()["key_response_frames"],
        0,
        "the walk is shown in the frame that sees the key"
    );
    client.type_key("Escape");
    client.wait("the menu is open", |report| report["overlay"] == "menu");
    client.take_picture("menu");
    // What is held goes nowhere while the menu is open.
    let stands = client.wait_until_still();
    client.hold_key("w");
    let frames = client.report()["frames"].as_u64();
    client.wait("it is held for a while", |report| {
        report["frames"].as_u64() > frames.map(|frames| frames + 20)
    });
    assert!(distance(place(&client.report()), stands) < 0.01);
    client.release_key("w");
    // By the keyboard alone: the first button leads back, the one after it to the settings.
    client.type_key("Tab");
    client.type_key("Return");
    client.wait("the settings are open", |report| report["overlay"] == "settings");
    client.take_picture("settings");
    client.type_key("Escape");
    client.wait("the menu is open again", |report| report["overlay"] == "menu");
    client.type_key("Return");
    client.wait("the menu is closed", |report| report["overlay"] == "none");
    client.close();
}

#[test]
fn a_key_that_is_bound_does_nothing_else() {
    let server = Server::start();
    let display = Display::open();
    let mut client = Client::join(&display, &server, "Ada", &[]);
    client.wait("the player stands", |report| report["own"].is_array());
    client.type_key("F1");
    client.wait("the keys are shown", |report| report["overlay"] == "keys");
    client.take_picture("keys");
    // From "Done" on it goes round: the first action is walking forward.
    client.type_key("Tab");
    client.type_key("Return");
    client.type_key("F3");
    client.wait_for_settings("the key is bound and kept", |settings| {
        settings.contains("forward = \"F3\"")
    });
    assert_eq!(client.report()["overlay"], "keys");
    client.type_key("Escape");
    client.type_key("Escape");
    client.wait("back in the world", |report| report["overlay"] == "none");
    let before = place(&client.report());
    client.hold_key("F3");
    client.wait("the new key walks", |report| distance(place(report), before) > 1.0);
    client.release_key("F3");
    client.close();
}

#[test]
fn a_lost_server_is_told_and_found_again() {
    let server = Server::start();
    let display = Display::open();
    let mut client = Client::join(&display, &server, "Ada", &[]);
    client.wait("the player stands", |report| report["own"].is_array());
    let addresses = server.kill();
    client.wait("the loss is noticed", |report| {
        report["connection"]
            .as_str()
            .is_some_and(|state| state.starts_with("Reconnecting"))
    });
    assert_eq!(client.report()["screen"], "world", "what was seen stays");
    client.take_picture("reconnecting");
    let _server = Server::start_at(&addresses);
    client.wait("the player is back", |report| {
        report["connection"] == "Playing" && report["own"].is_array() && report["players_drawn"] == 1
    });
    assert_eq!(client.report()["crates_drawn"], 14);
    assert_eq!(client.report()["disconnects"], 1);
    // The new gateway counts from another start: what is shown of the others must not lag behind for ever.
    client.wait("the others are shown as before", |report| {
        figure(report, "others shown").is_some_and(|ms| ms < 400.0)
    });
    client.close();
}

#[test]
fn a_server_that_is_not_there_is_named_with_what_to_do() {
    let display = Display::open();
    let mut client = Client::start(&display, &["--server", "http://127.0.0.1:9", "--name", "Ada"]);
    client.wait("the reason is told", |report| {
        report["connection"]
            .as_str()
            .is_some_and(|state| state.contains("is the server running there?"))
    });
    assert_eq!(client.report()["screen"], "joining");
    client.take_picture("joining");
    client.type_key("Escape");
    client.wait("the way back", |report| report["screen"] == "connect");
    client.close();
}

/// The line of a figure in the report of the figures.
fn line(report: &serde_json::Value, name: &str) -> Option<String> {
    let lines = report["hud"].as_array()?;
    let found = lines
        .iter()
        .filter_map(|line| line.as_str())
        .find(|line| line.trim_start().starts_with(&format!("{name} ")));
    found.map(|line| line.trim_start()[name.len()..].trim().to_owned())
}

/// The first number of a figure.
fn figure(report: &serde_json::Value, name: &str) -> Option<f64> {
    line(report, name)?.split([' ', ',']).next()?.parse().ok()
}

fn place(report: &serde_json::Value) -> [f64; 3] {
    [0, 1, 2].map(|axis| report["own"][axis].as_f64().expect("a place"))
}

fn distance(a: [f64; 3], b: [f64; 3]) -> f64 {
    (a[0] - b[0]).hypot(a[2] - b[2])
}
