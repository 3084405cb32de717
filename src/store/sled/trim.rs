//! Giving memory back.

/// A process that has more memory than this keeps its few megabytes: bytes.
///
/// Giving back is an act of the whole process, whose heap may be a host program's: with every second block of 16 KiB free it takes 4 to 12 ms
/// of a heap of 64 MiB, and 260 ms of one of 1 GiB, in which the allocator's locks are held.
const SMALL: usize = 64 << 20;

/// Gives the memory that was freed, and that the C library's allocator keeps, back to the system, if this process is small.
///
/// sled allocates a buffer of `record::SEGMENT` bytes for each segment of its log. glibc raises the size from which it
/// maps memory for itself to that of what was freed (mallopt(3), `M_MMAP_THRESHOLD`), so all later ones come from its heap, which shrinks
/// only at its end: after 1,000 locks some 5 MB stay.
pub(super) fn give_back() {
    // A simulation does so thousands of times a second.
    #[cfg(test)]
    if crate::sync::tasks::in_task() {
        return;
    }
    #[cfg(target_env = "gnu")]
    give_back_of(SMALL);
}

/// The same, if this process has at most so many bytes; returns whether it has.
#[cfg(target_env = "gnu")]
fn give_back_of(most: usize) -> bool {
    let is_small = resident().is_some_and(|bytes| bytes <= most);
    if is_small {
        trim();
    }
    is_small
}

#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
fn trim() {
    // SAFETY: it has no preconditions, and may be called from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// How much memory this process has, bytes.
#[cfg(target_env = "gnu")]
fn resident() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<usize>().ok()? << 10)
}

#[cfg(test)]
mod tests {
    use super::super::record::SEGMENT;
    use super::*;

    #[test]
    #[cfg(target_env = "gnu")]
    fn what_the_heap_kept_is_given_back_if_the_process_is_small() {
        const BYTES: usize = 64 << 20;
        let resident = || resident().expect("Linux tells");
        // From now on the heap is used for buffers, too.
        drop(std::hint::black_box(vec![1_u8; 2 * SEGMENT]));
        let buffers: Vec<Vec<u8>> = (0..BYTES / SEGMENT).map(|_| vec![1; SEGMENT]).collect();
        let above = std::hint::black_box(vec![1_u8; SEGMENT]);
        drop(buffers);
        assert!(!give_back_of(0), "a larger process keeps what it has");
        let before = resident();
        assert!(give_back_of(usize::MAX));
        let after = resident();
        assert!(after + BYTES / 2 < before, "{before} bytes before, {after} after");
        drop(above);
    }
}
