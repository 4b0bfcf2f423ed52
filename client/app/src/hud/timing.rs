//! How long frames and ticks take.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use bevy::prelude::*;

/// Samples that are kept: two seconds at 60 Hz.
pub(super) const SAMPLES: usize = 120;

pub(super) fn plugin(app: &mut App) {
    app.init_resource::<FrameTimes>();
    app.add_systems(First, note_frame);
    app.add_systems(FixedFirst, |mut times: ResMut<FrameTimes>| {
        times.tick_began = Some(Instant::now());
    });
    app.add_systems(FixedLast, end_tick);
    app.add_systems(Last, end_logic);
}

/// The last frames and ticks.
#[derive(Resource, Debug, Default)]
pub struct FrameTimes {
    /// From one frame to the next.
    pub frame: Times,
    /// The own simulation of a tick.
    pub tick: Times,
    /// All that a frame does but drawing.
    pub logic: Times,
    /// Frames since the start.
    pub frames: u64,
    frame_began: Option<Instant>,
    tick_began: Option<Instant>,
}

/// Durations, newest last.
#[derive(Debug, Default)]
pub struct Times(VecDeque<Duration>);

/// The middle and the worst of some durations.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    /// The median.
    pub median: Duration,
    /// The longest.
    pub longest: Duration,
}

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        write!(
            formatter,
            "{:.2} ms, at most {:.2} ms",
            ms(self.median),
            ms(self.longest)
        )
    }
}

impl Times {
    fn push(&mut self, duration: Duration) {
        if self.0.len() >= SAMPLES {
            self.0.pop_front();
        }
        self.0.push_back(duration);
    }

    /// The last ones in milliseconds, newest last.
    pub(super) fn ms(&self) -> impl Iterator<Item = f32> {
        self.0.iter().map(|duration| duration.as_secs_f32() * 1e3)
    }

    /// The middle and the worst.
    pub fn summary(&self) -> Summary {
        let mut sorted: Vec<Duration> = self.0.iter().copied().collect();
        sorted.sort_unstable();
        Summary {
            median: sorted.get(sorted.len() / 2).copied().unwrap_or_default(),
            longest: sorted.last().copied().unwrap_or_default(),
        }
    }
}

fn note_frame(mut times: ResMut<FrameTimes>) {
    let now = Instant::now();
    times.frames += 1;
    if let Some(before) = times.frame_began.replace(now) {
        times.frame.push(now - before);
    }
}

fn end_tick(mut times: ResMut<FrameTimes>) {
    if let Some(began) = times.tick_began.take() {
        times.tick.push(began.elapsed());
    }
}

fn end_logic(mut times: ResMut<FrameTimes>) {
    if let Some(began) = times.frame_began {
        times.logic.push(began.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_of_the_last_two_seconds() {
        let mut times = Times::default();
        assert_eq!(times.summary(), Summary::default());
        times.push(Duration::from_secs(1));
        (0..SAMPLES).for_each(|_| times.push(Duration::from_millis(5)));
        times.push(Duration::from_millis(9));
        let summary = times.summary();
        assert_eq!((summary.median.as_millis(), summary.longest.as_millis()), (5, 9));
    }
}
