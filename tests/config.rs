//! The settings file: what is accepted, and that every mistake gets an error which names the place.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use atlock::config::{Backend, Config, Mode, Resolve, Sets};
use atlock::error::Code;
use atlock::queue::Priority;

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

/// There the credentials of values are sealed.
#[test]
fn which_stores_hold_no_sealed_records() {
    let redis = "enhanced: {enabled: true, compatibility_mode: ";
    for (text, wanted) in [
        ("locking: {}".to_owned(), true),
        ("locking: {backend: sled, data_dir: /a}".to_owned(), false),
        ("locking: {backend: sled, data_dir: /a, shadow: {store: sled, data_dir: /b}}".to_owned(), false),
        ("locking: {backend: sled, data_dir: /a, shadow: {store: redis}}".to_owned(), true),
        (format!("locking: {{backend: sled, data_dir: /a, {redis}native}}}}"), true),
        (format!("locking: {{backend: sled, data_dir: /a, {redis}hybrid}}}}"), true),
    ] {
        assert_eq!(Config::parse(&text, "x").expect(&text).has_open_store(), wanted, "{text}");
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

/// The example of the original specification, as it is there.
const SPECIFICATION: &str = r#"locking: {backend: "boltdb", enhanced: {enabled: true, backend: "redis",
compatibility_mode: "hybrid", legacy_fallback: true, redis: {address: "localhost:6379", password: "", db: 0, cluster_mode: false}, priority_queue: {enabled: false}, deadlock_detection: {enabled: false}, timeouts: {default: "30m", max: "2h"}}}"#;

#[test]
fn the_specifications_example_is_accepted() {
    let config = Config::parse(SPECIFICATION, "x").expect("parses");
    let enhanced = &config.locking.enhanced;
    assert_eq!((config.mode(), config.locking.backend), (Mode::Hybrid, Backend::Boltdb));
    assert!(enhanced.legacy_fallback && !enhanced.redis.cluster_mode && !config.has_queue());
    assert_eq!((enhanced.redis.address.as_str(), enhanced.redis.password.as_str(), enhanced.redis.db), ("localhost:6379", "", 0));
    assert!(!enhanced.priority_queue.enabled && !enhanced.deadlock_detection.enabled);
    assert_eq!((enhanced.timeouts.default, enhanced.timeouts.max), (Duration::from_secs(1800), Duration::from_secs(7200)));
    assert_eq!(config.warnings(), Vec::<String>::new());
    // The blocks that it switches off may be switched on.
    let on = SPECIFICATION.replace("{enabled: false}", "{enabled: true}");
    assert!(Config::parse(&on, "x").expect("parses").has_queue());
    // What opens it asks for the folder.
    let opened = atlock::service::Service::open(&config, None, std::sync::Arc::new(atlock::clock::SystemClock));
    assert!(
        opened
            .expect_err("has no folder")
            .message()
            .contains("locking.data_dir is missing: set it, or ATLANTIS_LOCKING_DATA_DIR")
    );
}

#[test]
fn who_waits_is_read() {
    let text = "
locking:
  backend: sled
  data_dir: /d
  enhanced:
    priority_queue:
      enabled: true
      repos: ['acme/*', other/infra]
      sets: whole
      aging: 1h
      rules:
        - {author: 'renovate*', priority: low}
        - {repo: 'acme/*', base: main, priority: high}
        - {label: hotfix, priority: critical}
    deadlock_detection: {enabled: true, resolve: yield, confirm: 5s}
    timeouts: {default: 10m, max: 30days}
";
    let config = Config::parse(text, "x").expect("parses");
    let (queue, deadlocks) = (&config.locking.enhanced.priority_queue, &config.locking.enhanced.deadlock_detection);
    assert!(config.has_queue() && config.warnings().is_empty(), "strict mode on the embedded store has a queue");
    assert_eq!((queue.sets, queue.aging, queue.rules.len()), (Sets::Whole, Duration::from_secs(3600), 3));
    assert_eq!(queue.priority_of("acme/infra", "main", "ann", &[]), Priority::High);
    assert_eq!(queue.priority_of("acme/infra", "next", "ann", &["hotfix".to_owned()]), Priority::Critical);
    assert_eq!(["acme/web", "other/infra", "other/web"].map(|repo| queue.is_for(repo)), [true, true, false]);
    assert_eq!((deadlocks.resolve, deadlocks.confirm), (Resolve::Yield, Duration::from_secs(5)));
    let json = serde_json::to_string(&config).expect("serialises");
    assert_eq!(Config::parse(&json, "json").expect("its own JSON is read"), config);
}

#[test]
fn wrong_settings_of_who_waits_name_their_key() {
    for (block, wanted) in [
        ("priority_queue: {aging: 999ms}", "locking.enhanced.priority_queue.aging is 999ms; it must be 1s to 7days"),
        ("priority_queue: {aging: 8days}", "aging is 8days; it must be 1s to 7days"),
        ("priority_queue: {repos: []}", "priority_queue.repos is empty, or has an empty pattern: \"*\" is every repository"),
        ("priority_queue: {repos: [a/b, '']}", "or has an empty pattern"),
        ("priority_queue: {sets: some}", "some"),
        ("priority_queue: {replan: perhaps}", "perhaps"),
        ("priority_queue: {rules: [{author: a}]}", "missing field `priority`"),
        ("priority_queue: {rules: [{author: a, priority: urgent}]}", "urgent"),
        ("priority_queue: {rules: [{author: a, team: b, priority: low}]}", "unknown key \"team\""),
        (
            "priority_queue: {rules: [{autor: a, priority: low}]}",
            "did you mean \"author\"? Known here: repo, base, author, label, priority",
        ),
        (
            "priority_queue: {rules: [{base: a, priority: low}, {priority: low}]}",
            "rules[1] has no repo, no base, no author and no label",
        ),
        ("priority_queue: {rules: [{base: '', priority: low}]}", "rules[0] has an empty pattern"),
        ("priority_queue: {rules: [{label: '', priority: low}]}", "rules[0] has an empty pattern"),
        ("deadlock_detection: {confirm: 0s}", "deadlock_detection.confirm is 0s; it must be more than 0 and at most 1h"),
        ("deadlock_detection: {confirm: 61m}", "at most 1h"),
        ("deadlock_detection: {resolve: kill}", "kill"),
        ("timeouts: {default: 0s}", "timeouts.default is 0s; it must be more than 0"),
        ("timeouts: {max: 0s}", "timeouts.max is 0s; it must be more than 0"),
        ("timeouts: {default: -5m}", "locking.yaml:1:33: invalid value: string \"-5m\", expected a duration"),
        ("timeouts: {max: 31days}", "locking.enhanced.timeouts.max is 31days; it must be more than 0 and at most 30days"),
        ("timeouts: {max: 10m}", "locking.enhanced.timeouts.default is 30m, and more than timeouts.max, which is 10m"),
        ("timeouts: {defualt: 10m}", "did you mean \"default\""),
        ("apply_guard: sometimes", "sometimes"),
        ("priority_queue: {enabled: true}", "strict mode on Atlantis's own store has no queue: set locking.backend: sled"),
    ] {
        let message = refused(&format!("locking: {{enhanced: {{{block}}}}}"));
        assert!(message.contains(wanted) && !message.contains('\n'), "{block}\n  gave: {message}");
    }
}

/// The queue cannot come along into strict mode on Atlantis's own store, and must not keep that from beginning.
#[test]
fn the_emergency_rollback_of_a_server_with_a_queue_warns() {
    let text = "locking: {data_dir: /d, enhanced: {enabled: ENABLED, compatibility_mode: hybrid,
        priority_queue: {enabled: true}, deadlock_detection: {enabled: true}}}";
    let config = Config::parse(&text.replace("ENABLED", "true"), "x").expect("parses");
    assert!(config.has_queue() && config.warnings().is_empty());
    let config = Config::parse(&text.replace("ENABLED", "false"), "x").expect("a rollback begins");
    let warnings = config.warnings();
    assert!(!config.has_queue() && warnings.len() == 3, "{warnings:?}");
    assert!(warnings[1].contains("priority_queue.enabled is true, but strict mode on Atlantis's own store has no queue"));
    let config = Config::parse(&text.replace("ENABLED", "false").replacen("data_dir", "backend: sled, data_dir", 1), "x");
    assert!(config.expect("parses").has_queue(), "the embedded store keeps a queue, with enhanced locking or without");
}

#[test]
fn deadlock_detection_without_a_queue_warns() {
    let config = Config::parse("locking: {enhanced: {deadlock_detection: {enabled: true}}}", "x").expect("parses");
    let warnings = config.warnings();
    assert!(warnings.len() == 1 && warnings[0].contains("no deadlock is looked for"), "{warnings:?}");
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
        ("locking: {audit: {required: true}}", "locking.audit.required needs a trail"),
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
                assert!(message.contains("an address is host:port") && message.contains("username"), "{message}");
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
