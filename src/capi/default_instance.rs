//! The five-function API for C programs and scripts, over one instance of the whole process; and `list` as an array.
//!
//! The instance opens on first use, from the settings file that the environment variable `ATLOCK_CONFIG` names, or else on the
//! embedded store in `./atlock-data`. Where another process has the folder open, the first use waits for its end, up to
//! `locking.timeout`. If opening fails, the next call tries again. All five take and return NUL-terminated
//! JSON; the answer is `{"ok":…}` or `{"error":{"code":…,"message":…}}`, never null, and freed with `atlock_string_free`.

use std::ffi::{CString, c_char};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use once_cell::sync::OnceCell;
use serde::Deserialize;

use super::caller::{Caller, caller};
use super::entry::{granted_json, unpanicked, value_json};
use super::process;
use crate::clock::SystemClock;
use crate::config::{Backend, Config};
use crate::domain::json::{Object, parse_object};
use crate::error::{Code, Result};
use crate::service::Service;
use crate::socket;

const CONFIG_VARIABLE: &str = "ATLOCK_CONFIG";
const DEFAULT_FOLDER: &str = "./atlock-data";

static INSTANCE: OnceCell<Service> = OnceCell::new();

/// How often a folder that another process has open is tried again.
const RETRY: Duration = Duration::from_millis(20);

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct PullJson {
    repo_full_name: String,
    pull_num: i64,
}

/// Of a `models.PullRequest`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PullRequestJson {
    num: i64,
    base_repo: Object<RepoJson>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RepoJson {
    full_name: String,
}

/// `atlock_try_lock` over the process's own instance: takes the lock whose JSON this is. `ok` is
/// `{"acquired":true,"token":N}` or `{"acquired":false,"lock":{…}}`.
///
/// # Safety
/// `lock_json` is null or NUL-terminated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn try_lock(lock_json: *const c_char) -> *mut c_char {
    answer(caller!(), |caller| instance()?.try_lock(json(caller, lock_json)?).map(|granted| granted_json(&granted)))
}

/// `atlock_unlock` over the process's own instance: `ok` is the released lock, or `null`.
///
/// # Safety
/// `target_json` is null or NUL-terminated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlock(target_json: *const c_char) -> *mut c_char {
    answer(caller!(), |caller| instance()?.unlock(json(caller, target_json)?).map(value_json))
}

/// `atlock_list` over the process's own instance: `ok` is `{"locks":[…],"unreadable":[…]}`.
#[unsafe(no_mangle)]
pub extern "C" fn list() -> *mut c_char {
    answer(caller!(), |_| instance()?.list().map(|listing| listing.into_json().0))
}

/// `atlock_list_locks` over the process's own instance: `ok` is a JSON array of `models.ProjectLock`.
#[unsafe(no_mangle)]
pub extern "C" fn atlock_default_list_locks() -> *mut c_char {
    answer(caller!(), |_| instance()?.list()?.into_array())
}

/// `atlock_get_lock` over the process's own instance: `ok` is the lock, or `null`.
///
/// # Safety
/// `target_json` is null or NUL-terminated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn get_lock(target_json: *const c_char) -> *mut c_char {
    answer(caller!(), |caller| instance()?.get_lock(json(caller, target_json)?).map(value_json))
}

/// `atlock_unlock_by_pull` over the process's own instance, with `{"RepoFullName":…,"PullNum":…}` or a whole pull request as Atlantis writes
/// it (`{"Num":…,"BaseRepo":{"FullName":…},…}`): `ok` is `{"locks":[…],"unreadable":[…]}` with the released locks.
///
/// # Safety
/// `pull_json` is null or NUL-terminated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlock_by_pull(pull_json: *const c_char) -> *mut c_char {
    answer(caller!(), |caller| {
        let named = json(caller, pull_json)?;
        let (repo, num) = match parse_object(named) {
            Ok(PullRequestJson { num, base_repo: Object(repo) }) => (repo.full_name, num),
            Err(_) => parse_object(named).map(|PullJson { repo_full_name, pull_num }| (repo_full_name, pull_num))?,
        };
        instance()?.unlock_by_pull(&repo, num).map(|listing| listing.into_json().0)
    })
}

/// Frees an answer of the five functions above. Null is harmless.
///
/// # Safety
/// `answer` is null, or one of those answers that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn atlock_string_free(answer: *mut c_char) {
    if !answer.is_null() {
        // SAFETY: as required of the caller: it came from `CString::into_raw`.
        drop(unsafe { CString::from_raw(answer) });
    }
}

fn instance() -> Result<&'static Service> {
    process::opens()?;
    INSTANCE.get_or_try_init(|| {
        let settings = settings()?;
        Ok(socket::listening(open(&settings)?.shadowed(&settings)?, &settings))
    })
}

/// Waits for a folder that another process has open, such as a script that runs at the same time.
fn open(settings: &Config) -> Result<Service> {
    let until = Instant::now() + settings.operation_timeout();
    loop {
        match Service::open(settings, None, Arc::new(SystemClock)) {
            Err(e) if e.code() == Code::StoreBusy && Instant::now() + RETRY < until => thread::sleep(RETRY),
            opened => return opened,
        }
    }
}

fn settings() -> Result<Config> {
    if let Some(path) = std::env::var_os(CONFIG_VARIABLE) {
        return Config::load(Path::new(&path)).map_err(|e| e.context(CONFIG_VARIABLE));
    }
    let mut config = Config::default();
    config.locking.backend = Backend::Sled;
    config.locking.data_dir = Some(DEFAULT_FOLDER.into());
    Ok(config)
}

fn json(caller: &Caller, json: *const c_char) -> Result<&[u8]> {
    caller.terminated("the JSON", json)
}

/// The envelope around an answer, an error or a panic.
fn answer(caller: Caller, body: impl FnOnce(&Caller) -> Result<Vec<u8>>) -> *mut c_char {
    let json = match unpanicked(|| body(&caller)) {
        Ok(json) => [br#"{"ok":"#, &json[..], b"}"].concat(),
        Err(e) => serde_json::json!({"error": {"code": e.code() as i32, "message": e.message()}}).to_string().into_bytes(),
    };
    // JSON holds no NUL: values are checked, and NULs in texts are escaped.
    CString::new(json).unwrap_or_default().into_raw()
}
