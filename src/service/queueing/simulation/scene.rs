//! The scene: servers of the real service over simulated stores, and what everybody there knows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use super::oracle::Oracle;
use super::places::Places;
use super::values::{REPO, number_of};
use super::{Plan, Stores};
use crate::clock::Clock;
use crate::config::{Backend, Config, Mode};
use crate::error::Result;
use crate::hybrid::simulation::PATIENCE;
use crate::hybrid::simulation::modes::{ServersStores, Serves};
use crate::hybrid::simulation::world::World;
use crate::queue::{Queue, Ticket};
use crate::service::Service;
use crate::store::Store;
use crate::sync::tasks::{self, Group};

/// How long a key is kept for a pull.
pub(super) const RESERVATION: Duration = Duration::from_secs(600);

pub(super) struct Scene {
    pub(super) plan: Plan,
    pub(super) world: Arc<World>,
    services: Mutex<Vec<Weak<Service>>>,
    oracle: Mutex<Oracle>,
    pub(super) places: Mutex<Places>,
    /// The pulls for which something is under way, and the process that does it.
    busy: Mutex<BTreeMap<i64, Group>>,
    /// The pulls for which a caller waits.
    pub(super) waiting: Mutex<BTreeSet<i64>>,
    /// Who waits, by the names by which they are cancelled, and their servers.
    pub(super) waits: Mutex<Vec<(usize, String)>>,
    /// The locks whose projects are applied.
    pub(super) applied: Mutex<BTreeSet<u64>>,
    /// Who was told whose turn it is, by pull and place, and when.
    pub(super) claims: Mutex<BTreeMap<(i64, u64), u64>>,
    /// Redis has lost data, and may not have all back yet.
    pub(super) lost_data: AtomicBool,
    /// So much time went by at once that Redis forgot what is beside locks.
    pub(super) has_forgotten: AtomicBool,
    /// How often something began to fail, or did.
    pub(super) trouble: Mutex<u64>,
}

impl Serves for Service {
    fn store(&self) -> &dyn Store {
        self.router.store()
    }

    fn close(&self) -> Result<()> {
        Service::close(self)
    }

    fn is_killed(&self) {
        self.closed.store(true, std::sync::atomic::Ordering::SeqCst);
    }
}

/// A pull for which nothing else is done meanwhile.
pub(super) struct Alone<'a>(&'a Scene, pub(super) i64);

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.0.busy.lock().remove(&self.1);
        self.0.waiting.lock().remove(&self.1);
    }
}

impl Scene {
    pub(super) fn new(plan: Plan) -> Arc<Scene> {
        let world = World::new(plan.of_stores(), plan.servers, true);
        let scene = Arc::new(Scene {
            plan,
            services: Mutex::new((0..plan.servers).map(|_| Weak::new()).collect()),
            oracle: Mutex::new(Oracle::new(plan.stores == Stores::Hybrid && plan.servers > 1)),
            places: Mutex::default(),
            busy: Mutex::default(),
            waiting: Mutex::default(),
            waits: Mutex::default(),
            applied: Mutex::default(),
            claims: Mutex::default(),
            lost_data: AtomicBool::default(),
            has_forgotten: AtomicBool::default(),
            trouble: Mutex::default(),
            world: Arc::clone(&world),
        });
        let weak = Arc::downgrade(&scene);
        let starts = move |me, process| {
            if let Some(scene) = weak.upgrade() {
                scene.start(me, process);
            }
        };
        assert!(world.starts.set(Box::new(starts)).is_ok(), "starts once");
        scene
    }

    fn config(&self) -> Config {
        let mut config = Config::default();
        config.locking.backend = Backend::Sled;
        config.locking.data_dir = Some(crate::hybrid::simulation::disk::FOLDER.into());
        config.locking.timeout = PATIENCE;
        config.locking.enhanced = self.world.settings();
        let (mode, enabled) = match self.plan.stores {
            Stores::Strict => (Mode::Strict, false),
            Stores::Native => (Mode::Native, true),
            Stores::Hybrid => (Mode::Hybrid, true),
        };
        let enhanced = &mut config.locking.enhanced;
        (enhanced.compatibility_mode, enhanced.enabled) = (mode, enabled);
        enhanced.redis.timeouts.operation = PATIENCE;
        enhanced.priority_queue.enabled = true;
        enhanced.priority_queue.sets = self.plan.sets;
        enhanced.timeouts.default = RESERVATION;
        config
    }

    /// A process begins, in a task.
    fn start(&self, me: usize, process: Group) {
        let stores = ServersStores { world: Arc::clone(&self.world), me };
        let clock = self.world.machine(me) as Arc<dyn Clock>;
        let number = u64::try_from(process).expect("is small");
        let opened = Service::open_on(&stores, &self.config(), number, clock);
        match opened {
            Ok(service) if tasks::is_dying() => service.is_killed(),
            Ok(service) => {
                let service = Arc::new(service);
                self.services.lock()[me] = Arc::downgrade(&service);
                self.world.say(|| format!("server {me} begins as process {process}"));
                self.world.serves(me, service);
            }
            Err(error) => self.world.does_not_begin(me, &error),
        }
    }

    pub(super) fn service(&self, me: usize) -> Option<Arc<Service>> {
        self.world.running(me)?;
        self.services.lock()[me].upgrade()
    }

    pub(super) fn oracle(&self) -> MutexGuard<'_, Oracle> {
        self.oracle.lock()
    }

    pub(super) fn number(&self) -> u64 {
        self.world.number()
    }

    /// The process of the task that runs.
    pub(super) fn process(&self) -> Group {
        tasks::group().expect("is a task")
    }

    /// This pull, if nothing is done for it.
    pub(super) fn alone(&self, num: i64) -> Option<Alone<'_>> {
        let mut busy = self.busy.lock();
        if busy.contains_key(&num) {
            return None;
        }
        busy.insert(num, self.process());
        Some(Alone(self, num))
    }

    /// Whatever this process was about has no end.
    pub(super) fn died(&self, process: Group) {
        self.oracle().died(process);
        self.busy.lock().retain(|_, by| *by != process);
        self.fails();
    }

    /// Something fails, or does no longer.
    pub(super) fn fails(&self) {
        *self.trouble.lock() += 1;
    }

    /// Whether all stores work.
    pub(super) fn is_well(&self) -> bool {
        use std::sync::atomic::Ordering::SeqCst;
        let network = &self.world.network;
        let is_up = network.is_up.load(SeqCst) && network.trouble.load(SeqCst) == 0 && !network.has_stuck();
        is_up && !self.lost_data.load(SeqCst) && (self.plan.stores != Stores::Hybrid || self.all_ask_redis())
    }

    /// Whether each server lives, and no local store decides.
    pub(super) fn all_ask_redis(&self) -> bool {
        let asks =
            |me| self.service(me).and_then(|service| service.router.report()).is_some_and(|report| !report.fallback_active);
        (0..self.plan.servers).all(asks)
    }

    /// The queue, and then the locks that the store which decides has, by one server.
    fn look(&self, me: usize) -> Option<(Queue, Vec<Option<u64>>)> {
        let service = self.service(me)?;
        let queue = service.queue(REPO).ok()?;
        let found = match self.plan.stores {
            Stores::Strict => service.list().ok()?.values().map(number_of).collect(),
            Stores::Native | Stores::Hybrid => {
                let locks = self.world.entries().into_iter().filter(|(key, _)| key.lock().is_some());
                locks.map(|(_, value)| number_of(&value)).collect()
            }
        };
        Some((queue.queue, found))
    }

    /// Looks at everything: what is there fits what callers were told. Says whether it could.
    pub(super) fn check(&self, me: usize, is_end: bool) -> bool {
        let (before, told, trouble) = (self.oracle().clone(), self.places.lock().clone(), *self.trouble.lock());
        let began = self.now();
        let is_well = || self.is_well() && *self.trouble.lock() == trouble;
        if !is_well() {
            return false;
        }
        let Some((queue, found)) = self.look(me) else { return false };
        if !is_well() {
            return false;
        }
        let is_acquiring = |ticket: &&Ticket| ticket.acquiring.is_some();
        let tickets = queue.tickets_in_order(&crate::service::queueing::simulation::RULES);
        let acquiring = tickets.into_iter().filter(is_acquiring).map(|ticket| ticket.pull().num).collect();
        let mut oracle = self.oracle();
        oracle.check(&before, &found);
        let (is_all, is_over) = (self.plan.stores != Stores::Hybrid, self.plan.stores == Stores::Native);
        oracle.settle(&before, &found, is_end || is_all, is_end || is_over, &acquiring);
        drop(oracle);
        if self.plan.keeps_places() {
            self.places.lock().check(&told, &queue, began, self.now());
        }
        true
    }

    pub(super) fn now(&self) -> u64 {
        self.world.clock.unix_micros()
    }
}
