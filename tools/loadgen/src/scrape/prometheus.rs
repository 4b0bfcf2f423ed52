//! A small, bounded parser of the Prometheus text format, version 0.0.4, as its documentation's "Exposition formats"
//! describes it. Types, help and timestamps are read over.

/// Bytes of a page that are read.
pub const TEXT_BYTES_MAX: usize = 16 << 20;
/// Samples a page may hold.
const SAMPLES_MAX: usize = 200_000;
/// Labels one sample may have.
const LABELS_MAX: usize = 64;

/// Why a page is not in the format, and in which line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    line: usize,
    reason: &'static str,
}

impl std::fmt::Display for ParseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

impl std::error::Error for ParseError {}

#[derive(Clone, Debug, PartialEq)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

/// The samples of one page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    samples: Vec<Sample>,
}

impl Metrics {
    /// Reads a page.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(ParseError {
                line: 1,
                reason: "the page is too long",
            });
        }
        let mut samples = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let told = |reason| ParseError {
                line: index + 1,
                reason,
            };
            if samples.len() >= SAMPLES_MAX {
                return Err(told("too many samples"));
            }
            samples.push(parse_sample(line).map_err(told)?);
        }
        Ok(Self { samples })
    }

    /// Puts the samples of another page beside these: sums are then over both.
    pub fn add(&mut self, other: Self) {
        self.samples.extend(other.samples);
    }

    /// The sum over the samples of `name` that carry all of `labels`; absent when there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let matching = self
            .samples
            .iter()
            .filter(|sample| sample.name == name && sample.carries(labels));
        matching.fold(None, |sum, sample| Some(sum.unwrap_or(0.0) + sample.value))
    }

    /// The cumulative buckets of histogram `name` as (upper bound, count), ascending, summed over its other labels.
    pub fn buckets(&self, name: &str) -> Vec<(f64, f64)> {
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        let samples = self
            .samples
            .iter()
            .filter(|sample| sample.name.strip_suffix("_bucket") == Some(name));
        for sample in samples {
            let Some(bound) = sample.label("le").and_then(number).filter(|bound| !bound.is_nan()) else {
                continue;
            };
            match buckets.binary_search_by(|(known, _)| known.total_cmp(&bound)) {
                Ok(index) => buckets[index].1 += sample.value,
                Err(index) => buckets.insert(index, (bound, sample.value)),
            }
        }
        buckets
    }
}

impl Sample {
    fn label(&self, name: &str) -> Option<&str> {
        self.labels
            .iter()
            .find(|(label, _)| label == name)
            .map(|(_, value)| value.as_str())
    }

    fn carries(&self, labels: &[(&str, &str)]) -> bool {
        labels.iter().all(|(name, value)| self.label(name) == Some(value))
    }
}

/// The value below which `quantile` of a histogram's samples lie, taken as evenly spread within a bucket; absent without
/// samples and where it lies above the last bound.
pub fn quantile(buckets: &[(f64, f64)], quantile: f64) -> Option<f64> {
    let total = buckets.last().map(|(_, count)| *count).filter(|count| *count > 0.0)?;
    let rank = quantile * total;
    let mut below = (0.0, 0.0);
    for (bound, count) in buckets {
        if *count >= rank && *count > below.1 {
            let share = ((rank - below.1) / (count - below.1)).clamp(0.0, 1.0);
            return bound.is_finite().then(|| below.0 + (bound - below.0) * share);
        }
        below = (*bound, *count);
    }
    None
}

fn parse_sample(line: &str) -> Result<Sample, &'static str> {
    let end = line.find(|c: char| !is_name(c)).ok_or("a sample without a value")?;
    let (name, rest) = line.split_at(end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err("a sample without a name");
    }
    let rest = rest.trim_start();
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => parse_labels(rest)?,
        None => (Vec::new(), rest),
    };
    let mut fields = rest.split_ascii_whitespace();
    let value = fields.next().and_then(number).ok_or("a value that is not a number")?;
    if fields.next().is_some_and(|timestamp| timestamp.parse::<i64>().is_err()) || fields.next().is_some() {
        return Err("something behind the value that is not a timestamp");
    }
    Ok(Sample {
        name: name.to_owned(),
        labels,
        value,
    })
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

/// Rust reads what the format writes: `+Inf`, `-Inf` and `NaN` included.
fn number(text: &str) -> Option<f64> {
    text.parse().ok()
}

type Labels = Vec<(String, String)>;

/// Reads `name="value",...}` and gives what follows.
fn parse_labels(mut rest: &str) -> Result<(Labels, &str), &'static str> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start();
        if let Some(rest) = rest.strip_prefix('}') {
            return Ok((labels, rest));
        }
        if labels.len() >= LABELS_MAX {
            return Err("too many labels");
        }
        let (name, after) = rest.split_once('=').ok_or("a label without a value")?;
        let name = name.trim();
        if name.is_empty() || !name.chars().all(is_name) {
            return Err("a label without a name");
        }
        let (value, after) = parse_quoted(after.trim_start())?;
        labels.push((name.to_owned(), value));
        rest = after.trim_start();
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.starts_with('}') => {}
            None => return Err("labels that do not end"),
        }
    }
}

/// Reads a quoted value with its escapes and gives what follows.
fn parse_quoted(text: &str) -> Result<(String, &str), &'static str> {
    let text = text.strip_prefix('"').ok_or("a label's value without quotes")?;
    let mut value = String::new();
    let mut escaped = false;
    for (index, c) in text.char_indices() {
        match (escaped, c) {
            (false, '"') => return Ok((value, &text[index + 1..])),
            (false, '\\') => escaped = true,
            (false, c) => value.push(c),
            (true, c) => {
                value.push(if c == 'n' { '\n' } else { c });
                escaped = false;
            }
        }
    }
    Err("a label's value that does not end")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn error_of(text: &str) -> String {
        Metrics::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn samples_are_read_with_their_labels() {
        let metrics = Metrics::parse(concat!(
            "# HELP a_total Anything.\n# TYPE a_total counter\n",
            "a_total{zone=\"z0\",quote=\"a \\\"b\\\" \\\\ \\n\",} 3\n",
            "a_total{zone=\"z1\"} 4 1700000000000\n",
            "b 1.5e3\nc{} +Inf\nd NaN\n",
        ))
        .unwrap();
        assert_eq!(metrics.sum("a_total", &[]), Some(7.0));
        assert_eq!(metrics.sum("a_total", &[("zone", "z1")]), Some(4.0));
        assert_eq!(metrics.sum("a_total", &[("quote", "a \"b\" \\ \n")]), Some(3.0));
        assert_eq!(metrics.sum("a_total", &[("zone", "z2")]), None);
        assert_eq!(
            (metrics.sum("b", &[]), metrics.sum("c", &[])),
            (Some(1_500.0), Some(f64::INFINITY))
        );
        assert!(metrics.sum("d", &[]).is_some_and(f64::is_nan));
    }

    #[test]
    fn a_broken_line_is_told_with_its_number() {
        assert_eq!(error_of("a 1\n\nb x\n"), "line 3: a value that is not a number");
        assert_eq!(error_of("a{b=\"c} 1"), "line 1: a label's value that does not end");
        assert_eq!(error_of("a{b=\"c\"; 1"), "line 1: labels that do not end");
        assert_eq!(error_of("{b=\"c\"} 1"), "line 1: a sample without a name");
        assert_eq!(
            error_of("a 1 2 3"),
            "line 1: something behind the value that is not a timestamp"
        );
        assert_eq!(
            error_of(&"a 1\n".repeat(SAMPLES_MAX + 1)),
            "line 200001: too many samples"
        );
    }

    #[test]
    fn buckets_are_summed_over_zones_in_order() {
        let metrics = Metrics::parse(concat!(
            "t_bucket{zone=\"0\",le=\"+Inf\"} 10\nt_bucket{zone=\"0\",le=\"0.1\"} 4\n",
            "t_bucket{zone=\"1\",le=\"0.1\"} 1\nt_bucket{zone=\"1\",le=\"+Inf\"} 2\nt_sum 9\nt_count 12\n",
        ))
        .unwrap();
        assert_eq!(metrics.buckets("t"), [(0.1, 5.0), (f64::INFINITY, 12.0)]);
        assert!(metrics.buckets("u").is_empty());
    }

    #[test]
    fn a_quantile_lies_within_its_bucket() {
        let buckets = [(1.0, 0.0), (2.0, 50.0), (4.0, 90.0), (f64::INFINITY, 100.0)];
        assert_eq!(quantile(&buckets, 0.25), Some(1.5));
        assert_eq!(quantile(&buckets, 0.5), Some(2.0));
        assert_eq!(quantile(&buckets, 0.7), Some(3.0));
        assert_eq!(quantile(&buckets, 0.99), None, "above the last bound");
        assert_eq!(quantile(&[(1.0, 0.0), (f64::INFINITY, 0.0)], 0.5), None);
        assert_eq!(quantile(&[], 0.5), None);
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_parser(text in "[ -~\n\"\\\\{}=,é]{0,200}") {
            if let Ok(metrics) = Metrics::parse(&text) {
                prop_assert!(metrics.samples.len() <= text.lines().count());
            }
        }

        #[test]
        fn what_is_written_is_read(
            name in "[a-z_:][a-z0-9_:]{0,20}",
            label in "[a-z_][a-z0-9_]{0,10}",
            value in any::<String>(),
            number in any::<f64>().prop_filter("comparable", |number| !number.is_nan()),
        ) {
            // A line break that the format does not escape would end the line.
            let value: String = value.chars().filter(|c| *c == '\n' || !c.is_control()).collect();
            let value: String = value.chars().filter(|c| !matches!(c, '\u{2028}' | '\u{2029}')).collect();
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let metrics = Metrics::parse(&format!("{name}{{{label}=\"{escaped}\"}} {number}\n")).unwrap();
            prop_assert_eq!(metrics.sum(&name, &[(&label, &value)]), Some(number));
        }

        #[test]
        fn quantiles_never_leave_the_buckets_nor_fall(
            counts in proptest::collection::vec(0u32..100, 1..20),
            quantiles in proptest::array::uniform2(0.0f64..=1.0),
        ) {
            let mut total = 0.0;
            let buckets: Vec<(f64, f64)> = counts.iter().enumerate().map(|(index, count)| {
                total += f64::from(*count);
                (index as f64 + 1.0, total)
            }).collect();
            let low = quantile(&buckets, quantiles[0].min(quantiles[1]));
            let high = quantile(&buckets, quantiles[0].max(quantiles[1]));
            prop_assert_eq!(low.is_some(), total > 0.0);
            if let (Some(low), Some(high)) = (low, high) {
                prop_assert!(low <= high && low >= 0.0 && high <= buckets.len() as f64);
            }
        }
    }
}
