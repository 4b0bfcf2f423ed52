//! The Collector's configuration. The reference Collector does not run here, so it is held against what its documentation of 0.140 says
//! that there is: components, their keys, and pipelines made of what is defined. What it scrapes is checked by promtool.

use std::{collections::BTreeSet, process::Command};

use serde_json::Value;

use crate::{
    support::{installed, run_well},
    yaml,
};

const FILE: &str = "deploy/observability/otel-collector.yaml";

/// Each key that may be there, with those above it, names of instances left out. `*` stands for whatever is below: another program's
/// configuration.
const KNOWN_KEYS: &[&str] = &[
    "extensions.health_check.endpoint",
    "receivers.otlp.protocols.grpc.endpoint",
    "receivers.otlp.protocols.http.endpoint",
    "receivers.prometheus.config.*",
    "processors.memory_limiter.check_interval",
    "processors.memory_limiter.limit_mib",
    "processors.memory_limiter.spike_limit_mib",
    "processors.batch.timeout",
    "processors.batch.send_batch_size",
    "processors.batch.send_batch_max_size",
    "exporters.influxdb.endpoint",
    "exporters.influxdb.v1_compatibility.enabled",
    "exporters.influxdb.v1_compatibility.db",
    "exporters.influxdb.metrics_schema",
    "exporters.influxdb.sending_queue.enabled",
    "exporters.influxdb.sending_queue.queue_size",
    "exporters.influxdb.retry_on_failure.enabled",
    "exporters.influxdb.retry_on_failure.max_elapsed_time",
    "exporters.prometheus.endpoint",
    "exporters.prometheus.add_metric_suffixes",
    "exporters.prometheus.metric_expiration",
    "exporters.otlp.endpoint",
    "exporters.otlp.tls.insecure",
    "exporters.otlp.sending_queue.enabled",
    "exporters.otlp.sending_queue.queue_size",
    "exporters.otlp.retry_on_failure.enabled",
    "exporters.otlp.retry_on_failure.max_elapsed_time",
    "service.extensions",
    "service.telemetry.logs.level",
    "service.telemetry.metrics.level",
    "service.telemetry.metrics.readers.pull.exporter.prometheus.host",
    "service.telemetry.metrics.readers.pull.exporter.prometheus.port",
    "service.pipelines.traces.receivers",
    "service.pipelines.traces.processors",
    "service.pipelines.traces.exporters",
    "service.pipelines.metrics.receivers",
    "service.pipelines.metrics.processors",
    "service.pipelines.metrics.exporters",
];

#[test]
fn only_known_components_and_keys_are_used() {
    let mut used = BTreeSet::new();
    collect("", &yaml::file(FILE), &mut used);
    let is_known = |key: &str| {
        KNOWN_KEYS.iter().any(|known| match known.strip_suffix('*') {
            Some(above) => key.starts_with(above),
            None => key == *known,
        })
    };
    let unknown: Vec<&String> = used.iter().filter(|key| !is_known(key)).collect();
    assert!(unknown.is_empty(), "unknown to the Collector: {unknown:#?}");
    for known in KNOWN_KEYS {
        let above = known.trim_end_matches('*');
        assert!(
            used.iter().any(|key| key.starts_with(above)),
            "{known} is used no more: take it out of the list"
        );
    }
}

/// The paths of all leaves, without indices of lists and names of instances.
fn collect(above: &str, value: &Value, used: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, below) in map {
                let kind = key.split('/').next().unwrap_or(key);
                let path = if above.is_empty() {
                    kind.to_owned()
                } else {
                    format!("{above}.{kind}")
                };
                collect(&path, below, used);
            }
        }
        Value::Array(list) if list.iter().any(Value::is_object) => {
            for entry in list {
                collect(above, entry, used);
            }
        }
        _ => {
            used.insert(above.to_owned());
        }
    }
}

#[test]
fn every_pipeline_is_made_of_what_is_defined_and_everything_defined_is_used() {
    let config = yaml::file(FILE);
    let mut used = BTreeSet::new();
    for (name, pipeline) in config["service"]["pipelines"].as_object().unwrap() {
        for part in ["receivers", "processors", "exporters"] {
            for component in yaml::texts(&pipeline[part]) {
                assert!(
                    config[part].get(&component).is_some(),
                    "{name}: {part} has no {component}"
                );
                used.insert(format!("{part} {component}"));
            }
        }
        // What refuses comes before what gathers, and both before everything else.
        assert_eq!(
            yaml::texts(&pipeline["processors"])[..2],
            ["memory_limiter", "batch"],
            "{name}"
        );
    }
    for part in ["receivers", "processors", "exporters"] {
        for component in yaml::keys(&config[part]) {
            assert!(
                used.contains(&format!("{part} {component}")),
                "{part}: nothing uses {component}"
            );
        }
    }
    assert_eq!(
        yaml::texts(&config["service"]["extensions"]),
        yaml::keys(&config["extensions"])
    );
}

#[test]
fn what_it_scrapes_is_a_configuration_of_prometheus() {
    let scrape = yaml::file(FILE)["receivers"]["prometheus"]["config"].clone();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prometheus.yml");
    // JSON is YAML.
    std::fs::write(&file, scrape.to_string()).unwrap();
    run_well(Command::new(installed("promtool")).args(["check", "config"]).arg(file));
    // The same processes as Prometheus, from the same list.
    let mounted = crate::support::read("deploy/compose/compose.yaml");
    let targets = scrape["scrape_configs"][0]["file_sd_configs"][0]["files"][0]
        .as_str()
        .unwrap();
    let folder = targets.trim_end_matches("/*.yml");
    assert!(
        mounted.contains(&format!("../observability/prometheus/targets:{folder}:ro")),
        "{folder}"
    );
}

#[test]
fn memory_is_given_back_before_anything_is_refused() {
    let limiter = &yaml::file(FILE)["processors"]["memory_limiter"];
    let [limit, spike] = ["limit_mib", "spike_limit_mib"].map(|key| limiter[key].as_u64().unwrap());
    let compose = yaml::file("deploy/compose/compose.yaml");
    let given_back_from = compose["services"]["otel-collector"]["environment"]["GOMEMLIMIT"].as_str();
    let given_back_from: u64 = given_back_from.unwrap().strip_suffix("MiB").unwrap().parse().unwrap();
    assert!(
        given_back_from < limit - spike,
        "{given_back_from} MiB, and refused from {} MiB",
        limit - spike
    );
}
