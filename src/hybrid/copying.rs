//! Writing to the host store what it lacks.
//!
//! Invariants:
//! - Before anything is written there, the local store has on its disk what the host store may have afterwards, values and mark; after
//!   it, what the host store has. A crash in between leaves nobody in doubt.
//! - An entry that the host store refuses keeps no other from being copied: a batch that fails is tried entry by entry, if the host
//!   store takes anything at all. What is refused is set aside and stays marked: it is tried again when its value changes, at the
//!   next start, and now and then (a full disk looks like a refusal).

use std::collections::BTreeMap;

use super::belief;
use crate::domain::lock::ProjectLock;
use crate::error::{Code, Error, Result};
use crate::store::contract::copy::HostWrite;
use crate::store::contract::local::{Change, EntryKey, HostCopy, HostLacks, LocalStore, digest};

/// Entries that one transaction of the host store takes.
const BATCH: usize = 500;
/// How many refused entries are named.
const MOST_NAMED: usize = 5;
/// How much of a key is shown, characters.
const SHOWN: usize = 80;

/// Writes to the host store; its answer.
pub(super) type Apply<'a> = &'a dyn Fn(&[HostWrite<'_>], Option<&str>) -> Result<()>;
/// Writes changes to the local store: waits for its disk.
pub(super) type Write<'a> = &'a dyn Fn(Vec<Change>) -> Result<()>;

/// What is needed to write to the host store.
pub(super) struct Copier<'a> {
    pub local: &'a dyn LocalStore,
    pub apply: Apply<'a>,
    pub write_here: Write<'a>,
    /// This server's name, for the mark. Without one the mark stays as it is: what others wrote since is still to be found.
    pub instance: Option<&'a str>,
}

/// Entries that are not tried with every batch.
#[derive(Debug, Default)]
pub(super) struct Aside {
    entries: BTreeMap<EntryKey, Refused>,
    /// While they are tried once more, those that were here before.
    before: BTreeMap<EntryKey, Refused>,
    /// How many were refused, for the first time, since the host store last took one.
    in_a_row: usize,
}

#[derive(Debug)]
struct Refused {
    /// Of the value that was refused.
    digest: Option<[u8; 32]>,
    /// For a person; `None` for what is nobody's lock, or left as it is, and never passed.
    text: Option<String>,
    /// Whether the value is a lock, which somebody holds.
    is_lock: bool,
}

impl Aside {
    /// What is said of the locks that the host store refused: whoever asks it finds them free.
    pub(super) fn refused_locks(&self) -> Vec<&str> {
        self.entries.values().filter(|refused| refused.is_lock).filter_map(|refused| refused.text.as_deref()).collect()
    }

    /// How many the host store refused.
    pub(super) fn refused(&self) -> usize {
        self.entries.values().filter(|refused| refused.text.is_some()).count()
    }

    /// Whether nothing is set aside.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The host store's answer, if it seems to take nothing at all: a full disk refuses entries, too.
    pub(super) fn failure(&self) -> Option<Error> {
        let newest = self.entries.values().find_map(|refused| refused.text.clone());
        newest.filter(|_| self.in_a_row > 1).map(|text| Error::new(Code::HostStore, text))
    }

    /// For a person.
    pub(super) fn texts(&self) -> Vec<String> {
        let mut texts: Vec<String> = self.entries.values().filter_map(|refused| refused.text.clone()).take(MOST_NAMED).collect();
        if self.refused() > texts.len() {
            texts.push(format!("the host store refuses {} entries more", self.refused() - texts.len()));
        }
        texts
    }

    fn has(&self, mark: &HostLacks) -> bool {
        is_in(&self.entries, mark)
    }

    /// The host store keeps what it has instead.
    pub(super) fn leave(&mut self, mark: &HostLacks) {
        self.put(mark, None);
    }

    fn put(&mut self, mark: &HostLacks, why: Option<&Error>) {
        let text = why.map(|why| {
            let size = mark.key.name().len() + mark.value.as_ref().map_or(0, Vec::len);
            format!(
                "the host store refuses the {} ({size} bytes), and lacks it: {}",
                shown(&mark.key),
                shortened(why.message(), 300)
            )
        });
        self.in_a_row += usize::from(text.is_some() && !is_in(&self.before, mark));
        let is_lock = mark.value.as_deref().is_some_and(|value| match mark.key {
            EntryKey::Project(_) => ProjectLock::parse(value).is_ok(),
            EntryKey::Command(_) => true,
            EntryKey::Status(_) | EntryKey::Queue(_) | EntryKey::Freezes => false,
        });
        self.entries.insert(mark.key.clone(), Refused { digest: mark.value.as_deref().map(digest), text, is_lock });
    }
}

fn is_in(entries: &BTreeMap<EntryKey, Refused>, mark: &HostLacks) -> bool {
    entries.get(&mark.key).is_some_and(|refused| refused.digest == mark.value.as_deref().map(digest))
}

/// A key for a person: others choose what stands in it.
fn shown(key: &EntryKey) -> String {
    let kind = match key {
        EntryKey::Project(_) => "lock",
        EntryKey::Command(_) => "command lock",
        EntryKey::Status(_) => "pull status",
        EntryKey::Queue(_) => "queue",
        EntryKey::Freezes => "freezes",
    };
    let start: String = key.name().chars().take(SHOWN).collect();
    format!("{kind} {}", shortened(&format!("{start:?}"), SHOWN))
}

fn shortened(text: &str, most: usize) -> String {
    if text.chars().nth(most).is_none() {
        return text.to_owned();
    }
    text.chars().take(most).chain(['…']).collect()
}

impl Copier<'_> {
    /// Copies what is lacking, with what was set aside.
    pub(super) fn copy_all(&self, aside: &mut Aside) -> Result<()> {
        aside.before = std::mem::take(&mut aside.entries);
        let copied = self.copy(aside);
        let before = std::mem::take(&mut aside.before);
        if copied.is_err() {
            for (key, refused) in before {
                aside.entries.entry(key).or_insert(refused);
            }
        }
        copied
    }

    /// Copies what is lacking, but for what is set aside.
    ///
    /// Errors: `HostStore` if the host store takes nothing, not even an empty change; those of the local store.
    pub(super) fn copy(&self, aside: &mut Aside) -> Result<()> {
        loop {
            let mut lacking = self.local.host_lacks(BATCH + aside.entries.len())?;
            lacking.retain(|mark| !aside.has(mark));
            // It takes no bytes that are not UTF-8.
            let is_text = |mark: &HostLacks| mark.value.as_ref().is_none_or(|value| std::str::from_utf8(value).is_ok());
            let (lacking, nobodys): (Vec<_>, Vec<_>) = lacking.into_iter().partition(is_text);
            nobodys.iter().for_each(|mark| aside.put(mark, None));
            if lacking.is_empty() && nobodys.is_empty() {
                return Ok(());
            }
            self.batch(&lacking, aside)?;
        }
    }

    fn batch(&self, lacking: &[HostLacks], aside: &mut Aside) -> Result<()> {
        if lacking.is_empty() {
            return Ok(());
        }
        match self.write(lacking) {
            Err(error) if error.code() == Code::HostStore => {}
            answer => return answer.inspect(|()| aside.in_a_row = 0),
        }
        // Is it the store, or an entry?
        self.write(&[])?;
        for mark in lacking {
            match self.write(std::slice::from_ref(mark)) {
                Err(error) if error.code() == Code::HostStore => aside.put(mark, Some(&error)),
                answer => answer.inspect(|()| aside.in_a_row = 0)?,
            }
        }
        Ok(())
    }

    /// One change of the host store; of nothing but its mark, if nothing is lacking.
    pub(super) fn write(&self, lacking: &[HostLacks]) -> Result<()> {
        let before = self.local.host_copy()?.unwrap_or_default();
        let seq = before.seq + 1;
        let changes = |change: fn(EntryKey, Option<[u8; 32]>) -> Change, copy: HostCopy| {
            let keys = lacking.iter().map(|mark| change(mark.key.clone(), mark.value.as_deref().map(digest)));
            keys.chain(self.instance.map(|_| Change::HostCopy(copy))).collect()
        };
        (self.write_here)(changes(Change::Copying, HostCopy { applying: true, ..before }))?;
        let writes: Vec<_> = lacking.iter().map(|mark| HostWrite { key: &mark.key, value: mark.value.as_deref() }).collect();
        (self.apply)(&writes, self.instance.map(|name| belief::mark(name, seq)).as_deref())?;
        (self.write_here)(changes(Change::Copied, HostCopy { seq, applying: false }))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use crate::sync::Mutex;

    use super::*;
    use crate::clock::SystemClock;
    use crate::store::contract::local::{Held, RedisRecord};
    use crate::store::sled::SledStore;
    use crate::store::sled::simulated::{Disk, Fate};

    fn key(name: &str) -> EntryKey {
        EntryKey::Project(format!("a/b/{name}/default/"))
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(30)
    }

    fn local(changes: Vec<Change>) -> SledStore {
        let process = Disk::new().process(Arc::new(|_| Fate::Done));
        let local = SledStore::open_on(Arc::new(process), Path::new("/locks"), Arc::new(SystemClock), Arc::new(|_| Ok(())), None)
            .unwrap();
        let all = [Change::Redis(RedisRecord::default()), Change::CopyBegins].into_iter().chain(changes).collect();
        local.submit(Vec::new(), all, soon()).unwrap().wait(soon()).unwrap();
        local
    }

    fn set(name: &str, value: &[u8]) -> Change {
        Change::Set(key(name), Some(Held { value: value.to_vec(), token: crate::domain::token::FencingToken::new(1) }))
    }

    /// A host store: what it has, and its answer to each write.
    #[derive(Default)]
    struct Host {
        has: Mutex<BTreeSet<EntryKey>>,
        marks: Mutex<Vec<String>>,
    }

    impl Host {
        fn copy(&self, local: &SledStore, aside: &mut Aside, takes: impl Fn(&EntryKey) -> bool, works: bool) -> Result<()> {
            let copier = Copier {
                local,
                apply: &|writes, mark| {
                    if !works || !writes.iter().all(|write| takes(write.key)) {
                        return Err(Error::new(Code::HostStore, "refused"));
                    }
                    self.has.lock().extend(writes.iter().map(|write| write.key.clone()));
                    self.marks.lock().extend(mark.map(str::to_owned));
                    Ok(())
                },
                write_here: &|changes| local.submit(Vec::new(), changes, soon())?.wait(soon()),
                instance: Some("me"),
            };
            copier.copy(aside)
        }
    }

    /// More entries than a batch has, which the host store refuses, or which are not UTF-8, come first; the others are copied.
    #[test]
    fn nothing_keeps_the_others_from_being_copied() {
        let refused = (0..BATCH + 10).map(|i| set(&format!("0refused{i}"), b"x"));
        let nobodys = (0..BATCH + 10).map(|i| set(&format!("1nobodys{i}"), b"\xff"));
        let local = local(refused.chain(nobodys).chain([set("a", b"x"), set("b", b"x")]).collect());
        let (host, mut aside) = (Host::default(), Aside::default());
        let takes = |key: &EntryKey| !key.name().contains("refused");
        host.copy(&local, &mut aside, takes, true).unwrap();
        let wanted = [key("a"), key("b")].into();
        assert_eq!(*host.has.lock(), wanted);
        assert_eq!((aside.refused(), aside.texts().len()), (BATCH + 10, MOST_NAMED + 1));
        assert_eq!(aside.failure(), None);
    }

    /// A full disk refuses entries, while an empty change still finds room: that is a failure of the store, until it takes one.
    #[test]
    fn refusals_in_a_row_are_a_failure() {
        let local = local(vec![set("a", b"x")]);
        let (host, mut aside) = (Host::default(), Aside::default());
        host.copy(&local, &mut aside, |_| false, true).unwrap();
        assert_eq!(aside.failure(), None);
        local.submit(Vec::new(), vec![set("b", b"x")], soon()).unwrap().wait(soon()).unwrap();
        host.copy(&local, &mut aside, |_| false, true).unwrap();
        assert!(aside.failure().is_some());
        local.submit(Vec::new(), vec![set("c", b"x")], soon()).unwrap().wait(soon()).unwrap();
        host.copy(&local, &mut aside, |tried| *tried == key("c"), true).unwrap();
        assert_eq!((aside.failure(), aside.refused()), (None, 2));
    }

    #[test]
    fn what_is_refused_is_tried_again_when_its_value_changes() {
        let local = local(vec![set("a", b"x"), set("b", b"x")]);
        let (host, mut aside) = (Host::default(), Aside::default());
        host.copy(&local, &mut aside, |tried| *tried != key("a"), true).unwrap();
        assert_eq!((aside.refused(), host.has.lock().len()), (1, 1));
        host.copy(&local, &mut aside, |_| true, true).unwrap();
        assert_eq!(host.has.lock().len(), 1);
        local.submit(Vec::new(), vec![set("a", b"y")], soon()).unwrap().wait(soon()).unwrap();
        host.copy(&local, &mut aside, |_| true, true).unwrap();
        assert_eq!(host.has.lock().len(), 2);
    }

    /// The number is on the disk before the mark is in the host store, and grows with each write that was made.
    #[test]
    fn the_local_store_knows_which_mark_may_be_there() {
        let local = local(vec![set("a", b"x")]);
        let (host, mut aside) = (Host::default(), Aside::default());
        assert_eq!(local.host_copy().unwrap(), Some(HostCopy::default()));
        for _ in 0..2 {
            let error = host.copy(&local, &mut aside, |_| true, false).expect_err("it takes nothing");
            assert_eq!(error.code(), Code::HostStore);
            assert_eq!(local.host_copy().unwrap(), Some(HostCopy { seq: 0, applying: true }));
            assert_eq!(aside.refused(), 0);
        }
        host.copy(&local, &mut aside, |_| true, true).unwrap();
        assert_eq!(local.host_copy().unwrap(), Some(HostCopy { seq: 1, applying: false }));
        local.submit(Vec::new(), vec![set("b", b"x")], soon()).unwrap().wait(soon()).unwrap();
        host.copy(&local, &mut aside, |_| true, true).unwrap();
        assert_eq!(*host.marks.lock(), ["1 me", "2 me"]);
    }
}
