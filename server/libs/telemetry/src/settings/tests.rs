//! What the environment asks for, and what it may not ask for.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

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
        (ENDPOINT, "http://collector:99999"),
        (ENDPOINT, "http://collector:0"),
        (ENDPOINT, "http://collector:"),
        (ENDPOINT, "http://[::1]:port"),
        (ENDPOINT, "http://collector/?key=value"),
        (ENDPOINT, "http://collector/#part"),
        (ENDPOINT, "http://user@collector:4318"),
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "https://collector:x"),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "foo"),
        ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "soon"),
        ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "Host=other"),
        ("OTEL_BSP_EXPORT_TIMEOUT", "bogus"),
    ] {
        // Whatever is exported in the end, values are checked.
        let endpoint = (ENDPOINT, "http://collector:4318");
        let (none, disabled) = (("OTEL_TRACES_EXPORTER", "none"), ("OTEL_SDK_DISABLED", "true"));
        for others in [&[endpoint][..], &[], &[endpoint, none], &[endpoint, disabled]] {
            for push_metrics in [true, false] {
                let mut variables = others.to_vec();
                variables.push((variable, value));
                let error = read(&variables, push_metrics).unwrap_err().to_string();
                assert!(error.starts_with(variable), "{variable}={value}: {error}");
            }
        }
    }
    let grpc = [
        (ENDPOINT, "https://collector:4317"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
    ];
    assert!(read(&grpc, false).unwrap_err().to_string().contains("http/protobuf"));
    let nowhere = read(&[("OTEL_TRACES_EXPORTER", "otlp")], false).unwrap_err();
    assert!(nowhere.to_string().contains(ENDPOINT), "{nowhere}");
}

#[test]
fn what_is_not_text_is_refused() {
    use std::os::unix::ffi::OsStringExt;

    for variable in [ENDPOINT, "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_SERVICE_NAME"] {
        let lookup = |name: &str| (name == variable).then(|| OsString::from_vec(b"http://c\xff".to_vec()));
        let error = ExportSettings::from_variables(lookup, "meridian-test", "one", true).unwrap_err();
        assert!(error.to_string().starts_with(variable), "{error}");
    }
}

#[test]
fn what_may_be_a_key_is_not_repeated() {
    for endpoint in [
        "http://me:secret@collector:4318",
        "http://me:secret@collector:port",
        "me:secret@collector",
        "http://collector/?key=secret",
        "http://collector:x?secret",
        "http://me:secret@",
    ] {
        let error = read(&[(ENDPOINT, endpoint)], true).unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}

#[test]
fn headers_that_frame_a_request_are_refused() {
    for key in [
        "content-type",
        "Content-Length",
        "CONTENT-ENCODING",
        "Host",
        "TE",
        "Transfer-Encoding",
        "Connection",
        "Keep-Alive",
        "Upgrade",
        "Trailer",
        "Expect",
        "grpc-timeout",
        "Grpc-Encoding",
    ] {
        let headers = format!("a=1,{key}=2");
        for variable in ["OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"] {
            let error = read(&[(ENDPOINT, "http://collector"), (variable, &headers)], true).unwrap_err();
            assert!(error.to_string().starts_with(variable), "{key}: {error}");
        }
    }
    let headers = (
        "OTEL_EXPORTER_OTLP_HEADERS",
        "Authorization=Bearer%20key,X-Host=1,User-Agent=me",
    );
    assert!(read(&[(ENDPOINT, "http://collector"), headers], true).is_ok());
}

#[test]
fn addresses_with_and_without_a_port_are_taken() {
    for endpoint in [
        "http://collector",
        "http://[::1]:4318/",
        "https://collector:65535/under",
        "HTTP://10.0.0.1:1",
    ] {
        let settings = read(&[(ENDPOINT, endpoint)], false);
        assert!(settings.unwrap().has_traces(), "{endpoint}");
    }
}

/// A file that is gone with the test.
struct File(std::path::PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("meridian-telemetry-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn files_of_certificates_are_read_for_encrypted_connections_only() {
    // What stands in them is looked at when a connection is made.
    let section = |kind: &str| format!("-----BEGIN {kind}-----\nAAAA\n-----END {kind}-----\n");
    let certificate = File::new("certificate.pem", &section("CERTIFICATE"));
    let key = File::new("key.pem", &section("PRIVATE KEY"));
    let empty = File::new("empty.pem", "");
    let https = (ENDPOINT, "https://collector:4318");
    let trusted = "OTEL_EXPORTER_OTLP_CERTIFICATE";
    let (own, own_key) = (
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
        "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY",
    );

    let plain = read(&[https], false).unwrap().traces.unwrap();
    assert!(plain.destination.tls.is_none());
    let given = [
        https,
        (trusted, certificate.path()),
        (own, certificate.path()),
        (own_key, key.path()),
    ];
    let tls = read(&given, false).unwrap().traces.unwrap().destination.tls.unwrap();
    let ureq::tls::RootCerts::Specific(roots) = tls.root_certs() else {
        panic!("only the given ones are trusted");
    };
    assert_eq!((roots.len(), tls.client_cert().unwrap().certs().len()), (1, 1));

    for (variables, wrong) in [
        (vec![https, (trusted, "/nowhere/certificate.pem")], trusted),
        (vec![https, (trusted, empty.path())], trusted),
        (vec![https, (trusted, key.path())], trusted),
        (vec![https, (own, certificate.path())], own),
        (vec![https, (own_key, key.path())], own_key),
        (
            vec![https, (own, certificate.path()), (own_key, certificate.path())],
            own_key,
        ),
        (
            vec![(ENDPOINT, "http://collector"), (trusted, certificate.path())],
            trusted,
        ),
    ] {
        let error = read(&variables, false).unwrap_err().to_string();
        assert!(error.starts_with(wrong), "{error}");
    }
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
