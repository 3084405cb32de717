//! Plans of pulls: first ones, and those of whoever holds locks; and what gives up all that a pull has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use super::oracle::Names;
use super::scene::{Alone, Scene};
use super::values::{PATHS, REPO, key, lock, number_of, path_of, pull};
use crate::config::Sets;
use crate::error::Code;
use crate::service::Service;
use crate::service::queueing::attempt::Asker;
use crate::service::queueing::open_runs::Command;
use crate::service::queueing::place::InRun;
use crate::service::queueing::runs::RunRequest;
use crate::sync::mark;

/// One plan.
struct Planning<'a> {
    scene: &'a Scene,
    service: &'a Service,
    num: i64,
    run: u64,
    /// What it is going to take, by key, with the numbers of the locks.
    wanted: BTreeMap<String, u64>,
    /// What its pull held when it began.
    held: BTreeMap<String, u64>,
    applied: BTreeSet<String>,
    /// What is released at the end.
    deferred: BTreeMap<String, u64>,
    set: Option<u64>,
    /// A try of the set failed.
    has_failed: bool,
    /// What had failed by the beginning.
    trouble: u64,
}

fn begin(service: &Service, num: i64, command: Command, applied: &BTreeSet<String>) -> Option<u64> {
    let applied = applied.iter().cloned().collect();
    let request = RunRequest {
        repo: REPO.to_owned(),
        pull: pull(num),
        command,
        base: String::new(),
        author: String::new(),
        labels: Vec::new(),
        applied,
        recipe: String::new(),
    };
    service.run_begin(&request).ok()
}

impl Scene {
    /// A plan of this pull, of whatever it wants.
    pub(super) fn plan(&self, me: usize, num: i64) {
        let paths: Vec<&str> = PATHS.into_iter().filter(|_| self.world.random.percent(60)).collect();
        self.plan_of(me, num, &paths);
    }

    /// A plan of these projects.
    pub(super) fn plan_of(&self, me: usize, num: i64, paths: &[&str]) {
        let (Some(service), Some(alone)) = (self.service(me), self.alone(num)) else { return };
        let held = self.oracle().held_by(num);
        let applied: BTreeSet<String> = {
            let applied = self.applied.lock();
            held.iter().filter(|(_, number)| applied.contains(number)).map(|(key, _)| key.clone()).collect()
        };
        self.claims.lock().retain(|(of, _), _| *of != num);
        let Some(run) = begin(&service, num, Command::Plan, &applied) else { return };
        self.world.say(|| format!("{me}: run {run} of #{num} plans {paths:?}, holds {held:?}, applied {applied:?}"));
        let wanted = paths.iter().map(|path| (key(path), self.number())).collect();
        let (deferred, set, trouble) = (BTreeMap::new(), None, *self.trouble.lock());
        let mut planning = Planning {
            scene: self,
            service: &service,
            num,
            run,
            wanted,
            held,
            applied,
            deferred,
            set,
            has_failed: false,
            trouble,
        };
        planning.gives_up();
        planning.declares();
        planning.takes();
        planning.ends();
        drop(alone);
    }
}

impl Planning<'_> {
    fn chance(&self, percent: u64) -> bool {
        self.scene.world.random.percent(percent)
    }

    /// As Atlantis does before it plans again: one by one, or all at once.
    fn gives_up(&mut self) {
        if self.chance(30) {
            return;
        }
        if self.chance(30) {
            let Ok(answered) = self.service.unlock_by_pull(REPO, self.num) else { return };
            mark!("queue: all locks are given up in a plan");
            for value in answered.values() {
                let key = Asker::of(value).expect("is a lock").key;
                self.deferred.insert(key, number_of(value).expect("somebody asked for it"));
            }
            return;
        }
        for path in PATHS {
            if self.wanted.contains_key(&key(path)) && self.held.contains_key(&key(path)) {
                self.unlocks(path);
            }
        }
    }

    fn unlocks(&mut self, path: &str) {
        let answer = self.service.unlock_if_owned_by_pull(&lock(path, self.num, 0), self.num);
        if let Ok(Some(value)) = &answer {
            mark!("queue: a lock is given up in a plan");
            let number = number_of(value).expect("somebody asked for it");
            self.deferred.insert(key(path), number);
        }
    }

    fn declares(&mut self) {
        let is_whole = self.scene.plan.sets == Sets::Whole;
        if self.wanted.is_empty() || !(is_whole || self.chance(30)) {
            return;
        }
        let locks: Vec<String> = self
            .wanted
            .iter()
            .map(|(key, number)| String::from_utf8(lock(path_of(key), self.num, *number)).expect("is a text"))
            .collect();
        self.service.run_declare(self.run, format!("[{}]", locks.join(",")).as_bytes()).expect("is declared");
        if is_whole {
            let id = self.scene.number();
            let mut oracle = self.scene.oracle();
            let newly: BTreeSet<u64> =
                self.wanted.iter().filter(|(key, _)| !oracle.perhaps_holds(self.num, key)).map(|(_, number)| *number).collect();
            oracle.begin_set(id, self.num, newly, self.scene.process());
            drop(oracle);
            self.set = Some(id);
        }
    }

    fn takes(&mut self) {
        let wanted = self.wanted.clone();
        for (key, number) in &wanted {
            self.scene.oracle().asks(*number, key, self.num, self.set, self.scene.process());
            if self.set.is_none() {
                self.scene.places.lock().gives_up(self.num, Some(key));
            }
        }
        if self.set.is_some() {
            self.scene.places.lock().gives_up(self.num, None);
        }
        let mut answers = BTreeSet::new();
        for (key, number) in wanted {
            let answer = self.service.try_lock_in(self.run, &lock(path_of(&key), self.num, number));
            self.scene.world.say(|| format!("  run {} of #{}: {key} v{number} → {answer:?}", self.run, self.num));
            match answer {
                Ok(answer) => {
                    answers.insert(answer.acquired);
                    self.answered(&key, number, &answer);
                    if answer.acquired && self.chance(20) {
                        // The plan of that project fails.
                        self.unlocks(path_of(&key));
                    }
                }
                Err(error) if error.code() == Code::OutcomeUnknown || self.set.is_some() => {
                    self.has_failed |= error.code() != Code::SetIncomplete;
                    self.scene.oracle().unknown(number);
                }
                Err(error) => {
                    let is_of_set = error.code() == Code::SetIncomplete;
                    assert!(!is_of_set || self.scene.plan.sets == Sets::Whole, "there is no set: {error:?}");
                    self.scene.oracle().refused(number);
                }
            }
        }
        let is_touched = self.wanted.values().any(|number| self.scene.oracle().perhaps_released(*number));
        let is_whole = self.set.is_none() || answers.len() < 2;
        assert!(is_whole || is_touched, "a set of #{} is granted in part", self.num);
        if let Some(set) = self.set {
            self.scene.oracle().end_set(set);
        }
    }

    fn answered(&mut self, key: &str, number: u64, answer: &InRun) {
        if !answer.acquired {
            mark!("queue: a plan is refused");
            assert!(!self.is_calm() || self.set.is_some() || !self.holds(key), "{key} is refused to its holder");
            if self.set.is_none() {
                self.scene.oracle().refused(number);
            } else {
                self.scene.oracle().unknown(number);
                for (key, number) in &self.wanted {
                    let own = self.scene.oracle().perhaps_held(self.num, key, self.set);
                    // What an earlier try left of it, which failed.
                    let own = own.or(self.has_failed.then_some(*number));
                    // What the plan itself gave up stays that.
                    own.map(|own| *self.deferred.entry(key.clone()).or_insert(own));
                }
            }
            if answer.waiting.as_ref().is_some_and(|waiting| waiting.position > 0) {
                self.scene.places.lock().told(self.num, key, self.scene.now());
            }
            return;
        }
        let (asked, held) = (number, number_of(&answer.value));
        self.scene.oracle().acquired(asked, held);
        let number = held.expect("somebody asked for it");
        self.deferred.remove(key);
        self.held.insert(key.to_owned(), number);
        if self.is_calm()
            && held == Some(asked)
            && let Ok(queue) = self.service.queue(REPO)
        {
            let waits = queue.ticket(&pull(self.num)).is_some_and(|ticket| ticket.want(key).is_some());
            // A server that is being closed cannot write that any more; the next one sees it.
            let is_closing = self.service.check_open().is_err();
            // After a fallback the next tick gives Redis the gates, and sees who went by.
            let fell_back = self.service.router.report().is_some_and(|report| report.fallbacks != Default::default());
            let is_excused = is_closing || self.set.is_some() || fell_back || self.scene.has_forgotten.load(Ordering::SeqCst);
            assert!(!waits || is_excused, "#{} has {key}, and waits for it: {queue:?}", self.num);
        }
    }

    /// Whether all stores worked since the beginning: what a queue says was obeyed.
    fn is_calm(&self) -> bool {
        !self.scene.plan.trouble && self.trouble == *self.scene.trouble.lock()
    }

    /// Whether its pull held this from the beginning of the run, and still does.
    fn holds(&self, key: &str) -> bool {
        self.held.get(key).is_some_and(|number| self.scene.oracle().surely_holds(*number))
    }

    /// What was given up is released, but for what was taken again, or is applied.
    fn ends(mut self) {
        self.deferred.retain(|key, _| !self.applied.contains(key));
        let id = self.scene.number();
        let names = Names::Locks(self.deferred.values().copied().collect());
        self.scene.oracle().begin_release(id, names, self.scene.process());
        self.scene.claims.lock().retain(|(of, _), _| *of != self.num);
        let answer = self.service.run_end(self.run);
        // Whoever was told of the pull meanwhile may have been told before its run was over.
        self.scene.claims.lock().retain(|(of, _), _| *of != self.num);
        self.scene.world.say(|| format!("  run {} of #{} ends: {answer:?}", self.run, self.num));
        match answer {
            Ok(ended) => {
                let released = ended.released.iter().map(|key| self.deferred.get(key).copied());
                self.scene.oracle().released(id, released);
            }
            Err(_) => self.scene.oracle().release_unknown(id),
        }
        // Some of what was planned is applied before long.
        for (_, number) in self.held.iter().filter(|_| self.scene.world.random.percent(15)) {
            self.scene.applied.lock().insert(*number);
        }
    }
}

impl Scene {
    /// `atlantis unlock`, or without a run the end of a pull.
    pub(super) fn unlock_pull(&self, me: usize, num: i64, in_run: bool) {
        let (Some(service), Some(_alone)) = (self.service(me), self.alone(num)) else { return };
        let run = if in_run { begin(&service, num, Command::Unlock, &BTreeSet::new()) } else { None };
        self.places.lock().gives_up(num, None);
        let id = self.number();
        self.oracle().begin_release(id, Names::Pull(num), self.process());
        let answer = service.unlock_by_pull(REPO, num);
        self.world.say(|| format!("{me}: #{num} gives up all: {:?}", answer.as_ref().map(crate::store::Listing::len)));
        match answer {
            Ok(released) => self.oracle().released(id, released.values().map(number_of)),
            Err(_) => self.oracle().release_unknown(id),
        }
        if let Some(run) = run {
            self.claims.lock().retain(|(of, _), _| *of != num);
            let _ = service.run_end(run);
            self.claims.lock().retain(|(of, _), _| *of != num);
        }
    }

    /// Alone until this is dropped.
    pub(super) fn newcomer(&self) -> Option<Alone<'_>> {
        self.alone(super::values::NEWCOMERS + i64::try_from(self.number()).expect("is small"))
    }
}
