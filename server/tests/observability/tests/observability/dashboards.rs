//! The dashboards and what provisions them: as files, for Grafana does not run here. Their queries are run by the tests in
//! `expressions` and `influx`.

use std::{collections::BTreeSet, path::Path, process::Command};

use serde_json::Value;

use crate::{
    schema::{
        self,
        Holds::{Count, Duration, Flag, OneOf, Shift, Text, Url},
        Schema,
    },
    support::{files, installed, repository, run_well},
    yaml,
};

const GRAFANA: &str = "deploy/observability/grafana";

/// All dashboards, with their files' names.
pub fn all() -> Vec<(String, Value)> {
    files(&format!("{GRAFANA}/dashboards"), "json")
        .iter()
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            (
                name,
                serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap(),
            )
        })
        .collect()
}

/// A query of a dashboard, and where it stands.
pub struct Query {
    pub place: String,
    /// The uid of the data source.
    pub source: String,
    pub text: String,
}

/// The queries of all panels.
pub fn queries() -> Vec<Query> {
    let mut found = Vec::new();
    for (name, dashboard) in all() {
        for panel in dashboard["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let text = ["expr", "query"].iter().find_map(|key| target[key].as_str());
                found.push(Query {
                    place: format!("{name}, {}", panel["title"].as_str().unwrap()),
                    source: target["datasource"]["uid"].as_str().unwrap().to_owned(),
                    text: text.unwrap_or_default().to_owned(),
                });
            }
        }
    }
    found
}

fn data_sources() -> BTreeSet<String> {
    let file = yaml::file(&format!("{GRAFANA}/provisioning/datasources/meridian.yaml"));
    let sources = file["datasources"].as_array().unwrap();
    sources
        .iter()
        .map(|source| source["uid"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_files_are_what_their_source_says() {
    run_well(
        Command::new("python3")
            .arg(repository(&format!("{GRAFANA}/make-dashboards")))
            .arg("--check"),
    );
}

/// Compares dashboards with Grafana's types, those of the repository if no files are named.
fn check() -> Command {
    let mut check = Command::new(installed("python3"));
    check.arg(repository(&format!("{GRAFANA}/check-dashboards")));
    check
}

#[test]
fn every_field_is_one_of_grafanas_types() {
    let said = run_well(&mut check());
    assert_eq!(said.trim(), "5 dashboards are of Grafana's types");
}

#[test]
fn a_field_that_grafana_does_not_know_or_takes_for_another_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let broken = |change: &dyn Fn(&mut Value)| {
        let (name, mut dashboard) = all().remove(0);
        change(&mut dashboard);
        let file = folder.path().join(format!("{name}.json"));
        std::fs::write(&file, dashboard.to_string()).unwrap();
        let output = check().arg(file).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stdout).unwrap()
    };
    let chart = |dashboard: &mut Value, change: &dyn Fn(&mut Value)| {
        let panels = dashboard["panels"].as_array_mut().unwrap();
        change(panels.iter_mut().find(|panel| panel["type"] == "timeseries").unwrap());
    };
    let misspelt = broken(&|dashboard| chart(dashboard, &|panel| panel["headline"] = "?".into()));
    assert!(
        misspelt.contains(".headline is no field that Grafana knows"),
        "{misspelt}"
    );
    let style = |panel: &mut Value| panel["fieldConfig"]["defaults"]["custom"]["drawStyle"] = "curve".into();
    let no_choice = broken(&|dashboard| chart(dashboard, &style));
    assert!(no_choice.contains("'curve', not of"), "{no_choice}");
    let a_text = broken(&|dashboard| chart(dashboard, &|panel| panel["gridPos"]["w"] = "12".into()));
    assert!(a_text.contains("'12', not of"), "{a_text}");
}

#[test]
fn there_are_five_dashboards_each_under_its_own_uid() {
    let names: Vec<String> = all()
        .into_iter()
        .map(|(name, dashboard)| {
            assert_eq!(dashboard["uid"], name.as_str());
            assert!(dashboard["title"].as_str().unwrap().starts_with("Meridian: "));
            name
        })
        .collect();
    assert_eq!(
        names,
        [
            "meridian-handoff",
            "meridian-latency",
            "meridian-network",
            "meridian-services",
            "meridian-ticks"
        ]
    );
}

#[test]
fn every_panel_has_an_id_a_place_a_unit_a_description_and_queries() {
    for (name, dashboard) in all() {
        let panels = dashboard["panels"].as_array().unwrap();
        let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
        assert_eq!(ids.len(), panels.len(), "{name}: ids stand twice");
        let mut taken: Vec<[u64; 4]> = Vec::new();
        for panel in panels {
            let place = format!("{name}, {}", panel["title"]);
            let [x, y, width, height] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
            assert!(width > 0 && height > 0 && x + width <= 24, "{place} is beyond the grid");
            for other in &taken {
                let apart = x >= other[0] + other[2]
                    || other[0] >= x + width
                    || y >= other[1] + other[3]
                    || other[1] >= y + height;
                assert!(apart, "{place} covers another panel");
            }
            taken.push([x, y, width, height]);
            if panel["type"] == "row" {
                continue;
            }
            assert!(
                panel["description"].as_str().is_some_and(|text| text.len() > 10),
                "{place} has no description"
            );
            assert!(
                panel["fieldConfig"]["defaults"]["unit"]
                    .as_str()
                    .is_some_and(|unit| !unit.is_empty()),
                "{place} has no unit"
            );
            let references: BTreeSet<&str> = panel["targets"]
                .as_array()
                .unwrap()
                .iter()
                .map(|target| target["refId"].as_str().unwrap())
                .collect();
            assert!(!references.is_empty(), "{place} asks for nothing");
            assert_eq!(
                references.len(),
                panel["targets"].as_array().unwrap().len(),
                "{place}: queries of one name"
            );
        }
    }
}

#[test]
fn every_query_asks_something_of_a_source_that_there_is() {
    let sources = data_sources();
    let queries = queries();
    for query in &queries {
        assert!(
            sources.contains(&query.source),
            "{}: no source {}",
            query.place,
            query.source
        );
        assert!(!query.text.trim().is_empty(), "{} has an empty query", query.place);
    }
    for source in ["prometheus", "influxdb"] {
        assert!(
            queries.iter().any(|query| query.source == source),
            "nothing asks {source}"
        );
    }
}

#[test]
fn every_variable_that_a_query_names_is_there() {
    const GRAFANAS_OWN: [&str; 3] = ["__rate_interval", "__interval", "timeFilter"];
    for (name, dashboard) in all() {
        let list = dashboard["templating"]["list"].as_array().unwrap();
        let variables: BTreeSet<&str> = list.iter().map(|variable| variable["name"].as_str().unwrap()).collect();
        let mut named = BTreeSet::new();
        for query in queries()
            .iter()
            .filter(|query| query.place.starts_with(&format!("{name},")))
        {
            for part in query.text.split('$').skip(1) {
                let end = part
                    .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                    .unwrap_or(part.len());
                let variable = part[..end].to_owned();
                // The end of a regular expression, as in /^$zone$/.
                if !variable.is_empty() && !GRAFANAS_OWN.contains(&variable.as_str()) {
                    assert!(
                        variables.contains(variable.as_str()),
                        "{}: no variable {variable}",
                        query.place
                    );
                    named.insert(variable);
                }
            }
        }
        assert_eq!(
            named.len(),
            variables.len(),
            "{name}: of {variables:?}, queries name {named:?}"
        );
    }
}

#[test]
fn provisioning_leads_to_the_dashboards_and_has_every_source_that_it_names() {
    let provider = &yaml::file(&format!("{GRAFANA}/provisioning/dashboards/meridian.yaml"))["providers"][0];
    let inside = provider["options"]["path"].as_str().unwrap();
    let compose = crate::support::read("deploy/compose/compose.yaml");
    assert!(compose.contains(&format!("../observability/grafana/dashboards:{inside}:ro")));
    assert!(compose.contains("../observability/grafana/provisioning:/etc/grafana/provisioning:ro"));
    let home = compose
        .split_once("HOME_DASHBOARD_PATH: ")
        .unwrap()
        .1
        .lines()
        .next()
        .unwrap();
    let home = Path::new(home).strip_prefix(inside).unwrap();
    assert!(
        repository(&format!("{GRAFANA}/dashboards")).join(home).exists(),
        "{}",
        home.display()
    );

    let sources = yaml::file(&format!("{GRAFANA}/provisioning/datasources/meridian.yaml"));
    let uids = data_sources();
    for source in sources["datasources"].as_array().unwrap() {
        let data = &source["jsonData"];
        for named in [&data["alertmanagerUid"], &data["tracesToMetrics"]["datasourceUid"]] {
            assert!(named.as_str().is_none_or(|uid| uids.contains(uid)), "no source {named}");
        }
    }
    assert_eq!(
        sources["datasources"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|source| source["isDefault"] == true)
            .count(),
        1
    );
}

/// What every data source has.
const SOURCE: &Schema = &[
    ("name", Text),
    ("uid", Text),
    ("type", OneOf(&["prometheus", "alertmanager", "influxdb", "jaeger"])),
    ("access", OneOf(&["proxy", "direct"])),
    ("url", Url),
    ("editable", Flag),
];

/// What a data source has beside it, by its type.
fn schema_of_source(kind: &str) -> &'static Schema {
    match kind {
        "prometheus" => &[
            ("isDefault", Flag),
            ("jsonData.httpMethod", OneOf(&["GET", "POST"])),
            ("jsonData.timeInterval", Duration),
            ("jsonData.manageAlerts", Flag),
            ("jsonData.alertmanagerUid", Text),
        ],
        "alertmanager" => &[("jsonData.implementation", OneOf(&["cortex", "mimir", "prometheus"]))],
        "influxdb" => &[
            ("jsonData.version", OneOf(&["InfluxQL", "Flux", "SQL"])),
            ("jsonData.dbName", Text),
            ("jsonData.httpMode", OneOf(&["GET", "POST"])),
            ("jsonData.timeInterval", Duration),
        ],
        "jaeger" => &[
            ("jsonData.nodeGraph.enabled", Flag),
            ("jsonData.tracesToMetrics.datasourceUid", Text),
            ("jsonData.tracesToMetrics.spanStartTimeShift", Shift),
            ("jsonData.tracesToMetrics.spanEndTimeShift", Shift),
            ("jsonData.tracesToMetrics.tags[].key", Text),
            ("jsonData.tracesToMetrics.tags[].value", Text),
            ("jsonData.tracesToMetrics.queries[].name", Text),
            ("jsonData.tracesToMetrics.queries[].query", Text),
        ],
        _ => &[],
    }
}

const PROVIDERS: &Schema = &[
    ("apiVersion", Count),
    ("providers[].name", Text),
    ("providers[].folder", Text),
    ("providers[].type", OneOf(&["file"])),
    ("providers[].disableDeletion", Flag),
    ("providers[].allowUiUpdates", Flag),
    ("providers[].updateIntervalSeconds", Count),
    ("providers[].options.path", Text),
];

#[test]
fn what_provisions_grafana_is_as_its_schema_has_it() {
    let mut faults = schema::faults(
        &yaml::file(&format!("{GRAFANA}/provisioning/dashboards/meridian.yaml")),
        PROVIDERS,
    );
    let mut sources = yaml::file(&format!("{GRAFANA}/provisioning/datasources/meridian.yaml"));
    for source in sources["datasources"].as_array().unwrap() {
        let kind = source["type"].as_str().unwrap();
        faults.extend(schema::faults(source, SOURCE.iter().chain(schema_of_source(kind))));
    }
    sources.as_object_mut().unwrap().remove("datasources");
    faults.extend(schema::faults(&sources, &[("apiVersion", Count)]));
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn no_link_of_a_dashboard_depends_on_where_something_is_published() {
    let sources = data_sources();
    for (name, dashboard) in all() {
        let mut into_explore = 0;
        for link in dashboard["links"].as_array().unwrap() {
            let Some(url) = link["url"].as_str() else { continue };
            let (_, panes) = url.split_once("/explore?").unwrap_or_else(|| panic!("{name}: {url}"));
            assert!(url.starts_with("/explore?"), "{name}: {url}");
            let named = sources.iter().filter(|uid| panes.contains(&format!("%22{uid}%22")));
            assert_eq!(named.collect::<Vec<_>>(), ["jaeger"], "{name}: {url}");
            into_explore += 1;
        }
        assert_eq!(into_explore, 1, "{name}");
    }
    // Who is not logged in has Explore.
    let compose = yaml::file("deploy/compose/compose.yaml");
    assert_eq!(
        compose["services"]["grafana"]["environment"]["GF_AUTH_ANONYMOUS_ORG_ROLE"],
        "Editor"
    );
}

#[test]
fn metrics_of_a_span_are_asked_for_by_an_attribute_that_spans_have() {
    let attributes = crate::support::read("server/libs/telemetry/src/span_definitions.rs");
    let sources = yaml::file(&format!("{GRAFANA}/provisioning/datasources/meridian.yaml"));
    let sources = sources["datasources"].as_array().unwrap();
    let tags: Vec<&Value> = sources
        .iter()
        .filter_map(|source| source["jsonData"]["tracesToMetrics"]["tags"].as_array())
        .flatten()
        .collect();
    assert!(!tags.is_empty());
    for tag in tags {
        let attribute = tag["key"].as_str().unwrap();
        assert!(
            attributes.contains(&format!("\"{attribute}\"")),
            "no span has {attribute}"
        );
        assert_eq!(
            tag["value"], "zone",
            "the metrics that are asked for have no such label"
        );
    }
}
