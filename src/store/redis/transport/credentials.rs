//! What a connection needs to be let in: user name, password, certificates. The password and the certificates may be in files.
//!
//! The files are read at every new connection, so that they can be changed while the server runs. Nothing of them is kept for the
//! next one, so nothing can be out of date. What a command prints is kept until the server refuses it (`command.rs`). Both are an
//! errand (`errand.rs`): a disk or a program that hangs makes nobody wait for ever. Settings that name neither need no thread.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use std::{fs, io};

use redis::{ClientTlsConfig, RedisError, TlsCertificates};
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::super::errors::Failure;
use super::attempt::Attempt;
use super::command::PasswordCommand;
use super::errand::{Errand, Missing};
use super::expiry::{Ends, ends};
use super::trust::Trust;
use crate::config;
use crate::error::{Code, Error, Result};

/// The credentials as the settings and the files are now.
#[derive(PartialEq)]
pub(super) struct Credentials {
    pub username: String,
    pub password: String,
    /// `None`: no TLS.
    pub tls: Option<Tls>,
}

/// What TLS needs.
pub(super) struct Tls {
    certificates: Certificates,
    /// How a connection of ours speaks it: the server's certificate and its name are always checked.
    pub config: Arc<ClientConfig>,
    /// When the first of the client's certificates ends.
    pub ends: Option<Ends>,
}

impl PartialEq for Tls {
    fn eq(&self, other: &Tls) -> bool {
        self.certificates == other.certificates
    }
}

#[derive(PartialEq, Eq)]
struct Certificates {
    /// Whom to trust; `None`: whom the system trusts.
    authority: Option<Pem>,
    /// The client's own certificate and key.
    client: Option<(Pem, Pem)>,
}

/// A PEM file that a setting names.
#[derive(PartialEq, Eq)]
struct Pem {
    setting: String,
    path: PathBuf,
    bytes: Vec<u8>,
}

/// Reads the files, for as long as a caller can wait. Safe from any thread.
pub(super) struct Reader {
    source: Source,
    command: Option<Arc<PasswordCommand>>,
}

enum Source {
    /// No file is named: they are the settings' own.
    Settings(Arc<Credentials>),
    Files(Errand<Arc<Credentials>, Error>),
}

/// What the settings say of a server's credentials.
struct Named {
    /// The block's name in texts.
    at: &'static str,
    username: String,
    password: String,
    password_file: Option<PathBuf>,
    tls: config::Tls,
}

impl Reader {
    /// Of Redis itself.
    pub(super) fn new(settings: &config::Redis) -> Reader {
        let command =
            (!settings.password_command.is_empty()).then(|| Arc::new(PasswordCommand::new(settings.password_command.clone())));
        let named = Named {
            at: "redis",
            username: settings.username.clone(),
            password: settings.password.clone(),
            password_file: settings.password_file.clone(),
            tls: settings.tls.clone(),
        };
        Reader::of(named, command)
    }

    /// Of its Sentinels.
    pub(super) fn of_sentinels(settings: &config::Sentinel) -> Reader {
        let named = Named {
            at: "redis.sentinel",
            username: settings.username.clone(),
            password: settings.password.clone(),
            password_file: settings.password_file.clone(),
            tls: settings.tls.clone(),
        };
        Reader::of(named, None)
    }

    fn of(named: Named, command: Option<Arc<PasswordCommand>>) -> Reader {
        // TLS reads the system's authorities, if no others are named.
        if named.password_file.is_none() && !named.tls.enabled && command.is_none() {
            let Named { username, password, .. } = named;
            return Reader { source: Source::Settings(Arc::new(Credentials { username, password, tls: None })), command };
        }
        let of_work = command.clone();
        let errand = Errand::new("atlock-files", move || Credentials::read(&named, of_work.as_deref()).map(Arc::new));
        Reader { source: Source::Files(errand), command }
    }

    /// The server refused these: what a command printed is not used again. Returns whether the next ones may be others.
    pub(super) fn refused(&self, credentials: &Credentials) -> bool {
        self.command.as_ref().is_some_and(|command| command.forget(&credentials.password))
    }

    /// The credentials as they are now.
    pub(super) fn read(&self, deadline: Instant) -> Attempt<Arc<Credentials>> {
        let files = match &self.source {
            Source::Settings(credentials) => return Ok(Arc::clone(credentials)),
            Source::Files(files) => files,
        };
        files.ask(deadline, None).map_err(|missing| match missing {
            Missing::Failed(error) => Failure::Settings(error),
            Missing::Late => {
                let text = "reading the files or running the command that have the password and the certificates timed out";
                Failure::NotSent(RedisError::from(io::Error::new(io::ErrorKind::TimedOut, text)))
            }
            Missing::NoThread(e) => Failure::NotSent(RedisError::from(e)),
        })
    }
}

impl Credentials {
    fn read(named: &Named, command: Option<&PasswordCommand>) -> Result<Credentials> {
        let tls = named.tls.enabled.then(|| Tls::read(&named.tls, named.at)).transpose()?;
        let password = match command {
            Some(command) => command.password()?,
            None => named.password()?,
        };
        Ok(Credentials { username: named.username.clone(), password, tls })
    }
}

impl Tls {
    fn read(settings: &config::Tls, at: &str) -> Result<Tls> {
        let certificates = Certificates::read(settings, at)?;
        let config = Arc::new(certificates.config()?);
        let ends = certificates.client.as_ref().and_then(|(cert, _)| ends(&cert.certificates().ok()?));
        Ok(Tls { certificates, config, ends })
    }

    /// The certificates for the cluster's client.
    pub(super) fn for_cluster(&self) -> TlsCertificates {
        let Certificates { authority, client } = &self.certificates;
        let client_tls =
            client.as_ref().map(|(cert, key)| ClientTlsConfig { client_cert: cert.bytes.clone(), client_key: key.bytes.clone() });
        TlsCertificates { client_tls, root_cert: authority.as_ref().map(|authority| authority.bytes.clone()) }
    }
}

impl Certificates {
    fn read(tls: &config::Tls, at: &str) -> Result<Certificates> {
        let pem = |path: &Path, name: &str, wanted: &str| Pem::read(path, format!("{at}.tls.{name}"), wanted);
        let client = match (&tls.cert_file, &tls.key_file) {
            (Some(cert), Some(key)) => Some((pem(cert, "cert_file", "CERTIFICATE")?, pem(key, "key_file", "PRIVATE KEY")?)),
            _ => None,
        };
        let authority = tls.ca_file.as_deref().map(|path| pem(path, "ca_file", "CERTIFICATE")).transpose()?;
        Ok(Certificates { authority, client })
    }

    fn config(&self) -> Result<ClientConfig> {
        let unusable = |e: &dyn std::fmt::Display| Error::new(Code::Internal, format!("TLS cannot be used: {e}"));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots = Arc::new(self.roots()?);
        let usual = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
        let pinned = self.authority.as_ref().map(Pem::certificates).transpose()?.unwrap_or_default();
        let trust = Trust { usual: usual.map_err(|e| unusable(&e))?, pinned };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| unusable(&e))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(trust));
        let Some((cert, key)) = &self.client else { return Ok(builder.with_no_client_auth()) };
        builder.with_client_auth_cert(cert.certificates()?, key.private_key()?).map_err(|e| {
            let text = format!("{} {}: it does not go with {}: {e}", key.setting, key.path.display(), cert.path.display());
            Error::new(Code::InvalidConfig, text)
        })
    }

    fn roots(&self) -> Result<RootCertStore> {
        let Some(authority) = &self.authority else { return system_roots() };
        let mut roots = RootCertStore::empty();
        for certificate in authority.certificates()? {
            roots.add(certificate).map_err(|e| authority.unusable(e))?;
        }
        Ok(roots)
    }
}

fn system_roots() -> Result<RootCertStore> {
    let wrong = |e: &dyn std::fmt::Display| {
        Error::new(Code::Tls, format!("the system's certificates cannot be read: set redis.tls.ca_file ({e})"))
    };
    let mut found = rustls_native_certs::load_native_certs();
    if let Some(e) = found.errors.pop() {
        return Err(wrong(&e));
    }
    let mut roots = RootCertStore::empty();
    for certificate in found.certs {
        roots.add(certificate).map_err(|e| wrong(&e))?;
    }
    Ok(roots)
}

impl Pem {
    /// A file that holds what is wanted: one with something else would trust nobody, and say so only at the handshake.
    fn read(path: &Path, setting: String, wanted: &str) -> Result<Pem> {
        let bytes = read(path, &setting)?;
        let text = String::from_utf8_lossy(&bytes);
        let wrong = |what: &str| Err(Error::new(Code::InvalidConfig, format!("{setting} {}: {what}", path.display())));
        if text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") || text.contains("Proc-Type: 4,ENCRYPTED") {
            return wrong(
                "it is encrypted, and there is no setting for its passphrase: give a key without one, readable for this user alone \
                 (openssl pkey -in ENCRYPTED -out KEY)",
            );
        }
        if !text.lines().any(|line| line.starts_with("-----BEGIN ") && line.trim_end().ends_with(&format!("{wanted}-----"))) {
            return wrong(&format!("it holds no {wanted} in PEM"));
        }
        Ok(Pem { setting, path: path.to_owned(), bytes })
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>> {
        CertificateDer::pem_slice_iter(&self.bytes).collect::<std::result::Result<_, _>>().map_err(|e| self.unusable(e))
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>> {
        PrivateKeyDer::from_pem_slice(&self.bytes).map_err(|e| self.unusable(e))
    }

    fn unusable(&self, e: impl std::fmt::Display) -> Error {
        Error::new(Code::InvalidConfig, format!("{} {}: it cannot be used: {e}", self.setting, self.path.display()))
    }
}

impl Named {
    fn password(&self) -> Result<String> {
        let Some(path) = &self.password_file else { return Ok(self.password.clone()) };
        let setting = format!("{}.password_file", self.at);
        let wrong = |what: &str| Error::new(Code::InvalidConfig, format!("{setting} {}: {what}", path.display()));
        let text = String::from_utf8(read(path, &setting)?).map_err(|_| wrong("not UTF-8"))?;
        match text.lines().next() {
            Some(line) if !line.is_empty() => Ok(line.to_owned()),
            _ => Err(wrong("its first line is empty")),
        }
    }
}

fn read(path: &Path, setting: &str) -> Result<Vec<u8>> {
    fs::read(path).map_err(|e| Error::new(Code::InvalidConfig, format!("{setting} {}: {e}", path.display())))
}
