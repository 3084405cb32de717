//! A master with a replica and the Sentinels that watch both; and Sentinels that say what a test wants.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use atlock::config;

use super::{Server, die_with_the_test, free_port, program};
use crate::wait::{wait_for, wait_until};

pub const MASTER: &str = "locks";

/// A Sentinel process. Dropping it kills it.
pub struct Sentinel {
    pub port: u16,
    process: Child,
    _folder: tempfile::TempDir,
}

impl Sentinel {
    /// It watches this master. `more`: lines of its settings. `port`: where it is asked.
    fn start(master: u16, quorum: usize, more: &str, port: u16) -> Sentinel {
        let folder = tempfile::tempdir().unwrap();
        let settings = folder.path().join("sentinel.conf");
        let listens = if more.contains("tls-port") { String::new() } else { format!("port {port}\n") };
        let text = format!(
            "{listens}bind 127.0.0.1\ndir {}\nsentinel monitor {MASTER} 127.0.0.1 {master} {quorum}\n\
             sentinel down-after-milliseconds {MASTER} 500\nsentinel failover-timeout {MASTER} 2000\n{}\n",
            folder.path().display(),
            more.replace("PORT", &port.to_string()),
        );
        fs::write(&settings, text).unwrap();
        let mut command = Command::new(program());
        command.arg(&settings).arg("--sentinel").stdin(Stdio::null()).stdout(Stdio::null());
        let process = die_with_the_test(&mut command).spawn().expect("redis-server is needed");
        let sentinel = Sentinel { port, process, _folder: folder };
        wait_for("the Sentinel is up", Duration::from_secs(20), || TcpStream::connect(("127.0.0.1", port)));
        sentinel
    }

    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn knows(&self, more_sentinels: usize) -> Result<(), String> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port)).unwrap();
        let mut raw = client.get_connection().map_err(|e| e.to_string())?;
        let told: std::collections::HashMap<String, String> =
            redis::cmd("SENTINEL").arg("MASTER").arg(MASTER).query(&mut raw).map_err(|e| e.to_string())?;
        let is = |name: &str, wanted: usize| told.get(name).and_then(|text| text.parse().ok()) == Some(wanted);
        let is_ready = is("num-slaves", 1) && is("num-other-sentinels", more_sentinels) && told["flags"] == "master";
        if is_ready { Ok(()) } else { Err(format!("{told:?}")) }
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A master, its replica, and three Sentinels that know each other.
pub struct Watched {
    pub master: Server,
    pub replica: Server,
    pub sentinels: Vec<Sentinel>,
}

impl Watched {
    /// `args` are both servers'.
    pub fn start(args: &[&str]) -> Watched {
        let (master, replica) = pair(args);
        let sentinels: Vec<_> = (0..3).map(|_| Sentinel::start(master.port, 2, "", free_port())).collect();
        let watched = Watched { master, replica, sentinels };
        for sentinel in &watched.sentinels {
            wait_for("the Sentinels know all", Duration::from_secs(30), || sentinel.knows(2));
        }
        watched
    }

    pub fn settings(&self) -> config::Redis {
        settings(self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).collect())
    }
}

/// A master and its replica, which has caught up.
pub fn pair(args: &[&str]) -> (Server, Server) {
    let args = [&["--repl-diskless-sync-delay", "0"], args].concat();
    let master = Server::start(&args);
    let port = master.port.to_string();
    let replica = Server::start(&[&args[..], &["--replicaof", "127.0.0.1", &port]].concat());
    wait_until("the replica follows", Duration::from_secs(20), || {
        let info: String = redis::cmd("INFO").arg("replication").query(&mut replica.raw()).unwrap();
        info.contains("master_link_status:up")
    });
    (master, replica)
}

/// One Sentinel with settings of its own, of a master without a replica.
pub fn one(master: &Server, more: &str) -> Sentinel {
    Sentinel::start(master.port, 1, more, free_port())
}

pub fn settings(addresses: Vec<String>) -> config::Redis {
    let sentinel = config::Sentinel { addresses, master_name: MASTER.to_owned(), ..config::Sentinel::default() };
    config::Redis { sentinel, shared_with_stock: false, ..config::Redis::default() }
}

/// A Sentinel that says what it is told to; its threads end with the process.
pub struct Said {
    pub address: String,
    says: Arc<Mutex<(u16, u64)>>,
}

impl Said {
    /// It calls 127.0.0.1 with this port the master, since the fail-over of this number.
    pub fn start(master: u16, epoch: u64) -> Said {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let says = Arc::new(Mutex::new((master, epoch)));
        let of_thread = Arc::clone(&says);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, says) = (client.unwrap(), Arc::clone(&of_thread));
                std::thread::spawn(move || answer(client, &says));
            }
        });
        Said { address, says }
    }

    pub fn says(&self, master: u16, epoch: u64) {
        *self.says.lock().unwrap() = (master, epoch);
    }
}

fn answer(mut client: TcpStream, says: &Mutex<(u16, u64)>) {
    let mut buffer = [0; 4096];
    while let Ok(1..) = client.read(&mut buffer) {
        let (port, epoch) = *says.lock().unwrap();
        let words = ["ip", "127.0.0.1", "port", &port.to_string(), "config-epoch", &epoch.to_string()];
        let reply: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
        if client.write_all(format!("*{}\r\n{reply}", words.len()).as_bytes()).is_err() {
            return;
        }
    }
}
