//! The key under which credentials are sealed: derived from a master key, and deterministic.
//!
//! Equal bytes at equal places are sealed to equal bytes, because stores compare values. A random nonce cannot do that, so the nonce is
//! made of what is sealed (*SIV*; Rogaway, Shrimpton, "Deterministic Authenticated-Encryption", 2006): the first 24 bytes of HMAC-SHA256
//! over associated data and plaintext, under a key of its own. Two plaintexts share a nonce only if that HMAC collides. What an attacker
//! learns is whether two credentials at equal places are equal.
//!
//! Both keys are of the master key by HKDF-SHA256 (RFC 5869), each with its own label, so that neither tells anything of the other, nor of
//! the wrapped data keys. It is the master key and no data key, since servers that share a Redis share no folder. A server that runs keeps
//! what is derived, and forgets the master key once its stores are open.

use std::sync::Arc;

use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::envelope::KeyId;
use crate::error::{Code, Error, Result};

const NONCE: usize = 24;
const NONCE_LABEL: &[u8] = b"atlock credentials nonce 1";
const CIPHER_LABEL: &[u8] = b"atlock credentials cipher 1";

/// Those of all master keys, in their order: the first seals, all open.
#[derive(Clone)]
pub struct CredentialKeys(Arc<[Arc<CredentialKey>]>);

impl CredentialKeys {
    /// `keys` has one at least.
    pub(super) fn new(keys: Arc<[Arc<CredentialKey>]>) -> CredentialKeys {
        CredentialKeys(keys)
    }

    /// The key that seals.
    pub(super) fn first(&self) -> &CredentialKey {
        &self.0[0]
    }

    /// The one of the master key of this id.
    pub(super) fn of(&self, id: KeyId) -> Option<&CredentialKey> {
        self.0.iter().find(|key| key.id == id).map(|key| &**key)
    }

    /// The ids of the master keys, for warnings.
    pub fn ids(&self) -> String {
        self.0.iter().map(|key| key.id.to_string()).collect::<Vec<_>>().join(", ")
    }
}

/// Never a key.
impl std::fmt::Debug for CredentialKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CredentialKeys({})", self.ids())
    }
}

/// It is wiped when it is dropped, and is never shown.
pub(super) struct CredentialKey {
    /// The master key's.
    pub id: KeyId,
    nonces: Zeroizing<[u8; 32]>,
    cipher: XChaCha20Poly1305,
}

impl CredentialKey {
    /// The one of this master key, which has this id.
    pub fn of(master: &[u8; 32], id: KeyId) -> CredentialKey {
        let derived = |label: &[u8]| {
            let mut key = Zeroizing::new([0; 32]);
            // 32 bytes are less than the most that HKDF gives.
            let _ = Hkdf::<Sha256>::new(None, master).expand(label, &mut key[..]);
            key
        };
        CredentialKey { id, nonces: derived(NONCE_LABEL), cipher: XChaCha20Poly1305::new((&*derived(CIPHER_LABEL)).into()) }
    }

    /// Seals: nonce, ciphertext, tag. `place` is the associated data.
    pub fn seal(&self, place: &[u8], plain: &[u8]) -> Result<Vec<u8>> {
        let nonce = self.nonce(place, plain)?;
        let sealed = self.cipher.encrypt(&XNonce::from(nonce), Payload { msg: plain, aad: place });
        let sealed = sealed.map_err(|_| failed())?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// What was sealed with this associated data; `None` if it was not, or was changed since.
    pub fn open(&self, place: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE>()?;
        self.cipher.decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: place }).ok()
    }

    fn nonce(&self, place: &[u8], plain: &[u8]) -> Result<[u8; NONCE]> {
        let mut mac = <Hmac<Sha256> as hmac::Mac>::new_from_slice(&self.nonces[..]).map_err(|_| failed())?;
        mac.update(&(place.len() as u64).to_be_bytes());
        mac.update(place);
        mac.update(plain);
        let digest: [u8; 32] = mac.finalize().into_bytes().into();
        let mut nonce = [0; NONCE];
        nonce.copy_from_slice(&digest[..NONCE]);
        Ok(nonce)
    }
}

fn failed() -> Error {
    Error::new(Code::Internal, "a credential cannot be sealed")
}
