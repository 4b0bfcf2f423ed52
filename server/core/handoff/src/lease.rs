//! How long a zone may simulate on one renewal of its lease.

use std::time::Duration;

/// How long a lease lasts that is not renewed.
pub const LEASE_TTL: Duration = Duration::from_secs(2);
/// How long a store that was restarted waits for living instances before it lets new ones in: as long as one of them may simulate
/// on what it was told before.
pub const SETTLING: Duration = LEASE_TTL;
/// How long an instance remembers what it handed over and what it took out of the world, to say it again to a store that has lost it: several times
/// as long as what a store may lose, which is a second or two of a file that is synced every second. Counted by the answers of the store: what was
/// done before a silence is remembered through it.
pub const REMEMBERED: Duration = Duration::from_secs(10);
/// A zone stops this much before its lease may have ended: clocks drift, and a tick takes time.
const MARGIN: Duration = Duration::from_millis(250);
/// Renewals in a lease's life: two may be lost.
const RENEWALS_PER_TTL: u32 = 4;

/// A zone's view of its own lease. Times count from any origin, on a clock that goes on while the machine sleeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// When the last renewal that succeeded was sent.
    renewed: Option<Duration>,
    asked: Option<Duration>,
}

impl Lease {
    /// A renewal that was sent at `sent` has succeeded. Counts from its sending: the keeper's clock started no earlier.
    pub fn renewed(&mut self, sent: Duration) {
        self.renewed = self.renewed.max(Some(sent));
    }

    /// When the last renewal that succeeded was sent.
    pub fn last_renewed(&self) -> Option<Duration> {
        self.renewed
    }

    /// The lease is another's.
    pub fn lost(&mut self) {
        *self = Self::default();
    }

    /// Whether the zone may simulate: nobody else can hold its lease yet.
    pub fn may_simulate(&self, now: Duration) -> bool {
        self.renewed.is_some_and(|sent| now < sent + (LEASE_TTL - MARGIN))
    }

    /// Whether it is time to ask for a renewal; the caller then sends one.
    pub fn is_renewal_due(&mut self, now: Duration) -> bool {
        let due = self
            .asked
            .is_none_or(|asked| now >= asked + LEASE_TTL / RENEWALS_PER_TTL);
        if due {
            self.asked = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn a_zone_stops_before_its_lease_can_have_ended_at_the_keeper() {
        let mut lease = Lease::default();
        assert!(!lease.may_simulate(MS(0)), "nothing is owned before the first renewal");
        lease.renewed(MS(100));
        assert!(lease.may_simulate(MS(1_849)));
        assert!(!lease.may_simulate(MS(1_850)));
        // An answer that was long on its way makes nothing younger.
        lease.renewed(MS(50));
        assert!(!lease.may_simulate(MS(1_850)));
        lease.lost();
        assert!(!lease.may_simulate(MS(200)));
    }

    #[test]
    fn renewals_are_sent_four_times_in_a_life_whether_or_not_they_are_answered() {
        let mut lease = Lease::default();
        let sent = (0..2_000).filter(|ms| lease.is_renewal_due(MS(*ms))).count();
        assert_eq!(sent, 4);
    }
}
