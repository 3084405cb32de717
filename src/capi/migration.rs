//! Migrations, for a program that has a store of its own: the command line of `atlock migrate`, `rollback` and `restore`.

use std::ffi::c_void;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::buffer::Buffer;
use super::caller::caller;
use super::entry::guard;
use super::host_store::HostStoreCallbacks;
use super::process;
use crate::domain::json::parse_json;
use crate::error::{Code, Error, Result};
use crate::migrate::{Access, HostFiles as Files};
use crate::migration_command::typed;
use crate::store::host::HostStore;

/// Version of the struct below.
pub const HOST_FILES_ABI_VERSION: u32 = 1;
/// The file is only read: nothing in it is changed, and a missing file is not made. Its store answers ATLOCK_OP_DUMP and
/// ATLOCK_OP_MIGRATION.
pub const FILE_LOOK: u32 = 0;
/// The file is changed, and made if it is missing. Nobody else has it until the store is released.
pub const FILE_CHANGE: u32 = 1;

/// What opens the host stores that a migration names, as `boltdb:FILE`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct HostFiles {
    /// `ATLOCK_HOST_FILES_ABI_VERSION`.
    pub abi_version: u32,
    /// The library passes this to the function, and does not use it.
    pub ctx: *mut c_void,
    /// Opens the store in the file `path`, whose bytes are valid during the call only; `access` is `ATLOCK_FILE_…`. Returns 0 and fills `out`,
    /// or anything else and fills `error` with a text, with `atlock_buffer_assign`. Called by one thread at a time; must not unwind. Never null.
    pub open: Option<
        unsafe extern "C" fn(
            ctx: *mut c_void,
            path: *const u8,
            path_len: usize,
            access: u32,
            out: *mut HostStoreCallbacks,
            error: *mut Buffer,
        ) -> i32,
    >,
}

impl Files for HostFiles {
    fn open(&self, file: &Path, access: Access) -> Result<HostStore> {
        let open = self.open.ok_or_else(|| {
            Error::new(
                Code::InvalidArgument,
                "what opens Atlantis's BoltDB file was not passed in: files, or files.open, is null",
            )
        })?;
        let access = match access {
            Access::Look => FILE_LOOK,
            Access::Change => FILE_CHANGE,
        };
        let path = file.as_os_str().as_bytes();
        let mut callbacks = HostStoreCallbacks { abi_version: 0, ctx: std::ptr::null_mut(), call: None, release: None };
        let mut error = Buffer::EMPTY;
        // SAFETY: `open` and `ctx` are as the host passed them; the pointers are valid during the call.
        let status = unsafe { open(self.ctx, path.as_ptr(), path.len(), access, &raw mut callbacks, &raw mut error) };
        let error = error.take();
        if status != 0 {
            let text = format!("{}: {}", file.display(), String::from_utf8_lossy(&error));
            return Err(Error::new(Code::HostStore, text));
        }
        // SAFETY: the host filled it, and promises what its fields state.
        unsafe { callbacks.into_store() }
    }
}

/// Runs a command line: `args` is a JSON array of the words behind the program's name, such as
/// `["migrate","--from","boltdb:/data/atlantis.db", "--to","sled:/data/locks","--execute"]`; docs/04-migration.md has the commands, and
/// with `--json` the answer is JSON. `files` opens stores that are named `boltdb:FILE`; null if the program can open none. Writes the exit
/// status to `status` (0 done, 1 not, 2 wrong usage), and what belongs on stdout and stderr to `out` and `remarks`. A progress bar is drawn
/// on stderr where that is a terminal.
///
/// There is no time limit. To interrupt the command, kill the process; the same command, given again, goes on. This function's own errors
/// are about its arguments; errors of the command are in `remarks`.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_migration_command(
    args: *const u8,
    args_len: usize,
    files: *const HostFiles,
    status: *mut i32,
    out: *mut Buffer,
    remarks: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    guard(caller!(), error, |caller| {
        let (status, out, remarks) = (caller.out("status", status)?, caller.out("out", out)?, caller.out("remarks", remarks)?);
        let args = caller.bytes("args", args, args_len)?;
        let args: Vec<String> =
            parse_json(args).map_err(|e| Error::new(Code::InvalidJson, format!("args is no JSON array of texts: {e}")))?;
        let nothing = HostFiles { abi_version: HOST_FILES_ABI_VERSION, ctx: std::ptr::null_mut(), open: None };
        let files = caller.read(files).unwrap_or(nothing);
        if files.abi_version != HOST_FILES_ABI_VERSION {
            let found = files.abi_version;
            let text = format!("files.abi_version is {found}; this library speaks {HOST_FILES_ABI_VERSION}");
            return Err(Error::new(Code::Unsupported, text));
        }
        process::opens()?;
        let done = typed(&args, &files);
        status.write(i32::from(done.status));
        out.write_bytes(done.out);
        remarks.write_bytes(done.err.into_bytes());
        Ok(())
    })
}
