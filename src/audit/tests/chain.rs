//! What was done to a trail, and is found.

use super::*;

/// Replaces the lines of a file.
fn edit(file: &Path, change: impl FnOnce(&mut Vec<String>)) {
    let mut lines: Vec<String> = fs::read_to_string(file).expect("reads").lines().map(str::to_owned).collect();
    change(&mut lines);
    fs::write(file, lines.join("\n") + "\n").expect("writes");
}

#[test]
fn a_whole_trail_is_found_whole_across_its_files_and_writers() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("audit");
    let settings = config::Audit { max_bytes: 4096, keep: 100, ..settings(&file) };
    let lost = by_four_writers(&settings, |log| log.record(&event("one of many")), 100);
    let found = verify(&file, None).expect("reads");
    assert_eq!((found.lines + lost, &found.faults[..], &found.notes[..]), (400, &[][..], &[][..]));
    assert_eq!(found.files, files(&file).len());
    let text = fs::read_to_string(&file).expect("reads");
    let last = text.lines().next_back().expect("a line");
    assert_eq!(found.last, Some(Hash::of(last.as_bytes())));
}

#[test]
fn what_was_done_to_the_lines_is_found() {
    type Act = fn(&mut Vec<String>);
    let acts: [(&str, Act, &[&str]); 5] = [
        ("removed", |lines| drop(lines.remove(3)), &["audit.2:4: does not follow the line before it"]),
        ("changed", |lines| lines[3] = lines[3].replace("number", "Number"), &["audit.2:5: does not follow the line before it"]),
        (
            "swapped",
            |lines| lines.swap(3, 4),
            &[
                "audit.2:4: does not follow the line before it",
                "audit.2:5: stands in the wrong place",
                "audit.2:6: stands in the wrong place",
            ],
        ),
        ("told twice", |lines| lines.insert(4, lines[3].clone()), &["audit.2:5: stands in the wrong place"]),
        (
            "forged",
            |lines| lines.insert(4, r#"{"kind":"grant"}"#.to_owned()),
            &["audit.2:5: has no hash", "audit.2:6: stands in the"],
        ),
    ];
    for (name, act, expected) in acts {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("audit");
        long_trail(&file, 100, 60);
        assert_eq!(faults(&file), [""; 0]);
        edit(&folder.path().join("audit.2"), act);
        let found = faults(&file);
        let is_expected =
            found.len() == expected.len() && found.iter().zip(expected).all(|(found, text)| found.starts_with(text));
        assert!(is_expected, "{name}: {found:#?}");
    }
}

#[test]
fn a_missing_file_and_cut_lines_are_found() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("audit");
    long_trail(&file, 100, 120);
    let before = verify(&file, None).expect("reads");
    fs::remove_file(folder.path().join("audit.2")).expect("removes");
    assert_eq!(
        faults(&file),
        ["audit.1:1: does not follow the line before it: that one was changed, or lines in between are missing"]
    );
    let oldest = files(&file).len();
    fs::remove_file(folder.path().join(format!("audit.{oldest}"))).expect("removes");
    assert!(faults(&file)[0].contains("lines before it are missing, and no entry tells that they were dropped"));

    // The newest lines alone are not missed, unless their hash was kept.
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("audit");
    long_trail(&file, 100, 60);
    let anchor = verify(&file, None).expect("reads").last;
    assert_ne!(anchor, before.last);
    assert_eq!(verify(&file, anchor).expect("reads").faults, []);
    edit(&file, |lines| drop(lines.pop()));
    assert_eq!(faults(&file), [""; 0]);
    let found = verify(&file, anchor).expect("reads");
    assert!(found.faults[0].what.contains("the newest lines were cut off"), "{found:?}");
}

#[test]
fn what_is_dropped_is_an_entry() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("audit");
    long_trail(&file, 2, 200);
    let mut all: Vec<Value> = Vec::new();
    for path in [folder.path().join("audit.2"), folder.path().join("audit.1"), file.clone()] {
        all.extend(lines(&path));
    }
    assert_eq!(files(&file).len(), 3);
    let dropped: Vec<&Value> = all.iter().filter(|line| line["kind"] == "dropped").map(|line| &line["dropped"]).collect();
    assert!(!dropped.is_empty() && dropped.iter().all(|dropped| dropped["file"] == "audit.3"), "{dropped:?}");
    let found = verify(&file, None).expect("reads");
    assert_eq!(found.faults, []);
    assert!(found.notes[0].what.contains("older files were dropped"), "{found:?}");

    // Fewer are kept from now on.
    long_trail(&file, 1, 30);
    assert_eq!(files(&file).len(), 2);
    assert_eq!(faults(&file), [""; 0]);
}

#[test]
fn a_torn_line_is_told_from_one_that_was_cut() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("audit");
    long_trail(&file, 5, 3);
    let whole = fs::read(&file).expect("reads");
    fs::write(&file, &whole[..whole.len() - 20]).expect("writes");
    let found = verify(&file, None).expect("reads");
    assert_eq!((found.faults.len(), found.notes.len(), found.notes[0].line), (0, 1, 3), "{found:?}");
    long_trail(&file, 5, 1);
    let found = verify(&file, None).expect("reads");
    assert_eq!((found.faults, found.lines), (vec![], 4));
    assert!(found.notes[0].line == 3 && found.notes[0].what.contains("was cut short when it was written"));
    edit(&file, |lines| lines[2].truncate(30));
    assert!(faults(&file)[0].starts_with("audit:4: does not follow the line before it"));
}

#[test]
fn a_trail_of_before_goes_on_with_hashes() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("audit");
    fs::write(&file, "{\"kind\":\"grant\"}\n{\"kind\":\"release\"}\n").expect("writes");
    long_trail(&file, 5, 2);
    let found = verify(&file, None).expect("reads");
    assert_eq!((found.unchained, found.lines, found.faults), (2, 4, vec![]));
    edit(&file, |lines| drop(lines.remove(1)));
    assert_eq!(faults(&file).len(), 1, "the last of them has a hash");
}

/// A file that somebody else removes leaves a gap.
#[test]
fn a_removed_file_is_missed_as_long_as_the_writer_lives() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("audit");
    let log = open(&settings(&file));
    log.record(&event("one"));
    fs::remove_file(&file).expect("removes");
    log.record(&event("two"));
    assert!(faults(&file)[0].starts_with("audit:1: lines before it are missing"), "{:?}", faults(&file));
}
