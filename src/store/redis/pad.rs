//! What a release's outcome keeps of the credentials in a lock's value: nothing that anybody but this process can read.
//!
//! Redis remembers the outcome of a release, for a retry whose first answer was lost: the whole value, byte for byte, since hybrid mode
//! compares it. The users and passwords of its URLs (`https://user:token@host/…`) are masked there: the script adds to each of their
//! bytes one of a pad that the caller sends along, and that Redis does not keep. The pad is a stream cipher's, of a key that this
//! process made at its start and of the request's id: each request has another one, a retry has the same, and with the process the way
//! back is gone.
//!
//! The form: `M<token> <lengths> <masked bytes><value>`: of the value each `://user:token@` is `://@` there; the lengths, with a `,`
//! between two, are those of what stood there, in their order. `L<token>`: more stood there than the pad has; nothing is kept.
//!
//! Not masked: what is no user and password of a URL as Go writes it into JSON (`crate::sealing::user_info` has the same rule in Rust).
//! Atlantis puts credentials nowhere else.
//!
//! With `locking.encryption` the values that come here have sealed credentials already (`crate::sealing::credentials`). The pad masks these forms, too:
//! what a server without a key, or stock, wrote is in clear beside them, and a form that nobody keeps is none that a stolen key opens.

use std::sync::LazyLock;

use chacha20poly1305::aead::Aead as _;
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use sha2::{Digest as _, Sha256};

/// How many bytes of credentials one value may have: those of two repositories, with tokens of the longest kind.
const LENGTH: usize = 1024;
const HOLE: &[u8] = b"://@";

/// Of this process; without random numbers there is none, and no credential is kept at all.
static CIPHER: LazyLock<Option<XChaCha20Poly1305>> = LazyLock::new(|| {
    let mut key = zeroize::Zeroizing::new([0; 32]);
    getrandom::fill(&mut key[..]).ok()?;
    Some(XChaCha20Poly1305::new((&*key).into()))
});

/// The pad of a request.
pub(super) fn of(request: &[u8]) -> Vec<u8> {
    let digest: [u8; 32] = Sha256::digest(request).into();
    let mut nonce = [0; 24];
    nonce.copy_from_slice(&digest[..24]);
    let sealed = CIPHER.as_ref().and_then(|cipher| cipher.encrypt(&XNonce::from(nonce), &[0; LENGTH][..]).ok());
    let mut pad = sealed.unwrap_or_default();
    pad.truncate(LENGTH);
    pad
}

/// The value of an outcome, behind its token: what stood in its holes is put back. `None` if it is not in its form.
pub(super) fn unmasked(kept: &[u8], request: &[u8]) -> Option<Vec<u8>> {
    let end = kept.iter().position(|byte| *byte == b' ')?;
    let lengths = std::str::from_utf8(&kept[..end]).ok()?;
    let lengths =
        lengths.split(',').filter(|length| !length.is_empty()).map(str::parse).collect::<Result<Vec<usize>, _>>().ok()?;
    let (masked, mut value) = kept[end + 1..].split_at_checked(lengths.iter().sum())?;
    let plain: Vec<u8> = masked.iter().zip(of(request)).map(|(byte, pad)| byte.wrapping_sub(pad)).collect();
    let (mut plain, mut whole) = (plain.get(..masked.len())?, Vec::with_capacity(kept.len()));
    for length in lengths {
        let hole = value.windows(HOLE.len()).position(|part| part == HOLE)? + HOLE.len() - 1;
        let (before, behind) = value.split_at(hole);
        let (credentials, rest) = plain.split_at_checked(length)?;
        whole.extend_from_slice(before);
        whole.extend_from_slice(credentials);
        whole.push(b'@');
        (value, plain) = (&behind[1..], rest);
    }
    whole.extend_from_slice(value);
    Some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sealing::user_info::user_infos;

    /// As the script does it.
    fn masked(value: &str, request: &[u8]) -> Vec<u8> {
        let pad = of(request);
        let (mut lengths, mut bytes, mut holed, mut done) = (Vec::new(), Vec::new(), String::new(), 0);
        for at in user_infos(value.as_bytes()) {
            lengths.push(at.info.len().to_string());
            for byte in value[at.info.clone()].bytes() {
                bytes.push(byte.wrapping_add(pad[bytes.len()]));
            }
            holed.push_str(&value[done..at.info.start]);
            done = at.info.end;
        }
        holed.push_str(&value[done..]);
        [lengths.join(",").as_bytes(), b" ", &bytes, holed.as_bytes()].concat()
    }

    #[test]
    fn what_was_masked_comes_back_with_its_request_alone() {
        for value in [
            "{}",
            r#"{"a":"https://ann:s3cret@host/x","b":"https://host/y@z","c":"http://@h","d":"ssh://git@h:22/x?y=a@b"}"#,
            "https://u:p@ss@host/path",
            "",
        ] {
            let kept = masked(value, b"one");
            assert!(!kept.windows(6).any(|part| part == b"s3cret"));
            assert_eq!(unmasked(&kept, b"one").as_deref(), Some(value.as_bytes()), "{value}");
            if value.contains("s3cret") {
                assert_ne!(unmasked(&kept, b"other").as_deref(), Some(value.as_bytes()));
            }
        }
        assert_eq!(of(b"a").len(), LENGTH);
        assert_ne!(of(b"a"), of(b"b"));
        assert_eq!(of(b"a"), of(b"a"));
        for wrong in [&b""[..], b"1", b"5 abc", b"1 x{}", b"x {}"] {
            assert_eq!(unmasked(wrong, b"one"), None, "{wrong:?}");
        }
    }
}
