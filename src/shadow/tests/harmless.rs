//! A shadow that lies, fails or hangs does no harm.

use super::*;

/// A store that lies about everything, fails, and panics.
#[derive(Debug)]
struct Liar(Mutex<Random>);

impl Liar {
    fn lie<T>(&self, lies: Vec<T>) -> Result<T> {
        let mut random = self.0.lock();
        let (chance, which) = (random.below(50), random.index(lies.len()));
        drop(random);
        match chance {
            0 => panic!("the liar panics, as it should"),
            1 => Err(Error::new(Code::InvalidJson, "a lie")),
            _ => lies.into_iter().nth(which).ok_or_else(|| Error::new(Code::Internal, "no lie")),
        }
    }

    fn values(&self) -> Result<Option<Vec<u8>>> {
        self.lie(vec![None, Some(lock("a", 77, 0)), Some(b"[1]".to_vec()), Some(b"no JSON".to_vec())])
    }

    fn lists(&self) -> Result<Listing> {
        let mut full = Listing::default();
        KEYS.iter().for_each(|path| full.push(&lock(path, 77, 0)));
        self.lie(vec![full, Listing::default()])
    }
}

impl Store for Liar {
    fn grant(&self, grant: &Grant<'_>, _call: &Call) -> Result<Granted> {
        let granted = Granted::Yes { token: crate::domain::token::FencingToken::new(7), gated: true };
        self.lie(vec![
            granted,
            Granted::NotYet,
            Granted::Held { value: grant.value.to_vec() },
            Granted::Held { value: b"?".to_vec() },
        ])
    }
    fn release(&self, _release: &Release<'_>, _call: &Call) -> Result<Option<Vec<u8>>> {
        self.values()
    }
    fn discard(&self, _key: LockKey<'_>, _call: &Call) -> Result<Option<Vec<u8>>> {
        self.values()
    }
    fn get(&self, _key: LockKey<'_>, _call: &Call) -> Result<Option<Vec<u8>>> {
        self.values()
    }
    fn list(&self, _call: &Call) -> Result<Listing> {
        self.lists()
    }
    fn release_by_pull(&self, _pull: PullRef<'_>, _call: &Call) -> Result<Listing> {
        self.lists()
    }
    fn document(&self, _key: DocumentKey<'_>, _call: &Call) -> Result<Option<Vec<u8>>> {
        self.values()
    }
    fn swap_document(&self, _: DocumentKey<'_>, _: Expected<'_>, _: Option<&[u8]>, _: &Call) -> Result<Swap> {
        self.lie(vec![Swap::Done, Swap::Conflict(None), Swap::Conflict(Some(b"[]".to_vec()))])
    }
    fn queues(&self, _call: &Call) -> Result<Vec<String>> {
        self.lie(vec![Vec::new()])
    }
    fn held(&self, _key: LockKey<'_>, _call: &Call) -> Result<Option<Held>> {
        self.lie(vec![None])
    }
    fn set_gate(&self, _key: &str, _revision: u64, _gate: &Gate, _call: &Call) -> Result<bool> {
        self.lie(vec![true, false])
    }
    fn ping(&self, _call: &Call) -> Result<()> {
        self.lie(vec![()])
    }
    fn warnings(&self) -> Vec<String> {
        vec!["a lie".to_owned()]
    }
    fn close(&self) -> Result<()> {
        self.lie(vec![()])
    }
}

/// The answers with a shadow that lies about everything are those without a shadow.
#[test]
fn no_answer_is_the_shadows() {
    for seed in 0..30 {
        let liar = Arc::new(Liar(Mutex::new(Random::new(seed))));
        let (alone, tapped) = (reference(), tapped(Box::new(reference()), liar));
        let (mut of_alone, mut of_tapped) = (Random::new(seed), Random::new(seed));
        for at in 0..500 {
            let (wanted, found) = (act(&alone, &mut of_alone, at), act(&*tapped, &mut of_tapped, at));
            assert_eq!(found, wanted, "seed {seed}, operation {at}");
        }
        assert_eq!(tapped.warnings(), alone.warnings());
        wait_for("the liar was asked", || tapped.shadow().report().operations >= 20);
        tapped.shadow().close();
    }
}

/// A shadow that hangs costs nothing: what does not fit is counted, and closing does not wait for it for long.
#[test]
fn a_shadow_that_hangs_costs_nothing() {
    let gate = Arc::new((Mutex::new(true), Condvar::new()));
    let hanging = Arc::new(Hanging { inner: reference(), gate: Arc::clone(&gate), is_asked: AtomicBool::new(false) });
    let tapped = tapped(Box::new(reference()), Arc::clone(&hanging) as Arc<dyn Store>);
    wait_for("the shadow hangs", || hanging.is_asked.load(Ordering::SeqCst));
    let mut random = Random::new(1);
    let all = 2 * u64::try_from(MOST).expect("fits");
    for at in 0..all {
        act(&*tapped, &mut random, at);
    }
    let report = tapped.shadow().report();
    assert!(report.dropped > 4000 && report.waiting <= MOST + 1, "{report:?}");
    assert!(!report.in_step);
    let release_it = || {
        *gate.0.lock() = false;
        gate.1.notify_all();
    };
    release_it();
    in_step(&tapped);
    let report = tapped.shadow().report();
    assert_eq!((report.operations, report.different, report.failed), (all, 0, 0), "{report:?}");
    *gate.0.lock() = true;
    tapped.list(&call()).expect("lists");
    let begun = Instant::now();
    tapped.shadow().close();
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    tapped.list(&call()).expect("the store that decides goes on");
    release_it();
}

/// Hangs while the gate is shut.
#[derive(Debug)]
struct Hanging {
    inner: ReferenceStore,
    gate: Arc<(Mutex<bool>, Condvar)>,
    is_asked: AtomicBool,
}

impl Hanging {
    fn opened(&self) -> &ReferenceStore {
        self.is_asked.store(true, Ordering::SeqCst);
        let mut is_shut = self.gate.0.lock();
        while *is_shut {
            self.gate.1.wait(&mut is_shut);
        }
        &self.inner
    }
}

impl Store for Hanging {
    fn grant(&self, grant: &Grant<'_>, call: &Call) -> Result<Granted> {
        self.opened().grant(grant, call)
    }
    fn release(&self, release: &Release<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        self.opened().release(release, call)
    }
    fn discard(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        self.opened().discard(key, call)
    }
    fn get(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        self.opened().get(key, call)
    }
    fn list(&self, call: &Call) -> Result<Listing> {
        self.opened().list(call)
    }
    fn release_by_pull(&self, pull: PullRef<'_>, call: &Call) -> Result<Listing> {
        self.opened().release_by_pull(pull, call)
    }
    fn document(&self, key: DocumentKey<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        self.opened().document(key, call)
    }
    fn swap_document(&self, key: DocumentKey<'_>, expected: Expected<'_>, new: Option<&[u8]>, call: &Call) -> Result<Swap> {
        self.opened().swap_document(key, expected, new, call)
    }
    fn queues(&self, call: &Call) -> Result<Vec<String>> {
        self.opened().queues(call)
    }
    fn held(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Held>> {
        self.opened().held(key, call)
    }
    fn set_gate(&self, key: &str, revision: u64, gate: &Gate, call: &Call) -> Result<bool> {
        self.opened().set_gate(key, revision, gate, call)
    }
    fn ping(&self, call: &Call) -> Result<()> {
        self.opened().ping(call)
    }
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
    fn close(&self) -> Result<()> {
        self.opened().close()
    }
}
