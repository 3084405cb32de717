//! A linked server that is asked from another machine, by HTTP.
//!
//! Invariants:
//! - What this program prints is what the server's API tells; what the API does not offer is refused with a sentence that says where it is
//!   done, and nothing is tried instead.
//! - The API token goes to the server that was named, since no redirect is followed, and over an encrypted connection, or to this machine. What
//!   changes something is not sent without it; a question is, and hears what everybody hears. No error quotes it.
//! - A question ends within a bounded time, and an answer has a bounded size.
//!
//! Faults survived: a server that hangs or answers something else. A change whose answer is lost is told as of unknown outcome, and is not
//! repeated.

use std::fmt::Display;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use atlock::config::is_this_machine;
use atlock::error::{Code, Error, Result};
use atlock::queue::freeze::plain;
use serde::Deserialize;
use serde_json::{Value, json};
use ureq::http::{Response, StatusCode, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

/// What the token may come from, beside a file.
const TOKEN_VARIABLE: &str = "ATLOCK_API_TOKEN";
const TOKEN_HEADER: &str = "X-Atlantis-Token";
const CHECK: &str = "/api/locks/check";
const LONGEST_TOKEN: u64 = 4 << 10;
/// A hundred thousand locks.
const LONGEST_ANSWER: u64 = 64 << 20;
const CONNECTING: Duration = Duration::from_secs(10);
const ASKING: Duration = Duration::from_secs(60);

/// The server.
pub struct Remote {
    agent: Agent,
    /// Without a slash at its end.
    url: String,
    token: Option<String>,
    /// Whether nobody on the way can read what is sent.
    is_private: bool,
}

/// What an operation is, by HTTP.
enum Request {
    Get(&'static str, Vec<(&'static str, String)>),
    Post(&'static str, String),
    Delete(&'static str, Vec<(&'static str, String)>),
}

impl Remote {
    /// The server at this URL; the token's file, if there is one.
    ///
    /// Errors: `InvalidArgument` for a URL that is none, or that has a user or a password; for a token that cannot be read; `Tls`.
    pub fn open(url: &str, token_file: Option<&Path>) -> Result<Remote> {
        let wrong =
            |why: &str| Error::new(Code::InvalidArgument, format!("--server {why}: give https://HOST, or http://HOST:PORT"));
        if url.contains('@') {
            // Not quoted: a password may be in it.
            return Err(wrong("has a user or a password, which others on this machine can see"));
        }
        let uri: Uri = url.parse().map_err(|_| wrong("is no URL"))?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| wrong("has no host"))?;
        let is_encrypted = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong("is no URL")),
        };
        if uri.query().is_some() {
            return Err(wrong("has a query"));
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("atlock/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECTING))
            .timeout_global(Some(ASKING));
        // What is not encrypted is not shown to a proxy.
        let config = if is_encrypted { config.tls_config(tls()?) } else { config.proxy(None) };
        Ok(Remote {
            agent: config.build().into(),
            is_private: is_encrypted || is_this_machine(host),
            url: url.trim_end_matches('/').to_owned(),
            token: token(token_file)?,
        })
    }

    /// Asks for one of [`atlock::socket::OPERATIONS`]; `input` and the answer are JSON.
    pub fn ask(&self, operation: &str, input: &str) -> Result<Vec<u8>> {
        let input: Value = serde_json::from_str(input).map_err(|e| Error::new(Code::Internal, format!("{operation}: {e}")))?;
        match operation {
            "list" => self.list(None),
            "get" => {
                let locks: Value = parsed(&self.list(Some(text(&input["Key"])))?)?;
                encoded(&locks["locks"][0])
            }
            "lock_info" => self.lock_info(text(&input[0])),
            "metrics" => {
                let body = self.send(&Request::Get("/metrics", Vec::new()))?;
                let lines =
                    String::from_utf8_lossy(&body).replace(|letter: char| letter.is_control() && letter != '\n', "\u{fffd}");
                encoded(&json!(lines))
            }
            // What everybody hears of it has the fields of the specification alone.
            "health" => Ok(with_state(self.send(&request(operation, &input, &self.url)?)?)),
            "leave" => {
                let left: Value = parsed(&self.send(&Request::Post("/api/locks/queue/leave", input.to_string()))?)?;
                encoded(&left["left"])
            }
            _ => {
                let answer: Value = parsed(&self.send(&request(operation, &input, &self.url)?)?)?;
                // Go's word for a list without anything.
                let answer = if answer.is_null() { json!([]) } else { answer };
                encoded(&answer)
            }
        }
    }

    /// The locks, as far as Atlantis's own API tells them: all, or the one of a key.
    fn list(&self, key: Option<&str>) -> Result<Vec<u8>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Lock {
            name: String,
            project_name: String,
            project_repo: String,
            project_repo_path: String,
            #[serde(rename = "PullID")]
            pull_id: String,
            #[serde(rename = "PullURL")]
            pull_url: String,
            user: String,
            workspace: String,
            time: String,
        }
        #[derive(Deserialize)]
        struct Locks {
            #[serde(rename = "Locks")]
            locks: Option<Vec<Lock>>,
        }
        let answer = self.send(&Request::Get("/api/locks", Vec::new()))?;
        let Locks { locks } = parsed(&answer)?;
        let mut locks: Vec<Lock> = locks.unwrap_or_default();
        locks.retain(|lock| key.is_none_or(|key| lock.name == key));
        locks.sort_by(|a, b| a.name.cmp(&b.name));
        let value = |lock: &Lock| {
            json!({
                "Project": {
                    "ProjectName": lock.project_name, "RepoFullName": lock.project_repo, "Path": lock.project_repo_path,
                },
                "Pull": { "Num": lock.pull_id.parse::<i64>().unwrap_or_default(), "URL": lock.pull_url },
                "User": { "Username": lock.user }, "Workspace": lock.workspace, "Time": lock.time,
            })
        };
        let values: Vec<Value> = locks.iter().map(value).collect();
        encoded(&json!({ "locks": values, "unreadable": [], "incomplete": null }))
    }

    /// A lock's token, which the API tells where it says why the lock is as it is.
    fn lock_info(&self, key: &str) -> Result<Vec<u8>> {
        if self.token.is_none() || !self.is_private {
            return encoded(&json!([{ "token": null }]));
        }
        let explained: Value = parsed(&self.send(&Request::Get("/api/locks/explain", vec![("id", key.to_owned())]))?)?;
        encoded(&json!([{ "token": explained[0]["holder"]["token"] }]))
    }

    fn send(&self, request: &Request) -> Result<Vec<u8>> {
        let (answer, changes) = match request {
            Request::Get(path, query) => {
                let question = self.agent.get(format!("{}{path}", self.url));
                // Atlantis's own paths know no token.
                let token = self.token.as_deref().filter(|_| self.is_private && path.starts_with("/api/locks/"));
                let question = token.into_iter().fold(question, |question, token| question.header(TOKEN_HEADER, token));
                (query.iter().fold(question, |question, (name, value)| question.query(name, value)).call(), false)
            }
            Request::Post(path, body) => {
                let question = self.agent.post(format!("{}{path}", self.url)).header(TOKEN_HEADER, self.token()?);
                (question.content_type("application/json").send(body.as_bytes()), true)
            }
            Request::Delete(path, query) => {
                let question = self.agent.delete(format!("{}{path}", self.url)).header(TOKEN_HEADER, self.token()?);
                (query.iter().fold(question, |question, (name, value)| question.query(name, value)).call(), true)
            }
        };
        let mut answer = answer.map_err(|e| self.unanswered(&e, changes))?;
        let body =
            answer.body_mut().with_config().limit(LONGEST_ANSWER).read_to_vec().map_err(|e| self.unanswered(&e, changes))?;
        let is_check = matches!(request, Request::Get(CHECK, _));
        if is_check && body.is_empty() && (answer.status() == StatusCode::OK || answer.status() == StatusCode::CONFLICT) {
            return encoded(&json!({ "holds": answer.status() == StatusCode::OK }));
        }
        self.judged(&answer, body)
    }

    /// The token, where it may be sent.
    fn token(&self) -> Result<&str> {
        if !self.is_private {
            let text = format!(
                "{}: the API token would be sent where others on the way can read it: give an https:// address",
                self.url
            );
            return Err(Error::new(Code::InvalidArgument, text));
        }
        self.token.as_deref().ok_or_else(|| {
            let text = format!("this changes something, and needs Atlantis's --api-secret: give its file as --token-file, or set {TOKEN_VARIABLE}");
            Error::new(Code::Permission, text)
        })
    }

    /// No answer came, or none that can be read.
    fn unanswered(&self, error: &ureq::Error, changes: bool) -> Error {
        let code = match error {
            ureq::Error::Rustls(_) | ureq::Error::Tls(_) => Code::Tls,
            ureq::Error::Io(e) if e.kind() == std::io::ErrorKind::InvalidData => Code::Tls,
            ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => Code::Unreachable,
            ureq::Error::Io(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => Code::Unreachable,
            ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => Code::Unreachable,
            _ if changes => Code::OutcomeUnknown,
            ureq::Error::Timeout(_) => Code::Timeout,
            ureq::Error::BodyExceedsLimit(_) => Code::TooLarge,
            ureq::Error::Io(_) => Code::Unreachable,
            _ => Code::Protocol,
        };
        let then = if code == Code::OutcomeUnknown { "; whether the change was made is not known: look" } else { "" };
        Error::new(code, format!("the server {} does not answer: {}{then}", self.url, plain(&error.to_string())))
    }

    /// The answer's body, or why it is none.
    fn judged(&self, answer: &Response<Body>, body: Vec<u8>) -> Result<Vec<u8>> {
        let told = serde_json::from_slice::<Value>(&body).ok();
        let status = answer.status();
        let tells = |status_of, field: &str| status == status_of && told.as_ref().is_some_and(|told| !told[field].is_null());
        // That no lock is granted, and that a pull does not hold one, are answers.
        if status.is_success() || tells(StatusCode::SERVICE_UNAVAILABLE, "overall") || tells(StatusCode::CONFLICT, "holds") {
            return Ok(body);
        }
        let why = told.as_ref().and_then(|told| told["error"].as_str()).map(plain);
        let url = &self.url;
        let (code, text) = match (status, why) {
            (status, _) if status.is_redirection() => {
                let to = answer.headers().get("location").and_then(|to| to.to_str().ok()).unwrap_or("another address");
                (Code::Protocol, format!("the server {url} redirects to {}, which is not followed: give that address", plain(to)))
            }
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, why) => {
                let why = why.unwrap_or_else(|| "it asks for a user and a password, which this command does not send".to_owned());
                let not_sent = self.token.is_some() && !self.is_private;
                let then = if not_sent {
                    "; the API token was not sent, because others on the way could read it: give an https:// address"
                } else {
                    ""
                };
                (Code::Permission, format!("the server {url} refuses: {why}{then}"))
            }
            (StatusCode::NOT_FOUND, Some(why)) => (Code::Unsupported, format!("the server {url}: {why}")),
            (StatusCode::BAD_REQUEST, Some(why)) => (Code::InvalidArgument, format!("the server {url}: {why}")),
            (StatusCode::NOT_FOUND, None) => {
                (Code::Protocol, format!("{url} is not the address of an Atlantis server with atlock: it knows no such path"))
            }
            (_, Some(why)) => (Code::StoreFailed, format!("the server {url}: {why}")),
            (status, None) => (Code::Protocol, format!("the server {url} answers with status {}", status.as_u16())),
        };
        Err(Error::new(code, text))
    }
}

/// What an operation is by HTTP.
fn request(operation: &str, input: &Value, url: &str) -> Result<Request> {
    let pull = |named: &Value| {
        let mut query = vec![("pull", named["num"].to_string())];
        query.extend(named["host"].as_str().filter(|host| !host.is_empty()).map(|host| ("host", host.to_owned())));
        query
    };
    Ok(match operation {
        "status" => Request::Get("/api/locks/compatibility/status", Vec::new()),
        "health" => Request::Get("/api/locks/health", Vec::new()),
        "queues" => Request::Get("/api/locks/queue", input.as_str().map(|repo| ("repo", repo.to_owned())).into_iter().collect()),
        "explain" => {
            let query = match input["key"].as_str() {
                Some(key) => vec![("id", key.to_owned())],
                None => {
                    let mut query = pull(&input["pull"]);
                    query.push(("repo", text(&input["repo"]).to_owned()));
                    query
                }
            };
            Request::Get("/api/locks/explain", query)
        }
        "check" => {
            let mut query = pull(&input["pull"]);
            query.push(("id", text(&input["key"]).to_owned()));
            query.extend(input["token"].as_u64().map(|token| ("token", token.to_string())));
            Request::Get(CHECK, query)
        }
        "freezes" => Request::Get("/api/locks/freezes", Vec::new()),
        "deadlocks" => Request::Get("/api/locks/deadlocks", Vec::new()),
        "freeze" => Request::Post("/api/locks/freezes", input.to_string()),
        "thaw" => Request::Delete("/api/locks/freezes", vec![("id", text(input).to_owned())]),
        "unlock" | "unlock_by_pull" | "discard" => {
            let text = format!(
                "a server releases no lock by its API: use the page {url}/locking, comment `atlantis unlock` on the pull request, or run this \
                 command on the server's machine"
            );
            return Err(Error::new(Code::Unsupported, text));
        }
        other => {
            let text = format!("a server does not offer {other:?} by its API: run this command on the server's machine");
            return Err(Error::new(Code::Unsupported, text));
        }
    })
}

/// A health with its state, which follows from what everybody hears (`atlock::health`).
fn with_state(health: Vec<u8>) -> Vec<u8> {
    let Ok(Value::Object(mut fields)) = serde_json::from_slice(&health) else { return health };
    if fields.contains_key("state") {
        return health;
    }
    let works = |name: &str| fields.get(name).is_none_or(|store| store["healthy"] == true);
    let is_whole =
        works("enhanced") && works("legacy") && !["open", "half-open"].map(Value::from).contains(&fields["circuit_state"]);
    let (state, headline) = match (fields.get("overall") == Some(&Value::Bool(true)), is_whole) {
        (false, _) => ("unhealthy", "No lock is granted"),
        (true, false) => ("degraded", "Locks are granted, but not as they should be"),
        (true, true) => ("healthy", "Locks are granted"),
    };
    fields.insert("state".to_owned(), state.into());
    fields.insert("headline".to_owned(), headline.into());
    serde_json::to_vec(&fields).unwrap_or(health)
}

/// Trusts whom the system trusts.
fn tls() -> Result<TlsConfig> {
    let wrong = |e: &dyn Display| Error::new(Code::Tls, format!("the system's certificates cannot be read ({e})"));
    let mut found = rustls_native_certs::load_native_certs();
    if let Some(e) = found.errors.pop() {
        return Err(wrong(&e));
    }
    let roots: Vec<Certificate<'static>> =
        found.certs.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&roots));
    Ok(builder.unversioned_rustls_crypto_provider(provider).build())
}

/// The token: from the file, or from the environment.
fn token(file: Option<&Path>) -> Result<Option<String>> {
    let wrong = |from: &dyn Display, e: &dyn Display| Error::new(Code::InvalidArgument, format!("the API token of {from}: {e}"));
    let (from, token) = match file {
        Some(file) => {
            let (from, mut text) = (format!("--token-file {}", file.display()), String::new());
            let opened = File::open(file).map_err(|e| wrong(&from, &e))?;
            let length = opened.take(LONGEST_TOKEN + 1).read_to_string(&mut text).map_err(|e| wrong(&from, &e))?;
            if length as u64 > LONGEST_TOKEN {
                return Err(wrong(&from, &"it is too long"));
            }
            (from, text)
        }
        None => match std::env::var(TOKEN_VARIABLE) {
            Ok(token) => (TOKEN_VARIABLE.to_owned(), token),
            Err(_) => return Ok(None),
        },
    };
    let token = token.trim_end_matches(['\r', '\n']);
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
        return Err(wrong(&from, &"it is empty, or is no text that a header can have"));
    }
    Ok(Some(token.to_owned()))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn parsed<T: for<'a> Deserialize<'a>>(answer: &[u8]) -> Result<T> {
    serde_json::from_slice(answer).map_err(|e| Error::new(Code::Protocol, format!("the server's answer cannot be read: {e}")))
}

fn encoded(value: &Value) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| Error::new(Code::Internal, format!("the answer: {e}")))
}
