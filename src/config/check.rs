//! Settings that cannot work together are refused before anything is opened.

use std::path::Path;
use std::time::Duration;

use humantime_serde::re::humantime::format_duration;

use super::mistakes::gathered;
use super::{
    Audit, Backend, Breaker, Config, Encryption, LockTimeouts, Mode, NO_DATA_DIR, NO_QUEUE_ON_STOCKS_STORE, PriorityQueue,
    ShadowStore,
};
use crate::error::{Code, Error, Result};

const ENHANCED_REDIS: &str = "locking.enhanced.redis";
/// No operation may take longer: the Redis store's guarantees count on it.
const LONGEST_OPERATION: Duration = Duration::from_secs(30);
/// Below this an audit file would be moved every few events.
const SMALLEST_AUDIT_FILE: u64 = 4096;
/// Moving the files must stay quick: an operation waits for it.
const MOST_AUDIT_FILES: u32 = 100;
/// Below this a priority would be no head start.
const SHORTEST_AGING: Duration = Duration::from_secs(1);
/// Nobody is passed by who joins four times as long after.
const LONGEST_AGING: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Nobody waits longer for a lock, and no lock is kept free for longer.
const LONGEST_WAIT: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// A second look that comes later finds another queue.
const LONGEST_CONFIRM: Duration = Duration::from_secs(60 * 60);

impl Config {
    pub(super) fn check(&self) -> Result<()> {
        let mut checks = vec![within("locking.timeout", self.locking.timeout), self.locking.audit.check()];
        checks.extend(self.check_waiting());
        checks.push(self.locking.encryption.check());
        checks.push(self.check_shadow());
        checks.push(positive("locking.shadow.sample", self.locking.shadow.sample));
        match self.mode() {
            Mode::Strict => checks.push(self.check_legacy()),
            Mode::Native => checks.push(self.locking.enhanced.redis.check(ENHANCED_REDIS)),
            Mode::Hybrid => checks.extend(self.check_hybrid()),
        }
        gathered(checks)
    }

    /// What the settings alone tell of a shadow that is no other store.
    fn check_shadow(&self) -> Result<()> {
        let (shadow, locking) = (&self.locking.shadow, &self.locking);
        match (shadow.store, &shadow.data_dir) {
            (ShadowStore::Off, _) => Ok(()),
            (ShadowStore::Sled, None) => {
                wrong("locking.shadow.data_dir is missing: a shadow with store: sled has a folder of its own")
            }
            (ShadowStore::Sled, Some(folder)) if locking.data_dir.as_deref().is_some_and(|other| is_one(folder, other)) => {
                wrong("locking.shadow.data_dir is locking.data_dir: a shadow has a folder of its own")
            }
            (ShadowStore::Sled, Some(_)) => Ok(()),
            (ShadowStore::Redis, _) => {
                shadow.redis.check("locking.shadow.redis")?;
                if self.mode() != Mode::Strict && shadow.redis.name() == locking.enhanced.redis.name() {
                    return wrong(
                        "locking.shadow.redis is locking.enhanced.redis, which decides: a shadow has a Redis of its own, or a database (db) \
                         of its own",
                    );
                }
                Ok(())
            }
        }
    }

    /// The original specification's settings name no folder: who opens hybrid mode may have one, and asks for it otherwise.
    fn check_hybrid(&self) -> [Result<()>; 5] {
        let enhanced = &self.locking.enhanced;
        [
            enhanced.redis.check(ENHANCED_REDIS),
            enhanced.breaker.check(),
            within("locking.enhanced.health.interval", enhanced.health.interval),
            within("locking.enhanced.health.timeout", enhanced.health.timeout),
            positive("locking.enhanced.health.compare", enhanced.health.compare),
        ]
    }

    fn check_legacy(&self) -> Result<()> {
        match (self.locking.backend, &self.locking.data_dir) {
            (Backend::Sled, None) => wrong(NO_DATA_DIR),
            _ => Ok(()),
        }
    }

    /// Whoever waits, in whatever mode.
    fn check_waiting(&self) -> [Result<()>; 4] {
        let enhanced = &self.locking.enhanced;
        // A rollback must begin with the settings that it finds: it warns.
        let has_no_place = enhanced.priority_queue.enabled && !self.has_queue() && enhanced.compatibility_mode == Mode::Strict;
        let place =
            format!("{NO_QUEUE_ON_STOCKS_STORE}: set locking.backend: sled, or hybrid or native mode, or leave the queue out");
        [
            enhanced.priority_queue.check(),
            up_to("locking.enhanced.deadlock_detection.confirm", enhanced.deadlock_detection.confirm, LONGEST_CONFIRM),
            enhanced.timeouts.check(),
            if has_no_place { wrong(&place) } else { Ok(()) },
        ]
    }
}

impl Encryption {
    fn check(&self) -> Result<()> {
        let given = self.given();
        if given.len() > 1 {
            return wrong(&format!("locking.encryption has {}: keep one", given.join(" and ")));
        }
        match (&self.key_env, &self.key_command) {
            (Some(name), _) if name.is_empty() => wrong("locking.encryption.key_env is empty: name the environment variable"),
            (_, Some(command)) if command.trim().is_empty() => wrong("locking.encryption.key_command is empty"),
            _ => Ok(()),
        }
    }
}

impl PriorityQueue {
    fn check(&self) -> Result<()> {
        if !(SHORTEST_AGING..=LONGEST_AGING).contains(&self.aging) {
            let [aging, least, most] = [self.aging, SHORTEST_AGING, LONGEST_AGING].map(shown);
            return wrong(&format!("locking.enhanced.priority_queue.aging is {aging}; it must be {least} to {most}"));
        }
        if self.repos.is_empty() || self.repos.iter().any(String::is_empty) {
            return wrong(
                "locking.enhanced.priority_queue.repos is empty, or has an empty pattern: \"*\" is every repository; for none, \
                 enabled: false",
            );
        }
        for (at, rule) in self.rules.iter().enumerate() {
            let patterns = [&rule.repo, &rule.base, &rule.author, &rule.label];
            if patterns.iter().all(|pattern| pattern.is_none()) {
                return wrong(&format!(
                    "locking.enhanced.priority_queue.rules[{at}] has no repo, no base, no author and no label: repo: \"*\" fits everybody"
                ));
            }
            if patterns.into_iter().flatten().any(String::is_empty) {
                return wrong(&format!(
                    "locking.enhanced.priority_queue.rules[{at}] has an empty pattern: write a text, or leave the key out"
                ));
            }
        }
        Ok(())
    }
}

impl LockTimeouts {
    fn check(&self) -> Result<()> {
        up_to("locking.enhanced.timeouts.default", self.default, LONGEST_WAIT)?;
        up_to("locking.enhanced.timeouts.max", self.max, LONGEST_WAIT)?;
        if self.default > self.max {
            let (default, max) = (shown(self.default), shown(self.max));
            return wrong(&format!("locking.enhanced.timeouts.default is {default}, and more than timeouts.max, which is {max}"));
        }
        Ok(())
    }
}

impl Audit {
    fn check(&self) -> Result<()> {
        if self.max_bytes < SMALLEST_AUDIT_FILE {
            return wrong(&format!("locking.audit.max_bytes must be at least {SMALLEST_AUDIT_FILE}"));
        }
        if !(1..=MOST_AUDIT_FILES).contains(&self.keep) {
            return wrong(&format!("locking.audit.keep must be 1 to {MOST_AUDIT_FILES}"));
        }
        if self.required && !self.is_on() {
            return wrong("locking.audit.required needs a trail: set locking.audit.file or locking.audit.stdout");
        }
        Ok(())
    }
}

impl Breaker {
    fn check(&self) -> Result<()> {
        if self.consecutive_failures == 0 || self.minimum_calls == 0 || self.half_open_probes == 0 {
            return wrong(
                "locking.enhanced.breaker: consecutive_failures, minimum_calls and half_open_probes must be at least 1",
            );
        }
        if !(self.failure_rate > 0.0 && self.failure_rate <= 1.0) {
            return wrong("locking.enhanced.breaker.failure_rate must be more than 0 and at most 1");
        }
        positive("locking.enhanced.breaker.window", self.window)?;
        positive("locking.enhanced.breaker.slow_call", self.slow_call)?;
        positive("locking.enhanced.breaker.open", self.open)?;
        if self.max_open < self.open {
            return wrong("locking.enhanced.breaker.max_open must be at least breaker.open");
        }
        Ok(())
    }
}

/// Whether two paths lead to one folder, as far as that is there.
fn is_one(folder: &Path, other: &Path) -> bool {
    let real = |folder: &Path| std::fs::canonicalize(folder).or_else(|_| std::path::absolute(folder)).ok();
    real(folder).is_some_and(|folder| real(other) == Some(folder))
}

fn positive(setting: &str, value: Duration) -> Result<()> {
    if value.is_zero() {
        return wrong(&format!("{setting} must be more than 0"));
    }
    Ok(())
}

pub(super) fn within(setting: &str, value: Duration) -> Result<()> {
    if value.is_zero() || value > LONGEST_OPERATION {
        return wrong(&format!("{setting} is {value:?}; it must be more than 0 and at most {LONGEST_OPERATION:?}"));
    }
    Ok(())
}

fn up_to(setting: &str, value: Duration, most: Duration) -> Result<()> {
    if value.is_zero() || value > most {
        let [value, most] = [value, most].map(shown);
        return wrong(&format!("{setting} is {value}; it must be more than 0 and at most {most}"));
    }
    Ok(())
}

/// As people write it: 31 days are not a month, 13 hours, 26 minutes and 24 seconds.
fn shown(value: Duration) -> String {
    const DAY: u64 = 24 * 60 * 60;
    match value.as_secs() {
        seconds if seconds > 0 && seconds % DAY == 0 && value.subsec_nanos() == 0 => format!("{}days", seconds / DAY),
        _ => format_duration(value).to_string(),
    }
}

pub(super) fn wrong<T>(text: &str) -> Result<T> {
    Err(Error::new(Code::InvalidConfig, text))
}
