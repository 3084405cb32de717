//! docs/findings.md names tests, files and broken lines: each is there, and the page counts what its tables have.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The sources below a folder, each with its path.
fn read(folder: &Path, into: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            read(&entry, into);
        } else if entry.extension().is_some_and(|end| end == "rs" || end == "go") && !entry.ends_with("tests/findings.rs") {
            let text = fs::read_to_string(&entry).unwrap();
            into.push((entry, text));
        }
    }
}

fn sources() -> Vec<(PathBuf, String)> {
    let mut all = Vec::new();
    ["src", "tests", "go"].iter().for_each(|folder| read(&root().join(folder), &mut all));
    all
}

/// The cells of a finding: what, found, mended, what finds it today.
fn finding(line: &str) -> Option<[&str; 4]> {
    let cells: Vec<&str> = line.strip_prefix('|')?.trim_end().strip_suffix('|')?.split('|').map(str::trim).collect();
    cells.get(1)?.starts_with("20").then(|| <[&str; 4]>::try_from(cells).unwrap_or_else(|_| panic!("four cells: {line}")))
}

/// What stands between these.
fn between(text: &str, mark: char) -> impl Iterator<Item = &str> {
    text.split(mark).skip(1).step_by(2)
}

/// Whether a function of this name is a test, of Rust or Go.
fn is_test((path, text): &(PathBuf, String), name: &str) -> bool {
    if path.to_string_lossy().ends_with("_test.go") {
        return ["t *testing.T", "f *testing.F"].iter().any(|by| text.contains(&format!("\nfunc {name}({by})")));
    }
    let of_both = text.split("over_both_local_stores! {").nth(1).and_then(|rest| rest.split('}').next());
    let is_attributed = |(at, _): (usize, &str)| {
        let mut before = text[..at].lines().rev().skip(usize::from(!text[..at].ends_with('\n'))).map(str::trim);
        before.by_ref().take_while(|line| line.starts_with("#[")).any(|line| line == "#[test]")
    };
    text.match_indices(&format!("fn {name}(")).any(|found| {
        is_attributed(found) || of_both.is_some_and(|both| both.lines().any(|line| line.trim().trim_end_matches(',') == name))
    })
}

/// What is wrong with a name in backticks.
fn missing(name: &str, sources: &[(PathBuf, String)]) -> Option<String> {
    let is_word = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if ["src/", "tests/", "go/"].iter().any(|folder| name.starts_with(folder)) {
        (!root().join(name).exists()).then(|| format!("there is no {name}"))
    } else if name.starts_with(|c: char| c.is_ascii_uppercase()) && name.contains('/') {
        let row = format!("name: \"{name}\"");
        let is_there = sources.iter().any(|(path, text)| path.starts_with(root().join("go/conformance")) && text.contains(&row));
        (!is_there).then(|| format!("no behaviour is {name}"))
    } else if is_word && name != "journal" && name != "sled" {
        (!sources.iter().any(|source| is_test(source, name))).then(|| format!("no test is {name}"))
    } else {
        None
    }
}

/// What is wrong with a page.
fn mistakes(page: &str, sources: &[(PathBuf, String)]) -> Vec<String> {
    let lines = &sources.iter().find(|(path, _)| path.ends_with("tests/mutants/lines.rs")).expect("the broken lines").1;
    let mut wrong = Vec::new();
    let (mut counts, mut counted) = (BTreeMap::<&str, usize>::new(), BTreeMap::new());
    let mut date_before = "9";
    for line in page.lines() {
        let paths = between(line, '`').filter(|name| name.contains('/') && !name.starts_with(char::is_uppercase));
        wrong.extend(paths.filter_map(|name| missing(name, sources)));
        if let Some([what, found, mended, finds]) = finding(line) {
            let mut found = found.split(", ");
            let (date, finder) = (found.next().expect("a date"), found.next().unwrap_or_default());
            *counts.entry(finder).or_default() += 1;
            if date > date_before {
                wrong.push(format!("the newest is the first: {what}"));
            }
            date_before = date;
            if mended.is_empty() || !["`", "\"", "the seeds", "**nothing**"].iter().any(|begin| finds.starts_with(begin)) {
                wrong.push(format!("where was it mended, what finds it: {what}"));
            }
            let is_known = |name: &&str| lines.contains(&format!("name: \"{name}\""));
            wrong.extend(between(finds, '"').filter(|name| !is_known(name)).map(|name| format!("no broken line is {name:?}")));
            wrong.extend(between(finds, '`').filter_map(|name| missing(name, sources)));
        } else if line.starts_with('#') {
            date_before = "9";
        } else if line.starts_with("- ") || line.starts_with("  ") {
            wrong.extend(between(line, '`').filter_map(|name| missing(name, sources)));
        } else if let [_, finder, count, _, _] = line.split('|').map(str::trim).collect::<Vec<_>>()[..]
            && let Ok(count) = count.parse()
        {
            counted.insert(finder, count);
        }
    }
    if counts != counted {
        wrong.push(format!("the tables have {counts:?}, and the page counts {counted:?}"));
    }
    wrong
}

#[test]
fn what_is_named_is_there() {
    let page = fs::read_to_string(root().join("docs/findings.md")).unwrap();
    assert!(page.lines().filter_map(finding).count() > 100);
    let wrong = mistakes(&page, &sources());
    assert!(wrong.is_empty(), "docs/findings.md: {wrong:#?}");
}

/// Each kind of mistake is seen.
#[test]
fn a_page_that_is_wrong_is_seen() {
    let sources = sources();
    let row = |found: &str, mended: &str, finds: &str| format!("| author | 1 | who |\n| what | {found} | {mended} | {finds} |\n");
    let of = |finds: &str| mistakes(&row("2026-11-29, author", "`src/lib.rs` 1234567", finds), &sources);
    for right in [
        "`what_is_named_is_there`, `a_full_redis_costs_no_acknowledged_lock`; `TestHybrid`",
        "\"a grant does not wait for the disk\"; `Lifecycle/CloseDuringCalls`",
        "the seeds",
        "**nothing**: `tests/house.rs` would, under load (`make test`)",
    ] {
        assert_eq!(of(right), [""; 0], "{right}");
    }
    for wrong in [
        "`no_test_has_this_name`",
        "`is_late`",
        "`TestNoneHasThisName`",
        "`Lifecycle/None`",
        "`tests/none.rs`",
        "\"no line\"",
        "",
        "perhaps",
    ] {
        assert_ne!(of(wrong), [""; 0], "{wrong}");
    }
    let right = row("2026-11-29, author", "x", "the seeds");
    for wrong in [
        row("2026-11-29, nobody", "x", "the seeds"),
        row("2026-11-29, author", "", "the seeds"),
        row("2026-11-29, author", "`src/none.rs` 1234567", "the seeds"),
        format!("{right}| what | 2026-11-29, author | x | the seeds |\n"),
        format!("{right}- `no_test_has_this_name`\n"),
    ] {
        assert_ne!(mistakes(&wrong, &sources), [""; 0], "{wrong}");
    }
    let two = format!("| author | 2 | who |\n{}", right.lines().nth(1).unwrap());
    let two = |date: &str| format!("{two}\n| what | {date}, author | x | the seeds |\n");
    assert_eq!(mistakes(&two("2026-11-24"), &sources), [""; 0]);
    assert_ne!(mistakes(&two("2026-12-01"), &sources), [""; 0], "the newest is the first");
}
