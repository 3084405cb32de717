//! What a migration asks of Redis beside the entries: its mark, which is the key `atlock:moved`; who else is there; the time.

use std::time::{Duration, Instant};

use redis::Value;

use super::errors::Failure;
use super::keys::{INSTANCES, MOVED};
use super::open;
use super::reply::{Reply, unexpected};
use super::scripts;
use super::store::RedisStore;
use crate::call::{Call, RequestId};
use crate::config;
use crate::error::{Code, Error, Result};
use crate::store::moved::Mark;

/// Who else uses a Redis, as far as that can be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Others {
    /// Servers in hybrid mode that are there, or were within the lease.
    pub announced: Vec<String>,
    /// Servers in hybrid mode that have left, or were not heard of for longer.
    pub known: Vec<String>,
    /// Addresses of connections to the same database that are older than ours.
    pub connections: Vec<String>,
    /// Why the connections are not known.
    pub unknown: Option<String>,
}

impl RedisStore {
    /// As [`RedisStore::open`], also of a Redis with a mark: for a migration. `take_over`: whether locks at the keys of Atlantis before v0.40
    /// are moved to today's, as a start does.
    pub fn open_to_migrate(settings: &config::Redis, instance: &str, take_over: bool) -> Result<RedisStore> {
        let store = RedisStore::of(open::open(settings)?, settings, instance);
        if take_over {
            store.take_over()?;
        }
        Ok(store)
    }

    /// Refuses a Redis with a mark.
    pub(super) fn refuse_marked(&self, settings: &config::Redis) -> Result<()> {
        let deadline = self.redis.clock.now() + settings.timeouts.connect;
        match self.mark(&Call::new(RequestId::from_text("mark"), deadline))?.filter(Mark::refuses) {
            Some(mark) => Err(mark.refusal(&format!("Redis at {}", self.redis.server))),
            None => Ok(()),
        }
    }

    /// Its mark.
    pub fn mark(&self, call: &Call) -> Result<Option<Mark>> {
        let bytes = self.get_key(MOVED, call)?;
        bytes.map(|bytes| Mark::decode(&bytes, &format!("Redis at {}", self.redis.server))).transpose()
    }

    /// Replaces the mark if it is the one that was seen; returns whether it was.
    pub fn set_mark(&self, seen: Option<&Mark>, new: Option<&Mark>, call: &Call) -> Result<bool> {
        let encoded = |mark: Option<&Mark>| mark.map(Mark::encode).transpose();
        let (seen, new) = (encoded(seen)?, encoded(new)?);
        let expectation: &[u8] = if seen.is_some() { b"bytes" } else { b"absent" };
        let action: &[u8] = if new.is_some() { b"set" } else { b"delete" };
        let args = [expectation, seen.as_deref().unwrap_or_default(), action, new.as_deref().unwrap_or_default()];
        match self.redis.change(&scripts::SWAP_DOCUMENT, &[MOVED], &args, call)? {
            Reply::Done(_) => Ok(true),
            Reply::Conflict(_) => Ok(false),
            other => Err(unexpected(&other)),
        }
    }

    /// What the servers' clocks show, microseconds since 1970: the earliest and the latest of a cluster's.
    pub fn clocks(&self, call: &Call) -> Result<(u64, u64)> {
        let (mut earliest, mut latest) = (u64::MAX, 0);
        let deadline = self.page(call.deadline);
        self.at_all(&redis::cmd("TIME"), deadline, |time: (u64, u64)| {
            let now = time.0.saturating_mul(1_000_000).saturating_add(time.1);
            (earliest, latest) = (earliest.min(now), latest.max(now));
        })?;
        Ok((earliest, latest))
    }

    /// Which servers they are: names of processes, which differ for each, and the database.
    pub fn identities(&self, db: i64, call: &Call) -> Result<Vec<String>> {
        let mut command = redis::cmd("INFO");
        command.arg("server");
        let mut found = Vec::new();
        self.at_all(&command, self.page(call.deadline), |text: String| {
            let id = text.lines().find_map(|line| line.strip_prefix("run_id:"));
            found.extend(id.map(|id| format!("{} database {db}", id.trim())));
        })?;
        Ok(found)
    }

    /// How many bytes it can still take: that of a cluster with the least room, for each of its servers. `None`: no bound, or this user may
    /// not ask.
    pub fn room(&self, call: &Call) -> Option<u64> {
        let mut command = redis::cmd("INFO");
        command.arg("memory");
        let (mut least, mut servers) = (None::<u64>, 0_u64);
        let asked = self.at_all(&command, self.page(call.deadline), |text: String| {
            servers += 1;
            least = [least, room_of(&text)].into_iter().flatten().min();
        });
        asked.ok().and(least).map(|least| least.saturating_mul(servers))
    }

    /// Who else is there. `lease`: how long an announcement counts; `since`: when this store was about to be opened, `db` its database.
    pub fn others(&self, lease: Duration, since: Instant, db: i64, call: &Call) -> Result<Others> {
        let mut others = Others::default();
        let (_, now) = self.clocks(call)?;
        let lease = u64::try_from(lease.as_micros()).unwrap_or(u64::MAX);
        let mut command = redis::cmd("HGETALL");
        command.arg(INSTANCES);
        let deadline = self.page(call.deadline);
        let all = self.redis.read(deadline, |link| typed::<Vec<(String, String)>>(link.query(&command, deadline)?))?;
        for (name, text) in all.into_iter().filter(|(name, _)| !name.starts_with("gap:")) {
            let seen: i64 = text.split(' ').next().and_then(|seen| seen.parse().ok()).unwrap_or(0);
            let is_there = u64::try_from(seen).is_ok_and(|seen| seen.saturating_add(lease) >= now);
            if is_there { others.announced.push(name) } else { others.known.push(name) }
        }
        // A server keeps its connections; ours are younger. The ages are in whole seconds.
        let age = self.redis.clock.now().saturating_duration_since(since).as_secs() + 1;
        let mut command = redis::cmd("CLIENT");
        command.arg("LIST");
        match self.at_all(&command, deadline, |text: String| others.connections.extend(older(&text, age, db))) {
            Err(e) if e.code() == Code::Permission => others.unknown = Some(e.message().to_owned()),
            answer => answer?,
        }
        Ok(others)
    }

    /// Asks every server.
    fn at_all<T: redis::FromRedisValue>(&self, command: &redis::Cmd, deadline: Instant, mut each: impl FnMut(T)) -> Result<()> {
        let masters = self.redis.read(deadline, |link| link.masters(deadline))?;
        for master in masters {
            each(self.redis.read(deadline, |link| typed::<T>(link.query_at(master.as_ref(), command, deadline)?))?);
        }
        Ok(())
    }

    /// The error for a mark that is another one than expected.
    pub fn mark_changed(&self) -> Error {
        Error::new(Code::StoreMoved, format!("Redis at {}: another migration has begun there meanwhile", self.redis.server))
    }
}

fn typed<T: redis::FromRedisValue>(value: Value) -> super::transport::Attempt<T> {
    T::from_redis_value(value).map_err(|e| Failure::Refused(e.into()))
}

/// The room that a server's memory section tells; `None` if it has no bound.
fn room_of(text: &str) -> Option<u64> {
    let number = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.and_then(|value| value.trim().parse::<u64>().ok())
    };
    let bound = number("maxmemory").filter(|bound| *bound > 0)?;
    Some(bound.saturating_sub(number("used_memory")?))
}

/// The addresses of the clients in this answer that are older and in this database, without replicas and masters.
fn older(text: &str, age: u64, db: i64) -> Vec<String> {
    let field =
        |line: &str, name: &str| line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('=').map(str::to_owned));
    let number = |line: &str, name: &str| field(line, name).and_then(|text| text.parse::<i64>().ok());
    let is_other = |line: &&str| {
        let flags = field(line, "flags").unwrap_or_default();
        let is_link = flags.contains(['S', 'M', 'A']);
        !is_link
            && number(line, "db") == Some(db)
            && number(line, "age").is_some_and(|other| other > i64::try_from(age).unwrap_or(i64::MAX))
    };
    text.lines().filter(is_other).filter_map(|line| field(line, "addr")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_leaves_what_is_not_used() {
        assert_eq!(room_of("used_memory:600\r\nused_memory_peak:900\r\nmaxmemory:1000\r\n"), Some(400));
        assert_eq!(room_of("used_memory:1600\r\nmaxmemory:1000\r\n"), Some(0));
        assert_eq!([room_of("used_memory:600\r\nmaxmemory:0\r\n"), room_of("")], [None, None]);
    }

    #[test]
    fn only_older_clients_of_the_database_are_others() {
        let text = "id=3 addr=10.0.0.1:1 name= age=90 idle=1 flags=N db=0 cmd=eval\n\
                    id=4 addr=10.0.0.2:1 name= age=2 idle=1 flags=N db=0 cmd=get\n\
                    id=5 addr=10.0.0.3:1 name= age=90 idle=1 flags=N db=1 cmd=get\n\
                    id=6 addr=10.0.0.4:1 name= age=90 idle=1 flags=S db=0 cmd=replconf\n";
        assert_eq!(older(text, 2, 0), ["10.0.0.1:1"]);
        assert_eq!(older("", 0, 0), Vec::<String>::new());
    }
}
