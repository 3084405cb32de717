//! JSON, with errors that name the byte at which a text is wrong.

use serde::Deserialize;

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

/// serde_json tells line and column (both from 1, a column counted in bytes; column 0 is the line's start).
fn byte_offset(json: &[u8], line: usize, column: usize) -> usize {
    let line_start = match line.checked_sub(2) {
        None => 0,
        Some(nth) => json.iter().enumerate().filter(|(_, b)| **b == b'\n').nth(nth).map_or(0, |(at, _)| at + 1),
    };
    (line_start + column.saturating_sub(1)).min(json.len())
}
