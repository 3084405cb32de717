//! What the server tells of itself: nothing that makes the library warn.

use redis::Value;

use super::commands::bulk;

/// `INFO` of a section, or of all of them, by the server's replication ID.
pub(super) fn information(section: &[u8], replication_id: u64) -> String {
    let replication = format!("# Replication\r\nrole:master\r\nconnected_slaves:0\r\nmaster_replid:{replication_id:040x}\r\n");
    let sections = [
        ("replication", replication.as_str()),
        ("memory", "# Memory\r\nmaxmemory_policy:noeviction\r\n"),
        ("persistence", "# Persistence\r\nloading:0\r\naof_enabled:1\r\n"),
        ("cluster", "# Cluster\r\ncluster_enabled:0\r\n"),
    ];
    let is_wanted = |name: &str| section.is_empty() || section.eq_ignore_ascii_case(name.as_bytes());
    sections.into_iter().filter(|(name, _)| is_wanted(name)).map(|(_, text)| text).collect()
}

/// `CONFIG GET`.
pub(super) fn setting(name: &[u8]) -> Value {
    let settings = [("save", "3600 1 300 100 60 10000"), ("appendonly", "yes"), ("maxmemory-policy", "noeviction")];
    let found = settings.into_iter().filter(|(setting, _)| setting.as_bytes().eq_ignore_ascii_case(name));
    Value::Array(found.flat_map(|(setting, value)| [bulk(setting), bulk(value)]).collect())
}
