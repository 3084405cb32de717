//! `reseal`, `compact`: the embedded store of a server that does not run is written anew.

use std::path::Path;
use std::sync::Arc;

use atlock::audit::{Actor, AuditLog, Event, Kind};
use atlock::call::Calls;
use atlock::clock::SystemClock;
use atlock::config::Config;
use atlock::error::{Code, Error, Result};
use atlock::sealing::{self, MasterKeys};
use atlock::store::Store as _;
use atlock::store::sled::SledStore;
use serde_json::json;

use super::remark::remark;
use super::show::Outcome;

/// Seals all of the store, or writes all of it in clear.
pub fn reseal(config: &Config, plain: bool, json: bool) -> Result<Outcome> {
    let (folder, masters) = (folder(config)?, sealing::read(&config.locking.encryption)?);
    let Some(masters) = masters else {
        let text = "locking.encryption names no key: set key_file, key_env or key_command, also to write in clear what is sealed";
        return Err(Error::new(Code::InvalidConfig, text));
    };
    let clock = Arc::new(SystemClock);
    let what = if plain { "in clear" } else { "sealed under the newest key" };
    let done = recorded(config, "reseal", what, || {
        let store = if plain {
            SledStore::open_to_unseal(folder, clock, &masters)
        } else {
            SledStore::open_sealed(folder, clock, Some(&masters))
        }
        .map_err(|e| busy(e, folder))?;
        let done = store.reseal();
        store.close()?;
        done
    })?;
    if json {
        let told = json!({ "written": done.written, "unreadable": done.unreadable, "sealed": !plain });
        return Ok(Outcome::json(told.to_string().into_bytes(), true));
    }
    let mut text = match (plain, done.written) {
        (false, 0) => "all is sealed under the newest key\n".to_owned(),
        (false, written) => format!("sealed     {written} records\n"),
        (true, written) => format!("in clear   {written} records; now take locking.encryption out of the settings\n"),
    };
    for name in &done.unreadable {
        text.push_str(&format!("unreadable {}\n", atlock::queue::freeze::plain(name)));
    }
    Ok(Outcome::lines(text, true))
}

/// Writes the store into fresh files.
pub fn compact(config: &Config, json: bool) -> Result<Outcome> {
    let (folder, masters) = (folder(config)?, sealing::read(&config.locking.encryption)?);
    let masters: Option<&MasterKeys> = masters.as_ref();
    let done = recorded(config, "compact", "in fresh files", || {
        SledStore::compact(folder, &SystemClock, masters).map_err(|e| busy(e, folder))
    })?;
    if json {
        return Ok(Outcome::json(json!({ "before": done.before, "now": done.now }).to_string().into_bytes(), true));
    }
    Ok(Outcome::lines(format!("before {} bytes\nnow    {} bytes\n", done.before, done.now), true))
}

/// Does it, with an entry of the audit trail. A trail that cannot be opened keeps all as it is.
fn recorded<T>(config: &Config, operation: &str, what: &str, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let Some(log) = AuditLog::of_command(&config.locking.audit)? else { return act() };
    let (instance, actor) = (Calls::new(Arc::new(SystemClock))?.instance(), Actor::this_process());
    let event = |kind| Event { operation: Some(operation), ..Event::new(kind, &instance) }.done_by(&actor);
    log.intend(&Event { detail: Some(what), ..event(Kind::Intent) })?;
    let done = act();
    let (detail, code) = match &done {
        Ok(_) => (what, None),
        Err(e) => (e.message(), Some(e.code().name())),
    };
    log.record(&Event { detail: Some(detail), code, ..event(Kind::Reseal) });
    log.warning().iter().for_each(|warning| remark(warning));
    done
}

fn folder(config: &Config) -> Result<&Path> {
    let folder = config.locking.data_dir.as_deref();
    let missing = "locking.data_dir is missing: set it, or ATLANTIS_LOCKING_DATA_DIR, to the folder of the embedded store";
    let folder = folder.ok_or_else(|| Error::new(Code::InvalidConfig, missing))?;
    if SledStore::is_in(folder)? {
        return Ok(folder);
    }
    let text = format!("there is no store in {} (locking.data_dir): a server creates its store when it starts", folder.display());
    Err(Error::new(Code::InvalidConfig, text))
}

/// A server that runs is the reason why the store is busy.
fn busy(error: Error, folder: &Path) -> Error {
    match error.code() {
        Code::StoreBusy => {
            let text = format!("{error}. Stop the server that has {}, type this again, and start the server", folder.display());
            Error::new(Code::StoreBusy, text)
        }
        _ => error,
    }
}
