//! What the tests of migrations share: stores of each kind, what they hold, and the command.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use atlock::config::Redis;
use atlock::domain::key::Fields;
use atlock::domain::lock::ProjectLock;
use atlock::error::Result;
use atlock::migrate::{self, Options, Report, Silent};
use atlock::store::contract::local::{EntryKey, Held, LocalStore as _};
use atlock::store::redis::RedisStore;
use atlock::store::sled::SledStore;
use atlock::store::{DocumentKey, Expected, Grant, Granted, LockKey, Release, Store, Swap};

use crate::redis_support::{Cluster, Server, call, call_within, lock_json, system_clock};

/// What a store holds, whoever may open it.
pub type Content = BTreeMap<EntryKey, Held>;

pub const STATUS: &str = "github.com::acme/infra::1";

/// A store of some kind.
pub enum Side {
    Sled(tempfile::TempDir),
    Redis(Server),
    Cluster(Cluster),
}

impl Side {
    pub fn sled() -> Side {
        Side::Sled(tempfile::tempdir().unwrap())
    }

    pub fn redis() -> Side {
        Side::Redis(Server::start(&[]))
    }

    pub fn cluster() -> Side {
        Side::Cluster(Cluster::start(0))
    }

    /// The same kind, empty.
    pub fn emptied(self) -> Side {
        match self {
            Side::Sled(_) => Side::sled(),
            Side::Redis(server) => {
                redis::cmd("FLUSHALL").query::<()>(&mut server.raw()).unwrap();
                Side::Redis(server)
            }
            Side::Cluster(cluster) => {
                cluster.flush();
                Side::Cluster(cluster)
            }
        }
    }

    /// As it is named on the command line.
    pub fn named(&self) -> String {
        match self {
            Side::Sled(folder) => format!("sled:{}", folder.path().join("locks").display()),
            Side::Redis(server) => format!("redis:{}", server.address()),
            Side::Cluster(cluster) => format!("cluster:{}", cluster.settings().addresses.join(",")),
        }
    }

    pub fn side(&self) -> migrate::Side {
        migrate::Side::parse(&self.named()).unwrap()
    }

    pub fn settings(&self) -> Redis {
        match self {
            Side::Sled(_) => panic!("it is no Redis"),
            Side::Redis(server) => Redis { address: server.address(), ..Redis::default() },
            Side::Cluster(cluster) => cluster.settings(),
        }
    }

    /// Opens it as a server does.
    pub fn open(&self) -> Result<Box<dyn Store>> {
        match self {
            Side::Sled(folder) => Ok(Box::new(SledStore::open(&folder.path().join("locks"), system_clock())?)),
            _ => Ok(Box::new(RedisStore::open(&self.settings(), "test")?)),
        }
    }

    /// All that it holds.
    pub fn content(&self) -> Content {
        match self {
            Side::Sled(folder) => {
                let folder = folder.path().join("locks");
                if !SledStore::is_in(&folder).unwrap() {
                    return Content::new();
                }
                let store = SledStore::open_to_migrate(&folder, system_clock()).unwrap();
                let all = store.everything().unwrap();
                store.close().unwrap();
                all.into_iter().filter_map(|(key, known)| Some((key, known.value?))).collect()
            }
            _ => {
                let store = RedisStore::open_to_migrate(&self.settings(), "test", false).unwrap();
                let all = store.inventory(&call_within(std::time::Duration::from_secs(60))).unwrap();
                store.close().unwrap();
                all.entries.into_iter().collect()
            }
        }
    }

    /// Puts a value at a lock's key, past all checks.
    pub fn put_raw(&self, key: &str, value: &[u8]) {
        let Side::Redis(server) = self else { panic!("it is no single Redis") };
        redis::cmd("SET").arg(key).arg(value).query::<()>(&mut server.raw()).unwrap();
    }
}

/// Options under which the tests' own connections are no servers.
pub const OPTIONS: Options =
    Options { strict: false, on_conflict: None, others_are_stopped: true, clean_up: false, replace_old: false };

pub fn execute(from: &Side, to: &Side, work: &Path, options: Options) -> Result<Report> {
    migrate::execute(&from.side(), &to.side(), work, options, &Silent)
}

pub fn rollback(work: &Path, options: Options) -> Result<Report> {
    migrate::rollback(&work.join("manifest.json"), None, None, options, &Silent)
}

/// Fields with what may be in names, the `nth` of many.
pub fn odd_fields(path: &str) -> Fields<'_> {
    Fields { repo: "acme/sub group/infra", path, workspace: "w {x} *", project: "\"p\" é\n" }
}

pub fn odd_path(nth: usize) -> String {
    format!("folder}} {nth}/[ü]/{{a}}")
}

pub fn take(store: &dyn Store, fields: Fields<'_>, num: i64) {
    let value = lock_json(fields, num);
    let lock = ProjectLock::parse(&value).ok();
    let key = fields.key();
    let grant = Grant { key: LockKey::Project(&key), lock: lock.as_ref(), value: &value, in_order: false };
    assert!(matches!(store.grant(&grant, &call()).unwrap(), Granted::Yes { .. }), "{key}");
}

pub fn release(store: &dyn Store, fields: Fields<'_>) {
    let key = fields.key();
    let release = Release { key: LockKey::Project(&key), fields: None, pull_num: None, value: None };
    assert!(store.release(&release, &call()).unwrap().is_some(), "{key}");
}

/// Fills a store: so many locks, and, if there are any, an entry of each other kind.
pub fn fill(store: &dyn Store, locks: usize) {
    for nth in 0..locks {
        take(store, odd_fields(&odd_path(nth)), i64::try_from(nth).unwrap() + 1);
    }
    if locks == 0 {
        return;
    }
    let apply = br#"{"LockMetadata":{"UnixTime":1700000000},"CommandName":"apply"}"#;
    let grant = Grant { key: LockKey::Command("apply"), lock: None, value: apply, in_order: false };
    assert!(matches!(store.grant(&grant, &call()).unwrap(), Granted::Yes { .. }));
    let queue = br#"{"version":1,"revision":7,"next_seq":0,"tickets":[],"ended":[]}"#;
    for (key, value) in [
        (DocumentKey::PullStatus(STATUS), &br#"{"Pull":{"Num":1},"Projects":[]}"#[..]),
        (DocumentKey::Queue("acme/infra"), queue),
        (DocumentKey::Freezes, br#"{"version":1,"freezes":[]}"#),
    ] {
        assert_eq!(store.swap_document(key, Expected::Absent, Some(value), &call()).unwrap(), Swap::Done, "{key}");
    }
}

/// Values alone.
pub fn values(content: &Content) -> BTreeMap<&EntryKey, &[u8]> {
    content.iter().map(|(key, held)| (key, held.value.as_slice())).collect()
}

/// The command.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_atlock"));
    command.args(args).env_clear();
    command
}

/// What it printed, on both streams, and its exit status.
pub fn told(args: &[&str]) -> (String, i32) {
    let Output { status, stdout, stderr } = command(args).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    (text, status.code().unwrap())
}
