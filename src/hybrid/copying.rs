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
use crate::error::{Code, Error, Result};
use crate::store::host::HostWrite;
use crate::store::mirror::{Change, EntryKey, HostCopy, HostLacks, Mirror, digest};

/// Entries that one transaction of the host store takes.
const BATCH: usize = 500;
/// How many refused entries are named.
const MOST_NAMED: usize = 5;
/// How much of a key is shown, characters.
const SHOWN: usize = 80;

/// Writes to the host store; its answer.
pub(super) type Apply<'a> = &'a dyn Fn(&[HostWrite<'_>], Option<&str>) -> Result<()>;
/// Tells the local store something, and waits for its disk.
pub(super) type Tell<'a> = &'a dyn Fn(Vec<Change>) -> Result<()>;

/// What is needed to write to the host store.
pub(super) struct Copier<'a> {
    pub local: &'a dyn Mirror,
    pub apply: Apply<'a>,
    pub tell: Tell<'a>,
    /// This server's name, for the mark. Without one the mark stays as it is: what others wrote since is still to be found.
    pub instance: Option<&'a str>,
}

/// Entries that are not tried with every batch.
#[derive(Debug, Default)]
pub(super) struct Aside(BTreeMap<EntryKey, Refused>);

#[derive(Debug)]
struct Refused {
    /// Of the value that was refused.
    digest: Option<[u8; 32]>,
    /// For a person; `None` for what is nobody's lock, and never passed.
    text: Option<String>,
}

impl Aside {
    /// How many the host store refused.
    pub(super) fn len(&self) -> usize {
        self.0.values().filter(|refused| refused.text.is_some()).count()
    }

    /// For a person.
    pub(super) fn texts(&self) -> Vec<String> {
        let mut texts: Vec<String> = self.0.values().filter_map(|refused| refused.text.clone()).take(MOST_NAMED).collect();
        if self.len() > texts.len() {
            texts.push(format!("the host store refuses {} entries more", self.len() - texts.len()));
        }
        texts
    }

    fn has(&self, mark: &HostLacks) -> bool {
        self.0.get(&mark.key).is_some_and(|refused| refused.digest == mark.value.as_deref().map(digest))
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
        self.0.insert(mark.key.clone(), Refused { digest: mark.value.as_deref().map(digest), text });
    }
}

/// A key for a person: others choose what stands in it.
fn shown(key: &EntryKey) -> String {
    let kind = match key {
        EntryKey::Project(_) => "lock",
        EntryKey::Command(_) => "command lock",
        EntryKey::Status(_) => "pull status",
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
    /// Copies what is lacking, but for what is set aside.
    ///
    /// Errors: `HostStore` if the host store takes nothing; those of the local store.
    pub(super) fn copy(&self, aside: &mut Aside) -> Result<()> {
        loop {
            let mut lacking = self.local.host_lacks(BATCH + aside.0.len())?;
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
        let error = match self.write(lacking) {
            Err(error) if error.code() == Code::HostStore => error,
            answer => return answer,
        };
        // Is it the store, or an entry?
        self.write(&[])?;
        let mut refused = Vec::new();
        for mark in lacking {
            match self.write(std::slice::from_ref(mark)) {
                Err(error) if error.code() == Code::HostStore => refused.push((mark, error)),
                answer => answer?,
            }
        }
        if refused.len() > 1 && refused.len() == lacking.len() {
            return Err(error);
        }
        refused.iter().for_each(|(mark, error)| aside.put(mark, Some(error)));
        Ok(())
    }

    /// One change of the host store; of nothing but its mark, if nothing is lacking.
    pub(super) fn write(&self, lacking: &[HostLacks]) -> Result<()> {
        let before = self.local.host_copy()?.unwrap_or_default();
        let seq = before.seq + 1;
        let told = |change: fn(EntryKey, Option<[u8; 32]>) -> Change, copy: HostCopy| {
            let changes = lacking.iter().map(|mark| change(mark.key.clone(), mark.value.as_deref().map(digest)));
            changes.chain(self.instance.map(|_| Change::HostCopy(copy))).collect()
        };
        (self.tell)(told(Change::Following, HostCopy { applying: true, ..before }))?;
        let writes: Vec<_> = lacking.iter().map(|mark| HostWrite { key: &mark.key, value: mark.value.as_deref() }).collect();
        (self.apply)(&writes, self.instance.map(|name| belief::mark(name, seq)).as_deref())?;
        (self.tell)(told(Change::Followed, HostCopy { seq, applying: false }))
    }
}
