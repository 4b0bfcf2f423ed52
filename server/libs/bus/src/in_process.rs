//! The carrier for zones of one process: the model behind a lock.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use meridian_handoff::script::{Command, Done, Transfer, TransferId};
use meridian_ids::{LeaseEpoch, ZoneId};

use crate::{Bus, Heard, Model, Ticket};

/// The durable side of a world that lives in one process. Records live as long as it: a zone that dies finds them again, a
/// process that dies does not.
#[derive(Clone)]
pub struct InProcess {
    model: Arc<Mutex<Model>>,
    now: NowFn,
}

/// The time since any origin.
pub type NowFn = Arc<dyn Fn() -> Duration + Send + Sync>;

/// A world without entities, whose zones' leases are counted from `before` on and end by the clock `now`.
pub fn in_process(before: LeaseEpoch, now: NowFn) -> InProcess {
    InProcess {
        model: Arc::new(Mutex::new(Model::new(before))),
        now,
    }
}

impl InProcess {
    /// A zone's connection.
    pub fn connect(&self, zone: ZoneId) -> Box<dyn Bus> {
        Box::new(Connection {
            shared: self.clone(),
            zone,
            next: 0,
            heard: VecDeque::new(),
            told: HashSet::new(),
        })
    }

    /// The model, for audits and tests.
    pub fn model(&self) -> Arc<Mutex<Model>> {
        Arc::clone(&self.model)
    }

    fn with<T>(&self, work: impl FnOnce(&mut Model, Duration) -> T) -> T {
        // A zone that panicked in here has changed nothing by halves: a command checks first, then writes.
        let mut model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut model, (self.now)())
    }
}

struct Connection {
    shared: InProcess,
    zone: ZoneId,
    next: u64,
    heard: VecDeque<Heard>,
    told: HashSet<TransferId>,
}

impl Bus for Connection {
    fn submit(&mut self, command: Command) -> Ticket {
        let ticket = Ticket(self.next);
        self.next += 1;
        let answer = self.shared.with(|model, now| model.execute(now, &command));
        if let (Command::Accept { id, .. }, Ok(Done::Accepted)) = (&command, &answer) {
            self.told.remove(id);
        }
        self.heard.push_back(Heard::Answer(ticket, Some(answer)));
        ticket
    }

    fn try_receive(&mut self) -> Option<Heard> {
        if let Some(heard) = self.heard.pop_front() {
            return Some(heard);
        }
        let (zone, told) = (self.zone, &self.told);
        let new: Option<Transfer> = self.shared.with(|model, _| {
            let waiting = model.inbox(zone).iter();
            waiting
                .into_iter()
                .find(|transfer| !told.contains(&transfer.id))
                .cloned()
        });
        let transfer = new?;
        self.told.insert(transfer.id);
        Some(Heard::Inbox(transfer))
    }
}
