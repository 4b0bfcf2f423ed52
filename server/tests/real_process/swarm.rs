//! Every role in one process, and a swarm of bots in its world over UDP.

use std::time::Duration;

use meridian_autopilot::ScenarioKind;
use meridian_loadgen::{
    report::Bots,
    swarm::{self, Faults, SwarmOptions, demo_game},
    timing::Timing,
};

use crate::support::{Server, get};

#[test]
fn ten_bots_play_and_a_signal_ends_the_server_in_order() {
    let mut server = Server::start_every_role("");
    assert_eq!(get(&server.url("admin", "/ready")).status, 200);

    let report = swarm::run(&bots(&server, 10), &|_: &Timing| {}).unwrap();
    let everybody = Bots {
        requested: 10,
        connected: 10,
        disconnected: 0,
    };
    assert_eq!(report.bots, everybody);
    for latency in [&report.action_latency_ms, &report.observer_latency_ms] {
        assert!(latency.samples > 0 && latency.p50 > Some(0.0), "{report:?}");
    }
    assert!(report.inputs.sent > 0 && report.inputs.applied > Some(0), "{report:?}");
    assert!(report.wire.entity_updates > 0, "{report:?}");
    assert!(server.metric("meridian_inputs_total", &[("outcome", "applied")]) > 0.0);

    // The bots are gone without a goodbye, so the server still holds their connections.
    assert_eq!(server.stop_with("TERM").code(), Some(0), "{}", server.log());
    assert!(!server.ready_file().exists());
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

/// A short run of so many bots that stay near the centre.
pub fn bots(server: &Server, bots: usize) -> SwarmOptions {
    SwarmOptions {
        server: server.url("http", ""),
        admin: vec![server.url("admin", "")],
        bots,
        measure: Duration::from_secs(3),
        warmup: Duration::from_secs(2),
        scenario: ScenarioKind::Crowd,
        predict: false,
        probe_every: Duration::from_millis(200),
        seed: 1,
        game: demo_game(),
        faults: Faults::default(),
    }
}
