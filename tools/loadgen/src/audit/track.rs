//! What is known of one entity: who simulated it when.

use meridian_ids::{EntityEpoch, Tick, WorldEntityId, ZoneId};

use super::finding::{Finding, Owner};
use super::handoffs::Gap;
use super::zones::Zones;

/// Intervals that are kept of an entity at most, and so pairs that are compared. Handoffs are bounded to five a second, and
/// intervals are kept for seconds; the oldest goes first.
const INTERVALS_MAX: usize = 128;

/// How far an interval reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// As far as the zone has told.
    Open,
    /// Through this tick, says the zone.
    Told(Tick),
    /// Through this tick at least: the zone did not say when it ended.
    Unknown(Tick),
}

/// A run of ticks in which a zone simulated the entity.
#[derive(Clone, Copy, Debug)]
struct Interval {
    id: u64,
    owner: Owner,
    from: Tick,
    end: End,
    /// Whether the gap between this owner and the one before is told.
    gap_told: bool,
}

impl Interval {
    fn is_open(&self) -> bool {
        self.end == End::Open
    }

    /// The last tick that is known to be covered; before `from` if none is.
    fn through(&self, zones: &Zones) -> Tick {
        match self.end {
            End::Open => zones.last(self.owner.zone).unwrap_or(Tick(0)),
            End::Told(through) | End::Unknown(through) => through,
        }
    }

    fn is_handoff_from(&self, before: &Self) -> bool {
        let is_later = self.owner.epoch > before.owner.epoch && self.from >= before.from;
        is_later && self.owner.zone != before.owner.zone
    }
}

/// Ticks that two intervals share.
#[derive(Clone, Copy, Debug)]
struct Overlap {
    ids: [u64; 2],
    owners: [Owner; 2],
    first: Tick,
    last: Tick,
    last_told: Tick,
    over: bool,
}

/// What a look at a track has brought to light.
#[derive(Debug, Default)]
pub(super) struct Examined {
    pub(super) findings: Vec<Finding>,
    pub(super) gaps: Vec<Gap>,
    /// Whether lines of zones that do not mention the entity may bring more to light.
    pub(super) unsettled: bool,
}

/// One entity.
#[derive(Debug, Default)]
pub(super) struct Track {
    /// By epoch, then by first tick.
    intervals: Vec<Interval>,
    overlaps: Vec<Overlap>,
    intervals_ever: u64,
    made: Option<(ZoneId, Tick)>,
    /// The latest tick from which it is known to be in the world.
    alive_from: Option<Tick>,
    retired: Option<Tick>,
    /// Whether nobody has it, and it may have left the world in a line that was missed.
    pub(super) fate_unknown: bool,
    /// The latest tick of a line that told anything of it.
    changed: Tick,
    /// Since when nobody simulates it, although it is in the world.
    pub(super) absent_since: Option<Tick>,
    /// Whether it counts as lost just now.
    pub(super) is_lost: bool,
    pub(super) was_lost: bool,
    pub(super) was_duplicated: bool,
}

impl Track {
    /// Whether it was ever in the world, as far as was heard.
    pub(super) fn was_seen(&self) -> bool {
        self.alive_from.is_some()
    }

    pub(super) fn spawned(&mut self, zone: ZoneId, tick: Tick) {
        self.made = Some((zone, tick));
        self.alive_from = self.alive_from.max(Some(tick));
    }

    pub(super) fn retired(&mut self, tick: Tick) {
        self.retired = self.retired.max(Some(tick));
    }

    /// The epoch under which a zone has it now.
    pub(super) fn epoch_in(&self, zone: ZoneId) -> Option<EntityEpoch> {
        self.open_in(zone).map(|index| self.intervals[index].owner.epoch)
    }

    /// A zone simulates it from a tick on. Says so where its epoch went back by that.
    pub(super) fn begin(&mut self, entity: WorldEntityId, owner: Owner, from: Tick) -> Option<Finding> {
        self.alive_from = self.alive_from.max(Some(from));
        self.fate_unknown = false;
        let interval = Interval {
            id: self.intervals_ever,
            owner,
            from,
            end: End::Open,
            gap_told: false,
        };
        self.intervals_ever += 1;
        if self.intervals.len() >= INTERVALS_MAX {
            self.forget_oldest();
        }
        let key = |interval: &Interval| (interval.owner.epoch, interval.from, interval.id);
        let index = self.intervals.partition_point(|known| key(known) < key(&interval));
        self.intervals.insert(index, interval);
        // What comes by epoch must come by tick too; the lines of two zones may have come in any order.
        let went_back = |before: &Interval, after: &Interval| Finding::EpochWentBack {
            entity,
            before: before.owner,
            before_from: before.from,
            after: after.owner,
            after_from: after.from,
        };
        let is_higher = |known: &&Interval| known.owner.epoch > owner.epoch && known.from < from;
        let is_lower = |known: &&Interval| known.owner.epoch < owner.epoch && known.from > from;
        let higher = self.intervals.iter().find(is_higher);
        let lower = self.intervals.iter().find(is_lower);
        higher
            .map(|higher| went_back(higher, &interval))
            .or(lower.map(|lower| went_back(&interval, lower)))
    }

    /// A zone does not simulate it any more. Nothing changes if it did not.
    pub(super) fn end(&mut self, zone: ZoneId, end: End) {
        if let Some(index) = self.open_in(zone) {
            self.intervals[index].end = end;
        }
    }

    /// The ticks in which it came into another zone.
    pub(super) fn handoffs(&self) -> Vec<Tick> {
        let pairs = self
            .intervals
            .windows(2)
            .filter(|pair| pair[1].is_handoff_from(&pair[0]));
        pairs.map(|pair| pair[1].from).collect()
    }

    /// A line of `tick` told of it: whether it is absent may have changed.
    pub(super) fn changed(&mut self, tick: Tick) {
        self.changed = self.changed.max(tick);
        let simulated = self.intervals.iter().any(Interval::is_open);
        let absent = !simulated && self.is_alive() && !self.fate_unknown;
        self.absent_since = absent.then_some(self.changed);
        if simulated {
            self.is_lost = false;
        }
        self.fate_unknown &= self.is_alive();
    }

    /// Who had it last, under which epoch, and through which tick.
    pub(super) fn last_owner(&self) -> Option<(ZoneId, Option<EntityEpoch>, Tick)> {
        let ended = self.intervals.iter().filter_map(|interval| match interval.end {
            End::Open => None,
            End::Told(through) | End::Unknown(through) => Some((interval.owner, through)),
        });
        let last = ended.max_by_key(|(owner, through)| (*through, owner.epoch));
        last.map(|(owner, through)| (owner.zone, Some(owner.epoch), through))
            .or(self.made.map(|(zone, tick)| (zone, None, tick)))
    }

    /// Compares what the zones have told so far. Gaps that are open since before `horizon` will not be known any more.
    pub(super) fn examine(&mut self, entity: WorldEntityId, zones: &Zones, horizon: Tick) -> Examined {
        let mut examined = Examined::default();
        self.compare(entity, zones, &mut examined);
        self.measure_gaps(zones, horizon, &mut examined);
        examined
    }

    /// Forgets intervals that ended before `horizon`, but the last one: the next owner is compared with it.
    pub(super) fn prune(&mut self, horizon: Tick) {
        let last = self.intervals.last().map(|interval| interval.id);
        self.intervals.retain(|interval| match interval.end {
            End::Open => true,
            End::Told(through) | End::Unknown(through) => through >= horizon || Some(interval.id) == last,
        });
        self.forget_overlaps();
    }

    /// Whether nothing of it can matter any more.
    pub(super) fn is_over(&self, horizon: Tick) -> bool {
        let simulated = self.intervals.iter().any(Interval::is_open);
        let is_gone = !self.is_alive() || self.fate_unknown;
        !simulated && is_gone && self.changed < horizon
    }

    fn is_alive(&self) -> bool {
        self.alive_from
            .is_some_and(|from| self.retired.is_none_or(|retired| from > retired))
    }

    fn open_in(&self, zone: ZoneId) -> Option<usize> {
        let is_it = |interval: &Interval| interval.owner.zone == zone && interval.is_open();
        self.intervals.iter().rposition(is_it)
    }

    fn compare(&mut self, entity: WorldEntityId, zones: &Zones, examined: &mut Examined) {
        for index in 1..self.intervals.len() {
            for other in 0..index {
                let (mut one, mut two) = (self.intervals[other], self.intervals[index]);
                if one.owner.zone == two.owner.zone {
                    continue;
                }
                if two.from < one.from {
                    (one, two) = (two, one);
                }
                let may_grow = may_still_meet(&one, &two, zones);
                examined.unsettled |= may_grow;
                self.compare_pair(entity, zones, [one, two], may_grow, &mut examined.findings);
            }
        }
    }

    /// `pair` is ordered by first tick.
    fn compare_pair(
        &mut self,
        entity: WorldEntityId,
        zones: &Zones,
        pair: [Interval; 2],
        may_grow: bool,
        findings: &mut Vec<Finding>,
    ) {
        let [one, two] = pair;
        let ids = [one.id, two.id];
        let (first, last) = (two.from, one.through(zones).min(two.through(zones)));
        let known = self.overlaps.iter_mut().find(|overlap| overlap.ids == ids);
        match known {
            None if first <= last => {
                let owners = [one.owner, two.owner];
                self.was_duplicated = true;
                findings.push(Finding::Duplicated {
                    entity,
                    owners,
                    first,
                    last,
                });
                self.overlaps.push(Overlap {
                    ids,
                    owners,
                    first,
                    last,
                    last_told: last,
                    over: !may_grow,
                });
            }
            Some(overlap) if !overlap.over => {
                overlap.last = overlap.last.max(last);
                overlap.over = !may_grow;
                if overlap.over && overlap.last > overlap.last_told {
                    findings.push(Finding::DuplicateEnded {
                        entity,
                        owners: overlap.owners,
                        first: overlap.first,
                        last: overlap.last,
                    });
                }
            }
            None | Some(_) => {}
        }
    }

    fn measure_gaps(&mut self, zones: &Zones, horizon: Tick, examined: &mut Examined) {
        for index in 1..self.intervals.len() {
            let (before, interval) = (self.intervals[index - 1], self.intervals[index]);
            if interval.gap_told || !interval.is_handoff_from(&before) {
                continue;
            }
            let out_of_date = (interval.from < horizon).then_some(Gap::Unknown);
            match gap(&before, &interval, zones).or(out_of_date) {
                Some(gap) => {
                    examined.gaps.push(gap);
                    self.intervals[index].gap_told = true;
                }
                None => examined.unsettled = true,
            }
        }
    }

    fn forget_oldest(&mut self) {
        let ended = self.intervals.iter().enumerate().filter(|(_, known)| !known.is_open());
        if let Some((oldest, _)) = ended.min_by_key(|(_, known)| known.from) {
            self.intervals.remove(oldest);
            self.forget_overlaps();
        }
    }

    fn forget_overlaps(&mut self) {
        let intervals = &self.intervals;
        let is_known = |id: &u64| intervals.iter().any(|interval| interval.id == *id);
        self.overlaps.retain(|overlap| overlap.ids.iter().all(is_known));
    }
}

/// Whether two intervals, ordered by first tick, may come to share ticks that they do not share yet.
fn may_still_meet(one: &Interval, two: &Interval, zones: &Zones) -> bool {
    match (one.is_open(), two.is_open()) {
        (true, true) => true,
        (false, false) => false,
        // The one that is open must reach into the other; it has passed it once it has told of the other's last tick.
        (true, false) => two.from <= two.through(zones) && one.through(zones) < two.through(zones),
        (false, true) => two.from <= one.through(zones) && two.through(zones) < one.through(zones),
    }
}

/// The ticks that are missing between two owners, once both have told enough.
fn gap(before: &Interval, after: &Interval, zones: &Zones) -> Option<Gap> {
    // Between epochs that are not neighbours there was an owner that has not told yet.
    if before.owner.epoch.0.checked_add(1) != Some(after.owner.epoch.0) {
        return None;
    }
    match before.end {
        End::Open => None,
        End::Unknown(_) => Some(Gap::Unknown),
        // Until the old owner has told of the tick before the new one's first, it may have taken the entity up again.
        End::Told(through) => {
            let told = zones.last(before.owner.zone)? >= after.from - 1;
            told.then(|| Gap::Ticks(after.from.0.saturating_sub(through.0.saturating_add(1))))
        }
    }
}
