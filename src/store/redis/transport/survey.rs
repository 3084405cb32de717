//! What one node of a cluster tells before the cluster's client is made: whether this user is let in, and where the masters are.
//!
//! The client itself says of a node that it cannot reach no more than that there is none.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{FromRedisValue as _, Value};

use super::super::errors::Failure;
use super::attempt::Attempt;
use super::credentials::Credentials;
use super::names::Names;
use super::single::CertificateEnds;
use super::target::{Target, host_and_port};
use super::wire::{Connection, LogIn, TlsName};
use crate::config;

/// What was found.
pub(super) struct Survey {
    /// Masters that it announces, and that take no connection from here.
    pub unreachable: Vec<String>,
    pub ends: CertificateEnds,
}

/// Asks the first node that answers. Each has its share of the time.
pub(super) fn survey(
    settings: &config::Redis,
    credentials: &Credentials,
    names: &Arc<Names>,
    deadline: Instant,
) -> Attempt<Survey> {
    let mut failed = Failure::not_in_time("no time is left");
    for (nth, address) in settings.addresses.iter().enumerate() {
        let share = deadline.saturating_duration_since(Instant::now())
            / u32::try_from(settings.addresses.len() - nth + 1).unwrap_or(u32::MAX);
        match ask(address, credentials, names, Instant::now() + share) {
            Ok((mut connection, host)) => {
                let reply = connection.query(redis::cmd("CLUSTER").arg("SLOTS")).map_err(Failure::after_sending)?;
                let clients = credentials.tls.as_ref().and_then(|tls| tls.ends);
                let ends = CertificateEnds { servers: connection.certificate_ends(), clients };
                let until = Instant::now() + deadline.saturating_duration_since(Instant::now()) / 3;
                return Ok(Survey { unreachable: unreachable(masters_of(reply)?, &host, names, until), ends });
            }
            // What a node says of the password is what each would say.
            Err(failure) if failure.is_refused_password() => return Err(failure),
            Err(failure) => failed = failure,
        }
    }
    Err(failed)
}

fn ask(address: &str, credentials: &Credentials, names: &Names, deadline: Instant) -> Attempt<(Connection, String)> {
    let (host, port) = host_and_port(address).map_err(Failure::Settings)?;
    let target = Target::of(&names.name(&host, port), deadline)?;
    let tls = TlsName::of(credentials, "", &host).map_err(Failure::Settings)?;
    let mut connection = Connection::connect(target, tls, deadline)?;
    let login = LogIn { username: &credentials.username, password: &credentials.password, db: 0, asks_role: false };
    connection.log_in(&login)?;
    Ok((connection, host))
}

/// The masters of this answer to `CLUSTER SLOTS`; one without a host is where the cluster was reached.
pub(super) fn masters_of(reply: Value) -> Attempt<Vec<(Option<String>, u16)>> {
    let unreadable = |e: redis::ParsingError| Failure::Refused(e.into());
    let mut masters = Vec::new();
    for range in Vec::<Vec<Value>>::from_redis_value(reply).map_err(unreadable)? {
        let Some(Value::Array(node)) = range.into_iter().nth(2) else { continue };
        let mut node = node.into_iter();
        if let (Some(host), Some(port)) = (node.next(), node.next()) {
            let host = Option::<String>::from_redis_value(host).map_err(unreadable)?.filter(|host| !host.is_empty());
            let master = (host, u16::from_redis_value(port).map_err(unreadable)?);
            if !masters.contains(&master) {
                masters.push(master);
            }
        }
    }
    Ok(masters)
}

/// Those that take no connection, asked all at once.
fn unreachable(masters: Vec<(Option<String>, u16)>, reached: &str, names: &Names, deadline: Instant) -> Vec<String> {
    let takes_none = |host: &str, port: u16| -> Option<String> {
        let name = names.name(host, port);
        let addresses = name.addresses(deadline);
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let connected = addresses.and_then(|addresses| match addresses.first() {
            Some(address) => TcpStream::connect_timeout(address, left),
            None => Err(io::Error::from(io::ErrorKind::NotFound)),
        });
        connected.err().map(|e| format!("{name} ({e})"))
    };
    std::thread::scope(|scope| {
        let asked: Vec<_> =
            masters.iter().map(|(host, port)| scope.spawn(|| takes_none(host.as_deref().unwrap_or(reached), *port))).collect();
        asked.into_iter().filter_map(|asked| asked.join().ok().flatten()).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(host: Value, port: u16) -> Value {
        Value::Array(vec![Value::Int(0), Value::Int(1), Value::Array(vec![host, Value::Int(i64::from(port))])])
    }

    #[test]
    fn a_node_without_a_host_is_where_the_cluster_was_reached() {
        let told = vec![node(Value::Nil, 1), node(Value::BulkString(Vec::new()), 2), node(Value::BulkString(b"a".to_vec()), 3)];
        let masters = masters_of(Value::Array(told)).expect("is read");
        assert_eq!(masters, [(None, 1), (None, 2), (Some("a".to_owned()), 3)]);
    }
}
