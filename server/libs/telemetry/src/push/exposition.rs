//! The Prometheus text format (<https://prometheus.io/docs/instrumenting/exposition_formats/>), as far as recorders write it.
//!
//! A line that is not understood is left out; nothing here fails or keeps more than its bounds.

use std::collections::BTreeMap;

/// Samples that are read. A zone server has some hundred; more come only of labels that should not be labels.
pub(super) const SAMPLES_MAX: usize = 65_536;

/// Labels of a sample.
pub(super) const LABELS_MAX: usize = 32;

/// Bytes of a name, a label's value or a help text that are kept.
const TEXT_BYTES_MAX: usize = 1024;

/// What the samples of a family say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum FamilyKind {
    Counter,
    #[default]
    Gauge,
    Histogram,
    Summary,
}

/// A family's type and help.
#[derive(Clone, Debug, Default)]
pub(super) struct Family {
    pub(super) kind: FamilyKind,
    pub(super) help: String,
}

/// One line with a value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    /// With `_bucket`, `_sum` or `_count` where it has one.
    pub(super) name: String,
    pub(super) labels: Vec<(String, String)>,
    pub(super) value: f64,
}

/// A whole text.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    pub(super) families: BTreeMap<String, Family>,
    pub(super) samples: Vec<Sample>,
}

impl Exposition {
    pub(super) fn parse(text: &str) -> Self {
        let mut exposition = Self::default();
        for line in text.lines().map(str::trim) {
            if let Some(comment) = line.strip_prefix('#') {
                exposition.read_comment(comment.trim_start());
            } else if exposition.samples.len() < SAMPLES_MAX
                && let Some(sample) = parse_sample(line)
            {
                exposition.samples.push(sample);
            }
        }
        exposition
    }

    fn read_comment(&mut self, comment: &str) {
        let mut words = comment.splitn(3, ' ');
        let (Some(what), Some(name)) = (words.next(), words.next()) else {
            return;
        };
        let text = words.next().unwrap_or_default();
        let is_known = self.families.contains_key(name);
        if !is_name(name) || (!is_known && self.families.len() >= SAMPLES_MAX) {
            return;
        }
        match what {
            "HELP" => self.families.entry(name.to_owned()).or_default().help = unescape_help(text),
            "TYPE" => {
                let kind = match text.trim() {
                    "counter" => FamilyKind::Counter,
                    "histogram" => FamilyKind::Histogram,
                    "summary" => FamilyKind::Summary,
                    _ => FamilyKind::Gauge,
                };
                self.families.entry(name.to_owned()).or_default().kind = kind;
            }
            _ => {}
        }
    }
}

/// `name{label="value",...} value [timestamp]`.
fn parse_sample(line: &str) -> Option<Sample> {
    let name_end = line.find(['{', ' ', '\t'])?;
    let (name, rest) = line.split_at_checked(name_end)?;
    if !is_name(name) {
        return None;
    }
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => parse_labels(rest)?,
        None => (Vec::new(), rest),
    };
    let value = parse_value(rest.split_ascii_whitespace().next()?)?;
    Some(Sample {
        name: name.to_owned(),
        labels,
        value,
    })
}

/// Labels behind the opening brace, and what follows the closing one.
fn parse_labels(mut rest: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        if labels.len() >= LABELS_MAX {
            return None;
        }
        let (key, behind) = rest.split_once('=')?;
        let key = key.trim();
        if !is_name(key) {
            return None;
        }
        let (value, behind) = parse_quoted(behind.trim_start().strip_prefix('"')?)?;
        labels.push((key.to_owned(), value));
        rest = behind;
    }
}

/// Text up to its closing quote with `\\`, `\"` and `\n` undone, and what follows.
fn parse_quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        let character = match character {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => match characters.next()?.1 {
                'n' => '\n',
                other => other,
            },
            other => other,
        };
        if value.len() < TEXT_BYTES_MAX {
            value.push(character);
        }
    }
    None
}

fn parse_value(text: &str) -> Option<f64> {
    match text {
        "+Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        _ => text.parse().ok(),
    }
}

fn unescape_help(text: &str) -> String {
    let mut help = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next()
        && help.len() < TEXT_BYTES_MAX
    {
        help.push(match character {
            '\\' => match characters.next() {
                Some('n') => '\n',
                Some(other) => other,
                None => '\\',
            },
            other => other,
        });
    }
    help
}

fn is_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b':');
    name.len() <= TEXT_BYTES_MAX
        && name.bytes().next().is_some_and(is_letter)
        && name.bytes().all(|byte| is_letter(byte) || byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn samples(text: &str) -> Vec<Sample> {
        Exposition::parse(text).samples
    }

    #[test]
    fn labels_with_escapes_are_read() {
        let text = "one{path=\"C:\\\\DIR\",quote=\"a \\\"b\\\"\",lines=\"x\\ny\", brace=\"}\",} 2.5 1700000000000";
        let [sample] = &samples(text)[..] else {
            panic!("one sample")
        };
        let label = |at: usize| (sample.labels[at].0.as_str(), sample.labels[at].1.as_str());
        assert_eq!(label(0), ("path", "C:\\DIR"));
        assert_eq!(label(1), ("quote", "a \"b\""));
        assert_eq!(label(2), ("lines", "x\ny"));
        assert_eq!(label(3), ("brace", "}"));
        assert_eq!((sample.name.as_str(), sample.value), ("one", 2.5));
    }

    #[test]
    fn values_that_are_no_numbers_are_read_or_left_out() {
        let text = "a +Inf\nb -Inf\nc NaN\nd x\ne\n{} 1\n1f 2\ng{h} 3\ni{j=\"k\" 4\nl{m=\"n\"} 1e-3\n";
        let samples = samples(text);
        let names: Vec<&str> = samples.iter().map(|sample| sample.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c", "l"]);
        assert_eq!(samples[0].value, f64::INFINITY);
        assert!(samples[2].value.is_nan());
        assert_eq!(samples[3].value, 0.001);
    }

    #[test]
    fn a_sample_with_too_many_labels_is_left_out() {
        let labels = |count| {
            (0..count)
                .map(|at| format!("l{at}=\"v\""))
                .collect::<Vec<_>>()
                .join(",")
        };
        assert_eq!(samples(&format!("a{{{}}} 1", labels(LABELS_MAX))).len(), 1);
        assert_eq!(samples(&format!("a{{{}}} 1", labels(LABELS_MAX + 1))).len(), 0);
    }

    #[test]
    fn too_many_samples_are_cut_off() {
        let text = "a 1\n".repeat(SAMPLES_MAX + 10);
        assert_eq!(samples(&text).len(), SAMPLES_MAX);
    }

    proptest! {
        #[test]
        fn no_text_breaks_it(text in "(?s).{0,200}") {
            let _ = Exposition::parse(&text);
        }

        #[test]
        fn every_label_survives_the_way(value in any::<String>(), number: f64) {
            prop_assume!(value.len() < TEXT_BYTES_MAX && !value.contains(['\r', '\u{85}', '\u{2028}', '\u{2029}']));
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let samples = samples(&format!("name{{label=\"{escaped}\"}} {number}"));
            prop_assert_eq!(samples.len(), 1);
            prop_assert_eq!(&samples[0].labels, &[("label".to_owned(), value)]);
            prop_assert!(samples[0].value == number || number.is_nan());
        }
    }
}
