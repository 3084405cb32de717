//! What a connection needs to be let in: user name, password, certificates. The password and the certificates may be in files.
//!
//! The files are read at every new connection, so that they can be changed while the server runs. Nothing of them is kept for the
//! next one, so nothing can be out of date. Reading them is an errand (`errand.rs`): a disk that hangs makes nobody wait for ever.
//! Settings that name no file need no disk, and no thread.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use std::{fs, io};

use redis::{ClientTlsConfig, RedisError, TlsCertificates};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::super::errors::Failure;
use super::attempt::Attempt;
use super::errand::{Errand, Missing};
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
    setting: &'static str,
    path: PathBuf,
    bytes: Vec<u8>,
}

/// Reads the files, for as long as a caller can wait. Safe from any thread.
pub(super) struct Reader(Source);

enum Source {
    /// No file is named: they are the settings' own.
    Settings(Arc<Credentials>),
    Files(Errand<Arc<Credentials>, Error>),
}

impl Reader {
    /// Of these settings.
    pub(super) fn new(settings: Arc<config::Redis>) -> Reader {
        // TLS reads the system's authorities, if no others are named.
        if settings.password_file.is_none() && !settings.tls.enabled {
            let (username, password) = (settings.username.clone(), settings.password.clone());
            return Reader(Source::Settings(Arc::new(Credentials { username, password, tls: None })));
        }
        Reader(Source::Files(Errand::new("atlock-files", move || Credentials::read(&settings).map(Arc::new))))
    }

    /// The credentials as they are now.
    pub(super) fn read(&self, deadline: Instant) -> Attempt<Arc<Credentials>> {
        let files = match &self.0 {
            Source::Settings(credentials) => return Ok(Arc::clone(credentials)),
            Source::Files(files) => files,
        };
        files.ask(deadline, None).map_err(|missing| match missing {
            Missing::Failed(error) => Failure::Settings(error),
            Missing::Late => {
                let text = "reading the files that hold the password and the certificates timed out";
                Failure::NotSent(RedisError::from(io::Error::new(io::ErrorKind::TimedOut, text)))
            }
            Missing::NoThread(e) => Failure::NotSent(RedisError::from(e)),
        })
    }
}

impl Credentials {
    fn read(settings: &config::Redis) -> Result<Credentials> {
        let tls = settings.tls.enabled.then(|| Tls::read(&settings.tls)).transpose()?;
        Ok(Credentials { username: settings.username.clone(), password: password(settings)?, tls })
    }
}

impl Tls {
    fn read(settings: &config::Tls) -> Result<Tls> {
        let certificates = Certificates::read(settings)?;
        let config = Arc::new(certificates.config()?);
        Ok(Tls { certificates, config })
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
    fn read(tls: &config::Tls) -> Result<Certificates> {
        let client = match (&tls.cert_file, &tls.key_file) {
            (Some(cert), Some(key)) => {
                Some((Pem::read(cert, "tls.cert_file", "CERTIFICATE")?, Pem::read(key, "tls.key_file", "PRIVATE KEY")?))
            }
            _ => None,
        };
        let authority = tls.ca_file.as_deref().map(|path| Pem::read(path, "tls.ca_file", "CERTIFICATE")).transpose()?;
        Ok(Certificates { authority, client })
    }

    fn config(&self) -> Result<ClientConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| Error::new(Code::Internal, format!("TLS cannot be used: {e}")))?
            .with_root_certificates(self.roots()?);
        let Some((cert, key)) = &self.client else { return Ok(builder.with_no_client_auth()) };
        builder.with_client_auth_cert(cert.certificates()?, key.private_key()?).map_err(|e| {
            let text = format!("redis.tls.key_file {}: it does not go with {}: {e}", key.path.display(), cert.path.display());
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
    fn read(path: &Path, setting: &'static str, wanted: &str) -> Result<Pem> {
        let bytes = read(path, setting)?;
        let text = String::from_utf8_lossy(&bytes);
        if !text.lines().any(|line| line.starts_with("-----BEGIN ") && line.trim_end().ends_with(&format!("{wanted}-----"))) {
            let text = format!("redis.{setting} {}: it holds no {wanted} in PEM", path.display());
            return Err(Error::new(Code::InvalidConfig, text));
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
        Error::new(Code::InvalidConfig, format!("redis.{} {}: it cannot be used: {e}", self.setting, self.path.display()))
    }
}

fn password(settings: &config::Redis) -> Result<String> {
    let Some(path) = &settings.password_file else { return Ok(settings.password.clone()) };
    let text = String::from_utf8(read(path, "password_file")?)
        .map_err(|_| Error::new(Code::InvalidConfig, format!("redis.password_file {}: not UTF-8", path.display())))?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => Err(Error::new(Code::InvalidConfig, format!("redis.password_file {}: its first line is empty", path.display()))),
    }
}

fn read(path: &Path, setting: &str) -> Result<Vec<u8>> {
    fs::read(path).map_err(|e| Error::new(Code::InvalidConfig, format!("redis.{setting} {}: {e}", path.display())))
}
