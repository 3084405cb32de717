//! Random commands for the differential test: plain ones on a few keys, and scripts (`random_scripts.rs`).

use super::lua::sha1;

/// The key that holds the moment that scripts see.
pub(super) const CLOCK: &[u8] = b"differential:clock";

const SCRIPT: &[u8] = b"return 1";
const BROKEN: &[u8] = b"return retur 1";

/// A command to both servers.
pub(super) struct Step {
    pub(super) command: Vec<Vec<u8>>,
    /// Of a script: its name, and its text.
    pub(super) script: Option<(&'static str, String)>,
    /// What a script's clock shows, microseconds.
    pub(super) now: u64,
    pub(super) is_full: bool,
}

/// `SplitMix64`, the moment, and values that were used before: scripts compare.
pub(super) struct Chance {
    state: u64,
    pub(super) now: u64,
    used: Vec<Vec<u8>>,
}

impl Chance {
    pub(super) fn new(seed: u64) -> Chance {
        Chance { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5bd1_e995, now: 1_800_000_000_000_000, used: Vec::new() }
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    pub(super) fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    pub(super) fn one_of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.index(all.len())]
    }

    pub(super) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("is small")
    }

    pub(super) fn step(&mut self) -> Step {
        match self.below(100) {
            0..2 => self.now += 7_200_000_000,
            2..4 => self.now -= 90_000_000,
            _ => self.now += self.below(4_000_000),
        }
        let is_full = self.percent(6);
        if self.percent(25) {
            return Step { command: self.plain(), script: None, now: self.now, is_full };
        }
        let (name, text, keys, args) = self.script();
        let by_hash = self.percent(80);
        let named = if by_hash { sha1(text.as_bytes()) } else { text.clone() };
        let how: &[u8] = if by_hash { b"EVALSHA" } else { b"EVAL" };
        let mut command = vec![how.to_vec(), named.into_bytes(), keys.len().to_string().into_bytes()];
        command.extend(keys);
        command.extend(args);
        Step { command, script: Some((name, text)), now: self.now, is_full }
    }

    fn plain(&mut self) -> Vec<Vec<u8>> {
        let text = self.one_of(&[
            "GET K",
            "SET K V",
            "SET K V NX",
            "SET K V XX PX 90000",
            "SET K V KEEPTTL",
            "SET K V PX 0",
            "SET K V PX x",
            "SET K V NX XX",
            "SETNX K V",
            "DEL K",
            "DEL K K",
            "EXISTS K K",
            "MGET K K K",
            "TYPE K",
            "PTTL K",
            "PERSIST K",
            "PEXPIRE K 90000",
            "PEXPIRE K 90000",
            "PEXPIRE K 0",
            "PEXPIRE K -5",
            "PEXPIRE K x",
            "HSET K F W",
            "HSET K F W F W",
            "HSET K F",
            "HGET K F",
            "HMGET K F F nope",
            "HGETALL K",
            "HLEN K",
            "STRLEN K",
            "HDEL K F",
            "HDEL K F F",
            "SADD K M",
            "SADD K M M",
            "SREM K M",
            "SREM K M nope",
            "SMEMBERS K",
            "ZADD K S M",
            "ZADD K S M S M",
            "ZADD K x M",
            "ZADD K S M S",
            "ZREM K M",
            "ZSCORE K M",
            "ZRANGE K 0 -1",
            "ZRANGE K -2 5 WITHSCORES",
            "ZRANGE K -inf +inf BYSCORE LIMIT 0 2 WITHSCORES",
            "ZRANGE K S (S BYSCORE WITHSCORES",
            "ZRANGE K (S +inf BYSCORE LIMIT 1 -1",
            "ZRANGE K x 1",
            "ZRANGE K 0 1 LIMIT 0 1",
            "KEYS *",
            "KEYS pr/*",
            "KEYS [a-h]*",
            "SCAN 0 MATCH pr* COUNT 1000",
            "SCAN 0 MATCH *::*::* COUNT 1000",
            "SCAN x",
            "DBSIZE",
            "PING",
            "PING text",
            "GET",
            "ZADD K",
            "EVALSHA 0000000000000000000000000000000000000000 0",
            "EVAL X 0",
            "EVALSHA HX 0",
            "SCRIPT LOAD X",
            "EVAL B 0",
            "EVALSHA HB 0",
            "SCRIPT LOAD B",
            "EVAL X 2 K",
            "EVAL X -1 K",
            "EVAL X y",
            "WAIT 0 1",
        ]);
        let words: Vec<&str> = text.split(' ').collect();
        words.into_iter().map(|word| self.word(word)).collect()
    }

    /// What stands for a capital letter.
    fn word(&mut self, word: &str) -> Vec<u8> {
        match word {
            "K" => self.any_key().into_bytes(),
            "V" => self.value(),
            "F" => self.one_of(&["a", "q", "token", "of", "holder", "here", "there"]).as_bytes().to_vec(),
            "W" => self.one_of(&["1", "1799999999000000", "-1799999999000000 5", "x", "", "\u{e4}"]).as_bytes().to_vec(),
            "M" => self.one_of(&["a", "b", "c", ""]).as_bytes().to_vec(),
            "S" => self.one_of(&["1", "2", "-1.5", "0.1", "1e20", "1799999999000001"]).as_bytes().to_vec(),
            "(S" => b"(2".to_vec(),
            "X" => SCRIPT.to_vec(),
            "B" => BROKEN.to_vec(),
            "HX" => sha1(SCRIPT).into_bytes(),
            "HB" => sha1(BROKEN).into_bytes(),
            other => other.as_bytes().to_vec(),
        }
    }

    pub(super) fn lock(&mut self) -> String {
        self.one_of(&["pr/a", "pr/a", "pr/a", "pr/b", "global/apply/lock"]).to_owned()
    }

    pub(super) fn any_key(&mut self) -> String {
        let others = ["atlock:locks", "atlock:pull:acme/infra#1", "atlock:pull:acme/infra#2", "atlock:instances", "h::r::1", "k"];
        match self.below(3) {
            0 => self.lock(),
            1 => format!("{{{}}}:atlock", self.lock()),
            _ => self.one_of(&others).to_owned(),
        }
    }

    fn json(&mut self) -> Vec<u8> {
        let num = self.one_of(&[
            "1",
            "1",
            "2",
            "2",
            "1.0",
            "1.5",
            "1e0",
            "9007199254740993",
            "\"1\"",
            "null",
            "0x1",
            "-1",
            "NaN",
            "01",
        ]);
        let path = self.one_of(&[".", ".", "a/b", "\\u00e4\\ud83d\\ude00", "\u{e4}", "\\ud83d", "\\x", "\\u0000", "a\\\"b"]);
        let name = self.one_of(&["", "", ",\"ProjectName\":\"p\"", ",\"ProjectName\":null", ",\"ProjectName\":[1,{}]"]);
        let tail = self.one_of(&[
            "",
            "",
            ",\"URL\":\"https://u:p@ss@h/r?x=a@b\"",
            ",\"Later\":{\"v\":[null,true,-1.5e-3]}",
            ",",
            ",\"Pull\":{\"Num\":2}",
            ",\"x\":tru",
        ]);
        format!(
            r#"{{"Project":{{"RepoFullName":"acme/infra","Path":"{path}"{name}}},"Pull":{{"Num":{num}}},"Workspace":"default"{tail}}}"#
        )
        .into_bytes()
    }

    pub(super) fn value(&mut self) -> Vec<u8> {
        if !self.used.is_empty() && self.percent(60) {
            let nth = self.index(self.used.len());
            return self.used[nth].clone();
        }
        let value = self.new_value();
        self.used.push(value.clone());
        if self.used.len() > 3 {
            self.used.remove(0);
        }
        value
    }

    fn new_value(&mut self) -> Vec<u8> {
        match self.below(10) {
            0 => self
                .one_of(&[
                    "",
                    "{}",
                    "[]",
                    "x",
                    "1",
                    "{",
                    "[1,2,]",
                    "null",
                    " \"a\\tb\" ",
                    "Infinity",
                    "+5",
                    "-",
                    "-.5",
                    "[0x]",
                    "\u{1}",
                ])
                .as_bytes()
                .to_vec(),
            1 => {
                let depth = 996 + self.index(8);
                [vec![b'['; depth], vec![b']'; depth]].concat()
            }
            2 => self
                .one_of::<[u8]>(&[b"{}\0x", b"\0", b"a\0", b"\xff\xfe", b"{\"a\":\"\xff\"}", b"[\"\x01\n\"]", b"{}{}"])
                .to_vec(),
            3 => {
                let mut json = self.json();
                for _ in 0..=self.below(2) {
                    let at = self.index(json.len());
                    json[at] = u8::try_from(self.below(256)).expect("is small");
                }
                json
            }
            _ => self.json(),
        }
    }
}
