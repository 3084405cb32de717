//! Reading the settings: a YAML file, or JSON (which is YAML), then the environment, then the checks.
//!
//! An unknown key is an error that names the file, the line and the nearest known key: a misspelt
//! `compatibility_mode` must never run a server in another mode than its operator believes.

use std::path::Path;

use super::text::parsed;
use super::{Config, env};
use crate::error::{Code, Error, Result};

/// The largest settings file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

impl Config {
    /// The settings of a file, overridden by the process's environment ([`env`]), checked.
    ///
    /// Errors: `InvalidConfig`, naming the file and line, or the environment variable.
    pub fn load(path: &Path) -> Result<Config> {
        let name = path.display().to_string();
        Config::parse(&text_of(path, &name)?, &name)?.with_environment()
    }

    /// The settings of a file and which keys it has, neither checked nor overridden.
    pub(super) fn read(path: &Path) -> Result<(Config, serde_json::Value)> {
        let name = path.display().to_string();
        let text = text_of(path, &name)?;
        Ok((parsed(&text, &name)?, parsed(&text, &name)?))
    }

    /// The settings when there is no file: strict on Atlantis's own store, unless the environment says otherwise.
    pub fn without_file() -> Result<Config> {
        Config::default().with_environment()
    }

    /// The settings of a text, YAML or JSON, checked; `name` stands for it in errors. The environment is not read.
    pub fn parse(text: &str, name: &str) -> Result<Config> {
        let config: Config = parsed(text, name)?;
        config.check().map_err(|e| e.context(name))?;
        Ok(config)
    }

    pub(super) fn with_environment(mut self) -> Result<Config> {
        env::apply(&mut self, std::env::vars_os())?;
        self.check()?;
        Ok(self)
    }
}

fn text_of(path: &Path, name: &str) -> Result<String> {
    let wrong = |e: std::io::Error| Error::new(Code::InvalidConfig, format!("cannot read the locking configuration {name}: {e}"));
    let size = std::fs::metadata(path).map_err(wrong)?.len();
    if size > MAX_FILE_BYTES {
        return Err(Error::new(Code::InvalidConfig, format!("{name} has {size} bytes; at most {MAX_FILE_BYTES} are read")));
    }
    std::fs::read_to_string(path).map_err(wrong)
}
