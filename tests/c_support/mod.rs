//! The library as a C program gets it: built into a target folder of its own, and the compiler runs that link it.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

/// No test program runs longer.
const LONGEST_RUN: Duration = Duration::from_secs(300);

const INSTRUMENTED_TARGET: &str = "x86_64-unknown-linux-gnu";

/// A build of the library.
pub struct Library {
    /// Where `libatlock.so.1` and `libatlock.a` are.
    pub folder: PathBuf,
    /// What rustc says the archive must be linked with, for example `-lm`.
    pub system_libraries: Vec<String>,
}

/// Which form of the library a program links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linkage {
    Archive,
    SharedLibrary,
    /// The archive, with address and undefined-behaviour sanitizer, and the search for leaks.
    Sanitized,
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Whether the Rust code is to be instrumented by the address sanitizer (`make test-asan`).
pub fn instrumented() -> bool {
    std::env::var_os("ATLOCK_INSTRUMENT_RUST").is_some()
}

/// The library with its default features and `atlock_test_panic`.
pub fn library() -> &'static Library {
    static LIBRARY: OnceLock<Library> = OnceLock::new();
    LIBRARY.get_or_init(|| build("library", &["--features", "test-panic"]))
}

/// The library without its default features.
pub fn minimal_library() -> &'static Library {
    static LIBRARY: OnceLock<Library> = OnceLock::new();
    LIBRARY.get_or_init(|| build("minimal-library", &["--no-default-features"]))
}

/// Builds with cargo, as a test itself is linked with the Rust form of the library only.
///
/// The builds share a target folder, and so the dependencies, but cargo gives each library the same file name: what was built is
/// moved to a folder of its own.
fn build(name: &str, features: &[&str]) -> Library {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock();

    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join(if instrumented() { "instrumented" } else { "native" });
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root()).args(["rustc", "--lib", "--locked", "--target-dir"]).arg(&target).args(features);
    // These tests are about the border, not the speed of what is behind it: an unoptimised build takes a third of the time.
    cargo.args(["--config", r#"profile.dev.package."*".opt-level=0"#]);
    let mut built = target.join("debug");
    if instrumented() {
        // Sanitizers are an unstable option of rustc; naming the target keeps them out of build scripts and macros.
        cargo.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", "-Zsanitizer=address").args(["--target", INSTRUMENTED_TARGET]);
        built = target.join(INSTRUMENTED_TARGET).join("debug");
    }
    let output = cargo.args(["--", "--print", "native-static-libs"]).output().expect("cargo starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the library does not build:\n{said}");
    let libraries = said.lines().find_map(|line| line.strip_prefix("note: native-static-libs: "));
    let libraries = libraries.unwrap_or_else(|| panic!("rustc names no system libraries:\n{said}"));

    let folder = target.join(name);
    fs::create_dir_all(&folder).expect("folder");
    let (archive, shared) = (folder.join("libatlock.a"), folder.join("libatlock.so.1"));
    fs::copy(built.join("libatlock.a"), &archive).expect("copies");
    // As `make lib` does with what is installed, but that a library for tests exports a function more.
    let weakened = Command::new(root().join("scripts/weaken-archive")).arg(&archive).status();
    assert!(weakened.expect("runs").success(), "the archive's five unprefixed functions stay strong");
    let map = fs::read_to_string(root().join("atlock.map")).expect("atlock.map");
    let with_test = map.replacen("global:\n", "global: atlock_test_panic;\n", 1);
    fs::write(folder.join("atlock.map"), with_test).expect("writes");
    let mut link = Command::new(root().join("scripts/link-shared"));
    link.arg(&archive).arg(&shared).arg(folder.join("atlock.map")).arg(compiler("CC", "cc"));
    if instrumented() {
        // The sanitizer's functions are the program's.
        link.arg("-fsanitize=address");
    }
    assert!(link.status().expect("runs").success(), "the shared library is not linked");
    Library { folder, system_libraries: libraries.split_whitespace().map(str::to_owned).collect() }
}

/// Compiles a program of `tests/c`, given as a path below it, and returns the executable.
pub fn compile(source: &str, linkage: Linkage) -> PathBuf {
    let library = library();
    let source_path = root().join("tests/c").join(source);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("programs/{linkage:?}"));
    fs::create_dir_all(&folder).expect("folder");
    let executable = folder.join(source_path.file_stem().expect("a file's name"));

    let (compiler, standard) = match source_path.extension().and_then(|e| e.to_str()) {
        Some("cpp") => (compiler("CXX", "c++"), "-std=c++17"),
        _ => (compiler("CC", "cc"), "-std=c11"),
    };
    let mut command = Command::new(compiler);
    command.args([standard, "-Wall", "-Wextra", "-Werror", "-pedantic", "-g", "-O1", "-fno-omit-frame-pointer"]);
    if linkage == Linkage::Sanitized {
        command.args(["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]);
    }
    command.arg("-I").arg(root().join("include")).arg("-I").arg(root().join("tests/c"));
    command.arg(&source_path).arg("-o").arg(&executable);
    match linkage {
        Linkage::SharedLibrary => {
            command.arg(library.folder.join("libatlock.so.1"));
            command.arg(format!("-Wl,-rpath,{}", library.folder.display())).arg("-pthread");
        }
        Linkage::Archive | Linkage::Sanitized => {
            command.arg(library.folder.join("libatlock.a")).args(&library.system_libraries);
        }
    }
    let output = command.output().expect("a C compiler is installed");
    assert!(output.status.success(), "{source} does not compile:\n{}", String::from_utf8_lossy(&output.stderr));
    executable
}

fn compiler(variable: &str, otherwise: &str) -> String {
    std::env::var(variable).ok().filter(|name| !name.is_empty()).unwrap_or_else(|| otherwise.to_owned())
}

/// Runs a program in an empty folder of its own; returns how it ended and what it said.
pub fn run(executable: &Path) -> (ExitStatus, String) {
    run_command(Command::new(executable))
}

/// The same with arguments, or by another program.
pub fn run_command(mut program: Command) -> (ExitStatus, String) {
    let folder = tempfile::tempdir().expect("folder");
    let said_path = folder.path().join("said");
    let said = File::create(&said_path).expect("file");
    fs::create_dir(folder.path().join("work")).expect("folder");
    program.current_dir(folder.path().join("work")).stdin(Stdio::null());
    program.stdout(said.try_clone().expect("clone")).stderr(said);
    for (variable, _) in std::env::vars_os() {
        if variable.to_str().is_some_and(|name| name.starts_with("ATLANTIS_") || name.starts_with("ATLOCK_")) {
            program.env_remove(variable);
        }
    }
    program.env("ASAN_OPTIONS", "detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1");
    program.env("UBSAN_OPTIONS", "print_stacktrace=1");
    let mut running = program.spawn().expect("starts");
    let start = Instant::now();
    let status = loop {
        if let Some(status) = running.try_wait().expect("waits") {
            break status;
        }
        if start.elapsed() > LONGEST_RUN {
            running.kill().expect("kills");
            panic!("{program:?} still ran after {LONGEST_RUN:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    (status, String::from_utf8_lossy(&fs::read(said_path).expect("reads")).into_owned())
}
