//! A store that the program which links the library brings along, behind one callback: Atlantis's own BoltDB code, or
//! anything a C program likes.
//!
//! Every operation is one call with JSON in and JSON out. The operations are those of [`Store`]:
//!
//! | op | in | out |
//! |---|---|---|
//! | 1 grant | `{"key":K,"value":V}` | `{"granted":true,"token":N}` or `{"granted":false,"value":V}` |
//! | 2 release | `{"key":K,"fields":F or null,"pull_num":N or null}` | `V` or `null` |
//! | 3 discard | `{"key":K}` | `V` or `null` |
//! | 4 get | `{"key":K}` | `V` or `null` |
//! | 5 list | `{}` | `[V,…]` |
//! | 6 release_by_pull | `{"repo":R,"num":N}` | `[V,…]` |
//! | 7 pull_status | `{"key":R}` | `V` or `null` |
//! | 8 swap_pull_status | `{"key":R,"expected":{"any":true} or {"value":V or null},"new":V or null}` | `{"swapped":true}` or `{"swapped":false,"value":V or null}` |
//! | 9 ping | `{}` | anything |
//! | 10 dump | `{}` | `[{"key":E,"value":T} or {"key":E,"unreadable":true} or {"mark":M,"written_since":bool},…]` |
//! | 11 apply | `{"writes":[{"key":E,"value":T or null},…]}`, perhaps with `"mark":M` | anything |
//!
//! K is `{"project":"repo/path/workspace/project"}` or `{"command":"apply"}`; F is `{"repo":…,"path":…,"workspace":…,"project":…}`;
//! V is the stored JSON, verbatim. The host store keeps the invariants of [`crate::store`]; they cannot be checked from here.
//!
//! The last two read and write entries as they are, so that the store can mirror another one. What is stored may be no JSON, so
//! a value crosses as T, a JSON string of its text; E is K or `{"status":"host::repo::num"}`. A host store that is no mirror
//! need not have them.
//!
//! M is a text that the host store keeps with the writes beside which it came, all or none, and gives back: by it the library knows
//! the content again that it wrote. `written_since` tells whether anything else was written after it. A host store without marks
//! leaves them out; then nothing that it lacks ever counts as released.

use std::ffi::c_void;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::contract::local::EntryKey;
use super::{Expected, Grant, Granted, Listing, LockKey, Release, Store, Swap};
use crate::call::Call;
use crate::capi::buffer::Buffer;
use crate::domain::json::parse_json;
use crate::domain::lock::{ProjectLock, PullRef};
use crate::error::{Code, Error, Result};

/// Version of the callback struct below.
pub const HOST_STORE_ABI_VERSION: u32 = 1;

/// Take a lock if it is free.
pub const OP_GRANT: u32 = 1;
/// Release a lock if it is the one meant.
pub const OP_RELEASE: u32 = 2;
/// Remove whatever is at a key.
pub const OP_DISCARD: u32 = 3;
/// Read what is at a key.
pub const OP_GET: u32 = 4;
/// Read every project lock.
pub const OP_LIST: u32 = 5;
/// Release every project lock of a pull.
pub const OP_RELEASE_BY_PULL: u32 = 6;
/// Read a pull status.
pub const OP_PULL_STATUS: u32 = 7;
/// Replace a pull status if it is as expected.
pub const OP_SWAP_PULL_STATUS: u32 = 8;
/// Tell whether the store works.
pub const OP_PING: u32 = 9;
/// Read every entry, as it is.
pub const OP_DUMP: u32 = 10;
/// Set and delete entries, whatever was there, all or none.
pub const OP_APPLY: u32 = 11;

/// A host store as a C program passes it in.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct HostStoreCallbacks {
    /// `ATLOCK_HOST_STORE_ABI_VERSION`.
    pub abi_version: u32,
    /// Passed to both functions; theirs.
    pub ctx: *mut c_void,
    /// Does the operation `op`, `ATLOCK_OP_…`, whose JSON is described in docs/host-store.md. `input` is valid during the
    /// call only. Returns 0 and fills `output`, or anything else and fills `error` with a text, each with
    /// `atlock_buffer_assign`. Called from any thread, from several at once; must not unwind. Never null.
    pub call: Option<
        unsafe extern "C" fn(
            ctx: *mut c_void,
            op: u32,
            input: *const u8,
            input_len: usize,
            output: *mut Buffer,
            error: *mut Buffer,
        ) -> i32,
    >,
    /// Called once, after the last `call`, also when opening fails. May be null.
    pub release: Option<unsafe extern "C" fn(ctx: *mut c_void)>,
}

/// A store behind [`HostStoreCallbacks`].
#[derive(Debug)]
pub struct HostStore {
    callbacks: HostStoreCallbacks,
    closed: Mutex<bool>,
    warnings: Mutex<Vec<String>>,
}

// SAFETY: the callbacks' contract is that both may be called from any thread, `call` from several at once.
#[allow(unsafe_code)]
unsafe impl Send for HostStore {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for HostStore {}

/// An entry as [`HostStore::dump`] found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostEntry {
    /// Which entry.
    pub key: EntryKey,
    /// Its bytes, which may be no JSON; `None` if they are not even UTF-8.
    pub value: Option<Vec<u8>>,
}

/// What [`HostStore::dump`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostDump {
    /// Every entry.
    pub entries: Vec<HostEntry>,
    /// The mark of the last [`HostStore::apply`] that had one; `None` if there never was one.
    pub mark: Option<HostMark>,
}

/// A mark, as a host store gives it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostMark {
    /// Its text.
    pub text: String,
    /// Whether anything was written since, by whomever.
    pub written_since: bool,
}

/// A change for [`HostStore::apply`].
#[derive(Clone, Copy, Debug)]
pub struct HostWrite<'a> {
    /// Which entry.
    pub key: &'a EntryKey,
    /// What to store there, UTF-8; `None` deletes.
    pub value: Option<&'a [u8]>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum KeyJson<'a> {
    Project(&'a str),
    Command(&'a str),
}

impl<'a> From<LockKey<'a>> for KeyJson<'a> {
    fn from(key: LockKey<'a>) -> KeyJson<'a> {
        match key {
            LockKey::Project(key) => KeyJson::Project(key),
            LockKey::Command(name) => KeyJson::Command(name),
        }
    }
}

#[derive(Serialize)]
struct KeyIn<'a> {
    key: KeyJson<'a>,
}

#[derive(Serialize)]
struct GrantIn<'a> {
    key: KeyJson<'a>,
    value: &'a RawValue,
}

#[derive(Deserialize)]
struct GrantOut<'a> {
    granted: bool,
    #[serde(default)]
    token: u64,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct ReleaseIn<'a> {
    key: KeyJson<'a>,
    fields: Option<FieldsJson<'a>>,
    pull_num: Option<i64>,
}

#[derive(Serialize)]
struct FieldsJson<'a> {
    repo: &'a str,
    path: &'a str,
    workspace: &'a str,
    project: &'a str,
}

#[derive(Serialize)]
struct PullIn<'a> {
    repo: &'a str,
    num: i64,
}

#[derive(Serialize)]
struct StatusIn<'a> {
    key: &'a str,
}

#[derive(Serialize)]
struct SwapIn<'a> {
    key: &'a str,
    expected: ExpectedJson<'a>,
    new: Option<&'a RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum ExpectedJson<'a> {
    Any(bool),
    Value(Option<&'a RawValue>),
}

#[derive(Deserialize)]
struct SwapOut<'a> {
    swapped: bool,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct EntryOut {
    key: Option<EntryKey>,
    value: Option<String>,
    #[serde(default)]
    unreadable: bool,
    mark: Option<String>,
    written_since: Option<bool>,
}

#[derive(Serialize)]
struct ApplyIn<'a> {
    writes: Vec<WriteJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mark: Option<&'a str>,
}

#[derive(Serialize)]
struct WriteJson<'a> {
    key: &'a EntryKey,
    value: Option<&'a str>,
}

impl<'a> WriteJson<'a> {
    fn new(write: &HostWrite<'a>) -> Result<WriteJson<'a>> {
        let value = write.value.map(std::str::from_utf8).transpose().map_err(|e| {
            Error::new(Code::InvalidArgument, format!("the value for {:?} is not UTF-8, nothing was written: {e}", write.key))
        })?;
        Ok(WriteJson { key: write.key, value })
    }
}

impl HostStore {
    /// Takes the callbacks over: `release` will be called, also when this fails.
    ///
    /// Errors: `Unsupported` for another version of the struct, `InvalidArgument` for a null `call`.
    pub fn new(callbacks: HostStoreCallbacks) -> Result<HostStore> {
        let store = HostStore { callbacks, closed: Mutex::new(false), warnings: Mutex::default() };
        if callbacks.abi_version != HOST_STORE_ABI_VERSION {
            let found = callbacks.abi_version;
            return Err(Error::new(
                Code::Unsupported,
                format!("the host store's abi_version is {found}; this library speaks {HOST_STORE_ABI_VERSION}"),
            ));
        }
        if callbacks.call.is_none() {
            return Err(Error::new(Code::InvalidArgument, "the host store's call is null"));
        }
        Ok(store)
    }

    /// Every entry, project locks, command locks and pull statuses, and the mark.
    ///
    /// Errors: `HostStore` also if the host store has no such operation.
    pub fn dump(&self) -> Result<HostDump> {
        let output = self.call(OP_DUMP, &serde_json::json!({}))?;
        let mut dump = HostDump::default();
        for found in read::<Vec<EntryOut>>(OP_DUMP, &output)? {
            let mark = found.mark.zip(found.written_since);
            match (found.key, found.value, found.unreadable, mark) {
                (Some(key), Some(value), false, None) => dump.entries.push(HostEntry { key, value: Some(value.into_bytes()) }),
                (Some(key), None, true, None) => dump.entries.push(HostEntry { key, value: None }),
                (None, None, false, Some((text, written_since))) if dump.mark.is_none() => {
                    dump.mark = Some(HostMark { text, written_since });
                }
                (key, ..) => {
                    let text = format!(
                        "the host store's answer to op {OP_DUMP}: an element ({key:?}) is neither a key with exactly one of value and \
                         unreadable, nor the one mark"
                    );
                    return Err(Error::new(Code::Protocol, text));
                }
            }
        }
        Ok(dump)
    }

    /// Sets and deletes entries in this order, whatever was there: all of them durably, or on an error of code `HostStore` none. With
    /// a mark, that is stored in the same step, in place of the one before.
    ///
    /// Errors: `InvalidArgument` for a value that is not UTF-8; `HostStore` also if the host store has no such operation.
    pub fn apply(&self, writes: &[HostWrite<'_>], mark: Option<&str>) -> Result<()> {
        let writes = writes.iter().map(WriteJson::new).collect::<Result<_>>()?;
        self.call(OP_APPLY, &ApplyIn { writes, mark }).map(drop)
    }

    /// Says something to the operator, until the store is opened again.
    pub fn warn(&self, text: String) {
        self.warnings.lock().push(text);
    }

    #[allow(unsafe_code)]
    fn call(&self, op: u32, input: &impl Serialize) -> Result<Vec<u8>> {
        if *self.closed.lock() {
            return Err(Error::new(Code::Closed, "the host store is closed"));
        }
        let input = serde_json::to_vec(input).map_err(|e| Error::new(Code::Internal, format!("host store, op {op}: {e}")))?;
        let Some(call) = self.callbacks.call else {
            return Err(Error::new(Code::InvalidArgument, "the host store's call is null"));
        };
        let (mut output, mut error) = (Buffer::EMPTY, Buffer::EMPTY);
        // SAFETY: `call` and `ctx` are as the host passed them; the pointers are valid during the call.
        let status = unsafe { call(self.callbacks.ctx, op, input.as_ptr(), input.len(), &raw mut output, &raw mut error) };
        let (output, error) = (output.take(), error.take());
        if status != 0 {
            let text = String::from_utf8_lossy(&error);
            return Err(Error::new(Code::HostStore, format!("the host store failed in op {op} (status {status}): {text}")));
        }
        Ok(output)
    }

    fn value(&self, op: u32, input: &impl Serialize) -> Result<Option<Vec<u8>>> {
        let output = self.call(op, input)?;
        Ok(read::<Option<&RawValue>>(op, &output)?.map(raw_bytes))
    }

    /// The keys of the project locks that cannot be read, and why; the list has no keys.
    fn push_unreadable(&self, listing: &mut Listing) -> Result<()> {
        for HostEntry { key, value } in self.dump()?.entries {
            let EntryKey::Project(name) = &key else { continue };
            match value.as_deref().map(ProjectLock::parse) {
                Some(Ok(_)) => {}
                Some(Err(e)) => listing.push_unreadable(name, e.message()),
                None => listing.push_unreadable(name, "it is not UTF-8"),
            }
        }
        Ok(())
    }
}

impl Drop for HostStore {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        if let Some(release) = self.callbacks.release {
            // SAFETY: the store is unreachable, so this comes after the last `call`, and once.
            unsafe { release(self.callbacks.ctx) };
        }
    }
}

fn read<'a, T: Deserialize<'a>>(op: u32, output: &'a [u8]) -> Result<T> {
    parse_json(output).map_err(|e| Error::new(Code::Protocol, format!("the host store's answer to op {op}: {e}")))
}

fn raw_bytes(value: &RawValue) -> Vec<u8> {
    value.get().as_bytes().to_vec()
}

impl Store for HostStore {
    fn grant(&self, grant: &Grant<'_>, _call: &Call) -> Result<Granted> {
        let output = self.call(OP_GRANT, &GrantIn { key: grant.key.into(), value: parse_json(grant.value)? })?;
        let GrantOut { granted, token, value } = read(OP_GRANT, &output)?;
        match (granted, value) {
            (true, _) => Ok(Granted::Yes { token }),
            (false, Some(value)) => Ok(Granted::Held { value: raw_bytes(value) }),
            (false, None) => Err(Error::new(Code::Protocol, "the host store refused a lock without telling the holder")),
        }
    }

    fn release(&self, release: &Release<'_>, _call: &Call) -> Result<Option<Vec<u8>>> {
        let fields =
            release.fields.map(|f| FieldsJson { repo: f.repo, path: f.path, workspace: f.workspace, project: f.project });
        self.value(OP_RELEASE, &ReleaseIn { key: release.key.into(), fields, pull_num: release.pull_num })
    }

    fn discard(&self, key: LockKey<'_>, _call: &Call) -> Result<Option<Vec<u8>>> {
        self.value(OP_DISCARD, &KeyIn { key: key.into() })
    }

    fn get(&self, key: LockKey<'_>, _call: &Call) -> Result<Option<Vec<u8>>> {
        self.value(OP_GET, &KeyIn { key: key.into() })
    }

    fn list(&self, _call: &Call) -> Result<Listing> {
        let output = self.call(OP_LIST, &serde_json::json!({}))?;
        let mut listing = Listing::default();
        let mut faults = Vec::new();
        for value in read::<Vec<&RawValue>>(OP_LIST, &output)? {
            match ProjectLock::parse(value.get().as_bytes()) {
                Ok(_) => listing.push(value.get().as_bytes()),
                Err(e) => faults.push(e),
            }
        }
        // A host store that cannot name its entries has said, all the same, how many are no locks.
        if !faults.is_empty() && self.push_unreadable(&mut listing).is_err() {
            faults.iter().for_each(|e| listing.push_unreadable("(of the host store)", e.message()));
        }
        Ok(listing)
    }

    fn release_by_pull(&self, pull: PullRef<'_>, _call: &Call) -> Result<Listing> {
        let output = self.call(OP_RELEASE_BY_PULL, &PullIn { repo: pull.repo, num: pull.num })?;
        let mut released = Listing::default();
        // Whatever they are, they were released, and the caller has to hear that.
        read::<Vec<&RawValue>>(OP_RELEASE_BY_PULL, &output)?.iter().for_each(|value| released.push(value.get().as_bytes()));
        Ok(released)
    }

    fn pull_status(&self, key: &str, _call: &Call) -> Result<Option<Vec<u8>>> {
        self.value(OP_PULL_STATUS, &StatusIn { key })
    }

    fn swap_pull_status(&self, key: &str, expected: Expected<'_>, new: Option<&[u8]>, _call: &Call) -> Result<Swap> {
        let expected = match expected {
            Expected::Any => ExpectedJson::Any(true),
            Expected::Absent => ExpectedJson::Value(None),
            Expected::Bytes(bytes) => ExpectedJson::Value(Some(parse_json(bytes)?)),
        };
        let new = new.map(parse_json).transpose()?;
        let output = self.call(OP_SWAP_PULL_STATUS, &SwapIn { key, expected, new })?;
        let SwapOut { swapped, value } = read(OP_SWAP_PULL_STATUS, &output)?;
        Ok(if swapped { Swap::Done } else { Swap::Conflict(value.map(raw_bytes)) })
    }

    fn ping(&self, _call: &Call) -> Result<()> {
        self.call(OP_PING, &serde_json::json!({})).map(drop)
    }

    fn warnings(&self) -> Vec<String> {
        self.warnings.lock().clone()
    }

    fn close(&self) -> Result<()> {
        *self.closed.lock() = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::capi::buffer::atlock_buffer_assign;

    /// A host store in Rust: only the operations that mirror, each a line of Rust behind the callbacks.
    #[derive(Default)]
    struct Fake {
        entries: Mutex<BTreeMap<String, serde_json::Value>>,
        mark: Mutex<Option<serde_json::Value>>,
        /// When set, the answer to every call.
        answer: Mutex<Option<&'static str>>,
    }

    impl Fake {
        fn answer(&self, op: u32, input: &[u8]) -> std::result::Result<String, String> {
            if let Some(answer) = *self.answer.lock() {
                return Ok(answer.to_owned());
            }
            let mut entries = self.entries.lock();
            match op {
                OP_DUMP => {
                    let entry = |(key, value): (&String, &serde_json::Value)| format!(r#"{{"key":{key},"value":{value}}}"#);
                    let mark = self.mark.lock().as_ref().map(|mark| format!(r#"{{"mark":{mark},"written_since":true}}"#));
                    Ok(format!("[{}]", entries.iter().map(entry).chain(mark).collect::<Vec<_>>().join(",")))
                }
                OP_APPLY => {
                    let input: serde_json::Value = serde_json::from_slice(input).map_err(|e| e.to_string())?;
                    for write in input["writes"].as_array().ok_or("no writes")? {
                        match &write["value"] {
                            serde_json::Value::Null => entries.remove(&write["key"].to_string()),
                            value => entries.insert(write["key"].to_string(), value.clone()),
                        };
                    }
                    if !input["mark"].is_null() {
                        *self.mark.lock() = Some(input["mark"].clone());
                    }
                    Ok(String::new())
                }
                _ => Err(format!("op {op} is not here")),
            }
        }
    }

    #[allow(unsafe_code)]
    unsafe extern "C" fn call(
        ctx: *mut c_void,
        op: u32,
        input: *const u8,
        input_len: usize,
        output: *mut Buffer,
        error: *mut Buffer,
    ) -> i32 {
        // SAFETY: `ctx` is the fake of `store`, which outlives it; the rest is as HostStore::call passes it.
        let (fake, input) = unsafe { (&*ctx.cast::<Fake>(), std::slice::from_raw_parts(input, input_len)) };
        let (status, buffer, text) = match fake.answer(op, input) {
            Ok(text) => (0, output, text),
            Err(text) => (1, error, text),
        };
        // SAFETY: as above.
        unsafe { atlock_buffer_assign(buffer, text.as_ptr(), text.len()) };
        status
    }

    fn store(fake: &mut Fake) -> HostStore {
        let ctx = std::ptr::from_mut(fake).cast();
        HostStore::new(HostStoreCallbacks { abi_version: HOST_STORE_ABI_VERSION, ctx, call: Some(call), release: None })
            .expect("opens")
    }

    #[test]
    fn entries_cross_byte_for_byte() {
        let mut fake = Fake::default();
        let store = store(&mut fake);
        let project = EntryKey::Project("acme/infra/a\"b\n/default/".to_owned());
        let command = EntryKey::Command("apply".to_owned());
        let status = EntryKey::Status("host::acme/infra::1".to_owned());
        let values: [&[u8]; 3] = [b" {\"a\":\t1.50}\n", b"not JSON \"\\ \x00 \xf0\x9f\x94\x92", b""];
        let writes: Vec<_> =
            [&project, &command, &status].into_iter().zip(values).map(|(key, v)| HostWrite { key, value: Some(v) }).collect();
        store.apply(&writes, None).expect("applies");
        assert_eq!(store.dump().expect("dumps").mark, None);
        let mut found = store.dump().expect("dumps").entries;
        found.sort_by(|a, b| a.key.cmp(&b.key));
        let wanted = writes.iter().map(|w| HostEntry { key: w.key.clone(), value: w.value.map(<[u8]>::to_vec) });
        assert_eq!(found, wanted.collect::<Vec<_>>());

        let writes = [HostWrite { key: &project, value: None }, HostWrite { key: &status, value: None }];
        store.apply(&writes, Some("a \"mark\"")).expect("applies");
        let mark = Some(HostMark { text: "a \"mark\"".to_owned(), written_since: true });
        let entries = vec![HostEntry { key: command, value: Some(values[1].to_vec()) }];
        assert_eq!(store.dump().expect("dumps"), HostDump { entries, mark });
    }

    #[test]
    fn what_is_not_utf8_is_named_but_not_passed() {
        let mut fake = Fake::default();
        *fake.answer.get_mut() = Some(r#"[{"key":{"status":"h::r::1"},"unreadable":true}]"#);
        let store = store(&mut fake);
        let key = EntryKey::Status("h::r::1".to_owned());
        assert_eq!(store.dump().expect("dumps").entries, [HostEntry { key: key.clone(), value: None }]);
        let refused = store.apply(&[HostWrite { key: &key, value: Some(b"\xff") }], None).expect_err("is refused");
        assert_eq!(refused.code(), Code::InvalidArgument);
    }

    #[test]
    fn a_store_that_cannot_dump_is_told_apart_from_an_empty_one() {
        let mut fake = Fake::default();
        for answer in [
            "",
            "{}",
            r#"[{"key":{"project":"k"}}]"#,
            r#"[{"key":{"project":"k"},"value":null}]"#,
            r#"[{"key":{"project":"k"},"value":{}}]"#,
            r#"[{"key":{"project":"k"},"value":"","unreadable":true}]"#,
            r#"[{"key":{"other":"k"},"value":""}]"#,
            r#"[{"value":""}]"#,
            r#"[{"mark":"m"}]"#,
            r#"[{"mark":"m","written_since":true},{"mark":"m","written_since":true}]"#,
            r#"[{"mark":"m","written_since":true,"key":{"project":"k"},"value":""}]"#,
        ] {
            *fake.answer.get_mut() = Some(answer);
            assert_eq!(store(&mut fake).dump().expect_err(answer).code(), Code::Protocol, "{answer}");
        }
        *fake.answer.get_mut() = None;
        let store = store(&mut fake);
        assert_eq!(store.call(OP_GET, &()).expect_err("is not here").code(), Code::HostStore);
        store.close().expect("closes");
        assert_eq!(store.dump().expect_err("is closed").code(), Code::Closed);
        assert_eq!(store.apply(&[], None).expect_err("is closed").code(), Code::Closed);
    }
}
