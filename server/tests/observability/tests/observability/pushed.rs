//! What programs push of metrics, as the Collector has it: taken over OTLP, shown to Prometheus as its exporter `prometheus` shows it, and kept for
//! the lines of its exporter `influxdb`. It stands in for the reference Collector between the two, and for nothing else of it.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use axum::extract::State;
use opentelemetry_proto::tonic::{
    collector::metrics::v1::{
        ExportMetricsServiceRequest, ExportMetricsServiceResponse,
        metrics_service_server::{MetricsService, MetricsServiceServer},
    },
    common::v1::{AnyValue, KeyValue, any_value},
    metrics::v1::{
        Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric::Data,
        number_data_point::Value,
    },
};
use tonic::transport::server::TcpIncoming;

type Labels = BTreeMap<String, String>;

/// Keeps the newest push of each program, over gRPC, until it is dropped.
pub struct Pushed {
    /// What OTEL_EXPORTER_OTLP_METRICS_ENDPOINT is for those who push over gRPC.
    pub endpoint: String,
    /// Where Prometheus finds what was pushed: an address, for its path /metrics.
    pub scraped: SocketAddr,
    keeper: Keeper,
    _runtime: tokio::runtime::Runtime,
}

/// A program's newest push.
pub struct Push {
    /// In Prometheus's text format, with the labels that the program gave.
    pub page: String,
    /// What the program says of itself, and the scope.
    pub tags: Labels,
    /// When it was, in nanoseconds since the Unix epoch.
    pub at_ns: u128,
}

impl Pushed {
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let keeper = Keeper::default();
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let _inside = runtime.enter();
        let over_grpc = TcpIncoming::bind(free).unwrap();
        let grpc = over_grpc.local_addr().unwrap();
        let service = MetricsServiceServer::new(keeper.clone());
        runtime.spawn(tonic::transport::Server::builder().serve_with_incoming(service, over_grpc));

        let over_http = runtime.block_on(tokio::net::TcpListener::bind(free)).unwrap();
        let scraped = over_http.local_addr().unwrap();
        let router = axum::Router::new()
            .route("/metrics", axum::routing::get(show))
            .with_state(keeper.clone());
        runtime.spawn(axum::serve(over_http, router).into_future());
        Self {
            endpoint: format!("http://{grpc}"),
            scraped,
            keeper,
            _runtime: runtime,
        }
    }

    /// The newest push of each program.
    pub fn newest(&self) -> Vec<Push> {
        let kept = self.keeper.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.values().map(push_of).collect()
    }
}

/// By the programs' instances.
#[derive(Clone, Default)]
struct Keeper(Arc<Mutex<BTreeMap<String, ResourceMetrics>>>);

#[tonic::async_trait]
impl MetricsService for Keeper {
    async fn export(
        &self,
        request: tonic::Request<ExportMetricsServiceRequest>,
    ) -> Result<tonic::Response<ExportMetricsServiceResponse>, tonic::Status> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for pushed in request.into_inner().resource_metrics {
            let instance = resource_of(&pushed).remove("service.instance.id");
            kept.insert(instance.unwrap_or_default(), pushed);
        }
        Ok(tonic::Response::new(ExportMetricsServiceResponse::default()))
    }
}

/// All that was pushed, each with who pushed it as `job` and `instance`.
async fn show(State(keeper): State<Keeper>) -> String {
    let kept = keeper.0.lock().unwrap_or_else(PoisonError::into_inner);
    let pages = kept.values().map(|pushed| {
        let mut resource = resource_of(pushed);
        let named = [("job", "service.name"), ("instance", "service.instance.id")];
        let named = named.map(|(label, key)| (label.to_owned(), resource.remove(key).unwrap_or_default()));
        page_of(pushed, &Labels::from(named))
    });
    pages.collect()
}

fn push_of(pushed: &ResourceMetrics) -> Push {
    let mut tags = resource_of(pushed);
    let scope = pushed.scope_metrics.iter().find_map(|of_scope| of_scope.scope.clone());
    let scope = scope.unwrap_or_default();
    tags.insert("otel.library.name".to_owned(), scope.name);
    tags.insert("otel.library.version".to_owned(), scope.version);
    Push {
        page: page_of(pushed, &Labels::new()),
        tags,
        at_ns: u128::from(metrics_of(pushed).filter_map(at_ns).max().unwrap_or_default()),
    }
}

fn metrics_of(pushed: &ResourceMetrics) -> impl Iterator<Item = &Metric> {
    pushed.scope_metrics.iter().flat_map(|of_scope| &of_scope.metrics)
}

fn resource_of(pushed: &ResourceMetrics) -> Labels {
    let resource = pushed.resource.as_ref();
    resource.map_or_else(Labels::new, |resource| texts(&resource.attributes))
}

fn at_ns(metric: &Metric) -> Option<u64> {
    match metric.data.as_ref()? {
        Data::Sum(sum) => sum.data_points.first().map(|point| point.time_unix_nano),
        Data::Gauge(gauge) => gauge.data_points.first().map(|point| point.time_unix_nano),
        _ => None,
    }
}

/// A push as a page of Prometheus's text format, with more labels. Names are kept, as the Collector is told to.
fn page_of(pushed: &ResourceMetrics, more: &Labels) -> String {
    let mut page = String::new();
    for metric in metrics_of(pushed) {
        let name = &metric.name;
        let (kind, lines) = match metric.data.as_ref() {
            Some(Data::Sum(sum)) => ("counter", numbers(name, &sum.data_points, more)),
            Some(Data::Gauge(gauge)) => ("gauge", numbers(name, &gauge.data_points, more)),
            Some(Data::Histogram(histogram)) => {
                let points = histogram.data_points.iter();
                (
                    "histogram",
                    points.map(|point| distribution(name, point, more)).collect(),
                )
            }
            // The Collector shows summaries as well. Programs push none that anything asks for.
            _ => continue,
        };
        page += &format!("# TYPE {name} {kind}\n{lines}");
    }
    page
}

fn numbers(name: &str, points: &[NumberDataPoint], more: &Labels) -> String {
    let lines = points.iter().map(|point| match point.value {
        Some(Value::AsDouble(value)) => line(name, &labels(&point.attributes, more), value),
        other => panic!("{name} has the value {other:?}"),
    });
    lines.collect()
}

/// OTLP counts what is between two bounds, Prometheus what is up to each.
fn distribution(name: &str, point: &HistogramDataPoint, more: &Labels) -> String {
    let labels = labels(&point.attributes, more);
    let bounds = point.explicit_bounds.iter().map(f64::to_string);
    let mut up_to_here = 0_u64;
    let mut lines = String::new();
    for (bound, count) in bounds.chain(["+Inf".to_owned()]).zip(&point.bucket_counts) {
        up_to_here += count;
        let mut labels = labels.clone();
        labels.insert("le".to_owned(), bound);
        lines += &line(&format!("{name}_bucket"), &labels, up_to_here as f64);
    }
    lines += &line(&format!("{name}_sum"), &labels, point.sum.unwrap_or_default());
    lines + &line(&format!("{name}_count"), &labels, point.count as f64)
}

fn line(name: &str, labels: &Labels, value: f64) -> String {
    let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let pairs: Vec<String> = labels
        .iter()
        .map(|(key, value)| format!("{key}=\"{}\"", escaped(value)))
        .collect();
    match pairs.as_slice() {
        [] => format!("{name} {value}\n"),
        pairs => format!("{name}{{{}}} {value}\n", pairs.join(",")),
    }
}

fn labels(attributes: &[KeyValue], more: &Labels) -> Labels {
    let mut labels = texts(attributes);
    labels.extend(more.clone());
    labels
}

/// Attributes that are text, as all of those that are pushed are.
fn texts(attributes: &[KeyValue]) -> Labels {
    let pairs = attributes.iter().filter_map(|attribute| {
        let value = attribute.value.as_ref()?.value.as_ref()?;
        match value {
            any_value::Value::StringValue(text) => Some((attribute.key.clone(), text.clone())),
            _ => None,
        }
    });
    pairs.collect()
}

fn attribute(key: &str, value: &str) -> KeyValue {
    let text = any_value::Value::StringValue(value.to_owned());
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(text) }),
        ..KeyValue::default()
    }
}

fn push_with(name: &str, data: Data) -> ResourceMetrics {
    let metric = Metric {
        name: name.to_owned(),
        data: Some(data),
        ..Metric::default()
    };
    ResourceMetrics {
        scope_metrics: vec![ScopeMetrics {
            metrics: vec![metric],
            ..ScopeMetrics::default()
        }],
        ..ResourceMetrics::default()
    }
}

#[test]
fn a_push_becomes_a_page() {
    let more = Labels::from([("instance".to_owned(), "loadgen-1".to_owned())]);
    let lost = NumberDataPoint {
        value: Some(Value::AsDouble(2.0)),
        ..NumberDataPoint::default()
    };
    let counter = push_with(
        "lost_total",
        Data::Sum(Sum {
            data_points: vec![lost],
            ..Sum::default()
        }),
    );
    let page = page_of(&counter, &more);
    assert_eq!(
        page,
        "# TYPE lost_total counter\nlost_total{instance=\"loadgen-1\"} 2\n"
    );
    assert_eq!(
        page_of(&counter, &Labels::new()).lines().next_back(),
        Some("lost_total 2")
    );
}

#[test]
fn the_counts_of_a_histogram_add_up() {
    let took = HistogramDataPoint {
        attributes: vec![attribute("term", "a \"b\"")],
        bucket_counts: vec![1, 2, 3],
        explicit_bounds: vec![0.5, 1.0],
        count: 6,
        sum: Some(4.5),
        ..HistogramDataPoint::default()
    };
    let histogram = push_with(
        "took_seconds",
        Data::Histogram(Histogram {
            data_points: vec![took],
            ..Histogram::default()
        }),
    );
    let lines = [
        "# TYPE took_seconds histogram",
        "took_seconds_bucket{le=\"0.5\",term=\"a \\\"b\\\"\"} 1",
        "took_seconds_bucket{le=\"1\",term=\"a \\\"b\\\"\"} 3",
        "took_seconds_bucket{le=\"+Inf\",term=\"a \\\"b\\\"\"} 6",
        "took_seconds_sum{term=\"a \\\"b\\\"\"} 4.5",
        "took_seconds_count{term=\"a \\\"b\\\"\"} 6",
    ];
    assert_eq!(page_of(&histogram, &Labels::new()).lines().collect::<Vec<_>>(), lines);
}
