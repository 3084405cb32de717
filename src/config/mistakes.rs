//! Several mistakes told at once.

use crate::error::{Code, Error, Result};

/// Nothing, or all that is wrong in one error: its text is that of the only mistake, or numbers them.
///
/// Errors: `InvalidConfig`.
pub(super) fn gathered(checks: impl IntoIterator<Item = Result<()>>) -> Result<()> {
    let mistakes: Vec<String> = checks.into_iter().filter_map(|check| Some(check.err()?.message().to_owned())).collect();
    let text = match &*mistakes {
        [] => return Ok(()),
        [only] => only.clone(),
        all => {
            let numbered: Vec<String> = all.iter().enumerate().map(|(at, text)| format!("({}) {text}", at + 1)).collect();
            format!("{} mistakes: {}", all.len(), numbered.join("; "))
        }
    };
    Err(Error::new(Code::InvalidConfig, text))
}
