//! Who plays a player: the gateway that its last join or its last inputs came from, and for how long nobody may.
//!
//! Pure: ticks are counted by whoever calls. Nothing here knows a connection, or where the player stands.

use std::time::Duration;

use meridian_ids::TickRate;

/// How long a player stays in the world whom no gateway plays: its client notices within half a second that its gateway is gone, and may
/// need a few tries until it has found another one; a person whose network changes needs some more.
pub const PLAYER_GRACE: Duration = Duration::from_secs(30);
/// How long a player stays that a gateway has let go, while another one may have it: that one is heard in each tick.
const LET_GO_GRACE: Duration = Duration::from_secs(2);
/// A gateway that was heard so recently may still play the player.
const RECENT: Duration = Duration::from_secs(1);

/// One of a zone's connections to gateways; a gateway that comes back has another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PortId(pub(crate) u64);

/// A gateway, and the ticks since it was heard of the player.
#[derive(Clone, Copy, Debug)]
struct Heard {
    port: PortId,
    ticks_ago: u32,
}

/// Who plays one player.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Custody {
    rate: TickRate,
    now: Option<Heard>,
    before: Option<Heard>,
    /// Ticks that are left to somebody to play it, while nobody does.
    grace_ticks: u32,
}

impl Custody {
    /// Of a player that came by `port`, if that is known; otherwise its grace begins.
    pub(crate) fn new(rate: TickRate, port: Option<PortId>) -> Self {
        Self {
            rate,
            now: port.map(|port| Heard { port, ticks_ago: 0 }),
            before: None,
            grace_ticks: ticks(rate, PLAYER_GRACE),
        }
    }

    /// Whether any gateway plays it.
    pub(crate) fn is_played(&self) -> bool {
        self.now.is_some()
    }

    /// It was heard of by `port`: a join, or inputs.
    pub(crate) fn heard(&mut self, port: PortId) {
        if self.now.is_none_or(|now| now.port != port) {
            self.before = self.now;
        }
        self.now = Some(Heard { port, ticks_ago: 0 });
    }

    /// `port` says that its client is gone. Says whether the player is to leave the world at once: not if another gateway plays it, nor
    /// while one may.
    pub(crate) fn let_go(&mut self, port: PortId) -> bool {
        match self.now {
            Some(now) if now.port != port => false,
            Some(_) if !self.was_elsewhere_recently(port) => true,
            _ => {
                let grace = if self.now.take().is_some() {
                    u32::MAX
                } else {
                    self.grace_ticks
                };
                self.grace_ticks = grace.min(ticks(self.rate, LET_GO_GRACE));
                false
            }
        }
    }

    /// A tick was simulated. Says whether the player's grace is over. `is_open` is asked whether a port is, that spoke for the player so many ticks ago.
    pub(crate) fn tick(&mut self, is_open: impl Fn(PortId, u32) -> bool) -> bool {
        for heard in [&mut self.now, &mut self.before].into_iter().flatten() {
            heard.ticks_ago = heard.ticks_ago.saturating_add(1);
        }
        if self.now.take_if(|now| !is_open(now.port, now.ticks_ago)).is_some() {
            self.grace_ticks = ticks(self.rate, PLAYER_GRACE);
        } else if self.now.is_none() {
            self.grace_ticks = self.grace_ticks.saturating_sub(1);
        }
        self.now.is_none() && self.grace_ticks == 0
    }

    fn was_elsewhere_recently(&self, port: PortId) -> bool {
        let recent = ticks(self.rate, RECENT);
        self.before
            .is_some_and(|before| before.port != port && before.ticks_ago < recent)
    }
}

fn ticks(rate: TickRate, duration: Duration) -> u32 {
    (duration.as_secs_f64() * f64::from(rate.hz())) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: PortId = PortId(1);
    const OTHER: PortId = PortId(2);

    fn played_by(port: Option<PortId>) -> Custody {
        Custody::new(TickRate::default(), port)
    }

    /// Ticks until the grace is over, while only some ports are open.
    fn ticks_left(custody: &mut Custody, is_open: impl Fn(PortId, u32) -> bool + Copy) -> Option<u32> {
        (1..=10_000).find(|_| custody.tick(is_open))
    }

    #[test]
    fn only_the_gateway_that_plays_a_player_can_take_it_out_of_the_world() {
        let mut custody = played_by(Some(ONE));
        custody.heard(OTHER);
        assert!(!custody.let_go(ONE), "it went to the other one");
        assert!(custody.is_played());
        (0..61).for_each(|_| assert!(!custody.tick(|_, _| true)));
        assert!(custody.let_go(OTHER));
        assert!(played_by(Some(ONE)).let_go(ONE));
    }

    #[test]
    fn a_player_whose_gateway_is_gone_stays_for_half_a_minute_and_whoever_plays_it_ends_that() {
        let mut custody = played_by(Some(ONE));
        assert_eq!(ticks_left(&mut custody, |port, _| port != ONE), Some(1 + 30 * 60));
        let mut custody = played_by(None);
        (0..1_700).for_each(|_| assert!(!custody.tick(|_, _| true)));
        custody.heard(OTHER);
        assert_eq!(ticks_left(&mut custody, |_, _| true), None);
        // The next time it begins anew.
        assert_eq!(ticks_left(&mut custody, |_, _| false), Some(1 + 30 * 60));
    }

    #[test]
    fn who_is_let_go_where_another_gateway_may_have_it_stays_until_that_one_had_time_to_be_heard() {
        let mut custody = played_by(Some(OTHER));
        // The other one gave it back within the second: its client's old link spoke again.
        custody.heard(ONE);
        custody.heard(OTHER);
        assert!(!custody.let_go(OTHER));
        let mut unheard = custody;
        assert_eq!(ticks_left(&mut unheard, |_, _| true), Some(2 * 60));
        custody.heard(ONE);
        assert_eq!(ticks_left(&mut custody, |_, _| true), None);
        // Of one that just came nobody knows yet who plays it.
        let mut unknown = played_by(None);
        assert!(!unknown.let_go(ONE));
        assert_eq!(ticks_left(&mut unknown, |_, _| true), Some(2 * 60));
        // Said again, it does not begin anew.
        let mut told = played_by(None);
        told.let_go(ONE);
        (0..60).for_each(|_| assert!(!told.tick(|_, _| true)));
        told.let_go(ONE);
        assert_eq!(ticks_left(&mut told, |_, _| true), Some(60));
    }
}
