//! What `atlock doctor --fix` puts right by itself.
//!
//! Invariants:
//! - No lock is granted, released, moved or discarded, no document of a queue changes, and nobody's announcement: a server that comes back
//!   would take that for a loss of data.
//! - Each fix looks again before it writes, and writes only where things are as they were seen.
//! - Servers may be at work: what is done in Redis is what each start of a server does there (`store::redis::mend_index`,
//!   `mend_leftovers`).
//!
//! Faults survived: a fix that fails, or a crash in the middle of one, leaves what was done; the next look tells what is left.

use std::fmt;
use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::{Serialize, Serializer};

use crate::config::Config;
use crate::error::{Code, Error, Result};
use crate::store::redis::{mend_index, mend_leftovers};

/// What can be put right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fix {
    /// The group and others lose the right to write in a folder of this user, which has these rights.
    Rights(PathBuf, u32),
    /// The index of all locks gets those that it lacks.
    Index,
    /// Index entries and side hashes without a lock go away.
    Leftovers,
}

impl fmt::Display for Fix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fix::Rights(path, _) => write!(f, "take the right to write in {} from its group and others", path.display()),
            Fix::Index => f.write_str("put the locks into the index that lacks them"),
            Fix::Leftovers => f.write_str("remove the index entries without a lock, and give such side hashes an end"),
        }
    }
}

impl Serialize for Fix {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl Fix {
    /// Puts it right, and tells what was done.
    ///
    /// Errors: `InvalidArgument` if it is not any more as it was seen; `StoreFailed` where the file system refuses; those of Redis.
    pub fn apply(&self, config: &Config) -> Result<String> {
        let redis = &config.locking.enhanced.redis;
        match self {
            Fix::Rights(path, seen) => take_rights(path, *seen),
            Fix::Index => mend_index(redis).map(|count| format!("locks put into the index: {count}")),
            Fix::Leftovers => mend_leftovers(redis)
                .map(|count| format!("index entries without a lock were removed; side hashes given an end: {count}")),
        }
    }
}

fn take_rights(path: &Path, seen: u32) -> Result<String> {
    let failed = |e: io::Error| Error::new(Code::StoreFailed, format!("the rights of {} cannot be changed: {e}", path.display()));
    let folder: File =
        OpenOptions::new().read(true).custom_flags(OFlags::DIRECTORY.bits().cast_signed()).open(path).map_err(failed)?;
    let is = folder.metadata().map_err(failed)?.mode() & 0o777;
    if is != seen {
        let text = format!("{} has the rights {is:o}, and had {seen:o} when it was looked at: look again", path.display());
        return Err(Error::new(Code::InvalidArgument, text));
    }
    let new = is & !0o022;
    folder.set_permissions(Permissions::from_mode(new)).map_err(failed)?;
    Ok(format!("{} has the rights {new:o}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Somebody else was quicker, and may have had a reason.
    #[test]
    fn rights_that_changed_since_are_left_alone() {
        let folder = tempfile::tempdir().expect("is made");
        let set = |mode| std::fs::set_permissions(folder.path(), Permissions::from_mode(mode)).expect("are set");
        let is = || std::fs::metadata(folder.path()).expect("is there").mode() & 0o777;
        let fix = Fix::Rights(folder.path().to_owned(), 0o777);
        set(0o775);
        let refused = fix.apply(&Config::default()).expect_err("they changed");
        assert_eq!((refused.code(), is()), (Code::InvalidArgument, 0o775), "{refused}");
        set(0o777);
        fix.apply(&Config::default()).expect("works");
        assert_eq!(is(), 0o755);
    }
}
