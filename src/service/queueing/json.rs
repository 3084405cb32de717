//! What these operations take and answer as JSON, for whoever is not Rust: `include/atlock.h` says it to callers.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::place::{InRun, Waiting};
use super::wait::{WaitOptions, Waited, Why, check_name};
use super::wait_set::SetWaited;
use crate::domain::json::{parse_json, parse_object};
use crate::domain::token::FencingToken;
use crate::error::{Code, Error, Result};
use crate::queue::{Priority, PullId};

/// A lock, and the pull that is meant: it holds the lock, or waits for it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlaceRequest {
    /// Full name of the repository.
    pub repo: String,
    /// The lock's key.
    pub key: String,
    /// The pull; `None`: whoever comes.
    #[serde(default)]
    pub pull: Option<PullId>,
}

/// A pull that leaves.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaveRequest {
    /// Full name of the repository.
    pub repo: String,
    /// The pull.
    pub pull: PullId,
    /// The key of the one lock that it waits for no more; `None`: all.
    #[serde(default)]
    pub key: Option<String>,
}

/// A grant whose worth is asked for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckRequest {
    /// Full name of the repository.
    pub repo: String,
    /// The lock's key.
    pub key: String,
    /// The pull that was granted the lock.
    pub pull: PullId,
    /// The grant's fencing token; `None` or 0: any grant to this pull.
    #[serde(default)]
    pub token: Option<FencingToken>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OptionsJson {
    #[serde(default)]
    priority: Option<PriorityJson>,
    #[serde(default)]
    timeout_ms: Option<i64>,
    #[serde(default)]
    cancel: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a priority is 0 to 3, or low, normal, high or critical")]
enum PriorityJson {
    Number(i64),
    Name(Priority),
}

impl WaitOptions {
    /// `{"priority":…,"timeout_ms":…,"cancel":…}`, each of which may be absent; an empty text is `{}`.
    ///
    /// Errors: `InvalidJson`; `InvalidArgument` for a priority that is none, a negative timeout, or an impossible name.
    pub fn parse(json: &[u8]) -> Result<WaitOptions> {
        let options: OptionsJson = parse_object(if json.is_empty() { b"{}" } else { json })?;
        let priority = match options.priority {
            None => Priority::default(),
            Some(PriorityJson::Name(priority)) => priority,
            Some(PriorityJson::Number(number)) => Priority::try_from(number)?,
        };
        let timeout = options.timeout_ms.map(|millis| {
            u64::try_from(millis).map(Duration::from_millis).map_err(|_| {
                let text =
                    format!("a timeout of {millis} ms is negative: give 0 to ask once, or leave it out for the configured time");
                Error::new(Code::InvalidArgument, text)
            })
        });
        if let Some(name) = &options.cancel {
            check_name(name)?;
        }
        Ok(WaitOptions { priority, timeout: timeout.transpose()?, cancel: options.cancel })
    }
}

/// An answer about one lock; a lock is in it as it is stored.
#[derive(Serialize)]
struct AnswerJson<'a> {
    acquired: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<FencingToken>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'static str>,
    lock: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<&'a Waiting>,
}

impl AnswerJson<'_> {
    fn granted(value: &[u8], token: FencingToken) -> Result<Vec<u8>> {
        write(&AnswerJson { acquired: true, token: Some(token), why: None, lock: parse_json(value)?, queue: None })
    }

    fn refused(value: &[u8], why: Option<Why>, waiting: Option<&Waiting>) -> Result<Vec<u8>> {
        let lock = parse_json(value)?;
        write(&AnswerJson { acquired: false, token: None, why: why.map(Why::name), lock, queue: waiting })
    }
}

impl InRun {
    /// `{"acquired":true,"token":N,"lock":{…}}` or `{"acquired":false,"lock":{…},"queue":{…}}`, without `queue` where the pull has no place.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        if self.acquired {
            return AnswerJson::granted(&self.value, self.token);
        }
        AnswerJson::refused(&self.value, None, self.waiting.as_ref())
    }
}

impl Waited {
    /// The same, and with a refusal `"why"`.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        match self {
            Waited::Locked { value, token } => AnswerJson::granted(value, *token),
            Waited::Without { why, holder, waiting } => AnswerJson::refused(holder, Some(*why), waiting.as_ref()),
        }
    }
}

impl SetWaited {
    /// `{"acquired":true,"locks":[{"lock":{…},"token":N},…]}`, or what [`Waited::to_json`] gives for a refusal.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        #[derive(Serialize)]
        struct Granted<'a> {
            lock: &'a RawValue,
            token: FencingToken,
        }
        #[derive(Serialize)]
        struct Set<'a> {
            acquired: bool,
            locks: Vec<Granted<'a>>,
        }
        match self {
            SetWaited::Locked(locks) => {
                let granted = locks.iter().map(|(value, token)| Ok(Granted { lock: parse_json(value)?, token: *token }));
                write(&Set { acquired: true, locks: granted.collect::<Result<_>>()? })
            }
            SetWaited::Without { why, holder, waiting } => AnswerJson::refused(holder, Some(*why), waiting.as_ref()),
        }
    }
}

fn write(answer: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(answer).map_err(|e| Error::new(Code::Internal, format!("an answer cannot be written: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_or_refused_with_a_sentence() {
        let read = |text: &str| WaitOptions::parse(text.as_bytes());
        let none = read("").expect("is read");
        assert_eq!((none.priority, none.timeout, none.cancel), (Priority::Normal, None, None));
        let all = read(r#"{"priority":"high","timeout_ms":0,"cancel":"a"}"#).expect("is read");
        assert_eq!((all.priority, all.timeout, all.cancel.as_deref()), (Priority::High, Some(Duration::ZERO), Some("a")));
        for (number, wanted) in [(0, Priority::Low), (3, Priority::Critical)] {
            assert_eq!(read(&format!(r#"{{"priority":{number}}}"#)).expect("is read").priority, wanted);
        }
        for (text, code, part) in [
            (r#"{"priority":4}"#, Code::InvalidArgument, "the priority 4 is none"),
            (r#"{"priority":-1}"#, Code::InvalidArgument, "the priority -1 is none"),
            (r#"{"priority":"urgent"}"#, Code::InvalidJson, "a priority is 0 to 3, or low, normal, high or critical"),
            (r#"{"priority":1.5}"#, Code::InvalidJson, "a priority is 0 to 3"),
            (r#"{"timeout_ms":-1}"#, Code::InvalidArgument, "a timeout of -1 ms is negative"),
            (r#"{"timeout_ms":"1s"}"#, Code::InvalidJson, "invalid type"),
            (r#"{"cancel":""}"#, Code::InvalidArgument, "1 to 256 bytes"),
            (r#"{"timeout":5}"#, Code::InvalidJson, "unknown field `timeout`"),
            ("[", Code::InvalidJson, "at byte"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.code() == code && error.message().contains(part), "{text}: {error:?}");
        }
    }

    #[test]
    fn a_lock_is_answered_as_it_is_stored() {
        let value = br#"{"Pull": {"Num":1},  "Time":"x"}"#.to_vec();
        let waiting = Waiting {
            position: 2,
            ahead: vec![PullId { host: "h".to_owned(), num: 7 }],
            since: 5,
            why: "held",
            blocker: None,
            stale: true,
        };
        let refused = Waited::Without { why: Why::Left, holder: value.clone(), waiting: Some(waiting) };
        let text = String::from_utf8(refused.to_json().expect("is written")).expect("is text");
        let lock = r#"{"Pull": {"Num":1},  "Time":"x"}"#;
        let queue = r#"{"position":2,"ahead":[{"host":"h","num":7}],"since":5,"why":"held","stale":true}"#;
        assert_eq!(text, format!(r#"{{"acquired":false,"why":"left","lock":{lock},"queue":{queue}}}"#));
        let granted = SetWaited::Locked(vec![(value, FencingToken::NONE)]).to_json().expect("is written");
        let wanted = format!(r#"{{"acquired":true,"locks":[{{"lock":{lock},"token":0}}]}}"#);
        assert_eq!(String::from_utf8(granted).expect("is text"), wanted);
    }
}
