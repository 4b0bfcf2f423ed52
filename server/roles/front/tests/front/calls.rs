//! The calls that have one answer, and what they are refused with.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use meridian_fabric::desk::Request;
use meridian_front::FrontConfig;
use meridian_rpc::v1::{JoinRequest, ListZonesRequest, MoveRequest, WatchPositionsRequest};
use meridian_rpc::{ErrorWord, HOPS, TRACEPARENT};

use crate::streams::Playing;
use crate::support::{Front, Player, World, east, word};
use crate::zone::{Mood, Owners, Zone};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn world_of_one() -> (World, Zone) {
    (World::new(1), Zone::start(0, &Arc::<Owners>::default()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_player_joins_moves_and_leaves() {
    let (world, zone) = world_of_one();
    let front = Front::of(&world, FrontConfig::default(), &zone);
    let (mut client, ada) = (front.client().await, Player::new(42));

    let joined = client.join(ada.asks(JoinRequest {})).await.unwrap().into_inner();
    assert_eq!((joined.player_id, joined.name.as_str()), (42, "Ada"));
    assert_eq!((joined.tick_rate_hz, joined.walk_speed_mps), (60, 4.5));
    let place = joined.position.unwrap();
    assert_eq!((place.entity_id, place.zone_id, place.epoch), (1_000_042, 0, 1));
    assert_eq!(ada.join(&mut client).await.unwrap(), zone.id(), "once more finds it");

    let mut request = ada.asks(MoveRequest { jump: true, ..east(60) });
    request.metadata_mut().insert(TRACEPARENT, TRACE.parse().unwrap());
    let moved = client.r#move(request).await.unwrap().into_inner();
    let place = moved.position.unwrap();
    assert_eq!(moved.last_tick, place.tick + 59);
    assert!(place.position.unwrap().x > 0.0 && moved.timing.is_some());
    let walked = zone.asked(ada.id).into_iter().find_map(|asked| match asked {
        Request::Walk {
            direction,
            jump,
            ticks,
            traceparent,
        } => Some((direction, jump, ticks, traceparent)),
        _ => None,
    });
    let (direction, jump, ticks, traceparent) = walked.unwrap();
    assert_eq!((direction, jump, ticks), ([1.0, 0.0], true, 60));
    assert_eq!(
        traceparent.unwrap().split('-').nth(1),
        TRACE.split('-').nth(1),
        "the zone goes on with the caller's trace"
    );

    ada.leave(&mut client).await.unwrap();
    assert!(!zone.has(ada.id));
    assert_eq!(word(ada.walk(&mut client).await), ErrorWord::NotJoined);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_reason_to_refuse_a_call_has_its_word() {
    let (world, zone) = world_of_one();
    let front = Front::of(&world, FrontConfig::default(), &zone);
    let (mut client, ada, bob) = (front.client().await, Player::new(42), Player::new(43));

    assert_eq!(word(ada.walk(&mut client).await), ErrorWord::NotJoined);
    assert_eq!(word(ada.leave(&mut client).await), ErrorWord::NotJoined);
    zone.be(Mood::Full);
    assert_eq!(word(ada.join(&mut client).await), ErrorWord::ZoneFull);
    zone.be(Mood::Serves);
    ada.join(&mut client).await.unwrap();

    for (dx, dz, ticks) in [
        (f32::NAN, 0.0, 1),
        (0.0, f32::NEG_INFINITY, 1),
        (1e30, 0.0, 1),
        (0.8, 0.8, 1),
        (0.0, 0.0, 0),
        (0.0, 0.0, 61),
        (0.0, 0.0, u32::MAX),
    ] {
        let jump = false;
        let refused = client.r#move(ada.asks(MoveRequest { dx, dz, ticks, jump })).await;
        assert_eq!(word(refused), ErrorWord::Argument, "{dx} {dz} {ticks}");
    }
    let mut request = ada.asks(east(1));
    request.metadata_mut().insert(HOPS, "many".parse().unwrap());
    assert_eq!(word(client.r#move(request).await), ErrorWord::Argument);
    assert_eq!(
        zone.asked(ada.id)
            .iter()
            .filter(|asked| matches!(asked, Request::Walk { .. }))
            .count(),
        1,
        "only the move before joining came so far"
    );

    zone.be(Mood::Away);
    assert_eq!(word(ada.walk(&mut client).await), ErrorWord::ZoneAway);
    assert_eq!(word(bob.join(&mut client).await), ErrorWord::ZoneAway);
    zone.be(Mood::Serves);
    ada.walk(&mut client).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_shows_no_good_token_is_refused_by_each_call_that_asks_for_one() {
    let (world, zone) = world_of_one();
    let front = Front::of(&world, FrontConfig::default(), &zone);
    let (mut client, ada) = (front.client().await, Player::new(42));
    ada.join(&mut client).await.unwrap();
    let asked = zone.asked(ada.id).len();
    for (what, stranger) in Player::strangers(42) {
        let watch = stranger.asks(WatchPositionsRequest::default());
        let refused = [
            ("Join", word(stranger.join(&mut client).await)),
            ("Leave", word(stranger.leave(&mut client).await)),
            ("Move", word(stranger.walk(&mut client).await)),
            ("Play", word(Playing::begin(&mut client, &stranger).await.map(drop))),
            ("WatchPositions", word(client.watch_positions(watch).await.map(drop))),
        ];
        for (method, word) in refused {
            assert_eq!(word, ErrorWord::Token, "{method}, token: {what}");
        }
    }
    let asked = zone.asked(ada.id).split_off(asked);
    let is_care = |asked: &Request| matches!(asked, Request::Stay);
    assert!(asked.iter().all(is_care), "nothing was done: {asked:?}");
    assert!(zone.has(ada.id));
    client.list_zones(ListZonesRequest {}).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_calls_too_often_is_told_so_and_others_are_not() {
    let (world, zone) = world_of_one();
    let config = FrontConfig {
        calls_per_second_per_player: NonZeroU32::new(1).unwrap(),
        ..FrontConfig::default()
    };
    let front = Front::of(&world, config, &zone);
    let (mut client, ada) = (front.client().await, Player::new(42));
    let mut refused = None;
    for _ in 0..100 {
        if let Err(status) = ada.join(&mut client).await {
            refused = Some(status);
            break;
        }
    }
    assert_eq!(word(Err::<(), _>(refused.unwrap())), ErrorWord::TooMany);
    Player::new(43).join(&mut client).await.unwrap();
    let mut listed = Vec::new();
    while listed.len() < 100 && listed.last().is_none_or(Result::is_ok) {
        listed.push(client.list_zones(ListZonesRequest {}).await);
    }
    assert_eq!(word(listed.pop().unwrap()), ErrorWord::TooMany);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zone_that_does_not_answer_costs_its_caller_no_more_than_its_deadline() {
    let (world, zone) = world_of_one();
    let front = Front::of(&world, FrontConfig::default(), &zone);
    let (mut client, ada) = (front.client().await, Player::new(42));
    ada.join(&mut client).await.unwrap();
    zone.be(Mood::Silent);
    let mut request = ada.asks(east(1));
    request.set_timeout(Duration::from_millis(300));
    assert_eq!(word(client.r#move(request).await), ErrorWord::Deadline);
    zone.be(Mood::Serves);
    ada.walk(&mut client).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asks_is_told_which_zones_there_are() {
    let world = World::new(3);
    let zone = Zone::start(0, &Arc::<Owners>::default());
    let config = FrontConfig {
        public_address: Some("192.0.2.1:7650".parse().unwrap()),
        ..FrontConfig::default()
    };
    let front = Front::of(&world, config, &zone);
    let there = "192.0.2.2:7650".parse().unwrap();
    let _listed = [
        world.announce(0, 1, "older", Some(there)),
        world.announce(1, 2, "newer", Some(there)),
        world.announce(1, 1, "older", None),
    ];
    let mut client = front.client().await;
    let told = client.list_zones(ListZonesRequest {}).await.unwrap().into_inner();
    assert_eq!((told.world.as_str(), told.tick_rate_hz), ("test", 60));
    let ids: Vec<u32> = told.zones.iter().map(|zone| zone.zone_id).collect();
    assert_eq!(ids, [0, 1, 2]);
    let area = told.zones[1].area.unwrap();
    assert_eq!(
        (area.min_x, area.max_x, told.zones[1].name.as_str()),
        (100.0, 200.0, "zone 1")
    );
    let servers: Vec<_> = told.zones.iter().map(|zone| zone.server.as_ref()).collect();
    let told =
        |zone: usize| servers[zone].map(|server| (server.instance.as_str(), server.address.as_str(), server.is_this));
    assert_eq!(told(0), Some(("one", "192.0.2.1:7650", true)));
    assert_eq!(told(1), Some(("newer", "192.0.2.2:7650", false)));
    assert_eq!(told(2), None);
    assert_eq!(servers[0].map(|server| server.tick_p50_us), Some(7));
    assert_eq!(servers[1].map(|server| server.entities), Some(5));
}
