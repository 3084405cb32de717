//! The store that decides, with a shadow that hears of what it is asked.

use std::sync::Arc;

use super::observed::{Answer, Asked, Said};
use super::tell::Shadow;
use crate::call::Call;
use crate::domain::lock::PullRef;
use crate::error::Result;
use crate::mode::Router;
use crate::queue::Gate;
use crate::store::contract::local::{EntryKey, Held};
use crate::store::{DocumentKey, Expected, Grant, Granted, Listing, LockInfo, LockKey, OwnedExpected, Release, Store, Swap};

/// The store that decides: its answers are the answers.
#[derive(Debug)]
pub struct Tapped {
    router: Arc<Router>,
    shadow: Shadow,
}

impl Tapped {
    /// This store, heard by this shadow.
    pub fn new(router: Arc<Router>, shadow: Shadow) -> Tapped {
        Tapped { router, shadow }
    }

    /// The shadow.
    pub fn shadow(&self) -> &Shadow {
        &self.shadow
    }

    /// All locks for the shadow itself, which is to be filled.
    pub fn fill(&self, call: &Call) -> Result<()> {
        self.list_for(true, call).map(drop)
    }

    fn list_for(&self, fill: bool, call: &Call) -> Result<Listing> {
        self.told(Asked::List { fill, fragile: false }, |store| store.list(call), |locks| Answer::Locks(locks.clone()))
    }

    fn told<T>(&self, asked: Asked, ask: impl FnOnce(&dyn Store) -> Result<T>, answer: impl FnOnce(&T) -> Answer) -> Result<T> {
        let ticket = self.shadow.begin(asked);
        let decided = ask(self.decides());
        ticket.end(decided.as_ref().map_or(Answer::NotKnown, answer));
        decided
    }

    fn decides(&self) -> &dyn Store {
        self.router.store()
    }
}

fn was(value: &Option<Vec<u8>>) -> Answer {
    Answer::Was(Said::of(value.clone()))
}

impl Store for Tapped {
    fn grant(&self, grant: &Grant<'_>, call: &Call) -> Result<Granted> {
        let asked = Asked::Grant { key: grant.key.into(), value: grant.value.to_vec() };
        self.told(
            asked,
            |store| store.grant(grant, call),
            |granted| match granted {
                Granted::Yes { .. } => Answer::Granted,
                Granted::Held { value } => Answer::Held(Said::This(value.clone())),
                Granted::NotYet => Answer::Kept,
            },
        )
    }

    fn release(&self, release: &Release<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        let asked = Asked::Release { key: release.key.into(), only_if: release.into() };
        self.told(asked, |store| store.release(release, call), was)
    }

    fn discard(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        self.told(Asked::Discard(key.into()), |store| store.discard(key, call), was)
    }

    fn get(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        self.told(Asked::Get(key.into()), |store| store.get(key, call), was)
    }

    fn list(&self, call: &Call) -> Result<Listing> {
        self.list_for(false, call)
    }

    fn release_by_pull(&self, pull: PullRef<'_>, call: &Call) -> Result<Listing> {
        let asked = Asked::ReleaseByPull { repo: pull.repo.to_owned(), num: pull.num };
        self.told(asked, |store| store.release_by_pull(pull, call), |locks| Answer::Locks(locks.clone()))
    }

    fn document(&self, key: DocumentKey<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        match key {
            DocumentKey::PullStatus(_) => self.told(Asked::Get(key.into()), |store| store.document(key, call), was),
            // Who is next is decided once.
            DocumentKey::Queue(_) | DocumentKey::Freezes => self.decides().document(key, call),
        }
    }

    fn swap_document(&self, key: DocumentKey<'_>, expected: Expected<'_>, new: Option<&[u8]>, call: &Call) -> Result<Swap> {
        let swap = |store: &dyn Store| store.swap_document(key, expected, new, call);
        if !matches!(key, DocumentKey::PullStatus(_)) {
            return swap(self.decides());
        }
        let asked =
            Asked::Swap { key: EntryKey::from(key), expected: OwnedExpected::from(expected), new: new.map(<[u8]>::to_vec) };
        self.told(asked, swap, |swapped| match swapped {
            Swap::Done => Answer::Swapped,
            Swap::Conflict(current) => was(current),
        })
    }

    fn lock_info(&self, key: LockKey<'_>, call: &Call) -> Result<Option<LockInfo>> {
        self.decides().lock_info(key, call)
    }

    fn queues(&self, call: &Call) -> Result<Vec<String>> {
        self.decides().queues(call)
    }

    fn held(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Held>> {
        self.decides().held(key, call)
    }

    fn set_gate(&self, key: &str, revision: u64, gate: &Gate, call: &Call) -> Result<bool> {
        self.decides().set_gate(key, revision, gate, call)
    }

    fn ping(&self, call: &Call) -> Result<()> {
        self.decides().ping(call)
    }

    fn warnings(&self) -> Vec<String> {
        self.decides().warnings()
    }

    fn close(&self) -> Result<()> {
        self.decides().close()
    }
}
