//! The committed header is the one that the source gives.
#![allow(clippy::expect_used)]

#[test]
fn the_header_is_up_to_date() {
    let generated = std::fs::read_to_string(env!("ATLOCK_GENERATED_HEADER")).expect("the build script wrote it");
    let committed = include_str!("../include/atlock.h");
    let difference = generated.lines().zip(committed.lines()).position(|(a, b)| a != b);
    let line = 1 + difference.unwrap_or_else(|| generated.lines().count().min(committed.lines().count()));
    assert!(generated == committed, "include/atlock.h differs from src/capi at line {line}: run `make header` and commit it");
}

/// A `pub const` anywhere in `src` gets into the header, unless it is excluded: what is no business of C is `pub(crate)`.
#[test]
fn every_name_in_the_header_is_the_librarys_own() {
    let header = include_str!("../include/atlock.h");
    let defined = header.lines().filter_map(|line| line.strip_prefix("#define ")?.split([' ', '(']).next());
    let types = header.lines().filter_map(|line| line.strip_prefix("typedef struct ")?.split([' ', ';']).next());
    let mut seen = 0;
    for name in defined.chain(types) {
        assert!(name.starts_with("ATLOCK_") || name.starts_with("atlock"), "{name} is a name that another header may have");
        seen += 1;
    }
    assert!(seen > 40, "only {seen} names were found");
}
