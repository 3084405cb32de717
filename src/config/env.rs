//! Environment variables that override the settings file.
//!
//! `ATLANTIS_LOCKING_…` sets a key of `locking`, `ATLANTIS_ENHANCED_LOCKING_…` one of `locking.enhanced`. A variable of the second
//! prefix that is not known is a mistake. Atlantis has variables of its own that begin with `ATLANTIS_LOCKING_` (its flags), so one of the
//! first is a mistake only if it is nearly one of ours. What Kubernetes sets for a service of such a name is neither.

use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde::de::value::{Error as ValueError, StrDeserializer};

use super::mistakes::gathered;
use super::suggest::nearest;
use super::{Breaker, Config, DeadlockDetection, PriorityQueue, Redis, Shadow, Tls, text};
use crate::error::{Code, Error, Result};

const GUARDED_PREFIX: &str = "ATLANTIS_ENHANCED_LOCKING_";
const SHARED_PREFIX: &str = "ATLANTIS_LOCKING_";
/// Atlantis's own flags of that prefix.
const ATLANTIS_OWN: &[&str] = &["ATLANTIS_LOCKING_DB_TYPE"];

type Setter = fn(&mut Config, &str) -> std::result::Result<(), String>;

/// Every variable and the setting that it overrides.
const VARIABLES: &[(&str, Setter)] = &[
    ("ATLANTIS_LOCKING_BACKEND", |c, v| set(&mut c.locking.backend, name(v))),
    ("ATLANTIS_LOCKING_DATA_DIR", |c, v| set(&mut c.locking.data_dir, Ok(Some(v.into())))),
    ("ATLANTIS_LOCKING_TIMEOUT", |c, v| set(&mut c.locking.timeout, duration(v))),
    ("ATLANTIS_LOCKING_KEY_FORMAT", |c, v| set(&mut c.locking.key_format, name(v))),
    ("ATLANTIS_LOCKING_SOCKET", |c, v| set(&mut c.locking.socket, name(v))),
    ("ATLANTIS_LOCKING_AUDIT_FILE", |c, v| set(&mut c.locking.audit.file, Ok((!v.is_empty()).then(|| v.into())))),
    ("ATLANTIS_LOCKING_AUDIT_MAX_BYTES", |c, v| set(&mut c.locking.audit.max_bytes, parsed(v, "a number"))),
    ("ATLANTIS_LOCKING_AUDIT_KEEP", |c, v| set(&mut c.locking.audit.keep, parsed(v, "a number"))),
    ("ATLANTIS_LOCKING_AUDIT_STDOUT", |c, v| set(&mut c.locking.audit.stdout, parsed(v, "true or false"))),
    ("ATLANTIS_LOCKING_AUDIT_REQUIRED", |c, v| set(&mut c.locking.audit.required, parsed(v, "true or false"))),
    ("ATLANTIS_LOCKING_ENCRYPTION_KEY_FILE", |c, v| set(&mut c.locking.encryption.key_file, Ok(Some(v.into())))),
    ("ATLANTIS_LOCKING_ENCRYPTION_KEY_ENV", |c, v| set(&mut c.locking.encryption.key_env, Ok(Some(v.to_owned())))),
    ("ATLANTIS_LOCKING_ENCRYPTION_KEY_COMMAND", |c, v| set(&mut c.locking.encryption.key_command, Ok(Some(v.to_owned())))),
    ("ATLANTIS_LOCKING_SHADOW_STORE", |c, v| set(&mut shadow(c).store, name(v))),
    ("ATLANTIS_LOCKING_SHADOW_DATA_DIR", |c, v| set(&mut shadow(c).data_dir, Ok(Some(v.into())))),
    ("ATLANTIS_LOCKING_SHADOW_SAMPLE", |c, v| set(&mut shadow(c).sample, duration(v))),
    ("ATLANTIS_LOCKING_SHADOW_REDIS_ADDRESS", |c, v| set(&mut shadow(c).redis.address, Ok(v.to_owned()))),
    ("ATLANTIS_LOCKING_SHADOW_REDIS_ADDRESSES", |c, v| set(&mut shadow(c).redis.addresses, Ok(list(v)))),
    ("ATLANTIS_LOCKING_SHADOW_REDIS_CLUSTER_MODE", |c, v| set(&mut shadow(c).redis.cluster_mode, parsed(v, "true or false"))),
    ("ATLANTIS_LOCKING_SHADOW_REDIS_SENTINEL_ADDRESSES", |c, v| set(&mut shadow(c).redis.sentinel.addresses, Ok(list(v)))),
    ("ATLANTIS_LOCKING_SHADOW_REDIS_SENTINEL_MASTER_NAME", |c, v| {
        set(&mut shadow(c).redis.sentinel.master_name, Ok(v.to_owned()))
    }),
    ("ATLANTIS_LOCKING_SHADOW_REDIS_SENTINEL_USERNAME", |c, v| set(&mut shadow(c).redis.sentinel.username, Ok(v.to_owned()))),
    ("ATLANTIS_LOCKING_SHADOW_REDIS_SENTINEL_PASSWORD", |c, v| set(&mut shadow(c).redis.sentinel.password, Ok(v.to_owned()))),
    ("ATLANTIS_LOCKING_SHADOW_REDIS_SENTINEL_PASSWORD_FILE", |c, v| {
        set(&mut shadow(c).redis.sentinel.password_file, Ok(Some(v.into())))
    }),
    ("ATLANTIS_LOCKING_SHADOW_REDIS_SENTINEL_TLS_ENABLED", |c, v| {
        set(&mut shadow(c).redis.sentinel.tls.enabled, parsed(v, "true or false"))
    }),
    ("ATLANTIS_LOCKING_SHADOW_REDIS_SENTINEL_TLS_CA_FILE", |c, v| {
        set(&mut shadow(c).redis.sentinel.tls.ca_file, Ok(Some(v.into())))
    }),
    ("ATLANTIS_LOCKING_SHADOW_REDIS_SENTINEL_TLS_CERT_FILE", |c, v| {
        set(&mut shadow(c).redis.sentinel.tls.cert_file, Ok(Some(v.into())))
    }),
    ("ATLANTIS_LOCKING_SHADOW_REDIS_SENTINEL_TLS_KEY_FILE", |c, v| {
        set(&mut shadow(c).redis.sentinel.tls.key_file, Ok(Some(v.into())))
    }),
    ("ATLANTIS_LOCKING_SHADOW_REDIS_SENTINEL_TLS_SERVER_NAME", |c, v| {
        set(&mut shadow(c).redis.sentinel.tls.server_name, Ok(v.to_owned()))
    }),
    ("ATLANTIS_LOCKING_SHADOW_REDIS_PASSWORD_COMMAND", |c, v| set(&mut shadow(c).redis.password_command, Ok(list(v)))),
    ("ATLANTIS_LOCKING_SHADOW_REDIS_TLS_SERVER_NAME", |c, v| set(&mut shadow(c).redis.tls.server_name, Ok(v.to_owned()))),
    ("ATLANTIS_LOCKING_SHADOW_REDIS_USERNAME", |c, v| set(&mut shadow(c).redis.username, Ok(v.to_owned()))),
    ("ATLANTIS_LOCKING_SHADOW_REDIS_PASSWORD", |c, v| set(&mut shadow(c).redis.password, Ok(v.to_owned()))),
    ("ATLANTIS_LOCKING_SHADOW_REDIS_PASSWORD_FILE", |c, v| set(&mut shadow(c).redis.password_file, Ok(Some(v.into())))),
    ("ATLANTIS_LOCKING_SHADOW_REDIS_DB", |c, v| set(&mut shadow(c).redis.db, parsed(v, "a number"))),
    ("ATLANTIS_LOCKING_SHADOW_REDIS_TLS_ENABLED", |c, v| set(&mut shadow(c).redis.tls.enabled, parsed(v, "true or false"))),
    ("ATLANTIS_LOCKING_SHADOW_REDIS_TLS_CA_FILE", |c, v| set(&mut shadow(c).redis.tls.ca_file, Ok(Some(v.into())))),
    ("ATLANTIS_LOCKING_SHADOW_REDIS_TLS_CERT_FILE", |c, v| set(&mut shadow(c).redis.tls.cert_file, Ok(Some(v.into())))),
    ("ATLANTIS_LOCKING_SHADOW_REDIS_TLS_KEY_FILE", |c, v| set(&mut shadow(c).redis.tls.key_file, Ok(Some(v.into())))),
    ("ATLANTIS_LOCKING_SHADOW_REDIS_ALLOW_PLAINTEXT", |c, v| {
        set(&mut shadow(c).redis.allow_plaintext, parsed(v, "true or false"))
    }),
    ("ATLANTIS_LOCKING_SHADOW_REDIS_ALLOW_NO_PERSISTENCE", |c, v| {
        set(&mut shadow(c).redis.allow_no_persistence, parsed(v, "true or false"))
    }),
    ("ATLANTIS_LOCKING_SHADOW_REDIS_SHARED_WITH_STOCK", |c, v| {
        set(&mut shadow(c).redis.shared_with_stock, parsed(v, "true or false"))
    }),
    ("ATLANTIS_LOCKING_SHADOW_REDIS_WAIT_REPLICAS", |c, v| set(&mut shadow(c).redis.wait_replicas, parsed(v, "a number"))),
    ("ATLANTIS_LOCKING_SHADOW_REDIS_TIMEOUTS_CONNECT", |c, v| set(&mut shadow(c).redis.timeouts.connect, duration(v))),
    ("ATLANTIS_LOCKING_SHADOW_REDIS_TIMEOUTS_OPERATION", |c, v| set(&mut shadow(c).redis.timeouts.operation, duration(v))),
    ("ATLANTIS_ENHANCED_LOCKING_ENABLED", |c, v| set(&mut c.locking.enhanced.enabled, parsed(v, "true or false"))),
    ("ATLANTIS_ENHANCED_LOCKING_BACKEND", |c, v| set(&mut c.locking.enhanced.backend, name(v))),
    ("ATLANTIS_ENHANCED_LOCKING_COMPATIBILITY_MODE", |c, v| set(&mut c.locking.enhanced.compatibility_mode, name(v))),
    ("ATLANTIS_ENHANCED_LOCKING_LEGACY_FALLBACK", |c, v| {
        set(&mut c.locking.enhanced.legacy_fallback, parsed(v, "true or false"))
    }),
    ("ATLANTIS_ENHANCED_LOCKING_ALLOW_UNSEEN_REDIS", |c, v| {
        set(&mut c.locking.enhanced.allow_unseen_redis, parsed(v, "true or false"))
    }),
    ("ATLANTIS_ENHANCED_LOCKING_ALLOW_INCOMPLETE_ROLLBACK", |c, v| {
        set(&mut c.locking.enhanced.allow_incomplete_rollback, parsed(v, "true or false"))
    }),
    ("ATLANTIS_ENHANCED_LOCKING_INSTANCES", |c, v| set(&mut c.locking.enhanced.instances, name(v))),
    ("ATLANTIS_ENHANCED_LOCKING_DURABILITY", |c, v| set(&mut c.locking.enhanced.durability, name(v))),
    ("ATLANTIS_ENHANCED_LOCKING_REPLACE_DAMAGED_COPY", |c, v| {
        set(&mut c.locking.enhanced.replace_damaged_copy, parsed(v, "true or false"))
    }),
    ("ATLANTIS_ENHANCED_LOCKING_BREAKER_CONSECUTIVE_FAILURES", |c, v| {
        set(&mut breaker(c).consecutive_failures, parsed(v, "a number"))
    }),
    ("ATLANTIS_ENHANCED_LOCKING_BREAKER_FAILURE_RATE", |c, v| set(&mut breaker(c).failure_rate, parsed(v, "a number"))),
    ("ATLANTIS_ENHANCED_LOCKING_BREAKER_MINIMUM_CALLS", |c, v| set(&mut breaker(c).minimum_calls, parsed(v, "a number"))),
    ("ATLANTIS_ENHANCED_LOCKING_BREAKER_WINDOW", |c, v| set(&mut breaker(c).window, duration(v))),
    ("ATLANTIS_ENHANCED_LOCKING_BREAKER_SLOW_CALL", |c, v| set(&mut breaker(c).slow_call, duration(v))),
    ("ATLANTIS_ENHANCED_LOCKING_BREAKER_OPEN", |c, v| set(&mut breaker(c).open, duration(v))),
    ("ATLANTIS_ENHANCED_LOCKING_BREAKER_MAX_OPEN", |c, v| set(&mut breaker(c).max_open, duration(v))),
    ("ATLANTIS_ENHANCED_LOCKING_BREAKER_HALF_OPEN_PROBES", |c, v| set(&mut breaker(c).half_open_probes, parsed(v, "a number"))),
    ("ATLANTIS_ENHANCED_LOCKING_HEALTH_INTERVAL", |c, v| set(&mut c.locking.enhanced.health.interval, duration(v))),
    ("ATLANTIS_ENHANCED_LOCKING_HEALTH_TIMEOUT", |c, v| set(&mut c.locking.enhanced.health.timeout, duration(v))),
    ("ATLANTIS_ENHANCED_LOCKING_HEALTH_COMPARE", |c, v| set(&mut c.locking.enhanced.health.compare, duration(v))),
    ("ATLANTIS_ENHANCED_LOCKING_REDIS_ADDRESS", |c, v| set(&mut redis(c).address, Ok(v.to_owned()))),
    ("ATLANTIS_ENHANCED_LOCKING_REDIS_ADDRESSES", |c, v| set(&mut redis(c).addresses, Ok(list(v)))),
    ("ATLANTIS_ENHANCED_LOCKING_REDIS_CLUSTER_MODE", |c, v| set(&mut redis(c).cluster_mode, parsed(v, "true or false"))),
    ("ATLANTIS_ENHANCED_LOCKING_REDIS_SENTINEL_ADDRESSES", |c, v| set(&mut redis(c).sentinel.addresses, Ok(list(v)))),
    ("ATLANTIS_ENHANCED_LOCKING_REDIS_SENTINEL_MASTER_NAME", |c, v| set(&mut redis(c).sentinel.master_name, Ok(v.to_owned()))),
    ("ATLANTIS_ENHANCED_LOCKING_REDIS_SENTINEL_USERNAME", |c, v| set(&mut redis(c).sentinel.username, Ok(v.to_owned()))),
    ("ATLANTIS_ENHANCED_LOCKING_REDIS_SENTINEL_PASSWORD", |c, v| set(&mut redis(c).sentinel.password, Ok(v.to_owned()))),
    ("ATLANTIS_ENHANCED_LOCKING_REDIS_SENTINEL_PASSWORD_FILE", |c, v| {
        set(&mut redis(c).sentinel.password_file, Ok(Some(v.into())))
    }),
    ("ATLANTIS_ENHANCED_LOCKING_REDIS_SENTINEL_TLS_ENABLED", |c, v| {
        set(&mut redis(c).sentinel.tls.enabled, parsed(v, "true or false"))
    }),
    ("ATLANTIS_ENHANCED_LOCKING_REDIS_SENTINEL_TLS_CA_FILE", |c, v| set(&mut redis(c).sentinel.tls.ca_file, Ok(Some(v.into())))),
    ("ATLANTIS_ENHANCED_LOCKING_REDIS_SENTINEL_TLS_CERT_FILE", |c, v| {
        set(&mut redis(c).sentinel.tls.cert_file, Ok(Some(v.into())))
    }),
    ("ATLANTIS_ENHANCED_LOCKING_REDIS_SENTINEL_TLS_KEY_FILE", |c, v| {
        set(&mut redis(c).sentinel.tls.key_file, Ok(Some(v.into())))
    }),
    ("ATLANTIS_ENHANCED_LOCKING_REDIS_SENTINEL_TLS_SERVER_NAME", |c, v| {
        set(&mut redis(c).sentinel.tls.server_name, Ok(v.to_owned()))
    }),
    ("ATLANTIS_ENHANCED_LOCKING_REDIS_PASSWORD_COMMAND", |c, v| set(&mut redis(c).password_command, Ok(list(v)))),
    ("ATLANTIS_ENHANCED_LOCKING_REDIS_TLS_SERVER_NAME", |c, v| set(&mut redis(c).tls.server_name, Ok(v.to_owned()))),
    ("ATLANTIS_ENHANCED_LOCKING_REDIS_USERNAME", |c, v| set(&mut redis(c).username, Ok(v.to_owned()))),
    ("ATLANTIS_ENHANCED_LOCKING_REDIS_PASSWORD", |c, v| set(&mut redis(c).password, Ok(v.to_owned()))),
    ("ATLANTIS_ENHANCED_LOCKING_REDIS_PASSWORD_FILE", |c, v| set(&mut redis(c).password_file, Ok(Some(v.into())))),
    ("ATLANTIS_ENHANCED_LOCKING_REDIS_DB", |c, v| set(&mut redis(c).db, parsed(v, "a number"))),
    ("ATLANTIS_ENHANCED_LOCKING_REDIS_TLS_ENABLED", |c, v| set(&mut tls(c).enabled, parsed(v, "true or false"))),
    ("ATLANTIS_ENHANCED_LOCKING_REDIS_TLS_CA_FILE", |c, v| set(&mut tls(c).ca_file, Ok(Some(v.into())))),
    ("ATLANTIS_ENHANCED_LOCKING_REDIS_TLS_CERT_FILE", |c, v| set(&mut tls(c).cert_file, Ok(Some(v.into())))),
    ("ATLANTIS_ENHANCED_LOCKING_REDIS_TLS_KEY_FILE", |c, v| set(&mut tls(c).key_file, Ok(Some(v.into())))),
    ("ATLANTIS_ENHANCED_LOCKING_REDIS_ALLOW_PLAINTEXT", |c, v| set(&mut redis(c).allow_plaintext, parsed(v, "true or false"))),
    ("ATLANTIS_ENHANCED_LOCKING_REDIS_ALLOW_NO_PERSISTENCE", |c, v| {
        set(&mut redis(c).allow_no_persistence, parsed(v, "true or false"))
    }),
    ("ATLANTIS_ENHANCED_LOCKING_REDIS_SHARED_WITH_STOCK", |c, v| {
        set(&mut redis(c).shared_with_stock, parsed(v, "true or false"))
    }),
    ("ATLANTIS_ENHANCED_LOCKING_REDIS_WAIT_REPLICAS", |c, v| set(&mut redis(c).wait_replicas, parsed(v, "a number"))),
    ("ATLANTIS_ENHANCED_LOCKING_REDIS_TIMEOUTS_CONNECT", |c, v| set(&mut redis(c).timeouts.connect, duration(v))),
    ("ATLANTIS_ENHANCED_LOCKING_REDIS_TIMEOUTS_OPERATION", |c, v| set(&mut redis(c).timeouts.operation, duration(v))),
    ("ATLANTIS_ENHANCED_LOCKING_PRIORITY_QUEUE_ENABLED", |c, v| set(&mut queue(c).enabled, parsed(v, "true or false"))),
    ("ATLANTIS_ENHANCED_LOCKING_PRIORITY_QUEUE_REPOS", |c, v| set(&mut queue(c).repos, Ok(list(v)))),
    ("ATLANTIS_ENHANCED_LOCKING_PRIORITY_QUEUE_SETS", |c, v| set(&mut queue(c).sets, name(v))),
    ("ATLANTIS_ENHANCED_LOCKING_PRIORITY_QUEUE_AGING", |c, v| set(&mut queue(c).aging, duration(v))),
    ("ATLANTIS_ENHANCED_LOCKING_PRIORITY_QUEUE_RULES", |c, v| set(&mut queue(c).rules, as_in_the_file(v))),
    ("ATLANTIS_ENHANCED_LOCKING_PRIORITY_QUEUE_REPLAN", |c, v| set(&mut queue(c).replan, name(v))),
    ("ATLANTIS_ENHANCED_LOCKING_APPLY_GUARD", |c, v| set(&mut c.locking.enhanced.apply_guard, name(v))),
    ("ATLANTIS_ENHANCED_LOCKING_STALE_LOCKS", |c, v| set(&mut c.locking.enhanced.stale_locks, name(v))),
    ("ATLANTIS_ENHANCED_LOCKING_DEADLOCK_DETECTION_ENABLED", |c, v| set(&mut deadlocks(c).enabled, parsed(v, "true or false"))),
    ("ATLANTIS_ENHANCED_LOCKING_DEADLOCK_DETECTION_RESOLVE", |c, v| set(&mut deadlocks(c).resolve, name(v))),
    ("ATLANTIS_ENHANCED_LOCKING_DEADLOCK_DETECTION_CONFIRM", |c, v| set(&mut deadlocks(c).confirm, duration(v))),
    ("ATLANTIS_ENHANCED_LOCKING_TIMEOUTS_DEFAULT", |c, v| set(&mut c.locking.enhanced.timeouts.default, duration(v))),
    ("ATLANTIS_ENHANCED_LOCKING_TIMEOUTS_MAX", |c, v| set(&mut c.locking.enhanced.timeouts.max, duration(v))),
];

/// Overrides `config` with those of `variables` that name a setting.
///
/// Errors: `InvalidConfig`, naming each variable; a value is named only where it cannot be a secret.
pub(super) fn apply(config: &mut Config, variables: impl Iterator<Item = (OsString, OsString)>) -> Result<()> {
    gathered(variables.map(|(variable, value)| {
        let Some(variable) = variable.to_str() else { return Ok(()) };
        let wrong = |text: String| Error::new(Code::InvalidConfig, format!("environment variable {variable}: {text}"));
        match VARIABLES.iter().find(|(known, _)| *known == variable) {
            Some((_, setter)) => {
                let value = value.to_str().ok_or_else(|| wrong("its value is not UTF-8".to_owned()))?;
                setter(config, value).map_err(wrong)
            }
            None if is_of_kubernetes(variable, &value) || ATLANTIS_OWN.contains(&variable) => Ok(()),
            None => match meant(variable) {
                Some(meant) => Err(wrong(format!("not known; did you mean {meant}?"))),
                None if variable.starts_with(GUARDED_PREFIX) => Err(wrong("not known: no setting has this name".to_owned())),
                None => Ok(()),
            },
        }
    }))
}

/// The variable that was probably meant.
fn meant(variable: &str) -> Option<&'static str> {
    let prefix = [GUARDED_PREFIX, SHARED_PREFIX].into_iter().find(|prefix| variable.starts_with(prefix))?;
    let of_prefix = VARIABLES.iter().filter_map(|(known, _)| known.strip_prefix(prefix));
    let near = nearest(&variable[prefix.len()..], of_prefix)?;
    VARIABLES.iter().map(|(known, _)| *known).find(|known| known.strip_prefix(prefix) == Some(near))
}

/// Whether Kubernetes sets such a variable in each container, for a service of that name: `NAME_SERVICE_HOST`, `NAME_SERVICE_PORT…`,
/// `NAME_PORT=tcp://…`, and `NAME_PORT_6379_TCP…` (<https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables>).
fn is_of_kubernetes(variable: &str, value: &OsStr) -> bool {
    let is_port = |rest: &str| {
        let mut words = rest.split('_');
        let number = words.next().is_some_and(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit()));
        number && words.next().is_some_and(|word| ["TCP", "UDP", "SCTP"].contains(&word))
    };
    let is_address =
        || value.to_str().is_some_and(|value| ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme)));
    variable.ends_with("_SERVICE_HOST")
        || variable.contains("_SERVICE_PORT")
        || variable.ends_with("_PORT") && is_address()
        || variable.match_indices("_PORT_").any(|(at, found)| is_port(&variable[at + found.len()..]))
}

/// The variable of a setting, given the keys that lead to it.
pub(super) fn variable(keys: &[&str]) -> String {
    match keys {
        ["locking", "enhanced", rest @ ..] => format!("{GUARDED_PREFIX}{}", rest.join("_").to_uppercase()),
        keys => format!("ATLANTIS_{}", keys.join("_").to_uppercase()),
    }
}

fn breaker(config: &mut Config) -> &mut Breaker {
    &mut config.locking.enhanced.breaker
}

fn redis(config: &mut Config) -> &mut Redis {
    &mut config.locking.enhanced.redis
}

fn tls(config: &mut Config) -> &mut Tls {
    &mut redis(config).tls
}

fn queue(config: &mut Config) -> &mut PriorityQueue {
    &mut config.locking.enhanced.priority_queue
}

fn shadow(config: &mut Config) -> &mut Shadow {
    &mut config.locking.shadow
}

fn deadlocks(config: &mut Config) -> &mut DeadlockDetection {
    &mut config.locking.enhanced.deadlock_detection
}

fn set<T>(setting: &mut T, value: std::result::Result<T, String>) -> std::result::Result<(), String> {
    *setting = value?;
    Ok(())
}

/// One of an enum's names, by the same rules as in the file.
fn name<'a, T: Deserialize<'a>>(value: &'a str) -> std::result::Result<T, String> {
    T::deserialize(StrDeserializer::<ValueError>::new(value)).map_err(|e| e.to_string())
}

fn parsed<T: FromStr<Err: Display>>(value: &str, wanted: &str) -> std::result::Result<T, String> {
    value.parse().map_err(|_| format!("{value:?} is not {wanted}"))
}

fn duration(value: &str) -> std::result::Result<Duration, String> {
    humantime_serde::re::humantime::parse_duration(value)
        .map_err(|e| format!("{value:?} is not a duration such as 500ms or 2s: {e}"))
}

/// What would stand in the file in one line.
fn as_in_the_file<T: Default + DeserializeOwned>(value: &str) -> std::result::Result<T, String> {
    text::parsed(value, "its value").map_err(|e| e.message().to_owned())
}

fn list(value: &str) -> Vec<String> {
    value.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Resolve;
    use super::*;
    use crate::queue::Priority;

    fn applied(variables: &[(&str, &str)]) -> Result<Config> {
        let mut config = Config::default();
        apply(&mut config, variables.iter().map(|(k, v)| (OsString::from(k), OsString::from(v))))?;
        Ok(config)
    }

    #[test]
    fn what_kubernetes_sets_for_a_service_is_left_alone() {
        let service = [
            ("ATLANTIS_ENHANCED_LOCKING_REDIS_SERVICE_HOST", "10.0.0.11"),
            ("ATLANTIS_ENHANCED_LOCKING_REDIS_SERVICE_PORT", "6379"),
            ("ATLANTIS_ENHANCED_LOCKING_REDIS_SERVICE_PORT_REDIS", "6379"),
            ("ATLANTIS_ENHANCED_LOCKING_REDIS_PORT", "tcp://10.0.0.11:6379"),
            ("ATLANTIS_ENHANCED_LOCKING_REDIS_PORT_6379_TCP", "tcp://10.0.0.11:6379"),
            ("ATLANTIS_ENHANCED_LOCKING_REDIS_PORT_6379_TCP_PROTO", "tcp"),
            ("ATLANTIS_ENHANCED_LOCKING_REDIS_PORT_6379_TCP_PORT", "6379"),
            ("ATLANTIS_ENHANCED_LOCKING_REDIS_PORT_6379_TCP_ADDR", "10.0.0.11"),
            ("ATLANTIS_LOCKING_PORT", "tcp://10.0.0.11:4141"),
            ("ATLANTIS_LOCKING_SERVICE_HOST", "10.0.0.11"),
        ];
        assert_eq!(applied(&service).expect("applies"), Config::default());
        // A setting that does not exist is a mistake all the same.
        for (name, value) in [("REDIS_PORT", "6379"), ("REDIS_PORT_NUMBER", "6379")] {
            applied(&[(&format!("{GUARDED_PREFIX}{name}"), value)]).expect_err("is not known");
        }
    }

    #[test]
    fn all_mistakes_are_told_at_once_and_only_near_names_are_suggested() {
        let error = applied(&[
            ("ATLANTIS_LOCKING_BACKENDS", "sled"),
            ("ATLANTIS_LOCKING_DB_TYPE", "redis"),
            ("ATLANTIS_LOCKING_SOMETHING_OF_A_LATER_ATLANTIS", "x"),
            ("ATLANTIS_ENHANCED_LOCKING_ENABLED", "maybe"),
            ("ATLANTIS_ENHANCED_LOCKING_XYZ", "1"),
        ])
        .expect_err("three are wrong");
        let text = error.message();
        for part in [
            "3 mistakes: (1) environment variable ATLANTIS_LOCKING_BACKENDS: not known; did you mean ATLANTIS_LOCKING_BACKEND?",
            "(2) environment variable ATLANTIS_ENHANCED_LOCKING_ENABLED: \"maybe\" is not true or false",
            "(3) environment variable ATLANTIS_ENHANCED_LOCKING_XYZ: not known: no setting has this name",
        ] {
            assert!(text.contains(part), "{text} lacks {part}");
        }
    }

    #[test]
    fn a_variable_overrides_its_setting() {
        let config = applied(&[
            ("ATLANTIS_LOCKING_BACKEND", "sled"),
            ("ATLANTIS_ENHANCED_LOCKING_ENABLED", "true"),
            ("ATLANTIS_ENHANCED_LOCKING_REDIS_ADDRESSES", "a:1, b:2,"),
            ("ATLANTIS_ENHANCED_LOCKING_REDIS_TIMEOUTS_OPERATION", "250ms"),
            ("ATLANTIS_ENHANCED_LOCKING_PRIORITY_QUEUE_RULES", "[{author: 'renovate*', priority: low}]"),
            ("ATLANTIS_ENHANCED_LOCKING_DEADLOCK_DETECTION_RESOLVE", "yield"),
            ("ATLANTIS_ENHANCED_LOCKING_TIMEOUTS_MAX", "3h"),
            ("ATLANTIS_LOCKING_DB_TYPE", "boltdb"),
            ("PATH", "/bin"),
        ])
        .expect("applies");
        assert_eq!(config.locking.backend, super::super::Backend::Sled);
        assert!(config.locking.enhanced.enabled);
        assert_eq!(config.locking.enhanced.redis.addresses, ["a:1", "b:2"]);
        assert_eq!(config.locking.enhanced.redis.timeouts.operation, Duration::from_millis(250));
        assert_eq!(config.locking.enhanced.priority_queue.priority_of("a/b", "main", "renovate[bot]", &[]), Priority::Low);
        assert_eq!(config.locking.enhanced.deadlock_detection.resolve, Resolve::Yield);
        assert_eq!(config.locking.enhanced.timeouts.max, Duration::from_secs(3 * 60 * 60));
    }

    #[test]
    fn a_wrong_variable_is_named() {
        for (variable, value, wanted) in [
            ("ATLANTIS_ENHANCED_LOCKING_ENABLE", "false", "did you mean ATLANTIS_ENHANCED_LOCKING_ENABLED?"),
            ("ATLANTIS_ENHANCED_LOCKING_ENABLED", "no", "\"no\" is not true or false"),
            ("ATLANTIS_LOCKING_BACKEND", "bolt", "boltdb"),
            ("ATLANTIS_LOCKING_TIMEOUT", "10", "not a duration"),
            ("ATLANTIS_ENHANCED_LOCKING_REDIS_DB", "x", "not a number"),
            (
                "ATLANTIS_ENHANCED_LOCKING_PRIORITY_QUEUE_RULES",
                "[{autor: a, priority: low}]",
                "its value:1:3: unknown key \"autor\"; did you mean \"author\"?",
            ),
        ] {
            let error = applied(&[(variable, value)]).expect_err("is refused");
            assert_eq!(error.code(), Code::InvalidConfig);
            assert!(error.message().contains(variable) && error.message().contains(wanted), "{error}");
        }
    }

    #[test]
    fn every_setting_has_its_variable() {
        let mut leaves = Vec::new();
        collect(&[], &serde_json::to_value(Config::default()).expect("serialises"), &mut leaves);
        let known: Vec<String> =
            leaves.iter().map(|keys| variable(&keys.iter().map(String::as_str).collect::<Vec<_>>())).collect();
        let mut listed: Vec<&str> = VARIABLES.iter().map(|(name, _)| *name).collect();
        let mut wanted: Vec<&str> = known.iter().map(String::as_str).collect();
        listed.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(listed, wanted);
    }

    fn collect(keys: &[String], value: &serde_json::Value, leaves: &mut Vec<Vec<String>>) {
        match value {
            serde_json::Value::Object(fields) => {
                for (name, field) in fields {
                    collect(&[keys, std::slice::from_ref(name)].concat(), field, leaves);
                }
            }
            _ => leaves.push(keys.to_vec()),
        }
    }
}
