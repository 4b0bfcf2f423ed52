//! Memory that nobody waits for: what a program that ticks was given once it keeps, and it is given small pages.
//!
//! The first touch of a page is the system's work in the toucher's time. A small page takes it a microsecond or two. A huge one (two
//! megabytes, cleared at once) takes it a hundred of them, and in a virtual machine whose host has to find the memory first some
//! thousand: a gateway that is held up for so long makes an input of every player late. [`Allocator`] asks for huge pages, and gives what
//! was not used for a second back to the system, only to be given it anew.

use std::ffi::{c_int, c_long};
use std::io;

/// The allocator of programs that tick: small allocations of many threads, freed by others.
pub use mimalloc::MiMalloc as Allocator;

use libmimalloc_sys::mi_option_set;

/// After how many milliseconds free memory goes back to the system; -1 for never. By the allocator's header
/// (`mi_option_e` in `mimalloc.h`), whose numbers stay from version to version.
const PURGE_DELAY: c_int = 15;
/// See [`PURGE_DELAY`].
const NEVER: c_long = -1;
/// What whoever starts the program may say instead, as the allocator itself reads it.
const PURGE_DELAY_VARIABLE: &str = "MIMALLOC_PURGE_DELAY";

/// Keeps what was used, unless `MIMALLOC_PURGE_DELAY` says otherwise. To be called before any other thread is started.
pub fn keep() {
    if std::env::var_os(PURGE_DELAY_VARIABLE).is_none() {
        set_purge_delay_ms(NEVER);
    }
}

/// Asks for small pages from now on, for the whole program. They cost it about a twentieth more processor time.
///
/// # Errors
/// The system goes on to use huge pages: all works, with a stall now and then.
pub fn use_small_pages() -> io::Result<()> {
    set_huge_pages(false)
}

/// After `delay_ms` without use memory goes back to the system.
#[expect(unsafe_code, reason = "the allocator's bindings have no safe call for it")]
fn set_purge_delay_ms(delay_ms: c_long) {
    // SAFETY: an option of this number exists in all versions of the allocator, which checks it; whoever calls is alone.
    unsafe { mi_option_set(PURGE_DELAY, delay_ms) };
}

#[cfg(target_os = "linux")]
#[expect(
    unsafe_code,
    reason = "for the safe call of `rustix` Bevy would be built with another feature"
)]
fn set_huge_pages(may_be: bool) -> io::Result<()> {
    let (is_forgone, unused) = (libc::c_ulong::from(!may_be), 0 as libc::c_ulong);
    // SAFETY: the call takes numbers alone, of this width.
    let result = unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, is_forgone, unused, unused, unused) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(not(target_os = "linux"))]
fn set_huge_pages(_may_be: bool) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::alloc::{GlobalAlloc, Layout};

    use libmimalloc_sys::mi_option_get;

    use super::*;

    const BLOCK_BYTES: usize = 4 * 1024 * 1024;
    const ROUNDS: usize = 20;

    #[expect(unsafe_code, reason = "the standard library does not tell")]
    fn page_bytes() -> usize {
        // SAFETY: the call takes a number, and tells another.
        usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap()
    }

    #[expect(unsafe_code, reason = "the allocator's bindings have no safe call for it")]
    fn purge_delay_ms() -> c_long {
        // SAFETY: an option of this number exists.
        unsafe { mi_option_get(PURGE_DELAY) }
    }

    fn may_use_huge_pages() -> bool {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let told = status.lines().find_map(|line| line.strip_prefix("THP_enabled:"));
        told.unwrap().trim() == "1"
    }

    /// Pages that the system gave this thread so far.
    fn pages_given() -> usize {
        let line = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        // After the name, which is in brackets: the eighth field is the count of faults without a disk.
        let (_, fields) = line.rsplit_once(')').unwrap();
        fields.split_whitespace().nth(7).unwrap().parse().unwrap()
    }

    /// Takes a block, writes on each page and gives it back, again and again.
    #[expect(unsafe_code, reason = "the test's own allocator is another")]
    fn pages_given_for_a_block_again_and_again() -> usize {
        let layout = Layout::from_size_align(BLOCK_BYTES, page_bytes()).unwrap();
        let before = pages_given();
        for _ in 0..ROUNDS {
            // SAFETY: the block is as large as what is written to, and is freed once, with the layout that it was taken with.
            unsafe {
                let block = Allocator.alloc(layout);
                for offset in (0..BLOCK_BYTES).step_by(page_bytes()) {
                    block.add(offset).write_volatile(1);
                }
                Allocator.dealloc(block, layout);
            }
        }
        pages_given() - before
    }

    #[test]
    fn what_was_used_once_is_kept_and_pages_are_small() {
        set_huge_pages(true).unwrap();
        assert!(may_use_huge_pages());
        use_small_pages().unwrap();
        assert!(!may_use_huge_pages());

        let pages_of_a_block = BLOCK_BYTES / page_bytes();
        set_purge_delay_ms(0);
        let given_back_at_once = pages_given_for_a_block_again_and_again();
        assert!(
            given_back_at_once > 10 * pages_of_a_block,
            "{given_back_at_once}: the option is not the one that it is taken for"
        );
        keep();
        assert_eq!(purge_delay_ms(), NEVER);
        let kept = pages_given_for_a_block_again_and_again();
        assert!(kept <= 2 * pages_of_a_block, "{kept} for {pages_of_a_block} pages");
    }
}
