//! What `--from` and `--to` name.

use std::path::{Path, PathBuf};

use crate::config::{Backend, Config, Encryption, Mode, Redis, Sentinel};
use crate::error::{Code, Error, Result};

const FORMS: &str = "boltdb:FILE, sled:FOLDER, redis:HOST:PORT, redis:HOST:PORT/DATABASE, redis:unix:///SOCKET, \
                     sentinel:MASTER@HOST:PORT,HOST:PORT, cluster:HOST:PORT,HOST:PORT, or config:FILE for the store of a settings \
                     file (with its password and TLS)";

/// A store, as it was named.
#[derive(Clone, Debug)]
pub struct Side {
    /// As it was typed, with whole paths. No secret.
    pub named: String,
    /// What is meant.
    pub store: Named,
    /// The key of its data folder, by its settings file.
    pub encryption: Encryption,
}

/// The store that is meant.
#[derive(Clone, Debug)]
pub enum Named {
    /// Atlantis's BoltDB file.
    Boltdb(PathBuf),
    /// The embedded store in this folder.
    Sled(PathBuf),
    /// A Redis, or a Redis Cluster.
    Redis {
        /// How to reach it.
        settings: Box<Redis>,
        /// The `data_dir` of the server that uses it in hybrid or native mode.
        companion: Option<PathBuf>,
    },
}

impl Side {
    /// Reads what was typed.
    ///
    /// Errors: `InvalidArgument`; those of a settings file; `Unsupported` for one of stock's own store.
    pub fn parse(text: &str) -> Result<Side> {
        let wrong = |what: &str| Error::new(Code::InvalidArgument, format!("{text:?} names no store: {what}. Give {FORMS}"));
        let (kind, rest) = text.split_once(':').ok_or_else(|| wrong("it does not say of which kind the store is"))?;
        if rest.is_empty() {
            return Err(wrong("nothing follows the colon"));
        }
        match kind {
            "sled" => {
                let folder = absolute(Path::new(rest))?;
                Ok(Side {
                    named: format!("sled:{}", folder.display()),
                    store: Named::Sled(folder),
                    encryption: Encryption::default(),
                })
            }
            "redis" if rest.starts_with("unix:///") => {
                Ok(Side::redis(text, Redis { address: rest.to_owned(), ..Redis::default() }))
            }
            "redis" => {
                let (address, db) = database_of(rest).ok_or_else(|| wrong("its database is no number"))?;
                check_address(address).map_err(|what| wrong(&what))?;
                Ok(Side::redis(text, Redis { address: address.to_owned(), db, ..Redis::default() }))
            }
            "sentinel" => {
                let (master_name, sentinels) = rest.split_once('@').ok_or_else(|| wrong("it does not name the master"))?;
                let (sentinels, db) = database_of(sentinels).ok_or_else(|| wrong("its database is no number"))?;
                let addresses: Vec<String> = sentinels.split(',').map(|address| address.trim().to_owned()).collect();
                addresses.iter().try_for_each(|address| check_address(address)).map_err(|what| wrong(&what))?;
                let sentinel = Sentinel { addresses, master_name: master_name.to_owned(), ..Sentinel::default() };
                Ok(Side::redis(text, Redis { sentinel, db, ..Redis::default() }))
            }
            "cluster" => {
                let addresses: Vec<String> = rest.split(',').map(|address| address.trim().to_owned()).collect();
                addresses.iter().try_for_each(|address| check_address(address)).map_err(|what| wrong(&what))?;
                Ok(Side::redis(text, Redis { cluster_mode: true, addresses, ..Redis::default() }))
            }
            "config" => Side::of_settings(&absolute(Path::new(rest))?),
            "boltdb" => {
                let file = absolute(Path::new(rest))?;
                if file.is_dir() {
                    return Err(wrong("that is a folder: name the file in it, as boltdb:FOLDER/atlantis.db"));
                }
                Ok(Side {
                    named: format!("boltdb:{}", file.display()),
                    store: Named::Boltdb(file),
                    encryption: Encryption::default(),
                })
            }
            _ => Err(wrong("that kind of store is not known")),
        }
    }

    fn redis(named: &str, settings: Redis) -> Side {
        let store = Named::Redis { settings: Box::new(settings), companion: None };
        Side { named: named.to_owned(), store, encryption: Encryption::default() }
    }

    /// The store that decides by the settings of a file.
    fn of_settings(file: &Path) -> Result<Side> {
        let config = Config::load(file)?;
        config.locking.key_format.settle()?;
        let named = format!("config:{}", file.display());
        if config.is_on_stocks_store() {
            return Err(stocks(&named));
        }
        let mode = config.mode();
        let locking = config.locking;
        let encryption = locking.encryption;
        let store = match (mode, locking.data_dir) {
            (Mode::Strict, Some(folder)) if locking.backend == Backend::Sled => Named::Sled(absolute(&folder)?),
            (Mode::Strict, _) => return Err(Error::new(Code::InvalidConfig, format!("{named}: locking.data_dir is missing"))),
            // In native mode it says that Redis alone knows the locks: of the Redis that was left.
            (Mode::Native | Mode::Hybrid, folder) => {
                let companion = folder.as_deref().map(absolute).transpose()?;
                Named::Redis { settings: Box::new(locking.enhanced.redis), companion }
            }
        };
        Ok(Side { named, store, encryption })
    }

    /// Which store it is, beside how it was named: the same settings file may name another one later.
    pub fn place(&self) -> String {
        match &self.store {
            Named::Boltdb(file) => format!("Atlantis's file {}", file.display()),
            Named::Sled(folder) => format!("the store in {}", folder.display()),
            Named::Redis { settings, .. } => format!("Redis at {}", settings.name()),
        }
    }
}

fn stocks(named: &str) -> Error {
    let text = format!(
        "{named}: by these settings Atlantis's own store decides, and which that is they do not say: name its file as \
         boltdb:FILE, FILE being atlantis.db in the server's --data-dir; or its Redis as redis:HOST:PORT"
    );
    Error::new(Code::Unsupported, text)
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|e| Error::new(Code::InvalidArgument, format!("{}: {e}", path.display())))
}

/// What stands before `/DATABASE`, and the database; `None` if it is no number.
fn database_of(text: &str) -> Option<(&str, i64)> {
    match text.split_once('/') {
        Some((address, db)) => Some((address, db.parse().ok()?)),
        None => Some((text, 0)),
    }
}

fn check_address(address: &str) -> Result<(), String> {
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port != 0);
    match address.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && is_port(port) && !host.contains(['@', '/']) => Ok(()),
        _ => Err(format!("{address:?} is not HOST:PORT")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_read() {
        let redis = |text: &str| match Side::parse(text).expect("is read").store {
            Named::Redis { settings, .. } => *settings,
            Named::Sled(_) | Named::Boltdb(_) => panic!("it is Redis"),
        };
        assert_eq!(redis("redis:localhost:7000").address, "localhost:7000");
        assert_eq!((redis("redis:[::1]:7000/3").address.as_str(), redis("redis:[::1]:7000/3").db), ("[::1]:7000", 3));
        assert_eq!(redis("cluster:a:1,b:2").addresses, ["a:1", "b:2"]);
        assert_eq!(redis("sentinel:m@a:1,b:2/3").name(), "m of the Sentinels a:1, b:2, database 3");
        assert_eq!(redis("redis:unix:///run/redis.sock").name(), "unix:///run/redis.sock, database 0");
        assert!(Side::parse("sled:/a/b").is_ok_and(|side| side.named == "sled:/a/b"));
        for wrong in [
            "",
            "sled",
            "sled:",
            "redis:localhost",
            "redis:me:secret@host:1",
            "redis:a:0",
            "redis:a:1/x",
            "sentinel:a:1",
            "sentinel:m@a",
            "etcd:a:1",
        ] {
            assert_eq!(Side::parse(wrong).expect_err("is refused").code(), Code::InvalidArgument, "{wrong}");
        }
        assert!(Side::parse("boltdb:/x/atlantis.db").is_ok_and(|side| side.place() == "Atlantis's file /x/atlantis.db"));
        assert!(Side::parse("boltdb:/").expect_err("is refused").message().contains("name the file in it"));
    }
}
