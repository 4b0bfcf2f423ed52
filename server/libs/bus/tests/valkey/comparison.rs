//! The scripts against the model, step by step, over any commands at all: also such as no zone would give.

use std::time::Duration;

use meridian_bus::Model;
use meridian_bus::valkey::{Scripts, ValkeyOptions};
use meridian_handoff::Allowance;
use meridian_handoff::script::{Command, Death, Done, Instance, Record, Transfer, TransferId};
use meridian_ids::{EntityEpoch, Generation, LeaseEpoch, PlayerId, Tick, WorldEntityId, ZoneId};
use proptest::prelude::*;

use crate::server;

const ZONES: u16 = 3;
/// Two minters' ids, of which those of the second sort first.
const ENTITIES: [u64; 4] = [1, 2, 9 << 32 | 1, 9 << 32 | 2];

/// Names by which commands mean what the store has: most of them fit.
#[derive(Clone, Debug)]
enum Step {
    Claim {
        zone: u16,
        name: bool,
        renews: bool,
    },
    Spawn {
        by: By,
        said: Said,
    },
    Retire {
        by: By,
        entities: Vec<Said>,
    },
    Checkpoint {
        by: By,
        said: Vec<Said>,
        died: Vec<Said>,
    },
    Transfer {
        by: By,
        number: u64,
        to: u16,
        said: Vec<Said>,
    },
    Settle {
        by: By,
        number: u64,
        said: Vec<Said>,
    },
    Accept {
        by: By,
        waiting: usize,
        said: Vec<Said>,
    },
    Assert {
        by: By,
        owned: Vec<Said>,
        departed: Vec<(u64, u16, Vec<Said>)>,
        retired: Vec<Said>,
    },
    Recall {
        by: By,
    },
    Pass {
        milliseconds: u64,
    },
    Restart,
    Forget,
}

/// An instance: a zone's newest or one before it, or one that never was. Of a zone by number, or of the one that has what it is about.
#[derive(Clone, Copy, Debug)]
struct By {
    zone: u16,
    owns: bool,
    back: usize,
    off: i64,
}

/// A record: of the entity's present epoch, or one that is off by so much.
#[derive(Clone, Copy, Debug)]
struct Said {
    entity: usize,
    off: i64,
    player: Option<u64>,
    after: u64,
}

fn by() -> impl Strategy<Value = By> {
    let back = prop_oneof![8 => Just(0usize), 2 => 1..4usize];
    let off = prop_oneof![20 => Just(0i64), 1 => -2i64..3, 1 => Just(1 << 32)];
    (0..ZONES, prop::bool::weighted(0.7), back, off).prop_map(|(zone, owns, back, off)| By { zone, owns, back, off })
}

fn said() -> impl Strategy<Value = Said> {
    let off = prop_oneof![8 => Just(0i64), 4 => Just(1), 1 => -2i64..4, 1 => Just(-(1i64 << 32))];
    let player = prop::option::of(0..3u64);
    (0..ENTITIES.len(), off, player, 0..4u64).prop_map(|(entity, off, player, after)| Said {
        entity,
        off,
        player,
        after,
    })
}

fn saids() -> impl Strategy<Value = Vec<Said>> {
    prop_oneof![3 => prop::collection::vec(said(), 1), 2 => prop::collection::vec(said(), 0..4)]
}

fn step() -> impl Strategy<Value = Step> {
    let departed = prop::collection::vec((0..4u64, 0..ZONES, saids()), 0..3);
    prop_oneof![
        3 => (0..ZONES, any::<bool>(), any::<bool>()).prop_map(|(zone, name, renews)| Step::Claim { zone, name, renews }),
        6 => (by(), said()).prop_map(|(by, said)| Step::Spawn { by, said }),
        2 => (by(), saids()).prop_map(|(by, entities)| Step::Retire { by, entities }),
        2 => (by(), saids(), saids()).prop_map(|(by, said, died)| Step::Checkpoint { by, said, died }),
        6 => (by(), 0..3u64, 0..ZONES, saids()).prop_map(|(by, number, to, said)| Step::Transfer { by, number, to, said }),
        3 => (by(), 0..3u64, saids()).prop_map(|(by, number, said)| Step::Settle { by, number, said }),
        4 => (by(), 0..3usize, saids()).prop_map(|(by, waiting, said)| Step::Accept { by, waiting, said }),
        3 => (by(), saids(), departed, saids())
            .prop_map(|(by, owned, departed, retired)| Step::Assert { by, owned, departed, retired }),
        1 => by().prop_map(|by| Step::Recall { by }),
        2 => prop_oneof![3 => 0..700u64, 1 => 1_900..2_100u64, 1 => 59_000..61_000u64].prop_map(|milliseconds| Step::Pass { milliseconds }),
        1 => Just(Step::Restart),
        1 => Just(Step::Forget),
    ]
}

fn death(said: &Said) -> Death {
    Death {
        entity: WorldEntityId(ENTITIES[said.entity]),
        player: PlayerId(said.player.unwrap_or_default()),
        tick: Tick(said.after),
    }
}

struct Both {
    model: Model,
    scripts: Scripts,
    now: Duration,
    /// All that each zone had, the newest last.
    leases: [Vec<LeaseEpoch>; ZONES as usize],
    /// What the store may fall back to.
    remembered: (Model, meridian_bus::valkey::Remembered),
}

impl Both {
    fn new() -> Self {
        let options = ValkeyOptions::new(server::shared().url(), server::world_name());
        let before = LeaseEpoch::new(Generation(3), 40);
        let mut scripts = Scripts::begin(&options, before).unwrap();
        let model = Model::new(before);
        let remembered = (model.clone(), scripts.remember().unwrap());
        let (now, leases) = (Duration::ZERO, std::array::from_fn(|_| vec![before]));
        Self {
            model,
            scripts,
            now,
            leases,
            remembered,
        }
    }

    /// The instance that does something to what is said.
    fn instance(&self, by: By, said: &[Said]) -> Instance {
        let owners = self.model.owners();
        let first = said.first().map(|said| WorldEntityId(ENTITIES[said.entity]));
        let owner = owners.iter().find(|(entity, ..)| by.owns && Some(*entity) == first);
        let zone = owner.map_or(ZoneId(by.zone), |(_, zone, ..)| *zone);
        let leases = &self.leases[usize::from(zone.0)];
        let lease = leases[leases.len().saturating_sub(1 + by.back)];
        Instance {
            zone,
            lease: LeaseEpoch(lease.0.wrapping_add_signed(by.off)),
        }
    }

    fn record(&self, said: Said) -> Record {
        let entity = WorldEntityId(ENTITIES[said.entity]);
        let owners = self.model.owners();
        let owner = owners.iter().find(|(owned, ..)| *owned == entity);
        let epoch = owner.map_or(
            EntityEpoch(1).in_generation(self.model.generation()),
            |(_, _, epoch, _)| *epoch,
        );
        Record {
            entity,
            epoch: EntityEpoch(epoch.0.wrapping_add_signed(said.off)),
            player: said.player.map(PlayerId),
            after: Tick(said.after),
            allowance: Allowance::full(Tick(0)),
            state: vec![said.after as u8, said.entity as u8],
            inputs: vec![(Tick(said.after), 1)],
        }
    }

    fn records(&self, said: &[Said]) -> Vec<Record> {
        said.iter().map(|said| self.record(*said)).collect()
    }

    fn entities(&self, said: &[Said]) -> Vec<(WorldEntityId, EntityEpoch)> {
        let records = self.records(said);
        records.iter().map(|record| (record.entity, record.epoch)).collect()
    }

    fn command(&self, step: &Step) -> Option<Command> {
        Some(match step {
            Step::Claim { zone, name, renews } => Command::ClaimZone {
                zone: ZoneId(*zone),
                name: if *name { "one" } else { "two" }.to_owned(),
                held: self.leases[usize::from(*zone)].last().copied().filter(|_| *renews),
            },
            Step::Spawn { by, said } => Command::Spawn {
                by: self.instance(*by, &[]),
                record: self.record(*said),
            },
            Step::Retire { by, entities } => Command::Retire {
                by: self.instance(*by, entities),
                entities: self.entities(entities),
                after: Tick(9),
            },
            Step::Checkpoint { by, said, died } => Command::Checkpoint {
                by: self.instance(*by, said),
                records: self.records(said),
                died: died.iter().map(death).collect(),
            },
            Step::Transfer { by, number, to, said } => Command::Transfer(self.transfer(*by, *number, *to, said)),
            Step::Settle { by, number, said } => Command::Settle {
                id: self.transfer(*by, *number, 0, said).id,
                entities: self.entities(said),
            },
            Step::Accept { by, waiting, said } => {
                let inbox = self.model.inbox(ZoneId(by.zone));
                let found = inbox.get(*waiting);
                Command::Accept {
                    by: self.instance(By { owns: false, ..*by }, &[]),
                    id: found.map_or_else(|| self.transfer(*by, 9, 0, &[]).id, |transfer| transfer.id),
                    entities: found.map_or_else(|| self.entities(said), Transfer::entities),
                }
            }
            Step::Assert {
                by,
                owned,
                departed,
                retired,
            } => Command::Assert {
                by: self.instance(*by, owned),
                name: "one".to_owned(),
                owned: self.records(owned),
                departed: departed
                    .iter()
                    .map(|(number, to, said)| self.transfer(*by, *number, *to, said))
                    .collect(),
                retired: self.entities(retired),
            },
            Step::Recall { by } => Command::Recall {
                by: self.instance(*by, &[]),
            },
            Step::Pass { .. } | Step::Restart | Step::Forget => return None,
        })
    }

    fn transfer(&self, by: By, number: u64, to: u16, said: &[Said]) -> Transfer {
        let id = TransferId {
            from: self.instance(by, said),
            number,
        };
        let (to, records) = (ZoneId(to), self.records(said));
        Transfer { id, to, records }
    }

    fn apply(&mut self, step: &Step) -> Result<(), TestCaseError> {
        if let Some(command) = self.command(step).filter(|command| !self.has_a_name_twice(command)) {
            let answer = self.model.execute(self.now, &command);
            prop_assert_eq!(
                &self.scripts.execute(self.now, &command).unwrap(),
                &answer,
                "{:?}",
                command
            );
            if let (Step::Claim { zone, .. }, Ok(Done::Claimed { lease, .. })) = (step, &answer) {
                self.leases[usize::from(*zone)].push(*lease);
            }
            if let (Command::Assert { by, .. }, Ok(Done::Asserted { lease, .. })) = (&command, &answer) {
                self.leases[usize::from(by.zone.0)].push(*lease);
            }
        }
        match step {
            Step::Pass { milliseconds } => {
                self.now += Duration::from_millis(*milliseconds);
                self.remembered = (self.model.clone(), self.scripts.remember().unwrap());
            }
            Step::Restart | Step::Forget => {
                let next = Generation(self.model.generation().0 + 1);
                if matches!(step, Step::Forget) {
                    self.model = self.remembered.0.clone();
                    self.scripts.lose_what_came_after(&self.remembered.1).unwrap();
                }
                self.model.restart(self.now, next);
                prop_assert_eq!(self.scripts.restart(self.now, next).unwrap(), next);
            }
            _ => {}
        }
        Ok(())
    }

    /// A transfer's name is never given to another one.
    fn has_a_name_twice(&self, command: &Command) -> bool {
        let Command::Transfer(transfer) = command else {
            return false;
        };
        let waiting = self.model.inbox(transfer.to);
        waiting
            .iter()
            .any(|other| other.id == transfer.id && other.entities() != transfer.entities())
    }

    fn compare(&mut self) -> Result<(), TestCaseError> {
        let dump = self.scripts.dump().unwrap();
        prop_assert_eq!(dump.generation, self.model.generation());
        prop_assert_eq!(&dump.owners, &self.model.owners());
        prop_assert_eq!(&dump.events, &self.model.clone().take_events());
        for zone in (0..ZONES).map(ZoneId) {
            let records: Vec<Record> = self.model.records(zone).cloned().collect();
            prop_assert_eq!(dump.records.get(&zone).cloned().unwrap_or_default(), records);
            let waiting = dump.inboxes.get(&zone).map_or(&[][..], Vec::as_slice);
            // What is void in an inbox is void in both; what is not is the same.
            prop_assert_eq!(waiting, self.model.inbox(zone));
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_script_does_what_the_model_does(steps in prop::collection::vec(step(), 1..70)) {
        let mut both = Both::new();
        for zone in 0..ZONES {
            both.apply(&Step::Claim { zone, name: true, renews: false })?;
        }
        for step in &steps {
            both.apply(step)?;
        }
        both.compare()?;
    }
}
