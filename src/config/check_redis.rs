//! Settings of a Redis that cannot work together.

use std::path::{Path, PathBuf};

use super::check::{within, wrong};
use super::redis::{Place, Redis, SOCKET, Sentinel, Tls};
use crate::error::Result;

impl Redis {
    /// `at`: the block's key.
    pub(super) fn check(&self, at: &str) -> Result<()> {
        within(&format!("{at}.timeouts.connect"), self.timeouts.connect)?;
        within(&format!("{at}.timeouts.operation"), self.timeouts.operation)?;
        self.check_place(at)?;
        let passwords = [!self.password.is_empty(), self.password_file.is_some(), !self.password_command.is_empty()];
        if passwords.into_iter().filter(|given| *given).count() > 1 {
            return wrong(&format!("{at} has more than one of password, password_file and password_command: keep one"));
        }
        if self.password_command.first().is_some_and(String::is_empty) {
            return wrong(&format!("{at}.password_command names no program"));
        }
        self.tls.check(&format!("{at}.tls"))
    }

    /// Whether the settings name one place, and nothing that does not go with it.
    fn check_place(&self, at: &str) -> Result<()> {
        if !self.cluster_mode && !self.addresses.is_empty() {
            return wrong(&format!("{at}.addresses is for cluster_mode: true; a single server goes into address"));
        }
        if self.sentinel.is_on() && (self.cluster_mode || self.address != Redis::default().address) {
            return wrong(&format!(
                "{at}.sentinel stands beside address or cluster_mode: Sentinels tell the master's address, and a Redis Cluster has none"
            ));
        }
        if self.db < 0 {
            return wrong(&format!("{at}.db is negative"));
        }
        match self.place() {
            Place::Server(address) => check_address(at, address),
            Place::Socket(path) => self.check_socket(at, path),
            Place::Sentinel(sentinel) => sentinel.check(&format!("{at}.sentinel")),
            Place::Cluster([]) => wrong(&format!("{at}.addresses is empty: cluster_mode needs at least one node's host:port")),
            Place::Cluster(_) if self.db != 0 => {
                wrong(&format!("{at}.db must be 0 with cluster_mode: a Redis Cluster has no other database"))
            }
            Place::Cluster(_) if !self.tls.server_name.is_empty() => wrong(&format!(
                "{at}.tls.server_name is for one server: each node of a cluster is asked for the name that it announces \
                 (cluster-announce-hostname)"
            )),
            Place::Cluster(addresses) => addresses.iter().try_for_each(|address| check_address(at, address)),
        }
    }

    fn check_socket(&self, at: &str, path: &Path) -> Result<()> {
        if !path.is_absolute() {
            return wrong(&format!("{at}.address: the path behind {SOCKET} must be absolute: {SOCKET}/run/redis/redis.sock"));
        }
        if self.tls.enabled {
            return wrong(&format!("{at}.tls.enabled is true, but a socket of this machine speaks no TLS"));
        }
        Ok(())
    }
}

impl Sentinel {
    fn check(&self, at: &str) -> Result<()> {
        if self.addresses.is_empty() || self.master_name.is_empty() {
            return wrong(&format!("{at}: addresses and master_name belong together, one is missing"));
        }
        self.addresses.iter().try_for_each(|address| check_address(at, address))?;
        if !self.password.is_empty() && self.password_file.is_some() {
            return wrong(&format!("{at} has both password and password_file: keep one"));
        }
        self.tls.check(&format!("{at}.tls"))
    }
}

impl Tls {
    fn check(&self, at: &str) -> Result<()> {
        if self.cert_file.is_some() != self.key_file.is_some() {
            return wrong(&format!("{at}: cert_file and key_file belong together, one is missing"));
        }
        let has_more =
            [&self.ca_file, &self.cert_file].into_iter().any(Option::<PathBuf>::is_some) || !self.server_name.is_empty();
        if !self.enabled && has_more {
            return wrong(&format!("{at} has files or a server_name but is not enabled: add enabled: true"));
        }
        Ok(())
    }
}

fn check_address(at: &str, address: &str) -> Result<()> {
    // Not quoted where a password may be in it.
    if address.contains("://") {
        return wrong(&format!(
            "{at}: an address is host:port, without a scheme ({SOCKET}PATH, in address, is a socket). What a URL says has settings of \
             its own: tls.enabled: true for rediss, username, password_file and db"
        ));
    }
    if address.contains('@') {
        return wrong(&format!(
            "{at}: an address is host:port; user and password have settings of their own, username and password_file"
        ));
    }
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    match address.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && is_port(port) => {
            let is_in_brackets = host.starts_with('[') && host.ends_with(']');
            if host.contains(':') && !is_in_brackets {
                return wrong(&format!("{at}: {address:?} is not host:port: an IPv6 address stands in brackets, as [::1]:6379"));
            }
            Ok(())
        }
        _ => wrong(&format!("{at}: {address:?} is not host:port")),
    }
}
