//! The shared store: Redis, a single server or a cluster, in stock Atlantis's layout.
//!
//! Invariants:
//! - A key has at most one holder (P1): every change is one Lua script, which looks and acts in one step.
//! - A change happens at most once, and never after its caller's deadline (`retry.rs`, `lua/prologue.lua`).
//! - Fencing tokens of a key strictly increase: max(the one before + 1, the server's clock in microseconds). The one before is in
//!   the key's side hash, which outlives the lock by an hour, so this holds unless a server's clock is set back by more than that,
//!   or a fail-over loses the side hash and moves to a server whose clock is behind by more than the time between two grants.
//! - A value is stored and returned byte for byte; what stock wrote is read, and stock reads what is written here (P4).
//! - The index of all locks holds at least every lock that was taken here (`lua/index_trim.lua`); it is checked against the locks
//!   on reading. On a single server the pulls' indexes do as well, and both change in the lock's own script.
//!
//! Assumptions: Redis does not lose what it acknowledged (`wait_replicas` narrows a fail-over), evicts nothing
//! ([`Store::warnings`]), and a cluster's clocks differ by less than 30 s.
//!
//! Faults survived: a lost reply, a server that hangs, drips or restarts, a fail-over, a name server or a disk that hangs, a password
//! or certificates that change, a stock Atlantis on the same server. What they cost is one operation's timeout, or an error that
//! says what is and is not known.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use self::reply::Reply;
use self::retry::Retrying;
use super::mirror::EntryKey;
use super::shared::Shared as _;
use super::{Expected, Grant, Granted, Listing, LockKey, Place, Release, Standing, Store, Swap};
use crate::clock::Call;
use crate::config;
use crate::error::{Code, Error, Result};
use crate::key::Fields;
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
}

impl RedisStore {
    /// Connects, checks that the server can be used, and takes over locks under the keys of Atlantis before v0.40.
    ///
    /// `instance` names this process beside the locks that it takes. A single server keeps no thread, a cluster two; a new
    /// connection has one look its name up and one read its files, and each of these ends when the system lets it.
    ///
    /// Taking over may take up to two minutes more, with very many locks.
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
            self.grant_confirmed(&keys, &args, call)?
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
    fn grant_confirmed(&self, keys: &[&str], args: &[&[u8]], call: &Call) -> Result<Reply> {
        let confirmed = std::cell::Cell::new(0);
        let reply = self.redis.change_with(call, call.lost_since, |head| {
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
            return Err(self.take_back(keys, args, call, confirmed.get()));
        }
        Ok(reply)
    }

    fn take_back(&self, keys: &[&str], args: &[&[u8]], call: &Call, confirmed: u32) -> Error {
        let wanted = self.wait_replicas;
        let (value, member) = (args[0], args[2]);
        let holder = format!("{} {}", self.instance, call.request.as_str());
        let guard = Guard::holder(&holder, value);
        let back = Call::new(call.request.derived("back"), call.deadline + TAKE_BACK_TIME);
        let project = keys[0].starts_with(keys::LOCK_PREFIX);
        match self.redis.change(&scripts::RELEASE, keys, &guard.args(project, member), &back) {
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

    fn release_guarded(&self, key: LockKey<'_>, guard: &Guard<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        let lock = keys::lock_key(key);
        let side = keys::side_key(&lock);
        let (project, name) = match key {
            LockKey::Project(name) => (true, name),
            LockKey::Command(name) => (false, name),
        };
        let keys = script_keys(&lock, &side, self.indexed(key).is_some());
        let reply = self.redis.change(&scripts::RELEASE, &keys, &guard.args(project, name.as_bytes()), call)?;
        read_release(key, reply)
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
        let num = release.pull_num.map(|num| num.to_string()).unwrap_or_default();
        let guard = match release.fields {
            Some(fields) => Guard::fields(fields, &num),
            None => Guard::any(&num),
        };
        self.release_guarded(release.key, &guard, call)
    }

    fn discard(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        self.release_guarded(key, &Guard::raw(), call)
    }

    fn get(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        self.get_key(&keys::lock_key(key), call)
    }

    fn list(&self, call: &Call) -> Result<Listing> {
        let found = if self.shared_with_stock { self.scan(keys::ALL_LOCKS, call)? } else { self.read_index(call)? };
        Ok(listing::of(found))
    }

    fn release_by_pull(&self, pull: PullRef<'_>, call: &Call) -> Result<Listing> {
        let num = pull.num.to_string();
        let guard = Guard::repo(pull.repo, &num);
        let mut released = BTreeMap::new();
        let mut release = |mut members: Vec<String>| {
            // Once is enough: whoever takes one of them again does so after this call began.
            members.retain(|member| !released.contains_key(member));
            let (made, ended) = self.release_all(&members, &guard, call);
            released.extend(made);
            ended
        };
        // What is named is released first: looking through all of Redis takes as long as others fill it.
        let ended = self
            .held_in_index(pull, call)
            .and_then(&mut release)
            .and_then(|()| self.held_by_scan(pull, call))
            .and_then(&mut release);
        let mut listing = Listing::default();
        released.values().for_each(|value| listing.push(value));
        listing.or_incomplete(ended)
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
        self.warnings.clone()
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

/// What a lock must be for `release.lua` to release it: its arguments 4 to 9.
#[derive(Clone, Copy)]
struct Guard<'a>([&'a [u8]; 6]);

impl<'a> Guard<'a> {
    /// Any lock, or with `num` any that this pull holds.
    fn any(num: &'a str) -> Guard<'a> {
        Guard([b"", b"", b"", b"", b"", num.as_bytes()])
    }

    /// Whatever is there.
    fn raw() -> Guard<'a> {
        Guard([b"raw", b"", b"", b"", b"", b""])
    }

    /// A lock of this repository that this pull holds.
    fn repo(repo: &'a str, num: &'a str) -> Guard<'a> {
        Guard([b"repo", repo.as_bytes(), b"", b"", b"", num.as_bytes()])
    }

    /// A lock of exactly these fields, and with `num` only if this pull holds it.
    fn fields(f: Fields<'a>, num: &'a str) -> Guard<'a> {
        Guard([b"fields", f.repo.as_bytes(), f.path.as_bytes(), f.workspace.as_bytes(), f.project.as_bytes(), num.as_bytes()])
    }

    /// The lock that `holder` (instance and request id) took with this value.
    fn holder(holder: &'a str, value: &'a [u8]) -> Guard<'a> {
        Guard([b"holder", holder.as_bytes(), value, b"", b"", b""])
    }

    /// With what else the script needs: whether it is a project's lock, its member of the indexes.
    fn args(&self, project: bool, member: &'a [u8]) -> Vec<&'a [u8]> {
        let mut args = self.0.to_vec();
        args.extend([if project { &b"1"[..] } else { b"0" }, member, keys::PULL_INDEX_PREFIX.as_bytes()]);
        args
    }
}

fn script_keys<'a>(lock: &'a str, side: &'a str, indexed: bool) -> Vec<&'a str> {
    if indexed { vec![lock, side, keys::LOCKS_INDEX] } else { vec![lock, side] }
}

fn read_release(key: LockKey<'_>, reply: Reply) -> Result<Option<Vec<u8>>> {
    match reply {
        Reply::Done(outcome) => reply::released(outcome).map(Some),
        Reply::None => Ok(None),
        Reply::Unreadable(reason) => {
            Err(Error::new(Code::EntryUnreadable, format!("the entry at {key} stays as it is: {reason}")))
        }
        other => Err(unexpected(&other)),
    }
}

fn unexpected(reply: &Reply) -> Error {
    // Not the reply itself: a value holds a token.
    Error::new(Code::Protocol, format!("a script's answer ({}) does not fit its question", reply.name()))
}
