//! The settings file: what is accepted, and that every mistake gets an error which names the place.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use atlock::config::{Backend, Config, Mode};
use atlock::error::Code;

fn refused(text: &str) -> String {
    let error = Config::parse(text, "locking.yaml").expect_err("is refused");
    assert_eq!(error.code(), Code::InvalidConfig);
    error.message().to_owned()
}

#[test]
fn no_settings_mean_strict_on_atlantis_own_store() {
    for text in ["", "\n", "locking: {}", "{}"] {
        let config = Config::parse(text, "x").expect(text);
        assert_eq!(config, Config::default());
        assert_eq!(config.mode(), Mode::Strict);
        assert_eq!(config.locking.backend, Backend::Boltdb);
    }
}

#[test]
fn a_whole_file_is_read() {
    let text = "
locking:
  backend: sled
  data_dir: /var/lib/atlantis/locks
  socket: read
  audit: {file: /var/log/atlantis/locks.jsonl, max_bytes: 1048576, keep: 2}
  enhanced:
    enabled: true
    backend: redis
    compatibility_mode: native
    redis:
      cluster_mode: true
      addresses: ['a:7000', 'b:7000']
      username: atlantis
      password_file: /run/secrets/redis
      tls: {enabled: true, ca_file: /etc/ca.pem}
      shared_with_stock: false
      wait_replicas: 1
      timeouts: {connect: 500ms, operation: 2s}
";
    let config = Config::parse(text, "locking.yaml").expect("parses");
    assert_eq!(config.mode(), Mode::Native);
    assert_eq!(config.locking.enhanced.redis.timeouts.connect.as_millis(), 500);
    let json = serde_json::to_string(&config).expect("serialises");
    assert_eq!(Config::parse(&json, "json").expect("its own JSON is read"), config);
}

#[test]
fn the_emergency_rollback_wins_over_the_mode() {
    let config = Config::parse("locking: {enhanced: {enabled: false, compatibility_mode: native}}", "x").expect("parses");
    assert_eq!(config.mode(), Mode::Strict);
}

#[test]
fn an_unknown_key_names_file_line_and_nearest_key() {
    let text = "locking:\n  backend: sled\n  enhanced:\n    compatability_mode: native\n";
    let message = refused(text);
    assert!(
        message.starts_with("locking.yaml:4:5: unknown key \"compatability_mode\"; did you mean \"compatibility_mode\"?"),
        "{message}"
    );
    assert!(refused("{\"lokcing\": {}}").contains("did you mean \"locking\""));
    assert!(
        refused("locking:\n  enhanced:\n    redis:\n      tls:\n        ca: x\n")
            .starts_with("locking.yaml:5:9: unknown key \"ca\"")
    );
}

#[test]
fn wrong_values_name_the_place() {
    for (text, wanted) in [
        ("locking: {backend: postgres}", "postgres"),
        ("locking: {socket: write}", "write"),
        ("locking:\n  timeout: fast\n", "locking.yaml:2"),
        ("locking: {timeout: 0s}", "locking.timeout is 0ns"),
        ("locking: {timeout: 31s}", "at most 30s"),
        ("locking: {audit: {max_bytes: 100}}", "locking.audit.max_bytes must be at least 4096"),
        ("locking: {audit: {keep: 0}}", "locking.audit.keep must be 1 to 100"),
        ("locking: {backend: sled}", "locking.data_dir is missing"),
        ("locking: [", "locking.yaml"),
        (
            "locking:\n  enhanced: {enabled: true, compatibility_mode: native, redis: {address: 'nowhere'}}",
            "\"nowhere\" is not host:port",
        ),
        ("locking: {enhanced: {enabled: true, compatibility_mode: native, redis: {db: -1}}}", "db is negative"),
        ("locking: {enhanced: {enabled: true, compatibility_mode: native, redis: {cluster_mode: true}}}", "addresses is empty"),
        (
            "locking: {enhanced: {enabled: true, compatibility_mode: native, redis: {addresses: ['a:1']}}}",
            "for cluster_mode: true",
        ),
        (
            "locking: {enhanced: {enabled: true, compatibility_mode: native, redis: {tls: {enabled: true, cert_file: a}}}}",
            "belong together",
        ),
        ("locking: {enhanced: {enabled: true, compatibility_mode: native, redis: {tls: {ca_file: a}}}}", "not enabled"),
        ("locking: {enhanced: {enabled: true, compatibility_mode: native, redis: {password: a, password_file: b}}}", "keep one"),
    ] {
        let message = refused(text);
        assert!(message.contains(wanted), "{text}\n  gave: {message}");
    }
}

#[test]
fn no_error_and_no_debug_text_shows_the_password() {
    let text = "locking:\n  enhanced:\n    enabled: true\n    compatibility_mode: native\n    redis:\n      password: hunter2\n";
    assert!(!format!("{:?}", Config::parse(text, "x").expect("parses")).contains("hunter2"));
    for wrong in ["      adress: x\n", "      db: true\n", "      tls: 3\n", "   wrong indent\n"] {
        let message = refused(&format!("{text}{wrong}"));
        assert!(!message.contains("hunter2"), "{message}");
    }
}

/// Where somebody put them into the address, whatever is in the password.
#[test]
fn no_error_shows_the_password_of_an_address() {
    for address in [
        "redis://:hunter/2@h",
        "redis://u:hunter2#w@h",
        "redis://u:hunter2 b@h",
        "redis://u:hunter2\\\"q@h",
        "u:hunter2@h:6379",
        "redis://hunter2",
    ] {
        for redis in [
            format!("address: \"{address}\""),
            format!("cluster_mode: true, addresses: [\"{address}\"]"),
            format!("addresses: \"{address}\""),
            format!("db: \"{address}\""),
            format!("cluster_mode: \"{address}\""),
        ] {
            let text = format!("locking: {{enhanced: {{enabled: true, compatibility_mode: native, redis: {{{redis}}}}}}}");
            let message = refused(&text);
            assert!(!message.contains("hunter"), "{redis}: {message}");
            if redis.starts_with("address:") {
                assert!(message.ends_with("user and password have settings of their own, username and password"), "{message}");
            }
        }
    }
}

#[test]
fn a_missing_or_huge_file_is_a_clear_error() {
    let folder = tempfile::tempdir().expect("folder");
    let missing = Config::load(&folder.path().join("none.yaml")).expect_err("is refused");
    assert!(missing.message().contains("none.yaml") && missing.code() == Code::InvalidConfig, "{missing}");
    let huge = folder.path().join("huge.yaml");
    std::fs::write(&huge, vec![b'#'; 2 << 20]).expect("writes");
    assert!(Config::load(&huge).expect_err("is refused").message().contains("at most"));
}
