//! Which circles of held locks were seen, and since when: one counts once it was seen again after a while.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::queue::PullId;
use crate::queue::cycle::Circle;
use crate::sync::Mutex;

/// The circles of held locks that were seen. Safe from any thread.
#[derive(Debug, Default)]
pub(super) struct Deadlocks {
    known: Mutex<BTreeMap<String, Known>>,
}

/// One of them.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub repo: String,
    pub circle: Circle,
    /// When it was first seen.
    pub since: u64,
    is_confirmed: bool,
    /// From then on a look confirms it.
    due: Instant,
}

impl Deadlocks {
    /// A look at a repository found these circles, and no others; returns those that it confirmed.
    pub(super) fn seen(&self, repo: &str, circles: Vec<Circle>, confirm: Duration, at: (Instant, u64)) -> Vec<Known> {
        let (now, since) = at;
        let mut all = self.known.lock();
        let (of_repo, others) =
            std::mem::take(&mut *all).into_iter().partition(|(_, known): &(String, Known)| known.repo == repo);
        let mut before: BTreeMap<String, Known> = of_repo;
        *all = others;
        let mut confirmed = Vec::new();
        for circle in circles {
            let known = match before.remove(&circle.id) {
                None => Known { repo: repo.to_owned(), circle, since, is_confirmed: false, due: now + confirm },
                Some(known) => {
                    let is_confirmed = known.is_confirmed || now >= known.due;
                    let again = Known { is_confirmed, circle, ..known.clone() };
                    if is_confirmed && !known.is_confirmed {
                        confirmed.push(again.clone());
                    }
                    again
                }
            };
            all.insert(known.circle.id.clone(), known);
        }
        confirmed
    }

    /// How long until a circle can be confirmed; `None` without one.
    pub(super) fn next_look(&self, now: Instant) -> Option<Duration> {
        let known = self.known.lock();
        let waiting = known.values().filter(|known| !known.is_confirmed);
        waiting.map(|known| known.due.saturating_duration_since(now)).min()
    }

    /// The repositories in which one can be confirmed now.
    pub(super) fn due(&self, now: Instant) -> BTreeSet<String> {
        let known = self.known.lock();
        known.values().filter(|known| !known.is_confirmed && known.due <= now).map(|known| known.repo.clone()).collect()
    }

    /// The repositories in which one is known.
    pub(super) fn repos(&self) -> BTreeSet<String> {
        self.known.lock().values().map(|known| known.repo.clone()).collect()
    }

    pub(super) fn confirmed(&self) -> Vec<Known> {
        self.known.lock().values().filter(|known| known.is_confirmed).cloned().collect()
    }

    /// The cheapest way out of a circle.
    pub(super) fn suggestion(&self, id: &str) -> Option<String> {
        self.known.lock().get(id).map(|known| known.circle.suggestion())
    }

    /// The confirmed circle in which this pull waits, or holds a lock.
    pub(super) fn of(&self, repo: &str, pull: &PullId) -> Option<String> {
        let is_in = |known: &Known| known.repo == repo && known.circle.rank.iter().any(|other| other.is(pull));
        self.confirmed().into_iter().find(is_in).map(|known| known.circle.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIRM: Duration = Duration::from_secs(2);

    fn circle(id: &str) -> Circle {
        Circle { id: id.to_owned(), links: Vec::new(), rank: vec![PullId { host: String::new(), num: 1 }] }
    }

    #[test]
    fn a_circle_counts_once_it_was_seen_again_after_a_while() {
        let (deadlocks, start) = (Deadlocks::default(), Instant::now());
        let mut since = 0;
        let mut look = |repo: &str, ids: &[&str], after_ms: u64| {
            since += 1;
            let circles = ids.iter().map(|id| circle(id)).collect();
            let confirmed = deadlocks.seen(repo, circles, CONFIRM, (start + Duration::from_millis(after_ms), since));
            confirmed.into_iter().map(|known| (known.circle.id, known.since)).collect::<Vec<_>>()
        };
        assert!(look("r", &["a"], 0).is_empty() && look("other", &["o"], 0).is_empty());
        assert_eq!(deadlocks.next_look(start), Some(CONFIRM));
        assert!(look("r", &["a", "b"], 1_999).is_empty() && deadlocks.confirmed().is_empty());
        // Each is told once, and known since it was first seen.
        assert_eq!(look("r", &["a", "b"], 2_000), [("a".to_owned(), 1)]);
        assert!(look("r", &["a"], 2_100).is_empty());
        assert_eq!(deadlocks.of("r", &PullId { host: "h".into(), num: 1 }).as_deref(), Some("a"));
        // Who was away has to be seen twice again.
        assert!(look("r", &["a", "b"], 9_000).is_empty() && look("r", &["b"], 10_999).is_empty());
        assert_eq!(look("r", &["b"], 11_000).len(), 1);
        assert!(look("r", &[], 12_000).is_empty() && deadlocks.confirmed().is_empty());
        assert_eq!(deadlocks.due(start + CONFIRM), BTreeSet::from(["other".to_owned()]));
    }

    #[test]
    fn even_without_a_while_there_are_two_looks() {
        let (deadlocks, now) = (Deadlocks::default(), Instant::now());
        let look = || deadlocks.seen("r", vec![circle("a")], Duration::ZERO, (now, 1)).len();
        assert_eq!((look(), look(), look()), (0, 1, 0));
    }
}
