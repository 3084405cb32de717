//! Who asks outside of plans: newcomers, callers who wait, people at the page, and a stock server.

use std::time::Duration;

use super::oracle::Names;
use super::scene::Scene;
use super::values::{OF_STOCK, PATHS, REPO, entry, key, lock, number_of, path_of, pull};
use crate::clock::Clock;
use crate::error::Code;
use crate::queue::{Priority, Queue};
use crate::service::queueing::next::NextRequest;
use crate::service::queueing::wait::{WaitOptions, Waited, Why};
use crate::store::Granted;
use crate::sync::mark;

/// The process of the stock server.
const STOCK: usize = usize::MAX;

impl Scene {
    fn any_path(&self) -> &'static str {
        PATHS[self.world.random.index(PATHS.len())]
    }

    /// A pull that waits for nothing tries once. What is kept for another pull is not given to it.
    pub(super) fn newcomer_tries(&self, me: usize) {
        let (Some(service), Some(newcomer)) = (self.service(me), self.newcomer()) else { return };
        let (path, num, number) = (self.any_path(), newcomer.1, self.number());
        let trouble = *self.trouble.lock();
        let before = service.queue(REPO).ok().filter(|queue| service.assert_gates(queue).is_ok() && self.is_well());
        self.oracle().asks(number, &key(path), num, None, self.process());
        let answer = service.try_lock(&lock(path, num, number));
        self.world.say(|| format!("{me}: newcomer #{num} tries {path} v{number} → {answer:?}"));
        match answer {
            Ok(Granted::Yes { .. }) => {
                self.oracle().acquired(number, Some(number));
                let after = service.queue(REPO).ok().filter(|_| self.is_well() && *self.trouble.lock() == trouble);
                if let (Some(before), Some(after)) = (before, after) {
                    self.check_order(&before, &after, &key(path), num);
                }
            }
            Ok(Granted::Held { .. } | Granted::NotYet) => self.oracle().refused(number),
            Err(error) if error.code() == Code::OutcomeUnknown => self.oracle().unknown(number),
            Err(_) => self.oracle().refused(number),
        }
    }

    /// A newcomer was granted this key. The queue was not changed meanwhile, and all stores obeyed it.
    fn check_order(&self, before: &Queue, after: &Queue, key: &str, num: i64) {
        if before.revision() != after.revision() || before != after || before.is_empty() {
            return;
        }
        mark!("queue: a newcomer got in");
        assert!(after.admits(key, Some(&pull(num))), "#{num} got {key}, which was kept: {after:?}");
    }

    /// A server plans whoever is next, as far as it comes.
    pub(super) fn hands_over(&self, me: usize) {
        const CLAIM: u64 = 600_000;
        let Some(service) = self.service(me) else { return };
        let Ok(next) = service.next(NextRequest { claim_ms: CLAIM, most: 0, wait_ms: 0 }) else { return };
        self.world.say(|| format!("{me}: it is the turn of {:?}, and {:?} left", next.turns, next.left));
        for turn in next.turns {
            let num = turn.waiter.pull.num;
            let place = service.queue(REPO).ok().and_then(|queue| queue.ticket(&turn.waiter.pull).map(|ticket| ticket.seq));
            // By clocks that are wrong by less than half of a claim.
            if let Some(seq) = place.filter(|_| self.plan.keeps_places())
                && let Some(told) = self.claims.lock().insert((num, seq), self.now())
            {
                assert!(self.now() >= told + CLAIM * 1_000 / 2, "#{num} is claimed, and told to another: {turn:?}");
            }
            if self.world.random.percent(70) {
                mark!("queue: whoever is next is planned");
                let paths: Vec<&str> = turn.keys.iter().map(|key| path_of(key)).collect();
                self.plan_of(me, num, &paths);
            }
        }
    }

    /// A caller waits.
    pub(super) fn wait(&self, me: usize, num: i64) {
        let (Some(service), Some(_alone)) = (self.service(me), self.alone(num)) else { return };
        let (path, number) = (self.any_path(), self.number());
        let timeout = [0, 1, 20, 120, 900][self.world.random.index(5)];
        let name = format!("w{number}");
        let options = WaitOptions {
            priority: [Priority::Low, Priority::Normal, Priority::Normal, Priority::High][self.world.random.index(4)],
            timeout: Some(Duration::from_secs(timeout)),
            cancel: Some(name.clone()),
        };
        self.waits.lock().push((me, name));
        self.waiting.lock().insert(num);
        self.places.lock().gives_up(num, Some(&key(path)));
        self.oracle().asks(number, &key(path), num, None, self.process());
        let answer = service.lock(&lock(path, num, number), &options);
        self.world.say(|| format!("{me}: #{num} waited for {path} v{number}, {timeout} s → {answer:?}"));
        match answer {
            Ok(Waited::Locked { value, .. }) => {
                mark!("queue: a wait ends with the lock");
                self.oracle().acquired(number, number_of(&value));
            }
            Ok(Waited::Without { why, .. }) => {
                match why {
                    Why::Timeout => mark!("queue: a wait ends by its time", ()),
                    Why::Cancelled => mark!("queue: a wait is cancelled", ()),
                    Why::Left => mark!("queue: a waiting pull is taken out", ()),
                }
                self.oracle().refused(number);
            }
            // An earlier try of the same wait may be the one that is unknown.
            Err(_) => self.oracle().unknown(number),
        }
    }

    pub(super) fn cancel_one(&self) {
        let mut waits = self.waits.lock();
        if waits.is_empty() {
            return;
        }
        let nth = self.world.random.index(waits.len());
        let (me, name) = waits.swap_remove(nth);
        drop(waits);
        if let Some(service) = self.service(me) {
            service.cancel(&name).expect("has a name");
        }
    }

    /// Somebody takes a pull out of the queue.
    pub(super) fn leave(&self, me: usize, num: i64) {
        let Some(service) = self.service(me) else { return };
        let key = self.world.random.percent(50).then(|| key(self.any_path()));
        let alone = self.alone(num);
        if alone.is_none() && !self.waiting.lock().contains(&num) {
            return;
        }
        self.places.lock().gives_up(num, key.as_deref());
        let left = service.leave(REPO, &pull(num), key.as_deref());
        // Also a place that was told meanwhile.
        self.places.lock().gives_up(num, key.as_deref());
        self.world.say(|| format!("{me}: #{num} leaves {key:?}: {left:?}"));
    }

    /// Somebody discards a lock at the page.
    pub(super) fn discard(&self, me: usize, path: &str) {
        let Some(service) = self.service(me) else { return };
        let id = self.number();
        self.oracle().begin_release(id, Names::Key(key(path), None), self.process());
        let answer = service.unlock(&lock(path, 0, 0));
        self.world
            .say(|| format!("{me}: {path} is unlocked: {:?}", answer.as_ref().map(|value| value.as_deref().map(number_of))));
        match answer {
            Ok(released) => self.oracle().released(id, released.as_deref().map(number_of)),
            Err(_) => self.oracle().release_unknown(id),
        }
    }

    /// A stock server takes a key that is free, or gives up its own. It knows no queue.
    pub(super) fn stock_acts(&self) {
        let path = self.any_path();
        let name = format!("pr/{}", key(path));
        let execute = |command: &[&[u8]]| {
            let words: Vec<Vec<u8>> = command.iter().map(|word| word.to_vec()).collect();
            self.world.redis.execute(&words, self.world.clock.unix_micros())
        };
        let held = self.world.value(&entry(&key(path)));
        match held.as_deref() {
            None => {
                let number = self.number();
                self.oracle().asks(number, &key(path), OF_STOCK, None, STOCK);
                execute(&[b"SET", name.as_bytes(), &lock(path, OF_STOCK, number)]);
                self.world.say(|| format!("stock takes {path} v{number}"));
                self.oracle().acquired(number, Some(number));
                mark!("queue: a stock server takes a key");
            }
            Some(value) if crate::domain::lock::ProjectLock::parse(value).is_ok_and(|lock| lock.pull().num == OF_STOCK) => {
                let id = self.number();
                self.oracle().begin_release(id, Names::Key(key(path), Some(OF_STOCK)), STOCK);
                execute(&[b"DEL", name.as_bytes()]);
                self.world.say(|| format!("stock gives up {path}"));
                self.oracle().released(id, [number_of(value)]);
            }
            Some(_) => {}
        }
    }
}
