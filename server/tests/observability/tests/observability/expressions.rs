//! Every expression of every dashboard and rule, run by a real Prometheus that scrapes real servers with a swarm on them, and what the swarm pushes.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use serde_json::Value;

use crate::{
    dashboards,
    meridian::World,
    player::Player,
    pushed::Pushed,
    rotel::Sink,
    rules,
    support::{Running, body_of, free_port, get, installed, json_of, post_form, repository, until},
    yaml,
};

/// Metrics, by the beginnings of their names, of which there is no data where all is in one process: nothing has them without a bus.
const OF_CLUSTERS: [&str; 4] = [
    "meridian_bus_",
    "meridian_fabric_",
    "meridian_world_clock_offset_seconds",
    "meridian_rpc_forwarded_total",
];

/// A zone with its process alone is a world without a panic: only a process that has zone and gateway starts zones again.
const RESTARTS: &str = "meridian_zone_restarts_total";

#[test]
fn with_all_in_one_process_every_expression_has_data() {
    let (sink, pushed) = (Sink::start(), Pushed::start());
    let world = World::in_one_process(Some(&sink.endpoint()));
    Prometheus::start_with(&world.admins, Some(&pushed), None).has_data_for_everything(&world, &pushed, true);
}

#[test]
fn with_the_composed_cluster_every_expression_has_data() {
    let (sink, pushed) = (Sink::start(), Pushed::start());
    let world = World::as_composed(Some(&sink.endpoint()));
    Prometheus::start_with(&world.admins, Some(&pushed), None).has_data_for_everything(&world, &pushed, false);
}

/// Prometheus with the repository's own configuration, but for whom it scrapes, and how often.
pub struct Prometheus {
    running: Running,
    url: String,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    pub fn start(targets: &[String], alertmanager: Option<&str>) -> Self {
        Self::start_with(targets, None, alertmanager)
    }

    /// The same, with what programs push in the place of the Collector.
    fn start_with(targets: &[String], pushed: Option<&Pushed>, alertmanager: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy_folder(&repository("deploy/observability/prometheus"), folder.path());
        let list = serde_json::json!([{ "targets": targets }]);
        fs::write(folder.path().join("targets/meridian.yml"), list.to_string()).unwrap();
        let config = folder.path().join("prometheus.yml");
        let mut text = fs::read_to_string(&config).unwrap();
        let mut replace = |old: &str, new: &str| {
            assert!(text.contains(old), "the configuration has no {old:?} any more");
            text = text.replace(old, new);
        };
        replace("scrape_interval: 5s", "scrape_interval: 1s");
        replace("scrape_timeout: 4s", "scrape_timeout: 1s");
        replace("evaluation_interval: 5s", "evaluation_interval: 1s");
        let address = format!("127.0.0.1:{}", free_port());
        replace("localhost:9090", &address);
        if let Some(pushed) = pushed {
            replace("otel-collector:8889", &pushed.scraped.to_string());
        }
        if let Some(alertmanager) = alertmanager {
            replace("alertmanager:9093", alertmanager);
            be_impatient(&folder.path().join("rules/alerts.yml"));
        }
        fs::write(&config, text).unwrap();
        let mut command = Command::new(installed("prometheus"));
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
        command.arg(format!("--web.listen-address={address}"));
        let mut running = Running::start("prometheus", folder.path(), &mut command);
        let url = format!("http://{address}");
        running.until("is ready", || body_of(get(&format!("{url}/-/ready"))));
        Self {
            running,
            url,
            _folder: folder,
        }
    }

    /// The samples that an expression has now.
    pub fn query(&self, expression: &str) -> Result<Vec<Value>, String> {
        let answer = json_of(post_form(
            &format!("{}/api/v1/query", self.url),
            &[("query", expression)],
        ));
        let answer = answer.map_err(|error| format!("{expression}\n{error}"))?;
        Ok(answer["data"]["result"].as_array().cloned().unwrap_or_default())
    }

    /// Whether an expression has a value that is a number.
    fn has_data(&self, expression: &str) -> Result<bool, String> {
        let samples = self.query(expression)?;
        Ok(samples
            .iter()
            .any(|sample| sample["value"][1].as_str().is_some_and(|value| value != "NaN")))
    }

    fn has_data_for_everything(mut self, world: &World, pushed: &Pushed, in_one_process: bool) {
        let _swarm = world.swarm(&pushed.endpoint);
        let folder = tempfile::tempdir().unwrap();
        let player = |name, server: &String| Player {
            world,
            server: server.clone(),
            name,
            folder: folder.path(),
            collector: None,
        };
        // The same one at each server: where its entity is not, its calls are passed on.
        let players: Vec<Player<'_>> = world.rpc().iter().map(|server| player("Ada", server)).collect();
        players[0].does(&["join"]);
        let _watch = players[0].watches();
        let gone = player("Eve", &world.rpc()[0]);
        gone.does(&["join"]);
        gone.does(&["leave"]);
        world.await_metric("meridian_handoffs_total{");
        let is_excepted = |text: &str| {
            (!in_one_process && text.contains(RESTARTS))
                || (in_one_process && OF_CLUSTERS.iter().any(|name| text.contains(name)))
        };
        let (mut excepted, mut wanted) = (Vec::new(), Vec::new());
        for (place, expression) in expressions() {
            if is_excepted(&expression) {
                excepted.push((place, expression));
            } else {
                wanted.push((place, expression));
            }
        }
        // Most have data; a list that excepts everything would test nothing.
        assert!(wanted.len() > 120, "only {} expressions are run", wanted.len());
        let prometheus = &self;
        until("data for every expression", || {
            // Again and again, or its rates would be none.
            world.be_a_stranger();
            let step = ["move", "--dx", "1", "--dz", "0", "--ticks", "1"];
            for player in &players {
                player.does(&step);
            }
            gone.is_refused(&step);
            wanted.retain(|(place, expression)| {
                !prometheus
                    .has_data(expression)
                    .unwrap_or_else(|error| panic!("{place}: {error}"))
            });
            if wanted.is_empty() {
                Ok(())
            } else {
                Err(format!("{wanted:#?}"))
            }
        });
        for (place, expression) in excepted {
            // What has no data must be understood all the same.
            self.has_data(&expression)
                .unwrap_or_else(|error| panic!("{place}: {error}"));
        }
        self.variables_have_values();
        self.no_rule_fails();
    }

    /// The lists that dashboards offer to choose from.
    fn variables_have_values(&self) {
        for (name, dashboard) in dashboards::all() {
            for variable in dashboard["templating"]["list"].as_array().unwrap() {
                let definition = variable["query"]["query"].as_str().unwrap();
                let inside = definition
                    .strip_prefix("label_values(")
                    .and_then(|rest| rest.strip_suffix(')'));
                let (metric, label) = inside.unwrap().split_once(", ").unwrap();
                assert!(
                    self.has_data(&format!("count by ({label}) ({metric}{{{label}!=\"\"}})"))
                        .unwrap(),
                    "{name}: {definition}"
                );
            }
        }
    }

    fn no_rule_fails(&mut self) {
        let url = format!("{}/api/v1/rules", self.url);
        let groups = self.running.until("tells its rules", || json_of(get(&url)));
        let groups = groups["data"]["groups"].as_array().unwrap();
        let rules: Vec<&Value> = groups
            .iter()
            .flat_map(|group| group["rules"].as_array().unwrap())
            .collect();
        assert_eq!(rules.len(), rules::all_rules().len());
        for rule in rules {
            assert_eq!(rule["health"], "ok", "{}: {}", rule["name"], rule["lastError"]);
        }
    }
}

/// All expressions, with where they stand: those of dashboards as Grafana would send them; for an alert, each series that it looks at, since
/// it has no data while it does not fire; and each recording rule's expression and result.
fn expressions() -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = dashboards::queries()
        .into_iter()
        .filter(|query| query.source == "prometheus")
        .map(|query| (query.place, as_grafana_sends(&query.text)))
        .collect();
    for rule in rules::all_rules() {
        let expression = rule["expr"].as_str().unwrap().to_owned();
        if let Some(name) = rule["record"].as_str() {
            // Its name tells what it is made of, so exceptions hold for both.
            found.push((name.to_owned(), format!("{name} or {expression}")));
        } else {
            let alert = rule["alert"].as_str().unwrap();
            found.extend(
                series(&expression)
                    .into_iter()
                    .map(|name| (format!("alert {alert}"), name)),
            );
        }
    }
    found
}

fn as_grafana_sends(expression: &str) -> String {
    expression
        .replace("$__rate_interval", "15s")
        .replace("$zone", ".*")
        .replace("$instance", ".*")
}

/// The names of the series in an expression.
fn series(expression: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let words = expression
        .split(|c: char| !is_part(c))
        .filter(|word| *word == "up" || word.contains("meridian_"));
    let found: BTreeSet<String> = words.map(str::to_owned).collect();
    assert!(!found.is_empty(), "{expression} looks at nothing");
    found
}

/// Lets alerts fire after a second of what they are for; that they wait is tested by promtool, in a time that is a number.
fn be_impatient(rules: &Path) {
    let text = fs::read_to_string(rules).unwrap();
    let lines = text.lines().map(|line| {
        let is_wait = line.trim_start().starts_with("for: ");
        if is_wait { "        for: 1s" } else { line }
    });
    fs::write(rules, lines.collect::<Vec<_>>().join("\n")).unwrap();
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            fs::copy(&path, &target).map(drop).unwrap();
        }
    }
}

#[test]
fn the_series_of_an_expression_are_found() {
    let found = series("sum by (zone) (rate(meridian_x_total{zone=~\".+\"}[5m])) > on (zone) zone:meridian_y:p99");
    assert_eq!(
        found.into_iter().collect::<Vec<_>>(),
        ["meridian_x_total", "zone:meridian_y:p99"]
    );
    // The alerts' inhibitions name alerts that there are.
    let inhibited = yaml::file("deploy/observability/alertmanager/alertmanager.yml")["inhibit_rules"].to_string();
    for name in ["TargetDown", "BusAway", "BusReconnects", "HandoffStuck", "HandoffSlow"] {
        assert!(
            inhibited.contains(name) && rules::all_rules().iter().any(|rule| rule["alert"] == name),
            "{name}"
        );
    }
}
