//! Master keys: the operator's.
//!
//! The form: one key a line, 32 bytes as 64 hexadecimal digits or in base64, as `openssl rand -hex 32` or `-base64 32` writes them. Empty
//! lines and those that begin with `#` count for nothing. The first key wraps, the others only open.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::credential_key::{CredentialKey, CredentialKeys};
use super::envelope::KeyId;
use crate::error::{Code, Error, Result};

/// Most keys that are read: a mistaken file has more.
const MOST: usize = 100;
const FORM: &str =
    "give one key a line, 32 random bytes as 64 hexadecimal digits or in base64, as `openssl rand -hex 32` makes them";

/// A master key.
pub(super) struct MasterKey {
    pub id: KeyId,
    pub cipher: XChaCha20Poly1305,
    credentials: Arc<CredentialKey>,
}

/// The operator's keys, at least one. They are wiped when they are dropped, and are never shown.
#[derive(Clone)]
pub struct MasterKeys(Arc<Vec<MasterKey>>);

impl MasterKeys {
    /// Reads them; `source` says in errors where they are from.
    ///
    /// Errors: `InvalidConfig`; the text names the line, and repeats nothing of it.
    pub fn parse(text: &[u8], source: &str) -> Result<MasterKeys> {
        let wrong = |what: String| Error::new(Code::InvalidConfig, format!("{source}: {what}: {FORM}"));
        let text = std::str::from_utf8(text).map_err(|_| wrong("it is not text".to_owned()))?;
        let lines = text.lines().map(str::trim).enumerate();
        let mut keys: Vec<MasterKey> = Vec::new();
        for (number, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            let bytes = decode(line).ok_or_else(|| wrong(format!("line {} is no key", number + 1)))?;
            if keys.len() == MOST {
                return Err(wrong(format!("it has more than {MOST} keys")));
            }
            let key = MasterKey::new(&bytes);
            if keys.iter().all(|known| known.id != key.id) {
                keys.push(key);
            }
        }
        if keys.is_empty() {
            return Err(wrong("there is no key".to_owned()));
        }
        Ok(MasterKeys(Arc::new(keys)))
    }

    /// The key that wraps.
    pub(super) fn first(&self) -> &MasterKey {
        // `parse` lets none be made without one.
        &self.0[0]
    }

    /// The key of this id.
    pub(super) fn of(&self, id: KeyId) -> Option<&MasterKey> {
        self.0.iter().find(|key| key.id == id)
    }

    /// What credentials are sealed under, without the keys themselves.
    pub(crate) fn credential_keys(&self) -> CredentialKeys {
        CredentialKeys::new(self.0.iter().map(|key| Arc::clone(&key.credentials)).collect())
    }

    /// Their ids, for errors.
    pub(super) fn ids(&self) -> String {
        self.0.iter().map(|key| key.id.to_string()).collect::<Vec<_>>().join(", ")
    }
}

/// Never a key.
impl std::fmt::Debug for MasterKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MasterKeys({})", self.ids())
    }
}

impl MasterKey {
    fn new(bytes: &[u8; 32]) -> MasterKey {
        let mut hash = Sha256::new();
        hash.update(b"atlock master key id\0");
        hash.update(bytes);
        let digest: [u8; 32] = hash.finalize().into();
        let mut id = KeyId::default();
        id.0.copy_from_slice(&digest[..8]);
        let credentials = Arc::new(CredentialKey::of(bytes, id));
        MasterKey { id, cipher: XChaCha20Poly1305::new(bytes.into()), credentials }
    }
}

fn decode(line: &str) -> Option<Zeroizing<[u8; 32]>> {
    let mut key = Zeroizing::new([0; 32]);
    if line.len() == 64 {
        // A sign is a number's to Rust, and no digit.
        if !line.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        for (byte, digits) in key.iter_mut().zip(line.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
    } else {
        let bytes = Zeroizing::new(STANDARD.decode(line).ok()?);
        *key = <[u8; 32]>::try_from(bytes.as_slice()).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_in_both_forms() {
        let hex = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
        let base64 = STANDARD.encode((0..32).collect::<Vec<u8>>());
        let keys = MasterKeys::parse(format!("# new\n{hex}\r\n\n {base64} \n{}\n", "ab".repeat(32)).as_bytes(), "f").unwrap();
        assert_eq!(keys.0.len(), 2, "the first two are one key");
        assert_eq!(keys.first().id, MasterKeys::parse(base64.as_bytes(), "f").unwrap().first().id);
        assert!(!format!("{keys:?}").contains("0001020304"));
    }

    #[test]
    fn what_is_no_key_is_named_and_not_repeated() {
        let secret = "abcdefg-this-is-a-passphrase";
        for (text, wanted) in [
            (secret, "line 1 is no key"),
            ("# x\n", "there is no key"),
            ("zz", "line 1"),
            (&"gg".repeat(32), "line 1"),
            (&"+f".repeat(32), "line 1"),
        ] {
            let error = MasterKeys::parse(text.as_bytes(), "/k").unwrap_err();
            assert_eq!(error.code(), Code::InvalidConfig);
            assert!(error.message().starts_with("/k: ") && error.message().contains(wanted), "{error}");
            assert!(!error.message().contains(secret), "{error}");
        }
        assert!(MasterKeys::parse(&[0xff], "/k").unwrap_err().message().contains("it is not text"));
    }
}
