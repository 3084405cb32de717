//! The disk: a tree of folders and files, what a crash makes of it, and what people do to it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::file::{Chance, File};

/// What is in a folder, by the paths from there; `None` is a folder.
pub(crate) type Image = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// Number of the root folder.
const ROOT: usize = 0;

/// A disk. Safe from any thread; whoever holds its lock waits for nobody.
#[derive(Debug)]
pub(crate) struct Disk(Mutex<State>);

#[derive(Debug)]
pub(super) struct State {
    nodes: Vec<Node>,
    /// Most bytes that files may have together.
    capacity: Option<usize>,
    processes: Vec<Arc<AtomicBool>>,
    /// Who has each file's lock.
    locks: BTreeMap<usize, Lock>,
    handles: u64,
}

#[derive(Debug)]
enum Node {
    File(File),
    Folder(Folder),
}

#[derive(Debug, Default)]
struct Folder {
    /// What a reader sees.
    now: BTreeMap<OsString, usize>,
    /// What is durable.
    base: BTreeMap<OsString, usize>,
    /// What was done since.
    steps: Vec<Step>,
}

#[derive(Clone, Debug)]
enum Step {
    Add(OsString, usize),
    Remove(OsString),
    Rename(OsString, OsString),
}

#[derive(Debug, Default)]
pub(super) struct Lock {
    pub(super) exclusive: Option<u64>,
    pub(super) shared: BTreeSet<u64>,
}

impl Step {
    fn make(&self, names: &mut BTreeMap<OsString, usize>) {
        match self {
            Step::Add(name, node) => drop(names.insert(name.clone(), *node)),
            Step::Remove(name) => drop(names.remove(name)),
            Step::Rename(from, to) => {
                if let Some(node) = names.remove(from) {
                    names.insert(to.clone(), node);
                }
            }
        }
    }
}

impl Folder {
    fn step(&mut self, step: Step) {
        step.make(&mut self.now);
        self.steps.push(step);
    }

    fn sync(&mut self) {
        self.base = self.now.clone();
        self.steps.clear();
    }

    fn crash(&mut self, chance: Chance<'_>) {
        let count = usize::try_from(chance(self.steps.len() as u64 + 1)).expect("is small");
        for step in self.steps.drain(..).take(count) {
            step.make(&mut self.base);
        }
        self.now = self.base.clone();
    }
}

impl Disk {
    /// An empty one.
    pub(crate) fn new() -> Arc<Disk> {
        Arc::new(Disk(Mutex::new(State {
            nodes: vec![Node::Folder(Folder::default())],
            capacity: None,
            processes: Vec::new(),
            locks: BTreeMap::new(),
            handles: 0,
        })))
    }

    /// The machine loses power: every process dies, and of what was not synced any part is lost.
    pub(crate) fn crash(&self, chance: Chance<'_>) {
        let mut state = self.0.lock();
        state.end_processes();
        // By number, so that chance repeats.
        for node in &mut state.nodes {
            match node {
                Node::File(file) => file.crash(chance),
                Node::Folder(folder) => folder.crash(chance),
            }
        }
        state.sweep();
    }

    /// Every process dies; what they had written is kept.
    pub(crate) fn kill(&self) {
        let mut state = self.0.lock();
        state.end_processes();
        state.sweep();
    }

    /// From now on files may have this many bytes together.
    pub(crate) fn limit(&self, capacity: Option<usize>) {
        self.0.lock().capacity = capacity;
    }

    /// How many bytes the files have.
    pub(crate) fn used(&self) -> usize {
        self.0.lock().used()
    }

    /// A copy of a folder as a reader sees it; empty if there is none.
    pub(crate) fn image(&self, dir: &Path) -> Image {
        let state = self.0.lock();
        let mut image = Image::new();
        if let Ok(node) = state.resolve(dir) {
            state.collect(node, Path::new(""), &mut image);
        }
        image
    }

    /// Puts a copy in a folder's place, durably. Nobody may use it.
    pub(crate) fn restore(&self, dir: &Path, image: &Image) {
        let mut state = self.0.lock();
        let (parent, name) = state.parent(dir).expect("the folder above is there");
        let made = state.make_durable(image, Path::new(""));
        let folder = state.folder(parent).expect("a folder");
        folder.step(Step::Add(name, made));
        folder.sync();
    }

    /// Flips bits of one byte of one file below this path, also of the file that it is. Which file; `None` if there is no byte.
    pub(crate) fn damage(&self, path: &Path, chance: Chance<'_>) -> Option<PathBuf> {
        let image = match self.image(path) {
            image if image.is_empty() => return None,
            image => image.into_iter().filter_map(|(name, bytes)| Some((name, bytes?.len()))),
        };
        let files: Vec<_> = image.filter(|(_, length)| *length > 0).collect();
        let total: usize = files.iter().map(|(_, length)| length).sum();
        let mut at = usize::try_from(chance(total.max(1) as u64)).ok()?;
        for (name, length) in files {
            if at < length {
                let path = if name.as_os_str().is_empty() { path.to_owned() } else { path.join(name) };
                let bits = 1 << chance(8);
                let mut state = self.0.lock();
                let node = state.resolve(&path).ok()?;
                state.file(node).ok()?.damage(at, bits);
                return Some(path);
            }
            at -= length;
        }
        None
    }

    pub(super) fn state(&self) -> parking_lot::MutexGuard<'_, State> {
        self.0.lock()
    }
}

impl State {
    pub(super) fn add_process(&mut self, is_alive: Arc<AtomicBool>) {
        self.processes.push(is_alive);
    }

    fn end_processes(&mut self) {
        self.processes.drain(..).for_each(|is_alive| is_alive.store(false, Ordering::SeqCst));
        self.locks.clear();
    }

    /// A number that no other handle has.
    pub(super) fn next_handle(&mut self) -> u64 {
        self.handles += 1;
        self.handles
    }

    pub(super) fn lock_of(&mut self, node: usize) -> &mut Lock {
        self.locks.entry(node).or_default()
    }

    /// What has a name, or had one since the last sync, so that a crash may bring it back.
    fn reachable(&self) -> BTreeSet<usize> {
        let (mut found, mut next) = (BTreeSet::from([ROOT]), vec![ROOT]);
        while let Some(node) = next.pop() {
            if let Node::Folder(folder) = &self.nodes[node] {
                let added = folder.steps.iter().filter_map(|step| match step {
                    Step::Add(_, node) => Some(node),
                    _ => None,
                });
                next.extend(folder.base.values().chain(added).filter(|node| found.insert(**node)));
            }
        }
        found
    }

    /// Nobody has a file open: what has no name is gone.
    fn sweep(&mut self) {
        let kept = self.reachable();
        for (number, node) in self.nodes.iter_mut().enumerate() {
            if !kept.contains(&number) {
                *node = Node::File(File::default());
            }
        }
    }

    fn used(&self) -> usize {
        let length = |node: usize| match &self.nodes[node] {
            Node::File(file) => file.bytes().len(),
            Node::Folder(_) => 0,
        };
        self.reachable().into_iter().map(length).sum()
    }

    /// How many of `wanted` more bytes there is room for.
    pub(super) fn room_for(&self, wanted: usize) -> usize {
        self.capacity.map_or(wanted, |capacity| wanted.min(capacity.saturating_sub(self.used())))
    }

    /// The most bytes that are free.
    pub(super) fn free(&self) -> usize {
        self.room_for(usize::MAX)
    }

    pub(super) fn resolve(&self, path: &Path) -> io::Result<usize> {
        let mut node = ROOT;
        for part in path.components() {
            if let Component::Normal(name) = part {
                let Node::Folder(folder) = &self.nodes[node] else { return Err(ErrorKind::NotADirectory.into()) };
                node = *folder.now.get(name).ok_or(ErrorKind::NotFound)?;
            }
        }
        Ok(node)
    }

    /// The folder above, and the name in it.
    pub(super) fn parent(&self, path: &Path) -> io::Result<(usize, OsString)> {
        let name = path.file_name().ok_or(ErrorKind::InvalidInput)?;
        let parent = self.resolve(path.parent().unwrap_or(Path::new("/")))?;
        match &self.nodes[parent] {
            Node::Folder(_) => Ok((parent, name.to_owned())),
            Node::File(_) => Err(ErrorKind::NotADirectory.into()),
        }
    }

    /// Its length; `None` for a folder.
    pub(super) fn length(&self, node: usize) -> Option<usize> {
        match &self.nodes[node] {
            Node::File(file) => Some(file.bytes().len()),
            Node::Folder(_) => None,
        }
    }

    pub(super) fn file(&mut self, node: usize) -> io::Result<&mut File> {
        match &mut self.nodes[node] {
            Node::File(file) => Ok(file),
            Node::Folder(_) => Err(ErrorKind::IsADirectory.into()),
        }
    }

    fn folder(&mut self, node: usize) -> io::Result<&mut Folder> {
        match &mut self.nodes[node] {
            Node::Folder(folder) => Ok(folder),
            Node::File(_) => Err(ErrorKind::NotADirectory.into()),
        }
    }

    pub(super) fn list(&self, dir: &Path) -> io::Result<Vec<(OsString, bool)>> {
        match &self.nodes[self.resolve(dir)?] {
            Node::Folder(folder) => {
                Ok(folder.now.iter().map(|(name, node)| (name.clone(), self.length(*node).is_none())).collect())
            }
            Node::File(_) => Err(ErrorKind::NotADirectory.into()),
        }
    }

    fn add(&mut self, path: &Path, node: Node) -> io::Result<usize> {
        let (parent, name) = self.parent(path)?;
        self.nodes.push(node);
        let number = self.nodes.len() - 1;
        self.folder(parent)?.step(Step::Add(name, number));
        Ok(number)
    }

    /// The file at this path, made if it is missing.
    pub(super) fn create(&mut self, path: &Path) -> io::Result<usize> {
        match self.resolve(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => self.add(path, Node::File(File::default())),
            found => found.and_then(|node| self.file(node).map(|_| node)),
        }
    }

    pub(super) fn create_dir(&mut self, dir: &Path) -> io::Result<()> {
        if self.resolve(dir).is_ok() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        self.add(dir, Node::Folder(Folder::default())).map(drop)
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        self.resolve(path)?;
        self.folder(parent)?.step(Step::Remove(name));
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let (moved, (parent, from), (parent_to, to_name)) = (self.resolve(from)?, self.parent(from)?, self.parent(to)?);
        if parent != parent_to {
            return Err(ErrorKind::CrossesDevices.into());
        }
        if let Ok(target) = self.resolve(to) {
            match (&self.nodes[moved], &self.nodes[target]) {
                (Node::File(_), Node::File(_)) => {}
                (Node::Folder(_), Node::Folder(there)) if there.now.is_empty() => {}
                (Node::Folder(_), Node::Folder(_)) => return Err(ErrorKind::DirectoryNotEmpty.into()),
                _ => return Err(ErrorKind::NotADirectory.into()),
            }
        }
        self.folder(parent)?.step(Step::Rename(from, to_name));
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        let node = self.resolve(dir)?;
        self.folder(node)?.sync();
        Ok(())
    }

    /// What is below a folder, each entry before the folder that it is in.
    pub(super) fn below(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for (name, is_dir) in self.list(dir)? {
            let path = dir.join(name);
            if is_dir {
                found.extend(self.below(&path)?);
            }
            found.push(path);
        }
        Ok(found)
    }

    fn collect(&self, node: usize, path: &Path, image: &mut Image) {
        match &self.nodes[node] {
            Node::File(file) => drop(image.insert(path.to_owned(), Some(file.bytes().to_vec()))),
            Node::Folder(folder) => {
                image.insert(path.to_owned(), None);
                folder.now.iter().for_each(|(name, node)| self.collect(*node, &path.join(name), image));
            }
        }
    }

    fn make_durable(&mut self, image: &Image, path: &Path) -> usize {
        let node = match image.get(path) {
            Some(Some(bytes)) => Node::File(File::durable(bytes.clone())),
            _ => {
                let names: Vec<&OsStr> =
                    image.keys().filter(|below| below.parent() == Some(path)).filter_map(|below| below.file_name()).collect();
                let made: BTreeMap<_, _> =
                    names.into_iter().map(|name| (name.to_owned(), self.make_durable(image, &path.join(name)))).collect();
                Node::Folder(Folder { now: made.clone(), base: made, steps: Vec::new() })
            }
        };
        self.nodes.push(node);
        self.nodes.len() - 1
    }
}
