//! Settings as text: YAML, or JSON (which is YAML).
//!
//! The parser ends at the first mistake. To tell several at once, the line of a mistake that is a setting of its own is emptied with what
//! belongs to it, and the text, whose other lines keep their numbers, is read again. Only what is a setting in a line of its own can be taken
//! out like this; and a follow-up is told only if it is of a kind that the emptying cannot have caused.

use serde::de::DeserializeOwned;
use serde_saphyr::Error as YamlError;

use super::mistakes::gathered;
use super::suggest::suggestion;
use crate::error::{Code, Error, Result};

/// The most mistakes of one text that are told.
const MOST_MISTAKES: usize = 10;

/// What a text says; `name` stands for the text in errors.
///
/// Errors: `InvalidConfig`, naming each place, and the nearest key for an unknown one.
pub(super) fn parsed<T: Default + DeserializeOwned>(text: &str, name: &str) -> Result<T> {
    if text.trim().is_empty() {
        return Ok(T::default());
    }
    let first = match serde_saphyr::from_str(text) {
        Ok(settings) => return Ok(settings),
        Err(e) => e,
    };
    let mut mistakes = vec![describe(&first, name)];
    let (mut rest, mut mistake) = (text.to_owned(), first);
    while mistakes.len() < MOST_MISTAKES {
        let Some(shorter) = without_setting(&rest, &mistake) else { break };
        rest = shorter;
        match serde_saphyr::from_str::<T>(&rest) {
            Err(e) if is_of_one_setting(&e) => {
                mistakes.push(describe(&e, name));
                mistake = e;
            }
            _ => break,
        }
    }
    let mistakes = mistakes.into_iter().map(|text| Err(Error::new(Code::InvalidConfig, text)));
    gathered(mistakes).and(Ok(T::default()))
}

/// Whether it is a mistake in one key or value, which no other line can have caused.
fn is_of_one_setting(error: &YamlError) -> bool {
    matches!(
        error.without_snippet(),
        YamlError::SerdeUnknownField { .. }
            | YamlError::SerdeUnknownVariant { .. }
            | YamlError::SerdeInvalidValue { .. }
            | YamlError::InvalidScalar { .. }
            | YamlError::InvalidBooleanStrict { .. }
            | YamlError::Message { .. }
    )
}

/// The text without the setting that a mistake is in; `None` if that is not a line of its own.
fn without_setting(text: &str, mistake: &YamlError) -> Option<String> {
    let at = mistake.without_snippet().location().filter(|_| is_of_one_setting(mistake))?;
    let first = usize::try_from(at.line()).ok()?.checked_sub(1)?;
    let lines: Vec<&str> = text.lines().collect();
    let line = lines.get(first)?;
    let indent = |line: &str| line.len() - line.trim_start().len();
    let (key, _) = line.split_once(':')?;
    if !key.trim().chars().all(|c| c.is_ascii_alphanumeric() || "_-\"'".contains(c)) {
        return None; // one of several in its line
    }
    let belongs = |other: &&&str| other.trim().is_empty() || indent(other) > indent(line);
    let last = first + lines[first + 1..].iter().take_while(belongs).count();
    let kept = lines.iter().enumerate().map(|(at, line)| if (first..=last).contains(&at) { "" } else { line });
    Some(kept.collect::<Vec<_>>().join("\n"))
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

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn mistakes(text: &str) -> String {
        parsed::<Config>(text, "x.yaml").expect_err("is wrong").message().to_owned()
    }

    #[test]
    fn several_mistakes_are_told_at_once_each_with_its_place() {
        let text = "locking:\n  bakend: sled\n  timeout: soon\n  enhanced:\n    enabled: perhaps\n    compatibility_mode: hybird\n    \
                    redis:\n      adress:\n        - a:1\n        - b:2\n      db: 1\n    zzz: 1\n";
        let told = mistakes(text);
        for part in [
            "6 mistakes: (1) x.yaml:2:3: unknown key \"bakend\"; did you mean \"backend\"?",
            "x.yaml:3:",
            "x.yaml:5:",
            "x.yaml:6:",
            "x.yaml:8:7: unknown key \"adress\"; did you mean \"address\"?",
            "x.yaml:12:5: unknown key \"zzz\"; known here: ",
        ] {
            assert!(told.contains(part), "{told}\nlacks {part}");
        }
    }

    /// What is not a setting of its own line ends the look: nothing is told that its absence caused.
    #[test]
    fn no_mistake_is_made_up() {
        for (text, places) in [
            ("locking: {bakend: sled, enhanced: {enabld: true}}", 1),
            ("locking:\n  enhanced:\n    enabld: true\n", 1),
            ("locking:\n  - bakend\n", 1),
            ("locking:\n  backend: [\n  bakend: sled\n", 1),
        ] {
            let told = mistakes(text);
            assert_eq!(told.matches("x.yaml:").count(), places, "{told}");
        }
        let many: String = (0..50).map(|n| format!("  wrong{n}: 1\n")).collect();
        assert_eq!(mistakes(&format!("locking:\n{many}")).matches("x.yaml:").count(), MOST_MISTAKES);
    }
}
