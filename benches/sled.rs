//! How fast the embedded store is alone, and how much memory it needs: `cargo bench --bench sled`; what sealing costs: `cargo bench --bench sled -- sealed`.
//! It asserts no figure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

#[path = "../tests/sled_support/mod.rs"]
mod sled_support;

use std::time::{Duration, Instant};

use atlock::domain::key::{Fields, Target};
use atlock::sealing::MasterKeys;
use atlock::store::sled::SledStore;
use atlock::store::{Granted, LockKey, Release, Store};
use sled_support::{call, child, grant, role, system_clock};

/// A lock's JSON of about 1.1 KB, as in Atlantis.
const PADDING: usize = 900;

fn fields(project: &str) -> Fields<'_> {
    Fields { repo: "acme/infra", path: "a/b", workspace: "default", project }
}

fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() - 1) * percent / 100]
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// What sealing costs: a grant and a release in turn, in clear and sealed, in the same minutes; then lists of 1,000.
fn compare_sealed() {
    let keys = MasterKeys::parse("ab".repeat(32).as_bytes(), "the benchmark").unwrap();
    let folders = [tempfile::tempdir_in(".").unwrap(), tempfile::tempdir_in(".").unwrap()];
    let stores = [None, Some(&keys)].into_iter().zip(&folders);
    let stores: Vec<_> =
        stores.map(|(keys, folder)| SledStore::open_sealed(folder.path(), system_clock(), keys).unwrap()).collect();
    let mut grants = [Vec::new(), Vec::new()];
    let mut releases = [Vec::new(), Vec::new()];
    for nth in 0..3_000 {
        let project = format!("p{nth}");
        let key = fields(&project).key();
        for (which, store) in stores.iter().enumerate() {
            let start = Instant::now();
            assert!(matches!(grant(store, fields(&project), nth, PADDING).unwrap(), Granted::Yes { .. }));
            grants[which].push(start.elapsed());
            if nth >= 1_000 {
                let start = Instant::now();
                assert!(store.discard(LockKey::Project(&key), &call()).unwrap().is_some());
                releases[which].push(start.elapsed());
            }
        }
    }
    for (what, times) in [("grant", &mut grants), ("release", &mut releases)] {
        let [clear, sealed] = [0, 1].map(|which| percentile(&mut times[which], 50));
        eprintln!("{what}: in clear {clear:?}, sealed {sealed:?}, ratio {:.3}", sealed.as_secs_f64() / clear.as_secs_f64());
    }
    let mut lists = [Vec::new(), Vec::new()];
    for _ in 0..50 {
        for (which, store) in stores.iter().enumerate() {
            let start = Instant::now();
            assert_eq!(store.list(&call()).unwrap().len(), 1_000);
            lists[which].push(start.elapsed());
        }
    }
    let [clear, sealed] = [0, 1].map(|which| percentile(&mut lists[which], 50));
    eprintln!("list of 1,000: in clear {clear:?}, sealed {sealed:?}, ratio {:.2}", sealed.as_secs_f64() / clear.as_secs_f64());
}

fn new_process(folder: &std::path::Path) {
    let before = resident_kib();
    let store = SledStore::open(folder, system_clock()).unwrap();
    let opened = resident_kib() - before;
    assert_eq!(store.list(&call()).unwrap().len(), 1_000);
    eprintln!("private memory of a new process, 1,000 locks open: {opened} KiB, listed: {} KiB", resident_kib() - before);
}

fn main() {
    if std::env::args().any(|word| word == "sealed") {
        return compare_sealed();
    }
    if let Some((_, folder)) = role() {
        return new_process(&folder);
    }
    let folder = tempfile::tempdir_in(".").unwrap();
    let before = resident_kib();
    let store = SledStore::open(folder.path(), system_clock()).unwrap();
    eprintln!("private memory, empty: {} KiB", resident_kib() - before);
    let mut granted = Vec::new();
    for nth in 0..1_000 {
        let project = format!("p{nth}");
        let start = Instant::now();
        assert!(matches!(grant(&store, fields(&project), nth, PADDING).unwrap(), Granted::Yes { .. }));
        granted.push(start.elapsed());
    }
    eprintln!("private memory for 1,000 locks: {} KiB", resident_kib() - before);
    eprintln!("grant, one thread: p50 {:?} p99 {:?}", percentile(&mut granted, 50), percentile(&mut granted, 99));
    drop(store);
    assert!(child("", "open", folder.path()).status().unwrap().success());
    let start = Instant::now();
    let store = SledStore::open(folder.path(), system_clock()).unwrap();
    eprintln!("open with 1,000 locks: {:?}; private memory {} KiB", start.elapsed(), resident_kib() - before);

    let mut times = Vec::new();
    for nth in 0..1_000 {
        let project = format!("p{nth}");
        let start = Instant::now();
        assert!(matches!(grant(&store, fields(&project), nth, PADDING).unwrap(), Granted::Held { .. }));
        times.push(start.elapsed());
    }
    eprintln!("grant, held: p50 {:?}", percentile(&mut times, 50));
    let mut times = Vec::new();
    for _ in 0..20 {
        let start = Instant::now();
        assert_eq!(store.list(&call()).unwrap().len(), 1_000);
        times.push(start.elapsed());
    }
    eprintln!("list of 1,000: p50 {:?}", percentile(&mut times, 50));
    let mut times = Vec::new();
    for nth in 0..1_000 {
        let key = fields(&format!("p{nth}")).key();
        let start = Instant::now();
        assert!(store.get(LockKey::Project(&key), &call()).unwrap().is_some());
        times.push(start.elapsed());
    }
    eprintln!("get: p50 {:?}", percentile(&mut times, 50));

    const PAIRS: usize = 2_000;
    let start = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let store = &store;
            scope.spawn(move || {
                for nth in 0..PAIRS {
                    let project = format!("t{thread}-{nth}");
                    grant(store, fields(&project), 1, PADDING).unwrap();
                    store.release(&Release::of(&Target::by_fields(fields(&project))), &call()).unwrap().unwrap();
                }
            });
        }
    });
    let operations = 16 * PAIRS * 2;
    eprintln!("16 threads: {:.0} grants and releases/s", operations as f64 / start.elapsed().as_secs_f64());
    drop(store);
    let bytes = std::fs::metadata(folder.path().join("sled/db")).unwrap().len();
    let start = Instant::now();
    let _store = SledStore::open(folder.path(), system_clock()).unwrap();
    eprintln!("open again: {:?}, log of {} KiB", start.elapsed(), bytes >> 10);
}
