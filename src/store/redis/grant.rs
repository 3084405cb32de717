//! Taking a lock: one script, and where `wait_replicas` asks for it, what replicas confirm of it.

use std::time::Duration;

use super::keys::{self, script_keys};
use super::release::Guard;
use super::reply::{self, Reply, unexpected};
use super::scripts;
use super::store::RedisStore;
use crate::call::Call;
use crate::domain::token::FencingToken;
use crate::error::{Code, Error, Result};
use crate::queue::{Gate, PullId};
use crate::store::{Grant, Granted, LockKey};

/// How long taking a grant back may go on after the caller's deadline.
const TAKE_BACK_TIME: Duration = Duration::from_millis(500);

/// A gate as the side hash has it behind the queue's revision; empty for an open one.
pub(super) fn gate_text(gate: &Gate) -> String {
    match gate {
        Gate::Open => String::new(),
        Gate::Closed => "closed".to_owned(),
        Gate::Reserved(pull) => pull_text(pull),
    }
}

/// A pull as gates name it. No pull is `closed`: its number comes first.
fn pull_text(pull: &PullId) -> String {
    format!("{} {}", pull.num, pull.host.to_ascii_lowercase())
}

impl RedisStore {
    /// What `grant` tells the script, beside the keys: value, instance, member of the indexes, the pull's index, a token.
    /// `None`: an attempt whose answer was lost was refused.
    fn grant_once(&self, grant: &Grant<'_>, proposed: FencingToken, call: &Call) -> Result<Option<Granted>> {
        let lock = keys::lock_key(grant.key);
        let side = keys::side_key(&lock);
        let indexed = self.indexed(grant.key);
        let (member, pull_index) = match (indexed, grant.pull()) {
            (Some(member), Some(pull)) => (member, keys::pull_index(pull.repo, pull.num)),
            _ => ("", String::new()),
        };
        let keys = script_keys(&lock, &side, !member.is_empty());
        let proposed = proposed.to_string();
        let asker = grant.lock.filter(|_| grant.in_order).map(|lock| pull_text(&PullId::of(lock))).unwrap_or_default();
        let instance = self.instance.as_bytes();
        let args = [grant.value, instance, member.as_bytes(), pull_index.as_bytes(), proposed.as_bytes(), asker.as_bytes()];
        let reply = if self.wait_replicas == 0 {
            self.redis.change(&scripts::GRANT, &keys, &args, call)?
        } else {
            self.grant_confirmed(grant, &keys, &args, call)?
        };
        match reply {
            Reply::Done(outcome) => Ok(Some(Granted::Yes { token: reply::token(&outcome)?, gated: false })),
            Reply::Gated(outcome) => Ok(Some(Granted::Yes { token: reply::token(&outcome)?, gated: true })),
            Reply::NotYet => Ok(Some(Granted::NotYet)),
            Reply::Held(value) => Ok(Some(Granted::Held { value })),
            Reply::None => Ok(None),
            other => Err(unexpected(&other)),
        }
    }

    /// A grant with this fencing token, if the script takes it; 0 for none.
    pub(super) fn grant_proposed(&self, grant: &Grant<'_>, token: FencingToken, call: &Call) -> Result<Granted> {
        if let (LockKey::Project(member), false) = (grant.key, self.redis.transport.is_single()) {
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
                let (value, replicas) =
                    self.redis.transport.query_then_wait(command, keys[0], self.wait_replicas, call.deadline)?;
                confirmed.set(replicas.unwrap_or(0));
                Ok(value)
            })
        })?;
        if matches!(reply, Reply::Done(_) | Reply::Gated(_)) && confirmed.get() < self.wait_replicas {
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
    pub(super) fn indexed<'a>(&self, key: LockKey<'a>) -> Option<&'a str> {
        match key {
            LockKey::Project(name) if self.redis.transport.is_single() => Some(name),
            _ => None,
        }
    }
}
