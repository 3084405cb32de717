//! The command line on the embedded store: what an operator types, sees, and gets as exit status.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod redis_support;
mod wait;

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use atlock::clock::SystemClock;
use atlock::config::Config;
use atlock::service::Service;

const SECRET: &str = "s3cr3t-token";

fn lock(path: &str, num: i64) -> Vec<u8> {
    serde_json::to_vec(&serde_json::json!({
        "Project": {"ProjectName": "", "RepoFullName": "acme/infra", "Path": path},
        "Pull": {"Num": num, "BaseRepo": {"CloneURL": format!("https://bot:{SECRET}@example.com/acme/infra.git")}},
        "User": {"Username": "ada"}, "Workspace": "default", "Time": "2026-11-24T08:17:00Z",
    }))
    .unwrap()
}

/// A folder with a settings file and a store that holds two locks.
fn prepared() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let settings = format!("locking: {{backend: sled, data_dir: {:?}}}\n", folder.path().join("locks"));
    std::fs::write(folder.path().join("locking.yaml"), &settings).unwrap();
    let service = Service::open(&Config::parse(&settings, "test").unwrap(), None, Arc::new(SystemClock)).unwrap();
    service.try_lock(&lock("a", 1)).unwrap();
    service.try_lock(&lock("b", 2)).unwrap();
    folder
}

fn atlock(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_atlock"));
    command.arg("--config").arg(folder.join("locking.yaml")).args(args).env_clear().output().unwrap()
}

/// Its standard output, which must not show a secret, and its exit status.
fn told(folder: &Path, args: &[&str]) -> (String, i32) {
    let output = atlock(folder, args);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(args.contains(&"--json") || !text.contains(SECRET), "{text}");
    (text, output.status.code().unwrap())
}

#[test]
fn locks_are_listed_shown_and_released() {
    let folder = prepared();
    let folder = folder.path();
    let (text, status) = told(folder, &["list"]);
    assert_eq!(status, 0);
    assert_eq!(
        text,
        "KEY                    PULL  USER  SINCE\n\
         acme/infra/a/default/  #1    ada   2026-11-24T08:17:00Z\n\
         acme/infra/b/default/  #2    ada   2026-11-24T08:17:00Z\n"
    );
    assert_eq!(told(folder, &["get", "acme/infra/a/default/", "--json"]), (String::from_utf8(lock("a", 1)).unwrap() + "\n", 0));
    assert_eq!(told(folder, &["unlock", "acme/infra/a/default/"]).1, 0);
    assert_eq!(told(folder, &["unlock", "acme/infra/a/default/"]), ("no lock acme/infra/a/default/\n".to_owned(), 3));
    assert_eq!(told(folder, &["get", "acme/infra/a/default/", "--json"]), ("null\n".to_owned(), 3));
    assert_eq!(told(folder, &["unlock-pull", "acme/infra", "1"]), ("no locks\n".to_owned(), 3));
    assert_eq!(told(folder, &["unlock-pull", "acme/infra", "2"]).1, 0);
    assert_eq!(told(folder, &["list"]), ("no locks\n".to_owned(), 0));
    assert_eq!(told(folder, &["list", "--json"]), ("{\"locks\":[],\"unreadable\":[]}\n".to_owned(), 0));
    assert_eq!(told(folder, &["discard", "nothing"]).1, 3);
}

#[test]
fn what_can_be_read_is_not_discarded_by_mistake() {
    let folder = prepared();
    let folder = folder.path();
    let said = String::from_utf8(atlock(folder, &["discard", "acme/infra/a/default/"]).stderr).unwrap();
    assert!(said.contains("is a lock, and can be read: release it with `atlock unlock`, or remove it with --force"), "{said}");
    assert_eq!(told(folder, &["list"]).0.lines().count(), 3);
    assert_eq!(told(folder, &["discard", "--force", "acme/infra/a/default/"]).1, 0);
    assert_eq!(told(folder, &["list"]).0.lines().count(), 2);
}

#[test]
fn what_cannot_be_read_is_discarded() {
    let (folder, server) = (tempfile::tempdir().unwrap(), redis_support::Server::start(&[]));
    let settings = format!(
        "locking: {{enhanced: {{enabled: true, compatibility_mode: native, redis: {{address: '{}'}}}}}}",
        server.address()
    );
    std::fs::write(folder.path().join("locking.yaml"), settings).unwrap();
    redis::cmd("SET").arg("pr/acme/infra/a/default/").arg("no lock").exec(&mut server.raw()).unwrap();
    assert_eq!(told(folder.path(), &["discard", "acme/infra/a/default/"]).1, 0);
    assert_eq!(told(folder.path(), &["list"]), ("no locks\n".to_owned(), 0));
}

/// What others chose is printed without what a terminal obeys, and the global apply lock is told with the locks.
#[test]
fn a_list_is_safe_to_look_at_and_tells_the_apply_lock() {
    let folder = prepared();
    let settings = Config::load(&folder.path().join("locking.yaml")).unwrap();
    let service = Service::open(&settings, None, Arc::new(SystemClock)).unwrap();
    let hostile = String::from_utf8(lock("c", 3)).unwrap().replace("\"ada\"", "\"\\u001b]0;x\\u0007\\nforged\"");
    service.try_lock(hostile.as_bytes()).unwrap();
    service.lock_command("apply", br#"{"LockMetadata":{"UnixTime":1796000000},"CommandName":1}"#).unwrap();
    drop(service);
    let (text, _) = told(folder.path(), &["list"]);
    assert!(!text.contains(['\u{1b}', '\u{7}']) && text.lines().count() == 5, "{text:?}");
    assert!(text.starts_with("nobody applies: Atlantis's global apply lock is held since 2026-11-30T"), "{text}");
    assert!(!told(folder.path(), &["get", "acme/infra/c/default/"]).0.contains('\u{1b}'));
}

#[test]
fn version_and_status() {
    let folder = prepared();
    for version in ["version", "--version", "-V"] {
        assert_eq!(told(folder.path(), &[version]), (format!("atlock {}\n", env!("CARGO_PKG_VERSION")), 0));
    }
    let (text, status) = told(folder.path(), &["status"]);
    assert!(
        status == 0 && text.starts_with("state     healthy: The lock store decides\nmode      strict\nlocal     answered in "),
        "{text}"
    );
    let (json, _) = told(folder.path(), &["status", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["status"]["mode"], &json["health"]["state"]), (&"strict".into(), &"healthy".into()));
    let health = json["health"].as_object().unwrap().keys().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(
        (health, &json["health"]["circuit_state"]),
        (vec!["circuit_state", "headline", "legacy", "overall", "state"], &"disabled".into())
    );
    let status = json["status"].as_object().unwrap();
    assert!(!status.contains_key("conflicts") && !status.contains_key("armed"), "{json}");
    assert_eq!(status["fallback_active"], false);
}

#[test]
fn status_of_hybrid_mode_without_redis() {
    let folder = prepared();
    let settings = format!(
        "locking: {{data_dir: {:?}, enhanced: {{enabled: true, compatibility_mode: hybrid, allow_unseen_redis: true, redis: {{address: '127.0.0.1:1'}}}}}}",
        folder.path().join("locks")
    );
    std::fs::write(folder.path().join("locking.yaml"), settings).unwrap();
    let (text, status) = told(folder.path(), &["status"]);
    let lines: Vec<&str> = text.lines().collect();
    assert!(status == 0 && lines[1] == "mode      hybrid" && lines[2].starts_with("redis     does not work: "), "{text}");
    assert!(lines[3].starts_with("local     answered in ") && lines[0].starts_with("state     unhealthy: "), "{text}");
    // Nobody decides, and nothing was begun by looking.
    assert_eq!(lines[4], "armed     no: no server decides here: its stores are only looked at");
    assert_eq!(lines[5], "unsynced  2 keys that Redis does not know of yet");
    assert!(lines[6].starts_with("warning   Redis is not asked: ") && lines[6].contains("127.0.0.1:1"), "{text}");
    assert_eq!(lines.len(), 7, "{text}");
    // Scripts ask by the exit status.
    assert_eq!(told(folder.path(), &["status", "--check"]).1, 5);
    let (json, _) = told(folder.path(), &["status", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["status"]["fallback_active"], &json["status"]["conflicts"]), (&false.into(), &serde_json::json!([])));
    assert_eq!((&json["health"]["state"], &json["health"]["circuit_state"]), (&"unhealthy".into(), &"disabled".into()));
    let stderr = String::from_utf8(atlock(folder.path(), &["list"]).stderr).unwrap();
    assert_eq!(stderr, "atlock: no server runs here, and Redis does not answer: this is what the local store has\n");
}

#[test]
fn metrics_are_a_text_for_prometheus() {
    let (text, status) = told(prepared().path(), &["metrics"]);
    assert!(status == 0 && text.ends_with("\n# EOF\n"), "{text}");
    assert!(text.contains("\natlock_operations_total{operation=\"ping\",store=\"legacy\",result=\"ok\"} 1\n"), "{text}");
}

/// An operator who only looks may be another user than the server: the file would be theirs.
#[test]
fn changes_are_audited_and_looks_are_not() {
    let folder = prepared();
    let (settings, audit) = (folder.path().join("locking.yaml"), folder.path().join("audit"));
    let text = std::fs::read_to_string(&settings).unwrap();
    std::fs::write(&settings, text.replace("{backend", &format!("{{audit: {{file: {audit:?}}}, backend"))).unwrap();
    for look in [&["status"][..], &["metrics"], &["list"], &["get", "acme/infra/a/default/"]] {
        assert_eq!(told(folder.path(), look).1, 0);
    }
    assert!(!audit.exists());
    assert_eq!(told(folder.path(), &["unlock", "acme/infra/a/default/"]).1, 0);
    let line = std::fs::read_to_string(&audit).unwrap();
    assert!(line.contains(r#""kind":"release""#) && line.lines().count() == 1 && !line.contains(SECRET), "{line}");
}

#[test]
fn mistakes_are_named() {
    let folder = prepared();
    let error = |args: &[&str]| {
        let output = atlock(folder.path(), args);
        assert!(!output.status.success());
        (String::from_utf8(output.stderr).unwrap(), output.status.code().unwrap())
    };
    let settings = format!("locking: {{backend: sled, data_dir: {:?}}}", folder.path().join("locks"));
    let service = Service::open(&Config::parse(&settings, "test").unwrap(), None, Arc::new(SystemClock)).unwrap();
    for command in [&["list"][..], &["unlock", "acme/infra/a/default/"]] {
        let (text, status) = error(command);
        assert!(status == 1 && text.contains("in use by process") && text.contains("has no socket there"), "{text}");
    }
    drop(service);

    assert_eq!(error(&["unlock-pull", "acme/infra", "one"]).1, 2);
    assert_eq!(error(&["remove"]).1, 2);
    let (text, status) = error(&["discard", "acme/infra/a/default/", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&told["error"]["code"], status), (&"invalid_argument".into(), 1), "{text}");
    std::fs::write(folder.path().join("locking.yaml"), "locking: {backend: boltdb}").unwrap();
    let (text, status) = error(&["list"]);
    assert!(status == 1 && text.contains("only the server can look at the locks"), "{text}");
    std::fs::write(folder.path().join("locking.yaml"), "locking:\n  backnd: sled\n").unwrap();
    let (text, _) = error(&["list"]);
    assert!(text.contains("locking.yaml:2:3: unknown key \"backnd\"; did you mean \"backend\"?"), "{text}");
}

/// Beside a running server in hybrid mode that has the local store open and no socket, Redis is asked.
#[test]
fn beside_a_server_without_a_socket_in_hybrid_mode_it_asks_redis() {
    let (folder, redis) = (tempfile::tempdir().unwrap(), redis_support::Server::start(&[]));
    let settings = format!(
        "locking: {{backend: sled, data_dir: {:?}, enhanced: {{enabled: true, compatibility_mode: hybrid, redis: {{address: '{}'}}}}}}\n",
        folder.path().join("locks"),
        redis.address()
    );
    std::fs::write(folder.path().join("locking.yaml"), &settings).unwrap();
    let server = Service::open(&Config::parse(&settings, "test").unwrap(), None, Arc::new(SystemClock)).unwrap();
    server.try_lock(&lock("a", 1)).unwrap();
    let output = atlock(folder.path(), &["list"]);
    assert!(String::from_utf8(output.stdout).unwrap().contains("acme/infra/a/default/"));
    assert!(String::from_utf8(output.stderr).unwrap().contains("the server has the local store open"));
    assert_eq!(told(folder.path(), &["unlock", "acme/infra/a/default/"]).1, 0);
    assert_eq!(server.get_lock(br#"{"Key":"acme/infra/a/default/"}"#).unwrap(), None);
    assert!(matches!(server.try_lock(&lock("a", 2)).unwrap(), atlock::store::Granted::Yes { .. }));
    server.close().unwrap();
    assert_eq!(told(folder.path(), &["list"]).1, 0);
}

/// Settings, and the server that runs on them.
fn server(folder: &Path, settings: &str) -> Service {
    std::fs::write(folder.join("locking.yaml"), settings).unwrap();
    let config = Config::parse(settings, "test").unwrap();
    atlock::socket::listening(Service::open(&config, None, Arc::new(SystemClock)).unwrap(), &config)
}

/// Whatever the mode, the server answers and releases, and stderr has nothing to say.
#[test]
fn a_running_server_is_asked() {
    let redis = redis_support::Server::start(&[]);
    for mode in ["strict", "hybrid", "native"] {
        let folder = tempfile::tempdir().unwrap();
        let (folder, audit) = (folder.path(), folder.path().join("audit"));
        let settings = format!(
            "locking: {{backend: sled, data_dir: {:?}, audit: {{file: {audit:?}}}, enhanced: {{enabled: true, compatibility_mode: {mode}, redis: {{address: '{}'}}}}}}",
            folder.join("locks"),
            redis.address()
        );
        let server = server(folder, &settings);
        server.try_lock(&lock("a", 1)).unwrap();
        server.try_lock(&lock("b", 2)).unwrap();
        let said = |args: &[&str]| {
            let output = atlock(folder, args);
            assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "{mode} {args:?}");
            (String::from_utf8(output.stdout).unwrap(), output.status.code().unwrap())
        };
        let line = "KEY                    PULL  USER  SINCE\nacme/infra/a/default/  #1    ada   2026-11-24T08:17:00Z\n";
        let (details, status) = said(&["get", "acme/infra/a/default/"]);
        assert!(
            status == 0
                && details
                    .starts_with("key    acme/infra/a/default/\npull   #1\nuser   ada\nsince  2026-11-24T08:17:00Z\ntoken  "),
            "{details}"
        );
        assert_eq!(said(&["status", "--check"]).1, 0);
        assert_eq!(said(&["list"]).0.lines().count(), 3);
        let json: serde_json::Value = serde_json::from_str(&said(&["status", "--json"]).0).unwrap();
        assert_eq!((&json["status"]["mode"], &json["status"]["instance"]), (&mode.into(), &server.status().instance.into()));
        assert!(said(&["status"]).0.contains(&format!("\nmode      {mode}\n")));
        let granted = "\natlock_operations_total{operation=\"try_lock\"";
        assert!(said(&["metrics"]).0.contains(granted), "the server's own counters");
        assert_eq!(said(&["unlock", "acme/infra/a/default/"]), (line.to_owned(), 0));
        assert_eq!(said(&["unlock", "acme/infra/a/default/"]), ("no lock acme/infra/a/default/\n".to_owned(), 3));
        assert_eq!(said(&["unlock-pull", "acme/infra", "2"]).1, 0);
        assert_eq!(said(&["list"]), ("no locks\n".to_owned(), 0));
        let audit = std::fs::read_to_string(&audit).unwrap();
        let instance = server.status().instance;
        let released = |line: &str| line.contains("\"kind\":\"release\"") && line.contains(&instance);
        assert_eq!(audit.lines().filter(|line| released(line)).count(), 2, "{audit}");
        server.close().unwrap();
    }
}

/// A folder whose settings have a queue; pull 1 holds a lock, and 2 and 3 wait for it.
fn with_a_queue() -> (tempfile::TempDir, Service) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("locks");
    let settings = format!("locking: {{backend: sled, data_dir: {data:?}, enhanced: {{priority_queue: {{enabled: true}}}}}}");
    let service = server(folder.path(), &settings);
    service.try_lock(&lock("a", 1)).unwrap();
    for num in [2, 3] {
        let begin = format!(r#"{{"repo":"acme/infra","pull":{{"host":"","num":{num}}},"command":"plan"}}"#);
        let run = service.run_begin(&atlock::domain::json::parse_json(begin.as_bytes()).unwrap()).unwrap();
        assert!(!service.try_lock_in(run, &lock("a", num)).unwrap().acquired);
        service.run_end(run).unwrap();
    }
    (folder, service)
}

/// The same from the running server, and, once that is closed, from its store.
#[test]
fn who_waits_is_listed_explained_and_taken_out() {
    let (folder, service) = with_a_queue();
    let path = folder.path();
    let mut service = Some(service);
    for asked in ["the server", "the store"] {
        let (text, status) = told(path, &["queue"]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            status == 0 && lines.len() == 3 && lines[1].starts_with("acme/infra/a/default/  1      #2    ada   20"),
            "{asked}: {text}"
        );
        assert!(lines[2].contains("  2      #3    ada   20") && lines[2].ends_with("Z  normal"), "{asked}: {text}");
        assert_eq!(told(path, &["queue", "acme/other"]), ("nobody waits\n".to_owned(), 0));
        let json: serde_json::Value = serde_json::from_str(&told(path, &["queue", "--json"]).0).unwrap();
        assert_eq!(json["acme/infra"][1]["pull"]["num"], 3);

        let (text, status) = told(path, &["explain", "acme/infra/a/default/"]);
        assert!(status == 0 && text.starts_with("acme/infra/a/default/  held\n  holder    pull #1  ada  2026-"), "{text}");
        for wanted in
            ["\n  waits     pull #2  20", "\n  because   pull #1 has the lock", "\n  frees it  merge or close pull #1\n"]
        {
            assert!(text.contains(wanted), "{asked}: {text}");
        }
        assert!(told(path, &["explain", "acme/infra", "3"]).0.starts_with("acme/infra/a/default/  held\n"));
        assert_eq!(told(path, &["explain", "acme/infra", "4"]).1, 3);
        assert_eq!(told(path, &["explain", "acme/infra", "4", "--json"]), ("[]\n".to_owned(), 3));
        if let Some(service) = service.take() {
            service.close().unwrap();
        }
    }
    assert_eq!(
        told(path, &["leave", "acme/infra", "2", "acme/infra/b/default/"]),
        ("pull #2 waits for no such lock\n".to_owned(), 3)
    );
    assert_eq!(told(path, &["leave", "acme/infra", "2"]), ("pull #2 waits for 1 lock no more\n".to_owned(), 0));
    assert_eq!(told(path, &["leave", "acme/infra", "3", "--json"]), ("{\"left\":1}\n".to_owned(), 0));
    assert_eq!(told(path, &["queue"]), ("nobody waits\n".to_owned(), 0));
}

#[test]
fn a_grant_is_checked() {
    let (folder, service) = with_a_queue();
    let key = "acme/infra/a/default/";
    let told_token = service.lock_infos(format!("[{key:?}]").as_bytes()).unwrap();
    let token = serde_json::to_value(told_token).unwrap()[0]["token"].as_u64().unwrap();
    let check = |args: &[&str]| {
        let output = atlock(folder.path(), &[&["check"], args].concat());
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(output.stdout), text(output.stderr), output.status.code().unwrap())
    };
    assert_eq!(check(&[key, "--pull", "1"]), (format!("pull #1 holds {key}\n"), String::new(), 0));
    assert_eq!(check(&[key, "--pull", "1", "--token", &token.to_string()]).2, 0);
    let refused = |why: &str| (String::new(), format!("atlock: {why}\n"), 1);
    let by_another = format!("pull #1 does not hold {key:?}: the pull has it by another grant, of token {token}");
    assert_eq!(check(&[key, "--pull", "1", "--token", &(token + 1).to_string()]), refused(&by_another));
    assert_eq!(check(&[key, "--pull", "2"]), refused(&format!("pull #2 does not hold {key:?}: pull #1 has it")));
    let free = "acme/infra/b/default/";
    assert_eq!(check(&[free, "--pull", "1"]), refused(&format!("pull #1 does not hold {free:?}: no pull has it")));
    let (json, _, status) = check(&[key, "--pull", "2", "--json"]);
    assert!(status == 1 && json.starts_with("{\"holds\":false,"), "{json}");
    // A workflow without ATLOCK_TOKEN must not be told that any grant will do.
    assert_eq!(check(&[key, "--pull", "1", "--token", ""]).2, 2);
    assert_eq!(check(&[key, "--pull", "1", "--token", "0"]).2, 2);
    assert_eq!(check(&[key]).2, 2);
}

#[test]
fn locks_are_frozen_and_thawed() {
    let (folder, service) = with_a_queue();
    let path = folder.path();
    assert_eq!(told(path, &["freezes"]), ("no freezes\n".to_owned(), 0));
    let freeze = ["freeze", "acme/*", "--path", "prod*", "--reason", "an \u{1b}[31maudit", "--owner", "ada"];
    let (text, status) = told(path, &[&freeze[..], &["--until", "2h"]].concat());
    let id = text.split("  ").next().unwrap().to_owned();
    assert!(
        status == 0 && text.contains("  acme/*/prod*/*/*  by ada until ") && text.ends_with(": an \\u{1b}[31maudit\n"),
        "{text}"
    );
    assert_eq!(told(path, &["freezes"]), (text.clone(), 0));
    let json: serde_json::Value = serde_json::from_str(&told(path, &["freezes", "--json"]).0).unwrap();
    assert_eq!((&json[0]["id"], &json[0]["plans"]), (&id.as_str().into(), &"deny".into()));
    assert!(service.try_lock(&lock("prod/eu", 9)).unwrap_err().message().contains("is frozen by ada"));
    assert_eq!(told(path, &["thaw", &id]), (text, 0));
    assert_eq!(told(path, &["thaw", &id]), (format!("no freeze {id:?}\n"), 3));
    service.try_lock(&lock("prod/eu", 9)).unwrap();

    let (text, status) = told(path, &[&freeze[..], &["--open-ended", "--allow-plans", "--json"]].concat());
    assert!(status == 0 && text.contains("\"plans\":\"allow\"") && text.contains("\"until\":null"), "{text}");
    let past = atlock(path, &[&freeze[..], &["--until", "2020-01-01T00:00:00Z"]].concat());
    assert!(past.status.code() == Some(1) && String::from_utf8(past.stderr).unwrap().contains("over before it begins"));
    for wrong in [&[][..], &["--until", "soon"], &["--until", "2h", "--open-ended"]] {
        assert_eq!(told(path, &[&freeze[..], wrong].concat()).1, 2, "{wrong:?}");
    }
    service.close().unwrap();
    assert_eq!(told(path, &[&freeze[..], &["--until", "2h"]].concat()).1, 0);
    let (text, _) = told(path, &["explain", "acme/infra/prod/us/default/"]);
    assert!(text.starts_with("acme/infra/prod/us/default/  frozen\n") && text.contains("is frozen by ada until"), "{text}");
    let plain = prepared();
    let output = atlock(plain.path(), &["queue"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && text.contains("locking.enhanced.priority_queue.enabled"), "{text}");
}

/// A recovery, an announcement, a probe: nothing of it is begun by looking.
#[test]
fn looking_at_a_stopped_server_changes_nothing() {
    let (folder, redis) = (tempfile::tempdir().unwrap(), redis_support::Server::start(&[]));
    let data = folder.path().join("locks");
    let settings = format!(
        "locking: {{backend: sled, data_dir: {data:?}, enhanced: {{enabled: true, compatibility_mode: hybrid, redis: {{address: '{}'}}}}}}",
        redis.address()
    );
    let server = server(folder.path(), &settings);
    server.try_lock(&lock("a", 1)).unwrap();
    server.close().unwrap();
    let state = || {
        let times = |path: std::path::PathBuf| std::fs::metadata(path).unwrap().modified().unwrap();
        let files = std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path());
        let files: std::collections::BTreeMap<_, _> = files.map(|path| (path.clone(), times(path))).collect();
        let mut raw = redis.raw();
        let instances: std::collections::BTreeMap<String, String> =
            redis::cmd("HGETALL").arg("atlock:instances").query(&mut raw).unwrap();
        (files, instances)
    };
    let before = state();
    for look in [&["status"][..], &["metrics"], &["list"], &["get", "acme/infra/a/default/"]] {
        let output = atlock(folder.path(), look);
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "atlock: no server runs here: this is what Redis says\n");
        assert_eq!(output.status.code(), Some(0));
    }
    assert_eq!(state(), before);
}

#[test]
fn a_path_without_a_store_is_named_and_stays_empty() {
    let folder = tempfile::tempdir().unwrap();
    let settings = format!("locking: {{backend: sled, data_dir: {:?}}}\n", folder.path().join("locks"));
    std::fs::write(folder.path().join("locking.yaml"), settings).unwrap();
    let output = atlock(folder.path(), &["list"]);
    assert!(String::from_utf8(output.stderr).unwrap().contains("there is no store in"));
    assert!(output.status.code() == Some(1) && !folder.path().join("locks").exists());
}

/// Somebody who may read the settings, and not the server's folder.
#[test]
fn an_ordinary_user_is_told_whom_to_be() {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::CommandExt as _;
    let folder = tempfile::tempdir().unwrap();
    let settings = format!("locking: {{backend: sled, data_dir: {:?}}}\n", folder.path().join("locks"));
    let (program, config) = (folder.path().join("atlock"), folder.path().join("locking.yaml"));
    std::fs::copy(env!("CARGO_BIN_EXE_atlock"), &program).unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let server = server(folder.path(), &settings);
    let nobody = |command: &str| {
        let mut atlock = Command::new(&program);
        let atlock = atlock.arg("--config").arg(&config).arg(command).env_clear().current_dir("/");
        let output = atlock.uid(65534).gid(65534).output().expect("this test runs programs as another user: run it as root");
        (String::from_utf8(output.stderr).unwrap(), output.status.code())
    };
    let (text, status) = nobody("list");
    assert!(status == Some(1) && text.contains("this user may not ask the server by its socket"), "{text}");
    assert!(text.contains("run the command as the user that the server runs as"), "{text}");
    // In a folder that others may enter, the socket is the server's user's all the same.
    std::fs::set_permissions(folder.path().join("locks"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let (text, status) = nobody("list");
    assert!(status == Some(1) && text.contains("this user may not ask the server by its socket"), "{text}");
    server.close().unwrap();
    let (text, status) = nobody("list");
    assert!(status == Some(1) && text.contains("cannot be read: Permission denied"), "{text}");
}

/// A script must not take a part for the whole.
#[test]
fn a_list_and_a_release_that_are_not_whole_fail() {
    use std::io::{BufRead as _, Write as _};
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("locks");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(folder.path().join("locking.yaml"), format!("locking: {{backend: sled, data_dir: {data:?}}}")).unwrap();
    let listener = std::os::unix::net::UnixListener::bind(data.join(atlock::socket::FILE)).unwrap();
    let asked = [(&["list"][..], 1), (&["list", "--json"], 1), (&["unlock-pull", "acme/infra", "1"], 1), (&["list"], 0)];
    std::thread::scope(|scope| {
        // A server whose Redis fails on the way.
        scope.spawn(|| {
            for (_, locks) in &asked {
                let (mut stream, _) = listener.accept().unwrap();
                stream.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
                stream.write_all(b"{\"protocol\":1,\"version\":\"x\",\"pid\":1}\n").unwrap();
                std::io::BufReader::new(&stream).read_line(&mut String::new()).unwrap();
                let listed = if *locks > 0 { String::from_utf8(lock("a", 1)).unwrap() } else { String::new() };
                let answer = format!("{{\"ok\":{{\"locks\":[{listed}],\"unreadable\":[],\"incomplete\":\"Redis is away\"}}}}\n");
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        for (args, locks) in &asked {
            let output = atlock(folder.path(), args);
            let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
            let what = if args[0] == "list" { "there may be more locks" } else { "the pull may still hold locks" };
            assert_eq!((err, output.status.code()), (format!("atlock: {what}: Redis is away\n"), Some(1)), "{args:?}");
            assert_eq!(out.contains("acme/infra/a/default/") || out.contains("\"Path\":\"a\""), *locks > 0, "{args:?}: {out}");
            assert!(!out.contains("no locks"), "{out}");
        }
    });
}

#[test]
fn an_output_that_nobody_reads_is_no_error_and_a_full_disk_is() {
    let folder = prepared();
    let run = |to: std::process::Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_atlock"));
        let command = command.arg("--config").arg(folder.path().join("locking.yaml")).arg("list").env_clear();
        command.stdout(to).stderr(std::process::Stdio::piped()).output().unwrap()
    };
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = run(writer.into());
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
    let output = run(std::fs::File::options().write(true).open("/dev/full").unwrap().into());
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("its output cannot be written: No space left"));
}
