//! How a front begins, says how it does, and ends.

use std::sync::Arc;

use futures_util::future::ready;
use futures_util::stream::once;
use meridian_front::FrontConfig;
use meridian_rpc::ErrorWord;
use meridian_rpc::v1::WatchPositionsRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ListServiceResponse, ServerReflectionRequest};

use crate::streams::Playing;
use crate::support::{Front, PATIENCE, Player, World, east, word};
use crate::zone::{Mood, Owners, Zone};

const SERVICE: &str = "meridian.v1.GameServer";

fn served() -> (World, Zone, Front) {
    let (world, zone) = (World::new(1), Zone::start(0, &Arc::<Owners>::default()));
    let front = Front::of(&world, FrontConfig::default(), &zone);
    (world, zone, front)
}

/// The states of a service as they change.
async fn states(front: &Front, service: &str) -> tonic::Streaming<HealthCheckResponse> {
    let service = service.to_owned();
    let mut client = HealthClient::new(front.channel().await);
    client.watch(HealthCheckRequest { service }).await.unwrap().into_inner()
}

/// Waits for a state.
async fn becomes(states: &mut tonic::Streaming<HealthCheckResponse>, wanted: ServingStatus) {
    let waiting = async { while states.message().await.unwrap().unwrap().status() != wanted {} };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_says_whether_a_zone_serves() {
    let (_world, zone, front) = served();
    let (mut all, mut service) = (states(&front, "").await, states(&front, SERVICE).await);
    for (mood, wanted) in [
        (Mood::Serves, ServingStatus::Serving),
        (Mood::Away, ServingStatus::NotServing),
        (Mood::Serves, ServingStatus::Serving),
    ] {
        zone.be(mood);
        becomes(&mut all, wanted).await;
        becomes(&mut service, wanted).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reflection_lists_the_services_and_describes_them() {
    let (_world, _zone, front) = served();
    let ask = |message_request| {
        once(ready(ServerReflectionRequest {
            host: String::new(),
            message_request: Some(message_request),
        }))
    };
    let mut client = ServerReflectionClient::new(front.channel().await);
    let listing = client.server_reflection_info(ask(MessageRequest::ListServices(String::new())));
    let listed = listing.await.unwrap().into_inner().message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(ListServiceResponse { service })) = listed.message_response else {
        panic!("no services are listed: {listed:?}");
    };
    let mut names: Vec<String> = service.into_iter().map(|service| service.name).collect();
    names.sort();
    assert_eq!(
        names,
        ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", SERVICE]
    );
    let symbol = format!("{SERVICE}.Move");
    let describing = client.server_reflection_info(ask(MessageRequest::FileContainingSymbol(symbol)));
    let described = describing.await.unwrap().into_inner().message().await.unwrap().unwrap();
    assert!(matches!(
        described.message_response,
        Some(MessageResponse::FileDescriptorResponse(_))
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_end_health_says_so_streams_end_and_the_server_is_gone() {
    let (_world, zone, mut front) = served();
    let (mut client, ada) = (front.client().await, Player::new(42));
    ada.join(&mut client).await.unwrap();
    let mut playing = Playing::begin(&mut client, &ada).await.unwrap();
    playing.send(1, east(1)).await;
    assert_eq!(playing.answer().await, (1, None));
    let watching = client.watch_positions(ada.asks(WatchPositionsRequest::default())).await;
    let mut watching = watching.unwrap().into_inner();
    // One that does not answer: the end does not wait for it for long.
    zone.be(Mood::Silent);
    playing.send(2, east(1)).await;
    let mut states = states(&front, SERVICE).await;
    becomes(&mut states, ServingStatus::Serving).await;

    front.stop.cancel();
    becomes(&mut states, ServingStatus::NotServing).await;
    assert_eq!(word(watching.message().await), ErrorWord::ZoneAway);
    assert_eq!(word(playing.answers.message().await), ErrorWord::ZoneAway);
    let served = tokio::time::timeout(PATIENCE, &mut front.serving).await;
    served.unwrap().unwrap().unwrap();
    assert!(
        std::net::TcpStream::connect(front.address).is_err(),
        "nobody listens any more"
    );
}
