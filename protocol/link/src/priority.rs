//! Threads that others wait for run before those that nobody does.
//!
//! A thread that ticks uses little of a core, but some milliseconds of waiting for one make inputs late: the system's scheduler lets what
//! runs go on for a slice, however urgent what wakes up is, unless that is in real time. So such threads ask for real time (Linux:
//! `SCHED_RR`), else for a nice value below zero, and run as all others do where the system allows neither: both take root, `CAP_SYS_NICE` or
//! the limits `RLIMIT_RTPRIO` and `RLIMIT_NICE`. Real time is for who needs little: a thread that takes most of a core gives it back until
//! it needs little again, so that what tells an operator of it is still heard.

#[cfg(target_os = "linux")]
mod realtime;
#[cfg(target_os = "linux")]
mod warden;

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};

use serde::{Deserialize, Serialize};

/// What a thread does that others wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// It plays for many whose machines are not here, as a swarm of bots does. Not in real time: the servers on this machine come first,
    /// and what has waited a little is taken in at one go.
    Plays,
    /// It ticks: it uses little of a core, but a few milliseconds of waiting for one make inputs late.
    Ticks,
    /// It carries a few bytes now and then on which entities on their way wait, all zones ticking at that very moment.
    Carries,
}

impl Urgency {
    /// Its nice value: before what runs at 0, behind what keeps the machine alive.
    fn nice(self) -> i32 {
        match self {
            Self::Plays | Self::Ticks => -5,
            Self::Carries => -10,
        }
    }

    /// Its priority in real time, of 1 to 99, if it asks for that: the lowest there are, behind whatever else needs real time.
    fn realtime(self) -> Option<i32> {
        match self {
            Self::Plays => None,
            Self::Ticks => Some(1),
            Self::Carries => Some(2),
        }
    }
}

/// How far before others a thread runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ThreadPriority {
    /// Not at all.
    Normal,
    /// More often than others, by its nice value.
    Nice,
    /// As soon as it has something to do.
    #[default]
    Realtime,
}

impl fmt::Display for ThreadPriority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Normal => "normal",
            Self::Nice => "nice",
            Self::Realtime => "realtime",
        })
    }
}

/// What this process's threads ask for at most.
static HIGHEST: AtomicU8 = AtomicU8::new(ThreadPriority::Realtime as u8);

/// Lets threads of this process that are raised from now on ask for no more than `highest`.
pub fn limit_thread_priority(highest: ThreadPriority) {
    HIGHEST.store(highest as u8, Ordering::Relaxed);
}

/// Lets the calling thread run before others as far as the system and [`limit_thread_priority`] allow it; says how far that is. Threads
/// that it starts are not raised with it where it runs in real time.
pub fn raise_thread_priority(urgency: Urgency) -> ThreadPriority {
    let highest = HIGHEST.load(Ordering::Relaxed);
    #[cfg(target_os = "linux")]
    if highest >= ThreadPriority::Nice as u8 {
        // On Linux a nice value belongs to a thread, and no process id means the calling one. It counts when real time is given back, too.
        let is_nice = rustix::process::setpriority_process(None, urgency.nice()).is_ok();
        if highest >= ThreadPriority::Realtime as u8 && urgency.realtime().is_some_and(warden::enter) {
            return ThreadPriority::Realtime;
        }
        if is_nice {
            return ThreadPriority::Nice;
        }
    }
    let _ = (highest, urgency.nice(), urgency.realtime());
    ThreadPriority::Normal
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use super::*;

    /// The calling thread's scheduling policy and its priority in real time, as the kernel tells.
    fn scheduled() -> (u32, i32) {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        // Fields 41 and 40 of proc(5); the first two are before the bracket.
        (fields[38].parse().unwrap(), fields[37].parse().unwrap())
    }

    fn nice() -> i32 {
        rustix::process::getpriority_process(None).unwrap()
    }

    fn on_a_thread<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
        std::thread::spawn(act).join().unwrap()
    }

    #[test]
    fn only_the_calling_thread_is_raised_and_what_it_was_granted_is_told() {
        const NORMAL: u32 = 0;
        const ROUND_ROBIN: u32 = 2;
        let before = (scheduled(), nice());
        let (granted, within, child) = on_a_thread(|| {
            let granted = raise_thread_priority(Urgency::Ticks);
            (granted, (scheduled(), nice()), on_a_thread(|| (scheduled(), nice())))
        });
        let raised = Urgency::Ticks.nice();
        match granted {
            ThreadPriority::Realtime => {
                assert_eq!(within.0, (ROUND_ROBIN, Urgency::Ticks.realtime().unwrap()));
                // A limit may allow real time and no nice value.
                assert!(within.1 == raised || within == (within.0, before.1));
                assert_eq!(child, ((NORMAL, 0), before.1.max(0)));
            }
            ThreadPriority::Nice => assert_eq!(within, ((NORMAL, 0), raised)),
            ThreadPriority::Normal => assert_eq!(within, before),
        }
        assert_eq!((scheduled(), nice()), before);
    }

    #[test]
    fn who_plays_for_many_is_not_in_real_time() {
        assert!(on_a_thread(|| raise_thread_priority(Urgency::Plays)) < ThreadPriority::Realtime);
    }
}
