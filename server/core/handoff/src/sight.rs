//! What a gateway believes of what zones tell: of each zone only its newest instance, of each entity only its newest owner.
//!
//! Pure: no bytes, no clocks. Absence from a snapshot removes nothing at once, and nothing that has left comes back by a message that
//! was long on its way.

use std::collections::BTreeMap;

use meridian_ids::{EntityEpoch, LeaseEpoch, Tick, TickRate, WorldEntityId, ZoneId};

/// How long it is remembered that an entity left the world, in seconds: longer than a snapshot of an earlier owner can be under way.
const LEFT_REMEMBERED_SECONDS: u64 = 10;
/// How long an entity that its zone no longer tells of is kept, in seconds: it may be on its way to a zone that is just being started.
const UNLISTED_KEPT_SECONDS: u64 = 10;
/// Departures remembered at most: more than zones full of players tell in [`LEFT_REMEMBERED_SECONDS`].
const LEFT_MAX: usize = 65_536;

/// What to make of an entity in a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// It is another zone's by now, or out of the world: this is not to be shown.
    Ignore,
    /// It was not known.
    New,
    /// Its owner tells of it again.
    Same,
    /// It has another owner, or another epoch: who holds inputs for it sends them to the zone that tells of it.
    ChangedHands,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    zone: ZoneId,
    epoch: EntityEpoch,
    /// The newest tick for which its owner told of it.
    told: Tick,
    /// Since when its zone has been telling of everything else.
    unlisted_since: Option<Tick>,
}

/// Whose each entity is, as far as a gateway was told.
#[derive(Clone, Debug)]
pub struct Sight {
    leases: BTreeMap<ZoneId, LeaseEpoch>,
    seen: BTreeMap<WorldEntityId, Seen>,
    left: BTreeMap<WorldEntityId, (EntityEpoch, Tick)>,
    rate: TickRate,
}

impl Sight {
    /// Of a gateway that was told nothing yet.
    pub fn new(rate: TickRate) -> Self {
        Self {
            leases: BTreeMap::new(),
            seen: BTreeMap::new(),
            left: BTreeMap::new(),
            rate,
        }
    }

    /// Whether a zone's snapshot counts: not if a newer instance of the zone was heard.
    pub fn snapshot(&mut self, zone: ZoneId, lease: LeaseEpoch) -> bool {
        let newest = self.leases.entry(zone).or_insert(lease);
        *newest = lease.max(*newest);
        *newest == lease
    }

    /// An entity of a snapshot of tick `tick` that counts. The epoch says who is newer, whatever order the messages come in.
    pub fn entity(&mut self, (zone, tick): (ZoneId, Tick), entity: WorldEntityId, epoch: EntityEpoch) -> Sighting {
        if self.has_left(entity, epoch) {
            return Sighting::Ignore;
        }
        let seen = Seen {
            zone,
            epoch,
            told: tick,
            unlisted_since: None,
        };
        let Some(known) = self.seen.get_mut(&entity) else {
            self.seen.insert(entity, seen);
            return Sighting::New;
        };
        if known.epoch > epoch || known.epoch == epoch && known.zone != zone {
            return Sighting::Ignore;
        }
        let (is_same, told) = (known.epoch == epoch, known.told);
        *known = seen;
        if is_same {
            known.told = tick.max(told);
            Sighting::Same
        } else {
            Sighting::ChangedHands
        }
    }

    /// A whole snapshot of tick `tick` that counts has been taken in: `listed` is all that the zone has. What it had until then and does not
    /// list has left it, and the word of that may be lost: names what is so from now on. If nobody else tells of it either, [`Self::forget`]
    /// says so after some time.
    pub fn whole(
        &mut self,
        (zone, tick): (ZoneId, Tick),
        listed: impl Fn(WorldEntityId) -> bool,
        now: Tick,
    ) -> Vec<WorldEntityId> {
        let mut unlisted = Vec::new();
        for (entity, seen) in &mut self.seen {
            let is_meant = seen.zone == zone && seen.told <= tick;
            if is_meant && seen.unlisted_since.is_none() && !listed(*entity) {
                seen.unlisted_since = Some(now);
                unlisted.push(*entity);
            }
        }
        unlisted
    }

    /// Whether the entity left the world under this epoch, or a higher one.
    pub fn has_left(&self, entity: WorldEntityId, epoch: EntityEpoch) -> bool {
        self.left.get(&entity).is_some_and(|(left, _)| *left >= epoch)
    }

    /// An entity left the world under this epoch. Whether it is to be taken out of sight: not if it was seen under a higher one.
    pub fn left(&mut self, entity: WorldEntityId, epoch: EntityEpoch, now: Tick) -> bool {
        if self.left.len() < LEFT_MAX || self.left.contains_key(&entity) {
            let known = self.left.entry(entity).or_insert((epoch, now));
            *known = (known.0.max(epoch), now);
        }
        let is_seen = self.seen.get(&entity).is_some_and(|seen| seen.epoch <= epoch);
        if is_seen {
            self.seen.remove(&entity);
        }
        is_seen
    }

    /// To be called now and then: forgets what left long ago, and names what is to be taken out of sight, for nobody tells of it any more.
    pub fn forget(&mut self, now: Tick) -> Vec<WorldEntityId> {
        let hz = u64::from(self.rate.hz());
        let remembered = (LEFT_REMEMBERED_SECONDS * hz) as i64;
        self.left.retain(|_, (_, since)| now.since(*since) < remembered);
        let kept = (UNLISTED_KEPT_SECONDS * hz) as i64;
        let is_over = |seen: &Seen| seen.unlisted_since.is_some_and(|since| now.since(since) >= kept);
        let over = self.seen.iter().filter(|(_, seen)| is_over(seen));
        let over: Vec<WorldEntityId> = over.map(|(entity, _)| *entity).collect();
        for entity in &over {
            self.seen.remove(entity);
        }
        over
    }

    /// Whose an entity is, and under which epoch, if it is in sight.
    pub fn owner(&self, entity: WorldEntityId) -> Option<(ZoneId, EntityEpoch)> {
        self.seen.get(&entity).map(|seen| (seen.zone, seen.epoch))
    }

    /// Whether an entity in sight is one that its zone does not list any more.
    pub fn is_unlisted(&self, entity: WorldEntityId) -> bool {
        self.seen.get(&entity).is_some_and(|seen| seen.unlisted_since.is_some())
    }

    /// What is in sight, in the order of the ids.
    pub fn entities(&self) -> impl Iterator<Item = (WorldEntityId, ZoneId, EntityEpoch)> {
        let seen = self.seen.iter();
        seen.map(|(entity, seen)| (*entity, seen.zone, seen.epoch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: WorldEntityId = WorldEntityId(1);
    const WEST: ZoneId = ZoneId(0);
    const EAST: ZoneId = ZoneId(1);
    const AT_WEST: (ZoneId, Tick) = (WEST, Tick(9));
    const AT_EAST: (ZoneId, Tick) = (EAST, Tick(9));

    fn sight() -> Sight {
        Sight::new(TickRate::default())
    }

    #[test]
    fn only_the_newest_instance_of_a_zone_counts() {
        let mut sight = sight();
        assert!(sight.snapshot(WEST, LeaseEpoch(4)));
        assert!(sight.snapshot(WEST, LeaseEpoch(5)));
        assert!(!sight.snapshot(WEST, LeaseEpoch(4)), "it is fenced");
        assert!(sight.snapshot(WEST, LeaseEpoch(5)));
        assert!(sight.snapshot(EAST, LeaseEpoch(1)), "each zone counts its own");
    }

    #[test]
    fn only_the_newest_owner_of_an_entity_is_believed_whatever_comes_late() {
        let mut sight = sight();
        assert_eq!(sight.entity(AT_WEST, A, EntityEpoch(1)), Sighting::New);
        assert_eq!(sight.entity(AT_WEST, A, EntityEpoch(1)), Sighting::Same);
        assert_eq!(sight.entity(AT_EAST, A, EntityEpoch(2)), Sighting::ChangedHands);
        assert_eq!(sight.entity(AT_WEST, A, EntityEpoch(1)), Sighting::Ignore);
        assert_eq!(
            sight.entity(AT_WEST, A, EntityEpoch(2)),
            Sighting::Ignore,
            "it is East's"
        );
        // The store was restarted: the same owner, in another generation.
        let raised = EntityEpoch(1 << 32 | 2);
        assert_eq!(sight.entity(AT_EAST, A, raised), Sighting::ChangedHands);
        assert_eq!(sight.owner(A), Some((EAST, raised)));
    }

    #[test]
    fn what_left_is_not_brought_back_by_a_snapshot_that_was_on_its_way() {
        let mut sight = sight();
        sight.entity(AT_EAST, A, EntityEpoch(2));
        assert!(!sight.left(A, EntityEpoch(1), Tick(10)), "an earlier owner's word");
        assert!(sight.left(A, EntityEpoch(2), Tick(10)));
        assert!(!sight.left(A, EntityEpoch(2), Tick(11)), "once");
        assert_eq!(sight.entity(AT_WEST, A, EntityEpoch(1)), Sighting::Ignore);
        assert_eq!(sight.entity(AT_EAST, A, EntityEpoch(2)), Sighting::Ignore);
        assert!(sight.forget(Tick(12)).is_empty());
        assert_eq!(sight.entity(AT_EAST, A, EntityEpoch(2)), Sighting::Ignore);
        assert_eq!(sight.entity(AT_EAST, A, EntityEpoch(3)), Sighting::New);
    }

    #[test]
    fn departures_are_forgotten_in_the_end() {
        let mut sight = sight();
        sight.left(A, EntityEpoch(2), Tick(0));
        sight.forget(Tick(599));
        assert_eq!(sight.left.len(), 1);
        sight.forget(Tick(600));
        assert!(sight.left.is_empty());
    }

    #[test]
    fn what_its_zone_no_longer_lists_goes_out_of_sight_when_nobody_else_tells_of_it() {
        let mut sight = sight();
        let b = WorldEntityId(2);
        sight.entity(AT_WEST, A, EntityEpoch(1));
        sight.entity(AT_WEST, b, EntityEpoch(1));
        assert_eq!(sight.whole((WEST, Tick(100)), |_| false, Tick(100)), [A, b]);
        assert_eq!(sight.whole((WEST, Tick(400)), |_| false, Tick(400)), [], "once");
        assert!(sight.is_unlisted(b));
        // One of them comes to light in another zone.
        sight.entity(AT_EAST, b, EntityEpoch(2));
        assert!(sight.forget(Tick(699)).is_empty());
        assert_eq!(sight.forget(Tick(700)), [A]);
        assert_eq!(sight.entities().collect::<Vec<_>>(), [(b, EAST, EntityEpoch(2))]);
    }

    #[test]
    fn a_whole_snapshot_that_comes_late_says_nothing_of_what_came_into_its_zone_since() {
        let mut sight = sight();
        sight.entity((EAST, Tick(20)), A, EntityEpoch(2));
        // Of an earlier tick, and what is told of that tick comes late as well.
        sight.entity((EAST, Tick(12)), A, EntityEpoch(2));
        assert_eq!(sight.whole((EAST, Tick(19)), |_| false, Tick(21)), []);
        assert_eq!(sight.whole((EAST, Tick(20)), |_| false, Tick(21)), [A]);
        sight.entity((EAST, Tick(21)), A, EntityEpoch(2));
        assert!(!sight.is_unlisted(A), "its zone has it after all");
    }
}
