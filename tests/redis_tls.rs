//! TLS: certificates as they are made in haste, keys that nobody can read, names that differ, and what is about to end.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod redis_support;
mod wait;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use atlock::config;
use atlock::error::Code;
use atlock::store::Store as _;
use redis_support::{Server, certificates, fields, free_port, open, path, settings, take};
use wait::wait_for;

fn openssl(folder: &Path, script: &str) {
    let output = Command::new("sh").args(["-ec", script]).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
}

/// A server with this certificate, and its port for TLS.
fn server(folder: &Path, name: &str, more: &[&str]) -> (Server, u16) {
    let port = free_port();
    let file = |end: &str| folder.join(format!("{name}.{end}")).display().to_string();
    let (cert, key, port_text) = (file("pem"), file("key"), port.to_string());
    let args = ["--tls-port", &port_text, "--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-ca-cert-file", &cert];
    let server = Server::start(&[&args[..], &["--tls-auth-clients", "no"], more].concat());
    wait_for("it speaks TLS", Duration::from_secs(20), || std::net::TcpStream::connect(("127.0.0.1", port)));
    (server, port)
}

fn trusting(port: u16, ca_file: Option<PathBuf>, server_name: &str) -> config::Redis {
    let tls = config::Tls { enabled: true, ca_file, server_name: server_name.to_owned(), ..config::Tls::default() };
    config::Redis { tls, ..settings(&format!("127.0.0.1:{port}")) }
}

/// `openssl req -x509` makes it for an authority, and for no other use.
const SELF_SIGNED: &str = "openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=self -addext subjectAltName=IP:127.0.0.1,DNS:redis.internal \
     -keyout self.key -out self.pem";

#[test]
fn a_self_signed_certificate_that_is_pinned() {
    let folder = tempfile::tempdir().unwrap();
    openssl(folder.path(), SELF_SIGNED);
    let (_server, port) = server(folder.path(), "self", &[]);
    let store = open(&trusting(port, path(folder.path(), "self.pem"), "")).unwrap();
    take(&store, fields("a"), 1);

    let refused = |settings: &config::Redis, words: &[&str]| {
        let error = open(settings).map(drop).unwrap_err();
        assert_eq!(error.code(), Code::Tls, "{error}");
        assert!(words.iter().all(|word| error.message().contains(word)), "{error}");
    };
    // Another one, that is as good, is not this one; nor is this one good for another name.
    openssl(
        folder.path(),
        "openssl req -x509 -key self.key -days 30 -subj /CN=self -addext subjectAltName=IP:127.0.0.1 -out twin.pem",
    );
    let twin = open(&trusting(port, path(folder.path(), "twin.pem"), "")).map(drop).unwrap_err();
    assert_eq!(twin.code(), Code::Tls, "{twin}");
    refused(&trusting(port, path(folder.path(), "self.pem"), "other.internal"), &["another name"]);
    refused(&trusting(port, None, ""), &["tls.ca_file"]);
}

#[test]
fn a_pinned_certificate_that_has_expired_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    openssl(folder.path(), SELF_SIGNED);
    // The same, from before.
    openssl(
        folder.path(),
        "printf 'basicConstraints=critical,CA:TRUE\nsubjectAltName=IP:127.0.0.1\n' > ext; openssl req -new -key self.key -subj /CN=self -out self.csr; \
         touch index; echo 01 > serial; printf '[ca]\ndefault_ca=d\n[d]\ndatabase=index\nserial=serial\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n' > ca.conf; \
         openssl ca -batch -config ca.conf -selfsign -keyfile self.key -in self.csr -extfile ext -notext \
         -startdate 20200101000000Z -enddate 20210101000000Z -out self.pem",
    );
    let (_server, port) = server(folder.path(), "self", &[]);
    let error = open(&trusting(port, path(folder.path(), "self.pem"), "")).map(drop).unwrap_err();
    assert!(error.code() == Code::Tls && error.message().contains("expired"), "{error}");
}

/// The certificate has a name, and the address is a number.
#[test]
fn a_server_whose_certificate_has_another_name_than_the_address() {
    let folder = tempfile::tempdir().unwrap();
    openssl(folder.path(), &SELF_SIGNED.replace("IP:127.0.0.1,", ""));
    let (_server, port) = server(folder.path(), "self", &[]);
    let ca = path(folder.path(), "self.pem");
    assert_eq!(open(&trusting(port, ca.clone(), "")).map(drop).unwrap_err().code(), Code::Tls);
    take(&open(&trusting(port, ca, "redis.internal")).unwrap(), fields("a"), 1);
}

#[test]
fn an_encrypted_key_is_told() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    openssl(folder.path(), "openssl pkey -in client.key -aes256 -passout pass:hunter2 -out locked.key");
    openssl(folder.path(), "openssl rsa -in client.key -aes256 -traditional -passout pass:hunter2 -out old.key");
    for key in ["locked.key", "old.key"] {
        let mut settings = trusting(free_port(), path(folder.path(), "ca.pem"), "");
        settings.tls.cert_file = path(folder.path(), "client.pem");
        settings.tls.key_file = path(folder.path(), key);
        let error = open(&settings).map(drop).unwrap_err();
        assert_eq!(error.code(), Code::InvalidConfig, "{error}");
        assert!(error.message().contains(key) && error.message().contains("encrypted"), "{error}");
    }
}

/// Fourteen days before, and no longer.
#[test]
fn certificates_that_end_soon_are_told() {
    let folder = tempfile::tempdir().unwrap();
    // The client's ends in two days.
    certificates(folder.path());
    for (days, wanted) in [(13, 2), (30, 1)] {
        openssl(folder.path(), &SELF_SIGNED.replace("-days 30", &format!("-days {days}")));
        let (_server, port) = server(folder.path(), "self", &["--appendonly", "yes"]);
        let mut settings = trusting(port, path(folder.path(), "self.pem"), "");
        settings.tls.cert_file = path(folder.path(), "client.pem");
        settings.tls.key_file = path(folder.path(), "client.key");
        let store = open(&settings).unwrap();
        let warnings = wait_for("it is told", Duration::from_secs(10), || {
            let warnings = store.warnings();
            if warnings.len() == wanted { Ok(warnings) } else { Err(warnings) }
        });
        assert!(warnings.iter().any(|warning| warning.contains("the client certificate ends")), "{warnings:?}");
        let servers =
            warnings.iter().any(|warning| warning.contains("its TLS certificate ends") && warning.contains("in 12 days"));
        assert_eq!(servers, days == 13, "{warnings:?}");
    }
}

/// A certificate that was renewed is not warned of, though the connection is older.
#[test]
fn a_certificate_that_was_renewed_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    openssl(folder.path(), &SELF_SIGNED.replace("-days 30", "-days 3"));
    openssl(
        folder.path(),
        "openssl req -x509 -key self.key -days 30 -subj /CN=new -addext subjectAltName=IP:127.0.0.1 -out new.pem",
    );
    openssl(folder.path(), "cat self.pem new.pem > trusted.pem");
    let (server, port) = server(folder.path(), "self", &["--appendonly", "yes"]);
    let store = open(&trusting(port, path(folder.path(), "trusted.pem"), "")).unwrap();
    assert_eq!(store.warnings().len(), 1, "{:?}", store.warnings());
    let new = folder.path().join("new.pem").display().to_string();
    redis::cmd("CONFIG").arg("SET").arg("tls-cert-file").arg(&new).query::<()>(&mut server.raw()).unwrap();
    wait_for("it is seen", Duration::from_secs(30), || {
        let warnings = store.warnings();
        if warnings.is_empty() { Ok(()) } else { Err(warnings) }
    });
}
