//! Zones that are away, seen by clients: what they have stands still and is marked, and nothing is taken away.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use meridian_bus::{Bus, Heard};
use meridian_events::Positions;
use meridian_fabric::{FabricError, GatewayEnd, GatewayMessage, ZoneMessage};
use meridian_game::WorldDefinition;
use meridian_gateway::{Gateway, GatewayConfig, InterestConfig, ZoneLink};
use meridian_handoff::script::{Command, Ticket};
use meridian_harness::{TestOptions, TestWorld, demo_game};
use meridian_ids::{Tick, TickClock, ZoneId};
use meridian_link::{LinkConditions, MemoryNetwork};
use meridian_zone::PLAYER_GRACE;

use crate::support::{TWO, join_at, own_entity, players, seen, two_gateways, walk_to_x};

#[test]
fn what_a_zone_that_is_away_has_stands_still_and_goes_on_when_it_is_back() {
    let mut world = TestWorld::new(two_gateways());
    join_at(&mut world, &[0, 0, 1]);
    walk_to_x(&mut world, 1, 6.0);
    let (west, east) = (players(&mut world)[0].2, players(&mut world)[1].2);
    let own = own_entity(&mut world, 0);
    world.stalled.insert(0);
    world.run(Duration::from_millis(400));
    assert_eq!(seen(&mut world, 1, 100), Some((west, false)), "a hitch is not told");
    world.run(Duration::from_millis(400));
    for client in [0, 1, 2] {
        assert_eq!(seen(&mut world, client, 100), Some((west, true)), "seen by {client}");
        assert_eq!(seen(&mut world, client, 101), Some((east, false)), "seen by {client}");
    }
    // Who comes now sees it as it is.
    let late = world.join_at(1, "late");
    world.run(Duration::from_secs(20));
    assert_eq!(seen(&mut world, 1, 100), Some((west, true)));
    assert_eq!(own_entity(&mut world, 0), own, "it never leaves");
    world.stalled.clear();
    world.run(Duration::from_secs(1));
    for client in [0, 1, 2] {
        assert_eq!(seen(&mut world, client, 100), Some((west, false)), "seen by {client}");
    }
    assert!(world.clients[late].own_pose().is_some());
    assert!(world.all_playing());
    assert_eq!(own_entity(&mut world, 0), own);
}

#[test]
fn who_walks_out_of_a_zone_into_another_is_not_still_any_more() {
    let mut world = TestWorld::new(two_gateways());
    join_at(&mut world, &[0, 1]);
    world.walk(0, 1.0, 0.0, false);
    // It is on its way when both zones stop; the one that it comes from does not come back.
    world.run_until(Duration::from_secs(5), "it is at the border", |world| {
        world.clients[0].own_pose().is_some_and(|pose| pose.position.x > -0.3)
    });
    world.stalled.insert(1);
    world.run(Duration::from_millis(300));
    world.stalled.insert(0);
    world.run(Duration::from_millis(800));
    assert_eq!(seen(&mut world, 1, 100).map(|(_, is_frozen)| is_frozen), Some(true));
    world.stalled.remove(&1);
    world.run(Duration::from_millis(500));
    assert_eq!(seen(&mut world, 1, 100).map(|(_, is_frozen)| is_frozen), Some(false));
    assert_eq!(seen(&mut world, 1, 101).map(|(_, is_frozen)| is_frozen), Some(true));
}

/// A durable side whose zone dies right after it wrote down that an entity left.
struct DiesAfterRetiring {
    inner: Box<dyn Bus>,
    once: Arc<AtomicBool>,
}

impl Bus for DiesAfterRetiring {
    fn submit(&mut self, ticket: Ticket, command: Command) {
        let retires = matches!(command, Command::Retire { .. });
        self.inner.submit(ticket, command);
        assert!(
            !(retires && self.once.swap(false, Ordering::Relaxed)),
            "dies in mid-tick"
        );
    }

    fn try_receive(&mut self) -> Option<Heard> {
        self.inner.try_receive()
    }

    fn is_followed(&self) -> bool {
        self.inner.is_followed()
    }

    fn publish_positions(&mut self, positions: Positions) {
        self.inner.publish_positions(positions);
    }
}

#[test]
fn what_the_next_instance_of_a_zone_does_not_know_waits_and_is_dropped() {
    let once = Arc::new(AtomicBool::new(true));
    let armed = once.clone();
    let mut world = TestWorld::new(TestOptions {
        reconnects: false,
        bus: Arc::new(move |_, inner| {
            let once = armed.clone();
            Box::new(DiesAfterRetiring { inner, once })
        }),
        ..two_gateways()
    });
    join_at(&mut world, &[0, 1]);
    // Nobody is left who would repeat that the player left: its gateway is gone, and its zone dies before it has told.
    world.kill_gateway(0);
    world.run_until(PLAYER_GRACE + Duration::from_secs(5), "the zone died", |_| {
        !once.load(Ordering::Relaxed)
    });
    world.run(Duration::from_secs(1));
    assert_eq!(players(&mut world).len(), 1);
    assert_eq!(seen(&mut world, 1, 100).map(|(_, is_frozen)| is_frozen), Some(true));
    assert_eq!(seen(&mut world, 1, 101).map(|(_, is_frozen)| is_frozen), Some(false));
    world.run(Duration::from_secs(8));
    assert!(seen(&mut world, 1, 100).is_some());
    world.run(Duration::from_secs(2));
    assert_eq!(seen(&mut world, 1, 100), None);
    assert!(seen(&mut world, 1, 101).is_some());
}

/// A zone's end that says what a test lets it say, and keeps what it is told.
#[derive(Clone, Default)]
struct Scripted {
    says: Arc<Mutex<Vec<ZoneMessage>>>,
    told: Arc<Mutex<Vec<GatewayMessage>>>,
}

impl GatewayEnd for Scripted {
    fn send(&self, message: GatewayMessage) -> Result<(), FabricError> {
        self.told.lock().unwrap().push(message);
        Ok(())
    }

    fn try_receive(&self) -> Option<ZoneMessage> {
        self.says.lock().unwrap().pop()
    }

    fn is_connected(&self) -> bool {
        true
    }
}

#[test]
fn a_gateway_that_lost_changes_asks_for_everything_and_so_does_one_that_gets_another_zone() {
    let world = Arc::new(WorldDefinition::parse(TWO, "two").unwrap());
    let config = GatewayConfig {
        clock: TickClock::new(Instant::now(), Tick(1_000), world.tick_rate_hz),
        world,
        game: demo_game(),
        private_key: [7; 32],
        public_addresses: Vec::new(),
        clients_max: 10,
        interest: InterestConfig::default(),
        id: 1,
    };
    let network = MemoryNetwork::new(LinkConditions::default(), 1);
    let io = Box::new(network.open("10.0.0.1:7700".parse().unwrap()));
    let ends = [Scripted::default(), Scripted::default()];
    let link = |zone: u16| ZoneLink {
        zone: ZoneId(zone),
        end: Box::new(ends[usize::from(zone)].clone()),
    };
    let told = |zone: usize| std::mem::take(&mut *ends[zone].told.lock().unwrap());
    let mut gateway = Gateway::new(config, Tick(999), io, vec![link(0)]);
    assert_eq!(told(0), [GatewayMessage::Resync], "it is new");
    assert_eq!(gateway.take_messages(), None);
    assert_eq!(told(0), []);
    ends[0].says.lock().unwrap().push(ZoneMessage::Gap);
    gateway.take_messages();
    assert_eq!(told(0), [GatewayMessage::Resync]);
    gateway.add_zone(link(1));
    assert_eq!((told(0), told(1)), (vec![], vec![GatewayMessage::Resync]));
    ends[1].says.lock().unwrap().push(ZoneMessage::Gap);
    gateway.take_messages();
    assert_eq!((told(0), told(1)), (vec![], vec![GatewayMessage::Resync]));
}
