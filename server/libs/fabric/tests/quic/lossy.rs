//! A network that loses packets: what is lost is told, and made good.

use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use meridian_fabric::{
    EntitySnapshot, FabricEndpoint, GatewayEnd, GatewayMessage, LinkSource, Snapshot, ZoneEnd, ZoneMessage,
};
use meridian_ids::{EntityEpoch, WorldEntityId};

use crate::support::*;

/// Forwards packets between who sends to it and a server, and loses some. The losses are the same in every run, for the same packets.
pub struct Relay {
    address: SocketAddr,
    lost_per_mille: Arc<AtomicU64>,
    lost: Arc<AtomicU64>,
    stops: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    pub fn new(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind(LOOPBACK).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let address = socket.local_addr().unwrap();
        let lost_per_mille = Arc::new(AtomicU64::new(0));
        let lost = Arc::new(AtomicU64::new(0));
        let stops = Arc::new(AtomicBool::new(false));
        let (share, count, stop) = (Arc::clone(&lost_per_mille), Arc::clone(&lost), Arc::clone(&stops));
        let thread = std::thread::spawn(move || forward(&socket, server, (&share, &count), &stop));
        Self {
            address,
            lost_per_mille,
            lost,
            stops,
            thread: Some(thread),
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn lose_per_mille(&self, lost: u64) {
        self.lost_per_mille.store(lost, Ordering::SeqCst);
    }

    /// Packets that were lost.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::SeqCst)
    }
}

fn forward(socket: &UdpSocket, server: SocketAddr, (share, lost): (&AtomicU64, &AtomicU64), stops: &AtomicBool) {
    let mut packet = [0; 2_048];
    let mut client = None;
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    while !stops.load(Ordering::SeqCst) {
        let (length, from) = match socket.recv_from(&mut packet) {
            Ok(received) => received,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            // Loopback tells of a port that was closed meanwhile.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => continue,
            Err(error) => panic!("{error}"),
        };
        if from != server {
            client = Some(from);
        }
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let to = if from == server { client } else { Some(server) };
        if random % 1_000 < share.load(Ordering::SeqCst) {
            lost.fetch_add(1, Ordering::SeqCst);
        } else if let Some(to) = to {
            let _ = socket.send_to(&packet[..length], to);
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stops.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Where the zone's links come from, for it serves no longer when that is dropped; the relay; both ends.
type Linked = (Arc<dyn LinkSource>, Relay, Box<dyn GatewayEnd>, Arc<dyn ZoneEnd>);

/// A gateway's link to a zone, over a relay that loses nothing yet.
fn linked_over_a_relay(zones: &FabricEndpoint, gateways: &FabricEndpoint) -> Linked {
    let source = zones.serve(ZONE);
    let relay = Relay::new(zones.local_addr());
    let gateway = dial(gateways, "gateway-1", relay.address());
    let (_, end) = accept_gateway(&source);
    until("the link", || gateway.is_connected());
    (source, relay, gateway, end)
}

const ENTITIES: u64 = 200;
const TICKS: u64 = 3_000;
/// What an entity takes: as many as all of them are more than a packet holds.
const ENTITY_BYTES: u32 = 16;

/// The entities of a zone, each with the tick of its last change.
struct ChangingZone {
    changed: HashMap<u64, u64>,
    new: HashSet<u64>,
    whole_next: bool,
}

impl ChangingZone {
    fn step(&mut self, tick: u64) {
        self.new.clear();
        for entity in [tick % ENTITIES, tick * 7 % ENTITIES] {
            if self.changed.insert(entity, tick).is_none() {
                self.new.insert(entity);
            }
        }
    }

    fn snapshot(&self, tick: u64) -> Snapshot {
        let mut snapshot = snapshot(tick, 0);
        snapshot.whole = self.whole_next;
        snapshot.entities.clear();
        for (entity, changed) in &self.changed {
            if self.whole_next || *changed == tick {
                let start = snapshot.bytes.len() as u32;
                snapshot.bytes.extend_from_slice(&changed.to_le_bytes());
                snapshot.bytes.resize((start + ENTITY_BYTES) as usize, 0);
                snapshot.entities.push(EntitySnapshot {
                    entity: WorldEntityId(*entity),
                    epoch: EntityEpoch(1),
                    whole: self.whole_next || self.new.contains(entity),
                    range: start..start + ENTITY_BYTES,
                });
            }
        }
        snapshot
    }
}

/// What a gateway does with a zone's messages.
#[derive(Default)]
struct Mirror {
    changed: HashMap<u64, u64>,
    tick: u64,
    gaps: u64,
    leaves: u64,
}

impl Mirror {
    fn take(&mut self, message: ZoneMessage) -> Option<GatewayMessage> {
        match message {
            ZoneMessage::Snapshot(snapshot) => {
                assert!(snapshot.tick.0 > self.tick, "{} after {}", snapshot.tick, self.tick);
                self.tick = snapshot.tick.0;
                for entity in &snapshot.entities {
                    let changed = snapshot.bytes_of(entity).first_chunk().copied().map(u64::from_le_bytes);
                    self.changed.insert(entity.entity.0, changed.unwrap());
                }
                None
            }
            ZoneMessage::Gap => {
                self.gaps += 1;
                Some(GatewayMessage::Resync)
            }
            ZoneMessage::Left { entity, .. } => {
                // It names the tick that it was sent after.
                assert!(self.tick >= entity.0 || self.gaps > 0);
                assert_eq!(entity.0, self.leaves * 10 + 10);
                self.leaves += 1;
                None
            }
            ZoneMessage::JoinRefused { .. } => panic!("nobody is refused"),
        }
    }
}

#[test]
fn on_a_network_that_loses_a_packet_in_twenty_every_gap_is_told_and_the_mirror_is_right_in_the_end() {
    let world = World::new();
    let (zones, gateways) = (world.zones("zones"), world.gateways("gateways"));
    let (_source, relay, gateway, end) = linked_over_a_relay(&zones, &gateways);
    relay.lose_per_mille(50);

    let mut zone = ChangingZone {
        changed: HashMap::new(),
        new: HashSet::new(),
        whole_next: true,
    };
    let mut mirror = Mirror::default();
    let exchange = |zone: &mut ChangingZone, mirror: &mut Mirror| {
        while let Some(message) = gateway.try_receive() {
            if let Some(answer) = mirror.take(message) {
                gateway.send(answer).unwrap();
            }
        }
        while let Some(message) = end.try_receive() {
            assert_eq!(message, GatewayMessage::Resync);
            zone.whole_next = true;
        }
    };
    for tick in 1..=TICKS {
        zone.step(tick);
        let snapshot = Arc::new(zone.snapshot(tick));
        zone.whole_next = end.send(ZoneMessage::Snapshot(snapshot)).is_err();
        if tick % 10 == 0 {
            end.send(left(tick)).unwrap();
        }
        exchange(&mut zone, &mut mirror);
        // As ticks go, only faster.
        std::thread::sleep(Duration::from_millis(1));
    }
    // The zone rests, and still says so in each tick.
    let mut tick = TICKS;
    until("the mirror to be right", || {
        tick += 1;
        let snapshot = Arc::new(zone.snapshot(tick));
        zone.whole_next = end.send(ZoneMessage::Snapshot(snapshot)).is_err();
        exchange(&mut zone, &mut mirror);
        mirror.changed == zone.changed && mirror.leaves == TICKS / 10
    });
    assert!(mirror.gaps > 0, "3,000 snapshots and none was lost");
    assert!(!end.is_closed() && gateway.is_connected());
}

#[test]
fn an_entity_that_is_new_arrives_whatever_is_lost_around_it() {
    let world = World::new();
    let (zones, gateways) = (world.zones("zones"), world.gateways("gateways"));
    let (_source, relay, gateway, end) = linked_over_a_relay(&zones, &gateways);
    relay.lose_per_mille(100);

    let (mut tick, mut gaps, mut came) = (0, 0, Vec::new());
    let news: Vec<u64> = (1..=100).map(|step| step * 10).collect();
    // Nobody asks for what was lost.
    until("every new entity", || {
        tick += 1;
        let mut snapshot = snapshot(tick, 10);
        if let Some(entity) = news.iter().find(|at| **at == tick) {
            snapshot.entities[0].entity = WorldEntityId(*entity);
            snapshot.entities[0].whole = true;
        }
        send_snapshot(&end, &Arc::new(snapshot));
        while let Some(message) = gateway.try_receive() {
            match message {
                ZoneMessage::Snapshot(snapshot) if snapshot.entities[0].whole => {
                    assert_eq!(snapshot.entities[0].entity.0, snapshot.tick.0);
                    came.push(snapshot.tick.0);
                }
                ZoneMessage::Snapshot(_) => {}
                ZoneMessage::Gap => gaps += 1,
                other => panic!("{other:?}"),
            }
        }
        came.last() >= news.last()
    });
    assert_eq!(came, news);
    assert!(gaps > 0, "nothing was lost");
}

#[test]
fn a_loss_that_nothing_follows_is_told_too() {
    let world = World::new();
    let (zones, gateways) = (world.zones("zones"), world.gateways("gateways"));
    let (_source, relay, gateway, end) = linked_over_a_relay(&zones, &gateways);
    // A snapshot is lost, unless it was another packet; the leave after it is repeated until it comes.
    let attempts = (0..50).find(|attempt| {
        let lost = relay.lost();
        relay.lose_per_mille(1_000);
        send_snapshot(&end, &Arc::new(snapshot(attempt + 1, 10)));
        until("a packet to be lost", || relay.lost() > lost);
        relay.lose_per_mille(0);
        end.send(left(1)).unwrap();
        let first = from_zone(gateway.as_ref());
        if matches!(first, ZoneMessage::Gap) {
            return true;
        }
        // It was another packet.
        assert!(matches!(first, ZoneMessage::Snapshot(_)), "{first:?}");
        assert!(matches!(from_zone(gateway.as_ref()), ZoneMessage::Left { .. }));
        false
    });
    assert!(attempts.is_some());
    assert!(matches!(from_zone(gateway.as_ref()), ZoneMessage::Left { .. }));
}
