//! Commands, answers and news in a line of a trace.

use meridian_handoff::News;
use meridian_handoff::script::{Command, Done, Instance, Record, Refusal, TransferId};
use meridian_ids::{EntityEpoch, LeaseEpoch, WorldEntityId};

use crate::checks::shown as epoch;

fn lease(lease: LeaseEpoch) -> String {
    format!("{}.{}", lease.generation().0, lease.count())
}

fn instance(by: Instance) -> String {
    format!("{}/{}", by.zone, lease(by.lease))
}

fn transfer(id: TransferId) -> String {
    format!("{} transfer {}", instance(id.from), id.number)
}

fn records(records: &[Record]) -> String {
    let shown = |record: &Record| format!("{}@{} after {}", record.entity, epoch(record.epoch), record.after);
    let shown: Vec<String> = records.iter().map(shown).collect();
    format!("[{}]", shown.join(", "))
}

fn entities(entities: &[(WorldEntityId, EntityEpoch)]) -> String {
    let shown = entities.iter().map(|(entity, at)| format!("{entity}@{}", epoch(*at)));
    format!("[{}]", shown.collect::<Vec<_>>().join(", "))
}

pub(crate) fn command(command: &Command) -> String {
    match command {
        Command::ClaimZone { zone, name, held: None } => format!("claims {zone} as {name}"),
        Command::ClaimZone {
            zone, held: Some(held), ..
        } => format!("renews {zone}/{}", lease(*held)),
        Command::Assert {
            by,
            owned,
            departed,
            retired,
            ..
        } => {
            let departed = departed
                .iter()
                .map(|departed| format!("{} to {}", records(&departed.records), departed.to));
            format!(
                "{} asserts it owns {}, gave away {:?}, retired {}",
                instance(*by),
                records(owned),
                departed.collect::<Vec<_>>(),
                entities(retired)
            )
        }
        Command::Recall { by } => format!("{} recalls", instance(*by)),
        Command::Spawn { by, record } => {
            let player = record.player.map(|player| format!(" of {player}")).unwrap_or_default();
            format!("{} spawns {}{player}", instance(*by), record.entity)
        }
        Command::Retire {
            by, entities: which, ..
        } => format!("{} retires {}", instance(*by), entities(which)),
        Command::Checkpoint { by, records: which, .. } => format!("{} checkpoints {}", instance(*by), records(which)),
        Command::Transfer(which) => format!("{} of {} to {}", transfer(which.id), records(&which.records), which.to),
        Command::Settle { id, entities: which } => format!("{} settled? {}", transfer(*id), entities(which)),
        Command::Accept {
            by,
            id,
            entities: which,
        } => {
            format!("{} accepts {} of {}", instance(*by), entities(which), transfer(*id))
        }
    }
}

pub(crate) fn answer(answer: &Result<Done, Refusal>) -> String {
    match answer {
        Ok(Done::Claimed {
            lease: given,
            records: held,
            inbox,
        }) => {
            format!("lease {}, {}, {} waiting", lease(*given), records(held), inbox.len())
        }
        Ok(Done::Asserted { lease: given, owned }) => format!("lease {}, owns {}", lease(*given), entities(owned)),
        Ok(Done::Recalled { records: held }) => records(held),
        Ok(Done::Accepted { owned }) => format!("accepted {}", entities(owned)),
        Ok(Done::Spawned { epoch: at }) => format!("spawned at {}", epoch(*at)),
        Ok(done) => format!("{done:?}"),
        Err(refusal) => format!("refused: {refusal}"),
    }
}

pub(crate) fn news(news: &News) -> String {
    match news {
        News::Begun(held) => format!("begins with {}", records(held)),
        News::Arrived(held) => format!("takes in {}", records(held)),
        News::Resumed(record) => format!("goes on with {}", records(std::slice::from_ref(record))),
        News::Departed { entity, epoch: at, to } => format!("has handed {entity}@{} to {to}", epoch(*at)),
        News::Spawned(record) => format!("has a new {}", records(std::slice::from_ref(record))),
        News::NotSpawned(record, why) => format!("has no new {}: {why:?}", record.entity),
        News::Retired(which) => format!("has retired {}", entities(which)),
        News::Disowned(entity) => format!("drops {entity}"),
        other => format!("{other:?}"),
    }
}
