//! Settings as text: YAML, or JSON (which is YAML).

use serde::de::DeserializeOwned;
use serde_saphyr::Error as YamlError;

use super::suggest::suggestion;
use crate::error::{Code, Error, Result};

/// What a text says; `name` stands for the text in errors.
///
/// Errors: `InvalidConfig`, naming the place, and the nearest key for an unknown one.
pub(super) fn parsed<T: Default + DeserializeOwned>(text: &str, name: &str) -> Result<T> {
    if text.trim().is_empty() {
        return Ok(T::default());
    }
    serde_saphyr::from_str(text).map_err(|e| Error::new(Code::InvalidConfig, describe(&e, name)))
}

/// The error in one line, without the piece of the file that the parser would show: it may hold a password.
fn describe(error: &YamlError, name: &str) -> String {
    let error = error.without_snippet();
    let place = match error.location() {
        Some(at) if at.line() > 0 => format!("{name}:{}:{}", at.line(), at.column()),
        _ => name.to_owned(),
    };
    if let YamlError::SerdeUnknownField { field, expected, .. } = error {
        return format!("{place}: unknown key {field:?}; {}", suggestion(field, expected.iter().copied()));
    }
    let text = error.to_string();
    format!("{place}: {}", text.lines().next().unwrap_or("not a locking configuration"))
}
