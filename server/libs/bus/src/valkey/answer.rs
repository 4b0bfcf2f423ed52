//! What scripts answer, read without trust: an answer that is not what it should be is an error, never a guess.

use meridian_events::envelope::EnvelopeError;
use meridian_handoff::script::{Command, Done, Record, Refusal, Transfer};
use meridian_ids::{EntityEpoch, Generation, LeaseEpoch, WorldEntityId, ZoneId};
use redis::Value;

use super::record::{Field, decode_entry, decode_record};
use super::{ValkeyError, words};

/// A script's answer to a command.
#[derive(Debug)]
pub(super) struct Answer {
    /// The generation that the store is in.
    pub(super) generation: Generation,
    pub(super) outcome: Result<Done, Refusal>,
    /// Records that the zone has and that cannot be read here.
    pub(super) unreadable: Vec<(WorldEntityId, EnvelopeError)>,
}

/// What an answer consists of, taken one by one.
pub(super) struct Parts(std::vec::IntoIter<Value>);

const NOT_A_LIST: ValkeyError = ValkeyError::Unreadable("something else than a list");
const ENDS_EARLY: ValkeyError = ValkeyError::Unreadable("a list that ends early");
const NOT_A_NUMBER: ValkeyError = ValkeyError::Unreadable("something else than a number");
const NOT_BYTES: ValkeyError = ValkeyError::Unreadable("something else than bytes");

impl Parts {
    pub(super) fn new(value: Value) -> Result<Self, ValkeyError> {
        match value {
            Value::Array(values) => Ok(Self(values.into_iter())),
            Value::ServerError(error) => Err(ValkeyError::from(redis::RedisError::from(error))),
            _ => Err(NOT_A_LIST),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.len() == 0
    }

    pub(super) fn value(&mut self) -> Result<Value, ValkeyError> {
        self.0.next().ok_or(ENDS_EARLY)
    }

    pub(super) fn list(&mut self) -> Result<Self, ValkeyError> {
        Self::new(self.value()?)
    }

    pub(super) fn bytes(&mut self) -> Result<Vec<u8>, ValkeyError> {
        match self.value()? {
            Value::BulkString(bytes) => Ok(bytes),
            Value::SimpleString(text) => Ok(text.into_bytes()),
            _ => Err(NOT_BYTES),
        }
    }

    pub(super) fn text(&mut self) -> Result<String, ValkeyError> {
        String::from_utf8(self.bytes()?).map_err(|_| NOT_BYTES)
    }

    /// A number in decimal digits, or as such.
    pub(super) fn number(&mut self) -> Result<u64, ValkeyError> {
        match self.value()? {
            Value::Int(number) => number.try_into().map_err(|_| NOT_A_NUMBER),
            Value::BulkString(bytes) => {
                let text = std::str::from_utf8(&bytes).map_err(|_| NOT_A_NUMBER)?;
                text.parse().map_err(|_| NOT_A_NUMBER)
            }
            _ => Err(NOT_A_NUMBER),
        }
    }

    fn long(&mut self) -> Result<u64, ValkeyError> {
        words::read_long(&self.bytes()?).ok_or(NOT_A_NUMBER)
    }

    fn zone(&mut self) -> Result<ZoneId, ValkeyError> {
        words::read_zone(&self.bytes()?).ok_or(NOT_A_NUMBER)
    }

    /// Entities, each with its epoch.
    fn entities(&mut self) -> Result<Vec<(WorldEntityId, EntityEpoch)>, ValkeyError> {
        let mut list = self.list()?;
        let mut entities = Vec::new();
        while !list.is_empty() {
            entities.push((WorldEntityId(list.long()?), EntityEpoch(list.long()?)));
        }
        Ok(entities)
    }

    /// Entries of a stream: each the name of the entry, and its fields, or none for one that was deleted.
    pub(super) fn entries(&mut self) -> Result<Vec<(String, Vec<Field>)>, ValkeyError> {
        let mut list = self.list()?;
        let mut entries = Vec::new();
        while !list.is_empty() {
            let entry = list.value()?;
            if entry == Value::Nil {
                continue;
            }
            let mut entry = Self::new(entry)?;
            let name = entry.text()?;
            entries.push((name, entry.fields()?));
        }
        Ok(entries)
    }

    fn fields(&mut self) -> Result<Vec<Field>, ValkeyError> {
        let value = self.value()?;
        if value == Value::Nil {
            return Ok(Vec::new());
        }
        let mut parts = Self::new(value)?;
        let mut fields = Vec::new();
        while !parts.is_empty() {
            fields.push((parts.bytes()?, parts.bytes()?));
        }
        Ok(fields)
    }

    /// Records: entity, epoch and bytes of each. In the order of their entities; those that cannot be read go apart.
    pub(super) fn records(
        &mut self,
        unreadable: &mut Vec<(WorldEntityId, EnvelopeError)>,
    ) -> Result<Vec<Record>, ValkeyError> {
        let mut list = self.list()?;
        let mut records = Vec::new();
        while !list.is_empty() {
            let (entity, epoch) = (WorldEntityId(list.long()?), EntityEpoch(list.long()?));
            match decode_record(entity, epoch, &list.bytes()?) {
                Ok(record) => records.push(record),
                Err(error) => unreadable.push((entity, error)),
            }
        }
        records.sort_unstable_by_key(|record| record.entity);
        Ok(records)
    }

    /// What waits for a zone. What cannot be read is left to the inbox's reader, which says so.
    pub(super) fn inbox(&mut self, zone: ZoneId) -> Result<Vec<Transfer>, ValkeyError> {
        let entries = self.entries()?;
        Ok(entries
            .iter()
            .filter_map(|(_, fields)| decode_entry(zone, fields).ok())
            .collect())
    }
}

impl Answer {
    /// Reads the answer to a command.
    ///
    /// # Errors
    ///
    /// If the script failed, or says what no script of ours says.
    pub(super) fn read(command: &Command, value: Value) -> Result<Self, ValkeyError> {
        let mut parts = Parts::new(value)?;
        let generation = words::read_long(&[b"00000000", parts.bytes()?.as_slice()].concat());
        let generation = generation
            .and_then(|generation| generation.try_into().ok())
            .map(Generation);
        let generation = generation.ok_or(NOT_A_NUMBER)?;
        let mut unreadable = Vec::new();
        let outcome = match parts.text()?.as_str() {
            "fenced" => Err(Refusal::Fenced),
            "taken" => Err(Refusal::Taken),
            "new_generation" => Err(Refusal::NewGeneration(generation)),
            "settling" => Err(Refusal::Settling),
            "not_owner" => Err(Refusal::NotOwner(WorldEntityId(parts.long()?))),
            "no_receiver" => Err(Refusal::NoReceiver),
            "inbox_full" => Err(Refusal::InboxFull),
            "no_transfer" => Err(Refusal::NoTransfer),
            done => Ok(read_done(done, command, &mut parts, &mut unreadable)?),
        };
        Ok(Self {
            generation,
            outcome,
            unreadable,
        })
    }
}

fn read_done(
    done: &str,
    command: &Command,
    parts: &mut Parts,
    unreadable: &mut Vec<(WorldEntityId, EnvelopeError)>,
) -> Result<Done, ValkeyError> {
    Ok(match (done, command) {
        ("claimed", Command::ClaimZone { zone, .. }) => Done::Claimed {
            lease: LeaseEpoch(parts.long()?),
            records: parts.records(unreadable)?,
            inbox: parts.inbox(*zone)?,
        },
        ("asserted", Command::Assert { .. }) => Done::Asserted {
            lease: LeaseEpoch(parts.long()?),
            owned: parts.entities()?,
        },
        ("recalled", Command::Recall { .. }) => Done::Recalled {
            records: parts.records(unreadable)?,
        },
        ("spawned", Command::Spawn { .. }) => Done::Spawned {
            epoch: EntityEpoch(parts.long()?),
        },
        ("exists", Command::Spawn { .. }) => Done::Exists {
            entity: WorldEntityId(parts.long()?),
            zone: parts.zone()?,
        },
        ("retired", Command::Retire { .. }) => Done::Retired,
        ("checkpointed", Command::Checkpoint { .. }) => Done::Checkpointed,
        ("transferred", Command::Transfer(_) | Command::Settle { .. }) => Done::Transferred,
        ("kept", Command::Transfer(_) | Command::Settle { .. }) => Done::Kept,
        ("accepted", Command::Accept { .. }) => Done::Accepted {
            owned: parts.entities()?,
        },
        _ => return Err(ValkeyError::Unreadable("the answer to another question")),
    })
}

#[cfg(test)]
mod tests {
    use meridian_handoff::script::{Instance, TransferId};
    use meridian_ids::Tick;
    use proptest::prelude::*;

    use super::*;

    fn commands() -> Vec<Command> {
        let by = Instance {
            zone: ZoneId(0),
            lease: LeaseEpoch(1),
        };
        let id = TransferId { from: by, number: 1 };
        let (name, entities) = (String::new(), Vec::new);
        vec![
            Command::ClaimZone {
                zone: ZoneId(0),
                name: name.clone(),
                held: None,
            },
            Command::Assert {
                by,
                name,
                owned: vec![],
                departed: vec![],
                retired: vec![],
            },
            Command::Recall { by },
            Command::Retire {
                by,
                entities: entities(),
                after: Tick(0),
            },
            Command::Transfer(Transfer {
                id,
                to: ZoneId(0),
                records: vec![],
            }),
            Command::Accept {
                by,
                id,
                entities: entities(),
            },
        ]
    }

    fn value() -> impl Strategy<Value = Value> {
        let word = prop::sample::select(vec![
            "00000001",
            "0000000000000001",
            "claimed",
            "asserted",
            "recalled",
            "spawned",
            "exists",
            "accepted",
            "not_owner",
            "e",
            "",
        ]);
        let leaf = prop_oneof![
            Just(Value::Nil),
            any::<i64>().prop_map(Value::Int),
            prop::collection::vec(any::<u8>(), 0..40).prop_map(Value::BulkString),
            word.prop_map(|word| Value::BulkString(word.as_bytes().to_vec())),
            Just(Value::Okay),
        ];
        leaf.prop_recursive(4, 48, 8, |inner| {
            prop::collection::vec(inner, 0..8).prop_map(Value::Array)
        })
    }

    #[test]
    fn an_answer_to_another_question_is_none() {
        let parts = ["00000001", "retired"].map(|text| Value::BulkString(text.into()));
        let [claim, .., accept] = commands().try_into().ok().map(|all: [Command; 6]| all).unwrap();
        for command in [claim, accept] {
            let read = Answer::read(&command, Value::Array(parts.to_vec()));
            assert!(matches!(read, Err(ValkeyError::Unreadable(_))), "{read:?}");
        }
        let read = Answer::read(&commands()[3], Value::Array(parts.to_vec())).unwrap();
        assert_eq!((read.generation, read.outcome), (Generation(1), Ok(Done::Retired)));
    }

    proptest! {
        #[test]
        fn no_answer_does_harm(answers in prop::collection::vec(value(), 6), tail in prop::collection::vec(value(), 0..4), at in 0usize..6) {
            for (command, answer) in commands().iter().zip(answers) {
                let _ = Answer::read(command, answer);
            }
            let words = ["claimed", "asserted", "recalled", "retired", "transferred", "accepted"];
            let mut parts = ["00000001", words[at]].map(|text| Value::BulkString(text.into())).to_vec();
            parts.extend(tail);
            let _ = Answer::read(&commands()[at], Value::Array(parts));
        }
    }
}
