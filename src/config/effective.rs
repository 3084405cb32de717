//! Which settings hold, and where each comes from.

use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::{Config, env};
use crate::error::{Code, Error, Result};

/// What stands in place of a secret.
const HIDDEN: &str = "(hidden)";
const SECRETS: [&str; 4] = [
    "locking.enhanced.redis.password",
    "locking.enhanced.redis.sentinel.password",
    "locking.shadow.redis.password",
    "locking.shadow.redis.sentinel.password",
];

/// A setting that holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Setting {
    /// Its key, such as `locking.enhanced.redis.address`.
    pub key: String,
    /// Its value, in the form of the file; a secret is hidden.
    pub value: Value,
    /// Where it comes from: the file's name, an environment variable's, or `default`.
    pub source: String,
}

impl Config {
    /// All settings that hold for a file (`None`: without one) and the process's environment, in the order of their keys.
    ///
    /// Errors: those of [`Config::load`].
    pub fn effective(path: Option<&Path>) -> Result<(Config, Vec<Setting>)> {
        let (config, file) = match path {
            Some(path) => Config::read(path)?,
            None => (Config::default(), Value::Null),
        };
        let config = config.with_environment()?;
        let value = serde_json::to_value(&config).map_err(|e| Error::new(Code::Internal, format!("the settings: {e}")))?;
        let mut settings = Vec::new();
        leaves(&mut Vec::new(), value, &mut |keys, value| {
            let (key, variable) = (keys.join("."), env::variable(keys));
            let source = if std::env::var_os(&variable).is_some() {
                variable
            } else if let (Some(path), true) = (path, file.pointer(&format!("/{}", keys.join("/"))).is_some()) {
                path.display().to_string()
            } else {
                "default".to_owned()
            };
            let is_secret = SECRETS.contains(&key.as_str()) && value != Value::String(String::new());
            settings.push(Setting { key, value: if is_secret { HIDDEN.into() } else { value }, source });
        });
        Ok((config, settings))
    }
}

fn leaves(keys: &mut Vec<String>, value: Value, found: &mut impl FnMut(&[&str], Value)) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, field) in fields {
                keys.push(name);
                leaves(keys, field, found);
                keys.pop();
            }
        }
        value => found(&keys.iter().map(String::as_str).collect::<Vec<_>>(), value),
    }
}
