//! The lines between a program and the server: one JSON object each, ended by a line break.
//!
//! ```text
//! server  {"protocol":1,"version":"0.1.0","pid":4711}        at once; or an error, and the end
//! client  {"op":"get","in":{"Key":"acme/infra/a/default/"}}   "in" is what the C ABI takes, if the operation takes something
//! server  {"ok":…}                                           what the C ABI gives; or
//! server  {"error":{"code":7,"name":"store_busy","message":"…"}}
//! ```
//!
//! After an error about the line itself (too long, no request) the server ends the connection. A new operation does not change
//! [`PROTOCOL`]: who asks an older server for it gets an error of code `Unsupported`.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::domain::json::parse_json;
use crate::domain::limits::MAX_LOCK_BYTES;
use crate::domain::token::FencingToken;
use crate::error::{Code, Error, Result};
use crate::service::Service;
use crate::service::queueing::explain::question;
use crate::service::queueing::json::{CheckRequest, LeaveRequest};

/// The version of these lines.
pub(super) const PROTOCOL: u32 = 1;
/// The socket's name in the data folder.
pub const FILE: &str = "atlock.sock";
/// The name of the socket by which a linked Atlantis takes changes of its mode; its lines are the same (`go/control`).
pub const CONTROL_FILE: &str = "atlock-server.sock";
/// How many programs are answered at once.
pub(super) const MOST_CONNECTIONS: usize = 16;
/// The longest path that a unix socket has on Linux, bytes; the system wants one more, for a NUL.
pub(super) const LONGEST_PATH: usize = 107;
/// The longest request, bytes: the largest input of an operation, and its name.
pub(super) const LONGEST_REQUEST: usize = MAX_LOCK_BYTES + 4096;

/// What programs may ask: a row is all that a new one needs.
pub static OPERATIONS: &[SocketOperation] = &[
    SocketOperation { name: "list", changes: false, run: |service, _| Ok(service.list()?.into_json().0) },
    SocketOperation { name: "get", changes: false, run: |service, target| service.get_lock(target).map(value) },
    SocketOperation { name: "command_lock", changes: false, run: command_lock },
    SocketOperation { name: "lock_info", changes: false, run: |service, keys| json(&service.lock_infos(keys)?) },
    SocketOperation { name: "status", changes: false, run: |service, _| json(&service.status()) },
    SocketOperation { name: "health", changes: false, run: |service, _| json(&service.health()) },
    SocketOperation { name: "metrics", changes: false, run: |service, _| json(&service.metrics()) },
    SocketOperation { name: "version", changes: false, run: |_, _| json(&Version { version: env!("CARGO_PKG_VERSION") }) },
    SocketOperation { name: "unlock", changes: true, run: |service, target| service.unlock(target).map(value) },
    SocketOperation { name: "unlock_by_pull", changes: true, run: unlock_by_pull },
    SocketOperation { name: "discard", changes: true, run: |service, target| service.discard(target).map(value) },
    SocketOperation { name: "queues", changes: false, run: |service, repo| json(&service.queues(parse_json(repo)?)?) },
    SocketOperation { name: "explain", changes: false, run: |service, asked| json(&service.explain(&question(asked)?)?) },
    SocketOperation { name: "check", changes: false, run: check },
    SocketOperation { name: "freezes", changes: false, run: |service, _| json(&service.freezes()?) },
    SocketOperation { name: "deadlocks", changes: false, run: |service, _| json(&service.deadlocks()?) },
    SocketOperation { name: "leave", changes: true, run: leave },
    SocketOperation { name: "freeze", changes: true, run: |service, freeze| json(&service.freeze(&parse_json(freeze)?)?) },
    SocketOperation { name: "thaw", changes: true, run: |service, id| json(&service.thaw(parse_json(id)?)?) },
];

/// An operation, as it is carried out by whoever has the stores open.
#[derive(Debug)]
pub struct SocketOperation {
    /// Its name.
    pub name: &'static str,
    /// Whether it may change locks.
    pub changes: bool,
    run: fn(&Service, &[u8]) -> Result<Vec<u8>>,
}

impl SocketOperation {
    /// The one of this name.
    pub fn named(name: &str) -> Result<&'static SocketOperation> {
        OPERATIONS.iter().find(|operation| operation.name == name).ok_or_else(|| {
            let known: Vec<&str> = OPERATIONS.iter().map(|operation| operation.name).collect();
            let (version, known) = (env!("CARGO_PKG_VERSION"), known.join(", "));
            Error::new(Code::Unsupported, format!("atlock {version} has no operation {name:?} on its socket; it has {known}"))
        })
    }

    /// Carries it out; `input` and the answer are JSON. A stored value that is no JSON, or `null`, is answered as a JSON text.
    pub fn run(&self, service: &Service, input: &[u8]) -> Result<Vec<u8>> {
        (self.run)(service, input)
    }
}

#[derive(Serialize)]
struct Version {
    version: &'static str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Pull {
    repo_full_name: String,
    pull_num: i64,
}

fn unlock_by_pull(service: &Service, input: &[u8]) -> Result<Vec<u8>> {
    let pull: Pull = parse_json(input)?;
    Ok(service.unlock_by_pull(&pull.repo_full_name, pull.pull_num)?.into_json().0)
}

/// The global lock of a command, whose name is the input; null if there is none.
fn command_lock(service: &Service, name: &[u8]) -> Result<Vec<u8>> {
    let name: String = parse_json(name)?;
    service.check_command_lock(&name).map(value)
}

fn check(service: &Service, input: &[u8]) -> Result<Vec<u8>> {
    let CheckRequest { repo, key, pull, token } = parse_json(input)?;
    let token = token.filter(|token| *token != FencingToken::NONE);
    json(&service.check(&key, &repo, &pull, token)?)
}

fn leave(service: &Service, input: &[u8]) -> Result<Vec<u8>> {
    let LeaveRequest { repo, pull, key } = parse_json(input)?;
    json(&service.leave(&repo, &pull, key.as_deref())?)
}

fn value(value: Option<Vec<u8>>) -> Vec<u8> {
    match value {
        None => b"null".to_vec(),
        Some(value) if parse_json::<&RawValue>(&value).is_ok_and(|value| value.get().trim() != "null") => value,
        // Strings serialise without an error.
        Some(value) => serde_json::to_vec(&String::from_utf8_lossy(&value)).unwrap_or_default(),
    }
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| Error::new(Code::Internal, format!("an answer cannot be written: {e}")))
}

/// The server's first line.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Greeting {
    pub protocol: u32,
    pub version: String,
    pub pid: u32,
}

/// A client's line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request<'a> {
    #[serde(borrow)]
    pub op: std::borrow::Cow<'a, str>,
    #[serde(borrow, rename = "in", default, skip_serializing_if = "Option::is_none")]
    pub input: Option<&'a RawValue>,
}

/// The server's other lines, as a client reads them.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Answer<'a> {
    Ok(#[serde(borrow)] &'a RawValue),
    Error(WireError),
}

#[derive(Serialize)]
struct Failed {
    error: WireError,
}

/// An error on its way.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WireError {
    code: i32,
    name: String,
    message: String,
}

impl From<&Error> for WireError {
    fn from(error: &Error) -> WireError {
        let code = error.code();
        WireError { code: code as i32, name: code.name().to_owned(), message: error.message().to_owned() }
    }
}

impl WireError {
    /// The server's error. A newer server may have codes that this program does not know.
    pub(super) fn error(self) -> Error {
        let name = serde::de::value::StrDeserializer::<serde::de::value::Error>::new(&self.name);
        Error::new(Code::deserialize(name).unwrap_or(Code::Protocol), self.message)
    }
}

/// An answer as a line.
pub(super) fn line(answer: Result<Vec<u8>>) -> Vec<u8> {
    as_line(match answer {
        Ok(json) => [br#"{"ok":"#, &json[..], b"}"].concat(),
        // Texts and numbers serialise without an error.
        Err(e) => serde_json::to_vec(&Failed { error: WireError::from(&e) }).unwrap_or_default(),
    })
}

/// JSON as a line. A line break in JSON stands between its parts, never in a text, and becomes a space.
pub(super) fn as_line(mut json: Vec<u8>) -> Vec<u8> {
    json.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
    json.push(b'\n');
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_one_line_and_the_same_json() {
        let text = line(Ok(b"{\r\n \"a\": \"b\\nc\"}".to_vec()));
        assert_eq!(text, b"{\"ok\":{   \"a\": \"b\\nc\"}}\n");
        let Ok(Answer::Ok(value)) = serde_json::from_slice(&text) else { panic!("{text:?}") };
        assert_eq!(value.get(), r#"{   "a": "b\nc"}"#);
        let Ok(Answer::Ok(value)) = serde_json::from_slice(br#"{"ok":null}"#) else { panic!("null is an answer") };
        assert_eq!(value.get(), "null");
    }

    #[test]
    fn an_error_keeps_its_code_and_its_text() {
        for error in [Error::new(Code::OtherPull, "one\n\"two\""), Error::new(Code::Tls, "")] {
            let Ok(Answer::Error(refusal)) = serde_json::from_slice(&line(Err(error.clone()))) else { panic!("{error}") };
            assert_eq!(refusal.code, error.code() as i32);
            assert_eq!(refusal.error(), error);
        }
        let unknown = WireError { code: 999, name: "of_a_later_version".to_owned(), message: "later".to_owned() };
        assert_eq!(unknown.error(), Error::new(Code::Protocol, "later"));
    }

    #[test]
    fn what_is_discarded_is_json_in_any_case() {
        assert_eq!(value(Some(br#"{"a":1}"#.to_vec())), br#"{"a":1}"#);
        assert_eq!(value(Some(b"no JSON \xff\n".to_vec())), "\"no JSON \u{fffd}\\n\"".as_bytes());
        assert_eq!(value(Some(b" null".to_vec())), b"\" null\"", "which is something");
        assert_eq!(value(None), b"null");
    }

    #[test]
    fn each_operation_has_one_row() {
        for operation in OPERATIONS {
            assert!(std::ptr::eq(SocketOperation::named(operation.name).expect("is known"), operation), "{}", operation.name);
        }
        let error = SocketOperation::named("lock\n").expect_err("is unknown");
        assert!(error.code() == Code::Unsupported && error.message().contains("\"lock\\n\""), "{error}");
    }
}
