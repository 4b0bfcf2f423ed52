//! The live audit: joins what the zones tell of what they simulate into who simulated which entity in which tick.
//!
//! [`Auditor`] is pure: [`AuditLine`]s go in, [`Finding`]s come out, and ticks are its only time. The lines of one zone come in
//! order; those of different zones interleave in any way, and a zone's may come long after another's of the same tick. So
//! nothing is concluded from silence: what a zone has begun, it has for as long as it has not told otherwise, and an entity is
//! lost only when every zone has told of two seconds without it. A zone that stood still has not told of the ticks that it left out.
//!
//! Around it, [`watch`] reads the streams of servers, [`command`] is `loadgen audit`, and [`follow`] goes along with a run.

pub mod command;
pub mod follow;
pub mod stream;
pub mod watch;

mod finding;
mod handoffs;
mod lines;
mod track;
mod zones;

#[cfg(test)]
mod histories;
#[cfg(test)]
mod tests;

pub use finding::{Finding, Owner};
pub use handoffs::HandoffCounts;
pub use zones::Takeover;

use std::collections::{BTreeSet, HashMap, HashSet};

use meridian_events::{AuditLine, Began};
use meridian_ids::{Tick, TickRate, WorldEntityId, ZoneId};
use serde::Serialize;

use crate::metric_definitions::{AUDIT_DUPLICATED, AUDIT_LOST};
use track::{End, Examined, Track};
use zones::{Heard, Zones};

/// How long nobody may simulate an entity until it is lost, in seconds.
const LOST_AFTER_SECONDS: u64 = 2;
/// A zone that is further behind than this is not waited for, in seconds: a lease lasts two, so by then another instance has
/// the zone, or nobody will.
const AWAITED_SECONDS: u64 = 30;
/// When a zone goes on after more than so long, in seconds, the two seconds begin anew: who is on the way to it had no chance to arrive.
const STOOD_STILL_SECONDS: u64 = 1;
/// How long what has ended is kept for what comes late, in seconds behind the slowest zone.
const KEPT_SECONDS: u64 = 5;
/// Entities that are followed at most; ten times what a world is made for.
const ENTITIES_MAX: usize = 1 << 20;
/// Findings that wait to be taken. When everything goes wrong at once, the first ones tell why.
const FINDINGS_MAX: usize = 10_000;

/// What an audit has seen so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AuditSummary {
    /// Zones that told anything.
    pub zones: u64,
    /// Entities that were followed.
    pub entities: u64,
    /// Ticks from the first to the newest of any zone.
    pub ticks: u64,
    /// Entities that two zones simulated in one tick.
    pub duplicated: u64,
    /// Entities that nobody simulated for two seconds; some may have been found again.
    pub lost: u64,
    /// How often an entity's epoch went down.
    pub epoch_went_back: u64,
    /// Entities that nobody simulates just now, but not for long enough to be lost, or not every zone has told yet.
    pub undecided: u64,
    /// Entities of which nothing is known just now: their zone cannot be reached, or its lines were missed when they left it. They stay so
    /// until they are told of again.
    pub unknown: u64,
    /// How often a zone told everything anew: lines of it were missed, another listener came, or its store was restarted. Who was between
    /// zones then is unknown, not lost, if nobody tells of it again.
    pub interruptions: u64,
    /// Lines of instances whose zone another has taken over.
    pub stale_lines: u64,
    /// Lines of a tick of which the zone had told already.
    pub repeated_lines: u64,
    /// How often an entity could not be followed because there were too many.
    pub not_followed: u64,
    /// Findings that nobody took in time.
    pub findings_dropped: u64,
    /// Handoffs since the last [`Auditor::begin_window`].
    pub handoffs: HandoffCounts,
    /// Zones that another instance took over, each with the last time.
    pub takeovers: Vec<Takeover>,
}

/// Joins the lines of all zones. See the module's documentation.
#[derive(Debug)]
pub struct Auditor {
    rate: TickRate,
    zones: Zones,
    tracks: HashMap<WorldEntityId, Track>,
    /// Entities of which a line that does not mention them may bring something to light.
    unsettled: BTreeSet<WorldEntityId>,
    /// Entities that nobody simulates, and that are not yet lost.
    absent: BTreeSet<WorldEntityId>,
    /// Entities that may have left the world in a line that was missed.
    unknown: BTreeSet<WorldEntityId>,
    blind: bool,
    window_from: Tick,
    pruned_at: Tick,
    findings: Vec<Finding>,
    counts: AuditSummary,
}

impl Auditor {
    /// An audit that has heard nothing.
    pub fn new(rate: TickRate) -> Self {
        let hz = u64::from(rate.hz());
        Self {
            rate,
            zones: Zones::new(hz * AWAITED_SECONDS),
            tracks: HashMap::new(),
            unsettled: BTreeSet::new(),
            absent: BTreeSet::new(),
            unknown: BTreeSet::new(),
            blind: false,
            window_from: Tick(0),
            pruned_at: Tick(0),
            findings: Vec::new(),
            counts: AuditSummary::default(),
        }
    }

    /// Takes in a zone's next line; false if it was ignored: an instance's that is no longer the zone, or a repeated one.
    pub fn feed(&mut self, line: &AuditLine) -> bool {
        let last = match self.zones.hear(line) {
            Heard::Stale => {
                self.counts.stale_lines += 1;
                return false;
            }
            Heard::Repeated => {
                self.counts.repeated_lines += 1;
                return false;
            }
            Heard::First => line.tick - 1,
            Heard::Next { last } => {
                self.goes_on(line.tick, last);
                if line.whole {
                    self.counts.interruptions += 1;
                    self.end_unlisted(line, last);
                }
                last
            }
            Heard::TakenOver { last } => {
                self.goes_on(line.tick, last);
                // It had no right to ticks that the new instance simulated.
                let last = last.min(line.tick - 1);
                self.end_all(line, last);
                last
            }
        };
        for entity in &line.spawned {
            self.change(*entity, line.tick, |track| track.spawned(line.zone, line.tick));
        }
        self.begin_and_end(line, last);
        for entity in &line.retired {
            self.retire(*entity, line, last);
        }
        self.zones.reported(line);
        self.settle();
        self.look_for_lost();
        self.prune();
        true
    }

    /// The zone's stream has broken: its entities are unknown, neither held nor lost, until it tells again.
    pub fn zone_unreachable(&mut self, zone: ZoneId) {
        if let Some(zone) = self.zones.get_mut(zone) {
            zone.reachable = false;
        }
    }

    /// Whether there are zones that are still to be heard for the first time: then nobody is called lost, for it may be there.
    /// When sight comes back, two seconds begin anew.
    pub fn set_blind(&mut self, blind: bool) {
        if self.blind && !blind {
            self.wait_anew(self.zones.newest());
        }
        self.blind = blind;
    }

    /// Handoffs are counted anew from here on.
    pub fn begin_window(&mut self) {
        self.window_from = self.zones.newest();
        self.counts.handoffs = HandoffCounts::default();
    }

    /// What was found and not yet taken, in the order in which it was found.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The faults among [`Self::findings`].
    pub fn faults(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.is_fault())
    }

    /// Takes what was found.
    pub fn drain_findings(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.findings)
    }

    /// The counts so far.
    pub fn summary(&self) -> AuditSummary {
        let unreachable: usize = self.zones.unreachable().map(|zone| zone.simulates.len()).sum();
        AuditSummary {
            zones: self.zones.count(),
            ticks: self.zones.ticks(),
            undecided: self.absent.len() as u64,
            unknown: (unreachable + self.unknown.len()) as u64,
            takeovers: self.zones.takeovers().collect(),
            ..self.counts.clone()
        }
    }

    /// A zone tells of `tick`, and had told of `last` before.
    fn goes_on(&mut self, tick: Tick, last: Tick) {
        if tick - u64::from(self.rate.hz()) * STOOD_STILL_SECONDS > last {
            self.wait_anew(tick);
        }
    }

    /// Nobody has been absent since before `tick`.
    fn wait_anew(&mut self, tick: Tick) {
        for entity in &self.absent {
            if let Some(track) = self.tracks.get_mut(entity) {
                track.absent_since = track.absent_since.max(Some(tick));
            }
        }
    }

    /// Ends all that a zone had, because another instance of it has taken over.
    fn end_all(&mut self, line: &AuditLine, last: Tick) {
        self.end_where(line, last, |_| true);
    }

    /// Ends what a whole line does not list: it ended in a tick that nobody was told of.
    fn end_unlisted(&mut self, line: &AuditLine, last: Tick) {
        let listed: HashSet<_> = line.began.iter().map(|began| began.entity).collect();
        self.end_where(line, last, |entity| !listed.contains(entity));
    }

    fn end_where(&mut self, line: &AuditLine, last: Tick, has_ended: impl Fn(&WorldEntityId) -> bool) {
        let Some(zone) = self.zones.get_mut(line.zone) else {
            return;
        };
        let ended: Vec<_> = zone.simulates.extract_if(has_ended).collect();
        for entity in ended {
            self.change(entity, line.tick, |track| track.end(line.zone, End::Unknown(last)));
        }
    }

    /// Applies what began and what ended, in the order of the ticks.
    fn begin_and_end(&mut self, line: &AuditLine, last: Tick) {
        // Quiet ticks are most of them.
        if line.began.is_empty() && line.ended.is_empty() {
            return;
        }
        let began = line
            .began
            .iter()
            .map(|began| (began.from, 1, began.entity, Some(began)));
        // Of what a whole line says has ended it is not known when it began: after what was missed, or before.
        let ended = if line.whole { &[] } else { line.ended.as_slice() };
        let ended = ended.iter().map(|ended| {
            // What ends before the same tick in which it begins ends first, unless there is nothing yet that could end.
            let rank = if self.has(line.zone, ended.entity) { 0 } else { 2 };
            (Tick(ended.through.0.saturating_add(1)), rank, ended.entity, None)
        });
        let mut changes: Vec<_> = began.chain(ended).collect();
        changes.sort_by_key(|(tick, rank, ..)| (*tick, *rank));
        for (tick, _, entity, began) in changes {
            match began {
                Some(began) => self.begin(line, began, last),
                None => self.end(line, entity, End::Told(tick - 1)),
            }
        }
    }

    fn begin(&mut self, line: &AuditLine, began: &Began, last: Tick) {
        let owner = Owner {
            zone: line.zone,
            epoch: began.epoch,
        };
        match self
            .tracks
            .get(&began.entity)
            .and_then(|track| track.epoch_in(line.zone))
        {
            Some(epoch) if epoch == began.epoch => return,
            // It is the same zone's under another epoch: nobody told when the old one ended.
            Some(_) => self.end(line, began.entity, End::Unknown(last.min(began.from - 1))),
            None => {}
        }
        let mut findings = Vec::new();
        let (mut before, mut handoffs) = (0, Vec::new());
        let followed = self.change(began.entity, line.tick, |track| {
            if track.is_lost {
                findings.push(Finding::Found {
                    entity: began.entity,
                    owner,
                    from: began.from,
                });
            }
            before = track.handoffs().len();
            findings.extend(track.begin(began.entity, owner, began.from));
            handoffs = track.handoffs();
        });
        if !followed {
            return;
        }
        let (since, span) = (self.window_from, u64::from(self.rate.hz()));
        self.counts.handoffs.record(before, &mut handoffs, since, span);
        if let Some(zone) = self.zones.get_mut(line.zone) {
            zone.simulates.insert(began.entity);
        }
        for finding in findings {
            self.counts.epoch_went_back += u64::from(matches!(finding, Finding::EpochWentBack { .. }));
            self.tell(finding);
        }
    }

    fn end(&mut self, line: &AuditLine, entity: WorldEntityId, end: End) {
        let had = self
            .zones
            .get_mut(line.zone)
            .is_some_and(|zone| zone.simulates.remove(&entity));
        if had {
            self.change(entity, line.tick, |track| track.end(line.zone, end));
        }
    }

    fn retire(&mut self, entity: WorldEntityId, line: &AuditLine, last: Tick) {
        self.end(line, entity, End::Unknown(last));
        self.change(entity, line.tick, |track| track.retired(line.tick));
    }

    fn has(&self, zone: ZoneId, entity: WorldEntityId) -> bool {
        self.tracks
            .get(&entity)
            .is_some_and(|track| track.epoch_in(zone).is_some())
    }

    /// Changes an entity's track because of a line; false if there is no room for another entity.
    fn change(&mut self, entity: WorldEntityId, tick: Tick, change: impl FnOnce(&mut Track)) -> bool {
        if self.tracks.len() >= ENTITIES_MAX && !self.tracks.contains_key(&entity) {
            self.counts.not_followed += 1;
            return false;
        }
        let track = self.tracks.entry(entity).or_default();
        let was_seen = track.was_seen();
        change(track);
        track.changed(tick);
        self.counts.entities += u64::from(!was_seen && track.was_seen());
        self.unsettled.insert(entity);
        if track.absent_since.is_some() && !track.is_lost {
            self.absent.insert(entity);
        } else {
            self.absent.remove(&entity);
        }
        if !track.fate_unknown {
            self.unknown.remove(&entity);
        }
        true
    }

    /// Looks again at those of whom any zone's next tick may bring something to light.
    fn settle(&mut self) {
        let horizon = self.horizon();
        let mut unsettled = std::mem::take(&mut self.unsettled);
        unsettled.retain(|entity| {
            let Some(track) = self.tracks.get_mut(entity) else {
                return false;
            };
            let was_duplicated = track.was_duplicated;
            let Examined {
                findings,
                gaps,
                unsettled,
            } = track.examine(*entity, &self.zones, horizon);
            let is_new = u64::from(track.was_duplicated && !was_duplicated);
            self.counts.duplicated += is_new;
            metrics::counter!(AUDIT_DUPLICATED).increment(is_new);
            gaps.into_iter().for_each(|gap| self.counts.handoffs.record_gap(gap));
            findings.into_iter().for_each(|finding| self.tell(finding));
            unsettled
        });
        self.unsettled = unsettled;
    }

    /// Those whom nobody has are lost when all zones have told of two seconds without them.
    fn look_for_lost(&mut self) {
        if self.blind || self.absent.is_empty() {
            return;
        }
        let told = self.zones.told_by_all();
        let grace = u64::from(self.rate.hz()) * LOST_AFTER_SECONDS;
        let mut absent = std::mem::take(&mut self.absent);
        absent.retain(|entity| {
            let Some(track) = self.tracks.get_mut(entity) else {
                return false;
            };
            let (Some(since), Some((zone, epoch, last))) = (track.absent_since, track.last_owner()) else {
                return false;
            };
            if since > told - grace {
                return true;
            }
            // It may have gone to a zone, and left the world there, in lines that were missed.
            if last < self.zones.missed_until() {
                track.fate_unknown = true;
                if self.unknown.len() >= ENTITIES_MAX {
                    self.unknown.pop_first();
                    self.counts.not_followed += 1;
                }
                self.unknown.insert(*entity);
                return false;
            }
            track.is_lost = true;
            let is_new = u64::from(!track.was_lost);
            self.counts.lost += is_new;
            metrics::counter!(AUDIT_LOST).increment(is_new);
            track.was_lost = true;
            self.tell(Finding::Lost {
                entity: *entity,
                zone,
                epoch,
                last,
            });
            false
        });
        self.absent = absent;
    }

    /// Once a second, forgets what is too old to meet anything that still may come.
    fn prune(&mut self) {
        let newest = self.zones.newest();
        if newest.since(self.pruned_at) < i64::from(self.rate.hz()) {
            return;
        }
        self.pruned_at = newest;
        let horizon = self.horizon();
        let unsettled = &self.unsettled;
        self.tracks.retain(|entity, track| {
            if !unsettled.contains(entity) {
                track.prune(horizon);
            }
            !track.is_over(horizon)
        });
    }

    /// What is older than this is not kept.
    fn horizon(&self) -> Tick {
        let hz = u64::from(self.rate.hz());
        let told = if self.blind {
            self.zones.newest() - hz * AWAITED_SECONDS
        } else {
            self.zones.told_by_all()
        };
        told - hz * KEPT_SECONDS
    }

    fn tell(&mut self, finding: Finding) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        } else {
            self.counts.findings_dropped += 1;
        }
    }
}
