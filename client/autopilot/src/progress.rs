//! Notices that a bot gets nowhere.

use bevy::math::Vec2;

/// Progress that counts, in metres per tick: a third of the walking speed at 60 Hz. Who slides along a wall more slowly
/// than that is as good as stuck.
const PROGRESS_M: f32 = 0.033;

/// For how long a bot has got nowhere.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    last: Option<Vec2>,
    still_ticks: u32,
}

impl Progress {
    /// Takes in where the bot stands in this tick.
    pub(crate) fn note(&mut self, here: Vec2) {
        let moved = self
            .last
            .replace(here)
            .map_or(f32::INFINITY, |last| last.distance(here));
        self.still_ticks = if moved < PROGRESS_M { self.still_ticks + 1 } else { 0 };
    }

    /// Whether nothing has been gained for so many ticks. Told once; then they are counted anew.
    pub(crate) fn is_stuck_for(&mut self, ticks: u32) -> bool {
        let is_stuck = self.still_ticks >= ticks;
        if is_stuck {
            self.still_ticks = 0;
        }
        is_stuck
    }
}
