//! Power loss: before each acknowledgement the change is in the journal by a write that is itself durable (O_DSYNC), or in sled's
//! log with an fdatasync behind it; the journal begins anew only when sled's log is durable; and nothing is written elsewhere. A
//! kill cannot prove that (the kernel keeps what was written), so strace does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod sled_support;

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use atlock::domain::key::{Fields, Target};
use atlock::store::sled::SledStore;
use atlock::store::{Expected, Granted, Release, Store};
use sled_support::{call, child, grant, role, system_clock};

const MARKER: &str = "@acknowledged";
const CHANGES: usize = 3 * 60 + 3;

fn say_acknowledged() {
    std::io::stdout().lock().write_all(format!("{MARKER}\n").as_bytes()).unwrap();
}

fn fields(project: &str) -> Fields<'_> {
    Fields { repo: "a/b", path: ".", workspace: "w", project }
}

fn make_changes(folder: &Path) {
    let store = SledStore::open(folder, system_clock()).unwrap();
    for nth in 0..60 {
        let (kept, released) = (format!("kept{nth}"), format!("released{nth}"));
        assert!(matches!(grant(&store, fields(&kept), 1, 6_000).unwrap(), Granted::Yes { .. }));
        say_acknowledged();
        assert!(matches!(grant(&store, fields(&released), 1, 100).unwrap(), Granted::Yes { .. }));
        say_acknowledged();
        assert!(store.release(&Release::of(&Target::by_fields(fields(&released))), &call()).unwrap().is_some());
        say_acknowledged();
    }
    for megabytes in [1, 3, 16] {
        store
            .swap_pull_status("h::a/b::1", Expected::Any, Some(&vec![b'1' + megabytes; usize::from(megabytes) << 20]), &call())
            .unwrap();
        say_acknowledged();
    }
}

#[test]
fn every_acknowledgement_comes_after_a_sync() {
    if let Some((_, folder)) = role() {
        return make_changes(&folder);
    }
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let traced = child("every_acknowledgement_comes_after_a_sync", "changes", &folder.path().join("store"));
    let mut strace = Command::new("strace");
    strace.args(["-f", "-y", "-s", "24", "-e", "trace=write,pwrite64,writev,pwritev,fdatasync,fsync,openat", "-o"]).arg(&trace);
    strace.arg(traced.get_program()).args(traced.get_args());
    traced.get_envs().for_each(|(name, value)| {
        strace.env(name, value.unwrap());
    });
    let status = strace.stdin(Stdio::null()).stdout(Stdio::null()).status().expect("this test needs strace: install it");
    assert!(status.success(), "the traced child failed");

    let mut checker = Checker::default();
    for line in std::fs::read_to_string(&trace).unwrap().lines() {
        checker.see(line);
    }
    assert_eq!(checker.acknowledged, CHANGES);
}

/// Follows the files' state through a trace.
#[derive(Default)]
struct Checker {
    /// Writes to sled's log so far, and how many of them are durable.
    written: usize,
    durable: usize,
    /// What each thread's unfinished sync will make durable.
    syncing: HashMap<String, usize>,
    /// Threads whose write to the journal is unfinished.
    journaling: HashSet<String>,
    /// Whether the journal was last opened so that writing makes durable.
    journal_is_durable: bool,
    /// Finished writes to the journal, and how many there were at the last acknowledgement.
    journaled: usize,
    journaled_at_last: usize,
    synced_at_last: usize,
    acknowledged: usize,
}

impl Checker {
    /// `pid call(fd<path>, …) = result`, or the two halves of a call that another thread's line interrupted.
    fn see(&mut self, line: &str) {
        let (pid, call) = line.split_once(' ').unwrap();
        let call = call.trim_start();
        let is_write = ["write(", "pwrite64(", "writev(", "pwritev("].iter().any(|name| call.starts_with(name));
        let is_sync = call.starts_with("fdatasync(") || call.starts_with("fsync(");
        let is_unfinished = call.ends_with("<unfinished ...>");
        if call.starts_with("openat(") && call.contains("/store/journal\"") && call.contains("O_WRONLY") {
            self.journal_is_durable = call.contains("O_DSYNC");
        } else if is_write && call.contains("/store/sled/db>") {
            self.written += 1;
        } else if is_write && call.contains("/store/journal>") {
            if call.contains(", 4096) = ") || (is_unfinished && call.contains(", 4096 <")) {
                assert_eq!(self.durable, self.written, "the journal began anew before sled's log was durable: {line}");
            }
            if is_unfinished {
                self.journaling.insert(pid.to_owned());
            } else {
                self.journaled += 1;
            }
        } else if call.starts_with("<... pwrite64 resumed") && self.journaling.remove(pid) {
            self.journaled += 1;
        } else if is_sync && call.contains("/store/sled/db>") {
            self.syncing.insert(pid.to_owned(), self.written);
        } else if is_write && call.contains(MARKER) {
            self.acknowledge();
        }
        assert!(!call.contains("/blobs/"), "sled put something outside its log: {line}");
        let ends_sync = is_sync || call.starts_with("<... fdatasync resumed") || call.starts_with("<... fsync resumed");
        if ends_sync && call.ends_with("= 0") {
            self.durable = self.durable.max(self.syncing.remove(pid).unwrap_or(0));
        }
    }

    fn acknowledge(&mut self) {
        self.acknowledged += 1;
        let in_journal = self.journal_is_durable && self.journaled > self.journaled_at_last;
        let in_sled = self.durable == self.written && self.durable > self.synced_at_last;
        assert!(in_journal || in_sled, "change {} was acknowledged before it was durable", self.acknowledged);
        self.journaled_at_last = self.journaled;
        self.synced_at_last = self.durable;
    }
}
