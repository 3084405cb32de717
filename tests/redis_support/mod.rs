//! What the tests of the Redis store share: private servers, clusters, a faulty network, and short ways to say things.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, unsafe_code, dead_code)]

pub mod proxy;
pub mod sentinel;

use std::ffi::OsString;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use atlock::call::{Call, Calls};
use atlock::clock::{Clock, SystemClock};
use atlock::config;
use atlock::domain::key::Fields;
use atlock::domain::lock::ProjectLock;
use atlock::domain::token::FencingToken;
use atlock::error::Result;
use atlock::store::redis::RedisStore;
use atlock::store::{Grant, Granted, LockKey, Release, Store};

use crate::wait::{wait_for, wait_until};

/// A private redis-server on a free port of 127.0.0.1. Dropping it kills it.
pub struct Server {
    pub port: u16,
    pub folder: tempfile::TempDir,
    args: Vec<String>,
    process: Child,
}

impl Server {
    /// Starts a server without persistence; `args` come last.
    pub fn start(args: &[&str]) -> Server {
        Server::start_at(free_port(), args)
    }

    /// The same on this port.
    pub fn start_at(port: u16, args: &[&str]) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let process = spawn(folder.path(), port, &args);
        let server = Server { port, folder, args, process };
        server.wait_until_up();
        server
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A plain connection, for looking and meddling.
    pub fn raw(&self) -> redis::Connection {
        redis::Client::open(format!("redis://{}", self.address())).unwrap().get_connection().unwrap()
    }

    /// Stops the process without killing it.
    pub fn pause(&self) {
        self.signal(libc::SIGSTOP);
    }

    pub fn resume(&self) {
        self.signal(libc::SIGCONT);
    }

    /// Kills the server.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts a server that was killed, on the same port and files.
    pub fn start_again(&mut self) {
        self.process = spawn(self.folder.path(), self.port, &self.args);
        self.wait_until_up();
    }

    /// Kills the server and starts it again, on the same port and files.
    pub fn restart(&mut self) {
        self.kill();
        self.start_again();
    }

    fn signal(&self, signal: i32) {
        // SAFETY: the process is our child and was not waited for.
        assert_eq!(unsafe { libc::kill(i32::try_from(self.process.id()).unwrap(), signal) }, 0);
    }

    fn wait_until_up(&self) {
        let is_up = || std::net::TcpStream::connect(("127.0.0.1", self.port));
        wait_for(&format!("redis-server on port {} is up", self.port), Duration::from_secs(20), is_up);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(folder: &Path, port: u16, args: &[String]) -> Child {
    let mut command = Command::new(program());
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"]).arg(folder);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
    die_with_the_test(&mut command)
        .spawn()
        .expect("redis-server is needed: run scripts/prepare, or install Debian's redis-server")
}

/// The server that is tried: Redis as it is installed here, or another release (`make test-redis-releases`).
pub fn program() -> OsString {
    std::env::var_os("ATLOCK_REDIS_SERVER").unwrap_or_else(|| "redis-server".into())
}

/// The process that this starts dies with this test, however that ends.
pub fn die_with_the_test(command: &mut Command) -> &mut Command {
    // SAFETY: prctl is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        })
    }
}

/// From now on this process dies where it writes to who has gone, as a C program does. (Rust ignores that signal.)
pub fn die_of_broken_pipes() {
    // SAFETY: no handler of ours is set.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

pub fn free_port() -> u16 {
    // A cluster node's bus listens 10,000 above.
    loop {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        if port < 55_000 && TcpListener::bind(("127.0.0.1", port + 10_000)).is_ok() {
            return port;
        }
    }
}

/// A Redis Cluster of three masters, each with `replicas` replicas.
pub struct Cluster {
    pub nodes: Vec<Server>,
}

impl Cluster {
    pub fn start(replicas: usize) -> Cluster {
        let args = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--repl-diskless-sync-delay", "0"];
        let nodes: Vec<Server> = (0..3 * (1 + replicas)).map(|_| Server::start(&args)).collect();
        let mut create = Command::new("redis-cli");
        create.args(["--cluster", "create"]).args(nodes.iter().map(Server::address));
        create.args(["--cluster-replicas", &replicas.to_string(), "--cluster-yes"]);
        let output = create.output().expect("redis-cli is needed: run scripts/prepare, or install Debian's redis-tools");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        let cluster = Cluster { nodes };
        wait_until("the cluster has formed", Duration::from_secs(30), || {
            cluster.nodes.iter().all(|node| cluster_is_ok(node, replicas))
        });
        cluster
    }

    pub fn settings(&self) -> config::Redis {
        config::Redis {
            cluster_mode: true,
            addresses: self.nodes.iter().map(Server::address).collect(),
            ..config::Redis::default()
        }
    }

    /// A further master joins, and gets slots with what is in them.
    pub fn grow(&self) -> Server {
        let new = Server::start(&["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"]);
        let first = self.nodes[0].address();
        redis_cli_cluster(&["add-node", &new.address(), &first]);
        wait_until("all know the new node", Duration::from_secs(30), || {
            self.nodes.iter().chain([&new]).all(|node| {
                let info: String = redis::cmd("CLUSTER").arg("INFO").query(&mut node.raw()).unwrap();
                info.contains(&format!("cluster_known_nodes:{}", self.nodes.len() + 1)) && info.contains("cluster_state:ok")
            })
        });
        redis_cli_cluster(&["rebalance", &first, "--cluster-use-empty-masters"]);
        new
    }

    pub fn flush(&self) {
        for node in &self.nodes {
            // Replicas refuse.
            let _ = redis::cmd("FLUSHALL").query::<()>(&mut node.raw());
        }
    }
}

fn redis_cli_cluster(args: &[&str]) {
    let output = Command::new("redis-cli").arg("--cluster").args(args).output().expect("redis-cli is needed");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stdout));
}

fn cluster_is_ok(node: &Server, replicas: usize) -> bool {
    let mut raw = node.raw();
    let info: String = redis::cmd("CLUSTER").arg("INFO").query(&mut raw).unwrap();
    let replication: String = redis::cmd("INFO").arg("replication").query(&mut raw).unwrap();
    let synced = replication.contains("master_link_status:up") || replication.contains(&format!("connected_slaves:{replicas}"));
    info.contains("cluster_state:ok") && info.contains(&format!("cluster_known_nodes:{}", 3 * (1 + replicas))) && synced
}

/// Settings for one server, without stock Atlantis beside it.
pub fn settings(address: &str) -> config::Redis {
    config::Redis { address: address.to_owned(), shared_with_stock: false, ..config::Redis::default() }
}

pub fn open(settings: &config::Redis) -> Result<RedisStore> {
    RedisStore::open(settings, "test-instance")
}

pub fn system_clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

pub fn call() -> Call {
    call_within(Duration::from_secs(10))
}

pub fn call_within(timeout: Duration) -> Call {
    static CALLS: OnceLock<Calls> = OnceLock::new();
    CALLS.get_or_init(|| Calls::new(system_clock()).unwrap()).within(timeout)
}

/// A lock's JSON as Atlantis writes it.
pub fn lock_json(fields: Fields<'_>, num: i64) -> Vec<u8> {
    serde_json::to_vec(&serde_json::json!({
        "Project": {"ProjectName": fields.project, "RepoFullName": fields.repo, "Path": fields.path},
        "Pull": {"Num": num, "Body": "x".repeat(600)}, "User": {"Username": "u"}, "Workspace": fields.workspace,
        "Time": "2026-11-24T08:17:00.123456789+01:00", "Later": {"version": [null]},
    }))
    .unwrap()
}

/// The lock of a path in acme/infra.
pub fn fields(path: &str) -> Fields<'_> {
    Fields { repo: "acme/infra", path, workspace: "default", project: "" }
}

pub fn grant_within(store: &dyn Store, fields: Fields<'_>, num: i64, timeout: Duration) -> Result<Granted> {
    let value = lock_json(fields, num);
    let lock = ProjectLock::parse(&value).ok();
    store.grant(
        &Grant { key: LockKey::Project(&fields.key()), lock: lock.as_ref(), value: &value, in_order: false },
        &call_within(timeout),
    )
}

pub fn grant(store: &dyn Store, fields: Fields<'_>, num: i64) -> Result<Granted> {
    grant_within(store, fields, num, Duration::from_secs(10))
}

/// Takes a lock that must be free.
pub fn take(store: &dyn Store, fields: Fields<'_>, num: i64) -> FencingToken {
    match grant(store, fields, num).unwrap() {
        Granted::Yes { token, .. } => token,
        other => panic!("{} is not free: {other:?}", fields.key()),
    }
}

pub fn release_within(store: &dyn Store, fields: Fields<'_>, timeout: Duration) -> Result<Option<Vec<u8>>> {
    let key = fields.key();
    store.release(&Release { key: LockKey::Project(&key), fields: None, pull_num: None, value: None }, &call_within(timeout))
}

pub fn release(store: &dyn Store, fields: Fields<'_>) -> Result<Option<Vec<u8>>> {
    release_within(store, fields, Duration::from_secs(10))
}

pub fn get(store: &dyn Store, fields: Fields<'_>) -> Option<Vec<u8>> {
    store.get(LockKey::Project(&fields.key()), &call()).unwrap()
}

/// Certificates in a folder: an authority, a server's for 127.0.0.1, a client's, and a foreign authority.
pub fn certificates(folder: &Path) {
    let script = r#"
        set -e
        for ca in ca other; do openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=$ca -keyout $ca.key -out $ca.pem; done
        for name in server client; do
            openssl req -newkey rsa:2048 -nodes -subj /CN=$name -keyout $name.key -out $name.csr
            printf 'subjectAltName=IP:127.0.0.1' > $name.ext
            openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile $name.ext -out $name.pem
        done"#;
    let output = Command::new("sh").args(["-c", script]).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
}

pub fn path(folder: &Path, name: &str) -> Option<PathBuf> {
    Some(folder.join(name))
}
