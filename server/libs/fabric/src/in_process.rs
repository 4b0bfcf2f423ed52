//! The carrier for zones and gateways of one process: two bounded queues.

use std::sync::{Arc, Weak};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::metric_definitions::FABRIC_DROPPED;
use crate::{FabricError, GatewayEnd, GatewayMessage, PeerEnd, PeerMessage, WakeFn, ZoneEnd, ZoneMessage};

/// Messages that may wait before droppable ones are refused: 17 ticks of 60 players' inputs, or 17 s of snapshots.
pub const DROPPABLE_QUEUE_MAX: usize = 1_024;
/// Messages that may wait before any is refused: as many joins as a gateway may have clients, on top of the droppable.
pub const RELIABLE_QUEUE_MAX: usize = 8_192;

/// Messages that may wait between two zones: seconds of ticks, and the pushes of a crowd.
pub const PEER_QUEUE_MAX: usize = 256;

struct End<Out, In> {
    sender: Sender<Out>,
    receiver: Receiver<In>,
    wake: WakeFn,
    direction: &'static str,
    presence: Presence,
}

/// Tells each end whether the other one is still held by anybody.
struct Presence {
    _own: Arc<()>,
    other: Weak<()>,
}

impl Presence {
    fn pair() -> (Self, Self) {
        let (one, other) = (Arc::new(()), Arc::new(()));
        let (to_one, to_other) = (Arc::downgrade(&one), Arc::downgrade(&other));
        let presence = |_own, other| Self { _own, other };
        (presence(one, to_other), presence(other, to_one))
    }

    fn is_other_there(&self) -> bool {
        self.other.strong_count() > 0
    }
}

/// A connection between a zone and a gateway of the same process. Each wake function is called after a message was
/// queued for the end it is named after.
pub fn in_process(wake_zone: WakeFn, wake_gateway: WakeFn) -> (Arc<dyn ZoneEnd>, Box<dyn GatewayEnd>) {
    let (to_zone, from_gateway) = bounded(RELIABLE_QUEUE_MAX);
    let (to_gateway, from_zone) = bounded(RELIABLE_QUEUE_MAX);
    let (zone_presence, gateway_presence) = Presence::pair();
    let zone = End {
        sender: to_gateway,
        receiver: from_gateway,
        wake: wake_gateway,
        direction: "zone_to_gateway",
        presence: zone_presence,
    };
    let gateway = End {
        sender: to_zone,
        receiver: from_zone,
        wake: wake_zone,
        direction: "gateway_to_zone",
        presence: gateway_presence,
    };
    (Arc::new(zone), Box::new(gateway))
}

struct Peer {
    sender: Sender<PeerMessage>,
    receiver: Receiver<PeerMessage>,
    presence: Presence,
}

/// A connection between two zones of the same process. Each reads it in its own ticks: nothing has to be woken.
pub fn in_process_peers() -> (Arc<dyn PeerEnd>, Arc<dyn PeerEnd>) {
    let (to_other, from_one) = bounded(PEER_QUEUE_MAX);
    let (to_one, from_other) = bounded(PEER_QUEUE_MAX);
    let (one_presence, other_presence) = Presence::pair();
    let one = Peer {
        sender: to_other,
        receiver: from_other,
        presence: one_presence,
    };
    let other = Peer {
        sender: to_one,
        receiver: from_one,
        presence: other_presence,
    };
    (Arc::new(one), Arc::new(other))
}

impl PeerEnd for Peer {
    fn send(&self, message: PeerMessage) -> Result<(), FabricError> {
        self.sender.try_send(message).map_err(|error| {
            metrics::counter!(FABRIC_DROPPED, "direction" => "zone_to_zone", "class" => "droppable").increment(1);
            match error {
                TrySendError::Full(_) => FabricError::Full,
                TrySendError::Disconnected(_) => FabricError::Closed,
            }
        })
    }

    fn try_receive(&self) -> Option<PeerMessage> {
        self.receiver.try_recv().ok()
    }

    fn is_closed(&self) -> bool {
        !self.presence.is_other_there() && self.receiver.is_empty()
    }

    fn is_connected(&self) -> bool {
        self.presence.is_other_there()
    }
}

impl<Out, In> End<Out, In> {
    fn queue(&self, message: Out, droppable: bool) -> Result<(), FabricError> {
        let result = if droppable && self.sender.len() >= DROPPABLE_QUEUE_MAX {
            Err(FabricError::Full)
        } else {
            self.sender.try_send(message).map_err(|error| match error {
                TrySendError::Full(_) => FabricError::Full,
                TrySendError::Disconnected(_) => FabricError::Closed,
            })
        };
        match result {
            Ok(()) => (self.wake)(),
            Err(_) => {
                let class = if droppable { "droppable" } else { "reliable" };
                metrics::counter!(FABRIC_DROPPED, "direction" => self.direction, "class" => class).increment(1);
            }
        }
        result
    }
}

impl ZoneEnd for End<ZoneMessage, GatewayMessage> {
    fn send(&self, message: ZoneMessage) -> Result<(), FabricError> {
        let droppable = message.is_droppable();
        self.queue(message, droppable)
    }

    fn try_receive(&self) -> Option<GatewayMessage> {
        self.receiver.try_recv().ok()
    }

    fn is_closed(&self) -> bool {
        !self.presence.is_other_there() && self.receiver.is_empty()
    }
}

impl GatewayEnd for End<GatewayMessage, ZoneMessage> {
    fn send(&self, message: GatewayMessage) -> Result<(), FabricError> {
        let droppable = message.is_droppable();
        self.queue(message, droppable)
    }

    fn try_receive(&self) -> Option<ZoneMessage> {
        self.receiver.try_recv().ok()
    }

    fn is_connected(&self) -> bool {
        self.presence.is_other_there()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Instant;

    use meridian_ids::{PlayerId, WorldEntityId};

    use super::*;
    use crate::InputBatch;

    fn inputs() -> GatewayMessage {
        let now = Instant::now();
        GatewayMessage::Inputs(InputBatch {
            entity: WorldEntityId(1),
            inputs: vec![],
            received: now,
            forwarded: now,
        })
    }

    fn pair() -> (Arc<dyn ZoneEnd>, Box<dyn GatewayEnd>, Arc<AtomicUsize>) {
        let wakes = Arc::new(AtomicUsize::new(0));
        let counted = wakes.clone();
        let wake_zone: WakeFn = Arc::new(move || {
            counted.fetch_add(1, Ordering::SeqCst);
        });
        let (zone, gateway) = in_process(wake_zone, Arc::new(|| ()));
        (zone, gateway, wakes)
    }

    #[test]
    fn a_stalled_zone_loses_inputs_first_and_joins_last() {
        let (zone, gateway, wakes) = pair();
        let queued = (0..2 * DROPPABLE_QUEUE_MAX)
            .take_while(|_| gateway.send(inputs()).is_ok())
            .count();
        assert_eq!(queued, DROPPABLE_QUEUE_MAX);
        let join = GatewayMessage::Join {
            player: PlayerId(7),
            name: "late".to_owned(),
        };
        assert_eq!(gateway.send(join.clone()), Ok(()));
        assert_eq!(wakes.load(Ordering::SeqCst), DROPPABLE_QUEUE_MAX + 1);
        let received: Vec<_> = std::iter::from_fn(|| zone.try_receive()).collect();
        assert_eq!(received.len(), DROPPABLE_QUEUE_MAX + 1);
        assert_eq!(received.last(), Some(&join));
    }

    #[test]
    fn an_end_that_is_gone_is_told() {
        let (zone, gateway, _) = pair();
        drop(zone);
        assert_eq!(gateway.send(inputs()), Err(FabricError::Closed));
    }

    #[test]
    fn an_end_is_closed_once_the_other_is_dropped_and_all_it_said_was_received() {
        let (zone, gateway, _) = pair();
        assert!(gateway.is_connected() && !zone.is_closed());
        gateway.send(inputs()).unwrap();
        drop(gateway);
        assert!(!zone.is_closed());
        assert!(zone.try_receive().is_some());
        assert!(zone.is_closed());

        let (one, other) = in_process_peers();
        assert!(one.is_connected() && !one.is_closed());
        drop(other);
        assert!(!one.is_connected() && one.is_closed());
    }
}
