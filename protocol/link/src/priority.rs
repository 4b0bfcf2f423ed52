//! Threads that others wait for.

/// What a thread does that others wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// It ticks: it uses little of a core, but a few milliseconds of waiting for one make inputs late.
    Ticks,
    /// It carries a few bytes now and then on which entities on their way wait, all zones ticking at that very moment.
    Carries,
}

impl Urgency {
    /// Its nice value: before what runs at 0, behind what keeps the machine alive.
    fn nice(self) -> i32 {
        match self {
            Self::Ticks => -5,
            Self::Carries => -10,
        }
    }
}

/// Lets the calling thread run before others, where the system allows it (root, or `CAP_SYS_NICE`); says whether it does.
pub fn raise_thread_priority(urgency: Urgency) -> bool {
    #[cfg(target_os = "linux")]
    {
        // On Linux a nice value belongs to a thread, and no process id means the calling one.
        rustix::process::setpriority_process(None, urgency.nice()).is_ok()
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = urgency.nice();
        false
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_the_calling_thread_is_raised_and_a_refusal_is_told() {
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let before = nice();
        let (raised, within) = std::thread::spawn(move || (raise_thread_priority(Urgency::Ticks), nice()))
            .join()
            .unwrap();
        assert_eq!(within, if raised { Urgency::Ticks.nice() } else { before });
        assert_eq!(nice(), before);
    }
}
