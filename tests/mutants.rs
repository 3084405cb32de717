//! Lines that are broken on purpose: each is the work of a copy of the sources in which it is a switch, and a test must notice.
//!
//! `make mutants` makes that copy, builds it once with all of the switches, and runs, for each line, the tests that must notice
//! it. A line that nothing notices is a hole in the tests. With `ATLOCK_MUTANTS='words|other words'` it runs the lines whose
//! name has one of them.
//!
//! `make mutants-simulation` asks the simulation alone, over many seeds, which of the lines of hybrid mode and the stores it would
//! find, and prints a table.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

#[path = "mutants/lines.rs"]
mod lines;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lines::LINES;

/// A line that can be broken.
struct Line {
    /// What is wrong then.
    name: &'static str,
    file: &'static str,
    /// Text that the file has once, with what is broken between `«` and `»`.
    line: &'static str,
    /// What stands in its place.
    broken: &'static str,
    /// The tests that notice: `lib` or the name of a file of `tests`, and perhaps what their names contain.
    noticed_by: &'static str,
}

impl Line {
    /// What is before, what is broken, what is behind.
    fn parts(&self) -> (&str, &str, &str) {
        let (before, rest) = self.line.split_once('«').expect("a « is there");
        let (whole, behind) = rest.split_once('»').expect("a » is there");
        (before, whole, behind)
    }

    fn text(&self) -> String {
        self.line.replace(['«', '»'], "")
    }

    fn test(&self) -> (&str, &str) {
        self.noticed_by.split_once(' ').unwrap_or((self.noticed_by, ""))
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The list stays true: whoever changes one of these lines changes the list, too.
#[test]
fn each_line_is_there_once() {
    let mut names = BTreeSet::new();
    for line in LINES {
        let text = std::fs::read_to_string(root().join(line.file)).unwrap();
        assert_eq!(text.matches(&line.text()).count(), 1, "{}: {:?} is to be in {} once", line.name, line.text(), line.file);
        assert!(names.insert(line.name), "{} is there twice", line.name);
    }
    switched();
}

#[test]
#[ignore = "builds the library anew and runs its tests dozens of times: make mutants"]
fn each_broken_line_is_noticed() {
    let word = std::env::var("ATLOCK_MUTANTS").unwrap_or_default();
    let lines: Vec<&Line> = LINES.iter().filter(|line| word.split('|').any(|word| line.name.contains(word))).collect();
    let copy = root().join("target/mutants");
    lay_out(&copy);
    let tests = build(&copy, &lines, "test");
    // Nothing is broken: all is well.
    for (test, filter) in lines.iter().map(|line| line.test()).collect::<BTreeSet<_>>() {
        assert!(passes(&tests[test], filter, ""), "{test} {filter} fails although nothing is broken");
    }
    let mut unnoticed = Vec::new();
    for line in &lines {
        let (test, filter) = line.test();
        let noticed = !passes(&tests[test], filter, line.name);
        eprintln!("{} {}", if noticed { "noticed  " } else { "UNNOTICED" }, line.name);
        if !noticed {
            unnoticed.push(line.name);
        }
    }
    assert!(unnoticed.is_empty(), "no test notices: {unnoticed:#?}");
}

/// Whether the simulation is one that meets these lines.
fn is_simulated(line: &Line) -> bool {
    ["src/hybrid/", "src/store/"].iter().any(|folder| line.file.starts_with(folder))
}

#[test]
#[ignore = "builds the library anew and runs the simulation for each line: make mutants-simulation"]
fn which_broken_lines_the_simulation_finds() {
    let word = std::env::var("ATLOCK_MUTANTS").unwrap_or_default();
    let seeds = std::env::var("ATLOCK_SIMULATION_SEEDS").unwrap_or_else(|_| "0..2000".to_owned());
    let meant = |line: &&Line| is_simulated(line) && word.split('|').any(|word| line.name.contains(word));
    let lines: Vec<&Line> = LINES.iter().filter(meant).collect();
    let copy = root().join("target/mutants");
    lay_out(&copy);
    let any = Line { name: "", file: "", line: "", broken: "", noticed_by: "lib" };
    let simulation = &build(&copy, &[&any], "simulation")["lib"];
    assert_eq!(found_by_seeds(simulation, &seeds, ""), None, "seeds {seeds} fail although nothing is broken");
    eprintln!("| broken line | seed | schedules |\n|---|--:|--:|");
    for line in lines {
        match found_by_seeds(simulation, &seeds, line.name) {
            Some(Found::By(seed)) => eprintln!("| {} | {seed} | {} |", line.name, 6 * (seed + 1)),
            Some(Found::Endless) => eprintln!("| {} | a schedule has no end | |", line.name),
            None => eprintln!("| {} | not found: `{}` | |", line.name, line.noticed_by),
        }
    }
}

/// How the simulation finds a broken line.
#[derive(Debug, PartialEq)]
enum Found {
    /// A violation in one of the six schedules of this seed.
    By(u64),
    /// Nothing comes to an end any more.
    Endless,
}

/// What the simulation finds first over these seeds.
fn found_by_seeds(simulation: &Path, seeds: &str, broken: &str) -> Option<Found> {
    const LONGEST: &str = "1200";
    let mut command = Command::new("timeout");
    command
        .arg(LONGEST)
        .arg(simulation)
        .args(["hybrid::simulation::no_fault", "--nocapture"])
        .env("ATLOCK_SIMULATION_SEEDS", seeds);
    command.env("ATLOCK_MUTANT", broken).env("RUST_BACKTRACE", "0").current_dir(root().join("target/mutants"));
    let output = command.output().unwrap();
    if output.status.success() {
        return None;
    }
    if output.status.code() == Some(124) {
        return Some(Found::Endless);
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let seed = text.rsplit("Plan { seed: ").next().and_then(|rest| rest.split(',').next()?.parse().ok());
    Some(Found::By(seed.unwrap_or_else(|| panic!("{broken}: no seed is named: {}", &text[text.len().saturating_sub(2000)..]))))
}

/// The files with a switch at each line that can be broken, and the same of the scripts.
fn switched() -> (BTreeMap<&'static str, String>, String) {
    let mut files: BTreeMap<&str, String> = BTreeMap::new();
    let mut scripts = String::new();
    for line in LINES {
        let (before, whole, behind) = line.parts();
        if line.file.ends_with(".lua") {
            scripts += &format!("({:?}, {:?}, {:?}),\n", line.name, line.text(), format!("{before}{}{behind}", line.broken));
            continue;
        }
        let text = files.entry(line.file).or_insert_with(|| std::fs::read_to_string(root().join(line.file)).unwrap());
        // The command is another crate than the library.
        let krate = if line.file.starts_with("src/cli/") { "atlock" } else { "crate" };
        let switch = format!("(if {krate}::mutants::is_broken({:?}) {{ {} }} else {{ {whole} }})", line.name, line.broken);
        let switch = if whole.ends_with(';') { switch + ";" } else { switch };
        assert!(text.contains(&line.text()), "{}: another line has its place", line.name);
        *text = text.replace(&line.text(), &format!("{before}{switch}{behind}"));
    }
    (files, scripts)
}

/// A copy of the sources, in which each line is a switch.
fn lay_out(copy: &Path) {
    for part in ["src", "tests", "benches", "include", "fuzz"] {
        let _ = std::fs::remove_dir_all(copy.join(part));
        copy_folder(&root().join(part), &copy.join(part));
    }
    for file in ["Cargo.toml", "Cargo.lock", "build.rs", "cbindgen.toml", "README.md", "rustfmt.toml"] {
        std::fs::copy(root().join(file), copy.join(file)).unwrap();
    }
    let (files, scripts) = switched();
    for (file, text) in files {
        std::fs::write(copy.join(file), text).unwrap();
    }
    let change = |file: &str, from: &str, to: &str| {
        let text = std::fs::read_to_string(copy.join(file)).unwrap();
        assert_eq!(text.matches(from).count(), 1, "{from:?} in {file}");
        std::fs::write(copy.join(file), text.replace(from, to)).unwrap();
    };
    change("src/store/redis/scripts.rs", "parts.concat()", "crate::mutants::script(parts.concat())");
    change("src/lib.rs", "pub mod clock;", "pub mod clock;\n#[allow(missing_docs)]\npub mod mutants;");
    // Switches are not as a person would write them.
    let lib = std::fs::read_to_string(copy.join("src/lib.rs")).unwrap();
    let (docs, code): (Vec<&str>, Vec<&str>) = lib.lines().partition(|line| line.starts_with("//!"));
    std::fs::write(copy.join("src/lib.rs"), format!("{}\n#![allow(warnings)]\n{}\n", docs.join("\n"), code.join("\n"))).unwrap();
    let switches = format!(
        r#"
const SCRIPTS: &[(&str, &str, &str)] = &[{scripts}];
pub fn is_broken(line: &str) -> bool {{
    static BROKEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    BROKEN.get_or_init(|| std::env::var("ATLOCK_MUTANT").ok()).as_deref() == Some(line)
}}
pub(crate) fn script(text: String) -> String {{
    let broken = SCRIPTS.iter().find(|(name, whole, _)| is_broken(name) && text.contains(whole));
    broken.map_or(text.clone(), |(_, whole, broken)| text.replace(whole, broken))
}}
"#
    );
    std::fs::write(copy.join("src/mutants.rs"), switches).unwrap();
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Builds the tests, and tells where they are.
fn build(copy: &Path, lines: &[&Line], profile: &str) -> BTreeMap<String, PathBuf> {
    let mut cargo = Command::new(env!("CARGO"));
    // What cargo tells this test would make build scripts run again.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_") && !["CARGO_HOME", "CARGO_NET_OFFLINE"].contains(&name)) {
            cargo.env_remove(name);
        }
    }
    cargo
        .args(["test", "--locked", "--profile", profile, "--no-run", "--message-format=json-render-diagnostics"])
        .current_dir(copy)
        .stderr(Stdio::inherit());
    // What the library depends on is built already.
    cargo.env("CARGO_TARGET_DIR", std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| root().join("target").into()));
    for test in lines.iter().map(|line| line.test().0).collect::<BTreeSet<_>>() {
        if test == "lib" {
            cargo.arg("--lib")
        } else {
            cargo.args(["--test", test])
        };
    }
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "the copy does not build");
    let mut found = BTreeMap::new();
    for message in String::from_utf8(output.stdout).unwrap().lines() {
        let message: serde_json::Value = serde_json::from_str(message).unwrap_or_default();
        if let (Some(path), Some(name)) = (message["executable"].as_str(), message["target"]["name"].as_str()) {
            found.insert(if name == "atlock" { "lib" } else { name }.to_owned(), PathBuf::from(path));
        }
    }
    found
}

fn passes(test: &Path, filter: &str, broken: &str) -> bool {
    let mut command = Command::new(test);
    command.arg(filter).env("ATLOCK_MUTANT", broken).env("RUST_BACKTRACE", "0").current_dir(root().join("target/mutants"));
    command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null()).status().unwrap().success()
}
