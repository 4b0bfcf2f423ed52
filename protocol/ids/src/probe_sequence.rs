//! Numbers of stamped actions: a counter, and in the lowest bit whether the action is traced. Small numbers are short on the wire.

/// Set in the number of an action of which every process on its way tells.
const TRACED: u32 = 1;
/// What the counter rises by.
const STEP: u32 = 2;

/// The number after `last`, which is 0 before the first. Never 0, which stands for nothing stamped.
#[must_use]
pub fn next(last: u32, is_traced: bool) -> u32 {
    let counter = (last & !TRACED).checked_add(STEP).unwrap_or(STEP);
    counter | if is_traced { TRACED } else { 0 }
}

/// Whether every process on the action's way is to tell of it.
#[must_use]
pub fn is_traced(sequence: u32) -> bool {
    sequence & TRACED != 0
}

/// The same number without the wish that processes tell of it.
#[must_use]
pub fn untraced(sequence: u32) -> u32 {
    sequence & !TRACED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_rise_are_never_zero_and_say_whether_they_are_traced() {
        assert_eq!((next(0, false), next(0, true)), (2, 3));
        assert_eq!((next(3, true), next(3, false), next(2, true)), (5, 4, 5));
        assert_eq!((next(u32::MAX, true), next(u32::MAX - 1, false)), (3, 2));
        assert!(is_traced(3) && !is_traced(2) && !is_traced(0));
        assert_eq!((untraced(3), untraced(2)), (2, 2));
    }
}
