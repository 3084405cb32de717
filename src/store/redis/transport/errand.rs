//! Work that the operating system may keep for as long as it likes, such as looking a name up or reading a file: threads of its own
//! do it, and callers wait for them.
//!
//! Invariants:
//! - A caller waits until its deadline, and no longer (P5). Nobody else waits: closing does not.
//! - At most [`MOST`] threads of an errand are under way, and [`MOST_IN_ALL`] of all, however many callers wait and however long each
//!   thread hangs.
//! - A caller is never told an answer that was asked for before the one that it waits for; an older answer replaces no newer one.
//!
//! Faults survived: a name server that does not answer (`getaddrinfo` then takes 20 s and more), a disk that hangs, a panic.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Threads of one errand that are under way at most.
const MOST: usize = 4;
/// Of all in the process: a store that is opened again and again, on a disk that hangs, has new errands each time.
const MOST_IN_ALL: usize = 64;
/// A thread that has been under way for longer is not waited for: another one is sent. With [`MOST`] of them there is always one, as
/// long as each ends within 20 s, which `getaddrinfo` usually does.
const RENEWED_AFTER: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Debug)]
pub(in crate::store::redis) enum Missing<E> {
    /// The work failed.
    Failed(E),
    /// It did not end in time.
    Late,
    /// The system has no thread for it, or the thread panicked.
    NoThread(io::Error),
}

/// The work, and what it brought last. Safe from any thread.
pub(in crate::store::redis) struct Errand<T, E> {
    name: &'static str,
    work: Arc<Work<T, E>>,
    shared: Arc<Shared<T, E>>,
}

type Work<T, E> = dyn Fn() -> Result<T, E> + Send + Sync;

struct Shared<T, E> {
    state: Mutex<State<T, E>>,
    changed: Condvar,
}

struct State<T, E> {
    /// When each thread under way was sent, in order.
    under_way: Vec<Instant>,
    last: Option<(Instant, Result<T, E>)>,
    last_good: Option<T>,
}

impl<T, E> Errand<T, E>
where
    T: Clone + Send + 'static,
    E: Clone + Send + 'static,
{
    /// Work that threads called `name` do.
    pub(in crate::store::redis) fn new(
        name: &'static str,
        work: impl Fn() -> Result<T, E> + Send + Sync + 'static,
    ) -> Errand<T, E> {
        let state = State { under_way: Vec::new(), last: None, last_good: None };
        Errand { name, work: Arc::new(work), shared: Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() }) }
    }

    /// Has the work done, or joins those who wait for it already. Waits until the deadline, and with `patience` only until the work
    /// has been under way for so long.
    pub(in crate::store::redis) fn ask(&self, deadline: Instant, patience: Option<Duration>) -> Result<T, Missing<E>> {
        let mut state = self.shared.state.lock();
        let asked = self.join(&mut state).map_err(Missing::NoThread)?;
        let until = patience.map_or(deadline, |patience| deadline.min(asked + patience));
        loop {
            if let Some((of, answer)) = &state.last
                && *of >= asked
            {
                return answer.clone().map_err(Missing::Failed);
            }
            if !state.under_way.contains(&asked) {
                return Err(Missing::NoThread(io::Error::other("it panicked")));
            }
            if Instant::now() >= until {
                return Err(Missing::Late);
            }
            self.shared.changed.wait_until(&mut state, until);
        }
    }

    /// Has the work done, and waits for nobody.
    pub(super) fn begin(&self) {
        // Without a thread for it there is none: whoever waits is told.
        let _ = self.join(&mut self.shared.state.lock());
    }

    /// What the work brought when it last went well.
    pub(in crate::store::redis) fn last_good(&self) -> Option<T> {
        self.shared.state.lock().last_good.clone()
    }

    /// When the work was begun that an answer is expected of.
    fn join(&self, state: &mut State<T, E>) -> io::Result<Instant> {
        let now = Instant::now();
        if let Some(&youngest) = state.under_way.last()
            && (now.duration_since(youngest) < RENEWED_AFTER || state.under_way.len() >= MOST)
        {
            return Ok(youngest);
        }
        let place = Place::take()?;
        let (work, shared) = (Arc::clone(&self.work), Arc::clone(&self.shared));
        std::thread::Builder::new().name(self.name.to_owned()).spawn(move || {
            let _back = Back { shared: &shared, asked: now, _place: place };
            let answer = work();
            shared.state.lock().learn(now, answer);
        })?;
        state.under_way.push(now);
        Ok(now)
    }
}

impl<T: Clone, E> State<T, E> {
    fn learn(&mut self, asked: Instant, answer: Result<T, E>) {
        if self.last.as_ref().is_some_and(|(of, _)| *of > asked) {
            return;
        }
        if let Ok(good) = &answer {
            self.last_good = Some(good.clone());
        }
        self.last = Some((asked, answer));
    }
}

/// A thread ends, by a panic as well.
struct Back<'a, T, E> {
    shared: &'a Shared<T, E>,
    asked: Instant,
    _place: Place,
}

impl<T, E> Drop for Back<'_, T, E> {
    fn drop(&mut self) {
        self.shared.state.lock().under_way.retain(|asked| *asked != self.asked);
        self.shared.changed.notify_all();
    }
}

/// One of [`MOST_IN_ALL`].
struct Place;

static PLACES: Mutex<usize> = Mutex::new(MOST_IN_ALL);

impl Place {
    fn take() -> io::Result<Place> {
        let mut places = PLACES.lock();
        *places = places.checked_sub(1).ok_or_else(|| io::Error::other("too many are busy with files or names that hang"))?;
        Ok(Place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *PLACES.lock() += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn soon(millis: u64) -> Instant {
        Instant::now() + Duration::from_millis(millis)
    }

    #[test]
    fn callers_wait_until_their_deadline_and_few_threads_hang() {
        let begun = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&begun);
        let errand = Errand::<(), ()>::new("hangs", move || {
            counted.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_secs(3600));
            Ok(())
        });
        let start = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..50 {
                scope.spawn(|| assert!(matches!(errand.ask(soon(100), None), Err(Missing::Late))));
            }
        });
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        assert_eq!(begun.load(Ordering::SeqCst), 1, "they wait for the same");
        // A thread that hangs for long is given up, but not any number of them.
        for _ in 0..10 {
            for begun in &mut errand.shared.state.lock().under_way {
                *begun = begun.checked_sub(RENEWED_AFTER).unwrap_or(*begun);
            }
            assert!(matches!(errand.ask(soon(5), None), Err(Missing::Late)));
        }
        assert_eq!(begun.load(Ordering::SeqCst) as usize, MOST);
    }

    #[test]
    fn an_answer_is_as_young_as_the_question_and_replaces_no_younger_one() {
        let number = AtomicU32::new(0);
        let errand = Errand::<u32, u32>::new("counts", move || match number.fetch_add(1, Ordering::SeqCst) {
            odd if odd % 2 == 1 => Err(odd),
            even => Ok(even),
        });
        assert!(matches!(errand.ask(soon(5_000), None), Ok(0)));
        assert!(matches!(errand.ask(soon(5_000), None), Err(Missing::Failed(1))));
        assert_eq!(errand.last_good(), Some(0));
        assert!(matches!(errand.ask(soon(5_000), None), Ok(2)));
        let old = Instant::now().checked_sub(Duration::from_secs(60)).expect("the machine runs for longer");
        errand.shared.state.lock().learn(old, Ok(7));
        assert_eq!(errand.last_good(), Some(2));
    }

    #[test]
    fn after_a_panic_nobody_waits() {
        let errand = Errand::<(), ()>::new("panics", || panic!("expected"));
        assert!(matches!(errand.ask(soon(60_000), None), Err(Missing::NoThread(_))));
        assert!(errand.shared.state.lock().under_way.is_empty());
    }
}
