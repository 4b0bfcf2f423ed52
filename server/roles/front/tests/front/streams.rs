//! `Play`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use futures_util::future::join_all;
use futures_util::stream::poll_fn;
use meridian_fabric::desk::Request as Asked;
use meridian_front::FrontConfig;
use meridian_rpc::ErrorWord;
use meridian_rpc::v1::play_response::Outcome;
use meridian_rpc::v1::{MoveRequest, PlayRequest, PlayResponse};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tonic::{Status, Streaming};

use crate::support::{Client, Front, Player, World, east, until, word};
use crate::zone::{Mood, Owners, Zone};

/// What is sent, as a stream.
fn received(mut sent: Receiver<PlayRequest>) -> impl Stream<Item = PlayRequest> + Send + 'static {
    poll_fn(move |context| sent.poll_recv(context))
}

/// A stream that is open.
pub struct Playing {
    pub moves: Sender<PlayRequest>,
    pub answers: Streaming<PlayResponse>,
}

impl Playing {
    pub async fn begin(client: &mut Client, player: &Player) -> Result<Self, Status> {
        let (moves, sent) = channel(64);
        let answers = client.play(player.asks(received(sent))).await?;
        let answers = answers.into_inner();
        Ok(Self { moves, answers })
    }

    pub async fn send(&self, sequence: u64, asked: MoveRequest) {
        let request = PlayRequest {
            sequence,
            r#move: Some(asked),
        };
        self.moves.send(request).await.unwrap();
    }

    /// The next answer: its sequence, and the word if it was refused.
    pub async fn answer(&mut self) -> (u64, Option<String>) {
        let answer = self.answers.message().await.unwrap().unwrap();
        match answer.outcome.unwrap() {
            Outcome::Moved(_) => (answer.sequence, None),
            Outcome::Refused(refused) => (answer.sequence, Some(refused.error)),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moves_of_a_stream_are_done_in_order_and_one_that_is_refused_ends_nothing() {
    let (world, zone) = (World::new(1), Zone::start(0, &Arc::<Owners>::default()));
    let front = Front::of(&world, FrontConfig::default(), &zone);
    let (mut client, ada) = (front.client().await, Player::new(42));
    let mut playing = Playing::begin(&mut client, &ada).await.unwrap();
    playing.send(9, east(1)).await;
    assert_eq!(playing.answer().await, (9, Some("not_joined".to_owned())));
    ada.join(&mut client).await.unwrap();
    for sequence in 1..=60 {
        playing
            .send(sequence, east(if sequence == 30 { 61 } else { sequence as u32 }))
            .await;
    }
    for sequence in 1..=60 {
        let refused = (sequence == 30).then(|| "argument".to_owned());
        assert_eq!(playing.answer().await, (sequence, refused));
    }
    let ticks = zone.asked(ada.id).into_iter().filter_map(|asked| match asked {
        Asked::Walk { ticks, .. } => Some(ticks),
        _ => None,
    });
    let expected = std::iter::once(1).chain((1..=60).filter(|ticks| *ticks != 30));
    assert_eq!(ticks.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    playing.moves.send(PlayRequest::default()).await.unwrap();
    assert_eq!(playing.answer().await, (0, Some("argument".to_owned())));
    drop(playing.moves);
    assert!(
        playing.answers.message().await.unwrap().is_none(),
        "it ends as its caller ends it"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_streams_hold() {
    let (world, zone) = (World::new(1), Zone::start(0, &Arc::<Owners>::default()));
    let front = Front::of(&world, FrontConfig::default(), &zone);
    let client = front.client().await;
    let began = (1..=1_000).map(|id| {
        let (mut client, player) = (client.clone(), Player::new(id));
        async move {
            player.join(&mut client).await.unwrap();
            Playing::begin(&mut client, &player).await.unwrap()
        }
    });
    let mut all = join_all(began).await;
    for round in 1..=3 {
        join_all(all.iter().map(|playing| playing.send(round, east(1)))).await;
        let answers = join_all(all.iter_mut().map(Playing::answer)).await;
        let mut counted = HashMap::new();
        for answer in answers {
            *counted.entry(answer).or_insert(0) += 1;
        }
        assert_eq!(counted, [((round, None), 1_000)].into());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_stream_too_many_is_refused_and_one_that_ended_makes_room() {
    let (world, zone) = (World::new(1), Zone::start(0, &Arc::<Owners>::default()));
    let config = FrontConfig {
        streams_max: 1,
        ..FrontConfig::default()
    };
    let front = Front::of(&world, config, &zone);
    let (mut client, ada) = (front.client().await, Player::new(42));
    let first = Playing::begin(&mut client, &ada).await.unwrap();
    assert_eq!(
        word(Playing::begin(&mut client, &ada).await.map(drop)),
        ErrorWord::TooMany
    );
    drop(first);
    let gives_up_at = tokio::time::Instant::now() + crate::support::PATIENCE;
    while let Err(status) = Playing::begin(&mut client, &ada).await {
        assert_eq!(ErrorWord::of(&status), Some(ErrorWord::TooMany));
        assert!(
            tokio::time::Instant::now() < gives_up_at,
            "the seat is never free again"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_player_takes_no_more_than_sixteen_streams() {
    let (world, zone) = (World::new(1), Zone::start(0, &Arc::<Owners>::default()));
    let front = Front::of(&world, FrontConfig::default(), &zone);
    let (mut client, ada, bob) = (front.client().await, Player::new(42), Player::new(43));
    let mut open = Vec::new();
    for _ in 0..16 {
        open.push(Playing::begin(&mut client, &ada).await.unwrap());
    }
    let one_more = Playing::begin(&mut client, &ada).await.map(drop);
    assert_eq!(word(one_more), ErrorWord::TooMany);
    Playing::begin(&mut client, &bob).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_at_its_deadline_though_its_zone_is_silent() {
    let (world, zone) = (World::new(1), Zone::start(0, &Arc::<Owners>::default()));
    let front = Front::of(&world, FrontConfig::default(), &zone);
    let (mut client, ada) = (front.client().await, Player::new(42));
    ada.join(&mut client).await.unwrap();
    zone.be(Mood::Silent);
    let (moves, sent) = channel(64);
    let mut request = ada.asks(received(sent));
    request.set_timeout(Duration::from_millis(300));
    let mut answers = client.play(request).await.unwrap().into_inner();
    moves
        .send(PlayRequest {
            sequence: 1,
            r#move: Some(east(1)),
        })
        .await
        .unwrap();
    assert_eq!(word(answers.message().await), ErrorWord::Deadline);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiet_player_is_spoken_for_and_then_taken_out_but_not_while_its_stream_is_open() {
    let (world, zone) = (World::new(1), Zone::start(0, &Arc::<Owners>::default()));
    let config = FrontConfig {
        idle_s: 2,
        ..FrontConfig::default()
    };
    let front = Front::of(&world, config, &zone);
    let (mut client, ada, bob) = (front.client().await, Player::new(42), Player::new(43));
    ada.join(&mut client).await.unwrap();
    bob.join(&mut client).await.unwrap();
    let playing = Playing::begin(&mut client, &bob).await.unwrap();
    until("the quiet one is taken out", || !zone.has(ada.id)).await;
    let asked = zone.asked(ada.id);
    assert!(
        asked.contains(&Asked::Stay) && asked.last() == Some(&Asked::Leave),
        "{asked:?}"
    );
    let stays = |player: &Player| {
        zone.asked(player.id)
            .iter()
            .filter(|asked| **asked == Asked::Stay)
            .count()
    };
    let before = stays(&bob);
    until("the other one is spoken for", || stays(&bob) >= before + 3).await;
    assert!(zone.has(bob.id));
    drop(playing);
    until("it is quiet as well", || !zone.has(bob.id)).await;
}
