//! Random runs of scripts: every one of the library's, with arguments that make sense and some that do not, and small ones that try
//! Redis's conversions.

use super::super::scripts;
use super::random_commands::Chance;

/// Stands before each script: `TIME` answers what [`CLOCK`] holds.
const TIME_FROM_A_KEY: &str = "local real = redis local function timed(f) return function(name, ...) if name == 'TIME' then \
local time = real.call('GET', 'differential:clock') return {string.sub(time, 1, -7), string.sub(time, -6)} end \
if name == 'INFO' then return 'master_replid:abc\\r\\n' end return f(name, ...) end \
end local redis = {call = timed(real.call), pcall = timed(real.pcall), sha1hex = real.sha1hex, error_reply = real.error_reply, \
status_reply = real.status_reply} ";

/// What stock Atlantis runs (v0.47, `unlockIfOwnedByPullScript`).
pub(crate) const STOCK_UNLOCK: &str = r#"local value = redis.call("GET", KEYS[1])
if not value then
  return nil
end

local ok, lock = pcall(cjson.decode, value)
if not ok then
  return redis.error_reply("failed to deserialize current lock")
end

if not lock["Pull"] or tonumber(lock["Pull"]["Num"]) ~= tonumber(ARGV[1]) then
  return nil
end

redis.call("DEL", KEYS[1])
return value
"#;

/// Shows all that `cjson.decode` makes of a text.
const SHOW: &str = r"local function show(value)
    if value == cjson.null then return 'null' end
    if type(value) == 'number' then return string.format('%.17g', value) end
    if type(value) == 'string' then return '<' .. value .. '>' end
    if type(value) ~= 'table' then return tostring(value) end
    local parts = {}
    for key, inner in pairs(value) do table.insert(parts, show(key) .. '=' .. show(inner)) end
    table.sort(parts)
    return '{' .. table.concat(parts, ' ') .. '}'
end
local ok, value = pcall(cjson.decode, ARGV[1])
return {tostring(ok), ok and show(value) or value}";

/// Conversions, errors, and what a script must not do.
const SMALL: &[&str] = &[
    "return {1, 2.7, -2.7, 'a', true, false, 3}",
    "return {1, nil, 3}",
    "return {ok = 'fine'}",
    "return {err = 'BAD thing'}",
    "return redis.error_reply('single')",
    "return redis.error_reply('-CODE of three words')",
    "return redis.status_reply('GOOD')",
    "return {1, {2, {3, 'x'}}, {}}",
    "return redis.call('TYPE', KEYS[1])",
    "return redis.call('TYPE', KEYS[1]).ok",
    "return redis.pcall('HGET', KEYS[1], 'a')",
    "return redis.pcall('HGET', KEYS[1], 'a').err",
    "return redis.call('GET', KEYS[1])",
    "redis.call('SET', KEYS[1], ARGV[1]) redis.call('HSET', KEYS[1], 'a', 'b') return 1",
    "redis.call('DEL', KEYS[1]) return redis.call('SET', KEYS[1], ARGV[1])",
    "return redis.pcall('SET', KEYS[1], ARGV[1])",
    "return redis.call('SET', KEYS[1], 1.5)",
    "redis.call('SET', KEYS[1], 0.1) return redis.call('GET', KEYS[1])",
    "redis.call('SET', KEYS[1], 2^60) return redis.call('GET', KEYS[1])",
    "redis.call('SET', KEYS[1], -0) return redis.call('GET', KEYS[1])",
    "return redis.call('nope', KEYS[1])",
    "return redis.call('GET')",
    "return redis.call('GET', {})",
    "return redis.call('GET', true)",
    "return redis.call()",
    "leaked = 1",
    "return unheard_of",
    "return nil .. 'x'",
    "local x = nil\nreturn x + 1",
    "error('thrown')",
    "error({err = 'THROWN table'})",
    "return type(cjson.decode(ARGV[1]))",
    "return redis.sha1hex(ARGV[1])",
    "return redis.sha1hex()",
    "return tonumber(ARGV[1])",
    "return {KEYS[1], ARGV[1], #KEYS, #ARGV}",
    "return redis.call('MGET', KEYS[1], KEYS[1])",
    "return #redis.call('MGET', KEYS[1], KEYS[1])",
    "return redis.call('HMGET', KEYS[1], 'a', 'q')[1] == false",
    "return redis.call('ZSCORE', KEYS[1], 'a')",
    "return math.floor(7.9) + select('#', unpack({1, 2}))",
    "return string.format('%.0f %s', 1.8e15 + 1, string.match('ab 12,3', '^(%S-) (%d+)'))",
    "if true then return 'x' en",
];

/// A script's name and text, its keys and its arguments.
pub(super) type Script = (&'static str, String, Vec<Vec<u8>>, Vec<Vec<u8>>);

impl Chance {
    /// A lock, its side hash, and often the index.
    fn lock_keys(&mut self) -> Vec<Vec<u8>> {
        if self.percent(4) {
            return (0..2 + self.below(2)).map(|_| self.any_key().into_bytes()).collect();
        }
        let lock = self.lock();
        let mut keys = vec![lock.clone(), format!("{{{lock}}}:atlock")];
        if self.percent(70) {
            keys.push("atlock:locks".to_owned());
        }
        keys.into_iter().map(String::into_bytes).collect()
    }

    fn request(&mut self) -> String {
        let number = self.below(14);
        let suffix = self.one_of(&["", "", "", "-again", "-back"]);
        format!("{:016x}{number:016x}{suffix}", 0xabcd_u64)
    }

    fn head(&mut self) -> Vec<Vec<u8>> {
        let not_after = match self.below(20) {
            0 => self.now - 1,
            1 => self.now,
            _ => self.now + 5_000_000,
        };
        let sign = if self.percent(60) { "-" } else { "" };
        let first_sent = format!("{sign}{}", self.now - self.below(60_000_000));
        [self.request(), not_after.to_string(), first_sent].map(String::into_bytes).to_vec()
    }

    fn token(&mut self) -> String {
        let near = self.now + self.below(3) * 30_000_000;
        match self.below(6) {
            0 | 1 => "0".to_owned(),
            2 => "7".to_owned(),
            3 => (self.now - self.below(60_000_001)).to_string(),
            4 if self.percent(10) => "x".to_owned(),
            _ => near.to_string(),
        }
    }

    fn member(&mut self) -> Vec<u8> {
        self.one_of(&["a", "b", "a", ""]).as_bytes().to_vec()
    }

    fn pull_index(&mut self) -> Vec<u8> {
        self.one_of(&["atlock:pull:acme/infra#1", "atlock:pull:acme/infra#2", "k", ""]).as_bytes().to_vec()
    }

    /// A script, its keys and its arguments.
    pub(super) fn script(&mut self) -> Script {
        let (mut keys, mut args) = (self.lock_keys(), self.head());
        let (name, script): (_, &scripts::Script) = match self.below(28) {
            0..6 => {
                args.extend([self.value(), b"here".to_vec(), self.member(), self.pull_index(), self.token().into_bytes()]);
                args.push(self.one_of(&["", "", "1 h", "2 h", "2 "]).as_bytes().to_vec());
                ("GRANT", &scripts::GRANT)
            }
            6..12 => {
                args.extend(self.release());
                ("RELEASE", &scripts::RELEASE)
            }
            12..15 => {
                let flag = |is: bool| if is { b"1".to_vec() } else { b"0".to_vec() };
                args.extend([
                    flag(self.percent(50)),
                    self.value(),
                    flag(self.percent(70)),
                    self.value(),
                    self.token().into_bytes(),
                ]);
                args.extend([b"there".to_vec(), self.member(), self.pull_index(), self.pull_index()]);
                args.push(self.one_of(&["", "", "-"]).as_bytes().to_vec());
                ("PUT", &scripts::PUT)
            }
            15 => {
                keys = vec![b"h::r::1".to_vec()];
                let expected = self.one_of(&["any", "absent", "bytes"]).as_bytes().to_vec();
                let action = self.one_of(&["set", "set", "delete"]).as_bytes().to_vec();
                let values = [self.one_of(&["1", "2"]), self.one_of(&["1", "2"])].map(|value| value.as_bytes().to_vec());
                args.extend([expected, values[0].clone(), action, values[1].clone()]);
                ("SWAP_DOCUMENT", &scripts::SWAP_DOCUMENT)
            }
            16 => {
                keys = vec![b"atlock:instances".to_vec()];
                let agreed = if self.percent(50) { "0".to_owned() } else { (self.now - self.below(9_000_000)).to_string() };
                let lease = self.one_of(&["60000000", "1000000"]).as_bytes().to_vec();
                let (who, stays) = (self.one_of(&["here", "there", "a"]), self.one_of(&["1", "1", "0"]));
                let last = if self.percent(50) { 0 } else { self.now - self.below(3) * 1_000_000 };
                args.extend([
                    who.as_bytes().to_vec(),
                    lease,
                    stays.as_bytes().to_vec(),
                    agreed.into_bytes(),
                    last.to_string().into_bytes(),
                    self.one_of(&["abc", "abc", "def"]).as_bytes().to_vec(),
                ]);
                ("ANNOUNCE", &scripts::ANNOUNCE)
            }
            _ => return self.other_script(),
        };
        (name, format!("{TIME_FROM_A_KEY}{}", script.text()), keys, args)
    }

    /// One that does not remember requests.
    fn other_script(&mut self) -> Script {
        let (mut keys, mut args) = (self.lock_keys(), Vec::new());
        let (name, script): (_, &scripts::Script) = match self.below(13) {
            0 => {
                keys.truncate(2);
                if self.percent(50) {
                    keys.push(b"atlock:instances".to_vec());
                    args = self.last_here();
                }
                ("READ", &scripts::READ)
            }
            1 => {
                keys.truncate(2);
                ("LOOK", &scripts::LOOK)
            }
            2 => {
                keys = vec![b"atlock:locks".to_vec()];
                args =
                    vec![(self.now + 1_000_000 - self.below(1_100_000)).to_string().into_bytes(), self.member(), self.member()];
                ("INDEX_ADD", &scripts::INDEX_ADD)
            }
            3 => {
                keys = vec![b"atlock:locks".to_vec()];
                let stamp = |chance: &mut Chance| chance.one_of(&["1", "0.1", "1799999999000001", "x"]).as_bytes().to_vec();
                args = vec![self.now.to_string().into_bytes(), self.member(), stamp(self), self.member(), stamp(self)];
                ("INDEX_TRIM", &scripts::INDEX_TRIM)
            }
            4 => {
                keys = ["pr/a", "{pr/a}:atlock", "pr/b", "{pr/b}:atlock"].map(|key| key.as_bytes().to_vec()).to_vec();
                ("END_ORPHANS", &scripts::END_ORPHANS)
            }
            5 => {
                keys = vec![self.lock().into_bytes(), self.pull_index()];
                args = vec![self.value(), self.member()];
                ("INDEX_FORGET", &scripts::INDEX_FORGET)
            }
            6 => {
                keys = vec![self.lock().into_bytes(), b"atlock:locks".to_vec(), self.pull_index()];
                args = vec![self.value(), self.member()];
                ("INDEX_PULL", &scripts::INDEX_PULL)
            }
            7 => {
                keys = vec![self.lock().into_bytes(), self.lock().into_bytes()];
                args = vec![self.value()];
                ("MOVE", &scripts::MOVE)
            }
            8 => {
                args = vec![self.value()];
                ("DELETE_IF", &scripts::DELETE_IF)
            }
            9 => {
                keys = vec![b"probe".to_vec(), self.any_key().into_bytes()];
                ("PROBE", &scripts::PROBE)
            }
            10 => {
                let revision = self.one_of(&["5", "6", "7"]).as_bytes().to_vec();
                args = vec![revision, self.one_of(&["", "closed", "1 h", "2 "]).as_bytes().to_vec()];
                ("GATE", &scripts::GATE)
            }
            11 => {
                keys = vec![b"atlock:instances".to_vec()];
                args = self.last_here();
                ("HERE", &scripts::HERE)
            }
            _ => return self.small(),
        };
        (name, format!("{TIME_FROM_A_KEY}{}", script.text()), keys, args)
    }

    /// An instance, and when it was here last.
    fn last_here(&mut self) -> Vec<Vec<u8>> {
        let who = self.one_of(&["here", "there", "a"]).as_bytes().to_vec();
        vec![who, (self.now - self.below(3) * 1_000_000).to_string().into_bytes()]
    }

    fn release(&mut self) -> Vec<Vec<u8>> {
        let text = |text: &str| text.as_bytes().to_vec();
        let num = self.one_of(&["1", "2", ""]);
        let guard = match self.below(6) {
            0 => vec![text(""), text(""), text(""), text(""), text(""), text(num)],
            1 => vec![text("repo"), text("acme/infra"), text(""), text(""), text(""), text(num)],
            2 => vec![text("fields"), text("acme/infra"), text("."), text("default"), text(""), text(num)],
            3 => vec![text("is"), self.value(), text(""), text(""), text(""), text("")],
            4 => {
                vec![text("holder"), format!("here {}", self.request()).into_bytes(), self.value(), text(""), text(""), text("")]
            }
            _ => vec![text("raw"), text(""), text(""), text(""), text(""), text("")],
        };
        let index = if guard[0] == b"is" { self.pull_index() } else { text("atlock:pull:") };
        let is_project = self.one_of(&["1", "1", "1", "0"]);
        // Enough for all credentials, for some, for none.
        let length: u8 = match num {
            "1" => 40,
            "2" => 2,
            _ => 0,
        };
        let pad = (0..length).map(|nth| nth.wrapping_mul(37)).collect();
        [guard, vec![text(is_project), self.member(), index, pad]].concat()
    }

    fn small(&mut self) -> Script {
        let text = match self.below(4) {
            0 => SHOW,
            1 => STOCK_UNLOCK,
            _ => self.one_of(SMALL),
        };
        let arg = if text == STOCK_UNLOCK { self.one_of(&["1", "2"]).as_bytes().to_vec() } else { self.value() };
        ("small", format!("{TIME_FROM_A_KEY}{text}"), vec![self.any_key().into_bytes()], vec![arg])
    }
}
