//! A zone in which nobody is and nothing moves need not be simulated: its ticks are counted, told, and cost next to nothing.

use meridian_ids::TickRate;

use crate::population::Population;

/// Without any change for this share of a second a zone rests: what moves at all moves by a step of the wire's grid in it.
const QUIET_SHARE: u32 = 2;

/// Whether anything can happen in the next tick.
#[derive(Debug)]
pub(crate) struct Rest {
    quiet_ticks: u32,
    quiet_ticks_min: u32,
}

impl Rest {
    pub(crate) fn new(rate: TickRate) -> Self {
        Self {
            quiet_ticks: 0,
            quiet_ticks_min: rate.hz() / QUIET_SHARE,
        }
    }

    /// Something came, went or changed.
    pub(crate) fn disturb(&mut self) {
        self.quiet_ticks = 0;
    }

    /// A tick begins. Where players are, something may always happen.
    pub(crate) fn begin_tick(&mut self, population: &Population) {
        self.quiet_ticks = if population.players.is_empty() {
            self.quiet_ticks.saturating_add(1)
        } else {
            0
        };
    }

    /// Whether the tick need not be simulated.
    pub(crate) fn is_resting(&self) -> bool {
        self.quiet_ticks > self.quiet_ticks_min
    }
}
