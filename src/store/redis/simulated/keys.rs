//! Commands about keys, whatever stands at them.

use redis::Value;
use xxhash_rust::xxh3::xxh3_64;

use super::commands::{bulk, count as number, whole};
use super::data::{Answer, Data};
use super::glob;

pub(super) fn delete(data: &mut Data, words: &[Vec<u8>], _: u64) -> Answer {
    number(words[1..].iter().filter(|key| data.remove(key)).count())
}

pub(super) fn exist(data: &mut Data, words: &[Vec<u8>], _: u64) -> Answer {
    number(words[1..].iter().filter(|key| data.get(key).is_some()).count())
}

pub(super) fn kind(data: &mut Data, words: &[Vec<u8>], _: u64) -> Answer {
    Ok(Value::SimpleString(data.get(&words[1]).map_or("none", |entry| entry.stored.kind()).to_owned()))
}

pub(super) fn millis_left(data: &mut Data, words: &[Vec<u8>], now: u64) -> Answer {
    let Some(entry) = data.get(&words[1]) else { return Ok(Value::Int(-2)) };
    let left = entry.expires.map(|end| i64::try_from(end.saturating_sub(now / 1000)).unwrap_or(i64::MAX));
    Ok(Value::Int(left.unwrap_or(-1)))
}

pub(super) fn persist(data: &mut Data, words: &[Vec<u8>], _: u64) -> Answer {
    let had_end = data.get(&words[1]).is_some_and(|entry| entry.expires.is_some());
    if had_end {
        data.set_end(&words[1], None);
    }
    Ok(Value::Int(i64::from(had_end)))
}

pub(super) fn expire_in_millis(data: &mut Data, words: &[Vec<u8>], now: u64) -> Answer {
    let millis = whole(&words[2])?;
    let is_there = match u64::try_from(millis) {
        Ok(millis) if millis > 0 => data.set_end(&words[1], Some(now / 1000 + millis)),
        _ => data.remove(&words[1]),
    };
    Ok(Value::Int(i64::from(is_there)))
}

pub(super) fn keys(data: &mut Data, words: &[Vec<u8>], _: u64) -> Answer {
    let found = data.entries().filter(|(key, _)| glob::matches(&words[1], key));
    Ok(Value::Array(found.map(|(key, _)| bulk(key.as_slice())).collect()))
}

pub(super) fn count(data: &mut Data, _: &[Vec<u8>], _: u64) -> Answer {
    number(data.entries().count())
}

pub(super) fn flush(data: &mut Data, _: &[Vec<u8>], _: u64) -> Answer {
    data.clear();
    Ok(Value::Okay)
}

/// By the keys' hashes, the cursor being the smallest one that is still to come: a key that is there all the time is found.
pub(super) fn scan(data: &mut Data, words: &[Vec<u8>], _: u64) -> Answer {
    let cursor = std::str::from_utf8(&words[1]).ok().and_then(|text| text.parse().ok()).ok_or("ERR invalid cursor")?;
    let (mut pattern, mut most): (&[u8], _) = (b"*", 10);
    let mut options = words[2..].iter();
    while let Some(option) = options.next() {
        let value = options.next().ok_or("ERR syntax error")?;
        match option.to_ascii_uppercase().as_slice() {
            b"MATCH" => pattern = value,
            b"COUNT" => most = usize::try_from(whole(value)?).ok().filter(|most| *most > 0).ok_or("ERR syntax error")?,
            _ => return Err("ERR syntax error".to_owned()),
        }
    }
    let hash = |key: &[u8]| xxh3_64(key).max(1);
    let mut ahead: Vec<(u64, &Vec<u8>)> =
        data.entries().map(|(key, _)| (hash(key), key)).filter(|(hash, _)| *hash >= cursor).collect();
    ahead.sort_unstable();
    let next = ahead.get(most).map_or(0, |(hash, _)| *hash);
    let page = ahead.into_iter().take_while(|(hash, _)| next == 0 || *hash < next);
    let found: Vec<Value> = page.filter(|(_, key)| glob::matches(pattern, key)).map(|(_, key)| bulk(key.as_slice())).collect();
    Ok(Value::Array(vec![bulk(next.to_string()), Value::Array(found)]))
}
