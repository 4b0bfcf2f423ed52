//! What the environment asks for, in OpenTelemetry's standard variables
//! (<https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>).
//!
//! Nothing is exported unless an endpoint is given. A value that is not understood is an error that names its variable: a process
//! that exported to nowhere would be noticed on the day its traces are needed.

mod destination;
mod variables;

use std::{ffi::OsString, time::Duration};

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;

pub(crate) use destination::{Destination, Protocol};
use destination::{Signal, read_destination};
pub use variables::SettingsError;
use variables::Variables;

/// Spans that wait at most. Some hundred bytes each: four megabytes, and two seconds of a thousand probes on their eight legs.
const QUEUE_LENGTH_DEFAULT: u64 = 8192;
/// Thirty megabytes of spans that no collector takes are enough.
const QUEUE_LENGTH_MAX: u64 = 65_536;
/// Spans of one request.
const BATCH_LENGTH_DEFAULT: u64 = 512;
/// Collectors refuse requests of more than four megabytes.
const BATCH_LENGTH_MAX: u64 = 4096;
/// How long a span waits for others at most, in milliseconds.
const DELAY_MS_DEFAULT: u64 = 1000;
const DELAY_MS_MAX: u64 = 60_000;
/// How long one batch may take with all its attempts, in milliseconds: three late answers by the default of those.
const BATCH_TIMEOUT_MS_DEFAULT: u64 = 30_000;
const BATCH_TIMEOUT_MS_MAX: u64 = 300_000;
/// How often metrics are pushed, in milliseconds.
const INTERVAL_MS_DEFAULT: u64 = 60_000;
const INTERVAL_MS_MIN: u64 = 100;
const INTERVAL_MS_MAX: u64 = 3_600_000;
/// One trace in a hundred: a service with 500 calls a second still shows five of them each second. Errors are exported anyway.
const RATIO_DEFAULT: f64 = 0.01;

/// What is exported, and where to.
#[derive(Clone, Debug)]
pub struct ExportSettings {
    pub(crate) resource: Resource,
    pub(crate) traces: Option<TraceSettings>,
    pub(crate) metrics: Option<MetricSettings>,
}

#[derive(Clone, Debug)]
pub(crate) struct TraceSettings {
    pub(crate) destination: Destination,
    pub(crate) sampling: Sampling,
    pub(crate) queue_length: usize,
    pub(crate) batch_length: usize,
    pub(crate) delay: Duration,
    /// How long one batch may take with all its attempts.
    pub(crate) batch_timeout: Duration,
}

#[derive(Clone, Debug)]
pub(crate) struct MetricSettings {
    pub(crate) destination: Destination,
    pub(crate) interval: Duration,
}

/// Which traces that begin in this process are sampled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sampling {
    /// The share of traces, from 0 to 1.
    pub(crate) ratio: f64,
    /// Whether a trace that began elsewhere keeps its decision.
    pub(crate) follows_parent: bool,
}

impl ExportSettings {
    /// What the process's environment asks for. `service` and `instance` name the process unless the environment does.
    ///
    /// # Errors
    /// A variable has a value that is not allowed.
    pub fn from_environment(service: &str, instance: &str, push_metrics: bool) -> Result<Self, SettingsError> {
        Self::from_variables(|name| std::env::var_os(name), service, instance, push_metrics)
    }

    /// As [`Self::from_environment`], of what `lookup` says instead.
    ///
    /// # Errors
    /// A variable has a value that is not allowed.
    pub fn from_variables<V: Into<OsString>>(
        lookup: impl Fn(&str) -> Option<V>,
        service: &str,
        instance: &str,
        push_metrics: bool,
    ) -> Result<Self, SettingsError> {
        let lookup = |name: &str| lookup(name).map(Into::into);
        let variables = Variables::new(&lookup);
        let is_disabled = variables.flag("OTEL_SDK_DISABLED")?;
        Ok(Self {
            resource: read_resource(&variables, service, instance)?,
            traces: read_traces(&variables, is_disabled)?,
            metrics: read_metrics(&variables, push_metrics, is_disabled)?,
        })
    }

    /// Whether traces are exported.
    #[must_use]
    pub fn has_traces(&self) -> bool {
        self.traces.is_some()
    }

    /// Whether metrics are pushed.
    #[must_use]
    pub fn has_metrics(&self) -> bool {
        self.metrics.is_some()
    }
}

fn read_resource(variables: &Variables, service: &str, instance: &str) -> Result<Resource, SettingsError> {
    let given = variables.pairs("OTEL_RESOURCE_ATTRIBUTES")?;
    let given = given.into_iter().map(|(key, value)| KeyValue::new(key, value));
    let name = variables.text("OTEL_SERVICE_NAME")?;
    Ok(Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.name", service.to_owned()),
            KeyValue::new("service.instance.id", instance.to_owned()),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("telemetry.sdk.language", "rust"),
        ])
        .with_attributes(given)
        .with_attributes(name.map(|name| KeyValue::new("service.name", name)))
        .build())
}

fn read_traces(variables: &Variables, is_disabled: bool) -> Result<Option<TraceSettings>, SettingsError> {
    let destination = read_destination(variables, Signal::Traces, true, is_disabled)?;
    let queue_length = variables.whole("OTEL_BSP_MAX_QUEUE_SIZE", QUEUE_LENGTH_DEFAULT, 1..=QUEUE_LENGTH_MAX)?;
    let batch_length_max = BATCH_LENGTH_MAX.min(queue_length);
    let batch_length = variables.whole(
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
        BATCH_LENGTH_DEFAULT.min(queue_length),
        1..=batch_length_max,
    )?;
    let delay = variables.whole("OTEL_BSP_SCHEDULE_DELAY", DELAY_MS_DEFAULT, 1..=DELAY_MS_MAX)?;
    let batch_timeout = variables.whole(
        "OTEL_BSP_EXPORT_TIMEOUT",
        BATCH_TIMEOUT_MS_DEFAULT,
        1..=BATCH_TIMEOUT_MS_MAX,
    )?;
    let sampling = read_sampling(variables)?;
    Ok(destination.map(|destination| TraceSettings {
        destination,
        sampling,
        queue_length: queue_length as usize,
        batch_length: batch_length as usize,
        delay: Duration::from_millis(delay),
        batch_timeout: Duration::from_millis(batch_timeout),
    }))
}

fn read_metrics(
    variables: &Variables,
    is_wanted: bool,
    is_disabled: bool,
) -> Result<Option<MetricSettings>, SettingsError> {
    let destination = read_destination(variables, Signal::Metrics, is_wanted, is_disabled)?;
    let interval = variables.whole(
        "OTEL_METRIC_EXPORT_INTERVAL",
        INTERVAL_MS_DEFAULT,
        INTERVAL_MS_MIN..=INTERVAL_MS_MAX,
    )?;
    Ok(destination.map(|destination| MetricSettings {
        destination,
        interval: Duration::from_millis(interval),
    }))
}

fn read_sampling(variables: &Variables) -> Result<Sampling, SettingsError> {
    let ratio = variables.share("OTEL_TRACES_SAMPLER_ARG", RATIO_DEFAULT)?;
    let sampling = |ratio, follows_parent| Sampling { ratio, follows_parent };
    let choices = [
        ("parentbased_traceidratio", sampling(ratio, true)),
        ("parentbased_always_on", sampling(1.0, true)),
        ("parentbased_always_off", sampling(0.0, true)),
        ("traceidratio", sampling(ratio, false)),
        ("always_on", sampling(1.0, false)),
        ("always_off", sampling(0.0, false)),
    ];
    let chosen = variables.choice("OTEL_TRACES_SAMPLER", &choices)?;
    Ok(chosen.unwrap_or(sampling(ratio, true)))
}

#[cfg(test)]
mod tests;
