//! The block `locking.encryption`: where the master key of what is stored is (`crate::sealing`).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `locking.encryption`: at most one of the three.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Encryption {
    /// The file that has the key.
    pub key_file: Option<PathBuf>,
    /// The name of the environment variable that has it.
    pub key_env: Option<String>,
    /// The command that prints it, for `/bin/sh`.
    pub key_command: Option<String>,
}

impl Encryption {
    /// The settings that are given, by name.
    pub(super) fn given(&self) -> Vec<&'static str> {
        let given = |is_given: bool, name| is_given.then_some(name);
        let all = [
            given(self.key_file.is_some(), "key_file"),
            given(self.key_env.is_some(), "key_env"),
            given(self.key_command.is_some(), "key_command"),
        ];
        all.into_iter().flatten().collect()
    }

    /// Whether a key is named.
    pub fn is_on(&self) -> bool {
        !self.given().is_empty()
    }
}
