//! Credentials do not get into texts for people: errors, status, health, warnings and the audit trail.
//!
//! Invariant: no [`Error`](crate::error::Error) has the user or password of a URL in its text, also if it quotes what a program of
//! others said, or a setting. Errors are made by one function, which calls [`without_credentials`]; all other texts of the library
//! quote errors alone. `go/web` has the same rule for the errors of Atlantis's own stores, which never enter the library.

use std::borrow::Cow;

/// Leaves out what stands between `://` and the last `@` before the end of a URL's host.
pub(crate) fn without_credentials(text: Cow<'_, str>) -> Cow<'_, str> {
    if !text.contains("://") || !text.contains('@') {
        return text;
    }
    let mut rest = &*text;
    let mut shown = String::with_capacity(rest.len());
    while let Some(at) = rest.find("://") {
        let (before, address) = rest.split_at(at + 3);
        let end = address.find(|c: char| c.is_whitespace() || "/?#\"'<>".contains(c)).unwrap_or(address.len());
        shown.push_str(before);
        rest = &address[address[..end].rfind('@').map_or(0, |at| at + 1)..];
    }
    shown.push_str(rest);
    Cow::Owned(shown)
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
