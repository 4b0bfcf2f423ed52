//! The admin listener of a running server.

use serde_json::json;

use crate::support::{Server, get, post};

#[test]
fn health_readiness_and_metrics_are_served() {
    let server = Server::start("");
    assert_eq!(get(&server.url("admin", "/health")).status, 200);
    let ready = get(&server.url("admin", "/ready"));
    assert_eq!(ready.status, 200);
    assert_eq!(
        ready.json(),
        json!({"ready": true, "roles": [{"role": "auth", "state": "ready", "detail": ""}]})
    );

    assert_eq!(post(&server.url("http", "/v1/session"), "{").status, 400);
    let metrics = get(&server.url("admin", "/metrics")).body;
    for line in [
        "meridian_role_ready{role=\"auth\"} 1",
        "meridian_auth_sessions_issued_total 0",
        "meridian_auth_sessions_rejected_total{reason=\"bad_request\"} 1",
        "meridian_auth_rate_limited_total 0",
    ] {
        assert!(metrics.lines().any(|text| text == line), "{line} is not in\n{metrics}");
    }
}

#[test]
fn the_two_listeners_serve_nothing_of_each_other() {
    let server = Server::start("");
    for (listener, path) in [
        ("http", "/metrics"),
        ("http", "/ready"),
        ("admin", "/v1/world"),
        ("admin", "/v1/session"),
    ] {
        let answer = get(&server.url(listener, path));
        assert_eq!(
            (answer.status, answer.json()["code"].as_str()),
            (404, Some("not_found")),
            "{listener} {path}"
        );
    }
}
