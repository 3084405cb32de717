//! The world: one Redis, a network, and servers, each with a machine and a disk; how a server begins, looks around and crashes.
//!
//! It takes part in what happens, and decides nothing: what happens is up to `schedule.rs`, and `oracle.rs` judges. A server can
//! die wherever it asks Redis or writes, but not while another operation is nested into its own. Beyond it: stock servers, the
//! BoltDB file and its copy, other modes, and calls that really run at once.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, MutexGuard, RwLock};

use super::client::Client;
use super::clock::{MachineClock, SimulatedClock};
use super::disk::Disks;
use super::network::Network;
use super::oracle::Oracle;
use super::random::Random;
use super::redis::SimulatedRedis;
use super::values::keys_of_repo;
use super::{PATIENCE, Plan};
use crate::call::{Call, RequestId};
use crate::clock::Clock;
use crate::config::Enhanced;
use crate::hybrid::HybridStore;
use crate::hybrid::core::Core;
use crate::hybrid::open::open;
use crate::hybrid::probe::{Schedule, tick};
use crate::process::Process;
use crate::store::contract::local::{EntryKey, LocalStore};
use crate::store::contract::shared::SharedStore;
use crate::store::sled::in_memory::{Disk, Hook, InMemoryStore};

/// A server's process.
pub(super) struct Instance {
    pub(super) core: Arc<Core>,
    pub(super) store: HybridStore,
    due: Mutex<Schedule>,
}

/// The panic that stands for a crash.
struct Crash;

pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) clock: Arc<SimulatedClock>,
    pub(super) random: Random,
    pub(super) redis: SimulatedRedis,
    pub(super) network: Network,
    pub(super) disks: Disks,
    instances: RwLock<Vec<Option<Arc<Instance>>>>,
    oracle: Mutex<Oracle>,
    /// Keys under change, by instance.
    pub(super) active: Mutex<Vec<(usize, EntryKey)>>,
    /// How many operations are nested into others; while one is, nobody crashes.
    pub(super) depth: AtomicUsize,
    /// Whether an instance is looking at all keys.
    is_ticking: AtomicBool,
    /// Counts down to a crash of this instance.
    pub(super) fuse: Mutex<Option<(usize, u32)>>,
    /// Numbers requests, values and processes.
    number: AtomicU64,
    pub(super) log: Mutex<Vec<String>>,
}

impl World {
    /// Redis and the disks of this many instances, before anything happens.
    pub(super) fn new(plan: Plan, instances: usize) -> Arc<World> {
        let world = Arc::new(World {
            plan,
            clock: Arc::new(SimulatedClock::new(!plan.seed)),
            random: Random::new(plan.seed),
            redis: SimulatedRedis::default(),
            network: Network::new(),
            disks: Disks::new(plan.bad_disk),
            instances: RwLock::new(vec![None; instances]),
            oracle: Mutex::default(),
            active: Mutex::default(),
            depth: AtomicUsize::new(0),
            is_ticking: AtomicBool::new(false),
            fuse: Mutex::default(),
            number: AtomicU64::new(1),
            log: Mutex::default(),
        });
        for me in 0..instances {
            world.disks.add(InMemoryStore::new(world.machine(me), world.hook(me)));
        }
        world
    }

    pub(super) fn say(&self, line: impl FnOnce() -> String) {
        self.log.lock().push(line());
    }

    /// A number that nothing else has.
    pub(super) fn number(&self) -> u64 {
        self.number.fetch_add(1, Ordering::SeqCst)
    }

    pub(super) fn call(&self) -> Call {
        Call::new(RequestId::from_text(format!("r{}", self.number())), self.clock.now() + 3 * PATIENCE)
    }

    /// The process of this instance, if it lives.
    pub(super) fn instance(&self, who: usize) -> Option<Arc<Instance>> {
        self.instances.read()[who].clone()
    }

    pub(super) fn living(&self) -> Vec<Arc<Instance>> {
        self.instances.read().iter().flatten().cloned().collect()
    }

    pub(super) fn is_nested(&self) -> bool {
        self.depth.load(Ordering::SeqCst) > 0
    }

    /// Nobody crashes in it, and nothing is nested into it.
    pub(super) fn undisturbed<T>(&self, run: impl FnOnce() -> T) -> T {
        self.depth.fetch_add(1, Ordering::SeqCst);
        let done = run();
        self.depth.fetch_sub(1, Ordering::SeqCst);
        done
    }

    /// A place where the process may die.
    pub(super) fn may_crash(&self, me: usize) {
        if self.is_nested() {
            return;
        }
        let mut fuse = self.fuse.lock();
        if let Some((who, left)) = &mut *fuse
            && *who == me
        {
            if *left == 0 {
                *fuse = None;
                drop(fuse);
                self.say(|| format!("instance {me} dies"));
                resume_unwind(Box::new(Crash));
            }
            *left -= 1;
        }
    }

    /// Something else happens while a question is on its way.
    pub(super) fn meanwhile(self: &Arc<Self>, me: usize) {
        if self.is_nested() || !self.random.percent(15) {
            return;
        }
        self.undisturbed(|| {
            let other = self.random.index(self.disks.count());
            // Within a look at all keys, an operation of the same instance would wait for its turn.
            if other != me || !self.is_ticking.load(Ordering::SeqCst) {
                self.operation(other, other == me);
            }
        });
    }

    /// The clock of the machine of this instance.
    fn machine(&self, me: usize) -> Arc<dyn Clock> {
        let ahead = self.plan.ahead[me % self.plan.ahead.len()];
        Arc::new(MachineClock { of_redis: Arc::clone(&self.clock), ahead })
    }

    /// What happens at each write of this instance.
    fn hook(self: &Arc<Self>, me: usize) -> Hook {
        let world = Arc::downgrade(self);
        Box::new(move || {
            let Some(world) = world.upgrade() else { return Disk::Works };
            world.may_crash(me);
            let disk = world.disks.fate(&world.random);
            if disk != Disk::Works {
                world.say(|| format!("  {me}: the disk {disk:?}"));
            }
            disk
        })
    }

    /// A new process over what the disk has.
    pub(super) fn begin(self: &Arc<Self>, me: usize) {
        let disk = self.disks.store(me);
        let settings = Enhanced {
            instances: self.plan.instances,
            durability: self.plan.durability,
            legacy_fallback: self.plan.fallback,
            ..Enhanced::default()
        };
        let world = Arc::downgrade(self);
        let connect = move |name: &str| {
            let client = Client { world: Weak::clone(&world), me, name: name.to_owned() };
            client.read(&Call::new(RequestId::from_text("c"), client.world().clock.now() + PATIENCE))?;
            Ok(Arc::new(client) as Arc<dyn SharedStore>)
        };
        let clock = self.machine(me);
        let process = format!("i{me}p{}", self.number());
        let began = self.dies(me, || {
            let local: Arc<dyn LocalStore> = disk;
            let process = Process { instance: &process, clock, audit: None };
            let opened = match open(settings, PATIENCE, local, None, Box::new(connect), &process) {
                Ok(opened) => opened,
                Err(e) => {
                    assert!(!self.plan.fallback || self.plan.bad_disk, "{e}");
                    return;
                }
            };
            let core = Arc::clone(&opened.core);
            core.arming.grants_on_any_error.store(self.plan.broken, Ordering::SeqCst);
            let due = Mutex::new(Schedule::from(self.clock.now()));
            self.say(|| format!("instance {me} begins, fallback: {}", core.in_fallback()));
            self.instances.write()[me] = Some(Arc::new(Instance { store: HybridStore::new(opened), core, due }));
        });
        if !began {
            self.begin(me);
        }
    }

    /// Runs what may crash this instance; `false` if it did. Its disk is then what it left.
    pub(super) fn dies(self: &Arc<Self>, me: usize, run: impl FnOnce()) -> bool {
        let Err(panic) = catch_unwind(AssertUnwindSafe(run)) else { return true };
        if !panic.is::<Crash>() {
            resume_unwind(panic);
        }
        self.crash(me);
        false
    }

    pub(super) fn crash(self: &Arc<Self>, me: usize) {
        self.instances.write()[me] = None;
        // What was being asked for has no answer.
        let active: Vec<_> = self.active.lock().extract_if(.., |(who, _)| *who == me).collect();
        for (_, key) in active {
            let mut oracle = self.oracle();
            oracle.perhaps_released(&key);
            keys_of_repo().iter().for_each(|key| oracle.perhaps_released(key));
        }
        self.disks.crash(me, &self.random, self.hook(me));
    }

    /// Who judges, at this moment.
    pub(super) fn oracle(&self) -> MutexGuard<'_, Oracle> {
        let mut oracle = self.oracle.lock();
        oracle.at(self.clock.unix_micros());
        oracle
    }

    /// The server looks around, as it does in the background.
    pub(super) fn tick(self: &Arc<Self>, who: usize) {
        let Some(instance) = self.instance(who) else { return };
        self.is_ticking.store(true, Ordering::SeqCst);
        let looked = catch_unwind(AssertUnwindSafe(|| tick(&instance.core, &mut instance.due.lock())));
        self.is_ticking.store(false, Ordering::SeqCst);
        looked.unwrap_or_else(|crash| resume_unwind(crash));
    }
}
