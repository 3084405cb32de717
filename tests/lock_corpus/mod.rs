//! The corpus of values on which the library, the scripts in Redis, the reader in Go and Atlantis agree: `tests/locks.jsonl`.

use serde::Deserialize;

/// One line: a text, in hexadecimal where it is not UTF-8, and whether it is a lock.
#[derive(Deserialize)]
pub struct Case {
    pub name: String,
    pub lock: bool,
    /// Which lock Atlantis's decoding takes it for, and whose it is: `key#pull`. Empty where Atlantis refuses it. A text that is no
    /// lock can have one: the library takes less than Atlantis does.
    #[serde(default)]
    pub holder: String,
    #[serde(default)]
    json: String,
    #[serde(default)]
    hex: String,
}

impl Case {
    pub fn text(&self) -> Vec<u8> {
        let byte = |at: usize| u8::from_str_radix(&self.hex[at..at + 2], 16).expect("is hexadecimal");
        if self.hex.is_empty() { self.json.clone().into_bytes() } else { (0..self.hex.len()).step_by(2).map(byte).collect() }
    }
}

pub fn corpus() -> Vec<Case> {
    include_str!("../locks.jsonl").lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}
