//! What the service is asked for, and how that ended: the words of metrics and audit trail.

use crate::error::Code;

/// An operation of the service, as the label `operation` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `try_lock`
    TryLock,
    /// `unlock`, also that of a pull's own lock
    Unlock,
    /// `list`
    List,
    /// `get_lock`
    GetLock,
    /// `unlock_by_pull`
    UnlockByPull,
    /// `lock_command`
    LockCommand,
    /// `unlock_command`
    UnlockCommand,
    /// `check_command_lock`
    CheckCommandLock,
    /// `pull_status`
    PullStatus,
    /// `swap_pull_status`
    SwapPullStatus,
    /// `discard`
    Discard,
    /// `ping`
    Ping,
    /// `lock_info`
    LockInfo,
    /// `lock`: a caller who waits
    Lock,
    /// `position`
    Position,
    /// `queues`
    Queues,
    /// `leave`
    Leave,
    /// `check`
    Check,
    /// `explain`, of a key or a pull
    Explain,
    /// `freeze`
    Freeze,
    /// `thaw`
    Thaw,
    /// `freezes`
    Freezes,
    /// `deadlocks`
    Deadlocks,
    /// `end_deadlock`
    EndDeadlock,
    /// `tell_deadlock`
    TellDeadlock,
    /// `next`: whose turn it is
    Next,
}

/// Each operation with its name, in the order of their numbers.
pub(crate) const OPERATIONS: [(Operation, &str); 26] = [
    (Operation::TryLock, "try_lock"),
    (Operation::Unlock, "unlock"),
    (Operation::List, "list"),
    (Operation::GetLock, "get_lock"),
    (Operation::UnlockByPull, "unlock_by_pull"),
    (Operation::LockCommand, "lock_command"),
    (Operation::UnlockCommand, "unlock_command"),
    (Operation::CheckCommandLock, "check_command_lock"),
    (Operation::PullStatus, "pull_status"),
    (Operation::SwapPullStatus, "swap_pull_status"),
    (Operation::Discard, "discard"),
    (Operation::Ping, "ping"),
    (Operation::LockInfo, "lock_info"),
    (Operation::Lock, "lock"),
    (Operation::Position, "position"),
    (Operation::Queues, "queues"),
    (Operation::Leave, "leave"),
    (Operation::Check, "check"),
    (Operation::Explain, "explain"),
    (Operation::Freeze, "freeze"),
    (Operation::Thaw, "thaw"),
    (Operation::Freezes, "freezes"),
    (Operation::Deadlocks, "deadlocks"),
    (Operation::EndDeadlock, "end_deadlock"),
    (Operation::TellDeadlock, "tell_deadlock"),
    (Operation::Next, "next"),
];

impl Operation {
    /// Its name, as in the label `operation`.
    pub fn name(self) -> &'static str {
        OPERATIONS[self as usize].1
    }
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// As asked, or there was nothing to do.
    Ok,
    /// A grant, and the lock is held; or what the settings switch off.
    Refused,
    /// With an error of this code.
    Error(Code),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_stand_in_the_order_of_their_numbers() {
        for (at, (operation, _)) in OPERATIONS.iter().enumerate() {
            assert_eq!(*operation as usize, at);
        }
    }
}
