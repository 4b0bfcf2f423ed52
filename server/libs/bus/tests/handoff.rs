//! Zones that hand entities over through the durable model, while commands are delayed, answers are lost and zones die: no
//! entity is ever in two places or in none, and no two zones simulate it for the same tick.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use meridian_bus::Model;
use meridian_handoff::script::{Command, Done, Instance, Record, Refusal, Transfer, TransferId};
use meridian_handoff::{Allowance, Arrival, Departure, Handoff, Standing, Step, TransferNumber, Verdict};
use meridian_ids::{EntityEpoch, Tick, TickRate, WorldEntityId, ZoneId};
use proptest::prelude::*;

const ZONES: u16 = 3;
const ENTITIES: u64 = 5;

/// What the fates do in one tick.
#[derive(Clone, Debug)]
enum Fate {
    /// An entity wants to go to a zone.
    Cross(u64, u16),
    /// The oldest commands of a zone reach the store, and are answered.
    Deliver(u16, u8),
    /// The next command of a zone reaches the store, but its answer does not come back.
    LoseAnswer(u16),
    /// The next command of a zone is held up: its sender hears that nobody knows, and it arrives much later or never.
    HoldUp(u16),
    /// A command that was held up arrives.
    Straggle(u8),
    /// A zone dies, and a new instance takes its place.
    Restart(u16),
    /// A zone writes its entities down.
    Checkpoint(u16),
    /// A zone takes one of its entities out of the world.
    Retire(u16, u64),
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        6 => (0..ENTITIES, 0..ZONES).prop_map(|(entity, zone)| Fate::Cross(entity, zone)),
        8 => (0..ZONES, 1u8..4).prop_map(|(zone, count)| Fate::Deliver(zone, count)),
        2 => (0..ZONES).prop_map(Fate::LoseAnswer),
        2 => (0..ZONES).prop_map(Fate::HoldUp),
        2 => any::<u8>().prop_map(Fate::Straggle),
        1 => (0..ZONES).prop_map(Fate::Restart),
        2 => (0..ZONES).prop_map(Fate::Checkpoint),
        1 => (0..ZONES, 0..ENTITIES).prop_map(|(zone, entity)| Fate::Retire(zone, entity)),
    ]
}

/// One instance of a zone: what the role does, without a simulation.
struct Zone {
    instance: Instance,
    handoff: Handoff,
    /// The tick that each entity's state is the one after.
    after: BTreeMap<WorldEntityId, Tick>,
    queue: VecDeque<Command>,
    /// What it has asked to accept.
    asked: HashMap<TransferId, Vec<Record>>,
    stopped: bool,
}

struct World {
    model: Model,
    zones: Vec<Zone>,
    now: Tick,
    stragglers: Vec<Command>,
    /// Who simulated which tick of which entity.
    simulated: HashMap<(WorldEntityId, Tick), ZoneId>,
    epochs: HashMap<WorldEntityId, EntityEpoch>,
    retired: Vec<WorldEntityId>,
}

fn record(entity: WorldEntityId, epoch: EntityEpoch, allowance: Allowance, after: Tick) -> Record {
    Record {
        entity,
        epoch,
        player: None,
        after,
        allowance,
        state: Vec::new(),
        inputs: Vec::new(),
    }
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            model: Model::default(),
            zones: Vec::new(),
            now: Tick(100),
            stragglers: Vec::new(),
            simulated: HashMap::new(),
            epochs: HashMap::new(),
            retired: Vec::new(),
        };
        for zone in 0..ZONES {
            let zone = world.claim(ZoneId(zone));
            world.zones.push(zone);
        }
        for id in 0..ENTITIES {
            let zone = &mut world.zones[(id % u64::from(ZONES)) as usize];
            let entity = WorldEntityId(id);
            let new = record(entity, EntityEpoch(1), Allowance::full(Tick(0)), world.now);
            let spawn = Command::Spawn {
                by: zone.instance,
                record: new.clone(),
            };
            assert_eq!(
                world.model.execute(Duration::ZERO, &spawn),
                Ok(Done::Spawned { epoch: EntityEpoch(1) })
            );
            zone.adopt(&new);
        }
        world
    }

    /// A new instance of a zone, with what its records and its inbox hold.
    fn claim(&mut self, zone: ZoneId) -> Zone {
        let claim = Command::ClaimZone {
            zone,
            name: "one".to_owned(),
            held: None,
        };
        let claimed = self.model.execute(Duration::ZERO, &claim);
        let Ok(Done::Claimed { lease, records, .. }) = claimed else {
            unreachable!("a new instance is never refused, not even with {claimed:?}");
        };
        let mut claimed = Zone {
            instance: Instance { zone, lease },
            handoff: Handoff::new(TickRate::default()),
            after: BTreeMap::new(),
            queue: VecDeque::new(),
            asked: HashMap::new(),
            stopped: false,
        };
        records.iter().for_each(|record| claimed.adopt(record));
        claimed
    }

    fn execute(&mut self, command: &Command) -> Result<Done, Refusal> {
        // Leases never end here: time stands still for them.
        self.model.execute(Duration::ZERO, command)
    }

    fn happen(&mut self, fate: &Fate) {
        match *fate {
            Fate::Cross(entity, to) => self.cross(WorldEntityId(entity), ZoneId(to)),
            Fate::Deliver(zone, count) => (0..count).for_each(|_| self.deliver(zone, true)),
            Fate::LoseAnswer(zone) => self.deliver(zone, false),
            Fate::HoldUp(zone) => {
                if let Some(command) = self.zones[usize::from(zone)].queue.pop_front() {
                    self.stragglers.push(command.clone());
                    self.hear(zone, &command, None);
                }
            }
            Fate::Straggle(which) => {
                if !self.stragglers.is_empty() {
                    let index = usize::from(which) % self.stragglers.len();
                    let command = self.stragglers.swap_remove(index);
                    let _ = self.execute(&command);
                }
            }
            Fate::Restart(zone) => {
                let old = &mut self.zones[usize::from(zone)];
                // What it had sent may still arrive.
                self.stragglers.extend(old.queue.drain(..));
                let claimed = self.claim(ZoneId(zone));
                self.zones[usize::from(zone)] = claimed;
            }
            Fate::Checkpoint(zone) => self.zones[usize::from(zone)].checkpoint(),
            Fate::Retire(zone, entity) => {
                let (zone, entity) = (&mut self.zones[usize::from(zone)], WorldEntityId(entity));
                // Only at once: this test's zones do not wait for the answer.
                if zone.queue.is_empty()
                    && let Some(epoch) = zone.handoff.retire(entity)
                {
                    zone.after.remove(&entity);
                    let retire = Command::Retire {
                        by: zone.instance,
                        entities: vec![(entity, epoch)],
                    };
                    assert_eq!(self.execute(&retire), Ok(Done::Retired));
                    self.retired.push(entity);
                }
            }
        }
        self.tick();
        self.check();
    }

    fn cross(&mut self, entity: WorldEntityId, to: ZoneId) {
        let owner = self
            .zones
            .iter_mut()
            .find(|zone| zone.handoff.standing(entity).is_some());
        if let Some(zone) = owner.filter(|zone| zone.instance.zone != to && !zone.stopped) {
            let after = zone.after.get(&entity).copied().unwrap_or(self.now);
            if let Verdict::Leave(departure) = zone.handoff.cross(entity, to, after) {
                zone.send_transfer(&departure);
            }
        }
    }

    /// The store does a zone's next command; the zone hears the answer, or that there is none.
    fn deliver(&mut self, zone: u16, answered: bool) {
        if let Some(command) = self.zones[usize::from(zone)].queue.pop_front() {
            let answer = self.execute(&command);
            self.hear(zone, &command, answered.then_some(answer));
        }
        let waiting: Vec<Transfer> = self.model.inbox(ZoneId(zone)).to_vec();
        let zone = &mut self.zones[usize::from(zone)];
        for transfer in waiting {
            zone.ask_for(&transfer);
        }
    }

    fn hear(&mut self, zone: u16, command: &Command, answer: Option<Result<Done, Refusal>>) {
        let now = self.now;
        let zone = &mut self.zones[usize::from(zone)];
        match command {
            Command::Transfer(Transfer { id, .. }) | Command::Settle { id, .. } => {
                let steps = zone.handoff.answered(id.number, answer, now);
                steps.into_iter().for_each(|step| zone.take_step(step));
            }
            Command::Accept { id, .. } => match answer {
                Some(answer) => {
                    assert!(
                        matches!(answer, Ok(Done::Accepted { .. })),
                        "what was in the inbox is accepted"
                    );
                    let records = zone.asked.remove(id).unwrap_or_default();
                    records.iter().for_each(|record| zone.adopt(record));
                }
                // Accepting twice is accepting once.
                None => zone.queue.push_back(command.clone()),
            },
            _ => {}
        }
    }

    /// Every zone simulates what it owns, up to the world's tick.
    fn tick(&mut self) {
        self.now = self.now.next();
        for zone in self.zones.iter_mut().filter(|zone| !zone.stopped) {
            let id = zone.instance.zone;
            for (entity, after) in &mut zone.after {
                if zone.handoff.standing(*entity) != Some(Standing::Simulated) {
                    continue;
                }
                let Arrival::CatchUp(behind) = Arrival::new(*after, self.now) else {
                    continue;
                };
                for tick in (0..=behind).map(|n| after.next() + n) {
                    let first = *self.simulated.entry((*entity, tick)).or_insert(id);
                    assert_eq!(first, id, "{entity} is simulated by two zones in {tick}");
                }
                *after = self.now;
            }
        }
    }

    fn check(&mut self) {
        for entity in (0..ENTITIES).map(WorldEntityId) {
            let places = self.model.places(entity);
            let expected = usize::from(!self.retired.contains(&entity));
            assert_eq!(places.len(), expected, "{entity} is in {places:?}");
            for (_, epoch) in places {
                let known = self.epochs.entry(entity).or_default();
                assert!(*known <= epoch, "the epoch of {entity} went back");
                *known = epoch;
            }
            let simulating = self
                .zones
                .iter()
                .filter(|zone| !zone.stopped && zone.handoff.standing(entity) == Some(Standing::Simulated));
            assert!(simulating.count() <= 1, "{entity} is simulated twice");
        }
    }

    /// No more faults: everything is delivered and answered, until nothing changes.
    fn settle(&mut self) {
        for command in std::mem::take(&mut self.stragglers) {
            let _ = self.execute(&command);
        }
        for _ in 0..8 {
            for zone in 0..ZONES {
                while !self.zones[usize::from(zone)].queue.is_empty() {
                    self.deliver(zone, true);
                }
                self.deliver(zone, true);
            }
            self.tick();
            self.check();
        }
    }
}

impl Zone {
    fn adopt(&mut self, record: &Record) {
        if self
            .handoff
            .epoch(record.entity)
            .is_none_or(|known| known < record.epoch)
        {
            self.handoff.own(record.entity, record.epoch, record.allowance);
            self.after.insert(record.entity, record.after);
        }
    }

    fn send_transfer(&mut self, departure: &Departure) {
        let records = departure
            .entities
            .iter()
            .map(|(entity, epoch, allowance)| record(*entity, *epoch, *allowance, departure.after));
        self.queue.push_back(Command::Transfer(Transfer {
            id: self.transfer_id(departure.number),
            to: departure.to,
            records: records.collect(),
        }));
    }

    fn transfer_id(&self, number: TransferNumber) -> TransferId {
        TransferId {
            from: self.instance,
            number,
        }
    }

    fn take_step(&mut self, step: Step) {
        match step {
            Step::Departed { entity, .. } | Step::Disowned(entity) => {
                self.after.remove(&entity);
            }
            Step::Resume { entity, after } => {
                self.after.insert(entity, after);
            }
            Step::Settle(number) => {
                let leaving = self.handoff.leaving().find(|departure| departure.number == number);
                let entities = leaving.expect("asked of what is leaving").entities.iter();
                let entities = entities.map(|(entity, epoch, _)| (*entity, *epoch)).collect();
                let id = self.transfer_id(number);
                self.queue.push_back(Command::Settle { id, entities });
            }
            Step::Stop => self.stopped = true,
        }
    }

    fn ask_for(&mut self, transfer: &Transfer) {
        if self.asked.insert(transfer.id, transfer.records.clone()).is_none() {
            self.queue.push_back(Command::Accept {
                by: self.instance,
                id: transfer.id,
                entities: transfer.entities(),
            });
        }
    }

    fn checkpoint(&mut self) {
        let records = self.after.iter().filter_map(|(entity, after)| {
            let (epoch, allowance) = (self.handoff.epoch(*entity)?, self.handoff.allowance(*entity)?);
            let simulated = self.handoff.standing(*entity) == Some(Standing::Simulated);
            simulated.then(|| record(*entity, epoch, allowance, *after))
        });
        let records = records.collect();
        let by = self.instance;
        self.queue.push_back(Command::Checkpoint { by, records });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_happens_an_entity_has_one_place_and_one_simulator(
        fates in proptest::collection::vec(fate(), 1..160)
    ) {
        let mut world = World::new();
        for fate in &fates {
            world.happen(fate);
        }
        world.settle();
        for entity in (0..ENTITIES).map(WorldEntityId).filter(|entity| !world.retired.contains(entity)) {
            let simulating: Vec<ZoneId> = world
                .zones
                .iter()
                .filter(|zone| zone.handoff.standing(entity) == Some(Standing::Simulated))
                .map(|zone| zone.instance.zone)
                .collect();
            prop_assert_eq!(simulating.len(), 1, "{} is simulated by {:?} in the end", entity, simulating);
        }
    }
}
