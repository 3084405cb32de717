//! Credentials do not get into texts for people: errors, status, health, warnings and the audit trail.
//!
//! Invariant: no [`Error`](crate::error::Error) has the user or password of a URL in its text, also if it quotes what a program of
//! others said, or a setting. Errors are made by one function, which calls [`without_credentials`]; all other texts of the library
//! quote errors alone. `go/web` has the same rule for the errors of Atlantis's own stores, which never enter the library.

use std::borrow::Cow;

/// Leaves out the users and passwords of URLs.
///
/// Whoever wrote a URL may have forgotten to encode a password, so its `/`, `?`, `#`, quotes and, for Redis, spaces do not end it.
/// Where that is unclear, more is left out than the password.
pub(crate) fn without_credentials(text: Cow<'_, str>) -> Cow<'_, str> {
    if !text.contains("://") || !text.contains('@') {
        return text;
    }
    let mut rest = &*text;
    let mut shown = String::with_capacity(rest.len());
    while let Some(at) = rest.find("://") {
        let (before, address) = rest.split_at(at + 3);
        shown.push_str(before);
        rest = &address[credentials(before, address)..];
    }
    shown.push_str(rest);
    Cow::Owned(shown)
}

/// How many bytes of what follows a `://` are a user and a password, their `@` included.
fn credentials(before: &str, address: &str) -> usize {
    let until = |end: fn(char) -> bool| &address[..address.find(end).unwrap_or(address.len())];
    let through_last_at = |text: &str| text.rfind('@').map_or(0, |at| at + 1);
    let scheme = before[..before.len() - 3].to_ascii_lowercase();
    if scheme.ends_with("redis") || scheme.ends_with("rediss") {
        // What is at a Redis needs no path; the next URL of the line does not belong to this one.
        let line = until(|c| matches!(c, '\n' | '\r'));
        return through_last_at(&line[..line.find("://").unwrap_or(line.len())]);
    }
    let host = until(|c| c.is_whitespace() || "/?#\"'<>".contains(c));
    match through_last_at(host) {
        0 if host.contains(':') => through_last_at(until(char::is_whitespace)),
        end => end,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Code, Error};

    /// The same table is in `go/web/page_test.go`.
    #[test]
    fn users_and_passwords_of_urls_are_left_out() {
        for (text, shown) in [
            ("no", "no"),
            ("get https://u:p@host/x?y=z: refused", "get https://host/x?y=z: refused"),
            ("rediss://:p@host:1, https://token@other", "rediss://host:1, https://other"),
            ("https://u:p@ss@host/path", "https://host/path"),
            ("\"https://u:p@host/a?b=c@d\" and http://plain", "\"https://host/a?b=c@d\" and http://plain"),
            ("https://host?to=a@b 'git://u@h'", "https://host?to=a@b 'git://h'"),
            ("mail ada@example.com", "mail ada@example.com"),
            ("redis://:pa/ss@h", "redis://h"),
            ("\"redis://u:p#w@h\" is no", "\"redis://h\" is no"),
            ("rediss://u:a b@h", "rediss://h"),
            ("REDIS://u:p\"q@h:1 'redis://u:p'?q@h'", "REDIS://h:1 'redis://h'"),
            ("git said: https://u:p/?#\"'<>w@host/x is away", "git said: https://host/x is away"),
            ("https://host/a:b@c and redis://h:6379", "https://host/a:b@c and redis://h:6379"),
            ("redis://h:1\nmail ada@example.com", "redis://h:1\nmail ada@example.com"),
            ("://@", "://"),
        ] {
            assert_eq!(without_credentials(Cow::Borrowed(text)), shown, "{text}");
        }
    }

    #[test]
    fn no_error_has_them_and_neither_has_its_context() {
        let error = Error::new(Code::HostStore, "git said: https://bot:s3cr3t@example.com is away");
        assert_eq!(error.message(), "git said: https://example.com is away");
        let error = error.context("redis://:s3cr3t@cache").context("while reading");
        assert_eq!(error.message(), "while reading: redis://cache: git said: https://example.com is away");
    }
}
