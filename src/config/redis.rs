//! The block `locking.enhanced.redis`: where Redis is, how to be let in, how long it may take.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// `locking.enhanced.redis`: how to reach Redis.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Redis {
    /// `host:port` of a single server.
    pub address: String,
    /// `host:port` of some nodes of a cluster; with `cluster_mode`.
    pub addresses: Vec<String>,
    /// Whether the servers form a Redis Cluster.
    pub cluster_mode: bool,
    /// ACL user; empty for the default user.
    pub username: String,
    /// Password; empty for none.
    pub password: String,
    /// File whose first line is the password; instead of `password`.
    pub password_file: Option<PathBuf>,
    /// Database number; a cluster has only 0.
    pub db: i64,
    /// TLS.
    pub tls: Tls,
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
            username: String::new(),
            password: String::new(),
            password_file: None,
            db: 0,
            tls: Tls::default(),
            shared_with_stock: true,
            wait_replicas: 0,
            timeouts: RedisTimeouts::default(),
        }
    }
}

impl Redis {
    /// Which Redis it is, as far as its settings tell: where it is, and the database.
    pub fn name(&self) -> String {
        let place = if self.cluster_mode { self.addresses.join(", ") } else { self.address.clone() };
        format!("{place}, database {}", self.db)
    }
}

/// Shows every setting but the password.
impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redis")
            .field("address", &self.address)
            .field("addresses", &self.addresses)
            .field("cluster_mode", &self.cluster_mode)
            .field("username", &self.username)
            .field("password", &if self.password.is_empty() { "" } else { "<redacted>" })
            .field("password_file", &self.password_file)
            .field("db", &self.db)
            .field("tls", &self.tls)
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
