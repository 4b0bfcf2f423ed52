//! What a link counts and shows, looked up once per link.

use metrics::{Counter, Gauge, counter, gauge};
use quinn::ConnectionStats;

use super::carried::Class;
use super::clock::OtherClock;
use super::outbox::Waiting;
use crate::metric_definitions as names;

/// The two ends of a link, as metrics and logs name them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) local: String,
    pub(super) peer: String,
}

struct Traffic {
    messages: Counter,
    bytes: Counter,
}

/// Counters and gauges of a link. The gauges show nothing once it is dropped.
pub(super) struct Meters {
    sent: [Traffic; Class::ALL.len()],
    received: [Traffic; Class::ALL.len()],
    pub(super) by_stream: Counter,
    pub(super) gaps: Counter,
    pub(super) malformed: Counter,
    lost_packets: Counter,
    connected: Gauge,
    round_trip: Gauge,
    congestion_window: Gauge,
    packet_bytes: Gauge,
    clock_offset: Gauge,
    clock_round_trip: Gauge,
    queued: [Gauge; 4],
}

impl Meters {
    /// Those of a link that has just come about.
    pub(super) fn new(ends: &Ends) -> Self {
        let labels = || [("local", ends.local.clone()), ("peer", ends.peer.clone())];
        let count = |name: &'static str| counter!(name, &labels());
        let show = |name: &'static str| gauge!(name, &labels());
        let traffic = |class: Class, direction: &'static str| {
            let [local, peer] = labels();
            let labels = [
                local,
                peer,
                ("class", class.label().to_owned()),
                ("direction", direction.to_owned()),
            ];
            Traffic {
                messages: counter!(names::FABRIC_MESSAGES, &labels),
                bytes: counter!(names::FABRIC_BYTES, &labels),
            }
        };
        let queue = |queue: &str| {
            let [local, peer] = labels();
            gauge!(names::FABRIC_QUEUED, &[local, peer, ("queue", queue.to_owned())])
        };
        count(names::FABRIC_CONNECTIONS).increment(1);
        let meters = Self {
            sent: Class::ALL.map(|class| traffic(class, "sent")),
            received: Class::ALL.map(|class| traffic(class, "received")),
            by_stream: count(names::FABRIC_BY_STREAM),
            gaps: count(names::FABRIC_GAPS),
            malformed: count(names::FABRIC_MALFORMED),
            lost_packets: count(names::FABRIC_LOST_PACKETS),
            connected: show(names::FABRIC_CONNECTED),
            round_trip: show(names::FABRIC_ROUND_TRIP_SECONDS),
            congestion_window: show(names::FABRIC_CONGESTION_WINDOW_BYTES),
            packet_bytes: show(names::FABRIC_PACKET_BYTES_MAX),
            clock_offset: show(names::FABRIC_CLOCK_OFFSET_SECONDS),
            clock_round_trip: show(names::FABRIC_CLOCK_ROUND_TRIP_SECONDS),
            queued: ["reliable", "droppable", "under_way", "received"].map(queue),
        };
        meters.connected.set(1.0);
        meters
    }

    pub(super) fn sent(&self, class: Class, bytes: usize) {
        count(&self.sent, class, bytes);
    }

    pub(super) fn received(&self, class: Class, bytes: usize) {
        count(&self.received, class, bytes);
    }

    /// Shows how the connection does. `lost_before` are the lost packets that were counted already.
    pub(super) fn show(&self, stats: &ConnectionStats, clock: &OtherClock, lost_before: u64) {
        let path = &stats.path;
        self.connected.set(1.0);
        self.round_trip.set(path.rtt.as_secs_f64());
        self.congestion_window.set(path.cwnd as f64);
        self.packet_bytes.set(f64::from(path.current_mtu));
        self.lost_packets
            .increment(path.lost_packets.saturating_sub(lost_before));
        self.clock_offset.set(clock.offset_seconds());
        self.clock_round_trip.set(clock.round_trip_seconds());
    }

    /// Shows how much waits: to be sent, and to be received.
    pub(super) fn show_queues(&self, to_send: Waiting, received: usize) {
        let waiting = [to_send.reliable, to_send.loose, to_send.under_way, received];
        for (gauge, waiting) in self.queued.iter().zip(waiting) {
            gauge.set(waiting as f64);
        }
    }
}

impl Drop for Meters {
    fn drop(&mut self) {
        let shown = [
            &self.connected,
            &self.round_trip,
            &self.congestion_window,
            &self.packet_bytes,
            &self.clock_offset,
            &self.clock_round_trip,
        ];
        shown.into_iter().chain(&self.queued).for_each(|gauge| gauge.set(0.0));
    }
}

fn count(traffic: &[Traffic], class: Class, bytes: usize) {
    // The table is made from the same list of classes.
    let index = Class::ALL.iter().position(|other| *other == class);
    if let Some(traffic) = index.and_then(|index| traffic.get(index)) {
        traffic.messages.increment(1);
        traffic.bytes.increment(bytes as u64);
    }
}
