//! Callers that do not keep to the contract.

use std::io::Read;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut};
use meridian_fabric::desk::Request as Asked;
use meridian_front::FrontConfig;
use meridian_rpc::ErrorWord;
use meridian_rpc::v1::{Entities, MoveResponse, WatchPositionsRequest, watch_positions_request::Filter};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;

use crate::support::{Front, PATIENCE, Player, World, word};
use crate::zone::{Owners, Zone};

/// Messages are bytes that a test has written by hand.
#[derive(Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, bytes: Vec<u8>, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put_slice(&bytes);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let length = from.remaining();
        Ok(Some(from.copy_to_bytes(length).to_vec()))
    }
}

async fn call(channel: Channel, method: &'static str, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    grpc.unary(
        request,
        tonic::codegen::http::uri::PathAndQuery::from_static(method),
        Raw,
    )
    .await
}

const MOVE: &str = "/meridian.v1.GameServer/Move";
const CHECK: &str = "/grpc.health.v1.Health/Check";

/// Streams of health and reflection that one connection may have open.
const STANDARD_STREAMS_MAX: usize = 8;

/// A `MoveRequest` as it is written on the wire: dx = 1, ticks = 2.
fn move_bytes() -> Vec<u8> {
    let mut bytes = vec![0x0d];
    bytes.put_f32_le(1.0);
    bytes.extend([0x18, 2]);
    bytes
}

fn served() -> (World, Zone, Front) {
    let (world, zone) = (World::new(1), Zone::start(0, &Arc::<Owners>::default()));
    let front = Front::of(&world, FrontConfig::default(), &zone);
    (world, zone, front)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fields_that_this_version_does_not_know_are_ignored() {
    let (_world, _zone, front) = served();
    let ada = Player::new(42);
    ada.join(&mut front.client().await).await.unwrap();
    // Field 15 as a number, field 16 as text, field 17 as eight bytes.
    let mut bytes = vec![0x78, 0x96, 0x01, 0x82, 0x01, 3, b'n', b'e', b'w', 0x89, 0x01];
    bytes.extend([7; 8]);
    bytes.extend(move_bytes());
    let answer = call(front.channel().await, MOVE, ada.asks(bytes)).await.unwrap();
    let moved: MoveResponse = prost::Message::decode(&answer.into_inner()[..]).unwrap();
    assert_eq!(moved.last_tick, moved.position.unwrap().tick + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_no_message_or_too_many_are_refused_and_the_server_goes_on() {
    let (_world, _zone, front) = served();
    let ada = Player::new(42);
    let mut client = front.client().await;
    ada.join(&mut client).await.unwrap();
    let garbage = call(front.channel().await, MOVE, ada.asks(vec![0xff; 40])).await;
    assert_eq!(word(garbage), ErrorWord::Argument);
    let mut long = vec![0x82, 0x01, 0x80, 0x80, 0x08];
    long.extend(vec![b'x'; 128 * 1024]);
    let too_long = call(front.channel().await, MOVE, ada.asks(long)).await;
    assert_eq!(word(too_long), ErrorWord::Argument);
    let many = Entities {
        entity_ids: vec![u64::MAX; 1_025],
    };
    let watch = WatchPositionsRequest {
        filter: Some(Filter::Entities(many)),
    };
    assert_eq!(
        word(client.watch_positions(ada.asks(watch)).await.map(drop)),
        ErrorWord::Argument
    );
    ada.walk(&mut client).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_never_ends_has_a_deadline_too() {
    let (_world, _zone, front) = served();
    for path in [MOVE, CHECK] {
        let mut grpc = tonic::client::Grpc::new(front.channel().await);
        grpc.ready().await.unwrap();
        // It needs no token to begin.
        let mut request = Request::new(futures_util::stream::pending::<Vec<u8>>());
        request.set_timeout(Duration::from_millis(300));
        let path = tonic::codegen::http::uri::PathAndQuery::from_static(path);
        let refused: Result<Response<Vec<u8>>, Status> = grpc.client_streaming(request, path, Raw).await;
        assert_eq!(word(refused), ErrorWord::Deadline);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_question_to_health_is_refused_by_its_length_alone() {
    let (_world, _zone, front) = served();
    // Field 1, as text of 5,000 bytes.
    let mut long = vec![0x0a, 0x88, 0x27];
    long.extend(vec![b'x'; 5_000]);
    let refused = call(front.channel().await, CHECK, Request::new(long)).await;
    assert_eq!(word(refused), ErrorWord::Argument);
    let mut asked = HealthClient::new(front.channel().await);
    asked.check(HealthCheckRequest::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_has_no_more_than_eight_streams_of_health_and_reflection() {
    let (_world, _zone, front) = served();
    let channel = front.channel().await;
    let mut health = HealthClient::new(channel.clone());
    let mut reflection = ServerReflectionClient::new(channel);
    let asked = HealthCheckRequest::default;
    let mut open = Vec::new();
    for _ in 1..STANDARD_STREAMS_MAX {
        open.push(health.watch(asked()).await.unwrap());
    }
    let never = futures_util::stream::pending::<ServerReflectionRequest>;
    let _described = reflection.server_reflection_info(never()).await.unwrap();
    assert_eq!(word(health.watch(asked()).await.map(drop)), ErrorWord::TooMany);
    let one_more = reflection.server_reflection_info(never()).await.map(drop);
    assert_eq!(word(one_more), ErrorWord::TooMany);
    health.check(asked()).await.unwrap();
    HealthClient::new(front.channel().await).watch(asked()).await.unwrap();
    // Who watches no longer has no seat, as soon as the server hears of it.
    open.pop();
    let gives_up_at = tokio::time::Instant::now() + PATIENCE;
    while let Err(status) = health.watch(asked()).await {
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(ErrorWord::of(&status), Some(ErrorWord::TooMany));
        assert!(
            tokio::time::Instant::now() < gives_up_at,
            "the seat is never free again"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_of_a_hundred_kibibytes_is_refused() {
    let (_world, zone, front) = served();
    let ada = Player::new(42);
    ada.join(&mut front.client().await).await.unwrap();
    for (key, bytes) in [
        ("x-more", 100 * 1024),
        ("authorization", 100 * 1024),
        ("traceparent", 20 * 1024),
    ] {
        let mut request = ada.asks(move_bytes());
        request.metadata_mut().insert(key, "x".repeat(bytes).parse().unwrap());
        let refused = call(front.channel().await, MOVE, request).await;
        // As the contract tells it: what HTTP says, or with the connection gone before that came.
        let code = refused.unwrap_err().code();
        assert!(
            matches!(
                code,
                Code::Unknown | Code::Internal | Code::ResourceExhausted | Code::Unavailable
            ),
            "{key}: {code:?}"
        );
    }
    ada.walk(&mut front.client().await).await.unwrap();
    let asked = zone.asked(ada.id).into_iter();
    let walks = asked.filter(|asked| matches!(asked, Asked::Walk { .. }));
    assert_eq!(walks.count(), 1, "none of them came to the zone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_of_a_service_that_is_not_there_is_unimplemented() {
    let (_world, _zone, front) = served();
    for path in ["/meridian.v1.Other/Move", "/meridian.v1.GameServer/Fly"] {
        let refused = call(front.channel().await, path, Request::new(Vec::new())).await;
        assert_eq!(refused.unwrap_err().code(), Code::Unimplemented, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_too_many_is_closed_and_one_that_says_nothing_makes_room() {
    let (world, zone) = (World::new(1), Zone::start(0, &Arc::<Owners>::default()));
    let config = FrontConfig {
        connections_max: 1,
        ..FrontConfig::default()
    };
    let front = Front::of(&world, config, &zone);
    let address = front.address;
    let read_to_end = move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut bytes = Vec::new();
        // However it is closed, it is: waiting for longer would be an error of another kind.
        let closed = stream.read_to_end(&mut bytes).map_err(|error| error.kind());
        assert_ne!(closed, Err(std::io::ErrorKind::WouldBlock));
        bytes
    };
    // It has the only seat, and says nothing.
    let silent = tokio::task::spawn_blocking(read_to_end);
    // The second one is closed while the first one has the seat; the first one when its time is over.
    let second = tokio::task::spawn_blocking(read_to_end);
    for ended in [silent, second] {
        ended.await.unwrap();
    }
    let ada = Player::new(42);
    ada.join(&mut front.client().await).await.unwrap();
}
