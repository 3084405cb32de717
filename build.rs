//! Build script: the C header, generated afresh for a test to compare with the committed one, and the shared library's SONAME.

// A build script reports by failing.
#![allow(clippy::expect_used)]

use std::env;
use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-changed=src");
    println!("cargo:rerun-if-changed=cbindgen.toml");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        // The number is ATLOCK_ABI_VERSION's major history: it changes only when a function is removed or changed.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libatlock.so.1");
    }
    generate_header();
}

fn generate_header() {
    let crate_dir = env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let header = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR")).join("atlock.h");
    cbindgen::generate(&crate_dir).expect("src/capi is readable for cbindgen").write_to_file(&header);
    println!("cargo:rustc-env=ATLOCK_GENERATED_HEADER={}", header.display());
}
