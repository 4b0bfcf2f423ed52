//! Tells an overloaded zone from one that had a bad moment.

use std::time::Duration;

use meridian_ids::TickRate;

/// Whether a zone keeps up, judged over a second.
#[derive(Debug)]
pub struct Load {
    rate: TickRate,
    ticks: u32,
    overrun: u32,
    overloaded: Option<bool>,
}

impl Load {
    /// Nothing is known yet.
    pub fn new(rate: TickRate) -> Self {
        Self {
            rate,
            ticks: 0,
            overrun: 0,
            overloaded: None,
        }
    }

    /// A tick took so long. Says whether the zone is overloaded, when that has changed or is known for the first time.
    pub fn ticked(&mut self, took: Duration) -> Option<bool> {
        self.ticks += 1;
        self.overrun += u32::from(took > self.rate.tick_duration());
        let over = self.ticks >= self.rate.hz();
        let overloaded = self.overrun * 2 > self.rate.hz();
        if over {
            (self.ticks, self.overrun) = (0, 0);
        }
        // The first tick shows that it runs at all.
        let is_news = self.overloaded.is_none() || (over && self.overloaded != Some(overloaded));
        is_news.then(|| *self.overloaded.insert(overloaded))
    }

    /// A tick was not simulated, for the zone may be another's. Says whether that is news: the zone did run before.
    pub fn paused(&mut self) -> bool {
        (self.ticks, self.overrun) = (0, 0);
        self.overloaded.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_that_does_not_keep_up_says_so_after_a_second_and_takes_it_back() {
        let mut load = Load::new(TickRate::default());
        let (quick, slow) = (Duration::from_millis(1), Duration::from_millis(30));
        assert_eq!(load.ticked(quick), Some(false), "it runs");
        let mut second = |took| (0..60).filter_map(|_| load.ticked(took)).collect::<Vec<_>>();
        assert!(second(quick).is_empty());
        assert_eq!(second(slow), [true]);
        assert!(second(slow).is_empty());
        assert_eq!(second(quick), [false]);
        assert!(load.paused());
        assert!(!load.paused(), "told once");
        assert_eq!(load.ticked(quick), Some(false), "it runs again");
    }
}
