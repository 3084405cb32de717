//! The README's examples are code that the tests compile and run: each block below a `<!-- path -->` line stands in that file,
//! line for line but for indentation. (tests/docs.rs follows its links.)
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

fn lines(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
}

#[test]
fn examples_stand_in_their_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).expect("README.md");
    let mut examples = 0;
    for (at, _) in readme.match_indices("<!-- ") {
        let (path, rest) = readme[at + 5..].split_once(" -->\n```").expect("a path, then a code block");
        let block = rest.split_once('\n').and_then(|(_, code)| code.split_once("```")).expect("a closed code block").0;
        let source = std::fs::read_to_string(root.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
        let (block, source) = (lines(block), lines(&source));
        assert!(!block.is_empty(), "the example of {path} is empty");
        assert!(source.windows(block.len()).any(|window| window == block), "README.md's example is not in {path}");
        examples += 1;
    }
    assert_eq!(examples, 2, "one C example and one Go example");
}
