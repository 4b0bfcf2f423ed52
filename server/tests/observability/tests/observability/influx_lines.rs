//! What the Collector's InfluxDB exporter writes for metrics that it has scraped or that were pushed, in its schema `telegraf-prometheus-v1`:
//! line protocol with a measurement for each metric. Counters have the field `counter`, gauges `gauge`, histograms `count`, `sum` and one for each
//! bound; labels are tags, and so are the resource's and the scope's attributes.

use std::collections::BTreeMap;

/// A page of Prometheus's text format as lines, with the tags of the resource and the scope, at a time in nanoseconds since the Unix epoch.
pub fn from_page(page: &str, resource: &BTreeMap<String, String>, at_ns: u128) -> String {
    let mut kinds: BTreeMap<&str, &str> = BTreeMap::new();
    let mut points: BTreeMap<(String, String), BTreeMap<String, String>> = BTreeMap::new();
    for line in page.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            kinds.insert(name, kind);
        }
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, mut labels) = labels_of(series);
        let bound = labels.remove("le");
        let (measurement, field) = match kinds.get(name) {
            Some(&"counter") => (name, "counter".to_owned()),
            Some(&"gauge") => (name, "gauge".to_owned()),
            None => field_of_histogram(name, bound),
            Some(kind) => panic!("{name} is a {kind}"),
        };
        let point = points
            .entry((measurement.to_owned(), tags(labels, resource)))
            .or_default();
        point.insert(field, value.to_owned());
    }
    let mut lines = String::new();
    for ((measurement, tags), fields) in points {
        let fields: Vec<String> = fields
            .iter()
            .map(|(key, value)| format!("{}={value}", escaped(key)))
            .collect();
        // The time from which it counts is a field as well, and the only one that is a whole number.
        lines += &format!(
            "{measurement},{tags} {},start_time_unix_nano={at_ns}i {at_ns}\n",
            fields.join(",")
        );
    }
    lines
}

/// Of `name_bucket`, `name_sum` and `name_count`.
fn field_of_histogram(name: &str, bound: Option<String>) -> (&str, String) {
    let (measurement, part) = name.rsplit_once('_').unwrap();
    match (part, bound) {
        ("bucket", Some(bound)) => (measurement, bound),
        ("sum" | "count", None) => (measurement, part.to_owned()),
        _ => panic!("{name} is of no kind that is known"),
    }
}

/// `name{a="b",c="d"}`, taken apart. Values hold neither commas nor quotes, or this panics.
fn labels_of(series: &str) -> (&str, BTreeMap<String, String>) {
    let Some((name, rest)) = series.split_once('{') else {
        return (series, BTreeMap::new());
    };
    let inside = rest.strip_suffix('}').unwrap();
    let pairs = inside.split("\",").map(|pair| {
        let (key, value) = pair.split_once("=\"").unwrap_or_else(|| panic!("{series}"));
        (key.to_owned(), value.trim_end_matches('"').to_owned())
    });
    (name, pairs.collect())
}

/// The tags of what the Collector scrapes from `instance`.
pub fn scraped_from(instance: &str) -> BTreeMap<String, String> {
    let (host, port) = instance.rsplit_once(':').unwrap();
    let tags = [
        ("service.name", "meridian"),
        ("service.instance.id", instance),
        ("server.address", host),
        ("server.port", port),
        ("url.scheme", "http"),
        (
            "otel.library.name",
            "github.com/open-telemetry/opentelemetry-collector-contrib/receiver/prometheusreceiver",
        ),
        ("otel.library.version", "0.140.0"),
    ];
    tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

fn tags(labels: BTreeMap<String, String>, resource: &BTreeMap<String, String>) -> String {
    let mut all = labels;
    all.extend(resource.clone());
    let pairs: Vec<String> = all
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| format!("{}={}", escaped(key), escaped(value)))
        .collect();
    pairs.join(",")
}

/// As line protocol has it for keys and the values of tags.
fn escaped(text: &str) -> String {
    text.replace(',', "\\,").replace('=', "\\=").replace(' ', "\\ ")
}

#[test]
fn a_page_becomes_lines() {
    let page = "# TYPE ticks counter\nticks{zone=\"a b\"} 7\n# TYPE took histogram\ntook_bucket{zone=\"a\",le=\"0.1\"} 1\n\
                took_bucket{zone=\"a\",le=\"+Inf\"} 2\ntook_sum{zone=\"a\"} 0.5\ntook_count{zone=\"a\"} 2\n";
    let lines = from_page(page, &scraped_from("127.0.0.1:7610"), 5);
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(
        lines[0].starts_with("ticks,") && lines[0].contains(",zone=a\\ b counter=7,start_time_unix_nano=5i 5"),
        "{}",
        lines[0]
    );
    assert!(
        lines[1].contains(" +Inf=2,0.1=1,count=2,sum=0.5,start_time_unix_nano=5i 5"),
        "{}",
        lines[1]
    );
}
