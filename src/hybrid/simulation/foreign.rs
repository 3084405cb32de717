//! Other programs in the same Redis, whose entries look like ours, and a Redis that forgets what is beside the locks.
//!
//! Models: what is no JSON, or no lock, at a lock's key; a hash there; a lock with an end; a key that no local store can keep; a string at the key
//! of an index or of the servers' announcements; those keys evicted. Where several servers share Redis, such a value takes the place of a lock, too:
//! whoever held that has lost it to the other program, which is no fault of ours. In the end somebody removes what is foreign.
//!
//! What is to hold: nobody hangs or panics, no other key's lock is lost or granted twice, and the stores agree in the end.
//!
//! Cannot express: values over 16 MiB (`tests/redis_pages.rs`). Locks that are evicted, or the memory of their releases, are beyond what is
//! promised: Redis must be set to `noeviction`.

use super::show::text;
use super::values::any_key;
use super::world::World;
use crate::clock::Clock;
use crate::config::Instances;
use crate::store::contract::local::EntryKey;

/// Values that are no locks.
const POISON: [&str; 6] =
    ["", "no JSON", "null", "{}", "[1,2", r#"{"Project":{"RepoFullName":7},"Pull":{"Num":1},"Workspace":"default"}"#];
/// Keys of other programs where only locks should be.
const KEYS: [&str; 4] = ["pr/", "pr/a/b/foreign/default/", "pr/z/z/x/default/", "global/foreign/lock"];
/// What is beside the locks: indexes, and who is there.
const BESIDE: [&str; 4] = ["atlock:locks", "atlock:pull:a/b#1", "atlock:pull:a/c#2", INSTANCES];
/// Where servers announce themselves.
const INSTANCES: &str = "atlock:instances";
/// A lock of nobody here.
const LOCK: &str =
    r#"{"Project":{"RepoFullName":"z/t","Path":"x","ProjectName":""},"Pull":{"Num":1},"Workspace":"default","N":0}"#;

impl World {
    /// Another program does something.
    pub(super) fn foreign_program(&self) {
        let random = &self.random;
        let poison = POISON[random.index(POISON.len())];
        match random.below(10) {
            0..=2 => self.foreign(&["SET", KEYS[random.index(KEYS.len())], poison]),
            3 => self.foreign(&["HSET", "pr/z/h/x/default/", "field", "value"]),
            4 => self.foreign(&["SET", "pr/z/t/x/default/", LOCK, "PX", "60000"]),
            5 => self.foreign(&["SET", &format!("pr/{}", "x".repeat(17 * 1024)), "{}"]),
            6 => {
                let key = BESIDE[random.index(3)];
                self.foreign(&["DEL", key]);
                self.foreign(&["SET", key, poison]);
            }
            7..=8 => {
                let key = BESIDE[random.index(BESIDE.len())];
                self.say(|| format!("{key} is evicted"));
                let was_there = self.redis.evict(key.as_bytes());
                if key == INSTANCES && was_there {
                    (0..self.servers()).for_each(|server| self.oracle().was_forgotten(server));
                }
            }
            _ if self.plan.instances == Instances::Many => self.foreign_takes(&any_key(random), poison),
            _ => {}
        }
    }

    /// A value that is no lock takes the place of whatever is there.
    fn foreign_takes(&self, key: &EntryKey, poison: &str) {
        if let Some(held) = self.value(key) {
            self.say(|| format!("another program takes the place of {}", text(&held)));
            self.oracle().was_overwritten(&held);
        }
        match key {
            EntryKey::Project(name) => self.foreign(&["SET", &format!("pr/{name}"), poison]),
            EntryKey::Command(name) => self.foreign(&["SET", &format!("global/{name}/lock"), poison]),
            EntryKey::Status(_) | EntryKey::Queue(_) | EntryKey::Freezes => {}
        }
    }

    fn foreign(&self, command: &[&str]) {
        let words: Vec<Vec<u8>> = command.iter().map(|word| word.as_bytes().to_vec()).collect();
        self.say(|| format!("another program: {}", command.join(" ").chars().take(80).collect::<String>()));
        self.redis.execute(&words, self.clock.unix_micros());
    }

    /// Somebody removes what is foreign.
    pub(super) fn remove_what_is_foreign(&self) {
        if !self.plan.foreign {
            return;
        }
        for key in self.redis.keys() {
            let is_poison = self.redis.value(&key).is_some_and(|value| POISON.iter().any(|poison| poison.as_bytes() == value));
            let is_theirs = key.starts_with(b"pr/z/") || key.len() > 16 * 1024;
            if is_poison || is_theirs {
                self.redis.evict(&key);
            }
        }
    }
}
