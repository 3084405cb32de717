//! The Lua scripts: every change in Redis is one of them, and so atomic.

use std::sync::LazyLock;

use redis::{Cmd, Script as Hashed};

/// A script and its SHA-1, by which Redis knows it once it has seen it.
pub(super) struct Script {
    text: String,
    hash: String,
}

impl Script {
    fn new(parts: &[&str]) -> Script {
        let text = parts.concat();
        let hash = Hashed::new(&text).get_hash().to_owned();
        Script { text, hash }
    }

    /// What it says.
    #[cfg(test)]
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// `EVALSHA` with these keys and arguments.
    pub(super) fn by_hash(&self, keys: &[&str], args: &[&[u8]]) -> Cmd {
        command("EVALSHA", &self.hash, keys, args)
    }

    /// `EVAL`: for a server that does not know the script yet.
    pub(super) fn by_text(&self, keys: &[&str], args: &[&[u8]]) -> Cmd {
        command("EVAL", &self.text, keys, args)
    }

    /// `SCRIPT LOAD`.
    pub(super) fn load(&self) -> Cmd {
        let mut command = redis::cmd("SCRIPT");
        command.arg("LOAD").arg(&self.text);
        command
    }
}

fn command(name: &str, script: &str, keys: &[&str], args: &[&[u8]]) -> Cmd {
    let mut command = Cmd::new();
    command.arg(name).arg(script).arg(keys.len()).arg(keys).arg(args);
    command
}

/// What a script is called, by its SHA-1 or its text.
#[cfg(test)]
pub(crate) fn script_name(script: &str) -> String {
    let all = [
        ("GRANT", &GRANT),
        ("RELEASE", &RELEASE),
        ("GATE", &GATE),
        ("SWAP", &SWAP_DOCUMENT),
        ("READ", &READ),
        ("LOOK", &LOOK),
        ("HERE", &HERE),
        ("PUT", &PUT),
        ("ANNOUNCE", &ANNOUNCE),
        ("INDEX_ADD", &INDEX_ADD),
        ("INDEX_TRIM", &INDEX_TRIM),
        ("END_ORPHANS", &END_ORPHANS),
        ("INDEX_FORGET", &INDEX_FORGET),
        ("INDEX_PULL", &INDEX_PULL),
        ("MOVE", &MOVE),
        ("DELETE_IF", &DELETE_IF),
        ("PROBE", &PROBE),
    ];
    all.iter().find(|(_, known)| known.hash == script || known.text == script).map_or("EVAL", |(name, _)| name).to_owned()
}

macro_rules! script {
    ($(#[$doc:meta])* $name:ident = $($part:literal),+) => {
        $(#[$doc])*
        pub(super) static $name: LazyLock<Script> = LazyLock::new(|| Script::new(&[$(include_str!(concat!("lua/", $part))),+]));
    };
}

script!(
    /// Takes a lock if it is free.
    GRANT = "foreign.lua",
    "held.lua",
    "side.lua",
    "prologue.lua",
    "enter.lua",
    "grant.lua"
);
script!(
    /// Releases a lock if it is the one meant.
    RELEASE = "foreign.lua",
    "side.lua",
    "orphan.lua",
    "prologue.lua",
    "release.lua"
);
script!(
    /// Says for whom a lock is kept when it is free.
    GATE = "foreign.lua",
    "side.lua",
    "gate.lua"
);
script!(
    /// Replaces a document if it is as expected.
    SWAP_DOCUMENT = "foreign.lua",
    "swap_document.lua"
);
script!(
    /// Reads a lock and its last fencing token.
    READ = "foreign.lua",
    "side.lua",
    "orphan.lua",
    "presence.lua",
    "read.lua"
);
script!(
    /// The same, without a change.
    LOOK = "foreign.lua",
    "look.lua",
    "presence.lua",
    "read.lua"
);
script!(
    /// Tells when an instance was here last.
    HERE = "foreign.lua",
    "presence.lua",
    "here.lua"
);
script!(
    /// Makes a lock what the local store decided.
    PUT = "foreign.lua",
    "side.lua",
    "prologue.lua",
    "enter.lua",
    "put.lua"
);
script!(
    /// Announces an instance.
    ANNOUNCE = "foreign.lua",
    "announce.lua"
);
script!(
    /// Stamps members of the index of all locks.
    INDEX_ADD = "foreign.lua",
    "index_add.lua"
);
script!(
    /// Removes members of the index of all locks whose locks are gone.
    INDEX_TRIM = "foreign.lua",
    "index_trim.lua"
);
script!(
    /// Ends the side hashes of locks that are gone.
    END_ORPHANS = "side.lua",
    "orphan.lua",
    "end_orphans.lua"
);
script!(
    /// Removes a lock from the index of a pull that does not hold it.
    INDEX_FORGET = "index_forget.lua"
);
script!(
    /// Adds another program's lock to the indexes of a single server.
    INDEX_PULL = "foreign.lua",
    "enter.lua",
    "index_pull.lua"
);
script!(
    /// Moves a lock from its old key to today's, on a single server.
    MOVE = "move.lua"
);
script!(
    /// Deletes a key if it holds what was seen.
    DELETE_IF = "delete_if.lua"
);
script!(
    /// Tries what the others do.
    PROBE = "probe.lua"
);
