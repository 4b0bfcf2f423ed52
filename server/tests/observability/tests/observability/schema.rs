//! Schemas of configurations whose programs do not run here, written from their documentation: each key that may be there, and what it holds.

use std::collections::BTreeSet;

use serde_json::Value;

/// What a key holds.
#[derive(Clone, Copy, Debug)]
pub enum Holds {
    Text,
    OneOf(&'static [&'static str]),
    /// `host:port`.
    Address,
    /// `http://host:port`.
    Url,
    /// As Go writes durations of one unit, more than none: `30s`.
    Duration,
    /// The same, or back: `-1m`.
    Shift,
    /// A whole number, 0 or more.
    Count,
    Port,
    Flag,
    /// A list of texts.
    Texts,
    /// Another program's configuration, whatever it is.
    Anything,
}

/// Keys with those above them, without names of instances; `[]` stands behind one that holds a list of objects.
pub type Schema = [(&'static str, Holds)];

/// What of a configuration is not as its schema has it, and what of the schema it has no use for.
pub fn faults<'s>(config: &Value, schema: impl IntoIterator<Item = &'s (&'static str, Holds)>) -> Vec<String> {
    let schema: Vec<_> = schema.into_iter().collect();
    let (mut faults, mut used) = (Vec::new(), BTreeSet::new());
    for (key, value) in leaves(config) {
        let known = schema.iter().find(|(known, holds)| match holds {
            Holds::Anything => key.strip_prefix(known).is_some_and(|below| below.starts_with('.')),
            _ => key == *known,
        });
        match known {
            None => faults.push(format!("{key} is not known")),
            Some((known, holds)) => {
                used.insert(*known);
                if !holds.fits(value) {
                    faults.push(format!("{key} is {value}, and should be {holds:?}"));
                }
            }
        }
    }
    let needless = schema.iter().filter(|(known, _)| !used.contains(known));
    faults.extend(needless.map(|(known, _)| format!("{known} is used no more: take it out of the schema")));
    faults
}

impl Holds {
    fn fits(self, value: &Value) -> bool {
        let text = value.as_str();
        let is_text = |fits: fn(&str) -> bool| text.is_some_and(fits);
        match self {
            Self::Text => is_text(|text| !text.is_empty()),
            Self::OneOf(words) => text.is_some_and(|text| words.contains(&text)),
            Self::Address => is_text(is_address),
            Self::Url => is_text(|text| text.strip_prefix("http://").is_some_and(is_address)),
            Self::Duration => is_text(is_duration),
            Self::Shift => is_text(|text| is_duration(text.strip_prefix('-').unwrap_or(text))),
            Self::Count => value.is_u64(),
            Self::Port => value.as_u64().is_some_and(|port| (1..=65_535).contains(&port)),
            Self::Flag => value.is_boolean(),
            Self::Texts => value
                .as_array()
                .is_some_and(|list| !list.is_empty() && list.iter().all(Value::is_string)),
            Self::Anything => true,
        }
    }
}

fn is_address(text: &str) -> bool {
    let is_host = |host: &str| !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
    let is_port = |port: &str| !port.starts_with('+') && port.parse::<u16>().is_ok_and(|port| port > 0);
    text.split_once(':')
        .is_some_and(|(host, port)| is_host(host) && is_port(port))
}

fn is_duration(text: &str) -> bool {
    let digits = text.trim_end_matches(|unit: char| unit.is_ascii_lowercase());
    let is_number = !digits.starts_with('+') && digits.parse::<u64>().is_ok_and(|number| number > 0);
    is_number && ["ms", "s", "m", "h"].contains(&&text[digits.len()..])
}

/// Below these, and below a service's pipelines, names of instances stand behind a slash.
const WITH_INSTANCES: [&str; 5] = [
    "extensions",
    "receivers",
    "processors",
    "exporters",
    "service.pipelines",
];

/// All that is no object and no list of objects, with its key.
fn leaves(config: &Value) -> Vec<(String, &Value)> {
    let mut leaves = Vec::new();
    gather(String::new(), config, &mut leaves);
    leaves
}

fn gather<'v>(above: String, value: &'v Value, leaves: &mut Vec<(String, &'v Value)>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, below) in map {
                let kind = match key.split_once('/') {
                    Some((kind, _)) if WITH_INSTANCES.contains(&above.as_str()) => kind,
                    _ => key,
                };
                let path = if above.is_empty() {
                    kind.to_owned()
                } else {
                    format!("{above}.{kind}")
                };
                gather(path, below, leaves);
            }
        }
        Value::Array(list) if list.iter().any(Value::is_object) => {
            for entry in list {
                gather(format!("{above}[]"), entry, leaves);
            }
        }
        _ => leaves.push((above, value)),
    }
}

#[test]
fn what_is_not_as_the_schema_has_it_is_found() {
    let schema: &Schema = &[
        ("at", Holds::Address),
        ("every", Holds::Duration),
        ("exporters.with", Holds::Texts),
        ("from", Holds::Shift),
        ("list[].name", Holds::Text),
        ("many", Holds::Count),
        ("of", Holds::Anything),
        ("on", Holds::Flag),
        ("port", Holds::Port),
        ("to", Holds::Url),
        ("word", Holds::OneOf(&["a", "b"])),
    ];
    let right = serde_json::json!({
        "at": "0.0.0.0:1", "every": "30s", "exporters": {"with/this": ["x"]}, "from": "-1m", "list": [{"name": "x"}, {"name": "y"}], "many": 0,
        "of": {"whatever": [1]}, "on": false, "port": 1, "to": "http://host:80", "word": "b",
    });
    assert_eq!(faults(&right, schema), [""; 0]);
    let wrong = [
        ("at", serde_json::json!("somewhere")),
        ("at", serde_json::json!("http://0.0.0.0:4317")),
        ("at", serde_json::json!("a b:1")),
        ("at", serde_json::json!("host:0")),
        ("every", serde_json::json!("-30s")),
        ("every", serde_json::json!("0s")),
        ("exporters", serde_json::json!({"with/this": "x"})),
        ("from", serde_json::json!("+1m")),
        ("port", serde_json::json!(70_000)),
        ("to", serde_json::json!("http://http://x:80")),
        ("every", serde_json::json!(30)),
        ("every", serde_json::json!("30 s")),
        ("every", serde_json::json!("s")),
        ("list", serde_json::json!([{"name": "x", "title": "y"}])),
        ("list", serde_json::json!([{"name": 1}])),
        ("many", serde_json::json!("1")),
        ("many", serde_json::json!(-1)),
        ("on", serde_json::json!("true")),
        ("to", serde_json::json!("host:80")),
        ("word", serde_json::json!("c")),
        ("other", serde_json::json!(1)),
    ];
    for (key, value) in wrong {
        let mut config = right.clone();
        config[key] = value;
        assert_eq!(faults(&config, schema).len(), 1, "{config}");
    }
    for (key, value) in [
        ("list", serde_json::json!({"name": "x"})),
        ("exporters", serde_json::json!([{"with": ["x"]}])),
        ("exporters", serde_json::json!({"with": {"this/one": ["x"]}})),
    ] {
        let mut config = right.clone();
        config[key] = value;
        assert_eq!(
            faults(&config, schema).len(),
            2,
            "one that is not known, one that is missing: {config}"
        );
    }
    let mut less = right;
    less.as_object_mut().unwrap().remove("many");
    assert_eq!(faults(&less, schema).len(), 1);
}
