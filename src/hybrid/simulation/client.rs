//! One server's way to Redis: the contract that the real Redis store keeps, over the simulated one and the network's faults.
//!
//! Around each question the process may crash, and something else may happen meanwhile. The retries and the connections of the
//! real store are not here, nor its parsing of answers; `tests/redis_*.rs` has these.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::network::{Fate, Stuck};
use super::redis::{Question, Reply};
use super::show::Brief;
use super::world::World;
use crate::call::Call;
use crate::clock::Clock;
use crate::domain::lock::{ProjectLock, PullRef};
use crate::domain::token::FencingToken;
use crate::error::{Code, Error, Result};
use crate::store::contract::local::{EntryKey, Held};
use crate::store::contract::shared::{Announced, Presence, Put, Reach, Remote, SharedStore};
use crate::store::{Expected, Grant, Granted, Listing, LockKey, Release, Store, Swap};
use crate::sync::tasks::{self, Group};

pub(super) struct Client {
    pub(super) world: Weak<World>,
    pub(super) me: usize,
    pub(super) process: Group,
    pub(super) name: String,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "client {}", self.me)
    }
}

impl Client {
    pub(super) fn world(&self) -> Arc<World> {
        self.world.upgrade().expect("the simulation goes on")
    }

    /// Others go on meanwhile, and the process may die.
    fn on_the_way(&self) -> Arc<World> {
        let world = self.world();
        tasks::give_way();
        world.may_die(self.me);
        world
    }

    fn waits_until(&self, deadline: Instant) {
        let clock = &self.world().clock;
        clock.sleep(deadline.saturating_duration_since(clock.now()));
    }

    /// Comes to Redis in order to read, or does not.
    pub(super) fn read(&self, call: &Call) -> Result<Arc<World>> {
        let world = self.on_the_way();
        match world.network.fate(&world.random) {
            Fate::Answered => Ok(world),
            Fate::Hangs(_) => {
                self.waits_until(call.deadline);
                Err(Error::new(Code::Timeout, "hangs"))
            }
            _ => Err(Error::new(Code::Unreachable, "refused")),
        }
    }

    fn change(&self, question: &Question, call: &Call) -> Result<Reply> {
        let world = self.on_the_way();
        let request = call.request.as_str().to_owned();
        if world.clock.now() > call.deadline {
            return Err(Error::new(Code::Timeout, "too late"));
        }
        let is_retry = call.lost_since.is_some();
        let execute = || world.redis.execute(question, &request, is_retry, world.clock.unix_micros());
        let unknown = || Error::new(Code::OutcomeUnknown, "the answer is lost");
        match world.network.fate(&world.random) {
            Fate::Answered => {
                let reply = execute();
                world.say(|| format!("  {}: {} → {}", self.me, question.brief(), reply.brief()));
                let then = world.network.after_change.lock().take();
                if let Some(then) = then {
                    then();
                }
                self.on_the_way();
                Ok(reply)
            }
            Fate::Refused => {
                world.say(|| format!("refused: {}", question.brief()));
                Err(Error::new(Code::Unreachable, "refused"))
            }
            Fate::AnswerLost => {
                let reply = execute();
                world.say(|| format!("answer lost: {} → {}", question.brief(), reply.brief()));
                self.on_the_way();
                Err(unknown())
            }
            Fate::Hangs(executed) => {
                if executed {
                    let reply = execute();
                    world.say(|| format!("hangs: {} → {}", question.brief(), reply.brief()));
                }
                self.waits_until(call.deadline);
                Err(unknown())
            }
            Fate::Stuck => {
                world.say(|| format!("stuck: {}", question.brief()));
                world.network.hold_up(Stuck { not_after: call.deadline, question: question.clone(), request, is_retry });
                Err(unknown())
            }
        }
    }

    fn entry(&self, key: &EntryKey, call: &Call) -> Result<Option<Vec<u8>>> {
        Ok(self.read(call)?.redis.value(key))
    }
}

macro_rules! reply {
    ($reply:expr, $kind:ident) => {
        match $reply {
            Ok(Reply::$kind(answer)) => Ok(answer),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error),
        }
    };
}

fn listing(values: impl IntoIterator<Item = Vec<u8>>) -> Listing {
    let mut listing = Listing::default();
    values.into_iter().for_each(|value| listing.push(&value));
    listing
}

impl Store for Client {
    fn grant(&self, grant: &Grant<'_>, call: &Call) -> Result<Granted> {
        self.grant_with(grant, FencingToken::NONE, call)
    }

    fn release(&self, release: &Release<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        self.release_as(release, call).map(|held| held.map(|held| held.value))
    }

    fn discard(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        self.discard_as(key, call).map(|held| held.map(|held| held.value))
    }

    fn get(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        self.entry(&EntryKey::from(key), call)
    }

    fn list(&self, call: &Call) -> Result<Listing> {
        let entries = self.read(call)?.redis.entries();
        Ok(listing(entries.into_iter().filter(|(key, _)| matches!(key, EntryKey::Project(_))).map(|(_, value)| value)))
    }

    fn release_by_pull(&self, pull: PullRef<'_>, call: &Call) -> Result<Listing> {
        let keys = self.held_by(pull, Reach::Scan, call)?;
        let (released, ended) = self.release_held(pull, &keys, call);
        ended.map(|()| listing(released.into_iter().map(|(_, held)| held.value)))
    }

    fn pull_status(&self, key: &str, call: &Call) -> Result<Option<Vec<u8>>> {
        self.entry(&EntryKey::Status(key.to_owned()), call)
    }

    fn swap_pull_status(&self, key: &str, expected: Expected<'_>, new: Option<&[u8]>, call: &Call) -> Result<Swap> {
        let expected = match expected {
            Expected::Any => None,
            Expected::Absent => Some(None),
            Expected::Bytes(bytes) => Some(Some(bytes.to_vec())),
        };
        let question = Question::Swap { key: EntryKey::Status(key.to_owned()), expected, new: new.map(<[u8]>::to_vec) };
        reply!(self.change(&question, call), Swapped)
    }

    fn ping(&self, call: &Call) -> Result<()> {
        self.read(call).map(drop)
    }

    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    fn close(&self) -> Result<()> {
        Ok(())
    }
}

impl SharedStore for Client {
    fn grant_with(&self, grant: &Grant<'_>, token: FencingToken, call: &Call) -> Result<Granted> {
        let question = Question::Grant {
            key: EntryKey::from(grant.key),
            value: grant.value.to_vec(),
            token: token.get(),
            name: self.name.clone(),
        };
        reply!(self.change(&question, call), Granted)
    }

    fn snapshot(&self, call: &Call) -> Result<Vec<(EntryKey, Vec<u8>)>> {
        Ok(self.read(call)?.redis.entries().into_iter().collect())
    }

    fn remote(&self, key: &EntryKey, call: &Call) -> Result<Remote> {
        let world = self.read(call)?;
        if world.network.goes_after_a_look.load(Ordering::SeqCst) {
            world.network.is_up.store(false, Ordering::SeqCst);
        }
        Ok(world.redis.remote(key))
    }

    fn put(&self, key: &EntryKey, seen: Option<&[u8]>, new: Option<&Held>, call: &Call) -> Result<Put> {
        let question =
            Question::Put { key: key.clone(), seen: seen.map(<[u8]>::to_vec), new: new.cloned(), name: self.name.clone() };
        reply!(self.change(&question, call), Put)
    }

    fn held_by(&self, pull: PullRef<'_>, _reach: Reach, call: &Call) -> Result<Vec<EntryKey>> {
        let is_held = |(key, value): &(EntryKey, Vec<u8>)| {
            matches!(key, EntryKey::Project(_)) && ProjectLock::parse(value).is_ok_and(|lock| lock.pull() == pull)
        };
        Ok(self.read(call)?.redis.entries().into_iter().filter(is_held).map(|(key, _)| key).collect())
    }

    fn release_as(&self, release: &Release<'_>, call: &Call) -> Result<Option<Held>> {
        let question = Question::Release { key: EntryKey::from(release.key), pull: release.pull_num };
        reply!(self.change(&question, call), Released)
    }

    fn discard_as(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Held>> {
        reply!(self.change(&Question::Release { key: EntryKey::from(key), pull: None }, call), Released)
    }

    /// One script for each key: some may be made, and others not.
    fn release_held(&self, pull: PullRef<'_>, keys: &[EntryKey], call: &Call) -> (Vec<(EntryKey, Held)>, Result<()>) {
        let mut released = Vec::new();
        for key in keys {
            let question = Question::Release { key: key.clone(), pull: Some(pull.num) };
            match reply!(self.change(&question, call), Released) {
                Ok(held) => released.extend(held.map(|held| (key.clone(), held))),
                Err(error) => return (released, Err(error)),
            }
        }
        (released, Ok(()))
    }

    fn announce(&self, instance: &str, lease: Duration, presence: Presence, call: &Call) -> Result<Announced> {
        let question = Question::Announce { instance: instance.to_owned(), lease, presence };
        reply!(self.change(&question, call), Announced)
    }

    fn clock_micros(&self) -> u64 {
        // It is known to be a little early.
        self.world().clock.unix_micros().saturating_sub(300)
    }
}
