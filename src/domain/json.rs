//! JSON, with errors that name the byte at which a text is wrong.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use crate::error::{Code, Error, Result};

/// Parses JSON; the error's text names the byte offset at which it stopped.
pub fn parse_json<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T> {
    serde_json::from_slice(json).map_err(|e| {
        let offset = byte_offset(json, e.line(), e.column());
        let text = e.to_string();
        let cause = text.rsplit_once(" at line ").map_or(text.as_str(), |(cause, _)| cause);
        Error::new(Code::InvalidJson, format!("{cause} at byte {offset} of {}", json.len()))
    })
}

/// The same for a request, which is an object: serde takes an array's elements for a struct's members, in an order that is nobody's
/// interface.
pub fn parse_object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T> {
    parse_json(json).map(|Object(value)| value)
}

/// A struct that is read from an object alone.
#[derive(Debug)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_map(Members(PhantomData))
    }
}

struct Members<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> std::result::Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(members)).map(Object)
    }
}

/// serde_json tells line and column (both from 1, a column counted in bytes; column 0 is the line's start).
fn byte_offset(json: &[u8], line: usize, column: usize) -> usize {
    let line_start = match line.checked_sub(2) {
        None => 0,
        Some(nth) => json.iter().enumerate().filter(|(_, b)| **b == b'\n').nth(nth).map_or(0, |(at, _)| at + 1),
    };
    (line_start + column.saturating_sub(1)).min(json.len())
}
