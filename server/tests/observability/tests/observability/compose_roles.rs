//! What the compose file says of Meridian's own processes.

use std::{collections::BTreeMap, path::Path, process::Command};

use serde_json::Value;

use crate::support::{built, installed, repository, run_well};

/// The compose file with everything filled in, profiles too, as compose itself understands it.
pub fn composed() -> Value {
    composed_with(&[])
}

/// The same, with arguments to compose itself, such as another environment file.
pub fn composed_with(arguments: &[&str]) -> Value {
    let all = [arguments, &["--profile", "bots", "config", "--format", "json"]].concat();
    let said = run_well(&mut compose(&all));
    // Warnings may come before or after it.
    let (start, end) = (said.find('{').unwrap(), said.rfind('}').unwrap());
    serde_json::from_str(&said[start..=end]).unwrap()
}

/// Compose with the file, in an environment that fills in nothing.
pub fn compose(arguments: &[&str]) -> Command {
    let mut command = Command::new(installed("docker-compose"));
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
        .arg("-f")
        .arg(repository("deploy/compose/compose.yaml"))
        .args(arguments);
    command
}

/// The environment of each process of Meridian, by service. Zones come first, for gateways are ready once they hear them.
pub fn environments() -> Vec<(String, BTreeMap<String, String>)> {
    let composed = composed();
    let mut found: Vec<(String, BTreeMap<String, String>)> = composed["services"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, service)| service["environment"].get("MERIDIAN_ROLES").is_some())
        .map(|(name, service)| {
            let environment = service["environment"].as_object().unwrap().iter();
            let environment = environment.map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned()));
            (name.clone(), environment.collect())
        })
        .collect();
    found.sort_by_key(|(name, _)| (!name.starts_with("zone"), name.clone()));
    found
}

/// How the compose file starts Valkey.
pub fn valkey_command() -> Vec<String> {
    crate::yaml::texts(&composed()["services"]["valkey"]["command"])
}

/// Runs the image's own `make-secrets` for the processes that the compose file names, into another folder than the image's.
pub fn make_secrets(root: &Path) {
    let programs = built("server").parent().unwrap().to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(programs).chain(std::env::split_paths(&path))).unwrap();
    let names = crate::yaml::texts(&composed()["services"]["secrets"]["command"]);
    std::fs::create_dir_all(root.join("secrets")).unwrap();
    run_well(
        Command::new("sh")
            .arg(repository("deploy/docker/make-secrets"))
            .args(names)
            .env("SECRETS_ROOT", root)
            .env("PATH", path),
    );
}
