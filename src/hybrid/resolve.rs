//! What to do where the local store and Redis differ: a pure function of what both know of one key.
//!
//! It is a three-way merge. The local store remembers which values were at the key before ([`KeyState::tombstones`]): a value of
//! those in Redis is old, whatever else happened. What remains is decided by who last changed the key: the local store alone
//! ([`SyncState::Decided`]), this server through Redis without having learnt the answer ([`SyncState::Pending`]), or Redis
//! ([`SyncState::Synced`]).
//!
//! Invariants:
//! - A lock in Redis is replaced only by the holder that is known to have come after it, and removed only if it is known to
//!   have been released: by its bytes and its fencing token, by its bytes and that this server took it, or because this server
//!   took it before another that the key has had since. Everything else stays (P1: when in doubt, the lock stays).
//! - A lock that was granted here, or a release that was acknowledged here, is never dropped without a [`Action::Conflict`].
//! - Done again, it answers [`Action::Nothing`]: recovery may be cut short anywhere.

use crate::queue;
use crate::store::contract::local::{EntryKey, Held, KeyState, SyncState, Tombstone, digest};
use crate::store::contract::shared::Remote;
use crate::sync::mark;

/// What to do with one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Both agree.
    Nothing,
    /// The local store takes what Redis has.
    Adopt,
    /// Redis takes what the local store has.
    Push,
    /// Redis lost this lock, and gets it back.
    Restore,
    /// Both granted the lock. Redis's holder stays, the local one is reported.
    Conflict,
    /// Both changed the queue: who waits in either waits.
    Merge,
}

/// What is known beside what the two stores have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// This server was given the key's last fencing token.
    pub is_mine: bool,
    /// The local store is known to have everything that this server ever acknowledged: a lock of its own in Redis that the local
    /// store does not know was never acknowledged, since a crash came first.
    pub has_all: bool,
    /// The local store never granted a lock without knowing whether it was held, so that a later token is one that was given after the
    /// earlier was over.
    pub in_order: bool,
    /// The two agreed less than an hour ago, or the local store's lock was granted since: Redis remembers the fencing token of a released lock
    /// for that long, so that a key of which it knows nothing at all was lost, not released.
    pub recently: bool,
    /// A crash may have kept from the local store what became of its intents, and what was acknowledged rested on Redis alone
    /// (`durability: async`): Redis would have it.
    pub rested_on_redis: bool,
    /// Redis has lost data since the two agreed, whatever it was; or nothing shows that it ever had the local store's lock.
    pub lost: bool,
}

/// What to do where the two differ, or the local store does not know how Redis took its change.
pub fn resolve(key: &EntryKey, local: &KeyState, remote: &Remote, evidence: Evidence) -> Action {
    let Evidence { is_mine, has_all, in_order, recently, rested_on_redis, lost } = evidence;
    let theirs = remote.value.as_deref();
    let ours = local.value.as_ref();
    if theirs == ours.map(|held| held.value.as_slice()) {
        return mark!("resolve: agree", Action::Nothing);
    }
    if let EntryKey::Queue(_) = key {
        return resolve_queue(local, theirs, lost);
    }
    if is_over(local, remote, is_mine, in_order) {
        return mark!("resolve: is over", Action::Push);
    }
    match (local.state, ours, theirs) {
        // Released here before Redis granted it, to this server and with a later token, because the question was long on its way.
        (SyncState::Decided, None, Some(value)) if is_mine && has_all && was_here(local, value) => {
            mark!("resolve: granted after its release", Action::Push)
        }
        // Released here; whoever holds it now took it since.
        (SyncState::Decided | SyncState::Pending, None, _) => mark!("resolve: released here, taken since", Action::Adopt),
        (SyncState::Decided, Some(_), None) => mark!("resolve: granted here", Action::Push),
        // It was granted, and released by somebody else: its token, its wish, or a later one, is there. Or it never reached Redis.
        (SyncState::Pending, Some(held), None)
            if !has_met_wish(held, remote, is_mine) && was_lost(key, held, remote, !rested_on_redis, lost) =>
        {
            mark!("resolve: asked for, not made or lost", Action::Push)
        }
        (SyncState::Pending, Some(_), None) => mark!("resolve: asked for, released since", Action::Adopt),
        // A pull status is for show, and freezes are put there by people: Redis's count. A lock that was asked for without an answer was never acknowledged.
        (SyncState::Pending, Some(_), Some(_)) => mark!("resolve: asked for, another is there", Action::Adopt),
        (SyncState::Decided, Some(_), Some(_)) if key.lock().is_none() => {
            mark!("resolve: a status, changed here and there", Action::Adopt)
        }
        (SyncState::Decided, Some(_), Some(_)) if is_mine && has_all => mark!("resolve: never acknowledged", Action::Push),
        (SyncState::Decided, Some(_), Some(_)) => mark!("resolve: both granted", Action::Conflict),
        (SyncState::Synced, Some(held), None) if was_lost(key, held, remote, recently, lost) => {
            mark!("resolve: lost", Action::Restore)
        }
        // Redis went back behind our holder, and another came: both were granted.
        (SyncState::Synced, Some(held), Some(_)) if key.lock().is_some() && lost && remote.token < held.token => {
            mark!("resolve: lost, another came", Action::Conflict)
        }
        (SyncState::Synced, Some(held), Some(_)) if has_gone_back(held, remote) => {
            mark!("resolve: an older one is there", Action::Conflict)
        }
        (SyncState::Synced, _, _) => mark!("resolve: changed by others", Action::Adopt),
    }
}

/// The same for a queue: each of its changes gives it a larger revision, so that of two of which one came from the other, the later is
/// known. Nobody loses a place for what cannot be read.
fn resolve_queue(local: &KeyState, theirs: Option<&[u8]>, lost: bool) -> Action {
    let ours = local.value.as_ref().map(|held| held.value.as_slice());
    match (local.state, ours, theirs) {
        (SyncState::Decided, Some(_), None) => mark!("queue: resolve, changed here", Action::Push),
        (SyncState::Synced, Some(_), None) if lost => mark!("queue: resolve, lost", Action::Restore),
        (SyncState::Decided, Some(_), Some(_)) => mark!("queue: resolve, changed here and there", Action::Merge),
        (SyncState::Synced, Some(ours), Some(theirs)) if queue::revision(theirs) < queue::revision(ours) => {
            mark!("queue: resolve, gone back", Action::Push)
        }
        // Without a reservation or a place that anybody was told of.
        _ => mark!("queue: resolve, changed there", Action::Adopt),
    }
}

/// Whether a lock of these bytes was at the key before, with whatever token.
fn was_here(local: &KeyState, value: &[u8]) -> bool {
    let value = digest(value);
    local.tombstones.iter().any(|old| old.digest == value)
}

/// Whether what Redis has was at the key before what the local store has, or had last: it is old, whatever Redis says.
pub fn is_over(local: &KeyState, remote: &Remote, is_mine: bool, in_order: bool) -> bool {
    let Some(value) = &remote.value else { return false };
    // Of a lock that a stock server took, no token is known, to either. One that was taken over from the host store has a later token here than
    // that with which it was granted: the same bytes with an earlier one were released with it.
    let latest = if is_mine { remote.token.max(remote.wished) } else { remote.token };
    let is_earlier = |old: &Tombstone| !remote.token.is_none() && latest < old.token && old.digest == digest(value);
    // A crash may have kept from the local store which token Redis gave: it knows the lock by the one that it had wished for.
    let is_wished = |old: &Tombstone| remote.was_wished_as(old, is_mine);
    let is_remembered = local.tombstones.iter().any(|old| old.is(value, remote.token) || is_earlier(old) || is_wished(old));
    // One server's tokens are in the order in which it gave them. However much was forgotten, what it gave before another token
    // that the key has had since is over. Redis does not give what a clock far ahead wished for, and the order is then that of the wishes.
    let last = if in_order { local.last_token() } else { local.last_token_in_redis() };
    is_remembered || (is_mine && !remote.token.is_none() && latest < last)
}

/// Whether Redis has met what was wished for this lock, or a later wish of the same server: it gives another token where a clock is far ahead.
fn has_met_wish(held: &Held, remote: &Remote, is_mine: bool) -> bool {
    is_mine && !remote.wished.is_none() && remote.wished >= held.token
}

/// Whether Redis shows a lock from before the one that it had confirmed to the local store: it has lost data since. A key's tokens
/// only grow, whoever takes it.
pub fn has_gone_back(held: &Held, remote: &Remote) -> bool {
    let is_other = remote.value.as_ref().is_some_and(|value| *value != held.value);
    is_other && !remote.token.is_none() && remote.token < held.token
}

/// Whether Redis lost a lock that it had confirmed, rather than that somebody released it: whoever does leaves the key's token
/// there for an hour.
pub fn was_lost(key: &EntryKey, held: &Held, remote: &Remote, recently: bool, lost: bool) -> bool {
    match key {
        // Nothing is remembered of a document.
        EntryKey::Status(_) | EntryKey::Queue(_) | EntryKey::Freezes => lost,
        // A token of 0 is a stock server's lock, of which Redis remembers nothing.
        _ if held.token.is_none() => lost,
        _ => remote.token < held.token && (recently || lost),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::token::FencingToken;

    /// Redis's last token was given to another server.
    const OF_ANOTHER: Evidence =
        Evidence { is_mine: false, has_all: true, in_order: true, recently: true, rested_on_redis: false, lost: false };
    const MINE: Evidence = Evidence { is_mine: true, ..OF_ANOTHER };

    fn held(value: &str, token: u64) -> Held {
        Held { value: value.as_bytes().to_vec(), token: FencingToken::new(token) }
    }

    fn local(value: Option<Held>, state: SyncState, tombstones: &[Held]) -> KeyState {
        KeyState { value, state, tombstones: tombstones.iter().map(|old| Tombstone::of(old, SyncState::Synced)).collect(), at: 0 }
    }

    fn remote(value: Option<&str>, token: u64) -> Remote {
        Remote {
            value: value.map(|value| value.as_bytes().to_vec()),
            token: FencingToken::new(token),
            holder: "other".to_owned(),
            wished: FencingToken::NONE,
        }
    }

    /// While Redis was away a clock was minutes ahead, and a lock had a token of then. What Redis granted later has an earlier token, of its own
    /// clock, and the server had wished for a later one.
    #[test]
    fn a_clock_that_was_far_ahead_makes_no_later_lock_an_old_one() {
        let key = EntryKey::Project("k".to_owned());
        let ahead = held("ahead", 900);
        let before = KeyState {
            value: Some(held("before", 100)),
            state: SyncState::Synced,
            tombstones: vec![Tombstone::of(&ahead, SyncState::Decided)],
            at: 0,
        };
        let later = Remote { wished: FencingToken::new(902), ..remote(Some("later"), 110) };
        assert_eq!(resolve(&key, &before, &later, MINE), Action::Adopt);
        // What was wished for before the lock that was granted here is over all the same.
        let earlier = Remote { wished: FencingToken::new(890), ..later };
        assert_eq!(resolve(&key, &before, &earlier, MINE), Action::Push);

        // A lock that was asked for, granted by another token, and released by somebody else since, was not lost.
        let asked = local(Some(held("asked", 905)), SyncState::Pending, &[]);
        for (wished, then) in [(905, Action::Adopt), (906, Action::Adopt), (904, Action::Push), (0, Action::Push)] {
            let released = Remote { wished: FencingToken::new(wished), ..remote(None, 120) };
            assert_eq!(resolve(&key, &asked, &released, MINE), then, "{wished}");
        }
    }

    /// Every row: what the local store has and why, what was there before, what Redis has, and what follows.
    #[test]
    fn each_case() {
        use Action::{Adopt, Conflict, Nothing, Push, Restore};
        use SyncState::{Decided, Pending, Synced};
        let (a, b) = (held("A", 10), held("B", 20));
        let none: &[Held] = &[];
        let was_a: &[Held] = std::slice::from_ref(&a);
        let was_a_later: &[Held] = &[held("A", 20)];
        for (row, value, state, before, theirs, token, expected) in [
            (1, Some(&a), Synced, none, Some("A"), 10, Nothing),
            (2, None, Synced, none, None, 0, Nothing),
            // Somebody else released it, or took it after that.
            (3, Some(&a), Synced, none, None, 10, Adopt),
            (4, Some(&a), Synced, none, Some("B"), 20, Adopt),
            (5, None, Synced, none, Some("B"), 20, Adopt),
            // Redis lost it: it does not even know the token.
            (6, Some(&a), Synced, none, None, 0, Restore),
            (7, Some(&a), Synced, none, None, 9, Restore),
            // An old snapshot: A was released, and B granted.
            (8, Some(&b), Synced, was_a, Some("A"), 10, Push),
            (9, None, Synced, was_a, Some("A"), 10, Push),
            // The same bytes, taken again by somebody else: another token.
            (10, None, Synced, was_a, Some("A"), 30, Adopt),
            // Taken over from the host store with a token of its own, and released.
            (23, None, Decided, was_a_later, Some("A"), 10, Push),
            // Granted here while Redis was away.
            (11, Some(&b), Decided, was_a, Some("A"), 10, Push),
            (12, Some(&b), Decided, was_a, None, 10, Push),
            (13, Some(&b), Decided, none, None, 0, Push),
            (14, Some(&b), Decided, none, Some("C"), 15, Conflict),
            // Released here.
            (15, None, Decided, was_a, Some("A"), 10, Push),
            (16, None, Decided, was_a, Some("C"), 15, Adopt),
            (17, None, Decided, was_a, None, 10, Nothing),
            // Asked for without an answer: it goes on, unless another holds the lock.
            (18, Some(&b), Pending, none, None, 0, Push),
            (22, Some(&b), Pending, none, None, 20, Adopt),
            (19, Some(&b), Pending, none, Some("C"), 15, Adopt),
            (20, None, Pending, was_a, Some("A"), 10, Push),
            (21, None, Pending, was_a, Some("C"), 15, Adopt),
        ] {
            let key = EntryKey::Project("k".to_owned());
            let known = local(value.cloned(), state, before);
            assert_eq!(resolve(&key, &known, &remote(theirs, token), OF_ANOTHER), expected, "row {row}");
        }
    }

    /// What was asked for before a crash with `async` and is not in Redis was never acknowledged, unless Redis has lost data.
    #[test]
    fn what_rested_on_redis_alone_is_not_made_good() {
        let asked = local(Some(held("B", 20)), SyncState::Pending, &[]);
        let resolved = |evidence| {
            resolve(&EntryKey::Project("k".to_owned()), &asked, &remote(None, 0), Evidence { has_all: false, ..evidence })
        };
        assert_eq!(resolved(OF_ANOTHER), Action::Push);
        assert_eq!(resolved(Evidence { rested_on_redis: true, ..OF_ANOTHER }), Action::Adopt);
        assert_eq!(resolved(Evidence { rested_on_redis: true, lost: true, ..OF_ANOTHER }), Action::Push);
    }

    /// A grant that was long on its way is made with a later token than the one wished for, if others held the lock meanwhile.
    #[test]
    fn a_grant_that_came_after_its_release() {
        let key = EntryKey::Project("k".to_owned());
        let released = |state| local(None, state, &[held("A", 10)]);
        let resolved = |local, value, evidence| resolve(&key, &local, &remote(Some(value), 30), evidence);
        assert_eq!(resolved(released(SyncState::Decided), "A", MINE), Action::Push);
        assert_eq!(resolved(released(SyncState::Decided), "A", OF_ANOTHER), Action::Adopt);
        assert_eq!(resolved(released(SyncState::Decided), "B", MINE), Action::Adopt);
        let lacks_some = Evidence { has_all: false, ..MINE };
        assert_eq!(resolved(released(SyncState::Decided), "A", lacks_some), Action::Adopt, "it may have been taken again");
        assert_eq!(resolved(released(SyncState::Synced), "A", MINE), Action::Adopt);
    }

    /// Redis gave another token than was wished for, and a crash kept that from the local store: the wish tells the lock from a later one of the
    /// same bytes, also to who may lack some of what was acknowledged.
    #[test]
    fn what_was_released_is_known_by_the_token_that_was_wished_for() {
        let key = EntryKey::Project("k".to_owned());
        let lacks_some = Evidence { has_all: false, ..MINE };
        for state in [SyncState::Decided, SyncState::Pending, SyncState::Synced] {
            let released = local(None, state, &[held("A", 10)]);
            let resolved = |value, wished, evidence| {
                resolve(&key, &released, &Remote { wished: FencingToken::new(wished), ..remote(Some(value), 30) }, evidence)
            };
            assert_eq!(resolved("A", 10, lacks_some), Action::Push, "{state:?}");
            assert_eq!(resolved("A", 20, lacks_some), Action::Adopt, "{state:?}: it was taken again");
            assert_eq!(resolved("A", 0, lacks_some), Action::Adopt, "{state:?}: it may have been taken again");
            assert_eq!(resolved("B", 10, lacks_some), Action::Adopt, "{state:?}: another was asked for");
            assert_eq!(resolved("A", 10, OF_ANOTHER), Action::Adopt, "{state:?}: another may have wished for the same");
        }
    }

    /// However often a key changed hands since: what is remembered of it is bounded, its tokens are in order.
    #[test]
    fn what_this_server_gave_before_another_token_is_over() {
        let key = EntryKey::Project("k".to_owned());
        let resolved = |local: &KeyState, token, evidence| resolve(&key, local, &remote(Some("forgotten"), token), evidence);
        let lacks_some = Evidence { has_all: false, ..MINE };
        for state in [SyncState::Decided, SyncState::Synced, SyncState::Pending] {
            let released = local(None, state, &[held("B", 20)]);
            assert_eq!(resolved(&released, 10, MINE), Action::Push, "{state:?}");
            assert_eq!(resolved(&released, 10, lacks_some), Action::Push, "{state:?}");
            let only_here =
                KeyState { tombstones: vec![Tombstone::of(&held("B", 20), SyncState::Decided)], ..local(None, state, &[]) };
            assert_eq!(resolved(&only_here, 10, lacks_some), Action::Push, "{state:?}");
            let blind = Evidence { in_order: false, ..lacks_some };
            assert_eq!(resolved(&only_here, 10, blind), Action::Adopt, "{state:?}: it was granted without knowing of it");
            assert_eq!(resolved(&released, 10, OF_ANOTHER), Action::Adopt, "{state:?}: another's clock may be behind");
            assert_eq!(resolved(&released, 0, MINE), Action::Adopt, "{state:?}: no token, no order");
            assert_eq!(resolved(&released, 21, MINE), Action::Adopt, "{state:?}");
        }
        let taken = |state| local(Some(held("C", 30)), state, &[]);
        assert_eq!(resolved(&taken(SyncState::Decided), 10, OF_ANOTHER), Action::Conflict);
        assert_eq!(resolved(&taken(SyncState::Decided), 10, MINE), Action::Push);
        let blind = Evidence { in_order: false, ..lacks_some };
        assert_eq!(resolved(&taken(SyncState::Decided), 10, lacks_some), Action::Push);
        assert_eq!(resolved(&taken(SyncState::Decided), 10, blind), Action::Conflict, "it was granted without knowing of it");
        assert_eq!(resolved(&taken(SyncState::Synced), 10, lacks_some), Action::Push);
        assert_eq!(resolved(&taken(SyncState::Synced), 10, OF_ANOTHER), Action::Conflict, "Redis has gone back");
        assert_eq!(resolved(&taken(SyncState::Pending), 10, MINE), Action::Adopt, "what was asked for has no holder yet");
    }

    #[test]
    fn what_is_lost_is_told_from_what_was_released() {
        let key = EntryKey::Command("apply".to_owned());
        let settled = local(Some(held("A", 10)), SyncState::Synced, &[]);
        let resolved =
            |local: &KeyState, remote, recently, lost| resolve(&key, local, &remote, Evidence { recently, lost, ..OF_ANOTHER });
        assert_eq!(resolved(&settled, remote(None, 0), false, false), Action::Adopt, "an hour passed: it may be forgotten");
        assert_eq!(resolved(&settled, remote(None, 0), false, true), Action::Restore);
        assert_eq!(resolved(&settled, remote(None, 10), true, true), Action::Adopt, "the token is there: it was released");
        assert_eq!(resolved(&settled, remote(Some("B"), 5), true, true), Action::Conflict);
        let stock = local(Some(held("A", 0)), SyncState::Synced, &[]);
        assert_eq!(resolved(&stock, remote(None, 0), true, false), Action::Adopt);
        assert_eq!(resolved(&stock, remote(None, 0), true, true), Action::Restore);
    }

    #[test]
    fn a_queue_that_redis_lost_or_had_before_goes_back_to_it() {
        let key = EntryKey::Queue("a/b".to_owned());
        let of =
            |revision: u64| format!(r#"{{"version":1,"revision":{revision},"next_seq":0,"tickets":[],"ended":[]}}"#).into_bytes();
        let ours = |state| local(Some(Held { value: of(7), token: FencingToken::NONE }), state, &[]);
        let lost = Evidence { lost: true, ..OF_ANOTHER };
        let resolved = |state, theirs: Option<u64>, evidence| {
            resolve(&key, &ours(state), &Remote { value: theirs.map(of), ..Remote::default() }, evidence)
        };
        assert_eq!(resolved(SyncState::Synced, None, lost), Action::Restore);
        assert_eq!(resolved(SyncState::Synced, None, OF_ANOTHER), Action::Adopt, "it was emptied");
        assert_eq!(resolved(SyncState::Synced, Some(6), OF_ANOTHER), Action::Push);
        assert_eq!(resolved(SyncState::Synced, Some(8), OF_ANOTHER), Action::Adopt);
        assert_eq!(resolved(SyncState::Decided, None, OF_ANOTHER), Action::Push);
        assert_eq!(resolved(SyncState::Decided, Some(8), OF_ANOTHER), Action::Merge);
        assert_eq!(resolved(SyncState::Pending, Some(6), OF_ANOTHER), Action::Adopt, "nobody was told of it");
    }

    #[test]
    fn a_pull_status_is_never_a_conflict() {
        let key = EntryKey::Status("h::a/b::1".to_owned());
        let decided = local(Some(held("new", 0)), SyncState::Decided, &[held("old", 0)]);
        let resolved = |value| resolve(&key, &decided, &remote(value, 0), OF_ANOTHER);
        assert_eq!(resolved(Some("old")), Action::Push);
        assert_eq!(resolved(Some("other")), Action::Adopt);
        assert_eq!(resolved(None), Action::Push);
    }
}
