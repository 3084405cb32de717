//! What is beside a lock in Redis belongs to its value: a stock server that deletes our lock and takes it leaves what we wrote. And
//! what a value says is decided by one reader, the library's, whoever stored it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod lock_corpus;
mod redis_support;
mod wait;

use std::time::{Duration, Instant};

use atlock::config;
use atlock::domain::key::Fields;
use atlock::domain::lock::{ProjectLock, PullRef};
use atlock::domain::token::FencingToken;
use atlock::error::Code;
use atlock::store::contract::local::{EntryKey, Held};
use atlock::store::contract::shared::{Remote, SharedStore as _};
use atlock::store::redis::RedisStore;
use atlock::store::{Grant, Granted, LockKey, Release, Store};
use lock_corpus::corpus;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use redis_support::proxy::Proxy;
use redis_support::{Cluster, Server, call, fields, get, lock_json, open, release, settings, take};
use wait::wait_until;

const LOCK: &str = "pr/acme/infra/a/default/";
const SIDE: &str = "{pr/acme/infra/a/default/}:atlock";
const MEMBER: &str = "acme/infra/a/default/";

/// One command, on the server or any node of the cluster.
type Raw<'a> = dyn Fn(&redis::Cmd) -> redis::Value + 'a;

fn del(raw: &Raw<'_>) {
    raw(redis::cmd("DEL").arg(LOCK));
}

fn set(raw: &Raw<'_>, value: &[u8]) {
    raw(redis::cmd("SET").arg(LOCK).arg(value));
}

fn ttl(raw: &Raw<'_>) -> i64 {
    redis::from_redis_value(raw(redis::cmd("PTTL").arg(SIDE))).unwrap()
}

fn remote(store: &RedisStore) -> Remote {
    store.remote(&EntryKey::Project(MEMBER.to_owned()), &call()).unwrap()
}

fn a_stock_lock_is_not_ours(settings: &config::Redis, raw: &Raw<'_>) {
    let store = open(settings).unwrap();
    let token = take(&store, fields("a"), 1);
    let ours = remote(&store);
    assert_eq!((ours.token, ours.holder.as_str()), (token, "test-instance"));

    // A stock server deletes it and takes it.
    let stocks = lock_json(fields("a"), 2);
    del(raw);
    set(raw, &stocks);
    assert_eq!(remote(&store), Remote { value: Some(stocks), ..Remote::default() });
    assert_eq!(store.lock_info(LockKey::Project(MEMBER), &call()).unwrap().unwrap().token, None);
    assert_eq!(ttl(raw), -1, "the side hash of a lock that is there stays");

    // A stock server deletes its own: the last token is told, and what was left beside it ends.
    del(raw);
    let gone = remote(&store);
    assert_eq!((gone.value, gone.token), (None, token));
    assert!((1..=3_600_000).contains(&ttl(raw)), "{}", ttl(raw));
    raw(redis::cmd("PEXPIRE").arg(SIDE).arg(60_000));
    assert_eq!(remote(&store).value, None);
    assert!((1..=60_000).contains(&ttl(raw)), "a look does not put its end off: {}", ttl(raw));
    raw(redis::cmd("PERSIST").arg(SIDE));

    // So it does where the index of all locks is put right.
    raw(redis::cmd("ZADD").arg("atlock:locks").arg(1).arg(MEMBER));
    drop(store);
    let store = open(settings).unwrap();
    store.list(&call()).unwrap();
    assert!((1..=3_600_000).contains(&ttl(raw)), "{}", ttl(raw));
    raw(redis::cmd("PERSIST").arg(SIDE));
    assert_eq!(release(&store, fields("a")).unwrap(), None);
    assert!((1..=3_600_000).contains(&ttl(raw)), "{}", ttl(raw));

    let next = take(&store, fields("a"), 3);
    assert!(next > token);
    assert_eq!((remote(&store).token, ttl(raw)), (next, -1));
    raw(redis::cmd("ZADD").arg("atlock:locks").arg(1).arg(MEMBER));
    store.list(&call()).unwrap();
    assert_eq!(ttl(raw), -1, "the side hash of a lock that is there stays");

    // What an older version wrote has no digest; it ends once its lock was released.
    raw(redis::cmd("HDEL").arg(SIDE).arg("of"));
    assert_eq!(remote(&store).token, next);
    raw(redis::cmd("PEXPIRE").arg(SIDE).arg(60_000));
    assert_eq!(remote(&store).token, FencingToken::NONE);
    release(&store, fields("a")).unwrap().unwrap();
}

#[test]
fn a_stock_lock_is_not_ours_on_a_single_server() {
    let server = Server::start(&[]);
    for shared_with_stock in [false, true] {
        let settings = config::Redis { shared_with_stock, ..settings(&server.address()) };
        a_stock_lock_is_not_ours(&settings, &|command| command.query(&mut server.raw()).unwrap());
    }
}

#[test]
fn a_stock_lock_is_not_ours_on_a_cluster() {
    let cluster = Cluster::start(0);
    let client =
        redis::cluster::ClusterClient::new(cluster.nodes.iter().map(|node| format!("redis://{}", node.address()))).unwrap();
    let connection = std::cell::RefCell::new(client.get_connection().unwrap());
    for shared_with_stock in [false, true] {
        let settings = config::Redis { shared_with_stock, ..cluster.settings() };
        a_stock_lock_is_not_ours(&settings, &|command| command.query(&mut *connection.borrow_mut()).unwrap());
    }
}

/// A lock that was seen to be gone is taken again before what it left is put away: then that belongs to the new holder.
#[test]
fn what_a_lock_left_stays_if_the_lock_is_taken_again() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(&server.address());
    let (store, other) = (open(&settings(&proxy.address)).unwrap(), open(&settings(&server.address())).unwrap());
    let raw = |command: &redis::Cmd| command.query::<redis::Value>(&mut server.raw()).unwrap();
    take(&other, fields("a"), 1);
    del(&raw);
    raw(redis::cmd("ZADD").arg("atlock:locks").arg(1).arg(MEMBER));
    proxy.before(move || {
        take(&other, fields("a"), 2);
    });
    assert_eq!(store.list(&call()).unwrap().len(), 0);
    assert!(proxy.is_done());
    assert_eq!(ttl(&raw), -1);
    assert_eq!(store.list(&call()).unwrap().len(), 1, "it is in the index still");
}

/// A lock that was copied from a stock server and put back belongs to its token, whatever it says.
#[test]
fn what_is_put_back_is_bound_too() {
    let server = Server::start(&[]);
    let store = open(&settings(&server.address())).unwrap();
    let key = EntryKey::Project(MEMBER.to_owned());
    for value in [lock_json(fields("a"), 1), b"not a lock".to_vec()] {
        store.put(&key, None, Some(&Held { value: value.clone(), token: FencingToken::new(7) }), &call()).unwrap();
        let there = remote(&store);
        assert_eq!((there.value.as_deref(), there.holder.as_str()), (Some(&*value), "test-instance"));
        assert!(there.token >= FencingToken::new(7));
        store.put(&key, Some(&value), None, &call()).unwrap();
    }
}

/// Pieces that two readers of JSON may take for different things.
fn pieces() -> impl Strategy<Value = String> {
    use proptest::sample::select;
    let number = select(vec![
        "1",
        "1",
        "1",
        "9007199254740991",
        "9007199254740992",
        "9007199254740993",
        "-9007199254740993",
        "1.0",
        "1e0",
        "0x1",
        "nan",
        "-0",
        "01",
        "null",
        "\"1\"",
        "99999999999999999999",
    ]);
    let name = select(vec!["\"\"", "\"\"", "\"\"", "\"\"", "null", "\"\\ud800\"", "\"\\u0000\"", "1"]);
    let other = prop_oneof![
        select(vec![
            "",
            "",
            "",
            r#","Workspace":"other""#,
            r#","Project":{"RepoFullName":"evil/repo","Path":"a","ProjectName":""}"#,
            r#","Pull":{"Num":1}"#,
            r#","pull":{"num":1}"#,
            r#","X":"\ud800""#,
            r#","X":"\udc00\ud800""#,
            r#","X":1e999"#,
            r#","X":Infinity"#,
            r#","":{"":[]}"#,
        ])
        .prop_map(str::to_owned),
        (100_usize..1200).prop_map(|depth| format!(r#","X":{}{}"#, "[".repeat(depth), "]".repeat(depth))),
    ];
    let repo = select(vec!["acme/infra", "acme/infra", "acme/infra", "acme/infra", "", "acme\\u002finfra", "évil"]);
    let end = select(vec!["}", "}", "}", "}", "}", "}", "} ", "}}", "", "}\u{0}"]);
    (number, name, other, repo, end).prop_map(|(number, name, other, repo, end)| {
        format!(
            r#"{{"Project":{{"ProjectName":{name},"RepoFullName":"{repo}","Path":"a"}},"Pull":{{"Num":{number}}},"Workspace":"default"{other}{end}"#
        )
    })
}

fn values() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => pieces().prop_map(String::into_bytes),
        1 => Just(lock_json(fields("a"), 1)),
        1 => proptest::collection::vec(any::<u8>(), 0..40),
        1 => pieces().prop_flat_map(|text| {
            let length = text.len();
            (Just(text.into_bytes()), 0..length, any::<u8>())
        }).prop_map(|(mut bytes, at, byte)| {
            bytes[at] = byte;
            bytes
        }),
    ]
}

/// The script releases exactly what `Release::admits` does, however the value came there.
#[test]
fn the_script_judges_as_the_library_does() {
    let server = Server::start(&[]);
    let store = open(&settings(&server.address())).unwrap();
    let raw = |command: &redis::Cmd| command.query::<redis::Value>(&mut server.raw()).unwrap();
    let other = Fields { workspace: "other", ..fields("a") };
    let releases = (proptest::option::of(any::<bool>()), proptest::option::of(prop_oneof![Just(1), Just(9_007_199_254_740_992)]));
    let mut runner = TestRunner::new(Config { cases: 1500, failure_persistence: None, ..Config::default() });
    runner
        .run(&(values(), releases, 0..3), |(value, (guarded, pull_num), way)| {
            del(&raw);
            let key = LockKey::Project(MEMBER);
            let release =
                Release { key, fields: guarded.map(|own| if own { fields("a") } else { other }), pull_num, value: None };
            let held = Held { value: value.clone(), token: FencingToken::new(1) };
            match way {
                // A grant's value was read before: this is what its caller does.
                0 if ProjectLock::parse(&value).is_ok() => {
                    let lock = ProjectLock::parse(&value).unwrap();
                    let granted = store.grant(&Grant { key, lock: Some(&lock), value: &value, in_order: false }, &call());
                    prop_assert!(matches!(granted, Ok(Granted::Yes { .. })), "{granted:?}");
                }
                1 => drop(store.put(&EntryKey::Project(MEMBER.to_owned()), None, Some(&held), &call()).unwrap()),
                _ => set(&raw, &value),
            }
            let wanted = release.admits(&value).map(|admitted| admitted.then(|| value.clone()));
            let answer = store.release(&release, &call());
            prop_assert_eq!(answer.as_ref().map_err(|e| e.code()), wanted.as_ref().map_err(|e| e.code()));
            prop_assert_eq!(get(&store, fields("a")).is_some(), !matches!(wanted, Ok(Some(_))));

            let pull = PullRef { repo: "acme/infra", num: pull_num.unwrap_or(1) };
            let is_pulls = atlock::domain::lock::ProjectLock::parse(&value).is_ok_and(|lock| lock.pull() == pull);
            set(&raw, &value);
            raw(redis::cmd("SADD").arg(format!("atlock:pull:acme/infra#{}", pull.num)).arg(MEMBER));
            prop_assert_eq!(store.release_by_pull(pull, &call()).unwrap().len(), usize::from(is_pulls));
            prop_assert_eq!(get(&store, fields("a")).is_none(), is_pulls);
            let members: Vec<String> =
                redis::cmd("SMEMBERS").arg(format!("atlock:pull:acme/infra#{}", pull.num)).query(&mut server.raw()).unwrap();
            prop_assert_eq!(members, [""; 0]);
            Ok(())
        })
        .unwrap();
}

/// Each text of the corpus, however it came into Redis: the script releases a lock for the pull that has it by the library's reader and by
/// Atlantis's decoding, and for no other; what is no lock it releases for nobody, whoever Atlantis would take for its holder.
#[test]
fn the_script_judges_the_corpus_as_written() {
    let server = Server::start(&[]);
    let store = open(&settings(&server.address())).unwrap();
    let run = |command: &redis::Cmd| command.query::<redis::Value>(&mut server.raw()).unwrap();
    let mut held_by_somebody_for_atlantis_alone = 0;
    for case in corpus() {
        let text = case.text();
        let lock = ProjectLock::parse(&text).ok();
        assert_eq!(lock.is_some(), case.lock, "{}", case.name);
        // What is no lock stands at the key that Atlantis would look at.
        let Some((key, num)) = case.holder.rsplit_once('#') else { continue };
        let num: i64 = num.parse().unwrap();
        let key = lock.as_ref().map_or_else(|| key.to_owned(), |lock| lock.fields().key());
        let repo = lock.as_ref().map_or("acme/infra", |lock| lock.fields().repo).to_owned();
        held_by_somebody_for_atlantis_alone += usize::from(lock.is_none());
        for way in ["granted", "put", "set"] {
            let at = format!("pr/{key}");
            run(redis::cmd("DEL").arg(&at));
            match (way, &lock) {
                ("granted", Some(lock)) => {
                    let grant = Grant { key: LockKey::Project(&key), lock: Some(lock), value: &text, in_order: false };
                    assert!(matches!(store.grant(&grant, &call()), Ok(Granted::Yes { .. })), "{}", case.name);
                }
                ("put", _) => {
                    let held = Held { value: text.clone(), token: FencingToken::new(1) };
                    store.put(&EntryKey::Project(key.clone()), None, Some(&held), &call()).unwrap();
                }
                _ => drop(run(redis::cmd("SET").arg(&at).arg(&text[..]))),
            }
            for pull in [PullRef { repo: &repo, num: num + 1 }, PullRef { repo: "acme/other", num }, PullRef { repo: &repo, num }]
            {
                run(redis::cmd("SADD").arg(format!("atlock:pull:{}#{}", pull.repo, pull.num)).arg(&key));
                let released = store.release_by_pull(pull, &call()).unwrap();
                let is_its = lock.as_ref().is_some_and(|lock| lock.pull() == pull);
                let wanted: &[&[u8]] = if is_its { &[&text] } else { &[] };
                assert_eq!(released.values().collect::<Vec<_>>(), wanted, "{}, {way}, {pull:?}", case.name);
                let left: Option<Vec<u8>> = redis::cmd("GET").arg(&at).query(&mut server.raw()).unwrap();
                assert_eq!(left.as_deref(), (!is_its).then_some(&text[..]), "{}, {way}, {pull:?}", case.name);
            }
        }
    }
    assert!(held_by_somebody_for_atlantis_alone >= 50);
}

/// A command's lock may be any JSON; a stock server's is judged as ours is.
#[test]
fn a_commands_lock_of_a_stock_server_is_released() {
    let server = Server::start(&[]);
    let store = open(&settings(&server.address())).unwrap();
    let release =
        || store.release(&Release { key: LockKey::Command("apply"), fields: None, pull_num: None, value: None }, &call());
    let plant = |value: &str| redis::cmd("SET").arg("global/apply/lock").arg(value).query::<()>(&mut server.raw()).unwrap();
    plant(r#"{"LockMetadata":{}}"#);
    assert_eq!(release(), Ok(Some(br#"{"LockMetadata":{}}"#.to_vec())));
    plant("nan");
    assert_eq!(release().map_err(|e| e.code()), Err(Code::EntryUnreadable));
}

/// Between the look at a stock server's lock and its release, that server changes it.
#[test]
fn a_lock_that_changes_while_it_is_judged_is_judged_again() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(&server.address());
    let store = open(&settings(&proxy.address)).unwrap();
    let raw = |command: &redis::Cmd| command.query::<redis::Value>(&mut server.raw()).unwrap();
    let only = |num| Release { key: LockKey::Project(MEMBER), fields: None, pull_num: Some(num), value: None };
    // The first answer is lost, too: the question is a retry.
    for lost in [false, true] {
        for (next, released) in
            [(lock_json(fields("a"), 2), false), (lock_json(Fields { workspace: "w", ..fields("a") }, 1), true)]
        {
            set(&raw, &lock_json(fields("a"), 1));
            let (mut connection, value) = (server.raw(), next.clone());
            let change = move || redis::cmd("SET").arg(LOCK).arg(value).query::<()>(&mut connection).unwrap();
            if lost {
                proxy.lose_reply(change)
            } else {
                proxy.lose_second_reply(change)
            }
            let answer = store.release(&only(1), &call()).unwrap();
            assert!(proxy.is_done());
            if lost {
                assert_eq!(answer, released.then_some(next), "lost {lost}");
            } else {
                // It was released at once, and its answer was lost: what came later stays.
                assert_eq!(answer, Some(lock_json(fields("a"), 1)));
                assert_eq!(get(&store, fields("a")), Some(next));
            }
        }
    }
}

/// It changes after it was judged and before it is asked for.
#[test]
fn a_lock_that_changed_after_it_was_judged_is_judged_again() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(&server.address());
    let store = open(&settings(&proxy.address)).unwrap();
    let raw = |command: &redis::Cmd| command.query::<redis::Value>(&mut server.raw()).unwrap();
    let release = Release { key: LockKey::Project(MEMBER), fields: None, pull_num: Some(1), value: None };
    for (next, released) in
        [(lock_json(fields("a"), 2), false), (lock_json(Fields { workspace: "w", ..fields("a") }, 1), true), (Vec::new(), false)]
    {
        set(&raw, &lock_json(fields("a"), 1));
        let (mut connection, value) = (server.raw(), next.clone());
        proxy.before_second(move || {
            let mut command = redis::cmd(if value.is_empty() { "DEL" } else { "SET" });
            command.arg(LOCK);
            if !value.is_empty() {
                command.arg(value);
            }
            command.query::<()>(&mut connection).unwrap();
        });
        assert_eq!(store.release(&release, &call()).unwrap(), released.then(|| next.clone()));
        assert!(proxy.is_done());
        assert_eq!(get(&store, fields("a")), (!released && !next.is_empty()).then_some(next));
    }
}

/// The first attempt to release a stock server's lock is stuck; its retry is answered. When it arrives, the lock is another's.
#[test]
fn an_attempt_that_was_to_be_judged_does_not_act_later() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(&server.address());
    let (store, other) = (open(&settings(&proxy.address)).unwrap(), open(&settings(&server.address())).unwrap());
    let raw = |command: &redis::Cmd| command.query::<redis::Value>(&mut server.raw()).unwrap();
    let release = Release { key: LockKey::Project(MEMBER), fields: None, pull_num: Some(2), value: None };
    set(&raw, &lock_json(fields("a"), 1));
    proxy.hold_request();
    let first = redis_support::call_within(Duration::from_secs(2));
    let mut again = first.clone();
    again.lost_since = Some(Instant::now());
    std::thread::scope(|scope| {
        let (store, first) = (&store, first);
        let stuck = scope.spawn(move || store.release(&release, &first));
        wait_until("the first is stuck", Duration::from_secs(20), || proxy.is_done());
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(other.release(&release, &again), Ok(None), "pull 2 does not hold it");
        del(&raw);
        take(&other, fields("a"), 2);
        let reply = proxy.deliver();
        assert!(reply.contains("JUDGE"), "{reply}");
        assert!(get(&other, fields("a")).is_some(), "the lock that was taken since was released");
        assert_eq!(stuck.join().unwrap().unwrap_err().code(), Code::OutcomeUnknown);
    });
}
