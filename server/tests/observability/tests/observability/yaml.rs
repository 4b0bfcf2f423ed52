//! YAML, read strictly: a key that stands twice is an error.

use serde_json::Value;

/// A file as JSON.
pub fn parse(name: &str, text: &str) -> Value {
    // Through a type that refuses keys that stand twice; JSON's takes the last.
    let strict: serde_norway::Value =
        serde_norway::from_str(text).unwrap_or_else(|error| panic!("{name} is no YAML: {error}"));
    serde_json::to_value(strict).unwrap_or_else(|error| panic!("{name} holds what JSON cannot: {error}"))
}

/// A file of the repository.
pub fn file(path: &str) -> Value {
    parse(path, &crate::support::read(path))
}

/// The texts of a list.
pub fn texts(value: &Value) -> Vec<String> {
    let list = value.as_array().unwrap_or_else(|| panic!("{value} is no list"));
    list.iter()
        .map(|entry| {
            entry
                .as_str()
                .unwrap_or_else(|| panic!("{entry} is no text"))
                .to_owned()
        })
        .collect()
}

/// The keys of a map.
pub fn keys(value: &Value) -> Vec<String> {
    let map = value.as_object().unwrap_or_else(|| panic!("{value} is no map"));
    map.keys().cloned().collect()
}

#[test]
fn a_key_that_stands_twice_is_refused() {
    assert!(std::panic::catch_unwind(|| parse("a test's", "a: 1\nb: 2\na: 3\n")).is_err());
    assert_eq!(parse("a test's", "a: [1, x]\n")["a"][1], "x");
}
