//! A list of locks as one JSON text, built without parsing or copying each value twice.

use serde::Serialize;

use crate::error::{Code, Error, Result};

/// An entry that is not a lock's JSON, or not at the key that its fields give.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unreadable {
    /// Its key, as stored.
    pub key: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Locks, value after value, and what could not be read beside them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    json: Vec<u8>,
    spans: Vec<Span>,
    unreadable: Vec<Unreadable>,
    incomplete: Option<String>,
}

/// Where one lock lies in a list's JSON: bytes `start` to `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Span {
    /// Offset of its first byte.
    pub start: usize,
    /// Offset behind its last byte.
    pub end: usize,
}

const HEAD: &[u8] = br#"{"locks":["#;

impl Default for Listing {
    fn default() -> Listing {
        Listing { json: HEAD.to_vec(), spans: Vec::new(), unreadable: Vec::new(), incomplete: None }
    }
}

impl Listing {
    /// Adds a lock. The value must be valid JSON.
    pub fn push(&mut self, value: &[u8]) {
        if !self.spans.is_empty() {
            self.json.push(b',');
        }
        let start = self.json.len();
        self.json.extend_from_slice(value);
        self.spans.push(Span { start, end: self.json.len() });
    }

    /// Adds an entry that cannot be read.
    pub fn push_unreadable(&mut self, key: impl Into<String>, reason: impl Into<String>) {
        self.unreadable.push(Unreadable { key: key.into(), reason: reason.into() });
    }

    /// Says that there may be more locks, and why.
    pub fn set_incomplete(&mut self, reason: impl Into<String>) {
        self.incomplete = Some(reason.into());
    }

    /// Why there may be more locks; `None` if these are all.
    pub fn incomplete(&self) -> Option<&str> {
        self.incomplete.as_deref()
    }

    /// What was released until an error, which is told beside it: a release that was made is always told. The error itself, if
    /// nothing was released.
    pub fn or_incomplete(mut self, ended: Result<()>) -> Result<Listing> {
        match ended {
            Ok(()) => Ok(self),
            Err(error) if self.is_empty() => Err(error),
            Err(error) => {
                self.set_incomplete(error.message());
                Ok(self)
            }
        }
    }

    /// The same with other values: each valid JSON, as in [`Listing::push`].
    #[must_use]
    pub fn with_values(self, mut other: impl FnMut(&[u8]) -> Vec<u8>) -> Listing {
        let mut changed = Listing { unreadable: self.unreadable, incomplete: self.incomplete, ..Listing::default() };
        changed.reserve(self.spans.len(), self.json.len() / self.spans.len().max(1));
        self.spans.iter().for_each(|span| changed.push(&other(&self.json[span.start..span.end])));
        changed
    }

    /// Makes room for `count` more values of about `bytes` each.
    pub fn reserve(&mut self, count: usize, bytes: usize) {
        self.spans.reserve(count);
        self.json.reserve(count.saturating_mul(bytes.saturating_add(1)));
    }

    /// How many locks.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is no lock.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The locks' values.
    pub fn values(&self) -> impl Iterator<Item = &[u8]> {
        self.spans.iter().map(|span| &self.json[span.start..span.end])
    }

    /// The entries that cannot be read.
    pub fn unreadable(&self) -> &[Unreadable] {
        &self.unreadable
    }

    /// `[…]`, the locks alone. Errors: `Degraded` if there may be more.
    pub fn into_array(self) -> Result<Vec<u8>> {
        if let Some(reason) = self.incomplete {
            return Err(Error::new(Code::Degraded, format!("these may not be all locks: {reason}; ask again")));
        }
        let mut json = self.json;
        json.drain(..HEAD.len() - 1);
        json.push(b']');
        Ok(json)
    }

    /// `{"locks":[…],"unreadable":[{"key":…,"reason":…},…]}`, with `,"incomplete":"…"` behind the latter if there may be more, and
    /// where each lock lies in it.
    pub fn into_json(self) -> (Vec<u8>, Vec<Span>) {
        let Listing { mut json, spans, unreadable, incomplete } = self;
        json.extend_from_slice(br#"],"unreadable":"#);
        // Strings serialise without an error.
        json.extend_from_slice(&serde_json::to_vec(&unreadable).unwrap_or_else(|_| b"[]".to_vec()));
        if let Some(reason) = incomplete {
            json.extend_from_slice(br#","incomplete":"#);
            json.extend_from_slice(&serde_json::to_vec(&reason).unwrap_or_else(|_| b"null".to_vec()));
        }
        json.push(b'}');
        (json, spans)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_valid_json_with_true_spans() {
        let mut listing = Listing::default();
        listing.push(br#"{"a":1}"#);
        listing.push(br#"{"b":2}"#);
        listing.push_unreadable("pr/x", "not \"JSON\"");
        assert_eq!(listing.len(), 2);
        assert_eq!(listing.clone().into_array().as_deref(), Ok(&br#"[{"a":1},{"b":2}]"#[..]));
        assert_eq!(Listing::default().into_array().as_deref(), Ok(&b"[]"[..]));
        let (json, spans) = listing.into_json();
        assert_eq!(json, br#"{"locks":[{"a":1},{"b":2}],"unreadable":[{"key":"pr/x","reason":"not \"JSON\""}]}"#);
        assert_eq!(&json[spans[1].start..spans[1].end], br#"{"b":2}"#);
        let mut incomplete = Listing::default();
        incomplete.push(b"{}");
        incomplete.set_incomplete("\"one\" timed out");
        assert_eq!(incomplete.clone().into_array().map_err(|e| e.code()), Err(Code::Degraded));
        assert_eq!(incomplete.incomplete(), Some("\"one\" timed out"));
        assert_eq!(incomplete.into_json().0, br#"{"locks":[{}],"unreadable":[],"incomplete":"\"one\" timed out"}"#);
        assert_eq!(Listing::default().into_json().0, br#"{"locks":[],"unreadable":[]}"#);
    }
}
