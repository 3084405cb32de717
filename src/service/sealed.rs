//! The store that answers, with the credentials of all values sealed below it and open above (`crate::sealing::credentials`).
//!
//! Invariant: what stands below, whichever stores, their copies, journals, scripts and comparisons, sees one and the same bytes of a value:
//! those with sealed credentials. What stands above sees what Atlantis gave, byte for byte.
//!
//! A caller's bytes that are compared with stored ones ([`Expected::Bytes`], [`Release::value`]) mean a value as it is *opened*: what is
//! stored may be sealed under a key of before, or not at all, because stock or a server without a key wrote it. So a comparison that fails is
//! made again with the bytes that are there, if these open to what was meant; between the two nobody can put another value in their place
//! unnoticed, since the second one compares, too.
//!
//! Faults and their ends: a form that does not open is handed out as it stands, and goes back as it stands. So a server without the key
//! lists, swaps and releases; the status warns. No lock is lost or kept by a key.
//!
//! Values are opened wherever they may be sealed: also in a store that is sealed itself, since a migration moves them as they are.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use crate::call::Call;
use crate::config::Config;
use crate::domain::limits::{MAX_LOCK_BYTES, MAX_PULL_STATUS_BYTES, limit};
use crate::domain::lock::PullRef;
use crate::error::Result;
use crate::mode::Router;
use crate::queue::Gate;
use crate::sealing::credentials::{self, Closed};
use crate::sealing::{CredentialKeys, MasterKeys};
use crate::shadow::Tapped;
use crate::store::{DocumentKey, Expected, Grant, Granted, Held, Listing, LockInfo, LockKey, Release, Store, Swap};
use crate::sync::Mutex;

/// The store that answers, and the shadow that hears of it, behind sealed credentials.
#[derive(Debug)]
pub(super) struct Sealed {
    router: Arc<Router>,
    shadow: Arc<OnceLock<Tapped>>,
    keys: Option<CredentialKeys>,
    /// Whether what is written is sealed: there is a key, and a store that does not seal whole records.
    seals: bool,
    closed: Mutex<Closed>,
}

impl Sealed {
    pub fn new(router: Arc<Router>, shadow: Arc<OnceLock<Tapped>>, config: &Config) -> Sealed {
        let keys = router.credential_keys().cloned();
        let seals = keys.is_some() && config.has_open_store();
        Sealed { router, shadow, keys, seals, closed: Mutex::default() }
    }

    /// What did not open.
    pub fn warning(&self) -> Option<String> {
        self.closed.lock().warning(self.keys())
    }

    fn below(&self) -> &dyn Store {
        match self.shadow.get() {
            Some(tapped) => tapped,
            None => self.router.store(),
        }
    }

    fn keys(&self) -> Option<&CredentialKeys> {
        self.keys.as_ref()
    }

    fn seal<'a>(&self, value: &'a [u8]) -> Result<Cow<'a, [u8]>> {
        match self.keys().filter(|_| self.seals) {
            Some(keys) => credentials::sealed(value, keys),
            None => Ok(Cow::Borrowed(value)),
        }
    }

    fn open(&self, value: Vec<u8>) -> Vec<u8> {
        let mut closed = Closed::default();
        let opened = match credentials::opened(&value, self.keys(), &mut closed) {
            Cow::Owned(opened) => Some(opened),
            Cow::Borrowed(_) => None,
        };
        if closed.count() > 0 {
            self.closed.lock().add(&closed);
        }
        opened.unwrap_or(value)
    }

    fn open_all(&self, listing: Listing) -> Listing {
        if !listing.values().any(credentials::may_be_sealed) {
            return listing;
        }
        listing.with_values(|value| self.open(value.to_vec()))
    }

    /// Whether stored bytes mean this value, though they are other ones than it was sealed to.
    fn means(&self, stored: &[u8], sealed: &[u8], plain: &[u8]) -> bool {
        stored != sealed && credentials::opened(stored, self.keys(), &mut Closed::default()) == plain
    }
}

impl Store for Sealed {
    fn grant(&self, grant: &Grant<'_>, call: &Call) -> Result<Granted> {
        let value = self.seal(grant.value)?;
        limit("a lock with sealed credentials", value.len(), MAX_LOCK_BYTES)?;
        let granted = self.below().grant(&Grant { value: &value, ..*grant }, call)?;
        Ok(match granted {
            Granted::Held { value } => Granted::Held { value: self.open(value) },
            Granted::Yes { .. } | Granted::NotYet => granted,
        })
    }

    fn release(&self, release: &Release<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        let open = |released: Option<Vec<u8>>| released.map(|value| self.open(value));
        let Some(plain) = release.value else { return self.below().release(release, call).map(open) };
        let sealed = self.seal(plain)?;
        let released = self.below().release(&Release { value: Some(&sealed), ..*release }, call)?;
        if released.is_some() || self.keys().is_none() || !credentials::has_credentials(plain) {
            return Ok(open(released));
        }
        match self.below().get(release.key, &further(call, "stored"))? {
            Some(stored) if self.means(&stored, &sealed, plain) => {
                let meant = Release { value: Some(&stored), ..*release };
                self.below().release(&meant, &further(call, "meant")).map(open)
            }
            _ => Ok(None),
        }
    }

    fn discard(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        Ok(self.below().discard(key, call)?.map(|value| self.open(value)))
    }

    fn get(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        Ok(self.below().get(key, call)?.map(|value| self.open(value)))
    }

    fn list(&self, call: &Call) -> Result<Listing> {
        self.below().list(call).map(|listing| self.open_all(listing))
    }

    fn lock_info(&self, key: LockKey<'_>, call: &Call) -> Result<Option<LockInfo>> {
        self.below().lock_info(key, call)
    }

    fn release_by_pull(&self, pull: PullRef<'_>, call: &Call) -> Result<Listing> {
        self.below().release_by_pull(pull, call).map(|listing| self.open_all(listing))
    }

    fn document(&self, key: DocumentKey<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        Ok(self.below().document(key, call)?.map(|document| self.open(document)))
    }

    fn swap_document(&self, key: DocumentKey<'_>, expected: Expected<'_>, new: Option<&[u8]>, call: &Call) -> Result<Swap> {
        let new = new.map(|new| self.seal(new)).transpose()?;
        let new = new.as_deref();
        if let (DocumentKey::PullStatus(_), Some(new)) = (key, new) {
            limit("a pull status with sealed credentials", new.len(), MAX_PULL_STATUS_BYTES)?;
        }
        let open = |swap| match swap {
            Swap::Conflict(current) => Swap::Conflict(current.map(|current| self.open(current))),
            Swap::Done => Swap::Done,
        };
        let Expected::Bytes(plain) = expected else { return self.below().swap_document(key, expected, new, call).map(open) };
        let sealed = self.seal(plain)?;
        match self.below().swap_document(key, Expected::Bytes(&sealed), new, call)? {
            Swap::Conflict(Some(stored)) if self.means(&stored, &sealed, plain) => {
                let again = further(call, "meant");
                let swap = self.below().swap_document(key, Expected::Bytes(&stored), new, &again);
                again.answered_by().into_iter().for_each(|by| call.answered(by));
                swap.map(open)
            }
            swap => Ok(open(swap)),
        }
    }

    fn queues(&self, call: &Call) -> Result<Vec<String>> {
        self.below().queues(call)
    }

    fn held(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Held>> {
        Ok(self.below().held(key, call)?.map(|held| Held { value: self.open(held.value), ..held }))
    }

    fn set_gate(&self, key: &str, revision: u64, gate: &Gate, call: &Call) -> Result<bool> {
        self.below().set_gate(key, revision, gate, call)
    }

    fn ping(&self, call: &Call) -> Result<()> {
        self.below().ping(call)
    }

    fn warnings(&self) -> Vec<String> {
        self.below().warnings().into_iter().chain(self.warning()).collect()
    }

    fn check_keys(&self, masters: Option<&MasterKeys>) -> Result<()> {
        self.below().check_keys(masters)
    }

    fn close(&self) -> Result<()> {
        self.below().close()
    }
}

/// A further change or question of the same caller.
fn further(call: &Call, suffix: &str) -> Call {
    Call::new(call.request.derived(suffix), call.deadline)
}

#[cfg(test)]
mod tests;
