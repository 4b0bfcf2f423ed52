//! Prometheus text as OTLP's metrics: counters become monotonic cumulative sums, histograms keep their bounds, names stay as they
//! are scraped elsewhere.

use std::{collections::BTreeMap, time::SystemTime};

use opentelemetry_proto::{
    tonic::{
        collector::metrics::v1::ExportMetricsServiceRequest,
        common::v1::{AnyValue, KeyValue, any_value::Value},
        metrics::v1::{
            AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
            ScopeMetrics, Sum, Summary, SummaryDataPoint, metric::Data, number_data_point,
            summary_data_point::ValueAtQuantile,
        },
        resource::v1::Resource,
    },
    transform::common::tonic::ResourceAttributesWithSchema,
};

use super::exposition::{Exposition, Family, FamilyKind, Sample};
use crate::export::scope;

/// Units by the end of a name, in the way that OTLP writes them (<https://ucum.org>).
const UNITS: [(&str, &str); 3] = [("_seconds", "s"), ("_ms", "ms"), ("_bytes", "By")];

/// What is the same for all points of a push.
pub(super) struct Translation<'a> {
    /// Since when counters count.
    pub(super) began: SystemTime,
    pub(super) now: SystemTime,
    pub(super) resource: &'a ResourceAttributesWithSchema,
}

type Labels = Vec<(String, String)>;

/// What is known of one series of a histogram or summary.
#[derive(Default)]
struct Distribution {
    /// Cumulative counts by upper bound, or values by quantile.
    at: Vec<(f64, f64)>,
    sum: f64,
    count: Option<f64>,
}

/// The series of one family.
#[derive(Default)]
struct Series {
    numbers: Vec<(Labels, f64)>,
    distributions: BTreeMap<Labels, Distribution>,
}

impl Translation<'_> {
    /// Everything that the text says, as one request.
    pub(super) fn to_request(&self, text: &str) -> ExportMetricsServiceRequest {
        let exposition = Exposition::parse(text);
        let mut by_family: BTreeMap<String, Series> = BTreeMap::new();
        for sample in exposition.samples {
            sort_in(sample, &exposition.families, &mut by_family);
        }
        let unknown = Family::default();
        let metrics = by_family
            .into_iter()
            .map(|(name, series)| self.to_metric(exposition.families.get(&name).unwrap_or(&unknown), name, series))
            .collect();
        ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(Resource {
                    attributes: self.resource.attributes.0.clone(),
                    ..Resource::default()
                }),
                scope_metrics: vec![ScopeMetrics {
                    scope: Some(scope()),
                    metrics,
                    schema_url: String::new(),
                }],
                schema_url: String::new(),
            }],
        }
    }

    fn to_metric(&self, family: &Family, name: String, series: Series) -> Metric {
        let cumulative = AggregationTemporality::Cumulative as i32;
        let distributions = series.distributions.into_iter();
        let data = match family.kind {
            FamilyKind::Gauge => Data::Gauge(Gauge {
                data_points: self.to_numbers(series.numbers),
            }),
            FamilyKind::Counter => Data::Sum(Sum {
                data_points: self.to_numbers(series.numbers),
                aggregation_temporality: cumulative,
                is_monotonic: true,
            }),
            FamilyKind::Histogram => Data::Histogram(Histogram {
                data_points: distributions
                    .map(|(labels, of)| self.to_histogram(labels, of))
                    .collect(),
                aggregation_temporality: cumulative,
            }),
            FamilyKind::Summary => Data::Summary(Summary {
                data_points: distributions.map(|(labels, of)| self.to_summary(labels, of)).collect(),
            }),
        };
        let base = name.strip_suffix("_total").unwrap_or(&name);
        let unit = UNITS.iter().find(|(suffix, _)| base.ends_with(suffix));
        Metric {
            unit: unit.map_or("", |(_, unit)| *unit).to_owned(),
            description: family.help.clone(),
            data: Some(data),
            name,
            ..Metric::default()
        }
    }

    fn to_numbers(&self, numbers: Vec<(Labels, f64)>) -> Vec<NumberDataPoint> {
        let points = numbers.into_iter().map(|(labels, value)| NumberDataPoint {
            attributes: to_attributes(labels),
            start_time_unix_nano: unix_nanoseconds(self.began),
            time_unix_nano: unix_nanoseconds(self.now),
            value: Some(number_data_point::Value::AsDouble(value)),
            ..NumberDataPoint::default()
        });
        points.collect()
    }

    /// Prometheus counts what is up to each bound, OTLP what is between two of them.
    fn to_histogram(&self, labels: Labels, mut distribution: Distribution) -> HistogramDataPoint {
        distribution.at.retain(|(bound, _)| !bound.is_nan());
        distribution.at.sort_by(|one, other| one.0.total_cmp(&other.0));
        distribution.at.dedup_by(|later, earlier| later.0 == earlier.0);
        let (mut bounds, mut counts, mut below) = (Vec::new(), Vec::new(), 0);
        for (bound, cumulative) in &distribution.at {
            if bound.is_finite() {
                bounds.push(*bound);
                counts.push(to_count(*cumulative).saturating_sub(below));
                below = below.max(to_count(*cumulative));
            }
        }
        // What is said of all is in one of the buckets: a count that is lower than theirs was taken earlier.
        let infinite = distribution.at.last().filter(|(bound, _)| *bound == f64::INFINITY);
        let total = distribution
            .count
            .or(infinite.map(|(_, count)| *count))
            .map_or(below, to_count)
            .max(below);
        counts.push(total - below);
        HistogramDataPoint {
            attributes: to_attributes(labels),
            start_time_unix_nano: unix_nanoseconds(self.began),
            time_unix_nano: unix_nanoseconds(self.now),
            count: total,
            sum: distribution.sum.is_finite().then_some(distribution.sum),
            bucket_counts: counts,
            explicit_bounds: bounds,
            ..HistogramDataPoint::default()
        }
    }

    fn to_summary(&self, labels: Labels, distribution: Distribution) -> SummaryDataPoint {
        let quantiles = distribution
            .at
            .into_iter()
            .filter(|(quantile, _)| (0.0..=1.0).contains(quantile));
        SummaryDataPoint {
            attributes: to_attributes(labels),
            start_time_unix_nano: unix_nanoseconds(self.began),
            time_unix_nano: unix_nanoseconds(self.now),
            count: distribution.count.map_or(0, to_count),
            sum: distribution.sum,
            quantile_values: quantiles
                .map(|(quantile, value)| ValueAtQuantile { quantile, value })
                .collect(),
            ..SummaryDataPoint::default()
        }
    }
}

/// Puts a sample to its family, and what a histogram or summary says in several lines to one series.
fn sort_in(sample: Sample, families: &BTreeMap<String, Family>, by_family: &mut BTreeMap<String, Series>) {
    let Sample {
        name,
        mut labels,
        value,
    } = sample;
    let kind_of = |name: &str| families.get(name).map(|family| family.kind);
    let is_distribution = |name: &str| matches!(kind_of(name), Some(FamilyKind::Histogram | FamilyKind::Summary));
    for suffix in ["_bucket", "_sum", "_count", ""] {
        let Some(base) = name.strip_suffix(suffix).filter(|base| is_distribution(base)) else {
            continue;
        };
        let bound_label = if suffix == "_bucket" { "le" } else { "quantile" };
        let at = labels.iter().position(|(key, _)| key == bound_label);
        let at = at.map(|at| labels.remove(at).1);
        labels.sort();
        let distribution = by_family
            .entry(base.to_owned())
            .or_default()
            .distributions
            .entry(labels)
            .or_default();
        match (suffix, at) {
            ("_sum", _) => distribution.sum = value,
            ("_count", _) => distribution.count = Some(value),
            // Rust reads `+Inf` as the format writes it.
            (_, Some(at)) => distribution.at.extend(at.parse().ok().map(|at: f64| (at, value))),
            (_, None) => {}
        }
        return;
    }
    by_family.entry(name).or_default().numbers.push((labels, value));
}

fn to_attributes(labels: Labels) -> Vec<KeyValue> {
    let attributes = labels.into_iter().map(|(key, value)| KeyValue {
        key,
        value: Some(AnyValue {
            value: Some(Value::StringValue(value)),
        }),
        ..KeyValue::default()
    });
    attributes.collect()
}

/// A count is a whole number that is not negative; the conversion keeps it within them.
fn to_count(value: f64) -> u64 {
    value as u64
}

fn unix_nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    fn translate(text: &str) -> BTreeMap<String, Metric> {
        let translation = Translation {
            began: SystemTime::UNIX_EPOCH + Duration::from_secs(5),
            now: SystemTime::UNIX_EPOCH + Duration::from_secs(7),
            resource: &ResourceAttributesWithSchema::default(),
        };
        let mut request = translation.to_request(text);
        let scope = request.resource_metrics.remove(0).scope_metrics.remove(0);
        let metrics = scope.metrics.into_iter();
        metrics.map(|metric| (metric.name.clone(), metric)).collect()
    }

    fn text_of(key_value: &KeyValue) -> (&str, &str) {
        let Some(Value::StringValue(value)) = key_value.value.as_ref().and_then(|value| value.value.as_ref()) else {
            panic!("text");
        };
        (&key_value.key, value)
    }

    /// What the recorder of this crate writes, of each kind.
    fn recorded() -> String {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &[0.1, 1.0])
            .unwrap()
            .build_recorder();
        metrics::with_local_recorder(&recorder, || {
            metrics::describe_counter!("calls_total", "calls, by \\ and\nline");
            metrics::counter!("calls_total", "path" => "a\\b\"c\nd", "zone" => "west").increment(3);
            metrics::gauge!("temperature").set(-2.5);
            for seconds in [0.05, 0.5, 0.6, 7.0] {
                metrics::histogram!("wait_seconds", "zone" => "west").record(seconds);
            }
            metrics::histogram!("unbounded").record(2.0);
        });
        recorder.handle().render()
    }

    #[test]
    fn a_counter_becomes_a_monotonic_cumulative_sum() {
        let metrics = translate(&recorded());
        let metric = &metrics["calls_total"];
        assert_eq!(metric.description, "calls, by \\ and\nline");
        let Some(Data::Sum(sum)) = &metric.data else {
            panic!("{metric:?}")
        };
        assert!(sum.is_monotonic);
        assert_eq!(sum.aggregation_temporality, AggregationTemporality::Cumulative as i32);
        let point = &sum.data_points[0];
        assert_eq!(point.value, Some(number_data_point::Value::AsDouble(3.0)));
        assert_eq!(
            (point.start_time_unix_nano, point.time_unix_nano),
            (5_000_000_000, 7_000_000_000)
        );
        let labels: Vec<_> = point.attributes.iter().map(text_of).collect();
        assert_eq!(labels, [("path", "a\\b\"c\nd"), ("zone", "west")]);
    }

    #[test]
    fn a_gauge_stays_one() {
        let metrics = translate(&recorded());
        let Some(Data::Gauge(gauge)) = &metrics["temperature"].data else {
            panic!("a gauge")
        };
        assert_eq!(
            gauge.data_points[0].value,
            Some(number_data_point::Value::AsDouble(-2.5))
        );
    }

    #[test]
    fn a_histogram_keeps_its_bounds_its_sum_and_its_count() {
        let metrics = translate(&recorded());
        let metric = &metrics["wait_seconds"];
        assert_eq!(metric.unit, "s");
        let Some(Data::Histogram(histogram)) = &metric.data else {
            panic!("{metric:?}")
        };
        assert_eq!(
            histogram.aggregation_temporality,
            AggregationTemporality::Cumulative as i32
        );
        let point = &histogram.data_points[0];
        assert_eq!(point.explicit_bounds, [0.1, 1.0]);
        assert_eq!(point.bucket_counts, [1, 2, 1]);
        assert_eq!(point.count, 4);
        assert!((point.sum.unwrap() - 8.15).abs() < 1e-9);
        assert_eq!(
            point.attributes.iter().map(text_of).collect::<Vec<_>>(),
            [("zone", "west")]
        );
    }

    #[test]
    fn a_histogram_without_buckets_becomes_a_summary() {
        let metrics = translate(&recorded());
        let Some(Data::Summary(summary)) = &metrics["unbounded"].data else {
            panic!("a summary")
        };
        let point = &summary.data_points[0];
        assert_eq!((point.count, point.sum), (1, 2.0));
        assert!(point.quantile_values.iter().any(|at| at.quantile == 0.5));
    }

    #[test]
    fn counts_that_contradict_each_other_do_not_underflow() {
        let text = "# TYPE h histogram\nh_bucket{le=\"2\"} 3\nh_bucket{le=\"1\"} 5\nh_bucket{le=\"+Inf\"} 4\nh_sum NaN\nh_count 1\n";
        let metrics = translate(text);
        let Some(Data::Histogram(histogram)) = &metrics["h"].data else {
            panic!("a histogram")
        };
        let point = &histogram.data_points[0];
        assert_eq!(point.bucket_counts, [5, 0, 0]);
        assert_eq!((point.count, point.sum), (5, None));
    }

    proptest! {
        #[test]
        fn no_text_breaks_it(text in "(?s).{0,300}") {
            translate(&text);
        }

        #[test]
        fn nothing_that_looks_like_the_format_breaks_it(lines in prop::collection::vec(
            "(# (TYPE|HELP) [ah] (histogram|summary|counter|x)|[ah](_bucket|_sum|_count|)(\\{(le|quantile|b)=\"(\\+Inf|NaN|-?[0-9]{1,3}|\\\\.?)\"\\}?|) (NaN|[+-]Inf|-?[0-9]{1,30}|x)( 5|))", 0..30)
        ) {
            for metric in translate(&lines.join("\n")).into_values() {
                if let Some(Data::Histogram(histogram)) = &metric.data {
                    for point in &histogram.data_points {
                        prop_assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
                        prop_assert!(point.explicit_bounds.is_sorted_by(|one, other| one < other));
                        let total = point.bucket_counts.iter().fold(0_u64, |total, count| total.saturating_add(*count));
                        prop_assert_eq!(total, point.count);
                    }
                }
                prop_assert_eq!(Metric::decode(metric.encode_to_vec().as_slice()).unwrap().name, metric.name);
            }
        }
    }
}
