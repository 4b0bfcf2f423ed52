//! Loss, delay and jitter for any [`PacketIo`], seeded: Meridian's own, for not every kernel has a network emulator.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::{LinkCounters, Packet, PacketIo};

/// What a link does to each packet, in each direction.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LinkConditions {
    /// Delay of every packet: half of the added round trip.
    pub delay: Duration,
    /// Each packet is late by up to this much more or less, evenly spread; packets may overtake each other.
    pub jitter: Duration,
    /// Share of packets that are lost, 0 to 1.
    pub loss: f64,
}

impl LinkConditions {
    /// When a packet that is sent at `now` comes out, or `None` for a lost one.
    pub(crate) fn due(&self, now: Instant, random: &mut SmallRng) -> Option<Instant> {
        if self.loss > 0.0 && random.random_bool(self.loss.clamp(0.0, 1.0)) {
            return None;
        }
        let jitter = if self.jitter.is_zero() {
            Duration::ZERO
        } else {
            self.jitter.mul_f64(random.random_range(0.0..2.0))
        };
        Some(
            (now + self.delay + jitter)
                .checked_sub(self.jitter)
                .unwrap_or(now)
                .max(now),
        )
    }

    /// Whether packets pass untouched.
    pub fn is_perfect(&self) -> bool {
        *self == Self::default()
    }
}

/// Changes a link's conditions while it is in use, from any thread: what it sends or takes in from then on is treated so.
#[derive(Clone, Debug, Default)]
pub struct LinkConditionsHandle(Arc<Mutex<LinkConditions>>);

impl LinkConditionsHandle {
    /// The conditions now.
    pub fn get(&self) -> LinkConditions {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Other conditions from now on.
    pub fn set(&self, conditions: LinkConditions) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = conditions;
    }
}

struct Delayed {
    due: Instant,
    sequence: u64,
    peer: SocketAddr,
    payload: BytesMut,
}

impl PartialEq for Delayed {
    fn eq(&self, other: &Self) -> bool {
        self.sequence == other.sequence
    }
}
impl Eq for Delayed {}
impl PartialOrd for Delayed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Delayed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.sequence).cmp(&(other.due, other.sequence))
    }
}

/// Packets on their way, in the order in which they come out.
#[derive(Default)]
pub(crate) struct InFlight {
    heap: BinaryHeap<Reverse<Delayed>>,
    sequence: u64,
}

impl InFlight {
    pub(crate) fn push(&mut self, due: Instant, peer: SocketAddr, payload: BytesMut) {
        self.sequence += 1;
        self.heap.push(Reverse(Delayed {
            due,
            sequence: self.sequence,
            peer,
            payload,
        }));
    }

    /// The next packet that is out at `now`, with the time it came out.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<(SocketAddr, BytesMut, Instant)> {
        if self.heap.peek()?.0.due > now {
            return None;
        }
        self.heap
            .pop()
            .map(|Reverse(packet)| (packet.peer, packet.payload, packet.due))
    }

    fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.heap.peek().map(|packet| packet.0.due)
    }
}

/// A [`PacketIo`] behind a bad link: both directions are conditioned.
///
/// Its owner must call [`Self::pump`] when a packet comes out (see [`PacketIo::next_due`]), for there is no thread.
pub struct ConditionedIo<I> {
    inner: I,
    conditions: LinkConditionsHandle,
    random: SmallRng,
    incoming: InFlight,
    outgoing: InFlight,
}

impl<I: PacketIo> ConditionedIo<I> {
    /// Conditions `inner`; the same seed loses the same packets.
    pub fn new(inner: I, conditions: LinkConditions, seed: u64) -> Self {
        let random = SmallRng::seed_from_u64(seed);
        Self {
            inner,
            conditions: LinkConditionsHandle(Arc::new(Mutex::new(conditions))),
            random,
            incoming: InFlight::default(),
            outgoing: InFlight::default(),
        }
    }

    /// Conditions `inner` as the handle says from moment to moment.
    pub fn controlled_by(inner: I, conditions: LinkConditionsHandle, seed: u64) -> Self {
        Self {
            conditions,
            ..Self::new(inner, LinkConditions::default(), seed)
        }
    }

    /// Sends what is due, and takes in what the socket has.
    pub fn pump(&mut self, now: Instant) {
        while let Some((peer, payload, _)) = self.outgoing.pop(now) {
            self.inner.send(peer, &payload, now);
        }
        let conditions = self.conditions.get();
        while let Some(packet) = self.inner.try_receive(now) {
            if let Some(due) = conditions.due(packet.arrived, &mut self.random) {
                self.incoming.push(due, packet.peer, packet.payload);
            }
        }
    }
}

impl<I: PacketIo> PacketIo for ConditionedIo<I> {
    fn local_addr(&self) -> SocketAddr {
        self.inner.local_addr()
    }

    fn try_receive(&mut self, now: Instant) -> Option<Packet> {
        self.pump(now);
        let (peer, payload, arrived) = self.incoming.pop(now)?;
        Some(Packet { peer, payload, arrived })
    }

    fn send(&mut self, peer: SocketAddr, payload: &[u8], now: Instant) {
        let conditions = self.conditions.get();
        if conditions.is_perfect() && self.outgoing.is_empty() {
            self.inner.send(peer, payload, now);
        } else if let Some(due) = conditions.due(now, &mut self.random) {
            self.outgoing.push(due, peer, BytesMut::from(payload));
        }
    }

    fn counters(&self) -> &LinkCounters {
        self.inner.counters()
    }

    /// When the next packet comes out of either direction.
    fn next_due(&self) -> Option<Instant> {
        [self.incoming.next_due(), self.outgoing.next_due()]
            .into_iter()
            .flatten()
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryNetwork;

    const MS: Duration = Duration::from_millis(1);

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn who_wakes_when_a_packet_is_due_sends_and_receives_it_on_time() {
        let conditions = LinkConditions {
            delay: 30 * MS,
            ..LinkConditions::default()
        };
        let network = MemoryNetwork::new(LinkConditions::default(), 1);
        let mut near = ConditionedIo::new(network.open(address(1)), conditions, 1);
        let mut far = network.open(address(2));
        let start = Instant::now();
        assert_eq!(near.next_due(), None);
        near.send(address(2), b"ask", start);
        assert_eq!(near.next_due(), Some(start + 30 * MS));
        assert_eq!(
            (near.try_receive(start + 29 * MS), far.try_receive(start + 29 * MS)),
            (None, None)
        );
        assert_eq!(near.try_receive(start + 30 * MS), None);
        assert!(far.try_receive(start + 30 * MS).is_some(), "sent when it was due");
        far.send(address(1), b"answer", start + 40 * MS);
        // Its arrival at the socket is announced as ever; from then on it is held back.
        assert_eq!(near.try_receive(start + 40 * MS), None);
        assert_eq!(near.next_due(), Some(start + 70 * MS));
        let answer = near.try_receive(start + 70 * MS);
        assert_eq!(answer.map(|packet| packet.arrived), Some(start + 70 * MS));
        assert_eq!(near.next_due(), None);
    }

    #[test]
    fn conditions_change_while_packets_are_on_their_way_and_none_of_those_is_lost() {
        let network = MemoryNetwork::new(LinkConditions::default(), 1);
        let handle = LinkConditionsHandle::default();
        let mut near = ConditionedIo::controlled_by(network.open(address(1)), handle.clone(), 1);
        let mut far = network.open(address(2));
        let start = Instant::now();
        handle.set(LinkConditions {
            delay: 30 * MS,
            ..LinkConditions::default()
        });
        near.send(address(2), b"slow", start);
        handle.set(LinkConditions::default());
        near.send(address(2), b"behind", start + MS);
        handle.set(LinkConditions {
            loss: 1.0,
            ..LinkConditions::default()
        });
        near.send(address(2), b"lost", start + 2 * MS);
        near.pump(start + 30 * MS);
        let mut received = Vec::new();
        while let Some(packet) = far.try_receive(start + 30 * MS) {
            received.push(packet.payload);
        }
        received.sort();
        assert_eq!(received, [&b"behind"[..], &b"slow"[..]]);
    }
}
