//! Where the credentials of a value are: the user and password of a URL, in JSON as it stands there.
//!
//! The one definition, for what is sealed (`credentials.rs`) and for what is masked in Redis (`src/store/redis/pad.rs`, whose script has the
//! same rule in Lua): behind `://`, up to the last `@` before a `/`, `?`, `#`, `"` or white space. JSON may write the slashes as `\/`; what
//! else it escapes, such as `\u0026`, stays as it is, since nothing here is decoded.

use std::ops::Range;

use memchr::{memchr_iter, memrchr};

/// Atlantis writes this where it leaves a password out (`SanitizedCloneURL`); Go's encoder escapes the brackets.
const LEFT_OUT: [&[u8]; 2] = [b":<redacted>", br":\u003credacted\u003e"];
/// The longest name of a member that counts.
const LONGEST_NAME: usize = 64;

/// One URL with a user info.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserInfo {
    /// The name of the JSON member whose text begins with the URL; empty if there is none.
    pub member: Range<usize>,
    /// The scheme.
    pub scheme: Range<usize>,
    /// The user and the password, without the `@`.
    pub info: Range<usize>,
    /// The host, and the port if there is one.
    pub host: Range<usize>,
}

impl UserInfo {
    /// Whether it may hold a secret: more than nothing, and more than what Atlantis writes in a password's place.
    pub fn is_secret(&self, text: &[u8]) -> bool {
        let info = &text[self.info.clone()];
        !matches!(info, b"" | b":") && !LEFT_OUT.iter().any(|left_out| info.ends_with(left_out))
    }
}

/// All of a text, in their order; none overlaps another. The text may be any bytes.
pub fn user_infos(text: &[u8]) -> impl Iterator<Item = UserInfo> + '_ {
    memchr_iter(b':', text).filter_map(|colon| {
        let behind = &text[colon + 1..];
        let slashes = [&b"//"[..], br"\/\/"].into_iter().find(|slashes| behind.starts_with(slashes))?;
        let start = colon + 1 + slashes.len();
        let ends = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'/' | b'?' | b'#' | b'"' | b'\x0b');
        let end = text[start..].iter().position(ends).map_or(text.len(), |length| start + length);
        let at = start + memrchr(b'@', &text[start..end])?;
        // What is left of a `\/`.
        let host_end = if text[at + 1..end].ends_with(br"\") { end - 1 } else { end };
        let scheme_start = start_of(&text[..colon], |byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        let member = member(&text[..scheme_start]);
        Some(UserInfo { member, scheme: scheme_start..colon, info: start..at, host: at + 1..host_end })
    })
}

/// Where the last bytes of this kind begin.
fn start_of(text: &[u8], is_of: impl Fn(u8) -> bool) -> usize {
    text.iter().rposition(|byte| !is_of(*byte)).map_or(0, |before| before + 1)
}

/// Of what stands before a member's text, its name: `…"NAME": "`.
fn member(before: &[u8]) -> Range<usize> {
    let name = |before: &[u8]| {
        let spaces_out = |text: &[u8]| start_of(text, |byte| byte.is_ascii_whitespace());
        let colon = before.strip_suffix(b"\"")?;
        let named = colon[..spaces_out(colon)].strip_suffix(b":")?;
        let name = named[..spaces_out(named)].strip_suffix(b"\"")?;
        let tail = &name[name.len().saturating_sub(LONGEST_NAME)..];
        Some(name.len() - tail.len() + memrchr(b'"', tail)? + 1..name.len())
    };
    name(before).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The user infos of a text, each as `member scheme info host`.
    fn found(text: &str) -> Vec<String> {
        let part = |range: Range<usize>| text[range].to_owned();
        user_infos(text.as_bytes()).map(|at| [at.member, at.scheme, at.info, at.host].map(part).join(" ")).collect()
    }

    #[test]
    fn user_infos_are_found_as_the_script_finds_them() {
        for (text, wanted) in [
            (
                r#"{"CloneURL":"https://ann:s3@h:1/x","b":"https://host/y@z","c":"http://@h"}"#,
                &["CloneURL https ann:s3 h:1", "c http  h"][..],
            ),
            (r#"{"CloneURL" : "https://u:p@h"}"#, &["CloneURL https u:p h"]),
            ("{\"a\":\n\"ssh://git@h:22?y=a@b\"}", &["a ssh git h:22"]),
            (r#"{"a":"https:\/\/u:p@h\/x"}"#, &["a https u:p h"]),
            (r#"{"a":"https://u:\u0026p@h/x"}"#, &[r"a https u:\u0026p h"]),
            (r#"{"a":"say https://u:p@ss@h/x and git+ssh://k@i"}"#, &[" https u:p@ss h", " git+ssh k i"]),
            ("https://u:p@h://v:q@i", &[" https u:p h:", " h v:q i"]),
            (r#"["https://u@h"]"#, &[" https u h"]),
            ("://u@", &["  u "]),
            ("mail ada@example.com, https://h", &[]),
            ("", &[]),
        ] {
            assert_eq!(found(text), wanted, "{text}");
        }
        let long = format!(r#"{{"{}":"https://u:p@h"}}"#, "n".repeat(1000));
        assert_eq!(found(&long), [" https u:p h"]);
    }

    #[test]
    fn what_atlantis_leaves_out_is_no_secret() {
        for (text, is_secret) in [
            ("https://u:p@h", true),
            ("https://token@h", true),
            ("https://u:@h", true),
            ("https://@h", false),
            ("https://:@h", false),
            ("https://u:<redacted>@h", false),
            (r"https://u:\u003credacted\u003e@h", false),
            ("https://u:<redacted>p@h", true),
        ] {
            let at = user_infos(text.as_bytes()).next().expect("is one");
            assert_eq!(at.is_secret(text.as_bytes()), is_secret, "{text}");
        }
    }
}
