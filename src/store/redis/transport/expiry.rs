//! When certificates end, so that somebody hears of that before.

use std::time::{Duration, UNIX_EPOCH};

use humantime_serde::re::humantime::format_rfc3339_seconds;
use rustls::pki_types::{CertificateDer, UnixTime};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

/// So long before the end of a certificate a warning says so.
const WARNED_BEFORE: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// The end of a certificate, as the time since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::store::redis) struct Ends(Duration);

/// When the first of them ends; `None` if none can be read.
pub(super) fn ends(certificates: &[CertificateDer<'_>]) -> Option<Ends> {
    certificates.iter().filter_map(validity).map(|(_, end)| Ends(end)).min()
}

/// From when to when a certificate is valid.
fn validity(certificate: &CertificateDer<'_>) -> Option<(Duration, Duration)> {
    let validity = Certificate::from_der(certificate).ok()?.tbs_certificate.validity;
    Some((validity.not_before.to_unix_duration(), validity.not_after.to_unix_duration()))
}

/// Whether a certificate is valid now; an error says why not.
pub(super) fn check_valid(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), rustls::Error> {
    let (from, until) = validity(certificate).ok_or(rustls::CertificateError::BadEncoding)?;
    match now.as_secs() {
        now if now < from.as_secs() => Err(rustls::CertificateError::NotValidYet.into()),
        now if now > until.as_secs() => Err(rustls::CertificateError::Expired.into()),
        _ => Ok(()),
    }
}

impl Ends {
    /// What to say of it at this time (microseconds since 1970), if that is near; `whose` certificate it is.
    pub(in crate::store::redis) fn warning(self, whose: &str, unix_micros: u64) -> Option<String> {
        let now = Duration::from_micros(unix_micros);
        if now + WARNED_BEFORE < self.0 {
            return None;
        }
        let date = format_rfc3339_seconds(UNIX_EPOCH + self.0);
        let days = self.0.saturating_sub(now).as_secs() / (24 * 60 * 60);
        Some(format!("{whose} ends on {date}, in {days} days: renew it, or Redis cannot be reached then"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_comes_fourteen_days_before_the_end() {
        const DAY: u64 = 24 * 60 * 60;
        let (ends, micros) = (Ends(Duration::from_secs(100 * DAY)), |day: u64| day * DAY * 1_000_000);
        assert_eq!(ends.warning("it", micros(85)), None);
        let warning = ends.warning("it", micros(86)).expect("is near");
        assert!(warning.starts_with("it ends on 1970-04-11T00:00:00Z, in 14 days"), "{warning}");
        assert!(ends.warning("it", micros(200)).is_some_and(|warning| warning.contains("in 0 days")));
    }
}
