//! Threads that others wait for.

/// The nice value of a thread that ticks: before what runs at 0, behind what keeps the machine alive.
const NICE: i32 = -5;

/// Lets the calling thread run before others, where the system allows it (root, or `CAP_SYS_NICE`); says whether it does.
///
/// A thread that ticks uses little of a core, but a few milliseconds of waiting for one make inputs late.
pub fn raise_thread_priority() -> bool {
    #[cfg(target_os = "linux")]
    {
        // On Linux a nice value belongs to a thread, and no process id means the calling one.
        rustix::process::setpriority_process(None, NICE).is_ok()
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = NICE;
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
        let (raised, within) = std::thread::spawn(move || (raise_thread_priority(), nice()))
            .join()
            .unwrap();
        assert_eq!(within, if raised { NICE } else { before });
        assert_eq!(nice(), before);
    }
}
