//! Traces go on through the front: its spans are children of its callers', and parents of what is asked because of them. In a process of its own, for
//! what collects spans is installed once.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper of a test fails by panicking")]

#[path = "../front/support.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod support;
#[path = "../front/zone.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod zone;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use meridian_fabric::desk::Request as Asked;
use meridian_front::FrontConfig;
use meridian_rpc::TRACEPARENT;
use opentelemetry::trace::{SpanKind, Status, TracerProvider};
use opentelemetry::{Context, Value};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, Span, SpanData, SpanProcessor};
use tracing_subscriber::layer::SubscriberExt;

use support::{Client, Front, Player, World, east, until};
use zone::{Owners, Zone};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// Keeps the spans that have ended.
#[derive(Clone, Debug, Default)]
struct Kept(Arc<Mutex<Vec<SpanData>>>);

impl SpanProcessor for Kept {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        self.0.lock().unwrap().push(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl Kept {
    fn install() -> Self {
        let kept = Self::default();
        let provider = SdkTracerProvider::builder().with_span_processor(kept.clone()).build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("meridian"));
        let filter = tracing_subscriber::filter::Targets::new().with_target("meridian", tracing::Level::INFO);
        let subscriber = tracing_subscriber::registry().with(tracing_subscriber::Layer::with_filter(layer, filter));
        tracing::subscriber::set_global_default(subscriber).unwrap();
        kept
    }

    /// The spans of the trace of this name, the last first.
    fn named(&self, name: &str) -> Vec<SpanData> {
        let spans = self.0.lock().unwrap();
        let named = spans.iter().rev().filter(|span| span.name == name);
        let traced = named.filter(|span| span.span_context.trace_id().to_string() == TRACE);
        traced.cloned().collect()
    }
}

/// A move in the trace.
async fn traced_move(client: &mut Client, ada: &Player) -> Result<(), tonic::Status> {
    let mut request = ada.asks(east(1));
    let traceparent = format!("00-{TRACE}-{PARENT}-01");
    request.metadata_mut().insert(TRACEPARENT, traceparent.parse().unwrap());
    client.r#move(request).await.map(drop)
}

/// The parent that a zone was told of.
fn told(zone: &Zone, ada: &Player) -> String {
    let asked = zone.asked(ada.id).into_iter().rev().find_map(|asked| match asked {
        Asked::Walk { traceparent, .. } => traceparent,
        _ => None,
    });
    let asked = asked.unwrap();
    let parts: Vec<&str> = asked.split('-').collect();
    assert_eq!((parts[1], parts[3]), (TRACE, "01"));
    parts[2].to_owned()
}

fn attribute(span: &SpanData, key: &str) -> Option<Value> {
    let attribute = span.attributes.iter().find(|attribute| attribute.key.as_str() == key);
    attribute.map(|attribute| attribute.value.clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_span_of_a_call_lies_between_its_callers_and_its_zones_also_through_two_servers() {
    const MOVE: &str = "meridian.v1.GameServer/Move";
    let kept = Kept::install();
    let (world, owners) = (World::new(2), Arc::<Owners>::default());
    let (west, far) = (Zone::start(0, &owners), Zone::start(1, &owners));
    let west_front = Front::start(world.context("west", FrontConfig::default(), &[&west]));
    let far_front = Front::start(world.context("far", FrontConfig::default(), &[&far]));
    let _listed = world.announce(1, 1, "far", Some(far_front.address));
    let (mut client, ada) = (west_front.client().await, Player::new(42));

    traced_move(&mut client, &ada).await.unwrap_err();
    until("the refused call has ended", || {
        kept.named(MOVE)
            .iter()
            .any(|span| span.parent_span_id.to_string() == PARENT)
    })
    .await;
    let refused = &kept.named(MOVE);
    let refused = refused
        .iter()
        .find(|span| span.parent_span_id.to_string() == PARENT)
        .unwrap();
    assert_eq!(
        attribute(refused, "rpc.response.status_code"),
        Some("FAILED_PRECONDITION".into())
    );
    assert_eq!(
        refused.status,
        Status::Unset,
        "what a caller does wrong is no error of the server"
    );

    ada.join(&mut client).await.unwrap();
    kept.0.lock().unwrap().clear();
    traced_move(&mut client, &ada).await.unwrap();
    until("the call has ended", || kept.named(MOVE).len() == 1).await;
    let call = &kept.named(MOVE)[0];
    assert_eq!(
        (call.span_kind.clone(), call.parent_span_id.to_string().as_str()),
        (SpanKind::Server, PARENT)
    );
    assert_eq!(call.span_context.span_id().to_string(), told(&west, &ada));
    assert_eq!(attribute(call, "rpc.system.name"), Some("grpc".into()));
    assert_eq!(attribute(call, "rpc.method"), Some(MOVE.into()));
    assert_eq!(attribute(call, "rpc.response.status_code"), Some("OK".into()));

    west.cross(ada.id, &far);
    kept.0.lock().unwrap().clear();
    traced_move(&mut client, &ada).await.unwrap();
    until("both calls have ended", || kept.named(MOVE).len() == 2).await;
    let [first, second] = &kept.named(MOVE)[..] else {
        panic!("two spans")
    };
    assert_eq!(first.parent_span_id.to_string(), PARENT);
    assert_eq!(second.parent_span_id, first.span_context.span_id());
    assert_eq!(second.span_context.span_id().to_string(), told(&far, &ada));
}
