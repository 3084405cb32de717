//! Looking at the stores of a configuration whose server does not run, or cannot be asked.
//!
//! Invariant: nothing changes, in no store and no folder (`store::read_only`). What a start would do, recover, hand over, announce, is left
//! to the next start.
//!
//! In hybrid mode two stores may hold locks. Redis is what the next start believes, so Redis answers if it can be reached; else the local
//! store's content, which may be old. Which of the two it was is told ([`Look::source`]), and where Redis shows less than the next start
//! may restore: which keys the local store has decided that Redis does not know of, and which locks it holds that Redis does not show, as
//! after a loss of Redis's data. Beside a server that has the local store open Redis alone is looked at.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::call::{Call, RequestId};
use crate::clock::Clock;
use crate::config::{Config, Durability, Mode, NO_DATA_DIR};
use crate::domain::lock::ProjectLock;
use crate::error::{Code, Error, Result};
use crate::health::StoreHealth;
use crate::hybrid::status::{ConflictReport, Fallbacks, Report};
use crate::sealing::MasterKeys;
use crate::store::Store;
use crate::store::contract::local::{EntryKey, KeyState, RedisRecord, SyncState};
use crate::store::redis::RedisStore;
use crate::store::sled::{SledReader, SledStore};

/// Whose word an answer is beside a server that has the local store open.
pub const REDIS_ALONE: &str = "the server has the local store open: this is what Redis says";

/// Most keys that are named.
const MOST_NAMED: usize = 10;
/// How long Redis may take to tell all that it holds; each step has an operation's time.
const COMPARING: Duration = Duration::from_secs(60);

/// The store that answers for a server that does not, and what is known beside it.
#[derive(Debug)]
pub struct Look {
    mode: Mode,
    store: Box<dyn Store>,
    report: Option<Report>,
    source: Option<String>,
    warnings: Vec<String>,
}

impl Look {
    /// Opens what can be opened; `masters` are the operator's keys, or why they cannot be read.
    ///
    /// Errors: `Unsupported` for Atlantis's own store, which is the server's; those of the store; in hybrid mode those of Redis where the
    /// local store cannot be looked at, either.
    pub fn open(config: &Config, clock: &Arc<dyn Clock>, masters: &Result<Option<MasterKeys>>) -> Result<Look> {
        let local = || {
            let folder = config.locking.data_dir.as_deref();
            let folder = folder.ok_or_else(|| Error::new(Code::InvalidConfig, NO_DATA_DIR))?;
            let masters = masters.as_ref().map_err(Clone::clone)?;
            SledStore::open_read_only(folder, Arc::clone(clock), masters.as_ref())
        };
        let redis = || RedisStore::open_read_only(&config.locking.enhanced.redis);
        let alone = |store, warnings| Ok(Look { mode: config.mode(), store, report: None, source: None, warnings });
        config.locking.key_format.settle()?;
        refuse_stocks(config)?;
        match config.mode() {
            Mode::Strict => {
                let local = local()?;
                let warnings = Known::of(&local.0, config)?.warnings;
                alone(Box::new(local), warnings)
            }
            Mode::Native => alone(Box::new(redis()?), Vec::new()),
            Mode::Hybrid => {
                let local = local().and_then(|local| Ok((Known::of(&local.0, config)?, local)));
                both(config, redis(), local, &**clock)
            }
        }
    }

    /// The mode of which this is a look: the one that is set, but `native` beside a server that has the local store open.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The store that answers.
    pub fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// What is known of hybrid mode's stores; `None` in the other modes.
    pub fn report(&self) -> Option<Report> {
        self.report.clone()
    }

    /// Which store answers, for a person, where that might be another than expected.
    pub fn source(&self) -> Option<&str> {
        self.source.as_deref()
    }

    /// What endangers the locks, beside what the store that answers knows.
    pub fn warnings(&self) -> Vec<String> {
        self.store.warnings().into_iter().chain(self.warnings.iter().cloned()).collect()
    }
}

/// An error of code `Unsupported` if the configuration's store is Atlantis's own, which is the server's alone.
pub fn refuse_stocks(config: &Config) -> Result<()> {
    if !config.is_on_stocks_store() {
        return Ok(());
    }
    Err(Error::new(
        Code::Unsupported,
        "in strict mode on Atlantis's own store (locking.backend: boltdb) only the server can look at the locks: see its page, \
         or GET /api/locks",
    ))
}

/// Hybrid mode: Redis if it answers, else the local store's content.
fn both<R: Store + 'static, L: Store + 'static>(
    config: &Config,
    redis: Result<R>,
    local: Result<(Known, L)>,
    clock: &dyn Clock,
) -> Result<Look> {
    let deadline = clock.now() + config.operation_timeout();
    let call = Call::new(RequestId::from_text("look"), deadline);
    let (redis, redis_health) = asked(redis, |redis| redis.ping(&call));
    let (local, local_health) = asked(local, |(_, local)| local.ping(&call));
    let (store, known, source, warning): (Box<dyn Store>, _, _, _) = match (redis, local) {
        (Ok(redis), Ok((known, local))) => {
            local.close()?;
            let whole = Call::new(RequestId::from_text("look"), deadline + COMPARING);
            let not_shown = known.not_shown(&redis, &whole);
            let beside = not_shown.as_ref().map_or_else(String::new, |text| format!("; {text}"));
            let source = format!("no server runs here: this is what Redis says{}{beside}", known.beside_redis());
            (Box::new(redis), known, source, not_shown)
        }
        (Ok(redis), Err(e)) if e.code() == Code::StoreBusy => {
            let source = Some(REDIS_ALONE.to_owned());
            return Ok(Look { mode: Mode::Native, store: Box::new(redis), report: None, source, warnings: Vec::new() });
        }
        (Ok(redis), Err(e)) => {
            let warning = format!("the local store cannot be looked at: {e}");
            (Box::new(redis), Known::default(), "this is what Redis says".to_owned(), Some(warning))
        }
        (Err(e), Ok((known, local))) => {
            let source = "no server runs here, and Redis does not answer: this is what the local store has".to_owned();
            (Box::new(local), known, source, Some(format!("Redis is not asked: {e}")))
        }
        (Err(e), Err(local)) => {
            return Err(Error::new(e.code(), format!("neither store can be looked at: {e}. The local store: {local}")));
        }
    };
    let report = Report {
        fallback_active: false,
        circuit_state: "disabled".to_owned(),
        cause: None,
        since: clock.unix_micros(),
        next_probe: None,
        armed: false,
        unarmed_because: Some("no server decides here: its stores are only looked at".to_owned()),
        journal_length: known.unsynced.len(),
        conflicts: known.conflicts,
        last_recovery: None,
        fallbacks: Fallbacks::default(),
        needs_local: config.locking.enhanced.durability == Durability::Sync,
        enhanced: redis_health,
        legacy: local_health,
        host_store: None,
    };
    let warnings = warning.into_iter().chain(known.warnings).collect();
    Ok(Look { mode: Mode::Hybrid, store, report: Some(report), source: Some(source), warnings })
}

/// A store that was opened and answers, and how it answered.
fn asked<T>(opened: Result<T>, ask: impl FnOnce(&T) -> Result<()>) -> (Result<T>, StoreHealth) {
    let start = Instant::now();
    let answer = opened.and_then(|store| ask(&store).map(|()| store));
    let health = StoreHealth::of(&answer, start.elapsed());
    (answer, health)
}

/// What the local store knows beside values.
#[derive(Default)]
struct Known {
    /// Keys that were decided here, or asked of Redis without a known answer.
    unsynced: Vec<EntryKey>,
    /// Locks that it holds, and that Redis held, too, when it last told.
    shared: Vec<EntryKey>,
    conflicts: Vec<ConflictReport>,
    warnings: Vec<String>,
}

impl Known {
    fn of(local: &SledReader, config: &Config) -> Result<Known> {
        let record = local.redis_record()?;
        // A store that has followed no Redis has decided all of it.
        let is_alone = record.is_none();
        let is_unsynced = |known: &KeyState| match known.state {
            SyncState::Decided => true,
            SyncState::Pending => known.value.is_some(),
            SyncState::Synced => is_alone && known.value.is_some(),
        };
        let (unsynced, rest): (Vec<_>, Vec<_>) = local.everything()?.into_iter().partition(|(_, known)| is_unsynced(known));
        let unsynced = unsynced.into_iter().map(|(key, _)| key).collect();
        let holds = |(key, known): &(EntryKey, KeyState)| known.value.is_some() && key.lock().is_some();
        let shared = rest.into_iter().filter(holds).map(|(key, _)| key).collect();
        let conflicts: Vec<ConflictReport> = local.conflicts()?.iter().map(ConflictReport::of).collect();
        let settings = &config.locking.enhanced;
        let redis = (config.mode() == Mode::Hybrid).then(|| settings.redis.name());
        // Without a record, strict mode has never had a Redis; hybrid mode will have one that the store has never seen.
        let record = record.or_else(|| redis.as_ref().map(|_| RedisRecord::default()));
        let lacks = record.and_then(|record| record.lacks_at_start(redis.as_deref(), settings.allow_unseen_redis));
        let lacks = lacks.map(|why| format!("the local store may lack locks: {why}"));
        let warnings = lacks.into_iter().chain(conflicts.iter().map(ConflictReport::warning)).collect();
        Ok(Known { unsynced, shared, conflicts, warnings })
    }

    /// What Redis cannot tell.
    fn beside_redis(&self) -> String {
        if self.unsynced.is_empty() {
            return String::new();
        }
        format!("; it does not know yet what the local store decided of {}", names(&self.unsynced))
    }

    /// Which locks the local store holds and Redis does not show; `None` if Redis shows them all.
    fn not_shown(&self, redis: &dyn Store, call: &Call) -> Option<String> {
        let missing = match self.missing_in(redis, call) {
            Ok(missing) if missing.is_empty() => return None,
            Ok(missing) => missing,
            Err(e) => return Some(format!("whether the local store holds locks that Redis does not show is not known: {e}")),
        };
        let locks = if missing.len() == 1 { "1 lock".to_owned() } else { format!("{} locks", missing.len()) };
        Some(format!("the local store holds {locks} that Redis does not show: {}; the next start decides", names(&missing)))
    }

    fn missing_in(&self, redis: &dyn Store, call: &Call) -> Result<Vec<EntryKey>> {
        if self.shared.is_empty() {
            return Ok(Vec::new());
        }
        let listing = redis.list(call)?;
        if let Some(reason) = listing.incomplete() {
            return Err(Error::new(Code::Unreachable, format!("the list of Redis is not whole: {reason}")));
        }
        let unreadable = listing.unreadable().iter().map(|entry| entry.key.clone());
        let readable = listing.values().filter_map(|value| Some(ProjectLock::parse(value).ok()?.fields().key()));
        let shown: HashSet<String> = readable.chain(unreadable).collect();
        let mut missing = Vec::new();
        for key in &self.shared {
            let is_shown = match (key, key.lock()) {
                (EntryKey::Project(key), _) => shown.contains(key),
                (_, Some(command)) => redis.get(command, call)?.is_some(),
                (_, None) => true,
            };
            if !is_shown {
                missing.push(key.clone());
            }
        }
        Ok(missing)
    }
}

/// The first keys, and how many more there are.
fn names(keys: &[EntryKey]) -> String {
    let named: Vec<String> = keys.iter().take(MOST_NAMED).map(ToString::to_string).collect();
    let more = keys.len() - named.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", named.join(", "))
}
