//! Each rule of the audit, told line by line.

use meridian_events::{AuditLine, Began, Ended};
use meridian_ids::{EntityEpoch, LeaseEpoch};

use super::*;

mod counts;

const E: u64 = 7;

/// A quiet line of a zone's first instance.
pub(super) fn line(zone: u16, tick: u64) -> AuditLine {
    AuditLine {
        zone: ZoneId(zone),
        lease: LeaseEpoch(1),
        tick: Tick(tick),
        whole: false,
        began: vec![],
        ended: vec![],
        spawned: vec![],
        retired: vec![],
    }
}

/// What a line may tell.
pub(super) trait Telling {
    fn whole(self) -> Self;
    fn lease(self, lease: u64) -> Self;
    fn began(self, entity: u64, epoch: u64, from: u64) -> Self;
    fn ended(self, entity: u64, through: u64) -> Self;
    fn spawned(self, entity: u64) -> Self;
    fn retired(self, entity: u64) -> Self;
}

impl Telling for AuditLine {
    fn whole(mut self) -> Self {
        self.whole = true;
        self
    }

    fn lease(mut self, lease: u64) -> Self {
        self.lease = LeaseEpoch(lease);
        self
    }

    fn began(mut self, entity: u64, epoch: u64, from: u64) -> Self {
        self.began.push(Began {
            entity: WorldEntityId(entity),
            epoch: EntityEpoch(epoch),
            from: Tick(from),
        });
        self
    }

    fn ended(mut self, entity: u64, through: u64) -> Self {
        self.ended.push(Ended {
            entity: WorldEntityId(entity),
            through: Tick(through),
        });
        self
    }

    fn spawned(mut self, entity: u64) -> Self {
        self.spawned.push(WorldEntityId(entity));
        self
    }

    fn retired(mut self, entity: u64) -> Self {
        self.retired.push(WorldEntityId(entity));
        self
    }
}

fn owner(zone: u16, epoch: u64) -> Owner {
    Owner {
        zone: ZoneId(zone),
        epoch: EntityEpoch(epoch),
    }
}

fn duplicated(owners: [Owner; 2], first: u64, last: u64) -> Finding {
    Finding::Duplicated {
        entity: WorldEntityId(E),
        owners,
        first: Tick(first),
        last: Tick(last),
    }
}

fn lost(zone: u16, epoch: Option<u64>, last: u64) -> Finding {
    Finding::Lost {
        entity: WorldEntityId(E),
        zone: ZoneId(zone),
        epoch: epoch.map(EntityEpoch),
        last: Tick(last),
    }
}

/// Zones 0 and 1 at tick 100; zone 0 has the entity since tick 50, under epoch 3.
fn begun() -> Auditor {
    let mut auditor = Auditor::new(TickRate::default());
    auditor.feed(&line(0, 100).whole().began(E, 3, 50));
    auditor.feed(&line(1, 100).whole());
    auditor
}

impl Auditor {
    fn feed_all(&mut self, lines: impl IntoIterator<Item = AuditLine>) {
        for line in lines {
            self.feed(&line);
        }
    }

    fn quiet(&mut self, zone: u16, ticks: std::ops::RangeInclusive<u64>) {
        self.feed_all(ticks.map(|tick| line(zone, tick)));
    }

    fn handoffs(&self) -> HandoffCounts {
        self.summary().handoffs
    }
}

#[test]
fn a_perfect_handoff_is_counted_and_no_fault() {
    let mut auditor = begun();
    auditor.feed_all([
        line(0, 101).ended(E, 100),
        line(1, 101).began(E, 4, 101),
        line(0, 102),
        line(1, 102),
    ]);
    auditor.quiet(0, 103..=400);
    auditor.quiet(1, 103..=400);
    assert_eq!(auditor.findings(), []);
    let handoffs = auditor.handoffs();
    assert_eq!((handoffs.total, handoffs.per_entity_per_second_max), (1, 1));
    assert_eq!((handoffs.missing_ticks_max(), handoffs.gap_unknown), (Some(0), 0));
    let summary = auditor.summary();
    assert_eq!((summary.zones, summary.entities, summary.ticks), (2, 1, 301));
}

#[test]
fn ticks_that_nobody_simulated_between_two_owners_are_counted() {
    let mut auditor = begun();
    auditor.feed_all([line(0, 101).ended(E, 100), line(1, 105).began(E, 4, 104)]);
    assert_eq!(
        auditor.handoffs().missing_ticks_max(),
        None,
        "the old owner may have gone on"
    );
    auditor.quiet(0, 102..=110);
    assert_eq!(auditor.handoffs().missing_ticks_max(), Some(3));
    assert_eq!(auditor.findings(), []);
}

#[test]
fn a_duplicate_is_told_once_when_it_is_found_and_once_when_it_is_over() {
    let mut auditor = begun();
    auditor.feed(&line(1, 101).began(E, 4, 101));
    assert_eq!(auditor.findings(), [], "zone 0 has not told of tick 101 yet");
    auditor.feed(&line(0, 101));
    let owners = [owner(0, 3), owner(1, 4)];
    assert_eq!(auditor.drain_findings(), [duplicated(owners, 101, 101)]);
    for tick in 102..=160 {
        auditor.feed_all([line(0, tick), line(1, tick)]);
    }
    assert_eq!(auditor.findings(), [], "it is not told again each tick");
    auditor.feed_all([line(0, 161).ended(E, 160), line(1, 161), line(0, 162)]);
    let over = Finding::DuplicateEnded {
        entity: WorldEntityId(E),
        owners,
        first: Tick(101),
        last: Tick(160),
    };
    assert_eq!(auditor.drain_findings(), [over]);
    assert_eq!((auditor.summary().duplicated, auditor.summary().lost), (1, 0));
}

#[test]
fn a_duplicate_among_ticks_long_past_is_found() {
    let mut auditor = begun();
    auditor.quiet(0, 101..=150);
    auditor.feed(&line(0, 151).ended(E, 150));
    auditor.quiet(0, 152..=300);
    // Zone 1 is behind: it tells of tick 149 only now.
    auditor.quiet(1, 101..=148);
    auditor.feed(&line(1, 149).began(E, 4, 149));
    auditor.quiet(1, 150..=300);
    let found = auditor.drain_findings();
    assert_eq!(found[0], duplicated([owner(0, 3), owner(1, 4)], 149, 149));
    assert!(
        matches!(found[1..], [Finding::DuplicateEnded { last: Tick(150), .. }]),
        "{found:?}"
    );
}

#[test]
fn a_zone_that_runs_far_behind_is_no_fault_whichever_it_is() {
    for (ahead, behind) in [(0, 1), (1, 0)] {
        let mut auditor = begun();
        let told = |zone: u16| {
            (101..=700).map(move |tick| match (zone, tick) {
                (0, 201) => line(0, tick).ended(E, 200),
                (1, 203) => line(1, tick).began(E, 4, 201),
                _ => line(zone, tick),
            })
        };
        auditor.feed_all(told(ahead));
        assert_eq!(auditor.findings(), []);
        auditor.feed_all(told(behind));
        assert_eq!(auditor.findings(), []);
        let handoffs = auditor.handoffs();
        assert_eq!((handoffs.total, handoffs.missing_ticks_max()), (1, Some(0)));
    }
}

#[test]
fn an_epoch_that_goes_down_is_a_fault_in_whichever_order_it_is_told() {
    let fault = Finding::EpochWentBack {
        entity: WorldEntityId(E),
        before: owner(0, 3),
        before_from: Tick(50),
        after: owner(1, 2),
        after_from: Tick(101),
    };
    let mut auditor = begun();
    auditor.feed_all([line(0, 101).ended(E, 100), line(1, 101).began(E, 2, 101)]);
    assert_eq!(auditor.drain_findings(), [fault]);
    let mut auditor = Auditor::new(TickRate::default());
    auditor.feed_all([
        line(1, 101).whole().began(E, 2, 101),
        line(0, 90).whole().began(E, 3, 50),
    ]);
    assert_eq!(auditor.drain_findings(), [fault]);
    assert_eq!((auditor.summary().epoch_went_back, auditor.handoffs().total), (1, 0));
}

#[test]
fn an_earlier_owner_that_tells_later_is_no_epoch_that_goes_down() {
    let mut auditor = Auditor::new(TickRate::default());
    auditor.feed_all([
        line(1, 150).whole().began(E, 4, 101),
        line(0, 60).whole().began(E, 3, 50),
        line(0, 101).ended(E, 100),
    ]);
    assert_eq!(auditor.findings(), []);
    assert_eq!(auditor.handoffs().total, 1);
}

#[test]
fn who_is_nobodys_for_two_seconds_is_lost_and_stays_counted_when_it_is_found() {
    let mut auditor = begun();
    auditor.feed(&line(0, 101).ended(E, 100));
    auditor.quiet(0, 102..=400);
    auditor.quiet(1, 101..=220);
    assert_eq!((auditor.findings(), auditor.summary().undecided), ([].as_slice(), 1));
    auditor.quiet(1, 221..=300);
    assert_eq!(auditor.drain_findings(), [lost(0, Some(3), 100)]);
    auditor.feed(&line(1, 301).began(E, 4, 101));
    let found = Finding::Found {
        entity: WorldEntityId(E),
        owner: owner(1, 4),
        from: Tick(101),
    };
    assert_eq!(auditor.drain_findings(), [found]);
    assert_eq!((auditor.summary().lost, auditor.summary().undecided), (1, 0));
}

#[test]
fn who_was_made_and_never_simulated_is_lost_but_not_who_has_left_the_world() {
    let mut auditor = begun();
    let lines = [
        line(0, 101).ended(E, 100).retired(E).spawned(8),
        line(0, 102).spawned(9).retired(9),
        line(0, 103).spawned(10).began(10, 1, 103),
        line(0, 104).retired(10),
    ];
    auditor.feed_all(lines);
    auditor.quiet(0, 105..=300);
    auditor.quiet(1, 101..=300);
    let expected = Finding::Lost {
        entity: WorldEntityId(8),
        zone: ZoneId(0),
        epoch: None,
        last: Tick(101),
    };
    assert_eq!(auditor.drain_findings(), [expected]);
    assert_eq!(auditor.summary().entities, 4);
}

#[test]
fn a_retirement_that_is_told_before_what_came_before_it_counts() {
    let mut auditor = begun();
    auditor.quiet(1, 101..=150);
    auditor.feed(&line(1, 151).began(E, 4, 140).retired(E));
    auditor.quiet(1, 152..=500);
    auditor.quiet(0, 101..=139);
    auditor.feed(&line(0, 140).ended(E, 139));
    auditor.quiet(0, 141..=500);
    assert_eq!(auditor.findings(), []);
    assert_eq!(auditor.handoffs().total, 1);
}

#[test]
fn who_comes_into_the_world_again_can_be_lost_again() {
    let mut auditor = begun();
    auditor.feed_all([
        line(0, 101).ended(E, 100).retired(E),
        line(0, 150).spawned(E).began(E, 4, 150),
        line(0, 161).ended(E, 160),
    ]);
    auditor.quiet(0, 162..=300);
    auditor.quiet(1, 101..=300);
    assert_eq!(auditor.drain_findings(), [lost(0, Some(4), 160)]);
}

#[test]
fn who_is_with_a_zone_that_tells_nothing_is_held_and_unknown_when_it_cannot_be_reached() {
    let mut auditor = begun();
    auditor.quiet(1, 101..=10_000);
    assert_eq!((auditor.findings(), auditor.summary().unknown), ([].as_slice(), 0));
    auditor.zone_unreachable(ZoneId(0));
    auditor.quiet(1, 10_001..=20_000);
    assert_eq!((auditor.findings(), auditor.summary().unknown), ([].as_slice(), 1));
    auditor.feed(&line(0, 20_000));
    assert_eq!((auditor.findings(), auditor.summary().unknown), ([].as_slice(), 0));
}

#[test]
fn a_zone_that_is_behind_is_waited_for_but_not_for_ever() {
    let mut auditor = begun();
    auditor.feed(&line(0, 101).ended(E, 100));
    // Zone 1 may have taken it in tick 101.
    auditor.quiet(0, 102..=1_900);
    assert_eq!(auditor.findings(), []);
    auditor.quiet(0, 1_901..=1_901);
    assert_eq!(auditor.drain_findings(), [lost(0, Some(3), 100)]);
}

#[test]
fn who_was_on_the_way_to_a_zone_that_stood_still_has_two_seconds_from_when_it_goes_on() {
    for arrives in [true, false] {
        let mut auditor = begun();
        auditor.feed(&line(0, 101).ended(E, 100));
        auditor.quiet(0, 102..=600);
        auditor.quiet(1, 101..=110);
        // What it could not simulate it leaves out.
        auditor.quiet(1, 401..=403);
        assert_eq!((auditor.findings(), auditor.summary().undecided), ([].as_slice(), 1));
        if arrives {
            auditor.feed(&line(1, 404).began(E, 4, 101));
        }
        auditor.quiet(1, 405..=600);
        let expected = (!arrives).then(|| lost(0, Some(3), 100));
        assert_eq!(auditor.findings(), expected.as_slice());
    }
}

#[test]
fn nobody_is_lost_while_a_server_has_not_told_of_its_zones() {
    let mut auditor = Auditor::new(TickRate::default());
    auditor.set_blind(true);
    auditor.feed_all([line(0, 100).whole().began(E, 3, 50), line(0, 101).ended(E, 100)]);
    auditor.quiet(0, 102..=500);
    assert_eq!(auditor.findings(), []);
    auditor.set_blind(false);
    auditor.quiet(0, 501..=619);
    assert_eq!(auditor.findings(), []);
    auditor.quiet(0, 620..=620);
    assert_eq!(auditor.drain_findings(), [lost(0, Some(3), 100)]);
}

#[test]
fn what_a_zombie_tells_is_counted_and_ignored() {
    let mut auditor = begun();
    auditor.feed(&line(0, 150).lease(2).whole().began(E, 3, 150));
    assert!(!auditor.feed(&line(0, 151)) && !auditor.feed(&line(0, 152).retired(E)));
    auditor.feed_all([
        line(0, 161).lease(2).ended(E, 160),
        line(1, 161).began(E, 4, 161),
        line(0, 170).began(E, 3, 50),
        line(0, 171),
    ]);
    assert_eq!((auditor.findings(), auditor.summary().stale_lines), ([].as_slice(), 4));
    assert_eq!(auditor.handoffs().total, 1);
}

#[test]
fn an_instance_has_no_right_to_ticks_that_its_successor_simulated() {
    let mut auditor = begun();
    // It goes on although its lease has ended, until its successor is heard.
    auditor.quiet(0, 101..=130);
    auditor.feed(&line(0, 120).lease(2).whole());
    auditor.feed(&line(1, 121).began(E, 4, 121));
    auditor.quiet(1, 122..=200);
    assert_eq!(auditor.findings(), []);
    assert_eq!(
        auditor.handoffs().gap_unknown,
        1,
        "nobody knows the old owner's last tick"
    );
}

#[test]
fn what_a_successor_does_not_have_and_nobody_takes_is_lost() {
    let mut auditor = begun();
    auditor.quiet(0, 101..=130);
    auditor.quiet(1, 101..=500);
    auditor.feed(&line(0, 400).lease(2).whole());
    assert_eq!(auditor.findings(), [], "it may be on its way");
    auditor.feed_all((401..=520).map(|tick| line(0, tick).lease(2)));
    auditor.quiet(1, 501..=520);
    assert_eq!(auditor.drain_findings(), [lost(0, Some(3), 130)]);
}

#[test]
fn a_whole_line_in_the_middle_makes_good_what_was_missed() {
    let mut auditor = begun();
    auditor.feed_all([line(0, 101).began(8, 1, 101), line(0, 102).began(9, 1, 102)]);
    // Meanwhile zone 1 has taken one over, one may have left the world, one is where it was, and one is new.
    auditor.feed(&line(1, 121).began(E, 4, 111));
    auditor.feed(&line(0, 150).whole().began(9, 1, 102).began(10, 1, 140));
    auditor.quiet(0, 151..=400);
    assert_eq!((auditor.summary().undecided, auditor.summary().unknown), (1, 0));
    auditor.quiet(1, 122..=400);
    assert_eq!((auditor.summary().undecided, auditor.summary().unknown), (0, 1));
    assert_eq!(auditor.findings(), []);
    let (summary, handoffs) = (auditor.summary(), auditor.handoffs());
    assert_eq!((summary.interruptions, summary.entities), (1, 4));
    assert_eq!((handoffs.total, handoffs.gap_unknown), (1, 1));
    assert!(handoffs.missing_ticks.is_empty());
}

#[test]
fn who_may_have_left_the_world_in_a_line_that_was_missed_is_unknown_and_who_cannot_is_lost() {
    for (last, expected) in [(130, None), (160, Some(lost(1, Some(4), 160)))] {
        let mut auditor = begun();
        auditor.feed_all([line(1, 121).began(E, 4, 111), line(0, 150).whole()]);
        auditor.quiet(1, 122..=last);
        auditor.feed(&line(1, last + 1).ended(E, last));
        auditor.quiet(0, 151..=400);
        auditor.quiet(1, last + 2..=400);
        assert_eq!(auditor.findings(), expected.as_slice());
        assert_eq!(auditor.summary().unknown, u64::from(expected.is_none()));
    }
}

#[test]
fn who_was_unknown_and_is_seen_again_can_be_lost() {
    let mut auditor = begun();
    auditor.feed(&line(0, 150).whole());
    auditor.quiet(0, 151..=400);
    auditor.quiet(1, 101..=400);
    assert_eq!((auditor.findings(), auditor.summary().unknown), ([].as_slice(), 1));
    auditor.feed(&line(1, 401).began(E, 4, 101));
    assert_eq!(auditor.summary().unknown, 0);
    auditor.feed(&line(1, 402).ended(E, 401));
    auditor.quiet(0, 401..=600);
    auditor.quiet(1, 403..=600);
    assert_eq!(auditor.drain_findings(), [lost(1, Some(4), 401)]);
}
