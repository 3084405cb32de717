//! The local stores that hybrid mode can have. Atlantis's BoltDB file is Go code: `go/internal/bolthost/cshared`, built once for all
//! tests as a shared library, and loaded.
#![allow(unsafe_code, dead_code, unused_macros)]

use std::ffi::{CStr, CString, c_char, c_void};
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use atlock::capi::buffer::{Buffer, atlock_buffer_assign, atlock_buffer_free};
use atlock::capi::host_store::HostStoreCallbacks;
use atlock::capi::migration::{FILE_CHANGE, FILE_LOOK};
use atlock::config::{Backend, Config};
use atlock::error::{Code, Error, Result};
use atlock::migrate::{Access, HostFiles};
use atlock::store::host::HostStore;

/// What is behind Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Local {
    /// The embedded store alone.
    Embedded,
    /// The embedded store, and Atlantis's own file as a copy.
    BoltDb,
}

impl Local {
    /// The one with this name.
    pub fn named(name: &str) -> Local {
        [Local::Embedded, Local::BoltDb].into_iter().find(|local| local.to_string() == name).unwrap()
    }

    pub fn backend(self) -> Backend {
        match self {
            Local::Embedded => Backend::Sled,
            Local::BoltDb => Backend::Boltdb,
        }
    }
}

/// The name of the module with its tests.
impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Local::Embedded => "embedded",
            Local::BoltDb => "boltdb",
        })
    }
}

/// Makes of each function, which takes a [`Local`], a test over each local store.
#[macro_export]
macro_rules! over_both_local_stores {
    ($($name:ident,)*) => {
        mod embedded {
            $(#[test] fn $name() { super::$name($crate::hybrid_support::local::Local::Embedded) })*
        }
        mod boltdb {
            $(#[test] fn $name() { super::$name($crate::hybrid_support::local::Local::BoltDb) })*
        }
    };
}

/// Atlantis's file, open, if the settings want it: in a folder of its own in `data_dir`.
pub fn host(config: &Config) -> Option<HostStore> {
    (config.locking.backend == Backend::Boltdb).then(|| open(&config.locking.data_dir.as_ref().unwrap().join("boltdb")).unwrap())
}

/// Files that a migration names.
#[derive(Debug)]
pub struct Files;

impl HostFiles for Files {
    fn open(&self, file: &Path, access: Access) -> Result<HostStore> {
        let path = CString::new(file.as_os_str().as_bytes()).unwrap();
        let access = match access {
            Access::Look => FILE_LOOK,
            Access::Change => FILE_CHANGE,
        };
        // SAFETY: the function has the type of glue.h.
        let open: OpenFile = unsafe { std::mem::transmute(function(c"bolthost_open_file")) };
        // SAFETY: the pointers are valid during the call.
        called(|out, error| unsafe { open(path.as_ptr(), access, atlock_buffer_assign, out, error) })
    }
}

type Assign = unsafe extern "C" fn(*mut Buffer, *const u8, usize);
type Open = unsafe extern "C" fn(*const c_char, Assign, *mut HostStoreCallbacks, *mut Buffer) -> i32;
type OpenFile = unsafe extern "C" fn(*const c_char, u32, Assign, *mut HostStoreCallbacks, *mut Buffer) -> i32;

/// Opens the file in a folder, as a server does.
pub fn open(folder: &Path) -> Result<HostStore> {
    let folder = CString::new(folder.as_os_str().as_bytes()).unwrap();
    // SAFETY: the function has the type of glue.h.
    let open: Open = unsafe { std::mem::transmute(function(c"bolthost_open")) };
    // SAFETY: the pointers are valid during the call.
    called(|out, error| unsafe { open(folder.as_ptr(), atlock_buffer_assign, out, error) })
}

fn called(open: impl FnOnce(*mut HostStoreCallbacks, *mut Buffer) -> i32) -> Result<HostStore> {
    let mut callbacks = HostStoreCallbacks { abi_version: 0, ctx: std::ptr::null_mut(), call: None, release: None };
    let mut error = Buffer { data: std::ptr::null_mut(), len: 0, capacity: 0 };
    if open(&raw mut callbacks, &raw mut error) != 0 {
        // SAFETY: the buffer was filled by the function above.
        let text = unsafe { std::slice::from_raw_parts(error.data, error.len) };
        let text = String::from_utf8_lossy(text).into_owned();
        // SAFETY: as above.
        unsafe { atlock_buffer_free(&raw mut error) };
        return Err(Error::new(Code::HostStore, text));
    }
    // SAFETY: the functions are those of glue.h, which keep the contract.
    unsafe { callbacks.into_store() }
}

/// One of its functions. It stays loaded: Go's runtime cannot be unloaded.
fn function(name: &CStr) -> *mut c_void {
    static LIBRARY: OnceLock<usize> = OnceLock::new();
    let loaded = *LIBRARY.get_or_init(|| {
        let path = CString::new(built().as_os_str().as_bytes()).unwrap();
        // SAFETY: the arguments are texts.
        unsafe {
            let loaded = libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
            assert!(!loaded.is_null(), "{}", CStr::from_ptr(libc::dlerror()).to_string_lossy());
            loaded as usize
        }
    });
    // SAFETY: the library is loaded, and stays so.
    let function = unsafe { libc::dlsym(loaded as *mut c_void, name.as_ptr()) };
    assert!(!function.is_null());
    function
}

/// The library of the sources as they are. A child finds what its parent has built.
fn built() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bolthost");
    let (new, done) = (folder.join(format!("{}.so", std::process::id())), folder.join("libbolthost.so"));
    if crate::sled_support::role().is_some() {
        return done;
    }
    let mut go = Command::new(std::env::var_os("GO").unwrap_or("go".into()));
    go.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("go"));
    let output = go.args(["build", "-buildmode=c-shared", "-o"]).arg(&new).arg("./internal/bolthost/cshared").output();
    let output = output.expect("Go is needed: run scripts/prepare, or install it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::rename(new, &done).unwrap();
    done
}
