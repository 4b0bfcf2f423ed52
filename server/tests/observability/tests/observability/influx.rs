//! InfluxDB: the database as `init.iql` makes it, filled as the Collector would fill it from real servers, asked what dashboards ask.

use std::{
    fs,
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::Value;

use crate::{
    dashboards, influx_lines,
    meridian::{World, metrics_of},
    pushed::Pushed,
    support::{Running, body_of, free_port, get, installed, json_of, post, post_form, read, until},
};

struct InfluxDb {
    _running: Running,
    url: String,
    _folder: tempfile::TempDir,
}

impl InfluxDb {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (http, rpc) = (free_port(), free_port());
        let path = folder.path().display();
        let config = format!(
            "reporting-disabled = true\nbind-address = \"127.0.0.1:{rpc}\"\n[meta]\ndir = \"{path}/meta\"\n[data]\ndir = \"{path}/data\"\n\
             wal-dir = \"{path}/wal\"\n[http]\nbind-address = \"127.0.0.1:{http}\"\nlog-enabled = false\n[monitor]\nstore-enabled = false\n"
        );
        let file = folder.path().join("influxdb.conf");
        fs::write(&file, config).unwrap();
        let mut command = Command::new(installed("influxd"));
        command.args(["run", "-config"]).arg(file);
        let mut running = Running::start("influxd", folder.path(), &mut command);
        let url = format!("http://127.0.0.1:{http}");
        running.until("is ready", || body_of(get(&format!("{url}/ping"))));
        Self {
            _running: running,
            url,
            _folder: folder,
        }
    }

    fn query(&self, query: &str) -> Value {
        let answer = json_of(post_form(&format!("{}/query?db=meridian", self.url), &[("q", query)]));
        let answer = answer.unwrap_or_else(|error| panic!("{query}\n{error}"));
        let result = answer["results"][0].clone();
        assert!(result["error"].is_null(), "{query}\n{}", result["error"]);
        result
    }

    /// As the exporter does it with `v1_compatibility`.
    fn write(&self, lines: &str) {
        let written = body_of(post(&format!("{}/write?db=meridian&precision=ns", self.url), lines));
        written.unwrap_or_else(|error| panic!("{error}\n{lines}"));
    }

    /// Whether a query has a value that is a number.
    fn has_data(&self, query: &str) -> bool {
        let result = self.query(query);
        let series = result["series"].as_array().into_iter().flatten();
        series
            .flat_map(|series| series["values"].as_array().unwrap())
            .any(|row| row[1].is_number())
    }
}

#[test]
fn every_query_of_the_dashboards_finds_what_the_collector_would_write() {
    let world = World::in_one_process(None);
    let pushed = Pushed::start();
    let _swarm = world.swarm(&pushed.endpoint);
    world.await_metric("meridian_handoffs_total{");
    let influx = InfluxDb::start();
    influx.query(read("deploy/observability/influxdb/init.iql").trim());
    let policies = influx.query("SHOW RETENTION POLICIES ON meridian").to_string();
    assert!(
        policies.contains("\"month\",\"720h0m0s\",\"24h0m0s\",1,true"),
        "{policies}"
    );

    let mut wanted: Vec<(String, String)> = dashboards::queries()
        .into_iter()
        .filter(|query| query.source == "influxdb")
        .map(|query| (query.place, as_grafana_sends(&query.text)))
        .collect();
    assert!(wanted.len() >= 10, "{wanted:#?}");
    assert!(
        wanted.iter().any(|(_, query)| query.contains("meridian_client_")),
        "{wanted:#?}"
    );
    until("data for every query", || {
        for admin in &world.admins {
            let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            let tags = influx_lines::scraped_from(admin);
            influx.write(&influx_lines::from_page(&metrics_of(admin)?, &tags, at.as_nanos()));
        }
        for push in pushed.newest() {
            influx.write(&influx_lines::from_page(&push.page, &push.tags, push.at_ns));
        }
        wanted.retain(|(_, query)| !influx.has_data(query));
        if wanted.is_empty() {
            Ok(())
        } else {
            Err(format!("{wanted:#?}"))
        }
    });
}

#[test]
fn influxdb_shows_its_own_metrics_where_prometheus_looks_for_them() {
    let influx = InfluxDb::start();
    let page = body_of(get(&format!("{}/metrics", influx.url))).unwrap();
    assert!(page.contains("# TYPE "), "{page}");
}

fn as_grafana_sends(query: &str) -> String {
    query
        .replace("$timeFilter", "time > now() - 5m")
        .replace("$__interval", "1s")
        .replace("$zone", ".*")
        .replace("$instance", ".*")
}
