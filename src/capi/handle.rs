//! Opening, closing and freeing a handle.

use std::path::Path;
use std::sync::Arc;

use super::buffer::Buffer;
use super::caller::caller;
use super::entry::guard;
use super::host_store::HostStoreCallbacks;
use super::process;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::error::Result;
use crate::service::Service;
use crate::socket;
use crate::store::host::HostStore;
use crate::store::sled::SledStore;

/// Reads a settings file (YAML), applies the environment variables over it, checks it, and writes the result as JSON to
/// `out`: what `atlock_open` takes. An empty path means no file: strict mode on Atlantis's own store.
///
/// The result holds the Redis password, if the file or the environment does: do not log it.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_load_config(path: *const u8, path_len: usize, out: *mut Buffer, error: *mut Buffer) -> i32 {
    guard(caller!(), error, |caller| {
        let (out, path) = (caller.out("out", out)?, caller.text("path", path, path_len)?);
        let config = if path.is_empty() { Config::without_file() } else { Config::load(Path::new(path)) };
        out.write_json(&config?)
    })
}

/// The same as `atlock_load_config`, for a program that has settings of its own: `defaults`, JSON in the form of the settings file, has the
/// values that count if neither the file nor the environment has them. In the block `redis`, an operator's address, addresses, cluster_mode
/// or sentinel takes the place of all of these and of db; a password, password_file or password_command takes the place of each other.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_load_config_over(
    defaults: *const u8,
    defaults_len: usize,
    path: *const u8,
    path_len: usize,
    out: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    guard(caller!(), error, |caller| {
        let out = caller.out("out", out)?;
        let (defaults, path) = (caller.text("defaults", defaults, defaults_len)?, caller.text("path", path, path_len)?);
        out.write_json(&Config::load_over(defaults, (!path.is_empty()).then(|| Path::new(path)))?)
    })
}

/// Writes 1 to `found` if there is a store in the folder `data_dir` (`locking.data_dir`), of `locking.backend: sled` or left by hybrid or
/// native mode, and 0 if there is none. Perhaps no other store has the locks of that store. An empty path, and a path that does not exist,
/// give 0. A folder that cannot be read may have locks, so it is an error.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_has_local_store(
    data_dir: *const u8,
    data_dir_len: usize,
    found: *mut i32,
    error: *mut Buffer,
) -> i32 {
    guard(caller!(), error, |caller| {
        let (found, folder) = (caller.out("found", found)?, caller.text("data_dir", data_dir, data_dir_len)?);
        found.write(i32::from(!folder.is_empty() && SledStore::is_in(Path::new(folder))?));
        Ok(())
    })
}

/// Opens the stores that a configuration names and writes the handle to `out`.
///
/// `config` is JSON (or YAML) in the form of the settings file; the environment is not read. `host` is the host store for
/// `locking.backend: boltdb`, or null; it is copied, and its `release` is called in any case: after the handle was freed, or
/// before this function returns an error.
///
/// Within the configured timeouts this function either opens everything, or fails and leaves nothing open.
///
/// If `locking.data_dir` is set, the command `atlock` and other programs of the same user can ask this process by the socket `atlock.sock`
/// in that folder, until the handle is closed; a few threads answer them. If there can be no socket, `atlock_status` warns of that.
///
/// # Safety
/// See the rules at the top of `atlock.h`. `host` is null or points to a struct whose functions keep its contract.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_open(
    config: *const u8,
    config_len: usize,
    host: *const HostStoreCallbacks,
    out: *mut *mut Service,
    error: *mut Buffer,
) -> i32 {
    guard(caller!(), error, |caller| {
        // SAFETY: as required of the caller: the functions keep their contract.
        let host = unsafe { host.as_ref().map(|callbacks| callbacks.into_store()).transpose()? };
        let (out, config) = (caller.out("out", out)?, caller.text("config", config, config_len)?);
        let service = open(config, host)?;
        out.write(Box::into_raw(Box::new(service)));
        Ok(())
    })
}

fn open(config: &str, host: Option<HostStore>) -> Result<Service> {
    let config = Config::parse(config, "the configuration")?;
    process::opens()?;
    Ok(socket::listening(Service::open(&config, host, Arc::new(SystemClock))?.shadowed(&config)?, &config))
}

/// Closes the stores. Calls under way end; later ones return `ATLOCK_CLOSED`. Closing again is harmless and returns
/// `ATLOCK_OK`. The handle itself stays valid until `atlock_free`.
///
/// # Safety
/// See the rules at the top of `atlock.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_close(handle: *const Service, error: *mut Buffer) -> i32 {
    guard(caller!(), error, |caller| caller.service(handle)?.close())
}

/// Frees a handle, and closes it if it is still open. Null is harmless. No other call may use the handle meanwhile or later.
///
/// # Safety
/// `handle` is null or a handle from `atlock_open` that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_free(handle: *mut Service) {
    let service = caller!().given_back(handle);
    guard(caller!(), std::ptr::null_mut(), |_| {
        drop(service);
        Ok(())
    });
}

/// Panics inside the library, to prove that it comes back as a status.
///
/// # Safety
/// `error` is null or writable.
#[cfg(feature = "test-panic")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_test_panic(error: *mut Buffer) -> i32 {
    guard(caller!(), error, |_| panic!("a deliberate panic"))
}
