//! A store that has lost its newest writes, and zones that say what was in them. Each of these tests was a fault that the simulator found.

use std::slice::from_ref;

use meridian_handoff::script::{Command, TransferId};
use meridian_handoff::{Allowance, SETTLING};
use meridian_ids::{PlayerId, Tick};

use super::*;
use crate::TOMBSTONE_KEPT;

const WEST: ZoneId = ZoneId(0);
const EAST: ZoneId = ZoneId(1);
const SOUTH: ZoneId = ZoneId(2);
const PLAYER: PlayerId = PlayerId(9);

/// The store, three zones that have their leases, and what was safe when everybody looked last.
struct World {
    model: Model,
    safe: Model,
    now: Duration,
    zones: [Instance; 3],
}

fn id(zone: ZoneId, number: u64) -> WorldEntityId {
    WorldEntityId(u64::from(zone.0) << 48 | number)
}

/// An epoch as it was given in the first generation.
fn first(count: u64) -> EntityEpoch {
    EntityEpoch(count).in_generation(Generation(1))
}

fn record(entity: WorldEntityId, epoch: EntityEpoch, player: Option<PlayerId>) -> Record {
    Record {
        entity,
        epoch,
        player,
        after: Tick(5),
        allowance: Allowance::full(Tick(0)),
        state: Vec::new(),
        inputs: Vec::new(),
    }
}

impl World {
    fn new() -> Self {
        let model = Model::new(LeaseEpoch::new(Generation(1), 40));
        let zones = [WEST, EAST, SOUTH].map(|zone| Instance {
            zone,
            lease: LeaseEpoch::new(Generation(1), 41),
        });
        let (safe, now) = (model.clone(), Duration::ZERO);
        let mut world = Self {
            model,
            safe,
            now,
            zones,
        };
        for zone in [WEST, EAST, SOUTH] {
            let (name, held) = ("one".to_owned(), None);
            world.must(Command::ClaimZone { zone, name, held });
        }
        world.sync();
        world
    }

    fn execute(&mut self, command: Command) -> Result<Done, Refusal> {
        self.model.execute(self.now, &command)
    }

    fn must(&mut self, command: Command) -> Done {
        self.execute(command).expect("nothing speaks against it")
    }

    fn of(&self, zone: ZoneId) -> Instance {
        self.zones[usize::from(zone.0)]
    }

    fn sync(&mut self) {
        self.safe = self.model.clone();
    }

    fn spawn(&mut self, record: Record, zone: ZoneId) -> Result<Done, Refusal> {
        let by = self.of(zone);
        self.execute(Command::Spawn { by, record })
    }

    fn retire(&mut self, entity: WorldEntityId, epoch: EntityEpoch, zone: ZoneId) -> Result<Done, Refusal> {
        let (by, entities) = (self.of(zone), vec![(entity, epoch)]);
        self.execute(Command::Retire {
            by,
            entities,
            after: Tick(0),
        })
    }

    fn handover(&self, entity: WorldEntityId, epoch: EntityEpoch, from: ZoneId, to: ZoneId) -> Transfer {
        Transfer {
            id: TransferId {
                from: self.of(from),
                number: epoch.0,
            },
            to,
            records: vec![record(entity, epoch, Some(PLAYER))],
        }
    }

    fn hand_over(&mut self, transfer: &Transfer) {
        self.must(Command::Transfer(transfer.clone()));
        let (by, id, entities) = (self.of(transfer.to), transfer.id, transfer.entities());
        self.must(Command::Accept { by, id, entities });
    }

    /// The store comes back, as it was when it was safe.
    fn lose(&mut self) {
        self.model = self.safe.clone();
        self.restart();
    }

    fn restart(&mut self) {
        let next = Generation(self.model.generation().0 + 1);
        self.model.restart(self.now, next);
    }

    /// A zone says what it has; the same once more as long as it is not told its new lease.
    fn assert(
        &mut self,
        zone: ZoneId,
        owned: &[Record],
        departed: &[Transfer],
        retired: &[(WorldEntityId, EntityEpoch)],
    ) -> Result<Vec<WorldEntityId>, Refusal> {
        let assertion = Command::Assert {
            by: self.of(zone),
            name: "one".to_owned(),
            owned: owned.to_vec(),
            departed: departed.to_vec(),
            retired: retired.to_vec(),
        };
        match self.execute(assertion)? {
            Done::Asserted { owned, .. } => Ok(owned.into_iter().map(|(entity, _)| entity).collect()),
            other => panic!("an assertion is answered by what was kept, not by {other:?}"),
        }
    }

    /// The zone goes on under the lease that it was given.
    fn is_told(&mut self, zone: ZoneId) {
        let (lease, _) = self.model.lease(zone).expect("it has one");
        self.zones[usize::from(zone.0)].lease = lease;
    }
}

#[test]
fn a_player_is_not_let_in_while_a_zone_that_has_it_may_not_have_spoken() {
    let mut world = World::new();
    let its_own = record(id(EAST, 1), first(1), Some(PLAYER));
    world.spawn(its_own.clone(), EAST).unwrap();
    world.lose();
    assert_eq!(world.assert(WEST, &[], &[], &[]), Ok(vec![]));
    world.is_told(WEST);
    let another = record(id(WEST, 1), first(1), Some(PLAYER));
    assert_eq!(world.spawn(another.clone(), WEST), Err(Refusal::Settling));
    assert!(
        world.spawn(record(id(WEST, 2), first(1), None), WEST).is_ok(),
        "a thing"
    );
    assert_eq!(world.assert(EAST, &[its_own], &[], &[]), Ok(vec![id(EAST, 1)]));
    world.now += SETTLING;
    let another = record(id(WEST, 3), first(1), another.player);
    let exists = Done::Exists {
        entity: id(EAST, 1),
        zone: EAST,
    };
    assert_eq!(world.spawn(another, WEST), Ok(exists));
}

#[test]
fn what_leaves_is_known_to_have_left_under_its_highest_epoch() {
    let mut world = World::new();
    let entity = id(WEST, 1);
    world.spawn(record(entity, first(1), Some(PLAYER)), WEST).unwrap();
    world.hand_over(&world.handover(entity, first(2), WEST, EAST));
    world.retire(entity, first(2), EAST).unwrap();
    // A gateway that has heard only of its first owner asks that one.
    assert_eq!(world.retire(entity, first(1), WEST), Ok(Done::Retired));
    world.restart();
    assert_eq!(
        world.assert(EAST, &[record(entity, first(2), None)], &[], &[]),
        Ok(vec![])
    );
}

#[test]
fn what_left_long_ago_is_not_brought_back_by_who_handed_it_over() {
    let mut world = World::new();
    let (entity, other) = (id(WEST, 1), id(WEST, 2));
    world.spawn(record(entity, first(1), Some(PLAYER)), WEST).unwrap();
    world.spawn(record(other, first(1), None), WEST).unwrap();
    let handover = world.handover(entity, first(2), WEST, EAST);
    world.hand_over(&handover);
    world.retire(entity, first(2), EAST).unwrap();
    // West is silent all the while. That the entity has left is remembered no longer.
    world.now += TOMBSTONE_KEPT * 2;
    world.retire(other, first(1), WEST).unwrap();
    world.restart();
    world.assert(WEST, &[], &[handover], &[]).unwrap();
    assert_eq!(world.model.places(entity), []);
}

#[test]
fn nothing_is_forgotten_after_a_restart_that_could_be_contradicted_and_who_comes_later_is_not_heard() {
    let mut world = World::new();
    let (entity, other) = (id(WEST, 1), id(EAST, 1));
    world.spawn(record(other, first(1), None), EAST).unwrap();
    world.sync();
    // Its coming and going is lost, and told again by the zone that it had gone to.
    world.spawn(record(entity, first(1), Some(PLAYER)), WEST).unwrap();
    let handover = world.handover(entity, first(2), WEST, EAST);
    world.hand_over(&handover);
    world.retire(entity, first(2), EAST).unwrap();
    world.lose();
    let living = record(other, first(1), None);
    world.assert(EAST, &[living], &[], &[(entity, first(2))]).unwrap();
    world.is_told(EAST);
    world.now += TOMBSTONE_KEPT;
    let raised = EntityEpoch(1).in_generation(Generation(2));
    world.retire(other, raised, EAST).unwrap();
    world.assert(WEST, &[], from_ref(&handover), &[]).unwrap();
    assert_eq!(world.model.places(entity), [], "it is still known to have left");
    world.now += SETTLING;
    assert_eq!(world.assert(SOUTH, &[], &[], &[]), Err(Refusal::Fenced), "too late");
}

#[test]
fn what_a_zone_gave_up_after_it_had_asserted_it_leaves() {
    let mut world = World::new();
    let entity = id(WEST, 1);
    world.spawn(record(entity, first(1), None), WEST).unwrap();
    world.restart();
    // The answer is lost; meanwhile the game takes the entity out of the world.
    world.assert(WEST, &[record(entity, first(1), None)], &[], &[]).unwrap();
    world.assert(WEST, &[], &[], &[(entity, first(1))]).unwrap();
    assert_eq!(world.model.places(entity), []);
}

#[test]
fn an_assertion_that_comes_once_more_does_not_open_what_was_closed() {
    let mut world = World::new();
    let entity = id(WEST, 1);
    world.spawn(record(entity, first(1), Some(PLAYER)), WEST).unwrap();
    world.restart();
    let (before, owned) = (world.of(WEST), [record(entity, first(1), Some(PLAYER))]);
    world.assert(WEST, &owned, &[], &[]).unwrap();
    world.is_told(WEST);
    let unknown = world.handover(entity, EntityEpoch(2).in_generation(Generation(2)), WEST, EAST);
    let (id, entities) = (unknown.id, unknown.entities());
    assert_eq!(world.execute(Command::Settle { id, entities }), Ok(Done::Kept));
    // The first try of the assertion was long on its way.
    world.zones[0] = before;
    world.assert(WEST, &owned, &[], &[]).unwrap();
    assert_eq!(world.execute(Command::Transfer(unknown)), Ok(Done::Kept));
}

#[test]
fn who_is_simulated_outdoes_an_entity_of_the_same_player_that_nobody_speaks_for() {
    let mut world = World::new();
    let (older, newer) = (id(WEST, 1), id(EAST, 1));
    world.spawn(record(older, first(1), Some(PLAYER)), WEST).unwrap();
    world.sync();
    world.retire(older, first(1), WEST).unwrap();
    world.spawn(record(newer, first(1), Some(PLAYER)), EAST).unwrap();
    world.lose();
    let owned = [record(newer, first(1), Some(PLAYER))];
    assert_eq!(world.assert(EAST, &owned, &[], &[]), Ok(vec![newer]));
    assert_eq!(world.model.places(older), [], "it left before the other came");
    // Whose zone is silent while another generation begins knows less than those who were heard in it.
    let silent = [record(id(SOUTH, 1), first(1), Some(PLAYER))];
    world.restart();
    assert_eq!(world.assert(SOUTH, &silent, &[], &[]), Ok(vec![]));
    world.is_told(EAST);
    let raised = EntityEpoch(1).in_generation(Generation(2));
    assert_eq!(
        world.assert(EAST, &[record(newer, raised, Some(PLAYER))], &[], &[]),
        Ok(vec![newer])
    );
}

#[test]
fn a_player_of_two_handovers_is_known_by_the_one_that_has_not_left() {
    for older_is_first in [true, false] {
        let mut world = World::new();
        let (older, newer) = (id(WEST, 1), id(EAST, 1));
        world.spawn(record(older, first(1), Some(PLAYER)), WEST).unwrap();
        let of_older = world.handover(older, first(2), WEST, SOUTH);
        world.hand_over(&of_older);
        world.retire(older, first(2), SOUTH).unwrap();
        world.spawn(record(newer, first(1), Some(PLAYER)), EAST).unwrap();
        let of_newer = world.handover(newer, first(2), EAST, SOUTH);
        world.must(Command::Transfer(of_newer.clone()));
        world.lose();
        let mut both = [(WEST, of_older), (EAST, of_newer)];
        if !older_is_first {
            both.reverse();
        }
        for (zone, handover) in both {
            world.assert(zone, &[], &[handover], &[]).unwrap();
        }
        world.assert(SOUTH, &[], &[], &[(older, first(2))]).unwrap();
        world.now += SETTLING;
        world.is_told(WEST);
        let exists = Done::Exists {
            entity: newer,
            zone: SOUTH,
        };
        let another = record(id(WEST, 2), first(1), Some(PLAYER));
        assert_eq!(world.spawn(another, WEST), Ok(exists));
    }
}

#[test]
fn what_an_assertion_brought_back_is_not_spawned_again_when_its_end_is_forgotten() {
    let mut world = World::new();
    let (entity, other) = (id(WEST, 2), id(WEST, 1));
    world.spawn(record(entity, first(1), None), WEST).unwrap();
    world.lose();
    let owned = [record(entity, first(1), None)];
    world.assert(WEST, &owned, &[], &[]).unwrap();
    world.is_told(WEST);
    let raised = EntityEpoch(1).in_generation(Generation(2));
    world.retire(entity, raised, WEST).unwrap();
    world.now += TOMBSTONE_KEPT * 3;
    world.retire(other, raised, WEST).unwrap();
    // The zone is started again, and makes what stands in it at its beginning.
    let again = record(entity, first(1), None);
    assert_eq!(world.spawn(again, WEST), Err(Refusal::NotOwner(entity)));
}

#[test]
fn who_was_silent_while_the_store_forgot_is_not_heard_in_the_next_generation_either() {
    let mut world = World::new();
    let (entity, other) = (id(WEST, 1), id(EAST, 1));
    world.spawn(record(other, first(1), None), EAST).unwrap();
    world.sync();
    world.spawn(record(entity, first(1), Some(PLAYER)), WEST).unwrap();
    let handover = world.handover(entity, first(2), WEST, EAST);
    world.hand_over(&handover);
    world.retire(entity, first(2), EAST).unwrap();
    world.lose();
    let living = record(other, first(1), None);
    world.assert(EAST, &[living], &[], &[(entity, first(2))]).unwrap();
    world.is_told(EAST);
    // That it left is forgotten, for who had a minute to speak has spoken.
    world.now += SETTLING + TOMBSTONE_KEPT;
    let raised = EntityEpoch(1).in_generation(Generation(2));
    world.retire(other, raised, EAST).unwrap();
    world.restart();
    assert_eq!(world.assert(WEST, &[], &[handover], &[]), Err(Refusal::Fenced));
    assert_eq!(world.model.places(entity), []);
    world.assert(EAST, &[], &[], &[]).unwrap();
}

#[test]
fn what_has_left_for_another_entity_of_its_player_does_not_stay_behind_where_it_had_been_before() {
    let mut world = World::new();
    let (older, newer) = (id(WEST, 1), id(WEST, 2));
    world.spawn(record(older, first(1), Some(PLAYER)), WEST).unwrap();
    let west_to_east = world.handover(older, first(2), WEST, EAST);
    world.hand_over(&west_to_east);
    let east_to_south = world.handover(older, first(3), EAST, SOUTH);
    world.hand_over(&east_to_south);
    world.retire(older, first(3), SOUTH).unwrap();
    world.spawn(record(newer, first(1), Some(PLAYER)), WEST).unwrap();
    world.lose();
    // West has both handed over, the newer one in a generation that East knows nothing of. South, where the older one left the world, says nothing.
    let raised = EntityEpoch(2).in_generation(Generation(2));
    let newer_to_south = world.handover(newer, raised, WEST, SOUTH);
    world.restart();
    let both = [west_to_east.clone(), newer_to_south];
    world.assert(WEST, &[], &both, &[]).unwrap();
    assert_eq!(world.model.places(older).len(), 1, "nobody has spoken against it");
    world.assert(EAST, &[], &[east_to_south], &[]).unwrap();
    world.is_told(EAST);
    let (by, id, entities) = (world.of(EAST), west_to_east.id, west_to_east.entities());
    world.must(Command::Accept { by, id, entities });
    assert_eq!(world.model.places(older), [], "it went on from there long ago");
    assert_eq!(world.model.places(newer).len(), 1);
}

#[test]
fn who_was_silent_while_a_generation_settled_takes_no_player_from_who_was_let_in_after_it() {
    let mut world = World::new();
    let (older, newer) = (id(WEST, 1), id(SOUTH, 1));
    world.spawn(record(older, first(1), Some(PLAYER)), WEST).unwrap();
    let handover = world.handover(older, first(2), WEST, EAST);
    // West is cut off with what it knows, and the player is let in again when the others have spoken.
    world.lose();
    for zone in [EAST, SOUTH] {
        world.assert(zone, &[], &[], &[]).unwrap();
        world.is_told(zone);
    }
    world.sync();
    world.now += SETTLING;
    let raised = EntityEpoch(1).in_generation(Generation(2));
    world.spawn(record(newer, raised, Some(PLAYER)), SOUTH).unwrap();
    world.lose();
    // West is back before South has said anything.
    assert_eq!(world.assert(WEST, &[], &[handover], &[]), Err(Refusal::Fenced));
    let owned = [record(newer, raised, Some(PLAYER))];
    assert_eq!(world.assert(SOUTH, &owned, &[], &[]), Ok(vec![newer]));
    assert_eq!(world.model.places(older), []);
}
