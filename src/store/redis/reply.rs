//! What the scripts answer.

use redis::Value;

use super::keys::shown;
use super::pad;
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
        let third = parts.next();
        let gated = third.as_deref() == Some(b"1");
        match (tag.as_slice(), detail) {
            (b"DONE", Some(outcome)) if gated => Ok(Reply::Gated(outcome)),
            (b"NOTYET", _) => Ok(Reply::NotYet),
            (b"DONE", outcome) => Ok(Reply::Done(outcome.unwrap_or_default())),
            (b"HELD", Some(value)) => Ok(Reply::Held(value)),
            (b"NONE", _) => Ok(Reply::None),
            (b"CONFLICT", current) => Ok(Reply::Conflict(current)),
            (b"JUDGE", Some(value)) => Ok(Reply::Judge(value)),
            (b"LATE", Some(now)) => number(&now).map(|now| Reply::Late { now }),
            (b"FOREIGN", Some(key)) => Err(foreign(&key, &third.unwrap_or_default())),
            (b"UNKNOWN", Some(now)) => number(&now).map(|now| Reply::Unknown { now }),
            _ => Err(malformed()),
        }
    }
}

/// What a script that only reads answers, behind its first word; what is no text is empty.
pub(super) fn texts(parts: Vec<Value>) -> Result<impl Iterator<Item = Vec<u8>>> {
    let mut texts = parts.into_iter().map(|part| match part {
        Value::BulkString(bytes) => bytes,
        _ => Vec::new(),
    });
    if texts.next().as_deref() == Some(b"FOREIGN") {
        let key = texts.next().unwrap_or_default();
        return Err(foreign(&key, &texts.next().unwrap_or_default()));
    }
    Ok(texts)
}

/// The error of what another program wrote at a key of ours (`lua/foreign.lua`).
fn foreign(key: &[u8], what: &[u8]) -> Error {
    left_alone(key, &String::from_utf8_lossy(what))
}

/// The error of an entry that is left as it is.
pub(super) fn left_alone(key: &[u8], what: &str) -> Error {
    let text = format!(
        "at the key {} is {what}: another program wrote that, and it stays as it is; look at it, and remove it in Redis if nothing needs it",
        shown(key)
    );
    Error::new(Code::EntryUnreadable, text)
}

/// Whether the change was made, without reading all of the answer.
pub(super) fn is_done(value: &Value) -> bool {
    let Value::Array(parts) = value else { return false };
    match parts.first() {
        Some(Value::BulkString(tag)) => tag == b"DONE",
        Some(Value::SimpleString(tag)) => tag == "DONE",
        _ => false,
    }
}

/// A grant's outcome: `G<fencing token>`.
pub(super) fn token(outcome: &[u8]) -> Result<FencingToken> {
    let token = outcome.strip_prefix(b"G").ok_or_else(malformed)?;
    number(token).map(FencingToken::new)
}

/// The outcome of this request's release: `R<fencing token> <value>`; or as it was remembered (`pad.rs`).
///
/// Errors: `OutcomeUnknown` if it was made by an earlier attempt, and the value could not be remembered.
pub(super) fn released(outcome: &[u8], request: &[u8]) -> Result<Held> {
    let (kind, text) = outcome.split_first().ok_or_else(malformed)?;
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let token = FencingToken::new(number(&text[..digits])?);
    let behind = || text[digits..].strip_prefix(b" ").ok_or_else(malformed);
    let value = match kind {
        b'R' => behind()?.to_vec(),
        b'M' => pad::unmasked(behind()?, request).ok_or_else(malformed)?,
        b'L' => {
            let text = "the lock was released, but the answer was lost, and Redis does not remember so long credentials: look at the lock";
            return Err(Error::new(Code::OutcomeUnknown, text));
        }
        _ => return Err(malformed()),
    };
    Ok(Held { value, token })
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

    /// A grant that is one to the first alone would wait for no replica.
    #[test]
    fn both_readers_know_a_change_that_was_made() {
        for tag in [Value::BulkString(b"DONE".to_vec()), Value::SimpleString("DONE".to_owned())] {
            let value = Value::Array(vec![tag, Value::BulkString(b"G17".to_vec())]);
            assert!(is_done(&value), "{value:?}");
            assert_eq!(Reply::read(value), Ok(Reply::Done(b"G17".to_vec())));
        }
        assert!(!is_done(&Value::Array(vec![Value::BulkString(b"HELD".to_vec())])) && !is_done(&Value::Okay));
    }

    #[test]
    fn reads_the_scripts_answers() {
        assert_eq!(reply(&["DONE", "G17"]), Ok(Reply::Done(b"G17".to_vec())));
        assert_eq!(token(b"G17"), Ok(FencingToken::new(17)));
        assert_eq!(released(b"R17 {}", b""), Ok(Held { value: b"{}".to_vec(), token: FencingToken::new(17) }));
        assert_eq!(reply(&["LATE", "1795511065638315"]), Ok(Reply::Late { now: 1_795_511_065_638_315 }));
        assert_eq!(reply(&["CONFLICT"]), Ok(Reply::Conflict(None)));
        assert_eq!(reply(&["JUDGE", "{}"]), Ok(Reply::Judge(b"{}".to_vec())));
        for wrong in
            [reply(&[]), reply(&["HELD"]), reply(&["JUDGE"]), reply(&["LATE", "x"]), reply(&["OK"]), Reply::read(Value::Nil)]
        {
            assert_eq!(wrong.expect_err("is refused").code(), Code::Protocol);
        }
        assert_eq!(released(b"M17  {}", b""), Ok(Held { value: b"{}".to_vec(), token: FencingToken::new(17) }));
        assert_eq!(released(b"L17", b"").expect_err("is not known").code(), Code::OutcomeUnknown);
        assert!(token(b"R1").is_err());
        assert!([&b"G1 {}"[..], b"", b"R", b"R {}", b"R{}", b"R17"].iter().all(|outcome| released(outcome, b"").is_err()));
    }
}
