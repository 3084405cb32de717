//! A redis-server in a network namespace of its own, behind a link that can be cut. Needs root.

use std::process::{Child, Command, Stdio};

use crate::redis_support::{die_with_the_test, free_port};
use crate::wait::wait_until;

/// The namespace, the link and the server; gone on drop.
pub struct Network {
    name: String,
    /// The third number of its addresses.
    net: u8,
    port: u16,
    server: Child,
    folder: tempfile::TempDir,
}

impl Network {
    pub fn start() -> Network {
        // Names and addresses of this process alone: two runs at once do not meet.
        let (name, net) = (format!("atlock{}", std::process::id()), (std::process::id() % 250) as u8);
        let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
        ip(&format!("netns add {name}"));
        let server = Command::new("ip").args(["netns", "exec", &name, "true"]).spawn().expect("ip was there just now");
        let mut network = Network { name, net, port, server, folder };
        let Network { name, net, .. } = &network;
        ip(&format!("link add {name}h type veth peer name {name}s netns {name}"));
        ip(&format!("address add 198.18.{net}.1/30 dev {name}h"));
        ip(&format!("link set {name}h up"));
        ip(&format!("-n {name} address add 198.18.{net}.2/30 dev {name}s"));
        ip(&format!("-n {name} link set {name}s up"));
        let mut command = Command::new("ip");
        command.args([
            "netns",
            "exec",
            name,
            "redis-server",
            "--protected-mode",
            "no",
            "--save",
            "",
            "--port",
            &port.to_string(),
        ]);
        command.arg("--dir").arg(network.folder.path()).stdin(Stdio::null()).stdout(Stdio::null());
        network.server.wait().unwrap();
        network.server = die_with_the_test(&mut command).spawn().unwrap();
        wait_until("redis-server in a namespace is up", std::time::Duration::from_secs(10), || {
            std::net::TcpStream::connect(network.address()).is_ok()
        });
        network
    }

    pub fn address(&self) -> String {
        format!("198.18.{}.2:{}", self.net, self.port)
    }

    /// The server's end of the link `up` or `down`: packets vanish without an answer.
    pub fn set(&self, state: &str) {
        ip(&format!("-n {0} link set {0}s {state}", self.name));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        // The link goes with it.
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    let output = output.unwrap_or_else(|e| panic!("this test needs ip: install iproute2 ({e})"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "this test needs a network namespace: run it as root, with CAP_SYS_ADMIN and CAP_NET_ADMIN. ip {arguments}: {error}"
    );
}
