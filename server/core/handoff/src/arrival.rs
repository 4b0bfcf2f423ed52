//! When a zone may simulate what has come to it.

use meridian_ids::Tick;

/// What a zone that is about to simulate a tick does with an entity whose state is that after another tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Simulate this many ticks for it at once, then go on with the others: none if it is just in time.
    CatchUp(u64),
    /// Keep it until this tick: the sender's clock is ahead.
    Hold(Tick),
}

impl Arrival {
    /// For a state that is that `after` a tick, in a zone whose `next` tick is not simulated yet.
    pub fn new(after: Tick, next: Tick) -> Self {
        let from = after.next();
        match u64::try_from(next.since(from)) {
            Ok(behind) => Self::CatchUp(behind),
            Err(_) => Self::Hold(from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_continued_at_the_tick_after_it() {
        assert_eq!(Arrival::new(Tick(9), Tick(10)), Arrival::CatchUp(0));
        assert_eq!(Arrival::new(Tick(7), Tick(10)), Arrival::CatchUp(2));
        assert_eq!(Arrival::new(Tick(12), Tick(10)), Arrival::Hold(Tick(13)));
        assert_eq!(Arrival::new(Tick(1 << 62), Tick(0)), Arrival::Hold(Tick((1 << 62) + 1)));
    }
}
