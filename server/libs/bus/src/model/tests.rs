//! What the semantics promise beyond what every carrier is tested for.

use meridian_handoff::Allowance;
use meridian_ids::Tick;

use super::*;

const ENTITY: WorldEntityId = WorldEntityId(7);
const EAST: ZoneId = ZoneId(1);
const SPAWNED: Result<Done, Refusal> = Ok(Done::Spawned { epoch: EntityEpoch(1) });

fn claim(model: &mut Model, zone: ZoneId) -> Instance {
    let claim = Command::ClaimZone {
        zone,
        name: "one".to_owned(),
        held: None,
    };
    let claimed = model.execute(Duration::ZERO, &claim);
    let Ok(Done::Claimed { lease, .. }) = claimed else {
        unreachable!("a new instance is never refused, not even with {claimed:?}");
    };
    Instance { zone, lease }
}

fn record(epoch: u64) -> Record {
    Record {
        entity: ENTITY,
        epoch: EntityEpoch(epoch),
        player: None,
        after: Tick(1),
        allowance: Allowance::full(Tick(0)),
        state: Vec::new(),
        inputs: Vec::new(),
    }
}

fn transfer(from: Instance, number: u64) -> Transfer {
    Transfer {
        id: TransferId { from, number },
        to: EAST,
        records: vec![record(2)],
    }
}

fn settle(transfer: &Transfer) -> Command {
    Command::Settle {
        id: transfer.id,
        entities: transfer.entities(),
    }
}

#[test]
fn ids_of_a_later_minter_do_not_bring_back_what_left_nor_do_those_of_an_earlier_one_stand_in_their_way() {
    let mut model = Model::default();
    let west = claim(&mut model, ZoneId(0));
    let spawn = |entity: u64| Command::Spawn {
        by: west,
        record: Record {
            entity: WorldEntityId(entity),
            ..record(1)
        },
    };
    let mut execute = |command: Command| model.execute(Duration::ZERO, &command);
    let (first, wrapped) = (9 << 32 | 1, 1);
    assert_eq!(execute(spawn(first)), SPAWNED);
    assert_eq!(execute(spawn(wrapped)), SPAWNED, "a minter of its own");
    let retire = Command::Retire {
        by: west,
        entities: vec![(WorldEntityId(first), EntityEpoch(1))],
        after: Tick(100),
    };
    assert_eq!(execute(retire), Ok(Done::Retired));
    assert_eq!(execute(spawn(first)), Err(Refusal::NotOwner(WorldEntityId(first))));
}

#[test]
fn what_is_closed_never_happens_but_later_transfers_do_also_those_of_a_new_instance() {
    let mut model = Model::default();
    let (west, _) = (claim(&mut model, ZoneId(0)), claim(&mut model, EAST));
    let mut execute = |command: Command| model.execute(Duration::ZERO, &command);
    let spawn = Command::Spawn {
        by: west,
        record: record(1),
    };
    assert_eq!(execute(spawn), SPAWNED);
    let unknown = transfer(west, 5);
    assert_eq!(execute(settle(&unknown)), Ok(Done::Kept));
    assert_eq!(execute(Command::Transfer(unknown)), Ok(Done::Kept), "closed");
    let west = claim(&mut model, ZoneId(0));
    // A new instance counts from 1.
    let first = Command::Transfer(transfer(west, 1));
    assert_eq!(model.execute(Duration::ZERO, &first), Ok(Done::Transferred));
    assert_eq!(model.places(ENTITY), [(EAST, EntityEpoch(2))]);
}

#[test]
fn a_spawn_that_was_answered_by_another_entity_does_not_happen_later() {
    let mut model = Model::default();
    let (west, east) = (claim(&mut model, ZoneId(0)), claim(&mut model, EAST));
    let mut execute = |command: Command| model.execute(Duration::ZERO, &command);
    let spawn = |by: Instance, entity: u64| Command::Spawn {
        by,
        record: Record {
            entity: WorldEntityId(entity),
            player: Some(PlayerId(9)),
            ..record(1)
        },
    };
    assert_eq!(execute(spawn(west, 1)), SPAWNED);
    let exists = Done::Exists {
        entity: WorldEntityId(1),
        zone: ZoneId(0),
    };
    assert_eq!(execute(spawn(east, 2)), Ok(exists));
    let retire = Command::Retire {
        by: west,
        entities: vec![(WorldEntityId(1), EntityEpoch(1))],
        after: Tick(100),
    };
    assert_eq!(execute(retire), Ok(Done::Retired));
    // The first try of the same command was long on its way: nobody in East waits for it any more.
    assert_eq!(execute(spawn(east, 2)), Err(Refusal::NotOwner(WorldEntityId(2))));
    assert_eq!(execute(spawn(east, 3)), SPAWNED);
}
