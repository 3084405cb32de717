//! The addresses of names, for as long as a caller can wait.
//!
//! Invariants:
//! - Each new connection has its name looked up: an address that moved is found without a restart.
//! - A look-up that hangs or fails makes no server unreachable whose addresses are known: these are used, until a look-up brings
//!   others. The first caller waits [`PATIENCE`] for it, those after it not at all.
//! - Nobody waits longer than its deadline, and few look-ups are under way at once (`errand.rs`).
//!
//! Faults survived: a name server that is silent, slow, or says that there is no such name.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use std::{fmt, io};

use parking_lot::Mutex;
use redis::RedisFuture;

use super::errand::{Errand, Missing};

/// How long a look-up may take before the addresses that are known are used.
const PATIENCE: Duration = Duration::from_millis(100);

/// Looks a name up, for as long as it takes.
type Resolve = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// All names: those of the settings and those of a cluster's nodes. There are few; they are kept. Safe from any thread.
pub(super) struct Names {
    resolve: Arc<Resolve>,
    names: Mutex<HashMap<(String, u16), Arc<Name>>>,
}

impl Names {
    /// The process's: whoever opens a store once more knows what the one before knew, and waits for the same look-ups.
    pub(super) fn of_the_system() -> Arc<Names> {
        static NAMES: OnceLock<Arc<Names>> = OnceLock::new();
        let look_up = |host: &str, port: u16| (host, port).to_socket_addrs().map(Iterator::collect);
        Arc::clone(NAMES.get_or_init(|| Names::new(look_up)))
    }

    fn new(resolve: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Arc<Names> {
        Arc::new(Names { resolve: Arc::new(resolve), names: Mutex::default() })
    }

    /// One of them.
    pub(super) fn name(&self, host: &str, port: u16) -> Arc<Name> {
        let mut names = self.names.lock();
        let name = names.entry((host.to_owned(), port)).or_insert_with(|| Arc::new(Name::new(host, port, &self.resolve)));
        Arc::clone(name)
    }
}

/// A host and its port. Safe from any thread.
pub(super) struct Name {
    host: String,
    port: u16,
    look_up: Errand<Vec<SocketAddr>, Failed>,
}

/// What an [`io::Error`] says, to be told to many.
type Failed = (io::ErrorKind, String);

impl Name {
    fn new(host: &str, port: u16, resolve: &Arc<Resolve>) -> Name {
        let (sought, resolve) = (host.to_owned(), Arc::clone(resolve));
        let look_up = Errand::new("atlock-names", move || {
            let found = resolve(&sought, port).map_err(|e| (e.kind(), e.to_string()))?;
            if found.is_empty() { Err((io::ErrorKind::NotFound, "the name has no address".to_owned())) } else { Ok(found) }
        });
        Name { host: host.to_owned(), port, look_up }
    }

    /// The host without its port.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Its addresses, at least one.
    pub(super) fn addresses(&self, deadline: Instant) -> io::Result<Vec<SocketAddr>> {
        if let Some(address) = self.number() {
            return Ok(vec![address]);
        }
        let patience = self.look_up.last_good().map(|_| PATIENCE);
        let missing = match self.look_up.ask(deadline, patience) {
            Ok(found) => return Ok(found),
            Err(missing) => missing,
        };
        self.look_up.last_good().ok_or_else(|| self.explain(missing))
    }

    /// The address, if the host is one.
    fn number(&self) -> Option<SocketAddr> {
        self.host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, self.port))
    }

    fn explain(&self, missing: Missing<Failed>) -> io::Error {
        let host = &self.host;
        match missing {
            Missing::Failed((kind, text)) => io::Error::new(kind, format!("the name {host} was not found: {text}")),
            Missing::Late => {
                let text = format!("looking the name {host} up timed out: check the name servers in /etc/resolv.conf");
                io::Error::new(io::ErrorKind::TimedOut, text)
            }
            Missing::NoThread(e) => io::Error::new(e.kind(), format!("the name {host} was not looked up, for its thread: {e}")),
        }
    }
}

/// As `host:port`.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Name { host, port, .. } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// The same for the cluster's client, which waits for a name no longer than this.
pub(super) struct ForCluster {
    pub names: Arc<Names>,
    pub patience: Duration,
}

type Addresses<'a> = Box<dyn Iterator<Item = SocketAddr> + Send + 'a>;

impl redis::io::AsyncDNSResolver for ForCluster {
    fn resolve<'a, 'b: 'a>(&'a self, host: &'b str, port: u16) -> RedisFuture<'a, Addresses<'a>> {
        let name = self.names.name(host, port);
        let deadline = Instant::now() + self.patience;
        Box::pin(async move {
            let found = match name.number() {
                Some(address) => vec![address],
                // The thread waits no longer than the deadline, so that the runtime can end.
                None => tokio::task::spawn_blocking(move || name.addresses(deadline)).await.map_err(io::Error::other)??,
            };
            Ok(Box::new(found.into_iter()) as Addresses<'a>)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::*;

    const GOOD: u8 = 0;
    const HANGS: u8 = 1;
    const FAILS: u8 = 2;

    #[test]
    fn what_is_known_is_used_while_a_look_up_hangs_or_fails() {
        let mood = Arc::new(AtomicU8::new(HANGS));
        let of_name = Arc::clone(&mood);
        let names = Names::new(move |_, port| match of_name.load(Ordering::SeqCst) {
            HANGS => {
                while of_name.load(Ordering::SeqCst) == HANGS {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Ok(vec![SocketAddr::from(([127, 0, 0, 2], port))])
            }
            FAILS => Err(io::Error::other("no such name")),
            mood => Ok(vec![SocketAddr::from(([127, 0, 0, 1], port + u16::from(mood)))]),
        });
        let name = names.name("redis.example.com", 6379);
        let soon = || Instant::now() + Duration::from_millis(300);
        let error = name.addresses(soon()).expect_err("nothing is known");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
        assert!(error.to_string().contains("redis.example.com"), "{error}");

        // What comes late is kept.
        mood.store(GOOD, Ordering::SeqCst);
        let give_up = Instant::now() + Duration::from_secs(10);
        while name.look_up.last_good().is_none() {
            assert!(Instant::now() < give_up);
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(name.addresses(soon()).unwrap(), ["127.0.0.1:6379".parse().unwrap()]);
        mood.store(FAILS, Ordering::SeqCst);
        assert_eq!(name.addresses(soon()).unwrap(), ["127.0.0.1:6379".parse().unwrap()]);
        mood.store(HANGS, Ordering::SeqCst);
        let start = Instant::now();
        let late = start + Duration::from_secs(60);
        assert_eq!(name.addresses(late).unwrap(), ["127.0.0.1:6379".parse().unwrap()]);
        let second = Instant::now();
        assert!(start.elapsed() < 100 * PATIENCE, "the first waits for a moment: {:?}", start.elapsed());
        for _ in 0..50 {
            assert_eq!(name.addresses(late).unwrap(), ["127.0.0.1:6379".parse().unwrap()]);
        }
        assert!(second.elapsed() < 20 * PATIENCE, "nobody waits for a look-up that is known to hang: {:?}", second.elapsed());
        mood.store(GOOD + 3, Ordering::SeqCst);
        let give_up = Instant::now() + Duration::from_secs(10);
        while name.addresses(soon()).unwrap() != ["127.0.0.1:6382".parse().unwrap()] {
            assert!(Instant::now() < give_up, "a look-up that went well replaces what was known");
        }
    }

    #[test]
    fn an_address_needs_no_look_up() {
        let names = Names::new(|_, _| panic!("it is asked"));
        for (host, address) in [("127.0.0.1", "127.0.0.1:1"), ("::1", "[::1]:1")] {
            let name = names.name(host, 1);
            assert_eq!(name.addresses(Instant::now()).unwrap(), [address.parse().unwrap()]);
        }
    }
}
