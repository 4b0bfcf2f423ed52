//! What the environment asks for, in OpenTelemetry's standard variables
//! (<https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>).
//!
//! Nothing is exported unless an endpoint is given. A value that is not understood is an error that names its variable: a process
//! that exported to nowhere would be noticed on the day its traces are needed.

mod variables;

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use tonic::transport::Endpoint;

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
/// How long a collector may take to answer, in milliseconds.
const TIMEOUT_MS_DEFAULT: u64 = 10_000;
const TIMEOUT_MS_MAX: u64 = 60_000;
/// How often metrics are pushed, in milliseconds.
const INTERVAL_MS_DEFAULT: u64 = 60_000;
const INTERVAL_MS_MIN: u64 = 100;
const INTERVAL_MS_MAX: u64 = 3_600_000;
/// One trace in a hundred: a service with 500 calls a second still shows five of them each second. Errors are exported anyway.
const RATIO_DEFAULT: f64 = 0.01;

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

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
}

#[derive(Clone, Debug)]
pub(crate) struct MetricSettings {
    pub(crate) destination: Destination,
    pub(crate) interval: Duration,
}

/// Where one signal goes.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Destination {
    pub(crate) protocol: Protocol,
    /// For gRPC the collector, for HTTP the whole address of the signal.
    pub(crate) endpoint: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) timeout: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Grpc,
    HttpProtobuf,
}

/// Which traces that begin in this process are sampled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sampling {
    /// The share of traces, from 0 to 1.
    pub(crate) ratio: f64,
    /// Whether a trace that began elsewhere keeps its decision.
    pub(crate) follows_parent: bool,
}

#[derive(Clone, Copy)]
enum Signal {
    Traces,
    Metrics,
}

impl ExportSettings {
    /// What the process's environment asks for. `service` and `instance` name the process unless the environment does.
    ///
    /// # Errors
    /// A variable has a value that is not allowed.
    pub fn from_environment(service: &str, instance: &str, push_metrics: bool) -> Result<Self, SettingsError> {
        Self::from_variables(|name| std::env::var(name).ok(), service, instance, push_metrics)
    }

    /// As [`Self::from_environment`], of what `lookup` says instead.
    ///
    /// # Errors
    /// A variable has a value that is not allowed.
    pub fn from_variables(
        lookup: impl Fn(&str) -> Option<String>,
        service: &str,
        instance: &str,
        push_metrics: bool,
    ) -> Result<Self, SettingsError> {
        let variables = Variables::new(&lookup);
        let is_disabled = variables.flag("OTEL_SDK_DISABLED")?;
        let mut settings = Self {
            resource: read_resource(&variables, service, instance)?,
            traces: None,
            metrics: None,
        };
        if !is_disabled {
            settings.traces = read_traces(&variables)?;
            settings.metrics = read_metrics(&variables, push_metrics)?;
        }
        Ok(settings)
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

impl std::fmt::Debug for Destination {
    /// Without the headers, in which keys stand.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Destination")
            .field("protocol", &self.protocol)
            .field("endpoint", &self.endpoint)
            .field("headers", &self.headers.len())
            .field("timeout", &self.timeout)
            .finish()
    }
}

fn read_resource(variables: &Variables, service: &str, instance: &str) -> Result<Resource, SettingsError> {
    let given = variables.pairs("OTEL_RESOURCE_ATTRIBUTES")?;
    let given = given.into_iter().map(|(key, value)| KeyValue::new(key, value));
    let name = variables.text("OTEL_SERVICE_NAME");
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

fn read_traces(variables: &Variables) -> Result<Option<TraceSettings>, SettingsError> {
    let Some(destination) = read_destination(variables, Signal::Traces, true)? else {
        return Ok(None);
    };
    let queue_length = variables.whole("OTEL_BSP_MAX_QUEUE_SIZE", QUEUE_LENGTH_DEFAULT, 1..=QUEUE_LENGTH_MAX)?;
    let batch_length_max = BATCH_LENGTH_MAX.min(queue_length);
    let batch_length = variables.whole(
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
        BATCH_LENGTH_DEFAULT.min(queue_length),
        1..=batch_length_max,
    )?;
    let delay = variables.whole("OTEL_BSP_SCHEDULE_DELAY", DELAY_MS_DEFAULT, 1..=DELAY_MS_MAX)?;
    Ok(Some(TraceSettings {
        destination,
        sampling: read_sampling(variables)?,
        queue_length: queue_length as usize,
        batch_length: batch_length as usize,
        delay: Duration::from_millis(delay),
    }))
}

fn read_metrics(variables: &Variables, is_wanted: bool) -> Result<Option<MetricSettings>, SettingsError> {
    let Some(destination) = read_destination(variables, Signal::Metrics, is_wanted)? else {
        return Ok(None);
    };
    let interval = variables.whole(
        "OTEL_METRIC_EXPORT_INTERVAL",
        INTERVAL_MS_DEFAULT,
        INTERVAL_MS_MIN..=INTERVAL_MS_MAX,
    )?;
    Ok(Some(MetricSettings {
        destination,
        interval: Duration::from_millis(interval),
    }))
}

/// Where a signal goes, unless it goes nowhere: it is not wanted, or there is no endpoint.
fn read_destination(
    variables: &Variables,
    signal: Signal,
    is_wanted: bool,
) -> Result<Option<Destination>, SettingsError> {
    let exporter = match signal {
        Signal::Traces => "OTEL_TRACES_EXPORTER",
        Signal::Metrics => "OTEL_METRICS_EXPORTER",
    };
    let asked = variables.choice(exporter, &[("otlp", true), ("none", false)])?;
    if !asked.unwrap_or(is_wanted) {
        return Ok(None);
    }
    let of_signal = signal.variable("ENDPOINT");
    let (variable, endpoint, is_general) = match (variables.text(&of_signal), variables.text(ENDPOINT)) {
        (Some(endpoint), _) => (of_signal.as_str(), endpoint, false),
        (None, Some(endpoint)) => (ENDPOINT, endpoint, true),
        (None, None) if asked.is_some() => {
            let allowed = format!("without {ENDPOINT} there is nowhere to export to; give an endpoint, or none here");
            return Err(SettingsError::new(exporter, "otlp", allowed));
        }
        (None, None) => return Ok(None),
    };
    let protocols = [("grpc", Protocol::Grpc), ("http/protobuf", Protocol::HttpProtobuf)];
    let protocol =
        variables.choice_of_signal(signal.variable("PROTOCOL"), "OTEL_EXPORTER_OTLP_PROTOCOL", &protocols)?;
    let protocol = protocol.unwrap_or(Protocol::HttpProtobuf);
    check_endpoint(variable, &endpoint, protocol)?;
    let endpoint = match (protocol, is_general) {
        (Protocol::HttpProtobuf, true) => format!("{}{}", endpoint.trim_end_matches('/'), signal.path()),
        _ => endpoint,
    };
    let compressions = [("none", ())];
    variables.choice_of_signal(
        signal.variable("COMPRESSION"),
        "OTEL_EXPORTER_OTLP_COMPRESSION",
        &compressions,
    )?;
    Ok(Some(Destination {
        protocol,
        endpoint,
        headers: variables.headers_of_signal(&signal.variable("HEADERS"), "OTEL_EXPORTER_OTLP_HEADERS")?,
        timeout: Duration::from_millis(variables.whole_of_signal(
            &signal.variable("TIMEOUT"),
            "OTEL_EXPORTER_OTLP_TIMEOUT",
            TIMEOUT_MS_DEFAULT,
            1..=TIMEOUT_MS_MAX,
        )?),
    }))
}

fn check_endpoint(variable: &str, endpoint: &str, protocol: Protocol) -> Result<(), SettingsError> {
    let wrong = |allowed: &str| Err(SettingsError::new(variable, endpoint, allowed));
    let Ok(parsed) = Endpoint::from_shared(endpoint.to_owned()) else {
        return wrong("it must be an address such as http://collector:4318");
    };
    match (parsed.uri().scheme_str(), parsed.uri().host(), protocol) {
        (Some("http"), Some(_), _) | (Some("https"), Some(_), Protocol::HttpProtobuf) => Ok(()),
        (Some("https"), Some(_), Protocol::Grpc) => {
            wrong("https is for OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf; with grpc it must begin with http://")
        }
        _ => wrong("it must begin with http:// or https:// and a host"),
    }
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

impl Signal {
    fn variable(self, what: &str) -> String {
        let signal = match self {
            Self::Traces => "TRACES",
            Self::Metrics => "METRICS",
        };
        format!("OTEL_EXPORTER_OTLP_{signal}_{what}")
    }

    fn path(self) -> &'static str {
        match self {
            Self::Traces => "/v1/traces",
            Self::Metrics => "/v1/metrics",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn read(variables: &[(&str, &str)], push_metrics: bool) -> Result<ExportSettings, SettingsError> {
        let variables: HashMap<&str, &str> = variables.iter().copied().collect();
        let lookup = |name: &str| variables.get(name).map(|value| (*value).to_owned());
        ExportSettings::from_variables(lookup, "meridian-test", "one", push_metrics)
    }

    fn resource(settings: &ExportSettings, key: &'static str) -> String {
        settings.resource.get(&key.into()).unwrap().to_string()
    }

    #[test]
    fn without_an_endpoint_nothing_is_exported() {
        for variables in [&[][..], &[(ENDPOINT, "")], &[("OTEL_TRACES_EXPORTER", "none")]] {
            let settings = read(variables, true).unwrap();
            assert!(!settings.has_traces() && !settings.has_metrics());
        }
    }

    #[test]
    fn an_endpoint_turns_traces_on_and_metrics_only_for_who_pushes() {
        let general = [(ENDPOINT, "http://collector:4318/")];
        let traces = read(&general, false).unwrap();
        assert!(!traces.has_metrics());
        let traces = traces.traces.unwrap();
        assert_eq!(traces.destination.endpoint, "http://collector:4318/v1/traces");
        assert_eq!(traces.destination.protocol, Protocol::HttpProtobuf);
        assert_eq!((traces.queue_length, traces.batch_length), (8192, 512));
        assert_eq!(
            traces.sampling,
            Sampling {
                ratio: 0.01,
                follows_parent: true
            }
        );
        let metrics = read(&general, true).unwrap().metrics.unwrap();
        assert_eq!(metrics.destination.endpoint, "http://collector:4318/v1/metrics");
        let disabled = read(&[general[0], ("OTEL_SDK_DISABLED", "TRUE")], true).unwrap();
        assert!(!disabled.has_traces() && !disabled.has_metrics());
    }

    #[test]
    fn a_signals_own_variables_win() {
        let settings = read(
            &[
                (ENDPOINT, "http://general:1"),
                ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces:2/own"),
                ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "grpc"),
                ("OTEL_EXPORTER_OTLP_HEADERS", "a=1,b=two%20words"),
                ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "c=3"),
                ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "250"),
                ("OTEL_METRICS_EXPORTER", "otlp"),
            ],
            false,
        )
        .unwrap();
        let (traces, metrics) = (
            settings.traces.unwrap().destination,
            settings.metrics.unwrap().destination,
        );
        assert_eq!(traces.endpoint, "http://traces:2/own");
        assert_eq!(
            traces.headers,
            [("a".into(), "1".into()), ("b".into(), "two words".into())]
        );
        assert_eq!(traces.timeout, Duration::from_millis(250));
        assert_eq!(
            (metrics.protocol, metrics.endpoint.as_str()),
            (Protocol::Grpc, "http://general:1")
        );
        assert_eq!(metrics.headers, [("c".into(), "3".into())]);
        assert_eq!(metrics.timeout, Duration::from_secs(10));
        assert!(!format!("{traces:?}").contains("two words"), "keys are not logged");
    }

    #[test]
    fn the_environment_names_the_process() {
        let settings = read(&[], false).unwrap();
        assert_eq!(resource(&settings, "service.name"), "meridian-test");
        assert_eq!(resource(&settings, "service.instance.id"), "one");
        assert_eq!(resource(&settings, "service.version"), env!("CARGO_PKG_VERSION"));
        let attributes = (
            "OTEL_RESOURCE_ATTRIBUTES",
            "service.name=other, deployment.environment=a%2Cb",
        );
        let settings = read(&[attributes], false).unwrap();
        assert_eq!(resource(&settings, "service.name"), "other");
        assert_eq!(resource(&settings, "deployment.environment"), "a,b");
        let settings = read(&[attributes, ("OTEL_SERVICE_NAME", "mine")], false).unwrap();
        assert_eq!(resource(&settings, "service.name"), "mine");
    }

    #[test]
    fn a_wrong_value_is_refused_by_the_name_of_its_variable() {
        for (variable, value) in [
            ("OTEL_SDK_DISABLED", "perhaps"),
            ("OTEL_TRACES_EXPORTER", "zipkin"),
            ("OTEL_METRICS_EXPORTER", "prometheus"),
            (ENDPOINT, "collector"),
            (ENDPOINT, "ftp://collector"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "carrier pigeon"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "no equals sign"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "new\nline=1"),
            ("OTEL_RESOURCE_ATTRIBUTES", "=value"),
            ("OTEL_TRACES_SAMPLER", "often"),
            ("OTEL_TRACES_SAMPLER_ARG", "1.5"),
            ("OTEL_TRACES_SAMPLER_ARG", "NaN"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "1000000"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "9999"),
            ("OTEL_BSP_SCHEDULE_DELAY", "-1"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "1"),
        ] {
            let mut variables = vec![(ENDPOINT, "http://collector:4318")];
            variables.push((variable, value));
            let error = read(&variables, true).unwrap_err().to_string();
            assert!(error.starts_with(variable), "{variable}={value}: {error}");
        }
        let grpc = [
            (ENDPOINT, "https://collector:4317"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ];
        assert!(read(&grpc, false).unwrap_err().to_string().contains("http/protobuf"));
        let nowhere = read(&[("OTEL_TRACES_EXPORTER", "otlp")], false).unwrap_err();
        assert!(nowhere.to_string().contains(ENDPOINT), "{nowhere}");
    }

    proptest! {
        #[test]
        fn no_value_breaks_the_reader(value in any::<String>(), at in 0_usize..8) {
            let variable = [
                ENDPOINT, "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_TRACES_SAMPLER_ARG",
                "OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_SERVICE_NAME", "OTEL_EXPORTER_OTLP_TIMEOUT",
            ][at];
            let variables = [(ENDPOINT, "http://collector:4318"), (variable, value.as_str())];
            if let Err(error) = read(&variables, true) {
                prop_assert!(error.to_string().starts_with(variable));
            }
        }
    }
}
