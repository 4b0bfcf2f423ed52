//! Prometheus's and Alertmanager's configuration and the rules, by their own tools; and whether each alert has tests.

use std::{collections::BTreeSet, process::Command};

use meridian_rpc::code_name;
use tonic::Code;

use crate::{
    support::{files, installed, read, repository, run, run_well},
    yaml,
};

const PROMETHEUS: &str = "deploy/observability/prometheus";

#[test]
fn promtool_accepts_the_configuration_and_the_rules() {
    let said = run_well(
        Command::new(installed("promtool"))
            .args(["check", "config"])
            .arg(repository(PROMETHEUS).join("prometheus.yml")),
    );
    assert!(said.contains("2 rule files found"), "{said}");
}

#[test]
fn amtool_accepts_alertmanagers_configuration() {
    let file = repository("deploy/observability/alertmanager/alertmanager.yml");
    let said = run_well(Command::new(installed("amtool")).arg("check-config").arg(file));
    assert!(said.contains("1 receivers"), "{said}");
}

#[test]
fn the_rules_pass_their_unit_tests() {
    run_well(
        Command::new(installed("promtool"))
            .args(["test", "rules"])
            .args(files(&format!("{PROMETHEUS}/tests"), "yml")),
    );
}

#[test]
fn the_unit_tests_of_rules_can_fail() {
    let folder = tempfile::tempdir().unwrap();
    let rules = repository(PROMETHEUS).join("rules");
    let text = read(&format!("{PROMETHEUS}/tests/ticks.yml")).replace("../rules", rules.to_str().unwrap());
    let file = folder.path().join("ticks.yml");
    // The first alert's value is another than the one that it has.
    std::fs::write(&file, text.replacen("value: 1", "value: 2", 1)).unwrap();
    assert!(
        !run(Command::new(installed("promtool")).args(["test", "rules"]).arg(&file))
            .status
            .success()
    );
}

#[test]
fn every_alert_is_tested_to_fire_and_to_keep_quiet() {
    let (mut fire, mut quiet) = (BTreeSet::new(), BTreeSet::new());
    for file in files(&format!("{PROMETHEUS}/tests"), "yml") {
        let tests = yaml::parse(&file.display().to_string(), &std::fs::read_to_string(&file).unwrap());
        for test in tests["tests"].as_array().unwrap() {
            for expected in test["promql_expr_test"].as_array().unwrap() {
                let (_, rest) = expected["expr"].as_str().unwrap().split_once("alertname=\"").unwrap();
                let name = rest.split_once('"').unwrap().0.to_owned();
                let fires = !expected["exp_samples"].as_array().unwrap().is_empty();
                if fires {
                    fire.insert(name)
                } else {
                    quiet.insert(name)
                };
            }
        }
    }
    let alerts: BTreeSet<String> = all_rules()
        .into_iter()
        .filter_map(|rule| rule["alert"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(fire, alerts, "tests that fire, and alerts");
    assert_eq!(quiet, alerts, "tests that do not fire, and alerts");
}

/// The values that a text gives a label of calls, one or several: `code="OK"`, `code=~"UNKNOWN|INTERNAL"`.
fn values(text: &str, label: &str) -> BTreeSet<String> {
    let calls = text.split("meridian_rpc_calls_total{").skip(1);
    let selectors = calls.filter_map(|rest| Some(rest.split_once('}')?.0));
    let found = selectors.filter_map(|selector| {
        let (_, value) = selector.split_once(&format!("{label}="))?;
        Some(value.trim_start_matches(['~', '"']).split_once('"')?.0)
    });
    found.flat_map(|values| values.split('|')).map(str::to_owned).collect()
}

#[test]
fn rules_and_their_tests_name_calls_as_servers_count_them() {
    let codes: BTreeSet<&str> = (0..=16).map(|code| code_name(Code::from_i32(code))).collect();
    let api = read("protocol/rpc/proto/meridian/v1/game_server.proto");
    let (rules, tests) = (
        read(&format!("{PROMETHEUS}/rules/recording.yml")),
        read(&format!("{PROMETHEUS}/tests/services.yml")),
    );
    let named = (values(&rules, "code"), values(&tests, "code"), values(&tests, "method"));
    assert!(
        named.0.len() >= 6 && named.1.len() >= 6 && named.2.len() >= 3,
        "{named:?}"
    );
    for code in named.0.union(&named.1) {
        assert!(codes.contains(code.as_str()), "no call ends with {code}");
    }
    for method in &named.2 {
        assert!(
            method == "other" || api.contains(&format!("rpc {method}(")),
            "no method is called {method}"
        );
    }
}

#[test]
fn every_alert_says_how_bad_it_is_and_what_to_do() {
    for rule in all_rules() {
        let Some(name) = rule["alert"].as_str() else { continue };
        let severity = rule["labels"]["severity"].as_str().unwrap_or_default();
        assert!(["critical", "warning"].contains(&severity), "{name}: {severity:?}");
        for part in ["summary", "description"] {
            assert!(
                rule["annotations"][part].as_str().is_some_and(|text| text.len() > 10),
                "{name} has no {part}"
            );
        }
    }
}

/// Every rule, recording and alerting.
pub fn all_rules() -> Vec<serde_json::Value> {
    let mut rules = Vec::new();
    for file in files(&format!("{PROMETHEUS}/rules"), "yml") {
        let groups = yaml::parse(&file.display().to_string(), &std::fs::read_to_string(&file).unwrap());
        for group in groups["groups"].as_array().unwrap() {
            rules.extend(group["rules"].as_array().unwrap().iter().cloned());
        }
    }
    rules
}
