//! The habits of the house: what CI runs is what a person can run, and the messages of commits.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The targets of the Makefile.
fn targets() -> BTreeSet<String> {
    text("Makefile").lines().filter_map(|line| line.strip_prefix(".PHONY: ")).map(str::to_owned).collect()
}

/// The targets that make is called with: the first word behind each `make` that begins a command.
fn called(text: &str) -> BTreeSet<String> {
    let commands = text.lines().map(|line| line.trim().trim_start_matches("- ").trim_start_matches("run: "));
    // `scripts/beside` has two commands, in quotes.
    let commands =
        commands.flat_map(|line| line.trim_start_matches("section ").trim_start_matches("scripts/beside ").split('\''));
    let made = commands.filter_map(|command| command.strip_prefix("make "));
    made.map(|arguments| arguments.split(' ').next().expect("a word").to_owned()).collect()
}

fn workflows() -> Vec<(String, String)> {
    let mut workflows = vec![".github/actions/prepare/action.yml".to_owned()];
    workflows.extend(fs::read_dir(root().join(".github/workflows")).unwrap().map(|entry| {
        let name = entry.unwrap().file_name();
        format!(".github/workflows/{}", name.to_str().expect("a name"))
    }));
    workflows.into_iter().map(|path| (path.clone(), text(path))).collect()
}

#[test]
fn workflows_call_targets_that_the_makefile_has() {
    let targets = targets();
    assert!(targets.len() > 20, "{targets:?}");
    let mut all = BTreeSet::new();
    for (path, text) in workflows() {
        let called = called(&text);
        assert!(!called.is_empty(), "{path} runs no target");
        let unknown: Vec<_> = called.difference(&targets).collect();
        assert!(unknown.is_empty(), "{path} runs make {unknown:?}, which the Makefile has not");
        all.extend(called);
    }
    assert!(all.len() >= 8, "{all:?}");
}

/// A command that is no target cannot be run by hand.
#[test]
fn workflows_run_nothing_but_targets() {
    for (path, text) in workflows() {
        for command in text.lines().filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix("run:")) {
            let command = command.trim();
            assert!(
                command.starts_with("make ") || command.starts_with("git config "),
                "{path} runs {command:?}: let it be a target"
            );
        }
    }
}

/// The public CI proves what `.ci/run` proves.
#[test]
fn the_public_ci_runs_what_ci_run_does() {
    let script = text(".ci/run");
    let required = called(&script);
    assert!(required.len() >= 4, "{required:?}");
    let done = called(&text(".github/workflows/ci.yml"));
    let missing: Vec<_> = required.difference(&done).collect();
    assert!(missing.is_empty(), "ci.yml does not run make {missing:?}");
}

fn git(folder: &Path, arguments: &[&str]) {
    let identity = ["-c", "user.name=Ann", "-c", "user.email=ann@example.com", "-c", "commit.gpgsign=false"];
    let output = Command::new("git").args(identity).args(arguments).current_dir(folder).output().expect("git");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn commit(folder: &Path, message: &str) {
    git(folder, &["commit", "--quiet", "--allow-empty", "--cleanup=verbatim", "--message", message]);
}

fn check_commits(folder: &Path, arguments: &[&str]) -> Output {
    let script = root().join("scripts/check-commits");
    Command::new(script).args(arguments).current_dir(folder).output().expect("scripts/check-commits")
}

/// What is wrong with these commits, one line each; empty if all is well.
fn complaints(output: &Output) -> String {
    let errors = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.success(), errors.is_empty(), "{errors}");
    errors
}

#[test]
fn commits_have_a_short_subject_and_a_body() {
    let folder = tempfile::tempdir().unwrap();
    git(folder.path(), &["init", "--quiet", "--initial-branch=main"]);
    commit(folder.path(), "What was before the base is not looked at, however long its subject may be, and has no body.");
    git(folder.path(), &["switch", "--quiet", "--create", "work"]);
    // 72 characters, but more bytes.
    let longest = format!("{} subjects!", "ä".repeat(62));
    assert_eq!(longest.chars().count(), 72);
    commit(folder.path(), &format!("{longest}\n\nBecause."));
    let well = check_commits(folder.path(), &[]);
    assert_eq!(complaints(&well), "");
    assert!(String::from_utf8_lossy(&well.stdout).contains("main..HEAD: 1 looked at"), "{well:?}");

    for (message, wanted) in [
        (format!("{longest}x\n\nBecause."), "has 73 characters; make it at most 72"),
        ("A subject\n".to_owned(), "there is no body; say why"),
        ("A subject\nand more of it".to_owned(), "the second line is not empty"),
        ("A subject.\n\nBecause.".to_owned(), "ends with a full stop"),
    ] {
        commit(folder.path(), &message);
        // A good one above it hides nothing.
        commit(folder.path(), "Another\n\nBecause.");
        let found = complaints(&check_commits(folder.path(), &["HEAD~2"]));
        assert!(found.contains(wanted) && found.lines().count() == 1, "{message:?}: {found}");
        assert!(complaints(&check_commits(folder.path(), &[])).contains(wanted));

        let file = folder.path().join("message");
        fs::write(&file, &message).unwrap();
        let told = complaints(&check_commits(folder.path(), &["--message", "message"]));
        assert!(told.contains(wanted) && told.starts_with("check-commits: the message, "), "{message:?}: {told}");
    }
    // A merge says nothing of its own.
    git(folder.path(), &["switch", "--quiet", "--create", "good", "main"]);
    commit(folder.path(), "A subject\n\nBecause.");
    git(folder.path(), &["switch", "--quiet", "--create", "other", "main"]);
    git(folder.path(), &["merge", "--quiet", "--no-ff", "good", "--message", "Merge branch 'good'"]);
    let merged = check_commits(folder.path(), &[]);
    assert_eq!(complaints(&merged), "");
    assert!(String::from_utf8_lossy(&merged.stdout).contains(": 1 looked at"), "{merged:?}");

    let unknown = complaints(&check_commits(folder.path(), &["nosuch"]));
    assert!(unknown.contains("there is no commit nosuch"), "{unknown}");

    // Without anything to compare with, one commit is looked at rather than none.
    git(folder.path(), &["branch", "--move", "main", "elsewhere"]);
    git(folder.path(), &["switch", "--quiet", "work"]);
    commit(folder.path(), "A subject");
    assert!(complaints(&check_commits(folder.path(), &[])).contains("there is no body"));
}

/// What git adds to a message for its author is none of it.
#[test]
fn comments_and_the_change_are_no_body() {
    let folder = tempfile::tempdir().unwrap();
    git(folder.path(), &["init", "--quiet"]);
    let scissors = "# ------------------------ >8 ------------------------";
    fs::write(folder.path().join("message"), format!("A subject\n\n# Please enter a message.\n{scissors}\ndiff --git a b\n"))
        .unwrap();
    assert!(complaints(&check_commits(folder.path(), &["--message", "message"])).contains("there is no body"));
    fs::write(folder.path().join("message"), "Merge branch 'work'\n").unwrap();
    assert_eq!(complaints(&check_commits(folder.path(), &["--message", "message"])), "");
}
