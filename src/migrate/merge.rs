//! What a migration does with each key: recovery's rules (`hybrid::resolve`), where the source is the one that decided, and the target
//! is the shared store.
//!
//! Invariants:
//! - A lock in the target is replaced or removed only if its bytes are known to be old: a migration had put them there, or had moved
//!   them away. Everything else that differs is a conflict, and stays unless the operator says otherwise (P1: when in doubt, the lock stays).
//! - Done again, it has no step: a migration may be cut short anywhere and begin anew.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::entry::{Entry, Survey};
use crate::domain::lock::ProjectLock;
use crate::domain::token::FencingToken;
use crate::hybrid::resolve::{Action, Evidence, resolve};
use crate::queue;
use crate::store::contract::local::{EntryKey, Held, KeyState, SyncState, Tombstone};
use crate::store::contract::shared::Remote;

/// Whose lock stays where both stores hold one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnConflict {
    /// The source's; the target's is in the backup.
    KeepSource,
    /// The target's; the source's is in the backup.
    KeepTarget,
}

/// One change of the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub key: EntryKey,
    /// What is there.
    pub seen: Option<Held>,
    /// What is to be there.
    pub new: Option<Held>,
}

/// A key that both stores hold, and not alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Conflict {
    /// The key, with its kind.
    pub key: String,
    /// Who holds it in the source.
    pub source: String,
    /// Who holds it in the target.
    pub target: String,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub steps: Vec<Step>,
    /// Keys on which both agree.
    pub agreed: usize,
    /// Keys of which the target keeps its own: pull statuses, which are for show, and what the operator wants to be kept.
    pub kept: usize,
    /// Conflicts of which nothing was said.
    pub conflicts: Vec<Conflict>,
}

/// What is known to be old in the target, by key.
pub(super) type Old = BTreeMap<EntryKey, Vec<Held>>;

/// Adds entries to what is old.
pub(super) fn add_old(old: &mut Old, entries: &BTreeMap<EntryKey, Entry>) {
    for (key, entry) in entries {
        old.entry(key.clone()).or_default().push(entry.held.clone());
    }
}

/// Compares the two.
pub(super) fn plan(source: &Survey, old: &Old, target: &Survey, on_conflict: Option<OnConflict>) -> Plan {
    let mut plan = Plan::default();
    let keys: BTreeSet<&EntryKey> = source.entries.keys().chain(old.keys()).collect();
    for key in keys {
        let ours = source.entries.get(key).map(|entry| &entry.held);
        let theirs = target.entries.get(key).map(|entry| &entry.held);
        let known = old.get(key).map(Vec::as_slice).unwrap_or_default();
        if let (Some(ours), Some(there)) = (ours, target.unreadable.get(key)) {
            plan.meet_unreadable(key, ours, there.as_ref(), on_conflict);
            continue;
        }
        match action(key, ours, known, theirs) {
            // A holder whose token was raised there, because that store had given larger ones, keeps it on the way back.
            Action::Nothing if ours.map(|held| held.token) > theirs.map(|held| held.token) => {
                plan.push(key, theirs, ours.cloned())
            }
            Action::Nothing => plan.agreed += usize::from(ours.is_some()),
            Action::Push | Action::Restore => plan.push(key, theirs, ours.cloned()),
            Action::Merge => match (ours, theirs) {
                (Some(ours), Some(theirs)) => match queue::merge(&ours.value, &theirs.value) {
                    Some(merged) if merged != theirs.value => {
                        plan.push(key, Some(theirs), Some(Held { value: merged, token: FencingToken::NONE }));
                    }
                    _ => plan.agreed += 1,
                },
                _ => plan.kept += 1,
            },
            Action::Adopt if *key != EntryKey::Freezes => plan.kept += usize::from(ours.is_some()),
            Action::Adopt | Action::Conflict => match (ours, theirs, on_conflict) {
                (Some(ours), Some(theirs), Some(OnConflict::KeepSource)) => plan.push(key, Some(theirs), Some(ours.clone())),
                (Some(ours), Some(theirs), None) => {
                    let (source, target) = (holder(key, ours), holder(key, theirs));
                    plan.conflicts.push(Conflict { key: key.to_string(), source, target });
                }
                _ => plan.kept += usize::from(ours.is_some()),
            },
        }
    }
    plan
}

impl Plan {
    /// Something stands at the key of which nobody knows whether it is a lock.
    fn meet_unreadable(&mut self, key: &EntryKey, ours: &Held, there: Option<&Held>, on_conflict: Option<OnConflict>) {
        match (on_conflict, there) {
            (Some(OnConflict::KeepSource), Some(_)) => self.push(key, there, Some(ours.clone())),
            (Some(OnConflict::KeepTarget), _) => self.kept += 1,
            _ => {
                let (source, target) = (holder(key, ours), "an entry that cannot be read".to_owned());
                self.conflicts.push(Conflict { key: key.to_string(), source, target });
            }
        }
    }

    fn push(&mut self, key: &EntryKey, seen: Option<&Held>, new: Option<Held>) {
        if seen.is_some() || new.is_some() {
            self.steps.push(Step { key: key.clone(), seen: seen.cloned(), new });
        }
    }
}

/// What recovery would do. A grant's time is in a lock's bytes, so that they name one grant: what a store has of old bytes is old, whatever
/// token stands beside them.
fn action(key: &EntryKey, ours: Option<&Held>, old: &[Held], theirs: Option<&Held>) -> Action {
    let is_old = |theirs: &&Held| old.iter().any(|old| old.value == theirs.value);
    let agree = ours.map(|held| &held.value) == theirs.map(|held| &held.value);
    if !agree && let Some(theirs) = theirs.filter(is_old) {
        // A queue has no tombstones: what is known to be old goes.
        if matches!(key, EntryKey::Queue(_)) {
            return Action::Push;
        }
        let tombstones = vec![Tombstone::of(theirs, SyncState::Synced)];
        return resolved(key, ours, tombstones, Some(theirs));
    }
    resolved(key, ours, Vec::new(), theirs)
}

fn resolved(key: &EntryKey, ours: Option<&Held>, tombstones: Vec<Tombstone>, theirs: Option<&Held>) -> Action {
    let local = KeyState { value: ours.cloned(), state: SyncState::Decided, tombstones, at: 0 };
    let remote = match theirs {
        Some(held) => Remote { value: Some(held.value.clone()), token: held.token, ..Remote::default() },
        None => Remote::default(),
    };
    resolve(key, &local, &remote, Evidence::default())
}

/// Who holds it, for a person. Of a value only the pull and the user are read.
fn holder(key: &EntryKey, held: &Held) -> String {
    match (key, ProjectLock::parse(&held.value)) {
        (EntryKey::Project(_), Ok(lock)) => format!("pull #{} of {} ({})", lock.pull().num, lock.pull().repo, lock.user()),
        (EntryKey::Freezes, _) => "other freezes".to_owned(),
        _ => "another holder".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survey(entries: &[(&EntryKey, &str, u64)]) -> Survey {
        let mut survey = Survey::default();
        for (key, value, token) in entries {
            let held = Held { value: value.as_bytes().to_vec(), token: FencingToken::new(*token) };
            survey.entries.insert((*key).clone(), Entry { held, at: (*key).clone() });
        }
        survey
    }

    /// Every row: what the source has, what is old, what the target has, and what the target has afterwards; `None` for a conflict.
    #[test]
    fn each_case() {
        let lock = EntryKey::Project("a/b/p/d/".to_owned());
        let status = EntryKey::Status("h::a/b::1".to_owned());
        for (row, key, source, old, target, then) in [
            (1, &lock, "A", "", "", Some("A")),
            (2, &lock, "A", "", "A", Some("A")),
            (3, &lock, "A", "", "B", None),
            // The target's own stays.
            (4, &lock, "", "", "B", Some("B")),
            // Copied, and released or taken by another since.
            (5, &lock, "", "A", "A", Some("")),
            (6, &lock, "C", "A", "A", Some("C")),
            (7, &lock, "", "A", "B", Some("B")),
            (8, &lock, "C", "A", "B", None),
            (9, &lock, "C", "A", "", Some("C")),
            (10, &lock, "", "A", "", Some("")),
            (11, &status, "A", "", "B", Some("B")),
            (12, &status, "C", "A", "A", Some("C")),
            (13, &EntryKey::Freezes, "A", "", "B", None),
            (14, &EntryKey::Freezes, "A", "", "", Some("A")),
            (15, &EntryKey::Queue("a/b".to_owned()), "", "A", "A", Some("")),
        ] {
            let of = |value: &str, token| if value.is_empty() { survey(&[]) } else { survey(&[(key, value, token)]) };
            let (source, mut target) = (of(source, 10), of(target, 20));
            let mut known = Old::new();
            add_old(&mut known, &of(old, 5).entries);
            let plan = plan(&source, &known, &target, None);
            let Some(then) = then else {
                assert_eq!((plan.conflicts.len(), plan.steps.len()), (1, 0), "row {row}");
                continue;
            };
            for step in &plan.steps {
                target.entries.remove(&step.key);
                target.entries.extend(step.new.clone().map(|held| (step.key.clone(), Entry { held, at: step.key.clone() })));
            }
            let has = target.entries.get(key).map(|entry| entry.held.value.clone()).unwrap_or_default();
            assert_eq!((String::from_utf8_lossy(&has).as_ref(), plan.conflicts.len()), (then, 0), "row {row}");
            assert_eq!(super::plan(&source, &known, &target, None).steps, [], "row {row}: done again, it has no step");
        }
    }

    #[test]
    fn the_operator_decides_a_conflict() {
        let lock = EntryKey::Command("apply".to_owned());
        let (source, target) = (survey(&[(&lock, "A", 1)]), survey(&[(&lock, "B", 2)]));
        let steps = |rule| plan(&source, &Old::new(), &target, Some(rule)).steps;
        assert_eq!(steps(OnConflict::KeepTarget), []);
        assert_eq!(steps(OnConflict::KeepSource).len(), 1);
    }
}
