//! What services are told by a command that is done for the first time.

use meridian_events::{Event, Happening};
use meridian_handoff::script::{Death, Instance, Record, Transfer};
use meridian_ids::{Tick, WorldEntityId};

fn event(by: Instance, tick: Tick, what: Happening) -> Event {
    Event {
        zone: by.zone,
        lease: by.lease,
        tick,
        what,
    }
}

/// The tick after which is told what an assertion finds lost: that of its newest record.
pub(crate) fn last_tick(owned: &[Record]) -> Tick {
    owned.iter().map(|record| record.after).max().unwrap_or_default()
}

/// That a player came; nothing of what is nobody's.
pub(crate) fn joined(by: Instance, record: &Record) -> Option<Event> {
    let (player, entity) = (record.player?, record.entity);
    Some(event(by, record.after, Happening::Joined { player, entity }))
}

/// That an entity left the world after a tick.
pub(crate) fn left(by: Instance, entity: WorldEntityId, after: Tick) -> Event {
    event(by, after, Happening::Left { entity })
}

/// That a player died.
pub(crate) fn died(by: Instance, death: &Death) -> Event {
    let Death { entity, player, tick } = *death;
    event(by, tick, Happening::Died { player, entity })
}

/// That an entity of a transfer changed zones.
pub(crate) fn handed_off(transfer: &Transfer, record: &Record) -> Event {
    let (entity, epoch, to) = (record.entity, record.epoch, transfer.to);
    event(
        transfer.id.from,
        record.after,
        Happening::HandedOff { entity, epoch, to },
    )
}
