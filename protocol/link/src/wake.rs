//! Wakes a thread that waits for a deadline, from any other.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

/// A flag with a wait. Setting it twice before it is seen wakes once.
#[derive(Debug, Default)]
pub struct Wake {
    set: Mutex<bool>,
    changed: Condvar,
}

impl Wake {
    /// Wakes the waiting thread, or lets its next wait return at once.
    pub fn wake(&self) {
        // A poisoned flag is still a flag.
        let mut set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        if !*set {
            *set = true;
            self.changed.notify_one();
        }
    }

    /// Waits until [`Self::wake`] or `deadline`, and says whether it was woken.
    pub fn wait_until(&self, deadline: Instant) -> bool {
        let mut set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if std::mem::take(&mut *set) {
                return true;
            }
            let now = Instant::now();
            if now >= deadline {
                return false;
            }
            let waited = self.changed.wait_timeout(set, deadline - now);
            (set, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}
