//! Global locks of commands.

use super::{Service, check_json, unreadable};
use crate::domain::limits::{MAX_KEY_BYTES, MAX_LOCK_BYTES, limit};
use crate::domain::lock::check_command_lock;
use crate::error::{Code, Error, Result};
use crate::operation::Operation;
use crate::store::{Grant, Granted, LockKey, Release};

impl Service {
    /// Takes the global lock of a command; `lock` is a `command.Lock` in JSON.
    pub fn lock_command(&self, name: &str, lock: &[u8]) -> Result<Granted> {
        self.granting(Operation::LockCommand, |store, call| {
            limit("a command lock", lock.len(), MAX_LOCK_BYTES)?;
            let key = command_key(name)?;
            check_command_lock(lock)?;
            let grant = Grant { key, lock: None, value: lock, in_order: false };
            self.intend(Operation::LockCommand, call, |event| event.about(key))?;
            let granted = store.grant(&grant, call).and_then(|granted| {
                if let Granted::Held { value } = &granted {
                    check_json(value).map_err(|e| unreadable(&key, &e))?;
                }
                Ok(granted)
            });
            self.audited(Operation::LockCommand, call, granted, |trail, granted| trail.grant(&grant, granted.as_ref(), None))
        })
    }

    /// Releases the global lock of a command and returns it; `None` if there is none.
    pub fn unlock_command(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.run(Operation::UnlockCommand, |store, call| {
            let release = Release { key: command_key(name)?, fields: None, pull_num: None, value: None };
            self.release(Operation::UnlockCommand, &release, store, call)
        })
    }

    /// The global lock of a command, or `None`.
    pub fn check_command_lock(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.run(Operation::CheckCommandLock, |store, call| {
            let key = command_key(name)?;
            let value = store.get(key, call)?;
            if let Some(value) = &value {
                check_json(value).map_err(|e| unreadable(&key, &e))?;
            }
            Ok(value)
        })
    }
}

fn command_key(name: &str) -> Result<LockKey<'_>> {
    limit("a command's name", name.len(), MAX_KEY_BYTES)?;
    if name.is_empty() {
        return Err(Error::new(Code::InvalidArgument, "the command's name is empty"));
    }
    Ok(LockKey::Command(name))
}
