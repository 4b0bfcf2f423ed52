//! The metrics recorder of the process, read as Prometheus text.

use std::{sync::OnceLock, time::Duration};

use anyhow::Context;
use cpu_time::ProcessTime;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use crate::metric_definitions::{
    BYTES_BUCKETS, COUNT_BUCKETS, MILLISECONDS_BUCKETS, PROCESS_CPU_SECONDS, SECONDS_BUCKETS, TICKS_BUCKETS,
};

/// How often histogram samples are folded into buckets when nobody asks for them: at 60 ticks a second and a few thousand samples
/// a tick this holds their buffers to some megabytes.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

static INSTALLED: OnceLock<Metrics> = OnceLock::new();

/// The process's metrics. Clones are the same.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
}

impl Metrics {
    /// Installs the recorder behind the `metrics` facade, once for a process: a second call returns the first one's recorder.
    ///
    /// # Errors
    /// Somebody else installed another recorder.
    pub fn install() -> anyhow::Result<Self> {
        if let Some(installed) = INSTALLED.get() {
            return Ok(installed.clone());
        }
        let recorder = build_recorder()?;
        let installed = Self {
            handle: recorder.handle(),
        };
        metrics::set_global_recorder(recorder).context("cannot install the metrics recorder")?;
        Ok(INSTALLED.get_or_init(|| installed).clone())
    }

    /// Every metric, in the Prometheus text format.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = self.handle.render();
        if let Ok(cpu) = ProcessTime::try_now() {
            // The facade's counters are whole numbers; seconds of CPU are not.
            let seconds = cpu.as_duration().as_secs_f64();
            text.push_str(&format!(
                "# TYPE {PROCESS_CPU_SECONDS} counter\n{PROCESS_CPU_SECONDS} {seconds}\n"
            ));
        }
        text
    }

    /// Folds histogram samples into their buckets from time to time, until `stop` completes. Without it a process that nobody
    /// scrapes would keep every sample.
    pub async fn run_upkeep(&self, stop: impl Future<Output = ()>) {
        let mut interval = tokio::time::interval(UPKEEP_INTERVAL);
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return,
                _ = interval.tick() => self.handle.run_upkeep(),
            }
        }
    }
}

fn build_recorder() -> anyhow::Result<PrometheusRecorder> {
    let by_unit = [
        ("_ms", MILLISECONDS_BUCKETS),
        ("_seconds", SECONDS_BUCKETS),
        ("_ticks", TICKS_BUCKETS),
        ("_bytes", BYTES_BUCKETS),
        ("_count", COUNT_BUCKETS),
    ];
    let mut builder = PrometheusBuilder::new();
    for (suffix, buckets) in by_unit {
        builder = builder
            .set_buckets_for_metric(Matcher::Suffix(suffix.to_owned()), buckets)
            .with_context(|| format!("histogram buckets of {suffix}"))?;
    }
    Ok(builder.build_recorder())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_lands_in_the_bucket_of_its_length() {
        let recorder = build_recorder().unwrap();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            metrics::histogram!("meridian_zone_tick_ms", "zone" => "0").record(16.0);
            metrics::counter!("meridian_auth_sessions_issued_total").increment(2);
        });
        let text = handle.render();
        assert!(
            text.contains("meridian_zone_tick_ms_bucket{zone=\"0\",le=\"12.5\"} 0"),
            "{text}"
        );
        assert!(
            text.contains("meridian_zone_tick_ms_bucket{zone=\"0\",le=\"16.7\"} 1"),
            "{text}"
        );
        assert!(text.contains("meridian_auth_sessions_issued_total 2"), "{text}");
    }

    #[tokio::test]
    async fn upkeep_ends_when_told() {
        let metrics = Metrics {
            handle: build_recorder().unwrap().handle(),
        };
        metrics.run_upkeep(async {}).await;
    }

    #[test]
    fn installing_twice_gives_the_same_recorder() {
        let (first, second) = (Metrics::install().unwrap(), Metrics::install().unwrap());
        metrics::counter!("installed_total").increment(1);
        assert!(first.render().contains("installed_total 1"));
        assert!(second.render().contains("installed_total 1"));
    }
}
