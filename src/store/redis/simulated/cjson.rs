//! `cjson.decode` as in Redis: what it takes that is no JSON (numbers as C reads them, control characters in texts, whatever follows a
//! zero byte), what it refuses, and how it says so.

use mlua::{Lua, Value as LuaValue};

use super::numbers::number_prefix;

const MAX_DEPTH: usize = 1000;

/// Whether it is JSON, and the value, or what is wrong.
pub(super) fn decode(lua: &Lua, text: &[u8]) -> mlua::Result<(bool, LuaValue)> {
    let mut parser = Parser { lua, text, at: 0, depth: 0 };
    match parser.whole() {
        Ok(value) => Ok((true, value)),
        Err(text) => Ok((false, LuaValue::String(lua.create_string(text)?))),
    }
}

struct Parser<'a> {
    lua: &'a Lua,
    text: &'a [u8],
    at: usize,
    depth: usize,
}

enum Token {
    /// One of `{}[]:,`.
    Sign(u8),
    Text(Vec<u8>),
    Number(f64),
    Boolean(bool),
    Null,
    End,
    Wrong(&'static str),
}

impl Token {
    fn name(&self) -> &'static str {
        match self {
            Token::Sign(b'{') => "T_OBJ_BEGIN",
            Token::Sign(b'}') => "T_OBJ_END",
            Token::Sign(b'[') => "T_ARR_BEGIN",
            Token::Sign(b']') => "T_ARR_END",
            Token::Sign(b':') => "T_COLON",
            Token::Sign(_) => "T_COMMA",
            Token::Text(_) => "T_STRING",
            Token::Number(_) => "T_NUMBER",
            Token::Boolean(_) => "T_BOOLEAN",
            Token::Null => "T_NULL",
            Token::End => "T_END",
            Token::Wrong(what) => what,
        }
    }
}

/// A token, and where it begins.
type Placed = (Token, usize);

impl Parser<'_> {
    fn whole(&mut self) -> Result<LuaValue, String> {
        if self.text.len() >= 2 && self.text[..2].contains(&0) {
            return Err("JSON parser does not support UTF-16 or UTF-32".to_owned());
        }
        let first = self.next();
        let value = self.value(first)?;
        match self.next() {
            (Token::End, _) => Ok(value),
            other => Err(expected("the end", &other)),
        }
    }

    fn value(&mut self, token: Placed) -> Result<LuaValue, String> {
        match token.0 {
            Token::Text(text) => self.string(&text),
            Token::Number(number) => Ok(LuaValue::Number(number)),
            Token::Boolean(boolean) => Ok(LuaValue::Boolean(boolean)),
            Token::Null => Ok(LuaValue::NULL),
            Token::Sign(b'{') => self.nested(Parser::object),
            Token::Sign(b'[') => self.nested(Parser::array),
            _ => Err(expected("value", &token)),
        }
    }

    fn string(&self, text: &[u8]) -> Result<LuaValue, String> {
        self.lua.create_string(text).map(LuaValue::String).map_err(|e| e.to_string())
    }

    fn nested(&mut self, inside: fn(&mut Self, &mlua::Table) -> Result<(), String>) -> Result<LuaValue, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("Found too many nested data structures ({}) at character {}", self.depth, self.at));
        }
        let table = self.lua.create_table().map_err(|e| e.to_string())?;
        inside(self, &table)?;
        self.depth -= 1;
        Ok(LuaValue::Table(table))
    }

    fn object(&mut self, table: &mlua::Table) -> Result<(), String> {
        let mut token = self.next();
        if matches!(token.0, Token::Sign(b'}')) {
            return Ok(());
        }
        loop {
            let Token::Text(key) = &token.0 else { return Err(expected("object key string", &token)) };
            let key = self.string(key)?;
            match self.next() {
                (Token::Sign(b':'), _) => {}
                other => return Err(expected("colon", &other)),
            }
            let next = self.next();
            let value = self.value(next)?;
            table.raw_set(key, value).map_err(|e| e.to_string())?;
            match self.next() {
                (Token::Sign(b'}'), _) => return Ok(()),
                (Token::Sign(b','), _) => token = self.next(),
                other => return Err(expected("comma or object end", &other)),
            }
        }
    }

    fn array(&mut self, table: &mlua::Table) -> Result<(), String> {
        let mut token = self.next();
        if matches!(token.0, Token::Sign(b']')) {
            return Ok(());
        }
        for index in 1.. {
            let value = self.value(token)?;
            table.raw_set(index, value).map_err(|e| e.to_string())?;
            match self.next() {
                (Token::Sign(b']'), _) => return Ok(()),
                (Token::Sign(b','), _) => token = self.next(),
                other => return Err(expected("comma or array end", &other)),
            }
        }
        Ok(())
    }

    /// The byte so far ahead; 0 behind the end.
    fn byte(&self, ahead: usize) -> u8 {
        self.text.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn next(&mut self) -> Placed {
        while matches!(self.byte(0), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
        let start = self.at;
        let token = match self.byte(0) {
            0 => Token::End,
            sign @ (b'{' | b'}' | b'[' | b']' | b':' | b',') => {
                self.at += 1;
                Token::Sign(sign)
            }
            b'"' => return self.text_token(start),
            b'-' | b'0'..=b'9' => self.number(),
            _ if self.takes(b"true") => Token::Boolean(true),
            _ if self.takes(b"false") => Token::Boolean(false),
            _ if self.takes(b"null") => Token::Null,
            b'+' => self.number(),
            b'i' | b'I' | b'n' | b'N' if self.is_no_finite_number() => self.number(),
            _ => Token::Wrong("invalid token"),
        };
        (token, start)
    }

    fn takes(&mut self, word: &[u8]) -> bool {
        let is_it = self.text.get(self.at..).is_some_and(|rest| rest.starts_with(word));
        self.at += if is_it { word.len() } else { 0 };
        is_it
    }

    fn is_no_finite_number(&self) -> bool {
        let word = self.text.get(self.at..self.at + 3).unwrap_or_default();
        word.eq_ignore_ascii_case(b"inf") || word.eq_ignore_ascii_case(b"nan")
    }

    fn number(&mut self) -> Token {
        match number_prefix(&self.text[self.at..]) {
            Some((number, length)) => {
                self.at += length;
                Token::Number(number)
            }
            None => Token::Wrong("invalid number"),
        }
    }

    /// A text; what is wrong with one is told with the place where it is wrong.
    fn text_token(&mut self, start: usize) -> Placed {
        let mut text = Vec::new();
        self.at += 1;
        loop {
            match self.byte(0) {
                b'"' => break,
                0 => return (Token::Wrong("unexpected end of string"), self.at),
                b'\\' => match self.escape(&mut text) {
                    Ok(length) => self.at += length,
                    Err(what) => return (Token::Wrong(what), self.at),
                },
                byte => {
                    text.push(byte);
                    self.at += 1;
                }
            }
        }
        self.at += 1;
        (Token::Text(text), start)
    }

    /// Reads an escape, and says how long it is.
    fn escape(&self, text: &mut Vec<u8>) -> Result<usize, &'static str> {
        text.push(match self.byte(1) {
            byte @ (b'"' | b'\\' | b'/') => byte,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let (letter, length) = self.unicode().ok_or("invalid unicode escape code")?;
                text.extend(letter.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(length);
            }
            _ => return Err("invalid escape code"),
        });
        Ok(2)
    }

    fn unicode(&self) -> Option<(char, usize)> {
        let first = self.four_digits(2)?;
        if !(0xd800..0xe000).contains(&first) {
            return Some((char::from_u32(first)?, 6));
        }
        if first & 0x400 != 0 || (self.byte(6), self.byte(7)) != (b'\\', b'u') {
            return None;
        }
        let second = self.four_digits(8).filter(|second| second & 0xfc00 == 0xdc00)?;
        Some((char::from_u32((((first & 0x3ff) << 10) | (second & 0x3ff)) + 0x1_0000)?, 12))
    }

    fn four_digits(&self, ahead: usize) -> Option<u32> {
        (0..4).try_fold(0, |number, nth| Some(number * 16 + char::from(self.byte(ahead + nth)).to_digit(16)?))
    }
}

fn expected(what: &str, (token, at): &Placed) -> String {
    format!("Expected {what} but found {} at character {}", token.name(), at + 1)
}
