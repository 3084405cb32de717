//! A report for a bug report, as JSON.
//!
//! Invariants:
//! - No secret is in it. The facts have none (`super`); what others wrote into a text, such as an error that quotes a URL, loses users and
//!   passwords of URLs, and the Redis password wherever it stands.
//! - Only its owner may read the file, from its first byte on, and no file is overwritten.

use std::borrow::Cow;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde_json::{Value, json};

use super::finding::Finding;
use super::gather::Facts;
use crate::error::{Code, Error, Result};
use crate::redact::without_credentials;

/// What stands in a secret's place.
const HIDDEN: &str = "(hidden)";

/// Writes the report to a new file.
///
/// Errors: `InvalidArgument` if the file exists or cannot be written.
pub fn write(path: &Path, facts: &Facts, findings: &[Finding]) -> Result<()> {
    let failed = |e: &dyn std::fmt::Display| Error::new(Code::InvalidArgument, format!("the report {}: {e}", path.display()));
    let mut report = report(facts, findings);
    let secrets = secrets(facts);
    hide(&mut report, &secrets);
    let text = serde_json::to_vec_pretty(&report).map_err(|e| failed(&e))?;
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(&text).and_then(|()| file.write_all(b"\n"))).map_err(|e| failed(&e))
}

fn report(facts: &Facts, findings: &[Finding]) -> Value {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let locks = match &facts.locks {
        Some(Ok(locks)) => json!({ "held": locks.held.len(), "unreadable": locks.unreadable.len() }),
        _ => Value::Null,
    };
    json!({
        "time_unix_micros": facts.now,
        "versions": {
            "command": env!("CARGO_PKG_VERSION"),
            "server": facts.server,
            "redis": facts.redis.as_ref().and_then(|redis| redis.as_ref().ok()?.version.clone()),
        },
        "platform": { "os": std::env::consts::OS, "architecture": std::env::consts::ARCH, "kernel": kernel.trim() },
        "checks": findings,
        "settings": facts.settings,
        "status": facts.status,
        "health": facts.health,
        "locks": locks,
    })
}

/// The passwords of Redis, from wherever they come.
fn secrets(facts: &Facts) -> Vec<String> {
    let Ok(config) = &facts.config else { return Vec::new() };
    let all = [&config.locking.enhanced.redis, &config.locking.shadow.redis].into_iter().flat_map(|redis| {
        let files = [&redis.password_file, &redis.sentinel.password_file].into_iter().flatten();
        let of_files = files.filter_map(|path| fs::read_to_string(path).ok());
        of_files.chain([redis.password.clone(), redis.sentinel.password.clone()]).collect::<Vec<_>>()
    });
    all.map(|secret| secret.trim_end_matches(['\r', '\n']).to_owned()).filter(|secret| !secret.is_empty()).collect()
}

fn hide(value: &mut Value, secrets: &[String]) {
    match value {
        Value::String(text) => {
            let mut shown = without_credentials(Cow::Borrowed(text)).into_owned();
            for secret in secrets {
                shown = shown.replace(secret, HIDDEN);
            }
            *text = shown;
        }
        Value::Array(values) => values.iter_mut().for_each(|value| hide(value, secrets)),
        Value::Object(fields) => fields.values_mut().for_each(|value| hide(value, secrets)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
