//! The bounds of what callers may ask for: how often, how much at once, and until when.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use meridian_ids::PlayerId;
use meridian_rpc::{ErrorWord, refusal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;
use tonic::codegen::http::HeaderMap;

/// How long a call has at most, and one that says nothing of it.
pub(crate) const DEADLINE_MAX: Duration = Duration::from_secs(10);
/// Metadata of a request, in bytes: a token and a trace are below one KiB.
pub(crate) const METADATA_BYTES_MAX: u32 = 16 * 1024;
/// A request's message, in bytes: 1,024 entities by their longest numbers are a sixth of it.
pub(crate) const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// What health or reflection is asked, in bytes: the name of a service, of a symbol or of a file.
pub(crate) const QUESTION_BYTES_MAX: usize = 4 * 1024;
/// What they answer, in bytes: the longest is a file's descriptor, of 13 KiB.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Streams of health and reflection at once: one for each balancer or tool, with room.
pub(crate) const STANDARD_STREAMS_MAX: u32 = 256;
/// Those of one connection.
pub(crate) const STANDARD_STREAMS_PER_CONNECTION_MAX: u32 = 8;
/// Calls and streams of one connection at once; those beyond wait at the caller. A process that plays for a thousand players has one connection.
pub(crate) const STREAMS_PER_CONNECTION: u32 = 2_048;
/// Streams of one kind that one player may have open: one for each of its devices and tools, with room.
pub(crate) const STREAMS_PER_PLAYER_MAX: u32 = 16;
/// After so many checks those whose allowance is full again are forgotten.
const CHECKS_BETWEEN_SWEEPS: u32 = 4_096;
/// Part of a deadline that is kept for the way of the answer: who is told in time knows why.
const ANSWER_SHARE: u32 = 10;
const ANSWER_TIME_MIN: Duration = Duration::from_millis(2);
const ANSWER_TIME_MAX: Duration = Duration::from_millis(50);

/// Lets each caller ask so often and no more.
pub(crate) struct CallLimiter<K: Hash + Eq + Clone, C: Clock = DefaultClock> {
    limiter: RateLimiter<K, DashMapStateStore<K>, C, NoOpMiddleware<C::Instant>>,
    checks: AtomicU32,
}

impl<K: Hash + Eq + Clone> CallLimiter<K> {
    /// So many calls in a second, and twice as many for a moment.
    pub(crate) fn new(per_second: NonZeroU32) -> Self {
        Self::with_clock(per_second, DefaultClock::default())
    }
}

impl<K: Hash + Eq + Clone, C: Clock + Clone> CallLimiter<K, C> {
    fn with_clock(per_second: NonZeroU32, clock: C) -> Self {
        let quota =
            Quota::per_second(per_second).allow_burst(per_second.saturating_mul(NonZeroU32::MIN.saturating_add(1)));
        Self {
            limiter: RateLimiter::new(quota, DashMapStateStore::default(), clock),
            checks: AtomicU32::new(0),
        }
    }

    /// Counts one call.
    ///
    /// # Errors
    /// It is one too many.
    pub(crate) fn check(&self, key: &K) -> Result<(), Status> {
        if self.checks.fetch_add(1, Ordering::Relaxed) % CHECKS_BETWEEN_SWEEPS == CHECKS_BETWEEN_SWEEPS - 1 {
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
        }
        self.limiter
            .check_key(key)
            .map_err(|_| refusal(ErrorWord::TooMany, "too many calls: send fewer in a second"))
    }
}

/// What counts as one peer: an IPv4 address, or the /64 of an IPv6 address, which is what one customer is given.
pub(crate) type PeerKey = u64;

/// The peer at an address.
pub(crate) fn peer_key(peer: IpAddr) -> PeerKey {
    match peer.to_canonical() {
        // The /64 of ::/96 stands for IPv4 nowhere else: it is reserved.
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
    }
}

/// So many of something at once.
#[derive(Clone, Debug)]
pub(crate) struct Seats {
    free: Arc<Semaphore>,
    what: &'static str,
}

impl Seats {
    /// `what` they are, for people.
    pub(crate) fn new(count: u32, what: &'static str) -> Self {
        Self {
            free: Arc::new(Semaphore::new(count as usize)),
            what,
        }
    }

    /// One of them, until it is dropped.
    ///
    /// # Errors
    /// All are taken.
    pub(crate) fn take(&self) -> Result<OwnedSemaphorePermit, Status> {
        Arc::clone(&self.free).try_acquire_owned().map_err(|_| {
            let message = format!(
                "this server has as many {} as it takes: try another one, or later",
                self.what
            );
            refusal(ErrorWord::TooMany, message)
        })
    }
}

/// So many of something at once, and so many for one player.
#[derive(Clone)]
pub(crate) struct PlayerSeats {
    seats: Seats,
    taken: Arc<Mutex<HashMap<PlayerId, u32>>>,
}

/// One of them, until it is dropped.
pub(crate) struct PlayerSeat {
    taken: Arc<Mutex<HashMap<PlayerId, u32>>>,
    player: PlayerId,
    _seat: OwnedSemaphorePermit,
}

impl PlayerSeats {
    /// `what` they are, for people.
    pub(crate) fn new(count: u32, what: &'static str) -> Self {
        Self {
            seats: Seats::new(count, what),
            taken: Arc::default(),
        }
    }

    /// One of them for a player.
    ///
    /// # Errors
    /// All are taken, or the player has as many as one may have.
    pub(crate) fn take(&self, player: PlayerId) -> Result<PlayerSeat, Status> {
        let seat = self.seats.take()?;
        let mut taken = lock(&self.taken);
        let own = taken.entry(player).or_default();
        if *own >= STREAMS_PER_PLAYER_MAX {
            let message = format!(
                "one player may have {STREAMS_PER_PLAYER_MAX} {} open at once",
                self.seats.what
            );
            return Err(refusal(ErrorWord::TooMany, message));
        }
        *own += 1;
        Ok(PlayerSeat {
            taken: Arc::clone(&self.taken),
            player,
            _seat: seat,
        })
    }
}

impl Drop for PlayerSeat {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        if let Some(own) = taken.get_mut(&self.player) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.player);
            }
        }
    }
}

fn lock(taken: &Mutex<HashMap<PlayerId, u32>>) -> MutexGuard<'_, HashMap<PlayerId, u32>> {
    // Each access leaves it whole.
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long the caller waits, if it says so, as `grpc-timeout` (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>): at most eight digits
/// and a unit. Anything else says nothing.
pub(crate) fn timeout_of(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(value * 3_600)),
        "M" => Some(Duration::from_secs(value * 60)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

/// When a call that came at `arrived` is answered at the latest: a little before its caller gives up.
pub(crate) fn deadline_of(arrived: Instant, headers: &HeaderMap) -> Instant {
    let (timeout, for_the_answer) = timeout_and_answer(headers);
    arrived + timeout.saturating_sub(for_the_answer)
}

/// When a request that came at `arrived` is given up, whatever it waits for: after a call that keeps its own deadline has ended.
pub(crate) fn given_up_at(arrived: Instant, headers: &HeaderMap) -> Instant {
    let (timeout, for_the_answer) = timeout_and_answer(headers);
    arrived + timeout.saturating_sub(for_the_answer / 2)
}

fn timeout_and_answer(headers: &HeaderMap) -> (Duration, Duration) {
    let timeout = timeout_of(headers).map_or(DEADLINE_MAX, |timeout| timeout.min(DEADLINE_MAX));
    let for_the_answer = (timeout / ANSWER_SHARE).clamp(ANSWER_TIME_MIN, ANSWER_TIME_MAX);
    (timeout, for_the_answer)
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;
    use proptest::prelude::*;
    use tonic::codegen::http::HeaderValue;

    use super::*;

    fn asked_with(timeout: &str) -> HeaderMap {
        HeaderMap::from_iter([("grpc-timeout".parse().unwrap(), HeaderValue::try_from(timeout).unwrap())])
    }

    #[test]
    fn who_asks_too_often_is_refused_for_as_long_and_nobody_else_is() {
        let clock = FakeRelativeClock::default();
        let limiter = CallLimiter::with_clock(NonZeroU32::new(2).unwrap(), clock.clone());
        for _ in 0..4 {
            limiter.check(&1).unwrap();
        }
        assert_eq!(ErrorWord::of(&limiter.check(&1).unwrap_err()), Some(ErrorWord::TooMany));
        limiter.check(&2).unwrap();
        clock.advance(Duration::from_millis(500));
        limiter.check(&1).unwrap();
        assert!(limiter.check(&1).is_err());
    }

    #[test]
    fn who_has_not_asked_for_a_while_is_forgotten() {
        let clock = FakeRelativeClock::default();
        let limiter = CallLimiter::with_clock(NonZeroU32::new(2).unwrap(), clock.clone());
        for caller in 0..CHECKS_BETWEEN_SWEEPS * 3 {
            clock.advance(Duration::from_secs(10));
            limiter.check(&caller).unwrap();
        }
        assert!(limiter.limiter.len() <= CHECKS_BETWEEN_SWEEPS as usize);
    }

    #[test]
    fn a_seat_is_free_again_when_its_holder_has_gone() {
        let seats = Seats::new(1, "streams");
        let seat = seats.take().unwrap();
        assert_eq!(ErrorWord::of(&seats.take().unwrap_err()), Some(ErrorWord::TooMany));
        drop(seat);
        assert!(seats.take().is_ok());
    }

    #[test]
    fn one_player_takes_no_more_than_its_share_of_the_seats() {
        let seats = PlayerSeats::new(2 * STREAMS_PER_PLAYER_MAX, "streams");
        let (ada, eve) = (PlayerId(1), PlayerId(2));
        let mut taken: Vec<PlayerSeat> = (0..STREAMS_PER_PLAYER_MAX).map(|_| seats.take(ada).unwrap()).collect();
        let one_more = seats.take(ada).err().unwrap();
        assert_eq!(ErrorWord::of(&one_more), Some(ErrorWord::TooMany));
        let of_eve = seats.take(eve).unwrap();
        taken.pop();
        taken.push(seats.take(ada).unwrap());
        drop((taken, of_eve));
        assert!(lock(&seats.taken).is_empty());
    }

    #[test]
    fn an_answer_comes_before_its_caller_gives_up_and_nobody_waits_for_more_than_ten_seconds() {
        let now = Instant::now();
        let ends_after = |timeout: &str| deadline_of(now, &asked_with(timeout)) - now;
        assert_eq!(ends_after("100m"), Duration::from_millis(90));
        assert_eq!(ends_after("10000u"), Duration::from_millis(8));
        assert_eq!(ends_after("1n"), Duration::ZERO);
        assert_eq!(ends_after("1H"), Duration::from_millis(9_950));
        assert_eq!(ends_after("what"), Duration::from_millis(9_950));
        assert_eq!(deadline_of(now, &HeaderMap::new()) - now, Duration::from_millis(9_950));
        assert_eq!(timeout_of(&asked_with("123456789S")), None);
    }

    proptest! {
        #[test]
        fn no_text_does_harm_as_a_timeout(text in "[ -~]{0,12}", at in "[0-9]{0,9}[HMSmun]?") {
            for text in [text, at] {
                let _ = timeout_of(&asked_with(&text));
            }
        }
    }
}
