//! The C ABI as C and C++ programs see it: each of `tests/c` is compiled against the archive, against the shared library, and
//! with sanitizers, and must end well.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod c_support;

use std::collections::BTreeSet;

use c_support::{Linkage, compile, root, run};

fn passes(program: &str, linkage: Linkage) {
    let source = if program == "header_cxx" { format!("{program}.cpp") } else { format!("{program}.c") };
    let (status, said) = run(&compile(&source, linkage));
    assert!(status.success(), "tests/c/{source}, {linkage:?}, ended with {status}:\n{said}");
}

macro_rules! programs {
    ($($program:ident)*) => {
        const PROGRAMS: &[&str] = &[$(stringify!($program)),*];
        mod archive { $(#[test] fn $program() { super::passes(stringify!($program), super::Linkage::Archive); })* }
        mod shared_library { $(#[test] fn $program() { super::passes(stringify!($program), super::Linkage::SharedLibrary); })* }
        mod sanitized { $(#[test] fn $program() { super::passes(stringify!($program), super::Linkage::Sanitized); })* }
    };
}

programs! {
    bad_input commands config default_instance forked header_cxx header_twice host_store info lifecycle listing locks migration own_names panic
    persistence pull_status queue queue_input shadow threads version
}

#[test]
fn every_program_is_run() {
    let files = std::fs::read_dir(root().join("tests/c")).expect("reads").map(|entry| entry.expect("reads").path());
    let programs = files.filter(|path| path.extension().is_some_and(|kind| kind == "c" || kind == "cpp"));
    let names: BTreeSet<String> = programs.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(names, PROGRAMS.iter().map(|name| (*name).to_owned()).collect());
}

/// A sanitizer that is off passes everything, so each must catch a planted bug.
#[test]
fn the_sanitizers_are_on() {
    is_caught("use_after_free", "heap-use-after-free");
    is_caught("overflow", "heap-buffer-overflow");
    is_caught("leak", "LeakSanitizer: detected memory leaks");
    is_caught("undefined", "signed integer overflow");
    if c_support::instrumented() {
        is_caught("freed_input", "heap-use-after-free");
    }
}

fn is_caught(program: &str, report: &str) {
    let (status, said) = run(&compile(&format!("sanitizer/{program}.c"), Linkage::Sanitized));
    assert!(!status.success() && said.contains(report), "{program}: no {report:?}; ended with {status}:\n{said}");
}

/// And it is the sanitizer that catches them: these end as if all were well without it.
#[test]
fn planted_bugs_go_unseen_otherwise() {
    for program in ["leak", "undefined"] {
        let (status, said) = run(&compile(&format!("sanitizer/{program}.c"), Linkage::Archive));
        assert!(status.success(), "{program}: {status}\n{said}");
    }
}
