//! A network in memory and in virtual time: the same packets, no socket, no clock.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::BytesMut;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::conditioner::InFlight;
use crate::{DATAGRAM_BYTES_MAX, LinkConditions, LinkCounters, Packet, PacketIo};

struct Inner {
    inboxes: HashMap<SocketAddr, InFlight>,
    conditions: LinkConditions,
    random: SmallRng,
}

/// A network that every [`MemoryIo`] opened on it shares. The same seed loses and delays the same packets.
#[derive(Clone)]
pub struct MemoryNetwork {
    inner: Arc<Mutex<Inner>>,
}

impl MemoryNetwork {
    /// A network whose every packet meets `conditions`.
    pub fn new(conditions: LinkConditions, seed: u64) -> Self {
        let inner = Inner {
            inboxes: HashMap::new(),
            conditions,
            random: SmallRng::seed_from_u64(seed),
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the conditions for packets from now on.
    pub fn set_conditions(&self, conditions: LinkConditions) {
        self.lock().conditions = conditions;
    }

    /// Whether a packet is there for `address` at `now`.
    pub fn has_due(&self, address: SocketAddr, now: Instant) -> bool {
        self.lock()
            .inboxes
            .get(&address)
            .and_then(InFlight::next_due)
            .is_some_and(|due| due <= now)
    }

    /// An endpoint at `address`; a second one there takes its packets over.
    pub fn open(&self, address: SocketAddr) -> MemoryIo {
        self.lock().inboxes.insert(address, InFlight::default());
        MemoryIo {
            network: self.clone(),
            address,
            counters: LinkCounters::default(),
        }
    }
}

/// One endpoint of a [`MemoryNetwork`].
pub struct MemoryIo {
    network: MemoryNetwork,
    address: SocketAddr,
    counters: LinkCounters,
}

impl PacketIo for MemoryIo {
    fn local_addr(&self) -> SocketAddr {
        self.address
    }

    fn try_receive(&mut self, now: Instant) -> Option<Packet> {
        let (peer, payload, arrived) = self.network.lock().inboxes.get_mut(&self.address)?.pop(now)?;
        self.counters.received(payload.len());
        Some(Packet { peer, payload, arrived })
    }

    fn send(&mut self, peer: SocketAddr, payload: &[u8], now: Instant) {
        if payload.len() > DATAGRAM_BYTES_MAX {
            self.counters.dropped("oversized");
            return;
        }
        self.counters.sent(payload.len());
        let mut network = self.network.lock();
        let Inner {
            inboxes,
            conditions,
            random,
        } = &mut *network;
        if let Some(due) = conditions.due(now, random)
            && let Some(inbox) = inboxes.get_mut(&peer)
        {
            inbox.push(due, self.address, BytesMut::from(payload));
        }
    }

    fn counters(&self) -> &LinkCounters {
        &self.counters
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn packets_are_late_and_lost_as_told_and_the_same_for_the_same_seed() {
        let conditions = LinkConditions {
            delay: Duration::from_millis(50),
            jitter: Duration::from_millis(10),
            loss: 0.1,
        };
        let run = |seed| {
            let network = MemoryNetwork::new(conditions, seed);
            let (mut a, mut b) = (network.open(address(1)), network.open(address(2)));
            let start = Instant::now();
            (0..1_000u16).for_each(|n| a.send(address(2), &n.to_le_bytes(), start));
            assert_eq!(b.try_receive(start + Duration::from_millis(39)), None);
            let received: Vec<_> = std::iter::from_fn(|| b.try_receive(start + Duration::from_millis(61)))
                .map(|packet| (packet.payload, packet.arrived - start))
                .collect();
            assert!(received.iter().all(|(_, late)| (40..=60).contains(&late.as_millis())));
            received
        };
        let received = run(1);
        assert!((850..950).contains(&received.len()), "{}", received.len());
        assert_eq!(received, run(1));
        assert_ne!(received, run(2));
    }
}
