//! The Collector's configuration. The reference Collector does not run here, so it is held against a schema of what its documentation of 0.140 says
//! that there is: components, their keys, what these hold, and pipelines made of what is defined. What it scrapes is checked by promtool.

use std::{collections::BTreeSet, process::Command};

use crate::{
    schema::{
        self,
        Holds::{Address, Anything, Count, Duration, Flag, OneOf, Port, Text, Texts, Url},
        Schema,
    },
    support::{installed, run_well},
    yaml,
};

const FILE: &str = "deploy/observability/otel-collector.yaml";

const SCHEMA: &Schema = &[
    ("extensions.health_check.endpoint", Address),
    ("receivers.otlp.protocols.grpc.endpoint", Address),
    ("receivers.otlp.protocols.http.endpoint", Address),
    ("receivers.prometheus.config", Anything),
    ("processors.memory_limiter.check_interval", Duration),
    ("processors.memory_limiter.limit_mib", Count),
    ("processors.memory_limiter.spike_limit_mib", Count),
    ("processors.batch.timeout", Duration),
    ("processors.batch.send_batch_size", Count),
    ("processors.batch.send_batch_max_size", Count),
    ("exporters.influxdb.endpoint", Url),
    ("exporters.influxdb.v1_compatibility.enabled", Flag),
    ("exporters.influxdb.v1_compatibility.db", Text),
    (
        "exporters.influxdb.metrics_schema",
        OneOf(&["telegraf-prometheus-v1", "telegraf-prometheus-v2", "otel-v1"]),
    ),
    ("exporters.influxdb.sending_queue.enabled", Flag),
    ("exporters.influxdb.sending_queue.queue_size", Count),
    ("exporters.influxdb.retry_on_failure.enabled", Flag),
    ("exporters.influxdb.retry_on_failure.max_elapsed_time", Duration),
    ("exporters.prometheus.endpoint", Address),
    ("exporters.prometheus.add_metric_suffixes", Flag),
    ("exporters.prometheus.metric_expiration", Duration),
    ("exporters.otlp.endpoint", Address),
    ("exporters.otlp.tls.insecure", Flag),
    ("exporters.otlp.sending_queue.enabled", Flag),
    ("exporters.otlp.sending_queue.queue_size", Count),
    ("exporters.otlp.retry_on_failure.enabled", Flag),
    ("exporters.otlp.retry_on_failure.max_elapsed_time", Duration),
    ("service.extensions", Texts),
    (
        "service.telemetry.logs.level",
        OneOf(&["debug", "info", "warn", "error"]),
    ),
    (
        "service.telemetry.metrics.level",
        OneOf(&["none", "basic", "normal", "detailed"]),
    ),
    (
        "service.telemetry.metrics.readers[].pull.exporter.prometheus.host",
        Text,
    ),
    (
        "service.telemetry.metrics.readers[].pull.exporter.prometheus.port",
        Port,
    ),
    ("service.pipelines.traces.receivers", Texts),
    ("service.pipelines.traces.processors", Texts),
    ("service.pipelines.traces.exporters", Texts),
    ("service.pipelines.metrics.receivers", Texts),
    ("service.pipelines.metrics.processors", Texts),
    ("service.pipelines.metrics.exporters", Texts),
];

#[test]
fn the_configuration_is_as_the_collectors_schema_has_it() {
    let faults = schema::faults(&yaml::file(FILE), SCHEMA);
    assert!(faults.is_empty(), "{faults:#?}");
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
