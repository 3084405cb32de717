//! Looking at a store without touching it.
//!
//! Invariant: whoever looks creates, announces, probes, moves, recovers, trims and changes nothing, on the disk or in Redis. A reader
//! ([`Reads`]) has no operation that changes, and [`ReadOnly`], which makes a [`Store`] of it, refuses each of them.

use super::contract::local::Held;
use super::{DocumentKey, Expected, Grant, Granted, Listing, LockInfo, LockKey, Release, Store, Swap};
use crate::call::Call;
use crate::domain::lock::PullRef;
use crate::error::{Code, Error, Result};
use crate::queue::Gate;

/// What can be read of a store: the half of [`Store`] that changes nothing.
pub trait Reads: Send + Sync + std::fmt::Debug {
    /// See [`Store::get`].
    fn get(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Vec<u8>>>;
    /// See [`Store::list`].
    fn list(&self, call: &Call) -> Result<Listing>;
    /// See [`Store::lock_info`].
    fn lock_info(&self, key: LockKey<'_>, call: &Call) -> Result<Option<LockInfo>>;
    /// See [`Store::document`].
    fn document(&self, key: DocumentKey<'_>, call: &Call) -> Result<Option<Vec<u8>>>;
    /// See [`Store::queues`].
    fn queues(&self, call: &Call) -> Result<Vec<String>>;
    /// See [`Store::held`].
    fn held(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Held>>;
    /// Whether the store answers; whether it could be written is not tried.
    fn ping(&self, call: &Call) -> Result<()>;
    /// See [`Store::warnings`].
    fn warnings(&self) -> Vec<String>;
    /// See [`Store::close`].
    fn close(&self) -> Result<()>;
}

/// A store that was opened to look at it. Every change is refused with an error of code `ReadOnly`.
#[derive(Debug)]
pub struct ReadOnly<R>(pub R);

impl<R: Reads> Store for ReadOnly<R> {
    fn grant(&self, grant: &Grant<'_>, _call: &Call) -> Result<Granted> {
        refuse(format!("{} cannot be taken", grant.key))
    }

    fn release(&self, release: &Release<'_>, _call: &Call) -> Result<Option<Vec<u8>>> {
        refuse(format!("{} cannot be released", release.key))
    }

    fn discard(&self, key: LockKey<'_>, _call: &Call) -> Result<Option<Vec<u8>>> {
        refuse(format!("{key} cannot be discarded"))
    }

    fn get(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        self.0.get(key, call)
    }

    fn list(&self, call: &Call) -> Result<Listing> {
        self.0.list(call)
    }

    fn lock_info(&self, key: LockKey<'_>, call: &Call) -> Result<Option<LockInfo>> {
        self.0.lock_info(key, call)
    }

    fn release_by_pull(&self, pull: PullRef<'_>, _call: &Call) -> Result<Listing> {
        refuse(format!("the locks of pull #{} of {:?} cannot be released", pull.num, pull.repo))
    }

    fn document(&self, key: DocumentKey<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        self.0.document(key, call)
    }

    fn swap_document(&self, key: DocumentKey<'_>, _expected: Expected<'_>, _new: Option<&[u8]>, _call: &Call) -> Result<Swap> {
        refuse(format!("the {key} cannot be replaced"))
    }

    fn queues(&self, call: &Call) -> Result<Vec<String>> {
        self.0.queues(call)
    }

    fn held(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Held>> {
        self.0.held(key, call)
    }

    fn set_gate(&self, key: &str, _revision: u64, _gate: &Gate, _call: &Call) -> Result<bool> {
        refuse(format!("the gate of {key:?} cannot be set"))
    }

    fn ping(&self, call: &Call) -> Result<()> {
        self.0.ping(call)
    }

    fn warnings(&self) -> Vec<String> {
        self.0.warnings()
    }

    fn close(&self) -> Result<()> {
        self.0.close()
    }
}

fn refuse<T>(what: String) -> Result<T> {
    Err(Error::new(Code::ReadOnly, format!("{what}: the store was opened only to look at it")))
}
