//! Memory that nobody waits for: what a process that ticks was given once it keeps, and in small pages.
//!
//! The first touch of a page is the system's work in the toucher's time. A small page takes it a microsecond or two. A huge one (two
//! megabytes, cleared at once) takes it a hundred of them, and in a virtual machine whose host has to find the memory first five to thirteen
//! thousand: a gateway that is held up for so long makes an input of every player late. The allocator asks for huge pages, and gives what
//! was not used for a while back to the system, only to be given it anew.

use std::ffi::{c_int, c_long};
use std::io;

use libmimalloc_sys::mi_option_set;

/// After how many milliseconds free memory goes back to the system; -1 for never. By the allocator's header
/// (`mi_option_e` in `mimalloc.h`), whose numbers stay from version to version.
const PURGE_DELAY: c_int = 15;
/// See [`PURGE_DELAY`].
const NEVER: c_long = -1;

/// Asks for small pages, and keeps what was used. To be called before any other thread is started.
///
/// # Errors
/// The system goes on to use huge pages: all works, with a stall now and then.
pub fn prepare() -> io::Result<()> {
    set_purge_delay_ms(NEVER);
    forgo_huge_pages()
}

/// After `delay_ms` without use memory goes back to the system.
#[expect(unsafe_code, reason = "the allocator's bindings have no safe call for it")]
fn set_purge_delay_ms(delay_ms: c_long) {
    // SAFETY: an option of this number exists in all versions of the allocator, which checks it; whoever calls is alone.
    unsafe { mi_option_set(PURGE_DELAY, delay_ms) };
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "no library that is used here has this call")]
fn forgo_huge_pages() -> io::Result<()> {
    // SAFETY: the call takes numbers alone.
    let result = unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(not(target_os = "linux"))]
fn forgo_huge_pages() -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::alloc::{GlobalAlloc, Layout};

    use mimalloc::MiMalloc;

    use super::*;

    const BLOCK_BYTES: usize = 4 * 1024 * 1024;
    const PAGE_BYTES: usize = 4096;
    const ROUNDS: usize = 20;

    /// Pages that the system gave this process so far, as it counts them: those of this thread alone.
    fn pages_given() -> u64 {
        let line = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        // After the name, which is in brackets: the eighth field is the count of faults without a disk.
        let (_, fields) = line.rsplit_once(')').unwrap();
        fields.split_whitespace().nth(7).unwrap().parse().unwrap()
    }

    /// Takes a block, writes on each page and gives it back, again and again.
    #[expect(unsafe_code, reason = "the test's own allocator is another")]
    fn pages_given_for_a_block_again_and_again() -> u64 {
        let layout = Layout::from_size_align(BLOCK_BYTES, PAGE_BYTES).unwrap();
        let before = pages_given();
        for _ in 0..ROUNDS {
            // SAFETY: the block is as large as what is written to, and is freed once, with the layout that it was taken with.
            unsafe {
                let block = MiMalloc.alloc(layout);
                for offset in (0..BLOCK_BYTES).step_by(PAGE_BYTES) {
                    block.add(offset).write_volatile(1);
                }
                MiMalloc.dealloc(block, layout);
            }
        }
        pages_given() - before
    }

    #[test]
    fn what_was_used_once_is_kept_and_pages_are_small() {
        let pages_of_a_block = (BLOCK_BYTES / PAGE_BYTES) as u64;
        forgo_huge_pages().unwrap();
        set_purge_delay_ms(0);
        let given_back_at_once = pages_given_for_a_block_again_and_again();
        assert!(
            given_back_at_once > 10 * pages_of_a_block,
            "{given_back_at_once}: the option is not the one that it is taken for"
        );
        prepare().unwrap();
        let kept = pages_given_for_a_block_again_and_again();
        assert!(kept <= 2 * pages_of_a_block, "{kept} for {pages_of_a_block} pages");
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        assert!(status.contains("THP_enabled:\t0"), "{status}");
    }
}
