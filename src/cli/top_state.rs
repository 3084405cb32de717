//! What `atlock top` knows, and what a key does to that: a pure state machine.

use std::time::{Duration, Instant};

use atlock::error::{Error, Result};
use atlock::queue::freeze::plain;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::Value;

use super::show::{list_of, read, time, word};
use super::table;

/// How far a page key goes.
const PAGE: usize = 10;
/// Longest filter.
const LONGEST_FILTER: usize = 200;

/// What the server told at one moment.
pub struct Look {
    pub at: Instant,
    pub status: Value,
    pub health: Value,
    /// Key, pull, user, since.
    pub locks: Vec<Vec<String>>,
    /// Key, place, pull, user, since; or why there is no queue.
    pub queue: std::result::Result<Vec<Vec<String>>, String>,
}

impl Look {
    /// Asks for all of it, by a function that asks for one operation.
    pub fn take(mut ask: impl FnMut(&str, &str) -> Result<Vec<u8>>) -> Result<Look> {
        let health = read(&ask("health", "null")?)?;
        let status = read(&ask("status", "null")?)?;
        let locks: Value = read(&ask("list", "null")?)?;
        let queue = match ask("queues", "null") {
            Ok(queues) => Ok(waiting(&read(&queues)?)),
            Err(e) => Err(plain(e.message())),
        };
        Ok(Look { at: Instant::now(), status, health, locks: list_of(&locks["locks"]).iter().map(lock).collect(), queue })
    }
}

/// One lock for a person. Others chose the texts.
fn lock(lock: &Value) -> Vec<String> {
    let (project, text) = (&lock["Project"], |value: &Value| value.as_str().unwrap_or_default().to_owned());
    let key = [&project["RepoFullName"], &project["Path"], &lock["Workspace"], &project["ProjectName"]].map(text).join("/");
    let pull = format!("#{}", lock["Pull"]["Num"]);
    vec![table::key(&key), pull, plain(word(&lock["User"]["Username"])), plain(word(&lock["Time"]))]
}

fn waiting(queues: &Value) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for pull in queues.as_object().into_iter().flat_map(|repos| repos.values()).flat_map(list_of) {
        for (key, place) in pull["keys"].as_object().into_iter().flatten() {
            let position = place["position"].as_u64().unwrap_or_default();
            let (num, user, since) = (&pull["pull"]["num"], plain(word(&pull["user"])), time(&pull["since"]));
            rows.push((key.clone(), position, vec![table::key(key), position.to_string(), format!("#{num}"), user, since]));
        }
    }
    rows.sort();
    rows.into_iter().map(|(_, _, cells)| cells).collect()
}

/// Operations in a second, by who answered, and errors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    pub redis: f64,
    pub local: f64,
    pub fallback: f64,
    pub errors: f64,
}

/// Which rows are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tab {
    Locks,
    Queue,
}

/// All that is shown.
pub struct App {
    pub look: Option<Look>,
    pub rates: Option<Rates>,
    /// Why the last look failed; what was seen before stays.
    pub error: Option<String>,
    pub tab: Tab,
    /// The first row that is shown.
    pub offset: usize,
    pub filter: String,
    /// Whether a filter is being typed.
    pub is_typing: bool,
}

impl App {
    pub fn new() -> App {
        App { look: None, rates: None, error: None, tab: Tab::Locks, offset: 0, filter: String::new(), is_typing: false }
    }

    /// Takes what the server told, or why it did not.
    pub fn heard(&mut self, look: std::result::Result<Look, Error>) {
        match look {
            Ok(look) => {
                self.rates = self.look.as_ref().and_then(|before| rates(before, &look));
                (self.look, self.error) = (Some(look), None);
                self.scroll(0, true);
            }
            Err(e) => self.error = Some(plain(e.message())),
        }
    }

    /// Does what a key says; `false`: the end.
    pub fn press(&mut self, key: KeyEvent) -> bool {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return key.code != KeyCode::Char('c');
        }
        match (key.code, self.is_typing) {
            (KeyCode::Esc, _) => {
                (self.is_typing, self.offset) = (false, 0);
                self.filter.clear();
            }
            (KeyCode::Enter, _) => self.is_typing = false,
            (KeyCode::Backspace, true) => drop(self.filter.pop()),
            (KeyCode::Char(letter), true) if self.filter.len() < LONGEST_FILTER && !letter.is_control() => {
                self.filter.push(letter);
                self.offset = 0;
            }
            (KeyCode::Char('q'), false) => return false,
            (KeyCode::Char('/'), false) => self.is_typing = true,
            (KeyCode::Tab | KeyCode::Left | KeyCode::Right, _) => {
                self.tab = if self.tab == Tab::Locks { Tab::Queue } else { Tab::Locks };
                self.offset = 0;
            }
            (KeyCode::Up, _) => self.scroll(1, true),
            (KeyCode::Down, _) => self.scroll(1, false),
            (KeyCode::PageUp, _) => self.scroll(PAGE, true),
            (KeyCode::PageDown, _) => self.scroll(PAGE, false),
            (KeyCode::Home, _) => self.offset = 0,
            _ => {}
        }
        true
    }

    /// The rows of a tab that fit the filter: it stands in one of their cells, in whatever case.
    pub fn rows(&self, tab: Tab) -> Vec<&Vec<String>> {
        let all = match (&self.look, tab) {
            (Some(look), Tab::Locks) => look.locks.as_slice(),
            (Some(look), Tab::Queue) => look.queue.as_deref().unwrap_or_default(),
            (None, _) => &[],
        };
        let filter = self.filter.to_lowercase();
        all.iter().filter(|row| row.iter().any(|cell| cell.to_lowercase().contains(&filter))).collect()
    }

    fn scroll(&mut self, by: usize, up: bool) {
        let last = self.rows(self.tab).len().saturating_sub(1);
        let offset = if up { self.offset.saturating_sub(by) } else { self.offset + by };
        self.offset = offset.min(last);
    }
}

/// `None` where the server was started anew in between, so that its counters are smaller.
fn rates(before: &Look, now: &Look) -> Option<Rates> {
    let seconds = now.at.saturating_duration_since(before.at).max(Duration::from_millis(1)).as_secs_f64();
    let rate = |name: &str| {
        let [before, now] = [before, now].map(|look| look.status[name].as_u64().unwrap_or_default());
        Some(now.checked_sub(before)? as f64 / seconds)
    };
    Some(Rates {
        redis: rate("enhanced_ops")?,
        local: rate("legacy_ops")?,
        fallback: rate("fallback_ops")?,
        errors: rate("errors")?,
    })
}
