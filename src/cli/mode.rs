//! `mode`, `reload`: the running server changes its mode and its stores.

use std::fmt::Write as _;
use std::path::Path;

use atlock::config::Config;
use atlock::error::{Code, Error, Result};
use atlock::queue::freeze::plain;
use atlock::socket::Client;
use clap::ValueEnum as _;
use serde_json::Value;

use super::args::NewMode;
use super::show::{Outcome, read, time};

/// The mode of the running server, and its last change.
pub fn show(config: Option<&Path>, json: bool) -> Result<Outcome> {
    let answer = server(config)?.ask_for("mode", false, b"null")?;
    if json {
        return Ok(Outcome::json(answer, true));
    }
    let told: Value = read(&answer)?;
    let mut text = format!("mode      {}\n", word(&told["mode"]));
    // Writing to a String cannot fail.
    if let Some(file) = told["file"].as_str() {
        let _ = writeln!(text, "settings  {}", plain(file));
    }
    if let Value::Object(change) = &told["last_change"] {
        let at = change.get("at").map(time).unwrap_or_default();
        let part = |name: &str| change.get(name).map(word).unwrap_or_default();
        let _ = writeln!(text, "changed   {at}, {} to {}: {}", part("from"), part("to"), part("result"));
        if let Some(error) = change.get("error").and_then(Value::as_str) {
            let _ = writeln!(text, "because   {}", plain(error));
        }
    }
    Ok(Outcome::lines(text, true))
}

/// Changes the mode.
pub fn change(config: Option<&Path>, mode: NewMode, json: bool) -> Result<Outcome> {
    let name = mode.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    let input = Value::String(name).to_string();
    changed(&server(config)?.ask_for("change_mode", true, input.as_bytes())?, json)
}

/// Lets the server read its settings again.
pub fn reload(config: Option<&Path>, json: bool) -> Result<Outcome> {
    changed(&server(config)?.ask_for("reload", true, b"null")?, json)
}

/// How a change ended.
pub fn changed(answer: &[u8], json: bool) -> Result<Outcome> {
    if json {
        return Ok(Outcome::json(answer.to_vec(), true));
    }
    let told: Value = read(answer)?;
    if told["result"] == "unchanged" {
        return Ok(Outcome::lines(format!("mode      {}: nothing had to be changed\n", word(&told["to"])), true));
    }
    let mut text = format!(
        "mode      {} to {}\npaused    {} ms\nlocks     {} carried over\n",
        word(&told["from"]),
        word(&told["to"]),
        told["paused_ms"],
        told["locks"]
    );
    for key in told["missing"].as_array().into_iter().flatten() {
        let _ = writeln!(text, "missing   {}: released by another server meanwhile, or lost", word(key));
    }
    Ok(Outcome::lines(text, true))
}

/// The server that takes changes.
fn server(config: Option<&Path>) -> Result<Client> {
    let config = match config {
        Some(path) => Config::load(path)?,
        None => Config::without_file()?,
    };
    let Some(folder) = &config.locking.data_dir else {
        let text =
            "which server is meant is not known: set locking.data_dir in the settings file, to the folder that the server has";
        return Err(Error::new(Code::InvalidConfig, text));
    };
    let mode = config.mode();
    Client::connect_to_control(folder)?.ok_or_else(|| {
        let text = format!(
            "no linked Atlantis that can be changed listens in {} (locking.data_dir): if it does not run, its next start takes the mode of its \
             settings, {mode} as they are; if it runs, its log says why it does not listen, or its locking.socket is off",
            folder.display()
        );
        Error::new(Code::Unreachable, text)
    })
}

fn word(value: &Value) -> String {
    plain(value.as_str().unwrap_or("?"))
}
