//! The tables of docs/02 that say what was run where: what they name as a test is one, and each platform of a release has its row.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// What stands in backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The rows below "## Platforms": the cells of each.
fn rows(page: &str) -> Vec<Vec<&str>> {
    let section = page.split_once("\n## Platforms\n").expect("the section").1;
    let section = section.split_once("\n## ").map_or(section, |(section, _)| section);
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    rows.map(|row| row.split(" | ").collect()).filter(|cells: &Vec<&str>| cells[1] != "what").collect()
}

/// A target of the Makefile, or a file with a function of that name.
fn is_a_test(name: &str) -> bool {
    if let Some(target) = name.strip_prefix("make ") {
        let target = target.split(' ').next().unwrap();
        return text("Makefile").lines().any(|line| line == format!(".PHONY: {target}"));
    }
    let (file, function) = name.split_once(' ').unwrap_or((name, ""));
    root().join(file).is_file() && text(file).contains(function)
}

#[test]
fn what_was_run_is_a_test_or_says_that_it_was_not() {
    let page = text("docs/02-compatibility.md");
    let rows = rows(&page);
    assert!(rows.len() >= 10, "{rows:?}");
    for cells in &rows {
        let [_, _, ran] = cells[..] else { panic!("{cells:?} has not three cells") };
        let tests = quoted(ran);
        assert!(!tests.is_empty() || ran.contains("not run"), "{cells:?} names no test, and does not say that it was not run");
        for test in tests {
            assert!(is_a_test(test), "{cells:?}: there is no {test:?}");
        }
    }
}

#[test]
fn each_platform_of_a_release_has_a_row() {
    let script = "source scripts/platform.sh && printf '%s\\n' \"${platforms[@]}\"";
    let output = Command::new("bash").current_dir(root()).args(["-c", script]).output().expect("bash");
    let platforms: BTreeSet<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(platforms.len(), 4);
    let page = text("docs/02-compatibility.md");
    let named: BTreeSet<String> = rows(&page)
        .iter()
        .flat_map(|cells| quoted(cells[0]))
        .filter(|name| name.contains("-linux-"))
        .map(str::to_owned)
        .collect();
    assert_eq!(named, platforms);
}

#[test]
fn each_example_has_a_row() {
    let languages: BTreeSet<String> = fs::read_dir(root().join("examples"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    let page = text("docs/02-compatibility.md");
    let named: BTreeSet<String> = rows(&page)
        .iter()
        .flat_map(|cells| quoted(cells[0]))
        .filter_map(|name| name.strip_prefix("examples/").map(str::to_owned))
        .collect();
    assert_eq!(named, languages);
}
