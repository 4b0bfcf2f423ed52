//! The compose file, as compose understands it, and whether everything that names something of it means something that is there.

use std::{collections::BTreeSet, path::Path, process::Command};

use serde_json::Value;

use crate::{
    compose_roles::{compose, composed, composed_with, environments, make_secrets},
    support::{built, command, read, repository, run_well},
    yaml,
};

#[test]
fn compose_accepts_the_file_with_and_without_an_environment_file() {
    run_well(&mut compose(&["config", "-q"]));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("env");
    // The example with everything in it turned on.
    let example = settings();
    let text: Vec<String> = example.iter().map(|(name, value)| format!("{name}={value}")).collect();
    std::fs::write(&file, text.join("\n").replace("=3000", "=3999")).unwrap();
    let said = run_well(&mut compose(&["--env-file", file.to_str().unwrap(), "config"]));
    assert!(said.contains("\"3999\""), "the file was not read:\n{said}");
    for (name, _) in example {
        assert!(
            read("deploy/compose/compose.yaml").contains(&format!("${{{name}:-")),
            "{name} changes nothing"
        );
    }
}

/// The settings of the example of an environment file, which are comments there.
fn settings() -> Vec<(String, String)> {
    let example = read("deploy/compose/.env.example");
    let lines = example.lines().filter_map(|line| line.strip_prefix('#'));
    let found: Vec<(String, String)> = lines
        .filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()) && !line.contains(' '))
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    assert!(found.len() > 8, "{found:?}");
    found
}

#[test]
fn every_port_can_be_another_and_players_are_told_that_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("env");
    // Ports that nothing here has otherwise.
    let mut chosen = BTreeSet::new();
    let ports = settings().into_iter().filter(|(name, _)| name.ends_with("_PORT"));
    let lines: Vec<String> = ports
        .zip(40_001..)
        .map(|((name, _), port)| {
            chosen.insert(port.to_string());
            format!("{name}={port}")
        })
        .collect();
    std::fs::write(&file, lines.join("\n")).unwrap();
    let composed = composed_with(&["--env-file", file.to_str().unwrap()]);
    let mut published = BTreeSet::new();
    for (name, service) in composed["services"].as_object().unwrap() {
        for port in service["ports"].as_array().into_iter().flatten() {
            let outside = port["published"].as_str().unwrap();
            assert!(chosen.contains(outside), "{name}: no setting changes {port}");
            published.insert(outside.to_owned());
            if name.starts_with("gateway-") {
                let told = service["environment"]["MERIDIAN_GATEWAY__PUBLIC_ADDRESS"].as_str();
                assert_eq!(told, Some(format!("127.0.0.1:{outside}").as_str()), "{name}");
            }
        }
    }
    assert_eq!(published, chosen, "what is published, and what settings there are");
}

#[test]
fn no_container_needs_more_than_a_rootless_docker_gives() {
    let mut looked_at = 0;
    for (name, service) in composed()["services"].as_object().unwrap() {
        for (limit, value) in service["ulimits"].as_object().into_iter().flatten() {
            // Compose leaves out what is 0.
            let raised = [value, &value["soft"], &value["hard"]].map(|number| number.as_u64().unwrap_or(0));
            assert_eq!(raised, [0; 3], "{name}: {limit}");
            looked_at += 1;
        }
    }
    assert!(looked_at > 0, "no limits: is this test needed any more?");
}

#[test]
fn bots_push_as_often_as_prometheus_fetches() {
    let config = yaml::file("deploy/observability/prometheus/prometheus.yml");
    let interval = config["global"]["scrape_interval"].as_str().unwrap();
    let seconds = interval.strip_suffix('s').unwrap();
    assert_eq!(
        composed()["services"]["bots"]["environment"]["OTEL_METRIC_EXPORT_INTERVAL"],
        format!("{seconds}000")
    );
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
        // What is built here has the version of the checkout.
        let is_built = service["build"].is_object() && image.ends_with(":dev");
        assert!(is_built || is_exact(image), "{name}: {image}");
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

/// Whether the tag of an image never means another one: a part of it is a version of three numbers, or a day.
fn is_exact(image: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let tag = image.rsplit_once(':').map(|(_, tag)| tag).unwrap_or_default();
    tag.trim_start_matches('v').split('-').any(|part| {
        let is_version = part.split('.').count() == 3 && part.split('.').all(is_number);
        is_version || (part.len() == "20251229".len() && is_number(part))
    })
}

#[test]
fn a_tag_that_moves_is_told_from_one_that_does_not() {
    for image in ["a/b:v3.5.0", "rust:1.95.0-bookworm", "debian:bookworm-20251229-slim"] {
        assert!(is_exact(image), "{image}");
    }
    for image in [
        "debian",
        "debian:latest",
        "debian:bookworm-slim",
        "debian:12",
        "rust:1.95",
        "x:1.2.x",
    ] {
        assert!(!is_exact(image), "{image}");
    }
}

#[test]
fn every_image_that_is_built_upon_has_an_exact_version() {
    let folder = repository("deploy/docker");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.filter(|path| path.to_str().unwrap().ends_with("Dockerfile"));
    let mut images = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let mut stages = BTreeSet::new();
        for line in text.lines().filter_map(|line| line.strip_prefix("FROM ")) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let image = words[0].to_owned();
            assert!(
                stages.contains(&image) || is_exact(&image),
                "{}: {image} moves",
                file.display()
            );
            images.push(image);
            stages.extend(words.get(2).map(|stage| (*stage).to_owned()));
        }
    }
    assert!(images.len() >= 4, "{images:?}");
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
fn every_program_of_the_image_is_one_that_the_image_s_build_makes() {
    let cargo = std::env::var_os("CARGO").expect("started by cargo");
    let mut asked = Command::new(cargo);
    asked.args([
        "metadata",
        "--no-deps",
        "--offline",
        "--locked",
        "--format-version",
        "1",
    ]);
    let said = run_well(asked.current_dir(repository(".")));
    let metadata: Value = serde_json::from_str(&said[said.find('{').unwrap()..]).unwrap();
    let is_default = |package: &Value| {
        let defaults = metadata["workspace_default_members"].as_array().unwrap();
        defaults.contains(&package["id"])
    };
    let packages = metadata["packages"].as_array().unwrap().iter();
    let targets = packages
        .filter(|package| is_default(package))
        .flat_map(|package| package["targets"].as_array().unwrap());
    let made: BTreeSet<&str> = targets
        .filter(|target| target["kind"][0] == "bin")
        .map(|target| target["name"].as_str().unwrap())
        .collect();
    let dockerfile = read("deploy/docker/Dockerfile");
    let (_, rest) = dockerfile.split_once("for program in ").unwrap();
    let copied: BTreeSet<&str> = rest.split_once(';').unwrap().0.split_whitespace().collect();
    assert_eq!(copied, made, "what the image has, and what is built for it");
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
