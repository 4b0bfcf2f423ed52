//! The scripts by hand, one at a time, in a time and lives of the store that the caller makes up: to compare them with the model step by step, and
//! to play what a store may do to a world. Blocks; for tests and tools, never for a zone.

use std::collections::BTreeMap;
use std::time::Duration;

use meridian_events::{Event, envelope};
use meridian_handoff::script::{Command, Done, Record, Refusal, Transfer};
use meridian_ids::{EntityEpoch, Generation, LeaseEpoch, WorldEntityId, ZoneId};
use redis::{Connection, Value};

use super::answer::{Answer, Parts};
use super::command::{Moment, microseconds};
use super::dead::envelope_of;
use super::record::Field;
use super::scripts::ScriptName;
use super::store::{Store, checked, nonce};
use super::{ValkeyError, ValkeyOptions, words};

/// A world whose time does not pass by itself.
pub struct Scripts {
    store: Store,
    connection: Connection,
    run: String,
}

/// Everything that a world's commands have written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dump {
    /// The generation that the store is in.
    pub generation: Generation,
    /// As `Model::owners` tells them.
    pub owners: Vec<(WorldEntityId, ZoneId, EntityEpoch, bool)>,
    /// As `Model::records` tells them; of zones that have any.
    pub records: BTreeMap<ZoneId, Vec<Record>>,
    /// As `Model::inbox` tells them; of zones whose inbox is not empty.
    pub inboxes: BTreeMap<ZoneId, Vec<Transfer>>,
    /// What services were told, all of it.
    pub events: Vec<Event>,
}

/// A world as it was at some time: keys and what they held, as the store serialises it.
#[derive(Clone, Debug, Default)]
pub struct Remembered(Vec<(String, Vec<u8>)>);

impl Scripts {
    /// Begins an empty world under the name that `options` give; one that is there is forgotten. As in `Model::new(before)`, each zone's first
    /// instance gets the lease epoch after `before`, and its time starts at 0.
    ///
    /// # Errors
    ///
    /// If the store is not to be had.
    pub fn begin(options: &ValkeyOptions, before: LeaseEpoch) -> Result<Self, ValkeyError> {
        let store = Store::new(options)?;
        let connection = store.open_blocking()?;
        let run = String::new();
        let mut scripts = Self { store, connection, run };
        scripts.forget_everything(before)?;
        Ok(scripts)
    }

    /// Begins anew, with an empty world.
    ///
    /// # Errors
    ///
    /// If the store does not do it.
    pub fn forget_everything(&mut self, before: LeaseEpoch) -> Result<(), ValkeyError> {
        self.clear()?;
        self.run = words::long(nonce());
        let run = self.run.clone();
        let generation = format!("{:08x}", before.generation().0);
        let facts = [
            ("layout", super::LAYOUT),
            ("manual", "0"),
            ("manual_run", run.as_str()),
            ("manual_generation", "0"),
            ("before", &words::long(before.0)),
            ("run", run.as_str()),
            ("generation", &generation),
            ("settled_at", "0"),
        ];
        self.write(&facts)
    }

    /// Does a command at `now`, in whole microseconds, since any origin; the world's time goes on from there.
    ///
    /// # Errors
    ///
    /// If it is not known what came of it; a refusal is an answer.
    pub fn execute(&mut self, now: Duration, command: &Command) -> Result<Result<Done, Refusal>, ValkeyError> {
        let call = self.store.terms.command(&self.moment(now), command);
        let call = call.map_err(|error| ValkeyError::TooLong(error.to_string()))?;
        let mut pipeline = redis::pipe();
        let meta = self.store.keys().meta();
        pipeline
            .cmd("HSET")
            .arg(meta)
            .arg("manual")
            .arg(microseconds(now))
            .ignore();
        pipeline.add_command(call.call);
        let (answer,) = pipeline.query::<(Value,)>(&mut self.connection)?;
        Ok(Answer::read(command, answer)?.outcome)
    }

    /// Lets time pass for all who are connected to the world.
    ///
    /// # Errors
    ///
    /// If the store does not do it.
    pub fn pass_time(&mut self, duration: Duration) -> Result<(), ValkeyError> {
        let mut call = redis::cmd("HINCRBY");
        call.arg(self.store.keys().meta())
            .arg("manual")
            .arg(microseconds(duration));
        Ok(call.exec(&mut self.connection)?)
    }

    /// The store is restarted at `now` and begins at least this generation, as `Model::restart` does.
    ///
    /// # Errors
    ///
    /// If the store does not do it.
    pub fn restart(&mut self, now: Duration, generation: Generation) -> Result<Generation, ValkeyError> {
        self.run = words::long(nonce());
        let (now_us, generation) = (microseconds(now).to_string(), generation.0.to_string());
        let run = self.run.clone();
        self.write(&[
            ("manual", &now_us),
            ("manual_run", &run),
            ("manual_generation", &generation),
        ])?;
        let call = self.store.terms.begin(ScriptName::Begin, &self.moment(now));
        let mut parts = Parts::new(call.query(&mut self.connection)?)?;
        let generation = u32::from_str_radix(&parts.text()?, 16);
        generation
            .map(Generation)
            .map_err(|_| ValkeyError::Unreadable("a generation that is none"))
    }

    /// The world as it is now.
    ///
    /// # Errors
    ///
    /// If the store does not tell.
    pub fn remember(&mut self) -> Result<Remembered, ValkeyError> {
        let mut remembered = Vec::new();
        for key in self.keys()? {
            let held: Option<Vec<u8>> = redis::cmd("DUMP").arg(&key).query(&mut self.connection)?;
            remembered.extend(held.map(|held| (key, held)));
        }
        Ok(Remembered(remembered))
    }

    /// The store has lost everything since `remembered`, and begins another life; its time does not go back.
    ///
    /// # Errors
    ///
    /// If the store does not do it.
    pub fn lose_what_came_after(&mut self, remembered: &Remembered) -> Result<(), ValkeyError> {
        let meta = self.store.keys().meta();
        let now: String = redis::cmd("HGET")
            .arg(&meta)
            .arg("manual")
            .query(&mut self.connection)?;
        self.run = words::long(nonce());
        let mut pipeline = redis::pipe();
        pipeline.atomic();
        for key in self.keys()? {
            pipeline.cmd("DEL").arg(key);
        }
        for (key, held) in &remembered.0 {
            pipeline.cmd("RESTORE").arg(key).arg(0).arg(held);
        }
        pipeline
            .cmd("HSET")
            .arg(&meta)
            .arg("manual")
            .arg(now)
            .arg("manual_run")
            .arg(&self.run);
        Ok(pipeline.exec(&mut self.connection)?)
    }

    /// Everything that the world's commands have written.
    ///
    /// # Errors
    ///
    /// If the store does not tell, or holds something that cannot be read.
    pub fn dump(&mut self) -> Result<Dump, ValkeyError> {
        let mut dump = Dump {
            generation: self.generation()?,
            owners: self.owners()?,
            events: self.events()?,
            ..Dump::default()
        };
        for key in self.keys()? {
            if let Some(zone) = self.store.keys().zone_of(&key, "entities") {
                let records = self.records(zone, &dump.owners)?;
                dump.records.insert(zone, records);
            }
            if let Some(zone) = self.store.keys().zone_of(&key, "inbox") {
                let call = redis::cmd("XRANGE").arg(&key).arg("-").arg("+").take();
                let entries = Value::Array(vec![checked(call.query(&mut self.connection)?)?]);
                let waiting = Parts::new(entries)?.inbox(zone)?;
                if !waiting.is_empty() {
                    dump.inboxes.insert(zone, waiting);
                }
            }
        }
        Ok(dump)
    }

    fn generation(&mut self) -> Result<Generation, ValkeyError> {
        let call = redis::cmd("HGET")
            .arg(self.store.keys().meta())
            .arg("generation")
            .take();
        let generation: Option<String> = call.query(&mut self.connection)?;
        let generation = generation.and_then(|generation| u32::from_str_radix(&generation, 16).ok());
        generation
            .map(Generation)
            .ok_or(ValkeyError::Unreadable("a generation that is none"))
    }

    fn owners(&mut self) -> Result<Vec<(WorldEntityId, ZoneId, EntityEpoch, bool)>, ValkeyError> {
        let call = redis::cmd("HGETALL").arg(self.store.keys().owner()).take();
        let owners: BTreeMap<Vec<u8>, Vec<u8>> = call.query(&mut self.connection)?;
        let read = |(entity, owner): (Vec<u8>, Vec<u8>)| {
            let (zone, rest) = owner.split_at_checked(4)?;
            let (epoch, rest) = rest.split_at_checked(words::LONG_DIGITS)?;
            let entity = WorldEntityId(words::read_long(&entity)?);
            let epoch = EntityEpoch(words::read_long(epoch)?);
            Some((entity, words::read_zone(zone)?, epoch, rest.first() == Some(&b'1')))
        };
        let owners: Option<Vec<_>> = owners.into_iter().map(read).collect();
        owners.ok_or(ValkeyError::Unreadable("an owner that is none"))
    }

    fn events(&mut self) -> Result<Vec<Event>, ValkeyError> {
        let call = redis::cmd("XRANGE")
            .arg(self.store.keys().events())
            .arg("-")
            .arg("+")
            .take();
        let entries = Value::Array(vec![checked(call.query(&mut self.connection)?)?]);
        let read = |(_, fields): (String, Vec<Field>)| {
            let event = envelope_of(&fields).and_then(envelope::decode::<Event>);
            event.map_err(|_| ValkeyError::Unreadable("an event that is none"))
        };
        let entries = Parts::new(entries)?.entries()?.into_iter();
        entries.map(|entry| Ok(read(entry)?.body)).collect()
    }

    fn records(
        &mut self,
        zone: ZoneId,
        owners: &[(WorldEntityId, ZoneId, EntityEpoch, bool)],
    ) -> Result<Vec<Record>, ValkeyError> {
        let call = redis::cmd("HGETALL").arg(self.store.keys().entities(zone)).take();
        let records: BTreeMap<Vec<u8>, Vec<u8>> = call.query(&mut self.connection)?;
        let mut parts = Vec::new();
        for (entity, record) in records {
            let id = words::read_long(&entity).map(WorldEntityId);
            let owner = owners.iter().find(|(owned, ..)| Some(*owned) == id);
            let epoch = owner.map(|(_, _, epoch, _)| words::long(epoch.0));
            let epoch = epoch.ok_or(ValkeyError::Unreadable("a record without an owner"))?;
            parts.extend([entity, epoch.into_bytes(), record].map(Value::BulkString));
        }
        let mut unreadable = Vec::new();
        let records = Parts::new(Value::Array(vec![Value::Array(parts)]))?.records(&mut unreadable)?;
        if unreadable.is_empty() {
            Ok(records)
        } else {
            Err(ValkeyError::Unreadable("a record that is none"))
        }
    }

    fn moment(&self, now: Duration) -> Moment {
        Moment {
            now: Some(now),
            run: Some(self.run.clone()),
        }
    }

    fn write(&mut self, facts: &[(&str, &str)]) -> Result<(), ValkeyError> {
        let mut call = redis::cmd("HSET");
        call.arg(self.store.keys().meta());
        for (fact, value) in facts {
            call.arg(*fact).arg(*value);
        }
        Ok(call.exec(&mut self.connection)?)
    }

    /// All keys of the world. Looks at every key of the store: for tests.
    fn keys(&mut self) -> Result<Vec<String>, ValkeyError> {
        let call = redis::cmd("KEYS").arg(self.store.keys().pattern()).take();
        Ok(call.query(&mut self.connection)?)
    }

    fn clear(&mut self) -> Result<(), ValkeyError> {
        let keys = self.keys()?;
        if keys.is_empty() {
            return Ok(());
        }
        Ok(redis::cmd("DEL").arg(keys).exec(&mut self.connection)?)
    }
}
