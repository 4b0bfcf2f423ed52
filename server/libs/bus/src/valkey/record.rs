//! How records and transfers stand in the store.
//!
//! A record is the tick that it is the one after, in 16 digits for the scripts, and an envelope around the rest. Its epoch there does not count:
//! it is its owner's. An entry of an inbox is a field [`HEAD`], an envelope around the transfer's name and receiver, and a field per record,
//! named by entity and epoch.

use meridian_events::envelope::{self, EnvelopeError};
use meridian_handoff::script::{Record, Transfer, TransferId};
use meridian_ids::{EntityEpoch, WorldEntityId, ZoneId};

use super::words::{self, LONG_DIGITS};

/// Bytes of a stored record at most: a hundred times what an entity of the game takes.
pub const RECORD_BYTES_MAX: usize = 64 << 10;
/// Records of one transfer at most: what is tied together. A script passes twice as many arguments on, and Lua can do with 8,000.
pub const TRANSFER_RECORDS_MAX: usize = 1_024;
/// The field of an entry that holds its envelope.
pub(super) const HEAD: &str = "e";

/// A field of a stream's entry, and its value.
pub(super) type Field = (Vec<u8>, Vec<u8>);

pub(super) fn encode_record(record: &Record) -> Result<Vec<u8>, EnvelopeError> {
    let mut bytes = words::long(record.after.0).into_bytes();
    bytes.extend(envelope::encode(None, record)?);
    if bytes.len() > RECORD_BYTES_MAX {
        return Err(EnvelopeError::TooLong(bytes.len()));
    }
    Ok(bytes)
}

/// The record of an entity under the epoch of its owner.
pub(super) fn decode_record(entity: WorldEntityId, epoch: EntityEpoch, bytes: &[u8]) -> Result<Record, EnvelopeError> {
    if bytes.len() > RECORD_BYTES_MAX {
        return Err(EnvelopeError::TooLong(bytes.len()));
    }
    let (after, rest) = bytes.split_at_checked(LONG_DIGITS).ok_or(EnvelopeError::Garbage)?;
    let record = envelope::decode::<Record>(rest)?.body;
    if record.entity != entity || words::read_long(after) != Some(record.after.0) {
        return Err(EnvelopeError::Garbage);
    }
    Ok(Record { epoch, ..record })
}

/// What stands in a transfer's envelope.
pub(super) fn encode_head(transfer: &Transfer) -> Result<Vec<u8>, EnvelopeError> {
    if transfer.records.len() > TRANSFER_RECORDS_MAX {
        return Err(EnvelopeError::TooLong(transfer.records.len()));
    }
    envelope::encode(None, &(transfer.id, transfer.to))
}

/// The transfer that an entry of the inbox of `zone` holds.
pub(super) fn decode_entry(zone: ZoneId, fields: &[Field]) -> Result<Transfer, EnvelopeError> {
    let Some(((HEAD_BYTES, head), records)) = fields
        .split_first()
        .map(|((name, head), rest)| ((name.as_slice(), head), rest))
    else {
        return Err(EnvelopeError::Garbage);
    };
    if records.len() > TRANSFER_RECORDS_MAX {
        return Err(EnvelopeError::TooLong(records.len()));
    }
    let (id, to) = envelope::decode::<(TransferId, ZoneId)>(head)?.body;
    if to != zone {
        return Err(EnvelopeError::Garbage);
    }
    let records = records.iter().map(|(name, record)| {
        let (entity, epoch) = read_name(name).ok_or(EnvelopeError::Garbage)?;
        decode_record(entity, epoch, record)
    });
    let records = records.collect::<Result<Vec<Record>, _>>()?;
    Ok(Transfer { id, to, records })
}

const HEAD_BYTES: &[u8] = HEAD.as_bytes();

fn read_name(name: &[u8]) -> Option<(WorldEntityId, EntityEpoch)> {
    let (entity, epoch) = name.split_at_checked(LONG_DIGITS)?;
    Some((
        WorldEntityId(words::read_long(entity)?),
        EntityEpoch(words::read_long(epoch)?),
    ))
}

#[cfg(test)]
mod tests {
    use meridian_handoff::Allowance;
    use meridian_handoff::script::Instance;
    use meridian_ids::{LeaseEpoch, PlayerId, Tick};
    use proptest::prelude::*;

    use super::*;

    fn record(state: Vec<u8>) -> Record {
        Record {
            entity: WorldEntityId(5),
            epoch: EntityEpoch(6),
            player: Some(PlayerId(u64::MAX)),
            after: Tick(1 << 60),
            allowance: Allowance::full(Tick(3)),
            state,
            inputs: vec![(Tick(4), 9)],
        }
    }

    fn transfer(records: Vec<Record>) -> Transfer {
        let from = Instance {
            zone: ZoneId(1),
            lease: LeaseEpoch(2),
        };
        let id = TransferId { from, number: 3 };
        let to = ZoneId(4);
        Transfer { id, to, records }
    }

    fn fields(transfer: &Transfer) -> Vec<Field> {
        let mut fields = vec![(HEAD_BYTES.to_vec(), encode_head(transfer).unwrap())];
        for record in &transfer.records {
            let name = words::long(record.entity.0) + &words::long(record.epoch.0);
            fields.push((name.into_bytes(), encode_record(record).unwrap()));
        }
        fields
    }

    #[test]
    fn a_record_is_read_under_its_owners_epoch_and_only_as_the_entity_that_it_is() {
        let record = record(vec![1, 2]);
        let bytes = encode_record(&record).unwrap();
        let epoch = EntityEpoch(7);
        let read = decode_record(record.entity, epoch, &bytes).unwrap();
        assert_eq!(read, Record { epoch, ..record });
        assert_eq!(
            decode_record(WorldEntityId(8), epoch, &bytes),
            Err(EnvelopeError::Garbage)
        );
        let otherwise = [b"0000000000000001", &bytes[LONG_DIGITS..]].concat();
        assert_eq!(
            decode_record(WorldEntityId(5), epoch, &otherwise),
            Err(EnvelopeError::Garbage)
        );
    }

    #[test]
    fn what_would_not_be_read_is_not_written() {
        let long = record(vec![0; RECORD_BYTES_MAX]);
        assert!(matches!(encode_record(&long), Err(EnvelopeError::TooLong(_))));
        let many = transfer(vec![record(Vec::new()); TRANSFER_RECORDS_MAX + 1]);
        assert!(matches!(encode_head(&many), Err(EnvelopeError::TooLong(_))));
    }

    #[test]
    fn a_transfer_is_read_as_it_was_written_by_its_receiver_alone() {
        let transfer = transfer(vec![record(vec![1]), record(Vec::new())]);
        assert_eq!(decode_entry(ZoneId(4), &fields(&transfer)), Ok(transfer.clone()));
        assert_eq!(decode_entry(ZoneId(5), &fields(&transfer)), Err(EnvelopeError::Garbage));
        assert_eq!(decode_entry(ZoneId(4), &[]), Err(EnvelopeError::Garbage));
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..128), at in 0usize..200, name in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = decode_record(WorldEntityId(5), EntityEpoch(1), &bytes);
            let mut near = encode_record(&record(vec![1])).unwrap();
            let at = at % near.len();
            near.truncate(at);
            near.extend(&bytes);
            let _ = decode_record(WorldEntityId(5), EntityEpoch(1), &near);
            let _ = decode_entry(ZoneId(4), &[(name.clone(), bytes.clone())]);
            let mut entry = fields(&transfer(vec![record(vec![1])]));
            entry.push((name, bytes));
            prop_assert!(decode_entry(ZoneId(4), &entry).is_err(), "a field that is none");
        }
    }
}
