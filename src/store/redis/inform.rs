//! What a server tells of itself, as far as this user may ask.

use std::time::Instant;

use redis::{Cmd, FromRedisValue as _};

use super::errors::Failure;
use super::retry::Retrying;
use super::transport::Attempt;

/// One of `Transport::masters`.
type Master = Option<(String, u16)>;

/// A section of INFO of a master; `None` if the user may not ask.
pub(super) fn info_of(redis: &Retrying, master: &Master, section: &str, deadline: Instant) -> Attempt<Option<String>> {
    asked(redis, master, redis::cmd("INFO").arg(section), deadline, |value| String::from_redis_value(value).ok())
}

/// A setting of a master; `None` if the user may not ask.
pub(super) fn setting_of(redis: &Retrying, master: &Master, name: &str, deadline: Instant) -> Attempt<Option<String>> {
    asked(redis, master, redis::cmd("CONFIG").arg("GET").arg(name), deadline, |value| {
        Vec::<String>::from_redis_value(value).ok()?.into_iter().nth(1)
    })
}

/// A section of INFO of the first master; `None` if the user may not ask, or nobody answers.
pub(super) fn info(redis: &Retrying, section: &str, deadline: Instant) -> Option<String> {
    info_of(redis, redis.transport.masters(deadline).ok()?.first()?, section, deadline).ok()?
}

/// The same for a setting.
pub(super) fn config_value(redis: &Retrying, name: &str, deadline: Instant) -> Option<String> {
    setting_of(redis, redis.transport.masters(deadline).ok()?.first()?, name, deadline).ok()?
}

/// What a section of INFO says of this.
pub(super) fn of_info(info: &str, name: &str) -> Option<String> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(|value| value.trim().to_owned()))
}

fn asked(
    redis: &Retrying,
    master: &Master,
    command: &Cmd,
    deadline: Instant,
    read: impl FnOnce(redis::Value) -> Option<String>,
) -> Attempt<Option<String>> {
    match redis.transport.query_at(master.as_ref(), command, deadline) {
        Ok(value) => Ok(read(value)),
        // Denied, renamed or disabled; not one that is busy or loading, which will tell later.
        Err(failure @ Failure::Refused(_)) if !failure.is_passing() => Ok(None),
        Err(failure) => Err(failure),
    }
}
