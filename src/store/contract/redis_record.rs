//! What the local store remembers of its Redis, across restarts, and what that shows.

use serde::{Deserialize, Serialize};

/// What the store remembers of its Redis, across restarts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedisRecord {
    /// This server's name among the instances that use the Redis: it stays when the process restarts.
    #[serde(rename = "instance")]
    pub server_name: String,
    /// Whether another server was noticed, and not missed for long enough since.
    #[serde(default)]
    pub not_alone: bool,
    /// Which locks the store may lack, and why; empty if it has all that Redis had when the two last agreed, and since.
    #[serde(default)]
    pub lacks: String,
    /// The Redis that the store has seen: its address and database; empty for none.
    #[serde(default)]
    pub redis: String,
    /// Whether native mode was in use since: Redis alone knows the locks.
    pub handed_over: bool,
    /// Whether a process uses the store, or one ended without closing it.
    #[serde(default)]
    pub open: bool,
    /// Whether a crash now may leave the local store without locks that Redis granted: with `durability: async`.
    pub trailing: bool,
    /// When this server last announced itself, microseconds since 1970 by Redis's clock; 0 for never. A Redis that does not know
    /// it has lost data since. On disk it is as old as the last comparison.
    pub announced: u64,
    /// Whether Redis was found to have lost data, and the two do not agree yet.
    #[serde(default)]
    pub lost: bool,
    /// Whether strict mode began though this store may have lacked locks, or a lock of a host store that is not believed was taken over then: it
    /// may have granted what was held. Or whether tokens were given that were far ahead of Redis's clock, so that Redis gave smaller ones later.
    #[serde(default)]
    pub granted_blindly: bool,
    /// By how much Redis's clock was ahead of this machine's when it was last asked, microseconds.
    #[serde(default)]
    pub clock_ahead: i64,
    /// The fencing token behind which this process, or the last one, began to give its own, after a process that did not close the store: between
    /// two crashes the entries may show none of those that were given. 0 for none.
    #[serde(default)]
    pub tokens_from: u64,
    /// When the local store and Redis were last known to agree, microseconds since 1970 by this machine's clock; 0 for never.
    pub agreed_at: u64,
}

const NEVER_REACHED: &str = "hybrid mode was in use and never reached its Redis, which may hold locks";
const OTHERS: &str = "another server used the same Redis, and its last locks may be lacking";

impl RedisRecord {
    /// Why the next start may find locks lacking; `None` if the store has all that matter to it. `redis` names the Redis of hybrid mode;
    /// `None` is strict mode, which would decide by the store alone. `allow_unseen`: a Redis that the store has never seen has no locks.
    ///
    /// Hybrid mode bears with other servers: it asks Redis, and is not armed.
    pub fn lacks_at_start(&self, redis: Option<&str>, allow_unseen: bool) -> Option<String> {
        let never = || (self.redis.is_empty() && !allow_unseen).then(|| NEVER_REACHED.to_owned());
        let others = || self.not_alone.then(|| OTHERS.to_owned());
        self.may_lack().or_else(|| match redis {
            Some(redis) => self.unseen(redis, allow_unseen),
            None => never().or_else(others),
        })
    }

    /// Why a store may lack locks of the Redis of this name: the two were never brought together, and it is not allowed to go by that.
    pub fn unseen(&self, redis: &str, allow_unseen: bool) -> Option<String> {
        (self.redis != redis && !allow_unseen).then(|| {
            format!(
                "this data folder has never seen the Redis at {redis}, which may hold locks (if it holds none, set \
                 locking.enhanced.allow_unseen_redis: true)"
            )
        })
    }

    /// Why a store that is not in use may lack locks of the Redis that it followed; `None` if it has them all.
    pub fn may_lack(&self) -> Option<String> {
        if self.handed_over {
            return Some("native mode was in use last, and Redis alone knows its locks".to_owned());
        }
        if self.open && self.trailing {
            let why = "the server was not closed, and with durability async the local store may lack its last locks";
            return Some(why.to_owned());
        }
        (!self.lacks.is_empty()).then(|| self.lacks.clone())
    }
}
