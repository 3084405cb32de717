//! A host store as a C program passes it in: the struct, and the calls through it.

use std::ffi::c_void;

use super::buffer::Buffer;
use crate::error::{Code, Error, Result};
use crate::store::host::{HostCalls, HostStore};

/// Version of the callback struct below.
pub const HOST_STORE_ABI_VERSION: u32 = 1;

/// A host store as a C program passes it in.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct HostStoreCallbacks {
    /// `ATLOCK_HOST_STORE_ABI_VERSION`.
    pub abi_version: u32,
    /// The library passes this to both functions, and does not use it.
    pub ctx: *mut c_void,
    /// Does the operation `op`, `ATLOCK_OP_…`, whose JSON is described in docs/host-store.md. `input` is valid during the
    /// call only. Returns 0 and fills `output`, or anything else and fills `error` with a text, each with
    /// `atlock_buffer_assign`. Called from any thread, from several at once; must not unwind. Never null.
    pub call: Option<
        unsafe extern "C" fn(
            ctx: *mut c_void,
            op: u32,
            input: *const u8,
            input_len: usize,
            output: *mut Buffer,
            error: *mut Buffer,
        ) -> i32,
    >,
    /// Called once, after the last `call`, also when opening fails. May be null.
    pub release: Option<unsafe extern "C" fn(ctx: *mut c_void)>,
}

impl HostStoreCallbacks {
    /// The store behind these callbacks. `release` will be called, also when this fails.
    ///
    /// Errors: `Unsupported` for another version of the struct, `InvalidArgument` for a null `call`.
    ///
    /// # Safety
    /// The functions keep the contract that their fields state, until `release` was called.
    pub unsafe fn into_store(self) -> Result<HostStore> {
        let calls = Calls(self);
        if self.abi_version != HOST_STORE_ABI_VERSION {
            let found = self.abi_version;
            return Err(Error::new(
                Code::Unsupported,
                format!("the host store's abi_version is {found}; this library speaks {HOST_STORE_ABI_VERSION}"),
            ));
        }
        if self.call.is_none() {
            return Err(no_call());
        }
        Ok(HostStore::new(Box::new(calls)))
    }
}

/// Callbacks that keep their contract, and are released when this is dropped.
#[derive(Debug)]
struct Calls(HostStoreCallbacks);

// SAFETY: the callbacks' contract is that both may be called from any thread, `call` from several at once.
unsafe impl Send for Calls {}
// SAFETY: as above.
unsafe impl Sync for Calls {}

impl HostCalls for Calls {
    fn call(&self, op: u32, input: &[u8]) -> Result<Vec<u8>> {
        let call = self.0.call.ok_or_else(no_call)?;
        let (mut output, mut error) = (Buffer::EMPTY, Buffer::EMPTY);
        // SAFETY: `call` and `ctx` are as the host passed them; the pointers are valid during the call.
        let status = unsafe { call(self.0.ctx, op, input.as_ptr(), input.len(), &raw mut output, &raw mut error) };
        let (output, error) = (output.take(), error.take());
        if status != 0 {
            let text = String::from_utf8_lossy(&error);
            return Err(Error::new(Code::HostStore, format!("the host store failed in op {op} (status {status}): {text}")));
        }
        Ok(output)
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        if let Some(release) = self.0.release {
            // SAFETY: nothing else has the callbacks, so this comes after the last `call`, and once.
            unsafe { release(self.0.ctx) };
        }
    }
}

fn no_call() -> Error {
    Error::new(Code::InvalidArgument, "the host store's call is null")
}
