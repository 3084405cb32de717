//! Migrations and rollbacks that are killed at random moments and given again: in the end nothing is lost, nothing is there twice, and in
//! between no server can open both stores.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod migrate_support;
mod redis_support;
mod sled_support;
mod wait;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use atlock::error::Code;
use atlock::store::Store;
use atlock::store::contract::local::{EntryKey, Held};
use migrate_support::{Content, Side, as_both_can, command, fill, local, odd_fields, odd_path, release, shut, take};
use sled_support::{Random, child, seed};

const LOCKS: usize = 300;

/// How many kills each test makes at least; `ATLOCK_MIGRATE_KILLS=100` for a soak.
fn kills() -> u32 {
    std::env::var("ATLOCK_MIGRATE_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(12)
}

/// The command; of a BoltDB file this test program runs what the linked server's does.
fn typed(args: &[String], is_boltdb: bool) -> Command {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    if !is_boltdb {
        return command(&args);
    }
    let mut child = child("runs_the_command", &serde_json::to_string(&args).unwrap(), Path::new("/"));
    child.stdout(Stdio::null());
    child
}

/// In a child alone.
#[test]
fn runs_the_command() {
    let Some((args, _)) = sled_support::role() else { return };
    let args: Vec<String> = serde_json::from_str(&args).unwrap();
    let done = atlock::migration_command::typed(&args, &local::Files);
    eprint!("{}", done.err);
    std::process::exit(done.status.into());
}

/// Gives a command again and again, and kills it after a random time, until it has ended well or `until` says so.
fn give_again(args: &[String], is_boltdb: bool, random: &mut Random, killed: &mut u32, mut look: impl FnMut() -> bool) -> bool {
    let mut time = Duration::from_millis(300);
    loop {
        let mut child = typed(args, is_boltdb).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let end = Instant::now() + Duration::from_micros(random.below(u64::try_from(time.as_micros()).unwrap()));
        let mut has_ended = false;
        while !has_ended && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
            has_ended = child.try_wait().unwrap().is_some();
        }
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        if has_ended {
            assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
            return true;
        }
        *killed += 1;
        // So that it ends at last.
        time = time * 3 / 2;
        if look() {
            return false;
        }
    }
}

/// Whether a server could open it. A store that is not there yet is not created by the look.
fn opens(side: &Side) -> bool {
    if !side.exists() {
        return true;
    }
    match side.open() {
        Ok(store) => {
            shut(store);
            true
        }
        Err(e) => {
            assert_eq!(e.code(), Code::StoreMoved, "{e}");
            false
        }
    }
}

/// What may be seen whenever a command was killed.
fn look(from: &Side, to: &Side, before: &Content, there: &Content) {
    let content = |side| as_both(side, from, to);
    match (opens(from), opens(to)) {
        (true, true) => assert_eq!((&content(from), &content(to)), (before, there), "both can be opened: nothing was moved"),
        (true, false) => assert_eq!(&content(from), before, "the source decides: it is as it was"),
        (false, true) => {
            let content = content(to);
            assert!(before.iter().chain(there).all(|entry| has(&content, entry)), "the target decides: it has all");
        }
        (false, false) => {}
    }
}

/// What one of these two has, as both can have it.
fn as_both(side: &Side, from: &Side, to: &Side) -> Content {
    as_both_can(&side.content(), [from, to])
}

/// Byte for byte, and with no smaller token: a store that had given larger ones raises it.
fn has(content: &Content, (key, held): (&EntryKey, &Held)) -> bool {
    content.get(key).is_some_and(|there| there.value == held.value && there.token >= held.token)
}

fn killed_everywhere(mut from: Side, mut to: Side, name: &str) {
    let mut random = Random(seed(name));
    let (mut killed, mut cycle) = (0, 0);
    while killed < kills() || cycle < 3 {
        (from, to) = (from.emptied(), to.emptied());
        let store = from.open().unwrap();
        fill(&*store, LOCKS);
        shut(store);
        // A lock of the target's own, which nothing touches.
        let own = to.open().unwrap();
        take(&*own, odd_fields("own"), 5);
        shut(own);
        let (before, there) = (as_both(&from, &from, &to), as_both(&to, &from, &to));
        let is_boltdb = [&from, &to].iter().any(|side| matches!(side, Side::Boltdb(_)));
        let work = tempfile::tempdir().unwrap();
        let folder = work.path().join("work").display().to_string();
        let mut args = vec!["migrate", "--execute", "--others-are-stopped", "--work", &folder, "--from"];
        let (source, target) = (from.named(), to.named());
        args.extend([source.as_str(), "--to", target.as_str()]);
        let execute: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let manifest = format!("{folder}/manifest.json");
        let back: Vec<String> = ["rollback", &manifest, "--others-are-stopped"].iter().map(|arg| (*arg).to_owned()).collect();
        // Every second migration is undone after its first kill that left a manifest.
        let is_undone = cycle % 2 == 1;
        let is_complete = give_again(&execute, is_boltdb, &mut random, &mut killed, || {
            look(&from, &to, &before, &there);
            is_undone && Path::new(&manifest).exists() && !opens(&from) && !opens(&to)
        });
        let expected = if is_complete { a_day(&from, &to, &before, &there) } else { before.clone() };
        give_again(&back, is_boltdb, &mut random, &mut killed, || false);
        assert_eq!(as_both(&from, &from, &to), expected, "cycle {cycle}");
        assert!(opens(&from), "the source decides again");
        if !is_complete {
            assert_eq!(as_both(&to, &from, &to), there, "cycle {cycle}: the target is as it was");
            assert!(opens(&to));
        }
        cycle += 1;
    }
    eprintln!("{name}: {killed} kills in {cycle} migrations");
}

/// What a server does on the target; what is held there afterwards.
fn a_day(from: &Side, to: &Side, before: &Content, there: &Content) -> Content {
    let content = as_both(to, from, to);
    assert!(before.iter().chain(there).all(|entry| has(&content, entry)), "all is there");
    assert_eq!(content.len(), before.len() + there.len(), "and nothing else");
    let store: Box<dyn Store> = to.open().unwrap();
    for nth in (0..LOCKS).step_by(3) {
        release(&*store, odd_fields(&odd_path(nth)));
    }
    take(&*store, odd_fields(&odd_path(0)), 9001);
    take(&*store, odd_fields("new"), 9002);
    shut(store);
    as_both(to, from, to)
}

#[test]
fn embedded_to_redis_killed() {
    killed_everywhere(Side::sled(), Side::redis(), "MIGRATE_SEED_UP");
}

#[test]
fn redis_to_embedded_killed() {
    killed_everywhere(Side::redis(), Side::sled(), "MIGRATE_SEED_DOWN");
}

#[test]
fn boltdb_to_embedded_killed() {
    killed_everywhere(Side::boltdb(), Side::sled(), "MIGRATE_SEED_FROM_FILE");
}

#[test]
fn embedded_to_boltdb_killed() {
    killed_everywhere(Side::sled(), Side::boltdb(), "MIGRATE_SEED_TO_FILE");
}

#[test]
fn boltdb_to_redis_killed() {
    killed_everywhere(Side::boltdb(), Side::redis(), "MIGRATE_SEED_FILE_UP");
}
