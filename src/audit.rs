//! The audit trail: one line of JSON for each change to a lock, and for each that was refused or failed.
//!
//! What it promises, and what not:
//! - A trail that cannot be written never fails an operation on a lock. The event is lost, counted, and a warning until a write
//!   succeeds again.
//! - A line is whole or, after a crash or on a full disk, the last one before a line break. It is one write(2), so several
//!   processes may write to one file; whoever moves the file away finds a new one begun. An empty line may stand between two:
//!   whoever opens the file while another's write is half done takes its line for a torn one, and closes it.
//! - A line is written once the store has answered. Lines of operations at the same time may stand in another order than the store
//!   made them in; the tokens of the grants tell.
//! - No fsync: a power failure may take the last moments' lines. The locks do not depend on them, and a flush for each would
//!   cost every change as much as its own durability.
//! - No secret: of a lock's value, which holds a clone URL with a token, only the fields of [`Holder`] are ever read.

use std::borrow::Cow;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use humantime_serde::re::humantime::format_rfc3339_micros;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use serde::{Deserialize, Serialize};

use crate::call::AnsweredBy;
use crate::config;
use crate::domain::json::parse_json;
use crate::domain::key::Fields;
use crate::domain::lock::PullRef;
use crate::error::{Code, Error, Result};
use crate::operation::Operation;
use crate::store::{Grant, Granted, Listing, LockKey};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A lock was taken.
    Grant,
    /// A lock was not taken, because it is held.
    Refusal,
    /// A lock was released.
    Release,
    /// An operator removed whatever was at a lock's key.
    Discard,
    /// An operation that would have changed a lock failed; its code tells whether it may have done so.
    Error,
    /// Hybrid: the local store decides from now on.
    Fallback,
    /// Hybrid: Redis decides again.
    Recovery,
    /// Hybrid: the two stores disagree about a lock.
    Conflict,
    /// Hybrid: the local store is fit to decide if Redis fails.
    Armed,
    /// Hybrid: it is not.
    Disarmed,
}

/// One line of the trail, but for its time.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Event<'a> {
    /// What happened.
    pub kind: Kind,
    /// The operation that it happened in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<&'a str>,
    /// Key of the project's lock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<&'a str>,
    /// The command, for a command's global lock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<&'a str>,
    /// Repository of the pull that takes, asks for, or held the lock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repo: Option<&'a str>,
    /// Number of that pull.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull: Option<i64>,
    /// The user whom the lock names. Who released it is not known here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<&'a str>,
    /// For a refusal or a conflict, who holds the lock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holder: Option<&'a Holder<'a>>,
    /// The store that answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<AnsweredBy>,
    /// Fencing token of a grant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<u64>,
    /// Name of an error's code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'a str>,
    /// More, for a person: an error's text. Credentials in URLs are left out of it.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "without_credentials")]
    pub detail: Option<&'a str>,
    /// Identity of the instance that writes.
    pub instance: &'a str,
}

impl<'a> Event<'a> {
    /// An event of which no more is known.
    pub fn new(kind: Kind, instance: &'a str) -> Event<'a> {
        Event {
            kind,
            operation: None,
            key: None,
            command: None,
            repo: None,
            pull: None,
            user: None,
            holder: None,
            store: None,
            token: None,
            code: None,
            detail: None,
            instance,
        }
    }

    /// An event about this lock.
    pub(crate) fn about(self, key: LockKey<'a>) -> Event<'a> {
        match key {
            LockKey::Project(key) => Event { key: Some(key), ..self },
            LockKey::Command(name) => Event { command: Some(name), ..self },
        }
    }

    /// An event of this pull.
    pub(crate) fn of(self, holder: &'a Holder<'_>) -> Event<'a> {
        Event { repo: Some(&holder.project.repo), pull: Some(holder.pull.num), user: Some(&holder.user.name), ..self }
    }

    fn failed(self, error: &'a Error) -> Event<'a> {
        Event { code: Some(error.code().name()), detail: Some(error.message()), ..self }
    }
}

/// All that is read of a lock's value: who holds it, and the fields that make its key.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Holder<'a> {
    #[serde(borrow, rename = "Project")]
    project: HolderProject<'a>,
    #[serde(borrow, rename = "Workspace")]
    workspace: Cow<'a, str>,
    #[serde(rename = "Pull")]
    pull: HolderPull,
    #[serde(borrow, rename = "User", default)]
    user: HolderUser<'a>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct HolderProject<'a> {
    #[serde(borrow, rename = "ProjectName", default)]
    name: Cow<'a, str>,
    #[serde(borrow, rename = "RepoFullName")]
    repo: Cow<'a, str>,
    #[serde(borrow, rename = "Path")]
    path: Cow<'a, str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct HolderPull {
    #[serde(rename = "Num")]
    num: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct HolderUser<'a> {
    #[serde(borrow, rename = "Username", default)]
    name: Cow<'a, str>,
}

impl<'a> Holder<'a> {
    /// The holder whom a lock's value names; `None` if it is no project's lock.
    pub fn of(value: &'a [u8]) -> Option<Holder<'a>> {
        parse_json(value).ok()
    }

    fn key(&self) -> String {
        let HolderProject { name, repo, path } = &self.project;
        Fields { repo, path, workspace: &self.workspace, project: name }.key()
    }
}

impl Serialize for Holder<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shown<'a> {
            repo: &'a str,
            pull: i64,
            user: &'a str,
        }
        Shown { repo: &self.project.repo, pull: self.pull.num, user: &self.user.name }.serialize(serializer)
    }
}

/// Writes the events of one operation.
#[derive(Clone, Copy, Debug)]
pub struct Trail<'a> {
    /// Where to.
    pub log: &'a AuditLog,
    /// The operation.
    pub operation: Operation,
    /// The store that answered it.
    pub store: AnsweredBy,
    /// Identity of the instance.
    pub instance: &'a str,
}

impl<'a> Trail<'a> {
    /// A grant, a refusal, or an error in place of either.
    pub fn grant(&self, grant: &Grant<'_>, answer: &Result<Granted>) {
        let taker = Holder::of(grant.value);
        let with_taker = |event: Event<'_>| match &taker {
            Some(taker) => self.log.record(&event.of(taker)),
            None => self.log.record(&event),
        };
        match answer {
            Ok(Granted::Yes { token }) => {
                with_taker(Event { token: Some(*token), ..self.event(Kind::Grant).about(grant.key) });
            }
            Ok(Granted::Held { value }) => {
                let holder = Holder::of(value);
                with_taker(Event { holder: holder.as_ref(), ..self.event(Kind::Refusal).about(grant.key) });
            }
            Err(e) => with_taker(self.event(Kind::Error).about(grant.key).failed(e)),
        }
    }

    /// A release or discard of one lock, unless there was none.
    pub fn removal(&self, kind: Kind, key: LockKey<'_>, answer: &Result<Option<Vec<u8>>>) {
        match answer {
            Ok(None) => {}
            Ok(Some(value)) => match Holder::of(value) {
                Some(holder) => self.log.record(&self.event(kind).about(key).of(&holder)),
                None => self.log.record(&self.event(kind).about(key)),
            },
            Err(e) => self.log.record(&self.event(Kind::Error).about(key).failed(e)),
        }
    }

    /// The releases of a pull's locks. On an error, those that were made before it are not known.
    pub fn releases(&self, pull: PullRef<'_>, answer: &Result<Listing>) {
        let of_pull = |kind| Event { repo: Some(pull.repo), pull: Some(pull.num), ..self.event(kind) };
        match answer {
            Ok(released) => {
                for value in released.values() {
                    match Holder::of(value) {
                        Some(holder) => {
                            self.log.record(&self.event(Kind::Release).about(LockKey::Project(&holder.key())).of(&holder));
                        }
                        None => self.log.record(&of_pull(Kind::Release)),
                    }
                }
            }
            Err(e) => self.log.record(&of_pull(Kind::Error).failed(e)),
        }
    }

    fn event(&self, kind: Kind) -> Event<'a> {
        Event { operation: Some(self.operation.name()), store: Some(self.store), ..Event::new(kind, self.instance) }
    }
}

/// The trail's file. Safe from any thread.
#[derive(Debug)]
pub struct AuditLog {
    path: PathBuf,
    max_bytes: u64,
    keep: u32,
    lost: Counter,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: OpenFile,
    /// What went wrong with the last line, until one is written without trouble.
    trouble: Option<String>,
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    /// Device and inode.
    id: (u64, u64),
    /// Only a plain file has a size, and is moved; a pipe or a device is written to for ever.
    plain: bool,
    /// Whether its last line lacks the line break.
    torn: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    #[serde(flatten)]
    event: &'a Event<'a>,
}

impl AuditLog {
    /// Opens the file that the settings name, or begins it, readable by its owner alone.
    ///
    /// Errors: `InvalidConfig` if it cannot be opened: a trail that was wanted and never begins is found at the start.
    pub fn open(config: &config::Audit) -> Result<AuditLog> {
        let wrong = |what: &str| Error::new(Code::InvalidConfig, format!("locking.audit.file{what}"));
        let path = config.file.as_deref().ok_or_else(|| wrong(" is missing"))?;
        let cannot = |e: io::Error| wrong(&format!(": {} cannot be opened for writing: {e}", path.display()));
        // The host may change its folder.
        let path = std::path::absolute(path).map_err(cannot)?;
        let mut file = OpenFile::at(&path).map_err(cannot)?;
        // Not being able to is no reason not to start; the next event tells.
        let trouble = file.append(b"").err().map(|e| e.to_string());
        let state = Mutex::new(State { file, trouble });
        Ok(AuditLog { path, max_bytes: config.max_bytes, keep: config.keep, lost: Counter::default(), state })
    }

    /// Writes one event, or counts it as lost.
    pub fn record(&self, event: &Event<'_>) {
        let time = format_rfc3339_micros(SystemTime::now().max(UNIX_EPOCH)).to_string();
        // Texts and numbers serialise without an error.
        let mut line = serde_json::to_vec(&Line { time, event }).unwrap_or_default();
        line.push(b'\n');
        let mut state = self.state.lock();
        state.trouble = match self.write(&mut state.file, &line) {
            Ok(trouble) => trouble,
            Err(e) => {
                self.lost.inc();
                Some(format!("cannot be written: {e}"))
            }
        };
    }

    /// How many events could not be written.
    pub fn lost(&self) -> &Counter {
        &self.lost
    }

    /// What an operator must know, until a write succeeds again.
    pub fn warning(&self) -> Option<String> {
        let trouble = self.state.lock().trouble.clone()?;
        Some(format!("the audit trail {} {trouble}; events missing from it: {}", self.path.display(), self.lost.get()))
    }

    /// Appends a line to the file that is now at the path. What went wrong beside that is no failure, and is returned.
    fn write(&self, file: &mut OpenFile, line: &[u8]) -> io::Result<Option<String>> {
        let size = file.follow(&self.path)?;
        let full = file.plain && size > 0 && size + u64::from(file.torn) + line.len() as u64 > self.max_bytes;
        let trouble = if full { self.rotate(file).err() } else { None };
        file.append(line)?;
        Ok(trouble.map(|e| format!("is full and cannot be moved to .1: {e}")))
    }

    /// Moves the file to `.1`, and each earlier one a number up; the last is lost.
    fn rotate(&self, file: &mut OpenFile) -> io::Result<()> {
        match file.file.try_lock() {
            Ok(()) => {}
            // Another process is at it; the bound is passed by what is written meanwhile.
            Err(TryLockError::WouldBlock) => return Ok(()),
            Err(TryLockError::Error(e)) => return Err(e),
        }
        let moved = self.rotate_locked(file);
        // A moved file is closed, and free with that; one that stays must be free for others.
        let _ = file.file.unlock();
        moved
    }

    fn rotate_locked(&self, file: &mut OpenFile) -> io::Result<()> {
        let before = file.id;
        file.follow(&self.path)?;
        if file.id != before {
            // Another process just was at it.
            return Ok(());
        }
        for number in (1..self.keep).rev() {
            match fs::rename(self.numbered(number), self.numbered(number + 1)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        fs::rename(&self.path, self.numbered(1))?;
        *file = OpenFile::at(&self.path)?;
        Ok(())
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(format!(".{number}"));
        path.into()
    }
}

impl OpenFile {
    fn at(path: &Path) -> io::Result<OpenFile> {
        // Not blocking: a pipe that nobody reads must not hold up a lock.
        let file =
            OpenOptions::new().read(true).append(true).create(true).mode(0o600).custom_flags(libc::O_NONBLOCK).open(path)?;
        let found = file.metadata()?;
        let mut last = [b'\n'];
        if found.is_file() && found.len() > 0 {
            file.read_at(&mut last, found.len() - 1)?;
        }
        Ok(OpenFile { file, id: (found.dev(), found.ino()), plain: found.is_file(), torn: last != [b'\n'] })
    }

    /// Opens anew what is at the path, if that is another file than before; its size.
    fn follow(&mut self, path: &Path) -> io::Result<u64> {
        match fs::metadata(path) {
            Ok(found) if (found.dev(), found.ino()) == self.id => Ok(found.len()),
            _ => {
                *self = OpenFile::at(path)?;
                Ok(self.file.metadata()?.len())
            }
        }
    }

    /// Appends by a single write(2). A line that was left torn is closed first.
    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let closed;
        let bytes = if self.torn {
            closed = [b"\n", line].concat();
            &closed
        } else {
            line
        };
        if bytes.is_empty() {
            return Ok(());
        }
        let written = loop {
            match self.file.write(bytes) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        if let Some(last) = bytes[..written].last() {
            self.torn = *last != b'\n';
        }
        if written < bytes.len() {
            return Err(io::Error::other(format!("only {written} of {} bytes were taken; is the disk full?", bytes.len())));
        }
        Ok(())
    }
}

/// Leaves out what stands between `://` and `@` in a URL: an error may quote what a program of others said.
fn without_credentials<S: serde::Serializer>(detail: &Option<&str>, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    let mut rest = detail.unwrap_or_default();
    let mut shown = String::with_capacity(rest.len());
    while let Some(at) = rest.find("://") {
        let (before, address) = rest.split_at(at + 3);
        let end = address.find(|c: char| c == '/' || c == '"' || c.is_whitespace()).unwrap_or(address.len());
        shown.push_str(before);
        rest = &address[address[..end].rfind('@').unwrap_or(0)..];
    }
    shown.push_str(rest);
    serializer.serialize_str(&shown)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::process::Command;
    use std::sync::Arc;

    use serde_json::Value;

    use super::*;
    use crate::clock::SystemClock;
    use crate::config::Config;
    use crate::service::Service;

    const SECRET: &str = "s3cr3t-token";

    fn settings(file: &Path) -> config::Audit {
        config::Audit { file: Some(file.to_owned()), ..config::Audit::default() }
    }

    fn service(folder: &Path, audit: &Path) -> Service {
        let text = format!("locking: {{backend: sled, data_dir: {:?}, audit: {{file: {audit:?}}}}}", folder.join("locks"));
        Service::open(&Config::parse(&text, "test").expect("parses"), None, Arc::new(SystemClock)).expect("opens")
    }

    fn lock(path: &str, num: i64, user: &str) -> Vec<u8> {
        serde_json::to_vec(&serde_json::json!({
            "Project": {"ProjectName": "", "RepoFullName": "acme/infra", "Path": path},
            "Pull": {"Num": num, "BaseRepo": {"CloneURL": format!("https://bot:{SECRET}@example.com/acme/infra.git")}},
            "User": {"Username": user}, "Workspace": "default", "Time": "2026-11-24T08:17:00Z",
        }))
        .expect("serialises")
    }

    fn event(detail: &str) -> Event<'_> {
        Event { detail: Some(detail), ..Event::new(Kind::Conflict, "0123456789abcdef") }
    }

    /// The lines of a file, each of which must be JSON and end with a line break.
    fn lines(file: &Path) -> Vec<Value> {
        let text = fs::read_to_string(file).expect("reads");
        assert!(text.is_empty() || text.ends_with('\n'));
        text.lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    fn files(file: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(file.parent().expect("a folder")).expect("reads");
        entries.map(|entry| entry.expect("reads").path()).filter(|path| path.is_file()).collect()
    }

    #[test]
    fn each_change_leaves_its_line_and_no_secret() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("audit");
        let service = service(folder.path(), &file);
        let target = br#"{"Key":"acme/infra/a/default/"}"#;
        service.try_lock(&lock("a", 1, "ada")).expect("takes");
        service.try_lock(&lock("a", 2, "bob")).expect("is refused");
        service.unlock_if_owned_by_pull(&lock("a", 1, ""), 2).expect("does nothing");
        service.unlock(target).expect("releases");
        service.unlock(target).expect("does nothing");
        service.try_lock(&lock("b", 3, "eve")).expect("takes");
        service.try_lock(&lock("c", 3, "eve")).expect("takes");
        service.unlock_by_pull("acme/infra", 3).expect("releases");
        service.lock_command("apply", b"{}").expect("takes");
        service.lock_command("apply", b"{}").expect("is refused");
        service.unlock_command("apply").expect("releases");
        service.try_lock(&lock("d", 4, "ada")).expect("takes");
        service.discard(br#"{"Key":"acme/infra/d/default/"}"#).expect("removes");

        assert_eq!(fs::metadata(&file).expect("is there").permissions().mode() & 0o777, 0o600);
        assert!(!fs::read_to_string(&file).expect("reads").contains(SECRET));
        let lines = lines(&file);
        let told: Vec<String> = lines
            .iter()
            .map(|line| {
                let of = |field: &str| line[field].as_str().unwrap_or("-").to_owned();
                let name = line["key"].as_str().or(line["command"].as_str()).unwrap_or("-");
                format!("{} {} {name} {} {}", of("kind"), of("operation"), line["pull"], of("user"))
            })
            .collect();
        assert_eq!(
            told,
            [
                "grant try_lock acme/infra/a/default/ 1 ada",
                "refusal try_lock acme/infra/a/default/ 2 bob",
                "release unlock acme/infra/a/default/ 1 ada",
                "grant try_lock acme/infra/b/default/ 3 eve",
                "grant try_lock acme/infra/c/default/ 3 eve",
                "release unlock_by_pull acme/infra/b/default/ 3 eve",
                "release unlock_by_pull acme/infra/c/default/ 3 eve",
                "grant lock_command apply null -",
                "refusal lock_command apply null -",
                "release unlock_command apply null -",
                "grant try_lock acme/infra/d/default/ 4 ada",
                "discard discard acme/infra/d/default/ 4 ada",
            ]
        );
        assert!(lines[0]["token"].as_u64() > Some(0) && lines[1]["token"].is_null());
        assert_eq!(lines[1]["holder"], serde_json::json!({"repo": "acme/infra", "pull": 1, "user": "ada"}));
        for line in &lines {
            assert_eq!((&line["store"], &line["instance"]), (&"legacy".into(), &service.status().instance.into()));
            let time = line["time"].as_str().expect("a time");
            assert!(time.len() == "2026-11-24T08:17:00.000000Z".len() && time.ends_with('Z'), "{time}");
        }
        assert_eq!(service.status().warnings, [""; 0]);
    }

    #[test]
    fn an_error_has_its_code_and_no_credentials() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("audit");
        let log = AuditLog::open(&settings(&file)).expect("opens");
        let trail = Trail { log: &log, operation: Operation::Unlock, store: AnsweredBy::Fallback, instance: "i" };
        let said = format!("\"https://bot:{SECRET}@example.com/a?b=c@d\" and git://{SECRET}@host, http://plain");
        trail.removal(Kind::Release, LockKey::Project("k"), &Err(Error::new(Code::OutcomeUnknown, said)));
        trail.releases(PullRef { repo: "acme/infra", num: 7 }, &Err(Error::new(Code::Degraded, "later")));
        let lines = lines(&file);
        assert_eq!((&lines[0]["kind"], &lines[0]["code"]), (&"error".into(), &"outcome_unknown".into()));
        assert_eq!(lines[0]["detail"], "\"https://@example.com/a?b=c@d\" and git://@host, http://plain");
        assert_eq!((&lines[1]["pull"], &lines[1]["code"]), (&7.into(), &"degraded".into()));
    }

    #[test]
    fn rotation_keeps_the_bound_with_many_threads() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("audit");
        let log = AuditLog::open(&config::Audit { max_bytes: 4096, keep: 3, ..settings(&file) }).expect("opens");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..200).for_each(|length| log.record(&event(&"x".repeat(length)))));
            }
        });
        let files = files(&file);
        assert_eq!(files.len(), 4, "{files:?}");
        for path in &files {
            assert!(fs::metadata(path).expect("is there").len() <= 4096 && !lines(path).is_empty());
        }
        assert_eq!((log.lost().get(), log.warning()), (0, None));
    }

    /// As processes do: a server, and operators' commands.
    #[test]
    fn writers_lose_nothing_when_the_file_is_moved() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("audit");
        let settings = config::Audit { max_bytes: 4096, keep: 100, ..settings(&file) };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let log = AuditLog::open(&settings).expect("opens");
                scope.spawn(move || (0..500).for_each(|_| log.record(&event("one of many"))));
            }
        });
        let files = files(&file);
        assert_eq!(files.iter().map(|path| lines(path).len()).sum::<usize>(), 2000);
        for moved in files.iter().filter(|path| **path != file) {
            assert!(fs::metadata(moved).expect("is there").len() > 3500, "{moved:?} was moved by two, one after the other");
        }
    }

    #[test]
    fn a_torn_line_is_closed_at_the_next_open() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("audit");
        fs::write(&file, "{\"kind\":\"gra").expect("writes");
        AuditLog::open(&settings(&file)).expect("opens").record(&event("next"));
        let text = fs::read_to_string(&file).expect("reads");
        let (torn, next) = text.split_once('\n').expect("two lines");
        assert_eq!(torn, "{\"kind\":\"gra");
        assert!(serde_json::from_str::<Value>(next.strip_suffix('\n').expect("one line")).is_ok(), "{next}");
    }

    #[test]
    fn a_line_cut_short_is_closed_by_the_next() {
        let folder = tempfile::tempdir().expect("folder");
        let pipe = folder.path().join("audit");
        assert!(Command::new("mkfifo").arg(&pipe).status().expect("runs").success());
        let log = AuditLog::open(&settings(&pipe)).expect("opens");
        let long = "x".repeat(5000);
        let mut reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&pipe).expect("opens");
        while log.warning().is_none() {
            log.record(&event(&long));
        }
        let mut text = Vec::new();
        // The writer is open: the end of what is there is no end of file.
        assert_eq!(reader.read_to_end(&mut text).expect_err("no more").kind(), io::ErrorKind::WouldBlock);
        log.record(&event("next"));
        reader.read_to_end(&mut text).expect_err("no more");
        let text = String::from_utf8(text).expect("UTF-8");
        let valid = text.lines().filter(|line| serde_json::from_str::<Value>(line).is_ok()).count();
        assert_eq!(valid, text.lines().count() - 1, "all but the one that was cut short");
        let last: Value = serde_json::from_str(text.lines().last().expect("lines")).expect("is whole");
        assert_eq!(last["detail"], "next");
        assert_eq!((log.lost().get(), log.warning()), (1, None));
    }

    #[test]
    fn a_full_disk_is_a_warning_and_no_failure() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("audit");
        symlink("/dev/full", &file).expect("links");
        let service = service(folder.path(), &file);
        assert!(service.status().warnings.is_empty());
        service.try_lock(&lock("a", 1, "ada")).expect("takes all the same");
        service.unlock_by_pull("acme/infra", 1).expect("releases all the same");
        let warnings = service.status().warnings;
        assert!(warnings[0].contains(&format!("{}", file.display())) && warnings[0].contains("No space left"), "{warnings:?}");
        assert!(warnings[0].ends_with("events missing from it: 2"), "{warnings:?}");
        assert!(service.metrics().contains("\natlock_audit_events_lost_total 2\n"));

        fs::remove_file(&file).expect("removes");
        service.try_lock(&lock("a", 1, "ada")).expect("takes");
        assert_eq!((service.status().warnings.len(), lines(&file).len()), (0, 1));
    }

    #[test]
    fn an_unwritable_file_is_a_warning_and_no_failure() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("trail").join("audit");
        fs::create_dir(folder.path().join("trail")).expect("creates");
        let service = service(folder.path(), &file);
        service.try_lock(&lock("a", 1, "ada")).expect("takes");
        fs::rename(folder.path().join("trail"), folder.path().join("gone")).expect("moves");
        service.try_lock(&lock("a", 2, "bob")).expect("is refused all the same");
        let warnings = service.status().warnings;
        assert!(warnings[0].contains("cannot be written: No such file"), "{warnings:?}");
        fs::create_dir(folder.path().join("trail")).expect("creates");
        service.try_lock(&lock("a", 3, "eve")).expect("is refused");
        assert_eq!((service.status().warnings.len(), lines(&file).len()), (0, 1));
    }

    #[test]
    fn a_file_that_cannot_be_moved_grows_and_says_so() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("audit");
        fs::create_dir(folder.path().join("audit.1")).expect("creates");
        let log = AuditLog::open(&config::Audit { max_bytes: 4096, keep: 1, ..settings(&file) }).expect("opens");
        (0..100).for_each(|_| log.record(&event("one of many")));
        assert_eq!((lines(&file).len(), log.lost().get()), (100, 0));
        assert!(log.warning().expect("a warning").contains("is full and cannot be moved to .1"));
        File::open(&file).expect("opens").try_lock().expect("another process may try to move it");
        fs::remove_dir(folder.path().join("audit.1")).expect("removes");
        log.record(&event("next"));
        assert_eq!((lines(&file).len(), log.warning()), (1, None));
    }

    #[test]
    fn a_trail_that_cannot_begin_is_an_error() {
        let folder = tempfile::tempdir().expect("folder");
        let error = AuditLog::open(&settings(&folder.path().join("none/audit"))).expect_err("no such folder");
        assert_eq!(error.code(), Code::InvalidConfig);
        assert!(error.message().contains("locking.audit.file") && error.message().contains("none/audit"), "{error}");
    }
}
