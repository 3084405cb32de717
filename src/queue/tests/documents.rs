//! What is written is what is read, and what cannot be read is said so.

use proptest::prelude::*;

use super::*;
use crate::error::Code;

/// A queue that went through this many things; its pulls wait for `a`, `b` and `c`.
pub(super) fn any_queue() -> impl Strategy<Value = Queue> {
    let step = (0..6, 1..6_i64, prop::sample::subsequence(vec!["a", "b", "c"], 1..3), 0..4_i64, any::<bool>(), 0..60_u64);
    prop::collection::vec(step, 0..24).prop_map(|steps| {
        let (mut queue, mut now) = (Queue::default(), 1_000);
        for (what, num, keys, priority, flag, later) in steps {
            now += later;
            let holder = |key: &str| (key.to_owned(), if flag { Holder::Free } else { Holder::Held(pull(num)) });
            match what {
                0 => drop(queue.leave(&pull(num), flag.then_some(keys[0]))),
                1 => drop(queue.dispatch(&keys.iter().map(|key| holder(key)).collect(), &RULES, now)),
                2 if flag => drop(queue.end_acquiring(&pull(num))),
                2 => drop(queue.begin_acquiring(&pull(num), BTreeMap::from([(keys[0].into(), Digest::of(b"x"))]), now + 9)),
                _ => {
                    let priority = Priority::try_from(priority).expect("is one");
                    queue.join(&waiter(num), &names(&keys), priority, what == 3, flag, now).expect("there is room");
                }
            }
            queue.bump(now);
        }
        queue
    })
}

/// What is shown of a pull may be anything.
fn any_waiter() -> impl Strategy<Value = Waiter> {
    let text = || prop_oneof![Just(String::new()), Just("ada".to_owned()), Just("https://h/7".to_owned()), ".{0,4}"];
    ("(h|H\\.a)?", prop_oneof![Just(7), Just(77), 1..i64::MAX], text(), text(), 0..3_i64, text(), text()).prop_map(
        |(host, num, user, url, host_type, author, recipe)| {
            let pull = PullId { host, num };
            Waiter { pull, user, url, host_type, author, recipe }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whoever_waits_is_read_as_written(waiters in prop::collection::vec(any_waiter(), 1..6), later: u8) {
        let mut queue = Queue::default();
        for waiter in &waiters {
            queue.join(waiter, &names(&["a"]), Priority::Normal, false, false, u64::from(later)).expect("there is room");
        }
        queue.leave(&waiters[0].pull, None);
        prop_assert_eq!(Queue::decode(Some(&queue.to_bytes())), Ok(queue));
    }

    #[test]
    fn a_document_means_what_was_written(queue in any_queue()) {
        let bytes = queue.encode();
        prop_assert_eq!(bytes.is_none(), queue.is_empty() && queue.ended.is_empty());
        let is_empty = queue.is_empty();
        prop_assert_eq!(revision(&queue.to_bytes()), queue.revision());
        prop_assert_eq!(queue.size(), queue.to_bytes().len());
        prop_assert_eq!(Queue::decode(Some(&queue.to_bytes())), Ok(queue));
        prop_assert_eq!(Queue::decode(bytes.as_deref()).map(|queue| queue.is_empty()), Ok(is_empty));
    }

    /// A few bytes of a good document are others, or the document ends early: nothing panics, and no text repeats a value.
    #[test]
    fn a_hostile_document_is_read_or_refused(queue in any_queue(), at: prop::sample::Index, bytes: Vec<u8>, cut: bool, now: u64) {
        let mut document = queue.to_bytes();
        let at = at.index(document.len());
        if cut { document.truncate(at) }
        let end = (at + bytes.len()).min(document.len());
        document.splice(at.min(end)..end, bytes);
        revision(&document);
        merge(&document, &queue.to_bytes());
        match Queue::decode(Some(&document)) {
            Err(error) => {
                prop_assert!([Code::EntryUnreadable, Code::StoreNewerFormat].contains(&error.code()));
                prop_assert!(error.message().contains("atlock leave") && !error.message().contains("example.com"), "{}", error);
            }
            Ok(mut queue) => exercise(&mut queue, now),
        }
    }
}

/// Whatever can be asked of a queue.
fn exercise(queue: &mut Queue, now: u64) {
    let rules = Rules { aging: now, reservation: now, caller_reservation: now, collect_after: now / 2 };
    for num in 1..6 {
        queue.position(&pull(num), "a", &rules);
        queue.ahead(&pull(num), "a", &rules);
    }
    let free = queue.keys_to_look_at(&[]).into_iter().map(|key| (key, Holder::Free)).collect();
    queue.dispatch(&free, &rules, now);
    queue.extend(&pull(1), u64::MAX);
    queue.join(&waiter(7), &names(&["a"]), Priority::Critical, false, false, now).expect("there is room");
    queue.bump(now);
    queue.leave(&pull(7), None);
}

#[test]
fn the_largest_numbers_do_no_harm() {
    let number = u64::MAX;
    let document = format!(
        r#"{{"version":1,"revision":{number},"next_seq":{number},"tickets":[{{"pull":1,"user":"","seq":{number},"since":{number},
        "priority":"low","wants":[0,1],"missed":4294967295}}],"reserved":[{{"ticket":0,"key":0,"until":{number}}}],"ended":[],
        "hosts":[{{"name":"","type":0,"pages":""}}],"keys":["a","b"]}}"#
    );
    let queue = Queue::decode(Some(document.as_bytes())).expect("is one");
    for now in [0, 1, number - 1, number] {
        exercise(&mut queue.clone(), now);
    }
}

#[test]
fn each_thing_that_is_wrong_with_a_document_has_its_error() {
    let good = String::from_utf8(queue(&[(2, &["a"], false, 1), (3, &["a"], false, 2)]).to_bytes()).expect("is JSON");
    let reserved = |what: &str| good.replace(r#""ended""#, &format!(r#""reserved":[{what}],"ended""#));
    let (first, second) = (r#"{"ticket":0,"key":0,"until":5}"#, r#"{"ticket":1,"key":0,"until":5}"#);
    let twice = good.replace(r#""pull":3"#, r#""pull":2"#);
    for (document, code, text) in [
        (good.replace(r#""version":1"#, r#""version":2,"new":[]"#), Code::StoreNewerFormat, "format 2"),
        (r#"{"version":7}"#.into(), Code::StoreNewerFormat, "format 7"),
        ("".into(), Code::EntryUnreadable, "names no version"),
        (r#"{"version":1}"#.into(), Code::EntryUnreadable, "cannot be read"),
        (good.replace(r#""wants""#, r#""priority":"secret","wants""#), Code::EntryUnreadable, "cannot be read"),
        (good.replace(r#""wants":[0]"#, r#""wants":[1]"#), Code::EntryUnreadable, "cannot be read"),
        (good.replace(r#""pull":3"#, r#""pull":3,"host":1"#), Code::EntryUnreadable, "cannot be read"),
        (reserved(&format!("{first},{second}")), Code::EntryUnreadable, "reserved twice"),
        (reserved(r#"{"ticket":2,"key":0,"until":5}"#), Code::EntryUnreadable, "cannot be read"),
        (twice, Code::EntryUnreadable, "two tickets"),
    ] {
        let error = Queue::decode(Some(document.as_bytes())).expect_err("is refused");
        assert_eq!(error.code(), code, "{error}");
        assert!(error.message().contains(text) && error.message().contains("atlock leave"), "{error}");
        assert!(!error.message().contains("secret"), "{error}");
    }
    let mut late = Queue::decode(Some(good.replace(r#""next_seq":3"#, r#""next_seq":0"#).as_bytes())).expect("is one");
    late.join(&waiter(4), &names(&["a"]), Priority::Normal, false, false, 0).expect("there is room");
    assert_eq!(late.ticket(&pull(4)).expect("waits").seq, 3, "nobody has the number of another");
    assert_eq!(Queue::decode(None), Ok(Queue::default()));
    assert_eq!((revision(b"{}"), revision(b"x"), revision(br#"{"revision":7}"#)), (0, 0, 7));
}

#[test]
fn a_revision_never_goes_back() {
    let mut queue = Queue::default();
    let revisions = [50, 20, 20, 90].map(|now| {
        queue.bump(now);
        queue.revision()
    });
    assert_eq!(revisions, [50, 51, 52, 90]);
}

/// Each who joins reads and writes the whole document.
#[test]
fn what_tickets_have_in_common_is_written_once() {
    let mut queue = Queue::default();
    for num in 1..=1_000_i64 {
        let key = format!("acme/infrastructure/environments/production/p{}/default/", num / 100);
        let url = format!("https://git.example.com/acme/infrastructure/pull/{num}");
        let waiter = Waiter { url, author: "someone".into(), user: "someone".into(), ..waiter(num) };
        let now = 1_790_000_000_000_000 + num as u64;
        queue.join(&waiter, &[key], Priority::Normal, false, false, now).expect("there is room");
    }
    assert!(queue.size() < 70_000, "{} bytes", queue.size());
    assert_eq!(Queue::decode(Some(&queue.to_bytes())), Ok(queue));
}
