//! The role `auth` over real HTTP.

use std::collections::HashSet;

use base64::{Engine, prelude::BASE64_STANDARD};
use meridian_session::document_hash;
use serde_json::json;

use crate::support::{NETCODE_KEY, Server, get, post};

const ADA: &str = r#"{"name": " Ada ", "protocol_version": 4}"#;

#[test]
fn a_guest_gets_a_token_for_the_configured_gateway() {
    let mut server = Server::start(&with_gateway("[log]\nfilter = \"trace\"\n"));
    let answer = post(&server.url("http", "/v1/session"), ADA);
    assert_eq!(answer.status, 200, "{}", answer.body);
    let session = answer.json();
    let world = get(&server.url("http", "/v1/world"));
    assert_eq!(world.json(), json!({"name": "test", "tick_rate_hz": 30}));
    assert_eq!(session["name"], "Ada");
    assert_eq!(session["gateway"], "127.0.0.1:7799");
    assert_eq!(session["protocol_version"], 4);
    assert_eq!(session["world_hash"], document_hash(&world.body));
    let token = session["token"].as_str().unwrap().to_owned();
    assert_eq!(BASE64_STANDARD.decode(&token).unwrap().len(), 2048);
    let resume = session["resume"].as_str().unwrap().to_owned();
    let asks = json!({"name": "Eve", "protocol_version": 4, "resume": resume});
    let resumed = post(&server.url("http", "/v1/session"), &asks.to_string()).json();
    assert_eq!(
        (&resumed["player_id"], &resumed["name"]),
        (&session["player_id"], &session["name"])
    );
    assert!(
        get(&server.url("admin", "/metrics"))
            .body
            .contains("meridian_auth_sessions_issued_total 2")
    );

    assert_eq!(server.stop_with("TERM").code(), Some(0));
    let log = server.log();
    assert!(
        log.contains("Ada") && ![NETCODE_KEY, &token, &resume].iter().any(|secret| log.contains(secret)),
        "{log}"
    );
}

#[test]
fn two_hundred_bots_join_from_one_address_at_once() {
    let server = Server::start(&with_gateway(""));
    let url = server.url("http", "/v1/session");
    let clients: HashSet<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    (0..25)
                        .map(|_| post(&url, ADA).json()["client_id"].as_u64().unwrap())
                        .collect()
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| -> Vec<u64> { thread.join().unwrap() })
            .collect()
    });
    assert_eq!(clients.len(), 200);
}

#[test]
fn bad_requests_are_answered_with_code_and_message() {
    let server = Server::start(&with_gateway(""));
    let url = server.url("http", "/v1/session");
    let large = "x".repeat(5000);
    for (body, status, code) in [
        ("{", 400, "bad_request"),
        (r#"{"name": "", "protocol_version": 4}"#, 400, "bad_name"),
        (&large, 413, "too_large"),
        (r#"{"name": "Ada", "protocol_version": 7}"#, 426, "protocol_version"),
    ] {
        let answer = post(&url, body);
        assert_eq!(
            (answer.status, answer.json()["code"].as_str()),
            (status, Some(code)),
            "{}",
            answer.body
        );
    }
    assert_eq!(get(&url).status, 405);
}

#[test]
fn without_a_gateway_it_says_so() {
    let server = Server::start("");
    let answer = post(&server.url("http", "/v1/session"), ADA);
    assert_eq!(
        (answer.status, answer.json()["code"].as_str()),
        (503, Some("no_gateway"))
    );
    assert_eq!(answer.retry_after.as_deref(), Some("1"));
}

#[test]
fn who_asks_too_often_is_told_when_to_return() {
    let server = Server::start(&with_gateway("[auth.rate_limit]\nper_second = 1\nburst = 3\n"));
    let url = server.url("http", "/v1/session");
    // Far more than a second's worth for as long as this may take.
    let limited = (0..200)
        .map(|_| post(&url, ADA))
        .find(|answer| answer.status == 429)
        .unwrap();
    assert_eq!(limited.json()["code"], "rate_limited");
    assert_eq!(limited.retry_after.as_deref(), Some("1"));
    assert!(
        !get(&server.url("admin", "/metrics"))
            .body
            .contains("meridian_auth_rate_limited_total 0")
    );
}

fn with_gateway(more: &str) -> String {
    format!("[auth]\ngateway_address = \"127.0.0.1:7799\"\n[netcode]\nprivate_key = \"{NETCODE_KEY}\"\n{more}")
}
