//! The functions of the C ABI that take JSON, over an embedded store with a queue: the first byte of an input chooses the function, the rest is
//! what it is given.
//!
//! Invariants: each call returns a status of `atlock.h`, never that of a bug; with `ATLOCK_OK` the error is empty, with any other it is a
//! text; whatever was given, the store answers its next call.
//!
//! `fuzz_targets/c_abi.rs` is the program of libFuzzer, `tests/hostile.rs` goes through the corpus.

use std::ptr;
use std::sync::OnceLock;

use atlock::capi::buffer::{Buffer, atlock_buffer_free};
use atlock::capi::{command, explain, handle, lock, pull_status, queue, run};
use atlock::error::Code;
use atlock::service::Service;

/// A function that takes bytes, and answers bytes.
type Function = unsafe extern "C" fn(*const Service, *const u8, usize, *mut Buffer, *mut Buffer) -> i32;

const FUNCTIONS: &[Function] = &[
    lock::atlock_try_lock,
    lock::atlock_unlock,
    lock::atlock_get_lock,
    lock::atlock_discard,
    lock::atlock_lock_info,
    run::atlock_next,
    queue::atlock_queues,
    queue::atlock_check,
    command::atlock_unlock_command,
    command::atlock_check_command_lock,
    pull_status::atlock_get_pull_status,
    explain::atlock_freeze,
    explain::atlock_thaw,
    explain::atlock_explain,
    explain::atlock_tell_deadlock,
];

/// A store that is open, and the folder that goes with the process.
struct Open(*const Service, #[allow(dead_code)] tempfile::TempDir);

// SAFETY: functions may be called with one handle from any thread (`atlock.h`).
unsafe impl Send for Open {}
// SAFETY: as above.
unsafe impl Sync for Open {}

fn open() -> *const Service {
    static OPEN: OnceLock<Open> = OnceLock::new();
    let Open(service, _) = OPEN.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = format!(
            "locking: {{backend: sled, data_dir: {:?}, socket: \"off\", enhanced: {{priority_queue: {{enabled: true}}}}}}",
            folder.path()
        );
        let mut error = nothing();
        let mut path = ptr::null_mut();
        // SAFETY: the pointers are of what lives here.
        let status =
            unsafe { handle::atlock_open(settings.as_ptr(), settings.len(), ptr::null(), &raw mut path, &raw mut error) };
        assert_eq!(status, 0, "{}", text(&mut error));
        Open(path, folder)
    });
    *service
}

fn nothing() -> Buffer {
    Buffer { data: ptr::null_mut(), len: 0, capacity: 0 }
}

fn text(buffer: &mut Buffer) -> String {
    let bytes = match buffer.data.is_null() {
        true => Vec::new(),
        // SAFETY: the library says that so many bytes are there.
        false => unsafe { std::slice::from_raw_parts(buffer.data, buffer.len) }.to_vec(),
    };
    // SAFETY: the library made it, or it is empty.
    unsafe { atlock_buffer_free(buffer) };
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Calls a function, and says what it answered.
fn call(function: Function, given: &[u8]) -> i32 {
    let (mut out, mut error) = (nothing(), nothing());
    // SAFETY: the handle is open, and the pointers are of what lives here.
    let status = unsafe { function(open(), given.as_ptr(), given.len(), &raw mut out, &raw mut error) };
    let (_, error) = (text(&mut out), text(&mut error));
    assert_eq!(status == 0, error.is_empty(), "status {status}: {error:?}");
    status
}

/// One input.
pub fn c_abi(bytes: &[u8]) {
    let Some((function, given)) = bytes.split_first() else { return };
    let status = call(FUNCTIONS[usize::from(*function) % FUNCTIONS.len()], given);
    let known = Code::ALL.iter().find(|code| **code as i32 == status);
    assert!(status == 0 || known.is_some_and(|code| *code != Code::Internal), "status {status}");
    assert_eq!(call(lock::atlock_get_lock, br#"{"Key":"a/b/./never/"}"#), 0, "the store does not go on");
}
