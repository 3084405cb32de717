//! Reading many locks: fetching values in batches, and telling locks from what is not one.
//!
//! Invariants:
//! - What is no lock is checked on its page and not kept, whatever other programs store: only its key and the reason are.
//! - A list has all locks, or it is refused: one that has more bytes than `RedisStore::most_listed` is, as soon as it is seen, and is never cut.
//!
//! Faults survived: values, names and numbers of entries of any size, by other programs, beside those of ours.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Instant;

use redis::{FromRedisValue as _, Value};

use super::errors::Failure;
use super::keys::{ALL_LOCKS, LOCK_PREFIX, shown};
use super::reply;
use super::store::RedisStore;
use super::transport::{Attempt, Transport};
use crate::call::Call;
use crate::domain::limits::MAX_KEY_BYTES;
use crate::domain::lock::ProjectLock;
use crate::error::{Code, Error, Result};
use crate::store::Listing;
use crate::store::contract::local::MAX_VALUE_BYTES;

/// Values that one MGET fetches.
const BATCH: usize = 500;
/// Fewest locks for which another thread pays.
const LOCKS_PER_THREAD: usize = 500;
/// Most entries that are named as unreadable; of more, only the number is told.
const MOST_UNREADABLE: usize = 10_000;
/// How Redis calls a key of another type than a command wants.
const WRONG_TYPE: &str = "WRONGTYPE";

/// What is stored at a key that looks like a lock's.
#[derive(Debug)]
pub(super) enum Found {
    /// A string.
    Value(Vec<u8>),
    /// A string of more bytes than any lock has: how many.
    TooLong(usize),
    /// Something of another type.
    Other(String),
}

/// A page of keys, each with what it holds.
pub(super) type Page = Vec<(Vec<u8>, Found)>;

impl RedisStore {
    /// All project locks: by the index, or by a look at all keys.
    pub(super) fn list_all(&self, call: &Call) -> Result<Listing> {
        let mut checked = CheckedLocks::new(self.most_listed);
        if self.shared_with_stock {
            self.scan_locks(ALL_LOCKS, call, |page| checked.add(page))?;
        } else {
            self.index_locks(call, |page| checked.add(page))?;
        }
        Ok(checked.listing())
    }

    /// Hands out, page by page, what is at the keys of locks that match, by lock key.
    pub(super) fn scan_locks(&self, pattern: &str, call: &Call, mut each: impl FnMut(Page) -> Result<()>) -> Result<()> {
        let mut scan = self.scan(pattern, call);
        while let Some(keys) = scan.next_page()? {
            each(self.fetch_locks(keys, call.deadline)?)?;
        }
        Ok(())
    }

    /// What the locks at these keys in Redis are, by lock key; those that are gone are left out.
    pub(super) fn fetch_locks(&self, keys: Vec<Vec<u8>>, deadline: Instant) -> Result<Page> {
        let found = self.fetch(keys, deadline)?;
        Ok(found.into_iter().map(|(key, held)| (key[LOCK_PREFIX.len()..].to_vec(), held)).collect())
    }

    /// What these keys in Redis hold; those that are gone are left out.
    pub(super) fn fetch(&self, keys: Vec<Vec<u8>>, deadline: Instant) -> Result<Page> {
        let mut found = Vec::with_capacity(keys.len());
        let mut no_strings = Vec::new();
        for batch in keys.chunks(BATCH) {
            match self.values(batch, deadline)? {
                Some(values) => sort(batch, values, &mut found, &mut no_strings),
                // There is more than anybody reads at once, or nothing bounds what is read: the sizes first.
                None => self.fetch_by_size(batch, deadline, &mut found, &mut no_strings)?,
            }
        }
        for batch in no_strings.chunks(BATCH) {
            self.other_types(batch, self.page(deadline), &mut found)?;
        }
        Ok(found)
    }

    /// What these keys hold, as MGET tells; `None` if a reply of that size is not read.
    fn values(&self, keys: &[Vec<u8>], deadline: Instant) -> Result<Option<Vec<Option<Vec<u8>>>>> {
        if !self.redis.transport.bounds_replies() || self.has_long_values.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let deadline = self.page(deadline);
        let values = self.redis.read(deadline, |link| match mget(link, keys, deadline) {
            Err(Failure::TooLong) => Ok(None),
            values => values.map(Some),
        });
        // It may also have taken Redis too long to put such a reply together.
        if matches!(values, Ok(None)) || self.redis.clock.now() >= deadline {
            self.has_long_values.store(true, Ordering::Relaxed);
        }
        values
    }

    /// The same, by the sizes: what is too long is not asked for, and the rest in parts that are read.
    fn fetch_by_size<'a>(
        &self,
        keys: &'a [Vec<u8>],
        deadline: Instant,
        found: &mut Page,
        no_strings: &mut Vec<&'a Vec<u8>>,
    ) -> Result<()> {
        let (mut part, mut bytes) = (Vec::new(), 0);
        let mut sizes = self.sizes(keys, self.page(deadline))?.into_iter();
        for key in keys {
            match sizes.next().flatten() {
                Some(size) if size > MAX_VALUE_BYTES => found.push((key.clone(), Found::TooLong(size))),
                None => no_strings.push(key),
                Some(size) => {
                    if bytes + size > MAX_VALUE_BYTES {
                        self.fetch_part(&std::mem::take(&mut part), deadline, found, no_strings)?;
                        bytes = 0;
                    }
                    part.push(key);
                    bytes += size;
                }
            }
        }
        self.fetch_part(&part, deadline, found, no_strings)
    }

    fn fetch_part<'a>(
        &self,
        keys: &[&'a Vec<u8>],
        deadline: Instant,
        found: &mut Page,
        no_strings: &mut Vec<&'a Vec<u8>>,
    ) -> Result<()> {
        if !keys.is_empty() {
            let deadline = self.page(deadline);
            let values = self.redis.read(deadline, |link| mget(link, keys, deadline))?;
            sort(keys.iter().copied(), values, found, no_strings);
        }
        Ok(())
    }

    /// How many bytes the strings at these keys have; `None` for what is no string.
    fn sizes(&self, keys: &[Vec<u8>], deadline: Instant) -> Result<Vec<Option<usize>>> {
        let commands: Vec<_> = keys.iter().map(|key| redis::cmd("STRLEN").arg(key).take()).collect();
        let sizes = self.redis.transport.query_all(&commands, deadline).into_iter().zip(&commands).map(|(size, command)| {
            match size_of(size) {
                Ok(size) => Ok(size),
                Err(_) => self.redis.read(deadline, |link| size_of(link.query(command, deadline))),
            }
        });
        sizes.collect()
    }

    /// One key's value.
    ///
    /// Errors: `EntryUnreadable` if it is longer than any value that is stored here.
    pub(super) fn get_key(&self, key: &str, call: &Call) -> Result<Option<Vec<u8>>> {
        let mut command = redis::cmd("GET");
        command.arg(key);
        let value = if self.redis.transport.bounds_replies() {
            self.redis.read(call.deadline, |link| match link.query(&command, call.deadline) {
                Err(Failure::TooLong) => Ok(None),
                value => optional(value?).map(Some),
            })
        } else {
            Ok(None)
        };
        match value.map_err(|e| at(key, e))? {
            Some(value) if value.as_ref().is_none_or(|value| value.len() <= MAX_VALUE_BYTES) => Ok(value),
            _ => self.get_by_size(key, &command, call),
        }
    }

    /// The same, by its size.
    fn get_by_size(&self, key: &str, command: &redis::Cmd, call: &Call) -> Result<Option<Vec<u8>>> {
        let size = self.sizes(&[key.as_bytes().to_vec()], call.deadline)?;
        match size.first().copied().flatten() {
            Some(size) if size > MAX_VALUE_BYTES => Err(reply::left_alone(
                key.as_bytes(),
                &format!("a value of {size} bytes, of which at most {MAX_VALUE_BYTES} are read"),
            )),
            _ => self.redis.read(call.deadline, |link| optional(link.query(command, call.deadline)?)).map_err(|e| at(key, e)),
        }
    }

    /// MGET says nothing of a key that is gone and of one that is no string.
    fn other_types(&self, keys: &[&Vec<u8>], deadline: Instant, found: &mut Page) -> Result<()> {
        let commands: Vec<_> = keys.iter().map(|key| redis::cmd("TYPE").arg(key.as_slice()).take()).collect();
        let kinds = self.redis.transport.query_all(&commands, deadline);
        for ((key, command), kind) in keys.iter().zip(&commands).zip(kinds) {
            let kind = match kind {
                Ok(kind) => kind,
                Err(_) => self.redis.read(deadline, |link| link.query(command, deadline))?,
            };
            match text(kind).as_str() {
                // Gone, or taken since: the next listing has it.
                "none" | "string" => {}
                kind => found.push(((*key).clone(), Found::Other(kind.to_owned()))),
            }
        }
        Ok(())
    }
}

fn mget(link: &Transport, keys: impl redis::ToRedisArgs, deadline: Instant) -> Attempt<Vec<Option<Vec<u8>>>> {
    let asked = keys.num_of_args();
    let mut command = redis::cmd("MGET");
    command.arg(keys);
    let values = Vec::<Option<Vec<u8>>>::from_redis_value(link.query_long(&command, deadline)?);
    let refused = |e: redis::ParsingError| Failure::Refused(e.into());
    match values.map_err(refused)? {
        values if values.len() == asked => Ok(values),
        // What is not answered is not gone.
        values => Err(refused(format!("MGET of {asked} keys is answered with {} values", values.len()).into())),
    }
}

/// Which of them are values, which are too long, and which are no strings, or gone.
fn sort<'a>(
    keys: impl IntoIterator<Item = &'a Vec<u8>>,
    values: Vec<Option<Vec<u8>>>,
    found: &mut Page,
    no_strings: &mut Vec<&'a Vec<u8>>,
) {
    for (key, value) in keys.into_iter().zip(values) {
        match value {
            Some(value) if value.len() > MAX_VALUE_BYTES => found.push((key.clone(), Found::TooLong(value.len()))),
            Some(value) => found.push((key.clone(), Found::Value(value))),
            None => no_strings.push(key),
        }
    }
}

/// The size that STRLEN tells; `None` for what is no string.
fn size_of(size: Attempt<Value>) -> Attempt<Option<usize>> {
    match size {
        Err(Failure::Refused(error)) if error.code() == Some(WRONG_TYPE) => Ok(None),
        size => usize::from_redis_value(size?).map(Some).map_err(|e| Failure::Refused(e.into())),
    }
}

/// An error of what one key holds names the key.
pub(super) fn at(key: &str, error: Error) -> Error {
    if error.code() == Code::EntryUnreadable && !error.message().contains(key) {
        return error.context(format!("the key {}", shown(key.as_bytes())));
    }
    error
}

fn text(value: Value) -> String {
    String::from_redis_value(value).unwrap_or_else(|_| "entry of an unknown kind".to_owned())
}

fn optional(value: Value) -> Attempt<Option<Vec<u8>>> {
    Option::<Vec<u8>>::from_redis_value(value).map_err(|e| Failure::Refused(e.into()))
}

/// The locks among what was found, in the order of their keys, and the rest beside them.
pub(super) struct CheckedLocks {
    found: BTreeMap<Vec<u8>, std::result::Result<Vec<u8>, String>>,
    unreadable: usize,
    /// Bytes of keys, values and reasons that are kept, and the most that may be.
    bytes: usize,
    most_bytes: usize,
}

impl CheckedLocks {
    pub(super) fn new(most_bytes: usize) -> CheckedLocks {
        CheckedLocks { found: BTreeMap::new(), unreadable: 0, bytes: 0, most_bytes }
    }

    /// Whether there is anything at this key.
    pub(super) fn holds(&self, key: &[u8]) -> bool {
        self.found.contains_key(key)
    }

    /// Errors: `TooLarge` for more than a list has.
    pub(super) fn add(&mut self, page: Page) -> Result<()> {
        let checks = check_all(&page);
        for ((key, held), check) in page.into_iter().zip(checks) {
            let entry = match (held, check) {
                (Found::Value(value), None) => Ok(value),
                (_, reason) => {
                    self.unreadable += 1;
                    if self.unreadable > MOST_UNREADABLE {
                        continue;
                    }
                    Err(reason.unwrap_or_default())
                }
            };
            let size = |entry: &std::result::Result<Vec<u8>, String>| entry.as_ref().map_or_else(String::len, Vec::len);
            self.bytes += key.len() + size(&entry);
            // A key may be on two pages.
            if let Some((again, old)) = self.found.remove_entry(&key) {
                self.bytes -= again.len() + size(&old);
            }
            self.found.insert(key, entry);
            if self.bytes > self.most_bytes {
                let text = format!(
                    "the locks in Redis have more than {} MiB, which is the most that a list has: look in Redis which of the keys {ALL_LOCKS} \
                     are many or large (redis-cli --bigkeys), and remove those that are no locks. Locks are granted and released all the same",
                    self.most_bytes >> 20
                );
                return Err(Error::new(Code::TooLarge, text));
            }
        }
        Ok(())
    }

    pub(super) fn listing(self) -> Listing {
        let mut listing = Listing::default();
        for (key, entry) in self.found {
            match entry {
                Ok(value) => listing.push(&value),
                Err(reason) if key.len() > MAX_KEY_BYTES => listing.push_unreadable(shown(&key), reason),
                Err(reason) => listing.push_unreadable(String::from_utf8_lossy(&key), reason),
            }
        }
        if self.unreadable > MOST_UNREADABLE {
            let more = self.unreadable - MOST_UNREADABLE;
            listing.push_unreadable(
                format!("{LOCK_PREFIX}*"),
                format!("about {more} more entries are no locks, and are not named here"),
            );
        }
        listing
    }
}

/// Why each is no lock, `None` for a lock. On as many threads as pay: one lock takes about a microsecond.
fn check_all(found: &[(Vec<u8>, Found)]) -> Vec<Option<String>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = (found.len() / LOCKS_PER_THREAD).clamp(1, cores);
    let mut parts = found.chunks(found.len().div_ceil(threads).max(1));
    let first = parts.next().unwrap_or_default();
    std::thread::scope(|scope| {
        let others: Vec<_> = parts.map(|part| (part, scope.spawn(move || check_part(part)))).collect();
        let mut checked = check_part(first);
        for (part, thread) in others {
            // A thread that panicked is our bug; its part is checked here, where a panic is reported.
            checked.extend(thread.join().unwrap_or_else(|_| check_part(part)));
        }
        checked
    })
}

fn check_part(part: &[(Vec<u8>, Found)]) -> Vec<Option<String>> {
    part.iter().map(|(key, held)| check(key, held).err()).collect()
}

fn check(key: &[u8], held: &Found) -> std::result::Result<(), String> {
    let value = match held {
        Found::Value(value) => value,
        Found::TooLong(bytes) => return Err(format!("it has {bytes} bytes; a lock has at most {MAX_VALUE_BYTES}")),
        Found::Other(kind) => return Err(format!("it is a {kind} in Redis, not a string")),
    };
    let lock = ProjectLock::parse(value).map_err(|e| e.message().to_owned())?;
    let own = lock.fields().key();
    if own.as_bytes() != key {
        let own = if own.len() > MAX_KEY_BYTES { shown(own.as_bytes()) } else { own };
        return Err(format!("its fields belong to the key {own:?}"));
    }
    Ok(())
}
