//! A network between client and server that loses replies and delivers requests late. Scripts are meddled with, and other
//! commands by name.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

type Meddle = Box<dyn FnOnce() + Send>;

enum Fault {
    /// The next script's reply is lost, and the connection with it. Before the client notices, this is called.
    LoseReply(Meddle),
    /// The next script is kept until [`Proxy::deliver`].
    HoldRequest,
    /// The next script is left alone.
    Pass,
    /// This is called before the next script is passed on.
    Before(Meddle),
}

/// What happens to a command of this name, when so many of that name have passed.
struct Named {
    name: &'static str,
    to_pass: usize,
    meddle: Meddle,
}

#[derive(Default)]
struct State {
    faults: Vec<Fault>,
    named: Option<Named>,
    held: Option<Vec<u8>>,
}

/// The proxy; its threads end with the process.
pub struct Proxy {
    pub address: String,
    server: String,
    state: Arc<Mutex<State>>,
}

impl Proxy {
    pub fn start(server: &str) -> Proxy {
        Proxy::far(server, Duration::ZERO)
    }

    /// Each request reaches the server this much later.
    pub fn far(server: &str, delay: Duration) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(Mutex::new(State::default()));
        let (for_thread, address_of_server) = (Arc::clone(&state), server.to_owned());
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, state) = (client.unwrap(), Arc::clone(&for_thread));
                let Ok(server) = TcpStream::connect(&address_of_server) else { continue };
                server.set_nodelay(true).unwrap();
                client.set_nodelay(true).unwrap();
                std::thread::spawn(move || serve(client, server, &state, delay));
            }
        });
        Proxy { address, server: server.to_owned(), state }
    }

    /// The next script's reply is lost; `meanwhile` happens after it ran and before the client notices.
    pub fn lose_reply(&self, meanwhile: impl FnOnce() + Send + 'static) {
        self.state.lock().unwrap().faults.push(Fault::LoseReply(Box::new(meanwhile)));
    }

    /// The reply of the script after the next one is lost, as by [`Proxy::lose_reply`].
    pub fn lose_second_reply(&self, meanwhile: impl FnOnce() + Send + 'static) {
        self.lose_reply(meanwhile);
        self.state.lock().unwrap().faults.push(Fault::Pass);
    }

    /// Before the next script is passed on, this is called.
    pub fn before(&self, meanwhile: impl FnOnce() + Send + 'static) {
        self.state.lock().unwrap().faults.push(Fault::Before(Box::new(meanwhile)));
    }

    /// Before the script after the next one is passed on, this is called.
    pub fn before_second(&self, meanwhile: impl FnOnce() + Send + 'static) {
        self.before(meanwhile);
        self.state.lock().unwrap().faults.push(Fault::Pass);
    }

    /// When so many commands of this name have passed, the reply of the next one is lost, as by [`Proxy::lose_reply`].
    pub fn lose_reply_of(&self, name: &'static str, to_pass: usize, meanwhile: impl FnOnce() + Send + 'static) {
        self.state.lock().unwrap().named = Some(Named { name, to_pass, meddle: Box::new(meanwhile) });
    }

    /// The next script is kept back.
    pub fn hold_request(&self) {
        self.state.lock().unwrap().faults.push(Fault::HoldRequest);
    }

    /// Delivers what was kept back, and returns the server's reply.
    pub fn deliver(&self) -> String {
        let request = self.state.lock().unwrap().held.take().expect("a request was held");
        let mut server = TcpStream::connect(&self.server).unwrap();
        server.write_all(&request).unwrap();
        server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut reply = [0; 4096];
        let length = server.read(&mut reply).unwrap();
        String::from_utf8_lossy(&reply[..length]).into_owned()
    }

    /// Whether every fault came to pass.
    pub fn is_done(&self) -> bool {
        let state = self.state.lock().unwrap();
        state.faults.is_empty() && state.named.is_none()
    }
}

fn named_fault(state: &Mutex<State>, request: &[u8]) -> Option<Fault> {
    let mut state = state.lock().unwrap();
    let named =
        state.named.as_mut().filter(|named| request.windows(named.name.len()).any(|word| word == named.name.as_bytes()))?;
    if named.to_pass > 0 {
        named.to_pass -= 1;
        return None;
    }
    state.named.take().map(|named| Fault::LoseReply(named.meddle))
}

/// Passes requests on; replies are another thread's.
fn serve(mut client: TcpStream, mut server: TcpStream, state: &Mutex<State>, delay: Duration) {
    let lost: Arc<Mutex<Option<Meddle>>> = Arc::default();
    let (for_replies, to_client, from_server) = (Arc::clone(&lost), client.try_clone().unwrap(), server.try_clone().unwrap());
    std::thread::spawn(move || reply(from_server, to_client, &for_replies));
    let mut buffer = vec![0; 1 << 20];
    while let Ok(length @ 1..) = client.read(&mut buffer) {
        let is_script = buffer[..length].windows(4).any(|word| word == b"EVAL");
        let fault = if is_script { state.lock().unwrap().faults.pop() } else { named_fault(state, &buffer[..length]) };
        match fault {
            Some(Fault::HoldRequest) => {
                state.lock().unwrap().held = Some(buffer[..length].to_vec());
                // The client gives up.
                while client.read(&mut buffer).is_ok_and(|length| length > 0) {}
                break;
            }
            Some(Fault::LoseReply(meanwhile)) => *lost.lock().unwrap() = Some(meanwhile),
            Some(Fault::Before(meanwhile)) => meanwhile(),
            Some(Fault::Pass) | None => {}
        }
        std::thread::sleep(delay);
        if server.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
}

fn reply(mut server: TcpStream, mut client: TcpStream, lost: &Mutex<Option<Meddle>>) {
    let mut buffer = vec![0; 1 << 20];
    while let Ok(length @ 1..) = server.read(&mut buffer) {
        if let Some(meanwhile) = lost.lock().unwrap().take() {
            meanwhile();
            break;
        }
        if client.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
}
