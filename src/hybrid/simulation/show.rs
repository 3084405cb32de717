//! How questions, answers and values read in the log of a schedule.

use super::values::pull_of;
use crate::error::Result;
use crate::store::redis::script_name;
use crate::store::{Granted, Listing, Swap};

/// A value in a word: its number, and the pull that it names.
pub(super) fn text(value: &[u8]) -> String {
    let json: serde_json::Value = serde_json::from_slice(value).unwrap_or_default();
    let pull = pull_of(value).map_or_else(String::new, |num| format!("#{num}"));
    format!("v{}{pull}", json["N"])
}

pub(super) fn texts<'a>(values: impl IntoIterator<Item = &'a Vec<u8>>) -> String {
    let texts: Vec<String> = values.into_iter().map(|value| text(value)).collect();
    if texts.is_empty() { "nothing".to_owned() } else { texts.join(" ") }
}

pub(super) trait Brief {
    fn brief(&self) -> String;
}

impl Brief for Granted {
    fn brief(&self) -> String {
        match self {
            Granted::Yes { token, .. } => format!("granted, token {}", token.get() % 1_000_000_000),
            Granted::Held { value } => format!("held by {}", text(value)),
            Granted::NotYet => "kept for somebody else".to_owned(),
        }
    }
}

impl Brief for Option<Vec<u8>> {
    fn brief(&self) -> String {
        texts(self)
    }
}

impl Brief for Listing {
    fn brief(&self) -> String {
        let incomplete = self.incomplete().map_or_else(String::new, |why| format!(", and perhaps more: {why}"));
        texts(&self.values().map(<[u8]>::to_vec).collect::<Vec<_>>()) + &incomplete
    }
}

impl Brief for Swap {
    fn brief(&self) -> String {
        match self {
            Swap::Done => "done".to_owned(),
            Swap::Conflict(current) => format!("there is {}", texts(current)),
        }
    }
}

/// A command in a few words: of a script its name, its lock and the request.
pub(super) fn command_text(command: &[Vec<u8>]) -> String {
    let word = |nth: usize| command.get(nth).map_or_else(String::new, |word| String::from_utf8_lossy(word).into_owned());
    match word(0).as_str() {
        "EVALSHA" | "EVAL" => {
            let request = request_of(command).unwrap_or_default();
            format!("{} {} {request}", script_name(&word(1)), word(3))
        }
        name => format!("{name} {}", word(1).chars().take(40).collect::<String>()),
    }
}

/// The request that a script is called for.
pub(super) fn request_of(command: &[Vec<u8>]) -> Option<String> {
    let is_script = command.first().is_some_and(|name| name.starts_with(b"EVAL"));
    let keys: usize = std::str::from_utf8(command.get(2)?).ok()?.parse().ok()?;
    command.get(3 + keys).filter(|_| is_script).map(|request| String::from_utf8_lossy(request).into_owned())
}

pub(super) fn reply_text(reply: &redis::Value) -> String {
    let text = match reply {
        redis::Value::Array(parts) => parts.iter().map(reply_text).collect::<Vec<_>>().join(" "),
        redis::Value::BulkString(bytes) if bytes.starts_with(b"{") => text(bytes),
        redis::Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        redis::Value::Nil => "nothing".to_owned(),
        other => format!("{other:?}"),
    };
    text.chars().take(120).collect()
}

pub(super) fn show<T: Brief>(answer: &Result<T>) -> String {
    match answer {
        Ok(answer) => answer.brief(),
        Err(e) => format!("{:?}: {}", e.code(), e.message()),
    }
}
