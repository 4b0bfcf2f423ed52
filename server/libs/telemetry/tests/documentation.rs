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

/// The values of a source's text constants.
fn constants(source: &str) -> Vec<&str> {
    let lines = source
        .lines()
        .filter(|line| line.contains("const ") && line.contains(": &str = \""));
    lines.map(|line| line.split('"').nth(1).unwrap()).collect()
}

fn document() -> String {
    std::fs::read_to_string(repository().join("docs/telemetry.md")).unwrap()
}

/// Not the values of labels, which stand beside the names.
fn is_metric(name: &str) -> bool {
    name.starts_with("meridian_") || name.starts_with("process_")
}

#[test]
fn every_metric_is_documented() {
    let mut files = Vec::new();
    for part in ["server", "protocol", "client", "tools"] {
        find(&repository().join(part), "metric_definitions.rs", 0, &mut files);
    }
    assert!(files.len() >= 9, "{files:?}");
    let (document, mut count) = (document(), 0);
    for file in files {
        let source = std::fs::read_to_string(&file).unwrap();
        for name in constants(&source).into_iter().filter(|name| is_metric(name)) {
            count += 1;
            let row = format!("| `{name}` |");
            assert!(
                document.contains(&row),
                "docs/telemetry.md has no row for {name} of {}",
                file.display()
            );
        }
    }
    assert!(count >= 70, "{count} metrics");
}

#[test]
fn every_span_and_attribute_is_documented() {
    let source = std::fs::read_to_string(repository().join("server/libs/telemetry/src/span_definitions.rs")).unwrap();
    let document = document();
    for name in constants(&source) {
        assert!(
            document.contains(&format!("`{name}`")),
            "docs/telemetry.md does not tell of {name}"
        );
    }
}

#[test]
fn every_variable_is_documented() {
    let source = std::fs::read_to_string(repository().join("server/libs/telemetry/src/settings.rs")).unwrap();
    let document = document();
    let names = source
        .split('"')
        .filter(|text| text.starts_with("OTEL_") && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'));
    for name in names {
        assert!(
            document.contains(&format!("`{name}`")),
            "docs/telemetry.md does not tell of {name}"
        );
    }
}
