//! The server's own figures: its metrics before and after the measuring window, and what went on in between.

mod prometheus;

pub use prometheus::{Metrics, ParseError};

use std::time::{Duration, Instant};

use anyhow::Context;

use crate::histogram::Summary;
use crate::report::{Inputs, Server};

/// How long the server may take to answer.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

const INPUTS: &str = "meridian_inputs_total";
const ZONE_TICK_SECONDS: &str = "meridian_zone_tick_seconds";
const ZONE_TICK_OVERRUNS: &str = "meridian_zone_tick_overruns_total";
const ZONE_TICKS_SKIPPED: &str = "meridian_zone_ticks_skipped_total";
const GATEWAY_TICK_SECONDS: &str = "meridian_gateway_tick_seconds";
const HANDOFF_SECONDS: &str = "meridian_handoff_seconds";
const PROCESS_CPU_SECONDS: &str = "process_cpu_seconds_total";

/// Ticks by which a bot's count of its inputs and the zone's may differ at both ends of a window.
const EDGE_TICKS: u64 = 12;

/// The server's metrics at one moment.
#[derive(Clone, Debug)]
pub struct Scrape {
    metrics: Metrics,
    taken: Instant,
}

impl Scrape {
    /// Fetches `/metrics` from each of the admin listeners at `admin_urls`: the figures of all processes together.
    pub fn fetch(admin_urls: &[String]) -> anyhow::Result<Self> {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_global(Some(FETCH_TIMEOUT))
            .build()
            .into();
        let mut metrics = Metrics::default();
        let (mut fetched, mut failed) = (0, None);
        for admin_url in admin_urls {
            match fetch_one(&agent, admin_url) {
                Ok(of_one) => {
                    metrics.add(of_one);
                    fetched += 1;
                }
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) if fetched == 0 => return Err(error),
            // A process of a cluster may be away: the figures are those of the others.
            Some(error) => tracing::warn!("the figures of one process are missing: {error:#}"),
            None => {}
        }
        Ok(Self {
            metrics,
            taken: Instant::now(),
        })
    }
}

fn fetch_one(agent: &ureq::Agent, admin_url: &str) -> anyhow::Result<Metrics> {
    let url = format!("{}/metrics", admin_url.trim_end_matches('/'));
    let mut response = agent.get(&url).call().with_context(|| format!("cannot fetch {url}"))?;
    let limit = prometheus::TEXT_BYTES_MAX as u64;
    let text = response.body_mut().with_config().limit(limit).read_to_string();
    let text = text.with_context(|| format!("cannot read {url}"))?;
    Metrics::parse(&text).with_context(|| format!("{url} is not in the Prometheus text format"))
}

/// What the server's metrics say about the time between two scrapes.
#[derive(Clone, Copy, Debug)]
pub struct Scraped<'a> {
    before: &'a Scrape,
    after: &'a Scrape,
}

impl<'a> Scraped<'a> {
    /// The time between two scrapes of one server.
    pub fn new(before: &'a Scrape, after: &'a Scrape) -> Self {
        Self { before, after }
    }

    /// How much a counter grew; absent where the server has no such counter.
    fn grown(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let after = self.after.metrics.sum(name, labels)?;
        let before = self.before.metrics.sum(name, labels).unwrap_or(0.0);
        // A counter that shrank began anew: the server was restarted in between.
        Some(if after >= before { after - before } else { after })
    }

    /// What became of the inputs that `sent` counts, after each bot's first second.
    ///
    /// The zone counts the ticks for which it missed one. What it never counted, because it was restarted or a player was out
    /// of the world, is lost as well, but for the few ticks by which the ends of both counts differ.
    pub fn inputs(&self, sent: u64, bots: u64) -> Inputs {
        let steady = |outcome| self.grown(INPUTS, &[("outcome", outcome), ("phase", "steady")]);
        // A counter appears with its first count: where there are inputs at all, one that is absent is zero.
        let any = self.after.metrics.sum(INPUTS, &[]).is_some();
        let count = |outcome| any.then(|| steady(outcome).unwrap_or(0.0));
        let (late, missing) = (count("late"), count("missing"));
        // A missing input that comes after all is counted as late too; the rest never came.
        let lost = missing.zip(late).map(|(missing, late)| (missing - late).max(0.0));
        let all = |outcome| self.grown(INPUTS, &[("outcome", outcome)]).unwrap_or(0.0);
        let counted = all("applied") + all("missing").max(all("late"));
        let uncounted = sent as f64 - counted;
        let lost = lost.map(|lost| {
            if uncounted > (bots * EDGE_TICKS) as f64 {
                lost + uncounted
            } else {
                lost
            }
        });
        let whole = |figure: Option<f64>| figure.map(|figure| figure as u64);
        Inputs {
            sent,
            applied: whole(count("applied")),
            late: whole(late),
            lost: whole(lost),
        }
    }

    /// The server's cost, over `clients` and ticks of the given length.
    pub fn server(&self, clients: u64, tick: Duration) -> Server {
        let elapsed = self.after.taken.saturating_duration_since(self.before.taken);
        let client_ticks = clients as f64 * elapsed.as_secs_f64() / tick.as_secs_f64();
        let cpu = self.grown(PROCESS_CPU_SECONDS, &[]).filter(|_| client_ticks > 0.0);
        let zone_tick_ms = self.histogram_ms(ZONE_TICK_SECONDS);
        // The counters appear with their first count. A tick that was skipped overran as well.
        let skipped = self.grown(ZONE_TICKS_SKIPPED, &[]).unwrap_or(0.0);
        let overruns = self
            .grown(ZONE_TICK_OVERRUNS, &[])
            .or((zone_tick_ms.samples > 0).then_some(0.0))
            .map(|overruns| overruns + skipped);
        Server {
            zone_tick_ms,
            gateway_tick_ms: self.histogram_ms(GATEWAY_TICK_SECONDS),
            tick_overruns: overruns.map(|overruns| overruns as u64),
            cpu_us_per_client_tick: cpu.map(|seconds| seconds * 1e6 / client_ticks),
        }
    }

    /// How long entities took from one zone to the next, in milliseconds.
    pub fn handoff_ms(&self) -> Summary {
        self.histogram_ms(HANDOFF_SECONDS)
    }

    /// The samples that a histogram in seconds took in, in milliseconds. Its largest sample is not known from buckets.
    fn histogram_ms(&self, name: &str) -> Summary {
        let before = self.before.metrics.buckets(name);
        let counts: Vec<(f64, f64)> = self.after.metrics.buckets(name);
        let grown: Vec<(f64, f64)> = counts
            .iter()
            .map(|(le, count)| {
                let earlier = before
                    .iter()
                    .find(|(bound, _)| bound == le)
                    .map_or(0.0, |(_, count)| *count);
                (*le, if *count >= earlier { count - earlier } else { *count })
            })
            .collect();
        let samples = grown.last().map_or(0.0, |(_, count)| *count);
        let at = |quantile| prometheus::quantile(&grown, quantile).map(|seconds| seconds * 1e3);
        Summary {
            samples: samples as u64,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = r#"
# TYPE meridian_inputs_total counter
meridian_inputs_total{outcome="applied",phase="settling"} 300
meridian_inputs_total{outcome="applied",phase="steady"} 1000
meridian_inputs_total{outcome="missing",phase="settling"} 50
meridian_zone_tick_seconds_bucket{zone="z0",le="0.001"} 100
meridian_zone_tick_seconds_bucket{zone="z0",le="0.002"} 100
meridian_zone_tick_seconds_bucket{zone="z0",le="+Inf"} 100
process_cpu_seconds_total 2.5
"#;
    const AFTER: &str = r#"
meridian_inputs_total{outcome="applied",phase="settling"} 300
meridian_inputs_total{outcome="applied",phase="steady"} 2000
meridian_inputs_total{outcome="missing",phase="settling"} 50
meridian_inputs_total{outcome="missing",phase="steady"} 7
meridian_inputs_total{outcome="late",phase="steady"} 5
meridian_zone_tick_seconds_bucket{zone="z0",le="0.001"} 150
meridian_zone_tick_seconds_bucket{zone="z0",le="0.002"} 200
meridian_zone_tick_seconds_bucket{zone="z0",le="+Inf"} 200
process_cpu_seconds_total 3.5
"#;

    fn scrapes(before: &str, after: &str) -> (Scrape, Scrape) {
        let now = Instant::now();
        let scrape = |text: &str, taken| Scrape {
            metrics: Metrics::parse(text).unwrap(),
            taken,
        };
        (scrape(before, now), scrape(after, now + Duration::from_secs(10)))
    }

    #[test]
    fn inputs_of_the_steady_phase_are_counted_and_late_ones_are_not_lost_too() {
        let (before, after) = scrapes(BEFORE, AFTER);
        let inputs = Scraped::new(&before, &after).inputs(1_010, 10);
        assert_eq!(
            inputs,
            Inputs {
                sent: 1_010,
                applied: Some(1_000),
                late: Some(5),
                lost: Some(2)
            }
        );
    }

    #[test]
    fn more_late_than_missing_loses_none() {
        let after = AFTER.replace("\"missing\",phase=\"steady\"} 7", "\"missing\",phase=\"steady\"} 3");
        let (before, after) = scrapes(BEFORE, &after);
        assert_eq!(Scraped::new(&before, &after).inputs(0, 10).lost, Some(0));
    }

    #[test]
    fn what_the_zone_never_counted_is_lost() {
        let (before, after) = scrapes(BEFORE, AFTER);
        let inputs = Scraped::new(&before, &after).inputs(1_907, 10);
        assert_eq!(
            (inputs.applied, inputs.late, inputs.lost),
            (Some(1_000), Some(5), Some(902))
        );
    }

    #[test]
    fn ticks_and_cpu_are_those_of_the_window() {
        let (before, after) = scrapes(BEFORE, AFTER);
        let server = Scraped::new(&before, &after).server(10, Duration::from_millis(10));
        assert_eq!(server.zone_tick_ms.samples, 100);
        assert_eq!(server.zone_tick_ms.p50, Some(1.0));
        assert!((server.zone_tick_ms.p90.unwrap() - 1.8).abs() < 1e-9);
        assert_eq!((server.zone_tick_ms.max, server.gateway_tick_ms.samples), (None, 0));
        assert_eq!(server.tick_overruns, Some(0));
        // One second of CPU over ten clients and a thousand ticks.
        assert!((server.cpu_us_per_client_tick.unwrap() - 100.0).abs() < 1e-9);
    }

    #[test]
    fn a_server_that_tells_nothing_gives_no_figures() {
        let (before, after) = scrapes("", "");
        let scraped = Scraped::new(&before, &after);
        assert_eq!(
            scraped.inputs(7, 1),
            Inputs {
                sent: 7,
                ..Inputs::default()
            }
        );
        assert_eq!(scraped.server(10, Duration::from_millis(10)), Server::default());
        assert_eq!(scraped.handoff_ms(), Summary::default());
    }

    #[test]
    fn an_unreachable_server_is_named() {
        let error = format!("{:#}", Scrape::fetch(&["http://127.0.0.1:1/".to_owned()]).unwrap_err());
        assert!(error.starts_with("cannot fetch http://127.0.0.1:1/metrics"), "{error}");
    }
}
