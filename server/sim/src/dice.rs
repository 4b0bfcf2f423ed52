//! Where randomness comes from: one generator per seed, the same on every machine and with every version of the library.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, SeedableRng};

/// Draws numbers from a seed. The generator is xoshiro256++, seeded through SplitMix64; how a number is brought into a range is
/// written here, so that no library changes it.
pub(crate) struct Dice(Xoshiro256PlusPlus);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    /// A number below `bound`; 0 if there is none.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.0.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from `least` to `most`.
    pub(crate) fn between(&mut self, least: u8, most: u8) -> u8 {
        least + self.below(u64::from(most.saturating_sub(least)) + 1) as u8
    }

    /// Any byte.
    pub(crate) fn byte(&mut self) -> u8 {
        self.below(256) as u8
    }

    /// True once in `times`.
    pub(crate) fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// From minus `most` to `most`.
    pub(crate) fn around(&mut self, most: i8) -> i8 {
        self.below(2 * most.unsigned_abs() as u64 + 1) as i8 - most
    }

    /// An index into weights, each as likely as it weighs.
    pub(crate) fn weighed(&mut self, weights: &[u32]) -> usize {
        let sum = weights.iter().map(|weight| u64::from(*weight)).sum();
        let mut left = self.below(sum);
        for (index, weight) in weights.iter().enumerate() {
            match left.checked_sub(u64::from(*weight)) {
                Some(rest) => left = rest,
                None => return index,
            }
        }
        0
    }
}

/// Mixes numbers into one that tells them apart.
pub(crate) fn mixed(numbers: [u64; 3]) -> u64 {
    numbers.into_iter().fold(0x9e37_79b9_7f4a_7c15, |hash: u64, number| {
        let hash = (hash ^ number).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash ^ hash >> 32
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_same_numbers_everywhere() {
        let mut dice = Dice::new(1);
        let drawn: Vec<u64> = (0..6).map(|_| dice.below(1_000)).collect();
        assert_eq!(drawn, FIRST_OF_SEED_1);
    }

    const FIRST_OF_SEED_1: [u64; 6] = [811, 747, 100, 746, 184, 590];

    #[test]
    fn what_weighs_nothing_is_never_drawn() {
        let mut dice = Dice::new(7);
        let mut counts = [0; 3];
        (0..1_000).for_each(|_| counts[dice.weighed(&[1, 0, 3])] += 1);
        assert_eq!(counts[1], 0);
        assert!((150..350).contains(&counts[0]), "{counts:?}");
    }
}
