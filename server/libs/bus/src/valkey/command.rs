//! Commands of zones as calls of scripts.

use std::time::Duration;

use meridian_events::Event;
use meridian_events::envelope::{self, EnvelopeError};
use meridian_handoff::script::{Command, Instance, Record, Transfer};
use meridian_ids::{EntityEpoch, Tick, WorldEntityId};
use redis::Cmd;

use super::keys::Keys;
use super::record::{encode_head, encode_record};
use super::scripts::{ScriptName, call};
use super::words;
use crate::model::{INBOX_MAX, TOMBSTONE_KEPT};
use crate::told;

/// What every command tells its script beside itself.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) keys: Keys,
    pub(super) lease_ttl: Duration,
    pub(super) settling: Duration,
}

/// The time and the store's life, in worlds with manual time; others do not listen to it.
#[derive(Clone, Debug, Default)]
pub(super) struct Moment {
    pub(super) now: Option<Duration>,
    pub(super) run: Option<String>,
}

/// Records that a command is sent without, and why.
pub(super) type LeftOut = Vec<(WorldEntityId, EnvelopeError)>;

/// A command as it is sent.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) call: Cmd,
    pub(super) left_out: LeftOut,
}

pub(super) fn microseconds(duration: Duration) -> u64 {
    duration.as_micros().try_into().unwrap_or(u64::MAX)
}

impl Terms {
    pub(super) fn begin(&self, name: ScriptName, moment: &Moment) -> Cmd {
        let mut call = call(name, &[self.keys.meta()]);
        let now = moment.now.map(|now| microseconds(now).to_string());
        call.arg(now.unwrap_or_default())
            .arg(moment.run.as_deref().unwrap_or_default())
            .arg(microseconds(self.lease_ttl))
            .arg(microseconds(self.settling))
            .arg(microseconds(TOMBSTONE_KEPT))
            .arg(INBOX_MAX);
        call
    }

    /// The call that does a command. A record that would not be read again is left out of states and assertions, for the others have nothing to do
    /// with it.
    ///
    /// # Errors
    ///
    /// If a command that is done whole or not at all carries more than would be read again.
    pub(super) fn command(&self, moment: &Moment, command: &Command) -> Result<Question, EnvelopeError> {
        let mut call = self.begin(script(command), moment);
        let mut left_out = LeftOut::new();
        match command {
            Command::ClaimZone { zone, name, held } => {
                let held = held.map(|lease| words::long(lease.0));
                call.arg(words::zone(*zone)).arg(name).arg(held.unwrap_or_default());
            }
            Command::Assert {
                by,
                name,
                owned,
                departed,
                retired,
            } => {
                instance(&mut call, *by);
                call.arg(name);
                assertion(&mut call, *by, (owned, departed, retired), &mut left_out)?;
            }
            Command::Recall { by } => instance(&mut call, *by),
            Command::Spawn { by, record } => {
                instance(&mut call, *by);
                said(&mut call, record, encode_record(record)?);
                call.arg(joined(*by, record)?);
            }
            Command::Retire {
                by,
                entities: retired,
                after,
            } => {
                instance(&mut call, *by);
                leaving(&mut call, *by, retired, *after)?;
            }
            Command::Checkpoint { by, records, died } => {
                instance(&mut call, *by);
                let records = writable(records, &mut left_out);
                call.arg(records.len());
                for (record, bytes) in records {
                    call.arg(words::long(record.entity.0)).arg(words::long(record.epoch.0));
                    call.arg(bytes);
                }
                for death in died {
                    call.arg(words::long(death.entity.0)).arg(words::long(death.tick.0));
                    call.arg(envelope(&told::died(*by, death))?);
                }
            }
            Command::Transfer(moved) => transfer(&mut call, moved)?,
            Command::Settle { id, entities: moved } => {
                instance(&mut call, id.from);
                call.arg(words::long(id.number));
                entities(&mut call, moved);
            }
            Command::Accept {
                by,
                id,
                entities: moved,
            } => {
                instance(&mut call, *by);
                call.arg(words::transfer(*id));
                entities(&mut call, moved);
            }
        }
        Ok(Question { call, left_out })
    }
}

/// What a command is called in metrics.
pub(super) fn kind(command: &Command) -> &'static str {
    match command {
        Command::ClaimZone { held: None, .. } => "claim",
        Command::ClaimZone { held: Some(_), .. } => "renew",
        Command::Assert { .. } => "assert",
        Command::Recall { .. } => "recall",
        Command::Spawn { .. } => "spawn",
        Command::Retire { .. } => "retire",
        Command::Checkpoint { .. } => "checkpoint",
        Command::Transfer(_) => "transfer",
        Command::Settle { .. } => "settle",
        Command::Accept { .. } => "accept",
    }
}

fn script(command: &Command) -> ScriptName {
    match command {
        Command::ClaimZone { .. } => ScriptName::Claim,
        Command::Assert { .. } => ScriptName::Assert,
        Command::Recall { .. } => ScriptName::Recall,
        Command::Spawn { .. } => ScriptName::Spawn,
        Command::Retire { .. } => ScriptName::Retire,
        Command::Checkpoint { .. } => ScriptName::Checkpoint,
        Command::Transfer(_) => ScriptName::Transfer,
        Command::Settle { .. } => ScriptName::Settle,
        Command::Accept { .. } => ScriptName::Accept,
    }
}

/// Whether it may tell services of something.
pub(super) fn tells(command: &Command) -> bool {
    match command {
        Command::Spawn { record, .. } => record.player.is_some(),
        Command::Assert { .. } | Command::Retire { .. } | Command::Transfer(_) => true,
        Command::Checkpoint { died, .. } => !died.is_empty(),
        _ => false,
    }
}

fn envelope(event: &Event) -> Result<Vec<u8>, EnvelopeError> {
    envelope::encode(None, event)
}

/// What an instance owned, gave away and took out of the world: how many of each, then each.
fn assertion(
    call: &mut Cmd,
    by: Instance,
    (owned, departed, retired): (&[Record], &[Transfer], &[(WorldEntityId, EntityEpoch)]),
    left_out: &mut LeftOut,
) -> Result<(), EnvelopeError> {
    let after = told::last_tick(owned);
    let owned = writable(owned, left_out);
    let departed = sendable(departed, left_out);
    call.arg(owned.len()).arg(departed.len()).arg(retired.len());
    for (record, bytes) in owned {
        said(call, record, bytes);
        call.arg(joined(by, record)?);
    }
    for (transfer, head, records) in departed {
        call.arg(words::transfer(transfer.id)).arg(words::zone(transfer.to));
        call.arg(head).arg(records.len());
        for (record, bytes) in records {
            said(call, record, bytes);
            call.arg(envelope(&told::handed_off(transfer, record))?);
        }
    }
    leaving(call, by, retired, after)
}

/// That a player came, or nothing.
fn joined(by: Instance, record: &Record) -> Result<Vec<u8>, EnvelopeError> {
    let joined = told::joined(by, record).map(|event| envelope(&event)).transpose()?;
    Ok(joined.unwrap_or_default())
}

/// Entity, epoch, what is told of each.
fn leaving(
    call: &mut Cmd,
    by: Instance,
    entities: &[(WorldEntityId, EntityEpoch)],
    after: Tick,
) -> Result<(), EnvelopeError> {
    for (entity, epoch) in entities {
        call.arg(words::long(entity.0)).arg(words::long(epoch.0));
        call.arg(envelope(&told::left(by, *entity, after))?);
    }
    Ok(())
}

fn instance(call: &mut Cmd, by: Instance) {
    call.arg(words::zone(by.zone)).arg(words::long(by.lease.0));
}

fn entities(call: &mut Cmd, entities: &[(WorldEntityId, EntityEpoch)]) {
    for (entity, epoch) in entities {
        call.arg(words::long(entity.0)).arg(words::long(epoch.0));
    }
}

/// Entity, epoch, player or nothing, record.
fn said(call: &mut Cmd, record: &Record, bytes: Vec<u8>) {
    call.arg(words::long(record.entity.0)).arg(words::long(record.epoch.0));
    let player = record.player.map(|player| words::long(player.0));
    call.arg(player.unwrap_or_default()).arg(bytes);
}

/// The records that would be read again, and how they are stored.
fn writable<'a>(records: &'a [Record], left_out: &mut LeftOut) -> Vec<(&'a Record, Vec<u8>)> {
    let mut written = Vec::with_capacity(records.len());
    for record in records {
        match encode_record(record) {
            Ok(bytes) => written.push((record, bytes)),
            Err(error) => left_out.push((record.entity, error)),
        }
    }
    written
}

/// A transfer, what stands in its envelope, and its records.
type Sendable<'a> = (&'a Transfer, Vec<u8>, Vec<(&'a Record, Vec<u8>)>);

/// The transfers that would be read again, with those of their records that would be.
fn sendable<'a>(transfers: &'a [Transfer], left_out: &mut LeftOut) -> Vec<Sendable<'a>> {
    let mut sent = Vec::with_capacity(transfers.len());
    for transfer in transfers {
        match encode_head(transfer) {
            Ok(head) => sent.push((transfer, head, writable(&transfer.records, left_out))),
            Err(error) => left_out.extend(transfer.records.iter().map(|record| (record.entity, error))),
        }
    }
    sent
}

fn transfer(call: &mut Cmd, transfer: &Transfer) -> Result<(), EnvelopeError> {
    instance(call, transfer.id.from);
    call.arg(words::long(transfer.id.number)).arg(words::zone(transfer.to));
    call.arg(words::transfer(transfer.id)).arg(encode_head(transfer)?);
    for record in &transfer.records {
        let here = record.epoch.0.wrapping_sub(1);
        call.arg(words::long(record.entity.0)).arg(words::long(record.epoch.0));
        call.arg(words::long(here)).arg(encode_record(record)?);
        call.arg(envelope(&told::handed_off(transfer, record))?);
    }
    Ok(())
}
