//! A network between client and server that is slow, or breaks connections; unlike `redis_support::proxy` it passes on whatever
//! comes, in both directions at once.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[derive(Debug, Default)]
struct State {
    /// How long a reply takes, milliseconds.
    latency: AtomicU64,
    /// One in so many requests breaks its connection instead of arriving; another one of them breaks it instead of its reply.
    resets: AtomicU64,
    seen: AtomicU64,
}

/// The line; its threads end with the process.
pub struct Line {
    pub address: String,
    state: Arc<State>,
}

impl Line {
    pub fn to(server: &str) -> Line {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::<State>::default();
        let (for_thread, server) = (Arc::clone(&state), server.to_owned());
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                let Ok(server) = TcpStream::connect(&server) else { continue };
                for (from, to, is_reply) in [(&client, &server, false), (&server, &client, true)] {
                    from.set_nodelay(true).unwrap();
                    let (from, to, state) = (from.try_clone().unwrap(), to.try_clone().unwrap(), Arc::clone(&for_thread));
                    std::thread::spawn(move || pass_on(from, to, is_reply, &state));
                }
            }
        });
        Line { address, state }
    }

    /// From now on, a reply takes so long.
    pub fn slow_down(&self, latency: Duration) {
        self.state.latency.store(latency.as_millis() as u64, Ordering::SeqCst);
    }

    /// From now on, one in so many pieces of data breaks its connection, going or coming; 0: none.
    pub fn reset_one_in(&self, resets: u64) {
        self.state.resets.store(resets, Ordering::SeqCst);
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, is_reply: bool, state: &State) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if is_reply {
            std::thread::sleep(Duration::from_millis(state.latency.load(Ordering::SeqCst)));
        }
        let resets = state.resets.load(Ordering::SeqCst);
        if resets > 0 && state.seen.fetch_add(1, Ordering::SeqCst).is_multiple_of(resets) {
            break;
        }
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    // Either may be closed already.
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
