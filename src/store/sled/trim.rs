//! Giving memory back.

/// Gives the memory that was freed, and that the C library's allocator keeps, back to the system. Takes well under a millisecond.
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
    #[allow(unsafe_code)]
    // SAFETY: it has no preconditions, and may be called from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::SEGMENT;
    use super::*;

    fn resident() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").expect("reads");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("is there");
        line.trim().strip_suffix(" kB").expect("kilobytes").parse::<usize>().expect("a number") << 10
    }

    #[test]
    #[cfg_attr(not(target_env = "gnu"), ignore = "other allocators keep less")]
    fn what_the_heap_kept_is_given_back() {
        const BYTES: usize = 64 << 20;
        // From now on the heap is used for buffers, too.
        drop(std::hint::black_box(vec![1_u8; 2 * SEGMENT]));
        let buffers: Vec<Vec<u8>> = (0..BYTES / SEGMENT).map(|_| vec![1; SEGMENT]).collect();
        let above = std::hint::black_box(vec![1_u8; SEGMENT]);
        drop(buffers);
        let before = resident();
        give_back();
        let after = resident();
        assert!(after + BYTES / 2 < before, "{before} bytes before, {after} after");
        drop(above);
    }
}
