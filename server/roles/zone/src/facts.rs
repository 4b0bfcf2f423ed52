//! The zone's side of the bus: carries what its [`Ownership`] asks to the durable side, and the answers back.

use std::time::Duration;

use meridian_bus::{Bus, Heard, WakeFn};
use meridian_events::Positions;
use meridian_handoff::script::Instance;
use meridian_handoff::{Handoff, News, Ownership};
use meridian_ids::{EntityEpoch, Tick, WorldEntityId};

use crate::positions::Moved;
use crate::traces::Traces;

/// Answers and arrivals handled in a tick; the rest waits for the next.
const HEARD_PER_TICK_MAX: usize = 4_096;

/// The connection to the durable side, and what the zone owns by it.
pub(crate) struct Facts {
    bus: Box<dyn Bus>,
    pub(crate) ownership: Ownership,
    /// Traced actions whose entities are on their way.
    pub(crate) traces: Traces,
}

impl Facts {
    pub(crate) fn new(bus: Box<dyn Bus>, ownership: Ownership) -> Self {
        let traces = Traces::default();
        Self { bus, ownership, traces }
    }

    pub(crate) fn wake_with(&mut self, wake: WakeFn) {
        self.bus.wake_with(wake);
    }

    /// This instance of the zone, once it has the lease.
    pub(crate) fn instance(&self) -> Option<Instance> {
        self.ownership.instance()
    }

    /// What the zone owns, and where it goes.
    pub(crate) fn handoff(&self) -> &Handoff {
        self.ownership.handoff()
    }

    /// The epoch under which the zone owns an entity.
    pub(crate) fn epoch(&self, entity: WorldEntityId) -> Option<EntityEpoch> {
        self.handoff().epoch(entity)
    }

    /// Submits what is to be asked and takes in what has come; `tick` is the last that was simulated.
    pub(crate) fn pump(&mut self, tick: Tick) {
        self.submit();
        for _ in 0..HEARD_PER_TICK_MAX {
            match self.bus.try_receive() {
                Some(Heard::Answer(ticket, answer)) => self.ownership.answered(ticket, answer, tick),
                Some(Heard::Inbox(transfer)) => {
                    transfer.records.iter().for_each(|record| self.traces.found(record));
                    self.ownership.inbox(transfer);
                }
                None => break,
            }
            self.submit();
        }
    }

    fn submit(&mut self) {
        while let Some((ticket, command)) = self.ownership.next_command() {
            self.bus.submit(ticket, command);
        }
    }

    /// What has happened, in order.
    pub(crate) fn next_news(&mut self) -> Option<News> {
        self.ownership.next_news()
    }

    /// Whether nobody else can have the zone.
    pub(crate) fn may_simulate(&self, now: Duration) -> bool {
        self.ownership.may_simulate(now)
    }

    pub(crate) fn is_followed(&self) -> bool {
        self.bus.is_followed()
    }

    pub(crate) fn publish_positions(&mut self, tick: Tick, moved: Moved) {
        if let Some(Instance { zone, lease }) = self.instance() {
            self.bus.publish_positions(Positions {
                zone,
                lease,
                tick,
                is_whole: moved.is_whole,
                entities: moved.entities,
                traced: moved.traced,
            });
        }
    }
}
