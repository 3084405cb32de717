//! What crosses to a host store and back.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;

/// A host store in Rust: only the operations that mirror, each a line of Rust behind the calls.
#[derive(Debug, Default)]
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

/// The calls of a [`Fake`] that outlives them.
#[derive(Debug)]
struct Calls(Arc<Fake>);

impl HostCalls for Calls {
    fn call(&self, op: u32, input: &[u8]) -> Result<Vec<u8>> {
        self.0.answer(op, input).map(String::into_bytes).map_err(|text| Error::new(Code::HostStore, text))
    }
}

fn store(fake: &Arc<Fake>) -> HostStore {
    HostStore::new(Box::new(Calls(Arc::clone(fake))))
}

#[test]
fn entries_cross_byte_for_byte() {
    let fake = Arc::new(Fake::default());
    let store = store(&fake);
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
    let fake = Arc::new(Fake::default());
    *fake.answer.lock() = Some(r#"[{"key":{"status":"h::r::1"},"unreadable":true}]"#);
    let store = store(&fake);
    let key = EntryKey::Status("h::r::1".to_owned());
    assert_eq!(store.dump().expect("dumps").entries, [HostEntry { key: key.clone(), value: None }]);
    let refused = store.apply(&[HostWrite { key: &key, value: Some(b"\xff") }], None).expect_err("is refused");
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[test]
fn a_store_that_cannot_dump_is_told_apart_from_an_empty_one() {
    let fake = Arc::new(Fake::default());
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
        *fake.answer.lock() = Some(answer);
        assert_eq!(store(&fake).dump().expect_err(answer).code(), Code::Protocol, "{answer}");
    }
    *fake.answer.lock() = None;
    let store = store(&fake);
    assert_eq!(store.call(OP_GET, &()).expect_err("is not here").code(), Code::HostStore);
    store.close().expect("closes");
    assert_eq!(store.dump().expect_err("is closed").code(), Code::Closed);
    assert_eq!(store.apply(&[], None).expect_err("is closed").code(), Code::Closed);
}
