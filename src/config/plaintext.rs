//! Connections to another machine that nobody encrypts.

use super::redis::{Place, Redis, Sentinel, is_this_machine};
use super::{Config, Mode, ShadowStore};

impl Config {
    /// Texts for an operator about each Redis in use that is reached over a network in plain text, unless the settings say that this is meant.
    pub(super) fn plaintext(&self) -> Vec<String> {
        let enhanced = (self.mode() != Mode::Strict).then_some(("locking.enhanced.redis", &self.locking.enhanced.redis));
        let shadow =
            (self.locking.shadow.store == ShadowStore::Redis).then_some(("locking.shadow.redis", &self.locking.shadow.redis));
        let in_use = enhanced.into_iter().chain(shadow).filter(|(_, redis)| !redis.allow_plaintext);
        in_use.flat_map(|(at, redis)| told(at, redis)).collect()
    }
}

fn told(at: &str, redis: &Redis) -> Vec<String> {
    let text = |block: &str, where_to: &str| {
        format!(
            "{block}: the connection to {where_to} leaves this machine and is not encrypted: whoever is on the network reads passwords and \
             clone URLs, and may change locks; set {block}.tls.enabled: true. Where the network itself encrypts, {at}.allow_plaintext: true \
             says that this is meant"
        )
    };
    let mut texts = Vec::new();
    if !redis.tls.enabled && leaves(redis.place()) {
        texts.push(text(at, &redis.place().to_string()));
    }
    if let Place::Sentinel(sentinel) = redis.place()
        && !sentinel.tls.enabled
        && any_elsewhere(&sentinel.addresses)
    {
        texts.push(text(&format!("{at}.sentinel"), &sentinel.addresses.join(", ")));
    }
    texts
}

/// Whether a connection to this place goes over a network. Where the master is, only the Sentinels know: it is taken to be as far as they are.
fn leaves(place: Place<'_>) -> bool {
    match place {
        Place::Server(address) => !is_this_machine(host_of(address)),
        Place::Socket(_) => false,
        Place::Sentinel(Sentinel { addresses, .. }) => any_elsewhere(addresses),
        Place::Cluster(addresses) => any_elsewhere(addresses),
    }
}

fn any_elsewhere(addresses: &[String]) -> bool {
    addresses.iter().any(|address| !is_this_machine(host_of(address)))
}

fn host_of(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warned(redis: &str) -> Vec<String> {
        let text = format!("locking: {{enhanced: {{enabled: true, compatibility_mode: native, redis: {redis}}}}}");
        Config::parse(&text, "test").expect("the settings are right").plaintext()
    }

    #[test]
    fn a_plain_connection_to_another_machine_is_told() {
        for here in [
            "{address: '127.0.0.1:6379'}",
            "{address: '127.9.8.7:6379'}",
            "{address: 'LocalHost:6379'}",
            "{address: '[::1]:6379'}",
            "{address: '[::ffff:127.0.0.1]:6379'}",
            "{address: 'unix:///run/redis/redis.sock'}",
            "{address: 'redis.example.com:6379', tls: {enabled: true}}",
            "{address: 'redis.example.com:6379', allow_plaintext: true}",
            "{cluster_mode: true, addresses: ['127.0.0.1:1', '[::1]:2']}",
            "{sentinel: {addresses: ['localhost:1'], master_name: m}}",
            "{tls: {enabled: true}, sentinel: {addresses: ['s:1'], master_name: m, tls: {enabled: true}}}",
            "{allow_plaintext: true, sentinel: {addresses: ['s:1'], master_name: m}}",
        ] {
            assert_eq!(warned(here), Vec::<String>::new(), "{here}");
        }
        for (there, wanted) in [
            ("{address: 'redis.example.com:6379'}", vec!["to redis.example.com:6379 leaves"]),
            ("{address: '10.0.0.1:6379'}", vec!["10.0.0.1"]),
            ("{address: 'localhost.example.com:6379'}", vec!["localhost.example.com"]),
            ("{address: '[fe80::1]:6379'}", vec!["fe80::1"]),
            ("{cluster_mode: true, addresses: ['127.0.0.1:1', 'b:2']}", vec!["127.0.0.1:1, b:2"]),
            ("{sentinel: {addresses: ['s:1'], master_name: m}}", vec!["redis: the", "redis.sentinel: the"]),
            ("{tls: {enabled: true}, sentinel: {addresses: ['s:1'], master_name: m}}", vec!["redis.sentinel: the"]),
            ("{sentinel: {addresses: ['s:1'], master_name: m, tls: {enabled: true}}}", vec!["redis: the"]),
        ] {
            let told = warned(there);
            assert_eq!(told.len(), wanted.len(), "{there}: {told:?}");
            assert!(told.iter().zip(wanted).all(|(told, wanted)| told.contains(wanted)), "{there}: {told:?}");
        }
    }

    #[test]
    fn only_what_is_in_use_is_told() {
        let strict = "locking: {enhanced: {enabled: false, compatibility_mode: native, redis: {address: 'r:1'}}}";
        assert_eq!(Config::parse(strict, "test").expect("they are right").plaintext(), Vec::<String>::new());
        let shadow = "locking: {backend: sled, data_dir: /x, shadow: {store: redis, redis: {address: 'r:1'}}}";
        let told = Config::parse(shadow, "test").expect("they are right").plaintext();
        assert!(told.len() == 1 && told[0].starts_with("locking.shadow.redis: "), "{told:?}");
    }
}
