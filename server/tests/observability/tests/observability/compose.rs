//! The compose file, as compose understands it, and whether everything that names something of it means something that is there.

use std::{collections::BTreeSet, path::Path};

use serde_json::Value;

use crate::{
    compose_roles::{compose, composed, environments, make_secrets},
    support::{built, command, read, repository, run_well},
    yaml,
};

#[test]
fn compose_accepts_the_file_with_and_without_an_environment_file() {
    run_well(&mut compose(&["config", "-q"]));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("env");
    // The example with everything in it turned on.
    let example = read("deploy/compose/.env.example");
    let lines = example.lines().filter_map(|line| line.strip_prefix('#'));
    let settings: Vec<&str> = lines
        .filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()) && line.contains('=') && !line.contains(' '))
        .collect();
    assert!(settings.len() > 8, "{settings:?}");
    std::fs::write(&file, settings.join("\n").replace("=3000", "=3999")).unwrap();
    let said = run_well(&mut compose(&["--env-file", file.to_str().unwrap(), "config"]));
    assert!(said.contains("\"3999\""), "the file was not read:\n{said}");
    for setting in settings {
        let (name, _) = setting.split_once('=').unwrap();
        assert!(
            read("deploy/compose/compose.yaml").contains(&format!("${{{name}:-")),
            "{name} changes nothing"
        );
    }
}

#[test]
fn every_port_is_published_on_this_machine_alone() {
    let composed = composed();
    let mut published = 0;
    for (name, service) in composed["services"].as_object().unwrap() {
        for port in service["ports"].as_array().into_iter().flatten() {
            assert_eq!(port["host_ip"], "127.0.0.1", "{name}: {port}");
            published += 1;
        }
    }
    assert!(published >= 9, "{published}");
}

#[test]
fn every_image_has_an_exact_version_and_every_service_a_health_check_and_a_restart_policy() {
    let composed = composed();
    let services = composed["services"].as_object().unwrap();
    for (name, service) in services {
        let image = service["image"].as_str().unwrap();
        let tag = image.rsplit_once(':').map(|(_, tag)| tag).unwrap_or_default();
        // What is built here has the version of the checkout.
        let is_exact =
            tag.trim_start_matches('v').split('.').count() == 3 || (service["build"].is_object() && tag == "dev");
        assert!(is_exact, "{name}: {image}");
        let ends_by_itself = services
            .values()
            .any(|other| other["depends_on"][name]["condition"] == "service_completed_successfully");
        if ends_by_itself {
            assert_eq!(service["restart"], "no", "{name}");
        } else {
            assert!(service["healthcheck"]["test"].is_array(), "{name} has no health check");
            assert_eq!(service["restart"], "unless-stopped", "{name}");
        }
    }
}

#[test]
fn the_images_that_are_built_start_from_exact_versions() {
    let channel = read("rust-toolchain.toml");
    let channel = channel
        .split_once("channel = \"")
        .unwrap()
        .1
        .split_once('"')
        .unwrap()
        .0
        .to_owned();
    let meridian = read("deploy/docker/Dockerfile");
    assert!(
        meridian.contains(&format!("FROM rust:{channel}-bookworm AS build")),
        "not the toolchain of rust-toolchain.toml"
    );
    assert!(meridian.contains("\nUSER meridian\n"), "runs as root");
    let collector = read("deploy/docker/otel-collector.Dockerfile");
    let version = collector
        .split_once("collector-contrib:")
        .unwrap()
        .1
        .split_once(' ')
        .unwrap()
        .0;
    assert!(read("deploy/compose/compose.yaml").contains(&format!("image: meridian-otel-collector:{version}\n")));
    // Whatever is copied is there.
    for line in meridian
        .lines()
        .filter_map(|line| line.strip_prefix("COPY "))
        .filter(|line| !line.starts_with("--from"))
    {
        repository(line.split_once(' ').unwrap().0);
    }
}

#[test]
fn whatever_is_mounted_is_there() {
    for (name, service) in composed()["services"].as_object().unwrap() {
        for mount in service["volumes"].as_array().into_iter().flatten() {
            if mount["type"] == "bind" {
                let source = mount["source"].as_str().unwrap();
                assert!(Path::new(source).exists(), "{name}: {source}");
                assert_eq!(mount["read_only"], true, "{name}: {source}");
            }
        }
    }
}

#[test]
fn whoever_is_named_in_a_configuration_is_a_service_of_the_compose_file() {
    let composed = composed();
    let services: BTreeSet<String> = yaml::keys(&composed["services"]).into_iter().collect();
    let mut addresses = Vec::new();
    for file in [
        "otel-collector.yaml",
        "prometheus/prometheus.yml",
        "prometheus/targets/meridian.yml",
        "grafana/provisioning/datasources/meridian.yaml",
    ] {
        hosts(&yaml::file(&format!("deploy/observability/{file}")), &mut addresses);
    }
    hosts(&composed["services"], &mut addresses);
    assert!(addresses.len() > 25, "{addresses:?}");
    for host in addresses {
        let is_own = host == "localhost" || host.chars().all(|c| c.is_ascii_digit() || c == '.');
        assert!(is_own || services.contains(&host), "no service is called {host}");
    }
}

/// The hosts of all texts that look like `host:port` or `scheme://host:port`.
fn hosts(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => map.values().for_each(|below| hosts(below, found)),
        Value::Array(list) => list.iter().for_each(|below| hosts(below, found)),
        Value::String(text) => {
            let address = text.split_once("://").map_or(text.as_str(), |(_, rest)| rest);
            let Some((host, port)) = address.rsplit_once(':') else {
                return;
            };
            let port = port.split('/').next().unwrap_or_default();
            let is_host = !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.');
            // Images look the same, but for their versions.
            if is_host && port.len() > 1 && port.chars().all(|c| c.is_ascii_digit()) {
                found.push(host.to_owned());
            }
        }
        _ => {}
    }
}

#[test]
fn every_process_of_meridian_is_scraped() {
    let targets = yaml::texts(&yaml::file("deploy/observability/prometheus/targets/meridian.yml")[0]["targets"]);
    let targets: BTreeSet<String> = targets.into_iter().collect();
    let expected = environments().into_iter().map(|(name, environment)| {
        let port = environment["MERIDIAN_ADMIN__LISTEN"].strip_prefix("0.0.0.0:").unwrap();
        format!("{name}:{port}")
    });
    assert_eq!(targets, expected.collect());
}

#[test]
fn every_zone_of_the_world_has_a_process_under_its_own_address() {
    let world = read("assets/data/world.toml");
    let mut zones: Vec<&str> = world
        .split("[[zones]]")
        .skip(1)
        .map(|part| part.split_once("name = \"").unwrap().1.split_once('"').unwrap().0)
        .collect();
    let composed = composed();
    let mut addresses = BTreeSet::new();
    let mut started = Vec::new();
    for (name, environment) in environments() {
        if environment["MERIDIAN_ROLES"] == "zone" {
            started.push(environment["MERIDIAN_ZONES"].clone());
            let address = composed["services"][&name]["networks"]["default"]["ipv4_address"]
                .as_str()
                .unwrap();
            assert_eq!(
                environment["MERIDIAN_FABRIC__PUBLIC_ADDRESS"],
                format!("{address}:7720")
            );
            assert!(addresses.insert(address.to_owned()), "two zones are at {address}");
        }
        assert_eq!(environment["MERIDIAN_INSTANCE"], name);
        assert!(environment.contains_key("OTEL_EXPORTER_OTLP_ENDPOINT"), "{name}");
    }
    started.sort();
    zones.sort_unstable();
    assert_eq!(started, zones);
}

#[test]
fn the_server_accepts_each_process_s_environment_and_secrets() {
    let folder = tempfile::tempdir().unwrap();
    make_secrets(folder.path());
    let key = std::fs::read_to_string(folder.path().join("secrets/netcode.toml")).unwrap();
    for (name, environment) in environments() {
        let mut server = command(&built("server"));
        server
            .arg("--dump-config")
            .arg("--config")
            .arg(folder.path().join("secrets/netcode.toml"));
        let dump = run_well(server.envs(&environment));
        assert!(dump.contains(&format!("instance = \"{name}\"")), "{dump}");
        assert!(dump.contains("private_key = \"<redacted>\""), "{dump}");
        if let Some(certificates) = environment.get("MERIDIAN_FABRIC__CERTIFICATES") {
            let inside = Path::new(certificates).strip_prefix("/meridian").unwrap();
            for file in ["authority.pem", "certificate.pem", "key.pem"] {
                assert!(folder.path().join(inside).join(file).exists(), "{name} has no {file}");
            }
        }
    }
    // What is there stays: a second start of everything changes nothing.
    make_secrets(folder.path());
    assert_eq!(
        std::fs::read_to_string(folder.path().join("secrets/netcode.toml")).unwrap(),
        key
    );
}
