//! Two servers, two zones: players cross between them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use meridian_bus::directory::Announcement;
use meridian_fabric::desk::Request as Asked;
use meridian_front::FrontConfig;
use meridian_rpc::v1::JoinRequest;
use meridian_rpc::{ErrorWord, HOPS, owner_address};

use crate::streams::Playing;
use crate::support::{Client, Front, Player, World, east, until, word};
use crate::zone::{Mood, Owners, Zone};

/// West has zone 0, where players begin, and east has zone 1.
struct Two {
    west: Zone,
    east: Zone,
    owners: Arc<Owners>,
    west_front: Front,
    east_front: Front,
    world: World,
    _listed: Vec<Box<dyn Announcement>>,
}

impl Two {
    fn start(config: &FrontConfig) -> Self {
        let (world, owners) = (World::new(2), Arc::<Owners>::default());
        let (west, east) = (Zone::start(0, &owners), Zone::start(1, &owners));
        let west_front = Front::start(world.context("west", config.clone(), &[&west]));
        let east_front = Front::start(world.context("east", config.clone(), &[&east]));
        let listed = vec![
            world.announce(0, 5, "west", Some(west_front.address)),
            world.announce(1, 5, "east", Some(east_front.address)),
        ];
        Self {
            west,
            east,
            owners,
            west_front,
            east_front,
            world,
            _listed: listed,
        }
    }

    async fn clients(&self) -> (Client, Client) {
        (self.west_front.client().await, self.east_front.client().await)
    }
}

/// The zone that a player's next step is in.
async fn zone_of(player: &Player, client: &mut Client) -> u32 {
    player.walk(client).await.unwrap().position.unwrap().zone_id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_player_that_crosses_is_found_through_either_server() {
    let two = Two::start(&FrontConfig::default());
    let ((mut west, mut east), ada) = (two.clients().await, Player::new(42));
    // East has no entrance: it is let in through west.
    assert_eq!(ada.join(&mut east).await.unwrap(), two.west.id());
    assert_eq!(zone_of(&ada, &mut east).await, 0);
    for _ in 0..3 {
        two.west.cross(ada.id, &two.east);
        assert_eq!(zone_of(&ada, &mut west).await, 1);
        assert_eq!(
            ada.join(&mut west).await.unwrap(),
            two.east.id(),
            "a join finds it, and changes nothing"
        );
        assert_eq!(zone_of(&ada, &mut east).await, 1);
        two.east.cross(ada.id, &two.west);
        assert_eq!(zone_of(&ada, &mut east).await, 0);
        assert_eq!(ada.join(&mut east).await.unwrap(), two.west.id());
    }
    let moved = ada.walk(&mut east).await.unwrap();
    assert!(moved.timing.unwrap().route_us > 0);
    ada.leave(&mut east).await.unwrap();
    assert!(!two.west.has(ada.id));
    assert_eq!(word(ada.walk(&mut west).await), ErrorWord::NotJoined);
    assert_eq!(word(ada.walk(&mut east).await), ErrorWord::NotJoined);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_never_heard_of_a_player_asks_the_others() {
    let two = Two::start(&FrontConfig::default());
    let ((mut west, mut east), ada) = (two.clients().await, Player::new(42));
    ada.join(&mut west).await.unwrap();
    assert_eq!(zone_of(&ada, &mut east).await, 0);
    let bob = Player::new(43);
    assert_eq!(word(bob.walk(&mut east).await), ErrorWord::NotJoined);
    assert_eq!(word(bob.leave(&mut west).await), ErrorWord::NotJoined);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_waits_for_a_player_between_two_zones() {
    let two = Two::start(&FrontConfig::default());
    let ((mut west, _), ada) = (two.clients().await, Player::new(42));
    ada.join(&mut west).await.unwrap();
    let traveller = two.west.depart(ada.id, &two.east);
    let moving = tokio::spawn({
        let (ada, mut west) = (ada.clone(), west.clone());
        async move { ada.walk(&mut west).await }
    });
    until("the other zone is asked and does not have it", || {
        !two.east.asked(ada.id).is_empty()
    })
    .await;
    two.east.arrive(traveller);
    assert_eq!(moving.await.unwrap().unwrap().position.unwrap().zone_id, 1);

    // One that arrives nowhere is given up in the end, and is found when it is back.
    let traveller = two.east.depart(ada.id, &two.west);
    assert_eq!(word(ada.walk(&mut west).await), ErrorWord::ZoneAway);
    two.west.arrive(traveller);
    assert_eq!(zone_of(&ada, &mut west).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_passed_on_once_and_says_where_the_owner_is() {
    let two = Two::start(&FrontConfig::default());
    let ((mut west, _), ada) = (two.clients().await, Player::new(42));
    ada.join(&mut west).await.unwrap();
    two.west.cross(ada.id, &two.east);
    let before = two.east.asked(ada.id).len();
    for hops in ["1", "7", "255"] {
        let mut request = ada.asks(east(1));
        request.metadata_mut().insert(HOPS, hops.parse().unwrap());
        let refused = west.r#move(request).await.unwrap_err();
        assert_eq!(owner_address(&refused), Some(two.east_front.address));
        assert_eq!(word(Err::<(), _>(refused)), ErrorWord::OwnerElsewhere);
        let mut request = ada.asks(JoinRequest {});
        request.metadata_mut().insert(HOPS, hops.parse().unwrap());
        assert_eq!(word(west.join(request).await), ErrorWord::OwnerElsewhere);
    }
    assert_eq!(two.east.asked(ada.id).len(), before, "nothing was passed on");
    assert_eq!(zone_of(&ada, &mut west).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_cannot_be_reached_is_told_by_its_address() {
    let (world, owners) = (World::new(2), Arc::<Owners>::default());
    let (west, east_zone) = (Zone::start(0, &owners), Zone::start(1, &owners));
    let front = Front::start(world.context("west", FrontConfig::default(), &[&west]));
    let (mut client, ada) = (front.client().await, Player::new(42));
    ada.join(&mut client).await.unwrap();
    west.cross(ada.id, &east_zone);
    // Nobody listens there any more.
    let nobody: SocketAddr = std::net::TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap();
    let listed = world.announce(1, 5, "east", Some(nobody));
    let refused = ada.walk(&mut client).await.unwrap_err();
    assert_eq!(owner_address(&refused), Some(nobody));
    assert_eq!(word(Err::<(), _>(refused)), ErrorWord::OwnerElsewhere);
    // A zone that nobody has is away.
    drop(listed);
    assert_eq!(word(ada.walk(&mut client).await), ErrorWord::ZoneAway);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zone_that_another_server_took_over_is_asked_there() {
    let two = Two::start(&FrontConfig::default());
    let ((mut west, _), ada) = (two.clients().await, Player::new(42));
    ada.join(&mut west).await.unwrap();
    // West loses its zone, and another server begins one under a higher lease.
    let owners = Arc::<Owners>::default();
    let taken_over = Zone::start(0, &owners);
    let front = Front::start(two.world.context("other", FrontConfig::default(), &[&taken_over]));
    let _listed = two.world.announce(0, 6, "other", Some(front.address));
    ada.join(&mut front.client().await).await.unwrap();
    two.west.be(Mood::Away);
    let before = two.west.asked(ada.id).len();
    assert_eq!(zone_of(&ada, &mut west).await, 0);
    assert!(taken_over.has(ada.id) && two.west.asked(ada.id).len() == before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deadline_of_a_caller_holds_for_the_other_server_as_well() {
    let two = Two::start(&FrontConfig::default());
    let ((mut west, _), ada) = (two.clients().await, Player::new(42));
    ada.join(&mut west).await.unwrap();
    two.west.cross(ada.id, &two.east);
    two.east.be(Mood::Silent);
    let mut request = ada.asks(east(1));
    request.set_timeout(Duration::from_millis(300));
    assert_eq!(word(west.r#move(request).await), ErrorWord::Deadline);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_follows_its_player_from_server_to_server_in_order() {
    let two = Two::start(&FrontConfig::default());
    let ((mut west, _), ada) = (two.clients().await, Player::new(42));
    ada.join(&mut west).await.unwrap();
    let mut playing = Playing::begin(&mut west, &ada).await.unwrap();
    for sequence in 1..=60 {
        if sequence % 10 == 0 {
            let (from, to) = if two.west.has(ada.id) {
                (&two.west, &two.east)
            } else {
                (&two.east, &two.west)
            };
            from.cross(ada.id, to);
        }
        playing.send(sequence, east(sequence as u32)).await;
    }
    for sequence in 1..=60 {
        assert_eq!(playing.answer().await, (sequence, None));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_crosses_without_a_call_is_spoken_for_by_the_next_server_and_taken_out_by_it() {
    let two = Two::start(&FrontConfig {
        idle_s: 4,
        ..FrontConfig::default()
    });
    let ((mut west, _), ada) = (two.clients().await, Player::new(42));
    ada.join(&mut west).await.unwrap();
    two.west.cross(ada.id, &two.east);
    until("the next server takes it out", || !two.east.has(ada.id)).await;
    let asked = two.east.asked(ada.id);
    assert!(
        asked.iter().all(|asked| matches!(asked, Asked::Stay | Asked::Leave)),
        "{asked:?}"
    );
    assert!(
        asked.iter().filter(|asked| **asked == Asked::Stay).count() >= 2,
        "{asked:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moves_of_a_stream_are_passed_on_without_waiting_for_each_other() {
    let two = Two::start(&FrontConfig::default());
    let ((mut west, mut east_client), ada) = (two.clients().await, Player::new(42));
    ada.join(&mut west).await.unwrap();
    let mut playing = Playing::begin(&mut east_client, &ada).await.unwrap();
    playing.send(0, east(1)).await;
    assert_eq!(playing.answer().await, (0, None));
    let walks = || {
        two.west
            .asked(ada.id)
            .iter()
            .filter(|asked| matches!(asked, Asked::Walk { .. }))
            .count()
    };
    let before = walks();
    two.west.be(Mood::Silent);
    for sequence in 1..=8 {
        playing.send(sequence, east(1)).await;
    }
    until("all are there, and none is answered", || walks() == before + 8).await;
}

/// Ticks of the move with a number: neighbours differ.
fn ticks_of(sequence: u64) -> u32 {
    (sequence % 59) as u32 + 1
}

/// Sends the next moves, in a burst, and adds what they are to `sent`.
async fn send_some(playing: &Playing, count: usize, sent: &mut Vec<u32>) {
    for _ in 0..count {
        let sequence = sent.len() as u64;
        sent.push(ticks_of(sequence));
        playing.send(sequence, east(ticks_of(sequence))).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_move_of_a_stream_is_done_once_and_in_order_however_often_its_player_crosses() {
    let two = Two::start(&FrontConfig {
        calls_per_second_per_player: 10_000.try_into().unwrap(),
        ..FrontConfig::default()
    });
    let ((mut west, mut east_client), ada) = (two.clients().await, Player::new(42));
    ada.join(&mut west).await.unwrap();
    for client in [&mut west, &mut east_client] {
        let (mut playing, mut sent) = (Playing::begin(client, &ada).await.unwrap(), Vec::new());
        let before = two.owners.walked(ada.id).len();
        let mut answered = 0;
        for (here, there) in [(&two.west, &two.east), (&two.east, &two.west)].repeat(8) {
            send_some(&playing, 10, &mut sent).await;
            let on_its_way = here.depart(ada.id, there);
            send_some(&playing, 5, &mut sent).await;
            there.arrive(on_its_way);
            send_some(&playing, 5, &mut sent).await;
            // A zone that pauses refuses what it has, and goes on.
            there.be(Mood::Refuses);
            send_some(&playing, 30, &mut sent).await;
            while answered < sent.len() {
                assert_eq!(playing.answer().await, (answered as u64, None));
                answered += 1;
            }
        }
        assert_eq!(two.owners.walked(ada.id)[before..], sent);
    }
}
