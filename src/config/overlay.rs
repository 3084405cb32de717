//! Settings of the program that links the library, which hold where the operator's say nothing.
//!
//! Atlantis has flags for its own Redis; they are the defaults of the block `redis`. A default gives way to the operator's
//! setting of the same name, and to one that it cannot stand beside: a server named in the file is not asked for the
//! database number of another one, and a password file is not joined by a password.

use std::path::Path;

use serde_json::{Map, Value};

use super::{Config, env};
use crate::error::{Code, Error, Result};

/// Settings of `locking.enhanced.redis` that one source gives together: each setting of the first list, if the operator
/// gives it, takes those of the second from the defaults.
const TOGETHER: &[(&[&str], &[&str])] = &[
    (
        &["address", "addresses", "cluster_mode", "sentinel.addresses", "sentinel.master_name"],
        &["address", "addresses", "cluster_mode", "db"],
    ),
    (&["password", "password_file", "password_command"], &["password", "password_file"]),
];
const REDIS: [&str; 3] = ["locking", "enhanced", "redis"];

impl Config {
    /// As [`Config::load`] or, without a path, [`Config::without_file`], over `defaults`: JSON in the form of the file.
    ///
    /// Errors: `InvalidConfig`, naming the file and line, the environment variable, or the defaults.
    pub fn load_over(defaults: &str, path: Option<&Path>) -> Result<Config> {
        let (given, file) = match path {
            Some(path) => Config::read(path)?,
            None => (Config::default(), Value::Null),
        };
        let wrong = |e: serde_json::Error| Error::new(Code::InvalidConfig, format!("the program's default settings: {e}"));
        let mut defaults: Value = serde_json::from_str(defaults).map_err(wrong)?;
        let given_by_operator = |keys: &[&str]| names(&file, keys) || std::env::var_os(env::variable(keys)).is_some();
        give_way(&mut defaults, &given_by_operator);
        let mut settings = serde_json::to_value(&given).map_err(wrong)?;
        put_under(&mut settings, defaults, &mut Vec::new(), &given_by_operator);
        serde_json::from_value::<Config>(settings).map_err(wrong)?.with_environment()
    }
}

/// Takes from the defaults what the operator's settings do not leave room for.
fn give_way(defaults: &mut Value, given: &dyn Fn(&[&str]) -> bool) {
    for (causes, gone) in TOGETHER {
        let is_given = |cause: &&str| given(&REDIS.into_iter().chain(cause.split('.')).collect::<Vec<_>>());
        if !causes.iter().any(is_given) {
            continue;
        }
        if let Some(Value::Object(redis)) = defaults.pointer_mut(&format!("/{}", REDIS.join("/"))) {
            redis.retain(|key, _| !gone.contains(&key.as_str()));
        }
    }
}

/// Sets what the operator does not give.
fn put_under(settings: &mut Value, defaults: Value, keys: &mut Vec<String>, given: &dyn Fn(&[&str]) -> bool) {
    match defaults {
        Value::Object(defaults) => {
            if !settings.is_object() {
                *settings = Value::Object(Map::new());
            }
            for (key, default) in defaults {
                keys.push(key.clone());
                put_under(&mut settings[key.as_str()], default, keys, given);
                keys.pop();
            }
        }
        default => {
            if !given(&keys.iter().map(String::as_str).collect::<Vec<_>>()) {
                *settings = default;
            }
        }
    }
}

/// Whether a file has a key, whatever its value.
fn names(file: &Value, keys: &[&str]) -> bool {
    file.pointer(&format!("/{}", keys.join("/"))).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const FLAGS: &str = r#"{"locking":{"data_dir":"/data/atlock","enhanced":{"redis":
        {"address":"flag:1","username":"flag","password":"flag","db":3,"tls":{"enabled":true}}}}}"#;
    const CLUSTER: &str = r#"{"locking":{"enhanced":{"redis":{"cluster_mode":true,"addresses":["a:1","b:2"]}}}}"#;

    fn over(defaults: &str, text: &str) -> Result<Config> {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(text.as_bytes()).expect("writes");
        Config::load_over(defaults, Some(file.path()))
    }

    fn hybrid(redis: &str) -> String {
        format!("locking: {{enhanced: {{enabled: true, compatibility_mode: hybrid, redis: {redis}}}}}")
    }

    #[test]
    fn defaults_hold_where_the_file_says_nothing() {
        let config = over(FLAGS, &hybrid("{wait_replicas: 1}")).expect("loads");
        let redis = &config.locking.enhanced.redis;
        assert_eq!((redis.address.as_str(), redis.username.as_str(), redis.password.as_str()), ("flag:1", "flag", "flag"));
        assert_eq!((redis.db, redis.tls.enabled, redis.wait_replicas), (3, true, 1));
        assert_eq!(config.locking.data_dir.as_deref(), Some(Path::new("/data/atlock")));
        assert_eq!(Config::load_over(FLAGS, None).expect("loads").locking.enhanced.redis, config_without_replicas(redis));
    }

    fn config_without_replicas(redis: &super::super::Redis) -> super::super::Redis {
        super::super::Redis { wait_replicas: 0, ..redis.clone() }
    }

    #[test]
    fn the_file_wins_field_by_field() {
        // The value that is the built-in default counts as given, and a password of digits stays the text that it is.
        let text = "{username: file, password: 0123, tls: {enabled: false}}";
        let config = over(FLAGS, &hybrid(text)).expect("loads");
        let redis = &config.locking.enhanced.redis;
        assert_eq!((redis.username.as_str(), redis.password.as_str(), redis.tls.enabled), ("file", "0123", false));
        assert_eq!((redis.address.as_str(), redis.db), ("flag:1", 3));
    }

    #[test]
    fn a_server_of_the_file_is_whole() {
        let config = over(FLAGS, &hybrid("{address: 'file:1'}")).expect("loads");
        assert_eq!((config.locking.enhanced.redis.address.as_str(), config.locking.enhanced.redis.db), ("file:1", 0));
        let config = over(FLAGS, &hybrid("{cluster_mode: true, addresses: ['file:1']}")).expect("loads");
        assert_eq!(config.locking.enhanced.redis.addresses, ["file:1"]);
        let with_data_dir = CLUSTER.replacen(r#"{"locking":{"#, r#"{"locking":{"data_dir":"/d","#, 1);
        let config = over(&with_data_dir, &hybrid("{address: 'file:1'}")).expect("loads");
        let redis = &config.locking.enhanced.redis;
        assert_eq!((redis.address.as_str(), redis.cluster_mode, redis.addresses.len()), ("file:1", false, 0));
        let config = over(FLAGS, &hybrid("{sentinel: {addresses: ['s:1'], master_name: m}}")).expect("loads");
        let redis = &config.locking.enhanced.redis;
        assert_eq!((redis.name().as_str(), redis.username.as_str()), ("m of the Sentinels s:1, database 0", "flag"));
        let config = over(&with_data_dir, &hybrid("{}")).expect("loads");
        assert_eq!((config.locking.enhanced.redis.cluster_mode, config.locking.enhanced.redis.addresses.len()), (true, 2));
    }

    #[test]
    fn a_password_file_takes_the_passwords_place() {
        let config = over(FLAGS, &hybrid("{password_file: /run/secret}")).expect("loads");
        let redis = &config.locking.enhanced.redis;
        assert_eq!((redis.password.as_str(), redis.password_file.as_deref()), ("", Some(Path::new("/run/secret"))));
        assert_eq!(redis.username, "flag");
        let config = over(FLAGS, &hybrid("{password_command: [token]}")).expect("loads");
        assert_eq!(config.locking.enhanced.redis.password, "");
    }

    #[test]
    fn mistakes_name_their_place() {
        for (defaults, text, wanted) in [
            ("{}", "locking:\n  bakend: sled\n", ":2:3: unknown key \"bakend\""),
            (r#"{"loking":{}}"#, "", "the program's default settings: unknown field `loking`"),
            ("{", "", "the program's default settings: "),
            ("{}", "locking: {backend: sled}", "locking.data_dir is missing"),
        ] {
            let error = over(defaults, text).expect_err("is refused");
            assert_eq!(error.code(), Code::InvalidConfig);
            assert!(error.message().contains(wanted), "{error}");
        }
    }
}
