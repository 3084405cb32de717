//! Freezes: what they deny, until when, and what they say.

use super::super::freeze::*;
use crate::domain::key::Fields;
use crate::error::Code;

const NOON: u64 = 1_796_040_000_000_000;
const HOUR: u64 = 3_600_000_000;

fn pattern(repo: &str, path: &str) -> Pattern {
    Pattern { repo: repo.into(), path: path.into(), workspace: "*".into(), project: "*".into() }
}

fn request(until: Option<u64>) -> FreezeRequest {
    let (reason, owner) = ("incident 1231".to_owned(), "ada".to_owned());
    let pattern = pattern("acme/*", "prod/*");
    FreezeRequest { pattern, reason, owner, from: None, until, open_ended: false, plans: Plans::Deny }
}

fn fields<'a>(repo: &'a str, path: &'a str) -> Fields<'a> {
    Fields { repo, path, workspace: "default", project: "" }
}

#[test]
fn a_freeze_denies_what_its_pattern_means_while_it_lasts() {
    let mut freezes = Freezes::default();
    let freeze = freezes.add(&request(Some(NOON + 6 * HOUR)), NOON).expect("is added");
    for (fields, now, denied) in [
        (fields("acme/infra", "prod/db"), NOON, true),
        (fields("acme/infra", "prod/db"), NOON - 1, false),
        (fields("acme/infra", "prod/db"), NOON + 6 * HOUR, false),
        (fields("acme/infra", "dev/db"), NOON, false),
        (fields("other/infra", "prod/db"), NOON, false),
    ] {
        assert_eq!(freezes.denies(&fields, now).is_some(), denied, "{fields:?} {now}");
        assert_eq!(freezes.denies_key(fields.repo, &fields.key(), now), denied, "{fields:?} {now}");
    }
    assert!(freezes.remove("no", NOON).is_none());
    assert_eq!(freezes.remove(&freeze.id, NOON), Some(freeze));
    assert!(freezes.denies(&fields("acme/infra", "prod/db"), NOON).is_none() && freezes.is_empty());
}

#[test]
fn a_key_is_frozen_wherever_its_path_may_end() {
    let mut freezes = Freezes::default();
    let mut asked = request(Some(NOON + HOUR));
    asked.pattern = Pattern { repo: "group/sub/infra".into(), path: "a/b".into(), workspace: "w".into(), project: "x/y".into() };
    freezes.add(&asked, NOON).expect("is added");
    assert!(freezes.denies_key("group/sub/infra", "group/sub/infra/a/b/w/x/y", NOON));
    assert!(!freezes.denies_key("group/sub/infra", "group/sub/infra/a/b/w/x", NOON));
    assert!(!freezes.denies_key("group/sub", "group/sub/infra/a/b/w/x/y", NOON));
}

#[test]
fn a_freeze_says_its_end_or_that_it_has_none() {
    let mut freezes = Freezes::default();
    let open = |until| FreezeRequest { open_ended: true, ..request(until) };
    let late = FreezeRequest { from: Some(NOON + 2 * HOUR), ..request(Some(NOON + HOUR)) };
    let silent = FreezeRequest { reason: " ".into(), ..request(Some(NOON + HOUR)) };
    for wrong in [request(None), open(Some(NOON + HOUR)), request(Some(NOON)), late, silent] {
        assert_eq!(freezes.add(&wrong, NOON).expect_err("is refused").code(), Code::InvalidArgument, "{wrong:?}");
    }
    assert_eq!(freezes, Freezes::default());
    let long = FreezeRequest { reason: "x".repeat(1_001), ..request(Some(NOON + HOUR)) };
    assert_eq!(freezes.add(&long, NOON).expect_err("is refused").code(), Code::TooLarge);
    let freeze = freezes.add(&open(None), NOON).expect("is added");
    assert_eq!(freeze.why(NOON), "by ada until that is ended: incident 1231");
}

#[test]
fn there_are_so_many_freezes_and_those_that_are_over_do_not_count() {
    let mut freezes = Freezes::default();
    let mut ids = std::collections::BTreeSet::new();
    for at in 0..MAX_FREEZES as u64 {
        ids.insert(freezes.add(&request(Some(NOON + HOUR + at)), NOON).expect("is added").id);
    }
    assert_eq!(ids.len(), MAX_FREEZES);
    assert_eq!(freezes.add(&request(Some(NOON + HOUR)), NOON).expect_err("is refused").code(), Code::TooLarge);
    freezes.add(&request(Some(NOON + 3 * HOUR)), NOON + HOUR).expect("the first is over");
    assert_eq!(freezes.at(NOON + HOUR).len(), MAX_FREEZES);
}

#[test]
fn the_text_names_owner_end_and_reason_and_moves_no_cursor() {
    let mut freezes = Freezes::default();
    let asked = FreezeRequest { reason: "a\u{1b}[2Jb \u{202e}\"é\"".into(), ..request(Some(NOON + 6 * HOUR)) };
    let freeze = freezes.add(&asked, NOON).expect("is added");
    assert_eq!(freeze.why(NOON), "by ada until 18:00 UTC: a\\u{1b}[2Jb \\u{202e}\"é\"");
    assert!(freeze.why(NOON - 24 * HOUR).contains("until 2026-11-30 18:00 UTC"), "{}", freeze.why(NOON - 24 * HOUR));
}

#[test]
fn a_document_is_read_as_it_was_written_and_no_other_is() {
    let mut freezes = Freezes::default();
    freezes.add(&request(Some(NOON + HOUR)), NOON).expect("is added");
    assert_eq!(Freezes::decode(Some(&freezes.encode())).expect("is read"), freezes);
    for (document, code) in [
        (&br#"{"version":2}"#[..], Code::StoreNewerFormat),
        (br#"{"version":1,"freezes":7}"#, Code::EntryUnreadable),
        (b"", Code::EntryUnreadable),
    ] {
        assert_eq!(Freezes::decode(Some(document)).expect_err("is refused").code(), code);
    }
}
