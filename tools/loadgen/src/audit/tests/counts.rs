//! What is counted, in which order lines are read, and what is bounded.

use super::*;

#[test]
fn handoffs_of_one_entity_within_a_second_are_counted_together() {
    let mut auditor = begun();
    let mut epoch = 3;
    for tick in (110..=170).step_by(10) {
        // To and fro, each with its last tick.
        let (from, to) = if epoch % 2 == 1 { (0, 1) } else { (1, 0) };
        epoch += 1;
        auditor.feed_all([
            line(from, tick).ended(E, tick - 1),
            line(to, tick).began(E, epoch, tick),
        ]);
    }
    let handoffs = auditor.handoffs();
    assert_eq!(
        (handoffs.total, handoffs.per_entity_per_second_max),
        (7, 6),
        "110 to 160"
    );
    auditor.begin_window();
    assert_eq!(auditor.handoffs(), HandoffCounts::default());
    auditor.feed_all([line(1, 175).ended(E, 174), line(0, 175).began(E, 11, 175)]);
    let handoffs = auditor.handoffs();
    assert_eq!((handoffs.total, handoffs.per_entity_per_second_max), (1, 1));
    assert_eq!(auditor.findings(), []);
}

#[test]
fn an_owner_that_tells_late_is_counted_between_its_neighbours() {
    let mut auditor = begun();
    auditor.feed_all([line(0, 101).ended(E, 100), line(0, 131).began(E, 5, 131)]);
    assert_eq!(auditor.handoffs().total, 0, "from zone 0 to zone 0");
    auditor.feed_all([line(1, 101).began(E, 4, 101), line(1, 131).ended(E, 130)]);
    auditor.quiet(0, 132..=140);
    auditor.quiet(1, 132..=140);
    let handoffs = auditor.handoffs();
    assert_eq!((handoffs.total, handoffs.missing_ticks_max()), (2, Some(0)));
    assert_eq!(auditor.findings(), []);
}

#[test]
fn an_entity_that_its_zone_takes_up_again_made_no_handoff() {
    let mut auditor = begun();
    // The neighbour had no room: the zone catches up on what it left out.
    auditor.feed_all([line(0, 101).ended(E, 100), line(0, 109).began(E, 3, 101)]);
    auditor.quiet(0, 110..=400);
    auditor.quiet(1, 101..=400);
    assert_eq!((auditor.findings(), auditor.handoffs().total), ([].as_slice(), 0));
}

#[test]
fn what_begins_and_ends_in_one_line_is_read_in_the_order_of_its_ticks() {
    let mut auditor = begun();
    // Taken in and handed on before it was ever simulated.
    auditor.feed_all([
        line(0, 101).ended(E, 100),
        line(1, 102).began(E, 4, 101).ended(E, 100),
        line(0, 103).began(E, 5, 101),
    ]);
    // Left and came back between two ticks.
    auditor.feed(&line(0, 110).began(E, 7, 110).ended(E, 109));
    auditor.quiet(0, 111..=400);
    auditor.quiet(1, 103..=400);
    assert_eq!((auditor.findings(), auditor.handoffs().total), ([].as_slice(), 2));
}

#[test]
fn a_tick_that_is_told_twice_counts_once() {
    let mut auditor = begun();
    assert!(auditor.feed(&line(0, 101).ended(E, 100).retired(E)));
    assert!(!auditor.feed(&line(0, 101).whole().began(E, 3, 50)));
    assert_eq!(
        (auditor.summary().repeated_lines, auditor.findings()),
        (1, [].as_slice())
    );
}

#[test]
fn what_is_long_over_is_forgotten() {
    let mut auditor = begun();
    let mut epoch = 3;
    for tick in 101..=60_000 {
        let mut lines = [line(0, tick), line(1, tick)];
        if tick % 20 == 0 {
            let (from, to) = if epoch % 2 == 1 { (0, 1) } else { (1, 0) };
            epoch += 1;
            lines[from] = line(from as u16, tick).ended(E, tick - 1);
            lines[to] = line(to as u16, tick).began(E, epoch, tick);
        }
        // Somebody comes and goes.
        let guest = 1_000 + tick / 10;
        lines[0] = match tick % 10 {
            1 => lines[0].clone().spawned(guest).began(guest, 1, tick),
            9 => lines[0].clone().ended(guest, tick - 1).retired(guest),
            _ => lines[0].clone(),
        };
        auditor.feed_all(lines);
        assert!(auditor.tracks.len() < 50 && auditor.unsettled.len() < 5);
    }
    assert_eq!(auditor.findings(), []);
    let handoffs = auditor.handoffs();
    assert_eq!((handoffs.total, handoffs.per_entity_per_second_max), (2_995, 3));
    assert_eq!(handoffs.missing_ticks, [(0, 2_995)].into());
}

#[test]
fn findings_that_nobody_takes_are_bounded() {
    let mut auditor = Auditor::new(TickRate::default());
    let mut whole = line(0, 100).whole();
    for entity in 0..FINDINGS_MAX as u64 + 5 {
        whole = whole.began(entity, 1, 100);
    }
    auditor.feed(&whole);
    whole.zone = ZoneId(1);
    auditor.feed(&whole);
    let summary = auditor.summary();
    assert_eq!(auditor.faults().count(), FINDINGS_MAX);
    assert_eq!((summary.findings_dropped, summary.duplicated), (5, 10_005));
}

#[test]
fn who_is_unknown_stays_so_until_it_is_told_of_again() {
    let mut auditor = begun();
    auditor.feed(&line(0, 150).whole());
    auditor.quiet(0, 151..=3_000);
    auditor.quiet(1, 101..=3_000);
    assert_eq!((auditor.summary().unknown, auditor.tracks.len()), (1, 0));
    auditor.feed(&line(1, 3_001).began(E, 4, 101));
    assert_eq!(auditor.summary().unknown, 0);
}

#[test]
fn a_zones_last_takeover_is_told() {
    let mut auditor = begun();
    auditor.quiet(0, 101..=130);
    assert!(auditor.summary().takeovers.is_empty());
    auditor.feed_all([
        line(0, 170).lease(2).whole(),
        line(0, 171).lease(2),
        line(0, 190).lease(3).whole(),
    ]);
    let last = Takeover {
        zone: ZoneId(0),
        last: Tick(171),
        first: Tick(190),
    };
    assert_eq!(auditor.summary().takeovers, [last]);
}
