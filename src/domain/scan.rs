//! Reads JSON once, from its first byte to its last, and keeps nothing of it.
//!
//! Invariant: what the scanner accepts is JSON (RFC 8259) that every reader of a lock takes: valid UTF-8, no escape of half a surrogate
//! pair, also where nobody looks, at most [`DEPTH`] levels of objects and arrays. Lua stops at 1,000 levels and Go at 10,000;
//! Go and Lua make different texts of half a pair. A text of any bytes ends in a [`Fault`] or in a value, never in a panic.

use std::borrow::Cow;
use std::fmt;

/// How deep objects and arrays may lie in each other; the outermost is the first level.
pub(super) const DEPTH: u8 = 128;

/// Where a text is not what it has to be, and what is wrong there. It repeats nothing of the text, which may hold a secret.
#[derive(Debug)]
pub(super) struct Fault {
    /// The member that is of another type, as a path; empty where the text is no JSON at all.
    pub(super) member: String,
    pub(super) cause: &'static str,
    pub(super) at: usize,
}

impl Fault {
    /// The same, in the member `parent` of an object.
    pub(super) fn below(mut self, parent: &str) -> Fault {
        if !self.member.is_empty() {
            self.member = format!("{parent}.{}", self.member);
        }
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let space = if self.member.is_empty() { "" } else { " " };
        write!(f, "{}{space}{}", self.member, self.cause)
    }
}

pub(super) type Scan<T> = Result<T, Fault>;

/// A string in a text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<'a> {
    quoted: &'a str,
    escaped: bool,
}

impl<'a> Text<'a> {
    /// What stands between the quotes, if it stands for itself.
    pub(super) fn plain(&self) -> Option<&'a str> {
        (!self.escaped).then(|| &self.quoted[1..self.quoted.len() - 1])
    }

    /// How many bytes it takes, with its quotes.
    pub(super) fn length(&self) -> usize {
        self.quoted.len()
    }

    /// What the string means. Allocates only where there are escapes.
    pub(super) fn meaning(&self) -> Cow<'a, str> {
        match self.plain() {
            Some(plain) => Cow::Borrowed(plain),
            // The scanner accepts no string that serde_json refuses.
            None => Cow::Owned(serde_json::from_str(self.quoted).unwrap_or_default()),
        }
    }
}

/// A place in a text.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    depth: u8,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(json: &'a [u8]) -> Scan<Scanner<'a>> {
        let text = std::str::from_utf8(json).map_err(|e| Fault {
            member: String::new(),
            cause: "the text is not UTF-8",
            at: e.valid_up_to(),
        })?;
        Ok(Scanner { text, at: 0, depth: 0 })
    }

    /// A fault `back` bytes before this place.
    pub(super) fn fault<T>(&self, cause: &'static str, back: usize) -> Scan<T> {
        self.fault_of("", cause, back)
    }

    /// The same, of a member that may be any JSON, but not this.
    pub(super) fn fault_of<T>(&self, member: &str, cause: &'static str, back: usize) -> Scan<T> {
        Err(Fault { member: member.to_owned(), cause, at: self.at.saturating_sub(back) })
    }

    /// The first byte of what comes next.
    pub(super) fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.byte() {
            self.at += 1;
        }
        self.byte()
    }

    /// Nothing else comes.
    pub(super) fn end(&mut self) -> Scan<()> {
        match self.peek() {
            None => Ok(()),
            Some(_) => self.fault("something stands behind the value", 0),
        }
    }

    /// Any value.
    pub(super) fn value(&mut self) -> Scan<()> {
        match self.peek() {
            Some(b'{') => self.object(|scanner, _| scanner.value()),
            Some(b'[') => self.array(Scanner::value),
            Some(b'"') => self.text().map(drop),
            Some(b'-' | b'0'..=b'9') => self.number().map(drop),
            Some(b'n') => self.word("null"),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(_) => self.fault("there is no value", 0),
            None => self.fault("the text ends too early", 0),
        }
    }

    /// An object; `member` gets each name, and reads its value.
    pub(super) fn object(&mut self, mut member: impl FnMut(&mut Self, Text<'a>) -> Scan<()>) -> Scan<()> {
        self.list(b'}', |scanner| {
            if scanner.peek() != Some(b'"') {
                return scanner.fault("a member has no name", 0);
            }
            let name = scanner.text()?;
            if scanner.peek() != Some(b':') {
                return scanner.fault("a member's name has no colon behind it", 0);
            }
            scanner.at += 1;
            member(scanner, name)
        })
    }

    /// An array; `element` reads each value.
    pub(super) fn array(&mut self, element: impl FnMut(&mut Self) -> Scan<()>) -> Scan<()> {
        self.list(b']', element)
    }

    /// What stands between brackets, the opening one of which comes next.
    fn list(&mut self, close: u8, mut item: impl FnMut(&mut Self) -> Scan<()>) -> Scan<()> {
        if self.depth == DEPTH {
            return self.fault("objects and arrays lie in each other more than 128 levels deep", 0);
        }
        self.depth += 1;
        self.at += 1;
        if self.peek() != Some(close) {
            loop {
                item(self)?;
                match self.peek() {
                    Some(b',') => self.at += 1,
                    Some(next) if next == close => break,
                    _ => return self.fault("a comma or a closing bracket is missing", 0),
                }
            }
        }
        self.at += 1;
        self.depth -= 1;
        Ok(())
    }

    /// A string, whose opening quote comes next.
    pub(super) fn text(&mut self) -> Scan<Text<'a>> {
        let start = self.at;
        let mut escaped = false;
        self.at += 1;
        loop {
            self.at += ordinary(&self.text.as_bytes()[self.at..]);
            match self.byte() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return self.fault("a control character stands in a string", 0),
                None => return self.fault("the text ends in a string", 0),
            }
        }
        self.at += 1;
        Ok(Text { quoted: &self.text[start..self.at], escaped })
    }

    fn escape(&mut self) -> Scan<()> {
        self.at += 1;
        match self.byte() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 1;
                Ok(())
            }
            Some(b'u') => match self.code_unit()? {
                0xd800..=0xdbff if self.byte() == Some(b'\\') && self.ahead(1) == Some(b'u') => {
                    self.at += 1;
                    match self.code_unit()? {
                        0xdc00..=0xdfff => Ok(()),
                        _ => self.fault("an escape is half a surrogate pair", 12),
                    }
                }
                0xd800..=0xdfff => self.fault("an escape is half a surrogate pair", 6),
                _ => Ok(()),
            },
            _ => self.fault("there is no such escape", 1),
        }
    }

    /// The four digits of `\uXXXX`, whose `u` comes next.
    fn code_unit(&mut self) -> Scan<u32> {
        self.at += 1;
        let mut unit = 0;
        for _ in 0..4 {
            let Some(digit) = self.byte().and_then(|byte| char::from(byte).to_digit(16)) else {
                return self.fault("an escape has not four hexadecimal digits", 0);
            };
            unit = 16 * unit + digit;
            self.at += 1;
        }
        Ok(unit)
    }

    /// A number, whose first byte comes next.
    pub(super) fn number(&mut self) -> Scan<&'a str> {
        let start = self.at;
        if self.byte() == Some(b'-') {
            self.at += 1;
        }
        match self.byte() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.byte() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.byte() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(&self.text[start..self.at])
    }

    /// One digit or more.
    fn digits(&mut self) -> Scan<()> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.byte() {
            self.at += 1;
        }
        if self.at == start { self.fault("a number lacks a digit", 0) } else { Ok(()) }
    }

    /// Exactly these letters.
    pub(super) fn word(&mut self, word: &str) -> Scan<()> {
        if self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(());
        }
        self.fault("there is no value", 0)
    }

    fn byte(&self) -> Option<u8> {
        self.ahead(0)
    }

    fn ahead(&self, bytes: usize) -> Option<u8> {
        self.text.as_bytes().get(self.at + bytes).copied()
    }
}

/// How many bytes from the beginning mean just themselves in a string.
#[inline]
fn ordinary(text: &[u8]) -> usize {
    text.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn accepts(json: &[u8]) -> bool {
        Scanner::new(json).and_then(|mut scanner| scanner.value().and_then(|()| scanner.end())).is_ok()
    }

    #[test]
    fn depth_is_bounded() {
        for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
            let nested = |depth: usize| format!("{}1{}", open.repeat(depth), close.repeat(depth)).into_bytes();
            assert!(accepts(&nested(DEPTH.into())));
            assert!(!accepts(&nested(usize::from(DEPTH) + 1)));
            assert!(!accepts(open.repeat(1 << 20).as_bytes()));
        }
    }

    #[test]
    fn a_number_that_is_too_large_for_a_value_is_one() {
        assert!(accepts(b"1E+701") && accepts(b"[12.5E+7000]"));
        assert!(!accepts(b"[1E+701") && !accepts(b"1E+"));
    }

    #[test]
    fn brothers_in_an_array_are_not_deep() {
        assert!(accepts(format!("[{}[]]", "[],".repeat(1000)).as_bytes()));
    }

    /// Pieces of JSON, so that their sequences are often nearly JSON, and sometimes JSON.
    fn pieces() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            proptest::sample::select(vec![
                "{", "}", "[", "]", ",", ":", "\"", "\"a\":", "\"\"", "\"x\\n\"", "\\u00e9", "\\u12", "\\x", "\\\\", "\\\"", "ü",
                "null", "true", "false", "nul", "0", "-", "1", "12.5", ".", "e", "E+7", "-0", "01", " ", "\n", "\u{feff}", "\t",
                "\u{c}", "/", "\u{0}",
            ])
            .prop_map(|text| text.as_bytes().to_vec()),
            Just(vec![0xff]),
        ];
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        /// Beside serde_json, which knows every rule but those on surrogates and depth, that the pieces do not touch.
        #[test]
        fn accepts_what_serde_json_accepts(json in pieces(), bracketed: bool) {
            let json = if bracketed { [b"[".as_slice(), &json, b"]"].concat() } else { json };
            let expected = match serde_json::from_slice::<serde_json::Value>(&json) {
                Ok(_) => true,
                // A number too large for a value is JSON all the same. Who ignores values looks at everything else, but at no encoding.
                Err(e) if e.to_string().starts_with("number out of range") => {
                    serde_json::from_slice::<serde::de::IgnoredAny>(&json).is_ok() && std::str::from_utf8(&json).is_ok()
                }
                Err(_) => false,
            };
            prop_assert_eq!(accepts(&json), expected, "{}", String::from_utf8_lossy(&json));
        }

        #[test]
        fn strings_mean_what_serde_json_reads(units in proptest::collection::vec(prop_oneof![0_u16..0x80, 0xd7f0_u16..0xe010], 0..4), text: String) {
            let escaped: String = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();
            let json = format!("\"{escaped}{}\"", text.replace(['"', '\\'], "").replace(|c: char| c < ' ', ""));
            let expected = serde_json::from_str::<String>(&json).ok();
            let read = Scanner::new(json.as_bytes()).and_then(|mut scanner| scanner.text()).ok();
            prop_assert_eq!(read.map(|text| text.meaning().into_owned()), expected);
        }
    }
}
