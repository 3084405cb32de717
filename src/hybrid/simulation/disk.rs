//! The servers' disks: the real embedded store runs on each (`store::sled::simulated`).
//!
//! Each operation gives way, so that whatever else may happen at a write does. A disk is late, fails, does half of what it was asked for,
//! or is full; a process's death leaves what it wrote, a machine's any part of what was not synced; and somebody may put an older copy
//! of the folder back while the server is down.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use super::random::Random;
use super::world::World;
use crate::clock::Clock;
use crate::sealing::MasterKeys;
use crate::store::sled::SledStore;
use crate::store::sled::simulated::{Disk, Fate, Image, Operation, What};
use crate::sync::{mark, tasks};

/// Where each server's store is.
pub(crate) const FOLDER: &str = "/locks";

pub(crate) struct Disks {
    disks: Vec<Arc<Disk>>,
    pub(crate) may_fail: AtomicBool,
    /// How the next write ends.
    pub(crate) next: Mutex<Option<Trouble>>,
    /// A copy of each folder, and what everybody knew when it was made.
    copies: Mutex<Vec<Option<(Image, String)>>>,
}

/// What a disk does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It takes so long.
    Late(Duration),
    /// It fails, and has done this much (255: all).
    Fails(ErrorKind, u8),
}

impl Disks {
    pub(crate) fn new(count: usize, may_fail: bool) -> Disks {
        Disks {
            disks: (0..count).map(|_| Disk::new()).collect(),
            may_fail: AtomicBool::new(may_fail),
            next: Mutex::default(),
            copies: Mutex::new(vec![None; count]),
        }
    }

    /// The store on this disk, for a new process.
    pub(crate) fn open(world: &Arc<World>, me: usize) -> crate::error::Result<SledStore> {
        let hook = hook(Arc::downgrade(world), me);
        let process = world.disks.disks[me].process(hook);
        let masters = MasterKeys::parse("ab".repeat(32).as_bytes(), "the simulation")?;
        let masters = world.plan.sealed.then_some(&masters);
        SledStore::open_on(Arc::new(process), Path::new(FOLDER), world.machine(me), Arc::new(|_| Ok(())), masters)
    }

    /// Nothing that the server's process still does reaches the disk. The machine goes down with it, or does not.
    pub(crate) fn crash(&self, me: usize, random: &Random) {
        if random.percent(50) {
            mark!("fault: a machine loses power");
            self.disks[me].crash(&mut |end| random.below(end));
        } else {
            mark!("fault: a process dies");
            self.disks[me].kill();
        }
    }

    /// Nothing that is still done reaches any disk.
    pub(crate) fn end(&self) {
        self.disks.iter().for_each(|disk| disk.kill());
    }

    /// Whether a store was created there.
    pub(crate) fn has_store(&self, me: usize) -> bool {
        let image = self.disks[me].image(Path::new(FOLDER));
        ["format.json", "sled"].iter().any(|name| image.contains_key(Path::new(name)))
    }

    /// While the server is down, somebody copies the folder, or puts a copy back. The latter only if nobody was told of any change since:
    /// more is not allowed (docs/reliability.md). The server may have been up meanwhile.
    pub(crate) fn copy_or_put_back(world: &World, me: usize) {
        let (folder, known) = (Path::new(FOLDER), format!("{:?} {:?}", world.oracle().without_time(), world.entries()));
        let (disk, mut copies) = (&world.disks.disks[me], world.disks.copies.lock());
        match &copies[me] {
            Some((image, then)) if *then == known => {
                disk.restore(folder, image);
                drop(copies);
                world.say(|| format!("{me}: an older copy of the folder is put back"));
                world.oracle().folder_is_older(world.host.content().entries.into_values());
            }
            _ => copies[me] = Some((disk.image(folder), known)).filter(|(image, _)| !image.is_empty()),
        }
    }

    fn fate(&self, random: &Random) -> Option<Trouble> {
        if let Some(trouble) = self.next.lock().take() {
            return Some(trouble);
        }
        if !self.may_fail.load(Ordering::SeqCst) || !random.percent(2) {
            return None;
        }
        let part = [0, 100, 200, u8::MAX][random.index(4)];
        Some(match random.below(10) {
            0..=5 => Trouble::Late(Duration::from_millis(random.below(4000))),
            6..=7 => Trouble::Fails(ErrorKind::StorageFull, part),
            _ => Trouble::Fails(ErrorKind::Other, part),
        })
    }
}

/// What happens at each operation of a process of this server.
fn hook(world: Weak<World>, me: usize) -> crate::store::sled::simulated::Hook {
    Arc::new(move |operation: &Operation<'_>| {
        let Some(world) = world.upgrade() else { return Fate::Done };
        if matches!(operation.what, What::Look | What::List | What::Read | What::Open) {
            return Fate::Done;
        }
        tasks::give_way();
        world.may_die(me);
        let Some(trouble) = world.disks.fate(&world.random) else { return Fate::Done };
        world.say(|| format!("  {me}: the disk at {:?} of {}: {trouble:?}", operation.what, operation.path.display()));
        match trouble {
            Trouble::Late(time) => {
                mark!("fault: a disk is late");
                world.clock.sleep(time);
                Fate::Done
            }
            Trouble::Fails(ErrorKind::StorageFull, part) => {
                mark!("fault: a disk is full", Fate::Fails(ErrorKind::StorageFull, part))
            }
            Trouble::Fails(kind, part) => mark!("fault: a disk fails", Fate::Fails(kind, part)),
        }
    })
}
