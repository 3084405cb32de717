//! Build script: the C header, generated afresh for a test to compare with the committed one, and the shared library's SONAME.

// A build script reports by failing.
#![allow(clippy::expect_used)]

use std::env;
use std::fs;
use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-changed=src");
    println!("cargo:rerun-if-changed=cbindgen.toml");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        // As in scripts/link-shared: the number changes only when a function is removed or changed.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libatlock.so.1");
    }
    generate_header();
}

/// The header without what speaks to readers of Rust: its headings of safety sections, and the sentence that sends them to the header.
fn for_c(header: &str) -> String {
    const RULES: &str = " See the rules at the top of `atlock.h`.";
    let mut lines: Vec<&str> = Vec::new();
    for line in header.lines().filter(|line| *line != RULES && *line != " # Safety") {
        // A blank line before the end of a comment, or after another one, was before what is left out.
        while lines.last() == Some(&"") && (line.is_empty() || line == " */") {
            lines.pop();
        }
        lines.push(line);
    }
    lines.push("");
    lines.join("\n")
}

/// The header's version, for `#if` and for messages: `atlock_version` has that of the library that is linked.
fn version_macros() -> String {
    let part = |name: &str| env::var(format!("CARGO_PKG_VERSION_{name}")).expect("cargo sets the parts of the version");
    format!(
        "\n/* The version that this header is of; atlock_version() is that of the library. */\n\
         #define ATLOCK_VERSION \"{}\"\n\
         #define ATLOCK_VERSION_MAJOR {}\n\
         #define ATLOCK_VERSION_MINOR {}\n\
         #define ATLOCK_VERSION_PATCH {}",
        env::var("CARGO_PKG_VERSION").expect("cargo sets the version"),
        part("MAJOR"),
        part("MINOR"),
        part("PATCH"),
    )
}

fn generate_header() {
    let crate_dir = env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let header = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR")).join("atlock.h");
    let manifest = PathBuf::from(&crate_dir);
    let mut config = cbindgen::Config::from_file(manifest.join("cbindgen.toml")).expect("cbindgen.toml is readable");
    config.after_includes = Some(format!("{}\n{}", version_macros(), config.after_includes.unwrap_or_default()));
    let mut text = Vec::new();
    cbindgen::generate_with_config(&crate_dir, config).expect("src/capi is readable for cbindgen").write(&mut text);
    let text = for_c(&String::from_utf8(text).expect("cbindgen writes UTF-8"));
    fs::write(&header, text).expect("OUT_DIR can be written");
    println!("cargo:rustc-env=ATLOCK_GENERATED_HEADER={}", header.display());
}
