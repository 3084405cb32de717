//! What this server and Redis know of each other: who was there, and until when Redis had everything.
//!
//! A server announces itself to Redis, and Redis remembers when. A Redis that does not remember the last announcement has lost data. A
//! server whose stores agree says with its next announcement until when Redis had everything (its *high-water mark*); a Redis that lost
//! data after that lacks the high-water mark, too. See [`super::announce`] for how both are told.

use std::time::{Duration, Instant};

use crate::sync::{Mutex, MutexGuard};

use crate::error::{Code, Error, Result};
use crate::store::contract::shared::Presence as Said;

/// Longest time between two announcements after which the silence of others still says something: in a longer one they may have
/// been cut off from Redis as well.
const LONGEST_SILENCE: Duration = Duration::from_secs(10);
/// Longest time that one announcement waits for another.
const LONGEST_ANNOUNCEMENT: Duration = Duration::from_secs(1);

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
    /// The moment of which Redis is to remember that.
    had_all_at: Option<u64>,
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
        let state = State { remembers: Some(u64::MAX), had_all_at: None, unanswered: true, unsure_until: now, announced_at: now };
        Presence { announcing: Mutex::default(), state: Mutex::new(state) }
    }

    /// One announcement begins. One at a time: each answer is compared with the one before.
    pub(super) fn begin(&self, now: Instant) -> Result<Saying<'_>> {
        let Some(announcing) = self.announcing.try_lock_for(LONGEST_ANNOUNCEMENT) else {
            return Err(Error::new(Code::Degraded, "another announcement to Redis is under way: try again"));
        };
        let mut state = self.state.lock();
        // Once: said again, it might be said to a Redis that has lost data in between.
        let said = state.had_all_at.take().map_or(Said::Here, Said::Agreed);
        let is_unsure = state.unanswered || now < state.unsure_until;
        state.unanswered = true;
        Ok(Saying { said, is_unsure, _announcing: announcing })
    }

    /// The announcement failed, and may be made until then.
    pub(super) fn failed(&self, until: Instant) {
        self.state.lock().unsure_until = until;
    }

    /// It was made; Redis remembers that it had everything until `agreed`. Returns whether the one before was so long ago that the
    /// silence of others says nothing.
    pub(super) fn made(&self, agreed: u64, now: Instant) -> bool {
        let mut state = self.state.lock();
        state.unanswered = false;
        state.remembers = state.remembers.map(|remembered| remembered.min(agreed));
        now.saturating_duration_since(std::mem::replace(&mut state.announced_at, now)) > LONGEST_SILENCE
    }

    /// The two do not agree any more.
    pub(super) fn disagree(&self) {
        self.state.lock().remembers.get_or_insert(u64::MAX);
    }

    /// The two agree since this server announced itself at this moment of Redis's clock.
    pub(super) fn agree(&self, announced: u64) {
        let mut state = self.state.lock();
        state.remembers = None;
        state.had_all_at = Some(announced);
    }

    /// Redis had everything when this server announced itself at this moment of its clock.
    pub(super) fn set_had_all_at(&self, announced: Option<u64>) {
        self.state.lock().had_all_at = announced;
    }

    /// The last moment of which Redis remembers that it had everything; `None` while the two agree.
    pub(super) fn remembered(&self) -> Option<u64> {
        self.state.lock().remembers
    }
}
