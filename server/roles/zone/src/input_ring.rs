//! One player's inputs, keyed by tick: what is early waits, what is late is counted, what is missing is repeated.

use std::time::{Duration, Instant};

use bevy::math::Vec2;
use meridian_fabric::{InputBatch, TimedInput};
use meridian_game::{Move, OwnerState, PlayerInput};
use meridian_ids::{Tick, TickClock};

use crate::metric_definitions::{INPUT_SLACK_SECONDS, INPUTS};

/// How far ahead of the next tick an input may be, in ticks: a second at 60 Hz, as lightyear's own bound.
pub const INPUT_LOOKAHEAD_TICKS: u64 = 64;
/// After this long from a player's first input its inputs count as steady.
const SETTLING: Duration = Duration::from_secs(1);
/// The least that a late input counts as late, in milliseconds.
const LATE_MIN_MS: f32 = 0.1;
/// Ticks without an input after which a walk is no longer repeated: a peer that vanished stops.
const REPEAT_TICKS_MAX: u32 = 30;

#[derive(Clone, Copy, Debug)]
struct Waiting {
    tick: Tick,
    input: Move,
    received: Instant,
    forwarded: Instant,
    /// Another zone took it in and handed it over: how early it came is not known here.
    handed_over: bool,
}

/// A stamped action that was applied for the first time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AppliedProbe {
    /// The stamp.
    pub sequence: u32,
    /// When the gateway's socket had it.
    pub received: Instant,
    /// When the gateway queued it.
    pub forwarded: Instant,
}

/// The inputs of one player.
#[derive(Debug)]
pub struct InputRing {
    slots: [Option<Waiting>; INPUT_LOOKAHEAD_TICKS as usize],
    /// Bit n: the input of tick `next - 1 - n` was applied, or was counted as late.
    done: u64,
    next: Tick,
    last: Move,
    missing_in_a_row: u32,
    steady_from: Option<Tick>,
    late_slack_ms: Option<f32>,
}

impl InputRing {
    /// A ring whose first tick to be simulated is `next`.
    pub fn new(next: Tick) -> Self {
        Self {
            slots: [None; INPUT_LOOKAHEAD_TICKS as usize],
            done: u64::MAX,
            next,
            last: Move::default(),
            missing_in_a_row: 0,
            steady_from: None,
            late_slack_ms: None,
        }
    }

    /// The ring of a player that another zone has simulated up to the tick before `next`, where `last` was its input.
    pub fn resumed(next: Tick, last: Move) -> Self {
        Self {
            last,
            steady_from: Some(next),
            ..Self::new(next)
        }
    }

    /// What the next owner needs of a player whose last simulated tick is `after`: the input of that tick, and those that wait.
    pub fn handed_over(&self, after: Tick) -> Vec<(Tick, u64)> {
        let mut waiting: Vec<(Tick, u64)> = self
            .slots
            .iter()
            .flatten()
            .filter(|waiting| waiting.tick >= self.next)
            .map(|waiting| (waiting.tick, waiting.input.pack()))
            .collect();
        waiting.sort_unstable_by_key(|(tick, _)| *tick);
        waiting.insert(0, (after, self.last.pack()));
        waiting
    }

    /// Takes in an input that the last owner had, unless it has come here as well. When it came is not known: it counts as in time.
    pub fn insert_handed_over(&mut self, tick: Tick, packed: u64, clock: &TickClock) {
        let ahead = tick.since(self.next);
        if !(0..INPUT_LOOKAHEAD_TICKS as i64).contains(&ahead) {
            return;
        }
        let slot = &mut self.slots[(tick.0 % INPUT_LOOKAHEAD_TICKS) as usize];
        if slot.is_none_or(|waiting| waiting.tick != tick) {
            let (input, _) = Move::unpack(packed).sanitise();
            *slot = Some(Waiting {
                tick,
                input,
                received: clock.due(tick),
                forwarded: clock.due(tick),
                handed_over: true,
            });
        }
    }

    /// Whoever plays the player says what it does once, and not in each tick: what is not there does not count as missing.
    pub fn expect_none(&mut self) {
        self.steady_from = None;
    }

    /// Orders a walk from `first` on: `ticks` ticks in which `walk` holds, with its jump in the first, and one in which it ends. It replaces what waits, but
    /// for a jump in `first`: of several walks that begin in one tick the last one counts, and a jump of any.
    /// `asked` is when it was ordered. Ticks that are too far ahead are left out.
    pub fn walk(&mut self, first: Tick, walk: Move, ticks: u32, asked: Instant) {
        let waiting = self.slots[(first.0 % INPUT_LOOKAHEAD_TICKS) as usize].filter(|waiting| waiting.tick == first);
        let jumps = walk.jump() || waiting.is_some_and(|waiting| waiting.input.jump());
        let walk = Move::new(walk.direction(), walk.facing(), jumps).0;
        self.slots = [None; INPUT_LOOKAHEAD_TICKS as usize];
        let walk = walk.with_sequence(self.last.sequence);
        let stand = Move::new(Vec2::ZERO, walk.facing(), false)
            .0
            .with_sequence(self.last.sequence);
        let inputs = std::iter::once(walk)
            .chain(std::iter::repeat_n(walk.repeated(), ticks.saturating_sub(1) as usize))
            .chain([stand]);
        for (ahead, input) in (0..INPUT_LOOKAHEAD_TICKS).zip(inputs) {
            let tick = first + ahead;
            self.slots[(tick.0 % INPUT_LOOKAHEAD_TICKS) as usize] = Some(Waiting {
                tick,
                input,
                received: asked,
                forwarded: asked,
                // It came when it was asked for, whatever its tick: that says nothing of a client's clock.
                handed_over: true,
            });
        }
    }

    /// Takes in a batch. What is there already is ignored: clients repeat their last inputs.
    pub fn insert(&mut self, batch: &InputBatch, clock: &TickClock) {
        for TimedInput { tick, packed } in &batch.inputs {
            if *tick < self.next {
                self.late(*tick, clock, batch.forwarded);
                continue;
            }
            if tick.since(self.next) >= INPUT_LOOKAHEAD_TICKS as i64 {
                metrics::counter!(INPUTS, "outcome" => "early", "phase" => self.phase()).increment(1);
                self.late_slack_ms = Some(slack_ms(clock.due(*tick), batch.forwarded));
                continue;
            }
            let slot = &mut self.slots[(tick.0 % INPUT_LOOKAHEAD_TICKS) as usize];
            if slot.is_none_or(|waiting| waiting.tick != *tick) {
                // Here, so that what is corrected counts once.
                let (input, _) = Move::unpack(*packed).sanitise();
                *slot = Some(Waiting {
                    tick: *tick,
                    input,
                    received: batch.received,
                    forwarded: batch.forwarded,
                    handed_over: false,
                });
            }
            if self.steady_from.is_none() {
                let ticks = SETTLING.as_secs() * u64::from(clock.rate().hz());
                self.steady_from = Some(self.next + ticks);
            }
        }
    }

    /// Counts an input whose tick has passed, once.
    fn late(&mut self, tick: Tick, clock: &TickClock, forwarded: Instant) {
        let back = self.next.0 - 1 - tick.0;
        if back >= 64 || self.done & (1 << back) != 0 {
            return;
        }
        self.done |= 1 << back;
        if self.steady_from.is_some() {
            metrics::counter!(INPUTS, "outcome" => "late", "phase" => self.phase()).increment(1);
        }
        // How late it came, not how late it was seen: the zone looks once per tick. One that came while the zone had already
        // looked was late too.
        let slack = slack_ms(clock.due(tick), forwarded).min(-LATE_MIN_MS);
        self.late_slack_ms = Some(self.late_slack_ms.map_or(slack, |known| known.min(slack)));
    }

    fn phase(&self) -> &'static str {
        match self.steady_from {
            Some(from) if self.next >= from => "steady",
            _ => "settling",
        }
    }

    /// Leaves the ticks before `next` out: they are never simulated.
    pub fn skip_to(&mut self, next: Tick) {
        let skipped = next.0.saturating_sub(self.next.0);
        if skipped == 0 {
            return;
        }
        if self.steady_from.is_some() {
            // Ticks that were never simulated had no use for the inputs that were sent for them.
            metrics::counter!(INPUTS, "outcome" => "missing", "phase" => self.phase()).increment(skipped);
        }
        // Counted already: what comes for them is not late, for no clock of a client could have helped it.
        let shift = u32::try_from(skipped).unwrap_or(u32::MAX);
        self.done = self
            .done
            .checked_shl(shift)
            .map_or(u64::MAX, |done| done | ((1 << shift) - 1));
        self.next = next;
    }

    /// The input for `tick`, which begins at `began`; ticks must be taken in order.
    pub fn take(&mut self, tick: Tick, began: Instant) -> (PlayerInput, Option<AppliedProbe>) {
        self.skip_to(tick);
        self.done <<= 1;
        self.next = tick.next();
        let slot = &mut self.slots[(tick.0 % INPUT_LOOKAHEAD_TICKS) as usize];
        let Some(waiting) = slot.take_if(|waiting| waiting.tick == tick) else {
            return (self.repeat(), None);
        };
        self.done |= 1;
        self.missing_in_a_row = 0;
        metrics::counter!(INPUTS, "outcome" => "applied", "phase" => self.phase()).increment(1);
        let slack = (!waiting.handed_over).then(|| slack_ms(began, waiting.forwarded));
        if let Some(slack) = slack {
            metrics::histogram!(INPUT_SLACK_SECONDS).record(f64::from(slack) / 1e3);
        }
        let probe = (waiting.input.sequence != self.last.sequence).then_some(AppliedProbe {
            sequence: waiting.input.sequence,
            received: waiting.received,
            forwarded: waiting.forwarded,
        });
        self.last = waiting.input;
        // A late one says more than an early one: it is told first.
        let told = self.late_slack_ms.take().or(slack);
        (
            PlayerInput {
                input: waiting.input,
                // An input without a slack is told like one that was not there: it says nothing of the clock.
                applied: told.is_some(),
                slack: told.map_or(0, OwnerState::slack_from_ms),
            },
            probe,
        )
    }

    /// The walk goes on without its jump, until the peer has been silent for too long.
    fn repeat(&mut self) -> PlayerInput {
        if self.steady_from.is_some() {
            metrics::counter!(INPUTS, "outcome" => "missing", "phase" => self.phase()).increment(1);
        }
        self.missing_in_a_row += 1;
        self.last = if self.missing_in_a_row > REPEAT_TICKS_MAX {
            Move::default().with_sequence(self.last.sequence)
        } else {
            self.last.repeated()
        };
        let slack = self.late_slack_ms.take().map_or(0, OwnerState::slack_from_ms);
        PlayerInput {
            input: self.last,
            applied: false,
            slack,
        }
    }
}

/// How much earlier than `use_at` something came, in milliseconds; negative for later.
fn slack_ms(use_at: Instant, came: Instant) -> f32 {
    match use_at.checked_duration_since(came) {
        Some(early) => early.as_secs_f32() * 1e3,
        None => -came.duration_since(use_at).as_secs_f32() * 1e3,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use meridian_ids::{TickRate, WorldEntityId};
    use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
    use proptest::prelude::*;

    use super::*;

    const START: Tick = Tick(1 << 40);

    fn clock() -> TickClock {
        TickClock::new(Instant::now(), START, TickRate::default())
    }

    fn walk(sequence: u32) -> Move {
        Move::new(Vec2::X, 0.0, true).0.with_sequence(sequence)
    }

    fn batch(at: Instant, ticks: impl IntoIterator<Item = u64>) -> InputBatch {
        let inputs = ticks
            .into_iter()
            .map(|tick| TimedInput {
                tick: START + tick,
                packed: walk(tick as u32).pack(),
            })
            .collect();
        InputBatch {
            entity: WorldEntityId(1),
            inputs,
            received: at,
            forwarded: at,
        }
    }

    #[test]
    fn what_came_in_time_for_a_tick_that_was_skipped_is_not_late() {
        for skipped in [1, 9, 63, 64, 65, 500] {
            let (clock, mut ring) = (clock(), InputRing::new(START));
            for tick in 0..100 {
                ring.insert(
                    &batch(clock.due(START + tick) - Duration::from_millis(5), [tick]),
                    &clock,
                );
                ring.take(START + tick, clock.due(START + tick));
            }
            let next = 100 + skipped;
            ring.skip_to(START + next);
            // The next message repeats inputs of ticks that were left out.
            let came = clock.due(START + next) - Duration::from_millis(5);
            ring.insert(&batch(came, next.saturating_sub(7)..=next), &clock);
            let (input, _) = ring.take(START + next, clock.due(START + next));
            assert_eq!(
                (input.applied, input.slack),
                (true, OwnerState::slack_from_ms(5.0)),
                "{skipped} skipped"
            );
        }
    }

    #[test]
    fn an_input_is_applied_in_its_tick_with_its_slack() {
        let (clock, mut ring) = (clock(), InputRing::new(START));
        let early = clock.due(START + 3) - Duration::from_millis(8);
        ring.insert(&batch(early, [3]), &clock);
        for tick in 0..3 {
            assert!(!ring.take(START + tick, clock.due(START + tick)).0.applied);
        }
        let (input, probe) = ring.take(START + 3, clock.due(START + 3));
        assert_eq!((input.input, input.applied), (walk(3), true));
        assert_eq!(input.slack, OwnerState::slack_from_ms(8.0));
        assert_eq!(probe.map(|probe| probe.sequence), Some(3));
    }

    #[test]
    fn a_missing_input_repeats_the_walk_but_never_the_jump_and_ends_for_who_vanished() {
        let (clock, mut ring) = (clock(), InputRing::new(START));
        ring.insert(&batch(clock.due(START), [0]), &clock);
        assert!(ring.take(START, clock.due(START)).0.input.jump());
        for tick in 1..=u64::from(REPEAT_TICKS_MAX) {
            let (repeated, probe) = ring.take(START + tick, clock.due(START + tick));
            assert!(!repeated.input.jump() && !repeated.applied && probe.is_none());
            assert_eq!(repeated.input.direction(), walk(0).direction());
        }
        let (stopped, _) = ring.take(START + 31, clock.due(START + 31));
        assert_eq!(stopped.input.direction(), Vec2::ZERO);
    }

    #[test]
    fn a_late_input_is_told_with_the_next_one_as_negative_slack() {
        let (clock, mut ring) = (clock(), InputRing::new(START));
        ring.insert(&batch(clock.due(START), [0]), &clock);
        ring.take(START, clock.due(START));
        ring.take(START + 1, clock.due(START + 1));
        let now = clock.due(START + 1) + Duration::from_millis(5);
        ring.insert(&batch(now, [0, 1, 2]), &clock);
        let (input, _) = ring.take(START + 2, clock.due(START + 2));
        assert!(input.applied);
        assert_eq!(input.slack, OwnerState::slack_from_ms(-5.0));
        // Told once; a repetition of the same late input is no second one.
        ring.insert(&batch(now, [1, 3]), &clock);
        let (input, _) = ring.take(START + 3, clock.due(START + 3));
        assert!(input.slack > 0);
    }

    #[test]
    fn how_late_an_input_came_is_told_and_not_when_the_zone_looked() {
        let (clock, mut ring) = (clock(), InputRing::new(START));
        ring.take(START, clock.due(START));
        // It came a millisecond after its tick had begun, and is found at the next.
        let came = clock.due(START) + Duration::from_millis(1);
        ring.insert(&batch(came, [0, 1]), &clock);
        let (input, _) = ring.take(START + 1, clock.due(START + 1));
        assert_eq!(input.slack, OwnerState::slack_from_ms(-1.0));
        // It came in time, but the zone had just looked: late all the same.
        let came = clock.due(START + 2) - Duration::from_micros(5);
        ring.take(START + 2, clock.due(START + 2));
        ring.insert(&batch(came, [2]), &clock);
        let (input, _) = ring.take(START + 3, clock.due(START + 3));
        assert!(input.slack < 0);
    }

    #[test]
    fn a_player_whose_first_inputs_are_late_is_told_so() {
        let (clock, mut ring) = (clock(), InputRing::new(START));
        for tick in 0..10 {
            let (input, _) = ring.take(START + tick, clock.due(START + tick));
            assert!(!input.applied);
            assert_eq!(input.slack < 0, tick > 2, "in tick {tick}");
            let now = clock.due(START + tick);
            if let Some(late) = tick.checked_sub(2) {
                ring.insert(&batch(now, [late]), &clock);
            }
        }
    }

    /// How many inputs were sanitised, as the metrics tell it.
    #[derive(Default)]
    struct SanitisedCount(Arc<AtomicU64>);

    impl Recorder for SanitisedCount {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            match key.name() {
                "meridian_inputs_sanitised_total" => Counter::from_arc(self.0.clone()),
                _ => Counter::noop(),
            }
        }

        fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::noop()
        }

        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    #[test]
    fn a_bad_input_that_is_sent_eight_times_is_sanitised_and_counted_once() {
        let (clock, mut ring) = (clock(), InputRing::new(START));
        let sanitised = SanitisedCount::default();
        // A direction longer than one; it comes before its tick, in it and after it.
        let bad = TimedInput {
            tick: START + 4,
            packed: u64::from_le_bytes([127, 127, 0, 0, 0, 0, 0, 0]),
        };
        metrics::with_local_recorder(&sanitised, || {
            for tick in 0..8 {
                let now = clock.due(START + tick);
                let repeated = InputBatch {
                    inputs: vec![bad],
                    ..batch(now, [])
                };
                ring.insert(&repeated, &clock);
                let (applied, _) = ring.take(START + tick, now);
                assert!(applied.input.direction().length() <= 1.0);
            }
        });
        assert_eq!(sanitised.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn of_walks_that_begin_in_one_tick_the_last_counts_and_the_jump_of_any() {
        let (mut ring, asked) = (InputRing::new(Tick(10)), Instant::now());
        let walk = |x: f32, jump| Move::new(Vec2::new(x, 0.0), 0.0, jump).0;
        ring.walk(Tick(10), walk(1.0, true), 3, asked);
        ring.walk(Tick(10), walk(-1.0, false), 2, asked);
        let first = ring.slots[10].unwrap().input;
        assert!(first.jump() && first.direction().x < -0.9);
        let second = ring.slots[11].unwrap().input;
        assert!(!second.jump() && second.direction().x < -0.9);
        // What was to come of the first one is gone, its jump too.
        ring.walk(Tick(11), walk(0.5, false), 1, asked);
        assert!(!ring.slots[11].unwrap().input.jump());
    }

    proptest! {
        #[test]
        fn each_tick_applies_at_most_its_own_input(
            batches in proptest::collection::vec((0u64..80, proptest::collection::vec(0u64..200, 0..12)), 0..40)
        ) {
            let (clock, mut ring) = (clock(), InputRing::new(START));
            let mut next = 0;
            for (advance, ticks) in batches {
                let now = clock.due(START + next);
                ring.insert(&batch(now, ticks), &clock);
                for _ in 0..advance {
                    let (input, _) = ring.take(START + next, clock.due(START + next));
                    if input.applied {
                        prop_assert_eq!(input.input, walk(next as u32));
                    }
                    next += 1;
                }
            }
        }
    }
}
