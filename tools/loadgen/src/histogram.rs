//! Latency histograms in microseconds, and the summary that reports carry.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Longest latency that is told apart from longer ones, in microseconds: a minute.
const LONGEST_US: u64 = 60_000_000;
/// Three significant digits: 16.7 ms is told to 16 us, and a histogram stays below 100 kB.
const SIGNIFICANT_DIGITS: u8 = 3;

/// Percentiles of a set of samples. Without samples every figure is absent, never zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How many samples there were.
    pub samples: u64,
    /// Median.
    pub p50: Option<f64>,
    /// 90th percentile.
    pub p90: Option<f64>,
    /// 99th percentile.
    pub p99: Option<f64>,
    /// 99.9th percentile.
    pub p999: Option<f64>,
    /// Largest sample.
    pub max: Option<f64>,
}

impl Summary {
    /// The same summary with each figure multiplied by `factor`: another unit.
    pub fn scaled(&self, factor: f64) -> Self {
        let scale = |figure: Option<f64>| figure.map(|figure| figure * factor);
        Self {
            samples: self.samples,
            p50: scale(self.p50),
            p90: scale(self.p90),
            p99: scale(self.p99),
            p999: scale(self.p999),
            max: scale(self.max),
        }
    }

    /// A summary in milliseconds as one in ticks of the given length.
    pub fn ms_to_ticks(&self, tick: Duration) -> Self {
        self.scaled(1e-3 / tick.as_secs_f64())
    }
}

/// A histogram of durations with a resolution of a microsecond.
#[derive(Clone, Debug)]
pub struct DurationHistogram {
    histogram: Histogram<u64>,
}

impl Default for DurationHistogram {
    fn default() -> Self {
        #[expect(clippy::expect_used, reason = "the bounds are constants that the histogram accepts")]
        let histogram = Histogram::new_with_bounds(1, LONGEST_US, SIGNIFICANT_DIGITS).expect("valid bounds");
        Self { histogram }
    }
}

impl DurationHistogram {
    /// Counts a sample; one longer than a minute counts as a minute.
    pub fn record(&mut self, sample: Duration) {
        self.histogram
            .saturating_record(u64::try_from(sample.as_micros()).unwrap_or(LONGEST_US));
    }

    /// Adds the samples of another histogram.
    pub fn merge(&mut self, other: &Self) {
        // Both have the same bounds, so adding cannot fail; a sample that could not be added would be lost, not invented.
        let _ = self.histogram.add(&other.histogram);
    }

    /// How many samples there are.
    pub fn samples(&self) -> u64 {
        self.histogram.len()
    }

    /// The percentiles in milliseconds.
    pub fn summary_ms(&self) -> Summary {
        summary(&self.histogram, |us| us as f64 / 1e3)
    }
}

/// The percentiles, in what `figure` makes of the histogram's units.
fn summary(histogram: &Histogram<u64>, figure: impl Fn(u64) -> f64) -> Summary {
    let samples = histogram.len();
    let figure = |units: u64| (samples > 0).then(|| figure(units));
    let at = |quantile: f64| figure(histogram.value_at_quantile(quantile));
    Summary {
        samples,
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
        max: figure(histogram.max()),
    }
}

/// A histogram of figures other than durations, to a resolution of its own.
#[derive(Clone, Debug)]
pub struct FigureHistogram {
    histogram: Histogram<u64>,
    resolution: f64,
}

impl FigureHistogram {
    /// The largest figure that is told apart from larger ones, in units of the resolution.
    const LARGEST: u64 = 10_000_000;

    /// A histogram that tells figures to `resolution`, exactly up to two thousand times that.
    pub fn new(resolution: f64) -> Self {
        #[expect(clippy::expect_used, reason = "the bounds are constants that the histogram accepts")]
        let histogram = Histogram::new_with_bounds(1, Self::LARGEST, SIGNIFICANT_DIGITS).expect("valid bounds");
        Self { histogram, resolution }
    }

    /// Counts a figure; one that is no number or below 0 counts as 0.
    pub fn record(&mut self, figure: f64) {
        self.histogram
            .saturating_record((figure / self.resolution).round() as u64);
    }

    /// The percentiles.
    pub fn summary(&self) -> Summary {
        summary(&self.histogram, |units| units as f64 * self.resolution)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(samples_us: impl IntoIterator<Item = u64>) -> DurationHistogram {
        let mut histogram = DurationHistogram::default();
        samples_us
            .into_iter()
            .for_each(|us| histogram.record(Duration::from_micros(us)));
        histogram
    }

    #[test]
    fn percentiles_are_within_a_tenth_of_a_percent() {
        let summary = filled((1..=100_000).map(|us| us * 10)).summary_ms();
        assert_eq!(summary.samples, 100_000);
        for (told, exact) in [
            (summary.p50, 500.0),
            (summary.p90, 900.0),
            (summary.p99, 990.0),
            (summary.p999, 999.0),
        ] {
            assert!((told.unwrap() - exact).abs() / exact < 1e-3, "{told:?} for {exact}");
        }
    }

    #[test]
    fn no_samples_give_no_figures() {
        let summary = DurationHistogram::default().summary_ms();
        assert_eq!(summary, Summary::default());
        assert_eq!(summary.p50, None);
    }

    #[test]
    fn small_figures_are_told_exactly_to_their_resolution() {
        let mut ticks = FigureHistogram::new(1.0);
        (0..99).for_each(|_| ticks.record(1.0));
        ticks.record(3.0);
        let summary = ticks.summary();
        assert_eq!(
            (summary.p50, summary.p99, summary.max),
            (Some(1.0), Some(1.0), Some(3.0))
        );
        let mut centimetres = FigureHistogram::new(0.01);
        [0.0, 1.25, 9.87]
            .into_iter()
            .for_each(|figure| centimetres.record(figure));
        let summary = centimetres.summary();
        assert!((summary.p50.unwrap() - 1.25).abs() < 1e-9 && (summary.max.unwrap() - 9.87).abs() < 1e-9);
        assert_eq!(FigureHistogram::new(1.0).summary(), Summary::default());
    }

    #[test]
    fn ticks_are_milliseconds_over_the_tick_length() {
        let summary = filled([50_000; 3])
            .summary_ms()
            .ms_to_ticks(Duration::from_nanos(16_666_666));
        assert!((summary.p50.unwrap() - 3.0).abs() < 0.01);
        assert_eq!(summary.samples, 3);
    }

    #[test]
    fn merging_adds_the_samples_and_a_sample_out_of_range_is_kept() {
        let mut first = filled([1_000, 2_000]);
        first.merge(&filled([3_000, 600_000_000]));
        assert_eq!(first.samples(), 4);
        assert!(first.summary_ms().max.unwrap() >= 60_000.0);
    }
}
