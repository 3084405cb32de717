//! The block `locking.enhanced.redis`: where Redis is, how to be let in, how long it may take.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// `locking.enhanced.redis`: how to reach Redis.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Redis {
    /// `host:port` of a single server, or `unix://` and the path of its socket.
    pub address: String,
    /// `host:port` of some nodes of a cluster; with `cluster_mode`.
    pub addresses: Vec<String>,
    /// Whether the servers form a Redis Cluster.
    pub cluster_mode: bool,
    /// The Sentinels that know the master, instead of `address`.
    pub sentinel: Sentinel,
    /// ACL user; empty for the default user.
    pub username: String,
    /// Password; empty for none.
    pub password: String,
    /// File whose first line is the password; instead of `password`.
    pub password_file: Option<PathBuf>,
    /// Program and arguments; the first line that it prints is the password. Instead of `password`.
    pub password_command: Vec<String>,
    /// Database number; a cluster has only 0.
    pub db: i64,
    /// TLS.
    pub tls: Tls,
    /// Whether a connection to another machine without TLS is meant: no warning then.
    pub allow_plaintext: bool,
    /// Whether it is meant that this Redis may keep its data in memory alone: no warning then.
    pub allow_no_persistence: bool,
    /// Whether stock Atlantis servers may use the same Redis: listing then looks for their locks too.
    pub shared_with_stock: bool,
    /// How many replicas must confirm a grant before it counts.
    pub wait_replicas: u32,
    /// Deadlines.
    pub timeouts: RedisTimeouts,
}

impl Default for Redis {
    fn default() -> Redis {
        Redis {
            address: "127.0.0.1:6379".to_owned(),
            addresses: Vec::new(),
            cluster_mode: false,
            sentinel: Sentinel::default(),
            username: String::new(),
            password: String::new(),
            password_file: None,
            password_command: Vec::new(),
            db: 0,
            tls: Tls::default(),
            allow_plaintext: false,
            allow_no_persistence: false,
            shared_with_stock: true,
            wait_replicas: 0,
            timeouts: RedisTimeouts::default(),
        }
    }
}

/// Where Redis is.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// A single server, as `host:port`.
    Server(&'a str),
    /// A single server of this machine, by its socket.
    Socket(&'a Path),
    /// The server that Sentinels call the master.
    Sentinel(&'a Sentinel),
    /// A cluster, by some of its nodes.
    Cluster(&'a [String]),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Server(address) => f.write_str(address),
            Place::Socket(path) => write!(f, "{SOCKET}{}", path.display()),
            Place::Sentinel(sentinel) => write!(f, "{} of the Sentinels {}", sentinel.master_name, sentinel.addresses.join(", ")),
            Place::Cluster(addresses) => f.write_str(&addresses.join(", ")),
        }
    }
}

/// What the address of a socket begins with.
pub(super) const SOCKET: &str = "unix://";

impl Redis {
    /// Where it is.
    pub fn place(&self) -> Place<'_> {
        if self.cluster_mode {
            return Place::Cluster(&self.addresses);
        }
        if self.sentinel.is_on() {
            return Place::Sentinel(&self.sentinel);
        }
        match self.address.strip_prefix(SOCKET) {
            Some(path) => Place::Socket(Path::new(path)),
            None => Place::Server(&self.address),
        }
    }

    /// Which Redis it is, as far as its settings tell: where it is, and the database.
    pub fn name(&self) -> String {
        format!("{}, database {}", self.place(), self.db)
    }
}

/// Whether what is sent to this host stays on this machine: `localhost`, or a loopback address, in brackets or not.
pub fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

/// `locking.enhanced.redis.sentinel`: who knows which server is the master.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sentinel {
    /// `host:port` of the Sentinels.
    pub addresses: Vec<String>,
    /// What the Sentinels call the master.
    pub master_name: String,
    /// ACL user of the Sentinels; empty for the default user.
    pub username: String,
    /// Password of the Sentinels; empty for none.
    pub password: String,
    /// File whose first line is that password; instead of `password`.
    pub password_file: Option<PathBuf>,
    /// TLS with the Sentinels.
    pub tls: Tls,
}

impl Sentinel {
    /// Whether the Sentinels are to be asked.
    pub fn is_on(&self) -> bool {
        !self.addresses.is_empty() || !self.master_name.is_empty()
    }
}

/// Shows every setting but the password.
impl fmt::Debug for Sentinel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sentinel")
            .field("addresses", &self.addresses)
            .field("master_name", &self.master_name)
            .field("username", &self.username)
            .field("password", &shown(&self.password))
            .field("password_file", &self.password_file)
            .field("tls", &self.tls)
            .finish()
    }
}

fn shown(password: &str) -> &'static str {
    if password.is_empty() { "" } else { "<redacted>" }
}

/// Shows every setting but the password.
impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("address", &self.address)
            .field("addresses", &self.addresses)
            .field("cluster_mode", &self.cluster_mode)
            .field("sentinel", &self.sentinel)
            .field("username", &self.username)
            .field("password", &shown(&self.password))
            .field("password_file", &self.password_file)
            .field("password_command", &self.password_command)
            .field("db", &self.db)
            .field("tls", &self.tls)
            .field("allow_plaintext", &self.allow_plaintext)
            .field("allow_no_persistence", &self.allow_no_persistence)
            .field("shared_with_stock", &self.shared_with_stock)
            .field("wait_replicas", &self.wait_replicas)
            .field("timeouts", &self.timeouts)
            .finish()
    }
}

/// `locking.enhanced.redis.tls`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// Whether to use TLS. The server's certificate and host name are always checked.
    pub enabled: bool,
    /// PEM file with the certificate authorities to trust; the system's when absent.
    pub ca_file: Option<PathBuf>,
    /// PEM file with the client's certificate chain; with `key_file`.
    pub cert_file: Option<PathBuf>,
    /// PEM file with the client's private key; with `cert_file`.
    pub key_file: Option<PathBuf>,
    /// The name that the server's certificate must have, and that the server is asked for (SNI); the address's host when empty.
    pub server_name: String,
}

/// `locking.enhanced.redis.timeouts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RedisTimeouts {
    /// Longest time to connect, log in and check the server at start.
    #[serde(with = "humantime_serde")]
    pub connect: Duration,
    /// Longest time that one operation takes, retries included.
    #[serde(with = "humantime_serde")]
    pub operation: Duration,
}

impl Default for RedisTimeouts {
    fn default() -> RedisTimeouts {
        RedisTimeouts { connect: Duration::from_secs(1), operation: Duration::from_secs(1) }
    }
}
