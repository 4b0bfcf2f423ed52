//! The links between zones' processes and gateways: what one sends, the other hears later, twice or never.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use meridian_ids::{EntityEpoch, LeaseEpoch, PlayerId, Tick, WorldEntityId, ZoneId};

use crate::checks::{Checks, ProcessId};
use crate::choice::Fate;
use crate::coverage::Occurrence;

/// Messages that wait at one end of a link; the oldest that may be lost is dropped first.
const QUEUE_MAX: usize = 256;

/// An entity as a zone tells of it.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) entity: WorldEntityId,
    pub(crate) epoch: EntityEpoch,
    pub(crate) player: Option<PlayerId>,
    pub(crate) state: u64,
}

/// All that a zone simulates, after a tick.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) by: ProcessId,
    pub(crate) zone: ZoneId,
    pub(crate) lease: LeaseEpoch,
    pub(crate) tick: Tick,
    pub(crate) entities: Vec<Told>,
}

/// What a gateway is told.
#[derive(Clone, Debug)]
pub(crate) enum ToGateway {
    Snapshot(Rc<Snapshot>),
    Left(WorldEntityId, EntityEpoch),
}

/// What a zone is told.
#[derive(Clone, Debug)]
pub(crate) enum ToZone {
    Join(PlayerId),
    Leave(PlayerId, WorldEntityId, EntityEpoch),
    Inputs(WorldEntityId, Rc<[(Tick, u64)]>),
}

/// Whether a message may be lost on a link that holds.
trait Message: Clone {
    fn may_be_lost(&self) -> bool;
}

impl Message for ToGateway {
    fn may_be_lost(&self) -> bool {
        matches!(self, Self::Snapshot(_))
    }
}

impl Message for ToZone {
    fn may_be_lost(&self) -> bool {
        matches!(self, Self::Inputs(..))
    }
}

#[derive(Clone, Copy, Debug)]
struct Trouble {
    fate: Fate,
    count: u8,
    late: Duration,
}

#[derive(Debug)]
struct Link<T> {
    queue: VecDeque<(Duration, T)>,
    trouble: Option<Trouble>,
}

impl<T> Default for Link<T> {
    fn default() -> Self {
        Self {
            queue: VecDeque::new(),
            trouble: None,
        }
    }
}

impl<T: Message> Link<T> {
    fn send(&mut self, now: Duration, message: T, checks: &mut Checks) {
        let mut due = now;
        if let Some(trouble) = self.trouble.as_mut() {
            trouble.count = trouble.count.saturating_sub(1);
            let Trouble { fate, count, late } = *trouble;
            if count == 0 {
                self.trouble = None;
            }
            match fate {
                Fate::Lost if message.may_be_lost() => {
                    checks.note(Occurrence::MessageLost);
                    return;
                }
                Fate::Twice => {
                    checks.note(Occurrence::MessageTwice);
                    self.push(now + late, message.clone());
                }
                Fate::Late | Fate::Lost => {
                    checks.note(Occurrence::MessageLate);
                    due = now + late;
                }
            }
        }
        self.push(due, message);
    }

    fn push(&mut self, due: Duration, message: T) {
        if self.queue.len() >= QUEUE_MAX
            && let Some(oldest) = self.queue.iter().position(|(_, message)| message.may_be_lost())
        {
            self.queue.remove(oldest);
        }
        self.queue.push_back((due, message));
    }

    /// What has come; what is late is overtaken.
    fn receive(&mut self, now: Duration, into: &mut Vec<T>) {
        let all = std::mem::take(&mut self.queue);
        for (due, message) in all {
            if now >= due {
                into.push(message);
            } else {
                self.queue.push_back((due, message));
            }
        }
    }
}

/// All links. An end is named by its machine or by its gateway.
#[derive(Debug, Default)]
pub(crate) struct Wires {
    to_gateways: BTreeMap<(u8, u8), Link<ToGateway>>,
    to_zones: BTreeMap<(u8, u8), Link<ToZone>>,
}

impl Wires {
    pub(crate) fn new(machines: u8, gateways: u8) -> Self {
        let ends = move || (0..machines).flat_map(move |machine| (0..gateways).map(move |gateway| (machine, gateway)));
        Self {
            to_gateways: ends().map(|ends| (ends, Link::default())).collect(),
            to_zones: ends().map(|ends| (ends, Link::default())).collect(),
        }
    }

    /// The next messages of a link meet a fate: of those to gateways first, then of those to zones.
    pub(crate) fn trouble(&mut self, link: u8, fate: Fate, count: u8, late: Duration) {
        let index = usize::from(link) % (self.to_gateways.len() * 2).max(1);
        let trouble = Some(Trouble { fate, count, late });
        if let Some(link) = self.to_gateways.values_mut().nth(index) {
            link.trouble = trouble;
        } else if let Some(link) = self.to_zones.values_mut().nth(index - self.to_gateways.len()) {
            link.trouble = trouble;
        }
    }

    pub(crate) fn tell_gateways(&mut self, machine: u8, now: Duration, message: &ToGateway, checks: &mut Checks) {
        for (_, link) in self.to_gateways.range_mut((machine, 0)..=(machine, u8::MAX)) {
            link.send(now, message.clone(), checks);
        }
    }

    pub(crate) fn tell_zone(&mut self, ends: (u8, u8), now: Duration, message: ToZone, checks: &mut Checks) {
        if let Some(link) = self.to_zones.get_mut(&ends) {
            link.send(now, message, checks);
        }
    }

    pub(crate) fn zone_hears(&mut self, machine: u8, now: Duration) -> Vec<ToZone> {
        let mut heard = Vec::new();
        for (_, link) in self.to_zones.range_mut((machine, 0)..=(machine, u8::MAX)) {
            link.receive(now, &mut heard);
        }
        heard
    }

    pub(crate) fn gateway_hears(&mut self, gateway: u8, now: Duration) -> Vec<ToGateway> {
        let mut heard = Vec::new();
        for ((_, of), link) in &mut self.to_gateways {
            if *of == gateway {
                link.receive(now, &mut heard);
            }
        }
        heard
    }

    /// A process is gone: what was on its way to it is lost.
    pub(crate) fn zone_ended(&mut self, machine: u8) {
        for (_, link) in self.to_zones.range_mut((machine, 0)..=(machine, u8::MAX)) {
            link.queue.clear();
        }
    }

    /// A gateway is gone: what was on its way to it is lost.
    pub(crate) fn gateway_ended(&mut self, gateway: u8) {
        for ((_, of), link) in &mut self.to_gateways {
            if *of == gateway {
                link.queue.clear();
            }
        }
    }

    /// Nothing goes wrong any more.
    pub(crate) fn heal(&mut self) {
        self.to_gateways.values_mut().for_each(|link| link.trouble = None);
        self.to_zones.values_mut().for_each(|link| link.trouble = None);
    }
}
