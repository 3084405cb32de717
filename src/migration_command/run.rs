//! What is done.

use std::path::Path;

use super::args::{AboutMigration, Common, Migrate, Restore, Rollback};
use super::metrics::Counted;
use super::show::{Printed, told, verified};
use super::tell::Teller;
use crate::config::Config;
use crate::error::{Code, Error, Result};
use crate::migrate::{self, HostFiles, Options, Report, Side};
use crate::sealing::{self, MasterKeys};

/// Plans or executes a migration, or looks at one.
///
/// Errors: those of the migration, of the settings, and of the files that were named.
pub fn migrate(asked: &Migrate, config: Option<&Path>, json: bool, files: &dyn HostFiles) -> Result<Printed> {
    if let Some(AboutMigration::Verify { manifest, to }) = &asked.about {
        let masters = keys(config)?;
        let options = Options { files: Some(files), masters: masters.as_ref(), ..Options::default() };
        return verified(&migrate::verify(manifest, to.as_deref(), options)?, json);
    }
    run(&asked.common, config, json, |teller| {
        let side = |named: &Option<String>| Side::parse(named.as_deref().unwrap_or_default());
        let (from, to) = (side(&asked.from)?, side(&asked.to)?);
        // The backup holds what both have: it is sealed if any of these settings says so.
        let mut masters = keys(config)?;
        for side in [&from, &to] {
            masters = masters.or(sealing::read(&side.encryption)?);
        }
        let options = Options {
            strict: asked.strict,
            clean_up: asked.clean_up,
            replace_old: asked.replace_old,
            ..options(&asked.common, files, masters.as_ref())
        };
        let act = if asked.execute { migrate::execute } else { migrate::plan };
        act(&from, &to, &asked.work, options, teller).map_err(|e| go_on(e, asked.execute))
    })
}

/// Moves the locks back.
///
/// Errors: as [`migrate()`].
pub fn rollback(asked: &Rollback, config: Option<&Path>, json: bool, files: &dyn HostFiles) -> Result<Printed> {
    run(&asked.common, config, json, |teller| {
        let (from, to) = (asked.from.as_deref(), asked.to.as_deref());
        let masters = keys(config)?;
        let options = options(&asked.common, files, masters.as_ref());
        migrate::rollback(&asked.manifest, from, to, options, teller).map_err(|e| go_on(e, true))
    })
}

/// Puts a backup into a store.
///
/// Errors: as [`migrate()`].
pub fn restore(asked: &Restore, config: Option<&Path>, json: bool, files: &dyn HostFiles) -> Result<Printed> {
    run(&asked.common, config, json, |teller| {
        let masters = keys(config)?;
        let options = Options { replace_old: asked.replace_old, ..options(&asked.common, files, masters.as_ref()) };
        let to = Side::parse(&asked.to)?;
        migrate::restore(&asked.backup, &to, asked.second, asked.merge, options, teller).map_err(|e| go_on(e, true))
    })
}

/// Does it, tells, and counts how it ended.
fn run(common: &Common, config: Option<&Path>, json: bool, act: impl FnOnce(&Teller) -> Result<Report>) -> Result<Printed> {
    let counted = common.metrics.as_deref().map(Counted::load).transpose()?;
    let teller = Teller::new(config, common.asked_by)?;
    let done = act(&teller);
    let remarks = teller.finish();
    let saved = counted.map_or(Ok(()), |counted| counted.save(&done));
    let report = done?;
    saved?;
    Ok(Printed { remarks, ..told(&report, json)? })
}

/// The keys that the settings name.
fn keys(config: Option<&Path>) -> Result<Option<MasterKeys>> {
    let config = config.map_or_else(Config::without_file, Config::load)?;
    sealing::read(&config.locking.encryption)
}

fn options<'a>(common: &Common, files: &'a dyn HostFiles, masters: Option<&'a MasterKeys>) -> Options<'a> {
    let on_conflict = common.conflicts.map(Into::into);
    Options { on_conflict, others_are_stopped: common.others_are_stopped, masters, files: Some(files), ..Options::default() }
}

/// What a failure leaves behind.
fn go_on(error: Error, changes: bool) -> Error {
    match error.code() {
        Code::Unreachable
        | Code::Timeout
        | Code::OutcomeUnknown
        | Code::StoreFailed
        | Code::Loading
        | Code::Busy
        | Code::ClusterDown
        | Code::FailingOver
        | Code::SlotMoving
            if changes =>
        {
            Error::new(error.code(), format!("{error}. Nothing is lost: the same command goes on"))
        }
        _ => error,
    }
}
