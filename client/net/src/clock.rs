//! Keeps the client's ticks just early enough: a closed loop over the slack that the zone tells.
//!
//! The zone says how early each input came before its use. The loop keeps the least of it a little above zero: a late
//! input moves the clock at once, a long quiet lets it creep back. A new connection starts with some milliseconds in
//! hand. A clean link costs next to nothing in the end, a bad one what it must. Pure: time and feedback are arguments.

use std::time::Duration;

/// The least slack that is aimed for in the long run, in milliseconds.
const TARGET_MS: f32 = 2.0;
/// What a new connection aims for beyond that, in milliseconds: a link, and two schedulers, that nothing is known of yet.
const CAUTION_MS: f32 = 5.0;
/// How fast the caution is given up, in milliseconds per second.
const CAUTION_FADES_MS_PER_S: f32 = 0.1;
/// How fast the least slack seen is forgotten, in milliseconds per second: a spike is remembered for some seconds.
const FORGET_MS_PER_S: f32 = 0.4;
/// The same for the first [`YOUNG_SAMPLES`]: what happened while everybody joined says little about the link.
const FORGET_YOUNG_MS_PER_S: f32 = 5.0;
const YOUNG_SAMPLES: u32 = 300;
/// What inputs come earlier than the least by more than this many ticks is forgotten faster, by this share per second: an outage
/// is no jitter.
const OUTAGE_TICKS: f32 = 2.0;
const FORGET_OUTAGE_PER_S: f32 = 0.25;
/// Without feedback for so long nothing is forgotten any more: silence says nothing of how early inputs come.
const SILENCE_MAX: Duration = Duration::from_millis(250);
/// An input that comes later than usual by this much is an event, in milliseconds.
const EVENT_MS: f32 = 3.0;
/// Events that are further apart than this are two, in seconds.
const EVENTS_APART_S: f32 = 0.5;
/// What one event alone asked for is forgotten faster, by this share per second, once it has stood alone for so long: a machine that
/// stood still once says little about the next minute.
const FORGET_ALONE_PER_S: f32 = 0.25;
const ALONE_S: f32 = 2.0;
/// Share of each sample in what is taken for usual.
const USUAL_SHARE: f32 = 1.0 / 32.0;
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
    least_ms: Option<f32>,
    /// The least slack that was seen more than once.
    second_ms: f32,
    /// The least slack of any event of late.
    remembered_ms: f32,
    /// Since the latest event.
    event_age_s: f32,
    usual_ms: f32,
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
            least_ms: None,
            second_ms: 0.0,
            remembered_ms: 0.0,
            event_age_s: 0.0,
            usual_ms: 0.0,
            caution_ms: CAUTION_MS,
            samples: 0,
            silent_for: Duration::ZERO,
            speed: 1.0,
        }
    }

    /// The least slack of late, in milliseconds, as it would be for an input that is sent now.
    pub fn least_slack_ms(&self) -> Option<f32> {
        self.least_ms
    }

    /// Takes in what the zone told.
    pub fn sample(&mut self, sample: SlackSample) {
        let now_ms = sample.slack_ms + sample.advanced_since_ms;
        self.samples = self.samples.saturating_add(1);
        self.silent_for = Duration::ZERO;
        match self.least_ms {
            Some(least) if self.samples > SETTLING_SAMPLES => self.note(now_ms, least),
            _ => {
                self.least_ms = Some(now_ms);
                (self.second_ms, self.remembered_ms) = (now_ms, now_ms);
            }
        }
        let share = if self.samples > SETTLING_SAMPLES {
            USUAL_SHARE
        } else {
            1.0
        };
        self.usual_ms += (now_ms - self.usual_ms) * share;
    }

    /// Keeps the least slack, and how much of it happened more than once.
    fn note(&mut self, now_ms: f32, least_ms: f32) {
        if now_ms < self.usual_ms - EVENT_MS {
            if self.event_age_s > EVENTS_APART_S {
                // As far as this event and an earlier one have it, it happened again.
                self.second_ms = self.second_ms.min(now_ms.max(self.remembered_ms));
            }
            self.remembered_ms = self.remembered_ms.min(now_ms);
            self.event_age_s = 0.0;
        } else {
            self.second_ms = self.second_ms.min(now_ms);
        }
        self.least_ms = Some(now_ms.min(least_ms));
    }

    /// Advances the loop by `elapsed` of real time and says what to do until the next call.
    pub fn advance(&mut self, elapsed: Duration) -> TickPhase {
        let Some(least) = self.least_ms else {
            return TickPhase::Pace(1.0);
        };
        let seconds = elapsed.as_secs_f32().min(0.25);
        self.silent_for = self.silent_for.saturating_add(elapsed);
        // What this pace has done to the slack since the last call, and what has been forgotten meanwhile.
        self.event_age_s += seconds;
        let advanced_ms = (self.speed - 1.0) * seconds * 1e3;
        self.second_ms += advanced_ms + self.forgotten_ms_per_s(self.second_ms) * seconds;
        self.remembered_ms += advanced_ms + self.forgotten_ms_per_s(self.remembered_ms) * seconds;
        let least = least + advanced_ms + self.forgotten_ms_per_s(least) * seconds;
        let alone = (self.second_ms - least).max(0.0);
        let is_alone = self.event_age_s > ALONE_S && self.silent_for <= SILENCE_MAX;
        let least = least
            + if is_alone {
                alone * FORGET_ALONE_PER_S * seconds
            } else {
                0.0
            };
        self.second_ms = self.second_ms.max(least);
        self.least_ms = Some(least);
        self.usual_ms += advanced_ms;
        self.caution_ms = (self.caution_ms - CAUTION_FADES_MS_PER_S * seconds).max(0.0);
        let error_ms = TARGET_MS + self.caution_ms - least;
        if error_ms.abs() > JUMP_TICKS * self.tick_ms && (self.samples <= JUMPING_SAMPLES || error_ms > 0.0) {
            // Rounded towards more slack, whichever way it goes.
            let ticks = (error_ms / self.tick_ms).ceil();
            self.least_ms = Some(least + ticks * self.tick_ms);
            self.second_ms += ticks * self.tick_ms;
            self.remembered_ms += ticks * self.tick_ms;
            self.usual_ms += ticks * self.tick_ms;
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

    fn forgotten_ms_per_s(&self, least_ms: f32) -> f32 {
        if self.silent_for > SILENCE_MAX {
            return 0.0;
        }
        let forget = if self.samples < YOUNG_SAMPLES {
            FORGET_YOUNG_MS_PER_S
        } else {
            FORGET_MS_PER_S
        };
        let outage_ms = (self.usual_ms - least_ms - OUTAGE_TICKS * self.tick_ms).max(0.0);
        forget + outage_ms * FORGET_OUTAGE_PER_S
    }

    /// Forgets everything, as for a new connection.
    pub fn reset(&mut self) {
        *self = Self::with_tick_ms(self.tick_ms);
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
        feedback: std::collections::VecDeque<(f32, f32)>,
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
            feedback: std::collections::VecDeque::new(),
        }
    }

    #[test]
    fn a_clean_link_settles_just_above_its_target_from_any_start() {
        for start in [-120.0, -3.0, 0.0, 40.0, 250.0] {
            let mut link = link(start);
            (0..10 * 60).for_each(|_| link.tick(0.0, 4));
            let young = link.lead_ms;
            assert!((6.0..9.0).contains(&young), "from {start} to {young}");
            (0..80 * 60).for_each(|_| link.tick(0.0, 4));
            assert!((0.5..3.0).contains(&link.lead_ms), "from {start} to {}", link.lead_ms);
        }
    }

    #[test]
    fn a_late_input_moves_the_clock_within_half_a_second_and_the_quiet_brings_it_back_slowly() {
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
    fn what_happened_once_is_forgotten_sooner_than_what_happens_again() {
        let lead_after = |events: u32| {
            let mut link = link(1.5);
            (0..90 * 60).for_each(|_| link.tick(0.0, 4));
            for _ in 0..events {
                link.tick(link.lead_ms + 30.0, 4);
                (0..15 * 60).for_each(|_| link.tick(0.0, 4));
            }
            link.lead_ms
        };
        let (once, thrice) = (lead_after(1), lead_after(3));
        assert!(once < 10.0 && thrice > 20.0, "{once} and {thrice}");
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
