//! Stub.
use crate::clock::*;
use crate::error::*;
use crate::store::memory::MemoryStore;
use crate::store::*;
use std::sync::Arc;
/// Stub.
#[derive(Debug)]
pub struct SledStore(MemoryStore);
impl Store for SledStore {
    fn grant(&self, g: &Grant<'_>, c: &Call) -> Result<Granted> {
        self.0.grant(g, c)
    }
    fn release(&self, g: &Release<'_>, c: &Call) -> Result<Option<Vec<u8>>> {
        self.0.release(g, c)
    }
    fn discard(&self, g: LockKey<'_>, c: &Call) -> Result<Option<Vec<u8>>> {
        self.0.discard(g, c)
    }
    fn get(&self, g: LockKey<'_>, c: &Call) -> Result<Option<Vec<u8>>> {
        self.0.get(g, c)
    }
    fn list(&self, c: &Call) -> Result<Listing> {
        self.0.list(c)
    }
    fn release_by_pull(&self, p: PullRef<'_>, c: &Call) -> Result<Listing> {
        self.0.release_by_pull(p, c)
    }
    fn pull_status(&self, k: &str, c: &Call) -> Result<Option<Vec<u8>>> {
        self.0.pull_status(k, c)
    }
    fn swap_pull_status(&self, k: &str, e: Expected<'_>, n: Option<&[u8]>, c: &Call) -> Result<Swap> {
        self.0.swap_pull_status(k, e, n, c)
    }
    fn ping(&self, c: &Call) -> Result<()> {
        self.0.ping(c)
    }
    fn warnings(&self) -> Vec<String> {
        vec![]
    }
    fn close(&self) -> Result<()> {
        self.0.close()
    }
}
impl SledStore {
    /// Stub.
    pub fn open(_d: &std::path::Path, c: Arc<dyn Clock>) -> Result<SledStore> {
        Ok(SledStore(MemoryStore::new(c)))
    }
}
