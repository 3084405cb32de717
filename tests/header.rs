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
