//! `atlock config`: what the settings say, without opening anything.

use std::path::Path;

use atlock::config::Config;
use atlock::config::effective::Setting;
use atlock::error::Result;
use serde::Serialize;

use super::remark::remark;
use super::show::Outcome;

/// What a check of the settings tells.
#[derive(Serialize)]
struct Checked {
    file: Option<String>,
    mode: String,
    warnings: Vec<String>,
}

/// Reads the settings, and tells the mode and what in them is without effect. Mistakes are the error.
pub fn check(file: Option<&Path>, json: bool) -> Result<Outcome> {
    let (config, _) = Config::effective(file)?;
    let (mode, warnings) = (config.mode().to_string(), config.warnings());
    let file = file.map(|path| path.display().to_string());
    if json {
        return Outcome::of(&Checked { file, mode, warnings });
    }
    warnings.iter().for_each(|warning| remark(&format!("warning: {warning}")));
    let source = file.unwrap_or_else(|| "the environment, without a file".to_owned());
    Ok(Outcome::lines(format!("{source}: no mistakes; mode {mode}\n"), true))
}

/// Prints each setting with its value and its source.
pub fn show(file: Option<&Path>, json: bool) -> Result<Outcome> {
    let (_, settings) = Config::effective(file)?;
    if json {
        return Outcome::of(&settings);
    }
    let width = |of: fn(&Setting) -> usize| settings.iter().map(of).max().unwrap_or_default();
    let (keys, values) = (width(|setting| setting.key.len()), width(|setting| setting.value.to_string().chars().count()));
    let line = |Setting { key, value, source }: &Setting| format!("{key:<keys$}  {:<values$}  {source}\n", value.to_string());
    Ok(Outcome::lines(settings.iter().map(line).collect(), true))
}
