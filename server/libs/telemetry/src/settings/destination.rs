//! Where a signal goes, and how.

use std::{ops::RangeInclusive, time::Duration};

use tonic::transport::Endpoint;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

use super::variables::{SettingsError, Variables};

/// How long a collector may take to answer, in milliseconds.
const TIMEOUT_MS_DEFAULT: u64 = 10_000;
const TIMEOUT_MS: RangeInclusive<u64> = 1..=60_000;

/// Bytes of a file of certificates: what a system trusts has a quarter of a megabyte.
const PEM_BYTES_MAX: u64 = 4_194_304;

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// Where one signal goes.
#[derive(Clone)]
pub(crate) struct Destination {
    pub(crate) protocol: Protocol,
    /// For gRPC the collector, for HTTP the whole address of the signal. There is no key in it.
    pub(crate) endpoint: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) timeout: Duration,
    /// Whom an encrypted connection trusts, and what it shows of itself; none for the defaults.
    pub(crate) tls: Option<TlsConfig>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Grpc,
    HttpProtobuf,
}

#[derive(Clone, Copy)]
pub(super) enum Signal {
    Traces,
    Metrics,
}

/// A variable that is set.
struct Given {
    name: String,
    value: String,
}

impl std::fmt::Debug for Destination {
    /// Without the headers, in which keys stand.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Destination")
            .field("protocol", &self.protocol)
            .field("endpoint", &self.endpoint)
            .field("headers", &self.headers.len())
            .field("timeout", &self.timeout)
            .field("has_own_tls", &self.tls.is_some())
            .finish()
    }
}

/// Where a signal goes, unless it goes nowhere: it is not wanted, or there is no endpoint. Every value is checked in any case; how
/// they go together, and what files hold, only for a signal that is exported.
pub(super) fn read_destination(
    variables: &Variables,
    signal: Signal,
    is_wanted: bool,
    is_disabled: bool,
) -> Result<Option<Destination>, SettingsError> {
    let exporter = match signal {
        Signal::Traces => "OTEL_TRACES_EXPORTER",
        Signal::Metrics => "OTEL_METRICS_EXPORTER",
    };
    let asked = variables.choice(exporter, &[("otlp", true), ("none", false)])?;
    let (of_signal, general) = (
        read_endpoint(variables, &signal.variable("ENDPOINT"))?,
        read_endpoint(variables, ENDPOINT)?,
    );
    let protocols = [("grpc", Protocol::Grpc), ("http/protobuf", Protocol::HttpProtobuf)];
    let protocol =
        variables.choice_of_signal(&signal.variable("PROTOCOL"), "OTEL_EXPORTER_OTLP_PROTOCOL", &protocols)?;
    let protocol = protocol.unwrap_or(Protocol::HttpProtobuf);
    variables.choice_of_signal(
        &signal.variable("COMPRESSION"),
        "OTEL_EXPORTER_OTLP_COMPRESSION",
        &[("none", ())],
    )?;
    let headers = variables.headers_of_signal(&signal.variable("HEADERS"), "OTEL_EXPORTER_OTLP_HEADERS")?;
    let timeout = variables.whole_of_signal(
        &signal.variable("TIMEOUT"),
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        TIMEOUT_MS_DEFAULT,
        TIMEOUT_MS,
    )?;
    let files = read_files(variables, signal)?;

    if is_disabled || !asked.unwrap_or(is_wanted) {
        return Ok(None);
    }
    let is_general = of_signal.is_none();
    let Some(given) = of_signal.or(general) else {
        if asked.is_none() {
            return Ok(None);
        }
        let allowed = format!("without {ENDPOINT} there is nowhere to export to; give an endpoint, or none here");
        return Err(SettingsError::new(exporter, "otlp", allowed));
    };
    let is_encrypted = is_encrypted(&given, protocol)?;
    let endpoint = match protocol {
        Protocol::HttpProtobuf if is_general => format!("{}{}", given.value.trim_end_matches('/'), signal.path()),
        _ => given.value,
    };
    Ok(Some(Destination {
        protocol,
        endpoint,
        headers,
        timeout: Duration::from_millis(timeout),
        tls: read_tls(files, is_encrypted)?,
    }))
}

/// An address that can be connected to. What may hold a key is never repeated.
fn read_endpoint(variables: &Variables, name: &str) -> Result<Option<Given>, SettingsError> {
    let Some(value) = variables.text(name)? else {
        return Ok(None);
    };
    let is_shown = !value.contains(['@', '?', '#']);
    let shown = if is_shown { value.as_str() } else { "(not shown)" };
    let wrong = |allowed: &str| Err(SettingsError::new(name, shown, allowed));
    let Ok(parsed) = Endpoint::from_shared(value.clone()) else {
        return wrong("it must be an address such as http://collector:4318, without a user or a query");
    };
    let uri = parsed.uri();
    let (Some("http" | "https"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return wrong("it must begin with http:// or https:// and a host");
    };
    if authority.as_str().contains('@') {
        return wrong(
            "it may not name a user; what the collector is to be shown belongs into OTEL_EXPORTER_OTLP_HEADERS",
        );
    }
    if uri.query().is_some() || value.contains('#') {
        return wrong("it may not have a query or a fragment; keys belong into OTEL_EXPORTER_OTLP_HEADERS");
    }
    let port = authority.as_str().strip_prefix(authority.host());
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    match port.map(|port| port.strip_prefix(':')) {
        _ if authority.host().is_empty() => wrong("it must begin with http:// or https:// and a host"),
        Some(Some(port)) if !is_port(port) => wrong("its port must be a number from 1 to 65535"),
        _ => Ok(Some(Given {
            name: name.to_owned(),
            value,
        })),
    }
}

fn is_encrypted(given: &Given, protocol: Protocol) -> Result<bool, SettingsError> {
    let is_encrypted = given.value.to_ascii_lowercase().starts_with("https:");
    if is_encrypted && protocol == Protocol::Grpc {
        let allowed = "https is for OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf; with grpc it must begin with http://";
        return Err(SettingsError::new(&given.name, &given.value, allowed));
    }
    Ok(is_encrypted)
}

/// The files of a signal: whom to trust, its own certificate, and its key.
fn read_files(variables: &Variables, signal: Signal) -> Result<[Option<Given>; 3], SettingsError> {
    let read = |what: &str, general: &str| -> Result<Option<Given>, SettingsError> {
        for name in [signal.variable(what).as_str(), general] {
            if let Some(value) = variables.text(name)? {
                let name = name.to_owned();
                return Ok(Some(Given { name, value }));
            }
        }
        Ok(None)
    };
    Ok([
        read("CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE")?,
        read("CLIENT_CERTIFICATE", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE")?,
        read("CLIENT_KEY", "OTEL_EXPORTER_OTLP_CLIENT_KEY")?,
    ])
}

fn read_tls(files: [Option<Given>; 3], is_encrypted: bool) -> Result<Option<TlsConfig>, SettingsError> {
    if let Some(given) = files.iter().flatten().next()
        && !is_encrypted
    {
        let allowed = "it is for an endpoint that begins with https://; nothing is encrypted otherwise";
        return Err(SettingsError::new(&given.name, &given.value, allowed));
    }
    let shown = match files {
        [None, None, None] => return Ok(None),
        [trusted, None, None] => (trusted, None),
        [trusted, Some(certificate), Some(key)] => (trusted, Some((certificate, key))),
        [_, Some(given), None] | [_, None, Some(given)] => {
            let allowed = "a client's certificate and its key must be given together";
            return Err(SettingsError::new(&given.name, &given.value, allowed));
        }
    };
    let (trusted, own) = shown;
    let mut config = TlsConfig::builder();
    if let Some(trusted) = trusted {
        config = config.root_certs(RootCerts::new_with_certs(&read_certificates(&trusted)?));
    }
    if let Some((certificate, key)) = own {
        let own = ClientCert::new_with_certs(&read_certificates(&certificate)?, read_key(&key)?);
        config = config.client_cert(Some(own));
    }
    Ok(Some(config.build()))
}

fn read_certificates(given: &Given) -> Result<Vec<Certificate<'static>>, SettingsError> {
    let items = read_pem(given)?;
    let certificates = items.into_iter().filter_map(|item| match item {
        PemItem::Certificate(certificate) => Some(certificate),
        _ => None,
    });
    let certificates: Vec<_> = certificates.collect();
    if certificates.is_empty() {
        let allowed = "it must be a file with certificates in PEM form; this one has none";
        return Err(SettingsError::new(&given.name, &given.value, allowed));
    }
    Ok(certificates)
}

fn read_key(given: &Given) -> Result<PrivateKey<'static>, SettingsError> {
    let key = read_pem(given)?.into_iter().find_map(|item| match item {
        PemItem::PrivateKey(key) => Some(key),
        _ => None,
    });
    key.ok_or_else(|| {
        let allowed = "it must be a file with a key in PEM form; this one has none";
        SettingsError::new(&given.name, &given.value, allowed)
    })
}

fn read_pem(given: &Given) -> Result<Vec<PemItem<'static>>, SettingsError> {
    let wrong = |allowed: String| SettingsError::new(&given.name, &given.value, allowed);
    let unreadable = |error| wrong(format!("the file cannot be read ({error})"));
    let length = std::fs::metadata(&given.value).map_err(unreadable)?.len();
    if length > PEM_BYTES_MAX {
        return Err(wrong(format!("the file may have {PEM_BYTES_MAX} bytes")));
    }
    let text = std::fs::read(&given.value).map_err(unreadable)?;
    let items: Result<Vec<_>, _> = parse_pem(&text).collect();
    items.map_err(|_| wrong("it must be a file in PEM form".to_owned()))
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
