//! `WatchPositions`, over the streams of a bus in this process.

use std::sync::Arc;

use meridian_bus::Bus;
use meridian_events::{EntityPosition, Positions};
use meridian_front::FrontConfig;
use meridian_ids::{EntityEpoch, LeaseEpoch, Tick, WorldEntityId, ZoneId};
use meridian_rpc::ErrorWord;
use meridian_rpc::v1::watch_positions_request::Filter;
use meridian_rpc::v1::{Area, Entities, WatchPositionsRequest, WatchPositionsResponse};
use tonic::transport::Endpoint;
use tonic::{Status, Streaming};

use crate::support::{Client, Front, PATIENCE, Player, World, until, word};
use crate::zone::{Owners, Zone};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn positions(zone: u16, lease: u64, tick: u64, entities: impl IntoIterator<Item = (u64, f32)>) -> Positions {
    let entities = entities.into_iter().map(|(entity, x)| EntityPosition {
        entity: WorldEntityId(entity),
        epoch: EntityEpoch(1),
        position: [x, 0.9, 5.0],
    });
    Positions {
        zone: ZoneId(zone),
        lease: LeaseEpoch(lease),
        tick: Tick(tick),
        is_whole: true,
        traced: Vec::new(),
        entities: entities.collect(),
    }
}

/// A world of two zones of which the front has none: what it tells it has read.
fn served(config: FrontConfig) -> (World, [Box<dyn Bus>; 2], Zone, Front) {
    let world = World::new(2);
    let zone = Zone::start(0, &Arc::<Owners>::default());
    let zones = [0, 1].map(|zone| world.bus.connect(ZoneId(zone)));
    let front = Front::of(&world, config, &zone);
    (world, zones, zone, front)
}

async fn watch(client: &mut Client, filter: Option<Filter>) -> Streaming<WatchPositionsResponse> {
    let request = Player::new(42).asks(WatchPositionsRequest { filter });
    client.watch_positions(request).await.unwrap().into_inner()
}

async fn next(stream: &mut Streaming<WatchPositionsResponse>) -> Result<WatchPositionsResponse, Status> {
    Ok(stream.message().await?.expect("a watch does not end by itself"))
}

/// Entities and ticks of the next answer.
async fn told(stream: &mut Streaming<WatchPositionsResponse>) -> Vec<(u64, u64)> {
    let response = next(stream).await.unwrap();
    let told = response.positions.iter();
    told.map(|position| (position.entity_id, position.tick)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_are_told_what_they_asked_for_of_all_zones() {
    let (_world, [mut west, mut east], _zone, front) = served(FrontConfig::default());
    let mut client = front.client().await;
    let mut all = watch(&mut client, None).await;
    let area = Area {
        min_x: 100.0,
        min_z: 0.0,
        max_x: 120.0,
        max_z: 10.0,
    };
    let mut some = watch(&mut client, Some(Filter::Area(area))).await;
    let entity_ids = vec![2];
    let mut one = watch(&mut client, Some(Filter::Entities(Entities { entity_ids }))).await;
    until("both zones are followed", || west.is_followed() && east.is_followed()).await;

    west.publish_positions(positions(0, 1, 7, [(1, 50.0), (2, 60.0)]));
    assert_eq!(told(&mut all).await, [(1, 7), (2, 7)]);
    assert_eq!(told(&mut one).await, [(2, 7)]);
    let traced = vec![(WorldEntityId(3), TRACE.to_owned())];
    east.publish_positions(Positions {
        traced,
        ..positions(1, 1, 8, [(3, 110.0), (4, 150.0)])
    });
    assert_eq!(told(&mut some).await, [(3, 8)], "the first that stands in its area");
    let response = next(&mut all).await.unwrap();
    let shown: Vec<_> = response
        .traced
        .iter()
        .map(|traced| (traced.entity_id, traced.traceparent.as_str()))
        .collect();
    assert_eq!((shown, response.missed), (vec![(3, TRACE)], 0));
    assert_eq!(response.positions[0].zone_id, 1);
    east.publish_positions(positions(1, 1, 9, [(2, 110.0)]));
    assert_eq!(told(&mut one).await, [(2, 9)]);

    drop((all, some, one));
    until("nobody follows any more", || !west.is_followed() && !east.is_followed()).await;
    let mut again = watch(&mut client, None).await;
    until("somebody follows again", || west.is_followed()).await;
    west.publish_positions(positions(0, 1, 10, [(1, 50.0)]));
    assert_eq!(told(&mut again).await, [(1, 10)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_was_taken_over_is_not_believed() {
    let (_world, [mut west, _east], _zone, front) = served(FrontConfig::default());
    let mut all = watch(&mut front.client().await, None).await;
    until("the zone is followed", || west.is_followed()).await;
    for (lease, tick) in [(2, 20), (1, 21), (2, 22)] {
        west.publish_positions(positions(0, lease, tick, [(1, 50.0)]));
    }
    assert_eq!(told(&mut all).await, [(1, 20)]);
    assert_eq!(told(&mut all).await, [(1, 22)]);
}

/// More than lies between a server and a client who does not read.
fn crowd() -> impl Iterator<Item = (u64, f32)> {
    (0..2_000).map(|entity| (entity, 50.0))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_keep_up_misses_the_oldest_and_is_told_how_many() {
    const TICKS: u64 = 400;
    let (_world, [mut west, _east], _zone, front) = served(FrontConfig::default());
    let mut client = front.client().await;
    let mut slow = watch(&mut client, None).await;
    let mut quick = watch(&mut front.client().await, None).await;
    until("the zone is followed", || west.is_followed()).await;
    for tick in 1..=TICKS {
        west.publish_positions(positions(0, 1, tick, crowd()));
        // The other one is held up by nothing.
        assert_eq!(told(&mut quick).await[0].1, tick);
    }
    let (mut ticks, mut missed) = (Vec::new(), 0);
    while ticks.last() != Some(&TICKS) {
        let response = next(&mut slow).await.unwrap();
        ticks.push(response.positions[0].tick);
        missed += response.missed;
    }
    assert!(ticks.is_sorted(), "{ticks:?}");
    assert_eq!(ticks.len() as u64 + missed, TICKS);
    // What was sent before, and the 64 that waited.
    assert!((64..200).contains(&ticks.len()), "{}", ticks.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_never_reads_is_let_go() {
    let config = FrontConfig {
        watcher_patience_s: 1,
        watchers_max: 1,
        ..FrontConfig::default()
    };
    let (_world, [mut west, _east], _zone, front) = served(config);
    let mut client = front.client().await;
    let mut slow = watch(&mut client, None).await;
    until("the zone is followed", || west.is_followed()).await;
    let one_more = client
        .watch_positions(Player::new(43).asks(WatchPositionsRequest::default()))
        .await;
    assert_eq!(word(one_more.map(drop)), ErrorWord::TooMany);
    let mut tick = 0;
    until("nothing is followed for it any more", || {
        tick += 1;
        west.publish_positions(positions(0, 1, tick, crowd()));
        !west.is_followed()
    })
    .await;
    let ended = loop {
        match next(&mut slow).await {
            Ok(response) => assert!(response.positions[0].tick <= tick),
            Err(status) => break status,
        }
    };
    assert_eq!(word(Err::<(), _>(ended)), ErrorWord::Slow);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_even_read_that_it_was_let_go_takes_no_seat_and_loses_its_connection() {
    let config = FrontConfig {
        watcher_patience_s: 1,
        watchers_max: 1,
        ..FrontConfig::default()
    };
    let (_world, [mut west, _east], _zone, front) = served(config);
    // Not a byte of an answer fits into its window.
    let endpoint = Endpoint::from_shared(format!("http://{}", front.address)).unwrap();
    let channel = endpoint.initial_stream_window_size(0).connect().await.unwrap();
    let mut stuck = watch(&mut Client::new(channel), None).await;
    until("the zone is followed", || west.is_followed()).await;
    let mut tick = 0;
    until("nothing is followed for it any more", || {
        tick += 1;
        west.publish_positions(positions(0, 1, tick, [(1, 50.0)]));
        !west.is_followed()
    })
    .await;
    // There is room for another one, though the first has taken nothing.
    let mut another = watch(&mut front.client().await, None).await;
    until("the zone is followed again", || west.is_followed()).await;
    west.publish_positions(positions(0, 1, tick + 1, [(1, 50.0)]));
    assert_eq!(told(&mut another).await, [(1, tick + 1)]);
    let cut = tokio::time::timeout(PATIENCE, stuck.message()).await;
    cut.expect("its connection ends").unwrap_err();
}
