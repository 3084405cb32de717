//! Scripts, run by Lua 5.1 over the simulated data.
//!
//! Each thread has one Lua state, and in it each script compiled once. While a script runs, its data are the thread's: Lua's functions
//! reach them there.

use std::cell::RefCell;
use std::collections::HashMap;

use mlua::{Function, Lua, LuaOptions, LuaString, MultiValue, StdLib, Value as LuaValue};
use redis::Value;

use super::FULL;
use super::cjson;
use super::commands::{Command, Kind, bulk};
use super::data::{Answer, Data};
use super::numbers::seventeen_digits;
use super::sections;
use crate::sync::marks;

/// What a script is run over.
pub(super) struct Run {
    pub(super) data: Data,
    pub(super) now: u64,
    /// Whether the server was full when the script began.
    pub(super) is_full: bool,
    pub(super) has_written: bool,
    pub(super) replication_id: u64,
}

struct Engine {
    lua: Lua,
    scripts: RefCell<HashMap<String, Function>>,
    /// Calls a script, and a handler with its error.
    guarded: Function,
    handler: Function,
}

thread_local! {
    static ENGINE: Engine = Engine::new().expect("Lua starts");
    static RUN: RefCell<Option<Run>> = const { RefCell::new(None) };
}

/// 40 hexadecimal digits.
pub(super) fn sha1(bytes: &[u8]) -> String {
    sha1_smol::Sha1::from(bytes).digest().to_string()
}

/// Whether a text of this SHA-1 is a script.
pub(super) fn compile(hash: &str, text: &[u8]) -> Result<(), String> {
    ENGINE.with(|engine| engine.script(hash, text)).map(drop)
}

/// Runs a script of this SHA-1 to its end; the data as they are then, and its answer.
pub(super) fn run(hash: &str, text: &[u8], keys: &[Vec<u8>], args: &[Vec<u8>], run: Run) -> (Data, Answer) {
    ENGINE.with(|engine| {
        let before = RUN.replace(Some(run));
        assert!(before.is_none(), "a script runs no script");
        let answer = engine.script(hash, text).and_then(|script| engine.run(&script, hash, keys, args));
        let run = RUN.take().expect("is still there");
        (run.data, answer)
    })
}

impl Engine {
    fn new() -> mlua::Result<Engine> {
        let lua = Lua::new_with(StdLib::TABLE | StdLib::STRING | StdLib::MATH, LuaOptions::default())?;
        // Scripts are short, and leave little.
        lua.gc_set_mode(mlua::state::GcMode::Incremental(mlua::state::GcIncParams::default().pause(1000)));
        let query = lua.create_function(|lua, words: MultiValue| query(lua, words))?;
        let sha1hex = lua.create_function(|lua, text: LuaValue| {
            let bytes = bytes_of(&text).unwrap_or_default();
            lua.create_string(sha1(&bytes))
        })?;
        let met = lua.create_function(|_, name: String| {
            marks::met(&name);
            Ok(())
        })?;
        let decode = lua.create_function(|lua, text: LuaString| cjson::decode(lua, &text.as_bytes()))?;
        let prelude = lua.load(include_str!("prelude.lua")).set_name("=prelude");
        let guarded = prelude.into_function()?.call((query, sha1hex, decode, LuaValue::NULL, met))?;
        let handler = lua.create_function(|lua, error: LuaValue| located(lua, &error))?;
        Ok(Engine { lua, scripts: RefCell::default(), guarded, handler })
    }

    fn script(&self, hash: &str, text: &[u8]) -> Result<Function, String> {
        if let Some(script) = self.scripts.borrow().get(hash) {
            return Ok(script.clone());
        }
        let text = with_marks(text);
        let chunk = self.lua.load(&text).set_name("@user_script").set_mode(mlua::chunk::ChunkMode::Text);
        let script = chunk.into_function().map_err(|e| format!("ERR Error compiling script (new function): {}", message(&e)))?;
        self.scripts.borrow_mut().insert(hash.to_owned(), script.clone());
        Ok(script)
    }

    fn run(&self, script: &Function, hash: &str, keys: &[Vec<u8>], args: &[Vec<u8>]) -> Answer {
        let failed = |e: mlua::Error| format!("ERR {}", message(&e));
        let list = |words: &[Vec<u8>]| self.lua.create_sequence_from(words.iter().map(LuaString::wrap));
        let globals = self.lua.globals();
        for (name, words) in [("KEYS", keys), ("ARGV", args)] {
            list(words).and_then(|list| globals.raw_set(name, list)).map_err(failed)?;
        }
        let (is_done, value): (bool, LuaValue) = self.guarded.call((script, &self.handler)).map_err(failed)?;
        if is_done {
            return answer(&value);
        }
        let text = value.as_string().map(|text| text.to_string_lossy()).unwrap_or_default();
        let (line, text) = text.split_once(':').expect("a line, and the error");
        Err(format!("{text} script: {hash}, on @user_script:{line}."))
    }
}

/// The script, in which each comment that is a mark (`crate::sync::mark`) is one.
fn with_marks(text: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(text);
    let line = |line: &str| match line.trim_start().strip_prefix("-- mark: ") {
        Some(name) => format!("met('{name}')"),
        None => line.to_owned(),
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n").into_bytes()
}

fn message(error: &mlua::Error) -> String {
    match error {
        mlua::Error::SyntaxError { message, .. } | mlua::Error::RuntimeError(message) => message.clone(),
        other => other.to_string(),
    }
}

/// The line of the script that an error comes from, a colon, and what Redis tells of it.
fn located(lua: &Lua, error: &LuaValue) -> mlua::Result<String> {
    let text = match error {
        LuaValue::Table(table) => match table.raw_get::<LuaValue>("err")? {
            LuaValue::String(text) => text.to_string_lossy(),
            _ => "ERR unknown error".to_owned(),
        },
        LuaValue::Error(error) => format!("ERR {}", message(error)),
        other => format!("ERR {}", other.to_string()?),
    };
    let line_at = |level| {
        let line = |debug: &mlua::debug::Debug<'_>| {
            let source = debug.source().source.map(|source| source.into_owned());
            (source.as_deref() == Some("@user_script")).then(|| debug.current_line()).flatten()
        };
        lua.inspect_stack(level, line).flatten()
    };
    let line = (0..16).find_map(line_at).unwrap_or(0);
    Ok(format!("{line}:{text}"))
}

/// `redis.call`: whether it went well, and what it answers, or an error's table.
fn query(lua: &Lua, words: MultiValue) -> mlua::Result<(bool, LuaValue)> {
    let answer = match words.iter().map(bytes_of).collect::<Option<Vec<_>>>() {
        None => Err("ERR Lua redis lib command arguments must be strings or integers".to_owned()),
        Some(words) if words.is_empty() => Err("ERR Please specify at least one argument for this redis.call() call".to_owned()),
        Some(words) => RUN.with_borrow_mut(|run| run.as_mut().expect("a script runs").query(&words)),
    };
    match answer {
        Ok(value) => Ok((true, to_lua(lua, value)?)),
        Err(text) => Ok((false, one_field(lua, "err", &text)?)),
    }
}

impl Run {
    fn query(&mut self, words: &[Vec<u8>]) -> Answer {
        if let [name, section] = words
            && name == b"INFO"
        {
            return Ok(bulk(sections::information(section, self.replication_id)));
        }
        let Some(command) = Command::named(&words[0]) else {
            return Err("ERR Unknown Redis command called from script".to_owned());
        };
        if !command.takes(words.len()) {
            return Err("ERR Wrong number of args calling Redis command from script".to_owned());
        }
        if command.kind == Kind::Grow && self.is_full && !self.has_written {
            return Err(FULL.to_owned());
        }
        self.has_written |= command.kind != Kind::Read;
        (command.run)(&mut self.data, words, self.now)
    }
}

/// A command's word; `None` for what cannot be one.
fn bytes_of(value: &LuaValue) -> Option<Vec<u8>> {
    match value {
        LuaValue::String(text) => Some(text.as_bytes().to_vec()),
        LuaValue::Integer(number) => Some(seventeen_digits(*number as f64).into_bytes()),
        LuaValue::Number(number) => Some(seventeen_digits(*number).into_bytes()),
        _ => None,
    }
}

fn one_field(lua: &Lua, name: &str, text: &str) -> mlua::Result<LuaValue> {
    let table = lua.create_table_with_capacity(0, 1)?;
    table.raw_set(name, lua.create_string(text)?)?;
    Ok(LuaValue::Table(table))
}

fn to_lua(lua: &Lua, value: Value) -> mlua::Result<LuaValue> {
    Ok(match value {
        Value::Int(number) => LuaValue::Integer(number),
        Value::BulkString(bytes) => LuaValue::String(lua.create_string(&bytes)?),
        Value::Okay => one_field(lua, "ok", "OK")?,
        Value::SimpleString(text) => one_field(lua, "ok", &text)?,
        Value::Array(values) => {
            let values = values.into_iter().map(|value| to_lua(lua, value)).collect::<mlua::Result<Vec<_>>>()?;
            LuaValue::Table(lua.create_sequence_from(values)?)
        }
        _ => LuaValue::Boolean(false),
    })
}

/// A script's answer, by Redis's conversions.
fn answer(value: &LuaValue) -> Answer {
    let text = |value: mlua::Result<LuaValue>| value.ok().as_ref().and_then(bytes_of);
    Ok(match value {
        LuaValue::String(text) => bulk(text.as_bytes().to_vec()),
        LuaValue::Integer(number) => Value::Int(*number),
        // What does not fit is the smallest number, as a processor has it.
        LuaValue::Number(number) if !(-9.3e18..9.2e18).contains(number) => Value::Int(i64::MIN),
        LuaValue::Number(number) => Value::Int(*number as i64),
        LuaValue::Boolean(true) => Value::Int(1),
        LuaValue::Table(table) => {
            if let Some(error) = text(table.raw_get("err")) {
                return Err(String::from_utf8_lossy(&error).into_owned());
            }
            if let Some(status) = text(table.raw_get("ok")) {
                let status = String::from_utf8_lossy(&status).into_owned();
                return Ok(if status == "OK" { Value::Okay } else { Value::SimpleString(status) });
            }
            let mut values = Vec::new();
            loop {
                match table.raw_get::<LuaValue>(values.len() + 1) {
                    Ok(LuaValue::Nil) | Err(_) => break Value::Array(values),
                    Ok(value) => values.push(answer(&value).unwrap_or_else(|text| super::refusal(&text))),
                }
            }
        }
        _ => Value::Nil,
    })
}
