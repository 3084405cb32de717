//! One attempt of one command, and how long a server may wait for its replicas.

use std::time::Duration;

use redis::Cmd;

use super::super::errors::Failure;

/// One attempt's result.
pub(in crate::store::redis) type Attempt<T> = Result<T, Failure>;

/// `WAIT`, for as long as there is time left.
pub(in crate::store::redis) fn wait_command(replicas: u32, left: Duration) -> Cmd {
    let millis = left.as_millis().saturating_sub(WAIT_MARGIN_MILLIS).max(1);
    let mut command = redis::cmd("WAIT");
    command.arg(replicas).arg(u64::try_from(millis).unwrap_or(u64::MAX));
    command
}

/// What is left of the deadline for taking an unconfirmed grant back.
const WAIT_MARGIN_MILLIS: u128 = 50;
