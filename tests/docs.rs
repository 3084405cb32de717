//! What the numbered documents list is what the code has: settings, error codes, texts, alerts. And every link leads somewhere.
//! Their commands are run by go/dev/e2e/runbook.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use atlock::config::Config;
use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The cells of a table's row; `None` for any other line.
fn cells(line: &str) -> Option<Vec<&str>> {
    Some(line.strip_prefix("| ")?.trim_end().strip_suffix('|')?.split('|').map(str::trim).collect())
}

/// The rows of the tables whose first column has this title.
fn rows<'a>(text: &'a str, title: &str) -> Vec<Vec<&'a str>> {
    let mut rows = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        match cells(line) {
            Some(cells) if inside => rows.push(cells),
            Some(cells) => inside = cells[0] == title,
            None => inside = inside && line.starts_with("|--"),
        }
    }
    assert!(!rows.is_empty(), "no table begins with {title:?}");
    rows
}

/// What stands in backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

fn leaves(prefix: &str, value: &Value, found: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, field)| leaves(&format!("{prefix}.{name}"), field, found)),
        Value::Null => drop(found.insert(prefix.to_owned(), String::new())),
        Value::Array(items) => {
            let items: Vec<&str> = items.iter().map(|item| item.as_str().expect("a default that the table can tell")).collect();
            found.insert(prefix.to_owned(), items.join(", "));
        }
        Value::String(text) => drop(found.insert(prefix.to_owned(), text.clone())),
        other => drop(found.insert(prefix.to_owned(), other.to_string())),
    }
}

/// By the rule that src/config/env.rs tests.
fn variable(key: &str) -> String {
    match key.strip_prefix("locking.enhanced.") {
        Some(rest) => format!("ATLANTIS_ENHANCED_LOCKING_{}", rest.replace('.', "_").to_uppercase()),
        None => format!("ATLANTIS_{}", key.replace('.', "_").to_uppercase()),
    }
}

#[test]
fn every_setting_is_listed_with_its_default_and_its_variable() {
    let mut wanted = BTreeMap::new();
    leaves("locking", &serde_json::to_value(Config::default()).unwrap()["locking"], &mut wanted);
    let page = text("docs/03-configuration.md");
    let mut listed = BTreeMap::new();
    let mut block = "";
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix("### `") {
            block = heading.trim_end_matches('`');
        }
        let Some(cells) = cells(line).filter(|cells| cells.len() == 5 && cells[0].starts_with('`')) else { continue };
        let key = format!("{block}.{}", quoted(cells[0])[0]);
        assert_eq!(quoted(cells[3]), [variable(&key)], "the variable of {key}");
        assert!(!cells[1].is_empty() && !cells[4].is_empty(), "{key} has no type or no meaning");
        let default = quoted(cells[2]).first().copied().unwrap_or_default().to_owned();
        assert!(listed.insert(key.clone(), default).is_none(), "{key} is listed twice");
    }
    assert_eq!(listed, wanted, "docs/03-configuration.md, and the settings of src/config");
}

/// What a table says may be chosen is what the settings take.
#[test]
fn the_values_that_may_be_chosen_are_taken() {
    let page = text("docs/03-configuration.md");
    let mut block = "";
    let mut tried = 0;
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix("### `") {
            block = heading.trim_end_matches('`');
        }
        let Some(cells) = cells(line).filter(|cells| cells.len() == 5 && cells[0].starts_with('`')) else { continue };
        let values = quoted(cells[1]).into_iter().filter(|_| cells[1].starts_with('`'));
        for value in values {
            let path: Vec<&str> = block.split('.').chain([quoted(cells[0])[0]]).collect();
            let yaml = path.join(": {") + ": " + value + &"}".repeat(path.len() - 1);
            let wrong = Config::parse(&yaml, "x").err().map(|e| e.message().to_owned()).unwrap_or_default();
            // What is missing beside it is another matter.
            assert!(!wrong.contains("unknown") && !wrong.contains("invalid"), "{yaml}: {wrong}");
            tried += 1;
        }
    }
    assert!(tried > 15, "only {tried}");
}

#[test]
fn the_rights_of_the_redis_user_are_those_that_are_tested() {
    let tested = text("tests/redis_open.rs").replace("\\\n", "");
    let tested = tested.split_once("const NEEDED: &str = \"").expect("the rights").1.split('"').next().unwrap().to_owned();
    let page = text("docs/03-configuration.md");
    let command = page.split_once("ACL SETUSER").expect("the command").1.split("```").next().unwrap();
    let rights = |text: &str| -> BTreeSet<String> {
        text.split_whitespace()
            .map(|word| word.trim_matches('\'').to_owned())
            .filter(|word| word.starts_with(['~', '+']))
            .collect()
    };
    assert_eq!(rights(command), rights(&tested));
}

#[test]
fn every_error_code_is_explained() {
    let source = text("src/error.rs");
    let names: BTreeSet<&str> = source
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Code::")?.split_once(" => c\"")?.1.strip_suffix("\","))
        .collect();
    assert!(names.len() >= 25, "{names:?}");
    let page = text("docs/05-troubleshooting.md");
    let rows = rows(&page, "code");
    let explained: BTreeSet<&str> = rows.iter().flat_map(|row| quoted(row[0])).collect();
    assert_eq!(explained, names);
}

fn sources(folder: &Path, found: &mut String) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs" || kind == "go") && !path.ends_with("runbook") {
            found.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

/// A string over several lines of a source as one.
fn joined(source: &str) -> String {
    let mut joined = String::new();
    for line in source.lines() {
        let line = if joined.ends_with('\u{0}') { line.trim_start() } else { line };
        if joined.ends_with('\u{0}') {
            joined.pop();
        }
        let line = if joined.ends_with('\u{1}') {
            joined.pop();
            line.trim_start().strip_prefix('"').unwrap_or(line)
        } else {
            line
        };
        if let Some(begun) = line.strip_suffix('\\') {
            joined.push_str(begun);
            joined.push('\u{0}');
        } else if let Some(begun) = line.strip_suffix("\" +") {
            joined.push_str(begun);
            joined.push('\u{1}');
        } else {
            joined.push_str(line);
            joined.push('\n');
        }
    }
    joined
}

/// The texts by which an operator finds a row are in the code.
#[test]
fn the_texts_to_look_for_are_those_that_the_code_writes() {
    let mut code = String::new();
    for folder in ["src", "go/cmd", "go/atlock", "go/internal/bolthost"] {
        sources(&root().join(folder), &mut code);
    }
    let code = joined(&code);
    let page = text("docs/05-troubleshooting.md");
    let mut looked_for = 0;
    for title in ["the cause says", "reason", "the text has", "warning"] {
        for row in rows(&page, title) {
            let texts = if row[0].contains('`') { quoted(row[0]) } else { row[0].split("; ").collect() };
            for part in texts.iter().flat_map(|text| text.split('…')).map(|part| part.trim_matches([' ', ':'])) {
                assert!(code.contains(part), "{title}: {part:?} is in no source");
                looked_for += usize::from(part.len() > 3);
            }
        }
    }
    assert!(looked_for > 40, "only {looked_for}");
}

/// A heading's anchor, as GitHub makes it.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut code = false;
    let mut anchors = BTreeSet::new();
    for line in page.lines() {
        code ^= line.starts_with("```");
        if code || !line.starts_with('#') {
            continue;
        }
        let heading = line.trim_start_matches('#').trim().to_lowercase();
        anchors.insert(
            heading
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect(),
        );
    }
    anchors
}

/// The alerts' links lead out of Alertmanager, wherever that is: to the section on the pages of this release, which its tag names.
#[test]
fn each_alert_has_its_section() {
    let rules = text("deploy/monitoring/alerts.yaml");
    let names: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let urls: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("runbook_url: ")).collect();
    assert!(names.len() >= 14);
    let page = "docs/05-troubleshooting.md";
    let base = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/v", env!("CARGO_PKG_VERSION"));
    let wanted: Vec<String> = names.iter().map(|name| format!("{base}/{page}#{}", name.to_lowercase())).collect();
    assert_eq!(
        urls, wanted,
        "the links of deploy/monitoring/alerts.yaml (and alerts_test.yaml), with Cargo.toml's repository and version"
    );
    let anchors = anchors(&text(page));
    for name in names {
        assert!(anchors.contains(&name.to_lowercase()), "{name} has no section");
    }
}

fn pages() -> Vec<PathBuf> {
    let mut pages: Vec<PathBuf> =
        ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"].iter().map(|page| root().join(page)).collect();
    let docs = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    pages.extend(docs.filter(|path| path.extension().is_some_and(|kind| kind == "md")));
    pages
}

#[test]
fn links_lead_somewhere() {
    let mut links = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split(')').next().expect("a target");
            if target.starts_with("http") {
                continue;
            }
            links += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(file.exists(), "{} links to {target}, which is not there", page.display());
            if !anchor.is_empty() {
                let there = anchors(&fs::read_to_string(&file).unwrap());
                assert!(there.contains(anchor), "{} links to {target}; {} has no such heading", page.display(), file.display());
            }
        }
    }
    assert!(links > 60, "only {links}");
}

/// The site's table of contents has each page once.
#[test]
fn the_summary_has_every_page() {
    let summary = text("docs/SUMMARY.md");
    let mut listed: Vec<&str> = summary.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()).collect();
    listed.sort_unstable();
    let names = pages().into_iter().filter(|page| page.starts_with(root().join("docs")));
    let mut names: Vec<String> = names.map(|page| page.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    names.retain(|name| name != "SUMMARY.md");
    names.sort_unstable();
    assert_eq!(listed, names, "docs/SUMMARY.md, and the pages of docs");
}

/// What the alerts and the dashboard ask for is explained.
#[test]
fn the_metrics_that_are_watched_are_explained() {
    let page = text("docs/06-monitoring.md");
    let explained = quoted(&page);
    let watched = text("deploy/monitoring/alerts.yaml") + &text("deploy/monitoring/dashboard.json");
    let mut names = BTreeSet::new();
    for (at, _) in watched.match_indices("atlock_") {
        let name = watched[at..].split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap();
        let is_sample = |end: &&&str| name.ends_with(**end);
        names.insert(name.strip_suffix(*["_bucket", "_count", "_sum"].iter().find(is_sample).unwrap_or(&"")).unwrap());
    }
    assert!(names.len() > 20, "{names:?}");
    let missing: Vec<_> = names.iter().filter(|name| !explained.contains(name)).collect();
    assert!(missing.is_empty(), "docs/06-monitoring.md does not have {missing:?}");
}

/// Each promise of the original specification leads to something that is there: a link, a file, or a test of a file. (Links are followed
/// above.)
#[test]
fn each_row_of_the_specification_leads_somewhere() {
    let page = text("docs/specification.md");
    let rows = rows(&page, "the specification");
    for row in &rows {
        assert_eq!(row.len(), 3, "{row:?}");
        assert!(!row[1].is_empty() && (row[2].contains('`') || row[2].contains("](")), "{row:?} leads nowhere");
        for shown in row[2].split("; ").filter(|shown| shown.starts_with('`')) {
            let words = quoted(shown);
            assert!(words.len() <= 2 && words[0].contains('/'), "{row:?}: {shown:?} is neither `FILE` nor `FILE` `NAME`");
            let source = text(words[0]);
            let is_there = |name: &&str| {
                [format!("fn {name}("), format!("func {name}("), format!("type {name} ")].iter().any(|head| source.contains(head))
            };
            assert!(words.get(1).is_none_or(is_there), "{row:?}: {} has no {}", words[0], words[1]);
        }
    }
    assert!(rows.len() > 70, "only {} rows", rows.len());
}

/// Each test that docs/02-compatibility.md names is there, and each row of what was run names one or says that none did.
#[test]
fn what_was_run_was_run_by_a_test() {
    let page = text("docs/02-compatibility.md");
    let section = page.split("## Which Redis").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("has the section");
    let (mut file, mut named) = (String::new(), 0);
    for name in quoted(section) {
        if name.starts_with("tests/") {
            file = text(name);
        } else if !name.contains([' ', ':', '-', '=']) && name != "CA" {
            assert!(file.contains(&format!("fn {name}()")), "there is no test {name}");
            named += 1;
        }
    }
    assert!(named > 15, "only {named} tests are named");
    let rows: Vec<_> = section.lines().filter_map(cells).filter(|cells| !cells[0].starts_with('-')).collect();
    for row in &rows {
        let says = ["tests/", "Releases", "not run", "run by", "there is no such thing"];
        assert!(says.iter().any(|word| row[1].contains(word)), "{row:?} says neither who ran it nor that nobody did");
    }
    assert!(rows.len() > 20);
}

/// What the threat model says that an attacker is kept from, tests keep them from.
#[test]
fn each_promise_of_the_threat_model_has_a_test() {
    let page = text("docs/threat-model.md");
    let mut named = 0;
    for line in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| is kept from |")) {
        let by = line.trim_matches(['|', ' ']).split(" | ").nth(1).unwrap_or_else(|| panic!("{line}: no test"));
        for test in by.split("; ") {
            let words = quoted(test);
            assert_eq!(words.len(), 2, "{line}: {test:?} is not `FILE` `TEST`");
            let source = text(words[0]);
            let is_there =
                [format!("fn {}(", words[1]), format!("func {}(", words[1])].iter().any(|head| source.contains(head.as_str()));
            assert!(is_there, "{line}: {} has no test {}", words[0], words[1]);
            named += 1;
        }
    }
    assert!(named > 35, "only {named} tests are named");
}
