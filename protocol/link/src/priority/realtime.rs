//! The system calls of real time.

use std::io;

/// A thread of this process, by the kernel's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Thread(libc::pid_t);

impl Thread {
    /// The calling one, if `/proc` tells, and counts processes as the system calls do: one of another container's might not.
    pub(super) fn current() -> Option<Self> {
        let link = std::fs::read_link("/proc/thread-self").ok()?;
        let process = link.iter().next()?.to_str()?.parse();
        let thread = link.file_name()?.to_str()?.parse().ok().map(Self);
        thread.filter(|_| process == Ok(std::process::id()))
    }

    /// How long it has been on a core or waited for one, in nanoseconds; none of one that has ended. What it needs, not what it was given:
    /// where many want a core none may get much of it.
    pub(super) fn demand_ns(self) -> Option<u64> {
        let statistics = std::fs::read_to_string(format!("/proc/self/task/{}/schedstat", self.0)).ok()?;
        let mut fields = statistics.split_whitespace().map(str::parse::<u64>);
        Some(fields.next()?.ok()?.saturating_add(fields.next()?.ok()?))
    }

    /// Lets it run before all that are not in real time or in a lower `priority` (1 to 99) of it.
    ///
    /// # Errors
    /// The system does not allow it, or the thread has ended.
    pub(super) fn enter_realtime(self, priority: i32) -> io::Result<()> {
        self.schedule(libc::SCHED_RR, priority)
    }

    /// Lets it run as others do, by its nice value.
    ///
    /// # Errors
    /// The thread has ended.
    pub(super) fn leave_realtime(self) -> io::Result<()> {
        self.schedule(libc::SCHED_OTHER, 0)
    }

    #[expect(unsafe_code, reason = "no library that is used here has this call")]
    fn schedule(self, policy: libc::c_int, priority: libc::c_int) -> io::Result<()> {
        let parameters = libc::sched_param {
            sched_priority: priority,
        };
        // What a thread in real time starts is none of it. The flag stays for good: only who is privileged may take it back.
        let policy = policy | libc::SCHED_RESET_ON_FORK;
        // SAFETY: the pointer is to a live value of the type that the call reads, and it keeps none.
        let result = unsafe { libc::sched_setscheduler(self.0, policy, &raw const parameters) };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}
