//! The safe Rust API: one type, one method for each operation of Atlantis's database. The C ABI and the command line are
//! thin layers over it.
//!
//! Values go in and come out as JSON text, byte for byte; the service parses only what names a lock (`crate::domain::lock`).

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use self::state::State;
use crate::audit::{AuditLog, Kind, Trail};
use crate::call::{AnsweredBy, Call, Calls};
use crate::clock::Clock;
use crate::config::{Config, Mode};
use crate::domain::json::parse_json;
use crate::domain::key::{Fields, Target};
use crate::domain::lock::{ProjectLock, PullRef};
use crate::error::{Code, Error, Result};
use crate::hybrid::report::{Report, StoreHealth};
use crate::hybrid::{Process, Router};
use crate::look::Look;
use crate::metrics::{self, Ending, Metrics, Operation, Snapshot};
use crate::store::host::HostStore;
use crate::store::{Expected, Grant, Granted, Listing, LockInfo, LockKey, Release, Store, Swap};

/// The largest lock, in bytes of JSON.
pub const MAX_LOCK_BYTES: usize = 1 << 20;
/// The largest pull status, in bytes of JSON.
pub const MAX_PULL_STATUS_BYTES: usize = 16 << 20;
/// The longest key of a lock, command or pull status, in bytes.
pub const MAX_KEY_BYTES: usize = 16 << 10;

/// How long a list or a release by pull may take in Redis beside the usual timeout. What they do grows with the number of locks and
/// keys there; each of its steps has the usual timeout, so that a Redis that hangs costs no more than that.
const GROWING: Duration = Duration::from_secs(60);

/// The locking layer: a handle on the stores that a configuration names. Safe from any thread at once; it may be closed while
/// others work.
#[derive(Debug)]
pub struct Service {
    state: Arc<State>,
    /// What has threads that use this service: each has a `Service` on the same state, without this.
    beside: Option<Box<dyn Beside>>,
}

/// What runs beside a service and ends with it, as a [socket](crate::socket::listening).
pub trait Beside: Send + Sync + std::fmt::Debug {
    /// What an operator should know of it.
    fn warning(&self) -> Option<String>;
    /// The service is about to close: begin nothing new, and leave the folder to others. Idempotent.
    fn stop(&self);
    /// The stores are closed: end the threads. Idempotent.
    fn finish(&self);
}

mod state {
    use super::*;

    /// What all handles on one service share. The last one to go closes the stores.
    #[derive(Debug)]
    pub struct State {
        pub(super) router: Router,
        pub(super) calls: Calls,
        pub(super) metrics: Metrics,
        pub(super) instance: String,
        pub(super) audit: Option<Arc<AuditLog>>,
        pub(super) enhanced_enabled: bool,
        pub(super) mode_warning: Option<String>,
        pub(super) closed: AtomicBool,
    }

    impl Drop for State {
        fn drop(&mut self) {
            // The store has nowhere to report to any more; every acknowledged change is durable already.
            if !*self.closed.get_mut() {
                let _ = self.router.close();
            }
        }
    }
}

impl std::ops::Deref for Service {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

/// What an operator sees.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// Version of the library.
    pub version: &'static str,
    /// `strict`, `hybrid` or `native`.
    pub mode: String,
    /// Whether the enhanced store is enabled.
    pub enhanced_enabled: bool,
    /// This instance's identity, as it stands in Redis beside the locks that it took.
    pub instance: String,
    /// The counters.
    #[serde(flatten)]
    pub counters: Snapshot,
    /// Whether the local store decides in Redis's place.
    pub fallback_active: bool,
    /// The state of hybrid mode.
    #[serde(flatten)]
    pub hybrid: Option<Report>,
    /// Conditions that endanger a promise; empty when all is well.
    pub warnings: Vec<String>,
}

/// Whether the stores of the mode answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Health {
    /// `healthy`; `degraded` if locks are granted, but not as they should be; `unhealthy` if none can be granted.
    pub overall: &'static str,
    /// Redis; absent in strict mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enhanced: Option<StoreHealth>,
    /// The legacy store; absent in native mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub legacy: Option<StoreHealth>,
    /// The breaker: `closed`, `open` or `half-open`; `disabled` in strict and native mode, which have none.
    pub circuit_state: String,
}

/// The JSON by which a caller names a lock: any JSON object with a lock's `Project` and `Workspace` (a whole lock too), or
/// `{"Key": "…"}`.
#[derive(Debug, Deserialize)]
struct TargetJson<'a> {
    #[serde(borrow, rename = "Key")]
    key: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow, rename = "Project")]
    project: Option<ProjectJson<'a>>,
    #[serde(borrow, rename = "Workspace", default)]
    workspace: std::borrow::Cow<'a, str>,
}

#[derive(Debug, Deserialize)]
struct ProjectJson<'a> {
    #[serde(borrow, rename = "ProjectName", default)]
    name: std::borrow::Cow<'a, str>,
    #[serde(borrow, rename = "RepoFullName")]
    repo: std::borrow::Cow<'a, str>,
    #[serde(borrow, rename = "Path")]
    path: std::borrow::Cow<'a, str>,
}

impl Service {
    /// Opens the stores that the configuration names.
    ///
    /// `host` is the legacy store for `locking.backend: boltdb`. Errors are those of the stores; nothing stays open then.
    pub fn open(config: &Config, host: Option<HostStore>, clock: Arc<dyn Clock>) -> Result<Service> {
        let calls = Calls::new(Arc::clone(&clock))?;
        let instance = calls.instance();
        let audit = &config.locking.audit;
        let audit = audit.file.is_some().then(|| AuditLog::open(audit)).transpose()?.map(Arc::new);
        let process = Process { instance: &instance, clock, audit: audit.clone() };
        let router = Router::open(config, host, &process)?;
        Ok(Service::on(router, config, calls, audit))
    }

    /// Opens the stores that the configuration names to look at them ([`crate::look`]): nothing in them changes, a change is refused with
    /// an error of code `ReadOnly`, and there is no audit trail.
    ///
    /// Errors: those of [`Look::open`](crate::look::Look::open).
    pub fn open_read_only(config: &Config, clock: Arc<dyn Clock>) -> Result<Service> {
        let router = Router::open_read_only(config, &clock)?;
        Ok(Service::on(router, config, Calls::new(clock)?, None))
    }

    /// Which store answers where the stores were opened to look at them, for a person; `None` where that is clear.
    pub fn source(&self) -> Option<&str> {
        self.router.look().and_then(Look::source)
    }

    fn on(router: Router, config: &Config, calls: Calls, audit: Option<Arc<AuditLog>>) -> Service {
        let mut metrics = Metrics::new(router.mode());
        if let Some(audit) = &audit {
            metrics.register("audit_events_lost", "Events that could not be written to the audit trail", audit.lost().clone());
        }
        let (instance, enhanced_enabled) = (calls.instance(), config.locking.enhanced.enabled);
        let (mode_warning, closed) = (config.mode_warning(), AtomicBool::new(false));
        let state = State { router, calls, metrics, instance, audit, enhanced_enabled, mode_warning, closed };
        Service { state: Arc::new(state), beside: None }
    }

    /// The same service, with what `make` makes of another handle on it running beside it until it is closed.
    #[must_use]
    pub fn beside(mut self, make: impl FnOnce(Service) -> Box<dyn Beside>) -> Service {
        self.beside = Some(make(Service { state: Arc::clone(&self.state), beside: None }));
        self
    }

    /// Takes a project's lock if it is free. `lock` is a `models.ProjectLock` in JSON; it is stored as it is.
    ///
    /// It is not safe to assume that the lock is held until it is released here: an operator may release it. Whoever must
    /// know compares the fencing token.
    ///
    /// Errors: `InvalidJson`, `TooLarge`; `EntryUnreadable` if what holds the key is not a lock (the key stays taken); `OtherPull` if
    /// its holder is another pull with the same number, which Atlantis would take for the same pull; `OutcomeUnknown` if the lock may have been taken; those of the store.
    pub fn try_lock(&self, lock: &[u8]) -> Result<Granted> {
        self.granting(Operation::TryLock, |store, call| {
            limit("a lock", lock.len(), MAX_LOCK_BYTES)?;
            let parsed = ProjectLock::parse(lock)?;
            let key = parsed.fields().key();
            limit("a lock's key", key.len(), MAX_KEY_BYTES)?;
            let grant = Grant { key: LockKey::Project(&key), pull: Some(parsed.pull()), value: lock };
            let granted = store.grant(&grant, call).and_then(|granted| {
                if let Granted::Held { value } = &granted {
                    let holder = ProjectLock::parse(value).map_err(|e| unreadable(&grant.key, &e))?;
                    refuse_namesake(&grant.key, &holder, &parsed)?;
                }
                Ok(granted)
            });
            self.audited(Operation::TryLock, call, granted, |trail, granted| trail.grant(&grant, granted))
        })
    }

    /// Releases the lock named by `target` (JSON, see [`Service::get_lock`]) and returns it; `None` if there is none.
    ///
    /// Errors: `InvalidJson`; `EntryUnreadable` if what holds the key is not a lock (it stays); those of the store.
    pub fn unlock(&self, target: &[u8]) -> Result<Option<Vec<u8>>> {
        self.run(Operation::Unlock, |store, call| {
            let target = TargetJson::parse(target)?;
            let target = target.target()?;
            self.release(Operation::Unlock, &Release::of(&target), store, call)
        })
    }

    /// The same as [`Service::unlock`], but only if pull `num` holds the lock, and the lock has exactly the fields named: Atlantis
    /// calls this with a project that it knows, never with one that it guessed from a key. `None` otherwise.
    pub fn unlock_if_owned_by_pull(&self, target: &[u8], num: i64) -> Result<Option<Vec<u8>>> {
        self.run(Operation::Unlock, |store, call| {
            let target = TargetJson::parse(target)?;
            let target = target.exact_target()?;
            self.release(Operation::Unlock, &Release::of(&target).only_if_held_by(num), store, call)
        })
    }

    /// The lock named by `target`, or `None`.
    ///
    /// `target` is JSON: an object with the fields `Project` and `Workspace` of a lock, or `{"Key": "repo/path/workspace/project"}`.
    /// Errors: `InvalidJson`; `EntryUnreadable` if what holds the key is not a lock; those of the store.
    pub fn get_lock(&self, target: &[u8]) -> Result<Option<Vec<u8>>> {
        self.run(Operation::GetLock, |store, call| {
            let target = TargetJson::parse(target)?;
            let target = target.target()?;
            let key = LockKey::Project(target.key());
            let Some(value) = store.get(key, call)? else { return Ok(None) };
            let lock = ProjectLock::parse(&value).map_err(|e| unreadable(&key, &e))?;
            let admitted = target.admits(lock.fields());
            Ok(admitted.then_some(value))
        })
    }

    /// Removes whatever is stored at the key of `target`, readable or not, and returns it: an operator's last resort.
    pub fn discard(&self, target: &[u8]) -> Result<Option<Vec<u8>>> {
        self.run(Operation::Discard, |store, call| {
            let target = TargetJson::parse(target)?;
            let target = target.target()?;
            let key = LockKey::Project(target.key());
            let discarded = store.discard(key, call);
            self.audited(Operation::Discard, call, discarded, |trail, discarded| trail.removal(Kind::Discard, key, discarded))
        })
    }

    /// All project locks, and beside them the entries that cannot be read.
    pub fn list(&self) -> Result<Listing> {
        self.run_growing(Operation::List, |store, call| store.list(call))
    }

    /// How the locks at these keys stand, for an operator; `keys` is a JSON array of texts. `None` where it is not known: there is
    /// no such lock, or its store keeps nothing beside values. Hybrid mode tells what the local store knows.
    pub fn lock_infos(&self, keys: &[u8]) -> Result<Vec<Option<LockInfo>>> {
        self.run(Operation::Standings, |store, call| {
            limit("a list of keys", keys.len(), MAX_LOCK_BYTES)?;
            let keys: Vec<Cow<'_, str>> = parse_json(keys)?;
            keys.iter().map(|key| store.lock_info(LockKey::Project(key), call)).collect()
        })
    }

    /// Releases every lock that pull `num` of exactly this repository holds, and returns them.
    pub fn unlock_by_pull(&self, repo: &str, num: i64) -> Result<Listing> {
        self.run_growing(Operation::UnlockByPull, |store, call| {
            limit("a repository's name", repo.len(), MAX_KEY_BYTES)?;
            let pull = PullRef { repo, num };
            let released = store.release_by_pull(pull, call);
            self.audited(Operation::UnlockByPull, call, released, |trail, released| trail.releases(pull, released))
        })
    }

    /// Takes the global lock of a command; `lock` is a `command.Lock` in JSON.
    pub fn lock_command(&self, name: &str, lock: &[u8]) -> Result<Granted> {
        self.granting(Operation::LockCommand, |store, call| {
            limit("a command lock", lock.len(), MAX_LOCK_BYTES)?;
            let key = command_key(name)?;
            check_json(lock)?;
            let grant = Grant { key, pull: None, value: lock };
            let granted = store.grant(&grant, call).and_then(|granted| {
                if let Granted::Held { value } = &granted {
                    check_json(value).map_err(|e| unreadable(&key, &e))?;
                }
                Ok(granted)
            });
            self.audited(Operation::LockCommand, call, granted, |trail, granted| trail.grant(&grant, granted))
        })
    }

    /// Releases the global lock of a command and returns it; `None` if there is none.
    pub fn unlock_command(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.run(Operation::UnlockCommand, |store, call| {
            let release = Release { key: command_key(name)?, fields: None, pull_num: None };
            self.release(Operation::UnlockCommand, &release, store, call)
        })
    }

    /// The global lock of a command, or `None`.
    pub fn check_command_lock(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.run(Operation::CheckCommandLock, |store, call| {
            let key = command_key(name)?;
            let value = store.get(key, call)?;
            if let Some(value) = &value {
                check_json(value).map_err(|e| unreadable(&key, &e))?;
            }
            Ok(value)
        })
    }

    /// The pull status at `key` (`{hostname}::{repo}::{num}`), byte for byte and unchecked, or `None`.
    pub fn pull_status(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.run(Operation::PullStatus, |store, call| {
            limit("a pull status's key", key.len(), MAX_KEY_BYTES)?;
            store.pull_status(key, call)
        })
    }

    /// Replaces (`None`: deletes) the pull status at `key` if it is as expected; otherwise says what is there.
    pub fn swap_pull_status(&self, key: &str, expected: Expected<'_>, new: Option<&[u8]>) -> Result<Swap> {
        self.run(Operation::SwapPullStatus, |store, call| {
            limit("a pull status's key", key.len(), MAX_KEY_BYTES)?;
            if let Some(new) = new {
                limit("a pull status", new.len(), MAX_PULL_STATUS_BYTES)?;
                check_json(new)?;
            }
            store.swap_pull_status(key, expected, new, call)
        })
    }

    /// Whether the store that decides answers and could be written.
    pub fn ping(&self) -> Result<()> {
        self.run(Operation::Ping, |store, call| store.ping(call))
    }

    /// Mode, counters, warnings. Asks no store.
    pub fn status(&self) -> Status {
        let warnings = self.warnings();
        let hybrid = self.router.report();
        Status {
            version: env!("CARGO_PKG_VERSION"),
            fallback_active: hybrid.as_ref().is_some_and(|report| report.fallback_active),
            hybrid,
            mode: self.router.mode().to_string(),
            enhanced_enabled: self.enhanced_enabled,
            instance: self.instance.clone(),
            counters: self.metrics.snapshot(),
            warnings,
        }
    }

    /// Counters and latencies since the start, as OpenMetrics text of the content type [`metrics::CONTENT_TYPE`]. Asks no store.
    ///
    /// Calls after [`Service::close`] are not counted; input that was refused before any store was asked is, with the store
    /// that decides.
    ///
    /// [`metrics::CONTENT_TYPE`]: crate::metrics::CONTENT_TYPE
    pub fn metrics(&self) -> String {
        self.metrics.text() + &metrics::warnings(self.warnings().len()) + &self.router.metrics() + "# EOF\n"
    }

    /// Conditions that endanger a promise.
    fn warnings(&self) -> Vec<String> {
        let mut warnings = self.router.warnings();
        warnings.extend(self.mode_warning.clone());
        warnings.extend(self.audit.as_ref().and_then(|audit| audit.warning()));
        warnings.extend(self.beside.as_ref().and_then(|beside| beside.warning()));
        warnings
    }

    /// Whether the stores answer. In hybrid mode it is what the last probe of each saw; in the others it asks the store.
    pub fn health(&self) -> Health {
        if let Some(report) = self.router.report() {
            let (redis, local) = (report.enhanced.healthy, report.legacy.healthy);
            let copy = report.host_store.and_then(|host| host.error);
            let grants = if report.fallback_active {
                report.armed && local
            } else {
                (local || !report.needs_local) && (redis || report.armed)
            };
            let overall = match (grants, report.fallback_active) {
                (false, _) => "unhealthy",
                (true, false) if redis && local && copy.is_none() => "healthy",
                (true, _) => "degraded",
            };
            let legacy = match copy {
                Some(error) if local => StoreHealth { healthy: false, error: Some(error), ..report.legacy },
                _ => report.legacy,
            };
            let (enhanced, legacy) = (Some(report.enhanced), Some(legacy));
            return Health { overall, enhanced, legacy, circuit_state: report.circuit_state };
        }
        let start = Instant::now();
        let answer = self.ping();
        let health = StoreHealth::of(&answer, start.elapsed());
        let overall = if health.healthy { "healthy" } else { "unhealthy" };
        let (enhanced, legacy) = if self.router.mode() == Mode::Native { (Some(health), None) } else { (None, Some(health)) };
        Health { overall, enhanced, legacy, circuit_state: "disabled".to_owned() }
    }

    /// Stops everything. Calls under way end; later ones answer with an error of code `Closed`. Closing twice is harmless.
    pub fn close(&self) -> Result<()> {
        if self.closed.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        // Before the folder is another's.
        self.beside.iter().for_each(|beside| beside.stop());
        let closed = self.router.close();
        self.beside.iter().for_each(|beside| beside.finish());
        closed
    }

    fn release(&self, operation: Operation, release: &Release<'_>, store: &dyn Store, call: &Call) -> Result<Option<Vec<u8>>> {
        let released = store.release(release, call);
        self.audited(operation, call, released, |trail, released| trail.removal(Kind::Release, release.key, released))
    }

    fn granting(&self, operation: Operation, body: impl FnOnce(&dyn Store, &Call) -> Result<Granted>) -> Result<Granted> {
        self.counted(operation, self.router.timeout(), |granted| matches!(granted, Granted::Held { .. }), body)
    }

    fn run<T>(&self, operation: Operation, body: impl FnOnce(&dyn Store, &Call) -> Result<T>) -> Result<T> {
        self.counted(operation, self.router.timeout(), |_| false, body)
    }

    /// The same for what grows with the number of locks. A local store needs no longer than for anything else.
    fn run_growing<T>(&self, operation: Operation, body: impl FnOnce(&dyn Store, &Call) -> Result<T>) -> Result<T> {
        let growing = if self.router.mode() == Mode::Strict { Duration::ZERO } else { GROWING };
        self.counted(operation, self.router.timeout() + growing, |_| false, body)
    }

    fn counted<T>(
        &self,
        operation: Operation,
        timeout: Duration,
        refused: impl FnOnce(&T) -> bool,
        body: impl FnOnce(&dyn Store, &Call) -> Result<T>,
    ) -> Result<T> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(Error::new(Code::Closed, "the locking layer is closed: open it again to use it"));
        }
        let start = Instant::now();
        let call = self.calls.within(timeout);
        let answer = body(self.router.store(), &call);
        let ending = match &answer {
            Ok(answer) if refused(answer) => Ending::Refused,
            Ok(_) => Ending::Ok,
            Err(e) => Ending::Error(e.code()),
        };
        self.metrics.count(operation, self.answered_by(&call), ending, start.elapsed());
        answer
    }

    /// Records how a change ended, if there is an audit trail.
    fn audited<T>(
        &self,
        operation: Operation,
        call: &Call,
        answer: Result<T>,
        record: impl FnOnce(&Trail<'_>, &Result<T>),
    ) -> Result<T> {
        if let Some(log) = &self.audit {
            record(&Trail { log, operation, store: self.answered_by(call), instance: &self.instance }, &answer);
        }
        answer
    }

    /// Who answered a call: the store that decides, unless the call says otherwise.
    fn answered_by(&self, call: &Call) -> AnsweredBy {
        let decides = if self.router.mode() == Mode::Strict { AnsweredBy::Legacy } else { AnsweredBy::Enhanced };
        call.answered_by().unwrap_or(decides)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if self.beside.is_some() {
            // As in the drop of the state, which what runs beside shares until it is closed.
            let _ = self.close();
        }
    }
}

impl<'a> TargetJson<'a> {
    fn parse(json: &'a [u8]) -> Result<TargetJson<'a>> {
        limit("a lock's name", json.len(), MAX_LOCK_BYTES)?;
        parse_json(json)
    }

    /// The lock that is meant when the fields may be guessed from a key.
    fn target(&self) -> Result<Target<'_>> {
        self.named(Target::by_fields)
    }

    /// The lock that is meant when the fields are known.
    fn exact_target(&self) -> Result<Target<'_>> {
        self.named(Target::exactly)
    }

    fn named<'b>(&'b self, by_fields: impl FnOnce(Fields<'b>) -> Target<'b>) -> Result<Target<'b>> {
        let target = match (&self.key, &self.project) {
            (Some(key), None) => Target::by_key(key.as_ref()),
            (None, Some(project)) => {
                by_fields(Fields { repo: &project.repo, path: &project.path, workspace: &self.workspace, project: &project.name })
            }
            _ => {
                return Err(Error::new(
                    Code::InvalidJson,
                    r#"a lock is named by {"Project": {"RepoFullName": …, "Path": …, "ProjectName": …}, "Workspace": …} or by {"Key": …}"#,
                ));
            }
        };
        limit("a lock's key", target.key().len(), MAX_KEY_BYTES)?;
        Ok(target)
    }
}

fn command_key(name: &str) -> Result<LockKey<'_>> {
    limit("a command's name", name.len(), MAX_KEY_BYTES)?;
    if name.is_empty() {
        return Err(Error::new(Code::InvalidArgument, "the command's name is empty"));
    }
    Ok(LockKey::Command(name))
}

fn check_json(json: &[u8]) -> Result<()> {
    parse_json::<&RawValue>(json).map(drop)
}

fn limit(what: &str, bytes: usize, most: usize) -> Result<()> {
    if bytes > most {
        return Err(Error::new(Code::TooLarge, format!("{what} of {bytes} bytes is over the limit of {most}")));
    }
    Ok(())
}

/// Atlantis takes a lock for its own if the holder's pull has the number of the one that asks (`project_locker.go`, v0.47.1), so a
/// pull with that number and another host or repository must not be told who holds the lock: both would hold it.
///
/// Locks that do not tell their host are of any.
fn refuse_namesake(key: &LockKey<'_>, holder: &ProjectLock<'_>, asking: &ProjectLock<'_>) -> Result<()> {
    let other_host = !holder.host().is_empty() && !asking.host().is_empty() && !holder.host().eq_ignore_ascii_case(asking.host());
    if holder.pull().num != asking.pull().num || (holder.pull().repo == asking.pull().repo && !other_host) {
        return Ok(());
    }
    let name = |lock: &ProjectLock<'_>| {
        let host = if lock.host().is_empty() { "an unknown host" } else { lock.host() };
        format!("{} on {host}", lock.pull().repo)
    };
    let (num, holder, asking) = (holder.pull().num, name(holder), name(asking));
    Err(Error::new(
        Code::OtherPull,
        format!(
            "{key} is held by pull #{num} of {holder}, and asked for by pull #{num} of {asking}. Atlantis tells pulls apart by their \
             number alone, so the lock is refused: apply and merge the holder's pull, or discard its lock on Atlantis's page, then plan again"
        ),
    ))
}

fn unreadable(key: &LockKey<'_>, cause: &Error) -> Error {
    Error::new(
        Code::EntryUnreadable,
        format!(
            "{key} is taken by an entry that cannot be read, and stays taken: {cause}; see it with `atlock get`, remove it with `atlock discard`"
        ),
    )
}
