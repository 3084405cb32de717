//! A server, found: what a connection needs to know of it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;

use super::super::errors::Failure;
use super::attempt::Attempt;
use super::names::Name;
use crate::error::{Code, Error, Result};

/// A server that can be connected to.
pub(super) struct Target {
    pub way: Way,
    /// The name that its certificate must have.
    pub host: String,
    /// How it is called in texts.
    pub address: String,
}

/// How it is reached.
pub(super) enum Way {
    Addresses(Vec<SocketAddr>),
    Socket(PathBuf),
}

impl Target {
    /// The server of a name.
    pub(super) fn of(name: &Name, deadline: Instant) -> Attempt<Target> {
        let addresses = name.addresses(deadline).map_err(|e| Failure::NotSent(e.into()))?;
        Ok(Target { way: Way::Addresses(addresses), host: name.host().to_owned(), address: name.to_string() })
    }
}

/// The parts of `host:port`; an IPv6 address is in brackets.
pub(super) fn host_and_port(address: &str) -> Result<(String, u16)> {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, "6379"));
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = port.parse().map_err(|_| Error::new(Code::InvalidConfig, format!("{address:?} is not host:port")))?;
    Ok((host, port))
}
