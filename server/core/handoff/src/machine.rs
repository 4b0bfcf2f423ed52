//! One zone's side of all its handoffs.

use std::collections::{BTreeMap, BTreeSet};

use meridian_ids::{EntityEpoch, Tick, TickRate, WorldEntityId, ZoneId};

use crate::Allowance;
use crate::script::{Done, Refusal};

/// Ticks until a zone that refused, or an entity without a token, is tried again.
pub const RETRY_AFTER_TICKS: u64 = 15;

/// Counts the transfers that a zone's instance has begun.
pub type TransferNumber = u64;

/// Whether a zone simulates an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    Simulated,
    /// It does not: the entity is frozen until the transfer's outcome is known.
    Leaving(TransferNumber),
}

/// What to do with an entity that stands in another zone's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on simulating it; the scenery overlaps the border.
    Stay,
    /// Freeze these and ask for their transfer.
    Leave(Departure),
}

/// Entities that are to change their owner together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Departure {
    /// The transfer.
    pub number: TransferNumber,
    /// Where they go.
    pub to: ZoneId,
    /// They are frozen as they are after this tick.
    pub after: Tick,
    /// Each with the epoch and the allowance that it has at the receiver.
    pub entities: Vec<(WorldEntityId, EntityEpoch, Allowance)>,
}

/// What to do once something is known of a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The entity is another zone's: keep it as a ghost, and say its new epoch to who asks.
    Departed {
        /// The entity.
        entity: WorldEntityId,
        /// Its epoch there.
        epoch: EntityEpoch,
        /// Where.
        to: ZoneId,
    },
    /// The entity is still the own: simulate it on from the state after this tick.
    Resume {
        /// The entity.
        entity: WorldEntityId,
        /// The tick of its state.
        after: Tick,
    },
    /// Nobody knows whether the transfer has happened: ask, until there is an answer.
    Settle(TransferNumber),
    /// The entity is somebody else's, and it is not known whose: drop it.
    Disowned(WorldEntityId),
    /// Another instance has the zone: stop simulating altogether.
    Stop,
}

#[derive(Clone, Debug)]
struct Owned {
    epoch: EntityEpoch,
    allowance: Allowance,
    standing: Standing,
    retry_at: Tick,
}

/// The handoffs of one instance of a zone.
#[derive(Clone, Debug)]
pub struct Handoff {
    rate: TickRate,
    entities: BTreeMap<WorldEntityId, Owned>,
    joints: BTreeMap<WorldEntityId, BTreeSet<WorldEntityId>>,
    leaving: BTreeMap<TransferNumber, Departure>,
    refused_until: BTreeMap<ZoneId, Tick>,
    next: TransferNumber,
}

impl Handoff {
    /// A zone that owns nothing.
    pub fn new(rate: TickRate) -> Self {
        Self {
            rate,
            entities: BTreeMap::new(),
            joints: BTreeMap::new(),
            leaving: BTreeMap::new(),
            refused_until: BTreeMap::new(),
            next: 1,
        }
    }

    /// The zone owns an entity: it made it, read its record, or accepted it. A lower epoch than the known one is ignored.
    pub fn own(&mut self, entity: WorldEntityId, epoch: EntityEpoch, allowance: Allowance) {
        if self.entities.get(&entity).is_some_and(|known| known.epoch >= epoch) {
            return;
        }
        let owned = Owned {
            epoch,
            allowance,
            standing: Standing::Simulated,
            retry_at: Tick(0),
        };
        self.entities.insert(entity, owned);
    }

    /// The entity is out of the world. One that is leaving is not the zone's to take out: `None`.
    pub fn retire(&mut self, entity: WorldEntityId) -> Option<EntityEpoch> {
        let simulated = self.standing(entity) == Some(Standing::Simulated);
        let owned = simulated.then(|| self.entities.remove(&entity)).flatten()?;
        self.part(entity);
        Some(owned.epoch)
    }

    /// The entity is not the zone's any more, whatever was about to happen to it.
    pub fn disown(&mut self, entity: WorldEntityId) {
        self.entities.remove(&entity);
        self.part(entity);
    }

    /// Two entities move together from now on.
    pub fn join(&mut self, one: WorldEntityId, other: WorldEntityId) {
        self.joints.entry(one).or_default().insert(other);
        self.joints.entry(other).or_default().insert(one);
    }

    /// An entity is tied to none any more.
    pub fn part(&mut self, entity: WorldEntityId) {
        for other in self.joints.remove(&entity).unwrap_or_default() {
            if let Some(joined) = self.joints.get_mut(&other) {
                joined.remove(&entity);
            }
        }
    }

    /// Whether it is for this entity to say where it and all that is joined to it belong: the eldest of them does.
    pub fn leads(&self, entity: WorldEntityId) -> bool {
        !self.joints.contains_key(&entity) || self.group(entity).first() == Some(&entity)
    }

    /// Whether the zone owns an entity, and simulates it.
    pub fn standing(&self, entity: WorldEntityId) -> Option<Standing> {
        self.entities.get(&entity).map(|owned| owned.standing)
    }

    /// The epoch under which the zone owns an entity.
    pub fn epoch(&self, entity: WorldEntityId) -> Option<EntityEpoch> {
        self.entities.get(&entity).map(|owned| owned.epoch)
    }

    /// The handoffs that an owned entity may make.
    pub fn allowance(&self, entity: WorldEntityId) -> Option<Allowance> {
        self.entities.get(&entity).map(|owned| owned.allowance)
    }

    /// What the zone owns, in the order of the ids.
    pub fn owned(&self) -> impl Iterator<Item = (WorldEntityId, EntityEpoch, Standing)> {
        self.entities
            .iter()
            .map(|(entity, owned)| (*entity, owned.epoch, owned.standing))
    }

    /// Transfers whose outcome is not known.
    pub fn leaving(&self) -> impl Iterator<Item = &Departure> {
        self.leaving.values()
    }

    /// After tick `after`, an owned entity stands so far in the place of zone `to` that it should go there.
    ///
    /// What is joined to it goes along; all of it must be simulated here, and each needs a token.
    pub fn cross(&mut self, entity: WorldEntityId, to: ZoneId, after: Tick) -> Verdict {
        let refused = self.refused_until.get(&to).is_some_and(|until| after < *until);
        let group = self.group(entity);
        let may_go = |owned: &Owned| owned.standing == Standing::Simulated && after >= owned.retry_at;
        let all_may_go = group.iter().all(|member| self.entities.get(member).is_some_and(may_go));
        if refused || !all_may_go {
            return Verdict::Stay;
        }
        // All tokens or none: a group that was held up by one of its members has spent nothing.
        let mut allowances = Vec::with_capacity(group.len());
        for member in &group {
            let Some(mut allowance) = self.allowance(*member) else {
                return Verdict::Stay;
            };
            if !allowance.take(after, self.rate) {
                self.put_off(&group, after);
                return Verdict::Stay;
            }
            allowances.push(allowance);
        }
        let number = self.next;
        self.next += 1;
        let mut entities = Vec::with_capacity(group.len());
        for (member, allowance) in group.into_iter().zip(allowances) {
            if let Some(owned) = self.entities.get_mut(&member) {
                owned.standing = Standing::Leaving(number);
                owned.allowance = allowance;
                entities.push((member, owned.epoch.next(), allowance));
            }
        }
        let departure = Departure {
            number,
            to,
            after,
            entities,
        };
        self.leaving.insert(number, departure.clone());
        Verdict::Leave(departure)
    }

    /// The answer to a transfer, or to the question whether it has happened. `None` for an answer that will not come.
    pub fn answered(&mut self, number: TransferNumber, answer: Option<Result<Done, Refusal>>, now: Tick) -> Vec<Step> {
        let Some(departure) = self.leaving.get(&number).cloned() else {
            return Vec::new();
        };
        match answer {
            Some(Ok(Done::Transferred)) => self.departed(&departure),
            Some(Ok(Done::Kept)) => self.resume(&departure, now),
            Some(Err(Refusal::NoReceiver | Refusal::InboxFull)) => {
                self.refused_until.insert(departure.to, now + RETRY_AFTER_TICKS);
                let steps = self.resume(&departure, now);
                for (entity, ..) in &departure.entities {
                    if let Some(owned) = self.entities.get_mut(entity) {
                        owned.allowance.give_back(self.rate);
                    }
                }
                steps
            }
            Some(Err(Refusal::NotOwner(entity))) => {
                // One of them was never the zone's to send; the others go on here.
                let mut steps = self.resume(&departure, now);
                self.disown(entity);
                steps.retain(|step| !matches!(step, Step::Resume { entity: resumed, .. } if *resumed == entity));
                steps.push(Step::Disowned(entity));
                steps
            }
            Some(Err(Refusal::Fenced)) => vec![Step::Stop],
            // Neither an answer nor one that fits: nothing is guessed.
            None | Some(_) => vec![Step::Settle(number)],
        }
    }

    /// A store in a new generation has said which entities the zone owns, under which epochs. What was leaving has left.
    pub fn reasserted(&mut self, owned: &[(WorldEntityId, EntityEpoch)]) -> Vec<Step> {
        let mut steps = Vec::new();
        for departure in self.leaving.clone().into_values() {
            steps.extend(self.departed(&departure));
        }
        let owned: BTreeMap<WorldEntityId, EntityEpoch> = owned.iter().copied().collect();
        let mut lost: Vec<WorldEntityId> = Vec::new();
        for (entity, known) in &mut self.entities {
            match owned.get(entity) {
                Some(epoch) => known.epoch = *epoch,
                None => lost.push(*entity),
            }
        }
        for entity in lost {
            self.disown(entity);
            steps.push(Step::Disowned(entity));
        }
        steps
    }

    fn departed(&mut self, departure: &Departure) -> Vec<Step> {
        self.leaving.remove(&departure.number);
        let mut steps = Vec::with_capacity(departure.entities.len());
        for (entity, epoch, _) in &departure.entities {
            // It may be back already, under a higher epoch.
            if self.is_leaving(*entity, departure.number) {
                self.disown(*entity);
                steps.push(Step::Departed {
                    entity: *entity,
                    epoch: *epoch,
                    to: departure.to,
                });
            }
        }
        steps
    }

    fn resume(&mut self, departure: &Departure, now: Tick) -> Vec<Step> {
        self.leaving.remove(&departure.number);
        let entities = departure.entities.iter().map(|(entity, ..)| *entity);
        let group: Vec<WorldEntityId> = entities
            .filter(|entity| self.is_leaving(*entity, departure.number))
            .collect();
        self.put_off(&group, now);
        let mut steps = Vec::with_capacity(group.len());
        for entity in group {
            if let Some(owned) = self.entities.get_mut(&entity) {
                owned.standing = Standing::Simulated;
                steps.push(Step::Resume {
                    entity,
                    after: departure.after,
                });
            }
        }
        steps
    }

    fn is_leaving(&self, entity: WorldEntityId, number: TransferNumber) -> bool {
        self.standing(entity) == Some(Standing::Leaving(number))
    }

    fn put_off(&mut self, group: &[WorldEntityId], now: Tick) {
        for entity in group {
            if let Some(owned) = self.entities.get_mut(entity) {
                owned.retry_at = now + RETRY_AFTER_TICKS;
            }
        }
    }

    /// The entity and all that is joined to it, directly or not, in the order of their ids.
    fn group(&self, entity: WorldEntityId) -> Vec<WorldEntityId> {
        let mut group = BTreeSet::from([entity]);
        let mut open = vec![entity];
        while let Some(next) = open.pop() {
            for other in self.joints.get(&next).into_iter().flatten() {
                if group.insert(*other) {
                    open.push(*other);
                }
            }
        }
        group.into_iter().collect()
    }
}

#[cfg(test)]
mod tests;
