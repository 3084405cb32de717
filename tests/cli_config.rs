//! `atlock config`: what holds, where it comes from, and what is wrong, without opening anything.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::process::Command;

/// What the command prints, what it says beside, and its exit status, with these variables alone.
fn atlock(folder: &Path, args: &[&str], variables: &[(&str, &str)]) -> (String, String, i32) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_atlock"));
    let output = command.current_dir(folder).args(args).env_clear().envs(variables.iter().copied()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code().unwrap())
}

fn settings(text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("locking.yaml"), text).unwrap();
    folder
}

const HYBRID: &str = "locking:\n  data_dir: locks\n  enhanced:\n    enabled: true\n    compatibility_mode: hybrid\n    redis:\n      \
                      address: redis.example.com:6379\n      password: s3cr3t\n      tls: {enabled: true}\n";

#[test]
fn each_setting_is_shown_with_where_it_comes_from_and_no_secret() {
    let folder = settings(HYBRID);
    let variables = [("ATLANTIS_LOCKING_TIMEOUT", "3s")];
    let show = |more: &[&str]| atlock(folder.path(), &[&["-c", "locking.yaml", "config", "show"], more].concat(), &variables);
    let (text, said, status) = show(&[]);
    assert_eq!((said.as_str(), status), ("", 0));
    let line = |key: &str| -> Vec<String> {
        let line =
            text.lines().find(|line| line.split_whitespace().next() == Some(key)).unwrap_or_else(|| panic!("{key}: {text}"));
        line.split_whitespace().skip(1).map(str::to_owned).collect()
    };
    assert_eq!(line("locking.timeout"), ["\"3s\"", "ATLANTIS_LOCKING_TIMEOUT"]);
    assert_eq!(line("locking.enhanced.redis.address"), ["\"redis.example.com:6379\"", "locking.yaml"]);
    assert_eq!(line("locking.enhanced.redis.password"), ["\"(hidden)\"", "locking.yaml"]);
    assert_eq!(line("locking.enhanced.redis.db"), ["0", "default"]);
    let (json, _, _) = show(&["--json"]);
    let told: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    assert_eq!(told.len(), text.lines().count());
    assert!(!text.contains("s3cr3t") && !json.contains("s3cr3t"));
    assert!(!folder.path().join("locks").exists(), "nothing is opened");
}

#[test]
fn a_check_tells_all_mistakes_or_the_mode() {
    let folder = settings(HYBRID);
    let check = |args: &[&str], variables: &[(&str, &str)]| atlock(folder.path(), args, variables);
    let (text, said, status) = check(&["config", "check", "locking.yaml"], &[]);
    assert_eq!((text.as_str(), said.as_str(), status), ("locking.yaml: no mistakes; mode hybrid\n", "", 0));
    let (text, said, status) =
        check(&["config", "check", "locking.yaml"], &[("ATLANTIS_ENHANCED_LOCKING_REDIS_TLS_ENABLED", "false")]);
    assert!(said.contains("is not encrypted") && said.contains("allow_plaintext"), "{said}");
    assert_eq!((text.as_str(), status), ("locking.yaml: no mistakes; mode hybrid\n", 0));
    let (text, said, status) =
        check(&["--json", "config", "check", "locking.yaml"], &[("ATLANTIS_ENHANCED_LOCKING_ENABLED", "false")]);
    let told: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&told["mode"], told["warnings"].as_array().unwrap().len(), status), (&"strict".into(), 1, 0), "{said}");
    let (text, said, status) = check(
        &["config", "check", "locking.yaml"],
        &[("ATLANTIS_LOCKING_BACKENDS", "sled"), ("ATLANTIS_ENHANCED_LOCKING_REDIS_DB", "x")],
    );
    assert_eq!((text.as_str(), status), ("", 1));
    assert!(
        said.contains("2 mistakes: ") && said.contains("ATLANTIS_LOCKING_BACKENDS") && said.contains("\"x\" is not a number"),
        "{said}"
    );
    let (_, said, status) = check(&["config", "check", "none.yaml"], &[]);
    assert!(status == 1 && said.contains("cannot read the locking configuration none.yaml"), "{said}");
    let (_, said, status) = check(&["config", "check"], &[]);
    assert_eq!((said.as_str(), status), ("", 0), "without a file the environment is checked");
}

#[test]
fn completions_and_man_pages_are_made_from_what_may_be_typed() {
    let folder = tempfile::tempdir().unwrap();
    let (_, said, status) = atlock(folder.path(), &["generate", "made"], &[]);
    assert_eq!((said.as_str(), status), ("", 0));
    for (file, text) in [
        ("atlock.bash", "unlock-pull"),
        ("_atlock", "unlock-pull"),
        ("atlock.fish", "unlock-pull"),
        ("atlock.1", "config"),
        ("atlock-unlock-pull.1", "Number of the pull request"),
        ("atlock-config-check.1", "settings file"),
    ] {
        let made = std::fs::read_to_string(folder.path().join("made").join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        assert!(made.contains(text), "{file} lacks {text:?}");
    }
    std::fs::write(folder.path().join("file"), "").unwrap();
    assert!(atlock(folder.path(), &["generate", "file"], &[]).1.contains("file cannot be written: "));
}

#[test]
fn a_watch_looks_again_and_again_until_nobody_reads() {
    use std::io::{BufRead as _, BufReader};
    let folder = settings(HYBRID);
    let watch = |command: &[&str]| {
        let args = [&["--config", "locking.yaml", "--watch=1"], command].concat();
        let mut started = Command::new(env!("CARGO_BIN_EXE_atlock"));
        started.current_dir(folder.path()).args(args).env_clear().stdout(std::process::Stdio::piped()).spawn().unwrap()
    };
    let mut child = watch(&["config", "check"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        assert_eq!(lines.next().unwrap().unwrap(), "locking.yaml: no mistakes; mode hybrid");
    }
    drop(lines);
    assert!(child.wait().unwrap().success());
    let (_, said, status) = atlock(folder.path(), &["--watch", "unlock", "a/b/c/d/"], &[]);
    assert!(status == 2 && said.contains("--watch is for commands that only look"), "{said}");
}
