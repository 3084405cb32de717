//! The examples of README.md, docs/go.md and docs/c.md are code that the tests compile and run, and comments that the server makes: each
//! block below a `<!-- path -->` line stands in that file, line for line but for indentation. (tests/docs.rs follows their links.)
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

fn lines(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
}

/// The block behind a `<!-- path -->`: code between fences, or what is quoted with `>`.
fn block(rest: &str) -> String {
    match rest.strip_prefix("```") {
        Some(code) => {
            code.split_once('\n').and_then(|(_, code)| code.split_once("```")).expect("a closed code block").0.to_owned()
        }
        None => rest.lines().map_while(|line| line.strip_prefix('>')).collect::<Vec<_>>().join("\n"),
    }
}

#[test]
fn examples_stand_in_their_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (page, expected) in [("README.md", 3), ("docs/go.md", 1), ("docs/c.md", 1)] {
        let text = std::fs::read_to_string(root.join(page)).expect(page);
        let mut examples = 0;
        for (at, _) in text.match_indices("<!-- ") {
            let (path, rest) = text[at + 5..].split_once(" -->\n").expect("a path, then a block");
            let block = block(rest);
            let source = std::fs::read_to_string(root.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
            let (block, source) = (lines(&block), lines(&source));
            assert!(!block.is_empty(), "{page}: the example of {path} is empty");
            assert!(source.windows(block.len()).any(|window| window == block), "{page}: the example is not in {path}");
            examples += 1;
        }
        assert_eq!(examples, expected, "{page}");
    }
}

/// A newcomer reads it whole. What is longer goes to docs, with a link.
#[test]
fn the_readme_is_short() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("README.md");
    assert!(text.lines().count() <= 130, "README.md has {} lines", text.lines().count());
}
