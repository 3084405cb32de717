//! What the tests of migrations share: stores of each kind, what they hold, and the command.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use atlock::config::Redis;
use atlock::domain::key::Fields;
use atlock::domain::lock::ProjectLock;
use atlock::domain::token::FencingToken;
use atlock::error::{Code, Error, Result};
use atlock::migrate::{self, Access, HostFiles as _, Options, Report, Silent};
use atlock::store::contract::copy::CopyStore as _;
use atlock::store::contract::local::{EntryKey, Held, LocalStore as _};
use atlock::store::redis::RedisStore;
use atlock::store::sled::SledStore;
use atlock::store::{DocumentKey, Expected, Grant, Granted, LockKey, Release, Store, Swap};

#[path = "../hybrid_support/local.rs"]
pub mod local;

use crate::redis_support::{Cluster, Server, call, call_within, lock_json, system_clock};

/// What a store holds, whoever may open it.
pub type Content = BTreeMap<EntryKey, Held>;

pub const STATUS: &str = "github.com::acme/infra::1";

/// A store of some kind.
pub enum Side {
    Boltdb(tempfile::TempDir),
    Sled(tempfile::TempDir),
    Redis(Server),
    Cluster(Cluster),
}

impl Side {
    pub fn boltdb() -> Side {
        Side::Boltdb(tempfile::tempdir().unwrap())
    }

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
            Side::Boltdb(_) => Side::boltdb(),
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
            Side::Boltdb(_) => format!("boltdb:{}", self.file().display()),
            Side::Sled(folder) => format!("sled:{}", folder.path().join("locks").display()),
            Side::Redis(server) => format!("redis:{}", server.address()),
            Side::Cluster(cluster) => format!("cluster:{}", cluster.settings().addresses.join(",")),
        }
    }

    pub fn side(&self) -> migrate::Side {
        migrate::Side::parse(&self.named()).unwrap()
    }

    /// Atlantis's file.
    pub fn file(&self) -> PathBuf {
        let Side::Boltdb(folder) = self else { panic!("it is no BoltDB file") };
        folder.path().join("atlantis.db")
    }

    /// Whether there is a store yet.
    pub fn exists(&self) -> bool {
        match self {
            Side::Boltdb(_) => self.file().exists(),
            Side::Sled(folder) => SledStore::is_in(&folder.path().join("locks")).unwrap(),
            _ => true,
        }
    }

    pub fn settings(&self) -> Redis {
        match self {
            Side::Sled(_) | Side::Boltdb(_) => panic!("it is no Redis"),
            Side::Redis(server) => Redis { address: server.address(), ..Redis::default() },
            Side::Cluster(cluster) => cluster.settings(),
        }
    }

    /// Opens it as a server does.
    pub fn open(&self) -> Result<Box<dyn Store>> {
        match self {
            Side::Boltdb(folder) => match local::open(folder.path()) {
                Ok(store) => Ok(Box::new(store)),
                Err(e) if e.message().contains("migration") => Err(Error::new(Code::StoreMoved, e.message().to_owned())),
                Err(e) => Err(e),
            },
            Side::Sled(folder) => Ok(Box::new(SledStore::open(&folder.path().join("locks"), system_clock())?)),
            _ => Ok(Box::new(RedisStore::open(&self.settings(), "test")?)),
        }
    }

    /// All that it holds.
    pub fn content(&self) -> Content {
        match self {
            Side::Boltdb(_) => {
                let store = local::Files.open(&self.file(), Access::Look).unwrap();
                let held = |value| Held { value, token: FencingToken::NONE };
                store
                    .dump()
                    .unwrap()
                    .entries
                    .into_iter()
                    .map(|entry| (entry.key, held(entry.value.unwrap_or_default())))
                    .collect()
            }
            Side::Sled(folder) => {
                let folder = folder.path().join("locks");
                if !SledStore::is_in(&folder).unwrap() {
                    return Content::new();
                }
                let store = SledStore::open_to_migrate(&folder, system_clock(), None).unwrap();
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

/// Closes it, and gives it back: a host store's file is free then.
pub fn shut(store: Box<dyn Store>) {
    store.close().unwrap();
}

/// Options under which the tests' own connections are no servers.
pub const OPTIONS: Options<'static> = Options {
    strict: false,
    masters: None,
    on_conflict: None,
    others_are_stopped: true,
    clean_up: false,
    replace_old: false,
    files: Some(&local::Files),
};

pub fn execute(from: &Side, to: &Side, work: &Path, options: Options<'_>) -> Result<Report> {
    migrate::execute(&from.side(), &to.side(), work, options, &Silent)
}

pub fn rollback(work: &Path, options: Options<'_>) -> Result<Report> {
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
        if matches!(key, DocumentKey::Queue(_) | DocumentKey::Freezes) && store.queues(&call()).is_err() {
            continue;
        }
        assert_eq!(store.swap_document(key, Expected::Absent, Some(value), &call()).unwrap(), Swap::Done, "{key}");
    }
}

/// As both of these sides can have it: a BoltDB file has no tokens, no queues and no freezes.
pub fn as_both_can(content: &Content, sides: [&Side; 2]) -> Content {
    let mut content = content.clone();
    if sides.iter().any(|side| matches!(side, Side::Boltdb(_))) {
        content.retain(|key, _| key.is_stocks());
        content.values_mut().for_each(|held| held.token = FencingToken::NONE);
    }
    content
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
