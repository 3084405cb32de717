//! What a TLS handshake failed of, and what to do: by the words of the TLS library, which is all that a cluster's client hands out.

/// What broke a handshake off, by the words of the TLS library; the first that fits.
const HANDSHAKES: &[(&str, &str)] = &[
    (
        "CaUsedAsEndEntity",
        "the server's certificate is an authority's (CA:TRUE): a single server's may stand in tls.ca_file itself; otherwise issue it with CA:FALSE and subjectAltName",
    ),
    ("UnsupportedCertVersion", "the server's certificate has no extensions: issue it with CA:FALSE and subjectAltName"),
    ("UnknownIssuer", "no authority that is trusted here has signed the server's certificate: check tls.ca_file"),
    ("alid for name", "the server's certificate is for another name: check the host name in the address, or set tls.server_name"),
    (
        "NotValidForName",
        "the server's certificate is for another name: check the host name in the address, or set tls.server_name",
    ),
    ("certificate expired", "the server's certificate has expired: renew it, and look at this machine's clock"),
    ("certificate: Expired", "the server's certificate has expired: renew it, and look at this machine's clock"),
    ("not valid yet", "the server's certificate is not valid yet: look at this machine's clock"),
    ("NotValidYet", "the server's certificate is not valid yet: look at this machine's clock"),
    ("BadSignature", "the server's certificate was not signed by the authority that it names: check tls.ca_file"),
    ("alert: CertificateRequired", "the server wants a client certificate: set tls.cert_file and tls.key_file"),
    ("alert: CertificateExpired", "the client certificate has expired: renew tls.cert_file"),
    ("alert: UnknownCA", "the server does not trust who signed tls.cert_file: look at its tls-ca-cert-file"),
    ("alert: BadCertificate", "the server refuses the client certificate: check tls.cert_file"),
    ("alert: CertificateUnknown", "the server refuses the client certificate: check tls.cert_file"),
    ("alert: UnsupportedCertificate", "the server refuses the client certificate: check tls.cert_file"),
    ("alert: UnrecognisedName", "the server knows no such name: check the host name in the address, or tls.server_name"),
    ("ProtocolVersion", "the server speaks neither TLS 1.2 nor 1.3: look at its tls-protocols"),
    (
        "peer is incompatible",
        "the server and this side have no version or cipher in common: look at its tls-protocols and tls-ciphers",
    ),
    ("alert: HandshakeFailure", "no cipher in common, or the server wants a client certificate (tls.cert_file): look at its log"),
    ("InvalidContentType", "this port does not speak TLS"),
    ("corrupt message", "this port does not speak TLS"),
];

/// What broke a handshake off that ended with these words; `None` if they are not about TLS.
pub(super) fn broken(text: &str) -> Option<&'static str> {
    let known = HANDSHAKES.iter().find(|(word, _)| text.contains(word)).map(|(_, what)| *what);
    let lower = text.to_lowercase();
    let is_about_tls = || ["certificate", "tls", "handshake", "alert"].iter().any(|word| lower.contains(word));
    known.or_else(|| is_about_tls().then_some("check tls.ca_file, tls.cert_file and the host name in the address"))
}

#[cfg(test)]
mod tests {
    use rustls::{AlertDescription, CertificateError, Error};

    use super::*;

    #[test]
    fn each_broken_handshake_says_what_to_do() {
        let certificate = |error: CertificateError| Error::from(error).to_string();
        let alert = |alert: AlertDescription| Error::AlertReceived(alert).to_string();
        for (words, advice) in [
            (certificate(CertificateError::UnknownIssuer), "tls.ca_file"),
            (certificate(CertificateError::Expired), "renew it"),
            (certificate(CertificateError::NotValidYet), "clock"),
            (certificate(CertificateError::NotValidForName), "tls.server_name"),
            (certificate(CertificateError::BadSignature), "tls.ca_file"),
            (alert(AlertDescription::CertificateRequired), "tls.cert_file and tls.key_file"),
            (alert(AlertDescription::UnknownCA), "tls-ca-cert-file"),
            (alert(AlertDescription::CertificateExpired), "renew tls.cert_file"),
            (alert(AlertDescription::BadCertificate), "check tls.cert_file"),
            (alert(AlertDescription::ProtocolVersion), "tls-protocols"),
            (alert(AlertDescription::HandshakeFailure), "cipher"),
            (alert(AlertDescription::UnrecognisedName), "tls.server_name"),
            (alert(AlertDescription::InternalError), "tls.ca_file, tls.cert_file"),
        ] {
            assert!(broken(&words).is_some_and(|what| what.contains(advice)), "{words}: {:?}", broken(&words));
        }
        assert_eq!(broken("Connection refused (os error 111)"), None);
    }
}
