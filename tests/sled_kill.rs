//! kill -9 at random times, while threads write and while the store opens and closes: nothing acknowledged is lost, and the
//! store always opens again. ATLOCK_KILL_ROUNDS sets how often (default 25), ATLOCK_KILL_SEED repeats a run's times.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod sled_support;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use atlock::domain::key::{Fields, Target};
use atlock::store::sled::SledStore;
use atlock::store::{Granted, LockKey, Release, Store};
use sled_support::{Random, call, child, grant, role, seed, system_clock};

const THREADS: u64 = 4;
const KEYS: u64 = 40;

fn fields(project: &str) -> Fields<'_> {
    Fields { repo: "a/b", path: ".", workspace: "w", project }
}

/// One line, one write: lines of different threads never mix.
fn say(line: &str) {
    std::io::stdout().lock().write_all(format!("@ {line}\n").as_bytes()).unwrap();
}

/// Opens, writes from some threads for a moment, closes, and again, until it is killed. It says what it is about to do
/// (`g`rant, `r`elease) and what was acknowledged (`G`, `R`).
fn write_until_killed(folder: &Path, seed: u64) {
    let mut random = Random(seed);
    loop {
        let store = SledStore::open(folder, system_clock()).unwrap();
        let end = Instant::now() + Duration::from_millis(random.below(120));
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (store, mut random) = (&store, Random(random.below(u64::MAX)));
                scope.spawn(move || {
                    while Instant::now() < end {
                        change(store, thread, &mut random);
                    }
                });
            }
        });
        store.close().unwrap();
    }
}

fn change(store: &SledStore, thread: u64, random: &mut Random) {
    let project = format!("t{thread}-{}", random.below(KEYS));
    if random.below(2) == 0 {
        say(&format!("g {project} 0"));
        let token = match grant(store, fields(&project), thread as i64, 900).unwrap() {
            Granted::Yes { token, .. } => token.get(),
            Granted::Held { .. } | Granted::NotYet => 0,
        };
        say(&format!("G {project} {token}"));
    } else {
        say(&format!("r {project} 0"));
        store.release(&Release::of(&Target::by_fields(fields(&project))), &call()).unwrap();
        say(&format!("R {project} 0"));
    }
}

#[test]
fn nothing_acknowledged_is_lost() {
    if let Some((role, folder)) = role() {
        return write_until_killed(&folder, role.parse().unwrap());
    }
    let rounds = std::env::var("ATLOCK_KILL_ROUNDS").map_or(25, |text| text.parse().unwrap());
    let mut random = Random(seed("ATLOCK_KILL_SEED"));
    let folder = tempfile::tempdir().unwrap();
    let mut last_said: HashMap<String, char> = HashMap::new();
    let mut last_token: HashMap<String, u64> = HashMap::new();
    let mut acknowledged = 0_u64;
    for round in 0..rounds {
        let mut writer = child("nothing_acknowledged_is_lost", &random.below(1 << 40).to_string(), folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        // Read while it writes: it must not wait for a full pipe.
        let reader = std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>());
        std::thread::sleep(Duration::from_millis(20 + random.below(400)));
        writer.kill().unwrap();
        let status = writer.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "round {round}: the writer failed by itself");
        for line in reader.join().unwrap() {
            // Other lines are the test harness's, which also begins the line of the first thing said.
            let Some((_, said)) = line.split_once("@ ") else { continue };
            let [what, project, token] = said.split(' ').collect::<Vec<_>>()[..] else { panic!("round {round}: {line:?}") };
            let (what, token): (char, u64) = (what.parse().unwrap(), token.parse().unwrap());
            last_said.insert(project.to_owned(), what);
            acknowledged += u64::from(what.is_ascii_uppercase());
            if token > 0 {
                let before = last_token.insert(project.to_owned(), token).unwrap_or(0);
                assert!(token > before, "round {round}: token {token} of {project} after {before}");
            }
        }
        let store = SledStore::open(folder.path(), system_clock()).unwrap_or_else(|e| panic!("round {round}: {e}"));
        for (project, said) in &last_said {
            let held = store.get(LockKey::Project(&fields(project).key()), &call()).unwrap().is_some();
            match said {
                'G' => assert!(held, "round {round}: the grant of {project} was lost"),
                'R' => assert!(!held, "round {round}: the release of {project} was lost"),
                // It was under way: either is right, and it is settled now.
                _ => assert!(!held || store.token(LockKey::Project(&fields(project).key())).unwrap().is_some()),
            }
        }
    }
    eprintln!("{rounds} kills, {acknowledged} acknowledged, 0 lost");
    assert!(acknowledged > rounds, "the writer hardly came to write");
}
