//! docs/telemetry.md tells of every metric, span and variable that there is.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails by panicking")]

use std::path::{Path, PathBuf};

/// Directories deeper than the deepest crate's sources are none of the project's.
const DEPTH_MAX: usize = 8;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..")
}

/// Every file of this name in the project's own directories.
fn find(directory: &Path, name: &str, depth: usize, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let is_own = !["target", ".git"].iter().any(|other| entry.file_name() == *other);
        if entry.file_type().unwrap().is_dir() && is_own && depth < DEPTH_MAX {
            find(&entry.path(), name, depth + 1, found);
        } else if entry.file_name() == name {
            found.push(entry.path());
        }
    }
}

/// The names and values of a source's text constants, on one line or two.
fn constants(source: &str) -> Vec<(&str, &str)> {
    let definitions = source.split("const ").skip(1);
    definitions
        .filter_map(|definition| {
            let (name, rest) = definition.split_once(": &str =")?;
            let value = rest.trim_start().strip_prefix('"')?;
            Some((name, value.split_once('"')?.0))
        })
        .collect()
}

/// What kind of metric a source describes the constant's as; none if it does not.
fn described_kind(source: &str, constant: &str) -> Option<&'static str> {
    ["counter", "gauge", "histogram"].into_iter().find(|kind| {
        let calls = source.split(&format!("describe_{kind}!(")).skip(1).collect::<Vec<_>>();
        calls
            .iter()
            .any(|call| call.trim_start().split([',', ')']).next() == Some(constant))
    })
}

fn document() -> String {
    std::fs::read_to_string(repository().join("docs/telemetry.md")).unwrap()
}

/// Not the values of labels, which stand beside the names.
fn is_metric(constant: &str, name: &str) -> bool {
    let is_label = ["REASON_", "OUTCOME_"]
        .iter()
        .any(|prefix| constant.starts_with(prefix));
    !is_label && (name.starts_with("meridian_") || name.starts_with("process_"))
}

#[test]
fn every_metric_is_documented() {
    let mut files = Vec::new();
    for part in ["server", "protocol", "client", "tools"] {
        find(&repository().join(part), "metric_definitions.rs", 0, &mut files);
    }
    assert!(files.len() >= 9, "{files:?}");
    let (document, mut count, mut described) = (document(), 0, 0);
    for file in files {
        let source = std::fs::read_to_string(&file).unwrap();
        let metrics = constants(&source).into_iter();
        for (constant, name) in metrics.filter(|(constant, name)| is_metric(constant, name)) {
            count += 1;
            let start = format!("| `{name}` |");
            let row = document.lines().find(|line| line.starts_with(&start));
            let row = row.unwrap_or_else(|| panic!("docs/telemetry.md has no row for {name} of {}", file.display()));
            let kind = described_kind(&source, constant);
            described += usize::from(kind.is_some());
            if let Some(kind) = kind {
                assert!(
                    row.starts_with(&format!("{start} {kind} |")),
                    "{name} is a {kind}: {row}"
                );
            }
        }
    }
    assert!(count >= 70, "{count} metrics");
    assert!(described >= 25, "{described} metrics are described");
}

#[test]
fn every_row_of_a_metric_has_a_kind_labels_a_unit_and_a_meaning() {
    let document = document();
    let (_, metrics) = document.split_once("\n## Metrics\n").unwrap();
    let rows: Vec<&str> = metrics.lines().filter(|line| line.starts_with("| `")).collect();
    assert!(rows.len() >= 90, "{}", rows.len());
    for row in rows {
        let columns: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [_, kind, labels, unit, meaning] = columns[..] else {
            panic!("five columns: {row}");
        };
        assert!(["counter", "gauge", "histogram"].contains(&kind), "{row}");
        let are_labels = labels == "-"
            || labels
                .split(", ")
                .all(|label| label.starts_with('`') && label.ends_with('`'));
        assert!(are_labels, "{row}");
        assert!(["1", "s", "ms", "bytes", "ticks"].contains(&unit), "{row}");
        assert!(meaning.ends_with('.'), "{row}");
    }
}

#[test]
fn every_span_and_attribute_is_documented() {
    let source = std::fs::read_to_string(repository().join("server/libs/telemetry/src/span_definitions.rs")).unwrap();
    let document = document();
    for (_, name) in constants(&source) {
        assert!(
            document.contains(&format!("`{name}`")),
            "docs/telemetry.md does not tell of {name}"
        );
    }
}

#[test]
fn every_variable_is_documented() {
    let sources = repository().join("server/libs/telemetry/src");
    let source = ["settings.rs", "settings/destination.rs", "settings/variables.rs"]
        .map(|file| std::fs::read_to_string(sources.join(file)).unwrap())
        .concat();
    let whole = source
        .split('"')
        .filter(|text| text.starts_with("OTEL_") && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'));
    let mut names: Vec<String> = whole.map(str::to_owned).collect();
    // Those of one signal are composed, each beside the general one.
    let general = names.clone().into_iter();
    let general = general.filter_map(|name| Some(name.strip_prefix("OTEL_EXPORTER_OTLP_")?.to_owned()));
    for what in general.collect::<Vec<_>>() {
        names.extend(["TRACES", "METRICS"].map(|signal| format!("OTEL_EXPORTER_OTLP_{signal}_{what}")));
    }
    assert!(names.len() >= 35, "{names:?}");
    let document = document();
    for name in names {
        assert!(
            document.contains(&format!("`{name}`")),
            "docs/telemetry.md does not tell of {name}"
        );
    }
}
