//! The simulated server and a real one are sent the same random commands and scripts, and must answer the same and have the same.
//!
//! A seed repeats its commands exactly. `ATLOCK_DIFFERENTIAL_SEEDS=a..b` runs others than the usual ones.
//!
//! What differs and may: the order of sets, of large hashes and of key names; by how many milliseconds a key ends later; a script's
//! moment, which both are told by a key, for a real server's clock cannot be set.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use redis::{RedisError, RedisResult, Value};

use super::SimulatedRedis;
use super::random_commands::{CLOCK, Chance, Step};

const USUAL_SEEDS: std::ops::Range<u64> = 0..80;
const STEPS: u32 = 120;
/// Milliseconds by which the ends of keys may differ.
const SLACK: u64 = 5_000;

/// Starts a server, and kills it when who has the other end of the pipe is gone, however that ended.
const SERVER: &str = "redis-server \"$@\" & cat > /dev/null; kill -9 $!; wait";

/// A redis-server of this test's own. Dropped, it is killed.
struct Real {
    process: Child,
    connection: Option<redis::Connection>,
    _folder: tempfile::TempDir,
}

impl Real {
    fn start() -> Real {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("socket");
        let mut command = Command::new("sh");
        command.args(["-c", SERVER, "sh", "--port", "0", "--save", "", "--appendonly", "no"]);
        command.arg("--unixsocket").arg(&socket).arg("--dir").arg(folder.path());
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::inherit());
        let process = command.spawn().expect("a shell");
        let mut real = Real { process, connection: None, _folder: folder };
        real.connection = Some(connect(&socket));
        real
    }

    fn execute(&mut self, words: &[Vec<u8>]) -> RedisResult<Value> {
        let mut command = redis::Cmd::new();
        command.arg(words).query(self.connection.as_mut().expect("is connected"))
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

fn connect(socket: &Path) -> redis::Connection {
    let client = redis::Client::open(format!("redis+unix://{}", socket.display())).expect("an address");
    let give_up = Instant::now() + Duration::from_secs(20);
    loop {
        match client.get_connection() {
            Ok(connection) => return connection,
            Err(e) => assert!(Instant::now() < give_up, "redis-server does not start (scripts/prepare installs it): {e}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Both servers, and what both were sent.
struct Both<'a> {
    real: &'a mut Real,
    simulated: SimulatedRedis,
    seed: u64,
    /// How often each script answered what.
    met: &'a mut BTreeMap<(&'static str, String), u32>,
}

fn words(text: &str) -> Vec<Vec<u8>> {
    text.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

impl Both<'_> {
    /// Sends a command to both; what both answered.
    fn execute(&mut self, command: &[Vec<u8>]) -> RedisResult<Value> {
        let real = self.real.execute(command);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later").as_micros();
        let now = u64::try_from(now).expect("is not that late");
        let simulated = self.simulated.execute(command, now).extract_error();
        let is_same = match (&real, &simulated) {
            (Ok(real), Ok(simulated)) => is_same(command, real, simulated),
            (Err(real), Err(simulated)) => said(real) == said(simulated),
            _ => false,
        };
        assert!(is_same, "seed {}: {}\nreal      {real:?}\nsimulated {simulated:?}", self.seed, shown(command));
        real
    }

    fn set_full(&mut self, is_full: bool) {
        let limit = if is_full { "1" } else { "0" };
        self.real.execute(&words(&format!("CONFIG SET maxmemory {limit}"))).expect("is set");
        self.simulated.set_full(is_full);
    }

    fn step(&mut self, step: &Step) {
        self.execute(&[b"SET".to_vec(), CLOCK.to_vec(), step.now.to_string().into_bytes()]).expect("is set");
        if step.is_full {
            self.set_full(true);
        }
        let mut reply = self.execute(&step.command);
        if let Some((name, text)) = &step.script {
            if reply.as_ref().is_err_and(|e| e.code() == Some("NOSCRIPT")) {
                let mut whole = step.command.clone();
                whole[..2].clone_from_slice(&[b"EVAL".to_vec(), text.as_bytes().to_vec()]);
                reply = self.execute(&whole);
            }
            *self.met.entry((name, tag(&reply))).or_default() += 1;
        }
        if step.is_full {
            self.set_full(false);
        }
    }

    /// Everything that is there, asked by commands, each of which compares.
    fn compare_data(&mut self) {
        let keys = self.execute(&words("KEYS *")).expect("is asked");
        let Value::Array(keys) = keys else { panic!("{keys:?}") };
        for key in keys {
            let Value::BulkString(key) = key else { panic!("{key:?}") };
            let mut ask = |text: &str| {
                let mut command = words(text);
                command.insert(1, key.clone());
                self.execute(&command)
            };
            let kind = ask("TYPE").expect("is asked");
            let content = match &kind {
                Value::SimpleString(kind) if kind == "string" => ask("GET"),
                Value::SimpleString(kind) if kind == "hash" => ask("HGETALL"),
                Value::SimpleString(kind) if kind == "set" => ask("SMEMBERS"),
                _ => ask("ZRANGE 0 -1 WITHSCORES"),
            };
            content.expect("is asked");
            ask("PTTL").expect("is asked");
        }
    }
}

fn is_same(command: &[Vec<u8>], real: &Value, simulated: &Value) -> bool {
    let sorted = |value: &Value| {
        let Value::Array(values) = value else { return value.clone() };
        let at_once = if command[0] == b"HGETALL" { 2 } else { 1 };
        let mut parts: Vec<Value> = values.chunks(at_once).map(|part| Value::Array(part.to_vec())).collect();
        parts.sort_by_key(|part| format!("{part:?}"));
        Value::Array(parts)
    };
    match (command[0].as_slice(), real, simulated) {
        (b"PTTL", Value::Int(real), Value::Int(simulated)) if *real > 0 => real.abs_diff(*simulated) < SLACK,
        (b"SMEMBERS" | b"HGETALL" | b"KEYS", ..) => sorted(real) == sorted(simulated),
        (b"SCAN", Value::Array(real), Value::Array(simulated)) => {
            real[0] == simulated[0] && sorted(&real[1]) == sorted(&simulated[1])
        }
        _ => real == simulated,
    }
}

/// An answer's first word, or the error's.
fn tag(reply: &RedisResult<Value>) -> String {
    match reply {
        Ok(Value::Array(parts)) => match parts.first() {
            Some(Value::BulkString(tag)) if !tag.iter().all(u8::is_ascii_digit) => String::from_utf8_lossy(tag).into_owned(),
            _ => "array".to_owned(),
        },
        Ok(_) => "value".to_owned(),
        Err(e) => e.code().unwrap_or("ERR").to_owned(),
    }
}

/// An error, without the line of the script from which `redis.call` raised it: here that is one of [`Chance`]'s.
fn said(error: &RedisError) -> String {
    let text = error.to_string();
    text.rsplit_once(", on @user_script:").map_or(text.clone(), |(text, _line)| text.to_owned())
}

/// A command; of a script, its end.
fn shown(command: &[Vec<u8>]) -> String {
    let word = |word: &Vec<u8>| format!("\"{}\"", word[word.len().saturating_sub(400)..].escape_ascii());
    command.iter().map(word).collect::<Vec<_>>().join(" ")
}

fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("ATLOCK_DIFFERENTIAL_SEEDS") else { return USUAL_SEEDS };
    let (from, to) = text.split_once("..").expect("ATLOCK_DIFFERENTIAL_SEEDS is a..b");
    from.parse().expect("a number")..to.parse().expect("a number")
}

#[test]
fn the_simulated_server_does_what_a_real_one_does() {
    let (mut real, mut met) = (Real::start(), BTreeMap::new());
    for seed in seeds() {
        let mut chance = Chance::new(seed);
        let mut both = Both { real: &mut real, simulated: SimulatedRedis::default(), seed, met: &mut met };
        both.execute(&words("FLUSHALL")).expect("is empty");
        both.real.execute(&words("SCRIPT FLUSH")).expect("forgets");
        for _ in 0..STEPS {
            both.step(&chance.step());
        }
        both.compare_data();
    }
    let all = [
        ("GRANT", "DONE HELD NOTYET NONE LATE UNKNOWN OOM FOREIGN ERR"),
        ("RELEASE", "DONE NONE JUDGE LATE UNKNOWN OOM FOREIGN"),
        ("PUT", "DONE CONFLICT NONE LATE UNKNOWN OOM FOREIGN"),
        ("SWAP_DOCUMENT", "DONE CONFLICT LATE OOM"),
        ("GATE", "DONE OOM FOREIGN"),
        ("ANNOUNCE", "DONE LATE OOM"),
        ("HERE", "DONE"),
        ("INDEX_ADD", "DONE LATE OOM"),
        ("MOVE", "DONE CONFLICT"),
        ("PROBE", "array OOM"),
    ];
    let missed = |(script, tags): &(&'static str, &'static str)| {
        let missed = tags.split(' ').filter(|tag| !met.contains_key(&(*script, (*tag).to_owned())));
        missed.map(|tag| format!("{script} {tag}")).collect::<Vec<_>>()
    };
    let missed: Vec<String> = all.iter().flat_map(missed).collect();
    assert!(missed.is_empty() || seeds() != USUAL_SEEDS, "no script answered {missed:?}: {met:#?}");
}
