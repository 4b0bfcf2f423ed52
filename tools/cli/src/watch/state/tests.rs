use meridian_rpc::v1::{Area, Position, Vector3, Zone};
use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;

const OWN: u64 = 0x1_0001_0000_0001;

fn world() -> ListZonesResponse {
    let zone = |zone_id, name: &str, min_x, max_x| Zone {
        zone_id,
        name: name.to_owned(),
        area: Some(Area {
            min_x,
            min_z: -10.0,
            max_x,
            max_z: 10.0,
        }),
        server: None,
    };
    ListZonesResponse {
        world: "plaza".to_owned(),
        tick_rate_hz: 60,
        zones: vec![zone(0, "west", -20.0, 0.0), zone(1, "east", 0.0, 20.0)],
    }
}

fn at(entity_id: u64, epoch: u64, tick: u64, x: f32, z: f32) -> WatchPositionsResponse {
    let position = Some(Vector3 { x, y: 0.9, z });
    WatchPositionsResponse {
        positions: vec![Position {
            entity_id,
            zone_id: u32::from(x >= 0.0),
            epoch,
            tick,
            position,
        }],
        missed: 0,
        age_us: 4_000,
        traced: Vec::new(),
    }
}

fn shown(state: &WatchState, width: u16, height: u16, now: Instant) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| state.draw(frame, now)).unwrap();
    let buffer = terminal.backend().buffer();
    let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..height).map(row).collect()
}

/// Column and row of the first cell that has this text.
fn find(rows: &[String], text: &str) -> Option<(usize, usize)> {
    rows.iter()
        .enumerate()
        .find_map(|(y, row)| row.find(text).map(|byte| (row[..byte].chars().count(), y)))
}

#[test]
fn the_view_shows_zones_entities_and_a_table() {
    let now = Instant::now();
    let mut state = WatchState::new(world(), Some(OWN)).unwrap();
    state.apply(at(OWN, 1, 100, -10.0, 5.0), now).unwrap();
    state.apply(at(7, 1, 101, 10.0, -5.0), now).unwrap();
    let rows = shown(&state, 100, 30, now + Duration::from_millis(11));
    assert_eq!(rows[0].trim_end(), "plaza   2 zones, 2 entities");
    assert_eq!(
        rows[29].trim_end(),
        "q quits   up, down, page up, page down scroll   @ is you"
    );
    let table: Vec<_> = rows[17..=19]
        .iter()
        .map(|row| row.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(table[0], "│entity zone tick x, y, z age│");
    assert_eq!(table[1], "│e7 east 101 10.0, 0.9, -5.0 15 ms│");
    assert_eq!(table[2], "│e1000100000001 west 100 -10.0, 0.9, 5.0 15 ms│");
    // The map is 98 columns and 13 rows within its border: a quarter from the west and three quarters from the north is row 10 or 11.
    let map = &rows[1..16];
    let (own_x, own_y) = find(map, "@").unwrap();
    let (other_x, other_y) = find(&map[1..14], "o ").or_else(|| find(&map[1..14], "o")).unwrap();
    assert!(
        (23..=27).contains(&own_x) && own_y > 7,
        "{own_x} {own_y}\n{}",
        rows.join("\n")
    );
    assert!(
        (72..=76).contains(&other_x) && other_y < 7,
        "{other_x} {other_y}\n{}",
        rows.join("\n")
    );
    assert!(find(map, "west").unwrap().0 < find(map, "east").unwrap().0);
}

#[test]
fn of_two_places_the_one_with_the_higher_epoch_and_then_the_later_tick_stays() {
    let now = Instant::now();
    let mut state = WatchState::new(world(), None).unwrap();
    state.apply(at(7, 2, 100, 1.0, 0.0), now).unwrap();
    state.apply(at(7, 1, 900, 2.0, 0.0), now).unwrap();
    state.apply(at(7, 2, 99, 3.0, 0.0), now).unwrap();
    assert_eq!(state.seen[&7].place.x, 1.0);
    state.apply(at(7, 3, 1, 4.0, 0.0), now).unwrap();
    assert_eq!(state.seen[&7].place.x, 4.0);
}

#[test]
fn who_is_not_heard_of_any_more_is_shown_no_more() {
    let now = Instant::now();
    let mut state = WatchState::new(world(), None).unwrap();
    state.apply(at(7, 1, 1, 1.0, 0.0), now).unwrap();
    state.forget(now + FORGOTTEN_AFTER / 2);
    assert_eq!(state.seen.len(), 1);
    state.forget(now + FORGOTTEN_AFTER);
    assert!(state.seen.is_empty());
    assert!(
        shown(&state, 80, 24, now)
            .iter()
            .any(|row| row.contains("nobody is seen yet"))
    );
}

#[test]
fn what_was_missed_is_told() {
    let now = Instant::now();
    let mut state = WatchState::new(world(), None).unwrap();
    state
        .apply(
            WatchPositionsResponse {
                missed: 12,
                ..at(7, 1, 1, 1.0, 0.0)
            },
            now,
        )
        .unwrap();
    assert!(shown(&state, 80, 24, now)[0].contains("12 answers missed"));
}

#[test]
fn the_table_scrolls_within_what_there_is() {
    let now = Instant::now();
    let mut state = WatchState::new(world(), None).unwrap();
    for entity in 1..=50 {
        state.apply(at(entity, 1, 1, 0.0, 0.0), now).unwrap();
    }
    state.scroll(20);
    let rows = shown(&state, 80, 24, now);
    assert!(
        rows.iter().any(|row| row.contains("from 21 of 50")),
        "{}",
        rows.join("\n")
    );
    state.scroll(isize::MAX);
    assert_eq!(state.first_row, 49);
    state.scroll(isize::MIN);
    assert_eq!(state.first_row, 0);
}

proptest! {
    #[test]
    fn no_screen_and_no_place_break_the_view(width in 1_u16..150, height in 1_u16..50, x: f32, z: f32, age_us: u64) {
        let now = Instant::now();
        let mut state = WatchState::new(world(), Some(7)).unwrap();
        let _ = state.apply(WatchPositionsResponse { age_us, ..at(7, 1, 1, x, z) }, now);
        shown(&state, width, height, now);
        let nowhere = ListZonesResponse { zones: Vec::new(), ..world() };
        let mut state = WatchState::new(nowhere, Some(7)).unwrap();
        let _ = state.apply(at(7, 1, 1, x, z), now);
        shown(&state, width, height, now);
    }
}
