//! The real store over a simulated Redis, and a connection that does what a test says.

use super::*;

/// Time that passes only where somebody waits.
#[derive(Debug)]
pub(super) struct StillClock {
    pub(super) base: Instant,
    micros: AtomicU64,
}

impl Clock for StillClock {
    fn now(&self) -> Instant {
        self.base + Duration::from_micros(self.micros.load(Ordering::SeqCst))
    }

    fn unix_micros(&self) -> u64 {
        1_800_000_000_000_000 + self.micros.load(Ordering::SeqCst)
    }

    fn sleep(&self, time: Duration) {
        self.micros.fetch_add(u64::try_from(time.as_micros()).expect("is short"), Ordering::SeqCst);
    }
}

/// What becomes of the next commands.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    /// Executed, and the reply is lost.
    ReplyLost,
    /// It never arrives; nobody listens.
    Refused,
    /// Kept, to arrive later; nothing comes until the deadline.
    Stuck,
    /// Kept, to arrive later; the connection breaks at once.
    HeldBack,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) server: SimulatedRedis,
    pub(super) clock: StillClock,
    pub(super) fates: Mutex<Vec<Fate>>,
    pub(super) stuck: Mutex<Vec<Vec<Vec<u8>>>>,
    pub(super) sent: AtomicU64,
    /// Microseconds by which the server's clock is ahead of ours.
    pub(super) ahead: AtomicU64,
}

impl World {
    pub(super) fn new() -> Arc<World> {
        // Far from the machine's: whoever asks that one is noticed.
        let clock = StillClock { base: Instant::now() + Duration::from_secs(86_400), micros: AtomicU64::new(0) };
        let (fates, stuck) = (Mutex::default(), Mutex::default());
        Arc::new(World {
            server: SimulatedRedis::default(),
            clock,
            fates,
            stuck,
            sent: AtomicU64::new(0),
            ahead: AtomicU64::new(0),
        })
    }

    pub(super) fn store(self: &Arc<World>) -> RedisStore {
        let mut settings = config::Redis { shared_with_stock: true, ..config::Redis::default() };
        settings.timeouts.connect = Duration::from_millis(300);
        let clock = Arc::new(WorldClock(Arc::clone(self)));
        RedisStore::over(Arc::new(WorldLink(Arc::clone(self))), clock, &settings, "here").expect("opens")
    }

    pub(super) fn execute(&self, command: &[Vec<u8>]) -> Value {
        self.server.execute(command, self.clock.unix_micros() + self.ahead.load(Ordering::SeqCst))
    }

    pub(super) fn call(&self, name: &str) -> Call {
        Call::new(RequestId::from_text(name), self.clock.now() + Duration::from_secs(1))
    }

    pub(super) fn next(&self, fates: &[Fate]) {
        *self.fates.lock() = fates.iter().rev().copied().collect();
    }
}

#[derive(Debug)]
pub(super) struct WorldClock(Arc<World>);

impl Clock for WorldClock {
    fn now(&self) -> Instant {
        self.0.clock.now()
    }

    fn unix_micros(&self) -> u64 {
        self.0.clock.unix_micros()
    }

    fn sleep(&self, time: Duration) {
        self.0.clock.sleep(time);
    }
}

#[derive(Debug)]
pub(super) struct WorldLink(Arc<World>);

impl Link for WorldLink {
    fn send(&self, command: &[Vec<u8>], deadline: Instant) -> Result<Value, Undelivered> {
        let world = &self.0;
        world.sent.fetch_add(1, Ordering::SeqCst);
        world.clock.sleep(Duration::from_micros(50));
        let fate = world.fates.lock().pop();
        match fate {
            None => Ok(world.execute(command)),
            Some(Fate::ReplyLost) => {
                world.execute(command);
                Err(Undelivered::Lost)
            }
            Some(Fate::Refused) => Err(Undelivered::Refused),
            Some(Fate::HeldBack) => {
                world.stuck.lock().push(command.to_vec());
                Err(Undelivered::Lost)
            }
            Some(Fate::Stuck) => {
                world.stuck.lock().push(command.to_vec());
                world.clock.sleep(deadline.saturating_duration_since(world.clock.now()));
                Err(Undelivered::TimedOut)
            }
        }
    }
}
