//! How a server's process begins, and how it ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use super::{Instance, World};
use crate::clock::Clock;
use crate::config::{Enhanced, Mode};
use crate::error::{Code, Error};
use crate::hybrid::HybridStore;
use crate::hybrid::host_copy::HostCopy;
use crate::hybrid::open::open;
use crate::hybrid::probe::Schedule;
use crate::hybrid::simulation::PATIENCE;
use crate::hybrid::simulation::disk::Disks;
use crate::hybrid::simulation::link::ServersLink;
use crate::hybrid::simulation::modes::{Running, Serves};
use crate::mode::Router;
use crate::process::Process;
use crate::store::contract::local::LocalStore;
use crate::store::contract::shared::SharedStore;
use crate::store::redis::{Link, RedisStore};
use crate::sync::tasks::{self, Group};

impl World {
    /// A place where the process may die.
    pub(crate) fn may_die(&self, me: usize) {
        let mut fuse = self.fuse.lock();
        let Some((who, left)) = &mut *fuse else { return };
        if *who != me || !tasks::in_task() {
            return;
        }
        if *left > 0 {
            *left -= 1;
            return;
        }
        *fuse = None;
        drop(fuse);
        self.die(me);
    }

    /// The process that the running task belongs to dies, now.
    pub(crate) fn die(&self, me: usize) {
        *self.doomed.lock() = Some(me);
        loop {
            // It ends here.
            tasks::give_way();
        }
    }

    /// A new process over what the disk has, started by the task that runs; there is none if it does not start.
    pub(crate) fn begin(self: &Arc<Self>, me: usize) {
        let process = self.new_process(me);
        tasks::act_as(process, || self.start_process(me, process));
    }

    /// A process that is to start.
    pub(crate) fn new_process(&self, me: usize) -> Group {
        let process = usize::try_from(self.number()).expect("is small");
        self.servers.write()[me].process = Some(process);
        process
    }

    /// Hybrid mode's settings.
    pub(crate) fn settings(&self) -> Enhanced {
        Enhanced {
            instances: self.plan.instances,
            durability: self.plan.durability,
            legacy_fallback: self.plan.fallback,
            ..Enhanced::default()
        }
    }

    pub(crate) fn start_process(self: &Arc<Self>, me: usize, process: Group) {
        if let Some(starts) = self.starts.get() {
            return starts(me, process);
        }
        if self.plan.restores {
            Disks::copy_or_put_back(self, me);
        }
        if let Some(config) = self.another_mode() {
            return self.start_other(me, process, &config);
        }
        self.modes.file_has_all.store(false, Ordering::SeqCst);
        let settings = self.settings();
        let link = Arc::new(ServersLink { world: Arc::downgrade(self), me });
        let (machine, redis) = (self.machine(me), settings.redis.clone());
        let connect = move |name: &str| {
            let clock = Arc::clone(&machine) as Arc<dyn Clock>;
            let store = RedisStore::over(Arc::clone(&link) as Arc<dyn Link>, clock, &redis, name)?;
            Ok(Arc::new(store) as Arc<dyn SharedStore>)
        };
        let clock = self.machine(me);
        let name = format!("i{me}p{process}");
        let context = Process { instance: &name, clock, audit: None };
        let host = self.open_host(me);
        let host = host.map(|host| HostCopy::new(Arc::new(host), false, Arc::clone(&context.clock)));
        let opened = Disks::open(self, me).and_then(|local| {
            let local: Arc<dyn LocalStore> = Arc::new(local);
            open(settings, PATIENCE, local, host, Box::new(connect), &context)
        });
        if tasks::is_dying() {
            return;
        }
        let opened = match opened {
            Ok(opened) => opened,
            Err(e) => {
                // Hours may pass while it starts.
                let is_hosts = self.plan.host && e.code() == Code::HostStore;
                assert!(
                    is_hosts
                        || !self.plan.fallback
                        || self.plan.bad_disk
                        || matches!(e.code(), Code::Timeout | Code::OutcomeUnknown),
                    "{e}"
                );
                self.does_not_begin(me, &e);
                return;
            }
        };
        let core = Arc::clone(&opened.core);
        core.arming.grants_on_any_error.store(self.plan.broken, Ordering::SeqCst);
        let due = Mutex::new(Schedule::from(self.clock.now()));
        self.host.was_read();
        self.modes.file_decides.store(false, Ordering::SeqCst);
        self.say(|| format!("instance {me} begins, fallback: {}", core.in_fallback()));
        let instance = Instance { store: HybridStore::new(opened), core, due };
        self.servers.write()[me].running = Some(Running::Hybrid(Arc::new(instance)));
    }

    /// It begins in another mode.
    pub(crate) fn begins_with(&self, me: usize, router: Arc<Router>) {
        self.say(|| format!("{me} begins in mode {:?}", router.mode()));
        self.modes.file_decides.store(router.mode() == Mode::Strict, Ordering::SeqCst);
        self.serves(me, router);
    }

    /// Whoever asks this server is answered by that.
    pub(crate) fn serves(&self, me: usize, server: Arc<dyn Serves>) {
        self.servers.write()[me].running = Some(Running::Other(server));
    }

    /// The process ends, with what it may have left behind.
    pub(crate) fn does_not_begin(&self, me: usize, error: &Error) {
        self.say(|| format!("instance {me} does not begin: {error}"));
        *self.doomed.lock() = Some(me);
    }

    /// The process dies; its disk is then what it left.
    pub(crate) fn crash(&self, me: usize) {
        let (process, running) = {
            let mut servers = self.servers.write();
            (servers[me].process.take(), servers[me].running.take())
        };
        let Some(process) = process else { return };
        self.say(|| format!("instance {me} dies"));
        self.disks.crash(me, &self.random);
        if let Some(Running::Other(server)) = &running {
            server.is_killed();
        }
        tasks::kill(process);
        drop(running);
        self.without_answer(process);
        self.oracle().process_died();
    }
}
