//! Wakes a thread that waits for a deadline, from any other.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

/// A flag with a wait. Setting it twice before it is seen wakes once.
#[derive(Debug, Default)]
pub struct Wake {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    set: bool,
    /// When the thread wakes by itself; none while it is awake.
    wakes_at: Option<Instant>,
}

impl Wake {
    /// Wakes the waiting thread, or lets its next wait return at once.
    pub fn wake(&self) {
        self.set(|_| true);
    }

    /// Sets the flag for a thread that is in no hurry: wakes it only if it would sleep longer than until `latest`.
    pub fn wake_by(&self, latest: Instant) {
        self.set(|wakes_at| wakes_at > latest);
    }

    fn set(&self, worth_waking: impl Fn(Instant) -> bool) {
        // A poisoned flag is still a flag.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.set = true;
        // Once notified, the thread counts as awake: the next setter need not notify it again.
        if state.wakes_at.is_some_and(worth_waking) {
            state.wakes_at = None;
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Waits until it is woken or until `deadline`, and says whether the flag was set.
    pub fn wait_until(&self, deadline: Instant) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.set {
            state.set = false;
            return true;
        }
        state.wakes_at = Some(deadline);
        loop {
            let now = Instant::now();
            // Notified, or its own time has come; whether the flag was set since is another question.
            if state.wakes_at.is_none() || now >= deadline {
                state.wakes_at = None;
                return std::mem::take(&mut state.set);
            }
            let waited = self.changed.wait_timeout(state, deadline - now);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    /// Waits on another thread and lets `act` run once it sleeps; says what the wait returned.
    fn while_asleep(deadline: Instant, act: impl FnOnce(&Wake)) -> bool {
        let wake = Arc::new(Wake::default());
        let sleeper = wake.clone();
        let waiting = std::thread::spawn(move || sleeper.wait_until(deadline));
        while wake.state.lock().unwrap().wakes_at.is_none() {
            std::thread::yield_now();
        }
        act(&wake);
        waiting.join().unwrap()
    }

    #[test]
    fn a_sleeping_thread_is_woken() {
        assert!(while_asleep(Instant::now() + LONG, Wake::wake));
    }

    #[test]
    fn a_flag_set_before_the_wait_is_seen_once() {
        let wake = Wake::default();
        wake.wake();
        wake.wake_by(Instant::now());
        assert!(wake.wait_until(Instant::now() + LONG));
        assert!(!wake.wait_until(Instant::now()));
    }

    #[test]
    fn who_is_in_no_hurry_wakes_only_a_long_sleeper() {
        assert!(while_asleep(Instant::now() + LONG, |wake| wake.wake_by(Instant::now())));
        let soon = Instant::now() + Duration::from_secs(1);
        let returned = while_asleep(soon, |wake| {
            wake.wake_by(soon);
            assert!(wake.state.lock().unwrap().wakes_at.is_some(), "still asleep");
        });
        assert!(returned, "the flag is seen at the end of the sleep");
    }
}
