//! The blocks of `locking.enhanced` about who waits for a lock: `priority_queue`, `deadlock_detection`, `timeouts`.
//!
//! A priority comes from rules of the operator, never from the pull request itself: everybody would be urgent.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::pattern::fits;
use crate::queue::Priority;

/// `locking.enhanced.priority_queue`: whether those who are refused wait in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PriorityQueue {
    /// Whether there is a queue.
    pub enabled: bool,
    /// The repositories that have one, as patterns of `owner/name`; for all others it is as if there were none.
    pub repos: Vec<String>,
    /// Whether a pull request takes what it can get of its locks, or all of them at once.
    pub sets: Sets,
    /// The head start of high priority, as if it had joined so much earlier; critical has it three times, low stands so far back.
    #[serde(with = "humantime_serde")]
    pub aging: Duration,
    /// Who has which priority: the first rule that fits decides.
    pub rules: Vec<PriorityRule>,
    /// In a linked Atlantis: what happens when it is a waiting pull request's turn. The library itself does nothing with it.
    pub replan: Replan,
}

impl Default for PriorityQueue {
    fn default() -> PriorityQueue {
        PriorityQueue {
            enabled: false,
            repos: vec!["*".to_owned()],
            sets: Sets::default(),
            aging: Duration::from_secs(30 * 60),
            rules: Vec::new(),
            replan: Replan::default(),
        }
    }
}

impl PriorityQueue {
    /// Whether who is refused a lock of this repository (`owner/name`) waits in order.
    pub fn is_for(&self, repo: &str) -> bool {
        self.enabled && self.repos.iter().any(|pattern| fits(pattern, repo))
    }

    /// The priority of a pull request of this repository (`owner/name`), base branch, author and labels: that of the first rule that
    /// fits, and `normal` where none does.
    pub fn priority_of(&self, repo: &str, base: &str, author: &str, labels: &[String]) -> Priority {
        let first = self.rules.iter().find(|rule| rule.fits(repo, base, author, labels));
        first.map_or(Priority::Normal, |rule| rule.priority)
    }
}

/// One of `locking.enhanced.priority_queue.rules`. A pattern is a whole text in which `*` stands for any text, also an empty one; every
/// other character, and its case, is meant as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriorityRule {
    /// The repository, `owner/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo: Option<String>,
    /// The branch into which the pull request is to go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Who opened the pull request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// A label that the pull request has, among others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The priority of a pull request to which all these patterns fit.
    pub priority: Priority,
}

impl PriorityRule {
    fn fits(&self, repo: &str, base: &str, author: &str, labels: &[String]) -> bool {
        let all = [(&self.repo, repo), (&self.base, base), (&self.author, author)];
        let has = |pattern: &String| labels.iter().any(|label| fits(pattern, label));
        all.into_iter().all(|(pattern, text)| pattern.as_ref().is_none_or(|pattern| fits(pattern, text)))
            && self.label.as_ref().is_none_or(has)
    }
}

/// `locking.enhanced.priority_queue.sets`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sets {
    /// Each lock by itself, as stock: what can be had is taken, the pull request waits for the rest.
    #[default]
    Each,
    /// All locks of a pull request, or none newly.
    Whole,
}

/// `locking.enhanced.priority_queue.replan`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Replan {
    /// Atlantis plans the pull request by itself.
    #[default]
    Auto,
    /// Atlantis comments on the pull request, and a person plans.
    Notify,
    /// Nothing: the lock is kept free for a while, for whoever plans in that pull request.
    Off,
}

/// `locking.enhanced.apply_guard`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ApplyGuard {
    /// On, but for strict mode on Atlantis's own store, which behaves as stock.
    #[default]
    Auto,
    /// On.
    On,
    /// Off: whoever has a plan applies, as in stock Atlantis.
    Off,
}

/// `locking.enhanced.stale_locks`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StaleLocks {
    /// Nobody looks.
    Off,
    /// Locks that nobody will release are told.
    #[default]
    Report,
    /// The locks of a pull request that its Git host twice said to be closed are released, too.
    Release,
}

/// `locking.enhanced.deadlock_detection`: pull requests that hold what others of them wait for, in a circle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeadlockDetection {
    /// Whether circles are looked for. Only who waits in a queue can be in one.
    pub enabled: bool,
    /// What is done about a circle.
    pub resolve: Resolve,
    /// How long a circle must stand before it counts.
    #[serde(with = "humantime_serde")]
    pub confirm: Duration,
}

impl Default for DeadlockDetection {
    fn default() -> DeadlockDetection {
        DeadlockDetection { enabled: false, resolve: Resolve::default(), confirm: Duration::from_secs(2) }
    }
}

/// `locking.enhanced.deadlock_detection.resolve`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resolve {
    /// The circle is reported, and people undo it.
    #[default]
    Report,
    /// One pull request of the circle gives back locks under which nothing was applied.
    Yield,
}

/// `locking.enhanced.timeouts`: how long somebody waits for a lock, and how long a lock is kept free for who is next. No lock is ever
/// released by time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LockTimeouts {
    /// Without a time of the caller's own.
    #[serde(with = "humantime_serde")]
    pub default: Duration,
    /// The longest that a caller may ask for.
    #[serde(with = "humantime_serde")]
    pub max: Duration,
}

impl Default for LockTimeouts {
    fn default() -> LockTimeouts {
        LockTimeouts { default: Duration::from_secs(30 * 60), max: Duration::from_secs(2 * 60 * 60) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(repo: Option<&str>, base: Option<&str>, author: Option<&str>, priority: Priority) -> PriorityRule {
        let owned = |pattern: Option<&str>| pattern.map(str::to_owned);
        PriorityRule { repo: owned(repo), base: owned(base), author: owned(author), label: None, priority }
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let rules = vec![
            rule(None, None, Some("renovate*"), Priority::Low),
            rule(Some("acme/*"), Some("main"), None, Priority::High),
            rule(Some("acme/infra"), None, None, Priority::Critical),
        ];
        let queue = PriorityQueue { rules, ..PriorityQueue::default() };
        for (repo, base, author, wanted) in [
            ("acme/infra", "main", "renovate[bot]", Priority::Low),
            ("acme/infra", "main", "ann", Priority::High),
            ("acme/infra", "release", "ann", Priority::Critical),
            ("acme/web", "release", "ann", Priority::Normal),
            ("other/acme/infra", "main", "a-renovate", Priority::Normal),
        ] {
            assert_eq!(queue.priority_of(repo, base, author, &[]), wanted, "{repo} {base} {author}");
        }
        assert_eq!(PriorityQueue::default().priority_of("acme/infra", "main", "ann", &[]), Priority::Normal);
    }

    #[test]
    fn the_queue_is_for_the_repositories_whose_pattern_fits() {
        let with = |enabled, repos: &[&str]| PriorityQueue {
            enabled,
            repos: repos.iter().map(|pattern| (*pattern).to_owned()).collect(),
            ..PriorityQueue::default()
        };
        for (enabled, repos, repo, wanted) in [
            (true, &["acme/*", "other/infra"][..], "acme/infra", true),
            (true, &["acme/*", "other/infra"], "other/infra", true),
            (true, &["acme/*", "other/infra"], "other/infra2", false),
            (true, &["acme/*"], "Acme/infra", false),
            (false, &["acme/*"], "acme/infra", false),
        ] {
            assert_eq!(with(enabled, repos).is_for(repo), wanted, "{enabled} {repos:?} {repo}");
        }
        let everybody = PriorityQueue { enabled: true, ..PriorityQueue::default() };
        assert!(everybody.is_for("acme/infra") && !PriorityQueue::default().is_for("acme/infra"));
    }

    /// Whoever has no labels, also because nobody could ask for them, fits no rule with one, whatever its pattern.
    #[test]
    fn a_rule_with_a_label_fits_who_has_it() {
        let labelled =
            |label: &str, repo, priority| PriorityRule { label: Some(label.to_owned()), ..rule(repo, None, None, priority) };
        let rules = vec![
            labelled("hotfix", None, Priority::Critical),
            labelled("prio/*", Some("acme/*"), Priority::High),
            labelled("*", None, Priority::Low),
        ];
        let queue = PriorityQueue { rules, ..PriorityQueue::default() };
        for (repo, labels, wanted) in [
            ("acme/infra", &["docs", "hotfix"][..], Priority::Critical),
            ("acme/infra", &["prio/1", "docs"], Priority::High),
            ("other/infra", &["prio/1"], Priority::Low),
            ("acme/infra", &["Hotfix"], Priority::Low),
            ("acme/infra", &[], Priority::Normal),
        ] {
            let labels: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
            assert_eq!(queue.priority_of(repo, "main", "ann", &labels), wanted, "{repo} {labels:?}");
        }
    }
}
