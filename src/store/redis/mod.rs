//! The shared store: Redis, a single server or a cluster, in stock Atlantis's layout.
//!
//! Invariants:
//! - A key has at most one holder (P1): every change is one Lua script, which looks and acts in one step.
//! - A change happens at most once, and never after its caller's deadline (`retry.rs`, `lua/prologue.lua`).
//! - Fencing tokens of a key strictly increase: max(the one before + 1, the server's clock in microseconds). The one before is in
//!   the key's side hash, which outlives the lock by an hour, so this holds unless a server's clock is set back by more than that,
//!   or a fail-over loses the side hash and moves to a server whose clock is behind by more than the time between two grants.
//! - A value is stored and returned byte for byte; what stock wrote is read, and stock reads what is written here (P4).
//! - What the side hash tells of a holder belongs to the value that is there: it has that value's digest (`lua/read.lua`).
//! - The index of all locks holds at least every lock that was taken here (`lua/index_trim.lua`); it is checked against the locks
//!   on reading. On a single server the pulls' indexes do as well, and both change in the lock's own script.
//!
//! Assumptions: Redis does not lose what it acknowledged (`wait_replicas` narrows a fail-over), evicts nothing
//! ([`Store::warnings`]), and a cluster's clocks differ by less than 30 s.
//!
//! Faults survived: a lost reply, a server that hangs, drips or restarts, a fail-over, a name server or a disk that hangs, a password
//! or certificates that change, a stock Atlantis on the same server. What they cost is one operation's timeout, or an error that
//! says what is and is not known.

use std::fmt;
use std::time::Duration;

use parking_lot::Mutex;

use self::release::{Guard, Released};
use self::reply::Reply;
use self::retry::Retrying;
use self::shared::SetAside;
use super::mirror::EntryKey;
use super::shared::Shared as _;
use super::{Expected, Grant, Granted, Listing, LockKey, Place, Release, Standing, Store, Swap};
use crate::clock::Call;
use crate::config;
use crate::error::{Code, Error, Result};
use crate::model::PullRef;

mod clock;
mod cluster;
mod combiner;
mod credentials;
mod errand;
mod errors;
mod indexes;
mod keys;
mod link;
mod listing;
mod names;
mod open;
mod pages;
mod release;
mod reply;
mod retry;
mod scripts;
mod shared;
mod single;
mod takeover;
mod wire;

/// The shared store. Safe from any thread.
pub struct RedisStore {
    redis: Retrying,
    instance: String,
    shared_with_stock: bool,
    wait_replicas: u32,
    /// Longest time that one question takes, also of many that belong together.
    patience: Duration,
    warnings: Vec<String>,
    /// What the last snapshot left out.
    set_aside: Mutex<Vec<SetAside>>,
}

impl RedisStore {
    /// Connects, checks that the server can be used, and takes over locks under the keys of Atlantis before v0.40.
    ///
    /// `instance` names this process beside the locks that it takes. A single server keeps no thread, a cluster two; a new
    /// connection has one look its name up and one read its files, and each of these ends when the system lets it.
    ///
    /// Taking over looks at the names of all keys (`takeover.rs`), at every opening. It may take up to two minutes more.
    ///
    /// Errors, each within the connect timeout: `Unreachable`, `Authentication`, `Permission`, `Tls`, `ReadOnly`,
    /// `InvalidConfig`. Nothing stays open then.
    pub fn open(settings: &config::Redis, instance: &str) -> Result<RedisStore> {
        let open::Opened { redis, warnings } = open::open(settings)?;
        let store = RedisStore {
            redis,
            instance: instance.to_owned(),
            shared_with_stock: settings.shared_with_stock,
            wait_replicas: settings.wait_replicas,
            patience: settings.timeouts.operation,
            warnings,
            set_aside: Mutex::default(),
        };
        store.take_over()?;
        Ok(store)
    }

    /// What `grant` tells the script, beside the keys: value, instance, member of the indexes, the pull's index, a token.
    /// `None`: an attempt whose answer was lost was refused.
    fn grant_once(&self, grant: &Grant<'_>, proposed: u64, call: &Call) -> Result<Option<Granted>> {
        let lock = keys::lock_key(grant.key);
        let side = keys::side_key(&lock);
        let indexed = self.indexed(grant.key);
        let (member, pull_index) = match (indexed, grant.pull) {
            (Some(member), Some(pull)) => (member, keys::pull_index(pull.repo, pull.num)),
            _ => ("", String::new()),
        };
        let keys = script_keys(&lock, &side, !member.is_empty());
        let proposed = proposed.to_string();
        let args = [grant.value, self.instance.as_bytes(), member.as_bytes(), pull_index.as_bytes(), proposed.as_bytes()];
        let reply = if self.wait_replicas == 0 {
            self.redis.change(&scripts::GRANT, &keys, &args, call)?
        } else {
            self.grant_confirmed(grant, &keys, &args, call)?
        };
        match reply {
            Reply::Done(outcome) => Ok(Some(Granted::Yes { token: reply::token(&outcome)? })),
            Reply::Held(value) => Ok(Some(Granted::Held { value })),
            Reply::None => Ok(None),
            other => Err(unexpected(&other)),
        }
    }

    /// A grant with this fencing token, if the script takes it; 0 for none.
    fn grant_proposed(&self, grant: &Grant<'_>, token: u64, call: &Call) -> Result<Granted> {
        if let (LockKey::Project(member), false) = (grant.key, self.redis.link.is_single()) {
            self.stamp(&[member], call)?;
        }
        match self.grant_once(grant, token, call)? {
            Some(granted) => Ok(granted),
            // It was refused, for good, and the answer was lost. Whoever held the lock may have left since.
            None => {
                let again = Call::new(call.request.derived("again"), call.deadline);
                self.grant_once(grant, token, &again)?.ok_or_else(|| unexpected(&Reply::None))
            }
        }
    }

    /// A grant that counts only if enough replicas have it in time. Otherwise it is taken back.
    fn grant_confirmed(&self, grant: &Grant<'_>, keys: &[&str], args: &[&[u8]], call: &Call) -> Result<Reply> {
        let confirmed = std::cell::Cell::new(0);
        let reply = self.redis.change_with(call, &mut call.lost_since.clone(), |head| {
            let all: Vec<&[u8]> = head.iter().map(Vec::as_slice).chain(args.iter().copied()).collect();
            let command = |by_text: bool| {
                if by_text { scripts::GRANT.by_text(keys, &all) } else { scripts::GRANT.by_hash(keys, &all) }
            };
            self.redis.known(call.deadline, command, |command| {
                let (value, replicas) = self.redis.link.query_then_wait(command, keys[0], self.wait_replicas, call.deadline)?;
                confirmed.set(replicas.unwrap_or(0));
                Ok(value)
            })
        })?;
        if matches!(reply, Reply::Done(_)) && confirmed.get() < self.wait_replicas {
            return Err(self.take_back(grant, call, confirmed.get()));
        }
        Ok(reply)
    }

    fn take_back(&self, grant: &Grant<'_>, call: &Call, confirmed: u32) -> Error {
        let wanted = self.wait_replicas;
        let holder = format!("{} {}", self.instance, call.request.as_str());
        let back = Call::new(call.request.derived("back"), call.deadline + TAKE_BACK_TIME);
        match self.release_guarded(grant.key, &Guard::Holder(&holder, grant.value), &back, None) {
            Ok(_) => Error::new(
                Code::NotReplicated,
                format!(
                    "Redis at {}: {confirmed} of {wanted} replicas confirmed the lock in time; it was taken back. See wait_replicas",
                    self.redis.server
                ),
            ),
            Err(e) => Error::new(
                Code::OutcomeUnknown,
                format!(
                    "{confirmed} of {wanted} replicas confirmed the lock in time, and taking it back failed: it may be held. {e}"
                ),
            ),
        }
    }

    /// The member that stands for a lock in the indexes that its own script changes: a project's on a single server.
    fn indexed<'a>(&self, key: LockKey<'a>) -> Option<&'a str> {
        match key {
            LockKey::Project(name) if self.redis.link.is_single() => Some(name),
            _ => None,
        }
    }
}

/// How long taking a grant back may go on after the caller's deadline.
const TAKE_BACK_TIME: Duration = Duration::from_millis(500);

impl Store for RedisStore {
    fn standing(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Standing>> {
        let remote = self.remote(&EntryKey::from(key), call)?;
        Ok(remote.value.map(|_| Standing::new(remote.token, Place::Enhanced)))
    }

    fn grant(&self, grant: &Grant<'_>, call: &Call) -> Result<Granted> {
        self.grant_proposed(grant, 0, call)
    }

    fn release(&self, release: &Release<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        Ok(self.release_as(release, call)?.map(|held| held.value))
    }

    fn discard(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        Ok(self.discard_as(key, call)?.map(|held| held.value))
    }

    fn get(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        self.get_key(&keys::lock_key(key), call)
    }

    fn list(&self, call: &Call) -> Result<Listing> {
        self.list_all(call)
    }

    fn release_by_pull(&self, pull: PullRef<'_>, call: &Call) -> Result<Listing> {
        let Released { locks, failed } = self.release_pull(pull, call);
        let mut listing = Listing::default();
        locks.iter().for_each(|(_, held)| listing.push(&held.value));
        listing.or_incomplete(failed.map_or(Ok(()), Err))
    }

    fn pull_status(&self, key: &str, call: &Call) -> Result<Option<Vec<u8>>> {
        self.get_key(key, call)
    }

    fn swap_pull_status(&self, key: &str, expected: Expected<'_>, new: Option<&[u8]>, call: &Call) -> Result<Swap> {
        let (expectation, bytes): (&[u8], &[u8]) = match expected {
            Expected::Any => (b"any", b""),
            Expected::Absent => (b"absent", b""),
            Expected::Bytes(bytes) => (b"bytes", bytes),
        };
        let action: &[u8] = if new.is_some() { b"set" } else { b"delete" };
        match self.redis.change(
            &scripts::SWAP_PULL_STATUS,
            &[key],
            &[expectation, bytes, action, new.unwrap_or_default()],
            call,
        )? {
            Reply::Done(_) => Ok(Swap::Done),
            Reply::Conflict(current) => Ok(Swap::Conflict(current)),
            other => Err(unexpected(&other)),
        }
    }

    fn ping(&self, call: &Call) -> Result<()> {
        self.check_writable(call.deadline)
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = self.warnings.clone();
        warnings.extend(self.set_aside_warnings());
        warnings
    }

    fn close(&self) -> Result<()> {
        self.redis.link.close();
        Ok(())
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("server", &self.redis.server).finish_non_exhaustive()
    }
}

fn script_keys<'a>(lock: &'a str, side: &'a str, indexed: bool) -> Vec<&'a str> {
    if indexed { vec![lock, side, keys::LOCKS_INDEX] } else { vec![lock, side] }
}

fn unexpected(reply: &Reply) -> Error {
    // Not the reply itself: a value holds a token.
    Error::new(Code::Protocol, format!("a script's answer ({}) does not fit its question", reply.name()))
}
