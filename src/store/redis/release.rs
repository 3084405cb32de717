//! Releasing: one lock, or all of a pull.
//!
//! Invariant: what a value says is decided by one reader, `ProjectLock::parse`. A grant stores the digest of a value that it has
//! read; the script releases such a value at once, by fields that it finds itself. Any other value (a stock server's, a foreign
//! one, one of an older version) the script hands out to be judged here, and is then asked for exactly these bytes. So a lock that
//! changes in between is judged again, and never released for what another one said.
//!
//! Faults survived: a lost answer to either question (both have one request id; the script remembers what became of it), and an
//! attempt of the first question that arrives after the second (`lua/prologue.lua`, 'J').

use std::borrow::Cow;
use std::time::Instant;

use super::errors::Failure;
use super::keys::{self, script_keys};
use super::reply::unexpected;
use super::reply::{self, Reply};
use super::store::RedisStore;
use super::transport::Attempt;
use super::{indexes, pad, scripts};
use crate::call::Call;
use crate::domain::key::KeyFormat;
use crate::domain::lock::{ProjectLock, PullRef};
use crate::error::{Code, Error, Result};
use crate::store::contract::local::Held;
use crate::store::{LockKey, Release};

/// Most locks that one round trip releases.
const BATCH: usize = 500;
/// How often a value is judged that is another one each time.
const TRIES: u32 = 5;

/// What a lock must be to be released.
#[derive(Clone, Copy)]
pub(super) enum Guard<'a> {
    /// What this release admits.
    Admitted(&'a Release<'a>),
    /// Any lock that this pull holds.
    Pull(PullRef<'a>),
    /// The lock that this holder (instance and request id) took with this value.
    Holder(&'a str, &'a [u8]),
    /// Whatever is there.
    Raw,
}

/// What became of the locks of a pull.
#[derive(Debug, Default)]
pub(super) struct Released {
    /// Those that were released, each by its key as it was held.
    pub locks: Vec<(String, Held)>,
    /// Why the others were not.
    pub failed: Option<Error>,
}

/// A script's arguments behind those of every change.
type Args<'a> = Vec<Cow<'a, [u8]>>;

impl<'a> Guard<'a> {
    /// The first question's arguments.
    fn args(&self, key: LockKey<'a>) -> Args<'a> {
        let number = |num: i64| Cow::Owned(num.to_string().into_bytes());
        let text = |text: &'a str| Cow::Borrowed(text.as_bytes());
        let none = Cow::Borrowed(&b""[..]);
        let none = || none.clone();
        let guard = match *self {
            Guard::Admitted(Release { value: Some(value), .. }) => return exactly(key, value),
            Guard::Admitted(Release { fields, pull_num, .. }) => {
                let num = pull_num.map_or(none(), number);
                match fields {
                    Some(f) => [
                        text(if KeyFormat::of_process() == KeyFormat::Old { "place" } else { "fields" }),
                        text(f.repo),
                        text(f.path),
                        text(f.workspace),
                        text(f.project),
                        num,
                    ],
                    None => [none(), none(), none(), none(), none(), num],
                }
            }
            Guard::Pull(pull) => [text("repo"), text(pull.repo), none(), none(), none(), number(pull.num)],
            Guard::Holder(holder, value) => [text("holder"), text(holder), Cow::Borrowed(value), none(), none(), none()],
            Guard::Raw => [text("raw"), none(), none(), none(), none(), none()],
        };
        with_member(guard, key, text(keys::PULL_INDEX_PREFIX))
    }

    /// Whether a lock with this value is to be released.
    fn admits(&self, key: LockKey<'_>, value: &[u8]) -> Result<bool> {
        match *self {
            Guard::Admitted(release) => Release { key, ..*release }.admits(value),
            Guard::Pull(pull) => Ok(ProjectLock::parse(value).is_ok_and(|lock| lock.pull() == pull)),
            // The script judges these itself.
            Guard::Holder(..) | Guard::Raw => Err(unexpected(&Reply::Judge(Vec::new()))),
        }
    }
}

/// The arguments for exactly this value.
fn exactly<'a>(key: LockKey<'a>, value: &'a [u8]) -> Args<'a> {
    let none = || Cow::Borrowed(&b""[..]);
    let guard = [Cow::Borrowed(&b"is"[..]), Cow::Borrowed(value), none(), none(), none(), none()];
    let pull_index = match key {
        LockKey::Project(_) => indexes::pull_index_of(value),
        LockKey::Command(_) => String::new(),
    };
    with_member(guard, key, Cow::Owned(pull_index.into_bytes()))
}

fn with_member<'a>(guard: [Cow<'a, [u8]>; 6], key: LockKey<'a>, index: Cow<'a, [u8]>) -> Args<'a> {
    let (project, name) = match key {
        LockKey::Project(name) => (&b"1"[..], name),
        LockKey::Command(name) => (&b"0"[..], name),
    };
    guard.into_iter().chain([Cow::Borrowed(project), Cow::Borrowed(name.as_bytes()), index]).collect()
}

impl RedisStore {
    /// Releases a lock if the guard admits it; `lost_since` is when an attempt was sent whose answer was lost.
    pub(super) fn release_guarded(
        &self,
        key: LockKey<'_>,
        guard: &Guard<'_>,
        call: &Call,
        mut lost_since: Option<Instant>,
    ) -> Result<Option<Held>> {
        let first = self.ask_release(key, &guard.args(key), call, &mut lost_since)?;
        self.release_judged(key, guard, first, call, &mut lost_since)
    }

    /// What an answer comes to; a value that is to be judged is, and asked for.
    fn release_judged(
        &self,
        key: LockKey<'_>,
        guard: &Guard<'_>,
        mut answer: Reply,
        call: &Call,
        lost_since: &mut Option<Instant>,
    ) -> Result<Option<Held>> {
        for _ in 0..TRIES {
            let value = match answer {
                Reply::Done(outcome) => return reply::released(&outcome, call.request.as_str().as_bytes()).map(Some),
                Reply::None => return Ok(None),
                Reply::Judge(value) => value,
                other => return Err(unexpected(&other)),
            };
            if !guard.admits(key, &value)? {
                self.forget(key, guard, &value, call)?;
                return Ok(None);
            }
            answer = self.ask_release(key, &exactly(key, &value), call, lost_since)?;
        }
        match answer {
            Reply::Done(outcome) => reply::released(&outcome, call.request.as_str().as_bytes()).map(Some),
            Reply::None => Ok(None),
            _ => Err(Error::new(Code::Timeout, format!("{key} keeps changing in Redis; nothing was released: try again"))),
        }
    }

    fn ask_release(&self, key: LockKey<'_>, args: &Args<'_>, call: &Call, lost_since: &mut Option<Instant>) -> Result<Reply> {
        let lock = keys::lock_key(key);
        let side = keys::side_key(&lock);
        let keys = script_keys(&lock, &side, self.indexed(key).is_some());
        self.redis.change_with(call, lost_since, |head| {
            let pad = pad::of(&head[0]);
            let args: Vec<&[u8]> = head.iter().map(Vec::as_slice).chain(args.iter().map(AsRef::as_ref)).chain([&*pad]).collect();
            self.redis.eval(&scripts::RELEASE, &keys, &args, call.deadline)
        })
    }

    /// A pull's index names a lock that this pull does not hold.
    fn forget(&self, key: LockKey<'_>, guard: &Guard<'_>, value: &[u8], call: &Call) -> Result<()> {
        let (Guard::Pull(pull), Some(member)) = (guard, self.indexed(key)) else { return Ok(()) };
        let keys = [&*keys::lock_key(key), &*keys::pull_index(pull.repo, pull.num)];
        let args = [value, member.as_bytes()];
        self.redis.read(call.deadline, |_| self.redis.eval(&scripts::INDEX_FORGET, &keys, &args, call.deadline)).map(drop)
    }

    /// Releases all locks of a pull: first what the indexes name, then what stock servers may have taken beside them.
    pub(super) fn release_pull(&self, pull: PullRef<'_>, call: &Call) -> Released {
        let guard = Guard::Pull(pull);
        let members = match self.held_in_index(pull, call) {
            // Another program's key stands there: the look at all keys finds what the index would have named.
            Err(e) if e.code() == Code::EntryUnreadable && self.shared_with_stock => Vec::new(),
            Err(e) => return Released { failed: Some(e), ..Released::default() },
            Ok(members) => members,
        };
        let mut released = self.release_all(&members, &guard, call);
        if self.shared_with_stock && released.failed.is_none() {
            // Changes of their own: what was released above and taken since is another lock.
            let mut again = call.clone();
            again.request = call.request.derived("scan");
            match self.held_by_scan(pull, call) {
                Ok(members) => {
                    let others = self.release_all(&members, &guard, &again);
                    released.locks.extend(others.locks);
                    released.failed = others.failed;
                }
                Err(e) => released.failed = Some(e),
            }
        }
        released
    }

    /// Releases the locks of these keys where the guard admits it. Each round trip has a page's deadline.
    pub(super) fn release_all(&self, members: &[String], guard: &Guard<'_>, call: &Call) -> Released {
        let mut released = Released::default();
        for batch in members.chunks(BATCH) {
            self.release_batch(batch, guard, call, &mut released);
            if released.failed.is_some() {
                break;
            }
        }
        released
    }

    fn release_batch(&self, members: &[String], guard: &Guard<'_>, call: &Call, released: &mut Released) {
        let (sent, page) = (self.redis.clock.now(), self.page_of(call));
        let at_once = if self.redis.transport.is_single() { self.release_at_once(members, guard, &page) } else { Vec::new() };
        // Of a server that hangs, no more is asked.
        let hangs = page.remaining(self.redis.clock.now()).is_zero();
        for (nth, member) in members.iter().enumerate() {
            let (key, call) = (LockKey::Project(member), self.page_of(call));
            let mut lost_since = call.lost_since;
            let value = match at_once.get(nth) {
                Some(Ok(Reply::Done(outcome))) => reply::released(outcome, page.request.as_str().as_bytes()).map(Some),
                // What the same round trip released is told all the same.
                _ if released.failed.is_some() => continue,
                Some(Ok(answer @ (Reply::None | Reply::Judge(_)))) => {
                    self.release_judged(key, guard, answer.clone(), &call, &mut lost_since)
                }
                // If it was made, its first answer comes back.
                Some(Err(failure)) if failure.is_lost() => {
                    self.release_guarded(key, guard, if hangs { &page } else { &call }, lost_since.or(Some(sent)))
                }
                _ => self.release_guarded(key, guard, &call, lost_since),
            };
            match value {
                Ok(value) => released.locks.extend(value.map(|held| (member.clone(), held))),
                Err(e) => released.failed = Some(e),
            }
        }
    }

    /// One attempt for all, in one round trip.
    fn release_at_once(&self, members: &[String], guard: &Guard<'_>, call: &Call) -> Vec<Attempt<Reply>> {
        let head = self.redis.head(call, call.lost_since, self.redis.clock.now());
        let pad = pad::of(&head[0]);
        let commands: Vec<_> = members
            .iter()
            .map(|member| {
                let lock = keys::lock_key(LockKey::Project(member));
                let side = keys::side_key(&lock);
                let tail = guard.args(LockKey::Project(member));
                let args: Vec<&[u8]> =
                    head.iter().map(Vec::as_slice).chain(tail.iter().map(AsRef::as_ref)).chain([&*pad]).collect();
                scripts::RELEASE.by_hash(&script_keys(&lock, &side, true), &args)
            })
            .collect();
        let replies = self.redis.transport.query_all(&commands, call.deadline);
        // An answer that cannot be read is none: asked again, it is an error.
        let lost = |e: Error| Failure::ReplyLost(redis::RedisError::from(std::io::Error::other(e.message().to_owned())));
        replies.into_iter().map(|reply| Reply::read(reply?).map_err(lost)).collect()
    }
}
