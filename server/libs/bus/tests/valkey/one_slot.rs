//! A store in cluster mode: what one world has is in one slot.

use std::time::Duration;

use meridian_bus::valkey::ValkeyOptions;
use meridian_events::Positions;
use meridian_handoff::script::{Command, Death, Done};
use meridian_ids::{PlayerId, Tick, WorldEntityId};

use crate::server::{self, Server};
use crate::zone::{EAST, WEST, World, Zone, until};

/// A cluster of one node, which has all slots.
fn cluster() -> Server {
    let server = Server::start(&["--save", "", "--cluster-enabled", "yes"]);
    let mut raw = server.raw();
    let mut take = redis::cmd("CLUSTER");
    take.arg("ADDSLOTSRANGE").arg(0).arg(16_383).exec(&mut raw).unwrap();
    until("the cluster is there", || {
        let information: String = redis::cmd("CLUSTER").arg("INFO").query(&mut raw).unwrap();
        information.contains("cluster_state:ok")
    });
    server
}

#[test]
fn in_cluster_mode_every_command_finds_all_it_touches_in_one_slot() {
    let server = cluster();
    let options = ValkeyOptions {
        settling: Duration::ZERO,
        ..ValkeyOptions::new(server.url(), server::world_name())
    };
    let world = World::connect(options).unwrap();
    let (mut west, mut east) = (Zone::claim(&world.world, WEST), Zone::claim(&world.world, EAST));
    let mut events = world.world.events("chat");
    let mut positions = world.world.positions(EAST);
    assert_eq!(west.tell(1), west.spawned());
    let (by, records) = (west.instance, vec![west.of_player(1)]);
    let died = vec![Death {
        entity: WorldEntityId(1),
        player: PlayerId(1),
        tick: Tick(101),
    }];
    assert_eq!(
        west.ask(Command::Checkpoint { by, records, died }),
        Some(Ok(Done::Checkpointed))
    );
    let moved = west.transfer(1, EAST, west.of_player(1));
    assert_eq!(west.ask(Command::Transfer(moved.clone())), Some(Ok(Done::Transferred)));
    let (id, entities) = (moved.id, moved.entities());
    assert_eq!(west.ask(Command::Settle { id, entities }), Some(Ok(Done::Transferred)));
    let arrived = east.await_transfer();
    let owned = moved.entities();
    assert_eq!(east.accept(&arrived), Some(Ok(Done::Accepted { owned })));
    until("the zone is followed", || east.bus.is_followed());
    east.bus.publish_positions(Positions {
        zone: EAST,
        lease: east.instance.lease,
        tick: Tick(1),
        is_whole: true,
        traced: Vec::new(),
        entities: Vec::new(),
    });
    until("positions come", || positions.try_next().is_some());
    let (by, entities, after) = (east.instance, moved.entities(), Tick(200));
    assert_eq!(
        east.ask(Command::Retire { by, entities, after }),
        Some(Ok(Done::Retired))
    );
    let mut heard = 0;
    until("who came, died, changed zones and left is told", || {
        heard += usize::from(events.try_next().is_some());
        heard == 4
    });

    let mut raw = server.raw();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut raw).unwrap();
    let mut slot = |key: &str| -> u64 { redis::cmd("CLUSTER").arg("KEYSLOT").arg(key).query(&mut raw).unwrap() };
    let first = slot(&keys[0]);
    assert!(keys.len() > 8, "{keys:?}");
    assert!(keys.iter().all(|key| slot(key) == first), "{keys:?}");
}
