//! What is asked about waiting: who waits, why a lock is as it is, whether a grant stands, freezes, and circles.
//!
//! Texts that others chose (users, reasons, patterns) are printed without what a terminal would obey.

use std::time::{SystemTime, UNIX_EPOCH};

use atlock::domain::lock::ProjectLock;
use atlock::error::{Code, Error, Result};
use atlock::queue::freeze::{Freeze, plain};
use serde_json::{Value, json};

use super::args::{self, Question};
use super::open::{Source, target};
use super::show::{Outcome, list_of, read, time, word};
use super::table::{self, table};

/// Why stores that nobody looks at have no circles to tell.
const NO_SERVER: &str = "a circle counts once a running server has seen it twice, and no server runs here that could be asked";

/// Asks, and says what came of it.
pub fn answer(question: &Question, source: &mut Source, json: bool) -> Result<Outcome> {
    match question {
        Question::Queue { repo } => queue(source.ask("queues", &json!(repo).to_string())?, json),
        Question::Explain { named, pull, of } => {
            // Stores that were only just opened learn the freezes by that. Without a queue there are none.
            let _ = source.ask("freezes", "null");
            let asked = match pull {
                None => json!({ "key": named }),
                Some(num) => json!({ "repo": named, "pull": { "host": of.host, "num": num } }),
            };
            explained(source.ask("explain", &asked.to_string())?, json)
        }
        Question::Check { key, pull, token, of } => check(source, key, (*pull, &of.host), *token, json),
        Question::Leave { repo, pull, key, of } => {
            let asked = json!({ "repo": repo, "pull": { "host": of.host, "num": pull }, "key": key });
            left(source.ask("leave", &asked.to_string())?, *pull, json)
        }
        Question::Freeze(freeze) => frozen(source.ask("freeze", &request(freeze).to_string())?, "", json),
        Question::Thaw { id } => frozen(source.ask("thaw", &json!(id).to_string())?, id, json),
        Question::Deadlocks => {
            let answer = source.ask("deadlocks", "null")?;
            match source {
                Source::Server(_) | Source::Remote(_) => circles(answer, json),
                Source::Stores(_) => Err(Error::new(Code::Unsupported, NO_SERVER)),
            }
        }
        _ => freezes(source.ask("freezes", "null")?, json),
    }
}

/// Who waits: one line for each lock that a pull waits for.
fn queue(answer: Vec<u8>, json: bool) -> Result<Outcome> {
    if json {
        return Ok(Outcome::json(answer, true));
    }
    let queues: Value = read(&answer)?;
    let mut lines = Vec::new();
    for pull in queues.as_object().into_iter().flat_map(|repos| repos.values()).flat_map(list_of) {
        for (key, place) in pull["keys"].as_object().into_iter().flatten() {
            let (user, priority) = (plain(word(&pull["user"])), word(&pull["priority"]));
            let (position, num) = (place["position"].as_u64().unwrap_or_default(), &pull["pull"]["num"]);
            let (since, kept) = (time(&pull["since"]), kept(&place["reserved_until"]).trim_start().to_owned());
            let cells = [table::key(key), position.to_string(), format!("#{num}"), user, since, priority.to_owned(), kept];
            lines.push((key.clone(), position, cells.to_vec()));
        }
    }
    lines.sort();
    let rows: Vec<Vec<String>> = lines.into_iter().map(|(_, _, cells)| cells).collect();
    let headers = ["KEY", "PLACE", "PULL", "USER", "SINCE", "PRIORITY", ""];
    Ok(Outcome::lines(if rows.is_empty() { "nobody waits\n".to_owned() } else { table(&headers, rows) }, true))
}

/// Until when a free lock is kept for somebody.
fn kept(until: &Value) -> String {
    match until.as_u64() {
        None => String::new(),
        Some(u64::MAX) => "  kept until all of its set is free".to_owned(),
        Some(_) => format!("  kept until {}", time(until)),
    }
}

/// Why locks are as they are. A pull that neither holds nor waits for a lock was not found.
fn explained(answer: Vec<u8>, json: bool) -> Result<Outcome> {
    let explained: Value = read(&answer)?;
    let locks = list_of(&explained);
    let found = !locks.is_empty();
    if json {
        return Ok(Outcome::json(answer, found));
    }
    let text: String = locks.iter().map(lock).collect();
    Ok(Outcome::lines(if found { text } else { "the pull request holds no lock, and waits for none\n".to_owned() }, found))
}

fn lock(lock: &Value) -> String {
    let mut text = format!("{}  {}\n", table::key(word(&lock["key"])), word(&lock["state"]));
    let holder = &lock["holder"];
    if holder.is_object() {
        let (num, user, since) = (&holder["pull"]["num"], plain(word(&holder["user"])), plain(word(&holder["since"])));
        let token = holder["token"].as_u64().map_or_else(String::new, |token| format!("  token {token}"));
        text += &format!("  holder    pull #{num}  {user}  {since}{token}\n");
    }
    for waits in list_of(&lock["queue"]) {
        let (since, kept) = (time(&waits["since"]), kept(&waits["reserved_until"]));
        text += &format!("  waits     pull #{}  {since}{kept}\n", waits["pull"]["num"]);
    }
    for block in list_of(&lock["blocked_by"]) {
        text += &format!("  because   {}\n", plain(word(&block["what"])));
    }
    for way in list_of(&lock["frees_it"]) {
        text += &format!("  frees it  {}\n", plain(word(way)));
    }
    if let Some(why) = lock["no_queue"].as_str() {
        text += &format!("  note      {}\n", plain(why));
    }
    if lock["stale"] == true {
        text += "  note      the local store answered in Redis's place: it may lack what other servers did\n";
    }
    text
}

/// Whether a pull holds a lock. The key does not tell the repository; the lock that is there does.
fn check(source: &mut Source, key: &str, of: (i64, &str), token: Option<u64>, json: bool) -> Result<Outcome> {
    let (pull, host) = of;
    let value = source.ask("get", &target(key))?;
    let checked = match ProjectLock::parse(&value) {
        Err(_) => br#"{"holds":false}"#.to_vec(),
        Ok(lock) => {
            let repo = lock.pull().repo;
            let asked = json!({ "repo": repo, "key": key, "pull": { "host": host, "num": pull }, "token": token });
            source.ask("check", &asked.to_string())?
        }
    };
    let told: Value = read(&checked)?;
    let holds = told["holds"] == true;
    let now = match told["holder"]["num"].as_i64() {
        None => "no pull has it".to_owned(),
        Some(num) if num == pull && token.is_some() => {
            let by = told["token"].as_u64().map_or_else(|| "without a token".to_owned(), |token| format!("of token {token}"));
            format!("the pull has it by another grant, {by}")
        }
        Some(num) if num == pull => format!("pull #{num} of another repository or host has it"),
        Some(num) => format!("pull #{num} has it"),
    };
    let text = if holds { format!("pull #{pull} holds {}\n", table::key(key)) } else { String::new() };
    let incomplete = (!holds).then(|| format!("pull #{pull} does not hold {key:?}: {now}"));
    let shown = if json { Outcome::json(checked, true) } else { Outcome::lines(text, true) };
    Ok(Outcome { incomplete, ..shown })
}

fn left(answer: Vec<u8>, num: i64, json: bool) -> Result<Outcome> {
    let left: u64 = read(&answer)?;
    if json {
        return Ok(Outcome::json(json!({ "left": left }).to_string().into_bytes(), left > 0));
    }
    let text = match left {
        0 => format!("pull #{num} waits for no such lock\n"),
        1 => format!("pull #{num} waits for 1 lock no more\n"),
        _ => format!("pull #{num} waits for {left} locks no more\n"),
    };
    Ok(Outcome::lines(text, left > 0))
}

fn request(freeze: &args::Freeze) -> Value {
    let args::Freeze { pattern, path, workspace, project, reason, owner, until, open_ended, allow_plans } = freeze;
    json!({
        "pattern": { "repo": pattern, "path": path, "workspace": workspace, "project": project },
        "reason": reason, "owner": owner, "until": until, "open_ended": open_ended,
        "plans": if *allow_plans { "allow" } else { "deny" },
    })
}

/// A freeze that began, or that ended.
fn frozen(answer: Vec<u8>, id: &str, json: bool) -> Result<Outcome> {
    let freeze: Option<Freeze> = read(&answer)?;
    if json {
        return Ok(Outcome::json(answer, freeze.is_some()));
    }
    let text = freeze.as_ref().map_or_else(|| format!("no freeze {id:?}\n"), line);
    Ok(Outcome::lines(text, freeze.is_some()))
}

fn freezes(answer: Vec<u8>, json: bool) -> Result<Outcome> {
    let freezes: Vec<Freeze> = read(&answer)?;
    if json {
        return Ok(Outcome::json(answer, true));
    }
    let text: String = freezes.iter().map(line).collect();
    Ok(Outcome::lines(if text.is_empty() { "no freezes\n".to_owned() } else { text }, true))
}

/// One freeze for a person: its id, what, and why.
fn line(freeze: &Freeze) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    let now = u64::try_from(now).unwrap_or(u64::MAX);
    let begins = if freeze.from > now { format!("from {}, ", time(&json!(freeze.from))) } else { String::new() };
    format!("{}  {}  {begins}{}\n", plain(&freeze.id), freeze.pattern, freeze.why(now))
}

/// The circles: who waits for whom, for which locks, and the way out.
fn circles(answer: Vec<u8>, json: bool) -> Result<Outcome> {
    if json {
        return Ok(Outcome::json(answer, true));
    }
    let circles: Value = read(&answer)?;
    let text: String = list_of(&circles).iter().map(circle).collect();
    Ok(Outcome::lines(if text.is_empty() { "no circles\n".to_owned() } else { text }, true))
}

fn circle(circle: &Value) -> String {
    let pulls = list_of(&circle["pulls"]);
    let around: Vec<String> = pulls.iter().chain(pulls.first()).map(|pull| format!("#{}", pull["num"])).collect();
    let mut text = format!("{}  {}  since {}\n", plain(word(&circle["repo"])), around.join(" -> "), time(&circle["since"]));
    for key in list_of(&circle["keys"]) {
        text += &format!("  lock      {}\n", table::key(word(key)));
    }
    let victim = &circle["victim"]["num"];
    if victim.is_i64() {
        text += &format!("  yields    pull #{victim}, if nothing of it is applied\n");
    }
    text + &format!("  way out   {}\n", plain(word(&circle["suggestion"])))
}
