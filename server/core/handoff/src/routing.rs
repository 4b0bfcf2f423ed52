//! Which zones a player's inputs go to, and which of them are sent again when it changes hands.

use std::collections::VecDeque;

use meridian_ids::{Tick, ZoneId};

/// Inputs that are held of one player: those of as many ticks as an input may be ahead, a second at 60 Hz.
pub const INPUTS_HELD_MAX: usize = 64;

/// The zones that an input goes to: the owner, and those nearby, which may be the owner when it counts.
pub fn receivers(owner: ZoneId, near: impl IntoIterator<Item = ZoneId>) -> impl Iterator<Item = ZoneId> {
    let near = near.into_iter().filter(move |zone| *zone != owner);
    std::iter::once(owner).chain(near)
}

/// The last inputs of a player, by tick: what a zone that takes it over may not have been sent.
#[derive(Clone, Debug)]
pub struct HeldInputs<Input> {
    inputs: VecDeque<(Tick, Input)>,
}

impl<Input> Default for HeldInputs<Input> {
    fn default() -> Self {
        Self {
            inputs: VecDeque::new(),
        }
    }
}

impl<Input> HeldInputs<Input> {
    /// Holds an input, unless that of its tick is held already: clients repeat their last ones.
    pub fn hold(&mut self, tick: Tick, input: Input) {
        let place = self.inputs.partition_point(|(known, _)| *known < tick);
        if self.inputs.get(place).is_some_and(|(known, _)| *known == tick) {
            return;
        }
        self.inputs.insert(place, (tick, input));
        if self.inputs.len() > INPUTS_HELD_MAX {
            self.inputs.pop_front();
        }
    }

    /// What the new owner of a player is sent that has told its state after tick `after`: the inputs for the ticks to come, oldest first.
    pub fn since(&self, after: Tick) -> impl Iterator<Item = (Tick, &Input)> {
        let later = self.inputs.partition_point(|(tick, _)| *tick <= after);
        self.inputs.range(later..).map(|(tick, input)| (*tick, input))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_go_to_the_owner_and_once_to_each_zone_nearby() {
        let near = [ZoneId(2), ZoneId(1), ZoneId(3)];
        assert_eq!(
            receivers(ZoneId(1), near).collect::<Vec<_>>(),
            [ZoneId(1), ZoneId(2), ZoneId(3)]
        );
    }

    #[test]
    fn a_new_owner_is_sent_what_comes_after_its_state_once_and_in_order() {
        let mut held = HeldInputs::default();
        for tick in [5, 7, 6, 7, 8] {
            held.hold(Tick(tick), tick);
        }
        assert_eq!(held.since(Tick(6)).collect::<Vec<_>>(), [(Tick(7), &7), (Tick(8), &8)]);
        assert_eq!(held.since(Tick(8)).count(), 0);
        (100..300).for_each(|tick| held.hold(Tick(tick), tick));
        assert_eq!(held.since(Tick(0)).count(), INPUTS_HELD_MAX);
        assert_eq!(held.since(Tick(0)).last(), Some((Tick(299), &299)));
    }
}
