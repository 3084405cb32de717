//! The simulated connection fails as the real one does: both meet the same servers, one after the other, and what is told must be the
//! same: whether the command was sent, whether to send it again, and which error a caller sees.

use std::io::Write as _;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redis::{Cmd, Parser, Value};

use super::super::errors::{Failure, explain, timed_out};
use super::attempt::Attempt;
use super::names::Names;
use super::simulated::{Link, Simulated, Undelivered};
use super::single::Single;
use crate::clock::{Clock, SystemClock};
use crate::config;

/// What a server does while a command is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Server {
    Answers,
    Refuses,
    Away,
    HangsAtLogin,
    BreaksAtLogin,
    Hangs,
    Breaks,
    /// At the second command since it became that.
    BreaksSecond,
}

use Server::{Answers, Away, Breaks, BreaksAtLogin, BreaksSecond, Hangs, HangsAtLogin, Refuses};

const ALL: [Server; 8] = [Answers, Refuses, Away, HangsAtLogin, BreaksAtLogin, Hangs, Breaks, BreaksSecond];

impl Server {
    fn deadline(self) -> Instant {
        let patience = if matches!(self, HangsAtLogin | Hangs) { 500 } else { 10_000 };
        Instant::now() + Duration::from_millis(patience)
    }

    /// What comes of a command before which `nth` came since it is that: an answer, or what the link tells.
    fn outcome(self, nth: usize, is_login: bool) -> Result<&'static str, Undelivered> {
        match self {
            Away => Err(Undelivered::Refused),
            HangsAtLogin if is_login => Err(Undelivered::TimedOut),
            BreaksAtLogin if is_login => Err(Undelivered::Lost),
            Hangs if !is_login => Err(Undelivered::TimedOut),
            Breaks if !is_login => Err(Undelivered::Lost),
            BreaksSecond if !is_login && nth == 1 => Err(Undelivered::Lost),
            _ if is_login => Ok("*2\r\n$10\r\n1800000000\r\n$1\r\n0\r\n"),
            Refuses => Ok("-OOM command not allowed\r\n"),
            _ => Ok("+OK\r\n"),
        }
    }
}

/// A server that becomes another one. It has a loopback address of its own: nobody takes its port while it is away.
struct Fake {
    address: SocketAddr,
    now: Arc<Mutex<Now>>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    accepting: Option<thread::JoinHandle<()>>,
}

impl Fake {
    fn start() -> Fake {
        static STARTED: AtomicU8 = AtomicU8::new(1);
        let own = Ipv4Addr::new(127, 9, STARTED.fetch_add(1, Ordering::SeqCst), 1);
        let listener = TcpListener::bind((own, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut fake = Fake { address, now: Arc::new(Mutex::new(Now(Answers, 0))), open: Arc::default(), accepting: None };
        fake.accept(listener);
        fake
    }

    fn accept(&mut self, listener: TcpListener) {
        let (now, open) = (Arc::clone(&self.now), Arc::clone(&self.open));
        self.accepting = Some(thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if now.lock().0 == Away {
                    return;
                }
                open.lock().push(stream.try_clone().expect("is cloned"));
                let now = Arc::clone(&now);
                thread::spawn(move || serve(stream, &now));
            }
        }));
    }

    fn become_(&mut self, next: Server) {
        *self.now.lock() = Now(next, 0);
        if next == Away {
            let Some(accepting) = self.accepting.take() else { return };
            TcpStream::connect(self.address).expect("still listens");
            accepting.join().expect("ends");
            self.open.lock().drain(..).for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
        } else if self.accepting.is_none() {
            let listener = TcpListener::bind(self.address).expect("the port is free");
            self.accept(listener);
        }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.become_(Away);
    }
}

/// A server, and how many commands it has met as that, log-ins not counted.
#[derive(Debug)]
struct Now(Server, usize);

impl Now {
    fn outcome(&mut self, is_login: bool) -> Result<&'static str, Undelivered> {
        let outcome = self.0.outcome(self.1, is_login);
        self.1 += usize::from(!is_login);
        outcome
    }
}

fn serve(mut stream: TcpStream, now: &Mutex<Now>) {
    let mut parser = Parser::new();
    while let Ok(Value::Array(words)) = parser.parse_value(&mut stream) {
        let outcome = now.lock().outcome(words[0] == Value::BulkString(b"TIME".to_vec()));
        match outcome {
            Ok(answer) => stream.write_all(answer.as_bytes()).expect("is sent"),
            Err(Undelivered::TimedOut) => {}
            Err(_) => break,
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
}

/// The simulated one's.
#[derive(Debug)]
struct FakeLink(Mutex<Now>);

impl Link for FakeLink {
    fn send(&self, command: &[Vec<u8>], deadline: Instant) -> Result<Value, Undelivered> {
        let outcome = self.0.lock().outcome(command[0] == b"TIME");
        if outcome == Err(Undelivered::TimedOut) {
            SystemClock.sleep(deadline.saturating_duration_since(Instant::now()));
        }
        outcome.map(|answer| redis::parse_redis_value(answer.as_bytes()).expect("is a reply"))
    }
}

/// What a caller makes of it.
fn told(attempt: &Attempt<Value>) -> String {
    match attempt {
        Ok(value) => format!("{value:?}"),
        Err(failure) => format!(
            "unsent {}, lost {}, again {}, soon {}, left behind {:?}, {:?}",
            failure.is_unsent(),
            failure.is_lost(),
            failure.may_be_repeated(),
            failure.is_passing(),
            std::mem::discriminant(&failure.clone().left_behind()) == std::mem::discriminant(&Failure::LeftBehind { sent: true }),
            explain(failure, "here").code()
        ),
    }
}

fn settings(address: SocketAddr) -> config::Redis {
    let mut settings = config::Redis { address: address.to_string(), ..config::Redis::default() };
    settings.timeouts.connect = Duration::from_secs(10);
    settings
}

/// What each of these servers, one after the other, makes both say: to a single command, or to three in one round trip.
fn compare(servers: &[Server], count: usize) {
    let mut fake = Fake::start();
    let settings = settings(fake.address);
    let single = Single::new(Arc::new(settings.clone()), &Names::of_the_system()).expect("is made");
    let link = Arc::new(FakeLink(Mutex::new(Now(Answers, 0))));
    let simulated = Simulated::new(Arc::<FakeLink>::clone(&link), Arc::new(SystemClock), settings.timeouts.connect);
    let commands: Vec<Cmd> = (0..count).map(|_| redis::cmd("PING")).collect();
    for (nth, server) in servers.iter().enumerate() {
        fake.become_(*server);
        *link.0.lock() = Now(*server, 0);
        let (real, imitated) = match &commands[..] {
            [command] => (vec![single.query(command, server.deadline())], vec![simulated.query(command, server.deadline())]),
            all => (single.query_all(all, server.deadline()), simulated.query_all(all, server.deadline())),
        };
        let told = |attempts: &[Attempt<Value>]| attempts.iter().map(told).collect::<Vec<_>>();
        assert_eq!(told(&imitated), told(&real), "{:?}: simulated, then real", &servers[..=nth]);
    }
}

#[test]
fn a_simulated_connection_fails_as_a_real_one_does() {
    thread::scope(|scope| {
        for first in ALL {
            for second in ALL {
                scope.spawn(move || compare(&[first, second, Answers], 1));
            }
        }
        for server in ALL {
            scope.spawn(move || compare(&[server, Answers, server], 3));
        }
    });
}

#[test]
fn what_is_too_late_is_not_sent() {
    let link = Arc::new(FakeLink(Mutex::new(Now(Answers, 0))));
    let simulated = Simulated::new(link, Arc::new(SystemClock), Duration::from_secs(1));
    let late = simulated.query(&redis::cmd("PING"), Instant::now());
    assert_eq!(told(&late), told(&Err(Failure::NotSent(timed_out("late")))));
    simulated.close();
    assert!(matches!(simulated.query(&redis::cmd("PING"), Answers.deadline()), Err(Failure::Closed)));
}
