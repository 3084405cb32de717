//! The releases of Atlantis that are supported are those of go/releases, wherever they are named. This is no Go test, because Go
//! takes a test's old result for good while only files outside of its module have changed.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::Path;

fn text(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{file}: {e}"))
}

/// The supported releases, the newest first.
fn supported() -> Vec<String> {
    let table = text("go/releases/releases.go");
    let list = table.split_once("var Supported = []string{").expect("the table").1.split('}').next().unwrap();
    let releases: Vec<String> = list.split(", ").map(|name| name.trim_matches('"').to_owned()).collect();
    assert!(releases.len() >= 2 && releases.iter().all(|name| is_release(name)), "{releases:?}");
    releases
}

fn is_release(word: &str) -> bool {
    let Some(numbers) = word.strip_prefix("v0.") else { return false };
    let numbers: Vec<&str> = numbers.split('.').collect();
    numbers.len() == 2 && numbers.iter().all(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// Every release that a text names, in its order.
fn named(text: &str) -> Vec<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '.')
        .map(|word| word.trim_matches('.'))
        .filter(|word| is_release(word))
        .collect()
}

#[derive(Clone, Copy, Debug)]
enum Which {
    Newest,
    Oldest,
    /// Those of which CI runs chosen tests: the oldest, and one in the middle. The newest has all of them.
    Chosen,
    All,
}

/// Where releases are named: the lines of a file that contain a text, together.
const PLACES: &[(&str, &str, Which)] = &[
    ("go/go.mod", "\tgithub.com/runatlantis/atlantis ", Which::Newest),
    ("go/dev/go.mod", "\tgithub.com/runatlantis/atlantis ", Which::Newest),
    (".github/workflows/ci.yml", " atlantis: [", Which::Chosen),
    (".ci/run", "section make test-atlantis ", Which::Chosen),
    ("deploy/Containerfile", "ARG ATLANTIS_VERSION=", Which::Newest),
    ("deploy/Containerfile", " -t atlantis-atlock:", Which::Newest),
    ("deploy/Containerfile.alpine", "ARG ATLANTIS_VERSION=", Which::Newest),
    ("deploy/Containerfile.alpine", " -t atlantis-atlock:", Which::Newest),
    ("deploy/helm/values.yaml", "  tag: ", Which::Newest),
    ("README.md", " # build/atlantis: Atlantis ", Which::Newest),
    ("README.md", "stock Atlantis v", Which::Newest),
    ("README.md", " down to ", Which::Oldest),
    ("docs/go.md", " of Atlantis v", Which::Newest),
    ("docs/02-compatibility.md", "| `make atlantis", Which::All),
    ("docs/02-compatibility.md", "atlantis v", Which::Newest),
    ("docs/03-configuration.md", "/atlantis-atlock:", Which::Newest),
    ("docs/04-migration.md", "an Atlantis release before ", Which::Oldest),
];

#[test]
fn every_place_names_the_releases_that_are_supported() {
    let supported = supported();
    for &(file, line, which) in PLACES {
        let text = text(file);
        let mut found: Vec<&str> = text.lines().filter(|text| text.contains(line)).flat_map(named).collect();
        // A line may name the folder, too, that the release is built in.
        found.dedup();
        let wanted = match which {
            Which::Newest => &supported[..1],
            Which::Oldest => &supported[supported.len() - 1..],
            Which::Chosen => &[supported[supported.len() - 1].clone(), supported[2].clone()],
            Which::All => &supported[..],
        };
        assert_eq!(found, wanted, "{file}: the lines with {line:?}, which name {which:?} of go/releases");
    }
}

/// What the places above do not find: these files name no other release, and the Makefile names none.
#[test]
fn no_other_release_is_named() {
    let supported = supported();
    for &(file, ..) in PLACES.iter().filter(|(file, ..)| !file.ends_with("go.mod")) {
        for release in named(&text(file)) {
            assert!(supported.iter().any(|name| name == release), "{file} names {release}, which is not in go/releases");
        }
    }
    assert_eq!(named(&text("Makefile")), Vec::<&str>::new(), "the Makefile takes its release from go/go.mod");
}

/// The versions of a linked server are built by its own line in the table of docs/02-compatibility.md.
#[test]
fn the_table_says_how_each_is_built() {
    let page = text("docs/02-compatibility.md");
    for (nth, release) in supported().iter().enumerate() {
        let made = if nth == 0 { "`make atlantis`".to_owned() } else { format!("`make atlantis ATLANTIS_VERSION={release}`") };
        assert!(
            page.contains(&format!("| {release} | {made} |")),
            "docs/02-compatibility.md does not say how {release} is built"
        );
    }
}
