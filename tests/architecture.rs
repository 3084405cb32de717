//! docs/architecture.md names files and what is in them: the files are there, and what is named is in them. No module is left out.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page() -> String {
    fs::read_to_string(root().join("docs/architecture.md")).unwrap()
}

/// What stands in backticks in a line, with the text before each.
fn quoted(line: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut parts = line.split('`');
    std::iter::from_fn(move || Some((parts.next()?, parts.next()?)))
}

/// A path from the root of the repository: a folder ends with a slash.
fn is_path(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    text.contains('/') && text.chars().all(allowed) && text.starts_with(|c: char| c.is_ascii_lowercase())
}

fn is_name(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || "_:".contains(c)) && !text.starts_with(|c: char| c.is_ascii_digit())
}

/// The paths, and the names that stand behind the path of the file that has them: `src/clock.rs` `Clock`, `SystemClock`.
fn named(page: &str) -> (BTreeSet<&str>, BTreeSet<(&str, &str)>) {
    let (mut paths, mut names) = (BTreeSet::new(), BTreeSet::new());
    let (mut code, mut file) = (false, None);
    for line in page.lines() {
        let is_fence = line.starts_with("```");
        code ^= is_fence;
        for (before, text) in quoted(line).filter(|_| !code && !is_fence) {
            if is_path(text) {
                paths.insert(text);
                file = Some(text).filter(|path| !path.ends_with('/'));
            } else if let Some(file) = file.filter(|_| matches!(before.trim(), "" | "," | "and") && is_name(text)) {
                names.insert((file, text));
            } else {
                file = None;
            }
        }
        // A name may be on the next line of a paragraph.
        file = file.filter(|_| line.ends_with(['`', ',']));
    }
    (paths, names)
}

/// Whether a source defines what is named like this, in Rust, Go or C.
fn defines(source: &str, name: &str) -> bool {
    let name = name.rsplit("::").next().expect("a name");
    let words = ["fn ", "struct ", "enum ", "trait ", "type ", "const ", "static ", "func ", "var "];
    // A method of Go's, a variant of Rust's, one of a group of Go's.
    let places: &[&str] = if name.starts_with(|c: char| c.is_ascii_uppercase()) { &[") ", "    ", "\t"] } else { &[") "] };
    source.match_indices(name).any(|(at, _)| {
        let next = source[at + name.len()..].chars().next().unwrap_or(' ');
        let is_whole = !next.is_ascii_alphanumeric() && next != '_';
        is_whole && words.iter().chain(places).any(|before| source[..at].ends_with(before))
    })
}

#[test]
fn what_is_named_is_there() {
    let page = page();
    let (paths, names) = named(&page);
    let missing: Vec<&&str> = paths.iter().filter(|path| !root().join(path).exists()).collect();
    assert!(missing.is_empty(), "docs/architecture.md names files that are not there: {missing:#?}");
    let source = |file: &str| fs::read_to_string(root().join(file)).unwrap();
    let unknown: Vec<_> = names.iter().filter(|(file, name)| !defines(&source(file), name)).collect();
    assert!(unknown.is_empty(), "docs/architecture.md names what its file does not define: {unknown:#?}");
    assert!(paths.len() > 80 && names.len() > 70, "only {} paths, {} names", paths.len(), names.len());
}

/// The modules that a folder has: its folders, and its sources but for the one that is the folder itself.
fn modules(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(folder)).unwrap().map(Result::unwrap);
    let module = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().unwrap();
        match entry.path().is_dir() {
            true => Some(format!("{folder}/{name}/")),
            false if matches!(&*name, "mod.rs" | "lib.rs") || !name.ends_with(".rs") => None,
            false => Some(format!("{folder}/{name}")),
        }
    };
    entries.filter_map(module).collect()
}

#[test]
fn no_module_is_left_out() {
    let page = page();
    let (paths, _) = named(&page);
    // A file of a folder shows where the folder is.
    let is_named = |module: &str| paths.iter().any(|path| *path == module || (module.ends_with('/') && path.starts_with(module)));
    let all: Vec<String> = ["src", "src/hybrid", "src/store", "go", "go/internal"].into_iter().flat_map(modules).collect();
    assert!(all.len() > 60, "{all:?}");
    let silent: Vec<&String> = all.iter().filter(|module| !is_named(module)).collect();
    assert!(silent.is_empty(), "docs/architecture.md does not say what these are for: {silent:#?}");
}

/// The first cells of the table whose first column has this title.
fn column<'a>(page: &'a str, title: &str) -> Vec<&'a str> {
    let table = page.split_once(&format!("\n| {title} |")).expect("the table").1;
    let rows = table.lines().skip(2).take_while(|line| line.starts_with("| "));
    rows.map(|row| row.split('|').nth(1).expect("a cell").trim()).collect()
}

#[test]
fn the_tables_are_whole() {
    let page = page();
    let behaviours = column(&page, "where is");
    assert!(behaviours.len() >= 20, "{behaviours:?}");
    let words = column(&page, "word");
    let mut sorted = words.clone();
    sorted.sort_by_key(|word| word.to_lowercase());
    assert_eq!(words, sorted, "the glossary is in the order of the alphabet");
    assert!(words.len() >= 25, "{words:?}");
}

#[test]
fn a_definition_is_more_than_a_mention() {
    let source = "/// grants\nfn grant_once() {}\nimpl X {\n    pub fn take() {}\n}\nself.leave();\n";
    for (name, is_defined) in [("grant_once", true), ("grant", false), ("X::take", true), ("leave", false), ("grants", false)] {
        assert_eq!(defines(source, name), is_defined, "{name}");
    }
    let (paths, names) =
        named("`src/a.rs` `one`, `two` and `x::three`; `four` in `src/b/`, `Five`\n`src/a.rs`\n  `six`\n```\n`src/no.rs`\n```\n");
    assert_eq!(paths, BTreeSet::from(["src/a.rs", "src/b/"]));
    assert_eq!(names, BTreeSet::from([("src/a.rs", "one"), ("src/a.rs", "two"), ("src/a.rs", "x::three"), ("src/a.rs", "six")]));
}
