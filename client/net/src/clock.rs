//! Keeps the client's ticks just early enough: a closed loop over the slack that the zone tells.
//!
//! The zone says how early each input came before its use. The loop keeps the least of it a little above zero: a late
//! input moves the clock at once, a quiet time brings it back. What happened once in a minute is forgotten after some
//! seconds; what happened twice is provided for. So, of a connection that is older than that, what happens twice a minute makes no input
//! late, and a clean link costs next to nothing. Pure: time and feedback are arguments.

use std::collections::VecDeque;
use std::time::Duration;

/// The least slack that is aimed for in the long run, in milliseconds.
const TARGET_MS: f32 = 1.5;
/// What a new connection aims for beyond that, in milliseconds: a link, and two schedulers, that nothing is known of yet.
const CAUTION_MS: f32 = 5.0;
/// How fast the caution is given up, in milliseconds per second.
const CAUTION_FADES_MS_PER_S: f32 = 0.25;
/// How long the least slack of a second is remembered, in seconds. Time without feedback does not count: silence says nothing of how
/// early inputs come.
const MEMORY_S: usize = 60;
/// The latest seconds, in which even what happened once counts.
const RECENT_S: usize = 3;
/// Of a young connection only the younger half of its life counts: what happened while everybody joined says little of the link.
const YOUNG_SHARE: usize = 2;
/// Seconds whose least slack is below the usual by this much, one after the other, are one event, in milliseconds.
const EVENT_MS: f32 = 3.0;
/// Without feedback for so long time stands still.
const SILENCE_MAX: Duration = Duration::from_millis(250);
/// Fastest and slowest pace, as a factor of real time; the slowest is for what is more than a tick too early.
const SPEED_UP_MAX: f32 = 0.10;
const SLOW_DOWN_MAX: f32 = 0.02;
const SLOW_DOWN_FAR_MAX: f32 = 0.10;
/// Pace per millisecond of error.
const GAIN_PER_MS: f32 = 0.02;
/// Errors within this are left alone, in milliseconds.
const DEAD_BAND_MS: f32 = 0.25;
/// Errors beyond this many ticks are jumped over.
const JUMP_TICKS: f32 = 1.5;
/// Samples that may move the tick count either way: the first ones, before anything is predicted for long.
const JUMPING_SAMPLES: u32 = 8;
/// Before the loop is settled it follows every sample, for joining is no moment to judge a link by; afterwards it keeps
/// the least of many.
const SETTLING_SAMPLES: u32 = 60;

/// What the zone told of one input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlackSample {
    /// How early it came, in milliseconds; negative for a late one.
    pub slack_ms: f32,
    /// How much the client's clock has advanced against real time since the input's tick, in milliseconds.
    pub advanced_since_ms: f32,
}

/// What to do with the clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TickPhase {
    /// Run at this factor of real time.
    Pace(f32),
    /// Move the tick count by this many, at once.
    Jump(i32),
}

/// The loop.
#[derive(Clone, Debug)]
pub struct SlackController {
    tick_ms: f32,
    seconds: Seconds,
    /// How much the clock has gained on real time by what this loop did, in milliseconds.
    gained_ms: f64,
    caution_ms: f32,
    samples: u32,
    silent_for: Duration,
    speed: f32,
}

impl SlackController {
    /// A loop for ticks of a length.
    pub fn new(tick_duration: Duration) -> Self {
        Self::with_tick_ms(tick_duration.as_secs_f32() * 1e3)
    }

    fn with_tick_ms(tick_ms: f32) -> Self {
        Self {
            tick_ms,
            seconds: Seconds::default(),
            gained_ms: 0.0,
            caution_ms: CAUTION_MS,
            samples: 0,
            silent_for: Duration::ZERO,
            speed: 1.0,
        }
    }

    /// The least slack that is provided for, in milliseconds, as it would be for an input that is sent now.
    pub fn least_slack_ms(&self) -> Option<f32> {
        let least = self.seconds.provided_for()?;
        Some((least + self.gained_ms) as f32)
    }

    /// Takes in what the zone told.
    pub fn sample(&mut self, sample: SlackSample) {
        let slack_ms = f64::from(sample.slack_ms + sample.advanced_since_ms) - self.gained_ms;
        self.samples = self.samples.saturating_add(1);
        self.silent_for = Duration::ZERO;
        if self.samples <= SETTLING_SAMPLES {
            self.seconds = Seconds::default();
        }
        self.seconds.note(slack_ms);
    }

    /// Advances the loop by `elapsed` of real time and says what to do until the next call.
    pub fn advance(&mut self, elapsed: Duration) -> TickPhase {
        // A client that stood still for longer did not run at this pace meanwhile.
        let seconds = elapsed.as_secs_f32().min(0.25);
        self.gained_ms += f64::from((self.speed - 1.0) * seconds * 1e3);
        let Some(least) = self.least_slack_ms() else {
            return TickPhase::Pace(1.0);
        };
        self.silent_for = self.silent_for.saturating_add(elapsed);
        if self.silent_for <= SILENCE_MAX {
            self.seconds.advance(seconds);
            self.caution_ms = (self.caution_ms - CAUTION_FADES_MS_PER_S * seconds).max(0.0);
        }
        let error_ms = TARGET_MS + self.caution_ms - least;
        if error_ms.abs() > JUMP_TICKS * self.tick_ms && (self.samples <= JUMPING_SAMPLES || error_ms > 0.0) {
            // Rounded towards more slack, whichever way it goes.
            let ticks = (error_ms / self.tick_ms).ceil();
            self.gained_ms += f64::from(ticks * self.tick_ms);
            self.speed = 1.0;
            return TickPhase::Jump(ticks as i32);
        }
        self.speed = if error_ms.abs() <= DEAD_BAND_MS {
            1.0
        } else {
            let slow_down_max = if error_ms < -self.tick_ms {
                SLOW_DOWN_FAR_MAX
            } else {
                SLOW_DOWN_MAX
            };
            1.0 + (error_ms * GAIN_PER_MS).clamp(-slow_down_max, SPEED_UP_MAX)
        };
        TickPhase::Pace(self.speed)
    }

    /// Forgets everything, as for a new connection.
    pub fn reset(&mut self) {
        *self = Self::with_tick_ms(self.tick_ms);
    }
}

/// The least slack of each of the last seconds, as if the loop had never moved the clock, in milliseconds.
#[derive(Clone, Debug, Default)]
struct Seconds {
    /// Newest first; the newest is not over yet.
    least: VecDeque<f64>,
    newest_s: f32,
    /// Seconds since the start.
    age_s: usize,
}

impl Seconds {
    fn note(&mut self, slack_ms: f64) {
        match self.least.front_mut() {
            Some(least) if self.newest_s < 1.0 => *least = least.min(slack_ms),
            _ => {
                self.least.truncate(MEMORY_S - 1);
                self.least.push_front(slack_ms);
                self.age_s += 1;
                self.newest_s = 0.0;
            }
        }
    }

    fn advance(&mut self, seconds: f32) {
        self.newest_s += seconds;
    }

    /// The least of what happened of late or more than once.
    fn provided_for(&self) -> Option<f64> {
        let counted = self.least.len().min((self.age_s / YOUNG_SHARE).max(RECENT_S));
        let mut sorted = [0.0; MEMORY_S];
        let sorted = &mut sorted[..counted];
        for (place, least) in sorted.iter_mut().zip(&self.least) {
            *place = *least;
        }
        sorted.sort_unstable_by(f64::total_cmp);
        let event = *sorted.get(counted / 2)? - f64::from(EVENT_MS);
        let seconds = || self.least.iter().take(counted).copied();
        let worst = seconds().position(|least| least <= sorted[0])?;
        // The worst event: the seconds around the worst one that are all worse than usual.
        let is_event = |second: &usize| self.least[*second] < event;
        let from = worst - (0..worst).rev().take_while(is_event).count();
        let until = worst + 1 + (worst + 1..counted).take_while(is_event).count();
        let of_late = seconds().take(RECENT_S);
        let again = seconds()
            .enumerate()
            .filter(|(second, _)| !(from..until).contains(second));
        of_late.chain(again.map(|(_, least)| least)).reduce(f64::min)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TICK: Duration = Duration::from_micros(16_667);

    #[test]
    fn silence_moves_the_clock_no_further_than_it_had_to() {
        let mut controller = SlackController::new(TICK);
        for _ in 0..120 {
            controller.sample(SlackSample {
                slack_ms: 8.0,
                advanced_since_ms: 0.0,
            });
            controller.advance(TICK);
        }
        let mut gained_ms = 0.0;
        for _ in 0..600 {
            if let TickPhase::Pace(speed) = controller.advance(TICK) {
                gained_ms += (speed - 1.0) * TICK.as_secs_f32() * 1e3;
            }
        }
        assert!(gained_ms > -3.0, "{gained_ms} ms in ten seconds without feedback");
    }

    /// A link with a fixed delay of feedback: `lead_ms` is how early inputs come.
    struct Link {
        controller: SlackController,
        lead_ms: f32,
        feedback: VecDeque<(f32, f32)>,
    }

    impl Link {
        fn tick(&mut self, late_by_ms: f32, feedback_ticks: usize) {
            self.feedback.push_back((self.lead_ms - late_by_ms, self.lead_ms));
            if self.feedback.len() > feedback_ticks
                && let Some((slack_ms, lead_then)) = self.feedback.pop_front()
            {
                self.controller.sample(SlackSample {
                    slack_ms,
                    advanced_since_ms: self.lead_ms - lead_then,
                });
            }
            match self.controller.advance(TICK) {
                TickPhase::Pace(speed) => self.lead_ms += (speed - 1.0) * TICK.as_secs_f32() * 1e3,
                TickPhase::Jump(ticks) => self.lead_ms += ticks as f32 * TICK.as_secs_f32() * 1e3,
            }
        }
    }

    fn link(lead_ms: f32) -> Link {
        Link {
            controller: SlackController::new(TICK),
            lead_ms,
            feedback: VecDeque::new(),
        }
    }

    #[test]
    fn a_clean_link_settles_just_above_its_target_from_any_start() {
        for start in [-120.0, -3.0, 0.0, 40.0, 250.0] {
            let mut link = link(start);
            (0..10 * 60).for_each(|_| link.tick(0.0, 4));
            let young = link.lead_ms;
            assert!((3.5..7.0).contains(&young), "from {start} to {young}");
            (0..40 * 60).for_each(|_| link.tick(0.0, 4));
            assert!((0.5..3.0).contains(&link.lead_ms), "from {start} to {}", link.lead_ms);
        }
    }

    #[test]
    fn a_late_input_moves_the_clock_within_half_a_second_and_the_quiet_brings_it_back() {
        let mut link = link(1.5);
        (0..90 * 60).for_each(|_| link.tick(0.0, 4));
        let before = link.lead_ms;
        link.tick(before + 8.0, 4);
        (0..30).for_each(|_| link.tick(0.0, 4));
        assert!(link.lead_ms > before + 7.0, "{before} to {}", link.lead_ms);
        (0..60).for_each(|_| link.tick(0.0, 4));
        assert!(link.lead_ms > before + 6.0, "{before} to {}", link.lead_ms);
        (0..90 * 60).for_each(|_| link.tick(0.0, 4));
        assert!(link.lead_ms < before + 1.0, "{before} to {}", link.lead_ms);
    }

    #[test]
    fn what_happened_once_is_forgotten_and_what_happens_again_is_provided_for() {
        let lead_after = |events: u32| {
            let mut link = link(1.5);
            (0..90 * 60).for_each(|_| link.tick(0.0, 4));
            for _ in 0..events {
                link.tick(30.0, 4);
                (0..12 * 60).for_each(|_| link.tick(0.0, 4));
            }
            link.lead_ms
        };
        let (once, twice, thrice) = (lead_after(1), lead_after(2), lead_after(3));
        assert!(once < 4.0, "{once}");
        assert!(
            (30.0..34.0).contains(&twice) && (30.0..34.0).contains(&thrice),
            "{twice} and {thrice}"
        );
    }

    #[test]
    fn what_happened_while_everybody_joined_is_forgotten_when_it_is_half_a_life_ago() {
        let mut link = link(1.5);
        for tick in 0..20 * 60 {
            link.tick(if tick < 5 * 60 && tick % 50 == 0 { 40.0 } else { 0.0 }, 4);
        }
        assert!(link.lead_ms < 8.0, "{}", link.lead_ms);
    }

    #[test]
    fn what_happens_twice_a_minute_is_provided_for() {
        let mut link = link(1.5);
        let mut late = 0;
        let ticks = 600 * 60;
        for tick in 0..ticks {
            let late_ms = if tick % (25 * 60) == 7 { 12.0 } else { 0.0 };
            late += u32::from(tick > 120 * 60 && link.lead_ms < late_ms);
            link.tick(late_ms, 4);
        }
        assert_eq!(late, 0, "of {ticks}");
        assert!(link.lead_ms < 14.0, "{}", link.lead_ms);
    }

    #[test]
    fn an_outage_is_made_good_within_half_a_minute() {
        let mut link = link(1.5);
        (0..60 * 60).for_each(|_| link.tick(0.0, 4));
        // Three seconds of which the zone saw nothing: the inputs of all of them come at once, the first by so much too late.
        for late_by_ticks in (0..180).rev() {
            link.tick(late_by_ticks as f32 * link.controller.tick_ms, 4);
        }
        let after_outage = link.lead_ms;
        assert!(after_outage > 100.0, "{after_outage}");
        (0..30 * 60).for_each(|_| link.tick(0.0, 4));
        assert!(link.lead_ms < 60.0, "{after_outage} to {}", link.lead_ms);
    }

    #[test]
    fn jitter_is_not_taken_for_an_outage() {
        let mut link = link(1.5);
        let mut late = 0;
        for tick in 0..120 * 60 {
            // Every second one input is 25 ms late.
            let late_ms = if tick % 60 == 0 { 25.0 } else { 0.0 };
            late += u32::from(tick > 30 * 60 && link.lead_ms < late_ms);
            link.tick(late_ms, 4);
        }
        assert_eq!(late, 0);
    }

    proptest! {
        #[test]
        fn whatever_the_link_does_the_pace_is_bounded(delays_ms in proptest::collection::vec(-500.0f32..500.0, 1..400)) {
            let mut link = link(0.0);
            for late in delays_ms {
                link.tick(late, 3);
                prop_assert!(link.lead_ms.is_finite());
                prop_assert!((1.0 - SLOW_DOWN_FAR_MAX..=1.0 + SPEED_UP_MAX).contains(&link.controller.speed));
            }
        }
    }
}
