//! The commands that a script may call as well: what the library, its scripts and stock Atlantis servers send.

use std::collections::BTreeMap;

use redis::Value;

use super::data::{Answer, Data, Stored};
use super::keys;
use super::numbers::{number_prefix, seventeen_digits};

/// What a command does to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    /// Changes data, and needs no memory.
    Write,
    /// A full server refuses it.
    Grow,
}

/// A command, called with its name and arguments, at a moment in microseconds since 1970.
pub(super) struct Command {
    pub(super) name: &'static str,
    /// How many words it has, its name included; negative: at least so many.
    arity: i32,
    pub(super) kind: Kind,
    pub(super) run: fn(&mut Data, &[Vec<u8>], u64) -> Answer,
}

const fn command(name: &'static str, arity: i32, kind: Kind, run: fn(&mut Data, &[Vec<u8>], u64) -> Answer) -> Command {
    Command { name, arity, kind, run }
}

static COMMANDS: &[Command] = &[
    command("GET", 2, Kind::Read, get),
    command("STRLEN", 2, Kind::Read, length),
    command("SET", -3, Kind::Grow, set),
    command("SETNX", 3, Kind::Grow, set_if_absent),
    command("MGET", -2, Kind::Read, get_many),
    command("HGET", 3, Kind::Read, hash_get),
    command("HSET", -4, Kind::Grow, hash_set),
    command("HMGET", -3, Kind::Read, hash_get_many),
    command("HGETALL", 2, Kind::Read, hash_get_all),
    command("HLEN", 2, Kind::Read, hash_length),
    command("HDEL", -3, Kind::Write, hash_delete),
    command("SADD", -3, Kind::Grow, set_add),
    command("SREM", -3, Kind::Write, set_remove),
    command("SMEMBERS", 2, Kind::Read, set_members),
    command("ZADD", -4, Kind::Grow, sorted_add),
    command("ZREM", -3, Kind::Write, sorted_remove),
    command("ZSCORE", 3, Kind::Read, sorted_score),
    command("ZRANGE", -4, Kind::Read, sorted_range),
    command("DEL", -2, Kind::Write, keys::delete),
    command("EXISTS", -2, Kind::Read, keys::exist),
    command("TYPE", 2, Kind::Read, keys::kind),
    command("PTTL", 2, Kind::Read, keys::millis_left),
    command("PERSIST", 2, Kind::Write, keys::persist),
    command("PEXPIRE", 3, Kind::Write, keys::expire_in_millis),
    command("SCAN", -2, Kind::Read, keys::scan),
    command("KEYS", 2, Kind::Read, keys::keys),
    command("DBSIZE", 1, Kind::Read, keys::count),
    command("FLUSHALL", -1, Kind::Write, keys::flush),
    command("TIME", 1, Kind::Read, time),
    command("PING", -1, Kind::Read, ping),
];

impl Command {
    /// The command of this name.
    pub(super) fn named(name: &[u8]) -> Option<&'static Command> {
        COMMANDS.iter().find(|command| command.name.as_bytes().eq_ignore_ascii_case(name))
    }

    pub(super) fn takes(&self, words: usize) -> bool {
        let arity = usize::try_from(self.arity.unsigned_abs()).expect("is small");
        if self.arity < 0 { words >= arity } else { words == arity }
    }
}

pub(super) fn bulk(bytes: impl Into<Vec<u8>>) -> Value {
    Value::BulkString(bytes.into())
}

pub(super) fn count(number: usize) -> Answer {
    Ok(Value::Int(i64::try_from(number).expect("is small")))
}

fn optional(bytes: Option<&Vec<u8>>) -> Value {
    bytes.map_or(Value::Nil, |bytes| bulk(bytes.as_slice()))
}

pub(super) fn whole(bytes: &[u8]) -> Result<i64, String> {
    let number = std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
    number
        .filter(|number: &i64| number.to_string().as_bytes() == bytes)
        .ok_or_else(|| "ERR value is not an integer or out of range".to_owned())
}

fn syntax() -> String {
    "ERR syntax error".to_owned()
}

fn time(_: &mut Data, _: &[Vec<u8>], now: u64) -> Answer {
    Ok(Value::Array(vec![bulk((now / 1_000_000).to_string()), bulk((now % 1_000_000).to_string())]))
}

fn ping(_: &mut Data, words: &[Vec<u8>], _: u64) -> Answer {
    match words {
        [_] => Ok(Value::SimpleString("PONG".to_owned())),
        [_, text] => Ok(bulk(text.as_slice())),
        _ => Err("ERR wrong number of arguments for 'ping' command".to_owned()),
    }
}

fn get(data: &mut Data, words: &[Vec<u8>], _: u64) -> Answer {
    data.text(&words[1]).map(optional)
}

fn get_many(data: &mut Data, words: &[Vec<u8>], _: u64) -> Answer {
    Ok(Value::Array(words[1..].iter().map(|key| optional(data.text(key).unwrap_or_default())).collect()))
}

fn length(data: &mut Data, words: &[Vec<u8>], _: u64) -> Answer {
    count(data.text(&words[1])?.map_or(0, Vec::len))
}

fn set(data: &mut Data, words: &[Vec<u8>], now: u64) -> Answer {
    let (mut absent, mut present, mut keeps, mut expires) = (false, false, false, None);
    let mut options = words[3..].iter();
    while let Some(option) = options.next() {
        match option.to_ascii_uppercase().as_slice() {
            b"NX" if !present => absent = true,
            b"XX" if !absent => present = true,
            b"KEEPTTL" if expires.is_none() => keeps = true,
            unit @ (b"PX" | b"EX") if expires.is_none() && !keeps => {
                let time = whole(options.next().ok_or_else(syntax)?)?;
                let millis = if unit == b"EX" { time.saturating_mul(1000) } else { time };
                let millis = u64::try_from(millis).ok().filter(|millis| *millis > 0);
                expires = Some(now / 1000 + millis.ok_or("ERR invalid expire time in 'set' command")?);
            }
            _ => return Err(syntax()),
        }
    }
    let old = data.get(&words[1]);
    if (absent && old.is_some()) || (present && old.is_none()) {
        return Ok(Value::Nil);
    }
    let expires = if keeps { old.and_then(|old| old.expires) } else { expires };
    data.put(&words[1], Stored::Text(words[2].clone()), expires);
    Ok(Value::Okay)
}

fn set_if_absent(data: &mut Data, words: &[Vec<u8>], _: u64) -> Answer {
    let is_free = data.get(&words[1]).is_none();
    if is_free {
        data.put(&words[1], Stored::Text(words[2].clone()), None);
    }
    Ok(Value::Int(i64::from(is_free)))
}

fn field<'a>(hash: Option<&'a Vec<(Vec<u8>, Vec<u8>)>>, name: &[u8]) -> Option<&'a Vec<u8>> {
    hash?.iter().find(|(field, _)| field == name).map(|(_, value)| value)
}

fn hash_get(data: &mut Data, words: &[Vec<u8>], _: u64) -> Answer {
    Ok(optional(field(data.hash(&words[1])?, &words[2])))
}

fn hash_get_many(data: &mut Data, words: &[Vec<u8>], _: u64) -> Answer {
    let hash = data.hash(&words[1])?;
    Ok(Value::Array(words[2..].iter().map(|name| optional(field(hash, name))).collect()))
}

fn hash_get_all(data: &mut Data, words: &[Vec<u8>], _: u64) -> Answer {
    let fields = data.hash(&words[1])?.into_iter().flatten();
    Ok(Value::Array(fields.flat_map(|(name, value)| [bulk(name.as_slice()), bulk(value.as_slice())]).collect()))
}

fn hash_length(data: &mut Data, words: &[Vec<u8>], _: u64) -> Answer {
    count(data.hash(&words[1])?.map_or(0, Vec::len))
}

fn hash_set(data: &mut Data, words: &[Vec<u8>], _: u64) -> Answer {
    if !words.len().is_multiple_of(2) {
        return Err("ERR wrong number of arguments for 'hset' command".to_owned());
    }
    let hash = data.hash_mut(&words[1])?;
    let before = hash.len();
    for pair in words[2..].chunks(2) {
        match hash.iter_mut().find(|(name, _)| *name == pair[0]) {
            Some((_, value)) => value.clone_from(&pair[1]),
            None => hash.push((pair[0].clone(), pair[1].clone())),
        }
    }
    count(hash.len() - before)
}

fn hash_delete(data: &mut Data, words: &[Vec<u8>], _: u64) -> Answer {
    if data.hash(&words[1])?.is_none() {
        return count(0);
    }
    let hash = data.hash_mut(&words[1])?;
    let before = hash.len();
    hash.retain(|(name, _)| !words[2..].contains(name));
    let removed = before - hash.len();
    data.tidy(&words[1]);
    count(removed)
}

fn set_add(data: &mut Data, words: &[Vec<u8>], _: u64) -> Answer {
    let members = data.set_mut(&words[1])?;
    let before = members.len();
    members.extend(words[2..].iter().cloned());
    count(members.len() - before)
}

fn set_remove(data: &mut Data, words: &[Vec<u8>], _: u64) -> Answer {
    if data.set(&words[1])?.is_none() {
        return count(0);
    }
    let members = data.set_mut(&words[1])?;
    let removed = words[2..].iter().filter(|member| members.remove(member.as_slice())).count();
    data.tidy(&words[1]);
    count(removed)
}

fn set_members(data: &mut Data, words: &[Vec<u8>], _: u64) -> Answer {
    Ok(Value::Array(data.set(&words[1])?.into_iter().flatten().map(|member| bulk(member.as_slice())).collect()))
}

/// A number, of which nothing is left over.
fn score(text: &[u8]) -> Option<f64> {
    number_prefix(text).filter(|(number, length)| *length == text.len() && !number.is_nan()).map(|(number, _)| number)
}

fn sorted_add(data: &mut Data, words: &[Vec<u8>], _: u64) -> Answer {
    if !words.len().is_multiple_of(2) {
        return Err(syntax());
    }
    let pair = |pair: &[Vec<u8>]| Some((pair[1].clone(), score(&pair[0])?));
    let scored: Option<Vec<_>> = words[2..].chunks(2).map(pair).collect();
    let scored = scored.ok_or("ERR value is not a valid float")?;
    let members = data.sorted_mut(&words[1])?;
    let before = members.len();
    members.extend(scored);
    count(members.len() - before)
}

fn sorted_remove(data: &mut Data, words: &[Vec<u8>], _: u64) -> Answer {
    if data.sorted(&words[1])?.is_none() {
        return count(0);
    }
    let members = data.sorted_mut(&words[1])?;
    let removed = words[2..].iter().filter(|member| members.remove(member.as_slice()).is_some()).count();
    data.tidy(&words[1]);
    count(removed)
}

fn sorted_score(data: &mut Data, words: &[Vec<u8>], _: u64) -> Answer {
    let score = data.sorted(&words[1])?.and_then(|members| members.get(&words[2]));
    Ok(score.map_or(Value::Nil, |score| bulk(seventeen_digits(*score))))
}

/// By index, or `BYSCORE`, `LIMIT`, `WITHSCORES`.
fn sorted_range(data: &mut Data, words: &[Vec<u8>], _: u64) -> Answer {
    let (mut by_score, mut with_scores, mut limit) = (false, false, None);
    let mut options = words[4..].iter();
    while let Some(option) = options.next() {
        match option.to_ascii_uppercase().as_slice() {
            b"BYSCORE" => by_score = true,
            b"WITHSCORES" => with_scores = true,
            b"LIMIT" => {
                let (skip, most) = (options.next().ok_or_else(syntax)?, options.next().ok_or_else(syntax)?);
                limit = Some((whole(skip)?, whole(most)?));
            }
            _ => return Err(syntax()),
        }
    }
    if limit.is_some() && !by_score {
        return Err("ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX".to_owned());
    }
    let bounds = if by_score { Ok((lower(&words[2])?, upper(&words[3])?)) } else { Err((whole(&words[2])?, whole(&words[3])?)) };
    let empty = BTreeMap::new();
    let members = data.sorted(&words[1])?.unwrap_or(&empty);
    let mut ordered: Vec<(&Vec<u8>, f64)> = members.iter().map(|(member, score)| (member, *score)).collect();
    ordered.sort_by(|one, other| one.1.total_cmp(&other.1).then_with(|| one.0.cmp(other.0)));
    match bounds {
        Ok((lower, upper)) => ordered.retain(|(_, score)| lower(*score) && upper(*score)),
        Err((first, last)) => ordered = slice(&ordered, first, last).to_vec(),
    }
    let (skip, most) = limit.unwrap_or((0, -1));
    let skip = usize::try_from(skip).unwrap_or(usize::MAX);
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let found = ordered.into_iter().skip(skip).take(most);
    let shown = found.flat_map(|(member, score)| {
        [Some(bulk(member.as_slice())), with_scores.then(|| bulk(seventeen_digits(score)))].into_iter().flatten()
    });
    Ok(Value::Array(shown.collect()))
}

type Bound = Box<dyn Fn(f64) -> bool>;

fn bound(text: &[u8], inside: fn(f64, f64) -> bool) -> Result<Bound, String> {
    let (is_open, number) = match text.strip_prefix(b"(") {
        Some(number) => (true, number),
        None => (false, text),
    };
    let number = score(number).ok_or("ERR min or max is not a float")?;
    Ok(Box::new(move |score| inside(score, number) || (score == number && !is_open)))
}

fn lower(text: &[u8]) -> Result<Bound, String> {
    bound(text, |score, number| score > number)
}

fn upper(text: &[u8]) -> Result<Bound, String> {
    bound(text, |score, number| score < number)
}

/// From the first to the last index, both included; negative ones are counted from the end.
fn slice<T>(all: &[T], first: i64, last: i64) -> &[T] {
    let len = i64::try_from(all.len()).expect("is small");
    let index = |at: i64| if at < 0 { at + len } else { at };
    let (first, last) = (index(first).max(0), index(last).min(len - 1));
    if first > last {
        return &[];
    }
    &all[usize::try_from(first).expect("is not negative")..=usize::try_from(last).expect("is not negative")]
}
