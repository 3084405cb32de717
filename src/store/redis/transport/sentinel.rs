//! Redis Sentinel: several processes that watch a master and its replicas, and agree on a new master when the old one fails.
//!
//! Invariants:
//! - Nobody is believed to be the master because it was one: each new connection asks the Sentinels, and then the server itself
//!   (`single.rs`), which must call itself the master.
//! - Of Sentinels that disagree, the one that knows of the latest fail-over is believed (`config-epoch`): one that is cut off does not
//!   lead back to the old master while others answer. They are asked at once, and a majority's answers are enough.
//! - A connection is used again only while it leads to the master, as far as is known. That is looked at anew every [`LOOK_AGAIN`],
//!   beside the callers.
//! - A caller waits no longer than its deadline, whatever Sentinels hang (`errand.rs`).
//!
//! Faults survived: Sentinels that are gone, hang, are cut off, do not know the master; a fail-over, also one that begins or ends while
//! a caller waits; a master that was replaced and does not know.
//!
//! Not survived: a master that is cut off from its replicas and the Sentinels together with this process goes on until Redis itself stops
//! that (`min-replicas-to-write`; `warnings.rs` warns where it is not set). No client can notice.

use std::collections::HashMap;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redis::FromRedisValue as _;

use super::super::errors::{Failure, explain};
use super::attempt::Attempt;
use super::credentials::{Credentials, Reader};
use super::errand::{Errand, Missing};
use super::names::{Name, Names};
use super::target::{Target, host_and_port};
use super::wire::{Connection, TlsName};
use crate::config;
use crate::error::{Code, Error, Result};

/// So long after the Sentinels were asked, a connection that is there is used without a new look.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The Sentinels of one master. Safe from any thread.
pub(super) struct Sentinels {
    asked: Arc<Asked>,
    errand: Errand<Arc<Name>, Error>,
    looked: Mutex<Instant>,
}

/// What it takes to ask them.
struct Asked {
    settings: config::Sentinel,
    sentinels: Vec<Arc<Name>>,
    names: Arc<Names>,
    credentials: Reader,
    patience: Duration,
}

/// What a Sentinel says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store::redis) struct Opinion {
    /// Host and port of the master.
    pub master: (String, u16),
    /// The number of the last fail-over that it knows of.
    pub epoch: u64,
}

impl Sentinels {
    /// Of these settings.
    pub(super) fn new(settings: &Arc<config::Redis>, names: &Arc<Names>) -> Result<Sentinels> {
        let name = |address: &String| host_and_port(address).map(|(host, port)| names.name(&host, port));
        let asked = Arc::new(Asked {
            sentinels: settings.sentinel.addresses.iter().map(name).collect::<Result<_>>()?,
            names: Arc::clone(names),
            credentials: Reader::of_sentinels(&settings.sentinel),
            settings: settings.sentinel.clone(),
            // What is left is for the master.
            patience: settings.timeouts.connect / 2,
        });
        let work = Arc::clone(&asked);
        let errand = Errand::new("atlock-sentinel", move || work.master());
        Ok(Sentinels { asked, errand, looked: Mutex::new(Instant::now()) })
    }

    /// Whom they call the master now.
    pub(super) fn master(&self, deadline: Instant) -> Attempt<Arc<Name>> {
        *self.looked.lock() = Instant::now();
        self.errand.ask(deadline, None).map_err(|missing| match missing {
            Missing::Failed(error) => Failure::Settings(error),
            Missing::Late => Failure::not_in_time("the Sentinels did not answer in time"),
            Missing::NoThread(e) => Failure::NotSent(e.into()),
        })
    }

    /// Whether they called this address the master when they were last asked. Now and then they are asked again, and nobody waits for it.
    pub(super) fn is_master(&self, address: &str) -> bool {
        let mut looked = self.looked.lock();
        if looked.elapsed() > LOOK_AGAIN {
            *looked = Instant::now();
            self.errand.begin();
        }
        drop(looked);
        self.errand.last_good().is_none_or(|master| master.to_string() == address)
    }

    /// What each of them says; for a person.
    pub(super) fn opinions(&self, deadline: Instant) -> Vec<(String, Result<Opinion>)> {
        let mut all: Vec<_> = self.asked.ask(deadline).collect();
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        all
    }
}

impl Asked {
    /// Asks all at once, and believes the one that knows most.
    fn master(&self) -> Result<Arc<Name>> {
        let (mut opinions, mut errors) = (Vec::new(), Vec::new());
        for (_, answer) in self.ask(Instant::now() + self.patience) {
            match answer {
                Ok(opinion) => opinions.push(opinion),
                Err(error) => errors.push(error),
            }
            if opinions.len() > self.sentinels.len() / 2 {
                break;
            }
        }
        match latest(opinions) {
            Some(Opinion { master: (host, port), .. }) => Ok(self.names.name(&host, port)),
            None => Err(self.nobody_knows(&errors)),
        }
    }

    /// The answers as they come, until the deadline.
    fn ask(&self, deadline: Instant) -> Answers {
        let (tell, answers) = mpsc::channel();
        let credentials = self.credentials.read(deadline);
        for sentinel in &self.sentinels {
            let (tell, sentinel) = (tell.clone(), Arc::clone(sentinel));
            let question = credentials.clone().map(|credentials| Question {
                credentials,
                master_name: self.settings.master_name.clone(),
                server_name: self.settings.tls.server_name.clone(),
            });
            // Who asked may have enough answers: then nobody listens.
            let (unspawned, unasked) = (tell.clone(), sentinel.to_string());
            let ask = move || {
                let answer = question.and_then(|question| question.ask(&sentinel, deadline));
                let answer = answer.map_err(|failure| {
                    let error = explain(&failure, &sentinel.to_string());
                    Error::new(error.code(), error.message().replacen("Redis at ", "the Sentinel ", 1))
                });
                let _ = tell.send((sentinel.to_string(), answer));
            };
            if let Err(e) = std::thread::Builder::new().name("atlock-sentinel".to_owned()).spawn(ask) {
                let text = format!("the Sentinel {unasked} was not asked, for its thread: {e}");
                let _ = unspawned.send((unasked, Err(Error::new(Code::Unreachable, text))));
            }
        }
        Answers { answers, deadline }
    }

    fn nobody_knows(&self, errors: &[Error]) -> Error {
        // Whoever answers, and refuses, says more than whoever does not answer.
        let says_most = errors.iter().find(|error| error.code() != Code::Unreachable).or(errors.first());
        let (code, why) = match says_most {
            Some(error) => (error.code(), error.message()),
            None => (Code::Unreachable, "none answered in time"),
        };
        let (name, addresses) = (&self.settings.master_name, self.settings.addresses.join(", "));
        Error::new(code, format!("none of the Sentinels {addresses} (redis.sentinel) tells who the master {name} is: {why}"))
    }
}

/// Of those that answered, the one that knows of the latest fail-over.
fn latest(opinions: Vec<Opinion>) -> Option<Opinion> {
    opinions.into_iter().max_by_key(|opinion| opinion.epoch)
}

/// Answers of threads, until a deadline.
struct Answers {
    answers: mpsc::Receiver<(String, Result<Opinion>)>,
    deadline: Instant,
}

impl Iterator for Answers {
    type Item = (String, Result<Opinion>);

    fn next(&mut self) -> Option<Self::Item> {
        self.answers.recv_timeout(self.deadline.saturating_duration_since(Instant::now())).ok()
    }
}

struct Question {
    credentials: Arc<Credentials>,
    master_name: String,
    server_name: String,
}

impl Question {
    fn ask(&self, sentinel: &Name, deadline: Instant) -> Attempt<Opinion> {
        let target = Target::of(sentinel, deadline)?;
        let tls = TlsName::of(&self.credentials, &self.server_name, &target.host).map_err(Failure::Settings)?;
        let mut connection = Connection::connect(target, tls, deadline)?;
        connection.authenticate(&self.credentials.username, &self.credentials.password)?;
        let mut command = redis::cmd("SENTINEL");
        command.arg("MASTER").arg(&self.master_name);
        let reply = connection.query(&command).map_err(Failure::after_sending)?;
        let told = HashMap::<String, String>::from_redis_value(reply).map_err(|e| Failure::Refused(e.into()))?;
        let field = |name: &str| {
            let missing = || Error::new(Code::Protocol, format!("the Sentinel {sentinel} does not tell the master's {name}"));
            told.get(name).ok_or_else(|| Failure::Settings(missing()))
        };
        let port = field("port")?.parse().unwrap_or(0);
        let epoch = field("config-epoch")?.parse().unwrap_or(0);
        Ok(Opinion { master: (field("ip")?.clone(), port), epoch })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_knows_of_the_latest_fail_over_is_believed() {
        let opinion = |port: u16, epoch: u64| Opinion { master: ("127.0.0.1".to_owned(), port), epoch };
        assert_eq!(latest(vec![opinion(1, 3), opinion(2, 4), opinion(1, 3)]), Some(opinion(2, 4)));
        assert_eq!(latest(Vec::new()), None);
    }
}
