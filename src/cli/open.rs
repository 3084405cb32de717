//! Who answers: the running server, or, without it, the stores.

use std::sync::Arc;

use atlock::audit::Actor;
use atlock::clock::SystemClock;
use atlock::config::{Backend, Config, Mode};
use atlock::error::{Code, Error, Result};
use atlock::look::{REDIS_ALONE, refuse_stocks};
use atlock::service::Service;
use atlock::socket::{Client, SocketOperation};

use super::remark::remark;
use super::remote::Remote;

/// Who answers.
pub enum Source {
    /// The running server.
    Server(Client),
    /// A server that is asked from another machine.
    Remote(Remote),
    /// The stores, opened by this process.
    Stores(Service),
}

impl Source {
    /// Finds the server of a configuration, or opens its stores: to look at them, or to change what is in them.
    pub fn open(config: Config, changes: bool) -> Result<Source> {
        if let Some(client) = server(&config)? {
            return Ok(Source::Server(client));
        }
        let service = if changes { open_to_change(config) } else { open_to_look(&config) };
        service.map(Source::Stores).map_err(|e| match e.code() {
            Code::StoreBusy => Error::new(
                Code::StoreBusy,
                format!("{e}. That server has no socket there by which it could be asked; if it is an atlock server, its status says why, or its locking.socket is off"),
            ),
            _ => e,
        })
    }

    /// Finds the server of a configuration. Errors: `Unreachable` if none runs.
    pub fn running(config: &Config) -> Result<Source> {
        let text = "no server listens in locking.data_dir: start it, or give another machine's by --server";
        server(config)?.map(Source::Server).ok_or_else(|| Error::new(Code::Unreachable, text))
    }

    /// Asks for one of [`atlock::socket::OPERATIONS`]; `input` and the answer are JSON.
    pub fn ask(&mut self, operation: &str, input: &str) -> Result<Vec<u8>> {
        match self {
            Source::Server(client) => client.ask(SocketOperation::named(operation)?, input.as_bytes()),
            Source::Remote(remote) => remote.ask(operation, input),
            Source::Stores(service) => SocketOperation::named(operation)?.run(service, input.as_bytes()),
        }
    }

    /// Ends it, and says whether that went well.
    pub fn close(self) -> Result<()> {
        match self {
            Source::Server(_) | Source::Remote(_) => Ok(()),
            Source::Stores(service) => service.close(),
        }
    }
}

/// What names a lock by its key.
pub fn target(key: &str) -> String {
    serde_json::json!({ "Key": key }).to_string()
}

/// The server that listens in the configuration's folder.
fn server(config: &Config) -> Result<Option<Client>> {
    let Some(folder) = &config.locking.data_dir else { return Ok(None) };
    match Client::connect(folder) {
        // Redis is enough, and this user may have its password.
        Err(e) if e.code() == Code::Permission && config.mode() == Mode::Native => Ok(None),
        result => result,
    }
}

fn open_to_look(config: &Config) -> Result<Service> {
    let service = Service::open_read_only(config, Arc::new(SystemClock))?;
    if let Some(source) = service.source() {
        remark(source);
    }
    Ok(service)
}

/// Opens what the settings name; beside a server in hybrid mode that has the local store open and no socket, Redis alone.
fn open_to_change(mut config: Config) -> Result<Service> {
    config.locking.audit = config.locking.audit.of_command()?;
    let open = |config: &Config| {
        Service::open(config, None, Arc::new(SystemClock)).map(|service| service.acting_as(Actor::this_process()))
    };
    refuse_stocks(&config)?;
    if config.mode() != Mode::Hybrid {
        return open(&config);
    }
    // The command line does not need the BoltDB file, which is the server's.
    config.locking.backend = Backend::Sled;
    match open(&config) {
        Err(e) if e.code() == Code::StoreBusy => {
            remark(REDIS_ALONE);
            config.locking.enhanced.compatibility_mode = Mode::Native;
            config.locking.data_dir = None;
            open(&config)
        }
        result => result,
    }
}
