//! What the library does to a host that has little, or that looks closely: memory that is limited, and valgrind.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod c_support;

use std::process::{Command, ExitStatus};

use c_support::{Linkage, compile, root, run_command};

/// sled ends its process where it gets no memory, so a store that might not get enough is not opened (`src/store/sled/open.rs`).
#[test]
fn a_process_with_little_memory_is_told() {
    let program = compile("limits/memory.c", Linkage::Archive);
    let (mut refused, mut opened) = (0, 0);
    // From less than the store may need to more than it does, in MiB; the program itself is in it, which a debug build is large.
    for limit in (48..=152).step_by(4).chain([200, 256, 512]) {
        let mut command = Command::new(&program);
        command.arg(limit.to_string());
        let (status, said) = run_command(command);
        assert!(status.success(), "{limit} MiB: it ended with {status}:\n{said}");
        if said.contains("needs 64 MiB of memory to open") {
            refused += 1;
        } else if said.contains("opened") {
            opened += 1;
        } else {
            // A thread that cannot be had is told, too.
            assert!(said.contains("thread cannot be started"), "{limit} MiB:\n{said}");
        }
    }
    assert!(refused > 0 && opened > 0, "{refused} refused, {opened} opened");
}

fn valgrind(source: &str, arguments: &[&str]) -> (ExitStatus, String) {
    let program = compile(source, Linkage::Archive);
    let mut command = Command::new("valgrind");
    command.args(["--leak-check=full", "--error-exitcode=99"]);
    command.arg(format!("--suppressions={}", root().join("examples/c/valgrind.supp").display()));
    command.arg(program).args(arguments);
    run_command(command)
}

#[test]
fn valgrind_finds_nothing_in_the_example() {
    let (status, said) = valgrind("../../examples/c/take_lock.c", &["locks"]);
    assert!(status.success() && said.contains("took the lock"), "{status}:\n{said}");
    assert!(said.contains("ERROR SUMMARY: 0 errors"), "{said}");
}

/// What is suppressed is sled's alone: a program's own leak is found.
#[test]
fn valgrind_finds_a_leak_all_the_same() {
    let (status, said) = valgrind("sanitizer/leak.c", &[]);
    assert!(status.code() == Some(99) && said.contains("definitely lost"), "{status}:\n{said}");
}
