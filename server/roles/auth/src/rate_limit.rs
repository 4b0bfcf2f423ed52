//! The limit of sessions per peer address.

use std::{
    net::IpAddr,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::NoOpMiddleware,
    state::keyed::DashMapStateStore,
};

use crate::config::RateLimitConfig;

/// After so many checks the addresses whose allowance is full again are forgotten. What is remembered is then bounded by this
/// number and the addresses that opened a TCP connection within `burst / per_second` seconds.
const CHECKS_BETWEEN_SWEEPS: u32 = 1024;

/// Lets each address ask so often and no more.
pub(crate) struct PeerRateLimiter<C: Clock = DefaultClock> {
    limiter: RateLimiter<PeerKey, DashMapStateStore<PeerKey>, C, NoOpMiddleware<C::Instant>>,
    clock: C,
    checks: AtomicU32,
}

/// What counts as one peer: an IPv4 address, or the /64 of an IPv6 address.
type PeerKey = u64;

impl PeerRateLimiter {
    pub(crate) fn new(config: &RateLimitConfig) -> Self {
        Self::with_clock(config, DefaultClock::default())
    }
}

impl<C: Clock + Clone> PeerRateLimiter<C> {
    fn with_clock(config: &RateLimitConfig, clock: C) -> Self {
        let quota = Quota::per_second(config.per_second).allow_burst(config.burst);
        let limiter = RateLimiter::new(quota, DashMapStateStore::default(), clock.clone());
        Self {
            limiter,
            clock,
            checks: AtomicU32::new(0),
        }
    }

    /// Counts one request.
    ///
    /// # Errors
    /// It is one too many; how long to wait.
    pub(crate) fn check(&self, peer: IpAddr) -> Result<(), Duration> {
        if self.checks.fetch_add(1, Ordering::Relaxed) % CHECKS_BETWEEN_SWEEPS == CHECKS_BETWEEN_SWEEPS - 1 {
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
        }
        self.limiter
            .check_key(&peer_key(peer))
            .map_err(|denied| denied.wait_time_from(self.clock.now()))
    }
}

fn peer_key(peer: IpAddr) -> PeerKey {
    match peer.to_canonical() {
        // The /64 of ::/96 stands for IPv4 nowhere else: it is reserved.
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use governor::clock::FakeRelativeClock;

    use super::*;

    #[test]
    fn an_address_waits_and_the_others_do_not() {
        let clock = FakeRelativeClock::default();
        let limiter = limiter(&clock);
        let (one, other) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        assert_eq!([limiter.check(one), limiter.check(one)], [Ok(()), Ok(())]);
        assert_eq!(limiter.check(one), Err(Duration::from_millis(500)));
        assert_eq!(limiter.check(other), Ok(()));
        clock.advance(Duration::from_millis(500));
        assert_eq!(limiter.check(one), Ok(()));
    }

    #[test]
    fn a_network_of_64_bits_is_one_peer() {
        let key = |text: &str| peer_key(text.parse().unwrap());
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:1"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_eq!(key("::ffff:10.0.0.1"), key("10.0.0.1"));
    }

    #[test]
    fn addresses_are_forgotten() {
        let clock = FakeRelativeClock::default();
        let limiter = limiter(&clock);
        for number in 0..CHECKS_BETWEEN_SWEEPS * 3 {
            clock.advance(Duration::from_secs(10));
            assert_eq!(limiter.check(IpAddr::from(number.to_be_bytes())), Ok(()));
        }
        assert!(limiter.limiter.len() <= CHECKS_BETWEEN_SWEEPS as usize);
    }

    fn limiter(clock: &FakeRelativeClock) -> PeerRateLimiter<FakeRelativeClock> {
        let two = NonZeroU32::new(2).unwrap();
        PeerRateLimiter::with_clock(
            &RateLimitConfig {
                per_second: two,
                burst: two,
            },
            clock.clone(),
        )
    }
}
