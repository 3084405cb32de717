//! What this server and Redis know of each other: who was there, and until when Redis had everything.
//!
//! A server announces itself to Redis, and Redis remembers when. A Redis that does not remember the last announcement has lost data. A
//! server whose stores agree says with its next announcement until when Redis had everything (its *high-water mark*); a Redis that lost
//! data after that lacks the high-water mark, too. See [`super::announce`] for how both are told.
//!
//! A Redis that remembers the announcement need not have what came after that: it may have gone back to in between. It has another
//! replication ID then, as after each start and each fail-over. So what a server saw there counts only as long as the ID is the same, and when
//! it changes, all keys are looked at.

use std::time::{Duration, Instant};

use crate::sync::{Mutex, MutexGuard};

use crate::error::{Code, Error, Result};
use crate::store::contract::shared::{HighWater, Presence as Said};

/// Longest time between two announcements after which the silence of others still says something: in a longer one they may have
/// been cut off from Redis as well.
const LONGEST_SILENCE: Duration = Duration::from_secs(10);
/// Longest time that one announcement waits for another.
const LONGEST_ANNOUNCEMENT: Duration = Duration::from_secs(1);
/// The replication ID of a Redis that does not tell.
const UNKNOWN: &str = "-";

/// What was announced. Safe from any thread; no lock of another part is taken while its own is held.
pub(super) struct Presence {
    /// Held by whoever announces this server.
    announcing: Mutex<()>,
    state: Mutex<State>,
}

struct State {
    /// The last moment of which Redis remembers that it had everything, by its own clock, as it was first asked since the two last
    /// agreed; the largest number before it was asked, `None` while they agree.
    remembers: Option<u64>,
    /// What Redis is to remember of that.
    had_all: Option<HighWater>,
    /// Redis's replication ID at the last announcement; empty before the first.
    replication_id: String,
    /// The same when all keys were last looked at: since then Redis has lost nothing if it is the same one.
    compared_in: String,
    /// Whether the two differ, and nobody has asked for that yet.
    may_have_gone_back: bool,
    /// Whether an announcement may have been made whose answer is not known: one of this process, or of the one before.
    unanswered: bool,
    /// Until when one that failed may still be made.
    unsure_until: Instant,
    /// When the last announcement was made.
    announced_at: Instant,
}

/// What is said with one announcement.
pub(super) struct Saying<'a> {
    pub said: Said,
    /// Whether an earlier one may have been made, or may still be made, unknown to this server.
    pub is_unsure: bool,
    _announcing: MutexGuard<'a, ()>,
}

impl Presence {
    pub(super) fn new(now: Instant) -> Presence {
        let state = State {
            remembers: Some(u64::MAX),
            had_all: None,
            replication_id: String::new(),
            compared_in: String::new(),
            may_have_gone_back: false,
            unanswered: true,
            unsure_until: now,
            announced_at: now,
        };
        Presence { announcing: Mutex::default(), state: Mutex::new(state) }
    }

    /// One announcement begins. One at a time: each answer is compared with the one before.
    pub(super) fn begin(&self, now: Instant) -> Result<Saying<'_>> {
        let Some(announcing) = self.announcing.try_lock_for(LONGEST_ANNOUNCEMENT) else {
            return Err(Error::new(Code::Degraded, "another announcement to Redis is under way: try again"));
        };
        let mut state = self.state.lock();
        // Once: said again, it might be said to a Redis that has lost data in between.
        let said = state.had_all.take().map_or(Said::Here, Said::Agreed);
        let is_unsure = state.unanswered || now < state.unsure_until;
        state.unanswered = true;
        Ok(Saying { said, is_unsure, _announcing: announcing })
    }

    /// The announcement failed, and may be made until then.
    pub(super) fn failed(&self, until: Instant) {
        self.state.lock().unsure_until = until;
    }

    /// It was made; Redis remembers that it had everything until `agreed`, and has this replication ID. Returns whether the one before was so
    /// long ago that the silence of others says nothing.
    pub(super) fn made(&self, agreed: u64, replication_id: String, now: Instant) -> bool {
        let mut state = self.state.lock();
        state.unanswered = false;
        if state.replication_id != replication_id {
            state.may_have_gone_back = true;
            state.replication_id = replication_id;
        }
        state.remembers = state.remembers.map(|remembered| remembered.min(agreed));
        now.saturating_duration_since(std::mem::replace(&mut state.announced_at, now)) > LONGEST_SILENCE
    }

    /// The two do not agree any more.
    pub(super) fn disagree(&self) {
        self.state.lock().remembers.get_or_insert(u64::MAX);
    }

    /// Redis's replication ID at the last announcement.
    pub(super) fn replication_id(&self) -> String {
        self.state.lock().replication_id.clone()
    }

    /// The two agree, by a look at all keys that began after both.
    pub(super) fn agree(&self, since: HighWater) {
        self.compared(Some(since.at), since.replication_id);
        self.state.lock().remembers = None;
    }

    /// All keys were looked at, while Redis had this ID: it had everything when this server announced itself at that moment of its clock,
    /// unless that is `None`.
    pub(super) fn compared(&self, at: Option<u64>, replication_id: String) {
        let mut state = self.state.lock();
        state.compared_in.clone_from(&replication_id);
        state.may_have_gone_back = state.compared_in != state.replication_id;
        state.had_all = at.map(|at| HighWater { at, replication_id });
    }

    /// Redis had everything when this server announced itself at that moment, if it cannot have gone back since all keys were last looked at.
    pub(super) fn probed(&self, at: u64) {
        let mut state = self.state.lock();
        let is_same = state.compared_in == state.replication_id && state.replication_id != UNKNOWN;
        state.had_all = Some(HighWater { at, replication_id: state.replication_id.clone() }).filter(|_| is_same && at > 0);
    }

    /// Whether Redis may have gone back to an earlier moment since this was last asked.
    pub(super) fn take_may_have_gone_back(&self) -> bool {
        std::mem::take(&mut self.state.lock().may_have_gone_back)
    }

    /// The last moment of which Redis remembers that it had everything; `None` while the two agree.
    pub(super) fn remembered(&self) -> Option<u64> {
        self.state.lock().remembers
    }
}
