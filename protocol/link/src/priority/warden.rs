//! Takes real time from threads that take most of a core, for as long as they do.

use std::cell::RefCell;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::realtime::Thread;

/// How often all threads in real time are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The warden's own priority in real time: before those that it looks after.
const PRIORITY: i32 = 3;
/// Share of a core, that it waits for included, above which a thread gives real time back, and below which it has it again.
const TAKES_MOST: f64 = 0.75;
const NEEDS_LITTLE: f64 = 0.5;

/// Threads that were granted real time and have not ended.
static WARDS: Mutex<Vec<Ward>> = Mutex::new(Vec::new());
/// Whether the warden's thread could be started.
static WARDEN: OnceLock<bool> = OnceLock::new();

thread_local! {
    static MEMBERSHIP: RefCell<Option<Membership>> = const { RefCell::new(None) };
}

/// Ends the calling thread's time among the wards with the thread.
struct Membership(Thread);

impl Drop for Membership {
    fn drop(&mut self) {
        let mut wards = WARDS.lock().unwrap_or_else(PoisonError::into_inner);
        wards.retain(|ward| ward.thread != self.0);
    }
}

/// A thread that was granted real time.
#[derive(Debug)]
struct Ward {
    thread: Thread,
    priority: i32,
    demand_ns: u64,
    has_given_way: bool,
}

/// Lets the calling thread run in real time, in this priority; says whether the system allows it.
pub(super) fn enter(priority: i32) -> bool {
    let Some((thread, demand_ns)) = Thread::current().and_then(|thread| Some((thread, thread.demand_ns()?))) else {
        return false;
    };
    // The other way round nobody would take back what a moment later may be too much.
    if !*WARDEN.get_or_init(start) || thread.enter_realtime(priority).is_err() {
        return false;
    }
    let mut wards = WARDS.lock().unwrap_or_else(PoisonError::into_inner);
    wards.retain(|ward| ward.thread != thread);
    wards.push(Ward {
        thread,
        priority,
        demand_ns,
        has_given_way: false,
    });
    drop(wards);
    MEMBERSHIP.with_borrow_mut(|membership| {
        membership.get_or_insert_with(|| Membership(thread));
    });
    true
}

/// Starts the warden, if the system grants real time at all.
fn start() -> bool {
    let (told, granted) = std::sync::mpsc::channel();
    let work = move || {
        // A limit may allow less.
        let enters = |thread: Thread| {
            (1..=PRIORITY)
                .rev()
                .any(|priority| thread.enter_realtime(priority).is_ok())
        };
        let is_granted = Thread::current().is_some_and(enters);
        // Who asked waits for it.
        let _ = told.send(is_granted);
        if is_granted {
            watch();
        }
    };
    let thread = std::thread::Builder::new().name("priorities".to_owned()).spawn(work);
    thread.is_ok() && granted.recv().unwrap_or(false)
}

fn watch() {
    let mut looked = Instant::now();
    loop {
        std::thread::sleep(LOOK_EVERY);
        let now = Instant::now();
        let passed = now - looked;
        looked = now;
        for (thread, gives_way) in judge_all(passed) {
            tracing::debug!(?thread, gives_way, "a thread's real time was changed");
        }
    }
}

/// Judges each by what it needed while so much time passed; says of whom that changed anything.
fn judge_all(passed: Duration) -> Vec<(Thread, bool)> {
    let mut wards = WARDS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut changed = Vec::new();
    for ward in wards.iter_mut() {
        let Some(demand_ns) = ward.thread.demand_ns() else {
            continue;
        };
        let needed = Duration::from_nanos(demand_ns.saturating_sub(ward.demand_ns));
        ward.demand_ns = demand_ns;
        if ward.judge(needed.as_secs_f64() / passed.as_secs_f64()) {
            changed.push((ward.thread, ward.has_given_way));
        }
    }
    changed
}

impl Ward {
    /// Takes real time from it or gives it back, by the share of a core that it needed; says whether that changed anything.
    fn judge(&mut self, share: f64) -> bool {
        let gives_way = gives_way(self.has_given_way, share);
        if gives_way == self.has_given_way {
            return false;
        }
        let done = if gives_way {
            self.thread.leave_realtime()
        } else {
            self.thread.enter_realtime(self.priority)
        };
        // One that has ended meanwhile is none of them any more.
        let is_done = done.is_ok();
        self.has_given_way ^= is_done;
        is_done
    }
}

/// Whether a thread that needed this share of a core runs behind those in real time; between the two bounds it stays as it is.
fn gives_way(has_given_way: bool, share: f64) -> bool {
    share > if has_given_way { NEEDS_LITTLE } else { TAKES_MOST }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn who_takes_most_of_a_core_gives_way_until_it_needs_little() {
        assert!(!gives_way(false, 0.7));
        assert!(gives_way(false, 0.8));
        assert!(gives_way(true, 0.7));
        assert!(!gives_way(true, 0.4));
    }

    #[test]
    fn a_thread_that_never_rests_is_taken_out_of_real_time_and_forgotten_when_it_ends() {
        const PATIENCE: Duration = Duration::from_secs(60);
        static STOP: AtomicBool = AtomicBool::new(false);
        let (sender, entered) = std::sync::mpsc::channel();
        let busy = std::thread::spawn(move || {
            let granted = enter(1);
            sender.send((granted, Thread::current())).unwrap();
            let begun = Instant::now();
            while granted && !STOP.load(Ordering::Relaxed) && begun.elapsed() < PATIENCE {
                std::hint::spin_loop();
            }
            std::fs::read_to_string("/proc/thread-self/stat").unwrap()
        });
        let (granted, thread) = entered.recv().unwrap();
        let find = || {
            let wards = WARDS.lock().unwrap();
            let ward = wards.iter().find(|ward| Some(ward.thread) == thread);
            ward.map(|ward| ward.has_given_way)
        };
        // Where the system grants no real time there is nothing to take back.
        while granted && find() == Some(false) {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_ne!(find(), Some(false), "it has real time for ever");
        STOP.store(true, Ordering::Relaxed);
        let stat = busy.join().unwrap();
        // Field 41 of proc(5), the policy: 0 is the usual one.
        let policy = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(38);
        assert_eq!(policy, Some("0"));
        assert_eq!(find(), None);
    }
}
