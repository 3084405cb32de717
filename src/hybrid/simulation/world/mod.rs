//! The world: one Redis, a network, and servers, each with a machine and a disk; how a server begins, looks around and dies.
//!
//! It takes part in what happens, and decides nothing: what happens is up to `schedule.rs`, and `oracle` judges. Everything that a
//! server does is a task of its process (`crate::sync::tasks`): any number of operations, the look around, the threads of its stores. A
//! process can die wherever one of its tasks asks Redis or writes.

mod processes;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, MutexGuard, RwLock};

use super::clock::{MachineClock, SimulatedClock};
use super::disk::Disks;
use super::host::HostFile;
use super::link::PerfectLink;
use super::modes::{Modes, Running};
use super::network::Network;
use super::oracle::{Number, Oracle};
use super::random::Random;
use super::schedule::REMEMBERED;
use super::show::text;
use super::stock::Stock;
use super::{PATIENCE, Plan};
use crate::call::{Call, RequestId};
use crate::clock::Clock;
use crate::config::Enhanced;
use crate::hybrid::HybridStore;
use crate::hybrid::core::Core;
use crate::hybrid::probe::{Schedule, tick};
use crate::store::contract::local::EntryKey;
use crate::store::redis::RedisStore;
use crate::store::redis::simulated::{Image, SimulatedRedis};
use crate::sync::mark;
use crate::sync::tasks::Group;

/// A server's process.
pub(crate) struct Instance {
    pub(super) core: Arc<Core>,
    pub(crate) store: HybridStore,
    /// When it looks around next. Who has it keeps others from looking.
    pub(super) due: Mutex<Schedule>,
}

impl Instance {
    /// Whether the local store is known to have everything, or Redis is asked.
    pub(crate) fn knows_all(&self) -> bool {
        self.core.arming.unarmed().is_none() || !self.core.in_fallback()
    }
}

/// A server: a machine, a disk, and a process at most.
#[derive(Clone)]
struct Server {
    clock: Arc<MachineClock>,
    /// The process, from the beginning of its start.
    process: Option<Group>,
    /// Once it has started.
    running: Option<Running>,
}

/// What a caller waits for.
pub(crate) struct UnderWay {
    pub(crate) process: Group,
    pub(crate) request: String,
    /// Whether it may release something.
    pub(crate) releases: bool,
}

/// Starts a process of this server in a task.
pub(crate) type Starts = Box<dyn Fn(usize, Group) + Send + Sync>;

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) clock: Arc<SimulatedClock>,
    pub(crate) random: Random,
    pub(crate) redis: SimulatedRedis,
    /// Images of Redis to which it may go back, oldest first.
    images: Mutex<Vec<Image>>,
    pub(crate) network: Network,
    pub(crate) disks: Disks,
    servers: RwLock<Vec<Server>>,
    oracle: Mutex<Oracle>,
    pub(crate) under_way: Mutex<BTreeMap<Number, UnderWay>>,
    /// How many operations, starts and looks around are under way.
    pub(crate) busy: AtomicUsize,
    /// Counts down to the death of this server's process.
    pub(crate) fuse: Mutex<Option<(usize, u32)>>,
    /// Whose process has died just now.
    pub(crate) doomed: Mutex<Option<usize>>,
    pub(super) stock: Stock,
    pub(super) host: HostFile,
    pub(crate) modes: Modes,
    /// How a process starts, if not in hybrid mode by its own parts.
    pub(crate) starts: OnceLock<Starts>,
    /// When each server last announced itself, by Redis's clock.
    announced: Mutex<BTreeMap<usize, u64>>,
    /// Numbers requests, values and processes.
    number: AtomicU64,
    /// Whether anybody reads the log.
    is_logged: bool,
    pub(crate) log: Mutex<Vec<String>>,
}

impl World {
    /// Redis and the disks of this many servers, before anything happens.
    pub(crate) fn new(plan: Plan, servers: usize, is_logged: bool) -> Arc<World> {
        let clock = Arc::new(SimulatedClock::new(!plan.seed));
        let drift = |me: usize| if servers == 1 { plan.drift[me] } else { 0 };
        let server = |me: usize| Server {
            clock: Arc::new(MachineClock::new(Arc::clone(&clock), plan.ahead[me % 2], drift(me))),
            process: None,
            running: None,
        };
        Arc::new(World {
            plan,
            random: Random::new(plan.seed),
            redis: SimulatedRedis::default(),
            images: Mutex::default(),
            network: Network::new(),
            disks: Disks::new(servers, plan.bad_disk),
            servers: RwLock::new((0..servers).map(server).collect()),
            oracle: Mutex::new(Oracle::new(plan.durability)),
            under_way: Mutex::default(),
            busy: AtomicUsize::new(0),
            fuse: Mutex::default(),
            doomed: Mutex::default(),
            stock: Stock::default(),
            host: HostFile::new(plan.host),
            modes: Modes::default(),
            announced: Mutex::default(),
            starts: OnceLock::new(),
            number: AtomicU64::new(1),
            is_logged,
            log: Mutex::default(),
            clock,
        })
    }

    pub(crate) fn say(&self, line: impl FnOnce() -> String) {
        if self.is_logged {
            let line = line();
            self.log.lock().push(line);
        }
    }

    /// A number that nothing else has.
    pub(crate) fn number(&self) -> u64 {
        self.number.fetch_add(1, Ordering::SeqCst)
    }

    pub(crate) fn call(&self) -> Call {
        Call::new(RequestId::from_text(format!("r{:06}", self.number())), self.clock.now() + 3 * PATIENCE)
    }

    pub(crate) fn servers(&self) -> usize {
        self.servers.read().len()
    }

    /// Whether no other server uses this Redis.
    pub(crate) fn is_alone(&self) -> bool {
        self.servers() == 1 && !self.plan.stock
    }

    /// What serves this server's callers, once it has started.
    pub(crate) fn running(&self, who: usize) -> Option<Running> {
        self.servers.read()[who].running.clone()
    }

    /// The process of this server, once it has started in hybrid mode.
    pub(crate) fn instance(&self, who: usize) -> Option<Arc<Instance>> {
        match self.running(who)? {
            Running::Hybrid(instance) => Some(instance),
            Running::Other(_) => None,
        }
    }

    /// The process of this server, from the beginning of its start.
    pub(crate) fn process(&self, who: usize) -> Option<Group> {
        self.servers.read()[who].process
    }

    pub(crate) fn living(&self) -> Vec<Arc<Instance>> {
        (0..self.servers()).filter_map(|who| self.instance(who)).collect()
    }

    /// The clock of this server's machine.
    pub(crate) fn machine(&self, me: usize) -> Arc<MachineClock> {
        Arc::clone(&self.servers.read()[me].clock)
    }

    /// What Redis holds, without what is beside it.
    pub(crate) fn entries(&self) -> BTreeMap<EntryKey, Vec<u8>> {
        let entry = |key: Vec<u8>| {
            let name = String::from_utf8(key).ok()?;
            let value = self.redis.value(name.as_bytes())?;
            Some((entry_key(&name)?, value))
        };
        self.redis.keys().into_iter().filter_map(entry).collect()
    }

    /// What Redis holds at this key.
    pub(crate) fn value(&self, key: &EntryKey) -> Option<Vec<u8>> {
        self.entries().remove(key)
    }

    pub(crate) fn keep_image(&self) {
        self.images.lock().push(self.redis.image());
    }

    /// Redis is empty, or as it was before.
    pub(crate) fn lose_data(&self) {
        let mut images = self.images.lock();
        let old = if self.random.percent(40) || images.is_empty() {
            mark!("fault: Redis loses everything", Image::default())
        } else {
            mark!("fault: Redis goes back");
            // The newest often.
            let nth = self.random.index(2 * images.len()).min(images.len() - 1);
            images.truncate(nth + 1);
            images.pop().expect("is there")
        };
        drop(images);
        self.redis.restore(&old);
        self.redis.restart();
        self.say(|| format!("Redis loses data; it has {} entries now", self.entries().len()));
        self.network.drop_stuck();
        self.oracle().redis_lost_data();
    }

    /// A server of another machine, which always reaches Redis.
    pub(crate) fn other_server(self: &Arc<Self>, name: &str) -> RedisStore {
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let link = Arc::new(PerfectLink(Arc::clone(self)));
        RedisStore::over(link, clock, &Enhanced::default().redis, name).expect("connects")
    }

    /// Redis executes a server's command. It forgets a server of which it has not heard for thirty days.
    pub(super) fn heard(&self, me: usize, command: &[Vec<u8>]) {
        const FORGOTTEN: u64 = 30 * 24 * 3_600_000_000;
        /// Where an announcement says since when the two agree; see `announce.lua`.
        const AGREED: usize = 10;
        if command.get(3).is_some_and(|key| key == b"atlock:instances") {
            let now = self.clock.unix_micros();
            let before = self.announced.lock().insert(me, now);
            if before.is_some_and(|before| now - before > FORGOTTEN) {
                self.oracle().was_forgotten(me);
            } else if command.get(AGREED).is_some_and(|agreed| agreed != b"0") {
                self.oracle().agrees(me);
            }
        }
    }

    /// What was being asked of this process has no answer.
    pub(crate) fn without_answer(&self, process: Group) {
        let lost: Vec<_> = self.under_way.lock().extract_if(.., |_, under_way| under_way.process == process).collect();
        for (number, under_way) in lost.into_iter().filter(|(_, under_way)| under_way.releases) {
            self.oracle().never_answered(number, &under_way.request);
        }
    }

    /// There is no conflict. A stock server's lock bears no token: behind it, after more than an hour, a server cannot tell that the lock it
    /// knew was released, and says so. Nor can it behind a lock that another server put back, which knew of no release for an hour, either.
    /// But no holder is among those.
    pub(super) fn check_conflicts(&self, core: &Core) {
        for conflict in core.conflicts.all() {
            let is_stocks = conflict.remote.token.is_none() && (self.plan.stock || self.plan.foreign);
            let was_put_back = !self.is_alone() && self.oracle().was_released_before(&conflict.remote.value, REMEMBERED);
            let is_excused = (is_stocks || was_put_back) && !self.oracle().surely_holds(&conflict.local.value);
            let texts = || (text(&conflict.local.value), text(&conflict.remote.value));
            assert!(is_excused, "a conflict at the {}, here and in Redis: {:?}", conflict.key, texts());
        }
    }

    /// Who judges, at this moment.
    pub(super) fn oracle(&self) -> MutexGuard<'_, Oracle> {
        let mut oracle = self.oracle.lock();
        oracle.at(self.clock.unix_micros());
        oracle
    }

    /// The server looks around, as it does in the background.
    pub(crate) fn tick(&self, who: usize) {
        let Some(instance) = self.instance(who) else { return };
        let Some(mut due) = instance.due.try_lock() else { return };
        if instance.core.arming.has_lost() && !self.plan.loses_data {
            self.oracle().believes_in_a_loss(who);
        }
        tick(&instance.core, &mut due);
    }
}

/// The entry that has this key in Redis; `None` for what is beside the entries.
fn entry_key(name: &str) -> Option<EntryKey> {
    if let Some(name) = name.strip_prefix("pr/") {
        return Some(EntryKey::Project(name.to_owned()));
    }
    if let Some(name) = name.strip_prefix("global/").and_then(|name| name.strip_suffix("/lock")) {
        return Some(EntryKey::Command(name.to_owned()));
    }
    (name == super::values::STATUS).then(|| EntryKey::Status(name.to_owned()))
}
