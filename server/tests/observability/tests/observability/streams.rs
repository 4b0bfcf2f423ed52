//! A thousand streams of players at once, against the zones of a real server.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use meridian_rpc::AUTHORIZATION;
use meridian_rpc::v1::game_server_client::GameServerClient;
use meridian_rpc::v1::play_response::Outcome;
use meridian_rpc::v1::{JoinRequest, MoveRequest, PlayRequest, PlayResponse};
use meridian_session::PROTOCOL_VERSION;
use tokio::sync::mpsc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Streaming};

use crate::{
    meridian::World,
    support::{PATIENCE, post},
};

/// Players, each with as many streams as one may have.
const PLAYERS: usize = 63;
const STREAMS_PER_PLAYER: usize = 16;
/// Moves of each stream, one after the other.
const ROUNDS: u64 = 3;

type Client = GameServerClient<Channel>;

struct Stream {
    moves: mpsc::Sender<PlayRequest>,
    answers: Streaming<PlayResponse>,
}

/// A guest's token, as soon as auth gives one: it gives an address so many in a second.
fn token(world: &World, number: usize) -> String {
    let gives_up_at = Instant::now() + PATIENCE;
    let asked = serde_json::json!({ "name": format!("Guest {number}"), "protocol_version": PROTOCOL_VERSION });
    loop {
        let (status, answer) = post(&format!("{}/v1/session", world.auth()), &asked.to_string()).unwrap();
        if status == 200 {
            let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
            return answer["resume"].as_str().unwrap().to_owned();
        }
        assert!(status == 429 && Instant::now() < gives_up_at, "{status}: {answer}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn asks<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let bearer = format!("Bearer {token}");
    request.metadata_mut().insert(AUTHORIZATION, bearer.parse().unwrap());
    request
}

async fn open(client: &mut Client, token: &str) -> Stream {
    let (moves, mut sent) = mpsc::channel(1);
    let requests = futures_util::stream::poll_fn(move |context| sent.poll_recv(context));
    let answers = client.play(asks(token, requests)).await.unwrap().into_inner();
    Stream { moves, answers }
}

async fn play_a_round(stream: &mut Stream, sequence: u64) {
    let asked = MoveRequest {
        dx: 0.1,
        ticks: 1,
        ..MoveRequest::default()
    };
    let request = PlayRequest {
        sequence,
        r#move: Some(asked),
    };
    stream.moves.send(request).await.unwrap();
    let answer = stream.answers.message().await.unwrap().unwrap();
    assert_eq!(answer.sequence, sequence);
    assert!(matches!(answer.outcome, Some(Outcome::Moved(_))), "{answer:?}");
}

#[test]
fn a_thousand_streams_are_played_by_real_zones() {
    let world = World::in_one_process(None);
    let tokens: Vec<String> = (0..PLAYERS).map(|number| token(&world, number)).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let played = async {
        let endpoint = Endpoint::from_shared(world.rpc()[0].clone()).unwrap();
        let client = Client::new(endpoint.connect().await.unwrap());
        let opened = tokens.iter().map(|token| {
            let mut client = client.clone();
            async move {
                client.join(asks(token, JoinRequest {})).await.unwrap();
                let mut streams = Vec::new();
                for _ in 0..STREAMS_PER_PLAYER {
                    streams.push(open(&mut client, token).await);
                }
                streams
            }
        });
        let mut streams: Vec<Stream> = join_all(opened).await.into_iter().flatten().collect();
        assert_eq!(streams.len(), PLAYERS * STREAMS_PER_PLAYER);
        for round in 1..=ROUNDS {
            join_all(streams.iter_mut().map(|stream| play_a_round(stream, round))).await;
        }
        // All of them are still there.
        let page = crate::meridian::metrics_of(&world.admins[0]).unwrap();
        let open = page
            .lines()
            .find(|line| line.starts_with("meridian_rpc_streams{kind=\"play\"}"));
        assert_eq!(open.and_then(|line| line.split(' ').next_back()), Some("1008"));
    };
    runtime.block_on(async { tokio::time::timeout(PATIENCE, played).await.unwrap() });
}
