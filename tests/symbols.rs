//! What the library exports, what it is called, and what it must be linked with.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod c_support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use c_support::{Library, library, minimal_library, root};

/// The unprefixed functions, the list as an array, and the function that frees their answers: all that the feature `default-instance` adds.
const DEFAULT_INSTANCE: [&str; 7] =
    ["try_lock", "unlock", "list", "get_lock", "unlock_by_pull", "atlock_default_list_locks", "atlock_string_free"];
const TEST_PANIC: &str = "atlock_test_panic";

fn output_of(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|e| panic!("{program} (binutils): {e}"));
    assert!(output.status.success(), "{program} {arguments:?}:\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn names<'a>(found: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    found.into_iter().map(str::to_owned).collect()
}

fn exported(library: &Library) -> BTreeSet<String> {
    let shared = library.folder.join("libatlock.so.1");
    let table = output_of("nm", &["-D", "--defined-only", shared.to_str().unwrap()]);
    let symbols = table.lines().filter_map(|line| line.split_whitespace().last());
    // A version is a symbol itself, without an `@`.
    names(symbols.filter(|symbol| symbol.contains('@')))
}

/// The functions that the shared library exports, without their versions.
fn exported_functions(library: &Library) -> BTreeSet<String> {
    names(exported(library).iter().filter_map(|symbol| symbol.split('@').next()))
}

/// The functions of `atlock.map`, each with its version.
fn mapped() -> BTreeMap<String, String> {
    let map = fs::read_to_string(root().join("atlock.map")).expect("reads");
    let (mut version, mut found) = ("", BTreeMap::new());
    for line in map.lines().map(str::trim) {
        if let Some(name) = line.strip_suffix(" {") {
            version = name;
        } else if let Some(name) = line.strip_suffix(';').filter(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
        {
            found.insert(name.to_owned(), version.to_owned());
        }
    }
    found
}

/// Whoever adds a function gives it a version: a program that needs the function then says so at its start, beside an older library.
#[test]
fn each_function_has_the_version_that_the_map_gives() {
    let mut functions = declared();
    assert!(functions.remove(TEST_PANIC));
    assert_eq!(mapped().into_keys().collect::<BTreeSet<_>>(), functions, "atlock.map and the header");
    let mut exported = exported(library());
    assert!(exported.remove(&format!("{TEST_PANIC}@@ATLOCK_1")));
    assert_eq!(exported, mapped().iter().map(|(name, version)| format!("{name}@@{version}")).collect());
}

/// The functions that the header declares: the word before the first parenthesis of a line at the margin.
fn declared() -> BTreeSet<String> {
    let header = fs::read_to_string(root().join("include/atlock.h")).expect("reads");
    let lines = header.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_alphabetic()));
    let functions = lines.filter_map(|line| line.split_once('(')).map(|(head, _)| head);
    names(functions.filter_map(|head| head.split([' ', '*']).next_back()))
}

#[test]
fn the_shared_library_exports_what_the_header_declares() {
    assert_eq!(exported_functions(library()), declared());
    let unprefixed = names(declared().iter().map(String::as_str).filter(|name| !name.starts_with("atlock_")));
    assert_eq!(unprefixed, names(["try_lock", "unlock", "list", "get_lock", "unlock_by_pull"]));
}

#[test]
fn without_default_features_the_unprefixed_functions_are_gone() {
    let mut wanted = declared();
    for name in DEFAULT_INSTANCE.iter().chain([&TEST_PANIC]) {
        assert!(wanted.remove(*name), "{name} is not in the header");
    }
    assert_eq!(exported_functions(minimal_library()), wanted);
}

#[test]
fn the_shared_library_has_a_versioned_name() {
    let shared = library().folder.join("libatlock.so.1");
    let dynamic = output_of("readelf", &["-d", shared.to_str().unwrap()]);
    assert!(dynamic.contains("Library soname: [libatlock.so.1]"), "{dynamic}");
}

/// The system libraries of a line of linker flags.
fn system_libraries<'a>(flags: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    names(flags.into_iter().filter(|flag| flag.starts_with("-l")))
}

#[test]
fn link_flags_are_what_rustc_asks_for() {
    let wanted = system_libraries(library().system_libraries.iter().map(String::as_str));
    assert!(!wanted.is_empty());

    let pkg_config = fs::read_to_string(root().join("atlock.pc.in")).expect("reads");
    let private = pkg_config.lines().find_map(|line| line.strip_prefix("Libs.private:")).expect("has Libs.private");
    assert_eq!(system_libraries(private.split_whitespace()), wanted, "atlock.pc.in, Libs.private");

    let static_flags = fs::read_to_string(root().join("atlock-static.pc.in")).expect("reads");
    let libs = static_flags.lines().find_map(|line| line.strip_prefix("Libs:")).expect("has Libs");
    assert_eq!(system_libraries(libs.split_whitespace()), wanted, "atlock-static.pc.in, Libs");
    let script = fs::read_to_string(root().join("scripts/link-shared")).expect("reads");
    assert_eq!(system_libraries(script.split_whitespace()), wanted, "scripts/link-shared");

    let Ok(folder) = fs::read_dir(root().join("go/internal/capi")) else { return };
    let sources = folder.map(|entry| entry.expect("reads").path()).filter(|path| path.extension().is_some_and(|e| e == "go"));
    let sources = sources.map(|path| fs::read_to_string(path).expect("reads")).collect::<String>();
    let cgo = sources.lines().filter_map(|line| line.trim_start_matches("//").trim().strip_prefix("#cgo"));
    let with_glibc =
        cgo.filter_map(|line| line.split_once("LDFLAGS:")).filter(|(when, _)| !when.contains(",musl") && !when.contains(" musl"));
    let flags: Vec<&str> = with_glibc.flat_map(|(_, f)| f.split_whitespace()).collect();
    assert_eq!(system_libraries(flags), wanted, "go/internal/capi, #cgo LDFLAGS");
}
