//! How questions, answers and values read in the log of a schedule.

use super::redis::{Question, Reply};
use super::values::pull_of;
use crate::error::Result;
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
            Granted::Yes { token } => format!("granted, token {}", token.get() % 1_000_000_000),
            Granted::Held { value } => format!("held by {}", text(value)),
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

impl Brief for Question {
    fn brief(&self) -> String {
        match self {
            Question::Grant { key, value, .. } => format!("grant {key} {}", text(value)),
            Question::Release { key, pull } => format!("release {key} {pull:?}"),
            Question::Swap { key, new, .. } => format!("swap {key} to {}", texts(new)),
            Question::Put { key, seen, new, .. } => {
                format!("put {key} from {} to {}", texts(seen), texts(new.as_ref().map(|held| &held.value)))
            }
            Question::Announce { instance, .. } => format!("announce {instance}"),
        }
    }
}

impl Brief for Reply {
    fn brief(&self) -> String {
        match self {
            Reply::Granted(granted) => granted.brief(),
            Reply::Released(held) => texts(held.as_ref().map(|held| &held.value)),
            Reply::Swapped(swap) => swap.brief(),
            Reply::Put(put) => format!("{put:?}"),
            Reply::Announced(_) => "announced".to_owned(),
        }
    }
}

pub(super) fn show<T: Brief>(answer: &Result<T>) -> String {
    match answer {
        Ok(answer) => answer.brief(),
        Err(e) => format!("{:?}: {}", e.code(), e.message()),
    }
}
