//! What the scripts answer.

use redis::Value;

use crate::domain::token::FencingToken;
use crate::error::{Code, Error, Result};
use crate::store::contract::local::Held;

/// A script's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// The change was made, now or by an earlier attempt; its outcome.
    Done(Vec<u8>),
    /// The lock was granted, by a gate that let the caller in; the outcome.
    Gated(Vec<u8>),
    /// The lock is held; its value.
    Held(Vec<u8>),
    /// The lock is free, and kept for somebody else.
    NotYet,
    /// There is nothing to release, or it is not what was meant.
    None,
    /// The pull status is another; what it is.
    Conflict(Option<Vec<u8>>),
    /// The value was not read before it was stored: the caller is to judge it.
    Judge(Vec<u8>),
    /// The command came after its `not_after`; the server's clock, microseconds.
    Late {
        /// Microseconds since 1970.
        now: i64,
    },
    /// An attempt of a request that may have been forgotten; the server's clock, microseconds.
    Unknown {
        /// Microseconds since 1970.
        now: i64,
    },
}

impl Reply {
    /// What kind of answer it is.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Reply::Done(_) => "DONE",
            Reply::Gated(_) => "DONE",
            Reply::Held(_) => "HELD",
            Reply::NotYet => "NOTYET",
            Reply::None => "NONE",
            Reply::Conflict(_) => "CONFLICT",
            Reply::Judge(_) => "JUDGE",
            Reply::Late { .. } => "LATE",
            Reply::Unknown { .. } => "UNKNOWN",
        }
    }

    pub(super) fn read(value: Value) -> Result<Reply> {
        let Value::Array(parts) = value else { return Err(malformed()) };
        let mut parts = parts.into_iter().map(|part| match part {
            Value::BulkString(bytes) => bytes,
            Value::SimpleString(text) => text.into_bytes(),
            _ => Vec::new(),
        });
        let (tag, detail) = (parts.next().ok_or_else(malformed)?, parts.next());
        let gated = parts.next().is_some_and(|gated| gated == b"1");
        match (tag.as_slice(), detail) {
            (b"DONE", Some(outcome)) if gated => Ok(Reply::Gated(outcome)),
            (b"NOTYET", _) => Ok(Reply::NotYet),
            (b"DONE", outcome) => Ok(Reply::Done(outcome.unwrap_or_default())),
            (b"HELD", Some(value)) => Ok(Reply::Held(value)),
            (b"NONE", _) => Ok(Reply::None),
            (b"CONFLICT", current) => Ok(Reply::Conflict(current)),
            (b"JUDGE", Some(value)) => Ok(Reply::Judge(value)),
            (b"LATE", Some(now)) => number(&now).map(|now| Reply::Late { now }),
            (b"UNKNOWN", Some(now)) => number(&now).map(|now| Reply::Unknown { now }),
            _ => Err(malformed()),
        }
    }
}

/// Whether the change was made, without reading all of the answer.
pub(super) fn is_done(value: &Value) -> bool {
    matches!(value, Value::Array(parts) if matches!(parts.first(), Some(Value::BulkString(tag)) if tag == b"DONE"))
}

/// A grant's outcome: `G<fencing token>`.
pub(super) fn token(outcome: &[u8]) -> Result<FencingToken> {
    let token = outcome.strip_prefix(b"G").ok_or_else(malformed)?;
    number(token).map(FencingToken::new)
}

/// A release's outcome: `R<fencing token> <value>`.
pub(super) fn released(outcome: &[u8]) -> Result<Held> {
    let text = outcome.strip_prefix(b"R").ok_or_else(malformed)?;
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let value = text[digits..].strip_prefix(b" ").ok_or_else(malformed)?;
    Ok(Held { value: value.to_vec(), token: FencingToken::new(number(&text[..digits])?) })
}

fn number<T: std::str::FromStr>(digits: &[u8]) -> Result<T> {
    std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).ok_or_else(malformed)
}

fn malformed() -> Error {
    Error::new(Code::Protocol, "a script's answer is not in its form: was another version's script or data there?")
}

/// The error of an answer that is none to the script's question.
pub(super) fn unexpected(reply: &Reply) -> Error {
    // Not the reply itself: a value holds a token.
    Error::new(Code::Protocol, format!("a script's answer ({}) does not fit its question", reply.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(parts: &[&str]) -> Result<Reply> {
        Reply::read(Value::Array(parts.iter().map(|part| Value::BulkString(part.as_bytes().to_vec())).collect()))
    }

    #[test]
    fn reads_the_scripts_answers() {
        assert_eq!(reply(&["DONE", "G17"]), Ok(Reply::Done(b"G17".to_vec())));
        assert_eq!(token(b"G17"), Ok(FencingToken::new(17)));
        assert_eq!(released(b"R17 {}"), Ok(Held { value: b"{}".to_vec(), token: FencingToken::new(17) }));
        assert_eq!(reply(&["LATE", "1795511065638315"]), Ok(Reply::Late { now: 1_795_511_065_638_315 }));
        assert_eq!(reply(&["CONFLICT"]), Ok(Reply::Conflict(None)));
        assert_eq!(reply(&["JUDGE", "{}"]), Ok(Reply::Judge(b"{}".to_vec())));
        for wrong in
            [reply(&[]), reply(&["HELD"]), reply(&["JUDGE"]), reply(&["LATE", "x"]), reply(&["OK"]), Reply::read(Value::Nil)]
        {
            assert_eq!(wrong.expect_err("is refused").code(), Code::Protocol);
        }
        assert!(token(b"R1").is_err());
        assert!([&b"G1 {}"[..], b"", b"R", b"R {}", b"R{}", b"R17"].iter().all(|outcome| released(outcome).is_err()));
    }
}
