//! The data keys of one store, as it keeps them: each wrapped under a master key.
//!
//! The form is JSON: `{"version":1,"keys":[{"id":…,"master":…,"wrapped":…}]}`, the newest key last; ids in hexadecimal, `wrapped` in
//! base64: nonce, ciphertext and tag of the key's 32 bytes. Associated data: both ids, so that no key passes for another.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::envelope::{DataKey, KeyId, Sealing, open, seal};
use super::master::{MasterKey, MasterKeys};
use crate::domain::json::parse_json;
use crate::error::{Code, Error, Result};

const VERSION: u32 = 1;

/// The data keys of a store, wrapped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ring {
    version: u32,
    keys: Vec<Wrapped>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Wrapped {
    id: String,
    master: String,
    wrapped: String,
}

/// The data keys of a store, opened.
pub struct Opened {
    /// What seals and opens.
    pub sealing: Sealing,
    /// What the store is to keep from now on, before it seals anything; `None`: what it has.
    pub new: Option<Ring>,
}

impl Ring {
    /// Reads what a store keeps. `place` says in errors which store that is.
    ///
    /// Errors: `EncryptionKey` if it is not in its form.
    pub fn decode(bytes: &[u8], place: &str) -> Result<Ring> {
        let wrong = |what: String| Error::new(Code::EncryptionKey, format!("the data keys of {place} cannot be read: {what}"));
        let ring: Ring = parse_json(bytes).map_err(|e| wrong(e.to_string()))?;
        if ring.version != VERSION {
            return Err(wrong(format!(
                "they are in version {} of their form, and this version of atlock reads {VERSION}",
                ring.version
            )));
        }
        Ok(ring)
    }

    /// The form that a store keeps.
    pub fn encode(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|e| Error::new(Code::Internal, format!("the data keys cannot be written: {e}")))
    }

    /// Opens the data keys of a store; `ring` is what it keeps, `masters` what the settings give.
    ///
    /// A store that has none, and a master key that wraps from now on, get a new data key.
    ///
    /// Errors: `EncryptionKey` if there are data keys, and no master key that opens each of them.
    pub fn open(ring: Option<&Ring>, masters: Option<&MasterKeys>, place: &str) -> Result<Opened> {
        let Some(masters) = masters else {
            return match ring {
                None => Ok(Opened { sealing: Sealing::PLAIN, new: None }),
                Some(_) => Err(no_key(place)),
            };
        };
        let mut keys = Vec::new();
        for wrapped in ring.into_iter().flat_map(|ring| &ring.keys) {
            keys.push(wrapped.open(masters, place)?);
        }
        let is_current = |wrapped: &Wrapped| wrapped.master == masters.first().id.to_string();
        if ring.is_some_and(|ring| !ring.keys.is_empty() && ring.keys.iter().all(is_current)) {
            return Ok(Opened { sealing: Sealing { keys, writes_plain: false }, new: None });
        }
        keys.push(DataKey::random()?);
        let new = Some(Ring::of(&keys, masters.first())?);
        Ok(Opened { sealing: Sealing { keys, writes_plain: false }, new })
    }

    /// A new data key alone: for a store that is written anew.
    pub fn fresh(masters: &MasterKeys) -> Result<(Sealing, Ring)> {
        let keys = vec![DataKey::random()?];
        let ring = Ring::of(&keys, masters.first())?;
        Ok((Sealing { keys, writes_plain: false }, ring))
    }

    fn of(keys: &[DataKey], master: &MasterKey) -> Result<Ring> {
        let keys = keys.iter().map(|key| Wrapped::of(key, master)).collect::<Result<_>>()?;
        Ok(Ring { version: VERSION, keys })
    }

    /// The newest key alone: nothing is sealed under the others any more. `None` if it is alone.
    #[must_use]
    pub fn newest(&self) -> Option<Ring> {
        let newest = self.keys.last().filter(|_| self.keys.len() > 1)?;
        Some(Ring { version: self.version, keys: vec![newest.clone()] })
    }
}

impl Wrapped {
    fn of(key: &DataKey, master: &MasterKey) -> Result<Wrapped> {
        let wrapped = seal(&master.cipher, &aad(key.id, master.id), &key.bytes[..])?;
        Ok(Wrapped { id: key.id.to_string(), master: master.id.to_string(), wrapped: STANDARD.encode(wrapped) })
    }

    fn open(&self, masters: &MasterKeys, place: &str) -> Result<DataKey> {
        let wrong = |what: &str| Error::new(Code::EncryptionKey, format!("a data key of {place} cannot be opened: {what}"));
        let (Some(id), Some(master)) = (KeyId::parse(&self.id), KeyId::parse(&self.master)) else {
            return Err(wrong("its ids are not in their form; restore the folder from a backup"));
        };
        let Some(key) = masters.of(master) else { return Err(other_key(place, master, masters)) };
        let sealed = STANDARD.decode(&self.wrapped).ok();
        let bytes = sealed.and_then(|sealed| open(&key.cipher, &aad(id, master), &sealed)).map(Zeroizing::new);
        let bytes = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes.as_slice()).ok()).map(Zeroizing::new);
        let bytes = bytes.ok_or_else(|| wrong("it was changed or damaged; restore the folder from a backup"))?;
        Ok(DataKey::new(id, bytes))
    }
}

fn aad(id: KeyId, master: KeyId) -> Vec<u8> {
    [&b"atlock data key\0"[..], &id.0, &master.0].concat()
}

fn no_key(place: &str) -> Error {
    let text = format!(
        "{place} is sealed, and locking.encryption names no key: set key_file, key_env or key_command as before. Nothing was opened or \
         changed. A store is brought back to clear by `atlock reseal --plain`, with the key set"
    );
    Error::new(Code::EncryptionKey, text)
}

fn other_key(place: &str, wanted: KeyId, masters: &MasterKeys) -> Error {
    let text = format!(
        "{place} is sealed under the master key {wanted}, and locking.encryption gives {}: add that key behind the first one. Nothing was \
         opened or changed. Without that key what is sealed cannot be read by anybody",
        masters.ids()
    );
    Error::new(Code::EncryptionKey, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masters(text: &str) -> MasterKeys {
        let lines: Vec<String> = text.chars().map(|digit| digit.to_string().repeat(64)).collect();
        MasterKeys::parse(lines.join("\n").as_bytes(), "test").unwrap()
    }

    fn opened(ring: Option<&Ring>, text: &str) -> Opened {
        Ring::open(ring, Some(&masters(text)), "the store").unwrap()
    }

    #[test]
    fn a_store_without_keys_gets_one_and_keeps_it() {
        let first = opened(None, "a");
        let sealed = first.sealing.seal(b"x", b"value").unwrap().unwrap();
        let ring = Ring::decode(&first.new.unwrap().encode().unwrap(), "the store").unwrap();
        let again = opened(Some(&ring), "a");
        assert!(again.new.is_none());
        assert_eq!(again.sealing.open(b"x", &sealed).unwrap(), b"value");
        assert_eq!(again.sealing.writes_under(), first.sealing.writes_under());
    }

    #[test]
    fn a_new_first_key_wraps_all_data_keys_and_the_old_one_is_not_needed_any_more() {
        let first = opened(None, "a");
        let sealed = first.sealing.seal(b"x", b"value").unwrap().unwrap();
        let rotated = opened(first.new.as_ref(), "ba");
        assert_ne!(rotated.sealing.writes_under(), first.sealing.writes_under(), "a new data key");
        let ring = rotated.new.unwrap();
        let without_old = opened(Some(&ring), "b");
        assert!(without_old.new.is_none());
        assert_eq!(without_old.sealing.open(b"x", &sealed).unwrap(), b"value");
        let only = opened(ring.newest().as_ref(), "b");
        assert_eq!((only.sealing.open(b"x", &sealed), only.sealing.keys.len()), (None, 1));
        assert_eq!(ring.newest().unwrap().newest(), None);
    }

    #[test]
    fn a_lost_key_and_a_wrong_one_are_named() {
        let ring = opened(None, "a").new.unwrap();
        let refused = |masters: Option<&MasterKeys>| match Ring::open(Some(&ring), masters, "the store") {
            Err(error) => error,
            Ok(_) => panic!("is opened"),
        };
        let lost = refused(None);
        assert_eq!(lost.code(), Code::EncryptionKey);
        assert!(lost.message().contains("is sealed, and locking.encryption names no key"), "{lost}");
        let wrong = refused(Some(&masters("b")));
        assert_eq!(wrong.code(), Code::EncryptionKey);
        let (wanted, given) = (masters("a").ids(), masters("b").ids());
        assert!(wrong.message().contains(&wanted) && wrong.message().contains(&given), "{wrong}");
    }

    #[test]
    fn a_wrapped_key_that_was_changed_or_moved_does_not_open() {
        let (one, other) = (opened(None, "a").new.unwrap(), opened(None, "a").new.unwrap());
        let mut moved = one.clone();
        moved.keys[0].wrapped.clone_from(&other.keys[0].wrapped);
        let error = Ring::open(Some(&moved), Some(&masters("a")), "the store").map(drop).unwrap_err();
        assert!(error.code() == Code::EncryptionKey && error.message().contains("changed or damaged"), "{error}");
        assert!(Ring::decode(b"{}", "the store").is_err() && Ring::decode(b"", "the store").is_err());
    }
}
