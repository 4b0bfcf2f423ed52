//! What an instance makes of the store's answers.

use std::collections::BTreeSet;
use std::time::Duration;

use meridian_ids::{EntityEpoch, LeaseEpoch, Tick, WorldEntityId};

use super::{Asked, News, NotSpawned, Ownership, Wait};
use crate::machine::{Step, TransferNumber};
use crate::script::{Done, Record, Refusal, Ticket, Transfer};

type Answer = Option<Result<Done, Refusal>>;

impl Ownership {
    /// The answer to a command; `None` when it is not known whether it was done. `tick` is the last that was simulated.
    pub fn answered(&mut self, ticket: Ticket, answer: Answer, tick: Tick) {
        let Some(asked) = self.asked.remove(&ticket) else {
            return;
        };
        match &answer {
            Some(Err(Refusal::Fenced)) => {
                self.lease.lost();
                self.news.push_back(News::Fenced);
            }
            Some(Err(Refusal::NewGeneration(_))) => self.interrupted(asked),
            _ => self.take(asked, answer, tick),
        }
    }

    /// The store was restarted: nothing that was asked counts before it is told what the instance owned.
    fn interrupted(&mut self, asked: Asked) {
        if !std::mem::replace(&mut self.is_asserting, true) {
            self.news.push_back(News::AssertionDue);
        }
        match asked {
            Asked::Claim { .. } | Asked::Assert { .. } => {}
            asked => self.put_off(asked),
        }
    }

    /// Asks for it once more in the next tick, or when the store has taken in what the zone has. States are told as not written, for there will be
    /// younger ones; deaths are facts, and stay before what was asked after them.
    pub(super) fn put_off(&mut self, asked: Asked) {
        let Asked::Checkpoint(records, died) = asked else {
            self.again.push(asked);
            return;
        };
        if !records.is_empty() {
            let entities = records.iter().map(|record| record.entity).collect();
            self.news.push_back(News::NotWritten(entities));
        }
        if !died.is_empty() {
            self.again.push(Asked::Checkpoint(Vec::new(), died));
        }
    }

    fn take(&mut self, asked: Asked, answer: Answer, tick: Tick) {
        match (asked, answer) {
            (Asked::Claim { sent }, answer) => self.claimed(sent, answer),
            (Asked::Assert { sent, .. }, Some(Ok(Done::Asserted { lease, owned }))) => {
                self.asserted(sent, lease, &owned);
            }
            // It is due again soon.
            (Asked::Assert { .. }, _) => {}
            (Asked::Recall, Some(Ok(Done::Recalled { records }))) => {
                self.again.append(&mut self.when_settled);
                self.recalled(records);
            }
            (Asked::Recall, _) => self.recall_due = true,
            (Asked::Checkpoint(..), Some(_)) => {}
            (Asked::Transfer(transfer), answer) => self.settled(transfer.id.number, answer, tick),
            (Asked::Settle(number), answer) => self.settled(number, answer, tick),
            // Asked again: these succeed as often as they are asked.
            (asked, None) => self.put_off(asked),
            (Asked::Spawn(record), Some(Err(Refusal::Settling))) => self.ask_when_settled(Asked::Spawn(record)),
            (Asked::Spawn(record), Some(answer)) => self.spawned(*record, answer),
            (Asked::Retire(entities, _) | Asked::RetireUnknown(entities, _), Some(Ok(Done::Retired))) => {
                self.retired(entities);
            }
            // It is another zone's, which is told as well.
            (Asked::Retire(..) | Asked::RetireUnknown(..), Some(_)) => {}
            (Asked::Accept(transfer), Some(answer)) => self.accepted(&transfer, answer),
        }
    }

    fn ask_when_settled(&mut self, asked: Asked) {
        let will_be_told = self.recall_due || self.is_asking(|asked| matches!(asked, Asked::Recall));
        if will_be_told {
            self.when_settled.push(asked);
        } else {
            self.again.push(asked);
        }
    }

    fn retired(&mut self, entities: Vec<(WorldEntityId, EntityEpoch)>) {
        for (entity, epoch) in &entities {
            self.memory.note_retired(*entity, *epoch);
            // It came, or was recalled, while the question was on its way.
            if self.handoff.epoch(*entity).is_some_and(|known| known <= *epoch) {
                self.handoff.disown(*entity);
                self.news.push_back(News::Disowned(*entity));
            }
        }
        self.news.push_back(News::Retired(entities));
    }

    fn claimed(&mut self, sent: Duration, answer: Answer) {
        let wait = match answer {
            Some(Ok(Done::Claimed { lease, records, .. })) => {
                self.lease.renewed(sent);
                // What is in the inbox is told by the bus as well.
                if self.held.replace(lease).is_none() {
                    for record in &records {
                        self.handoff.own(record.entity, record.epoch, record.allowance);
                    }
                    self.news.push_back(News::Begun(records));
                }
                return;
            }
            Some(Err(Refusal::Taken)) => Wait::Taken,
            Some(Err(Refusal::Settling)) => Wait::Settling,
            // It is asked for again soon.
            _ => return,
        };
        if self.waiting.replace(wait) != Some(wait) {
            self.news.push_back(News::Waiting(wait));
        }
    }

    fn asserted(&mut self, sent: Duration, lease: LeaseEpoch, owned: &[(WorldEntityId, EntityEpoch)]) {
        self.is_asserting = false;
        self.recall_due = true;
        self.held = Some(lease);
        self.lease.renewed(sent);
        self.memory.said_again();
        // What was leaving is where it went: it was not claimed.
        for (_, transfer) in std::mem::take(&mut self.departing) {
            self.memory.note_departed(transfer);
        }
        for step in self.handoff.reasserted(owned) {
            self.take_step(step, 0);
        }
        self.news.push_back(News::Asserted);
    }

    /// What the store has of the zone, and the instance did not know of: answers that were lost, or writes.
    fn recalled(&mut self, records: Vec<Record>) {
        let unknown = |record: &Record| {
            let known = self.handoff.epoch(record.entity);
            known.is_none_or(|known| known < record.epoch)
        };
        let records: Vec<Record> = records.into_iter().filter(unknown).collect();
        self.arrived(records);
    }

    fn arrived(&mut self, mut records: Vec<Record>) {
        // What the zone has given up is on its way out of the world, not into the zone.
        let given_up: BTreeSet<WorldEntityId> = self.retiring().map(|(entity, _)| entity).collect();
        records.retain(|record| !given_up.contains(&record.entity));
        if records.is_empty() {
            return;
        }
        for record in &records {
            self.handoff.own(record.entity, record.epoch, record.allowance);
        }
        self.news.push_back(News::Arrived(records));
    }

    fn spawned(&mut self, record: Record, answer: Result<Done, Refusal>) {
        match answer {
            Ok(Done::Spawned { epoch }) => {
                // At a restart the same is asked again for what is known already.
                if self.handoff.epoch(record.entity).is_none() {
                    self.handoff.own(record.entity, epoch, record.allowance);
                    self.news.push_back(News::Spawned(Record { epoch, ..record }));
                }
            }
            Ok(Done::Exists { entity, zone }) => {
                let why = NotSpawned::Exists(entity, zone);
                self.news.push_back(News::NotSpawned(record, why));
            }
            Ok(_) => {}
            Err(refusal) => {
                let why = NotSpawned::Refused(refusal);
                self.news.push_back(News::NotSpawned(record, why));
            }
        }
    }

    fn accepted(&mut self, transfer: &Transfer, answer: Result<Done, Refusal>) {
        self.accepting.remove(&transfer.id);
        let Ok(Done::Accepted { owned }) = answer else { return };
        let mut records = Vec::with_capacity(owned.len());
        for (entity, epoch) in owned {
            let record = transfer.records.iter().find(|record| record.entity == entity);
            let is_new = self.handoff.epoch(entity).is_none_or(|known| known < epoch);
            records.extend(record.filter(|_| is_new).map(|record| Record {
                epoch,
                ..record.clone()
            }));
        }
        self.arrived(records);
    }

    fn settled(&mut self, number: TransferNumber, answer: Answer, tick: Tick) {
        let has_left = answer == Some(Ok(Done::Transferred));
        for step in self.handoff.answered(number, answer, tick) {
            self.take_step(step, number);
        }
        if self.handoff.leaving().all(|departure| departure.number != number)
            && let Some(transfer) = self.departing.remove(&number)
            && has_left
        {
            self.memory.note_departed(transfer);
        }
    }

    /// What follows from an answer about a transfer.
    fn take_step(&mut self, step: Step, number: TransferNumber) {
        match step {
            Step::Departed { entity, epoch, to } => self.news.push_back(News::Departed { entity, epoch, to }),
            Step::Resume { entity, .. } => {
                // Of this transfer: an earlier one that is not settled may hold an older state of the same entity.
                let records = self.departing.get(&number).map(|transfer| &transfer.records);
                let record = records.into_iter().flatten().find(|record| record.entity == entity);
                // It never left: it has the epoch that it had.
                if let (Some(record), Some(epoch)) = (record, self.handoff.epoch(entity)) {
                    let record = Record {
                        epoch,
                        ..record.clone()
                    };
                    self.news.push_back(News::Resumed(record));
                }
            }
            Step::Settle(number) => self.again.push(Asked::Settle(number)),
            Step::Disowned(entity) => self.news.push_back(News::Disowned(entity)),
            Step::Stop => self.news.push_back(News::Fenced),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_told_once_per_reason() {
        use meridian_ids::{TickRate, ZoneId};
        let mut ownership = Ownership::new(ZoneId(0), "one", TickRate::default());
        let mut now = Duration::ZERO;
        let mut answer = |refusal: Refusal| {
            now += Duration::from_millis(500);
            ownership.begin_tick(now);
            let (ticket, _) = ownership.next_command().expect("a claim is due");
            ownership.answered(ticket, Some(Err(refusal)), Tick(0));
            std::iter::from_fn(|| ownership.next_news()).collect::<Vec<_>>()
        };
        assert_eq!(answer(Refusal::Taken), [News::Waiting(Wait::Taken)]);
        assert_eq!(answer(Refusal::Taken), []);
        assert_eq!(answer(Refusal::Settling), [News::Waiting(Wait::Settling)]);
    }
}
