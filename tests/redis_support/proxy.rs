//! A network between client and server that loses replies and delivers requests late. Only scripts are meddled with.

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
}

#[derive(Default)]
struct State {
    faults: Vec<Fault>,
    held: Option<(TcpStream, Vec<u8>)>,
}

/// The proxy; its threads end with the process.
pub struct Proxy {
    pub address: String,
    state: Arc<Mutex<State>>,
}

impl Proxy {
    pub fn start(server: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(Mutex::new(State::default()));
        let (for_thread, server) = (Arc::clone(&state), server.to_owned());
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, state) = (client.unwrap(), Arc::clone(&for_thread));
                let Ok(server) = TcpStream::connect(&server) else { continue };
                server.set_nodelay(true).unwrap();
                client.set_nodelay(true).unwrap();
                std::thread::spawn(move || serve(client, server, &state));
            }
        });
        Proxy { address, state }
    }

    /// The next script's reply is lost; `meanwhile` happens after it ran and before the client notices.
    pub fn lose_reply(&self, meanwhile: impl FnOnce() + Send + 'static) {
        self.state.lock().unwrap().faults.push(Fault::LoseReply(Box::new(meanwhile)));
    }

    /// The next script is kept back.
    pub fn hold_request(&self) {
        self.state.lock().unwrap().faults.push(Fault::HoldRequest);
    }

    /// Delivers what was kept back, and returns the server's reply.
    pub fn deliver(&self) -> String {
        let (mut server, request) = self.state.lock().unwrap().held.take().expect("a request was held");
        server.write_all(&request).unwrap();
        server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut reply = [0; 4096];
        let length = server.read(&mut reply).unwrap();
        String::from_utf8_lossy(&reply[..length]).into_owned()
    }

    /// Whether every fault came to pass.
    pub fn is_done(&self) -> bool {
        self.state.lock().unwrap().faults.is_empty()
    }
}

/// Requests and replies of one connection: the client waits for each reply, so they alternate.
fn serve(mut client: TcpStream, mut server: TcpStream, state: &Mutex<State>) {
    let mut buffer = vec![0; 1 << 20];
    loop {
        let Ok(length @ 1..) = client.read(&mut buffer) else { return };
        let is_script = buffer[..length].windows(4).any(|word| word == b"EVAL");
        let fault = if is_script { state.lock().unwrap().faults.pop() } else { None };
        if let Some(Fault::HoldRequest) = fault {
            state.lock().unwrap().held = Some((server, buffer[..length].to_vec()));
            // The client gives up.
            while client.read(&mut buffer).is_ok_and(|length| length > 0) {}
            return;
        }
        if server.write_all(&buffer[..length]).is_err() {
            break;
        }
        let Ok(length @ 1..) = server.read(&mut buffer) else { break };
        if let Some(Fault::LoseReply(meanwhile)) = fault {
            meanwhile();
            break;
        }
        if client.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
}
