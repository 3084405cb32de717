//! The socket of a running server: what programs hear by it, and what they cannot do to the server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod redis_support;
mod sled_support;
mod wait;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use atlock::clock::SystemClock;
use atlock::config::Config;
use atlock::error::{Code, Error};
use atlock::service::Service;
use atlock::socket::{Client, FILE, OPERATIONS, SocketOperation};
use atlock::store::Granted;
use serde_json::{Value, json};
use sled_support::{child, role};

/// How many programs are answered at once.
const MOST_CONNECTIONS: usize = 16;

fn lock(path: &str, num: i64) -> Vec<u8> {
    let lock = json!({
        "Project": {"ProjectName": "", "RepoFullName": "acme/infra", "Path": path},
        "Pull": {"Num": num}, "User": {"Username": "ada"}, "Workspace": "default", "Time": "2026-11-24T08:17:00Z",
    });
    serde_json::to_vec(&lock).unwrap()
}

fn open(settings: &str) -> Service {
    let config = Config::parse(settings, "test").unwrap();
    atlock::socket::listening(Service::open(&config, None, Arc::new(SystemClock)).unwrap(), &config)
}

/// A server on the embedded store in this folder.
fn server(folder: &Path) -> Service {
    open(&format!("locking: {{backend: sled, data_dir: {folder:?}, audit: {{file: {:?}}}}}", folder.with_file_name("audit")))
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("locks");
    (folder, data)
}

fn ask(client: &mut Client, operation: &str, input: &Value) -> Result<Value, Error> {
    let answer = client.ask(SocketOperation::named(operation).unwrap(), input.to_string().as_bytes())?;
    Ok(serde_json::from_slice(&answer).unwrap())
}

fn client(folder: &Path) -> Client {
    Client::connect(folder).unwrap().expect("a server listens")
}

/// A connection without a client, and its first line.
fn raw(folder: &Path) -> (UnixStream, String) {
    let stream = UnixStream::connect(folder.join(FILE)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).unwrap();
    (stream, line)
}

/// Everything up to the end of the connection.
fn rest(mut stream: UnixStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn each_operation_answers_what_the_library_does() {
    let (_folder, data) = folder();
    let service = server(&data);
    for (path, num) in [("a", 1), ("b", 2), ("c", 2), ("d", 3)] {
        service.try_lock(&lock(path, num)).unwrap();
    }
    let mut client = client(&data);
    assert_eq!(client.server_version(), env!("CARGO_PKG_VERSION"));
    let of = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
    let key = |path: &str| json!({"Key": format!("acme/infra/{path}/default/")});

    assert_eq!(ask(&mut client, "list", &json!(null)).unwrap(), of(&service.list().unwrap().into_json().0));
    assert_eq!(ask(&mut client, "get", &key("a")).unwrap(), of(&lock("a", 1)));
    assert_eq!(
        ask(&mut client, "get", &json!({"Project": {"RepoFullName": "acme/infra", "Path": "a"}, "Workspace": "default"}))
            .unwrap(),
        of(&lock("a", 1))
    );
    assert_eq!(ask(&mut client, "get", &key("none")).unwrap(), json!(null));
    assert_eq!(ask(&mut client, "command_lock", &json!("apply")).unwrap(), json!(null));
    assert!(ask(&mut client, "lock_info", &json!(["acme/infra/a/default/"])).unwrap()[0]["token"].as_u64() > Some(0));
    assert_eq!(ask(&mut client, "status", &json!(null)).unwrap()["instance"], service.status().instance);
    assert_eq!(ask(&mut client, "health", &json!(null)).unwrap()["state"], "healthy");
    assert!(ask(&mut client, "metrics", &json!(null)).unwrap().as_str().unwrap().ends_with("# EOF\n"));
    assert_eq!(ask(&mut client, "version", &json!(null)).unwrap(), json!({"version": env!("CARGO_PKG_VERSION")}));
    assert_eq!(ask(&mut client, "unlock", &key("a")).unwrap(), of(&lock("a", 1)));
    assert_eq!(ask(&mut client, "unlock", &key("a")).unwrap(), json!(null));
    let released = ask(&mut client, "unlock_by_pull", &json!({"RepoFullName": "acme/infra", "PullNum": 2})).unwrap();
    assert_eq!(released["locks"], json!([of(&lock("b", 2)), of(&lock("c", 2))]));
    assert_eq!(ask(&mut client, "discard", &key("d")).unwrap(), of(&lock("d", 3)));
    assert!(service.list().unwrap().is_empty());
    about_waiting(&mut client);
    assert_eq!(OPERATIONS.len(), 19, "a new operation has a line above, or in about_waiting");

    // The same trail as of any other release.
    let audit = fs::read_to_string(data.with_file_name("audit")).unwrap();
    let kinds: Vec<String> =
        audit.lines().skip(4).map(|line| of(line.as_bytes())["operation"].as_str().unwrap().to_owned()).collect();
    assert_eq!(kinds, ["unlock", "unlock_by_pull", "unlock_by_pull", "discard"]);
    // But for who asked.
    let by = |line: &str| of(line.as_bytes())["by"].clone();
    let uid = fs::metadata("/proc/self").unwrap().uid();
    let is_ours = |line: &str| {
        let by = by(line);
        by["pid"] == std::process::id() && by["uid"] == uid && of(line.as_bytes())["via"] == "command_line"
    };
    assert!(audit.lines().take(4).all(|line| by(line).is_null()) && audit.lines().skip(4).all(is_ours), "{audit}");

    let error = ask(&mut client, "get", &json!({"Kee": 1})).unwrap_err();
    assert!(error.code() == Code::InvalidJson && error.message().starts_with("a lock is named by"), "{error}");
    let error = ask(&mut client, "unlock_by_pull", &json!({"RepoFullName": "a/b"})).unwrap_err();
    assert!(error.code() == Code::InvalidJson && error.message().contains("PullNum"), "{error}");
    assert_eq!(ask(&mut client, "list", &json!(null)).unwrap()["locks"], json!([]), "an error ends no connection");
}

/// Without a queue in the settings, those that need one say so, and the others answer.
fn about_waiting(client: &mut Client) {
    let pull = json!({"host": "", "num": 1});
    for (name, input) in [
        ("queues", json!(null)),
        ("freezes", json!(null)),
        ("deadlocks", json!(null)),
        ("leave", json!({"repo": "acme/infra", "pull": pull})),
        ("freeze", json!({"pattern": {"repo": "a/b"}, "reason": "r", "owner": "o", "open_ended": true})),
        ("thaw", json!("1")),
    ] {
        let error = ask(client, name, &input).unwrap_err();
        assert!(error.code() == Code::QueueDisabled && error.message().contains("priority_queue.enabled"), "{name}: {error}");
    }
    let key = "acme/infra/a/default/";
    assert_eq!(ask(client, "explain", &json!({ "key": key })).unwrap()[0]["state"], "free");
    let asked = json!({"repo": "acme/infra", "key": key, "pull": pull, "token": 0});
    assert_eq!(ask(client, "check", &asked).unwrap(), json!({"holds": false}));
}

/// An error of an operation names who asked, too; and another process is not taken for the server's.
#[test]
fn the_trail_names_the_process_that_asked() {
    if let Some((_, data)) = role() {
        println!("\nasked by {}", std::process::id());
        ask(&mut client(&data), "unlock", &json!({"Key": "acme/infra/a/default/"})).unwrap();
        return;
    }
    let (_folder, data) = folder();
    let service = server(&data);
    service.try_lock(&lock("a", 1)).unwrap();
    let output = child("the_trail_names_the_process_that_asked", "client", &data).output().unwrap();
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    let pid: u32 = said.lines().find_map(|line| line.strip_prefix("asked by ")).unwrap().parse().unwrap();
    let audit = fs::read_to_string(data.with_file_name("audit")).unwrap();
    let last: Value = serde_json::from_str(audit.lines().last().unwrap()).unwrap();
    assert_eq!((&last["kind"], &last["by"]["pid"]), (&"release".into(), &pid.into()));
    // What the server does itself has nobody beside it, also afterwards.
    service.try_lock(&lock("a", 1)).unwrap();
    assert!(!fs::read_to_string(data.with_file_name("audit")).unwrap().lines().last().unwrap().contains("\"by\""));
}

#[test]
fn the_settings_say_what_programs_may_ask() {
    let (_folder, data) = folder();
    let queue = "enhanced: {priority_queue: {enabled: true}, deadlock_detection: {enabled: true}}";
    let with = |socket: &str| open(&format!("locking: {{backend: sled, data_dir: {data:?}, socket: {socket}, {queue}}}"));
    let service = with("read");
    service.try_lock(&lock("a", 1)).unwrap();
    let mut asking = client(&data);
    let key = json!({"Key": "acme/infra/a/default/"});
    for operation in OPERATIONS {
        let input = match operation.name {
            "lock_info" => json!(["acme/infra/a/default/"]),
            "command_lock" => json!("apply"),
            "unlock_by_pull" => json!({"RepoFullName": "acme/infra", "PullNum": 1}),
            "queues" | "freezes" | "deadlocks" => json!(null),
            "explain" => json!({"key": "acme/infra/a/default/"}),
            "check" => json!({"repo": "acme/infra", "key": "acme/infra/a/default/", "pull": {"host": "", "num": 1}}),
            _ => key.clone(),
        };
        let answer = ask(&mut asking, operation.name, &input);
        match operation.changes {
            false => drop(answer.unwrap()),
            true => {
                let error = answer.unwrap_err();
                assert!(error.code() == Code::Permission && error.message().contains("locking.socket is read"), "{error}");
            }
        }
    }
    assert_eq!(service.list().unwrap().len(), 1, "nothing was released");
    assert_eq!(OPERATIONS.iter().filter(|operation| operation.changes).count(), 6);
    service.close().unwrap();
    let service = with("off");
    assert!(!data.join(FILE).exists() && Client::connect(&data).unwrap().is_none());
    assert_eq!(service.status().warnings, [""; 0], "it was wanted so");
    service.close().unwrap();
    let service = with("all");
    assert_eq!(ask(&mut client(&data), "unlock", &key).unwrap()["Pull"]["Num"], 1);
    service.close().unwrap();
}

#[test]
fn it_is_its_owners_and_goes_with_the_server() {
    let (_folder, data) = folder();
    let service = server(&data);
    let found = fs::symlink_metadata(data.join(FILE)).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
    assert_eq!(service.status().warnings, [""; 0]);
    let (idle, _) = raw(&data);
    let start = Instant::now();
    service.close().unwrap();
    assert!(start.elapsed() < Duration::from_secs(4), "a client that says nothing is not waited for");
    assert!(!data.join(FILE).exists());
    assert_eq!(rest(idle), "");
    assert!(Client::connect(&data).unwrap().is_none());
    // Dropped without being closed, the same.
    drop(server(&data));
    assert!(!data.join(FILE).exists());
    server(&data).close().unwrap();
}

#[test]
fn a_socket_that_was_removed_is_a_warning() {
    let (_folder, data) = folder();
    let service = server(&data);
    fs::remove_file(data.join(FILE)).unwrap();
    let warnings = service.status().warnings;
    assert!(warnings.len() == 1 && warnings[0].contains("was removed or replaced; a restart makes it again"), "{warnings:?}");
    fs::write(data.join(FILE), "of somebody else").unwrap();
    service.close().unwrap();
    assert_eq!(fs::read_to_string(data.join(FILE)).unwrap(), "of somebody else");
    // What is no socket stays, and the store opens all the same.
    let service = server(&data);
    assert!(service.status().warnings[0].contains("atlock.sock is no socket: move that file away"), "{:?}", service.status());
    service.try_lock(&lock("a", 1)).unwrap();
    assert_eq!(fs::read_to_string(data.join(FILE)).unwrap(), "of somebody else");
}

#[test]
fn the_next_server_replaces_what_a_killed_one_left() {
    if let Some((_, data)) = role() {
        let service = server(&data);
        service.try_lock(&lock("a", 1)).unwrap();
        println!("\nlistens");
        loop {
            std::thread::sleep(Duration::from_secs(60));
        }
    }
    let (_folder, data) = folder();
    for _ in 0..3 {
        let mut killed =
            child("the_next_server_replaces_what_a_killed_one_left", "server", &data).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(killed.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "listens"));
        assert_eq!(ask(&mut client(&data), "list", &json!(null)).unwrap()["locks"].as_array().unwrap().len(), 1);
        killed.kill().unwrap();
        killed.wait().unwrap();
        assert!(data.join(FILE).exists());
        assert!(Client::connect(&data).unwrap().is_none(), "nobody listens");
    }
    let service = server(&data);
    assert_eq!(service.status().warnings, [""; 0]);
    assert_eq!(ask(&mut client(&data), "list", &json!(null)).unwrap()["locks"].as_array().unwrap().len(), 1);
}

#[test]
fn a_path_that_is_too_long_is_a_warning_and_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("l".repeat(200));
    let service = server(&data);
    service.try_lock(&lock("a", 1)).unwrap();
    let warnings = service.status().warnings;
    assert!(
        warnings.len() == 1 && warnings[0].contains("a unix socket's has at most 107: give locking.data_dir a shorter path"),
        "{warnings:?}"
    );
    assert!(service.metrics().contains("\natlock_warnings 1\n"));
    assert!(Client::connect(&data).unwrap().is_none());
    // The longest that fits.
    let name = "l".repeat(107 - folder.path().as_os_str().len() - 2 - FILE.len());
    let service = server(&folder.path().join(&name));
    assert_eq!(service.status().warnings, [""; 0]);
    assert!(Client::connect(&folder.path().join(&name)).unwrap().is_some());
}

/// Native mode keeps no store open in its folder.
#[test]
fn a_second_server_of_a_folder_takes_nothing_from_the_first() {
    let (redis, (_folder, data)) = (redis_support::Server::start(&[]), folder());
    let settings = format!(
        "locking: {{data_dir: {data:?}, enhanced: {{enabled: true, compatibility_mode: native, redis: {{address: '{}'}}}}}}",
        redis.address()
    );
    let ours = |service: &Service| {
        let found = ask(&mut client(&data), "status", &json!(null)).unwrap();
        assert_eq!(found["instance"], service.status().instance);
    };
    let first = open(&settings);
    let second = open(&settings);
    let warns = |service: &Service| service.status().warnings.iter().any(|warning| warning.contains("another server listens at"));
    assert!(!warns(&first) && warns(&second));
    ours(&first);
    second.close().unwrap();
    ours(&first);
    first.close().unwrap();
    let third = open(&settings);
    assert!(!warns(&third));
    ours(&third);
}

#[test]
fn who_says_nothing_or_garbage_costs_only_their_connection() {
    let (_folder, data) = folder();
    let service = server(&data);
    let silent: Vec<_> = (0..MOST_CONNECTIONS).map(|_| raw(&data)).collect();
    assert!(silent.iter().all(|(_, line)| line.starts_with(r#"{"protocol":1,"version":""#)), "{silent:?}");
    let (one_more, line) = raw(&data);
    assert!(
        line.starts_with(r#"{"error":{"code":7,"name":"store_busy","message":"the server answers 16 programs at once"#),
        "{line}"
    );
    assert_eq!(rest(one_more), "");
    // The server itself does not notice, and a client waits until the silent ones are sent away.
    assert!(matches!(service.try_lock(&lock("a", 1)).unwrap(), Granted::Yes { .. }));
    assert_eq!(ask(&mut client(&data), "list", &json!(null)).unwrap()["locks"].as_array().unwrap().len(), 1);
    silent.into_iter().for_each(|(stream, _)| assert_eq!(rest(stream), ""));

    let errors = [
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), "invalid_json"),
        ("\n".to_owned(), "invalid_json"),
        ("{\"op\":\"list\",\"extra\":1}\n".to_owned(), "invalid_json"),
        ("\u{0}\u{1}{\n".to_owned(), "invalid_json"),
        (format!("{}\n", "x".repeat(2 << 20)), "too_large"),
        ("x".repeat(2 << 20), "too_large"),
    ];
    for (garbage, name) in errors {
        let (mut stream, _) = raw(&data);
        // The rest is not read.
        let _ = stream.write_all(garbage.as_bytes());
        let mut line = String::new();
        // Where it was still writing, the end of the connection may overtake the answer.
        if BufReader::new(&stream).read_line(&mut line).is_ok() && !line.is_empty() {
            let error: Value = serde_json::from_str(&line).unwrap();
            assert_eq!(error["error"]["name"], name, "{line}");
        } else {
            assert_eq!(name, "too_large");
        }
    }
    let (mut stream, _) = raw(&data);
    stream.write_all(b"{\"op\":\"lock\"}\n{\"op\":\"version\"}\n").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let text = rest(stream);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() == 2 && lines[0].contains("\"name\":\"unsupported\"") && lines[0].contains("unlock_by_pull"), "{text}");
    assert!(lines[1].starts_with("{\"ok\":{\"version\""), "{text}");
    service.close().unwrap();
}

#[test]
fn two_hundred_programs_at_once_are_all_answered() {
    let (_folder, data) = folder();
    let service = server(&data);
    service.try_lock(&lock("a", 1)).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..200 {
            scope.spawn(|| {
                let locks = ask(&mut client(&data), "list", &json!(null)).unwrap();
                assert_eq!(locks["locks"].as_array().unwrap().len(), 1);
            });
        }
    });
    service.close().unwrap();
}

/// The host may be a program in which a signal that nobody asked for is the end.
#[test]
fn a_client_that_goes_before_its_answer_kills_no_server() {
    if let Some((_, data)) = role() {
        redis_support::die_of_broken_pipes();
        let service = server(&data);
        for number in 0..2000 {
            service.try_lock(&lock(&format!("{number}-{}", "x".repeat(500)), 1)).unwrap();
        }
        // No more than are answered at once: another one is sent away before its request.
        for _ in 0..MOST_CONNECTIONS {
            let (mut stream, _) = raw(&data);
            stream.write_all(b"{\"op\":\"list\"}\n").unwrap();
        }
        let closed = service.close();
        println!("\nclosed: {}", closed.is_ok());
        return;
    }
    let (_folder, data) = folder();
    let output = child("a_client_that_goes_before_its_answer_kills_no_server", "server", &data).output().unwrap();
    assert!(
        output.status.success() && String::from_utf8_lossy(&output.stdout).contains("\nclosed: true\n"),
        "{:?}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn closing_waits_for_nobody_who_does_not_read() {
    let (_folder, data) = folder();
    let service = server(&data);
    for number in 0..2000 {
        service.try_lock(&lock(&format!("{number}-{}", "x".repeat(500)), 1)).unwrap();
    }
    let (mut stream, _) = raw(&data);
    stream.write_all(b"{\"op\":\"list\"}\n").unwrap();
    // The beginning of the answer, of which the system holds a part.
    stream.read_exact(&mut [0; 100]).unwrap();
    let start = Instant::now();
    service.close().unwrap();
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    let text = rest(stream);
    assert!(!text.is_empty() && !text.ends_with('\n'), "the answer was cut off");
}

#[test]
fn a_server_of_another_kind_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let says = |line: &'static str| {
        let _ = fs::remove_file(folder.path().join(FILE));
        let listener = UnixListener::bind(folder.path().join(FILE)).unwrap();
        let thread = std::thread::spawn(move || listener.accept().unwrap().0.write_all(line.as_bytes()).unwrap());
        let error = Client::connect(folder.path()).unwrap_err();
        thread.join().unwrap();
        error
    };
    let error = says("{\"protocol\":2,\"version\":\"9.1.0\",\"pid\":1}\n");
    assert!(
        error.code() == Code::Unsupported && error.message().contains("the server (atlock 9.1.0) speaks version 2"),
        "{error}"
    );
    let error = says("220 mail.example.com\n");
    assert!(error.code() == Code::Protocol && error.message().contains("does not speak as an atlock server does"), "{error}");
    let error = says("");
    assert!(error.code() == Code::Timeout && error.message().contains("it closed the connection"), "{error}");
}

/// As one that was stopped: the system still takes connections for it.
#[test]
fn a_server_that_hangs_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join(FILE)).unwrap();
    let start = Instant::now();
    let error = Client::connect(folder.path()).unwrap_err();
    assert!(error.code() == Code::Timeout && error.message().contains("if its process hangs or was stopped"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(20));
    drop(listener);
}
