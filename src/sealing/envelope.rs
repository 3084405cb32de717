//! Data keys, and records that are sealed under them.

use std::fmt;

use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use crate::error::{Code, Error, Result};

/// The form of a sealed record.
const VERSION: u8 = 1;
const ID: usize = 8;
const NONCE: usize = 24;
#[cfg(test)]
const TAG: usize = 16;
#[cfg(test)]
const OVERHEAD: usize = 1 + ID + NONCE + TAG;

/// Names a key. It is no secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub(super) [u8; ID]);

impl KeyId {
    /// A new one.
    pub(super) fn random() -> Result<KeyId> {
        random().map(KeyId)
    }

    /// Of its hexadecimal form.
    pub(super) fn parse(text: &str) -> Option<KeyId> {
        let number = (text.len() == 2 * ID).then(|| u64::from_str_radix(text, 16).ok())??;
        Some(KeyId(number.to_be_bytes()))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

/// Bytes that nobody can guess.
pub(super) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| Error::new(Code::Internal, format!("the system gives no random numbers: {e}")))?;
    Ok(bytes)
}

/// Seals bytes under a key: nonce, ciphertext, tag.
pub(super) fn seal(cipher: &XChaCha20Poly1305, aad: &[u8], plain: &[u8]) -> Result<Vec<u8>> {
    let nonce: [u8; NONCE] = random()?;
    let sealed = cipher.encrypt(&XNonce::from(nonce), Payload { msg: plain, aad });
    let sealed = sealed.map_err(|_| Error::new(Code::Internal, "a value cannot be sealed"))?;
    Ok([&nonce[..], &sealed].concat())
}

/// What was sealed by [`seal`] with this associated data; `None` if it was not, or was changed since.
pub(super) fn open(cipher: &XChaCha20Poly1305, aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE>()?;
    cipher.decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad }).ok()
}

/// A data key. It is wiped when it is dropped, and is never shown.
pub(super) struct DataKey {
    pub id: KeyId,
    /// Its bytes, to wrap it under another master key.
    pub bytes: Zeroizing<[u8; 32]>,
    cipher: XChaCha20Poly1305,
}

impl DataKey {
    pub fn new(id: KeyId, bytes: Zeroizing<[u8; 32]>) -> DataKey {
        let cipher = XChaCha20Poly1305::new((&*bytes).into());
        DataKey { id, bytes, cipher }
    }

    pub fn random() -> Result<DataKey> {
        Ok(DataKey::new(KeyId::random()?, Zeroizing::new(random()?)))
    }
}

/// How a store's values are written and read: under which data key, if under any. Safe from any thread.
#[derive(Default)]
pub struct Sealing {
    /// The newest last.
    pub(super) keys: Vec<DataKey>,
    /// Whether values are to be written in clear, though there are keys: on the way back to a store without encryption.
    pub(super) writes_plain: bool,
}

/// [`Sealing::PLAIN`] for all.
pub(crate) static PLAIN: Sealing = Sealing::PLAIN;

impl Sealing {
    /// Nothing is sealed.
    pub(crate) const PLAIN: Sealing = Sealing { keys: Vec::new(), writes_plain: false };

    /// The id of the key under which values are written; `None`: in clear.
    pub fn writes_under(&self) -> Option<KeyId> {
        self.newest().map(|key| key.id)
    }

    /// The same, writing in clear or not.
    pub(crate) fn writing_plain(self, writes_plain: bool) -> Sealing {
        Sealing { writes_plain, ..self }
    }

    fn newest(&self) -> Option<&DataKey> {
        self.keys.last().filter(|_| !self.writes_plain)
    }

    /// Whether it has the key of this id.
    pub fn has(&self, id: KeyId) -> bool {
        self.keys.iter().any(|key| key.id == id)
    }

    /// Seals a value; `None`: it is to be written in clear. `aad` says which record it is.
    ///
    /// Errors: `Internal` if the system gives no random numbers.
    pub fn seal(&self, aad: &[u8], value: &[u8]) -> Result<Option<Vec<u8>>> {
        let Some(key) = self.newest() else { return Ok(None) };
        let sealed = seal(&key.cipher, aad, value)?;
        Ok(Some([&[VERSION][..], &key.id.0, &sealed].concat()))
    }

    /// Opens a sealed value; `None` if it is none of this record, or was changed.
    pub fn open(&self, aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let id = key_id(sealed)?;
        let key = self.keys.iter().find(|key| key.id == id)?;
        open(&key.cipher, aad, &sealed[1 + ID..])
    }
}

/// Never a key.
impl fmt::Debug for Sealing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealing").field("writes_under", &self.writes_under()).finish_non_exhaustive()
    }
}

/// Under which key a value was sealed, by its beginning; `None` if it is not in the form of a sealed one.
pub(crate) fn key_id(sealed: &[u8]) -> Option<KeyId> {
    let (version, rest) = sealed.split_first()?;
    let id = rest.first_chunk::<ID>()?;
    (*version == VERSION).then_some(KeyId(*id))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sealing() -> Sealing {
        Sealing { keys: vec![DataKey::random().unwrap(), DataKey::random().unwrap()], writes_plain: false }
    }

    proptest! {
        #[test]
        fn a_value_comes_back_and_no_changed_one_opens(value: Vec<u8>, aad: Vec<u8>, at: prop::sample::Index, flip in 1_u8..) {
            let sealing = sealing();
            let sealed = sealing.seal(&aad, &value).unwrap().expect("is sealed");
            prop_assert_eq!(sealed.len(), value.len() + OVERHEAD);
            prop_assert_eq!(sealing.open(&aad, &sealed), Some(value));
            let mut changed = sealed.clone();
            let at = at.index(changed.len());
            changed[at] ^= flip;
            prop_assert_eq!(sealing.open(&aad, &changed), None);
            prop_assert_eq!(sealing.open(&aad, &sealed[..at]), None);
            prop_assert_eq!(sealing.open(&[&aad[..], b"x"].concat(), &sealed), None);
            prop_assert_eq!(Sealing::PLAIN.open(&aad, &sealed), None);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            prop_assert_eq!(sealing().open(b"x", &bytes), None);
        }
    }

    #[test]
    fn the_same_value_is_sealed_differently_each_time_and_under_the_newest_key() {
        let sealing = sealing();
        let sealed = || sealing.seal(b"a", b"value").unwrap().expect("is sealed");
        assert_ne!(sealed(), sealed());
        assert_eq!(key_id(&sealed()), Some(sealing.keys[1].id));
        let plain = Sealing { writes_plain: true, ..sealing };
        assert_eq!((plain.seal(b"a", b"value").unwrap(), plain.writes_under()), (None, None));
        assert!(!format!("{plain:?}").contains("bytes"));
    }
}
